//! Tensors of which the file of a rank holds a part: `ShardedTensor` and `DTensor` of
//! torch.distributed, and where in the whole their parts are.
//!
//! | class | says |
//! |---|---|
//! | `ShardedTensor` | its shards here, each with its offsets and sizes; those of all ranks |
//! | `DTensor` | its part here; the mesh of ranks, the rank's place in it, and for each dimension of the mesh whether it copies the tensor or cuts a dimension of it, as `torch.chunk` cuts |

use super::walker::{ParsedValue, Walker};
use crate::codec::pickle::{Id, Node};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::{Entry, EntryKind, Sharded};
use serde_json::json;

/// Dimensions of a mesh.
const MAX_MESH: usize = 16;

/// A box of a tensor: its first element, its shape.
type ShardBox = (Vec<u64>, Vec<u64>);

/// How a dimension of the mesh divides a tensor.
enum Placement {
    Copies,
    /// It cuts this dimension of the tensor; others of this many parts before it.
    Cuts {
        dim: usize,
        behind: u64,
    },
}

/// Whether this is the class of such tensors.
pub(in crate::formats::checkpoint::pytorch) fn is_sharded_class(name: &str) -> bool {
    name.starts_with("torch.distributed.")
        && matches!(name.rsplit('.').next(), Some("ShardedTensor" | "DTensor"))
}

fn broken(what: &str) -> Error {
    Error::corrupt(format!("a tensor in parts does not say {what}"))
}

/// The refusal of a part that is read alone.
fn alone(class: &str) -> Error {
    let name = class.rsplit('.').next().unwrap_or_default();
    Error::refused(format!("this file has only a part of it ({name}), the other ranks' files have the others"))
        .hint("--from fsdp reads it with the other ranks' files beside it; --skip-unsupported leaves it out")
}

