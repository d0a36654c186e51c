//! The sixteen bins of `inspect --hist`.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::decoded;
use super::stats::{Stats, is_nat};
use crate::compare::{Number, each_number};
use crate::error::{Result, locked};
use crate::model::{ArrayMeta, Chunk, Values};
use crate::pipe::{self, Flow, Fold, Settings};

fn each_valid(meta: &ArrayMeta, chunk: &Chunk, mut take: impl FnMut(f64, Option<i128>)) {
    let Values::Fixed(values) = &chunk.values else { return };
    let per_row = crate::model::checked_product(meta.element_dims()).unwrap_or(1).max(1) as usize;
    if let Some(decimals) = meta.logical.decimals() {
        for (i, number) in decimals.numbers(values).enumerate() {
            if chunk.is_valid(i / per_row) {
                let exact = number.to_i128().filter(|_| decimals.words < 4);
                take(decimals.float(number).0, exact);
            }
        }
        return;
    }
    let mut i = 0;
    each_number(values, meta.dtype, |n| {
        if chunk.is_valid(i / per_row) {
            match n {
                Number::Integer(v) => take(v as f64, Some(v)),
                Number::Real(v) => take(v, None),
                Number::Complex(real, imaginary) => take(real.hypot(imaginary), None),
            }
        }
        i += 1;
    });
}

/// Sixteen bins between the least and the greatest finite value of each array.
///
/// # Errors
/// Reading errors.
pub fn histograms(
    flow: Flow,
    stats: &[Option<Stats>],
    settings: &Settings,
) -> Result<Vec<Option<[u64; 16]>>> {
    let all = flow.plan().arrays.len();
    let good: Vec<usize> = (0..all)
        .filter(|&a| stats[a].as_ref().is_some_and(|s| s.is_numeric() && s.range.is_some()))
        .collect();
    let mut out = vec![None; all];
    if good.is_empty() {
        return Ok(out);
    }
    let flow = decoded(flow.choose(&good));
    let metas = flow.plan().arrays.to_vec();
    let range = |&a: &usize| stats[a].as_ref().and_then(|s| s.range).unwrap_or((0.0, 0.0));
    let counting = Counting {
        metas: &metas,
        ranges: good.iter().map(range).collect(),
        counts: good.iter().map(|_| Mutex::default()).collect(),
    };
    pipe::pieces(flow, &counting, settings)?;
    for (&a, counts) in good.iter().zip(counting.counts) {
        out[a] = Some(counts.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(out)
}

struct Counting<'a> {
    metas: &'a [ArrayMeta],
    ranges: Vec<(f64, f64)>,
    counts: Vec<Mutex<[u64; 16]>>,
}

impl Fold for Counting<'_> {
    type Part = [u64; 16];
    fn begin(&self, _array: usize, _row: u64) -> [u64; 16] {
        [0; 16]
    }
    fn add(&self, bins: &mut [u64; 16], chunk: &Chunk) -> Result<()> {
        let (low, high) = self.ranges[chunk.array];
        let width = (high / 2.0 - low / 2.0) / 8.0;
        let meta = &self.metas[chunk.array];
        each_valid(meta, chunk, |v, i| {
            if v.is_finite() && !i.is_some_and(|i| is_nat(meta, i)) {
                let bin = if width > 0.0 { ((v - low) / width) as usize } else { 0 };
                bins[bin.min(15)] += 1;
            }
        });
        Ok(())
    }
    fn end(&self, array: usize, _rows: Range<u64>, bins: [u64; 16]) -> Result<()> {
        let mut sum = locked(&self.counts[array]);
        sum.iter_mut().zip(bins).for_each(|(sum, n)| *sum += n);
        Ok(())
    }
}
