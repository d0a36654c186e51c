//! Locations of URLs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use super::connection::RemoteBackend;
use super::options::RemoteOptions;
use super::url;
use crate::error::{Error, Result, locked};
use crate::storage::Location;

/// Whether this argument is a URL that [`open`] takes.
pub fn is_url(text: &str) -> bool {
    ["s3://", "gs://", "az://", "hf://", "http://", "https://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// A URL to show: without user information and secret query values.
pub fn display(url: &str) -> String {
    url::mask(url)
}

/// The location of a URL. Nothing is asked of the network yet.
///
/// # Errors
/// Usage: a URL that cannot be, settings that cannot be.
pub fn open(url: &str, options: &RemoteOptions) -> Result<Location> {
    let at = locate(url, options)?;
    if let Some((backend, key)) = at.as_remote() {
        backend.forget(key);
    }
    Ok(at)
}

/// The same, with all that is known of the object: its version is the one that was read.
///
/// # Errors
/// As above.
pub fn locate(url: &str, options: &RemoteOptions) -> Result<Location> {
    let shown = url::mask(url);
    let locate = || {
        let target = url::parse(url)?;
        if target.scheme != url::Scheme::Http {
            url::path(&target.key)?;
        }
        let backend = backend(&target, url, options)?;
        Ok(Location::remote(backend, target.key))
    };
    locate().map_err(|e: Error| e.file(shown))
}

/// Backends of this process: one per bucket, so that credentials are looked for once and
/// connections are shared.
pub(super) fn backend(
    target: &url::Target,
    url: &str,
    options: &RemoteOptions,
) -> Result<Arc<RemoteBackend>> {
    static BACKENDS: Mutex<Option<HashMap<String, Weak<RemoteBackend>>>> = Mutex::new(None);
    let name = match target.scheme {
        url::Scheme::Http => url.to_string(),
        scheme => format!("{}://{}", scheme.name(), target.bucket),
    };
    let name = format!("{name} {options:?}");
    let mut all = locked(&BACKENDS);
    let all = all.get_or_insert_default();
    if let Some(known) = all.get(&name).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let made = RemoteBackend::connect(target, url, options)?;
    all.retain(|_, b| b.strong_count() > 0);
    all.insert(name, Arc::downgrade(&made));
    // The last few stay, so that what was learnt of an object between two looks at it is not lost.
    static LAST: Mutex<VecDeque<Arc<RemoteBackend>>> = Mutex::new(VecDeque::new());
    let mut last = locked(&LAST);
    last.push_back(made.clone());
    if last.len() > 4 {
        last.pop_front();
    }
    Ok(made)
}
