//! Stored arrays folded into the logical ones that a side file describes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::Value;

use super::{
    ArrayEntry, ColumnEntry, Side, TableEntry, VERSION, categories_of, logical_of, suits,
    taken_apart,
};
use crate::error::{Error, Result};
use crate::model::{
    ArrayMeta, Buf, CategoryKind, Chunk, Column, Dtype, Encoding, Logical, Plan, Shared, Table,
    Values, typed,
};

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
        let parts = StoredParts {
            encoding: Encoding::Plain,
            values,
            offsets: None,
            valid: None,
            minus_is_null: false,
            mean_bytes: 0,
            longest_bytes: 0,
        };
        LogicalArray { meta, parts }
    }

    /// The logical arrays, and in the same order what they are made of.
    pub fn split(all: Vec<LogicalArray>) -> (Shared<Vec<ArrayMeta>>, Vec<StoredParts>) {
        let (metas, parts): (Vec<_>, Vec<_>) = all.into_iter().map(|a| (a.meta, a.parts)).unzip();
        (metas.into(), parts)
    }
}

/// The stored arrays (indices into the list given to [`fold`]) that a logical array is made of.
#[derive(Debug)]
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

/// Folds stored arrays into the logical ones that the side file describes; fills in the plan's
/// attributes, groups, tables, and notes of what was dropped.
pub fn fold(side: Option<&[u8]>, stored: Vec<ArrayMeta>, plan: &mut Plan) -> Vec<LogicalArray> {
    let side = match side.map(serde_json::from_slice::<Side>) {
        None => Side::default(),
        Some(Ok(side)) if side.npk == VERSION => side,
        Some(Ok(side)) => {
            plan.notes.push(format!(
                "npk.json has version {}, which is not supported: it is ignored",
                side.npk
            ));
            Side::default()
        }
        Some(Err(e)) => {
            plan.notes.push(format!("npk.json cannot be read and is ignored: {e}"));
            Side::default()
        }
    };
    let index: HashMap<&str, usize> =
        stored.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let mut used: Vec<bool> = vec![false; stored.len()];
    let mut heads: HashMap<usize, LogicalArray> = HashMap::new();
    for value in side.arrays {
        let entry: ArrayEntry = match serde_json::from_value(value) {
            Ok(entry) => entry,
            Err(e) => {
                plan.notes
                    .push(format!("npk.json: an array entry cannot be read and is ignored: {e}"));
                continue;
            }
        };
        if let Some(nested) = taken_apart(&entry) {
            plan.nested.push(nested);
            continue;
        }
        let name = entry.name.clone();
        match fold_one(entry, &stored, &index, &used) {
            Ok(folded) => {
                for i in folded.indices() {
                    used[i] = true;
                }
                heads.insert(folded.values, folded);
            }
            Err(why) => {
                plan.notes.push(format!("npk.json: its entry for {name} is ignored: {why}"))
            }
        }
    }
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
    if !side.order.is_empty() {
        let mut place: HashMap<&str, usize> =
            side.order.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        for nested in &plan.nested {
            let Some(&at) = place.get(nested.name.as_str()) else { continue };
            place.extend(nested.parts.arrays().into_iter().map(|part| (part, at)));
        }
        all.sort_by_key(|f| place.get(f.meta.name.as_str()).copied().unwrap_or(usize::MAX));
    }
    plan.attributes = side.attributes;
    plan.groups = side.groups;
    let nested: Vec<String> = plan.nested.iter().map(|n| n.name.clone()).collect();
    let known: HashSet<&str> =
        all.iter().map(|f| &f.meta.name).chain(&nested).map(String::as_str).collect();
    let tables = tables(side.tables, &known, "npk.json", &mut plan.notes);
    plan.tables.extend(tables);
    all
}

