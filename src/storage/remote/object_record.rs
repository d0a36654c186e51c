//! What the run of a batch tells a backend of objects, and wants to know of them afterwards, so
//! that nothing is asked of the server for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use super::errors::{Failure, FailureKind};
use super::object::ObjectVersion;
use crate::error::locked;
use crate::storage::{Listed, Mark};

/// See [`crate::storage::Backend::tell`], `expect` and `keep_marks`.
#[derive(Default)]
pub(super) struct ObjectRecord {
    /// What a listing has told of outputs.
    outputs: Mutex<HashMap<String, Listed>>,
    /// What lists say of objects that are being read: bytes, ETag without quotes.
    listed: Mutex<HashMap<String, (Option<u64>, Option<String>)>>,
    /// What was written, where somebody asks for it.
    written: Mutex<Option<BTreeMap<String, Mark>>>,
}

/// As it stands in marks.
pub(super) fn bare(etag: Option<String>) -> Option<String> {
    etag.map(|e| e.trim_matches('"').to_string())
}

impl ObjectRecord {
    pub fn output(&self, key: &str) -> Option<Listed> {
        locked(&self.outputs).get(key.trim_end_matches('/')).copied()
    }
    pub fn tell(&self, key: &str, listed: Option<Listed>) {
        match listed {
            Some(listed) => locked(&self.outputs).insert(key.to_string(), listed),
            None => locked(&self.outputs).remove(key),
        };
    }

    pub fn expect(&self, key: &str, len: Option<u64>, etag: Option<&str>) {
        locked(&self.listed).insert(key.to_string(), (len, etag.map(str::to_string)));
    }
    /// Whether an object is the one that was listed.
    pub fn check_listed(&self, key: &str, found: &ObjectVersion) -> Result<(), Failure> {
        let Some((len, etag)) = locked(&self.listed).remove(key) else { return Ok(()) };
        let other = |what: &str, found: &str, listed: &str| {
            Err(Failure::new(
                FailureKind::NotListed,
                format!("its {what} is {found}, not {listed}"),
            ))
        };
        if let (Some(listed), Some(found)) = (len, found.len)
            && listed != found
        {
            return other("size", &found.to_string(), &listed.to_string());
        }
        match (etag, bare(found.etag.clone())) {
            (Some(listed), Some(found)) if listed != found => other("ETag", &found, &listed),
            _ => Ok(()),
        }
    }

    pub fn keep_marks(&self) {
        locked(&self.written).get_or_insert_default();
    }
    /// Remembers what an object that was written is known by.
    pub fn mark_written(&self, key: &str, bytes: u64, etag: Option<String>) {
        if let Some(written) = &mut *locked(&self.written) {
            let mark = Mark { below: String::new(), bytes, etag: bare(etag) };
            written.insert(key.to_string(), mark);
        }
    }
    /// What was written at or below `key`, once.
    pub fn take_written(&self, key: &str) -> Vec<Mark> {
        let mut written = locked(&self.written);
        let Some(written) = written.as_mut() else { return Vec::new() };
        if let Some(mark) = written.remove(key) {
            return vec![mark];
        }
        let prefix = format!("{}/", key.trim_end_matches('/'));
        let keys = written.range(prefix.clone()..).map(|(k, _)| k);
        let keys: Vec<String> = keys.take_while(|k| k.starts_with(&prefix)).cloned().collect();
        let below = |key: &String| key[prefix.len()..].to_string();
        keys.iter()
            .filter_map(|key| Some(Mark { below: below(key), ..written.remove(key)? }))
            .collect()
    }
}
