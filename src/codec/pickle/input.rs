//! The machine's bytes: a pickle in memory, or a blob that is read on.

use std::sync::Arc;

use super::node::Span;
use crate::error::{Error, Result};
use crate::storage::Blob;

/// Where the machine's bytes come from.
pub(super) struct Input {
    pub bytes: Vec<u8>,
    pub at: usize,
    /// The blob that continues `bytes`, and the offset there.
    more: Option<(Arc<dyn Blob>, u64)>,
    limit: u64,
}

const REFILL_BYTES: u64 = 256 << 10;

impl Input {
    /// `more`: the blob that continues `bytes`, and the offset there.
    pub fn new(bytes: Vec<u8>, more: Option<(Arc<dyn Blob>, u64)>, limit: u64) -> Input {
        Input { bytes, at: 0, more, limit }
    }
    pub fn left(&self) -> u64 {
        let rest = self.more.as_ref().map_or(0, |(blob, next)| blob.len().saturating_sub(*next));
        (self.bytes.len() - self.at) as u64 + rest
    }
    pub fn take(&mut self, len: u64) -> Result<Span> {
        if len > self.left() {
            let (end, more) = (
                self.bytes.len(),
                if len == 1 { "1 more byte was" } else { &format!("{len} more bytes were") },
            );
            return Err(Error::corrupt(format!("the pickle ends at byte {end}, {more} expected")));
        }
        if self.at as u64 + len > self.limit {
            return Err(too_large(self.limit));
        }
        while (self.bytes.len() - self.at) < len as usize {
            self.refill(len)?;
        }
        let span = Span { start: self.at, len: len as usize };
        self.at += len as usize;
        Ok(span)
    }
    /// At least one byte more, unless there is none.
    fn refill(&mut self, wish: u64) -> Result<()> {
        let Some((blob, next)) = &mut self.more else {
            return Err(Error::corrupt("the pickle ends without a STOP"));
        };
        let rest = blob.len().saturating_sub(*next);
        if rest == 0 {
            return Err(Error::corrupt("the pickle ends without a STOP"));
        }
        let have = self.bytes.len();
        let len = rest.min(wish.max(REFILL_BYTES));
        self.bytes.resize(have + len as usize, 0);
        blob.read_at(*next, &mut self.bytes[have..])?;
        *next += len;
        Ok(())
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let span = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[span.start..span.start + N]);
        Ok(out)
    }
    /// Up to a newline, which is taken too.
    pub fn line(&mut self) -> Result<Span> {
        let mut seen = 0;
        loop {
            if let Some(n) = memchr::memchr(b'\n', &self.bytes[self.at + seen..]) {
                let span = Span { start: self.at, len: seen + n };
                self.at += seen + n + 1;
                return Ok(span);
            }
            seen = self.bytes.len() - self.at;
            if (self.at + seen) as u64 > self.limit {
                return Err(too_large(self.limit));
            }
            self.refill(1)?;
        }
    }
}

pub(super) fn too_large(limit: u64) -> Error {
    Error::refused(format!("the pickle needs more than {} MiB to be understood", limit >> 20))
        .hint("give a larger --memory-limit")
}
