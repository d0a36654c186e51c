//! A header, read forwards.

use crate::error::Result;
use crate::storage::Forward;

/// Reads the header forwards.
pub(super) struct Cursor {
    pub bytes: Forward,
    pub big: bool,
    /// Sizes have 4 bytes.
    pub short: bool,
}

impl Cursor {
    /// Whether sizes have 4 bytes.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// The next bytes.
    pub fn take(&mut self, len: u64) -> Result<&[u8]> {
        self.bytes.take(len)
    }

    /// Counts bytes that stay in memory.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        self.bytes.hold(bytes)
    }

    /// As [`Forward::check_count`].
    pub fn check_count(&self, count: u64, least: u64, what: &str) -> Result<()> {
        self.bytes.check_count(count, least, what)
    }

    /// The next `N` bytes, in little-endian order.
    pub fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let big = self.big;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        if big {
            bytes.reverse();
        }
        Ok(bytes)
    }
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }
    /// A count, a length or a dimension.
    pub fn size(&mut self) -> Result<u64> {
        match self.short {
            true => self.u32().map(u64::from),
            false => Ok(u64::from_le_bytes(self.number()?)),
        }
    }

    /// Bytes with their length before them.
    pub fn text(&mut self) -> Result<Vec<u8>> {
        let len = self.size()?;
        let bytes = self.take(len)?.to_vec();
        self.hold(len + 64)?;
        Ok(bytes)
    }
}
