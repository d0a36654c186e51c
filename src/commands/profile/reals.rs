//! Floats: what the elements of a block come to while they are in the processor's cache.

use std::ops::Mul;

/// Elements that are looked at together, while they are in the processor's cache.
pub(super) const BLOCK: usize = 4096;

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
pub(super) fn extremes<T: Real>(values: &[T]) -> (T, T) {
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
pub(super) fn strange_and_zeros<T: Real>(values: &[T]) -> (u64, u64) {
    let strange: u32 = values.iter().map(|value| u32::from(!value.finite())).sum();
    let zeros: u32 = values.iter().map(|&value| u32::from(value == T::ZERO)).sum();
    (strange.into(), zeros.into())
}
