//! Rows of stored arrays: from data files or segments, deleted rows left out, companions folded.

use std::ops::Range;
use std::sync::Arc;

use super::bitmap::Alive;
use super::files::Files;
use super::stored::Stored;
use crate::array::reader::MapReader;
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Piece, ReadRows};
use crate::model::{ArrayMeta, Buf, Chunk, Dtype, Encoding, Logical, Shared, Values, codes_of};
use crate::sidecar::{self, StoredParts};

/// A chunk of a larger request.
const CHUNK_BYTES: u64 = 8 << 20;
/// Deleted rows up to this many bytes are read over.
const GAP_BYTES: u64 = 64 << 10;

/// Reads rows of logical arrays.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) files: Arc<dyn Files>,
    pub(super) stored: Arc<Vec<Stored>>,
    /// The logical arrays.
    pub(super) metas: Shared<Vec<ArrayMeta>>,
    /// What each of them is made of.
    pub(super) arrays: Arc<Vec<StoredParts>>,
    /// The stored arrays, all rows counted.
    pub(super) maps: Arc<MapReader>,
    /// Whether every array was selected.
    pub(super) all: bool,
}

impl Reader {
    /// The bytes of these alive rows.
    pub(super) fn rows(&self, index: usize, rows: Range<u64>) -> Result<Vec<u8>> {
        let stored = &self.stored[index];
        let row_bytes = stored.row_bytes;
        let total =
            (rows.end - rows.start).checked_mul(row_bytes).and_then(|n| usize::try_from(n).ok());
        let total = total.ok_or_else(|| Error::corrupt("too many rows").array(&stored.name))?;
        let mut buf = vec![0; total];
        let Some(alive) = &stored.alive else {
            self.maps.read_stored(index, rows.start, &mut buf).at_array(&stored.name)?;
            return Ok(buf);
        };
        self.alive_rows(index, alive, rows, &mut buf).at_array(&stored.name)?;
        Ok(buf)
    }

    fn alive_rows(
        &self,
        index: usize,
        alive: &Alive,
        rows: Range<u64>,
        buf: &mut [u8],
    ) -> Result<()> {
        let row_bytes = self.stored[index].row_bytes;
        if row_bytes == 0 {
            return Ok(());
        }
        let mut at = 0;
        let mut runs = alive.runs(rows).peekable();
        let mut span = Vec::new();
        let mut group: Vec<Range<u64>> = Vec::new();
        while let Some(run) = runs.next() {
            group.clear();
            group.push(run);
            let (first, mut last) = (group[0].start, group[0].end);
            while let Some(next) = runs.peek()
                && (next.start - last).saturating_mul(row_bytes) <= GAP_BYTES
                && (next.end - first).saturating_mul(row_bytes) <= CHUNK_BYTES
            {
                last = next.end;
                group.extend(runs.next());
            }
            if group.len() == 1 {
                let n = ((last - first) * row_bytes) as usize;
                self.maps.read_stored(index, first, &mut buf[at..at + n])?;
                at += n;
                continue;
            }
            span.resize(((last - first) * row_bytes) as usize, 0);
            self.maps.read_stored(index, first, &mut span)?;
            for run in &group {
                let from = ((run.start - first) * row_bytes) as usize;
                let n = ((run.end - run.start) * row_bytes) as usize;
                buf[at..at + n].copy_from_slice(&span[from..from + n]);
                at += n;
            }
        }
        if at == buf.len() {
            Ok(())
        } else {
            Err(Error::corrupt("the deletion bitmap keeps fewer rows than it says"))
        }
    }

    fn offsets(&self, index: usize, rows: Range<u64>, values: u64) -> Result<Vec<u64>> {
        let bytes = self.rows(index, rows.start..rows.end + 1)?;
        sidecar::offsets(&bytes, rows.start, values).at_array(&self.stored[index].name)
    }

    fn mask(&self, array: &StoredParts, rows: Range<u64>) -> Result<Option<Vec<u8>>> {
        let Some(valid) = array.valid else { return Ok(None) };
        let mut mask = self.rows(valid, rows)?;
        mask.iter_mut().for_each(|v| *v = (*v != 0) as u8);
        Ok(Some(mask))
    }

    /// Rows of one size: values, or a dictionary's codes.
    fn fixed(&self, index: usize, rows: Range<u64>) -> Result<Chunk> {
        let array = &self.arrays[index];
        let stored = &self.stored[array.values];
        let n = rows.end - rows.start;
        let mut mask = self.mask(array, rows.clone())?;
        let values = self.rows(array.values, rows.clone())?;
        if array.minus_is_null && stored.dtype.item_bytes() > 0 {
            let nulls = minus_ones(stored.dtype, &values);
            if nulls.contains(&0) {
                let mask = mask.get_or_insert_with(|| vec![1; n as usize]);
                mask.iter_mut().zip(nulls).for_each(|(m, v)| *m &= v);
            }
        }
        let values = Values::Fixed(Buf::from_vec(values));
        Ok(Chunk {
            array: index,
            first_row: rows.start,
            rows: n,
            values,
            valid: mask.map(Buf::from_vec),
        })
    }

