//! What must be undone when the process is told to stop: temporary outputs and unfinished uploads.
//!
//! An output registers an undo when it begins and takes it back when it is committed. [`run_all`] (called by the signal
//! thread of the binary) runs all of them under the same lock that commits take, so that an interrupt never hits the
//! middle of one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

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

/// How long all undos together may take: a server that does not answer holds nobody up for longer.
const DEADLINE: Duration = Duration::from_secs(30);
const WORKERS: usize = 16;

/// Runs every undo, newest first, several at a time. The lock is kept for good: nothing is committed any more, so the
/// caller must exit.
pub fn run_all() {
    let mut r = registry();
    let waiting: Vec<Undo> = std::mem::take(&mut r.undos).into_values().collect();
    std::mem::forget(r);
    let (count, waiting) = (waiting.len(), Arc::new(Mutex::new(waiting)));
    let next = move || waiting.lock().unwrap_or_else(|e| e.into_inner()).pop();
    let (done, ended) = mpsc::channel();
    let mut workers = 0;
    for _ in 0..WORKERS.min(count) {
        let (next, done) = (next.clone(), done.clone());
        let work = move || {
            while let Some(mut undo) = next() {
                undo();
            }
            let _ = done.send(());
        };
        workers += usize::from(std::thread::Builder::new().name("npk-undo".into()).spawn(work).is_ok());
    }
    if workers == 0 {
        while let Some(mut undo) = next() {
            undo();
        }
    }
    let end = Instant::now() + DEADLINE;
    for _ in 0..workers {
        if ended.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
            return;
        }
    }
}
