//! Copies bytes file to file in the kernel: they are never read into a buffer of this process.
//!
//! Two ways. `copy_file_range` shares extents or copies on the server where the file system can
//! ([`offloads`]), and is the fastest where each thread has a file of its own. Where several pieces
//! go into one file, the source is mapped and handed to `write` instead: the pages are made ready
//! by all threads at once, and only the copying itself, which the kernel does for one writer of a
//! file at a time, waits for its turn. The mapping is never read here, so that a source that is cut
//! short meanwhile is an error of `write`, not a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::settings::OutputName;
use crate::array::raw::write_all_at;
use crate::error::{Error, Result};
use crate::format::Extent;
use crate::storage::{cleanup, platform, unchanged};

/// The most bytes of a piece that are mapped at a time, by each thread: they count as resident.
pub(super) const MAPPED_BYTES: u64 = 4 << 20;
/// The most bytes of one `copy_file_range`: what moves between two signs of progress.
const RANGE_BYTES: u64 = 32 << 20;
/// Below this, making a mapping costs more than it saves.
const LEAST_MAPPED_BYTES: u64 = 256 << 10;

/// Told the bytes that were copied, and whether the kernel alone did it; answers whether to go on
/// (another thread may have failed).
pub(super) type Moved<'a> = &'a dyn Fn(u64, bool) -> bool;

/// Cuts two descriptions of the same bytes into matching pieces of at most `piece` bytes.
///
/// # Errors
/// When the lengths differ (a bug, or a hostile header that got this far).
pub(super) fn pair(from: &[Extent], to: &[Extent], piece: u64) -> Result<Vec<(Extent, Extent)>> {
    let total = |e: &[Extent]| e.iter().map(|e| e.len).sum::<u64>();
    if total(from) != total(to) {
        return Err(Error::corrupt(format!(
            "the file has {} bytes, expected {}",
            total(from),
            total(to)
        )));
    }
    let (mut pairs, mut f, mut t) = (Vec::new(), from.iter().cloned(), to.iter().cloned());
    let (mut a, mut b) = (f.next(), t.next());
    while let (Some(x), Some(y)) = (&mut a, &mut b) {
        let n = x.len.min(y.len).min(piece);
        if n > 0 {
            pairs.push((Extent { len: n, ..x.clone() }, Extent { len: n, ..y.clone() }));
        }
        for e in [&mut *x, &mut *y] {
            e.offset += n;
            e.len -= n;
        }
        if x.len == 0 {
            a = f.next();
        }
        if b.as_ref().is_some_and(|y| y.len == 0) {
            b = t.next();
        }
    }
    Ok(pairs)
}

/// The file that pieces go into now.
#[derive(Clone)]
pub(super) struct Target {
    file: Arc<File>,
    offloads: bool,
    /// What the output is called in errors of writing.
    name: OutputName,
}

impl Target {
    /// The target of a piece for `to`: `last`, if that is the same file.
    pub(super) fn of(to: &Extent, last: Option<&Target>, name: &OutputName) -> Target {
        match last {
            Some(last) if Arc::ptr_eq(&last.file, &to.file) => last.clone(),
            _ => Target { file: to.file.clone(), offloads: offloads(&to.file), name: name.clone() },
        }
    }

