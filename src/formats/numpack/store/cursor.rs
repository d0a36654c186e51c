//! Reads the small pieces of a long file one after the other.

use crate::error::{Error, Result};
use crate::storage::Blob;

/// A place in a file, and the bytes around it.
pub struct Cursor<'a> {
    blob: &'a dyn Blob,
    /// What the file is, for messages: `the metadata`.
    what: &'static str,
    /// Bytes that are read at a time.
    step: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub fn new(blob: &'a dyn Blob, what: &'static str, step: u64) -> Cursor<'a> {
        Cursor { blob, what, step, at: 0, window: Vec::new(), window_at: 0 }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes to an offset; `None` where the file ends before it.
    pub fn seek(&mut self, at: u64) -> Option<()> {
        self.at = Some(at).filter(|&at| at <= self.blob.len())?;
        Some(())
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// Corrupt where the file ends before.
    pub fn take(&mut self, n: u64) -> Result<&[u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.blob.len());
        let end = end.ok_or_else(|| {
            let (what, len, at) = (self.what, self.blob.len(), self.at);
            Error::corrupt(format!(
                "{what} ends at byte {len}: {n} bytes are expected at byte {at}"
            ))
        })?;
        if self.at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let len = n.max(self.step).min(self.blob.len() - self.at);
            self.window = self.blob.read_vec(self.at, len)?;
            self.window_at = self.at;
        }
        let from = (self.at - self.window_at) as usize;
        self.at = end;
        Ok(&self.window[from..from + n as usize])
    }

    /// The next `bytes` (at most 8) as a little-endian number.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn number(&mut self, bytes: u64) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| n << 8 | b as u64))
    }

    /// The next `n` bytes as text; `name` says what they are.
    ///
    /// # Errors
    /// As [`Cursor::take`]; corrupt where they are not UTF-8.
    pub fn text(&mut self, n: u64, name: &str) -> Result<String> {
        let at = self.at;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes)
            .map(str::to_string)
            .map_err(|_| Error::corrupt(format!("{name} at byte {at} is not UTF-8")))
    }
}
