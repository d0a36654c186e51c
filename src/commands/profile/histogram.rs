//! A histogram of values whose range is not known before they are read: bins as wide as a power of
//! two, at multiples of it, of which two become one where the range grows. So counts are exact, and
//! do not depend on the order of the values.

use super::Real;

/// Most bins.
pub const MAX_BINS: usize = 128;

/// The bits of a float that tell bins apart: quotients must fit in an int32.
const BITS: i32 = 29;

/// Counts of the finite values from `first × width` on, bins `width` wide.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// The width is 2 to the power of this.
    exponent: i32,
    /// The number of the first bin: where it begins, in widths.
    first: i128,
    counts: Vec<u64>,
}

impl Histogram {
    /// The counts of the bins, from the least value's to the greatest's.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
    /// Where a bin begins; the next one ends it.
    pub fn edge(&self, bin: usize) -> f64 {
        (self.first + bin as i128) as f64 * power(self.exponent)
    }
    /// Where the first bin begins, and how wide each is, where whole numbers tell it exactly.
    pub fn whole(&self) -> Option<(i128, i128)> {
        let width =
            1i128.checked_shl(u32::try_from(self.exponent).ok()?).filter(|_| self.exponent < 64)?;
        Some((self.first.checked_mul(width)?, width))
    }

    /// Makes room for these bins of a width; bins that there are become wider with it.
    fn cover(&mut self, exponent: i32, low: i128, high: i128) {
        if self.counts.is_empty() {
            (self.exponent, self.first) = (exponent, low);
            self.counts = vec![0; (high - low) as usize + 1];
            return;
        }
        self.widen(exponent);
        let end = self.first + self.counts.len() as i128;
        if low < self.first {
            let more = (self.first - low) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = low;
        }
        if high >= end {
            let more = (high - end) as usize + 1;
            self.counts.resize(self.counts.len() + more, 0);
        }
    }

    fn widen(&mut self, exponent: i32) {
        let by = exponent - self.exponent;
        if by <= 0 {
            return;
        }
        let wide = |bin: i128| if by > 120 { if bin < 0 { -1 } else { 0 } } else { bin >> by };
        let first = wide(self.first);
        let mut counts = Vec::new();
        for (i, n) in self.counts.iter().enumerate() {
            let at = (wide(self.first + i as i128) - first) as usize;
            counts.resize(counts.len().max(at + 1), 0);
            counts[at] += n;
        }
        (self.exponent, self.first, self.counts) = (exponent, first, counts);
    }

    /// Room for the values from `low` to `high` and those that there are.
    fn cover_reals(&mut self, low: f64, high: f64) {
        let (mut low, mut high) = (low, high);
        if !self.counts.is_empty() {
            let last = self.first + self.counts.len() as i128 - 1;
            let width = power(self.exponent);
            low = low.min(self.first as f64 * width);
            high = high.max(last as f64 * width);
        }
        let magnitude = exponent(low.abs().max(high.abs())) - BITS;
        let mut e = magnitude.max(exponent(high / 2.0 - low / 2.0) - 6).max(-1000);
        if !self.counts.is_empty() {
            e = e.max(self.exponent);
        }
        let bin = |v: f64, e: i32| floor(v, e);
        while bin(high, e) - bin(low, e) >= MAX_BINS as i128 {
            e += 1;
        }
        self.cover(e, bin(low, e), bin(high, e));
    }

    /// Adds finite values, which are between `low` and `high`.
    #[inline(always)]
    pub(super) fn add_reals<T: Real>(&mut self, values: &[T], low: f64, high: f64) {
        self.cover_reals(low, high);
        let mut bins = [0i32; 2048];
        for part in values.chunks(bins.len()) {
            let bins = &mut bins[..part.len()];
            self.bins(part, bins);
            self.count(bins);
        }
    }

    /// Adds finite values between `low` and `high`, each of which comes so many times.
    pub(super) fn add_counted(&mut self, values: &[f32], counts: &[u64], low: f64, high: f64) {
        self.cover_reals(low, high);
        let mut bins = vec![0; values.len()];
        self.bins(values, &mut bins);
        for (bin, n) in bins.into_iter().zip(counts) {
            self.counts[bin as usize] += n;
        }
    }

