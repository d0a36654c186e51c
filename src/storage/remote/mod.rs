//! Object storage, HTTP and hubs: `s3://`, `gs://`, `az://`, `http(s)://`, `hf://`.
//!
//! A [`RemoteBackend`] is one bucket (or one web server), seen by its keys. The first look at an
//! object is a ranged GET of its head, which tells length and version and is kept: what a format
//! is, its header and its metadata usually come out of that one request. Everything read later is
//! pinned to that version. All waiting happens in one small runtime; callers block.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, Weak};

use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    Backend, Blob, Entry, EntryKind, Listed, Location, Mark, Output, OutputDir, local, temporary,
};
use crate::error::{Error, Result};
use crate::storage::{Existing, STORE_MARKERS};

mod backend;
mod blob;
mod client;
mod credentials;
mod date;
mod directory;
mod environment;
mod errors;
mod expand;
mod hub;
mod listing;
mod memory;
mod object;
mod object_record;
mod odd_keys;
mod profiles;
mod retry;
mod upload;
mod url;
mod whole;
mod wire;

use blob::{RemoteBlob, RemoteStream, Windows};
use client::{Objects, Service};
use errors::{Failure, FailureKind};
pub use expand::{expand, walk};
use memory::Memory;
use object::ObjectVersion;
use object_record::ObjectRecord;
use whole::Whole;

/// How remote locations are reached; what is not given comes from the environment and the AWS
/// configuration files.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// `--profile`.
    pub profile: Option<String>,
    /// `--region`.
    pub region: Option<String>,
    /// `--endpoint-url`.
    pub endpoint_url: Option<String>,
    /// `--no-sign-request`.
    pub no_sign_request: bool,
    /// `--no-verify-ssl`.
    pub no_verify_ssl: bool,
    /// `--ca-bundle`.
    pub ca_bundle: Option<String>,
    /// `--request-payer`.
    pub request_payer: bool,
    /// `--addressing virtual`; `None`: what the endpoint suggests.
    pub virtual_addressing: Option<bool>,
    /// `--retries`.
    pub retries: Option<u32>,
    /// The memory that transfers may use.
    pub memory_bytes: u64,
}

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

/// The runtime of all transfers.
fn runtime() -> Result<&'static tokio::runtime::Runtime> {
    static RUNTIME: OnceLock<Option<tokio::runtime::Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let build = || {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .thread_name("npk-remote")
                    .enable_all()
                    .build()
            };
            // It panics where a thread cannot be started.
            crate::error::foreign("tokio", || Ok(build()?)).ok()
        })
        .as_ref()
        .ok_or_else(|| Error::failed("the threads for the network cannot be started"))
}

/// Backends of this process: one per bucket, so that credentials are looked for once and
/// connections are shared.
fn backend(target: &url::Target, url: &str, options: &RemoteOptions) -> Result<Arc<RemoteBackend>> {
    static BACKENDS: Mutex<Option<HashMap<String, Weak<RemoteBackend>>>> = Mutex::new(None);
    let name = match target.scheme {
        url::Scheme::Http => url.to_string(),
        scheme => format!("{}://{}", scheme.name(), target.bucket),
    };
    let name = format!("{name} {options:?}");
    let mut all = BACKENDS.lock().unwrap_or_else(|e| e.into_inner());
    let all = all.get_or_insert_default();
    if let Some(known) = all.get(&name).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let service = client::connect(target, url, options)?;
    let memory = Memory::of(options.memory_bytes);
    let made = Arc::new_cyclic(|me| RemoteBackend {
        me: me.clone(),
        scheme: target.scheme,
        bucket: match target.scheme {
            url::Scheme::Hf => format!("hf://{}", target.bucket),
            _ => target.bucket.clone(),
        },
        service: RwLock::new(Arc::new(service)),
        connect_args: (target.clone(), url.to_string(), options.clone()),
        moved: Mutex::default(),
        has_bucket: AtomicBool::new(false),
        answered: AtomicBool::new(false),
        listing_denied: AtomicBool::new(false),
        retries: options.retries.unwrap_or(8),
        memory,
        permits: tokio::sync::Semaphore::new(MAX_REQUESTS),
        opened: Mutex::default(),
        record: ObjectRecord::default(),
        directories: Mutex::default(),
        windows: Mutex::new(Windows::new(memory.windows)),
        rate: AtomicU64::new(0),
    });
    all.retain(|_, b| b.strong_count() > 0);
    all.insert(name, Arc::downgrade(&made));
    // The last few stay, so that what was learnt of an object between two looks at it is not lost.
    static LAST: Mutex<VecDeque<Arc<RemoteBackend>>> = Mutex::new(VecDeque::new());
    let mut last = LAST.lock().unwrap_or_else(|e| e.into_inner());
    last.push_back(made.clone());
    if last.len() > 4 {
        last.pop_front();
    }
    Ok(made)
}

/// GETs at the same time.
const MAX_REQUESTS: usize = 64;
/// What the first GET of an object asks for.
const HEAD: u64 = 64 << 10;
/// Objects whose length and version are remembered.
const MAX_OPENED: usize = 4096;

/// What the first request for an object showed.
#[derive(Clone, Debug)]
struct Opened {
    pin: ObjectVersion,
    len: u64,
    /// A server without ranges: the object is fetched whole.
    whole: bool,
}

