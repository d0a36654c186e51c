//! The metadata of one array, v2 or v3.

use serde_json::Value;

use super::chain::{Chain, Shape, Target};
use super::dtype::{self, Element, Field, Kind};
use super::shard::Shard;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Attributes, Dtype, Facts, Logical, checked_product};

/// Attribute that carries dimension names, as xarray writes it into v2.
pub const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";

/// The most dimensions.
const MOST_RANK: usize = 64;

/// How an array's chunks are named.
#[derive(Clone, Debug)]
pub enum Keys {
    /// `c/0/1`, or with dots.
    Default(char),
    /// `0.1`, or with slashes.
    V2(char),
}

impl Keys {
    /// The key of a chunk below the array's own.
    pub fn key(&self, place: &[u64]) -> String {
        let join = |separator: char, first: Option<&str>| {
            let mut key = first.unwrap_or_default().to_string();
            for (i, n) in place.iter().enumerate() {
                if i > 0 || first.is_some() {
                    key.push(separator);
                }
                key.push_str(&n.to_string());
            }
            key
        };
        match self {
            Keys::Default(separator) => join(*separator, Some("c")),
            Keys::V2(_) if place.is_empty() => "0".into(),
            Keys::V2(separator) => join(*separator, None),
        }
    }
}

/// An array that can be read.
#[derive(Debug)]
pub struct Node {
    /// `[rows, …]`, empty for rank 0.
    pub shape: Vec<u64>,
    /// The shape of what is decoded at once: a chunk, or an inner chunk of a shard.
    pub chunk: Vec<u64>,
    /// Chunk names.
    pub keys: Keys,
    /// The codecs of what is decoded at once.
    pub chain: Chain,
    /// Where parts of objects are read.
    pub shard: Option<Shard>,
    /// The elements.
    pub element: Element,
    /// The bytes of a missing item, as stored.
    pub fill: Vec<u8>,
    /// What text of a chunk may take: it is there twice while it is decoded.
    pub var_bytes: u64,
}

impl Node {
    /// What a chunk is made of.
    pub fn chunk_shape(&self) -> Shape<'_> {
        Shape {
            chunk: &self.chunk,
            item: self.element.size(),
            fill: &self.fill,
            var_bytes: self.var_bytes,
        }
    }
}

/// What is known of an array, readable or not.
pub struct Info {
    /// `[rows, …]`.
    pub shape: Vec<u64>,
    /// The chunk shape, for `inspect`.
    pub chunks: Option<Vec<u64>>,
    /// The stored type's name.
    pub stored: String,
    /// The array's attributes.
    pub attributes: Attributes,
    /// The array, or why it cannot be read.
    pub node: Result<Node>,
}

/// A list of dimensions.
pub fn dims(value: Option<&Value>) -> Option<Vec<u64>> {
    let list = value?.as_array().filter(|l| l.len() <= MOST_RANK)?;
    list.iter().map(Value::as_u64).collect()
}

/// Reads the metadata of an array: a `.zarray` and its `.zattrs`, or a `zarr.json`.
pub fn array(meta: &Value, attributes: Attributes, version: u8, memory_bytes: u64) -> Info {
    let shape = dims(meta.get("shape"));
    let (chunks, stored) = match version {
        2 => (dims(meta.get("chunks")), meta.get("dtype")),
        _ => (dims(meta.pointer("/chunk_grid/configuration/chunk_shape")), meta.get("data_type")),
    };
    let stored = match stored {
        Some(Value::String(s)) => s.clone(),
        Some(other) => match other.get("name").and_then(Value::as_str) {
            Some(name) => name.to_string(),
            None => other.to_string().chars().take(200).collect(),
        },
        None => String::new(),
    };
    let node = match &shape {
        Some(shape) if version == 2 => v2(meta, shape, memory_bytes),
        Some(shape) => v3(meta, shape, memory_bytes),
        None => {
            Err(Error::corrupt("the shape must be a list of at most 64 sizes, which are 0 or more"))
        }
    };
    Info { shape: shape.unwrap_or_else(|| vec![0]), chunks, stored, attributes, node }
}

