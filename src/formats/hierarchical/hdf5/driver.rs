//! The library's way to files: a driver in place of its own.
//!
//! What is read on behalf of a file is opened as [`Access`] allows it, and a read past the end of a
//! file is the error that it is (the library's own driver fills up with zeros). What is written
//! keeps the first failure, whoever caused it: the library loses some, as when a chunk of its cache
//! cannot be written while a dataset is closed.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use super::access::Access;
use super::ffi::{self, Haddr, Herr, Hid};
use super::heap;
use super::library::{self, Id, Library};
use crate::error::{Error, Result, locked};

/// What files are opened for.
#[derive(Clone)]
pub(super) enum Purpose {
    /// Reading, of a file and those that it names.
    Reading(Arc<Access>),
    /// Writing one file.
    Writing(Arc<Outcome>),
}

/// How writing a file went.
#[derive(Default)]
pub(super) struct Outcome(Mutex<Option<IoError>>);

impl Outcome {
    fn fail(&self, error: IoError) {
        locked(&self.0).get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        locked(&self.0).is_some()
    }

    /// The error of the first write that failed.
    pub(super) fn error(&self) -> Option<Error> {
        let failed = locked(&self.0);
        let again = |e: &IoError| {
            e.raw_os_error().map_or_else(|| IoError::from(e.kind()), IoError::from_raw_os_error)
        };
        failed.as_ref().map(|e| Error::from(again(e)))
    }
}

/// A purpose that files are opened for as long as this lives: the library keeps its number beside
/// the file.
pub(super) struct Ticket(u64);

impl Ticket {
    pub(super) fn new(purpose: Purpose) -> Ticket {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        all().insert(number, purpose);
        Ticket(number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

fn all() -> std::sync::MutexGuard<'static, HashMap<u64, Purpose>> {
    static ALL: LazyLock<Mutex<HashMap<u64, Purpose>>> = LazyLock::new(Mutex::default);
    locked(&ALL)
}

/// Sets the driver of a list of file access properties.
///
/// # Errors
/// Where the library does not take it.
pub(super) fn set(lib: &Library, list: &Id, ticket: &Ticket) -> Result<()> {
    // SAFETY: an open list; the library copies the number, whose size is that of the class.
    let code = unsafe {
        lib.H5Pset_driver(list.raw(), driver(lib)?, std::ptr::from_ref(&ticket.0).cast())
    };
    library::check(code, "the file driver cannot be set")
}

/// A path for the library.
pub(super) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::usage("the path has a zero byte"))
}