impl<'a> Walker<'a> {
    /// A tensor of which parts are here: `state` is what `BUILD` or the call gave its object.
    pub(super) fn sharded(
        &mut self,
        id: Id,
        class: &str,
        state: Option<Id>,
    ) -> Result<ParsedValue> {
        self.handled.push(id);
        if !self.in_parts {
            return self.found(EntryKind::Refused("part of a tensor".into(), alone(class)));
        }
        let state = state.ok_or_else(|| broken("what it holds"));
        let parsed = state.and_then(|state| match class.ends_with("ShardedTensor") {
            true => self.shards(state),
            false => self.local(state),
        });
        let (sharded, parts) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.found(EntryKind::Refused("tensor".into(), error)),
        };
        let name = match self.path.as_str() {
            "" => "unnamed".to_string(),
            path => path.to_string(),
        };
        self.keep_text(name.len().saturating_mul(1 + parts.len()))?;
        let first = self.walk.found.len();
        let count = parts.len();
        for (number, tensor) in parts.into_iter().enumerate() {
            let (before, here) = (self.depth, format!("{name}[{number}]"));
            self.depth += 1;
            let kind = self.part(tensor);
            self.depth = before;
            self.walk.found.push(Entry { name: here, kind });
        }
        self.walk.tensors += 1;
        self.walk.sharded.push(Sharded {
            name: name.clone(),
            found: first..first + count,
            ..sharded
        });
        Ok(ParsedValue { plain: None, tree: Some(json!({"tensor": name})) })
    }

    /// The tensor of a part.
    fn part(&mut self, id: Id) -> EntryKind {
        let kind = self.pickle.object(id).and_then(|object| {
            let called = self.called(object);
            let args = self.pickle.tuple(object.args).unwrap_or_default();
            self.tensor(&called, args)
        });
        match kind {
            Some(Ok(kind)) => kind,
            Some(Err(error)) => EntryKind::Refused("tensor".into(), error),
            None => EntryKind::Refused("tensor".into(), broken("which values its part has")),
        }
    }

    /// The fields of an object: its state is a dict, or (with slots) a pair that ends with one.
    fn fields(&self, id: Id) -> Result<&'a [(Id, Id)]> {
        let pickle = self.pickle;
        let state = pickle.object(id).and_then(|object| object.state).unwrap_or(id);
        let state = match pickle.tuple(state) {
            Some(&[_, fields]) => fields,
            _ => state,
        };
        match pickle.node(state) {
            Node::Dict(pairs) if pairs.len() <= 64 => Ok(pairs),
            _ => Err(broken("where its parts are")),
        }
    }

    fn field(&self, fields: &[(Id, Id)], name: &str) -> Result<Id> {
        self.pickle.get(fields, name).ok_or_else(|| broken(name))
    }

    /// Offsets and sizes of a `ShardMetadata`, and its rank.
    fn place(&mut self, id: Id) -> Result<(ShardBox, Option<u64>)> {
        self.charge_steps(8)?;
        let fields = self.fields(id)?;
        let offsets = self.dims(self.field(fields, "shard_offsets")?, "offsets")?;
        let sizes = self.dims(self.field(fields, "shard_sizes")?, "sizes")?;
        let placement = self.pickle.get(fields, "placement");
        let rank = placement
            .and_then(|p| self.fields(p).ok())
            .and_then(|fields| self.pickle.get(fields, "_rank"))
            .and_then(|rank| self.pickle.int(rank))
            .and_then(|rank| u64::try_from(rank).ok());
        if offsets.len() != sizes.len() {
            return Err(broken("where its parts are"));
        }
        Ok(((offsets, sizes), rank))
    }

    /// A `ShardedTensor`: its state begins with the shards here and what is known of all.
    fn shards(&mut self, state: Id) -> Result<(Sharded, Vec<Id>)> {
        let pickle = self.pickle;
        let Some(&[local, metadata, ..]) = pickle.tuple(state) else {
            return Err(broken("what it holds"));
        };
        let fields = self.fields(metadata)?;
        let shape = self.dims(self.field(fields, "size")?, "size")?;
        let all = self.field(fields, "shards_metadata")?;
        let all = pickle.tuple(all).ok_or_else(|| broken("which parts there are"))?;
        let local = pickle.tuple(local).ok_or_else(|| broken("which parts are here"))?;
        self.charge_steps(all.len() + local.len())?;
        let mut elsewhere = Vec::with_capacity(all.len());
        for &shard in all {
            let (place, rank) = self.place(shard)?;
            elsewhere.push((place.0, place.1, rank));
        }
        let (mut places, mut tensors) = (Vec::new(), Vec::new());
        for &shard in local {
            let fields = self.fields(shard)?;
            places.push(self.place(self.field(fields, "metadata")?)?.0);
            tensors.push(self.field(fields, "tensor")?);
        }
        let sharded = Sharded { shape, places, all: elsewhere, ..Sharded::default() };
        Ok((sharded, tensors))
    }

    /// A `DTensor`: its state holds the part here and how it lies.
    fn local(&mut self, state: Id) -> Result<(Sharded, Vec<Id>)> {
        self.charge_steps(32)?;
        let pickle = self.pickle;
        let fields = self.fields(state)?;
        let tensor = self.field(fields, "_local_tensor")?;
        let spec = self.fields(self.field(fields, "_spec")?)?;
        let meta = self.field(spec, "tensor_meta")?;
        let shape = match pickle.object(meta) {
            // A named tuple, or a class of that name with fields.
            Some(object) => match pickle.tuple(object.args).and_then(|args| args.first()) {
                Some(&shape) => shape,
                None => self.field(self.fields(meta)?, "shape")?,
            },
            None => return Err(broken("its shape")),
        };
        let shape = self.dims(shape, "shape")?;
        let mesh = self.fields(self.field(spec, "mesh")?)?;
        let at = self.field(mesh, "_coordinate_on_dim")?;
        let at = self.dims(at, "place in the mesh")?;
        let sizes = self.mesh_sizes(mesh)?;
        let placements = self.placements(self.field(spec, "placements")?, shape.len())?;
        if at.len() != sizes.len()
            || placements.len() != sizes.len()
            || at.iter().zip(&sizes).any(|(at, n)| at >= n)
        {
            return Err(broken("its rank's place in the mesh"));
        }
        let order = match pickle.get(spec, "shard_order") {
            Some(order) if pickle.tuple(order).is_some() => Some(self.order(order, sizes.len())?),
            _ => None,
        };
        let (origin, part) = place_of(&shape, &at, &sizes, &placements, order)?;
        let ranks = sizes.iter().try_fold(1u64, |n, &s| n.checked_mul(s));
        let sharded = Sharded {
            shape,
            places: vec![(origin, part)],
            ranks: ranks.unwrap_or(u64::MAX),
            ..Sharded::default()
        };
        Ok((sharded, vec![tensor]))
    }

    /// The sizes of a mesh's dimensions, in any of the ways in which they were kept.
    fn mesh_sizes(&mut self, mesh: &[(Id, Id)]) -> Result<Vec<u64>> {
        let pickle = self.pickle;
        let none = || broken("how large its mesh is");
        // A tensor of ranks: the shape that it is built with.
        if let Some(object) = pickle.get(mesh, "mesh").and_then(|id| pickle.object(id)) {
            let args = pickle.tuple(object.args).unwrap_or_default();
            return self.dims(*args.get(2).ok_or_else(none)?, "mesh");
        }
        let layout = pickle.get(mesh, "_layout").ok_or_else(none)?;
        let layout = self.fields(layout)?;
        if let Some(axes) = pickle.get(layout, "axes").and_then(|axes| pickle.tuple(axes)) {
            let mut sizes = Vec::new();
            for &axis in axes.iter().take(MAX_MESH + 1) {
                let fields = self.fields(axis)?;
                let size = self.dims(self.field(fields, "shape")?, "mesh")?;
                sizes.push(size.iter().try_fold(1u64, |n, &s| n.checked_mul(s)).ok_or_else(none)?);
            }
            return Ok(sizes);
        }
        let shape = self.field(layout, "shape")?;
        match pickle.int(shape) {
            Some(n) => Ok(vec![u64::try_from(n).map_err(|_| none())?]),
            None => self.dims(shape, "mesh"),
        }
    }

    fn placements(&mut self, id: Id, rank: usize) -> Result<Vec<Placement>> {
        let pickle = self.pickle;
        let list = pickle.tuple(id).filter(|list| list.len() <= MAX_MESH);
        let mut placements = Vec::new();
        for &placement in list.ok_or_else(|| broken("its placements"))? {
            let class = pickle.object(placement).map(|object| self.called(object));
            let class = class.as_deref().and_then(|c| c.rsplit('.').next()).unwrap_or_default();
            let number = |walker: &Self, name: &str| -> Result<u64> {
                let id = walker.field(walker.fields(placement)?, name)?;
                let n = pickle.int(id).and_then(|n| u64::try_from(n).ok());
                n.ok_or_else(|| broken("its placements"))
            };
            placements.push(match class {
                "Replicate" => Placement::Copies,
                "Shard" | "_StridedShard" => {
                    let dim = number(self, "dim")? as usize;
                    if dim >= rank {
                        return Err(broken("which dimension is cut"));
                    }
                    let strided = class.starts_with('_');
                    let behind = if strided { number(self, "split_factor")? } else { 1 };
                    Placement::Cuts { dim, behind }
                }
                other => {
                    return Err(Error::refused(format!(
                        "its placement is {other}: the values of all ranks would have to be added"
                    ))
                    .hint("--skip-unsupported leaves it out"));
                }
            });
        }
        Ok(placements)
    }

    /// For dimensions of the tensor the dimensions of the mesh that cut it, the first cut first.
    fn order(&mut self, id: Id, mesh: usize) -> Result<Vec<(usize, Vec<usize>)>> {
        let pickle = self.pickle;
        let mut out = Vec::new();
        for &entry in pickle.tuple(id).unwrap_or_default().iter().take(64) {
            let parts = pickle.object(entry).and_then(|object| pickle.tuple(object.args));
            let Some(&[dim, by]) = parts.or_else(|| pickle.tuple(entry)) else {
                return Err(broken("in which order it is cut"));
            };
            let dim = pickle.int(dim).and_then(|n| usize::try_from(n).ok());
            let by = self.dims(by, "order")?;
            if by.iter().any(|&m| m >= mesh as u64) {
                return Err(broken("in which order it is cut"));
            }
            let dim = dim.ok_or_else(|| broken("in which order it is cut"))?;
            out.push((dim, by.into_iter().map(|m| m as usize).collect()));
        }
        Ok(out)
    }
}

