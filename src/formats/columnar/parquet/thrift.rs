//! The parts of Thrift's compact protocol that page headers and a first look at the footer need.

use std::collections::HashSet;
use std::ops::Range;

/// Schemas nested deeper than this are refused: they are read recursively.
pub(super) const MAX_SCHEMA_DEPTH: usize = 64;

/// A reader of compact-protocol bytes. `None` where they end or make no sense.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
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
        self.at = usize::try_from(n)
            .ok()
            .and_then(|n| self.at.checked_add(n))
            .filter(|&e| e <= self.bytes.len())?;
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
                (0..n).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            11 => {
                let n = self.varint()?;
                if n == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..n).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 15, depth + 1)
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

    /// An element of a list or a map: a bool has a byte of its own there, so that a count without
    /// end runs out of bytes.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        if kind <= 2 { self.advance(1) } else { self.skip(kind, depth) }
    }
}

/// What must be known of a footer before the crate reads it, and what the crate does not tell.
#[derive(Debug, Default)]
pub(super) struct FooterFacts {
    /// Whether the schema is nested too deeply to be read by recursion.
    pub(super) too_deep: bool,
    /// Column chunks that are encrypted: row group, column.
    pub(super) encrypted: HashSet<(usize, usize)>,
    /// Column chunks of all row groups.
    pub(super) chunks: u64,
    /// Texts that are not UTF-8.
    pub(super) not_utf8: Vec<Range<usize>>,
    /// The keys of the metadata whose key or value is among them.
    pub(super) lost_keys: Vec<String>,
}

impl FooterFacts {
    /// Goes through the bytes of a footer; `None` where they make no sense.
    pub(super) fn of(footer: &[u8]) -> Option<FooterFacts> {
        let mut c = Compact { bytes: footer, at: 0 };
        let mut facts = FooterFacts::default();
        let mut last = 0;
        while let Some((kind, id)) = c.field(&mut last)? {
            match (id, kind) {
                (2, LIST) => {
                    if facts.schema(&mut c)? {
                        facts.too_deep = true;
                        return Some(facts);
                    }
                }
                (4, LIST) => {
                    (0..c.list()?.1).try_for_each(|g| facts.row_group(&mut c, g as usize))?
                }
                (5, LIST) => (0..c.list()?.1).try_for_each(|_| facts.key_value(&mut c))?,
                // Who wrote it is not told on.
                (6, BINARY) => _ = facts.text(&mut c)?,
                _ => c.skip(kind, 0)?,
            }
        }
        Some(facts)
    }

    /// Whether the schema is too deep.
    fn schema(&mut self, c: &mut Compact<'_>) -> Option<bool> {
        let (_, n) = c.list()?;
        // How many children each open group still waits for.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..n {
            let mut children = 0;
            let mut last = 0;
            while let Some((kind, id)) = c.field(&mut last)? {
                if (id, kind) == (5, I32) {
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
                return Some(true);
            }
        }
        Some(false)
    }

    fn row_group(&mut self, c: &mut Compact<'_>, g: usize) -> Option<()> {
        let mut last = 0;
        while let Some((kind, id)) = c.field(&mut last)? {
            if (id, kind) != (1, LIST) {
                c.skip(kind, 0)?;
                continue;
            }
            for column in 0..c.list()?.1 as usize {
                self.chunks += 1;
                let mut last = 0;
                while let Some((kind, id)) = c.field(&mut last)? {
                    if matches!(id, 8 | 9) {
                        self.encrypted.insert((g, column));
                    }
                    c.skip(kind, 1)?;
                }
            }
        }
        Some(())
    }

    fn key_value(&mut self, c: &mut Compact<'_>) -> Option<()> {
        let (mut key, mut good) = (Vec::new(), true);
        let mut last = 0;
        while let Some((kind, id)) = c.field(&mut last)? {
            if !matches!((id, kind), (1 | 2, BINARY)) {
                c.skip(kind, 1)?;
                continue;
            }
            let (text, is_utf8) = self.text(c)?;
            good &= is_utf8;
            if id == 1 {
                key = text
                    .iter()
                    .map(|&b| if is_utf8 || b.is_ascii() { b } else { b'?' })
                    .collect::<Vec<u8>>();
            }
        }
        if !good {
            self.lost_keys.push(String::from_utf8_lossy(&key).into_owned());
        }
        Some(())
    }

    /// The next text, and whether it is UTF-8.
    fn text<'a>(&mut self, c: &mut Compact<'a>) -> Option<(&'a [u8], bool)> {
        let n = c.varint()?;
        let start = c.at;
        c.advance(n)?;
        let text = &c.bytes[start..c.at];
        let good = std::str::from_utf8(text).is_ok();
        if !good {
            self.not_utf8.push(start..c.at);
        }
        Some((text, good))
    }
}

