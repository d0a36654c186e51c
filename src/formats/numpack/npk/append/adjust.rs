//! Adapts new values to the store's: offsets continue where the old ones end, codes become those of
//! the store's categories, columns take the store's order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::super::write::LocalFiles;
use crate::array::raw::fixed_bytes;
use crate::error::{Context, Error, Result, locked};
use crate::format::WriteRows;
use crate::model::{Buf, Categories, Chunk, Dtype, typed};

/// What is done to new values before they are appended.
pub(super) enum Adjust {
    Nothing,
    /// Offsets: the first is left out, the others begin where the old ones end.
    Offsets(i64),
    /// Codes: from the new categories into the store's, which grow.
    Codes(Remap),
    /// A matrix: for each of the store's columns, its place in the new rows; and the bytes of an
    /// element.
    Columns(Vec<usize>, usize),
}

pub(super) struct Remap {
    dtype: Dtype,
    from: Arc<Categories>,
    to: Arc<Categories>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    map: Vec<u64>,
    index: Option<HashMap<Vec<u8>, u64>>,
}

impl Remap {
    /// From the new rows' categories into the store's.
    pub(super) fn new(dtype: Dtype, from: Arc<Categories>, to: Arc<Categories>) -> Remap {
        Remap { dtype, from, to, known: Mutex::new(Known::default()) }
    }

    fn codes(&self, values: &Buf) -> Result<Buf> {
        let mut known = locked(&self.known);
        let Known { map, index } = &mut *known;
        if map.len() < self.from.len() {
            let index = index.get_or_insert_with(|| {
                self.to
                    .snapshot()
                    .into_iter()
                    .enumerate()
                    .map(|(i, item)| (item, i as u64))
                    .collect()
            });
            for item in self.from.snapshot().into_iter().skip(map.len()) {
                let code = *index.entry(item).or_insert_with_key(|item| self.to.push(item.clone()));
                map.push(code);
            }
        }
        let item = self.dtype.item_bytes() as usize;
        let most = match self.dtype {
            Dtype::U8 | Dtype::U16 | Dtype::U32 => (1u64 << (8 * item)) - 1,
            Dtype::I8 | Dtype::I16 | Dtype::I32 => (1u64 << (8 * item - 1)) - 1,
            _ => i64::MAX as u64,
        };
        let mut out = values.to_vec();
        for code in out.chunks_exact_mut(item) {
            if code.iter().all(|&b| b == 0xFF) {
                continue; // -1: null
            }
            let old = code.iter().rev().fold(0u64, |n, &b| n << 8 | b as u64);
            let new = match map.get(old as usize) {
                Some(&new) => new,
                None if old == 0 => 0, // a null where there are no categories
                None => {
                    return Err(Error::corrupt(format!(
                        "code {old} is outside the {} categories",
                        map.len()
                    )));
                }
            };
            if new > most {
                return Err(Error::refused(format!(
                    "the store would have more categories than {} codes can number",
                    self.dtype
                )));
            }
            code.copy_from_slice(&new.to_le_bytes()[..item]);
        }
        Ok(Buf::from_vec(out))
    }
}

/// The files being written, and what is done to the values.
pub(super) struct AppendWriter {
    pub(super) files: LocalFiles,
    pub(super) adjust: Vec<Adjust>,
}

impl AppendWriter {
    fn put(&self, array: usize, first_row: u64, rows: u64, values: &Buf) -> Result<()> {
        let put = |row, rows, values: &Buf| {
            self.files.put(array, row, rows, std::slice::from_ref(values))
        };
        match &self.adjust[array] {
            Adjust::Nothing => put(first_row, rows, values),
            Adjust::Codes(remap) => put(first_row, rows, &remap.codes(values)?),
            Adjust::Columns(order, item) => put(first_row, rows, &columns(values, order, *item)),
            // The first offset of all is the last one that the store has.
            Adjust::Offsets(base) => {
                let skip = u64::from(first_row == 0);
                let offsets = typed::<i64>(values);
                let moved: Option<Vec<i64>> =
                    offsets.iter().skip(skip as usize).map(|o| o.checked_add(*base)).collect();
                let moved = moved.ok_or_else(|| Error::failed("the offsets would exceed 2^63"))?;
                if moved.is_empty() {
                    return Ok(());
                }
                put(first_row + skip - 1, moved.len() as u64, &Buf::from_vec(moved))
            }
        }
    }
}

/// Rows with their elements in this order.
fn columns(rows: &[u8], order: &[usize], item: usize) -> Buf {
    let mut out = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(order.len() * item) {
        order
            .iter()
            .for_each(|&column| out.extend_from_slice(&row[column * item..(column + 1) * item]));
    }
    Buf::from_vec(out)
}

impl WriteRows for AppendWriter {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let name = &self.files.places.0[chunk.array].name;
        let values = fixed_bytes(chunk).at_array(name)?;
        self.put(chunk.array, chunk.first_row, chunk.rows, values).at_array(name)
    }
}
