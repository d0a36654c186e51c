//! `npk.json`, the side file of a store: what NumPack's metadata cannot hold.
//!
//! Written only where there is something to say, ignored by NumPack, and it never overrules the
//! data: an entry whose array has another dtype or shape by now is dropped with a note. Losing the
//! file loses only types: times, codes and masks are then plain integers and bools.
//!
//! ```json
//! {"npk": 1, "format": "parquet", "order": ["when", "city"], "attributes": {}, "groups": {"path": {}},
//!  "tables": [{"columns": [{"array": "when", "header": "when"}], "index": [], "matrix": null, "metadata": {}}],
//!  "arrays": [
//!    {"name": "when", "dtype": "int64", "shape": [3], "type": {"name": "timestamp", "unit": "us", "zone": "UTC"}, "valid": "when.valid"},
//!    {"name": "city", "dtype": "int32", "shape": [3], "type": {"name": "text"}, "form": "codes",
//!     "categories": {"kind": "text", "items": ["Oslo", {"base64": "/w=="}]}}]}
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::Schema;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arrow_model::{decode_schema, encode_schema};
use crate::error::{Error, Result};
use crate::model::nested::{Parts, TakenApart};
use crate::model::{
    ArrayMeta, Attributes, Categories, CategoryKind, Dtype, EncodedArray, Encoding, Logical, Plan,
    Table, TimeUnit,
};

mod fold;
mod mark;
mod nested;

pub use fold::{LogicalArray, StoredParts, emit_rows, fold, offsets, rows_within};
pub use mark::{
    Marks, NESTED_MARK, dictionary_marks, fold_marks, mark_tables, nested_mark, unmark_tables,
};
pub use nested::{NestedNode, whole_nested};

