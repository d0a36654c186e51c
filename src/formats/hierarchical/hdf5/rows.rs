//! The rows of a file: those of its maps, and what is done with them beyond that. Text of any
//! length is fetched from its heaps, characters are joined to text, nulls of pandas are taken out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::arrays::Array;
use super::element_type::{ElementType, TypeLeaf};
use super::file::OpenFile;
use super::heap::{Heap, Heaps};
use crate::array::reader::MapReader;
use crate::error::{Error, Result, locked};
use crate::format::{Emit, Extent, Piece, ReadRows};
use crate::model::{Buf, Chunk, Values};

/// References that are looked at at a time.
const REFERENCES: u64 = 16 << 10;
/// Bytes of text in a chunk, about.
const CHUNK_BYTES: u64 = 1 << 20;

/// Whether text is UTF-8, or stands for a null, is looked for in so many bytes of an array, before
/// it is read.
const LOOKED_AT_BYTES: u64 = 64 << 20;

/// The lengths of the text of some rows, which are asked for before the rows are read.
#[derive(Default)]
struct Lengths {
    first_row: u64,
    bytes: Vec<u32>,
}

/// Of so many arrays: columns of a table are asked for side by side.
const LENGTHS_OF: usize = 32;

/// The rows of a file.
pub(super) struct Rows {
    pub(super) file: Arc<OpenFile>,
    pub(super) reader: Arc<MapReader>,
    pub(super) arrays: Vec<Array>,
    lengths: Mutex<HashMap<usize, Lengths>>,
}

impl Rows {
    pub(super) fn new(file: Arc<OpenFile>, reader: Arc<MapReader>, arrays: Vec<Array>) -> Rows {
        Rows { file, reader, arrays, lengths: Mutex::default() }
    }

