//! Locks of this run on files and directories (`flock`), as far as their file system has them.

use std::fs::File;
use std::io;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::Result;

/// Takes the lock; `false` where another run holds it. File systems without locks (some network
/// ones) do without.
///
/// # Errors
/// What else the system says.
pub fn try_lock(file: &File) -> Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(io::Error::from(e).into()),
    }
}

/// Gives the lock back. Closing the file alone would not do: a child process that is just being
/// started has copies of all open files, and with them the lock.
pub fn unlock(file: &File) {
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}
