//! A zip file of stored members, written in turn.

use std::io::Write;

use crate::error::{Error, Result};
use crate::location::Output;

/// A zip being written. Sizes are known before a member begins, so nothing is written twice.
pub struct ZipOut {
    out: Box<dyn Output>,
    at: u64,
    directory: Vec<u8>,
    count: u64,
}

impl ZipOut {
    /// Begins one.
    pub fn new(out: Box<dyn Output>) -> ZipOut {
        ZipOut { out, at: 0, directory: Vec::new(), count: 0 }
    }

    /// Appends a member.
    ///
    /// # Errors
    /// Disk full and the like; a member of 4 GiB and more.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len()).ok().filter(|&n| n != u32::MAX);
        let size = size.ok_or_else(|| Error::refused(format!("{name}: a chunk of {} bytes is too large for a zip", bytes.len())))?;
        let name_len = u16::try_from(name.len()).map_err(|_| Error::refused("a name of more than 65535 bytes is too long for a zip"))?;
        let crc = crc32fast::hash(bytes);
        // Version 2.0 (4.5 where the offset needs it), UTF-8 names, stored, 1980-01-01.
        let mut common = Vec::with_capacity(26);
        for two in [0x0800u16, 0, 0, 0x0021] {
            common.extend_from_slice(&two.to_le_bytes());
        }
        for four in [crc, size, size] {
            common.extend_from_slice(&four.to_le_bytes());
        }
        common.extend_from_slice(&name_len.to_le_bytes());
        let mut local = b"PK\x03\x04\x14\0".to_vec();
        local.extend_from_slice(&common);
        local.extend_from_slice(&[0, 0]);
        local.extend_from_slice(name.as_bytes());
        let is_far = self.at >= u64::from(u32::MAX);
        self.directory.extend_from_slice(if is_far { b"PK\x01\x02\x2d\x03\x2d\0" } else { b"PK\x01\x02\x14\x03\x14\0" });
        self.directory.extend_from_slice(&common);
        self.directory.extend_from_slice(&(if is_far { 12u16 } else { 0 }).to_le_bytes());
        self.directory.extend_from_slice(&[0; 6]); // comment, disk, internal attributes
        self.directory.extend_from_slice(&(0o100_644u32 << 16).to_le_bytes());
        self.directory.extend_from_slice(&(if is_far { u32::MAX } else { self.at as u32 }).to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        if is_far {
            self.directory.extend_from_slice(&[1, 0, 8, 0]);
            self.directory.extend_from_slice(&self.at.to_le_bytes());
        }
        self.out.write_all(&local)?;
        self.out.write_all(bytes)?;
        self.at += local.len() as u64 + bytes.len() as u64;
        self.count += 1;
        Ok(())
    }

    /// Writes the directory and lets the file appear; returns its length.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn finish(mut self) -> Result<u64> {
        let (start, len, count) = (self.at, self.directory.len() as u64, self.count);
        let mut tail = std::mem::take(&mut self.directory);
        if start + len >= u64::from(u32::MAX) || count >= u64::from(u16::MAX) {
            let at = start + len;
            tail.extend_from_slice(b"PK\x06\x06");
            tail.extend_from_slice(&44u64.to_le_bytes());
            tail.extend_from_slice(&[45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for eight in [count, count, len, start] {
                tail.extend_from_slice(&eight.to_le_bytes());
            }
            tail.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            tail.extend_from_slice(&at.to_le_bytes());
            tail.extend_from_slice(&1u32.to_le_bytes());
        }
        tail.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        for two in [count, count] {
            tail.extend_from_slice(&u16::try_from(two).unwrap_or(u16::MAX).to_le_bytes());
        }
        for four in [len, start] {
            tail.extend_from_slice(&u32::try_from(four).unwrap_or(u32::MAX).to_le_bytes());
        }
        tail.extend_from_slice(&[0, 0]);
        self.out.write_all(&tail)?;
        self.out.commit()?;
        Ok(start + tail.len() as u64)
    }
}
