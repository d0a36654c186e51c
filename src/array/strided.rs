//! Strided elements, gathered to C order in tiles that stay in the cache.
//!
//! A tile takes a run of elements along the dimension that lies closest together in the source, for
//! several positions of all other dimensions ("columns"), so that reads are as long as possible and
//! the output is written line by line.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::storage::Blob;

/// Bytes read along one column at a time.
const RUN_BYTES: u64 = 8 << 10;
/// Bytes of a tile's buffer, about (half of a usual L2 cache).
const TILE_BYTES: u64 = 512 << 10;
/// Columns closer together than this are read in one go: a system call costs more than copying the
/// gap.
const GAP_BYTES: u64 = 4 << 10;
/// A single read across gaps is never longer.
const SPAN_BYTES: u64 = 1 << 20;
/// Runs shorter than this are not worth a read each.
const SHORT_BYTES: u64 = 256;
/// Bytes of a piece of rows that stays in the cache until it is written.
const PIECE_BYTES: u64 = 2 << 20;
/// The most bytes of a piece, where rows are so wide that it takes more to read long runs.
const MAX_PIECE_BYTES: u64 = 16 << 20;

/// An array whose elements are at `Σ index[k] · strides[k]` behind the first byte of a blob.
#[derive(Clone, Debug)]
pub struct Strided {
    /// Bytes of one element.
    pub item_bytes: u64,
    /// Its shape; rank 0 is an empty one.
    pub shape: Vec<u64>,
    /// Bytes from one element to the next, a dimension each.
    pub stride_bytes: Vec<u64>,
}

/// A dimension on its way from source to output.
#[derive(Clone, Copy)]
struct Dim {
    count: u64,
    from: u64,
    to: u64,
}

/// Bytes from one element to the next of an array without gaps: in C order, or the first index
/// fastest. `None` where they overflow.
pub fn strides(shape: &[u64], item_bytes: u64, fortran: bool) -> Option<Vec<u64>> {
    let mut strides = vec![0; shape.len()];
    let mut step = item_bytes;
    let rank = shape.len();
    for k in (0..rank).map(|k| if fortran { k } else { rank - 1 - k }) {
        strides[k] = step;
        step = step.checked_mul(shape[k].max(1))?;
    }
    Some(strides)
}

impl Strided {
    /// Whether the elements are in C order without gaps: then there is nothing to gather.
    pub fn is_c_order(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut due = self.item_bytes;
        for (&n, &stride) in self.shape.iter().zip(&self.stride_bytes).rev() {
            if n != 1 && stride != due {
                return false;
            }
            due = due.saturating_mul(n);
        }
        true
    }

    /// The first byte after the last element; 0 for an empty array, `None` on overflow.
    pub fn end(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut end = self.item_bytes;
        for (&n, &stride) in self.shape.iter().zip(&self.stride_bytes) {
            end = end.checked_add((n - 1).checked_mul(stride)?)?;
        }
        Some(end)
    }

    /// Bytes of one row in C order, `None` on overflow.
    pub fn row_bytes(&self) -> Option<u64> {
        self.shape.iter().skip(1).try_fold(self.item_bytes, |n, &d| n.checked_mul(d))
    }

    /// Where a piece that begins at `row` should end, so that its reads are long; `memory_bytes` is
    /// the budget of all.
    pub fn next_boundary(&self, row: u64, memory_bytes: u64) -> u64 {
        let row_bytes = self.row_bytes().unwrap_or(u64::MAX).max(1);
        let whole_runs = (RUN_BYTES / self.item_bytes.max(1)).max(1);
        let most = (MAX_PIECE_BYTES.min(memory_bytes / 8).max(1 << 16) / row_bytes).max(1);
        let mut rows = (PIECE_BYTES / row_bytes).max(whole_runs).min(most);
        if rows > whole_runs {
            rows -= rows % whole_runs;
        }
        (row / rows + 1).saturating_mul(rows)
    }

    /// Whether a piece of rows that fits into memory takes so little of each column that reading it
    /// would mean reading all of the file again and again.
    pub fn is_wide(&self, memory_bytes: u64) -> bool {
        let rows = self.next_boundary(0, memory_bytes);
        self.shape.first().is_some_and(|&all| all > rows)
            && rows.saturating_mul(self.item_bytes) < SHORT_BYTES
    }

