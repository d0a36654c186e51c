//! Rows of a scanned text, at random.

use std::ops::Range;

use super::scan::Scanned;
use super::spooled::{BlockInfo, Entry, SpooledType, blocks_of};
use super::type_inference::Type;
use crate::error::{Error, Result};
use crate::format::{Emit, Piece, ReadRows};
use crate::model::{Buf, Chunk, Values};

/// What a scan kept, as arrays.
pub(super) struct Reader {
    pub(super) scanned: Scanned,
    /// Per array its column in the file.
    pub(super) columns: Vec<usize>,
    /// Per array.
    pub(super) types: Vec<Type>,
    pub(super) skipped: Vec<bool>,
}

const NAN: f64 = f64::NAN;

impl ReadRows for Reader {
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        let blocks = &self.scanned.blocks;
        let next = blocks.partition_point(|b| b.first_row <= row);
        blocks.get(next).map_or(self.scanned.rows, |b| b.first_row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        if self.types[array] != Type::Text {
            return None;
        }
        Some(
            blocks_of(&self.scanned.blocks, rows)
                .map(|(block, within)| self.text_cost(array, block, &within))
                .sum(),
        )
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        if self.types[array] != Type::Text {
            return None;
        }
        let mut piece = Piece { end: row, bytes: 0 };
        for (block, within) in blocks_of(&self.scanned.blocks, row..self.scanned.rows) {
            let cost = self.text_cost(array, block, &within);
            if piece.end > row && piece.bytes + cost > bytes {
                break;
            }
            piece = Piece { end: block.first_row + within.end, bytes: piece.bytes + cost };
        }
        Some(piece)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if self.types[array] == Type::Text {
            for (block, within) in blocks_of(&self.scanned.blocks, rows) {
                emit(self.text(array, block, within)?)?;
            }
            return Ok(());
        }
        let count = (rows.end - rows.start) as usize;
        let mut values =
            Vec::with_capacity(count * self.types[array].dtype().item_bytes() as usize);
        let mut mask: Option<Vec<u8>> = None;
        let mut done = 0;
        for (block, within) in blocks_of(&self.scanned.blocks, rows.clone()) {
            let n = (within.end - within.start) as usize;
            let valid = self.fixed(array, block, within, &mut values)?;
            if let Some(valid) = valid {
                mask.get_or_insert_with(|| vec![1; done]).extend_from_slice(&valid);
            } else if let Some(mask) = &mut mask {
                mask.resize(done + n, 1);
            }
            done += n;
        }
        let mut chunk = Chunk::fixed(array, rows.start, done as u64, values);
        chunk.valid = mask.map(Buf::from);
        emit(chunk)
    }
}

impl Reader {
    /// Bytes that some rows of text of a block take, with their offsets.
    fn text_cost(&self, array: usize, block: &BlockInfo, rows: &Range<u64>) -> u64 {
        let bytes = self
            .scanned
            .store
            .entry(block, self.columns[array])
            .map_or(block.len, |e| e.text_bytes);
        let count = rows.end - rows.start;
        (u128::from(bytes) * u128::from(count) / u128::from(block.rows.max(1))) as u64 + 13 * count
    }

    /// The mask of some rows; `None` where all hold values.
    fn mask(&self, block: &BlockInfo, entry: &Entry, rows: &Range<u64>) -> Result<Option<Vec<u8>>> {
        let n = (rows.end - rows.start) as usize;
        if entry.stored == SpooledType::Nothing {
            return Ok(Some(vec![0; n]));
        }
        if !entry.nulls {
            return Ok(None);
        }
        let mut mask = vec![0; n];
        self.scanned
            .store
            .read(entry.offset + entry.value_bytes(block.rows) + rows.start, &mut mask)?;
        Ok(if mask.contains(&0) { Some(mask) } else { None })
    }

    pub(super) fn text(&self, array: usize, block: &BlockInfo, rows: Range<u64>) -> Result<Chunk> {
        let store = &self.scanned.store;
        let entry = store.entry(block, self.columns[array])?;
        let n = (rows.end - rows.start) as usize;
        let valid = self.mask(block, &entry, &rows)?.map(Buf::from);
        let (offsets, values) = if entry.stored == SpooledType::Text {
            let mut ends = vec![0u32; n + 1];
            store.read(entry.offset + 4 * rows.start, bytemuck::cast_slice_mut(&mut ends))?;
            let (first, last) = (u64::from(ends[0]), u64::from(ends[n]));
            let mut text = vec![0; (last - first) as usize];
            store.read(entry.offset + 4 * (block.rows + 1) + first, &mut text)?;
            (ends.iter().map(|&e| u64::from(e) - first).collect(), text)
        } else {
            (vec![0; n + 1], Vec::new())
        };
        let values = Values::Var { offsets, values: Buf::from(values) };
        Ok(Chunk { array, first_row: block.first_row + rows.start, rows: n as u64, values, valid })
    }

