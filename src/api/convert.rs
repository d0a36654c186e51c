//! Conversions as a part of a program.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::flags::Flags;
use super::text_of;
use crate::console::{Console, Level, Listener, Told};
use crate::conversion::{Hooks, run};
use crate::error::{Error, ErrorKind, Result, locked};
use crate::pipe::{Cancel, Progress};

/// Hears the messages of a conversion.
pub type OnMessage = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// How to convert. Every option of `npk convert` is there under its name ([`Options::option`],
/// [`Options::switch`]); the usual ones have methods of their own.
#[derive(Clone, Default)]
pub struct Options {
    flags: Flags,
    on_message: Option<OnMessage>,
    hooks: Hooks,
}

impl Options {
    /// What the command does without options.
    pub fn new() -> Options {
        Options::default()
    }
    /// An option of `npk convert` with its value: `option("dtype", "w=float32")`. Some may be given
    /// several times, as there.
    pub fn option(mut self, name: &str, value: impl AsRef<str>) -> Options {
        self.flags.set(name, value.as_ref());
        self
    }
    /// An option of `npk convert` that has no value: `switch("concat")`.
    pub fn switch(mut self, name: &str) -> Options {
        self.flags.switch(name);
        self
    }
    /// The format of the sources, where neither bytes nor names tell.
    pub fn from(self, format: &str) -> Options {
        self.option("from", format)
    }
    /// The format of the destination, where its name does not tell.
    pub fn to(self, format: &str) -> Options {
        self.option("to", format)
    }
    /// Only these arrays: names or patterns.
    pub fn arrays<S: AsRef<str>>(self, names: impl IntoIterator<Item = S>) -> Options {
        names.into_iter().fold(self, |options, name| options.option("array", name))
    }
    /// A destination that exists is replaced.
    pub fn replace(self) -> Options {
        self.switch("force")
    }
    /// The arrays join those of a store that exists.
    pub fn merge(self) -> Options {
        self.option("if-exists", "merge")
    }
    /// `zstd`, `gzip:9`, `none`, …: what the format of the destination has.
    pub fn compression(self, name: &str) -> Options {
        self.option("compression", name)
    }
    /// Memory for data in flight.
    pub fn memory_limit(self, bytes: u64) -> Options {
        self.option("memory-limit", bytes.to_string())
    }
    /// Worker threads; one a core, unless given.
    pub fn jobs(self, threads: usize) -> Options {
        self.option("jobs", threads.to_string())
    }
    /// Called with the bytes that have moved since the last call and the name of their array, from
    /// any thread.
    pub fn on_progress(mut self, told: impl Fn(u64, &str) + Send + Sync + 'static) -> Options {
        let told: Progress = Arc::new(told);
        self.hooks.on_progress = Some(told);
        self
    }
    /// Called with what the command would print: notes and warnings.
    pub fn on_message(mut self, told: impl Fn(Level, &str) + Send + Sync + 'static) -> Options {
        self.on_message = Some(Arc::new(told));
        self
    }
    /// Ends the conversion before its time: it fails with [`ErrorKind::Cancelled`], and what was
    /// begun is gone.
    pub fn cancel(mut self, cancel: &Cancel) -> Options {
        self.hooks.cancel = Some(cancel.clone());
        self
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Options").field(&self.flags).finish()
    }
}

/// What has become of every output of a conversion.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// One for each output, in the order in which they ended.
    pub outputs: Vec<Told>,
    /// What the command would have printed: notes and warnings.
    pub messages: Vec<(Level, String)>,
}

impl Report {
    /// The errors of a batch of which some outputs failed.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.outputs.iter().filter_map(|told| told.error.as_ref())
    }
    /// Bytes of all outputs.
    pub fn bytes(&self) -> u64 {
        self.outputs.iter().map(|told| told.bytes).sum()
    }
}

/// Collects what is said.
struct Hearing {
    on_message: Option<OnMessage>,
    report: Mutex<Report>,
}

impl Listener for Hearing {
    fn hear(&self, level: Level, text: &str) {
        if let Some(on_message) = &self.on_message {
            on_message(level, text);
        }
        if level > Level::Detail {
            let mut report = locked(&self.report);
            report.messages.push((level, text.to_string()));
        }
    }
    fn output(&self, told: Told) {
        locked(&self.report).outputs.push(told);
    }
}

/// Converts what `npk convert SOURCES… DESTINATION` converts, with its options, and prints nothing.
///
/// A destination that ends in `/` takes an output for each source. Sources and destination are
/// paths or URLs; several sources become one output, where that can hold several arrays.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let at = |name: &str| folder.path().join(name).display().to_string();
/// std::fs::write(at("d.csv"), "a,b\n1,2.5\n3,4.5\n")?;
/// let report = npk::convert(&[at("d.csv")], at("d.npk"), &npk::Options::new())?;
/// assert_eq!(report.outputs[0].arrays, 2);
///
/// // from_safetensors_file(…, keys=['b']), with progress, and a way to end it.
/// let cancel = npk::Cancel::new();
/// let options = npk::Options::new()
///     .arrays(["b"])
///     .on_progress(|bytes, array| println!("{bytes} more bytes of {array}"))
///     .cancel(&cancel);
/// npk::convert(&[at("d.npk")], at("b.safetensors"), &options)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the command. Of a batch of several outputs one that fails is in the report, with its
/// error, and the others go on.
pub fn convert<S: AsRef<Path>>(
    sources: &[S],
    destination: impl AsRef<Path>,
    options: &Options,
) -> Result<Report> {
    let destination = text_of(destination.as_ref())?;
    let mut paths = sources.iter().map(|s| text_of(s.as_ref())).collect::<Result<Vec<_>>>()?;
    if paths.is_empty() && !options.flags.names_sources() {
        return Err(Error::usage("there is nothing to convert"));
    }
    if paths.iter().any(|path| path == "-") || matches!(destination.as_str(), "-" | "/dev/stdout") {
        return Err(Error::usage("stdin and stdout are the command's: npk convert")
            .hint("name a file; npk::open reads, npk::Store writes what is in memory"));
    }
    paths.push(destination);
    let mut args = options.flags.convert(&paths)?;
    (args.json, args.no_progress) = (false, true);
    let hearing =
        Hearing { on_message: options.on_message.clone(), report: Mutex::new(Report::default()) };
    crate::storage::raise_file_limit();
    let code = crate::error::guard(|| run(&args, Console::to(&hearing), options.hooks.clone()))?;
    let report = hearing.report.into_inner().unwrap_or_else(|e| e.into_inner());
    let cancelled = report.errors().find(|e| e.kind() == ErrorKind::Cancelled).cloned();
    let stopped = options.hooks.cancel.as_ref().is_some_and(Cancel::is_cancelled);
    match cancelled {
        Some(error) => Err(error),
        None if stopped && code != 0 => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
        None => Ok(report),
    }
}
