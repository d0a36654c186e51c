//! Chunk filters that HDF5 and Zarr share: shuffle, bitshuffle, fletcher32, and the framings of deflate, LZF, LZ4,
//! Zstandard, bzip2, Blosc and Blosc2 by their registered HDF5 filter numbers.
//!
//! | id | filter | layout of the bytes |
//! |---|---|---|
//! | 1 | gzip | one zlib stream |
//! | 2 | shuffle | all first bytes of the elements, all second bytes, …; a tail shorter than an element as it is |
//! | 3 | fletcher32 | the bytes, then their checksum (4 bytes) |
//! | 307 | bzip2 | one bzip2 stream |
//! | 32000 | lzf | LibLZF without a header |
//! | 32001 | blosc | one Blosc buffer (16-byte header) |
//! | 32004 | lz4 | u64 BE bytes, u32 BE block bytes, then blocks: u32 BE length, data (raw where the length is the block's) |
//! | 32008 | bitshuffle | bit planes of blocks of elements; with LZ4 or Zstandard framed as lz4 |
//! | 32015 | zstd | one Zstandard frame |
//! | 32026 | blosc2 | one Blosc2 frame |
//!
//! A decoder is told the size that must come out, and never allocates much more than that.

use crate::error::{Error, Result};

/// gzip (zlib).
pub const DEFLATE: u32 = 1;
/// shuffle.
pub const SHUFFLE: u32 = 2;
/// fletcher32.
pub const FLETCHER32: u32 = 3;
/// szip.
pub const SZIP: u32 = 4;
/// n-bit.
pub const NBIT: u32 = 5;
/// scale-offset.
pub const SCALEOFFSET: u32 = 6;
/// bzip2.
pub const BZIP2: u32 = 307;
/// LZF.
pub const LZF: u32 = 32000;
/// Blosc.
pub const BLOSC: u32 = 32001;
/// LZ4.
pub const LZ4: u32 = 32004;
/// Bitshuffle.
pub const BITSHUFFLE: u32 = 32008;
/// Zstandard.
pub const ZSTD: u32 = 32015;
/// Blosc2.
pub const BLOSC2: u32 = 32026;

