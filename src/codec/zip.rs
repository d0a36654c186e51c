//! Reading zip archives: the central directory, and members as streams whose length and CRC are
//! checked.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
//!
//! | record | bytes |
//! |---|---|
//! | local header | `PK\3\4`, 26 bytes, name, extra; then the member's bytes |
//! | central header, one a member | `PK\1\2`, 42 bytes, name, extra, comment |
//! | zip64 end, if needed | `PK\6\6`, 52 bytes; its locator `PK\6\7`, 16 bytes |
//! | end | `PK\5\6`, 18 bytes, comment |
//!
//! Read: stored and deflated members, zip64; bytes before the archive that are no archive
//! themselves (self-extracting programs), with a note. Refused: several archives one after the
//! other, of which other readers take the last alone; member by member: encryption, other methods.
//! Members that overlap (as in zip bombs) are corrupt.

use std::io::{BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use flate2::bufread::DeflateDecoder;

use crate::codec::pickle::shown;
use crate::error::{Error, ForeignReader, Result};
use crate::storage::{Blob, BlobSlice};

mod checked;
mod member;
mod spool;
pub mod write;

pub use checked::CheckedMember;
pub use member::inflate_some;
use spool::Spool;

/// Central directories beyond this are refused.
const MAX_DIRECTORY_BYTES: u64 = 512 << 20;
/// deflate packs at most 1032 bytes into one.
const DEFLATE_RATIO: u64 = 1040;
/// The bytes 128..=255 of names without the UTF-8 flag (code page 437).
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A member, as the central directory describes it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, `/` separates.
    pub name: String,
    /// 0 stored, 8 deflated.
    pub method: u16,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Bytes in the archive.
    pub stored_bytes: u64,
    /// Bytes decoded.
    pub bytes: u64,
    flags: u16,
    header_offset: u64,
    raw_name: Vec<u8>,
}

impl Entry {
    /// Whether this is a folder.
    pub fn is_dir(&self) -> bool {
        self.name.ends_with('/') && self.bytes == 0
    }
    /// Whether its bytes are in the file uncompressed.
    pub fn is_stored(&self) -> bool {
        self.method == 0
    }
    /// Refuses what cannot be decoded, and sizes that cannot be.
    ///
    /// # Errors
    /// Refused, corrupt.
    pub fn check(&self) -> Result<()> {
        if self.flags & 1 != 0 {
            return Err(Error::refused("the member is encrypted"));
        }
        match self.method {
            0 if self.bytes != self.stored_bytes => Err(Error::corrupt(format!(
                "a stored member has {} bytes, the zip directory says {}",
                self.stored_bytes, self.bytes
            ))),
            8 if self.bytes / DEFLATE_RATIO > self.stored_bytes => Err(Error::corrupt(format!(
                "{} bytes cannot come from {} deflated ones",
                self.bytes, self.stored_bytes
            ))),
            0 | 8 => Ok(()),
            n => Err(Error::refused(format!(
                "zip method {n} is not supported; stored and deflate are"
            ))),
        }
    }
}

/// Where a member's bytes begin, and the first of them as they are stored.
pub type MemberHead = (u64, Vec<u8>);

