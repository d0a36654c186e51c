//! Logical types and categories as entries of the side file.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{ArrayMeta, Categories, CategoryKind, Dtype, Logical, TimeUnit};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TypeEntry {
    pub(super) name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) unit: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) zone: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) precision: Option<u8>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) scale: Option<i8>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) bits: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ordered: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) element: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) shape: Option<Vec<u64>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CategoriesEntry {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) dtype: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    pub(super) meaning: Option<String>,
    pub(super) items: Items,
}

/// The categories of an entry. There may be millions: those that are written are not copied.
#[derive(Deserialize)]
#[serde(from = "Vec<Item>")]
pub(super) enum Items {
    Read(Vec<Item>),
    Of(Arc<Categories>),
}

impl Default for Items {
    fn default() -> Items {
        Items::Read(Vec::new())
    }
}

impl From<Vec<Item>> for Items {
    fn from(items: Vec<Item>) -> Items {
        Items::Read(items)
    }
}

impl Serialize for Items {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Items::Read(items) => items.serialize(serializer),
            Items::Of(categories) => categories.with(|items| match categories.kind() {
                CategoryKind::Fixed(..) => {
                    serializer.collect_seq([Written::bytes(&items.concat())])
                }
                _ => serializer.collect_seq(items.iter().map(|item| Written::of(item))),
            }),
        }
    }
}

/// An [`Item`] that is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Text(&'a str),
    Bytes { base64: String },
}

impl Written<'_> {
    fn of(item: &[u8]) -> Written<'_> {
        std::str::from_utf8(item).map_or_else(|_| Written::bytes(item), Written::Text)
    }
    fn bytes(item: &[u8]) -> Written<'static> {
        Written::Bytes { base64: BASE64.encode(item) }
    }
}

/// A category.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    Text(String),
    /// What is not text.
    Bytes {
        base64: String,
    },
    Unknown(Value),
}

pub(super) fn type_entry(logical: &Logical) -> Option<TypeEntry> {
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

pub(super) fn logical_of(
    entry: &TypeEntry,
    categories: &mut Option<CategoriesEntry>,
) -> Option<Logical> {
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
            let categories = categories_of(categories.take()?)?;
            categories.finish();
            Logical::Dictionary { categories, ordered: entry.ordered }
        }
        "list" => Logical::List,
        "packed" => Logical::Packed { dtype: entry.element.clone()?, shape: entry.shape.clone()? },
        _ => return None,
    })
}

/// Whether a logical type's stored values may be those of this array.
pub(super) fn suits(logical: &Logical, stored: &ArrayMeta) -> bool {
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

pub(super) fn categories_entry(categories: &Arc<Categories>) -> CategoriesEntry {
    let (kind, dtype, meaning) = match categories.kind() {
        CategoryKind::Text => ("text", None, None),
        CategoryKind::Binary => ("binary", None, None),
        CategoryKind::Fixed(dtype, meaning) => {
            ("fixed", Some(dtype.name().into()), meaning.clone())
        }
    };
    CategoriesEntry { kind: kind.into(), dtype, meaning, items: Items::Of(categories.clone()) }
}

pub(super) fn categories_of(entry: CategoriesEntry) -> Option<Arc<Categories>> {
    let item = |item: Item| match item {
        Item::Text(text) => Some(text.into_bytes()),
        Item::Bytes { base64 } => BASE64.decode(base64).ok(),
        Item::Unknown(_) => None,
    };
    let items = match entry.items {
        Items::Read(items) => items,
        Items::Of(categories) => return Some(categories),
    };
    let items: Option<Vec<Vec<u8>>> = items.into_iter().map(item).collect();
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
