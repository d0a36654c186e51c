//! Headers that are read forwards, in windows, within the limit of memory.

use std::sync::Arc;

use super::Blob;
use crate::error::{Error, Result};

/// What is left of a header.
pub struct Forward {
    blob: Arc<dyn Blob>,
    at: u64,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: u64,
    memory_bytes: u64,
    /// About the bytes that what was read so far takes in memory.
    held: u64,
}

impl Forward {
    /// From the first byte on, `window_bytes` at a time.
    pub fn new(blob: Arc<dyn Blob>, window_bytes: u64, memory_bytes: u64) -> Forward {
        let (window, window_start) = (Vec::new(), 0);
        Forward { blob, at: 0, window, window_start, window_bytes, memory_bytes, held: 0 }
    }

    /// The byte that is next.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// How many bytes follow.
    pub fn left(&self) -> u64 {
        self.blob.len() - self.at
    }

    /// The next bytes. That they stay in memory is for the caller to count.
    ///
    /// # Errors
    /// Corrupt where there are fewer; refused where they are more than memory may hold.
    pub fn take(&mut self, len: u64) -> Result<&[u8]> {
        let left = self.left();
        if len > left {
            return Err(Error::corrupt(format!(
                "the header is truncated: {len} bytes are expected at byte {}, there are {left}",
                self.at
            ))
            .hint("fetch the file again"));
        }
        let end = self.window_start + self.window.len() as u64;
        if self.at < self.window_start || self.at + len > end {
            if self.held.saturating_add(len) > self.memory_bytes {
                return Err(self.too_large());
            }
            let wanted = len.max(self.window_bytes).min(left);
            self.window = self.blob.read_vec(self.at, wanted)?;
            self.window_start = self.at;
        }
        let start = (self.at - self.window_start) as usize;
        self.at += len;
        Ok(&self.window[start..start + len as usize])
    }

    /// Counts bytes that stay in memory: a header of some megabytes may claim many times as much.
    ///
    /// # Errors
    /// Refused past the limit.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        if self.held <= self.memory_bytes { Ok(()) } else { Err(self.too_large()) }
    }

    fn too_large(&self) -> Error {
        Error::refused(format!(
            "the header takes more than {} bytes of memory, which is the limit",
            self.memory_bytes
        ))
        .hint("-m gives more memory")
    }

    /// Compares a count of things, each of which takes `least` bytes, with the bytes that are left.
    ///
    /// # Errors
    /// Corrupt.
    pub fn check_count(&self, count: u64, least: u64, what: &str) -> Result<()> {
        let left = self.left();
        if count.checked_mul(least).is_some_and(|bytes| bytes <= left) {
            return Ok(());
        }
        Err(Error::corrupt(format!("the header claims {count} {what}, {left} bytes follow")))
    }
}
