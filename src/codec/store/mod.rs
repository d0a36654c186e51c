//! What the store (`.npk`, a directory) and the packed store (`.npkg`, one file) share: NumPack's metadata, the names of
//! data files, segment manifests, deletion bitmaps, and the reader over all of them.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Block, Encode, Encoded};
use crate::location::Blob;
use crate::model::{Buf, Values};

pub mod bitmap;
pub mod manifest;
pub mod metadata;
pub mod names;
mod read;
mod rows;

pub use read::{StoreSource, Stored, stored_arrays};

/// The name of the metadata file.
pub const METADATA: &str = "metadata.npkm";
/// The name of the side file.
pub const SIDE: &str = "npk.json";
/// The journal of an append at work (or killed).
pub const JOURNAL: &str = ".npk-append";

/// The files of a store, wherever they are.
pub trait Files: Send + Sync {
    /// The length of the file at this relative path; `None` where there is none.
    ///
    /// # Errors
    /// Reading errors.
    fn len(&self, path: &str) -> Result<Option<u64>>;
    /// Ranged reads of it.
    ///
    /// # Errors
    /// Missing, unreadable.
    fn blob(&self, path: &str) -> Result<Arc<dyn Blob>>;
    /// The local file, and where in it the bytes of `path` (opened as `blob`) begin.
    fn extent(&self, _path: &str, blob: &Arc<dyn Blob>) -> Option<(Arc<std::fs::File>, u64)> {
        blob.file().map(|file| (file.clone(), 0))
    }
    /// How many blobs a reader may keep between pieces.
    fn keep_open(&self) -> usize {
        16
    }
    /// After everything was read (`all`) or some arrays were: what could only be checked now.
    ///
    /// # Errors
    /// Corrupt.
    fn close(&self, _all: bool) -> Result<()> {
        Ok(())
    }
}

/// Hands blocks of values on as they are.
pub struct AsIs;

impl Encode for AsIs {
    fn encode(&self, block: Block) -> Result<Encoded> {
        let (first_row, rows) = (block.first_row, block.rows);
        let (array, pieces) = block_pieces(block)?;
        Ok(Encoded { first_row, rows, array, payload: Box::new(pieces) })
    }
}

/// The array and the values of a block of one array.
///
/// # Errors
/// For text and lists, which must be codes or offsets here.
pub fn block_pieces(block: Block) -> Result<(usize, Vec<Buf>)> {
    let (array, chunks) = block.columns.into_iter().next().ok_or_else(|| Error::internal("an empty block"))?;
    let mut pieces = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match chunk.values {
            Values::Fixed(values) => pieces.push(values),
            Values::Var { .. } => return Err(Error::internal("text or lists that are neither codes nor offsets")),
        }
    }
    Ok((array, pieces))
}

/// Refuses a path that is not inside the store: absolute, with `..`, empty, or with a NUL.
///
/// # Errors
/// Corrupt.
pub fn check_path(path: &str) -> Result<()> {
    let inside = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    if inside { Ok(()) } else { Err(Error::corrupt(format!("the path {path:?} leaves the store"))) }
}
