//! Arrow arrays → chunks of the model.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::NullBuffer;

use super::dictionary::{Dictionaries, dictionary_values};
use super::leaves::{LeafType, Level};
use super::lists::{first_null_of_valid, fixed_values, inner_null, ragged};
use super::values::{blank, decimal_buffer, failed, fixed_buffer, mask, var_values};
use crate::error::{Error, Result, SKIP_COLUMN};
use crate::model::{ArrayMeta, Chunk, Logical, Values};

/// The leaf of a column's array. `path` are the fields of its structs. Where a struct is null as a
/// whole, so is the leaf, if it `merges`.
///
/// # Errors
/// Refused where a struct itself is null, and the leaf alone could not tell.
pub fn descend(array: &ArrayRef, path: &[usize], merges: bool) -> Result<ArrayRef> {
    let mut at = array.clone();
    let mut above: Option<NullBuffer> = None;
    for &field in path {
        let Some(fields) = at.as_struct_opt() else {
            return Err(Error::internal("a struct was expected"));
        };
        if merges {
            above = NullBuffer::union(above.as_ref(), fields.nulls());
        } else if fields.null_count() > 0 {
            let row = (0..fields.len()).find(|&i| fields.is_null(i)).unwrap_or(0);
            return Err(null_struct().because(Error::refused(format!("row {row} of this part"))));
        }
        at = fields
            .columns()
            .get(field)
            .cloned()
            .ok_or_else(|| Error::internal("a struct lacks a field"))?;
    }
    if above.as_ref().is_some_and(|nulls| nulls.null_count() > 0) && !at.data_type().is_null() {
        let nulls = NullBuffer::union(above.as_ref(), at.nulls());
        let data = at.to_data().into_builder().nulls(nulls);
        at = make_array(data.build().map_err(failed)?);
    }
    Ok(at)
}

/// The refusal of a struct that is null as a whole.
pub fn null_struct() -> Error {
    Error::refused("a struct of this column is null as a whole, which its fields cannot express")
        .hint(SKIP_COLUMN)
}

/// Turns the array of a leaf into a chunk. `meta` is the plan's array: its inner dimensions are
/// enforced.
///
/// # Errors
/// Nulls inside lists, lists of another length, corrupt arrays.
pub fn chunk(
    array: &ArrayRef,
    leaf: &LeafType,
    meta: &ArrayMeta,
    dictionary: Option<&Dictionaries>,
    index: usize,
    first_row: u64,
) -> Result<Chunk> {
    let rows = array.len();
    let at_row = |row: usize| first_row + row as u64;
    if matches!(meta.logical, Logical::List) {
        return ragged(array, meta, index, first_row);
    }
    let nulls = array.logical_nulls().filter(|n| n.null_count() > 0);
    let mut at = array.clone();
    let mut dims = meta.inner.iter().copied();
    let mut per_row = 1u64;
    for (depth, level) in leaf.levels.iter().enumerate() {
        let n: u64 = match level {
            Level::Fixed(d) => dims.by_ref().take(d.len()).product(),
            Level::Any => dims.next().unwrap_or(0),
        };
        if depth > 0
            && let Some(level_nulls) = at.logical_nulls()
            && let Some(row) = first_null_of_valid(&level_nulls, per_row, nulls.as_ref())
        {
            return Err(inner_null(at_row(row)));
        }
        at = fixed_values(&at, n, at_row, per_row)?;
        per_row = per_row.checked_mul(n).ok_or_else(|| Error::corrupt("lists are too long"))?;
        if at.len() as u64 != rows as u64 * per_row {
            return Err(Error::corrupt(format!(
                "{rows} rows of {per_row} elements have {} elements in all",
                at.len()
            )));
        }
    }
    if !leaf.levels.is_empty()
        && let Some(element_nulls) = at.logical_nulls()
        && let Some(row) = first_null_of_valid(&element_nulls, per_row, nulls.as_ref())
    {
        return Err(inner_null(at_row(row)));
    }
    let valid = nulls.as_ref().map(mask);
    let (values, valid) = match &meta.logical {
        Logical::Text | Logical::Binary => (var_values(&at)?, valid),
        Logical::Dictionary { .. } => dictionary_values(&at, meta.dtype, dictionary, first_row)?,
        _ => {
            let buffer = match meta.logical.decimals() {
                Some(decimals) => decimal_buffer(&at, decimals)?,
                None => fixed_buffer(&at)?,
            };
            let row_bytes = meta.row_bytes()? as usize;
            (Values::Fixed(blank(buffer, row_bytes, meta, nulls.as_ref())), valid)
        }
    };
    Ok(Chunk { array: index, first_row, rows: rows as u64, values, valid })
}
