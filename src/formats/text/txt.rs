//! TXT: numbers in rows, as `numpy.loadtxt` and `genfromtxt` read them and `savetxt` writes them.
//!
//! <https://numpy.org/doc/stable/reference/generated/numpy.loadtxt.html>
//!
//! | part | bytes |
//! |---|---|
//! | rows | cells with runs of blanks between them (or one delimiter, where given), `\n`, `\r\n` or `\r` behind the last |
//! | comments | from `#` (or the sign given) to the end of the line; blank lines count for nothing |
//! | cell | a number; complex numbers in brackets, `(1+2j)`; there are no quotes |
//! | header | none; `--skip-header N` passes over lines, `--header yes` takes the first row as names |
//!
//! gzip and zstd files are read and written (`.txt.gz`, `.txt.zst`).
//!
//! # Types
//! As in numpy the whole is one array: where one column has fractions all columns are float64,
//! where one is complex all are complex128. But a file of integers alone stays integers (of 64
//! bits, column by column int64 or uint64), and integers that a double cannot hold are never
//! rounded: then the columns keep their own types. Leading zeros are numbers. Text is an error with
//! its line, as in numpy, unless `--header yes|no` says that there may be some.
//!
//! # Nulls
//! With a delimiter an empty cell is null, and so are `NA`, `NULL` and their kin, or the words of
//! `--null-values`. `nan` is a number.
//!
//! # Writing
//! One blank between cells, floats in the shortest text that reads back as the same value of their
//! own width, no header unless asked for; booleans as 0 and 1, which loadtxt reads. Text and nulls
//! are not written: CSV holds them.

use crate::error::{Error, Result};
use crate::format::{
    Auto, Capabilities, Format, Head, Prepared, Quote, ReadOptions, Sniff, Source, Spec, Streams,
    WriteOptions,
};
use crate::formats::text::delimited::dialect::Dialect;
use crate::formats::text::delimited::number::Reader;
use crate::formats::text::delimited::sink::{
    self, Style, TEXT_TABLES, check_decimal, check_delimiter,
};
use crate::formats::text::delimited::source::{self, Flavor};
use crate::model::{Logical, Plan};
use crate::storage::Location;

/// The format.
pub struct Txt;

fn holds_logical(logical: &Logical) -> bool {
    logical.is_plain() || logical.is_time() || logical.decimals().is_some()
}

static SPEC: Spec = Spec {
    name: "txt",
    extensions: &["txt", "txt.gz", "txt.zst"],
    about: "numbers in rows as numpy.loadtxt and savetxt have them, also .gz and .zst",
    streams: Streams { input: true, output: true },
    copies_remote: |options| !options.names_only,
    writes: Some(Capabilities { logical: holds_logical, ..TEXT_TABLES }),
    ..Spec::DEFAULT
};

impl Format for Txt {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let name = head.location.file_name().to_ascii_lowercase();
        let packed = matches!(head.bytes, [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD, ..]);
        let named = name.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".txt");
        let utf16 = matches!(head.bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
        let text = if packed { named } else { utf16 || !head.bytes.contains(&0) };
        Ok(if text { Sniff::Maybe } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let text = &options.text;
        let decimal = text.decimal.unwrap_or(b'.');
        check_decimal(decimal)?;
        if let Some(delimiter) = text.delimiter {
            check_delimiter(delimiter, decimal)?;
        }
        let dialect = Dialect {
            delimiter: text.delimiter,
            quote: None,
            comment: Some(text.comment.unwrap_or(b'#')),
            inline: true,
            blank_rows: false,
            trim: text.trim,
            zeros: true,
            numbers_only: text.header == Auto::Auto,
            nulls: None,
            null_numbers: false,
            reader: Reader::new(decimal),
        }
        .with_nulls(text.null_values.as_ref());
        if matches!(text.quote, Quote::Byte(_)) {
            return Err(Error::usage("TXT has no quotes").hint("--from csv reads quoted cells"));
        }
        let flavor = Flavor {
            name: "txt",
            dialect,
            check_delimiter: false,
            blank_rows: false,
            header: false,
            one_type: true,
        };
        source::open(at, options, flavor)
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        sink::prepare(at, plan, options, style(options))
    }
}

fn style(options: &WriteOptions) -> Style {
    Style {
        delimiter: options.text.delimiter.unwrap_or(b' '),
        quote: None,
        nan: "nan",
        nat: true,
        booleans: ["0", "1"],
        header: false,
    }
}
