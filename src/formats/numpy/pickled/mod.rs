//! NumPy arrays in pickles: `.pkl` files, and object arrays of `.npy` and `.npz`. A pickle is read
//! as data by [`crate::codec::pickle`]; nothing in it is ever run.
//!
//! Specification: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>; what NumPy puts
//! into pickles is in `ndarray.__reduce_ex__` of
//! <https://github.com/numpy/numpy/blob/main/numpy/_core/src/multiarray/methods.c>.
//!
//! | in the pickle | becomes |
//! |---|---|
//! | array, NumPy scalar | an array, as from npy: any order, text, times, records as fields |
//! | dict, OrderedDict, list, tuple | its parts, names joined with `.`: `model.weights.0` |
//! | object array of text, of bytes, of booleans, of whole numbers, of floats | text, binary, bool, int64, float64 |
//! | object array of arrays | its parts, `NAME.0`, `NAME.1` … in C order |
//! | None, bool, int, float, text beside arrays | attributes |
//!
//! Protocols 0 to 5 with their buffers in the pickle. Refused: a pickle that names anything else
//! than these (by that name, as a whole: a class, a data frame, a function), object arrays of mixed
//! kinds, long doubles, buffers that are not in the file. Limits: 64 levels, 100,000 arrays; the
//! pickle, its names and what is decoded of it must fit into the memory limit and 16 MiB.

use std::sync::Arc;

use serde_json::Value;

use self::ndarray::{Array, Content};
use crate::array::source::MapSource;
use crate::array::text_codes::coded;
use crate::array::{ArrayMap, Element, SLACK_BYTES, more_memory};
use crate::codec::pickle::numpy::Raw;
use crate::codec::pickle::{self, Id, Node, Pickle, shown};
use crate::error::{Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec, duplicates, foreign_file};
use crate::formats::numpy::npy_data::Records;
use crate::model::{ArrayMeta, Attributes, Dtype, Logical, Plan};
use crate::storage::{Blob, BlobSlice, Location};

mod ndarray;

/// The format.
pub struct Pickled;

static SPEC: Spec = Spec {
    name: "pkl",
    extensions: &["pkl", "pickle"],
    about: "Pickled NumPy arrays, also in dicts, lists and tuples: read as data, nothing is run",
    ..Spec::DEFAULT
};

const MAX_ARRAYS: usize = 100_000;
const MAX_DEPTH: usize = 64;
/// What the legacy files of torch begin with, behind the protocol.
const TORCH: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
/// More plain values than these are left out, with a note.
const MAX_VALUES: usize = 10_000;

/// All that a pickle may name.
const KNOWN: [&str; 15] = [
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core._internal._convert_to_stringdtype_kwargs",
    "numpy._core._internal._convert_to_stringdtype_kwargs",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.void",
    "collections.OrderedDict",
    "_codecs.encode",
    "builtins.bytes",
    "builtins.bytearray",
];

