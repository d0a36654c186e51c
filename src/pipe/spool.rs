//! The spool, for sources whose order or row counts do not suit the sink: raw arrays in unnamed
//! temporary files, read back at random.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::flow::Selected;
use crate::arrow_model;
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, ReadRows};
use crate::model::{ArrayMeta, Buf, Chunk, Logical, Plan, Shared, Values, typed};
use crate::storage::temporary;

/// Arrays share files, so that ten thousand of them do not need ten thousand descriptors.
const FILES: usize = 16;

/// Being written: rows of each array in order, arrays in any mixture.
pub struct Spool {
    plan: Plan,
    files: Vec<Arc<File>>,
    ends: Vec<u64>,
    arrays: Vec<Rows>,
}

/// Where the pieces of one array are.
#[derive(Default)]
struct Rows {
    pieces: Vec<Piece>,
    rows: u64,
}

#[derive(Clone, Copy)]
struct Piece {
    first_row: u64,
    rows: u64,
    /// Row values, or (var) rows + 1 offsets and then the bytes, or (nested) an Arrow stream.
    offset: u64,
    bytes: u64,
    /// Where the mask is (one byte a row), if there is one.
    mask: Option<u64>,
}

impl Spool {
    /// For arrays like these.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn new(plan: Plan) -> Result<Spool> {
        let count = plan.arrays.len();
        let files = (0..count.min(FILES))
            .map(|_| Ok(Arc::new(temporary::file()?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Spool {
            ends: vec![0; files.len()],
            files,
            arrays: (0..count).map(|_| Rows::default()).collect(),
            plan,
        })
    }

    /// Takes the next rows of an array.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn push(&mut self, chunk: &Chunk) -> Result<()> {
        if chunk.rows == 0 {
            return Ok(());
        }
        let f = chunk.array % FILES;
        let (file, end) = (&self.files[f], &mut self.ends[f]);
        let mut put = |bytes: &[u8]| -> Result<u64> {
            let at = *end;
            file.write_all_at(bytes, at).map_err(temporary::error)?;
            *end += bytes.len() as u64;
            Ok(at)
        };
        let (offset, bytes) = match &chunk.values {
            Values::Nested(array) => {
                let bytes = arrow_model::to_stream(array)?;
                (put(&bytes)?, bytes.len() as u64)
            }
            Values::Fixed(b) => (put(b)?, b.len() as u64),
            Values::Var { offsets, values } => {
                let item = self.plan.arrays[chunk.array].dtype.item_bytes();
                let base = offsets[0];
                let rebased: Vec<u64> = offsets.iter().map(|o| o - base).collect();
                let at = put(bytemuck::cast_slice(&rebased))?;
                let inner =
                    &values[(base * item) as usize..(offsets[offsets.len() - 1] * item) as usize];
                put(inner)?;
                (at, 8 * rebased.len() as u64 + inner.len() as u64)
            }
        };
        let mask = match &chunk.valid {
            Some(v) => Some(put(v)?),
            None => None,
        };
        let array = &mut self.arrays[chunk.array];
        let first_row = array.rows;
        array.rows += chunk.rows;
        // Neighbours without masks and offsets become one piece.
        if let (Some(last), Values::Fixed(_), None) = (array.pieces.last_mut(), &chunk.values, mask)
            && last.mask.is_none()
            && last.offset + last.bytes == offset
        {
            last.rows += chunk.rows;
            last.bytes += bytes;
        } else {
            // Of thousands of arrays most have one.
            if array.pieces.is_empty() {
                array.pieces.reserve_exact(1);
            }
            array.pieces.push(Piece { first_row, rows: chunk.rows, offset, bytes, mask });
        }
        Ok(())
    }

    /// Bytes that it has on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// The rows that came so far.
    pub(super) fn into_reader(self) -> impl ReadRows {
        Reader { metas: self.plan.arrays, files: self.files, arrays: self.arrays }
    }

    /// Ready to be read: all row counts are known now.
    pub fn into_source(mut self) -> Selected {
        for (meta, rows) in self.plan.arrays.iter_mut().zip(&self.arrays) {
            meta.rows = Some(if meta.scalar { 1 } else { rows.rows });
            if let Logical::Dictionary { categories, .. } = &meta.logical {
                categories.finish();
            }
        }
        let metas = self.plan.arrays.clone();
        Selected {
            plan: self.plan,
            reader: Arc::new(Reader { metas, files: self.files, arrays: self.arrays }),
        }
    }
}

