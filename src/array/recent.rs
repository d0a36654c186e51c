//! Small stores of what was used lately.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::error::{Result, locked};

/// Values with their sizes; the oldest go when there is no room.
pub struct Recent<K, V> {
    values: HashMap<K, (V, u64)>,
    order: VecDeque<K>,
    size: u64,
    most: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// Room for values of this size together.
    pub fn new(most: u64) -> Recent<K, V> {
        Recent { values: HashMap::new(), order: VecDeque::new(), size: 0, most }
    }

    /// The value of this key.
    pub fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    /// Keeps a value; one that is larger than all room is kept alone. Those that had to go for it.
    pub fn insert(&mut self, key: K, value: V, size: u64) -> Vec<K> {
        let mut gone = Vec::new();
        if self.values.contains_key(&key) {
            return gone;
        }
        while self.size.saturating_add(size) > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.size -= self.values.remove(&oldest).map_or(0, |(_, old)| old);
            gone.push(oldest);
        }
        self.size = self.size.saturating_add(size);
        self.order.push_back(key.clone());
        self.values.insert(key, (value, size));
        gone
    }

    /// Says what a kept value really takes; others go where there is no room: these.
    pub fn resize(&mut self, key: &K, size: u64) -> Vec<K> {
        let mut gone = Vec::new();
        let Some((_, old)) = self.values.get_mut(key) else { return gone };
        self.size = self.size.saturating_sub(*old).saturating_add(size);
        *old = size;
        while self.size > self.most
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            if oldest == *key {
                self.order.push_back(oldest);
            } else if let Some((_, old)) = self.values.remove(&oldest) {
                self.size = self.size.saturating_sub(old);
                gone.push(oldest);
            }
        }
        gone
    }
}

/// A value, once somebody made it.
pub(super) type Slot<V> = Arc<Mutex<Option<V>>>;

/// A [`Recent`] for many threads: of those that want the same value one makes it.
pub struct SharedRecent<K, V>(Mutex<Recent<K, Slot<V>>>);

impl<K: Clone + Eq + Hash, V: Clone> SharedRecent<K, V> {
    /// Room for values of this size together.
    pub fn new(most: u64) -> SharedRecent<K, V> {
        SharedRecent(Mutex::new(Recent::new(most)))
    }

    /// The value of this key, which `make` makes where there is none; `size` is what it takes.
    ///
    /// # Errors
    /// Those of `make`; the next that asks tries again.
    pub fn get_or(&self, key: K, size: u64, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let slot = {
            let mut recent = locked(&self.0);
            let slot = recent.get(&key).unwrap_or_default();
            recent.insert(key, slot.clone(), size);
            slot
        };
        let mut value = locked(&slot);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let made = make()?;
        *value = Some(made.clone());
        Ok(made)
    }
}
