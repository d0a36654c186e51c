//! Writes the pickle of a checkpoint: protocol 2, only opcodes that every
//! `torch.load(weights_only=True)` knows (torch 1.13 lacks `BINFLOAT`, but plain floats need it).

use std::collections::HashMap;

use base64::Engine;
use serde_json::Value;

use crate::codec::pickle::opcodes as op;
use crate::formats::checkpoint::pytorch::torch_types::is_torch_dtype;
use crate::model::{ArrayMeta, Logical, checked_product};

/// Items per `SETITEMS` and `APPENDS`, as in Python's pickler.
const BATCH: usize = 1000;

pub(super) struct Pickler {
    out: Vec<u8>,
    /// Globals and texts that repeat: their place in the memo.
    memo: HashMap<String, u32>,
}

impl Pickler {
    pub fn new() -> Pickler {
        Pickler { out: vec![op::PROTO, 2], memo: HashMap::new() }
    }
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(op::STOP);
        self.out
    }

    fn remembered(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(&index) = self.memo.get(key) {
            match u8::try_from(index) {
                Ok(index) => self.out.extend([op::BINGET, index]),
                Err(_) => {
                    self.out.push(op::LONG_BINGET);
                    self.out.extend(index.to_le_bytes());
                }
            }
            return;
        }
        write(&mut self.out);
        let index = self.memo.len() as u32;
        match u8::try_from(index) {
            Ok(index) => self.out.extend([op::BINPUT, index]),
            Err(_) => {
                self.out.push(op::LONG_BINPUT);
                self.out.extend(index.to_le_bytes());
            }
        }
        self.memo.insert(key.to_string(), index);
    }
    fn global(&mut self, module: &str, name: &str) {
        self.remembered(&format!("{module} {name}"), |out| {
            out.extend(format!("c{module}\n{name}\n").into_bytes())
        });
    }
    fn word(&mut self, text: &str) {
        self.remembered(text, |out| push_text(out, text));
    }
    pub fn text(&mut self, text: &str) {
        push_text(&mut self.out, text);
    }
    pub fn int(&mut self, value: i64) {
        if let Ok(n) = u8::try_from(value) {
            self.out.extend([op::BININT1, n]);
        } else if let Ok(n) = u16::try_from(value) {
            self.out.push(op::BININT2);
            self.out.extend(n.to_le_bytes());
        } else if let Ok(n) = i32::try_from(value) {
            self.out.push(op::BININT);
            self.out.extend(n.to_le_bytes());
        } else {
            self.long(&value.to_le_bytes());
        }
    }
    fn unsigned(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.long(&[&value.to_le_bytes()[..], &[0]].concat()),
        }
    }
    /// Little-endian two's complement.
    fn long(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.out.extend([op::LONG1, len]),
            Err(_) => {
                self.out.push(op::LONG4);
                self.out.extend((bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
    }
    fn float(&mut self, value: f64) {
        self.out.push(op::BINFLOAT);
        self.out.extend(value.to_be_bytes());
    }
    fn dims(&mut self, dims: &[u64]) {
        self.out.push(op::MARK);
        for &d in dims {
            self.unsigned(d);
        }
        self.out.push(op::TUPLE);
    }
    /// An empty `OrderedDict`.
    pub fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend([op::EMPTY_TUPLE, op::REDUCE]);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.global("_codecs", "encode");
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        self.text(&text);
        self.word("latin1");
        self.out.extend([op::TUPLE2, op::REDUCE]);
    }

    /// Sets the pairs that `each` writes in the dict on the stack, in batches.
    pub fn items<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Pickler, &T)) {
        for batch in items.chunks(BATCH) {
            self.out.push(op::MARK);
            for item in batch {
                each(self, item);
            }
            self.out.push(op::SETITEMS);
        }
    }

    /// A contiguous tensor over the storage `key`.
    pub fn tensor(&mut self, meta: &ArrayMeta, key: usize) {
        let shape = meta.shape().unwrap_or_default();
        let packed = matches!(meta.logical, Logical::Packed { .. });
        // Types that torch added later have untyped storages.
        let class = meta.dtype.torch_storage().filter(|_| !packed);
        let elements = checked_product(&shape).unwrap_or_default();
        self.global(
            "torch._utils",
            if class.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" },
        );
        self.out.extend([op::MARK, op::MARK]);
        self.word("storage");
        match class {
            Some(class) => self.global("torch", &format!("{class}Storage")),
            None => self.global("torch.storage", "UntypedStorage"),
        }
        self.text(&key.to_string());
        self.word("cpu");
        self.unsigned(if class.is_some() { elements } else { elements * meta.dtype.item_bytes() });
        self.out.extend([op::TUPLE, op::BINPERSID]);
        self.int(0);
        self.dims(&shape);
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] =
                u64::min(i64::MAX as u64, u64::saturating_mul(strides[i], shape[i].max(1)));
        }
        self.dims(&strides);
        let grad = meta.details.attributes.get("requires_grad") == Some(&Value::Bool(true));
        let grad = grad && (meta.dtype.is_float() || meta.dtype.is_complex());
        self.out.push(if grad { op::NEWTRUE } else { op::NEWFALSE });
        self.ordered_dict();
        if class.is_none() {
            self.global("torch", if packed { "float4_e2m1fn_x2" } else { meta.dtype.name() });
        }
        self.out.extend([op::TUPLE, op::REDUCE]);
    }

    /// A value of the structure; `tensor` writes the tensor of a name, and says whether it is
    /// there. What is not there is left out of dicts, and `None` in lists.
    pub fn value(
        &mut self,
        value: &Value,
        tensor: &mut dyn FnMut(&mut Pickler, &str) -> bool,
    ) -> bool {
        match value {
            Value::Null => self.out.push(op::NONE),
            Value::Bool(b) => self.out.push(if *b { op::NEWTRUE } else { op::NEWFALSE }),
            Value::String(text) => self.text(text),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(n), _, _) => self.int(n),
                (_, Some(n), _) => self.unsigned(n),
                (_, _, Some(f)) => self.float(f),
                _ => return false,
            },
            Value::Array(_) => return false,
            Value::Object(map) => {
                let Some((kind, inner)) = map.iter().next() else { return false };
                return self.object(kind, inner, tensor);
            }
        }
        true
    }

    fn object(
        &mut self,
        kind: &str,
        inner: &Value,
        tensor: &mut dyn FnMut(&mut Pickler, &str) -> bool,
    ) -> bool {
        let items = inner.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = inner.as_str().unwrap_or_default();
        match kind {
            "tensor" => return tensor(self, text),
            "dict" | "OrderedDict" => {
                if kind == "dict" {
                    self.out.push(op::EMPTY_DICT);
                } else {
                    self.ordered_dict();
                }
                self.items(items, |this, pair| {
                    let before = this.out.len();
                    let memo = this.memo.len();
                    if !(this.value(&pair[0], &mut |_, _| false) && this.value(&pair[1], tensor)) {
                        this.undo(before, memo);
                    }
                });
            }
            "list" => self.list(items, tensor),
            "set" | "frozenset" => self.call("__builtin__", kind, |this| this.list(items, tensor)),
            "tuple" => self.tuple(items, tensor),
            "Size" => self.call("torch", "Size", |this| this.tuple(items, tensor)),
            "bytes" | "bytearray" => match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(bytes) if kind == "bytes" => self.bytes(&bytes),
                Ok(bytes) => self.call("__builtin__", kind, |this| this.bytes(&bytes)),
                Err(_) => return false,
            },
            "int" => match from_hex(text) {
                Some(bytes) => self.long(&bytes),
                None => return false,
            },
            "float" => match text.parse() {
                Ok(value) => self.float(value),
                Err(_) => return false,
            },
            "complex" => {
                let part = |i: usize| {
                    items.get(i).and_then(Value::as_str).and_then(|t| t.parse::<f64>().ok())
                };
                let (Some(re), Some(im)) = (part(0), part(1)) else { return false };
                self.global("__builtin__", "complex");
                self.float(re);
                self.float(im);
                self.out.extend([op::TUPLE2, op::REDUCE]);
            }
            // Only names that are known: the attribute may have been edited.
            "dtype" if is_torch_dtype(text) => self.global("torch", text),
            "layout" => {
                self.call("torch.serialization", "_get_layout", |this| this.text(text));
            }
            "device" => {
                self.global("torch", "device");
                self.tuple(items, &mut |_, _| false);
                self.out.push(op::REDUCE);
            }
            _ => return false,
        }
        true
    }

    /// The call of a global with one argument.
    fn call(&mut self, module: &str, name: &str, argument: impl FnOnce(&mut Pickler)) {
        self.global(module, name);
        argument(self);
        self.out.extend([op::TUPLE1, op::REDUCE]);
    }

    fn list(&mut self, items: &[Value], tensor: &mut dyn FnMut(&mut Pickler, &str) -> bool) {
        self.out.push(op::EMPTY_LIST);
        for batch in items.chunks(BATCH) {
            self.out.push(op::MARK);
            batch.iter().for_each(|item| self.item(item, tensor));
            self.out.push(op::APPENDS);
        }
    }

    fn tuple(&mut self, items: &[Value], tensor: &mut dyn FnMut(&mut Pickler, &str) -> bool) {
        self.out.push(op::MARK);
        items.iter().for_each(|item| self.item(item, tensor));
        self.out.push(op::TUPLE);
    }

    fn item(&mut self, item: &Value, tensor: &mut dyn FnMut(&mut Pickler, &str) -> bool) {
        let (before, memo) = (self.out.len(), self.memo.len());
        if !self.value(item, tensor) {
            self.undo(before, memo);
            self.out.push(op::NONE);
        }
    }

    /// Takes back what was written since, and what was remembered in it.
    fn undo(&mut self, len: usize, memo: usize) {
        self.out.truncate(len);
        self.memo.retain(|_, index| (*index as usize) < memo);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(op::BINUNICODE);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The bytes that hexadecimal digits spell.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len() / 2)
        .map(|i| text.get(2 * i..2 * i + 2).and_then(|h| u8::from_str_radix(h, 16).ok()))
        .collect()
}
