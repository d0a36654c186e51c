//! numpy's arrays in a checkpoint.

use super::walker::Walker;
use crate::codec::pickle::numpy::{Maker, Raw, time_unit};
use crate::codec::pickle::{Id, Node, shown};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::{EntryKind, Numpy};
use crate::formats::checkpoint::pytorch::torch_types::torch_dtype;
use crate::formats::checkpoint::pytorch::view::strides_of;
use crate::model::{Dtype, Logical, TimeUnit, checked_product};
use crate::storage::{Blob, BlobSlice};

impl Walker<'_> {
    pub(super) fn numpy(&mut self, name: &str, args: &[Id]) -> Option<Result<EntryKind>> {
        Some(match (Maker::of(name)?, args) {
            (Maker::Scalar, [dtype, bytes]) => {
                self.elements(*dtype, Vec::new(), Vec::new(), *bytes)
            }
            (Maker::FromBuffer, [bytes, dtype, shape, order]) => {
                self.buffered(*bytes, *dtype, *shape, *order, None)
            }
            (Maker::FromBuffer, [bytes, dtype, shape, order, axes]) => {
                self.buffered(*bytes, *dtype, *shape, *order, Some(*axes))
            }
            (Maker::Reconstruct, _) => {
                // The state is the object's: found through the one that is being visited.
                let state =
                    self.open.last().and_then(|&id| self.pickle.object(id)).and_then(|o| o.state);
                match state {
                    Some(state) => self.reconstructed(state),
                    None => Err(Error::corrupt("a numpy array has no state")),
                }
            }
            _ => Err(Error::corrupt(format!("{name} has {} arguments", args.len()))),
        })
    }

    /// `_frombuffer`: the bytes as `shape` in the order C or F; in the order K as `shape` in C
    /// order, its axes then put into the order of `axes`.
    fn buffered(
        &mut self,
        bytes: Id,
        dtype: Id,
        shape: Id,
        order: Id,
        axes: Option<Id>,
    ) -> Result<EntryKind> {
        let shape = self.dims(shape, "shape")?;
        match (
            self.pickle.short(order),
            axes.filter(|&a| !matches!(self.pickle.node(a), Node::None)),
        ) {
            (Some("C"), _) => self.elements(dtype, shape.clone(), strides_of(&shape, false), bytes),
            (Some("F"), _) => self.elements(dtype, shape.clone(), strides_of(&shape, true), bytes),
            (Some("K"), Some(axes)) => {
                let axes = self.dims(axes, "order of axes")?;
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                if sorted.iter().copied().ne(0..shape.len() as u64) {
                    return Err(Error::corrupt(format!(
                        "a numpy array of {} dimensions has the axes {axes:?}",
                        shape.len()
                    )));
                }
                let strides = strides_of(&shape, false);
                let turned =
                    |of: &[u64]| axes.iter().map(|&a| of[a as usize]).collect::<Vec<u64>>();
                self.elements(dtype, turned(&shape), turned(&strides), bytes)
            }
            (order, _) => Err(Error::refused(format!(
                "a numpy array has the order '{}'; C, F, and K with its axes are supported",
                order.unwrap_or("?")
            ))),
        }
    }

    pub(super) fn reconstructed(&mut self, state: Id) -> Result<EntryKind> {
        match self.pickle.tuple(state) {
            Some(&[_, shape, dtype, fortran, bytes]) => {
                let shape = self.dims(shape, "shape")?;
                let strides = strides_of(&shape, self.pickle.int(fortran) == Some(1));
                self.elements(dtype, shape, strides, bytes)
            }
            _ => Err(Error::corrupt("a numpy array's state does not have five parts")),
        }
    }

    fn elements(
        &mut self,
        dtype: Id,
        shape: Vec<u64>,
        strides: Vec<u64>,
        bytes: Id,
    ) -> Result<EntryKind> {
        let pickle = self.pickle;
        let broken = || Error::corrupt("a numpy array has no element type");
        let object = pickle
            .object(dtype)
            .filter(|o| pickle.global(o.callable) == Some("numpy.dtype"))
            .ok_or_else(broken)?;
        let code = pickle
            .tuple(object.args)
            .and_then(|a| a.first())
            .and_then(|&a| pickle.short(a))
            .ok_or_else(broken)?;
        let state = object.state.and_then(|s| pickle.tuple(s)).unwrap_or_default();
        let order = state.get(1).and_then(|&o| pickle.short(o)).unwrap_or("<");
        let (dtype, logical) = match (code.as_bytes().first(), Dtype::parse(code)) {
            (Some(b'M' | b'm'), _) => {
                let unit = time_unit(pickle, state.get(8).copied());
                let (base, count) = unit.unwrap_or((String::new(), 1));
                let base = if base.is_empty() { "generic" } else { &base };
                let count = u32::try_from(count).unwrap_or(1);
                let unit = TimeUnit {
                    count,
                    ..TimeUnit::parse(base).ok_or_else(|| {
                        Error::corrupt(format!(
                            "the numpy time unit '{}' is not known",
                            shown(base)
                        ))
                    })?
                };
                (
                    Dtype::I64,
                    if code.starts_with('M') {
                        Logical::Datetime(unit)
                    } else {
                        Logical::Timedelta(unit)
                    },
                )
            }
            (_, Some(dtype)) if code != "V" && Dtype::NUMPY.contains(&dtype) => {
                (dtype, Logical::Plain)
            }
            _ => {
                let error = Error::refused(format!(
                    "it is a numpy array of '{}', which is not read from checkpoints",
                    shown(code)
                ))
                .hint("--skip-unsupported leaves it out");
                return Ok(EntryKind::Refused("numpy array".into(), error));
            }
        };
        let raw =
            Raw::find(pickle, bytes).ok_or_else(|| Error::corrupt("a numpy array has no bytes"))?;
        let bytes = self.copy(raw)?;
        let due = checked_product(&shape).and_then(|n| n.checked_mul(dtype.item_bytes()));
        if due != Some(bytes.len) {
            return Err(Error::corrupt(format!(
                "a numpy array of shape {shape:?} and {dtype} has {} bytes",
                bytes.len
            )));
        }
        Ok(EntryKind::Numpy(Numpy {
            dtype,
            logical,
            shape,
            strides,
            big_endian: order == ">",
            bytes,
            requires_grad: false,
            raw,
        }))
    }

    /// The bytes of the pickle as a run of their own: one for all that ask for them.
    fn copy(&mut self, raw: Raw) -> Result<BlobSlice> {
        if let Some(bytes) = self.copies.get(&(raw, false)) {
            return Ok(bytes.clone());
        }
        let bytes = raw
            .bytes(self.pickle)
            .ok_or_else(|| Error::corrupt("the bytes of a numpy array are not Latin-1"))?;
        let bytes = BlobSlice::memory(bytes);
        self.copies.insert((raw, false), bytes.clone());
        Ok(bytes)
    }

    /// A tensor of a device that numpy carries: as the element type that it had there. bfloat16,
    /// which numpy lacks, is carried as float32; any other change of type is refused.
    pub(super) fn cast(&mut self, kind: EntryKind, dtype: &str) -> Result<EntryKind> {
        let wanted = torch_dtype(dtype.strip_prefix("torch.").unwrap_or(dtype));
        let (found, plain) = match &kind {
            EntryKind::Tensor(tensor) => (tensor.dtype, matches!(tensor.logical, Logical::Plain)),
            EntryKind::Numpy(array) => (array.dtype, matches!(array.logical, Logical::Plain)),
            EntryKind::Refused(..) => return Ok(kind),
        };
        let Some(wanted) = wanted else {
            return Err(Error::refused(format!(
                "the element type {} of a device's tensor is not known",
                shown(dtype)
            )));
        };
        if wanted == found && plain {
            return Ok(kind);
        }
        let refused = |why: &str| {
            let error = Error::refused(format!(
                "a device's tensor of {wanted} is kept as {found}{why}; its values would change"
            ));
            error.hint("--skip-unsupported leaves it out")
        };
        match kind {
            EntryKind::Numpy(array)
                if (wanted, found) == (Dtype::Bf16, Dtype::F32) && !array.big_endian =>
            {
                let bytes = match self.copies.get(&(array.raw, true)) {
                    Some(bytes) => bytes.clone(),
                    None => {
                        let mut values = vec![0; array.bytes.len as usize];
                        array.bytes.read_at(0, &mut values)?;
                        let halves = values
                            .chunks_exact(4)
                            .map(|c| (c[..2] == [0, 0]).then(|| [c[2], c[3]]));
                        let halves: Option<Vec<[u8; 2]>> = halves.collect();
                        let halves =
                            halves.ok_or_else(|| refused(", with more digits than it has"))?;
                        let bytes = BlobSlice::memory(halves.as_flattened().to_vec());
                        self.copies.insert((array.raw, true), bytes.clone());
                        bytes
                    }
                };
                Ok(EntryKind::Numpy(Numpy { dtype: wanted, bytes, ..array }))
            }
            _ => Err(refused("")),
        }
    }
}
