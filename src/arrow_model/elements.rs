//! Elements of the model → Arrow arrays without lists around them.

use std::sync::Arc;

use arrow_array::{ArrayRef, NullArray, make_array};
use arrow_buffer::i256;
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::retype::retyped;
use crate::error::{Error, Result};
use crate::model::nested::type_name;
use crate::model::{ArrayMeta, Categories, CategoryKind, Chunk, Decimals, Logical, Values, typed};

pub(super) fn invalid(e: arrow_schema::ArrowError) -> Error {
    Error::refused("the values do not fit the column's type").because(e)
}

pub(super) fn null_buffer(chunks: &[Chunk], rows: usize) -> Option<NullBuffer> {
    if chunks.iter().all(|c| c.valid.is_none()) {
        return None;
    }
    let mut bits = arrow_buffer::BooleanBufferBuilder::new(rows);
    for chunk in chunks {
        match &chunk.valid {
            None => bits.append_n(chunk.rows as usize, true),
            Some(valid) => {
                valid.iter().take(chunk.rows as usize).for_each(|&v| bits.append(v != 0))
            }
        }
    }
    Some(NullBuffer::new(bits.finish())).filter(|n| n.null_count() > 0)
}

/// All fixed-size values in one buffer; one chunk is not copied.
fn fixed(chunks: &[Chunk], align: usize) -> Result<Buffer> {
    let mut parts = Vec::new();
    for chunk in chunks {
        match &chunk.values {
            Values::Fixed(b) => parts.push(b),
            _ => {
                return Err(Error::internal("values of fixed size were expected"));
            }
        }
    }
    if let [one] = parts[..]
        && one.as_ptr().align_offset(align) == 0
    {
        return Ok(one.clone());
    }
    let mut all = arrow_buffer::MutableBuffer::new(parts.iter().map(|p| p.len()).sum());
    parts.iter().for_each(|p| all.extend_from_slice(p.as_slice()));
    Ok(all.into())
}

/// Offsets (from 0, in elements of `item` bytes) and values of all rows.
pub(super) fn joined(chunks: &[Chunk], rows: usize, item: u64) -> Result<(Vec<i64>, Buffer)> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0i64);
    let mut end = 0i64;
    let mut parts = Vec::new();
    for chunk in chunks {
        let Values::Var { offsets: from, values } = &chunk.values else {
            return Err(Error::internal("text was expected"));
        };
        let from = &from[..=chunk.rows as usize];
        let (first, last) = (from.first().copied().unwrap_or(0), from.last().copied().unwrap_or(0));
        offsets.extend(from[1..].iter().map(|&o| end + (o - first) as i64));
        end += (last - first) as i64;
        parts.push(
            values.slice_with_length((first * item) as usize, ((last - first) * item) as usize),
        );
    }
    let values = match &parts[..] {
        [one] if one.as_ptr().align_offset(16) == 0 => one.clone(),
        _ => {
            let mut all = arrow_buffer::MutableBuffer::new(parts.iter().map(|p| p.len()).sum());
            parts.iter().for_each(|p| all.extend_from_slice(p.as_slice()));
            all.into()
        }
    };
    Ok((offsets, values))
}

pub(super) fn narrow(offsets: &[i64]) -> Result<Buffer> {
    if offsets.last().is_some_and(|&l| l > i64::from(i32::MAX)) {
        return Err(Error::refused("more than 2 GiB of text in one row group")
            .hint("make the row groups smaller with --row-group-size"));
    }
    Ok(Buffer::from_vec(offsets.iter().map(|&o| o as i32).collect::<Vec<i32>>()))
}

