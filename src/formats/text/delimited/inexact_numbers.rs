//! Columns that are text although all their cells are numbers: those that no one type holds
//! exactly, and those with another decimal sign.

use crate::error::Result;
use crate::model::ArrayMeta;

use super::dialect::Dialect;
use super::number::{NumberKind, Reader, safe_as_double, special};
use super::parse::shown;
use super::rows;
use super::type_inference::Type;

/// Names that a note lists.
const MAX_NAMES: usize = 5;

/// What the user should hear of them.
///
/// # Errors
/// Reading errors.
pub(super) fn notes(
    reader: &rows::Reader,
    arrays: &[ArrayMeta],
    dialect: &Dialect,
) -> Result<Vec<String>> {
    let (mut notes, mut signed) = (Vec::new(), Vec::new());
    let sign = other_sign(dialect);
    for (array, meta) in arrays.iter().enumerate() {
        if reader.types[array] != Type::Text || reader.skipped[array] {
            continue;
        }
        let name = &meta.name;
        match look(reader, array, dialect)? {
            Some(Finding::Inexact(row, value)) => notes.push(format!(
                "{name}: the column is read as text, because no numeric type holds the {value} of row {row} exactly; \
                 --dtype {name}=float64 --lossy reads it as rounded numbers"
            )),
            Some(Finding::OtherSign) => signed.push(name.as_str()),
            None => {}
        }
    }
    if !signed.is_empty() {
        let more = if signed.len() > MAX_NAMES { ", …" } else { "" };
        let (names, sign) = (signed[..signed.len().min(MAX_NAMES)].join(", "), sign as char);
        notes.push(format!("read as text, but all cells look like numbers with the decimal sign '{sign}': {names}{more}; --decimal '{sign}' reads them as numbers"));
    }
    Ok(notes)
}

enum Finding {
    /// The first number that made a column text: its row, its text.
    Inexact(u64, String),
    /// All cells are numbers with the other decimal sign.
    OtherSign,
}

/// The usual decimal sign that is not in use.
fn other_sign(dialect: &Dialect) -> u8 {
    if dialect.reader.decimal() == b'.' { b',' } else { b'.' }
}

/// The two suspicions about a column, as long as no cell refutes them.
struct Look<'a> {
    dialect: &'a Dialect,
    /// Whether all cells are numbers as the file is read.
    numbers: bool,
    long: Option<(u64, String)>,
    unsafe_integer: Option<(u64, String)>,
    unsigned: Option<(u64, String)>,
    float: bool,
    negative: bool,
    /// Reads the other decimal sign; `None`: some cell is no number for it, or it is the delimiter.
    other: Option<Reader>,
    signed: bool,
}

fn look(reader: &rows::Reader, array: usize, dialect: &Dialect) -> Result<Option<Finding>> {
    let sign = other_sign(dialect);
    let mut look = Look {
        dialect,
        numbers: true,
        long: None,
        unsafe_integer: None,
        unsigned: None,
        float: false,
        negative: false,
        other: (dialect.delimiter != Some(sign)).then(|| Reader::new(sign)),
        signed: false,
    };
    for block in &reader.scanned.blocks {
        let chunk = reader.text(array, block, 0..block.rows)?;
        for i in 0..chunk.rows as usize {
            let content = chunk.text(i);
            let text = content.trim_ascii();
            if !chunk.is_valid(i) || text.is_empty() || dialect.is_null(content, false) {
                continue;
            }
            look.cell(text, block.first_row + i as u64);
            if !look.numbers && look.other.is_none() {
                return Ok(None);
            }
        }
    }
    if look.numbers {
        let unsafe_integer = if look.float { look.unsafe_integer } else { None };
        let unsigned = if look.negative { look.unsigned } else { None };
        return Ok(look
            .long
            .or(unsafe_integer)
            .or(unsigned)
            .map(|(row, value)| Finding::Inexact(row, value)));
    }
    Ok(look.signed.then_some(Finding::OtherSign))
}

impl Look<'_> {
    fn cell(&mut self, text: &[u8], row: u64) {
        let here = || Some((row, shown(text)));
        let whole = |reader: &Reader| {
            reader.read(text, 0).filter(|n| n.end == text.len() && n.kind != NumberKind::Zeros)
        };
        if let Some(other) = &self.other {
            self.signed |= text.contains(&other.decimal());
            if whole(other).is_none() && special(text).is_none() {
                self.other = None;
            }
        }
        match whole(&self.dialect.reader) {
            None => {
                self.float = true;
                self.numbers &= special(text).is_some();
            }
            Some(number) => match number.kind {
                NumberKind::Zeros | NumberKind::Float => self.float = true,
                NumberKind::Long | NumberKind::Overflow => {
                    self.long = self.long.take().or_else(here)
                }
                NumberKind::Integer => {
                    self.negative |= number.negative;
                    if !safe_as_double(number.bits, number.negative) {
                        self.unsafe_integer = self.unsafe_integer.take().or_else(here);
                    }
                    if !number.negative && number.bits > i64::MAX as u64 {
                        self.unsigned = self.unsigned.take().or_else(here);
                    }
                }
            },
        }
    }
}
