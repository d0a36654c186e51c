//! Raw data in other files: the bytes of a dataset as pieces of files, in C order.

use std::ffi::{OsStr, c_int};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::Access;
use super::library::{self, Id, Library};
use crate::error::{Error, Result};
use crate::storage::Blob;

/// The pieces of files that hold a dataset. They are opened whenever they are read: there may be
/// any number of them.
pub(super) struct External {
    segments: Vec<Segment>,
    access: Arc<Access>,
}

struct Segment {
    /// The bytes of the dataset that it holds.
    first: u64,
    bytes: u64,
    /// Where they begin in the file.
    offset: u64,
    path: PathBuf,
}

impl Segment {
    fn open(&self, access: &Access) -> Result<File> {
        let file = access.open(&self.path).map_err(|denied| denied.error("its values are in"))?;
        let all = file.metadata().map_err(Error::reading)?.len();
        let Segment { bytes, offset, path, .. } = self;
        match offset.checked_add(*bytes).is_some_and(|end| end <= all) {
            true => Ok(file),
            false => Err(Error::corrupt(format!(
                "{bytes} bytes of its values are in {path:?} from byte {offset} on, that file has {all} bytes"
            ))),
        }
    }
}

impl External {
    /// Finds the files that a dataset of `total` bytes is in.
    ///
    /// # Errors
    /// A file that is missing or that may not be read; corrupt where one is too short.
    pub(super) fn find(
        lib: &Library,
        data: &Id,
        plist: &Id,
        files: c_int,
        total: u64,
        access: &Arc<Access>,
    ) -> Result<External> {
        let folder = folder(lib, data)?;
        let mut segments = Vec::new();
        let mut first = 0u64;
        for index in 0..u32::try_from(files).unwrap_or(0) {
            let (mut name, mut offset, mut room) = (vec![0u8; 4096], 0i64, 0);
            // SAFETY: an open property list; the buffer is as long as told, and its last byte stays
            // 0.
            let code = unsafe {
                lib.H5Pget_external(
                    plist.raw(),
                    index,
                    name.len() - 1,
                    name.as_mut_ptr().cast(),
                    &mut offset,
                    &mut room,
                )
            };
            library::check(code, "its list of external files is damaged")?;
            let bytes = room.min(total - first);
            if bytes == 0 {
                continue;
            }
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            let path = folder.join(OsStr::from_bytes(name));
            let offset = u64::try_from(offset)
                .map_err(|_| Error::corrupt("its list of external files is damaged"))?;
            let segment = Segment { first, bytes, offset, path };
            segment.open(access)?;
            segments.push(segment);
            first += bytes;
        }
        if first < total {
            return Err(Error::corrupt(format!(
                "it has {total} bytes, its external files have room for {first}"
            )));
        }
        Ok(External { segments, access: access.clone() })
    }
}

impl Blob for External {
    fn len(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.first + last.bytes)
    }

    fn read_at(&self, at: u64, mut to: &mut [u8]) -> Result<()> {
        let mut at = at;
        for segment in &self.segments {
            let within = at.wrapping_sub(segment.first);
            if to.is_empty() || at < segment.first || within >= segment.bytes {
                continue;
            }
            let bytes = (segment.bytes - within).min(to.len() as u64);
            let (head, rest) = to.split_at_mut(bytes as usize);
            segment
                .open(&self.access)?
                .read_exact_at(head, segment.offset + within)
                .map_err(Error::reading)?;
            (to, at) = (rest, at + bytes);
        }
        if to.is_empty() { Ok(()) } else { Err(Error::internal("external values past their end")) }
    }
}

/// The folder that names of raw data are relative to: that of the file, or the one that the
/// environment gives.
fn folder(lib: &Library, data: &Id) -> Result<PathBuf> {
    let file = file_name(lib, data)?;
    let own = file.parent().unwrap_or(Path::new("")).to_path_buf();
    Ok(match std::env::var_os("HDF5_EXTFILE_PREFIX").filter(|p| !p.is_empty()) {
        None => own,
        Some(prefix) => match prefix.as_bytes().strip_prefix(b"${ORIGIN}") {
            Some(rest) => own.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))),
            None => PathBuf::from(prefix),
        },
    })
}

/// The name of the file that an object is in.
///
/// # Errors
/// Where the library does not tell it.
pub(super) fn file_name(lib: &Library, object: &Id) -> Result<PathBuf> {
    // SAFETY: the buffer has the length that is told.
    let get = |to, size| unsafe { lib.H5Fget_name(object.raw(), to, size) };
    let name = lib.text(get, "its file is not known")?;
    Ok(PathBuf::from(OsStr::from_bytes(&name)))
}
