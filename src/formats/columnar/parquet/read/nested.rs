//! Columns with parts of their own: each leaf is decoded alone, with the lists and structs around
//! it, and the leaves are put together.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, FieldRef};
use arrow_select::concat::concat;
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::errors::{ParquetError, Result as CrateResult};
use parquet::schema::types::{Type as ParquetType, TypePtr};

use super::shared::{NestedColumn, Shared, UNIT_BYTES};
use super::{crate_error, measure, schema};
use crate::arrow_model;
use crate::error::{Context, Error, Result};
use crate::format::Emit;
use crate::model::{Chunk, Values};

impl Shared {
    /// Reads rows of a row group: of every leaf as many as fit together.
    ///
    /// # Errors
    /// Corrupt pages; leaves that disagree; rows that take more memory than there may be.
    pub(super) fn read_nested(
        &self,
        array: usize,
        column: &NestedColumn,
        g: usize,
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let mut at = rows.start;
        while at < rows.end {
            let end = self.nested_unit(column, g, at, rows.end, UNIT_BYTES)?.0;
            let mut leaves: Vec<ArrayRef> = Vec::new();
            for leaf in &column.leaves {
                let mut parts = Vec::new();
                self.read_units(leaf, g, at..end, UNIT_BYTES, &mut |array, _| {
                    parts.push(array);
                    Ok(())
                })?;
                leaves.push(match &parts[..] {
                    [one] => one.clone(),
                    _ => {
                        let parts: Vec<_> = parts.iter().map(|a| a.as_ref()).collect();
                        concat(&parts).map_err(|e| {
                            Error::corrupt("parts of a column do not fit together").because(e)
                        })?
                    }
                });
            }
            let t = column.nested.field.data_type();
            let built = crate::error::foreign("arrow", || {
                arrow_model::assembled(t, &leaves, None, &mut column.dictionaries.iter())
            });
            let values = Values::Nested(built.at_array(&self.metas[array].name)?);
            let (first_row, n) = (self.starts[g] + at, end - at);
            emit(Chunk { array, first_row, rows: n, values, valid: None })?;
            at = end;
        }
        Ok(())
    }

    /// The row behind those from `row` on that take about `bytes` together, and what they take.
    pub(super) fn nested_unit(
        &self,
        column: &NestedColumn,
        g: usize,
        row: u64,
        most: u64,
        bytes: u64,
    ) -> Result<(u64, u64)> {
        let (mut end, mut lead, mut reach, mut page_bytes) = (most, most, 0u64, 0u64);
        for leaf in &column.leaves {
            let (unit, _) = self.unit(leaf, g, row, end, bytes.max(self.share))?;
            end = unit.end.min(row + unit.batch).max(row + 1);
            (lead, reach) = (lead.min(unit.lead), reach.saturating_add(unit.reach));
            page_bytes = page_bytes.max(unit.page_bytes);
        }
        let bytes = bytes.max(self.share).max(measure::worth(reach, self.limit));
        let taken = |end: u64| {
            let each = column.leaves.iter().map(|leaf| self.bytes_of(leaf, g, &(row..end)));
            each.sum::<Result<u64>>()
        };
        let mut sum = taken(end)?;
        if sum > bytes {
            // Every leaf is decoded from the beginning of a page, so the rows reach as far as all
            // leaves together allow, and to the end of what was measured of one of them at least.
            let (mut fits, mut behind) = (lead.clamp(row + 1, end), end);
            while behind - fits > 1 {
                let middle = fits + (behind - fits) / 2;
                if taken(middle)? > bytes { behind = middle } else { fits = middle }
            }
            end = fits;
            sum = taken(end)?;
        }
        Ok((end, sum.saturating_add(page_bytes)))
    }
}

