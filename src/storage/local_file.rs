//! Local files for libraries that read by name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};

use super::local::{Spot, file_blob};
use super::{Blob, Origin, cleanup, temporary};
use crate::error::{Context, Error, Result};

/// A local path, perhaps of a temporary copy.
pub struct LocalFile {
    pub(super) path: PathBuf,
    /// Removes it.
    pub(super) copy: Option<cleanup::Guard>,
    /// Where the bytes are that were copied, for others who read them there.
    pub(super) of: Option<Origin>,
}

impl LocalFile {
    /// The path, valid while this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its bytes. The [`Blob::origin`] of a copy is what was copied, and never the copy: nothing may
    /// refer to what goes with this value.
    ///
    /// # Errors
    /// Unreadable.
    pub fn blob(&self) -> Result<Arc<dyn Blob>> {
        match self.is_copy() {
            true => {
                let file = fs::File::open(&self.path).map_err(Error::reading)?;
                let blob = file_blob(file)?;
                match &self.of {
                    Some(of) if of.len == blob.len() => {
                        Ok(Arc::new(CopyBlob { blob, of: of.clone() }))
                    }
                    _ => Ok(blob),
                }
            }
            false => {
                let blob = Spot::new(self.path.clone()).blob();
                blob.at_file(&self.path.display().to_string())
            }
        }
    }
    /// Whether it is a temporary copy.
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }
}

/// A copy, whose bytes others find where they were copied from.
struct CopyBlob {
    blob: Arc<dyn Blob>,
    of: Origin,
}

impl Blob for CopyBlob {
    fn len(&self) -> u64 {
        self.blob.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.blob.read_at(offset, buf)
    }
    fn file(&self) -> Option<&Arc<File>> {
        self.blob.file()
    }
    fn origin(&self) -> Option<Origin> {
        Some(self.of.clone())
    }
}

/// A temporary copy of what a stream gives.
pub(super) fn copy_to_temp(mut from: Box<dyn Read + Send>) -> Result<LocalFile> {
    // The signal thread may end the process: the copy must go then, too.
    let (mut copy, guard) = cleanup::made(|| {
        let (file, path) = tempfile::NamedTempFile::new()
            .map_err(temporary::error)?
            .keep()
            .map_err(|e| temporary::error(e.error))?;
        let undo_path = path.clone();
        let undo = move || {
            let _ = fs::remove_file(&undo_path);
        };
        Ok::<_, Error>(((file, path), Box::new(undo) as cleanup::Undo))
    })?;
    temporary::copy_to_temporary(&mut from, &mut copy.0)?;
    Ok(LocalFile { path: copy.1, copy: Some(guard), of: None })
}

/// Gives an unnamed temporary file a name for as long as the result lives; `None` where the system
/// cannot.
pub(super) fn named(blob: &Arc<dyn Blob>) -> Option<LocalFile> {
    let file = blob.file()?;
    let shown = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| {
        linkat(CWD, &shown, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    let made = cleanup::made(|| {
        let ((), path) = tempfile::Builder::new().make(link)?.keep().map_err(|e| e.error)?;
        let undo_path = path.clone();
        let undo = move || {
            let _ = fs::remove_file(&undo_path);
        };
        Ok::<_, io::Error>((path, Box::new(undo) as cleanup::Undo))
    });
    made.ok().map(|(path, guard)| LocalFile { path, copy: Some(guard), of: None })
}
