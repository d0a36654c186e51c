//! Files whose delimiter is not the one that they are read with: told, never guessed.

use crate::error::{Error, ErrorKind, Result};

use super::dialect::{Cell, Dialect, cells};
use super::number::{Reader, special};

/// Rows that are looked at.
const MAX_ROWS: usize = 20;
/// Cells of a row that are looked at.
const MAX_CELLS: usize = 1 << 16;

/// What may lie between cells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// One byte.
    Sign(u8),
    /// Runs of blanks and tabs.
    Blanks,
}

/// What other files have between cells, and how messages call it.
const SIGNS: [(u8, &str); 5] =
    [(b';', "';'"), (b'\t', "tab"), (b'|', "'|'"), (b',', "','"), (b':', "':'")];
/// These are hardly ever part of text: an equal number of them in every row is enough to ask.
const PLAIN_SIGNS: [u8; 3] = [b';', b'\t', b'|'];

/// The flag for a delimiter.
fn flag(sign: u8) -> String {
    match sign {
        b'\t' => "-d '\\t'".into(),
        sign => format!("-d '{}'", sign as char),
    }
}

fn name(sign: u8) -> &'static str {
    SIGNS.iter().find(|(s, _)| *s == sign).map_or("?", |(_, name)| name)
}

/// The first rows of a text.
pub(super) struct Sample<'a> {
    /// The bytes from the first row on.
    pub(super) text: &'a [u8],
    /// Whether they are all there are: else the last row may be cut.
    pub(super) whole: bool,
}

impl<'a> Sample<'a> {
    /// Its first rows in this dialect: their bytes and their cells. `None` for a row that cannot be
    /// taken apart.
    fn rows(&self, dialect: &Dialect) -> impl Iterator<Item = Option<(&'a [u8], Vec<Cell>)>> {
        let (text, whole) = (self.text, self.whole);
        let mut at = dialect.row_start(text, 0);
        let row = move |i: usize| {
            if at >= text.len() {
                return None;
            }
            let (cells, next) = cells(dialect, text, at, MAX_CELLS);
            let broken = cells.iter().any(|c| c.broken.is_some());
            let ended = matches!(text.last(), Some(b'\n' | b'\r')) && !broken;
            if i > 0 && !whole && next == text.len() && !ended {
                return None;
            }
            let row = &text[at..next];
            at = dialect.row_start(text, next);
            Some((!broken && cells.len() < MAX_CELLS).then_some((row, cells)))
        };
        (0..MAX_ROWS).map_while(row)
    }
}

/// Refuses rows that look like several columns behind another delimiter.
///
/// # Errors
/// Refused, with the flags to give.
pub(super) fn other_delimiter(dialect: &Dialect, sample: &Sample<'_>) -> Result<()> {
    let Some(usual) = dialect.delimiter else { return Ok(()) };
    for sign in PLAIN_SIGNS.into_iter().filter(|&sign| sign != usual) {
        same_count(dialect, sample, sign)?;
    }
    decimal_commas_between_blanks(dialect, sample)?;
    if sample.rows(dialect).flatten().any(|(_, cells)| cells.len() > 1) {
        return Ok(());
    }
    let or_one = format!("or {} if the file has one column", flag(usual));
    let refused = |rows: usize, columns: usize, between: &str, give: &str| {
        let rows = if rows == 1 {
            "the row has".to_string()
        } else {
            format!("each of the first {rows} rows has")
        };
        let message = format!(
            "there is only one column, but {rows} {columns} cells with {between} between them"
        );
        Err(Error::refused(message).hint(format!("give {give}, {or_one}")))
    };
    for sign in PLAIN_SIGNS.into_iter().filter(|&sign| sign != usual) {
        if let Some(found) = Rectangle::find(dialect, sample, Separator::Sign(sign)) {
            return refused(found.rows, found.columns(), name(sign), &flag(sign));
        }
    }
    // What may stand in any text: only where it separates numbers.
    if let Some(found) =
        Rectangle::find(dialect, sample, Separator::Blanks).filter(Rectangle::has_numbers)
    {
        let give = if found.single_blanks { "-d ' '".to_string() } else { found.as_txt() };
        return refused(found.rows, found.columns(), "blanks", &give);
    }
    for sign in [b',', b':'].into_iter().filter(|&sign| sign != usual) {
        let found =
            Rectangle::find(dialect, sample, Separator::Sign(sign)).filter(Rectangle::has_numbers);
        // Times are numbers and colons, too: they have no header of words.
        if let Some(found) =
            found.filter(|found| sign != b':' || !found.first_numbers.contains(&true))
        {
            return refused(found.rows, found.columns(), name(sign), &flag(sign));
        }
    }
    Ok(())
}

