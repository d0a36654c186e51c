//! DataType types and fill values of both Zarr versions.

use base64::Engine;
use serde_json::{Number, Value};

use crate::array::Element;
use crate::array::element::{Convert, Field as Part, Fill, Padding, swap_bytes};
use crate::codec::numpy_types;
use crate::error::{Error, Result};
use crate::model::json_float;
use crate::model::{Dtype, Logical, TimeUnit};

/// The data type of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum DataType {
    /// Items of a fixed number of bytes: one field, or several (structured).
    Fixed {
        /// Bytes of one item.
        size: usize,
        /// What is in them.
        fields: Vec<Field>,
    },
    /// Text of any length.
    Text,
    /// Bytes of any length.
    Binary,
    /// Lists of any length.
    List {
        /// Of these.
        dtype: Dtype,
        /// Big-endian.
        big: bool,
    },
    /// numpy objects (v2): a filter says what they are.
    Object,
}

/// One field of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// `a.b` of a structured type, empty for a plain one.
    pub name: String,
    /// Where it begins in the item.
    pub offset: usize,
    /// Bytes of one element of it.
    pub size: usize,
    /// The dimensions of a sub-array.
    pub inner: Vec<u64>,
    /// What it is.
    pub kind: ElementType,
    /// Big-endian.
    pub big: bool,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum ElementType {
    /// Numbers and booleans.
    Plain(Dtype),
    /// datetime64, timedelta64.
    Time(Logical),
    /// UTF-32 text, padded with zeros.
    Utf32,
    /// Bytes, padded with zeros.
    Bytes,
}

impl Field {
    /// As the array engine takes it out of records of so many bytes.
    pub fn element(&self, record: usize) -> Element {
        let convert = match self.kind {
            ElementType::Utf32 => Convert::Padded(Padding::Utf32 { big: self.big }),
            ElementType::Bytes => Convert::Padded(Padding::Bytes(Fill::Zeros)),
            _ if self.big => Convert::Swap(self.swap_unit()),
            _ => Convert::Nothing,
        };
        let is_all = self.size == record && self.inner.is_empty();
        let field = (!is_all).then(|| Part::dense(self.offset, self.size, &self.inner));
        Element { bytes: record, field, convert }
    }
    /// Bytes that are swapped together in big-endian files; 1: nothing is.
    pub fn swap_unit(&self) -> usize {
        match &self.kind {
            ElementType::Plain(d) if d.is_complex() => self.size / 2,
            ElementType::Plain(_) | ElementType::Time(_) => self.size,
            ElementType::Utf32 => 4,
            ElementType::Bytes => 1,
        }
    }
}

impl DataType {
    /// Lists of what a v2 `dtype` names.
    ///
    /// # Errors
    /// Refused where that is no number.
    pub fn list_of(value: &Value) -> Result<DataType> {
        if let DataType::Fixed { fields, .. } = v2(value)?
            && let [Field { kind: ElementType::Plain(dtype), name, big, .. }] = &fields[..]
            && name.is_empty()
            && *dtype != Dtype::Bool
        {
            return Ok(DataType::List { dtype: *dtype, big: *big });
        }
        Err(unknown(&format!("list of {value}")))
    }

    fn one(kind: ElementType, size: usize, big: bool) -> DataType {
        DataType::Fixed {
            size,
            fields: vec![Field {
                name: String::new(),
                offset: 0,
                size,
                inner: Vec::new(),
                kind,
                big,
            }],
        }
    }
    fn plain(dtype: Dtype, big: bool) -> DataType {
        let size = dtype.item_bytes() as usize;
        DataType::one(ElementType::Plain(dtype), size, big && size > 1)
    }
    /// Bytes of one item; `None` for text and bytes of any length.
    pub fn size(&self) -> Option<usize> {
        match self {
            DataType::Fixed { size, .. } => Some(*size),
            _ => None,
        }
    }
}

fn unknown(text: &str) -> Error {
    Error::refused(format!("the data type {text} is not supported"))
}

/// The most dimensions.
const MAX_RANK: usize = 64;
/// The most bytes of one item.
const MAX_ITEM_BYTES: usize = 1 << 24;

/// The type that a v2 `dtype` names.
///
/// # Errors
/// Refused by name, or corrupt.
pub fn v2(value: &Value) -> Result<DataType> {
    nested_v2(value, 0)
}

