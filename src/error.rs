//! The library's one error type: what went wrong, where, and what to do next.
//!
//! An error carries a [`ErrorKind`], which decides the exit code, the file and the array it concerns
//! (each added once, by the module that knows it), a message with the numbers, and a hint.
//! [`crate::console`] prints it; nothing else does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What class of failure this is. Each class has one exit code (see `report`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The work failed for a reason outside the data: disk full, part of a batch failed. Exit 1.
    Failed,
    /// Wrong usage, or sources that clash with each other. Exit 2.
    Usage,
    /// An input is missing, unreadable or not recognised. Exit 3.
    Missing,
    /// Data would change or cannot be held, or a recognised thing is not supported. Exit 4.
    Refused,
    /// The output exists, or clashes with what is in it. Exit 5.
    Exists,
    /// Remote: credentials, permission, network after retries. Exit 6.
    Remote,
    /// Bytes that break their format. Exit 7.
    Corrupt,
    /// The reader of our output went away. Quiet.
    BrokenPipe,
    /// Somebody asked the run to end ([`crate::Cancel`]). Exit 130.
    Cancelled,
    /// A bug in npk itself: a panic, or an invariant that does not hold. Exit 101, and never called
    /// corrupt input.
    Internal,
}

/// An error of the library. Build it with one of the constructors, then add what you know. A clone
/// is cheap: one damaged part of a file may concern thousands of arrays.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    file: Option<String>,
    array: Option<String>,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    more: Vec<Error>,
}

/// The hint on an array that npk cannot take.
pub(crate) const SKIP_ARRAY: &str =
    "leave it out with -x, or all such arrays with --skip-unsupported";
