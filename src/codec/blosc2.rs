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
//! Not supported: dictionaries, the delta filter, user codecs, n-dimensional (b2nd) chunks cut into blocks.

use super::filters::{bit_transpose, copy_back, lz4_block, unshuffle};
use crate::error::{Error, Result};

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("a blosc chunk is damaged: {what}"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let b = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or_else(|| damaged("it ends too early"))?;
    Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Decodes one chunk, to at most `most` bytes.
///
/// # Errors
/// Corrupt; a codec or filter that is not supported.
pub(super) fn decode_chunk(input: &[u8], most: usize) -> Result<Vec<u8>> {
    let [version, _, flags, typesize, ..] = *input else { return Err(damaged("it has no header")) };
    let total = u32_at(input, 4)? as usize;
    let block = u32_at(input, 8)? as usize;
    let stored = u32_at(input, 12)? as usize;
    if total > most || stored > input.len() {
        return Err(damaged(&format!("{stored} stored bytes of {total}, there are {} of at most {most}", input.len())));
    }
    let input = &input[..stored.max(16)];
    let long = flags & 5 == 5;
    let (mut filters, mut metas, mut flags2) = ([0u8; 6], [0u8; 6], 0);
    let head = if long {
        let h = input.get(16..32).ok_or_else(|| damaged("its header is cut"))?;
        filters.copy_from_slice(&h[..6]);
        metas.copy_from_slice(&h[8..14]);
        flags2 = h[15];
        32
    } else {
        filters[5] = if flags & 1 != 0 {
            1
        } else if flags & 4 != 0 {
            2
        } else {
            0
        };
        16
    };
    let size = usize::from(typesize.max(1));
    if total == 0 {
        return Ok(Vec::new());
    }
    match (flags2 >> 4) & 7 {
        0 => {}
        1 | 4 => return Ok(vec![0; total]),
        special @ (2 | 3) => {
            let value: Vec<u8> = match (special, size) {
                (2, 4) => f32::NAN.to_le_bytes().to_vec(),
                (2, 8) => f64::NAN.to_le_bytes().to_vec(),
                (3, _) => input.get(32..32 + size).ok_or_else(|| damaged("its value is cut"))?.to_vec(),
                _ => return Err(damaged(&format!("NaN of {size} bytes"))),
            };
            let mut out = value.repeat(total / size);
            out.resize(total, 0);
            return Ok(out);
        }
        other => return Err(damaged(&format!("special value {other}"))),
    }
    if flags2 & 1 != 0 {
        return Err(Error::refused("blosc2 chunks with a dictionary are not supported"));
    }
    if flags & 2 != 0 {
        return Ok(input.get(head..head + total).ok_or_else(|| damaged("it ends too early"))?.to_vec());
    }
    if block == 0 {
        return Err(damaged("its blocks have no bytes"));
    }
    let blocks = total.div_ceil(block);
    // An offset and a stream length at least for each block: more blocks than that cannot be.
    if blocks > input.len() / 4 {
        return Err(damaged(&format!("{blocks} blocks in {} bytes", input.len())));
    }
    let mut out = Vec::new();
    out.try_reserve_exact(total).map_err(|_| Error::failed(format!("a chunk needs {total} bytes of memory, which are not available")))?;
    let codec = flags >> 5;
    for b in 0..blocks {
        let len = block.min(total - b * block);
        let leftover = len < block;
        let mut at = u32_at(input, head + 4 * b)? as usize;
        let split = flags & 16 == 0 && !leftover && if long { true } else { size <= 16 && block / size >= 128 };
        let streams = if split { size } else { 1 };
        if !len.is_multiple_of(streams) {
            return Err(damaged("its blocks cannot be split"));
        }
        let n = len / streams;
        let mut raw = Vec::new();
        raw.try_reserve_exact(len).map_err(|_| damaged("a block is too large"))?;
        for _ in 0..streams {
            let length = u32_at(input, at)? as i32;
            at += 4;
            if length <= 0 && long {
                let mut byte = 0;
                if length < 0 {
                    let token = *input.get(at).ok_or_else(|| damaged("it ends too early"))?;
                    at += 1;
                    if token & 1 == 0 || length < -255 {
                        return Err(damaged("an unknown run"));
                    }
                    byte = length.unsigned_abs() as u8;
                }
                raw.resize(raw.len() + n, byte);
                continue;
            }
            let length = usize::try_from(length).map_err(|_| damaged("a negative length"))?;
            let data = at.checked_add(length).and_then(|end| input.get(at..end)).ok_or_else(|| damaged("a stream is cut"))?;
            at += length;
            if length == n {
                raw.extend_from_slice(data);
            } else {
                decompress(codec, data, n, &mut raw)?;
            }
        }
        for (filter, meta) in filters.iter().zip(metas).rev() {
            match filter {
                0 | 4 => {}
                1 if size > 1 || meta > 1 => raw = unshuffle(&raw, if long && meta != 0 { usize::from(meta) } else { size }),
                1 => {}
                2 => raw = unbits(raw, size, version),
                other => return Err(Error::refused(format!("the blosc2 filter number {other} is not supported"))),
            }
        }
        out.extend_from_slice(&raw);
    }
    Ok(out)
}

fn unbits(raw: Vec<u8>, size: usize, version: u8) -> Vec<u8> {
    let elements = raw.len() / size;
    if elements == 0 || version <= 2 && !elements.is_multiple_of(8) {
        return raw;
    }
    let whole = elements / 8 * 8 * size;
    let mut out = raw.clone();
    bit_transpose(&raw[..whole], &mut out[..whole], size);
    out
}

/// Appends exactly `n` bytes to `out`.
fn decompress(codec: u8, data: &[u8], n: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    match codec {
        0 => blosclz(data, n, out)?,
        1 => {
            out.resize(start + n, 0);
            lz4_block(data, &mut out[start..])?;
        }
        2 => {
            out.resize(start + n, 0);
            let got = snap::raw::decompress_len(data).map_err(|e| damaged("snappy").because(e))?;
            if got != n {
                return Err(damaged("a snappy stream has another length"));
            }
            snap::raw::Decoder::new().decompress(data, &mut out[start..]).map_err(|e| damaged("snappy").because(e))?;
        }
        3 => out.extend(super::filters::inflate(data, n, n)?),
        4 => {
            out.resize(start + n, 0);
            let got = zstd::bulk::decompress_to_buffer(data, &mut out[start..]).map_err(|e| damaged("zstd").because(e))?;
            out.truncate(start + got);
        }
        other => return Err(Error::refused(format!("the blosc codec number {other} is not supported"))),
    }
    if out.len() - start != n {
        return Err(damaged(&format!("a stream holds {} bytes, expected {n}", out.len() - start)));
    }
    Ok(())
}

fn blosclz(data: &[u8], n: usize, out: &mut Vec<u8>) -> Result<()> {
    let base = out.len();
    let mut input = data.iter();
    let cut = || damaged("a blosclz stream is cut");
    let mut control = usize::from(*input.next().ok_or_else(cut)? & 31);
    loop {
        if control >= 32 {
            let mut len = (control >> 5) - 1;
            let high = (control & 31) << 8;
            if len == 6 {
                loop {
                    let code = *input.next().ok_or_else(cut)?;
                    len += usize::from(code);
                    if code != 255 {
                        break;
                    }
                }
            }
            let code = usize::from(*input.next().ok_or_else(cut)?);
            let mut back = high + code;
            if code == 255 && high == 31 << 8 {
                back = usize::from(*input.next().ok_or_else(cut)?) << 8;
                back += usize::from(*input.next().ok_or_else(cut)?) + 8191;
            }
            let len = len + 3;
            // A match at the very end is never copied: the reference decoder stops before it.
            let Some(&next) = input.next() else { break };
            let start = out.len().checked_sub(back + 1).filter(|&s| s >= base).ok_or_else(|| damaged("a match before the start"))?;
            if out.len() - base + len > n {
                return Err(damaged("a blosclz stream is too long"));
            }
            copy_back(out, start, len);
            control = usize::from(next);
        } else {
            let literals = control + 1;
            let rest = input.as_slice();
            let run = rest.get(..literals).ok_or_else(cut)?;
            if out.len() - base + literals > n {
                return Err(damaged("a blosclz stream is too long"));
            }
            out.extend_from_slice(run);
            input = rest[literals..].iter();
            let Some(&next) = input.next() else { break };
            control = usize::from(next);
        }
    }
    Ok(())
}

/// Decodes a contiguous Blosc2 frame, to at most `most` bytes.
///
/// # Errors
/// Corrupt; an n-dimensional frame.
pub(super) fn decode_frame(input: &[u8], most: usize) -> Result<Vec<u8>> {
    if input.get(2..9) != Some(b"b2frame".as_slice()) {
        return decode_chunk(input, most);
    }
    let be = |at: usize, n: usize| -> Result<u64> {
        let bytes = input.get(at..at + n).ok_or_else(|| damaged("its frame header is cut"))?;
        Ok(bytes.iter().fold(0, |v, &b| v << 8 | u64::from(b)))
    };
    let header = usize::try_from(be(11, 4)?).unwrap_or(usize::MAX);
    let total = be(30, 8)?;
    let stored = usize::try_from(be(39, 8)?).unwrap_or(usize::MAX);
    let chunk = be(58, 4)?;
    if total > most as u64 || chunk == 0 && total > 0 || header > input.len() {
        return Err(damaged(&format!("its frame announces {total} bytes, at most {most} are expected")));
    }
    if total == 0 {
        return Ok(Vec::new());
    }
    let data = header.checked_add(stored).and_then(|end| input.get(header..end)).ok_or_else(|| damaged("its frame is cut"))?;
    let chunks = usize::try_from(total.div_ceil(chunk)).unwrap_or(usize::MAX);
    let index = decode_chunk(&input[header + stored..], chunks.saturating_mul(8).saturating_add(64))?;
    if index.len() < chunks.saturating_mul(8) {
        return Err(damaged("its frame index is too short"));
    }
    let layout = super::blosc2_nd::Layout::find(&input[..header])?;
    let mut out = Vec::new();
    for (i, offset) in index.chunks_exact(8).take(chunks).enumerate() {
        let offset = u64::from_le_bytes([offset[0], offset[1], offset[2], offset[3], offset[4], offset[5], offset[6], offset[7]]);
        let len = chunk.min(total - i as u64 * chunk) as usize;
        let piece = if offset >> 63 != 0 {
            match (offset >> 56) & 0x7F {
                1 | 4 => vec![0; len],
                other => return Err(damaged(&format!("special chunk {other} in a frame"))),
            }
        } else {
            let at = usize::try_from(offset).ok().filter(|&o| o < data.len()).ok_or_else(|| damaged("a chunk outside of its frame"))?;
            decode_chunk(&data[at..], len)?
        };
        out.extend(piece);
    }
    match layout {
        Some(layout) => layout.straighten(out),
        None => Ok(out),
    }
}
