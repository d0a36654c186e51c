//! Local files and directories: outputs that appear by rename (reading is in [`read`]).
//!
//! A temporary output is a sibling of its target named `.NAME.npk-tmp-XXXXXXXXXXXXXXXX`, locked
//! (`flock`) by the run that writes it. It is stale only if that lock can be taken: the next run in
//! the same directory then removes it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::lock::{try_lock, unlock};
use super::{Existing, Output, OutputDir, cleanup, platform};
use crate::error::{Error, ErrorKind, Result, locked};

mod names;
mod read;

use names::{ASIDE, MARK};
pub(super) use names::{marked_name, temp_name};
pub(super) use read::Spot;
pub use read::{Identity, file_blob, map_file, unchanged};

/// Splits into the directory to write in and the final name.
pub(super) fn split(path: &Path) -> Result<(PathBuf, OsString)> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::usage("this is not a name for an output"))?
        .to_os_string();
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    };
    match fs::metadata(&parent) {
        Ok(m) if m.is_dir() => Ok((parent, name)),
        Ok(_) => Err(Error::missing(format!("{} is not a directory", parent.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::missing(format!("the directory {} does not exist", parent.display()))
                .hint(format!("mkdir -p {}", parent.display())))
        }
        Err(e) => Err(Error::reading(e)),
    }
}

static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Removes what dead runs left in `directory`; once per directory and process.
///
/// A directory that had stepped aside for a new one that never came is put back.
pub fn sweep_stale(directory: &Path) {
    {
        let mut swept = locked(&SWEPT);
        if !swept.get_or_insert_default().insert(directory.to_path_buf()) {
            return;
        }
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        let marked = |mark: &str| {
            let at = bytes.len().checked_sub(mark.len() + 16)?;
            (bytes[0] == b'.' && &bytes[at..at + mark.len()] == mark.as_bytes()).then_some(at)
        };
        if let Some(at) = marked(ASIDE) {
            let target = directory.join(OsStr::from_bytes(&bytes[1..at]));
            if fs::symlink_metadata(&target).is_err() {
                let _ = fs::rename(entry.path(), target);
            } else {
                remove(&entry.path());
            }
        } else if marked(MARK).is_some() {
            // Somebody else's FIFO of such a name is not waited for.
            let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
            let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(entry.path())
            else {
                continue;
            };
            if !file.metadata().is_ok_and(|m| m.is_file() || m.is_dir()) {
                continue;
            }
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove(&entry.path());
            }
        }
    }
}

pub(super) fn remove(path: &Path) {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    if is_dir {
        // Another thread may still have been making a file in it.
        for _ in 0..100 {
            match fs::remove_dir_all(path) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
    } else {
        let _ = fs::remove_file(path);
    }
}

fn exists_error() -> Error {
    Error::exists("the output exists").hint("use --force to replace it, or --if-exists skip")
}

/// Is something (a link counts itself) at the target, and may it be replaced?
fn check_target(path: &Path, existing: Existing) -> Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(m) if existing == Existing::Replace => Ok(Some(m)),
        Ok(_) => Err(exists_error()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::reading(e)),
    }
}

/// Who may read and write what is replaced: the same may do it with the new one, and its owner, who
/// writes it. Of a link, which is replaced itself, that says nothing.
fn kept_mode(old: &fs::Metadata) -> Option<u32> {
    let owner = if old.is_dir() { 0o700 } else { 0o600 };
    (old.is_file() || old.is_dir()).then(|| old.mode() & 0o777 | owner)
}

/// Renames without replacing; an `EEXIST` means that somebody else was quicker.
pub(super) fn rename_fresh(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        RenameFlags::NOREPLACE,
    ) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists_error()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(exists_error());
            }
            Ok(fs::rename(from, to)?)
        }
        Err(e) => Err(io::Error::from(e).into()),
    }
}

/// Makes a temporary output, which is removed again unless it is committed; `None` where the name
/// is taken.
pub(super) fn make_temp<T>(
    parent: &Path,
    temp: &Path,
    make: impl FnOnce() -> io::Result<T>,
) -> Result<Option<(T, cleanup::Guard)>> {
    let undo_path = temp.to_path_buf();
    let undo: cleanup::Undo = Box::new(move || remove(&undo_path));
    match cleanup::made(|| io::Result::Ok((make()?, undo))) {
        Ok(made) => Ok(Some(made)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::failed(format!("no permission to write in {}", parent.display())))
        }
        Err(e) => Err(e.into()),
    }
}

