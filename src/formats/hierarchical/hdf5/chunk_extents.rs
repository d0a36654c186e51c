//! Whether the chunks of a dataset are where its index says, before the library reads them.

use std::ffi::{c_int, c_uint, c_void};

use super::ffi;
use super::library::{self, Id, Library};
use crate::array::{SLACK_BYTES, more_memory};
use crate::error::{Error, Result};

/// What the library takes memory for.
struct Largest {
    bytes: u64,
    file_bytes: u64,
    wrong: Option<Error>,
}

unsafe extern "C" fn measure(
    _offset: *const u64,
    _mask: c_uint,
    at: u64,
    bytes: u64,
    data: *mut c_void,
) -> c_int {
    // SAFETY: `data` is the structure that `check_chunks` gave.
    let found = unsafe { &mut *data.cast::<Largest>() };
    found.bytes = found.bytes.max(bytes);
    found.wrong = check_extent(at, bytes, found.file_bytes).err();
    c_int::from(found.wrong.is_some())
}

/// Refuses chunks that are not in the file, or larger than the memory: before the library reads a
/// chunk itself it takes the memory for the bytes that the index tells of.
///
/// # Errors
/// Corrupt, refused.
pub(super) fn check_chunks(lib: &Library, data: &Id, memory_bytes: u64) -> Result<()> {
    let mut found = Largest { bytes: 0, file_bytes: 0, wrong: None };
    // SAFETY: an open dataset; the callback only writes into `found`.
    let code = unsafe {
        let file = Id::new(lib.H5Iget_file_id(data.raw()), "its file is not known")?;
        let code = lib.H5Fget_filesize(file.raw(), &mut found.file_bytes);
        library::check(code, "the size of its file is not known")?;
        let to = std::ptr::from_mut(&mut found).cast();
        lib.H5Dchunk_iter(data.raw(), ffi::DEFAULT, Some(measure), to)
    };
    if let Some(error) = found.wrong {
        return Err(error);
    }
    library::check(code, "its chunks cannot be found")?;
    let bytes = found.bytes;
    if bytes > memory_bytes.saturating_add(SLACK_BYTES) {
        let what = format!("a chunk of {bytes} bytes is read by the HDF5 library");
        return Err(more_memory(&what, bytes, memory_bytes));
    }
    Ok(())
}

/// Refuses a chunk that is not in the file.
///
/// # Errors
/// Corrupt.
pub(super) fn check_extent(at: u64, bytes: u64, file_bytes: u64) -> Result<()> {
    match at.checked_add(bytes).is_some_and(|end| end <= file_bytes) {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "a chunk of {bytes} bytes is at byte {at}, the file has {file_bytes} bytes"
        ))),
    }
}