/// The hint on a column of a table that npk cannot take.
pub(crate) const SKIP_COLUMN: &str =
    "leave the column out with -x, or all such columns with --skip-unsupported";

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with this message (no file, no array: add them with [`Error::file`] and
    /// [`Error::array`]).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            file: None,
            array: None,
            message: message.into(),
            hint: None,
            source: None,
            more: Vec::new(),
        }))
    }
    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
    /// Bytes that break their format (exit 7).
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, message)
    }
    /// A recognised thing that is not supported, or data that would change (exit 4).
    pub fn refused(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Refused, message)
    }
    /// Missing, unreadable or not recognised (exit 3).
    pub fn missing(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Missing, message)
    }
    /// Wrong usage (exit 2).
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }
    /// Failed for reasons outside the data (exit 1).
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Failed, message)
    }
    /// The output exists or clashes with what is in it (exit 5).
    pub fn exists(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Exists, message)
    }
    /// An invariant of this crate that does not hold: a bug, told as one with its place in the
    /// source (exit 101).
    #[track_caller]
    pub fn internal(message: impl Into<String>) -> Error {
        let place = std::panic::Location::caller();
        Error::bug(&message.into(), &format!("{}:{}", place.file(), place.line()))
    }
    fn bug(message: &str, place: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("this is a bug in npk: {message} ({place})"))
            .hint("please report it with this message, the command, the output of `npk --version` and, if you can, the input")
    }
    /// Several errors found in one pass, reported together; the first decides the exit code (a bug
    /// comes first).
    ///
    /// Returns `Ok(())` when the list is empty.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let mut first = errors.remove(errors.iter().position(Error::is_bug).unwrap_or(0));
        first.inner().more.extend(errors);
        Err(first)
    }
    /// A failed system call on the way in: not found, permission, links in a circle, impossible
    /// names, files for folders and folders for files are exit 3, the rest exit 1.
    pub fn reading(error: std::io::Error) -> Error {
        if let Some(ours) = Error::carried_by(&error) {
            return ours;
        }
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return Error::missing("its symbolic links form a loop");
        }
        if error.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()) {
            return Error::missing("the name is too long for a file");
        }
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::missing("no such file or directory"),
            std::io::ErrorKind::PermissionDenied => Error::missing("permission denied"),
            std::io::ErrorKind::NotADirectory => {
                Error::missing("it, or a part of its path, is not a directory")
            }
            std::io::ErrorKind::IsADirectory => {
                Error::missing("it is a directory, a file was expected")
            }
            std::io::ErrorKind::UnexpectedEof => Error::corrupt("the file ends too early"),
            _ => Error::failed("cannot read").because(error),
        }
    }
    /// Adds the file (or URL), unless one is known already.
    pub fn file(mut self, file: impl Into<String>) -> Error {
        let (file, inner) = (file.into(), self.inner());
        for error in &mut inner.more {
            error.inner().file.get_or_insert_with(|| file.clone());
        }
        inner.file.get_or_insert(file);
        self
    }
    /// Adds the array, unless one is known already.
    pub fn array(mut self, array: impl Into<String>) -> Error {
        self.inner().array.get_or_insert_with(|| array.into());
        self
    }
    /// Names the array as it is called now: it may have been found under another name, or in a part
    /// of it.
    pub fn with_array(mut self, array: impl Into<String>) -> Error {
        self.inner().array = Some(array.into());
        self
    }
    /// Adds `more` to the messages about `array`, here and in the further errors of the pass.
    pub fn say_more(mut self, array: &str, more: &str) -> Error {
        let inner = self.inner();
        for error in &mut inner.more {
            if error.array_name() == Some(array) {
                error.inner().message.push_str(more);
            }
        }
        if inner.array.as_deref() == Some(array) {
            inner.message.push_str(more);
        }
        self
    }
    /// Says in front of the message what it is about: a chunk, a record, a member. Not for arrays
    /// and files.
    pub fn about(mut self, what: impl fmt::Display) -> Error {
        let inner = self.inner();
        inner.message = format!("{what}: {}", inner.message);
        self
    }
    /// Adds (or replaces) the hint: the flag or the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.inner().hint = Some(hint.into());
        self
    }
    /// Takes the hint away, where it would not help.
    pub fn without_hint(mut self) -> Error {
        self.inner().hint = None;
        self
    }
    /// Adds the cause, which is printed once, after the message.
    ///
    /// Decoders give the errors of what they read from as their own. So the bytes are not blamed
    /// for a failed read, a network or a bug below: such an error is returned in place of this one.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        if let Some(below) = Error::carried_by(source.as_ref()) {
            let elsewhere = matches!(
                below.kind(),
                ErrorKind::Failed
                    | ErrorKind::Remote
                    | ErrorKind::BrokenPipe
                    | ErrorKind::Cancelled
            );
            if below.is_bug() || self.kind() == ErrorKind::Corrupt && elsewhere {
                return below.placed_as(&self);
            }
        } else if let Some(code) =
            system_error(source.as_ref()).filter(|_| self.kind() == ErrorKind::Corrupt)
        {
            return Error::reading(std::io::Error::from_raw_os_error(code)).placed_as(&self);
        }
        self.inner().source = Some(Arc::from(source));
        self
    }
    /// With the file and the array of `other`, where none are known.
    fn placed_as(mut self, other: &Error) -> Error {
        let inner = self.inner();
        inner.file = inner.file.take().or_else(|| other.0.file.clone());
        inner.array = inner.array.take().or_else(|| other.0.array.clone());
        self
    }
    /// The error of this crate that another one carries, however deep: it came through a reader, a
    /// writer or a library.
    pub fn carried_by(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
        causes(error).find_map(|e| e.downcast_ref::<Error>()).cloned()
    }
    /// Changes the class. A bug stays one.
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        if !self.is_bug() {
            self.inner().kind = kind;
        }
        self
    }
    /// Changes the message.
    pub fn with_message(mut self, change: impl FnOnce(&str) -> String) -> Error {
        let inner = self.inner();
        inner.message = change(&inner.message);
        self
    }
    /// This error as the state of one array, which can still be listed: a refusal, damage, a part
    /// that is missing.
    ///
    /// # Errors
    /// This error, where it is not about the data (the disk, the network, a bug): it concerns the
    /// whole file.
    pub fn of_data(self) -> Result<Error> {
        match self.kind() {
            ErrorKind::Refused
            | ErrorKind::Corrupt
            | ErrorKind::Missing
            | ErrorKind::Usage
            | ErrorKind::Exists => Ok(self),
            ErrorKind::Failed
            | ErrorKind::Remote
            | ErrorKind::BrokenPipe
            | ErrorKind::Cancelled
            | ErrorKind::Internal => Err(self),
        }
    }
    /// The answer to a question whose failure is an answer, too: no value. Only a bug stays an
    /// error.
    ///
    /// # Errors
    /// Bugs.
    pub fn unless_bug<T>(result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.is_bug() => Err(e),
            Err(_) => Ok(None),
        }
    }
    /// Whether this is a bug in npk itself: an error that nothing on the way may take for an
    /// answer.
    pub fn is_bug(&self) -> bool {
        self.0.kind == ErrorKind::Internal
    }
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// The file or URL concerned.
    pub fn file_name(&self) -> Option<&str> {
        self.0.file.as_deref()
    }
    /// The array concerned.
    pub fn array_name(&self) -> Option<&str> {
        self.0.array.as_deref()
    }
    /// The hint: the flag or the next step.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// The message alone, without file, array, cause or hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The message and its causes, without file, array or hint: where a list or a document names
    /// them already.
    pub fn reason(&self) -> String {
        let mut said = self.0.message.clone();
        let cause = self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        for e in cause.into_iter().flat_map(|e| std::iter::successors(Some(e), |e| e.source())) {
            let text = e.to_string();
            if !said.contains(&text) {
                said = format!("{said}: {text}");
            }
        }
        said
    }
    /// The further errors of the same pass.
    pub fn others(&self) -> &[Error] {
        &self.0.more
    }
}

/// An error and what it comes from, also what a system error only wraps.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| {
        match e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn std::error::Error + 'static)),
            None => e.source(),
        }
    })
}

/// The number that the system gave for a failed call.
fn system_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    causes(error).find_map(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error())
}

