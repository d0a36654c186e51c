//! The values behind an npy header, as maps: records in C or Fortran order, and the arrays that are
//! their fields.

use std::sync::Arc;

use crate::array::element::{Convert, Field, Fill, Padding};
use crate::array::stream::StreamArray;
use crate::array::strided::{Strided, strides};
use crate::array::{ArrayMap, CodecPipeline, Element, Grid, Pieces};
use crate::codec::npy_header::Header;
use crate::codec::numpy_elements::{ElementType, RecordField, leaves};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Logical, checked_product};

/// Zero-width strings take no bytes: their number is bounded by this instead of the file's length.
const MAX_EMPTY_STRINGS: u64 = 1 << 24;

/// The arrays that one npy header describes.
#[derive(Clone, Debug)]
pub struct Records {
    /// `[rows, d1, …]`, empty for rank 0.
    pub shape: Vec<u64>,
    /// Bytes of one element of that shape.
    pub record_bytes: u64,
    /// Elements in one row.
    pub row_records: u64,
    /// All rows.
    pub rows: u64,
    /// The arrays: fields of the element, or the element itself.
    pub leaves: Vec<RecordField>,
    /// The order of the records.
    pub grid: Grid,
    /// Bytes of all values; `None` where pickled objects hide it.
    pub bytes: Option<u64>,
    metas: Vec<ArrayMeta>,
}

impl Records {
    /// Takes a header apart; `name` is the array's.
    ///
    /// # Errors
    /// Corrupt and refused types; sizes that overflow.
    pub fn new(header: &Header, name: &str) -> Result<Records> {
        let (leaves, record_bytes) = leaves(&header.descr)?;
        let shape = header.shape.clone();
        let large = || Error::corrupt(format!("the shape {shape:?} is too large"));
        let records = checked_product(&shape).ok_or_else(large)?;
        let row_records = checked_product(shape.get(1..).unwrap_or(&[])).ok_or_else(large)?;
        let total = records.checked_mul(record_bytes).filter(|&n| n < 1 << 62).ok_or_else(large)?;
        let sized = leaves
            .iter()
            .all(|l| !matches!(l.item.kind, ElementType::Refused { sized: false, .. }));
        let stride_bytes = if header.fortran { strides(&shape, record_bytes, true) } else { None };
        let strided = stride_bytes.map(|stride_bytes| Strided {
            item_bytes: record_bytes,
            shape: shape.clone(),
            stride_bytes,
        });
        let grid = strided
            .filter(|s| !s.is_c_order())
            .map_or(Grid::Whole, |s| Grid::Strided(s.stride_bytes));
        let mut records_of = Records {
            rows: if shape.is_empty() { 1 } else { shape[0] },
            shape,
            record_bytes,
            row_records,
            leaves,
            grid,
            bytes: sized.then_some(total),
            metas: Vec::new(),
        };
        for leaf in records_of.leaves.iter().filter(|l| l.item.bytes == 0 && sized) {
            let all = checked_product(&leaf.dims)
                .and_then(|n| n.checked_mul(records))
                .unwrap_or(u64::MAX);
            if all > MAX_EMPTY_STRINGS {
                return Err(Error::refused(format!(
                    "{all} elements without bytes are more than are supported"
                )));
            }
        }
        records_of.metas = records_of
            .leaves
            .iter()
            .map(|leaf| records_of.meta(leaf, name, sized))
            .collect::<Result<_>>()?;
        Ok(records_of)
    }

