//! A bucket, a container or a web server: how it is reached, and what is known of it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};

use super::client::{self, Objects, Service};
use super::errors::{Failure, FailureKind};
use super::memory::Memory;
use super::object::ObjectVersion;
use super::object_record::ObjectRecord;
use super::options::RemoteOptions;
use super::runtime::runtime;
use super::url;
use super::windows::Windows;
use crate::error::{Error, Result, locked};

/// GETs at the same time.
const MAX_REQUESTS: usize = 64;

/// What the first request for an object showed.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) pin: ObjectVersion,
    pub(super) len: u64,
    /// A server without ranges: the object is fetched whole.
    pub(super) whole: bool,
}

/// One bucket, container or server.
pub struct RemoteBackend {
    pub(super) me: Weak<RemoteBackend>,
    pub(super) scheme: url::Scheme,
    pub(super) bucket: String,
    pub(super) service: RwLock<Arc<Service>>,
    /// To connect again, where the bucket turns out to be in another region.
    pub(super) connect_args: (url::Target, String, RemoteOptions),
    /// The region that it was followed to.
    pub(super) moved: Mutex<Option<String>>,
    /// Whether the bucket is known to be there.
    pub(super) has_bucket: AtomicBool,
    /// Whether the server has ever answered.
    pub(super) answered: AtomicBool,
    /// What is not there is "forbidden" here: nothing may be listed.
    pub(super) listing_denied: AtomicBool,
    pub(super) retries: u32,
    pub(super) memory: Memory,
    pub(super) permits: tokio::sync::Semaphore,
    pub(super) opened: Mutex<HashMap<String, Opened>>,
    pub(super) record: ObjectRecord,
    /// Keys that are known to be directories.
    pub(super) directories: Mutex<HashSet<String>>,
    pub(super) windows: Mutex<Windows>,
    /// Bytes a second that one connection brings, as far as is known.
    pub(super) rate: AtomicU64,
}

impl RemoteBackend {
    /// Connects. Nothing is asked of the network yet.
    pub(super) fn connect(
        target: &url::Target,
        url: &str,
        options: &RemoteOptions,
    ) -> Result<Arc<RemoteBackend>> {
        let service = client::connect(target, url, options)?;
        let memory = Memory::of(options.memory_bytes);
        Ok(Arc::new_cyclic(|me| RemoteBackend {
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
        }))
    }

    pub(super) fn shared(&self) -> Result<Arc<RemoteBackend>> {
        self.me.upgrade().ok_or_else(|| Error::failed("the connection is closed"))
    }
    pub(super) fn windows(&self) -> MutexGuard<'_, Windows> {
        locked(&self.windows)
    }
    pub(super) async fn permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }
    pub(super) fn directories(&self) -> MutexGuard<'_, HashSet<String>> {
        locked(&self.directories)
    }
    pub(super) fn forget_key(&self, key: &str) {
        self.directories().remove(key);
        locked(&self.opened).remove(key);
        self.windows().forget(key);
    }

    pub(super) fn service(&self) -> Arc<Service> {
        self.service.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        runtime().map_err(|e| Failure::new(FailureKind::Other, e.message()))?.block_on(work)
    }
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T> {
        self.wait(work).map_err(|f| f.into_error(&self.bucket))
    }

    /// Web servers cannot be listed.
    pub(super) fn listable(&self) -> Result<()> {
        match self.scheme {
            url::Scheme::Http => Err(Error::refused("http:// and https:// cannot be listed")),
            _ => Ok(()),
        }
    }
    /// Neither web servers nor hubs can be written to.
    pub(super) fn writable(&self) -> Result<()> {
        match self.scheme {
            url::Scheme::Http => Err(Error::refused("http:// and https:// cannot be written to")),
            url::Scheme::Hf => Err(Error::refused("hf:// cannot be written to")),
            _ => Ok(()),
        }
    }

    /// The storage as it is reached now: a bucket may turn out to be in another region, so each try
    /// asks anew.
    pub(super) fn storage(&self) -> Result<Objects, Failure> {
        match &*self.service() {
            Service::Objects(o) => Ok(o.clone()),
            Service::Site(_) | Service::Hub(_) => {
                Err(Failure::new(FailureKind::Other, "a web server is not object storage"))
            }
        }
    }
}
