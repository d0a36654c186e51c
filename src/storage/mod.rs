//! Where inputs and outputs are: local paths, standard streams and FIFOs, object storage. Knows no
//! format.
//!
//! Reading: [`Location::blob`] (ranged reads), [`Location::stream`] (from the start, once),
//! [`Location::list`] (one level). Writing: [`Location::create_file`] and [`Location::create_dir`]
//! give outputs that appear on commit, whole, or not at all.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Context, Error, ErrorKind, Result};

pub mod cleanup;
mod limit;
mod local;
pub mod lock;
mod offset;
#[cfg(feature = "remote")]
pub mod remote;
mod stream;
pub mod temporary;
pub mod walk;

pub use limit::{file_limit, open_files, raise_file_limit};
pub use local::{Identity, file_blob, map_file, sweep_stale};
pub use offset::FileAt;
pub use stream::StreamState;
pub use temporary::copy_to_temporary;

/// Ranged reads of one object; cheap to share between threads.
pub trait Blob: Send + Sync {
    /// Its length in bytes, fixed when it was opened.
    fn len(&self) -> u64;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Reading errors; corrupt where the bytes end before `offset + buf.len()`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// The local file behind it, for kernel copies and maps.
    fn file(&self) -> Option<&Arc<std::fs::File>> {
        None
    }
    /// Whether every read is a request to a server.
    fn is_remote(&self) -> bool {
        false
    }
    /// Reads `len` bytes at `offset`; the length is compared with the blob's before anything is
    /// allocated.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(Error::corrupt(format!(
                "{len} bytes are expected at byte {offset}, the file has {}",
                self.len()
            )));
        }
        let mut bytes = vec![0; len as usize];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
    /// Reads several ranges; remote blobs fetch them together.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    fn read_ranges(&self, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Vec<u8>>> {
        ranges.iter().map(|r| self.read_vec(r.start, r.end.saturating_sub(r.start))).collect()
    }
}

/// A [`Blob`] over bytes in memory, owned or borrowed.
pub struct MemoryBlob<T>(pub T);

impl<T: AsRef<[u8]> + Send + Sync> Blob for MemoryBlob<T> {
    fn len(&self) -> u64 {
        self.0.as_ref().len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let all = self.0.as_ref();
        let found =
            usize::try_from(offset).ok().and_then(|at| all.get(at..at.checked_add(buf.len())?));
        let missing = || {
            Error::corrupt(format!(
                "{} bytes are expected at byte {offset}, there are {}",
                buf.len(),
                all.len()
            ))
        };
        buf.copy_from_slice(found.ok_or_else(missing)?);
        Ok(())
    }
}

/// A run of bytes in a blob, and a blob itself. It has no [`Blob::file`]: what is copied by the
/// kernel needs
/// [`BlobSlice::start`], too.
#[derive(Clone)]
pub struct BlobSlice {
    /// The blob.
    pub blob: Arc<dyn Blob>,
    /// The first of them.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl BlobSlice {
    /// All of a blob.
    pub fn whole(blob: Arc<dyn Blob>) -> BlobSlice {
        let len = blob.len();
        BlobSlice { blob, start: 0, len }
    }
    /// Bytes in memory.
    pub fn memory(bytes: Vec<u8>) -> BlobSlice {
        BlobSlice::whole(Arc::new(MemoryBlob(bytes)))
    }
    /// All its bytes.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    pub fn read_all(&self) -> Result<Vec<u8>> {
        self.blob.read_vec(self.start, self.len)
    }
    fn check(&self, range: &std::ops::Range<u64>) -> Result<()> {
        if range.start <= range.end && range.end <= self.len {
            return Ok(());
        }
        let wanted = range.end.saturating_sub(range.start);
        Err(Error::corrupt(format!(
            "{wanted} bytes are expected at byte {} of a run of {} bytes",
            range.start, self.len
        )))
    }
}

impl Blob for BlobSlice {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(&(offset..offset.saturating_add(buf.len() as u64)))?;
        self.blob.read_at(self.start + offset, buf)
    }
    fn read_ranges(&self, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Vec<u8>>> {
        ranges.iter().try_for_each(|r| self.check(r))?;
        let moved: Vec<_> =
            ranges.iter().map(|r| self.start + r.start..self.start + r.end).collect();
        self.blob.read_ranges(&moved)
    }
    fn is_remote(&self) -> bool {
        self.blob.is_remote()
    }
}

/// A blob as `Read + Seek`, for libraries that want a file.
pub struct BlobReader {
    blob: Arc<dyn Blob>,
    at: u64,
}

