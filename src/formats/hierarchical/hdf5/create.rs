//! Makes files, groups and datasets.

use std::collections::HashSet;
use std::ffi::{CString, c_int};

use super::attributes::{ENUM, NULL};
use super::driver::{self, Ticket};
use super::ffi::{
    self, H5D_alloc_time_t, H5D_fill_time_t, H5F_close_degree_t, H5F_libver_t, H5S_class_t,
};
use super::layout::{self, DatasetLayout, StorageLayout};
use super::library::{self, Id, Library};
use super::{filters, write_attributes};
use crate::codec::compress::Compressor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::WriteOptions;
use crate::model::{ArrayMeta, checked_product};

/// A dataset that was made.
pub(super) struct DatasetSlot {
    pub(super) path: CString,
    /// Where its bytes begin, if in one piece.
    pub(super) offset: Option<u64>,
    /// Bytes in all, if in one piece.
    pub(super) bytes: u64,
    pub(super) row_bytes: u64,
    /// The row count was not known: the extent grows.
    pub(super) grows: bool,
}

/// What the library says about writing is never about damage.
pub(super) fn writing(e: Error) -> Error {
    if e.kind() == ErrorKind::Corrupt { e.with_kind(ErrorKind::Failed) } else { e }
}

/// A file of the layout of HDF5 1.8, in which groups keep the order of their members.
pub(super) fn new_file(lib: &Library, path: &CString, ticket: &Ticket) -> Result<Id> {
    const V18: H5F_libver_t = H5F_libver_t::H5F_LIBVER_V18;
    // SAFETY: plain calls.
    unsafe {
        let access = lib.properties(lib.H5P_CLS_FILE_ACCESS())?;
        lib.H5Pset_file_locking(access.raw(), 0, 1);
        driver::set(lib, &access, ticket)?;
        lib.H5Pset_libver_bounds(access.raw(), V18, V18);
        // Closing the file closes all that is open in it.
        lib.H5Pset_fclose_degree(access.raw(), H5F_close_degree_t::H5F_CLOSE_STRONG);
        let create = lib.properties(lib.H5P_CLS_FILE_CREATE())?;
        // The same arrays are the same bytes, whenever they are written.
        lib.H5Pset_obj_track_times(create.raw(), 0);
        lib.H5Pset_link_creation_order(create.raw(), ffi::KEEP_ORDER);
        lib.H5Pset_attr_creation_order(create.raw(), ffi::KEEP_ORDER);
        Id::new(
            lib.H5Fcreate(path.as_ptr(), ffi::TRUNCATE, create.raw(), access.raw()),
            "cannot create the file",
        )
    }
}

fn link_list(lib: &Library) -> Result<Id> {
    let link = lib.properties(lib.H5P_CLS_LINK_CREATE())?;
    lib.H5Pset_char_encoding(link.raw(), ffi::H5T_cset_t::H5T_CSET_UTF8);
    Ok(link)
}

/// Makes a group and those that hold it, where they are not there.
pub(super) fn make_groups(
    lib: &Library,
    file: &Id,
    path: &str,
    made: &mut HashSet<String>,
) -> Result<()> {
    if made.contains(path) {
        return Ok(());
    }
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part = &path[..end];
        if made.contains(part) {
            continue;
        }
        let name = library::c_name(&format!("/{part}"))?;
        // SAFETY: plain calls.
        unsafe {
            let create = lib.properties(lib.H5P_CLS_GROUP_CREATE())?;
            lib.H5Pset_obj_track_times(create.raw(), 0);
            lib.H5Pset_link_creation_order(create.raw(), ffi::KEEP_ORDER);
            lib.H5Pset_attr_creation_order(create.raw(), ffi::KEEP_ORDER);
            let id =
                lib.H5Gcreate2(file.raw(), name.as_ptr(), link_list(lib)?.raw(), create.raw(), 0);
            Id::new(id, "cannot make a group").map_err(writing)?;
        }
        made.insert(part.to_string());
    }
    Ok(())
}

/// A dataset that is to be made.
struct NewDataset<'a> {
    lib: &'a Library,
    meta: &'a ArrayMeta,
    /// `[rows, d1, …]`; 0 rows where they are not known.
    dims: Vec<u64>,
    /// The shape of its chunks, if in chunks.
    chunk: Option<Vec<u64>>,
    compressor: Option<Compressor>,
    element_bytes: u32,
    /// It has no dataspace.
    null: bool,
    /// Bytes that are written to their place, in one piece.
    placed_bytes: u64,
}

