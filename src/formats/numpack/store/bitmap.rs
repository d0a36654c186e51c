//! Deletion bitmaps, `deleted_<name>.npkb`: which rows of an array are alive.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | number of rows |
//! | 8 | number of deleted rows (not always right in files that NumPack appended to: the bits decide) |
//! | 8 × ceil(rows / 64) | words; bit i, lowest first, is 1 while row i is alive |
//!
//! An older form has no header. A file has one where its length fits the number in its first 8
//! bytes.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::storage::Blob;

const HEAD_BYTES: u64 = 16;
/// Longer ones are refused: this is enough for 8 thousand million rows.
const MAX_BYTES: u64 = 1 << 30;
/// Words between two marks of the count.
const STEP: usize = 64;

/// Which of an array's stored rows are alive.
#[derive(Debug)]
pub struct Alive {
    words: Vec<u64>,
    /// Alive rows before each `STEP`th word.
    before: Vec<u64>,
    alive: u64,
}

impl Alive {
    /// Reads the file of an array of `rows` stored rows.
    ///
    /// # Errors
    /// Corrupt where the file's length fits neither form.
    pub fn read(blob: &dyn Blob, rows: u64) -> Result<Alive> {
        let len = blob.len();
        let number = |b: &[u8]| b.iter().rev().fold(0u64, |n, &b| n << 8 | b as u64);
        let first = number(&blob.read_vec(0, len.min(8))?);
        let headed = len >= HEAD_BYTES && len - HEAD_BYTES == first.div_ceil(64).saturating_mul(8);
        let words = rows.div_ceil(64).saturating_mul(8);
        if !headed && len != words {
            return Err(Error::corrupt(format!(
                "the deletion bitmap has {len} bytes, which fits no bitmap of {rows} rows"
            )));
        }
        if headed && first < rows {
            return Err(Error::corrupt(format!(
                "the deletion bitmap is for {first} rows, the array has {rows}"
            )));
        }
        if words > MAX_BYTES {
            return Err(Error::refused(format!(
                "the deletion bitmap of {rows} rows has {words} bytes; no more than {MAX_BYTES} are read"
            )));
        }
        // It may know of more rows than there are.
        let bytes = blob.read_vec(if headed { HEAD_BYTES } else { 0 }, words)?;
        let mut words: Vec<u64> = bytes.chunks_exact(8).map(number).collect();
        if !rows.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last &= (1 << (rows % 64)) - 1;
        }
        Ok(Alive::from_words(words))
    }

    fn from_words(words: Vec<u64>) -> Alive {
        let (mut before, mut alive) = (Vec::new(), 0);
        for (i, word) in words.iter().enumerate() {
            if i % STEP == 0 {
                before.push(alive);
            }
            alive += word.count_ones() as u64;
        }
        Alive { words, before, alive }
    }

    /// How many rows are alive.
    pub fn count(&self) -> u64 {
        self.alive
    }

    /// The file, with header, after `more` rows were appended to `rows`.
    pub fn extended(&self, rows: u64, more: u64) -> Vec<u8> {
        let total = rows + more;
        let mut words = self.words.clone();
        words.resize(total.div_ceil(64) as usize, 0);
        for (i, word) in words.iter_mut().enumerate() {
            let (from, to) = (rows.max(i as u64 * 64), total.min(i as u64 * 64 + 64));
            if from < to {
                let bits = (to - from) as u32;
                *word |= (u64::MAX >> (64 - bits)) << (from % 64);
            }
        }
        let mut out = Vec::with_capacity(16 + 8 * words.len());
        out.extend(total.to_le_bytes());
        out.extend((rows - self.alive).to_le_bytes());
        for word in words {
            out.extend(word.to_le_bytes());
        }
        out
    }

    /// The stored row of the `n`th alive one.
    fn select(&self, n: u64) -> u64 {
        let block = self.before.partition_point(|&b| b <= n).saturating_sub(1);
        let mut left = n - self.before.get(block).copied().unwrap_or(0);
        for (i, &word) in self.words.iter().enumerate().skip(block * STEP) {
            let ones = word.count_ones() as u64;
            if left < ones {
                let mut word = word;
                for _ in 0..left {
                    word &= word - 1;
                }
                return i as u64 * 64 + word.trailing_zeros() as u64;
            }
            left -= ones;
        }
        self.words.len() as u64 * 64
    }

    /// The stored rows of these alive rows, as runs without gaps, in order.
    pub fn runs(&self, alive: Range<u64>) -> Runs<'_> {
        let next = if alive.is_empty() { 0 } else { self.select(alive.start) };
        Runs { bitmap: self, next, left: alive.end.saturating_sub(alive.start) }
    }
}

/// See [`Alive::runs`].
pub struct Runs<'a> {
    bitmap: &'a Alive,
    next: u64,
    left: u64,
}

impl Runs<'_> {
    /// From `row` on, the first row that is (or is not) alive.
    fn seek(&self, row: u64, alive: bool) -> u64 {
        let mut i = (row / 64) as usize;
        let mut skip = row % 64;
        while let Some(&word) = self.bitmap.words.get(i) {
            let word = (if alive { word } else { !word }) >> skip << skip;
            if word != 0 {
                return i as u64 * 64 + word.trailing_zeros() as u64;
            }
            i += 1;
            skip = 0;
        }
        self.bitmap.words.len() as u64 * 64
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;
    fn next(&mut self) -> Option<Range<u64>> {
        if self.left == 0 {
            return None;
        }
        let start = self.seek(self.next, true);
        let end = self.seek(start, false).min(start + self.left);
        if end <= start {
            return None;
        }
        self.left -= end - start;
        self.next = end;
        Some(start..end)
    }
}
