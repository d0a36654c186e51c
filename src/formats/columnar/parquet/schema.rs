//! The Parquet schema, refined by the Arrow schema that writers keep in the footer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Repetition;
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType, TypePtr};

use super::logical_types::{EXTENSION, EXTENSION_METADATA};
use crate::model::nested::with_children;

/// A schema of this column alone.
///
/// # Errors
/// Those of the crate.
pub(super) fn alone(column: TypePtr) -> Result<SchemaDescriptor> {
    let root = ParquetType::group_type_builder("schema").with_fields(vec![column]).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

/// What the crate is asked to decode for one leaf: the column without the other fields of its
/// structs. `path` are the places of the fields that lead to it, `reading` is the column's type.
///
/// # Errors
/// Those of the crate.
pub(super) fn levels(column: &TypePtr, reading: &FieldRef, path: &[usize]) -> Result<FieldLevels> {
    let lost = || ParquetError::General("a struct lacks a field".into());
    let (mut groups, mut structs) = (Vec::new(), Vec::new());
    let (mut at, mut field) = (column, reading);
    for &i in path {
        let DataType::Struct(fields) = field.data_type() else { return Err(lost()) };
        groups.push(at);
        structs.push(field);
        field = fields.get(i).ok_or_else(lost)?;
        // Groups without columns have no field in Arrow.
        let same = |t: &&TypePtr| t.name() == field.name();
        at = at
            .get_fields()
            .get(i)
            .filter(same)
            .or_else(|| at.get_fields().iter().find(same))
            .ok_or_else(lost)?;
    }
    let (mut leaf, mut hint) = (at.clone(), field.clone());
    for (group, field) in groups.into_iter().zip(structs).rev() {
        let info = group.get_basic_info();
        let narrowed = ParquetType::group_type_builder(group.name())
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(vec![leaf]);
        leaf = Arc::new(narrowed.build()?);
        hint = Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(vec![hint].into())));
    }
    parquet_to_arrow_field_levels(&alone(leaf)?, ProjectionMask::all(), Some(&vec![hint].into()))
}

/// The field as it is read: Parquet's type, or the recorded Arrow type where that only refines it.
pub(super) fn refined(base: &FieldRef, recorded: Option<&FieldRef>) -> FieldRef {
    let Some(recorded) = recorded else { return plain(base) };
    let Some(t) = refined_type(base.data_type(), recorded.data_type()) else {
        return plain_with(base, recorded);
    };
    let mut metadata = recorded.metadata().clone();
    for key in [EXTENSION, EXTENSION_METADATA] {
        if let Some(value) = base.metadata().get(key).filter(|_| !metadata.contains_key(key)) {
            metadata.insert(key, value.clone());
        }
    }
    let mut field = Field::new(base.name(), t, base.is_nullable()).with_metadata(metadata);
    if let Some(ordered) = recorded.dict_is_ordered() {
        field = field.with_dict_is_ordered(ordered);
    }
    Arc::new(field)
}

/// Parquet's type, with what was recorded of the column beside its type.
fn plain_with(base: &FieldRef, recorded: &FieldRef) -> FieldRef {
    let field = plain(base);
    let mut metadata = recorded.metadata().clone();
    // The meaning of another type.
    [EXTENSION, EXTENSION_METADATA].iter().for_each(|key| _ = metadata.remove(key));
    metadata.extend(field.metadata().iter().map(|(key, value)| (key.clone(), value.clone())));
    Arc::new(field.as_ref().clone().with_metadata(metadata))
}

/// Without the crate's own metadata (`PARQUET:field_id`).
fn plain(base: &FieldRef) -> FieldRef {
    let t = with_children(base.data_type(), &mut plain);
    let mut metadata = base.metadata().clone();
    metadata.remove("PARQUET:field_id");
    Arc::new(base.as_ref().clone().with_data_type(t).with_metadata(metadata))
}

