//! The one model in which all formats meet: named n-dimensional arrays, delivered in chunks of
//! whole rows.
//!
//! Values are C order, little-endian and unpadded. Shapes are written `[rows, d1, d2]`. A rank-0
//! array has one row and `scalar` set. Sizes are `u64` and checked; nothing is allocated from a
//! header before it was compared with the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use arrow::array::{Array, ArrayRef};
use indexmap::IndexMap;

use crate::error::{Error, Result};

mod common_rows;
mod decimal;
mod dtype;
pub mod nested;

pub use common_rows::CommonRows;
pub use decimal::Decimals;
pub use dtype::Dtype;
pub use nested::Nested;

/// Bytes of a chunk: reference counted, sliced without a copy, from a `Vec` of any plain type
/// without a copy.
pub use arrow::buffer::Buffer as Buf;

/// A JSON object whose keys keep their order: attributes and metadata.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

/// A unit of time, as numpy spells it; a count of more than one only in numpy (`datetime64[25s]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeUnit {
    /// `Y M W D h m s ms us ns ps fs as` or `generic`.
    pub base: String,
    /// How many of them one step is; 1 but for odd numpy files.
    pub count: u32,
}

impl TimeUnit {
    /// The unit of this name, one step each.
    pub fn new(base: &str) -> TimeUnit {
        TimeUnit { base: base.into(), count: 1 }
    }
    /// Parses `ns` or `25s`; `None` for a unit that numpy does not know.
    pub fn parse(text: &str) -> Option<TimeUnit> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count = if digits == 0 { 1 } else { text[..digits].parse().ok().filter(|&c| c > 0)? };
        let base = &text[digits..];
        let known =
            ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"];
        known.contains(&base).then(|| TimeUnit { base: base.into(), count })
    }
    /// How long it is; months, years and numbers without a unit have no one length.
    pub fn attoseconds(&self) -> Option<i128> {
        const SECOND: i128 = 1_000_000_000_000_000_000;
        let one = match self.base.as_str() {
            "W" => 604_800 * SECOND,
            "D" => 86_400 * SECOND,
            "h" => 3_600 * SECOND,
            "m" => 60 * SECOND,
            "s" => SECOND,
            "ms" => SECOND / 1_000,
            "us" => SECOND / 1_000_000,
            "ns" => SECOND / 1_000_000_000,
            "ps" => 1_000_000,
            "fs" => 1_000,
            "as" => 1,
            _ => return None,
        };
        Some(one * i128::from(self.count))
    }
}

impl std::fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.count != 1 {
            write!(f, "{}", self.count)?;
        }
        f.write_str(&self.base)
    }
}

/// What the elements mean, beyond their dtype.
#[derive(Clone, Debug, Default)]
pub enum Logical {
    /// Plain numbers or booleans.
    #[default]
    Plain,
    /// numpy `datetime64`: int64 counts since 1970; NaT is the int64 minimum, a value, not a null.
    Datetime(TimeUnit),
    /// numpy `timedelta64`: int64 counts; NaT as above.
    Timedelta(TimeUnit),
    /// Arrow timestamp: int64 counts since 1970, with or without a zone.
    Timestamp(TimeUnit, Option<String>),
    /// Arrow duration: int64 counts.
    Duration(TimeUnit),
    /// Days since 1970, int32.
    Date32,
    /// Milliseconds since 1970, int64.
    Date64,
    /// Time of day, int32 counts of `s` or `ms`.
    Time32(TimeUnit),
    /// Time of day, int64 counts of `us` or `ns`.
    Time64(TimeUnit),
    /// UTF-8 text: [`Values::Var`] over bytes, dtype `U8`.
    Text,
    /// Bytes of any length: [`Values::Var`] over bytes, dtype `U8`.
    Binary,
    /// A decimal number, as whole numbers of 10^-scale: int64 up to 18 digits, otherwise a last
    /// dimension of 2 or 4 `uint64` words, little-endian two's complement (see [`Decimals`]).
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the decimal point.
        scale: i8,
        /// Bits of Arrow's type, which may be wider than it must: 32, 64, 128 or 256.
        bits: u16,
    },
    /// Integer codes (the array's dtype) into categories; nulls by the chunk's mask. Text of more
    /// than one dimension comes so ([`crate::array::text_codes`]): codes of its shape.
    Dictionary {
        /// The categories; they may grow while the array is read, and are whole when it has been
        /// read.
        categories: Arc<Categories>,
        /// Whether the order of the categories means something (pandas' ordered categoricals).
        ordered: bool,
    },
    /// Ragged lists of elements of the array's dtype: [`Values::Var`] over them.
    List,
    /// Lists, structs, maps and what else has parts: [`Values::Nested`], dtype `U8`. Nulls are in
    /// the arrays, never in a mask beside them.
    Nested(Arc<Nested>),
    /// Sub-byte elements, several to a byte; `shape` is the one the header gave, in elements.
    Packed {
        /// The format's name of the element type: `F4`, `F6_E2M3`, `F6_E3M2`.
        dtype: String,
        /// The shape in elements.
        shape: Vec<u64>,
    },
}

