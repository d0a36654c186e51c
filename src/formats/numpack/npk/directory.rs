//! The files of a store's directory, of one moment.
//!
//! An append in place renames two files: the metadata, and then the side file that goes with them.
//! The new side file waits under a name that holds the hash of the metadata that it is for; so
//! whoever reads the metadata finds the side file of the same moment, under this name or its own.
//! [`Directory::is_current`] tells whether the metadata are still the same.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::formats::numpack::store::{Files, METADATA, SIDE};
use crate::storage::{self, Blob, Identity, Location};

/// New metadata before they are renamed into place.
pub(super) const NEXT_METADATA: &str = ".npk-append-metadata";
/// A new side file before it is renamed into place: this, and the hash of its metadata.
const NEXT_SIDE: &str = ".npk-append-side-";
/// Hexadecimal digits of that hash.
const DIGITS: usize = 16;

/// The name under which the side file of these metadata waits.
pub(super) fn next_side(metadata: &[u8]) -> String {
    let mut name = NEXT_SIDE.to_string();
    Sha256::digest(metadata)[..DIGITS / 2].iter().for_each(|b| {
        let _ = write!(name, "{b:02x}");
    });
    name
}

/// Is this a name that only an append gives?
pub(super) fn is_own(name: &str) -> bool {
    name == NEXT_METADATA
        || name
            .strip_prefix(NEXT_SIDE)
            .is_some_and(|hash| hash.len() == DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A store's directory, listed once where it can be.
pub(super) struct Directory {
    at: Location,
    listed: Option<HashMap<String, u64>>,
    /// The metadata as they were before the directory was listed, and what file that is.
    metadata: Option<(Arc<dyn Blob>, Identity)>,
    /// Where the side file is, if not under its own name.
    side: Option<String>,
}

impl Directory {
    /// `at` is held, where it is local.
    pub(super) fn open(at: &Location) -> Result<Arc<Directory>> {
        let mut directory = Directory { at: at.clone(), listed: None, metadata: None, side: None };
        if at.is_remote() {
            // Web servers list nothing, and storage may forbid it: each file is asked for by its
            // name then.
            directory.listed = at.list().ok().map(by_name);
            return Ok(Arc::new(directory));
        }
        // First the metadata, then the list: a side file that waits is there before the metadata
        // that it is for.
        if let Some(blob) = at.join(METADATA).blob_if_any()?
            && let Some(file) = blob.file()
        {
            let found = file.metadata().map_err(Error::reading)?;
            directory.metadata = Some((blob.clone(), (found.dev(), found.ino())));
        }
        // Foreign files, whatever their names, are no trouble.
        let listed = by_name(at.list_all()?.0);
        if let Some((metadata, _)) = &directory.metadata
            && listed.keys().any(|name| name.starts_with(NEXT_SIDE) && is_own(name))
        {
            let name = next_side(&metadata.read_vec(0, metadata.len())?);
            directory.side = listed.contains_key(&name).then_some(name);
        }
        directory.listed = Some(listed);
        Ok(Arc::new(directory))
    }

    /// Whether the metadata are still those that were read. Where they are not, what was read
    /// beside them may be of others.
    pub(super) fn is_current(&self) -> bool {
        self.metadata
            .as_ref()
            .is_none_or(|(_, identity)| self.at.join(METADATA).identity() == Some(*identity))
    }

    /// What an append left that ended before its files were in place.
    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.listed.iter().flat_map(HashMap::keys).map(String::as_str).filter(|name| is_own(name))
    }

    /// The side file that waits for its own name.
    pub(super) fn waiting_side(&self) -> Option<&str> {
        self.side.as_deref()
    }

    fn is_missing(&self, path: &str) -> bool {
        !path.contains('/') && self.listed.as_ref().is_some_and(|listed| !listed.contains_key(path))
    }
}

fn by_name(entries: Vec<storage::Entry>) -> HashMap<String, u64> {
    entries.into_iter().filter(|e| !e.is_dir).map(|e| (e.name, e.len)).collect()
}

impl Files for Directory {
    fn len(&self, path: &str) -> Result<Option<u64>> {
        let path = if path == SIDE { self.side.as_deref().unwrap_or(SIDE) } else { path };
        if let (METADATA, Some((metadata, _))) = (path, &self.metadata) {
            return Ok(Some(metadata.len()));
        }
        if self.is_missing(path) {
            return Ok(None);
        }
        if !path.contains('/')
            && let Some(&len) = self.listed.as_ref().and_then(|listed| listed.get(path))
            && len > 0
        {
            return Ok(Some(len));
        }
        let kind = match self.at.join(path).kind()? {
            // The side file has got its own name since the directory was listed.
            storage::EntryKind::Missing if self.side.as_deref() == Some(path) => {
                self.at.join(SIDE).kind()?
            }
            kind => kind,
        };
        match kind {
            storage::EntryKind::File { len, .. } => Ok(Some(len)),
            storage::EntryKind::Stream => {
                Err(Error::corrupt(format!("{path} is a FIFO, a socket or a device, not a file")))
            }
            _ => Ok(None),
        }
    }

    fn blob(&self, path: &str) -> Result<Arc<dyn Blob>> {
        if let (METADATA, Some((metadata, _))) = (path, &self.metadata) {
            return Ok(metadata.clone());
        }
        if path == SIDE
            && let Some(side) = &self.side
        {
            match self.at.join(side).blob() {
                // It has got its own name by now.
                Err(e) if e.kind() == ErrorKind::Missing => return self.at.join(SIDE).blob(),
                other => return other,
            }
        }
        if self.is_missing(path) {
            return Err(
                Error::missing("no such file or directory").file(self.at.join(path).display())
            );
        }
        self.at.join(path).blob().map_err(|e| match e.kind() {
            ErrorKind::Missing if !self.is_current() => {
                let error = Error::failed("the store was changed while it was read")
                    .file(self.at.display());
                error.hint("run the command again: it then reads the store as it is now")
            }
            _ => e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_file_that_gets_its_name_meanwhile_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path(METADATA), "metadata").unwrap();
        let waiting = path(&next_side(b"metadata"));
        // A name that goes while the directory is listed has no length in the list.
        std::fs::write(&waiting, "").unwrap();
        let files = Directory::open(&Location::local(dir.path()).hold().unwrap()).unwrap();
        assert!(files.waiting_side().is_some());
        std::fs::write(&waiting, "{}").unwrap();
        std::fs::rename(&waiting, path(SIDE)).unwrap();
        assert_eq!(files.len(SIDE).unwrap(), Some(2));
        assert_eq!(files.blob(SIDE).unwrap().len(), 2);
    }
}
