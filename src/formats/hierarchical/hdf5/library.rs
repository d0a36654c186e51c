//! Handles and the lock of the HDF5 library: everything that touches it takes [`lock`] first.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::sync::Once;

pub(super) use super::ffi::Library;
use super::ffi::{self, H5E_direction_t, H5E_error2_t, H5T_pers_t, H5Z_class2_t, Hid};
use super::filters;
use crate::codec::limit::Limit;
use crate::error::{Error, Result, guard};

thread_local! {
    /// Why the filter or the reading that the library called last on this thread failed: the
    /// library itself only knows that it did.
    static CALLBACK_FAILED: std::cell::RefCell<Option<Error>> = const { std::cell::RefCell::new(None) };
}

/// Takes the library's lock, which the thread may hold already, and opens the library where that
/// did not happen yet. Its own messages are off while the lock is held.
pub(super) fn lock() -> Library {
    static START: Once = Once::new();
    let held = Library::locked();
    let lib = &held;
    CALLBACK_FAILED.set(None);
    START.call_once(|| {
        // SAFETY: before any other call. Plugins are never loaded: a file must not choose code to
        // run.
        unsafe {
            lib.H5dont_atexit();
            lib.H5open();
            lib.H5PLset_loading_state(0);
            for class in &FILTERS {
                if lib.H5Zfilter_avail(class.0.id) == 0 {
                    lib.H5Zregister(std::ptr::from_ref(&class.0).cast());
                }
            }
            conversions(lib);
        }
    });
    // SAFETY: no function turns the printing off (for this thread, in builds that have a stack a
    // thread).
    unsafe { lib.H5Eset_auto2(ffi::DEFAULT, None, std::ptr::null_mut()) };
    held
}

/// The tag of a type of the memory whose values are the bytes of the file.
pub(super) const AS_STORED: &CStr = c"npk: as stored";

thread_local! {
    /// This thread reads: what is converted from one variable-length type to another comes from a
    /// file.
    static READING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Reads properties of a dataset, without what its fill value has in a heap.
pub(super) fn reading<T>(work: impl FnOnce() -> T) -> T {
    let before = READING.replace(true);
    let result = work();
    READING.set(before);
    result
}

/// Ways from variable-length types to others, in place of the library's, which make room for any
/// length that an element claims: to the bytes as they are stored, and where something of the
/// library insists on values, to none.
fn conversions(lib: &Library) {
    const SOFT: H5T_pers_t = H5T_pers_t::H5T_PERS_SOFT;
    // SAFETY: the types are the library's or of the library's making; the functions are converters.
    unsafe {
        let opaque = lib.H5Tcreate(ffi::H5T_class_t::H5T_OPAQUE, 1);
        let any = lib.H5Tvlen_create(lib.H5T_STD_I8LE());
        lib.H5Tregister(SOFT, c"npk_stored".as_ptr(), any, opaque, as_stored);
        lib.H5Tregister(SOFT, c"npk_none".as_ptr(), any, any, as_none);
        lib.H5Tregister(
            SOFT,
            c"npk_none".as_ptr(),
            lib.H5T_STD_REF_OBJ(),
            lib.H5T_STD_REF_OBJ(),
            as_none,
        );
    }
}

/// Variable-length values as the file has them.
unsafe extern "C" fn as_stored(
    from: Hid,
    to: Hid,
    data: *mut ffi::ConversionData,
    _count: usize,
    _stride: usize,
    _background_stride: usize,
    _buffer: *mut c_void,
    _background: *mut c_void,
    _list: Hid,
) -> c_int {
    let lib = &Library::locked();
    // SAFETY: the library gives its own structure, and open types to begin with.
    unsafe {
        if (*data).command != ffi::INITIALISE {
            return 0;
        }
        (*data).background = 0;
        // In memory they have another size, and an address in place of the heap's.
        let tagged = lib.tag(to) == AS_STORED.to_bytes();
        if tagged && lib.H5Tget_size(from) == lib.H5Tget_size(to) { 0 } else { -1 }
    }
}

/// Variable-length values of a file as none at all.
unsafe extern "C" fn as_none(
    from: Hid,
    to: Hid,
    data: *mut ffi::ConversionData,
    count: usize,
    stride: usize,
    _background_stride: usize,
    buffer: *mut c_void,
    _background: *mut c_void,
    _list: Hid,
) -> c_int {
    let lib = &Library::locked();
    // SAFETY: the library gives its own structure, open types, and a buffer of so many values.
    unsafe {
        match (*data).command {
            ffi::INITIALISE => {
                (*data).background = 0;
                let revised = lib.H5Tget_class(from) != ffi::REFERENCE || lib.H5Tget_size(to) > 12;
                if READING.get() && revised { 0 } else { -1 }
            }
            ffi::CONVERT => {
                let bytes = lib.H5Tget_size(to);
                if bytes == 0 {
                    return -1;
                }
                for n in 0..count {
                    let at = n * if stride == 0 { bytes } else { stride };
                    std::ptr::write_bytes(buffer.cast::<u8>().add(at), 0, bytes);
                }
                0
            }
            _ => 0,
        }
    }
}

/// A handle, closed when dropped.
pub(super) struct Id(Hid);

impl Id {
    /// Takes what a call returned; `what` was being done, for the error.
    pub(super) fn new(id: Hid, what: &str) -> Result<Id> {
        if id < 0 { Err(failure(what)) } else { Ok(Id(id)) }
    }
    pub(super) fn raw(&self) -> Hid {
        self.0
    }
}

impl Id {
    /// Closes a handle of something that was written: what the library kept back until now may
    /// fail.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn close(self, what: &str) -> Result<()> {
        let id = std::mem::ManuallyDrop::new(self);
        let lib = &lock();
        check(lib.H5Idec_ref(id.0), what)
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        let lib = &lock();
        lib.H5Idec_ref(self.0);
    }
}

