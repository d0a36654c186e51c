//! Values that were widened on the way in (bfloat16 kept as float32) get their own type back, where
//! every one still fits.

use super::cast;
use super::view::{Change, Made, View};
use crate::error::Result;
use crate::format::Source;
use crate::model::{Dtype, Values};
use crate::pipe::{Settings, all_chunks};

/// Narrows arrays whose `was` is among `dtypes`, after checking all their values. Notes name those
/// that no longer fit.
///
/// # Errors
/// Reading errors.
pub fn restore(
    mut source: Box<dyn Source>,
    dtypes: &[Dtype],
    settings: &Settings,
) -> Result<(Box<dyn Source>, Vec<String>)> {
    let plan = source.plan().clone();
    let candidates: Vec<usize> = (0..plan.arrays.len())
        .filter(|&a| {
            plan.arrays[a].was.is_some_and(|w| w != plan.arrays[a].dtype && dtypes.contains(&w))
        })
        .collect();
    if candidates.is_empty() {
        return Ok((source, Vec::new()));
    }
    source.want(&candidates, crate::format::Order::Any)?;
    let reader = source.random();
    let (mut new, mut notes) = (plan.clone(), Vec::new());
    let mut made: Vec<Made> =
        (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
    for a in candidates {
        let meta = &plan.arrays[a];
        let (from, Some(to)) = (meta.dtype, meta.was) else { continue };
        let fits = match &reader {
            Some(reader) => all_chunks(reader, a, meta, settings, &|chunk| match &chunk.values {
                Values::Fixed(values) => cast::cast(values, from, to, false).is_ok(),
                Values::Var { .. } | Values::Nested(_) => false,
            })?,
            None => false,
        };
        new.arrays[a].was = None;
        if fits {
            new.arrays[a].dtype = to;
            made[a].changes.push(Change::Cast { from, to, lossy: false });
        } else {
            notes.push(format!(
                "{}: was {to} once, but not all values fit it now: kept as {from}",
                meta.name
            ));
        }
    }
    Ok((Box::new(View::new(source, new, made)), notes))
}
