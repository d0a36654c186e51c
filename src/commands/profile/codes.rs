//! Floats of one or two bytes, counted by their bits: what at most 65536 different values come to
//! is found out once for all elements of a piece.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::histogram::Histogram;
use super::reals::BLOCK;
use super::stats::Stats;
use crate::model::{Dtype, typed};
use crate::ops::float8;

/// From so many elements on, counting pays for the look at all counters.
const MIN_ELEMENTS: u64 = 1 << 20;
/// A counter must not overflow.
const MAX_COUNT: u64 = 1 << 31;
/// Different values.
const VALUES: usize = 1 << 16;

/// How often each value has come.
pub(super) struct Codes {
    /// Two tables: a value that comes again at once would wait for its last count.
    counts: Vec<[u32; VALUES]>,
    held: u64,
    dtype: Dtype,
}

/// Whether elements of this type are counted, where an array has so many.
pub(super) fn is_worth(dtype: Dtype, elements: u64) -> bool {
    elements >= MIN_ELEMENTS && is_short(dtype)
}

/// Whether [`widen`] knows the type.
pub(super) fn is_short(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::Bf16) || dtype.is_float8()
}

/// At most [`BLOCK`] floats of one or two bytes as float32, which holds them exactly.
#[inline(always)]
pub(super) fn widen<'a>(dtype: Dtype, bytes: &[u8], reals: &'a mut [f32; BLOCK]) -> &'a [f32] {
    let reals = &mut reals[..bytes.len() / dtype.item_bytes() as usize];
    match dtype {
        Dtype::F16 => typed::<f16>(bytes).convert_to_f32_slice(reals),
        Dtype::Bf16 => {
            let halves = typed::<u16>(bytes);
            let wide = reals.iter_mut().zip(halves.iter());
            wide.for_each(|(real, &bits)| *real = f32::from_bits(u32::from(bits) << 16));
        }
        _ => {
            let table = float8::table(dtype);
            reals.iter_mut().zip(bytes).for_each(|(real, &b)| *real = table[usize::from(b)]);
        }
    }
    reals
}

impl Codes {
    pub(super) fn new(dtype: Dtype) -> Codes {
        Codes { counts: vec![[0; VALUES]; 2], held: 0, dtype }
    }
    /// Whether so many more can be counted.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.held + (more as u64) < MAX_COUNT
    }
    /// What a value's bits stand for.
    fn value(&self, bits: u16) -> f32 {
        match self.dtype {
            Dtype::F16 => f16::from_bits(bits).to_f32(),
            Dtype::Bf16 => f32::from_bits(u32::from(bits) << 16),
            dtype => float8::table(dtype)[usize::from(bits & 0xff)],
        }
    }
    #[inline(always)]
    pub(super) fn add<T: Copy + Into<u16>>(&mut self, codes: &[T]) {
        self.held += codes.len() as u64;
        let [one, other] = &mut self.counts[..] else { return };
        let pairs = codes.chunks_exact(2);
        for &code in pairs.remainder() {
            one[usize::from(code.into())] += 1;
        }
        for pair in pairs {
            one[usize::from(pair[0].into())] += 1;
            other[usize::from(pair[1].into())] += 1;
        }
    }

    /// What was counted so far, as statistics and a histogram.
    pub(super) fn finish(self, stats: &mut Stats, histogram: Option<&mut Histogram>) {
        let (mut values, mut counts) = (Vec::new(), Vec::new());
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for code in 0..VALUES {
            let count: u64 = self.counts.iter().map(|table| u64::from(table[code])).sum();
            if count == 0 {
                continue;
            }
            let value = self.value(code as u16);
            stats.count += count;
            if value.is_nan() {
                stats.nan += count;
            } else if value.is_infinite() {
                stats.inf += count;
            } else {
                stats.zeros += if value == 0.0 { count } else { 0 };
                low = if value < low { value } else { low };
                high = if value > high { value } else { high };
                values.push(value);
                counts.push(count);
            }
        }
        stats.add_counted(&values, &counts, (low.into(), high.into()));
        if let Some(histogram) = histogram.filter(|_| !values.is_empty()) {
            histogram.add_counted(&values, &counts, low.into(), high.into());
        }
    }
}
