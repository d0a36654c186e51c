//! The functions of the HDF5 C library that are used here, as methods of [`Library`]: a call
//! without the library's lock does not compile.
//!
//! The declarations are those of `hdf5-metno-sys`, but for functions and structures with one of its
//! enumerations that the library fills: a file decides some of those values, and no file may make
//! an invalid Rust enumeration. Those are declared here with plain integers.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::marker::PhantomData;
use std::mem::offset_of;

pub use hdf5_sys::h5::{H5_index_t, H5_iter_order_t};
use hdf5_sys::h5d::H5D_chunk_iter_op_t;
pub use hdf5_sys::h5d::{H5D_alloc_time_t, H5D_fill_time_t};
pub use hdf5_sys::h5e::{H5E_auto2_t, H5E_direction_t, H5E_error2_t, H5E_walk2_t};
pub use hdf5_sys::h5f::{H5F_close_degree_t, H5F_libver_t, H5F_scope_t};
use hdf5_sys::h5fd::H5FD_t;
use hdf5_sys::h5l::H5L_info2_t;
use hdf5_sys::h5o::H5O_info2_t;
use hdf5_sys::h5r::H5R_type_t;
pub use hdf5_sys::h5s::{H5S_class_t, H5S_seloper_t};
use hdf5_sys::h5t::H5T_cdata_t;
pub use hdf5_sys::h5t::{H5T_class_t, H5T_cset_t, H5T_pers_t, H5T_str_t};
pub use hdf5_sys::h5z::H5Z_class2_t;

pub type Hid = i64;
pub type Herr = c_int;
pub type Haddr = u64;
pub type Hsize = u64;

/// `HADDR_UNDEF`
pub const UNDEFINED: Haddr = u64::MAX;
/// `H5T_VARIABLE`
pub const VARIABLE: usize = usize::MAX;
/// `H5S_UNLIMITED`
pub const UNLIMITED: Hsize = u64::MAX;
/// `H5P_DEFAULT`, and `H5S_ALL` where a dataspace is meant
pub const DEFAULT: Hid = 0;
/// `H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS`
pub const DONT_FILTER_PARTIAL_CHUNKS: c_uint = 2;
/// `H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED`
pub const KEEP_ORDER: c_uint = 3;
/// `H5Z_FLAG_OPTIONAL`
pub const OPTIONAL_FILTER: c_uint = 1;
/// `H5F_ACC_RDONLY`
pub const READ_ONLY: c_uint = 0;
/// `H5F_ACC_TRUNC`
pub const TRUNCATE: c_uint = 2;
/// `H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS`
pub const OBJECT_FIELDS: c_uint = 1 | 4;
/// `H5D_FILL_VALUE_USER_DEFINED`
pub const FILL_BY_USER: c_int = 2;
/// `H5D_CHUNK_IDX_EARRAY`
pub const EXTENSIBLE_ARRAY: c_int = 4;

/// References to objects, as HDF5 1.8 has them.
pub const OBJECT_REFERENCE: H5R_type_t = H5R_type_t::H5R_OBJECT1;

/// How a selection is made.
pub const SELECT_SET: H5S_seloper_t = H5S_seloper_t::H5S_SELECT_SET;

// H5D_layout_t
pub const CONTIGUOUS: c_int = 1;
pub const CHUNKED: c_int = 2;
pub const VIRTUAL: c_int = 3;

// H5O_type_t
pub const GROUP: c_int = 0;
pub const DATASET: c_int = 1;
pub const NAMED_TYPE: c_int = 2;

// H5L_type_t
pub const HARD_LINK: c_int = 0;
pub const SOFT_LINK: c_int = 1;
pub const EXTERNAL_LINK: c_int = 64;

// H5S_class_t
pub const SCALAR_SPACE: c_int = 0;
pub const SIMPLE_SPACE: c_int = 1;
pub const NULL_SPACE: c_int = 2;

