//! The files of a store, wherever they are, and how long they may be.

use std::sync::Arc;

use crate::array::check_text;
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice};

/// The name of the metadata file.
pub const METADATA: &str = "metadata.npkm";
/// The name of the side file.
pub const SIDE: &str = "npk.json";

/// Longer metadata are refused: that is names of 250 bytes for a million arrays.
pub(super) const MAX_METADATA_BYTES: u64 = 512 << 20;
/// A longer side file is refused, and never written.
const MAX_SIDE_BYTES: u64 = 1 << 30;
/// Longer lists of segments are refused.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;

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
    /// Its bytes where they lie.
    ///
    /// # Errors
    /// As [`Files::blob`].
    fn slice(&self, path: &str) -> Result<BlobSlice> {
        self.blob(path).map(BlobSlice::whole)
    }
    /// Whether to open it is to unpack it.
    fn is_packed(&self, _path: &str) -> bool {
        false
    }
    /// How many blobs a reader may keep between pieces.
    fn keep_open(&self) -> u64 {
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

/// Opens a file that is read as a whole, or nearly.
///
/// # Errors
/// Refused, with both numbers, where it is longer than `most`; corrupt where there is none.
pub(super) fn small(files: &dyn Files, path: &str, most: u64) -> Result<Arc<dyn Blob>> {
    // Asked for before it is opened: to open one in a package is to unpack it.
    let len = files.len(path)?.ok_or_else(|| Error::corrupt(format!("the store has no {path}")))?;
    let within = |len: u64| match len <= most {
        true => Ok(()),
        false => {
            Err(Error::refused(format!("{path} has {len} bytes; no more than {most} are read")))
        }
    };
    within(len)?;
    let blob = files.blob(path)?;
    within(blob.len())?;
    Ok(blob)
}

/// Checks a side file before it is written.
///
/// # Errors
/// Refused where it would be too long to be read again.
pub fn check_side(side: Option<&[u8]>) -> Result<()> {
    match side.map(|side| side.len() as u64) {
        Some(len) if len > MAX_SIDE_BYTES => {
            let error = Error::refused(format!(
                "{SIDE} would have {len} bytes; no more than {MAX_SIDE_BYTES} are read again"
            ));
            Err(error.hint("--strings offsets keeps text in arrays"))
        }
        _ => Ok(()),
    }
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

/// The side file, where there is one.
///
/// # Errors
/// Reading errors; refused where it is too long.
pub fn read_side(files: &dyn Files, memory_bytes: u64) -> Result<Option<Vec<u8>>> {
    if files.len(SIDE)?.is_none() {
        return Ok(None);
    }
    let blob = small(files, SIDE, MAX_SIDE_BYTES)?;
    check_text(SIDE, blob.len(), memory_bytes)?;
    blob.read_vec(0, blob.len()).map(Some)
}
