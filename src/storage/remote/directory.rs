//! Writing directories: objects below a prefix; those that make it a store are written last.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::connection::RemoteBackend;
use super::errors::Failure;
use super::runtime::runtime;
use super::upload::{
    AT_A_TIME, Arrived, Begun, UNDO, Upload, abort, complete, delete, exists, interrupted, settle,
    supported,
};
use crate::error::{Error, Result, locked};
use crate::storage::Existing;
use crate::storage::cleanup::{self, Guard};
use crate::storage::{Backend, Listed, Output, OutputDir};

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
    /// The last files are being written.
    committing: bool,
}

/// A directory: objects below a prefix. Where it replaces another one, nothing of the old one
/// changes before the commit.
struct DirOutput {
    backend: Arc<RemoteBackend>,
    prefix: String,
    /// Objects that were there: key below the prefix → ETag.
    before: HashMap<String, Option<String>>,
    markers: Vec<String>,
    written: Arc<Mutex<Written>>,
    guard: Option<Guard>,
}

pub(super) fn create_dir(
    backend: Arc<RemoteBackend>,
    key: &str,
    existing: Existing,
    markers: &[&str],
) -> Result<Box<dyn OutputDir>> {
    supported(existing)?;
    let key = key.trim_end_matches('/');
    super::url::path(key)?;
    let prefix = super::url::prefix(key);
    let absent = backend.record.output(key) == Some(Listed::Absent);
    if !absent && !key.is_empty() && backend.there(key)?.is_some() {
        return Err(Error::exists(
            "there is an object of this name; a directory of objects cannot take its place",
        ));
    }
    let listed = backend.walk(&prefix)?;
    let before: HashMap<String, Option<String>> = listed
        .into_iter()
        .filter_map(|o| Some((o.key.strip_prefix(&prefix)?.to_string(), o.etag)))
        .filter(|(k, _)| !k.is_empty())
        .collect();
    let unfinished = is_unfinished(before.keys().map(String::as_str));
    if !before.is_empty() && !unfinished {
        if existing == Existing::Error {
            return Err(exists());
        }
        if !markers.iter().any(|m| before.contains_key(*m)) {
            return Err(Error::exists("there are objects below this prefix that are not of this format; they are not replaced")
                .hint("give another name, or end it with / to write below it"));
        }
    }
    let written: Arc<Mutex<Written>> = Arc::default();
    let (undo_backend, undo) = (backend.clone(), written.clone());
    let markers: Vec<String> = markers.iter().map(|m| m.to_string()).collect();
    let signs: Vec<String> = markers.iter().map(|m| format!("{prefix}{m}")).collect();
    let guard = cleanup::register(move || undo_dir(&undo_backend, &undo, &signs));
    Ok(Box::new(DirOutput { backend, prefix, before, markers, written, guard: Some(guard) }))
}

/// Whether these are objects of a store whose marker was never written: a run that was killed left
/// them. Nothing reads them, and nobody else makes objects of such names: the data files of .npk
/// and the chunks of Zarr version 3.
pub(super) fn is_unfinished<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut names = names.peekable();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_chunk = |name: &str| {
        let mut parts = name.rsplit('/').skip_while(|part| is_number(part));
        is_number(name.rsplit('/').next().unwrap_or_default()) && parts.next() == Some("c")
    };
    let is_data = |name: &str| name.starts_with("data_") && name.ends_with(".npkd");
    names.peek().is_some()
        && names.all(|name| match name.contains('/') {
            false => is_data(name) || name == "npk.json",
            true => is_chunk(name),
        })
}

/// Takes back what was written: all at the same time, for there may be thousands. What has become
/// part of a store that somebody else has completed meanwhile stays; `signs` show it.
fn undo_dir(backend: &RemoteBackend, written: &Mutex<Written>, signs: &[String]) {
    let (fresh, begun, ours) = {
        let mut w = locked(written);
        w.closed = true;
        (std::mem::take(&mut w.fresh), std::mem::take(&mut w.begun), w.committing)
    };
    let ours = ours || fresh.iter().any(|p| signs.iter().any(|sign| sign == p.as_ref()));
    for (_, begun) in &begun {
        locked(begun).close();
    }
    let work = async {
        let aborts: Vec<_> = begun
            .iter()
            .map(|(path, begun)| async {
                settle(begun).await;
                abort(backend, path, begun).await;
            })
            .collect();
        futures_util::stream::iter(aborts).buffer_unordered(AT_A_TIME).collect::<()>().await;
        for sign in signs.iter().filter(|_| !ours && !fresh.is_empty()) {
            if backend.service().head(sign).await.is_ok() {
                return Ok(());
            }
        }
        delete(backend, fresh).await
    };
    if let Ok(runtime) = runtime() {
        let _ = runtime.block_on(async { tokio::time::timeout(2 * UNDO, work).await });
    }
}

