//! The options that take one of a few words.

use clap::ValueEnum;

pub use crate::format::OnDuplicate;
pub use crate::resolve::policy::Strings;
pub use crate::resolve::table::Layout;

/// `--if-exists`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Stop with exit code 5
    Error,
    /// Replace it
    Overwrite,
    /// Leave it alone if it is whole
    Skip,
    /// Replace it if a source is newer
    Update,
    /// Add the arrays to the store
    Merge,
}

/// `--color`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `--dequantize`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// bfloat16, rounded to the nearest
    Bfloat16,
    /// float16, rounded to the nearest; refused where a value is past its range
    Float16,
    /// float32
    Float32,
}

/// `--order`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ElementOrder {
    /// The last index runs fastest
    #[default]
    #[value(name = "C", alias = "c")]
    C,
    /// The first index runs fastest, as in Fortran and MATLAB
    #[value(name = "F", alias = "f")]
    F,
}

/// `--header`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Header {
    /// If not all its cells are numbers or empty
    #[default]
    Auto,
    /// It is
    Yes,
    /// It is not
    No,
}

/// `--bf16`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bf16 {
    /// As float32, which is exact
    #[default]
    Float32,
    /// As its raw bits, in uint16
    Bits,
}

/// `--fp8`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fp8 {
    /// As float16, which is exact
    #[default]
    Float16,
    /// As its raw bits, in uint8
    Bits,
}

/// `--ragged`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ragged {
    /// Refuse them
    Error,
    /// As arrays of their own: NAME.offsets, NAME.values, NAME.field, NAME.keys, NAME.valid
    Offsets,
}

/// `--nested`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedText {
    /// As JSON text
    Json,
}

/// `--addressing`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// https://HOST/BUCKET/KEY
    Path,
    /// https://BUCKET.HOST/KEY
    Virtual,
}

/// `npk list --sort`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sort {
    /// As in the file
    #[default]
    File,
    /// By name, layer.2 before layer.10
    Name,
    /// By size, largest first
    Size,
}

/// A tolerance of `diff`.
pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("a tolerance is a number of at least 0, as 1e-6".into()),
    }
}

/// A number of at least 1.
pub(super) fn at_least_one<T: std::str::FromStr + PartialEq + From<bool>>(
    text: &str,
) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number != T::from(false) => Ok(number),
        _ => Err("it must be a whole number of at least 1".into()),
    }
}
