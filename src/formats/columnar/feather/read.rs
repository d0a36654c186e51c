//! Reading Arrow files and streams: rows at random, by record batches.

use std::ops::Range;
use std::sync::atomic::Ordering;

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use super::body::{UNIT_BYTES, Wanted};
use super::shared::{Codes, Shared};
use crate::arrow_model::{self, Level};
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Piece, ReadRows};
use crate::model::{Chunk, Dtype, Logical, Values};

/// More batches than this are not looked at one by one to tell what some rows take.
const FEW_BATCHES: usize = 64;
/// What compressed bytes may unpack to, over a network: nobody waits to be told.
const USUAL_RATIO: u64 = 4;
/// A compressed batch is unpacked this often at most for the parts of a table that is read row by
/// row.
const MAX_PARTS: u64 = 16;

impl Shared {
    /// What some rows of a batch take while they are read; where it is compressed, with all that
    /// must be unpacked for them.
    fn held(&self, array: usize, b: usize, rows: &Range<u64>) -> Result<u64> {
        let (batch, part) =
            (&self.index.batches[b], self.part(&self.columns[array], b, Wanted::All)?);
        if batch.compression.is_none() {
            return match part.rows().whole() {
                Some(all) if *rows == (0..batch.rows) => Ok(all),
                _ => part.rows().measure(rows),
            };
        }
        let unpacked = if self.blob.is_remote() {
            part.stored().saturating_mul(USUAL_RATIO)
        } else {
            part.unpacked()?
        };
        let share = u128::from(unpacked) * u128::from(rows.end - rows.start)
            / u128::from(batch.rows.max(1));
        // What is made of nested columns, or put together of their parts, is as much again.
        let times = if self.metas[array].logical.nested().is_some() { 2 } else { 1 };
        let held = unpacked.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        Ok(held.saturating_mul(times))
    }

    /// The rows of a compressed batch that are read together: all, unless all columns are wanted
    /// and take much.
    fn together(&self, b: usize) -> u64 {
        let batch = &self.index.batches[b];
        if !self.by_rows.load(Ordering::Relaxed) || batch.rows == 0 {
            return batch.rows.max(1);
        }
        let all = *self.unpacked[b].get_or_init(|| {
            let columns =
                (0..self.columns.len()).filter(|&a| self.metas[a].details.error.is_none());
            columns.fold(0, |sum, a| {
                sum.saturating_add(self.held(a, b, &(0..batch.rows)).unwrap_or(0) / 2)
            })
        });
        let parts =
            if all > self.limit.0 / 2 { all.div_ceil(self.limit.0 / 4).min(MAX_PARTS) } else { 1 };
        batch.rows.div_ceil(parts)
    }

    /// The piece from `row` on that holds about `bytes`, of rows that differ in size.
    fn piece_of(&self, array: usize, row: u64, bytes: u64) -> Result<Piece> {
        let total = self.starts[self.starts.len() - 1];
        let (mut at, mut held) = (row, 0u64);
        while at < total && held < bytes {
            let b = self.batch_of(at);
            let (start, end) = (self.starts[b], self.starts[b + 1]);
            let (to, more) = if self.index.batches[b].compression.is_some() {
                let to = self.next_boundary(array, at) - start;
                (to, self.held(array, b, &(at - start..to))?)
            } else {
                let part = self.part(&self.columns[array], b, Wanted::All)?;
                part.rows().fit(at - start, end - start, bytes - held)?
            };
            if held > 0 && held.saturating_add(more) > bytes {
                break;
            }
            (held, at) = (held.saturating_add(more), start + to);
            if at < end {
                break;
            }
        }
        Ok(Piece { end: at, bytes: held })
    }

    /// The chunk of an array of rows that begin at `at`.
    fn chunk(&self, array: usize, b: usize, part: &ArrayRef, at: u64) -> Result<Chunk> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let codes = |of: &Codes| -> usize { of.partition_point(|(from, _)| *from <= b) };
        let codes: Vec<&[u64]> = column
            .codes
            .iter()
            .map(|of| codes(of).checked_sub(1).map_or(&[][..], |last| of[last].1.as_slice()))
            .collect();
        let rows = part.len() as u64;
        let chunk = if let Logical::Nested(nested) = &meta.logical {
            let values = Values::Nested(arrow_model::recoded(part, nested, &codes, at)?);
            Chunk { array, first_row: at, rows, values, valid: None }
        } else if let Logical::Dictionary { .. } = meta.logical {
            let codes = codes.first().copied().unwrap_or_default();
            let (values, valid) = arrow_model::coded(part.as_ref(), codes, meta.dtype, at)?;
            Chunk { array, first_row: at, rows, values, valid }
        } else {
            arrow_model::chunk(part, &column.leaf, meta, None, array, at)?
        };
        if chunk.valid.is_some() && !meta.nulls {
            return Err(Error::corrupt("it has nulls, but its batches declare none"));
        }
        Ok(chunk)
    }
}

