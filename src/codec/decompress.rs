//! Decompression, always with a limit: whatever the bytes say of themselves, no more comes out than
//! the caller allows, and no more memory is taken ahead than the input makes likely.
//!
//! | framing | layout |
//! |---|---|
//! | LZ4 with its size | u32 LE bytes in all, one LZ4 block (numcodecs) |
//! | LZ4 in blocks | u64 BE bytes in all, u32 BE bytes of a block; per block u32 BE stored bytes and data, as it is where it would not shrink (HDF5) |
//! | bit-shuffled blocks | the same, each block bit-shuffled before it was compressed; elements that fill no group of 8 follow as they are |

use std::io::Read;

use super::block::{lz4_block, with_zstd, zstd_block};
use super::limit::{Limit, damaged, room, too_long, zeroed};
use super::shuffle::bit_unshuffle;
use super::{blosc, lzf};
use crate::error::{Error, ForeignReader, Result};

/// What encloses a deflate stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// Nothing (zip).
    Raw,
    /// RFC 1950.
    Zlib,
    /// RFC 1952, one member or several.
    Gzip,
}

impl Wrapper {
    fn name(self) -> &'static str {
        match self {
            Wrapper::Raw => "deflate",
            Wrapper::Zlib => "zlib",
            Wrapper::Gzip => "gzip",
        }
    }
}

/// A compression with its framing.
#[derive(Clone, Debug, PartialEq)]
pub enum Compression {
    /// Deflate.
    Deflate(Wrapper),
    /// Zstandard, one frame or several.
    Zstd,
    /// One LZ4 block with its size before it.
    Lz4Sized,
    /// LZ4 in blocks.
    Lz4Blocks,
    /// LZ4 frames, one or several.
    Lz4Frame,
    /// Bzip2, one stream or several.
    Bzip2,
    /// LZMA, xz.
    Lzma(Lzma),
    /// LibLZF without a header.
    Lzf,
    /// A Blosc buffer, or a Blosc2 chunk or frame.
    Blosc,
    /// Bit shuffle in blocks, each compressed by LZ4 or (`zstd`) Zstandard.
    BitShuffled {
        /// Bytes of an element.
        size: usize,
        /// Zstandard instead of LZ4.
        zstd: bool,
    },
}

impl Compression {
    /// Undoes it.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, input: &[u8], limit: Limit) -> Result<Vec<u8>> {
        match self {
            Compression::Deflate(wrapper) => inflate(input, *wrapper, limit),
            Compression::Zstd => zstd(input, limit),
            Compression::Lz4Sized => lz4_sized(input, limit),
            Compression::Lz4Blocks => blocks("lz4", input, None, limit, |data, out| {
                if data.len() == out.len() {
                    out.copy_from_slice(data);
                    return Ok(());
                }
                lz4_block(data, out)
            }),
            Compression::Lz4Frame => lz4_frames(input, limit),
            Compression::Bzip2 => {
                read_all("bzip2", bzip2::read::MultiBzDecoder::new(input), input.len(), limit)
            }
            Compression::Lzma(kind) => lzma(input, kind, limit),
            Compression::Lzf => lzf::decompress(input, limit),
            Compression::Blosc => blosc::decompress(input, limit),
            Compression::BitShuffled { size, zstd: false } => {
                blocks("bitshuffle and lz4", input, Some(*size), limit, lz4_block)
            }
            Compression::BitShuffled { size, .. } => {
                blocks("bitshuffle and zstd", input, Some(*size), limit, zstd_block)
            }
        }
    }

    /// Whether [`Compression::stream`] undoes it.
    pub fn is_streamable(&self) -> bool {
        matches!(self, Compression::Deflate(Wrapper::Zlib) | Compression::Zstd | Compression::Bzip2)
    }

    /// A stream that undoes it; `None` where it needs all bytes at once.
    ///
    /// # Errors
    /// Where there is no memory for a decoder.
    pub fn stream(&self, from: Box<dyn Read>) -> Result<Option<Box<dyn Read>>> {
        Ok(Some(match self {
            Compression::Deflate(Wrapper::Zlib) => Box::new(flate2::read::ZlibDecoder::new(from)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(from)?),
            Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(from)),
            _ => return Ok(None),
        }))
    }
}

/// Reads a decoder to its end.
fn read_all(what: &'static str, decoder: impl Read, input: usize, limit: Limit) -> Result<Vec<u8>> {
    let mut from = ForeignReader::new(what, decoder);
    let wrong = |e: std::io::Error| damaged(what).because(e);
    let ahead = limit.expected.unwrap_or(limit.most).min(input.saturating_mul(8).max(1 << 16));
    let mut out = room(ahead)?;
    from.by_ref().take(limit.most as u64).read_to_end(&mut out).map_err(wrong)?;
    if out.len() == limit.most && from.read(&mut [0]).map_err(wrong)? > 0 {
        return Err(too_long(what, limit.most));
    }
    Ok(out)
}

