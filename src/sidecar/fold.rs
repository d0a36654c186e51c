//! Stored arrays folded into the logical ones that a side file describes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::entries::{ArrayEntry, ColumnEntry, Side, TableEntry, VERSION, taken_apart};
use super::types::{categories_of, logical_of, suits};
use crate::model::{
    ArrayMeta, Categories, CategoryKind, Column, Dtype, Encoding, Logical, Plan, Shared, Table,
};

/// Why an entry is ignored.
pub(super) type Reason = String;

/// A logical array, and what it is made of.
#[derive(Debug)]
pub struct LogicalArray {
    /// The logical array.
    pub meta: ArrayMeta,
    /// What it is made of.
    pub parts: StoredParts,
}

impl std::ops::Deref for LogicalArray {
    type Target = StoredParts;
    fn deref(&self) -> &StoredParts {
        &self.parts
    }
}

impl LogicalArray {
    /// The `values`th stored array as it is.
    pub(super) fn plain(meta: ArrayMeta, values: usize) -> LogicalArray {
        LogicalArray { meta, parts: StoredParts { values, ..StoredParts::default() } }
    }

    /// The logical arrays, and in the same order what they are made of.
    pub fn split(all: Vec<LogicalArray>) -> (Shared<Vec<ArrayMeta>>, Vec<StoredParts>) {
        let (metas, parts): (Vec<_>, Vec<_>) = all.into_iter().map(|a| (a.meta, a.parts)).unzip();
        (metas.into(), parts)
    }
}

/// The stored arrays (indices into the list given to [`fold`]) that a logical array is made of.
#[derive(Debug, Default)]
pub struct StoredParts {
    /// How `values` holds the values.
    pub encoding: Encoding,
    /// The stored array of values, codes or elements.
    pub values: usize,
    /// The stored array of offsets into `values`, for [`Encoding::Offsets`].
    pub offsets: Option<usize>,
    /// The stored mask.
    pub valid: Option<usize>,
    /// Whether codes of -1 are nulls (dictionaries whose nulls have no mask).
    pub minus_is_null: bool,
    /// About how many bytes a row of text or of a list has.
    pub mean_bytes: u64,
    /// How many the longest text of its categories has.
    pub longest_bytes: u64,
}

impl StoredParts {
    /// The stored arrays that these are.
    pub fn indices(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        [Some(self.values), self.valid, self.offsets].into_iter().flatten()
    }
}

/// The stored arrays of a store, and which of them are parts of logical ones by now.
pub(super) struct StoredArrays<'a> {
    arrays: &'a [ArrayMeta],
    index: HashMap<&'a str, usize>,
    used: Vec<bool>,
}

