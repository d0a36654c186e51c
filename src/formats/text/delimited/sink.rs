//! Blocks of rows as text: encoded (and compressed) on all threads, appended in turn.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, RwLock};

use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, Auto, Block, BlockRows, EncodeBlocks, InOrder, Prepared, Summary, WriteOptions,
};
use crate::model::{
    ArrayMeta, Categories, CategoryKind, Chunk, Decimals, Dtype, Logical, Plan, Shared, Values,
    typed,
};
use crate::storage::{Location, Output};

use super::print::{Numbers, Printf, integer, time};

/// What sets the formats apart.
pub struct Style {
    /// Between cells.
    pub delimiter: u8,
    /// The quote around cells that need it; `None`: the format has no quotes.
    pub quote: Option<u8>,
    /// How a NaN is spelled.
    pub nan: &'static str,
    /// How false and true are spelled.
    pub booleans: [&'static str; 2],
    /// Whether a header is written where columns have names.
    pub header: bool,
}

/// What happens to encoded blocks.
#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip(u32),
    Zstd(i32),
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
pub fn prepare<'a>(
    at: &'a Location,
    plan: &Plan,
    options: &'a WriteOptions,
    style: Style,
) -> Result<Prepared<'a>> {
    encoder(at, plan, options, &style)?;
    Ok(Box::new(move |plan| {
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
    let packing = packing(at, options)?;
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
        numbers: Numbers { nan: style.nan, decimal, format },
        booleans: style.booleans,
        header,
        packing,
        categories: plan.arrays.iter().map(|_| RwLock::new(Arc::new(Vec::new()))).collect(),
    })
}

fn packing(at: &Location, options: &WriteOptions) -> Result<Packing> {
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
        ("gzip", level) => Packing::Gzip(level as u32),
        ("zstd", level) => Packing::Zstd(level),
        _ => Packing::Plain,
    })
}