impl Logical {
    /// Whether rows differ in size: the values come as [`Values::Var`] or [`Values::Nested`].
    pub fn is_var(&self) -> bool {
        matches!(self, Logical::Text | Logical::Binary | Logical::List | Logical::Nested(_))
    }
    /// The type of a nested column.
    pub fn nested(&self) -> Option<&Arc<Nested>> {
        if let Logical::Nested(nested) = self { Some(nested) } else { None }
    }
    /// How decimals are stored, where these are decimals.
    pub fn decimals(&self) -> Option<Decimals> {
        match self {
            Logical::Decimal { precision, scale, .. } => Some(Decimals::of(*precision, *scale)),
            _ => None,
        }
    }
    /// The type of times or decimals that [`ArrayMeta::type_name`] shows so.
    pub fn parse(name: &str) -> Option<Logical> {
        if let Some(digits) = name.strip_prefix("decimal(") {
            let (precision, scale) = digits.strip_suffix(')')?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            let bits = if precision <= 38 { 128 } else { 256 };
            return Some(Logical::Decimal { precision, scale, bits });
        }
        let (kind, unit) = match name.split_once('[') {
            Some((kind, unit)) => (kind, unit.strip_suffix(']')?),
            None => (name, "generic"),
        };
        let (unit, zone) = match unit.split_once(',') {
            Some((unit, zone)) => (unit.trim(), Some(zone.trim().to_string())),
            None => (unit, None),
        };
        let unit = TimeUnit::parse(unit)?;
        Some(match kind {
            "timestamp" => Logical::Timestamp(unit, zone),
            _ if zone.is_some() => return None,
            "datetime64" => Logical::Datetime(unit),
            "timedelta64" => Logical::Timedelta(unit),
            "duration" => Logical::Duration(unit),
            "time32" => Logical::Time32(unit),
            "time64" => Logical::Time64(unit),
            "date32" => Logical::Date32,
            "date64" => Logical::Date64,
            _ => return None,
        })
    }
    /// The categories, where these are codes of text or bytes.
    pub fn text_categories(&self) -> Option<&Arc<Categories>> {
        match self {
            Logical::Dictionary { categories, .. }
                if !matches!(categories.kind(), CategoryKind::Fixed(..)) =>
            {
                Some(categories)
            }
            _ => None,
        }
    }
    /// Whether the elements are plain numbers or booleans.
    pub fn is_plain(&self) -> bool {
        matches!(self, Logical::Plain)
    }
    /// Dates, times and durations of all kinds.
    pub fn is_time(&self) -> bool {
        matches!(
            self,
            Logical::Datetime(_)
                | Logical::Timedelta(_)
                | Logical::Timestamp(..)
                | Logical::Duration(_)
                | Logical::Date32
                | Logical::Date64
                | Logical::Time32(_)
                | Logical::Time64(_)
        )
    }
}

