//! Text outputs: checked options, the header, blocks of rows appended in turn.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::encoder::{Compression, Encoder, quoted};
use super::print::{Numbers, Printf};
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, Arrays, Auto, BlockRows, Capabilities, InOrder, Order, Prepared, Summary,
    WriteOptions, prepared,
};
use crate::model::{ArrayMeta, Plan};
use crate::storage::{Location, Output};

/// What both formats hold.
pub const TEXT_TABLES: Capabilities = Capabilities {
    arrays: Arrays::Table,
    scalars: false,
    max_rank: 1,
    order: Order::RowBlocks,
    layout_flags: &["compression", "float-format"],
    ..Capabilities::DEFAULT
};

/// What sets the formats apart.
pub struct Style {
    /// Between cells.
    pub delimiter: u8,
    /// The quote around cells that need it; `None`: the format has no quotes.
    pub quote: Option<u8>,
    /// How a NaN is spelled.
    pub nan: &'static str,
    /// Whether a time that is not known is spelled `NaT` rather than left out.
    pub nat: bool,
    /// How false and true are spelled.
    pub booleans: [&'static str; 2],
    /// Whether a header is written where columns have names.
    pub header: bool,
}

/// Checks a delimiter that a user gave.
///
/// # Errors
/// Usage: where numbers would become ambiguous.
pub fn check_delimiter(delimiter: u8, decimal: u8) -> Result<()> {
    if delimiter == decimal {
        let sign = decimal as char;
        return Err(Error::usage(format!("'{sign}' is both the delimiter and the decimal sign"))
            .hint("give another delimiter, such as -d ';'"));
    }
    if delimiter.is_ascii_alphanumeric()
        || matches!(delimiter, b'"' | b'\n' | b'\r' | b'+' | b'-' | b'(' | b')')
        || delimiter >= 0x80
    {
        return Err(Error::usage(format!("{:?} cannot be a delimiter", delimiter as char)));
    }
    Ok(())
}

/// Checks a decimal sign that a user gave.
///
/// # Errors
/// Usage.
pub fn check_decimal(decimal: u8) -> Result<()> {
    if decimal.is_ascii_alphanumeric()
        || matches!(decimal, b'"' | b'\n' | b'\r' | b'+' | b'-' | b'(' | b')' | b' ' | b'\t')
        || decimal >= 0x80
    {
        return Err(Error::usage(format!("{:?} cannot be a decimal sign", decimal as char)));
    }
    Ok(())
}

/// Checks a quote that a user gave.
///
/// # Errors
/// Usage: where it stands for something else, too.
pub fn check_quote(
    quote: Option<u8>,
    delimiter: u8,
    decimal: u8,
    comment: Option<u8>,
) -> Result<()> {
    let Some(quote) = quote else { return Ok(()) };
    if quote == delimiter || quote == decimal || Some(quote) == comment {
        let sign = quote as char;
        return Err(Error::usage(format!(
            "'{sign}' is the quote and the delimiter, the decimal sign or the comment sign as well"
        )));
    }
    if quote.is_ascii_alphanumeric()
        || quote.is_ascii_whitespace()
        || matches!(quote, b'+' | b'-' | b'(' | b')')
        || quote >= 0x80
    {
        return Err(Error::usage(format!("{:?} cannot be a quote", quote as char)));
    }
    Ok(())
}

/// Checks a text table.
///
/// # Errors
/// Usage; names that cannot be written.
pub fn prepare(
    at: &Location,
    plan: &Plan,
    options: &WriteOptions,
    style: Style,
) -> Result<Prepared> {
    encoder(at, plan, options, &style)?;
    Ok(prepared(at, options, move |at, plan, options| {
        let encoder = encoder(at, plan, options, &style)?;
        let output = at.create_file(options.existing, options.sync)?;
        Ok(InOrder::sink(encoder, TextOutput { output, bytes: 0 }))
    }))
}

fn encoder(at: &Location, plan: &Plan, options: &WriteOptions, style: &Style) -> Result<Encoder> {
    let text = &options.text;
    let decimal = text.decimal.unwrap_or(b'.');
    check_decimal(decimal)?;
    check_delimiter(style.delimiter, decimal)?;
    let compression = compression(at, options)?;
    let format = text.float_format.as_deref().map(Printf::parse).transpose()?;
    let header = header(plan, options, style)?;
    Ok(Encoder {
        metas: plan.arrays.clone(),
        row_bytes: plan
            .arrays
            .iter()
            .map(|m| m.row_bytes_about(16).max(16))
            .fold(1, u64::saturating_add),
        delimiter: style.delimiter,
        quote: style.quote,
        comment: text.comment,
        null: text.null_values.as_ref().and_then(|l| l.first()).map(|w| w.as_bytes().to_vec()),
        nat: style.nat,
        numbers: Numbers { nan: style.nan, decimal, format },
        booleans: style.booleans,
        header,
        compression,
        categories: plan.arrays.iter().map(|_| RwLock::new(Arc::new(Vec::new()))).collect(),
    })
}

fn compression(at: &Location, options: &WriteOptions) -> Result<Compression> {
    let name = at.file_name().to_ascii_lowercase();
    let by_name = if name.ends_with(".gz") {
        ("gzip", 6)
    } else if name.ends_with(".zst") {
        ("zstd", 3)
    } else {
        ("none", 0)
    };
    let known = [("none", None), ("gzip", Some(6)), ("zstd", Some(3))];
    Ok(match options.compression("text", &known)?.unwrap_or(by_name) {
        ("gzip", level) => Compression::Gzip(level as u32),
        ("zstd", level) => Compression::Zstd(level),
        _ => Compression::Plain,
    })
}

/// The header of each array: that of its table, or else its name.
pub fn headers(plan: &Plan) -> Vec<String> {
    let columns = plan.tables.iter().flat_map(|t| &t.columns);
    // The first header of an array counts.
    let headers: HashMap<&str, &str> =
        columns.rev().map(|c| (c.array.as_str(), c.header.as_str())).collect();
    let header = |m: &ArrayMeta| headers.get(&*m.name).map_or(&*m.name, |h| *h).to_string();
    plan.arrays.iter().map(header).collect()
}

/// The header line, or nothing.
fn header(plan: &Plan, options: &WriteOptions, style: &Style) -> Result<Vec<u8>> {
    let text = &options.text;
    let mut names = headers(plan);
    if let Some(given) = &text.column_names {
        if given.len() != names.len() {
            return Err(Error::usage(format!(
                "{} column names are given for {} columns",
                given.len(),
                names.len()
            )));
        }
        names.clone_from(given);
    }
    let write = match text.header {
        Auto::Yes => {
            if names.iter().all(String::is_empty) {
                names = plan.arrays.iter().map(|m| m.name.clone()).collect();
            }
            true
        }
        Auto::No => false,
        Auto::Auto => style.header && names.iter().any(|n| !n.is_empty()),
    };
    let mut line = Vec::new();
    if !write || names.is_empty() {
        return Ok(line);
    }
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            line.push(style.delimiter);
        }
        if style.quote.is_none()
            && name.bytes().any(|b| b == style.delimiter || b.is_ascii_whitespace())
        {
            return Err(Error::refused("the name cannot be written: TXT has no quotes")
                .array(name)
                .hint("write CSV, or --header no"));
        }
        let alone = names.len() == 1 && name.is_empty();
        quoted(
            name.as_bytes(),
            style.delimiter,
            style.quote,
            text.comment.filter(|_| i == 0),
            alone,
            &mut line,
        );
    }
    line.push(b'\n');
    Ok(line)
}

struct TextOutput {
    output: Box<dyn Output>,
    bytes: u64,
}

impl AppendBlocks for TextOutput {
    type Encoded = Vec<u8>;
    fn append(&mut self, _rows: BlockRows, text: Vec<u8>) -> Result<()> {
        self.output.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
    fn finish(mut self, _end: &Plan) -> Result<Summary> {
        self.output.flush()?;
        self.output.commit()?;
        Ok(Summary { bytes: self.bytes, files: 1, notes: Vec::new() })
    }
}