/// The header line, or nothing.
fn header(plan: &Plan, options: &WriteOptions, style: &Style) -> Result<Vec<u8>> {
    let text = &options.text;
    let spelled = |meta: &ArrayMeta| {
        let column = plan.tables.iter().flat_map(|t| &t.columns).find(|c| c.array == meta.name);
        column.map_or_else(|| meta.name.clone(), |c| c.header.clone())
    };
    let mut names: Vec<String> = if plan.tables.is_empty() {
        plan.arrays.iter().map(|m| m.name.clone()).collect()
    } else if plan.arrays.len() < 1000 {
        plan.arrays.iter().map(spelled).collect()
    } else {
        let columns: std::collections::HashMap<&str, &str> = plan
            .tables
            .iter()
            .flat_map(|t| &t.columns)
            .map(|c| (c.array.as_str(), c.header.as_str()))
            .collect();
        plan.arrays
            .iter()
            .map(|m| columns.get(m.name.as_str()).map_or_else(|| m.name.clone(), |h| h.to_string()))
            .collect()
    };
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

/// Appends text, quoted where it must be (or where `force` says so).
#[inline]
fn quoted(
    text: &[u8],
    delimiter: u8,
    quote: Option<u8>,
    comment: Option<u8>,
    force: bool,
    out: &mut Vec<u8>,
) {
    let Some(quote) = quote else { return out.extend_from_slice(text) };
    let special = |b: &u8| *b == delimiter || *b == quote || *b == b'\n' || *b == b'\r';
    if !force
        && !text.iter().any(special)
        && (comment.is_none() || text.first().copied() != comment)
    {
        return out.extend_from_slice(text);
    }
    out.push(quote);
    let mut rest = text;
    while let Some(at) = memchr::memchr(quote, rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(quote);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(quote);
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

struct Encoder {
    metas: Shared<Vec<ArrayMeta>>,
    /// About how many bytes a row takes.
    row_bytes: u64,
    delimiter: u8,
    quote: Option<u8>,
    comment: Option<u8>,
    null: Option<Vec<u8>>,
    numbers: Numbers,
    booleans: [&'static str; 2],
    header: Vec<u8>,
    packing: Packing,
    /// Per array its categories as last seen.
    categories: Vec<RwLock<Arc<Vec<Vec<u8>>>>>,
}

/// A column's cells in this block.
enum Cells<'a> {
    Bool(Cow<'a, [u8]>),
    U8(Cow<'a, [u8]>),
    U16(Cow<'a, [u16]>),
    U32(Cow<'a, [u32]>),
    U64(Cow<'a, [u64]>),
    I8(Cow<'a, [i8]>),
    I16(Cow<'a, [i16]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
    F16(Cow<'a, [half::f16]>),
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
    C64(Cow<'a, [[f32; 2]]>),
    C128(Cow<'a, [[f64; 2]]>),
    Text(Vec<(&'a [u64], &'a [u8])>, Vec<u32>),
    Dictionary(Vec<u64>, Arc<Vec<Vec<u8>>>),
    Numbers(Vec<u64>, Arc<Vec<Vec<u8>>>, Dtype),
    Time(Vec<i64>, &'a Logical),
    Decimal(Cow<'a, [u64]>, Decimals),
}

/// A column ready to be written row by row.
struct Column<'a> {
    cells: Cells<'a>,
    valid: Option<Vec<u8>>,
}

/// All rows of several chunks in one slice.
fn joined<T: bytemuck::Pod>(chunks: &[Chunk]) -> Cow<'_, [T]> {
    fn bytes(chunk: &Chunk) -> &[u8] {
        match &chunk.values {
            Values::Fixed(b) => b,
            _ => &[],
        }
    }
    match chunks {
        [one] => typed(bytes(one)),
        many => Cow::Owned(many.iter().flat_map(|c| typed::<T>(bytes(c)).into_owned()).collect()),
    }
}

/// Integers of any width, as their two's complement.
fn codes(meta: &ArrayMeta, chunks: &[Chunk]) -> Vec<u64> {
    match meta.dtype {
        Dtype::U8 | Dtype::Bool => joined::<u8>(chunks).iter().map(|&v| u64::from(v)).collect(),
        Dtype::U16 => joined::<u16>(chunks).iter().map(|&v| u64::from(v)).collect(),
        Dtype::U32 => joined::<u32>(chunks).iter().map(|&v| u64::from(v)).collect(),
        Dtype::I8 => joined::<i8>(chunks).iter().map(|&v| v as u64).collect(),
        Dtype::I16 => joined::<i16>(chunks).iter().map(|&v| v as u64).collect(),
        Dtype::I32 => joined::<i32>(chunks).iter().map(|&v| v as u64).collect(),
        _ => joined::<u64>(chunks).into_owned(),
    }
}

impl Encoder {
    fn column<'a>(&'a self, array: usize, chunks: &'a [Chunk], rows: u64) -> Result<Column<'a>> {
        let meta = &self.metas[array];
        let cells = match &meta.logical {
            Logical::Text => {
                let mut parts = Vec::new();
                let mut part_of =
                    Vec::with_capacity(if chunks.len() > 1 { rows as usize } else { 0 });
                for (i, chunk) in chunks.iter().enumerate() {
                    if let Values::Var { offsets, values } = &chunk.values {
                        parts.push((offsets.as_slice(), values.as_slice()));
                        if chunks.len() > 1 {
                            part_of.extend(std::iter::repeat_n(i as u32, chunk.rows as usize));
                        }
                    }
                }
                Cells::Text(parts, part_of)
            }
            Logical::Dictionary { categories, .. } => {
                self.dictionary(array, categories, codes(meta, chunks), chunks)?
            }
            Logical::Decimal { precision, scale, .. } => {
                Cells::Decimal(joined(chunks), Decimals::of(*precision, *scale))
            }
            logical if logical.is_time() => {
                Cells::Time(codes(meta, chunks).into_iter().map(|v| v as i64).collect(), logical)
            }
            _ => match meta.dtype {
                Dtype::Bool => Cells::Bool(joined(chunks)),
                Dtype::U8 => Cells::U8(joined(chunks)),
                Dtype::U16 => Cells::U16(joined(chunks)),
                Dtype::U32 => Cells::U32(joined(chunks)),
                Dtype::U64 => Cells::U64(joined(chunks)),
                Dtype::I8 => Cells::I8(joined(chunks)),
                Dtype::I16 => Cells::I16(joined(chunks)),
                Dtype::I32 => Cells::I32(joined(chunks)),
                Dtype::I64 => Cells::I64(joined(chunks)),
                Dtype::F16 => Cells::F16(joined(chunks)),
                Dtype::F32 => Cells::F32(joined(chunks)),
                Dtype::F64 => Cells::F64(joined(chunks)),
                Dtype::C64 => Cells::C64(joined(chunks)),
                Dtype::C128 => Cells::C128(joined(chunks)),
                other => {
                    return Err(Error::refused(format!("{other} cannot be written as text"))
                        .array(&meta.name));
                }
            },
        };
        let valid = chunks.iter().any(|c| c.valid.is_some()).then(|| {
            let mut mask = Vec::with_capacity(rows as usize);
            for chunk in chunks {
                match &chunk.valid {
                    Some(v) => mask.extend_from_slice(v),
                    None => mask.resize(mask.len() + chunk.rows as usize, 1),
                }
            }
            mask
        });
        Ok(Column { cells, valid })
    }

    fn dictionary<'a>(
        &self,
        array: usize,
        categories: &Categories,
        codes: Vec<u64>,
        chunks: &[Chunk],
    ) -> Result<Cells<'a>> {
        let mut row = 0;
        let mut needed = 0;
        for chunk in chunks {
            for i in 0..chunk.rows as usize {
                // A negative code is a null, whatever the mask says.
                if chunk.is_valid(i) && codes[row] <= i64::MAX as u64 {
                    needed = needed.max(codes[row] + 1);
                }
                row += 1;
            }
        }
        let slot = &self.categories[array];
        let mut known = slot.read().map(|k| k.clone()).unwrap_or_default();
        if (known.len() as u64) < needed {
            known = Arc::new(categories.snapshot());
            if (known.len() as u64) < needed {
                let message =
                    format!("a code is {}, there are {} categories", needed - 1, known.len());
                return Err(Error::corrupt(message).array(&self.metas[array].name));
            }
            if let Ok(mut slot) = slot.write() {
                slot.clone_from(&known);
            }
        }
        Ok(match categories.kind() {
            CategoryKind::Fixed(dtype, _) => Cells::Numbers(codes, known, *dtype),
            _ => Cells::Dictionary(codes, known),
        })
    }

    /// In a table of one column a null number is written as `""`, since other readers pass over
    /// blank lines. Among texts that is an empty text, and the null a blank line.
    fn null(&self, alone: bool, is_text: bool, out: &mut Vec<u8>) {
        match &self.null {
            Some(word) => out.extend_from_slice(word),
            None if alone && !is_text => out.extend_from_slice(b"\"\""),
            None => {}
        }
    }

    fn text(&self, text: &[u8], first: bool, out: &mut Vec<u8>) {
        let force = text.is_empty() || self.null.as_deref() == Some(text);
        quoted(text, self.delimiter, self.quote, self.comment.filter(|_| first), force, out);
    }
}

/// One number of a dictionary of numbers.
fn number(bytes: &[u8], dtype: Dtype, numbers: &Numbers, out: &mut Vec<u8>) {
    fn first<T: bytemuck::Pod>(bytes: &[u8]) -> Option<T> {
        bytemuck::try_pod_read_unaligned(bytes).ok()
    }
    match dtype {
        Dtype::Bool => integer(u8::from(bytes.first() != Some(&0)), out),
        Dtype::U8 => integer(first::<u8>(bytes).unwrap_or_default(), out),
        Dtype::U16 => integer(first::<u16>(bytes).unwrap_or_default(), out),
        Dtype::U32 => integer(first::<u32>(bytes).unwrap_or_default(), out),
        Dtype::U64 => integer(first::<u64>(bytes).unwrap_or_default(), out),
        Dtype::I8 => integer(first::<i8>(bytes).unwrap_or_default(), out),
        Dtype::I16 => integer(first::<i16>(bytes).unwrap_or_default(), out),
        Dtype::I32 => integer(first::<i32>(bytes).unwrap_or_default(), out),
        Dtype::I64 => integer(first::<i64>(bytes).unwrap_or_default(), out),
        Dtype::F16 => numbers.real(first::<half::f16>(bytes).unwrap_or_default(), out),
        Dtype::F32 => numbers.real(first::<f32>(bytes).unwrap_or_default(), out),
        Dtype::F64 => numbers.real(first::<f64>(bytes).unwrap_or_default(), out),
        _ => {}
    }
}

impl EncodeBlocks for Encoder {
    type Encoded = Vec<u8>;
    /// Blocks of about a megabyte: text is larger than its values, and many blocks are under way at
    /// once.
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        let rows = ((1 << 20) / self.row_bytes).max(1);
        (row / rows + 1).saturating_mul(rows)
    }
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        Some(2 << 20)
    }
    fn encode(&self, block: Block) -> Result<Vec<u8>> {
        let mut columns = Vec::with_capacity(block.columns.len());
        for (array, chunks) in &block.columns {
            columns.push(self.column(*array, chunks, block.rows)?);
        }
        let mut out = Vec::with_capacity(
            (block.rows as usize).saturating_mul(8 * columns.len()).min(32 << 20)
                + self.header.len(),
        );
        if block.first_row == 0 {
            out.extend_from_slice(&self.header);
        }
        let alone = columns.len() == 1;
        let n = &self.numbers;
        for row in 0..block.rows as usize {
            for (c, column) in columns.iter().enumerate() {
                if c > 0 {
                    out.push(self.delimiter);
                }
                if column.valid.as_ref().is_some_and(|v| v[row] == 0) {
                    let is_text = matches!(
                        column.cells,
                        Cells::Text(..) | Cells::Dictionary(..) | Cells::Time(..)
                    );
                    self.null(alone, is_text, &mut out);
                    continue;
                }
                match &column.cells {
                    Cells::F64(v) => n.real(v[row], &mut out),
                    Cells::F32(v) => n.real(v[row], &mut out),
                    Cells::I64(v) => integer(v[row], &mut out),
                    Cells::I32(v) => integer(v[row], &mut out),
                    Cells::U8(v) => integer(v[row], &mut out),
                    Cells::U16(v) => integer(v[row], &mut out),
                    Cells::U32(v) => integer(v[row], &mut out),
                    Cells::U64(v) => integer(v[row], &mut out),
                    Cells::I8(v) => integer(v[row], &mut out),
                    Cells::I16(v) => integer(v[row], &mut out),
                    Cells::F16(v) => n.real(v[row], &mut out),
                    Cells::C64(v) => n.complex(v[row][0], v[row][1], &mut out),
                    Cells::C128(v) => n.complex(v[row][0], v[row][1], &mut out),
                    Cells::Bool(v) => {
                        out.extend_from_slice(self.booleans[usize::from(v[row] != 0)].as_bytes())
                    }
                    Cells::Text(parts, part_of) => {
                        let (part, at) = match part_of.get(row) {
                            None => (0, row),
                            Some(&p) => (p as usize, row - part_of.partition_point(|&q| q < p)),
                        };
                        let (offsets, values) = parts[part];
                        self.text(
                            &values[offsets[at] as usize..offsets[at + 1] as usize],
                            c == 0,
                            &mut out,
                        );
                    }
                    Cells::Dictionary(codes, known) => match known.get(codes[row] as usize) {
                        Some(text) => self.text(text, c == 0, &mut out),
                        None => self.null(alone, true, &mut out),
                    },
                    Cells::Numbers(codes, known, dtype) => match known.get(codes[row] as usize) {
                        Some(bytes) => number(bytes, *dtype, n, &mut out),
                        None => self.null(alone, false, &mut out),
                    },
                    Cells::Decimal(words, decimals) => {
                        let item = &words[row * decimals.words..(row + 1) * decimals.words];
                        decimals.write_words(item, &mut out);
                    }
                    Cells::Time(counts, logical) => {
                        let from = out.len();
                        time(counts[row], logical, &mut out);
                        if out.len() == from {
                            self.null(alone, true, &mut out);
                        }
                    }
                }
            }
            if !columns.is_empty() {
                out.push(b'\n');
            }
        }
        Ok(match self.packing {
            Packing::Plain => out,
            Packing::Gzip(level) => {
                let mut packer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                packer.write_all(&out)?;
                packer.finish()?
            }
            Packing::Zstd(level) => zstd::bulk::compress(&out, level)?,
        })
    }
}
