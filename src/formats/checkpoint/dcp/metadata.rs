//! The pickle `.metadata`: what a checkpoint holds, and where.
//!
//! | class of torch.distributed | fields |
//! |---|---|
//! | `Metadata` | `state_dict_metadata`: name → a storage metadata; `storage_data`: `MetadataIndex` → `_StorageInfo`; `planner_data`: name → its path of keys and indices; `version` |
//! | `TensorStorageMetadata` | `properties`: `TensorProperties`, whose state is a tuple that begins with the dtype; `size`; `chunks`: list of `ChunkStorageMetadata` |
//! | `ChunkStorageMetadata` | `offsets`, `sizes` |
//! | `BytesStorageMetadata` | none |
//! | `MetadataIndex` | `fqn`: the name; `offset`: of the chunk, `None` for what is no tensor |
//! | `_StorageInfo` | `relative_path`, `offset`, `length`; `transform_descriptors`: list of names, outermost first |
//!
//! Whatever the pickle repeats is counted before it is looked at.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use crate::codec::pickle::{self, Id, Node, Pickle, shown};
use crate::error::{Context, Error, Result};
use crate::format::ReadOptions;
use crate::formats::checkpoint::pytorch;
use crate::model::{Attributes, Dtype};
use crate::storage::Location;

/// Where something is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ItemLocation {
    /// The number of its file.
    pub file: usize,
    /// Its first byte.
    pub offset: u64,
    /// How many it has.
    pub len: u64,
    /// What its bytes are.
    pub form: ItemForm,
}

/// What the bytes of a place are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ItemForm {
    /// A file of `torch.save`.
    Saved,
    /// That, compressed with Zstandard.
    Zstd,
    /// The elements themselves.
    Raw,
}

/// The least that the pickle may take, whatever the memory limit.
const PICKLE_BYTES: u64 = 256 << 20;
/// The longest name.
const NAME_BYTES: usize = 64 << 10;
/// Dimensions that torch allows.
const MAX_RANK: usize = 64;
/// Keys and indices on the way to a value.
const MAX_PATH: usize = 100;

/// What a checkpoint holds.
#[derive(Default)]
pub(super) struct Checkpoint {
    /// In order.
    pub entries: Vec<Entry>,
    pub version: Option<String>,
    pub attributes: Attributes,
    pub notes: Vec<String>,
}

/// One name.
pub(super) struct Entry {
    pub name: String,
    pub kind: EntryKind,
    /// The keys that lead to it, where they are known.
    pub path: Option<Vec<Key>>,
}

/// A key of a dict, or an index of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(String),
    Index(u64),
}

pub(super) enum EntryKind {
    Tensor(Tensor),
    /// Anything else.
    Value(Result<ItemLocation>),
}

pub(super) struct Tensor {
    /// Its type, or why it is none of ours.
    pub dtype: Result<Dtype>,
    pub shape: Vec<u64>,
    pub chunks: Vec<Chunk>,
}

pub(super) struct Chunk {
    pub origin: Vec<u64>,
    pub shape: Vec<u64>,
    pub place: Result<ItemLocation>,
}

impl Checkpoint {
    /// Adds what another rank wrote by itself: its chunks of tensors, of what both have the first.
    pub fn join(&mut self, other: Checkpoint) {
        self.version = self.version.take().or(other.version);
        let mut known: HashMap<String, usize> =
            self.entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        for entry in other.entries {
            let Some(&at) = known.get(&entry.name) else {
                known.insert(entry.name.clone(), self.entries.len());
                self.entries.push(entry);
                continue;
            };
            if let (EntryKind::Tensor(ours), EntryKind::Tensor(theirs)) =
                (&mut self.entries[at].kind, entry.kind)
            {
                for (n, most) in theirs.shape.iter().zip(&mut ours.shape) {
                    *most = (*most).max(*n);
                }
                ours.chunks.extend(theirs.chunks);
            }
        }
    }

    /// Of chunks that several ranks wrote the first is taken.
    pub fn unique(&mut self) {
        for entry in &mut self.entries {
            if let EntryKind::Tensor(tensor) = &mut entry.kind {
                let mut seen = std::collections::HashSet::new();
                tensor.chunks.retain(|c| seen.insert((c.origin.clone(), c.shape.clone())));
            }
        }
    }