/// The name of a filter, where its number is known.
pub fn name(id: u32) -> Option<&'static str> {
    Some(match id {
        DEFLATE => "gzip",
        SHUFFLE => "shuffle",
        FLETCHER32 => "fletcher32",
        SZIP => "szip",
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
pub fn known(id: u32) -> bool {
    matches!(id, DEFLATE | SHUFFLE | FLETCHER32 | BZIP2 | LZF | BLOSC | LZ4 | BITSHUFFLE | ZSTD | BLOSC2)
}

fn short(what: &str) -> Error {
    Error::corrupt(format!("a {what} chunk ends too early"))
}

/// An empty vector with room, or an error where the memory is not there.
fn room(bytes: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(bytes).map_err(|_| Error::failed(format!("a chunk needs {bytes} bytes of memory, which are not available")))?;
    Ok(out)
}

fn zeroed(bytes: usize) -> Result<Vec<u8>> {
    if bytes > 256 << 20 {
        room(bytes)?; // asks whether the memory is there; the zeroed one is then lazily backed
    }
    Ok(vec![0; bytes])
}

/// Undoes one filter. `want` is the size of the whole chunk, decoded: what comes out may be a little more (a checksum
/// of an inner filter), never much more.
///
/// # Errors
/// Corrupt bytes; a filter that is not known.
pub fn decode(id: u32, params: &[u32], input: Vec<u8>, want: usize) -> Result<Vec<u8>> {
    let most = want.saturating_add(want / 8).saturating_add(4096);
    match id {
        DEFLATE => inflate(&input, want, most),
        SHUFFLE => Ok(match params.first() {
            Some(&size) if size > 1 => unshuffle(&input, size as usize),
            _ => input,
        }),
        FLETCHER32 => unfletcher32(input),
        BZIP2 => read_all("bzip2", bzip2::read::BzDecoder::new(&input[..]), want, most),
        LZF => unlzf(&input, want, most),
        BLOSC => unblosc(&input, most),
        LZ4 => unlz4(&input, most),
        BITSHUFFLE => unbitshuffle(params, &input, most),
        ZSTD => unzstd(&input, want, most),
        BLOSC2 => super::blosc2::decode_frame(&input, most),
        _ => Err(unsupported(id)),
    }
}

/// The refusal of a filter that is not known.
pub fn unsupported(id: u32) -> Error {
    match name(id) {
        Some(name) => Error::refused(format!("the filter {name} (number {id}) is not supported")),
        None => Error::refused(format!("the filter number {id} is not known")),
    }
    .hint("rewrite the dataset with gzip, for example with h5repack -f GZIP=4")
}

/// A zlib stream of about `want` bytes, at most `most`.
///
/// # Errors
/// Corrupt.
pub fn inflate(input: &[u8], want: usize, most: usize) -> Result<Vec<u8>> {
    // Deflate never gets below 1:1032: a header that promises more is wrong, whatever it makes us allocate.
    let possible = input.len().saturating_mul(1032).saturating_add(64);
    let mut size = want.saturating_add(16).min(possible).min(most);
    let mut decompressor = libdeflater::Decompressor::new();
    loop {
        let mut out = zeroed(size)?;
        match decompressor.zlib_decompress(input, &mut out) {
            Ok(n) => {
                out.truncate(n);
                return Ok(out);
            }
            Err(libdeflater::DecompressionError::InsufficientSpace) if size < most.min(possible) => size = most.min(possible),
            Err(libdeflater::DecompressionError::InsufficientSpace) => {
                return Err(Error::corrupt(format!("a gzip chunk holds more than the {want} bytes of its shape")));
            }
            Err(libdeflater::DecompressionError::BadData) => return Err(Error::corrupt("a gzip chunk is damaged")),
        }
    }
}

fn read_all(what: &str, reader: impl std::io::Read, want: usize, most: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut out = room(want.min(64 << 20))?;
    reader.take(most as u64 + 1).read_to_end(&mut out).map_err(|e| Error::corrupt(format!("a {what} chunk is damaged")).because(e))?;
    if out.len() > most {
        return Err(Error::corrupt(format!("a {what} chunk holds more than the {want} bytes of its shape")));
    }
    Ok(out)
}

fn unzstd(input: &[u8], want: usize, most: usize) -> Result<Vec<u8>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(|e| Error::corrupt("a zstd chunk is damaged").because(e))?;
    match zstd::zstd_safe::get_frame_content_size(input) {
        Ok(Some(size)) if size as usize <= most && size > 0 => {
            // Room for the promised size only as far as the input makes it likely; the rest grows.
            let likely = (size as usize).min(input.len().saturating_mul(4096).saturating_add(65536));
            if likely == size as usize
                && let Ok(out) = zstd::bulk::decompress(input, likely)
            {
                return Ok(out);
            }
            read_all("zstd", decoder, want, most)
        }
        _ => read_all("zstd", decoder, want, most),
    }
}

/// Puts the bytes of elements of `size` bytes together again.
pub fn unshuffle(input: &[u8], size: usize) -> Vec<u8> {
    fn fixed<const N: usize>(input: &[u8], out: &mut [u8], n: usize) {
        let planes: [&[u8]; N] = std::array::from_fn(|j| &input[j * n..(j + 1) * n]);
        for (i, element) in out.chunks_exact_mut(N).enumerate() {
            for (j, byte) in element.iter_mut().enumerate() {
                *byte = planes[j][i];
            }
        }
    }
    let n = input.len() / size;
    let mut out = vec![0; input.len()];
    let whole = n * size;
    match size {
        0 | 1 => out.copy_from_slice(input),
        2 => fixed::<2>(input, &mut out[..whole], n),
        4 => fixed::<4>(input, &mut out[..whole], n),
        8 => fixed::<8>(input, &mut out[..whole], n),
        16 => fixed::<16>(input, &mut out[..whole], n),
        _ => {
            for (i, element) in out[..whole].chunks_exact_mut(size).enumerate() {
                for (j, byte) in element.iter_mut().enumerate() {
                    *byte = input[j * n + i];
                }
            }
        }
    }
    out[whole..].copy_from_slice(&input[whole..]);
    out
}

/// All first bytes of the elements, then all second bytes, and so on.
pub fn shuffle(input: &[u8], size: usize) -> Vec<u8> {
    fn fixed<const N: usize>(input: &[u8], out: &mut [u8], n: usize) {
        let mut rest = out;
        let planes: [&mut [u8]; N] = std::array::from_fn(|_| {
            let (plane, tail) = std::mem::take(&mut rest).split_at_mut(n);
            rest = tail;
            plane
        });
        for (i, element) in input.chunks_exact(N).enumerate() {
            for (j, &byte) in element.iter().enumerate() {
                planes[j][i] = byte;
            }
        }
    }
    let n = input.len().checked_div(size).unwrap_or(0);
    let mut out = vec![0; input.len()];
    let whole = n * size;
    match size {
        0 | 1 => out.copy_from_slice(input),
        2 => fixed::<2>(&input[..whole], &mut out[..whole], n),
        4 => fixed::<4>(&input[..whole], &mut out[..whole], n),
        8 => fixed::<8>(&input[..whole], &mut out[..whole], n),
        16 => fixed::<16>(&input[..whole], &mut out[..whole], n),
        _ => {
            for (i, element) in input[..whole].chunks_exact(size).enumerate() {
                for (j, &byte) in element.iter().enumerate() {
                    out[j * n + i] = byte;
                }
            }
        }
    }
    out[whole..].copy_from_slice(&input[whole..]);
    out
}

/// HDF5's (and numcodecs') Fletcher checksum over big-endian 16-bit words.
pub fn fletcher32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (0u32, 0u32);
    let (words, tail) = bytes.as_chunks::<2>();
    for block in words.chunks(360) {
        for word in block {
            a = a.wrapping_add(u32::from(u16::from_be_bytes(*word)));
            b = b.wrapping_add(a);
        }
        a = (a & 0xFFFF) + (a >> 16);
        b = (b & 0xFFFF) + (b >> 16);
    }
    if let [last] = tail {
        a = a.wrapping_add(u32::from(*last) << 8);
        b = b.wrapping_add(a);
        a = (a & 0xFFFF) + (a >> 16);
        b = (b & 0xFFFF) + (b >> 16);
    }
    a = (a & 0xFFFF) + (a >> 16);
    b = (b & 0xFFFF) + (b >> 16);
    (b << 16) | a
}

