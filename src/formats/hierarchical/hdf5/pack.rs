//! Rows into the chunks of a dataset, filtered: on any thread, without the library.

use std::sync::Arc;

use super::filters;
use crate::codec::shuffle::shuffle;
use crate::codec::{blosc, compress, decompress::Wrapper, lzf};
use crate::error::{Error, Result};
use crate::format::{Block, Compression, EncodeBlocks};
use crate::model::{ArrayMeta, Chunk, Values};

/// Text that is handed to the library at a time, at most; less where memory is short.
const TEXT_BYTES: u64 = 4 << 20;
const LEAST_TEXT_BYTES: u64 = 64 << 10;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip(i32),
    Lzf,
    Zstd(i32),
    Blosc,
    Lz4,
}

/// The names for `-c`.
pub(super) const NAMES: &[&str] = &["none", "gzip", "lzf", "zstd", "blosc", "lz4"];

impl Packing {
    /// What was asked for; gzip:4 where nothing was.
    pub(super) fn of(compression: Option<&Compression>) -> Result<Packing> {
        let Some(c) = compression else { return Ok(Packing::Gzip(4)) };
        let level = |range: std::ops::RangeInclusive<i32>, default: i32| match c.level {
            None => Ok(default),
            Some(l) if range.contains(&l) => Ok(l),
            Some(l) => Err(Error::usage(format!("{} has no level {l}", c.name)).hint(format!(
                "use a level from {} to {}",
                range.start(),
                range.end()
            ))),
        };
        Ok(match c.name.as_str() {
            "none" => Packing::None,
            "gzip" => Packing::Gzip(level(0..=9, 4)?),
            "lzf" => Packing::Lzf,
            "zstd" => Packing::Zstd(level(1..=22, 3)?),
            "blosc" => Packing::Blosc,
            _ => Packing::Lz4,
        })
    }
    /// The filter's number and parameters for chunks of `chunk_bytes` bytes.
    pub(super) fn filter(self, element_bytes: u32, chunk_bytes: u64) -> Option<(u32, Vec<u32>)> {
        let bytes = chunk_bytes as u32;
        Some(match self {
            Packing::None => return None,
            Packing::Gzip(level) => (filters::DEFLATE, vec![level as u32]),
            Packing::Lzf => (filters::LZF, vec![4, 0x0105, bytes]),
            Packing::Zstd(level) => (filters::ZSTD, vec![level as u32]),
            Packing::Blosc => (filters::BLOSC, vec![2, 2, element_bytes, bytes, 5, 1, 1]),
            Packing::Lz4 => (filters::LZ4, vec![0]),
        })
    }
    /// Whether the bytes are shuffled by a filter before it (Blosc shuffles itself).
    pub(super) fn shuffles(self, element_bytes: u32) -> bool {
        element_bytes > 1 && !matches!(self, Packing::None | Packing::Blosc)
    }
    /// Packs a chunk; the mask names the filters that were left out because they did not help.
    fn pack(self, chunk: &[u8], element_bytes: u32) -> Result<(u32, Vec<u8>)> {
        let shuffled;
        let mut bit = 1;
        let input = if self.shuffles(element_bytes) {
            bit = 2;
            shuffled = {
                let mut out = vec![0; chunk.len()];
                shuffle(chunk, element_bytes as usize, &mut out);
                out
            };
            &shuffled[..]
        } else {
            chunk
        };
        let packed = match self {
            Packing::None => None,
            Packing::Gzip(level) => Some(compress::deflate(input, Wrapper::Zlib, level)?),
            Packing::Lzf => lzf::compress(input),
            Packing::Zstd(level) => Some(compress::zstd(input, level)?),
            Packing::Blosc => Some(blosc::compress(input, element_bytes as usize, 5)?),
            Packing::Lz4 => Some(compress::lz4_blocks(input)?),
        };
        Ok(match packed {
            Some(packed) if packed.len() < input.len() => (0, packed),
            _ => (if self == Packing::None { 0 } else { bit }, input.to_vec()),
        })
    }
}

/// What an array becomes.
pub(super) struct Shape {
    /// The dimensions after the first.
    pub(super) inner: Vec<u64>,
    pub(super) element_bytes: u32,
    pub(super) form: Form,
    /// Text of several dimensions comes as codes.
    pub(super) coded: Option<ArrayMeta>,
}

/// The three forms of datasets that are written.
pub(super) enum Form {
    /// Bytes in one piece.
    Contiguous,
    /// Chunks of this shape.
    Chunked { chunk: Vec<u64>, packing: Packing },
    /// Text, which the library writes; in chunks of so many rows, if in chunks.
    Text { chunk_rows: Option<u64> },
}

/// An encoded block.
pub(super) enum Packed {
    Bytes(Vec<Chunk>),
    /// Where each begins, the filters left out, the bytes.
    Chunks(Vec<(Vec<u64>, u32, Vec<u8>)>),
    Text(Vec<Chunk>),
}

pub(super) struct Encoder {
    pub(super) shapes: Arc<Vec<Shape>>,
    /// The memory limit.
    pub(super) memory_bytes: u64,
}

