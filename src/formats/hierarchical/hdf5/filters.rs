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

use crate::array::pipeline::Codec;
use crate::codec::checksum::Checksum;
use crate::codec::compress::Compressor;
use crate::codec::decompress::{Compression, Wrapper};
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

/// Whether only the library can undo this filter.
pub(super) fn is_of_library(id: u32) -> bool {
    matches!(id, NBIT | SCALEOFFSET)
}

/// The filter that a compressor writes, with its parameters, for chunks of so many bytes.
pub(super) fn of(compressor: Compressor, chunk_bytes: u32) -> (u32, Vec<u32>) {
    match compressor {
        Compressor::Deflate(_, level) => (DEFLATE, vec![level as u32]),
        Compressor::Lzf => (LZF, vec![4, 0x0105, chunk_bytes]),
        Compressor::Zstd(level) => (ZSTD, vec![level as u32]),
        Compressor::Blosc { item_bytes, level } => {
            (BLOSC, vec![2, 2, item_bytes as u32, chunk_bytes, u32::from(level), 1, 1])
        }
        Compressor::Lz4Blocks => (LZ4, vec![0]),
    }
}

/// What undoes a filter; `said` is the name that its writer gave it.
///
/// # Errors
/// A filter that is not known; parameters that are impossible.
pub(super) fn codec(id: u32, params: &[u32], said: &str) -> Result<Codec> {
    Ok(Codec::Compression(match id {
        SHUFFLE => return Ok(Codec::Shuffle(params.first().map_or(1, |&size| size as usize))),
        FLETCHER32 => return Ok(Codec::Checksum { sum: Checksum::Fletcher32, at_start: false }),
        DEFLATE => Compression::Deflate(Wrapper::Zlib),
        BZIP2 => Compression::Bzip2,
        LZF => Compression::Lzf,
        BLOSC | BLOSC2 => Compression::Blosc,
        LZ4 => Compression::Lz4Blocks,
        ZSTD => Compression::Zstd,
        BITSHUFFLE => return bit_shuffle(params),
        _ => {
            let error = match (name(id), said) {
                (Some(name), _) => format!("the filter {name} (number {id}) is not supported"),
                (None, "") => format!("the filter number {id} is not known"),
                (None, said) => format!("the filter number {id} ({said}) is not supported"),
            };
            return Err(Error::refused(error)
                .hint("rewrite it with gzip, for example with h5repack -f GZIP=4; -x or --skip-unsupported leave it out"));
        }
    }))
}

fn bit_shuffle(params: &[u32]) -> Result<Codec> {
    let param = |n: usize, missing: u32| params.get(n).copied().unwrap_or(missing);
    let size = param(2, 1) as usize;
    if size == 0 || size > 1 << 16 {
        return Err(Error::corrupt(format!("the bitshuffle filter has elements of {size} bytes")));
    }
    match param(4, 0) {
        0 => {
            // 0: the usual number of elements.
            let block = match param(3, 0) as usize {
                0 => (8192 / size / 8 * 8).max(128),
                block => block,
            };
            if block % 8 != 0 {
                return Err(Error::corrupt(format!(
                    "the bitshuffle filter has blocks of {block} elements"
                )));
            }
            Ok(Codec::BitShuffle { size, block })
        }
        kind @ (2 | 3) => {
            Ok(Codec::Compression(Compression::BitShuffled { size, zstd: kind == 3 }))
        }
        other => Err(Error::refused(format!(
            "bitshuffle with the compressor number {other} is not supported"
        ))),
    }
}
