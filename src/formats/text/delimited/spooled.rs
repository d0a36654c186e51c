//! The values of a scanned text, block after block in a temporary file, which holds per
//! block:
//!
//! | part | bytes |
//! |---|---|
//! | per column its values | 8 × rows (complex 16, bool 1); text: 4 × (rows + 1) offsets, then the text |
//! | behind them, where a row is null, a mask | rows, 1 where there is a value |
//! | the block's directory: per column kind, nulls, place, text length | 24 × columns |

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::parse::{Column, Mode};
use super::type_inference;
use crate::error::{Error, Result};
use crate::storage::temporary;

/// Bytes of a column's entry in a block's directory.
pub(super) const ENTRY: usize = 24;

/// How a column of a block is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpooledType {
    /// Not at all: all rows are null, or the column was not wanted.
    Nothing,
    /// int64.
    Signed,
    /// uint64.
    Unsigned,
    /// float64.
    Float,
    /// Two float64.
    Complex,
    /// One byte.
    Bool,
    /// Offsets and bytes.
    Text,
}

/// Where a column of a block is kept.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How.
    pub stored: SpooledType,
    /// Whether there is a mask.
    pub nulls: bool,
    /// Offset in the temporary file.
    pub offset: u64,
    /// Length of the text in bytes.
    pub text_bytes: u64,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[0] = self.stored as u8;
        bytes[1] = u8::from(self.nulls);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes
    }
    pub(super) fn from_bytes(bytes: &[u8]) -> Entry {
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let stored = match bytes[0] {
            1 => SpooledType::Signed,
            2 => SpooledType::Unsigned,
            3 => SpooledType::Float,
            4 => SpooledType::Complex,
            5 => SpooledType::Bool,
            6 => SpooledType::Text,
            _ => SpooledType::Nothing,
        };
        Entry { stored, nulls: bytes[1] != 0, offset: word(8), text_bytes: word(16) }
    }
    /// Bytes of the values of this many rows, without the mask.
    pub fn value_bytes(&self, rows: u64) -> u64 {
        match self.stored {
            SpooledType::Nothing => 0,
            SpooledType::Signed | SpooledType::Unsigned | SpooledType::Float => 8 * rows,
            SpooledType::Complex => 16 * rows,
            SpooledType::Bool => rows,
            SpooledType::Text => 4 * (rows + 1) + self.text_bytes,
        }
    }
}

/// A block of whole rows.
#[derive(Clone, Debug)]
pub struct BlockInfo {
    /// Its number.
    pub index: usize,
    /// The first row.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Offset in the text.
    pub offset: u64,
    /// Length in the text.
    pub len: u64,
    /// Offset of its directory in the temporary file.
    pub directory: u64,
}

/// The values that were parsed.
pub struct Store {
    file: File,
    end: AtomicU64,
}

impl Store {
    pub(super) fn new() -> Result<Store> {
        Ok(Store { file: temporary::file()?, end: AtomicU64::new(0) })
    }
    /// Where so many bytes go that are written later.
    pub(super) fn reserve(&self, bytes: u64) -> u64 {
        self.end.fetch_add(bytes, Ordering::Relaxed)
    }
    pub(super) fn write(&self, bytes: &[u8]) -> Result<u64> {
        let at = self.reserve(bytes.len() as u64);
        self.write_at(bytes, at)?;
        Ok(at)
    }
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(temporary::error)
    }
    /// Reads a range that was written.
    ///
    /// # Errors
    /// Reading errors.
    pub fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buf, at)
            .map_err(|e| Error::failed("the temporary file cannot be read").because(e))
    }
    /// Where a column of a block is kept.
    ///
    /// # Errors
    /// Reading errors.
    pub fn entry(&self, block: &BlockInfo, column: usize) -> Result<Entry> {
        let mut bytes = [0; ENTRY];
        self.read(block.directory + (ENTRY * column) as u64, &mut bytes)?;
        Ok(Entry::from_bytes(&bytes))
    }
}

/// Appends a column's values as they are kept.
pub(super) fn append(column: &Column, rows: u64, out: &mut Vec<u8>) -> SpooledType {
    match column.mode {
        Mode::Skip | Mode::Start | Mode::Retry => SpooledType::Nothing,
        Mode::Bool => {
            out.extend(column.values.iter().map(|&v| v as u8));
            SpooledType::Bool
        }
        Mode::Text => {
            out.reserve(4 * (rows as usize + 1) + column.text.len());
            out.extend([0; 4]);
            out.extend_from_slice(bytemuck::cast_slice(&column.ends));
            out.extend_from_slice(&column.text);
            SpooledType::Text
        }
        mode => {
            out.extend_from_slice(bytemuck::cast_slice(&column.values));
            match mode {
                Mode::Float => SpooledType::Float,
                Mode::Complex => SpooledType::Complex,
                _ if column.classes & type_inference::UNSIGNED != 0 => SpooledType::Unsigned,
                _ => SpooledType::Signed,
            }
        }
    }
}

/// The blocks that hold these rows, each with the rows wanted, counted from the block's first.
pub fn blocks_of(
    blocks: &[BlockInfo],
    rows: Range<u64>,
) -> impl Iterator<Item = (&BlockInfo, Range<u64>)> {
    let first = blocks.partition_point(|b| b.first_row + b.rows <= rows.start);
    blocks[first..].iter().take_while(move |b| b.first_row < rows.end).map(move |b| {
        let start = rows.start.max(b.first_row) - b.first_row;
        let stop = rows.end.min(b.first_row + b.rows) - b.first_row;
        (b, start..stop)
    })
}