    /// The bins of values for which there is room.
    #[inline(always)]
    fn bins<T: Real>(&self, values: &[T], bins: &mut [i32]) {
        let (scale, first) = (1.0 / power(self.exponent), self.first as i32);
        match T::power(scale) {
            // The product with a power of two is exact, or below 1 and so of the same bin.
            Some(scale) => floors(values, scale, first, bins),
            None => bins.iter_mut().zip(values).for_each(|(bin, &value)| {
                floors::<f64>(&[value.into()], scale, first, std::slice::from_mut(bin));
            }),
        }
    }

    /// Adds whole numbers, which are between `low` and `high`.
    pub fn add_integers(&mut self, values: &[i64], low: i128, high: i128) {
        self.cover_integers(low, high);
        let (shift, first) = (self.exponent.min(63), self.first as i64);
        let mut bins = [0i32; 2048];
        for part in values.chunks(bins.len()) {
            for (bin, value) in bins.iter_mut().zip(part) {
                *bin = (value >> shift).wrapping_sub(first) as i32;
            }
            self.count(&bins[..part.len()]);
        }
    }

    /// As [`Histogram::add_integers`], for one that an int64 does not hold.
    pub fn add_wide(&mut self, value: i128) {
        self.cover_integers(value, value);
        let bin = ((value >> self.exponent) - self.first) as usize;
        self.counts[bin] += 1;
    }

    fn cover_integers(&mut self, low: i128, high: i128) {
        let mut e = self.exponent.max(0);
        let (mut low, mut high) = (low >> e, high >> e);
        if !self.counts.is_empty() {
            low = low.min(self.first);
            high = high.max(self.first + self.counts.len() as i128 - 1);
        }
        while high - low >= MAX_BINS as i128 {
            (e, low, high) = (e + 1, low >> 1, high >> 1);
        }
        self.cover(e, low, high);
    }

    /// Four tables: a bin that comes again at once would wait for its last count.
    fn count(&mut self, bins: &[i32]) {
        let mut counts = [[0u32; MAX_BINS]; 4];
        let fours = bins.chunks_exact(4);
        for &bin in fours.remainder() {
            counts[0][bin as usize & (MAX_BINS - 1)] += 1;
        }
        for four in fours {
            for (counts, &bin) in counts.iter_mut().zip(four) {
                counts[bin as usize & (MAX_BINS - 1)] += 1;
            }
        }
        for (i, sum) in self.counts.iter_mut().enumerate() {
            *sum += counts.iter().map(|c| u64::from(c[i])).sum::<u64>();
        }
    }

    /// The same over the values of both. `whole`: both are of whole numbers.
    pub fn merge(&mut self, other: &Histogram, whole: bool) {
        if other.counts.is_empty() {
            return;
        }
        let mut other = other.clone();
        let last = |h: &Histogram| h.first + h.counts.len() as i128 - 1;
        if self.counts.is_empty() {
            *self = other;
            return;
        }
        let common = self.exponent.max(other.exponent);
        self.widen(common);
        other.widen(common);
        if whole {
            self.cover_integers(other.first << common, last(&other) << common);
        } else {
            let width = power(common);
            self.cover_reals(other.first as f64 * width, last(&other) as f64 * width);
        }
        other.widen(self.exponent);
        for (i, n) in other.counts.iter().enumerate() {
            self.counts[(other.first - self.first) as usize + i] += n;
        }
    }
}

/// The whole numbers of widths below values, from the `first` on.
#[inline(always)]
fn floors<T: Real>(values: &[T], scale: T, first: i32, bins: &mut [i32]) {
    for (bin, &value) in bins.iter_mut().zip(values) {
        let scaled = value * scale;
        // SAFETY: it is finite, and `cover_reals` has chosen a width by which it is less than 2^31.
        let down = unsafe { scaled.truncated() };
        let above = T::whole(down) > scaled || scaled == T::ZERO && value < T::ZERO;
        *bin = down - i32::from(above) - first;
    }
}

/// 2 to this power.
fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// The exponent of a finite float; very small for 0.
fn exponent(value: f64) -> i32 {
    ((value.to_bits() >> 52 & 0x7ff) as i32) - 1023
}

/// The whole number of widths below a value.
fn floor(value: f64, exponent: i32) -> i128 {
    let scaled = value * (1.0 / power(exponent));
    if scaled == 0.0 && value < 0.0 { -1 } else { scaled.floor() as i128 }
}