struct LocalOutput {
    file: Arc<File>,
    writer: io::BufWriter<SharedFile>,
    temp: PathBuf,
    target: PathBuf,
    replace: bool,
    sync: bool,
    guard: Option<cleanup::Guard>,
}

/// Writes through a shared handle.
struct SharedFile(Arc<File>);

impl Write for SharedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn create_file(path: &Path, existing: Existing, sync: bool) -> Result<Box<dyn Output>> {
    let (parent, name) = split(path)?;
    let old = check_target(path, existing)?;
    if old.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Error::exists("the output is an existing directory")
            .hint("end it with / to write into it"));
    }
    let mode = old.as_ref().and_then(kept_mode);
    sweep_stale(&parent);
    loop {
        let temp = parent.join(temp_name(&name, MARK));
        let make = || {
            let mut new = OpenOptions::new();
            // Nobody else may read it meanwhile, either.
            new.read(true).write(true).create_new(true).mode(mode.unwrap_or(0o666));
            let file = new.open(&temp)?;
            if let Some(mode) = mode {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            Ok(file)
        };
        let Some((file, guard)) = make_temp(&parent, &temp, make)? else { continue };
        if !try_lock(&file)? || file.metadata()?.nlink() == 0 {
            // A sweep took it between creation and lock.
            continue;
        }
        let file = Arc::new(file);
        return Ok(Box::new(LocalOutput {
            writer: io::BufWriter::with_capacity(1 << 18, SharedFile(file.clone())),
            file,
            temp,
            target: path.to_path_buf(),
            replace: existing == Existing::Replace,
            sync,
            guard: Some(guard),
        }));
    }
}

impl Write for LocalOutput {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Output for LocalOutput {
    fn file(&self) -> Option<Arc<File>> {
        Some(self.file.clone())
    }
    fn path(&self) -> Option<&Path> {
        Some(&self.temp)
    }
    fn commit(mut self: Box<Self>) -> Result<()> {
        self.writer.flush()?;
        // What is replaced must not be lost to a power cut that comes before the new bytes are on
        // the disk.
        if self.sync || self.replace && fs::symlink_metadata(&self.target).is_ok() {
            self.file.sync_all()?;
        }
        let (temp, target, replace) = (self.temp.clone(), self.target.clone(), self.replace);
        let commit = move || {
            if replace { Ok(fs::rename(&temp, &target)?) } else { rename_fresh(&temp, &target) }
        };
        match self.guard.take() {
            Some(guard) => guard.commit(commit)?,
            None => commit()?,
        }
        if self.sync {
            sync_parent(&self.target)?;
        }
        Ok(())
    }
}

pub(super) fn sync_parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

struct LocalDir {
    temp: PathBuf,
    target: PathBuf,
    handle: File,
    replace: bool,
    sync: bool,
    /// What a directory has that may be replaced.
    markers: Vec<String>,
    guard: Option<cleanup::Guard>,
}

impl Drop for LocalDir {
    /// The directory is in its place by now, where others may want to lock it.
    fn drop(&mut self) {
        unlock(&self.handle);
    }
}

struct DirFile {
    file: Arc<File>,
    writer: io::BufWriter<SharedFile>,
}

impl Write for DirFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Output for DirFile {
    fn file(&self) -> Option<Arc<File>> {
        Some(self.file.clone())
    }
    fn commit(mut self: Box<Self>) -> Result<()> {
        Ok(self.writer.flush()?)
    }
}

pub(super) fn create_dir(
    path: &Path,
    existing: Existing,
    sync: bool,
    markers: &[&str],
) -> Result<Box<dyn OutputDir>> {
    let (parent, name) = split(path)?;
    let old = check_target(path, existing)?;
    if old.is_some() {
        replaceable(path, markers)?;
    }
    let mode = old.as_ref().filter(|old| old.is_dir()).and_then(kept_mode);
    sweep_stale(&parent);
    loop {
        let temp = parent.join(temp_name(&name, MARK));
        let make = || {
            fs::DirBuilder::new().mode(mode.unwrap_or(0o777)).create(&temp)?;
            match mode {
                Some(mode) => fs::set_permissions(&temp, fs::Permissions::from_mode(mode)),
                None => Ok(()),
            }
        };
        let Some(((), guard)) = make_temp(&parent, &temp, make)? else { continue };
        // A sweep of another thread or run may take it between creation and lock.
        let handle = match File::open(&temp) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && parent.is_dir() => continue,
            opened => opened?,
        };
        if !try_lock(&handle)? || fs::symlink_metadata(&temp).is_err() {
            continue;
        }
        return Ok(Box::new(LocalDir {
            temp,
            target: path.to_path_buf(),
            handle,
            replace: existing == Existing::Replace,
            sync,
            markers: markers.iter().map(|m| m.to_string()).collect(),
            guard: Some(guard),
        }));
    }
}