    /// Where everything is, in order.
    pub fn places(&self) -> impl Iterator<Item = (&str, &ItemLocation)> {
        self.entries.iter().flat_map(|entry| {
            let (chunks, value) = match &entry.kind {
                EntryKind::Tensor(tensor) => (tensor.chunks.as_slice(), None),
                EntryKind::Value(place) => (&[][..], place.as_ref().ok()),
            };
            let chunks = chunks.iter().filter_map(|chunk| chunk.place.as_ref().ok());
            chunks.chain(value).map(|place| (entry.name.as_str(), place))
        })
    }
}

/// Reads a metadata file; `files` are those that it names.
///
/// # Errors
/// Missing, refused, corrupt.
pub(super) fn read(
    at: &Location,
    options: &ReadOptions,
    files: &mut IndexSet<String>,
) -> Result<Checkpoint> {
    let mut read = || {
        let blob = at.blob()?;
        let limit = options.resources.memory_bytes().max(PICKLE_BYTES);
        let bytes = blob.len();
        if bytes > limit {
            return Err(crate::array::more_memory("its metadata is read whole", bytes, limit));
        }
        let pickle = pickle::read(blob.read_vec(0, bytes)?, limit)?;
        pytorch::check_globals(&pickle)?;
        Parser { pickle: &pickle, steps: 0, files }.checkpoint()
    };
    read().at_file(&at.display())
}

struct Parser<'a> {
    pickle: &'a Pickle,
    steps: u64,
    files: &'a mut IndexSet<String>,
}

/// Name and offset of something stored.
type Index = (String, Option<Vec<u64>>);

