//! Rows of one array of a batch, read without the rows around them.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, BooleanArray, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_data::{ArrayData, ArrayDataBuilder};
use arrow_schema::{DataType, UnionMode};

use super::cursor::{Cursor, own_buffers, skip};
use super::rows::{BatchRows, VIEW_BYTES, below, elements, is_wide, rebased, width};
use crate::arrow_model::{retyped, type_name};
use crate::error::{Error, Result, foreign};
use crate::model::nested::children;

/// Texts of views that are less apart than this are read together.
const GAP_BYTES: u64 = 64;

/// Some rows of one array.
struct ArraySlice<'a> {
    t: &'a DataType,
    at: Cursor,
    rows: &'a Range<u64>,
    /// How many.
    n: usize,
    /// Where the bits of what is valid are, where something is null.
    validity: Option<Range<u64>>,
}

impl ArraySlice<'_> {
    fn builder(&self) -> ArrayDataBuilder {
        ArrayData::builder(self.t.clone()).len(self.n).align_buffers(true)
    }
    /// Bits that were read from the byte of the first row on.
    fn bits(&self, bytes: Vec<u8>) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from_vec(bytes), (self.rows.start % 8) as usize, self.n)
    }
    fn null_buffer(&self, bits: Option<Vec<u8>>) -> Option<NullBuffer> {
        bits.map(|bits| NullBuffer::new(self.bits(bits)))
    }
}

