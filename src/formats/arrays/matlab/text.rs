//! Characters as text: the last dimension is the length of each.

use super::element::{UTF8, UTF16, UTF32};
use crate::array::ArrayMap;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, Logical, checked_product};

/// The texts of characters of this shape, in C order; `kind` is the type in which they are stored.
///
/// # Errors
/// Refused: what is not Unicode text. Corrupt: not as many as the shape needs.
pub(super) fn texts(data: &[u8], kind: u32, big: bool, dims: &[u64]) -> Result<Vec<String>> {
    let (rows_of, width) = match dims.split_last() {
        Some((width, rows)) => (rows, *width),
        None => return Err(Error::corrupt("characters have no dimensions")),
    };
    let count = checked_product(dims).filter(|&n| n < 1 << 32);
    let rows = checked_product(rows_of).filter(|&n| n < 1 << 32);
    let (Some(count), Some(rows)) = (count, rows) else {
        return Err(Error::corrupt(format!("the shape {dims:?} is too large")));
    };
    if count == 0 {
        // Empty texts take no bytes, however many there are.
        if rows > MAX_EMPTY {
            return Err(Error::refused(format!("{rows} empty texts are more than are supported")));
        }
        return Ok(vec![String::new(); rows as usize]);
    }
    let (units, whole) = characters(data, kind, big, count)?;
    if units.len() as u64 != count {
        return Err(Error::corrupt(format!(
            "{} characters are stored, the shape {dims:?} needs {count}",
            units.len()
        )));
    }
    // The first index runs fastest: a text is every `rows`th unit, at the place of its own indices.
    let place = |text: u64| {
        let (mut rest, mut place, mut stride) = (text, 0, rows);
        for &n in rows_of.iter().rev() {
            stride /= n;
            place += rest % n * stride;
            rest /= n;
        }
        place
    };
    let one = |text: u64| {
        let from = place(text);
        let mut own = (0..width).map(|i| units[(from + i * rows) as usize]);
        let text_of = match whole {
            true => own.map(char::from_u32).collect::<Option<String>>(),
            false => char::decode_utf16(own.by_ref().map(|unit| unit as u16))
                .collect::<std::result::Result<String, _>>()
                .ok(),
        };
        text_of.ok_or_else(|| {
            Error::refused(format!("its text {text} is not Unicode text"))
                .hint("--skip-unsupported leaves it out")
        })
    };
    (0..rows).map(one).collect()
}

/// Texts without characters, at most.
const MAX_EMPTY: u64 = 1 << 20;

/// The stored characters: as MATLAB has them, of 16 bits each, or (`true`) whole ones, where only
/// so many of those are due, as SciPy counts.
fn characters(data: &[u8], kind: u32, big: bool, count: u64) -> Result<(Vec<u32>, bool)> {
    // Without any they are blanks, as SciPy has it.
    if data.is_empty() && count <= MAX_EMPTY {
        return Ok((vec![' '.into(); count as usize], true));
    }
    let units = units(data, kind, big)?;
    if units.len() as u64 != count {
        let whole: Option<Vec<u32>> =
            char::decode_utf16(units.iter().copied()).map(|c| c.ok().map(u32::from)).collect();
        if let Some(whole) = whole.filter(|whole| whole.len() as u64 == count) {
            return Ok((whole, true));
        }
    }
    Ok((units.into_iter().map(u32::from).collect(), false))
}

/// The stored characters, of 16 bits each.
fn units(data: &[u8], kind: u32, big: bool) -> Result<Vec<u16>> {
    let refused = |what: &str| {
        Error::refused(format!("its text is not {what}")).hint("--skip-unsupported leaves it out")
    };
    Ok(match kind {
        1 | 2 => data.iter().map(|&b| b.into()).collect(),
        3 | 4 | UTF16 => (data.as_chunks::<2>().0.iter())
            .map(|b| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) })
            .collect(),
        UTF8 => std::str::from_utf8(data).map_err(|_| refused("UTF-8"))?.encode_utf16().collect(),
        UTF32 => {
            let code = |b: &[u8; 4]| {
                if big { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) }
            };
            let all: Option<String> =
                data.as_chunks::<4>().0.iter().map(|b| char::from_u32(code(b))).collect();
            all.ok_or_else(|| refused("UTF-32"))?.encode_utf16().collect()
        }
        other => {
            return Err(Error::corrupt(format!("characters are stored as the type {other}")));
        }
    })
}

/// Texts as an array of this shape.
///
/// # Errors
/// Refused: more than 4 GiB.
pub(super) fn array(name: &str, shape: &[u64], texts: &[String]) -> Result<(ArrayMeta, ArrayMap)> {
    let map = ArrayMap::of_items(shape, texts.iter().map(String::as_bytes))?;
    let mut meta = ArrayMeta::new(name, Dtype::U8, shape);
    meta.logical = Logical::Text;
    meta.details.stored_dtype = Some("char".into());
    meta.details.stored_bytes = Some(texts.iter().map(|t| t.len() as u64).sum());
    Ok((meta, map))
}
