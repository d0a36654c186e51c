//! Opens stores while others may append to them.

use super::directory::Directory;
use crate::error::{Error, Result};
use crate::formats::numpack::store::{StoreSource, metadata};
use crate::storage::{EntryKind, Location};

/// Opens a store; `names_only` leaves out what only its files tell.
///
/// # Errors
/// Missing, or no store.
pub fn open_store(at: &Location, names_only: bool, memory_bytes: u64) -> Result<StoreSource> {
    const TRIES: usize = 20;
    check_place(at)?;
    at.held(|at| {
        for _ in 1..TRIES {
            let files = Directory::open(at)?;
            let opened = StoreSource::open(files.clone(), "npk", names_only, memory_bytes);
            // An append that ended meanwhile has changed several files.
            if files.is_current() {
                return opened;
            }
        }
        Err(Error::failed("the store is changed all the time by another run")
            .hint("run the command again, when that has ended"))
    })
}

/// Is it a directory at all?
pub(super) fn check_place(at: &Location) -> Result<()> {
    if at.is_stream() {
        return Err(Error::usage("a store is a directory and cannot come through a pipe")
            .hint("use --from npkg"));
    }
    match at.kind()? {
        EntryKind::Dir => Ok(()),
        EntryKind::Missing => Err(Error::missing("no such file or directory").file(at.display())),
        _ => {
            let head = at.head(4)?;
            let error = Error::missing("a store is a directory, this is a file").file(at.display());
            Err(if metadata::is_metadata(&head) {
                error.hint("name the directory that holds it")
            } else {
                error
            })
        }
    }
}
