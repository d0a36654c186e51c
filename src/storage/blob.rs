//! Ranged reads.

use std::io::Read;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Where stored bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The absolute path of a local file, or the URL of an object.
    pub address: String,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

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
    /// The local file that holds the byte at `offset`, and where in it.
    fn file_at(&self, offset: u64) -> Option<(&Arc<std::fs::File>, u64)> {
        self.file().map(|file| (file, offset))
    }
    /// Whether every read is a request to a server.
    fn is_remote(&self) -> bool {
        false
    }
    /// Where its bytes are, for others who read them there; `None` where they are in no file.
    fn origin(&self) -> Option<Origin> {
        None
    }
    /// Reads `len` bytes at `offset`; the length is compared with the blob's before anything is
    /// allocated.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        check_range(offset, len, self.len())?;
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

/// Checks that a blob of `whole` bytes has these.
///
/// # Errors
/// Corrupt where it has not.
pub(super) fn check_range(offset: u64, len: u64, whole: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= whole => Ok(()),
        _ => Err(Error::corrupt(format!(
            "{len} bytes are expected at byte {offset}, the file has {whole}"
        ))),
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

/// A run of bytes in a blob, and a blob itself. It has no [`Blob::file`], whose bytes would count from
/// elsewhere: [`Blob::file_at`] knows both.
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
    fn origin(&self) -> Option<Origin> {
        let origin = self.blob.origin()?;
        Some(Origin { offset: origin.offset + self.start, len: self.len, ..origin })
    }
    fn file_at(&self, offset: u64) -> Option<(&Arc<std::fs::File>, u64)> {
        self.blob.file_at(self.start.checked_add(offset)?)
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