impl PartialEq for Logical {
    /// Categories are compared by identity of type, not by content: use [`Categories::snapshot`]
    /// for that.
    fn eq(&self, other: &Logical) -> bool {
        use Logical::*;
        match (self, other) {
            (Plain, Plain)
            | (Date32, Date32)
            | (Date64, Date64)
            | (Text, Text)
            | (Binary, Binary)
            | (List, List) => true,
            (Nested(a), Nested(b)) => a == b,
            (Datetime(a), Datetime(b))
            | (Timedelta(a), Timedelta(b))
            | (Duration(a), Duration(b)) => a == b,
            (Time32(a), Time32(b)) | (Time64(a), Time64(b)) => a == b,
            (Timestamp(a, x), Timestamp(b, y)) => a == b && x == y,
            // The same numbers, stored in the same way.
            (Decimal { precision: a, scale: x, .. }, Decimal { precision: b, scale: y, .. }) => {
                a == b && x == y
            }
            (
                Dictionary { categories: a, ordered: x },
                Dictionary { categories: b, ordered: y },
            ) => a.kind() == b.kind() && x == y,
            (Packed { dtype: a, shape: x }, Packed { dtype: b, shape: y }) => a == b && x == y,
            _ => false,
        }
    }
}

/// What the categories of a dictionary array are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CategoryKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// Elements of fixed size: their dtype, and the name of their logical type where they are no
    /// plain numbers (`timestamp[us]`, `decimal(20, 3)`).
    Fixed(Dtype, Option<String>),
}

impl CategoryKind {
    /// The categories as an array of their own.
    pub fn meta(&self) -> ArrayMeta {
        let (dtype, logical) = match self {
            CategoryKind::Text => (Dtype::U8, Logical::Text),
            CategoryKind::Binary => (Dtype::U8, Logical::Binary),
            CategoryKind::Fixed(dtype, name) => {
                (*dtype, name.as_deref().and_then(Logical::parse).unwrap_or_default())
            }
        };
        let inner = logical.decimals().map_or_else(Vec::new, Decimals::dims);
        ArrayMeta { inner, ..ArrayMeta::column("categories", dtype, logical, None) }
    }
}

/// The categories of a dictionary array. They only ever grow, so a code stays valid once given.
#[derive(Debug)]
pub struct Categories {
    kind: CategoryKind,
    items: RwLock<Vec<Vec<u8>>>,
    whole: AtomicBool,
}

impl Categories {
    /// Categories of this kind, each as its bytes (little-endian for fixed-size ones).
    pub fn new(kind: CategoryKind, items: Vec<Vec<u8>>) -> Arc<Categories> {
        Arc::new(Categories { kind, items: RwLock::new(items), whole: AtomicBool::new(false) })
    }
    /// None will be added any more: a writer may measure them.
    pub fn finish(&self) {
        self.whole.store(true, Ordering::Release);
    }
    /// Whether it is known that none will be added.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
    /// What they are.
    pub fn kind(&self) -> &CategoryKind {
        &self.kind
    }
    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.items.read().map(|i| i.len()).unwrap_or(0)
    }
    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Looks at all categories as of now, without copying them.
    pub fn with<R>(&self, look: impl FnOnce(&[Vec<u8>]) -> R) -> R {
        look(&self.items.read().unwrap_or_else(|e| e.into_inner()))
    }
    /// All categories as of now.
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        self.items.read().map(|i| i.clone()).unwrap_or_default()
    }
    /// Appends one and returns its code.
    pub fn push(&self, item: Vec<u8>) -> u64 {
        let mut items = self.items.write().unwrap_or_else(|e| e.into_inner());
        items.push(item);
        items.len() as u64 - 1
    }
}

