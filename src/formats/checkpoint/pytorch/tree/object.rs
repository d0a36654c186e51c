//! Objects of Python in a checkpoint: containers and plain values. None is made; what they would
//! hold is walked.

use base64::Engine;
use serde_json::{Value, json};

use super::sharded::is_sharded_class;
use super::walker::{MAX_DEPTH, ParsedValue, Walker};
use crate::codec::pickle::numpy::Raw;
use crate::codec::pickle::{Id, Node, Object, Pickle};
use crate::error::Result;
use crate::formats::checkpoint::pytorch::entry::EntryKind;
use crate::formats::checkpoint::pytorch::torch_types::unknown_global;

/// The calls that [`Walker::object`] knows, beside those that build tensors.
pub(super) fn is_known(name: &str) -> bool {
    matches!(
        name,
        "_codecs.encode"
            | "argparse.Namespace"
            | "builtins.bytearray"
            | "builtins.bytes"
            | "builtins.complex"
            | "builtins.dict"
            | "builtins.frozenset"
            | "builtins.list"
            | "builtins.set"
            | "builtins.tuple"
            | "collections.Counter"
            | "collections.OrderedDict"
            | "collections.defaultdict"
            | "decimal.Decimal"
            | "numpy.dtype"
            | "torch.Size"
            | "torch.device"
            | "torch.jit._pickle.build_boollist"
            | "torch.jit._pickle.build_doublelist"
            | "torch.jit._pickle.build_intlist"
            | "torch.jit._pickle.build_tensorlist"
            | "torch.jit._pickle.restore_type_tag"
            | "torch.serialization._get_layout"
            | "types.SimpleNamespace"
    ) || is_path(name)
}

