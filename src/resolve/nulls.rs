//! `--nulls`: what becomes of nulls that have no place in the output.

use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Buf, Dtype};
use crate::ops::{Op, cast};

/// `--nulls`.
#[derive(Clone, Debug, PartialEq)]
pub enum Nulls {
    /// A bool array beside the values.
    Mask,
    /// NaN; integers become float64 if that is exact.
    Nan,
    /// This value.
    Fill(String),
    /// An error.
    Error,
}

impl Nulls {
    /// Parses `mask`, `nan`, `fill=V`, `error`.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Nulls> {
        match text {
            "mask" => Ok(Nulls::Mask),
            "nan" => Ok(Nulls::Nan),
            "error" => Ok(Nulls::Error),
            _ => match text.strip_prefix("fill=") {
                Some(value) => Ok(Nulls::Fill(value.to_string())),
                None => Err(Error::usage(format!("--nulls has no choice '{text}'"))
                    .hint("choose mask, nan, fill=VALUE or error")),
            },
        }
    }
}

/// The ops after which an array has no nulls any more, and its dtype then. `None` where the choice
/// is a mask, or nothing that could stand in a row of text.
///
/// # Errors
/// Refused: NaN where there is none. Usage: a fill value that does not fit.
pub fn null_ops(meta: &mut ArrayMeta, nulls: &Nulls) -> Result<Option<Vec<Op>>> {
    let ops = match nulls {
        Nulls::Mask => return Ok(None),
        Nulls::Error => vec![Op::RefuseNulls],
        Nulls::Nan if meta.dtype.is_float() || meta.dtype.is_complex() => vec![Op::DropMask],
        Nulls::Nan if meta.logical.is_plain() && meta.dtype.is_integer() => {
            let from = std::mem::replace(&mut meta.dtype, Dtype::F64);
            let nan = Op::Fill(f64::NAN.to_le_bytes().to_vec());
            vec![Op::Cast { from, to: Dtype::F64, lossy: false }, nan]
        }
        Nulls::Nan => {
            let kind = meta.type_name();
            return Err(Error::refused(format!("{kind} has nulls and cannot hold NaN"))
                .hint("--nulls mask or fill=VALUE"));
        }
        Nulls::Fill(_) if meta.logical.is_var() => return Ok(None),
        Nulls::Fill(value) => vec![Op::Fill(element(value, meta)?)],
    };
    meta.nulls = false;
    Ok(Some(ops))
}

/// A fill value as one element.
fn element(value: &str, meta: &ArrayMeta) -> Result<Vec<u8>> {
    let bad = || {
        Error::usage(format!("'{value}' does not fit {}", meta.dtype))
            .array(&meta.name)
            .hint("--nulls fill=VALUE takes a value of the column's type")
    };
    if let Some(decimals) = meta.logical.decimals() {
        return decimals.parse(value.as_bytes()).ok_or_else(bad);
    }
    let parsed: Buf = match value.parse::<i64>() {
        Ok(i) => Buf::from_vec(vec![i]),
        Err(_) => {
            let f: f64 = match value.to_ascii_lowercase().as_str() {
                "true" => 1.0,
                "false" => 0.0,
                _ => value.parse().map_err(|_| bad())?,
            };
            // A decimal literal is rounded to the column's float type, as everywhere.
            let wide = Buf::from_vec(vec![f]);
            return cast::cast(&wide, Dtype::F64, meta.dtype, meta.dtype.is_float())
                .map(|b| b.to_vec())
                .map_err(|_| bad());
        }
    };
    cast::cast(&parsed, Dtype::I64, meta.dtype, false).map(|b| b.to_vec()).map_err(|_| bad())
}
