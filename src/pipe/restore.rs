//! Values that were widened on the way in (bfloat16 kept as float32) get their own type back, where
//! every one still fits.

use super::{Flow, Settings, all_chunks};
use crate::error::Result;
use crate::model::{Dtype, Values};
use crate::ops::{Op, cast};
use crate::resolve::Step;

/// Narrows arrays whose `original_dtype` is among `dtypes`, after a look at all their values. Notes name those
/// that no longer fit.
///
/// # Errors
/// Reading errors.
pub fn restore(flow: Flow, dtypes: &[Dtype], settings: &Settings) -> Result<(Flow, Vec<String>)> {
    let plan = flow.plan().clone();
    let narrower = |a: usize| {
        let meta = &plan.arrays[a];
        meta.original_dtype.filter(|was| *was != meta.dtype && dtypes.contains(was))
    };
    let candidates: Vec<usize> =
        (0..plan.arrays.len()).filter(|&a| narrower(a).is_some()).collect();
    if candidates.is_empty() {
        return Ok((flow, Vec::new()));
    }
    let reader = flow.reader(&candidates)?;
    let mut step = Step::same(&plan);
    for a in candidates {
        let meta = &plan.arrays[a];
        let (from, Some(to)) = (meta.dtype, narrower(a)) else { continue };
        let fits = match &reader {
            Some(reader) => all_chunks(reader, a, meta, settings, &|chunk| match &chunk.values {
                Values::Fixed(values) => cast::cast(values, from, to, false).is_ok(),
                Values::Var { .. } | Values::Nested(_) => false,
            })?,
            None => false,
        };
        step.plan.arrays[a].original_dtype = None;
        if fits {
            step.plan.arrays[a].dtype = to;
            step.recipes[a].ops.push(Op::Cast { from, to, lossy: false });
        } else {
            step.notes.push(format!(
                "{}: was {to} once, but not all values fit it now: kept as {from}",
                meta.name
            ));
        }
    }
    let notes = std::mem::take(&mut step.notes);
    Ok((flow.then(step), notes))
}