/// One logical array: a tensor, a dataset, a column.
#[derive(Clone, Debug)]
pub struct ArrayMeta {
    /// Any non-empty UTF-8 string.
    pub name: String,
    /// The type of the elements (of the inner elements for [`Values::Var`]; `U8` for text).
    pub dtype: Dtype,
    /// What they mean.
    pub logical: Logical,
    /// Rows; `None` where only reading shows them (a pipe, a CSV part). 1 for rank 0.
    pub rows: Option<u64>,
    /// The dimensions after the first.
    pub inner: Vec<u64>,
    /// Rank 0: one element, no dimensions.
    pub scalar: bool,
    /// Whether nulls do occur: chunks may carry a mask. Exact, not "allowed by the schema".
    pub nulls: bool,
    /// The type that these values had before they were widened into `dtype` (bfloat16 kept as
    /// float32), where the side file says so. Sinks that hold it get it back if every value still
    /// fits.
    pub original_dtype: Option<Dtype>,
    /// What `inspect` shows and some sinks reuse.
    pub details: Details,
}

/// A value whose copies are one until one of them is changed: plans are handed on from step to
/// step, and mostly as they are.
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> std::ops::DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Shared(Arc::new(value))
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a, T> IntoIterator for &'a Shared<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T: Clone> IntoIterator for &'a mut Shared<Vec<T>> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        Arc::make_mut(&mut self.0).iter_mut()
    }
}

impl<T: Clone> IntoIterator for Shared<Vec<T>> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<T> FromIterator<T> for Shared<Vec<T>> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

/// Facts about an array that do not change its values, shared between its copies.
#[derive(Clone, Debug)]
pub struct Details(Option<Arc<Facts>>);

impl Default for Details {
    /// None known.
    fn default() -> Self {
        Details(None)
    }
}

static NO_FACTS: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);

impl std::ops::Deref for Details {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        self.0.as_deref().unwrap_or(&NO_FACTS)
    }
}

impl std::ops::DerefMut for Details {
    fn deref_mut(&mut self) -> &mut Facts {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl From<Facts> for Details {
    fn from(facts: Facts) -> Self {
        Details(Some(Arc::new(facts)))
    }
}

/// See [`Details`].
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The format's own name of the stored type, where it differs from the logical one.
    pub stored_dtype: Option<String>,
    /// Bytes that the array takes in the file, where known.
    pub stored_bytes: Option<u64>,
    /// Compression and filters, as `gzip:4 + shuffle`.
    pub compression: Option<String>,
    /// The chunk shape in the file, a hint for sinks that chunk.
    pub chunks: Option<Vec<u64>>,
    /// Attributes of this array (HDF5, Zarr, tensors).
    pub attributes: Attributes,
    /// Arrays that share this one's memory in the source: the name of the first of them (tied
    /// tensors).
    pub alias_of: Option<String>,
    /// The file that holds it, where the source is several files.
    pub part: Option<String>,
    /// Why this array cannot be read, where it cannot: a refusal or damage. Reading it gives this
    /// error.
    pub error: Option<Arc<Error>>,
}

impl ArrayMeta {
    /// A plain array `[rows, inner…]`.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[u64]) -> ArrayMeta {
        let (rows, inner, scalar) = match shape.split_first() {
            Some((rows, inner)) => (*rows, inner.to_vec(), false),
            None => (1, Vec::new(), true),
        };
        ArrayMeta {
            name: name.into(),
            dtype,
            logical: Logical::Plain,
            rows: Some(rows),
            inner,
            scalar,
            nulls: false,
            original_dtype: None,
            details: Details::default(),
        }
    }

    /// A column: one dimension, rows perhaps not known yet.
    pub fn column(
        name: impl Into<String>,
        dtype: Dtype,
        logical: Logical,
        rows: Option<u64>,
    ) -> ArrayMeta {
        ArrayMeta { rows, logical, ..ArrayMeta::new(name, dtype, &[0]) }
    }

    /// The shape `[rows, inner…]`, `[]` for rank 0; `None` while the rows are not known.
    pub fn shape(&self) -> Option<Vec<u64>> {
        if self.scalar {
            return Some(Vec::new());
        }
        let mut shape = vec![self.rows?];
        shape.extend(&self.inner);
        Some(shape)
    }

