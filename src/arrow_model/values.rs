//! The values of Arrow arrays as the bytes of chunks.

use arrow_array::cast::AsArray;
use arrow_array::types::ByteArrayType;
use arrow_array::{Array, ArrayRef, GenericByteArray};
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer};
use arrow_schema::DataType;

use super::retype::retyped;
use crate::error::{Error, Result};
use crate::model::nested::type_name;
use crate::model::{ArrayMeta, Decimals, Dtype, Logical, Values};

pub(super) fn failed(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("an Arrow array is not valid").because(e)
}

/// One byte a row, 1 where it is valid.
pub(super) fn mask(nulls: &NullBuffer) -> Buffer {
    Buffer::from_vec(nulls.iter().map(u8::from).collect::<Vec<u8>>())
}

/// The values of a primitive or boolean array: little-endian, unpadded.
///
/// # Errors
/// A bug where it is neither: the schema decided the type.
pub fn fixed_buffer(array: &ArrayRef) -> Result<Buffer> {
    if let Some(bits) = array.as_boolean_opt() {
        return Ok(Buffer::from_vec(bits.values().iter().map(u8::from).collect::<Vec<u8>>()));
    }
    let Some(width) = array.data_type().primitive_width() else {
        return Err(Error::internal(format!(
            "plain values were expected, found {}",
            type_name(array.data_type())
        )));
    };
    let data = array.to_data();
    let buffer = data.buffers().first().ok_or_else(|| Error::corrupt("an array has no values"))?;
    let (start, len) = (data.offset() * width, data.len() * width);
    if buffer.len() < start + len {
        return Err(Error::corrupt(format!(
            "an array has {} bytes of values, expected {}",
            buffer.len().saturating_sub(start),
            len
        )));
    }
    Ok(buffer.slice_with_length(start, len))
}

/// NaN (floats) or zero where a row is null.
pub(super) fn blank(
    buffer: Buffer,
    row_bytes: usize,
    meta: &ArrayMeta,
    nulls: Option<&NullBuffer>,
) -> Buffer {
    let Some(nulls) = nulls else { return buffer };
    let nan: &[u8] = match (&meta.logical, meta.dtype) {
        (Logical::Plain, Dtype::F16) => &0x7e00u16.to_le_bytes(),
        (Logical::Plain, Dtype::F32) => &0x7fc0_0000u32.to_le_bytes(),
        (Logical::Plain, Dtype::F64) => &0x7ff8_0000_0000_0000u64.to_le_bytes(),
        _ => &[],
    };
    let mut bytes = match buffer.into_vec::<u8>() {
        Ok(vec) => vec,
        Err(shared) => shared.as_slice().to_vec(),
    };
    for (i, row) in bytes.chunks_exact_mut(row_bytes.max(1)).enumerate() {
        if i < nulls.len() && nulls.is_null(i) {
            if nan.is_empty() {
                row.fill(0);
            } else {
                row.chunks_exact_mut(nan.len()).for_each(|e| e.copy_from_slice(nan));
            }
        }
    }
    Buffer::from_vec(bytes)
}

pub(super) fn var_values(array: &ArrayRef) -> Result<Values> {
    match array.data_type() {
        DataType::Utf8 => Ok(bytes_values(array.as_string::<i32>())),
        DataType::LargeUtf8 => Ok(bytes_values(array.as_string::<i64>())),
        DataType::Binary => Ok(bytes_values(array.as_binary::<i32>())),
        DataType::LargeBinary => Ok(bytes_values(array.as_binary::<i64>())),
        DataType::Utf8View => var_values(&retyped(array, &DataType::LargeUtf8).map_err(failed)?),
        DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            var_values(&retyped(array, &DataType::LargeBinary).map_err(failed)?)
        }
        DataType::Null => {
            Ok(Values::Var { offsets: vec![0; array.len() + 1], values: Vec::<u8>::new().into() })
        }
        other => Err(Error::internal(format!("text was expected, found {}", type_name(other)))),
    }
}

fn bytes_values<T: ByteArrayType>(array: &GenericByteArray<T>) -> Values {
    let (first, last) = (array.offsets()[0].as_usize(), array.offsets()[array.len()].as_usize());
    let offsets: Vec<u64> = array.offsets().iter().map(|o| (o.as_usize() - first) as u64).collect();
    let values = array.values().slice_with_length(first, last - first);
    if array.null_count() == 0
        || (0..array.len()).all(|i| array.is_valid(i) || offsets[i] == offsets[i + 1])
    {
        return Values::Var { offsets, values };
    }
    let mut packed = Vec::with_capacity(values.len());
    let mut kept = vec![0u64];
    for i in 0..array.len() {
        if array.is_valid(i) {
            packed.extend_from_slice(&values[offsets[i] as usize..offsets[i + 1] as usize]);
        }
        kept.push(packed.len() as u64);
    }
    Values::Var { offsets: kept, values: Buffer::from_vec(packed) }
}

/// How decimals of an Arrow type are stored.
pub(super) fn decimals_of(t: &DataType) -> Option<Decimals> {
    match t {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some(Decimals::of(*p, *s)),
        _ => None,
    }
}

/// The values of an array of decimals as they are stored.
pub(super) fn decimal_buffer(array: &ArrayRef, decimals: Decimals) -> Result<Buffer> {
    let width = array.data_type().primitive_width().unwrap_or(16);
    decimals.stored(&fixed_buffer(array)?, width, |i| array.is_valid(i))
}
