//! One page: unpacked within the memory limit, and its values counted against its bytes, before the
//! `parquet` crate sees it.
//!
//! The crate makes room for what headers announce, and trusts lengths inside of pages. So all of
//! them are checked here: sizes, checksums, levels, and for each encoding whether the bytes hold
//! the values that are due.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::{Compression, Type as Physical};

use super::delta::{self, Due};
use super::levels::{Levels, bits_of, largest, runs};
use super::parts::{Cut, Cutter, PageRows, Texts};
use super::thrift::PageHeader;
use crate::arrow_model::MemoryLimit;
use crate::codec::block::{lz4_block, snappy_block, zstd_block};
use crate::codec::decompress::{Wrapper, inflate};
use crate::codec::limit::{Limit, room};
use crate::error::{Error, ForeignReader, Result};

/// Kinds of pages, by their numbers in Parquet.
pub(super) const DATA: i64 = 0;
pub(super) const DICTIONARY: i64 = 2;
pub(super) const DATA_V2: i64 = 3;
/// Encodings, by their numbers in Parquet.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const BIT_PACKED: i64 = 4;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;
const BYTE_STREAM_SPLIT: i64 = 9;

/// Whether the values of a page are codes of a dictionary.
pub(super) fn is_coded(encoding: i64) -> bool {
    matches!(encoding, PLAIN_DICTIONARY | RLE_DICTIONARY)
}

/// Whether texts of this encoding may take more unpacked than the bytes of the page.
pub(super) fn may_grow(encoding: i64) -> bool {
    is_coded(encoding) || encoding == DELTA_BYTE_ARRAY
}

/// What is stored in a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) physical: Physical,
    /// Bytes of a value of fixed length.
    pub(super) length: u64,
    pub(super) max_def: i16,
    pub(super) max_rep: i16,
}

impl Element {
    /// Bits of a value; `None` for texts, which differ.
    fn bits(&self) -> Option<u64> {
        Some(match self.physical {
            Physical::BOOLEAN => 1,
            Physical::INT32 | Physical::FLOAT => 32,
            Physical::INT64 | Physical::DOUBLE => 64,
            Physical::INT96 => 96,
            Physical::FIXED_LEN_BYTE_ARRAY => self.length.saturating_mul(8),
            Physical::BYTE_ARRAY => return None,
        })
    }
}

/// The bytes of a page as its header tells, before they are read.
///
/// # Errors
/// Corrupt where the page cannot unpack to the size that is announced; refused past the limit.
/// `held`: what is kept beside it.
pub(super) fn check_sizes(
    header: &PageHeader,
    codec: Compression,
    limit: MemoryLimit,
    held: u64,
) -> Result<()> {
    let negative = || {
        Error::corrupt(format!(
            "a page has {} bytes, unpacked {}",
            header.compressed, header.uncompressed
        ))
    };
    let stored = u64::try_from(header.compressed).map_err(|_| negative())?;
    let unpacked = u64::try_from(header.uncompressed).map_err(|_| negative())?;
    if header.values < 0 || header.nulls < 0 || header.rows.is_some_and(|rows| rows < 0) {
        return Err(Error::corrupt(format!(
            "a page has {} values, {} of them null",
            header.values, header.nulls
        )));
    }
    if header.level_bytes.0 < 0
        || header.level_bytes.1 < 0
        || header.level_bytes.0.saturating_add(header.level_bytes.1) > stored as i64
    {
        let (def, rep) = header.level_bytes;
        return Err(Error::corrupt(format!(
            "the levels of a page have {def} and {rep} bytes, the page has {stored}"
        )));
    }
    // The most that a byte unpacks to.
    let factor = match codec {
        Compression::UNCOMPRESSED => return limit.check("a page", stored.saturating_add(held)),
        Compression::SNAPPY => 64,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => 1100,
        _ => u64::MAX,
    };
    if unpacked > stored.saturating_mul(factor).saturating_add(1024) {
        return Err(Error::corrupt(format!(
            "a page of {stored} bytes cannot unpack to the {unpacked} that it announces"
        )));
    }
    limit.check(
        &format!("a page of {unpacked} bytes"),
        stored.saturating_add(unpacked).saturating_add(held),
    )
}

