//! Maps as what other readers of the same bytes need to know of them.

use std::sync::Arc;

use super::element::{Convert, Fill, Padding};
use super::pipeline::Codec;
use super::{ArrayMap, Grid, PieceLocation};
use crate::codec::checksum::Checksum;
use crate::codec::compress::Compressor;
use crate::codec::decompress::{Compression, Wrapper};
use crate::error::{Error, Result};
use crate::format::{LocateChunk, StoredArray, StoredCodec, StoredItem};
use crate::model::Dtype;
use crate::storage::Origin;

/// Arrays that are stored as they are, in one piece, are cut into chunks of about this size.
const CHUNK_BYTES: u64 = 64 << 20;

impl ArrayMap {
    /// The array as its bytes lie in their files; `dtype` is that of its values.
    ///
    /// # Errors
    /// Refused: what keeps others from reading the bytes where they are.
    pub fn stored(&self, dtype: Dtype) -> Result<StoredArray> {
        let item = self.stored_item(dtype)?;
        let skipped = self.pieces.skipped_of_all()?.ok_or_else(differently)?;
        let mut codecs = Vec::new();
        let mut is_column_major = false;
        for (i, codec) in self.codecs.codecs().iter().enumerate() {
            match codec {
                _ if i < 32 && skipped >> i & 1 == 1 => {}
                // The first of the codecs, for it is the order of the elements.
                Codec::Transpose { order, .. }
                    if codecs.is_empty() && order.iter().rev().copied().eq(0..order.len()) =>
                {
                    is_column_major = true;
                }
                codec => codecs.push(stored_codec(codec)?),
            }
        }
        let (chunk_shape, cut_rows) = match &self.grid {
            Grid::Chunks(shape) => (shape.clone(), None),
            Grid::Whole => self.whole_chunk(codecs.is_empty() && !is_column_major),
            Grid::Strided(strides) => {
                let mut due = self.element.bytes as u64;
                for (&stride, &n) in strides.iter().zip(&self.shape) {
                    if stride != due && n > 1 {
                        return Err(Error::refused("its elements are in an order of their own"));
                    }
                    due = due.saturating_mul(n);
                }
                is_column_major = true;
                (self.shape.clone(), None)
            }
            Grid::Rows(ends) => {
                let height = ends.first().copied().unwrap_or(0);
                let same = ends.iter().zip(1..).all(|(&end, k)| end == height.saturating_mul(k));
                if !same {
                    return Err(Error::refused("its pieces have different numbers of rows"));
                }
                let mut shape = self.shape.clone();
                shape.iter_mut().take(1).for_each(|n| *n = height);
                (shape, None)
            }
        };
        if !self.shape.contains(&0) {
            self.check_first(codecs.contains(&StoredCodec::Blosc))?;
        }
        if chunk_shape.contains(&0) && !self.shape.contains(&0) {
            return Err(Error::refused("its pieces have no elements"));
        }
        let chunk_shape = chunk_shape.into_iter().map(|n| n.max(1)).collect();
        let chunks = Arc::new(Chunks { map: self.clone(), cut_rows, skipped });
        let (shape, fill) = (self.shape.clone(), self.fill.clone());
        Ok(StoredArray { shape, chunk_shape, is_column_major, item, codecs, fill, chunks })
    }

    /// The chunk of an array in one piece, and its rows where it is a part of the piece.
    fn whole_chunk(&self, is_plain: bool) -> (Vec<u64>, Option<u64>) {
        let (rows, row_bytes) = (self.rows(), self.row_bytes());
        let most = CHUNK_BYTES.checked_div(row_bytes).unwrap_or(rows).max(1);
        // Every chunk must be whole, so its rows divide those of the array.
        let found = (1..=most.min(rows)).rev().take(1 << 16).find(|n| rows.is_multiple_of(*n));
        match found {
            Some(n) if is_plain && n < rows && n.saturating_mul(row_bytes) >= CHUNK_BYTES / 64 => {
                let mut shape = self.shape.clone();
                shape.iter_mut().take(1).for_each(|first| *first = n);
                (shape, Some(n))
            }
            _ => (self.shape.clone(), None),
        }
    }

