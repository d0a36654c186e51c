//! What ops do to a chunk.

use super::op::{Info, Op};
use super::{cast, decimal, dictionary, fill, nested, time};
use crate::error::{Error, Result};
use crate::model::{Buf, Chunk, Dtype, Values};

/// A chunk after these ops.
pub(super) fn apply<'a>(
    mut chunk: Chunk,
    ops: impl Iterator<Item = &'a Op>,
    info: &Info,
) -> Result<Chunk> {
    for op in ops {
        op.apply(&mut chunk, info)?;
    }
    Ok(chunk)
}

impl Op {
    /// Changes a chunk; only for ops that need no more than that.
    ///
    /// # Errors
    /// Values that cannot be taken.
    fn apply(&self, chunk: &mut Chunk, info: &Info) -> Result<()> {
        let first_element = match chunk.first_row {
            Chunk::NEXT => 0,
            row => row.saturating_mul(info.row_elements),
        };
        match self {
            Op::NormalizeBools { values } => normalize(chunk, *values),
            Op::Cast { from, to, lossy } => {
                cast_chunk(chunk, *from, *to, *lossy, info, first_element)?;
            }
            Op::Rescale(rescale) => {
                if let Values::Fixed(values) = &mut chunk.values {
                    *values = rescale.apply(values, &info.name, first_element)?;
                }
            }
            Op::NatToNull => {
                if let Values::Fixed(values) = &chunk.values {
                    time::nat_to_null(values, &mut chunk.valid, chunk.rows);
                }
            }
            Op::DropMask => chunk.valid = None,
            Op::Fill(element) => {
                if let (Some(valid), Values::Fixed(values)) =
                    (chunk.valid.take(), &mut chunk.values)
                {
                    *values = fill::elements(values, &valid, element);
                }
            }
            Op::FillText(text) => fill::texts(chunk, text),
            Op::FillCategory(fill) => fill.apply(chunk).map_err(|e| e.with_array(&info.name))?,
            Op::CheckCodes { categories, codes } => {
                dictionary::check_codes(chunk, categories, *codes)
                    .map_err(|e| e.with_array(&info.name))?;
            }
            Op::Mask => {
                let all = || Buf::from_vec(vec![1u8; chunk.rows as usize]);
                chunk.values = Values::Fixed(chunk.valid.take().unwrap_or_else(all));
            }
            Op::RefuseNulls => refuse_nulls(chunk, info)?,
            Op::Decode { categories, codes, fixed } => {
                dictionary::decode(chunk, categories, *codes, *fixed)?;
            }
            Op::Constant { element, text, null } => {
                let rows = chunk.rows as usize;
                let values = Buf::from_vec(element.repeat(rows));
                let offsets = || (0..=rows as u64).map(|row| row * element.len() as u64).collect();
                chunk.values = if *text {
                    Values::Var { offsets: offsets(), values }
                } else {
                    Values::Fixed(values)
                };
                chunk.valid = null.then(|| Buf::from_vec(vec![0u8; rows]));
            }
            Op::Nulls(meta) => fill::nulls(chunk, meta)?,
            Op::DecimalToFloat { from, lossy } => {
                decimal::to_floats(chunk, *from, *lossy, info, first_element)?;
            }
            Op::DecimalToText(from) => decimal::to_texts(chunk, *from),
            Op::Part(part) => *chunk = part.take(chunk)?,
            Op::Lists(lists) => lists.apply(chunk)?,
            Op::NestedToJson(nested) => nested::to_json(chunk, nested)?,
            Op::Column { index, width, item } => {
                if let Values::Fixed(values) = &mut chunk.values {
                    *values = column(values, chunk.rows as usize, *item, *width, *index);
                }
            }
            Op::Stack(_)
            | Op::Dequantize(_)
            | Op::Encode(_)
            | Op::Offsets
            | Op::Elements { .. } => {
                return Err(Error::internal("a change that needs an order has none"));
            }
        }
        Ok(())
    }
}
/// Bytes that are 0 and 1 already, as nearly all are, are not copied.
fn normalize(chunk: &mut Chunk, values: bool) {
    let as_bits = |bytes: &mut Buf| {
        if bytes.iter().fold(0, |all, b| all | b) > 1 {
            *bytes = Buf::from_vec(bytes.iter().map(|b| u8::from(*b != 0)).collect::<Vec<u8>>());
        }
    };
    if values {
        match &mut chunk.values {
            Values::Fixed(values) | Values::Var { values, .. } => as_bits(values),
            Values::Nested(_) => {}
        }
    }
    chunk.valid.as_mut().into_iter().for_each(as_bits);
}

/// What stands at a null is no value: it may not refuse a cast, nor name an index.
fn cast_chunk(
    chunk: &mut Chunk,
    from: Dtype,
    to: Dtype,
    lossy: bool,
    info: &Info,
    first_element: u64,
) -> Result<()> {
    let (Values::Fixed(values) | Values::Var { values, .. }) = &mut chunk.values else {
        return Err(Error::internal("a nested column cannot be cast"));
    };
    let at_null = |index: usize| {
        let row = index as u64 / info.row_elements.max(1);
        chunk.valid.as_ref().is_some_and(|v| v.get(row as usize) == Some(&0))
    };
    *values = match cast::cast(values, from, to, lossy) {
        Ok(cast) => cast,
        Err(index) if at_null(index) => {
            let cast = cast::unchecked(values, from, to);
            let item = from.item_bytes() as usize;
            for i in (index..values.len() / item).filter(|&i| !at_null(i)) {
                let one = values.slice_with_length(i * item, item);
                cast::checked(&one, from, to, lossy, &info.name, first_element + i as u64)?;
            }
            cast
        }
        Err(_) => cast::checked(values, from, to, lossy, &info.name, first_element)?,
    };
    Ok(())
}

fn refuse_nulls(chunk: &mut Chunk, info: &Info) -> Result<()> {
    let Some(row) = chunk.valid.take().and_then(|v| v.iter().position(|&b| b == 0)) else {
        return Ok(());
    };
    let first = if chunk.first_row == Chunk::NEXT { 0 } else { chunk.first_row };
    Err(Error::refused(format!("row {} is null", first + row as u64))
        .array(&info.name)
        .hint("--nulls mask, nan or fill=VALUE"))
}

/// Every `width`th element.
fn column(values: &[u8], rows: usize, item: usize, width: usize, index: usize) -> Buf {
    let mut out = Vec::with_capacity(rows * item);
    for row in values.chunks_exact(item * width).take(rows) {
        out.extend_from_slice(&row[index * item..(index + 1) * item]);
    }
    Buf::from_vec(out)
}
