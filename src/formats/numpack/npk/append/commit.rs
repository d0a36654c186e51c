//! The commit of an append in place: new metadata, and the side file that goes with them.

use std::io::{self, Write};

use rustix::fs::AtFlags;

use super::super::directory::{NEXT_METADATA, is_own, next_side};
use super::super::lock::{self, Lock};
use crate::error::Result;
use crate::formats::numpack::store::{METADATA, SIDE};
use crate::storage::{Location, cleanup};

/// Renames the new metadata into place: that is the moment. The side file waits under a name that
/// only readers of these metadata look for, and gets its own after that. Gives notes of what could
/// not be done then.
pub(super) fn rename(
    store: &Location,
    lock: &Lock,
    metadata: &[u8],
    side: Option<&[u8]>,
    guard: cleanup::Guard,
) -> Result<Vec<String>> {
    let directory = &lock.directory;
    let waiting = next_side(metadata);
    let wrote = || -> Result<()> {
        let _adding = cleanup::enter();
        if let Some(side) = side {
            write(store, &waiting, side)?;
        }
        write(store, NEXT_METADATA, metadata)
    };
    let place = |from: &str, to: &str| {
        rustix::fs::renameat(directory, from, directory, to).map_err(io::Error::from)
    };
    // Failed, the undo takes them away again. No interrupt comes between the two names.
    // In a store that was replaced nothing can be made any more: that is what went wrong.
    let late = wrote().map_err(|e| lock::check(store).err().unwrap_or(e)).and_then(|()| {
        guard.commit(|| -> Result<io::Result<()>> {
            lock::check(store)?;
            place(NEXT_METADATA, METADATA)?;
            Ok(if side.is_some() { place(&waiting, SIDE) } else { Ok(()) })
        })
    })?;
    let late = late.and_then(|()| directory.sync_all());
    let note = |e: io::Error| {
        format!("the rows are in the store, but the next run on it puts {SIDE} in its place: {e}")
    };
    Ok(late.err().map(note).into_iter().collect())
}

fn write(store: &Location, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = store.open_own(name, true)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Removes what waits for its name.
pub(super) fn remove_next(store: &Location) {
    let (Ok(directory), Ok(entries)) = (store.directory(), store.list()) else { return };
    for entry in entries.iter().filter(|e| is_own(&e.name)) {
        let _ = rustix::fs::unlinkat(&directory, entry.name.as_str(), AtFlags::empty());
    }
}
