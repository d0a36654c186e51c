//! Means over the blocks of a plane: what a heat map shows.
//!
//! The plane of an array is its rows, and all elements of a row side by side:
//! `x.reshape(len(x), -1)`. Of `R` rows, block `i` of `n` holds rows `i * R // n` up to
//! `(i + 1) * R // n`; columns alike.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{ArrayMeta, checked_product};

/// A cell has values that are no finite numbers.
pub const NAN: u8 = 1;
/// See [`NAN`].
pub const INFINITE: u8 = 2;
/// See [`NAN`].
pub const NULL: u8 = 4;

/// Rows and columns of the plane of an array: its rows, and all elements of a row side by side.
pub(super) fn plane(meta: &ArrayMeta) -> Option<[u64; 2]> {
    Some([meta.rows?, checked_product(meta.element_dims())?])
}

/// The blocks of a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Rows and columns of the plane.
    pub plane: [u64; 2],
    /// Rows and columns of blocks, at most as many.
    pub blocks: [usize; 2],
}

impl Grid {
    /// At most so many blocks for a plane; `None` where it has no elements.
    pub fn new(plane: [u64; 2], most: [usize; 2]) -> Option<Grid> {
        let least = |n: u64, most: usize| n.min(most as u64) as usize;
        let blocks = [least(plane[0], most[0]), least(plane[1], most[1])];
        (blocks[0] > 0 && blocks[1] > 0).then_some(Grid { plane, blocks })
    }
    /// Where a block begins along an axis.
    fn edge(&self, axis: usize, block: usize) -> u64 {
        let edge = block as u128 * u128::from(self.plane[axis]) / self.blocks[axis] as u128;
        edge as u64
    }
    /// The block of a row or column.
    fn block(&self, axis: usize, at: u64) -> usize {
        let (n, of) = (self.blocks[axis] as u128, u128::from(self.plane[axis]));
        (((u128::from(at) + 1) * n - 1) / of) as usize
    }
}

/// Rows of so many columns are summed up column by column.
const MAX_COLUMNS: u64 = 1 << 14;
/// Where blocks are as wide as this, their elements are summed up at once.
const WIDE: u64 = 256;
/// Where blocks have fewer rows, columns pay less than they cost.
const FEW_ROWS: u64 = 4;
/// Narrow rows are taken together up to so many elements.
const TOGETHER: u64 = 512;

/// Sums over some rows of blocks.
#[derive(Clone, Debug)]
pub struct Sums {
    /// As it is shown.
    shown: Grid,
    /// As it is summed up.
    grid: Grid,
    /// Where the columns of blocks end.
    ends: Arc<[u64]>,
    first: usize,
    cells: Vec<Cell>,
    tally: Option<Tally>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    sum: f64,
    count: u64,
    marks: u8,
}

/// The sums of columns over a run of finite elements of one row of blocks, which are no part of the
/// cells yet: rows of blocks are long, and their parts of a row short.
#[derive(Clone, Debug)]
struct Tally {
    /// Of one row or several.
    sums: Vec<f64>,
    line: usize,
    from: u64,
    to: u64,
}

