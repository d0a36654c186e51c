//! Casts between the model's dtypes, checked value by value: equal, or, where rounding was allowed,
//! at least in range.

use half::{bf16, f16};

use super::float8;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Buf, Dtype, iso8601, typed};

/// Casts all elements of `values`.
///
/// Exact means: the value read back in the old type is equal (NaN equals NaN, whatever its
/// payload). Complex to real is exact where the imaginary part is zero.
///
/// `lossy` lets values round (towards zero where they become integers); what is past the type's
/// range, and a NaN that would be an integer, is never let through: it would come out as another
/// number altogether.
///
/// # Errors
/// `Err(index)`: the first element that would change, or with `lossy` that is out of range.
pub fn cast(values: &Buf, from: Dtype, to: Dtype, lossy: bool) -> std::result::Result<Buf, usize> {
    by(values, from, to, if lossy { Rule::Rounded } else { Rule::Exact })
}

/// Casts all elements without a check: for values of which some are at nulls, where the others are
/// checked on their own.
pub fn unchecked(values: &Buf, from: Dtype, to: Dtype) -> Buf {
    by(values, from, to, Rule::Any).unwrap_or_default()
}

/// Which values go through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Those that stay equal.
    Exact,
    /// Those in range.
    Rounded,
    /// All.
    Any,
}

fn by(values: &Buf, from: Dtype, to: Dtype, rule: Rule) -> std::result::Result<Buf, usize> {
    if from == to {
        return Ok(values.clone());
    }
    // Two widenings that keep even the payloads of NaNs, so that the way back is bit-identical.
    match (from, to) {
        (Dtype::Bf16, Dtype::F32) => {
            return Ok(Buf::from_vec(
                typed::<u16>(values).iter().map(|b| (*b as u32) << 16).collect::<Vec<u32>>(),
            ));
        }
        (Dtype::F8E5m2, Dtype::F16) => {
            return Ok(Buf::from_vec(
                values.iter().map(|b| (*b as u16) << 8).collect::<Vec<u16>>(),
            ));
        }
        (Dtype::F32, Dtype::Bf16) => {
            let bits = typed::<u32>(values);
            if bits.iter().fold(0, |any, b| any | (b & 0xFFFF)) == 0 {
                return Ok(Buf::from_vec(
                    bits.iter().map(|b| (b >> 16) as u16).collect::<Vec<u16>>(),
                ));
            }
        }
        (Dtype::F16, Dtype::F8E5m2) => {
            let bits = typed::<u16>(values);
            if bits.iter().fold(0, |any, b| any | (b & 0xFF)) == 0 {
                return Ok(Buf::from_vec(bits.iter().map(|b| (b >> 8) as u8).collect::<Vec<u8>>()));
            }
        }
        _ => {}
    }
    let cast = Cast { rule };
    match from {
        Dtype::Bool => cast.each(values.iter().map(|b| u8::from(*b != 0)), to),
        Dtype::U8 => cast.each(values.iter().copied(), to),
        Dtype::U16 => cast.each(typed::<u16>(values).iter().copied(), to),
        Dtype::U32 => cast.each(typed::<u32>(values).iter().copied(), to),
        Dtype::U64 => cast.each(typed::<u64>(values).iter().copied(), to),
        Dtype::I8 => cast.each(typed::<i8>(values).iter().copied(), to),
        Dtype::I16 => cast.each(typed::<i16>(values).iter().copied(), to),
        Dtype::I32 => cast.each(typed::<i32>(values).iter().copied(), to),
        Dtype::I64 => cast.each(typed::<i64>(values).iter().copied(), to),
        Dtype::F16 => {
            cast.each(typed::<u16>(values).iter().map(|b| f16::from_bits(*b).to_f32()), to)
        }
        Dtype::Bf16 => {
            cast.each(typed::<u16>(values).iter().map(|b| bf16::from_bits(*b).to_f32()), to)
        }
        Dtype::F32 => cast.each(typed::<f32>(values).iter().copied(), to),
        Dtype::F64 => cast.each(typed::<f64>(values).iter().copied(), to),
        Dtype::C32 => cast.each(
            typed::<[u16; 2]>(values).iter().map(|c| c.map(|b| f16::from_bits(b).to_f32())),
            to,
        ),
        Dtype::C64 => cast.each(typed::<[f32; 2]>(values).iter().copied(), to),
        Dtype::C128 => cast.each(typed::<[f64; 2]>(values).iter().copied(), to),
        _ => {
            let table = float8::table(from);
            cast.each(values.iter().map(|b| table[*b as usize]), to)
        }
    }
}

