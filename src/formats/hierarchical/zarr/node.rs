//! The metadata of one array, v2 or v3.

use std::sync::Arc;

use serde_json::Value;

use super::codecs::{self, ChunkCodecs, ChunkSpec};
use super::dtype::{self, DataType, ElementType, dims};
use super::objects::{ChunkKeys, ObjectPieces};
use super::store::Store;
use crate::array::element::Convert;
use crate::array::{ArrayMap, Element, Grid};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Attributes, Dtype, Facts, Logical, checked_product};

/// An array that can be read.
pub struct Node {
    /// Its map, of whole items.
    pub map: ArrayMap,
    /// What its items are.
    pub data_type: DataType,
    /// Its codecs and shards, for `inspect`.
    pub compression: Option<String>,
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

/// Where an array is, and what it may take.
pub struct NodeLocation<'a> {
    /// Its store.
    pub store: &'a Arc<Store>,
    /// Its path below the root; empty for the root.
    pub path: &'a str,
    /// The memory limit.
    pub memory_bytes: u64,
}

/// Reads the metadata of an array: a `.zarray` and its `.zattrs`, or a `zarr.json`.
pub fn array(meta: &Value, attributes: Attributes, version: u8, at: &NodeLocation<'_>) -> Info {
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
        Some(shape) if version == 2 => v2(meta, shape, at),
        Some(shape) => v3(meta, shape, at),
        None => {
            Err(Error::corrupt("the shape must be a list of at most 64 sizes, which are 0 or more"))
        }
    };
    Info { shape: shape.unwrap_or_else(|| vec![0]), chunks, stored, attributes, node }
}

fn v2(meta: &Value, shape: &[u64], at: &NodeLocation<'_>) -> Result<Node> {
    if let Some(other) = meta.get("zarr_format").filter(|v| v.as_u64() != Some(2)) {
        return Err(Error::corrupt(format!("a .zarray has zarr_format {other}")));
    }
    let chunk = grid(dims(meta.get("chunks")), shape)?;
    let data_type = dtype::v2(meta.get("dtype").unwrap_or(&Value::Null))?;
    let mut spec = chunk_spec(chunk, &data_type, at)?;
    let (codecs, objects) = codecs::v2(&spec, &data_type, meta)?;
    let data_type = objects.unwrap_or(data_type);
    spec.fill = dtype::fill(&data_type, meta.get("fill_value").unwrap_or(&Value::Null))?;
    let separator = match meta.get("dimension_separator") {
        None | Some(Value::Null) => '.',
        Some(s) => separator(s)?,
    };
    node(shape, spec, ChunkKeys::V2(separator), codecs, data_type, at)
}

fn separator(value: &Value) -> Result<char> {
    match value.as_str() {
        Some(".") => Ok('.'),
        Some("/") => Ok('/'),
        _ => Err(Error::corrupt(format!("the chunk separator {value} is neither . nor /"))),
    }
}

/// Refuses what must be understood and is not.
fn check_extensions(meta: &Value) -> Result<()> {
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
    Ok(())
}

fn v3(meta: &Value, shape: &[u64], at: &NodeLocation<'_>) -> Result<Node> {
    check_extensions(meta)?;
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
        Some("default") => ChunkKeys::Default(wanted.unwrap_or('/')),
        Some("v2") => ChunkKeys::V2(wanted.unwrap_or('.')),
        other => {
            return Err(Error::refused(format!(
                "the chunk key encoding '{}' is not supported",
                other.unwrap_or("?")
            )));
        }
    };
    let data_type = dtype::v3(meta.get("data_type").unwrap_or(&Value::Null))?;
    let mut spec = chunk_spec(chunk, &data_type, at)?;
    spec.fill = dtype::fill(&data_type, meta.get("fill_value").unwrap_or(&Value::Null))?;
    let list = meta.get("codecs").unwrap_or(&Value::Null);
    let codecs = codecs::v3(spec.clone(), &data_type, list)?;
    node(shape, spec, keys, codecs, data_type, at)
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

