//! Means over the blocks of a plane: what a heat map shows.
//!
//! The plane of an array is its rows, and all elements of a row side by side:
//! `x.reshape(len(x), -1)`. Of `R` rows, block `i` of `n` holds rows `i * R // n` up to
//! `(i + 1) * R // n`; columns alike.

/// A cell has values that are no finite numbers.
pub const NAN: u8 = 1;
/// See [`NAN`].
pub const INFINITE: u8 = 2;
/// See [`NAN`].
pub const NULL: u8 = 4;

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

/// Sums over some rows of blocks.
#[derive(Clone, Debug)]
pub struct Sums {
    grid: Grid,
    /// Where the columns of blocks end.
    ends: Vec<u64>,
    first: usize,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    sum: f64,
    count: u64,
    marks: u8,
}

impl Sums {
    /// None yet, from the row of blocks of `row` on.
    pub fn new(grid: Grid, row: u64) -> Sums {
        let ends = (1..=grid.blocks[1]).map(|b| grid.edge(1, b)).collect();
        let first = if row < grid.plane[0] { grid.block(0, row) } else { 0 };
        Sums { grid, ends, first, cells: Vec::new() }
    }

    /// Hands on each run of elements of one block: its cell, and which they are. `at` is the first
    /// element's place in the plane.
    #[inline(always)]
    fn runs(
        &mut self,
        at: u64,
        count: usize,
        mut take: impl FnMut(&mut Cell, std::ops::Range<usize>),
    ) {
        let (columns, width) = (self.grid.plane[1], self.grid.blocks[1]);
        let (mut row, mut column) = (at / columns, at % columns);
        let mut done = 0;
        while done < count {
            let line = (self.grid.block(0, row) - self.first) * width;
            if self.cells.len() < line + width {
                self.cells.resize(line + width, Cell::default());
            }
            let mut block = self.grid.block(1, column);
            let cells = &mut self.cells[line..line + width];
            while done < count && block < width {
                let n = ((self.ends[block] - column) as usize).min(count - done);
                take(&mut cells[block], done..done + n);
                done += n;
                column += n as u64;
                block += 1;
            }
            (row, column) = (row + 1, 0);
        }
    }

    /// Adds elements; `finite`: all of them are.
    #[inline(always)]
    pub fn add<T: Copy + Into<f64>>(&mut self, at: u64, values: &[T], finite: bool) {
        if finite {
            return self.runs(at, values.len(), |cell, run| {
                cell.count += run.len() as u64;
                cell.sum += sum(&values[run]);
            });
        }
        self.runs(at, values.len(), |cell, run| {
            for &value in &values[run] {
                let value: f64 = value.into();
                if value.is_finite() {
                    cell.sum += value;
                    cell.count += 1;
                } else {
                    cell.marks |= if value.is_nan() { NAN } else { INFINITE };
                }
            }
        });
    }

    /// Elements that are null.
    pub fn null(&mut self, at: u64, count: usize) {
        self.runs(at, count, |cell, _| cell.marks |= NULL);
    }

    /// Adds the sums of later or the same rows.
    pub fn merge(&mut self, other: &Sums) {
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
    pub fn finish(self) -> HeatMap {
        let Grid { plane, blocks } = self.grid;
        let mut cells = self.cells;
        cells.resize(blocks[0] * blocks[1], Cell::default());
        let means = cells.iter().map(|c| c.sum / c.count as f64).collect();
        let marks: Vec<u8> = cells.iter().map(|c| c.marks).collect();
        HeatMap { plane, blocks, means, marks }
    }
}

/// Eight sums at once: each waits for the addition before.
#[inline(always)]
fn sum<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let mut sums = [0f64; 8];
    let eights = values.chunks_exact(8);
    let rest: f64 = eights.remainder().iter().map(|&v| v.into()).sum();
    for eight in eights {
        for (sum, &value) in sums.iter_mut().zip(eight) {
            *sum += value.into();
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
