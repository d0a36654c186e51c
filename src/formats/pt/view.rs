//! Reads rows of a strided view of a storage: straight where it is contiguous, gathered through windows of bounded size
//! where it is not.

use std::ops::Range;
use std::sync::OnceLock;

use super::container::Place;
use super::tree::Flip;
use super::zip::Bytes;
use crate::error::{Error, Result};
use crate::model::Dtype;

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

/// One dimension of a copy: how many, and the steps in elements on both sides.
#[derive(Clone, Copy, Debug)]
struct Dim {
    count: u64,
    from: u64,
    to: u64,
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

    /// Whether the elements lie one behind the other in C order.
    pub fn is_contiguous(&self) -> bool {
        let mut due = 1u64;
        for (&count, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if count == 0 {
                return true;
            }
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

    fn row_elements(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Bytes of all elements.
    pub fn total_bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.dtype.item_bytes()
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
            .hint("a larger --memory-limit")
        })?;
        let mut out = vec![0u8; wanted as usize];
        if wanted == 0 {
            return Ok(out);
        }
        if self.is_contiguous() {
            bytes.read_at((self.offset + rows.start * self.row_elements()) * item, &mut out)?;
        } else {
            let first = self.offset + self.strides.first().map_or(0, |s| s * rows.start);
            self.gather(&bytes, first, count, &mut out)?;
        }
        if self.big_endian {
            swap(&mut out, component_bytes(self.dtype));
        }
        flip(&mut out, self.dtype, self.flip);
        Ok(out)
    }

    fn gather(&self, bytes: &Bytes, first: u64, rows: u64, out: &mut [u8]) -> Result<()> {
        let item = self.dtype.item_bytes();
        let mut dims = Vec::with_capacity(self.shape.len());
        let mut to = 1;
        for (i, (&count, &from)) in self.shape.iter().zip(&self.strides).enumerate().rev() {
            let count = if i == 0 { rows } else { count };
            if count != 1 {
                dims.push(Dim { count, from, to });
            }
            to *= count;
        }
        // By the step in the file: as many of the small ones as make a window worth reading at once.
        dims.sort_by_key(|d| d.from);
        let (mut inner, mut span, mut elements) = (0, 1u64, 1u64);
        for dim in &dims {
            let next_span = span + (dim.count - 1) * dim.from;
            let next_elements = if dim.from == 0 { elements } else { elements.saturating_mul(dim.count) };
            let next_bytes = next_span * item;
            let dense = next_span / 4 <= next_elements && next_bytes <= (2 * out.len() as u64).max(1 << 20);
            if next_bytes > 64 << 10 && !dense {
                break;
            }
            (span, elements, inner) = (next_span, next_elements, inner + 1);
        }
        let (inner, outer) = dims.split_at_mut(inner);
        inner.sort_by_key(|d| std::cmp::Reverse(d.to));
        outer.sort_by_key(|d| std::cmp::Reverse(d.from));
        let mut window = vec![0u8; (span * item) as usize];
        let mut at = vec![0u64; outer.len()];
        loop {
            let from: u64 = first + at.iter().zip(outer.iter()).map(|(i, d)| i * d.from).sum::<u64>();
            let to: u64 = at.iter().zip(outer.iter()).map(|(i, d)| i * d.to).sum();
            bytes.read_at(from * item, &mut window)?;
            match item {
                1 => copy::<1>(&window, 0, out, to as usize, inner),
                2 => copy::<2>(&window, 0, out, to as usize, inner),
                4 => copy::<4>(&window, 0, out, to as usize, inner),
                8 => copy::<8>(&window, 0, out, to as usize, inner),
                _ => copy::<16>(&window, 0, out, to as usize, inner),
            }
            // The next place, the last dimension first.
            let Some(turn) = (0..outer.len()).rev().find(|&d| at[d] + 1 < outer[d].count) else { return Ok(()) };
            at[turn] += 1;
            at[turn + 1..].fill(0);
        }
    }
}

/// Copies `dims` of elements of `N` bytes; at most 64 dimensions deep.
fn copy<const N: usize>(from: &[u8], from_at: usize, to: &mut [u8], to_at: usize, dims: &[Dim]) {
    match dims {
        [] => to[to_at * N..][..N].copy_from_slice(&from[from_at * N..][..N]),
        [dim] if dim.from == 1 && dim.to == 1 => {
            let len = dim.count as usize * N;
            to[to_at * N..][..len].copy_from_slice(&from[from_at * N..][..len]);
        }
        [dim] => {
            let (mut f, mut t) = (from_at * N, to_at * N);
            for _ in 0..dim.count {
                to[t..t + N].copy_from_slice(&from[f..f + N]);
                f += dim.from as usize * N;
                t += dim.to as usize * N;
            }
        }
        [dim, rest @ ..] => {
            for i in 0..dim.count as usize {
                copy::<N>(from, from_at + i * dim.from as usize, to, to_at + i * dim.to as usize, rest);
            }
        }
    }
}

/// Bytes of what byte order applies to: half an element of a complex type.
pub(super) fn component_bytes(dtype: Dtype) -> u64 {
    if dtype.is_complex() { dtype.item_bytes() / 2 } else { dtype.item_bytes() }
}

/// Turns the bytes of every component around.
fn swap(bytes: &mut [u8], component: u64) {
    match component {
        2 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|c| c.reverse()),
        4 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|c| c.reverse()),
        8 => bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|c| c.reverse()),
        _ => {}
    }
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
        Flip::Negate if dtype.is_float() || dtype.is_complex() => bytes.chunks_exact_mut(component).for_each(sign),
        // Two's complement.
        Flip::Negate => bytes.chunks_exact_mut(component).for_each(|c| {
            let mut carry = true;
            for b in c {
                let (value, over) = (!*b).overflowing_add(u8::from(carry));
                (*b, carry) = (value, over);
            }
        }),
    }
}