/// Deflate in any wrapper: in one call where the size is known, else as a stream.
///
/// # Errors
/// Corrupt.
pub fn inflate(input: &[u8], wrapper: Wrapper, limit: Limit) -> Result<Vec<u8>> {
    // Deflate never gets below 1:1032: a size beyond that is wrong, whatever said it.
    let possible = input.len().saturating_mul(1032).saturating_add(64);
    if let Some(size) = limit.expected.filter(|&size| size <= possible.min(limit.most)) {
        let mut out = zeroed(size)?;
        let mut decoder = libdeflater::Decompressor::new();
        let done = match wrapper {
            Wrapper::Raw => decoder.deflate_decompress(input, &mut out),
            Wrapper::Zlib => decoder.zlib_decompress(input, &mut out),
            Wrapper::Gzip => decoder.gzip_decompress(input, &mut out),
        };
        match done {
            // Of several gzip members this was the first.
            Ok(n) if wrapper == Wrapper::Gzip && !input.ends_with(&gzip_trailer(&out[..n])) => {}
            Ok(n) => {
                out.truncate(n);
                return Ok(out);
            }
            Err(libdeflater::DecompressionError::BadData) => return Err(damaged(wrapper.name())),
            Err(libdeflater::DecompressionError::InsufficientSpace) => {}
        }
    }
    match wrapper {
        Wrapper::Raw => read_all(
            wrapper.name(),
            flate2::bufread::DeflateDecoder::new(input),
            input.len(),
            limit,
        ),
        Wrapper::Zlib => {
            read_all(wrapper.name(), flate2::bufread::ZlibDecoder::new(input), input.len(), limit)
        }
        Wrapper::Gzip => read_all(
            wrapper.name(),
            flate2::bufread::MultiGzDecoder::new(input),
            input.len(),
            limit,
        ),
    }
}

/// What ends the only member of a gzip stream: checksum and size.
fn gzip_trailer(bytes: &[u8]) -> [u8; 8] {
    let (sum, size) = (crc32fast::hash(bytes), bytes.len() as u32);
    (u64::from(size) << 32 | u64::from(sum)).to_le_bytes()
}

/// Zstandard, one frame or several, with or without their sizes in their headers.
///
/// # Errors
/// Corrupt.
pub fn zstd(input: &[u8], limit: Limit) -> Result<Vec<u8>> {
    // The frame tells its size: one call, straight into the buffer.
    if let Ok(Some(size)) = zstd::zstd_safe::get_frame_content_size(input)
        && size <= limit.most as u64
        && size <= (input.len() as u64).saturating_mul(32 << 10).max(1 << 16)
    {
        let mut out = room(size as usize)?;
        if with_zstd(|context| context.decompress_to_buffer(input, &mut out)).is_ok() {
            return Ok(out);
        }
    }
    let decoder =
        zstd::stream::read::Decoder::with_buffer(input).map_err(|e| damaged("zstd").because(e))?;
    read_all("zstd", decoder, input.len(), limit)
}

fn lz4_sized(input: &[u8], limit: Limit) -> Result<Vec<u8>> {
    let (head, block) = input.split_first_chunk::<4>().ok_or_else(|| damaged("lz4"))?;
    let size = u32::from_le_bytes(*head) as usize;
    if size > limit.most {
        return Err(too_long("lz4", limit.most));
    }
    if size / 256 > block.len() {
        return Err(damaged("lz4")); // no byte makes more than 255
    }
    let mut out = zeroed(size)?;
    lz4_block(block, &mut out)?;
    Ok(out)
}

/// A decoder of LZ4 frames.
struct FrameDecoder(lz4_sys::LZ4FDecompressionContext);

impl Drop for FrameDecoder {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once.
        unsafe { lz4_sys::LZ4F_freeDecompressionContext(self.0) };
    }
}

