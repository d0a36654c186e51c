//! The values: located through the library once, then read and decoded here on any number of threads.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::c::{self, Id};
use super::tree::{Chunked, Dataset, Storage};
use super::types::{self, Kind, Leaf};
use super::{ffi, filters};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Order, ReadRows, Source, readable};
use crate::location::{Blob, LocalFile};
use crate::model::{Chunk, Plan, Values};

/// A file open for reading.
pub(super) struct File {
    /// Closed before the local copy goes.
    pub(super) file: Id,
    pub(super) blob: Arc<dyn Blob>,
    pub(super) _local: LocalFile,
    pub(super) datasets: Vec<Dataset>,
    /// Per array of the plan: its dataset and the leaf of it.
    pub(super) arrays: Vec<Array>,
    /// Where the chunks are, per dataset, once it was asked.
    pub(super) indices: Vec<OnceLock<std::result::Result<Arc<Index>, Arc<Error>>>>,
    /// Bytes that rows of one piece may take, where chunks are taller than that.
    pub(super) piece_bytes: u64,
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
        if leaf.truth || !leaf.kind.is_ready() || !leaf.is_whole(dataset.element_bytes) || dataset.null {
            return None;
        }
        let len = crate::model::checked_product(&dataset.dims)? * dataset.element_bytes as u64;
        Some(vec![Extent { file: self.file.blob.file()?.clone(), offset, len }])
    }
}

