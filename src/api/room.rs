//! Memory for arrays, and the threads that fill it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use crate::cli::ReadArgs;
use crate::error::{Error, Result, locked};
use crate::format::ReadRows;
use crate::model::{Buf, Chunk, Values};
use crate::pipe::{self, Settings};

/// Aligned for every type, and for Arrow.
const ALIGN: usize = 64;
/// Below this, one thread is faster than several.
const SMALL_BYTES: u64 = 1 << 20;

/// The threads and the memory of calls that ask for no others: they are shared, and started once a
/// process (a fork has none of its parent's threads).
pub(super) fn settings(args: &ReadArgs) -> Result<Settings> {
    static SHARED: Mutex<Option<(u32, Settings)>> = Mutex::new(None);
    let usual = Settings::of(&crate::open::resources(args)?);
    if args.jobs.is_some() || args.memory_limit != "256MiB" {
        return Ok(usual);
    }
    let mut shared = locked(&SHARED);
    let pid = std::process::id();
    if shared.as_ref().is_none_or(|(owner, _)| *owner != pid) {
        // Whoever drops a pool waits for its threads, and those of the parent are not here.
        std::mem::forget(shared.replace((pid, usual.clone())));
    }
    Ok(shared.as_ref().map_or(usual, |(_, settings)| settings.clone()))
}

/// Zeroed memory on its way to be an array.
struct ZeroedMemory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory.
unsafe impl Send for ZeroedMemory {}
// SAFETY: shared, it is only read.
unsafe impl Sync for ZeroedMemory {}

impl ZeroedMemory {
    fn new(bytes: u64) -> Result<ZeroedMemory> {
        let none = || Error::failed(format!("there is no memory for {bytes} bytes"));
        let size = usize::try_from(bytes).map_err(|_| none())?.max(1);
        let layout = Layout::from_size_align(size, ALIGN).map_err(|_| none())?;
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(none)?;
        Ok(ZeroedMemory { start, layout })
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is there, initialised, and borrowed by `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for ZeroedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Rows of one size, read piece by piece into one place.
pub(super) fn filled(
    reader: &Arc<dyn ReadRows>,
    array: usize,
    row_bytes: u64,
    rows: Range<u64>,
    pieces: Vec<Range<u64>>,
    settings: &Settings,
) -> Result<Chunk> {
    let count = rows.end - rows.start;
    let too_large = || Error::failed("the array exceeds this machine's address space");
    let bytes = count.checked_mul(row_bytes).ok_or_else(too_large)?;
    let mut room = ZeroedMemory::new(bytes)?;
    let (mut rest, mut parts) = (room.bytes_mut(), Vec::with_capacity(pieces.len()));
    for piece in pieces {
        let (part, after) = rest.split_at_mut(((piece.end - piece.start) * row_bytes) as usize);
        parts.push((piece, part));
        rest = after;
    }
    let one = |(rows, part): (Range<u64>, &mut [u8])| {
        let (mut at, mut next) = (0, rows.start);
        reader.read(array, rows.clone(), &mut |chunk| {
            let Values::Fixed(values) = &chunk.values else {
                return Err(Error::internal("rows of one size were expected"));
            };
            let place = part.get_mut(at..at + values.len()).filter(|_| chunk.first_row == next);
            let place = place.ok_or_else(|| Error::internal("other rows than were asked for"))?;
            place.copy_from_slice(values);
            (at, next) = (at + values.len(), next + chunk.rows);
            Ok(())
        })?;
        match at == part.len() {
            true => Ok(()),
            false => Err(Error::corrupt(format!(
                "rows {}..{} were expected, they end at {next}",
                rows.start, rows.end
            ))),
        }
    };
    let held = |(rows, _): &(Range<u64>, &mut [u8])| (rows.end - rows.start) * row_bytes;
    if bytes < SMALL_BYTES {
        parts.into_iter().try_for_each(|part| settings.check().and_then(|()| one(part)))?;
    } else {
        pipe::parallel(settings, parts.into_iter().map(|part| (held(&part), part)), &one)?;
    }
    let start = room.start;
    // SAFETY: the room is as large, and goes with the buffer's owner.
    let buffer = unsafe { Buf::from_custom_allocation(start, bytes as usize, Arc::new(room)) };
    Ok(Chunk::fixed(0, 0, count, buffer))
}

/// The bytes in a place of their own.
pub(super) fn copied(bytes: &Buf) -> Result<Buf> {
    let mut room = ZeroedMemory::new(bytes.len() as u64)?;
    room.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    let start = room.start;
    // SAFETY: the room is as large, and goes with the buffer's owner.
    Ok(unsafe { Buf::from_custom_allocation(start, bytes.len(), Arc::new(room)) })
}

/// Does the pieces, on all threads where they are many.
pub(super) fn each(
    pieces: Vec<Range<u64>>,
    row_bytes: u64,
    settings: &Settings,
    one: &(dyn Fn(Range<u64>) -> Result<()> + Sync),
) -> Result<()> {
    if pieces.len() < 2 {
        return pieces.into_iter().try_for_each(one);
    }
    let held = |rows: &Range<u64>| (rows.end - rows.start).saturating_mul(row_bytes);
    pipe::parallel(settings, pieces.into_iter().map(|rows| (held(&rows), rows)), one)
}

/// Keeps a map alive for as long as a buffer is.
struct Mapped(#[allow(dead_code)] memmap2::MmapMut);

// SAFETY: nobody writes through it but whoever was given it as a tensor, which is their own matter.
unsafe impl Sync for Mapped {}

/// A map of a part of a file, whose pages are private: who writes to them (a tensor that was made of
/// them) does not write to the file. None where the system does not map it.
pub(super) fn map_private(file: &File, offset: u64, len: u64) -> Result<Option<Buf>> {
    let too_large = |_| Error::failed("the array exceeds this machine's address space");
    let len = usize::try_from(len).map_err(too_large)?;
    let mut options = memmap2::MmapOptions::new();
    options.offset(offset).len(len).no_reserve_swap();
    // SAFETY: `open` tells its caller that files must stay as they are while arrays are used.
    let Ok(map) = (unsafe { options.map_copy(file) }) else { return Ok(None) };
    let Some(start) = NonNull::new(map.as_ptr().cast_mut()) else { return Ok(None) };
    // SAFETY: the map is as long, and lives in the buffer's owner.
    Ok(Some(unsafe { Buf::from_custom_allocation(start, len, Arc::new(Mapped(map))) }))
}
