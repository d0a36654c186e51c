//! The threads of a run, and tasks on them within its memory budget.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::settings::Settings;
use crate::error::{Error, Result, guard, locked};
use crate::resources::Budget;

/// The threads, started once for all files of a batch.
pub(super) fn pool(settings: &Settings) -> Result<&rayon::ThreadPool> {
    if let Some(pool) = settings.pool.get() {
        return Ok(pool);
    }
    // Where the system allows fewer threads than were asked for, those do the work.
    let mut wanted = settings.resources.jobs();
    loop {
        let mut started = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(wanted)
            .spawn_handler(|worker| {
                let thread = std::thread::Builder::new().name(format!("npk-{}", worker.index()));
                started.push(thread.spawn(|| worker.run())?);
                Ok(())
            })
            .build();
        match pool {
            Ok(pool) => return Ok(settings.pool.get_or_init(|| pool)),
            Err(e) if started.is_empty() => return Err(no_threads(e)),
            Err(_) => {
                wanted = started.len();
                // They end by themselves, and make room when they are gone.
                started.into_iter().for_each(|thread| drop(thread.join()));
            }
        }
    }
}

/// The error of a system that lets no thread start.
pub fn no_threads(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::failed("the system allows no further thread")
        .because(why)
        .hint("`ulimit -u` and the pids limit of the container show how many there may be")
}

/// Starts the threads, if they are not there yet: a failure concerns neither source nor output.
///
/// # Errors
/// Failed.
pub fn start(settings: &Settings) -> Result<()> {
    pool(settings).map(|_| ())
}

/// Does all tasks on all threads; stops at the first error. Each comes with the bytes that it will
/// hold.
///
/// # Errors
/// The first one of `work`.
pub fn parallel<T: Send>(
    settings: &Settings,
    mut tasks: impl Iterator<Item = (u64, T)>,
    work: &(dyn Fn(T) -> Result<()> + Sync),
) -> Result<()> {
    on_pool(settings, u64::MAX, &Failure::default(), &mut || Ok(tasks.next()), work)
}

/// Below this, handing work to other threads costs more than doing it.
const SMALL_BYTES: u64 = 1 << 20;

/// Small tasks go to a thread together, as long as they hold less than this,
const BATCH_BYTES: u64 = 128 << 10;

/// and so many of them at most: each may have files open.
const BATCH_TASKS: usize = 8;

/// Does tasks on the pool; `all_bytes` is what they move together. This thread gives them out, and
/// waits for the memory that each needs: a thread of the pool never waits for memory, since what
/// would free it may be work that waits for a thread.
pub(super) fn on_pool<T: Send>(
    settings: &Settings,
    all_bytes: u64,
    failed: &Failure,
    next: &mut dyn FnMut() -> Result<Option<(u64, T)>>,
    work: &(dyn Fn(T) -> Result<()> + Sync),
) -> Result<()> {
    let run = |tasks: Vec<T>| {
        for task in tasks {
            if !failed.is_set()
                && let Err(e) = settings.check().and_then(|()| guard(|| work(task)))
            {
                failed.set(e);
            }
        }
    };
    let mut batch = || {
        let (mut bytes, mut tasks) = (0u64, Vec::new());
        while tasks.len() < BATCH_TASKS && bytes < BATCH_BYTES && !failed.is_set() {
            match guard(&mut *next) {
                Ok(Some((held, task))) => {
                    bytes = bytes.saturating_add(held);
                    tasks.push(task);
                }
                Ok(None) => break,
                Err(e) => failed.set(e),
            }
        }
        (!tasks.is_empty()).then_some((bytes, tasks))
    };
    if all_bytes < SMALL_BYTES {
        while let Some((bytes, tasks)) = batch() {
            let _held = settings.held.acquire(bytes);
            run(tasks);
        }
        return failed.result();
    }
    let turns = Budget::of_units(settings.resources.jobs() as u64 + 1);
    let run = &run;
    pool(settings)?.in_place_scope(|scope| {
        loop {
            let turn = turns.acquire(1);
            let Some((bytes, tasks)) = batch() else { break };
            let held = settings.held.acquire(bytes);
            scope.spawn(move |_| {
                run(tasks);
                drop((held, turn));
            });
        }
    });
    failed.result()
}

/// The first failure of many threads.
#[derive(Default)]
pub(super) struct Failure {
    set: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Failure {
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
    pub(super) fn set(&self, error: Error) {
        let mut first = locked(&self.error);
        if first.is_none() || error.is_bug() {
            *first = Some(error);
        }
        self.set.store(true, Ordering::Relaxed);
    }
    pub(super) fn result(&self) -> Result<()> {
        match locked(&self.error).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
