//! A zip file of stored members, written in turn.

use std::io::Write;

use crate::codec::zip::write::{Written, directory};
use crate::error::{Error, Result};
use crate::storage::Output;

/// A zip being written. Sizes are known before a member begins, so nothing is written twice.
pub struct ZipOut {
    out: Box<dyn Output>,
    at: u64,
    members: Vec<Written>,
}

impl ZipOut {
    /// Begins one.
    pub fn new(out: Box<dyn Output>) -> ZipOut {
        ZipOut { out, at: 0, members: Vec::new() }
    }

    /// Appends a member.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if name.len() > usize::from(u16::MAX) {
            return Err(Error::refused(format!(
                "a key of {} bytes is too long for a zip",
                name.len()
            )));
        }
        let len = bytes.len() as u64;
        let crc = crc32fast::hash(bytes);
        let member = Written {
            name: name.into(),
            method: 0,
            offset: self.at,
            crc,
            stored_bytes: len,
            bytes: len,
            descriptor: false,
        };
        let local = member.local(1);
        self.out.write_all(&local)?;
        self.out.write_all(bytes)?;
        self.at += local.len() as u64 + len;
        self.members.push(member);
        Ok(())
    }

    /// Writes the directory and lets the file appear; returns its length.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn finish(mut self) -> Result<u64> {
        let tail = directory(&self.members, self.at);
        self.out.write_all(&tail)?;
        self.out.commit()?;
        Ok(self.at + tail.len() as u64)
    }
}
