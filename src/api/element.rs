//! The elements of arrays in memory.

use crate::model::Dtype;

mod sealed {
    pub trait Sealed {}
}

/// The elements that can be written.
pub trait Scalar: Copy + Sync + sealed::Sealed + 'static {
    /// Their dtype.
    const DTYPE: Dtype;
}

/// The elements that views can have: any bytes are a value of theirs. (Bools are not among them:
/// view them as `u8` with [`crate::Array::bytes_view`].)
pub trait Element: Scalar + bytemuck::AnyBitPattern {}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {
        $(impl sealed::Sealed for $type {}
        impl Scalar for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        }
        impl Element for $type {})*
    };
}

elements! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    half::f16 => F16, half::bf16 => Bf16, f32 => F32, f64 => F64,
    // Real and imaginary part.
    [f32; 2] => C64, [f64; 2] => C128,
}

impl sealed::Sealed for bool {}
impl Scalar for bool {
    const DTYPE: Dtype = Dtype::Bool;
}