/// The arrays of a reader, and behind these, from index `first` on, those of a spool.
pub(super) fn beside(
    source: Arc<dyn ReadRows>,
    first: usize,
    spool: Arc<dyn ReadRows>,
) -> Arc<dyn ReadRows> {
    Arc::new(BesideRows { source, spool, first })
}

struct BesideRows {
    source: Arc<dyn ReadRows>,
    spool: Arc<dyn ReadRows>,
    first: usize,
}

impl BesideRows {
    fn of(&self, array: usize) -> (&dyn ReadRows, usize) {
        match array.checked_sub(self.first) {
            Some(spooled) => (self.spool.as_ref(), spooled),
            None => (self.source.as_ref(), array),
        }
    }
}

impl ReadRows for BesideRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let (reader, array) = self.of(array);
        reader.extents(array)
    }
    fn close(&self) -> Result<()> {
        self.source.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let (reader, array) = self.of(array);
        reader.next_boundary(array, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (reader, array) = self.of(array);
        reader.cost(array, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<crate::format::Piece> {
        let (reader, array) = self.of(array);
        reader.piece(array, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (reader, within) = self.of(array);
        reader.read(within, rows, &mut |chunk| emit(Chunk { array, ..chunk }))
    }
}

struct Reader {
    metas: Shared<Vec<ArrayMeta>>,
    files: Vec<Arc<File>>,
    arrays: Vec<Rows>,
}

impl Reader {
    fn get(&self, array: usize, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; bytes as usize];
        self.files[array % FILES]
            .read_exact_at(&mut buffer, offset)
            .map_err(|e: io::Error| Error::failed("the spool cannot be read").because(e))?;
        Ok(buffer)
    }
}

impl ReadRows for Reader {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.metas[array].logical.is_var()
            || self.arrays[array].pieces.iter().any(|p| p.mask.is_some())
        {
            return None;
        }
        let file = &self.files[array % FILES];
        Some(
            self.arrays[array]
                .pieces
                .iter()
                .map(|p| Extent { file: file.clone(), offset: p.offset, len: p.bytes })
                .collect(),
        )
    }

    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let pieces = &self.arrays[array].pieces;
        if !self.metas[array].logical.is_var() && pieces.len() < 2 {
            return u64::MAX;
        }
        let i = pieces.partition_point(|p| p.first_row + p.rows <= row);
        pieces.get(i).map_or(u64::MAX, |p| p.first_row + p.rows)
    }

    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let pieces = &self.arrays[array].pieces;
        let i = pieces.partition_point(|p| p.first_row + p.rows <= rows.start);
        self.metas[array].logical.is_var().then(|| {
            pieces[i..].iter().take_while(|p| p.first_row < rows.end).map(|p| p.bytes).sum()
        })
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let meta = &self.metas[array];
        let pieces = &self.arrays[array].pieces;
        let start = pieces.partition_point(|p| p.first_row + p.rows <= rows.start);
        for p in pieces[start..].iter().take_while(|p| p.first_row < rows.end) {
            let from = rows.start.max(p.first_row) - p.first_row;
            let to = rows.end.min(p.first_row + p.rows) - p.first_row;
            let values = if meta.logical.nested().is_some() {
                let array = arrow_model::from_stream(&self.get(array, p.offset, p.bytes)?)?;
                Values::Nested(array.slice(from as usize, (to - from) as usize))
            } else if meta.logical.is_var() {
                let item = meta.dtype.item_bytes();
                let offsets =
                    typed::<u64>(&self.get(array, p.offset + 8 * from, 8 * (to - from + 1))?)
                        .into_owned();
                let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
                let bytes = self.get(
                    array,
                    p.offset + 8 * (p.rows + 1) + first * item,
                    (last - first) * item,
                )?;
                Values::Var {
                    offsets: offsets.iter().map(|o| o - first).collect(),
                    values: Buf::from_vec(bytes),
                }
            } else {
                let row = p.bytes / p.rows;
                Values::Fixed(Buf::from_vec(self.get(
                    array,
                    p.offset + from * row,
                    (to - from) * row,
                )?))
            };
            let valid = match p.mask {
                Some(at) => Some(Buf::from_vec(self.get(array, at + from, to - from)?)),
                None => None,
            };
            emit(Chunk { array, first_row: p.first_row + from, rows: to - from, values, valid })
                .at_array(&meta.name)?;
        }
        Ok(())
    }
}
