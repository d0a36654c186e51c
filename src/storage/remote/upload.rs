//! Writing: objects that appear when they are complete, in parts that grow with the object.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, ObjectStoreExt, PutPayload};
use tokio::task::{AbortHandle, JoinHandle};

use super::connection::RemoteBackend;
use super::errors::{Failure, FailureKind};
use super::memory::PartBuffer;
use super::retry::Tries;
use super::runtime::runtime;
use crate::error::{Error, Result, locked};
use crate::storage::Existing;
use crate::storage::cleanup::{self, Guard};
use crate::storage::{Backend, Listed, Output};

/// Requests of an undo, or of a commit, at the same time.
pub(super) const AT_A_TIME: usize = 16;

/// Parts double every so many, so that 10,000 of them hold more than 1.5 TB.
const PARTS_A_SIZE: usize = 1250;
/// What parts of one upload in flight may hold.
const FLIGHT_BYTES: usize = 40 << 20;
/// What an interrupted run waits for an upload to be taken back.
pub(super) const UNDO: Duration = Duration::from_secs(10);
/// And for an object that is just being sent to arrive.
const SETTLE: Duration = Duration::from_secs(3);

/// An upload in progress, as far as its undo must know.
#[derive(Default)]
pub(super) struct Begun {
    id: Option<MultipartId>,
    tasks: Vec<AbortHandle>,
    /// The object itself, sent in one piece.
    put: Option<AbortHandle>,
    /// Being asked for.
    beginning: bool,
    /// Taken back: nothing may begin any more.
    closed: bool,
}

