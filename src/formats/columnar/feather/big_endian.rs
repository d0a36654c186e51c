//! Files of big-endian machines: their values are turned once, in a temporary copy. The metadata is
//! little-endian in all files.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, UnionMode};

use super::index::{Batch, Index};
use super::read::Spooled;
use crate::arrow_model::type_name;
use crate::error::{Error, Result};
use crate::model::nested::children;
use crate::storage::{Blob, temporary};

/// Bytes that are turned together: a multiple of every width.
const STEP_BYTES: u64 = 1 << 20;

/// A copy with little-endian values in the same places.
///
/// # Errors
/// Refused where they are compressed; corrupt buffers; reading errors, a full disk.
pub(super) fn little_endian(blob: &dyn Blob, index: &Index) -> Result<Arc<dyn Blob>> {
    let file = Arc::new(temporary::file()?);
    let mut at = 0;
    while at < blob.len() {
        let bytes = blob.read_vec(at, STEP_BYTES.min(blob.len() - at))?;
        file.write_all_at(&bytes, at).map_err(temporary::error)?;
        at += bytes.len() as u64;
    }
    let turn = |batch: &Batch, types: &[&DataType]| -> Result<()> {
        if batch.compression.is_some() {
            return Err(Error::refused("compressed big-endian values are not supported").hint(
                "pyarrow reads them and writes little-endian ones: pyarrow.ipc.open_file or \
                 open_stream, then write_feather",
            ));
        }
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
    Ok(Arc::new(Spooled { file, len: blob.len() }))
}

/// Where a buffer is, and the widths of the numbers in it, one after the other.
type Turn<'a> = &'a mut dyn FnMut((u64, u64), &[usize]) -> Result<()>;

/// Turns the buffers of an array and of those below it.
fn turn_array(
    t: &DataType,
    before_v5: bool,
    buffers: &mut std::slice::Iter<'_, (u64, u64)>,
    turn: Turn<'_>,
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