fn is_path(name: &str) -> bool {
    let class = name.strip_prefix("pathlib.").map(|n| n.strip_prefix("_local.").unwrap_or(n));
    matches!(
        class,
        Some("Path" | "PosixPath" | "PurePosixPath" | "PureWindowsPath" | "WindowsPath")
    )
}

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
        pickle
            .global(inner.callable)
            .map_or_else(|| "something that is not a name".into(), |n| format!("the result of {n}"))
    }

    /// The number of a stage of DeepSpeed's ZeRO: an enumeration, of which Python pickles the name
    /// or the value.
    fn zero_stage(&self, called: &str, args: &[Id]) -> Option<i64> {
        const STAGES: &str = "deepspeed.runtime.zero.config.ZeroStageEnum";
        const NAMES: [&str; 4] = ["disabled", "optimizer_states", "gradients", "weights"];
        match (called, args) {
            (STAGES, &[value]) => self.pickle.int(value),
            ("builtins.getattr", &[class, name]) if self.pickle.global(class) == Some(STAGES) => {
                let name = self.pickle.short(name)?;
                NAMES.iter().position(|known| *known == name).map(|n| n as i64)
            }
            _ => None,
        }
    }

    /// The class of a tensor in parts, and the state that it would be given: of an object of its
    /// own, or of a call that makes a subclass of Tensor.
    fn sharded_state(
        &self,
        name: &str,
        args: &[Id],
        object: &Object,
    ) -> Option<(String, Option<Id>)> {
        if is_sharded_class(name) {
            return Some((name.to_string(), object.state));
        }
        let (true, &[_, class, _, state]) = (name.ends_with("._rebuild_from_type_v2"), args) else {
            return None;
        };
        let class = self.pickle.global(class).filter(|class| is_sharded_class(class))?;
        // A pair of slots and fields, or the fields, or what `__setstate__` takes.
        Some((class.to_string(), Some(state)))
    }

    pub(super) fn object(&mut self, id: Id, object: &Object) -> Result<ParsedValue> {
        let pickle = self.pickle;
        let name = self.called(object);
        let args = pickle.tuple(object.args).unwrap_or_default();
        let first = args.first().copied();
        if let Some((class, state)) = self.sharded_state(&name, args, object) {
            return self.sharded(id, &class, state);
        }
        if let Some(stage) = self.zero_stage(&name, args) {
            self.handled.push(id);
            let kept = self.count(0);
            return Ok(if kept { ParsedValue::same(json!(stage)) } else { ParsedValue::default() });
        }
        if let Some(kind) = self.tensor(&name, args) {
            let mut kind = kind.unwrap_or_else(|error| EntryKind::Refused("tensor".into(), error));
            if let EntryKind::Refused(..) = kind {
                self.handled.push(id);
            }
            if let (
                EntryKind::Tensor(t),
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            ) = (&mut kind, name.as_str())
            {
                t.class = None;
            }
            return self.found(kind);
        }
        match name.as_str() {
            "collections.OrderedDict"
            | "collections.defaultdict"
            | "collections.Counter"
            | "builtins.dict" => {
                let pairs = self.pairs_of(id)?;
                self.dict(
                    &pairs,
                    if name == "collections.OrderedDict" { "OrderedDict" } else { "dict" },
                )
            }
            "argparse.Namespace" | "types.SimpleNamespace" => {
                match object.state.map(|s| pickle.node(s)) {
                    Some(Node::Dict(pairs)) => self.dict(pairs, "dict"),
                    _ => self.dict(&[], "dict"),
                }
            }
            "builtins.set" | "builtins.frozenset" | "builtins.list" | "builtins.tuple" => {
                let kind = &name["builtins.".len()..];
                let given = first.and_then(|f| pickle.tuple(f)).unwrap_or_default();
                self.charge_steps(given.len() + object.items.len())?;
                let items = [given, &object.items].concat();
                self.list(&items, kind)
            }
            "torch.Size" => {
                let items = first.and_then(|f| pickle.tuple(f)).unwrap_or_default();
                self.list(items, "Size")
            }
            "torch.device" => Ok(self.device(args)),
            "torch.serialization._get_layout" | "decimal.Decimal" => Ok(self.word(&name, first)),
            _ if is_path(&name) => self.joined_path(args),
            "builtins.complex" => Ok(complex(pickle, args)),
            "_codecs.encode" | "builtins.bytes" | "builtins.bytearray" => {
                self.byte_string(id, &name)
            }
            "numpy.dtype" => Ok(ParsedValue {
                plain: first.and_then(|f| pickle.short(f)).map(|t| json!(t)),
                tree: None,
            }),
            "torch.jit._pickle.build_intlist"
            | "torch.jit._pickle.build_doublelist"
            | "torch.jit._pickle.build_boollist"
            | "torch.jit._pickle.build_tensorlist"
            | "torch.jit._pickle.restore_type_tag" => match first {
                Some(first) => self.visit(first),
                None => Ok(ParsedValue::default()),
            },
            _ => self.other(id, &name, object),
        }
    }

    /// `torch.device`: its kind and index.
    fn device(&mut self, args: &[Id]) -> ParsedValue {
        let pickle = self.pickle;
        let part = |&a: &Id| {
            let text = pickle.short(a).map(|text| json!(text));
            text.or_else(|| pickle.int(a).map(|n| json!(n)))
        };
        let parts: Vec<Value> = args.iter().take(2).filter_map(part).collect();
        if !self.count(parts.iter().filter_map(Value::as_str).map(str::len).sum()) {
            return ParsedValue::default();
        }
        let text: Vec<String> = parts
            .iter()
            .map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_string))
            .collect();
        ParsedValue::both(json!(text.join(":")), json!({"device": parts}))
    }

    /// A layout of torch, or a decimal number: what it is called.
    fn word(&mut self, name: &str, first: Option<Id>) -> ParsedValue {
        let pickle = self.pickle;
        if !self.count(first.and_then(|f| pickle.text_len(f)).unwrap_or(0)) {
            return ParsedValue::default();
        }
        let text = first.and_then(|f| pickle.text(f)).unwrap_or_default();
        if name.starts_with("torch") {
            ParsedValue::both(json!(text), json!({"layout": text}))
        } else {
            ParsedValue::same(json!(text))
        }
    }

    /// A path of `pathlib`, from its parts.
    fn joined_path(&mut self, args: &[Id]) -> Result<ParsedValue> {
        let pickle = self.pickle;
        self.charge_steps(args.len())?;
        let lengths = args.iter().filter_map(|&a| pickle.text_len(a));
        if !self.count(lengths.map(|len| len + 1).sum()) {
            return Ok(ParsedValue::default());
        }
        let parts: Vec<&str> = args.iter().filter_map(|&a| pickle.text(a)).collect();
        let text = match parts.split_first() {
            Some((&"/", rest)) => format!("/{}", rest.join("/")),
            _ => parts.join("/"),
        };
        Ok(ParsedValue::same(json!(text)))
    }

    /// Bytes, in whichever way Python pickled them.
    fn byte_string(&mut self, id: Id, name: &str) -> Result<ParsedValue> {
        let raw = Raw::find(self.pickle, id);
        if raw.as_ref().is_some_and(|raw| !self.count(raw.most(self.pickle))) {
            return Ok(ParsedValue::default());
        }
        let kind = if name == "builtins.bytearray" { "bytearray" } else { "bytes" };
        match raw.and_then(|raw| raw.bytes(self.pickle)) {
            Some(bytes) => Ok(bytes_out(&bytes, kind)),
            None => {
                self.handled.push(id);
                self.found(EntryKind::Refused(name.into(), unknown_global(name)))
            }
        }
    }
}

pub(super) fn bytes_out(bytes: &[u8], kind: &str) -> ParsedValue {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    ParsedValue::both(json!(text), json!({ kind: text }))
}

/// `complex(re, im)`.
fn complex(pickle: &Pickle, args: &[Id]) -> ParsedValue {
    let number = |a: Option<&Id>| match a.map(|&a| pickle.node(a)) {
        Some(Node::Float(f)) => *f,
        Some(Node::Int(n)) => *n as f64,
        _ => 0.0,
    };
    let (re, im) = (number(args.first()), number(args.get(1)));
    let tree = json!({"complex": [re.to_string(), im.to_string()]});
    let sign = if im.is_sign_negative() { "" } else { "+" };
    ParsedValue::both(json!(format!("{re}{sign}{im}j")), tree)
}
