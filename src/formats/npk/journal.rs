//! The journal of an append, `.npk-append` in the store: how to undo it while rows are written, how to complete it once
//! they are. A run that was killed is undone or completed by the next one on the store.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::store::{JOURNAL, METADATA, check_path};
use crate::error::{Error, Result};
use crate::location::lock::{try_lock, unlock};

/// New versions of small files wait under this mark until all of them are there.
const MARK: &str = ".npk-append-";

/// What is at work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// CRC-32 of the metadata before: another one means that the store was changed since, and nothing is undone.
    metadata: u32,
    /// Files of the store and the bytes they had before.
    #[serde(default)]
    cut: Vec<(String, u64)>,
    /// Files that were not there before.
    #[serde(default)]
    remove: Vec<String>,
    /// Once all is written: files to be renamed into place, in order: the number under the mark, the file's name.
    #[serde(default)]
    rename: Vec<(usize, String)>,
    /// Files that are nobody's then.
    #[serde(default)]
    gone: Vec<String>,
}

/// Is this a name that only the journal gives?
pub(super) fn is_own(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(JOURNAL)
}

/// A store taken for one run alone.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.0);
    }
}

/// Takes the store for this run alone.
pub(super) fn lock(store: &Path) -> Result<Lock> {
    let handle = File::open(store).map_err(Error::reading)?;
    if !try_lock(&handle)? {
        return Err(Error::failed("another run is changing this store").hint("wait until it has ended"));
    }
    Ok(Lock(handle))
}

/// Undoes or completes what a killed run left, unless another run is at work. `must`: the caller is about to write.
///
/// # Errors
/// Only where the caller must have a clean store.
pub(super) fn recover(store: &Path, must: bool) -> Result<bool> {
    if fs::symlink_metadata(store.join(JOURNAL)).is_err() {
        return Ok(false);
    }
    let done = lock(store).and_then(|_lock| settle(store));
    match done {
        Ok(()) => Ok(true),
        Err(e) if must => Err(e),
        Err(_) => Ok(false),
    }
}

/// As [`recover`], by the run that holds the lock.
pub(super) fn settle(store: &Path) -> Result<()> {
    let Ok(bytes) = fs::read(store.join(JOURNAL)) else { return Ok(()) };
    // A journal cut short was killed before anything else was written.
    let journal: Journal = serde_json::from_slice(&bytes).unwrap_or_default();
    if journal.version == 1 {
        if journal.rename.is_empty() {
            journal.undo(store)?;
        } else {
            journal.complete(store)?;
        }
    }
    sweep(store);
    fs::remove_file(store.join(JOURNAL))?;
    Ok(())
}

/// Removes what waits under the mark.
fn sweep(store: &Path) {
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(MARK) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Is `relative` a plain file of the store itself, reached through no link?
fn own_file(store: &Path, relative: &str) -> bool {
    let mut path = store.to_path_buf();
    check_path(relative).is_ok()
        && relative.split('/').all(|part| {
            path.push(part);
            fs::symlink_metadata(&path).is_ok_and(|m| !m.is_symlink())
        })
        && path.is_file()
}

fn metadata_crc(store: &Path) -> Result<u32> {
    Ok(crc32fast::hash(&fs::read(store.join(METADATA)).map_err(Error::reading)?))
}

impl Journal {
    /// Writes it; from now on a killed run is undone.
    pub(super) fn begin(store: &Path, cut: Vec<(String, u64)>, remove: Vec<String>) -> Result<Journal> {
        let journal = Journal { version: 1, metadata: metadata_crc(store)?, cut, remove, ..Journal::default() };
        journal.write(store)?;
        Ok(journal)
    }

    fn write(&self, store: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::failed("the journal cannot be written").because(e))?;
        let waiting = store.join(format!("{MARK}journal"));
        let mut file = File::create(&waiting)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&waiting, store.join(JOURNAL))?;
        Ok(())
    }

    /// Puts the new versions of these files in place in this order, all or none, and removes those that are `gone`.
    pub(super) fn commit(mut self, store: &Path, files: Vec<(String, Vec<u8>)>, gone: Vec<String>) -> Result<()> {
        for (i, (_, bytes)) in files.iter().enumerate() {
            let mut file = File::create(store.join(format!("{MARK}{i}")))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        self.rename = files.into_iter().enumerate().map(|(i, (name, _))| (i, name)).collect();
        self.gone = gone;
        self.write(store)?;
        self.complete(store)?;
        fs::remove_file(store.join(JOURNAL))?;
        Ok(())
    }

    fn complete(&self, store: &Path) -> Result<()> {
        for (i, name) in &self.rename {
            if check_path(name).is_err() {
                continue;
            }
            let waiting = store.join(format!("{MARK}{i}"));
            if fs::symlink_metadata(&waiting).is_ok_and(|m| m.is_file()) {
                fs::rename(&waiting, store.join(name))?;
            }
        }
        for file in self.gone.iter().filter(|file| own_file(store, file)) {
            fs::remove_file(store.join(file))?;
        }
        Ok(())
    }

    fn undo(&self, store: &Path) -> Result<()> {
        if metadata_crc(store)? != self.metadata {
            return Ok(());
        }
        for (file, bytes) in &self.cut {
            if own_file(store, file) {
                cut(&store.join(file), *bytes)?;
            }
        }
        let mut seen = HashSet::new();
        for file in &self.remove {
            if own_file(store, file) && seen.insert(file) {
                fs::remove_file(store.join(file))?;
            }
        }
        Ok(())
    }
}

/// Cuts a file that is longer; returns whether it was.
pub(super) fn cut(path: &Path, bytes: u64) -> Result<bool> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let longer = file.metadata()?.len() > bytes;
    if longer {
        file.set_len(bytes)?;
    }
    Ok(longer)
}
