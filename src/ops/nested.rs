//! Parts of nested columns as plain arrays.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt64Array, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;
use arrow_select::take::take;

use crate::arrow_model::{self, LeafType};
use crate::error::{Error, Result};
use crate::model::nested::{PartKind, parts_of};
use crate::model::{ArrayMeta, Buf, Chunk, Logical, Nested, Values};

/// A plain array that holds a part of a nested one.
#[derive(Clone, Debug)]
pub struct Part {
    /// The places of the parts that lead to it, as [`parts_of`] has them.
    pub path: Vec<usize>,
    /// Whether nulls may be in what leads to it, and in the part itself.
    pub nulls: Vec<bool>,
    /// What of it.
    pub of: PartOf,
    /// Whether it is below a list, so that only the data tells its rows.
    pub below_list: bool,
}

/// See [`Part::of`].
#[derive(Clone, Debug)]
pub enum PartOf {
    /// The lengths of its lists, as uneven rows of nothing.
    Lengths,
    /// Its mask.
    Valid,
    /// Its values: the array that they become.
    Values(Box<ArrayMeta>),
    /// Itself, as a nested column.
    Nested,
}

fn invalid(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("a nested column is not valid").because(e)
}

impl Part {
    /// The part of a chunk.
    ///
    /// # Errors
    /// Arrays that are not of the announced type.
    pub(super) fn take(&self, chunk: &Chunk) -> Result<Chunk> {
        let Values::Nested(array) = &chunk.values else {
            return Err(Error::internal("a nested column was expected"));
        };
        let first = if chunk.first_row == Chunk::NEXT { 0 } else { chunk.first_row };
        let (mut at, mut hidden) = (array.clone(), None);
        for (level, &place) in self.path.iter().enumerate() {
            let nulls = self.nulls_at(level, &at, hidden.as_ref())?;
            (at, hidden) = match kind_of(&at)? {
                PartKind::Struct => (field(&at, place)?, nulls),
                PartKind::Fixed(n) => {
                    let list = at.as_fixed_size_list_opt();
                    let list = list.ok_or_else(|| Error::internal("a list was expected"))?;
                    (list.values().clone(), nulls.map(|nulls| nulls.expand(n as usize)))
                }
                PartKind::List => {
                    let values = items(&at, nulls.as_ref())?.1;
                    // Keys and values of a map are fields of its entries.
                    let is_map = matches!(at.data_type(), DataType::Map(..));
                    (if is_map { field(&values, place)? } else { values }, None)
                }
                PartKind::Leaf => return Err(Error::internal("a leaf has no parts")),
            };
        }
        let nulls = self.nulls_at(self.path.len(), &at, hidden.as_ref())?;
        let rows = at.len() as u64;
        let mut made = Chunk { rows, valid: None, ..chunk.clone() };
        if self.below_list {
            made.first_row = Chunk::NEXT;
        }
        match &self.of {
            PartOf::Valid => {
                let mask = |nulls: &NullBuffer| nulls.iter().map(u8::from).collect::<Vec<u8>>();
                let mask = nulls.as_ref().map_or_else(|| vec![1u8; rows as usize], mask);
                made.values = Values::Fixed(Buf::from_vec(mask));
            }
            PartOf::Lengths => {
                let mut offsets = vec![0u64];
                for length in items(&at, nulls.as_ref())?.0 {
                    offsets.push(offsets[offsets.len() - 1] + length);
                }
                made.values = Values::Var { offsets, values: Vec::<u8>::new().into() };
            }
            PartOf::Nested => made.values = Values::Nested(with_nulls(&at, nulls)?),
            PartOf::Values(meta) => {
                let read = leaf(&at, nulls, meta, chunk.array, first)?;
                (made.values, made.valid) = (read.values, read.valid);
            }
        }
        Ok(made)
    }

    /// Where the array of a level is null or hidden by nulls above it.
    fn nulls_at(
        &self,
        level: usize,
        array: &ArrayRef,
        hidden: Option<&NullBuffer>,
    ) -> Result<Option<NullBuffer>> {
        let own = array.logical_nulls().filter(|n| n.null_count() > 0);
        let nulls = NullBuffer::union(hidden, own.as_ref()).filter(|n| n.null_count() > 0);
        let count = |n: Option<&NullBuffer>| n.map_or(0, NullBuffer::null_count);
        if !self.nulls.get(level).is_none_or(|may| *may) && count(nulls.as_ref()) > count(hidden) {
            return Err(Error::corrupt("there is a null where there should be none"));
        }
        Ok(nulls)
    }
}

