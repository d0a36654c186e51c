//! Where the keys of a Zarr hierarchy are: a directory (local or remote), or a zip file.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use crate::codec::zip::Archive;
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice, Location};

/// Objects that make a directory (or a zip) a Zarr hierarchy.
pub const MARKERS: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zmetadata"];

/// Reads by key; `/` separates.
pub enum Store {
    /// One object a key below this location.
    Dir(Location),
    /// Members of a zip.
    Zip(ZipStore),
}

/// A zip, and where in its directory each key is.
pub struct ZipStore {
    archive: Archive,
    members: BTreeMap<String, usize>,
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
            crate::storage::EntryKind::File { .. } | crate::storage::EntryKind::Stream => {
                Ok(Store::Zip(ZipStore::open(at.blob()?)?))
            }
            _ => Ok(Store::Dir(at.clone())),
        }
    }

    /// The object of this key for ranged reads, at most `most` bytes; `None` where there is none. A
    /// deflated member of a zip is inflated to a temporary file, once.
    ///
    /// # Errors
    /// Reading errors; corrupt where there are more bytes.
    pub fn slice(&self, key: &str, most: u64) -> Result<Option<BlobSlice>> {
        match self {
            Store::Dir(at) => {
                let Some(blob) = at.join(key).blob_if_any()? else { return Ok(None) };
                check_len(blob.len(), most)?;
                Ok(Some(BlobSlice::whole(blob)))
            }
            Store::Zip(zip) => {
                let Some(&member) = zip.members.get(key) else { return Ok(None) };
                check_len(zip.archive.entries[member].bytes, most)?;
                zip.archive.bytes(member).map(Some)
            }
        }
    }

    /// Whether it is a zip.
    pub fn is_zip(&self) -> bool {
        matches!(self, Store::Zip(_))
    }

    /// Checks what reading arrays does not: of the members of a zip, parts may be read.
    ///
    /// # Errors
    /// Corrupt, with the key.
    pub fn verify(&self) -> Result<()> {
        match self {
            Store::Dir(_) => Ok(()),
            Store::Zip(zip) => zip.verify(),
        }
    }

    /// Whether looking for many small objects is cheap: they are on this machine.
    pub fn is_near(&self) -> bool {
        match self {
            Store::Dir(at) => !at.is_remote(),
            Store::Zip(zip) => zip.archive.blob.file().is_some(),
        }
    }

    /// Whether there is an object of this key.
    ///
    /// # Errors
    /// Reading errors.
    pub fn has(&self, key: &str) -> Result<bool> {
        match self {
            Store::Dir(at) => {
                Ok(matches!(at.join(key).kind()?, crate::storage::EntryKind::File { .. }))
            }
            Store::Zip(zip) => Ok(zip.members.contains_key(key)),
        }
    }

    /// Things to say of the whole.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Store::Dir(_) => Vec::new(),
            Store::Zip(zip) => zip.archive.notes(),
        }
    }

    /// All bytes of this key, at most `most`, with one request; `None` where there is none.
    ///
    /// # Errors
    /// Reading errors; corrupt where there are more.
    pub fn get(&self, key: &str, most: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Store::Dir(at) if at.is_remote() => {
                // The length need not be asked for.
                let Some(stream) = at.join(key).stream_if_any()? else { return Ok(None) };
                let mut bytes = Vec::new();
                stream
                    .take(most.saturating_add(1))
                    .read_to_end(&mut bytes)
                    .map_err(Error::reading)?;
                check_len(bytes.len() as u64, most)?;
                Ok(Some(bytes))
            }
            Store::Dir(_) => self.slice(key, most)?.map(|slice| slice.read_all()).transpose(),
            Store::Zip(zip) => {
                let Some(&member) = zip.members.get(key) else { return Ok(None) };
                check_len(zip.archive.entries[member].bytes, most)?;
                zip.archive.read(member, most).map(Some)
            }
        }
    }

    /// The directory of this key; `None` in a zip.
    pub fn directory(&self, key: &str) -> Option<Location> {
        match self {
            Store::Dir(at) if key.is_empty() => Some(at.clone()),
            Store::Dir(at) => Some(at.join(key)),
            Store::Zip(_) => None,
        }
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
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                let mut from = prefix.clone();
                while let Some((key, _)) = zip.members.range(from..).next()
                    && let Some(rest) = key.strip_prefix(&prefix)
                {
                    match rest.split_once('/') {
                        // Straight to what follows the folder: `0` is the character behind `/`.
                        Some((dir, _)) => {
                            from = format!("{prefix}{dir}0");
                            found.dirs.push(dir.to_string());
                            found.names.push(dir.to_string());
                        }
                        None => {
                            from = format!("{key}\0");
                            found.names.push(rest.to_string());
                        }
                    }
                }
                found.dirs.retain(|d| !d.is_empty());
            }
        }
        Ok(found)
    }
}

fn check_len(len: u64, most: u64) -> Result<()> {
    if len <= most {
        return Ok(());
    }
    Err(Error::corrupt(format!("it has {len} bytes, expected at most {most}")))
}

impl ZipStore {
    /// Reads the central directory.
    ///
    /// # Errors
    /// Corrupt.
    pub fn open(blob: Arc<dyn Blob>) -> Result<ZipStore> {
        let archive = Archive::open(blob)?;
        let files = archive.entries.iter().enumerate().filter(|(_, e)| !e.is_dir());
        let mut members: BTreeMap<String, usize> =
            files.map(|(i, e)| (e.name.clone(), i)).collect();
        // A zip of the folder itself: everything below one name.
        let is_root =
            |prefix: &str| MARKERS.iter().any(|m| members.contains_key(&format!("{prefix}{m}")));
        if !is_root("") {
            let top = members
                .keys()
                .filter_map(|k| k.split_once('/'))
                .map(|(top, _)| format!("{top}/"))
                .find(|p| is_root(p));
            if let Some(top) = top {
                members = members
                    .into_iter()
                    .filter_map(|(k, m)| Some((k.strip_prefix(&top)?.to_string(), m)))
                    .collect();
            }
        }
        Ok(ZipStore { archive, members })
    }

    /// Compares the checksums of all members.
    ///
    /// # Errors
    /// Corrupt, with the key.
    fn verify(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|(key, &m)| self.archive.verify(m).map(|_| ()).map_err(|e| e.about(key)))
    }

    /// Whether a root node is in it.
    pub fn is_zarr(&self) -> bool {
        MARKERS.iter().any(|m| self.members.contains_key(*m))
    }
}