/// A file of a directory.
struct DirFile {
    upload: Upload,
    written: Arc<Mutex<Written>>,
    replaces: bool,
}

/// What the undo must know, as long as there is none under way.
fn open(written: &Mutex<Written>) -> Result<MutexGuard<'_, Written>> {
    let written = locked(written);
    if written.closed { Err(interrupted()) } else { Ok(written) }
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
        if self.replaces {
            let arrived = self.upload.arrive()?;
            locked(&self.written).arrived.push(arrived);
        } else {
            open(&self.written)?.fresh.push(self.upload.path.clone());
            self.upload.finish()?;
            self.upload.forget();
            let mut written = locked(&self.written);
            written.begun.retain(|(_, b)| !Arc::ptr_eq(b, &self.upload.begun));
        }
        locked(&self.upload.begun).forget_tasks();
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

    /// Whether an old object was part of the store that is replaced. Others are somebody else's,
    /// other stores below the prefix above all.
    fn was_part(&self, name: &str, keys: &[String]) -> bool {
        let is_marker = |n: &str| self.markers.iter().any(|m| m == n);
        let ending = |n: &str| n.rsplit_once('.').map(|(_, e)| e.to_string());
        // A format with several markers nests: they stand on every level.
        let nests = self.markers.len() > 1;
        match name.split_once('/') {
            None if is_marker(name) => true,
            // Chunks and attributes of an array that is the root.
            None if nests => {
                name.starts_with(".z")
                    || name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                    || name == "c"
            }
            None => ending(name).is_some_and(|e| {
                e != "json" && keys.iter().any(|k| ending(k).as_deref() == Some(&e))
            }),
            Some((first, _)) if nests => {
                self.markers.iter().any(|m| self.before.contains_key(&format!("{first}/{m}")))
                    || keys.iter().any(|k| k.split_once('/').is_some_and(|(f, _)| f == first))
            }
            Some(_) => false,
        }
    }
}

impl OutputDir for DirOutput {
    fn create(&self, relative: &str) -> Result<Box<dyn Output>> {
        let key = format!("{}{relative}", self.prefix);
        let before = self.before.get(relative).cloned().flatten();
        let upload = Upload::new(self.backend.clone(), key, before)?;
        let mut written = open(&self.written)?;
        written.keys.push(relative.to_string());
        written.begun.push((upload.path.clone(), upload.begun.clone()));
        drop(written);
        Ok(Box::new(DirFile {
            upload,
            written: self.written.clone(),
            replaces: !self.before.is_empty(),
        }))
    }

    fn commit(mut self: Box<Self>, last: &[(&str, &[u8])]) -> Result<()> {
        self.backend.record.tell(self.prefix.trim_end_matches('/'), None);
        let (arrived, mut keys) = {
            let mut w = open(&self.written)?;
            (std::mem::take(&mut w.arrived), w.keys.clone())
        };
        let work: Vec<_> = arrived.iter().map(|a| complete(&self.backend, a)).collect();
        runtime()?
            .block_on(
                futures_util::stream::iter(work).buffer_unordered(AT_A_TIME).try_collect::<()>(),
            )
            .map_err(|f| self.fail(f))?;
        open(&self.written)?.committing = true;
        for (name, bytes) in last {
            let mut upload =
                Upload::new(self.backend.clone(), format!("{}{name}", self.prefix), None)?;
            keys.push(name.to_string());
            {
                let mut written = open(&self.written)?;
                written.begun.push((upload.path.clone(), upload.begun.clone()));
                if self.before.is_empty() {
                    written.fresh.push(upload.path.clone());
                }
            }
            upload.push(bytes)?;
            upload.finish()?;
            upload.forget();
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
        runtime()?.block_on(delete(&self.backend, stale)).map_err(|f| self.fail(f))
    }
}
