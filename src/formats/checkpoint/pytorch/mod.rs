//! PyTorch checkpoints (`torch.save`), without PyTorch and without running anything.
//!
//! Reads the zip form (torch 1.6 and later, TorchScript archives too), the legacy form and the tar
//! form of 2016; writes the zip form. There is no specification; the writer is
//! <https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>.
//!
//! | part | where |
//! |---|---|
//! | the three containers | [`container`], [`zip`] |
//! | the pickle, read as data | [`crate::codec::pickle`] |
//! | names that make it an attack | [`code_running_globals`] |
//! | names, tensors and plain values in it | [`tree`] |
//! | strided views of storages | [`view`] |
//! | how it was nested, kept for the way back | [`structure`] |
//! | the writer, and its pickle | [`write`], [`pickler`] |
//!
//! Refused by name: quantized, sparse, nested and meta tensors, and every global that is not on the
//! fixed list of
//! [`tree`]; no flag runs one. A pickle that asks for a function that runs code is refused as a whole. Checksums of small
//! tensor records are compared when they are read from a local file, those of all records by
//! `verify` (torch never does); 0 means that there is none.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use serde_json::Value;

pub(in crate::formats::checkpoint) use self::code_running_globals::{
    check as check_globals, is_refusal as is_attack,
};
use self::storages::{StorageBytes, Storages};
pub(in crate::formats::checkpoint) use self::structure::is_flat;
use self::view::View;
use self::zip::Archive;
use crate::array::source::MapSource;
use crate::codec::pickle::Pickle;
use crate::error::{Context, Error, Result};
use crate::format::foreign_file;
use crate::format::{
    Capabilities, Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, WriteOptions, prepared,
};
pub(in crate::formats::checkpoint) use crate::formats::checkpoint::pytorch::entry::Sharded;
use crate::formats::checkpoint::pytorch::entry::{Entry, EntryKind, LazyOp, Numpy, Tensor, Walk};
use crate::formats::checkpoint::shards;
use crate::model::{ArrayMeta, Dtype, Logical, Plan};
use crate::storage::{Blob, Location};

mod code_running_globals;
mod container;
mod entry;
mod pickler;
mod storages;
mod structure;
mod tar;
mod torch_types;
mod tree;
mod view;
mod write;
mod zip;

/// The format.
pub struct Pytorch;

/// How shards are called.
const SHARDS: shards::Naming = shards::Naming { extension: "bin" };

/// The least that a pickle may take, whatever the memory limit.
const PICKLE_BYTES: u64 = 256 << 20;

static SPEC: Spec = Spec {
    name: "pt",
    extensions: &["pt", "pth", "bin", "ckpt", "bin.index.json"],
    about: "PyTorch checkpoints: zip, legacy and tar forms, nothing in them is run; writes the zip form",
    keeps_aliases: true,
    writes: Some(Capabilities {
        dtypes: &Dtype::ALL,
        logical: |logical| matches!(logical, Logical::Packed { dtype, .. } if dtype == "F4"),
        // torch's own limit.
        max_rank: 64,
        rows_first: true,
        is_raw: true,
        layout_flags: &["single", "metadata"],
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Pytorch {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if let Some(sniff) = SHARDS.sniff(head)? {
            return Ok(sniff);
        }
        Ok(match container::kind(head.bytes) {
            None => Sniff::No,
            Some(container::ContainerKind::Zip) => {
                let name_len = head
                    .bytes
                    .get(26..28)
                    .map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
                let name = head.bytes.get(30..30 + name_len).unwrap_or_default();
                if name.ends_with(b"/data.pkl") || name == b"data.pkl" {
                    return Ok(Sniff::Yes);
                }
                let archive = head.blob.and_then(|blob| Archive::open(blob).ok());
                let found = archive.is_some_and(|a| {
                    a.entries()
                        .iter()
                        .any(|e| e.name == "data.pkl" || e.name.ends_with("/data.pkl"))
                });
                if found { Sniff::Yes } else { Sniff::No }
            }
            Some(_) => Sniff::Yes,
        })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        match shards::find(at, &SHARDS, options.resources.memory_bytes())? {
            Some(found) => shards::open(found, "pt", options.on_duplicate, &|part| {
                let mut source = open_one(part, options)?;
                // A shard is a flat part of the whole.
                source.plan_mut().attributes.remove(structure::KEY);
                Ok(Box::new(source))
            }),
            None => open_one(at, options).map(|s| Box::new(s) as Box<dyn Source>),
        }
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        if options.single && plan.arrays.len() != 1 {
            return Err(write::single_error(plan));
        }
        Ok(prepared(at, options, write::create))
    }
    fn lost_attributes<'a>(&self, plan: &'a Plan, options: &WriteOptions) -> Vec<&'a str> {
        let tree = structure::of(plan, options).filter(|tree| structure::names_all(tree, plan));
        let kept = tree.map(|tree| structure::attributes(&tree)).unwrap_or_default();
        plan.attributes
            .keys()
            .map(String::as_str)
            .filter(|key| !key.contains('.') && !kept.contains(*key))
            .collect()
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        verify(&at.blob()?).map(unchecked).at_file(&at.display())
    }
}