// H5S_sel_type
pub const SELECTED_NONE: c_int = 0;
pub const SELECTED_HYPERSLABS: c_int = 2;
pub const SELECTED_ALL: c_int = 3;

// H5T_class_t
pub const INTEGER: c_int = 0;
pub const FLOAT: c_int = 1;
pub const TIME: c_int = 2;
pub const STRING: c_int = 3;
pub const BITFIELD: c_int = 4;
pub const OPAQUE: c_int = 5;
pub const COMPOUND: c_int = 6;
pub const REFERENCE: c_int = 7;
pub const ENUM: c_int = 8;
pub const VLEN: c_int = 9;
pub const ARRAY: c_int = 10;
pub const COMPLEX: c_int = 11;

// H5T_order_t
pub const LITTLE_ENDIAN: c_int = 0;
pub const BIG_ENDIAN: c_int = 1;
pub const VAX_ORDER: c_int = 2;
pub const NO_ORDER: c_int = 4;

/// `H5T_SGN_2`
pub const TWOS_COMPLEMENT: c_int = 1;
/// `H5T_CSET_ASCII`
pub const ASCII: c_int = 0;
/// `H5T_STR_NULLTERM`
pub const NULL_TERMINATED: c_int = 0;
/// `H5T_STR_SPACEPAD`
pub const SPACE_PADDED: c_int = 2;

// H5T_cmd_t
pub const INITIALISE: c_int = 0;
pub const CONVERT: c_int = 1;

/// `H5O_token_t`
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token(pub [u8; 16]);

/// `H5O_info2_t`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ObjectInfo {
    pub fileno: c_ulong,
    pub token: Token,
    pub kind: c_int,
    pub links: c_uint,
    pub times: [i64; 4],
    pub attributes: Hsize,
}

/// `H5L_info2_t`
#[repr(C)]
pub struct LinkInfo {
    pub kind: c_int,
    pub ordered: bool,
    pub order: i64,
    pub cset: c_int,
    /// A union: the token of an object, or the size of the value.
    pub value: [u64; 2],
}

/// `H5T_cdata_t`
#[repr(C)]
pub struct ConversionData {
    pub command: c_int,
    pub background: c_int,
    pub recalculate: bool,
    pub private: *mut c_void,
}

/// `H5FD_t`: what the library keeps in the first bytes of a driver's file.
#[repr(C)]
#[derive(Default)]
pub struct DriverFile {
    pub driver: Hid,
    pub class: usize,
    pub number: c_ulong,
    pub access_flags: c_uint,
    pub features: c_ulong,
    pub maxaddr: Haddr,
    pub base: Haddr,
    pub threshold: Hsize,
    pub alignment: Hsize,
    pub paged: bool,
}

/// `H5FD_class_t`, version 1; callbacks that are not used are null. The sys crate describes the
/// version before, without the first field.
#[repr(C)]
pub struct DriverClass {
    pub version: c_uint,
    pub value: c_int,
    pub name: *const c_char,
    pub maxaddr: Haddr,
    pub close_degree: c_int,
    pub terminate: *const c_void,
    pub superblock: [*const c_void; 3],
    pub access_size: usize,
    pub access_get: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub access_copy: *const c_void,
    pub access_free: *const c_void,
    pub transfer_size: usize,
    pub transfer: [*const c_void; 2],
    pub open: unsafe extern "C" fn(*const c_char, c_uint, Hid, Haddr) -> *mut c_void,
    pub close: unsafe extern "C" fn(*mut c_void) -> Herr,
    pub compare: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
    pub query: unsafe extern "C" fn(*const c_void, *mut c_ulong) -> Herr,
    pub type_map: *const c_void,
    pub allocate: *const c_void,
    pub free: *const c_void,
    pub get_eoa: unsafe extern "C" fn(*const c_void, c_int) -> Haddr,
    pub set_eoa: unsafe extern "C" fn(*mut c_void, c_int, Haddr) -> Herr,
    pub get_eof: unsafe extern "C" fn(*const c_void, c_int) -> Haddr,
    pub get_handle: *const c_void,
    pub read: unsafe extern "C" fn(*mut c_void, c_int, Hid, Haddr, usize, *mut c_void) -> Herr,
    pub write: unsafe extern "C" fn(*mut c_void, c_int, Hid, Haddr, usize, *const c_void) -> Herr,
    pub vectors: [*const c_void; 4],
    pub flush: *const c_void,
    pub truncate: unsafe extern "C" fn(*mut c_void, Hid, bool) -> Herr,
    /// lock, unlock, delete, control
    pub others: [*const c_void; 4],
    pub free_lists: [c_int; 7],
}

