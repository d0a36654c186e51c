//! Rows of one array of a batch: measured before they are read, and read without the rows around
//! them.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, BooleanArray, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, UnionMode};

use super::index::{Batch, Cursor, own_buffers, skip};
use crate::arrow_model::{retyped, type_name};
use crate::error::{Error, Result, foreign};
use crate::model::nested::children;
use crate::storage::Blob;

/// Offsets and masks of a row, in the forms that it goes through.
const ROW_BYTES: u64 = 18;
/// A decimal as it is stored.
const DECIMAL_BYTES: u64 = 32;
/// Views that are looked at together.
const VIEWS: u64 = 4096;
/// Bytes of a view.
const VIEW_BYTES: u64 = 16;
/// Texts of views that are less apart than this are read together.
const GAP_BYTES: u64 = 64;

/// One array of a batch whose buffers are not compressed.
pub(super) struct BatchRows<'a> {
    pub(super) blob: &'a dyn Blob,
    pub(super) batch: &'a Batch,
    /// Its type; null in place of elements that are not wanted.
    pub(super) data_type: &'a DataType,
    pub(super) at: Cursor,
}

fn below(at: Cursor, buffers: usize) -> Cursor {
    Cursor { node: at.node + 1, buffer: at.buffer + buffers, ..at }
}

fn elements(rows: &Range<u64>, length: i32) -> Result<Range<u64>> {
    let times = |row: u64| u64::try_from(length).ok().and_then(|n| n.checked_mul(row));
    let range = times(rows.start).zip(times(rows.end)).map(|(start, end)| start..end);
    range.ok_or_else(|| {
        Error::corrupt(format!("{} lists of {length} elements are too many", rows.end))
    })
}

