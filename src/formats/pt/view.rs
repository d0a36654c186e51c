//! Reads rows of a strided view of a storage: straight where it is contiguous, gathered where it is not.

use std::ops::Range;
use std::sync::OnceLock;

use super::container::Place;
use super::tree::Flip;
use super::zip::Bytes;
use crate::codec::layout::{Strided, swap_bytes};
use crate::error::{Error, Result};
use crate::location::Blob;
use crate::model::{Dtype, checked_product};

/// A view that can be read.
pub(super) struct View {
    pub place: Place,
    /// The storage's own bytes, once it was looked at.
    pub found: OnceLock<Bytes>,
    pub dtype: Dtype,
    /// The first element.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub flip: Flip,
    pub big_endian: bool,
}

impl View {
    /// The storage's bytes; a zip record's header is read the first time.
    pub fn bytes(&self) -> Result<Bytes> {
        if let Some(bytes) = self.found.get() {
            return Ok(bytes.clone());
        }
        let bytes = match &self.place {
            Place::Ready(bytes) => bytes.clone(),
            Place::Record(archive, index) => archive.bytes(*index)?,
        };
        Ok(self.found.get_or_init(|| bytes).clone())
    }

    /// Whether the elements are contiguous in C order.
    pub fn is_contiguous(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut due = 1u64;
        for (&count, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if count != 1 && stride != due {
                return false;
            }
            due = due.saturating_mul(count);
        }
        true
    }

    /// Whether the bytes in the file are the array's bytes.
    pub fn is_ready(&self) -> bool {
        let swapped = self.big_endian && component_bytes(self.dtype) > 1;
        self.is_contiguous() && !swapped && self.flip == Flip::Plain
    }

    /// Elements of a row; 0 where the array has none, whatever its other dimensions say.
    pub fn row_elements(&self) -> u64 {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().skip(1).product() }
    }

    /// Bytes of all elements.
    pub fn total_bytes(&self) -> u64 {
        checked_product(&self.shape).unwrap_or(u64::MAX).saturating_mul(self.dtype.item_bytes())
    }

    /// The bytes of some rows, C order and little-endian. A view may repeat its storage without end, so what is
    /// allocated is compared with the storage and with `limit_bytes` first.
    pub fn read(&self, rows: Range<u64>, limit_bytes: u64) -> Result<Vec<u8>> {
        let item = self.dtype.item_bytes();
        let count = rows.end - rows.start;
        let bytes = self.bytes()?;
        let wanted = count.checked_mul(self.row_elements()).and_then(|n| n.checked_mul(item));
        let wanted = wanted.filter(|&n| n <= bytes.len.max(limit_bytes)).ok_or_else(|| {
            Error::refused(format!(
                "{count} of its rows expand to more than {} MiB from a storage of {} bytes",
                limit_bytes >> 20,
                bytes.len
            ))
            .hint("give a larger --memory-limit")
        })?;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let mut out = if self.is_contiguous() {
            let mut out = vec![0u8; wanted as usize];
            bytes.read_at((self.offset + rows.start * self.row_elements()) * item, &mut out)?;
            out
        } else {
            self.strided(&bytes).gather(&*bytes.blob, rows)?
        };
        if self.big_endian {
            swap_bytes(&mut out, component_bytes(self.dtype) as usize);
        }
        flip(&mut out, self.dtype, self.flip);
        Ok(out)
    }

    /// The view as bytes of its blob.
    fn strided(&self, bytes: &Bytes) -> Strided {
        let item = self.dtype.item_bytes();
        Strided {
            base: bytes.start + self.offset * item,
            item_bytes: item,
            shape: self.shape.clone(),
            // A dimension of one element may have any stride.
            stride_bytes: self.strides.iter().map(|s| s.saturating_mul(item)).collect(),
        }
    }

    /// Where a piece of rows should end, so that its reads are long; `None` where any cut is as good.
    pub fn cut(&self, row: u64, memory_bytes: u64) -> Option<u64> {
        if self.is_contiguous() {
            return None;
        }
        let none = Bytes::memory(Vec::new());
        Some(self.strided(&none).cut(row, memory_bytes))
    }
}

/// Strides in elements of a contiguous array.
pub(super) fn strides_of(shape: &[u64], fortran: bool) -> Vec<u64> {
    let mut strides = vec![1; shape.len()];
    let mut step = 1u64;
    let order: Vec<usize> = if fortran { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
    for i in order {
        strides[i] = step;
        step = step.saturating_mul(shape[i]);
    }
    strides
}

/// Bytes of what byte order applies to: half an element of a complex type.
pub(super) fn component_bytes(dtype: Dtype) -> u64 {
    if dtype.is_complex() { dtype.item_bytes() / 2 } else { dtype.item_bytes() }
}

/// Applies a lazy conjugation or negation to little-endian values.
fn flip(bytes: &mut [u8], dtype: Dtype, flip: Flip) {
    let component = component_bytes(dtype) as usize;
    let sign = |c: &mut [u8]| {
        if let Some(last) = c.last_mut() {
            *last ^= 0x80;
        }
    };
    match flip {
        Flip::Plain => {}
        Flip::Conjugate if dtype.is_complex() => bytes.chunks_exact_mut(2 * component).for_each(|c| sign(&mut c[component..])),
        Flip::Conjugate => {}
        Flip::NegateConjugate if dtype.is_complex() => bytes.chunks_exact_mut(2 * component).for_each(|c| sign(&mut c[..component])),
        Flip::Negate | Flip::NegateConjugate if dtype.is_float() || dtype.is_complex() => bytes.chunks_exact_mut(component).for_each(sign),
        // Two's complement.
        Flip::Negate | Flip::NegateConjugate => bytes.chunks_exact_mut(component).for_each(|c| {
            let mut carry = true;
            for b in c {
                let (value, over) = (!*b).overflowing_add(u8::from(carry));
                (*b, carry) = (value, over);
            }
        }),
    }
}