fn lz4_frames(mut input: &[u8], limit: Limit) -> Result<Vec<u8>> {
    const VERSION: u32 = 100;
    let mut decoder = FrameDecoder(lz4_sys::LZ4FDecompressionContext(std::ptr::null_mut()));
    // SAFETY: the library fills the pointer.
    if unsafe {
        lz4_sys::LZ4F_isError(lz4_sys::LZ4F_createDecompressionContext(&mut decoder.0, VERSION))
    } != 0
    {
        return Err(Error::failed("there is no memory to decompress lz4"));
    }
    let ahead = limit.expected.unwrap_or(limit.most).min(input.len().saturating_mul(256));
    let (mut out, mut done, mut left) = (zeroed(ahead)?, 0, 1);
    while left != 0 || !input.is_empty() {
        if done == out.len() {
            // One byte beyond the limit: whether there is more.
            let more = (2 * out.len())
                .clamp(1 << 16, limit.most.max(1 << 16))
                .min(limit.most.saturating_add(1));
            out.resize(more.max(done + 1), 0);
        }
        let (mut written, mut read) = (out.len() - done, input.len());
        // SAFETY: both buffers are valid for the lengths passed with them; the library sets these
        // to what it used.
        let code = unsafe {
            let to = out[done..].as_mut_ptr();
            lz4_sys::LZ4F_decompress(
                decoder.0,
                to,
                &mut written,
                input.as_ptr(),
                &mut read,
                std::ptr::null(),
            )
        };
        // SAFETY: a plain call.
        let failed = unsafe { lz4_sys::LZ4F_isError(code) } != 0;
        (done, input, left) = (done + written, &input[read..], code);
        if failed || left != 0 && written == 0 && read == 0 {
            return Err(damaged("lz4"));
        }
        if done > limit.most {
            return Err(too_long("lz4", limit.most));
        }
    }
    out.truncate(done);
    Ok(out)
}

/// Blocks with their sizes; `bits`: the elements' bytes, where the blocks are bit-shuffled.
fn blocks(
    what: &str,
    input: &[u8],
    bits: Option<usize>,
    limit: Limit,
    decode: impl Fn(&[u8], &mut [u8]) -> Result<()>,
) -> Result<Vec<u8>> {
    let short = || Error::corrupt(format!("the {what} data ends too early"));
    let (total, rest) = input.split_first_chunk::<8>().ok_or_else(short)?;
    let (block, mut rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (total, block) = (u64::from_be_bytes(*total), u32::from_be_bytes(*block) as usize);
    let unit = bits.map_or(1, |size| 8 * size);
    if total > limit.most as u64 || !block.is_multiple_of(unit) || block == 0 && total > 0 {
        return Err(Error::corrupt(format!(
            "the {what} data declares {total} bytes in blocks of {block}"
        )));
    }
    let mut out = zeroed(total as usize)?;
    let (whole, tail) = out.split_at_mut(total as usize / unit * unit);
    let (mut shuffled, mut scratch) = (Vec::new(), Vec::new());
    for piece in whole.chunks_mut(block.max(1)) {
        let (stored, data) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (data, after) =
            data.split_at_checked(u32::from_be_bytes(*stored) as usize).ok_or_else(short)?;
        rest = after;
        match bits {
            None => decode(data, piece)?,
            Some(size) => {
                shuffled.resize(piece.len(), 0);
                decode(data, &mut shuffled)?;
                bit_unshuffle(&shuffled, size, piece, &mut scratch);
            }
        }
    }
    tail.copy_from_slice(rest.get(..tail.len()).ok_or_else(short)?);
    Ok(out)
}

/// One filter of a raw LZMA stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LzmaFilter {
    /// liblzma's id: 3 delta, 0x21 LZMA2, 0x4000000000000001 LZMA1.
    pub id: u64,
    /// Its preset.
    pub preset: u32,
    /// Dictionary size, where given.
    pub dict_size: Option<u32>,
    /// Distance of the delta filter.
    pub distance: u32,
}

/// The container of an LZMA stream, as Python's `lzma` numbers them.
#[derive(Clone, Debug, PartialEq)]
pub enum Lzma {
    /// FORMAT_AUTO, FORMAT_XZ, FORMAT_ALONE.
    Headed,
    /// FORMAT_RAW.
    Raw(Vec<LzmaFilter>),
}

fn lzma(input: &[u8], kind: &Lzma, limit: Limit) -> Result<Vec<u8>> {
    use liblzma::stream::{CONCATENATED, Filters, LzmaOptions, Stream};
    let wrong = |e: liblzma::stream::Error| damaged("lzma").because(e);
    let memory = (64 << 20) + limit.most as u64;
    let stream = match kind {
        Lzma::Headed if input.starts_with(b"\xfd7zXZ\0") => {
            Stream::new_stream_decoder(memory, CONCATENATED)
        }
        Lzma::Headed => Stream::new_auto_decoder(memory, 0),
        Lzma::Raw(filters) => {
            let mut list = Filters::new();
            for f in filters {
                let mut options = LzmaOptions::new_preset(f.preset).map_err(wrong)?;
                if let Some(size) = f.dict_size {
                    options.dict_size(size.min(256 << 20));
                }
                match f.id {
                    3 => {
                        let distance =
                            u8::try_from(f.distance.saturating_sub(1)).unwrap_or(u8::MAX);
                        list.delta_properties(&[distance]).map_err(wrong)?;
                    }
                    0x21 => {
                        list.lzma2(&options);
                    }
                    _ => {
                        list.lzma1(&options);
                    }
                }
            }
            Stream::new_raw_decoder(&list)
        }
    }
    .map_err(wrong)?;
    read_all("lzma", liblzma::bufread::XzDecoder::new_stream(input, stream), input.len(), limit)
}
