//! The codecs between a stored piece and its elements. HDF5's filters and Zarr's codecs are the
//! same pipeline.

use std::borrow::Cow;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use super::element::swap_bytes;
use super::strided::Strided;
use crate::codec::checksum::{Checked, Checksum};
use crate::codec::compress::Compressor;
use crate::codec::decompress::Compression;
use crate::codec::filters::Filter;
use crate::codec::limit::Limit;
use crate::codec::shuffle::{bit_unshuffle, shuffle, unshuffle};
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::MemoryBlob;

/// Undoes an encoding that only a format knows; at most so many bytes come out.
pub type DecodeFn = dyn Fn(Vec<u8>, usize) -> Result<Vec<u8>> + Send + Sync;

/// One codec.
#[derive(Clone)]
pub enum Codec {
    /// A compression that is only read.
    Compression(Compression),
    /// A compression that is written, too.
    Compressor(Compressor),
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
    /// A filter over numbers.
    Filter(Filter),
    /// Dimensions in another order.
    Transpose {
        /// The dimension that is stored at each place.
        order: Vec<usize>,
        /// The shape when decoded.
        shape: Vec<u64>,
        /// Bytes of an element.
        item: usize,
    },
    /// By what the format knows.
    With(Arc<DecodeFn>),
}

/// Codecs in the order of encoding; decoding goes backwards.
#[derive(Clone, Default)]
pub struct CodecPipeline {
    codecs: Vec<Codec>,
    /// See [`CodecPipeline::lenient`].
    takes_more: bool,
}

impl CodecPipeline {
    /// Of these codecs, in the order in which they encode.
    pub fn new(codecs: Vec<Codec>) -> Arc<CodecPipeline> {
        Arc::new(CodecPipeline { codecs, takes_more: false })
    }

    /// As [`CodecPipeline::new`], for a format that allows pieces to hold more bytes than their
    /// elements take: those at the end are left out.
    pub fn lenient(codecs: Vec<Codec>) -> Arc<CodecPipeline> {
        Arc::new(CodecPipeline { codecs, takes_more: true })
    }

    /// Pieces are stored as they are.
    pub fn none() -> Arc<CodecPipeline> {
        static NONE: LazyLock<Arc<CodecPipeline>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// The codecs, in the order of encoding.
    pub fn codecs(&self) -> &[Codec] {
        &self.codecs
    }

    /// Whether pieces are stored as they are.
    pub fn is_empty(&self) -> bool {
        self.codecs.is_empty()
    }

    /// Whether a piece is stored as it is: all its codecs were left out.
    pub fn is_plain(&self, skipped: u32) -> bool {
        self.codecs.len() <= 32 && (0..self.codecs.len()).all(|i| skipped >> i & 1 == 1)
    }

    /// The most bytes that a stored piece of `decoded` bytes can sensibly have.
    pub fn most_stored(&self, decoded: u64) -> u64 {
        if self.is_empty() {
            return decoded;
        }
        self.most_between(decoded).saturating_add(decoded / 8).saturating_add(1 << 20)
    }

    /// The most bytes that there can sensibly be between two codecs.
    fn most_between(&self, decoded: u64) -> u64 {
        // Filters may store numbers in wider types, and what a format knows may have an index.
        let is_wide = |codec: &Codec| matches!(codec, Codec::Filter(_) | Codec::With(_));
        let times = if self.codecs.iter().any(is_wide) { 16 } else { 1 };
        decoded.saturating_mul(times).saturating_add(decoded / 8).saturating_add(4096)
    }

    /// Bytes that are held at once while a piece of so many stored bytes is decoded.
    pub fn held_bytes(&self, stored: u64, decoded: u64) -> u64 {
        // From one buffer into another: between two such codecs both are decoded.
        let in_place = |c: &&Codec| !matches!(c, Codec::Checksum { .. } | Codec::Swap(_));
        match self.codecs.iter().filter(in_place).count() {
            0 => stored,
            1 => stored.saturating_add(decoded),
            _ => stored.max(decoded).saturating_add(decoded),
        }
    }

    /// Decodes a piece of `decoded` bytes. Bit `i` of `skipped` says that the `i`th codec was left
    /// out.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, bytes: Vec<u8>, skipped: u32, decoded: usize) -> Result<Vec<u8>> {
        let most = usize::try_from(self.most_between(decoded as u64)).unwrap_or(usize::MAX);
        let mut bytes = self.decode_each(bytes, skipped, Some(decoded), most)?;
        if self.takes_more {
            bytes.truncate(decoded);
        }
        if bytes.len() == decoded {
            return Ok(bytes);
        }
        let when = if self.is_empty() { "" } else { " when decoded" };
        let len = bytes.len();
        Err(Error::corrupt(format!("it has {len} bytes{when}, its shape needs {decoded}")))
    }

    /// Whether [`CodecPipeline::stream`] can decode pieces.
    pub fn is_streamable(&self) -> bool {
        let mut codecs = &self.codecs[..];
        if let [Codec::Shuffle(_), rest @ ..] = codecs {
            codecs = rest;
        }
        if let [rest @ .., Codec::Checksum { sum: Checksum::Fletcher32, at_start: false }] = codecs
        {
            codecs = rest;
        }
        codecs.iter().all(|c| matches!(c, Codec::Compression(c) if c.is_streamable()))
    }

