//! What is known of an array before its values.

use std::sync::Arc;

use super::{
    Attributes, Categories, CategoryKind, Decimals, Dtype, Logical, codes_of, item_of, nested,
};
use crate::error::{Error, Result};

/// One logical array: a tensor, a dataset, a column.
#[derive(Clone, Debug)]
pub struct ArrayMeta {
    /// Any non-empty UTF-8 string.
    pub name: String,
    /// The type of the elements (of the inner elements for [`Values::Var`](super::Values::Var); `U8` for text).
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

impl Details {
    /// Takes facts away; where none are known no room is made for them.
    pub fn forget(&mut self, change: impl FnOnce(&mut Facts)) {
        if let Some(facts) = &mut self.0 {
            change(Arc::make_mut(facts));
        }
    }
}

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
    /// The most that each dimension may have in the file (`None`: no limit), where that is not its
    /// shape, for sinks whose arrays can grow.
    pub max_shape: Option<Vec<Option<u64>>>,
    /// The value of elements that were never written, where it is not zero, for sinks that have one.
    pub fill: Option<FillValue>,
    /// Attributes of this array (HDF5, Zarr, tensors).
    pub attributes: Attributes,
    /// Arrays that share this one's memory in the source: the name of the first of them (tied
    /// tensors).
    pub alias_of: Option<String>,
    /// The file that holds it, where the source is several files.
    pub part: Option<String>,
    /// No row holds a value and no schema tells the type (a column of empty cells, Arrow's null
    /// type): joined with others it is of their type.
    pub untyped: bool,
    /// For quantised values: their type, and the array of the scales without which they mean
    /// little.
    pub quantized: Option<(Dtype, String)>,
    /// Why this array cannot be read, where it cannot: a refusal or damage. Reading it gives this
    /// error.
    pub error: Option<Arc<Error>>,
}

/// A value for elements that were never written.
#[derive(Clone, Debug, PartialEq)]
pub struct FillValue {
    /// The type that it is of.
    pub dtype: Dtype,
    /// What that means.
    pub logical: Logical,
    /// Its bytes, little-endian.
    pub bytes: Vec<u8>,
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

    /// The value of elements that were never written ([`Facts::fill`]), where it is of the type that
    /// the array has now.
    pub fn fill_value(&self) -> Option<&[u8]> {
        let fill = self.details.fill.as_ref()?;
        (fill.dtype == self.dtype && fill.logical == self.logical).then_some(&fill.bytes)
    }

    /// Sets [`Facts::fill`] to a value of the array's type, where that is one of numbers or times.
    pub fn set_fill(&mut self, value: Option<Vec<u8>>) {
        let is_number =
            matches!(self.logical, Logical::Plain | Logical::Datetime(_) | Logical::Timedelta(_));
        let value = value.filter(|v| is_number && v.len() as u64 == self.dtype.item_bytes());
        if let Some(bytes) = value {
            let (dtype, logical) = (self.dtype, self.logical.clone());
            self.details.fill = Some(FillValue { dtype, logical, bytes });
        }
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

    /// Bytes of one row of values of a fixed size; 0 where rows differ in size
    /// ([`Values::Var`](super::Values::Var)).
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