/// Unpacks a page whose sizes were checked: levels and values.
///
/// # Errors
/// Corrupt; refused for LZO.
pub(super) fn unpacked(header: &PageHeader, page: Bytes, codec: Compression) -> Result<Bytes> {
    if let Some(crc) = header.crc
        && crc as u32 != crc32fast::hash(&page)
    {
        return Err(Error::corrupt("the checksum (CRC-32) of a page differs"));
    }
    if codec == Compression::UNCOMPRESSED || header.plain {
        return Ok(page);
    }
    // The levels of version 2 come first, as they are.
    let levels = if header.kind == DATA_V2 {
        (header.level_bytes.0 + header.level_bytes.1) as usize
    } else {
        0
    };
    let short = || Error::corrupt(format!("a page of {} bytes has levels of {levels}", page.len()));
    let (levels, packed) = page.split_at_checked(levels).ok_or_else(short)?;
    let due = (header.uncompressed as usize).checked_sub(levels.len()).ok_or_else(short)?;
    if due == 0 {
        return Ok(page.slice(..levels.len()));
    }
    let values = decompressed(packed, due, codec)?;
    if values.len() != due {
        return Err(Error::corrupt(format!(
            "a page unpacks to {} bytes, {due} were announced",
            values.len()
        )));
    }
    if levels.is_empty() {
        return Ok(values.into());
    }
    let mut whole = room(header.uncompressed as usize)?;
    whole.extend_from_slice(levels);
    whole.extend_from_slice(&values);
    Ok(whole.into())
}

fn decompressed(packed: &[u8], due: usize, codec: Compression) -> Result<Vec<u8>> {
    let block = |decode: fn(&[u8], &mut [u8]) -> Result<()>| {
        let mut out = vec![0; due];
        decode(packed, &mut out).map(|()| out)
    };
    match codec {
        Compression::SNAPPY => block(snappy_block),
        Compression::LZ4_RAW => block(lz4_block),
        Compression::LZ4 => lz4(packed, due),
        Compression::GZIP(_) => inflate(packed, Wrapper::Gzip, Limit::exactly(due)),
        Compression::ZSTD(_) => block(zstd_block),
        Compression::BROTLI(_) => {
            // Its size was compared with the limit: it is not grown, for that takes twice as much.
            let mut out = vec![0; due];
            let mut decoder = ForeignReader::new("brotli", brotli::Decompressor::new(packed, 4096));
            let end = decoder.read_exact(&mut out).and_then(|()| decoder.read(&mut [0]));
            match end.map_err(|e| Error::corrupt("the brotli data is damaged").because(e))? {
                0 => Ok(out),
                _ => Err(Error::corrupt(format!(
                    "a page unpacks to more than the {due} bytes that it announces"
                ))),
            }
        }
        other => Err(Error::refused(format!("the compression {other} is not supported"))),
    }
}

/// What LZ4 frames begin with.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The old LZ4: what Hadoop wrote (size, stored size and a block, repeated), or as other writers
/// took it, a frame or a block.
fn lz4(packed: &[u8], due: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; due];
    if hadoop(packed, &mut out).is_some() {
        return Ok(out);
    }
    let framed =
        crate::codec::decompress::Compression::Lz4Frame.decode(packed, Limit::exactly(due));
    match framed {
        Ok(framed) if framed.len() == due => Ok(framed),
        framed => match (lz4_block(packed, &mut out), framed) {
            (Ok(()), _) => Ok(out),
            // What begins as a frame is told of as one.
            (Err(_), Err(e)) if packed.starts_with(&LZ4_FRAME) => Err(e),
            (Err(e), _) => Err(e),
        },
    }
}

fn hadoop(mut packed: &[u8], mut out: &mut [u8]) -> Option<()> {
    while !packed.is_empty() {
        let (size, rest) = packed.split_first_chunk::<4>()?;
        let (stored, rest) = rest.split_first_chunk::<4>()?;
        let (block, rest) = rest.split_at_checked(u32::from_be_bytes(*stored) as usize)?;
        let (part, behind) =
            std::mem::take(&mut out).split_at_mut_checked(u32::from_be_bytes(*size) as usize)?;
        lz4_block(block, part).ok()?;
        (packed, out) = (rest, behind);
    }
    out.is_empty().then_some(())
}

