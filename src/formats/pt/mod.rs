//! PyTorch checkpoints (`torch.save`), without PyTorch and without running anything.
//!
//! Reads the zip form (torch 1.6 and later, TorchScript archives too), the legacy form and the tar form of 2016; writes
//! the zip form. There is no specification; the writer is
//! <https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>.
//!
//! | part | where |
//! |---|---|
//! | the three containers | [`container`], [`zip`] |
//! | the pickle, read as data | [`crate::codec::pickle`] |
//! | names that make it an attack | [`hostile`] |
//! | names, tensors and plain values in it | [`tree`] |
//! | strided views of storages | [`view`] |
//! | how it was nested, kept for the way back | [`structure`] |
//! | the writer, and its pickle | [`write`], [`pickler`] |
//!
//! Refused by name: quantized, sparse, nested and meta tensors, and every global that is not on the fixed list of
//! [`tree`]; no flag runs one. A pickle that asks for a function that runs code is refused as a whole. Checksums of small
//! tensor records are compared when they are read from a local file, those of all records by `verify` (torch never does); 0
//! means that there is none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use self::container::{Place, Storages};
use self::tree::{Flip, Found, Numpy, Tensor, Thing};
use self::view::View;
use self::zip::Archive;
use crate::codec::{foreign, shards};
use crate::error::{Context, Error, Result};
use crate::format::{Arrays, Emit, Extent, Format, Head, Holds, Order, ReadOptions, ReadRows, Sink, Sniff, Source, WriteOptions, readable};
use crate::location::{Blob, Location};
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Plan};

mod container;
mod hostile;
mod pickler;
mod structure;
mod tree;
mod view;
mod write;
mod zip;

/// The format.
pub struct Pt;

/// How shards are called.
const SHARDS: shards::Naming = shards::Naming { extension: "bin" };

static HOLDS: Holds = Holds {
    arrays: Arrays::Many,
    dtypes: &Dtype::ALL,
    logical: |logical| matches!(logical, Logical::Packed { dtype, .. } if dtype == "F4"),
    nulls: false,
    scalars: true,
    // torch's own limit.
    max_rank: 64,
    sidecar: false,
    order: Order::ArrayByArray,
    rows_first: true,
};

/// The least that a pickle may take, whatever the memory limit.
const PICKLE_BYTES: u64 = 256 << 20;

impl Format for Pt {
    fn name(&self) -> &'static str {
        "pt"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["pt", "pth", "bin", "ckpt", "bin.index.json"]
    }
    fn about(&self) -> &'static str {
        "PyTorch checkpoints: zip, legacy and tar forms, nothing in them is run; writes the zip form"
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if head.bytes.is_empty() {
            return Ok(if shards::is_sharded(head.location, &SHARDS)? { Sniff::Yes } else { Sniff::No });
        }
        if SHARDS.is_index(&head.location.file_name()) {
            return Ok(Sniff::Yes);
        }
        Ok(match container::kind(head.bytes) {
            None => Sniff::No,
            Some(container::Kind::Zip) => {
                let name_len = head.bytes.get(26..28).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
                let name = head.bytes.get(30..30 + name_len).unwrap_or_default();
                if name.ends_with(b"/data.pkl") || name == b"data.pkl" {
                    return Ok(Sniff::Yes);
                }
                let archive = head.blob.and_then(|blob| Archive::open(blob).ok());
                let found = archive.is_some_and(|a| a.entries().iter().any(|e| e.name == "data.pkl" || e.name.ends_with("/data.pkl")));
                if found { Sniff::Yes } else { Sniff::No }
            }
            Some(_) => Sniff::Yes,
        })
    }
    fn layout_flags(&self) -> &'static [&'static str] {
        &["single", "metadata"]
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        match shards::find(at, &SHARDS)? {
            Some(found) => shards::open(found, "pt", options.on_duplicate, &|part| {
                let mut source = open_one(part, options)?;
                // A shard is a flat part of the whole.
                source.plan.attributes.remove(structure::KEY);
                Ok(Box::new(source))
            }),
            None => open_one(at, options).map(|s| Box::new(s) as Box<dyn Source>),
        }
    }
    fn is_raw(&self) -> bool {
        true
    }
    fn holds(&self) -> Option<&'static Holds> {
        Some(&HOLDS)
    }
    fn refuse(&self, _at: &Location, plan: &Plan, options: &WriteOptions) -> Vec<Error> {
        if options.single && plan.arrays.len() != 1 { vec![write::single_error(plan)] } else { Vec::new() }
    }
    fn ties(&self) -> bool {
        true
    }
    fn lost_attributes<'a>(&self, plan: &'a Plan, options: &WriteOptions) -> Vec<&'a str> {
        let tree = structure::of(plan, options).filter(|tree| structure::names_all(tree, plan));
        let kept = tree.map(|tree| structure::attributes(&tree)).unwrap_or_default();
        plan.attributes.keys().map(String::as_str).filter(|key| !key.contains('.') && !kept.contains(*key)).collect()
    }
    fn create(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
        write::create(at, plan, options)
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        verify(&at.blob()?).at_file(&at.display())
    }
}

