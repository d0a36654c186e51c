//! Values that were widened on the way in (bfloat16 kept as float32) get their own type back, where
//! every one still fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::flow::Flow;
use super::piece::piece_end;
use super::pool::{Failure, on_pool};
use super::settings::Settings;
use crate::error::Result;
use crate::format::ReadRows;
use crate::model::{ArrayMeta, Chunk, Dtype, Values};
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
                "{}: it is recorded as {to}, but not all values fit that: kept as {from}",
                meta.name
            ));
        }
    }
    let notes = std::mem::take(&mut step.notes);
    Ok((flow.then(step), notes))
}

/// Whether `check` holds for every chunk of an array, read on all threads; stops at the first that
/// fails it.
///
/// # Errors
/// Reading errors.
fn all_chunks(
    reader: &Arc<dyn ReadRows>,
    array: usize,
    meta: &ArrayMeta,
    settings: &Settings,
    check: &(dyn Fn(&Chunk) -> bool + Sync),
) -> Result<bool> {
    let (total, row_bytes, piece) =
        (meta.rows.unwrap_or(0), meta.row_bytes()?, settings.piece_bytes());
    let holds = AtomicBool::new(true);
    let mut row = 0;
    let mut next = || {
        if row >= total || !holds.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let end = piece_end(
            row,
            total,
            row_bytes,
            piece,
            |_| u64::MAX,
            |r| reader.next_boundary(array, r),
        );
        let range = std::mem::replace(&mut row, end)..end;
        Ok(Some(((range.end - range.start).saturating_mul(row_bytes), range)))
    };
    let work = |range| {
        let mut look = |chunk: Chunk| {
            if !check(&chunk) {
                holds.store(false, Ordering::Relaxed);
            }
            Ok(())
        };
        reader.read(array, range, &mut look).map_err(|e| e.array(&meta.name))
    };
    let all_bytes = total.saturating_mul(row_bytes);
    on_pool(settings, all_bytes, &Failure::default(), &mut next, &work)?;
    Ok(holds.into_inner())
}
