//! A blob as the `parquet` crate wants to read it: one column chunk, through a window that is read ahead.

use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

use super::wrapped;
use crate::location::Blob;

/// Bytes read ahead of a local file.
const LOCAL_WINDOW_BYTES: u64 = 256 << 10;
/// Bytes read ahead of a remote object: fewer, larger requests.
const REMOTE_WINDOW_BYTES: u64 = 8 << 20;

/// A part of a blob. Clones share the window.
#[derive(Clone)]
pub(super) struct Window {
    inner: Arc<Inner>,
}

struct Inner {
    blob: Arc<dyn Blob>,
    /// Nothing after it is read ahead.
    end: u64,
    ahead: u64,
    held: Mutex<(u64, Bytes)>,
}

impl Window {
    /// Reads of `blob`, with nothing after `end` read ahead.
    pub(super) fn new(blob: Arc<dyn Blob>, end: u64) -> Window {
        let ahead = if blob.file().is_some() { LOCAL_WINDOW_BYTES } else { REMOTE_WINDOW_BYTES };
        let end = end.min(blob.len());
        Window { inner: Arc::new(Inner { blob, end, ahead, held: Mutex::new((0, Bytes::new())) }) }
    }

    /// At least `len` bytes (fewer only at the end of the blob) from `start`.
    fn bytes(&self, start: u64, len: u64) -> crate::error::Result<Bytes> {
        let inner = &self.inner;
        let mut held = inner.held.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(from) = start.checked_sub(held.0)
            && from.checked_add(len).is_some_and(|end| end <= held.1.len() as u64)
        {
            return Ok(held.1.slice(from as usize..));
        }
        let until = inner.end.max(start).saturating_sub(start);
        let len = len.max(inner.ahead.min(until));
        let read = Bytes::from(inner.blob.read_vec(start, len)?);
        *held = (start, read.clone());
        Ok(read)
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.inner.blob.len()
    }
}

impl ChunkReader for Window {
    type T = WindowRead;

    fn get_read(&self, start: u64) -> ParquetResult<WindowRead> {
        Ok(WindowRead { window: self.clone(), at: start, held: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.bytes(start, length as u64).map_err(wrapped)?;
        Ok(bytes.slice(..length))
    }
}

/// The bytes from a place on.
pub(super) struct WindowRead {
    window: Window,
    at: u64,
    held: Bytes,
}

impl Read for WindowRead {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.held.is_empty() {
            if self.at >= self.window.len() || buf.is_empty() {
                return Ok(0);
            }
            self.held = self.window.bytes(self.at, 1).map_err(std::io::Error::other)?;
        }
        let n = self.held.len().min(buf.len());
        buf[..n].copy_from_slice(&self.held[..n]);
        self.held = self.held.slice(n..);
        self.at += n as u64;
        Ok(n)
    }
}
