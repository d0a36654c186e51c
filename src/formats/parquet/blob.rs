//! A blob as the `parquet` crate wants to read it: one column chunk, through a window that is read ahead.

use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::page::{self, HEADER_BYTES};
use super::thrift::{PageHeader, page_header};
use super::wrapped;
use crate::error::{Error, Result};
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
    /// Where the crate reads pages through it: how they are compressed.
    codec: Option<Compression>,
    /// The headers read last, by where they end. What is no header, but was taken for one, ends elsewhere.
    headers: Mutex<[(u64, PageHeader); 8]>,
    /// What went wrong in it: the crate keeps only the text.
    failure: Mutex<Option<Error>>,
}

impl Window {
    /// Reads of `blob`, with nothing after `end` read ahead.
    pub(super) fn new(blob: Arc<dyn Blob>, end: u64) -> Window {
        Window::with(blob, end, None)
    }

    /// The pages of a column chunk, each checked before it is handed out.
    pub(super) fn of_pages(blob: Arc<dyn Blob>, end: u64, codec: Compression) -> Window {
        Window::with(blob, end, Some(codec))
    }

    fn with(blob: Arc<dyn Blob>, end: u64, codec: Option<Compression>) -> Window {
        let ahead = if blob.file().is_some() { LOCAL_WINDOW_BYTES } else { REMOTE_WINDOW_BYTES };
        let end = end.min(blob.len());
        Window {
            inner: Arc::new(Inner {
                blob,
                end,
                ahead,
                held: Mutex::default(),
                codec,
                headers: Mutex::default(),
                failure: Mutex::default(),
            }),
        }
    }

    /// What went wrong in it since the last call.
    pub(super) fn failure(&self) -> Option<Error> {
        self.inner.failure.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    fn failed(&self, e: Error) -> ParquetError {
        *self.inner.failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(e.clone());
        wrapped(e)
    }

    /// Keeps the header that begins at `start`, if one does: the crate reads it next.
    fn note_header(&self, start: u64) -> Result<()> {
        for n in HEADER_BYTES {
            let len = n.min(self.inner.end.saturating_sub(start));
            if let Some(header) = page_header(&self.bytes(start, len)?) {
                let mut headers = self.inner.headers.lock().unwrap_or_else(|e| e.into_inner());
                // Skipped rows make the crate look at one header several times, and at others in between.
                let end = start + header.header_bytes;
                if headers.iter().all(|(known, _)| *known != end) {
                    headers.rotate_left(1);
                    headers[7] = (end, header);
                }
                break;
            }
        }
        Ok(())
    }

    fn check_page(&self, start: u64, bytes: &[u8], codec: Compression) -> Result<()> {
        let headers = *self.inner.headers.lock().unwrap_or_else(|e| e.into_inner());
        match headers.iter().find(|(end, _)| *end == start && start > 0) {
            Some((_, header)) => page::check(header, bytes, codec),
            None => page::check_whole(bytes, codec),
        }
    }

    /// At least `len` bytes (fewer only at the end of the blob) from `start`.
    fn bytes(&self, start: u64, len: u64) -> Result<Bytes> {
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
        if self.inner.codec.is_some() {
            self.note_header(start).map_err(|e| self.failed(e))?;
        }
        Ok(WindowRead { window: self.clone(), at: start, held: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.bytes(start, length as u64).map_err(|e| self.failed(e))?.slice(..length);
        if let Some(codec) = self.inner.codec {
            self.check_page(start, &bytes, codec).map_err(|e| self.failed(e))?;
        }
        Ok(bytes)
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
            self.held = self.window.bytes(self.at, 1).map_err(|e| std::io::Error::other(self.window.failed(e)))?;
        }
        let n = self.held.len().min(buf.len());
        buf[..n].copy_from_slice(&self.held[..n]);
        self.held = self.held.slice(n..);
        self.at += n as u64;
        Ok(n)
    }
}