impl EncodeBlocks for Encoder {
    type Encoded = Packed;
    fn cut(&self, array: usize, row: u64) -> u64 {
        match &self.shapes[array].form {
            Form::Contiguous | Form::Text { chunk_rows: None } => u64::MAX,
            Form::Chunked { chunk, .. } => (row / chunk[0] + 1).saturating_mul(chunk[0]),
            Form::Text { chunk_rows: Some(rows) } => (row / rows + 1).saturating_mul(*rows),
        }
    }
    /// Chunks of text hold references only: the library takes it in any pieces.
    fn enough(&self, array: usize) -> Option<u64> {
        matches!(self.shapes[array].form, Form::Text { .. })
            .then(|| (self.memory_bytes / 16).clamp(LEAST_TEXT_BYTES, TEXT_BYTES))
    }
    fn encode(&self, block: Block) -> Result<Packed> {
        let Some((array, chunks)) = block.columns.into_iter().next() else {
            return Err(Error::internal("a block without an array"));
        };
        let shape = &self.shapes[array];
        Ok(match &shape.form {
            Form::Contiguous => Packed::Bytes(chunks),
            Form::Text { .. } => {
                let texts = |chunk: Chunk| -> Result<Chunk> {
                    let (Some(meta), Values::Fixed(codes)) = (&shape.coded, &chunk.values) else {
                        return Ok(chunk);
                    };
                    let (offsets, values) = meta.coded_items(codes)?;
                    Ok(Chunk { values: Values::Var { offsets, values: values.into() }, ..chunk })
                };
                let chunks: Vec<Chunk> = chunks.into_iter().map(texts).collect::<Result<_>>()?;
                for chunk in &chunks {
                    let Values::Var { offsets, values } = &chunk.values else { continue };
                    let items =
                        ((offsets.len() - 1) as u64).checked_div(chunk.rows).unwrap_or(1).max(1);
                    for (i, w) in offsets.windows(2).enumerate() {
                        if values[w[0] as usize..w[1] as usize].contains(&0) {
                            return Err(Error::refused(format!(
                                "the text of row {} has a zero byte, which variable-length HDF5 strings cannot hold",
                                block.first_row + i as u64 / items
                            )));
                        }
                    }
                }
                Packed::Text(chunks)
            }
            Form::Chunked { chunk, packing } => {
                let joined;
                let rows = match &chunks[..] {
                    [Chunk { values: Values::Fixed(b), .. }] => &b[..],
                    many => {
                        let pieces = many.iter().filter_map(|c| match &c.values {
                            Values::Fixed(b) => Some(&b[..]),
                            _ => None,
                        });
                        joined = pieces.collect::<Vec<_>>().concat();
                        &joined[..]
                    }
                };
                Packed::Chunks(cut(rows, block.first_row, block.rows, shape, chunk, *packing)?)
            }
        })
    }
}

/// Cuts whole rows into chunks. The rows begin at a chunk and end at one, or at the end of the
/// array.
fn cut(
    rows: &[u8],
    first_row: u64,
    count: u64,
    shape: &Shape,
    chunk: &[u64],
    packing: Packing,
) -> Result<Vec<(Vec<u64>, u32, Vec<u8>)>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let size = shape.element_bytes as usize;
    let mut dims = vec![count];
    dims.extend(&shape.inner);
    let whole = chunk.iter().product::<u64>() as usize * size;
    let mut done = Vec::new();
    let mut origin = vec![0u64; dims.len()];
    let mut buffer = Vec::new();
    loop {
        let mut offset = origin.clone();
        offset[0] += first_row;
        // A chunk of whole rows is there as it is.
        let straight = chunk[1..] == dims[1..] && origin[0] + chunk[0] <= count;
        let bytes = if straight {
            let at = origin[0] as usize * (whole / chunk[0] as usize);
            &rows[at..at + whole]
        } else {
            buffer.clear();
            buffer.resize(whole, 0);
            gather(rows, &mut buffer, &dims, chunk, &origin, size);
            &buffer[..]
        };
        let (mask, packed) = packing.pack(bytes, shape.element_bytes)?;
        done.push((offset, mask, packed));
        let mut d = dims.len();
        loop {
            if d == 0 {
                return Ok(done);
            }
            d -= 1;
            origin[d] += chunk[d];
            if origin[d] < dims[d] {
                break;
            }
            origin[d] = 0;
        }
    }
}

/// Copies the part of the rows that a chunk covers; what sticks out stays zero.
fn gather(
    rows: &[u8],
    chunk_bytes: &mut [u8],
    dims: &[u64],
    chunk: &[u64],
    origin: &[u64],
    size: usize,
) {
    let last = dims.len() - 1;
    let high: Vec<u64> = (0..dims.len()).map(|d| chunk[d].min(dims[d] - origin[d])).collect();
    let run = high[last] as usize * size;
    let mut at = vec![0u64; dims.len()];
    loop {
        let (mut from, mut to) = (0u64, 0u64);
        for d in 0..dims.len() {
            from = from * dims[d] + origin[d] + at[d];
            to = to * chunk[d] + at[d];
        }
        let (from, to) = (from as usize * size, to as usize * size);
        chunk_bytes[to..to + run].copy_from_slice(&rows[from..from + run]);
        let mut d = last;
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            at[d] += 1;
            if at[d] < high[d] {
                break;
            }
            at[d] = 0;
        }
    }
}
