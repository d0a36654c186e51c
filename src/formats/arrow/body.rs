//! Buffers of a batch → Arrow arrays, one column at a time.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::CompressionType;

use super::index::{Batch, Cursor};
use crate::codec::arrow_model::type_name;
use crate::codec::decompress::{Compression, Limit};
use crate::error::{Error, Result, foreign};
use crate::location::Blob;

/// The most that zstd makes of a byte.
const MAX_RATIO: u64 = 1 << 17;

/// Which buffers of an array are wanted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Offsets and validity of lists, not the elements: they come as nulls.
    Lists,
}

/// Decodes the array of type `t` at `at` of a batch.
pub(super) fn decode(blob: &dyn Blob, batch: &Batch, t: &DataType, at: Cursor, wanted: Wanted) -> Result<ArrayRef> {
    let mut ranges = Vec::new();
    let mut cursor = at;
    let t = places(t, batch, &mut cursor, wanted, &mut ranges)?;
    let bytes = blob.read_ranges(&ranges)?;
    let mut buffers = Vec::with_capacity(bytes.len());
    for bytes in bytes {
        buffers.push(decompressed(bytes, batch.compression)?);
    }
    let mut cursor = at;
    foreign("arrow", || Ok(make_array(build(&t, batch, &mut cursor, &mut buffers.into_iter())?)))
}

/// Collects the places of the buffers; returns the type with what is left out.
fn places(t: &DataType, batch: &Batch, at: &mut Cursor, wanted: Wanted, out: &mut Vec<std::ops::Range<u64>>) -> Result<DataType> {
    let mut take = |at: &mut Cursor, n: usize| -> Result<()> {
        let end = at.buffer.checked_add(n).filter(|&e| e <= batch.buffers.len());
        let end = end.ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
        out.extend(batch.buffers[at.buffer..end].iter().map(|&(start, len)| start..start + len));
        at.buffer = end;
        Ok(())
    };
    at.node += 1;
    Ok(match t {
        DataType::Null => DataType::Null,
        DataType::Dictionary(keys, _) => {
            take(at, 2)?;
            keys.as_ref().clone()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            take(at, 3)?;
            t.clone()
        }
        DataType::Utf8View | DataType::BinaryView => {
            let n = batch.variadic.get(at.view).ok_or_else(|| Error::corrupt("a batch has too few buffer counts"))?;
            at.view += 1;
            take(at, usize::try_from(*n).ok().and_then(|n| n.checked_add(2)).ok_or_else(|| Error::corrupt("too many buffers"))?)?;
            t.clone()
        }
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
            take(at, if matches!(t, DataType::FixedSizeList(..)) { 1 } else { 2 })?;
            let nested = matches!(f.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
            let item = if wanted == Wanted::Lists && !nested { DataType::Null } else { places(f.data_type(), batch, at, wanted, out)? };
            let item = Arc::new(Field::new(f.name(), item, true));
            match t {
                DataType::List(_) => DataType::List(item),
                DataType::LargeList(_) => DataType::LargeList(item),
                DataType::FixedSizeList(_, n) => DataType::FixedSizeList(item, *n),
                _ => DataType::Null,
            }
        }
        other if other.primitive_width().is_some() || matches!(other, DataType::Boolean | DataType::FixedSizeBinary(_)) => {
            take(at, 2)?;
            other.clone()
        }
        other => return Err(Error::refused(format!("{} is not supported", type_name(other)))),
    })
}

fn build(t: &DataType, batch: &Batch, at: &mut Cursor, buffers: &mut dyn Iterator<Item = Buffer>) -> Result<ArrayData> {
    let (len, null_count) = *batch.nodes.get(at.node).ok_or_else(|| Error::corrupt("a batch has too few arrays"))?;
    at.node += 1;
    let len = usize::try_from(len).map_err(|_| Error::corrupt("an array is too long"))?;
    let mut next = || buffers.next().ok_or_else(|| Error::corrupt("a batch has too few buffers"));
    let mut data = ArrayData::builder(t.clone()).len(len).align_buffers(true);
    if *t == DataType::Null {
        // Its rows cost nothing: bound what they could cost later.
        return data.build().map_err(invalid);
    }
    let validity = next()?;
    if null_count > 0 {
        if validity.len() < len.div_ceil(8) {
            return Err(Error::corrupt(format!("{} bytes of validity bits are too few for {len} rows", validity.len())));
        }
        data = data.nulls(Some(NullBuffer::new(BooleanBuffer::new(validity, 0, len))));
    }
    match t {
        DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => {
            let wide = matches!(t, DataType::LargeUtf8 | DataType::LargeBinary);
            data = data.add_buffer(offsets(next()?, len, wide)).add_buffer(next()?);
        }
        DataType::Utf8View | DataType::BinaryView => {
            let n = batch.variadic.get(at.view).copied().unwrap_or(0);
            at.view += 1;
            data = data.add_buffer(next()?);
            for _ in 0..n {
                data = data.add_buffer(next()?);
            }
        }
        DataType::List(f) | DataType::LargeList(f) => {
            data = data.add_buffer(offsets(next()?, len, matches!(t, DataType::LargeList(_))));
            data = data.add_child_data(build(f.data_type(), batch, at, buffers)?);
        }
        DataType::FixedSizeList(f, _) => data = data.add_child_data(build(f.data_type(), batch, at, buffers)?),
        _ => data = data.add_buffer(next()?),
    }
    data.build().map_err(invalid)
}

fn invalid(e: arrow::error::ArrowError) -> Error {
    Error::corrupt("an array is not valid").because(e)
}

/// Writers may leave out the offsets of an empty array.
fn offsets(buffer: Buffer, len: usize, wide: bool) -> Buffer {
    if len == 0 && buffer.is_empty() { Buffer::from(vec![0u8; if wide { 8 } else { 4 }]) } else { buffer }
}

fn decompressed(bytes: Vec<u8>, codec: Option<CompressionType>) -> Result<Buffer> {
    let Some(codec) = codec else { return Ok(Buffer::from_vec(bytes)) };
    if bytes.is_empty() {
        return Ok(Buffer::from_vec(bytes));
    }
    let Some((head, packed)) = bytes.split_first_chunk::<8>() else { return Err(Error::corrupt("a compressed buffer is truncated")) };
    let len = i64::from_le_bytes(*head);
    if len == -1 {
        return Ok(Buffer::from(packed));
    }
    let wrong = || Error::corrupt(format!("{} compressed bytes cannot unpack to {len} bytes", packed.len()));
    let len = u64::try_from(len).ok().filter(|&n| n / MAX_RATIO <= packed.len() as u64 + 1).ok_or_else(wrong)?;
    let codec = match codec {
        CompressionType::LZ4_FRAME => Compression::Lz4Frame,
        CompressionType::ZSTD => Compression::Zstd,
        other => return Err(Error::refused(format!("the compression {other:?} is not supported"))),
    };
    let out = codec.decode(packed, Limit::exactly(len as usize))?;
    if out.len() as u64 != len {
        return Err(Error::corrupt(format!("a compressed buffer holds {} bytes, expected {len}", out.len())));
    }
    Ok(Buffer::from_vec(out))
}
