//! Global heaps, which hold text of any length: read here, not by the library.
//!
//! The library makes room for as many bytes as an element says that it has, up to 4 GiB, before it
//! looks at the heap; and some damage makes it loop forever. Here a length counts only if the
//! object in the heap has it.
//!
//! | bytes of a heap | |
//! |---|---|
//! | 0 | `GCOL`, version 1, 3 reserved |
//! | 8 | bytes of the heap (as many bytes as lengths have in this file) |
//! | 16 | objects: u16 number, u16 references, 4 reserved, length, the data, filled up to a multiple of 8; number 0 is free space |
//!
//! An element in the file is a reference into a heap: u32 length, address of the heap, u32 number
//! of the object.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::library::{self, Id, Library};
use crate::error::{Error, Result, locked};
use crate::storage::Blob;

/// Heaps up to this size are kept with their bytes.
const MAX_KEPT_BYTES: u64 = 64 << 10;
/// So many heaps are kept.
const MAX_KEPT: usize = 64;
/// Bytes of a larger heap that are read at a time, to find its objects.
const WINDOW_BYTES: u64 = 64 << 10;

/// The heaps of a file.
pub(super) struct Heaps {
    blob: Arc<dyn Blob>,
    /// What addresses are counted from.
    base: u64,
    address_bytes: usize,
    length_bytes: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    heaps: HashMap<u64, Arc<Heap>>,
    order: VecDeque<u64>,
}

/// A heap whose objects are known.
pub(super) struct Heap {
    at: u64,
    /// Where in the file each object is, by its number.
    objects: Vec<Option<(u64, u64)>>,
    /// All of it, if it is small.
    bytes: Option<(u64, Vec<u8>)>,
}

/// What an element of any length is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// How many items it has.
    pub(super) len: u32,
    heap: u64,
    object: u32,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b))
}

impl Heaps {
    /// Of an open file.
    pub(super) fn new(lib: &Library, file: &Id, blob: Arc<dyn Blob>) -> Heaps {
        let (mut addresses, mut lengths, mut base) = (8usize, 8usize, 0u64);
        // SAFETY: an open file.
        unsafe {
            if let Ok(plist) =
                Id::new(lib.H5Fget_create_plist(file.raw()), "the superblock is damaged")
            {
                lib.H5Pget_sizes(plist.raw(), &mut addresses, &mut lengths);
                lib.H5Pget_userblock(plist.raw(), &mut base);
            }
        }
        Heaps {
            blob,
            base,
            address_bytes: addresses.clamp(2, 8),
            length_bytes: lengths.clamp(2, 8),
            cache: Mutex::default(),
        }
    }

    /// Bytes of a reference.
    pub(super) fn reference_bytes(&self) -> usize {
        8 + self.address_bytes
    }

    /// The reference in these bytes, of which there are [`Heaps::reference_bytes`].
    pub(super) fn reference(&self, bytes: &[u8]) -> Reference {
        let (len, rest) = bytes.split_at(4);
        let (heap, object) = rest.split_at(self.address_bytes);
        Reference { len: number(len) as u32, heap: number(heap), object: number(object) as u32 }
    }

    /// Appends the items, of `item_bytes` bytes each. `last` is the heap that was looked at last.
    ///
    /// # Errors
    /// Corrupt, where the heap has no such object, or one of another length.
    pub(super) fn read(
        &self,
        reference: Reference,
        item_bytes: u64,
        last: &mut Option<Arc<Heap>>,
        to: &mut Vec<u8>,
    ) -> Result<()> {
        let Some((at, bytes)) = self.find(reference, item_bytes, last)? else { return Ok(()) };
        let heap_bytes = last.as_ref().and_then(|h| h.bytes.as_ref());
        if let Some((start, all)) = heap_bytes {
            let from = (at - start) as usize;
            to.extend_from_slice(&all[from..from + bytes as usize]);
            return Ok(());
        }
        let room = usize::try_from(bytes).ok().filter(|&n| to.try_reserve(n).is_ok());
        let room = room
            .ok_or_else(|| Error::failed(format!("{bytes} bytes of memory are not available")))?;
        let old = to.len();
        to.resize(old + room, 0);
        self.blob.read_at(at, &mut to[old..])
    }

    /// Where the items are, which are all there; `None` where there are none.
    ///
    /// # Errors
    /// As [`Heaps::read`].
    pub(super) fn find(
        &self,
        reference: Reference,
        item_bytes: u64,
        last: &mut Option<Arc<Heap>>,
    ) -> Result<Option<(u64, u64)>> {
        let Reference { len, heap: at, object } = reference;
        if at == 0 || len == 0 {
            return Ok(None);
        }
        if last.as_ref().is_none_or(|h| h.at != at) {
            *last = Some(self.heap(at)?);
        }
        let told = u64::from(len).saturating_mul(item_bytes);
        let found = last.as_ref().and_then(|h| *h.objects.get(object as usize)?);
        match found {
            Some((at, bytes)) if bytes == told => Ok(Some((at, bytes))),
            Some((_, bytes)) => Err(Error::corrupt(format!(
                "an element says that it has {told} bytes, the heap has {bytes} for it"
            ))),
            None => Err(Error::corrupt(format!(
                "an element of {told} bytes is not in the global heap at byte {at}"
            ))),
        }
    }

