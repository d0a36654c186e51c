//! How many rows all columns of a table have, while their chunks arrive one after the other.

/// Rows that have arrived of each column, and the fewest of them: known without a look at every
/// column for every chunk.
#[derive(Debug)]
pub struct CommonRows {
    rows: Vec<u64>,
    fewest: u64,
    /// How many columns have no more than the fewest.
    behind: usize,
}

impl CommonRows {
    /// No rows of this many columns.
    pub fn new(columns: usize) -> CommonRows {
        CommonRows { rows: vec![0; columns], fewest: 0, behind: columns }
    }
    /// The rows that every column has.
    pub fn all(&self) -> u64 {
        self.fewest
    }
    /// Counts rows of a column; true where all columns have more of them by this.
    pub fn add(&mut self, column: usize, rows: u64) -> bool {
        let was_behind = self.rows[column] == self.fewest && rows > 0;
        self.rows[column] += rows;
        if was_behind {
            self.behind -= 1;
        }
        if !was_behind || self.behind > 0 {
            return false;
        }
        self.find_fewest();
        true
    }
    /// Takes rows from every column, at most those that [`CommonRows::all`] tells.
    pub fn take(&mut self, rows: u64) {
        self.rows.iter_mut().for_each(|n| *n -= rows);
        self.find_fewest();
    }
    fn find_fewest(&mut self) {
        self.fewest = self.rows.iter().copied().min().unwrap_or(0);
        self.behind = self.rows.iter().filter(|&&n| n == self.fewest).count();
    }
}
