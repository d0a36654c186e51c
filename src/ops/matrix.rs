//! Columns side by side, as the rows of a matrix.

use super::op::Stack;
use crate::model::{Buf, Chunk, Values};

/// Rows of a matrix, whose columns are put into it one after the other.
pub(super) struct Matrix {
    values: Vec<u8>,
    rows: u64,
    item: usize,
    width: usize,
}

impl Matrix {
    pub(super) fn new(stack: &Stack, rows: u64) -> Matrix {
        let (item, width) = (stack.dtype.item_bytes() as usize, stack.columns.len());
        Matrix { values: vec![0; rows as usize * item * width], rows, item, width }
    }
    /// Puts rows of a column to their places, the first of which is `row`; those that the matrix
    /// does not have are left out.
    pub(super) fn put(&mut self, column: usize, row: u64, chunk: &Chunk) {
        let row = row.min(self.rows);
        let (at, rows) = (row as usize * self.item * self.width, chunk.rows.min(self.rows - row));
        if let Values::Fixed(values) = &chunk.values {
            scatter(&mut self.values[at..], values, rows as usize, self.item, self.width, column);
        }
    }
    /// All of it.
    pub(super) fn into_chunk(self, array: usize, first_row: u64) -> Chunk {
        Chunk::fixed(array, first_row, self.rows, Buf::from_vec(self.values))
    }
}

/// Writes a column's elements to their places in rows of `width`.
fn scatter(out: &mut [u8], values: &[u8], rows: usize, item: usize, width: usize, column: usize) {
    macro_rules! by {
        ($n:literal) => {
            for (row, v) in values.chunks_exact($n).take(rows).enumerate() {
                let at = (row * width + column) * $n;
                out[at..at + $n].copy_from_slice(v);
            }
        };
    }
    match item {
        1 => by!(1),
        2 => by!(2),
        4 => by!(4),
        8 => by!(8),
        _ => by!(16),
    }
}