// SAFETY: the class is never written to.
unsafe impl Sync for DriverClass {}

/// The structures of this file are laid out as those of the sys crate.
const _: () = {
    assert!(size_of::<ObjectInfo>() == size_of::<H5O_info2_t>());
    assert!(offset_of!(ObjectInfo, token) == offset_of!(H5O_info2_t, token));
    assert!(offset_of!(ObjectInfo, kind) == offset_of!(H5O_info2_t, type_));
    assert!(offset_of!(ObjectInfo, attributes) == offset_of!(H5O_info2_t, num_attrs));
    assert!(size_of::<LinkInfo>() == size_of::<H5L_info2_t>());
    assert!(offset_of!(LinkInfo, kind) == offset_of!(H5L_info2_t, type_));
    assert!(offset_of!(LinkInfo, value) == offset_of!(H5L_info2_t, u));
    assert!(size_of::<ConversionData>() == size_of::<H5T_cdata_t>());
    assert!(offset_of!(ConversionData, background) == offset_of!(H5T_cdata_t, need_bkg));
    assert!(offset_of!(ConversionData, private) == offset_of!(H5T_cdata_t, _priv));
    // That of the library has two fields more.
    assert!(size_of::<DriverFile>() == size_of::<H5FD_t>() + 16);
    assert!(offset_of!(DriverFile, number) == offset_of!(H5FD_t, fileno));
    assert!(INTEGER == H5T_class_t::H5T_INTEGER as c_int);
    assert!(ARRAY == H5T_class_t::H5T_ARRAY as c_int);
    assert!(NULL_SPACE == H5S_class_t::H5S_NULL as c_int);
};

pub type Conversion = unsafe extern "C" fn(
    Hid,
    Hid,
    *mut ConversionData,
    usize,
    usize,
    usize,
    *mut c_void,
    *mut c_void,
    Hid,
) -> Herr;
pub type LinkVisitor =
    unsafe extern "C" fn(Hid, *const c_char, *const LinkInfo, *mut c_void) -> Herr;

/// The library, locked for this thread; that may happen several times.
pub struct Library {
    /// It stays on this thread.
    _of_thread: PhantomData<*const ()>,
}

impl Library {
    /// Waits for the lock.
    pub fn locked() -> Library {
        std::mem::forget(hdf5_sys::LOCK.lock());
        Library { _of_thread: PhantomData }
    }

    /// The type of floating-point numbers of 16 bits.
    pub fn H5T_IEEE_F16LE(&self) -> Hid {
        unsafe extern "C" {
            static H5T_IEEE_F16LE_g: Hid;
        }
        // SAFETY: a plain number, which the library set when it was opened; under the lock.
        unsafe { H5T_IEEE_F16LE_g }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: this thread took the lock in `locked`, where the guard was given up.
        unsafe { hdf5_sys::LOCK.force_unlock() };
    }
}

