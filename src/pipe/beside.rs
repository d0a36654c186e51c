//! Delivers several arrays at the same time, each in the order of its rows: for what must see the
//! bytes of an array one after the other, as checksums.

use super::cutter::RowSizes;
use super::drain::drained;
use super::flow::Flow;
use super::piece::piece_end;
use super::pool::{Failure, on_pool};
use super::row_count::RowCount;
use super::settings::Settings;
use super::work::Work;
use crate::error::{Context, Result};
use crate::format::{Order, ReadRows};
use crate::model::{Chunk, Plan};

/// Delivers every array of the flow's plan to `each`, in row order within an array. Where all can be
/// read at random, and none is most of the whole, each thread reads an array of its own; else as
/// [`super::drain`].
///
/// # Errors
/// Those of the source, the ops and of `each`.
pub fn drain_beside(
    flow: impl Into<Flow>,
    settings: &Settings,
    each: &(dyn Fn(Chunk) -> Result<()> + Sync),
) -> Result<Plan> {
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, Order::Any, settings)?;
    let bytes = |work: &Work, a: usize| work.plan.arrays[a].size_bytes().unwrap_or(0);
    let most = all.iter().map(|&a| bytes(&work, a)).max().unwrap_or(0);
    let total = work.plan.bytes();
    let Some(reader) = work.reading().cloned().filter(|_| {
        settings.resources.jobs() > 1
            && most <= total / 2
            && all.iter().all(|&a| work.goes_by_position(a))
    }) else {
        return drained(work, Order::Any, &mut |chunk| each(chunk), settings);
    };
    // The longest first, so that none is left for one thread at the end.
    let mut arrays = all;
    arrays.sort_by_key(|&a| std::cmp::Reverse(bytes(&work, a)));
    let (piece, names) = (settings.piece_bytes(), RowCount::new(&work.plan).names);
    let array = |a: usize| -> Result<()> {
        let mut sizes = RowSizes::new(&reader);
        let (lane, mut row) = (vec![a], 0);
        let rows = sizes.rows(&lane);
        while row < rows {
            let row_bytes = sizes.row_bytes(&lane)?;
            let end = match reader.piece(a, row, piece) {
                Some(piece) => piece.end.clamp(row + 1, rows),
                None if sizes.is_empty(&lane, row_bytes) => rows,
                None => {
                    let cut = |r| reader.next_boundary(a, r);
                    piece_end(row, rows, row_bytes, piece, |_| u64::MAX, cut)
                }
            };
            reader.read(a, row..end, &mut |chunk| {
                sizes.saw(&chunk);
                settings.moved(chunk.bytes(), &names[a]);
                each(chunk)
            })?;
            row = end;
        }
        Ok(())
    };
    let mut arrays = arrays.into_iter();
    let mut next = || Ok(arrays.next().map(|a| (2 * piece.min(bytes(&work, a)), a)));
    let task = |a: usize| array(a).at_array(&names[a]);
    on_pool(settings, total, &Failure::default(), &mut next, &task)?;
    drop(reader);
    work.inputs.close()?;
    Ok(work.plan)
}
