//! Compression of whole chunks, on the calling thread.

use std::cell::RefCell;

use super::decompress::{Compression, Wrapper};
use super::{blosc, lzf};
use crate::error::{Error, Result};

/// A compression, and what its encoder is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compressor {
    /// Deflate of this level.
    Deflate(Wrapper, i32),
    /// Zstandard of this level.
    Zstd(i32),
    /// LZ4 in blocks.
    Lz4Blocks,
    /// LibLZF.
    Lzf,
    /// LZ4 behind a byte shuffle, in a Blosc buffer.
    Blosc {
        /// Bytes of an element.
        item_bytes: usize,
        /// The level.
        level: u8,
    },
}

impl Compressor {
    /// Compresses; `None` where this compression has no form for bytes that do not become fewer.
    ///
    /// # Errors
    /// Levels that there are not; too many bytes for Blosc.
    pub fn encode(self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            Compressor::Deflate(wrapper, level) => Some(deflate(bytes, wrapper, level)?),
            Compressor::Zstd(level) => Some(zstd(bytes, level)?),
            Compressor::Lz4Blocks => Some(lz4_blocks(bytes)?),
            Compressor::Lzf => lzf::compress(bytes),
            Compressor::Blosc { item_bytes, level } => {
                Some(blosc::compress(bytes, item_bytes, level)?)
            }
        })
    }

    /// What undoes it.
    pub fn compression(self) -> Compression {
        match self {
            Compressor::Deflate(wrapper, _) => Compression::Deflate(wrapper),
            Compressor::Zstd(_) => Compression::Zstd,
            Compressor::Lz4Blocks => Compression::Lz4Blocks,
            Compressor::Lzf => Compression::Lzf,
            Compressor::Blosc { .. } => Compression::Blosc,
        }
    }
}

fn failed(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::failed("a chunk cannot be compressed").because(e)
}

/// Deflate at a level from 0 to 12.
///
/// # Errors
/// Usage where there is no such level.
pub fn deflate(input: &[u8], wrapper: Wrapper, level: i32) -> Result<Vec<u8>> {
    let level = libdeflater::CompressionLvl::new(level)
        .map_err(|_| Error::usage(format!("deflate has no level {level}")))?;
    let mut coder = libdeflater::Compressor::new(level);
    let bound = match wrapper {
        Wrapper::Raw => coder.deflate_compress_bound(input.len()),
        Wrapper::Zlib => coder.zlib_compress_bound(input.len()),
        Wrapper::Gzip => coder.gzip_compress_bound(input.len()),
    };
    let mut out = vec![0; bound];
    let n = match wrapper {
        Wrapper::Raw => coder.deflate_compress(input, &mut out),
        Wrapper::Zlib => coder.zlib_compress(input, &mut out),
        Wrapper::Gzip => coder.gzip_compress(input, &mut out),
    };
    out.truncate(n.map_err(failed)?);
    Ok(out)
}

/// One Zstandard frame.
///
/// # Errors
/// The library's own failures.
pub fn zstd(input: &[u8], level: i32) -> Result<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|kept| {
        let context = match kept {
            Some((of, context)) if *of == level => context,
            _ => &mut kept.insert((level, zstd::bulk::Compressor::new(level).map_err(failed)?)).1,
        };
        context.compress(input).map_err(failed)
    })
}

/// LZ4 in blocks of at most 1 GiB (one block, usually), as [`super::decompress`] describes them.
///
/// # Errors
/// Failed where the memory is not there.
pub fn lz4_blocks(input: &[u8]) -> Result<Vec<u8>> {
    const BLOCK: usize = 1 << 30;
    let block = input.len().clamp(1, BLOCK);
    let mut out = Vec::with_capacity(input.len() / 2 + 16);
    out.extend((input.len() as u64).to_be_bytes());
    out.extend((block as u32).to_be_bytes());
    for piece in input.chunks(block) {
        let at = out.len();
        // What would not get smaller is stored as it is.
        out.resize(at + 4 + piece.len(), 0);
        // SAFETY: both buffers are valid for the lengths passed with them, below 2 GiB.
        let n = unsafe {
            let to = out[at + 4..].as_mut_ptr().cast();
            lz4_sys::LZ4_compress_default(
                piece.as_ptr().cast(),
                to,
                piece.len() as i32,
                piece.len() as i32 - 1,
            )
        };
        let stored = match usize::try_from(n) {
            Ok(n) if n > 0 => n,
            _ => {
                out[at + 4..].copy_from_slice(piece);
                piece.len()
            }
        };
        out[at..at + 4].copy_from_slice(&(stored as u32).to_be_bytes());
        out.truncate(at + 4 + stored);
    }
    Ok(out)
}
