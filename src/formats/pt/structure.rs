//! How a checkpoint was nested, kept as one attribute, so that it can be written as it was.
//!
//! The attribute [`KEY`] holds JSON text. A JSON null, boolean, number or text is itself (a number with a point or an
//! exponent is a float); everything else is an object of one key:
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

/// The attribute's name.
pub(super) const KEY: &str = "pt.structure";

/// Whether names alone say it all: a bare tensor, or a dict of tensors whose keys are their names.
pub(super) fn is_flat(tree: &Value) -> bool {
    if tree.get("tensor").is_some() {
        return true;
    }
    let pairs = tree.get("dict").or_else(|| tree.get("OrderedDict")).and_then(Value::as_array);
    pairs.is_some_and(|pairs| pairs.iter().all(|p| p[0].is_string() && p[1]["tensor"] == p[0]))
}

/// The names of the tensors in it, nested at most 60 levels; `None` where it is nested deeper.
pub(super) fn names<'a>(tree: &'a Value, depth: usize, found: &mut HashSet<&'a str>) -> Option<()> {
    if depth > 60 {
        return None;
    }
    let Some((kind, inner)) = tree.as_object().and_then(|o| o.iter().next()) else { return Some(()) };
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