    /// Reads rows in C order.
    ///
    /// # Errors
    /// Reading errors; corrupt where the bytes end before the last element.
    pub fn gather(&self, blob: &dyn Blob, rows: Range<u64>) -> Result<Vec<u8>> {
        let too_large = || Error::corrupt(format!("the shape {:?} is too large", self.shape));
        let count = if self.shape.is_empty() { 1 } else { rows.end.saturating_sub(rows.start) };
        let total = self
            .row_bytes()
            .and_then(|n| n.checked_mul(count))
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(too_large)?;
        if self.end().is_none_or(|end| end > blob.len()) {
            return Err(Error::corrupt(format!(
                "the file has only {} bytes, the array needs more",
                blob.len()
            )));
        }
        let first = if self.shape.is_empty() { 0 } else { rows.start };
        let base = first * self.stride_bytes.first().copied().unwrap_or(0);
        let mut out = vec![0u8; total];
        if total == 0 {
            return Ok(out);
        }
        let mut dims = self.dims(count);
        if dims.is_empty() {
            dims.push(Dim { count: 1, from: self.item_bytes, to: self.item_bytes });
        }
        // The dimension that lies closest together in the source is the run of a tile.
        let run_at = (0..dims.len())
            .min_by_key(|&i| {
                (if dims[i].from == 0 { u64::MAX } else { dims[i].from }, usize::MAX - i)
            })
            .unwrap_or(0);
        let run = dims.remove(run_at);
        if dims.is_empty() && run.from == self.item_bytes {
            blob.read_at(base, &mut out)?;
            return Ok(out);
        }
        self.tiles(blob, base, run, &dims, &mut out)?;
        Ok(out)
    }

    /// The dimensions of `count` rows, without those of one element, neighbours merged where they
    /// are contiguous.
    fn dims(&self, count: u64) -> Vec<Dim> {
        let mut dims: Vec<Dim> = Vec::with_capacity(self.shape.len());
        let mut to = self.item_bytes;
        for k in (0..self.shape.len()).rev() {
            let n = if k == 0 { count } else { self.shape[k] };
            let from = self.stride_bytes[k];
            if n != 1 {
                match dims.last_mut() {
                    Some(inner) if Some(from) == inner.from.checked_mul(inner.count) => {
                        inner.count *= n
                    }
                    _ => dims.push(Dim { count: n, from, to }),
                }
            }
            to *= n;
        }
        dims.reverse();
        dims
    }

    fn tiles(
        &self,
        blob: &dyn Blob,
        base: u64,
        run: Dim,
        columns: &[Dim],
        out: &mut [u8],
    ) -> Result<()> {
        let item = self.item_bytes as usize;
        let run_len = if run.from == self.item_bytes {
            RUN_BYTES / run.from.max(1)
        } else {
            (16 * RUN_BYTES) / run.from.max(1)
        };
        let run_len = run_len.clamp(1, run.count);
        let run_bytes = (run_len - 1) * run.from + self.item_bytes;
        let total_columns: u64 = columns.iter().map(|d| d.count).product();
        let width = (TILE_BYTES / run_bytes.max(1)).clamp(1, 4096).min(total_columns) as usize;
        let mut tile = Tile::default();
        let mut first = 0;
        while first < run.count {
            let len = run_len.min(run.count - first);
            let mut at = Columns::new(columns, base + first * run.from, first * run.to);
            let mut left = total_columns;
            while left > 0 {
                tile.clear();
                for _ in 0..(width as u64).min(left) {
                    tile.push(at.from, at.to as usize);
                    at.step();
                }
                left -= tile.from.len() as u64;
                tile.read(blob, (len - 1) * run.from + self.item_bytes)?;
                tile.place(item, len as usize, run.from as usize, run.to as usize, out);
            }
            first += len;
        }
        Ok(())
    }
}

/// Counts through all columns, the last dimension fastest.
struct Columns<'a> {
    dims: &'a [Dim],
    index: Vec<u64>,
    from: u64,
    to: u64,
}

impl Columns<'_> {
    fn new(dims: &[Dim], from: u64, to: u64) -> Columns<'_> {
        Columns { dims, index: vec![0; dims.len()], from, to }
    }
    fn step(&mut self) {
        for (dim, index) in self.dims.iter().zip(&mut self.index).rev() {
            *index += 1;
            self.from += dim.from;
            self.to += dim.to;
            if *index < dim.count {
                return;
            }
            *index = 0;
            self.from -= dim.from * dim.count;
            self.to -= dim.to * dim.count;
        }
    }
}

/// Some columns of one run.
#[derive(Default)]
pub(super) struct Tile {
    from: Vec<u64>,
    to: Vec<usize>,
    /// Where each column begins in `buffer`.
    at: Vec<usize>,
    buffer: Vec<u8>,
}

