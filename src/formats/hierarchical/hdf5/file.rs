//! A file that is open for reading.

use std::path::Path;
use std::sync::Arc;

use super::access::Access;
use super::driver::{self, Purpose, Ticket};
use super::library::{self, Id};
use crate::error::Result;
use crate::format::ReadOptions;
use crate::storage::{Blob, LocalFile, Location};

/// The file, as long as anything of it is read. Its parts are dropped in this order.
pub(super) struct OpenFile {
    pub(super) id: Id,
    /// Files that the library opens later need it, too.
    pub(super) ticket: Ticket,
    pub(super) access: Arc<Access>,
    /// Its bytes.
    pub(super) blob: Arc<dyn Blob>,
    /// The memory limit.
    pub(super) memory_bytes: u64,
    /// The temporary copy of a file from elsewhere.
    _local: LocalFile,
}

impl OpenFile {
    /// Opens a file, or a temporary copy of it.
    ///
    /// # Errors
    /// What cannot be read; corrupt.
    pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<OpenFile> {
        let local = at.to_local_file()?;
        let path: &Path = local.path();
        let blob = local.blob()?;
        let access = Access::new(path, local.is_copy(), options.follow_external);
        let ticket = Ticket::new(Purpose::Reading(access.clone()));
        let id = driver::open(&library::lock(), path, &ticket)?;
        let memory_bytes = options.resources.memory_bytes();
        Ok(OpenFile { id, ticket, access, blob, memory_bytes, _local: local })
    }
}