    /// Appends some rows' values in the column's type; returns their mask.
    fn fixed(
        &self,
        array: usize,
        block: &BlockInfo,
        rows: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        let store = &self.scanned.store;
        let entry = store.entry(block, self.columns[array])?;
        let to = self.types[array];
        let n = (rows.end - rows.start) as usize;
        let mask = self.mask(block, &entry, &rows)?;
        let words = |per_row: u64| -> Result<Vec<u64>> {
            let mut raw = vec![0u64; n * per_row as usize];
            store.read(
                entry.offset + 8 * per_row * rows.start,
                bytemuck::cast_slice_mut(&mut raw),
            )?;
            Ok(raw)
        };
        let doubles = |raw: Vec<u64>| floats(entry.stored, &raw, mask.as_deref());
        match (to, entry.stored) {
            (Type::Bool, SpooledType::Bool) => {
                let at = out.len();
                out.resize(at + n, 0);
                store.read(entry.offset + rows.start, &mut out[at..])?;
            }
            (Type::Int64 | Type::Uint64, SpooledType::Signed | SpooledType::Unsigned)
            | (Type::Float64, SpooledType::Float) => {
                let at = out.len();
                out.resize(at + 8 * n, 0);
                store.read(entry.offset + 8 * rows.start, &mut out[at..])?;
            }
            (Type::Complex128, SpooledType::Complex) => {
                let at = out.len();
                out.resize(at + 16 * n, 0);
                store.read(entry.offset + 16 * rows.start, &mut out[at..])?;
            }
            (Type::Complex64, SpooledType::Complex) => {
                out.extend(
                    words(2)?.iter().flat_map(|&v| (f64::from_bits(v) as f32).to_le_bytes()),
                );
            }
            (_, SpooledType::Nothing) => fill_null(to, n, out),
            (Type::Float64, _) => out.extend_from_slice(bytemuck::cast_slice(&doubles(words(1)?))),
            (Type::Float32, _) => {
                out.extend(doubles(words(1)?).iter().flat_map(|&v| (v as f32).to_le_bytes()))
            }
            (Type::Float16, _) => out.extend(
                doubles(words(1)?).iter().flat_map(|&v| half::f16::from_f64(v).to_le_bytes()),
            ),
            (Type::Complex128 | Type::Complex64, _) => {
                let null = |i: usize| mask.as_ref().is_some_and(|m| m[i] == 0);
                for (i, value) in doubles(words(1)?).into_iter().enumerate() {
                    let imaginary = if null(i) { NAN } else { 0.0 };
                    if to == Type::Complex128 {
                        out.extend(value.to_le_bytes());
                        out.extend(imaginary.to_le_bytes());
                    } else {
                        out.extend((value as f32).to_le_bytes());
                        out.extend((imaginary as f32).to_le_bytes());
                    }
                }
            }
            (to, stored) => {
                return Err(Error::internal(format!(
                    "a block holds {stored:?} where the column is {to:?}"
                )));
            }
        }
        Ok(mask)
    }
}

fn fill_null(to: Type, rows: usize, out: &mut Vec<u8>) {
    let one: Vec<u8> = match to {
        Type::Float64 => NAN.to_le_bytes().to_vec(),
        Type::Float32 => f32::NAN.to_le_bytes().to_vec(),
        Type::Float16 => half::f16::NAN.to_le_bytes().to_vec(),
        Type::Complex128 => [NAN.to_le_bytes(), NAN.to_le_bytes()].concat(),
        Type::Complex64 => [f32::NAN.to_le_bytes(), f32::NAN.to_le_bytes()].concat(),
        Type::Int64 | Type::Uint64 => vec![0; 8],
        Type::Bool | Type::Text => vec![0],
    };
    out.extend(one.iter().cycle().take(one.len() * rows));
}

/// Stored words as floats; NaN for whole numbers that are null.
fn floats(stored: SpooledType, words: &[u64], mask: Option<&[u8]>) -> Vec<f64> {
    let mut values: Vec<f64> = match stored {
        SpooledType::Signed => words.iter().map(|&v| v as i64 as f64).collect(),
        SpooledType::Unsigned => words.iter().map(|&v| v as f64).collect(),
        _ => return words.iter().map(|&v| f64::from_bits(v)).collect(),
    };
    for (value, _) in values.iter_mut().zip(mask.unwrap_or_default()).filter(|(_, m)| **m == 0) {
        *value = NAN;
    }
    values
}
