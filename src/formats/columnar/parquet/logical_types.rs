//! Logical types of Parquet that Arrow has as extension types (UUID, JSON), in both directions, and
//! those that it lacks.

use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Fields};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::Result;
use parquet::schema::types::{Type as ParquetType, TypePtr};

use crate::model::nested::with_children;

/// Where Arrow keeps the name of an extension type, and its parameters.
pub(super) const EXTENSION: &str = "ARROW:extension:name";
pub(super) const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

const UUID: &str = "arrow.uuid";
const JSON: &str = "arrow.json";

/// The Arrow extension type of a Parquet column.
fn extension(t: &ParquetType) -> Option<&'static str> {
    let info = t.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Uuid), _) => Some(UUID),
        (Some(LogicalType::Json), _) | (None, ConvertedType::JSON) => Some(JSON),
        _ => None,
    }
}

/// The field, marked as Arrow marks UUIDs and JSON where Parquet says that it holds them.
pub(super) fn with_extensions(field: &FieldRef, t: &ParquetType) -> FieldRef {
    let types = below(t, field.data_type());
    if !types.is_empty() {
        let mut types = types.into_iter();
        let mut of = |field: &FieldRef| match types.next() {
            Some(t) => with_extensions(field, t),
            None => field.clone(),
        };
        let t = with_children(field.data_type(), &mut of);
        return Arc::new(field.as_ref().clone().with_data_type(t));
    }
    let Some(name) = t.is_primitive().then(|| extension(t)).flatten() else { return field.clone() };
    let mut metadata = field.metadata().clone();
    metadata.insert(EXTENSION, name);
    metadata.insert(EXTENSION_METADATA, "");
    Arc::new(field.as_ref().clone().with_metadata(metadata))
}

/// The Parquet types of the fields below an Arrow type; none where it has none, or they are other
/// ones.
fn below<'a>(t: &'a ParquetType, arrow: &DataType) -> Vec<&'a ParquetType> {
    let fields = match t.is_group() {
        true => t.get_fields().iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        false => Vec::new(),
    };
    match arrow {
        DataType::Struct(known) if known.len() == fields.len() => fields,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => match fields[..] {
            [middle] if is_list(t) && middle.is_group() => match middle.get_fields() {
                [element] => vec![element.as_ref()],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
        DataType::Map(..) if is_list(t) => fields,
        _ => Vec::new(),
    }
}

/// Whether it is a group around a repeated one, as the specification has lists and maps.
fn is_list(t: &ParquetType) -> bool {
    let repeated = |t: &ParquetType| {
        let info = t.get_basic_info();
        info.has_repetition() && info.repetition() == Repetition::REPEATED
    };
    let [middle] = t.get_fields() else { return false };
    !repeated(t)
        && repeated(middle)
        && !["array", &format!("{}_tuple", t.name())].contains(&middle.name())
}

/// The Parquet schema with UUIDs and JSON where the Arrow fields are marked so.
///
/// # Errors
/// Those of the crate.
pub(super) fn logical_schema(root: &ParquetType, fields: &Fields) -> Result<TypePtr> {
    let types = root.get_fields().iter().zip(fields).map(|(t, field)| logical_type(t, field));
    let types: Vec<TypePtr> = types.collect::<Result<_>>()?;
    Ok(Arc::new(ParquetType::group_type_builder(root.name()).with_fields(types).build()?))
}

fn logical_type(t: &TypePtr, field: &FieldRef) -> Result<TypePtr> {
    if t.is_primitive() {
        return marked_primitive(t, field);
    }
    let arrow = field.data_type();
    let children = crate::model::nested::children(arrow);
    let types = below(t, arrow);
    if types.len() != children.len() {
        return Ok(t.clone());
    }
    let (middle, arrow_below): (Option<&TypePtr>, Vec<&FieldRef>) = match arrow {
        DataType::Struct(_) | DataType::Map(..) => (None, children),
        _ => (t.get_fields().first(), children),
    };
    let same = |a: &TypePtr, b: &TypePtr| Arc::ptr_eq(a, b);
    let old = middle.unwrap_or(t).get_fields();
    let new: Vec<TypePtr> =
        old.iter().zip(arrow_below).map(|(t, f)| logical_type(t, f)).collect::<Result<_>>()?;
    if old.iter().zip(&new).all(|(a, b)| same(a, b)) {
        return Ok(t.clone());
    }
    match middle {
        None => regrouped(t, new),
        Some(middle) => regrouped(t, vec![regrouped(middle, new)?]),
    }
}

/// The group with other fields.
fn regrouped(t: &TypePtr, fields: Vec<TypePtr>) -> Result<TypePtr> {
    let info = t.get_basic_info();
    let mut builder = ParquetType::group_type_builder(t.name())
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_fields(fields);
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    if info.has_id() {
        builder = builder.with_id(Some(info.id()));
    }
    Ok(Arc::new(builder.build()?))
}

fn marked_primitive(t: &TypePtr, field: &FieldRef) -> Result<TypePtr> {
    use DataType as A;
    let values = match field.data_type() {
        A::Dictionary(_, values) => values,
        other => other,
    };
    let name = field.metadata().get(EXTENSION).map(AsRef::<str>::as_ref);
    let (physical, logical) = match (name, values) {
        (Some(UUID), A::FixedSizeBinary(16)) => (Physical::FIXED_LEN_BYTE_ARRAY, LogicalType::Uuid),
        (Some(JSON), A::Utf8 | A::LargeUtf8 | A::Utf8View) => {
            (Physical::BYTE_ARRAY, LogicalType::Json)
        }
        _ => return Ok(t.clone()),
    };
    let builder = ParquetType::primitive_type_builder(t.name(), physical)
        .with_repetition(t.get_basic_info().repetition())
        .with_length(if logical == LogicalType::Uuid { 16 } else { -1 })
        .with_logical_type(Some(logical));
    Ok(Arc::new(builder.build()?))
}

/// The name of a logical type that Arrow has not, in this column or below it.
pub(super) fn lacking(t: &ParquetType) -> Option<&'static str> {
    let info = t.get_basic_info();
    let own = match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Enum), _) | (None, ConvertedType::ENUM) => Some("ENUM"),
        (Some(LogicalType::Bson), _) | (None, ConvertedType::BSON) => Some("BSON"),
        (Some(LogicalType::Time(time)), _) if time.is_adjusted_to_u_t_c => Some("TIME in UTC"),
        (Some(LogicalType::Variant(_)), _) => Some("VARIANT"),
        (Some(LogicalType::Geometry(_)), _) => Some("GEOMETRY"),
        (Some(LogicalType::Geography(_)), _) => Some("GEOGRAPHY"),
        _ => None,
    };
    let fields = if t.is_group() { t.get_fields() } else { &[] };
    own.or_else(|| fields.iter().find_map(|t| lacking(t)))
}
