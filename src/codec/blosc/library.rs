//! What the C library does: encoding, and decoding of shuffled LZ4.

use blosc_src::{
    BLOSC_MAX_BUFFERSIZE, BLOSC_MAX_OVERHEAD, BLOSC_NOSHUFFLE, BLOSC_SHUFFLE,
    blosc_cbuffer_validate, blosc_compress_ctx, blosc_decompress_ctx,
};

use crate::error::{Error, Result};

/// Compresses into a Blosc buffer: LZ4 behind a byte shuffle, on the calling thread.
///
/// # Errors
/// Refused past 2 GiB; the library's own failures.
pub fn compress(bytes: &[u8], item_bytes: usize, level: u8) -> Result<Vec<u8>> {
    if bytes.len() > BLOSC_MAX_BUFFERSIZE as usize {
        return Err(Error::refused(format!("Blosc cannot hold a chunk of {} bytes", bytes.len()))
            .hint("choose a smaller --chunk-shape"));
    }
    let shuffle = if item_bytes > 1 { BLOSC_SHUFFLE } else { BLOSC_NOSHUFFLE };
    let mut out = vec![0u8; bytes.len() + BLOSC_MAX_OVERHEAD as usize];
    // SAFETY: both buffers are valid for the lengths passed with them, and the name ends in a zero
    // byte.
    let written = unsafe {
        blosc_compress_ctx(
            i32::from(level),
            shuffle as i32,
            item_bytes,
            bytes.len(),
            bytes.as_ptr().cast(),
            out.as_mut_ptr().cast(),
            out.len(),
            c"lz4".as_ptr(),
            0,
            1,
        )
    };
    match usize::try_from(written) {
        Ok(written) if written > 0 => {
            out.truncate(written);
            Ok(out)
        }
        _ => Err(Error::failed(format!("Blosc cannot compress a chunk (code {written})"))),
    }
}

/// Decodes a whole buffer that is not compressed by BloscLZ (whose decoder there is not safe) into
/// `out`, which must have the length that its header says; `false` where the library does not take
/// it.
pub(super) fn decompress(input: &[u8], out: &mut [u8]) -> bool {
    let mut declared = 0;
    // SAFETY: the buffers are valid for the lengths passed with them. The library compares the
    // header with these first; each offset and length within, before it is used.
    unsafe {
        let (from, to) = (input.as_ptr().cast(), out.as_mut_ptr().cast());
        blosc_cbuffer_validate(from, input.len(), &mut declared) == 0
            && declared == out.len()
            && usize::try_from(blosc_decompress_ctx(from, to, out.len(), 1)) == Ok(out.len())
    }
}
