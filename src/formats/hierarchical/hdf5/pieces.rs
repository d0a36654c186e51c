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
use std::sync::{Arc, OnceLock};

use super::chunk_extents::check_extent;
use super::dataset::{Chunked, Dataset};
use super::ffi;
use super::file::OpenFile;
use super::library::{self, Id, Library};
use crate::array::{PieceLocation, Pieces};
use crate::codec::limit::room;
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::{Blob, BlobSlice};

/// The chunks of a dataset.
pub(super) struct Chunks {
    file: Arc<OpenFile>,
    dataset: Arc<Dataset>,
    chunked: Chunked,
    /// Asked from the library once.
    index: OnceLock<Result<Index>>,
}

/// The chunks that exist, sorted by their number in C order.
struct Index {
    chunks: Vec<ChunkLocation>,
    /// The bytes of chunks are asked from the library, by coordinate, through this dataset.
    by_coordinate: Option<Arc<Id>>,
}

#[derive(Clone, Copy)]
struct ChunkLocation {
    /// Its number in C order among all chunks of the extent.
    number: u64,
    /// Where its bytes begin in the file.
    at: u64,
    bytes: u64,
    /// A set bit names a filter that was left out.
    mask: u32,
}

impl Chunks {
    /// Of a dataset whose chunks are decoded here.
    pub(super) fn new(file: Arc<OpenFile>, dataset: Arc<Dataset>, chunked: Chunked) -> Chunks {
        Chunks { file, dataset, chunked, index: OnceLock::new() }
    }

    /// The shape of the chunks in the dimensions of the dataset (a view has fewer).
    fn shape(&self) -> &[u64] {
        &self.chunked.shape[..self.dataset.dims.len()]
    }

    /// The filters that were left out of a chunk.
    fn skipped(&self, chunk: &ChunkLocation, at: &[u64]) -> u32 {
        let is_edge = || {
            let places = at.iter().zip(self.shape()).zip(&self.dataset.dims);
            places.into_iter().any(|((p, s), &d)| p * s + s > d)
        };
        let skipped = if self.chunked.raw_edges && is_edge() { u32::MAX } else { chunk.mask };
        match self.chunked.codecs.codecs().len() {
            n @ 0..32 => skipped & ((1 << n) - 1),
            _ => skipped,
        }
    }

    fn index(&self) -> Result<&Index> {
        self.index.get_or_init(|| self.find()).as_ref().map_err(Error::clone)
    }

    fn find(&self) -> Result<Index> {
        let lib = &library::lock();
        let data = lib.open(&self.file.id, &self.dataset.path)?;
        let mut bytes = self.file.blob.len();
        if self.dataset.elsewhere {
            // SAFETY: an open dataset.
            unsafe {
                let file = Id::new(lib.H5Iget_file_id(data.raw()), "its file is not known")?;
                let code = lib.H5Fget_filesize(file.raw(), &mut bytes);
                library::check(code, "the size of its file is not known")?;
            }
        }
        Index::find(lib, data, &self.dataset, &self.chunked, bytes)
    }
}

impl Pieces for Chunks {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        let (dims, shape) = (&self.dataset.dims, self.shape());
        let number = at
            .iter()
            .zip(dims.iter().zip(shape))
            .fold(0u64, |n, (&p, (&d, &s))| n.wrapping_mul(d.div_ceil(s)).wrapping_add(p));
        let index = self.index()?;
        let Ok(found) = index.chunks.binary_search_by_key(&number, |c| c.number) else {
            return Ok(None);
        };
        let chunk = index.chunks[found];
        let whole = checked_product(shape)
            .and_then(|n| n.checked_mul(self.dataset.element_bytes as u64))
            .ok_or_else(|| Error::corrupt("a chunk is too large"))?;
        let origin: Vec<u64> = at.iter().zip(shape).map(|(p, s)| p * s).collect();
        let skipped = self.skipped(&chunk, at);
        let mut len = chunk.bytes;
        if self.chunked.codecs.is_plain(skipped) {
            if len < whole {
                return Err(Error::corrupt(format!(
                    "a chunk at byte {} holds {len} bytes, expected {whole}",
                    chunk.at
                )));
            }
            len = whole;
        }
        let slice = match &index.by_coordinate {
            None => BlobSlice { blob: self.file.blob.clone(), start: chunk.at, len },
            Some(data) => {
                let blob = ByCoordinate { data: data.clone(), origin, chunk };
                BlobSlice { blob: Arc::new(blob), start: 0, len }
            }
        };
        Ok(Some(PieceLocation { slice, skipped }))
    }

    fn skipped_of_all(&self) -> Result<Option<u32>> {
        let (chunks, shape) = (&self.index()?.chunks, self.shape());
        let mut found = None;
        for chunk in chunks {
            let mut at = vec![0; shape.len()];
            let mut number = chunk.number;
            for (p, (&d, &s)) in at.iter_mut().zip(self.dataset.dims.iter().zip(shape)).rev() {
                let count = d.div_ceil(s).max(1);
                *p = number % count;
                number /= count;
            }
            let skipped = self.skipped(chunk, &at);
            if *found.get_or_insert(skipped) != skipped {
                return Ok(None);
            }
        }
        Ok(found.or(Some(0)))
    }

    fn is_divisible(&self) -> bool {
        // Chunks of another file are read whole: see `ByCoordinate`.
        !self.dataset.elsewhere
    }
}

