//! Floats in JSON: numbers, and text for what JSON lacks, as Zarr spells it: `"NaN"`, `"Infinity"`,
//! `"-Infinity"`, and the bits of every other NaN, `"0x7fc00001"`.

use half::{bf16, f16};
use serde_json::{Number, Value};

use super::Dtype;

/// The bits of the NaN that `"NaN"` stands for; `None` for what is no float of 16 to 64 bits.
fn usual_nan(dtype: Dtype) -> Option<u64> {
    Some(match dtype {
        Dtype::F16 => 0x7e00,
        Dtype::Bf16 => 0x7fc0,
        Dtype::F32 => 0x7fc0_0000,
        Dtype::F64 => 0x7ff8_0000_0000_0000,
        _ => return None,
    })
}

/// A computed number as JSON: of a NaN no bits matter.
pub fn number(value: f64) -> Value {
    let value = if value.is_nan() { f64::NAN } else { value };
    to_json(Dtype::F64, &value.to_le_bytes()).unwrap_or_default()
}

/// A little-endian float as JSON; `None` where `dtype` is none of 16 to 64 bits.
pub fn to_json(dtype: Dtype, bytes: &[u8]) -> Option<Value> {
    let mut wide = [0u8; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    let value = match dtype {
        Dtype::F16 => f16::from_bits(bits as u16).to_f64(),
        Dtype::Bf16 => bf16::from_bits(bits as u16).to_f64(),
        Dtype::F32 => f64::from(f32::from_bits(bits as u32)),
        Dtype::F64 => f64::from_bits(bits),
        _ => return None,
    };
    Some(match Number::from_f64(value) {
        Some(number) => number.into(),
        None if value.is_nan() && Some(bits) == usual_nan(dtype) => "NaN".into(),
        None if value.is_nan() => format!("0x{bits:0width$x}", width = 2 * bytes.len()).into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    })
}

/// The float of a JSON value in the bytes of `dtype`, little-endian; a number is rounded to it.
/// `None` where the value is no float, or its bits are too many.
pub fn from_json(value: &Value, dtype: Dtype) -> Option<Vec<u8>> {
    let size = dtype.item_bytes() as usize;
    let bits = |bits: u64| bits.to_le_bytes()[..size].to_vec();
    let nan = usual_nan(dtype)?;
    let number = match value {
        Value::String(text) => match text.as_str() {
            "NaN" => return Some(bits(nan)),
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            hex => {
                let found = u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok()?;
                return (size == 8 || found >> (8 * size) == 0).then(|| bits(found));
            }
        },
        Value::Number(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    Some(match dtype {
        Dtype::F16 => f16::from_f64(number).to_le_bytes().to_vec(),
        Dtype::Bf16 => bf16::from_f64(number).to_le_bytes().to_vec(),
        Dtype::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    })
}
