//! Limits and callbacks of a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::resources::{Cancel, FileReservation, Resources};

/// Limits and callbacks of a run.
#[derive(Clone)]
pub struct Settings {
    /// Threads and memory.
    pub resources: Resources,
    /// Called with the bytes delivered since the last call, and the array they belong to.
    pub progress: Option<Progress>,
    /// What the output is called in errors that arise there, not in the source.
    pub(super) output: OutputName,
    /// Bytes that the kernel copied file to file, without a buffer of this process.
    pub(super) copied: Arc<AtomicU64>,
    /// What this file holds until its end.
    pub(super) held: Arc<FileReservation>,
    pub(super) pool: Arc<OnceLock<rayon::ThreadPool>>,
}

/// What the output is called, if it has a name.
#[derive(Clone, Default)]
pub(super) struct OutputName(Option<Arc<str>>);

impl OutputName {
    /// Names the output in an error of its sink. What is wrong with the data is left to the
    /// source's name.
    pub(super) fn on(&self, error: Error) -> Error {
        match &self.0 {
            Some(name) if !matches!(error.kind(), ErrorKind::Refused | ErrorKind::Corrupt) => {
                error.file(&**name)
            }
            _ => error,
        }
    }
    pub(super) fn at<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.on(e))
    }
}

/// See [`Settings::progress`].
pub type Progress = Arc<dyn Fn(u64, &str) + Send + Sync>;

impl Settings {
    /// So many threads, and so many bytes.
    pub fn new(jobs: usize, memory_bytes: u64) -> Settings {
        Settings::of(&Resources::new(jobs, memory_bytes))
    }
    /// What the run has, silent.
    pub fn of(resources: &Resources) -> Settings {
        Settings {
            held: Arc::new(resources.budget().file()),
            resources: resources.clone(),
            progress: None,
            output: OutputName::default(),
            copied: Arc::default(),
            pool: Arc::default(),
        }
    }
    fn begun(&self) -> Settings {
        let held = Arc::new(self.resources.budget().file());
        Settings { copied: Arc::default(), held, ..self.clone() }
    }
    /// The same threads and budget for one run of its own, telling this callback.
    pub fn with_progress(&self, progress: Progress) -> Settings {
        Settings { progress: Some(progress), ..self.begun() }
    }
    /// The same threads and budget for a run of its own that can be cancelled.
    pub fn with_cancel(&self, cancel: Option<Cancel>) -> Settings {
        Settings { resources: self.resources.with_cancel(cancel), ..self.begun() }
    }
    /// The same, for an output of this name.
    pub fn with_output(self, name: &str) -> Settings {
        Settings { output: OutputName(Some(name.into())), ..self }
    }
    /// Bytes that went file to file within the kernel so far.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }
    pub(super) fn moved(&self, bytes: u64, array: &str) {
        if let Some(progress) = &self.progress {
            progress(bytes, array);
        }
    }
    /// Asked between pieces.
    ///
    /// # Errors
    /// Cancelled, where somebody asked for that.
    pub fn check(&self) -> Result<()> {
        self.resources.check()
    }
    /// A good size for a piece: small enough for every thread to have some in flight.
    pub fn piece_bytes(&self) -> u64 {
        let (total, jobs) = (self.resources.budget().total(), self.resources.jobs() as u64);
        (total / (4 * jobs + 4)).clamp(64 << 10, 8 << 20)
    }
    /// Bytes of the rows of all columns together, where these wait for each other.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.piece_bytes().saturating_mul(8).min(self.resources.memory_bytes() / 4)
    }
}