/// Compares the checksums of all records of a zip.
fn verify(blob: &Arc<dyn Blob>) -> Result<Vec<String>> {
    let head = blob.read_vec(0, blob.len().min(4))?;
    if container::kind(&head) != Some(container::Kind::Zip) {
        return Ok(Vec::new());
    }
    let archive = Archive::open(blob)?;
    let mut without = 0;
    for index in 0..archive.entries().len() {
        if !archive.verify(index)? && archive.entries()[index].bytes > 0 {
            without += 1;
        }
    }
    Ok(if without == 0 { Vec::new() } else { vec![format!("{without} records carry no checksum")] })
}

/// One array of a source.
enum Item {
    View(View),
    Broken,
}

/// What reads on any thread.
struct Reader {
    items: Vec<Item>,
    memory_bytes: u64,
}

struct PtSource {
    plan: Plan,
    reader: Arc<Reader>,
    /// The arrays that are read.
    wanted: Vec<usize>,
}

impl PtSource {
    /// The records of a zip that hold the wanted arrays.
    fn records(&self) -> Vec<(Arc<Archive>, Vec<usize>)> {
        let mut records: HashMap<*const Archive, (Arc<Archive>, Vec<usize>)> = HashMap::new();
        for &array in &self.wanted {
            if let Item::View(view) = &self.reader.items[array]
                && let Place::Record(archive, index) = &view.place
            {
                records.entry(Arc::as_ptr(archive)).or_insert_with(|| (archive.clone(), Vec::new())).1.push(*index);
            }
        }
        let mut records: Vec<_> = records.into_values().collect();
        for (_, indices) in &mut records {
            indices.sort_unstable();
            indices.dedup();
        }
        records
    }
}

/// Views are tied where all of this agrees: storage, offset, shape, strides, element type, what is done to the values.
type ViewKey = (usize, u64, Vec<u64>, Vec<u64>, Dtype, Flip);

fn open_one(at: &Location, options: &ReadOptions) -> Result<PtSource> {
    if let Some(error) = foreign::named(&at.head(512)?) {
        return Err(error.file(at.display()));
    }
    let opened = open(&at.blob()?, &at.stem(), options);
    if !at.file_name().to_ascii_lowercase().ends_with(".distcp") {
        return opened.at_file(&at.display());
    }
    // One file of a distributed checkpoint: an archive a tensor, one after the other.
    let hint = "torch.distributed.checkpoint.format_utils.dcp_to_torch_save makes a checkpoint of the folder that it is in";
    opened.map_err(|e| e.hint(hint)).at_file(&at.display())
}

