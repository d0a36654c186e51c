//! From a checkpoint's pickle to named tensors and the plain values beside them.
//!
//! | in the pickle | becomes |
//! |---|---|
//! | dict, OrderedDict, Counter, defaultdict, argparse.Namespace, list, tuple, set | walked; names are joined with `.` |
//! | `_rebuild_tensor`, `_v2`, `_v3`, `_rebuild_parameter*`, `_rebuild_from_type*` | a tensor |
//! | a storage by itself; numpy arrays and scalars | an array |
//! | an object with `_parameters` and `_modules`, a TorchScript object | the entries of its `state_dict()` |
//! | None, bool, int, float, text, bytes, complex, Decimal, paths, torch.Size, device, dtype, layout, bare names | metadata |
//! | a `ShardedTensor`, a `DTensor` | its parts, where they are wanted ([`sharded`]) |
//! | quantized, sparse, nested and meta tensors, any other call | listed, refused by name |
//! | calls that none of these leads to: dropped again, a key, an attribute | listed, refused by name |
//!
//! The walk is bounded: 100 levels, a number of steps in proportion to the pickle, a million names.
//! Whatever a small pickle can repeat (keys, names, the items of a shared list) is counted before
//! it is looked at or copied.

use std::collections::HashMap;

pub(super) use self::walker::MAX_STRUCTURE_DEPTH;
use self::walker::{MAX_DEPTH, ParsedValue, Walker};
use crate::formats::checkpoint::pytorch::entry::{EntryKind, LazyOp, StorageSpec, Tensor, Walk};
use crate::formats::checkpoint::pytorch::torch_types::is_torch_dtype;
use indexmap::IndexMap;
use serde_json::{Value, json};

mod keys;
mod module;
mod numpy;
mod object;
mod sharded;
mod storage;
mod tensor;
mod unvisited_calls;
mod walker;

pub(super) use sharded::is_sharded_class;
pub(super) use storage::add_listed_storages;

use keys::{key_of, key_tree};
use object::bytes_out;

use super::{code_running_globals, structure};
use crate::codec::pickle::{Id, Node, Pickle, long_digits, shown};
use crate::error::{Error, Result};
use crate::format::OnDuplicate;
use crate::model::{Attributes, Dtype, Logical};

/// A pickle that was walked.
pub(super) struct Walked {
    pub walk: Walk,
    /// Its plain values, nested as in the pickle.
    pub plain: Option<Value>,
    /// How it was nested.
    pub tree: Option<Value>,
    /// In how many levels.
    pub deepest: usize,
}

/// Walks the pickle of a checkpoint. `storages` and `given` are what the container already knows
/// (tar files), `stem` names what has no name.
///
/// # Errors
/// Those of [`walk_value`]; the first refusal where no tensor is found; missing.
pub(super) fn walk(
    pickle: &Pickle,
    given: &HashMap<String, Tensor>,
    storages: IndexMap<String, StorageSpec>,
    stem: &str,
    on_duplicate: OnDuplicate,
) -> Result<Walk> {
    let walked = walk_value(pickle, given, storages, (stem, ""), false, on_duplicate)?;
    let Walked { mut walk, plain, tree, deepest } = walked;
    if walk.tensors == 0 {
        let first = walk.found.into_iter().find_map(|f| match f.kind {
            // Without its hint: nothing would be left.
            EntryKind::Refused(_, error) => Some(error.without_hint()),
            _ => None,
        });
        return Err(first.unwrap_or_else(|| Error::missing("this checkpoint has no tensors")));
    }
    match plain {
        Some(Value::Object(map)) => walk.attributes = map,
        Some(Value::Array(items)) => {
            walk.attributes =
                items.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
        }
        _ => {}
    }
    if let Some(tree) = tree.filter(|t| !structure::is_flat(t)) {
        if deepest > MAX_STRUCTURE_DEPTH {
            walk.notes
                .push(format!("the checkpoint is nested {deepest} levels deep; its structure is not kept beyond {MAX_STRUCTURE_DEPTH}"));
        } else {
            walk.structure = Some(tree);
        }
    }
    Ok(walk)
}

