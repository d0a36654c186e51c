//! From a block of whole rows to columns of values.

use crate::error::Error;

use super::delimiter_check;
use super::dialect::{Broken, Cell, Dialect, row_cells};
use super::number::{self, Number, NumberKind};
use super::type_inference::{self, Classes, Type, resolve};

/// How the values of a column are held while a block is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not parsed at all.
    Skip,
    /// Nulls alone so far.
    #[default]
    Start,
    /// 64-bit integers, two's complement.
    Integer,
    /// Doubles.
    Float,
    /// Pairs of doubles.
    Complex,
    /// 0 and 1.
    Bool,
    /// Text.
    Text,
    /// Text after all: the block must be parsed once more for this column.
    Retry,
}

/// The cells of one column of one block.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// How they are held.
    pub mode: Mode,
    /// The classes that occurred.
    pub classes: Classes,
    /// Values of all modes but text, 64 bits each (complex: two).
    pub values: Vec<u64>,
    /// Text, end to end, and where each row ends.
    pub text: Vec<u8>,
    /// See `text`.
    pub ends: Vec<u32>,
    /// The rows that are null.
    pub nulls: Vec<u32>,
    /// Leading zeros are numbers here.
    pub zeros: bool,
    /// Text is an error here.
    pub numbers_only: bool,
    /// All cells are text, whatever they look like.
    pub text_only: bool,
    /// The numbers will be float32: they are rounded only once.
    pub single: bool,
    /// Numbers that no type holds exactly are rounded to doubles.
    pub lossy: bool,
}

/// A cell or row that cannot be read, and where it is in the block.
pub struct Fault {
    /// Offset in the block, in bytes.
    pub at: usize,
    /// What is wrong; the line is added by the caller.
    pub error: Error,
}

impl Fault {
    /// Names the column, counted from 1.
    #[cold]
    pub fn in_column(self, column: usize) -> Fault {
        Fault { at: self.at, error: self.error.with_message(|m| format!("{m} (column {column})")) }
    }
}

/// The value has no place in this column's mode.
struct Unfit;

const NAN: u64 = 0x7FF8_0000_0000_0000;

impl Column {
    /// A column that will be read as `mode`.
    pub fn new(mode: Mode) -> Column {
        Column { mode, ..Column::default() }
    }

