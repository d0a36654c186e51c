//! The state of a walk through a pickle, and what bounds it.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::codec::pickle::numpy::Raw;
use crate::codec::pickle::{Id, Pickle, shown};
use crate::error::{Error, Result};
use crate::format::{OnDuplicate, duplicates};
use crate::formats::checkpoint::pytorch::entry::{Entry, EntryKind, Tensor, Walk};
use crate::storage::BlobSlice;

pub(super) const MAX_DEPTH: usize = 100;
pub(super) const MAX_ARRAYS: usize = 1 << 20;
pub(super) const MAX_NAME_BYTES: usize = 32 << 20;
/// What a refusal takes beside its name.
pub(super) const REFUSAL_BYTES: usize = 256;
/// What a dimension takes, past those that tensors have.
pub(super) const RANK_BYTES: usize = 32;
pub(super) const MAX_NOTES: usize = 100;
pub(super) const MAX_VALUES: usize = 200_000;
pub(super) const MAX_VALUE_BYTES: usize = 16 << 20;
pub(in crate::formats::checkpoint::pytorch) const MAX_STRUCTURE_DEPTH: usize = 25;

/// A value on its way out: as metadata, and as part of the structure.
#[derive(Default)]
pub(super) struct ParsedValue {
    pub(super) plain: Option<Value>,
    pub(super) tree: Option<Value>,
}

impl ParsedValue {
    pub(super) fn both(plain: Value, tree: Value) -> ParsedValue {
        ParsedValue { plain: Some(plain), tree: Some(tree) }
    }
    pub(super) fn same(value: Value) -> ParsedValue {
        ParsedValue { plain: Some(value.clone()), tree: Some(value) }
    }
}

pub(super) struct Walker<'a> {
    pub(super) pickle: &'a Pickle,
    /// Tensors by persistent id (tar files).
    pub(super) given: &'a HashMap<String, Tensor>,
    pub(super) stem: &'a str,
    pub(super) walk: Walk,
    pub(super) path: String,
    pub(super) depth: usize,
    pub(super) deepest: usize,
    pub(super) visits: u64,
    pub(super) name_bytes: usize,
    /// Names given: which of the found has it, and the number that its next namesake gets.
    pub(super) names: HashMap<String, (usize, u32)>,
    pub(super) on_duplicate: OnDuplicate,
    pub(super) values: usize,
    pub(super) value_bytes: usize,
    pub(super) open: Vec<Id>,
    /// Bytes that were copied out of the pickle, once for all arrays over them, and as bfloat16.
    pub(super) copies: HashMap<(Raw, bool), BlobSlice>,
    /// What was refused or passed over knowingly: nothing in it is unseen.
    pub(super) handled: Vec<Id>,
    /// Whether plain values were dropped from among tensors.
    pub(super) gaps: bool,
    /// Whether parts of tensors are wanted, which other files have the others of.
    pub(super) in_parts: bool,
    /// Tensors that are plain attributes of modules: how many, and one of them.
    pub(super) attributes: (usize, String),
}

impl Walker<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.values > MAX_VALUES || self.value_bytes > MAX_VALUE_BYTES
    }

    /// Counts a plain value; `false` once there are too many to keep.
    pub(super) fn count(&mut self, bytes: usize) -> bool {
        self.values += 1;
        self.value_bytes = self.value_bytes.saturating_add(bytes);
        !self.is_full()
    }

    /// Gives back the room of the values counted since then, if they are a good part of all there
    /// is room for: one long list is left out, not everything.
    pub(super) fn drop_oversized(&mut self, (values, value_bytes): (usize, usize)) -> bool {
        let (count, bytes) = (self.values - values, self.value_bytes - value_bytes);
        if !self.is_full() || count <= MAX_VALUES / 10 && bytes <= MAX_VALUE_BYTES / 10 {
            return false;
        }
        (self.values, self.value_bytes) = (values, value_bytes);
        if self.walk.notes.len() < MAX_NOTES {
            let at = if self.path.is_empty() { "the checkpoint".into() } else { shown(&self.path) };
            let most = MAX_VALUE_BYTES >> 20;
            self.walk.notes.push(format!(
                "{at}: its {count} plain values ({bytes} bytes of text) are left out; up to {MAX_VALUES} with {most} MiB are kept"
            ));
        }
        true
    }

    /// Counts steps before they are taken.
    pub(super) fn charge_steps(&mut self, steps: usize) -> Result<()> {
        self.visits = self.visits.saturating_add(steps as u64);
        if self.visits > 4 * self.pickle.len() as u64 + 1000 {
            return Err(Error::refused("the pickle repeats its own parts without end"));
        }
        Ok(())
    }

    /// Counts text that is kept: names, and keys beside which no name counts.
    pub(super) fn keep_text(&mut self, bytes: usize) -> Result<()> {
        self.name_bytes = self.name_bytes.saturating_add(bytes);
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(Error::refused(format!(
                "the checkpoint has names and keys of more than {} MiB",
                MAX_NAME_BYTES >> 20
            )));
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, part: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(part);
        before
    }

    /// Adds what was found under the path so far.
    pub(super) fn found(&mut self, kind: EntryKind) -> Result<ParsedValue> {
        let name = match self.path.as_str() {
            "" if self.depth <= 1 => self.stem.to_string(),
            "" => "unnamed".to_string(),
            path => path.to_string(),
        };
        self.keep_text(name.len())?;
        self.keep_text(match &kind {
            EntryKind::Tensor(tensor) => {
                tensor.class.as_ref().map_or(0, String::len)
                    + tensor.shape.len().saturating_sub(8) * RANK_BYTES
            }
            EntryKind::Numpy(array) => array.shape.len().saturating_sub(8) * RANK_BYTES,
            EntryKind::Refused(what, _) => what.len() + REFUSAL_BYTES,
        })?;
        if self.walk.found.len() >= MAX_ARRAYS {
            return Err(Error::refused(format!(
                "the checkpoint has more than {MAX_ARRAYS} arrays"
            )));
        }
        let (mut name, mut kind) = (name, kind);
        if let Some((index, next)) = self.names.get_mut(&name) {
            match self.on_duplicate {
                OnDuplicate::First => return Ok(ParsedValue::default()),
                OnDuplicate::Last => {
                    let index = *index;
                    let out = ParsedValue { plain: None, tree: Some(json!({"tensor": name})) };
                    self.walk.found[index].kind = kind;
                    return Ok(out);
                }
                OnDuplicate::Error => {
                    let message = "two entries of the checkpoint have this name: one nested and one with a dot in its key, or keys that print alike";
                    let error = Error::refused(message).hint(duplicates::HINT);
                    kind = EntryKind::Refused("tensor".into(), error);
                }
                OnDuplicate::Rename => {}
            }
            let (mut number, base) = (*next, name);
            name = loop {
                let wish = format!("{base}_{number}");
                number += 1;
                if !self.names.contains_key(&wish) {
                    break wish;
                }
            };
            if let Some(entry) = self.names.get_mut(&base) {
                entry.1 = number;
            }
        }
        self.names.insert(name.clone(), (self.walk.found.len(), 1));
        let tree = match &kind {
            EntryKind::Tensor(_) | EntryKind::Numpy(_) => Some(json!({"tensor": name})),
            EntryKind::Refused(..) => None,
        };
        let like_tensor = match &kind {
            EntryKind::Refused(what, _) => {
                what == "tensor" || what.ends_with(" tensor") || what == "numpy array"
            }
            _ => true,
        };
        self.walk.tensors += usize::from(like_tensor);
        self.walk.found.push(Entry { name, kind });
        Ok(ParsedValue { plain: None, tree })
    }
}
