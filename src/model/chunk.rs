//! Rows on their way.

use std::borrow::Cow;

use arrow_array::{Array, ArrayRef};

use super::{Buf, Dtype};
use crate::error::{Error, Result};

/// The values of a chunk.
#[derive(Clone, Debug)]
pub enum Values {
    /// `rows × row_bytes` bytes.
    Fixed(Buf),
    /// Rows of uneven length: `offsets` has rows + 1 entries, the first not below 0, counted in
    /// inner elements.
    Var {
        /// Where each row begins in `values`; the last entry is its end. The first entry need not
        /// be 0.
        offsets: Vec<u64>,
        /// The inner elements (text: bytes).
        values: Buf,
    },
    /// Rows of a nested column: an array of [`Nested::coded_type`](super::Nested::coded_type).
    Nested(ArrayRef),
}

/// Which rows of a chunk hold a value: one byte a row, 1 where it does, 0 where it is null.
pub type Mask = Buf;

/// Some whole rows of one array.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Index into the plan's arrays.
    pub array: usize,
    /// The first row's number, or [`Chunk::NEXT`] where the order of delivery decides.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Their values; at a null: NaN for floats, 0 otherwise, an empty text.
    pub values: Values,
    /// Present where a row of this chunk is null (may be present without one).
    pub valid: Option<Mask>,
}

impl Chunk {
    /// A `first_row` that means: after the rows of this array delivered before. The pipe fills it
    /// in.
    pub const NEXT: u64 = u64::MAX;

    /// Rows of fixed size without nulls.
    pub fn fixed(array: usize, first_row: u64, rows: u64, values: impl Into<Buf>) -> Chunk {
        Chunk { array, first_row, rows, values: Values::Fixed(values.into()), valid: None }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let values = match &self.values {
            Values::Fixed(b) => b.len() as u64,
            Values::Nested(array) => {
                array.to_data().get_slice_memory_size().unwrap_or(usize::MAX) as u64
            }
            Values::Var { offsets, values } => {
                let used = offsets
                    .last()
                    .copied()
                    .unwrap_or(0)
                    .saturating_sub(offsets.first().copied().unwrap_or(0));
                8 * offsets.len() as u64 + (values.len() as u64).min(used.max(1).saturating_mul(16))
            }
        };
        values + self.valid.as_ref().map_or(0, |v| v.len() as u64)
    }

    /// Rows `start..end` of this chunk (counted from its first), without copying values.
    pub fn slice(&self, start: u64, end: u64) -> Chunk {
        debug_assert!(start <= end && end <= self.rows);
        let (s, n) = (start as usize, (end - start) as usize);
        let values = match &self.values {
            Values::Nested(array) => Values::Nested(array.slice(s, n)),
            Values::Fixed(b) => {
                let row = if self.rows == 0 { 0 } else { b.len() / self.rows as usize };
                Values::Fixed(b.slice_with_length(s * row, n * row))
            }
            Values::Var { offsets, values } => {
                // One item a row, but for text of several dimensions on its way to be coded.
                let items = (offsets.len() - 1).checked_div(self.rows as usize).unwrap_or(1);
                Values::Var {
                    offsets: offsets[s * items..=(s + n) * items].to_vec(),
                    values: values.clone(),
                }
            }
        };
        Chunk {
            array: self.array,
            first_row: if self.first_row == Chunk::NEXT {
                Chunk::NEXT
            } else {
                self.first_row + start
            },
            rows: end - start,
            values,
            valid: self.valid.as_ref().map(|v| v.slice_with_length(s, n)),
        }
    }

    /// The bytes of the `row`th row of a [`Values::Var`] chunk over bytes (text, binary, decimal).
    pub fn text(&self, row: usize) -> &[u8] {
        match &self.values {
            Values::Var { offsets, values } => {
                &values[offsets[row] as usize..offsets[row + 1] as usize]
            }
            Values::Fixed(_) | Values::Nested(_) => &[],
        }
    }

    /// Whether the `row`th row holds a value.
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|v| v[row] != 0)
    }
}

/// The buffer's elements as `T`; copied only where the buffer is not aligned for `T`.
///
/// A tail shorter than one element is left out.
pub fn typed<T: bytemuck::Pod>(buf: &[u8]) -> Cow<'_, [T]> {
    let whole = buf.len() / size_of::<T>() * size_of::<T>();
    match bytemuck::try_cast_slice(&buf[..whole]) {
        Ok(slice) => Cow::Borrowed(slice),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&buf[..whole])),
    }
}

/// A buffer from a vector of plain elements, without a copy.
pub fn buf_from<T: arrow_buffer::ArrowNativeType>(values: Vec<T>) -> Buf {
    Buf::from_vec(values)
}

/// Codes of any integer width as int64.
pub fn codes_of(values: &[u8], dtype: Dtype) -> Vec<i64> {
    match dtype {
        Dtype::I8 => typed::<i8>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U8 => values.iter().map(|v| *v as i64).collect(),
        Dtype::I16 => typed::<i16>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U16 => typed::<u16>(values).iter().map(|v| *v as i64).collect(),
        Dtype::I32 => typed::<i32>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U32 => typed::<u32>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U64 => {
            typed::<u64>(values).iter().map(|v| i64::try_from(*v).unwrap_or(i64::MAX)).collect()
        }
        _ => typed::<i64>(values).into_owned(),
    }
}

/// The category of a code.
///
/// # Errors
/// Corrupt where there is none.
pub fn item_of(items: &[Vec<u8>], code: i64) -> Result<&[u8]> {
    let item = usize::try_from(code).ok().and_then(|c| items.get(c));
    item.map(Vec::as_slice).ok_or_else(|| {
        Error::corrupt(format!("the code {code} is outside the {} categories", items.len()))
    })
}
