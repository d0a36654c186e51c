//! Numbers that are stored in other types than they have, and complex ones, whose parts lie apart:
//! as a blob of values in their own type, little-endian, in the order of the file.

use bytemuck::Pod;

use crate::array::element::swap_bytes;
use crate::array::strided::strides;
use crate::array::{ArrayMap, CodecPipeline, Element, Grid};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, Facts, checked_product};
use crate::storage::{Blob, BlobSlice};
use std::sync::{Arc, OnceLock};

/// Values that are read and changed at a time.
const STEP: u64 = 16 << 10;

/// Numbers as they are stored.
#[derive(Clone)]
pub(super) struct Stored {
    pub dtype: Dtype,
    pub bytes: BlobSlice,
    pub big: bool,
}

/// Finds the imaginary parts, which lie behind the real ones.
type FindParts = Box<dyn Fn() -> Result<Stored> + Send + Sync>;

/// What an array of numbers is, and where its parts are.
pub(super) struct Numbers {
    pub shape: Vec<u64>,
    /// What MATLAB calls their type.
    pub class: &'static str,
    pub dtype: Dtype,
    pub real: Stored,
    pub imaginary: Option<FindParts>,
}

impl Numbers {
    /// The array and its map.
    ///
    /// # Errors
    /// Corrupt: not as many values as the shape needs.
    pub fn array(self, name: &str) -> Result<(ArrayMeta, ArrayMap)> {
        let count = checked_product(&self.shape)
            .ok_or_else(|| Error::corrupt(format!("the shape {:?} is too large", self.shape)))?;
        check_count(&self.real, count, &self.shape)?;
        let dtype = match (self.dtype, &self.imaginary) {
            (dtype, None) => dtype,
            (Dtype::F32, Some(_)) => Dtype::C64,
            (Dtype::F64, Some(_)) => Dtype::C128,
            (other, Some(_)) => {
                return Err(Error::refused(format!(
                    "complex numbers of {other} are not supported"
                ))
                .hint("--skip-unsupported leaves it out"));
            }
        };
        let mut meta = ArrayMeta::new(name, dtype, &self.shape);
        meta.details = Facts {
            stored_dtype: Some(match self.real.dtype == self.dtype {
                true => self.class.to_string(),
                false => format!("{} as {}", self.class, self.real.dtype),
            }),
            stored_bytes: Some(self.real.bytes.len * if dtype.is_complex() { 2 } else { 1 }),
            ..Facts::default()
        }
        .into();
        let item = dtype.item_bytes() as usize;
        let same = self.real.dtype == self.dtype && self.imaginary.is_none();
        let slice = match same && (!self.real.big || item == 1) {
            true => self.real.bytes,
            false => {
                let len = count * item as u64;
                let values = Values {
                    real: self.real,
                    imaginary: self.imaginary,
                    found: OnceLock::new(),
                    of: self.dtype,
                    len,
                };
                BlobSlice::whole(Arc::new(values))
            }
        };
        let strided = strides(&self.shape, item as u64, true)
            .ok_or_else(|| Error::corrupt(format!("the shape {:?} is too large", self.shape)))?;
        let map = ArrayMap {
            shape: self.shape,
            grid: Grid::Strided(strided),
            pieces: Arc::new(slice),
            codecs: CodecPipeline::none(),
            element: Element::plain(dtype),
            fill: Vec::new(),
        };
        Ok((meta, map))
    }
}

fn check_count(stored: &Stored, count: u64, shape: &[u64]) -> Result<()> {
    if count.checked_mul(stored.dtype.item_bytes()) == Some(stored.bytes.len) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{} bytes of {} are stored, the shape {shape:?} needs {count} values",
        stored.bytes.len, stored.dtype
    )))
}

/// Numbers in another type, as a blob.
struct Values {
    real: Stored,
    imaginary: Option<FindParts>,
    found: OnceLock<Stored>,
    of: Dtype,
    len: u64,
}

impl Values {
    fn imaginary(&self) -> Result<Option<&Stored>> {
        let Some(find) = &self.imaginary else { return Ok(None) };
        if let Some(found) = self.found.get() {
            return Ok(Some(found));
        }
        let found = find()?;
        let count = self.real.bytes.len / self.real.dtype.item_bytes();
        check_count(&found, count, &[count])?;
        Ok(Some(self.found.get_or_init(|| found)))
    }
}

