//! Blocks whose size is known: decompressed into the buffer that they fill.

use std::cell::RefCell;

use super::limit::damaged;
use crate::error::{Error, Result, foreign};

/// Calls the Zstandard context of this thread.
pub(super) fn with_zstd<T>(
    work: impl FnOnce(&mut zstd::bulk::Decompressor<'static>) -> std::io::Result<T>,
) -> std::io::Result<T> {
    thread_local! {
        static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|kept| match kept {
        Some(context) => work(context),
        None => work(kept.insert(zstd::bulk::Decompressor::new()?)),
    })
}

/// Zstandard frames that fill `out`.
///
/// # Errors
/// Corrupt.
pub fn zstd_block(input: &[u8], out: &mut [u8]) -> Result<()> {
    let done = with_zstd(|context| context.decompress_to_buffer(input, out))
        .map_err(|e| damaged("zstd").because(e))?;
    filled("zstd", done, out.len())
}

fn filled(what: &str, done: usize, wanted: usize) -> Result<()> {
    if done == wanted {
        Ok(())
    } else {
        Err(Error::corrupt(format!("a block of {what} data holds {done} bytes, expected {wanted}")))
    }
}

/// A Snappy block that fills `out`.
///
/// # Errors
/// Corrupt.
pub fn snappy_block(input: &[u8], out: &mut [u8]) -> Result<()> {
    let size = snap::raw::decompress_len(input).map_err(|e| damaged("snappy").because(e))?;
    filled("snappy", size, out.len())?;
    let done = foreign("snap", || {
        snap::raw::Decoder::new().decompress(input, out).map_err(|e| damaged("snappy").because(e))
    })?;
    filled("snappy", done, out.len())
}

/// A zlib stream that fills `out`.
///
/// # Errors
/// Corrupt.
pub fn zlib_block(input: &[u8], out: &mut [u8]) -> Result<()> {
    let done = libdeflater::Decompressor::new()
        .zlib_decompress(input, out)
        .map_err(|e| damaged("zlib").because(e))?;
    filled("zlib", done, out.len())
}

/// An LZ4 block that fills `out`.
///
/// # Errors
/// Corrupt.
pub fn lz4_block(input: &[u8], out: &mut [u8]) -> Result<()> {
    let (Ok(stored), Ok(wanted)) = (i32::try_from(input.len()), i32::try_from(out.len())) else {
        return Err(Error::corrupt("an lz4 block has 2 GiB or more"));
    };
    // SAFETY: both buffers are valid for the lengths passed with them; the function reads and
    // writes within them, whatever the bytes are.
    let done = unsafe {
        lz4_sys::LZ4_decompress_safe(input.as_ptr().cast(), out.as_mut_ptr().cast(), stored, wanted)
    };
    filled("lz4", usize::try_from(done).map_err(|_| damaged("lz4"))?, out.len())
}