/// What a page's header says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageHeader {
    /// 0: data, 1: index, 2: dictionary, 3: data version 2.
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    pub(super) crc: Option<i64>,
    pub(super) values: i64,
    /// The encoding of the values, by its number in Parquet.
    pub(super) encoding: i64,
    /// Encodings of the definition and repetition levels (3: RLE).
    pub(super) level_encodings: (i64, i64),
    /// Whether the values of a dictionary are sorted.
    pub(super) sorted: bool,
    /// Nulls and rows, version 2.
    pub(super) nulls: i64,
    pub(super) rows: Option<i64>,
    /// Bytes of the levels, version 2: definition, repetition.
    pub(super) level_bytes: (i64, i64),
    /// Whether the values are not compressed although the column is, version 2.
    pub(super) plain: bool,
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
            (1, I32) => header.kind = c.zigzag()?,
            (2, I32) => header.uncompressed = c.zigzag()?,
            (3, I32) => header.compressed = c.zigzag()?,
            (4, I32) => header.crc = Some(c.zigzag()?),
            (5 | 7 | 8, STRUCT) => page_details(&mut c, id, &mut header)?,
            _ => c.skip(kind, 0)?,
        }
    }
    header.header_bytes = c.at as u64;
    Some(header)
}

/// The header of a data page (5), a dictionary (7), a data page of version 2 (8).
fn page_details(c: &mut Compact<'_>, id: i64, header: &mut PageHeader) -> Option<()> {
    let mut last = 0;
    while let Some((kind, field)) = c.field(&mut last)? {
        match (id, field, kind) {
            (_, 1, I32) => header.values = c.zigzag()?,
            (5 | 7, 2, I32) | (8, 4, I32) => header.encoding = c.zigzag()?,
            (5, 3, I32) => header.level_encodings.0 = c.zigzag()?,
            (5, 4, I32) => header.level_encodings.1 = c.zigzag()?,
            (7, 3, TRUE) => header.sorted = true,
            (8, 2, I32) => header.nulls = c.zigzag()?,
            (8, 3, I32) => header.rows = Some(c.zigzag()?),
            (8, 5, I32) => header.level_bytes.0 = c.zigzag()?,
            (8, 6, I32) => header.level_bytes.1 = c.zigzag()?,
            (8, 7, FALSE) => header.plain = true,
            _ => c.skip(kind, 1)?,
        }
    }
    Some(())
}

/// Where the parts of what the crate writes at the end of a file are.
#[derive(Debug)]
pub(super) struct FooterParts {
    /// Indexes of pages, in their order.
    pub(super) indexes: Vec<Range<usize>>,
    /// The number of rows, as a field.
    pub(super) rows: Range<usize>,
    /// The row groups, as a field.
    pub(super) groups: Range<usize>,
    /// Of each column chunk the fields before those that place its indexes.
    pub(super) chunks: Vec<Range<usize>>,
    /// The end of the footer.
    pub(super) end: usize,
}

impl FooterParts {
    /// Finds them behind so many indexes; `None` where the bytes make no sense.
    pub(super) fn of(bytes: &[u8], indexes: usize) -> Option<FooterParts> {
        let mut c = Compact { bytes, at: 0 };
        let mut index = |_| {
            let start = c.at;
            c.skip(STRUCT, 0)?;
            Some(start..c.at)
        };
        let indexes = (0..indexes).map(&mut index).collect::<Option<_>>()?;
        let (mut rows, mut groups, mut chunks, mut last) = (0..0, 0..0, Vec::new(), 0);
        loop {
            let start = c.at;
            let Some((kind, id)) = c.field(&mut last)? else { break };
            match (id, kind) {
                (4, LIST) => {
                    for _ in 0..c.list()?.1 {
                        row_group_chunks(&mut c, &mut chunks)?;
                    }
                    groups = start..c.at;
                }
                _ => c.skip(kind, 0)?,
            }
            if id == 3 {
                rows = start..c.at;
            }
        }
        let follows = rows.end == groups.start && !groups.is_empty();
        follows.then_some(FooterParts { indexes, rows, groups, chunks, end: c.at })
    }
}

fn row_group_chunks(c: &mut Compact<'_>, chunks: &mut Vec<Range<usize>>) -> Option<()> {
    let mut last = 0;
    while let Some((kind, id)) = c.field(&mut last)? {
        if (id, kind) != (1, LIST) {
            c.skip(kind, 0)?;
            continue;
        }
        for _ in 0..c.list()?.1 {
            let (start, mut end, mut last) = (c.at, c.at, 0);
            while let Some((kind, id)) = c.field(&mut last)? {
                c.skip(kind, 1)?;
                if id <= 3 {
                    end = c.at;
                }
            }
            chunks.push(start..end);
        }
    }
    Some(())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63) as u64);
}