/// Refuses one column whose rows all hold the same number of a sign, also where decimal commas cut
/// the numbers in two.
fn same_count(dialect: &Dialect, sample: &Sample<'_>, sign: u8) -> Result<()> {
    let comma = Reader::new(b',');
    let is_number = |field: &[u8]| {
        let field = field.trim_ascii();
        field.is_empty() || comma.read(field, 0).is_some_and(|n| n.end == field.len())
    };
    let (mut rows, mut count, mut strict, mut decimal) = (0, None, false, false);
    for row in sample.rows(dialect) {
        let Some((row, cells)) = row else { return Ok(()) };
        let here: usize = cells
            .iter()
            .map(|&c| dialect.content(sample.text, c).iter().filter(|&&b| b == sign).count())
            .sum();
        if here == 0
            || *count.get_or_insert(here) != here
            || dialect.delimiter != Some(b',') && cells.len() > 1
        {
            return Ok(());
        }
        // Where a header of one cell does not tell, every field must be a number; else those that a
        // comma cuts.
        strict |= rows == 0 && cells.len() > 1;
        if cells.len() > 1 || strict {
            let mut fields = row.trim_ascii_end().split(|&b| b == sign);
            if !fields.all(|f| is_number(f) || !strict && !f.contains(&b',')) {
                return Ok(());
            }
            decimal |= cells.len() > 1;
        }
        rows += 1;
    }
    let Some(count) = count else { return Ok(()) };
    let (name, flag) = (name(sign), flag(sign));
    let rows = format!(
        "each of {} first {rows} rows holds {count} × {name}",
        if decimal { "the" } else { "its" }
    );
    Err(match decimal {
        false => {
            Error::refused(format!("there is only one column, and {rows}: is that the delimiter?"))
                .hint(format!(
                    "give {flag}, or {} if the file has one column",
                    self::flag(dialect.delimiter.unwrap_or(b','))
                ))
        }
        true => Error::refused(format!(
            "{rows}, and commas only within numbers: are those the delimiter and the decimal sign?"
        ))
        .hint(format!("give {flag} --decimal ',', or -d ',' if the commas are the delimiter")),
    })
}

/// Refuses `1,5 2,7`, read with commas as delimiters: numbers with decimal commas, blanks between
/// them.
fn decimal_commas_between_blanks(dialect: &Dialect, sample: &Sample<'_>) -> Result<()> {
    if dialect.delimiter != Some(b',') {
        return Ok(());
    }
    let Some(found) =
        Rectangle::find(dialect, sample, Separator::Blanks).filter(|found| found.decimal_commas)
    else {
        return Ok(());
    };
    let numbers =
        format!("{} numbers with decimal commas, and blanks between them", found.columns());
    Err(Error::refused(format!("the first {} rows hold {numbers}", found.rows)).hint(format!(
        "give {} --decimal ',', or -d ',' if the commas are the delimiter",
        found.as_txt()
    )))
}

/// Rows that all have the same number of cells, more than one.
struct Rectangle {
    rows: usize,
    /// Per column whether the cell of the first row is a number.
    first_numbers: Vec<bool>,
    /// Per column whether all cells below the first row are numbers.
    numbers: Vec<bool>,
    /// One blank between two cells, and no others.
    single_blanks: bool,
    /// Every cell, but for a header, is a number, and some of each row have digits on both sides of
    /// a comma.
    decimal_commas: bool,
}

impl Rectangle {
    fn find(dialect: &Dialect, sample: &Sample<'_>, separator: Separator) -> Option<Rectangle> {
        let delimiter = match separator {
            Separator::Sign(sign) => Some(sign),
            Separator::Blanks => None,
        };
        let dialect = Dialect { delimiter, ..dialect.clone() };
        let text = sample.text;
        let mut found = Rectangle {
            rows: 0,
            first_numbers: Vec::new(),
            numbers: Vec::new(),
            single_blanks: true,
            decimal_commas: false,
        };
        let mut header = false;
        for row in sample.rows(&dialect) {
            let (row, cells) = row?;
            let first = found.rows == 0;
            if cells.len() < 2 || !first && cells.len() != found.columns() {
                return None;
            }
            let numbers: Vec<bool> =
                cells.iter().map(|&c| is_number(&dialect, &dialect.content(text, c))).collect();
            let commas = !numbers.contains(&false)
                && cells.iter().any(|&c| has_decimal_comma(&text[c.start..c.stop]));
            found.decimal_commas = commas && (first || header || found.decimal_commas);
            header = first && !numbers.contains(&true) && !row.contains(&b',');
            let line = row.strip_suffix(b"\n").unwrap_or(row);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            found.single_blanks &= line.iter().filter(|b| b.is_ascii_whitespace()).count() + 1
                == cells.len()
                && !line.contains(&b'\t');
            if first {
                found.numbers = vec![true; numbers.len()];
                found.first_numbers = numbers;
            } else {
                found.numbers.iter_mut().zip(numbers).for_each(|(all, here)| *all &= here);
            }
            found.rows += 1;
        }
        (found.rows > 0).then_some(found)
    }

