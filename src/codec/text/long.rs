//! Columns of numbers that are text only because no one type holds all of them exactly.

use crate::error::Result;

use super::classes::Type;
use super::dialect::Dialect;
use super::number::{Kind, safe_as_double, special};
use super::parse::shown;
use super::source::Reader;

/// The first number that made a column text (its row, its text); `None` where cells are no numbers.
///
/// # Errors
/// Reading errors.
pub(super) fn first(reader: &Reader, array: usize, dialect: &Dialect) -> Result<Option<(u64, String)>> {
    if reader.types[array] != Type::Text || reader.skipped[array] {
        return Ok(None);
    }
    let (mut long, mut unsafe_integer, mut unsigned) = (None, None, None);
    let (mut float, mut negative) = (false, false);
    for block in &reader.scanned.blocks {
        let chunk = reader.text(array, block, 0..block.rows)?;
        for i in 0..chunk.rows as usize {
            let content = chunk.text(i);
            let text = content.trim_ascii();
            if !chunk.is_valid(i) || text.is_empty() || dialect.is_null(content, false) {
                continue;
            }
            let here = || Some((block.first_row + i as u64, shown(text)));
            match dialect.reader.read(text, 0).filter(|n| n.end == text.len()) {
                None if special(text).is_some() => float = true,
                None => return Ok(None),
                Some(number) => match number.kind {
                    Kind::Zeros => return Ok(None),
                    Kind::Float => float = true,
                    Kind::Long | Kind::Overflow => long = long.or_else(here),
                    Kind::Integer => {
                        negative |= number.negative;
                        if !safe_as_double(number.bits, number.negative) {
                            unsafe_integer = unsafe_integer.or_else(here);
                        }
                        if !number.negative && number.bits > i64::MAX as u64 {
                            unsigned = unsigned.or_else(here);
                        }
                    }
                },
            }
        }
    }
    Ok(long.or(if float { unsafe_integer } else { None }).or(if negative { unsigned } else { None }))
}
