//! Arrays in Fortran order with rows so wide that only a few fit into memory: transposed into a temporary file first, tile
//! by tile, by all threads that ask for rows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::layout::{Strided, Tile};
use crate::error::{Error, Result};
use crate::location::{Blob, file_blob, temporary};

/// Bytes of one column in a tile.
const RUN_BYTES: u64 = 4 << 10;
/// Bytes of a tile; it is held twice.
pub const TILE_BYTES: u64 = 4 << 20;

/// A transposition under way.
pub struct Transposition {
    from: Arc<dyn Blob>,
    strided: Strided,
    to: File,
    done_blob: Arc<dyn Blob>,
    rows: u64,
    columns: u64,
    /// Rows and columns of a tile, and how many tiles are side by side.
    tile_rows: u64,
    tile_columns: u64,
    across: u64,
    tiles: u64,
    next: AtomicU64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    done: u64,
    error: Option<Error>,
}

impl Transposition {
    /// Of an array in Fortran order (two dimensions at least, none empty).
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn new(from: Arc<dyn Blob>, strided: Strided) -> Result<Transposition> {
        let to = temporary::file()?;
        let rows = strided.shape.first().copied().unwrap_or(1);
        let row_bytes = strided.row_bytes().ok_or_else(|| Error::corrupt("the shape is too large"))?;
        let item = strided.item_bytes.max(1);
        let columns = row_bytes / item;
        to.set_len(rows.saturating_mul(row_bytes)).map_err(temporary::error)?;
        let tile_rows = (RUN_BYTES / item).clamp(1, rows.max(1));
        let tile_columns = (TILE_BYTES / (tile_rows * item)).clamp(1, columns.max(1));
        let across = columns.div_ceil(tile_columns);
        let tiles = across * rows.div_ceil(tile_rows);
        let done_blob = file_blob(to.try_clone()?)?;
        let (next, state, moved) = (AtomicU64::new(0), Mutex::default(), Condvar::new());
        Ok(Transposition { from, strided, to, done_blob, rows, columns, tile_rows, tile_columns, across, tiles, next, state, moved })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes part until nothing is left, waits for the others, and returns the array in C order, from byte 0.
    ///
    /// # Errors
    /// Reading errors; disk full.
    pub fn help(&self) -> Result<&Arc<dyn Blob>> {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= self.tiles {
                break;
            }
            let mut turn = Turn { of: self, result: Err(Error::internal("a worker thread ended unexpectedly")) };
            turn.result = self.tile(i);
        }
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if state.done == self.tiles {
                return Ok(&self.done_blob);
            }
            state = self.moved.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    fn tile(&self, i: u64) -> Result<()> {
        if self.lock().error.is_some() {
            return Ok(());
        }
        let (first_row, first_column) = (i / self.across * self.tile_rows, i % self.across * self.tile_columns);
        let rows = self.tile_rows.min(self.rows - first_row);
        let columns = self.tile_columns.min(self.columns - first_column);
        let item = self.strided.item_bytes;
        let line = (columns * item) as usize;
        let mut out = vec![0; rows as usize * line];
        let mut tile = Tile::default();
        // Narrow strips stay in the cache while they are turned.
        let strip = 128.min(columns);
        let mut at = 0;
        while at < columns {
            let n = strip.min(columns - at);
            tile.clear();
            for column in first_column + at..first_column + at + n {
                tile.push(self.column(column) + first_row * item, ((column - first_column) * item) as usize);
            }
            tile.read(self.from.as_ref(), rows * item)?;
            tile.place(item as usize, rows as usize, item as usize, line, &mut out);
            at += n;
        }
        let row_bytes = self.columns * item;
        if columns == self.columns {
            return self.to.write_all_at(&out, first_row * row_bytes).map_err(temporary::error);
        }
        for (row, bytes) in out.chunks_exact(line).enumerate() {
            self.to.write_all_at(bytes, (first_row + row as u64) * row_bytes + first_column * item).map_err(temporary::error)?;
        }
        Ok(())
    }

    /// Where a column (counted in C order over the inner dimensions) begins in the source.
    fn column(&self, column: u64) -> u64 {
        let (mut at, mut left) = (self.strided.base, column);
        for (&n, &stride) in self.strided.shape.iter().zip(&self.strided.stride_bytes).skip(1).rev() {
            at += left % n * stride;
            left /= n;
        }
        at
    }
}

/// A tile in hand: counted when it is put down, whatever happened.
struct Turn<'a> {
    of: &'a Transposition,
    result: Result<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.done += 1;
        if let Err(error) = std::mem::replace(&mut self.result, Ok(())) {
            state.error.get_or_insert(error);
        }
        drop(state);
        self.of.moved.notify_all();
    }
}
