//! A small store of what was used lately.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

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

    /// Keeps a value, unless it is larger than all room.
    pub fn insert(&mut self, key: K, value: V, size: u64) {
        if size > self.most || self.values.contains_key(&key) {
            return;
        }
        while self.size + size > self.most
            && let Some((_, old)) = self.order.pop_front().and_then(|key| self.values.remove(&key))
        {
            self.size -= old;
        }
        self.size += size;
        self.order.push_back(key.clone());
        self.values.insert(key, (value, size));
    }
}