/// Whether offsets have 8 bytes.
fn is_wide(t: &DataType) -> bool {
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

    /// The array of some rows.
    ///
    /// # Errors
    /// Corrupt; reading errors.
    pub(super) fn read(&self, rows: &Range<u64>) -> Result<ArrayRef> {
        let data = self.array(self.data_type, self.at, rows)?;
        foreign("arrow", || Ok(make_array(data)))
    }

    fn array(&self, t: &DataType, at: Cursor, rows: &Range<u64>) -> Result<ArrayData> {
        let &(len, nulls) = self
            .batch
            .nodes
            .get(at.node)
            .ok_or_else(|| Error::corrupt("a batch has too few arrays"))?;
        if rows.end > len {
            return Err(Error::corrupt(format!(
                "an array of {len} elements does not reach element {}",
                rows.end
            )));
        }
        let n = usize::try_from(rows.end - rows.start)
            .map_err(|_| Error::corrupt("an array is too long"))?;
        let builder = ArrayData::builder(t.clone()).len(n).align_buffers(true);
        if *t == DataType::Null {
            return build(builder);
        }
        let bits = if nulls > 0 { Some(self.bits(at.buffer, rows)?) } else { None };
        let valid = |bytes: Vec<u8>| {
            NullBuffer::new(BooleanBuffer::new(
                Buffer::from_vec(bytes),
                (rows.start % 8) as usize,
                n,
            ))
        };
        match t {
            DataType::FixedSizeList(f, length) => {
                let nulls = bits.map(|bits| self.read_one(bits)).transpose()?.map(valid);
                let child = self.array(f.data_type(), below(at, 1), &elements(rows, *length)?)?;
                build(builder.nulls(nulls).add_child_data(child))
            }
            DataType::Boolean => {
                let (values, nulls) = self.pair(self.bits(at.buffer + 1, rows)?, bits)?;
                let values =
                    BooleanBuffer::new(Buffer::from_vec(values), (rows.start % 8) as usize, n);
                Ok(BooleanArray::new(values, nulls.map(valid)).into_data())
            }
            DataType::Utf8View | DataType::BinaryView => {
                let (views, nulls) = self.pair(self.values(at, VIEW_BYTES, rows)?, bits)?;
                let texts = self.views(t, at, &views, nulls.map(valid))?;
                if std::ptr::eq(t, self.data_type) {
                    return Ok(texts);
                }
                let views = retyped(&make_array(texts), t);
                Ok(views.map_err(|e| Error::corrupt("an array is not valid").because(e))?.to_data())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                let (mut offsets, nulls) = self.pair(self.offsets(t, at, rows)?, bits)?;
                let span = rebased(&mut offsets, is_wide(t))?;
                let texts = self.part(at.buffer + 2, span.clone(), span.end)?;
                let texts = self.read_one(texts)?;
                build(
                    builder
                        .nulls(nulls.map(valid))
                        .add_buffer(Buffer::from_vec(offsets))
                        .add_buffer(Buffer::from_vec(texts)),
                )
            }
            DataType::Struct(_) => {
                let nulls = bits.map(|bits| self.read_one(bits)).transpose()?.map(valid);
                let below = self.below(t, at, |_| rows.clone())?;
                build(builder.nulls(nulls).child_data(below))
            }
            DataType::ListView(_) | DataType::LargeListView(_) => {
                let width = if is_wide(t) { 8 } else { 4 };
                let (offsets, nulls) = self.pair(self.values(at, width, rows)?, bits)?;
                let second = Cursor { buffer: at.buffer + 1, ..at };
                let sizes = self.read_one(self.values(second, width, rows)?)?;
                let below = self.below(t, at, |len| 0..len)?;
                build(
                    builder
                        .nulls(nulls.map(valid))
                        .add_buffer(Buffer::from_vec(offsets))
                        .add_buffer(Buffer::from_vec(sizes))
                        .child_data(below),
                )
            }
            DataType::Union(_, mode) => {
                // Before version 5 of the metadata there was a validity buffer.
                if nulls > 0 {
                    return Err(Error::refused("a union with nulls of its own is not supported"));
                }
                let first = at.buffer + usize::from(self.batch.before_v5);
                let ids = self.part(first, rows.clone(), rows.end)?;
                let dense = *mode == UnionMode::Dense;
                let offsets = dense.then(|| {
                    self.part(first + 1, rows.start * 4..rows.end.saturating_mul(4), rows.end)
                });
                let (ids, offsets) = self.pair(ids, offsets.transpose()?)?;
                let below = self.below(t, at, |len| if dense { 0..len } else { rows.clone() })?;
                let mut builder = builder.add_buffer(Buffer::from_vec(ids));
                if let Some(offsets) = offsets {
                    builder = builder.add_buffer(Buffer::from_vec(offsets));
                }
                build(builder.child_data(below))
            }
            DataType::RunEndEncoded(..) => {
                let below = self.below(t, at, |len| 0..len)?;
                let all = build(
                    ArrayData::builder(t.clone())
                        .len(usize::try_from(len).unwrap_or(usize::MAX))
                        .align_buffers(true)
                        .child_data(below),
                )?;
                Ok(all.slice(usize::try_from(rows.start).unwrap_or(usize::MAX), n))
            }
            DataType::List(f) | DataType::LargeList(f) | DataType::Map(f, _) => {
                let (mut offsets, nulls) = self.pair(self.offsets(t, at, rows)?, bits)?;
                let span = rebased(&mut offsets, is_wide(t))?;
                let child = self.array(f.data_type(), below(at, 2), &span)?;
                build(
                    builder
                        .nulls(nulls.map(valid))
                        .add_buffer(Buffer::from_vec(offsets))
                        .add_child_data(child),
                )
            }
            _ => {
                let width = width(t)
                    .ok_or_else(|| Error::refused(format!("{} is not supported", type_name(t))))?;
                let (values, nulls) = self.pair(self.values(at, width, rows)?, bits)?;
                build(builder.nulls(nulls.map(valid)).add_buffer(Buffer::from_vec(values)))
            }
        }
    }

    /// The arrays below one; `rows` tells which of how many are wanted.
    fn below(
        &self,
        t: &DataType,
        at: Cursor,
        rows: impl Fn(u64) -> Range<u64>,
    ) -> Result<Vec<ArrayData>> {
        let mut next = below(at, own_buffers(t, self.batch));
        let mut arrays = Vec::new();
        for f in children(t) {
            let len = self.batch.nodes.get(next.node).map_or(0, |node| node.0);
            arrays.push(self.array(f.data_type(), next, &rows(len))?);
            skip(f.data_type(), self.batch, &mut next);
        }
        Ok(arrays)
    }

    /// Texts or bytes from their views.
    fn views(
        &self,
        t: &DataType,
        at: Cursor,
        views: &[u8],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayData> {
        let views: Vec<&[u8; 16]> =
            views.chunks_exact(VIEW_BYTES as usize).filter_map(|v| v.first_chunk()).collect();
        let word = |view: &[u8; 16], i: usize| {
            u64::from(u32::from_le_bytes([view[i], view[i + 1], view[i + 2], view[i + 3]]))
        };
        let counts = |i: usize| nulls.as_ref().is_none_or(|n| n.is_valid(i));
        let is_long = |i: usize| word(views[i], 0) > 12 && counts(i);
        // Long ones lie in buffers of their own, in any order.
        let mut long: Vec<usize> = (0..views.len()).filter(|&i| is_long(i)).collect();
        let place = |i: usize| (word(views[i], 8), word(views[i], 12), word(views[i], 0));
        long.sort_by_key(|&i| place(i));
        let buffers = self.batch.variadic.get(at.view).copied().unwrap_or(0);
        let (mut ranges, mut found) = (Vec::<Range<u64>>::new(), vec![(0usize, 0u64); views.len()]);
        let mut last = None;
        for &i in &long {
            let (buffer, start, len) = place(i);
            if buffer >= buffers {
                return Err(Error::corrupt(format!("a text is in buffer {buffer} of {buffers}")));
            }
            let range =
                self.part(at.buffer + 2 + buffer as usize, start..start + len, start + len)?;
            match ranges.last_mut() {
                Some(open)
                    if last == Some(buffer)
                        && range.start <= open.end.saturating_add(GAP_BYTES) =>
                {
                    open.end = open.end.max(range.end)
                }
                _ => ranges.push(range.clone()),
            }
            last = Some(buffer);
            let open = ranges.len() - 1;
            found[i] = (open, range.start - ranges[open].start);
        }
        let bytes = self.blob.read_ranges(&ranges)?;
        let (mut offsets, mut texts) = (vec![0i64], Vec::new());
        for (i, view) in views.iter().enumerate() {
            let len = word(view, 0) as usize;
            if is_long(i) {
                let (open, start) = found[i];
                let text = bytes[open]
                    .get(start as usize..)
                    .and_then(|b| b.get(..len))
                    .unwrap_or_default();
                if !text.starts_with(&view[4..8]) {
                    return Err(Error::corrupt("a text does not begin as its view says"));
                }
                texts.extend_from_slice(text);
            } else if counts(i) {
                texts.extend_from_slice(&view[4..4 + len]);
            }
            offsets.push(texts.len() as i64);
        }
        let t = if *t == DataType::Utf8View { DataType::LargeUtf8 } else { DataType::LargeBinary };
        let builder = ArrayData::builder(t).len(views.len()).nulls(nulls);
        build(builder.add_buffer(Buffer::from_vec(offsets)).add_buffer(Buffer::from_vec(texts)))
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
    fn offsets(&self, t: &DataType, at: Cursor, rows: &Range<u64>) -> Result<Range<u64>> {
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

    fn values(&self, at: Cursor, width: u64, rows: &Range<u64>) -> Result<Range<u64>> {
        self.part(
            at.buffer + 1,
            rows.start.saturating_mul(width)..rows.end.saturating_mul(width),
            rows.end,
        )
    }

    fn bits(&self, buffer: usize, rows: &Range<u64>) -> Result<Range<u64>> {
        self.part(buffer, rows.start / 8..rows.end.div_ceil(8).max(rows.start / 8), rows.end)
    }

    /// A part of a buffer, as a place in the file.
    fn part(&self, buffer: usize, part: Range<u64>, row: u64) -> Result<Range<u64>> {
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

    fn read_one(&self, range: Range<u64>) -> Result<Vec<u8>> {
        self.blob.read_vec(range.start, range.end - range.start)
    }

    /// Reads two places together: over a network that is one wait.
    fn pair(
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
fn width(t: &DataType) -> Option<u64> {
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
fn rebased(offsets: &mut Vec<u8>, wide: bool) -> Result<Range<u64>> {
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

fn build(builder: arrow_data::ArrayDataBuilder) -> Result<ArrayData> {
    foreign("arrow", || {
        builder.build().map_err(|e| Error::corrupt("an array is not valid").because(e))
    })
}
