//! The Arrow type of an array that came from elsewhere.

use std::sync::Arc;

use arrow_schema::DataType;

use super::leaves::arrow_unit;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, Logical, TimeUnit};

/// The usual type of an array's elements.
///
/// # Errors
/// Refused: Arrow has none.
pub fn usual_element(meta: &ArrayMeta) -> Result<DataType> {
    let none = || Error::refused(format!("{} has no Arrow type", meta.type_name()));
    let numpy_unit = |u: &TimeUnit, duration: bool| -> Result<DataType> {
        let whole = |unit| {
            if duration { DataType::Duration(unit) } else { DataType::Timestamp(unit, None) }
        };
        use arrow_schema::TimeUnit as U;
        Ok(match u.base.as_str() {
            "W" | "D" if !duration => DataType::Date32,
            "W" | "D" | "h" | "m" | "s" => whole(U::Second),
            "ms" => whole(U::Millisecond),
            "us" => whole(U::Microsecond),
            "ns" | "ps" | "fs" | "as" => whole(U::Nanosecond),
            _ => return Err(none().hint("convert it with numpy first: Arrow lacks this unit")),
        })
    };
    let plain = |dtype: Dtype| -> Result<DataType> {
        Ok(match dtype {
            Dtype::Bool => DataType::Boolean,
            Dtype::U8 => DataType::UInt8,
            Dtype::U16 => DataType::UInt16,
            Dtype::U32 => DataType::UInt32,
            Dtype::U64 => DataType::UInt64,
            Dtype::I8 => DataType::Int8,
            Dtype::I16 => DataType::Int16,
            Dtype::I32 => DataType::Int32,
            Dtype::I64 => DataType::Int64,
            Dtype::F16 => DataType::Float16,
            Dtype::F32 => DataType::Float32,
            Dtype::F64 => DataType::Float64,
            _ => return Err(none()),
        })
    };
    let arrow = |u: &TimeUnit| arrow_unit(u).ok_or_else(none);
    Ok(match &meta.logical {
        Logical::Plain | Logical::List => plain(meta.dtype)?,
        Logical::Datetime(u) => numpy_unit(u, false)?,
        Logical::Timedelta(u) => numpy_unit(u, true)?,
        Logical::Timestamp(u, zone) => {
            DataType::Timestamp(arrow(u)?, zone.as_deref().map(Arc::from))
        }
        Logical::Duration(u) => DataType::Duration(arrow(u)?),
        Logical::Date32 => DataType::Date32,
        Logical::Date64 => DataType::Date64,
        Logical::Time32(u) => DataType::Time32(arrow(u)?),
        Logical::Time64(u) => DataType::Time64(arrow(u)?),
        Logical::Text => DataType::Utf8,
        Logical::Binary => DataType::Binary,
        Logical::Decimal { precision, scale, bits } => match (*precision, *bits) {
            (1..=9, 32) => DataType::Decimal32(*precision, *scale),
            (1..=18, 64) => DataType::Decimal64(*precision, *scale),
            (1..=38, 0..=128) => DataType::Decimal128(*precision, *scale),
            (1..=76, _) => DataType::Decimal256(*precision, *scale),
            _ => return Err(none()),
        },
        Logical::Dictionary { categories, .. } => {
            let values = usual_element(&categories.kind().meta())?;
            DataType::Dictionary(Box::new(plain(meta.dtype)?), Box::new(values))
        }
        Logical::Nested(nested) => nested.field.data_type().clone(),
        Logical::Packed { .. } => return Err(none()),
    })
}
