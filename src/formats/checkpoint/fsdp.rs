//! Checkpoints of which each rank wrote a file with `torch.save`, whose tensors say how their parts
//! join: `SHARDED_STATE_DICT` and `LOCAL_STATE_DICT` of FSDP, state dicts of `fully_shard` and of
//! `distribute_tensor`. The classes are `ShardedTensor` in
//! <https://github.com/pytorch/pytorch/tree/main/torch/distributed/_shard> and `DTensor` in
//! <https://github.com/pytorch/pytorch/tree/main/torch/distributed/tensor>; where each has its parts
//! is in `pytorch/tree/sharded.rs`.
//!
//! The files are those of a directory whose names differ in one number, the last in each:
//! `model_rank0.pt`, `model_world_size_8_rank_0.pt`, `pytorch_model_fsdp_rank0.bin`. A directory that
//! has several such checkpoints is read by the name of one of their files, with `--from fsdp`.
//! Tensors are whole, read by ranges; what is no part of a tensor is read from the first file that has it. Parts that are
//! in no file are named (exit 3), as are parts that overlap or do not fill their tensor (exit 7).
//!
//! Not read: flat parameters as the parameters that they hold (nothing in the file says which these
//! are), tensors whose values all ranks' would have to be added for. Not written.

use std::collections::{BTreeMap, HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::Value;

use super::pytorch;
use super::ranks::{self, Ranks};
use crate::array::boxes::{Boxes, Part};
use crate::error::{Context, Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec};
use crate::model::{ArrayMeta, Dtype, Plan};
use crate::storage::{EntryKind, Location};

/// The format.
pub struct Fsdp;

static SPEC: Spec = Spec {
    name: "fsdp",
    extensions: &["fsdp"],
    about: "Files of all ranks from torch.save (FSDP, DTensor): whole tensors from their parts",
    is_directory: true,
    ..Spec::DEFAULT
};

const ENDINGS: [&str; 4] = [".pt", ".pth", ".bin", ".ckpt"];
/// Groups of files that are looked into.
const MAX_GROUPS: usize = 32;

impl Format for Fsdp {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let at = head.location;
        if !head.bytes.is_empty() || at.is_stream() || at.kind()? != EntryKind::Dir {
            return Ok(Sniff::No);
        }
        let groups = match groups(at) {
            // A store may be readable where nothing can be listed.
            Err(_) if at.is_remote() => return Ok(Sniff::No),
            groups => groups?,
        };
        Ok(if in_parts(at, groups).is_empty() { Sniff::No } else { Sniff::Yes })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let (folder, files) = find(at)?;
        open(&folder, files, options)
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        let (folder, files) = find(at)?;
        ranks::verify(&folder, &files)
    }
}

/// What is before and behind the last number of a name, and that number.
fn numbered(name: &str) -> Option<((String, String), u64)> {
    let ending = ENDINGS.into_iter().find(|e| name.ends_with(e))?;
    let stem = &name[..name.len() - ending.len()];
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |i| i + stem[i..].chars().next().map_or(1, char::len_utf8));
    let rank = stem[start..end].parse().ok()?;
    Some(((name[..start].to_string(), name[end..].to_string()), rank))
}

type Groups = BTreeMap<(String, String), BTreeMap<u64, String>>;

/// The files of a directory whose names differ in their last number.
fn groups(at: &Location) -> Result<Groups> {
    let mut groups = Groups::new();
    for entry in at.list()?.into_iter().filter(|entry| !entry.is_dir) {
        if let Some((of, rank)) = numbered(&entry.name) {
            groups.entry(of).or_default().insert(rank, entry.name);
        }
    }
    Ok(groups)
}

/// Those of them whose first file holds parts of tensors.
fn in_parts(at: &Location, groups: Groups) -> Vec<Vec<String>> {
    let holds = |files: &BTreeMap<u64, String>| {
        let blob = files.values().next().and_then(|first| at.join(first).blob().ok());
        blob.is_some_and(|blob| pytorch::holds_parts(&blob))
    };
    let groups = groups.into_values().take(MAX_GROUPS).filter(holds);
    groups.map(|files| files.into_values().collect()).collect()
}

/// The files of the checkpoint that a directory holds, or that a file is of, by rank.
fn find(at: &Location) -> Result<(Location, Vec<String>)> {
    if at.kind()? != EntryKind::Dir {
        let (folder, name) = (at.parent(), at.file_name());
        let group = numbered(&name).and_then(|(of, _)| groups(&folder).ok()?.remove(&of));
        let files = group.map_or_else(|| vec![name], |files| files.into_values().collect());
        return Ok((folder, files));
    }
    let mut found = in_parts(at, groups(at)?);
    if found.len() > 1 {
        let firsts: Vec<&str> =
            found.iter().filter_map(|f| f.first().map(String::as_str)).collect();
        let firsts = firsts.join(", ");
        return Err(Error::usage(format!("the directory holds several checkpoints: {firsts}"))
            .hint("name one of these files with --from fsdp: those of the other ranks are found beside it")
            .file(at.display()));
    }
    match found.pop() {
        Some(files) => Ok((at.clone(), files)),
        None => Err(Error::missing("the directory has no files of ranks with parts of tensors")
            .file(at.display())),
    }
}

