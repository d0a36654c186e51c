//! All values of a flow, array by array in row order.

use super::flow::Flow;
use super::row_count::RowCount;
use super::settings::Settings;
use super::work::Work;
use crate::error::Result;
use crate::format::{Emit, Order};
use crate::model::{Chunk, Plan};

/// Delivers every array of the flow's plan to `each`, in row order within an array: for checksums,
/// statistics, comparisons.
///
/// # Errors
/// Those of the source, the ops and of `each`.
pub fn drain(
    flow: impl Into<Flow>,
    wish: Order,
    each: Emit<'_>,
    settings: &Settings,
) -> Result<Plan> {
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, wish, settings)?;
    if !work.suits(wish) {
        work = work.spool(&all, settings)?;
    }
    drained(work, wish, each, settings)
}

pub(super) fn drained(
    mut work: Work,
    wish: Order,
    each: Emit<'_>,
    settings: &Settings,
) -> Result<Plan> {
    let all = work.outputs();
    let mut end = work.plan.clone();
    let mut rows = RowCount::new(&end);
    work.decode(&all, wish, settings, None, &mut |mut chunk: Chunk| {
        rows.count(&mut chunk)?;
        settings.moved(chunk.bytes(), &end.arrays[chunk.array].name);
        each(chunk)
    })?;
    work.inputs.close()?;
    rows.check(&mut end)?;
    Ok(end)
}