/// Walks a pickle that holds anything: `stem` names a value that is all of it and has no name,
/// `path` is where it is in something larger; `in_parts`: whether tensors may be parts.
///
/// # Errors
/// Refused where it is nested too deep or too large, or asks for what runs code.
pub(super) fn walk_value(
    pickle: &Pickle,
    given: &HashMap<String, Tensor>,
    storages: IndexMap<String, StorageSpec>,
    (stem, path): (&str, &str),
    in_parts: bool,
    on_duplicate: OnDuplicate,
) -> Result<Walked> {
    code_running_globals::check(pickle)?;
    let mut walker = Walker {
        pickle,
        given,
        stem,
        walk: Walk { storages, ..Walk::default() },
        path: path.to_string(),
        depth: 0,
        deepest: 0,
        visits: 0,
        name_bytes: 0,
        names: HashMap::new(),
        on_duplicate,
        values: 0,
        value_bytes: 0,
        open: Vec::new(),
        copies: HashMap::new(),
        handled: Vec::new(),
        gaps: false,
        in_parts,
        attributes: (0, String::new()),
    };
    let out = walker.visit(pickle.root())?;
    walker.unseen()?;
    let (gaps, deepest) = (walker.gaps, walker.deepest);
    let (count, first) = walker.attributes;
    let mut walk = walker.walk;
    if count > 0 {
        walk.notes.push(format!(
            "tensors that are plain attributes of modules are left out, as state_dict() leaves them out: {count}, the first is {}",
            shown(&first)
        ));
    }
    if pickle.surrogates() > 0 {
        walk.notes.push(format!(
            "{} texts hold lone surrogates, which only Python allows; they are written as \\udc80",
            pickle.surrogates()
        ));
    }
    Ok(Walked { walk, plain: out.plain, tree: out.tree.filter(|_| !gaps), deepest })
}

