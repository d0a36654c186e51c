//! What the side file says of an array, as an attribute of the array: for formats that have
//! attributes and no side file (HDF5, Zarr). What it says of tables is an attribute of the root
//! group.
//!
//! The attribute [`MARK`] of the array of values is the JSON text of its entry, with the names of
//! its companions in the same group. Only arrays have it that the format cannot hold as they are.
//! Dictionaries are written as what their codes mean; the mark has the codes' type and the
//! categories:
//!
//! ```json
//! {"npk": 1, "name": "when", "dtype": "int64", "type": {"name": "timestamp", "unit": "us", "zone": "UTC"}, "valid": "when.valid"}
//! {"npk": 1, "name": "city", "dtype": "uint8", "type": {"name": "dictionary"}, "categories": {"kind": "text", "items": ["Oslo"]}, "was": "int8"}
//! ```

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::describe::encoded_arrays;
use super::entries::{ArrayEntry, VERSION, array_entry, nested_entry, table_entry, taken_apart};
use super::fold::{self, LogicalArray, Reason, StoredArrays, fold_one};
use super::types::{categories_of, logical_of};
use crate::model::nested::TakenApart;
use crate::model::{ArrayMeta, Attributes, Dtype, EncodedArray, Encoding, Logical, Plan, Table};

/// The attribute of an array that holds what its format cannot.
pub const MARK: &str = "npk_type";

/// The attribute of the first part of a nested array: the JSON text of its entry, with the names of
/// its parts in the same group.
pub const NESTED_MARK: &str = "npk_nested";

/// The attribute of the root group that holds the tables among the arrays: the JSON text of a list,
/// as `tables` of the side file.
const TABLES_MARK: &str = "npk_tables";

/// The most bytes of a mark with the categories of a dictionary: all metadata are read before
/// anything else is.
const MAX_DICTIONARY_BYTES: usize = 1 << 20;

/// Adds what an output's tables are to the attributes of its root group, where the names and the
/// order of its arrays do not say as much; `bare` as in [`super::describe`].
pub fn mark_tables(plan: &Plan, bare: bool, root: &mut Attributes) {
    let says = |t: &Table| {
        let arrays = t.columns.iter().map(|c| &c.array);
        let named = t.columns.iter().all(|c| c.array == c.header);
        let plain = named
            && t.columns.len() > 1
            && t.index.is_empty()
            && t.matrix.is_none()
            && arrays.eq(plan.arrays.iter().map(|a| &a.name));
        !plain || !bare && !t.metadata.is_empty()
    };
    if !plan.tables.iter().any(says) {
        return;
    }
    let entries: Vec<_> = plan.tables.iter().map(|t| table_entry(t, bare)).collect();
    if let Ok(text) = serde_json::to_string(&entries) {
        root.insert(TABLES_MARK.into(), text.into());
    }
}

/// Takes the mark of tables out of the attributes; the tables whose arrays are there become the
/// plan's.
pub fn unmark_tables(plan: &mut Plan) {
    let Some(mark) = plan.attributes.shift_remove(TABLES_MARK) else { return };
    let known: HashSet<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
    let entries = mark.as_str().and_then(|text| serde_json::from_str(text).ok());
    let place = format!("the attribute {TABLES_MARK}");
    match entries {
        Some(entries) => {
            let tables = fold::tables(entries, &known, &place, &mut plan.notes);
            plan.tables.extend(tables);
        }
        None => plan.notes.push(format!("{place} is ignored: it is not a list of tables")),
    }
}

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

fn is_dictionary(encoded: &EncodedArray) -> bool {
    matches!(encoded.meta.logical, Logical::Dictionary { .. })
}

fn mark_text(mut entry: ArrayEntry) -> Option<String> {
    entry.name = last(&entry.name).to_string();
    for companion in [&mut entry.values, &mut entry.valid, &mut entry.offsets].into_iter().flatten()
    {
        *companion = last(companion).to_string();
    }
    let Value::Object(mut entry) = serde_json::to_value(entry).ok()? else { return None };
    // Rows may not be known yet, and an array that has got others is no worse for it.
    entry.shift_remove("shape");
    entry.shift_insert(0, "npk".into(), VERSION.into());
    serde_json::to_string(&entry).ok()
}

/// The marks of arrays that were dictionaries, by name: their categories are known at the end.
/// Larger ones than an attribute should hold are left out, with a note: then the values come back
/// as they are stored.
pub fn dictionary_marks(end: &Plan) -> (HashMap<String, Attributes>, Vec<String>) {
    let (encoded, _) = encoded_arrays(end);
    let mut notes = Vec::new();
    let mut mark = |stored: &ArrayMeta| -> Option<(String, Attributes)> {
        let encoded = encoded.get(stored.name.as_str()).copied().filter(|e| is_dictionary(e))?;
        let mut entry = array_entry(stored, Some(encoded), true)?;
        entry.original_dtype = Some(encoded.meta.dtype.name().to_string());
        let text = mark_text(entry)?;
        if text.len() > MAX_DICTIONARY_BYTES {
            let (name, kind) = (&stored.name, encoded.meta.type_name());
            notes.push(format!("{name}: its values come back, but not as {kind}: the categories take {} bytes, too many for an attribute", text.len()));
            return None;
        }
        let mark = [(MARK.to_string(), Value::String(text))];
        Some((stored.name.clone(), mark.into_iter().collect()))
    };
    let marks = end.arrays.iter().filter_map(&mut mark).collect();
    (marks, notes)
}