    /// Rows of text whose values are codes of `categories`.
    fn texts(
        &self,
        index: usize,
        categories: &[Vec<u8>],
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let array = &self.arrays[index];
        let stored = &self.stored[array.values];
        let codes = codes_of(&self.rows(array.values, rows.clone())?, stored.dtype);
        let mut mask = self.mask(array, rows.clone())?;
        let (mut offsets, mut text, mut first) = (vec![0], Vec::new(), 0);
        for (i, &code) in codes.iter().enumerate() {
            let null = code == -1 || mask.as_ref().is_some_and(|m| m[i] == 0);
            if null {
                mask.get_or_insert_with(|| vec![1; codes.len()])[i] = 0;
            } else {
                let item = usize::try_from(code).ok().and_then(|c| categories.get(c)).ok_or_else(
                    || {
                        let row = rows.start + i as u64;
                        Error::corrupt(format!(
                            "row {row}: code {code} is outside the {} categories",
                            categories.len()
                        ))
                    },
                )?;
                text.extend_from_slice(item);
            }
            offsets.push(text.len() as u64);
            if i + 1 == codes.len() || text.len() as u64 >= CHUNK_BYTES {
                let valid = mask.as_ref().map(|m| Buf::from_vec(m[first..=i].to_vec()));
                let values = Values::Var {
                    offsets: std::mem::replace(&mut offsets, vec![0]),
                    values: Buf::from_vec(std::mem::take(&mut text)),
                };
                emit(Chunk {
                    array: index,
                    first_row: rows.start + first as u64,
                    rows: (i + 1 - first) as u64,
                    values,
                    valid,
                })?;
                first = i + 1;
            }
        }
        Ok(())
    }

    /// Rows whose values are cut by the stored array `offsets`.
    fn cut_rows(
        &self,
        index: usize,
        offsets: usize,
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let array = &self.arrays[index];
        let stored = &self.stored[array.values];
        let offsets = self.offsets(offsets, rows.clone(), stored.rows_alive())?;
        let mask = self.mask(array, rows.clone())?.map(Buf::from_vec);
        let values = |range: Range<u64>| self.rows(array.values, range);
        let sizes = (stored.row_bytes, CHUNK_BYTES);
        sidecar::emit_rows((index, rows.start), &offsets, mask.as_ref(), sizes, &values, emit)
    }

    /// About how many bytes a row holds.
    fn row_bytes(&self, array: &StoredParts) -> u64 {
        match &array.encoding {
            Encoding::Codes(_) => 24 + array.mean_bytes,
            Encoding::Offsets => 8 + array.mean_bytes,
            _ => self.stored[array.values].row_bytes,
        }
    }
}

/// One byte an element: 0 where it is -1.
fn minus_ones(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks_exact(dtype.item_bytes() as usize)
        .map(|e| e.iter().any(|&b| b != 0xFF) as u8)
        .collect()
}

impl ReadRows for Reader {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let parts = &self.arrays[array];
        let stored = &self.stored[parts.values];
        if !matches!(parts.encoding, Encoding::Plain | Encoding::Bits)
            || matches!(self.metas[array].logical, Logical::Dictionary { .. })
            || parts.valid.is_some()
            || stored.alive.is_some()
            || stored.problem.is_some()
        {
            return None;
        }
        // What must be unpacked first is so when it is read, by all threads.
        if stored.pieces.iter().any(|p| self.files.is_packed(&p.path)) {
            return None;
        }
        self.maps.extents(parts.values)
    }
    fn close(&self) -> Result<()> {
        self.files.close(self.all)
    }

    fn cost(&self, index: usize, rows: Range<u64>) -> Option<u64> {
        let array = &self.arrays[index];
        self.metas[index]
            .logical
            .is_var()
            .then(|| (rows.end - rows.start).saturating_mul(self.row_bytes(array)))
    }

    fn piece(&self, index: usize, row: u64, bytes: u64) -> Option<Piece> {
        let array = &self.arrays[index];
        let mean = self.row_bytes(array);
        let end = row.saturating_add((bytes / mean.max(1)).max(1)).min(self.metas[index].rows?);
        match &array.encoding {
            Encoding::Codes(_) if 24 + array.longest_bytes <= 4 * mean => {
                Some(Piece { end, bytes: (end - row).saturating_mul(mean) })
            }
            Encoding::Codes(categories) => {
                let stored = &self.stored[array.values];
                let codes = codes_of(&self.rows(array.values, row..end).ok()?, stored.dtype);
                let mut texts = vec![0];
                categories.with(|items| {
                    texts.extend(codes.iter().scan(0u64, |sum, &code| {
                        let text = usize::try_from(code)
                            .ok()
                            .and_then(|c| items.get(c))
                            .map_or(0, Vec::len);
                        *sum = sum.saturating_add(16 + text as u64);
                        Some(*sum)
                    }));
                });
                let (rows, bytes) = sidecar::rows_within(&texts, 1, bytes);
                Some(Piece { end: row + rows, bytes })
            }
            Encoding::Offsets => {
                let stored = &self.stored[array.values];
                let offsets = self.offsets(array.offsets?, row..end, stored.rows_alive()).ok()?;
                let (rows, bytes) = sidecar::rows_within(&offsets, stored.row_bytes, bytes);
                Some(Piece { end: row + rows, bytes })
            }
            _ => None,
        }
    }

    fn read(&self, index: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let array = &self.arrays[index];
        crate::format::readable(&self.metas[index])?;
        let step = (CHUNK_BYTES / self.row_bytes(array).max(1)).max(1);
        let mut row = rows.start;
        while row < rows.end {
            let end = if self.stored[array.values].row_bytes == 0 {
                rows.end
            } else {
                row.saturating_add(step).min(rows.end)
            };
            let read = match (&array.encoding, array.offsets) {
                (Encoding::Codes(categories), _) => {
                    categories.with(|items| self.texts(index, items, row..end, emit))
                }
                (_, Some(offsets)) => self.cut_rows(index, offsets, row..end, emit),
                _ => emit(self.fixed(index, row..end)?),
            };
            read.at_array(&self.metas[index].name)?;
            row = end;
        }
        Ok(())
    }
}
