//! The categories of dictionary arrays.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use super::dtype::Dtype;

/// What the categories of a dictionary array are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CategoryKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// Elements of fixed size: their dtype, and the name of their logical type where they are no
    /// plain numbers (`timestamp[us]`, `decimal(20, 3)`).
    Fixed(Dtype, Option<String>),
}

/// The categories of a dictionary array. They only ever grow, so a code stays valid once given.
#[derive(Debug)]
pub struct Categories {
    kind: CategoryKind,
    items: RwLock<Vec<Vec<u8>>>,
    whole: AtomicBool,
}

impl Categories {
    /// Categories of this kind, each as its bytes (little-endian for fixed-size ones).
    pub fn new(kind: CategoryKind, items: Vec<Vec<u8>>) -> Arc<Categories> {
        Arc::new(Categories { kind, items: RwLock::new(items), whole: AtomicBool::new(false) })
    }
    /// None will be added any more: a writer may measure them.
    pub fn finish(&self) {
        self.whole.store(true, Ordering::Release);
    }
    /// Whether it is known that none will be added.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
    /// What they are.
    pub fn kind(&self) -> &CategoryKind {
        &self.kind
    }
    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.items.read().map(|i| i.len()).unwrap_or(0)
    }
    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Looks at all categories as of now, without copying them.
    pub fn with<R>(&self, look: impl FnOnce(&[Vec<u8>]) -> R) -> R {
        look(&self.items.read().unwrap_or_else(|e| e.into_inner()))
    }
    /// All categories as of now.
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        self.items.read().map(|i| i.clone()).unwrap_or_default()
    }
    /// Appends one and returns its code.
    pub fn push(&self, item: Vec<u8>) -> u64 {
        let mut items = self.items.write().unwrap_or_else(|e| e.into_inner());
        items.push(item);
        items.len() as u64 - 1
    }
}

/// Which category an item is. Of each only a hash is kept: the categories hold the items.
#[derive(Debug, Default)]
pub struct CategoryIndex {
    /// The hash of an item and its code; the next hash where another item has taken it.
    codes: HashMap<u64, u64>,
    hasher: RandomState,
}

impl CategoryIndex {
    /// Of these categories; of those that are there twice the first one counts.
    pub fn of(categories: &Categories) -> CategoryIndex {
        categories.with(|items| {
            let codes = HashMap::with_capacity(items.len());
            let mut index = CategoryIndex { codes, hasher: RandomState::new() };
            for (code, item) in (0..).zip(items) {
                if let Err(hash) = index.find(item, items) {
                    index.codes.insert(hash, code);
                }
            }
            index
        })
    }

    /// The code of an item, or else where it belongs.
    fn find(&self, item: &[u8], items: &[Vec<u8>]) -> Result<u64, u64> {
        let mut hash = self.hasher.hash_one(item);
        while let Some(&code) = self.codes.get(&hash) {
            if items.get(code as usize).is_some_and(|known| known == item) {
                return Ok(code);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    /// The code of an item, which becomes a category where it is none yet and `new` lets it.
    ///
    /// # Errors
    /// Those of `new`.
    pub fn code<E>(
        &mut self,
        categories: &Categories,
        item: &[u8],
        new: impl FnOnce() -> Result<(), E>,
    ) -> Result<u64, E> {
        let hash = match categories.with(|items| self.find(item, items)) {
            Ok(code) => return Ok(code),
            Err(hash) => hash,
        };
        new()?;
        let code = categories.push(item.to_vec());
        self.codes.insert(hash, code);
        Ok(code)
    }
}
