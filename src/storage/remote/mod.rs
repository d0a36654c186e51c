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
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    Backend, Blob, Entry, EntryKind, Listed, Location, Mark, Output, OutputDir, local, temporary,
};
use crate::error::{Error, Result};
use crate::storage::{Existing, STORE_MARKERS};

mod blob;
mod client;
mod credentials;
mod directory;
mod errors;
mod expand;
mod hub;
mod listing;
mod memory;
mod profiles;
mod told;
mod upload;
mod url;
mod whole;
mod wire;

use blob::{RemoteBlob, RemoteStream, Windows};
use client::{Objects, Pin, Service};
use errors::{Failure, What};
pub use expand::{expand, walk};
use memory::Memory;
use told::Told;
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
        again: (target.clone(), url.to_string(), options.clone()),
        moved: Mutex::default(),
        has_bucket: AtomicBool::new(false),
        answered: AtomicBool::new(false),
        blind: AtomicBool::new(false),
        retries: options.retries.unwrap_or(8),
        memory,
        permits: tokio::sync::Semaphore::new(MAX_REQUESTS),
        opened: Mutex::default(),
        told: Told::default(),
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

/// Tries of a request that were made; and whether what was wrong was set right once.
#[derive(Default)]
struct Tries {
    made: u32,
    mended: bool,
}

/// What the first request for an object showed.
#[derive(Clone, Debug)]
struct Opened {
    pin: Pin,
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
    again: (url::Target, String, RemoteOptions),
    /// The region that it was followed to.
    moved: Mutex<Option<String>>,
    /// Whether the bucket is known to be there.
    has_bucket: AtomicBool,
    /// Whether the server has ever answered.
    answered: AtomicBool,
    /// What is not there is "forbidden" here: nothing may be listed.
    blind: AtomicBool,
    retries: u32,
    memory: Memory,
    permits: tokio::sync::Semaphore,
    opened: Mutex<HashMap<String, Opened>>,
    told: Told,
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

    /// Follows a bucket to its region, once; renews credentials that have expired.
    fn mend(&self, failure: &Failure) -> bool {
        match (failure.what, &failure.region) {
            (What::WrongRegion, Some(region)) if self.again.2.region.as_ref() != Some(region) => {
                let mut moved = self.moved.lock().unwrap_or_else(|e| e.into_inner());
                if let Some(there) = &*moved {
                    // Another request that was under way has led there already.
                    return there == region;
                }
                let (target, url, options) = &self.again;
                let options = RemoteOptions { region: Some(region.clone()), ..options.clone() };
                let Ok(service) = client::connect(target, url, &options) else { return false };
                *self.service.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(service);
                *moved = Some(region.clone());
                true
            }
            (What::Expired, _) => self.service().renew(),
            _ => false,
        }
    }