fn refined_type(base: &DataType, recorded: &DataType) -> Option<DataType> {
    use DataType as A;
    if base == recorded {
        return Some(base.clone());
    }
    Some(match (base, recorded) {
        (A::Struct(fields), A::Struct(named)) => {
            let mut by_name = HashMap::new();
            named.iter().for_each(|n| _ = by_name.entry(n.name()).or_insert(n));
            A::Struct(
                fields
                    .iter()
                    .map(|f| refined(f, by_name.get(f.name()).copied()))
                    .collect::<Fields>(),
            )
        }
        (A::List(item), A::List(other)) => A::List(item_of(item, other)),
        (A::List(item), A::LargeList(other)) => A::LargeList(item_of(item, other)),
        (A::List(item), A::FixedSizeList(other, n)) => A::FixedSizeList(item_of(item, other), *n),
        (A::List(item), A::ListView(other)) => A::ListView(item_of(item, other)),
        (A::List(item), A::LargeListView(other)) => A::LargeListView(item_of(item, other)),
        (A::Map(entries, _), A::Map(other, sorted)) => {
            let (A::Struct(pair), A::Struct(others)) = (entries.data_type(), other.data_type())
            else {
                return None;
            };
            // Parquet has names of its own for them.
            let pair: Fields = pair.iter().zip(others).map(|(f, o)| item_of(f, o)).collect();
            let entries = Field::new(other.name(), A::Struct(pair), entries.is_nullable())
                .with_metadata(other.metadata().clone());
            A::Map(Arc::new(entries), *sorted)
        }
        (A::Utf8, A::LargeUtf8 | A::Utf8View) => recorded.clone(),
        (A::Binary, A::LargeBinary | A::BinaryView | A::Utf8 | A::LargeUtf8 | A::Utf8View) => {
            recorded.clone()
        }
        (A::Timestamp(u, Some(_)), A::Timestamp(_, Some(zone))) => {
            A::Timestamp(*u, Some(zone.clone()))
        }
        (A::Int64, A::Duration(_) | A::Date64) => recorded.clone(),
        (A::Int64, A::Timestamp(TimeUnit::Second, _)) => recorded.clone(),
        (A::Int32, A::Time32(TimeUnit::Second)) => recorded.clone(),
        (A::Decimal128(p, s), A::Decimal32(q, t) | A::Decimal64(q, t) | A::Decimal256(q, t))
            if p == q && s == t =>
        {
            recorded.clone()
        }
        (A::Utf8 | A::Binary, A::Dictionary(keys, values)) if keys.is_dictionary_key_type() => {
            A::Dictionary(keys.clone(), Box::new(refined_type(base, values)?))
        }
        _ => return None,
    })
}

/// The item of a list: named as the recorded schema has it.
fn item_of(base: &FieldRef, recorded: &FieldRef) -> FieldRef {
    let item = refined(base, Some(recorded));
    Arc::new(item.as_ref().clone().with_name(recorded.name()))
}

/// How many of the first `depth` groups on a way through a column may be null. `path` are the places
/// of the fields, the column's own first.
pub(super) fn optional_groups(column: &TypePtr, depth: usize, path: &[usize]) -> u32 {
    let (mut at, mut found) = (column, 0);
    for i in path.iter().skip(1).take(depth) {
        let info = at.get_basic_info();
        found += u32::from(info.has_repetition() && info.repetition() == Repetition::OPTIONAL);
        match at.is_group().then(|| at.get_fields().get(*i)).flatten() {
            Some(below) => at = below,
            None => break,
        }
    }
    found
}

/// How many Parquet columns an Arrow type has.
pub(super) fn parquet_columns(t: &DataType) -> usize {
    match t {
        DataType::Struct(fields) => fields.iter().map(|f| parquet_columns(f.data_type())).sum(),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => parquet_columns(f.data_type()),
        _ => 1,
    }
}

/// The types that the crate is asked for: what Parquet says, but for dictionaries, which are
/// decoded as such.
pub(super) fn reading_type(base: &DataType, refined: &DataType) -> DataType {
    use DataType as A;
    match (base, refined) {
        (A::Struct(fields), A::Struct(others)) => {
            let read = |(f, o): (&FieldRef, &FieldRef)| {
                Arc::new(
                    f.as_ref().clone().with_data_type(reading_type(f.data_type(), o.data_type())),
                )
            };
            A::Struct(fields.iter().zip(others).map(read).collect())
        }
        (A::Utf8 | A::Binary, A::Dictionary(_, values)) => {
            let binary = matches!(**values, A::Binary | A::LargeBinary | A::BinaryView);
            A::Dictionary(Box::new(A::Int32), Box::new(if binary { A::Binary } else { A::Utf8 }))
        }
        (A::Binary, A::Utf8 | A::LargeUtf8 | A::Utf8View) => A::Utf8,
        _ => base.clone(),
    }
}

/// The field with microseconds where its Parquet columns (`next` and following) are among `micros`.
pub(super) fn with_micros(field: &FieldRef, next: &mut usize, micros: &HashSet<usize>) -> FieldRef {
    let t = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| with_micros(f, next, micros)).collect())
        }
        DataType::List(item) => DataType::List(with_micros(item, next, micros)),
        DataType::Timestamp(_, zone) if micros.contains(next) => {
            *next += 1;
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        other => {
            *next += parquet_columns(other);
            other.clone()
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(t))
}
