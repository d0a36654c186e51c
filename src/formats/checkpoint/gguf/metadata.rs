//! Metadata as attributes: values of JSON, and under `gguf.types` the types that JSON does not tell
//! (all but text, booleans and arrays of them). Text that is not UTF-8 is base64 (`base64`), floats
//! that are no numbers are text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::model::Attributes;

/// Where the values begin, and each tensor behind that, unless the metadata say otherwise.
pub(super) const ALIGNMENT: u64 = 32;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// The attribute that holds types.
pub(super) const TYPES: &str = "gguf.types";
/// Arrays in arrays, at most.
const MAX_DEPTH: usize = 4;
/// About what a value of JSON takes.
const VALUE_BYTES: u64 = 48;

/// The types of values, by their numbers.
const NAMES: [&str; 13] = [
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
    "uint64", "int64", "float64",
];
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value, at least.
fn least(kind: u32, short: bool) -> u64 {
    let size = if short { 4 } else { 8 };
    match kind {
        0 | 1 | BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        STRING => size,
        ARRAY => 4 + size,
        _ => 8,
    }
}

/// Reads so many keys and values.
///
/// # Errors
/// Corrupt; refused where they take too much memory.
pub(super) fn read(cursor: &mut Cursor, count: u64) -> Result<Attributes> {
    let (mut attributes, mut types) = (Attributes::new(), Map::new());
    for _ in 0..count {
        let key = String::from_utf8(cursor.text()?)
            .map_err(|_| Error::corrupt("a key of the metadata is not UTF-8"))?;
        let kind = cursor.u32()?;
        let mut name = String::new();
        let value = value(cursor, kind, 0, &mut name)
            .map_err(|e| e.about(format_args!("the metadata '{}'", shown(&key))))?;
        if key == TYPES || attributes.contains_key(&key) {
            let what = if key == TYPES { "has a name that npk needs" } else { "appears twice" };
            return Err(Error::corrupt(format!("the metadata '{}' {what}", shown(&key))));
        }
        if !matches!(name.as_str(), "string" | "bool" | "array:string" | "array:bool") {
            types.insert(key.clone(), name.into());
        }
        attributes.insert(key, value);
    }
    if !types.is_empty() {
        attributes.insert(TYPES.into(), types.into());
    }
    Ok(attributes)
}

fn shown(key: &str) -> String {
    key.chars().take(100).collect()
}

/// Reads a value; adds the name of its type.
fn value(cursor: &mut Cursor, kind: u32, depth: usize, name: &mut String) -> Result<Value> {
    let known = NAMES.get(kind as usize);
    let known = *known.ok_or_else(|| Error::corrupt(format!("there is no type {kind}")))?;
    if kind == ARRAY {
        if depth >= MAX_DEPTH {
            return Err(Error::corrupt(format!("arrays are nested deeper than {MAX_DEPTH}")));
        }
        let inner = cursor.u32()?;
        let count = cursor.size()?;
        cursor.check_count(count, least(inner, cursor.is_short()), "values")?;
        cursor.hold(count.saturating_mul(VALUE_BYTES))?;
        let (mut all, mut of) = (Vec::with_capacity(count as usize), None);
        for _ in 0..count {
            let mut own = String::new();
            all.push(value(cursor, inner, depth + 1, &mut own)?);
            // Text of which some is not UTF-8 is base64 as a whole.
            match &of {
                None => of = Some(own),
                Some(first) if *first == own => {}
                Some(_) if inner == STRING => of = Some("mixed".into()),
                Some(_) => return Err(Error::corrupt("its arrays are of different types")),
            }
        }
        let mut of = match of {
            Some(of) => of,
            None => NAMES.get(inner as usize).copied().unwrap_or("uint8").to_string(),
        };
        if of == "mixed" || of == "base64" {
            return Err(Error::refused("some of its texts are not UTF-8"));
        }
        if inner == ARRAY && count == 0 {
            of = "array:uint8".into();
        }
        *name = format!("array:{of}");
        return Ok(Value::Array(all));
    }
    *name = known.to_string();
    let float = |v: f64| match serde_json::Number::from_f64(v) {
        Some(number) => Value::Number(number),
        None => Value::String(v.to_string()),
    };
    Ok(match kind {
        0 => u8::from_le_bytes(cursor.number()?).into(),
        1 => i8::from_le_bytes(cursor.number()?).into(),
        2 => u16::from_le_bytes(cursor.number()?).into(),
        3 => i16::from_le_bytes(cursor.number()?).into(),
        4 => cursor.u32()?.into(),
        5 => i32::from_le_bytes(cursor.number()?).into(),
        6 => float(f64::from(f32::from_le_bytes(cursor.number()?))),
        BOOL => match cursor.number::<1>()? {
            [0] => false.into(),
            [1] => true.into(),
            [other] => return Err(Error::corrupt(format!("a boolean is {other}"))),
        },
        STRING => match String::from_utf8(cursor.text()?) {
            Ok(text) => Value::String(text),
            Err(e) => {
                *name = "base64".into();
                BASE64.encode(e.as_bytes()).into()
            }
        },
        10 => u64::from_le_bytes(cursor.number()?).into(),
        11 => i64::from_le_bytes(cursor.number()?).into(),
        _ => float(f64::from_le_bytes(cursor.number()?)),
    })
}

