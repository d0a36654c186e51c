//! Values that only the library reads: virtual datasets, compact ones, those of other files,
//! filters that only it has, fields among text of any length. It gives one leaf of the elements,
//! packed.

use std::ffi::CString;
use std::sync::Arc;

use super::dataset::{Chunked, Dataset};
use super::element_type::{ElementType, TypeLeaf};
use super::file::OpenFile;
use super::library::{self, Id, Library};
use super::{ffi, heap};
use crate::array::{PieceLocation, Pieces};
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::{Blob, BlobSlice};

/// A leaf of a dataset, as the library reads it.
#[derive(Clone)]
pub(super) struct LibraryLeaf {
    pub(super) file: Arc<OpenFile>,
    pub(super) dataset: Arc<Dataset>,
    pub(super) leaf: TypeLeaf,
}

/// A box of a dataset as bytes in C order; what sticks out of the dataset is zeros.
struct LibraryBox {
    of: LibraryLeaf,
    origin: Vec<u64>,
    shape: Vec<u64>,
    row_bytes: u64,
    bytes: u64,
}

impl LibraryLeaf {
    /// Its values in a box. Whole rows of it are read.
    ///
    /// # Errors
    /// A box that is too large.
    pub(super) fn slice(&self, origin: Vec<u64>, shape: &[u64]) -> Result<BlobSlice> {
        let bytes_of = |shape: &[u64]| {
            checked_product(shape).and_then(|n| n.checked_mul(self.leaf.packed_bytes() as u64))
        };
        let (Some(bytes), Some(row_bytes)) =
            (bytes_of(shape), bytes_of(shape.get(1..).unwrap_or_default()))
        else {
            return Err(Error::corrupt(format!("the shape {shape:?} is too large")));
        };
        let (of, shape) = (self.clone(), shape.to_vec());
        let blob = LibraryBox { of, origin, shape, row_bytes, bytes };
        Ok(BlobSlice { blob: Arc::new(blob), start: 0, len: bytes })
    }
}

impl Blob for LibraryBox {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let LibraryLeaf { file, dataset, leaf } = &self.of;
        let (first, rows) = (offset / self.row_bytes, to.len() as u64 / self.row_bytes);
        let is_whole_rows = first * self.row_bytes == offset
            && rows * self.row_bytes == to.len() as u64
            && offset.checked_add(to.len() as u64).is_some_and(|end| end <= self.bytes);
        if !is_whole_rows {
            return Err(Error::internal("parts of rows are asked from the HDF5 library"));
        }
        let (mut origin, mut shape) = (self.origin.clone(), self.shape.clone());
        if let (Some(start), Some(height)) = (origin.first_mut(), shape.first_mut()) {
            (*start, *height) = (*start + first, rows);
        }
        let lib = &library::lock();
        let data = lib.open(&file.id, &dataset.path)?;
        dataset.check_chunks(lib, &data, file.memory_bytes)?;
        // SAFETY: `to` has room for the packed leaf of a box of this shape.
        unsafe { read_box(lib, &data, dataset, leaf, (&origin, &shape), to.as_mut_ptr().cast()) }
    }
}

/// The chunks of a leaf, which the library decodes: each is read whole.
pub(super) struct LibraryChunks {
    leaf: LibraryLeaf,
    chunked: Chunked,
}

impl LibraryChunks {
    /// Of a chunked dataset.
    pub(super) fn new(leaf: LibraryLeaf, chunked: Chunked) -> LibraryChunks {
        LibraryChunks { leaf, chunked }
    }
}

impl Pieces for LibraryChunks {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        let shape = &self.chunked.shape[..self.leaf.dataset.dims.len()];
        let origin = at.iter().zip(shape).map(|(p, s)| p * s).collect();
        let slice = self.leaf.slice(origin, shape)?;
        self.chunked.check_library(slice.len, self.leaf.file.memory_bytes)?;
        Ok(Some(PieceLocation { slice, skipped: 0 }))
    }

    fn is_divisible(&self) -> bool {
        false
    }
}

/// Reads a box of an open dataset into a buffer of its shape, as far as the dataset reaches.
///
/// # Safety
/// `out` has room for the packed leaf of the box.
unsafe fn read_box(
    lib: &Library,
    data: &Id,
    dataset: &Dataset,
    leaf: &TypeLeaf,
    (origin, shape): (&[u64], &[u64]),
    out: *mut std::ffi::c_void,
) -> Result<()> {
    let kind = memory_type(lib, data, leaf)?;
    if lib.H5Tget_size(kind.raw()) != leaf.packed_bytes() {
        return Err(Error::refused("this type cannot be read on its own"));
    }
    let space = lib.space(data)?;
    let dims: &[u64] = if dataset.scalar { &[] } else { &dataset.dims };
    if library::dims(lib, &space)?.unwrap_or_default() != dims {
        return Err(Error::corrupt("its shape changed while it was read"));
    }
    let mut spaces = (ffi::DEFAULT, ffi::DEFAULT);
    let memory;
    if !dataset.scalar {
        let count: Vec<u64> = (0..dims.len()).map(|d| shape[d].min(dims[d] - origin[d])).collect();
        memory = lib.new_space(Some(shape), None)?;
        lib.select(&space, origin, &count)?;
        lib.select(&memory, &vec![0; shape.len()], &count)?;
        spaces = (memory.raw(), space.raw());
    }
    // SAFETY: the memory's dataspace is that of the box; the rest is promised by the caller.
    let code =
        unsafe { lib.H5Dread(data.raw(), kind.raw(), spaces.0, spaces.1, ffi::DEFAULT, out) };
    library::check(code, "cannot be read")
}

/// The type of the leaf in memory: that of the file, or a compound of the one field.
fn memory_type(lib: &Library, data: &Id, leaf: &TypeLeaf) -> Result<Id> {
    let mut kind = lib.kind(data)?;
    let mut names = Vec::new();
    for field in &leaf.fields {
        let members = match lib.H5Tget_class(kind.raw()) {
            ffi::COMPOUND => u32::try_from(lib.H5Tget_nmembers(kind.raw())).unwrap_or(0),
            _ => 0,
        };
        let named = |m: u32| {
            let name = lib.member_name(&kind, m).ok()?;
            (String::from_utf8_lossy(&name) == field.as_str()).then_some((m, name))
        };
        let Some((m, name)) = (0..members).find_map(named) else {
            return Err(Error::refused("a field inside of lists cannot be read on its own"));
        };
        let name =
            CString::new(name).map_err(|_| Error::corrupt("a field's name has a zero byte"))?;
        names.push(name);
        kind = Id::new(lib.H5Tget_member_type(kind.raw(), m), "its type is damaged")?;
    }
    if let ElementType::Variable { bytes } | ElementType::Sequence { bytes, .. } = leaf.kind {
        let dims: Vec<u64> = leaf.dims.iter().map(|d| d.0).collect();
        kind = lib.list_type(heap::raw_type(lib, bytes)?, &dims)?;
    }
    for name in names.into_iter().rev() {
        let bytes = lib.H5Tget_size(kind.raw());
        kind = lib.compound_type(bytes, &[(&name, 0, kind.raw())])?;
    }
    Ok(kind)
}
