//! Rows of one array of a batch: where they are, and what they take, known before they are read.

use std::ops::Range;

use arrow_schema::{DataType, UnionMode};

use super::cursor::{Cursor, own_buffers, skip};
use super::index::Batch;
use crate::error::{Error, Result};
use crate::model::nested::children;
use crate::storage::Blob;

/// Offsets and masks of a row, in the forms that it goes through.
const ROW_BYTES: u64 = 18;
/// A decimal as it is stored.
const DECIMAL_BYTES: u64 = 32;
/// Views that are looked at together.
const VIEWS: u64 = 4096;
/// Bytes of a view.
pub(super) const VIEW_BYTES: u64 = 16;

/// One array of a batch whose buffers are not compressed.
pub(super) struct BatchRows<'a> {
    pub(super) blob: &'a dyn Blob,
    pub(super) batch: &'a Batch,
    /// Its type; null in place of elements that are not wanted.
    pub(super) data_type: &'a DataType,
    pub(super) at: Cursor,
}

pub(super) fn below(at: Cursor, buffers: usize) -> Cursor {
    Cursor { node: at.node + 1, buffer: at.buffer + buffers, ..at }
}

pub(super) fn elements(rows: &Range<u64>, length: i32) -> Result<Range<u64>> {
    let times = |row: u64| u64::try_from(length).ok().and_then(|n| n.checked_mul(row));
    let range = times(rows.start).zip(times(rows.end)).map(|(start, end)| start..end);
    range.ok_or_else(|| {
        Error::corrupt(format!("{} lists of {length} elements are too many", rows.end))
    })
}

/// Whether offsets have 8 bytes.
pub(super) fn is_wide(t: &DataType) -> bool {
    matches!(
        t,
        DataType::LargeUtf8
            | DataType::LargeBinary
            | DataType::LargeList(_)
            | DataType::LargeListView(_)
    )
}