impl Begun {
    /// Nothing more is sent.
    pub fn close(&mut self) {
        self.closed = true;
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
    /// All that was sent has become an object.
    pub fn forget_tasks(&mut self) {
        self.tasks.clear();
    }
}

/// Waits for an object on its way: deleted before it arrives, it would be there in the end.
pub(super) async fn settle(begun: &Mutex<Begun>) {
    let end = Instant::now() + SETTLE;
    let coming = || locked(begun).put.clone().filter(|put| !put.is_finished());
    while let Some(put) = coming() {
        if Instant::now() > end {
            put.abort();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn interrupted() -> Error {
    Error::failed("interrupted")
}

/// Takes an upload back: first its parts on the way, then what has arrived.
pub(super) async fn abort(backend: &RemoteBackend, path: &Path, begun: &Mutex<Begun>) {
    // An upload that is just being begun must be waited for, to be taken back as well.
    let end = Instant::now() + UNDO;
    let id = loop {
        {
            let mut b = locked(begun);
            b.close();
            if !b.beginning || Instant::now() > end {
                break b.id.take();
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let Some(id) = id else { return };
    for wait_ms in [0, 200, 1000] {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let Ok(storage) = backend.storage() else { return };
        match storage.parts.abort_multipart(path, &id).await.map_err(|e| Failure::from_store(&e)) {
            Err(f) if f.tries(1) > 0 => {}
            _ => break,
        }
    }
}

/// An upload whose parts have all arrived.
pub(super) struct Arrived {
    path: Path,
    id: MultipartId,
    parts: Vec<PartId>,
    len: u64,
    /// The ETag of what was there.
    before: Option<String>,
}

/// One object being written.
pub(super) struct Upload {
    backend: Arc<RemoteBackend>,
    key: String,
    pub path: Path,
    buffer: PartBuffer,
    coming: VecDeque<JoinHandle<Result<PartId, Failure>>>,
    parts: Vec<PartId>,
    asked: usize,
    len: u64,
    pub begun: Arc<Mutex<Begun>>,
    /// The ETag of what was there.
    before: Option<String>,
}

impl Upload {
    pub fn new(backend: Arc<RemoteBackend>, key: String, before: Option<String>) -> Result<Upload> {
        let path = super::url::path(&key)?;
        Ok(Upload {
            backend,
            key,
            path,
            buffer: PartBuffer::default(),
            coming: VecDeque::new(),
            parts: Vec::new(),
            asked: 0,
            len: 0,
            begun: Arc::default(),
            before,
        })
    }
    /// Names the output: the caller would name the input.
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
            let mut begun = locked(&self.begun);
            match &begun.id {
                Some(id) => return Ok(id.clone()),
                None if begun.closed => return Err(interrupted()),
                None => begun.beginning = true,
            }
        }
        let begin = || async {
            self.backend
                .storage()?
                .parts
                .create_multipart(&self.path)
                .await
                .map_err(|e| Failure::from_store(&e))
        };
        let made = runtime().map(|r| r.block_on(self.backend.retrying(begin)));
        let mut begun = locked(&self.begun);
        begun.beginning = false;
        let id = made?.map_err(|f| self.fail(f))?;
        begun.id = Some(id.clone());
        Ok(id)
    }
    /// Spawns a request that the undo can stop.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
        keep: impl FnOnce(&mut Begun, AbortHandle),
    ) -> Result<JoinHandle<Result<T, Failure>>> {
        let runtime = runtime()?;
        let mut begun = locked(&self.begun);
        if begun.closed {
            return Err(interrupted());
        }
        let task = runtime.spawn(work);
        keep(&mut begun, task.abort_handle());
        Ok(task)
    }
    fn send(&mut self) -> Result<()> {
        let id = self.begin()?;
        while !self.coming.is_empty() && (self.coming.len() + 2) * self.part_bytes() > FLIGHT_BYTES
        {
            self.take_front()?;
        }
        let room = loop {
            match self.backend.memory.reserve(self.buffer.len() as u64) {
                Some(room) => break Some(room),
                None if self.coming.is_empty() => break None,
                None => self.take_front()?,
            }
        };
        let alone = room.is_none();
        let bytes = std::mem::take(&mut self.buffer).into_bytes();
        let (backend, path, index) = (self.backend.clone(), self.path.clone(), self.asked);
        self.asked += 1;
        let part = async move {
            let _room = room;
            backend
                .retrying(|| async {
                    let payload = PutPayload::from_bytes(bytes.clone());
                    backend
                        .storage()?
                        .parts
                        .put_part(&path, &id, index, payload)
                        .await
                        .map_err(|e| Failure::from_store(&e))
                })
                .await
        };
        let task = self.spawn(part, |begun, task| begun.tasks.push(task))?;
        self.coming.push_back(task);
        // Where others hold all the memory, this part goes before the next one is filled.
        if alone { self.take_front() } else { Ok(()) }
    }
    fn part_bytes(&self) -> usize {
        self.backend.memory.upload_part << (self.asked / PARTS_A_SIZE).min(7)
    }
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let most = self.part_bytes();
            if self.buffer.len() >= most {
                self.send()?;
                continue;
            }
            let n = bytes.len().min(most - self.buffer.len());
            self.buffer.push(&bytes[..n], most);
            self.len += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }
    /// Waits for all parts.
    pub fn arrive(&mut self) -> Result<Arrived> {
        if self.buffer.len() > 0 || self.asked == 0 {
            self.send()?;
        }
        while !self.coming.is_empty() {
            self.take_front()?;
        }
        let id = self.begin()?;
        Ok(Arrived {
            path: self.path.clone(),
            id,
            parts: std::mem::take(&mut self.parts),
            len: self.len,
            before: self.before.clone(),
        })
    }
    /// The object appears.
    pub fn finish(&mut self) -> Result<()> {
        if self.asked == 0 {
            let bytes = std::mem::take(&mut self.buffer).into_bytes();
            let (backend, path) = (self.backend.clone(), self.path.clone());
            let task = self
                .spawn(async move { put(&backend, &path, bytes).await }, |begun, task| {
                    begun.put = Some(task)
                })?;
            let done = runtime()?.block_on(task).map_err(|_| interrupted())?;
            if done.as_ref().is_err_and(|f| f.tries(1) == 0) {
                // It was refused: there is nothing to take back.
                locked(&self.begun).put = None;
            }
            return done.map_err(|f| self.fail(f));
        }
        let arrived = self.arrive()?;
        runtime()?.block_on(complete(&self.backend, &arrived)).map_err(|f| self.fail(f))?;
        locked(&self.begun).id = None;
        Ok(())
    }
    /// What was known of the object before is out of date.
    pub fn forget(&self) {
        self.backend.forget(&self.key);
    }
    pub fn stop(&mut self) {
        for task in self.coming.drain(..) {
            task.abort();
        }
    }
}

async fn put(backend: &RemoteBackend, path: &Path, bytes: Bytes) -> Result<(), Failure> {
    let len = bytes.len() as u64;
    let put = || async {
        let payload = PutPayload::from_bytes(bytes.clone());
        backend.storage()?.store.put(path, payload).await.map_err(|e| Failure::from_store(&e))
    };
    let put = backend.retrying(put).await?;
    backend.record.mark_written(path.as_ref(), len, put.e_tag);
    Ok(())
}

/// Completes an upload. Where an answer may have been lost and there is no other one, the object
/// itself is looked at.
pub(super) async fn complete(backend: &RemoteBackend, up: &Arrived) -> Result<(), Failure> {
    let (mut tries, mut in_doubt) = (Tries::default(), false);
    loop {
        let completed =
            backend.storage()?.parts.complete_multipart(&up.path, &up.id, up.parts.clone()).await;
        let error = match completed {
            Ok(done) => {
                backend.record.mark_written(up.path.as_ref(), up.len, done.e_tag);
                return Ok(());
            }
            Err(error) => error,
        };
        let failure = Failure::from_store(&error);
        in_doubt |= failure.tries(1) > 0;
        let Err(failure) = backend.pause(failure, &mut tries).await else { continue };
        if !in_doubt {
            return Err(failure);
        }
        let Ok(there) =
            backend.retrying(|| async { backend.service().head(up.path.as_ref()).await }).await
        else {
            return Err(failure);
        };
        // The same bytes have the same ETag: then only the upload's end tells that it was
        // completed.
        let ours = there.etag.is_none()
            || there.etag != up.before
            || failure.what == FailureKind::NoUpload;
        if there.len != Some(up.len) || !ours {
            return Err(failure);
        }
        backend.record.mark_written(up.path.as_ref(), up.len, there.etag);
        return Ok(());
    }
}

pub(super) fn exists() -> Error {
    Error::exists("the output exists").hint("use --force to replace it, or --if-exists skip")
}

pub(super) fn supported(existing: Existing) -> Result<()> {
    match existing {
        Existing::Error | Existing::Replace => Ok(()),
        Existing::Merge { .. } | Existing::Append => {
            Err(Error::refused("a remote output cannot be merged into or appended to")
                .hint("write a new one, or change a local copy"))
        }
    }
}

/// A file: one object.
struct FileOutput {
    upload: Upload,
    existing: Existing,
    guard: Option<Guard>,
}

pub(super) fn create_file(
    backend: Arc<RemoteBackend>,
    key: &str,
    existing: Existing,
) -> Result<Box<dyn Output>> {
    supported(existing)?;
    if key.is_empty() || key.ends_with('/') {
        return Err(Error::usage("the URL of the output has no object key"));
    }
    super::url::path(key)?;
    let absent = backend.record.output(key) == Some(Listed::Absent);
    let before = if absent { None } else { backend.there(key)? };
    if before.is_some() && existing == Existing::Error {
        return Err(exists());
    }
    let fresh = before.is_none();
    begun(backend, key, existing, before.and_then(|p| p.etag), fresh)
}

/// See [`Backend::overwrite`].
pub(super) fn overwrite(backend: Arc<RemoteBackend>, key: &str) -> Result<Box<dyn Output>> {
    begun(backend, key, Existing::Replace, None, false)
}

/// `before`: the ETag of what is there; `fresh`: nothing is, so that an object is taken back.
fn begun(
    backend: Arc<RemoteBackend>,
    key: &str,
    existing: Existing,
    before: Option<String>,
    fresh: bool,
) -> Result<Box<dyn Output>> {
    let upload = Upload::new(backend.clone(), key.to_string(), before)?;
    let (path, begun) = (upload.path.clone(), upload.begun.clone());
    let guard = cleanup::register(move || {
        let undo = async {
            locked(&begun).close();
            settle(&begun).await;
            abort(&backend, &path, &begun).await;
            if fresh && locked(&begun).put.is_some() {
                let _ = delete(&backend, vec![path.clone()]).await;
            }
        };
        if let Ok(runtime) = runtime() {
            let _ = runtime.block_on(async { tokio::time::timeout(UNDO, undo).await });
        }
    });
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
        self.upload.backend.record.tell(&self.upload.key, None);
        if self.existing == Existing::Error
            && self.upload.backend.there(&self.upload.key)?.is_some()
        {
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

/// Deletes what can be deleted; reports the first failure.
pub(super) async fn delete(backend: &RemoteBackend, paths: Vec<Path>) -> Result<(), Failure> {
    let work: Vec<_> = paths
        .iter()
        .map(|path| {
            backend.retrying(move || async move {
                match backend
                    .storage()?
                    .store
                    .delete(path)
                    .await
                    .map_err(|e| Failure::from_store(&e))
                {
                    Err(f) if f.what == FailureKind::Missing => Ok(()),
                    other => other,
                }
            })
        })
        .collect();
    let done: Vec<Result<(), Failure>> =
        futures_util::stream::iter(work).buffer_unordered(AT_A_TIME).collect().await;
    done.into_iter().collect()
}