impl Tally {
    fn new(grid: &Grid) -> Option<Tally> {
        let [rows, columns] = grid.plane;
        let block = rows / grid.blocks[0].max(1) as u64;
        let width = columns / grid.blocks[1].max(1) as u64;
        let is_direct = columns > MAX_COLUMNS || width >= WIDE || block < FEW_ROWS;
        let together = (TOGETHER / columns.max(1)).min(block / 8).max(1);
        let sums = || vec![0.0; (together * columns) as usize];
        (!is_direct).then(|| Tally { sums: sums(), line: 0, from: 0, to: 0 })
    }
    /// Adds elements from the place `to` on.
    #[inline(always)]
    fn add<T: Copy>(&mut self, values: &[T], real: impl Fn(T) -> f64 + Copy) {
        let mut start = (self.to % self.sums.len() as u64) as usize;
        let mut rest = values;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.sums.len() - start));
            let sums = &mut self.sums[start..start + now.len()];
            sums.iter_mut().zip(now).for_each(|(sum, &value)| *sum += real(value));
            (start, rest) = (0, later);
        }
        self.to += values.len() as u64;
    }
    /// How many elements of these columns there are before a place of the plane.
    fn before(place: u64, columns: u64, of: &Range<u64>) -> u64 {
        let (rows, column) = (place / columns, place % columns);
        rows * (of.end - of.start) + column.clamp(of.start, of.end) - of.start
    }
    /// Adds what there is to the cells, and begins again.
    fn settle(&mut self, columns: u64, ends: &[u64], cells: &mut [Cell]) {
        let mut start = 0;
        for (&end, cell) in ends.iter().zip(cells) {
            let of = start..end;
            cell.count +=
                Tally::before(self.to, columns, &of) - Tally::before(self.from, columns, &of);
            for row in self.sums.chunks(columns as usize) {
                cell.sum += row[start as usize..end as usize].iter().sum::<f64>();
            }
            start = end;
        }
        self.sums.fill(0.0);
        self.from = self.to;
    }
}

impl Sums {
    /// None yet, from the row of blocks of `row` on.
    pub fn new(grid: Grid, row: u64) -> Sums {
        let shown = grid;
        let (grid, row) = match (grid.plane, grid.blocks) {
            // One column is one row as well, and its blocks are runs.
            ([rows, 1], [blocks, _]) => (Grid { plane: [1, rows], blocks: [1, blocks] }, 0),
            _ => (grid, row),
        };
        let ends = (1..=grid.blocks[1]).map(|b| grid.edge(1, b)).collect();
        let first = if row < grid.plane[0] { grid.block(0, row) } else { 0 };
        Sums { shown, grid, ends, first, cells: Vec::new(), tally: Tally::new(&grid) }
    }

    /// The cells of a row of blocks.
    fn line(&mut self, line: usize) -> &mut [Cell] {
        let width = self.grid.blocks[1];
        let start = (line - self.first) * width;
        if self.cells.len() < start + width {
            self.cells.resize(start + width, Cell::default());
        }
        &mut self.cells[start..start + width]
    }

    /// Makes the cells whole, and gives room back: before this waits to be merged.
    pub fn settle(&mut self) {
        self.flush();
        self.tally = None;
    }

    /// Makes the cells whole.
    fn flush(&mut self) {
        let Some(mut tally) = self.tally.take() else { return };
        if tally.from < tally.to {
            let ends = self.ends.clone();
            tally.settle(self.grid.plane[1], &ends, self.line(tally.line));
        }
        self.tally = Some(tally);
    }

    /// Hands on each run of elements of one block: its cell, and which they are. `at` is the first
    /// element's place in the plane.
    #[inline(always)]
    fn runs(&mut self, at: u64, count: usize, mut take: impl FnMut(&mut Cell, Range<usize>)) {
        let (grid, ends) = (self.grid, self.ends.clone());
        let (columns, width) = (grid.plane[1], grid.blocks[1]);
        let (mut row, mut column) = (at / columns, at % columns);
        let mut done = 0;
        while done < count {
            let line = grid.block(0, row);
            let last = grid.edge(0, line + 1);
            let cells = self.line(line);
            while done < count && row < last {
                let mut block = if column == 0 { 0 } else { grid.block(1, column) };
                while done < count && block < width {
                    let n = ((ends[block] - column) as usize).min(count - done);
                    take(&mut cells[block], done..done + n);
                    done += n;
                    column += n as u64;
                    block += 1;
                }
                (row, column) = (row + 1, 0);
            }
        }
    }

