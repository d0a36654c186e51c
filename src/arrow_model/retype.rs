//! Arrays under another Arrow type, for the pairs of types that files ask for. The crate's own casts
//! go from every type to every other, which is several megabytes of code.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, ByteArrayType, Date32Type, Date64Type, Decimal32Type, Decimal64Type,
    Decimal128Type, Decimal256Type, Time32MillisecondType as TimeMs, Time32SecondType as TimeS,
    TimestampMillisecondType as StampMs, TimestampSecondType as StampS,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, GenericByteArray, LargeBinaryArray,
    LargeStringArray, PrimitiveArray, StringArray, StringViewArray, make_array,
};
use arrow_buffer::{ArrowNativeType, OffsetBuffer, i256};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use crate::model::nested::{children, type_name};

type Result<T> = std::result::Result<T, ArrowError>;

const DAY_MS: i64 = 86_400_000;

/// The same values as an array of another type: texts and bytes in another form, integers as the
/// times they count, decimals in another width, seconds and milliseconds, dates in days and in
/// milliseconds, and lists and structs of these. What a coarser unit cannot hold is cut off.
///
/// # Errors
/// Values that the type cannot hold; a pair of types that is none of these.
pub fn retyped(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    use DataType as A;
    const S: TimeUnit = TimeUnit::Second;
    const MS: TimeUnit = TimeUnit::Millisecond;
    Ok(match (array.data_type(), target) {
        (from, to) if from == to => array.clone(),
        (A::Utf8, _) => bytes(array.as_string::<i32>(), target)?,
        (A::LargeUtf8, A::Utf8View) => Arc::new(StringViewArray::from(array.as_string::<i64>())),
        (A::LargeUtf8, _) => bytes(array.as_string::<i64>(), target)?,
        (A::Binary, _) => bytes(array.as_binary::<i32>(), target)?,
        (A::LargeBinary, A::BinaryView) => {
            Arc::new(BinaryViewArray::from(array.as_binary::<i64>()))
        }
        (A::LargeBinary, _) => bytes(array.as_binary::<i64>(), target)?,
        (A::Utf8View, _) => {
            let large: ArrayRef = Arc::new(LargeStringArray::from_iter(array.as_string_view()));
            retyped(&large, target)?
        }
        (A::BinaryView, _) => {
            let large: ArrayRef = Arc::new(LargeBinaryArray::from_iter(array.as_binary_view()));
            retyped(&large, target)?
        }
        (A::FixedSizeBinary(_), A::LargeBinary) => {
            Arc::new(LargeBinaryArray::from_iter(array.as_fixed_size_binary()))
        }
        (A::Int64, A::Duration(_) | A::Date64 | A::Timestamp(..)) | (A::Int32, A::Time32(_)) => {
            make_array(array.to_data().into_builder().data_type(target.clone()).build()?)
        }
        (A::Timestamp(unit, _), A::Timestamp(other, _)) if unit == other => {
            make_array(array.to_data().into_builder().data_type(target.clone()).build()?)
        }
        (A::Timestamp(S, _), A::Timestamp(MS, _)) => {
            values::<StampS, StampMs>(array, target, |v| v.checked_mul(1000))?
        }
        (A::Timestamp(MS, _), A::Timestamp(S, _)) => {
            values::<StampMs, StampS>(array, target, |v| Some(v / 1000))?
        }
        (A::Time32(S), A::Time32(MS)) => {
            values::<TimeS, TimeMs>(array, target, |v| v.checked_mul(1000))?
        }
        (A::Time32(MS), A::Time32(S)) => {
            values::<TimeMs, TimeS>(array, target, |v| Some(v / 1000))?
        }
        (A::Date64, A::Date32) => {
            values::<Date64Type, Date32Type>(array, target, |v| i32::try_from(v / DAY_MS).ok())?
        }
        (A::Date32, A::Date64) => {
            values::<Date32Type, Date64Type>(array, target, |v| Some(i64::from(v) * DAY_MS))?
        }
        (A::Decimal128(_, scale), A::Decimal32(_, other)) if scale == other => {
            values::<Decimal128Type, Decimal32Type>(array, target, |v| v.try_into().ok())?
        }
        (A::Decimal128(_, scale), A::Decimal64(_, other)) if scale == other => {
            values::<Decimal128Type, Decimal64Type>(array, target, |v| v.try_into().ok())?
        }
        (A::Decimal128(_, scale), A::Decimal256(_, other)) if scale == other => {
            values::<Decimal128Type, Decimal256Type>(array, target, |v| Some(i256::from_i128(v)))?
        }
        _ => with_children(array, target)?,
    })
}

fn unlike(from: &DataType, to: &DataType) -> ArrowError {
    ArrowError::CastError(format!("{} is not read as {}", type_name(from), type_name(to)))
}

/// Every value that is not null changed by `change`.
fn values<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    array: &ArrayRef,
    target: &DataType,
    change: impl Fn(A::Native) -> Option<B::Native>,
) -> Result<ArrayRef> {
    let changed: PrimitiveArray<B> = array.as_primitive::<A>().try_unary(|v| {
        change(v).ok_or_else(|| {
            ArrowError::CastError(format!("{v:?} does not fit {}", type_name(target)))
        })
    })?;
    Ok(Arc::new(changed.with_data_type(target.clone())))
}

/// Texts and bytes with offsets of any width; what becomes text is checked to be UTF-8.
fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>, target: &DataType) -> Result<ArrayRef> {
    let wide = || {
        let offsets = array.offsets().iter().map(|o| o.as_usize() as i64);
        OffsetBuffer::new(offsets.collect())
    };
    let narrow = || {
        let offsets = array.offsets().iter().map(|o| i32::try_from(o.as_usize()));
        let offsets = offsets.collect::<std::result::Result<_, _>>();
        offsets.map(OffsetBuffer::new).map_err(|_| ArrowError::OffsetOverflowError(usize::MAX))
    };
    let (data, nulls) = (array.values().clone(), array.nulls().cloned());
    Ok(match target {
        DataType::Utf8 => Arc::new(StringArray::try_new(narrow()?, data, nulls)?),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::try_new(wide(), data, nulls)?),
        DataType::Binary => Arc::new(BinaryArray::try_new(narrow()?, data, nulls)?),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::try_new(wide(), data, nulls)?),
        DataType::Utf8View => {
            let large = LargeStringArray::try_new(wide(), data, nulls)?;
            Arc::new(StringViewArray::from(&large))
        }
        DataType::BinaryView => {
            let large = LargeBinaryArray::try_new(wide(), data, nulls)?;
            Arc::new(BinaryViewArray::from(&large))
        }
        other => return Err(unlike(array.data_type(), other)),
    })
}

/// Lists, maps and structs of other elements.
fn with_children(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let (from, to) = (children(array.data_type()), children(target));
    let data = array.to_data();
    let alike = std::mem::discriminant(array.data_type()) == std::mem::discriminant(target);
    if !alike || to.is_empty() || from.len() != to.len() || to.len() != data.child_data().len() {
        return Err(unlike(array.data_type(), target));
    }
    let below = data.child_data().iter().zip(&to);
    let below = below
        .map(|(child, field)| Ok(retyped(&make_array(child.clone()), field.data_type())?.to_data()))
        .collect::<Result<Vec<_>>>()?;
    let built = data.into_builder().data_type(target.clone()).child_data(below);
    Ok(make_array(built.build()?))
}
