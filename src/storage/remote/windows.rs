//! Pieces of objects that were fetched a moment ago.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::object::ObjectVersion;

/// A piece of one version of an object.
struct Window {
    key: Arc<str>,
    pin: ObjectVersion,
    offset: u64,
    bytes: Bytes,
}

/// Recently fetched pieces of the objects of a backend, oldest first.
pub(super) struct Windows {
    held: VecDeque<Window>,
    bytes: usize,
    most: usize,
}

impl Windows {
    /// None yet; `most` bytes at most.
    pub fn new(most: usize) -> Windows {
        Windows { held: VecDeque::new(), bytes: 0, most }
    }
    pub fn put(&mut self, key: &Arc<str>, pin: &ObjectVersion, offset: u64, bytes: Bytes) {
        self.bytes += bytes.len();
        self.held.push_back(Window { key: key.clone(), pin: pin.clone(), offset, bytes });
        while self.bytes > self.most || self.held.len() > 256 {
            let Some(old) = self.held.pop_front() else { break };
            self.bytes -= old.bytes.len();
        }
    }
    /// The bytes of a window from `offset`, as many as it has.
    pub fn get(&self, key: &str, pin: &ObjectVersion, offset: u64) -> Option<Bytes> {
        let holds = |w: &&Window| {
            &*w.key == key
                && w.pin == *pin
                && (w.offset..w.offset + w.bytes.len() as u64).contains(&offset)
        };
        let found = self.held.iter().rev().find(holds)?;
        Some(found.bytes.slice((offset - found.offset) as usize..))
    }
    pub fn forget(&mut self, key: &str) {
        self.held.retain(|w| &*w.key != key);
        self.bytes = self.held.iter().map(|w| w.bytes.len()).sum();
    }
}