impl BatchRows<'_> {
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
        if *t == DataType::Null {
            return build(ArrayData::builder(t.clone()).len(n));
        }
        let validity = if nulls > 0 { Some(self.bits(at.buffer, rows)?) } else { None };
        let slice = ArraySlice { t, at, rows, n, validity };
        match t {
            DataType::Boolean => self.bools(slice),
            DataType::Utf8View | DataType::BinaryView => self.view_array(slice),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                self.texts(slice)
            }
            DataType::FixedSizeList(f, length) => {
                let nulls = self.nulls(&slice)?;
                let child = self.array(f.data_type(), below(at, 1), &elements(rows, *length)?)?;
                build(slice.builder().nulls(nulls).add_child_data(child))
            }
            DataType::List(f) | DataType::LargeList(f) | DataType::Map(f, _) => {
                let (offsets, nulls, span) = self.rebased_offsets(&slice)?;
                let child = self.array(f.data_type(), below(at, 2), &span)?;
                build(slice.builder().nulls(nulls).add_buffer(offsets).add_child_data(child))
            }
            DataType::ListView(_) | DataType::LargeListView(_) => self.list_views(slice),
            DataType::Struct(_) => {
                let nulls = self.nulls(&slice)?;
                let below = self.below(t, at, |_| rows.clone())?;
                build(slice.builder().nulls(nulls).child_data(below))
            }
            DataType::Union(_, mode) => self.union(&slice, *mode == UnionMode::Dense),
            DataType::RunEndEncoded(..) => {
                let below = self.below(t, at, |len| 0..len)?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let all = ArrayData::builder(t.clone()).len(len).align_buffers(true);
                let first = usize::try_from(rows.start).unwrap_or(usize::MAX);
                Ok(build(all.child_data(below))?.slice(first, n))
            }
            _ => {
                let width = width(t)
                    .ok_or_else(|| Error::refused(format!("{} is not supported", type_name(t))))?;
                let (values, nulls) = self.with_nulls(self.values(at, width, rows)?, &slice)?;
                build(slice.builder().nulls(nulls).add_buffer(Buffer::from_vec(values)))
            }
        }
    }

    /// What is null.
    fn nulls(&self, slice: &ArraySlice<'_>) -> Result<Option<NullBuffer>> {
        let bits = slice.validity.clone().map(|bits| self.read_one(bits)).transpose()?;
        Ok(slice.null_buffer(bits))
    }

    /// The bytes of a place, and what is null: read together.
    fn with_nulls(
        &self,
        place: Range<u64>,
        slice: &ArraySlice<'_>,
    ) -> Result<(Vec<u8>, Option<NullBuffer>)> {
        let (bytes, bits) = self.pair(place, slice.validity.clone())?;
        Ok((bytes, slice.null_buffer(bits)))
    }

    /// The offsets of texts or lists, from 0 on; what is null; where the elements are.
    fn rebased_offsets(
        &self,
        slice: &ArraySlice<'_>,
    ) -> Result<(Buffer, Option<NullBuffer>, Range<u64>)> {
        let place = self.offsets(slice.t, slice.at, slice.rows)?;
        let (mut offsets, nulls) = self.with_nulls(place, slice)?;
        let span = rebased(&mut offsets, is_wide(slice.t))?;
        Ok((Buffer::from_vec(offsets), nulls, span))
    }

    fn bools(&self, slice: ArraySlice<'_>) -> Result<ArrayData> {
        let place = self.bits(slice.at.buffer + 1, slice.rows)?;
        let (values, nulls) = self.with_nulls(place, &slice)?;
        Ok(BooleanArray::new(slice.bits(values), nulls).into_data())
    }

    fn texts(&self, slice: ArraySlice<'_>) -> Result<ArrayData> {
        let (offsets, nulls, span) = self.rebased_offsets(&slice)?;
        let texts = self.part(slice.at.buffer + 2, span.clone(), span.end)?;
        let texts = Buffer::from_vec(self.read_one(texts)?);
        build(slice.builder().nulls(nulls).add_buffer(offsets).add_buffer(texts))
    }

    fn view_array(&self, slice: ArraySlice<'_>) -> Result<ArrayData> {
        let place = self.values(slice.at, VIEW_BYTES, slice.rows)?;
        let (views, nulls) = self.with_nulls(place, &slice)?;
        let texts = self.views(slice.t, slice.at, &views, nulls)?;
        if std::ptr::eq(slice.t, self.data_type) {
            return Ok(texts);
        }
        let views = retyped(&make_array(texts), slice.t);
        Ok(views.map_err(|e| Error::corrupt("an array is not valid").because(e))?.to_data())
    }

    fn list_views(&self, slice: ArraySlice<'_>) -> Result<ArrayData> {
        let (at, width) = (slice.at, if is_wide(slice.t) { 8 } else { 4 });
        let (offsets, nulls) = self.with_nulls(self.values(at, width, slice.rows)?, &slice)?;
        let second = Cursor { buffer: at.buffer + 1, ..at };
        let sizes = self.read_one(self.values(second, width, slice.rows)?)?;
        let below = self.below(slice.t, at, |len| 0..len)?;
        let builder = slice.builder().nulls(nulls).add_buffer(Buffer::from_vec(offsets));
        build(builder.add_buffer(Buffer::from_vec(sizes)).child_data(below))
    }

    fn union(&self, slice: &ArraySlice<'_>, is_dense: bool) -> Result<ArrayData> {
        // Before version 5 of the metadata there was a validity buffer.
        if slice.validity.is_some() {
            return Err(Error::refused("a union with nulls of its own is not supported"));
        }
        let rows = slice.rows;
        let first = slice.at.buffer + usize::from(self.batch.before_v5);
        let ids = self.part(first, rows.clone(), rows.end)?;
        let offsets = is_dense
            .then(|| self.part(first + 1, rows.start * 4..rows.end.saturating_mul(4), rows.end));
        let (ids, offsets) = self.pair(ids, offsets.transpose()?)?;
        let below =
            self.below(slice.t, slice.at, |len| if is_dense { 0..len } else { rows.clone() })?;
        let mut builder = slice.builder().add_buffer(Buffer::from_vec(ids));
        if let Some(offsets) = offsets {
            builder = builder.add_buffer(Buffer::from_vec(offsets));
        }
        build(builder.child_data(below))
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
}

fn build(builder: ArrayDataBuilder) -> Result<ArrayData> {
    foreign("arrow", || {
        builder.build().map_err(|e| Error::corrupt("an array is not valid").because(e))
    })
}
