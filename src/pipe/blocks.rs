//! Regroups chunks into the blocks that a sink's encoder asks for.

use std::ops::Range;
use std::sync::Arc;

use super::memory::Memory;
use crate::error::{Error, Result};
use crate::format::{Block, Encode, Order};
use crate::model::{Buf, Chunk, CommonRows, Values};

type Give<'a> = &'a mut dyn FnMut(Block) -> Result<()>;

/// Chunks on their way into blocks. Every array gets at least one block, an empty one if it has no
/// rows.
pub(super) struct Blocks {
    order: Order,
    encoder: Arc<dyn Encode>,
    columns: Vec<Column>,
    /// Row blocks: the rows and bytes that wait, over all columns.
    common: CommonRows,
    waiting_bytes: u64,
    /// The array whose chunks come now, for `ArrayByArray`.
    current: usize,
    /// Row blocks: the first row not yet given, and whether any block was.
    row: u64,
    given: bool,
    /// Row blocks without cuts are given once they hold this much.
    block_bytes: u64,
    /// What a block may hold.
    memory: Memory,
}

#[derive(Default)]
struct Column {
    pending: Vec<Chunk>,
    pending_rows: u64,
    pending_bytes: u64,
    first_row: u64,
    total: Option<u64>,
    given: bool,
    /// Bytes of an element.
    item: usize,
}

impl Blocks {
    /// `rows`: per array its row count, where known, `items` the bytes of its elements; `done`:
    /// arrays that no chunk comes of.
    pub(super) fn new(
        order: Order,
        encoder: Arc<dyn Encode>,
        (rows, items): (&[Option<u64>], &[usize]),
        done: &[bool],
        block_bytes: u64,
        memory: Memory,
    ) -> Blocks {
        let column = |((&total, &item), &given)| Column { total, given, item, ..Column::default() };
        let columns = rows.iter().zip(items).zip(done).map(column).collect();
        let common = CommonRows::new(rows.len());
        Blocks {
            order,
            encoder,
            columns,
            common,
            waiting_bytes: 0,
            current: 0,
            row: 0,
            given: false,
            block_bytes,
            memory,
        }
    }

    pub(super) fn push(&mut self, chunk: Chunk, give: Give<'_>) -> Result<()> {
        let array = chunk.array;
        if self.order == Order::ArrayByArray && array > self.current {
            for a in self.current..array {
                self.end_array(a, give)?;
            }
            self.current = array;
        }
        let (rows, bytes) = (chunk.rows, chunk.bytes());
        let column = &mut self.columns[array];
        column.pending_rows += rows;
        column.pending_bytes += bytes;
        if rows > 0 {
            // Of thousands of columns mostly one or two pieces each wait.
            if column.pending.len() < 4 {
                column.pending.reserve_exact(1);
            }
            column.pending.push(chunk);
        }
        if self.order != Order::RowBlocks {
            self.give_array(array, false, give)?;
            return self.check_waiting(array..array + 1);
        }
        self.waiting_bytes += bytes;
        // All columns are looked at where there may be something to give, not for the chunk of each
        // of them.
        let more = self.common.add(array, rows);
        let uncut = || {
            self.encoder.next_boundary(0, self.row) == u64::MAX
                && self.waiting_bytes >= self.block_bytes
        };
        let enough =
            || self.encoder.max_block_bytes(0).is_some_and(|most| self.waiting_bytes >= most);
        if more || self.common.all() > 0 && (enough() || uncut()) {
            self.give_rows(false, give)?;
        }
        if self.memory.is_short(self.waiting_bytes) {
            self.check_waiting(0..self.columns.len())?;
        }
        Ok(())
    }

    /// Refuses a block that does not fit into memory before all of it is there.
    fn check_waiting(&self, columns: Range<usize>) -> Result<()> {
        let array = columns.start;
        let first =
            if self.order == Order::RowBlocks { self.row } else { self.columns[array].first_row };
        let cut = self.encoder.next_boundary(array, first);
        if cut == u64::MAX {
            return Ok(());
        }
        let rows = cut.saturating_sub(first).max(1);
        let most =
            self.columns[array].total.map_or(rows, |total| rows.min(total - first.min(total)));
        let sum = |rows: &dyn Fn(&Column) -> u64| {
            let bytes = |c: &Column| match c.pending_rows {
                0 => 0,
                waiting => c.pending_bytes.div_ceil(waiting).saturating_mul(rows(c)),
            };
            self.columns[columns.clone()].iter().map(bytes).fold(0, u64::saturating_add)
        };
        // Texts that come may be shorter than those that wait: these count.
        match self.memory.is_short(sum(&|c| c.pending_rows.min(most))) {
            true => self.memory.check_rows(most, sum(&|_| most)),
            false => Ok(()),
        }
    }

    pub(super) fn finish(&mut self, give: Give<'_>) -> Result<()> {
        if self.order == Order::RowBlocks {
            self.give_rows(true, give)?;
            // Rows that one column lacks would be lost of all others.
            let Some(long) = self.columns.iter().position(|c| c.pending_rows > 0) else {
                return Ok(());
            };
            let (rows, longer) = (self.row, self.row + self.columns[long].pending_rows);
            return Err(Error::internal(format!(
                "columns of {rows} and of {longer} rows make no table"
            )));
        }
        for a in 0..self.columns.len() {
            self.end_array(a, give)?;
        }
        Ok(())
    }