fn nested_v2(value: &Value, depth: usize) -> Result<DataType> {
    match value {
        Value::String(text) => simple_v2(text),
        Value::Array(fields) if depth < 8 => {
            let mut parts = Vec::new();
            for field in fields {
                let wrong = || {
                    Error::corrupt(format!(
                        "the field {field} of a structured data type is not understood"
                    ))
                };
                let list = field.as_array().ok_or_else(wrong)?;
                let (name, inner) = match list.as_slice() {
                    [Value::String(name), _] => (name, Vec::new()),
                    // [name, type, shape]
                    [Value::String(name), _, Value::Number(n)] => {
                        (name, vec![n.as_u64().ok_or_else(wrong)?])
                    }
                    [Value::String(name), _, Value::Array(shape)] => (
                        name,
                        shape
                            .iter()
                            .map(Value::as_u64)
                            .collect::<Option<Vec<_>>>()
                            .ok_or_else(wrong)?,
                    ),
                    _ => return Err(wrong()),
                };
                parts.push((name.as_str(), nested_v2(&list[1], depth + 1)?, inner));
            }
            structure(parts)
        }
        other => Err(unknown(&other.to_string())),
    }
}

fn structure(parts: Vec<(&str, DataType, Vec<u64>)>) -> Result<DataType> {
    let (mut at, mut all) = (0usize, Vec::new());
    for (name, element, inner) in parts {
        let DataType::Fixed { size, fields } = element else {
            return Err(unknown("object (or text of any length) inside a structured type"));
        };
        let times = inner
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= MAX_ITEM_BYTES as u64);
        let bytes = times
            .and_then(|n| (n as usize).checked_mul(size))
            .and_then(|n| n.checked_add(at))
            .filter(|&n| n <= MAX_ITEM_BYTES);
        let end = bytes.ok_or_else(|| Error::corrupt("a structured data type is too large"))?;
        if !inner.is_empty() && (fields.len() != 1 || !fields[0].name.is_empty()) {
            return Err(unknown("sub-array of structures"));
        }
        for mut field in fields {
            field.name = if field.name.is_empty() {
                name.to_string()
            } else {
                format!("{name}.{}", field.name)
            };
            field.offset += at;
            field.inner = [inner.clone(), field.inner].concat();
            all.push(field);
        }
        at = end;
    }
    if all.is_empty() || at == 0 {
        return Err(unknown("structured type without fields"));
    }
    Ok(DataType::Fixed { size: at, fields: all })
}

fn simple_v2(text: &str) -> Result<DataType> {
    // tensorstore and others write these names as they are.
    if let Some(d) = Dtype::of_name(text).filter(|d| d.is_float8() || *d == Dtype::Bf16) {
        return Ok(DataType::plain(d, false));
    }
    let fail = || unknown(&format!("'{text}'"));
    let canonical = numpy_types::canonical(text).ok_or_else(fail)?;
    let (order, rest) = canonical.split_at(1);
    let big = order == ">";
    let (letter, rest) = rest.split_at_checked(1).ok_or_else(fail)?;
    if letter == "M" || letter == "m" {
        let unit = match rest.strip_prefix('8').ok_or_else(fail)? {
            "" => TimeUnit::new("generic"),
            u => u
                .strip_prefix('[')
                .and_then(|u| u.strip_suffix(']'))
                .and_then(TimeUnit::parse)
                .ok_or_else(fail)?,
        };
        return Ok(time(letter == "M", unit, big));
    }
    if letter == "O" {
        return Ok(DataType::Object);
    }
    let size: usize = rest.parse().ok().filter(|&n| n <= MAX_ITEM_BYTES).ok_or_else(fail)?;
    Ok(match (letter, size) {
        ("U", n) if n <= MAX_ITEM_BYTES / 4 => DataType::one(ElementType::Utf32, 4 * n, big),
        ("S", n) => DataType::one(ElementType::Bytes, n, false),
        _ => DataType::plain(
            Dtype::parse(&format!("{letter}{size}")).filter(|_| letter != "V").ok_or_else(fail)?,
            big,
        ),
    })
}

fn time(is_date: bool, unit: TimeUnit, big: bool) -> DataType {
    DataType::one(
        ElementType::Time(if is_date { Logical::Datetime(unit) } else { Logical::Timedelta(unit) }),
        8,
        big,
    )
}

/// The type that a v3 `data_type` names.
///
/// # Errors
/// Refused by name, or corrupt.
pub fn v3(value: &Value) -> Result<DataType> {
    nested_v3(value, 0)
}

