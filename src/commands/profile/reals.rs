//! Floats: what the elements of a block come to while they are in the processor's cache.

use std::ops::Mul;

use super::Part;

/// A float type that is looked at as it is.
pub(super) trait Real: Copy + Into<f64> + PartialOrd + Mul<Output = Self> {
    const ZERO: Self;
    const INFINITY: Self;
    const NEGATIVE_INFINITY: Self;
    fn finite(self) -> bool;
    /// A power of two, where the type has it in full.
    fn power(value: f64) -> Option<Self>;
    /// The whole number below.
    ///
    /// # Safety
    /// The value is finite, and an int32 holds that number.
    unsafe fn floored(self) -> i32;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: $t = 0.0;
            const INFINITY: $t = <$t>::INFINITY;
            const NEGATIVE_INFINITY: $t = <$t>::NEG_INFINITY;
            #[inline(always)]
            fn finite(self) -> bool {
                self.is_finite()
            }
            #[inline(always)]
            fn power(value: f64) -> Option<$t> {
                Some(value as $t).filter(|power| power.is_normal())
            }
            #[inline(always)]
            unsafe fn floored(self) -> i32 {
                // SAFETY: as the caller promises.
                unsafe { self.floor().to_int_unchecked::<i32>() }
            }
        }
    };
}
real!(f32);
real!(f64);

/// The least and the greatest; of none, the infinities.
#[inline(always)]
fn extremes<T: Real>(values: &[T]) -> (T, T) {
    let (mut low, mut high) = ([T::INFINITY; 16], [T::NEGATIVE_INFINITY; 16]);
    let (whole, rest) = values.as_chunks::<16>();
    for sixteen in whole {
        for k in 0..16 {
            let value = sixteen[k];
            low[k] = if value < low[k] { value } else { low[k] };
            high[k] = if value > high[k] { value } else { high[k] };
        }
    }
    // By themselves: folded here, they would not stay side by side above.
    (least(&{ low }, rest), greatest(&{ high }, rest))
}

#[inline(never)]
fn least<T: Real>(some: &[T; 16], rest: &[T]) -> T {
    some.iter().chain(rest).fold(T::INFINITY, |a, &b| if b < a { b } else { a })
}

#[inline(never)]
fn greatest<T: Real>(some: &[T; 16], rest: &[T]) -> T {
    some.iter().chain(rest).fold(T::NEGATIVE_INFINITY, |a, &b| if b > a { b } else { a })
}

/// How many are neither numbers nor zeros, and how many are zeros.
#[inline(always)]
fn strange_and_zeros<T: Real>(values: &[T]) -> (u64, u64) {
    let strange: u32 = values.iter().map(|value| u32::from(!value.finite())).sum();
    let zeros: u32 = values.iter().map(|&value| u32::from(value == T::ZERO)).sum();
    (strange.into(), zeros.into())
}

impl Part {
    vectorized! {
        /// Floats from the `at`th on.
        pub(super) fn reals<T: Real>(at: u64, values: &[T]) = reals_avx512 or reals_avx2 or reals_plain
    }
    #[inline(always)]
    fn reals_plain<T: Real>(&mut self, at: u64, values: &[T]) {
        let (strange, zeros) = strange_and_zeros(values);
        self.stats.count += values.len() as u64;
        self.stats.zeros += zeros;
        if let Some(heat) = &mut self.heat {
            heat.add(at, values, strange == 0, Into::into);
        }
        if strange == 0 {
            return self.finite(values);
        }
        let nan = values.iter().filter(|&&v| v.partial_cmp(&v).is_none()).count() as u64;
        self.stats.nan += nan;
        self.stats.inf += strange - nan;
        let finite: Vec<T> = values.iter().copied().filter(|v| v.finite()).collect();
        self.finite(&finite);
    }

    #[inline(always)]
    fn finite<T: Real>(&mut self, values: &[T]) {
        let (low, high) = extremes(values);
        let (low, high) = (low.into(), high.into());
        self.stats.add_reals(values, (low, high));
        if let Some(histogram) = self.histogram.as_mut().filter(|_| !values.is_empty()) {
            histogram.add_reals(values, low, high);
        }
    }
}
