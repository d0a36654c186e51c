//! Calls that build tensors and arrays: what they would have made, without making it.

use super::walker::{MAX_DEPTH, Walker};
use crate::codec::pickle::numpy::Maker;
use crate::codec::pickle::{Id, Node, shown};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::{EntryKind, LazyOp, Tensor};
use crate::formats::checkpoint::pytorch::torch_types::{torch_dtype, unknown_global};
use crate::model::{Dtype, Logical, checked_product};

impl Walker<'_> {
    /// Shapes and strides: a tuple, list or `torch.Size`.
    pub(super) fn dims(&self, id: Id, what: &str) -> Result<Vec<u64>> {
        let pickle = self.pickle;
        let items = match pickle.object(id) {
            Some(object) => {
                pickle.tuple(object.args).and_then(|a| a.first()).and_then(|&a| pickle.tuple(a))
            }
            None => pickle.tuple(id),
        }
        .ok_or_else(|| Error::corrupt(format!("a tensor's {what} is not a tuple")))?;
        if items.len() > 64 {
            return Err(Error::corrupt(format!(
                "a tensor has {} dimensions; torch allows at most 64",
                items.len()
            )));
        }
        items
            .iter()
            .map(|&i| match pickle.int(i) {
                Some(n) => u64::try_from(n)
                    .map_err(|_| Error::corrupt(format!("a tensor's {what} holds {n}"))),
                None => Err(Error::corrupt(format!(
                    "a tensor's {what} holds something that is not a number"
                ))),
            })
            .collect()
    }

    /// What this call builds, if it is a tensor of some kind.
    pub(super) fn tensor(&mut self, name: &str, args: &[Id]) -> Option<Result<EntryKind>> {
        let refused = |what: &str| {
            let error = Error::refused(format!(
                "it is a {what} tensor ({name}), which other formats do not have"
            ))
            .hint("--skip-unsupported leaves it out");
            Some(Ok(EntryKind::Refused(format!("{what} tensor"), error)))
        };
        match function(name) {
            Some("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                Some(self.strided(name, args))
            }
            Some("_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                // A parameter's attributes are passed over, as those of a module are.
                self.handled.extend(args.get(3));
                let grad = self.is_true(args.get(1));
                Some(self.inner(args.first(), name)?.map(|kind| with_grad(kind, grad)))
            }
            Some(
                "_rebuild_device_tensor_from_cpu_tensor"
                | "_rebuild_device_tensor_from_numpy"
                | "_rebuild_xla_tensor",
            ) => {
                let grad = self.is_true(args.get(3));
                let dtype = args
                    .get(1)
                    .and_then(|&d| self.pickle.global(d))
                    .unwrap_or_default()
                    .to_string();
                let kind = self.inner(args.first(), name)?;
                Some(
                    kind.and_then(|kind| self.cast(kind, &dtype)).map(|kind| with_grad(kind, grad)),
                )
            }
            Some("_rebuild_from_type" | "_rebuild_from_type_v2") => {
                let [function, class, inner, ..] = args else {
                    return Some(Err(Error::corrupt(format!(
                        "{name} has {} arguments",
                        args.len()
                    ))));
                };
                self.handled.extend(args.get(3));
                let function = self.pickle.global(*function).unwrap_or_default().to_string();
                if function == name {
                    return Some(Err(Error::corrupt(format!("{name} refers to itself"))));
                }
                let class = self
                    .pickle
                    .global(*class)
                    .map(str::to_string)
                    .filter(|c| c != "torch.Tensor" && c != "torch._tensor.Tensor");
                let inner = self.pickle.tuple(*inner).unwrap_or_default();
                let known = function.starts_with("torch._") && !function.contains("_from_type");
                match known.then(|| self.tensor(&function, inner)).flatten() {
                    Some(kind) => Some(kind.map(|mut kind| {
                        if let EntryKind::Tensor(t) = &mut kind {
                            t.class = class;
                        }
                        kind
                    })),
                    None => Some(Ok(EntryKind::Refused(name.into(), unknown_global(&function)))),
                }
            }
            Some("_rebuild_qtensor") => refused("quantized"),
            Some("_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => refused("sparse"),
            Some("_rebuild_nested_tensor") => refused("nested"),
            Some("_rebuild_meta_tensor_no_storage") => {
                let error = Error::refused(format!(
                    "it is a meta tensor ({name}): it has a shape, but no values"
                ))
                .hint("--skip-unsupported leaves it out");
                Some(Ok(EntryKind::Refused("meta tensor".into(), error)))
            }
            Some("_rebuild_wrapper_subclass") => refused("wrapped"),
            _ => self.numpy(name, args),
        }
    }

    /// The tensor that is another call's argument.
    fn inner(&mut self, arg: Option<&Id>, name: &str) -> Option<Result<EntryKind>> {
        let pickle = self.pickle;
        let broken = || Some(Err(Error::corrupt(format!("{name} has no tensor argument"))));
        let Some(&id) = arg else { return broken() };
        let Some(object) = pickle.object(id) else {
            // A tar file's persistent id.
            if let Node::Persistent(pid) = pickle.node(id)
                && let Some(tensor) = pickle.short(*pid).and_then(|k| self.given.get(k))
            {
                return Some(Ok(EntryKind::Tensor(tensor.clone())));
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
        let kind = match object.state.filter(|_| Maker::of(&called) == Some(Maker::Reconstruct)) {
            Some(state) => Some(self.reconstructed(state)),
            None => self.tensor(&called, args),
        };
        self.depth -= 1;
        self.open.pop();
        kind.or_else(broken)
    }

    fn strided(&mut self, name: &str, args: &[Id]) -> Result<EntryKind> {
        let pickle = self.pickle;
        let v3 = name.ends_with("_v3");
        if args.len() < if v3 { 7 } else { 4 } {
            return Err(Error::corrupt(format!("{name} has {} arguments", args.len())));
        }
        if let Node::Persistent(_) = pickle.node(args[0]) {
        } else {
            return Err(Error::corrupt(format!("{name} has no storage argument")));
        }
        let (storage, class_dtype, first, count) = self.storage(args[0])?;
        let (dtype, is_packed) = match class_dtype {
            _ if v3 => named_type(pickle.global(args[6]).unwrap_or_default())?,
            Some(dtype) => (dtype, false),
            None => {
                return Err(Error::corrupt(
                    "a tensor over an untyped storage names no element type",
                ));
            }
        };
        let offset = pickle
            .int(args[1])
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| Error::corrupt("a tensor's offset is not a number"))?;
        let (shape, strides) = (self.dims(args[2], "shape")?, self.dims(args[3], "strides")?);
        if shape.len() != strides.len() {
            return Err(Error::corrupt(format!(
                "a tensor of {} dimensions has {} strides",
                shape.len(),
                strides.len()
            )));
        }
        let too_large =
            || Error::corrupt(format!("the shape {shape:?} with strides {strides:?} is too large"));
        checked_product(&shape)
            .and_then(|n| n.checked_mul(dtype.item_bytes()))
            .filter(|&n| n < 1 << 63)
            .ok_or_else(too_large)?;
        let item = dtype.item_bytes();
        let unit = class_dtype.map_or(1, Dtype::item_bytes);
        let elements = count * unit / item;
        if !shape.contains(&0) {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |at, (&d, &s)| {
                    (d - 1).checked_mul(s).and_then(|n| at.checked_add(n))
                })
                .ok_or_else(too_large)?;
            if last >= elements {
                return Err(Error::corrupt(format!(
                    "the tensor reaches to element {last} of a storage of {elements}"
                )));
            }
        }
        let lazy_op = self.lazy_op(args.get(if v3 { 7 } else { 6 }))?;
        // A view's own first element, where the storage is itself a view (torch 0.4).
        let offset = offset.checked_add(first * unit / item).ok_or_else(too_large)?;
        let logical = if is_packed { packed_pairs(&shape) } else { Logical::Plain };
        let requires_grad = self.is_true(args.get(4));
        Ok(EntryKind::Tensor(Tensor {
            storage,
            dtype,
            logical,
            offset,
            shape,
            strides,
            lazy_op,
            untyped: class_dtype.is_none(),
            requires_grad,
            class: None,
        }))
    }

    /// What is to be done to a tensor's elements, as its metadata tell.
    fn lazy_op(&mut self, metadata: Option<&Id>) -> Result<LazyOp> {
        let metadata = match metadata {
            Some(&metadata) => self.pairs_of(metadata)?,
            None => Vec::new(),
        };
        let pickle = self.pickle;
        let is_set = |key: &str| pickle.get(&metadata, key).and_then(|v| pickle.int(v)) == Some(1);
        Ok(match (is_set("conj"), is_set("neg")) {
            (false, false) => LazyOp::Plain,
            (true, false) => LazyOp::Conjugate,
            (false, true) => LazyOp::Negate,
            (true, true) => LazyOp::NegateConjugate,
        })
    }
    fn is_true(&self, arg: Option<&Id>) -> bool {
        arg.is_some_and(|&id| self.pickle.int(id) == Some(1))
    }
}