    /// The categories of text of more than one dimension, which comes as codes of its shape.
    pub fn coded_text(&self) -> Option<&Arc<Categories>> {
        if self.inner.is_empty() { None } else { self.logical.text_categories() }
    }

    /// Codes ([`ArrayMeta::coded_text`]) as the items that they stand for: offsets and bytes. Of
    /// many codes that may be much: to be asked for part by part.
    ///
    /// # Errors
    /// Corrupt codes.
    pub fn coded_items(&self, codes: &[u8]) -> Result<(Vec<u64>, Vec<u8>)> {
        let (mut offsets, mut values) = (vec![0u64], Vec::new());
        let Some(categories) = self.coded_text() else { return Ok((offsets, values)) };
        categories.with(|items| {
            for code in codes_of(codes, self.dtype) {
                values.extend_from_slice(item_of(items, code)?);
                offsets.push(values.len() as u64);
            }
            Ok::<(), Error>(())
        })?;
        Ok((offsets, values))
    }

    /// The dimensions after the first, without the words of a decimal.
    pub fn element_dims(&self) -> &[u64] {
        let words = self.logical.decimals().map_or(0, |d| d.dims().len());
        &self.inner[..self.inner.len().saturating_sub(words)]
    }

    /// Bytes of one row. For [`Values::Var`] this is the size of one inner element times nothing:
    /// 0.
    ///
    /// # Errors
    /// When the product passes 2^63 (a hostile header).
    pub fn row_bytes(&self) -> Result<u64> {
        if self.logical.is_var() {
            return Ok(0);
        }
        checked_product(&self.inner)
            .and_then(|n| n.checked_mul(self.dtype.item_bytes()))
            .filter(|&n| n < 1 << 63)
            .ok_or_else(|| {
                Error::corrupt(format!("the shape {:?} is too large", self.inner)).array(&self.name)
            })
    }

    /// About how many bytes a row holds, for the sizes of blocks: of text and lists what they take
    /// in their file, where the format tells, but at least `least`.
    pub fn row_bytes_about(&self, least: u64) -> u64 {
        if !self.logical.is_var() {
            return self.row_bytes().unwrap_or(u64::MAX);
        }
        let stored =
            self.details.stored_bytes.zip(self.rows).map_or(0, |(bytes, rows)| bytes / rows.max(1));
        stored.max(least)
    }

    /// Bytes of the whole array where rows and row size are known (0 per row for text).
    ///
    /// # Errors
    /// When the product passes 2^63.
    pub fn bytes(&self) -> Result<Option<u64>> {
        let row = self.row_bytes()?;
        let Some(rows) = self.rows else { return Ok(None) };
        rows.checked_mul(row).filter(|&n| n < 1 << 63).map(Some).ok_or_else(|| {
            Error::corrupt(format!("{rows} rows of {row} bytes are too large")).array(&self.name)
        })
    }

    /// Its size for lists: rows × row size; of text and lists what they take in the file, where the
    /// format tells.
    pub fn size_bytes(&self) -> Option<u64> {
        if self.logical.is_var() { self.details.stored_bytes } else { self.bytes().ok().flatten() }
    }

