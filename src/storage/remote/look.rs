//! The first look at an object, and what is at a key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;

use super::client::Service;
use super::connection::{Opened, RemoteBackend};
use super::errors::{Failure, FailureKind};
use super::object::ObjectVersion;
use super::url;
use crate::error::{Result, locked};
use crate::storage::{Backend, EntryKind, STORE_MARKERS};

/// What the first GET of an object asks for.
const HEAD: u64 = 64 << 10;
/// Objects whose length and version are remembered.
const MAX_OPENED: usize = 4096;

impl RemoteBackend {
    pub(super) fn opened(&self, key: &str) -> Result<Option<Opened>> {
        self.look(key).map_err(|f| f.into_error(&self.bucket))
    }

    /// The first look at an object; `None` where there is none.
    pub(super) fn look(&self, key: &str) -> Result<Option<Opened>, Failure> {
        if let Some(known) = locked(&self.opened).get(key) {
            return Ok(Some(known.clone()));
        }
        let found = self.wait(async {
            let look = || async {
                let mut got = self.service().get(key, Some(0..HEAD), None).await?;
                let (whole, expected) = match (&got.range, got.pin.len) {
                    (Some(range), Some(len)) if range.start == 0 && range.end == len.min(HEAD) => {
                        (false, Some(range.end))
                    }
                    (Some(range), len) => {
                        let of = len.map(|l| format!(" of {l}")).unwrap_or_default();
                        return Err(Failure::new(
                            FailureKind::Other,
                            format!("the server answers with bytes {range:?}{of} to 0..{HEAD}"),
                        ));
                    }
                    (None, len) => (true, len.map(|l| l.min(HEAD))),
                };
                let mut head = Vec::new();
                while (head.len() as u64) < expected.unwrap_or(HEAD)
                    && let Some(bytes) = got.body.next().await
                {
                    head.extend_from_slice(&bytes?);
                }
                if expected.is_some_and(|e| (head.len() as u64) < e) {
                    return Err(Failure::new(FailureKind::Broken, "the body is short"));
                }
                Ok((got.pin, whole, Bytes::from(head)))
            };
            match self.retrying(look).await {
                Ok(found) => Ok(Some(found)),
                // An empty object has no first byte.
                Err(f) if f.what == FailureKind::BadRange => {
                    let pin = self.retrying(|| async { self.service().head(key).await }).await?;
                    match pin.len {
                        Some(0) | None => {
                            Ok(Some((ObjectVersion { len: Some(0), ..pin }, false, Bytes::new())))
                        }
                        Some(_) => Err(f),
                    }
                }
                Err(f) if f.what == FailureKind::Missing => Ok(None),
                Err(f) => Err(f),
            }
        })?;
        let Some((pin, whole, head)) = found else { return Ok(None) };
        let opened = Opened { len: pin.len.unwrap_or(0), pin, whole };
        self.record.check_listed(key, &opened.pin)?;
        if !whole && !head.is_empty() {
            self.windows().put(&Arc::from(key), &opened.pin, 0, head);
        }
        let mut all = locked(&self.opened);
        if all.len() >= MAX_OPENED {
            all.clear();
            self.directories().clear();
        }
        all.insert(key.to_string(), opened.clone());
        Ok(Some(opened))
    }

    /// Whether an object is there now, by HEAD.
    pub(super) fn there(&self, key: &str) -> Result<Option<ObjectVersion>> {
        self.run(async {
            match self.retrying(|| async { self.service().head(key).await }).await {
                Ok(pin) => Ok(Some(pin)),
                Err(f) if f.what == FailureKind::Missing => {
                    if self.has_bucket.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    // A HEAD has no body: whether the bucket is there, too, only a listing tells.
                    match self.page("", Some("/"), Some(1), None).await {
                        Err(f) if f.what == FailureKind::NoBucket => Err(f),
                        _ => Ok(None),
                    }
                }
                // Who may only write is told "forbidden" about what is not there.
                Err(f) if f.status == Some(403) && f.code.is_none() => Ok(None),
                Err(f) => Err(f),
            }
        })
    }

    /// The URL by which others find what was opened at `key`.
    pub(super) fn address(&self, key: &str) -> String {
        match &*self.service() {
            Service::Hub(hub) => hub.address(key),
            _ => self.display(key),
        }
    }

    /// As [`Backend::kind`], without what is known of directories.
    pub(super) fn kind_anew(&self, key: &str) -> Result<EntryKind> {
        let site = self.scheme == url::Scheme::Http;
        let mut denied = None;
        if site || !key.is_empty() && !key.ends_with('/') {
            match self.look(key) {
                // A web server answers with a page about its directories.
                Ok(Some(_)) if site && self.is_page(key) && self.is_store(key) => {
                    return Ok(EntryKind::Dir);
                }
                Ok(Some(o)) => return Ok(EntryKind::File { len: o.len, modified: o.pin.modified }),
                Ok(None) => {}
                Err(f) if !site && f.what == FailureKind::Denied => denied = Some(f),
                Err(f) => return Err(f.into_error(&self.bucket)),
            }
        }
        // The file that marks a store is no directory.
        if !site
            && denied.is_none()
            && STORE_MARKERS.contains(&key.rsplit('/').next().unwrap_or_default())
        {
            return Ok(EntryKind::Missing);
        }
        if !site && denied.is_none() {
            match self.is_prefix(key) {
                Ok(true) => return Ok(EntryKind::Dir),
                Ok(false) if key.is_empty() => return Ok(EntryKind::Dir),
                Ok(false) => return Ok(EntryKind::Missing),
                Err(f) if f.what == FailureKind::Denied => denied = Some(f),
                Err(f) => return Err(f.into_error(&self.bucket)),
            }
        }
        // Nothing can be listed: a store shows by the files that every store has.
        if self.is_store(key) {
            self.listing_denied.store(!site, Ordering::Relaxed);
            return Ok(EntryKind::Dir);
        }
        match denied {
            Some(f) if !self.listing_denied.load(Ordering::Relaxed) => {
                Err(f.into_error(&self.bucket))
            }
            _ => Ok(EntryKind::Missing),
        }
    }

    /// Whether a file that marks a store can be read below `key`.
    pub(super) fn is_store(&self, key: &str) -> bool {
        let key = key.trim_end_matches('/');
        let name = key.rsplit('/').next().unwrap_or_default();
        // What lies in a store is no store itself: every look at one of its files would be five.
        if STORE_MARKERS.contains(&name) || name.starts_with('.') || name == "npk.json" {
            return false;
        }
        STORE_MARKERS.iter().any(|marker| {
            let key = format!("{}{marker}", url::prefix(key));
            matches!(self.opened(&key), Ok(Some(_))) && !self.is_page(&key)
        })
    }

    /// Whether what was opened begins like a web page.
    pub(super) fn is_page(&self, key: &str) -> bool {
        let pin = locked(&self.opened).get(key).map(|o| o.pin.clone());
        let Some(head) = pin.and_then(|pin| self.windows().get(key, &pin, 0)) else { return false };
        let text =
            String::from_utf8_lossy(&head[..head.len().min(64)]).trim_start().to_ascii_lowercase();
        text.starts_with("<!doctype html") || text.starts_with("<html")
    }
}
