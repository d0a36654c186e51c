//! What a checkpoint holds beside its tensors: read, and put back into the nesting that it had.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::item::Files;
use super::metadata::{Checkpoint, EntryKind, ItemForm, ItemLocation, Key};
use crate::error::Result;
use crate::format::{Choice, ReadOptions};
use crate::formats::checkpoint::pytorch::{self, SavedValue};
use crate::model::Plan;
use crate::storage::{Blob, MemoryBlob};

/// Values up to this size are read with others of their file …
const SMALL_BYTES: u64 = 64 << 10;
/// … up to this many bytes at a time.
const BATCH_BYTES: u64 = 4 << 20;
/// Lists of the nesting are at most so long.
const MAX_ITEMS: u64 = 1 << 20;

/// The values, by the number of their entry, without those that `-x` leaves out.
///
/// # Errors
/// A pickle that would run code; reading errors. What is wrong with one value concerns it alone.
pub(super) fn read(
    checkpoint: &Checkpoint,
    files: &Files,
    options: &ReadOptions,
) -> Result<HashMap<usize, Result<SavedValue>>> {
    let mut wanted = Vec::new();
    for (number, entry) in checkpoint.entries.iter().enumerate() {
        if let EntryKind::Value(place) = &entry.kind {
            wanted.push((number, entry.name.as_str(), place));
        }
    }
    if let Some(choice) = &options.choice {
        let choice = Choice { include: Vec::new(), exclude: choice.exclude.clone() };
        let names: Vec<&str> = wanted.iter().map(|(_, name, _)| *name).collect();
        let mut keep = choice.of(&names).into_iter();
        wanted.retain(|_| keep.next().unwrap_or(true));
    }
    let mut all = HashMap::with_capacity(wanted.len());
    let mut small: BTreeMap<usize, Vec<(u64, u64, usize, &str)>> = BTreeMap::new();
    for (number, name, place) in wanted {
        let place = place.clone().and_then(|place| files.check(&place).map(|()| place));
        match place {
            Ok(ItemLocation { form: ItemForm::Saved, file, offset, len }) if len <= SMALL_BYTES => {
                small.entry(file).or_default().push((offset, len, number, name));
            }
            place => {
                let value = place.and_then(|place| {
                    let most = options.resources.memory_bytes();
                    let opened = files
                        .saved(&place, most)
                        .and_then(|blob| pytorch::open_value(&blob, name, options));
                    opened.map_err(|e| files.named(&place, e))
                });
                all.insert(number, kept(value)?);
            }
        }
    }
    for (file, mut items) in small {
        items.sort_unstable();
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let batch = rest.iter().take_while(|item| {
                bytes += item.1;
                bytes <= BATCH_BYTES
            });
            let (batch, later) = rest.split_at(batch.count().max(1));
            rest = later;
            let ranges: Vec<_> = batch.iter().map(|i| i.0..i.0.saturating_add(i.1)).collect();
            let read = files.blob(file)?.read_ranges(&ranges)?;
            for (&(offset, len, number, name), bytes) in batch.iter().zip(read) {
                let blob: Arc<dyn Blob> = Arc::new(MemoryBlob(bytes));
                let place = ItemLocation { file, offset, len, form: ItemForm::Saved };
                let value = pytorch::open_value(&blob, name, options);
                all.insert(number, kept(value.map_err(|e| files.named(&place, e)))?);
            }
        }
    }
    Ok(all)
}

/// What is wrong with a value as its state; what asks for code is wrong with all.
fn kept(value: Result<SavedValue>) -> Result<Result<SavedValue>> {
    match value {
        Err(error) if pytorch::is_attack(&error) => Err(error),
        Err(error) => error.of_data().map(Err),
        value => Ok(value),
    }
}

/// The nesting of a checkpoint.
#[derive(Default)]
pub(super) struct Tree {
    root: Node,
    /// Whether something in it cannot be written back.
    gaps: bool,
}

