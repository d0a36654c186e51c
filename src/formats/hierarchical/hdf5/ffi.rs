//! The functions of the HDF5 C library that are used here, with plain integers where C has
//! enumerations: a file decides some of those values, and no file may make an invalid Rust
//! enumeration.
#![allow(non_snake_case, non_upper_case_globals, missing_docs)]

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

// Links the library in.
use hdf5_sys as _;

pub type Hid = i64;
pub type Herr = c_int;
pub type Haddr = u64;
pub type Hsize = u64;

pub const UNDEFINED: Haddr = u64::MAX;
pub const VARIABLE: usize = usize::MAX;
pub const UNLIMITED: Hsize = u64::MAX;

// H5O_type_t
pub const GROUP: c_int = 0;
pub const DATASET: c_int = 1;
pub const NAMED_TYPE: c_int = 2;

/// `H5O_INFO_BASIC`
pub const INFO_BASIC: c_uint = 1;
/// `H5O_INFO_NUM_ATTRS`
pub const INFO_NUM_ATTRS: c_uint = 4;

// H5L_type_t
pub const HARD_LINK: c_int = 0;
pub const SOFT_LINK: c_int = 1;
pub const EXTERNAL_LINK: c_int = 64;

// H5D_layout_t
pub const CONTIGUOUS: c_int = 1;
pub const CHUNKED: c_int = 2;
pub const VIRTUAL: c_int = 3;

/// `H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS`
pub const DONT_FILTER_PARTIAL_CHUNKS: c_uint = 2;

/// `H5S_SELECT_SET`
pub const SELECT_SET: c_int = 0;

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

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token(pub [u8; 16]);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ObjectInfo {
    pub fileno: c_ulong,
    pub token: Token,
    pub kind: c_int,
    pub links: c_uint,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub btime: i64,
    pub attributes: Hsize,
}

#[repr(C)]
pub struct LinkInfo {
    pub kind: c_int,
    pub ordered: bool,
    pub order: i64,
    pub cset: c_int,
    pub value: Token, // a union: token, or the size of the value
}

#[repr(C)]
pub struct ErrorDescription {
    pub class: Hid,
    pub major: Hid,
    pub minor: Hid,
    pub line: c_uint,
    pub function: *const c_char,
    pub file: *const c_char,
    pub text: *const c_char,
}

#[repr(C)]
pub struct FilterClass {
    pub version: c_int,
    pub id: c_int,
    pub encoder: c_uint,
    pub decoder: c_uint,
    pub name: *const c_char,
    pub can_apply: *const c_void,
    pub set_local: *const c_void,
    pub filter: unsafe extern "C" fn(
        c_uint,
        usize,
        *const c_uint,
        usize,
        *mut usize,
        *mut *mut c_void,
    ) -> usize,
}

// SAFETY: the table of filters is never written to.
unsafe impl Sync for FilterClass {}

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

/// `H5FD_class_t`, version 1; callbacks that are not used are null.
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

/// `H5T_cdata_t`.
#[repr(C)]
pub struct ConversionData {
    pub command: c_int,
    pub background: c_int,
    pub recalculate: bool,
    pub private: *mut c_void,
}