/// Compares the checksums of all records of a zip: how many have none.
///
/// # Errors
/// Corrupt.
pub(in crate::formats::checkpoint) fn verify(blob: &Arc<dyn Blob>) -> Result<u64> {
    let head = blob.read_vec(0, blob.len().min(4))?;
    if container::kind(&head) != Some(container::ContainerKind::Zip) {
        return Ok(0);
    }
    let archive = Archive::open(blob)?;
    let mut without = 0;
    for index in 0..archive.entries().len() {
        if !archive.verify(index)? && archive.entries()[index].bytes > 0 {
            without += 1;
        }
    }
    Ok(without)
}

/// The note on records that [`verify`] could not compare.
pub(in crate::formats::checkpoint) fn unchecked(records: u64) -> Vec<String> {
    match records {
        0 => Vec::new(),
        n => vec![format!("{n} records carry no checksum")],
    }
}

/// The records of a zip that hold arrays; `None` for those that lie elsewhere.
type Records = Vec<Option<(Arc<Archive>, usize)>>;

/// Calls `each` with the records of the wanted arrays, an archive at a time.
fn each_archive(
    records: &Records,
    wanted: &[usize],
    each: impl Fn(&Archive, &[usize]) -> Result<()>,
) -> Result<()> {
    let mut archives: HashMap<*const Archive, (&Archive, Vec<usize>)> = HashMap::new();
    for (archive, index) in wanted.iter().filter_map(|&array| records[array].as_ref()) {
        archives
            .entry(Arc::as_ptr(archive))
            .or_insert_with(|| (archive, Vec::new()))
            .1
            .push(*index);
    }
    archives.into_values().try_for_each(|(archive, mut indices)| {
        indices.sort_unstable();
        indices.dedup();
        each(archive, &indices)
    })
}

/// Views are tied where all of this agrees: storage, offset, shape, strides, element type, what is
/// done to the values.
type ViewKey = (usize, u64, Vec<u64>, Vec<u64>, Dtype, LazyOp);

fn open_one(at: &Location, options: &ReadOptions) -> Result<MapSource> {
    if let Some(error) = foreign_file::named(&at.head(512)?) {
        return Err(error.file(at.display()));
    }
    let opened = open(&at.blob()?, &at.stem(), options);
    if !at.file_name().to_ascii_lowercase().ends_with(".distcp") {
        return opened.at_file(&at.display());
    }
    // One file of a distributed checkpoint: an archive a tensor, one after the other.
    let hint = "name the folder that it is in: it is one file of a distributed checkpoint";
    opened.map_err(|e| e.hint(hint)).at_file(&at.display())
}

fn open(blob: &Arc<dyn Blob>, stem: &str, options: &ReadOptions) -> Result<MapSource> {
    let opened = container::open(blob, options.resources.memory_bytes().max(PICKLE_BYTES))?;
    let walk = tree::walk(&opened.pickle, &opened.given, opened.specs, stem, options.on_duplicate)?;
    source(opened.pickle, opened.storages, opened.big_endian, walk, options).map(|mut source| {
        let plan = source.plan_mut();
        plan.format_version = Some(opened.version);
        plan.notes.splice(0..0, opened.notes);
        source
    })
}

