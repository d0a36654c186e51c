//! Lists whose rows differ in length.

use super::drain::drain;
use super::flow::Flow;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::format::Order;
use crate::model::{Chunk, Logical, Values};

/// The first row of each list array whose length differs from the first row's: the array, the
/// first row's length, that row and its length. Only arrays of lists can have one.
///
/// # Errors
/// Reading errors.
pub fn uneven_rows(flow: Flow, settings: &Settings) -> Result<Vec<(String, [u64; 3])>> {
    let plan = flow.plan().clone();
    let lists: Vec<usize> = (0..plan.arrays.len())
        .filter(|&a| {
            let meta = &plan.arrays[a];
            meta.logical == Logical::List && meta.details.error.is_none()
        })
        .collect();
    let mut first: Vec<Option<u64>> = vec![None; lists.len()];
    let mut found: Vec<Option<[u64; 3]>> = vec![None; lists.len()];
    let enough = || Error::failed("every array has an uneven row");
    let mut look = |chunk: Chunk| -> Result<()> {
        let Values::Var { offsets, .. } = &chunk.values else { return Ok(()) };
        let (first, found_here) = (&mut first[chunk.array], &mut found[chunk.array]);
        for (i, pair) in offsets.windows(2).enumerate() {
            let length = pair[1] - pair[0];
            if found_here.is_some() || !chunk.is_valid(i) {
                continue;
            }
            let usual = *first.get_or_insert(length);
            if usual != length {
                *found_here = Some([usual, chunk.first_row + i as u64, length]);
            }
        }
        if found.iter().all(Option::is_some) { Err(enough()) } else { Ok(()) }
    };
    let looked = drain(flow.choose(&lists), Order::Any, &mut look, settings);
    if found.iter().any(Option::is_none) {
        looked?;
    }
    let named = lists.iter().zip(found);
    Ok(named.filter_map(|(&a, found)| Some((plan.arrays[a].name.clone(), found?))).collect())
}
