//! Objects of Python in a checkpoint: containers, plain values, modules. None is made; what they would hold is walked.

use base64::Engine;
use serde_json::{Value, json};

use super::{MAX_DEPTH, Out, Thing, Walker, key_name, one, refused_global};
use crate::codec::pickle::{Id, Node, Object};
use crate::error::{Error, Result};

impl Walker<'_> {
    /// The name of what an object would have called.
    pub(super) fn called(&self, object: &Object) -> String {
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

    pub(super) fn object(&mut self, id: Id, object: &Object) -> Result<Out> {
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
                return Ok(Out { plain: None, tree: Some(one("OrderedDict", Value::Array(entries))) });
            }
        }
        self.found(Thing::Refused(name.to_string(), refused_global(name)))
    }

    pub(super) fn pairs_of(&self, id: Id) -> Vec<(Id, Id)> {
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
                        entries.push(Value::Array(vec![json!(prefix.as_str()), tree]));
                    }
                }),
            };
            prefix.truncate(prefix_before);
            self.path.truncate(before);
            done?;
        }
        Ok(())
    }
}

pub(super) fn bytes_out(bytes: &[u8], kind: &str) -> Out {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    Out::both(json!(text), json!({ kind: text }))
}