/// The tables that a side file or a mark (`place`) tells of, where their arrays are known.
pub(super) fn tables(
    entries: Vec<Value>,
    known: &HashSet<&str>,
    place: &str,
    notes: &mut Vec<String>,
) -> Vec<Table> {
    let mut found = Vec::new();
    for value in entries {
        let table = match serde_json::from_value::<TableEntry>(value) {
            Ok(table) => table,
            Err(e) => {
                notes.push(format!("{place}: a table entry cannot be read and is ignored: {e}"));
                continue;
            }
        };
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

/// Where rows begin among `values` elements: stored int64 offsets from row `first` on, which never
/// decrease.
///
/// # Errors
/// Corrupt, naming the offset.
pub fn offsets(bytes: &[u8], first: u64, values: u64) -> Result<Vec<u64>> {
    let offsets: Vec<u64> = typed::<i64>(bytes).iter().map(|&o| o as u64).collect();
    let mut before = offsets.first().copied().unwrap_or(0);
    for (i, &o) in offsets.iter().enumerate() {
        if o < before || o > values {
            let row = first + i as u64;
            return Err(Error::corrupt(format!(
                "offset {row} is {}, expected between {before} and {values}",
                o as i64
            )));
        }
        before = o;
    }
    Ok(offsets)
}

/// Rows that are cut by offsets, handed on in chunks of about `chunk_bytes`: `offsets` are those of
/// the rows and the one behind, `values` reads elements of `item_bytes` each.
///
/// # Errors
/// Those of `values` and `emit`.
pub fn emit_rows(
    (array, first_row): (usize, u64),
    offsets: &[u64],
    mask: Option<&Buf>,
    (item_bytes, chunk_bytes): (u64, u64),
    values: &dyn Fn(Range<u64>) -> Result<Vec<u8>>,
    emit: &mut dyn FnMut(Chunk) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at + 1 < offsets.len() {
        let n = rows_within(&offsets[at..], item_bytes, chunk_bytes).0 as usize;
        let cuts = &offsets[at..=at + n];
        let bytes = Buf::from_vec(values(cuts[0]..cuts[n])?);
        let offsets = cuts.iter().map(|o| o - cuts[0]).collect();
        let valid = mask.map(|m| m.slice_with_length(at, n)).filter(|m| m.contains(&0));
        emit(Chunk {
            array,
            first_row: first_row + at as u64,
            rows: n as u64,
            values: Values::Var { offsets, values: bytes },
            valid,
        })?;
        at += n;
    }
    Ok(())
}

/// How many of the rows between these offsets, from the first on, take at most `bytes` (elements of
/// `item_bytes` each, and the offsets), but one at least; and how many bytes these take.
pub fn rows_within(offsets: &[u64], item_bytes: u64, bytes: u64) -> (u64, u64) {
    let rows = offsets.len().saturating_sub(1);
    let held = |n: usize| {
        (offsets[n] - offsets[0]).saturating_mul(item_bytes).saturating_add(8 * n as u64)
    };
    let (mut fit, mut over) = (1.min(rows), rows + 1);
    while over - fit > 1 {
        let middle = fit + (over - fit) / 2;
        *if held(middle) <= bytes { &mut fit } else { &mut over } = middle;
    }
    (fit as u64, if fit > 0 { held(fit) } else { 0 })
}

pub(super) fn fold_one(
    entry: ArrayEntry,
    stored: &[ArrayMeta],
    index: &HashMap<&str, usize>,
    used: &[bool],
) -> std::result::Result<LogicalArray, String> {
    let find = |name: &str| -> std::result::Result<usize, String> {
        let i = *index.get(name).ok_or_else(|| format!("the store has no array {name}"))?;
        if used[i] { Err(format!("{name} belongs to another array")) } else { Ok(i) }
    };
    let stored_name = entry.values.as_deref().unwrap_or(&entry.name);
    if stored_name != entry.name && index.contains_key(entry.name.as_str()) {
        return Err("the store has an array of this name by now".into());
    }
    let values = find(stored_name)?;
    let of = &stored[values];
    let shape = of.shape().unwrap_or_default();
    if of.details.error.is_none() && (of.dtype.name() != entry.dtype || shape != entry.shape) {
        return Err(format!(
            "{stored_name} is {} {shape:?} by now, it was {} {:?}",
            of.dtype, entry.dtype, entry.shape
        ));
    }
    let mut meta = of.clone();
    meta.name = entry.name.clone();
    if let Some(kind) = &entry.kind {
        meta.logical = logical_of(kind, entry.categories.as_ref())
            .ok_or_else(|| format!("the type {} is not known", kind.name))?;
    }
    let was = match &entry.original_dtype {
        Some(name) => {
            Some(Dtype::parse(name).ok_or_else(|| format!("the type {name} is not known"))?)
        }
        None => None,
    };
    // Decimals that were kept as their texts.
    if entry.form.is_some() && matches!(meta.logical, Logical::Decimal { .. }) {
        meta.logical = Logical::Text;
    }
    let mut offsets = None;
    let encoding = match entry.form.as_deref() {
        None if meta.logical.is_var() && !of.logical.is_var() => {
            return Err("it is text or a list without codes or offsets".into());
        }
        None if !suits(&meta.logical, of) => {
            return Err(format!("{} does not hold it", of.dtype));
        }
        None => {
            meta.original_dtype = was;
            Encoding::Plain
        }
        Some("bits") => {
            let was = was
                .filter(|d| d.item_bytes() == of.dtype.item_bytes())
                .ok_or("its type before is not known")?;
            meta.details.stored_dtype = Some(of.dtype.name().into());
            meta.dtype = was;
            Encoding::Bits
        }
        Some("codes") => {
            if !meta.logical.is_var()
                || matches!(meta.logical, Logical::List)
                || !of.dtype.is_integer()
                || !of.inner.is_empty()
            {
                return Err("codes of this type are not known".into());
            }
            let categories = entry
                .categories
                .as_ref()
                .and_then(categories_of)
                .filter(|c| !matches!(c.kind(), CategoryKind::Fixed(..)))
                .ok_or("its categories cannot be read")?;
            meta.details.stored_dtype = Some(of.dtype.name().into());
            meta.dtype = Dtype::U8;
            Encoding::Codes(categories)
        }
        Some("offsets") => {
            if !meta.logical.is_var()
                || !of.inner.is_empty()
                || !matches!(meta.logical, Logical::List) && of.dtype != Dtype::U8
            {
                return Err("offsets of this type are not known".into());
            }
            let at = find(entry.offsets.as_deref().ok_or("it has no offsets")?)?;
            let cuts = &stored[at];
            let rows = cuts.rows.unwrap_or(0);
            if cuts.dtype != Dtype::I64 || !cuts.inner.is_empty() || rows == 0 {
                return Err(format!("{} holds no offsets", cuts.name));
            }
            meta.rows = Some(rows - 1);
            offsets = Some(at);
            Encoding::Offsets
        }
        Some(other) => return Err(format!("the form {other} is not known")),
    };
    if entry.scalar {
        if meta.rows != Some(1) || !meta.inner.is_empty() {
            return Err("it is no longer a scalar".into());
        }
        meta.scalar = true;
    }
    let valid = match &entry.valid {
        None => None,
        Some(name) => {
            let i = find(name)?;
            let mask = &stored[i];
            if mask.dtype != Dtype::Bool || !mask.inner.is_empty() || mask.rows != meta.rows {
                return Err(format!("{name} is no longer a mask of its rows"));
            }
            Some(i)
        }
    };
    meta.nulls = entry.nulls || valid.is_some();
    meta.details.chunks = entry.chunks;
    meta.details.alias_of = entry.alias_of;
    meta.details.attributes = entry.attributes;
    if meta.logical != of.logical && meta.details.stored_dtype.is_none() {
        meta.details.stored_dtype = Some(of.type_name());
    }
    let rows = meta.rows.unwrap_or(0).max(1);
    let mean_bytes = match &encoding {
        Encoding::Codes(categories) => categories.with(|items| {
            items.iter().map(Vec::len).sum::<usize>() as u64 / (items.len().max(1) as u64) + 1
        }),
        Encoding::Offsets => of.rows.unwrap_or(0).saturating_mul(of.dtype.item_bytes()) / rows + 1,
        _ => 0,
    };
    let longest_bytes = match &encoding {
        Encoding::Codes(categories) => {
            categories.with(|items| items.iter().map(Vec::len).max().unwrap_or(0) as u64)
        }
        _ => 0,
    };
    let minus_is_null = entry.nulls
        && valid.is_none()
        && matches!((&encoding, &meta.logical), (Encoding::Plain, Logical::Dictionary { .. }));
    let parts =
        StoredParts { encoding, values, offsets, valid, minus_is_null, mean_bytes, longest_bytes };
    let mut folded = LogicalArray { meta, parts };
    // An array is as broken as its mask or offsets.
    folded.meta.details.error = folded.indices().find_map(|i| stored[i].details.error.clone());
    let mut seen = HashSet::new();
    if folded.indices().all(|i| seen.insert(i)) {
        Ok(folded)
    } else {
        Err("its parts are one array".into())
    }
}
