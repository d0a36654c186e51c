//! Reading local files and directories.
//!
//! Only regular files are opened: a FIFO or a device in the place of a file would wait for ever, or
//! give bytes without end. A directory can be held ([`Spot::hold`]): everything below it is then
//! found from its descriptor, so that a reader never gets files of two directories that followed
//! each other under one name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::names::{ASIDE, MARK};
use crate::error::{Error, Result, locked};
use crate::storage::blob::check_range;
use crate::storage::platform;
use crate::storage::{Blob, Entry, EntryKind, Origin};

/// Device and inode: what a file or directory is, whatever its name.
pub type Identity = (u64, u64);

/// A local path, perhaps below a directory that is held.
#[derive(Clone)]
pub(in crate::storage) struct Spot {
    pub(in crate::storage) path: PathBuf,
    held: Option<Held>,
}

#[derive(Clone)]
struct Held {
    root: Arc<Root>,
    /// Empty for the directory itself.
    below: PathBuf,
}

/// A directory that is held open.
struct Root {
    directory: OwnedFd,
    /// Where it was found.
    path: PathBuf,
    identity: Identity,
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn modified(stat: &Stat) -> Option<SystemTime> {
    let (seconds, nanos) =
        (stat.st_mtime, Duration::from_nanos(stat.st_mtime_nsec.try_into().ok()?));
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base?.checked_add(nanos)
}

/// Links are followed.
fn stat(directory: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Stat> {
    rustix::fs::statat(directory, path, AtFlags::empty())
}

impl Root {
    /// Whether another directory is in its place by now. Its files are removed only after that.
    fn is_replaced(&self) -> bool {
        stat(CWD, &self.path).map_or(true, |now| identity(&now) != self.identity)
    }
}

impl Spot {
    pub(in crate::storage) fn new(path: PathBuf) -> Spot {
        Spot { path, held: None }
    }

    pub(in crate::storage) fn join(&self, relative: &str) -> Spot {
        let held = self
            .held
            .as_ref()
            .map(|h| Held { root: h.root.clone(), below: h.below.join(relative) });
        Spot { path: self.path.join(relative), held }
    }

    /// This directory, held; anything else as it is.
    pub(in crate::storage) fn hold(&self) -> Result<Spot> {
        if self.held.is_some() {
            return Ok(self.clone());
        }
        let flags = platform::LOOKUP;
        let directory = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(self.clone()),
            Err(e) => return Err(Error::reading(e.into())),
        };
        let identity =
            identity(&rustix::fs::fstat(&directory).map_err(|e| Error::reading(e.into()))?);
        let root = Arc::new(Root { directory, path: self.path.clone(), identity });
        Ok(Spot { path: self.path.clone(), held: Some(Held { root, below: PathBuf::new() }) })
    }

    /// Whether the directory that is held, if one is, has been replaced by another one.
    pub(in crate::storage) fn is_replaced(&self) -> bool {
        self.held.as_ref().is_some_and(|h| h.root.is_replaced())
    }

    /// From where, and by which path, this is found.
    pub(super) fn at(&self) -> (BorrowedFd<'_>, &Path) {
        match &self.held {
            Some(h) if h.below.as_os_str().is_empty() => (h.root.directory.as_fd(), Path::new(".")),
            Some(h) => (h.root.directory.as_fd(), &h.below),
            None => (CWD, &self.path),
        }
    }

    /// In a directory that was replaced files vanish: that is what went wrong, not what is missing.
    fn explain(&self, error: Error) -> Error {
        if self.is_replaced() { replaced() } else { error }
    }

    fn failed(&self, error: Errno) -> Error {
        self.explain(Error::reading(error.into()))
    }

    pub(in crate::storage) fn kind(&self) -> Result<EntryKind> {
        let (directory, path) = self.at();
        match stat(directory, path) {
            Ok(s) => Ok(match file_type(&s) {
                FileType::Directory => EntryKind::Dir,
                FileType::RegularFile | FileType::BlockDevice => EntryKind::File {
                    len: s.st_size.try_into().unwrap_or(0),
                    modified: modified(&s),
                },
                _ => EntryKind::Stream,
            }),
            Err(Errno::NOENT | Errno::NOTDIR) if self.is_replaced() => Err(replaced()),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(EntryKind::Missing),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// What file or directory this is, links followed; `None` where there is nothing.
    pub(in crate::storage) fn identity(&self) -> Option<Identity> {
        let (directory, path) = self.at();
        stat(directory, path).ok().as_ref().map(identity)
    }

    /// Whether anything has this name: a link that leads nowhere, too, or a file in the place of
    /// its directory.
    pub(in crate::storage) fn is_there(&self) -> bool {
        let (directory, path) = self.at();
        !matches!(rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    pub(in crate::storage) fn list(&self) -> Result<Vec<Entry>> {
        let (entries, unnamed) = self.list_all()?;
        match unnamed.first() {
            Some(name) => Err(Error::refused(format!("the file name {name:?} is not UTF-8"))),
            None => Ok(entries),
        }
    }

    /// The entries, and the names that are not UTF-8, as they can be shown.
    pub(in crate::storage) fn list_all(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        let (mut entries, mut unnamed) = (Vec::new(), Vec::new());
        self.names(&mut |listed, name, kind| {
            let Some(text) = name.to_str() else {
                unnamed.push(name.to_string_lossy().into_owned());
                return;
            };
            if text.contains(MARK) || text.contains(ASIDE) {
                return;
            }
            // A link that leads nowhere is listed, and named when it is opened.
            let (kind, len) = match kind {
                FileType::Directory => (kind, 0),
                _ => stat(listed, Path::new(name))
                    .map_or((kind, 0), |s| (file_type(&s), s.st_size.try_into().unwrap_or(0))),
            };
            let is_dir = kind == FileType::Directory;
            entries.push(Entry {
                name: text.to_string(),
                is_dir,
                len: if is_dir { 0 } else { len },
            });
        })?;
        Ok((entries, unnamed))
    }

    /// Every name of this directory with its type, and the directory itself to find them from.
    pub(super) fn names(
        &self,
        each: &mut dyn FnMut(BorrowedFd<'_>, &OsStr, FileType),
    ) -> Result<()> {
        let (directory, path) = self.at();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, path, flags, Mode::empty())
            .map_err(|e| self.failed(e))?;
        let mut entries = Dir::new(opened).map_err(|e| self.failed(e))?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|e| self.failed(e))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let listed = entries.fd().map_err(|e| self.failed(e))?;
                each(listed, OsStr::from_bytes(name), entry.file_type());
            }
        }
        // A directory that was replaced may have lost some already.
        if self.is_replaced() { Err(replaced()) } else { Ok(()) }
    }

    /// Opens a regular file; what it was like then.
    fn open(&self) -> Result<(File, Stamp)> {
        let (directory, path) = self.at();
        let found = stat(directory, path).map_err(|e| self.failed(e))?;
        self.check(&found)?;
        // It may have become something else since: without O_NONBLOCK a FIFO would wait for its
        // writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(
            rustix::fs::openat(directory, path, flags, Mode::empty())
                .map_err(|e| self.failed(e))?,
        );
        let found = rustix::fs::fstat(&file).map_err(|e| self.failed(e))?;
        self.check(&found)?;
        Ok((file, Stamp::of(&found)))
    }

    fn check(&self, found: &Stat) -> Result<()> {
        let what = match file_type(found) {
            FileType::RegularFile => return Ok(()),
            // A disk may be named as an input; in a store it has no place.
            FileType::BlockDevice if self.held.is_none() => return Ok(()),
            FileType::Directory => {
                return Err(Error::missing("it is a directory, a file was expected"));
            }
            FileType::Fifo => "a FIFO (a named pipe)",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        Err(Error::refused(format!("it is {what}; only regular files are read here")))
    }

    pub(in crate::storage) fn blob(&self) -> Result<Arc<dyn Blob>> {
        let (file, stamp) = self.open()?;
        let file = Arc::new(file);
        // Files of a store that is held grow behind what its metadata tell of.
        let watched = self.held.is_none();
        if watched {
            stamp.keep(&file);
        }
        let opened = watched.then_some(stamp);
        Ok(Arc::new(LocalBlob { file, len: stamp.len, opened, path: Some(self.path.clone()) }))
    }

    pub(in crate::storage) fn stream(&self) -> Result<Box<dyn Read + Send>> {
        let (file, opened) = self.open()?;
        let watched = self.held.is_none();
        Ok(if watched { Box::new(LocalStream { file, opened }) } else { Box::new(file) })
    }

    /// This directory, opened.
    pub(in crate::storage) fn directory(&self) -> Result<File> {
        let (directory, path) = self.at();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(File::from(
            rustix::fs::openat(directory, path, flags, Mode::empty())
                .map_err(|e| self.failed(e))?,
        ))
    }

    /// A file of this directory itself, for writing, made where `fresh`: no link is followed,
    /// neither at its end nor on the way.
    pub(in crate::storage) fn open_own(&self, relative: &str, fresh: bool) -> Result<File> {
        let (directory, path) = self.at();
        let file = if path == Path::new(".") {
            open_below(directory, relative, fresh)?
        } else {
            let step = platform::LOOKUP;
            let at = rustix::fs::openat(directory, path, step, Mode::empty())
                .map_err(|e| self.failed(e))?;
            open_below(at.as_fd(), relative, fresh)?
        };
        if !fresh {
            self.check(&rustix::fs::fstat(&file).map_err(|e| self.failed(e))?)?;
        }
        Ok(file)
    }
}

/// Opens or makes (`fresh`) a file below a directory, with the folders on the way; no link is
/// followed.
pub(super) fn open_below(directory: BorrowedFd<'_>, relative: &str, fresh: bool) -> Result<File> {
    let (folders, last) =
        relative.rsplit_once('/').map_or((None, relative), |(folders, last)| (Some(folders), last));
    let step = platform::LOOKUP | OFlags::NOFOLLOW;
    let mut inner: Option<OwnedFd> = None;
    for part in folders.into_iter().flat_map(|f| f.split('/')) {
        let at = inner.as_ref().map_or(directory, |fd| fd.as_fd());
        let mut next = rustix::fs::openat(at, part, step, Mode::empty());
        if fresh && matches!(next, Err(Errno::NOENT)) {
            match rustix::fs::mkdirat(at, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {
                    next = rustix::fs::openat(at, part, step, Mode::empty())
                }
                Err(e) => next = Err(e),
            }
        }
        inner = Some(next.map_err(|e| not_own(e, part))?);
    }
    let at = inner.as_ref().map_or(directory, |fd| fd.as_fd());
    let flags =
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = if fresh { flags | OFlags::CREATE | OFlags::EXCL } else { flags };
    let file = rustix::fs::openat(at, last, flags, Mode::from_raw_mode(0o666))
        .map_err(|e| not_own(e, last))?;
    Ok(File::from(file))
}

fn not_own(error: Errno, name: &str) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => {
            Error::exists(format!("{name} is a symbolic link, and nothing is written through one"))
        }
        e => io::Error::from(e).into(),
    }
}