/// What a data page holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Values that are null, or missing because a list above them is empty or null.
    pub(super) nulls: u64,
    /// The lowest of its definition levels.
    pub(super) lowest: u32,
    /// Bit `n`: whether definition level `n` is among them, up to 127.
    pub(super) levels: u128,
    /// Rows that begin in it, and whether one does with its first value.
    pub(super) rows: u64,
    pub(super) begins_row: bool,
    /// Values before the first row that begins in it, and of the last row: of lists.
    pub(super) lead: u64,
    pub(super) tail: u64,
    /// Its rows in parts, where these were asked for and there are lists or texts.
    pub(super) parts: Vec<PageRows>,
    /// Where its values end.
    pub(super) end: usize,
}

/// Rows of lists, told by repetition levels.
#[derive(Default)]
struct ListRows {
    rows: u64,
    lead: u64,
    tail: u64,
    cutter: Option<Cutter>,
}

impl ListRows {
    fn run(&mut self, level: u32, n: u64) {
        if level != 0 {
            *if self.rows == 0 { &mut self.lead } else { &mut self.tail } += n;
            return;
        }
        if let Some(cutter) = &mut self.cutter {
            cutter.add(self.tail, u64::from(self.rows > 0));
            cutter.add(1, n - 1);
        }
        (self.rows, self.tail) = (self.rows + n, 1);
    }
    fn into_content(self, end: usize) -> Content {
        let mut content = Content {
            rows: self.rows,
            begins_row: self.lead == 0,
            lead: self.lead,
            tail: self.tail,
            end,
            ..Content::default()
        };
        if let Some(mut cutter) = self.cutter {
            cutter.add(self.tail, u64::from(self.rows > 0));
            content.parts = cutter.parts();
        }
        content
    }
}

/// The parts of an unpacked data page: repetition levels, definition levels, values.
struct Parts<'a> {
    rep: Levels<'a>,
    def: Levels<'a>,
    values: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(header: &PageHeader, element: &Element, page: &'a [u8]) -> Option<Parts<'a>> {
        let levels = |bytes, most, encoding| Levels { bytes, packed: encoding == BIT_PACKED, most };
        if header.kind == DATA_V2 {
            let (rep, rest) = page.split_at_checked(header.level_bytes.1 as usize)?;
            let (def, values) = rest.split_at_checked(header.level_bytes.0 as usize)?;
            return Some(Parts {
                rep: levels(rep, element.max_rep, RLE),
                def: levels(def, element.max_def, RLE),
                values,
            });
        }
        let mut rest = page;
        let mut take = |most: i16, encoding: i64| -> Option<Levels<'a>> {
            if most == 0 {
                return Some(levels(&[], most, RLE));
            }
            let length = match encoding {
                RLE => {
                    let (length, behind) = rest.split_first_chunk::<4>()?;
                    rest = behind;
                    u32::from_le_bytes(*length) as usize
                }
                BIT_PACKED => usize::try_from(
                    (header.values as u64).checked_mul(u64::from(bits_of(most)))?.div_ceil(8),
                )
                .ok()?,
                _ => return None,
            };
            let (bytes, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(levels(bytes, most, encoding))
        };
        let rep = take(element.max_rep, header.level_encodings.1)?;
        let def = take(element.max_def, header.level_encodings.0)?;
        Some(Parts { rep, def, values: rest })
    }
}

/// Where the values of a data page are, behind its levels.
pub(super) fn values_of(
    header: &PageHeader,
    element: &Element,
    page: &[u8],
) -> Option<std::ops::Range<usize>> {
    let values = Parts::of(header, element, page)?.values;
    Some(page.len() - values.len()..page.len())
}