    /// Looks at the first piece: it must be in a file that others can read, and what C-Blosc 2 wrote
    /// may need C-Blosc 2.
    fn check_first(&self, is_blosc: bool) -> Result<()> {
        let first = vec![0; self.shape.len()];
        let Some(piece) = self.pieces.locate(&first)? else { return Ok(()) };
        if piece.slice.blob.origin().is_none() {
            return Err(in_no_file());
        }
        if !is_blosc {
            return Ok(());
        }
        let version = piece.slice.blob.read_vec(piece.slice.start, 1)?;
        match version.first() {
            Some(1 | 2) => Ok(()),
            _ => {
                Err(Error::refused("it is compressed by Blosc 2, which other readers do not know"))
            }
        }
    }

    fn stored_item(&self, dtype: Dtype) -> Result<StoredItem> {
        if self.element.field.is_some() {
            return Err(Error::refused("it is a field of records"));
        }
        let bytes = self.element.bytes;
        let number = |big_endian| match u64::try_from(bytes) == Ok(dtype.item_bytes()) {
            true => Ok(StoredItem::Number { big_endian }),
            false => Err(Error::refused("its values are stored in another type")),
        };
        match &self.element.convert {
            Convert::Nothing => number(false),
            Convert::Swap(unit) => {
                let whole = if dtype.is_complex() { bytes / 2 } else { bytes };
                match *unit == whole {
                    true => number(true),
                    false => Err(Error::refused("its bytes are in an order of their own")),
                }
            }
            Convert::Padded(Padding::Utf32 { big }) if bytes > 0 => {
                Ok(StoredItem::Utf32 { width: bytes / 4, big_endian: *big })
            }
            Convert::Padded(Padding::Bytes(Fill::Zeros)) if bytes > 0 => {
                Ok(StoredItem::Bytes { width: bytes })
            }
            Convert::Padded(_) | Convert::Items { .. } => {
                Err(Error::refused("it holds text that is stored in a way of its own"))
            }
            Convert::With(_) => Err(Error::refused("its values are stored in another type")),
        }
    }
}

fn differently() -> Error {
    Error::refused("its chunks are not all stored in the same way: some are not compressed")
}

fn in_no_file() -> Error {
    Error::refused("its bytes lie in no file as they are")
}

fn stored_codec(codec: &Codec) -> Result<StoredCodec> {
    let compression = match codec {
        Codec::Compression(compression) => compression.clone(),
        Codec::Compressor(compressor) => Compressor::compression(*compressor),
        Codec::Shuffle(size) => return Ok(StoredCodec::Shuffle(*size)),
        Codec::Checksum { sum: Checksum::Fletcher32, at_start: false } => {
            return Ok(StoredCodec::Fletcher32);
        }
        Codec::Checksum { sum: Checksum::Crc32, at_start: true } => return Ok(StoredCodec::Crc32),
        Codec::Checksum { sum: Checksum::Adler32, at_start: true } => {
            return Ok(StoredCodec::Adler32);
        }
        _ => return Err(Error::refused("a filter that other readers do not have was used")),
    };
    match compression {
        Compression::Deflate(Wrapper::Zlib) => Ok(StoredCodec::Zlib),
        Compression::Deflate(Wrapper::Gzip) => Ok(StoredCodec::Gzip),
        Compression::Zstd => Ok(StoredCodec::Zstd),
        Compression::Lz4Sized => Ok(StoredCodec::Lz4),
        Compression::Bzip2 => Ok(StoredCodec::Bzip2),
        Compression::Blosc => Ok(StoredCodec::Blosc),
        _ => Err(Error::refused("it is compressed in a way that other readers do not know")),
    }
}

/// The pieces of a map, or parts of its only one.
struct Chunks {
    map: ArrayMap,
    /// Rows of a part.
    cut_rows: Option<u64>,
    /// The codecs that were left out of all pieces.
    skipped: u32,
}

impl LocateChunk for Chunks {
    fn locate(&self, at: &[u64]) -> Result<Option<Origin>> {
        let whole = vec![0; at.len()];
        let place = if self.cut_rows.is_some() { &whole } else { at };
        let found = self.map.pieces.locate(place).map_err(|e| self.map.pieces.about(e, place))?;
        let Some(PieceLocation { slice, skipped }) = found else { return Ok(None) };
        if skipped != self.skipped {
            return Err(differently());
        }
        let Some(blob) = slice.blob.origin() else {
            return Err(in_no_file());
        };
        let mut origin = Origin { offset: blob.offset + slice.start, len: slice.len, ..blob };
        if let (Some(rows), Some(k)) = (self.cut_rows, at.first()) {
            let bytes = rows.saturating_mul(self.map.row_bytes());
            origin.offset += k.saturating_mul(bytes);
            origin.len = bytes;
        }
        Ok(Some(origin))
    }
}