    /// Adds elements, which `real` tells; `finite`: all of them are.
    #[inline(always)]
    pub fn add<T: Copy>(
        &mut self,
        at: u64,
        values: &[T],
        finite: bool,
        real: impl Fn(T) -> f64 + Copy,
    ) {
        if !finite {
            return self.runs(at, values.len(), |cell, run| {
                for &value in &values[run] {
                    let value = real(value);
                    if value.is_finite() {
                        cell.sum += value;
                        cell.count += 1;
                    } else {
                        cell.marks |= if value.is_nan() { NAN } else { INFINITE };
                    }
                }
            });
        }
        if self.tally.is_none() {
            return self.runs(at, values.len(), |cell, run| {
                cell.count += run.len() as u64;
                cell.sum += sum(&values[run], real);
            });
        }
        let (mut at, mut rest) = (at, values);
        while !rest.is_empty() {
            let line = self.grid.block(0, at / self.grid.plane[1]);
            let end = self.grid.edge(0, line + 1).saturating_mul(self.grid.plane[1]);
            let (now, later) = rest.split_at(rest.len().min((end - at) as usize));
            if self.tally.as_ref().is_some_and(|tally| (tally.line, tally.to) != (line, at)) {
                self.flush();
            }
            let Some(tally) = &mut self.tally else { return };
            if tally.from == tally.to {
                (tally.line, tally.from, tally.to) = (line, at, at);
            }
            tally.add(now, real);
            (at, rest) = (at + now.len() as u64, later);
        }
    }

    /// Elements that are null.
    pub fn null(&mut self, at: u64, count: usize) {
        self.runs(at, count, |cell, _| cell.marks |= NULL);
    }

    /// Adds the sums of later or the same rows.
    pub fn merge(&mut self, mut other: Sums) {
        self.settle();
        other.settle();
        let Some(skip) = other.first.checked_sub(self.first) else { return };
        let start = skip * self.grid.blocks[1];
        let end = start + other.cells.len();
        self.cells.resize(self.cells.len().max(end), Cell::default());
        for (cell, more) in self.cells[start..end].iter_mut().zip(&other.cells) {
            cell.sum += more.sum;
            cell.count += more.count;
            cell.marks |= more.marks;
        }
    }

    /// The means; NaN where a block has no finite value.
    pub fn finish(mut self) -> HeatMap {
        self.settle();
        let Grid { plane, blocks } = self.shown;
        let mut cells = self.cells;
        cells.resize(blocks[0] * blocks[1], Cell::default());
        let means = cells.iter().map(|c| c.sum / c.count as f64).collect();
        let marks: Vec<u8> = cells.iter().map(|c| c.marks).collect();
        HeatMap { plane, blocks, means, marks }
    }
}

/// Eight sums at once: each waits for the addition before.
#[inline(always)]
fn sum<T: Copy>(values: &[T], real: impl Fn(T) -> f64) -> f64 {
    let mut sums = [0f64; 16];
    let (whole, rest) = values.as_chunks::<16>();
    let rest: f64 = rest.iter().map(|&v| real(v)).sum();
    for sixteen in whole {
        for (sum, &value) in sums.iter_mut().zip(sixteen) {
            *sum += real(value);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The means of blocks, row by row.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// Rows and columns of the plane.
    pub plane: [u64; 2],
    /// Rows and columns of blocks.
    pub blocks: [usize; 2],
    /// The means of the finite values; NaN where there is none.
    pub means: Vec<f64>,
    /// Which blocks have others: [`NAN`], [`INFINITE`], [`NULL`].
    pub marks: Vec<u8>,
}

impl HeatMap {
    /// What the ends of the colours stand for: around 0 where there are values below it.
    pub fn scale(&self) -> Option<Scale> {
        let finite = || self.means.iter().copied().filter(|m| m.is_finite());
        let low = finite().reduce(f64::min)?;
        let high = finite().reduce(f64::max)?;
        Some(if low < 0.0 {
            let most = high.abs().max(low.abs());
            Scale { low: -most, high: most, diverging: true }
        } else {
            Scale { low, high, diverging: false }
        })
    }
}

/// The range of colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The first colour's value.
    pub low: f64,
    /// The last one's.
    pub high: f64,
    /// Around 0, which has a colour of its own.
    pub diverging: bool,
}

impl Scale {
    /// Where a value is between both ends, from 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        // Halves: the whole range may be more than a float holds.
        let range = self.high / 2.0 - self.low / 2.0;
        if range > 0.0 { ((value / 2.0 - self.low / 2.0) / range).clamp(0.0, 1.0) } else { 0.5 }
    }
}