/// What the crate is asked to decode for the `target`th leaf below `field` of a column: the leaf
/// with the lists and structs around it. `path` are the places of the fields that lead to `field`.
///
/// # Errors
/// Those of the crate.
pub(super) fn leaf_levels(
    column: &TypePtr,
    reading: &FieldRef,
    path: &[usize],
    target: usize,
) -> CrateResult<FieldLevels> {
    let (mut before, mut t) = (target, reading.data_type());
    for &i in path {
        let DataType::Struct(fields) = t else { return Err(lost()) };
        before += fields[..i].iter().map(|f| schema::parquet_columns(f.data_type())).sum::<usize>();
        t = fields.get(i).ok_or_else(lost)?.data_type();
    }
    let (leaf, hint) = pruned(column, reading, before)?;
    parquet_to_arrow_field_levels(
        &schema::alone(leaf)?,
        ProjectionMask::all(),
        Some(&vec![hint].into()),
    )
}

/// Where the nulls of a nested column show: for each field, in the order of a walk through its Arrow
/// type, the leaf below it (its place) and its definition levels that mean a null; `None` where
/// there can be none.
pub(super) struct NullPlaces {
    pub(super) found: Vec<Option<(usize, u128)>>,
    leaf: usize,
}

impl NullPlaces {
    /// Of the field that `path` leads to.
    pub(super) fn of(column: &TypePtr, field: &FieldRef, path: &[usize]) -> Option<NullPlaces> {
        let (mut t, mut above) = (column, 0);
        for &i in path {
            above += u32::from(is_optional(t));
            t = t.is_group().then(|| t.get_fields().get(i)).flatten()?;
        }
        let mut places = NullPlaces { found: Vec::new(), leaf: 0 };
        places.walk(t, field, above)?;
        // Where a struct above it is null, so is the column.
        let own = above + u32::from(is_optional(t));
        let below = 1u128.checked_shl(own)?.wrapping_sub(1);
        *places.found.first_mut()? = (below != 0).then_some((0, below));
        Some(places)
    }

    fn walk(&mut self, t: &TypePtr, field: &FieldRef, level: u32) -> Option<()> {
        let null = is_optional(t).then_some(level);
        self.field(null)?;
        let level = level + u32::from(!is_required(t));
        match field.data_type() {
            _ if t.is_primitive() && !is_repeated(t) => self.leaf += 1,
            DataType::List(item) | DataType::LargeList(item) if is_repeated(t) => {
                self.element(t, item, level)?;
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let [middle] = t.get_fields() else { return None };
                match middle.is_group().then(|| middle.get_fields()) {
                    Some([element]) if !is_element(middle, t) => {
                        self.walk(element, item, level + 1)?;
                    }
                    _ => self.element(middle, item, level + 1)?,
                }
            }
            DataType::Map(entries, _) => {
                let [middle] = t.get_fields() else { return None };
                self.element(middle, entries, level + 1)?;
            }
            DataType::Struct(_) => self.fields(t, field, level)?,
            _ => return None,
        }
        Some(())
    }

    fn field(&mut self, null: Option<u32>) -> Option<()> {
        let bit = match null {
            Some(level) => Some((self.leaf, 1u128.checked_shl(level)?)),
            None => None,
        };
        self.found.push(bit);
        Some(())
    }

    /// A repeated field that is the element of its list.
    fn element(&mut self, t: &TypePtr, item: &FieldRef, level: u32) -> Option<()> {
        self.field(None)?;
        if t.is_primitive() {
            self.leaf += 1;
            return Some(());
        }
        self.fields(t, item, level)
    }

    fn fields(&mut self, t: &TypePtr, field: &FieldRef, level: u32) -> Option<()> {
        let DataType::Struct(fields) = field.data_type() else { return None };
        if fields.len() != t.get_fields().len() {
            return None;
        }
        let mut below = fields.iter().zip(t.get_fields());
        below.try_for_each(|(field, t)| self.walk(t, field, level))
    }
}

fn is_optional(t: &TypePtr) -> bool {
    let info = t.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::OPTIONAL
}