    fn columns(&self) -> usize {
        self.first_numbers.len()
    }

    /// Whether a whole column is of numbers, below a header or from the first row on; of several
    /// such columns all alike.
    fn has_numbers(&self) -> bool {
        if self.rows == 1 {
            return !self.first_numbers.contains(&false);
        }
        let mut headed = self
            .numbers
            .iter()
            .zip(&self.first_numbers)
            .filter(|(all, _)| **all)
            .map(|(_, first)| !first);
        headed.next().is_some_and(|one| headed.all(|other| other == one))
    }

    /// The flags that read it as TXT, where runs of blanks lie between cells.
    fn as_txt(&self) -> String {
        let header = match (self.first_numbers.contains(&false), self.numbers.contains(&false)) {
            (false, false) => "",
            (true, _)
                if self
                    .numbers
                    .iter()
                    .zip(&self.first_numbers)
                    .any(|(all, first)| *all && !first) =>
            {
                " --header yes"
            }
            _ => " --header no",
        };
        format!("--from txt{header}")
    }
}

/// A number, also with a decimal comma.
fn is_number(dialect: &Dialect, cell: &[u8]) -> bool {
    let text = cell.trim_ascii();
    special(text).is_some() || dialect.reader.is_number(text) || has_decimal_comma(text)
}

/// A number with digits on both sides of its comma.
fn has_decimal_comma(text: &[u8]) -> bool {
    let around = |at: usize| {
        at > 0 && text[at - 1].is_ascii_digit() && text.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    memchr::memchr(b',', text).is_some_and(around)
        && Reader::new(b',').read(text, 0).is_some_and(|n| n.end == text.len())
}

/// What may make numbers of a cell that is none: the decimal sign, another delimiter.
pub(super) fn hint_for(dialect: &Dialect, cell: &[u8]) -> Option<String> {
    let decimal = dialect.reader.decimal() == b'.' && has_decimal_comma(cell);
    let parts = |sign: u8| {
        let mut parts = cell.split(|&b| b == sign).map(<[u8]>::trim_ascii);
        cell.contains(&sign) && parts.all(|p| p.is_empty() || dialect.reader.is_number(p))
    };
    let sign = SIGNS
        .into_iter()
        .map(|(sign, _)| sign)
        .find(|&sign| Some(sign) != dialect.delimiter && parts(sign));
    match (decimal, sign) {
        (true, Some(sign)) => Some(format!(
            "--decimal ',' if the comma is the decimal sign, {} if it is the delimiter",
            flag(sign)
        )),
        (true, None) => Some("--decimal ',' if the comma is the decimal sign".into()),
        (false, Some(sign)) => Some(format!("{} if {} is the delimiter", flag(sign), name(sign))),
        (false, None) => None,
    }
}

/// Refuses a first row that would be a header only because its numbers have decimal commas.
pub(super) fn no_decimal_commas<'a>(cells: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let comma = Reader::new(b',');
    let mut any = false;
    for cell in cells {
        let cell = cell.trim_ascii();
        any |= has_decimal_comma(cell);
        if !cell.is_empty() && comma.read(cell, 0).is_none_or(|n| n.end != cell.len()) {
            return Ok(());
        }
    }
    match any {
        true => Err(Error::refused("the first row holds numbers with decimal commas, no names")
            .hint("--decimal ',' reads the numbers; --header yes takes the first row as names, --header no the numbers as text")),
        false => Ok(()),
    }
}

/// Adds what a header of one column may mean to an error about ragged rows.
pub(super) fn hinted(error: Error, header: &str) -> Error {
    if error.kind() != ErrorKind::Corrupt || error.hint_text().is_some() {
        return error;
    }
    if header.trim_start().starts_with('#') {
        let hint = "the first line seems to be a comment: --comment '#' passes over such lines";
        return error.with_kind(ErrorKind::Refused).hint(hint);
    }
    let sign = PLAIN_SIGNS.into_iter().find(|sign| header.as_bytes().contains(sign));
    match sign {
        Some(sign) => {
            let hint = format!(
                "the header seems to use another delimiter: give {}, and --decimal ',' for decimal commas",
                flag(sign)
            );
            error.with_kind(ErrorKind::Refused).hint(hint)
        }
        None => error,
    }
}
