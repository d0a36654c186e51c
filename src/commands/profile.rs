//! What the values of arrays look like, found in one pass over them on all threads: statistics,
//! histograms, heat maps, the most frequent texts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::compare::{Number, each_number};
use crate::error::Result;
use crate::model::{ArrayMeta, Chunk, Dtype, Values, checked_product, codes_of, item_of, typed};
use crate::pipe::{self, Flow, Fold, Settings};
use crate::resolve::Step;

/// Makes a method that runs with AVX-512 or AVX2 where the processor has them: what it calls takes
/// part as far as it is inlined. The arithmetic is the same, and so are the results.
macro_rules! vectorized {
    ($(#[$about:meta])* $vis:vis fn $name:ident $(<$t:ident: $bound:path>)? ($($arg:ident: $of:ty),*)
        = $widest:ident or $wide:ident or $plain:ident) => {
        $(#[$about])*
        $vis fn $name$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            #[cfg(target_arch = "x86_64")]
            if crate::commands::profile::has_avx512() {
                // SAFETY: the processor has these instructions.
                return unsafe { self.$widest($($arg),*) };
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.$wide($($arg),*) };
            }
            self.$plain($($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
        fn $widest$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            self.$plain($($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $wide$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            self.$plain($($arg),*)
        }
    };
}

mod bins;
mod codes;
pub mod heat;
pub mod histogram;
mod reals;
pub mod stats;
pub mod text;
pub mod view;

pub use bins::histograms;
use codes::Codes;
use heat::{Grid, HeatMap, Sums};
use histogram::Histogram;
use stats::Stats;
use text::Texts;
use view::View;

/// Elements that are looked at together, while they are in the processor's cache.
pub(super) const BLOCK: usize = 4096;

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

/// Rows and columns of the plane of an array: its rows, and all elements of a row side by side.
pub fn plane(meta: &ArrayMeta) -> Option<[u64; 2]> {
    Some([meta.rows?, checked_product(meta.element_dims())?])
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
        let grid =
            wish.heat.filter(|_| is_numbers(&meta)).and_then(|most| Grid::new(plane(&meta)?, most));
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
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
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
        let merged =
            std::mem::take(&mut *self.merged.lock().unwrap_or_else(PoisonError::into_inner));
        let rest = || self.profile(merged.sum.unwrap_or_else(|| self.part(0)));
        merged.done.unwrap_or_else(rest)
    }
}

/// What is known of some rows.
struct Part {
    stats: Stats,
    histogram: Option<Histogram>,
    heat: Option<Sums>,
    texts: Option<Texts>,
    /// What is counted by its bits, and not yet part of the others.
    codes: Option<Codes>,
    /// The next row.
    row: u64,
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

impl Part {
    fn add(&mut self, meta: &ArrayMeta, chunk: &Chunk) -> Result<()> {
        let row = self.row;
        self.row += chunk.rows;
        let rows = chunk.rows as usize;
        if chunk.valid.is_some() {
            self.stats.nulls += (0..rows).filter(|&r| !chunk.is_valid(r)).count() as u64;
        }
        match &chunk.values {
            Values::Fixed(codes) if meta.coded_text().is_some() => self.coded(meta, codes),
            Values::Fixed(values) => {
                let per_row = checked_product(meta.element_dims()).unwrap_or(1);
                // Rows without elements may be more than can be counted.
                if values.is_empty() || per_row == 0 {
                    return Ok(());
                }
                let row_bytes = values.len() / rows;
                let mut start = 0;
                while start < rows {
                    let valid = chunk.is_valid(start);
                    let end = match &chunk.valid {
                        None => rows,
                        Some(_) => {
                            (start..rows).find(|&r| chunk.is_valid(r) != valid).unwrap_or(rows)
                        }
                    };
                    let at = (row + start as u64) * per_row;
                    if valid {
                        self.values(meta, at, &values[start * row_bytes..end * row_bytes]);
                    } else if let Some(heat) = &mut self.heat {
                        heat.null(at, (end - start) * per_row as usize);
                    }
                    start = end;
                }
                Ok(())
            }
            Values::Var { offsets, .. } => {
                let texts = !matches!(meta.logical, crate::model::Logical::List);
                for r in (0..rows).filter(|&r| chunk.is_valid(r)) {
                    self.stats.count += 1;
                    self.stats.zeros += u64::from(offsets[r] == offsets[r + 1]);
                    if let Some(found) = self.texts.as_mut().filter(|_| texts) {
                        found.add(chunk.text(r));
                    }
                }
                Ok(())
            }
            Values::Nested(_) => Ok(()),
        }
    }

    /// Text of several dimensions.
    fn coded(&mut self, meta: &ArrayMeta, codes: &[u8]) -> Result<()> {
        let Some(categories) = meta.coded_text() else { return Ok(()) };
        let codes = codes_of(codes, meta.dtype);
        self.stats.count += codes.len() as u64;
        categories.with(|items| {
            for code in codes {
                let text = item_of(items, code)?;
                self.stats.zeros += u64::from(text.is_empty());
                if let Some(texts) = &mut self.texts {
                    texts.add(text);
                }
            }
            Ok(())
        })
    }

    /// Elements that are not null, from the `at`th on.
    fn values(&mut self, meta: &ArrayMeta, at: u64, bytes: &[u8]) {
        if meta.logical.decimals().is_some() {
            return self.decimals(meta, at, bytes);
        }
        let item = meta.dtype.item_bytes() as usize;
        let elements = plane(meta).map_or(0, |[rows, columns]| rows.saturating_mul(columns));
        if codes::is_worth(meta.dtype, elements.max((bytes.len() / item) as u64)) {
            return self.counted(meta.dtype, at, bytes);
        }
        let step = BLOCK * item;
        let mut reals = [0f32; BLOCK];
        for (k, bytes) in bytes.chunks(step).enumerate() {
            let at = at + (k * BLOCK) as u64;
            let n = bytes.len() / item;
            match meta.dtype {
                Dtype::F32 => self.reals(at, &typed::<f32>(bytes)),
                Dtype::F64 => self.reals(at, &typed::<f64>(bytes)),
                dtype if codes::is_short(dtype) => {
                    self.reals(at, codes::widen(dtype, bytes, &mut reals));
                }
                dtype if dtype.is_complex() => {
                    let mut magnitudes = Vec::with_capacity(n);
                    each_number(bytes, dtype, |number| match number {
                        Number::Complex(re, im) => magnitudes.push(re.hypot(im)),
                        Number::Real(r) => magnitudes.push(r),
                        Number::Integer(i) => magnitudes.push(i as f64),
                    });
                    self.reals(at, &magnitudes);
                }
                Dtype::U64 => {
                    let wide = typed::<u64>(bytes);
                    match wide.iter().all(|&v| i64::try_from(v).is_ok()) {
                        true => self.integers(meta, at, &typed::<i64>(bytes)),
                        false => self.wide(at, wide.iter().map(|&v| (v as f64, i128::from(v)))),
                    }
                }
                dtype => self.integers(meta, at, &codes_of(bytes, integer(dtype))),
            }
        }
    }

    fn integers(&mut self, meta: &ArrayMeta, at: u64, values: &[i64]) {
        let whole;
        let mut values = values;
        if values.iter().any(|&v| stats::is_nat(meta, i128::from(v))) {
            whole = values.iter().copied().filter(|&v| v != i64::MIN).collect::<Vec<i64>>();
            self.stats.nulls += (values.len() - whole.len()) as u64;
            values = &whole;
        }
        let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else { return };
        self.stats.count += values.len() as u64;
        self.stats.zeros += values.iter().filter(|&&v| v == 0).count() as u64;
        self.stats.add_integers(values, (low, high));
        if let Some(histogram) = &mut self.histogram {
            histogram.add_integers(values, i128::from(low), i128::from(high));
        }
        if let Some(heat) = &mut self.heat {
            let reals: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            heat.add(at, &reals, true, f64::from);
        }
    }

    /// Whole numbers past an int64.
    fn wide(&mut self, at: u64, values: impl Iterator<Item = (f64, i128)>) {
        let mut reals = Vec::new();
        for (value, exact) in values {
            self.stats.count += 1;
            self.stats.zeros += u64::from(exact == 0);
            self.stats.add_one(value, Some(exact));
            if let Some(histogram) = &mut self.histogram {
                histogram.add_wide(exact);
            }
            reals.push(value);
        }
        if let Some(heat) = &mut self.heat {
            heat.add(at, &reals, true, f64::from);
        }
    }

    fn decimals(&mut self, meta: &ArrayMeta, at: u64, bytes: &[u8]) {
        let Some(decimals) = meta.logical.decimals() else { return };
        for (k, bytes) in bytes.chunks(BLOCK * decimals.item_bytes()).enumerate() {
            let mut reals = Vec::with_capacity(BLOCK);
            for number in decimals.numbers(bytes) {
                let value = decimals.float(number).0;
                let exact = number.to_i128().filter(|_| decimals.words < 4);
                self.stats.count += 1;
                self.stats.zeros += u64::from(value == 0.0);
                self.stats.add_one(value, exact);
                if let Some(histogram) = &mut self.histogram {
                    histogram.add_reals(&[value], value, value);
                }
                reals.push(value);
            }
            if let Some(heat) = &mut self.heat {
                heat.add(at + (k * BLOCK) as u64, &reals, true, f64::from);
            }
        }
    }

    /// Adds the part of the next rows.
    fn merge(&mut self, next: Part, meta: &ArrayMeta) {
        self.stats.merge(&next.stats);
        let whole =
            !meta.dtype.is_float() && !meta.dtype.is_complex() && meta.logical.decimals().is_none();
        if let (Some(histogram), Some(next)) = (&mut self.histogram, next.histogram) {
            histogram.merge(next, whole);
        }
        if let (Some(heat), Some(next)) = (&mut self.heat, next.heat) {
            heat.merge(next);
        }
        if let (Some(texts), Some(next)) = (&mut self.texts, next.texts) {
            texts.merge(next);
        }
    }
}

/// Whether the processor has what the widest form of a method needs.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Booleans are bytes.
fn integer(dtype: Dtype) -> Dtype {
    if dtype == Dtype::Bool { Dtype::U8 } else { dtype }
}