    fn heap(&self, at: u64) -> Result<Arc<Heap>> {
        let mut kept = locked(&self.cache);
        if let Some(heap) = kept.heaps.get(&at) {
            return Ok(heap.clone());
        }
        drop(kept);
        let heap = Arc::new(self.load(at)?);
        kept = locked(&self.cache);
        if kept.order.len() >= MAX_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.heaps.remove(&oldest);
        }
        if kept.heaps.insert(at, heap.clone()).is_none() {
            kept.order.push_back(at);
        }
        Ok(heap)
    }

    fn load(&self, at: u64) -> Result<Heap> {
        let damaged =
            |start: u64| Error::corrupt(format!("the global heap at byte {start} is damaged"));
        let start = self.base.checked_add(at).ok_or_else(|| damaged(at))?;
        let header = (8 + self.length_bytes as u64).next_multiple_of(8);
        let left = self
            .blob
            .len()
            .checked_sub(start)
            .filter(|&left| left >= header)
            .ok_or_else(|| damaged(start))?;
        let head = self.blob.read_vec(start, header)?;
        let size = number(&head[8..8 + self.length_bytes]);
        if !head.starts_with(b"GCOL\x01") || size > left || size < header {
            return Err(damaged(start));
        }
        let mut objects = Vec::new();
        let (mut window_at, mut window) = (start, Vec::new());
        let mut object = header;
        while object + header <= size {
            let place = start + object;
            if window.is_empty()
                || place < window_at
                || place + header > window_at + window.len() as u64
            {
                window_at = place;
                window = self.blob.read_vec(place, WINDOW_BYTES.max(header).min(size - object))?;
            }
            let from = (place - window_at) as usize;
            let (index, bytes) =
                object_header(&window[from..from + header as usize], self.length_bytes);
            let need = if index == 0 {
                bytes
            } else {
                bytes.checked_next_multiple_of(8).and_then(|n| n.checked_add(header)).unwrap_or(0)
            };
            if need == 0 || need > size - object {
                return Err(damaged(start));
            }
            if index > 0 {
                if objects.len() <= index {
                    objects.resize(index + 1, None);
                }
                objects[index] = Some((place + header, bytes));
            }
            object += need;
        }
        let bytes = if size <= MAX_KEPT_BYTES {
            Some((start, self.blob.read_vec(start, size)?))
        } else {
            None
        };
        Ok(Heap { at, objects, bytes })
    }
}

/// The number of an object and its length.
fn object_header(bytes: &[u8], length_bytes: usize) -> (usize, u64) {
    (number(&bytes[..2]) as usize, number(&bytes[8..8 + length_bytes]))
}

/// Whether the library comes to an end with this heap, as far as these bytes go: an object of no
/// bytes lets it stay there. Bytes that are no heap are sound.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    // Whether lengths have 8 bytes or 4 is not known here. Where those of 8 are small, both are the
    // same numbers, but for what fills up those of 4.
    let small = bytes.get(12..16).is_some_and(|high| high == [0; 4]);
    walks(bytes, 8) && (!small || walks(bytes, 4))
}

fn walks(bytes: &[u8], length_bytes: usize) -> bool {
    const HEADER: usize = 16;
    if !bytes.starts_with(b"GCOL\x01\0\0\0") || bytes.len() < HEADER {
        return true;
    }
    let size = number(&bytes[8..8 + length_bytes]).min(bytes.len() as u64);
    let mut at = HEADER as u64;
    while at + HEADER as u64 <= size {
        let (index, len) = object_header(&bytes[at as usize..at as usize + HEADER], length_bytes);
        let need = if index == 0 {
            len
        } else {
            (len.wrapping_add(7) / 8 * 8).wrapping_add(HEADER as u64)
        };
        if need == 0 {
            return false;
        }
        let Some(next) = at.checked_add(need) else { return true };
        at = next;
    }
    true
}

/// The heaps of a file, by its number.
#[derive(Default)]
pub(super) struct HeapsOf(Mutex<HashMap<u64, Arc<Heaps>>>);

impl HeapsOf {
    /// Those of the file that an object is in; `open` opens that file if it is a new one.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn get(
        &self,
        lib: &Library,
        object: &Id,
        file_number: u64,
        open: &dyn Fn() -> Result<Arc<dyn Blob>>,
    ) -> Result<Arc<Heaps>> {
        let mut all = locked(&self.0);
        if let Some(heaps) = all.get(&file_number) {
            return Ok(heaps.clone());
        }
        let file = Id::new(lib.H5Iget_file_id(object.raw()), "its file is not known")?;
        let heaps = Arc::new(Heaps::new(lib, &file, open()?));
        all.insert(file_number, heaps.clone());
        Ok(heaps)
    }
}

/// A type of the memory that keeps references as they are in the file.
///
/// # Errors
/// Where the library does not make it.
pub(super) fn raw_type(lib: &Library, reference_bytes: usize) -> Result<Id> {
    lib.opaque_type(reference_bytes, library::AS_STORED)
}
