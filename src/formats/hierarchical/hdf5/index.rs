//! Where the chunks of a dataset are.
//!
//! The library lists the chunks of every kind of index. For one kind its list is wrong: an
//! extensible array (the index of datasets with one unlimited dimension in files of HDF5 1.10 and
//! later) numbers the chunks with the unlimited dimension slowest, wherever that dimension stands,
//! but `H5Dchunk_iter` and `H5Dget_chunk_info` count as if it were the first
//! (`H5D__earray_idx_iterate_cb` against `H5D__earray_idx_get_addr`). The coordinates that such a
//! list tells are turned into the right ones here, and the bytes of these chunks are then asked
//! from the library by coordinate (`H5Dread_chunk`), which looks chunks up correctly: a list that
//! is wrong in another way is an error, not wrong values.

use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;
use std::sync::Arc;

use super::c::{self, Id};
use super::ffi;
use super::tree::{Chunked, Dataset};
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::Blob;

/// The chunks of a dataset that exist, sorted by their number in C order.
pub(super) struct Index {
    pub(super) chunks: Vec<ChunkLocation>,
    /// The bytes of chunks are asked from the library, by coordinate, through this dataset.
    by_coordinate: Option<Id>,
}

#[derive(Clone, Copy)]
pub(super) struct ChunkLocation {
    /// Its number in C order among all chunks of the extent.
    pub(super) number: u64,
    /// Where its bytes begin in the file.
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// A set bit names a filter that was left out.
    pub(super) mask: u32,
}

/// What the callback of the library's list fills.
struct Listing<'a> {
    chunks: Vec<ChunkLocation>,
    dims: &'a [u64],
    shape: &'a [u64],
    /// Set for an extensible array whose unlimited dimension is not the first.
    swizzled: Option<Swizzled>,
    most: u64,
    file_bytes: u64,
    wrong: Option<Error>,
}

/// An extensible array whose unlimited dimension is not the first.
struct Swizzled {
    unlimited: usize,
    /// Per dimension the most chunks that it can have; 0 for the unlimited one.
    most: Vec<u64>,
}

impl Swizzled {
    /// The chunk's coordinates, from those that the library's list tells.
    ///
    /// The list counts the array's elements with the last dimension fastest, up to the most chunks
    /// of each dimension. Nothing carries past the unlimited one, so the dimensions before it stay
    /// 0, and the coordinates are the digits of the element's number, the digit of the unlimited
    /// dimension taking what is left. The true digits of the same number stand in the order:
    /// unlimited dimension, then all others as they are.
    fn correct(&self, told: &mut [u64]) -> Option<()> {
        let (mut number, mut weight) = (0u64, 1u64);
        for d in (self.unlimited..told.len()).rev() {
            number = number.checked_add(told[d].checked_mul(weight)?)?;
            weight = if d == self.unlimited { weight } else { weight.checked_mul(self.most[d])? };
        }
        if told[..self.unlimited].iter().any(|&c| c != 0) {
            return None;
        }
        for d in (0..told.len()).rev().filter(|&d| d != self.unlimited) {
            told[d] = number.checked_rem(self.most[d])?;
            number /= self.most[d];
        }
        told[self.unlimited] = number;
        Some(())
    }
}

unsafe extern "C" fn visit(
    offset: *const u64,
    mask: c_uint,
    at: u64,
    bytes: u64,
    data: *mut c_void,
) -> c_int {
    // SAFETY: one offset a dimension; `data` is the structure that `find` gave.
    let (found, offset) = unsafe {
        let found = &mut *data.cast::<Listing<'_>>();
        let rank = found.dims.len(); // a view takes the first dimensions alone
        (found, std::slice::from_raw_parts(offset, rank))
    };
    let mut place: Vec<u64> = offset.iter().zip(found.shape).map(|(&o, &s)| o / s).collect();
    if let Some(swizzled) = &found.swizzled
        && swizzled.correct(&mut place).is_none()
    {
        found.wrong =
            Some(Error::corrupt(format!("the library tells an impossible chunk at {offset:?}")));
        return 1;
    }
    let mut number = 0u64;
    for ((&p, &d), &s) in place.iter().zip(found.dims).zip(found.shape) {
        if p >= d.div_ceil(s) {
            return 0; // left over from a larger extent
        }
        number = number.wrapping_mul(d.div_ceil(s)).wrapping_add(p);
    }
    if at.checked_add(bytes).is_none_or(|end| end > found.file_bytes)
        || found.chunks.len() as u64 >= found.most
    {
        let file_bytes = found.file_bytes;
        found.wrong = Some(Error::corrupt(format!(
            "a chunk of {bytes} bytes is at byte {at}, the file has {file_bytes} bytes"
        )));
        return 1;
    }
    found.chunks.push(ChunkLocation { number, at, bytes, mask });
    0
}

