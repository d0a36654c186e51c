//! CSV and TSV: tables as delimited text, as RFC 4180 and its many relatives have it.
//!
//! <https://www.rfc-editor.org/rfc/rfc4180>
//!
//! | part | bytes |
//! |---|---|
//! | mark | optional UTF-8 byte order mark; UTF-16 with its mark is decoded |
//! | rows | cells, one delimiter between two, `\n`, `\r\n` or `\r` behind the last |
//! | blank lines | rows (nulls) in a table of one column, except before its header; else they count for nothing |
//! | cell | plain, or in double quotes: then it may hold delimiters and line ends, and doubles its quotes |
//! | header | the first row, unless every cell of it is a number or empty |
//!
//! gzip and zstd files are read and written (`.csv.gz`, `.csv.zst`).
//!
//! Text behind a closing quote (`"a" b`) is an error with its line, since other readers drop or
//! move some of it. Quotes within a plain cell are characters; `--quote` gives another quote, or
//! none. Blanks belong to cells and names, unless `--trim` takes those off that are not within
//! quotes.
//!
//! The delimiter is never guessed: one column whose first rows are a rectangle with another
//! delimiter (or numbers with blanks between them) is refused with the flag to give, and so are
//! decimal commas where they would make a header.
//!
//! # Types
//! All cells of a column decide (see [`type_inference`](crate::formats::text::delimited::type_inference)):
//! integers of 64 bits, doubles, complex numbers as numpy writes them, booleans, else text. Quotes
//! do not matter for that (as in pandas), nor do blanks around numbers. Leading zeros (`007`) and
//! integers that no type holds stay text, so that nothing is changed silently, and so do other
//! spellings: `(50)`, `1_000`, `0x10`, `1,000`, `1d5`, digits of other scripts.
//!
//! # Nulls
//! An empty cell is null. In a column of text a quoted empty cell (`""`) is an empty text, as
//! DuckDB and polars have it. `NA`, `NULL`, `None` and their kin (pandas' list) are null among
//! numbers and booleans, but stay in columns of text; `--null-values` replaces that list and holds
//! for every column. `nan` is a number. A column of nulls alone is float64.
//!
//! # Not supported
//! Ragged rows are errors. Dates stay text (text is exact). Other encodings than UTF-8 and UTF-16
//! are refused.
//!
//! # Writing
//! Integers as they are, floats in the shortest text that reads back as the same value of their own
//! width, `NaN` and `inf`, booleans as `True` and `False`, times as ISO 8601, quotes only where
//! needed, nulls as nothing. A float32 column reads back exactly with `--dtype float32`. In a table
//! of one column a null is a blank line among texts, where `""` is an empty text, and `""` among
//! numbers, since many readers pass over blank lines.

use crate::error::Result;
use crate::format::{
    Capabilities, Format, Head, Prepared, Quote, ReadOptions, Sniff, Source, Spec, Streams,
    WriteOptions,
};
use crate::formats::text::delimited::dialect::Dialect;
use crate::formats::text::delimited::number::Reader;
use crate::formats::text::delimited::sink::{
    self, Style, TEXT_TABLES, check_decimal, check_delimiter, check_quote,
};
use crate::formats::text::delimited::source::{self, Flavor};
use crate::model::{CategoryKind, Dtype, Logical, Plan};
use crate::storage::Location;

/// The format.
pub struct Csv;

fn holds_logical(logical: &Logical) -> bool {
    match logical {
        Logical::Dictionary { categories, .. } => match categories.kind() {
            CategoryKind::Text => true,
            CategoryKind::Fixed(dtype, None) => {
                Dtype::NUMPY.contains(dtype) && !dtype.is_complex() && *dtype != Dtype::Bool
            }
            _ => false,
        },
        Logical::Text | Logical::Decimal { .. } => true,
        other => other.is_time() || other.is_plain(),
    }
}

/// The delimiter that a file name asks for.
fn delimiter(at: &Location) -> u8 {
    let name = at.file_name().to_ascii_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    if name.ends_with(".tsv") { b'\t' } else { b',' }
}

static SPEC: Spec = Spec {
    name: "csv",
    extensions: &["csv", "tsv", "csv.gz", "csv.zst", "tsv.gz", "tsv.zst"],
    about: "CSV and TSV tables, also .gz and .zst; types from the whole file",
    streams: Streams { input: true, output: true },
    copies_remote: |options| !options.names_only,
    writes: Some(Capabilities { logical: holds_logical, nulls: true, ..TEXT_TABLES }),
    ..Spec::DEFAULT
};

impl Format for Csv {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(text_sniff(head, &[".csv", ".tsv"]))
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let text = &options.text;
        let decimal = text.decimal.unwrap_or(b'.');
        let given = text.delimiter.unwrap_or_else(|| delimiter(at));
        check_decimal(decimal)?;
        check_delimiter(given, decimal)?;
        let quote = match text.quote {
            Quote::Usual => Some(b'"'),
            Quote::None => None,
            Quote::Byte(quote) => Some(quote),
        };
        check_quote(quote, given, decimal, text.comment)?;
        let dialect = Dialect {
            delimiter: Some(given),
            quote,
            comment: text.comment,
            inline: false,
            blank_rows: false,
            trim: text.trim,
            zeros: false,
            numbers_only: false,
            nulls: None,
            null_numbers: false,
            reader: Reader::new(decimal),
        }
        .with_nulls(text.null_values.as_ref());
        let flavor = Flavor {
            name: "csv",
            dialect,
            check_delimiter: true,
            blank_rows: true,
            header: true,
            one_type: false,
        };
        source::open(at, options, flavor)
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        sink::prepare(at, plan, options, style(at, options))
    }
}

fn style(at: &Location, options: &WriteOptions) -> Style {
    let delimiter = options.text.delimiter.unwrap_or_else(|| delimiter(at));
    Style {
        delimiter,
        quote: Some(b'"'),
        nan: "NaN",
        nat: false,
        booleans: ["False", "True"],
        header: true,
    }
}

/// Text without a signature: only its name and the absence of binary bytes speak for it.
fn text_sniff(head: &Head<'_>, endings: &[&str]) -> Sniff {
    let name = head.location.file_name().to_ascii_lowercase();
    let packed = matches!(head.bytes, [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD, ..]);
    let plain = name.trim_end_matches(".gz").trim_end_matches(".zst");
    if packed {
        return if endings.iter().any(|e| plain.ends_with(e)) { Sniff::Maybe } else { Sniff::No };
    }
    let utf16 = matches!(head.bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
    if !utf16 && head.bytes.contains(&0) { Sniff::No } else { Sniff::Maybe }
}
