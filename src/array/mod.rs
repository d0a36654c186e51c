//! The array engine: arrays whose elements lie in located, encoded pieces.
//!
//! npy, stored members of npz, safetensors, PyTorch checkpoints, stores, HDF5 and Zarr differ in
//! their headers only. A format parses its own and answers with an [`ArrayMap`] an array;
//! [`reader`] reads the rows of any of them.
//!
//! | module | what it does |
//! |---|---|
//! | [`reader`] | rows: finds the pieces, decodes them, puts their elements into C order, within the memory limit |
//! | [`pipeline`] | the codecs between stored and decoded pieces |
//! | [`element`] | what an element is: its bytes, the field that is taken, how its values become the model's |
//! | [`strided`], [`rechunk`] | elements in another order: gathered in tiles, or copied once to a temporary file |
//! | [`spool`] | pieces that do not fit into memory: decoded once, as streams, to temporary files |
//! | [`block_copy`] | boxes between blocks in C order |
//! | [`items`] | pieces of items of any length |
//! | [`boxes`] | arrays put together from boxes, each a mapped array of its own |
//! | [`recent`], `kept` | what was used lately; decoded pieces, in memory or on the disk |
//! | `stored` | maps as other readers of the same bytes need them |
//! | [`source`], [`stream`] | a whole input whose arrays are maps: at random, or from a pipe |

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::BlobSlice;

pub mod block_copy;
pub mod boxes;
pub mod element;
mod fetch;
pub mod items;
mod kept;
pub mod pipeline;
pub mod raw;
pub mod reader;
pub mod recent;
pub mod rechunk;
pub mod source;
mod spool;
mod stored;
pub mod stream;
pub mod strided;
pub mod text_codes;
mod wide;

pub use element::Element;
pub use pipeline::CodecPipeline;

/// What one piece may take beyond the memory limit.
pub(crate) const SLACK_BYTES: u64 = 16 << 20;

/// Where the elements of one array are, and what they are.
#[derive(Clone)]
pub struct ArrayMap {
    /// `[rows, d1, …]`; empty for rank 0.
    pub shape: Vec<u64>,
    /// How it is cut into pieces.
    pub grid: Grid,
    /// Where the pieces are.
    pub pieces: Arc<dyn Pieces>,
    /// From a stored piece to its elements.
    pub codecs: Arc<CodecPipeline>,
    /// What the elements are.
    pub element: Element,
    /// The stored bytes of an element of a missing piece; zeros where it is empty.
    pub fill: Vec<u8>,
}

/// How an array is cut into pieces.
#[derive(Clone, Debug, PartialEq)]
pub enum Grid {
    /// One piece, in C order.
    Whole,
    /// One piece: the element of an index is `Σ index[k] · strides[k]` bytes behind its first byte.
    Strided(Vec<u64>),
    /// Pieces of whole rows, in C order: the row behind each of them.
    Rows(Vec<u64>),
    /// Pieces of this shape, in C order, filled up where they reach past the end.
    Chunks(Vec<u64>),
}

/// The pieces of an array, found by their coordinates in the grid (one for each dimension).
pub trait Pieces: Send + Sync {
    /// Where a piece is; `None` where it is missing.
    ///
    /// # Errors
    /// Reading errors; an index that is corrupt.
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>>;

    /// All stored bytes of a piece, at most `most`, and the codecs that were left out
    /// ([`PieceLocation::skipped`]).
    ///
    /// # Errors
    /// As [`Pieces::locate`]; corrupt where there are more.
    fn read(&self, at: &[u64], most: u64) -> Result<Option<(Vec<u8>, u32)>> {
        let Some(piece) = self.locate(at)? else { return Ok(None) };
        piece.check(most)?;
        Ok(Some((piece.slice.read_all()?, piece.skipped)))
    }

    /// Whether many pieces share a blob, so that they are best fetched together.
    fn is_batched(&self) -> bool {
        false
    }