    /// The logical type as `list` prints it: `float32`, `timestamp[us, UTC]`, `string?`.
    pub fn type_name(&self) -> String {
        let base = match &self.logical {
            Logical::Plain => self.original_dtype.unwrap_or(self.dtype).name().to_string(),
            Logical::Datetime(u) if u.base == "generic" => "datetime64".into(),
            Logical::Datetime(u) => format!("datetime64[{u}]"),
            Logical::Timedelta(u) if u.base == "generic" => "timedelta64".into(),
            Logical::Timedelta(u) => format!("timedelta64[{u}]"),
            Logical::Timestamp(u, None) => format!("timestamp[{u}]"),
            Logical::Timestamp(u, Some(zone)) => format!("timestamp[{u}, {zone}]"),
            Logical::Duration(u) => format!("duration[{u}]"),
            Logical::Date32 => "date32".into(),
            Logical::Date64 => "date64".into(),
            Logical::Time32(u) => format!("time32[{u}]"),
            Logical::Time64(u) => format!("time64[{u}]"),
            Logical::Text => "string".into(),
            Logical::Binary => "binary".into(),
            Logical::Decimal { precision, scale, .. } => format!("decimal({precision}, {scale})"),
            Logical::Dictionary { categories, .. } => {
                let value = match categories.kind() {
                    CategoryKind::Text => "string".to_string(),
                    CategoryKind::Binary => "binary".to_string(),
                    CategoryKind::Fixed(dtype, None) => dtype.name().to_string(),
                    CategoryKind::Fixed(_, Some(name)) => name.clone(),
                };
                format!("dictionary<{}, {value}>", self.dtype)
            }
            Logical::List => format!("list<{}>", self.dtype),
            Logical::Nested(nested) => nested::type_name(nested.field.data_type()),
            Logical::Packed { dtype, .. } => dtype.clone(),
        };
        if self.nulls { format!("{base}?") } else { base }
    }
}

/// The product of dimensions, `None` past 2^64.
pub fn checked_product(dims: &[u64]) -> Option<u64> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
}

/// A table: some of a source's arrays are its columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// The arrays (by name) that are its index, as pandas has one.
    pub index: Vec<String>,
    /// The one 2-D array that holds all columns side by side, where the layout is `matrix`.
    pub matrix: Option<String>,
    /// Schema metadata as the format has it: `pandas`, and the Arrow schema (base64 IPC message)
    /// under `ARROW:schema`.
    pub metadata: Attributes,
}

impl Table {
    /// The arrays that must have a row each for every row of it: the matrix or the columns, and the
    /// index.
    pub fn arrays(&self) -> Vec<&str> {
        let data: Vec<&str> = match &self.matrix {
            Some(matrix) => vec![matrix],
            None => self.columns.iter().map(|c| c.array.as_str()).collect(),
        };
        let mut seen = std::collections::HashSet::new();
        data.into_iter()
            .chain(self.index.iter().map(String::as_str))
            .filter(|a| seen.insert(*a))
            .collect()
    }
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name of the array that holds it.
    pub array: String,
    /// The header as the file spells it: may be empty or repeated.
    pub header: String,
}

impl Column {
    /// The column that was read as this array. A blank header stays blank; a repeated one goes by
    /// the array's new name.
    pub fn read(array: &str, header: &str) -> Column {
        let header = if header.is_empty() { header } else { array };
        Column { array: array.to_string(), header: header.to_string() }
    }
}

/// What a source has, or a sink will get.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The name of the format that it came from.
    pub format: &'static str,
    /// The format's version, for `inspect`: `2.0`, `v3`.
    pub format_version: Option<String>,
    /// The arrays, in order of appearance.
    pub arrays: Shared<Vec<ArrayMeta>>,
    /// Tables among them.
    pub tables: Vec<Table>,
    /// Attributes of the whole: safetensors `__metadata__`, root group attributes, plain values of
    /// a checkpoint.
    pub attributes: Attributes,
    /// Attributes of groups by path (HDF5, Zarr).
    pub groups: IndexMap<String, Attributes>,
    /// Things the user should hear once, on stderr.
    pub notes: Vec<String>,
    /// Logical arrays that were changed into some of `arrays` because the sink cannot hold them as
    /// they are. Filled by `resolve::fit`; complete (categories, nulls that did occur) in the plan
    /// given to `Sink::finish`. Sinks with a side file record it there; a source never sets it: it
    /// folds what the side file says into logical arrays.
    pub kept: Vec<Kept>,
    /// Nested arrays whose parts are among `arrays`, as a side file tells. Whoever opens a source
    /// puts them together.
    pub nested: Vec<nested::TakenApart>,
}