/// What a chunk is, before its fill value is known.
fn chunk_spec(shape: Vec<u64>, data_type: &DataType, at: &NodeLocation<'_>) -> Result<ChunkSpec> {
    let item = data_type.size();
    // Later code multiplies without a look.
    checked_product(&shape)
        .and_then(|n| n.checked_mul(item.unwrap_or(1).max(1) as u64))
        .filter(|&n| n < 1 << 62)
        .ok_or_else(|| Error::corrupt(format!("chunks of shape {shape:?} are too large")))?;
    let memory_bytes = at.memory_bytes;
    Ok(ChunkSpec { shape, item, fill: Vec::new(), memory_bytes, depth: 0 })
}

fn node(
    shape: &[u64],
    spec: ChunkSpec,
    keys: ChunkKeys,
    codecs: ChunkCodecs,
    data_type: DataType,
    at: &NodeLocation<'_>,
) -> Result<Node> {
    let (store, path) = (at.store.clone(), at.path.to_string());
    let most = codecs.most_stored(&spec);
    // Of a member of a zip, only a whole one can be checked.
    let is_divisible = !store.is_zip() || most > at.memory_bytes / 4;
    let objects = Arc::new(ObjectPieces { store, path, keys, most, is_divisible });
    let map = codecs.map(shape, &spec, objects);
    map.check()?;
    map.check_memory(at.memory_bytes)?;
    let compression = match (codecs.shard_shape(), &codecs.summary) {
        (Some(shards), Some(codecs)) => Some(format!("{codecs}, shards {shards:?}")),
        (Some(shards), None) => Some(format!("shards {shards:?}")),
        (None, codecs) => codecs.clone(),
    };
    Ok(Node { map, data_type, compression })
}

impl Info {
    /// The arrays of the model that this one is: one, or one a field. Beside each its map; `None`
    /// where it cannot be read.
    pub fn arrays(&self, name: &str) -> Vec<(ArrayMeta, Option<ArrayMap>)> {
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
                let facts = Facts { error: Some(Arc::new(e.clone())), ..facts };
                return vec![(whole(Dtype::U8, Logical::Plain, facts), None)];
            }
        };
        let chunks = match &node.map.grid {
            Grid::Chunks(chunk) => Some(chunk.clone()),
            _ => None,
        };
        let facts = Facts { compression: node.compression.clone(), chunks, ..facts };
        let map = &node.map;
        match &node.data_type {
            DataType::Text => {
                let stored_dtype = facts.stored_dtype.clone().filter(|s| s != "string");
                let facts = Facts { stored_dtype, ..facts };
                vec![(whole(Dtype::U8, Logical::Text, facts), Some(map.clone()))]
            }
            DataType::List { dtype, big } => {
                let value = dtype.item_bytes() as usize;
                let parts = if dtype.is_complex() { 2 } else { 1 };
                let unit = if *big { value / parts } else { 1 };
                let element =
                    Element { convert: Convert::Items { value, unit }, ..map.element.clone() };
                let map = ArrayMap { element, ..map.clone() };
                vec![(whole(*dtype, Logical::List, facts), Some(map))]
            }
            DataType::Binary | DataType::Object => {
                vec![(whole(Dtype::U8, Logical::Binary, facts), Some(map.clone()))]
            }
            DataType::Fixed { fields, size } => fields
                .iter()
                .map(|field| {
                    let (dtype, logical) = match &field.kind {
                        ElementType::Plain(dtype) => (*dtype, Logical::Plain),
                        ElementType::Time(logical) => (Dtype::I64, logical.clone()),
                        ElementType::Utf32 => (Dtype::U8, Logical::Text),
                        ElementType::Bytes => (Dtype::U8, Logical::Binary),
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
                    meta.details.error = problem.map(Arc::new);
                    if meta.details.stored_dtype.as_deref() == Some(meta.type_name().as_str()) {
                        meta.details.stored_dtype = None;
                    }
                    let is_read = meta.details.error.is_none();
                    let map = ArrayMap { element: field.element(*size), ..map.clone() };
                    meta.set_fill(map.fill_value());
                    (meta, is_read.then_some(map))
                })
                .collect(),
        }
    }
}
