//! What must be undone when the process is told to stop: temporary outputs and unfinished uploads.
//!
//! An output registers an undo when it begins and takes it back when it is committed. [`run_all`]
//! (called by the signal thread of the binary) runs all of them under the same lock that begins and
//! commits take, so that an interrupt never hits the middle of one; and no thread adds anything to
//! a local output any more ([`enter`]) once undos run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use crate::error::locked;
/// What takes an output back.
pub type Undo = Box<dyn FnMut() + Send>;

/// An undo; `None` once it ran. The lock is held while it runs, so that whoever else wants it run
/// waits for its end.
type Item = Arc<Mutex<Option<Undo>>>;

struct Registry {
    next: u64,
    items: BTreeMap<u64, Item>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next: 0, items: BTreeMap::new() });

fn registry() -> MutexGuard<'static, Registry> {
    locked(&REGISTRY)
}

fn run(item: &Item) {
    let mut undo = locked(item);
    if let Some(mut undo) = undo.take() {
        undo();
    }
}

/// A registered undo. Dropped: the undo runs. [`Guard::commit`]ted: it does not.
pub struct Guard {
    id: u64,
    item: Item,
}

impl Registry {
    fn add(&mut self, undo: Undo) -> Guard {
        let (id, item) = (self.next, Arc::new(Mutex::new(Some(undo))));
        self.next += 1;
        self.items.insert(id, item.clone());
        Guard { id, item }
    }
}

/// Registers an undo. It must not register or commit another one itself.
pub fn register(undo: impl FnMut() + Send + 'static) -> Guard {
    registry().add(Box::new(undo))
}

/// Makes something and registers what takes it away again; no interrupt comes between the two.
///
/// # Errors
/// Those of `make`.
pub fn made<T, E>(make: impl FnOnce() -> Result<(T, Undo), E>) -> Result<(T, Guard), E> {
    let mut r = registry();
    let (made, undo) = make()?;
    Ok((made, r.add(undo)))
}

impl Guard {
    /// Runs `commit` under the lock; if it succeeds, the undo is forgotten, otherwise it runs.
    ///
    /// # Errors
    /// Those of `commit`.
    pub fn commit<T, E>(self, commit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let lock = registry();
        let result = commit();
        if result.is_ok() {
            locked(&self.item).take();
        }
        // Before the undo of a failed commit runs, which may take long.
        drop(lock);
        result
    }

    /// Runs `work` while no interrupt begins; the undo stays.
    pub fn uninterrupted<T>(&self, work: impl FnOnce() -> T) -> T {
        let _lock = registry();
        work()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It stays known while it runs: an interrupt waits for its end.
        run(&self.item);
        registry().items.remove(&self.id);
    }
}

/// Threads that are adding to local outputs now.
static ADDING: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// See [`enter`]. Not to be sent to another thread.
pub struct Adding(PhantomData<*const ()>);

/// Held by a thread while it makes a file in a directory that an undo removes, or lengthens one
/// that an undo cuts. Once the undos run, this never returns: the process is about to end.
pub fn enter() -> Adding {
    if DEPTH.get() == 0 {
        ADDING.fetch_add(1, Ordering::SeqCst);
        if STOPPED.load(Ordering::SeqCst) {
            ADDING.fetch_sub(1, Ordering::SeqCst);
            loop {
                std::thread::park();
            }
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    Adding(PhantomData)
}

impl Drop for Adding {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            ADDING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Folders that were made for outputs.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Makes a folder for outputs, with those above it. Told to stop, the process removes what it made
/// of them and what is empty then.
///
/// # Errors
/// What cannot be made.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    let _adding = enter();
    let missing = folder
        .ancestors()
        .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
        .map(Path::to_path_buf);
    locked(&FOLDERS).extend(missing);
    std::fs::create_dir_all(folder)
}

fn remove_folders() {
    let mut folders = std::mem::take(&mut *locked(&FOLDERS));
    // The inner ones first: their names are longer.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.as_os_str().len()));
    folders.iter().for_each(|folder| {
        let _ = std::fs::remove_dir(folder);
    });
}

/// How long all undos together may take: a server that does not answer holds nobody up for longer.
const DEADLINE: Duration = Duration::from_secs(30);
const WORKERS: usize = 16;

/// Runs every undo, newest first, several at a time. The lock is kept for good: nothing is
/// committed any more, so the caller must exit.
pub fn run_all() {
    let end = Instant::now() + DEADLINE;
    let r = registry();
    let waiting: Vec<Item> = r.items.values().cloned().collect();
    std::mem::forget(r);
    STOPPED.store(true, Ordering::SeqCst);
    while ADDING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(100));
    }
    let (count, waiting) = (waiting.len(), Arc::new(Mutex::new(waiting)));
    let next = move || locked(&waiting).pop();
    let (done, ended) = mpsc::channel();
    let mut workers = 0;
    for _ in 0..WORKERS.min(count) {
        let (next, done) = (next.clone(), done.clone());
        let work = move || {
            while let Some(item) = next() {
                run(&item);
            }
            let _ = done.send(());
        };
        workers +=
            usize::from(std::thread::Builder::new().name("npk-undo".into()).spawn(work).is_ok());
    }
    if workers == 0 {
        while let Some(item) = next() {
            run(&item);
        }
    }
    for _ in 0..workers {
        if ended.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
            break;
        }
    }
    remove_folders();
}