    /// Empties it for the next block; `known` are the classes that other blocks showed.
    pub fn begin(&mut self, known: Classes) {
        self.clear();
        self.classes = 0;
        if self.mode != Mode::Skip {
            self.mode = match resolve(known) {
                Type::Text => Mode::Text,
                Type::Complex128 => Mode::Complex,
                _ if known & (type_inference::FLOAT | type_inference::LONG) != 0 => Mode::Float,
                _ => Mode::Start,
            };
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.text.clear();
        self.ends.clear();
        self.nulls.clear();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        8 * self.values.len() + self.text.len() + 4 * (self.ends.len() + self.nulls.len())
    }

    fn null(&mut self, row: u32) {
        self.nulls.push(row);
        match self.mode {
            Mode::Integer | Mode::Bool => self.values.push(0),
            Mode::Float => self.values.push(NAN),
            Mode::Complex => self.values.extend([NAN, NAN]),
            Mode::Text => self.ends.push(self.text.len() as u32),
            Mode::Skip | Mode::Start | Mode::Retry => {}
        }
    }

    /// From `Start` to a mode with values: the nulls so far get their places.
    fn settle(&mut self, mode: Mode) {
        self.mode = mode;
        let fill = if mode == Mode::Float { NAN } else { 0 };
        match mode {
            Mode::Complex => self.values.resize(2 * self.nulls.len(), NAN),
            _ => self.values.resize(self.nulls.len(), fill),
        }
    }

    /// From integers to doubles, from doubles to pairs.
    fn widen(&mut self, to: Mode) -> Result<(), Unfit> {
        if self.mode == Mode::Integer {
            if self.classes & type_inference::UNSAFE != 0 {
                return Err(Unfit);
            }
            let unsigned = self.classes & type_inference::UNSIGNED != 0;
            for value in &mut self.values {
                *value = (if unsigned { *value as f64 } else { *value as i64 as f64 }).to_bits();
            }
            for &row in &self.nulls {
                self.values[row as usize] = NAN;
            }
            self.mode = Mode::Float;
        }
        if to == Mode::Complex {
            self.values = self.values.iter().flat_map(|&v| [v, 0]).collect();
            for &row in &self.nulls {
                self.values[2 * row as usize + 1] = NAN;
            }
            self.mode = Mode::Complex;
        }
        Ok(())
    }

    #[inline(always)]
    fn integer(&mut self, bits: u64, negative: bool) -> Result<(), Unfit> {
        let mut class = type_inference::INTEGER;
        if negative {
            class |= type_inference::NEGATIVE;
        } else if bits > i64::MAX as u64 {
            class |= type_inference::UNSIGNED;
        }
        let magnitude = if negative { bits.wrapping_neg() } else { bits };
        if magnitude > 1 << 53 {
            if self.lossy {
                let value = if negative { -(magnitude as f64) } else { magnitude as f64 };
                return self.real(value.to_bits(), type_inference::FLOAT);
            }
            if !number::safe_as_double(magnitude, false) {
                class |= type_inference::UNSAFE;
            }
        }
        self.classes |= class;
        match self.mode {
            Mode::Integer => self.values.push(bits),
            Mode::Float | Mode::Complex => {
                if class & type_inference::UNSAFE != 0 {
                    return Err(Unfit);
                }
                self.values
                    .push((if negative { bits as i64 as f64 } else { bits as f64 }).to_bits());
                if self.mode == Mode::Complex {
                    self.values.push(0);
                }
            }
            Mode::Start => {
                self.settle(Mode::Integer);
                self.values.push(bits);
            }
            _ => return Err(Unfit),
        }
        Ok(())
    }

    #[inline(always)]
    fn real(&mut self, bits: u64, class: Classes) -> Result<(), Unfit> {
        self.classes |= class;
        match self.mode {
            Mode::Float => self.values.push(bits),
            Mode::Complex => self.values.extend([bits, 0]),
            Mode::Start => {
                self.settle(Mode::Float);
                self.values.push(bits);
            }
            Mode::Integer => {
                self.widen(Mode::Float)?;
                self.values.push(bits);
            }
            _ => return Err(Unfit),
        }
        Ok(())
    }

    fn complex(&mut self, pair: (f64, f64)) -> Result<(), Unfit> {
        self.classes |= type_inference::COMPLEX;
        match self.mode {
            Mode::Complex => {}
            Mode::Start => self.settle(Mode::Complex),
            Mode::Integer | Mode::Float => self.widen(Mode::Complex)?,
            _ => return Err(Unfit),
        }
        self.values.extend([pair.0.to_bits(), pair.1.to_bits()]);
        Ok(())
    }

    fn boolean(&mut self, value: bool) -> Result<(), Unfit> {
        self.classes |= type_inference::BOOL;
        match self.mode {
            Mode::Bool => {}
            Mode::Start => self.settle(Mode::Bool),
            _ => return Err(Unfit),
        }
        self.values.push(u64::from(value));
        Ok(())
    }

    /// A number whose text is `text`.
    #[inline(always)]
    fn number(&mut self, dialect: &Dialect, number: Number, text: &[u8]) -> Result<(), Unfit> {
        match number.kind {
            NumberKind::Integer => self.integer(number.bits, number.negative),
            NumberKind::Zeros if self.zeros => self.integer(number.bits, number.negative),
            NumberKind::Float if self.single => {
                self.real(narrowed(dialect, number.bits, text), type_inference::FLOAT)
            }
            NumberKind::Float => self.real(number.bits, type_inference::FLOAT),
            NumberKind::Long if number::safe_digits(text, f64::from_bits(number.bits)) => {
                self.real(number.bits, type_inference::LONG)
            }
            NumberKind::Long | NumberKind::Overflow if self.lossy => {
                self.real(number.bits, type_inference::FLOAT)
            }
            NumberKind::Zeros | NumberKind::Long | NumberKind::Overflow => Err(Unfit),
        }
    }

    /// Any cell, the general way.
    fn put(&mut self, dialect: &Dialect, block: &[u8], cell: Cell, row: u32) -> Result<(), Fault> {
        if matches!(self.mode, Mode::Skip | Mode::Retry) {
            return Ok(());
        }
        let content = dialect.content(block, cell);
        if content.is_empty() && !(cell.quoted && self.mode == Mode::Text)
            || dialect.is_null(&content, self.mode == Mode::Text)
        {
            self.null(row);
            return Ok(());
        }
        if self.mode == Mode::Text {
            self.text.extend_from_slice(&content);
            self.ends.push(self.text.len() as u32);
            return Ok(());
        }
        let text = content.trim_ascii();
        let taken = match dialect.reader.read(text, 0) {
            Some(number) if number.end == text.len() => self.number(dialect, number, text),
            _ => {
                if let Some(value) = number::special(text) {
                    self.real(value.to_bits(), type_inference::FLOAT)
                } else if let Some(value) = number::boolean(&content) {
                    self.boolean(value)
                } else if let Some(pair) = dialect.reader.complex(text, self.lossy) {
                    self.complex(pair)
                } else {
                    Err(Unfit)
                }
            }
        };
        match taken {
            Ok(()) => Ok(()),
            Err(Unfit) if self.numbers_only => {
                let error = if dialect.reader.is_number(text) {
                    Error::refused(format!(
                        "{} is a number that no one type of the column holds exactly",
                        shown(text)
                    ))
                    .hint("--dtype float64 --lossy rounds such numbers")
                } else {
                    let error = Error::refused(format!("{} is not a number", shown(text)));
                    match delimiter_check::hint_for(dialect, text) {
                        Some(hint) => error.hint(hint),
                        None => error,
                    }
                };
                Err(Fault { at: cell.start, error })
            }
            Err(Unfit) => {
                self.classes |= type_inference::TEXT;
                self.mode = Mode::Retry;
                Ok(())
            }
        }
    }
}

/// The float32 nearest to the text, as a double. Only where the double lies exactly between two
/// float32 (or where those are subnormal) could two roundings differ from one.
fn narrowed(dialect: &Dialect, bits: u64, text: &[u8]) -> u64 {
    let value = f64::from_bits(bits);
    if bits & 0x1FFF_FFFF == 0x1000_0000 || value.abs() < f64::from(f32::MIN_POSITIVE) {
        return f64::from(dialect.reader.single(text)).to_bits();
    }
    f64::from(value as f32).to_bits()
}

/// Text for a message: quoted, shortened.
pub fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 {
        short.push('…');
    }
    format!("'{short}'")
}

