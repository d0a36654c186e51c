//! Every piece of a flow, on all threads and in no order: for figures that are added up.

use std::ops::Range;
use std::sync::OnceLock;

use super::cutter::Cutter;
use super::flow::{Flow, RecipeReader};
use super::pool::{Failure, on_pool};
use super::row_count::RowCount;
use super::settings::Settings;
use super::work::Work;
use crate::error::Result;
use crate::format::{Order, ReadRows};
use crate::model::{ArrayMeta, Chunk};
use crate::ops::Needs;

/// So much has room in a processor's second cache, beside what is counted.
const STEP_BYTES: u64 = 256 << 10;

/// What is done with the pieces of arrays. Chunks of a piece come in order; pieces come in any, on
/// any thread.
pub trait Fold: Sync {
    /// What is known of a piece so far.
    type Part: Send;
    /// Before the first chunk of a piece that begins at `row`.
    fn begin(&self, array: usize, row: u64) -> Self::Part;
    /// The next chunk.
    ///
    /// # Errors
    /// What is wrong with the values.
    fn add(&self, part: &mut Self::Part, chunk: &Chunk) -> Result<()>;
    /// After the last chunk of these rows.
    ///
    /// # Errors
    /// As [`Fold::add`].
    fn end(&self, array: usize, rows: Range<u64>, part: Self::Part) -> Result<()>;
}

/// Folds all rows of every array of the flow; where the source is read in order, each array is one
/// piece. Arrays without rows have no piece.
///
/// # Errors
/// Those of the source and of `fold`.
pub fn pieces<F: Fold>(flow: impl Into<Flow>, fold: &F, settings: &Settings) -> Result<()> {
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, Order::Any, settings)?;
    let alone = all.iter().all(|&a| work.recipes.of(a).needs() <= Needs::Rows);
    match work.reading().cloned().filter(|_| alone) {
        Some(reading) => {
            let lanes = all.iter().map(|&a| vec![a]).collect();
            let mut cutter = Cutter::new(&reading, lanes, Order::Any);
            let piece = settings.piece_bytes();
            let mut next =
                || Ok(cutter.next(piece, piece.saturating_mul(8))?.map(|cut| (cut.bytes, cut)));
            let names = &work.plan.arrays;
            let steps = Steps::new(&reading, names.len());
            let look = |cut: super::cutter::Cut| {
                let array = cut.lane[0];
                let mut part = fold.begin(array, cut.rows.start);
                let mut take = |chunk: Chunk| {
                    settings.moved(chunk.bytes(), &names[array].name);
                    fold.add(&mut part, &chunk)
                };
                let step = steps.rows(array, cut.bytes, &names[array]);
                let mut row = cut.rows.start;
                while row < cut.rows.end {
                    let end = row.saturating_add(step).min(cut.rows.end);
                    let read = reading.read(array, row..end, &mut take);
                    read.map_err(|e| e.array(&names[array].name))?;
                    row = end;
                }
                fold.end(array, cut.rows, part)
            };
            on_pool(settings, work.plan.bytes(), &Failure::default(), &mut next, &look)?;
            work.inputs.close()
        }
        None => in_order(work, &all, fold, settings),
    }
}

/// Which arrays are read a few rows at a time, so that what was read is in the processor's cache
/// while it is looked at: those whose bytes are in a local file as they are.
struct Steps<'a> {
    reading: &'a RecipeReader,
    are_stored: Vec<OnceLock<bool>>,
}

impl Steps<'_> {
    fn new(reading: &RecipeReader, arrays: usize) -> Steps<'_> {
        Steps { reading, are_stored: vec![OnceLock::new(); arrays] }
    }
    /// How many rows of a piece are read at once.
    fn rows(&self, array: usize, piece_bytes: u64, meta: &ArrayMeta) -> u64 {
        let is_stored = || self.reading.extents(array).is_some();
        match meta.row_bytes() {
            // Rows without bytes may be more than can be walked through.
            Ok(row_bytes @ 1..)
                if piece_bytes > STEP_BYTES && *self.are_stored[array].get_or_init(is_stored) =>
            {
                (STEP_BYTES / row_bytes).max(1)
            }
            _ => u64::MAX,
        }
    }
}

fn in_order<F: Fold>(mut work: Work, all: &[usize], fold: &F, settings: &Settings) -> Result<()> {
    let mut end = work.plan.clone();
    let mut rows = RowCount::new(&end);
    let mut parts: Vec<Option<F::Part>> = all.iter().map(|_| None).collect();
    work.decode(all, Order::Any, settings, None, &mut |mut chunk: Chunk| {
        rows.count(&mut chunk)?;
        settings.moved(chunk.bytes(), &end.arrays[chunk.array].name);
        let begin = || fold.begin(chunk.array, 0);
        fold.add(parts[chunk.array].get_or_insert_with(begin), &chunk)
    })?;
    work.inputs.close()?;
    rows.check(&mut end)?;
    for (array, part) in parts.into_iter().enumerate() {
        if let Some(part) = part {
            fold.end(array, 0..end.arrays[array].rows.unwrap_or(0), part)?;
        }
    }
    Ok(())
}