/// An opened archive.
pub struct Archive {
    /// The file.
    pub blob: Arc<dyn Blob>,
    /// Its members, in the order of the central directory.
    pub entries: Vec<Entry>,
    /// Bytes before the first member (or before the directory, where there is none), which belong
    /// to no archive.
    pub prefix_bytes: u64,
    /// Where members end: the central directory begins here.
    directory_offset: u64,
    /// Whether a CRC of 0 says that there is none.
    zero_is_no_crc: bool,
    /// Per member its bytes, once they were looked for.
    located: Vec<OnceLock<BlobSlice>>,
    spool: Spool,
    inflating: Mutex<()>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// Where the end record begins: the last one whose comment reaches to the end.
fn end_record(tail: &[u8]) -> Option<usize> {
    let fits = |&i: &usize| {
        tail[i..].starts_with(b"PK\x05\x06")
            && u16_at(tail, i + 20).is_some_and(|c| i + 22 + usize::from(c) == tail.len())
    };
    (0..(tail.len() + 1).saturating_sub(22)).rev().find(fits)
}

/// Whether an archive ends in these bytes, whatever follows it there: an end record behind a
/// directory. `at` is where they begin in the file.
fn has_archive(blob: &dyn Blob, bytes: &[u8], at: u64) -> Result<bool> {
    for end in memchr::memmem::rfind_iter(bytes, b"PK\x05\x06") {
        let (Some(count), Some(size)) = (u16_at(bytes, end + 10), u32_at(bytes, end + 12)) else {
            continue;
        };
        if count == 0 && size == 0 {
            return Ok(true);
        }
        // With 64-bit sizes the zip64 end record lies between the two.
        let is_wide = end >= 20 && bytes[end - 20..].starts_with(b"PK\x06\x07");
        let directory = (at + end as u64).checked_sub(u64::from(size)).filter(|_| size >= 46);
        if is_wide
            || directory
                .is_some_and(|d| blob.read_vec(d, 4).is_ok_and(|head| head == b"PK\x01\x02"))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the central directory is.
struct Directory {
    start: u64,
    size: u64,
    /// Its entries.
    count: u64,
    /// The bytes before the archive, which its offsets do not count.
    shift: u64,
}

impl Directory {
    fn find(blob: &dyn Blob) -> Result<Directory> {
        let (tail_offset, tail, end) = Directory::end(blob)?;
        let broken = || Error::corrupt("the zip archive's end record is broken");
        let (disk, count16) = (
            u16_at(&tail, end + 4).ok_or_else(broken)?,
            u16_at(&tail, end + 10).ok_or_else(broken)?,
        );
        let mut count = u64::from(count16);
        let mut size = u64::from(u32_at(&tail, end + 12).ok_or_else(broken)?);
        let mut offset = u64::from(u32_at(&tail, end + 16).ok_or_else(broken)?);
        let mut directory_end = tail_offset + end as u64;
        let locator = end.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
        if let Some(at) = locator {
            let zip64_at = u64_at(&tail, at + 8).ok_or_else(broken)?;
            // Bytes before the archive shift it; then the record lies right before its locator.
            let mut record = blob.read_vec(zip64_at, 56).unwrap_or_default();
            let mut record_at = zip64_at;
            if !record.starts_with(b"PK\x06\x06") {
                record_at = (tail_offset + at as u64).checked_sub(56).ok_or_else(broken)?;
                record = blob.read_vec(record_at, 56)?;
            }
            if !record.starts_with(b"PK\x06\x06") {
                return Err(Error::corrupt("the zip64 end record is missing"));
            }
            count = u64_at(&record, 32).ok_or_else(broken)?;
            size = u64_at(&record, 40).ok_or_else(broken)?;
            offset = u64_at(&record, 48).ok_or_else(broken)?;
            directory_end = record_at;
        }
        if disk != 0 && disk != u16::MAX {
            return Err(Error::refused("zip archives in several volumes are not supported"));
        }
        let start = directory_end.checked_sub(size).ok_or_else(broken)?;
        let shift = start.checked_sub(offset).ok_or_else(broken)?;
        if size > MAX_DIRECTORY_BYTES || count > size / 46 {
            return Err(Error::corrupt(format!(
                "{count} members cannot fit into a zip directory of {size} bytes"
            )));
        }
        Ok(Directory { start, size, count, shift })
    }

    /// Where the last bytes of an archive begin, these, and where the end record is in them.
    fn end(blob: &dyn Blob) -> Result<(u64, Vec<u8>, usize)> {
        let len = blob.len();
        // Far away, a tail of 64 KiB is fetched once and kept; only a very long comment needs more.
        let mut tail_offset = len.saturating_sub(64 << 10);
        let mut tail = blob.read_vec(tail_offset, len - tail_offset)?;
        let mut end = end_record(&tail);
        if end.is_none() && tail_offset > 0 {
            tail_offset = len.saturating_sub(22 + 65_535 + 20 + 56);
            tail = blob.read_vec(tail_offset, len - tail_offset)?;
            end = end_record(&tail);
        }
        let end = end.ok_or_else(|| {
            Error::corrupt(
                "the zip archive has no end record: it is truncated, or something follows it",
            )
            .hint("fetch the file again")
        })?;
        Ok((tail_offset, tail, end))
    }
}

/// The entries of a directory, all of it.
fn entries_of(directory: &[u8], count: u64, shift: u64) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(count as usize);
    let mut at = 0;
    for i in 0..count {
        let (entry, next) = central(directory, at, shift)
            .ok_or_else(|| Error::corrupt(format!("entry {i} of the zip directory is broken")))?;
        entries.push(entry);
        at = next;
    }
    if at != directory.len() {
        return Err(Error::corrupt(format!(
            "the zip directory has {} bytes more than its {count} members need",
            directory.len() - at
        )));
    }
    Ok(entries)
}

impl Archive {
    /// Reads the central directory.
    ///
    /// # Errors
    /// Corrupt archives; archives in several volumes.
    pub fn open(blob: Arc<dyn Blob>) -> Result<Archive> {
        let Directory { start, size, count, shift } = Directory::find(blob.as_ref())?;
        let directory = blob.read_vec(start, size)?;
        let entries = entries_of(&directory, count, shift)?;
        let prefix_bytes = entries.iter().map(|e| e.header_offset).min().unwrap_or(start);
        let archive = Archive {
            blob,
            prefix_bytes,
            directory_offset: start,
            zero_is_no_crc: false,
            located: entries.iter().map(|_| OnceLock::new()).collect(),
            entries,
            spool: Spool::default(),
            inflating: Mutex::default(),
        };
        archive.check_overlaps()?;
        archive.check_prefix()?;
        Ok(archive)
    }

    /// A CRC of 0 means that none is given, as in the archives of torch.
    pub fn zero_is_no_crc(self) -> Archive {
        Archive { zero_is_no_crc: true, ..self }
    }

    /// What is to be said of bytes before the archive.
    pub fn notes(&self) -> Vec<String> {
        match self.prefix_bytes {
            0 => Vec::new(),
            n => vec![format!(
                "the first {n} bytes of the file are before the zip archive; they are not read"
            )],
        }
    }

    /// Bytes before the archive must not be an archive of their own: its members would be missing
    /// without a word.
    fn check_prefix(&self) -> Result<()> {
        if self.prefix_bytes == 0 {
            return Ok(());
        }
        let looked_at = self.prefix_bytes.min(22 + 65_535 + 20);
        let at = self.prefix_bytes - looked_at;
        let bytes = self.blob.read_vec(at, looked_at)?;
        if has_archive(self.blob.as_ref(), &bytes, at)? {
            return Err(Error::refused(format!(
                "the file holds several zip archives one after the other: the last is at bytes {} to {}, others are before it",
                self.prefix_bytes,
                self.blob.len()
            ))
            .hint("split the file at these bytes, and convert the parts one by one"));
        }
        Ok(())
    }

    /// The CRC that a member must have; `None` where none is given.
    fn crc_of(&self, entry: &Entry) -> Option<u32> {
        (entry.crc != 0 || !self.zero_is_no_crc).then_some(entry.crc)
    }

    fn check_overlaps(&self) -> Result<()> {
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        order.sort_by_key(|e| e.header_offset);
        let ends = order.iter().skip(1).map(|e| e.header_offset).chain([self.directory_offset]);
        for (entry, end) in order.iter().zip(ends) {
            let least = (30 + entry.raw_name.len() as u64)
                .checked_add(entry.stored_bytes)
                .and_then(|n| n.checked_add(entry.header_offset));
            if least.is_none_or(|least| least > end) {
                return Err(Error::corrupt("it overlaps with what follows it")
                    .about(format_args!("the member {}", shown(&entry.name))));
            }
        }
        Ok(())
    }

    /// Where a member's bytes begin, and the first of them as they are stored (at most about
    /// `max`). All are fetched together.
    ///
    /// # Errors
    /// Reading errors; per member: a broken local header.
    pub fn heads(&self, members: &[usize], max: u64) -> Result<Vec<Result<MemberHead>>> {
        let mut heads = Vec::with_capacity(members.len());
        for group in members.chunks(256) {
            let range = |&m: &usize| -> Range<u64> {
                let e = &self.entries[m];
                let want = 30 + e.raw_name.len() as u64 + 128 + max.min(e.stored_bytes);
                e.header_offset..(e.header_offset + want).min(self.directory_offset)
            };
            let ranges: Vec<_> = group.iter().map(range).collect();
            for (&m, bytes) in group.iter().zip(self.blob.read_ranges(&ranges)?) {
                heads.push(self.local(m, &bytes));
            }
        }
        Ok(heads)
    }

    /// Where a member's bytes begin.
    ///
    /// # Errors
    /// Reading errors; a broken local header.
    pub fn data_offset(&self, member: usize) -> Result<u64> {
        let e = &self.entries[member];
        let bytes = self.blob.read_vec(e.header_offset, 30 + e.raw_name.len() as u64)?;
        Ok(self.local(member, &bytes)?.0)
    }

    /// Where each of these members' bytes begin; fetched together.
    ///
    /// # Errors
    /// As [`Archive::data_offset`].
    pub fn data_offsets(&self, members: &[usize]) -> Result<Vec<u64>> {
        self.heads(members, 0)?.into_iter().map(|head| Ok(head?.0)).collect()
    }

    fn local(&self, member: usize, bytes: &[u8]) -> Result<MemberHead> {
        let e = &self.entries[member];
        let broken =
            || Error::corrupt(format!("the local header at byte {} is broken", e.header_offset));
        if !bytes.starts_with(b"PK\x03\x04") {
            return Err(broken());
        }
        let (name, extra) =
            (u16_at(bytes, 26).ok_or_else(broken)?, u16_at(bytes, 28).ok_or_else(broken)?);
        if bytes.get(30..30 + usize::from(name)) != Some(&e.raw_name) {
            return Err(Error::corrupt(
                "the name in the zip directory differs from the one in the local header",
            ));
        }
        if u16_at(bytes, 8) != Some(e.method) {
            return Err(Error::corrupt(
                "the method in the zip directory differs from the one in the local header",
            ));
        }
        let skip = 30 + u64::from(name) + u64::from(extra);
        let offset = e.header_offset + skip;
        if offset.checked_add(e.stored_bytes).is_none_or(|end| end > self.directory_offset) {
            return Err(Error::corrupt("the member reaches into the zip directory"));
        }
        let mut head = bytes.get(skip as usize..).unwrap_or_default().to_vec();
        head.truncate(usize::try_from(e.stored_bytes).unwrap_or(usize::MAX));
        Ok((offset, head))
    }

    /// A member's bytes in order; `data_offset` as found before.
    ///
    /// # Errors
    /// Members that cannot be decoded.
    pub fn member(&self, member: usize, data_offset: u64) -> Result<Member> {
        let e = &self.entries[member];
        e.check()?;
        let stored = StoredBytes {
            blob: self.blob.clone(),
            at: data_offset,
            end: data_offset + e.stored_bytes,
        };
        let buffer = if self.blob.file().is_some() { 128 << 10 } else { 4 << 20 };
        let reader =
            BufReader::with_capacity((e.stored_bytes.min(buffer) as usize).max(64), stored);
        let body = if e.method == 8 {
            Body::Deflate(ForeignReader::new("flate2", DeflateDecoder::new(reader)))
        } else {
            Body::Stored(reader)
        };
        Ok(Member {
            body,
            crc: crc32fast::Hasher::new(),
            want_crc: self.crc_of(e),
            left: e.bytes,
            stored_bytes: e.stored_bytes,
        })
    }
}

/// One entry of the central directory, and where the next begins.
fn central(directory: &[u8], at: usize, shift: u64) -> Option<(Entry, usize)> {
    let bytes = directory.get(at..)?;
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, extra, comment) = (
        usize::from(u16_at(bytes, 28)?),
        usize::from(u16_at(bytes, 30)?),
        usize::from(u16_at(bytes, 32)?),
    );
    let raw_name = bytes.get(46..46 + name)?.to_vec();
    let flags = u16_at(bytes, 8)?;
    let mut stored_bytes = u64::from(u32_at(bytes, 20)?);
    let mut decoded = u64::from(u32_at(bytes, 24)?);
    let mut offset = u64::from(u32_at(bytes, 42)?);
    let mut extras = bytes.get(46 + name..46 + name + extra)?;
    while extras.len() >= 4 {
        let (id, len) = (u16_at(extras, 0)?, usize::from(u16_at(extras, 2)?));
        let Some(field) = extras.get(4..4 + len) else { break };
        if id == 1 {
            let mut at = 0;
            for value in [&mut decoded, &mut stored_bytes, &mut offset] {
                if *value == u64::from(u32::MAX) {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
            }
        }
        extras = &extras[4 + len..];
    }
    let name_text =
        if flags & 0x800 != 0 {
            String::from_utf8(raw_name.clone()).ok()?
        } else {
            raw_name
                .iter()
                .map(|&b| {
                    if b < 128 { Some(b as char) } else { CP437.chars().nth(usize::from(b) - 128) }
                })
                .collect::<Option<_>>()?
        };
    let entry = Entry {
        name: name_text,
        method: u16_at(bytes, 10)?,
        crc: u32_at(bytes, 16)?,
        stored_bytes,
        bytes: decoded,
        flags,
        header_offset: offset.checked_add(shift)?,
        raw_name,
    };
    let next = 46 + name + extra + comment;
    bytes.get(..next)?;
    Some((entry, at + next))
}

/// The stored bytes of a member.
struct StoredBytes {
    blob: Arc<dyn Blob>,
    at: u64,
    end: u64,
}

impl Read for StoredBytes {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = (buf.len() as u64).min(self.end - self.at) as usize;
        self.blob.read_at(self.at, &mut buf[..n]).map_err(std::io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

enum Body {
    Stored(BufReader<StoredBytes>),
    Deflate(ForeignReader<DeflateDecoder<BufReader<StoredBytes>>>),
}

/// A member being decoded.
pub struct Member {
    body: Body,
    crc: crc32fast::Hasher,
    want_crc: Option<u32>,
    left: u64,
    stored_bytes: u64,
}

impl Member {
    /// The next `len` bytes.
    ///
    /// # Errors
    /// Corrupt where they do not come.
    pub fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > self.left {
            return Err(Error::corrupt(format!(
                "{len} bytes are needed from a member that has {} left",
                self.left
            )));
        }
        // The announced size was compared with the stored one: it is at most 1040 times as large.
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(len as usize)
            .map_err(|_| Error::failed(format!("no memory for {len} bytes")))?;
        let done = match &mut self.body {
            Body::Stored(r) => r.take(len).read_to_end(&mut bytes),
            Body::Deflate(r) => r.take(len).read_to_end(&mut bytes),
        };
        done.map_err(wrong)?;
        if (bytes.len() as u64) < len {
            return Err(Error::corrupt(format!(
                "the member ends {} bytes early",
                self.left - bytes.len() as u64
            )));
        }
        self.crc.update(&bytes);
        self.left -= len;
        Ok(bytes)
    }

    /// After the last byte: nothing follows, and the CRC is right.
    ///
    /// # Errors
    /// Corrupt.
    pub fn finish(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::corrupt(format!(
                "the member has {} bytes that its header does not account for",
                self.left
            )));
        }
        if let Body::Deflate(decoder) = &mut self.body {
            let mut one = [0u8];
            if decoder.read(&mut one).map_err(wrong)? > 0 {
                return Err(Error::corrupt("the member is longer than the zip directory says"));
            }
            if decoder.decoder().total_in() != self.stored_bytes {
                return Err(Error::corrupt("extra bytes follow the deflated data"));
            }
        }
        let crc = std::mem::take(&mut self.crc).finalize();
        self.want_crc.map_or(Ok(()), |want| check_crc(crc, want))
    }
}

/// Compares a CRC with the announced one.
///
/// # Errors
/// Corrupt.
pub fn check_crc(got: u32, want: u32) -> Result<()> {
    if got == want {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the checksum (CRC-32) of the member is {got:08x}, expected {want:08x}: the data is damaged"
    )))
}

fn wrong(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            Error::corrupt("the deflated data is broken").because(error)
        }
        std::io::ErrorKind::UnexpectedEof => Error::corrupt("the deflated data ends too early"),
        _ => Error::reading(error),
    }
}