/// Functions as methods. Those of numbers and identifiers alone are safe: the library checks
/// whether a number is an identifier, and of what.
macro_rules! calls {
    (safe $($module:path { $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* })*) => {
        impl Library {
            $($(
                #[inline]
                pub fn $name(&self, $($arg: $type),*) -> $out {
                    use $module as module;
                    // SAFETY: under the lock; there is no pointer among the arguments.
                    unsafe { module::$name($($arg),*) }
                }
            )*)*
        }
    };
    (unsafe $($module:path { $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* })*) => {
        impl Library {
            $($(
                #[inline]
                pub unsafe fn $name(&self, $($arg: $type),*) -> $out {
                    use $module as module;
                    // SAFETY: under the lock; the rest is promised by the caller.
                    unsafe { module::$name($($arg),*) }
                }
            )*)*
        }
    };
    (own $declared:ident { $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* } $kind:tt) => {
        mod $declared {
            use super::*;
            unsafe extern "C" {
                $(pub fn $name($($arg: $type),*) -> $out;)*
            }
        }
        calls! { $kind $declared { $($name($($arg: $type),*) -> $out;)* } }
    };
}

/// Identifiers of the library's own types and classes.
macro_rules! identifiers {
    ($($module:path { $($name:ident)* })*) => {
        impl Library {
            $($(
                #[inline]
                pub fn $name(&self) -> Hid {
                    use $module as module;
                    *module::$name
                }
            )*)*
        }
    };
}

identifiers! {
    hdf5_sys::h5p {
        H5P_CLS_FILE_CREATE H5P_CLS_FILE_ACCESS H5P_CLS_DATASET_CREATE H5P_CLS_GROUP_CREATE
        H5P_CLS_LINK_CREATE H5P_CLS_ATTRIBUTE_CREATE
    }
    hdf5_sys::h5t {
        H5T_STD_I8LE H5T_STD_I16LE H5T_STD_I32LE H5T_STD_I64LE H5T_STD_U8LE H5T_STD_U16LE
        H5T_STD_U32LE H5T_STD_U64LE H5T_IEEE_F32LE H5T_IEEE_F64LE H5T_C_S1 H5T_STD_REF_OBJ
    }
}

