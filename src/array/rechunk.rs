//! Arrays whose rows are so wide, or whose pieces so many side by side, that few rows fit into
//! memory at a time: copied once to a temporary file in C order, tile by tile, by all threads that
//! ask for rows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::element::Element;
use super::strided::{Strided, Tile};
use crate::error::{Error, Result, locked};
use crate::storage::{Blob, file_blob, temporary};

/// Bytes of one column in a tile.
const RUN_BYTES: u64 = 4 << 10;
/// Bytes of a tile of a strided array; it is held twice.
pub const TILE_BYTES: u64 = 4 << 20;

/// Puts one tile into its places of the file.
type WriteTile = dyn Fn(u64, &File) -> Result<()> + Send + Sync;

/// A copy under way.
pub struct Rechunk {
    tiles: u64,
    write: Box<WriteTile>,
    to: File,
    done_blob: Arc<dyn Blob>,
    next: AtomicU64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    done: u64,
    error: Option<Error>,
}

impl Rechunk {
    /// A copy of `bytes` bytes in all; `write` puts each of so many tiles into its places.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn new(bytes: u64, tiles: u64, write: Box<WriteTile>) -> Result<Rechunk> {
        let to = temporary::file()?;
        to.set_len(bytes).map_err(temporary::error)?;
        let done_blob = file_blob(to.try_clone()?)?;
        Ok(Rechunk {
            tiles,
            write,
            to,
            done_blob,
            next: AtomicU64::new(0),
            state: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    /// Of what is taken of the elements of an array in Fortran order (two dimensions at least, none
    /// empty).
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn strided(from: Arc<dyn Blob>, strided: Strided, element: Element) -> Result<Rechunk> {
        let rows = strided.shape.first().copied().unwrap_or(1);
        let row_bytes =
            strided.row_bytes().ok_or_else(|| Error::corrupt("the shape is too large"))?;
        let item = strided.item_bytes.max(1);
        let columns = row_bytes / item;
        let tile_rows = (RUN_BYTES / item).clamp(1, rows.max(1));
        let tile_columns = (TILE_BYTES / (tile_rows * item)).clamp(1, columns.max(1));
        let across = columns.div_ceil(tile_columns);
        let bytes = rows.saturating_mul(columns).saturating_mul(element.packed_bytes() as u64);
        let tiles =
            StridedTiles { from, strided, element, rows, columns, tile_rows, tile_columns, across };
        let count = across * rows.div_ceil(tile_rows);
        Rechunk::new(bytes, count, Box::new(move |i, to| tiles.write(i, to)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Takes part until nothing is left, waits for the others, and returns the array in C order,
    /// from byte 0.
    ///
    /// # Errors
    /// Reading errors; disk full.
    pub fn finished(&self) -> Result<&Arc<dyn Blob>> {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= self.tiles {
                break;
            }
            let mut turn = TileInHand {
                of: self,
                result: Err(Error::internal("a worker thread ended unexpectedly")),
            };
            let failed = self.lock().error.is_some();
            turn.result = if failed { Ok(()) } else { (self.write)(i, &self.to) };
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
}

/// The tiles of a strided array.
struct StridedTiles {
    from: Arc<dyn Blob>,
    strided: Strided,
    element: Element,
    rows: u64,
    columns: u64,
    /// Rows and columns of a tile, and how many tiles are side by side.
    tile_rows: u64,
    tile_columns: u64,
    across: u64,
}

impl StridedTiles {
    fn write(&self, i: u64, to: &File) -> Result<()> {
        let (first_row, first_column) =
            (i / self.across * self.tile_rows, i % self.across * self.tile_columns);
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
                tile.push(
                    self.column(column) + first_row * item,
                    ((column - first_column) * item) as usize,
                );
            }
            tile.read(self.from.as_ref(), rows * item)?;
            tile.place(item as usize, rows as usize, item as usize, line, &mut out);
            at += n;
        }
        let (out, item) = (self.element.pack(out), self.element.packed_bytes() as u64);
        let (row_bytes, line) = (self.columns * item, (columns * item) as usize);
        if columns == self.columns {
            return to.write_all_at(&out, first_row * row_bytes).map_err(temporary::error);
        }
        for (row, bytes) in out.chunks_exact(line).enumerate() {
            to.write_all_at(bytes, (first_row + row as u64) * row_bytes + first_column * item)
                .map_err(temporary::error)?;
        }
        Ok(())
    }

    /// Where a column (counted in C order over the inner dimensions) begins in the source.
    fn column(&self, column: u64) -> u64 {
        let (mut at, mut left) = (0, column);
        for (&n, &stride) in self.strided.shape.iter().zip(&self.strided.stride_bytes).skip(1).rev()
        {
            at += left % n * stride;
            left /= n;
        }
        at
    }
}

/// A tile in hand: counted when it is put down, whatever happened.
struct TileInHand<'a> {
    of: &'a Rechunk,
    result: Result<()>,
}

impl Drop for TileInHand<'_> {
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