impl BatchRows<'_> {
    fn rows(&self) -> u64 {
        self.batch.nodes.get(self.at.node).map_or(0, |node| node.0)
    }

    /// No less than all its rows take, as far as lengths tell; `None` where they do not.
    pub(super) fn whole(&self) -> Option<u64> {
        self.whole_of(self.data_type, &mut self.at.clone())
    }

    fn whole_of(&self, t: &DataType, at: &mut Cursor) -> Option<u64> {
        let (here, n) = (*at, self.batch.nodes.get(at.node)?.0);
        let each = |bytes: u64| n.saturating_mul(bytes);
        let own = match t {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                let texts = self.batch.buffers.get(here.buffer + 2)?.1;
                each(ROW_BYTES).saturating_add(texts)
            }
            // Elements that several rows share count for each of them.
            DataType::Utf8View
            | DataType::BinaryView
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::RunEndEncoded(..) => return None,
            _ if children(t).is_empty() => each(flat_bytes(t)),
            _ => each(ROW_BYTES),
        };
        if children(t).is_empty() {
            skip(t, self.batch, at);
            return Some(own);
        }
        at.node += 1;
        at.buffer += own_buffers(t, self.batch);
        children(t)
            .into_iter()
            .try_fold(own, |sum, f| Some(sum.saturating_add(self.whole_of(f.data_type(), at)?)))
    }

    /// What some rows take.
    ///
    /// # Errors
    /// Corrupt where the buffers do not reach so far; reading errors.
    pub(super) fn measure(&self, rows: &Range<u64>) -> Result<u64> {
        self.measure_of(self.data_type, &mut self.at.clone(), rows)
    }

    fn measure_of(&self, t: &DataType, at: &mut Cursor, rows: &Range<u64>) -> Result<u64> {
        let here = *at;
        let each = |bytes: u64| (rows.end - rows.start).saturating_mul(bytes);
        if children(t).is_empty() {
            skip(t, self.batch, at);
            return match t {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                    let span = self.span(t, here, rows)?;
                    Ok(each(ROW_BYTES).saturating_add(span.end - span.start))
                }
                DataType::Utf8View | DataType::BinaryView => {
                    Ok(self.fit_views(here, rows, u64::MAX)?.1)
                }
                flat => Ok(each(flat_bytes(flat))),
            };
        }
        at.node += 1;
        at.buffer += own_buffers(t, self.batch);
        let mut sum = each(ROW_BYTES);
        for f in children(t) {
            let below = match t {
                DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => {
                    self.span(t, here, rows)?
                }
                DataType::FixedSizeList(_, n) => elements(rows, *n)?,
                DataType::Struct(_) | DataType::Union(_, UnionMode::Sparse) => rows.clone(),
                // Any of their elements: all.
                _ => 0..self.batch.nodes.get(at.node).map_or(0, |node| node.0),
            };
            sum = sum.saturating_add(self.measure_of(f.data_type(), at, &below)?);
        }
        Ok(sum)
    }

    /// The row behind the last of those from `row` on (none at or behind `most`) that take `bytes`
    /// together, one at least, and what they take.
    ///
    /// # Errors
    /// Corrupt where the buffers do not reach so far; reading errors.
    pub(super) fn fit(&self, row: u64, most: u64, bytes: u64) -> Result<(u64, u64)> {
        if row == 0
            && most == self.rows()
            && let Some(all) = self.whole().filter(|&all| all <= bytes)
        {
            return Ok((most, all));
        }
        if matches!(self.data_type, DataType::Utf8View | DataType::BinaryView) {
            return self.fit_views(self.at, &(row..most), bytes);
        }
        let (mut low, mut held) = (row, 0);
        let (mut high, mut over) = (most, self.measure(&(row..most))?);
        if over <= bytes || high - low <= 1 {
            return Ok((high, over));
        }
        let mut turn = 0;
        while high - low > 1 {
            // Rows are of like size, mostly; where they are not, halves get there.
            let even = u128::from(high - low) * u128::from(bytes - held)
                / u128::from((over - held).max(1));
            let step = if turn % 3 == 2 {
                (high - low) / 2
            } else {
                u64::try_from(even).unwrap_or(u64::MAX)
            };
            let middle = low.saturating_add(step).clamp(low + 1, high - 1);
            let size = self.measure(&(row..middle))?;
            if size <= bytes {
                (low, held) = (middle, size);
                if size >= bytes / 2 {
                    break;
                }
            } else {
                (high, over) = (middle, size);
            }
            turn += 1;
        }
        if low == row { Ok((high, over)) } else { Ok((low, held)) }
    }

    /// As [`BatchRows::fit`], for views.
    fn fit_views(&self, at: Cursor, rows: &Range<u64>, bytes: u64) -> Result<(u64, u64)> {
        let (mut row, mut sum) = (rows.start, 0u64);
        let nulls = self.batch.nodes.get(at.node).map_or(0, |node| node.1);
        while row < rows.end {
            let part = row / 8 * 8..rows.end.min(row.saturating_add(VIEWS));
            let bits = if nulls > 0 { Some(self.bits(at.buffer, &part)?) } else { None };
            let (views, bits) = self.pair(self.values(at, VIEW_BYTES, &part)?, bits)?;
            let skip = (row - part.start) as usize;
            for (i, view) in views.chunks_exact(VIEW_BYTES as usize).enumerate().skip(skip) {
                // Those of nulls may say anything.
                let counts = bits.as_ref().is_none_or(|bits| bits[i / 8] >> (i % 8) & 1 == 1);
                let len = view
                    .first_chunk::<4>()
                    .filter(|_| counts)
                    .map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
                let more = sum.saturating_add(len + VIEW_BYTES + ROW_BYTES);
                if more > bytes && row > rows.start {
                    return Ok((row, sum));
                }
                (sum, row) = (more, row + 1);
                if more > bytes {
                    return Ok((row, sum));
                }
            }
        }
        Ok((row, sum))
    }

    /// Where the elements of some lists, or the bytes of some texts, begin and end.
    fn span(&self, t: &DataType, at: Cursor, rows: &Range<u64>) -> Result<Range<u64>> {
        if rows.is_empty() {
            return Ok(0..0);
        }
        let width = if is_wide(t) { 8 } else { 4 };
        let offsets = self.offsets(t, at, rows)?;
        let ends = self.blob.read_ranges(&[
            offsets.start..offsets.start + width,
            offsets.end - width..offsets.end,
        ])?;
        rebased(&mut ends.concat(), is_wide(t))
    }

    /// Where the offsets of some rows are in the file.
    pub(super) fn offsets(
        &self,
        t: &DataType,
        at: Cursor,
        rows: &Range<u64>,
    ) -> Result<Range<u64>> {
        let width = if is_wide(t) { 8 } else { 4 };
        // Writers may leave out the only offset of an empty array.
        if rows.is_empty() {
            return Ok(0..0);
        }
        self.part(
            at.buffer + 1,
            rows.start.saturating_mul(width)..(rows.end + 1).saturating_mul(width),
            rows.end,
        )
    }

    pub(super) fn values(&self, at: Cursor, width: u64, rows: &Range<u64>) -> Result<Range<u64>> {
        self.part(
            at.buffer + 1,
            rows.start.saturating_mul(width)..rows.end.saturating_mul(width),
            rows.end,
        )
    }

    pub(super) fn bits(&self, buffer: usize, rows: &Range<u64>) -> Result<Range<u64>> {
        self.part(buffer, rows.start / 8..rows.end.div_ceil(8).max(rows.start / 8), rows.end)
    }

    /// A part of a buffer, as a place in the file.
    pub(super) fn part(&self, buffer: usize, part: Range<u64>, row: u64) -> Result<Range<u64>> {
        let &(start, len) = self
            .batch
            .buffers
            .get(buffer)
            .ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
        if part.end > len {
            return Err(Error::corrupt(format!(
                "a buffer of {len} bytes does not reach row {row}"
            )));
        }
        Ok(start + part.start..start + part.end)
    }

    pub(super) fn read_one(&self, range: Range<u64>) -> Result<Vec<u8>> {
        self.blob.read_vec(range.start, range.end - range.start)
    }

    /// Reads two places together: over a network that is one wait.
    pub(super) fn pair(
        &self,
        first: Range<u64>,
        second: Option<Range<u64>>,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        let Some(second) = second else { return Ok((self.read_one(first)?, None)) };
        let mut both = self.blob.read_ranges(&[first, second])?;
        let second = both.pop();
        Ok((both.pop().unwrap_or_default(), second))
    }
}

