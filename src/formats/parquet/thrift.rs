//! The parts of Thrift's compact protocol that page headers and a check of the schema's depth need.

use crate::error::{Error, Result};

/// Schemas nested deeper than this are refused: they are read recursively.
const MAX_SCHEMA_DEPTH: usize = 64;

/// A reader of compact-protocol bytes. `None` where they end or make no sense.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

const STRUCT: u8 = 12;

impl<'a> Compact<'a> {
    fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            value |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    fn zigzag(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }
    fn advance(&mut self, n: u64) -> Option<()> {
        self.at = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n)).filter(|&e| e <= self.bytes.len())?;
        Some(())
    }
    /// The next field's type and number; `Some(None)` at the end of the struct.
    fn field(&mut self, last: &mut i64) -> Option<Option<(u8, i64)>> {
        let b = self.byte()?;
        if b == 0 {
            return Some(None);
        }
        let delta = i64::from(b >> 4);
        *last = if delta == 0 { self.zigzag()? } else { *last + delta };
        Some(Some((b & 15, *last)))
    }
    fn list(&mut self) -> Option<(u8, u64)> {
        let b = self.byte()?;
        let n = if b >> 4 == 15 { self.varint()? } else { u64::from(b >> 4) };
        Some((b & 15, n))
    }
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > 32 {
            return None;
        }
        match kind {
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let n = self.varint()?;
                self.advance(n)
            }
            9 | 10 => {
                let (kind, n) = self.list()?;
                (0..n).try_for_each(|_| if kind <= 2 { self.advance(1) } else { self.skip(kind, depth + 1) })
            }
            11 => {
                let n = self.varint()?;
                if n == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..n).try_for_each(|_| {
                    self.skip(kinds >> 4, depth + 1)?;
                    self.skip(kinds & 15, depth + 1)
                })
            }
            STRUCT => {
                let mut last = 0;
                while let Some((kind, _)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

/// Refuses a schema that is nested too deeply to be read by recursion.
pub(super) fn check_depth(footer: &[u8]) -> Result<()> {
    match depth(footer) {
        Some(true) => Ok(()),
        Some(false) => Err(Error::refused(format!("a schema nested more than {MAX_SCHEMA_DEPTH} deep is not supported"))),
        None => Err(Error::corrupt("the footer cannot be read")),
    }
}

fn depth(footer: &[u8]) -> Option<bool> {
    let mut c = Compact { bytes: footer, at: 0 };
    let mut last = 0;
    while let Some((kind, id)) = c.field(&mut last)? {
        if id != 2 || kind != 9 {
            c.skip(kind, 0)?;
            continue;
        }
        let (_, n) = c.list()?;
        // How many children each open group still waits for.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..n {
            let mut children = 0;
            let mut last = 0;
            while let Some((kind, id)) = c.field(&mut last)? {
                if id == 5 && kind == 5 {
                    children = c.zigzag()?;
                } else {
                    c.skip(kind, 1)?;
                }
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > n as i64 {
                return None; // the crate makes room for them
            }
            if children > 0 {
                open.push(children);
            }
            while open.last().is_some_and(|&left| left <= 0) {
                open.pop();
            }
            if open.len() > MAX_SCHEMA_DEPTH {
                return Some(false);
            }
        }
        return Some(true);
    }
    Some(true)
}

/// What a page's header says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageHeader {
    /// 0: data, 1: index, 2: dictionary, 3: data version 2.
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    pub(super) values: i64,
    /// Encodings of the definition and repetition levels (3: RLE).
    pub(super) level_encodings: (i64, i64),
    /// Bytes of the levels, version 2: definition, repetition.
    pub(super) level_bytes: (i64, i64),
    /// Bytes of this header.
    pub(super) header_bytes: u64,
}

/// Reads a page header at the start of `bytes`; `None` where they end too early or make no sense.
pub(super) fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut c = Compact { bytes, at: 0 };
    let mut header = PageHeader::default();
    let mut last = 0;
    while let Some((kind, id)) = c.field(&mut last)? {
        match (id, kind) {
            (1, 5) => header.kind = c.zigzag()?,
            (2, 5) => header.uncompressed = c.zigzag()?,
            (3, 5) => header.compressed = c.zigzag()?,
            (5 | 7 | 8, STRUCT) => {
                let mut last = 0;
                while let Some((kind, field)) = c.field(&mut last)? {
                    match (id, field, kind) {
                        (_, 1, 5) => header.values = c.zigzag()?,
                        (5, 3, 5) => header.level_encodings.0 = c.zigzag()?,
                        (5, 4, 5) => header.level_encodings.1 = c.zigzag()?,
                        (8, 5, 5) => header.level_bytes.0 = c.zigzag()?,
                        (8, 6, 5) => header.level_bytes.1 = c.zigzag()?,
                        _ => c.skip(kind, 1)?,
                    }
                }
            }
            _ => c.skip(kind, 0)?,
        }
    }
    header.header_bytes = c.at as u64;
    Some(header)
}