/// Keeps why a callback fails, for [`failure`].
pub(super) fn callback_failed(error: Error) {
    CALLBACK_FAILED.set(Some(error));
}

/// Checks a return code.
pub(super) fn check(code: c_int, what: &str) -> Result<()> {
    if code < 0 { Err(failure(what)) } else { Ok(()) }
}

/// What the library says about the last failure: its innermost description.
pub(super) fn failure(what: &str) -> Error {
    unsafe extern "C" fn visit(_n: c_uint, error: *const H5E_error2_t, data: *mut c_void) -> c_int {
        // SAFETY: the library gives a valid description; `data` is the string below.
        unsafe {
            let (said, error) = (&mut *data.cast::<String>(), &*error);
            if !error.desc.is_null() {
                *said = CStr::from_ptr(error.desc).to_string_lossy().into_owned();
            }
        }
        1
    }
    let filter_failed = CALLBACK_FAILED.take();
    let lib = &lock();
    let mut said = String::new();
    // SAFETY: the callback only writes into `said`.
    unsafe {
        let said = std::ptr::from_mut(&mut said).cast();
        lib.H5Ewalk2(ffi::DEFAULT, H5E_direction_t::H5E_WALK_UPWARD, Some(visit), said);
        lib.H5Eclear2(ffi::DEFAULT);
    }
    if let Some(error) = filter_failed {
        return error.about(what);
    }
    match said.is_empty() {
        true => Error::corrupt(what),
        false => Error::corrupt(format!("{what}: {said}")),
    }
}

/// A name for the library.
pub(super) fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| {
        Error::refused(format!("the name {name:?} has a zero byte, which HDF5 cannot hold"))
    })
}

/// The number that the library gave to an open file.
///
/// # Errors
/// Where it does not tell it.
pub(super) fn file_number(lib: &Library, file: &Id) -> Result<u64> {
    let mut number = 0;
    // SAFETY: an open file.
    check(unsafe { lib.H5Fget_fileno(file.raw(), &mut number) }, "the file is damaged")?;
    Ok(number)
}

/// What the library tells of an open object.
///
/// # Errors
/// A damaged header.
pub(super) fn info(lib: &Library, object: &Id) -> Result<ffi::ObjectInfo> {
    let mut info = ffi::ObjectInfo::default();
    check(
        // SAFETY: an open object; the structure is the library's H5O_info2_t.
        unsafe { lib.H5Oget_info3(object.raw(), &mut info, ffi::OBJECT_FIELDS) },
        "cannot be opened",
    )?;
    Ok(info)
}

/// What tells an object from all others.
pub(super) type Key = (u64, ffi::Token);

/// The key of an object.
pub(super) fn key(info: &ffi::ObjectInfo) -> Key {
    (info.fileno, info.token)
}