const VERSION: u32 = 1;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Side {
    npk: u32,
    #[serde(skip_serializing_if = "is_default")]
    format: String,
    #[serde(skip_serializing_if = "is_default")]
    attributes: Attributes,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    groups: IndexMap<String, Attributes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<Value>,
    #[serde(skip_serializing_if = "is_default")]
    order: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arrays: Vec<Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct TableEntry {
    columns: Vec<ColumnEntry>,
    #[serde(skip_serializing_if = "is_default")]
    index: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    matrix: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    metadata: Attributes,
}

impl TableEntry {
    fn arrays(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .map(|c| c.array.as_str())
            .chain(self.index.iter().map(String::as_str))
            .chain(self.matrix.as_deref())
    }
}

#[derive(Serialize, Deserialize)]
struct ColumnEntry {
    array: String,
    header: String,
}

/// One array. `dtype` and `shape` are those of the stored array that holds the values.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ArrayEntry {
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    dtype: String,
    #[serde(skip_serializing_if = "is_default")]
    shape: Vec<u64>,
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    kind: Option<TypeEntry>,
    #[serde(skip_serializing_if = "is_default")]
    form: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    values: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    valid: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    offsets: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    categories: Option<CategoriesEntry>,
    #[serde(skip_serializing_if = "is_default")]
    nulls: bool,
    #[serde(skip_serializing_if = "is_default")]
    #[serde(rename = "was")]
    original_dtype: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    scalar: bool,
    #[serde(skip_serializing_if = "is_default")]
    chunks: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "is_default")]
    alias_of: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    attributes: Attributes,
    /// Of nested arrays: their field, as an Arrow schema of one field in base64, and their parts.
    #[serde(skip_serializing_if = "is_default")]
    arrow: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    parts: Option<Parts>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct TypeEntry {
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    zone: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    precision: Option<u8>,
    #[serde(skip_serializing_if = "is_default")]
    scale: Option<i8>,
    #[serde(skip_serializing_if = "is_default")]
    bits: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    ordered: bool,
    #[serde(skip_serializing_if = "is_default")]
    element: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    shape: Option<Vec<u64>>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct CategoriesEntry {
    kind: String,
    #[serde(skip_serializing_if = "is_default")]
    dtype: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    meaning: Option<String>,
    items: Vec<Value>,
}

fn type_entry(logical: &Logical) -> Option<TypeEntry> {
    let named = |name: &str| TypeEntry { name: name.into(), ..TypeEntry::default() };
    let timed =
        |name: &str, unit: &TimeUnit| TypeEntry { unit: Some(unit.to_string()), ..named(name) };
    Some(match logical {
        Logical::Plain => return None,
        Logical::Datetime(u) => timed("datetime64", u),
        Logical::Timedelta(u) => timed("timedelta64", u),
        Logical::Timestamp(u, zone) => TypeEntry { zone: zone.clone(), ..timed("timestamp", u) },
        Logical::Duration(u) => timed("duration", u),
        Logical::Date32 => named("date32"),
        Logical::Date64 => named("date64"),
        Logical::Time32(u) => timed("time32", u),
        Logical::Time64(u) => timed("time64", u),
        Logical::Text => named("text"),
        Logical::Binary => named("binary"),
        Logical::Decimal { precision, scale, bits } => TypeEntry {
            precision: Some(*precision),
            scale: Some(*scale),
            bits: Some(*bits),
            ..named("decimal")
        },
        Logical::Dictionary { ordered, .. } => {
            TypeEntry { ordered: *ordered, ..named("dictionary") }
        }
        Logical::List => named("list"),
        Logical::Nested(_) => named("nested"),
        Logical::Packed { dtype, shape } => TypeEntry {
            element: Some(dtype.clone()),
            shape: Some(shape.clone()),
            ..named("packed")
        },
    })
}

fn logical_of(entry: &TypeEntry, categories: Option<&CategoriesEntry>) -> Option<Logical> {
    let unit = || TimeUnit::parse(entry.unit.as_deref()?);
    Some(match entry.name.as_str() {
        "datetime64" => Logical::Datetime(unit()?),
        "timedelta64" => Logical::Timedelta(unit()?),
        "timestamp" => Logical::Timestamp(unit()?, entry.zone.clone()),
        "duration" => Logical::Duration(unit()?),
        "date32" => Logical::Date32,
        "date64" => Logical::Date64,
        "time32" => Logical::Time32(unit()?),
        "time64" => Logical::Time64(unit()?),
        "text" => Logical::Text,
        "binary" => Logical::Binary,
        "decimal" => {
            let (precision, scale) = (entry.precision?, entry.scale?);
            let bits = entry.bits.unwrap_or(if precision <= 38 { 128 } else { 256 });
            Logical::Decimal { precision, scale, bits }
        }
        "dictionary" => {
            let categories = categories_of(categories?)?;
            categories.finish();
            Logical::Dictionary { categories, ordered: entry.ordered }
        }
        "list" => Logical::List,
        "packed" => Logical::Packed { dtype: entry.element.clone()?, shape: entry.shape.clone()? },
        _ => return None,
    })
}

/// Whether a logical type's stored values may be those of this array.
fn suits(logical: &Logical, stored: &ArrayMeta) -> bool {
    let dtype = stored.dtype;
    match logical {
        Logical::Decimal { .. } => logical
            .decimals()
            .is_some_and(|d| d.dtype() == dtype && stored.inner.ends_with(&d.dims())),
        Logical::Date32 | Logical::Time32(_) => dtype == Dtype::I32,
        Logical::Packed { .. } => dtype == Dtype::U8,
        Logical::Dictionary { .. } => dtype.is_integer(),
        l if l.is_time() => dtype == Dtype::I64,
        _ => true,
    }
}

fn categories_entry(categories: &Categories) -> CategoriesEntry {
    let text = |item: Vec<u8>| match String::from_utf8(item) {
        Ok(text) => Value::String(text),
        Err(e) => serde_json::json!({ "base64": BASE64.encode(e.as_bytes()) }),
    };
    let items = categories.snapshot();
    match categories.kind() {
        CategoryKind::Text => CategoriesEntry {
            kind: "text".into(),
            items: items.into_iter().map(text).collect(),
            ..CategoriesEntry::default()
        },
        CategoryKind::Binary => CategoriesEntry {
            kind: "binary".into(),
            items: items.into_iter().map(text).collect(),
            ..CategoriesEntry::default()
        },
        CategoryKind::Fixed(dtype, meaning) => CategoriesEntry {
            kind: "fixed".into(),
            dtype: Some(dtype.name().into()),
            meaning: meaning.clone(),
            items: vec![serde_json::json!({ "base64": BASE64.encode(items.concat()) })],
        },
    }
}

fn categories_of(entry: &CategoriesEntry) -> Option<Arc<Categories>> {
    let item = |value: &Value| match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Object(map) => BASE64.decode(map.get("base64")?.as_str()?).ok(),
        _ => None,
    };
    let items: Option<Vec<Vec<u8>>> = entry.items.iter().map(item).collect();
    Some(match entry.kind.as_str() {
        "text" => Categories::new(CategoryKind::Text, items?),
        "binary" => Categories::new(CategoryKind::Binary, items?),
        "fixed" => {
            let dtype = Dtype::parse(entry.dtype.as_deref()?)?;
            let all = items?.concat();
            let kind = CategoryKind::Fixed(dtype, entry.meaning.clone());
            let size = kind.meta().row_bytes().ok()? as usize;
            if all.len() % size != 0 {
                return None;
            }
            Categories::new(kind, all.chunks(size).map(<[u8]>::to_vec).collect())
        }
        _ => return None,
    })
}

