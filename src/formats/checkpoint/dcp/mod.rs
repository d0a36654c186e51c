//! Distributed checkpoints of PyTorch (`torch.distributed.checkpoint`, DCP), without PyTorch and
//! without running anything. <https://pytorch.org/docs/stable/distributed.checkpoint.html>; the
//! writers are
//! <https://github.com/pytorch/pytorch/blob/main/torch/distributed/checkpoint/filesystem.py> and
//! `hf_storage.py` beside it.
//!
//! | file of the directory | what it holds |
//! |---|---|
//! | `.metadata` | a pickle of `Metadata`: names, types, shapes, chunks, and where each of them is ([`metadata`]) |
//! | `__R.metadata` | the same of rank R alone, where the ranks did not speak with each other |
//! | `__R_I.distcp` | one after the other: each chunk, and each value that is no tensor, as `torch.save` writes it; each may be compressed with Zstandard. With `SerializationFormat.SAFETENSORS` all chunks are one safetensors file behind the values |
//! | `shard-*.safetensors` | in place of these files: the chunks of a rank, with `DCP_SHARDING_INFO` in their metadata ([`huggingface`]) |
//!
//! Read: files of torch 2.1 and later. Tensors are whole, whatever way they were cut: their chunks
//! are boxes of the array engine ([`crate::array::boxes`]), opened when they are read. Values that
//! are no tensors are read as those of a `.pt` file: plain ones become attributes, nested as they
//! were; tensors and NumPy arrays in them are arrays. Every chunk must be there once: files that are
//! missing (exit 3), chunks that overlap, elements that no chunk holds (exit 7) are named, for the
//! arrays that they concern; the others can be read.
//!
//! Not read: other transforms than `stream.zstd`; what planners of other libraries store beside
//! tensors; `.distcp` files without their `.metadata`. Not written.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;

use self::item::{Files, Items, Stored};
use self::metadata::{Checkpoint, EntryKind, Tensor};
use self::values::Tree;
use crate::array::boxes::{BoxSource, Boxes, OpenedPart, Part};
use crate::error::{Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec, duplicates};
use crate::model::{ArrayMeta, Dtype, Plan};
use crate::storage::{EntryKind as Kind, Location};

mod huggingface;
mod item;
mod metadata;
mod values;

/// The format.
pub struct Dcp;

static SPEC: Spec = Spec {
    name: "dcp",
    extensions: &["dcp"],
    about: "Distributed checkpoints of PyTorch (FSDP and others), whole tensors from all ranks' files",
    is_directory: true,
    ..Spec::DEFAULT
};

/// The file that says what there is.
const METADATA: &str = ".metadata";
/// What its pickle begins with, soon.
const MODULE: &[u8] = b"torch.distributed";

