//! The zip container of a checkpoint: its records by name, over [`crate::codec::zip`].
//!
//! torch leaves sizes and crc of local headers zero and pads their extra field (`FB`) so that data
//! begins at multiples of 64. A crc of 0 means "not given"; those of large tensors are for `npk
//! verify`. Records are stored; deflated ones, which other zip tools make, are inflated to an
//! unnamed temporary file, one for the archive. Encrypted and otherwise compressed ones are
//! refused.

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec::pickle::shown;
use crate::codec::zip::{self, Entry};
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice};

/// Records that the kernel copies are read again for their checksum, on both ends, where they are
/// this small …
pub(super) const CHECKED_BYTES: u64 = 1 << 20;
/// … and not more than this in all: torch never looks at it, and small files should please every
/// zip tool.
pub(super) const CHECKED_IN_ALL_BYTES: u64 = 64 << 20;

/// An opened archive.
pub(super) struct Archive {
    zip: zip::Archive,
    by_name: HashMap<String, usize>,
}

impl Archive {
    /// Reads the central directory.
    pub fn open(blob: &Arc<dyn Blob>) -> Result<Archive> {
        let zip = zip::Archive::open(blob.clone())?.zero_is_no_crc();
        // Of two entries of one name the last counts, as everywhere.
        let by_name = zip.entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        Ok(Archive { zip, by_name })
    }

    /// Its records.
    pub fn entries(&self) -> &[Entry] {
        &self.zip.entries
    }

    /// What is to be said of the archive.
    pub fn notes(&self) -> Vec<String> {
        self.zip.notes()
    }

    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The bytes of an entry, without reading them (a deflated one is inflated to the temporary
    /// file).
    pub fn bytes(&self, index: usize) -> Result<BlobSlice> {
        self.zip.bytes(index).map_err(|e| self.named(index, e))
    }

    /// Finds the data of many entries with few reads: for locations where each read is a request.
    pub fn locate_all(&self, indices: &[usize]) -> Result<()> {
        self.zip.locate(indices)
    }

    /// A small record as a whole, its checksum compared where one is given.
    pub fn read(&self, index: usize, limit_bytes: u64) -> Result<Vec<u8>> {
        self.zip.read(index, limit_bytes).map_err(|e| self.named(index, e))
    }

    /// Compares the checksums of records that are small enough to be read twice. The others are for
    /// `npk verify`: torch compares none, and reading a large one again costs as much as copying
    /// it.
    pub fn verify_small(&self, indices: &[usize]) -> Result<()> {
        let mut left = CHECKED_IN_ALL_BYTES;
        if self.zip.blob.is_remote() {
            return Ok(()); // a request each
        }
        for &index in indices {
            let entry = &self.zip.entries[index];
            if !entry.is_stored() || entry.bytes > CHECKED_BYTES {
                continue; // a deflated one was compared when it was inflated
            }
            let Some(rest) = left.checked_sub(entry.bytes) else { break };
            left = rest;
            self.verify(index)?;
        }
        Ok(())
    }

    /// Compares the checksum of a record, streamed; `false` where none is given.
    pub fn verify(&self, index: usize) -> Result<bool> {
        self.zip.verify(index).map_err(|e| self.named(index, e))
    }

    fn named(&self, index: usize, e: Error) -> Error {
        e.about(format_args!("the record {}", shown(&self.zip.entries[index].name)))
    }
}