impl Blob for Values {
    fn len(&self) -> u64 {
        self.len
    }
    fn is_remote(&self) -> bool {
        self.real.bytes.is_remote()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let imaginary = self.imaginary()?;
        let part = self.of.item_bytes();
        let item = if imaginary.is_some() { 2 * part } else { part };
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(Error::corrupt(format!(
                "{end} bytes are expected, there are {}",
                self.len
            )));
        }
        let mut at = offset;
        while at < end {
            let first = at / item;
            let last = end.div_ceil(item).min(first + STEP);
            let mut values = self.real.values(first, last, self.of)?;
            if let Some(imaginary) = imaginary {
                let others = imaginary.values(first, last, self.of)?;
                let part = part as usize;
                let pairs = values.chunks_exact(part).zip(others.chunks_exact(part));
                values = pairs.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
            }
            let skip = (at - first * item) as usize;
            let to = &mut buf[(at - offset) as usize..];
            let n = (values.len() - skip).min(to.len());
            to[..n].copy_from_slice(&values[skip..skip + n]);
            at += n as u64;
        }
        Ok(())
    }
}

impl Stored {
    /// Some values as another type, little-endian.
    ///
    /// # Errors
    /// Corrupt where that type does not have them.
    pub fn values(&self, first: u64, last: u64, of: Dtype) -> Result<Vec<u8>> {
        let item = self.dtype.item_bytes();
        let mut bytes = vec![0; ((last - first) * item) as usize];
        self.bytes.read_at(first * item, &mut bytes)?;
        if self.big {
            swap_bytes(&mut bytes, item as usize);
        }
        if self.dtype == of {
            return Ok(bytes);
        }
        change(&bytes, self.dtype, of).ok_or_else(|| {
            Error::corrupt(format!("a value is stored as {} and is not {of}", self.dtype))
        })
    }
}

/// One type to another, where every value survives it.
fn change(bytes: &[u8], from: Dtype, to: Dtype) -> Option<Vec<u8>> {
    fn each<A: Pod, B: Pod>(
        bytes: &[u8],
        to: impl Fn(A) -> B,
        same: impl Fn(A, B) -> bool,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() / size_of::<A>() * size_of::<B>());
        let mut all = true;
        for chunk in bytes.chunks_exact(size_of::<A>()) {
            let a: A = bytemuck::pod_read_unaligned(chunk);
            let b = to(a);
            all &= same(a, b);
            out.extend_from_slice(bytemuck::bytes_of(&b));
        }
        all.then_some(out)
    }
    macro_rules! to {
        ($from:ty) => {
            match to {
                Dtype::I8 => each(bytes, |v: $from| v as i8, |a, b| a == b as $from),
                Dtype::U8 => each(bytes, |v: $from| v as u8, |a, b| a == b as $from),
                Dtype::I16 => each(bytes, |v: $from| v as i16, |a, b| a == b as $from),
                Dtype::U16 => each(bytes, |v: $from| v as u16, |a, b| a == b as $from),
                Dtype::I32 => each(bytes, |v: $from| v as i32, |a, b| a == b as $from),
                Dtype::U32 => each(bytes, |v: $from| v as u32, |a, b| a == b as $from),
                Dtype::I64 => each(bytes, |v: $from| v as i64, |a, b| a == b as $from),
                Dtype::U64 => each(bytes, |v: $from| v as u64, |a, b| a == b as $from),
                Dtype::F32 => each(bytes, |v: $from| v as f32, |a, b| a == b as $from || a != a),
                Dtype::F64 => each(bytes, |v: $from| v as f64, |a, b| a == b as $from || a != a),
                Dtype::Bool => each(bytes, |v: $from| u8::from(v != 0 as $from), |_, _| true),
                _ => None,
            }
        };
    }
    #[allow(clippy::eq_op)]
    match from {
        Dtype::I8 => to!(i8),
        Dtype::U8 => to!(u8),
        Dtype::I16 => to!(i16),
        Dtype::U16 => to!(u16),
        Dtype::I32 => to!(i32),
        Dtype::U32 => to!(u32),
        Dtype::I64 => to!(i64),
        Dtype::U64 => to!(u64),
        Dtype::F32 => to!(f32),
        Dtype::F64 => to!(f64),
        _ => None,
    }
}
