//! What the side file holds: arrays, tables, attributes.

use arrow_schema::Schema;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::types::{CategoriesEntry, TypeEntry, categories_entry, is_default, type_entry};
use crate::arrow_model::{decode_schema, encode_schema};
use crate::model::nested::{Parts, TakenApart};
use crate::model::{ArrayMeta, Attributes, EncodedArray, Encoding, Logical, Table};

/// The version of all that is written.
pub(super) const VERSION: u32 = 1;

/// The side file: its entries as they are, so that what is not known of them stays, or as what is
/// known, which takes a fraction of the memory.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Side<A = Value, T = Value> {
    pub(super) npk: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) format: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) attributes: Attributes,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub(super) groups: IndexMap<String, Attributes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tables: Vec<T>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) order: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) arrays: Vec<A>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TableEntry {
    pub(super) columns: Vec<ColumnEntry>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) index: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) matrix: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) metadata: Attributes,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ColumnEntry {
    pub(super) array: String,
    pub(super) header: String,
}

/// One array. `dtype` and `shape` are those of the stored array that holds the values.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ArrayEntry {
    pub(super) name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) dtype: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) shape: Vec<u64>,
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    pub(super) kind: Option<TypeEntry>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) form: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) values: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) valid: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) offsets: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) categories: Option<CategoriesEntry>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) nulls: bool,
    #[serde(skip_serializing_if = "is_default")]
    #[serde(rename = "was")]
    pub(super) original_dtype: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) scalar: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) chunks: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) alias_of: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) attributes: Attributes,
    /// Of nested arrays: their field, as an Arrow schema of one field in base64, and their parts.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) arrow: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) parts: Option<Parts>,
}

impl TableEntry {
    /// The arrays that it names.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .map(|c| c.array.as_str())
            .chain(self.index.iter().map(String::as_str))
            .chain(self.matrix.as_deref())
    }
}

/// The entry of a nested array.
pub(super) fn nested_entry(encoded: &EncodedArray) -> Option<ArrayEntry> {
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
pub(super) fn taken_apart(entry: &ArrayEntry) -> Option<TakenApart> {
    if entry.form.as_deref() != Some("nested") {
        return None;
    }
    let (schema, _) = decode_schema(entry.arrow.as_deref()?)?;
    let [field] = &schema.fields()[..] else { return None };
    let (name, field, parts) = (entry.name.clone(), field.clone(), entry.parts.clone()?);
    Some(TakenApart { name, field, parts })
}

pub(super) fn table_entry(table: &Table, bare: bool) -> TableEntry {
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

pub(super) fn array_entry(
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
