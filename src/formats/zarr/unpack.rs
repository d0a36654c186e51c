//! Decompressors with a limit: whatever the bytes say, no more than the chunk's own size is ever produced.

use std::cell::RefCell;
use std::io::Read;

use crate::error::{Error, Result};

/// The framing of a deflate stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// RFC 1950.
    Zlib,
    /// RFC 1952, several members allowed.
    Gzip,
}

fn broken(what: &str, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt(format!("a {what} stream cannot be decoded")).because(e)
}

fn too_much(what: &str, most: u64) -> Error {
    Error::corrupt(format!("a {what} stream decodes to more than the {most} bytes that its chunk can have"))
}

/// Reads to the end; more than `most` bytes are an error. `most` was compared with the memory limit by the caller, yet
/// nothing is allocated ahead beyond a few times the input.
fn read_all(mut from: impl Read, what: &str, input: usize, most: u64) -> Result<Vec<u8>> {
    let ahead = most.min((input as u64).saturating_mul(8).max(1 << 16));
    let mut out = Vec::with_capacity(ahead as usize);
    from.by_ref().take(most).read_to_end(&mut out).map_err(|e| broken(what, e))?;
    if out.len() as u64 == most && from.read(&mut [0]).map_err(|e| broken(what, e))? > 0 {
        return Err(too_much(what, most));
    }
    Ok(out)
}

/// Deflate in any wrapper.
///
/// # Errors
/// Corrupt.
pub fn inflate(bytes: &[u8], wrapper: Wrapper, most: u64) -> Result<Vec<u8>> {
    match wrapper {
        Wrapper::Zlib => read_all(flate2::bufread::ZlibDecoder::new(bytes), "zlib", bytes.len(), most),
        Wrapper::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(bytes), "gzip", bytes.len(), most),
    }
}

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Zstandard, one frame or several, with or without their sizes in the header.
///
/// # Errors
/// Corrupt.
pub fn zstd(bytes: &[u8], most: u64) -> Result<Vec<u8>> {
    // The frame tells its size: one call, straight into the buffer.
    if let Ok(Some(size)) = zstd::zstd_safe::get_frame_content_size(bytes)
        && size <= most
        && size <= (bytes.len() as u64).saturating_mul(32 << 10).max(1 << 16)
    {
        let whole = ZSTD.with_borrow_mut(|context| {
            let context = match context {
                Some(c) => c,
                None => context.insert(zstd::bulk::Decompressor::new().ok()?),
            };
            let mut out = Vec::with_capacity(size as usize);
            context.decompress_to_buffer(bytes, &mut out).ok()?;
            Some(out)
        });
        if let Some(whole) = whole {
            return Ok(whole);
        }
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| broken("zstd", e))?;
    read_all(decoder, "zstd", bytes.len(), most)
}

/// numcodecs' lz4: the decoded length (4 bytes, little-endian), then one LZ4 block.
///
/// # Errors
/// Corrupt.
pub fn lz4(bytes: &[u8], most: u64) -> Result<Vec<u8>> {
    let short = || Error::corrupt("an lz4 block is truncated or points outside itself");
    let (head, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let size = u64::from(u32::from_le_bytes(*head));
    if size > most {
        return Err(too_much("lz4", most));
    }
    let size = size as usize;
    let mut out = Vec::with_capacity(size.min(rest.len().saturating_mul(256)));
    let long = |rest: &mut &[u8], nibble: u8| -> Option<usize> {
        let mut n = usize::from(nibble);
        if nibble == 15 {
            loop {
                let (&b, tail) = rest.split_first()?;
                *rest = tail;
                n = n.checked_add(usize::from(b))?;
                if b != 255 {
                    break;
                }
            }
        }
        Some(n)
    };
    while let Some((&token, tail)) = rest.split_first() {
        rest = tail;
        let literals = long(&mut rest, token >> 4).ok_or_else(short)?;
        if literals > rest.len() || out.len() + literals > size {
            return Err(short());
        }
        let (text, tail) = rest.split_at(literals);
        out.extend_from_slice(text);
        rest = tail;
        if rest.is_empty() {
            break;
        }
        let (offset, tail) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        rest = tail;
        let back = usize::from(u16::from_le_bytes(*offset));
        let length = long(&mut rest, token & 15).ok_or_else(short)? + 4;
        if back == 0 || back > out.len() || out.len() + length > size {
            return Err(short());
        }
        let from = out.len() - back;
        if back >= length {
            out.extend_from_within(from..from + length);
        } else {
            for i in 0..length {
                out.push(out[from + i]);
            }
        }
    }
    if out.len() == size { Ok(out) } else { Err(Error::corrupt(format!("an lz4 block holds {} bytes, expected {size}", out.len()))) }
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

/// LZMA and xz.
///
/// # Errors
/// Corrupt.
pub fn lzma(bytes: &[u8], kind: &Lzma, most: u64) -> Result<Vec<u8>> {
    use liblzma::stream::{CONCATENATED, Filters, LzmaOptions, Stream};
    let memory = (64 << 20) + most;
    let stream = match kind {
        Lzma::Headed if bytes.starts_with(b"\xfd7zXZ\0") => Stream::new_stream_decoder(memory, CONCATENATED),
        Lzma::Headed => Stream::new_auto_decoder(memory, 0),
        Lzma::Raw(filters) => {
            let mut list = Filters::new();
            for f in filters {
                let mut options = LzmaOptions::new_preset(f.preset).map_err(|e| broken("lzma", e))?;
                if let Some(size) = f.dict_size {
                    options.dict_size(size.min(256 << 20));
                }
                match f.id {
                    3 => {
                        let distance = u8::try_from(f.distance.saturating_sub(1)).unwrap_or(u8::MAX);
                        list.delta_properties(&[distance]).map_err(|e| broken("lzma", e))?;
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
    .map_err(|e| broken("lzma", e))?;
    read_all(liblzma::bufread::XzDecoder::new_stream(bytes, stream), "lzma", bytes.len(), most)
}
