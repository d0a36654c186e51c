//! By what a source or an output is known again: its size, its ETag, its last change.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::shares::hash64;
use crate::error::Result;
use crate::storage::walk::{Trail, Visited};
use crate::storage::{EntryKind, Location, Mark, STORE_MARKERS};

/// What tells versions of a source apart. Of a remote one that was just read nothing is asked.
///
/// # Errors
/// What cannot be looked at.
pub(crate) fn of_source(at: &Location) -> Result<Map<String, Value>> {
    if let Some((backend, key)) = at.as_remote() {
        // One that was not read, or long ago, is looked at again.
        let mark = match backend.mark_of_read(key) {
            None if at.kind()? != EntryKind::Missing => backend.mark_of_read(key),
            mark => mark,
        };
        return Ok(mark.map_or_else(Map::new, |m| Objects::of([m]).keys()));
    }
    let mut sum = Sum::default();
    sum.add(at)?;
    let mut keys = sum.keys();
    if let Some(modified) = sum.modified.and_then(|m| m.duration_since(SystemTime::UNIX_EPOCH).ok())
    {
        keys.insert("modified_ns".into(), json!(modified.as_nanos() as u64));
    }
    Ok(keys)
}

/// What an output is compared with later.
///
/// # Errors
/// What cannot be looked at.
pub(crate) fn of_output(at: &Location) -> Result<Option<Map<String, Value>>> {
    if let Some((backend, key)) = at.as_remote() {
        let mut marks = backend.marks_of_written(key);
        // It was there: it is looked at, or listed.
        if marks.is_empty() {
            match at.kind()? {
                EntryKind::Dir => backend.each_below(key, &mut |mark| {
                    marks.push(mark);
                    Ok(())
                })?,
                _ => marks.extend(backend.mark_of_read(key)),
            }
        }
        return Ok((!marks.is_empty()).then(|| Objects::of(marks).keys()));
    }
    let mut sum = Sum::default();
    sum.add(at)?;
    Ok(Some(sum.keys()))
}

/// Whether an output is there, and the one that was marked.
///
/// # Errors
/// What cannot be looked at.
pub(crate) fn is_same_output(at: &Location, mark: &Value) -> Result<bool> {
    if at.is_remote() || at.kind()? == EntryKind::Missing {
        return Ok(false);
    }
    Ok(of_output(at)?.is_some_and(|found| mark.as_object() == Some(&found)))
}

/// The objects of a remote source or output together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// Of one object; of several, a sum of what tells each of them apart.
    etag: Option<String>,
    sum: u64,
    /// Whether one of them makes the others a store.
    pub(crate) marked: bool,
    /// Whether one came without an ETag: not every store lists them.
    untagged: bool,
}

impl Objects {
    fn of(marks: impl IntoIterator<Item = Mark>) -> Objects {
        let mut objects = Objects::default();
        marks.into_iter().for_each(|mark| objects.add(mark));
        objects
    }
    /// One more.
    pub(crate) fn add(&mut self, mark: Mark) {
        self.bytes += mark.bytes;
        self.files += 1;
        self.untagged |= mark.etag.is_none();
        self.marked |= mark.below.is_empty() || STORE_MARKERS.contains(&mark.below.as_str());
        let tag = mark.etag.as_deref().unwrap_or_default();
        self.sum = self.sum.wrapping_add(hash64(&format!("{}\n{tag}", mark.below)));
        let one = mark.below.is_empty();
        let sum = || Some(format!("{:016x}", self.sum)).filter(|_| !self.untagged);
        self.etag = if one { mark.etag } else { sum() };
    }
    pub(crate) fn keys(&self) -> Map<String, Value> {
        keys(self.bytes, self.files, self.etag.as_deref())
    }
}

fn keys(bytes: u64, files: u64, etag: Option<&str>) -> Map<String, Value> {
    let mut keys = Map::new();
    keys.insert("bytes".into(), json!(bytes));
    if files > 1 {
        keys.insert("files".into(), json!(files));
    }
    if let Some(etag) = etag {
        keys.insert("etag".into(), json!(etag));
    }
    keys
}

/// The files of a local output or source together.
#[derive(Default)]
struct Sum {
    bytes: u64,
    files: u64,
    modified: Option<SystemTime>,
}

impl Sum {
    fn add(&mut self, at: &Location) -> Result<()> {
        match at.kind()? {
            EntryKind::File { len, modified } => {
                self.bytes += len;
                self.files += 1;
                self.modified = self.modified.max(modified);
                Ok(())
            }
            EntryKind::Dir => self.folder(at, &mut Visited::default(), &Trail::default()),
            EntryKind::Stream | EntryKind::Missing => Ok(()),
        }
    }
    fn folder(&mut self, at: &Location, visited: &mut Visited, above: &Trail) -> Result<()> {
        let Some(trail) = visited.enter(above, at)? else { return Ok(()) };
        for entry in at.list()? {
            let child = at.join(&entry.name);
            match entry.is_dir {
                true => self.folder(&child, visited, &trail)?,
                false => self.add(&child)?,
            }
        }
        Ok(())
    }
    fn keys(&self) -> Map<String, Value> {
        keys(self.bytes, self.files, None)
    }
}
