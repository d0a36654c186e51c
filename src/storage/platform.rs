//! What systems do in ways of their own. Linux is what npk is made for and tried on; the other half
//! does the same with plain POSIX and more work: copies go through a buffer, room on the disk is not
//! asked for before it is needed. `--cfg npk_portable` builds that half on Linux, where the tests
//! run on it.

pub use half::*;

#[cfg(all(target_os = "linux", not(npk_portable)))]
mod half {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{FallocateFlags, OFlags};
    use rustix::rand::GetRandomFlags;

    /// How a directory is opened in which names will be looked up, and nothing is listed.
    pub const LOOKUP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    /// Copies at most `bytes` from file to file in the kernel, and moves both places on.
    ///
    /// # Errors
    /// What the system says; there may be other ways.
    pub fn copy_range(
        (from, read): (&File, &mut u64),
        (to, write): (&File, &mut u64),
        bytes: usize,
    ) -> rustix::io::Result<usize> {
        rustix::fs::copy_file_range(from, Some(read), to, Some(write), bytes)
    }

    /// Gives a file room for bytes that are about to be written; its size stays.
    ///
    /// # Errors
    /// No room; file systems that cannot.
    pub fn reserve(file: &File, at: u64, bytes: u64) -> rustix::io::Result<()> {
        rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, at, bytes)
    }

    /// The kind of the file system that a file is on, as linux/magic.h has it.
    pub fn file_system(file: &File) -> Option<u64> {
        rustix::fs::fstatfs(file).ok().map(|f| f.f_type as u64 & 0xffff_ffff)
    }

    /// As [`file_system`], of a path.
    pub fn file_system_at(path: &Path) -> Option<u64> {
        rustix::fs::statfs(path).ok().map(|f| f.f_type as u64 & 0xffff_ffff)
    }

    /// All that was written to the file system of this file is on the disk.
    ///
    /// # Errors
    /// What could not be written.
    pub fn sync_all(file: impl AsFd) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }

    /// Fills with what nobody can guess.
    ///
    /// # Errors
    /// What the system says.
    pub fn random(bytes: &mut [u8]) -> io::Result<()> {
        rustix::rand::getrandom(bytes, GetRandomFlags::empty())?;
        Ok(())
    }

    /// The pages of a map are there, as far as they can be had.
    pub fn populate(map: &memmap2::Mmap) {
        let _ = map.advise(memmap2::Advice::PopulateRead);
    }

    /// Huge pages make a look at many names faster, but all of one counts as held where little of
    /// it is used: what moves data within a memory limit does without.
    pub fn without_huge_pages() {
        // SAFETY: a setting of this process, which an older kernel may refuse.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    }
}

#[cfg(not(all(target_os = "linux", not(npk_portable))))]
mod half {
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::OFlags;
    use rustix::io::Errno;

    /// How a directory is opened in which names will be looked up.
    pub const LOOKUP: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

    /// Not here: bytes go through a buffer.
    ///
    /// # Errors
    /// Always.
    pub fn copy_range(
        _from: (&File, &mut u64),
        _to: (&File, &mut u64),
        _bytes: usize,
    ) -> rustix::io::Result<usize> {
        Err(Errno::NOSYS)
    }

    /// Nothing: the writes find their room.
    ///
    /// # Errors
    /// None.
    pub fn reserve(_file: &File, _at: u64, _bytes: u64) -> rustix::io::Result<()> {
        Ok(())
    }

    /// Not known here.
    pub fn file_system(_file: &File) -> Option<u64> {
        None
    }

    /// Not known here.
    pub fn file_system_at(_path: &Path) -> Option<u64> {
        None
    }

    /// All that was written to any file system is on its way to the disk, this file on it.
    ///
    /// # Errors
    /// What could not be written.
    pub fn sync_all(file: impl AsFd) -> io::Result<()> {
        rustix::fs::sync();
        Ok(rustix::fs::fsync(file)?)
    }

    /// Fills with what nobody can guess.
    ///
    /// # Errors
    /// What the system says.
    pub fn random(bytes: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(bytes)
    }

    /// Nothing: pages come when they are touched.
    pub fn populate(_map: &memmap2::Mmap) {}

    /// Nothing: a setting of Linux.
    pub fn without_huge_pages() {}
}
