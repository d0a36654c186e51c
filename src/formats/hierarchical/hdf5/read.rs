//! The values: located through the library once, then read and decoded here on any number of
//! threads.

use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::c::{self, Id};
use super::chunks::{self, Reading};
use super::driver::Ticket;
use super::index::Index;
use super::spool::Cache;
use super::text::Lengths;
use super::tree::{Chunked, Dataset, Storage};
use super::types::{Kind, Leaf};
use super::{ffi, heap};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Order, Piece, ReadRows, Source, readable};
use crate::model::{Chunk, Plan};
use crate::storage::{Blob, LocalFile};

/// A file open for reading.
pub(super) struct File {
    /// Closed before the local copy goes.
    pub(super) file: Id,
    /// Files that the library opens later need it, too.
    pub(super) _ticket: Ticket,
    pub(super) blob: Arc<dyn Blob>,
    pub(super) _local: LocalFile,
    pub(super) datasets: Vec<Dataset>,
    /// Per array of the plan: its name, its dataset and the leaf of it.
    pub(super) names: Vec<String>,
    pub(super) arrays: Vec<Array>,
    /// Where the chunks are, per dataset, once it was asked.
    pub(super) indices: Vec<OnceLock<std::result::Result<Arc<Index>, Arc<Error>>>>,
    /// Bytes that rows of one piece may take, where chunks are taller than that.
    pub(super) piece_bytes: u64,
    /// The memory limit.
    pub(super) memory_bytes: u64,
    /// Decoded chunks that several pieces need.
    pub(super) cache: Cache,
    pub(super) lengths: Mutex<Lengths>,
}

pub(super) struct Array {
    pub(super) dataset: usize,
    pub(super) leaf: usize,
}

pub(super) struct Hdf5Source {
    pub(super) plan: Plan,
    pub(super) file: Arc<File>,
}

impl Source for Hdf5Source {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
        }
        Ok(wish)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(self.file.clone())
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let Array { dataset, leaf } = self.file.arrays.get(array)?;
        let dataset = &self.file.datasets[*dataset];
        let leaf = dataset.leaves.get(*leaf)?;
        let Storage::Contiguous(Some(offset)) = dataset.storage else { return None };
        let nulls = leaf.zone.is_some() || leaf.codes.is_some();
        if nulls
            || leaf.truth
            || !leaf.kind.is_ready()
            || !leaf.is_whole(dataset.element_bytes)
            || dataset.null
        {
            return None;
        }
        let len = crate::model::checked_product(&dataset.dims)? * dataset.element_bytes as u64;
        Some(vec![Extent { file: self.file.blob.file()?.clone(), offset, len }])
    }
}

impl Leaf {
    /// Bytes of the leaf in one element, packed.
    pub(super) fn packed_bytes(&self) -> usize {
        self.dims.iter().fold(self.kind.bytes(), |n, d| n * d.0 as usize)
    }
    /// Whether the leaf is all of the element, in order.
    pub(super) fn is_whole(&self, element_bytes: usize) -> bool {
        self.offset == 0 && self.packed_bytes() == element_bytes
    }
    /// Copies the leaf out of whole elements.
    pub(super) fn extract(&self, elements: &[u8], element_bytes: usize, out: &mut [u8]) {
        if self.is_whole(element_bytes) {
            out.copy_from_slice(elements);
            return;
        }
        let packed = self.packed_bytes();
        let size = self.kind.bytes();
        let dense = self
            .dims
            .iter()
            .rev()
            .try_fold(size, |n, d| (d.1 == n).then(|| n * d.0 as usize))
            .is_some();
        for (element, to) in
            elements.chunks_exact(element_bytes).zip(out.chunks_exact_mut(packed.max(1)))
        {
            if dense {
                to.copy_from_slice(&element[self.offset..self.offset + packed]);
                continue;
            }
            for (i, value) in to.chunks_exact_mut(size).enumerate() {
                let (mut rest, mut at) = (i, self.offset);
                for &(n, stride) in self.dims.iter().rev() {
                    at += rest % n as usize * stride;
                    rest /= n as usize;
                }
                value.copy_from_slice(&element[at..at + size]);
            }
        }
    }
}

