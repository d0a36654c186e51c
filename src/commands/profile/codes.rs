//! Floats of one or two bytes, counted by their bits: what at most 65536 different values come to
//! is found out once for all elements of a piece.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::histogram::Histogram;
use super::stats::Stats;
use super::{BLOCK, Part};
use crate::model::{Dtype, typed};
use crate::ops::float8;

/// From so many elements on, counting pays for the look at all counters.
const WORTH: u64 = 1 << 20;
/// A counter must not overflow.
const MOST: u64 = 1 << 31;
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
    elements >= WORTH && is_short(dtype)
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
    fn new(dtype: Dtype) -> Codes {
        Codes { counts: vec![[0; VALUES]; 2], held: 0, dtype }
    }
    /// Whether so many more can be counted.
    fn has_room(&self, more: usize) -> bool {
        self.held + (more as u64) < MOST
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
    fn add<T: Copy + Into<u16>>(&mut self, codes: &[T]) {
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
    fn finish(self, stats: &mut Stats, histogram: Option<&mut Histogram>) {
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

impl Part {
    /// Counts elements of a type that [`is_worth`] it, from the `at`th on.
    pub(super) fn counted(&mut self, dtype: Dtype, at: u64, bytes: &[u8]) {
        let item = dtype.item_bytes() as usize;
        let mut at = at;
        for bytes in bytes.chunks(BLOCK * item * 64) {
            let more = bytes.len() / item;
            if self.codes.as_ref().is_some_and(|codes| !codes.has_room(more)) {
                self.add_codes();
            }
            self.codes.get_or_insert_with(|| Codes::new(dtype));
            self.count(dtype, at, bytes);
            at += more as u64;
        }
    }

    vectorized! {
        /// The same, where there is a counter.
        fn count(dtype: Dtype, at: u64, bytes: &[u8]) = count_avx512 or count_avx2 or count_plain
    }
    #[inline(always)]
    fn count_plain(&mut self, dtype: Dtype, at: u64, bytes: &[u8]) {
        let item = dtype.item_bytes() as usize;
        let Some(codes) = &mut self.codes else { return };
        let mut reals = [0f32; BLOCK];
        for (k, bytes) in bytes.chunks(BLOCK * item).enumerate() {
            match item {
                1 => codes.add(bytes),
                _ => codes.add(&typed::<u16>(bytes)),
            }
            let Some(heat) = &mut self.heat else { continue };
            let at = at + (k * BLOCK) as u64;
            if dtype == Dtype::Bf16 {
                // Widened in passing: no more than a shift.
                let halves = typed::<u16>(bytes);
                let most = halves.iter().fold(0, |most, bits| most.max(bits & 0x7fff));
                heat.add(at, &halves, most < 0x7f80, |bits| {
                    f64::from(f32::from_bits(u32::from(bits) << 16))
                });
            } else {
                let reals = widen(dtype, bytes, &mut reals);
                let bits = |real: &f32| real.to_bits() as i32 & i32::MAX;
                let most = reals.iter().fold(0, |most, real| bits(real).max(most));
                let is_finite = most < f32::INFINITY.to_bits() as i32;
                heat.add(at, reals, is_finite, f64::from);
            }
        }
    }

    /// Adds what was counted to statistics and the histogram.
    fn add_codes(&mut self) {
        if let Some(codes) = self.codes.take() {
            codes.finish(&mut self.stats, self.histogram.as_mut());
        }
    }

    /// Makes statistics, the histogram and the heat map whole.
    pub(super) fn settle(&mut self) {
        self.add_codes();
        if let Some(histogram) = &mut self.histogram {
            histogram.settle();
        }
        if let Some(heat) = &mut self.heat {
            heat.settle();
        }
    }
}