/// Makes a dataset.
///
/// # Errors
/// What HDF5 cannot hold; what the library says.
pub(super) fn make_dataset(
    lib: &Library,
    file: &Id,
    meta: &ArrayMeta,
    options: &WriteOptions,
) -> Result<(DatasetLayout, DatasetSlot, Id)> {
    let path = library::c_name(&format!("/{}", meta.name))?;
    let attribute = |name: &str| meta.details.attributes.get(name).filter(|_| !options.no_metadata);
    let kind = write_attributes::file_type(lib, meta, attribute(ENUM))?;
    let rank = if meta.scalar { 0 } else { meta.inner.len() + 1 };
    if rank > 32 {
        return Err(Error::refused(format!(
            "HDF5 holds at most 32 dimensions, this array has {rank}"
        )));
    }
    let (is_text, grows) = (layout::is_text(meta), meta.rows.is_none());
    let dims = meta
        .shape()
        .unwrap_or_else(|| std::iter::once(0).chain(meta.inner.iter().copied()).collect());
    let (row_bytes, bytes) = match is_text {
        true => (0, 0),
        false => (meta.row_bytes()?, meta.bytes()?.unwrap_or(0)),
    };
    let element_bytes = layout::element_bytes(meta);
    let compressor = layout::compressor(options, element_bytes as usize)?;
    let is_whole = meta.scalar
        || !grows && dims.contains(&0)
        || compressor.is_none() && options.chunk_shape.is_none();
    let null = attribute(NULL).is_some() && meta.rows == Some(0) && meta.inner.is_empty();
    let can_grow = grows || !null && layout::most(meta, &dims).is_some();
    let chunk = match can_grow || !is_whole {
        true => Some(layout::chunk_of(meta, options)?),
        false => None,
    };
    let placed_bytes = if chunk.is_some() { 0 } else { bytes };
    let new = NewDataset { lib, meta, dims, chunk, compressor, element_bytes, null, placed_bytes };
    let (data, offset) = new.make(file, &path, &kind)?;
    let storage = match (is_text, new.chunk) {
        (true, chunk) => StorageLayout::Text { chunk_rows: chunk.map(|c| c[0]) },
        (false, None) => StorageLayout::Contiguous,
        (false, Some(chunk)) => {
            StorageLayout::Chunked { chunk, codecs: layout::codecs(compressor, element_bytes) }
        }
    };
    let coded = meta.coded_text().map(|_| meta.clone());
    let (name, inner, scalar) = (meta.name.clone(), meta.inner.clone(), meta.scalar);
    let layout = DatasetLayout { name, inner, scalar, element_bytes, storage, coded };
    Ok((layout, DatasetSlot { path, offset, bytes, row_bytes, grows }, data))
}

impl NewDataset<'_> {
    /// The dataset, and where its bytes begin, if in one piece.
    fn make(&self, file: &Id, path: &CString, kind: &Id) -> Result<(Id, Option<u64>)> {
        let (lib, space, create) = (self.lib, self.dataspace()?, self.properties(kind)?);
        // SAFETY: open handles, and a name that ends with a zero byte.
        let (data, offset) = unsafe {
            let id = lib.H5Dcreate2(
                file.raw(),
                path.as_ptr(),
                kind.raw(),
                space.raw(),
                link_list(lib)?.raw(),
                create.raw(),
                ffi::DEFAULT,
            );
            let data = Id::new(id, "cannot make the dataset")?;
            let offset = lib.H5Dget_offset(data.raw());
            (data, offset)
        };
        match (self.placed_bytes, offset) {
            (0, _) => Ok((data, None)),
            (_, ffi::UNDEFINED) => Err(Error::failed("the dataset has no place in the file")),
            (_, offset) => Ok((data, Some(offset))),
        }
    }

    fn dataspace(&self) -> Result<Id> {
        if self.null {
            let null = self.lib.H5Screate(H5S_class_t::H5S_NULL);
            return Id::new(null, "cannot make a dataspace");
        }
        let mut most = layout::most(self.meta, &self.dims).unwrap_or_else(|| self.dims.clone());
        if self.meta.rows.is_none() {
            most[0] = ffi::UNLIMITED;
        }
        self.lib.new_space((!self.meta.scalar).then_some(&self.dims[..]), Some(&most))
    }

    /// The list of its properties: chunks and filters among them.
    fn properties(&self, kind: &Id) -> Result<Id> {
        let lib = self.lib;
        // SAFETY: an open list; the arrays have the lengths that are told.
        unsafe {
            let id = lib.H5Pcreate(lib.H5P_CLS_DATASET_CREATE());
            let create = Id::new(id, "cannot make a dataset")?;
            lib.H5Pset_obj_track_times(create.raw(), 0);
            lib.H5Pset_attr_creation_order(create.raw(), ffi::KEEP_ORDER);
            if self.placed_bytes > 0 {
                // The place is taken at once, and nothing but our own bytes is written there.
                lib.H5Pset_alloc_time(create.raw(), H5D_alloc_time_t::H5D_ALLOC_TIME_EARLY);
                lib.H5Pset_fill_time(create.raw(), H5D_fill_time_t::H5D_FILL_TIME_NEVER);
            }
            if let Some(fill) = self.meta.fill_value()
                && lib.H5Tget_size(kind.raw()) == fill.len()
            {
                let code = lib.H5Pset_fill_value(create.raw(), kind.raw(), fill.as_ptr().cast());
                library::check(code, "cannot set the fill value")?;
            }
            let Some(chunk) = &self.chunk else { return Ok(create) };
            let code = lib.H5Pset_chunk(create.raw(), chunk.len() as c_int, chunk.as_ptr());
            library::check(code, "cannot set the chunks")?;
            for (id, params) in self.filters(chunk) {
                let code = lib.H5Pset_filter(
                    create.raw(),
                    id as c_int,
                    ffi::OPTIONAL_FILTER,
                    params.len(),
                    params.as_ptr(),
                );
                library::check(code, "cannot set the filters")?;
            }
            Ok(create)
        }
    }

    /// The numbers of the filters, with their parameters.
    fn filters(&self, chunk: &[u64]) -> Vec<(u32, Vec<u32>)> {
        let Some(compressor) = self.compressor else { return Vec::new() };
        let mut filters = Vec::new();
        if layout::is_shuffled(self.compressor, self.element_bytes) {
            filters.push((filters::SHUFFLE, vec![self.element_bytes]));
        }
        let bytes = checked_product(chunk).unwrap_or(0) * u64::from(self.element_bytes);
        filters.push(match layout::is_text(self.meta) {
            // The library compresses references to text itself, and knows gzip alone.
            true => (filters::DEFLATE, vec![4]),
            false => filters::of(compressor, bytes as u32),
        });
        filters
    }
}