    /// Whether some bytes of a piece are read without the others, where it is stored as it is.
    /// Pieces that are fetched together are not, nor those that can only be checked whole.
    fn is_divisible(&self) -> bool {
        !self.is_batched()
    }

    /// The codecs that were left out of every piece ([`PieceLocation::skipped`]); `None` where
    /// pieces differ in them.
    ///
    /// # Errors
    /// As [`Pieces::locate`].
    fn skipped_of_all(&self) -> Result<Option<u32>> {
        Ok(Some(0))
    }

    /// Says which piece an error is about.
    fn about(&self, error: Error, _at: &[u64]) -> Error {
        error
    }
}

/// Where a piece is stored.
#[derive(Clone)]
pub struct PieceLocation {
    /// Its bytes.
    pub slice: BlobSlice,
    /// Bit `i`: the `i`th codec of the pipeline was left out for this piece.
    pub skipped: u32,
}

impl PieceLocation {
    /// Whether it has a length that can be.
    fn check(&self, most: u64) -> Result<()> {
        match self.slice.len {
            len if len > most => Err(Error::corrupt(format!(
                "a piece has {len} stored bytes, expected at most {most}"
            ))),
            _ => Ok(()),
        }
    }
}

/// One piece.
impl Pieces for BlobSlice {
    fn locate(&self, _at: &[u64]) -> Result<Option<PieceLocation>> {
        Ok(Some(PieceLocation { slice: self.clone(), skipped: 0 }))
    }
}

impl ArrayMap {
    /// An array that lies in `slice` as it is, in C order.
    pub fn raw(shape: &[u64], element: Element, slice: BlobSlice) -> ArrayMap {
        ArrayMap {
            shape: shape.to_vec(),
            grid: Grid::Whole,
            pieces: Arc::new(slice),
            codecs: CodecPipeline::none(),
            element,
            fill: Vec::new(),
        }
    }