/// An array of elements without lists.
pub(super) fn elements(
    meta: &ArrayMeta,
    target: &DataType,
    chunks: &[Chunk],
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(target.clone()).len(len).nulls(nulls.clone());
    let built = match (&meta.logical, target) {
        (Logical::Dictionary { categories, .. }, DataType::Dictionary(keys, values)) => {
            let width = keys.primitive_width().unwrap_or(1);
            let values = categories_array(categories, values, 0)?;
            data.add_buffer(fixed(chunks, width)?).add_child_data(values.to_data()).build()
        }
        (Logical::Text | Logical::Binary, DataType::Null) => {
            if nulls.as_ref().map_or(0, NullBuffer::null_count) < len {
                return Err(Error::refused("a column recorded as all null has values now"));
            }
            return Ok(Arc::new(NullArray::new(len)));
        }
        (Logical::Text | Logical::Binary, DataType::Utf8 | DataType::Binary) => {
            let (offsets, values) = joined(chunks, len, 1)?;
            data.add_buffer(narrow(&offsets)?).add_buffer(values).build()
        }
        (Logical::Text | Logical::Binary, DataType::LargeUtf8 | DataType::LargeBinary) => {
            let (offsets, values) = joined(chunks, len, 1)?;
            data.add_buffer(Buffer::from_vec(offsets)).add_buffer(values).build()
        }
        (Logical::Text | Logical::Binary, DataType::Utf8View | DataType::BinaryView) => {
            let large = if *target == DataType::Utf8View {
                DataType::LargeUtf8
            } else {
                DataType::LargeBinary
            };
            return cast_exact(&elements(meta, &large, chunks, len, nulls)?, target, 0);
        }
        (Logical::Binary, DataType::FixedSizeBinary(n)) => {
            let bytes = fixed_size(chunks, len, *n as usize, nulls.as_ref())?;
            data.add_buffer(bytes).build()
        }
        (Logical::Decimal { precision, scale, .. }, t) => {
            let from = Decimals::of(*precision, *scale);
            data.add_buffer(decimals(from, t, &fixed(chunks, 8)?)?).build()
        }
        (_, DataType::Boolean) => {
            let bytes = fixed(chunks, 1)?;
            let bits = BooleanBuffer::collect_bool(bytes.len().min(len), |i| bytes[i] != 0);
            data.add_buffer(bits.into_inner()).build()
        }
        (Logical::Datetime(unit) | Logical::Timedelta(unit), t) => {
            return numpy_times(&unit.clone(), t, chunks, len, nulls);
        }
        (_, t) => {
            let width = t.primitive_width().ok_or_else(|| {
                Error::internal(format!(
                    "{} cannot be made from {}",
                    type_name(t),
                    meta.type_name()
                ))
            })?;
            if width as u64 != meta.dtype.item_bytes() {
                return Err(Error::internal(format!(
                    "{} cannot be made from {}",
                    type_name(t),
                    meta.type_name()
                )));
            }
            data.add_buffer(fixed(chunks, width.next_power_of_two())?).build()
        }
    };
    Ok(make_array(built.map_err(invalid)?))
}

/// Bytes of which every row has `n`; those of nulls are zero.
fn fixed_size(
    chunks: &[Chunk],
    rows: usize,
    n: usize,
    nulls: Option<&NullBuffer>,
) -> Result<Buffer> {
    let (offsets, values) = joined(chunks, rows, 1)?;
    let mut bytes = Vec::with_capacity(rows * n);
    for (i, w) in offsets.windows(2).enumerate() {
        let value = &values[w[0] as usize..w[1] as usize];
        if nulls.is_some_and(|v| v.is_null(i)) {
            bytes.resize(bytes.len() + n, 0);
        } else if value.len() == n {
            bytes.extend_from_slice(value);
        } else {
            return Err(Error::refused(format!(
                "the value has {} bytes, the column holds {n} each",
                value.len()
            )));
        }
    }
    Ok(Buffer::from_vec(bytes))
}

