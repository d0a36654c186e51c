//! What the side file says of an array, as an attribute of the array: for formats that have
//! attributes and no side file (HDF5, Zarr).
//!
//! The attribute [`MARK`] of the array of values is the JSON text of its entry, with the names of
//! its companions in the same group. Only arrays have it that the format cannot hold as they are:
//!
//! ```json
//! {"npk": 1, "name": "when", "dtype": "int64", "type": {"name": "timestamp", "unit": "us", "zone": "UTC"}, "valid": "when.valid"}
//! ```

use std::collections::HashMap;

use serde_json::Value;

use super::{
    ArrayEntry, LogicalArray, VERSION, array_entry, encoded_arrays, fold::fold_one, logical_of,
    nested_entry, taken_apart,
};
use crate::model::nested::TakenApart;
use crate::model::{ArrayMeta, Attributes, Dtype, EncodedArray, Encoding, Logical, Plan};

/// The attribute of an array that holds what its format cannot.
pub const MARK: &str = "npk_type";

/// The attribute of the first part of a nested array: the JSON text of its entry, with the names of
/// its parts in the same group.
pub const NESTED_MARK: &str = "npk_nested";

/// The nested array that the mark of an array tells of.
pub fn nested_mark(mark: Option<&Value>, array: &str) -> Option<TakenApart> {
    let mark: Value = serde_json::from_str(mark?.as_str()?).ok()?;
    if mark.get("npk")?.as_u64()? != u64::from(VERSION) {
        return None;
    }
    let mut nested = taken_apart(&serde_json::from_value(mark).ok()?)?;
    let group = array.rsplit_once('/').map_or(String::new(), |(group, _)| format!("{group}/"));
    nested.name = format!("{group}{}", nested.name);
    nested.parts.rename(&|name| format!("{group}{name}"));
    Some(nested)
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The marks of an output's arrays, by name.
pub struct Marks {
    types: HashMap<String, String>,
    nested: HashMap<String, String>,
}

impl Marks {
    /// Those that this output needs.
    pub fn of(plan: &Plan) -> Marks {
        let (encoded, _) = encoded_arrays(plan);
        let mark = |stored: &ArrayMeta| -> Option<String> {
            let encoded = encoded.get(stored.name.as_str()).copied();
            if encoded.is_none() && stored.original_dtype.is_none() {
                return None;
            }
            let mut entry = array_entry(stored, encoded, true)?;
            entry.name = last(&entry.name).to_string();
            for companion in
                [&mut entry.values, &mut entry.valid, &mut entry.offsets].into_iter().flatten()
            {
                *companion = last(companion).to_string();
            }
            let Value::Object(mut entry) = serde_json::to_value(entry).ok()? else { return None };
            // Rows may not be known yet, and an array that has got others is no worse for it.
            entry.shift_remove("shape");
            entry.shift_insert(0, "npk".into(), VERSION.into());
            serde_json::to_string(&entry).ok()
        };
        let types = plan.arrays.iter().filter_map(|a| Some((a.name.clone(), mark(a)?))).collect();
        let nested = |encoded: &EncodedArray| -> Option<(String, String)> {
            let mut entry = nested_entry(encoded)?;
            entry.name = last(&entry.name).to_string();
            entry.parts.as_mut()?.rename(&|name| last(name).to_string());
            let Value::Object(mut entry) = serde_json::to_value(entry).ok()? else { return None };
            entry.retain(|_, value| !value.is_array() && value.as_str() != Some(""));
            entry.shift_insert(0, "npk".into(), VERSION.into());
            Some((encoded.values.clone(), serde_json::to_string(&entry).ok()?))
        };
        Marks { types, nested: plan.encoded.iter().filter_map(nested).collect() }
    }

    /// The attributes to write with an array; `bare` (`--no-metadata`): nothing but what its values
    /// mean.
    pub fn attributes(&self, meta: &ArrayMeta, bare: bool) -> Attributes {
        let mut all = if bare { Attributes::new() } else { meta.details.attributes.clone() };
        for (key, marks) in [(MARK, &self.types), (NESTED_MARK, &self.nested)] {
            if let Some(mark) = marks.get(&meta.name) {
                all.insert(key.into(), mark.clone().into());
            }
        }
        all
    }
}

/// The logical arrays that marks describe, in order, without the marks; `None` where there are
/// none. The stored values of `LogicalArray::values` are cast where their dtype is not the logical
/// array's. Notes name what was ignored.
pub fn fold_marks(stored: &[ArrayMeta], notes: &mut Vec<String>) -> Option<Vec<LogicalArray>> {
    let entries: Vec<Option<ArrayEntry>> = stored.iter().map(entry).collect();
    if entries.iter().all(Option::is_none) {
        return None;
    }
    let mut clean = stored.to_vec();
    for (meta, _) in clean.iter_mut().zip(&entries).filter(|(_, e)| e.is_some()) {
        meta.details.attributes.shift_remove(MARK);
    }
    let index: HashMap<&str, usize> =
        clean.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let mut used = vec![false; clean.len()];
    let mut heads: HashMap<usize, LogicalArray> = HashMap::new();
    for (i, entry) in entries.into_iter().enumerate() {
        let Some(entry) = entry else { continue };
        match fold_marked(entry, &clean, i, &index, &used) {
            Ok(folded) => {
                for part in folded.indices() {
                    used[part] = true;
                }
                heads.insert(i, folded);
            }
            Err(why) => {
                notes.push(format!("the attribute {MARK} of {} is ignored: {why}", clean[i].name))
            }
        }
    }
    let plain = |(i, meta): (usize, ArrayMeta)| match heads.remove(&i) {
        Some(folded) => Some(folded),
        None if used[i] => None,
        None => Some(LogicalArray::plain(meta, i)),
    };
    Some(clean.into_iter().enumerate().filter_map(plain).collect())
}

/// The mark of an array, if it has one of ours.
fn entry(meta: &ArrayMeta) -> Option<ArrayEntry> {
    let mark: Value = serde_json::from_str(meta.details.attributes.get(MARK)?.as_str()?).ok()?;
    (mark.get("npk")?.as_u64()? == u64::from(VERSION)).then(|| serde_json::from_value(mark).ok())?
}

fn fold_marked(
    mut entry: ArrayEntry,
    stored: &[ArrayMeta],
    at: usize,
    index: &HashMap<&str, usize>,
    used: &[bool],
) -> Result<LogicalArray, String> {
    let of = &stored[at];
    let group = of.name.rsplit_once('/').map_or(String::new(), |(group, _)| format!("{group}/"));
    let full = |name: &str| format!("{group}{name}");
    // An array that was given another name keeps it, where the mark does not need another one.
    entry.name = if entry.values.is_some() { full(&entry.name) } else { of.name.clone() };
    entry.values = Some(of.name.clone());
    for companion in [&mut entry.valid, &mut entry.offsets].into_iter().flatten() {
        *companion = full(companion);
    }
    entry.shape = of.shape().unwrap_or_default();
    if !matches!(entry.form.as_deref(), None | Some("bits" | "offsets"))
        || entry.categories.is_some()
    {
        return Err("codes of categories are not known here".into());
    }
    if entry.form.is_some() && !of.logical.is_plain() {
        return Err(format!("it is {} by now", of.type_name()));
    }
    // Days and times of day of 32 bits stand in the 64 bits of numpy's times.
    let wide = entry.kind.as_ref().is_some_and(|k| matches!(k.name.as_str(), "date32" | "time32"))
        && of.logical.is_time();
    let narrow = if wide { entry.kind.take() } else { None };
    (entry.chunks, entry.alias_of) = (of.details.chunks.clone(), of.details.alias_of.clone());
    entry.attributes = of.details.attributes.clone();
    let mut folded = fold_one(entry, stored, index, used)?;
    if let Some(kind) = narrow {
        folded.meta.logical = logical_of(&kind, None)
            .ok_or_else(|| format!("the type {} is not known", kind.name))?;
        folded.meta.dtype = Dtype::I32;
    }
    if matches!(folded.encoding, Encoding::Offsets) {
        folded.meta.details.chunks = None;
    }
    let is_dictionary = matches!(folded.meta.logical, Logical::Dictionary { .. });
    match &folded.encoding {
        Encoding::Plain | Encoding::Bits if folded.meta.logical.is_var() != of.logical.is_var() => {
            Err(format!("it is {} by now", of.type_name()))
        }
        Encoding::Plain | Encoding::Bits | Encoding::Offsets if !is_dictionary => Ok(folded),
        _ => Err("codes of categories are not known here".into()),
    }
}