impl<'a> Parser<'a> {
    /// Counts steps before they are taken.
    fn charge(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps as u64 + 1);
        if self.steps > 4 * self.pickle.len() as u64 + 1000 {
            return Err(Error::refused("the pickle repeats its own parts without end"));
        }
        Ok(())
    }

    /// The class of an object of torch.distributed, without its module.
    fn class(&self, id: Id) -> Option<&'a str> {
        let name = self.pickle.global(self.pickle.object(id)?.callable)?;
        name.starts_with("torch.distributed.").then(|| name.rsplit('.').next())?
    }

    /// The fields of an object of this class.
    fn fields(&self, id: Id, class: &str) -> Result<&'a [(Id, Id)]> {
        let state = self.pickle.object(id).filter(|_| self.class(id) == Some(class));
        match state.map(|object| object.state.map(|state| self.pickle.node(state))) {
            Some(Some(Node::Dict(pairs))) => Ok(pairs),
            // All have their defaults.
            Some(None) => Ok(&[]),
            _ => Err(Error::corrupt(format!("the metadata has no {class} where it should"))),
        }
    }

    fn field(&self, pairs: &[(Id, Id)], class: &str, name: &str) -> Result<Id> {
        // A class has few fields.
        let pairs = &pairs[..pairs.len().min(32)];
        self.pickle
            .get(pairs, name)
            .ok_or_else(|| Error::corrupt(format!("a {class} of the metadata has no {name}")))
    }

    fn dict(&self, id: Id, what: &str) -> Result<&'a [(Id, Id)]> {
        match self.pickle.node(id) {
            Node::Dict(pairs) => Ok(pairs),
            // A ChainMap's or an OrderedDict's items.
            Node::Object(object) => Ok(&object.pairs),
            _ => Err(Error::corrupt(format!("the metadata's {what} is not a dict"))),
        }
    }

    fn text(&mut self, id: Id, what: &str) -> Result<&'a str> {
        let len = self.pickle.text_len(id).unwrap_or(0);
        if len > NAME_BYTES {
            return Err(Error::refused(format!(
                "{what} of the metadata has {len} bytes; at most {NAME_BYTES} are allowed"
            )));
        }
        self.charge(len / 16)?;
        self.pickle
            .text(id)
            .ok_or_else(|| Error::corrupt(format!("{what} of the metadata is not text")))
    }

    fn number(&self, id: Id, what: &str) -> Result<u64> {
        self.pickle.int(id).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| {
            Error::corrupt(format!("{what} of the metadata is not a number from 0 on"))
        })
    }

    /// Shapes and offsets: a tuple, a list, a `torch.Size`.
    fn dims(&mut self, id: Id, what: &str) -> Result<Vec<u64>> {
        let pickle = self.pickle;
        let items = match pickle.object(id) {
            Some(object) => {
                pickle.tuple(object.args).and_then(|a| a.first()).and_then(|&a| pickle.tuple(a))
            }
            None => pickle.tuple(id),
        };
        let items = items.ok_or_else(|| {
            Error::corrupt(format!("{what} of the metadata is not a tuple of numbers"))
        })?;
        if items.len() > MAX_RANK {
            return Err(Error::corrupt(format!(
                "{what} of the metadata has {} dimensions; torch allows at most {MAX_RANK}",
                items.len()
            )));
        }
        self.charge(items.len())?;
        items.iter().map(|&i| self.number(i, what)).collect()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let fields = self.fields(self.pickle.root(), "Metadata")?;
        let names = self.field(fields, "Metadata", "state_dict_metadata")?;
        let names = self.dict(names, "state_dict_metadata")?;
        let places = self.pickle.get(fields, "storage_data");
        let places = places.filter(|&id| !matches!(self.pickle.node(id), Node::None));
        let places = match places {
            Some(id) => self.places(id)?,
            None => HashMap::new(),
        };
        let paths = match self.pickle.get(fields, "planner_data") {
            Some(id) => self.paths(id)?,
            None => HashMap::new(),
        };
        let version = self.pickle.get(fields, "version").and_then(|id| self.pickle.short(id));
        let version = version.map(shown);
        self.charge(names.len())?;
        // Of a repeated key the last value counts, at the place of the first, as in Python.
        let mut order: IndexMap<&str, Id> = IndexMap::with_capacity(names.len());
        for &(name, value) in names {
            order.insert(self.text(name, "a name")?, value);
        }
        let mut entries = Vec::with_capacity(order.len());
        for (name, id) in order {
            if name.is_empty() {
                return Err(Error::corrupt("the metadata has an empty name"));
            }
            let kind = self.entry(name, id, &places).at_array(name)?;
            let path = paths.get(name).cloned();
            entries.push(Entry { name: name.to_string(), kind, path });
        }
        Ok(Checkpoint { entries, version, ..Checkpoint::default() })
    }

    fn entry(
        &mut self,
        name: &str,
        id: Id,
        places: &HashMap<Index, Result<ItemLocation>>,
    ) -> Result<EntryKind> {
        let find = |offset: Option<&Vec<u64>>| {
            let place = places.get(&(name.to_string(), offset.cloned())).cloned();
            place.unwrap_or_else(|| {
                let what = match offset {
                    Some(offset) => format!("its chunk at {offset:?}"),
                    None => "it".to_string(),
                };
                Err(Error::corrupt(format!("the metadata does not say where {what} is stored")))
            })
        };
        match self.class(id) {
            Some("BytesStorageMetadata") => Ok(EntryKind::Value(find(None))),
            Some("TensorStorageMetadata") => {
                let class = "TensorStorageMetadata";
                let fields = self.fields(id, class)?;
                let properties = self.field(fields, class, "properties")?;
                let dtype = self.dtype(properties);
                let size = self.field(fields, class, "size")?;
                let shape = self.dims(size, "a size")?;
                let chunks = self.field(fields, class, "chunks")?;
                let list = self
                    .pickle
                    .tuple(chunks)
                    .ok_or_else(|| Error::corrupt("the metadata has no list of its chunks"))?;
                self.charge(list.len())?;
                let mut chunks = Vec::with_capacity(list.len());
                for &chunk in list {
                    let class = "ChunkStorageMetadata";
                    let fields = self.fields(chunk, class)?;
                    let origin = self.field(fields, class, "offsets")?;
                    let origin = self.dims(origin, "an offset")?;
                    let size = self.field(fields, class, "sizes")?;
                    let shape = self.dims(size, "a size")?;
                    self.charge(name.len() / 16)?;
                    let place = find(Some(&origin));
                    chunks.push(Chunk { origin, shape, place });
                }
                Ok(EntryKind::Tensor(Tensor { dtype, shape, chunks }))
            }
            class => Err(Error::refused(format!(
                "the metadata describes it by {}, which is not known",
                class.map_or_else(|| "something".to_string(), shown)
            ))),
        }
    }

    /// The type in the state of a `TensorProperties`: a tuple, or a dict as of other dataclasses.
    fn dtype(&self, id: Id) -> Result<Dtype> {
        let state = self.pickle.object(id).and_then(|object| object.state);
        let dtype = state.and_then(|state| match self.pickle.node(state) {
            Node::Dict(pairs) => self.pickle.get(&pairs[..pairs.len().min(32)], "dtype"),
            _ => self.pickle.tuple(state)?.first().copied(),
        });
        let name = dtype
            .and_then(|dtype| self.pickle.global(dtype))
            .ok_or_else(|| Error::corrupt("the metadata does not say of which type it is"))?;
        pytorch::named_dtype(name).ok_or_else(|| {
            Error::refused(format!("its type is {}, which other formats do not have", shown(name)))
                .hint("--skip-unsupported leaves it out")
        })
    }

    fn places(&mut self, id: Id) -> Result<HashMap<Index, Result<ItemLocation>>> {
        let pairs = self.dict(id, "storage_data")?;
        self.charge(pairs.len())?;
        let mut places = HashMap::with_capacity(pairs.len());
        for &(index, info) in pairs {
            let class = "MetadataIndex";
            let fields = self.fields(index, class)?;
            let name = self.field(fields, class, "fqn")?;
            let name = self.text(name, "a name")?.to_string();
            let offset = match self.pickle.get(&fields[..fields.len().min(32)], "offset") {
                Some(id) if !matches!(self.pickle.node(id), Node::None) => {
                    Some(self.dims(id, "an offset")?)
                }
                _ => None,
            };
            let place = self.place(info).at_array(&name)?;
            places.insert((name, offset), place);
        }
        Ok(places)
    }

    /// Where something is; what stands against reading it.
    fn place(&mut self, id: Id) -> Result<Result<ItemLocation>> {
        let class = "_StorageInfo";
        let fields = self.fields(id, class)?;
        let path = self.field(fields, class, "relative_path")?;
        let path = self.text(path, "a file's name")?;
        let plain = !path.contains(['\\', '\0'])
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(Error::refused(format!(
                "the metadata names the file {:?}, which is outside its directory",
                shown(path)
            )));
        }
        let file = self.files.insert_full(path.to_string()).0;
        let offset = self.field(fields, class, "offset")?;
        let len = self.field(fields, class, "length")?;
        let offset = self.number(offset, "an offset")?;
        let len = self.number(len, "a length")?;
        let transforms = self.pickle.get(&fields[..fields.len().min(32)], "transform_descriptors");
        let mut names = Vec::new();
        for &id in transforms.and_then(|id| self.pickle.tuple(id)).unwrap_or_default() {
            names.push(self.text(id, "a transform")?);
        }
        let form = match names.as_slice() {
            [] => ItemForm::Saved,
            // Of a version 1 of any kind.
            [name] if name.strip_prefix("stream.zstd/").is_some_and(is_version_1) => ItemForm::Zstd,
            names => {
                let what = names.iter().map(|n| shown(n)).take(8).collect::<Vec<_>>().join(", ");
                return Ok(Err(Error::refused(format!(
                    "it is stored with the transform {what}; stream.zstd is known"
                ))
                .hint("--skip-unsupported leaves it out")));
            }
        };
        Ok(Ok(ItemLocation { file, offset, len, form }))
    }

    /// The way to each name. What is no such mapping is a planner's own affair.
    fn paths(&mut self, id: Id) -> Result<HashMap<String, Vec<Key>>> {
        let Ok(pairs) = self.dict(id, "planner_data") else { return Ok(HashMap::new()) };
        self.charge(pairs.len())?;
        let mut paths = HashMap::with_capacity(pairs.len());
        for &(name, path) in pairs {
            let (Some(_), Some(parts)) = (self.pickle.text_len(name), self.pickle.tuple(path))
            else {
                continue;
            };
            if parts.len() > MAX_PATH {
                continue;
            }
            self.charge(parts.len())?;
            let name = self.text(name, "a name")?.to_string();
            let mut keys = Vec::with_capacity(parts.len());
            for &part in parts {
                match self.pickle.int(part) {
                    Some(n) if n >= 0 => keys.push(Key::Index(n.unsigned_abs())),
                    Some(_) => {}
                    None if self.pickle.text_len(part).is_some() => {
                        keys.push(Key::Text(self.text(part, "a key")?.to_string()))
                    }
                    None => {}
                }
            }
            if keys.len() == parts.len() && !keys.is_empty() {
                paths.insert(name, keys);
            }
        }
        Ok(paths)
    }
}

fn is_version_1(version: &str) -> bool {
    version.split('.').next() == Some("1")
}