/// Forgets the types of attributes that were taken out.
pub(super) fn forget_types(attributes: &mut Attributes, prefix: &str) {
    if let Some(Value::Object(types)) = attributes.get_mut(TYPES) {
        types.retain(|key, _| !key.starts_with(prefix));
    }
}

/// The alignment that these metadata ask for.
///
/// # Errors
/// Refused where it is none.
pub(super) fn alignment(attributes: &Attributes) -> Result<u64> {
    let Some(value) = attributes.get(ALIGNMENT_KEY) else { return Ok(ALIGNMENT) };
    let given = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    given.filter(|n| n.is_power_of_two() && (8..=1 << 20).contains(n)).ok_or_else(|| {
        Error::refused(format!("the metadata {ALIGNMENT_KEY} is {value}"))
            .hint("it must be a power of two; --metadata general.alignment=32 sets it")
    })
}

/// Writes all attributes; returns how many.
///
/// # Errors
/// Refused: keys that GGUF cannot hold.
pub(super) fn write(attributes: &Attributes, out: &mut Vec<u8>) -> Result<u64> {
    let none = Map::new();
    let types = attributes.get(TYPES).and_then(Value::as_object).unwrap_or(&none);
    let mut count = 0;
    for (key, value) in attributes.iter().filter(|(key, _)| *key != TYPES) {
        if key.is_empty() || key.len() > u16::MAX as usize {
            return Err(Error::refused(format!(
                "a metadata key of {} bytes cannot be held",
                key.len()
            )));
        }
        let kept = types.get(key).and_then(Value::as_str);
        let kept = match key.as_str() {
            ALIGNMENT_KEY => Some("uint32"),
            _ => kept,
        };
        text(key.as_bytes(), out);
        let start = out.len();
        // A value that no longer is of its type gets the one that it has.
        let written = kept.is_some_and(|kind| typed(value, kind, true, out).is_some());
        if !written {
            out.truncate(start);
            let kind = usual(value);
            if typed(value, &kind, true, out).is_none() {
                out.truncate(start);
                let json = Value::String(value.to_string());
                typed(&json, "string", true, out);
            }
        }
        count += 1;
    }
    Ok(count)
}

/// The type of a value that has none; `string` (as JSON) for what has no other.
fn usual(value: &Value) -> String {
    match value {
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if n.is_i64() => "int64".into(),
        Value::Number(n) if n.is_u64() => "uint64".into(),
        Value::Number(_) => "float64".into(),
        Value::Array(items) => {
            let kinds: Vec<String> = items.iter().map(usual).collect();
            let number = |kind: &str| matches!(kind, "int64" | "uint64" | "float64");
            match kinds.first() {
                Some(first) if kinds.iter().all(|k| k == first) => format!("array:{first}"),
                Some(_) if kinds.iter().all(|k| number(k)) => "array:float64".into(),
                _ => "json".into(),
            }
        }
        Value::String(_) => "string".into(),
        Value::Null | Value::Object(_) => "json".into(),
    }
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// Writes a value as this type, with the type's number where it is `tagged`; `None` where it is not
/// of it.
fn typed(value: &Value, kind: &str, tagged: bool, out: &mut Vec<u8>) -> Option<()> {
    let (of, inner) = kind.split_once(':').unwrap_or((kind, ""));
    let of = if of == "base64" { "string" } else { of };
    let number = NAMES.iter().position(|name| *name == of)? as u32;
    if tagged {
        out.extend(number.to_le_bytes());
    }
    let float = |value: &Value| -> Option<f64> {
        value.as_f64().or_else(|| match value.as_str()? {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        })
    };
    match number {
        0 => out.push(u8::try_from(value.as_u64()?).ok()?),
        1 => out.extend(i8::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        2 => out.extend(u16::try_from(value.as_u64()?).ok()?.to_le_bytes()),
        3 => out.extend(i16::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        4 => out.extend(u32::try_from(value.as_u64()?).ok()?.to_le_bytes()),
        5 => out.extend(i32::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        6 => {
            let wide = float(value)?;
            let narrow = wide as f32;
            if f64::from(narrow) != wide && !wide.is_nan() {
                return None;
            }
            out.extend(narrow.to_le_bytes());
        }
        BOOL => out.push(u8::from(value.as_bool()?)),
        STRING if kind == "base64" => text(&BASE64.decode(value.as_str()?).ok()?, out),
        STRING => text(value.as_str()?.as_bytes(), out),
        ARRAY => {
            let items = value.as_array()?;
            let (inner_of, _) = inner.split_once(':').unwrap_or((inner, ""));
            let inner_number = NAMES.iter().position(|name| *name == inner_of)? as u32;
            out.extend(inner_number.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                typed(item, inner, false, out)?;
            }
        }
        10 => out.extend(value.as_u64()?.to_le_bytes()),
        11 => out.extend(value.as_i64()?.to_le_bytes()),
        _ => out.extend(float(value)?.to_le_bytes()),
    }
    Some(())
}
