//! What must be undone when the process is told to stop: temporary outputs and unfinished uploads.
//!
//! An output registers an undo when it begins and takes it back when it is committed. [`run_all`] (called by the signal
//! thread of the binary) runs all of them under the same lock that commits take, so that an interrupt never falls into
//! the middle of one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

type Undo = Box<dyn FnMut() + Send>;

struct Registry {
    next: u64,
    undos: BTreeMap<u64, Undo>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next: 0, undos: BTreeMap::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(|e| e.into_inner())
}

/// A registered undo. Dropped: the undo runs. [`Guard::commit`]ted: it does not.
pub struct Guard {
    id: Option<u64>,
}

/// Registers an undo. It must not register or commit another one itself.
pub fn register(undo: impl FnMut() + Send + 'static) -> Guard {
    let mut r = registry();
    let id = r.next;
    r.next += 1;
    r.undos.insert(id, Box::new(undo));
    Guard { id: Some(id) }
}

impl Guard {
    /// Runs `commit` under the lock; if it succeeds, the undo is forgotten, otherwise it runs.
    ///
    /// # Errors
    /// Those of `commit`.
    pub fn commit<T, E>(mut self, commit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut r = registry();
        let result = commit();
        if let Some(id) = self.id.take()
            && let Some(mut undo) = r.undos.remove(&id)
            && result.is_err()
        {
            undo();
        }
        result
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let undo = registry().undos.remove(&id);
            if let Some(mut undo) = undo {
                undo();
            }
        }
    }
}

/// Runs every undo, newest first. The lock is kept for good: nothing is committed any more, so the caller must exit.
pub fn run_all() {
    let mut r = registry();
    while let Some((_, mut undo)) = r.undos.pop_last() {
        undo();
    }
    std::mem::forget(r);
}
