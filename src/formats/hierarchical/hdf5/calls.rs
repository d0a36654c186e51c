//! Calls of the library whose lengths and strings are right by their types: safe ones, as far as
//! they can be.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null;

use super::ffi::{self, H5S_class_t, H5T_class_t, H5T_cset_t, Hid, Library};
use super::library::{Id, check, failure};
use crate::error::{Error, Result};

const NO_TYPE: &str = "a type cannot be made";
const NO_SPACE: &str = "a dataspace cannot be made";
const NO_ROWS: &str = "its rows cannot be chosen";

impl Library {
    /// Opens an object below another: a group, a dataset or a type.
    pub(super) fn open(&self, parent: &Id, path: &CStr) -> Result<Id> {
        // SAFETY: the path ends with a zero byte.
        let id = unsafe { self.H5Oopen(parent.raw(), path.as_ptr(), ffi::DEFAULT) };
        Id::new(id, "cannot be opened")
    }

    /// The dataspace of a dataset.
    pub(super) fn space(&self, data: &Id) -> Result<Id> {
        Id::new(self.H5Dget_space(data.raw()), "its dataspace is damaged")
    }

    /// The type of a dataset.
    pub(super) fn kind(&self, data: &Id) -> Result<Id> {
        Id::new(self.H5Dget_type(data.raw()), "its type is damaged")
    }

    /// An empty list of properties.
    pub(super) fn properties(&self, class: Hid) -> Result<Id> {
        Id::new(self.H5Pcreate(class), "a list of properties cannot be made")
    }

    /// Text that the library tells into a buffer: asked for its length first.
    pub(super) fn text(
        &self,
        get: impl Fn(*mut c_char, usize) -> isize,
        what: &str,
    ) -> Result<Vec<u8>> {
        let len = usize::try_from(get(std::ptr::null_mut(), 0)).map_err(|_| failure(what))?;
        let mut text = vec![0u8; len + 1];
        if get(text.as_mut_ptr().cast(), text.len()) < 0 {
            return Err(failure(what));
        }
        text.truncate(len);
        Ok(text)
    }

    /// Text that the library allocated, which is freed; `None` for a null pointer.
    ///
    /// # Safety
    /// `text` comes from a call that gives memory of the library, or is null.
    unsafe fn owned(&self, text: *mut c_char) -> Option<Vec<u8>> {
        if text.is_null() {
            return None;
        }
        // SAFETY: promised by the caller.
        unsafe {
            let bytes = CStr::from_ptr(text).to_bytes().to_vec();
            self.H5free_memory(text.cast());
            Some(bytes)
        }
    }

    /// The name of a member of a compound or an enumeration.
    pub(super) fn member_name(&self, kind: &Id, m: u32) -> Result<Vec<u8>> {
        // SAFETY: the library gives its own memory.
        unsafe { self.owned(self.H5Tget_member_name(kind.raw(), m)) }
            .ok_or_else(|| failure("a type is damaged"))
    }

    /// The tag of an opaque type.
    pub(super) fn tag(&self, kind: Hid) -> Vec<u8> {
        // SAFETY: the library gives its own memory.
        unsafe { self.owned(self.H5Tget_tag(kind)) }.unwrap_or_default()
    }

    /// A copy of a type that can be changed.
    pub(super) fn copy_type(&self, kind: Hid) -> Result<Id> {
        Id::new(self.H5Tcopy(kind), NO_TYPE)
    }

    /// Opaque values of so many bytes.
    pub(super) fn opaque_type(&self, bytes: usize, tag: &CStr) -> Result<Id> {
        let kind = Id::new(self.H5Tcreate(H5T_class_t::H5T_OPAQUE, bytes), NO_TYPE)?;
        // SAFETY: the tag ends with a zero byte.
        check(unsafe { self.H5Tset_tag(kind.raw(), tag.as_ptr()) }, NO_TYPE)?;
        Ok(kind)
    }

    /// A compound of these fields: name, offset and type.
    pub(super) fn compound_type(&self, bytes: usize, fields: &[(&CStr, usize, Hid)]) -> Result<Id> {
        let kind = Id::new(self.H5Tcreate(H5T_class_t::H5T_COMPOUND, bytes), NO_TYPE)?;
        for (name, offset, field) in fields {
            // SAFETY: the name ends with a zero byte.
            let code = unsafe { self.H5Tinsert(kind.raw(), name.as_ptr(), *offset, *field) };
            check(code, NO_TYPE)?;
        }
        Ok(kind)
    }

    /// Lists of a type; the type itself where there are no dimensions.
    pub(super) fn list_type(&self, base: Id, dims: &[u64]) -> Result<Id> {
        if dims.is_empty() {
            return Ok(base);
        }
        // SAFETY: as many dimensions as are told.
        let id = unsafe { self.H5Tarray_create2(base.raw(), dims.len() as c_uint, dims.as_ptr()) };
        Id::new(id, NO_TYPE)
    }

    /// A dataspace of these dimensions, which grow to `most`; of one value, where there are none.
    pub(super) fn new_space(&self, dims: Option<&[u64]>, most: Option<&[u64]>) -> Result<Id> {
        let Some(dims) = dims else {
            return Id::new(self.H5Screate(H5S_class_t::H5S_SCALAR), NO_SPACE);
        };
        let most = most.filter(|most| most.len() == dims.len());
        // SAFETY: arrays of as many dimensions as are told.
        let id = unsafe {
            let most = most.map_or(null(), <[u64]>::as_ptr);
            self.H5Screate_simple(dims.len() as c_int, dims.as_ptr(), most)
        };
        Id::new(id, NO_SPACE)
    }

    /// Selects a box of a dataspace.
    pub(super) fn select(&self, space: &Id, start: &[u64], count: &[u64]) -> Result<()> {
        let rank = self.H5Sget_simple_extent_ndims(space.raw());
        if [start.len(), count.len()].iter().any(|&n| usize::try_from(rank) != Ok(n)) {
            return Err(Error::internal("a selection of another rank"));
        }
        // SAFETY: as many numbers as the dataspace has dimensions.
        let code = unsafe {
            let (start, count) = (start.as_ptr(), count.as_ptr());
            self.H5Sselect_hyperslab(space.raw(), ffi::SELECT_SET, start, null(), count, null())
        };
        check(code, NO_ROWS)
    }

    /// Writes a new attribute; without a value where there is no buffer.
    ///
    /// # Safety
    /// The buffer holds values of this type for all of the dataspace.
    pub(super) unsafe fn write_attribute(
        &self,
        object: &Id,
        name: &CStr,
        (kind, space): (&Id, &Id),
        buffer: Option<*const c_void>,
    ) -> Result<()> {
        let create = self.properties(self.H5P_CLS_ATTRIBUTE_CREATE())?;
        self.H5Pset_char_encoding(create.raw(), H5T_cset_t::H5T_CSET_UTF8);
        let (name, create) = (name.as_ptr(), create.raw());
        // SAFETY: a name that ends with a zero byte; the rest is promised by the caller.
        unsafe {
            let (kind, space) = (kind.raw(), space.raw());
            let id = self.H5Acreate2(object.raw(), name, kind, space, create, ffi::DEFAULT);
            let attribute = Id::new(id, "an attribute cannot be made")?;
            match buffer {
                Some(buffer) => {
                    check(self.H5Awrite(attribute.raw(), kind, buffer), "it cannot be written")
                }
                None => Ok(()),
            }
        }
    }
}