impl<'a> Walker<'a> {
    fn visit(&mut self, id: Id) -> Result<ParsedValue> {
        self.charge_steps(1)?;
        if self.depth >= MAX_DEPTH {
            return Err(Error::refused(format!(
                "the checkpoint is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let pickle = self.pickle;
        let container = matches!(
            pickle.node(id),
            Node::Tuple(_)
                | Node::List(_)
                | Node::Dict(_)
                | Node::Set(_)
                | Node::Object(_)
                | Node::Persistent(_)
        );
        let (found, values, full) =
            (self.walk.found.len(), (self.values, self.value_bytes), self.is_full());
        if !container {
            let out = self.leaf(id);
            if !full {
                self.drop_oversized(values);
            }
            return Ok(out);
        }
        if self.open.contains(&id) {
            return Ok(ParsedValue::default()); // a value inside itself
        }
        self.open.push(id);
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let out = self.container(id);
        self.depth -= 1;
        self.open.pop();
        let mut out = out?;
        // A container without tensors is a plain value, too.
        let plain = self.walk.found.len() == found;
        if plain && !self.count(0) {
            out = ParsedValue::default();
        }
        if !full && self.drop_oversized(values) {
            self.gaps |= !plain;
            out.plain = None;
        }
        Ok(out)
    }

    fn leaf(&mut self, id: Id) -> ParsedValue {
        let pickle = self.pickle;
        let node = pickle.node(id);
        let bytes = match node {
            Node::Text(span) | Node::Bytes(span) | Node::Long(span) => pickle.span(*span).len(),
            Node::Owned(text) => text.len(),
            Node::Global(_) => pickle.global(id).map_or(0, str::len),
            _ => 0,
        };
        if !self.count(bytes) {
            return ParsedValue::default();
        }
        match node {
            Node::None => ParsedValue::same(Value::Null),
            Node::Bool(b) => ParsedValue::same(json!(b)),
            Node::Int(n) => ParsedValue::same(json!(n)),
            Node::Long(span) => {
                let bytes = pickle.span(*span);
                let number =
                    long_digits(bytes).and_then(|digits| digits.parse::<serde_json::Number>().ok());
                ParsedValue {
                    plain: number.map(Value::Number),
                    tree: Some(json!({"int": hex(bytes)})),
                }
            }
            Node::Float(f) => match serde_json::Number::from_f64(*f) {
                Some(number) => ParsedValue::same(Value::Number(number)),
                None => ParsedValue::both(json!(f.to_string()), json!({"float": f.to_string()})),
            },
            Node::Text(_) | Node::Owned(_) => {
                ParsedValue::same(json!(pickle.text(id).unwrap_or_default()))
            }
            Node::Bytes(span) => bytes_out(pickle.span(*span), "bytes"),
            Node::Global(_) => {
                let name = pickle.global(id).unwrap_or_default();
                let tree = name
                    .strip_prefix("torch.")
                    .filter(|n| is_torch_dtype(n))
                    .map(|n| json!({"dtype": n}));
                ParsedValue { plain: Some(json!(name)), tree }
            }
            _ => ParsedValue::default(),
        }
    }

    fn container(&mut self, id: Id) -> Result<ParsedValue> {
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::Dict(pairs) => self.dict(pairs, "dict"),
            Node::List(items) => self.list(items, "list"),
            Node::Tuple(items) => self.list(items, "tuple"),
            Node::Set(items) => self.list(items, "set"),
            Node::Persistent(pid) => match self.storage(id) {
                Err(error) => {
                    // A tar file's persistent ids name tensors.
                    let key = pickle
                        .short(*pid)
                        .map(str::to_string)
                        .or_else(|| pickle.int(*pid).map(|n| n.to_string()));
                    match key.and_then(|k| self.given.get(&k)).cloned() {
                        Some(tensor) => self.found(EntryKind::Tensor(tensor)),
                        None => self.found(EntryKind::Refused("persistent".into(), error)),
                    }
                }
                Ok((storage, class_dtype, first, numel)) => {
                    let dtype = class_dtype.unwrap_or(Dtype::U8);
                    self.found(EntryKind::Tensor(Tensor {
                        storage,
                        dtype,
                        logical: Logical::Plain,
                        offset: first,
                        shape: vec![numel],
                        strides: vec![1],
                        lazy_op: LazyOp::Plain,
                        untyped: class_dtype.is_none(),
                        requires_grad: false,
                        class: None,
                    }))
                }
            },
            Node::Object(object) => self.object(id, object),
            _ => Ok(ParsedValue::default()),
        }
    }

    /// The path so far with one more part; undone by truncating to the length returned.
    fn dict(&mut self, pairs: &[(Id, Id)], kind: &str) -> Result<ParsedValue> {
        let pickle = self.pickle;
        self.charge_steps(pairs.len())?;
        // Of a repeated key the last value counts, at the place of the first, as in Python.
        let mut order: Vec<(Id, Id)> = Vec::with_capacity(pairs.len());
        let mut seen: HashMap<keys::Key<'a>, usize> = HashMap::with_capacity(pairs.len());
        for &(key, value) in pairs {
            self.key_steps(key)?;
            match key_of(pickle, key).map(|k| seen.entry(k)) {
                Some(std::collections::hash_map::Entry::Occupied(e)) => order[*e.get()].1 = value,
                Some(std::collections::hash_map::Entry::Vacant(e)) => {
                    e.insert(order.len());
                    order.push((key, value));
                }
                None => order.push((key, value)),
            }
        }
        let (mut plain, mut tree) = (Attributes::new(), Vec::new());
        for (key, value) in order {
            let name = self.key_name(key)?;
            let (before, named) = (self.enter(&name), self.name_bytes);
            let out = self.visit(value);
            self.path.truncate(before);
            let out = out?;
            if self.name_bytes == named && (out.plain.is_some() || out.tree.is_some()) {
                self.keep_text(name.len())?;
            }
            if let Some(value) = out.plain {
                plain.insert(name, value);
            }
            if let Some(value) = out.tree
                && let Some(key) = key_tree(pickle, key, 0)
            {
                tree.push(Value::Array(vec![key, value]));
            }
        }
        Ok(ParsedValue {
            plain: (!plain.is_empty() || pairs.is_empty()).then_some(Value::Object(plain)),
            tree: Some(one(kind, Value::Array(tree))),
        })
    }

    fn list(&mut self, items: &[Id], kind: &str) -> Result<ParsedValue> {
        self.charge_steps(items.len())?;
        let (mut plain, mut tree) = (Vec::new(), Vec::new());
        for (i, &item) in items.iter().enumerate() {
            let before = self.enter(&i.to_string());
            let out = self.visit(item);
            self.path.truncate(before);
            let out = out?;
            if let Some(value) = out.plain {
                plain.push((i, value));
            }
            tree.push(out.tree.unwrap_or(Value::Null));
        }
        // With tensors among them, values keep their index.
        let plain = match plain.len() {
            n if n == items.len() => Some(plain.into_iter().map(|(_, v)| v).collect()),
            0 => None,
            _ => Some(Value::Object(plain.into_iter().map(|(i, v)| (i.to_string(), v)).collect())),
        };
        Ok(ParsedValue { plain, tree: Some(one(kind, Value::Array(tree))) })
    }
}

fn one(kind: &str, value: Value) -> Value {
    Value::Object(std::iter::once((kind.to_string(), value)).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
