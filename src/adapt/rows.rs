//! `--rows START:STOP[:STEP]`: Python slicing of every chosen array.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Order, ReadRows, Source};
use crate::model::{ArrayMeta, Buf, Chunk, Plan, Values};
use crate::pipe::Stage;

/// A Python slice with a positive step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// As given; below 0 counts from the end.
    pub start: Option<i64>,
    /// As given; below 0 counts from the end.
    pub stop: Option<i64>,
    /// At least 1.
    pub step: u64,
}

impl Slice {
    /// Parses `START:STOP[:STEP]`, each part optional.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Slice> {
        let bad = || Error::usage(format!("'{text}' is no slice")).hint("START:STOP or START:STOP:STEP, as in Python: 0:100, -10:, ::2");
        let parts: Vec<&str> = text.split(':').collect();
        if !(2..=3).contains(&parts.len()) {
            return Err(bad());
        }
        let number = |p: &str| -> Result<Option<i64>> {
            let p = p.trim();
            if p.is_empty() { Ok(None) } else { p.parse().map(Some).map_err(|_| bad()) }
        };
        let step = match parts.get(2) {
            Some(p) => number(p)?.unwrap_or(1),
            None => 1,
        };
        if step < 1 {
            return Err(Error::usage(format!("the step of '{text}' must be at least 1")));
        }
        Ok(Slice { start: number(parts[0])?, stop: number(parts[1])?, step: step as u64 })
    }

    /// The rows it takes of `total`: first, end, and how many.
    pub fn of(&self, total: u64) -> (u64, u64, u64) {
        let place = |v: i64| {
            if v < 0 { total.saturating_sub(v.unsigned_abs()) } else { (v as u64).min(total) }
        };
        let start = self.start.map_or(0, place);
        let stop = self.stop.map_or(total, place).max(start);
        (start, stop, (stop - start).div_ceil(self.step))
    }

    fn counts_from_end(&self) -> bool {
        self.start.is_some_and(|v| v < 0) || self.stop.is_some_and(|v| v < 0)
    }
}

/// The plan behind the slice.
///
/// # Errors
/// Usage for rank 0; refused for negative bounds where the row count is not known.
fn sliced(plan: &Plan, slice: Slice) -> Result<Plan> {
    let mut out = plan.clone();
    let mut errors = Vec::new();
    for meta in &mut out.arrays {
        if meta.scalar {
            errors.push(Error::usage("--rows does not fit an array of rank 0").array(&meta.name).hint("leave it out with -x"));
        }
        match meta.rows {
            Some(rows) => meta.rows = Some(slice.of(rows).2),
            None if slice.counts_from_end() => {
                errors.push(Error::usage("the number of rows is not known before the end: --rows cannot count from it").array(&meta.name))
            }
            None => {}
        }
    }
    Error::all(errors)?;
    Ok(out)
}

/// The rows of a slice, by random access where the source has it, else as a stage.
pub enum Sliced {
    /// A source that reads only these rows.
    Source(RowsView),
    /// The source as it was, and the stage that drops the other rows.
    Stage(Box<dyn Source>, RowsStage),
}

/// Applies a slice.
///
/// # Errors
/// As [`Slice`] fits the arrays.
pub fn slice(source: Box<dyn Source>, slice: Slice) -> Result<Sliced> {
    let plan = sliced(source.plan(), slice)?;
    if source.random().is_some() {
        return Ok(Sliced::Source(RowsView { inner: source, plan, slice }));
    }
    let arrays = source.plan().arrays.clone();
    let seen = vec![0; arrays.len()];
    Ok(Sliced::Stage(source, RowsStage { plan, arrays, slice, seen }))
}

/// Some rows of a source with random access.
pub struct RowsView {
    inner: Box<dyn Source>,
    plan: Plan,
    slice: Slice,
}

