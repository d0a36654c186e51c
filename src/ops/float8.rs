//! The float8 kinds: exact tables to float32, and back with rounding to nearest even.
//!
//! E4M3 (finite, NaN at S.1111.111), E5M2 (as IEEE), the FNUZ pair (no infinities, no negative
//! zero, NaN at 0x80, bias 8 and 16), E8M0 (powers of two, NaN at 0xFF). Specification: OCP 8-bit
//! floating point, ONNX float8 documentation.

use std::cmp::Ordering;
use std::sync::OnceLock;

use crate::model::Dtype;

/// The value of each of the 256 codes. `dtype` must be a float8 kind.
pub fn table(dtype: Dtype) -> &'static [f32; 256] {
    static TABLES: [OnceLock<[f32; 256]>; 5] = [const { OnceLock::new() }; 5];
    let (slot, decode): (usize, fn(u8) -> f32) = match dtype {
        Dtype::F8E4m3 => (0, |b| decode(b, 4, 3, 7, Special::Nan7F)),
        Dtype::F8E5m2 => (1, |b| decode(b, 5, 2, 15, Special::Ieee)),
        Dtype::F8E4m3Fnuz => (2, |b| decode(b, 4, 3, 8, Special::Nan80)),
        Dtype::F8E5m2Fnuz => (3, |b| decode(b, 5, 2, 16, Special::Nan80)),
        _ => (4, |b| if b == 0xFF { f32::NAN } else { f64::exp2(b as f64 - 127.0) as f32 }),
    };
    TABLES[slot].get_or_init(|| std::array::from_fn(|b| decode(b as u8)))
}

#[derive(PartialEq)]
enum Special {
    Nan7F,
    Ieee,
    Nan80,
}

fn decode(b: u8, exponent_bits: u32, mantissa_bits: u32, bias: i32, special: Special) -> f32 {
    let sign = if b & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent = (b as u32 >> mantissa_bits) & ((1 << exponent_bits) - 1);
    let mantissa = b as u32 & ((1 << mantissa_bits) - 1);
    match special {
        Special::Nan7F if b & 0x7F == 0x7F => return f32::NAN.copysign(sign),
        Special::Nan80 if b == 0x80 => return f32::NAN,
        // The NaN payload stays, so that the way back finds the same bits.
        Special::Ieee if exponent == (1 << exponent_bits) - 1 => {
            return f32::from_bits((b as u32 & 0x80) << 24 | 0x7F80_0000 | mantissa << 21);
        }
        _ => {}
    }
    let scale =
        f32::from_bits(((127 - mantissa_bits as i32 + exponent.max(1) as i32 - bias) as u32) << 23);
    let hidden = if exponent == 0 { 0 } else { 1 << mantissa_bits };
    sign * (hidden + mantissa) as f32 * scale
}

/// The nearest code (ties to even; beyond the range: infinity where there is one, else NaN), and
/// whether it is exact.
pub fn encode(dtype: Dtype, value: f32) -> (u8, bool) {
    let values = table(dtype);
    if value.is_nan() {
        return (nan(dtype, value), true);
    }
    if dtype == Dtype::F8E8m0 {
        let distance = |b: u8| (values[b as usize] - value).abs();
        let best =
            (0..=254u8).fold(0, |best, b| if distance(b) < distance(best) { b } else { best });
        return (best, values[best as usize] == value);
    }
    let negative = value.is_sign_negative();
    let code = magnitude(dtype, values, value.abs());
    let fnuz = matches!(dtype, Dtype::F8E4m3Fnuz | Dtype::F8E5m2Fnuz);
    if fnuz && code == 0x80 {
        return (0x80, false);
    }
    let code = if negative && !(fnuz && code == 0) { code | 0x80 } else { code };
    let back = values[code as usize];
    (code, back == value && (value != 0.0 || back.is_sign_negative() == negative))
}

fn nan(dtype: Dtype, value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    match dtype {
        Dtype::F8E4m3 => sign | 0x7F,
        Dtype::F8E5m2 => {
            let payload = ((value.to_bits() >> 21) & 3) as u8;
            sign | 0x7C | if payload == 0 { 2 } else { payload }
        }
        Dtype::F8E8m0 => 0xFF,
        _ => 0x80,
    }
}

/// The code of the nearest magnitude; 0x80 is the NaN of the FNUZ kinds. Codes up to `last` ascend.
fn magnitude(dtype: Dtype, values: &[f32; 256], magnitude: f32) -> u8 {
    let last: u8 = match dtype {
        Dtype::F8E4m3 => 0x7E,
        Dtype::F8E5m2 => 0x7B,
        _ => 0x7F,
    };
    let at = |code: u8| values[code as usize];
    let above = values[..=last as usize].partition_point(|v| *v < magnitude) as u8;
    if above > last {
        let half = at(last) + (at(last) - at(last - 1)) / 2.0;
        // A tie goes to the even code, which is the one past the range where `last` is odd.
        let stays = if last & 1 == 0 { magnitude <= half } else { magnitude < half };
        return match dtype {
            _ if stays => last,
            Dtype::F8E5m2 => 0x7C,
            Dtype::F8E4m3 => 0x7F,
            _ => 0x80,
        };
    }
    if above == 0 || at(above) == magnitude {
        return above;
    }
    match (magnitude - at(above - 1)).total_cmp(&(at(above) - magnitude)) {
        Ordering::Less => above - 1,
        Ordering::Greater => above,
        Ordering::Equal => above - (above & 1),
    }
}
