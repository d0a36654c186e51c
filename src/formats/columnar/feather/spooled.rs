//! The bytes of a pipe, in memory or in a temporary file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{Blob, Location, MemoryBlob, temporary};

/// The bytes of a pipe: in memory if there are few, in a temporary file without a name otherwise.
pub(super) fn held_or_spooled(at: &Location, most: u64) -> Result<Arc<dyn Blob>> {
    let mut stream = at.stream()?;
    let mut head = Vec::new();
    stream.by_ref().take(most.saturating_add(1)).read_to_end(&mut head).map_err(Error::reading)?;
    if head.len() as u64 <= most {
        return Ok(Arc::new(MemoryBlob(head)));
    }
    let mut file = temporary::file()?;
    let len = crate::storage::copy_to_temporary(&mut head.as_slice().chain(stream), &mut file)?;
    Ok(Arc::new(Spooled { file: Arc::new(file), len }))
}

/// A temporary file without a name.
pub(super) struct Spooled {
    pub(super) file: Arc<File>,
    pub(super) len: u64,
}

impl Blob for Spooled {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(Error::reading)
    }
    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}