impl<'a> StoredArrays<'a> {
    pub(super) fn new(arrays: &'a [ArrayMeta]) -> StoredArrays<'a> {
        let index = arrays.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
        StoredArrays { arrays, index, used: vec![false; arrays.len()] }
    }

    /// The parts of this array are those of no other.
    pub(super) fn claim(&mut self, folded: &LogicalArray) {
        folded.indices().for_each(|i| self.used[i] = true);
    }

    /// Which arrays are parts of logical ones.
    pub(super) fn used(self) -> Vec<bool> {
        self.used
    }

    fn find(&self, name: &str) -> Result<usize, Reason> {
        let i = *self.index.get(name).ok_or_else(|| format!("the store has no array {name}"))?;
        if self.used[i] { Err(format!("{name} belongs to another array")) } else { Ok(i) }
    }

    /// The array of an entry's values, if it is still what the entry says.
    fn values(&self, entry: &ArrayEntry) -> Result<usize, Reason> {
        let name = entry.values.as_deref().unwrap_or(&entry.name);
        if name != entry.name && self.index.contains_key(entry.name.as_str()) {
            return Err("the store has another array of this name now".into());
        }
        let values = self.find(name)?;
        let of = &self.arrays[values];
        let shape = of.shape().unwrap_or_default();
        if of.details.error.is_none() && (of.dtype.name() != entry.dtype || shape != entry.shape) {
            return Err(format!(
                "{name} is {} {shape:?} now, it was {} {:?}",
                of.dtype, entry.dtype, entry.shape
            ));
        }
        Ok(values)
    }

    /// The array of an entry's offsets, and how many rows they cut.
    fn offsets(&self, entry: &ArrayEntry) -> Result<(usize, u64), Reason> {
        let at = self.find(entry.offsets.as_deref().ok_or("it has no offsets")?)?;
        let offsets = &self.arrays[at];
        match offsets.rows.and_then(|rows| rows.checked_sub(1)) {
            Some(rows) if offsets.dtype == Dtype::I64 && offsets.inner.is_empty() => Ok((at, rows)),
            _ => Err(format!("{} holds no offsets", offsets.name)),
        }
    }

    /// A mask of so many rows.
    fn mask(&self, name: &str, rows: Option<u64>) -> Result<usize, Reason> {
        let i = self.find(name)?;
        let mask = &self.arrays[i];
        if mask.dtype != Dtype::Bool || !mask.inner.is_empty() || mask.rows != rows {
            return Err(format!("{name} is no longer a mask of its rows"));
        }
        Ok(i)
    }
}

/// Folds stored arrays into the logical ones that the side file describes; fills in the plan's
/// attributes, groups, tables, and notes of what was dropped.
pub fn fold(side: Option<Vec<u8>>, stored: Vec<ArrayMeta>, plan: &mut Plan) -> Vec<LogicalArray> {
    let side = side.map(|text| read_side(&text, &mut plan.notes)).unwrap_or_default();
    let mut arrays = StoredArrays::new(&stored);
    let mut heads: HashMap<usize, LogicalArray> = HashMap::new();
    for entry in side.arrays {
        if let Some(nested) = taken_apart(&entry) {
            plan.nested.push(nested);
            continue;
        }
        let name = entry.name.clone();
        match fold_one(entry, &arrays) {
            Ok(folded) => {
                arrays.claim(&folded);
                heads.insert(folded.values, folded);
            }
            Err(why) => {
                plan.notes.push(format!("npk.json: its entry for {name} is ignored: {why}"))
            }
        }
    }
    let used = arrays.used();
    let mut all: Vec<LogicalArray> = Vec::with_capacity(stored.len());
    let names: HashSet<String> = heads.values().map(|f| f.meta.name.clone()).collect();
    for (i, meta) in stored.into_iter().enumerate() {
        match heads.remove(&i) {
            Some(folded) => all.push(folded),
            None if used[i] => {}
            None => {
                if names.contains(&meta.name) {
                    plan.notes.push(format!(
                        "npk.json names an array {} that the store has as well: both are listed",
                        meta.name
                    ));
                }
                all.push(LogicalArray::plain(meta, i));
            }
        }
    }
    put_in_order(&mut all, &side.order, plan);
    plan.attributes = side.attributes.into();
    plan.groups = side.groups;
    let nested: Vec<String> = plan.nested.iter().map(|n| n.name.clone()).collect();
    let known: HashSet<&str> =
        all.iter().map(|f| &f.meta.name).chain(&nested).map(String::as_str).collect();
    let tables = known_tables(side.tables, &known, "npk.json", &mut plan.notes);
    plan.tables.extend(tables);
    all
}

/// What a side file says; nothing, and a note, where it cannot be read.
fn read_side(text: &[u8], notes: &mut Vec<String>) -> Side<ArrayEntry, TableEntry> {
    let whole = match serde_json::from_slice::<Side<ArrayEntry, TableEntry>>(text) {
        Ok(side) => Ok(side),
        // Entry by entry: what is wrong with one of them is no reason to ignore the others.
        Err(_) => serde_json::from_slice::<Side>(text).map(|side| {
            let Side { npk, format, attributes, groups, tables, order, arrays } = side;
            let arrays = entries("npk.json", "an array", arrays, notes);
            let tables = entries("npk.json", "a table", tables, notes);
            Side { npk, format, attributes, groups, tables, order, arrays }
        }),
    };
    match whole {
        Ok(side) if side.npk == VERSION => return side,
        Ok(side) => notes.push(format!(
            "npk.json has version {}, which is not supported: it is ignored",
            side.npk
        )),
        Err(e) => notes.push(format!("npk.json cannot be read and is ignored: {e}")),
    }
    Side::default()
}

/// Those entries of a side file or a mark (`place`) that can be read.
fn entries<T: DeserializeOwned>(
    place: &str,
    what: &str,
    all: Vec<Value>,
    notes: &mut Vec<String>,
) -> Vec<T> {
    let mut found = Vec::with_capacity(all.len());
    for value in all {
        match serde_json::from_value(value) {
            Ok(entry) => found.push(entry),
            Err(e) => {
                notes.push(format!("{place}: {what} entry cannot be read and is ignored: {e}"));
            }
        }
    }
    found
}

/// Puts arrays in the order of a side file; the parts of nested ones stand where these do.
fn put_in_order(all: &mut [LogicalArray], order: &[String], plan: &Plan) {
    if order.is_empty() {
        return;
    }
    let mut place: HashMap<&str, usize> =
        order.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    for nested in &plan.nested {
        let Some(&at) = place.get(nested.name.as_str()) else { continue };
        place.extend(nested.parts.arrays().into_iter().map(|part| (part, at)));
    }
    all.sort_by_key(|f| place.get(f.meta.name.as_str()).copied().unwrap_or(usize::MAX));
}

/// The tables that a side file or a mark (`place`) tells of, where their arrays are known.
pub(super) fn tables(
    entries: Vec<Value>,
    known: &HashSet<&str>,
    place: &str,
    notes: &mut Vec<String>,
) -> Vec<Table> {
    known_tables(self::entries(place, "a table", entries, notes), known, place, notes)
}

fn known_tables(
    entries: Vec<TableEntry>,
    known: &HashSet<&str>,
    place: &str,
    notes: &mut Vec<String>,
) -> Vec<Table> {
    let mut found = Vec::new();
    for table in entries {
        let there = |name: &String| known.contains(name.as_str());
        let whole = match &table.matrix {
            Some(matrix) => there(matrix),
            None => table.columns.iter().all(|c| there(&c.array)) && table.index.iter().all(there),
        };
        if !whole {
            let note = format!("{place}: a table entry is ignored: some of its arrays are gone");
            notes.push(note);
            continue;
        }
        let column = |c: ColumnEntry| Column { array: c.array, header: c.header };
        found.push(Table {
            columns: table.columns.into_iter().map(column).collect(),
            index: table.index,
            matrix: table.matrix,
            metadata: table.metadata,
        });
    }
    found
}

/// The logical array of an entry.
///
/// # Errors
/// Why the entry says nothing of the arrays that are there.
pub(super) fn fold_one(
    mut entry: ArrayEntry,
    stored: &StoredArrays<'_>,
) -> Result<LogicalArray, Reason> {
    let values = stored.values(&entry)?;
    let of = &stored.arrays[values];
    let mut meta = of.clone();
    meta.name = entry.name.clone();
    if let Some(kind) = &entry.kind {
        meta.logical = logical_of(kind, &mut entry.categories)
            .ok_or_else(|| format!("the type {} is not known", kind.name))?;
    }
    // Decimals that were kept as their texts.
    if entry.form.is_some() && matches!(meta.logical, Logical::Decimal { .. }) {
        meta.logical = Logical::Text;
    }
    let (encoding, offsets) = encoding(&mut entry, of, stored, &mut meta)?;
    if entry.scalar {
        if meta.rows != Some(1) || !meta.inner.is_empty() {
            return Err("it is no longer a scalar".into());
        }
        meta.scalar = true;
    }
    let valid = entry.valid.as_deref().map(|name| stored.mask(name, meta.rows)).transpose()?;
    meta.nulls = entry.nulls || valid.is_some();
    meta.details.chunks = entry.chunks;
    meta.details.alias_of = entry.alias_of;
    meta.details.attributes = entry.attributes;
    if meta.logical != of.logical && meta.details.stored_dtype.is_none() {
        meta.details.stored_dtype = Some(of.type_name());
    }
    let (mean_bytes, longest_bytes) = row_bytes(&encoding, of, meta.rows.unwrap_or(0));
    let minus_is_null = entry.nulls
        && valid.is_none()
        && matches!((&encoding, &meta.logical), (Encoding::Plain, Logical::Dictionary { .. }));
    let parts =
        StoredParts { encoding, values, offsets, valid, minus_is_null, mean_bytes, longest_bytes };
    let mut folded = LogicalArray { meta, parts };
    // An array is as broken as its mask or offsets.
    let indices = folded.indices();
    folded.meta.details.error =
        indices.clone().find_map(|i| stored.arrays[i].details.error.clone());
    let mut seen = HashSet::new();
    if indices.into_iter().all(|i| seen.insert(i)) {
        Ok(folded)
    } else {
        Err("its parts are one array".into())
    }
}

/// How the stored array `of` holds the values of an entry, and the array of their offsets. `meta`,
/// the logical array, gets what follows from that.
fn encoding(
    entry: &mut ArrayEntry,
    of: &ArrayMeta,
    stored: &StoredArrays<'_>,
    meta: &mut ArrayMeta,
) -> Result<(Encoding, Option<usize>), Reason> {
    let original = match &entry.original_dtype {
        Some(name) => {
            Some(Dtype::parse(name).ok_or_else(|| format!("the type {name} is not known"))?)
        }
        None => None,
    };
    match entry.form.as_deref() {
        None if meta.logical.is_var() && !of.logical.is_var() => {
            Err("it is text or a list without codes or offsets".into())
        }
        None if !suits(&meta.logical, of) => Err(format!("{} does not hold it", of.dtype)),
        None => {
            meta.original_dtype = original;
            Ok((Encoding::Plain, None))
        }
        Some("bits") => {
            let original = original.filter(|d| d.item_bytes() == of.dtype.item_bytes());
            meta.dtype = original.ok_or("its type before is not known")?;
            meta.details.stored_dtype = Some(of.dtype.name().into());
            Ok((Encoding::Bits, None))
        }
        Some("codes") => {
            let categories = text_categories(entry, of, &meta.logical)?;
            meta.details.stored_dtype = Some(of.dtype.name().into());
            meta.dtype = Dtype::U8;
            Ok((Encoding::Codes(categories), None))
        }
        Some("offsets") => {
            let is_list = matches!(meta.logical, Logical::List);
            if !meta.logical.is_var() || !of.inner.is_empty() || !is_list && of.dtype != Dtype::U8 {
                return Err("offsets of this type are not known".into());
            }
            let (offsets, rows) = stored.offsets(entry)?;
            meta.rows = Some(rows);
            Ok((Encoding::Offsets, Some(offsets)))
        }
        Some(other) => Err(format!("the form {other} is not known")),
    }
}

/// The categories of texts that are stored as codes.
fn text_categories(
    entry: &mut ArrayEntry,
    of: &ArrayMeta,
    logical: &Logical,
) -> Result<Arc<Categories>, Reason> {
    if !logical.is_var()
        || matches!(logical, Logical::List)
        || !of.dtype.is_integer()
        || !of.inner.is_empty()
    {
        return Err("codes of this type are not known".into());
    }
    let categories = entry.categories.take().and_then(categories_of);
    let texts = categories.filter(|c| !matches!(c.kind(), CategoryKind::Fixed(..)));
    texts.ok_or_else(|| "its categories cannot be read".into())
}

/// About how many bytes a row of text or of a list has, and how many the longest category.
fn row_bytes(encoding: &Encoding, of: &ArrayMeta, rows: u64) -> (u64, u64) {
    match encoding {
        Encoding::Codes(categories) => categories.with(|items| {
            let lengths = || items.iter().map(Vec::len);
            let mean = lengths().sum::<usize>() as u64 / items.len().max(1) as u64 + 1;
            (mean, lengths().max().unwrap_or(0) as u64)
        }),
        Encoding::Offsets => {
            let bytes = of.rows.unwrap_or(0).saturating_mul(of.dtype.item_bytes());
            (bytes / rows.max(1) + 1, 0)
        }
        _ => (0, 0),
    }
}