/// `FILE: ARRAY: message: cause`: one line, without the hint.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{file}: ")?;
        }
        if let Some(array) = &self.0.array {
            // A name of a megabyte says no more than its beginning.
            match array.char_indices().nth(200) {
                Some((end, _)) => write!(f, "{}… ({} bytes): ", &array[..end], array.len())?,
                None => write!(f, "{array}: ")?,
            }
        }
        f.write_str(&self.reason())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// System errors with no better description: out of space and the like.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        // One of ours that went through a reader or writer comes out as it was.
        if let Some(ours) = Error::carried_by(&error) {
            return ours;
        }
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Error::new(ErrorKind::BrokenPipe, "broken pipe"),
            std::io::ErrorKind::StorageFull => Error::failed("no space left on the device")
                .hint("free some space, or write to another disk"),
            std::io::ErrorKind::FileTooLarge => {
                Error::failed("the file would exceed the size limit of this file system or process")
                    .because(error)
            }
            std::io::ErrorKind::PermissionDenied => Error::failed("permission denied"),
            std::io::ErrorKind::ReadOnlyFilesystem => Error::failed("the file system is read-only"),
            std::io::ErrorKind::QuotaExceeded => Error::failed("the disk quota is used up"),
            _ => Error::failed("input/output error").because(error),
        }
    }
}

/// Adds file and array names to the errors of a result.
pub trait Context<T> {
    /// Names the file, unless the error has one.
    ///
    /// # Errors
    /// Those of `self`.
    fn at_file(self, file: &str) -> Result<T>;
    /// Names the array, unless the error has one.
    ///
    /// # Errors
    /// Those of `self`.
    fn at_array(self, array: &str) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn at_file(self, file: &str) -> Result<T> {
        self.map_err(|e| e.into().file(file))
    }
    fn at_array(self, array: &str) -> Result<T> {
        self.map_err(|e| e.into().array(array))
    }
}

/// `1 byte`, `2 bytes`: for messages.
pub fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// A lock, whatever became of the thread that held it: its panic is told on its own.
pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`; a panic in it is a bug of ours, told as one ([`ErrorKind::Internal`]) with its place in
/// the source.
///
/// For the edges of threads and commands. Calls into a library that may panic on bad bytes go
/// through [`foreign`].
///
/// # Errors
/// Those of `work`, or its panic.
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|panic| Err(panic.into_error()))
}

/// Calls `library`, which may panic on bytes that break their format: such a panic is corrupt
/// input, with the library's name. A panic in a file of this crate (a callback, a wrapper) stays a
/// bug of ours.
///
/// # Errors
/// Those of `work`, or its panic.
pub fn foreign<T>(library: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|panic| {
        Err(if panic.is_ours() {
            panic.into_error()
        } else {
            Error::corrupt(format!(
                "the {library} library cannot decode these bytes ({})",
                panic.message
            ))
        })
    })
}

/// A decoder of `library` as a reader: its panics are told as [`foreign`] tells them.
pub struct ForeignReader<R> {
    library: &'static str,
    decoder: R,
}

impl<R: std::io::Read> ForeignReader<R> {
    /// Reads through `decoder`.
    pub fn new(library: &'static str, decoder: R) -> ForeignReader<R> {
        ForeignReader { library, decoder }
    }
    /// The decoder itself.
    pub fn decoder(&self) -> &R {
        &self.decoder
    }
}

impl<R: std::io::Read> std::io::Read for ForeignReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        foreign(self.library, || Ok(self.decoder.read(buf)))
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }
}

/// A panic that was caught.
struct Panic {
    message: String,
    /// File and line, where the hook saw them.
    place: Option<(String, u32)>,
}

impl Panic {
    /// Whether the panicking line is in this crate. Paths of this crate are relative in its own
    /// workspace and absolute where it is built as a dependency; those of libraries are always
    /// absolute.
    fn is_ours(&self) -> bool {
        let Some((file, _)) = &self.place else { return true };
        match file!().strip_suffix("src/error.rs") {
            Some(root) if !root.is_empty() => file.starts_with(root),
            _ => std::path::Path::new(file).is_relative(),
        }
    }
    fn into_error(self) -> Error {
        let place = self
            .place
            .as_ref()
            .map_or_else(|| "at an unknown place".into(), |(file, line)| format!("{file}:{line}"));
        Error::bug(&self.message, &place)
    }
}

thread_local! {
    /// How many guards this thread is in, and where its last panic was.
    static GUARDS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    static PANICKED: std::cell::RefCell<Option<(String, u32)>> = const { std::cell::RefCell::new(None) };
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    remember_places();
    GUARDS.set(GUARDS.get() + 1);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    GUARDS.set(GUARDS.get() - 1);
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Panic {
            message: text.unwrap_or("a panic without a message").to_string(),
            place: PANICKED.take(),
        }
    })
}

/// Within a guard a panic is told by its error; the place, which the error needs, is only known to
/// the panic hook. Panics outside of guards, and all of them with RUST_BACKTRACE set, go to the
/// hook that was there before.
fn remember_places() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        let loud = std::env::var_os("RUST_BACKTRACE").is_some();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.set(info.location().map(|l| (l.file().to_string(), l.line())));
            if loud || GUARDS.get() == 0 {
                before(info);
            }
        }));
    });
}