impl ReadRows for File {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let dataset = &self.datasets[self.arrays[array].dataset];
        let Storage::Chunked(chunked) = &dataset.storage else { return u64::MAX };
        // Chunks of text are references only.
        if dataset.leaves.get(self.arrays[array].leaf).is_some_and(|l| l.kind.is_variable()) {
            return u64::MAX;
        }
        let rows = chunked.shape[0];
        let row_bytes = dataset.dims[1..]
            .iter()
            .fold(dataset.element_bytes as u64, |n, &d| n.saturating_mul(d))
            .max(1);
        let most = (self.piece_bytes / row_bytes).max(1);
        let boundary = (row / rows + 1).saturating_mul(rows);
        if rows <= most { boundary } else { boundary.min(row.saturating_add(most)) }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let Array { dataset: number, leaf } = self.arrays[array];
        let dataset = &self.datasets[number];
        let leaf = dataset.leaves.get(leaf)?;
        let count = rows.end - rows.start;
        if leaf.kind.is_variable() {
            return Some(count.saturating_mul(64));
        }
        let row_elements = dataset.dims.iter().skip(1).fold(1u64, |n, &d| n.saturating_mul(d));
        let text = matches!(leaf.kind, Kind::Fixed { .. });
        let row_bytes = row_elements
            .saturating_mul(leaf.packed_bytes() as u64)
            .saturating_mul(if text { 2 } else { 1 });
        let decoding = match &dataset.storage {
            Storage::Chunked(chunked) if !chunked.is_plain(0) => {
                let whole = chunked
                    .shape
                    .iter()
                    .fold(dataset.element_bytes as u64, |n, &s| n.saturating_mul(s));
                // More than the limit is never used: the chunk then goes through a file.
                chunks::needs(chunked, whole, whole).min(self.memory_bytes)
            }
            _ if text => 0,
            _ => return None,
        };
        Some(count.saturating_mul(row_bytes).saturating_add(decoding))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.text_piece(array, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.read_rows(array, rows, emit).map_err(|e| e.array(&self.names[array]))
    }
}

impl File {
    fn read_rows(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let Array { dataset: number, leaf } = self.arrays[array];
        let dataset = &self.datasets[number];
        let Some(leaf) = dataset.leaves.get(leaf) else {
            return Err(Error::internal("this array has no values"));
        };
        if rows.is_empty() {
            return Ok(());
        }
        if matches!(leaf.kind, Kind::Variable { .. } | Kind::Fixed { .. }) {
            return self.text(array, dataset, leaf, rows, emit);
        }
        let raw = self.values(array, dataset, leaf, rows.clone())?;
        let n = rows.end - rows.start;
        let per_row = raw.len() as u64 / leaf.kind.bytes() as u64 / n;
        let mut values = leaf.kind.convert(raw, rows.start * per_row)?;
        if leaf.truth {
            values.iter_mut().for_each(|v| *v = u8::from(*v != 0));
        }
        let valid = leaf.take_nulls(&mut values, rows.start)?;
        emit(Chunk { valid: valid.map(Into::into), ..Chunk::fixed(array, rows.start, n, values) })
    }

    /// Whether an array has nulls, which only its values tell.
    pub(super) fn has_nulls(&self, array: usize) -> Result<bool> {
        let Array { dataset, leaf } = self.arrays[array];
        let dataset = &self.datasets[dataset];
        let Some(leaf) = dataset.leaves.get(leaf).filter(|l| l.zone.is_some() || l.codes.is_some())
        else {
            return Ok(false);
        };
        let (total, mut row, mut found) = (self.rows(dataset, leaf), 0, false);
        while row < total && !found {
            let end = self.cut(array, row).min(row.saturating_add(1 << 16)).min(total);
            self.read_rows(array, row..end, &mut |chunk| {
                found |= chunk.valid.is_some();
                Ok(())
            })?;
            row = end;
        }
        Ok(found)
    }

    /// The rows of an array.
    pub(super) fn rows(&self, dataset: &Dataset, leaf: &Leaf) -> u64 {
        match leaf.dims.first() {
            Some(&(n, _)) if dataset.scalar => n,
            _ => dataset.dims.first().copied().unwrap_or(1),
        }
    }

