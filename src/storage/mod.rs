//! Where inputs and outputs are: local paths, standard streams and FIFOs, object storage. Knows no
//! format.
//!
//! Reading: [`Location::blob`] (ranged reads), [`Location::stream`] (from the start, once),
//! [`Location::list`] (one level). Writing: [`Location::create_file`] and [`Location::create_dir`]
//! give outputs that appear on commit, whole, or not at all.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Result;

mod blob;
pub mod cleanup;
mod forward;
mod limit;
mod local;
mod local_file;
mod location;
pub mod lock;
mod offset;
pub mod parts;
pub mod platform;
#[cfg(feature = "remote")]
pub mod remote;
mod room;
mod stream;
pub mod temporary;
pub mod walk;

pub use blob::{Blob, BlobReader, BlobSlice, MemoryBlob, Origin};
pub use forward::Forward;
pub use limit::{file_limit, open_files, raise_file_limit};
pub use local::{Identity, file_blob, map_file, sweep_stale, unchanged};
pub use local_file::LocalFile;
pub use location::Location;
pub use offset::FileAt;
pub use room::set_size;
pub use stream::{StreamState, check_stdout, stdout_is_closed};
pub use temporary::copy_to_temporary;

/// What is done about an output that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Exit 5.
    #[default]
    Error,
    /// Replaced as a whole, once the new one is complete.
    Replace,
    /// Arrays are added to a store; `replace` lets them replace arrays of the same name.
    Merge {
        /// `--force`.
        replace: bool,
    },
    /// Rows are added to the arrays of a store.
    Append,
}

/// An output being written: bytes in order through `Write`, or by position through
/// [`Output::file`].
pub trait Output: Write + Send {
    /// The local file, where there is one: positional writes, kernel copies. Do not mix with
    /// `Write`.
    fn file(&self) -> Option<Arc<std::fs::File>> {
        None
    }
    /// The path of the file that is being written, where there is one: for libraries that write by
    /// name.
    fn path(&self) -> Option<&Path> {
        None
    }
    /// The output appears. Dropped without it: nothing is left.
    ///
    /// # Errors
    /// Disk full; the output exists now.
    fn commit(self: Box<Self>) -> Result<()>;
}

/// A directory being written. It appears whole on commit.
pub trait OutputDir: Send + Sync {
    /// Begins a file at `relative` (`/` separates; folders are made). Its own `commit` only closes
    /// it.
    ///
    /// # Errors
    /// What cannot be created.
    fn create(&self, relative: &str) -> Result<Box<dyn Output>>;
    /// The local directory that is being filled, where there is one.
    fn path(&self) -> Option<&Path> {
        None
    }
    /// Writes the files of `last` after all others, then makes the directory appear.
    ///
    /// # Errors
    /// As [`Output::commit`].
    fn commit(self: Box<Self>, last: &[(&str, &[u8])]) -> Result<()>;
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, without the directory's.
    pub name: String,
    /// Whether it is a directory (links followed).
    pub is_dir: bool,
    /// Its length in bytes (0 for directories).
    pub len: u64,
}

/// What is at a location.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryKind {
    /// A file or object.
    File {
        /// Bytes.
        len: u64,
        /// Last change, where known.
        modified: Option<SystemTime>,
    },
    /// A directory, or a prefix with objects below it.
    Dir,
    /// stdin, stdout, a FIFO: read once, from the start.
    Stream,
    /// Nothing.
    Missing,
}

/// What a listing tells of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It was not there. Whether it is now is asked when it is complete.
    Absent,
    /// Objects were below it.
    Directory,
}

/// What one version of an object is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Where it is below the key that was asked for; empty for the object itself.
    pub below: String,
    /// Its length.
    pub bytes: u64,
    /// Without quotes.
    pub etag: Option<String>,
}

/// Files that every store has one of; they are written last.
pub const STORE_MARKERS: [&str; 4] = ["metadata.npkm", "zarr.json", ".zgroup", ".zarray"];