impl Leaf {
    /// Bytes of the leaf in one element, packed.
    fn packed_bytes(&self) -> usize {
        self.dims.iter().fold(self.kind.bytes(), |n, d| n * d.0 as usize)
    }
    /// Whether the leaf is all of the element, in order.
    fn is_whole(&self, element_bytes: usize) -> bool {
        self.offset == 0 && self.packed_bytes() == element_bytes
    }
    /// Copies the leaf out of whole elements.
    fn extract(&self, elements: &[u8], element_bytes: usize, out: &mut [u8]) {
        if self.is_whole(element_bytes) {
            out.copy_from_slice(elements);
            return;
        }
        let packed = self.packed_bytes();
        let size = self.kind.bytes();
        let dense = self.dims.iter().rev().try_fold(size, |n, d| (d.1 == n).then(|| n * d.0 as usize)).is_some();
        for (element, to) in elements.chunks_exact(element_bytes).zip(out.chunks_exact_mut(packed.max(1))) {
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

/// Where the chunks of a dataset are, sorted by their number in C order.
pub(super) struct Index(Vec<Place>);

#[derive(Clone, Copy)]
struct Place {
    number: u64,
    at: u64,
    bytes: u64,
    mask: u32,
}

impl ReadRows for File {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let dataset = &self.datasets[self.arrays[array].dataset];
        let Storage::Chunked(chunked) = &dataset.storage else { return u64::MAX };
        // Chunks of text are references only.
        if dataset.leaves.get(self.arrays[array].leaf).is_some_and(|l| l.kind == Kind::Variable) {
            return u64::MAX;
        }
        let rows = chunked.shape[0];
        let row_bytes = dataset.dims[1..].iter().fold(dataset.element_bytes as u64, |n, &d| n.saturating_mul(d)).max(1);
        let most = (self.piece_bytes / row_bytes).max(1);
        let boundary = (row / rows + 1).saturating_mul(rows);
        if rows <= most { boundary } else { boundary.min(row.saturating_add(most)) }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let dataset = &self.datasets[self.arrays[array].dataset];
        let leaf = dataset.leaves.get(self.arrays[array].leaf)?;
        (leaf.kind == Kind::Variable).then(|| (rows.end - rows.start).saturating_mul(64))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let Array { dataset: number, leaf } = self.arrays[array];
        let dataset = &self.datasets[number];
        let Some(leaf) = dataset.leaves.get(leaf) else { return Err(Error::internal("this array has no values")) };
        if rows.is_empty() {
            return Ok(());
        }
        if leaf.kind == Kind::Variable {
            return self.variable(array, dataset, leaf, rows, emit);
        }
        // One element that is a list: its rows are the list's.
        let wanted = rows.clone();
        let listed = dataset.scalar && !leaf.dims.is_empty();
        let rows = if listed { 0..1 } else { rows };
        let row_elements = dataset.dims.iter().skip(1).product::<u64>();
        let count = (rows.end - rows.start) * row_elements;
        let packed = leaf.packed_bytes();
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(packed));
        let bytes = bytes.ok_or_else(|| Error::failed("a piece is larger than this machine's memory"))?;
        let mut raw = Vec::new();
        raw.try_reserve_exact(bytes).map_err(|_| Error::failed(format!("{bytes} bytes of memory are not available")))?;
        match &dataset.storage {
            _ if bytes == 0 => {}
            Storage::Contiguous(Some(offset)) => self.contiguous(dataset, leaf, *offset, rows.start * row_elements, &mut raw, bytes)?,
            Storage::Contiguous(None) => self.filled(dataset, leaf, &mut raw, bytes),
            Storage::Chunked(chunked) if !chunked.by_library => {
                self.filled(dataset, leaf, &mut raw, bytes);
                let index = self.index(number, chunked)?;
                self.chunks(dataset, leaf, chunked, &index, rows.clone(), &mut raw)?;
            }
            _ => {
                raw.resize(bytes, 0);
                self.by_library(dataset, leaf, &rows, raw.as_mut_ptr().cast())?;
            }
        }
        let mut per_row = row_elements * leaf.dims.iter().map(|d| d.0).product::<u64>();
        if listed {
            per_row /= leaf.dims[0].0.max(1);
            let stride = per_row as usize * leaf.kind.bytes();
            raw = raw[wanted.start as usize * stride..wanted.end as usize * stride].to_vec();
        }
        let rows = wanted;
        let n = rows.end - rows.start;
        if let Kind::Fixed { bytes, pad } = leaf.kind {
            let mut offsets = Vec::with_capacity(n as usize + 1);
            let mut text = Vec::with_capacity(raw.len());
            offsets.push(0);
            for (i, field) in raw.chunks_exact(bytes).enumerate() {
                let field = types::trimmed(field, pad);
                utf8(field, rows.start + i as u64)?;
                text.extend_from_slice(field);
                offsets.push(text.len() as u64);
            }
            return emit(Chunk {
                array,
                first_row: rows.start,
                rows: n,
                values: Values::Var { offsets, values: text.into() },
                valid: None,
            });
        }
        let mut values = leaf.kind.convert(raw, rows.start * per_row)?;
        if leaf.truth {
            values.iter_mut().for_each(|v| *v = u8::from(*v != 0));
        }
        emit(Chunk::fixed(array, rows.start, n, values))
    }
}

fn utf8(text: &[u8], row: u64) -> Result<()> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Error::refused(format!("the text of row {row} is not UTF-8: {:?}", String::from_utf8_lossy(&text[..text.len().min(40)]))))
        }
    }
}

