//! The only driver: executes the recipes of an output's arrays, from a source to a sink, on all
//! cores, within a memory budget.
//!
//! Each array takes the best of three strategies that it can have, whatever its neighbours need:
//! 1. **kernel copy** ([`parallel`], [`kernel_copy`]): nothing changes, and both ends know where
//!    the bytes are; the kernel copies file to file.
//! 2. **parallel** ([`parallel`]): both ends have random access, and no change needs an order;
//!    blocks of rows are read, changed and written by position on all cores.
//! 3. **ordered** ([`ordered`]): pieces are decoded and blocks encoded on all cores; changes that
//!    need an order, and `append`, are done in order.
//!
//! What cannot be had in the order, or with the row counts, that the sink needs first goes to a
//! [`spool`] on disk: only those arrays, where the source has random access.

use crate::error::Result;
use crate::format::{Capabilities, Sink, Summary};
use crate::model::Plan;

mod beside;
mod blocks;
mod column_spool;
mod cutter;
mod drain;
mod flow;
pub mod fold;
pub mod join;
mod kernel_copy;
mod memory;
pub mod nested;
mod ordered;
mod parallel;
pub mod parked;
mod piece;
mod pieces;
mod pool;
mod random;
mod restore;
mod row_count;
mod rows;
mod settings;
pub mod spool;
mod uneven;
mod work;

pub use crate::resources::{Budget, Cancel, Reservation, Resources};
pub use beside::drain_beside;
pub use drain::drain;
pub use flow::{Flow, Selected};
pub use kernel_copy::may_share;
use ordered::in_order;
use parallel::by_position;
pub(crate) use piece::piece_end;
pub use pieces::{Fold, pieces};
pub use pool::{no_threads, parallel, start};
pub use random::{settled, with_random};
pub use restore::restore;
use row_count::RowCount;
pub use rows::{slice, slice_ranked};
pub use settings::{Progress, Settings};
pub use uneven::uneven_rows;
use work::Work;

/// Makes every array of the flow's plan in a new sink, and commits it.
///
/// Returns the sink's summary and the final plan (all rows known).
///
/// # Errors
/// Those of source, ops and sink; then nothing is left behind.
pub fn run(
    flow: impl Into<Flow>,
    capabilities: &Capabilities,
    prepared: Box<dyn FnOnce(&Plan) -> Result<Box<dyn Sink>> + Send + '_>,
    settings: &Settings,
) -> Result<(Summary, Plan)> {
    start(settings)?;
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, capabilities.order, settings)?;
    let unsuitable = work.unsuitable(capabilities);
    if !unsuitable.is_empty() {
        work = work.spool(&unsuitable, settings)?;
    }
    let mut sink = settings.output.at(prepared(&work.plan))?;
    let mut rows = RowCount::new(&work.plan);
    rows.take_regions(&work, sink.as_ref());
    by_position(&mut work, sink.as_mut(), &mut rows, settings)?;
    in_order(&mut work, sink.as_mut(), capabilities.order, &mut rows, settings)?;
    work.inputs.close()?;
    let mut end = work.plan;
    rows.check(&mut end)?;
    drop(work.inputs);
    settings.check()?;
    let summary = settings.output.at(sink.finish(&end))?;
    settings.held.release();
    Ok((summary, end))
}
