//! Some rows of a source: `--rows`, and the first rows that `inspect` shows.

use std::ops::Range;
use std::sync::Arc;

use super::random::with_random;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::format::{
    Emit, Extent, Job, Order, Piece, ReadPieces, ReadRows, Reader, Source, changed,
};
use crate::model::{Buf, Chunk, Plan, Values};
use crate::resolve::rows::Slice;

/// Only these rows of every array.
///
/// # Errors
/// Usage for arrays of rank 0; reading errors where rows have to be counted first.
pub fn slice(
    source: Box<dyn Source>,
    slice: Slice,
    settings: &Settings,
) -> Result<Box<dyn Source>> {
    let scalars = source.plan().arrays.iter().filter(|meta| meta.scalar);
    Error::all(
        scalars
            .map(|meta| {
                Error::usage("--rows needs rows, this array has rank 0")
                    .array(&meta.name)
                    .hint("leave it out with -x")
            })
            .collect(),
    )?;
    slice_ranked(source, slice, settings)
}

/// Only these rows of every array that has rows; arrays of rank 0 as they are.
///
/// # Errors
/// Reading errors where rows have to be counted first.
pub fn slice_ranked(
    mut source: Box<dyn Source>,
    slice: Slice,
    settings: &Settings,
) -> Result<Box<dyn Source>> {
    let arrays = &source.plan().arrays;
    // From the end counts only who knows it: a copy on disk does.
    if slice.counts_from_end() && arrays.iter().any(|a| a.rows.is_none()) {
        let all: Vec<usize> = (0..arrays.len()).collect();
        source = Box::new(with_random(source, &all, settings)?);
    }
    let mut plan = source.plan().clone();
    let slices: Vec<Slice> =
        plan.arrays.iter().map(|meta| if meta.scalar { Slice::ALL } else { slice }).collect();
    for (meta, slice) in plan.arrays.iter_mut().zip(&slices) {
        meta.rows = meta.rows.map(|rows| slice.of(rows).2);
    }
    let cuts = Arc::new(Cuts {
        slices,
        totals: source.plan().arrays.iter().map(|a| a.rows.unwrap_or(i64::MAX as u64)).collect(),
        items: source.plan().arrays.iter().map(|a| a.dtype.item_bytes()).collect(),
        row_bytes: source.plan().arrays.iter().map(|a| a.rows.and(a.row_bytes().ok())).collect(),
    });
    Ok(Box::new(RowsView { inner: source, plan, cuts }))
}

/// Some rows of a source. Its chunks must know their first rows.
struct RowsView {
    inner: Box<dyn Source>,
    plan: Plan,
    cuts: Arc<Cuts>,
}

/// What is cut out of each array.
struct Cuts {
    slices: Vec<Slice>,
    /// Rows of the inner arrays.
    totals: Vec<u64>,
    items: Vec<u64>,
    /// Bytes of their rows, where it is known how many there are.
    row_bytes: Vec<Option<u64>>,
}

impl Cuts {
    /// What is left of the places of all rows.
    fn extents(
        &self,
        array: usize,
        whole: impl FnOnce() -> Option<Vec<Extent>>,
    ) -> Option<Vec<Extent>> {
        if self.slices[array].step != 1 {
            return None;
        }
        let row = self.row_bytes[array]?;
        let (start, stop, _) = self.of(array);
        Some(Extent::cut(whole()?, start * row, (stop - start) * row))
    }

    /// First row, end and count.
    fn of(&self, array: usize) -> (u64, u64, u64) {
        self.slices[array].of(self.totals[array])
    }
}

impl Source for RowsView {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let cuts = self.cuts.clone();
        Ok(match self.inner.select(arrays, wish)? {
            Reader::Random(reader) => Reader::Random(Arc::new(SlicedRows { reader, cuts })),
            Reader::InOrder(pieces) => Reader::InOrder(Box::new(SlicedPieces { pieces, cuts })),
        })
    }
}

struct SlicedPieces {
    pieces: Box<dyn ReadPieces>,
    cuts: Arc<Cuts>,
}