fn replaceable(path: &Path, markers: &[impl AsRef<str>]) -> Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|m| !m.is_dir()) {
        return Ok(()); // a file or a link: the link itself is replaced
    }
    let empty = fs::read_dir(path).map_err(Error::reading)?.next().is_none();
    if empty || markers.iter().any(|m| path.join(m.as_ref()).exists()) {
        return Ok(());
    }
    Err(Error::exists(
        "the output is an existing directory that is not of this format; it is not replaced",
    )
    .hint("give another name, or end it with / to write into it"))
}

impl LocalDir {
    /// Makes a file, found from the directory itself: once that was removed, nothing is made in its
    /// place.
    fn make(&self, relative: &str) -> Result<File> {
        let _adding = cleanup::enter();
        // Mostly its folder is there.
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, relative, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::NOENT) if relative.contains('/') => {
                read::open_below(self.handle.as_fd(), relative, true)
            }
            Err(e) => Err(io::Error::from(e).into()),
        }
    }
}

impl OutputDir for LocalDir {
    fn create(&self, relative: &str) -> Result<Box<dyn Output>> {
        let file = Arc::new(self.make(relative)?);
        Ok(Box::new(DirFile {
            writer: io::BufWriter::with_capacity(1 << 16, SharedFile(file.clone())),
            file,
        }))
    }
    fn path(&self) -> Option<&Path> {
        Some(&self.temp)
    }
    fn commit(mut self: Box<Self>, last: &[(&str, &[u8])]) -> Result<()> {
        let there = || self.replace && fs::symlink_metadata(&self.target).is_ok();
        let replaces = there();
        for (name, bytes) in last {
            self.make(name)?.write_all(bytes)?;
        }
        if self.sync || replaces {
            platform::sync_all(&self.handle)?;
        }
        let guard = self
            .guard
            .take()
            .ok_or_else(|| Error::internal("the directory was committed twice"))?;
        // Another run may have made it meanwhile.
        let swapped = guard.uninterrupted(|| {
            if !there() {
                match rename_fresh(&self.temp, &self.target) {
                    Err(e) if self.replace && e.kind() == ErrorKind::Exists => {}
                    renamed => return renamed.map(|()| false),
                }
            }
            replaceable(&self.target, &self.markers)?;
            swap(&self.temp, &self.target).map(|()| true)
        })?;
        if swapped {
            // Under the name of the new directory is the old one now: the undo removes that.
            drop(guard);
        } else {
            guard.commit(|| Ok::<(), Error>(()))?;
        }
        if self.sync {
            sync_parent(&self.target)?;
        }
        Ok(())
    }
}

/// Puts the new directory at the target and leaves the old one at `temp`.
pub(super) fn swap(temp: &Path, target: &Path) -> Result<()> {
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        temp,
        rustix::fs::CWD,
        target,
        RenameFlags::EXCHANGE,
    ) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let name = target.file_name().unwrap_or_default();
            let aside = target.with_file_name(temp_name(name, ASIDE));
            fs::rename(target, &aside)?;
            if let Err(e) = fs::rename(temp, target) {
                let _ = fs::rename(&aside, target);
                return Err(e.into());
            }
            remove(&aside);
            Ok(())
        }
        Err(e) => Err(io::Error::from(e).into()),
    }
}
