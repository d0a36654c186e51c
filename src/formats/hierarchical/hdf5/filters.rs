//! The filters of chunks, by their registered numbers.
//!
//! | id | filter | parameters that count |
//! |---|---|---|
//! | 1 | gzip: a zlib stream | |
//! | 2 | shuffle | bytes of an element |
//! | 3 | fletcher32: the bytes, then their checksum | |
//! | 307 | bzip2 | |
//! | 32000 | lzf | |
//! | 32001 | blosc | |
//! | 32004 | lz4, in blocks | |
//! | 32008 | bitshuffle, with LZ4 or Zstandard in blocks | third: bytes of an element; fourth: elements of a block; fifth: 0 none, 2 LZ4, 3 Zstandard |
//! | 32015 | zstd | |
//! | 32026 | blosc2 | |
//!
//! The layouts are described in [`crate::codec::decompress`] and [`crate::codec::blosc`].

use crate::codec::checksum::Checksum;
use crate::codec::decompress::{Compression, Limit, Wrapper};
use crate::codec::shuffle::{bit_unshuffle, unshuffle};
use crate::error::{Error, Result};

/// gzip (zlib).
pub(super) const DEFLATE: u32 = 1;
/// shuffle.
pub(super) const SHUFFLE: u32 = 2;
/// fletcher32.
pub(super) const FLETCHER32: u32 = 3;
/// n-bit.
pub(super) const NBIT: u32 = 5;
/// scale-offset.
pub(super) const SCALEOFFSET: u32 = 6;
/// bzip2.
pub(super) const BZIP2: u32 = 307;
/// LZF.
pub(super) const LZF: u32 = 32000;
/// Blosc.
pub(super) const BLOSC: u32 = 32001;
/// LZ4.
pub(super) const LZ4: u32 = 32004;
/// Bitshuffle.
pub(super) const BITSHUFFLE: u32 = 32008;
/// Zstandard.
pub(super) const ZSTD: u32 = 32015;
/// Blosc2.
pub(super) const BLOSC2: u32 = 32026;

/// The name of a filter, where its number is known.
pub(super) fn name(id: u32) -> Option<&'static str> {
    Some(match id {
        DEFLATE => "gzip",
        SHUFFLE => "shuffle",
        FLETCHER32 => "fletcher32",
        4 => "szip",
        NBIT => "nbit",
        SCALEOFFSET => "scaleoffset",
        BZIP2 => "bzip2",
        LZF => "lzf",
        BLOSC => "blosc",
        LZ4 => "lz4",
        BITSHUFFLE => "bitshuffle",
        ZSTD => "zstd",
        BLOSC2 => "blosc2",
        32002 => "mafisc",
        32003 => "snappy",
        32005 => "apax",
        32006 => "cbf",
        32007 => "jpeg-xr",
        32013 => "zfp",
        32014 => "fpzip",
        32016 => "b3d",
        32017 => "sz",
        32018 => "fcidecomp",
        32019 => "jpeg",
        32022 => "granular bitround",
        32023 => "bitgroom",
        32024 => "sz3",
        32025 => "delta-rice",
        32028 => "sperr",
        32030 => "ffmpeg",
        _ => return None,
    })
}

/// Whether [`decode`] knows this filter.
pub(super) fn known(id: u32) -> bool {
    matches!(
        id,
        DEFLATE | SHUFFLE | FLETCHER32 | BZIP2 | LZF | BLOSC | LZ4 | BITSHUFFLE | ZSTD | BLOSC2
    )
}

/// The refusal of a filter that is not known.
pub(super) fn unsupported(id: u32) -> Error {
    match name(id) {
        Some(name) => Error::refused(format!("the filter {name} (number {id}) is not supported")),
        None => Error::refused(format!("the filter number {id} is not known")),
    }
    .hint("rewrite the dataset with gzip, for example with h5repack -f GZIP=4")
}

/// Undoes one filter. `want` is the size of the whole chunk, decoded: what comes out may be a
/// little more (a checksum of an inner filter), never much more.
///
/// # Errors
/// Corrupt bytes; a filter that is not known.
pub(super) fn decode(id: u32, params: &[u32], input: Vec<u8>, want: usize) -> Result<Vec<u8>> {
    let compression = match id {
        SHUFFLE => {
            let mut out = vec![0; input.len()];
            unshuffle(&input, params.first().map_or(1, |&size| size as usize), &mut out);
            return Ok(out);
        }
        FLETCHER32 => return Checksum::Fletcher32.strip(input, false),
        DEFLATE => Compression::Deflate(Wrapper::Zlib),
        BZIP2 => Compression::Bzip2,
        LZF => Compression::Lzf,
        BLOSC | BLOSC2 => Compression::Blosc,
        LZ4 => Compression::Lz4Blocks,
        ZSTD => Compression::Zstd,
        BITSHUFFLE => {
            let size = params.get(2).copied().unwrap_or(1) as usize;
            if size == 0 || size > 1 << 16 {
                return Err(Error::corrupt(format!(
                    "the bitshuffle filter has elements of {size} bytes"
                )));
            }
            match params.get(4).copied().unwrap_or(0) {
                0 => return bit_planes(&input, size, params.get(3).copied().unwrap_or(0) as usize),
                kind @ (2 | 3) => Compression::BitShuffled { size, zstd: kind == 3 },
                other => {
                    return Err(Error::refused(format!(
                        "bitshuffle with the compressor number {other} is not supported"
                    )));
                }
            }
        }
        _ => return Err(unsupported(id)),
    };
    let most = want.saturating_add(want / 8).saturating_add(4096);
    compression.decode(&input, Limit { expected: Some(want.saturating_add(16).min(most)), most })
}

/// Bit shuffle alone, in blocks of so many elements (0: the usual number).
fn bit_planes(input: &[u8], size: usize, block: usize) -> Result<Vec<u8>> {
    let block = if block == 0 { (8192 / size / 8 * 8).max(128) } else { block };
    if block % 8 != 0 {
        return Err(Error::corrupt(format!(
            "the bitshuffle filter has blocks of {block} elements"
        )));
    }
    let mut out = input.to_vec();
    let whole = input.len() / size / 8 * 8 * size;
    let mut scratch = Vec::new();
    for (from, to) in input[..whole].chunks(block * size).zip(out[..whole].chunks_mut(block * size))
    {
        bit_unshuffle(from, size, to, &mut scratch);
    }
    Ok(out)
}
