//! Where a hierarchy is written: a directory of objects, or a zip file of stored members.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::codec::zip::write::{Written, directory};
use crate::error::{Error, Result, locked};
use crate::format::Summary;
use crate::storage::parts::Parts;
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
    /// References in JSON.
    Json(Mutex<JsonOut>),
    /// References in Parquet: of metadata there is only what stands in the root.
    Parquet(Box<dyn OutputDir>),
    Parts(Arc<Parts>),
}

impl Target {
    fn new(to: To) -> Target {
        Target { to, bytes: AtomicU64::new(0), files: AtomicU64::new(0) }
    }

    /// A directory.
    pub fn dir(dir: Box<dyn OutputDir>) -> Target {
        Target::new(To::Dir(dir))
    }

    /// A share of a directory that several processes write: what is stored stays, and is not
    /// visible as a whole when this is committed.
    pub fn parts(parts: Arc<Parts>) -> Target {
        Target::new(To::Parts(parts))
    }

    /// A zip file.
    pub fn zip(out: Box<dyn Output>) -> Target {
        Target::new(To::Zip(Mutex::new(ZipOut { out, at: 0, members: Vec::new() })))
    }

    /// A set of references, in one JSON file.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn json(out: Box<dyn Output>) -> Result<Target> {
        Ok(Target::new(To::Json(Mutex::new(JsonOut::begin(out)?))))
    }

    /// A set of references: a directory of Parquet files.
    pub fn parquet(dir: Box<dyn OutputDir>) -> Target {
        Target::new(To::Parquet(dir))
    }

    /// Adds a member to a set of references in JSON.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn refer(&self, key: &str, to: &serde_json::Value) -> Result<()> {
        match &self.to {
            To::Json(json) => locked(json).add(key, to),
            _ => Err(Error::internal("this output has no references")),
        }
    }

    /// Adds a file of references.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn store_references(&self, path: &str, bytes: &[u8]) -> Result<()> {
        match &self.to {
            To::Parquet(dir) => {
                self.count(bytes);
                put(dir.as_ref(), path, bytes)
            }
            _ => Err(Error::internal("this output has no files of references")),
        }
    }

    fn count(&self, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.files.fetch_add(1, Relaxed);
    }

    /// Stores an object.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn store(&self, key: &str, bytes: &[u8]) -> Result<()> {
        match &self.to {
            To::Dir(dir) => {
                self.count(bytes);
                put(dir.as_ref(), key, bytes)
            }
            To::Json(json) => {
                let text = serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned());
                locked(json).add(key, &text)
            }
            To::Parquet(_) => Ok(()),
            To::Zip(zip) => {
                self.count(bytes);
                locked(zip).add(key, bytes)
            }
            To::Parts(parts) => {
                self.count(bytes);
                parts.put(key, bytes)
            }
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
            To::Parquet(dir) => {
                let last: Vec<_> = last
                    .iter()
                    .filter(|(name, _)| *name == ".zmetadata")
                    .map(|(name, b)| (*name, b.as_slice()))
                    .collect();
                dir.commit(&last)?;
                Ok(Summary { bytes, files, notes })
            }
            To::Json(json) => {
                let mut json = json.into_inner().unwrap_or_else(|e| e.into_inner());
                for (name, bytes) in last.iter().filter(|(name, _)| *name != ".zmetadata") {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    json.add(name, &serde_json::Value::String(text))?;
                }
                Ok(Summary { bytes: json.finish()?, files: 1, notes })
            }
            To::Zip(zip) => {
                let mut zip = zip.into_inner().unwrap_or_else(|e| e.into_inner());
                last.iter().try_for_each(|(name, bytes)| zip.add(name, bytes))?;
                Ok(Summary { bytes: zip.finish()?, files: 1, notes })
            }
            To::Parts(parts) => {
                last.iter().try_for_each(|(name, bytes)| parts.put(name, bytes))?;
                Ok(Summary { bytes, files, notes })
            }
        }
    }
}

fn put(dir: &dyn OutputDir, path: &str, bytes: &[u8]) -> Result<()> {
    let mut file = dir.create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// References in JSON being written, member after member.
struct JsonOut {
    out: Box<dyn Output>,
    bytes: u64,
    is_first: bool,
}

impl JsonOut {
    fn begin(out: Box<dyn Output>) -> Result<JsonOut> {
        let mut json = JsonOut { out, bytes: 0, is_first: true };
        json.write(b"{\"version\": 1, \"refs\": {")?;
        Ok(json)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }

    fn add(&mut self, key: &str, value: &serde_json::Value) -> Result<()> {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        let key = serde_json::Value::from(key);
        self.write(format!("{comma}\n{key}: {value}").as_bytes())
    }

    fn finish(mut self) -> Result<u64> {
        self.write(b"\n}}\n")?;
        self.out.commit()?;
        Ok(self.bytes)
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
