//! From a checkpoint's pickle to named tensors and the plain values beside them.
//!
//! | in the pickle | becomes |
//! |---|---|
//! | dict, OrderedDict, Counter, defaultdict, argparse.Namespace, list, tuple, set | walked; names are joined with `.` |
//! | `_rebuild_tensor`, `_v2`, `_v3`, `_rebuild_parameter*`, `_rebuild_from_type*` | a tensor |
//! | a storage by itself; numpy arrays and scalars | an array |
//! | an object with `_parameters` and `_modules`, a TorchScript object | the entries of its `state_dict()` |
//! | None, bool, int, float, text, bytes, complex, Decimal, paths, torch.Size, device, dtype, layout, bare names | metadata |
//! | quantized, sparse, nested and meta tensors, any other call | listed, refused by name |
//! | calls that none of these leads to: dropped again, a key, an attribute | listed, refused by name |
//!
//! The walk is bounded: 100 levels, a number of steps in proportion to the pickle, a million names.
//! Whatever a small pickle can repeat (keys, names, the items of a shared list) is counted before
//! it is looked at or copied.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::{Value, json};

mod keys;
mod module;
mod numpy;
mod object;
mod storage;
mod tensor;
mod unseen;

pub(super) use storage::{claim_listed, is_torch_dtype, storage_dtype};

use keys::{key_of, key_tree};
use numpy::Raw;
use object::bytes_out;

use super::{hostile, structure};
use crate::codec::pickle::{Id, Node, Pickle, long_digits, shown};
use crate::error::{Error, Result};
use crate::format::OnDuplicate;
use crate::format::duplicates;
use crate::model::{Attributes, Dtype, Logical};
use crate::storage::BlobSlice;

/// What is done to the values after the strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flip {
    Plain,
    Conjugate,
    Negate,
    /// Conjugated, then negated.
    NegateConjugate,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Index into [`Walk::storages`].
    pub storage: usize,
    pub dtype: Dtype,
    pub logical: Logical,
    /// In elements, as the strides.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub flip: Flip,
    /// Lies in an untyped storage. torch.load turns the bytes of a typed storage around where the
    /// archive's byte order is another one, those of an untyped one never; so it is done here.
    pub untyped: bool,
    pub requires_grad: bool,
    pub class: Option<String>,
}

/// A numpy array inside the pickle.
pub(super) struct Numpy {
    pub dtype: Dtype,
    pub logical: Logical,
    pub shape: Vec<u64>,
    /// In elements.
    pub strides: Vec<u64>,
    pub big_endian: bool,
    /// Shared by all arrays over the same bytes of the pickle.
    pub bytes: BlobSlice,
    pub requires_grad: bool,
    /// Where `bytes` are from.
    raw: Raw,
}

/// Something that the walk found.
pub(super) enum Thing {
    Tensor(Tensor),
    Numpy(Numpy),
    /// Cannot be read: what it is, and why.
    Refused(String, Error),
}

pub(super) struct Found {
    pub name: String,
    pub thing: Thing,
}

/// A storage that tensors ask for.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub bytes: u64,
    pub item_bytes: u64,
}

/// All that a checkpoint holds.
#[derive(Default)]
pub(super) struct Walk {
    pub found: Vec<Found>,
    pub storages: IndexMap<String, Claim>,
    /// Plain values, nested as in the checkpoint.
    pub attributes: Attributes,
    /// How the checkpoint was nested, where names alone do not tell.
    pub structure: Option<Value>,
    pub notes: Vec<String>,
    /// Whether anything like a tensor was there, readable or not.
    pub tensors: usize,
}

const MAX_DEPTH: usize = 100;
const MAX_ARRAYS: usize = 1 << 20;
const MAX_NAME_BYTES: usize = 32 << 20;
/// What a refusal takes beside its name.
const REFUSAL_BYTES: usize = 256;
/// What a dimension takes, past those that tensors have.
const RANK_BYTES: usize = 32;
const MAX_NOTES: usize = 100;
const MAX_VALUES: usize = 200_000;
const MAX_VALUE_BYTES: usize = 16 << 20;
const MAX_STRUCTURE_DEPTH: usize = 25;

/// A value on its way out: as metadata, and as part of the structure.
#[derive(Default)]
struct Out {
    plain: Option<Value>,
    tree: Option<Value>,
}

impl Out {
    fn both(plain: Value, tree: Value) -> Out {
        Out { plain: Some(plain), tree: Some(tree) }
    }
    fn same(value: Value) -> Out {
        Out { plain: Some(value.clone()), tree: Some(value) }
    }
}

