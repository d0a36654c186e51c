//! Whether the disk has room for an output.

use std::path::Path;

use crate::error::{Error, Result};
use crate::report::human_bytes;

/// The part of a directory's path that is there: what a run makes itself is not missing.
pub(super) fn made_in(directory: &Path) -> &Path {
    directory.ancestors().find(|p| p.exists()).unwrap_or_else(|| Path::new("."))
}

/// Bytes free for this user; `None` where there is no such directory.
pub(super) fn free(directory: &Path) -> Option<u64> {
    rustix::fs::statvfs(here(directory)).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Compares what is needed with what is free.
///
/// # Errors
/// Failed, with both.
pub(super) fn check(directory: &Path, bytes: u64) -> Result<()> {
    match free(directory) {
        Some(free) if free < bytes => {
            let error = Error::failed(format!("{} are needed, {} are free", human_bytes(bytes), human_bytes(free)));
            Err(error.hint("write to another disk, or choose arrays with -a and rows with --rows"))
        }
        _ => Ok(()),
    }
}

/// The parent of a bare name is the working directory.
fn here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}