fn v2(meta: &Value, shape: &[u64], memory_bytes: u64) -> Result<Node> {
    if let Some(other) = meta.get("zarr_format").filter(|v| v.as_u64() != Some(2)) {
        return Err(Error::corrupt(format!("a .zarray has zarr_format {other}")));
    }
    let chunk = grid(dims(meta.get("chunks")), shape)?;
    let mut element = dtype::v2(meta.get("dtype").unwrap_or(&Value::Null))?;
    guard(&chunk, &element)?;
    let mut target = Target { chunk: chunk.clone(), element: &element, depth: 0 };
    let (chain, objects) = Chain::v2(&mut target, meta)?;
    element = objects.unwrap_or(element);
    let separator = match meta.get("dimension_separator") {
        None | Some(Value::Null) => '.',
        Some(s) => separator(s)?,
    };
    let fill = meta.get("fill_value").unwrap_or(&Value::Null);
    finish(shape, chunk, Keys::V2(separator), chain, element, fill, memory_bytes)
}

fn separator(value: &Value) -> Result<char> {
    match value.as_str() {
        Some(".") => Ok('.'),
        Some("/") => Ok('/'),
        _ => Err(Error::corrupt(format!("the chunk separator {value} is neither . nor /"))),
    }
}

fn v3(meta: &Value, shape: &[u64], memory_bytes: u64) -> Result<Node> {
    const KNOWN: [&str; 12] = [
        "zarr_format",
        "node_type",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "fill_value",
        "codecs",
        "attributes",
        "dimension_names",
        "storage_transformers",
        "consolidated_metadata",
    ];
    for (key, value) in meta.as_object().into_iter().flatten() {
        if !KNOWN.contains(&key.as_str())
            && value.get("must_understand").and_then(Value::as_bool) != Some(false)
        {
            return Err(Error::refused(format!(
                "the extension '{key}' of the array is not supported"
            )));
        }
    }
    if meta.get("storage_transformers").and_then(Value::as_array).is_some_and(|l| !l.is_empty()) {
        return Err(Error::refused("storage transformers are not supported"));
    }
    let named = |key: &str| {
        meta.get(key).and_then(|v| v.as_str().or_else(|| v.get("name").and_then(Value::as_str)))
    };
    match named("chunk_grid") {
        Some("regular") => {}
        other => {
            return Err(Error::refused(format!(
                "the chunk grid '{}' is not supported",
                other.unwrap_or("?")
            )));
        }
    }
    let chunk = grid(dims(meta.pointer("/chunk_grid/configuration/chunk_shape")), shape)?;
    let wanted =
        meta.pointer("/chunk_key_encoding/configuration/separator").map(separator).transpose()?;
    let keys = match named("chunk_key_encoding") {
        Some("default") => Keys::Default(wanted.unwrap_or('/')),
        Some("v2") => Keys::V2(wanted.unwrap_or('.')),
        other => {
            return Err(Error::refused(format!(
                "the chunk key encoding '{}' is not supported",
                other.unwrap_or("?")
            )));
        }
    };
    let element = dtype::v3(meta.get("data_type").unwrap_or(&Value::Null))?;
    guard(&chunk, &element)?;
    let mut target = Target { chunk: chunk.clone(), element: &element, depth: 0 };
    let chain = Chain::v3(&mut target, meta.get("codecs").unwrap_or(&Value::Null))?;
    finish(
        shape,
        chunk,
        keys,
        chain,
        element.clone(),
        meta.get("fill_value").unwrap_or(&Value::Null),
        memory_bytes,
    )
}

/// The chunk shape beside the array's.
fn grid(chunk: Option<Vec<u64>>, shape: &[u64]) -> Result<Vec<u64>> {
    let mut chunk = chunk
        .ok_or_else(|| Error::corrupt("the chunk shape is missing, or not a list of sizes"))?;
    if chunk.len() != shape.len() {
        return Err(Error::corrupt(format!(
            "the chunks {chunk:?} have {} dimensions, the array has {}",
            chunk.len(),
            shape.len()
        )));
    }
    for (c, d) in chunk.iter_mut().zip(shape) {
        match (*c, *d) {
            (0, 0) => *c = 1,
            (0, _) => return Err(Error::corrupt("the chunk shape has a 0 in it")),
            _ => {}
        }
    }
    Ok(chunk)
}

/// Products that later code multiplies without a look.
fn guard(chunk: &[u64], element: &Element) -> Result<()> {
    let item = element.size().unwrap_or(1).max(1) as u64;
    match checked_product(chunk).and_then(|n| n.checked_mul(item)).filter(|&n| n < 1 << 62) {
        Some(_) => Ok(()),
        None => Err(Error::corrupt(format!("chunks of shape {chunk:?} are too large"))),
    }
}

