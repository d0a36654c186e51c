//! Files of big-endian machines: their values are turned once, in a temporary copy. The metadata is
//! little-endian in all files.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_schema::{DataType, IntervalUnit, UnionMode};

use super::body::{decompressed, unpacked_bytes};
use super::index::{Batch, Index};
use super::spooled::Spooled;
use crate::arrow_model::{MemoryLimit, type_name};
use crate::error::{Error, Result};
use crate::model::nested::children;
use crate::storage::{Blob, temporary};

/// Bytes that are turned together: a multiple of every width.
const STEP_BYTES: u64 = 1 << 20;

/// A copy with little-endian values in the same places; compressed buffers are unpacked behind all
/// else, and the index tells so.
///
/// # Errors
/// Refused where a buffer takes more memory than there may be; corrupt buffers; reading errors, a
/// full disk.
pub(super) fn little_endian(
    blob: &dyn Blob,
    index: &mut Index,
    limit: MemoryLimit,
) -> Result<Arc<dyn Blob>> {
    let file = Arc::new(temporary::file()?);
    let mut end = 0;
    while end < blob.len() {
        let bytes = blob.read_vec(end, STEP_BYTES.min(blob.len() - end))?;
        file.write_all_at(&bytes, end).map_err(temporary::error)?;
        end += bytes.len() as u64;
    }
    let batches = index.batches.iter_mut();
    for batch in batches.chain(index.dictionaries.iter_mut().map(|d| &mut d.values)) {
        unpack(blob, batch, limit, &file, &mut end)?;
    }
    let index = &*index;
    let turn = |batch: &Batch, types: &[&DataType]| -> Result<()> {
        let mut buffers = batch.buffers.iter();
        for t in types {
            turn_array(t, batch.before_v5, &mut buffers, &mut |(start, len), widths| {
                turn_buffer(&file, start, len, widths)
            })?;
        }
        Ok(())
    };
    let types: Vec<&DataType> = index.schema.fields().iter().map(|f| f.data_type()).collect();
    index.batches.iter().try_for_each(|batch| turn(batch, &types))?;
    for dictionary in &index.dictionaries {
        let of = index.ids.iter().find(|(_, id)| **id == dictionary.id).map(|(path, _)| path);
        let mut t = of.and_then(|path| types.get(*path.first()?)).copied();
        for &place in of.into_iter().flat_map(|path| &path[1..]) {
            t = t.and_then(|t| children(t).get(place).map(|f| f.data_type()));
        }
        let Some(DataType::Dictionary(_, values)) = t else {
            return Err(Error::corrupt(format!("no column has the dictionary {}", dictionary.id)));
        };
        turn(&dictionary.values, &[values])?;
    }
    Ok(Arc::new(Spooled { file, len: end }))
}

/// Unpacks the buffers of a batch to the end of the file.
fn unpack(
    blob: &dyn Blob,
    batch: &mut Batch,
    limit: MemoryLimit,
    file: &std::fs::File,
    end: &mut u64,
) -> Result<()> {
    let Some(codec) = batch.compression.take() else { return Ok(()) };
    for (start, len) in &mut batch.buffers {
        let head = blob.read_vec(*start, (*len).min(8))?;
        limit.check("a buffer", unpacked_bytes(&head, *len)?.saturating_add(*len))?;
        let bytes = decompressed(blob.read_vec(*start, *len)?, codec)?;
        file.write_all_at(&bytes, *end).map_err(temporary::error)?;
        (*start, *len) = (*end, bytes.len() as u64);
        *end += *len;
    }
    Ok(())
}

/// Where a buffer is, and the widths of the numbers in it, one after the other.
type SwapBytes<'a> = &'a mut dyn FnMut((u64, u64), &[usize]) -> Result<()>;

/// Turns the buffers of an array and of those below it.
fn turn_array(
    t: &DataType,
    before_v5: bool,
    buffers: &mut std::slice::Iter<'_, (u64, u64)>,
    turn: SwapBytes<'_>,
) -> Result<()> {
    use DataType as A;
    let valid: &[usize] = &[];
    let widths: Vec<&[usize]> = match t {
        A::Null | A::RunEndEncoded(..) => vec![],
        A::Boolean | A::FixedSizeBinary(_) => vec![valid, &[]],
        A::Utf8 | A::Binary => vec![valid, &[4], &[]],
        A::LargeUtf8 | A::LargeBinary => vec![valid, &[8], &[]],
        A::List(_) | A::Map(..) => vec![valid, &[4]],
        A::LargeList(_) => vec![valid, &[8]],
        A::ListView(_) => vec![valid, &[4], &[4]],
        A::LargeListView(_) => vec![valid, &[8], &[8]],
        A::FixedSizeList(..) | A::Struct(_) => vec![valid],
        A::Union(_, mode) => {
            let mut widths: Vec<&[usize]> = if before_v5 { vec![valid, &[]] } else { vec![&[]] };
            widths.extend((*mode == UnionMode::Dense).then_some(&[4][..]));
            widths
        }
        A::Interval(IntervalUnit::MonthDayNano) => vec![valid, &[4, 4, 8]],
        A::Interval(IntervalUnit::DayTime) => vec![valid, &[4, 4]],
        A::Dictionary(keys, _) => return turn_array(keys, before_v5, buffers, turn),
        other => match other.primitive_width() {
            Some(1) => vec![valid, &[]],
            Some(2) => vec![valid, &[2]],
            Some(4) => vec![valid, &[4]],
            Some(8) => vec![valid, &[8]],
            Some(16) => vec![valid, &[16]],
            Some(32) => vec![valid, &[32]],
            _ => {
                let what = format!("big-endian {} is not supported", type_name(other));
                return Err(Error::refused(what));
            }
        },
    };
    for widths in widths {
        let place = buffers.next().ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
        if !widths.is_empty() {
            turn(*place, widths)?;
        }
    }
    children(t).into_iter().try_for_each(|f| turn_array(f.data_type(), before_v5, buffers, turn))
}

fn turn_buffer(file: &std::fs::File, start: u64, len: u64, widths: &[usize]) -> Result<()> {
    let item: usize = widths.iter().sum();
    let mut at = 0;
    while at < len {
        let mut bytes = vec![0; STEP_BYTES.min(len - at) as usize];
        file.read_exact_at(&mut bytes, start + at).map_err(Error::reading)?;
        for item in bytes.chunks_exact_mut(item) {
            let mut rest = item;
            for &width in widths {
                let (number, behind) = rest.split_at_mut(width);
                number.reverse();
                rest = behind;
            }
        }
        file.write_all_at(&bytes, start + at).map_err(temporary::error)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
