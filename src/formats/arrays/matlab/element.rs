//! Elements of version 5: their tags, and reading one after the other.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Dtype;
use crate::storage::{Blob, BlobSlice};

/// A type of the specification that numbers are stored in.
pub(super) fn stored_dtype(number: u32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::I8,
        2 => Dtype::U8,
        3 => Dtype::I16,
        4 => Dtype::U16,
        5 => Dtype::I32,
        6 => Dtype::U32,
        7 => Dtype::F32,
        9 => Dtype::F64,
        12 => Dtype::I64,
        13 => Dtype::U64,
        _ => return None,
    })
}

pub(super) const MATRIX: u32 = 14;
pub(super) const PACKED: u32 = 15;
pub(super) const UTF8: u32 = 16;
pub(super) const UTF16: u32 = 17;
pub(super) const UTF32: u32 = 18;

/// A tag, and where its data are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    pub kind: u32,
    /// The first byte of the data.
    pub start: u64,
    /// Bytes of the data.
    pub len: u64,
    /// Where the next element begins.
    pub next: u64,
}

/// Reads elements of a run of bytes, one after the other.
#[derive(Clone)]
pub(super) struct Cursor {
    pub bytes: Arc<dyn Blob>,
    pub big: bool,
    pub at: u64,
    pub end: u64,
}

impl Cursor {
    pub fn new(bytes: Arc<dyn Blob>, big: bool, at: u64, end: u64) -> Cursor {
        Cursor { bytes, big, at, end }
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The next element, of which the tag is read; its data must be within the run. `filled`:
    /// whether data are filled up to 8 bytes.
    pub fn tag(&mut self, what: &str, filled: bool) -> Result<Tag> {
        let left = self.end.saturating_sub(self.at);
        if left < 8 {
            return Err(Error::corrupt(format!(
                "{what} should be at byte {}, {left} bytes are left there",
                self.at
            )));
        }
        let mut head = [0; 8];
        self.bytes.read_at(self.at, &mut head)?;
        let [a, b, c, d, ..] = head;
        let first = self.u32([a, b, c, d]);
        let tag = if first >> 16 != 0 {
            let (kind, len) = (first & 0xffff, u64::from(first >> 16));
            if len > 4 {
                return Err(Error::corrupt(format!("{what}: a short element has {len} bytes")));
            }
            Tag { kind, start: self.at + 4, len, next: self.at + 8 }
        } else {
            let [.., e, f, g, h] = head;
            let len = u64::from(self.u32([e, f, g, h]));
            let whole = if filled { len.next_multiple_of(8) } else { len };
            Tag { kind: first, start: self.at + 8, len, next: self.at + 8 + whole }
        };
        if tag.start + tag.len > self.end {
            return Err(Error::corrupt(format!(
                "{what} at byte {} has {} bytes, only {} are left",
                self.at,
                tag.len,
                self.end.saturating_sub(tag.start)
            )));
        }
        // What fills up the last element is sometimes left out.
        self.at = tag.next.min(self.end);
        Ok(tag)
    }

    /// The data of an element, at most `most` bytes.
    pub fn data(&self, tag: &Tag, what: &str, most: u64) -> Result<Vec<u8>> {
        if tag.len > most {
            return Err(Error::refused(format!(
                "{what} has {} bytes, at most {most} are supported",
                tag.len
            )));
        }
        self.bytes.read_vec(tag.start, tag.len)
    }

    /// An element of small whole numbers: dimensions, indices.
    pub fn integers(&mut self, what: &str, most: u64) -> Result<Vec<u32>> {
        let tag = self.tag(what, true)?;
        if !matches!(tag.kind, 5 | 6) || !tag.len.is_multiple_of(4) {
            return Err(Error::corrupt(format!(
                "{what} is an element of type {} and {} bytes",
                tag.kind, tag.len
            )));
        }
        let data = self.data(&tag, what, most)?;
        Ok(data.as_chunks::<4>().0.iter().map(|b| self.u32(*b)).collect())
    }

    /// An element of characters: a name.
    pub fn name(&mut self, what: &str, most: u64) -> Result<Vec<u8>> {
        let tag = self.tag(what, true)?;
        if !matches!(tag.kind, 1 | 2 | UTF8) {
            return Err(Error::corrupt(format!("{what} is an element of type {}", tag.kind)));
        }
        self.data(&tag, what, most)
    }

    /// The bytes of an element, to be read later.
    pub fn slice(&self, tag: &Tag) -> BlobSlice {
        BlobSlice { blob: self.bytes.clone(), start: tag.start, len: tag.len }
    }
}

/// A name as text: UTF-8, or Latin-1 where it is not.
pub(super) fn name_text(bytes: &[u8]) -> String {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => text.to_string(),
        Err(_) => bytes[..end].iter().map(|&b| char::from(b)).collect(),
    }
}