/// Parses at most `limit` rows of a block of whole rows; returns how many there were.
///
/// # Errors
/// A row with more or fewer cells than columns; a quote that is never closed; text where numbers
/// must be; bytes that are not UTF-8.
pub fn parse(
    dialect: &Dialect,
    block: &[u8],
    columns: &mut [Column],
    limit: u64,
) -> Result<u64, Fault> {
    if let Err(e) = simple_utf8(block) {
        let error = Error::corrupt("the text is not UTF-8")
            .hint("convert it first, for example: iconv -f latin1 -t utf-8");
        return Err(Fault { at: e, error });
    }
    let rows = rows(dialect, block, columns, limit)?;
    if columns.iter().any(|c| c.mode == Mode::Retry) {
        let modes: Vec<Mode> = columns.iter().map(|c| c.mode).collect();
        for column in columns.iter_mut() {
            if column.mode == Mode::Retry {
                column.clear();
                column.mode = Mode::Text;
                column.classes |= type_inference::TEXT;
            } else {
                column.mode = Mode::Skip;
            }
        }
        self::rows(dialect, block, columns, limit)?;
        for (column, mode) in columns.iter_mut().zip(modes) {
            column.mode = if mode == Mode::Retry { Mode::Text } else { mode };
        }
    }
    for column in columns {
        if !column.nulls.is_empty() {
            column.classes |= if column.mode == Mode::Text {
                type_inference::NULL_TEXT
            } else {
                type_inference::NULL
            };
        }
    }
    Ok(rows)
}

