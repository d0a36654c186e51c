//! Elements of any type as numbers.

use half::{bf16, f16};

use crate::model::{ArrayMeta, Decimals, Dtype, typed};
use crate::ops::float8;

/// What counts as equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Relative tolerance, times the magnitude of the second value.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// NaN equals NaN; bit-identical ones always do.
    pub equal_nan: bool,
    /// Compare values, whatever their types: times by their instants, NaT as a null.
    pub ignore_dtype: bool,
    /// The second holds the first in a form of its own: times in another unit, NaT as a null, times
    /// and decimals as their text.
    pub other_form: bool,
    /// Find out how far apart the values are.
    pub measure: bool,
}

/// An element of any type of numbers.
#[derive(Clone, Copy)]
pub(crate) enum Number {
    Integer(i128),
    Real(f64),
    Complex(f64, f64),
}

impl Number {
    pub(super) fn parts(self) -> (f64, f64) {
        match self {
            Number::Integer(i) => (i as f64, 0.0),
            Number::Real(r) => (r, 0.0),
            Number::Complex(r, i) => (r, i),
        }
    }
    pub(super) fn equals(&self, other: &Number, rules: Rules) -> bool {
        if let (Number::Integer(x), Number::Integer(y)) = (self, other)
            && rules.rtol == 0.0
            && rules.atol == 0.0
        {
            return x == y;
        }
        // An integer beside a float: equal only if the float is that integer.
        if let (Number::Integer(i), Number::Real(r)) | (Number::Real(r), Number::Integer(i)) =
            (self, other)
            && rules.rtol == 0.0
            && rules.atol == 0.0
        {
            return r.trunc() == *r && r.abs() < 1e30 && *r as i128 == *i;
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        let near = |x: f64, y: f64| {
            x == y
                || rules.equal_nan && x.is_nan() && y.is_nan()
                || x.is_finite()
                    && y.is_finite()
                    && (x - y).abs() <= rules.atol + rules.rtol * y.abs()
        };
        near(a, c) && near(b, d)
    }
    pub(super) fn distance(&self, other: &Number) -> (f64, f64) {
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        let absolute = (a - c).hypot(b - d);
        if absolute.is_nan() {
            (0.0, 0.0)
        } else {
            (absolute, if c == 0.0 && d == 0.0 { 0.0 } else { absolute / c.hypot(d) })
        }
    }
}

/// Bytes of an element: all words of a decimal.
pub(super) fn item_bytes(meta: &ArrayMeta) -> usize {
    let decimal = meta.logical.decimals().map(Decimals::item_bytes);
    decimal.unwrap_or(meta.dtype.item_bytes() as usize)
}

/// The elements of an array's bytes.
pub(super) fn numbers(values: &[u8], meta: &ArrayMeta) -> Vec<Number> {
    let mut all = Vec::with_capacity(values.len() / meta.dtype.item_bytes().max(1) as usize);
    match meta.logical.decimals() {
        Some(decimals) => {
            all.extend(decimals.numbers(values).map(|n| Number::Real(decimals.float(n).0)))
        }
        None => each_number(values, meta.dtype, |n| all.push(n)),
    }
    all
}

/// Hands on every element, exactly.
pub(crate) fn each_number(values: &[u8], dtype: Dtype, mut take: impl FnMut(Number)) {
    macro_rules! integers {
        ($t:ty) => {
            typed::<$t>(values).iter().for_each(|v| take(Number::Integer(*v as i128)))
        };
    }
    let half = |b: u16| f16::from_bits(b).to_f64();
    match dtype {
        Dtype::Bool | Dtype::U8 => integers!(u8),
        Dtype::U16 => integers!(u16),
        Dtype::U32 => integers!(u32),
        Dtype::U64 => integers!(u64),
        Dtype::I8 => integers!(i8),
        Dtype::I16 => integers!(i16),
        Dtype::I32 => integers!(i32),
        Dtype::I64 => integers!(i64),
        Dtype::F16 => typed::<u16>(values).iter().for_each(|b| take(Number::Real(half(*b)))),
        Dtype::Bf16 => typed::<u16>(values)
            .iter()
            .for_each(|b| take(Number::Real(bf16::from_bits(*b).to_f64()))),
        Dtype::F32 => typed::<f32>(values).iter().for_each(|v| take(Number::Real(*v as f64))),
        Dtype::F64 => typed::<f64>(values).iter().for_each(|v| take(Number::Real(*v))),
        Dtype::C32 => typed::<[u16; 2]>(values)
            .iter()
            .for_each(|c| take(Number::Complex(half(c[0]), half(c[1])))),
        Dtype::C64 => typed::<[f32; 2]>(values)
            .iter()
            .for_each(|c| take(Number::Complex(c[0] as f64, c[1] as f64))),
        Dtype::C128 => {
            typed::<[f64; 2]>(values).iter().for_each(|c| take(Number::Complex(c[0], c[1])))
        }
        _ => {
            values.iter().for_each(|b| take(Number::Real(float8::table(dtype)[*b as usize] as f64)))
        }
    }
}
