//! Calls that build tensors and arrays: what they would have made, without making it.

use super::{Claim, Flip, MAX_DEPTH, Numpy, Tensor, Thing, Walker, refused_global};
use crate::codec::pickle::{Id, Node, shown};
use crate::error::{Error, Result};
use crate::model::{Dtype, Logical, TimeUnit, checked_product};

impl Walker<'_> {
    /// `bytes`, in any of the ways in which they are pickled.
    pub(super) fn bytes_of(&self, id: Id, depth: usize) -> Option<Vec<u8>> {
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
    pub(super) fn storage(&mut self, id: Id) -> Result<(usize, Option<Dtype>, u64, u64)> {
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
    pub(super) fn tensor(&mut self, name: &str, args: &[Id]) -> Option<Result<Thing>> {
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

/// The element type of a storage class; `None` for an untyped one, which is counted in bytes.
pub(in super::super) fn storage_dtype(class: &str) -> Result<Option<Dtype>> {
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
pub(in super::super) fn torch_dtype(name: &str) -> Option<Dtype> {
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
pub(in super::super) fn is_torch_dtype(name: &str) -> bool {
    torch_dtype(name).is_some() || matches!(name, "qint8" | "quint8" | "qint32" | "quint4x2" | "quint2x4" | "float4_e2m1fn_x2")
}