/// Opens a file for reading, without locks, and for the same purpose all those that it names.
pub(super) fn open(lib: &Library, path: &Path, ticket: &Ticket) -> Result<Id> {
    let name = c_path(path)?;
    // SAFETY: plain calls.
    unsafe {
        let list = lib.properties(lib.H5P_CLS_FILE_ACCESS())?;
        lib.H5Pset_file_locking(list.raw(), 0, 1);
        set(lib, &list, ticket)?;
        Id::new(lib.H5Fopen(name.as_ptr(), ffi::READ_ONLY, list.raw()), "the file is damaged")
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

/// The driver's handle.
fn driver(lib: &Library) -> Result<Hid> {
    static DRIVER: OnceLock<Hid> = OnceLock::new();
    // SAFETY: the class is the library's structure of the version that it names; it is copied.
    let id = *DRIVER.get_or_init(|| unsafe { lib.H5FDregister(&CLASS) });
    if id < 0 { Err(library::failure("the file driver cannot be registered")) } else { Ok(id) }
}

/// A file opened for the library, which sees the first member alone.
#[repr(C)]
struct Opened {
    library: ffi::DriverFile,
    file: File,
    ticket: u64,
    /// Where it is written.
    outcome: Option<Arc<Outcome>>,
    end_of_addresses: Haddr,
    bytes: u64,
    device: u64,
    inode: u64,
}

static CLASS: ffi::DriverClass = ffi::DriverClass {
    version: 1,
    value: 0x4e50,
    name: c"npk".as_ptr(),
    maxaddr: i64::MAX as u64,
    close_degree: 1,
    terminate: std::ptr::null(),
    superblock: [std::ptr::null(); 3],
    access_size: size_of::<u64>(),
    access_get,
    access_copy: std::ptr::null(),
    access_free: std::ptr::null(),
    transfer_size: 0,
    transfer: [std::ptr::null(); 2],
    open: open_callback,
    close,
    compare,
    query,
    type_map: std::ptr::null(),
    allocate: std::ptr::null(),
    free: std::ptr::null(),
    get_eoa,
    set_eoa,
    get_eof,
    get_handle: std::ptr::null(),
    read,
    write,
    vectors: [std::ptr::null(); 4],
    flush: std::ptr::null(),
    truncate,
    others: [std::ptr::null(); 4],
    free_lists: [1, 1, 1, 3, 3, 1, 1],
};

/// The ticket for files that are opened on behalf of this one.
unsafe extern "C" fn access_get(file: *mut c_void) -> *mut c_void {
    let lib = &Library::locked();
    // SAFETY: a file of ours; the memory is the library's, which frees it.
    unsafe {
        let memory = lib.H5allocate_memory(size_of::<u64>(), 0);
        if !memory.is_null() {
            memory.cast::<u64>().write_unaligned((*file.cast::<Opened>()).ticket);
        }
        memory
    }
}

unsafe extern "C" fn open_callback(
    name: *const c_char,
    flags: c_uint,
    list: Hid,
    _most: Haddr,
) -> *mut c_void {
    const WRITING: c_uint = 0x37;
    const TRUNCATE: c_uint = 0x2;
    let opened = std::panic::catch_unwind(|| {
        let lib = &Library::locked();
        // SAFETY: the library gives a name, and a list whose driver is this one.
        let (name, ticket) =
            unsafe { (CStr::from_ptr(name), lib.H5Pget_driver_info(list).cast::<u64>()) };
        if ticket.is_null() {
            return None;
        }
        // SAFETY: the number that `set` or `access_get` gave.
        let ticket = unsafe { ticket.read_unaligned() };
        let purpose = all().get(&ticket)?.clone();
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        let (mut file, outcome) = match purpose {
            Purpose::Reading(access) if flags & WRITING == 0 => (access.open(path).ok()?, None),
            Purpose::Reading(_) => return None,
            Purpose::Writing(outcome) => {
                let opened = File::options()
                    .read(true)
                    .write(true)
                    .truncate(flags & TRUNCATE != 0)
                    .open(path);
                (opened.map_err(|e| outcome.fail(e)).ok()?, Some(outcome))
            }
        };
        let (bytes, metadata) = (file.seek(SeekFrom::End(0)).ok()?, file.metadata().ok()?);
        let (device, inode) = (metadata.dev(), metadata.ino());
        let library = ffi::DriverFile::default();
        Some(Box::new(Opened {
            library,
            file,
            ticket,
            outcome,
            end_of_addresses: 0,
            bytes,
            device,
            inode,
        }))
    });
    match opened {
        Ok(Some(opened)) => Box::into_raw(opened).cast(),
        _ => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn close(file: *mut c_void) -> Herr {
    // SAFETY: a file that `open` made, given back once.
    drop(unsafe { Box::from_raw(file.cast::<Opened>()) });
    0
}

unsafe extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
    // SAFETY: files of ours.
    let (a, b) = unsafe { (&*a.cast::<Opened>(), &*b.cast::<Opened>()) };
    (a.device, a.inode).cmp(&(b.device, b.inode)) as c_int
}

unsafe extern "C" fn query(_file: *const c_void, flags: *mut c_ulong) -> Herr {
    const AGGREGATE_METADATA: c_ulong = 0x1;
    const ACCUMULATE_METADATA: c_ulong = 0x6;
    const DATA_SIEVE: c_ulong = 0x8;
    const AGGREGATE_SMALL_DATA: c_ulong = 0x10;
    const SINGLE_WRITER: c_ulong = 0x1000;
    const AS_DEFAULT_DRIVER: c_ulong = 0x8000;
    if !flags.is_null() {
        let gathered = AGGREGATE_METADATA | ACCUMULATE_METADATA | DATA_SIEVE | AGGREGATE_SMALL_DATA;
        // SAFETY: the library's place for the flags.
        unsafe { *flags = gathered | SINGLE_WRITER | AS_DEFAULT_DRIVER };
    }
    0
}

unsafe extern "C" fn get_eoa(file: *const c_void, _kind: c_int) -> Haddr {
    // SAFETY: a file of ours.
    unsafe { (*file.cast::<Opened>()).end_of_addresses }
}

unsafe extern "C" fn set_eoa(file: *mut c_void, _kind: c_int, at: Haddr) -> Herr {
    // SAFETY: a file of ours.
    unsafe { (*file.cast::<Opened>()).end_of_addresses = at };
    0
}

unsafe extern "C" fn get_eof(file: *const c_void, _kind: c_int) -> Haddr {
    // SAFETY: a file of ours.
    unsafe { (*file.cast::<Opened>()).bytes }
}

unsafe extern "C" fn read(
    file: *mut c_void,
    _kind: c_int,
    _list: Hid,
    at: Haddr,
    bytes: usize,
    to: *mut c_void,
) -> Herr {
    // SAFETY: a file of ours; the library's buffer has room for the bytes.
    let (file, to) = unsafe {
        (&*file.cast::<Opened>(), std::slice::from_raw_parts_mut(to.cast::<u8>(), bytes))
    };
    if file.outcome.is_none() {
        return match file.file.read_exact_at(to, at) {
            Ok(()) => {
                if heap::is_sound(to) {
                    0
                } else {
                    -1
                }
            }
            Err(e) => {
                let end = at.saturating_add(bytes as u64);
                library::callback_failed(match e.kind() {
                    ErrorKind::UnexpectedEof => {
                        Error::corrupt(format!("byte {end} is needed, the file has {}", file.bytes))
                    }
                    _ => Error::reading(e),
                });
                -1
            }
        };
    }
    // What was given a place but not yet written.
    let there = usize::try_from(file.bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes);
    to[there..].fill(0);
    if file.file.read_exact_at(&mut to[..there], at).is_ok() { 0 } else { -1 }
}

unsafe extern "C" fn write(
    file: *mut c_void,
    _kind: c_int,
    _list: Hid,
    at: Haddr,
    bytes: usize,
    from: *const c_void,
) -> Herr {
    // SAFETY: a file of ours, which the library has for itself; its buffer has the bytes.
    let (file, from) = unsafe {
        (&mut *file.cast::<Opened>(), std::slice::from_raw_parts(from.cast::<u8>(), bytes))
    };
    let Some(outcome) = file.outcome.as_ref().filter(|o| !o.has_failed()) else { return -1 };
    match file.file.write_all_at(from, at) {
        Ok(()) => {
            file.bytes = file.bytes.max(at.saturating_add(bytes as u64));
            0
        }
        Err(e) => {
            outcome.fail(e);
            -1
        }
    }
}

unsafe extern "C" fn truncate(file: *mut c_void, _list: Hid, _closing: bool) -> Herr {
    // SAFETY: a file of ours, which the library has for itself.
    let file = unsafe { &mut *file.cast::<Opened>() };
    let Some(outcome) = file.outcome.as_ref().filter(|o| !o.has_failed()) else { return -1 };
    match file.file.set_len(file.end_of_addresses) {
        Ok(()) => {
            file.bytes = file.end_of_addresses;
            0
        }
        Err(e) => {
            outcome.fail(e);
            -1
        }
    }
}