/// The stored bytes of a chunk that the library finds.
struct ByCoordinate {
    data: Arc<Id>,
    origin: Vec<u64>,
    chunk: ChunkLocation,
}

impl Blob for ByCoordinate {
    fn len(&self) -> u64 {
        self.chunk.bytes
    }

    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        // The file that it is in has room for these bytes.
        let bytes = usize::try_from(self.chunk.bytes)
            .map_err(|_| Error::corrupt("a chunk is larger than this machine's memory"))?;
        let mut stored = room(bytes)?;
        stored.resize(bytes, 0);
        let (mut mask, mut size) = (0u32, bytes);
        // A view knows the first dimensions alone; its chunks begin at 0 in the others.
        let mut corner = [0u64; 33];
        corner[..self.origin.len()].copy_from_slice(&self.origin);
        let lib = &library::lock();
        // SAFETY: an open dataset of at most 32 dimensions; the buffer has `size` bytes.
        let code = unsafe {
            lib.H5Dread_chunk2(
                self.data.raw(),
                0,
                corner.as_ptr(),
                &mut mask,
                stored.as_mut_ptr().cast(),
                &mut size,
            )
        };
        library::check(code, "a chunk cannot be read")?;
        let part = usize::try_from(offset).ok().and_then(|at| stored.get(at..)?.get(..to.len()));
        match part.filter(|_| (size, mask) == (bytes, self.chunk.mask)) {
            Some(part) => {
                to.copy_from_slice(part);
                Ok(())
            }
            None => Err(Error::corrupt(format!(
                "the chunk at {:?} has {size} bytes, its index says {bytes}",
                self.origin
            ))),
        }
    }
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
    found.wrong = check_extent(at, bytes, found.file_bytes).err();
    if found.wrong.is_none() && found.chunks.len() as u64 >= found.most {
        found.wrong = Some(Error::corrupt("it has more chunks than its extent takes"));
    }
    if found.wrong.is_some() {
        return 1;
    }
    found.chunks.push(ChunkLocation { number, at, bytes, mask });
    0
}

impl Index {
    /// Asks the library. `data` is the open dataset, `file_bytes` the size of the file that it is
    /// in.
    ///
    /// # Errors
    /// Corrupt.
    fn find(
        lib: &Library,
        data: Id,
        dataset: &Dataset,
        chunked: &Chunked,
        file_bytes: u64,
    ) -> Result<Index> {
        let shape = &chunked.shape[..dataset.dims.len()];
        let counts: Vec<u64> =
            dataset.dims.iter().zip(shape).map(|(&d, &s)| d.div_ceil(s)).collect();
        let swizzled = swizzled(lib, &data, chunked)?;
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
            lib.H5Dchunk_iter(
                data.raw(),
                ffi::DEFAULT,
                Some(visit),
                std::ptr::from_mut(&mut found).cast(),
            )
        };
        if let Some(error) = found.wrong {
            return Err(error);
        }
        library::check(code, "its chunks cannot be found")?;
        let mut chunks = found.chunks;
        if !chunks.is_sorted_by_key(|p| p.number) {
            chunks.sort_by_key(|p| p.number);
        }
        if chunks.windows(2).any(|w| w[0].number == w[1].number) {
            return Err(Error::corrupt("a chunk appears twice"));
        }
        let by_coordinate = (found.swizzled.is_some() || dataset.elsewhere).then(|| Arc::new(data));
        Ok(Index { chunks, by_coordinate })
    }
}

/// Whether the dataset's chunks are in an extensible array whose unlimited dimension is not the
/// first.
fn swizzled(lib: &Library, data: &Id, chunked: &Chunked) -> Result<Option<Swizzled>> {
    let mut index: c_int = 0;
    // SAFETY: an open dataset.
    let (code, space) = unsafe {
        let code = lib.H5Dget_chunk_index_type(data.raw(), &mut index);
        (code, lib.space(data)?)
    };
    library::check(code, "its chunks cannot be found")?;
    if index != ffi::EXTENSIBLE_ARRAY {
        return Ok(None);
    }
    let most = library::most_dims(lib, &space)?;
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
