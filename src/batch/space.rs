//! Whether the disk has room for an output.

use std::path::Path;

use crate::console::human_bytes;
use crate::error::{Error, Result};
use crate::model::Plan;

/// The part of a directory's path that is there: what a run makes itself is not missing.
pub(crate) fn made_in(directory: &Path) -> &Path {
    directory.ancestors().find(|p| p.exists()).unwrap_or_else(|| Path::new("."))
}

/// Bytes free for this user; `None` where there is no such directory.
pub(crate) fn free(directory: &Path) -> Option<u64> {
    rustix::fs::statvfs(here(directory))
        .ok()
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Compares what is needed with what is free.
///
/// # Errors
/// Failed, with both.
pub(crate) fn check(directory: &Path, plan: &Plan) -> Result<()> {
    let bytes = plan.bytes();
    let Some(free) = free(directory).filter(|free| *free < bytes) else { return Ok(()) };
    let mut message = format!("{} are needed, {} are free", human_bytes(bytes), human_bytes(free));
    // A damaged header, or a view that repeats its elements, may ask for more than any disk has:
    // the array is named.
    if let Some(largest) = plan.arrays.iter().max_by_key(|a| a.size_bytes()) {
        let size = human_bytes(largest.size_bytes().unwrap_or(0));
        let shape = largest.shape().unwrap_or_default();
        message += &match plan.arrays.len() {
            1 => format!(" (the array '{}' is {} {shape:?})", largest.name, largest.type_name()),
            _ => format!(
                " ({size} of it for the largest array, '{}', which is {} {shape:?})",
                largest.name,
                largest.type_name()
            ),
        };
    }
    Err(Error::failed(message)
        .hint("write to another disk, choose arrays with -a or -x, or rows with --rows"))
}

/// The parent of a bare name is the working directory.
fn here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}