impl BlobReader {
    /// Begins at byte 0.
    pub fn new(blob: Arc<dyn Blob>) -> BlobReader {
        BlobReader { blob, at: 0 }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = self.blob.len().saturating_sub(self.at);
        let n = (buf.len() as u64).min(left) as usize;
        self.blob.read_at(self.at, &mut buf[..n]).map_err(std::io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl std::io::Seek for BlobReader {
    fn seek(&mut self, pos: std::io::SeekFrom) -> std::io::Result<u64> {
        let at = match pos {
            std::io::SeekFrom::Start(n) => Some(n),
            std::io::SeekFrom::End(n) => self.blob.len().checked_add_signed(n),
            std::io::SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = at.ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "seek before the start")
        })?;
        Ok(self.at)
    }
}

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

/// A place for an input or an output. Cheap to clone.
#[derive(Clone)]
pub struct Location {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Local { spot: local::Spot, display: String },
    Stream(Arc<StreamState>),
    Remote { backend: Arc<dyn Backend>, key: String },
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Location({})", self.display())
    }
}

impl Location {
    /// A local path.
    pub fn local(path: impl Into<PathBuf>) -> Location {
        Location::at(local::Spot::new(path.into()))
    }
    fn at(spot: local::Spot) -> Location {
        let display = spot.path.display().to_string();
        Location { place: Place::Local { spot, display } }
    }
    /// stdin for inputs, stdout for outputs.
    pub fn stdio() -> Location {
        Location { place: Place::Stream(Arc::new(StreamState::stdin())) }
    }
    /// Something that a backend serves.
    pub fn remote(backend: Arc<dyn Backend>, key: impl Into<String>) -> Location {
        Location { place: Place::Remote { backend, key: key.into() } }
    }
    /// For an input that may be a FIFO or `/dev/stdin`: a path that cannot be read by range becomes
    /// a stream.
    ///
    /// # Errors
    /// Where the FIFO cannot be opened.
    pub fn input(path: impl Into<PathBuf>) -> Result<Location> {
        let location = Location::local(path);
        match location.kind()? {
            EntryKind::Stream => {
                let state = StreamState::path(location.local_path().unwrap_or(Path::new("-")))?;
                Ok(Location { place: Place::Stream(Arc::new(state)) })
            }
            _ => Ok(location),
        }
    }

    /// What `reader` gives, read once from the start: made of what is here (its content unpacked),
    /// and shown as it; `file_name` is the name that goes with the content.
    pub fn derived(&self, file_name: &str, reader: Box<dyn Read + Send>) -> Location {
        Location {
            place: Place::Stream(Arc::new(StreamState::derived(
                &self.display(),
                file_name,
                reader,
            ))),
        }
    }
    /// Whether this is made of another location's content: [`Location::derived`].
    pub fn is_derived(&self) -> bool {
        matches!(&self.place, Place::Stream(s) if s.is_derived())
    }
    /// Whether it can be read again and by ranges: a stream only once it is spooled.
    pub fn is_rereadable(&self) -> bool {
        !matches!(&self.place, Place::Stream(s) if !s.is_spooled())
    }