impl Source for RowsView {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        self.inner.want(arrays, wish)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        let totals = self.inner.plan().arrays.iter().map(|a| a.rows.unwrap_or(0)).collect();
        let items = self.inner.plan().arrays.iter().map(|a| a.dtype.item_bytes()).collect();
        Some(Arc::new(SlicedRows { reader: self.inner.random()?, slice: self.slice, totals, items }))
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.slice.step != 1 {
            return None;
        }
        let meta = &self.inner.plan().arrays[array];
        let row = meta.row_bytes().ok()?;
        let (start, stop, _) = self.slice.of(meta.rows?);
        let (mut skip, mut left) = (start * row, (stop - start) * row);
        let mut out = Vec::new();
        for e in self.inner.extents(array)? {
            let gone = skip.min(e.len);
            let len = (e.len - gone).min(left);
            if len > 0 {
                out.push(Extent { offset: e.offset + gone, len, ..e });
            }
            skip -= gone;
            left -= len;
        }
        Some(out)
    }
    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

struct SlicedRows {
    reader: Arc<dyn ReadRows>,
    slice: Slice,
    totals: Vec<u64>,
    items: Vec<u64>,
}

impl ReadRows for SlicedRows {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let (start, stop, count) = self.slice.of(self.totals[array]);
        let cut = self.reader.cut(array, (start + row * self.slice.step).min(stop));
        if cut == u64::MAX { u64::MAX } else { cut.saturating_sub(start).div_ceil(self.slice.step).clamp(row + 1, count.max(row + 1)) }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (start, stop, _) = self.slice.of(self.totals[array]);
        let inner = start + rows.start * self.slice.step..(start + rows.end * self.slice.step).min(stop);
        self.reader.cost(array, inner)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (start, _, _) = self.slice.of(self.totals[array]);
        let step = self.slice.step;
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
            let mut picked = pick(&chunk, skip, step, self.items[array]);
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
                out.extend_from_slice(&values[(offsets[r] * item) as usize..(offsets[r + 1] * item) as usize]);
                ends.push(ends[ends.len() - 1] + offsets[r + 1] - offsets[r]);
            }
            Values::Var { offsets: ends, values: Buf::from_vec(out) }
        }
    };
    let valid = chunk.valid.as_ref().map(|v| Buf::from_vec(rows().map(|r| v[r]).collect::<Vec<u8>>()));
    Chunk { array: chunk.array, first_row: chunk.first_row, rows: count, values, valid }
}

/// Drops the rows outside a slice, of chunks that come in order.
pub struct RowsStage {
    plan: Plan,
    arrays: Vec<ArrayMeta>,
    slice: Slice,
    seen: Vec<u64>,
}

impl Stage for RowsStage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn push(&mut self, chunk: Chunk, emit: Emit<'_>) -> Result<()> {
        let (start, stop, _) = self.slice.of(self.arrays[chunk.array].rows.unwrap_or(i64::MAX as u64));
        let first = self.seen[chunk.array];
        self.seen[chunk.array] += chunk.rows;
        let from = start.max(first).min(first + chunk.rows);
        let to = stop.min(first + chunk.rows).max(from);
        let item = self.arrays[chunk.array].dtype.item_bytes();
        let part = chunk.slice(from - first, to - first);
        let skip = match from.saturating_sub(start) % self.slice.step {
            0 => 0,
            offset => self.slice.step - offset,
        };
        let mut picked = pick(&part, skip, self.slice.step, item);
        picked.first_row = Chunk::NEXT;
        if picked.rows > 0 { emit(picked) } else { Ok(()) }
    }
}

/// A var chunk whose values are exactly its rows, from offset 0.
pub fn compact(mut chunk: Chunk, item_bytes: u64) -> Chunk {
    if let Values::Var { offsets, values } = &mut chunk.values {
        let (base, end) = (offsets[0], offsets[offsets.len() - 1]);
        *values = values.slice_with_length((base * item_bytes) as usize, ((end - base) * item_bytes) as usize);
        offsets.iter_mut().for_each(|o| *o -= base);
    }
    chunk
}