impl ReadRows for Shared {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let meta = &self.metas[array];
        let file = self.blob.file()?;
        let column = self.columns.get(array)?;
        let fixed_lists = column.leaf.levels.iter().all(|l| matches!(l, Level::Fixed(_)));
        let plain = !meta.logical.is_var()
            && !matches!(meta.logical, Logical::Dictionary { .. })
            && meta.dtype != Dtype::Bool
            && meta.logical.decimals().is_none_or(|decimals| {
                column.leaf.element.primitive_width() == Some(decimals.item_bytes())
            });
        if meta.nulls || meta.details.error.is_some() || !fixed_lists || !plain {
            return None;
        }
        let row = meta.row_bytes().ok()?;
        let mut extents = Vec::new();
        for (b, batch) in self.index.batches.iter().enumerate() {
            if batch.compression.is_some() {
                return None;
            }
            let mut at = self.locate(b, column.place).ok()?;
            at.buffer += column.leaf.levels.len();
            let &(offset, held) = batch.buffers.get(at.buffer + 1)?;
            let len = batch.rows.checked_mul(row).filter(|&n| n <= held)?;
            extents.push(Extent { file: file.clone(), offset, len });
        }
        Some(extents)
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let b = self.batch_of(row);
        let Some(batch) = self.index.batches.get(b) else { return u64::MAX };
        if self.columns[array].leaf.element == DataType::Null {
            return u64::MAX;
        }
        let (start, end) = (self.starts[b], self.starts[b + 1]);
        let rows = match batch.compression {
            Some(_) => self.together(b),
            None => {
                (UNIT_BYTES * 2 / self.metas[array].row_bytes().unwrap_or(1).max(1) / 8 * 8).max(1)
            }
        };
        start.saturating_add(((row - start) / rows + 1).saturating_mul(rows)).min(end)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let count = rows.end.saturating_sub(rows.start);
        if column.leaf.element == DataType::Null {
            return Some(count.saturating_mul(9));
        }
        let (mut at, mut held, mut few) = (rows.start, 0u64, FEW_BATCHES);
        while at < rows.end && few > 0 {
            let b = self.batch_of(at);
            let start = self.starts[b];
            let end = self.starts.get(b + 1).copied().unwrap_or(0).min(rows.end).max(at + 1);
            held = held.saturating_add(self.held(array, b, &(at - start..end - start)).ok()?);
            (at, few) = (end, few - 1);
        }
        // The rest is like what was looked at.
        let all = u128::from(held) * u128::from(count) / u128::from((at - rows.start).max(1));
        let decoded = if meta.logical.is_var() {
            0
        } else {
            count.saturating_mul(meta.row_bytes().unwrap_or(1))
        };
        Some(u64::try_from(all).unwrap_or(u64::MAX).saturating_add(decoded))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        if !self.metas[array].logical.is_var() || self.columns[array].leaf.element == DataType::Null
        {
            return None;
        }
        self.piece_of(array, row, bytes).ok()
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let mut at = rows.start;
        while at < rows.end {
            let b = self.batch_of(at);
            let start = self.starts[b];
            let mut end = self.starts[b + 1].min(rows.end);
            if column.leaf.element == DataType::Null {
                end = end.min(at + (1 << 18));
                emit(nulls(array, at, end - at))?;
                at = end;
                continue;
            }
            let part = self.part(column, b, Wanted::All).at_array(&meta.name)?;
            let mut reading = true;
            let done =
                part.each(at - start..end - start, self.limit, UNIT_BYTES, &mut |part, first| {
                    let chunk = self.chunk(array, b, &part, start + first)?;
                    reading = false;
                    emit(chunk)?;
                    reading = true;
                    Ok(())
                });
            done.map_err(|e| if reading { e.array(&meta.name) } else { e })?;
            at = end;
        }
        Ok(())
    }
}

/// Rows that are all null.
fn nulls(array: usize, first_row: u64, rows: u64) -> Chunk {
    let n = rows as usize;
    let values = Values::Var { offsets: vec![0; n + 1], values: Vec::<u8>::new().into() };
    Chunk { array, first_row, rows, values, valid: Some(vec![0u8; n].into()) }
}
