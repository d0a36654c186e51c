//! What the values of arrays look like, found in one pass over them on all threads: statistics,
//! histograms, heat maps, the most frequent texts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use crate::error::{Result, locked};
use crate::model::{ArrayMeta, Chunk};
use crate::pipe::{self, Flow, Fold, Settings};
use crate::resolve::Step;

#[macro_use]
mod vectorized;

mod bins;
mod codes;
pub mod heat;
pub mod histogram;
mod part;
mod reals;
pub mod stats;
pub mod text;
pub mod view;

pub use bins::histograms;
use heat::{Grid, HeatMap, Sums};
use histogram::Histogram;
use part::Part;
use stats::Stats;
use text::Texts;
use view::View;

/// What is to be found out about an array besides its statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// A histogram.
    pub histogram: bool,
    /// A heat map of at most so many rows and columns of blocks.
    pub heat: Option<[usize; 2]>,
    /// The most frequent texts.
    pub texts: bool,
}

/// What was found out about an array.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Statistics.
    pub stats: Stats,
    /// A histogram of the finite values.
    pub histogram: Option<Histogram>,
    /// The means of blocks.
    pub heat: Option<HeatMap>,
    /// Of text.
    pub texts: Option<Texts>,
}

/// The profile of every readable array, as `wish` wants it; `None` for the others.
///
/// # Errors
/// Reading errors.
pub fn profiles(
    flow: Flow,
    wish: &dyn Fn(&ArrayMeta) -> Wish,
    settings: &Settings,
) -> Result<Vec<Option<Profile>>> {
    parts(flow, None, wish, settings)
}

/// The same of a part of every array, as `--slice` chooses it.
///
/// # Errors
/// Reading errors; usage where the slice does not fit.
pub fn parts(
    flow: Flow,
    slice: Option<&view::Chosen>,
    wish: &dyn Fn(&ArrayMeta) -> Wish,
    settings: &Settings,
) -> Result<Vec<Option<Profile>>> {
    let all = flow.plan().arrays.len();
    let good: Vec<usize> =
        (0..all).filter(|&a| flow.plan().arrays[a].details.error.is_none()).collect();
    let mut flow = decoded(flow.choose(&good));
    let mut views = vec![None; good.len()];
    if let Some(slice) = slice {
        let source = pipe::slice_ranked(flow.into_source(), slice.rows, settings)?;
        flow = Flow::from(source);
        for (view, meta) in views.iter_mut().zip(flow.plan().arrays.iter()) {
            *view = slice.view(meta)?;
        }
    }
    let metas = flow.plan().arrays.iter().zip(views);
    let arrays: Vec<Looked> =
        metas.map(|(meta, view)| Looked::new(meta, view, wish(meta))).collect();
    pipe::pieces(flow, &Looking { arrays: &arrays }, settings)?;
    let mut out = vec![None; all];
    for (&a, looked) in good.iter().zip(arrays) {
        out[a] = Some(looked.finish());
    }
    Ok(out)
}

/// With dictionaries as what they stand for.
fn decoded(flow: Flow) -> Flow {
    let step = Step::decode(flow.plan());
    flow.then(step)
}

/// Whether means of the values mean something.
pub fn is_numbers(meta: &ArrayMeta) -> bool {
    meta.logical.is_plain() || meta.logical.decimals().is_some()
}

/// An array that is being looked at.
struct Looked {
    /// As it is looked at.
    meta: ArrayMeta,
    /// Its rows as they are read.
    rows: Option<u64>,
    /// What is taken of each row.
    view: Option<View>,
    wish: Wish,
    grid: Option<Grid>,
    merged: Mutex<Merged>,
}

/// Pieces are merged in the order of their rows: the same sums, whichever thread was first.
#[derive(Default)]
struct Merged {
    row: u64,
    waiting: BTreeMap<u64, (u64, Part)>,
    sum: Option<Part>,
    done: Option<Profile>,
}

impl Looked {
    fn new(read: &ArrayMeta, view: Option<View>, wish: Wish) -> Looked {
        let meta = view.as_ref().map_or_else(|| read.clone(), |view| view.meta(read));
        let grid = wish
            .heat
            .filter(|_| is_numbers(&meta))
            .and_then(|most| Grid::new(heat::plane(&meta)?, most));
        Looked { meta, rows: read.rows, view, wish, grid, merged: Mutex::default() }
    }
    fn part(&self, row: u64) -> Part {
        Part {
            stats: Stats::of(&self.meta),
            histogram: self.wish.histogram.then(Histogram::default),
            heat: self.grid.map(|grid| Sums::new(grid, row)),
            texts: self.wish.texts.then(Texts::default),
            codes: None,
            row,
        }
    }
    fn profile(&self, part: Part) -> Profile {
        let numeric = part.stats.is_numeric();
        Profile {
            histogram: part.histogram.filter(|_| numeric),
            heat: part.heat.filter(|_| numeric).map(Sums::finish),
            texts: part.texts.filter(|t| t.count > 0),
            stats: part.stats,
        }
    }
    fn merge(&self, rows: Range<u64>, part: Part) {
        let mut merged = locked(&self.merged);
        let merged = &mut *merged;
        merged.waiting.insert(rows.start, (rows.end, part));
        while let Some(first) = merged.waiting.first_entry() {
            if *first.key() != merged.row {
                break;
            }
            let (end, part) = first.remove();
            merged.row = end;
            match &mut merged.sum {
                Some(sum) => sum.merge(part, &self.meta),
                None => merged.sum = Some(part),
            }
        }
        if self.rows == Some(merged.row) {
            merged.done = merged.sum.take().map(|part| self.profile(part));
        }
    }
    fn finish(self) -> Profile {
        let merged = std::mem::take(&mut *locked(&self.merged));
        let rest = || self.profile(merged.sum.unwrap_or_else(|| self.part(0)));
        merged.done.unwrap_or_else(rest)
    }
}

struct Looking<'a> {
    arrays: &'a [Looked],
}

impl Fold for Looking<'_> {
    type Part = Part;
    fn begin(&self, array: usize, row: u64) -> Part {
        self.arrays[array].part(row)
    }
    fn add(&self, part: &mut Part, chunk: &Chunk) -> Result<()> {
        let looked = &self.arrays[chunk.array];
        match &looked.view {
            Some(view) => part.add(&looked.meta, &view.of(chunk)),
            None => part.add(&looked.meta, chunk),
        }
    }
    fn end(&self, array: usize, rows: Range<u64>, mut part: Part) -> Result<()> {
        part.settle();
        self.arrays[array].merge(rows, part);
        Ok(())
    }
}
