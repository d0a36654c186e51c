//! `--nulls`: what becomes of nulls that have no place in the output.

use std::sync::Arc;

use super::iso_time;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Buf, CategoryKind, Dtype, Logical};
use crate::ops::dictionary::FillCategory;
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
/// is a mask, or the rows are lists, which keep their nulls.
///
/// # Errors
/// Refused: NaN where there is none, bytes. Usage: a fill value that does not fit.
pub fn null_ops(meta: &mut ArrayMeta, nulls: &Nulls) -> Result<Option<Vec<Op>>> {
    let ops = match nulls {
        Nulls::Mask => return Ok(None),
        Nulls::Error => vec![Op::RefuseNulls],
        Nulls::Fill(_) | Nulls::Nan
            if matches!(meta.logical, Logical::List | Logical::Nested(_)) =>
        {
            return Ok(None);
        }
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
        Nulls::Fill(value) => vec![fill(value, meta)?],
    };
    meta.nulls = false;
    Ok(Some(ops))
}

/// The op that fills an array's nulls.
fn fill(value: &str, meta: &mut ArrayMeta) -> Result<Op> {
    Ok(match meta.logical.clone() {
        Logical::Text => Op::FillText(value.as_bytes().to_vec()),
        Logical::Binary => {
            return Err(Error::refused("--nulls fill=VALUE has no bytes to fill with")
                .hint("-x leaves the column out"));
        }
        Logical::Dictionary { categories, .. } => {
            let item = match categories.kind() {
                CategoryKind::Text => value.as_bytes().to_vec(),
                kind => {
                    let mut one = ArrayMeta { name: meta.name.clone(), ..kind.meta() };
                    match fill(value, &mut one)? {
                        Op::Fill(element) => element,
                        _ => return Err(Error::internal("a category of no fixed size")),
                    }
                }
            };
            let fill = Arc::new(FillCategory::new(meta, item)?);
            meta.logical = meta.logical.with_dictionaries(vec![fill.categories()]);
            Op::FillCategory(fill)
        }
        _ => Op::Fill(element(value, meta)?),
    })
}

/// A fill value as one element.
fn element(value: &str, meta: &ArrayMeta) -> Result<Vec<u8>> {
    let bad = || {
        let kind = ArrayMeta { nulls: false, original_dtype: None, ..meta.clone() }.type_name();
        Error::usage(format!("'{value}' does not fit {kind}"))
            .array(&meta.name)
            .hint("--nulls fill=VALUE takes a value of the column's type")
    };
    if let Some(decimals) = meta.logical.decimals() {
        return decimals.parse(value.as_bytes()).ok_or_else(bad);
    }
    let count = match value.parse::<i64>() {
        Ok(count) => Some(count),
        Err(_) => iso_time::count(value, &meta.logical),
    };
    let parsed: Buf = match count {
        Some(count) if !iso_time::holds(&meta.logical, count) => return Err(bad()),
        Some(count) => Buf::from_vec(vec![count]),
        None if meta.logical.is_time() => return Err(bad()),
        None => {
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