/// What a side file must say about a finished store; `None` where there is nothing to say.
///
/// `bare` (`--no-metadata`) leaves out attributes and origins, and keeps what the values mean.
pub fn describe(end: &Plan, attributes: &Attributes, bare: bool) -> Option<Vec<u8>> {
    let (encoded, companions) = encoded_arrays(end);
    let mut side = Side { npk: VERSION, attributes: attributes.clone(), ..Side::default() };
    side.order = logical_names(end);
    for nested in end.encoded.iter().filter_map(nested_entry) {
        side.arrays.extend(serde_json::to_value(nested));
    }
    for stored in &end.arrays {
        if companions.contains(stored.name.as_str()) {
            continue;
        }
        let encoded = encoded.get(stored.name.as_str()).copied();
        if let Some(entry) = array_entry(stored, encoded, bare) {
            side.arrays.extend(serde_json::to_value(entry));
        }
    }
    if !bare {
        side.groups = end.groups.clone();
    }
    side.tables = end
        .tables
        .iter()
        .map(|t| table_entry(t, bare))
        .filter_map(|t| serde_json::to_value(t).ok())
        .collect();
    if side.attributes.is_empty()
        && side.groups.is_empty()
        && side.tables.is_empty()
        && side.arrays.is_empty()
    {
        return None;
    }
    if !bare {
        side.format = end.format.to_string();
    }
    serde_json::to_vec(&side).ok()
}

/// How each array of values but nested ones is encoded, and the names of all companions.
fn encoded_arrays(end: &Plan) -> (HashMap<&str, &EncodedArray>, HashSet<&str>) {
    let flat = end.encoded.iter().filter(|k| !matches!(k.encoding, Encoding::Nested(_)));
    let encoded = flat.map(|k| (k.values.as_str(), k)).collect();
    (encoded, end.encoded.iter().flat_map(EncodedArray::companions).collect())
}

/// The logical arrays of a finished store, in order. Parts of nested ones are none.
pub fn logical_names(end: &Plan) -> Vec<String> {
    let (encoded, companions) = encoded_arrays(end);
    let mut part_of: HashMap<&str, &str> = HashMap::new();
    for nested in &end.encoded {
        if let Encoding::Nested(parts) = &nested.encoding {
            part_of
                .extend(parts.arrays().into_iter().map(|part| (part, nested.meta.name.as_str())));
        }
    }
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for stored in &end.arrays {
        let own = encoded.get(stored.name.as_str()).map_or(&stored.name, |k| &k.meta.name);
        match part_of.get(own.as_str()) {
            Some(nested) if seen.insert(nested) => names.push(nested.to_string()),
            Some(_) => {}
            None if companions.contains(stored.name.as_str()) => {}
            None => names.push(own.clone()),
        }
    }
    names
}