    /// Whether an array has nulls, which only its values tell. Of text the first bytes are looked
    /// at: what follows may have some.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn has_nulls(&self, array: usize) -> Result<bool> {
        let (total, mut row, mut found) = (self.arrays[array].rows(), 0, false);
        if !self.arrays[array].leaf.has_nulls() {
            return Ok(false);
        }
        let mut seen = 0;
        while row < total && !found {
            let end = self.next_boundary(array, row).min(row.saturating_add(1 << 16)).min(total);
            self.read(array, row..end, &mut |chunk| {
                found |= chunk.valid.is_some();
                if let Values::Var { offsets, values } = &chunk.values {
                    seen += values.len() as u64 + offsets.len() as u64;
                }
                Ok(())
            })?;
            row = end;
            found |= row < total && seen >= LOOKED_AT_BYTES;
        }
        Ok(found)
    }

    /// Looks at numbers that float64 may not hold exactly, in the first bytes of an array.
    ///
    /// # Errors
    /// Refused: the first one that it does not hold; those of reading.
    pub(super) fn check_floats(&self, array: usize) -> Result<()> {
        let of = &self.arrays[array];
        let row_bytes = (of.dataset.element_bytes as u64)
            .saturating_mul(of.dataset.dims.iter().skip(1).fold(1u64, |n, &d| n.saturating_mul(d)));
        let step = (CHUNK_BYTES / row_bytes.max(1)).max(1);
        let (total, mut row) = (of.rows(), 0);
        while row < total && row.saturating_mul(row_bytes) < LOOKED_AT_BYTES {
            let end = row.saturating_add(step).min(total);
            self.read(array, row..end, &mut |_| Ok(()))?;
            row = end;
        }
        Ok(())
    }

    fn read_rows(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let of = &self.arrays[array];
        if rows.is_empty() {
            return Ok(());
        }
        if of.is_text_by_rows() {
            return self.text(array, rows, emit);
        }
        if !of.leaf.has_nulls() {
            return self.reader.read(array, rows, emit);
        }
        self.reader.read(array, rows, &mut |chunk| {
            let Values::Fixed(values) = chunk.values else {
                let (valid, values) = of.leaf.take_null_texts(chunk.values);
                return emit(Chunk { valid: valid.map(Into::into), values, ..chunk });
            };
            let mut values = values.to_vec();
            let valid = of.leaf.take_nulls(&mut values, chunk.first_row)?;
            let (valid, values) = (valid.map(Into::into), Values::Fixed(values.into()));
            emit(Chunk { valid, values, ..chunk })
        })
    }

    /// Reads text of any length, or joined characters, as one array of rows: lists inside of an
    /// element follow each other.
    fn text(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let leaf = &self.arrays[array].leaf;
        let per_row = self.texts_per_row(array);
        if per_row == 0 {
            let values = Values::Var { offsets: vec![0], values: Vec::<u8>::new().into() };
            let (first_row, rows) = (rows.start, rows.end - rows.start);
            return emit(Chunk { array, first_row, rows, values, valid: None });
        }
        let heaps = self.arrays[array].dataset.heaps.as_ref();
        let mut row = rows.start;
        while row < rows.end {
            let end = row.saturating_add(step(leaf, per_row)).min(rows.end);
            let raw = self.stored(array, row..end)?;
            let mut at = 0;
            while row < end {
                let (n, values) = match (heaps, leaf.padding()) {
                    (_, Some(padding)) => {
                        let (width, items) = (leaf.text_bytes(), (end - row) * per_row);
                        (end - row, padding.values(&raw, width, items, row * per_row)?)
                    }
                    (Some(heaps), None) => {
                        self.variable(leaf, heaps, &raw[at..], (row, end - row), per_row)?
                    }
                    (None, None) => return Err(Error::internal("text without a heap")),
                };
                at += (n * per_row) as usize * leaf.text_bytes();
                emit(Chunk { array, first_row: row, rows: n, values, valid: None })?;
                row += n;
            }
        }
        Ok(())
    }

    /// What the elements of rows hold, packed.
    fn stored(&self, array: usize, rows: Range<u64>) -> Result<Buf> {
        let of = &self.arrays[array];
        match of.leaf.dims.first() {
            // One element that is a list: its rows are the list's.
            Some(&(all, _)) if of.dataset.scalar => {
                let packed = self.reader.packed(array, 0..1)?;
                let row_bytes = packed.len() / all.max(1) as usize;
                let (start, rows) = (rows.start as usize, (rows.end - rows.start) as usize);
                Ok(packed.slice_with_length(start * row_bytes, rows * row_bytes))
            }
            // The characters of the one text.
            None if of.leaf.joined.is_some() && of.dataset.dims.len() == 1 => {
                self.reader.packed(array, 0..of.dataset.dims[0])
            }
            _ => self.reader.packed(array, rows),
        }
    }

    /// The first row whose text is not UTF-8, and how that text begins: looked for in the first
    /// bytes of it. The text must be announced as bytes.
    pub(super) fn first_not_utf8(&self, array: usize) -> Result<Option<(u64, String)>> {
        let leaf = &self.arrays[array].leaf;
        let per_row = self.texts_per_row(array);
        if !leaf.kind.is_text() || leaf.error.is_some() || per_row == 0 {
            return Ok(None);
        }
        let (total, mut row, mut seen, mut found) = (self.arrays[array].rows(), 0, 0, None);
        while row < total && seen < LOOKED_AT_BYTES && found.is_none() {
            let end = row.saturating_add(step(leaf, per_row)).min(total);
            self.read(array, row..end, &mut |chunk| {
                let Values::Var { offsets, values } = &chunk.values else { return Ok(()) };
                seen += values.len() as u64 + offsets.len() as u64;
                // A text could still end within a character that the next one continues.
                let is_whole = |&at: &u64| values.get(at as usize).is_none_or(|b| b & 0xC0 != 0x80);
                if std::str::from_utf8(values).is_ok() && offsets.iter().all(is_whole) {
                    return Ok(());
                }
                let mut texts =
                    offsets.windows(2).map(|w| &values[w[0] as usize..w[1] as usize]).enumerate();
                if let Some((n, text)) = texts.find(|(_, text)| std::str::from_utf8(text).is_err())
                {
                    found.get_or_insert((chunk.first_row + n as u64 / per_row, beginning(text)));
                }
                Ok(())
            })?;
            row = end;
        }
        Ok(found)
    }

    /// Texts of a row.
    fn texts_per_row(&self, array: usize) -> u64 {
        let (dataset, leaf) = (&self.arrays[array].dataset, &self.arrays[array].leaf);
        let lists: u64 = leaf.dims.iter().map(|d| d.0).product();
        // Of one dimension of characters, which is the text's, this is the text.
        let is_one = leaf.joined.is_some() && dataset.dims.len() == 1;
        let inner: u64 = dataset.dims.iter().skip(usize::from(!is_one)).product();
        match leaf.dims.first() {
            Some(&(first, _)) if dataset.scalar => lists / first.max(1),
            _ => inner * lists / leaf.joined.unwrap_or(1).max(1) as u64,
        }
    }

    /// As many rows as make a good chunk.
    fn variable(
        &self,
        leaf: &TypeLeaf,
        heaps: &Heaps,
        raw: &[u8],
        (row, rows): (u64, u64),
        per_row: u64,
    ) -> Result<(u64, Values)> {
        let (bytes, item_bytes) = (heaps.reference_bytes(), leaf.kind.item_bytes());
        let mut offsets = vec![0];
        // Room for what the references tell, which is not believed beyond the size of a chunk.
        let told = raw
            .chunks_exact(bytes)
            .take((rows * per_row) as usize)
            .map(|r| u64::from(heaps.reference(r).len))
            .sum::<u64>()
            .saturating_mul(item_bytes);
        let mut text = Vec::with_capacity(told.min(CHUNK_BYTES) as usize);
        let mut last: Option<Arc<Heap>> = None;
        let mut done = 0;
        for row_bytes in raw.chunks_exact(bytes * per_row as usize).take(rows as usize) {
            for reference in row_bytes.chunks_exact(bytes) {
                let reference = heaps.reference(reference);
                let at_row = row + done;
                self.fits(leaf, at_row, u64::from(reference.len).saturating_mul(item_bytes))?;
                let start = text.len();
                heaps.read(reference, item_bytes, &mut last, &mut text)?;
                if leaf.kind.is_text() {
                    // As every reader of the library sees it.
                    if let Some(zero) = memchr::memchr(0, &text[start..]) {
                        text.truncate(start + zero);
                    }
                    utf8(leaf, &text[start..], at_row)?;
                }
                offsets.push(text.len() as u64 / item_bytes);
            }
            done += 1;
            if text.len() as u64 >= CHUNK_BYTES {
                break;
            }
        }
        if let ElementType::Sequence { item, .. } = &leaf.kind {
            text = item.convert(text, 0).map_err(|e| e.about(format!("from row {row} on")))?;
        }
        Ok((done, Values::Var { offsets, values: text.into() }))
    }

    /// Whether one text or list may be held in memory.
    fn fits(&self, leaf: &TypeLeaf, row: u64, bytes: u64) -> Result<()> {
        let (needs, limit) = (bytes.saturating_mul(COPIES), self.file.memory_bytes);
        // What a length claims is only believed where the file could have it.
        if bytes > self.file.blob.len() || needs <= limit {
            return Ok(());
        }
        let what = if leaf.kind.is_text() { "text" } else { "list" };
        Err(Error::refused(format!(
            "the {what} of row {row} has {bytes} bytes, which need {needs} bytes of memory on their way, the limit is {limit}"
        ))
        .hint(format!("raise the limit: --memory-limit {}MiB", needs.div_ceil(1 << 20))))
    }

    /// See [`crate::format::ReadRows::piece`]: the lengths are in the references.
    fn text_piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let of = &self.arrays[array];
        let heaps = of.dataset.heaps.as_ref().filter(|_| of.leaf.kind.is_variable())?;
        let (per_row, total) = (self.texts_per_row(array).max(1), of.rows());
        let mut all = locked(&self.lengths);
        if all.len() >= LENGTHS_OF && !all.contains_key(&array) {
            all.clear();
        }
        let lengths = all.entry(array).or_default();
        let (mut end, mut held) = (row, 0u64);
        while end < total {
            let known = end.checked_sub(lengths.first_row).and_then(|n| usize::try_from(n).ok());
            let Some(&row_bytes) = known.and_then(|n| lengths.bytes.get(n)) else {
                let stop = end.saturating_add(step(&of.leaf, per_row)).min(total);
                let raw = self.stored(array, end..stop).ok()?;
                let size = heaps.reference_bytes();
                let most = self.file.blob.len();
                let item_bytes = of.leaf.kind.item_bytes();
                let told = |r: &[u8]| u64::from(heaps.reference(r).len).saturating_mul(item_bytes);
                let one = |r: &[u8]| told(r).min(most) + size as u64 + 8;
                let sum = |row: &[u8]| {
                    let bytes: u64 = row.chunks_exact(size).map(one).sum();
                    u32::try_from(bytes).unwrap_or(u32::MAX)
                };
                let sizes = raw.chunks_exact(size * per_row as usize).map(sum).collect();
                *lengths = Lengths { first_row: end, bytes: sizes };
                continue;
            };
            let row_bytes = u64::from(row_bytes);
            if end > row && held.saturating_add(row_bytes) > bytes {
                break;
            }
            held = held.saturating_add(row_bytes);
            end += 1;
        }
        Some(Piece { end: end.max(row + 1), bytes: held })
    }
}