    /// An error of writing.
    fn failed(&self, error: io::Error) -> Error {
        self.name.on(error.into())
    }

    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Target) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }

    /// Copies one piece into it; `shared` where other threads have pieces for it, too.
    ///
    /// # Errors
    /// Corrupt where the source ends early (it was truncated since it was opened); failed where it
    /// was changed; disk full and the like.
    pub(super) fn copy(
        &self,
        from: &Extent,
        to: &Extent,
        shared: bool,
        moved: Moved<'_>,
    ) -> Result<()> {
        if self.offloads || !shared || from.len < LEAST_MAPPED_BYTES {
            self.by_range(from, to, moved)?;
        } else {
            self.mapped(from, to, moved)?;
        }
        unchanged(&from.file)
    }

    fn mapped(&self, from: &Extent, to: &Extent, moved: Moved<'_>) -> Result<()> {
        let mut done = 0;
        while done < from.len {
            // Windows end where pages of the target do.
            let len = (from.len - done).min(MAPPED_BYTES - (to.offset + done) % MAPPED_BYTES);
            let (read, write) = (from.offset + done, to.offset + done);
            let Ok(pages) = map(&from.file, read, len) else {
                let rest = |e: &Extent| Extent {
                    offset: e.offset + done,
                    len: from.len - done,
                    ..e.clone()
                };
                return self.by_range(&rest(from), &rest(to), moved);
            };
            let _adding = cleanup::enter();
            match write_all_at(&self.file, &pages, write) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() != Some(Errno::FAULT.raw_os_error()) => {
                    return Err(self.failed(e));
                }
                Err(_) if reaches(&from.file, read + len)? => {
                    return Err(Error::reading(Errno::IO.into()));
                }
                Err(_) => return Err(ends_early(from)),
            }
            // The rest of a page behind the end of the file would have been written as zeros.
            if !reaches(&from.file, read + len)? {
                return Err(ends_early(from));
            }
            done += len;
            if !moved(len, true) {
                break;
            }
        }
        Ok(())
    }

    /// By `copy_file_range`.
    fn by_range(&self, from: &Extent, to: &Extent, moved: Moved<'_>) -> Result<()> {
        let (mut read, mut write, mut left) = (from.offset, to.offset, from.len);
        while left > 0 {
            let n = left.min(RANGE_BYTES) as usize;
            let _adding = cleanup::enter();
            match platform::copy_range((&from.file, &mut read), (&self.file, &mut write), n) {
                Ok(0) => return Err(ends_early(from)),
                Ok(done) => {
                    left -= done as u64;
                    if !moved(done as u64, true) {
                        return Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(self.failed(e.into()));
                }
                // What the kernel cannot do at once; and on which side a device fails, which only
                // two calls tell.
                Err(_) => return self.plain(from, read, write, left, moved),
            }
        }
        Ok(())
    }

    /// Through a buffer: across file systems that the kernel does not bridge.
    fn plain(
        &self,
        from: &Extent,
        mut read: u64,
        mut write: u64,
        mut left: u64,
        moved: Moved<'_>,
    ) -> Result<()> {
        let mut buffer = vec![0; left.min(1 << 20) as usize];
        while left > 0 {
            let n = left.min(buffer.len() as u64) as usize;
            let got = match from.file.read_at(&mut buffer[..n], read) {
                Ok(0) => return Err(ends_early(from)),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::reading(e)),
            };
            let _adding = cleanup::enter();
            self.file.write_all_at(&buffer[..got], write).map_err(|e| self.failed(e))?;
            read += got as u64;
            write += got as u64;
            left -= got as u64;
            if !moved(got as u64, false) {
                break;
            }
        }
        Ok(())
    }
}

/// Maps a piece of the source, with its pages there.
fn map(from: &File, offset: u64, len: u64) -> io::Result<memmap2::Mmap> {
    // SAFETY: the bytes are only handed to the kernel, which answers EFAULT where the file does not
    // reach so far any more; nothing here reads them.
    let pages = unsafe { memmap2::MmapOptions::new().offset(offset).len(len as usize).map(from) }?;
    // A kernel without this, or a page that cannot be had: `write` finds out.
    platform::populate(&pages);
    Ok(pages)
}

fn reaches(file: &File, end: u64) -> Result<bool> {
    Ok(file.metadata().map_err(Error::reading)?.len() >= end)
}

/// Whether the file system can do better than to copy byte by byte: it shares extents, or its
/// server copies.
fn offloads(file: &File) -> bool {
    platform::file_system(file).is_some_and(is_able)
}

/// As [`offloads`], of the file system below a directory: a copy there may take no room.
pub fn may_share(directory: &Path) -> bool {
    platform::file_system_at(directory).is_some_and(is_able)
}

fn is_able(file_system: u64) -> bool {
    /// btrfs, XFS, bcachefs, ZFS, OCFS2, NFS, CIFS, SMB 2, Ceph (linux/magic.h).
    const ABLE: [u64; 9] = [
        0x9123_683e,
        0x5846_5342,
        0xca45_1a4e,
        0x2fc1_2fc1,
        0x7461_636f,
        0x6969,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
    ];
    ABLE.contains(&file_system)
}

fn ends_early(from: &Extent) -> Error {
    Error::corrupt(format!(
        "the file ended before byte {}: it was truncated while it was read",
        from.offset + from.len
    ))
}