impl Tile {
    /// Takes another column: where it begins in the source, and in the output.
    pub(super) fn push(&mut self, from: u64, to: usize) {
        self.from.push(from);
        self.to.push(to);
    }

    pub(super) fn clear(&mut self) {
        self.from.clear();
        self.to.clear();
        self.at.clear();
    }

    /// Reads `len` bytes of every column; columns that lie close together at once.
    pub(super) fn read(&mut self, blob: &dyn Blob, len: u64) -> Result<()> {
        let mut used = 0;
        let mut i = 0;
        while i < self.from.len() {
            let start = self.from[i];
            let mut end = start + len;
            let mut j = i + 1;
            while let Some(&next) = self.from.get(j)
                && next >= start
                && next <= end + GAP_BYTES
                && next + len <= start + SPAN_BYTES.max(len)
            {
                end = end.max(next + len);
                j += 1;
            }
            let bytes = (end - start) as usize;
            if self.buffer.len() < used + bytes {
                self.buffer.resize(used + bytes, 0);
            }
            blob.read_at(start, &mut self.buffer[used..used + bytes])?;
            self.at.extend(self.from[i..j].iter().map(|&f| used + (f - start) as usize));
            // An odd number of cache lines between columns, so that they do not fight for the same
            // places of the cache.
            used += bytes.next_multiple_of(64)
                + if bytes.div_ceil(64).is_multiple_of(2) { 64 } else { 0 };
            i = j;
        }
        Ok(())
    }

    /// Puts `len` elements of every column into their places.
    pub(super) fn place(&self, item: usize, len: usize, from: usize, to: usize, out: &mut [u8]) {
        if from == item && to == item {
            for (&at, &target) in self.at.iter().zip(&self.to) {
                out[target..target + len * item].copy_from_slice(&self.buffer[at..at + len * item]);
            }
            return;
        }
        let turned = from == item && self.to.windows(2).all(|w| w[1] == w[0] + item);
        match (item, turned) {
            (1, true) => self.turn::<1, 64>(len, to, out),
            (2, true) => self.turn::<2, 32>(len, to, out),
            (4, true) => self.turn::<4, 16>(len, to, out),
            (8, true) => self.turn::<8, 8>(len, to, out),
            (16, true) => self.turn::<16, 4>(len, to, out),
            (1, false) => self.place_items::<1>(len, from, to, out),
            (2, false) => self.place_items::<2>(len, from, to, out),
            (4, false) => self.place_items::<4>(len, from, to, out),
            (8, false) => self.place_items::<8>(len, from, to, out),
            (16, false) => self.place_items::<16>(len, from, to, out),
            _ => {
                for i in 0..len {
                    for (&at, &target) in self.at.iter().zip(&self.to) {
                        out[target + i * to..][..item]
                            .copy_from_slice(&self.buffer[at + i * from..][..item]);
                    }
                }
            }
        }
    }

    /// Columns without gaps become lines without gaps, in blocks of one cache line each way (`N *
    /// B` bytes).
    fn turn<const N: usize, const B: usize>(&self, len: usize, to: usize, out: &mut [u8]) {
        let Some(&first) = self.to.first() else { return };
        let mut block = [[[0u8; N]; B]; B];
        for row in (0..len).step_by(B) {
            let rows = B.min(len - row);
            for (group, columns) in self.at.chunks(B).enumerate() {
                for (c, &at) in columns.iter().enumerate() {
                    let column = self.buffer[at + row * N..][..rows * N].as_chunks::<N>().0;
                    match <&[[u8; N]; B]>::try_from(column) {
                        Ok(column) => {
                            block.iter_mut().zip(column).for_each(|(line, item)| line[c] = *item)
                        }
                        Err(_) => {
                            block.iter_mut().zip(column).for_each(|(line, item)| line[c] = *item)
                        }
                    }
                }
                let target = first + row * to + group * B * N;
                for (r, line) in block[..rows].iter().enumerate() {
                    out[target + r * to..][..columns.len() * N]
                        .copy_from_slice(&line.as_flattened()[..columns.len() * N]);
                }
            }
        }
    }

    fn place_items<const N: usize>(&self, len: usize, from: usize, to: usize, out: &mut [u8]) {
        for i in 0..len {
            let source = &self.buffer[i * from..];
            for (&target, &at) in self.to.iter().zip(&self.at) {
                out[target + i * to..][..N].copy_from_slice(&source[at..at + N]);
            }
        }
    }
}
