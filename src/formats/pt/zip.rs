//! The zip container of a checkpoint: the central directory, and the bytes of single records.
//!
//! | part | what is taken from it |
//! |---|---|
//! | end record (22 bytes + comment), zip64 locator and end record | where the central directory is, how many entries |
//! | central directory entry (46 bytes + name + extra) | name, method, sizes, crc, place of the local header (64-bit ones from extra `0x0001`) |
//! | local header (30 bytes + name + extra) | only its two lengths: the data begins behind them |
//!
//! torch leaves sizes and crc of local headers zero and pads their extra field (`FB`) so that data begins at multiples
//! of 64. A crc of 0 means "not given"; those of large tensors are for `npk verify`. Records are stored; deflated ones, which
//! other zip tools make, are inflated to an unnamed temporary file, one for the archive. Encrypted and otherwise compressed
//! ones are refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock};

use crate::codec::pickle::shown;
use crate::codec::raw::At;
use crate::error::{Error, Result};
use crate::location::{Blob, BlobReader, MemoryBlob};

/// Records that the kernel copies are read again for their checksum, on both ends, where they are this small …
pub(super) const CHECKED_BYTES: u64 = 1 << 20;
/// … and not more than this in all: torch never looks at it, and small files should please every zip tool.
pub(super) const CHECKED_IN_ALL_BYTES: u64 = 64 << 20;

/// A run of bytes in a blob.
#[derive(Clone)]
pub(super) struct Bytes {
    pub blob: Arc<dyn Blob>,
    pub start: u64,
    pub len: u64,
}

impl Bytes {
    /// Fills `buf` from `offset` of this run.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!("{} bytes are expected at byte {offset} of a storage of {} bytes", buf.len(), self.len)));
        }
        self.blob.read_at(self.start + offset, buf)
    }
    /// All of it, from memory.
    pub fn memory(bytes: Vec<u8>) -> Bytes {
        let len = bytes.len() as u64;
        Bytes { blob: Arc::new(MemoryBlob(bytes)), start: 0, len }
    }
}

/// An entry of the central directory.
pub(super) struct Entry {
    pub name: String,
    method: u16,
    flags: u16,
    pub crc: u32,
    packed: u64,
    pub len: u64,
    header: u64,
    data: OnceLock<Bytes>,
}

impl Entry {
    fn shown(&self) -> String {
        shown(&self.name)
    }
    pub fn is_stored(&self) -> bool {
        self.method == 0
    }
}

/// An opened archive.
pub(super) struct Archive {
    blob: Arc<dyn Blob>,
    pub entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    /// Where deflated records are inflated to, one after the other: the file, and its end.
    spool: Mutex<Option<(Arc<File>, u64)>>,
}

const END_BYTES: u64 = 22;