/// Whether every value of `from` has an equal one in `to`: no check of values is needed.
pub fn always_exact(from: Dtype, to: Dtype) -> bool {
    use Dtype::*;
    if from == to {
        return true;
    }
    // Exact integer width (bits of magnitude), sign, and for floats the bits of precision.
    let integer = |d: Dtype| match d {
        Bool => Some((1, false)),
        U8 => Some((8, false)),
        U16 => Some((16, false)),
        U32 => Some((32, false)),
        U64 => Some((64, false)),
        I8 => Some((7, true)),
        I16 => Some((15, true)),
        I32 => Some((31, true)),
        I64 => Some((63, true)),
        _ => None,
    };
    let real = |d: Dtype| match d {
        C32 => F16,
        C64 => F32,
        C128 => F64,
        other => other,
    };
    if from.is_complex() && !to.is_complex() {
        return false;
    }
    let (a, b) = (real(from), real(to));
    if a == b {
        return true;
    }
    match (integer(a), integer(b)) {
        (Some((wa, sa)), Some((wb, sb))) => b != Bool && wa <= wb && (!sa || sb),
        (Some((wa, _)), None) => match b {
            F64 => wa <= 53,
            F32 => wa <= 24,
            F16 => wa <= 11,
            Bf16 => wa <= 8,
            _ => false,
        },
        (None, Some(_)) => false,
        (None, None) => match (a, b) {
            (_, F64) => true,
            (F64, _) => false,
            (F16 | Bf16, F32) => true,
            (F8E4m3 | F8E5m2 | F8E4m3Fnuz | F8E5m2Fnuz, F16 | F32) => true,
            (F8E4m3 | F8E5m2 | F8E4m3Fnuz | F8E5m2Fnuz, Bf16) => true,
            (F8E8m0, F32 | Bf16) => true,
            _ => false,
        },
    }
}

/// Casts, and names array and index of the first value that would change.
///
/// # Errors
/// Refused (exit 4): not exact, or out of range.
pub fn checked(
    values: &Buf,
    from: Dtype,
    to: Dtype,
    lossy: bool,
    array: &str,
    first_element: u64,
) -> Result<Buf> {
    cast(values, from, to, lossy).map_err(|index| {
        let (at, shown) = (first_element + index as u64, show(values, from, index));
        let item = from.item_bytes() as usize;
        let one = values.slice_with_length(index * item, item);
        match cast(&one, from, to, true) {
            Ok(_) => Error::refused(format!("element {at} ({shown}) is not exact as {to}"))
                .hint("--lossy lets --dtype round"),
            Err(_) => Error::refused(format!("element {at} ({shown}) is out of the range of {to}"))
                .hint("choose a wider type; --lossy rounds, but never past the range"),
        }
        .array(array)
    })
}

/// One element as text, for messages and previews.
pub fn show(values: &[u8], dtype: Dtype, index: usize) -> String {
    let size = dtype.item_bytes() as usize;
    let Some(bytes) = values.get(index * size..(index + 1) * size) else { return "?".into() };
    fn get<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> T {
        bytemuck::pod_read_unaligned(bytes)
    }
    let complex = |re: String, im: String| {
        let sign = if im.starts_with('-') { "" } else { "+" };
        format!("{re}{sign}{im}j")
    };
    match dtype {
        Dtype::Bool => if bytes[0] != 0 { "True" } else { "False" }.into(),
        Dtype::U8 => bytes[0].to_string(),
        Dtype::U16 => get::<u16>(bytes).to_string(),
        Dtype::U32 => get::<u32>(bytes).to_string(),
        Dtype::U64 => get::<u64>(bytes).to_string(),
        Dtype::I8 => get::<i8>(bytes).to_string(),
        Dtype::I16 => get::<i16>(bytes).to_string(),
        Dtype::I32 => get::<i32>(bytes).to_string(),
        Dtype::I64 => get::<i64>(bytes).to_string(),
        Dtype::F16 => float(f16::from_bits(get(bytes)).to_f32()),
        Dtype::Bf16 => float(bf16::from_bits(get(bytes)).to_f32()),
        Dtype::F32 => float(get::<f32>(bytes)),
        Dtype::F64 => float(get::<f64>(bytes)),
        Dtype::C32 => {
            let c = get::<[u16; 2]>(bytes).map(|b| float(f16::from_bits(b).to_f32()));
            complex(c[0].clone(), c[1].clone())
        }
        Dtype::C64 => {
            let c = get::<[f32; 2]>(bytes);
            complex(float(c[0]), float(c[1]))
        }
        Dtype::C128 => {
            let c = get::<[f64; 2]>(bytes);
            complex(float(c[0]), float(c[1]))
        }
        _ => float(float8::table(dtype)[bytes[0] as usize]),
    }
}

