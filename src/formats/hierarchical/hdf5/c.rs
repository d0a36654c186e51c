//! Handles and the lock of the HDF5 library: everything that touches it takes [`lock`] first.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::Once;

use super::driver::{self, Ticket};
use super::ffi::{self, Hid};
use super::filters;
use crate::codec::decompress::Limit;
use crate::error::{Error, Result, guard};

thread_local! {
    /// Why the filter or the reading that the library called last on this thread failed: the
    /// library itself only knows that it did.
    static CALLBACK_FAILED: std::cell::RefCell<Option<Error>> = const { std::cell::RefCell::new(None) };
}

/// Takes the library's lock, which the thread may hold already. Its own messages are off while it
/// is held.
pub(super) fn lock() -> impl Drop {
    static START: Once = Once::new();
    let held = hdf5_sys::LOCK.lock();
    CALLBACK_FAILED.set(None);
    START.call_once(|| {
        // SAFETY: under the lock, before any other call. Plugins are never loaded: a file must not
        // choose code to run.
        unsafe {
            ffi::H5dont_atexit();
            ffi::H5open();
            ffi::H5PLset_loading_state(0);
            for class in &FILTERS {
                if ffi::H5Zfilter_avail(class.id) == 0 {
                    ffi::H5Zregister(std::ptr::from_ref(class).cast());
                }
            }
            conversions();
        }
    });
    // SAFETY: under the lock; null turns the printing off (for this thread, in builds that have a
    // stack a thread).
    unsafe { ffi::H5Eset_auto2(0, std::ptr::null(), std::ptr::null_mut()) };
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
unsafe fn conversions() {
    const SOFT: c_int = 1;
    // SAFETY: under the lock; the types are the library's or of the library's making.
    unsafe {
        let opaque = ffi::H5Tcreate(ffi::OPAQUE, 1);
        let any = ffi::H5Tvlen_create(ffi::H5T_STD_I8LE_g);
        ffi::H5Tregister(SOFT, c"npk_stored".as_ptr(), any, opaque, as_stored);
        ffi::H5Tregister(SOFT, c"npk_none".as_ptr(), any, any, as_none);
        ffi::H5Tregister(
            SOFT,
            c"npk_none".as_ptr(),
            ffi::H5T_STD_REF_OBJ_g,
            ffi::H5T_STD_REF_OBJ_g,
            as_none,
        );
    }
}

const INITIALISE: c_int = 0;
const CONVERT: c_int = 1;

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
    // SAFETY: the library gives its own structure, and open types to begin with.
    unsafe {
        if (*data).command != INITIALISE {
            return 0;
        }
        (*data).background = 0;
        // In memory they have another size, and an address in place of the heap's.
        let tagged = owned_text(ffi::H5Tget_tag(to)).is_some_and(|tag| tag == AS_STORED.to_bytes());
        if tagged && ffi::H5Tget_size(from) == ffi::H5Tget_size(to) { 0 } else { -1 }
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
    // SAFETY: the library gives its own structure, open types, and a buffer of so many values.
    unsafe {
        match (*data).command {
            INITIALISE => {
                (*data).background = 0;
                let revised =
                    ffi::H5Tget_class(from) != ffi::REFERENCE || ffi::H5Tget_size(to) > 12;
                if READING.get() && revised { 0 } else { -1 }
            }
            CONVERT => {
                let bytes = ffi::H5Tget_size(to);
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
        let _lock = lock();
        // SAFETY: the handle is ours and open, and not closed again.
        check(unsafe { ffi::H5Idec_ref(id.0) }, what)
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        let _lock = lock();
        // SAFETY: the handle is ours and open.
        unsafe { ffi::H5Idec_ref(self.0) };
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
    unsafe extern "C" fn visit(
        _n: c_uint,
        error: *const ffi::ErrorDescription,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the library gives a valid description; `data` is the string below.
        unsafe {
            let (said, error) = (&mut *data.cast::<String>(), &*error);
            if !error.text.is_null() {
                *said = CStr::from_ptr(error.text).to_string_lossy().into_owned();
            }
        }
        1
    }
    let filter_failed = CALLBACK_FAILED.take();
    let _lock = lock();
    let mut said = String::new();
    // SAFETY: the callback only writes into `said`.
    unsafe {
        ffi::H5Ewalk2(0, 0, visit, std::ptr::from_mut(&mut said).cast());
        ffi::H5Eclear2(0);
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

/// A path for the library.
pub(super) fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::usage("the path has a zero byte"))
}

/// The text that the library allocated, freed.
///
/// # Safety
/// `text` must come from a call that gives memory of the library, or be null.
pub(super) unsafe fn owned_text(text: *mut c_char) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    unsafe {
        let bytes = CStr::from_ptr(text).to_bytes().to_vec();
        ffi::H5free_memory(text.cast());
        Some(bytes)
    }
}

/// Opens a file for reading, without locks, and for the same purpose all those that it names.
pub(super) fn open(path: &Path, ticket: &Ticket) -> Result<Id> {
    let name = c_path(path)?;
    let _lock = lock();
    // SAFETY: plain calls under the lock.
    unsafe {
        let list = Id::new(ffi::H5Pcreate(ffi::H5P_CLS_FILE_ACCESS_ID_g), "cannot open the file")?;
        ffi::H5Pset_file_locking(list.raw(), false, true);
        driver::set(&list, ticket)?;
        Id::new(ffi::H5Fopen(name.as_ptr(), 0, list.raw()), "the file is damaged")
            .map_err(truncated)
    }
}

/// The library's words for a file that was cut, in plain ones.
fn truncated(error: Error) -> Error {
    let number = |key: &str| -> Option<u64> {
        let (_, rest) = error.message().split_once(key)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    match (number("truncated file: eof = "), number("stored_eof = ")) {
        (Some(has), Some(wanted)) => {
            let message = format!(
                "the file is truncated: it has {has} bytes, its superblock declares {wanted}"
            );
            Error::corrupt(message).hint("fetch the file again")
        }
        _ => error,
    }
}

/// The number that the library gave to an open file. Under the lock.
///
/// # Errors
/// Where it does not tell it.
pub(super) fn file_number(file: &Id) -> Result<u64> {
    let mut number = 0;
    // SAFETY: an open file; under the lock.
    check(unsafe { ffi::H5Fget_fileno(file.raw(), &mut number) }, "the file is damaged")?;
    Ok(number)
}

/// What the library tells of an open object. Under the lock.
///
/// # Errors
/// A damaged header.
pub(super) fn info(object: &Id) -> Result<ffi::ObjectInfo> {
    let mut info = ffi::ObjectInfo::default();
    let fields = ffi::INFO_BASIC | ffi::INFO_NUM_ATTRS;
    // SAFETY: an open object; the structure is the library's H5O_info2_t; under the lock.
    check(unsafe { ffi::H5Oget_info3(object.raw(), &mut info, fields) }, "cannot be opened")?;
    Ok(info)
}

/// What tells an object from all others.
pub(super) type Key = (u64, ffi::Token);

/// The key of an object.
pub(super) fn key(info: &ffi::ObjectInfo) -> Key {
    (info.fileno, info.token)
}

/// The dimensions of a dataspace; `None` for a null one.
pub(super) fn dims(space: &Id) -> Result<Option<Vec<u64>>> {
    Ok(extent(space)?.map(|(dims, _)| dims))
}

/// The most that each dimension of a dataspace can have; [`ffi::UNLIMITED`] where there is no
/// limit.
pub(super) fn most_dims(space: &Id) -> Result<Vec<u64>> {
    Ok(extent(space)?.map(|(_, most)| most).unwrap_or_default())
}

fn extent(space: &Id) -> Result<Option<(Vec<u64>, Vec<u64>)>> {
    let _lock = lock();
    // SAFETY: the buffers have the rank that the library gave, of at most 32.
    unsafe {
        match ffi::H5Sget_simple_extent_type(space.raw()) {
            0 => return Ok(Some((Vec::new(), Vec::new()))),
            1 => {}
            2 => return Ok(None),
            _ => return Err(failure("the dataspace is damaged")),
        }
        let rank = ffi::H5Sget_simple_extent_ndims(space.raw());
        let Ok(rank) = usize::try_from(rank) else {
            return Err(failure("the dataspace is damaged"));
        };
        let (mut dims, mut most) = (vec![0; rank.max(32)], vec![0; rank.max(32)]);
        check(
            ffi::H5Sget_simple_extent_dims(space.raw(), dims.as_mut_ptr(), most.as_mut_ptr()),
            "the dataspace is damaged",
        )?;
        dims.truncate(rank);
        most.truncate(rank);
        Ok(Some((dims, most)))
    }
}

/// The filters that the library lacks: it can then read through them where we do not decode
/// ourselves (virtual data sets), and lets us create datasets whose chunks we compress.
static FILTERS: [ffi::FilterClass; 7] = [
    class(filters::LZF, c"lzf"),
    class(filters::BLOSC, c"blosc"),
    class(filters::LZ4, c"lz4"),
    class(filters::BITSHUFFLE, c"bitshuffle"),
    class(filters::ZSTD, c"zstd"),
    class(filters::BLOSC2, c"blosc2"),
    class(filters::BZIP2, c"bzip2"),
];

const fn class(id: u32, name: &'static CStr) -> ffi::FilterClass {
    ffi::FilterClass {
        version: 1,
        id: id as c_int,
        encoder: 1,
        decoder: 1,
        name: name.as_ptr(),
        can_apply: std::ptr::null(),
        set_local: std::ptr::null(),
        filter: match id {
            filters::LZF => run::<{ filters::LZF }>,
            filters::BLOSC => run::<{ filters::BLOSC }>,
            filters::LZ4 => run::<{ filters::LZ4 }>,
            filters::BITSHUFFLE => run::<{ filters::BITSHUFFLE }>,
            filters::ZSTD => run::<{ filters::ZSTD }>,
            filters::BLOSC2 => run::<{ filters::BLOSC2 }>,
            _ => run::<{ filters::BZIP2 }>,
        },
    }
}

/// The library's way to our decoders; 0 says that it failed. Encoding is not offered this way.
unsafe extern "C" fn run<const FILTER: u32>(
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
        let memory = ffi::H5allocate_memory(out.len().max(1), false);
        if memory.is_null() {
            return 0;
        }
        std::ptr::copy_nonoverlapping(out.as_ptr(), memory.cast::<u8>(), out.len());
        ffi::H5free_memory(*buffer);
        *buffer = memory;
        *size = out.len();
        out.len()
    }
}
