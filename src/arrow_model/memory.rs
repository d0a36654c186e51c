//! What reading a table may hold.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// The memory that what is read as a whole may take.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimit(pub u64);

impl MemoryLimit {
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub fn check(self, what: &str, needed: u64) -> Result<()> {
        if needed <= self.0 {
            return Ok(());
        }
        let mebibytes = needed.div_ceil(1 << 20).saturating_add(1);
        Err(Error::refused(format!(
            "{what} takes {needed} bytes of memory, which is more than the limit of {}",
            self.0
        ))
        .hint(format!("--memory-limit {mebibytes}MiB reads it")))
    }
}

/// What the dictionaries of all columns hold, for as long as the table is open.
#[derive(Debug)]
pub struct Held {
    limit: MemoryLimit,
    bytes: AtomicU64,
}

impl Held {
    /// Nothing yet.
    pub fn new(limit: MemoryLimit) -> Held {
        Held { limit, bytes: AtomicU64::new(0) }
    }
    /// Whether there is room for so much more, before it is made.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub fn check(&self, bytes: u64) -> Result<()> {
        let all = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        self.limit.check("the list of the categories of its dictionaries", all)
    }
    /// What was taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    /// Takes some more.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed so far.
    pub fn take(&self, bytes: u64) -> Result<()> {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if all <= self.limit.0 {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the categories of its dictionaries take {all} bytes of memory and more, the limit is {}",
            self.limit.0
        ))
        .hint("give a larger --memory-limit"))
    }
}