fn is_required(t: &TypePtr) -> bool {
    !is_optional(t) && !is_repeated(t)
}

fn lost() -> ParquetError {
    ParquetError::General("a column of this shape is not supported".into())
}

/// A type and its field with the `target`th leaf alone.
fn pruned(t: &TypePtr, field: &FieldRef, target: usize) -> CrateResult<(TypePtr, FieldRef)> {
    if t.is_primitive() {
        return Ok((t.clone(), field.clone()));
    }
    let with = |data_type| Arc::new(field.as_ref().clone().with_data_type(data_type));
    let repeated = is_repeated(t);
    match field.data_type() {
        DataType::Struct(_) => pruned_struct(t, field, target, t.name()),
        DataType::List(item) if repeated => {
            let (group, item) = pruned_struct(t, item, target, t.name())?;
            Ok((group, with(DataType::List(item))))
        }
        DataType::List(item) => {
            let [middle] = t.get_fields() else { return Err(lost()) };
            if middle.is_primitive() {
                return Ok((t.clone(), field.clone()));
            }
            let (middle, item) = match middle.get_fields() {
                [element] if !is_element(middle, t) => {
                    let (element, item) = pruned(element, item, target)?;
                    (group(middle, middle.name(), element)?, item)
                }
                _ => pruned_struct(middle, item, target, "array")?,
            };
            Ok((group(t, t.name(), middle)?, with(DataType::List(item))))
        }
        // As a list of its entries: the crate wants both fields of a map.
        DataType::Map(entries, _) => {
            let [middle] = t.get_fields() else { return Err(lost()) };
            let (middle, entries) = pruned_struct(middle, entries, target, "array")?;
            let list = ParquetType::group_type_builder(t.name())
                .with_repetition(t.get_basic_info().repetition())
                .with_converted_type(ConvertedType::LIST)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![middle]);
            Ok((Arc::new(list.build()?), with(DataType::List(entries))))
        }
        _ => Err(lost()),
    }
}

/// A group with the one field that holds the leaf; its own name may be given another meaning.
fn pruned_struct(
    t: &TypePtr,
    field: &FieldRef,
    target: usize,
    name: &str,
) -> CrateResult<(TypePtr, FieldRef)> {
    let DataType::Struct(fields) = field.data_type() else { return Err(lost()) };
    let mut before = 0;
    for child in fields {
        let n = schema::parquet_columns(child.data_type());
        if target < before + n {
            let same = |t: &&TypePtr| t.name() == child.name();
            let below = t.get_fields().iter().find(same).ok_or_else(lost)?;
            let (below, child) = pruned(below, child, target - before)?;
            let whole = field.as_ref().clone().with_data_type(DataType::Struct(vec![child].into()));
            return Ok((group(t, name, below)?, Arc::new(whole)));
        }
        before += n;
    }
    Err(lost())
}

fn group(like: &TypePtr, name: &str, field: TypePtr) -> CrateResult<TypePtr> {
    let info = like.get_basic_info();
    let mut builder = ParquetType::group_type_builder(name);
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    // A renamed group is the element of a list, whatever it says of itself.
    if name == like.name() {
        builder = builder
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned());
    }
    Ok(Arc::new(builder.with_fields(vec![field]).build()?))
}

fn is_repeated(t: &TypePtr) -> bool {
    let info = t.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

/// Whether the repeated group of one field is the element of the list itself, as old writers have
/// it: <https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists>.
fn is_element(middle: &TypePtr, list: &TypePtr) -> bool {
    middle.name() == "array" || middle.name() == format!("{}_tuple", list.name())
}

/// An error of the crate about a column's shape.
pub(super) fn shape_error(e: ParquetError) -> Error {
    match crate_error(e) {
        e if e.kind() == crate::error::ErrorKind::Refused => e,
        e => Error::refused("a column of this shape is not supported").because(e),
    }
}
