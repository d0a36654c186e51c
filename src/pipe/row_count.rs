//! The rows that were delivered, against those that were announced.

use std::ops::Range;

use super::work::Work;
use crate::error::{Error, Result};
use crate::format::Sink;
use crate::model::{Chunk, Plan};

/// Counts rows per array: fills in `first_row`, and compares with the plan.
pub(super) struct RowCount {
    pub(super) names: Vec<String>,
    pub(super) announced: Vec<Option<u64>>,
    seen: Vec<u64>,
    /// Arrays that were moved by position, or are none of the sink's.
    pub(super) done: Vec<bool>,
    /// The rows of each that the sink takes.
    pub(super) regions: Vec<Range<u64>>,
}

impl RowCount {
    pub(super) fn new(plan: &Plan) -> RowCount {
        RowCount {
            names: plan.arrays.iter().map(|a| a.name.clone()).collect(),
            announced: plan.arrays.iter().map(|a| a.rows).collect(),
            seen: vec![0; plan.arrays.len()],
            done: vec![false; plan.arrays.len()],
            regions: vec![0..u64::MAX; plan.arrays.len()],
        }
    }
    /// Leaves out what the sink does not take.
    pub(super) fn take_regions(&mut self, work: &Work, sink: &dyn Sink) {
        for a in 0..self.regions.len() {
            self.regions[a] = sink.region(a, work.goes_by_position(a));
            self.done[a] = self.regions[a].is_empty();
        }
    }
    pub(super) fn count(&mut self, chunk: &mut Chunk) -> Result<()> {
        let seen = &mut self.seen[chunk.array];
        if chunk.first_row != Chunk::NEXT && chunk.first_row != *seen {
            return Err(Error::internal(format!(
                "row {} was delivered, row {seen} was expected",
                chunk.first_row
            ))
            .array(&self.names[chunk.array]));
        }
        chunk.first_row = *seen;
        *seen += chunk.rows;
        Ok(())
    }
    /// Every row of the plan must have come: a short array is never written.
    pub(super) fn check(&self, end: &mut Plan) -> Result<()> {
        for i in 0..end.arrays.len() {
            let meta = &end.arrays[i];
            if self.done[i] {
                continue;
            }
            if let Some(announced) = self.announced[i]
                && announced != self.seen[i]
            {
                return Err(Error::corrupt(format!(
                    "{announced} rows were expected, {} were found",
                    self.seen[i]
                ))
                .array(&meta.name));
            }
            // What is shared is copied as a whole where it changes: mostly nothing does.
            if meta.rows != Some(self.seen[i]) {
                end.arrays[i].rows = Some(self.seen[i]);
            }
        }
        Ok(())
    }
}