/// The marks of an output's arrays, by name, but for dictionaries.
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
            let late = encoded.is_some_and(is_dictionary);
            if late || encoded.is_none() && stored.original_dtype.is_none() {
                return None;
            }
            mark_text(array_entry(stored, encoded, true)?)
        };
        let types = plan.arrays.iter().filter_map(|a| Some((a.name.clone(), mark(a)?))).collect();
        // Leaves may be stored in another form, under another name.
        let flat = encoded.values().map(|k| (k.meta.name.as_str(), k.values.as_str()));
        let stored: HashMap<&str, &str> = flat.collect();
        let nested = |encoded: &EncodedArray| -> Option<(String, String)> {
            let mut entry = nested_entry(encoded)?;
            entry.name = last(&entry.name).to_string();
            entry.parts.as_mut()?.rename(&|name| last(name).to_string());
            let Value::Object(mut entry) = serde_json::to_value(entry).ok()? else { return None };
            entry.retain(|_, value| !value.is_array() && value.as_str() != Some(""));
            entry.shift_insert(0, "npk".into(), VERSION.into());
            let first = encoded.values.as_str();
            let first = stored.get(first).copied().unwrap_or(first);
            Some((first.to_string(), serde_json::to_string(&entry).ok()?))
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
    let mut arrays = StoredArrays::new(&clean);
    let mut heads: HashMap<usize, LogicalArray> = HashMap::new();
    for (i, entry) in entries.into_iter().enumerate() {
        let Some(entry) = entry else { continue };
        match fold_marked(entry, &clean[i], &arrays) {
            Ok(folded) => {
                arrays.claim(&folded);
                heads.insert(i, folded);
            }
            Err(why) => {
                notes.push(format!("the attribute {MARK} of {} is ignored: {why}", clean[i].name))
            }
        }
    }
    let used = arrays.used();
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
    of: &ArrayMeta,
    stored: &StoredArrays<'_>,
) -> Result<LogicalArray, Reason> {
    let group = of.name.rsplit_once('/').map_or(String::new(), |(group, _)| format!("{group}/"));
    let full = |name: &str| format!("{group}{name}");
    // An array that was given another name keeps it, where the mark does not need another one.
    entry.name = if entry.values.is_some() { full(&entry.name) } else { of.name.clone() };
    entry.values = Some(of.name.clone());
    for companion in [&mut entry.valid, &mut entry.offsets].into_iter().flatten() {
        *companion = full(companion);
    }
    entry.shape = of.shape().unwrap_or_default();
    let dictionary = take_dictionary(&mut entry)?;
    if !matches!(entry.form.as_deref(), None | Some("bits" | "offsets"))
        || entry.categories.is_some()
    {
        return Err("codes of categories are not known here".into());
    }
    if entry.form.is_some() && !of.logical.is_plain() {
        return Err(format!("its type is {} now", of.type_name()));
    }
    // Days and times of day of 32 bits stand in the 64 bits of numpy's times.
    let wide = entry.kind.as_ref().is_some_and(|k| matches!(k.name.as_str(), "date32" | "time32"))
        && of.logical.is_time();
    let narrow = if wide { entry.kind.take() } else { None };
    (entry.chunks, entry.alias_of) = (of.details.chunks.clone(), of.details.alias_of.clone());
    entry.attributes = of.details.attributes.clone();
    let mut folded = fold_one(entry, stored)?;
    if let Some(kind) = narrow {
        folded.meta.logical = logical_of(&kind, &mut None)
            .ok_or_else(|| format!("the type {} is not known", kind.name))?;
        folded.meta.dtype = Dtype::I32;
    }
    if matches!(folded.encoding, Encoding::Offsets) {
        folded.meta.details.chunks = None;
    }
    if let Some((dictionary, codes)) = dictionary {
        return of_dictionary(folded, of, dictionary, codes);
    }
    let is_dictionary = matches!(folded.meta.logical, Logical::Dictionary { .. });
    match &folded.encoding {
        Encoding::Plain | Encoding::Bits if folded.meta.logical.is_var() != of.logical.is_var() => {
            Err(format!("its type is {} now", of.type_name()))
        }
        Encoding::Plain | Encoding::Bits | Encoding::Offsets if !is_dictionary => Ok(folded),
        _ => Err("codes of categories are not known here".into()),
    }
}

/// The dictionary of an entry, and the type of its codes; the entry is then that of its values.
fn take_dictionary(entry: &mut ArrayEntry) -> Result<Option<(Logical, Dtype)>, Reason> {
    let Some(kind) = entry.kind.take_if(|kind| kind.name == "dictionary") else { return Ok(None) };
    let categories = entry.categories.take().and_then(categories_of);
    let categories = categories.ok_or("its categories cannot be read")?;
    let codes = entry.original_dtype.take().and_then(|name| Dtype::parse(&name));
    let codes = codes.filter(|d| d.is_integer()).ok_or("the type of its codes is not known")?;
    Ok(Some((Logical::Dictionary { categories, ordered: kind.ordered }, codes)))
}

/// The array of a dictionary whose values are stored.
fn of_dictionary(
    mut folded: LogicalArray,
    of: &ArrayMeta,
    dictionary: Logical,
    codes: Dtype,
) -> Result<LogicalArray, Reason> {
    let Logical::Dictionary { categories, .. } = &dictionary else {
        return Err("it is not a dictionary".into());
    };
    let values = categories.kind().meta();
    if !matches!(folded.encoding, Encoding::Plain)
        || of.logical != values.logical
        || of.dtype != values.dtype
        || !of.inner.ends_with(&values.inner)
    {
        return Err(format!("its type is {} now", of.type_name()));
    }
    let meta = &mut folded.meta;
    meta.inner.truncate(of.inner.len() - values.inner.len());
    meta.details.stored_dtype = Some(of.type_name());
    (meta.logical, meta.dtype) = (dictionary, codes);
    Ok(folded)
}
