//! Checks global heaps, which hold variable-length text, before the library reads them: some damage (an object that takes
//! no bytes) makes it loop forever.
//!
//! | bytes of a heap | |
//! |---|---|
//! | 0 | `GCOL`, version, 3 reserved |
//! | 8 | bytes of the heap (as many bytes as lengths have in this file) |
//! | 16 | objects: u16 number, u16 references, 4 reserved, length, the data, filled up to a multiple of 8; number 0 is free space |

use std::sync::{Arc, OnceLock};

use super::c::Id;
use super::ffi;
use crate::error::{Error, Result};
use crate::location::Blob;

/// Larger files are not searched: that would take longer than opening them should.
const MOST_BYTES: u64 = 64 << 20;

/// The heaps of a file.
pub(super) struct Heaps {
    blob: Arc<dyn Blob>,
    length_bytes: usize,
    wrong: OnceLock<Option<u64>>,
}

impl Heaps {
    /// Of an open file. Under the lock.
    pub(super) fn new(file: &Id, blob: Arc<dyn Blob>) -> Heaps {
        let (mut addresses, mut lengths) = (8usize, 8usize);
        // SAFETY: an open file; under the lock.
        unsafe {
            if let Ok(plist) = Id::new(ffi::H5Fget_create_plist(file.raw()), "the superblock is damaged") {
                ffi::H5Pget_sizes(plist.raw(), &mut addresses, &mut lengths);
            }
        }
        Heaps { blob, length_bytes: lengths.clamp(2, 8), wrong: OnceLock::new() }
    }

    /// Whether the library may read them.
    ///
    /// # Errors
    /// Corrupt, saying where.
    pub(super) fn check(&self) -> Result<()> {
        match self.wrong.get_or_init(|| self.search().unwrap_or(None)) {
            None => Ok(()),
            Some(at) => Err(Error::corrupt(format!("the global heap at byte {at} is damaged"))),
        }
    }

    fn search(&self) -> Result<Option<u64>> {
        const PIECE: u64 = 1 << 20;
        let len = self.blob.len();
        if len > MOST_BYTES {
            return Ok(None);
        }
        let mut at = 0;
        while at < len {
            // Three bytes more, so that no signature is cut in two.
            let piece = self.blob.read_vec(at, (PIECE + 3).min(len - at))?;
            for found in memchr::memmem::find_iter(&piece, b"GCOL") {
                let start = at + found as u64;
                if !self.is_sound(start)? {
                    return Ok(Some(start));
                }
            }
            at += PIECE;
        }
        Ok(None)
    }

    /// Walks the objects of a heap, as the library would.
    fn is_sound(&self, start: u64) -> Result<bool> {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let header = (8 + self.length_bytes as u64).next_multiple_of(8);
        let left = self.blob.len() - start;
        if left < header {
            return Ok(true); // no heap that could be read
        }
        let head = self.blob.read_vec(start, header)?;
        let size = number(&head[8..8 + self.length_bytes]);
        if size > left || size < header {
            return Ok(true);
        }
        let heap = self.blob.read_vec(start, size)?;
        let mut at = header as usize;
        while let Some(object) = heap.get(at..at + header as usize) {
            let bytes = number(&object[8..8 + self.length_bytes]);
            let need = if number(&object[..2]) == 0 { bytes } else { bytes.wrapping_add(7) / 8 * 8 + header };
            if need == 0 {
                return Ok(false);
            }
            let Some(next) = usize::try_from(need).ok().and_then(|n| at.checked_add(n)).filter(|&n| n <= heap.len()) else {
                return Ok(true);
            };
            at = next;
        }
        Ok(true)
    }
}
