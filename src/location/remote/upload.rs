//! Writing: objects that appear when they are complete, in parts that grow with the object.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, ObjectStoreExt, PutPayload};
use tokio::task::{AbortHandle, JoinHandle};

use super::client::Objects;
use super::errors::{Failure, What};
use super::{RemoteBackend, runtime};
use crate::error::{Error, Result};
use crate::format::Existing;
use crate::location::cleanup::{self, Guard};
use crate::location::{Backend, Output, OutputDir};

/// The first parts; they double every [`PARTS_A_SIZE`], so that 10,000 parts hold more than 2 TB.
const PART: usize = 8 << 20;
const PARTS_A_SIZE: usize = 1250;
/// What parts in flight may hold.
const FLIGHT_BYTES: usize = 40 << 20;
/// What an interrupted run waits for its uploads to be taken back.
const UNDO: Duration = Duration::from_secs(10);

fn part_bytes(index: usize) -> usize {
    PART << (index / PARTS_A_SIZE).min(7)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// An upload that has begun, as far as its undo must know.
#[derive(Default)]
struct Begun {
    id: Option<MultipartId>,
    tasks: Vec<AbortHandle>,
    /// Being asked for.
    beginning: bool,
    /// Taken back: nothing may begin any more.
    closed: bool,
}

fn interrupted() -> Error {
    Error::failed("interrupted")
}

/// Takes an upload back: first its parts on the way, then what has arrived.
fn abort(objects: &Objects, path: &Path, begun: &Mutex<Begun>) {
    // An upload that is just being begun must be waited for, to be taken back as well.
    let end = Instant::now() + UNDO;
    let (id, tasks) = loop {
        let mut b = lock(begun);
        b.closed = true;
        if !b.beginning || Instant::now() > end {
            break (b.id.take(), std::mem::take(&mut b.tasks));
        }
        drop(b);
        std::thread::sleep(Duration::from_millis(5));
    };
    for task in tasks {
        task.abort();
    }
    let (Some(id), Ok(runtime)) = (id, runtime()) else { return };
    let work = async {
        for wait_ms in [0, 200, 1000] {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            match objects.parts.abort_multipart(path, &id).await.map_err(|e| Failure::from_store(&e)) {
                Err(f) if f.tries(1) > 0 => {}
                _ => break,
            }
        }
    };
    let _ = runtime.block_on(async { tokio::time::timeout(UNDO, work).await });
}

/// An upload whose parts have all arrived.
struct Arrived {
    path: Path,
    id: MultipartId,
    parts: Vec<PartId>,
    len: u64,
    before: Option<String>,
}

/// One object being written.
struct Upload {
    backend: Arc<RemoteBackend>,
    objects: Objects,
    key: String,
    path: Path,
    buffer: Vec<u8>,
    coming: VecDeque<JoinHandle<Result<PartId, Failure>>>,
    parts: Vec<PartId>,
    asked: usize,
    len: u64,
    begun: Arc<Mutex<Begun>>,
    /// The ETag of what was there.
    before: Option<String>,
}

impl Upload {
    fn new(backend: Arc<RemoteBackend>, objects: Objects, key: String, before: Option<String>) -> Result<Upload> {
        let path = super::url::path(&key)?;
        Ok(Upload {
            backend,
            objects,
            key,
            path,
            buffer: Vec::new(),
            coming: VecDeque::new(),
            parts: Vec::new(),
            asked: 0,
            len: 0,
            begun: Arc::default(),
            before,
        })
    }
    /// Names the output: whoever moves the bytes would name the input.
    fn fail(&self, failure: Failure) -> Error {
        failure.into_error(&self.backend.bucket).file(self.backend.display(&self.key))
    }
    fn take_front(&mut self) -> Result<()> {
        let Some(front) = self.coming.pop_front() else { return Ok(()) };
        let part = runtime()?.block_on(front).map_err(|_| interrupted())?;
        self.parts.push(part.map_err(|f| self.fail(f))?);
        Ok(())
    }
    fn begin(&mut self) -> Result<MultipartId> {
        {
            let mut begun = lock(&self.begun);
            match &begun.id {
                Some(id) => return Ok(id.clone()),
                None if begun.closed => return Err(interrupted()),
                None => begun.beginning = true,
            }
        }
        let (objects, path) = (self.objects.clone(), self.path.clone());
        let made = runtime().map(|r| {
            r.block_on(self.backend.retrying(|| async { objects.parts.create_multipart(&path).await.map_err(|e| Failure::from_store(&e)) }))
        });
        let mut begun = lock(&self.begun);
        begun.beginning = false;
        let id = made?.map_err(|f| self.fail(f))?;
        begun.id = Some(id.clone());
        Ok(id)
    }
    /// Spawns a request that the undo can stop.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<JoinHandle<Result<T, Failure>>> {
        let runtime = runtime()?;
        let mut begun = lock(&self.begun);
        if begun.closed {
            return Err(interrupted());
        }
        let task = runtime.spawn(work);
        begun.tasks.push(task.abort_handle());
        Ok(task)
    }
    fn send(&mut self) -> Result<()> {
        let id = self.begin()?;
        while !self.coming.is_empty() && (self.coming.len() + 2) * part_bytes(self.asked) > FLIGHT_BYTES {
            self.take_front()?;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let (backend, objects, path, index) = (self.backend.clone(), self.objects.clone(), self.path.clone(), self.asked);
        self.asked += 1;
        let task = self.spawn(async move {
            backend
                .retrying(|| async {
                    let payload = PutPayload::from_bytes(bytes.clone());
                    objects.parts.put_part(&path, &id, index, payload).await.map_err(|e| Failure::from_store(&e))
                })
                .await
        })?;
        self.coming.push_back(task);
        Ok(())
    }
    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let most = part_bytes(self.asked);
            if self.buffer.len() >= most {
                self.send()?;
                continue;
            }
            let n = bytes.len().min(most - self.buffer.len());
            if self.buffer.capacity() - self.buffer.len() < n {
                // Small objects stay small; a part has its size at once.
                let want = if self.asked > 0 || self.buffer.len() + n > most / 4 { most } else { (self.buffer.len() + n) * 2 };
                self.buffer.reserve_exact(want.min(most) - self.buffer.len());
            }
            self.buffer.extend_from_slice(&bytes[..n]);
            self.len += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }
    /// Waits for all parts.
    fn arrive(&mut self) -> Result<Arrived> {
        if !self.buffer.is_empty() || self.asked == 0 {
            self.send()?;
        }
        while !self.coming.is_empty() {
            self.take_front()?;
        }
        let id = self.begin()?;
        Ok(Arrived { path: self.path.clone(), id, parts: std::mem::take(&mut self.parts), len: self.len, before: self.before.clone() })
    }
    /// The object appears.
    fn finish(&mut self) -> Result<()> {
        if self.asked == 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            let (backend, objects, path) = (self.backend.clone(), self.objects.clone(), self.path.clone());
            let task = self.spawn(async move { put(&backend, &objects, &path, bytes).await })?;
            return runtime()?.block_on(task).map_err(|_| interrupted())?.map_err(|f| self.fail(f));
        }
        let arrived = self.arrive()?;
        runtime()?.block_on(complete(&self.backend, &self.objects, &arrived)).map_err(|f| self.fail(f))?;
        lock(&self.begun).id = None;
        Ok(())
    }
    fn forget(&self) {
        self.backend.forget(&self.key);
    }
    fn stop(&mut self) {
        for task in self.coming.drain(..) {
            task.abort();
        }
    }
}

