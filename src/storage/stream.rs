//! stdin, stdout and FIFOs.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Blob, Output};
use crate::error::{Error, Result, locked};

/// An input that can be read once. Its first bytes may be looked at, and it may be spooled.
pub struct StreamState {
    display: String,
    file_name: String,
    derived: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    source: Option<Box<dyn Read + Send>>,
    head: Vec<u8>,
    spool: Option<Arc<dyn Blob>>,
}

impl StreamState {
    /// Standard input.
    pub fn stdin() -> StreamState {
        StreamState::new("-", "", Box::new(io::stdin()))
    }
    /// A FIFO or device.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn path(path: &Path) -> Result<StreamState> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(StreamState::new(
            &path.display().to_string(),
            &name,
            Box::new(Lazy { path: path.to_path_buf(), file: None }),
        ))
    }
    /// What is made of another input, and shown under its name.
    pub(super) fn derived(
        display: &str,
        file_name: &str,
        source: Box<dyn Read + Send>,
    ) -> StreamState {
        StreamState { derived: true, ..StreamState::new(display, file_name, source) }
    }
    fn new(display: &str, file_name: &str, source: Box<dyn Read + Send>) -> StreamState {
        let inner = Mutex::new(Inner { source: Some(source), head: Vec::new(), spool: None });
        StreamState { display: display.into(), file_name: file_name.into(), derived: false, inner }
    }
    pub(super) fn is_derived(&self) -> bool {
        self.derived
    }
    pub(super) fn is_spooled(&self) -> bool {
        self.lock().spool.is_some()
    }
    pub(super) fn display(&self) -> &str {
        &self.display
    }
    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }
    fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }
    pub(super) fn head(&self, max: usize) -> Result<Vec<u8>> {
        let mut inner = self.lock();
        if let Some(spool) = &inner.spool {
            return spool.read_vec(0, spool.len().min(max as u64));
        }
        let have = inner.head.len();
        let Inner { source, head, .. } = &mut *inner;
        if have < max
            && let Some(source) = source
        {
            source.by_ref().take((max - have) as u64).read_to_end(head).map_err(Error::reading)?;
        }
        Ok(inner.head[..inner.head.len().min(max)].to_vec())
    }
    pub(super) fn reader(&self) -> Result<Box<dyn Read + Send>> {
        let mut inner = self.lock();
        if let Some(spool) = &inner.spool {
            return Ok(Box::new(super::BlobReader::new(spool.clone())));
        }
        let source =
            inner.source.take().ok_or_else(|| Error::usage("this stream can be read only once"))?;
        Ok(Box::new(Cursor::new(std::mem::take(&mut inner.head)).chain(source)))
    }
    pub(super) fn spooled(&self) -> Result<Arc<dyn Blob>> {
        if let Some(spool) = &self.lock().spool {
            return Ok(spool.clone());
        }
        let mut reader = self.reader()?;
        let mut file = super::temporary::file()?;
        super::copy_to_temporary(&mut reader, &mut file)?;
        let blob = super::local::file_blob(file)?;
        self.lock().spool = Some(blob.clone());
        Ok(blob)
    }
}

/// A FIFO, opened when its first byte is wanted: to look at its name must not take its writer's
/// reader away.
struct Lazy {
    path: std::path::PathBuf,
    file: Option<File>,
}

impl Read for Lazy {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            return file.read(buf);
        }
        self.file.insert(File::open(&self.path)?).read(buf)
    }
}

/// stdout without the standard library's line buffer, which would cut binary data at every newline.
struct Stdout(io::BufWriter<File>);

impl Write for Stdout {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for Stdout {
    fn commit(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Remembers that the process was started without a standard output. Later nobody can tell: the
/// runtime opens `/dev/null` in its place, and all that is written would be gone.
pub fn stdout_is_closed() {
    STDOUT_IS_CLOSED.store(true, Ordering::Relaxed);
}

/// For those about to write to it.
///
/// # Errors
/// Failed, where there is none.
pub fn check_stdout() -> Result<()> {
    match STDOUT_IS_CLOSED.load(Ordering::Relaxed) {
        true => Err(Error::failed("standard output is closed")),
        false => Ok(()),
    }
}

pub(super) fn stdout() -> Result<Box<dyn Output>> {
    check_stdout()?;
    let fd = rustix::io::dup(rustix::stdio::stdout()).map_err(io::Error::from)?;
    Ok(Box::new(Stdout(io::BufWriter::with_capacity(1 << 16, File::from(fd)))))
}
