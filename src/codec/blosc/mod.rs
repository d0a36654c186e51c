//! Blosc and Blosc2 buffers (chunks), and Blosc2 frames that hold chunks.
//!
//! | bytes of a chunk | |
//! |---|---|
//! | 0 | version of the format: up to 2 Blosc, 3 and later Blosc2 |
//! | 1 | version of the compressor's format |
//! | 2 | flags: 1 shuffle, 2 stored as it is, 4 bitshuffle (1 and 4: long header), 16 not split; codec from bit 5 |
//! | 3 | bytes of an element |
//! | 4, 8, 12 | u32 LE: decoded bytes, bytes of a block, stored bytes |
//! | 16 … 32 | long header only: 6 filters, user codec, codec meta, 6 filter metas, reserved, flags 2 |
//! | then | i32 LE offset per block; the blocks, each as one stream, or one for each byte of an element |
//!
//! <https://github.com/Blosc/c-blosc2/blob/main/README_CHUNK_FORMAT.rst>,
//! <https://github.com/Blosc/c-blosc2/blob/main/README_CFRAME_FORMAT.rst>
//! Not supported: dictionaries, the delta filter, user codecs, n-dimensional (b2nd) chunks cut into
//! blocks.
//!
//! The C library decodes shuffled LZ4: its shuffles are about 1.5 times as fast. It does nothing
//! else: its decoder of BloscLZ writes past the end of its buffer on some damaged input
//! (<https://github.com/Blosc/c-blosc/issues/405>), the other compressors are not linked into it,
//! and it knows nothing of Blosc2.

use super::block::{lz4_block, snappy_block, zlib_block, zstd_block};
use super::limit::{Limit, room};
use super::shuffle::{bit_unshuffle, unshuffle};
use crate::error::{Error, Result};

mod b2nd;
mod blosclz;
mod library;

use blosclz::damaged;
pub use library::compress;

/// Bytes of the largest block that the library is given.
const MAX_LIBRARY_BLOCK: usize = 64 << 20;

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let b = bytes
        .get(at..)
        .and_then(|b| b.first_chunk::<4>())
        .ok_or_else(|| damaged("it ends too early"))?;
    Ok(u32::from_le_bytes(*b))
}

/// A Blosc buffer, or a Blosc2 chunk or contiguous frame.
///
/// # Errors
/// Corrupt; a codec, filter or kind of frame that is not supported.
pub fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>> {
    if input.get(2..9) == Some(b"b2frame".as_slice()) {
        frame(input, limit.most)
    } else {
        chunk(input, limit.most)
    }
}

/// What the header of a chunk says.
struct Header {
    version: u8,
    flags: u8,
    /// Bytes of an element.
    size: usize,
    total: usize,
    block: usize,
    /// Blosc2's long header: its filters with their parameters, and where the block offsets begin.
    long: bool,
    filters: [(u8, u8); 6],
    flags2: u8,
    head: usize,
}

impl Header {
    fn parse(input: &[u8]) -> Result<(Header, &[u8])> {
        let [version, _, flags, size, ..] = *input else { return Err(damaged("it has no header")) };
        let (total, block, stored) =
            (u32_at(input, 4)? as usize, u32_at(input, 8)? as usize, u32_at(input, 12)? as usize);
        let input = input.get(..stored.max(16)).ok_or_else(|| {
            damaged(&format!("{stored} bytes are due, there are {}", input.len()))
        })?;
        let (mut filters, mut flags2, mut head) = ([(0, 0); 6], 0, 16);
        let long = flags & 5 == 5;
        if long {
            let h = input.get(16..32).ok_or_else(|| damaged("its header is cut"))?;
            filters = std::array::from_fn(|i| (h[i], h[8 + i]));
            (flags2, head) = (h[15], 32);
        } else {
            filters[5].0 = [0, 1, 0, 0, 2, 0, 0, 0][usize::from(flags & 5)];
        }
        let size = usize::from(size.max(1));
        Ok((Header { version, flags, size, total, block, long, filters, flags2, head }, input))
    }