impl File {
    /// Values that were never written.
    fn filled(&self, dataset: &Dataset, leaf: &Leaf, raw: &mut Vec<u8>, bytes: usize) {
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

    fn contiguous(&self, dataset: &Dataset, leaf: &Leaf, offset: u64, first: u64, raw: &mut Vec<u8>, bytes: usize) -> Result<()> {
        let element = dataset.element_bytes;
        let at = offset + first * element as u64;
        raw.resize(bytes, 0);
        if leaf.is_whole(element) {
            return self.blob.read_at(at, raw);
        }
        let packed = leaf.packed_bytes();
        let some = ((1 << 20) / element).max(1);
        let mut buffer = Vec::new();
        let mut at = at;
        for piece in raw.chunks_mut(some * packed) {
            buffer.resize(piece.len() / packed * element, 0);
            self.blob.read_at(at, &mut buffer)?;
            leaf.extract(&buffer, element, piece);
            at += buffer.len() as u64;
        }
        Ok(())
    }

    fn open(&self, dataset: &Dataset) -> Result<Id> {
        // SAFETY: an open file; the caller holds the lock.
        Id::new(unsafe { ffi::H5Oopen(self.file.raw(), dataset.path.as_ptr(), 0) }, "cannot be opened again")
    }

    /// Where the chunks are: asked from the library once.
    fn index(&self, number: usize, chunked: &Chunked) -> Result<Arc<Index>> {
        let index = self.indices[number].get_or_init(|| self.find_chunks(&self.datasets[number], chunked).map(Arc::new).map_err(Arc::new));
        match index {
            Ok(index) => Ok(index.clone()),
            Err(e) => Err(Error::clone(e)),
        }
    }

    fn find_chunks(&self, dataset: &Dataset, chunked: &Chunked) -> Result<Index> {
        struct Found<'a> {
            places: Vec<Place>,
            dims: &'a [u64],
            shape: &'a [u64],
            most: u64,
            file_bytes: u64,
            wrong: Option<Error>,
        }
        unsafe extern "C" fn visit(offset: *const u64, mask: c_uint, at: u64, bytes: u64, data: *mut c_void) -> c_int {
            // SAFETY: one offset a dimension; `data` is the structure below.
            let (found, offset) = unsafe {
                let found = &mut *data.cast::<Found<'_>>();
                let rank = found.dims.len(); // a view takes the first dimensions alone
                (found, std::slice::from_raw_parts(offset, rank))
            };
            let mut number = 0u64;
            for ((&o, &d), &s) in offset.iter().zip(found.dims).zip(found.shape) {
                if o >= d {
                    return 0; // left over from a larger extent
                }
                number = number.wrapping_mul(d.div_ceil(s)).wrapping_add(o / s);
            }
            if at.checked_add(bytes).is_none_or(|end| end > found.file_bytes) || found.places.len() as u64 >= found.most {
                found.wrong =
                    Some(Error::corrupt(format!("a chunk of {bytes} bytes is at byte {at}, the file has {} bytes", found.file_bytes)));
                return 1;
            }
            found.places.push(Place { number, at, bytes, mask });
            0
        }
        let _lock = c::lock();
        let data = self.open(dataset)?;
        let most = dataset.dims.iter().zip(&chunked.shape).try_fold(1u64, |n, (&d, &s)| n.checked_mul(d.div_ceil(s)));
        let most = most.ok_or_else(|| Error::corrupt("it has too many chunks"))?;
        let mut found = Found {
            places: Vec::new(),
            dims: &dataset.dims,
            shape: &chunked.shape[..dataset.dims.len()],
            most,
            file_bytes: self.blob.len(),
            wrong: None,
        };
        // SAFETY: an open dataset; the callback only writes into `found`.
        let code = unsafe { ffi::H5Dchunk_iter(data.raw(), 0, visit, std::ptr::from_mut(&mut found).cast()) };
        if let Some(error) = found.wrong {
            return Err(error);
        }
        c::check(code, "its chunks cannot be found")?;
        let mut places = found.places;
        if !places.is_sorted_by_key(|p| p.number) {
            places.sort_by_key(|p| p.number);
        }
        if places.windows(2).any(|w| w[0].number == w[1].number) {
            return Err(Error::corrupt("a chunk appears twice"));
        }
        Ok(Index(places))
    }

    fn chunks(&self, dataset: &Dataset, leaf: &Leaf, chunked: &Chunked, index: &Index, rows: Range<u64>, raw: &mut [u8]) -> Result<()> {
        let (dims, shape) = (&dataset.dims, &chunked.shape[..dataset.dims.len()]);
        let counts: Vec<u64> = dims.iter().zip(shape).map(|(&d, &s)| d.div_ceil(s)).collect();
        let slab: u64 = counts[1..].iter().product();
        let (first, end) = (rows.start / shape[0] * slab, rows.end.div_ceil(shape[0]).saturating_mul(slab));
        let from = index.0.partition_point(|p| p.number < first);
        let element = dataset.element_bytes;
        let whole = shape.iter().product::<u64>() as usize * element;
        for place in index.0[from..].iter().take_while(|p| p.number < end) {
            let mut rest = place.number;
            let mut origin = vec![0u64; dims.len()];
            for d in (0..dims.len()).rev() {
                origin[d] = rest % counts[d] * shape[d];
                rest /= counts[d];
            }
            let stored = self.blob.read_vec(place.at, place.bytes)?;
            let edge = origin.iter().zip(dims).zip(shape).any(|((&o, &d), &s)| o + s > d);
            let bytes = if edge && chunked.raw_edges { stored } else { decode(chunked, place.mask, stored, whole)? };
            if bytes.len() < whole {
                return Err(Error::corrupt(format!("a chunk at byte {} holds {} bytes, expected {whole}", place.at, bytes.len())));
            }
            // What of the chunk lies in these rows and in the dataset, as ranges of its own coordinates.
            let low: Vec<u64> =
                std::iter::once(rows.start.saturating_sub(origin[0])).chain(std::iter::repeat_n(0, dims.len() - 1)).collect();
            let high: Vec<u64> = (0..dims.len())
                .map(|d| shape[d].min(dims[d] - origin[d]).min(if d == 0 { rows.end - origin[0] } else { u64::MAX }))
                .collect();
            scatter(&bytes, raw, dims, shape, &origin, &low, &high, rows.start, element, leaf);
        }
        Ok(())
    }