pub type Convert = unsafe extern "C" fn(
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
pub type ChunkVisitor =
    unsafe extern "C" fn(*const Hsize, c_uint, Haddr, Hsize, *mut c_void) -> c_int;
pub type ErrorVisitor = unsafe extern "C" fn(c_uint, *const ErrorDescription, *mut c_void) -> Herr;

unsafe extern "C" {
    pub fn H5open() -> Herr;
    pub fn H5dont_atexit() -> Herr;
    pub fn H5allocate_memory(size: usize, clear: bool) -> *mut c_void;
    pub fn H5free_memory(memory: *mut c_void) -> Herr;
    pub fn H5PLset_loading_state(mask: c_uint) -> Herr;
    pub fn H5Eset_auto2(stack: Hid, function: *const c_void, data: *mut c_void) -> Herr;
    pub fn H5Ewalk2(
        stack: Hid,
        direction: c_int,
        function: ErrorVisitor,
        data: *mut c_void,
    ) -> Herr;
    pub fn H5Eclear2(stack: Hid) -> Herr;
    pub fn H5Idec_ref(id: Hid) -> c_int;

    pub fn H5Fopen(name: *const c_char, flags: c_uint, access: Hid) -> Hid;
    pub fn H5Fcreate(name: *const c_char, flags: c_uint, create: Hid, access: Hid) -> Hid;
    pub fn H5Fflush(object: Hid, scope: c_int) -> Herr;
    pub fn H5Fget_name(object: Hid, name: *mut c_char, size: usize) -> isize;
    pub fn H5Fget_filesize(file: Hid, bytes: *mut Hsize) -> Herr;
    pub fn H5Iget_file_id(object: Hid) -> Hid;
    pub fn H5Fget_fileno(file: Hid, number: *mut c_ulong) -> Herr;

    pub fn H5Fget_create_plist(file: Hid) -> Hid;
    pub fn H5Pget_sizes(plist: Hid, addresses: *mut usize, lengths: *mut usize) -> Herr;
    pub fn H5Pget_userblock(plist: Hid, bytes: *mut Hsize) -> Herr;
    pub fn H5Pcreate(class: Hid) -> Hid;
    pub fn H5Pset_file_locking(access: Hid, locking: bool, ignore: bool) -> Herr;
    pub fn H5Pset_fclose_degree(access: Hid, degree: c_int) -> Herr;
    pub fn H5Pset_libver_bounds(access: Hid, low: c_int, high: c_int) -> Herr;
    pub fn H5FDregister(class: *const DriverClass) -> Hid;
    pub fn H5Pset_driver(access: Hid, driver: Hid, info: *const c_void) -> Herr;
    pub fn H5Pget_driver_info(access: Hid) -> *const c_void;
    pub fn H5Pget_layout(plist: Hid) -> c_int;
    pub fn H5Pget_chunk(plist: Hid, most: c_int, dims: *mut Hsize) -> c_int;
    pub fn H5Pset_chunk(plist: Hid, rank: c_int, dims: *const Hsize) -> Herr;
    pub fn H5Pget_chunk_opts(plist: Hid, options: *mut c_uint) -> Herr;
    pub fn H5Pget_external_count(plist: Hid) -> c_int;
    pub fn H5Pget_external(
        plist: Hid,
        index: c_uint,
        name_bytes: usize,
        name: *mut c_char,
        offset: *mut i64,
        bytes: *mut Hsize,
    ) -> Herr;
    pub fn H5Pget_virtual_count(plist: Hid, count: *mut usize) -> Herr;
    pub fn H5Pget_virtual_vspace(plist: Hid, index: usize) -> Hid;
    pub fn H5Pget_virtual_srcspace(plist: Hid, index: usize) -> Hid;
    pub fn H5Pget_virtual_filename(
        plist: Hid,
        index: usize,
        name: *mut c_char,
        size: usize,
    ) -> isize;
    pub fn H5Pget_virtual_dsetname(
        plist: Hid,
        index: usize,
        name: *mut c_char,
        size: usize,
    ) -> isize;
    pub fn H5Pget_nfilters(plist: Hid) -> c_int;
    pub fn H5Pget_filter2(
        plist: Hid,
        index: c_uint,
        flags: *mut c_uint,
        count: *mut usize,
        values: *mut c_uint,
        name_len: usize,
        name: *mut c_char,
        config: *mut c_uint,
    ) -> c_int;
    pub fn H5Pset_filter(
        plist: Hid,
        filter: c_int,
        flags: c_uint,
        count: usize,
        values: *const c_uint,
    ) -> Herr;
    pub fn H5Pget_fill_value(plist: Hid, kind: Hid, value: *mut c_void) -> Herr;
    pub fn H5Pfill_value_defined(plist: Hid, status: *mut c_int) -> Herr;
    pub fn H5Pset_alloc_time(plist: Hid, time: c_int) -> Herr;
    pub fn H5Pset_fill_time(plist: Hid, time: c_int) -> Herr;
    pub fn H5Pget_link_creation_order(plist: Hid, flags: *mut c_uint) -> Herr;
    pub fn H5Pset_link_creation_order(plist: Hid, flags: c_uint) -> Herr;
    pub fn H5Pset_attr_creation_order(plist: Hid, flags: c_uint) -> Herr;
    pub fn H5Pset_obj_track_times(plist: Hid, track: bool) -> Herr;
    pub fn H5Pset_char_encoding(plist: Hid, cset: c_int) -> Herr;

    pub fn H5Gcreate2(parent: Hid, name: *const c_char, link: Hid, create: Hid, access: Hid)
    -> Hid;
    pub fn H5Gget_create_plist(group: Hid) -> Hid;
    pub fn H5Oopen(parent: Hid, name: *const c_char, access: Hid) -> Hid;
    pub fn H5Oget_info3(object: Hid, info: *mut ObjectInfo, fields: c_uint) -> Herr;
    pub fn H5Literate2(
        group: Hid,
        index: c_int,
        order: c_int,
        at: *mut Hsize,
        function: LinkVisitor,
        data: *mut c_void,
    ) -> Herr;

    pub fn H5Dcreate2(
        parent: Hid,
        name: *const c_char,
        kind: Hid,
        space: Hid,
        link: Hid,
        create: Hid,
        access: Hid,
    ) -> Hid;
    pub fn H5Dopen2(parent: Hid, name: *const c_char, access: Hid) -> Hid;
    pub fn H5Dget_space(data: Hid) -> Hid;
    pub fn H5Dget_type(data: Hid) -> Hid;
    pub fn H5Dget_create_plist(data: Hid) -> Hid;
    pub fn H5Dget_offset(data: Hid) -> Haddr;
    pub fn H5Dget_storage_size(data: Hid) -> Hsize;
    pub fn H5Dread(
        data: Hid,
        kind: Hid,
        memory: Hid,
        file: Hid,
        transfer: Hid,
        buffer: *mut c_void,
    ) -> Herr;
    pub fn H5Dwrite(
        data: Hid,
        kind: Hid,
        memory: Hid,
        file: Hid,
        transfer: Hid,
        buffer: *const c_void,
    ) -> Herr;
    pub fn H5Dset_extent(data: Hid, dims: *const Hsize) -> Herr;
    pub fn H5Dchunk_iter(data: Hid, transfer: Hid, function: ChunkVisitor, op: *mut c_void)
    -> Herr;
    pub fn H5Dget_chunk_index_type(data: Hid, index: *mut c_int) -> Herr;
    pub fn H5Dread_chunk2(
        data: Hid,
        transfer: Hid,
        offset: *const Hsize,
        mask: *mut u32,
        buffer: *mut c_void,
        size: *mut usize,
    ) -> Herr;
    pub fn H5Dwrite_chunk(
        data: Hid,
        transfer: Hid,
        mask: u32,
        offset: *const Hsize,
        size: usize,
        buffer: *const c_void,
    ) -> Herr;

    pub fn H5Screate(class: c_int) -> Hid;
    pub fn H5Screate_simple(rank: c_int, dims: *const Hsize, most: *const Hsize) -> Hid;
    pub fn H5Sget_simple_extent_type(space: Hid) -> c_int;
    pub fn H5Sget_simple_extent_ndims(space: Hid) -> c_int;
    pub fn H5Sget_simple_extent_dims(space: Hid, dims: *mut Hsize, most: *mut Hsize) -> c_int;
    pub fn H5Sget_select_npoints(space: Hid) -> i64;
    pub fn H5Sget_select_type(space: Hid) -> c_int;
    pub fn H5Sget_select_bounds(space: Hid, start: *mut Hsize, end: *mut Hsize) -> Herr;
    pub fn H5Sis_regular_hyperslab(space: Hid) -> c_int;
    pub fn H5Sget_regular_hyperslab(
        space: Hid,
        start: *mut Hsize,
        stride: *mut Hsize,
        count: *mut Hsize,
        block: *mut Hsize,
    ) -> Herr;
    pub fn H5Sselect_hyperslab(
        space: Hid,
        op: c_int,
        start: *const Hsize,
        stride: *const Hsize,
        count: *const Hsize,
        block: *const Hsize,
    ) -> Herr;

    pub fn H5Tcreate(class: c_int, size: usize) -> Hid;
    pub fn H5Tcopy(kind: Hid) -> Hid;
    pub fn H5Tget_class(kind: Hid) -> c_int;
    pub fn H5Tget_size(kind: Hid) -> usize;
    pub fn H5Tset_size(kind: Hid, size: usize) -> Herr;
    pub fn H5Tget_order(kind: Hid) -> c_int;
    pub fn H5Tget_precision(kind: Hid) -> usize;
    pub fn H5Tget_offset(kind: Hid) -> c_int;
    pub fn H5Tget_sign(kind: Hid) -> c_int;
    pub fn H5Tget_fields(
        kind: Hid,
        sign: *mut usize,
        exponent: *mut usize,
        exponent_bits: *mut usize,
        mantissa: *mut usize,
        mantissa_bits: *mut usize,
    ) -> Herr;
    pub fn H5Tset_fields(
        kind: Hid,
        sign: usize,
        exponent: usize,
        exponent_bits: usize,
        mantissa: usize,
        mantissa_bits: usize,
    ) -> Herr;
    pub fn H5Tget_ebias(kind: Hid) -> usize;
    pub fn H5Tset_ebias(kind: Hid, bias: usize) -> Herr;
    pub fn H5Tget_norm(kind: Hid) -> c_int;
    pub fn H5Tget_super(kind: Hid) -> Hid;
    pub fn H5Tget_nmembers(kind: Hid) -> c_int;
    pub fn H5Tget_member_name(kind: Hid, member: c_uint) -> *mut c_char;
    pub fn H5Tget_member_offset(kind: Hid, member: c_uint) -> usize;
    pub fn H5Tget_member_type(kind: Hid, member: c_uint) -> Hid;
    pub fn H5Tget_member_value(kind: Hid, member: c_uint, value: *mut c_void) -> Herr;
    pub fn H5Tget_array_ndims(kind: Hid) -> c_int;
    pub fn H5Tget_array_dims2(kind: Hid, dims: *mut Hsize) -> c_int;
    pub fn H5Tis_variable_str(kind: Hid) -> c_int;
    pub fn H5Tget_cset(kind: Hid) -> c_int;
    pub fn H5Tset_cset(kind: Hid, cset: c_int) -> Herr;
    pub fn H5Tget_strpad(kind: Hid) -> c_int;
    pub fn H5Tset_strpad(kind: Hid, pad: c_int) -> Herr;
    pub fn H5Tget_tag(kind: Hid) -> *mut c_char;
    pub fn H5Tset_tag(kind: Hid, tag: *const c_char) -> Herr;
    pub fn H5Tinsert(kind: Hid, name: *const c_char, offset: usize, member: Hid) -> Herr;
    pub fn H5Tenum_create(base: Hid) -> Hid;
    pub fn H5Tenum_insert(kind: Hid, name: *const c_char, value: *const c_void) -> Herr;
    pub fn H5Tarray_create2(base: Hid, rank: c_uint, dims: *const Hsize) -> Hid;
    pub fn H5Tregister(
        lasting: c_int,
        name: *const c_char,
        from: Hid,
        to: Hid,
        function: Convert,
    ) -> Herr;
    pub fn H5Tvlen_create(base: Hid) -> Hid;

    pub fn H5Acreate2(
        object: Hid,
        name: *const c_char,
        kind: Hid,
        space: Hid,
        create: Hid,
        access: Hid,
    ) -> Hid;
    pub fn H5Aopen_by_idx(
        object: Hid,
        name: *const c_char,
        index: c_int,
        order: c_int,
        n: Hsize,
        access: Hid,
        link_access: Hid,
    ) -> Hid;
    pub fn H5Aexists(object: Hid, name: *const c_char) -> c_int;
    pub fn H5Aget_name(attribute: Hid, size: usize, name: *mut c_char) -> isize;
    pub fn H5Aget_space(attribute: Hid) -> Hid;
    pub fn H5Aget_type(attribute: Hid) -> Hid;
    pub fn H5Aget_storage_size(attribute: Hid) -> Hsize;
    pub fn H5Aread(attribute: Hid, kind: Hid, buffer: *mut c_void) -> Herr;
    pub fn H5Awrite(attribute: Hid, kind: Hid, buffer: *const c_void) -> Herr;

    pub fn H5Rdereference2(object: Hid, access: Hid, kind: c_int, reference: *const c_void) -> Hid;
    pub fn H5Rcreate(
        reference: *mut c_void,
        location: Hid,
        name: *const c_char,
        kind: c_int,
        space: Hid,
    ) -> Herr;
    pub fn H5Iget_name(object: Hid, name: *mut c_char, size: usize) -> isize;

    pub fn H5Zregister(class: *const c_void) -> Herr;
    pub fn H5Zfilter_avail(id: c_int) -> c_int;

    pub static H5P_CLS_FILE_CREATE_ID_g: Hid;
    pub static H5P_CLS_FILE_ACCESS_ID_g: Hid;
    pub static H5P_CLS_DATASET_CREATE_ID_g: Hid;
    pub static H5P_CLS_GROUP_CREATE_ID_g: Hid;
    pub static H5P_CLS_LINK_CREATE_ID_g: Hid;
    pub static H5P_CLS_ATTRIBUTE_CREATE_ID_g: Hid;

    pub static H5T_STD_I8LE_g: Hid;
    pub static H5T_STD_I16LE_g: Hid;
    pub static H5T_STD_I32LE_g: Hid;
    pub static H5T_STD_I64LE_g: Hid;
    pub static H5T_STD_U8LE_g: Hid;
    pub static H5T_STD_U16LE_g: Hid;
    pub static H5T_STD_U32LE_g: Hid;
    pub static H5T_STD_U64LE_g: Hid;
    pub static H5T_IEEE_F16LE_g: Hid;
    pub static H5T_IEEE_F32LE_g: Hid;
    pub static H5T_IEEE_F64LE_g: Hid;
    pub static H5T_C_S1_g: Hid;
    pub static H5T_STD_REF_OBJ_g: Hid;
}