/// The dimensions of a dataspace; `None` for a null one.
pub(super) fn dims(lib: &Library, space: &Id) -> Result<Option<Vec<u64>>> {
    Ok(extent(lib, space)?.map(|(dims, _)| dims))
}

/// The most that each dimension of a dataspace can have; [`ffi::UNLIMITED`] where there is no
/// limit.
pub(super) fn most_dims(lib: &Library, space: &Id) -> Result<Vec<u64>> {
    Ok(extent(lib, space)?.map(|(_, most)| most).unwrap_or_default())
}

fn extent(lib: &Library, space: &Id) -> Result<Option<(Vec<u64>, Vec<u64>)>> {
    // SAFETY: the buffers have the rank that the library gave, of at most 32.
    unsafe {
        match lib.H5Sget_simple_extent_type(space.raw()) {
            ffi::SCALAR_SPACE => return Ok(Some((Vec::new(), Vec::new()))),
            ffi::SIMPLE_SPACE => {}
            ffi::NULL_SPACE => return Ok(None),
            _ => return Err(failure("the dataspace is damaged")),
        }
        let rank = lib.H5Sget_simple_extent_ndims(space.raw());
        let Ok(rank) = usize::try_from(rank) else {
            return Err(failure("the dataspace is damaged"));
        };
        let (mut dims, mut most) = (vec![0; rank.max(32)], vec![0; rank.max(32)]);
        check(
            lib.H5Sget_simple_extent_dims(space.raw(), dims.as_mut_ptr(), most.as_mut_ptr()),
            "the dataspace is damaged",
        )?;
        dims.truncate(rank);
        most.truncate(rank);
        Ok(Some((dims, most)))
    }
}

/// A filter of ours. The table is never written to.
struct FilterClass(H5Z_class2_t);

// SAFETY: nothing of it changes, and the name is static.
unsafe impl Sync for FilterClass {}

/// The filters that the library lacks: it can then read through them where we do not decode
/// ourselves (virtual data sets), and lets us create datasets whose chunks we compress.
static FILTERS: [FilterClass; 7] = [
    filter::<{ filters::LZF }>(c"lzf"),
    filter::<{ filters::BLOSC }>(c"blosc"),
    filter::<{ filters::LZ4 }>(c"lz4"),
    filter::<{ filters::BITSHUFFLE }>(c"bitshuffle"),
    filter::<{ filters::ZSTD }>(c"zstd"),
    filter::<{ filters::BLOSC2 }>(c"blosc2"),
    filter::<{ filters::BZIP2 }>(c"bzip2"),
];

const fn filter<const FILTER: u32>(name: &'static CStr) -> FilterClass {
    FilterClass(H5Z_class2_t {
        version: 1,
        id: FILTER as c_int,
        encoder_present: 1,
        decoder_present: 1,
        name: name.as_ptr(),
        can_apply: None,
        set_local: None,
        filter: Some(run::<FILTER>),
    })
}

/// The library's way to our decoders; 0 says that it failed. Encoding is not offered this way.
extern "C" fn run<const FILTER: u32>(
    flags: c_uint,
    count: usize,
    values: *const c_uint,
    bytes: usize,
    size: *mut usize,
    buffer: *mut *mut c_void,
) -> usize {
    const REVERSE: c_uint = 0x0100;
    const MOST: usize = 1 << 30;
    if flags & REVERSE == 0 {
        return 0;
    }
    let lib = &Library::locked();
    // SAFETY: the library gives `count` values and `bytes` bytes, and takes a buffer of its own
    // allocator.
    unsafe {
        let params = if count == 0 { &[][..] } else { std::slice::from_raw_parts(values, count) };
        let input = std::slice::from_raw_parts((*buffer).cast::<u8>(), bytes).to_vec();
        let out =
            match guard(|| filters::codec(FILTER, params, "")?.decode(input, Limit::most(MOST))) {
                Ok(out) => out,
                Err(e) => {
                    callback_failed(e);
                    return 0;
                }
            };
        let memory = lib.H5allocate_memory(out.len().max(1), 0);
        if memory.is_null() {
            return 0;
        }
        std::ptr::copy_nonoverlapping(out.as_ptr(), memory.cast::<u8>(), out.len());
        lib.H5free_memory(*buffer);
        *buffer = memory;
        *size = out.len();
        out.len()
    }
}