fn replaced() -> Error {
    Error::failed("the directory was replaced while it was read")
        .hint("run the command again: it then reads the new one")
}

/// What a file was like when it was opened: whoever writes to it while it is read would make an
/// output of two states of it.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

/// The files that are open, for those who have no more than the file. Closed ones go when there are
/// twice as many.
static STAMPS: Mutex<Stamps> = Mutex::new(Stamps { all: BTreeMap::new(), most: 64 });

struct Stamps {
    /// By the address of the file.
    all: BTreeMap<usize, (Weak<File>, Stamp)>,
    most: usize,
}

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        Stamp { len: stat.st_size as u64, modified: modified(stat) }
    }

    fn check(&self, file: &File) -> Result<()> {
        let now = rustix::fs::fstat(file).map_err(|e| Error::reading(e.into()))?;
        if Stamp::of(&now) == *self {
            return Ok(());
        }
        Err(Error::failed("the file was changed while it was read")
            .hint("run the command again when nothing writes to it"))
    }

    fn keep(self, file: &Arc<File>) {
        let mut stamps = locked(&STAMPS);
        if stamps.all.len() >= stamps.most {
            stamps.all.retain(|_, (file, _)| file.strong_count() > 0);
            stamps.most = (2 * stamps.all.len()).max(64);
        }
        stamps.all.insert(Arc::as_ptr(file) as usize, (Arc::downgrade(file), self));
    }
}

