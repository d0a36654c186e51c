//! Files whose delimiter is not the usual one.

use crate::error::{Error, Kind, Result};

use super::dialect::Dialect;
use super::number::Reader;
use super::parse;

/// Rows that are looked at.
const LOOK_ROWS: usize = 20;
/// Cells of a row that are looked at.
const LOOK_CELLS: usize = 1 << 12;
/// Other delimiters, and the flags that name them.
const SIGNS: [(u8, &str, &str); 3] = [(b';', "';'", "-d ';'"), (b'\t', "tab", "-d '\\t'"), (b'|', "'|'", "-d '|'")];

/// Refuses rows that look like several columns behind another delimiter: one column whose rows all hold the same number
/// of it, also where decimal commas cut the numbers in two.
pub(super) fn other_delimiter(dialect: &Dialect, block: &[u8], row: usize) -> Result<()> {
    let comma = Reader::new(b',');
    let is_number = |field: &[u8]| {
        let field = field.trim_ascii();
        field.is_empty() || comma.read(field, 0).is_some_and(|n| n.end == field.len())
    };
    'signs: for (sign, name, flag) in SIGNS {
        let (mut at, mut rows, mut count, mut strict, mut decimal) = (row, 0, None, false, false);
        while at < block.len() && rows < LOOK_ROWS {
            let (cells, next) = parse::cells(dialect, block, at, LOOK_CELLS);
            let here: usize = cells.iter().map(|&c| dialect.content(block, c).iter().filter(|&&b| b == sign).count()).sum();
            if here == 0 || *count.get_or_insert(here) != here {
                continue 'signs;
            }
            // Where a header of one cell does not tell, every field must be a number; else those that a comma cuts.
            strict |= rows == 0 && cells.len() > 1;
            if cells.len() > 1 || strict {
                let mut fields = block[at..next].trim_ascii_end().split(|&b| b == sign);
                if !fields.all(|f| is_number(f) || !strict && !f.contains(&b',')) {
                    continue 'signs;
                }
                decimal |= cells.len() > 1;
            }
            rows += 1;
            at = dialect.row_start(block, next);
        }
        let Some(count) = count else { continue };
        let rows = format!("each of {} first {rows} rows holds {count} × {name}", if decimal { "the" } else { "its" });
        return Err(match decimal {
            false => Error::refused(format!("there is only one column, and {rows}: is that the delimiter?"))
                .hint(format!("give {flag}, or -d ',' if the file has one column")),
            true => Error::refused(format!("{rows}, and commas only within numbers: are those the delimiter and the decimal sign?"))
                .hint(format!("give {flag} --decimal ',', or -d ',' if the commas are the delimiter")),
        });
    }
    Ok(())
}

/// Adds what a header of one column may mean to an error about ragged rows.
pub(super) fn hinted(error: Error, header: &str) -> Error {
    let sign = SIGNS.iter().find(|(sign, ..)| header.as_bytes().contains(sign));
    match sign {
        Some((_, _, flag)) if error.kind() == Kind::Corrupt && error.hint_text().is_none() => error
            .with_kind(Kind::Refused)
            .hint(format!("the header seems to use another delimiter: give {flag}, and --decimal ',' for decimal commas")),
        _ => error,
    }
}