impl Index {
    /// Asks the library. `data` is the open dataset, `file_bytes` the size of the file that it is
    /// in. Under the lock.
    ///
    /// # Errors
    /// Corrupt.
    pub(super) fn find(
        data: Id,
        dataset: &Dataset,
        chunked: &Chunked,
        file_bytes: u64,
    ) -> Result<Index> {
        let shape = &chunked.shape[..dataset.dims.len()];
        let counts: Vec<u64> =
            dataset.dims.iter().zip(shape).map(|(&d, &s)| d.div_ceil(s)).collect();
        let swizzled = swizzled(&data, chunked)?;
        if swizzled.is_some() && shape.len() != chunked.shape.len() {
            return Err(Error::refused(
                "columns side by side in chunks of this index are not supported",
            ));
        }
        let mut found = Listing {
            chunks: Vec::new(),
            dims: &dataset.dims,
            shape,
            most: checked_product(&counts)
                .ok_or_else(|| Error::corrupt("it has too many chunks"))?,
            file_bytes,
            swizzled,
            wrong: None,
        };
        // SAFETY: an open dataset; the callback only writes into `found`.
        let code = unsafe {
            ffi::H5Dchunk_iter(data.raw(), 0, visit, std::ptr::from_mut(&mut found).cast())
        };
        if let Some(error) = found.wrong {
            return Err(error);
        }
        c::check(code, "its chunks cannot be found")?;
        let mut chunks = found.chunks;
        if !chunks.is_sorted_by_key(|p| p.number) {
            chunks.sort_by_key(|p| p.number);
        }
        if chunks.windows(2).any(|w| w[0].number == w[1].number) {
            return Err(Error::corrupt("a chunk appears twice"));
        }
        let by_coordinate = (found.swizzled.is_some() || dataset.elsewhere).then_some(data);
        Ok(Index { chunks, by_coordinate })
    }

    /// Whether the bytes of chunks are read from the file itself.
    pub(super) fn is_direct(&self) -> bool {
        self.by_coordinate.is_none()
    }

    /// The bytes `part` of a chunk as they are stored. `origin` is its first element.
    ///
    /// # Errors
    /// Reading errors; corrupt.
    pub(super) fn stored(
        &self,
        chunk: &ChunkLocation,
        origin: &[u64],
        part: Range<u64>,
        blob: &Arc<dyn Blob>,
    ) -> Result<Vec<u8>> {
        let Some(data) = &self.by_coordinate else {
            return blob.read_vec(chunk.at + part.start, part.end - part.start);
        };
        // The file that it is in has room for these bytes.
        let mut stored = Vec::new();
        let bytes = usize::try_from(chunk.bytes)
            .map_err(|_| Error::corrupt("a chunk is larger than this machine's memory"))?;
        stored
            .try_reserve_exact(bytes)
            .map_err(|_| Error::failed(format!("{bytes} bytes of memory are not available")))?;
        stored.resize(bytes, 0);
        let (mut mask, mut size) = (0u32, bytes);
        // A view knows the first dimensions alone; its chunks begin at 0 in the others.
        let mut corner = [0u64; 33];
        corner[..origin.len()].copy_from_slice(origin);
        let _lock = c::lock();
        // SAFETY: an open dataset of at most 32 dimensions; the buffer has `size` bytes; under the
        // lock.
        let code = unsafe {
            ffi::H5Dread_chunk2(
                data.raw(),
                0,
                corner.as_ptr(),
                &mut mask,
                stored.as_mut_ptr().cast(),
                &mut size,
            )
        };
        c::check(code, "a chunk cannot be read")?;
        if (size, mask) != (bytes, chunk.mask) {
            return Err(Error::corrupt(format!(
                "the chunk at {origin:?} has {size} bytes, its index says {bytes}"
            )));
        }
        stored.truncate(part.end as usize);
        stored.drain(..part.start as usize);
        Ok(stored)
    }
}

/// Whether the dataset's chunks are in an extensible array whose unlimited dimension is not the
/// first.
fn swizzled(data: &Id, chunked: &Chunked) -> Result<Option<Swizzled>> {
    const EXTENSIBLE_ARRAY: c_int = 4;
    let mut index: c_int = 0;
    // SAFETY: an open dataset; under the lock.
    let (code, space) = unsafe {
        let code = ffi::H5Dget_chunk_index_type(data.raw(), &mut index);
        (code, Id::new(ffi::H5Dget_space(data.raw()), "its dataspace is damaged")?)
    };
    c::check(code, "its chunks cannot be found")?;
    if index != EXTENSIBLE_ARRAY {
        return Ok(None);
    }
    let most = c::most_dims(&space)?;
    let unlimited = most.iter().position(|&n| n == ffi::UNLIMITED);
    let Some(unlimited) = unlimited.filter(|_| most.len() == chunked.shape.len()) else {
        return Err(Error::corrupt("its chunk index does not fit its dimensions"));
    };
    if unlimited == 0 {
        return Ok(None);
    }
    let most = most
        .iter()
        .zip(&chunked.shape)
        .map(|(&n, &s)| if n == ffi::UNLIMITED { 0 } else { n.div_ceil(s) })
        .collect();
    Ok(Some(Swizzled { unlimited, most }))
}
