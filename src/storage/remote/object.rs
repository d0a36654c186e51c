//! A version of an object, and an answer that has bytes of it.

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::HeaderMap;

use super::errors::{Failure, FailureKind};

/// What identifies one version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    pub etag: Option<String>,
    pub modified: Option<SystemTime>,
    pub len: Option<u64>,
}

impl ObjectVersion {
    /// Whether `other` may be the same version: what both know agrees.
    pub(super) fn fits(&self, other: &ObjectVersion) -> bool {
        fn agree<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        agree(&self.etag, &other.etag)
            && agree(&self.len, &other.len)
            && (self.etag.is_some() || agree(&self.modified, &other.modified))
    }
    /// An ETag that If-Match may be given.
    pub(super) fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|e| !e.starts_with("W/"))
    }
}

/// An answer to a GET.
pub(super) struct ObjectResponse {
    pub pin: ObjectVersion,
    /// The range that is sent; `None`: everything, since the server has no ranges.
    pub range: Option<Range<u64>>,
    pub body: BoxStream<'static, Result<Bytes, Failure>>,
}

/// A body that ends in an error it has no name for broke.
pub(super) fn broken(failure: Failure) -> Failure {
    if failure.what == FailureKind::Other {
        Failure { what: FailureKind::Broken, ..failure }
    } else {
        failure
    }
}

/// `bytes 0-65535/1048576`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let text = headers.get("content-range")?.to_str().ok()?.trim().strip_prefix("bytes ")?;
    let (range, len) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((
        first.trim().parse().ok()?..last.trim().parse::<u64>().ok()?.checked_add(1)?,
        len.trim().parse().ok(),
    ))
}
