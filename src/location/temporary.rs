//! Temporary copies of streams, whose length nobody knows.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};

use super::{Blob, LocalFile, cleanup};
use crate::error::{Error, Result};

/// Bytes that are copied before the free space is looked at again.
const COPIED_AT_ONCE: u64 = 4 << 20;
/// What a temporary copy leaves free: a twentieth of the file system, but no more than this.
const LEFT_FREE: u64 = 1 << 30;

/// Copies a stream into a temporary file; returns the bytes. It stops before the disk is full: a small compressed file may
/// stand for more than any disk holds.
///
/// # Errors
/// Those of the stream; failed where the disk has no room.
pub fn copy_to_temporary(from: &mut dyn Read, to: &mut File) -> Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let (mut len, mut looked) = (0u64, 0u64);
    let hint = "set TMPDIR to a directory with more room";
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(len),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::reading(e)),
        };
        to.write_all(&buffer[..n]).map_err(|e| Error::from(e).hint(hint))?;
        len += n as u64;
        if len - looked >= COPIED_AT_ONCE {
            looked = len;
            if let Ok(stat) = rustix::fs::fstatvfs(&*to) {
                let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
                if free < LEFT_FREE.min(all / 20) {
                    let error = format!("the temporary copy has {len} bytes so far, and only {free} bytes are free on its disk");
                    return Err(Error::failed(error).hint(hint));
                }
            }
        }
    }
}

/// Gives an unnamed temporary file a name for as long as the result lives; `None` where the system cannot.
pub(super) fn named(blob: &Arc<dyn Blob>) -> Option<LocalFile> {
    let file = blob.file()?;
    let shown = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| linkat(CWD, &shown, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
    let made = cleanup::made(|| {
        let ((), path) = tempfile::Builder::new().make(link)?.keep().map_err(|e| e.error)?;
        let undo_path = path.clone();
        let undo = move || {
            let _ = std::fs::remove_file(&undo_path);
        };
        Ok::<_, io::Error>((path, Box::new(undo) as cleanup::Undo))
    });
    made.ok().map(|(path, guard)| LocalFile { path, copy: Some(guard) })
}