fn simple_utf8(block: &[u8]) -> Result<(), usize> {
    std::str::from_utf8(block).map(|_| ()).map_err(|e| e.valid_up_to())
}

fn rows(dialect: &Dialect, block: &[u8], columns: &mut [Column], limit: u64) -> Result<u64, Fault> {
    let width = columns.len();
    let delimiter = dialect.delimiter;
    let fast = !dialect.null_numbers;
    let (mut at, mut row) = (0, 0u64);
    while row < limit {
        let start = dialect.row_start(block, at);
        if start >= block.len() {
            break;
        }
        let mut pos = start;
        let mut c = 0;
        at = loop {
            if c == width {
                return Err(ragged(dialect, block, start, width));
            }
            let column = &mut columns[c];
            c += 1;
            let mut end = usize::MAX;
            if fast
                && matches!(column.mode, Mode::Float | Mode::Integer | Mode::Start)
                && let Some(number) = dialect.reader.read_here(block, pos)
                && ends_cell(block, number.end, delimiter)
                && column.number(dialect, number, &block[pos..number.end]).is_ok()
            {
                end = number.end;
            }
            if end == usize::MAX {
                let cell = dialect.cell(block, pos);
                if let Some(broken) = cell.broken {
                    return Err(
                        Fault { at: pos, error: broken_cell(block, cell, broken) }.in_column(c)
                    );
                }
                column
                    .put(dialect, block, cell, row as u32)
                    .map_err(|f| if width > 1 { f.in_column(c) } else { f })?;
                end = cell.end;
            }
            match dialect.advance(block, end) {
                Ok(next) => pos = next,
                Err(next) => break next,
            }
        };
        if c < width {
            return Err(ragged(dialect, block, start, width));
        }
        row += 1;
    }
    Ok(row)
}

#[inline(always)]
fn ends_cell(block: &[u8], at: usize, delimiter: Option<u8>) -> bool {
    match (block.get(at), delimiter) {
        (None, _) | (Some(b'\n' | b'\r'), _) => true,
        (Some(&b), Some(d)) => b == d,
        (Some(&b), None) => matches!(b, b' ' | b'\t'),
    }
}

#[cold]
fn ragged(dialect: &Dialect, block: &[u8], start: usize, width: usize) -> Fault {
    let cells = row_cells(dialect, block, start, &mut |_| true).0;
    let s = |n: usize| if n == 1 { "" } else { "s" };
    Fault {
        at: start,
        error: Error::corrupt(format!(
            "the row has {cells} cell{}, the first row has {width}",
            s(cells)
        )),
    }
}

/// What is wrong with a quoted cell.
#[cold]
pub fn broken_cell(block: &[u8], cell: Cell, broken: Broken) -> Error {
    match broken {
        Broken::Open => Error::corrupt("a quoted cell is never closed")
            .hint("--quote none reads quotes as plain characters"),
        Broken::Continued => {
            let whole = shown(&block[cell.start - 1..cell.end]);
            let error =
                Error::refused(format!("text follows the closing quote of the cell {whole}"));
            if cell.stop > cell.start && block[cell.stop - 1] == b'\\' {
                return error.hint(r#"a quote within a quoted cell must be doubled, not escaped, for example by: sed 's/\\"/""/g'"#);
            }
            error.hint("a quote within a quoted cell must be doubled; --quote none reads quotes as plain characters")
        }
    }
}