/// One value of a larger checkpoint, as `torch.save` wrote it.
pub(in crate::formats::checkpoint) struct SavedValue {
    /// The tensors in it.
    pub source: MapSource,
    /// Its plain values.
    pub plain: Option<Value>,
    /// How it is nested, as [`structure`] has it.
    pub tree: Option<Value>,
    /// Tensors of which only parts are in it; those are among the arrays of the source.
    pub sharded: Vec<Sharded>,
}

/// Whether a file holds parts of tensors; quiet about one that cannot be read.
pub(in crate::formats::checkpoint) fn holds_parts(blob: &Arc<dyn Blob>) -> bool {
    let opened = container::open(blob, PICKLE_BYTES);
    opened.is_ok_and(|opened| opened.pickle.globals().any(tree::is_sharded_class))
}

/// The attribute that keeps how a checkpoint was nested.
pub(in crate::formats::checkpoint) const STRUCTURE: &str = structure::KEY;
/// Values that are nested deeper are not kept.
pub(in crate::formats::checkpoint) const MAX_NESTED: usize = tree::MAX_STRUCTURE_DEPTH;

/// Opens a value that is called `name` where it is: a tensor, or anything else.
///
/// # Errors
/// As for a checkpoint; but it need not hold tensors.
pub(in crate::formats::checkpoint) fn open_value(
    blob: &Arc<dyn Blob>,
    name: &str,
    options: &ReadOptions,
) -> Result<SavedValue> {
    open_parts(blob, name, false, options)
}

/// As [`open_value`]; `in_parts`: parts of tensors are arrays, too.
///
/// # Errors
/// As [`open_value`].
pub(in crate::formats::checkpoint) fn open_parts(
    blob: &Arc<dyn Blob>,
    name: &str,
    in_parts: bool,
    options: &ReadOptions,
) -> Result<SavedValue> {
    let opened = container::open(blob, options.resources.memory_bytes().max(PICKLE_BYTES))?;
    let names = (name, name);
    let (given, on_duplicate) = (&opened.given, options.on_duplicate);
    let mut walked =
        tree::walk_value(&opened.pickle, given, opened.specs, names, in_parts, on_duplicate)?;
    let sharded = std::mem::take(&mut walked.walk.sharded);
    let tree = walked.tree.filter(|_| walked.deepest <= MAX_NESTED);
    let source = source(opened.pickle, opened.storages, opened.big_endian, walked.walk, options)?;
    Ok(SavedValue { source, plain: walked.plain, tree, sharded })
}

/// The element type that a pickle names, as `torch.float32`.
pub(in crate::formats::checkpoint) fn named_dtype(global: &str) -> Option<Dtype> {
    torch_types::torch_dtype(global.strip_prefix("torch.")?)
}

/// What was found, as maps.
fn source(
    pickle: Pickle,
    storages: Storages,
    big_endian: bool,
    mut walk: Walk,
    options: &ReadOptions,
) -> Result<MapSource> {
    if let Storages::Legacy { .. } = storages {
        tree::add_listed_storages(&pickle, &mut walk.storages);
    }
    drop(pickle);
    // What is wrong with the storages as a whole concerns every tensor.
    let places = storages::bind(&storages, &walk.storages)?;
    let mut plan = Plan {
        format: "pt",
        attributes: walk.attributes.into(),
        notes: walk.notes,
        ..Plan::default()
    };
    if let Some(structure) = &walk.structure {
        plan.attributes.insert(structure::KEY.into(), Value::String(structure.to_string()));
    }
    let mut first_of: HashMap<ViewKey, String> = HashMap::new();
    let (mut records, mut maps) = (Records::new(), Vec::with_capacity(walk.found.len()));
    for Entry { name, kind } in walk.found {
        let (mut meta, view) = match kind {
            EntryKind::Tensor(tensor) => {
                tensor_item(&name, tensor, &places, big_endian, &mut first_of)?
            }
            EntryKind::Numpy(array) => numpy_item(&name, array),
            EntryKind::Refused(what, error) => {
                let mut meta = ArrayMeta::new(&name, Dtype::U8, &[0]);
                meta.details.stored_dtype = Some(what);
                broken(meta, error)?
            }
        };
        // A shape whose bytes no number holds is never shown.
        if let Err(error) = meta.bytes() {
            (meta.rows, meta.inner, meta.scalar) = (Some(0), Vec::new(), false);
            meta.details.error.get_or_insert_with(|| Arc::new(error));
        }
        let view = view.filter(|_| meta.details.error.is_none());
        plan.arrays.push(meta);
        records.push(view.as_ref().and_then(|view| match &view.storage {
            StorageBytes::Record(archive, index) => Some((archive.clone(), *index)),
            StorageBytes::Ready(_) => None,
        }));
        maps.push(view.map(View::map));
    }
    let records = Arc::new(records);
    let wanted = records.clone();
    Ok(MapSource::new(plan, maps, options.resources.memory_bytes())
        .prepared_by(move |arrays| each_archive(&wanted, arrays, Archive::locate_all))
        .closed_by(move |arrays| each_archive(&records, arrays, Archive::verify_small)))
}