calls! {
    safe
    hdf5_sys::h5 {
        H5open() -> Herr;
        H5dont_atexit() -> Herr;
        H5allocate_memory(size: usize, clear: u8) -> *mut c_void;
    }
    hdf5_sys::h5a {
        H5Aget_space(attribute: Hid) -> Hid;
        H5Aget_type(attribute: Hid) -> Hid;
        H5Aget_storage_size(attribute: Hid) -> Hsize;
    }
    hdf5_sys::h5d {
        H5Dget_space(data: Hid) -> Hid;
        H5Dget_type(data: Hid) -> Hid;
        H5Dget_create_plist(data: Hid) -> Hid;
        H5Dget_offset(data: Hid) -> Haddr;
        H5Dget_storage_size(data: Hid) -> Hsize;
    }
    hdf5_sys::h5e {
        H5Eclear2(stack: Hid) -> Herr;
    }
    hdf5_sys::h5f {
        H5Fflush(object_id: Hid, scope: H5F_scope_t) -> Herr;
        H5Fget_create_plist(file: Hid) -> Hid;
    }
    hdf5_sys::h5g {
        H5Gget_create_plist(group_id: Hid) -> Hid;
    }
    hdf5_sys::h5i {
        H5Idec_ref(id: Hid) -> c_int;
        H5Iget_file_id(id: Hid) -> Hid;
    }
    hdf5_sys::h5p {
        H5Pcreate(cls_id: Hid) -> Hid;
        H5Pset_file_locking(list: Hid, use_file_locking: u8, ignore_when_disable: u8) -> Herr;
        H5Pset_fclose_degree(list: Hid, degree: H5F_close_degree_t) -> Herr;
        H5Pset_libver_bounds(list: Hid, low: H5F_libver_t, high: H5F_libver_t) -> Herr;
        H5Pget_driver_info(list: Hid) -> *mut c_void;
        H5Pget_external_count(list: Hid) -> c_int;
        H5Pget_virtual_vspace(list: Hid, index: usize) -> Hid;
        H5Pget_virtual_srcspace(list: Hid, index: usize) -> Hid;
        H5Pget_nfilters(list: Hid) -> c_int;
        H5Pset_alloc_time(list: Hid, alloc_time: H5D_alloc_time_t) -> Herr;
        H5Pset_fill_time(list: Hid, fill_time: H5D_fill_time_t) -> Herr;
        H5Pset_link_creation_order(list: Hid, crt_order_flags: c_uint) -> Herr;
        H5Pset_attr_creation_order(list: Hid, crt_order_flags: c_uint) -> Herr;
        H5Pset_obj_track_times(list: Hid, track_times: u8) -> Herr;
        H5Pset_char_encoding(list: Hid, encoding: H5T_cset_t) -> Herr;
    }
    hdf5_sys::h5s {
        H5Screate(kind: H5S_class_t) -> Hid;
        H5Sget_simple_extent_ndims(space: Hid) -> c_int;
        H5Sget_select_npoints(space: Hid) -> i64;
        H5Sis_regular_hyperslab(space: Hid) -> c_int;
    }
    hdf5_sys::h5t {
        H5Tcreate(kind: H5T_class_t, size: usize) -> Hid;
        H5Tcopy(kind: Hid) -> Hid;
        H5Tget_size(kind: Hid) -> usize;
        H5Tset_size(kind: Hid, size: usize) -> Herr;
        H5Tget_precision(kind: Hid) -> usize;
        H5Tget_offset(kind: Hid) -> c_int;
        H5Tset_fields(kind: Hid, spos: usize, epos: usize, esize: usize, mpos: usize,
            msize: usize) -> Herr;
        H5Tget_ebias(kind: Hid) -> usize;
        H5Tset_ebias(kind: Hid, ebias: usize) -> Herr;
        H5Tget_super(kind: Hid) -> Hid;
        H5Tget_nmembers(kind: Hid) -> c_int;
        H5Tget_member_name(kind: Hid, membno: c_uint) -> *mut c_char;
        H5Tget_member_offset(kind: Hid, membno: c_uint) -> usize;
        H5Tget_member_type(kind: Hid, membno: c_uint) -> Hid;
        H5Tget_array_ndims(kind: Hid) -> c_int;
        H5Tis_variable_str(kind: Hid) -> c_int;
        H5Tset_cset(kind: Hid, cset: H5T_cset_t) -> Herr;
        H5Tset_strpad(kind: Hid, strpad: H5T_str_t) -> Herr;
        H5Tget_tag(kind: Hid) -> *mut c_char;
        H5Tenum_create(base_id: Hid) -> Hid;
        H5Tvlen_create(base_id: Hid) -> Hid;
    }
    hdf5_sys::h5z {
        H5Zfilter_avail(id: c_int) -> c_int;
    }
}