    /// Through the library. Files of external storage are looked for beside this file.
    fn by_library(&self, dataset: &Dataset, leaf: &Leaf, rows: &Range<u64>, out: *mut c_void) -> Result<()> {
        let _lock = c::lock();
        // SAFETY: an open file; under the lock.
        let data = unsafe {
            let access = Id::new(ffi::H5Pcreate(ffi::H5P_CLS_DATASET_ACCESS_ID_g), "cannot be opened again")?;
            ffi::H5Pset_efile_prefix(access.raw(), c"${ORIGIN}".as_ptr());
            Id::new(ffi::H5Dopen2(self.file.raw(), dataset.path.as_ptr(), access.raw()), "cannot be opened again")?
        };
        Self::read_selected(&data, dataset, leaf, rows, out)
    }

    /// Reads these rows of an open dataset. Under the lock.
    fn read_selected(data: &Id, dataset: &Dataset, leaf: &Leaf, rows: &Range<u64>, out: *mut c_void) -> Result<()> {
        // SAFETY: open handles, under the lock; `out` has room for the packed leaf of these rows, which is what the
        // memory type and dataspace describe.
        unsafe {
            let kind = memory_type(data, leaf)?;
            if ffi::H5Tget_size(kind.raw()) != if leaf.kind == Kind::Variable { size_of::<*const c_char>() } else { leaf.packed_bytes() } {
                return Err(Error::refused("this type cannot be read on its own"));
            }
            let space = Id::new(ffi::H5Dget_space(data.raw()), "its dataspace is damaged")?;
            if c::dims(&space)?.unwrap_or_default() != if dataset.scalar { &[][..] } else { &dataset.dims[..] } {
                return Err(Error::corrupt("its shape changed while it was read"));
            }
            let memory;
            let memory_raw = if dataset.scalar {
                0
            } else {
                let mut start = vec![0; dataset.dims.len()];
                let mut count = dataset.dims.clone();
                (start[0], count[0]) = (rows.start, rows.end - rows.start);
                let code = ffi::H5Sselect_hyperslab(space.raw(), 0, start.as_ptr(), std::ptr::null(), count.as_ptr(), std::ptr::null());
                c::check(code, "its rows cannot be chosen")?;
                memory =
                    Id::new(ffi::H5Screate_simple(count.len() as c_int, count.as_ptr(), std::ptr::null()), "its rows cannot be chosen")?;
                memory.raw()
            };
            let file_space = if dataset.scalar { 0 } else { space.raw() };
            c::check(ffi::H5Dread(data.raw(), kind.raw(), memory_raw, file_space, 0, out), "cannot be read")
        }
    }

