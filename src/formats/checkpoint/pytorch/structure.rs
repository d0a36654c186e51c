//! How a checkpoint was nested, kept as one attribute so that it can be written again in the same
//! form.
//!
//! The attribute [`KEY`] holds JSON text. A JSON null, boolean, number or text is itself (a number
//! with a point or an exponent is a float); everything else is an object of one key:
//!
//! | key | value |
//! |---|---|
//! | `tensor` | the name of an array |
//! | `dict`, `OrderedDict` | a list of `[key, value]` |
//! | `list`, `tuple`, `set`, `frozenset`, `Size` | a list of values |
//! | `bytes`, `bytearray` | base64 |
//! | `int` | hexadecimal little-endian two's complement, past 64 bits |
//! | `float` | `NaN`, `inf`, `-inf` |
//! | `complex` | two floats as text |
//! | `dtype`, `layout` · `device` | torch's name · its arguments |

use std::collections::HashSet;

use serde_json::Value;

use crate::format::WriteOptions;
use crate::model::Plan;

/// The attribute's name.
pub(super) const KEY: &str = "pt.structure";

/// Whether names alone say it all: a bare tensor, or a dict of tensors whose keys are their names.
pub(in crate::formats::checkpoint) fn is_flat(tree: &Value) -> bool {
    if tree.get("tensor").is_some() {
        return true;
    }
    let pairs = tree.get("dict").or_else(|| tree.get("OrderedDict")).and_then(Value::as_array);
    pairs.is_some_and(|pairs| pairs.iter().all(|p| p[0].is_string() && p[1]["tensor"] == p[0]))
}

/// The structure that a plan brings along, where it is wanted.
pub(super) fn of(plan: &Plan, options: &WriteOptions) -> Option<Value> {
    if options.no_metadata || options.single {
        return None;
    }
    serde_json::from_str(plan.attributes.get(KEY)?.as_str()?).ok()
}

/// Whether each array of a plan has its place in the structure.
pub(super) fn names_all(tree: &Value, plan: &Plan) -> bool {
    let mut known = HashSet::new();
    names(tree, 0, &mut known).is_some()
        && plan.arrays.iter().all(|a| known.contains(a.name.as_str()))
}

/// The attributes that are plain values of the structure's root: its keys, as [`super::tree`]
/// spells them.
pub(super) fn attributes(tree: &Value) -> HashSet<String> {
    let Some((kind, Value::Array(items))) = tree.as_object().and_then(|o| o.iter().next()) else {
        return HashSet::new();
    };
    match kind.as_str() {
        "dict" | "OrderedDict" => items.iter().map(|pair| spelled(&pair[0], "")).collect(),
        _ => (0..items.len()).map(|i| i.to_string()).collect(),
    }
}

fn spelled(key: &Value, quote: &str) -> String {
    match key {
        Value::String(text) => [quote, text, quote].concat(),
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(n) if n.is_f64() => n.as_f64().unwrap_or_default().to_string(),
        Value::Object(tuple) => {
            let parts: Vec<String> = tuple
                .get("tuple")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|part| spelled(part, "'"))
                .collect();
            format!("({}{})", parts.join(", "), if parts.len() == 1 { "," } else { "" })
        }
        other => other.to_string(),
    }
}

/// The names of the tensors in it, nested at most 60 levels; `None` where it is nested deeper.
fn names<'a>(tree: &'a Value, depth: usize, found: &mut HashSet<&'a str>) -> Option<()> {
    if depth > 60 {
        return None;
    }
    let Some((kind, inner)) = tree.as_object().and_then(|o| o.iter().next()) else {
        return Some(());
    };
    match (kind.as_str(), inner) {
        ("tensor", Value::String(name)) => {
            found.insert(name);
        }
        ("dict" | "OrderedDict", Value::Array(pairs)) => {
            for pair in pairs {
                names(&pair[1], depth + 1, found)?;
            }
        }
        (_, Value::Array(items)) => {
            for item in items {
                names(item, depth + 1, found)?;
            }
        }
        _ => {}
    }
    Some(())
}