/// A field of a number that is `delta` behind the last one.
fn put_number(out: &mut Vec<u8>, kind: u8, delta: u8, value: i64) {
    out.push(delta << 4 | kind);
    put_zigzag(out, value);
}

fn put_structs(out: &mut Vec<u8>, count: usize) -> Option<()> {
    let count = i32::try_from(count).ok()?;
    match count {
        0..15 => out.push((count as u8) << 4 | STRUCT),
        _ => {
            out.push(0xF0 | STRUCT);
            put_varint(out, count as u64);
        }
    }
    Some(())
}

/// A length of four bytes.
pub(super) fn put_size(out: &mut Vec<u8>, size: usize) -> Option<()> {
    out.extend_from_slice(&u32::try_from(size).ok()?.to_le_bytes());
    Some(())
}

/// The fields of a column chunk ([`FooterParts::chunks`]) whose pages begin so many bytes later.
pub(super) fn moved_chunk(fields: &[u8], by: i64) -> Option<Vec<u8>> {
    let (mut c, mut out) = (Compact { bytes: fields, at: 0 }, Vec::with_capacity(fields.len() + 8));
    let mut last = 0;
    while c.at < fields.len() {
        let start = c.at;
        let (kind, id) = c.field(&mut last)??;
        if (id, kind) == (3, STRUCT) {
            out.extend_from_slice(&fields[start..c.at]);
            // The places of data, index and dictionary pages.
            moved_fields(&mut c, &mut out, &[9, 10, 11], by)?;
        } else {
            c.skip(kind, 0)?;
            out.extend_from_slice(&fields[start..c.at]);
        }
    }
    Some(out)
}

/// An index of pages that begin so many bytes later.
pub(super) fn moved_locations(index: &[u8], by: i64) -> Option<Vec<u8>> {
    let (mut c, mut out) = (Compact { bytes: index, at: 0 }, Vec::with_capacity(index.len() + 8));
    let mut last = 0;
    loop {
        let start = c.at;
        let field = c.field(&mut last)?;
        if field == Some((LIST, 1)) {
            let (_, count) = c.list()?;
            out.extend_from_slice(&index[start..c.at]);
            (0..count).try_for_each(|_| moved_fields(&mut c, &mut out, &[1], by))?;
            continue;
        }
        field.map_or(Some(()), |(kind, _)| c.skip(kind, 0))?;
        out.extend_from_slice(&index[start..c.at]);
        if field.is_none() {
            return Some(out);
        }
    }
}

/// Copies a struct with its end; numbers in these fields become so much larger.
fn moved_fields(c: &mut Compact<'_>, out: &mut Vec<u8>, places: &[i64], by: i64) -> Option<()> {
    let mut last = 0;
    loop {
        let start = c.at;
        let Some((kind, id)) = c.field(&mut last)? else {
            out.push(0);
            return Some(());
        };
        if kind == I64 && places.contains(&id) {
            out.extend_from_slice(&c.bytes[start..c.at]);
            put_zigzag(out, c.zigzag()?.checked_add(by)?);
        } else {
            c.skip(kind, 0)?;
            out.extend_from_slice(&c.bytes[start..c.at]);
        }
    }
}

/// A column chunk of these fields, whose indexes (of columns, of offsets) are at these places and
/// have these lengths; 0 where it has none.
pub(super) fn put_chunk(out: &mut Vec<u8>, fields: &[u8], at: [u64; 2], lengths: [usize; 2]) {
    out.extend_from_slice(fields);
    let mut delta = 1;
    for i in [1, 0] {
        if lengths[i] == 0 {
            delta += 2;
            continue;
        }
        put_number(out, I64, delta, at[i] as i64);
        put_number(out, I32, 1, lengths[i] as i64);
        delta = 1;
    }
    out.push(0);
}

/// The parts of a footer around the column chunks.
pub(super) mod put_group {
    use super::{I16, I64, LIST, put_number, put_structs};

    /// The fields of a file's rows and of the list of its row groups.
    pub(in super::super) fn file(out: &mut Vec<u8>, rows: i64, groups: usize) -> Option<()> {
        put_number(out, I64, 1, rows);
        out.push(1 << 4 | LIST);
        put_structs(out, groups)
    }

    /// A row group of so many chunks begins.
    pub(in super::super) fn begin(out: &mut Vec<u8>, chunks: usize) -> Option<()> {
        out.push(1 << 4 | LIST);
        put_structs(out, chunks)
    }

    /// It ends: its bytes unpacked, its rows, its place, its bytes packed; its number.
    pub(in super::super) fn end(out: &mut Vec<u8>, sizes: [i64; 4], ordinal: Option<i64>) {
        for (size, delta) in sizes.into_iter().zip([1, 1, 2, 1]) {
            put_number(out, I64, delta, size);
        }
        if let Some(ordinal) = ordinal {
            put_number(out, I16, 1, ordinal);
        }
        out.push(0);
    }
}
