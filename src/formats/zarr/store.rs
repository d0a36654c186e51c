//! Where the keys of a Zarr hierarchy are: a directory (local or remote), or a zip file.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use zip::ZipArchive;

use crate::error::{Context, Error, Kind, Result};
use crate::location::{Blob, BlobReader, Location};

/// The most files that a zip may list: each costs memory before anything is known of it.
const MOST_MEMBERS: usize = 4_000_000;

/// Reads by key; `/` separates.
pub enum Store {
    /// One object a key below this location.
    Dir(Location),
    /// Members of a zip.
    Zip(ZipStore),
}

/// The central directory of a zip.
pub struct ZipStore {
    blob: Arc<dyn Blob>,
    members: HashMap<String, Member>,
}

#[derive(Clone, Copy)]
struct Member {
    /// Where its local header begins.
    header: u64,
    packed: u64,
    unpacked: u64,
    deflated: bool,
}

/// What a directory of the hierarchy holds.
pub struct Listing {
    /// Names of files and directories.
    pub names: Vec<String>,
    /// Names of directories.
    pub dirs: Vec<String>,
}

impl Store {
    /// A store over this location: a directory, or a zip file.
    ///
    /// # Errors
    /// Where a zip's directory cannot be read.
    pub fn open(at: &Location) -> Result<Store> {
        match at.kind()? {
            crate::location::Kind::File { .. } | crate::location::Kind::Stream => Ok(Store::Zip(ZipStore::open(at.blob()?)?)),
            _ => Ok(Store::Dir(at.clone())),
        }
    }

    /// The object of this key for ranged reads; `None` where there is none.
    ///
    /// # Errors
    /// Reading errors.
    pub fn blob(&self, key: &str) -> Result<Option<Arc<dyn Blob>>> {
        match self {
            Store::Dir(at) => {
                let at = at.join(key);
                absent_as_none(&at, at.blob())
            }
            Store::Zip(zip) => zip.blob(key),
        }
    }

    /// All bytes of this key, at most `most`; `None` where there is none.
    ///
    /// # Errors
    /// Reading errors; corrupt where there are more.
    pub fn get(&self, key: &str, most: u64) -> Result<Option<Vec<u8>>> {
        if let Store::Dir(at) = self
            && at.is_remote()
        {
            // One request instead of two: the length need not be asked for.
            let at = at.join(key);
            let Some(stream) = absent_as_none(&at, at.stream())? else { return Ok(None) };
            let mut bytes = Vec::new();
            stream.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::reading)?;
            return if bytes.len() as u64 > most { Err(too_long(key, bytes.len() as u64, most)) } else { Ok(Some(bytes)) };
        }
        let Some(blob) = self.blob(key)? else { return Ok(None) };
        if blob.len() > most {
            return Err(too_long(key, blob.len(), most));
        }
        blob.read_vec(0, blob.len()).map(Some)
    }

    /// The names one level below `prefix` (empty: the root).
    ///
    /// # Errors
    /// Reading errors.
    pub fn list(&self, prefix: &str) -> Result<Listing> {
        let mut found = Listing { names: Vec::new(), dirs: Vec::new() };
        match self {
            Store::Dir(at) => {
                let at = if prefix.is_empty() { at.clone() } else { at.join(prefix) };
                for entry in at.list()? {
                    if entry.is_dir {
                        found.dirs.push(entry.name.clone());
                    }
                    found.names.push(entry.name);
                }
            }
            Store::Zip(zip) => {
                let mut dirs = std::collections::BTreeSet::new();
                let mut files = std::collections::BTreeSet::new();
                for key in zip.members.keys() {
                    let Some(rest) =
                        (if prefix.is_empty() { Some(key.as_str()) } else { key.strip_prefix(prefix).and_then(|r| r.strip_prefix('/')) })
                    else {
                        continue;
                    };
                    match rest.split_once('/') {
                        Some((dir, _)) if !dir.is_empty() => dirs.insert(dir.to_string()),
                        _ => files.insert(rest.to_string()),
                    };
                }
                found.dirs = dirs.iter().cloned().collect();
                found.names = files.into_iter().chain(dirs).filter(|n| !n.is_empty()).collect();
            }
        }
        Ok(found)
    }
}

fn too_long(key: &str, len: u64, most: u64) -> Error {
    Error::corrupt(format!("{key} has {len} bytes, at most {most} were expected"))
}