    /// The decoded bytes of a piece of `stored` bytes as a stream, and the size of the elements
    /// whose byte shuffle is left to be undone; `None` where a codec needs the whole piece.
    ///
    /// # Errors
    /// A piece that is too short for its checksum.
    pub fn stream(
        &self,
        skipped: u32,
        input: impl Read + 'static,
        stored: u64,
    ) -> Result<Option<(Box<dyn Read>, usize)>> {
        if !self.is_streamable() {
            return Ok(None);
        }
        let (mut stream, mut shuffled): (Box<dyn Read>, _) = (Box::new(input), 1);
        for (i, codec) in self.codecs.iter().enumerate().rev() {
            if i < 32 && skipped >> i & 1 == 1 {
                continue;
            }
            match codec {
                Codec::Compression(compression) => match compression.stream(stream)? {
                    Some(decoder) => stream = decoder,
                    None => return Ok(None),
                },
                Codec::Checksum { .. } => stream = Box::new(Checked::new(stream, stored)?),
                Codec::Shuffle(size) => shuffled = (*size).max(1),
                _ => return Ok(None),
            }
        }
        Ok(Some((stream, shuffled)))
    }

    /// Decodes a piece of items of any length, to at most `most` bytes. Their order stays as it is
    /// (see [`CodecPipeline::reorder`]).
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode_items(&self, bytes: Vec<u8>, skipped: u32, most: usize) -> Result<Vec<u8>> {
        self.decode_each(bytes, skipped, None, most)
    }

    /// Whether elements are stored in another order.
    pub fn reorders(&self) -> bool {
        self.codecs.iter().any(|codec| matches!(codec, Codec::Transpose { .. }))
    }

    /// Brings numbers of 8 bytes, one for each stored element, into the order of the elements.
    ///
    /// # Errors
    /// Corrupt where there are not as many as the shape needs.
    pub fn reorder(&self, mut numbers: Vec<u8>) -> Result<Vec<u8>> {
        for codec in self.codecs.iter().rev() {
            if let Codec::Transpose { order, shape, .. } = codec {
                numbers = transpose(&numbers, order, shape, 8)?;
            }
        }
        Ok(numbers)
    }

    fn decode_each(
        &self,
        mut bytes: Vec<u8>,
        skipped: u32,
        decoded: Option<usize>,
        most: usize,
    ) -> Result<Vec<u8>> {
        let used = |i: usize| i >= 32 || skipped >> i & 1 == 0;
        // What goes into each codec when a piece is encoded; not known behind a compression.
        let mut due = decoded;
        let mut inputs = Vec::with_capacity(self.codecs.len());
        for (i, codec) in self.codecs.iter().enumerate().filter(|(i, _)| used(*i)) {
            inputs.push((i, due));
            due = due.and_then(|n| codec.encoded_bytes(n));
        }
        for (i, due) in inputs.into_iter().rev() {
            let codec = &self.codecs[i];
            if decoded.is_some() || !matches!(codec, Codec::Transpose { .. }) {
                let exact = due.filter(|_| !self.takes_more);
                let limit = Limit { expected: due, most: exact.unwrap_or(most) };
                bytes = codec.decode(bytes, limit)?;
            }
        }
        Ok(bytes)
    }

    /// Encodes a piece. With `may_skip` a compression that makes it no smaller is left out; the
    /// second part of the answer says which were, as [`CodecPipeline::decode`] takes it.
    ///
    /// # Errors
    /// What compressors refuse; codecs that are only read.
    pub fn encode<'a>(
        &self,
        mut bytes: Cow<'a, [u8]>,
        may_skip: bool,
    ) -> Result<(Cow<'a, [u8]>, u32)> {
        let mut skipped = 0;
        for (i, codec) in self.codecs.iter().enumerate() {
            let may_skip = may_skip && matches!(codec, Codec::Compressor(_)) && i < 32;
            match codec.encode(&bytes)? {
                Some(encoded) if !may_skip || encoded.len() < bytes.len() => {
                    bytes = Cow::Owned(encoded);
                }
                None if !may_skip => return Err(Error::failed("a chunk cannot be compressed")),
                _ => skipped |= 1 << i,
            }
        }
        Ok((bytes, skipped))
    }
}

impl Codec {
    /// Bytes that `decoded` bytes become; `None` where the values decide.
    fn encoded_bytes(&self, decoded: usize) -> Option<usize> {
        match self {
            Codec::Compression(_) | Codec::Compressor(_) | Codec::With(_) => None,
            Codec::Checksum { .. } => decoded.checked_add(4),
            Codec::Filter(filter) => filter.stored_bytes(decoded),
            _ => Some(decoded),
        }
    }

    /// Undoes it.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, mut bytes: Vec<u8>, limit: Limit) -> Result<Vec<u8>> {
        Ok(match self {
            Codec::Compression(compression) => compression.decode(&bytes, limit)?,
            Codec::Compressor(compressor) => compressor.compression().decode(&bytes, limit)?,
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
            Codec::Filter(filter) => filter.decode(bytes, limit.most)?,
            Codec::Transpose { order, shape, item } => transpose(&bytes, order, shape, *item)?,
            Codec::With(decode) => decode(bytes, limit.most)?,
        })
    }

    /// `None` where a compression has no form for these bytes.
    fn encode(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Some(match self {
            Codec::Compressor(compressor) => return compressor.encode(bytes),
            Codec::Checksum { sum, at_start } => {
                let sum = sum.of(bytes).to_le_bytes();
                if *at_start { [&sum, bytes].concat() } else { [bytes, &sum].concat() }
            }
            Codec::Shuffle(size) => {
                let mut out = vec![0; bytes.len()];
                shuffle(bytes, *size, &mut out);
                out
            }
            Codec::Swap(unit) => {
                let mut out = bytes.to_vec();
                swap_bytes(&mut out, *unit);
                out
            }
            _ => return Err(Error::internal("a codec that is only read was to be written")),
        }))
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
