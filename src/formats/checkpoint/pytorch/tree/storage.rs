//! Persistent ids that are storages, and the classes of storages.

use indexmap::IndexMap;

use super::walker::Walker;
use crate::codec::pickle::{Id, Node, Pickle, shown};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::StorageSpec;
use crate::formats::checkpoint::pytorch::torch_types::{item_bytes, storage_dtype};
use crate::model::Dtype;

/// What a persistent id says of a storage: `('storage', class, key, location, elements, view)`.
struct Description<'a> {
    class: &'a str,
    key: String,
    numel: u64,
    /// `(key, first element, elements)` in files of torch 0.4.
    view: Option<&'a [Id]>,
}

fn broken() -> Error {
    Error::corrupt("a persistent id of the pickle is not a storage")
}

fn described(pickle: &Pickle, pid: Id) -> Result<Description<'_>> {
    let parts = pickle.tuple(pid).filter(|p| p.len() >= 5).ok_or_else(broken)?;
    if !pickle.is_text(parts[0], "storage") {
        return Err(broken());
    }
    let class = pickle.global(parts[1]).ok_or_else(broken)?;
    let key = pickle
        .short(parts[2])
        .map(str::to_string)
        .or_else(|| pickle.int(parts[2]).map(|n| n.to_string()))
        .ok_or_else(broken)?;
    let numel = pickle
        .int(parts[4])
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| Error::corrupt("a storage has a negative size"))?;
    Ok(Description { class, key, numel, view: parts.get(5).and_then(|&v| pickle.tuple(v)) })
}

/// Claims the storages that no tensor was found for: a legacy file has no index, where a storage
/// lies follows from the sizes of all before it.
pub(in super::super) fn add_listed_storages(
    pickle: &Pickle,
    specs: &mut IndexMap<String, StorageSpec>,
) {
    for (_, node) in pickle.nodes() {
        if let Node::Persistent(pid) = node
            && let Ok(storage) = described(pickle, *pid)
            && let Some(item_bytes) = item_bytes(storage.class)
            && let Some(bytes) = storage.numel.checked_mul(item_bytes)
        {
            specs.entry(storage.key).or_insert(StorageSpec { bytes, item_bytes });
        }
    }
}

impl Walker<'_> {
    /// A persistent id that is a storage: its index, its class's dtype (none: untyped, counted in
    /// bytes), the first element of the view and how many there are.
    pub(super) fn storage(&mut self, id: Id) -> Result<(usize, Option<Dtype>, u64, u64)> {
        let pickle = self.pickle;
        let Node::Persistent(pid) = pickle.node(id) else { return Err(broken()) };
        let Description { class, key, numel, view } = described(pickle, *pid)?;
        let dtype = storage_dtype(class)?;
        let item_bytes = dtype.map_or(1, Dtype::item_bytes);
        let bytes = numel.checked_mul(item_bytes).ok_or_else(|| {
            Error::corrupt(format!("the storage {} of {numel} elements is too large", shown(&key)))
        })?;
        let (mut first, mut count) = (0, numel);
        if let Some(view) = view {
            let number = |i: usize| {
                view.get(i)
                    .and_then(|&v| pickle.int(v))
                    .and_then(|n| u64::try_from(n).ok())
                    .ok_or_else(broken)
            };
            (first, count) = (number(1)?, number(2)?);
            if first.checked_add(count).is_none_or(|end| end > numel) {
                return Err(Error::corrupt(format!(
                    "a view takes {count} elements from {first} on in a storage of {numel}"
                )));
            }
        }
        let index = match self.walk.storages.get_index_of(&key) {
            Some(index) => {
                let known = self.walk.storages[index].bytes;
                if known != bytes {
                    return Err(Error::corrupt(format!(
                        "the storage {} has {known} bytes in one place and {bytes} in another",
                        shown(&key)
                    )));
                }
                index
            }
            None => self.walk.storages.insert_full(key, StorageSpec { bytes, item_bytes }).0,
        };
        Ok((index, dtype, first, count))
    }
}