    fn meta(&self, leaf: &RecordField, name: &str, sized: bool) -> Result<ArrayMeta> {
        let name =
            if leaf.name.is_empty() { name.to_string() } else { format!("{name}.{}", leaf.name) };
        let mut shape = self.shape.clone();
        let refuse = |why: String, hint: Option<&str>| {
            let error = Error::refused(why).array(&name);
            Some(Arc::new(if let Some(h) = hint { error.hint(h) } else { error }))
        };
        let (dtype, logical, mut error) = match &leaf.item.kind {
            ElementType::Fixed(dtype, logical) => (*dtype, logical.clone(), None),
            ElementType::Text => (crate::model::Dtype::U8, Logical::Text, None),
            ElementType::Bytes => (crate::model::Dtype::U8, Logical::Binary, None),
            ElementType::Refused { why, hint, .. } => {
                (crate::model::Dtype::U8, Logical::Plain, refuse(why.clone(), *hint))
            }
        };
        if !sized && error.is_none() {
            error = refuse(
                "is part of records with pickled Python objects, which are never run".into(),
                None,
            );
        }
        shape.extend(&leaf.dims);
        let mut meta = ArrayMeta::new(name, dtype, &shape);
        meta.logical = logical;
        meta.bytes()?;
        if leaf.item.swap_bytes > 0 || !matches!(leaf.item.kind, ElementType::Fixed(..)) {
            meta.details.stored_dtype = Some(leaf.item.spelled.clone());
        }
        meta.details.stored_bytes = self.bytes.map(|b| b / self.record_bytes.max(1) * leaf.bytes());
        meta.details.error = error;
        Ok(meta)
    }

    /// The arrays as the model sees them.
    pub fn metas(&self) -> &[ArrayMeta] {
        &self.metas
    }

    /// Whether the first index runs fastest (and that makes a difference).
    pub fn is_fortran(&self) -> bool {
        self.grid != Grid::Whole
    }

    /// Bytes of one row as it is stored.
    pub fn row_bytes(&self) -> u64 {
        // Checked when the records were made: rows × this is below 2^62 unless there are no rows.
        self.row_records.saturating_mul(self.record_bytes)
    }

    /// What one of the arrays takes of a record.
    pub fn element(&self, leaf: usize) -> Element {
        let RecordField { offset, item, dims, .. } = &self.leaves[leaf];
        let field = Field::dense(*offset as usize, item.bytes as usize, dims);
        // Of a rank-0 record, an array gives its own rows.
        let is_whole = field.bytes() as u64 == self.record_bytes
            && (dims.is_empty() || !self.shape.is_empty());
        let convert = match item.kind {
            ElementType::Text => Convert::Padded(Padding::Utf32 { big: item.swap_bytes > 0 }),
            ElementType::Bytes => Convert::Padded(Padding::Bytes(Fill::Zeros)),
            _ if item.swap_bytes > 0 => Convert::Swap(item.swap_bytes),
            _ => Convert::Nothing,
        };
        Element { bytes: self.record_bytes as usize, field: (!is_whole).then_some(field), convert }
    }

    /// The arrays, each with its map over the records' bytes; `None` for those that cannot be read.
    pub fn maps(&self, pieces: &Arc<dyn Pieces>) -> Vec<Option<ArrayMap>> {
        let map = |leaf: usize| ArrayMap {
            shape: self.shape.clone(),
            grid: self.grid.clone(),
            pieces: pieces.clone(),
            codecs: CodecPipeline::none(),
            element: self.element(leaf),
            fill: Vec::new(),
        };
        self.metas
            .iter()
            .enumerate()
            .map(|(leaf, meta)| meta.details.error.is_none().then(|| map(leaf)))
            .collect()
    }

    /// The arrays in a stream.
    pub fn stream(&self) -> Vec<StreamArray> {
        (0..self.leaves.len())
            .map(|leaf| StreamArray {
                offset: 0,
                shape: self.shape.clone(),
                element: self.element(leaf),
            })
            .collect()
    }
}

impl RecordField {
    /// Elements of the leaf in one record.
    pub fn items(&self) -> u64 {
        self.dims.iter().fold(1, |n, &d| n.saturating_mul(d))
    }
    /// Bytes of the leaf in one record.
    pub fn bytes(&self) -> u64 {
        self.dims.iter().fold(self.item.bytes, |n, &d| n.saturating_mul(d))
    }
}