async fn put(backend: &RemoteBackend, objects: &Objects, path: &Path, bytes: Bytes) -> Result<(), Failure> {
    let put =
        || async { objects.store.put(path, PutPayload::from_bytes(bytes.clone())).await.map(|_| ()).map_err(|e| Failure::from_store(&e)) };
    backend.retrying(put).await
}

/// Completes an upload. An answer that was lost is looked up: the upload is gone and the object is there.
async fn complete(backend: &RemoteBackend, objects: &Objects, up: &Arrived) -> Result<(), Failure> {
    let (mut tries, mut in_doubt) = (0, false);
    loop {
        let Err(error) = objects.parts.complete_multipart(&up.path, &up.id, up.parts.clone()).await else { return Ok(()) };
        let failure = Failure::from_store(&error);
        // Servers differ in how they say that they do not know the upload.
        if in_doubt && failure.tries(1) == 0 {
            let there = backend.retrying(|| async { backend.service().head(up.path.as_ref()).await }).await?;
            if there.len == Some(up.len) && (there.etag.is_none() || there.etag != up.before) {
                return Ok(());
            }
            return Err(failure);
        }
        in_doubt |= failure.tries(1) > 0;
        backend.pause(failure, &mut tries).await?;
    }
}

fn exists() -> Error {
    Error::exists("the output exists").hint("use --force to replace it, or --if-exists skip")
}

fn supported(existing: Existing) -> Result<()> {
    match existing {
        Existing::Error | Existing::Replace => Ok(()),
        Existing::Merge { .. } | Existing::Append => {
            Err(Error::refused("a remote output cannot be merged into or appended to").hint("write a new one, or work on a local copy"))
        }
    }
}

/// A file: one object.
struct FileOutput {
    upload: Upload,
    existing: Existing,
    guard: Option<Guard>,
}