/// Checks an unpacked data page. `cut`: where its parts are wanted; `room` is asked for memory
/// beside the page.
///
/// # Errors
/// Corrupt.
pub(super) fn check_data(
    header: &PageHeader,
    element: &Element,
    page: &[u8],
    dictionary: Option<&Dictionary>,
    cut: Option<Cut>,
    room: &dyn Fn(u64) -> Result<()>,
) -> Result<Content> {
    let all = header.values as u64;
    let parts = Parts::of(header, element, page)
        .ok_or_else(|| Error::corrupt("the levels of a page pass its end"))?;
    let mut content =
        Content { rows: all, begins_row: true, tail: 1, end: page.len(), ..Content::default() };
    let misfit = |what: &str| {
        Error::corrupt(format!("a page of {all} values has {what} levels that do not fit them"))
    };
    if element.max_rep > 0 {
        let mut rows = ListRows { cutter: cut.map(Cutter::new), ..ListRows::default() };
        parts
            .rep
            .runs(all, &mut |level, n| rows.run(level, n))
            .ok_or_else(|| misfit("repetition"))?;
        content = rows.into_content(page.len());
    }
    let mut present = all;
    if element.max_def > 0 {
        (present, content.lowest) = (0, element.max_def as u32);
        let each = &mut |level, n| {
            present += if level == element.max_def as u32 { n } else { 0 };
            content.lowest = content.lowest.min(level);
            content.levels |= 1u128.checked_shl(level).unwrap_or_default();
        };
        parts.def.runs(all, each).ok_or_else(|| misfit("definition"))?;
    }
    if header.kind == DATA_V2 && all.saturating_sub(header.nulls as u64) < present {
        return Err(Error::corrupt(format!(
            "a page of {all} values tells of {} nulls, and has {present} values",
            header.nulls
        )));
    }
    content.nulls = all - present;
    let due = Due { present, all };
    let mut texts = Texts::new(cut.filter(|_| element.max_rep == 0));
    if header.encoding == PLAIN && element.bits().is_none() {
        // The crate divides by what is left to read where bytes are left.
        let behind = plain_texts(parts.values, present, &mut texts)
            .ok_or_else(|| few_bytes(parts.values, present))?;
        content.end = page.len() - behind;
    } else {
        check_values(header, element, parts.values, due, dictionary, &mut texts, room)?;
    }
    if let Some(cuts) = texts.parts(parts.def, all) {
        content.parts = cuts;
    }
    Ok(content)
}

fn few_bytes(values: &[u8], present: u64) -> Error {
    Error::corrupt(format!("{} bytes are too few for the {present} values of a page", values.len()))
}

/// Checks that the bytes hold the values.
fn check_values(
    header: &PageHeader,
    element: &Element,
    values: &[u8],
    due: Due,
    dictionary: Option<&Dictionary>,
    texts: &mut Texts,
    room: &dyn Fn(u64) -> Result<()>,
) -> Result<()> {
    let Due { present, .. } = due;
    let few = || few_bytes(values, present);
    let held = values.len() as u64;
    match (header.encoding, element.bits()) {
        (PLAIN, Some(bits)) if bits.checked_mul(present).is_none_or(|n| n.div_ceil(8) > held) => {
            return Err(few());
        }
        (PLAIN, Some(_)) => {}
        (PLAIN_DICTIONARY | RLE_DICTIONARY, _) => return coded(values, present, dictionary, texts),
        (RLE, Some(1)) => {
            let (length, rest) = values.split_first_chunk::<4>().ok_or_else(few)?;
            let packed = rest.get(..u32::from_le_bytes(*length) as usize).ok_or_else(few)?;
            runs(packed, 1, present, &mut |_, _| true).ok_or_else(few)?;
        }
        (DELTA_BINARY_PACKED, Some(bits @ (32 | 64))) => {
            let (count, _) = delta::numbers(values, bits as u32, due.all, None)?;
            due.check(count)?;
        }
        (DELTA_LENGTH_BYTE_ARRAY, _) => {
            return delta::lengths(values, due, texts, room);
        }
        (DELTA_BYTE_ARRAY, _) => {
            return delta::prefixed(values, due, texts, room);
        }
        // Of more bytes than values the crate would take the wrong ones.
        (BYTE_STREAM_SPLIT, Some(bits)) => {
            let exact =
                bits.checked_mul(present).is_some_and(|bits| bits == held.saturating_mul(8));
            if !exact {
                return Err(Error::corrupt(format!(
                    "{held} bytes in separate streams do not make the {present} values of a page"
                )));
            }
        }
        // What the crate has not, it refuses.
        _ => {}
    }
    Ok(())
}