impl Format for Pickled {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        // joblib puts the bytes of arrays between the pickle's own.
        let joblib = || memchr::memmem::find(head.bytes, b"joblib").is_some();
        let known = match head.bytes {
            [0x80, 2..=5, rest @ ..] if rest.starts_with(TORCH) => false,
            [0x80, 4 | 5, 0x95, frame @ ..] => (frame.len() < 8 || frame[7] == 0) && !joblib(),
            [0x80, 2..=5, first, ..] => {
                b"}](cXKJMNGIU)\x8C\x8A\x88\x89\x8F".contains(first) && !joblib()
            }
            _ => false,
        };
        Ok(if known { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        if let Some(error) = foreign_file::named(&at.head(512)?) {
            return Err(error);
        }
        let blob = at.blob()?;
        if blob.len() > limit(options) {
            let what =
                format!("the pickle has {} bytes, which are held while it is read", blob.len());
            return Err(more_memory(&what, blob.len(), options.resources.memory_bytes()));
        }
        let pickle = pickle::read_from(&blob, 0, limit(options))?;
        whole(&pickle, blob.len())?;
        let found = arrays(pickle, &at.stem(), options)?;
        Ok(found.source(SPEC.name, None, options))
    }
}

/// The bytes that a pickle may take.
pub(in crate::formats::numpy) fn limit(options: &ReadOptions) -> u64 {
    options.resources.memory_bytes().saturating_add(SLACK_BYTES)
}

/// Refuses bytes behind the pickle.
fn whole(pickle: &Pickle, bytes: u64) -> Result<()> {
    match bytes.saturating_sub(pickle.used()) {
        0 => Ok(()),
        more => Err(Error::refused(format!(
            "the pickle ends at byte {}, and {more} bytes follow it",
            pickle.used()
        ))
        .hint("several pickles in one file are not read: save one dict of all arrays")),
    }
}

/// The arrays of the pickle that `bytes` of an npy file are behind its header.
///
/// # Errors
/// Corrupt; refused where it holds anything else.
pub(in crate::formats::numpy) fn of_npy(
    bytes: Arc<dyn Blob>,
    shape: &[u64],
    name: &str,
    options: &ReadOptions,
) -> Result<PickledArrays> {
    let pickle = pickle::read_from(&bytes, 0, limit(options))?;
    whole(&pickle, bytes.len())?;
    let root = pickle.root();
    let is_same = match ndarray::find(&pickle, root, &mut 0)? {
        Some(array) => array.shape == shape,
        None => false,
    };
    if !is_same {
        return Err(Error::corrupt(format!("its pickle is not an array of the shape {shape:?}")));
    }
    arrays(pickle, name, options)
}

/// The arrays of a pickle, and what else it holds.
#[derive(Default)]
pub(in crate::formats::numpy) struct PickledArrays {
    pub arrays: Vec<(ArrayMeta, Option<ArrayMap>)>,
    attributes: Attributes,
    notes: Vec<String>,
}

impl PickledArrays {
    /// As a source.
    pub fn source(
        self,
        format: &'static str,
        version: Option<String>,
        options: &ReadOptions,
    ) -> Box<dyn Source> {
        let (metas, maps): (Vec<_>, Vec<_>) = self.arrays.into_iter().unzip();
        let plan = Plan {
            format,
            format_version: version,
            arrays: metas.into(),
            attributes: self.attributes.into(),
            notes: self.notes,
            ..Plan::default()
        };
        let memory = options.resources.memory_bytes();
        coded(Box::new(MapSource::new(plan, maps, memory)), memory)
    }
}

/// All arrays of a pickle; `name` is that of an array alone, or of a list's parts.
fn arrays(pickle: Pickle, name: &str, options: &ReadOptions) -> Result<PickledArrays> {
    if let Some(other) = pickle.globals().find(|global| !KNOWN.contains(global)) {
        return Err(Error::refused(format!(
            "the pickle names '{}': only NumPy arrays in dicts, lists and tuples are read, and nothing is run",
            shown(other)
        ))
        .hint("save arrays with numpy.savez, tables with to_parquet"));
    }
    let pickle = Arc::new(pickle);
    let mut walker = Walker {
        pickle: pickle.clone(),
        found: PickledArrays::default(),
        left_out: 0,
        steps: 0,
        held: 0,
        limit: limit(options),
    };
    walker.hold(walker.pickle.used())?;
    let is_container =
        matches!(pickle.node(pickle.root()), Node::Dict(_) | Node::List(_) | Node::Tuple(_))
            || ndarray::mapping(&pickle, pickle.root()).is_some();
    walker.visit(pickle.root(), if is_container { "" } else { name }, 0)?;
    let mut found = walker.found;
    if walker.left_out > 0 {
        found.notes.push(format!(
            "{} plain values beside the arrays are left out, beyond {MAX_VALUES}",
            walker.left_out
        ));
    }
    if found.arrays.is_empty() {
        return Err(Error::missing("the pickle holds no arrays"));
    }
    let place = |i: usize| format!("array {i} of the pickle");
    found.arrays = duplicates::unique_arrays(found.arrays, options.on_duplicate, &place)?;
    Ok(found)
}

struct Walker {
    pickle: Arc<Pickle>,
    found: PickledArrays,
    left_out: u64,
    steps: u64,
    /// About the bytes of the pickle, of what is decoded of it, and of names.
    held: u64,
    limit: u64,
}

impl Walker {
    /// Counts bytes that stay in memory.
    fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        if self.held <= self.limit {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the pickle and what is made of it take more than {} bytes of memory",
            self.limit
        ))
        .hint(format!("raise the limit: --memory-limit {}MiB", (2 * self.limit).div_ceil(1 << 20))))
    }

    /// Finds what a node holds. A small pickle can repeat its nodes without end: steps are counted.
    fn visit(&mut self, id: Id, path: &str, depth: usize) -> Result<()> {
        ndarray::step(&mut self.steps, 1)?;
        if depth > MAX_DEPTH {
            return Err(Error::refused(format!(
                "the pickle is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let pickle = self.pickle.clone();
        if let Some(pairs) = ndarray::mapping(&pickle, id) {
            for &(key, value) in pairs {
                let key = match pickle.node(key) {
                    Node::Int(n) => n.to_string(),
                    _ => match pickle.short(key) {
                        Some(key) => key.to_string(),
                        None => return Err(self.odd(path, "a dict whose keys are not text")),
                    },
                };
                self.visit(value, &joined(path, &key), depth + 1)?;
            }
            return Ok(());
        }
        match pickle.node(id) {
            Node::List(items) => self.list(items, path, depth),
            Node::Tuple(items) => self.list(items, path, depth),
            Node::Object(_) => match ndarray::find(&pickle, id, &mut self.steps) {
                Ok(Some(array)) => self.array(array, path, depth),
                Ok(None) => Err(self.odd(path, "an object that is not an array")),
                Err(e) => self.broken(path, e),
            },
            Node::Set(_) | Node::Persistent(_) | Node::Global(_) | Node::Dict(_) => {
                Err(self.odd(path, "a value that is not an array"))
            }
            _ => self.value(id, path),
        }
    }

    fn odd(&self, path: &str, what: &str) -> Error {
        let error = Error::refused(format!("it is {what}, which is not read from pickles"));
        let error = error.hint("save arrays with numpy.savez");
        if path.is_empty() { error } else { error.array(path) }
    }

    fn list(&mut self, items: &[Id], path: &str, depth: usize) -> Result<()> {
        for (i, &item) in items.iter().enumerate() {
            self.visit(item, &joined(path, &i.to_string()), depth + 1)?;
        }
        Ok(())
    }

    /// A plain value.
    fn value(&mut self, id: Id, path: &str) -> Result<()> {
        if self.found.attributes.len() >= MAX_VALUES {
            self.left_out += 1;
            return Ok(());
        }
        let pickle = self.pickle.clone();
        let value = match pickle.node(id) {
            Node::None => Value::Null,
            Node::Bool(b) => (*b).into(),
            Node::Int(n) => (*n).into(),
            Node::Float(f) => match serde_json::Number::from_f64(*f) {
                Some(number) => number.into(),
                None => f.to_string().into(),
            },
            Node::Long(span) => match pickle::long_digits(pickle.span(*span)) {
                Some(digits) => digits.into(),
                None => return Err(self.odd(path, "a very long number")),
            },
            Node::Text(_) | Node::Owned(_) => {
                self.hold(pickle.text_len(id).unwrap_or(0) as u64)?;
                pickle.text(id).unwrap_or_default().into()
            }
            _ => return Err(self.odd(path, "bytes that are not an array")),
        };
        self.hold(128 + path.len() as u64)?;
        let key = if path.is_empty() { "value" } else { path };
        self.found.attributes.insert(key.to_string(), value);
        Ok(())
    }

    fn push(&mut self, meta: ArrayMeta, map: Option<ArrayMap>) -> Result<()> {
        self.hold(1024 + 2 * meta.name.len() as u64)?;
        if self.found.arrays.len() >= MAX_ARRAYS {
            return Err(Error::refused(format!(
                "the pickle holds more than {MAX_ARRAYS} arrays, which is the limit"
            )));
        }
        self.found.arrays.push((meta, map));
        Ok(())
    }

    /// An array that is listed, and refused when it is read.
    fn broken(&mut self, path: &str, error: Error) -> Result<()> {
        let name = if path.is_empty() { "data" } else { path };
        let mut meta = ArrayMeta::new(name, Dtype::U8, &[0]);
        meta.details.stored_dtype = Some("numpy array".into());
        meta.details.error = Some(Arc::new(error.of_data()?.array(name)));
        self.push(meta, None)
    }

    fn array(&mut self, array: Array, path: &str, depth: usize) -> Result<()> {
        let name = if path.is_empty() { "data" } else { path };
        let (header, bytes) = match array.content {
            Content::Values(header, bytes) => (header, bytes),
            Content::Objects(items) => return self.objects(&items, &array.shape, name, depth),
        };
        let bytes = ndarray::slice(bytes, &self.pickle, &mut self.held)?;
        self.hold(0)?;
        let records = match Records::new(&header, name) {
            Ok(records) => records,
            Err(e) => return self.broken(path, e),
        };
        if records.bytes != Some(bytes.len) {
            let (have, shape) = (bytes.len, &header.shape);
            let error = Error::corrupt(format!(
                "a numpy array of the shape {shape:?} and elements of {} bytes has {have} bytes",
                records.record_bytes
            ));
            return self.broken(path, error);
        }
        let pieces: Arc<dyn crate::array::Pieces> = Arc::new(bytes);
        let maps = records.maps(&pieces);
        for (meta, map) in records.metas().iter().zip(maps) {
            self.push(meta.clone(), map)?;
        }
        Ok(())
    }

    /// An array of Python objects.
    fn objects(&mut self, items: &[Id], shape: &[u64], name: &str, depth: usize) -> Result<()> {
        let pickle = self.pickle.clone();
        ndarray::step(&mut self.steps, items.len() as u64)?;
        let kinds: Vec<&str> = items.iter().map(|&id| kind(&pickle, id)).collect();
        let first = kinds.first().copied().unwrap_or("text");
        if let Some(i) = kinds.iter().position(|kind| *kind != first) {
            let error = Error::refused(format!(
                "it is an object array of {first} (element 0) and {} (element {i})",
                kinds[i]
            ));
            return self.broken(
                name,
                error.hint("give it one type before saving: a.astype(float) or a.astype(str)"),
            );
        }
        self.hold(48 * items.len() as u64)?;
        let (meta, map) = match first {
            "text" | "bytes" => {
                let text = first == "text";
                let mut parts = Vec::with_capacity(items.len());
                for &id in items {
                    parts.push(match pickle.node(id) {
                        Node::Bytes(span) => pickle.span(*span).to_vec(),
                        _ if text => pickle.text(id).unwrap_or_default().as_bytes().to_vec(),
                        _ => Raw::find(&pickle, id)
                            .and_then(|r| r.bytes(&pickle))
                            .unwrap_or_default(),
                    });
                }
                self.hold(2 * parts.iter().map(|p| p.len() as u64).sum::<u64>())?;
                let mut meta = ArrayMeta::new(name, Dtype::U8, shape);
                meta.logical = if text { Logical::Text } else { Logical::Binary };
                meta.details.stored_bytes = Some(parts.iter().map(|p| p.len() as u64).sum());
                let map = ArrayMap::of_items(shape, parts.iter().map(Vec::as_slice))?;
                (meta, map)
            }
            "booleans" | "whole numbers" | "floats" => {
                let dtype = match first {
                    "booleans" => Dtype::Bool,
                    "floats" => Dtype::F64,
                    _ => Dtype::I64,
                };
                let mut bytes = Vec::with_capacity(items.len() * dtype.item_bytes() as usize);
                for &id in items {
                    match pickle.node(id) {
                        Node::Bool(b) => bytes.push(u8::from(*b)),
                        Node::Int(n) => bytes.extend(n.to_le_bytes()),
                        Node::Float(f) => bytes.extend(f.to_le_bytes()),
                        _ => {}
                    }
                }
                let map = ArrayMap::raw(shape, Element::plain(dtype), BlobSlice::memory(bytes));
                (ArrayMeta::new(name, dtype, shape), map)
            }
            "arrays" => return self.list(items, name, depth),
            other => {
                let error = Error::refused(format!("it is an object array of {other}"));
                return self.broken(name, error.hint("--skip-unsupported leaves it out"));
            }
        };
        let mut meta = meta;
        meta.details.stored_dtype = Some("object".into());
        self.push(meta, Some(map))
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// What an element of an object array is.
fn kind(pickle: &Pickle, id: Id) -> &'static str {
    match pickle.node(id) {
        Node::Text(_) | Node::Owned(_) => "text",
        Node::Bytes(_) => "bytes",
        Node::Bool(_) => "booleans",
        Node::Int(_) => "whole numbers",
        Node::Float(_) => "floats",
        Node::None => "None",
        Node::Long(_) => "numbers of more than 64 bits",
        Node::Object(_) if ndarray::is_array(pickle, id) => "arrays",
        Node::Object(_) if Raw::find(pickle, id).and_then(|raw| raw.bytes(pickle)).is_some() => {
            "bytes"
        }
        _ => "other objects",
    }
}
