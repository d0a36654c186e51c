//! The side file of a store that is changed: merged, renamed, longer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::entries::{ArrayEntry, Side, TableEntry, VERSION};
use super::types::categories_entry;
use crate::error::{Error, Result};
use crate::model::nested::Parts;
use crate::model::{Attributes, Categories, Dtype};

fn parse(old: Option<&[u8]>) -> Result<Side> {
    let Some(old) = old else { return Ok(Side { npk: VERSION, ..Side::default() }) };
    let hint = "remove npk.json (the types it records are lost), then try again";
    let side: Side = serde_json::from_slice(old)
        .map_err(|e| Error::corrupt("npk.json cannot be read").because(e).hint(hint))?;
    if side.npk != VERSION {
        return Err(Error::refused(format!(
            "npk.json has version {}; only version {VERSION} is supported",
            side.npk
        ))
        .hint(hint));
    }
    Ok(side)
}

fn name_of(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The side file of a store after a merge: `old` without the arrays not in `stay` (logical names,
/// in order), and `new`.
///
/// # Errors
/// Where the old one cannot be read.
pub fn merged(
    old: Option<&[u8]>,
    stay: &[String],
    new: Option<&[u8]>,
    added: &[String],
) -> Result<Option<Vec<u8>>> {
    if old.is_none() && new.is_none() {
        return Ok(None);
    }
    let (mut side, new) = (parse(old)?, parse(new)?);
    let stays: HashSet<&str> = stay.iter().map(String::as_str).collect();
    let whole = |entry: &Value| {
        let parts = entry.get("parts").and_then(|p| Parts::deserialize(p).ok());
        parts.is_some_and(|parts| parts.arrays().iter().all(|part| stays.contains(part)))
    };
    side.arrays.retain(|entry| stays.contains(name_of(entry)) || whole(entry));
    // A table of which an array is replaced says nothing of the new one: its columns may be others,
    // its rows more.
    side.tables.retain(|table| {
        !serde_json::from_value::<TableEntry>(table.clone())
            .is_ok_and(|t| t.arrays().any(|a| !stays.contains(a)))
    });
    side.arrays.extend(new.arrays);
    side.order = stay.iter().chain(added).cloned().collect();
    side.attributes.extend(new.attributes);
    side.groups.extend(new.groups);
    side.tables.extend(new.tables);
    if side.format.is_empty() {
        side.format = new.format;
    }
    Ok(serde_json::to_vec(&side).ok())
}

/// The side file of a store of which some arrays, logical and stored ones, have other names now.
///
/// # Errors
/// Where the old one cannot be read.
pub fn renamed(old: Option<&[u8]>, names: &HashMap<String, String>) -> Result<Option<Vec<u8>>> {
    if old.is_none() {
        return Ok(None);
    }
    let mut side = parse(old)?;
    let rename = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    side.order.iter_mut().for_each(rename);
    for entry in side.arrays.iter_mut().filter_map(Value::as_object_mut) {
        for key in ["name", "values", "valid", "offsets", "alias_of"] {
            if let Some(Value::String(name)) = entry.get_mut(key) {
                rename(name);
            }
        }
    }
    for table in side.tables.iter_mut() {
        let Ok(mut read) = serde_json::from_value::<TableEntry>(table.clone()) else { continue };
        read.columns.iter_mut().for_each(|c| rename(&mut c.array));
        read.index.iter_mut().for_each(rename);
        read.matrix.iter_mut().for_each(rename);
        if let Ok(value) = serde_json::to_value(read) {
            *table = value;
        }
    }
    Ok(serde_json::to_vec(&side).ok())
}

/// The side file of a store with these attributes of the whole, beside those that it has. `order`:
/// all logical names.
///
/// # Errors
/// Where the old one cannot be read.
pub fn with_attributes(
    old: Option<&[u8]>,
    order: &[String],
    attributes: &Attributes,
) -> Result<Option<Vec<u8>>> {
    let mut side = parse(old)?;
    if side.order.is_empty() {
        side.order = order.to_vec();
    }
    side.attributes.extend(attributes.clone());
    Ok(serde_json::to_vec(&side).ok())
}

/// A logical array that got more rows.
pub struct AppendedArray {
    /// Its name.
    pub name: String,
    /// The type and shape of its stored values now.
    pub dtype: Dtype,
    /// As above.
    pub shape: Vec<u64>,
    /// Its categories now, where it has some.
    pub categories: Option<Arc<Categories>>,
    /// Its mask, where it got one.
    pub valid: Option<String>,
    /// Whether codes of -1 are nulls now.
    pub nulls: bool,
}

/// The side file of a store whose arrays have grown. `order`: all logical names. `nested`: the nested
/// arrays among them, with their parts now.
///
/// # Errors
/// Where the old one cannot be read.
pub fn grown(
    old: Option<&[u8]>,
    order: &[String],
    changes: &[AppendedArray],
    nested: &[(String, Parts)],
) -> Result<Option<Vec<u8>>> {
    if old.is_none() && changes.iter().all(|c| c.valid.is_none()) {
        return Ok(None);
    }
    let mut side = parse(old)?;
    if side.order.is_empty() {
        side.order = order.to_vec();
    }
    let index: HashMap<String, usize> =
        side.arrays.iter().enumerate().map(|(i, e)| (name_of(e).to_string(), i)).collect();
    for (name, parts) in nested {
        let entry = index.get(name).and_then(|&i| side.arrays[i].as_object_mut());
        if let (Some(entry), Ok(parts)) = (entry, serde_json::to_value(parts)) {
            entry.insert("parts".into(), parts);
        }
    }
    for change in changes {
        let at = match index.get(&change.name) {
            Some(&i) => &mut side.arrays[i],
            None if change.valid.is_none() => continue,
            None => {
                let entry = ArrayEntry {
                    name: change.name.clone(),
                    dtype: change.dtype.name().into(),
                    ..ArrayEntry::default()
                };
                side.arrays.extend(serde_json::to_value(entry));
                match side.arrays.last_mut() {
                    Some(entry) => entry,
                    None => continue,
                }
            }
        };
        let Value::Object(entry) = at else { continue };
        entry.insert("shape".into(), change.shape.clone().into());
        if change.nulls {
            entry.insert("nulls".into(), true.into());
        }
        if let Some(valid) = &change.valid {
            entry.insert("valid".into(), valid.clone().into());
        }
        if let Some(categories) = &change.categories
            && let Ok(value) = serde_json::to_value(categories_entry(categories))
        {
            entry.insert("categories".into(), value);
        }
    }
    Ok(serde_json::to_vec(&side).ok())
}
