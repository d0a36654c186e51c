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
//!
//! The walk is bounded: 100 levels, a number of visits in proportion to the pickle, a million names.

use std::collections::HashMap;

use base64::Engine;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::structure;
use crate::codec::pickle::{Id, Node, Object, Pickle, long_digits, shown};
use crate::error::{Error, Result};
use crate::format::OnDuplicate;
use crate::model::{Attributes, Dtype, Logical, TimeUnit, checked_product};

/// What is done to the values behind the strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flip {
    Plain,
    Conjugate,
    Negate,
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
    /// Lies in an untyped storage. torch.load turns the bytes of a typed storage around where the archive's byte order
    /// is another one, those of an untyped one never; so it is done here.
    pub untyped: bool,
    pub requires_grad: bool,
    pub class: Option<String>,
}

/// A numpy array inside the pickle.
pub(super) struct Numpy {
    pub dtype: Dtype,
    pub logical: Logical,
    pub shape: Vec<u64>,
    pub fortran: bool,
    pub big_endian: bool,
    pub bytes: Vec<u8>,
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
const MAX_NAME_BYTES: usize = 256 << 20;
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
}

/// Walks a pickle. `storages` and `given` are what the container already knows (tar files), `stem` names what has no name.
///
/// # Errors
/// Refused where it is nested too deep or too large; the first refusal where no tensor is found; missing.
pub(super) fn walk(
    pickle: &Pickle,
    given: &HashMap<String, Tensor>,
    storages: IndexMap<String, Claim>,
    stem: &str,
    on_duplicate: OnDuplicate,
) -> Result<Walk> {
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
    };
    let out = walker.visit(pickle.root())?;
    let (full, deepest) = (walker.is_full(), walker.deepest);
    let mut walk = walker.walk;
    if walk.tensors == 0 {
        let first = walk.found.into_iter().find_map(|f| match f.thing {
            Thing::Refused(_, error) => Some(error),
            _ => None,
        });
        return Err(first.unwrap_or_else(|| Error::missing("there is no tensor in this checkpoint")));
    }
    if full {
        walk.notes.push(format!("the checkpoint has more than {MAX_VALUES} plain values; they are left out"));
        return Ok(walk);
    }
    match out.plain {
        Some(Value::Object(map)) => walk.attributes = map,
        Some(Value::Array(items)) => walk.attributes = items.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => {}
    }
    if let Some(tree) = out.tree.filter(|t| !structure::is_flat(t)) {
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

    fn visit(&mut self, id: Id) -> Result<Out> {
        self.visits += 1;
        if self.visits > 4 * self.pickle.len() as u64 + 1000 {
            return Err(Error::refused("the pickle repeats its own parts without end"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(Error::refused(format!("the checkpoint is nested deeper than {MAX_DEPTH} levels")));
        }
        let pickle = self.pickle;
        let container = matches!(
            pickle.node(id),
            Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Set(_) | Node::Object(_) | Node::Persistent(_)
        );
        if !container {
            return Ok(self.leaf(id));
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
        out
    }

    fn leaf(&mut self, id: Id) -> Out {
        let pickle = self.pickle;
        let node = pickle.node(id);
        let bytes = match node {
            Node::Text(span) | Node::Bytes(span) | Node::Long(span) => pickle.span(*span).len(),
            Node::Owned(text) => text.len(),
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
                let number = long_digits(bytes).and_then(|digits| digits.parse::<serde_json::Number>().ok());
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
                let tree = name.strip_prefix("torch.").filter(|n| is_torch_dtype(n)).map(|n| json!({"dtype": n}));
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
                    let key = pickle.text(*pid).map(str::to_string).or_else(|| pickle.int(*pid).map(|n| n.to_string()));
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
        // Of a repeated key the last value counts, at the place of the first, as in Python.
        let mut order: Vec<(Id, Id)> = Vec::with_capacity(pairs.len());
        let mut seen: HashMap<Key<'a>, usize> = HashMap::with_capacity(pairs.len());
        for &(key, value) in pairs {
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
            let name = key_name(pickle, key, 0);
            let before = self.enter(&name);
            let out = self.visit(value);
            self.path.truncate(before);
            let out = out?;
            if let Some(value) = out.plain {
                plain.insert(name, value);
            }
            if let Some(value) = out.tree
                && let Some(key) = key_tree(pickle, key, 0)
            {
                tree.push(json!([key, value]));
            }
        }
        Ok(Out { plain: (!plain.is_empty() || pairs.is_empty()).then_some(Value::Object(plain)), tree: Some(json!({ kind: tree })) })
    }

    fn list(&mut self, items: &[Id], kind: &str) -> Result<Out> {
        let (mut plain, mut tree, mut indexed) = (Vec::new(), Vec::new(), Attributes::new());
        for (i, &item) in items.iter().enumerate() {
            let before = self.enter(&i.to_string());
            let out = self.visit(item);
            self.path.truncate(before);
            let out = out?;
            if let Some(value) = out.plain {
                indexed.insert(i.to_string(), value.clone());
                plain.push(value);
            }
            tree.push(out.tree.unwrap_or(Value::Null));
        }
        // With tensors among them, values keep their index.
        let plain = match plain.len() {
            n if n == items.len() => Some(Value::Array(plain)),
            0 => None,
            _ => Some(Value::Object(indexed)),
        };
        Ok(Out { plain, tree: Some(if kind == "list" { json!({"list": tree}) } else { json!({ kind: tree }) }) })
    }

    /// The name of what an object would have called.
    fn called(&self, object: &Object) -> String {
        let pickle = self.pickle;
        if let Some(name) = pickle.global(object.callable) {
            return name.to_string();
        }
        // Old pickles of modules keep their class with its source: ('module', class, file, source).
        if let Node::Persistent(pid) = pickle.node(object.callable)
            && let Some(parts) = pickle.tuple(*pid)
            && parts.len() > 1
            && let Some(name) = pickle.global(parts[1])
        {
            return name.to_string();
        }
        let mut inner = object;
        for _ in 0..MAX_DEPTH {
            match pickle.object(inner.callable) {
                Some(next) => inner = next,
                None => break,
            }
        }
        pickle.global(inner.callable).map_or_else(|| "something that is no name".into(), |n| format!("the result of {n}"))
    }

    fn object(&mut self, id: Id, object: &Object) -> Result<Out> {
        let pickle = self.pickle;
        let name = self.called(object);
        let args = pickle.tuple(object.args).unwrap_or_default();
        let first = args.first().copied();
        if let Some(thing) = self.tensor(&name, args) {
            let mut thing = thing.unwrap_or_else(|error| Thing::Refused("tensor".into(), error));
            if let (Thing::Tensor(t), "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state") =
                (&mut thing, name.as_str())
            {
                t.class = None;
            }
            return self.found(thing);
        }
        match name.as_str() {
            "collections.OrderedDict" | "collections.defaultdict" | "collections.Counter" | "builtins.dict" => {
                let mut pairs = Vec::new();
                if name != "collections.defaultdict"
                    && let Some(first) = first
                {
                    pairs = match pickle.node(first) {
                        Node::Dict(given) => given.clone(),
                        _ => pickle
                            .tuple(first)
                            .unwrap_or_default()
                            .iter()
                            .filter_map(|&p| pickle.tuple(p).filter(|p| p.len() == 2).map(|p| (p[0], p[1])))
                            .collect(),
                    };
                }
                pairs.extend_from_slice(&object.pairs);
                self.dict(&pairs, if name == "collections.OrderedDict" { "OrderedDict" } else { "dict" })
            }
            "argparse.Namespace" | "types.SimpleNamespace" => match object.state.map(|s| pickle.node(s)) {
                Some(Node::Dict(pairs)) => self.dict(pairs, "dict"),
                _ => self.dict(&[], "dict"),
            },
            "builtins.set" | "builtins.frozenset" | "builtins.list" | "builtins.tuple" => {
                let kind = &name["builtins.".len()..];
                let mut items = first.and_then(|f| pickle.tuple(f)).unwrap_or_default().to_vec();
                items.extend_from_slice(&object.items);
                self.list(&items, kind)
            }
            "torch.Size" => {
                let items = first.and_then(|f| pickle.tuple(f)).unwrap_or_default();
                self.list(items, "Size")
            }
            "torch.device" => {
                let parts: Vec<Value> = args
                    .iter()
                    .take(2)
                    .filter_map(|&a| pickle.text(a).map(|t| json!(t)).or_else(|| pickle.int(a).map(|n| json!(n))))
                    .collect();
                let text: Vec<String> = parts.iter().map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_string)).collect();
                Ok(Out::both(json!(text.join(":")), json!({"device": parts})))
            }
            "torch.serialization._get_layout" | "decimal.Decimal" => {
                let text = first.and_then(|f| pickle.text(f)).unwrap_or_default();
                Ok(if name.starts_with("torch") { Out::both(json!(text), json!({"layout": text})) } else { Out::same(json!(text)) })
            }
            "pathlib.PosixPath"
            | "pathlib.PurePosixPath"
            | "pathlib.WindowsPath"
            | "pathlib.PureWindowsPath"
            | "pathlib.Path"
            | "pathlib._local.PosixPath"
            | "pathlib._local.PurePosixPath" => {
                let parts: Vec<&str> = args.iter().filter_map(|&a| pickle.text(a)).collect();
                let text = match parts.split_first() {
                    Some((&"/", rest)) => format!("/{}", rest.join("/")),
                    _ => parts.join("/"),
                };
                Ok(Out::same(json!(text)))
            }
            "builtins.complex" => {
                let number = |a: Option<&Id>| match a.map(|&a| pickle.node(a)) {
                    Some(Node::Float(f)) => *f,
                    Some(Node::Int(n)) => *n as f64,
                    _ => 0.0,
                };
                let (re, im) = (number(args.first()), number(args.get(1)));
                let tree = json!({"complex": [re.to_string(), im.to_string()]});
                let sign = if im.is_sign_negative() { "" } else { "+" };
                Ok(Out::both(json!(format!("{re}{sign}{im}j")), tree))
            }
            "_codecs.encode" | "builtins.bytes" | "builtins.bytearray" => match self.bytes_of(id, 0) {
                Some(bytes) if self.count(bytes.len()) => {
                    Ok(bytes_out(&bytes, if name == "builtins.bytearray" { "bytearray" } else { "bytes" }))
                }
                Some(_) => Ok(Out::default()),
                None => self.found(Thing::Refused(name.clone(), refused_global(&name))),
            },
            "numpy.dtype" => Ok(Out { plain: first.and_then(|f| pickle.text(f)).map(|t| json!(t)), tree: None }),
            "torch.jit._pickle.build_intlist"
            | "torch.jit._pickle.build_doublelist"
            | "torch.jit._pickle.build_boollist"
            | "torch.jit._pickle.build_tensorlist"
            | "torch.jit._pickle.restore_type_tag" => match first {
                Some(first) => self.visit(first),
                None => Ok(Out::default()),
            },
            _ => self.other(&name, object),
        }
    }

    /// A module, a TorchScript object, or a thing to refuse.
    fn other(&mut self, name: &str, object: &Object) -> Result<Out> {
        let pickle = self.pickle;
        let state = object.state.map(|s| pickle.node(s));
        if let Some(Node::Dict(state)) = state {
            let script = name.starts_with("__torch__.");
            if script || (pickle.get(state, "_parameters").is_some() && pickle.get(state, "_modules").is_some()) {
                let mut entries = Vec::new();
                self.module(state, script, &mut String::new(), &mut entries)?;
                return Ok(Out { plain: None, tree: Some(json!({"OrderedDict": entries})) });
            }
        }
        self.found(Thing::Refused(name.to_string(), refused_global(name)))
    }

    fn pairs_of(&self, id: Id) -> Vec<(Id, Id)> {
        match self.pickle.node(id) {
            Node::Dict(pairs) => pairs.clone(),
            Node::Object(object) => object.pairs.clone(),
            _ => Vec::new(),
        }
    }

    /// The entries of a module's `state_dict()`.
    fn module(&mut self, state: &[(Id, Id)], script: bool, prefix: &mut String, entries: &mut Vec<Value>) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::refused(format!("the module is nested deeper than {MAX_DEPTH} levels")));
        }
        let pickle = self.pickle;
        let (mut tensors, mut modules) = (Vec::new(), Vec::new());
        if script {
            for &(key, value) in state {
                let is_module = pickle.object(value).is_some_and(|o| matches!(o.state.map(|s| pickle.node(s)), Some(Node::Dict(_))));
                let is_tensor = pickle.object(value).is_some_and(|o| self.called(o).starts_with("torch._"));
                if is_module {
                    modules.push((key, value));
                } else if is_tensor {
                    tensors.push((key, value));
                }
            }
        } else {
            let part = |key: &str| pickle.get(state, key).map(|id| self.pairs_of(id)).unwrap_or_default();
            tensors = part("_parameters");
            let hidden: Vec<&str> = match pickle.get(state, "_non_persistent_buffers_set").map(|id| pickle.node(id)) {
                Some(Node::Set(items)) => items.iter().filter_map(|&i| pickle.text(i)).collect(),
                Some(Node::Object(object)) => {
                    let args = pickle.tuple(object.args).unwrap_or_default();
                    args.first().and_then(|&a| pickle.tuple(a)).unwrap_or_default().iter().filter_map(|&i| pickle.text(i)).collect()
                }
                _ => Vec::new(),
            };
            tensors.extend(part("_buffers").into_iter().filter(|(k, _)| pickle.text(*k).is_none_or(|k| !hidden.contains(&k))));
            modules = part("_modules");
        }
        for (is_module, (key, value)) in tensors.into_iter().map(|p| (false, p)).chain(modules.into_iter().map(|p| (true, p))) {
            if matches!(pickle.node(value), Node::None) {
                continue;
            }
            let name = key_name(pickle, key, 0);
            let before = self.enter(&name);
            let prefix_before = prefix.len();
            if !prefix.is_empty() {
                prefix.push('.');
            }
            prefix.push_str(&name);
            let inner = pickle.object(value).and_then(|o| o.state).map(|s| pickle.node(s));
            let done = match inner {
                Some(Node::Dict(inner)) if is_module => {
                    if self.open.contains(&value) {
                        Ok(())
                    } else {
                        self.visits += 1;
                        self.open.push(value);
                        self.depth += 1;
                        let done = if self.visits > 4 * pickle.len() as u64 + 1000 {
                            Err(Error::refused("the pickle repeats its own parts without end"))
                        } else {
                            self.module(inner, script, prefix, entries)
                        };
                        self.depth -= 1;
                        self.open.pop();
                        done
                    }
                }
                _ => self.visit(value).map(|out| {
                    if let Some(tree) = out.tree {
                        entries.push(json!([prefix.as_str(), tree]));
                    }
                }),
            };
            prefix.truncate(prefix_before);
            self.path.truncate(before);
            done?;
        }
        Ok(())
    }

    /// Adds what was found under the path so far.
    fn found(&mut self, thing: Thing) -> Result<Out> {
        let name = match self.path.as_str() {
            "" if self.depth <= 1 => self.stem.to_string(),
            "" => "unnamed".to_string(),
            path => path.to_string(),
        };
        self.name_bytes += name.len();
        if self.walk.found.len() >= MAX_ARRAYS || self.name_bytes > MAX_NAME_BYTES {
            return Err(Error::refused(format!("the checkpoint has more than {MAX_ARRAYS} arrays, or names of more than 256 MiB")));
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
                    let message =
                        "two entries of the checkpoint have this name: one nested and one with a dot in its key, or keys that print alike";
                    let error = Error::refused(message).hint("--on-duplicate rename|first|last");
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
            Thing::Refused(what, _) => what == "tensor" || what.ends_with(" tensor") || what == "numpy array",
            _ => true,
        };
        self.walk.tensors += usize::from(like_tensor);
        self.walk.found.push(Found { name, thing });
        Ok(Out { plain: None, tree })
    }

    /// `bytes`, in any of the ways in which they are pickled.
    fn bytes_of(&self, id: Id, depth: usize) -> Option<Vec<u8>> {
        let pickle = self.pickle;
        if depth > 4 {
            return None;
        }
        match pickle.node(id) {
            Node::Bytes(span) | Node::Text(span) => Some(pickle.span(*span).to_vec()),
            Node::Owned(text) => latin1(text),
            Node::Object(object) => {
                let args = pickle.tuple(object.args)?;
                match (pickle.global(object.callable)?, args) {
                    ("_codecs.encode", [text, ..]) => latin1(pickle.text(*text)?),
                    ("builtins.bytes" | "builtins.bytearray", []) => Some(Vec::new()),
                    ("builtins.bytearray", [text, _]) => latin1(pickle.text(*text)?),
                    ("builtins.bytes" | "builtins.bytearray", [inner]) => self.bytes_of(*inner, depth + 1),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A persistent id that is a storage: its index, its class's dtype (none: untyped, counted in bytes), the first
    /// element of the view and how many there are.
    fn storage(&mut self, id: Id) -> Result<(usize, Option<Dtype>, u64, u64)> {
        let pickle = self.pickle;
        let broken = || Error::corrupt("a persistent id of the pickle is no storage");
        let Node::Persistent(pid) = pickle.node(id) else { return Err(broken()) };
        let parts = pickle.tuple(*pid).filter(|p| p.len() >= 5).ok_or_else(broken)?;
        if pickle.text(parts[0]) != Some("storage") {
            return Err(broken());
        }
        let class = pickle.global(parts[1]).ok_or_else(broken)?;
        let key = pickle.text(parts[2]).map(str::to_string).or_else(|| pickle.int(parts[2]).map(|n| n.to_string())).ok_or_else(broken)?;
        let numel = pickle.int(parts[4]).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| Error::corrupt("a storage of negative size"))?;
        let dtype = storage_dtype(class)?;
        let item_bytes = dtype.map_or(1, Dtype::item_bytes);
        let bytes = numel
            .checked_mul(item_bytes)
            .ok_or_else(|| Error::corrupt(format!("the storage {} of {numel} elements is too large", shown(&key))))?;
        let (mut first, mut count) = (0, numel);
        if let Some(view) = parts.get(5).and_then(|&v| pickle.tuple(v)) {
            let number = |i: usize| view.get(i).and_then(|&v| pickle.int(v)).and_then(|n| u64::try_from(n).ok()).ok_or_else(broken);
            (first, count) = (number(1)?, number(2)?);
            if first.checked_add(count).is_none_or(|end| end > numel) {
                return Err(Error::corrupt(format!("a view of {count} elements from {first} in a storage of {numel}")));
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
            None => self.walk.storages.insert_full(key, Claim { bytes, item_bytes }).0,
        };
        Ok((index, dtype, first, count))
    }

    /// Shapes and strides: a tuple, list or `torch.Size`.
    fn dims(&self, id: Id, what: &str) -> Result<Vec<u64>> {
        let pickle = self.pickle;
        let items = match pickle.object(id) {
            Some(object) => pickle.tuple(object.args).and_then(|a| a.first()).and_then(|&a| pickle.tuple(a)),
            None => pickle.tuple(id),
        }
        .ok_or_else(|| Error::corrupt(format!("a tensor's {what} is no tuple")))?;
        if items.len() > 64 {
            return Err(Error::corrupt(format!("a tensor of {} dimensions; torch has at most 64", items.len())));
        }
        items
            .iter()
            .map(|&i| match pickle.int(i) {
                Some(n) => u64::try_from(n).map_err(|_| Error::corrupt(format!("a tensor's {what} holds {n}"))),
                None => Err(Error::corrupt(format!("a tensor's {what} holds what is no number"))),
            })
            .collect()
    }

    /// What this call builds, if it is a tensor of some kind.
    fn tensor(&mut self, name: &str, args: &[Id]) -> Option<Result<Thing>> {
        let function = name
            .strip_prefix("torch._utils.")
            .or_else(|| name.strip_prefix("torch._tensor."))
            .or_else(|| name.strip_prefix("torch.tensor."));
        let refused = |what: &str| {
            let error = Error::refused(format!("it is a {what} tensor ({name}), which other formats do not have"))
                .hint("--skip-unsupported leaves it out");
            Some(Ok(Thing::Refused(format!("{what} tensor"), error)))
        };
        match function {
            Some("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Some(self.strided(name, args)),
            Some("_rebuild_parameter" | "_rebuild_parameter_with_state" | "_rebuild_device_tensor_from_cpu_tensor") => {
                let grad = args.get(1).is_some_and(|&g| self.pickle.int(g) == Some(1));
                self.inner(args.first(), name).map(|r| {
                    r.map(|mut thing| {
                        if let Thing::Tensor(t) = &mut thing {
                            t.requires_grad |= grad;
                        }
                        thing
                    })
                })
            }
            Some("_rebuild_from_type" | "_rebuild_from_type_v2") => {
                let [function, class, inner, ..] = args else {
                    return Some(Err(Error::corrupt(format!("{name} has {} arguments", args.len()))));
                };
                let function = self.pickle.global(*function).unwrap_or_default().to_string();
                if function == name {
                    return Some(Err(Error::corrupt(format!("{name} builds itself"))));
                }
                let class = self.pickle.global(*class).map(str::to_string).filter(|c| c != "torch.Tensor" && c != "torch._tensor.Tensor");
                let inner = self.pickle.tuple(*inner).unwrap_or_default();
                let known = function.starts_with("torch._") && !function.contains("_from_type");
                match known.then(|| self.tensor(&function, inner)).flatten() {
                    Some(thing) => Some(thing.map(|mut thing| {
                        if let Thing::Tensor(t) = &mut thing {
                            t.class = class;
                        }
                        thing
                    })),
                    None => Some(Ok(Thing::Refused(name.into(), refused_global(&function)))),
                }
            }
            Some("_rebuild_qtensor") => refused("quantized"),
            Some("_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => refused("sparse"),
            Some("_rebuild_nested_tensor") => refused("nested"),
            Some("_rebuild_meta_tensor_no_storage") => {
                let error = Error::refused(format!("it is a meta tensor ({name}): it has a shape, but no values"))
                    .hint("--skip-unsupported leaves it out");
                Some(Ok(Thing::Refused("meta tensor".into(), error)))
            }
            Some("_rebuild_wrapper_subclass") => refused("wrapped"),
            Some("_rebuild_device_tensor_from_numpy" | "_rebuild_xla_tensor") => self.inner(args.first(), name),
            _ => self.numpy(name, args),
        }
    }

    /// The tensor that is another call's argument.
    fn inner(&mut self, arg: Option<&Id>, name: &str) -> Option<Result<Thing>> {
        let pickle = self.pickle;
        let broken = || Some(Err(Error::corrupt(format!("{name} is given no tensor"))));
        let Some(&id) = arg else { return broken() };
        let Some(object) = pickle.object(id) else {
            // A tar file's persistent id.
            if let Node::Persistent(pid) = pickle.node(id)
                && let Some(tensor) = pickle.text(*pid).and_then(|k| self.given.get(k))
            {
                return Some(Ok(Thing::Tensor(tensor.clone())));
            }
            return broken();
        };
        if self.depth >= MAX_DEPTH || self.open.contains(&id) {
            return broken();
        }
        let called = self.called(object);
        let args = pickle.tuple(object.args).unwrap_or_default();
        self.open.push(id);
        self.depth += 1;
        let thing = match object.state.filter(|_| is_numpy(&called, "_reconstruct")) {
            Some(state) => Some(self.reconstructed(state)),
            None => self.tensor(&called, args),
        };
        self.depth -= 1;
        self.open.pop();
        thing.or_else(broken)
    }

    fn strided(&mut self, name: &str, args: &[Id]) -> Result<Thing> {
        let pickle = self.pickle;
        let v3 = name.ends_with("_v3");
        if args.len() < if v3 { 7 } else { 4 } {
            return Err(Error::corrupt(format!("{name} has {} arguments", args.len())));
        }
        if let Node::Persistent(_) = pickle.node(args[0]) {
        } else {
            return Err(Error::corrupt(format!("{name} is given no storage")));
        }
        let (storage, class_dtype, first, count) = self.storage(args[0])?;
        let (dtype, logical) = if v3 {
            let dtype = pickle.global(args[6]).unwrap_or_default();
            let name = dtype.strip_prefix("torch.").unwrap_or(dtype);
            match torch_dtype(name) {
                Some(dtype) => (dtype, Logical::Plain),
                None if name == "float4_e2m1fn_x2" => (Dtype::U8, Logical::Packed { dtype: "F4".into(), shape: Vec::new() }),
                None => return Err(Error::refused(format!("the element type torch.{} is not known", shown(name)))),
            }
        } else {
            (class_dtype.ok_or_else(|| Error::corrupt("a tensor over an untyped storage names no element type"))?, Logical::Plain)
        };
        let offset =
            pickle.int(args[1]).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| Error::corrupt("a tensor's offset is no number"))?;
        let (shape, strides) = (self.dims(args[2], "shape")?, self.dims(args[3], "strides")?);
        if shape.len() != strides.len() {
            return Err(Error::corrupt(format!("a tensor of {} dimensions has {} strides", shape.len(), strides.len())));
        }
        let too_large = || Error::corrupt(format!("the shape {shape:?} with strides {strides:?} is too large"));
        checked_product(&shape).and_then(|n| n.checked_mul(dtype.item_bytes())).filter(|&n| n < 1 << 63).ok_or_else(too_large)?;
        let item = dtype.item_bytes();
        let unit = class_dtype.map_or(1, Dtype::item_bytes);
        let elements = count * unit / item;
        if !shape.contains(&0) {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |at, (&d, &s)| (d - 1).checked_mul(s).and_then(|n| at.checked_add(n)))
                .ok_or_else(too_large)?;
            if last >= elements {
                return Err(Error::corrupt(format!("the tensor reaches to element {last} of a storage of {elements}")));
            }
        }
        let metadata = args.get(if v3 { 7 } else { 6 }).map(|&m| self.pairs_of(m)).unwrap_or_default();
        let is_set = |key: &str| pickle.get(&metadata, key).and_then(|v| pickle.int(v)) == Some(1);
        let flip = match (is_set("conj"), is_set("neg")) {
            (false, false) => Flip::Plain,
            (true, false) => Flip::Conjugate,
            (false, true) => Flip::Negate,
            (true, true) => return Err(Error::refused("a tensor that is conjugated and negated at once")),
        };
        // A view's own first element, where the storage is itself a view (torch 0.4).
        let offset = offset.checked_add(first * unit / item).ok_or_else(too_large)?;
        let logical = match logical {
            Logical::Packed { dtype, .. } => {
                let mut elements = shape.clone();
                match elements.last_mut() {
                    Some(last) => *last *= 2,
                    None => elements.push(2),
                }
                Logical::Packed { dtype, shape: elements }
            }
            plain => plain,
        };
        let requires_grad = args.get(4).is_some_and(|&g| pickle.int(g) == Some(1));
        Ok(Thing::Tensor(Tensor {
            storage,
            dtype,
            logical,
            offset,
            shape,
            strides,
            flip,
            untyped: class_dtype.is_none(),
            requires_grad,
            class: None,
        }))
    }

    fn numpy(&mut self, name: &str, args: &[Id]) -> Option<Result<Thing>> {
        if is_numpy(name, "scalar") {
            return Some(match args {
                [dtype, bytes] => self.elements(*dtype, Vec::new(), false, *bytes),
                _ => Err(Error::corrupt(format!("{name} has {} arguments", args.len()))),
            });
        }
        if name == "numpy.core.numeric._frombuffer" || name == "numpy._core.numeric._frombuffer" {
            return Some(match args {
                [bytes, dtype, shape, order] => {
                    self.dims(*shape, "shape").and_then(|shape| self.elements(*dtype, shape, self.pickle.text(*order) == Some("F"), *bytes))
                }
                _ => Err(Error::corrupt(format!("{name} has {} arguments", args.len()))),
            });
        }
        if is_numpy(name, "_reconstruct") {
            // The state is the object's: found through the one that is being visited.
            let state = self.open.last().and_then(|&id| self.pickle.object(id)).and_then(|o| o.state);
            return Some(match state {
                Some(state) => self.reconstructed(state),
                None => Err(Error::corrupt("a numpy array without a state")),
            });
        }
        None
    }

    fn reconstructed(&self, state: Id) -> Result<Thing> {
        match self.pickle.tuple(state) {
            Some(&[_, shape, dtype, fortran, bytes]) => {
                self.elements(dtype, self.dims(shape, "shape")?, self.pickle.int(fortran) == Some(1), bytes)
            }
            _ => Err(Error::corrupt("a numpy array's state has not five parts")),
        }
    }

    fn elements(&self, dtype: Id, shape: Vec<u64>, fortran: bool, bytes: Id) -> Result<Thing> {
        let pickle = self.pickle;
        let broken = || Error::corrupt("a numpy array without an element type");
        let object = pickle.object(dtype).filter(|o| pickle.global(o.callable) == Some("numpy.dtype")).ok_or_else(broken)?;
        let code = pickle.tuple(object.args).and_then(|a| a.first()).and_then(|&a| pickle.text(a)).ok_or_else(broken)?;
        let state = object.state.and_then(|s| pickle.tuple(s)).unwrap_or_default();
        let order = state.get(1).and_then(|&o| pickle.text(o)).unwrap_or("<");
        let (dtype, logical) = match (code.as_bytes().first(), Dtype::parse(code)) {
            (Some(b'M' | b'm'), _) => {
                let unit =
                    state.get(8).and_then(|&m| pickle.tuple(m)).and_then(|m| m.get(1)).and_then(|&m| pickle.tuple(m)).unwrap_or_default();
                let base = unit.first().and_then(|&u| self.bytes_of(u, 0)).and_then(|b| String::from_utf8(b).ok()).unwrap_or_default();
                let base = if base.is_empty() { "generic" } else { &base };
                let count = unit.get(1).and_then(|&n| pickle.int(n)).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
                let unit = TimeUnit {
                    count,
                    ..TimeUnit::parse(base).ok_or_else(|| Error::corrupt(format!("the numpy time unit '{}'", shown(base))))?
                };
                (Dtype::I64, if code.starts_with('M') { Logical::Datetime(unit) } else { Logical::Timedelta(unit) })
            }
            (_, Some(dtype)) if code != "V" && Dtype::NUMPY.contains(&dtype) => (dtype, Logical::Plain),
            _ => {
                let error = Error::refused(format!("it is a numpy array of '{}', which is not read from checkpoints", shown(code)))
                    .hint("--skip-unsupported leaves it out");
                return Ok(Thing::Refused("numpy array".into(), error));
            }
        };
        let bytes = self.bytes_of(bytes, 0).ok_or_else(|| Error::corrupt("a numpy array without bytes"))?;
        let due = checked_product(&shape).and_then(|n| n.checked_mul(dtype.item_bytes()));
        if due != Some(bytes.len() as u64) {
            return Err(Error::corrupt(format!("a numpy array of shape {shape:?} and {dtype} has {} bytes", bytes.len())));
        }
        Ok(Thing::Numpy(Numpy { dtype, logical, shape, fortran, big_endian: order == ">", bytes }))
    }
}

fn is_numpy(name: &str, function: &str) -> bool {
    name.strip_prefix("numpy.core.multiarray.").or_else(|| name.strip_prefix("numpy._core.multiarray.")) == Some(function)
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes_out(bytes: &[u8], kind: &str) -> Out {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    Out::both(json!(text), json!({ kind: text }))
}

/// Keys that Python holds equal.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a str),
    Int(i64),
}

fn key_of(pickle: &Pickle, key: Id) -> Option<Key<'_>> {
    pickle.text(key).map(Key::Text).or_else(|| pickle.int(key).map(Key::Int))
}

/// A key as part of a name: text as it is, the rest as Python prints it.
fn key_name(pickle: &Pickle, key: Id, depth: usize) -> String {
    if let Some(text) = pickle.text(key) {
        return if depth > 0 { format!("'{text}'") } else { text.to_string() };
    }
    match pickle.node(key) {
        Node::None => "None".into(),
        Node::Bool(true) => "True".into(),
        Node::Bool(false) => "False".into(),
        Node::Int(n) => n.to_string(),
        Node::Float(f) => f.to_string(),
        Node::Long(span) => long_digits(pickle.span(*span)).unwrap_or_else(|| "int".into()),
        Node::Tuple(items) if depth < 3 && items.len() <= 8 => {
            let parts: Vec<String> = items.iter().map(|&i| key_name(pickle, i, depth + 1)).collect();
            if parts.len() == 1 { format!("({},)", parts[0]) } else { format!("({})", parts.join(", ")) }
        }
        Node::Global(_) => pickle.global(key).unwrap_or_default().into(),
        _ => "object".into(),
    }
}

/// A key in the structure; `None` where it cannot be written back.
fn key_tree(pickle: &Pickle, key: Id, depth: usize) -> Option<Value> {
    if let Some(text) = pickle.text(key) {
        return Some(json!(text));
    }
    match pickle.node(key) {
        Node::None => Some(Value::Null),
        Node::Bool(b) => Some(json!(b)),
        Node::Int(n) => Some(json!(n)),
        Node::Float(f) if f.is_finite() => Some(json!(f)),
        Node::Tuple(items) if depth < 3 && items.len() <= 8 => {
            let parts: Option<Vec<Value>> = items.iter().map(|&i| key_tree(pickle, i, depth + 1)).collect();
            Some(json!({"tuple": parts?}))
        }
        _ => None,
    }
}

/// The element type of a storage class; `None` for an untyped one, which is counted in bytes.
pub(super) fn storage_dtype(class: &str) -> Result<Option<Dtype>> {
    let name = class.strip_prefix("torch.").unwrap_or(class);
    let name = name.strip_prefix("cuda.").or_else(|| name.strip_prefix("storage.")).unwrap_or(name);
    let dtype = match name {
        "UntypedStorage" | "_UntypedStorage" => return Ok(None),
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexDoubleStorage" => Dtype::C128,
        "ComplexFloatStorage" => Dtype::C64,
        "QInt8Storage" | "QUInt8Storage" | "QInt32Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => {
            return Err(
                Error::refused(format!("it lies in a quantized storage ({})", shown(class))).hint("--skip-unsupported leaves it out")
            );
        }
        _ => return Err(refused_global(class)),
    };
    Ok(Some(dtype))
}

/// torch's name of an element type, without `torch.`.
pub(super) fn torch_dtype(name: &str) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|d| d.name() == name).or(match name {
        "half" => Some(Dtype::F16),
        "float" => Some(Dtype::F32),
        "double" => Some(Dtype::F64),
        "short" => Some(Dtype::I16),
        "int" => Some(Dtype::I32),
        "long" => Some(Dtype::I64),
        "chalf" => Some(Dtype::C32),
        "cfloat" => Some(Dtype::C64),
        "cdouble" => Some(Dtype::C128),
        _ => None,
    })
}

/// Element types that may stand in a checkpoint as values.
pub(super) fn is_torch_dtype(name: &str) -> bool {
    torch_dtype(name).is_some() || matches!(name, "qint8" | "quint8" | "qint32" | "quint4x2" | "quint2x4" | "float4_e2m1fn_x2")
}