/// One bucket, container or server.
pub struct RemoteBackend {
    me: Weak<RemoteBackend>,
    scheme: url::Scheme,
    bucket: String,
    service: RwLock<Arc<Service>>,
    /// To connect again, where the bucket turns out to be in another region.
    connect_args: (url::Target, String, RemoteOptions),
    /// The region that it was followed to.
    moved: Mutex<Option<String>>,
    /// Whether the bucket is known to be there.
    has_bucket: AtomicBool,
    /// Whether the server has ever answered.
    answered: AtomicBool,
    /// What is not there is "forbidden" here: nothing may be listed.
    listing_denied: AtomicBool,
    retries: u32,
    memory: Memory,
    permits: tokio::sync::Semaphore,
    opened: Mutex<HashMap<String, Opened>>,
    record: ObjectRecord,
    /// Keys that are known to be directories.
    directories: Mutex<HashSet<String>>,
    windows: Mutex<Windows>,
    /// Bytes a second that one connection brings, as far as is known.
    rate: AtomicU64,
}

impl RemoteBackend {
    fn shared(&self) -> Result<Arc<RemoteBackend>> {
        self.me.upgrade().ok_or_else(|| Error::failed("the connection is closed"))
    }
    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(|e| e.into_inner())
    }
    async fn permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }
    fn directories(&self) -> MutexGuard<'_, HashSet<String>> {
        self.directories.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn forget_key(&self, key: &str) {
        self.directories().remove(key);
        self.opened.lock().unwrap_or_else(|e| e.into_inner()).remove(key);
        self.windows().forget(key);
    }

    fn service(&self) -> Arc<Service> {
        self.service.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        runtime().map_err(|e| Failure::new(FailureKind::Other, e.message()))?.block_on(work)
    }
    fn run<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T> {
        self.wait(work).map_err(|f| f.into_error(&self.bucket))
    }

    fn opened(&self, key: &str) -> Result<Option<Opened>> {
        self.look(key).map_err(|f| f.into_error(&self.bucket))
    }

    /// The first look at an object; `None` where there is none.
    fn look(&self, key: &str) -> Result<Option<Opened>, Failure> {
        if let Some(known) = self.opened.lock().unwrap_or_else(|e| e.into_inner()).get(key) {
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
        let mut all = self.opened.lock().unwrap_or_else(|e| e.into_inner());
        if all.len() >= MAX_OPENED {
            all.clear();
            self.directories().clear();
        }
        all.insert(key.to_string(), opened.clone());
        Ok(Some(opened))
    }

    /// Whether an object is there now, by HEAD.
    fn there(&self, key: &str) -> Result<Option<ObjectVersion>> {
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

    /// Web servers cannot be listed.
    fn listable(&self) -> Result<()> {
        match self.scheme {
            url::Scheme::Http => Err(Error::refused("http:// and https:// cannot be listed")),
            _ => Ok(()),
        }
    }
    /// Neither web servers nor hubs can be written to.
    fn writable(&self) -> Result<()> {
        match self.scheme {
            url::Scheme::Http => Err(Error::refused("http:// and https:// cannot be written to")),
            url::Scheme::Hf => Err(Error::refused("hf:// cannot be written to")),
            _ => Ok(()),
        }
    }

    /// The storage as it is reached now: a bucket may turn out to be in another region, so each try
    /// asks anew.
    fn storage(&self) -> Result<Objects, Failure> {
        match &*self.service() {
            Service::Objects(o) => Ok(o.clone()),
            Service::Site(_) | Service::Hub(_) => {
                Err(Failure::new(FailureKind::Other, "a web server is not object storage"))
            }
        }
    }
}

impl RemoteBackend {
    /// The URL by which others find what was opened at `key`.
    fn address(&self, key: &str) -> String {
        match &*self.service() {
            Service::Hub(hub) => hub.address(key),
            _ => self.display(key),
        }
    }

    /// As [`Backend::kind`], without what is known of directories.
    fn kind_anew(&self, key: &str) -> Result<EntryKind> {
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
    fn is_store(&self, key: &str) -> bool {
        let key = key.trim_end_matches('/');
        let name = key.rsplit('/').next().unwrap_or_default();
        // What lies in a store is no store itself: every look at one of its files would be five.
        if STORE_MARKERS.contains(&name) || name.starts_with('.') || name == "npk.json" {
            return false;
        }
        let below = |marker: &str| {
            if key.is_empty() { marker.to_string() } else { format!("{key}/{marker}") }
        };
        STORE_MARKERS.iter().any(|marker| {
            let key = below(marker);
            matches!(self.opened(&key), Ok(Some(_))) && !self.is_page(&key)
        })
    }

    /// Whether what was opened begins like a web page.
    fn is_page(&self, key: &str) -> bool {
        let pin =
            self.opened.lock().unwrap_or_else(|e| e.into_inner()).get(key).map(|o| o.pin.clone());
        let Some(head) = pin.and_then(|pin| self.windows().get(key, &pin, 0)) else { return false };
        let text =
            String::from_utf8_lossy(&head[..head.len().min(64)]).trim_start().to_ascii_lowercase();
        text.starts_with("<!doctype html") || text.starts_with("<html")
    }

    fn remote_blob(&self, key: &str, opened: Opened) -> Result<Arc<RemoteBlob>> {
        Ok(Arc::new(RemoteBlob::new(self.shared()?, Arc::from(key), opened.pin, opened.len)))
    }

    /// From a server without ranges: everything, in one go.
    fn whole(&self, key: &str) -> Result<Box<dyn Read + Send>> {
        let got =
            self.run(self.retrying(|| async { self.service().get(key, None, None).await }))?;
        Ok(Box::new(Whole::new(self.shared()?, got)))
    }
}