fn nested_v3(value: &Value, depth: usize) -> Result<DataType> {
    let name = value.as_str().or_else(|| value.get("name").and_then(Value::as_str));
    let name = name.ok_or_else(|| Error::corrupt(format!("the data type {value} has no name")))?;
    let set = value.get("configuration");
    let number = |key: &str| {
        set.and_then(|s| s.get(key))
            .and_then(Value::as_u64)
            .filter(|&n| n <= MAX_ITEM_BYTES as u64)
            .map(|n| n as usize)
    };
    Ok(match name {
        "string" => DataType::Text,
        "bytes" | "variable_length_bytes" => DataType::Binary,
        "numpy.datetime64" | "numpy.timedelta64" => {
            let base = set.and_then(|s| s.get("unit")).and_then(Value::as_str).unwrap_or("generic");
            let mut unit = TimeUnit::parse(if base == "μs" { "us" } else { base })
                .ok_or_else(|| unknown(&value.to_string()))?;
            if let Some(n) = set.and_then(|s| s.get("scale_factor")) {
                let n = n
                    .as_u64()
                    .filter(|&n| n > 0 && n <= u64::from(u32::MAX))
                    .ok_or_else(|| unknown(&value.to_string()))?;
                unit.count = n as u32;
            }
            time(name == "numpy.datetime64", unit, false)
        }
        "fixed_length_utf32" => match number("length_bytes") {
            Some(n) if n % 4 == 0 => DataType::one(ElementType::Utf32, n, false),
            _ => return Err(unknown(&value.to_string())),
        },
        "null_terminated_bytes" => DataType::one(
            ElementType::Bytes,
            number("length_bytes").ok_or_else(|| unknown(&value.to_string()))?,
            false,
        ),
        "structured" | "struct" if depth < 8 => {
            let fields = set
                .and_then(|s| s.get("fields"))
                .and_then(Value::as_array)
                .ok_or_else(|| unknown(&value.to_string()))?;
            let mut parts = Vec::new();
            for field in fields {
                let wrong = || {
                    Error::corrupt(format!(
                        "the field {field} of a structured data type is not understood"
                    ))
                };
                let (name, kind) = match field {
                    Value::Array(pair) if pair.len() == 2 => (pair[0].as_str(), Some(&pair[1])),
                    other => (other.get("name").and_then(Value::as_str), other.get("data_type")),
                };
                parts.push((
                    name.ok_or_else(wrong)?,
                    nested_v3(kind.ok_or_else(wrong)?, depth + 1)?,
                    Vec::new(),
                ));
            }
            structure(parts)?
        }
        "complex_float16" => DataType::plain(Dtype::C32, false),
        _ => match Dtype::of_name(name) {
            Some(d) => DataType::plain(d, false),
            None => return Err(unknown(&format!("'{name}'"))),
        },
    })
}

/// The bytes of one missing item, as they would be stored (for text: its bytes).
///
/// # Errors
/// Corrupt, where the value is none of the type.
pub fn fill(element: &DataType, value: &Value) -> Result<Vec<u8>> {
    let wrong = || Error::corrupt(format!("the fill value {value} is not of the array's type"));
    // The sign of -0.0 counts.
    let is_zero = value.is_null()
        || value.as_f64().is_some_and(|f| f.to_bits() == 0)
        || *value == Value::Bool(false);
    match element {
        DataType::Text => match value {
            Value::String(s) => Ok(s.clone().into_bytes()),
            _ if is_zero => Ok(Vec::new()),
            _ => Err(wrong()),
        },
        DataType::Binary | DataType::Object | DataType::List { .. } => {
            if is_zero {
                Ok(Vec::new())
            } else {
                bytes_of(value).ok_or_else(wrong)
            }
        }
        DataType::Fixed { size, fields } => {
            if is_zero {
                return Ok(vec![0; *size]);
            }
            if let [field] = fields.as_slice()
                && field.name.is_empty()
            {
                let mut bytes = scalar(field, value).ok_or_else(wrong)?;
                if field.big {
                    swap_bytes(&mut bytes, field.swap_unit());
                }
                return Ok(bytes);
            }
            if let Some(parts) = value.as_object() {
                let mut item = vec![0; *size];
                for field in fields {
                    if let Some(v) = parts.get(&field.name)
                        && field.inner.is_empty()
                    {
                        let mut bytes = scalar(field, v).ok_or_else(wrong)?;
                        if field.big {
                            swap_bytes(&mut bytes, field.swap_unit());
                        }
                        item[field.offset..field.offset + field.size].copy_from_slice(&bytes);
                    }
                }
                return Ok(item);
            }
            bytes_of(value).filter(|b| b.len() == *size).ok_or_else(wrong)
        }
    }
}

