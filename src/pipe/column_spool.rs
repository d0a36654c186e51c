//! Tables of very many columns, for sinks that take whole rows: the columns of a group of rows go to
//! the disk one after the other, each decoded once, and come back as rows. Side by side they would
//! wait for each other with a few rows each, and all would be unpacked anew for the next few.

use std::sync::Arc;

use super::cutter::{Cuts, MIN_BLOCK_BYTES, RowSizes};
use super::settings::Settings;
use super::spool::Spool;
use super::work::Work;
use crate::error::Result;
use crate::format::{Emit, Encode, ReadRows};
use crate::model::{Chunk, CommonRows, Plan};

/// A column is little where no more than this of it is unpacked at a time, beside the others.
const LITTLE_BYTES: u64 = 128 << 10;

/// A column comes in many parts where there are at least so many before the source's own next cut.
const MANY_PARTS: u64 = 4;

/// On the disk there are so many times the bytes of rows that wait for each other, at most.
const GROUP_PARTS: u64 = 64;

/// The groups of rows, where the columns of these outputs are better taken so.
///
/// # Errors
/// Sizes that cannot be.
pub(super) fn cuts(work: &Work, outputs: &[usize], settings: &Settings) -> Result<Option<Cuts>> {
    let (Some(reading), Some(&lead)) = (work.reading(), outputs.first()) else { return Ok(None) };
    let input = work.recipes.of(lead).input;
    let rows = |a: &usize| work.plan.arrays[*a].rows;
    let Some(total) = rows(&lead).filter(|_| work.goes_by_groups(outputs)) else {
        return Ok(None);
    };
    // What lies in a file as it is can be read in any parts.
    let cut = reading.next_boundary(lead, 0);
    let alike = outputs.iter().all(|a| rows(a) == Some(total));
    if cut == u64::MAX || !alike || work.inputs.extents(input).is_some() {
        return Ok(None);
    }
    let mut sizes = RowSizes::new(reading);
    let mut row_bytes = 1u64;
    for &output in outputs {
        row_bytes = row_bytes.saturating_add(sizes.row_bytes(&vec![output])?);
    }
    let waiting = settings.waiting_bytes().max(MIN_BLOCK_BYTES);
    let group = cut.min(total).saturating_mul(row_bytes);
    if waiting / outputs.len() as u64 >= LITTLE_BYTES || group < waiting * MANY_PARTS {
        return Ok(None);
    }
    let (reading, most) = (reading.clone(), (waiting * GROUP_PARTS / row_bytes).max(1));
    Ok(Some(Arc::new(move |row| reading.next_boundary(lead, row).min(row.saturating_add(most)))))
}

/// The columns of one group of rows after the other.
pub(super) struct ColumnSpool {
    plan: Plan,
    cuts: Cuts,
    encoder: Arc<dyn Encode>,
    /// Bytes of rows that are given on together.
    block_bytes: u64,
    /// Where the group begins, and the rows of it that have come.
    start: u64,
    common: CommonRows,
    spool: Option<Spool>,
}

impl ColumnSpool {
    /// Of the arrays of `plan`, for this encoder's blocks.
    pub(super) fn new(
        plan: &Plan,
        cuts: Cuts,
        encoder: Arc<dyn Encode>,
        settings: &Settings,
    ) -> ColumnSpool {
        let common = CommonRows::new(plan.arrays.len());
        let block_bytes = settings.piece_bytes();
        ColumnSpool {
            plan: plan.clone(),
            cuts,
            encoder,
            block_bytes,
            start: 0,
            common,
            spool: None,
        }
    }

    /// Takes the next rows of a column; once all columns of the group are there, `each` gets them.
    ///
    /// # Errors
    /// Disk full and the like; those of `each`.
    pub(super) fn push(&mut self, chunk: &Chunk, each: Emit<'_>) -> Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => self.spool.insert(Spool::new(self.plan.clone())?),
        };
        spool.push(chunk)?;
        self.common.add(chunk.array, chunk.rows);
        let total = self.plan.arrays.first().and_then(|meta| meta.rows).unwrap_or(0);
        let end = (self.cuts)(self.start).clamp(self.start + 1, total.max(self.start + 1));
        match self.common.all() == end - self.start {
            true => self.give(each),
            false => Ok(()),
        }
    }

    /// Gives on the group in blocks of rows.
    fn give(&mut self, each: Emit<'_>) -> Result<()> {
        let Some(spool) = self.spool.take() else { return Ok(()) };
        let (start, rows) = (self.start, self.common.all());
        let about = (self.block_bytes / (spool.bytes() / rows.max(1)).max(1)).max(1);
        let reader = spool.into_reader();
        let mut row = 0;
        while row < rows {
            let cut = self.encoder.next_boundary(0, start + row);
            let block = if cut == u64::MAX { about } else { (cut - start - row).min(4 * about) };
            let end = rows.min(row + block.max(1));
            for array in 0..self.plan.arrays.len() {
                reader.read(array, row..end, &mut |mut chunk| {
                    chunk.first_row += start;
                    each(chunk)
                })?;
            }
            row = end;
        }
        self.start += rows;
        self.common.take(rows);
        Ok(())
    }
}