    /// The values of these rows as the file has them, packed.
    pub(super) fn values(
        &self,
        array: usize,
        dataset: &Dataset,
        leaf: &Leaf,
        rows: Range<u64>,
    ) -> Result<Vec<u8>> {
        let Array { dataset: number, leaf: leaf_number } = self.arrays[array];
        // One element that is a list: its rows are the list's.
        let wanted = rows.clone();
        let listed = dataset.scalar && !leaf.dims.is_empty();
        let rows = if listed { 0..1 } else { rows };
        let row_elements = dataset.dims.iter().skip(1).product::<u64>();
        let count = (rows.end - rows.start) * row_elements;
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(leaf.packed_bytes()));
        let bytes =
            bytes.ok_or_else(|| Error::failed("a piece is larger than this machine's memory"))?;
        let mut raw = Vec::new();
        raw.try_reserve_exact(bytes)
            .map_err(|_| Error::failed(format!("{bytes} bytes of memory are not available")))?;
        match &dataset.storage {
            _ if bytes == 0 => {}
            Storage::Contiguous(Some(offset)) => {
                let read = |at: u64, to: &mut [u8]| self.blob.read_at(offset + at, to);
                pick(dataset, leaf, &read, rows.start * row_elements, &mut raw, bytes)?;
            }
            Storage::External(external) => {
                pick(
                    dataset,
                    leaf,
                    &|at, to| external.read_at(at, to),
                    rows.start * row_elements,
                    &mut raw,
                    bytes,
                )?;
            }
            Storage::Contiguous(None) => filled(dataset, leaf, &mut raw, bytes),
            // What was never written and is text of any length, the library knows.
            Storage::Chunked(chunked) if !(chunked.by_library && dataset.has_text_fill) => {
                filled(dataset, leaf, &mut raw, bytes);
                let index = self.index(number, chunked)?;
                let reading = Reading {
                    file: self,
                    number: (number, leaf_number),
                    dataset,
                    leaf,
                    chunked,
                    index: &index,
                };
                reading.read(rows, &mut raw)?;
            }
            _ => {
                raw.resize(bytes, 0);
                self.by_library(dataset, leaf, &rows, raw.as_mut_ptr().cast())?;
            }
        }
        if listed {
            let stride = leaf.packed_bytes() / leaf.dims[0].0.max(1) as usize;
            raw = raw[wanted.start as usize * stride..wanted.end as usize * stride].to_vec();
        }
        Ok(raw)
    }
}

/// Picks a leaf out of elements that lie one after the other; `read` reads bytes of the dataset.
fn pick(
    dataset: &Dataset,
    leaf: &Leaf,
    read: &dyn Fn(u64, &mut [u8]) -> Result<()>,
    first: u64,
    raw: &mut Vec<u8>,
    bytes: usize,
) -> Result<()> {
    let element = dataset.element_bytes;
    let mut at = first * element as u64;
    raw.resize(bytes, 0);
    if leaf.is_whole(element) {
        return read(at, raw);
    }
    let packed = leaf.packed_bytes();
    let some = ((1 << 20) / element).max(1);
    let mut buffer = Vec::new();
    for piece in raw.chunks_mut(some * packed) {
        buffer.resize(piece.len() / packed * element, 0);
        read(at, &mut buffer)?;
        leaf.extract(&buffer, element, piece);
        at += buffer.len() as u64;
    }
    Ok(())
}

/// Values that were never written.
fn filled(dataset: &Dataset, leaf: &Leaf, raw: &mut Vec<u8>, bytes: usize) {
    match &dataset.fill {
        None => raw.resize(bytes, 0),
        Some(fill) => {
            let mut one = vec![0; leaf.packed_bytes()];
            leaf.extract(fill, dataset.element_bytes, &mut one);
            while raw.len() < bytes {
                raw.extend_from_slice(&one);
            }
        }
    }
}

impl File {
    pub(super) fn open(&self, dataset: &Dataset) -> Result<Id> {
        // SAFETY: an open file; the caller holds the lock.
        Id::new(
            unsafe { ffi::H5Oopen(self.file.raw(), dataset.path.as_ptr(), 0) },
            "cannot be opened again",
        )
    }

    /// Where the chunks are: asked from the library once.
    fn index(&self, number: usize, chunked: &Chunked) -> Result<Arc<Index>> {
        let index = self.indices[number].get_or_init(|| {
            self.find_chunks(&self.datasets[number], chunked).map(Arc::new).map_err(Arc::new)
        });
        match index {
            Ok(index) => Ok(index.clone()),
            Err(e) => Err(Error::clone(e)),
        }
    }

    fn find_chunks(&self, dataset: &Dataset, chunked: &Chunked) -> Result<Index> {
        let _lock = c::lock();
        let data = self.open(dataset)?;
        let mut bytes = self.blob.len();
        if dataset.elsewhere {
            // SAFETY: an open dataset; under the lock.
            unsafe {
                let file = Id::new(ffi::H5Iget_file_id(data.raw()), "its file cannot be told")?;
                c::check(
                    ffi::H5Fget_filesize(file.raw(), &mut bytes),
                    "the size of its file cannot be told",
                )?;
            }
        }
        Index::find(data, dataset, chunked, bytes)
    }

