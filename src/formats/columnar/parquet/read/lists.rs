//! The fast way for columns of lists that all have one length, without a null: the usual form of
//! embeddings.
//!
//! When the file is opened, only the levels at the start of each page are unpacked: they tell
//! whether all lists have one length. If so, the values of the pages lie end to end, row after row:
//! any rows are read from the pages that hold them, with the levels cut off, as if the column were
//! flat.

use std::io::Read;
use std::sync::Arc;

use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Compression, Repetition};
use parquet::schema::types::{ColumnDescriptor, Type};

use super::levels::{bits_of, runs};
use super::page::{DATA_V2, DICTIONARY};
use super::pages::{ColumnChunk, FoundPage, Headers};
use super::schema;
use crate::error::{ForeignReader, Result};

/// Bytes of pages between the places that are kept.
const STEP_BYTES: u64 = 64 << 10;

/// Where some of the pages of one column chunk are.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) dictionary: Option<FoundPage>,
    /// Where a data page begins, and the values before it.
    pub(super) data: Vec<(u64, u64)>,
}

impl Places {
    /// The last place at or before a value.
    pub(super) fn before(&self, value: u64) -> Option<(u64, u64)> {
        self.data[..self.data.partition_point(|(_, first)| *first <= value)].last().copied()
    }
}

/// A column of equal lists.
pub(super) struct EqualLists {
    /// Elements of a row.
    pub(super) length: u64,
    /// Per row group.
    pub(super) places: Vec<Places>,
    /// The types of the elements as a flat, required column.
    pub(super) levels: FieldLevels,
}

impl EqualLists {
    /// Looks at the levels of all pages; `None` where the fast way does not serve this column.
    /// `chunks`: the column in each row group, with its rows.
    ///
    /// # Errors
    /// Reading errors.
    pub(super) fn look(
        descr: &ColumnDescriptor,
        chunks: impl Iterator<Item = Result<(ColumnChunk, u64)>>,
    ) -> Result<Option<EqualLists>> {
        if descr.max_rep_level() != 1 || descr.max_def_level() > 15 {
            return Ok(None);
        }
        let mut lists = Lengths::default();
        let mut groups = Vec::new();
        for chunk in chunks {
            let (chunk, rows) = chunk?;
            let first_row = lists.rows;
            let Some(places) = scan(&chunk, &mut lists)? else { return Ok(None) };
            if !lists.end_row() || lists.rows - first_row != rows {
                return Ok(None);
            }
            groups.push(places);
        }
        let Some(length) = lists.length.filter(|&n| n > 0) else { return Ok(None) };
        let Some(levels) = flat_levels(descr) else { return Ok(None) };
        Ok(Some(EqualLists { length, places: groups, levels }))
    }
}

/// The elements as a flat, required column.
fn flat_levels(descr: &ColumnDescriptor) -> Option<FieldLevels> {
    let element = Type::primitive_type_builder("values", descr.physical_type())
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(descr.logical_type_ref().cloned())
        .with_converted_type(descr.converted_type())
        .with_length(descr.type_length())
        .with_precision(descr.type_precision())
        .with_scale(descr.type_scale())
        .build()
        .ok()?;
    parquet_to_arrow_field_levels(
        &schema::alone(Arc::new(element)).ok()?,
        ProjectionMask::all(),
        None,
    )
    .ok()
}

/// The lengths of the lists met so far.
#[derive(Default)]
struct Lengths {
    rows: u64,
    /// The length of all lists that have ended.
    length: Option<u64>,
    /// Elements of the list that has not ended.
    open: u64,
}

impl Lengths {
    /// Ends a list; false where its length differs.
    fn end_row(&mut self) -> bool {
        if self.open == 0 {
            return true;
        }
        let same = *self.length.get_or_insert(self.open) == self.open;
        self.open = 0;
        same
    }
    /// Takes a run of one repetition level.
    fn run(&mut self, level: u32, count: u64) -> bool {
        if level != 0 {
            let first = self.open == 0 && count > 0;
            self.open += count;
            return !first;
        }
        if !self.end_row() || count > 1 && *self.length.get_or_insert(1) != 1 {
            return false;
        }
        self.rows += count;
        self.open = 1;
        true
    }
}

/// Finds the pages of a chunk and takes their levels. `None`: something that the fast way does not
/// serve.
fn scan(chunk: &ColumnChunk, lists: &mut Lengths) -> Result<Option<Places>> {
    let mut headers = chunk.pages();
    let (mut places, mut values, mut kept) = (Places::default(), 0, 0);
    while let Some(found) = headers.next()? {
        if found.header.kind == DICTIONARY {
            if places.dictionary.replace(found).is_some() {
                return Ok(None);
            }
            continue;
        }
        if !take_levels(&found, &mut headers, lists)? {
            return Ok(None);
        }
        values = found.first_value + found.values();
        if places.data.is_empty() || found.at - kept >= STEP_BYTES {
            places.data.push((found.at, found.first_value));
            kept = found.at;
        }
    }
    Ok((values == chunk.values).then_some(places))
}

