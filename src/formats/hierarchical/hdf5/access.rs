//! Which files may be opened on behalf of a file, and the driver that opens them for the library.
//!
//! A file can name others: sources of virtual datasets, targets of external links, raw data. A file
//! from elsewhere must not choose which files of this machine are shown, so only those below its
//! own folder are opened, unless `--follow-external` says otherwise; the path counts as it is after
//! all symbolic links. Only regular files are opened, so that no pipe or device can be waited for.
//!
//! The library finds files by several rules (absolute paths, environment variables, the folder of
//! the file, the working directory) and opens them all with the driver of the first, which is the
//! one in `driver`: so this rule holds for every one of them.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::{Error, SKIP_ARRAY, locked};

/// The flag that lifts the rule.
const FLAG: &str = "--follow-external";

/// The files that may be opened on behalf of one file.
pub(super) struct Access {
    /// The file itself.
    main: PathBuf,
    /// The folders (without symbolic links) of the file as it was named, and as it is.
    folders: Vec<PathBuf>,
    everywhere: bool,
    is_copy: bool,
    /// What was not opened since it was last asked.
    denied: Mutex<Vec<Denied>>,
}

/// A file that was not opened.
#[derive(Clone, Debug)]
pub(super) enum Denied {
    /// It is not there.
    Missing(PathBuf),
    /// It is not below the folder.
    Outside(PathBuf),
    /// The file that names it is a temporary copy, beside which are files of others.
    Copy(PathBuf),
    /// A pipe, a device, a folder.
    NotRegular(PathBuf),
    /// The system says no.
    Unreadable(PathBuf, ErrorKind),
}

impl Denied {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Denied::Missing(_))
    }
    /// The refusal: `what` names the file, as `its values are in`.
    pub(super) fn error(&self, what: &str) -> Error {
        let (path, why, hint) = match self {
            Denied::Missing(path) => (path, "which is missing".to_string(), SKIP_ARRAY.to_string()),
            Denied::Outside(path) => (
                path,
                "which is not below the folder of this file".to_string(),
                format!("{FLAG} reads it all the same, if you trust this file"),
            ),
            Denied::Copy(path) => (
                path,
                "and other files are not read for an input that is not a local file".to_string(),
                "copy it and the files that it names to a local folder".to_string(),
            ),
            Denied::NotRegular(path) => {
                (path, "which is not a regular file".to_string(), SKIP_ARRAY.to_string())
            }
            Denied::Unreadable(path, kind) => {
                (path, format!("which cannot be opened ({kind})"), SKIP_ARRAY.to_string())
            }
        };
        Error::refused(format!("{what} {path:?}, {why}")).hint(hint)
    }
}

impl Access {
    /// For a file. `is_copy`: its path is that of a temporary copy.
    pub(super) fn new(path: &Path, is_copy: bool, everywhere: bool) -> Arc<Access> {
        let folder = |path: &Path| {
            let folder =
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            folder.canonicalize().ok()
        };
        let target = path.canonicalize().ok();
        let folders =
            [folder(path), target.as_deref().and_then(folder)].into_iter().flatten().collect();
        Arc::new(Access {
            main: path.to_path_buf(),
            folders,
            everywhere,
            is_copy,
            denied: Mutex::default(),
        })
    }

    /// Opens a file for reading, if that is allowed.
    pub(super) fn open(&self, path: &Path) -> std::result::Result<File, Denied> {
        let opened = self.try_open(path);
        if let Err(denied) = &opened {
            locked(&self.denied).push(denied.clone());
        }
        opened
    }

    fn try_open(&self, path: &Path) -> std::result::Result<File, Denied> {
        let unreadable = |e: std::io::Error| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Denied::Missing(path.to_path_buf()),
            kind => Denied::Unreadable(path.to_path_buf(), kind),
        };
        if path == self.main {
            return File::open(path).map_err(unreadable);
        }
        if self.is_copy {
            return Err(Denied::Copy(path.to_path_buf()));
        }
        let real = path.canonicalize().map_err(unreadable)?;
        if !self.everywhere && !self.folders.iter().any(|folder| real.starts_with(folder)) {
            return Err(Denied::Outside(path.to_path_buf()));
        }
        // Opening a pipe waits for its writer, unless it is told not to.
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits();
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags as i32).open(&real).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(Denied::NotRegular(path.to_path_buf()));
        }
        Ok(file)
    }

    /// Why files could not be opened since this was last asked: the one reason that matters most.
    pub(super) fn denied(&self) -> Option<Denied> {
        let all = std::mem::take(&mut *locked(&self.denied));
        // Of all places where the library looks, most are usually empty.
        all.into_iter().rev().max_by_key(|d| !d.is_missing())
    }
}