/// The function's name, if it is one of torch's own for tensors.
fn function(name: &str) -> Option<&str> {
    ["torch._utils.", "torch._tensor.", "torch.tensor."]
        .into_iter()
        .find_map(|module| name.strip_prefix(module))
}

/// Whether this is a call that [`Walker::tensor`] knows.
pub(super) fn builds(name: &str) -> bool {
    Maker::of(name).is_some()
        || matches!(
            function(name),
            Some(
                "_rebuild_device_tensor_from_cpu_tensor"
                    | "_rebuild_device_tensor_from_numpy"
                    | "_rebuild_from_type"
                    | "_rebuild_from_type_v2"
                    | "_rebuild_meta_tensor_no_storage"
                    | "_rebuild_nested_tensor"
                    | "_rebuild_parameter"
                    | "_rebuild_parameter_with_state"
                    | "_rebuild_qtensor"
                    | "_rebuild_sparse_csr_tensor"
                    | "_rebuild_sparse_tensor"
                    | "_rebuild_tensor"
                    | "_rebuild_tensor_v2"
                    | "_rebuild_tensor_v3"
                    | "_rebuild_wrapper_subclass"
                    | "_rebuild_xla_tensor"
            )
        )
}

fn with_grad(mut kind: EntryKind, grad: bool) -> EntryKind {
    match &mut kind {
        EntryKind::Tensor(tensor) => tensor.requires_grad |= grad,
        EntryKind::Numpy(array) => array.requires_grad |= grad,
        EntryKind::Refused(..) => {}
    }
    kind
}

/// The element type of a global's name, and whether its bytes hold two elements each.
fn named_type(global: &str) -> Result<(Dtype, bool)> {
    let name = global.strip_prefix("torch.").unwrap_or(global);
    match torch_dtype(name) {
        Some(dtype) => Ok((dtype, false)),
        None if name == "float4_e2m1fn_x2" => Ok((Dtype::U8, true)),
        None => Err(Error::refused(format!("the element type torch.{} is not known", shown(name)))),
    }
}

/// The logical type of bytes that hold two elements of 4 bits each.
fn packed_pairs(shape: &[u64]) -> Logical {
    let mut elements = shape.to_vec();
    match elements.last_mut() {
        Some(last) => *last *= 2,
        None => elements.push(2),
    }
    Logical::Packed { dtype: "F4".into(), shape: elements }
}