    /// Chunks of one value; `None` for all others.
    fn special(&self, input: &[u8]) -> Result<Option<Vec<u8>>> {
        let value: Vec<u8> = match (self.flags2 >> 4 & 7, self.size) {
            (0, _) => return Ok(None),
            (1 | 4, _) => vec![0],
            (2, 4) => f32::NAN.to_le_bytes().to_vec(),
            (2, 8) => f64::NAN.to_le_bytes().to_vec(),
            (3, size) => {
                input.get(32..32 + size).ok_or_else(|| damaged("its value is cut"))?.to_vec()
            }
            (other, size) => {
                return Err(damaged(&format!("special value {other} of {size} bytes")));
            }
        };
        let mut out = room(self.total)?;
        out.extend(value.iter().cycle().take(self.total / value.len() * value.len()));
        out.resize(self.total, 0);
        Ok(Some(out))
    }

    /// Whether this is LZ4 behind a shuffle of elements of several bytes, in the first Blosc's form
    /// and in blocks of a usual size (the library takes memory for two).
    fn is_shuffled_lz4(&self) -> bool {
        self.version == 2
            && self.flags >> 5 == 1
            && self.flags & 5 != 0
            && self.size > 1
            && self.block <= MAX_LIBRARY_BLOCK
    }

    /// The streams of a block: one, or one for each byte of an element.
    fn streams(&self, len: usize) -> Result<usize> {
        let may_split = self.flags & 16 == 0 && len == self.block;
        let splits = may_split && (self.long || self.size <= 16 && self.block / self.size >= 128);
        let streams = if splits { self.size } else { 1 };
        if len.is_multiple_of(streams) {
            Ok(streams)
        } else {
            Err(damaged("its blocks cannot be split"))
        }
    }
}

/// What is kept from block to block.
#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    bits: Vec<u8>,
}

/// Decodes one chunk, to at most `most` bytes.
fn chunk(input: &[u8], most: usize) -> Result<Vec<u8>> {
    let (header, input) = Header::parse(input)?;
    let (total, block, head) = (header.total, header.block, header.head);
    if total > most {
        return Err(damaged(&format!("it declares {total} bytes, at most {most} are expected")));
    }
    if total == 0 {
        return Ok(Vec::new());
    }
    if let Some(special) = header.special(input)? {
        return Ok(special);
    }
    if header.flags2 & 1 != 0 {
        return Err(Error::refused("blosc2 chunks with a dictionary are not supported"));
    }
    if header.flags & 2 != 0 {
        return Ok(input
            .get(head..head + total)
            .ok_or_else(|| damaged("it ends too early"))?
            .to_vec());
    }
    // An offset and a stream length at least for each block: more blocks than that cannot be.
    if block == 0 || total.div_ceil(block) > input.len() / 4 {
        return Err(damaged(&format!("{total} bytes in blocks of {block}")));
    }
    room(total)?;
    let mut out = vec![0; total];
    // What it does not take may still be right: it is more strict. Else it is found what is wrong.
    if header.is_shuffled_lz4() && library::decompress(input, &mut out) {
        return Ok(out);
    }
    let mut scratch = Scratch::default();
    for (b, out) in out.chunks_mut(block).enumerate() {
        let at = u32_at(input, head + 4 * b)? as usize;
        decode_block(
            &header,
            input.get(at..).ok_or_else(|| damaged("a block is cut"))?,
            out,
            &mut scratch,
        )?;
    }
    Ok(out)
}