/// Every row as JSON text.
///
/// # Errors
/// Codes without categories.
pub(super) fn to_json(chunk: &mut Chunk, nested: &Nested) -> Result<()> {
    let Values::Nested(array) = &chunk.values else {
        return Err(Error::internal("a nested column was expected"));
    };
    let array = arrow_model::decoded(array, nested)?;
    let (mut offsets, mut texts) = (vec![0u64], Vec::new());
    let mut valid = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        valid.push(u8::from(array.is_valid(row)));
        if array.is_valid(row) {
            texts.extend_from_slice(arrow_model::json(&array, row).to_string().as_bytes());
        }
        offsets.push(texts.len() as u64);
    }
    chunk.valid = valid.contains(&0).then(|| Buf::from_vec(valid));
    chunk.values = Values::Var { offsets, values: Buf::from_vec(texts) };
    Ok(())
}

fn kind_of(array: &ArrayRef) -> Result<PartKind> {
    let kind = parts_of(array.data_type()).map(|(kind, _)| kind);
    kind.ok_or_else(|| Error::internal("a type without a plain form"))
}

fn field(array: &ArrayRef, place: usize) -> Result<ArrayRef> {
    let field = array.as_struct_opt().and_then(|s| s.columns().get(place));
    field.cloned().ok_or_else(|| Error::internal("a struct lacks a field"))
}

fn with_nulls(array: &ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    // Of these there is no mask of their own.
    if matches!(
        array.data_type(),
        DataType::Null | DataType::Union(..) | DataType::RunEndEncoded(..)
    ) {
        return Ok(array.clone());
    }
    Ok(make_array(array.to_data().into_builder().nulls(nulls).build().map_err(invalid)?))
}

fn leaf(
    array: &ArrayRef,
    nulls: Option<NullBuffer>,
    meta: &ArrayMeta,
    to: usize,
    first: u64,
) -> Result<Chunk> {
    let array = with_nulls(array, nulls)?;
    // Codes are plain numbers here.
    let logical = match &meta.logical {
        Logical::Dictionary { .. } => Logical::Plain,
        other => other.clone(),
    };
    let element = array.data_type().clone();
    let leaf = LeafType { levels: Vec::new(), element, dtype: meta.dtype, logical };
    let plain = ArrayMeta { logical: leaf.logical.clone(), ..meta.clone() };
    let mut chunk = arrow_model::chunk(&array, &leaf, &plain, None, to, first)
        .map_err(|e| e.with_array(&meta.name))?;
    if !meta.nulls {
        chunk.valid = None;
    }
    Ok(chunk)
}

/// The lengths of lists, 0 where they are null, and their elements end to end.
fn items(array: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<(Vec<u64>, ArrayRef)> {
    fn wide<O: Copy + Into<i64>>(all: &[O]) -> Vec<i64> {
        all.iter().map(|&o| o.into()).collect()
    }
    let ends = |offsets: Vec<i64>| -> Vec<(i64, i64)> {
        offsets.windows(2).map(|w| (w[0], w[1])).collect()
    };
    let spans = |starts: Vec<i64>, sizes: Vec<i64>| -> Vec<(i64, i64)> {
        starts.into_iter().zip(sizes).map(|(start, size)| (start, start + size)).collect()
    };
    let (ranges, values): (Vec<(i64, i64)>, ArrayRef) = match array.data_type() {
        DataType::List(_) => {
            let l = array.as_list::<i32>();
            (ends(wide(l.value_offsets())), l.values().clone())
        }
        DataType::LargeList(_) => {
            let l = array.as_list::<i64>();
            (ends(wide(l.value_offsets())), l.values().clone())
        }
        DataType::Map(..) => {
            let m = array.as_map();
            (ends(wide(m.value_offsets())), Arc::new(m.entries().clone()))
        }
        DataType::ListView(_) => {
            let l = array.as_list_view::<i32>();
            (spans(wide(l.offsets()), wide(l.sizes())), l.values().clone())
        }
        DataType::LargeListView(_) => {
            let l = array.as_list_view::<i64>();
            (spans(wide(l.offsets()), wide(l.sizes())), l.values().clone())
        }
        other => return Err(Error::internal(format!("a list was expected, found {other}"))),
    };
    let counts = |i: usize| nulls.is_none_or(|n| n.is_valid(i));
    let (mut lengths, mut picked) = (Vec::with_capacity(ranges.len()), Vec::new());
    for (i, &(start, end)) in ranges.iter().enumerate() {
        let range = if counts(i) { start..end } else { start..start };
        lengths.push((range.end - range.start) as u64);
        match picked.last_mut() {
            _ if range.is_empty() => {}
            Some(Range { end, .. }) if *end == range.start => *end = range.end,
            _ => picked.push(range),
        }
    }
    let values = match &picked[..] {
        [] => values.slice(0, 0),
        [one] => values.slice(one.start as usize, (one.end - one.start) as usize),
        _ => {
            let places: UInt64Array = picked.into_iter().flatten().map(|i| i as u64).collect();
            take(&values, &places, None).map_err(invalid)?
        }
    };
    Ok((lengths, values))
}