/// Fails if a file that was opened as an input was changed since.
///
/// # Errors
/// Failed; reading errors.
pub fn unchanged(file: &Arc<File>) -> Result<()> {
    let stamps = locked(&STAMPS);
    let found = stamps.all.get(&(Arc::as_ptr(file) as usize)).map(|(_, stamp)| *stamp);
    drop(stamps);
    found.map_or(Ok(()), |stamp| stamp.check(file))
}

/// A file from its start to its end.
struct LocalStream {
    file: File,
    opened: Stamp,
}

impl Read for LocalStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.opened.check(&self.file).map_err(io::Error::other)?;
        Ok(n)
    }
}

struct LocalBlob {
    file: Arc<File>,
    len: u64,
    /// `None` where it may grow.
    opened: Option<Stamp>,
    /// Where it was opened, if it has a name.
    path: Option<PathBuf>,
}

impl Blob for LocalBlob {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        self.file.read_exact_at(buf, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ended(end),
            _ => Error::reading(e),
        })?;
        self.opened.map_or(Ok(()), |opened| opened.check(&self.file))
    }
    /// Into fresh memory, which is not filled with zeroes before.
    fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        check_range(offset, len, self.len)?;
        let mut bytes = Vec::with_capacity(len as usize);
        while (bytes.len() as u64) < len {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(ended(offset + len)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::reading(io::Error::from(e))),
            }
        }
        bytes.truncate(len as usize);
        self.opened.map_or(Ok(()), |opened| opened.check(&self.file))?;
        Ok(bytes)
    }
    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
    fn origin(&self) -> Option<Origin> {
        let path = std::path::absolute(self.path.as_ref()?).ok()?;
        Some(Origin { address: path.to_str()?.to_string(), offset: 0, len: self.len })
    }
}

fn ended(end: u64) -> Error {
    Error::corrupt(format!("the file ends before byte {end}"))
}

/// Ranged reads of an open file, a temporary one for example.
///
/// # Errors
/// Where its length cannot be found.
pub fn file_blob(file: File) -> Result<Arc<dyn Blob>> {
    let len = file.metadata().map_err(Error::reading)?.len();
    Ok(Arc::new(LocalBlob { file: Arc::new(file), len, opened: None, path: None }))
}

/// Maps a whole file for reading.
///
/// # Errors
/// Where the system refuses.
///
/// # Safety
/// As for every map: the file must not be truncated by others while the map is used (reads would
/// raise SIGBUS). Use it where the API promises a view without a copy; the converter itself reads.
pub unsafe fn map_file(file: &File) -> Result<memmap2::Mmap> {
    // SAFETY: promised by the caller.
    unsafe { memmap2::Mmap::map(file) }.map_err(|e| Error::failed("cannot map the file").because(e))
}
