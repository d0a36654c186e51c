//! Rows into the chunks of a dataset, encoded: on any thread, without the library.

use std::borrow::Cow;
use std::sync::Arc;

use super::layout::{DatasetLayout, StorageLayout};
use crate::array::CodecPipeline;
use crate::array::block_copy::{self, step};
use crate::error::{Error, Result};
use crate::format::{Block, EncodeBlocks};
use crate::model::{Chunk, Values};

/// Text that is handed to the library at a time, at most; less where memory is short.
const TEXT_BYTES: u64 = 4 << 20;
const LEAST_TEXT_BYTES: u64 = 64 << 10;

/// An encoded block.
pub(super) enum EncodedBlock {
    Bytes(Vec<Chunk>),
    Chunks(Vec<EncodedChunk>),
    Text(Vec<Chunk>),
}

/// An encoded chunk.
pub(super) struct EncodedChunk {
    /// Its first element.
    pub(super) origin: Vec<u64>,
    /// A set bit names a filter that was left out because it did not help.
    pub(super) skipped: u32,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Encoder {
    pub(super) layouts: Arc<Vec<DatasetLayout>>,
    /// The memory limit.
    pub(super) memory_bytes: u64,
}

impl EncodeBlocks for Encoder {
    type Encoded = EncodedBlock;
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        match &self.layouts[array].storage {
            StorageLayout::Contiguous | StorageLayout::Text { chunk_rows: None } => u64::MAX,
            StorageLayout::Chunked { chunk, .. } => (row / chunk[0] + 1).saturating_mul(chunk[0]),
            StorageLayout::Text { chunk_rows: Some(rows) } => {
                (row / rows + 1).saturating_mul(*rows)
            }
        }
    }
    /// Chunks of text hold references only: the library takes it in any pieces.
    fn max_block_bytes(&self, array: usize) -> Option<u64> {
        matches!(self.layouts[array].storage, StorageLayout::Text { .. })
            .then(|| (self.memory_bytes / 16).clamp(LEAST_TEXT_BYTES, TEXT_BYTES))
    }
    fn encode(&self, block: Block) -> Result<EncodedBlock> {
        let Some((array, chunks)) = block.columns.into_iter().next() else {
            return Err(Error::internal("a block without an array"));
        };
        let layout = &self.layouts[array];
        Ok(match &layout.storage {
            StorageLayout::Contiguous => EncodedBlock::Bytes(chunks),
            StorageLayout::Text { .. } => {
                EncodedBlock::Text(texts(chunks, layout, block.first_row)?)
            }
            StorageLayout::Chunked { chunk, codecs } => {
                let pieces = chunks.iter().map(|c| match &c.values {
                    Values::Fixed(b) => Ok(&b[..]),
                    _ => Err(Error::internal("text among numbers")),
                });
                let pieces: Vec<&[u8]> = pieces.collect::<Result<_>>()?;
                let rows = match pieces[..] {
                    [one] => Cow::Borrowed(one),
                    _ => Cow::Owned(pieces.concat()),
                };
                EncodedBlock::Chunks(cut(
                    &rows,
                    block.first_row,
                    block.rows,
                    layout,
                    chunk,
                    codecs,
                )?)
            }
        })
    }
}

/// Text as values of any length, none of which has a zero byte.
fn texts(chunks: Vec<Chunk>, layout: &DatasetLayout, first_row: u64) -> Result<Vec<Chunk>> {
    let text = |chunk: Chunk| -> Result<Chunk> {
        let (Some(meta), Values::Fixed(codes)) = (&layout.coded, &chunk.values) else {
            return Ok(chunk);
        };
        let (offsets, values) = meta.coded_items(codes)?;
        Ok(Chunk { values: Values::Var { offsets, values: values.into() }, ..chunk })
    };
    let chunks: Vec<Chunk> = chunks.into_iter().map(text).collect::<Result<_>>()?;
    for chunk in &chunks {
        let Values::Var { offsets, values } = &chunk.values else { continue };
        let items = ((offsets.len() - 1) as u64).checked_div(chunk.rows).unwrap_or(1).max(1);
        let mut texts = offsets.windows(2).map(|w| &values[w[0] as usize..w[1] as usize]);
        if let Some(i) = texts.position(|text| text.contains(&0)) {
            return Err(Error::refused(format!(
                "the text of row {} has a zero byte, which variable-length HDF5 strings cannot hold",
                first_row + i as u64 / items
            ))
            .array(&layout.name)
            .hint("leave the array out with -x, or choose Zarr, .npk or .npz"));
        }
    }
    Ok(chunks)
}

/// Cuts whole rows into chunks. The rows begin at a chunk and end at one, or at the end of the
/// array; what sticks out of it is zeros.
fn cut(
    rows: &[u8],
    first_row: u64,
    count: u64,
    layout: &DatasetLayout,
    chunk: &[u64],
    codecs: &CodecPipeline,
) -> Result<Vec<EncodedChunk>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let item = layout.element_bytes as usize;
    let dims = [&[count], &layout.inner[..]].concat();
    let counts: Vec<u64> = dims.iter().zip(chunk).map(|(d, c)| d.div_ceil(*c)).collect();
    let whole = chunk.iter().product::<u64>() as usize * item;
    let (zero, mut at) = (vec![0; dims.len()], vec![0; dims.len()]);
    let mut done = Vec::new();
    loop {
        let mut origin: Vec<u64> = at.iter().zip(chunk).map(|(a, c)| a * c).collect();
        // A chunk of whole rows is there as it is.
        let is_straight = chunk[1..] == dims[1..] && origin[0] + chunk[0] <= count;
        let bytes = if is_straight {
            let start = origin[0] as usize * (whole / chunk[0] as usize);
            Cow::Borrowed(&rows[start..start + whole])
        } else {
            let mut bytes = vec![0; whole];
            let from = block_copy::Block { origin: &zero, shape: &dims };
            let to = block_copy::Block { origin: &origin, shape: chunk };
            block_copy::copy(rows, from, &mut bytes, to, item);
            Cow::Owned(bytes)
        };
        let (bytes, skipped) = codecs.encode(bytes, true)?;
        origin[0] += first_row;
        done.push(EncodedChunk { origin, skipped, bytes: bytes.into_owned() });
        if !step(&mut at, &counts) {
            return Ok(done);
        }
    }
}
