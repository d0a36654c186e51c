//! Writing zip archives: headers, the directory, and deflate in blocks that are packed
//! independently and set end to end.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::error::{Error, Result};

/// Sizes from here on are written in the zip64 way.
const ZIP64: u64 = 0xFFFF_FFFF;
/// A deflated member may be a little longer than its bytes: below this it needs no zip64.
const ZIP64_UNSURE: u64 = 0xF000_0000;
/// 1 January 1980, the first day that the format knows: the same input gives the same bytes.
const DATE: u16 = 0x21;

/// A member that is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// 0 stored, 8 deflated.
    pub method: u16,
    /// Where its local header is.
    pub offset: u64,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Bytes in the archive.
    pub stored_bytes: u64,
    /// Bytes decoded.
    pub bytes: u64,
    /// Sizes and CRC follow the data instead of being in the local header.
    pub descriptor: bool,
}

impl Written {
    fn flags(&self) -> u16 {
        (if self.name.is_ascii() { 0 } else { 0x800 }) | if self.descriptor { 8 } else { 0 }
    }
    fn wide(&self) -> bool {
        self.bytes >= ZIP64_UNSURE
    }

    /// The local header; `align`: extra bytes make what follows it begin at such a multiple.
    pub fn local(&self, align: u64) -> Vec<u8> {
        let wide = self.wide();
        let mut extra = Vec::new();
        if wide {
            let (bytes, stored) =
                if self.descriptor { (0, 0) } else { (self.bytes, self.stored_bytes) };
            extra.extend([1u16.to_le_bytes(), 16u16.to_le_bytes()].concat());
            extra.extend([bytes.to_le_bytes(), stored.to_le_bytes()].concat());
        }
        let end = self.offset + 30 + self.name.len() as u64 + extra.len() as u64;
        let mut padding = end.next_multiple_of(align.max(1)) - end;
        if padding > 0 {
            while padding < 4 {
                padding += align;
            }
            extra.extend(0xD935u16.to_le_bytes()); // the mark of aligned archives
            extra.extend((padding as u16 - 4).to_le_bytes());
            extra.resize(extra.len() + padding as usize - 4, 0);
        }
        let mut out = b"PK\x03\x04".to_vec();
        out.extend((if wide { 45u16 } else { 20 }).to_le_bytes());
        for value in [self.flags(), self.method, 0, DATE] {
            out.extend(value.to_le_bytes());
        }
        let (crc, stored, bytes) =
            if self.descriptor { (0, 0, 0) } else { (self.crc, self.stored_bytes, self.bytes) };
        out.extend(crc.to_le_bytes());
        for size in [stored, bytes] {
            out.extend((if wide { u32::MAX } else { size as u32 }).to_le_bytes());
        }
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend((extra.len() as u16).to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(extra);
        out
    }

    /// The record after the data of a member whose sizes were not known before.
    pub fn trailer(&self) -> Vec<u8> {
        let mut out = b"PK\x07\x08".to_vec();
        out.extend(self.crc.to_le_bytes());
        for size in [self.stored_bytes, self.bytes] {
            if self.wide() {
                out.extend(size.to_le_bytes());
            } else {
                out.extend((size as u32).to_le_bytes());
            }
        }
        out
    }

    fn central(&self, out: &mut Vec<u8>) {
        let mut extra = Vec::new();
        let mut short = |value: u64| -> u32 {
            if value >= ZIP64 {
                extra.extend(value.to_le_bytes());
                u32::MAX
            } else {
                value as u32
            }
        };
        let (bytes, stored, offset) =
            (short(self.bytes), short(self.stored_bytes), short(self.offset));
        let version: u16 = if extra.is_empty() && !self.wide() { 20 } else { 45 };
        out.extend(b"PK\x01\x02");
        for value in [0x0300 | version, version, self.flags(), self.method, 0, DATE] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.crc, stored, bytes] {
            out.extend(value.to_le_bytes());
        }
        let extra_len = if extra.is_empty() { 0 } else { extra.len() as u16 + 4 };
        for value in [self.name.len() as u16, extra_len, 0, 0, 0] {
            out.extend(value.to_le_bytes());
        }
        out.extend((0o100_644u32 << 16).to_le_bytes());
        out.extend(offset.to_le_bytes());
        out.extend(self.name.as_bytes());
        if !extra.is_empty() {
            out.extend(1u16.to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
            out.extend(extra);
        }
    }
}

/// The central directory and the end records, for an archive whose members end at `offset`.
pub fn directory(members: &[Written], offset: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        member.central(&mut out);
    }
    let size = out.len() as u64;
    let count = members.len() as u64;
    if count >= 0xFFFF || size >= ZIP64 || offset >= ZIP64 {
        let record_at = offset + size;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([45u16.to_le_bytes(), 45u16.to_le_bytes()].concat());
        out.extend([0u8; 8]);
        for value in [count, count, size, offset] {
            out.extend(value.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0u8; 4]);
        out.extend(record_at.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06");
    out.extend([0u8; 4]);
    for _ in 0..2 {
        out.extend((count.min(0xFFFF) as u16).to_le_bytes());
    }
    for value in [size, offset] {
        out.extend((value.min(ZIP64) as u32).to_le_bytes());
    }
    out.extend([0u8; 2]);
    out
}

/// Packs one block. Blocks set end to end, of which only the last is packed with `last`, are one
/// deflate stream.
///
/// # Errors
/// A failure of the library.
pub fn deflate(parts: &[&[u8]], level: u32, last: bool) -> Result<Vec<u8>> {
    let fault = |e: flate2::CompressError| Error::failed("deflate failed").because(e);
    let mut packer = Compress::new(Compression::new(level), false);
    let total: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(total / 2 + 1024);
    for part in parts {
        let start = packer.total_in();
        loop {
            let done = (packer.total_in() - start) as usize;
            if done == part.len() {
                break;
            }
            packer.compress_vec(&part[done..], &mut out, FlushCompress::None).map_err(fault)?;
            if out.len() == out.capacity() {
                out.reserve(out.capacity().max(1 << 16));
            }
        }
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        out.reserve(1 << 12);
        let room = out.capacity() - out.len();
        let before = out.len();
        let status = packer.compress_vec(&[], &mut out, flush).map_err(fault)?;
        let ended = if last { status == Status::StreamEnd } else { out.len() - before < room };
        if ended {
            return Ok(out);
        }
    }
}
