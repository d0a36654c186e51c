//! The leaves of a schema: what its columns hold, without structs and lists around them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit as ArrowUnit};

use crate::error::{Error, Result, SKIP_COLUMN};
use crate::model::nested::type_name;
use crate::model::{ArrayMeta, Categories, CategoryKind, Decimals, Dtype, Logical, TimeUnit};

/// A level of lists around an element.
#[derive(Clone, Debug, PartialEq)]
pub enum Level {
    /// Every row has these dimensions, says the schema.
    Fixed(Vec<u64>),
    /// Only the offsets tell.
    Any,
}

/// What the leaf of a column holds.
#[derive(Clone, Debug)]
pub struct LeafType {
    /// Lists around the element, the outermost first.
    pub levels: Vec<Level>,
    /// The Arrow type of the elements.
    pub element: DataType,
    /// The model's type of the elements.
    pub dtype: Dtype,
    /// What they mean (never [`Logical::List`]).
    pub logical: Logical,
}

impl LeafType {
    /// That of a column whose rows are not read as numbers or texts.
    pub fn unread(element: DataType) -> LeafType {
        LeafType { levels: Vec::new(), element, dtype: Dtype::U8, logical: Logical::Plain }
    }
}

/// A column without its structs: one logical array.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The index of the column, then of the fields of its structs.
    pub path: Vec<usize>,
    /// `column.field`.
    pub name: String,
    /// The leaf's own field.
    pub field: FieldRef,
    /// What it holds, or why it cannot be read.
    pub holds: Result<LeafType, Arc<Error>>,
}

/// The deepest nesting that is followed.
pub(super) const MAX_DEPTH: usize = 32;

/// The leaves of a schema, in order: one logical array each. The columns of `whole` (their places)
/// are leaves themselves.
pub fn leaves(schema: &Schema, whole: &HashSet<usize>) -> Vec<Leaf> {
    let mut found = Vec::new();
    for (i, field) in schema.fields().iter().enumerate() {
        if whole.contains(&i) {
            found.push(leaf(field, field.name().clone(), vec![i]));
        } else {
            walk(field, field.name().clone(), vec![i], &mut found);
        }
    }
    found
}

fn leaf(field: &FieldRef, name: String, path: Vec<usize>) -> Leaf {
    Leaf { path, name, field: field.clone(), holds: leaf_type(field).map_err(Arc::new) }
}

/// The fields of a struct whose leaves are arrays of their own; `depth` counts the columns and
/// structs down to it.
pub fn fields_below(field: &Field, depth: usize) -> Option<&Fields> {
    match field.data_type() {
        DataType::Struct(children) if !children.is_empty() && depth < MAX_DEPTH => Some(children),
        _ => None,
    }
}

fn walk(field: &FieldRef, name: String, path: Vec<usize>, found: &mut Vec<Leaf>) {
    if let Some(children) = fields_below(field, path.len()) {
        for (i, child) in children.iter().enumerate() {
            let mut path = path.clone();
            path.push(i);
            walk(child, format!("{name}.{}", child.name()), path, found);
        }
        return;
    }
    found.push(leaf(field, name, path));
}

/// What a field without structs holds.
pub fn leaf_type(field: &Field) -> Result<LeafType> {
    let mut levels = Vec::new();
    let mut at = field;
    loop {
        match at.data_type() {
            DataType::List(item) | DataType::LargeList(item) => {
                levels.push(Level::Any);
                at = item;
            }
            DataType::FixedSizeList(item, n) => {
                let n = u64::try_from(*n)
                    .map_err(|_| Error::corrupt(format!("a fixed-size list has {n} elements")))?;
                levels.push(Level::Fixed(tensor_shape(at, n)?.unwrap_or_else(|| vec![n])));
                at = item;
            }
            _ => break,
        }
        if levels.len() > MAX_DEPTH {
            return Err(Error::refused(format!(
                "lists nested more than {MAX_DEPTH} deep are not supported"
            )));
        }
    }
    let element = at.data_type().clone();
    let (dtype, logical) = element_type(&element)?;
    if !levels.is_empty() && (logical.is_var() || matches!(logical, Logical::Dictionary { .. })) {
        return Err(Error::refused(format!("lists of {} are not supported", type_name(&element)))
            .hint(SKIP_COLUMN));
    }
    Ok(LeafType { levels, element, dtype, logical })
}

/// The shape of a `arrow.fixed_shape_tensor` extension field over lists of `n`.
fn tensor_shape(field: &Field, n: u64) -> Result<Option<Vec<u64>>> {
    if field.metadata().get("ARROW:extension:name").map(String::as_str)
        != Some("arrow.fixed_shape_tensor")
    {
        return Ok(None);
    }
    let text = field.metadata().get("ARROW:extension:metadata").map_or("{}", String::as_str);
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| {
        Error::corrupt("the metadata of a fixed_shape_tensor is not JSON").because(e)
    })?;
    if let Some(order) = json.get("permutation").and_then(|p| p.as_array())
        && order.iter().enumerate().any(|(i, p)| p.as_u64() != Some(i as u64))
    {
        return Err(Error::refused(format!(
            "a fixed_shape_tensor with the permutation {} is not supported",
            json["permutation"]
        )));
    }
    let shape: Option<Vec<u64>> = json
        .get("shape")
        .and_then(|s| s.as_array())
        .and_then(|s| s.iter().map(|d| d.as_u64()).collect());
    let shape = shape.ok_or_else(|| Error::corrupt("a fixed_shape_tensor has no shape"))?;
    if crate::model::checked_product(&shape) != Some(n) {
        return Err(Error::corrupt(format!(
            "a fixed_shape_tensor of shape {shape:?} over lists of {n}"
        )));
    }
    Ok(Some(shape))
}

