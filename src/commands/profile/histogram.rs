//! A histogram of values whose range is not known before they are read: bins as wide as a power of
//! two, at multiples of it, of which two become one where the range grows. So counts are exact, and
//! do not depend on the order of the values.

use super::reals::{BLOCK, Real};

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
    /// Values that were counted so far, pairs and all.
    held: u64,
    pairs: Option<Box<Pairs>>,
}

/// From so many values on they are counted two by two.
const WORTH: u64 = 1 << 16;

/// How often two bins have come side by side, in no counter yet: half as many counters to wait for
/// as with one at a time.
#[derive(Clone, Debug)]
struct Pairs {
    /// By the second bin, and then by the first; every other half of a row is not used.
    counts: [u16; MAX_BINS << 8],
    held: usize,
}

impl Pairs {
    fn add(&mut self, bins: &[[u8; 8]]) {
        self.held += 4 * bins.len();
        for eight in bins {
            let word = u64::from_le_bytes(*eight) & 0x7f7f_7f7f_7f7f_7f7f;
            for k in 0..4 {
                self.counts[(word >> (16 * k)) as usize & 0x7f7f] += 1;
            }
        }
    }
    /// Whether no counter can overflow by so many more.
    fn has_room(&self, more: usize) -> bool {
        self.held + more <= usize::from(u16::MAX)
    }
    fn settle(&mut self, counts: &mut [u64]) {
        let mut first = [0u16; MAX_BINS];
        for (row, second) in self.counts.chunks(256).zip(0..) {
            let row = &row[..MAX_BINS];
            let sum: u64 = row.iter().map(|&n| u64::from(n)).sum();
            if sum > 0 {
                counts[second as usize] += sum;
                first.iter_mut().zip(row).for_each(|(first, n)| *first += n);
            }
        }
        counts.iter_mut().zip(first).for_each(|(count, n)| *count += u64::from(n));
        self.counts.fill(0);
        self.held = 0;
    }
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

    /// Adds what was counted two by two, and gives room back: before this waits to be merged.
    pub fn settle(&mut self) {
        self.flush();
        self.pairs = None;
    }

    /// Adds what was counted two by two.
    fn flush(&mut self) {
        if let Some(pairs) = self.pairs.as_mut().filter(|pairs| pairs.held > 0) {
            pairs.settle(&mut self.counts);
        }
    }

    /// Makes room for these bins of a width; bins that there are become wider with it.
    fn cover(&mut self, exponent: i32, low: i128, high: i128) {
        let end = self.first + self.counts.len() as i128;
        if exponent == self.exponent && self.first <= low && high < end {
            return;
        }
        self.flush();
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
            if low >= self.first as f64 * width && high < (last + 1) as f64 * width {
                return;
            }
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
        let mut bins = [0; BLOCK];
        for part in values.chunks(BLOCK) {
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
            self.counts[usize::from(bin)] += n;
        }
    }

    /// The bins of values for which there is room.
    #[inline(always)]
    fn bins<T: Real>(&self, values: &[T], bins: &mut [u8]) {
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
        let mut bins = [0; BLOCK];
        for part in values.chunks(BLOCK) {
            for (bin, value) in bins.iter_mut().zip(part) {
                *bin = (value >> shift).wrapping_sub(first) as u8;
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

    /// At most [`BLOCK`] values of these bins.
    fn count(&mut self, bins: &[u8]) {
        let (eights, rest) = bins.as_chunks::<8>();
        let single = if self.held < WORTH { bins } else { rest };
        self.held += bins.len() as u64;
        for &bin in single {
            self.counts[usize::from(bin)] += 1;
        }
        if single.len() < bins.len() {
            let none = || Box::new(Pairs { counts: [0; MAX_BINS << 8], held: 0 });
            let pairs = self.pairs.get_or_insert_with(none);
            if !pairs.has_room(4 * eights.len()) {
                pairs.settle(&mut self.counts);
            }
            pairs.add(eights);
        }
    }

    /// The same over the values of both. `whole`: both are of whole numbers.
    pub fn merge(&mut self, mut other: Histogram, whole: bool) {
        self.settle();
        other.settle();
        if other.counts.is_empty() {
            return;
        }
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
fn floors<T: Real>(values: &[T], scale: T, first: i32, bins: &mut [u8]) {
    for (bin, &value) in bins.iter_mut().zip(values) {
        // SAFETY: it is finite, and `cover_reals` has chosen a width by which it is less than 2^31.
        let down = unsafe { (value * scale).floored() };
        *bin = (down - first) as u8;
    }
    // Of a negative value nothing may be left: the number below 0 is -1.
    if scale.into() < 1.0 {
        for (bin, &value) in bins.iter_mut().zip(values) {
            *bin -= u8::from(value * scale == T::ZERO && value < T::ZERO);
        }
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