/// The entry of a nested array.
fn nested_entry(encoded: &EncodedArray) -> Option<ArrayEntry> {
    let (Encoding::Nested(parts), Logical::Nested(nested)) =
        (&encoded.encoding, &encoded.meta.logical)
    else {
        return None;
    };
    let schema = Schema::new(vec![nested.field.clone()]);
    Some(ArrayEntry {
        name: encoded.meta.name.clone(),
        kind: type_entry(&encoded.meta.logical),
        form: Some("nested".into()),
        arrow: Some(encode_schema(&schema)),
        parts: Some(parts.clone()),
        ..ArrayEntry::default()
    })
}

/// The nested array of an entry; `None` for entries of others.
fn taken_apart(entry: &ArrayEntry) -> Option<TakenApart> {
    if entry.form.as_deref() != Some("nested") {
        return None;
    }
    let (schema, _) = decode_schema(entry.arrow.as_deref()?)?;
    let [field] = &schema.fields()[..] else { return None };
    let (name, field, parts) = (entry.name.clone(), field.clone(), entry.parts.clone()?);
    Some(TakenApart { name, field, parts })
}

fn table_entry(table: &Table, bare: bool) -> TableEntry {
    TableEntry {
        columns: table
            .columns
            .iter()
            .map(|c| ColumnEntry { array: c.array.clone(), header: c.header.clone() })
            .collect(),
        index: table.index.clone(),
        matrix: table.matrix.clone(),
        metadata: if bare { Attributes::new() } else { table.metadata.clone() },
    }
}

fn array_entry(
    stored: &ArrayMeta,
    encoded: Option<&EncodedArray>,
    bare: bool,
) -> Option<ArrayEntry> {
    let meta = encoded.map_or(stored, |k| &k.meta);
    let mut entry = ArrayEntry {
        name: meta.name.clone(),
        kind: type_entry(&meta.logical),
        nulls: meta.nulls && encoded.is_some(),
        original_dtype: meta.original_dtype.map(|d| d.name().to_string()),
        scalar: meta.scalar,
        ..ArrayEntry::default()
    };
    if !bare {
        entry.chunks = meta.details.chunks.clone();
        entry.alias_of = meta.details.alias_of.clone();
        entry.attributes = meta.details.attributes.clone();
    }
    if let Logical::Dictionary { categories, .. } = &meta.logical {
        entry.categories = Some(categories_entry(categories));
    }
    if let Some(encoded) = encoded {
        entry.values = (encoded.values != meta.name).then(|| encoded.values.clone());
        entry.valid = encoded.valid.clone();
        entry.offsets = encoded.offsets.clone();
        entry.form = match &encoded.encoding {
            Encoding::Plain => None,
            Encoding::Widened => {
                entry.original_dtype =
                    Some(meta.original_dtype.unwrap_or(meta.dtype).name().to_string());
                None
            }
            Encoding::Bits => {
                entry.original_dtype = Some(meta.dtype.name().to_string());
                Some("bits".into())
            }
            Encoding::Codes(categories) => {
                entry.categories = Some(categories_entry(categories));
                Some("codes".into())
            }
            Encoding::Offsets => Some("offsets".into()),
            Encoding::Nested(_) => None,
        };
    }
    let says = entry.kind.is_some()
        || entry.original_dtype.is_some()
        || entry.scalar
        || entry.form.is_some()
        || entry.valid.is_some()
        || entry.values.is_some()
        || entry.chunks.is_some()
        || entry.alias_of.is_some()
        || !entry.attributes.is_empty();
    if !says {
        return None;
    }
    entry.dtype = stored.dtype.name().into();
    entry.shape = if stored.scalar { vec![1] } else { stored.shape().unwrap_or_default() };
    Some(entry)
}

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