impl ReadRows for Rows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.arrays[array].is_special() { None } else { self.reader.extents(array) }
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        // Chunks of text hold references only.
        if self.arrays[array].leaf.kind.is_variable() {
            return u64::MAX;
        }
        self.reader.next_boundary(array, row)
    }

    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let of = &self.arrays[array];
        let (count, cost) = (rows.end - rows.start, self.reader.cost(array, rows));
        match &of.leaf.joined {
            // The texts, and the references.
            _ if of.leaf.kind.is_variable() => {
                Some(count.saturating_mul(64).saturating_add(cost.unwrap_or(0)))
            }
            // The characters, and the texts that are made of them.
            Some(width) => {
                let row_bytes = self.texts_per_row(array).saturating_mul(*width as u64 + 8);
                let all = count.saturating_mul(row_bytes).saturating_mul(2);
                Some(all.saturating_add(cost.unwrap_or(0)))
            }
            None => cost,
        }
    }

    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.text_piece(array, row, bytes)
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.read_rows(array, rows, emit).map_err(|e| e.array(&self.arrays[array].name))
    }
}

/// Rows that are looked at at a time.
fn step(leaf: &TypeLeaf, per_row: u64) -> u64 {
    let row_bytes = per_row.saturating_mul(leaf.text_bytes() as u64).max(1);
    (CHUNK_BYTES / row_bytes).min(REFERENCES / per_row).max(1)
}

/// How often a text may be in memory at once on its way to the output: measured, writers of tables
/// hold it up to six times.
const COPIES: u64 = 6;

fn utf8(leaf: &TypeLeaf, text: &[u8], row: u64) -> Result<()> {
    if leaf.binary || std::str::from_utf8(text).is_ok() {
        return Ok(());
    }
    Err(Error::refused(format!("the text of row {row} is not UTF-8: {:?}", beginning(text)))
        .hint("leave the array out with -x"))
}

fn beginning(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned()
}
