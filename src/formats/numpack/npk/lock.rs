//! A store taken for one run alone, and what runs left in it that were killed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;

use rustix::fs::AtFlags;

use super::directory::Directory;
use crate::error::{Error, Result};
use crate::formats::numpack::store::{Files, SIDE, Stored};
use crate::storage::Location;
use crate::storage::lock::{try_lock, unlock};

/// A store taken for one run alone.
pub(super) struct Lock {
    /// The store's directory.
    pub(super) directory: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.directory);
    }
}

/// Takes the store for this run alone; gives the directory, held, and the lock.
pub(super) fn take(at: &Location) -> Result<(Location, Lock)> {
    const TRIES: usize = 20;
    for _ in 0..TRIES {
        let store = at.hold()?;
        let directory = store.directory()?;
        if !try_lock(&directory)? {
            return Err(busy());
        }
        let lock = Lock { directory };
        // The lock counts only if this is still the store: another run may just have put a new one
        // in its place.
        if !store.is_replaced() {
            return Ok((store, lock));
        }
    }
    Err(busy())
}

fn busy() -> Error {
    Error::failed("another run is changing this store").hint("wait until it has ended")
}

/// Refuses to go on where another run has put a new store in the place of the one that this run
/// holds.
pub(super) fn check(store: &Location) -> Result<()> {
    if store.is_replaced() {
        let error = Error::failed(
            "the store was replaced by another run meanwhile; nothing was added to the new one",
        );
        return Err(error.hint("run the command again"));
    }
    Ok(())
}

/// Something that a killed run left.
pub(super) enum Leftover {
    /// Bytes after the last row: the file, the bytes that belong to it, the others, the array.
    Tail(String, u64, u64, String),
    /// A side file that waits for its own name.
    Side(String),
    /// A file that never got its own name.
    File(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Tail(file, _, extra, array) => {
                write!(f, "{file}: {extra} extra bytes after the last row of {array}")
            }
            Leftover::Side(_) => write!(f, "{SIDE} of the last append is not in its place"),
            Leftover::File(name) => write!(f, "{name} is left from an append that was killed"),
        }
    }
}

impl Leftover {
    /// Takes it away, or puts it in its place; the store is locked.
    pub(super) fn settle(&self, store: &Location, lock: &Lock) -> Result<()> {
        let directory = &lock.directory;
        match self {
            Leftover::Tail(file, bytes, ..) => cut(store, file, *bytes)?,
            Leftover::Side(name) => rustix::fs::renameat(directory, name.as_str(), directory, SIDE)
                .map_err(std::io::Error::from)?,
            Leftover::File(name) => {
                rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty())
                    .map_err(std::io::Error::from)?;
            }
        }
        Ok(())
    }

    /// What was done about it.
    pub(super) fn settled(&self) -> &'static str {
        match self {
            Leftover::Tail(..) => "were cut off",
            Leftover::Side(_) => "was put there",
            Leftover::File(_) => "was removed",
        }
    }
}

/// What killed runs left in a store.
///
/// # Errors
/// Reading errors; corrupt where two arrays have one file.
pub(super) fn leftovers(files: &Directory, stored: &[Stored]) -> Result<Vec<Leftover>> {
    let mut all: Vec<Leftover> = Vec::new();
    let waiting = files.waiting_side();
    all.extend(waiting.map(|name| Leftover::Side(name.to_string())));
    all.extend(
        files
            .own()
            .filter(|name| Some(*name) != waiting)
            .map(|name| Leftover::File(name.to_string())),
    );
    let mut owner: HashMap<&str, &str> = HashMap::new();
    for s in stored.iter().filter(|s| s.problem.is_none()) {
        for p in &s.pieces {
            if let Some(other) = owner.insert(&p.path, &s.name) {
                return Err(Error::corrupt(format!(
                    "{} belongs to two arrays, this one and {other}",
                    p.path
                ))
                .array(&s.name));
            }
            let (len, bytes) = (files.len(&p.path)?.unwrap_or(0), p.rows * s.row_bytes);
            if len > bytes {
                all.push(Leftover::Tail(p.path.clone(), bytes, len - bytes, s.name.clone()));
            }
        }
    }
    Ok(all)
}

/// Clears away what killed runs left, before this run adds to the store.
pub(super) fn settle(
    store: &Location,
    lock: &Lock,
    files: &Directory,
    stored: &[Stored],
) -> Result<()> {
    leftovers(files, stored)?.iter().try_for_each(|l| l.settle(store, lock))
}

/// Cuts a data file of the store that is longer.
pub(super) fn cut(store: &Location, file: &str, bytes: u64) -> Result<()> {
    let file = store.open_own(file, false)?;
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    }
    Ok(())
}