    fn end_array(&mut self, array: usize, give: Give<'_>) -> Result<()> {
        self.give_array(array, true, give)?;
        let column = &mut self.columns[array];
        if !column.given {
            column.given = true;
            give(Block { first_row: 0, rows: 0, columns: vec![(array, Vec::new())] })?;
        }
        Ok(())
    }

    fn give_array(&mut self, array: usize, end: bool, give: Give<'_>) -> Result<()> {
        loop {
            let column = &mut self.columns[array];
            let have = column.pending_rows;
            if have == 0 {
                return Ok(());
            }
            let first = column.first_row;
            let whole = column.total == Some(first + have);
            let cut = self.encoder.next_boundary(array, first);
            let rows = if cut == u64::MAX { have } else { cut.saturating_sub(first).max(1) };
            let enough = self
                .encoder
                .max_block_bytes(array)
                .is_some_and(|most| column.pending_bytes >= most);
            if rows > have && !end && !whole && !enough {
                return Ok(());
            }
            let rows = rows.min(have);
            let chunks = column.take(rows);
            column.given = true;
            give(Block { first_row: first, rows, columns: vec![(array, chunks)] })?;
        }
    }

    fn give_rows(&mut self, end: bool, give: Give<'_>) -> Result<()> {
        loop {
            let have = self.common.all();
            if have == 0 {
                if end && !self.given {
                    self.given = true;
                    give(Block {
                        first_row: 0,
                        rows: 0,
                        columns: (0..self.columns.len()).map(|a| (a, Vec::new())).collect(),
                    })?;
                }
                return Ok(());
            }
            let cut = self.encoder.next_boundary(0, self.row);
            let rows = if cut == u64::MAX {
                let whole = self.columns.iter().all(|c| c.total == Some(self.row + c.pending_rows));
                if !end && !whole && self.waiting_bytes < self.block_bytes {
                    return Ok(());
                }
                // Where any cut will do, none is larger than it must be.
                let row_bytes = (self.waiting_bytes / have).max(1);
                have.min((self.block_bytes / row_bytes).max(1))
            } else {
                cut.saturating_sub(self.row).max(1)
            };
            let whole = self.columns.iter().all(|c| c.total == Some(self.row + have));
            let enough =
                self.encoder.max_block_bytes(0).is_some_and(|most| self.waiting_bytes >= most);
            if rows > have && !end && !whole && !enough {
                return Ok(());
            }
            let rows = rows.min(have);
            let columns =
                self.columns.iter_mut().enumerate().map(|(a, c)| (a, c.take(rows))).collect();
            self.common.take(rows);
            self.waiting_bytes = self.columns.iter().map(|c| c.pending_bytes).sum();
            let first_row = self.row;
            self.row += rows;
            self.given = true;
            give(Block { first_row, rows, columns })?;
        }
    }
}

/// The rows that are left of a chunk: they wait, and little of much would hold all of it.
/// `item`: bytes of an element.
fn alone(mut chunk: Chunk, item: usize) -> Chunk {
    let is_little = |bytes: usize, of: &Buf| bytes < of.capacity() / 2;
    let copied = |buf: &mut Buf| {
        if is_little(buf.len(), buf) {
            *buf = Buf::from_vec(buf.to_vec());
        }
    };
    match &mut chunk.values {
        Values::Fixed(values) => copied(values),
        Values::Var { offsets, values } => {
            let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
            let used = values.get(first as usize * item..last as usize * item);
            if let Some(used) = used.filter(|used| is_little(used.len(), values)) {
                *values = Buf::from_vec(used.to_vec());
                offsets.iter_mut().for_each(|offset| *offset -= first);
            }
        }
        Values::Nested(_) => {}
    }
    chunk.valid.iter_mut().for_each(copied);
    chunk
}

impl Column {
    /// The first `rows` pending rows.
    fn take(&mut self, rows: u64) -> Vec<Chunk> {
        if rows == self.pending_rows {
            (self.pending_rows, self.pending_bytes) = (0, 0);
            self.first_row += rows;
            return std::mem::take(&mut self.pending);
        }
        // No more room than they take: there may be thousands of columns.
        let mut ends = self.pending.iter().scan(0, |end, chunk| {
            *end += chunk.rows;
            Some(*end)
        });
        let pieces = ends.position(|end| end >= rows).map_or(self.pending.len(), |last| last + 1);
        let mut chunks = Vec::with_capacity(pieces);
        let mut left = rows;
        let mut used = 0;
        for chunk in &mut self.pending {
            if left == 0 {
                break;
            }
            if chunk.rows <= left {
                left -= chunk.rows;
                used += 1;
                chunks.push(chunk.clone());
            } else {
                chunks.push(chunk.slice(0, left));
                *chunk = alone(chunk.slice(left, chunk.rows), self.item);
                left = 0;
            }
        }
        self.pending.drain(..used);
        self.pending_rows -= rows;
        self.pending_bytes = self.pending.iter().map(Chunk::bytes).sum();
        self.first_row += rows;
        chunks
    }
}
