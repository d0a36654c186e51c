//! Handles and the lock of the HDF5 library: everything that touches it takes [`lock`] first.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::Once;

use super::ffi::{self, Hid};
use super::filters;
use crate::error::{Error, Result, guard};

thread_local! {
    /// Why the filter that the library called last on this thread failed: the library itself only knows that it did.
    static FILTER_FAILED: std::cell::RefCell<Option<Error>> = const { std::cell::RefCell::new(None) };
}

/// Takes the library's lock, which the thread may hold already. Its own messages are off while it is held.
pub(super) fn lock() -> impl Drop {
    static START: Once = Once::new();
    let held = hdf5_sys::LOCK.lock();
    FILTER_FAILED.set(None);
    START.call_once(|| {
        // SAFETY: under the lock, before any other call. Plugins are never loaded: a file must not choose code to run.
        unsafe {
            ffi::H5dont_atexit();
            ffi::H5open();
            ffi::H5PLset_loading_state(0);
            for class in &FILTERS {
                if ffi::H5Zfilter_avail(class.id) == 0 {
                    ffi::H5Zregister(std::ptr::from_ref(class).cast());
                }
            }
        }
    });
    // SAFETY: under the lock; null turns the printing off (for this thread, in builds that have a stack a thread).
    unsafe { ffi::H5Eset_auto2(0, std::ptr::null(), std::ptr::null_mut()) };
    held
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

impl Drop for Id {
    fn drop(&mut self) {
        let _lock = lock();
        // SAFETY: the handle is ours and open.
        unsafe { ffi::H5Idec_ref(self.0) };
    }
}

/// Checks a return code.
pub(super) fn check(code: c_int, what: &str) -> Result<()> {
    if code < 0 { Err(failure(what)) } else { Ok(()) }
}

/// What the library says about the last failure: its innermost description.
pub(super) fn failure(what: &str) -> Error {
    unsafe extern "C" fn visit(_n: c_uint, error: *const ffi::ErrorDescription, data: *mut c_void) -> c_int {
        // SAFETY: the library gives a valid description; `data` is the string below.
        unsafe {
            let (said, error) = (&mut *data.cast::<String>(), &*error);
            if !error.text.is_null() {
                *said = CStr::from_ptr(error.text).to_string_lossy().into_owned();
            }
        }
        1
    }
    let filter_failed = FILTER_FAILED.take();
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
    CString::new(name).map_err(|_| Error::refused(format!("the name {name:?} has a zero byte, which HDF5 cannot hold")))
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

/// Opens a file for reading, without locks.
pub(super) fn open(path: &Path) -> Result<Id> {
    let name = c_path(path)?;
    let _lock = lock();
    // SAFETY: plain calls under the lock.
    unsafe {
        let access = Id::new(ffi::H5Pcreate(ffi::H5P_CLS_FILE_ACCESS_ID_g), "cannot open the file")?;
        ffi::H5Pset_file_locking(access.raw(), false, true);
        Id::new(ffi::H5Fopen(name.as_ptr(), 0, access.raw()), "the file is damaged").map_err(truncated)
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
            let message = format!("the file is truncated: it has {has} bytes, its superblock declares {wanted}");
            Error::corrupt(message).hint("fetch the file again")
        }
        _ => error,
    }
}

/// The dimensions of a dataspace; `None` for a null one.
pub(super) fn dims(space: &Id) -> Result<Option<Vec<u64>>> {
    let _lock = lock();
    // SAFETY: the buffer has the rank that the library gave, of at most 32.
    unsafe {
        match ffi::H5Sget_simple_extent_type(space.raw()) {
            0 => return Ok(Some(Vec::new())),
            1 => {}
            2 => return Ok(None),
            _ => return Err(failure("the dataspace is damaged")),
        }
        let rank = ffi::H5Sget_simple_extent_ndims(space.raw());
        let Ok(rank) = usize::try_from(rank) else { return Err(failure("the dataspace is damaged")) };
        let mut dims = vec![0; rank.max(32)];
        check(ffi::H5Sget_simple_extent_dims(space.raw(), dims.as_mut_ptr(), std::ptr::null_mut()), "the dataspace is damaged")?;
        dims.truncate(rank);
        Ok(Some(dims))
    }
}

/// The filters that the library lacks: it can then read through them where we do not decode ourselves (virtual data
/// sets), and lets us create datasets whose chunks we compress.
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
    // SAFETY: the library gives `count` values and `bytes` bytes, and takes a buffer of its own allocator.
    unsafe {
        let params = if count == 0 { &[][..] } else { std::slice::from_raw_parts(values, count) };
        let input = std::slice::from_raw_parts((*buffer).cast::<u8>(), bytes).to_vec();
        let out = match guard(|| filters::decode(FILTER, params, input, MOST)) {
            Ok(out) => out,
            Err(e) => {
                FILTER_FAILED.set(Some(e));
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