impl Format for Dcp {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let at = head.location;
        if !head.bytes.is_empty() || at.is_stream() || at.kind()? != Kind::Dir {
            return Ok(Sniff::No);
        }
        let is_metadata = |name: &str| {
            let begin = at.join(name).head(4096).unwrap_or_default();
            memchr::memmem::find(&begin, MODULE).is_some()
        };
        let entries = match at.list() {
            // A store may be readable where nothing can be listed.
            Err(_) if at.is_remote() => Vec::new(),
            entries => entries?,
        };
        let files = || entries.iter().filter(|e| !e.is_dir).map(|e| e.name.as_str());
        let has_files = || files().any(|name| name.ends_with(".distcp"));
        if files().any(|name| name == METADATA) || entries.is_empty() && at.is_remote() {
            return Ok(if has_files() || is_metadata(METADATA) { Sniff::Yes } else { Sniff::No });
        }
        let of_rank = files().find(|name| rank_of(name).is_some());
        let found = match of_rank {
            Some(name) => is_metadata(name),
            None => files().any(huggingface::is_shard_name),
        };
        Ok(if found { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        open(at, options)
    }
    fn verify(&self, at: &Location, options: &ReadOptions) -> Result<Vec<String>> {
        let (checkpoint, files) = find(at, options)?;
        item::verify(&files, checkpoint.places(), options)
    }
}

/// R of `__R.metadata`.
fn rank_of(name: &str) -> Option<u64> {
    let rank = name.strip_prefix("__")?.strip_suffix(METADATA)?;
    rank.bytes().all(|b| b.is_ascii_digit()).then(|| rank.parse().ok()).flatten()
}

/// Reads what a directory says of itself.
fn find(at: &Location, options: &ReadOptions) -> Result<(Checkpoint, Arc<Files>)> {
    // Without a listing (http) files are missed when they are opened.
    let listed = match at.list() {
        Err(_) if at.is_remote() => None,
        entries => Some(entries?),
    };
    let sizes: Option<HashMap<String, u64>> = listed.map(|entries| {
        entries.into_iter().filter(|e| !e.is_dir).map(|e| (e.name, e.len)).collect()
    });
    let has = |name: &str| sizes.as_ref().is_none_or(|sizes| sizes.contains_key(name));
    let mut names = IndexSet::new();
    let mut checkpoint = if has(METADATA) {
        metadata::read(&at.join(METADATA), options, &mut names)?
    } else {
        let all = sizes.iter().flat_map(HashMap::keys);
        let mut ranks: Vec<(u64, &String)> =
            all.filter_map(|name| Some((rank_of(name)?, name))).collect();
        ranks.sort();
        let mut joined = Checkpoint::default();
        for (_, name) in &ranks {
            joined.join(metadata::read(&at.join(name), options, &mut names)?);
        }
        if ranks.is_empty() {
            let shards = sizes.iter().flat_map(HashMap::keys);
            let mut shards: Vec<&String> =
                shards.filter(|name| huggingface::is_shard_name(name)).collect();
            shards.sort();
            let memory_bytes = options.resources.memory_bytes();
            huggingface::read(at, &shards, &mut joined, &mut names, memory_bytes)?;
        }
        joined
    };
    checkpoint.unique();
    Ok((checkpoint, Arc::new(Files::new(at, names, sizes))))
}

/// Where an array is.
enum Where {
    /// In chunks.
    Boxes(Boxes),
    /// In a value that is no tensor.
    Inside(usize),
}

impl Where {
    /// The pieces of the array; those of values are behind the `chunks` of tensors.
    fn boxes(self, meta: &ArrayMeta, chunks: usize) -> Boxes {
        match self {
            Where::Boxes(boxes) => boxes,
            Where::Inside(n) => Boxes::whole(&meta.shape().unwrap_or_default(), chunks + n),
        }
    }
}

/// Which of the checkpoint's files are missing.
fn missing_note(files: &Files) -> Option<String> {
    let missing = files.missing();
    let (count, all) = (missing.len(), files.len());
    let names = || missing.into_iter().take(10).collect::<Vec<_>>().join(", ");
    (count > 0).then(|| format!("{count} of its {all} files are missing: {}", names()))
}

fn open(at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let (checkpoint, files) = find(at, options)?;
    let mut plan = Plan {
        format: "dcp",
        format_version: checkpoint.version.clone(),
        notes: checkpoint.notes.clone(),
        attributes: checkpoint.attributes.clone().into(),
        ..Plan::default()
    };
    plan.notes.extend(missing_note(&files));
    let (mut boxes, mut parts, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    let mut tree = Tree::default();
    let mut saved = values::read(&checkpoint, &files, options)?;
    for (index, entry) in checkpoint.entries.into_iter().enumerate() {
        let (name, path) = (entry.name, entry.path);
        match entry.kind {
            EntryKind::Tensor(tensor) => {
                let (meta, of) = array(&name, tensor, &files, &mut parts)?;
                if of.is_some() {
                    tree.tensor(path, &name);
                }
                plan.arrays.push(meta);
                boxes.push(of.map(Where::Boxes));
            }
            EntryKind::Value(_) => match saved.remove(&index) {
                Some(Ok(value)) => {
                    tree.value(path, &name, value.plain, value.tree);
                    plan.notes.extend(value.source.plan().notes.iter().cloned());
                    for (i, meta) in value.source.plan().arrays.iter().enumerate() {
                        let of =
                            meta.details.error.is_none().then_some(Where::Inside(inside.len()));
                        if of.is_some() {
                            let (reader, array) = (value.source.reader().clone(), i);
                            inside.push(OpenedPart { reader, array, first: 0 });
                        }
                        plan.arrays.push(meta.clone());
                        boxes.push(of);
                    }
                }
                Some(Err(error)) => {
                    let mut meta = ArrayMeta::new(&name, Dtype::U8, &[0]);
                    meta.details.stored_dtype = Some("object".into());
                    meta.details.error = Some(Arc::new(error.of_data()?));
                    plan.arrays.push(meta);
                    boxes.push(None);
                }
                // It was not asked for.
                None => {}
            },
        }
    }
    let place = |n: usize| format!("the {}. of the checkpoint", n + 1);
    let all = std::mem::take(&mut plan.arrays).into_iter().zip(boxes).collect();
    let mut arrays = Vec::new();
    for (meta, of) in duplicates::unique_arrays(all, options.on_duplicate, &place)? {
        arrays.push(of.map(|of| of.boxes(&meta, parts.len())));
        plan.arrays.push(meta);
    }
    if plan.arrays.is_empty() {
        return Err(Error::missing("this checkpoint has no tensors").file(at.display()));
    }
    tree.finish(&mut plan);
    let items = Arc::new(Items::new(files, parts, inside, options));
    Ok(Box::new(BoxSource::new(plan, arrays, items, options.resources.memory_bytes())))
}

/// A tensor and its boxes; where it cannot be read, it is listed with the reason.
fn array(
    name: &str,
    tensor: Tensor,
    files: &Files,
    parts: &mut Vec<Stored>,
) -> Result<(ArrayMeta, Option<Boxes>)> {
    let dtype = *tensor.dtype.as_ref().unwrap_or(&Dtype::U8);
    let mut meta = ArrayMeta::new(name, dtype, &tensor.shape);
    let first = parts.len();
    let error = match meta.bytes().and_then(|_| boxes_of(name, tensor, files, parts)) {
        Ok(boxes) => {
            let own = &parts[first..];
            meta.details.stored_bytes = Some(own.iter().map(|p| p.place.len).sum());
            if let Some((one, others)) = own.split_first() {
                let same = others.iter().all(|p| p.place.file == one.place.file);
                meta.details.part = same.then(|| files.name(one.place.file).to_string());
                if !others.is_empty() {
                    meta.details.chunks = Some(boxes.parts()[0].shape.clone());
                }
            }
            return Ok((meta, Some(boxes)));
        }
        Err(error) => error.of_data()?,
    };
    parts.truncate(first);
    if meta.bytes().is_err() {
        meta = ArrayMeta::new(name, dtype, &[0]);
    }
    meta.details.error = Some(Arc::new(error));
    Ok((meta, None))
}

/// Where the chunks of a tensor are. They are pushed onto `parts`.
fn boxes_of(name: &str, tensor: Tensor, files: &Files, parts: &mut Vec<Stored>) -> Result<Boxes> {
    let dtype = tensor.dtype?;
    let mut boxes: Vec<Part> = Vec::with_capacity(tensor.chunks.len());
    for chunk in tensor.chunks.into_iter().filter(|chunk| !chunk.shape.contains(&0)) {
        let place = chunk.place?;
        files.check(&place)?;
        let number = parts.len();
        parts.push(Stored {
            name: name.to_string(),
            place,
            dtype,
            origin: chunk.origin.clone(),
            shape: chunk.shape.clone(),
        });
        boxes.push(Part { origin: chunk.origin, shape: chunk.shape, number });
    }
    Boxes::new(&tensor.shape, dtype.item_bytes(), boxes)
}