struct Walker<'a> {
    pickle: &'a Pickle,
    /// Tensors by persistent id (tar files).
    given: &'a HashMap<String, Tensor>,
    stem: &'a str,
    walk: Walk,
    path: String,
    depth: usize,
    deepest: usize,
    visits: u64,
    name_bytes: usize,
    /// Names given: which of the found has it, and the number that its next namesake gets.
    names: HashMap<String, (usize, u32)>,
    on_duplicate: OnDuplicate,
    values: usize,
    value_bytes: usize,
    open: Vec<Id>,
    /// Bytes that were copied out of the pickle, once for all arrays over them, and as bfloat16.
    copies: HashMap<(Raw, bool), BlobSlice>,
    /// What was refused or passed over knowingly: nothing in it is unseen.
    excused: Vec<Id>,
    /// Whether plain values were dropped from among tensors.
    gaps: bool,
    /// Tensors that are plain attributes of modules: how many, and one of them.
    attributes: (usize, String),
}

/// Walks a pickle. `storages` and `given` are what the container already knows (tar files), `stem`
/// names what has no name.
///
/// # Errors
/// Refused where it is nested too deep or too large, or asks for what runs code; the first refusal
/// where no tensor is found; missing.
pub(super) fn walk(
    pickle: &Pickle,
    given: &HashMap<String, Tensor>,
    storages: IndexMap<String, Claim>,
    stem: &str,
    on_duplicate: OnDuplicate,
) -> Result<Walk> {
    hostile::check(pickle)?;
    let mut walker = Walker {
        pickle,
        given,
        stem,
        walk: Walk { storages, ..Walk::default() },
        path: String::new(),
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
        excused: Vec::new(),
        gaps: false,
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
    if walk.tensors == 0 {
        let first = walk.found.into_iter().find_map(|f| match f.thing {
            // Without its hint: nothing would be left.
            Thing::Refused(_, error) => Some(error.without_hint()),
            _ => None,
        });
        return Err(first.unwrap_or_else(|| Error::missing("this checkpoint has no tensors")));
    }
    match out.plain {
        Some(Value::Object(map)) => walk.attributes = map,
        Some(Value::Array(items)) => {
            walk.attributes =
                items.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
        }
        _ => {}
    }
    if let Some(tree) = out.tree.filter(|t| !gaps && !structure::is_flat(t)) {
        if deepest > MAX_STRUCTURE_DEPTH {
            walk.notes
                .push(format!("the checkpoint is nested {deepest} levels deep; its structure is not kept beyond {MAX_STRUCTURE_DEPTH}"));
        } else {
            walk.structure = Some(tree);
        }
    }
    Ok(walk)
}

fn refused_global(name: &str) -> Error {
    Error::refused(format!("the pickle asks for {}, which is not among the constructors that are known; nothing was run", shown(name)))
        .hint("--skip-unsupported leaves it out")
}

impl<'a> Walker<'a> {
    fn is_full(&self) -> bool {
        self.values > MAX_VALUES || self.value_bytes > MAX_VALUE_BYTES
    }

    /// Counts a plain value; `false` once there are too many to keep.
    fn count(&mut self, bytes: usize) -> bool {
        self.values += 1;
        self.value_bytes = self.value_bytes.saturating_add(bytes);
        !self.is_full()
    }

    /// Gives back the room of the values counted since then, if they are a good part of all there
    /// is room for: one long list is left out, not everything.
    fn relieve(&mut self, (values, value_bytes): (usize, usize)) -> bool {
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
    fn spend(&mut self, steps: usize) -> Result<()> {
        self.visits = self.visits.saturating_add(steps as u64);
        if self.visits > 4 * self.pickle.len() as u64 + 1000 {
            return Err(Error::refused("the pickle repeats its own parts without end"));
        }
        Ok(())
    }

    /// Counts text that is kept: names, and keys beside which no name counts.
    fn keep_text(&mut self, bytes: usize) -> Result<()> {
        self.name_bytes = self.name_bytes.saturating_add(bytes);
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(Error::refused(format!(
                "the checkpoint has names and keys of more than {} MiB",
                MAX_NAME_BYTES >> 20
            )));
        }
        Ok(())
    }

    fn visit(&mut self, id: Id) -> Result<Out> {
        self.spend(1)?;
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
                self.relieve(values);
            }
            return Ok(out);
        }
        if self.open.contains(&id) {
            return Ok(Out::default()); // a value inside itself
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
            out = Out::default();
        }
        if !full && self.relieve(values) {
            self.gaps |= !plain;
            out.plain = None;
        }
        Ok(out)
    }

    fn leaf(&mut self, id: Id) -> Out {
        let pickle = self.pickle;
        let node = pickle.node(id);
        let bytes = match node {
            Node::Text(span) | Node::Bytes(span) | Node::Long(span) => pickle.span(*span).len(),
            Node::Owned(text) => text.len(),
            Node::Global(_) => pickle.global(id).map_or(0, str::len),
            _ => 0,
        };
        if !self.count(bytes) {
            return Out::default();
        }
        match node {
            Node::None => Out::same(Value::Null),
            Node::Bool(b) => Out::same(json!(b)),
            Node::Int(n) => Out::same(json!(n)),
            Node::Long(span) => {
                let bytes = pickle.span(*span);
                let number =
                    long_digits(bytes).and_then(|digits| digits.parse::<serde_json::Number>().ok());
                Out { plain: number.map(Value::Number), tree: Some(json!({"int": hex(bytes)})) }
            }
            Node::Float(f) => match serde_json::Number::from_f64(*f) {
                Some(number) => Out::same(Value::Number(number)),
                None => Out::both(json!(f.to_string()), json!({"float": f.to_string()})),
            },
            Node::Text(_) | Node::Owned(_) => Out::same(json!(pickle.text(id).unwrap_or_default())),
            Node::Bytes(span) => bytes_out(pickle.span(*span), "bytes"),
            Node::Global(_) => {
                let name = pickle.global(id).unwrap_or_default();
                let tree = name
                    .strip_prefix("torch.")
                    .filter(|n| is_torch_dtype(n))
                    .map(|n| json!({"dtype": n}));
                Out { plain: Some(json!(name)), tree }
            }
            _ => Out::default(),
        }
    }

    fn container(&mut self, id: Id) -> Result<Out> {
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
                        Some(tensor) => self.found(Thing::Tensor(tensor)),
                        None => self.found(Thing::Refused("persistent".into(), error)),
                    }
                }
                Ok((storage, class_dtype, first, numel)) => {
                    let dtype = class_dtype.unwrap_or(Dtype::U8);
                    self.found(Thing::Tensor(Tensor {
                        storage,
                        dtype,
                        logical: Logical::Plain,
                        offset: first,
                        shape: vec![numel],
                        strides: vec![1],
                        flip: Flip::Plain,
                        untyped: class_dtype.is_none(),
                        requires_grad: false,
                        class: None,
                    }))
                }
            },
            Node::Object(object) => self.object(id, object),
            _ => Ok(Out::default()),
        }
    }

    /// The path so far with one more part; undone by truncating to the length returned.
    fn enter(&mut self, part: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(part);
        before
    }

    fn dict(&mut self, pairs: &[(Id, Id)], kind: &str) -> Result<Out> {
        let pickle = self.pickle;
        self.spend(pairs.len())?;
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
        Ok(Out {
            plain: (!plain.is_empty() || pairs.is_empty()).then_some(Value::Object(plain)),
            tree: Some(one(kind, Value::Array(tree))),
        })
    }

    fn list(&mut self, items: &[Id], kind: &str) -> Result<Out> {
        self.spend(items.len())?;
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
        Ok(Out { plain, tree: Some(one(kind, Value::Array(tree))) })
    }

    /// Adds what was found under the path so far.
    fn found(&mut self, thing: Thing) -> Result<Out> {
        let name = match self.path.as_str() {
            "" if self.depth <= 1 => self.stem.to_string(),
            "" => "unnamed".to_string(),
            path => path.to_string(),
        };
        self.keep_text(name.len())?;
        self.keep_text(match &thing {
            Thing::Tensor(tensor) => {
                tensor.class.as_ref().map_or(0, String::len)
                    + tensor.shape.len().saturating_sub(8) * RANK_BYTES
            }
            Thing::Numpy(array) => array.shape.len().saturating_sub(8) * RANK_BYTES,
            Thing::Refused(what, _) => what.len() + REFUSAL_BYTES,
        })?;
        if self.walk.found.len() >= MAX_ARRAYS {
            return Err(Error::refused(format!(
                "the checkpoint has more than {MAX_ARRAYS} arrays"
            )));
        }
        let (mut name, mut thing) = (name, thing);
        if let Some((index, next)) = self.names.get_mut(&name) {
            match self.on_duplicate {
                OnDuplicate::First => return Ok(Out::default()),
                OnDuplicate::Last => {
                    let index = *index;
                    let out = Out { plain: None, tree: Some(json!({"tensor": name})) };
                    self.walk.found[index].thing = thing;
                    return Ok(out);
                }
                OnDuplicate::Error => {
                    let message = "two entries of the checkpoint have this name: one nested and one with a dot in its key, or keys that print alike";
                    let error = Error::refused(message).hint(duplicates::HINT);
                    thing = Thing::Refused("tensor".into(), error);
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
        let tree = match &thing {
            Thing::Tensor(_) | Thing::Numpy(_) => Some(json!({"tensor": name})),
            Thing::Refused(..) => None,
        };
        let like_tensor = match &thing {
            Thing::Refused(what, _) => {
                what == "tensor" || what.ends_with(" tensor") || what == "numpy array"
            }
            _ => true,
        };
        self.walk.tensors += usize::from(like_tensor);
        self.walk.found.push(Found { name, thing });
        Ok(Out { plain: None, tree })
    }
}

fn one(kind: &str, value: Value) -> Value {
    Value::Object(std::iter::once((kind.to_string(), value)).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