    /// As the user wrote it (secrets masked), for messages. `-` for standard streams.
    pub fn display(&self) -> String {
        match &self.place {
            Place::Local { display, .. } => display.clone(),
            Place::Stream(s) => s.display().to_string(),
            Place::Remote { backend, key } => backend.display(key),
        }
    }
    /// The last component: the name of a link, not of its target.
    pub fn file_name(&self) -> String {
        match &self.place {
            Place::Local { spot, .. } => {
                spot.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Place::Stream(s) => s.file_name().to_string(),
            Place::Remote { key, .. } => {
                key.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string()
            }
        }
    }
    /// The name that an unnamed array takes: the file name without its ending (`x.csv.gz` → `x`),
    /// `data` for streams.
    pub fn stem(&self) -> String {
        if self.is_stream() && !self.is_derived() {
            return "data".into();
        }
        let name = self.file_name();
        let mut stem = name.as_str();
        for packed in [".gz", ".zst", ".zip"] {
            if let Some(s) = stem.strip_suffix(packed).filter(|s| s.contains('.')) {
                stem = s;
            }
        }
        let stem = match stem.rfind('.') {
            Some(dot) if dot > 0 => &stem[..dot],
            _ => stem,
        };
        if stem.is_empty() { "data".into() } else { stem.to_string() }
    }
    /// stdin, stdout or a FIFO.
    pub fn is_stream(&self) -> bool {
        matches!(self.place, Place::Stream(_))
    }
    /// Object storage or HTTP.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote { .. })
    }
    /// The local path.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Local { spot, .. } => Some(&spot.path),
            _ => None,
        }
    }
    /// The backend and key of a remote location.
    pub fn as_remote(&self) -> Option<(&Arc<dyn Backend>, &str)> {
        match &self.place {
            Place::Remote { backend, key } => Some((backend, key)),
            _ => None,
        }
    }
    /// The location `relative` below this directory. `relative` comes from our own code or was
    /// checked: no `..`.
    pub fn join(&self, relative: &str) -> Location {
        match &self.place {
            Place::Local { spot, .. } => Location::at(spot.join(relative)),
            Place::Remote { backend, key } => {
                let key = match key.trim_end_matches('/') {
                    "" => relative.to_string(),
                    k => format!("{k}/{relative}"),
                };
                Location { place: Place::Remote { backend: backend.clone(), key } }
            }
            Place::Stream(_) => self.clone(),
        }
    }
    /// The directory that holds this location.
    pub fn parent(&self) -> Location {
        match &self.place {
            Place::Local { spot, .. } => match spot.path.parent() {
                Some(p) if !p.as_os_str().is_empty() => Location::local(p),
                _ => Location::local("."),
            },
            Place::Remote { backend, key } => {
                let key = key
                    .trim_end_matches('/')
                    .rsplit_once('/')
                    .map(|(p, _)| p)
                    .unwrap_or_default()
                    .to_string();
                Location { place: Place::Remote { backend: backend.clone(), key } }
            }
            Place::Stream(_) => self.clone(),
        }
    }

    /// A local directory, held open: what is found below it from now on is of this directory,
    /// whatever is put in its place meanwhile. Anything else is as it was.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn hold(&self) -> Result<Location> {
        match &self.place {
            Place::Local { spot, .. } => Ok(Location::at(spot.hold().at_file(&self.display())?)),
            _ => Ok(self.clone()),
        }
    }
    /// Whether the directory that is held has been replaced by another one.
    pub fn is_replaced(&self) -> bool {
        matches!(&self.place, Place::Local { spot, .. } if spot.is_replaced())
    }
    /// Opens something of this directory, which is held. Where another one was put in its place
    /// meanwhile, that one is opened.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn held<T>(&self, open: impl Fn(&Location) -> Result<T>) -> Result<T> {
        const TRIES: usize = 20;
        for _ in 1..TRIES {
            let at = self.hold()?;
            let opened = open(&at);
            if !at.is_replaced() {
                return opened;
            }
        }
        open(&self.hold()?)
    }
    /// What local file or directory this is, links followed; `None` where there is nothing, or
    /// nothing local.
    pub fn identity(&self) -> Option<Identity> {
        match &self.place {
            Place::Local { spot, .. } => spot.identity(),
            _ => None,
        }
    }
    /// As [`Location::blob`]; `None` where nothing has this name.
    ///
    /// # Errors
    /// A link that leads nowhere, a file in the place of the directory; what cannot be read.
    pub fn blob_if_any(&self) -> Result<Option<Arc<dyn Blob>>> {
        self.if_any(self.blob())
    }
    /// As [`Location::stream`]; `None` where nothing has this name.
    ///
    /// # Errors
    /// As [`Location::blob_if_any`].
    pub fn stream_if_any(&self) -> Result<Option<Box<dyn Read + Send>>> {
        self.if_any(self.stream())
    }
    fn if_any<T>(&self, got: Result<T>) -> Result<Option<T>> {
        match got {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == ErrorKind::Missing => match &self.place {
                Place::Local { spot, .. } if spot.is_there() => Err(e),
                _ => Ok(None),
            },
            Err(e) => Err(e),
        }
    }
    /// This local directory, opened: to lock it, or to rename in it.
    ///
    /// # Errors
    /// Missing; no local directory.
    pub fn directory(&self) -> Result<std::fs::File> {
        match &self.place {
            Place::Local { spot, .. } => spot.directory().at_file(&self.display()),
            _ => Err(Error::refused("a local directory is needed").file(self.display())),
        }
    }
    /// A file of this local directory, for writing; made, with the folders on the way, where
    /// `fresh`. No link below the directory is followed.
    ///
    /// # Errors
    /// What cannot be opened or made.
    pub fn open_own(&self, relative: &str, fresh: bool) -> Result<std::fs::File> {
        match &self.place {
            Place::Local { spot, .. } => {
                spot.open_own(relative, fresh).at_file(&self.join(relative).display())
            }
            _ => Err(Error::refused("a local directory is needed").file(self.display())),
        }
    }

    /// What is there. Symbolic links are followed.
    ///
    /// # Errors
    /// Permission and remote errors; a missing file is [`EntryKind::Missing`].
    pub fn kind(&self) -> Result<EntryKind> {
        match &self.place {
            Place::Local { spot, .. } => spot.kind().at_file(&self.display()),
            Place::Stream(_) => Ok(EntryKind::Stream),
            Place::Remote { backend, key } => backend.kind(key).at_file(&self.display()),
        }
    }
    /// Whether an output here would replace something. Of a remote place nothing is read: who may
    /// only write can ask.
    ///
    /// # Errors
    /// As [`Location::kind`].
    pub fn exists(&self) -> Result<bool> {
        match &self.place {
            Place::Remote { backend, key } => backend.exists(key).at_file(&self.display()),
            _ => Ok(!matches!(self.kind()?, EntryKind::Missing | EntryKind::Stream)),
        }
    }
    /// Whether ranges of it are read from a temporary copy, since its server has no ranges.
    pub fn is_copied(&self) -> bool {
        self.as_remote().is_some_and(|(backend, key)| backend.is_copied(key))
    }
    /// Entries of a directory, sorted by name.
    ///
    /// # Errors
    /// Missing; no directory.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = match &self.place {
            Place::Local { spot, .. } => spot.list(),
            Place::Stream(_) => Ok(Vec::new()),
            Place::Remote { backend, key } => backend.list(key),
        }
        .at_file(&self.display())?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
    /// As [`Location::list`], and the names that are not UTF-8, as they can be shown: their files
    /// cannot be opened.
    ///
    /// # Errors
    /// Missing; no directory.
    pub fn list_all(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        match &self.place {
            Place::Local { spot, .. } => spot.list_all().at_file(&self.display()),
            _ => Ok((self.list()?, Vec::new())),
        }
    }
    /// Ranged reads. A stream is spooled to an unnamed temporary file first.
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn blob(&self) -> Result<Arc<dyn Blob>> {
        match &self.place {
            Place::Local { spot, .. } => spot.blob(),
            Place::Stream(s) => s.spooled(),
            Place::Remote { backend, key } => backend.blob(key),
        }
        .at_file(&self.display())
    }
    /// The bytes from the start; of a stream only once (its first 4 KiB may have been looked at
    /// before).
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn stream(&self) -> Result<Box<dyn Read + Send>> {
        match &self.place {
            Place::Local { spot, .. } => spot.stream(),
            Place::Stream(s) => s.reader(),
            Place::Remote { backend, key } => backend.stream(key),
        }
        .at_file(&self.display())
    }
    /// The first bytes, at most `max`; of a stream they stay readable.
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn head(&self, max: usize) -> Result<Vec<u8>> {
        match &self.place {
            Place::Stream(s) => s.head(max).at_file(&self.display()),
            _ => {
                let blob = self.blob()?;
                blob.read_vec(0, blob.len().min(max as u64)).at_file(&self.display())
            }
        }
    }
    /// A local path to these bytes: itself, or a temporary copy that lives as long as the guard.
    ///
    /// # Errors
    /// Missing, unreadable, disk full.
    pub fn to_local_file(&self) -> Result<LocalFile> {
        match &self.place {
            Place::Local { spot, .. } => Ok(LocalFile { path: spot.path.clone(), copy: None }),
            Place::Stream(s) => match temporary::named(&s.spooled()?) {
                Some(named) => Ok(named),
                None => local::copy_to_temp(self.stream()?).at_file(&self.display()),
            },
            _ => local::copy_to_temp(self.stream()?).at_file(&self.display()),
        }
    }

    /// Begins a file here. stdout for a stream.
    ///
    /// # Errors
    /// Exists (exit 5), parent missing (exit 3), a directory in the way.
    pub fn create_file(&self, existing: Existing, sync: bool) -> Result<Box<dyn Output>> {
        match &self.place {
            Place::Local { spot, .. } => local::create_file(&spot.path, existing, sync),
            Place::Stream(_) => stream::stdout(),
            Place::Remote { backend, key } => backend.create_file(key, existing),
        }
        .at_file(&self.display())
    }
    /// Begins a directory here. One that exists is only ever replaced where it holds one of the
    /// `markers` (`metadata.npkm`, `zarr.json`, …) or nothing: a user's folder is never swept away.
    ///
    /// # Errors
    /// As [`Location::create_file`].
    pub fn create_dir(
        &self,
        existing: Existing,
        sync: bool,
        markers: &[&str],
    ) -> Result<Box<dyn OutputDir>> {
        match &self.place {
            Place::Local { spot, .. } => local::create_dir(&spot.path, existing, sync, markers),
            Place::Stream(_) => Err(Error::usage("a directory cannot be written to stdout")
                .hint("use --to npkg, or another format that is one file")),
            Place::Remote { backend, key } => backend.create_dir(key, existing, markers),
        }
        .at_file(&self.display())
    }
}

/// A local path, perhaps of a temporary copy.
pub struct LocalFile {
    path: PathBuf,
    /// Removes it.
    copy: Option<cleanup::Guard>,
}

impl LocalFile {
    /// The path, valid while this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Whether it is a temporary copy.
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }
}
