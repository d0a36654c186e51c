//! The memory budget that everything in flight shares.

use std::sync::{Arc, Condvar, Mutex};

/// Bytes shared by everything in flight, over all files of a batch.
#[derive(Clone)]
pub struct Budget(Arc<BudgetInner>);

struct BudgetInner {
    total: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    /// A budget of this many bytes; 1 MiB at least.
    pub fn new(total: u64) -> Budget {
        Budget::of_units(total.max(1 << 20))
    }
    /// A budget of other things than bytes.
    pub(super) fn of_units(total: u64) -> Budget {
        Budget(Arc::new(BudgetInner { total, used: Mutex::new(0), freed: Condvar::new() }))
    }
    /// All of it.
    pub fn total(&self) -> u64 {
        self.0.total
    }
    /// Takes `bytes` (at most the whole budget) if they are free now.
    pub(super) fn try_take(&self, bytes: u64) -> Option<Held> {
        let bytes = bytes.min(self.0.total);
        let mut used = self.0.used.lock().unwrap_or_else(|e| e.into_inner());
        if *used + bytes > self.0.total {
            return None;
        }
        *used += bytes;
        Some(Held { budget: self.clone(), bytes })
    }
    /// Takes `bytes` now, even past the budget: for the one piece without which nothing would move.
    /// The thread that orders work for the others must not wait, since its own next step may free
    /// what it waits for.
    pub(super) fn take_anyway(&self, bytes: u64) -> Held {
        *self.0.used.lock().unwrap_or_else(|e| e.into_inner()) += bytes;
        Held { budget: self.clone(), bytes }
    }
    /// Waits until `bytes` (at most the whole budget) are free. Not for threads of the pool: what
    /// would free them may wait for a thread.
    pub fn take(&self, bytes: u64) -> Held {
        let bytes = bytes.min(self.0.total);
        let mut used = self.0.used.lock().unwrap_or_else(|e| e.into_inner());
        while *used + bytes > self.0.total {
            used = self.0.freed.wait(used).unwrap_or_else(|e| e.into_inner());
        }
        *used += bytes;
        Held { budget: self.clone(), bytes }
    }
}

/// Bytes taken from a [`Budget`]; given back when dropped.
pub struct Held {
    budget: Budget,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut used = self.budget.0.used.lock().unwrap_or_else(|e| e.into_inner());
        *used -= self.bytes;
        self.budget.0.freed.notify_all();
    }
}