fn decode_block(
    header: &Header,
    mut rest: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<()> {
    let filtered = header.filters.iter().any(|f| !matches!(f.0, 0 | 4));
    let len = out.len();
    let streams = header.streams(len)?;
    scratch.raw.resize(if filtered { len } else { 0 }, 0);
    let target = if filtered { &mut scratch.raw[..] } else { &mut *out };
    for part in target.chunks_mut(len / streams) {
        let length = u32_at(rest, 0)? as i32;
        rest = &rest[4..];
        if length <= 0 && header.long {
            // A run of one byte.
            if length < 0 {
                let (token, after) =
                    rest.split_first().ok_or_else(|| damaged("it ends too early"))?;
                rest = after;
                if token & 1 == 0 || length < -255 {
                    return Err(damaged("an unknown run"));
                }
            }
            part.fill(length.unsigned_abs() as u8);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| damaged("a negative length"))?;
        let (data, after) =
            rest.split_at_checked(length).ok_or_else(|| damaged("a stream is cut"))?;
        rest = after;
        match (data.len() == part.len(), header.flags >> 5) {
            (true, _) => part.copy_from_slice(data),
            (_, 0) => blosclz::decompress(data, part)?,
            (_, 1) => lz4_block(data, part)?,
            (_, 2) => snappy_block(data, part)?,
            (_, 3) => zlib_block(data, part)?,
            (_, 4) => zstd_block(data, part)?,
            (_, other) => {
                return Err(Error::refused(format!(
                    "the blosc codec number {other} is not supported"
                )));
            }
        }
    }
    let mut filters = header.filters.iter().rev().filter(|f| !matches!(f.0, 0 | 4)).peekable();
    while let Some((filter, meta)) = filters.next() {
        match filter {
            1 => unshuffle(
                &scratch.raw,
                if header.long && *meta != 0 { usize::from(*meta) } else { header.size },
                out,
            ),
            2 => {
                let elements = len / header.size;
                let whole = match header.version {
                    ..=2 if !elements.is_multiple_of(8) => 0, // Blosc leaves such blocks alone
                    _ => elements / 8 * 8 * header.size,
                };
                bit_unshuffle(
                    &scratch.raw[..whole],
                    header.size,
                    &mut out[..whole],
                    &mut scratch.bits,
                );
                out[whole..].copy_from_slice(&scratch.raw[whole..]);
            }
            other => {
                return Err(Error::refused(format!(
                    "the blosc2 filter number {other} is not supported"
                )));
            }
        }
        if filters.peek().is_some() {
            scratch.raw.copy_from_slice(out);
        }
    }
    Ok(())
}

/// Decodes a contiguous Blosc2 frame, to at most `most` bytes.
fn frame(input: &[u8], most: usize) -> Result<Vec<u8>> {
    let be = |at: usize, n: usize| -> Result<u64> {
        let bytes = input.get(at..at + n).ok_or_else(|| damaged("its frame header is cut"))?;
        Ok(bytes.iter().fold(0, |v, &b| v << 8 | u64::from(b)))
    };
    let header = usize::try_from(be(11, 4)?).unwrap_or(usize::MAX);
    let total = be(30, 8)?;
    let stored = usize::try_from(be(39, 8)?).unwrap_or(usize::MAX);
    let chunk_bytes = be(58, 4)?;
    if total > most as u64 || chunk_bytes == 0 && total > 0 || header > input.len() {
        return Err(damaged(&format!(
            "its frame announces {total} bytes, at most {most} are expected"
        )));
    }
    if total == 0 {
        return Ok(Vec::new());
    }
    let data = header
        .checked_add(stored)
        .and_then(|end| input.get(header..end))
        .ok_or_else(|| damaged("its frame is cut"))?;
    let chunks = usize::try_from(total.div_ceil(chunk_bytes)).unwrap_or(usize::MAX);
    let index = chunk(&input[header + stored..], chunks.saturating_mul(8).saturating_add(64))?;
    let offsets = index.as_chunks::<8>().0;
    if offsets.len() < chunks {
        return Err(damaged("its frame index is too short"));
    }
    let layout = b2nd::Layout::find(&input[..header])?;
    let mut out = Vec::new();
    for (i, offset) in offsets[..chunks].iter().enumerate() {
        let offset = u64::from_le_bytes(*offset);
        let len = chunk_bytes.min(total - i as u64 * chunk_bytes) as usize;
        let piece = if offset >> 63 != 0 {
            match (offset >> 56) & 0x7F {
                1 | 4 => vec![0; len],
                other => return Err(damaged(&format!("special chunk {other} in a frame"))),
            }
        } else {
            let at = usize::try_from(offset)
                .ok()
                .filter(|&o| o < data.len())
                .ok_or_else(|| damaged("a chunk outside of its frame"))?;
            chunk(&data[at..], len)?
        };
        out.extend(piece);
    }
    match layout {
        Some(layout) => layout.straighten(out),
        None => Ok(out),
    }
}
