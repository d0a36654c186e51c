//! The library's one error type: what went wrong, where, and what to do next.
//!
//! An error carries a [`Kind`], which decides the exit code, the file and the array it concerns (each added once, by the
//! module that knows it), a message with the numbers, and a hint. [`crate::report`] prints it; nothing else does.

use std::fmt;

/// What class of failure this is. Each class has one exit code (see `report`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    /// A bug in npk itself: a panic, or an invariant that does not hold. Exit 101, and never called corrupt input.
    Internal,
}

/// An error of the library. Build it with one of the constructors, then add what you know.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    file: Option<String>,
    array: Option<String>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    more: Vec<Error>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with this message (no file, no array: add them with [`Error::file`] and [`Error::array`]).
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, file: None, array: None, message: message.into(), hint: None, source: None, more: Vec::new() }))
    }
    /// Bytes that break their format (exit 7).
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(Kind::Corrupt, message)
    }
    /// A recognised thing that is not supported, or data that would change (exit 4).
    pub fn refused(message: impl Into<String>) -> Error {
        Error::new(Kind::Refused, message)
    }
    /// Missing, unreadable or not recognised (exit 3).
    pub fn missing(message: impl Into<String>) -> Error {
        Error::new(Kind::Missing, message)
    }
    /// Wrong usage (exit 2).
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, message)
    }
    /// Failed for reasons outside the data (exit 1).
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Kind::Failed, message)
    }
    /// The output exists or clashes with what is in it (exit 5).
    pub fn exists(message: impl Into<String>) -> Error {
        Error::new(Kind::Exists, message)
    }
    /// An invariant of this crate that does not hold: a bug, told as one with its place in the source (exit 101).
    #[track_caller]
    pub fn internal(message: impl Into<String>) -> Error {
        let place = std::panic::Location::caller();
        Error::bug(&message.into(), &format!("{}:{}", place.file(), place.line()))
    }
    fn bug(message: &str, place: &str) -> Error {
        Error::new(Kind::Internal, format!("this is a bug in npk: {message} ({place})"))
            .hint("please report it with this message, the command, the output of `npk --version` and, if you can, the input")
    }
    /// Several errors found in one pass, reported together; the first decides the exit code.
    ///
    /// Returns `Ok(())` when the list is empty.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let mut first = errors.remove(0);
        first.0.more.extend(errors);
        Err(first)
    }
    /// A failed system call on the way in: not found, permission, links in a circle and impossible names are exit 3, the rest exit 1.
    pub fn reading(error: std::io::Error) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return Error::missing("its symbolic links form a loop");
        }
        if error.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()) {
            return Error::missing("the name is too long for a file");
        }
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::missing("no such file or directory"),
            std::io::ErrorKind::PermissionDenied => Error::missing("permission denied"),
            std::io::ErrorKind::UnexpectedEof => Error::corrupt("the file ends too early"),
            _ => Error::failed("cannot read").because(error),
        }
    }
    /// Adds the file (or URL), unless one is known already.
    pub fn file(mut self, file: impl Into<String>) -> Error {
        let file = file.into();
        for error in &mut self.0.more {
            error.0.file.get_or_insert_with(|| file.clone());
        }
        self.0.file.get_or_insert(file);
        self
    }
    /// Adds the array, unless one is known already.
    pub fn array(mut self, array: impl Into<String>) -> Error {
        self.0.array.get_or_insert_with(|| array.into());
        self
    }
    /// Adds `more` to the messages about `array`, here and in the further errors of the pass.
    pub fn say_more(mut self, array: &str, more: &str) -> Error {
        for error in &mut self.0.more {
            if error.0.array.as_deref() == Some(array) {
                error.0.message.push_str(more);
            }
        }
        if self.0.array.as_deref() == Some(array) {
            self.0.message.push_str(more);
        }
        self
    }
    /// Says in front of the message what it is about: a chunk, a record, a member. Not for arrays and files.
    pub fn about(mut self, what: impl fmt::Display) -> Error {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }
    /// Adds (or replaces) the hint: the flag or the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }
    /// Adds the cause, which is printed once, after the message.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }
    /// Changes the class.
    pub fn with_kind(mut self, kind: Kind) -> Error {
        self.0.kind = kind;
        self
    }
    /// The class of this error.
    pub fn kind(&self) -> Kind {
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
    /// The further errors of the same pass.
    pub fn others(&self) -> &[Error] {
        &self.0.more
    }
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
        f.write_str(&self.0.message)?;
        let mut said = self.0.message.clone();
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(e) = cause {
            let text = e.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = format!("{said}: {text}");
            }
            cause = e.source();
        }
        Ok(())
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
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Error::new(Kind::BrokenPipe, "broken pipe"),
            std::io::ErrorKind::StorageFull => {
                Error::failed("no space left on the device").hint("free some space, or write to another disk")
            }
            std::io::ErrorKind::FileTooLarge => {
                Error::failed("the file would exceed the size limit of this file system or process").because(error)
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

/// Runs `work`; a panic in it is a bug of ours, told as one ([`Kind::Internal`]) with its place in the source.
///
/// For the edges of threads and commands. Calls into a library that may panic on bad bytes go through [`foreign`].
///
/// # Errors
/// Those of `work`, or its panic.
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|panic| Err(panic.into_error()))
}

/// Calls `library`, which may panic on bytes that break their format: such a panic is corrupt input, with the library's
/// name. A panic in a file of this crate (a callback, a wrapper) stays a bug of ours.
///
/// # Errors
/// Those of `work`, or its panic.
pub fn foreign<T>(library: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|panic| {
        Err(if panic.is_ours() {
            panic.into_error()
        } else {
            Error::corrupt(format!("the {library} library cannot decode these bytes ({})", panic.message))
        })
    })
}

/// A panic that was caught.
struct Panic {
    message: String,
    /// File and line, where the hook saw them.
    place: Option<(String, u32)>,
}

impl Panic {
    /// Whether the panicking line is in this crate. Paths of this crate are relative in its own workspace and absolute
    /// where it is built as a dependency; those of libraries are always absolute.
    fn is_ours(&self) -> bool {
        let Some((file, _)) = &self.place else { return true };
        match file!().strip_suffix("src/error.rs") {
            Some(root) if !root.is_empty() => file.starts_with(root),
            _ => std::path::Path::new(file).is_relative(),
        }
    }
    fn into_error(self) -> Error {
        let place = self.place.as_ref().map_or_else(|| "at an unknown place".into(), |(file, line)| format!("{file}:{line}"));
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
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Panic { message: text.unwrap_or("a panic without a message").to_string(), place: PANICKED.take() }
    })
}

/// Within a guard a panic is told by its error; the place, which the error needs, is only known to the panic hook. Panics
/// outside of guards, and all of them with RUST_BACKTRACE set, go to the hook that was there before.
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