    /// Text of any length.
    fn variable(&self, array: usize, dataset: &Dataset, leaf: &Leaf, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        // Rows and bytes that the library is asked for at a time.
        const ROWS: u64 = 16 << 10;
        const BYTES: u64 = 1 << 20;
        let (mut row, mut step) = (rows.start, ROWS / 16);
        while row < rows.end {
            let end = (row + step).min(rows.end);
            let n = (end - row) as usize;
            let mut pointers: Vec<*mut c_char> = vec![std::ptr::null_mut(); n];
            let mut offsets = Vec::with_capacity(n + 1);
            let mut text = Vec::new();
            offsets.push(0);
            let read = self.by_library(dataset, leaf, &(row..end), pointers.as_mut_ptr().cast());
            for &pointer in &pointers {
                if !pointer.is_null() {
                    // SAFETY: the library allocated a text that ends with a zero byte; it is ours to free.
                    unsafe {
                        text.extend_from_slice(CStr::from_ptr(pointer).to_bytes());
                        ffi::H5free_memory(pointer.cast());
                    }
                }
                offsets.push(text.len() as u64);
            }
            read?;
            for (i, w) in offsets.windows(2).enumerate() {
                utf8(&text[w[0] as usize..w[1] as usize], row + i as u64)?;
            }
            // How long the next ones are is only guessed at.
            step = if text.len() as u64 > BYTES { step / 2 } else { step * 2 }.clamp(1, ROWS);
            let values = Values::Var { offsets, values: text.into() };
            emit(Chunk { array, first_row: row, rows: n as u64, values, valid: None })?;
            row = end;
        }
        Ok(())
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
                    let Some(name) = c::owned_text(ffi::H5Tget_member_name(kind.raw(), m)) else { continue };
                    if String::from_utf8_lossy(&name) == field.as_str() {
                        found = Some((name, Id::new(ffi::H5Tget_member_type(kind.raw(), m), "its type is damaged")?));
                        break;
                    }
                }
            }
            let Some((name, member)) = found else { return Err(Error::refused("a field inside of lists cannot be read on its own")) };
            names.push(name);
            kind = member;
        }
        for name in names.into_iter().rev() {
            let size = ffi::H5Tget_size(kind.raw());
            let outer = Id::new(ffi::H5Tcreate(ffi::COMPOUND, size), "a type cannot be made")?;
            let name = std::ffi::CString::new(name).map_err(|_| Error::corrupt("a field's name has a zero byte"))?;
            c::check(ffi::H5Tinsert(outer.raw(), name.as_ptr(), 0, kind.raw()), "a type cannot be made")?;
            kind = outer;
        }
        Ok(kind)
    }
}

/// Undoes the filters, the last first; a set bit of the mask says that one was left out.
fn decode(chunked: &Chunked, mask: u32, mut bytes: Vec<u8>, whole: usize) -> Result<Vec<u8>> {
    for (i, filter) in chunked.filters.iter().enumerate().rev() {
        if i < 32 && mask >> i & 1 == 1 {
            continue;
        }
        bytes = filters::decode(filter.id, &filter.params, bytes, whole)?;
    }
    Ok(bytes)
}

/// Copies the part `low..high` of a chunk to where it belongs in the rows from `first_row` on.
#[allow(clippy::too_many_arguments)]
fn scatter(
    chunk: &[u8],
    out: &mut [u8],
    dims: &[u64],
    shape: &[u64],
    origin: &[u64],
    low: &[u64],
    high: &[u64],
    first_row: u64,
    element: usize,
    leaf: &Leaf,
) {
    // Dimensions that are whole on both sides are copied together with the one before them.
    let mut run_dim = dims.len() - 1;
    while run_dim > 0 && low[run_dim] == 0 && high[run_dim] == shape[run_dim] && shape[run_dim] == dims[run_dim] {
        run_dim -= 1;
    }
    let tail: u64 = shape[run_dim + 1..].iter().product();
    let run = ((high[run_dim] - low[run_dim]) * tail) as usize;
    let packed = leaf.packed_bytes();
    let whole = leaf.is_whole(element);
    let mut at = low.to_vec();
    loop {
        let (mut from, mut to) = (0u64, 0u64);
        for d in 0..dims.len() {
            from = from * shape[d] + at[d];
            to = to * dims[d] + (origin[d] + at[d] - if d == 0 { first_row } else { 0 });
        }
        let (from, to) = (from as usize * element, to as usize * packed);
        let source = &chunk[from..from + run * element];
        let target = &mut out[to..to + run * packed];
        if whole {
            target.copy_from_slice(source);
        } else {
            leaf.extract(source, element, target);
        }
        // The next run: count up the dimensions before it.
        let mut d = run_dim;
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            at[d] += 1;
            if at[d] < high[d] {
                break;
            }
            at[d] = low[d];
        }
    }
}