    /// Through the library.
    fn by_library(
        &self,
        dataset: &Dataset,
        leaf: &Leaf,
        rows: &Range<u64>,
        out: *mut c_void,
    ) -> Result<()> {
        let _lock = c::lock();
        let data = self.open(dataset)?;
        let mut count = dataset.dims.clone();
        let mut start = vec![0; count.len()];
        (start[0], count[0]) = (rows.start, rows.end - rows.start);
        // SAFETY: `out` has room for the packed leaf of these rows; under the lock.
        unsafe { Self::read_selected(&data, dataset, leaf, (&start, &count), None, out) }
    }

    /// Reads a part of an open dataset, into all of the buffer or what `memory` chooses.
    ///
    /// # Safety
    /// Under the lock; `out` has room for the packed leaf of the part, or of the extent of
    /// `memory`.
    pub(super) unsafe fn read_selected(
        data: &Id,
        dataset: &Dataset,
        leaf: &Leaf,
        (start, count): (&[u64], &[u64]),
        memory: Option<&Id>,
        out: *mut c_void,
    ) -> Result<()> {
        let failed = "its rows cannot be chosen";
        // SAFETY: open handles, under the lock; the rest is promised by the caller.
        unsafe {
            let kind = memory_type(data, leaf)?;
            if ffi::H5Tget_size(kind.raw()) != leaf.packed_bytes() {
                return Err(Error::refused("this type cannot be read on its own"));
            }
            let space = Id::new(ffi::H5Dget_space(data.raw()), "its dataspace is damaged")?;
            if c::dims(&space)?.unwrap_or_default()
                != if dataset.scalar { &[][..] } else { &dataset.dims[..] }
            {
                return Err(Error::corrupt("its shape changed while it was read"));
            }
            if dataset.scalar {
                return c::check(
                    ffi::H5Dread(data.raw(), kind.raw(), 0, 0, 0, out),
                    "cannot be read",
                );
            }
            let code = ffi::H5Sselect_hyperslab(
                space.raw(),
                0,
                start.as_ptr(),
                std::ptr::null(),
                count.as_ptr(),
                std::ptr::null(),
            );
            c::check(code, failed)?;
            let rows;
            let memory = match memory {
                Some(memory) => memory,
                None => {
                    rows = Id::new(
                        ffi::H5Screate_simple(
                            count.len() as c_int,
                            count.as_ptr(),
                            std::ptr::null(),
                        ),
                        failed,
                    )?;
                    &rows
                }
            };
            c::check(
                ffi::H5Dread(data.raw(), kind.raw(), memory.raw(), space.raw(), 0, out),
                "cannot be read",
            )
        }
    }
}

/// The type of the leaf in memory: that of the file, or a compound of the one field.
///
/// # Safety
/// Under the lock; `data` is an open dataset.
unsafe fn memory_type(data: &Id, leaf: &Leaf) -> Result<Id> {
    // SAFETY: open handles.
    unsafe {
        let mut kind = Id::new(ffi::H5Dget_type(data.raw()), "its type is damaged")?;
        let mut names = Vec::new();
        for field in &leaf.fields {
            let mut found = None;
            if ffi::H5Tget_class(kind.raw()) == ffi::COMPOUND {
                for m in 0..u32::try_from(ffi::H5Tget_nmembers(kind.raw())).unwrap_or(0) {
                    let Some(name) = c::owned_text(ffi::H5Tget_member_name(kind.raw(), m)) else {
                        continue;
                    };
                    if String::from_utf8_lossy(&name) == field.as_str() {
                        found = Some((
                            name,
                            Id::new(ffi::H5Tget_member_type(kind.raw(), m), "its type is damaged")?,
                        ));
                        break;
                    }
                }
            }
            let Some((name, member)) = found else {
                return Err(Error::refused("a field inside of lists cannot be read on its own"));
            };
            names.push(name);
            kind = member;
        }
        if let Kind::Variable { bytes } = leaf.kind {
            kind = heap::raw_type(bytes)?;
            let dims: Vec<u64> = leaf.dims.iter().map(|d| d.0).collect();
            if !dims.is_empty() {
                let list = ffi::H5Tarray_create2(kind.raw(), dims.len() as c_uint, dims.as_ptr());
                kind = Id::new(list, "a type cannot be made")?;
            }
        }
        for name in names.into_iter().rev() {
            let size = ffi::H5Tget_size(kind.raw());
            let outer = Id::new(ffi::H5Tcreate(ffi::COMPOUND, size), "a type cannot be made")?;
            let name = std::ffi::CString::new(name)
                .map_err(|_| Error::corrupt("a field's name has a zero byte"))?;
            c::check(
                ffi::H5Tinsert(outer.raw(), name.as_ptr(), 0, kind.raw()),
                "a type cannot be made",
            )?;
            kind = outer;
        }
        Ok(kind)
    }
}