fn unfletcher32(mut input: Vec<u8>) -> Result<Vec<u8>> {
    let Some(at) = input.len().checked_sub(4) else { return Err(short("fletcher32")) };
    let stored = u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
    input.truncate(at);
    let found = fletcher32(&input);
    // Old writers on big-endian machines swapped the bytes of both halves.
    let swapped = ((found & 0x00FF_00FF) << 8) | ((found & 0xFF00_FF00) >> 8);
    if stored != found && stored != swapped {
        return Err(Error::corrupt(format!("a chunk's fletcher32 checksum is {found:08x}, the file has {stored:08x}")));
    }
    Ok(input)
}

/// Decompresses LibLZF.
fn unlzf(input: &[u8], want: usize, most: usize) -> Result<Vec<u8>> {
    let mut out = room(want.min(input.len().saturating_mul(264)))?;
    let mut i = 0;
    while i < input.len() {
        let control = usize::from(input[i]);
        i += 1;
        if control < 32 {
            let n = control + 1;
            out.extend_from_slice(input.get(i..i + n).ok_or_else(|| short("lzf"))?);
            i += n;
        } else {
            let mut n = control >> 5;
            if n == 7 {
                n += usize::from(*input.get(i).ok_or_else(|| short("lzf"))?);
                i += 1;
            }
            let low = usize::from(*input.get(i).ok_or_else(|| short("lzf"))?);
            i += 1;
            let back = ((control & 0x1F) << 8 | low) + 1;
            let start = out.len().checked_sub(back).ok_or_else(|| Error::corrupt("an lzf chunk refers to bytes before its start"))?;
            copy_back(&mut out, start, n + 2);
        }
        if out.len() > most {
            return Err(Error::corrupt(format!("an lzf chunk holds more than the {want} bytes of its shape")));
        }
    }
    Ok(out)
}

