//! Text whose name does not say so: what kind of table it is, and the flags that read it.

use super::signatures::refused;
use crate::error::Error;

/// Lines that are looked at.
const MAX_LINES: usize = 50;

/// What a text looks like.
enum Layout {
    /// Numbers in so many columns, between blanks; with or without a line of names above.
    Blanks { columns: usize, header: bool, decimal_comma: bool },
    /// Cells between delimiters.
    Delimited { columns: usize, delimiter: u8, decimal_comma: bool },
    /// Something else.
    Other,
}

/// The error for bytes that are plainly text; `None` for all others. `whole`: whether this is all
/// of the file.
pub(super) fn find(head: &[u8], whole: bool) -> Option<Error> {
    let text = readable(head, whole)?;
    let trimmed = text.trim_start_matches('\u{feff}').trim_start();
    if trimmed.is_empty() {
        return None;
    }
    if is_json(trimmed) {
        return Some(refused(
            "JSON text",
            "in Python: pandas.read_json(FILE, lines=True).to_parquet('OUT.parquet'); without lines=True if it is one document",
        ));
    }
    let mut lines: Vec<&str> = trimmed.lines().collect();
    // The last line may be cut off.
    if !whole && !text.ends_with('\n') && lines.len() > 1 {
        lines.pop();
    }
    lines.retain(|l| !l.trim().is_empty());
    let comment =
        lines.first().and_then(|l| l.chars().next()).filter(|c| matches!(c, '#' | '%' | '!'));
    if let Some(comment) = comment {
        lines.retain(|l| !l.starts_with(comment));
    }
    lines.truncate(MAX_LINES);
    Some(error(&layout(&lines), comment))
}

fn error(layout: &Layout, comment: Option<char>) -> Error {
    let mut flags = String::new();
    let what = match layout {
        Layout::Blanks { columns, header, decimal_comma } => {
            flags += "--from txt";
            flags += if *header { " --header yes" } else { "" };
            // `#` is what TXT takes for comments anyway.
            if let Some(c) = comment.filter(|c| *c != '#') {
                flags += &format!(" --comment '{c}'");
            }
            flags += if *decimal_comma { " --decimal ," } else { "" };
            format!(
                "numbers in {columns} column{} between blanks",
                if *columns == 1 { "" } else { "s" }
            )
        }
        Layout::Delimited { columns, delimiter, decimal_comma } => {
            flags += "--from csv";
            flags += match delimiter {
                b',' => "",
                b';' => " -d ';'",
                b'|' => " -d '|'",
                b' ' => " -d space",
                _ => " -d tab",
            };
            if let Some(c) = comment {
                flags += &format!(" --comment '{c}'");
            }
            flags += if *decimal_comma { " --decimal ," } else { "" };
            let name = match delimiter {
                b'\t' => "tabs".to_string(),
                b' ' => "blanks".to_string(),
                d => format!("'{}'", char::from(*d)),
            };
            format!("{columns} columns with {name} between them")
        }
        Layout::Other => {
            let error = Error::missing(
                "this is text, but its format is not recognised: no table of numbers or of delimited cells is seen",
            );
            return error.hint("if it is a table, say how to read it: --from csv or --from txt, and -d for the delimiter");
        }
    };
    let text = format!("this is text ({what}), which is read only if its name or --from says how");
    Error::missing(text).hint(format!("read it with {flags}"))
}

/// Whether the first bytes of a file are text.
pub(super) fn is_readable(head: &[u8]) -> bool {
    readable(head, false).is_some()
}

/// UTF-8 without control characters; the last character may be cut off.
fn readable(head: &[u8], whole: bool) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() && !whole => {
            std::str::from_utf8(&head[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0C'))
        .then_some(text)
}

fn is_json(text: &str) -> bool {
    let mut signs = text.chars().filter(|c| !c.is_whitespace());
    match (signs.next(), signs.next()) {
        (Some('{'), Some(second)) => matches!(second, '"' | '}'),
        (Some('['), Some(second)) => {
            matches!(second, '{' | '"' | '[' | ']')
                || text.contains(',') && (second == '-' || second.is_ascii_digit())
        }
        _ => false,
    }
}

fn layout(lines: &[&str]) -> Layout {
    if let Some(found) =
        blanks(lines, is_number, false).or_else(|| blanks(lines, is_comma_number, true))
    {
        return found;
    }
    for delimiter in [b',', b';', b'\t', b'|'] {
        if let Some(columns) = rectangle(lines, delimiter, 2) {
            let cells = || lines.iter().skip(1).flat_map(|l| l.split(char::from(delimiter)));
            let decimal_comma =
                delimiter != b',' && cells().any(|c| c.contains(',') && is_comma_number(c.trim()));
            return Layout::Delimited { columns, delimiter, decimal_comma };
        }
    }
    match rectangle(lines, b' ', 3) {
        Some(columns) => Layout::Delimited { columns, delimiter: b' ', decimal_comma: false },
        None => Layout::Other,
    }
}

/// Numbers in rows of one length; the first line may be names.
fn blanks(lines: &[&str], is_number: fn(&str) -> bool, decimal_comma: bool) -> Option<Layout> {
    let (first, rest) = lines.split_first()?;
    let columns = first.split_whitespace().count();
    let numbers = |line: &str| {
        line.split_whitespace().all(is_number) && line.split_whitespace().count() == columns
    };
    if !rest.iter().all(|l| numbers(l)) || decimal_comma && !lines.iter().any(|l| l.contains(',')) {
        return None;
    }
    let header = !numbers(first);
    let enough = if header {
        rest.len() > 1 && !first.split_whitespace().any(is_number)
    } else {
        lines.len() > 1 || columns > 1
    };
    enough.then_some(Layout::Blanks { columns, header, decimal_comma })
}

fn is_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || matches!(text.to_ascii_lowercase().as_str(), "nan" | "inf");
    begins && text.parse::<f64>().is_ok()
}

fn is_comma_number(text: &str) -> bool {
    !text.contains('.') && text.matches(',').count() < 2 && is_number(&text.replace(',', "."))
}

/// The columns of lines that all have as many cells: two at least, in `least` lines at least.
/// Delimiters in quotes are text.
fn rectangle(lines: &[&str], delimiter: u8, least: usize) -> Option<usize> {
    let cells = |line: &str| {
        let mut quoted = false;
        1 + line
            .bytes()
            .filter(|&b| {
                quoted ^= b == b'"';
                b == delimiter && !quoted
            })
            .count()
    };
    let columns = cells(lines.first()?);
    (columns > 1 && lines.len() >= least && lines.iter().all(|l| cells(l) == columns))
        .then_some(columns)
}