/// A logical array, and the plain arrays that hold it in a sink that lacks nulls, text, lists or
/// its dtype.
///
/// Only what the sink's [`crate::format::Capabilities`] lacks is listed. A sink with a side file writes
/// and records times, dictionaries, packed elements, rank 0 and [`ArrayMeta::original_dtype`] by itself, from
/// the array's own meta.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The logical array as the sink was to get it: name, dtype, logical type, nulls, `original_dtype`,
    /// attributes.
    pub meta: ArrayMeta,
    /// How `values` holds the values.
    pub form: Form,
    /// The array (by name) of the values, codes, bits or inner elements.
    pub values: String,
    /// The int64 array of rows + 1 offsets into `values`, for [`Form::Offsets`].
    pub offsets: Option<String>,
    /// The bool array of one element a row, false at nulls.
    pub valid: Option<String>,
}

/// How a [`Kept`] array's values are stored.
#[derive(Clone, Debug)]
pub enum Form {
    /// As they are (only a mask is added).
    Same,
    /// Widened, exactly, to the stored array's float type (bfloat16 as float32, float8 as float16).
    Widened,
    /// Their raw bits as unsigned integers of the same width.
    Bits,
    /// Text, binary or decimals as integer codes into these categories. A code of -1 is null, too.
    Codes(Arc<Categories>),
    /// Rows end to end: bytes (text, binary, decimals) or elements (lists), cut by `offsets`.
    Offsets,
    /// In several logical arrays. `values` is the first of its offsets and masks, or else the first
    /// of all.
    Nested(nested::Parts),
}

impl Kept {
    /// The arrays beside that of the values.
    pub fn companions(&self) -> Vec<&str> {
        match &self.form {
            Form::Nested(parts) => parts.companions(),
            _ => [self.valid.as_deref(), self.offsets.as_deref()].into_iter().flatten().collect(),
        }
    }
}

impl Plan {
    /// The index of each array by its name: for more than one question.
    pub fn positions(&self) -> HashMap<&str, usize> {
        let mut positions = HashMap::with_capacity(self.arrays.len());
        for (i, array) in self.arrays.iter().enumerate() {
            positions.entry(array.name.as_str()).or_insert(i);
        }
        positions
    }
    /// The index of the array of this name. Of many names, [`Plan::positions`] knows all in one
    /// pass.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.arrays.iter().position(|a| a.name == name)
    }
    /// Bytes of all arrays whose size is known; text counts nothing.
    pub fn bytes(&self) -> u64 {
        self.arrays.iter().filter_map(|a| a.bytes().ok().flatten()).fold(0, u64::saturating_add)
    }
}

/// The values of a chunk.
#[derive(Clone, Debug)]
pub enum Values {
    /// `rows × row_bytes` bytes.
    Fixed(Buf),
    /// Rows of uneven length: `offsets` has rows + 1 entries, the first not below 0, counted in
    /// inner elements.
    Var {
        /// Where each row begins in `values`; the last entry is its end. The first entry need not
        /// be 0.
        offsets: Vec<u64>,
        /// The inner elements (text: bytes).
        values: Buf,
    },
    /// Rows of a nested column: an array of [`Nested::coded_type`].
    Nested(ArrayRef),
}

/// Which rows of a chunk hold a value: one byte a row, 1 where it does, 0 where it is null.
pub type Mask = Buf;

/// Some whole rows of one array.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Index into the plan's arrays.
    pub array: usize,
    /// The first row's number, or [`Chunk::NEXT`] where the order of delivery decides.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Their values; at a null: NaN for floats, 0 otherwise, an empty text.
    pub values: Values,
    /// Present where a row of this chunk is null (may be present without one).
    pub valid: Option<Mask>,
}

impl Chunk {
    /// A `first_row` that means: after the rows of this array delivered before. The pipe fills it
    /// in.
    pub const NEXT: u64 = u64::MAX;

