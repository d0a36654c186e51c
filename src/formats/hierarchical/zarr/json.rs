//! JSON as Zarr's writers write it: with bare `NaN` and `Infinity`, and with a limit for hostile
//! documents that would fill the memory.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::formats::hierarchical::attributes::TYPES;
use crate::model::Attributes;

/// Bytes that one parsed value takes, at least.
const VALUE_BYTES: u64 = 96;

/// Begins the text of a bare word while its document is parsed: a character that no text holds.
const BARE: char = '\u{FDD0}';

/// Parses a document of a node. Bare `NaN`, `Infinity` and `-Infinity` become text; of attributes
/// it is remembered that they are numbers (`attributes`: whether the document is nothing but
/// attributes).
///
/// # Errors
/// Corrupt; refused where the parsed document would pass `memory_bytes`.
pub fn parse(bytes: &[u8], attributes: bool, memory_bytes: u64) -> Result<Value> {
    let (mut values, mut in_string, mut escaped) = (1u64, false, false);
    let mut fixed: Option<Vec<u8>> = None;
    let mut i = 0;
    while i < bytes.len() {
        let b = bytes[i];
        if in_string {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match b {
                b'"' => in_string = true,
                b',' | b'[' | b'{' | b':' => values += 1,
                b'N' | b'I' | b'-' => {
                    let word: &[u8] = [&b"NaN"[..], b"Infinity", b"-Infinity"]
                        .into_iter()
                        .find(|w| bytes[i..].starts_with(w))
                        .unwrap_or(b"");
                    if !word.is_empty() {
                        let out = fixed.get_or_insert_with(|| bytes[..i].to_vec());
                        out.extend_from_slice(format!("\"{BARE}").as_bytes());
                        out.extend_from_slice(word);
                        out.push(b'"');
                        i += word.len();
                        continue;
                    }
                }
                _ => {}
            }
        }
        if let Some(out) = &mut fixed {
            out.push(b);
        }
        i += 1;
    }
    let needed = values.saturating_mul(VALUE_BYTES).saturating_add(bytes.len() as u64);
    if needed > memory_bytes {
        return Err(Error::refused(format!(
            "the metadata has {values} values, more than fit into the memory limit of {memory_bytes} bytes"
        ))
        .hint("give a larger --memory-limit"));
    }
    let parsed = serde_json::from_slice(fixed.as_deref().unwrap_or(bytes));
    let mut value: Value =
        parsed.map_err(|e| Error::corrupt("the metadata is not JSON").because(e))?;
    match &mut value {
        Value::Object(all) if attributes && fixed.is_some() => remember(all),
        other if fixed.is_some() => settle(other),
        _ => {}
    }
    Ok(value)
}

/// Bare words as the text that they stand for.
fn settle(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(word) = text.strip_prefix(BARE) {
                *text = word.to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(all) => all.iter_mut().for_each(|(key, value)| match value {
            Value::Object(attributes)
                if key == "attributes" || key.rsplit('/').next() == Some(".zattrs") =>
            {
                remember(attributes)
            }
            other => settle(other),
        }),
        _ => {}
    }
}

/// As [`settle`], of attributes: those that are numbers are marked as such.
fn remember(attributes: &mut Attributes) {
    let mut specs = Map::new();
    for (name, value) in attributes.iter_mut() {
        let shape = shape_of(value);
        let any = numbers(value, &shape);
        settle(value);
        if any == Some(true) {
            let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
            specs.insert(name.clone(), format!("float64({})", dims.join(",")).into());
        }
    }
    if specs.is_empty() {
        return;
    }
    if let Value::Object(known) = attributes.entry(TYPES).or_insert_with(|| Map::new().into()) {
        specs.into_iter().for_each(|(name, spec)| {
            known.entry(name).or_insert(spec);
        });
    }
}

/// The shape of nested lists, by the first items.
fn shape_of(mut value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    while let Value::Array(items) = value {
        shape.push(items.len());
        match items.first() {
            Some(first) if shape.len() < 32 => value = first,
            _ => break,
        }
    }
    shape
}

/// Whether bare words are among numbers of this shape; `None` where the value is something else.
fn numbers(value: &Value, shape: &[usize]) -> Option<bool> {
    match (value, shape) {
        (Value::Number(_), []) => Some(false),
        (Value::String(text), []) => text.starts_with(BARE).then_some(true),
        (Value::Array(items), [n, rest @ ..]) if items.len() == *n => {
            items.iter().try_fold(false, |any, item| Some(numbers(item, rest)? | any))
        }
        _ => None,
    }
}