fn u16_at(b: &[u8], at: usize) -> u16 {
    b.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

impl Archive {
    /// Reads the central directory: one read at the end of the file, a second one where it is larger than that.
    pub fn open(blob: &Arc<dyn Blob>) -> Result<Archive> {
        let len = blob.len();
        let tail_len = len.min(256 << 10);
        let tail_start = len - tail_len;
        let tail = blob.read_vec(tail_start, tail_len)?;
        // The last signature whose comment fills the rest of the file.
        let at = memchr::memmem::rfind_iter(&tail, b"PK\x05\x06")
            .find(|&at| at + END_BYTES as usize + usize::from(u16_at(&tail, at + 20)) == tail.len())
            .ok_or_else(|| Error::corrupt("the zip archive has no end record: the file is truncated"))?;
        let end = &tail[at..];
        let (mut count, mut size, mut start) = (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let mut directory_end = tail_start + at as u64;
        if at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07") {
            let end64 = u64_at(&tail, at - 12);
            let record = match end64.checked_sub(tail_start) {
                Some(inside) if inside + 56 <= at as u64 => tail[inside as usize..inside as usize + 56].to_vec(),
                _ => blob.read_vec(end64, 56)?,
            };
            if !record.starts_with(b"PK\x06\x06") {
                return Err(Error::corrupt(format!("the zip archive has no zip64 end record at byte {end64}")));
            }
            (count, size, start) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
            directory_end = end64;
        }
        if start.checked_add(size).is_none_or(|end| end > directory_end) {
            return Err(Error::corrupt(format!(
                "the zip directory should be at byte {start} with {size} bytes, the file has {directory_end} before its end record"
            )));
        }
        if count > size / 46 {
            return Err(Error::corrupt(format!("the zip archive declares {count} entries in {size} bytes")));
        }
        let directory = match start.checked_sub(tail_start) {
            Some(inside) => tail[inside as usize..(inside + size) as usize].to_vec(),
            None => blob.read_vec(start, size)?,
        };
        let mut archive =
            Archive { blob: blob.clone(), entries: Vec::with_capacity(count as usize), by_name: HashMap::new(), spool: Mutex::default() };
        let mut at = 0usize;
        for _ in 0..count {
            at = archive.entry(&directory, at, start)?;
        }
        Ok(archive)
    }

    fn entry(&mut self, directory: &[u8], at: usize, data_end: u64) -> Result<usize> {
        let broken = || Error::corrupt(format!("the zip directory is broken at its byte {at}"));
        let fixed = directory.get(at..at + 46).filter(|b| b.starts_with(b"PK\x01\x02")).ok_or_else(broken)?;
        let (name_len, extra_len, comment_len) =
            (usize::from(u16_at(fixed, 28)), usize::from(u16_at(fixed, 30)), usize::from(u16_at(fixed, 32)));
        let end = at + 46 + name_len + extra_len + comment_len;
        let rest = directory.get(at + 46..end).ok_or_else(broken)?;
        let name = String::from_utf8_lossy(&rest[..name_len]).into_owned();
        let (mut packed, mut len, mut header) = (u64::from(u32_at(fixed, 20)), u64::from(u32_at(fixed, 24)), u64::from(u32_at(fixed, 42)));
        let mut extra = &rest[name_len..name_len + extra_len];
        while extra.len() >= 4 {
            let size = usize::from(u16_at(extra, 2));
            let Some(field) = extra.get(4..4 + size) else { break };
            if u16_at(extra, 0) == 1 {
                let mut field = field;
                for value in [&mut len, &mut packed, &mut header] {
                    if *value == u64::from(u32::MAX) {
                        if field.len() < 8 {
                            return Err(broken());
                        }
                        *value = u64_at(field, 0);
                        field = &field[8..];
                    }
                }
            }
            extra = &extra[4 + size..];
        }
        if header.checked_add(30 + name_len as u64).and_then(|n| n.checked_add(packed)).is_none_or(|end| end > data_end) {
            return Err(Error::corrupt(format!(
                "the record {} should be at byte {header} with {packed} bytes, the file has {data_end} before its directory",
                shown(&name)
            )));
        }
        let entry = Entry {
            method: u16_at(fixed, 10),
            flags: u16_at(fixed, 8),
            crc: u32_at(fixed, 16),
            packed,
            len,
            header,
            data: OnceLock::new(),
            name,
        };
        // Of two entries of one name the last counts, as everywhere.
        self.by_name.insert(entry.name.clone(), self.entries.len());
        self.entries.push(entry);
        Ok(end)
    }

    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn checked(&self, entry: &Entry) -> Result<()> {
        if entry.flags & 1 != 0 {
            return Err(Error::refused(format!("the record {} is encrypted", entry.shown())));
        }
        match entry.method {
            0 if entry.packed != entry.len => Err(Error::corrupt(format!(
                "the record {} is stored, but its two sizes differ: {} and {} bytes",
                entry.shown(),
                entry.packed,
                entry.len
            ))),
            0 => Ok(()),
            // Deflate cannot pack more tightly than 1032 to 1.
            8 if entry.len / 1040 > entry.packed => {
                Err(Error::corrupt(format!("the record {} declares {} bytes in {} deflated ones", entry.shown(), entry.len, entry.packed)))
            }
            8 => Ok(()),
            other => Err(Error::refused(format!(
                "the record {} is packed by zip method {other}; only stored and deflated ones are supported",
                entry.shown()
            ))),
        }
    }

    fn locate(&self, entry: &Entry, header: &[u8]) -> Result<u64> {
        if !header.starts_with(b"PK\x03\x04") {
            return Err(Error::corrupt(format!("the record {} has no header at byte {}", entry.shown(), entry.header)));
        }
        let start = entry.header + 30 + u64::from(u16_at(header, 26)) + u64::from(u16_at(header, 28));
        if start.checked_add(entry.packed).is_none_or(|end| end > self.blob.len()) {
            return Err(Error::corrupt(format!(
                "the record {} should be at byte {start} with {} bytes, the file has {}",
                entry.shown(),
                entry.packed,
                self.blob.len()
            )));
        }
        Ok(start)
    }

    /// The bytes of an entry, without reading them (a deflated one is inflated to the temporary file).
    pub fn bytes(&self, index: usize) -> Result<Bytes> {
        let entry = &self.entries[index];
        if let Some(bytes) = entry.data.get() {
            return Ok(bytes.clone());
        }
        self.checked(entry)?;
        let header = self.blob.read_vec(entry.header, 30)?;
        let start = self.locate(entry, &header)?;
        let bytes = if entry.is_stored() {
            Bytes { blob: self.blob.clone(), start, len: entry.len }
        } else {
            let (file, at) = self.spool(entry.len)?;
            self.inflate(entry, start, &mut At { file: &file, offset: at })?;
            Bytes { blob: Arc::new(TempBlob { file, len: at + entry.len }), start: at, len: entry.len }
        };
        Ok(entry.data.get_or_init(|| bytes).clone())
    }

    /// Room for `len` bytes in the archive's one temporary file: a file each would soon be more than may be open.
    fn spool(&self, len: u64) -> Result<(Arc<File>, u64)> {
        let mut spool = self.spool.lock().unwrap_or_else(|e| e.into_inner());
        let (file, end) = match spool.take() {
            Some(open) => open,
            None => (Arc::new(tempfile::tempfile()?), 0),
        };
        let next = end.checked_add(len).ok_or_else(|| Error::corrupt("the deflated records are too large"))?;
        *spool = Some((file.clone(), next));
        Ok((file, end))
    }

    /// Finds the data of many entries with few reads: for locations where each read is a request.
    pub fn locate_all(&self, indices: &[usize]) -> Result<()> {
        let open: Vec<&Entry> =
            indices.iter().map(|&i| &self.entries[i]).filter(|e| e.data.get().is_none() && e.is_stored() && e.flags & 1 == 0).collect();
        let ranges: Vec<_> = open.iter().map(|e| e.header..e.header + 30).collect();
        for (entry, header) in open.into_iter().zip(self.blob.read_ranges(&ranges)?) {
            if self.checked(entry).is_ok()
                && let Ok(start) = self.locate(entry, &header)
            {
                entry.data.get_or_init(|| Bytes { blob: self.blob.clone(), start, len: entry.len });
            }
        }
        Ok(())
    }

    fn inflate(&self, entry: &Entry, start: u64, to: &mut dyn Write) -> Result<()> {
        let mut reader = BlobReader::new(self.blob.clone());
        std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(start)).map_err(Error::reading)?;
        let packed = std::io::BufReader::with_capacity(64 << 10, reader.take(entry.packed));
        let mut unpacked = flate2::bufread::DeflateDecoder::new(packed).take(entry.len + 1);
        let (mut buffer, mut crc, mut seen) = (vec![0; 64 << 10], crc32fast::Hasher::new(), 0u64);
        loop {
            let n = unpacked
                .read(&mut buffer)
                .map_err(|e| Error::corrupt(format!("the record {} cannot be inflated", entry.shown())).because(e))?;
            if n == 0 {
                break;
            }
            seen += n as u64;
            if seen > entry.len {
                break;
            }
            crc.update(&buffer[..n]);
            to.write_all(&buffer[..n])?;
        }
        if seen != entry.len {
            return Err(Error::corrupt(format!("the record {} inflates to {seen} bytes, expected {}", entry.shown(), entry.len)));
        }
        check_crc(entry, crc.finalize())
    }

    /// A small record as a whole, its checksum compared where one is given.
    pub fn read(&self, index: usize, limit_bytes: u64) -> Result<Vec<u8>> {
        let entry = &self.entries[index];
        if entry.len > limit_bytes {
            return Err(Error::refused(format!("the record {} has {} bytes; at most {limit_bytes} are allowed", entry.shown(), entry.len)));
        }
        self.checked(entry)?;
        let header = self.blob.read_vec(entry.header, 30)?;
        let start = self.locate(entry, &header)?;
        if entry.is_stored() {
            let bytes = self.blob.read_vec(start, entry.len)?;
            check_crc(entry, crc32fast::hash(&bytes))?;
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        self.inflate(entry, start, &mut bytes)?;
        Ok(bytes)
    }

    /// Compares the checksums of records that are small enough to be read twice. The others are for `npk verify`: torch
    /// compares none, and reading a large one again costs as much as copying it.
    pub fn verify_small(&self, indices: &[usize]) -> Result<()> {
        let mut left = CHECKED_IN_ALL_BYTES;
        if self.blob.file().is_none() {
            return Ok(()); // a request each
        }
        for &index in indices {
            let entry = &self.entries[index];
            if !entry.is_stored() || entry.len > CHECKED_BYTES {
                continue; // a deflated one was compared when it was inflated
            }
            let Some(rest) = left.checked_sub(entry.len) else { break };
            left = rest;
            self.verify(index)?;
        }
        Ok(())
    }

    /// Compares the checksum of a record, streamed; `false` where none is given.
    pub fn verify(&self, index: usize) -> Result<bool> {
        let entry = &self.entries[index];
        let bytes = self.bytes(index)?;
        if entry.crc == 0 {
            return Ok(false);
        }
        let (mut crc, mut at, mut buffer) = (crc32fast::Hasher::new(), 0, vec![0; 1 << 20]);
        while at < bytes.len {
            let n = (bytes.len - at).min(buffer.len() as u64) as usize;
            bytes.read_at(at, &mut buffer[..n])?;
            crc.update(&buffer[..n]);
            at += n as u64;
        }
        check_crc(entry, crc.finalize()).map(|()| true)
    }
}

fn check_crc(entry: &Entry, found: u32) -> Result<()> {
    if entry.crc != 0 && entry.crc != found {
        return Err(Error::corrupt(format!("the record {} has the checksum {found:08x}, expected {:08x}", entry.shown(), entry.crc)));
    }
    Ok(())
}

/// An unnamed temporary file, up to the end of one of its records.
struct TempBlob {
    file: Arc<File>,
    len: u64,
}

impl Blob for TempBlob {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(Error::reading)
    }
    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}