pub(super) fn create_file(backend: Arc<RemoteBackend>, objects: Objects, key: &str, existing: Existing) -> Result<Box<dyn Output>> {
    supported(existing)?;
    if key.is_empty() || key.ends_with('/') {
        return Err(Error::usage("the URL of the output names no object"));
    }
    super::url::path(key)?;
    let before = backend.there(key)?;
    if before.is_some() && existing == Existing::Error {
        return Err(exists());
    }
    let upload = Upload::new(backend, objects.clone(), key.to_string(), before.and_then(|p| p.etag))?;
    let (path, begun) = (upload.path.clone(), upload.begun.clone());
    let guard = cleanup::register(move || abort(&objects, &path, &begun));
    Ok(Box::new(FileOutput { upload, existing, guard: Some(guard) }))
}

impl Write for FileOutput {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.upload.push(buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for FileOutput {
    fn commit(mut self: Box<Self>) -> Result<()> {
        if self.existing == Existing::Error && self.upload.backend.there(&self.upload.key)?.is_some() {
            return Err(exists());
        }
        self.upload.finish()?;
        self.upload.forget();
        match self.guard.take() {
            Some(guard) => guard.commit(|| Ok(())),
            None => Ok(()),
        }
    }
}

impl Drop for FileOutput {
    fn drop(&mut self) {
        self.upload.stop();
    }
}

/// What a directory's undo must know.
#[derive(Default)]
struct Written {
    /// Objects that are there already; invisible to readers as long as the last files are missing.
    fresh: Vec<Path>,
    /// Uploads on their way.
    begun: Vec<(Path, Arc<Mutex<Begun>>)>,
    /// Uploads that wait for the commit.
    arrived: Vec<Arrived>,
    /// Every key of the new directory.
    keys: Vec<String>,
    closed: bool,
}

/// A directory: objects below a prefix. Where it replaces another one, nothing of the old one changes before the commit.
struct DirOutput {
    backend: Arc<RemoteBackend>,
    objects: Objects,
    prefix: String,
    /// Objects that were there: key below the prefix → ETag.
    before: HashMap<String, Option<String>>,
    markers: Vec<String>,
    written: Arc<Mutex<Written>>,
    guard: Option<Guard>,
}

pub(super) fn create_dir(
    backend: Arc<RemoteBackend>,
    objects: Objects,
    key: &str,
    existing: Existing,
    markers: &[&str],
) -> Result<Box<dyn OutputDir>> {
    supported(existing)?;
    let key = key.trim_end_matches('/');
    super::url::path(key)?;
    let prefix = if key.is_empty() { String::new() } else { format!("{key}/") };
    if !key.is_empty() && backend.there(key)?.is_some() {
        return Err(Error::exists("there is an object of this name; a directory of objects cannot take its place"));
    }
    let listed = backend.walk(&prefix)?;
    let before: HashMap<String, Option<String>> = listed
        .into_iter()
        .filter_map(|o| Some((o.key.strip_prefix(&prefix)?.to_string(), o.etag)))
        .filter(|(k, _)| !k.is_empty())
        .collect();
    if !before.is_empty() {
        if existing == Existing::Error {
            return Err(exists());
        }
        if !markers.iter().any(|m| before.contains_key(*m)) {
            return Err(Error::exists("there are objects below this prefix that are not of this format; they are not replaced")
                .hint("give another name, or end it with / to write below it"));
        }
    }
    let written: Arc<Mutex<Written>> = Arc::default();
    let (undo_backend, undo_objects, undo) = (backend.clone(), objects.clone(), written.clone());
    let guard = cleanup::register(move || undo_dir(&undo_backend, &undo_objects, &undo));
    let markers = markers.iter().map(|m| m.to_string()).collect();
    Ok(Box::new(DirOutput { backend, objects, prefix, before, markers, written, guard: Some(guard) }))
}

fn undo_dir(backend: &RemoteBackend, objects: &Objects, written: &Mutex<Written>) {
    let (fresh, begun) = {
        let mut w = lock(written);
        w.closed = true;
        (std::mem::take(&mut w.fresh), std::mem::take(&mut w.begun))
    };
    for (path, begun) in begun {
        abort(objects, &path, &begun);
    }
    if let Ok(runtime) = runtime() {
        let _ = runtime.block_on(async { tokio::time::timeout(UNDO, delete(backend, objects, fresh)).await });
    }
}

async fn delete(backend: &RemoteBackend, objects: &Objects, paths: Vec<Path>) -> Result<(), Failure> {
    let work: Vec<_> = paths
        .iter()
        .map(|path| {
            backend.retrying(move || async move {
                match objects.store.delete(path).await.map_err(|e| Failure::from_store(&e)) {
                    Err(f) if f.what == What::Missing => Ok(()),
                    other => other,
                }
            })
        })
        .collect();
    futures_util::stream::iter(work).buffer_unordered(8).try_collect::<()>().await
}

/// A file of a directory.
struct DirFile {
    upload: Upload,
    written: Arc<Mutex<Written>>,
    replaces: bool,
}

impl Write for DirFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.upload.push(buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for DirFile {
    fn commit(mut self: Box<Self>) -> Result<()> {
        if lock(&self.written).closed {
            return Err(interrupted());
        }
        if self.replaces {
            let arrived = self.upload.arrive()?;
            lock(&self.written).arrived.push(arrived);
        } else {
            lock(&self.written).fresh.push(self.upload.path.clone());
            self.upload.finish()?;
            self.upload.forget();
            let mut written = lock(&self.written);
            written.begun.retain(|(_, b)| !Arc::ptr_eq(b, &self.upload.begun));
        }
        lock(&self.upload.begun).tasks.clear();
        Ok(())
    }
}

impl Drop for DirFile {
    fn drop(&mut self) {
        self.upload.stop();
    }
}

impl DirOutput {
    fn fail(&self, failure: Failure) -> Error {
        failure.into_error(&self.backend.bucket).file(self.backend.display(&self.prefix))
    }

    /// Whether an old object was part of the directory that is replaced: files of the endings that are written now, the
    /// markers, and all that lies in subdirectories that hold a marker. Others are somebody else's.
    fn was_part(&self, name: &str, keys: &[String]) -> bool {
        let file = name.rsplit('/').next().unwrap_or(name);
        if self.markers.iter().any(|m| m == name || m == file) {
            return true;
        }
        let ending = |n: &str| n.rsplit('/').next().and_then(|f| f.rsplit_once('.')).map(|(_, e)| e.to_string());
        if let Some(e) = ending(name).filter(|e| e != "json")
            && keys.iter().any(|k| ending(k).as_deref() == Some(&e))
        {
            return true;
        }
        let mut directory = name;
        while let Some((parent, _)) = directory.rsplit_once('/') {
            if self.markers.iter().any(|m| self.before.contains_key(&format!("{parent}/{m}"))) {
                return true;
            }
            directory = parent;
        }
        // A single array: its chunks lie below the prefix itself.
        matches!(name.split_once('/'), Some((first, _)) if keys.iter().any(|k| k.split_once('/').is_some_and(|(f, _)| f == first)))
    }
}

impl OutputDir for DirOutput {
    fn create(&self, relative: &str) -> Result<Box<dyn Output>> {
        let key = format!("{}{relative}", self.prefix);
        let before = self.before.get(relative).cloned().flatten();
        let upload = Upload::new(self.backend.clone(), self.objects.clone(), key, before)?;
        let mut written = lock(&self.written);
        written.keys.push(relative.to_string());
        written.begun.push((upload.path.clone(), upload.begun.clone()));
        drop(written);
        Ok(Box::new(DirFile { upload, written: self.written.clone(), replaces: !self.before.is_empty() }))
    }

    fn commit(mut self: Box<Self>, last: &[(&str, &[u8])]) -> Result<()> {
        let (arrived, mut keys) = {
            let mut w = lock(&self.written);
            (std::mem::take(&mut w.arrived), w.keys.clone())
        };
        let work: Vec<_> = arrived.iter().map(|a| complete(&self.backend, &self.objects, a)).collect();
        runtime()?.block_on(futures_util::stream::iter(work).buffer_unordered(8).try_collect::<()>()).map_err(|f| self.fail(f))?;
        for (name, bytes) in last {
            let key = format!("{}{name}", self.prefix);
            let path = super::url::path(&key)?;
            keys.push(name.to_string());
            if self.before.is_empty() {
                lock(&self.written).fresh.push(path.clone());
            }
            let work = put(&self.backend, &self.objects, &path, Bytes::copy_from_slice(bytes));
            runtime()?.block_on(work).map_err(|f| self.fail(f))?;
            self.backend.forget(&key);
        }
        if let Some(guard) = self.guard.take() {
            guard.commit(|| Ok::<(), Error>(()))?;
        }
        let stale: Vec<Path> = self
            .before
            .keys()
            .filter(|name| !keys.contains(name) && self.was_part(name, &keys))
            .map(|name| super::url::path(&format!("{}{name}", self.prefix)))
            .collect::<Result<_>>()?;
        for key in keys {
            self.backend.forget(&format!("{}{key}", self.prefix));
        }
        runtime()?.block_on(delete(&self.backend, &self.objects, stale)).map_err(|f| self.fail(f))
    }
}