/// Takes the levels of a page; false where they say more than lists of one length without a null.
fn take_levels(found: &FoundPage, headers: &mut Headers, lists: &mut Lengths) -> Result<bool> {
    let Headers { chunk, window, .. } = headers;
    let (header, values) = (&found.header, found.values());
    let (def_bits, full) = (bits_of(chunk.element.max_def), chunk.element.max_def as u32);
    let mut take = |rep: &[u8], def: &[u8]| -> bool {
        runs(rep, 1, values, &mut |level, n| lists.run(level, n)) == Some(true)
            && (def_bits == 0
                || runs(def, def_bits, values, &mut |level, _| level == full) == Some(true))
    };
    if header.kind == DATA_V2 {
        let (Ok(def), Ok(rep)) =
            (u64::try_from(header.level_bytes.0), u64::try_from(header.level_bytes.1))
        else {
            return Ok(false);
        };
        let Some(both) = def.checked_add(rep).filter(|&n| n <= found.size) else {
            return Ok(false);
        };
        let bytes = chunk.head(found, window, 0, both)?;
        return Ok(take(&bytes[..rep as usize], &bytes[rep as usize..]));
    }
    if header.level_encodings != (3, 3) {
        return Ok(false);
    }
    // Version 1: [length, repetition levels, length, definition levels, values], compressed
    // together.
    let head = if matches!(chunk.codec(), Compression::ZSTD(_)) { 160 << 10 } else { 16 << 10 };
    for part in [head, MAX_HEAD] {
        let packed = chunk.head(found, window, 0, part)?;
        let Some(bytes) = unpacked_head(chunk.codec(), &packed, header.uncompressed) else {
            return Ok(false);
        };
        let word = |at: usize| {
            bytes
                .get(at..)
                .and_then(|b| b.first_chunk::<4>())
                .map(|b| u32::from_le_bytes(*b) as usize)
        };
        let rep = word(0).and_then(|n| Some((bytes.get(4..4usize.checked_add(n)?)?, n)));
        let levels = rep.and_then(|(rep, n)| {
            if def_bits == 0 {
                return Some((rep, &bytes[..0]));
            }
            let at = 4 + n;
            Some((rep, bytes.get(at + 4..(at + 4).checked_add(word(at)?)?)?))
        });
        if let Some((rep, def)) = levels {
            return Ok(take(rep, def));
        }
        if part >= found.size {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The most of a page in which its levels are looked for.
const MAX_HEAD: u64 = 4 << 20;

/// The uncompressed bytes at the start of a page, as many as come easily; `None` for other codecs.
fn unpacked_head(codec: Compression, packed: &[u8], uncompressed: i64) -> Option<Vec<u8>> {
    /// Levels of a page rarely take more.
    const HEAD: usize = 128 << 10;
    let most = usize::try_from(uncompressed).ok()?;
    let mut out = Vec::new();
    match codec {
        Compression::UNCOMPRESSED => return Some(packed.to_vec()),
        Compression::SNAPPY => snappy_head(packed, most.min(4 << 20), &mut out)?,
        Compression::ZSTD(_) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
            // Cut input ends in an error: what came before it counts.
            let _ = decoder.take(most.min(HEAD) as u64).read_to_end(&mut out);
        }
        Compression::GZIP(_) => {
            let decoder = ForeignReader::new("flate2", flate2::read::MultiGzDecoder::new(packed));
            let _ = decoder.take(most.min(HEAD) as u64).read_to_end(&mut out);
        }
        _ => return None,
    }
    Some(out)
}

/// Unpacks raw snappy until `most` bytes are there or the input ends.
fn snappy_head(packed: &[u8], most: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    let mut total = 0u64;
    for shift in (0..35).step_by(7) {
        let b = *packed.get(at)?;
        at += 1;
        total |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            break;
        }
    }
    let most = most.min(usize::try_from(total).ok()?);
    while out.len() < most {
        let Some(&tag) = packed.get(at) else { return Some(()) };
        let little = |from: usize, n: usize| -> Option<usize> {
            let bytes = packed.get(from..from + n)?;
            Some(bytes.iter().rev().fold(0usize, |v, &b| (v << 8) | usize::from(b)))
        };
        let (offset, len, extra) = match tag & 3 {
            0 => {
                let short = usize::from(tag >> 2);
                let extra = short.saturating_sub(59);
                let Some(len) = (if extra == 0 { Some(short) } else { little(at + 1, extra) })
                else {
                    return Some(());
                };
                let from = at + 1 + extra;
                let end = from.saturating_add(len + 1);
                let literal = &packed[from.min(packed.len())..end.min(packed.len())];
                out.extend_from_slice(literal);
                if end > packed.len() {
                    return Some(());
                }
                at = end;
                continue;
            }
            1 => (
                little(at + 1, 1).map(|b| (usize::from(tag >> 5) << 8) | b),
                usize::from((tag >> 2) & 7) + 4,
                1,
            ),
            2 => (little(at + 1, 2), usize::from(tag >> 2) + 1, 2),
            _ => (little(at + 1, 4), usize::from(tag >> 2) + 1, 4),
        };
        let Some(offset) = offset else { return Some(()) };
        let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
        for i in 0..len {
            out.push(out[from + i]);
        }
        at += 1 + extra;
    }
    Some(())
}
