//! Chunks of the model → Arrow arrays.

use arrow_array::{ArrayRef, make_array};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::elements::{elements, invalid, joined, narrow, null_buffer};
use super::nested::{decoded, joined_nested};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Chunk, Logical};

/// The rows of `chunks` as an Arrow array of type `target`, which was chosen for `meta`.
///
/// # Errors
/// Values that the type cannot hold.
pub fn array(meta: &ArrayMeta, target: &DataType, chunks: &[Chunk]) -> Result<ArrayRef> {
    if let Logical::Nested(nested) = &meta.logical {
        let array = joined_nested(chunks, nested)?;
        return if array.data_type() == target { Ok(array) } else { decoded(&array, nested) };
    }
    let rows: usize = chunks.iter().map(|c| c.rows as usize).sum();
    let nulls = null_buffer(chunks, rows);
    if let (DataType::List(_) | DataType::LargeList(_), Logical::List) = (target, &meta.logical) {
        return ragged(meta, target, chunks, rows, nulls);
    }
    if matches!(target, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) {
        let per_row = crate::model::checked_product(meta.element_dims())
            .ok_or_else(|| Error::refused("rows are too large"))?;
        let mut inner = target;
        while let DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) = inner
        {
            inner = f.data_type();
        }
        let elements = elements(meta, inner, chunks, rows.saturating_mul(per_row as usize), None)?;
        return wrap(elements, target, meta.element_dims(), rows, nulls);
    }
    elements(meta, target, chunks, rows, nulls)
}

/// Lists of equal lengths around `elements`.
fn wrap(
    elements: ArrayRef,
    target: &DataType,
    dims: &[u64],
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let too_long = || Error::refused("lists are too long for this type");
    let (field, n, rest) = match target {
        DataType::FixedSizeList(f, n) => {
            // A tensor folds several dimensions into one level.
            let mut used = 0;
            let mut product = 1u64;
            while used < dims.len() && (used == 0 || product != *n as u64) {
                product = product.saturating_mul(dims[used]);
                used += 1;
            }
            if product != *n as u64 {
                return Err(Error::internal(format!(
                    "dimensions {dims:?} do not make lists of {n}"
                )));
            }
            (f, *n as u64, &dims[used..])
        }
        DataType::List(f) | DataType::LargeList(f) => {
            (f, dims.first().copied().unwrap_or(0), dims.get(1..).unwrap_or_default())
        }
        _ => return Ok(elements),
    };
    let len = rows.checked_mul(n as usize).ok_or_else(too_long)?;
    let child = wrap(elements, field.data_type(), rest, len, None)?;
    let mut data = ArrayData::builder(target.clone()).len(rows).nulls(nulls);
    match target {
        DataType::List(_) => {
            let n = i32::try_from(n).map_err(|_| too_long())?;
            let last = i32::try_from(len).map_err(|_| too_long())?;
            let offsets: Vec<i32> =
                if n == 0 { vec![0; rows + 1] } else { (0..=last).step_by(n as usize).collect() };
            data = data.add_buffer(Buffer::from_vec(offsets));
        }
        DataType::LargeList(_) => {
            data = data.add_buffer(Buffer::from_vec(
                (0..=rows as i64).map(|i| i * n as i64).collect::<Vec<i64>>(),
            ));
        }
        _ => {}
    }
    Ok(make_array(data.add_child_data(child.to_data()).build().map_err(invalid)?))
}

fn ragged(
    meta: &ArrayMeta,
    target: &DataType,
    chunks: &[Chunk],
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let item = meta.dtype.item_bytes();
    let (offsets, values) = joined(chunks, rows, item)?;
    let (DataType::List(field) | DataType::LargeList(field)) = target else {
        return Err(Error::internal("a list type was expected"));
    };
    let plain = ArrayMeta { logical: Logical::Plain, inner: Vec::new(), ..meta.clone() };
    let count = values.len() as u64 / item;
    let child = elements(
        &plain,
        field.data_type(),
        &[Chunk::fixed(0, 0, count, values)],
        count as usize,
        None,
    )?;
    let offsets = match target {
        DataType::List(_) => narrow(&offsets)?,
        _ => Buffer::from_vec(offsets),
    };
    let data = ArrayData::builder(target.clone())
        .len(rows)
        .nulls(nulls)
        .add_buffer(offsets)
        .add_child_data(child.to_data());
    Ok(make_array(data.build().map_err(invalid)?))
}