    /// Waits before the next try, or gives the failure back where another one is of no use.
    async fn pause(&self, failure: Failure, tries: &mut Tries) -> Result<(), Failure> {
        if failure.status.is_some() {
            self.answered.store(true, Ordering::Relaxed);
        }
        if !tries.mended && self.mend(&failure) {
            tries.mended = true;
            return Ok(());
        }
        let most = match failure.what {
            // A server that is known to be there comes back.
            What::Dns | What::Refused if self.answered.load(Ordering::Relaxed) => self.retries,
            _ => failure.tries(self.retries),
        };
        if tries.made >= most {
            return Err(failure);
        }
        let base = Duration::from_millis(50) * 2u32.pow(tries.made.min(7));
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.subsec_nanos());
        let jitter = base.mul_f64(f64::from(nanos % 1000) / 1000.0);
        let wait = (base + jitter)
            .max(failure.retry_after.unwrap_or_default().min(Duration::from_secs(120)));
        tries.made += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Tries until it works or is of no use.
    async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut tries = Tries::default();
        loop {
            match work().await {
                Ok(done) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(failure) => self.pause(failure, &mut tries).await?,
            }
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        runtime().map_err(|e| Failure::new(What::Other, e.message()))?.block_on(work)
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
                            What::Other,
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
                    return Err(Failure::new(What::Broken, "the body is short"));
                }
                Ok((got.pin, whole, Bytes::from(head)))
            };
            match self.retrying(look).await {
                Ok(found) => Ok(Some(found)),
                // An empty object has no first byte.
                Err(f) if f.what == What::BadRange => {
                    let pin = self.retrying(|| async { self.service().head(key).await }).await?;
                    match pin.len {
                        Some(0) | None => {
                            Ok(Some((Pin { len: Some(0), ..pin }, false, Bytes::new())))
                        }
                        Some(_) => Err(f),
                    }
                }
                Err(f) if f.what == What::Missing => Ok(None),
                Err(f) => Err(f),
            }
        })?;
        let Some((pin, whole, head)) = found else { return Ok(None) };
        let opened = Opened { len: pin.len.unwrap_or(0), pin, whole };
        self.told.check_listed(key, &opened.pin)?;
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
    fn there(&self, key: &str) -> Result<Option<Pin>> {
        self.run(async {
            match self.retrying(|| async { self.service().head(key).await }).await {
                Ok(pin) => Ok(Some(pin)),
                Err(f) if f.what == What::Missing => {
                    if self.has_bucket.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    // A HEAD has no body: whether the bucket is there, too, only a listing tells.
                    match self.page("", Some("/"), Some(1), None).await {
                        Err(f) if f.what == What::NoBucket => Err(f),
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
                Err(Failure::new(What::Other, "a web server is not object storage"))
            }
        }
    }
}

impl Backend for RemoteBackend {
    fn kind(&self, key: &str) -> Result<EntryKind> {
        match self.told.output(key) {
            Some(Listed::Absent) => return Ok(EntryKind::Missing),
            Some(Listed::Directory) => return Ok(EntryKind::Dir),
            None => {}
        }
        if self.directories().contains(key) {
            return Ok(EntryKind::Dir);
        }
        let kind = self.kind_anew(key)?;
        if kind == EntryKind::Dir {
            self.directories().insert(key.to_string());
        }
        Ok(kind)
    }

    fn exists(&self, key: &str) -> Result<bool> {
        if let Some(listed) = self.told.output(key) {
            return Ok(listed == Listed::Directory);
        }
        if !key.is_empty() && !key.ends_with('/') && self.there(key)?.is_some() {
            return Ok(true);
        }
        match self.is_prefix(key) {
            Err(f) if f.what == What::Denied => Ok(self.is_store(key)),
            other => other.map_err(|f| f.into_error(&self.bucket)),
        }
    }

    fn is_copied(&self, key: &str) -> bool {
        self.opened(key).is_ok_and(|o| o.is_some_and(|o| o.whole))
    }

    fn mark_of_read(&self, key: &str) -> Option<Mark> {
        let opened = self.opened.lock().unwrap_or_else(|e| e.into_inner()).get(key)?.clone();
        Some(Mark { below: String::new(), bytes: opened.len, etag: told::bare(opened.pin.etag) })
    }

    fn marks_of_written(&self, key: &str) -> Vec<Mark> {
        self.told.take_written(key)
    }

    fn is_unfinished(&self, key: &str) -> Result<bool> {
        let names = Backend::walk(self, key)?;
        Ok(directory::is_unfinished(names.iter().map(|(name, _)| name.as_str())))
    }

    fn each_below(&self, key: &str, each: &mut dyn FnMut(Mark) -> Result<()>) -> Result<()> {
        let prefix = match key.trim_end_matches('/') {
            "" => String::new(),
            k => format!("{k}/"),
        };
        self.each_listed(&prefix, &mut |listed| {
            let Some(below) = listed.key.strip_prefix(&prefix) else { return Ok(()) };
            let below = below.to_string();
            each(Mark { below, bytes: listed.len, etag: told::bare(listed.etag) })
        })
    }

    fn forget(&self, key: &str) {
        self.forget_key(key);
    }

    fn tell(&self, key: &str, listed: Option<Listed>) {
        self.told.tell(key, listed);
    }

    fn keep_marks(&self) {
        self.told.keep_marks();
    }

    fn expect(&self, key: &str, len: Option<u64>, etag: Option<&str>) {
        self.told.expect(key, len, etag);
    }

    fn list(&self, key: &str) -> Result<Vec<Entry>> {
        match key.trim_end_matches('/') {
            "" => self.level(""),
            k => self.level(&format!("{k}/")),
        }
    }

    fn blob(&self, key: &str) -> Result<Arc<dyn Blob>> {
        let missing = || Error::missing("no such object");
        let opened = self.opened(key)?.ok_or_else(missing)?;
        if opened.whole {
            let mut file = temporary::file()?;
            crate::storage::copy_to_temporary(&mut self.whole(key)?, &mut file)?;
            return local::file_blob(file);
        }
        Ok(self.remote_blob(key, opened)?)
    }

    fn stream(&self, key: &str) -> Result<Box<dyn Read + Send>> {
        let opened = self.opened(key)?.ok_or_else(|| Error::missing("no such object"))?;
        if opened.whole {
            return self.whole(key);
        }
        Ok(Box::new(RemoteStream::new(self.remote_blob(key, opened)?)))
    }

    fn create_file(&self, key: &str, existing: Existing) -> Result<Box<dyn Output>> {
        self.writable()?;
        upload::create_file(self.shared()?, key, existing)
    }

    fn overwrite(&self, key: &str) -> Result<Box<dyn Output>> {
        self.writable()?;
        upload::overwrite(self.shared()?, key)
    }

    fn create_dir(
        &self,
        key: &str,
        existing: Existing,
        markers: &[&str],
    ) -> Result<Box<dyn OutputDir>> {
        self.writable()?;
        directory::create_dir(self.shared()?, key, existing, markers)
    }

    fn walk(&self, key: &str) -> Result<Vec<(String, u64)>> {
        let prefix = match key.trim_end_matches('/') {
            "" => String::new(),
            k => format!("{k}/"),
        };
        let listed = RemoteBackend::walk(self, &prefix)?;
        Ok(listed
            .into_iter()
            .filter_map(|o| Some((o.key.strip_prefix(&prefix)?.to_string(), o.len)))
            .collect())
    }

    fn remove(&self, key: &str) -> Result<()> {
        use object_store::ObjectStoreExt;
        self.writable()?;
        let path = url::path(key)?;
        self.run(self.retrying(|| async {
            self.storage()?.store.delete(&path).await.map_err(|e| Failure::from_store(&e))
        }))?;
        self.forget(key);
        Ok(())
    }

    fn display(&self, key: &str) -> String {
        match &*self.service() {
            Service::Site(site) => site.display(key),
            Service::Hub(hub) => hub.display(key),
            Service::Objects(_) => format!("{}://{}/{key}", self.scheme.name(), self.bucket),
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
                Err(f) if !site && f.what == What::Denied => denied = Some(f),
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
                Err(f) if f.what == What::Denied => denied = Some(f),
                Err(f) => return Err(f.into_error(&self.bucket)),
            }
        }
        // Nothing can be listed: a store shows by the files that every store has.
        if self.is_store(key) {
            self.blind.store(!site, Ordering::Relaxed);
            return Ok(EntryKind::Dir);
        }
        match denied {
            Some(f) if !self.blind.load(Ordering::Relaxed) => Err(f.into_error(&self.bucket)),
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
