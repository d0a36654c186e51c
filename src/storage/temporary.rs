//! Temporary files: what a source or a sink keeps on disk meanwhile, and copies of streams, whose
//! length nobody knows. Their errors name the directory, not the source or the output.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Blob;
use crate::error::{Error, Result};

/// Bytes that are copied before the free space is looked at again.
const COPIED_AT_ONCE: u64 = 4 << 20;
/// What a temporary copy leaves free: a twentieth of the file system, but no more than this.
const LEFT_FREE: u64 = 1 << 30;

/// What to do where there is no room.
const MORE_ROOM: &str = "set TMPDIR to a directory with more room";

/// A new unnamed file.
///
/// # Errors
/// Failed: no directory, no permission, no room.
pub fn file() -> Result<File> {
    tempfile::tempfile().map_err(error)
}

/// Ranged reads of a temporary file, up to an end that is known.
pub struct TemporaryBlob {
    /// The file.
    pub file: Arc<File>,
    /// Its bytes.
    pub len: u64,
}

impl Blob for TemporaryBlob {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let failed = |e| Error::failed("the temporary file cannot be read").because(e);
        self.file.read_exact_at(buf, offset).map_err(failed)
    }
    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// An error of making or writing one. An error of ours that came through stays as it is.
pub fn error(error: io::Error) -> Error {
    if let Some(ours) = Error::carried_by(&error) {
        return ours;
    }
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => told(
            Error::failed("the directory for temporary files does not exist"),
            "set TMPDIR to a directory that exists",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            told(error.into(), "set TMPDIR to a directory where files can be made")
        }
        _ => told(error.into(), MORE_ROOM),
    }
}

fn told(error: Error, hint: &str) -> Error {
    error.file(std::env::temp_dir().display().to_string()).hint(hint)
}

/// Writes into such a file, with its errors.
pub struct Writer<W>(pub W);

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf).map_err(|e| {
            if e.kind() == ErrorKind::Interrupted { e } else { io::Error::other(error(e)) }
        })
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|e| io::Error::other(error(e)))
    }
}

/// Copies a stream into a temporary file; returns the bytes. It stops before the disk is full: a
/// small compressed file may stand for more than any disk holds.
///
/// # Errors
/// Those of the stream; failed where the disk has no room.
pub fn copy_to_temporary(from: &mut dyn Read, to: &mut File) -> Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let (mut len, mut looked) = (0u64, 0u64);
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(len),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::reading(e)),
        };
        to.write_all(&buffer[..n]).map_err(error)?;
        len += n as u64;
        if len - looked >= COPIED_AT_ONCE {
            looked = len;
            if let Ok(stat) = rustix::fs::fstatvfs(&*to) {
                let (free, all) = (
                    stat.f_bavail.saturating_mul(stat.f_frsize),
                    stat.f_blocks.saturating_mul(stat.f_frsize),
                );
                if free < LEFT_FREE.min(all / 20) {
                    let message = format!(
                        "the temporary copy has {len} bytes so far, and only {free} bytes are free on its disk"
                    );
                    return Err(told(Error::failed(message), MORE_ROOM));
                }
            }
        }
    }
}