    /// Rows; 1 for rank 0.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a row; 0 where the array has none, whatever its other dimensions say.
    pub fn row_elements(&self) -> u64 {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().skip(1).product() }
    }

    /// Bytes of a stored row.
    pub fn row_bytes(&self) -> u64 {
        self.row_elements().saturating_mul(self.element.bytes as u64)
    }

    /// Bytes of all stored elements, without those that fill up pieces.
    ///
    /// # Errors
    /// Corrupt where no number holds them.
    pub fn check(&self) -> Result<u64> {
        checked_product(&self.shape)
            .and_then(|n| n.checked_mul(self.element.bytes.max(1) as u64))
            .filter(|&n| n < 1 << 62)
            .map(|n| if self.element.bytes == 0 { 0 } else { n })
            .ok_or_else(|| Error::corrupt(format!("the shape {:?} is too large", self.shape)))
    }

    /// The value of an element of a missing piece, as it is read; `None` where it is zero, or no
    /// single value.
    pub fn fill_value(&self) -> Option<Vec<u8>> {
        if self.fill.iter().all(|b| *b == 0) {
            return None;
        }
        let mut value = match &self.element.field {
            None => self.fill.clone(),
            Some(f) if f.dims.is_empty() => {
                self.fill.get(f.offset..f.offset.checked_add(f.item)?)?.to_vec()
            }
            Some(_) => return None,
        };
        match &self.element.convert {
            element::Convert::Nothing => {}
            element::Convert::Swap(unit) => element::swap_bytes(&mut value, *unit),
            element::Convert::With(convert) => value = convert(value, 0).ok()?,
            element::Convert::Padded(_) | element::Convert::Items { .. } => return None,
        }
        Some(value).filter(|value| value.iter().any(|b| *b != 0))
    }

    /// Whether some rows of a piece can be read without the others.
    fn is_free(&self) -> bool {
        self.codecs.is_empty() && self.pieces.is_divisible() && !self.is_items()
    }

    /// Whether its pieces hold items of any length.
    fn is_items(&self) -> bool {
        matches!(self.element.convert, element::Convert::Items { .. })
    }

    /// Whether rows of the array are runs of the pieces.
    fn is_straight(&self) -> bool {
        self.is_wide() && !matches!(self.grid, Grid::Strided(_))
    }

    /// The shape of a piece. Pieces of whole rows have their own heights.
    fn piece_shape(&self) -> &[u64] {
        match &self.grid {
            Grid::Chunks(shape) => shape,
            _ => &self.shape,
        }
    }

    /// Bytes of a decoded piece of a regular grid.
    fn piece_bytes(&self) -> Option<u64> {
        checked_product(self.piece_shape())?.checked_mul(self.element.bytes as u64)
    }

    /// The coordinates of a piece: `k` along the first dimension, `place` along the others (all 0
    /// where it is empty).
    fn coordinates(&self, k: u64, place: &[u64]) -> Vec<u64> {
        let mut at = vec![0; self.shape.len()];
        if let Some((first, rest)) = at.split_first_mut() {
            *first = k;
            if !place.is_empty() {
                rest.copy_from_slice(place);
            }
        }
        at
    }

    /// The number of a piece in C order.
    fn number(&self, at: &[u64]) -> u64 {
        let (first, rest) = at.split_first().map_or((0, at), |(first, rest)| (*first, rest));
        rest.iter()
            .zip(self.columns())
            .fold(first, |n, (&p, count)| n.wrapping_mul(count).wrapping_add(p))
    }

    /// Pieces in each dimension after the first.
    fn columns(&self) -> Vec<u64> {
        match &self.grid {
            Grid::Chunks(chunk) => {
                self.shape.iter().zip(chunk).skip(1).map(|(d, c)| d.div_ceil(*c)).collect()
            }
            _ => vec![1; self.shape.len().saturating_sub(1)],
        }
    }

    /// Bytes of what is taken of a row.
    fn packed_row_bytes(&self) -> u64 {
        self.row_elements().saturating_mul(self.element.packed_bytes() as u64)
    }

    /// All bytes of a piece of `rows` rows, decoded.
    fn decoded_bytes(&self, rows: u64) -> Result<usize> {
        let elements = match &self.grid {
            Grid::Chunks(chunk) => chunk.iter().product::<u64>(),
            _ => rows.saturating_mul(self.row_elements()),
        };
        elements
            .checked_mul(self.element.bytes as u64)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Error::corrupt(format!("a piece of {elements} elements is too large")))
    }

    /// What is taken of `elements` missing elements.
    fn missing(&self, elements: usize) -> Vec<u8> {
        if self.fill.iter().all(|b| *b == 0) {
            return vec![0; elements * self.element.packed_bytes()];
        }
        self.element.pack(self.fill.clone()).repeat(elements)
    }

    /// Whether pieces are as wide as the array, so that their rows are its rows.
    fn is_wide(&self) -> bool {
        match &self.grid {
            Grid::Chunks(chunk) => self.shape.get(1..) == chunk.get(1..),
            _ => true,
        }
    }

    /// The number of the pieces that hold this row along the first dimension, and the rows that
    /// those have.
    fn slab(&self, row: u64) -> (u64, std::ops::Range<u64>) {
        match &self.grid {
            Grid::Whole | Grid::Strided(_) => (0, 0..self.rows()),
            Grid::Rows(ends) => {
                let k = ends.partition_point(|&end| end <= row);
                let start = k.checked_sub(1).map_or(0, |before| ends[before]);
                (k as u64, start..ends.get(k).copied().unwrap_or(self.rows()))
            }
            Grid::Chunks(chunk) => {
                let height = chunk.first().copied().unwrap_or(1);
                let k = row / height;
                (k, k * height..(k + 1).saturating_mul(height).min(self.rows()))
            }
        }
    }

    /// Refuses pieces that do not fit into the memory limit. Of pieces that are stored as they are,
    /// parts are read.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub fn check_memory(&self, memory_bytes: u64) -> Result<()> {
        if self.is_free() && self.element.bytes > 0 {
            return Ok(());
        }
        match self.piece_bytes() {
            Some(bytes) if bytes <= memory_bytes => Ok(()),
            bytes => {
                let shape = self.piece_shape();
                let needed = bytes.map_or("too many".to_string(), |n| n.to_string());
                let error = Error::refused(format!(
                    "its chunks {shape:?} need {needed} bytes each, the memory limit is {memory_bytes} bytes"
                ));
                Err(if bytes.is_some_and(|n| n < 1 << 36) {
                    error.hint("give a larger --memory-limit")
                } else {
                    error
                })
            }
        }
    }

    /// Whether its pieces are decoded as streams, because they do not fit into memory.
    fn is_spooled(&self, memory_bytes: u64) -> bool {
        let decoded = self.piece_bytes().unwrap_or(u64::MAX);
        !self.is_free()
            && !self.is_items()
            && !matches!(self.grid, Grid::Rows(_))
            && !self.codecs.is_empty()
            && self.codecs.is_streamable()
            && self.codecs.held_bytes(decoded, decoded) > memory_bytes
    }

    /// Refuses to decode pieces of so many bytes where there is not the memory for it; `stored`:
    /// the bytes of one that was read.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    fn check_decode(&self, stored: Option<u64>, decoded: usize, memory_bytes: u64) -> Result<()> {
        let fields = if self.element.field.is_some() {
            decoded / self.element.bytes.max(1) * self.element.packed_bytes()
        } else {
            0
        };
        let held = |stored: u64| {
            self.codecs.held_bytes(stored, decoded as u64).saturating_add(fields as u64)
        };
        if held(stored.unwrap_or(0)) > memory_bytes.saturating_add(SLACK_BYTES)
            && !self.codecs.is_empty()
        {
            // Of a piece that was not read, as much as it usually has at the most.
            let needed = held(stored.unwrap_or(decoded as u64));
            let what = format!("chunks of shape {:?} need", self.piece_shape());
            return Err(more_memory(
                &format!("{what} {needed} bytes of memory while they are decoded"),
                needed,
                memory_bytes,
            ));
        }
        Ok(())
    }

    /// Decodes the stored bytes of a piece.
    ///
    /// # Errors
    /// Corrupt; refused where more is needed meanwhile than there is memory.
    fn decode(
        &self,
        stored: Vec<u8>,
        skipped: u32,
        decoded: usize,
        memory_bytes: u64,
    ) -> Result<Vec<u8>> {
        self.check_decode(Some(stored.len() as u64), decoded, memory_bytes)?;
        self.codecs.decode(stored, skipped, decoded)
    }

    /// Refuses an array whose rows do not fit into memory one by one: a header may claim any, and
    /// pieces that are missing are filled.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    fn check_row(&self, memory_bytes: u64) -> Result<()> {
        let item = if self.is_items() { size_of::<u64>() } else { self.element.packed_bytes() };
        let row = self.row_elements().saturating_mul(item as u64);
        if row <= memory_bytes.saturating_add(SLACK_BYTES) || !matches!(self.grid, Grid::Chunks(_))
        {
            return Ok(());
        }
        Err(more_memory(&format!("a row takes {row} bytes"), row, memory_bytes))
    }
}

/// What is needed is more than the limit.
pub(crate) fn more_memory(what: &str, needed: u64, memory_bytes: u64) -> Error {
    Error::refused(format!("{what}, the memory limit is {memory_bytes} bytes"))
        .hint(format!("raise the limit: --memory-limit {}MiB", needed.div_ceil(1 << 20)))
}

/// Text that is read as a whole, and what is made of it: a header, a side file.
///
/// # Errors
/// Refused where the two are more than the limit.
pub(crate) fn check_text(what: &str, bytes: u64, memory_bytes: u64) -> Result<()> {
    let needed = bytes.saturating_mul(2);
    match needed <= memory_bytes.saturating_add(SLACK_BYTES) {
        true => Ok(()),
        false => {
            let what = format!("{what} has {bytes} bytes, and what is made of it as many again");
            Err(more_memory(&what, needed, memory_bytes))
        }
    }
}
