//! Objects of servers without ranges: fetched whole, in one go.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;

use super::connection::RemoteBackend;
use super::errors::{Failure, FailureKind};
use super::object::ObjectResponse;
use super::runtime::runtime;
use crate::error::Result;

/// A body as it comes. It cannot be taken up again where it breaks.
pub(super) struct Whole {
    backend: Arc<RemoteBackend>,
    len: Option<u64>,
    /// What has come.
    range: Range<u64>,
    body: futures_util::stream::BoxStream<'static, Result<Bytes, Failure>>,
    now: Bytes,
}

impl Whole {
    pub fn new(backend: Arc<RemoteBackend>, got: ObjectResponse) -> Whole {
        Whole { backend, len: got.pin.len, range: 0..0, body: got.body, now: Bytes::new() }
    }
}

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let fail = |f: Failure| std::io::Error::other(f.into_error(&self.backend.bucket));
        while self.now.is_empty() && !buf.is_empty() {
            match runtime().map_err(std::io::Error::other)?.block_on(self.body.next()) {
                Some(Ok(bytes)) => {
                    self.range.end += bytes.len() as u64;
                    self.now = bytes;
                }
                Some(Err(failure)) => return Err(fail(failure)),
                None if self.len.is_some_and(|len| self.range.end < len) => {
                    return Err(fail(Failure::new(FailureKind::Broken, "the body is short")));
                }
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.now.len());
        buf[..n].copy_from_slice(&self.now.split_to(n));
        Ok(n)
    }
}
