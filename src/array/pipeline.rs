//! The codecs between a stored piece and its elements. HDF5's filters and Zarr's codecs are the
//! same pipeline.

use std::sync::{Arc, LazyLock};

use super::element::swap_bytes;
use super::strided::Strided;
use crate::codec::checksum::Checksum;
use crate::codec::decompress::{Compression, Limit};
use crate::codec::shuffle::{bit_unshuffle, unshuffle};
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::MemoryBlob;

/// One codec.
#[derive(Clone)]
pub enum Codec {
    /// A compression.
    Compression(Compression),
    /// A checksum of 4 bytes before or behind the bytes.
    Checksum {
        /// Which.
        sum: Checksum,
        /// Before them.
        at_start: bool,
    },
    /// Byte shuffle of elements of so many bytes.
    Shuffle(usize),
    /// Bit shuffle.
    BitShuffle {
        /// Bytes of an element.
        size: usize,
        /// Elements of a block, a multiple of 8.
        block: usize,
    },
    /// Every unit of so many bytes turned around.
    Swap(usize),
    /// Dimensions in another order.
    Transpose {
        /// The dimension that is stored at each place.
        order: Vec<usize>,
        /// The shape when decoded.
        shape: Vec<u64>,
        /// Bytes of an element.
        item: usize,
    },
}

/// Codecs in the order of encoding; decoding goes backwards.
#[derive(Clone, Default)]
pub struct CodecPipeline {
    codecs: Vec<Codec>,
}

impl CodecPipeline {
    /// Of these codecs, in the order in which they encode.
    pub fn new(codecs: Vec<Codec>) -> Arc<CodecPipeline> {
        Arc::new(CodecPipeline { codecs })
    }

    /// Pieces are stored as they are.
    pub fn none() -> Arc<CodecPipeline> {
        static NONE: LazyLock<Arc<CodecPipeline>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Whether pieces are stored as they are.
    pub fn is_empty(&self) -> bool {
        self.codecs.is_empty()
    }

    /// The most bytes that a stored piece of `decoded` bytes can sensibly have.
    pub fn most_stored(&self, decoded: u64) -> u64 {
        if self.is_empty() {
            decoded
        } else {
            decoded.saturating_add(decoded / 4).saturating_add(1 << 20)
        }
    }

    /// Decodes a piece of `decoded` bytes. Bit `i` of `skipped` says that the `i`th codec was left
    /// out.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, mut bytes: Vec<u8>, skipped: u32, decoded: usize) -> Result<Vec<u8>> {
        let used = |i: usize| i >= 32 || skipped >> i & 1 == 0;
        // What goes into each codec when a piece is encoded; not known behind a compression.
        let mut due = Some(decoded);
        let mut inputs = Vec::with_capacity(self.codecs.len());
        for (i, codec) in self.codecs.iter().enumerate().filter(|(i, _)| used(*i)) {
            inputs.push((i, due));
            due = due.and_then(|n| codec.encoded_bytes(n));
        }
        for (i, due) in inputs.into_iter().rev() {
            bytes = self.codecs[i].decode(bytes, due, decoded)?;
        }
        if bytes.len() == decoded {
            return Ok(bytes);
        }
        Err(Error::corrupt(format!(
            "a piece has {} bytes when decoded, its shape needs {decoded}",
            bytes.len()
        )))
    }
}

impl Codec {
    /// Bytes that `decoded` bytes become; `None` where the values decide.
    fn encoded_bytes(&self, decoded: usize) -> Option<usize> {
        match self {
            Codec::Compression(_) => None,
            Codec::Checksum { .. } => decoded.checked_add(4),
            _ => Some(decoded),
        }
    }

    /// `due`: the bytes that must come out, where known; `piece`: those of the whole piece.
    fn decode(&self, mut bytes: Vec<u8>, due: Option<usize>, piece: usize) -> Result<Vec<u8>> {
        Ok(match self {
            Codec::Compression(compression) => {
                let most =
                    due.unwrap_or_else(|| piece.saturating_add(piece / 8).saturating_add(4096));
                compression.decode(&bytes, Limit { expected: due, most })?
            }
            Codec::Checksum { sum, at_start } => sum.strip(bytes, *at_start)?,
            Codec::Shuffle(size) => {
                let mut out = vec![0; bytes.len()];
                unshuffle(&bytes, *size, &mut out);
                out
            }
            Codec::BitShuffle { size, block } => {
                let (mut out, mut scratch) = (bytes.clone(), Vec::new());
                let whole = bytes.len() / size / 8 * 8 * size;
                for (from, to) in
                    bytes[..whole].chunks(block * size).zip(out[..whole].chunks_mut(block * size))
                {
                    bit_unshuffle(from, *size, to, &mut scratch);
                }
                out
            }
            Codec::Swap(unit) => {
                swap_bytes(&mut bytes, *unit);
                bytes
            }
            Codec::Transpose { order, shape, item } => transpose(&bytes, order, shape, *item)?,
        })
    }
}

/// Brings bytes in C order of the permuted shape (`order[i]` is the dimension that is stored at
/// place `i`) into C order of `shape`.
fn transpose(bytes: &[u8], order: &[usize], shape: &[u64], item: usize) -> Result<Vec<u8>> {
    let wanted = checked_product(shape).and_then(|n| n.checked_mul(item as u64));
    if wanted != Some(bytes.len() as u64) {
        return Err(Error::corrupt(format!(
            "a piece has {} bytes before its dimensions are put in order",
            bytes.len()
        )));
    }
    let mut stride_bytes = vec![0; shape.len()];
    let mut stride = item as u64;
    for &d in order.iter().rev() {
        stride_bytes[d] = stride;
        stride *= shape[d];
    }
    let strided = Strided { item_bytes: item as u64, shape: shape.to_vec(), stride_bytes };
    strided.gather(&MemoryBlob(bytes), 0..shape.first().copied().unwrap_or(1))
}