/// What remote (or test) storage offers. Keys are `/`-separated, as the user wrote them.
pub trait Backend: Send + Sync {
    /// What is at `key`.
    ///
    /// # Errors
    /// Remote errors.
    fn kind(&self, key: &str) -> Result<EntryKind>;
    /// Whether an output called `key` would replace something; asks for no bytes.
    ///
    /// # Errors
    /// Remote errors.
    fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.kind(key)? != EntryKind::Missing)
    }
    /// Whether reading `key` by ranges means a temporary copy of it.
    fn is_copied(&self, _key: &str) -> bool {
        false
    }
    /// What was read at `key`, without a request; none of what was not.
    fn mark_of_read(&self, _key: &str) -> Option<Mark> {
        None
    }
    /// The objects that this process wrote at or below `key` since it was asked last. They are
    /// remembered from the first call of [`Backend::keep_marks`] on.
    fn marks_of_written(&self, _key: &str) -> Vec<Mark> {
        Vec::new()
    }
    /// What a listing has told of the output at `key`, so that it need not be asked for; none: it
    /// is asked for again.
    fn tell(&self, _key: &str, _listed: Option<Listed>) {}
    /// What is known of `key` is asked again.
    fn forget(&self, _key: &str) {}
    /// Remembers what is written from now on.
    fn keep_marks(&self) {}
    /// What a list says of the object at `key`, its bytes and its ETag without quotes: another one
    /// is not read.
    fn expect(&self, _key: &str, _len: Option<u64>, _etag: Option<&str>) {}
    /// One level below `key`.
    ///
    /// # Errors
    /// Remote errors.
    fn list(&self, key: &str) -> Result<Vec<Entry>>;
    /// Every object below `key`: its path below it, its length.
    ///
    /// # Errors
    /// Remote errors.
    fn walk(&self, key: &str) -> Result<Vec<(String, u64)>>;
    /// Whether all that is below `key` is what a writer of a store left that was killed.
    ///
    /// # Errors
    /// Remote errors.
    fn is_unfinished(&self, _key: &str) -> Result<bool> {
        Ok(false)
    }
    /// Hands on every object below `key`, page by page, in the order of their keys.
    ///
    /// # Errors
    /// Remote errors; those of `each`.
    fn each_below(&self, key: &str, each: &mut dyn FnMut(Mark) -> Result<()>) -> Result<()> {
        let all = self.walk(key)?;
        all.into_iter().try_for_each(|(below, bytes)| each(Mark { below, bytes, etag: None }))
    }
    /// Ranged reads, pinned to the object's version.
    ///
    /// # Errors
    /// Remote errors.
    fn blob(&self, key: &str) -> Result<Arc<dyn Blob>>;
    /// From the start.
    ///
    /// # Errors
    /// Remote errors.
    fn stream(&self, key: &str) -> Result<Box<dyn Read + Send>>;
    /// An object that appears on commit.
    ///
    /// # Errors
    /// Remote errors; exists.
    fn create_file(&self, key: &str, existing: Existing) -> Result<Box<dyn Output>>;
    /// An object that takes the place of whatever is there. Nothing is asked for it, and what has
    /// arrived is not taken back: others may have written the same.
    ///
    /// # Errors
    /// Remote errors.
    fn overwrite(&self, key: &str) -> Result<Box<dyn Output>> {
        self.create_file(key, Existing::Replace)
    }
    /// A prefix whose last files appear last.
    ///
    /// # Errors
    /// Remote errors; exists.
    fn create_dir(
        &self,
        key: &str,
        existing: Existing,
        markers: &[&str],
    ) -> Result<Box<dyn OutputDir>>;
    /// Removes one object.
    ///
    /// # Errors
    /// Remote errors.
    fn remove(&self, key: &str) -> Result<()>;
    /// The URL to show for `key`, without secrets.
    fn display(&self, key: &str) -> String;
}
