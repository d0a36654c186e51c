//! How arrays lie in their files, for outputs that refer to those bytes instead of copying them.

use std::sync::Arc;

use crate::error::Result;
use crate::storage::Origin;

/// An array whose elements lie in chunks of one shape, each a run of bytes in some file.
#[derive(Clone)]
pub struct StoredArray {
    /// `[rows, d1, …]`; empty for rank 0.
    pub shape: Vec<u64>,
    /// The shape of a chunk; those at the edges are filled up to it.
    pub chunk_shape: Vec<u64>,
    /// Whether the first index of a chunk runs fastest.
    pub is_column_major: bool,
    /// What an element is.
    pub item: StoredItem,
    /// What was done to the elements of a chunk, in the order of encoding.
    pub codecs: Vec<StoredCodec>,
    /// The stored bytes of the elements of a missing chunk; zeros where it is empty.
    pub fill: Vec<u8>,
    /// Where the chunks are.
    pub chunks: Arc<dyn LocateChunk>,
}

/// Finds chunks by their place in the grid.
pub trait LocateChunk: Send + Sync {
    /// `None` where it is missing.
    ///
    /// # Errors
    /// Reading errors; an index that is corrupt; a chunk that is stored in another way than the
    /// others, or in no file.
    fn locate(&self, at: &[u64]) -> Result<Option<Origin>>;
}

/// What a stored element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredItem {
    /// A value of the array's dtype.
    Number {
        /// Whether its highest byte comes first.
        big_endian: bool,
    },
    /// UTF-32, filled up with zeros.
    Utf32 {
        /// Code points.
        width: usize,
        /// Whether their highest bytes come first.
        big_endian: bool,
    },
    /// Bytes, filled up with zeros.
    Bytes {
        /// How many.
        width: usize,
    },
}

/// What was done to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredCodec {
    /// RFC 1950.
    Zlib,
    /// RFC 1952.
    Gzip,
    /// Zstandard.
    Zstd,
    /// One LZ4 block behind its size (u32, little-endian).
    Lz4,
    /// Bzip2.
    Bzip2,
    /// A Blosc buffer, version 1.
    Blosc,
    /// Byte shuffle of elements of so many bytes.
    Shuffle(usize),
    /// HDF5's checksum, behind the bytes.
    Fletcher32,
    /// CRC-32 of zip, before the bytes.
    Crc32,
    /// Adler-32 of zlib, before the bytes.
    Adler32,
}
