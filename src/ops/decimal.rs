//! Decimal numbers as others.

use super::op::Info;
use crate::error::{Error, Result};
use crate::model::{Buf, Chunk, Decimals, Values};

/// As float64; `lossy` lets them round.
///
/// # Errors
/// Refused: a number that is none.
pub(super) fn to_floats(
    chunk: &mut Chunk,
    from: Decimals,
    lossy: bool,
    info: &Info,
    first_element: u64,
) -> Result<()> {
    let Values::Fixed(values) = &chunk.values else { return Ok(()) };
    let mut out = Vec::with_capacity(values.len() / from.item_bytes());
    for (i, number) in from.numbers(values).enumerate() {
        if !chunk.is_valid(i / (info.row_elements.max(1) as usize)) {
            out.push(f64::NAN);
            continue;
        }
        let (value, exact) = from.float(number);
        if !lossy && !exact {
            let mut text = Vec::new();
            from.write(number, &mut text);
            return Err(Error::refused(format!(
                "element {} ({}) is not exact as float64",
                first_element + i as u64,
                String::from_utf8_lossy(&text)
            ))
            .array(&info.name)
            .hint("--lossy lets --dtype round"));
        }
        out.push(value);
    }
    chunk.values = Values::Fixed(Buf::from_vec(out));
    Ok(())
}

/// As their texts.
pub(super) fn to_texts(chunk: &mut Chunk, from: Decimals) {
    let Values::Fixed(values) = &chunk.values else { return };
    let (mut offsets, mut texts) = (vec![0u64], Vec::new());
    for (row, number) in from.numbers(values).enumerate() {
        if chunk.is_valid(row) {
            from.write(number, &mut texts);
        }
        offsets.push(texts.len() as u64);
    }
    chunk.values = Values::Var { offsets, values: Buf::from_vec(texts) };
}
