//! Arrays of lists: their lengths, lists of one length as rows of elements, and uneven ones.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_select::take::take;

use super::leaves::Level;
use super::values::{failed, fixed_buffer, mask};
use crate::error::{Error, Result, SKIP_COLUMN};
use crate::model::nested::type_name;
use crate::model::{ArrayMeta, Chunk, Values};

/// The offsets and the elements of lists of any length.
fn offsets_and_values(array: &ArrayRef) -> Option<(Vec<i64>, &ArrayRef)> {
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.offsets().iter().map(|&offset| i64::from(offset)).collect();
        return Some((offsets, list.values()));
    }
    let list = array.as_list_opt::<i64>()?;
    Some((list.offsets().to_vec(), list.values()))
}

fn not_a_list(array: &ArrayRef) -> Error {
    let found = type_name(array.data_type());
    Error::internal(format!("a list was expected, found {found}"))
}

/// Looks at the lengths of the lists of one array: `lengths` has an entry for each [`Level::Any`],
/// `None` until a list was met. Returns false where two lists differ, at any level.
///
/// # Errors
/// Corrupt offsets.
pub fn list_lengths(
    array: &ArrayRef,
    levels: &[Level],
    lengths: &mut [Option<u64>],
) -> Result<bool> {
    let mut at = array.clone();
    let mut any = 0;
    for level in levels {
        if let Some(list) = at.as_fixed_size_list_opt() {
            at = list.values().clone();
            continue;
        }
        let (offsets, values) = offsets_and_values(&at).ok_or_else(|| not_a_list(&at))?;
        let expect = match level {
            Level::Fixed(dims) => &mut Some(dims.iter().product::<u64>()),
            Level::Any => {
                any += 1;
                &mut lengths[any - 1]
            }
        };
        for (i, pair) in offsets.windows(2).enumerate() {
            if at.is_null(i) {
                continue;
            }
            let n = (pair[1] - pair[0]) as u64;
            if *expect.get_or_insert(n) != n {
                return Ok(false);
            }
        }
        let (first, last) = (
            offsets.first().copied().unwrap_or(0) as usize,
            offsets.last().copied().unwrap_or(0) as usize,
        );
        at = values.slice(first, last - first);
    }
    Ok(true)
}

/// The first row of an array of lists that holds a null inside a list, at any depth.
pub fn first_inner_null(array: &ArrayRef) -> Option<usize> {
    let (offsets, values) = offsets_and_values(array)?;
    let (first, last) = (*offsets.first()? as usize, *offsets.last()? as usize);
    let values = values.slice(first, last - first);
    let found = if values.null_count() > 0 {
        (0..values.len()).find(|&i| values.is_null(i))
    } else {
        first_inner_null(&values)
    };
    found.map(|i| offsets.partition_point(|&o| o as usize <= first + i).saturating_sub(1))
}

/// The refusal of a null inside a list.
pub fn inner_null(row: u64) -> Error {
    Error::refused(format!("row {row} holds a list with a null in it")).hint(SKIP_COLUMN)
}

/// The first row that is valid itself but has a null among its `per_row` elements.
pub(super) fn first_null_of_valid(
    elements: &NullBuffer,
    per_row: u64,
    rows: Option<&NullBuffer>,
) -> Option<usize> {
    if elements.null_count() == 0 || per_row == 0 {
        return None;
    }
    let per_row = per_row as usize;
    (0..elements.len())
        .filter(|&i| elements.is_null(i))
        .map(|i| i / per_row)
        .find(|&row| rows.is_none_or(|r| row < r.len() && r.is_valid(row)))
}

/// The elements of lists that all have `n` of them (null lists: `n` nulls).
pub(super) fn fixed_values(
    array: &ArrayRef,
    n: u64,
    at_row: impl Fn(usize) -> u64,
    per_row: u64,
) -> Result<ArrayRef> {
    let differs = |i: usize, found: u64| {
        Error::corrupt(format!(
            "row {} has a list of {found} elements, expected {n}",
            at_row(i / per_row.max(1) as usize)
        ))
    };
    if let Some(list) = array.as_fixed_size_list_opt() {
        let length = list.value_length() as u64;
        return if length == n { Ok(list.values().clone()) } else { Err(differs(0, length)) };
    }
    let (offsets, values) = offsets_and_values(array).ok_or_else(|| not_a_list(array))?;
    let Some((&first, &last)) = offsets.first().zip(offsets.last()) else {
        return Ok(values.slice(0, 0));
    };
    if array.null_count() == 0 {
        if let Some(i) = offsets.windows(2).position(|w| (w[1] - w[0]) as u64 != n) {
            return Err(differs(i, (offsets[i + 1] - offsets[i]) as u64));
        }
        return Ok(values.slice(first as usize, (last - first) as usize));
    }
    let mut indices = arrow_array::builder::PrimitiveBuilder::<UInt64Type>::with_capacity(
        array.len().saturating_mul(n as usize).min(1 << 24),
    );
    for (i, w) in offsets.windows(2).enumerate() {
        if array.is_null(i) {
            indices.append_nulls(n as usize);
        } else if (w[1] - w[0]) as u64 != n {
            return Err(differs(i, (w[1] - w[0]) as u64));
        } else {
            for v in w[0]..w[1] {
                indices.append_value(v as u64);
            }
        }
    }
    take(values, &indices.finish(), None).map_err(failed)
}

/// Lists of any length, one level.
pub(super) fn ragged(
    array: &ArrayRef,
    meta: &ArrayMeta,
    index: usize,
    first_row: u64,
) -> Result<Chunk> {
    let rows = array.len();
    let (offsets, values) = offsets_and_values(array).ok_or_else(|| not_a_list(array))?;
    let (first, last) =
        (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let values = values.slice(first as usize, (last - first) as usize);
    let mut offsets: Vec<u64> = offsets.iter().map(|offset| (offset - first) as u64).collect();
    if values.null_count() > 0 {
        for row in 0..rows {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            if array.is_valid(row) && range.into_iter().any(|i| values.is_null(i)) {
                return Err(inner_null(first_row + row as u64));
            }
        }
    }
    let mut buffer = fixed_buffer(&values)?;
    let valid = array.logical_nulls().filter(|n| n.null_count() > 0);
    // Elements behind a null list do not count.
    if let Some(nulls) = &valid
        && (0..rows).any(|r| nulls.is_null(r) && offsets[r] != offsets[r + 1])
    {
        let item = meta.dtype.item_bytes() as usize;
        let (mut packed, mut kept) = (Vec::with_capacity(buffer.len()), vec![0u64]);
        for r in 0..rows {
            if nulls.is_valid(r) {
                packed.extend_from_slice(
                    &buffer[offsets[r] as usize * item..offsets[r + 1] as usize * item],
                );
            }
            kept.push((packed.len() / item) as u64);
        }
        (offsets, buffer) = (kept, Buffer::from_vec(packed));
    }
    Ok(Chunk {
        array: index,
        first_row,
        rows: rows as u64,
        values: Values::Var { offsets, values: buffer },
        valid: valid.as_ref().map(mask),
    })
}
