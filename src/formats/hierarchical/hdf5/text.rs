//! Text: of a fixed number of bytes in the elements, or of any length in global heaps.

use std::ops::Range;
use std::sync::Arc;

use super::heap::{Heap, Heaps};
use super::read::{Array, File};
use super::tree::Dataset;
use super::types::{self, Kind, Leaf, Pad};
use crate::error::{Error, Result};
use crate::format::{Emit, Piece};
use crate::model::{Chunk, Values};

/// References that are looked at at a time.
const REFERENCES: u64 = 16 << 10;
/// Bytes of text in a chunk, about.
const CHUNK_BYTES: u64 = 1 << 20;

/// Whether text is UTF-8 is looked for in so many bytes of an array, before it is read.
const LOOKED_AT_BYTES: u64 = 64 << 20;

/// The lengths of the text of some rows, which are asked for before the rows are read.
#[derive(Default)]
pub(super) struct Lengths {
    array: usize,
    first_row: u64,
    bytes: Vec<u64>,
}

impl File {
    /// Reads text, as one array of rows: lists inside of an element follow each other.
    pub(super) fn text(
        &self,
        array: usize,
        dataset: &Dataset,
        leaf: &Leaf,
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let per_row = self.texts_per_row(dataset, leaf);
        if per_row == 0 {
            let values = Values::Var { offsets: vec![0], values: Vec::<u8>::new().into() };
            return emit(Chunk {
                array,
                first_row: rows.start,
                rows: rows.end - rows.start,
                values,
                valid: None,
            });
        }
        let mut row = rows.start;
        while row < rows.end {
            let end = row.saturating_add(step(leaf, per_row)).min(rows.end);
            let raw = self.values(array, dataset, leaf, row..end)?;
            let mut at = 0;
            while row < end {
                let (n, chunk) = match (&leaf.kind, &dataset.heaps) {
                    (Kind::Variable { .. }, Some(heaps)) => {
                        self.variable(leaf, heaps, &raw[at..], (row, end - row), per_row)?
                    }
                    _ => self.fixed(leaf, &raw[at..], (row, end - row), per_row)?,
                };
                at += (n * per_row) as usize * leaf.text_bytes();
                emit(Chunk { array, first_row: row, rows: n, values: chunk, valid: None })?;
                row += n;
            }
        }
        Ok(())
    }

    /// The first row whose text is not UTF-8, and how that text begins: looked for in the first
    /// bytes of it.
    pub(super) fn first_not_utf8(&self, array: usize) -> Result<Option<(u64, String)>> {
        let Array { dataset, leaf } = self.arrays[array];
        let dataset = &self.datasets[dataset];
        let Some(leaf) = dataset.leaves.get(leaf) else { return Ok(None) };
        let text = matches!(leaf.kind, Kind::Fixed { .. } | Kind::Variable { .. });
        if !text || leaf.error.is_some() || self.texts_per_row(dataset, leaf) == 0 {
            return Ok(None);
        }
        let leaf = Leaf { binary: true, ..leaf.clone() };
        let (total, mut row, mut seen, mut found) = (self.rows(dataset, &leaf), 0, 0, None);
        let per_row = self.texts_per_row(dataset, &leaf).max(1);
        while row < total && seen < LOOKED_AT_BYTES && found.is_none() {
            let end = row.saturating_add(step(&leaf, per_row)).min(total);
            self.text(array, dataset, &leaf, row..end, &mut |chunk| {
                let Values::Var { offsets, values } = &chunk.values else { return Ok(()) };
                seen += values.len() as u64 + offsets.len() as u64;
                if std::str::from_utf8(values).is_ok() {
                    // A text could still end within a character that the next one continues.
                    let whole = offsets
                        .iter()
                        .all(|&at| values.get(at as usize).is_none_or(|b| b & 0xC0 != 0x80));
                    if whole {
                        return Ok(());
                    }
                }
                let texts =
                    offsets.windows(2).map(|w| &values[w[0] as usize..w[1] as usize]).enumerate();
                if let Some((n, text)) =
                    texts.into_iter().find(|(_, text)| std::str::from_utf8(text).is_err())
                {
                    found.get_or_insert_with(|| {
                        (chunk.first_row + n as u64 / per_row, beginning(text))
                    });
                }
                Ok(())
            })?;
            row = end;
        }
        Ok(found)
    }

    fn texts_per_row(&self, dataset: &Dataset, leaf: &Leaf) -> u64 {
        let lists: u64 = leaf.dims.iter().map(|d| d.0).product();
        let inner: u64 = dataset.dims.iter().skip(1).product();
        // One element that is a list: its rows are the list's.
        match leaf.dims.first() {
            Some(&(first, _)) if dataset.scalar => lists / first.max(1),
            _ => inner * lists / leaf.joined.unwrap_or(1).max(1) as u64,
        }
    }