fn finish(
    shape: &[u64],
    object: Vec<u64>,
    keys: Keys,
    chain: Chain,
    element: Element,
    fill: &Value,
    memory_bytes: u64,
) -> Result<Node> {
    let fill = dtype::fill(&element, fill)?;
    let shard = chain.lone_shard().cloned();
    let chunk = shard.as_ref().map_or(object, |s| s.inner.clone());
    let item = element.size().unwrap_or(4) as u64;
    let bytes = checked_product(&chunk).and_then(|n| n.checked_mul(item)).unwrap_or(u64::MAX);
    let is_raw = chain.is_raw() && shape.get(1..) == chunk.get(1..);
    if bytes > memory_bytes && !is_raw {
        let error = Error::refused(format!(
            "its chunks {chunk:?} need {bytes} bytes each, the memory limit is {memory_bytes} bytes"
        ));
        return Err(if bytes < 1 << 36 {
            error.hint("give a larger --memory-limit")
        } else {
            error
        });
    }
    let chain = shard.as_ref().map_or(chain, |s| s.chain.clone());
    Ok(Node {
        shape: shape.to_vec(),
        chunk,
        keys,
        chain,
        shard,
        element,
        fill,
        var_bytes: memory_bytes / 2,
    })
}

impl Info {
    /// The arrays of the model that this one is: one, or one a field. Beside each the field that it
    /// shows.
    pub fn metas(&self, name: &str) -> Vec<(ArrayMeta, Option<Field>)> {
        let facts = Facts {
            stored_dtype: (!self.stored.is_empty()).then(|| self.stored.clone()),
            chunks: self.chunks.clone(),
            attributes: self.attributes.clone(),
            ..Facts::default()
        };
        let whole = |dtype: Dtype, logical: Logical, facts: Facts| ArrayMeta {
            logical,
            details: facts.into(),
            ..ArrayMeta::new(name, dtype, &self.shape)
        };
        let node = match &self.node {
            Ok(node) => node,
            Err(e) => {
                let facts = Facts { error: Some(std::sync::Arc::new(e.clone())), ..facts };
                return vec![(whole(Dtype::U8, Logical::Plain, facts), None)];
            }
        };
        let facts = Facts {
            compression: node.shard.as_ref().map_or(node.chain.summary.clone(), |s| {
                Some(match &s.chain.summary {
                    Some(inner) => format!("{inner}, shards {:?}", s.outer),
                    None => format!("shards {:?}", s.outer),
                })
            }),
            chunks: Some(node.chunk.clone()),
            ..facts
        };
        match &node.element {
            Element::Text => {
                let stored_dtype = facts.stored_dtype.clone().filter(|s| s != "string");
                vec![(whole(Dtype::U8, Logical::Text, Facts { stored_dtype, ..facts }), None)]
            }
            Element::Binary | Element::Object => {
                vec![(whole(Dtype::U8, Logical::Binary, facts), None)]
            }
            Element::Fixed { fields, .. } => fields
                .iter()
                .map(|field| {
                    let (dtype, logical) = match &field.kind {
                        Kind::Plain(dtype) => (*dtype, Logical::Plain),
                        Kind::Time(logical) => (Dtype::I64, logical.clone()),
                        Kind::Utf32 => (Dtype::U8, Logical::Text),
                        Kind::Bytes => (Dtype::U8, Logical::Binary),
                    };
                    let mut meta = whole(dtype, logical, facts.clone());
                    if !field.name.is_empty() {
                        meta.name = format!("{name}.{}", field.name);
                        meta.inner.extend(&field.inner);
                        meta.details.stored_dtype = None;
                    }
                    let problem = if meta.scalar && !field.inner.is_empty() {
                        Some(Error::refused("a sub-array field of a rank-0 array is not supported"))
                    } else {
                        meta.bytes().err()
                    };
                    meta.details.error = problem.map(std::sync::Arc::new);
                    if meta.details.stored_dtype.as_deref() == Some(meta.type_name().as_str()) {
                        meta.details.stored_dtype = None;
                    }
                    (meta, Some(field.clone()))
                })
                .collect(),
        }
    }
}
