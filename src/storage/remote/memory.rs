//! What transfers may hold in memory: all of a process together.

use std::sync::OnceLock;

use bytes::Bytes;
use memmap2::MmapMut;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a memory limit is shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// A part of an upload: what is filled, or on its way.
    pub upload_part: usize,
    /// Small ranges are fetched together up to here; eight such groups may be on their way.
    pub group: u64,
    /// Pieces kept of the objects of one backend.
    pub windows: usize,
}

/// What parts on their way, in both directions, may hold together; counted in KiB.
static FLIGHT: OnceLock<Semaphore> = OnceLock::new();

/// Bytes that were reserved; given back when dropped.
pub(super) type Reserved = SemaphorePermit<'static>;

impl Memory {
    /// The shares of a limit. The first one that a process names counts for its parts on their way.
    pub fn of(limit_bytes: u64) -> Memory {
        let share = |part: u64, least: u64, most: u64| (limit_bytes / part).clamp(least, most);
        FLIGHT.get_or_init(|| Semaphore::new((share(4, 8 << 20, 8 << 30) >> 10) as usize));
        Memory {
            // No service takes parts of less than 5 MiB.
            upload_part: if limit_bytes < 128 << 20 { 5 << 20 } else { 8 << 20 },
            group: share(64, 256 << 10, 8 << 20),
            windows: share(32, 1 << 20, 8 << 20) as usize,
        }
    }

    /// Reserves room for a part, if there is any.
    pub fn reserve(self, bytes: u64) -> Option<Reserved> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).ok()?;
        FLIGHT.get()?.try_acquire_many(kib).ok()
    }
}

/// The bytes of a part. Large ones lie in pages of their own, which go back to the system: those of
/// an allocator that serves several threads would stay, part after part.
pub(super) enum PartBuffer {
    Small(Vec<u8>),
    Pages(MmapMut, usize),
}

/// What an allocator keeps well.
const SMALL: usize = 1 << 20;

impl Default for PartBuffer {
    fn default() -> PartBuffer {
        PartBuffer::Small(Vec::new())
    }
}

impl PartBuffer {
    /// Zeros.
    pub fn zeroed(bytes: usize) -> PartBuffer {
        match MmapMut::map_anon(bytes) {
            Ok(pages) if bytes > SMALL => PartBuffer::Pages(pages, bytes),
            _ => PartBuffer::Small(vec![0; bytes]),
        }
    }
    pub fn len(&self) -> usize {
        match self {
            PartBuffer::Small(bytes) => bytes.len(),
            PartBuffer::Pages(_, len) => *len,
        }
    }
    pub fn as_mut(&mut self) -> &mut [u8] {
        match self {
            PartBuffer::Small(bytes) => bytes,
            PartBuffer::Pages(pages, len) => &mut pages[..*len],
        }
    }
    /// Adds bytes; all together are no more than `most`.
    pub fn push(&mut self, more: &[u8], most: usize) {
        if let PartBuffer::Small(bytes) = self
            && bytes.len() + more.len() > SMALL
            && let Ok(mut pages) = MmapMut::map_anon(most)
        {
            pages[..bytes.len()].copy_from_slice(bytes);
            *self = PartBuffer::Pages(pages, bytes.len());
        }
        match self {
            PartBuffer::Small(bytes) => bytes.extend_from_slice(more),
            PartBuffer::Pages(pages, len) => {
                pages[*len..*len + more.len()].copy_from_slice(more);
                *len += more.len();
            }
        }
    }
    pub fn into_bytes(self) -> Bytes {
        match self {
            PartBuffer::Small(bytes) => bytes.into(),
            PartBuffer::Pages(pages, len) => Bytes::from_owner(pages).slice(..len),
        }
    }
}