    fn fixed(
        &self,
        leaf: &Leaf,
        raw: &[u8],
        (row, rows): (u64, u64),
        per_row: u64,
    ) -> Result<(u64, Values)> {
        let Kind::Fixed { pad, .. } = leaf.kind else {
            return Err(Error::internal("text was expected"));
        };
        // A zero byte among characters is one of them, but for those behind the last.
        let (bytes, pad) =
            (leaf.text_bytes(), if leaf.joined.is_some() { Pad::NullPad } else { pad });
        let mut offsets = Vec::with_capacity(rows as usize + 1);
        let mut text = Vec::with_capacity(raw.len());
        offsets.push(0);
        for (i, field) in raw.chunks_exact(bytes).take((rows * per_row) as usize).enumerate() {
            let field = types::trimmed(field, pad);
            utf8(leaf, field, row + i as u64 / per_row)?;
            text.extend_from_slice(field);
            offsets.push(text.len() as u64);
        }
        Ok((rows, Values::Var { offsets, values: text.into() }))
    }

    /// As many rows as make a good chunk.
    fn variable(
        &self,
        leaf: &Leaf,
        heaps: &Heaps,
        raw: &[u8],
        (row, rows): (u64, u64),
        per_row: u64,
    ) -> Result<(u64, Values)> {
        let bytes = heaps.reference_bytes();
        let mut offsets = vec![0];
        // Room for what the references tell, which is not believed beyond the size of a chunk.
        let told = raw
            .chunks_exact(bytes)
            .take((rows * per_row) as usize)
            .map(|r| u64::from(heaps.reference(r).len))
            .sum::<u64>();
        let mut text = Vec::with_capacity(told.min(CHUNK_BYTES) as usize);
        let mut last: Option<Arc<Heap>> = None;
        let mut done = 0;
        for row_bytes in raw.chunks_exact(bytes * per_row as usize).take(rows as usize) {
            for reference in row_bytes.chunks_exact(bytes) {
                let reference = heaps.reference(reference);
                let at_row = row + done;
                self.fits(at_row, u64::from(reference.len))?;
                let start = text.len();
                heaps.read(reference, 1, &mut last, &mut text)?;
                // As every reader of the library sees it.
                if let Some(zero) = memchr::memchr(0, &text[start..]) {
                    text.truncate(start + zero);
                }
                utf8(leaf, &text[start..], at_row)?;
                offsets.push(text.len() as u64);
            }
            done += 1;
            if text.len() as u64 >= CHUNK_BYTES {
                break;
            }
        }
        Ok((done, Values::Var { offsets, values: text.into() }))
    }

    /// Whether one text may be held in memory.
    fn fits(&self, row: u64, bytes: u64) -> Result<()> {
        let (needs, limit) = (bytes.saturating_mul(COPIES), self.memory_bytes);
        // What a length claims is only believed where the file could have it.
        if bytes > self.blob.len() || needs <= limit {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the text of row {row} has {bytes} bytes, which need {needs} bytes of memory on their way, the limit is {limit}"
        ))
        .hint(format!("raise the limit: --memory-limit {}MiB", needs.div_ceil(1 << 20))))
    }

    /// See [`crate::format::ReadRows::piece`]: the lengths are in the references.
    pub(super) fn text_piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let Array { dataset, leaf } = self.arrays[array];
        let dataset = &self.datasets[dataset];
        let leaf = dataset.leaves.get(leaf)?;
        let heaps = dataset.heaps.as_ref().filter(|_| leaf.kind.is_variable())?;
        let per_row = self.texts_per_row(dataset, leaf).max(1);
        let total = self.rows(dataset, leaf);
        let mut lengths = self.lengths.lock().unwrap_or_else(|e| e.into_inner());
        let (mut end, mut held) = (row, 0u64);
        while end < total {
            let known =
                (lengths.array == array).then(|| end.checked_sub(lengths.first_row)).flatten();
            let Some(&row_bytes) = known.and_then(|n| lengths.bytes.get(usize::try_from(n).ok()?))
            else {
                let stop = end.saturating_add(step(leaf, per_row)).min(total);
                let raw = self.values(array, dataset, leaf, end..stop).ok()?;
                let size = heaps.reference_bytes();
                let most = self.blob.len();
                let sum = |row: &[u8]| {
                    row.chunks_exact(size)
                        .map(|r| u64::from(heaps.reference(r).len).min(most) + size as u64 + 8)
                        .sum()
                };
                let sizes = raw.chunks_exact(size * per_row as usize).map(sum).collect();
                *lengths = Lengths { array, first_row: end, bytes: sizes };
                continue;
            };
            if end > row && held.saturating_add(row_bytes) > bytes {
                break;
            }
            held = held.saturating_add(row_bytes);
            end += 1;
        }
        Some(Piece { end: end.max(row + 1), bytes: held })
    }
}

/// Rows that are looked at at a time.
fn step(leaf: &Leaf, per_row: u64) -> u64 {
    let row_bytes = per_row.saturating_mul(leaf.text_bytes() as u64).max(1);
    (CHUNK_BYTES / row_bytes).min(REFERENCES / per_row).max(1)
}

/// How often a text may be in memory at once on its way to the output: measured, writers of tables
/// hold it up to six times.
const COPIES: u64 = 6;

fn utf8(leaf: &Leaf, text: &[u8], row: u64) -> Result<()> {
    if leaf.binary || std::str::from_utf8(text).is_ok() {
        return Ok(());
    }
    Err(Error::refused(format!("the text of row {row} is not UTF-8: {:?}", beginning(text)))
        .hint("leave the array out with -x"))
}

fn beginning(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned()
}
