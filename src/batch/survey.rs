//! What is below a destination, found by one listing: which outputs are there, and which of them
//! are those that a report knows.

use std::collections::HashMap;

use serde_json::Value;

use super::marks::Objects;
use super::shares::hash64;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::storage::{Listed, Location, Mark};

/// What names an output: its ending, and whether it may be a directory.
#[derive(Clone)]
pub(crate) struct Kind {
    /// With the dot.
    ending: String,
    directory: bool,
}

impl Kind {
    pub(crate) fn new(ending: &str, format: &dyn Format) -> Kind {
        Kind { ending: format!(".{ending}"), directory: format.spec().is_directory }
    }

    /// The output that the object at this path is, or is a part of: the paths of both.
    fn output<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        if self.directory {
            let slashes = path.match_indices('/').map(|(at, _)| at);
            let mut folders = slashes.map(|at| (&path[..at], &path[at + 1..]));
            if let Some(found) = folders.find(|(folder, _)| self.names(folder)) {
                return Some(found);
            }
        }
        self.names(path).then_some((path, ""))
    }

    fn names(&self, path: &str) -> bool {
        path.strip_suffix(&self.ending).is_some_and(|stem| !stem.is_empty() && !stem.ends_with('/'))
    }
}

/// Hands on every output below a destination; of local ones only the name is looked at.
///
/// # Errors
/// What cannot be listed; those of `each`.
pub(crate) fn each_output(
    at: &Location,
    kind: &Kind,
    each: &mut dyn FnMut(&str, &Objects) -> Result<()>,
) -> Result<()> {
    let Some((backend, key)) = at.as_remote() else {
        return match at.kind()? {
            crate::storage::EntryKind::Dir => each_local(at, "", kind, each),
            _ => Ok(()),
        };
    };
    // All objects of an output come one after the other. Without a marker it is not complete.
    let mut current: Option<(String, Objects)> = None;
    let mut each = |output: &str, objects: &Objects| match kind.directory && !objects.marked {
        true => Ok(()),
        false => each(output, objects),
    };
    backend.each_below(key, &mut |mark| {
        let Some((output, below)) = kind.output(&mark.below) else { return Ok(()) };
        if current.as_ref().is_none_or(|(known, _)| known != output)
            && let Some((output, objects)) =
                current.replace((output.to_string(), Objects::default()))
        {
            each(&output, &objects)?;
        }
        if let Some((_, objects)) = &mut current {
            objects.add(Mark { below: below.to_string(), ..mark.clone() });
        }
        Ok(())
    })?;
    current.map_or(Ok(()), |(output, objects)| each(&output, &objects))
}

fn each_local(
    at: &Location,
    below: &str,
    kind: &Kind,
    each: &mut dyn FnMut(&str, &Objects) -> Result<()>,
) -> Result<()> {
    for entry in at.list()? {
        let path = format!("{below}{}", entry.name);
        if entry.name.starts_with('.') {
            continue;
        }
        if entry.is_dir && !(kind.directory && kind.names(&path)) {
            each_local(&at.join(&entry.name), &format!("{path}/"), kind, each)?;
        } else if kind.names(&path) {
            each(&path, &Objects::default())?;
        }
    }
    Ok(())
}

/// What a request for a listing answers.
const OBJECTS_A_PAGE: u64 = 1000;

/// The outputs of a share that a listing of a remote destination found.
pub(crate) struct Survey {
    /// By the hash of its key, what an output is known by.
    found: HashMap<u64, (u64, bool)>,
    /// Whether outputs are directories.
    directories: bool,
}

impl Survey {
    /// Lists a remote destination, of `units` outputs. `wanted`: whether an output with this hash
    /// may be asked for. None where so much else is there that questions for each are fewer.
    ///
    /// # Errors
    /// What cannot be listed.
    pub(crate) fn of(
        at: &Location,
        kind: &Kind,
        units: u64,
        wanted: &dyn Fn(u64) -> bool,
    ) -> Result<Option<Survey>> {
        let (mut found, mut left) = (HashMap::new(), OBJECTS_A_PAGE.saturating_mul(units));
        let listed = each_output(at, kind, &mut |key, objects| {
            left = left.saturating_sub(objects.files);
            if left == 0 {
                return Err(Error::failed("too much is there"));
            }
            let hash = hash64(key);
            if wanted(hash) {
                found.insert(hash, known_by(&Value::Object(objects.keys())));
            }
            Ok(())
        });
        match listed {
            Err(_) if left == 0 => Ok(None),
            listed => listed.map(|()| Some(Survey { found, directories: kind.directory })),
        }
    }

    /// What the listing tells of an output; nothing of one object, which is looked at.
    pub(crate) fn listed(&self, key: &str) -> Option<Listed> {
        match self.found.get(&hash64(key)) {
            None => Some(Listed::Absent),
            Some(_) => self.directories.then_some(Listed::Directory),
        }
    }

    /// Whether the output is there, and the one that was marked.
    pub(crate) fn is_same(&self, key: &str, mark: &Value) -> bool {
        let Some(&found) = self.found.get(&hash64(key)) else { return false };
        let mut mark = mark.clone();
        // Sizes must do where the store lists no ETags.
        if let (Some(keys), (_, false)) = (mark.as_object_mut(), found) {
            keys.shift_remove("etag");
        }
        known_by(&mark) == found
    }
}

/// Of a million marks, 9 bytes each are held: a hash, and whether there is an ETag.
fn known_by(mark: &Value) -> (u64, bool) {
    (hash64(&mark.to_string()), mark.get("etag").is_some())
}
