//! What the headers of a dataset say, asked from the library.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::Arc;

use super::access::Access;
use super::dataset::{Chunked, Dataset, Storage};
use super::driver::{self, Ticket};
use super::element_type::{ElementType, TypeLeaf};
use super::external::{External, file_name};
use super::file::OpenFile;
use super::heap::{Heaps, HeapsOf};
use super::library::{self, Id, Library};
use super::vds::Checker;
use super::{ffi, types};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::checked_product;
use crate::storage::{Blob, file_blob};

/// Reads headers of the datasets of a file.
pub(super) struct Headers<'a> {
    pub(super) lib: &'a Library,
    pub(super) access: &'a Arc<Access>,
    ticket: &'a Ticket,
    file_number: u64,
    blob: Arc<dyn Blob>,
    heaps: HeapsOf,
    /// `None` where names are enough: they can be told whatever the sources are.
    sources: Option<Checker<'a>>,
}

impl<'a> Headers<'a> {
    /// Of an open file.
    ///
    /// # Errors
    /// Where the library does not tell its number.
    pub(super) fn new(
        lib: &'a Library,
        file: &'a OpenFile,
        options: &ReadOptions,
    ) -> Result<Headers<'a>> {
        let OpenFile { id, access, ticket, blob, .. } = file;
        let sources = (!options.names_only)
            .then(|| Checker::new(lib, access, ticket, options.resources.memory_bytes()));
        let (file_number, blob, heaps) =
            (library::file_number(lib, id)?, blob.clone(), HeapsOf::default());
        Ok(Headers { lib, access, ticket, file_number, blob, heaps, sources })
    }

    /// The heaps of the file that an object is in.
    ///
    /// # Errors
    /// Where it may not be opened.
    pub(super) fn heaps(&self, object: &Id, info: &ffi::ObjectInfo) -> Result<Arc<Heaps>> {
        let own = info.fileno == self.file_number;
        self.heaps.get(self.lib, object, info.fileno, &|| match own {
            true => Ok(self.blob.clone()),
            false => blob_of(self.lib, object, self.access),
        })
    }

    /// What the headers say about a dataset, but for its name and its attributes.
    ///
    /// # Errors
    /// What cannot be read; corrupt.
    pub(super) fn dataset(
        &mut self,
        data: &Id,
        info: &ffi::ObjectInfo,
        heaps: Arc<Heaps>,
    ) -> Result<Dataset> {
        let (lib, id) = (self.lib, data.raw());
        let (kind, plist) = (
            lib.kind(data)?,
            Id::new(library::reading(|| lib.H5Dget_create_plist(id)), "its header is damaged")?,
        );
        let layout = lib.H5Pget_layout(plist.raw());
        let mut leaves = types::leaves(lib, &kind, heaps.reference_bytes())?;
        let variable = leaves.iter().any(|l| l.kind.is_variable());
        let own = Some(heaps).filter(|_| variable);
        let heaps = if layout == ffi::VIRTUAL { self.of_sources(data, &plist, own)? } else { own };
        let space = lib.space(data)?;
        let dims = library::dims(lib, &space)?;
        let most = library::most_dims(lib, &space)?;
        let null = dims.is_none();
        let scalar = dims.as_ref().is_some_and(Vec::is_empty);
        let dims = dims.unwrap_or_else(|| vec![0]);
        let mut element_bytes = lib.H5Tget_size(kind.raw());
        if element_bytes == 0 {
            return Err(library::failure("its type is damaged"));
        }
        // The library tells the layout that text of any length and references have in memory. Where
        // an element is such text alone, that of the file is known all the same.
        let text_alone = matches!(&leaves[..], [l] if l.kind.is_variable() && l.fields.is_empty());
        if text_alone {
            element_bytes = leaves[0].packed_bytes();
        }
        let total = checked_product(&dims)
            .and_then(|n| n.checked_mul(element_bytes as u64))
            .filter(|&n| n < 1 << 62);
        let total =
            total.ok_or_else(|| Error::corrupt(format!("the shape {dims:?} is too large")))?;
        let has_fill = has_fill(lib, &plist);
        refuse_sequences(&mut leaves, &dims);
        if variable && has_fill && layout == ffi::VIRTUAL {
            return Err(Error::refused(
                "a virtual dataset of text of any length with a fill value is not supported",
            ));
        }
        let storage = match layout {
            ffi::CONTIGUOUS => self.contiguous(data, &plist, info, total),
            ffi::CHUNKED => Chunked::of(lib, &plist, &dims, element_bytes).map(Storage::Chunked),
            _ => Ok(Storage::Library),
        };
        let (mut storage, error) =
            storage.map_or_else(|e| (Storage::Library, Some(e)), |storage| (storage, None));
        let opaque = leaves.iter().any(|l| matches!(l.kind, ElementType::Other { .. }));
        if opaque || variable && (!text_alone || has_fill) {
            storage = match storage {
                Storage::Chunked(c) => Storage::Chunked(Chunked { by_library: true, ..c }),
                _ => Storage::Library,
            };
        }
        let simple = has_fill && leaves.iter().all(|l| l.error.is_none() && !l.kind.is_variable());
        let fill = match simple && element_bytes as u64 <= self.blob.len() {
            true => fill(lib, &plist, &kind, element_bytes)?,
            false => None,
        };
        Ok(Dataset {
            error,
            dims,
            most,
            scalar,
            null,
            element_bytes,
            leaves,
            storage,
            heaps,
            has_text_fill: variable && has_fill,
            fill,
            stored_bytes: lib.H5Dget_storage_size(id),
            elsewhere: info.fileno != self.file_number,
            ..Dataset::default()
        })
    }

    /// The heaps of a virtual dataset's text, in place of its own: its sources are looked at.
    fn of_sources(
        &mut self,
        data: &Id,
        plist: &Id,
        own: Option<Arc<Heaps>>,
    ) -> Result<Option<Arc<Heaps>>> {
        let Some(sources) = &mut self.sources else { return Ok(own) };
        let files = sources.check_all(data, plist)?;
        let of_sources = (self.access.as_ref(), self.ticket);
        own.map(|_| heaps_of_sources(self.lib, &files, &self.heaps, of_sources)).transpose()
    }

    /// Where the `total` bytes of a dataset in one piece are.
    fn contiguous(
        &self,
        data: &Id,
        plist: &Id,
        info: &ffi::ObjectInfo,
        total: u64,
    ) -> Result<Storage> {
        let lib = self.lib;
        let (external, offset) =
            (lib.H5Pget_external_count(plist.raw()), lib.H5Dget_offset(data.raw()));
        if external > 0 {
            let external = External::find(lib, data, plist, external, total, self.access)?;
            return Ok(Storage::External(Arc::new(external)));
        }
        if info.fileno != self.file_number {
            return Ok(Storage::Library);
        }
        let offset = (offset != ffi::UNDEFINED).then_some(offset);
        match offset.map(|at| (at, at.checked_add(total))) {
            Some((at, end)) if end.is_none_or(|end| end > self.blob.len()) => Err(Error::corrupt(
                format!("its {total} bytes begin at byte {at}, the file has {}", self.blob.len()),
            )),
            _ => Ok(Storage::Contiguous(offset)),
        }
    }
}

