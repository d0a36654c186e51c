//! The one memory budget of a run, which everything in flight shares, over all of its files.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::error::locked;
/// Bytes shared by everything in flight, over all files of a batch.
#[derive(Clone)]
pub struct Budget(Arc<BudgetInner>);

struct BudgetInner {
    total: u64,
    state: Mutex<State>,
    freed: Condvar,
    files: AtomicU64,
}

#[derive(Default)]
struct State {
    used: u64,
    /// How many threads wait for some to be free.
    waiting: usize,
    /// The files that hold something until their end, in the order in which they began.
    holding: BTreeSet<u64>,
}

impl Budget {
    /// A budget of this many bytes; 1 MiB at least.
    pub fn new(total: u64) -> Budget {
        Budget::of_units(total.max(1 << 20))
    }
    /// A budget of other things than bytes.
    pub(crate) fn of_units(total: u64) -> Budget {
        let (state, freed) = (Mutex::default(), Condvar::new());
        Budget(Arc::new(BudgetInner { total, state, freed, files: AtomicU64::new(0) }))
    }
    /// All of it.
    pub fn total(&self) -> u64 {
        self.0.total
    }
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
    fn wait_while(&self, mut waits: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while waits(&state) {
            state.waiting += 1;
            state = self.0.freed.wait(state).unwrap_or_else(|e| e.into_inner());
            state.waiting -= 1;
        }
        state
    }
    fn reservation(&self, mut state: MutexGuard<'_, State>, bytes: u64) -> Reservation {
        state.used += bytes;
        Reservation { budget: self.clone(), bytes }
    }
    fn release(&self, bytes: u64, file: Option<u64>) {
        let mut state = self.state();
        state.used -= bytes;
        file.map(|file| state.holding.remove(&file));
        // Waking nobody is a system call, too.
        if state.waiting > 0 {
            self.0.freed.notify_all();
        }
    }
    /// Takes `bytes` (at most the whole budget) if they are free now.
    pub(crate) fn try_acquire(&self, bytes: u64) -> Option<Reservation> {
        let (bytes, state) = (bytes.min(self.0.total), self.state());
        (state.used + bytes <= self.0.total).then(|| self.reservation(state, bytes))
    }
    /// Takes `bytes` now, even past the budget: for the one piece without which nothing would move.
    /// The thread that orders work for the others must not wait, since its own next step may free
    /// what it waits for.
    pub(crate) fn force_acquire(&self, bytes: u64) -> Reservation {
        self.reservation(self.state(), bytes)
    }
    /// Waits until `bytes` (at most the whole budget) are free. Not for threads of the pool: what
    /// would free them may wait for a thread.
    pub(crate) fn acquire(&self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.0.total);
        let state = self.wait_while(|state| state.used + bytes > self.0.total);
        self.reservation(state, bytes)
    }
    /// For what a file holds until its end.
    pub(crate) fn file(&self) -> FileReservation {
        let file = self.0.files.fetch_add(1, Ordering::Relaxed);
        FileReservation { budget: self.clone(), file, bytes: AtomicU64::new(0) }
    }
}

/// Bytes taken from a [`Budget`]; given back when dropped.
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes, None);
    }
}

/// What a file holds until its end and cannot do without (the categories of its text). Where the
/// files of a batch hold more than the budget together, only the one that began first goes on: so
/// they hold no more than one of them alone, and the budget.
pub(crate) struct FileReservation {
    budget: Budget,
    file: u64,
    bytes: AtomicU64,
}

impl FileReservation {
    /// It holds this many bytes by now.
    pub(crate) fn grow_to(&self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes.fetch_max(bytes, Ordering::Relaxed));
        if more > 0 {
            let mut state = self.budget.state();
            state.used += more;
            state.holding.insert(self.file);
        }
    }
    fn is_first(&self, state: &State) -> bool {
        state.holding.first() == Some(&self.file)
    }
    /// Whether its next piece may begin, as far as the other files are concerned.
    fn goes_on(&self, state: &State) -> bool {
        state.used <= self.budget.0.total
            || !state.holding.contains(&self.file)
            || self.is_first(state)
    }
    pub(crate) fn may_go_on(&self) -> bool {
        self.goes_on(&self.budget.state())
    }
    /// Waits until its next piece may begin. It must have nothing in flight.
    pub(crate) fn wait_turn(&self) {
        drop(self.budget.wait_while(|state| !self.goes_on(state)));
    }
    /// As [`Budget::acquire`]; the file that the others wait for does not wait.
    pub(crate) fn acquire(&self, bytes: u64) -> Reservation {
        let total = self.budget.0.total;
        let bytes = bytes.min(total);
        let waits = |state: &State| state.used + bytes > total && !self.is_first(state);
        self.budget.reservation(self.budget.wait_while(waits), bytes)
    }
    /// At its end.
    pub(crate) fn release(&self) {
        self.budget.release(self.bytes.swap(0, Ordering::Relaxed), Some(self.file));
    }
}

impl Drop for FileReservation {
    fn drop(&mut self) {
        self.release();
    }
}