calls! {
    unsafe
    hdf5_sys::h5 {
        H5free_memory(memory: *mut c_void) -> Herr;
    }
    hdf5_sys::h5a {
        H5Acreate2(parent: Hid, attr_name: *const c_char, kind: Hid, space: Hid, acpl_id: Hid,
            aapl_id: Hid) -> Hid;
        H5Aopen_by_idx(parent: Hid, obj_name: *const c_char, idx_type: H5_index_t,
            order: H5_iter_order_t, n: Hsize, aapl_id: Hid, lapl_id: Hid) -> Hid;
        H5Aexists(object: Hid, attr_name: *const c_char) -> c_int;
        H5Aget_name(attribute: Hid, buf_size: usize, buf: *mut c_char) -> isize;
        H5Aread(attribute: Hid, kind: Hid, buf: *mut c_void) -> Herr;
        H5Awrite(attribute: Hid, kind: Hid, buf: *const c_void) -> Herr;
    }
    hdf5_sys::h5d {
        H5Dcreate2(parent: Hid, name: *const c_char, kind: Hid, space: Hid, lcpl_id: Hid, list: Hid,
            dapl_id: Hid) -> Hid;
        H5Dread(data: Hid, mem_type_id: Hid, mem_space_id: Hid, file_space_id: Hid, list: Hid,
            buf: *mut c_void) -> Herr;
        H5Dwrite(data: Hid, mem_type_id: Hid, mem_space_id: Hid, file_space_id: Hid, list: Hid,
            buf: *const c_void) -> Herr;
        H5Dset_extent(data: Hid, size: *const Hsize) -> Herr;
        H5Dchunk_iter(data: Hid, transfer: Hid, cb: H5D_chunk_iter_op_t,
            op_data: *mut c_void) -> Herr;
        H5Dread_chunk2(data: Hid, transfer: Hid, offset: *const Hsize, filters: *mut u32,
            buf: *mut c_void, buf_size: *mut usize) -> Herr;
        H5Dwrite_chunk(data: Hid, transfer: Hid, filters: u32, offset: *const Hsize,
            data_size: usize, buf: *const c_void) -> Herr;
    }
    hdf5_sys::h5e {
        H5Eset_auto2(stack: Hid, function: H5E_auto2_t, data: *mut c_void) -> Herr;
        H5Ewalk2(stack: Hid, direction: H5E_direction_t, function: H5E_walk2_t,
            data: *mut c_void) -> Herr;
    }
    hdf5_sys::h5f {
        H5Fopen(filename: *const c_char, flags: c_uint, access_plist: Hid) -> Hid;
        H5Fcreate(filename: *const c_char, flags: c_uint, create_plist: Hid,
            access_plist: Hid) -> Hid;
        H5Fget_name(object: Hid, name: *mut c_char, size: usize) -> isize;
        H5Fget_filesize(file: Hid, size: *mut Hsize) -> Herr;
        H5Fget_fileno(file: Hid, fileno: *mut c_ulong) -> Herr;
    }
    hdf5_sys::h5g {
        H5Gcreate2(parent: Hid, name: *const c_char, lcpl_id: Hid, gcpl_id: Hid,
            gapl_id: Hid) -> Hid;
    }
    hdf5_sys::h5i {
        H5Iget_name(id: Hid, name: *mut c_char, size: usize) -> isize;
    }
    hdf5_sys::h5o {
        H5Oopen(parent: Hid, name: *const c_char, lapl_id: Hid) -> Hid;
    }
    hdf5_sys::h5p {
        H5Pget_sizes(list: Hid, sizeof_addr: *mut usize, sizeof_size: *mut usize) -> Herr;
        H5Pget_userblock(list: Hid, size: *mut Hsize) -> Herr;
        H5Pset_driver(list: Hid, driver_id: Hid, driver_info: *const c_void) -> Herr;
        H5Pget_chunk(list: Hid, max_ndims: c_int, dim: *mut Hsize) -> c_int;
        H5Pset_chunk(list: Hid, ndims: c_int, dim: *const Hsize) -> Herr;
        H5Pset_fill_value(list: Hid, type_id: Hid, value: *const c_void) -> Herr;
        H5Pget_chunk_opts(list: Hid, opts: *mut c_uint) -> Herr;
        H5Pget_external(list: Hid, idx: c_uint, name_size: usize, name: *mut c_char,
            offset: *mut i64, size: *mut Hsize) -> Herr;
        H5Pget_virtual_count(list: Hid, count: *mut usize) -> Herr;
        H5Pget_virtual_filename(list: Hid, index: usize, name: *mut c_char, size: usize) -> isize;
        H5Pget_virtual_dsetname(list: Hid, index: usize, name: *mut c_char, size: usize) -> isize;
        H5Pget_filter2(list: Hid, filter: c_uint, flags: *mut c_uint, cd_nelmts: *mut usize,
            cd_values: *mut c_uint, namelen: usize, name: *mut c_char,
            filter_config: *mut c_uint) -> c_int;
        H5Pset_filter(list: Hid, filter: c_int, flags: c_uint, cd_nelmts: usize,
            c_values: *const c_uint) -> Herr;
        H5Pget_fill_value(list: Hid, kind: Hid, value: *mut c_void) -> Herr;
        H5Pget_link_creation_order(list: Hid, crt_order_flags: *mut c_uint) -> Herr;
    }
    hdf5_sys::h5r {
        H5Rdereference2(object: Hid, oapl_id: Hid, ref_type: H5R_type_t,
            reference: *const c_void) -> Hid;
        H5Rcreate(reference: *mut c_void, parent: Hid, name: *const c_char, ref_type: H5R_type_t,
            space: Hid) -> Herr;
    }
    hdf5_sys::h5s {
        H5Screate_simple(rank: c_int, dims: *const Hsize, maxdims: *const Hsize) -> Hid;
        H5Sget_simple_extent_dims(space: Hid, dims: *mut Hsize, maxdims: *mut Hsize) -> c_int;
        H5Sget_select_bounds(space: Hid, start: *mut Hsize, end: *mut Hsize) -> Herr;
        H5Sget_regular_hyperslab(space: Hid, start: *mut Hsize, stride: *mut Hsize,
            count: *mut Hsize, block: *mut Hsize) -> c_int;
        H5Sselect_hyperslab(space: Hid, op: H5S_seloper_t, start: *const Hsize,
            stride: *const Hsize, count: *const Hsize, block: *const Hsize) -> Herr;
    }
    hdf5_sys::h5t {
        H5Tget_fields(kind: Hid, spos: *mut usize, epos: *mut usize, esize: *mut usize,
            mpos: *mut usize, msize: *mut usize) -> Herr;
        H5Tget_member_value(kind: Hid, membno: c_uint, value: *mut c_void) -> Herr;
        H5Tget_array_dims2(kind: Hid, dims: *mut Hsize) -> c_int;
        H5Tset_tag(kind: Hid, tag: *const c_char) -> Herr;
        H5Tinsert(parent_id: Hid, name: *const c_char, offset: usize, member_id: Hid) -> Herr;
        H5Tenum_insert(kind: Hid, name: *const c_char, value: *const c_void) -> Herr;
        H5Tarray_create2(base_id: Hid, ndims: c_uint, dim: *const Hsize) -> Hid;
    }
    hdf5_sys::h5z {
        H5Zregister(cls: *const c_void) -> Herr;
    }
}