impl ReadPieces for SlicedPieces {
    fn order(&self) -> Order {
        self.pieces.order()
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let Some(job) = self.pieces.next(max_bytes)? else { return Ok(None) };
        let cuts = self.cuts.clone();
        Ok(Some(changed(job, move |chunk, emit| {
            let (start, stop, _) = cuts.of(chunk.array);
            let step = cuts.slices[chunk.array].step;
            let (first, end) = (chunk.first_row, chunk.first_row + chunk.rows);
            let from = start.max(first).min(end);
            let to = stop.min(end).max(from);
            let skip = (step - (from.max(start) - start) % step) % step;
            let mut picked =
                pick(&chunk.slice(from - first, to - first), skip, step, cuts.items[chunk.array]);
            picked.first_row = (from.max(start) + skip - start) / step;
            if picked.rows > 0 { emit(picked) } else { Ok(()) }
        })))
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.cuts.extents(array, || self.pieces.extents(array))
    }
    fn close(&mut self) -> Result<()> {
        self.pieces.close()
    }
}

struct SlicedRows {
    reader: Arc<dyn ReadRows>,
    cuts: Arc<Cuts>,
}

impl ReadRows for SlicedRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.cuts.extents(array, || self.reader.extents(array))
    }
    fn close(&self) -> Result<()> {
        self.reader.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let (start, stop, count) = self.cuts.of(array);
        let step = self.cuts.slices[array].step;
        let cut = self.reader.next_boundary(array, (start + row * step).min(stop));
        if cut == u64::MAX {
            u64::MAX
        } else {
            cut.saturating_sub(start).div_ceil(step).clamp(row + 1, count.max(row + 1))
        }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (start, stop, _) = self.cuts.of(array);
        let step = self.cuts.slices[array].step;
        let inner = start + rows.start * step..(start + rows.end * step).min(stop);
        self.reader.cost(array, inner)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let (start, _, count) = self.cuts.of(array);
        let step = self.cuts.slices[array].step;
        let inner = self.reader.piece(array, start + row * step, bytes)?;
        let end = inner.end.saturating_sub(start).div_ceil(step);
        Some(Piece { end: end.clamp(row + 1, count.max(row + 1)), bytes: inner.bytes })
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (start, _, _) = self.cuts.of(array);
        let step = self.cuts.slices[array].step;
        let first = start + rows.start * step;
        let last = start + (rows.end - 1) * step;
        // Far steps read row by row; near ones read through and pick.
        if step > 64 {
            for (out, row) in rows.clone().zip((first..=last).step_by(step as usize)) {
                self.reader.read(array, row..row + 1, &mut |mut chunk| {
                    chunk.first_row = out;
                    emit(chunk)
                })?;
            }
            return Ok(());
        }
        let mut out = rows.start;
        self.reader.read(array, first..last + 1, &mut |chunk| {
            let offset = (chunk.first_row - first) % step;
            let skip = (step - offset) % step;
            let mut picked = pick(&chunk, skip, step, self.cuts.items[array]);
            picked.first_row = out;
            out += picked.rows;
            if picked.rows > 0 { emit(picked) } else { Ok(()) }
        })
    }
}

/// Every `step`th row of a chunk from `skip` on.
fn pick(chunk: &Chunk, skip: u64, step: u64, item: u64) -> Chunk {
    if skip >= chunk.rows {
        return chunk.slice(chunk.rows, chunk.rows);
    }
    if step == 1 {
        return chunk.slice(skip, chunk.rows);
    }
    let rows = || (skip..chunk.rows).step_by(step as usize).map(|r| r as usize);
    let count = (chunk.rows - skip).div_ceil(step);
    let values = match &chunk.values {
        Values::Nested(array) => {
            let rows: arrow_array::UInt64Array = rows().map(|r| r as u64).collect();
            // Rows of the array are taken, none that it does not have.
            Values::Nested(
                arrow_select::take::take(array, &rows, None).unwrap_or_else(|_| array.slice(0, 0)),
            )
        }
        Values::Fixed(b) => {
            let row = b.len() / chunk.rows as usize;
            let mut out = Vec::with_capacity(row * count as usize);
            // Rows without elements may be more than can be counted.
            if row > 0 {
                rows().for_each(|r| out.extend_from_slice(&b[r * row..(r + 1) * row]));
            }
            Values::Fixed(Buf::from_vec(out))
        }
        Values::Var { offsets, values } => {
            let mut ends = vec![0u64];
            let mut out = Vec::new();
            for r in rows() {
                out.extend_from_slice(
                    &values[(offsets[r] * item) as usize..(offsets[r + 1] * item) as usize],
                );
                ends.push(ends[ends.len() - 1] + offsets[r + 1] - offsets[r]);
            }
            Values::Var { offsets: ends, values: Buf::from_vec(out) }
        }
    };
    let valid =
        chunk.valid.as_ref().map(|v| Buf::from_vec(rows().map(|r| v[r]).collect::<Vec<u8>>()));
    Chunk { array: chunk.array, first_row: chunk.first_row, rows: count, values, valid }
}
