//! Flows with random access, of their own or of a spool.

use super::flow::{Flow, Selected};
use super::settings::Settings;
use super::work::Work;
use crate::error::{Error, Result};
use crate::format::{Order, Source};
use crate::ops::Needs;

/// These arrays of a flow with random access, their own or that of a spool.
///
/// # Errors
/// Reading errors; disk full.
pub fn with_random(
    flow: impl Into<Flow>,
    arrays: &[usize],
    settings: &Settings,
) -> Result<Selected> {
    let work = Work::open(flow.into(), arrays, Order::Any, settings)?;
    let in_order = arrays.iter().any(|&a| work.recipes.of(a).needs() > Needs::Rows);
    match work.reading().cloned().filter(|_| !in_order) {
        Some(reader) => Ok(Selected { plan: work.plan, reader }),
        None => work.spool_source(arrays, settings),
    }
}

/// A flow as a source whose arrays can be joined and cut. Arrays whose rows only reading tells are
/// put aside, if the source can be read at random.
///
/// # Errors
/// Reading errors; disk full.
pub fn settled(flow: Flow, settings: &Settings) -> Result<Box<dyn Source>> {
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let whole = |a: &usize| flow.recipes[*a].needs() == Needs::Whole;
    let unsettled: Vec<usize> = all.iter().copied().filter(whole).collect();
    if unsettled.is_empty() {
        return Ok(flow.into_source());
    }
    let work = Work::open(flow, &all, Order::Any, settings)?.spool(&unsettled, settings)?;
    let reader = work.reading().cloned();
    let reader = reader.ok_or_else(|| Error::internal("a spool without rows"))?;
    Ok(Box::new(Selected { plan: work.plan, reader }))
}