/// Bytes of a value in the file.
pub(super) fn width(t: &DataType) -> Option<u64> {
    match t {
        DataType::FixedSizeBinary(n) => u64::try_from(*n).ok(),
        other => other.primitive_width().map(|n| n as u64),
    }
}

/// What a row takes whose size its type tells.
fn flat_bytes(t: &DataType) -> u64 {
    let width = width(t).unwrap_or(0);
    match t {
        DataType::Null => 0,
        DataType::Boolean => 2,
        DataType::FixedSizeBinary(_) => width.saturating_mul(2).saturating_add(ROW_BYTES),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => width + DECIMAL_BYTES,
        _ => width + 1,
    }
}

/// Makes offsets begin at 0; where they began and ended.
pub(super) fn rebased(offsets: &mut Vec<u8>, wide: bool) -> Result<Range<u64>> {
    let width = if wide { 8 } else { 4 };
    if offsets.is_empty() {
        offsets.resize(width, 0);
    }
    let read = |bytes: &[u8]| match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(b), _) if wide => i64::from_le_bytes(*b),
        (_, Some(b)) => i64::from(i32::from_le_bytes(*b)),
        _ => -1,
    };
    let (first, last) = (read(offsets), read(&offsets[offsets.len() - width..]));
    let span = u64::try_from(first)
        .ok()
        .zip(u64::try_from(last).ok())
        .filter(|(first, last)| first <= last);
    let (start, end) =
        span.ok_or_else(|| Error::corrupt(format!("offsets go from {first} to {last}")))?;
    for bytes in offsets.chunks_exact_mut(width) {
        let offset = read(bytes);
        if offset < first || offset > last {
            return Err(Error::corrupt(format!(
                "an offset of {offset} is not between {first} and {last}"
            )));
        }
        bytes.copy_from_slice(&(offset - first).to_le_bytes()[..width]);
    }
    Ok(start..end)
}
