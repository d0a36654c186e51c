//! Methods in several forms, for what the processor has.

/// Makes a method that runs with AVX-512 or AVX2 where the processor has them: what it calls takes
/// part as far as it is inlined. The arithmetic is the same, and so are the results.
macro_rules! vectorized {
    ($(#[$about:meta])* $vis:vis fn $name:ident $(<$t:ident: $bound:path>)? ($($arg:ident: $of:ty),*)
        = $widest:ident or $wide:ident or $plain:ident) => {
        $(#[$about])*
        $vis fn $name$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            #[cfg(target_arch = "x86_64")]
            if crate::commands::profile::vectorized::has_avx512() {
                // SAFETY: the processor has these instructions.
                return unsafe { self.$widest($($arg),*) };
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.$wide($($arg),*) };
            }
            self.$plain($($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
        fn $widest$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            self.$plain($($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $wide$(<$t: $bound>)?(&mut self, $($arg: $of),*) {
            self.$plain($($arg),*)
        }
    };
}

/// Whether the processor has what the widest form of a method needs.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}
