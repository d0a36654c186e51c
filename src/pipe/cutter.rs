//! Sources with random access, cut into pieces in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{RowBytes, piece_end, read_exactly};
use crate::error::Result;
use crate::format::{Emit, Job, Order, ReadRows, Source};
use crate::model::{Chunk, Plan};

/// Cuts a source with random access into pieces in order.
pub(super) struct Cutter {
    reader: Arc<dyn ReadRows>,
    arrays: Vec<usize>,
    order: Order,
    at: usize,
    row: u64,
    row_bytes: RowBytes,
    queue: VecDeque<Box<dyn Job>>,
}

impl Cutter {
    pub(super) fn new(reader: Arc<dyn ReadRows>, arrays: &[usize], order: Order) -> Cutter {
        Cutter {
            reader,
            arrays: arrays.to_vec(),
            order,
            at: 0,
            row: 0,
            row_bytes: RowBytes::default(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn next(&mut self, plan: &Plan, piece: u64) -> Result<Option<Box<dyn Job>>> {
        loop {
            if let Some(job) = self.queue.pop_front() {
                return Ok(Some(job));
            }
            let more = if self.order == Order::RowBlocks {
                self.cut_rows(plan, piece)?
            } else {
                self.cut_array(plan, piece)?
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Tells of a piece that was decoded.
    pub(super) fn saw(&mut self, chunk: &Chunk) {
        self.row_bytes.saw(chunk);
    }

    /// Queues a piece; `held`: the bytes that it will hold, where they are known.
    fn push(
        &mut self,
        plan: &Plan,
        array: usize,
        rows: Range<u64>,
        held: Option<u64>,
    ) -> Result<()> {
        let bytes = match held {
            Some(bytes) => bytes,
            None => {
                let row_bytes =
                    self.row_bytes.of(self.reader.as_ref(), array, &plan.arrays[array])?;
                let all = (rows.end - rows.start).saturating_mul(row_bytes);
                all.max(self.reader.cost(array, rows.clone()).unwrap_or(0))
            }
        };
        self.queue.push_back(Box::new(ReadJob { reader: self.reader.clone(), array, rows, bytes }));
        Ok(())
    }

    fn cut_rows(&mut self, plan: &Plan, piece: u64) -> Result<bool> {
        let Some(total) =
            self.arrays.iter().filter_map(|&a| plan.arrays[a].rows).max().filter(|&t| self.row < t)
        else {
            return Ok(false);
        };
        let mut row_bytes = 0u64;
        for &a in &self.arrays {
            row_bytes = row_bytes.saturating_add(
                self.row_bytes.of(self.reader.as_ref(), a, &plan.arrays[a])?.max(1),
            );
        }
        let lead = self.arrays[0];
        let mut end = piece_end(
            self.row,
            total,
            row_bytes,
            piece.saturating_mul(2),
            |_| u64::MAX,
            |r| self.reader.cut(lead, r),
        );
        // No column's piece is larger than its share.
        let mut held = Vec::new();
        for &a in &self.arrays {
            let piece = if self.row < plan.arrays[a].rows.unwrap_or(0) {
                self.reader.piece(a, self.row, piece)
            } else {
                None
            };
            end = end.min(piece.map_or(end, |p| p.end.max(self.row + 1)));
            held.push(piece.map(|p| p.bytes));
        }
        for (a, held) in self.arrays.clone().into_iter().zip(held) {
            let last = plan.arrays[a].rows.unwrap_or(0);
            if self.row < last {
                self.push(plan, a, self.row..end.min(last), held)?;
            }
        }
        self.row = end;
        Ok(true)
    }

    fn cut_array(&mut self, plan: &Plan, piece: u64) -> Result<bool> {
        let Some(&a) = self.arrays.get(self.at) else { return Ok(false) };
        let total = plan.arrays[a].rows.unwrap_or(0);
        if self.row >= total {
            self.at += 1;
            self.row = 0;
            return Ok(true);
        }
        if let Some(piece) = self.reader.piece(a, self.row, piece) {
            let end = piece.end.clamp(self.row + 1, total);
            self.push(plan, a, self.row..end, Some(piece.bytes))?;
            self.row = end;
            return Ok(true);
        }
        let row_bytes = self.row_bytes.of(self.reader.as_ref(), a, &plan.arrays[a])?;
        let end = if row_bytes == 0 && !plan.arrays[a].logical.is_var() {
            total // nothing to move, however many rows
        } else {
            piece_end(self.row, total, row_bytes, piece, |_| u64::MAX, |r| self.reader.cut(a, r))
        };
        self.push(plan, a, self.row..end, None)?;
        self.row = end;
        Ok(true)
    }
}

/// A source with random access that is read in order all the same: among parts that have none.
pub struct Sequenced {
    inner: Box<dyn Source>,
    cutter: Option<Cutter>,
}

impl Sequenced {
    /// `inner` must have random access.
    pub fn new(inner: Box<dyn Source>) -> Sequenced {
        Sequenced { inner, cutter: None }
    }
}

impl Source for Sequenced {
    fn plan(&self) -> &Plan {
        self.inner.plan()
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        self.inner.want(arrays, wish)?;
        self.cutter = self.inner.random().map(|reader| Cutter::new(reader, arrays, wish));
        Ok(if wish == Order::Any { Order::ArrayByArray } else { wish })
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        match &mut self.cutter {
            Some(cutter) => cutter.next(self.inner.plan(), max_bytes),
            None => Ok(None),
        }
    }
    fn extents(&self, array: usize) -> Option<Vec<crate::format::Extent>> {
        self.inner.extents(array)
    }
    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

/// A piece of a source with random access.
struct ReadJob {
    reader: Arc<dyn ReadRows>,
    array: usize,
    rows: Range<u64>,
    bytes: u64,
}

impl Job for ReadJob {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        read_exactly(self.reader.as_ref(), self.array, self.rows.clone(), emit)
    }
}