    /// Rows of fixed size without nulls.
    pub fn fixed(array: usize, first_row: u64, rows: u64, values: impl Into<Buf>) -> Chunk {
        Chunk { array, first_row, rows, values: Values::Fixed(values.into()), valid: None }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let values = match &self.values {
            Values::Fixed(b) => b.len() as u64,
            Values::Nested(array) => {
                array.to_data().get_slice_memory_size().unwrap_or(usize::MAX) as u64
            }
            Values::Var { offsets, values } => {
                let used = offsets
                    .last()
                    .copied()
                    .unwrap_or(0)
                    .saturating_sub(offsets.first().copied().unwrap_or(0));
                8 * offsets.len() as u64 + (values.len() as u64).min(used.max(1).saturating_mul(16))
            }
        };
        values + self.valid.as_ref().map_or(0, |v| v.len() as u64)
    }

    /// Rows `start..end` of this chunk (counted from its first), without copying values.
    pub fn slice(&self, start: u64, end: u64) -> Chunk {
        debug_assert!(start <= end && end <= self.rows);
        let (s, n) = (start as usize, (end - start) as usize);
        let values = match &self.values {
            Values::Nested(array) => Values::Nested(array.slice(s, n)),
            Values::Fixed(b) => {
                let row = if self.rows == 0 { 0 } else { b.len() / self.rows as usize };
                Values::Fixed(b.slice_with_length(s * row, n * row))
            }
            Values::Var { offsets, values } => {
                // One item a row, but for text of several dimensions on its way to be coded.
                let items = (offsets.len() - 1).checked_div(self.rows as usize).unwrap_or(1);
                Values::Var {
                    offsets: offsets[s * items..=(s + n) * items].to_vec(),
                    values: values.clone(),
                }
            }
        };
        Chunk {
            array: self.array,
            first_row: if self.first_row == Chunk::NEXT {
                Chunk::NEXT
            } else {
                self.first_row + start
            },
            rows: end - start,
            values,
            valid: self.valid.as_ref().map(|v| v.slice_with_length(s, n)),
        }
    }

    /// The bytes of the `row`th row of a [`Values::Var`] chunk over bytes (text, binary, decimal).
    pub fn text(&self, row: usize) -> &[u8] {
        match &self.values {
            Values::Var { offsets, values } => {
                &values[offsets[row] as usize..offsets[row + 1] as usize]
            }
            Values::Fixed(_) | Values::Nested(_) => &[],
        }
    }

    /// Whether the `row`th row holds a value.
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|v| v[row] != 0)
    }
}

/// The buffer's elements as `T`; copied only where the buffer is not aligned for `T`.
///
/// A tail shorter than one element is left out.
pub fn typed<T: bytemuck::Pod>(buf: &[u8]) -> Cow<'_, [T]> {
    let whole = buf.len() / size_of::<T>() * size_of::<T>();
    match bytemuck::try_cast_slice(&buf[..whole]) {
        Ok(slice) => Cow::Borrowed(slice),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&buf[..whole])),
    }
}

/// A buffer from a vector of plain elements, without a copy.
pub fn buf_from<T: arrow::datatypes::ArrowNativeType>(values: Vec<T>) -> Buf {
    Buf::from_vec(values)
}

/// Codes of any integer width as int64.
pub fn codes_of(values: &[u8], dtype: Dtype) -> Vec<i64> {
    match dtype {
        Dtype::I8 => typed::<i8>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U8 => values.iter().map(|v| *v as i64).collect(),
        Dtype::I16 => typed::<i16>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U16 => typed::<u16>(values).iter().map(|v| *v as i64).collect(),
        Dtype::I32 => typed::<i32>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U32 => typed::<u32>(values).iter().map(|v| *v as i64).collect(),
        Dtype::U64 => {
            typed::<u64>(values).iter().map(|v| i64::try_from(*v).unwrap_or(i64::MAX)).collect()
        }
        _ => typed::<i64>(values).into_owned(),
    }
}

/// The category of a code.
///
/// # Errors
/// Corrupt where there is none.
pub fn item_of(items: &[Vec<u8>], code: i64) -> Result<&[u8]> {
    let item = usize::try_from(code).ok().and_then(|c| items.get(c));
    item.map(Vec::as_slice).ok_or_else(|| {
        Error::corrupt(format!("the code {code} is outside the {} categories", items.len()))
    })
}