/// A missing object is `None`; one that may not be read is an error, not a hole in the array.
fn absent_as_none<T>(at: &Location, got: Result<T>) -> Result<Option<T>> {
    match got {
        Ok(v) => Ok(Some(v)),
        Err(e) if e.kind() == Kind::Missing => match at.local_path() {
            Some(path) if path.symlink_metadata().is_ok() || path.parent().is_some_and(|p| p.is_file()) => Err(e),
            _ => Ok(None),
        },
        Err(e) => Err(e),
    }
}

impl ZipStore {
    /// Reads the central directory.
    ///
    /// # Errors
    /// Corrupt or refused (encrypted, an unknown method).
    pub fn open(blob: Arc<dyn Blob>) -> Result<ZipStore> {
        let broken = |e: zip::result::ZipError| Error::corrupt("the zip's directory cannot be read").because(e);
        let mut archive = ZipArchive::new(BlobReader::new(blob.clone())).map_err(broken)?;
        if archive.len() > MOST_MEMBERS {
            return Err(Error::refused(format!("the zip lists {} members, at most {MOST_MEMBERS} are read", archive.len())));
        }
        let mut members = HashMap::new();
        for i in 0..archive.len() {
            let file = archive.by_index_raw(i).map_err(broken)?;
            let name = file.name().map_err(broken)?.to_string();
            let deflated = match file.compression() {
                zip::CompressionMethod::Stored => false,
                zip::CompressionMethod::Deflated => true,
                other => return Err(Error::refused(format!("the zip member {name} is packed with {other}"))),
            };
            if file.encrypted() {
                return Err(Error::refused(format!("the zip member {name} is encrypted")));
            }
            if !file.is_dir() {
                let member = Member { header: file.header_start(), packed: file.compressed_size(), unpacked: file.size(), deflated };
                members.insert(name, member);
            }
        }
        // A zip of the folder itself: everything below one name.
        let is_root = |prefix: &str| super::MARKERS.iter().any(|m| members.contains_key(&format!("{prefix}{m}")));
        if !is_root("") {
            let top = members.keys().filter_map(|k| k.split_once('/')).map(|(top, _)| format!("{top}/")).find(|p| is_root(p));
            if let Some(top) = top {
                members = members.into_iter().filter_map(|(k, m)| Some((k.strip_prefix(&top)?.to_string(), m))).collect();
            }
        }
        Ok(ZipStore { blob, members })
    }

    /// Whether a root node is in it.
    pub fn is_zarr(&self) -> bool {
        super::MARKERS.iter().any(|m| self.members.contains_key(*m))
    }

    fn blob(&self, key: &str) -> Result<Option<Arc<dyn Blob>>> {
        let Some(member) = self.members.get(key) else { return Ok(None) };
        // The local header repeats name and extra field, whose length may differ from the directory's.
        let head = self.blob.read_vec(member.header, 30).at_file(key)?;
        if !head.starts_with(b"PK\x03\x04") {
            return Err(Error::corrupt(format!("no zip member begins at byte {}", member.header)));
        }
        let two = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let start = member.header + 30 + two(26) + two(28);
        let end = start.checked_add(member.packed).filter(|&e| e <= self.blob.len());
        if end.is_none() {
            return Err(Error::corrupt(format!("the zip member {key} passes the end of the file")));
        }
        if !member.deflated {
            return Ok(Some(Arc::new(Part { blob: self.blob.clone(), start, len: member.packed })));
        }
        let packed = self.blob.read_vec(start, member.packed)?;
        let bytes = super::unpack::inflate(&packed, super::unpack::Wrapper::Raw, member.unpacked)?;
        Ok(Some(Arc::new(crate::location::MemoryBlob(bytes))))
    }
}

/// A part of a blob.
struct Part {
    blob: Arc<dyn Blob>,
    start: u64,
    len: u64,
}

impl Blob for Part {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!("{} bytes are wanted at byte {offset}, there are {}", buf.len(), self.len)));
        }
        self.blob.read_at(self.start + offset, buf)
    }
    fn read_ranges(&self, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Vec<u8>>> {
        if ranges.iter().any(|r| r.start > r.end || r.end > self.len) {
            return Err(Error::corrupt(format!("bytes behind the end ({}) of a zip member are wanted", self.len)));
        }
        let moved: Vec<_> = ranges.iter().map(|r| self.start + r.start..self.start + r.end).collect();
        self.blob.read_ranges(&moved)
    }
}