// Declared here: with plain integers where the sys crate has enumerations.
calls! {
    own plain {
        H5PLset_loading_state(mask: c_uint) -> Herr;
        H5Pget_layout(list: Hid) -> c_int;
        H5Sget_simple_extent_type(space: Hid) -> c_int;
        H5Sget_select_type(space: Hid) -> c_int;
        H5Tget_class(kind: Hid) -> c_int;
        H5Tget_order(kind: Hid) -> c_int;
        H5Tget_sign(kind: Hid) -> c_int;
        H5Tget_norm(kind: Hid) -> c_int;
        H5Tget_cset(kind: Hid) -> c_int;
        H5Tget_strpad(kind: Hid) -> c_int;
    }
    safe
}

calls! {
    own pointers {
        H5FDregister(class: *const DriverClass) -> Hid;
        H5Pfill_value_defined(list: Hid, status: *mut c_int) -> Herr;
        H5Oget_info3(object: Hid, info: *mut ObjectInfo, fields: c_uint) -> Herr;
        H5Literate2(group: Hid, index: H5_index_t, order: H5_iter_order_t, at: *mut Hsize,
            visit: LinkVisitor, data: *mut c_void) -> Herr;
        H5Dget_chunk_index_type(data: Hid, index: *mut c_int) -> Herr;
        H5Tregister(lasting: H5T_pers_t, name: *const c_char, from: Hid, to: Hid,
            convert: Conversion) -> Herr;
    }
    unsafe
}