/// A tensor over a storage. A view equal to an earlier one in everything is recorded as its alias.
fn tensor_item(
    name: &str,
    tensor: Tensor,
    places: &[Result<StorageBytes>],
    big_endian: bool,
    first_of: &mut HashMap<ViewKey, String>,
) -> Result<(ArrayMeta, Option<View>)> {
    let mut meta =
        ArrayMeta { logical: tensor.logical, ..ArrayMeta::new(name, tensor.dtype, &tensor.shape) };
    if tensor.requires_grad {
        meta.details.attributes.insert("requires_grad".into(), Value::Bool(true));
    }
    if let Some(class) = tensor.class {
        meta.details.attributes.insert("class".into(), Value::String(class));
    }
    if let Logical::Packed { .. } = meta.logical {
        meta.details.stored_dtype = Some("float4_e2m1fn_x2".into());
    }
    let place = match places.get(tensor.storage) {
        Some(Ok(place)) => place.clone(),
        Some(Err(error)) => return broken(meta, error.clone()),
        None => return broken(meta, Error::corrupt("its storage is not in the file")),
    };
    if !tensor.shape.contains(&0) {
        let key = (
            tensor.storage,
            tensor.offset,
            tensor.shape.clone(),
            tensor.strides.clone(),
            tensor.dtype,
            tensor.lazy_op,
        );
        match first_of.entry(key) {
            Slot::Occupied(first) => meta.details.alias_of = Some(first.get().clone()),
            Slot::Vacant(free) => {
                free.insert(name.to_string());
            }
        }
    }
    if let StorageBytes::Record(archive, index) = &place
        && !archive.entries()[*index].is_stored()
    {
        meta.details.compression = Some("deflate".into());
    }
    let view = View {
        storage: place,
        dtype: tensor.dtype,
        offset: tensor.offset,
        shape: tensor.shape,
        strides: tensor.strides,
        lazy_op: tensor.lazy_op,
        big_endian: big_endian && !tensor.untyped,
    };
    Ok((meta, Some(view)))
}

/// A numpy array whose bytes are in the pickle itself.
fn numpy_item(name: &str, array: Numpy) -> (ArrayMeta, Option<View>) {
    let mut meta =
        ArrayMeta { logical: array.logical, ..ArrayMeta::new(name, array.dtype, &array.shape) };
    if array.requires_grad {
        meta.details.attributes.insert("requires_grad".into(), Value::Bool(true));
    }
    let view = View {
        storage: StorageBytes::Ready(array.bytes),
        dtype: array.dtype,
        offset: 0,
        shape: array.shape,
        strides: array.strides,
        lazy_op: LazyOp::Plain,
        big_endian: array.big_endian,
    };
    (meta, Some(view))
}

/// An array that is listed, and refused when it is read.
fn broken(mut meta: ArrayMeta, error: Error) -> Result<(ArrayMeta, Option<View>)> {
    meta.details.error = Some(Arc::new(error.of_data()?));
    Ok((meta, None))
}