/// Refuses sequences where no list a row holds them.
fn refuse_sequences(leaves: &mut [TypeLeaf], dims: &[u64]) {
    for leaf in leaves.iter_mut().filter(|l| matches!(l.kind, ElementType::Sequence { .. })) {
        let rank = dims.len() + leaf.dims.len();
        let why = || format!("variable-length sequences of {rank} dimensions are not supported");
        leaf.error = (rank > 1).then(why);
    }
}

/// Whether elements that were never written have a value that the writer chose.
fn has_fill(lib: &Library, plist: &Id) -> bool {
    let mut defined: c_int = 0;
    // SAFETY: an open list.
    unsafe { lib.H5Pfill_value_defined(plist.raw(), &mut defined) };
    defined == ffi::FILL_BY_USER
}

/// The bytes of an element that was never written, where they are not all zero.
fn fill(lib: &Library, plist: &Id, kind: &Id, element_bytes: usize) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; element_bytes];
    // SAFETY: open handles; the buffer has the size of an element.
    let code = unsafe { lib.H5Pget_fill_value(plist.raw(), kind.raw(), value.as_mut_ptr().cast()) };
    library::check(code, "its fill value is damaged")?;
    Ok(Some(value).filter(|v| v.iter().any(|&b| b != 0)))
}

/// The bytes of the file that an object is in.
///
/// # Errors
/// Where it may not be opened.
fn blob_of(lib: &Library, object: &Id, access: &Access) -> Result<Arc<dyn Blob>> {
    let path = file_name(lib, object)?;
    file_blob(access.open(&path).map_err(|denied| denied.error("its text is in"))?)
}

/// The heaps of the one file that the sources of a virtual dataset are in.
///
/// # Errors
/// Refused where there are several.
fn heaps_of_sources(
    lib: &Library,
    files: &BTreeSet<PathBuf>,
    all: &HeapsOf,
    (access, ticket): (&Access, &Ticket),
) -> Result<Arc<Heaps>> {
    let mut files = files.iter();
    let (Some(path), None) = (files.next(), files.next()) else {
        return Err(Error::refused(
            "a virtual dataset of text of any length from several files is not supported",
        )
        .hint("convert its sources, with --concat if they follow each other"));
    };
    let file = driver::open(lib, path, ticket)?;
    all.get(lib, &file, library::file_number(lib, &file)?, &|| blob_of(lib, &file, access))
}
