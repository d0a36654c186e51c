//! What the headers of a dataset say, asked from the library.

use std::ffi::c_int;
use std::sync::Arc;

use super::access::Access;
use super::c::{self, Id};
use super::dataset::{Chunked, Dataset, Storage};
use super::driver::Ticket;
use super::external::External;
use super::file::OpenFile;
use super::heap::{self, Heaps, HeapsOf};
use super::kind::Kind;
use super::vds::Checker;
use super::{ffi, types};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::checked_product;
use crate::storage::Blob;

/// Reads headers of the datasets of a file.
pub(super) struct Headers<'a> {
    pub(super) access: &'a Arc<Access>,
    ticket: &'a Ticket,
    file_number: u64,
    blob: Arc<dyn Blob>,
    heaps: HeapsOf,
    /// `None` where names are enough: they can be told whatever the sources are.
    sources: Option<Checker<'a>>,
}

impl<'a> Headers<'a> {
    /// Of an open file. Under the lock.
    ///
    /// # Errors
    /// Where the library does not tell its number.
    pub(super) fn new(file: &'a OpenFile, options: &ReadOptions) -> Result<Headers<'a>> {
        let OpenFile { id, access, ticket, blob, .. } = file;
        let sources =
            (!options.names_only).then(|| Checker::new(access, ticket, options.memory_bytes));
        let (file_number, blob, heaps) = (c::file_number(id)?, blob.clone(), HeapsOf::default());
        Ok(Headers { access, ticket, file_number, blob, heaps, sources })
    }

    /// The heaps of the file that an object is in. Under the lock.
    ///
    /// # Errors
    /// Where it may not be opened.
    pub(super) fn heaps(&self, object: &Id, info: &ffi::ObjectInfo) -> Result<Arc<Heaps>> {
        let own = info.fileno == self.file_number;
        self.heaps.get(object, info.fileno, &|| match own {
            true => Ok(self.blob.clone()),
            false => heap::blob_of(object, self.access),
        })
    }

    /// What the headers say about a dataset, but for its name and its attributes. Under the lock.
    ///
    /// # Errors
    /// What cannot be read; corrupt.
    pub(super) fn dataset(
        &mut self,
        data: &Id,
        info: &ffi::ObjectInfo,
        heaps: Arc<Heaps>,
    ) -> Result<Dataset> {
        let id = data.raw();
        // SAFETY: an open dataset; under the lock (all of this function).
        let (kind, plist) = unsafe {
            (
                Id::new(ffi::H5Dget_type(id), "its type is damaged")?,
                Id::new(c::reading(|| ffi::H5Dget_create_plist(id)), "its header is damaged")?,
            )
        };
        // SAFETY: as above.
        let layout = unsafe { ffi::H5Pget_layout(plist.raw()) };
        let leaves = types::leaves(&kind, heaps.reference_bytes())?;
        let variable = leaves.iter().any(|l| l.kind.is_variable());
        let mut heaps = Some(heaps).filter(|_| variable);
        if layout == ffi::VIRTUAL
            && let Some(sources) = &mut self.sources
        {
            let files = sources.check_all(data, &plist)?;
            if variable {
                heaps = Some(heap::of_sources(&files, &self.heaps, (self.access, self.ticket))?);
            }
        }
        // SAFETY: as above.
        let space = Id::new(unsafe { ffi::H5Dget_space(id) }, "its dataspace is damaged")?;
        let dims = c::dims(&space)?;
        let null = dims.is_none();
        let scalar = dims.as_ref().is_some_and(Vec::is_empty);
        let dims = dims.unwrap_or_else(|| vec![0]);
        // SAFETY: as above.
        let mut element_bytes = unsafe { ffi::H5Tget_size(kind.raw()) };
        if element_bytes == 0 {
            return Err(c::failure("its type is damaged"));
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
        let has_fill = has_fill(&plist);
        if variable && has_fill && layout == ffi::VIRTUAL {
            return Err(Error::refused(
                "a virtual dataset of text of any length with a fill value is not supported",
            ));
        }
        let mut storage = match layout {
            ffi::CONTIGUOUS => self.contiguous(data, &plist, info, total)?,
            ffi::CHUNKED => Storage::Chunked(Chunked::of(&plist, &dims, element_bytes)?),
            _ => Storage::Library,
        };
        let opaque = leaves.iter().any(|l| matches!(l.kind, Kind::Other { .. }));
        if opaque || variable && (!text_alone || has_fill) {
            storage = match storage {
                Storage::Chunked(c) => Storage::Chunked(Chunked { by_library: true, ..c }),
                _ => Storage::Library,
            };
        }
        let simple = has_fill && leaves.iter().all(|l| l.error.is_none() && !l.kind.is_variable());
        let fill = match simple && element_bytes as u64 <= self.blob.len() {
            true => fill(&plist, &kind, element_bytes)?,
            false => None,
        };
        Ok(Dataset {
            dims,
            scalar,
            null,
            element_bytes,
            leaves,
            storage,
            heaps,
            has_text_fill: variable && has_fill,
            fill,
            // SAFETY: as above.
            stored_bytes: unsafe { ffi::H5Dget_storage_size(id) },
            elsewhere: info.fileno != self.file_number,
            ..Dataset::default()
        })
    }

    /// Where the `total` bytes of a dataset in one piece are.
    fn contiguous(
        &self,
        data: &Id,
        plist: &Id,
        info: &ffi::ObjectInfo,
        total: u64,
    ) -> Result<Storage> {
        // SAFETY: an open list and dataset; under the lock.
        let (external, offset) =
            unsafe { (ffi::H5Pget_external_count(plist.raw()), ffi::H5Dget_offset(data.raw())) };
        if external > 0 {
            let external = External::find(data, plist, external, total, self.access)?;
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

/// Whether elements that were never written have a value that the writer chose. Under the lock.
fn has_fill(plist: &Id) -> bool {
    const BY_USER: c_int = 2;
    let mut defined: c_int = 0;
    // SAFETY: an open list; under the lock.
    unsafe { ffi::H5Pfill_value_defined(plist.raw(), &mut defined) };
    defined == BY_USER
}

/// The bytes of an element that was never written, where they are not all zero. Under the lock.
fn fill(plist: &Id, kind: &Id, element_bytes: usize) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; element_bytes];
    // SAFETY: open handles; the buffer has the size of an element; under the lock.
    let code =
        unsafe { ffi::H5Pget_fill_value(plist.raw(), kind.raw(), value.as_mut_ptr().cast()) };
    c::check(code, "its fill value is damaged")?;
    Ok(Some(value).filter(|v| v.iter().any(|&b| b != 0)))
}
