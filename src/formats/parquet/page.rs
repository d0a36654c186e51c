//! A page's sizes, checked before the `parquet` crate makes room for what its header announces.

use std::io::Read;

use parquet::basic::Compression;

use super::thrift::{PageHeader, page_header};
use crate::error::{Error, ForeignReader, Result};

/// Larger pages are refused: writers make them of a megabyte, some of a hundred.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes in which a page header is looked for (statistics may be long).
pub(super) const HEADER_BYTES: [u64; 3] = [1 << 8, 1 << 13, 1 << 20];

/// Checks a page by its header and the bytes behind it.
///
/// # Errors
/// Corrupt where the page cannot unpack to the size that is announced; refused past [`MOST_BYTES`].
pub(super) fn check(header: &PageHeader, page: &[u8], codec: Compression) -> Result<()> {
    // The most that a byte unpacks to.
    let factor = match codec {
        Compression::UNCOMPRESSED => return Ok(()),
        Compression::SNAPPY => 64,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => 1100,
        _ => u64::MAX,
    };
    let (stored, announced) = (page.len() as u64, header.uncompressed);
    let unpacked = u64::try_from(announced).ok().filter(|&n| n <= stored.saturating_mul(factor).saturating_add(1024));
    let unpacked =
        unpacked.ok_or_else(|| Error::corrupt(format!("a page of {stored} bytes cannot unpack to the {announced} that it announces")))?;
    if unpacked > MOST_BYTES {
        return Err(Error::refused(format!("a page of {unpacked} bytes: up to {MOST_BYTES} are read")));
    }
    // The levels of version 2 come first, as they are.
    let levels = header.level_bytes.0.saturating_add(header.level_bytes.1);
    let Some(packed) = usize::try_from(levels).ok().and_then(|n| page.get(n..)) else { return Ok(()) };
    let most = unpacked.saturating_sub(levels as u64);
    match codec {
        Compression::GZIP(_) => no_longer_than("flate2", flate2::read::MultiGzDecoder::new(packed), most),
        Compression::BROTLI(_) => no_longer_than("brotli", brotli::Decompressor::new(packed, 4096), most),
        // Old writers made frames of it; what is none ends at its first bytes.
        Compression::LZ4 => no_longer_than("lz4_flex", lz4_flex::frame::FrameDecoder::new(packed), most),
        _ => Ok(()),
    }
}

/// The crate unpacks these streams to their end, however far it is. What they say of their own size proves nothing.
fn no_longer_than(library: &'static str, decoder: impl Read, most: u64) -> Result<()> {
    let stream = ForeignReader::new(library, decoder);
    match std::io::copy(&mut stream.take(most + 1), &mut std::io::sink()) {
        Ok(n) if n > most => Err(Error::corrupt(format!("a page unpacks to more than the {most} bytes that it announces"))),
        _ => Ok(()), // broken ones are told by the crate
    }
}

/// As [`check`], for a page with its header in front.
///
/// # Errors
/// As [`check`].
pub(super) fn check_whole(bytes: &[u8], codec: Compression) -> Result<()> {
    let header = page_header(bytes).ok_or_else(|| Error::corrupt("the header of a page cannot be read"))?;
    check(&header, bytes.get(header.header_bytes as usize..).unwrap_or_default(), codec)
}