/// Base64, or a list of byte values.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(s) => base64::engine::general_purpose::STANDARD.decode(s).ok(),
        Value::Array(list) => {
            list.iter().map(|v| v.as_u64().and_then(|n| u8::try_from(n).ok())).collect()
        }
        _ => None,
    }
}

/// One element, little-endian.
fn scalar(field: &Field, value: &Value) -> Option<Vec<u8>> {
    if value.is_null() {
        return Some(vec![0; field.size]);
    }
    let padded = |mut bytes: Vec<u8>| {
        (bytes.len() <= field.size).then(|| {
            bytes.resize(field.size, 0);
            bytes
        })
    };
    match &field.kind {
        ElementType::Utf32 => {
            padded(value.as_str()?.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect())
        }
        ElementType::Bytes => padded(bytes_of(value)?),
        ElementType::Time(_) => match value.as_str() {
            Some("NaT") => Some(i64::MIN.to_le_bytes().to_vec()),
            _ => i64::try_from(integer(value)?).ok().map(|n| n.to_le_bytes().to_vec()),
        },
        ElementType::Plain(dtype) if dtype.is_complex() => {
            let half = field.size / 2;
            match value {
                Value::Array(pair) if pair.len() == 2 => {
                    Some([float(&pair[0], half, None)?, float(&pair[1], half, None)?].concat())
                }
                other => Some([float(other, half, None)?, vec![0; half]].concat()),
            }
        }
        ElementType::Plain(dtype) if dtype.is_float() => float(value, field.size, Some(*dtype)),
        ElementType::Plain(Dtype::Bool) => match value {
            Value::Bool(b) => Some(vec![u8::from(*b)]),
            other => u8::try_from(integer(other)?).ok().filter(|n| *n < 2).map(|n| vec![n]),
        },
        ElementType::Plain(dtype) => {
            let n = integer(value)?;
            let fits = dtype.integer_range().is_some_and(|range| range.contains(&n));
            fits.then(|| n.to_le_bytes()[..field.size].to_vec())
        }
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(n) => {
            let text = n.to_string();
            text.parse().ok().or_else(|| {
                text.parse::<f64>()
                    .ok()
                    .filter(|f| f.fract() == 0.0 && f.abs() < 1e18)
                    .map(|f| f as i128)
            })
        }
        Value::Bool(b) => Some(i128::from(*b)),
        Value::String(s) => s.parse().ok(),
        _ => None,
    }
}

fn float(value: &Value, size: usize, dtype: Option<Dtype>) -> Option<Vec<u8>> {
    let known = match (size, dtype) {
        (_, Some(dtype)) => dtype,
        (2, None) => Dtype::F16,
        (4, None) => Dtype::F32,
        _ => Dtype::F64,
    };
    if !known.is_float8() {
        // Some writers give numbers as text.
        let number = || Some(Value::Number(Number::from_f64(value.as_str()?.parse().ok()?)?));
        return json_float::from_json(value, known)
            .or_else(|| json_float::from_json(&number()?, known));
    }
    let hex = value.as_str().and_then(|text| text.strip_prefix("0x"));
    if let Some(hex) = hex {
        return u8::from_str_radix(hex, 16).ok().map(|bits| vec![bits]);
    }
    let n = f64::from_le_bytes(json_float::from_json(value, Dtype::F64)?.try_into().ok()?);
    let has_negative_zero = matches!(known, Dtype::F8E4m3 | Dtype::F8E5m2);
    // Zero, NaN, and one as the values in use.
    Some(vec![match (known, n) {
        (Dtype::F8E8m0, 1.0) => 127,
        (Dtype::F8E8m0, n) if n.is_nan() => 0xFF,
        (Dtype::F8E8m0, _) => return None,
        (_, 0.0) if n.is_sign_positive() => 0,
        (_, 0.0) if has_negative_zero => 0x80,
        (Dtype::F8E4m3, n) if n.is_nan() => 0x7F,
        (Dtype::F8E5m2, n) if n.is_nan() => 0x7E,
        (Dtype::F8E5m2, f64::INFINITY) => 0x7C,
        (Dtype::F8E5m2, f64::NEG_INFINITY) => 0xFC,
        (Dtype::F8E4m3Fnuz | Dtype::F8E5m2Fnuz, n) if n.is_nan() => 0x80,
        _ => return None,
    }])
}

/// A list of dimensions.
pub fn dims(value: Option<&Value>) -> Option<Vec<u64>> {
    let list = value?.as_array().filter(|l| l.len() <= MAX_RANK)?;
    list.iter().map(Value::as_u64).collect()
}