/// A tensor on its way.
#[derive(Default)]
struct Tensor {
    shape: Vec<u64>,
    dtype: Option<Dtype>,
    parts: Vec<Part>,
    seen: HashSet<(Vec<u64>, Vec<u64>)>,
    /// Parts of all ranks, as the first file lists them.
    all: Vec<(Vec<u64>, Vec<u64>, Option<u64>)>,
    ranks: u64,
    error: Option<Error>,
}

fn open(at: &Location, files: Vec<String>, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let count = files.len();
    let mut ranks = Ranks::open(at, files, true, options)?;
    let mut tensors: IndexMap<String, Tensor> = IndexMap::new();
    let mut whole: IndexMap<String, (usize, usize)> = IndexMap::new();
    let mut repeated: HashMap<String, usize> = HashMap::new();
    for file in 0..count {
        let sharded = ranks.file(file).sharded.clone();
        let mut in_parts = HashSet::new();
        for of in sharded {
            in_parts.extend(of.found.clone());
            let tensor = tensors.entry(of.name.clone()).or_insert_with(|| Tensor {
                shape: of.shape.clone(),
                all: of.all,
                ranks: of.ranks,
                ..Tensor::default()
            });
            if tensor.shape != of.shape {
                let name = ranks.name(file);
                let (one, other) = (&tensor.shape, &of.shape);
                tensor.error.get_or_insert_with(|| {
                    Error::corrupt(format!("its shape is {one:?}, but {other:?} in {name}"))
                });
            }
            for (array, place) in of.found.zip(of.places) {
                if let Err(error) = add(tensor, &mut ranks, (file, array), place) {
                    tensor.error.get_or_insert(error);
                }
            }
        }
        for (array, meta) in ranks.file(file).source.plan().arrays.iter().enumerate() {
            if in_parts.contains(&array) {
                continue;
            }
            if whole.contains_key(&meta.name) {
                *repeated.entry(meta.name.clone()).or_default() += 1;
            } else {
                whole.insert(meta.name.clone(), (file, array));
            }
        }
    }
    let mut plan = Plan { format: SPEC.name, ..Plan::default() };
    plan.notes.push(format!("parts of {} tensors are in {count} files", tensors.len()));
    if !repeated.is_empty() {
        plan.notes.push(format!(
            "{} arrays are whole in several files, and read from the first that has them",
            repeated.len()
        ));
    }
    if let Value::Object(values) = ranks.plain(0) {
        plan.attributes.extend(values.clone());
    }
    if let Some(tree) = ranks.file(0).tree.as_ref().filter(|tree| !pytorch::is_flat(tree)) {
        plan.attributes.insert(pytorch::STRUCTURE.into(), Value::String(tree.to_string()));
    }
    for (name, tensor) in tensors {
        let meta = ArrayMeta::new(&name, tensor.dtype.unwrap_or(Dtype::U8), &tensor.shape);
        let boxes = joined(tensor, count);
        ranks.push(meta, boxes)?;
    }
    for (name, (file, array)) in whole {
        ranks.keep(&name, file, array);
    }
    ranks.finish(at, plan, options).at_file(&at.display())
}

/// Adds a part that a file has; one that several ranks have is taken from the first.
fn add(
    tensor: &mut Tensor,
    ranks: &mut Ranks,
    (file, array): (usize, usize),
    (origin, shape): (Vec<u64>, Vec<u64>),
) -> Result<()> {
    let meta = ranks.meta(file, array);
    if let Some(error) = &meta.details.error {
        return Err(Error::clone(error));
    }
    let (dtype, found) = (meta.dtype, meta.shape().unwrap_or_default());
    if *tensor.dtype.get_or_insert(dtype) != dtype {
        return Err(Error::corrupt(format!(
            "its parts are of different types, {dtype} in {}",
            ranks.name(file)
        )));
    }
    // What fills up a part of one dimension is behind it.
    let padded = matches!((found.as_slice(), shape.as_slice()), ([have], [need]) if have >= need);
    if found != shape && !padded {
        return Err(Error::corrupt(format!(
            "its part in {} has the shape {found:?}, {shape:?} is expected",
            ranks.name(file)
        )));
    }
    if !tensor.seen.insert((origin.clone(), shape.clone())) || shape.contains(&0) {
        return Ok(());
    }
    let number = ranks.part(file, array, 0);
    tensor.parts.push(Part { origin, shape, number });
    Ok(())
}

/// The parts of a tensor as one.
fn joined(tensor: Tensor, files: usize) -> Result<Boxes> {
    if let Some(error) = tensor.error {
        return Err(error);
    }
    const HINT: &str = "fetch the files of all ranks";
    let absent = tensor.all.iter().find(|(origin, shape, _)| {
        !shape.contains(&0) && !tensor.seen.contains(&(origin.clone(), shape.clone()))
    });
    if let Some((origin, shape, rank)) = absent {
        let whose = rank.map_or_else(String::new, |rank| format!(" of rank {rank}"));
        return Err(Error::missing(format!(
            "its part{whose}, of shape {shape:?} at {origin:?}, is in none of the files"
        ))
        .hint(HINT));
    }
    let item = tensor.dtype.map_or(1, Dtype::item_bytes);
    Boxes::new(&tensor.shape, item, tensor.parts).map_err(|error| {
        if tensor.ranks <= files as u64 {
            return error;
        }
        let (ranks, why) = (tensor.ranks, error.message());
        Error::missing(format!("{files} of {ranks} ranks' files are here, and {why}")).hint(HINT)
    })
}
