//! Decoded chunks that several pieces of rows need: kept in memory while they are small, on disk
//! otherwise.
//!
//! A chunk is decoded once. Where all chunks beside each other do not fit into the share of memory
//! that they may have, they are decoded into a temporary file, as a stream where the filters allow
//! it; rows are then read from there.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::codec::shuffle::unshuffle;
use crate::error::{Error, Result};
use crate::storage::temporary;

/// A decoded chunk.
pub(super) enum Decoded {
    /// In memory, within the share of it that decoded chunks may have.
    Memory { bytes: Vec<u8>, _share: Share },
    /// In the temporary file; `shuffled`: bytes of an element, where they still lie apart as the
    /// filter left them.
    Disk { region: Region, shuffled: Option<usize> },
}

impl Decoded {
    /// The bytes `start..end` of the chunk: whole elements.
    ///
    /// # Errors
    /// Reading errors.
    pub(super) fn part(&self, start: usize, end: usize) -> Result<Vec<u8>> {
        match self {
            Decoded::Memory { bytes, .. } => Ok(bytes[start..end].to_vec()),
            Decoded::Disk { region, shuffled: None } => region.read(start as u64, end - start),
            Decoded::Disk { region, shuffled: Some(size) } => {
                // All first bytes, then all second ones: of each the part that belongs to these
                // elements.
                let plane = region.bytes / *size as u64;
                let (first, count) = (start / size, (end - start) / size);
                let mut planes = vec![0; end - start];
                for (n, part) in planes.chunks_exact_mut(count.max(1)).enumerate() {
                    region.read_into(n as u64 * plane + first as u64, part)?;
                }
                let mut out = vec![0; planes.len()];
                unshuffle(&planes, *size, &mut out);
                Ok(out)
            }
        }
    }
}

/// Bytes of memory that a decoded chunk holds, given back when dropped.
pub(super) struct Share {
    held: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file for decoded chunks, made when the first one is to be put there. Places are used again.
#[derive(Default)]
pub(super) struct Spool {
    file: OnceLock<File>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    end: u64,
    free: Vec<(u64, u64)>,
}

/// Bytes of the spool, given back when dropped.
pub(super) struct Region {
    spool: Arc<Spool>,
    at: u64,
    bytes: u64,
}

impl Spool {
    /// A place for so many bytes.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub(super) fn region(self: &Arc<Spool>, bytes: u64) -> Result<Region> {
        if self.file.get().is_none() {
            let _ = self.file.set(temporary::file()?);
        }
        let mut places = self.places.lock().unwrap_or_else(|e| e.into_inner());
        let at = match places.free.iter().position(|&(_, room)| room == bytes) {
            Some(n) => places.free.swap_remove(n).0,
            None => {
                let at = places.end;
                places.end = at.saturating_add(bytes);
                at
            }
        };
        Ok(Region { spool: self.clone(), at, bytes })
    }
}

impl Region {
    fn file(&self) -> Result<&File> {
        self.spool.file.get().ok_or_else(|| Error::internal("a region without a file"))
    }

    /// Puts bytes at a place within.
    ///
    /// # Errors
    /// Disk full and the like.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Error::internal("bytes past the end of a region"));
        }
        self.file()?.write_all_at(bytes, self.at + at).map_err(temporary::error)
    }

    fn read_into(&self, at: u64, to: &mut [u8]) -> Result<()> {
        self.file()?.read_exact_at(to, self.at + at).map_err(temporary::error)
    }

    fn read(&self, at: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut to = vec![0; bytes];
        self.read_into(at, &mut to)?;
        Ok(to)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut places = self.spool.places.lock().unwrap_or_else(|e| e.into_inner());
        places.free.push((self.at, self.bytes));
    }
}

/// A chunk: the dataset, the leaf where chunks are decoded leaf by leaf, and its number.
pub(super) type Key = (usize, usize, u64);

/// So many chunks are kept at most: only rows that nobody asks for keep one longer than it is
/// needed.
const MAX_KEPT: usize = 1 << 16;

/// The decoded chunks of a file.
#[derive(Default)]
pub(super) struct Cache {
    inner: Mutex<Inner>,
    held: Arc<AtomicU64>,
    pub(super) spool: Arc<Spool>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Arc<Entry>>,
    order: VecDeque<Key>,
}

/// A chunk that was decoded, or is being decoded.
struct Entry {
    decoded: OnceLock<Result<Decoded>>,
    /// Rows that nobody has asked for yet.
    left: AtomicU64,
}

impl Cache {
    /// Room in memory for so many bytes more, if decoded chunks then hold `most` together.
    pub(super) fn share(&self, bytes: u64, most: u64) -> Option<Share> {
        let take = |held: u64| held.checked_add(bytes).filter(|&all| all <= most);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Share { held: self.held.clone(), bytes })
    }

    /// What `take` takes of the chunk, decoded by `decode` unless it is there already; another
    /// thread that needs it waits. `rows` of its `all` rows are taken now: when all were, it goes.
    ///
    /// # Errors
    /// Those of `take`; those of `decode`, for all who ask for it.
    pub(super) fn part(
        &self,
        key: Key,
        (rows, all): (u64, u64),
        decode: impl FnOnce() -> Result<Decoded>,
        take: impl FnOnce(&Decoded) -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let entry = self.entry(key, all);
        let taken = match entry.decoded.get_or_init(decode) {
            Ok(decoded) => take(decoded),
            Err(e) => Err(e.clone()),
        };
        let left = |left: u64| Some(left.saturating_sub(rows));
        if entry.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or(0) <= rows
        {
            let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
            inner.entries.remove(&key);
            inner.order.retain(|k| *k != key);
        }
        taken
    }

    fn entry(&self, key: Key, rows: u64) -> Arc<Entry> {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(entry) = inner.entries.get(&key) {
            return entry.clone();
        }
        if inner.order.len() >= MAX_KEPT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.entries.remove(&oldest);
        }
        let entry = Arc::new(Entry { decoded: OnceLock::new(), left: AtomicU64::new(rows) });
        inner.entries.insert(key, entry.clone());
        inner.order.push_back(key);
        entry
    }
}