/// An element of an array: times as ISO 8601, decimals as numbers, others as [`show`].
pub fn show_element(item: &[u8], meta: &ArrayMeta) -> String {
    if let Some(decimals) = meta.logical.decimals() {
        return decimals.text(item);
    }
    let count = match meta.dtype {
        Dtype::I32 => item.try_into().ok().map(i32::from_le_bytes).map(i64::from),
        Dtype::I64 => item.try_into().ok().map(i64::from_le_bytes),
        _ => None,
    };
    match count.filter(|_| meta.logical.is_time()) {
        Some(count) => iso8601::text(count, &meta.logical),
        None => show(item, meta.dtype, 0),
    }
}

/// `nan`, `inf` as numpy writes them; else the shortest text.
fn float<F: Into<f64> + std::fmt::Debug + Copy>(value: F) -> String {
    let wide: f64 = value.into();
    if wide.is_nan() {
        "nan".into()
    } else if wide.is_infinite() {
        if wide > 0.0 { "inf" } else { "-inf" }.into()
    } else {
        format!("{value:?}")
    }
}

struct Cast {
    rule: Rule,
}

/// What values are read as: enough to convert to anything and to see whether it was exact.
trait From: Copy {
    fn integer(self) -> Option<i128>;
    /// The real part, and whether a float64 holds it exactly.
    fn real(self) -> (f64, bool);
    fn imaginary(self) -> f64 {
        0.0
    }
    /// As float32 by one rounding.
    fn single(self) -> f32;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl From for $t {
            #[inline(always)]
            fn integer(self) -> Option<i128> { Some(self as i128) }
            #[inline(always)]
            fn real(self) -> (f64, bool) {
                let f = self as f64;
                (f, size_of::<$t>() <= 4 || f as i128 == self as i128)
            }
            #[inline(always)]
            fn single(self) -> f32 { self as f32 }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

#[inline(always)]
fn whole(value: f64) -> Option<i128> {
    // Past 2^100 no integer type of ours is meant; -0.0 is not 0.
    (value.trunc() == value && value.abs() < 1.2e30 && !(value == 0.0 && value.is_sign_negative()))
        .then_some(value as i128)
}

impl From for f32 {
    #[inline(always)]
    fn integer(self) -> Option<i128> {
        whole(self as f64)
    }
    #[inline(always)]
    fn real(self) -> (f64, bool) {
        (self as f64, true)
    }
    #[inline(always)]
    fn single(self) -> f32 {
        self
    }
}

impl From for f64 {
    #[inline(always)]
    fn integer(self) -> Option<i128> {
        whole(self)
    }
    #[inline(always)]
    fn real(self) -> (f64, bool) {
        (self, true)
    }
    #[inline(always)]
    fn single(self) -> f32 {
        self as f32
    }
}

macro_rules! complexes {
    ($($t:ty),*) => {$(
        impl From for [$t; 2] {
            #[inline(always)]
            fn integer(self) -> Option<i128> { whole(self[0] as f64).filter(|_| self[1] == 0.0) }
            #[inline(always)]
            fn real(self) -> (f64, bool) { (self[0] as f64, true) }
            #[inline(always)]
            fn imaginary(self) -> f64 { self[1] as f64 }
            #[inline(always)]
            fn single(self) -> f32 { self[0] as f32 }
        }
    )*};
}
complexes!(f32, f64);

/// A float that values become.
trait Real: bytemuck::Pod {
    /// The real part of a value, rounded once.
    #[inline(always)]
    fn real_of<F: From>(value: F) -> Self {
        Self::nearest(value.real().0)
    }
    fn nearest(value: f64) -> Self;
    fn wide(self) -> f64;
}

impl Real for f64 {
    #[inline(always)]
    fn nearest(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

impl Real for f32 {
    #[inline(always)]
    fn real_of<F: From>(value: F) -> f32 {
        value.single()
    }
    #[inline(always)]
    fn nearest(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self as f64
    }
}

macro_rules! halves {
    ($($t:ty),*) => {$(
        impl Real for $t {
            #[inline(always)]
            fn nearest(value: f64) -> $t { <$t>::from_f64(value) }
            #[inline(always)]
            fn wide(self) -> f64 { self.to_f64() }
        }
    )*};
}
halves!(f16, bf16);

#[inline(always)]
fn same(a: f64, b: f64) -> bool {
    a == b && a.is_sign_negative() == b.is_sign_negative() || a.is_nan() && b.is_nan()
}

impl Cast {
    fn each<F: From>(
        &self,
        values: impl Iterator<Item = F>,
        to: Dtype,
    ) -> std::result::Result<Buf, usize> {
        let lossy = self.rule != Rule::Exact;
        macro_rules! integer {
            ($t:ty) => {
                self.collect(values, |v: F| match v.integer() {
                    Some(i) => (i as $t, (i as $t) as i128 == i),
                    None => {
                        let whole = v.real().0.trunc();
                        // Saturated where it is out of range, and 0 for a NaN: then it is not
                        // equal.
                        (whole as $t, lossy && (whole as $t) as f64 == whole)
                    }
                })
            };
        }
        match to {
            Dtype::Bool => self.collect(values, |v: F| {
                let i = v.integer();
                let zero = v.real().0 == 0.0 && v.imaginary() == 0.0;
                (u8::from(!zero), lossy || matches!(i, Some(0 | 1)))
            }),
            Dtype::U8 => integer!(u8),
            Dtype::U16 => integer!(u16),
            Dtype::U32 => integer!(u32),
            Dtype::U64 => integer!(u64),
            Dtype::I8 => integer!(i8),
            Dtype::I16 => integer!(i16),
            Dtype::I32 => integer!(i32),
            Dtype::I64 => integer!(i64),
            Dtype::F16 => self.reals::<F, f16>(values),
            Dtype::Bf16 => self.reals::<F, bf16>(values),
            Dtype::F32 => self.reals::<F, f32>(values),
            Dtype::F64 => self.reals::<F, f64>(values),
            Dtype::C32 => self.complex::<F, f16>(values),
            Dtype::C64 => self.complex::<F, f32>(values),
            Dtype::C128 => self.complex::<F, f64>(values),
            _ => self.float8(values, to),
        }
    }

    /// Whether a value that rounding changes goes through: a fraction may go, a finite number may
    /// not become infinite (or a NaN).
    #[inline(always)]
    fn lets<T: Real>(&self, from: f64, to: T) -> bool {
        self.rule != Rule::Exact && (to.wide().is_finite() || !from.is_finite())
    }

    fn reals<F: From, T: Real>(
        &self,
        values: impl Iterator<Item = F>,
    ) -> std::result::Result<Buf, usize> {
        self.collect(values, |v: F| {
            let ((f, exact), t) = (v.real(), T::real_of(v));
            let equal = exact && same(t.wide(), f) && v.imaginary() == 0.0;
            (t, equal || self.lets(f, t))
        })
    }

    fn complex<F: From, T: Real>(
        &self,
        values: impl Iterator<Item = F>,
    ) -> std::result::Result<Buf, usize>
    where
        [T; 2]: bytemuck::Pod,
    {
        self.collect(values, |v: F| {
            let ((f, exact), i) = (v.real(), v.imaginary());
            let (re, im) = (T::real_of(v), T::nearest(i));
            let equal = exact && same(re.wide(), f) && same(im.wide(), i);
            ([re, im], equal || self.lets(f, re) && self.lets(i, im))
        })
    }

    fn float8<F: From>(
        &self,
        values: impl Iterator<Item = F>,
        to: Dtype,
    ) -> std::result::Result<Buf, usize> {
        let (table, lossy) = (float8::table(to), self.rule != Rule::Exact);
        self.collect(values, |v: F| {
            let ((f, exact), s) = (v.real(), v.single());
            let (code, fits) = float8::encode(to, s);
            let back = table[code as usize];
            // Infinities that the type lacks would come out as NaN; E8M0 has only positive
            // numbers.
            let stays = f.is_nan()
                || back.is_infinite() && f.is_infinite()
                || back.is_finite() && (to != Dtype::F8E8m0 || f > 0.0 && f.is_finite());
            let equal = exact && fits && same(s as f64, f) && v.imaginary() == 0.0;
            (code, equal || lossy && stays)
        })
    }

    #[inline(always)]
    fn collect<F: From, T: bytemuck::Pod>(
        &self,
        values: impl Iterator<Item = F>,
        convert: impl Fn(F) -> (T, bool),
    ) -> std::result::Result<Buf, usize> {
        // Without a branch per element; the index is looked for only where something did not go.
        let mut all_good = true;
        let mut bad = usize::MAX;
        let mut out: Vec<T> = Vec::with_capacity(values.size_hint().0);
        for (i, v) in values.enumerate() {
            let (t, good) = convert(v);
            if !good && all_good {
                all_good = false;
                bad = i;
            }
            out.push(t);
        }
        if !all_good && self.rule != Rule::Any {
            return Err(bad);
        }
        Ok(buf_of(out))
    }
}

/// A buffer over any plain vector.
fn buf_of<T: bytemuck::Pod>(values: Vec<T>) -> Buf {
    match bytemuck::allocation::try_cast_vec::<T, u16>(values) {
        Ok(v) => Buf::from_vec(v),
        Err((_, values)) => match bytemuck::allocation::try_cast_vec::<T, u32>(values) {
            Ok(v) => Buf::from_vec(v),
            Err((_, values)) => match bytemuck::allocation::try_cast_vec::<T, u64>(values) {
                Ok(v) => Buf::from_vec(v),
                Err((_, values)) => Buf::from_slice_ref(bytemuck::cast_slice::<T, u8>(&values)),
            },
        },
    }
}
