//! Where a hierarchy is written: a directory of objects, or a zip file of stored members.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::codec::zip::write::{Written, directory};
use crate::error::{Error, Result};
use crate::format::Summary;
use crate::storage::{Output, OutputDir};

/// An output of objects.
pub struct Target {
    to: To,
    bytes: AtomicU64,
    files: AtomicU64,
}

enum To {
    Dir(Box<dyn OutputDir>),
    Zip(Mutex<ZipOut>),
}

impl Target {
    fn new(to: To) -> Target {
        Target { to, bytes: AtomicU64::new(0), files: AtomicU64::new(0) }
    }

    /// A directory.
    pub fn dir(dir: Box<dyn OutputDir>) -> Target {
        Target::new(To::Dir(dir))
    }

    /// A zip file.
    pub fn zip(out: Box<dyn Output>) -> Target {
        Target::new(To::Zip(Mutex::new(ZipOut { out, at: 0, members: Vec::new() })))
    }

    /// Stores an object.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn store(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.files.fetch_add(1, Relaxed);
        match &self.to {
            To::Dir(dir) => {
                let mut file = dir.create(key)?;
                file.write_all(bytes)?;
                file.commit()
            }
            To::Zip(zip) => zip.lock().unwrap_or_else(|e| e.into_inner()).add(key, bytes),
        }
    }

    /// Lets the output appear, with these objects last.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn commit(self, last: &[(&str, Vec<u8>)], notes: Vec<String>) -> Result<Summary> {
        let bytes = last.iter().map(|(_, b)| b.len() as u64).sum::<u64>() + self.bytes.into_inner();
        let files = last.len() as u64 + self.files.into_inner();
        match self.to {
            To::Dir(dir) => {
                let last: Vec<_> = last.iter().map(|(name, b)| (*name, b.as_slice())).collect();
                dir.commit(&last)?;
                Ok(Summary { bytes, files, notes })
            }
            To::Zip(zip) => {
                let mut zip = zip.into_inner().unwrap_or_else(|e| e.into_inner());
                last.iter().try_for_each(|(name, bytes)| zip.add(name, bytes))?;
                Ok(Summary { bytes: zip.finish()?, files: 1, notes })
            }
        }
    }
}

/// A zip being written. Sizes are known before a member begins, so nothing is written twice.
struct ZipOut {
    out: Box<dyn Output>,
    at: u64,
    members: Vec<Written>,
}

impl ZipOut {
    /// Appends a member.
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
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
    fn finish(mut self) -> Result<u64> {
        let tail = directory(&self.members, self.at);
        self.out.write_all(&tail)?;
        self.out.commit()?;
        Ok(self.at + tail.len() as u64)
    }
}