/// numpy's times: NaT is a null, units that Arrow lacks become seconds or days where that is exact.
fn numpy_times(
    unit: &crate::model::TimeUnit,
    target: &DataType,
    chunks: &[Chunk],
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let values = fixed(chunks, 8)?;
    let values = typed::<i64>(&values);
    let date = *target == DataType::Date32;
    // A step of `unit`, in steps of the target: multiply, then divide.
    let (times, over): (i64, i64) = match (unit.base.as_str(), date) {
        ("W", true) => (7, 1),
        ("D", true) => (1, 1),
        ("W", false) => (7 * 86_400, 1),
        ("D", false) => (86_400, 1),
        ("h", _) => (3600, 1),
        ("m", _) => (60, 1),
        ("ps", _) => (1, 1000),
        ("fs", _) => (1, 1_000_000),
        ("as", _) => (1, 1_000_000_000),
        _ => (1, 1),
    };
    let times = i64::from(unit.count) * times;
    let mut out = Vec::with_capacity(len);
    let mut valid = arrow_buffer::BooleanBufferBuilder::new(len);
    for (i, &v) in values.iter().take(len).enumerate() {
        let ok = v != i64::MIN && nulls.as_ref().is_none_or(|n| n.is_valid(i));
        valid.append(ok);
        if !ok {
            out.push(0);
            continue;
        }
        let scaled = v.checked_mul(times).filter(|s| s % over == 0).map(|s| s / over);
        match scaled.filter(|&s| !date || i32::try_from(s).is_ok()) {
            Some(s) => out.push(s),
            None => {
                return Err(Error::refused(format!(
                    "value {i}: {v} {unit} is not exact as {}",
                    type_name(target)
                )));
            }
        }
    }
    let nulls = Some(NullBuffer::new(valid.finish())).filter(|n| n.null_count() > 0);
    let buffer = if date {
        Buffer::from_vec(out.iter().map(|&v| v as i32).collect::<Vec<i32>>())
    } else {
        Buffer::from_vec(out)
    };
    let data = ArrayData::builder(target.clone()).len(len).nulls(nulls).add_buffer(buffer);
    Ok(make_array(data.build().map_err(invalid)?))
}

/// The categories from `first` on as an array of this type.
///
/// # Errors
/// Categories that are not of this type.
pub fn categories_array(
    categories: &Categories,
    target: &DataType,
    first: usize,
) -> Result<ArrayRef> {
    let items = categories.snapshot();
    let items = items.get(first..).unwrap_or_default();
    let chunk =
        |values| [Chunk { array: 0, first_row: 0, rows: items.len() as u64, values, valid: None }];
    match categories.kind() {
        kind @ CategoryKind::Fixed(..) => elements(
            &kind.meta(),
            target,
            &chunk(Values::Fixed(Buffer::from_vec(items.concat()))),
            items.len(),
            None,
        ),
        kind => {
            let mut offsets = vec![0u64];
            let mut end = 0;
            offsets.extend(items.iter().map(|i| {
                end += i.len() as u64;
                end
            }));
            let values = Values::Var { offsets, values: Buffer::from_vec(items.concat()) };
            elements(&kind.meta(), target, &chunk(values), items.len(), None)
        }
    }
}

/// A cast that refuses what it cannot keep; `first_row` is the array's own first row.
///
/// # Errors
/// Values that do not fit.
pub fn cast_exact(array: &ArrayRef, target: &DataType, first_row: u64) -> Result<ArrayRef> {
    let cast = retyped(array, target).map_err(invalid)?;
    let back = retyped(&cast, array.data_type()).map_err(invalid)?;
    if back.as_ref() == array.as_ref() {
        return Ok(cast);
    }
    let first = (0..array.len())
        .find(|&i| back.slice(i, 1).as_ref() != array.slice(i, 1).as_ref())
        .unwrap_or(0);
    let value = arrow_cast::display::array_value_to_string(array, first).unwrap_or_default();
    let row = first_row.saturating_add(first as u64);
    Err(Error::refused(format!("row {row} ({value}) is not exact as {}", type_name(target))))
}

/// Stored decimals in the width of an Arrow type.
fn decimals(from: Decimals, target: &DataType, values: &Buffer) -> Result<Buffer> {
    let (precision, scale, width) = match (target, target.primitive_width()) {
        (
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s),
            Some(width),
        ) if *s == from.scale => (*p, *s, width),
        _ => {
            return Err(Error::internal(format!(
                "{} cannot be made from decimals",
                type_name(target)
            )));
        }
    };
    let most = i256::from_i128(10).checked_pow(u32::from(precision)).unwrap_or(i256::MAX);
    let least = most.wrapping_neg();
    let mut out = arrow_buffer::MutableBuffer::new(values.len() / from.item_bytes() * width);
    for (i, number) in from.numbers(values).enumerate() {
        if number >= most || number <= least {
            return Err(Error::refused(format!(
                "value {i}: {number} has more digits than a decimal({precision}, {scale})"
            )));
        }
        out.extend_from_slice(&number.to_le_bytes()[..width]);
    }
    Ok(out.into())
}