/// The model's unit.
pub fn unit(unit: &ArrowUnit) -> TimeUnit {
    TimeUnit::new(match unit {
        ArrowUnit::Second => "s",
        ArrowUnit::Millisecond => "ms",
        ArrowUnit::Microsecond => "us",
        ArrowUnit::Nanosecond => "ns",
    })
}

/// Arrow's unit, where it has it.
pub fn arrow_unit(unit: &TimeUnit) -> Option<ArrowUnit> {
    if unit.count != 1 {
        return None;
    }
    Some(match unit.base.as_str() {
        "s" => ArrowUnit::Second,
        "ms" => ArrowUnit::Millisecond,
        "us" => ArrowUnit::Microsecond,
        "ns" => ArrowUnit::Nanosecond,
        _ => return None,
    })
}

/// The model type of an element that is neither a list nor a struct.
///
/// # Errors
/// Refused: types that the model lacks.
pub fn element_type(t: &DataType) -> Result<(Dtype, Logical)> {
    use DataType as A;
    Ok(match t {
        A::Boolean => (Dtype::Bool, Logical::Plain),
        A::Int8 => (Dtype::I8, Logical::Plain),
        A::Int16 => (Dtype::I16, Logical::Plain),
        A::Int32 => (Dtype::I32, Logical::Plain),
        A::Int64 => (Dtype::I64, Logical::Plain),
        A::UInt8 => (Dtype::U8, Logical::Plain),
        A::UInt16 => (Dtype::U16, Logical::Plain),
        A::UInt32 => (Dtype::U32, Logical::Plain),
        A::UInt64 => (Dtype::U64, Logical::Plain),
        A::Float16 => (Dtype::F16, Logical::Plain),
        A::Float32 => (Dtype::F32, Logical::Plain),
        A::Float64 => (Dtype::F64, Logical::Plain),
        A::Timestamp(u, zone) => {
            (Dtype::I64, Logical::Timestamp(unit(u), zone.as_ref().map(|z| z.to_string())))
        }
        A::Date32 => (Dtype::I32, Logical::Date32),
        A::Date64 => (Dtype::I64, Logical::Date64),
        A::Time32(u) => (Dtype::I32, Logical::Time32(unit(u))),
        A::Time64(u) => (Dtype::I64, Logical::Time64(unit(u))),
        A::Duration(u) => (Dtype::I64, Logical::Duration(unit(u))),
        A::Utf8 | A::LargeUtf8 | A::Utf8View | A::Null => (Dtype::U8, Logical::Text),
        A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => {
            (Dtype::U8, Logical::Binary)
        }
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
            let bits = 8 * t.primitive_width().unwrap_or(16) as u16;
            let logical = Logical::Decimal { precision: *p, scale: *s, bits };
            (Decimals::of(*p, *s).dtype(), logical)
        }
        A::Dictionary(keys, values) => {
            let (dtype, _) = element_type(keys)?;
            if !dtype.is_integer() {
                return Err(Error::corrupt(format!(
                    "a dictionary has keys of {}",
                    type_name(keys)
                )));
            }
            let (value, logical) = element_type(values)?;
            let kind = match &logical {
                Logical::Text if **values != A::Null => CategoryKind::Text,
                Logical::Binary => CategoryKind::Binary,
                Logical::Plain => CategoryKind::Fixed(value, None),
                l if l.is_time() || l.decimals().is_some() => CategoryKind::Fixed(
                    value,
                    Some(ArrayMeta::column("", value, l.clone(), None).type_name()),
                ),
                _ => {
                    return Err(Error::refused(format!(
                        "a dictionary of {} is not supported",
                        type_name(values)
                    )));
                }
            };
            (
                dtype,
                Logical::Dictionary {
                    categories: Categories::new(kind, Vec::new()),
                    ordered: false,
                },
            )
        }
        other => {
            return Err(Error::refused(format!(
                "a column of type {} is not supported",
                type_name(other)
            ))
            .hint(SKIP_COLUMN));
        }
    })
}

/// Sets whether the order of a dictionary's categories means something (kept on the field, not in
/// its type).
pub fn with_order(logical: Logical, field: &Field) -> Logical {
    match logical {
        Logical::Dictionary { categories, .. } => {
            Logical::Dictionary { categories, ordered: field.dict_is_ordered().unwrap_or(false) }
        }
        other => other,
    }
}

/// The dimensions of a leaf whose list lengths are known: one entry for each [`Level::Any`], in
/// order; then the words of decimals.
pub fn inner_dims(leaf: &LeafType, lengths: &[u64]) -> Vec<u64> {
    let mut lengths = lengths.iter();
    let mut inner = Vec::new();
    for level in &leaf.levels {
        match level {
            Level::Fixed(dims) => inner.extend(dims),
            Level::Any => inner.push(lengths.next().copied().unwrap_or(0)),
        }
    }
    inner.extend(leaf.logical.decimals().map_or_else(Vec::new, Decimals::dims));
    inner
}

/// Inner dimensions of a leaf, once its list lengths were looked at.
///
/// # Errors
/// Refused: lists of uneven lengths that the model cannot hold.
pub fn settle_lists(
    leaf: &LeafType,
    equal: bool,
    lengths: &[Option<u64>],
    meta: &mut ArrayMeta,
) -> Result<()> {
    if equal {
        let lengths: Vec<u64> = lengths.iter().map(|l| l.unwrap_or(0)).collect();
        meta.inner = inner_dims(leaf, &lengths);
        Ok(())
    } else if leaf.levels == [Level::Any] && leaf.logical.is_plain() {
        meta.logical = Logical::List;
        Ok(())
    } else {
        Err(Error::refused(
            "lists of different lengths are supported for one level of plain numbers",
        )
        .hint(SKIP_COLUMN))
    }
}
