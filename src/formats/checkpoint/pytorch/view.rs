//! Strided views of storages, as maps for the array engine.

use std::sync::Arc;

use super::storages::StorageBytes;
use crate::array::element::{Convert, swap_bytes};
use crate::array::strided::{Strided, strides};
use crate::array::{ArrayMap, CodecPipeline, Element, Grid, PieceLocation, Pieces};
use crate::error::Result;
use crate::formats::checkpoint::pytorch::entry::LazyOp;
use crate::model::{Dtype, checked_product};
use crate::storage::BlobSlice;

/// A view of a storage. Offset and strides count elements; that it stays within its storage was
/// checked.
pub(super) struct View {
    pub storage: StorageBytes,
    pub dtype: Dtype,
    /// The first element.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub lazy_op: LazyOp,
    pub big_endian: bool,
}

/// The bytes of a view: from its first element on, at most so many.
struct ViewBytes {
    storage: StorageBytes,
    start: u64,
    most: u64,
}

impl Pieces for ViewBytes {
    fn locate(&self, _at: &[u64]) -> Result<Option<PieceLocation>> {
        let storage = match &self.storage {
            StorageBytes::Ready(bytes) => bytes.clone(),
            StorageBytes::Record(archive, index) => archive.bytes(*index)?,
        };
        let len = storage.len.saturating_sub(self.start).min(self.most);
        Ok(Some(PieceLocation {
            slice: BlobSlice { start: storage.start + self.start, len, ..storage },
            skipped: 0,
        }))
    }
}

impl View {
    /// As a map.
    pub fn map(self) -> ArrayMap {
        let (dtype, item) = (self.dtype, self.dtype.item_bytes());
        let unit = component_bytes(dtype) as usize;
        let (flip_of, big_endian) = (self.lazy_op, self.big_endian && unit > 1);
        let convert = match (flip_of, big_endian) {
            (LazyOp::Plain, false) => Convert::Nothing,
            (LazyOp::Plain, true) => Convert::Swap(unit),
            _ => Convert::With(Arc::new(move |mut bytes, _| {
                swap_bytes(&mut bytes, if big_endian { unit } else { 1 });
                lazy_op(&mut bytes, dtype, flip_of);
                Ok(bytes)
            })),
        };
        // A dimension of one element may have any stride.
        let stride_bytes = self.strides.iter().map(|s| s.saturating_mul(item)).collect();
        let strided = Strided { item_bytes: item, shape: self.shape, stride_bytes };
        let (grid, most) = match strided.is_c_order() {
            true => (
                Grid::Whole,
                checked_product(&strided.shape).unwrap_or(u64::MAX).saturating_mul(item),
            ),
            false => (Grid::Strided(strided.stride_bytes), u64::MAX),
        };
        ArrayMap {
            shape: strided.shape,
            grid,
            pieces: Arc::new(ViewBytes {
                storage: self.storage,
                start: self.offset.saturating_mul(item),
                most,
            }),
            codecs: CodecPipeline::none(),
            element: Element { convert, ..Element::plain(dtype) },
            fill: Vec::new(),
        }
    }
}

/// Strides in elements of a contiguous array.
pub(super) fn strides_of(shape: &[u64], fortran: bool) -> Vec<u64> {
    strides(shape, 1, fortran).unwrap_or_else(|| vec![u64::MAX; shape.len()])
}

/// Bytes of what byte order applies to: half an element of a complex type.
pub(super) fn component_bytes(dtype: Dtype) -> u64 {
    if dtype.is_complex() { dtype.item_bytes() / 2 } else { dtype.item_bytes() }
}

/// Applies a lazy conjugation or negation to little-endian values.
fn lazy_op(bytes: &mut [u8], dtype: Dtype, lazy_op: LazyOp) {
    let component = component_bytes(dtype) as usize;
    let sign = |c: &mut [u8]| {
        if let Some(last) = c.last_mut() {
            *last ^= 0x80;
        }
    };
    match lazy_op {
        LazyOp::Plain => {}
        LazyOp::Conjugate if dtype.is_complex() => {
            bytes.chunks_exact_mut(2 * component).for_each(|c| sign(&mut c[component..]))
        }
        LazyOp::Conjugate => {}
        LazyOp::NegateConjugate if dtype.is_complex() => {
            bytes.chunks_exact_mut(2 * component).for_each(|c| sign(&mut c[..component]))
        }
        LazyOp::Negate | LazyOp::NegateConjugate if dtype.is_float() || dtype.is_complex() => {
            bytes.chunks_exact_mut(component).for_each(sign)
        }
        // Two's complement.
        LazyOp::Negate | LazyOp::NegateConjugate => {
            bytes.chunks_exact_mut(component).for_each(|c| {
                let mut carry = true;
                for b in c {
                    let (value, over) = (!*b).overflowing_add(u8::from(carry));
                    (*b, carry) = (value, over);
                }
            })
        }
    }
}
