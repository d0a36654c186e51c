//! Blocks of rows as text, on any thread.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, RwLock};

use super::print::{Numbers, integer};
use crate::error::{Error, Result};
use crate::format::{Block, EncodeBlocks};
use crate::model::{
    ArrayMeta, Categories, CategoryKind, Chunk, Decimals, Dtype, Logical, Shared, Values, iso8601,
    typed,
};

/// What happens to encoded blocks.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    Plain,
    Gzip(u32),
    Zstd(i32),
}

/// Appends text, quoted where it must be (or where `force` says so).
#[inline]
pub(super) fn quoted(
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

/// How the arrays of an output become text.
pub(super) struct Encoder {
    pub(super) metas: Shared<Vec<ArrayMeta>>,
    /// About how many bytes a row takes.
    pub(super) row_bytes: u64,
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) comment: Option<u8>,
    pub(super) null: Option<Vec<u8>>,
    /// Whether times that are not known have a word, `NaT`, for no cell may be empty.
    pub(super) nat: bool,
    pub(super) numbers: Numbers,
    pub(super) booleans: [&'static str; 2],
    pub(super) header: Vec<u8>,
    pub(super) compression: Compression,
    /// Per array its categories as last seen.
    pub(super) categories: Vec<RwLock<Arc<Vec<Vec<u8>>>>>,
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

/// What a cell holds, as far as nulls go.
#[derive(Clone, Copy)]
enum CellKind {
    Number,
    Text,
    Time,
}

impl Cells<'_> {
    fn kind(&self) -> CellKind {
        match self {
            Cells::Text(..) | Cells::Dictionary(..) => CellKind::Text,
            Cells::Time(..) => CellKind::Time,
            _ => CellKind::Number,
        }
    }
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
    /// blank lines. Among texts, which times are in CSV, that is an empty text, and the null a blank
    /// line.
    fn null(&self, alone: bool, kind: CellKind, out: &mut Vec<u8>) {
        match (&self.null, kind) {
            (Some(word), _) => out.extend_from_slice(word),
            (None, CellKind::Number) if alone => out.extend_from_slice(b"\"\""),
            (None, CellKind::Time) if self.nat => out.extend_from_slice(b"NaT"),
            _ => {}
        }
    }

    fn text(&self, text: &[u8], first: bool, out: &mut Vec<u8>) {
        let force = text.is_empty() || self.null.as_deref() == Some(text);
        quoted(text, self.delimiter, self.quote, self.comment.filter(|_| first), force, out);
    }

    /// A block as it is written.
    fn packed(&self, out: Vec<u8>) -> Result<Vec<u8>> {
        Ok(match self.compression {
            Compression::Plain => out,
            Compression::Gzip(level) => {
                let mut packer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                packer.write_all(&out)?;
                packer.finish()?
            }
            Compression::Zstd(level) => zstd::bulk::compress(&out, level)?,
        })
    }

    /// Appends a value. `place`: whether it is the first of its line, and the only one.
    fn cell(
        &self,
        cells: &Cells<'_>,
        row: usize,
        (is_first, is_alone): (bool, bool),
        out: &mut Vec<u8>,
    ) {
        let n = &self.numbers;
        match cells {
            Cells::F64(v) => n.real(v[row], out),
            Cells::F32(v) => n.real(v[row], out),
            Cells::I64(v) => integer(v[row], out),
            Cells::I32(v) => integer(v[row], out),
            Cells::U8(v) => integer(v[row], out),
            Cells::U16(v) => integer(v[row], out),
            Cells::U32(v) => integer(v[row], out),
            Cells::U64(v) => integer(v[row], out),
            Cells::I8(v) => integer(v[row], out),
            Cells::I16(v) => integer(v[row], out),
            Cells::F16(v) => n.real(v[row], out),
            Cells::C64(v) => n.complex(v[row][0], v[row][1], out),
            Cells::C128(v) => n.complex(v[row][0], v[row][1], out),
            Cells::Bool(v) => {
                out.extend_from_slice(self.booleans[usize::from(v[row] != 0)].as_bytes())
            }
            Cells::Text(parts, part_of) => {
                let (part, at) = match part_of.get(row) {
                    None => (0, row),
                    Some(&p) => (p as usize, row - part_of.partition_point(|&q| q < p)),
                };
                let (offsets, values) = parts[part];
                self.text(&values[offsets[at] as usize..offsets[at + 1] as usize], is_first, out);
            }
            Cells::Dictionary(codes, known) => match known.get(codes[row] as usize) {
                Some(text) => self.text(text, is_first, out),
                None => self.null(is_alone, cells.kind(), out),
            },
            Cells::Numbers(codes, known, dtype) => match known.get(codes[row] as usize) {
                Some(bytes) => number(bytes, *dtype, n, out),
                None => self.null(is_alone, cells.kind(), out),
            },
            Cells::Decimal(words, decimals) => {
                let item = &words[row * decimals.words..(row + 1) * decimals.words];
                decimals.write_words(item, out);
            }
            Cells::Time(counts, logical) => {
                let from = out.len();
                iso8601::write(counts[row], logical, out);
                if out.len() == from {
                    self.null(is_alone, cells.kind(), out);
                }
            }
        }
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
        for row in 0..block.rows as usize {
            for (c, column) in columns.iter().enumerate() {
                if c > 0 {
                    out.push(self.delimiter);
                }
                if column.valid.as_ref().is_some_and(|v| v[row] == 0) {
                    self.null(alone, column.cells.kind(), &mut out);
                    continue;
                }
                self.cell(&column.cells, row, (c == 0, alone), &mut out);
            }
            if !columns.is_empty() {
                out.push(b'\n');
            }
        }
        self.packed(out)
    }
}