fn open(blob: &Arc<dyn Blob>, stem: &str, options: &ReadOptions) -> Result<PtSource> {
    let opened = container::open(blob, options.memory_bytes.max(PICKLE_BYTES))?;
    let mut walk = tree::walk(&opened.pickle, &opened.given, opened.claims, stem, options.on_duplicate)?;
    if let Storages::Legacy { .. } = opened.storages {
        tree::claim_listed(&opened.pickle, &mut walk.storages);
    }
    drop(opened.pickle);
    // What is wrong with the storages as a whole concerns every tensor.
    let places = container::bind(&opened.storages, &walk.storages)?;
    let mut plan =
        Plan { format: "pt", format_version: Some(opened.version), attributes: walk.attributes, notes: opened.notes, ..Plan::default() };
    plan.notes.extend(walk.notes);
    if let Some(structure) = &walk.structure {
        plan.attributes.insert(structure::KEY.into(), Value::String(structure.to_string()));
    }
    let mut first_of: HashMap<ViewKey, String> = HashMap::new();
    let mut items = Vec::with_capacity(walk.found.len());
    for Found { name, thing } in walk.found {
        let (mut meta, item) = match thing {
            Thing::Tensor(tensor) => tensor_item(&name, tensor, &places, opened.big_endian, &mut first_of)?,
            Thing::Numpy(array) => numpy_item(&name, array),
            Thing::Refused(what, error) => {
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
        plan.arrays.push(meta);
        items.push(item);
    }
    Ok(PtSource { plan, reader: Arc::new(Reader { items, memory_bytes: options.memory_bytes }), wanted: Vec::new() })
}

/// A tensor over a storage. A view equal to an earlier one in everything is recorded as its alias.
fn tensor_item(
    name: &str,
    tensor: Tensor,
    places: &[Result<Place>],
    big_endian: bool,
    first_of: &mut HashMap<ViewKey, String>,
) -> Result<(ArrayMeta, Item)> {
    let mut meta = ArrayMeta { logical: tensor.logical, ..ArrayMeta::new(name, tensor.dtype, &tensor.shape) };
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
        let key = (tensor.storage, tensor.offset, tensor.shape.clone(), tensor.strides.clone(), tensor.dtype, tensor.flip);
        match first_of.entry(key) {
            Entry::Occupied(first) => meta.details.alias_of = Some(first.get().clone()),
            Entry::Vacant(free) => {
                free.insert(name.to_string());
            }
        }
    }
    if let Place::Record(archive, index) = &place
        && !archive.entries()[*index].is_stored()
    {
        meta.details.compression = Some("deflate".into());
    }
    let view = View {
        place,
        found: OnceLock::new(),
        dtype: tensor.dtype,
        offset: tensor.offset,
        shape: tensor.shape,
        strides: tensor.strides,
        flip: tensor.flip,
        big_endian: big_endian && !tensor.untyped,
    };
    Ok((meta, Item::View(view)))
}

/// A numpy array whose bytes are in the pickle itself.
fn numpy_item(name: &str, array: Numpy) -> (ArrayMeta, Item) {
    let mut meta = ArrayMeta { logical: array.logical, ..ArrayMeta::new(name, array.dtype, &array.shape) };
    if array.requires_grad {
        meta.details.attributes.insert("requires_grad".into(), Value::Bool(true));
    }
    let view = View {
        place: Place::Ready(array.bytes),
        found: OnceLock::new(),
        dtype: array.dtype,
        offset: 0,
        shape: array.shape,
        strides: array.strides,
        flip: Flip::Plain,
        big_endian: array.big_endian,
    };
    (meta, Item::View(view))
}

/// An array that is listed, and refused when it is read.
fn broken(mut meta: ArrayMeta, error: Error) -> Result<(ArrayMeta, Item)> {
    meta.details.error = Some(Arc::new(error.of_data()?));
    Ok((meta, Item::Broken))
}

impl Source for PtSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        for &array in arrays {
            readable(&self.plan.arrays[array])?;
        }
        self.wanted = arrays.to_vec();
        for (archive, indices) in self.records() {
            archive.locate_all(&indices)?;
        }
        Ok(wish)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(self.reader.clone())
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let Item::View(view) = &self.reader.items[array] else { return None };
        if !view.is_ready() {
            return None;
        }
        let len = view.total_bytes();
        if len == 0 {
            return Some(Vec::new());
        }
        let bytes = view.bytes().ok()?;
        let file = bytes.blob.file()?.clone();
        Some(vec![Extent { file, offset: bytes.start + view.offset * view.dtype.item_bytes(), len }])
    }
    fn close(&mut self) -> Result<()> {
        self.records().iter().try_for_each(|(archive, indices)| archive.verify_small(indices))
    }
}

impl ReadRows for Reader {
    fn cut(&self, array: usize, row: u64) -> u64 {
        match &self.items[array] {
            Item::View(view) => view.cut(row, self.memory_bytes).unwrap_or(u64::MAX),
            Item::Broken => u64::MAX,
        }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        match &self.items[array] {
            Item::View(view) if !view.is_contiguous() => {
                let row = view.row_elements().saturating_mul(view.dtype.item_bytes());
                // The rows, and the tiles they are gathered through.
                Some((rows.end - rows.start).saturating_mul(row).saturating_add(1 << 20))
            }
            _ => None,
        }
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let Item::View(view) = &self.items[array] else { return Err(Error::refused("it cannot be read")) };
        let bytes = view.read(rows.clone(), self.memory_bytes)?;
        emit(Chunk::fixed(array, rows.start, rows.end - rows.start, bytes))
    }
}