/// Texts of four bytes of length and their own bytes: how many bytes are left, `None` where there
/// are too few.
fn plain_texts(bytes: &[u8], count: u64, texts: &mut Texts) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = behind.get(length as usize..)?;
        texts.add(u64::from(length), 1);
    }
    Some(rest.len())
}

/// Codes of a dictionary, behind a byte that tells their bits.
fn coded(
    values: &[u8],
    present: u64,
    dictionary: Option<&Dictionary>,
    texts: &mut Texts,
) -> Result<()> {
    if present == 0 {
        return Ok(());
    }
    let (&bits, packed) = values
        .split_first()
        .filter(|(bits, _)| **bits <= 32)
        .ok_or_else(|| Error::corrupt("codes of a page have no width"))?;
    let dictionary = dictionary
        .ok_or_else(|| Error::corrupt("a page has codes, and there is no dictionary before it"))?;
    let (bits, mut outside) = (u32::from(bits), None);
    let whole = match dictionary.lengths.is_empty() {
        // Of numbers nothing is added up.
        true => largest(packed, bits, present).map(|largest| {
            outside = Some(largest).filter(|&code| u64::from(code) >= dictionary.values);
        }),
        false => runs(packed, bits, present, &mut |code, n| {
            match dictionary.lengths.get(code as usize) {
                Some(length) => texts.add(u64::from(*length), n),
                None => outside = Some(code),
            }
            outside.is_none()
        })
        .map(|_| ()),
    };
    match (whole, outside) {
        (_, Some(code)) => Err(Error::corrupt(format!(
            "code {code} is outside the {} values of the dictionary",
            dictionary.values
        ))),
        (Some(()), _) => Ok(()),
        (None, _) => Err(Error::corrupt(format!(
            "{} bytes are too few for the {present} codes of a page",
            values.len()
        ))),
    }
}

/// The dictionary of a column chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary {
    pub(super) bytes: Bytes,
    pub(super) values: u64,
    pub(super) encoding: i64,
    pub(super) sorted: bool,
    /// The lengths of its texts, where it holds texts.
    pub(super) lengths: Vec<u32>,
}

impl Dictionary {
    /// Checks an unpacked dictionary page.
    ///
    /// # Errors
    /// Corrupt; refused past the limit.
    pub(super) fn of(
        header: &PageHeader,
        element: &Element,
        mut bytes: Bytes,
        limit: MemoryLimit,
    ) -> Result<Dictionary> {
        let values = header.values as u64;
        let held = bytes.len() as u64;
        let few = || Error::corrupt(format!("a dictionary of {values} values has {held} bytes"));
        let mut lengths = Vec::new();
        match element.bits() {
            Some(bits) => {
                if bits.checked_mul(values).is_none_or(|bits| bits.div_ceil(8) > held) {
                    return Err(few());
                }
            }
            None => {
                if values.checked_mul(4).is_none_or(|least| least > held) {
                    return Err(few());
                }
                // The page, what the crate makes of it, and these lengths.
                limit.check(
                    "a dictionary",
                    held.saturating_mul(2).saturating_add(values.saturating_mul(12)),
                )?;
                let mut at = 0;
                for _ in 0..values {
                    let length = bytes
                        .get(at..at + 4)
                        .and_then(|b| b.first_chunk())
                        .map(|b| u32::from_le_bytes(*b))
                        .ok_or_else(few)?;
                    at = at
                        .checked_add(4 + length as usize)
                        .filter(|&end| end <= bytes.len())
                        .ok_or_else(few)?;
                    lengths.push(length);
                }
                // As for the texts of data pages, nothing is left behind the last one.
                bytes.truncate(at);
            }
        }
        Ok(Dictionary { bytes, values, encoding: header.encoding, sorted: header.sorted, lengths })
    }

    /// What it takes while it is used: the page, and what the crate makes of it.
    pub(super) fn memory(&self) -> u64 {
        (2 * self.bytes.len() + 12 * self.lengths.len()) as u64
    }

    /// Its texts.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut at = 0;
        self.lengths.iter().map(move |&length| {
            let start = at + 4;
            at = start + length as usize;
            &self.bytes[start..at]
        })
    }

    /// The longest of its texts.
    pub(super) fn longest(&self) -> u64 {
        u64::from(self.lengths.iter().copied().max().unwrap_or(0))
    }
}