/// Where the part of the rank at a place of the mesh is: each cut gives `ceil(n / parts)` elements
/// to each part while there are any.
fn place_of(
    shape: &[u64],
    at: &[u64],
    sizes: &[u64],
    placements: &[Placement],
    order: Option<Vec<(usize, Vec<usize>)>>,
) -> Result<ShardBox> {
    let (mut origin, mut part) = (vec![0u64; shape.len()], shape.to_vec());
    for dim in 0..shape.len() {
        let given = order.as_ref().and_then(|o| o.iter().find(|(d, _)| *d == dim));
        let by = match given {
            Some((_, by)) => by.clone(),
            None => cuts_of(dim, sizes, placements)?,
        };
        for mesh in by {
            let size = part[dim].div_ceil(sizes[mesh].max(1));
            let first = size.saturating_mul(at[mesh]).min(part[dim]);
            origin[dim] = origin[dim].saturating_add(first);
            part[dim] = size.min(part[dim] - first);
        }
    }
    Ok((origin, part))
}

/// The dimensions of the mesh that cut a dimension, in the order of the cuts: from left to right,
/// but a strided one comes behind so many parts of those to its right.
fn cuts_of(dim: usize, sizes: &[u64], placements: &[Placement]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    for (mesh, placement) in placements.iter().enumerate().rev() {
        let Placement::Cuts { dim: cut, behind } = placement else { continue };
        if *cut != dim {
            continue;
        }
        let (mut parts, mut place) = (1u64, 0);
        while parts < *behind && place < order.len() {
            parts = parts.saturating_mul(sizes[order[place]]);
            place += 1;
        }
        if parts != *behind {
            return Err(Error::refused(format!(
                "its dimension {dim} is cut in strides of {behind}, which no order of its cuts gives"
            ))
            .hint("--skip-unsupported leaves it out"));
        }
        order.insert(place, mesh);
    }
    Ok(order)
}