/// A part of it: what is stored, or what is below.
#[derive(Default)]
struct Node {
    below: IndexMap<Key, Node>,
    plain: Option<Value>,
    tree: Option<Value>,
}

impl Tree {
    fn at(&mut self, path: Option<Vec<Key>>, name: &str) -> &mut Node {
        let path = path.unwrap_or_else(|| vec![Key::Text(name.to_string())]);
        path.into_iter().fold(&mut self.root, |node, key| node.below.entry(key).or_default())
    }

    /// An array of this name.
    pub fn tensor(&mut self, path: Option<Vec<Key>>, name: &str) {
        self.at(path, name).tree = Some(json!({"tensor": name}));
    }

    /// A value of this name: what of it is plain, and how it is nested.
    pub fn value(
        &mut self,
        path: Option<Vec<Key>>,
        name: &str,
        plain: Option<Value>,
        tree: Option<Value>,
    ) {
        self.gaps |= tree.is_none();
        let node = self.at(path, name);
        (node.plain, node.tree) = (plain, tree);
    }

    /// The plain values as attributes, and the nesting beside them where it says more than names.
    pub fn finish(self, plan: &mut Plan) {
        let deep = self.root.depth() > pytorch::MAX_NESTED;
        let (plain, tree) = self.root.finish();
        if let Some(Value::Object(values)) = plain {
            plan.attributes.extend(values);
        }
        if let Some(tree) = tree.filter(|t| !self.gaps && !deep && !pytorch::is_flat(t)) {
            plan.attributes.insert(pytorch::STRUCTURE.into(), Value::String(tree.to_string()));
        }
    }
}

impl Node {
    fn depth(&self) -> usize {
        1 + self.below.values().map(Node::depth).max().unwrap_or(0)
    }

    /// Plain values and nesting.
    fn finish(self) -> (Option<Value>, Option<Value>) {
        if self.below.is_empty() {
            return (self.plain, self.tree);
        }
        let is_list = self.below.keys().all(|k| matches!(k, Key::Index(n) if *n < MAX_ITEMS));
        let spelled = |key: &Key| match key {
            Key::Text(text) => text.clone(),
            Key::Index(n) => n.to_string(),
        };
        let mut below: Vec<(Key, Option<Value>, Option<Value>)> = Vec::new();
        for (key, node) in self.below {
            let (plain, tree) = node.finish();
            below.push((key, plain, tree));
        }
        if !is_list {
            let mut plain = serde_json::Map::new();
            let mut pairs = Vec::with_capacity(below.len());
            for (key, value, tree) in below {
                let name = spelled(&key);
                if let Some(value) = value {
                    plain.insert(name.clone(), value);
                }
                let key = match key {
                    Key::Text(text) => json!(text),
                    Key::Index(n) => json!(n),
                };
                pairs.extend(tree.map(|tree| json!([key, tree])));
            }
            let plain = (!plain.is_empty()).then_some(Value::Object(plain));
            return (plain, Some(json!({"dict": pairs})));
        }
        below.sort_by_key(|(key, ..)| match key {
            Key::Index(n) => *n,
            Key::Text(_) => 0,
        });
        let dense = below.iter().enumerate().all(|(i, b)| b.0 == Key::Index(i as u64));
        let whole = dense && below.iter().all(|(_, plain, _)| plain.is_some());
        let tree = dense.then(|| {
            let items: Vec<Value> =
                below.iter_mut().map(|b| b.2.take().unwrap_or(Value::Null)).collect();
            json!({"list": items})
        });
        // With tensors among them, values keep their index.
        let plain = match whole {
            true => Some(below.into_iter().filter_map(|b| b.1).collect()),
            false => {
                let values: serde_json::Map<String, Value> =
                    below.into_iter().filter_map(|b| Some((spelled(&b.0), b.1?))).collect();
                (!values.is_empty()).then_some(Value::Object(values))
            }
        };
        (plain, tree)
    }
}
