//! What a run may take, and how it is ended and watched: one value for all of its files, from the
//! opening of the first to the end of the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

mod budget;

pub(crate) use budget::FileReservation;
pub use budget::{Budget, Reservation};

/// So many threads there are with any memory limit, and one more for each of
const MIN_JOBS: usize = 4;

/// so many bytes of it: beside the values in flight each thread keeps some MiB of its own (encoders,
/// what the allocator has for it).
const JOB_BYTES: u64 = 8 << 20;

/// Threads, memory, cancelling and progress of a run. Clones share the memory.
#[derive(Clone)]
pub struct Resources {
    jobs: usize,
    memory_bytes: u64,
    budget: Budget,
    cancel: Option<Cancel>,
    progress: Option<LookProgress>,
}

/// Called while an input is looked at, with the bytes that were read since the last call.
pub type LookProgress = Arc<dyn Fn(u64) + Send + Sync>;

/// Asks a run to end before its time, from any thread: it then fails with
/// [`ErrorKind::Cancelled`] and leaves nothing behind. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Nobody has asked yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }
    /// Asks. What runs ends with the piece that it is at.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether somebody has asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Resources {
    /// All cores and 256 MiB.
    fn default() -> Resources {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Resources::new(cores, 256 << 20)
    }
}

impl std::fmt::Debug for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Resources { jobs, memory_bytes, .. } = self;
        f.debug_struct("Resources").field("jobs", jobs).field("memory_bytes", memory_bytes).finish()
    }
}

impl Resources {
    /// So many threads, and so many bytes for everything in flight.
    pub fn new(jobs: usize, memory_bytes: u64) -> Resources {
        let budget = Budget::new(memory_bytes);
        Resources { jobs: jobs.max(1), memory_bytes, budget, cancel: None, progress: None }
    }
    /// With other threads.
    pub fn with_jobs(&self, jobs: usize) -> Resources {
        Resources { jobs: jobs.max(1), ..self.clone() }
    }
    /// With another limit, and a budget of its own.
    pub fn with_memory(&self, memory_bytes: u64) -> Resources {
        Resources { memory_bytes, budget: Budget::new(memory_bytes), ..self.clone() }
    }
    /// With the same limit for a single thing, and a smaller budget for all of them.
    pub fn with_budget(&self, bytes: u64) -> Resources {
        Resources { budget: Budget::new(bytes), ..self.clone() }
    }
    /// Ended by this.
    pub fn with_cancel(&self, cancel: Option<Cancel>) -> Resources {
        Resources { cancel, ..self.clone() }
    }
    /// Watched by this.
    pub fn with_progress(&self, progress: LookProgress) -> Resources {
        Resources { progress: Some(progress), ..self.clone() }
    }

    /// Worker threads: as many as were asked for, as far as the memory lets each have its own part
    /// of it.
    pub fn jobs(&self) -> usize {
        let most = MIN_JOBS as u64 + self.memory_bytes / JOB_BYTES;
        self.jobs.min(usize::try_from(most).unwrap_or(usize::MAX))
    }
    /// The limit: what does not fit into it is refused, or done in another way.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
    /// What is in flight takes its bytes from here.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
    /// Asked between pieces.
    ///
    /// # Errors
    /// Cancelled, where somebody asked for that.
    pub fn check(&self) -> Result<()> {
        match &self.cancel {
            Some(cancel) if cancel.is_cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, "cancelled"))
            }
            _ => Ok(()),
        }
    }
    /// Tells that so many bytes of an input were looked at.
    pub fn looked(&self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress(bytes);
        }
    }
    /// Room for up to `most` threads that hold `each` bytes, as far as the budget has it now: for
    /// one of them always. Nobody waits here, who may hold what others wait for.
    pub fn room_for(&self, most: usize, each: u64) -> (usize, Reservation) {
        let mut threads = most.clamp(1, self.jobs);
        loop {
            let bytes = each.saturating_mul(threads as u64);
            match self.budget.try_acquire(bytes) {
                Some(held) => return (threads, held),
                None if threads == 1 => return (1, self.budget.force_acquire(bytes)),
                None => threads /= 2,
            }
        }
    }
}