/// Appends `n` bytes from `start` on, which may be among those that are being appended.
pub(super) fn copy_back(out: &mut Vec<u8>, start: usize, n: usize) {
    if start + n <= out.len() {
        out.extend_from_within(start..start + n);
    } else {
        for k in 0..n {
            out.push(out[start + k]);
        }
    }
}

/// Compresses as LibLZF does; `None` where that would not be smaller.
pub fn lzf(input: &[u8]) -> Option<Vec<u8>> {
    const HASH_BITS: u32 = 15;
    let most = input.len().saturating_sub(1);
    let mut table = vec![u32::MAX; 1 << HASH_BITS];
    let mut out = Vec::with_capacity(input.len() / 2);
    let mut literals = 0; // start of the literals not yet written
    let flush = |out: &mut Vec<u8>, from: usize, to: usize| {
        for run in input[from..to].chunks(32) {
            out.push(run.len() as u8 - 1);
            out.extend_from_slice(run);
        }
    };
    let mut i = 0;
    while i + 3 <= input.len() {
        let key = u32::from(input[i]) << 16 | u32::from(input[i + 1]) << 8 | u32::from(input[i + 2]);
        let slot = (key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize;
        let seen = table[slot];
        table[slot] = i as u32;
        let back = i.wrapping_sub(seen as usize);
        if seen != u32::MAX && back <= 8192 && input[seen as usize..seen as usize + 3] == input[i..i + 3] {
            let seen = seen as usize;
            let longest = (input.len() - i).min(264);
            let n = 3 + input[i + 3..i + longest].iter().zip(&input[seen + 3..]).take_while(|(a, b)| a == b).count();
            flush(&mut out, literals, i);
            let (len, far) = (n - 2, back - 1);
            if len < 7 {
                out.push((far >> 8) as u8 | (len as u8) << 5);
            } else {
                out.push((far >> 8) as u8 | 7 << 5);
                out.push((len - 7) as u8);
            }
            out.push(far as u8);
            i += n;
            literals = i;
        } else {
            i += 1;
        }
        if out.len() + (i - literals) > most {
            return None;
        }
    }
    flush(&mut out, literals, input.len());
    (out.len() <= most).then_some(out)
}

/// The registered LZ4 filter's framing.
fn unlz4(input: &[u8], most: usize) -> Result<Vec<u8>> {
    framed("lz4", input, most, |data, out, n| {
        if data.len() == n {
            out.copy_from_slice(data);
            Ok(())
        } else {
            lz4_block(data, out)
        }
    })
}

pub(super) fn lz4_block(data: &[u8], out: &mut [u8]) -> Result<()> {
    match lz4_flex::block::decompress_into(data, out) {
        Ok(n) if n == out.len() => Ok(()),
        Ok(n) => Err(Error::corrupt(format!("an lz4 block holds {n} bytes, expected {}", out.len()))),
        Err(e) => Err(Error::corrupt("an lz4 block is damaged").because(e)),
    }
}

/// u64 BE bytes in all, u32 BE bytes of a block, then per block u32 BE stored bytes and data.
fn framed(what: &str, input: &[u8], most: usize, block: impl Fn(&[u8], &mut [u8], usize) -> Result<()>) -> Result<Vec<u8>> {
    let head = input.get(..12).ok_or_else(|| short(what))?;
    let total = u64::from_be_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
    let block_bytes = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if total > most as u64 || block_bytes == 0 && total > 0 {
        return Err(Error::corrupt(format!("a {what} chunk declares {total} bytes in blocks of {block_bytes}")));
    }
    let mut out = zeroed(total as usize)?;
    let mut at = 12;
    for piece in out.chunks_mut(block_bytes.max(1)) {
        let n = input.get(at..at + 4).ok_or_else(|| short(what))?;
        let n = u32::from_be_bytes([n[0], n[1], n[2], n[3]]) as usize;
        at += 4;
        let data = at.checked_add(n).and_then(|end| input.get(at..end)).ok_or_else(|| short(what))?;
        at += n;
        let len = piece.len();
        block(data, piece, len)?;
    }
    Ok(out)
}

/// The registered LZ4 filter's framing, in blocks of at most 1 GiB (one block, usually).
pub fn lz4(input: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 1 << 30;
    let block = input.len().clamp(1, BLOCK);
    let mut out = Vec::with_capacity(input.len() / 2 + 16);
    out.extend((input.len() as u64).to_be_bytes());
    out.extend((block as u32).to_be_bytes());
    for piece in input.chunks(block) {
        let packed = lz4_flex::block::compress(piece);
        let data = if packed.len() < piece.len() { &packed[..] } else { piece };
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(data);
    }
    out
}

/// Bitshuffle, with or without a compressor after it.
fn unbitshuffle(params: &[u32], input: &[u8], most: usize) -> Result<Vec<u8>> {
    let size = params.get(2).copied().unwrap_or(1) as usize;
    if size == 0 || size > 1 << 16 {
        return Err(Error::corrupt(format!("the bitshuffle filter has elements of {size} bytes")));
    }
    match params.get(4).copied().unwrap_or(0) {
        0 => {
            let block = match params.get(3).copied().unwrap_or(0) as usize {
                0 => (8192 / size / 8 * 8).max(128),
                n => n,
            };
            if block % 8 != 0 {
                return Err(Error::corrupt(format!("the bitshuffle filter has blocks of {block} elements")));
            }
            let mut out = zeroed(input.len())?;
            let whole = input.len() / size / 8 * 8 * size;
            for (from, to) in input[..whole].chunks(block * size).zip(out.chunks_mut(block * size)) {
                let n = from.len();
                bit_transpose(from, &mut to[..n], size);
            }
            out[whole..].copy_from_slice(&input[whole..]);
            Ok(out)
        }
        2 => bit_framed("bitshuffle + lz4", input, size, most, lz4_block),
        3 => bit_framed("bitshuffle + zstd", input, size, most, |data, out| match zstd::bulk::decompress_to_buffer(data, out) {
            Ok(n) if n == out.len() => Ok(()),
            Ok(n) => Err(Error::corrupt(format!("a zstd block holds {n} bytes, expected {}", out.len()))),
            Err(e) => Err(Error::corrupt("a zstd block is damaged").because(e)),
        }),
        other => Err(Error::refused(format!("bitshuffle with the compressor number {other} is not supported"))),
    }
}

/// As [`framed`], but the last block is cut to a multiple of 8 elements, and what is left follows as it is.
fn bit_framed(what: &str, input: &[u8], size: usize, most: usize, unpack: impl Fn(&[u8], &mut [u8]) -> Result<()>) -> Result<Vec<u8>> {
    let head = input.get(..12).ok_or_else(|| short(what))?;
    let total = u64::from_be_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
    let block = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if total > most as u64 || block == 0 || !block.is_multiple_of(8 * size) {
        return Err(Error::corrupt(format!("a {what} chunk declares {total} bytes in blocks of {block}")));
    }
    let total = total as usize;
    let whole = total / size / 8 * 8 * size;
    let mut out = zeroed(total)?;
    let mut scratch = zeroed(block.min(whole))?;
    let mut at = 12;
    for piece in out[..whole].chunks_mut(block) {
        let n = input.get(at..at + 4).ok_or_else(|| short(what))?;
        let n = u32::from_be_bytes([n[0], n[1], n[2], n[3]]) as usize;
        at += 4;
        let data = at.checked_add(n).and_then(|end| input.get(at..end)).ok_or_else(|| short(what))?;
        at += n;
        let len = piece.len();
        unpack(data, &mut scratch[..len])?;
        bit_transpose(&scratch[..len], piece, size);
    }
    let tail = input.get(at..at + (total - whole)).ok_or_else(|| short(what))?;
    out[whole..].copy_from_slice(tail);
    Ok(out)
}

/// Undoes bitshuffle for one block of a multiple of 8 elements: plane `8 j + k` holds bit `k` of byte `j` of all elements.
pub(super) fn bit_transpose(input: &[u8], out: &mut [u8], size: usize) {
    let groups = input.len() / size / 8; // bytes of a plane
    for j in 0..size {
        let planes = &input[j * 8 * groups..(j + 1) * 8 * groups];
        for g in 0..groups {
            let mut bits = 0u64;
            for k in 0..8 {
                bits |= u64::from(planes[k * groups + g]) << (8 * k);
            }
            let bytes = transpose_8x8(bits).to_le_bytes();
            for (e, &byte) in bytes.iter().enumerate() {
                out[(g * 8 + e) * size + j] = byte;
            }
        }
    }
}

/// Transposes an 8 × 8 matrix of bits: bit `c` of byte `r` becomes bit `r` of byte `c`.
fn transpose_8x8(mut x: u64) -> u64 {
    let t = (x ^ (x >> 7)) & 0x00AA_00AA_00AA_00AA;
    x = x ^ t ^ (t << 7);
    let t = (x ^ (x >> 14)) & 0x0000_CCCC_0000_CCCC;
    x = x ^ t ^ (t << 14);
    let t = (x ^ (x >> 28)) & 0x0000_0000_F0F0_F0F0;
    x ^ t ^ (t << 28)
}

/// Compresses into a Blosc buffer: LZ4 behind a byte shuffle, on the calling thread.
///
/// # Errors
/// Refused past 2 GiB; the library's own failures.
pub fn blosc_lz4(bytes: &[u8], item_bytes: usize, level: u8) -> Result<Vec<u8>> {
    use blosc_src::{BLOSC_MAX_BUFFERSIZE, BLOSC_MAX_OVERHEAD, BLOSC_NOSHUFFLE, BLOSC_SHUFFLE, blosc_compress_ctx};
    if bytes.len() > BLOSC_MAX_BUFFERSIZE as usize {
        return Err(Error::refused(format!("Blosc cannot hold a chunk of {} bytes", bytes.len())).hint("choose a smaller --chunk-shape"));
    }
    let shuffle = if item_bytes > 1 { BLOSC_SHUFFLE } else { BLOSC_NOSHUFFLE };
    let mut out = vec![0u8; bytes.len() + BLOSC_MAX_OVERHEAD as usize];
    // SAFETY: both buffers are valid for the lengths passed with them, and the name ends in a zero byte.
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

/// A Blosc buffer.
///
/// # Errors
/// Corrupt; more than `most` bytes.
pub fn unblosc(input: &[u8], most: usize) -> Result<Vec<u8>> {
    let head = input.get(..16).ok_or_else(|| short("blosc"))?;
    let total = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let stored = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
    if total > most {
        return Err(Error::corrupt(format!("a blosc chunk declares {total} bytes, expected at most {most}")));
    }
    if stored > input.len() {
        return Err(short("blosc"));
    }
    super::blosc2::decode_chunk(&input[..stored], most)
}

/// Bzip2, for streams of unknown size.
///
/// # Errors
/// Corrupt; more than `most` bytes.
pub fn unbzip2(input: &[u8], most: usize) -> Result<Vec<u8>> {
    read_all("bzip2", bzip2::read::BzDecoder::new(input), most.min(1 << 20), most)
}

/// Compresses into a Blosc buffer: shuffle and LZ4, as `cname='lz4', shuffle=1` does.
pub fn blosc(input: &[u8], size: usize) -> Vec<u8> {
    const HEAD: usize = 16;
    let size = size.clamp(1, 255);
    let block = (256 << 10) / size * size;
    let blocks = input.len().div_ceil(block);
    let header = |flags: u8, stored: usize| {
        let mut head = vec![2, 1, flags, size as u8];
        for n in [input.len(), block.min(input.len().max(size)), stored] {
            head.extend((n as u32).to_le_bytes());
        }
        head
    };
    let shuffles = u8::from(size > 1);
    let mut starts = Vec::with_capacity(4 * blocks);
    let mut body = Vec::with_capacity(input.len() / 2);
    for piece in input.chunks(block) {
        starts.extend(((HEAD + 4 * blocks + body.len()) as u32).to_le_bytes());
        let shuffled = if size > 1 { shuffle(piece, size) } else { piece.to_vec() };
        let packed = lz4_flex::block::compress(&shuffled);
        let data = if packed.len() < piece.len() { packed } else { shuffled };
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(data);
    }
    let total = HEAD + starts.len() + body.len();
    if total >= input.len() + HEAD {
        return [header(shuffles | 2 | 16 | 1 << 5, input.len() + HEAD), input.to_vec()].concat();
    }
    [header(shuffles | 16 | 1 << 5, total), starts, body].concat()
}
