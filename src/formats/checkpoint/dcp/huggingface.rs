//! Shards that `HuggingFaceStorageWriter` writes with `save_distributed`: each rank's chunks in a
//! safetensors file of its own, whose metadata say under `DCP_SHARDING_INFO`, as JSON text, where
//! each chunk begins: `{name: {"saved_offsets": [first of each dimension]}}`. A tensor is as large
//! as its chunks reach.

use std::collections::HashMap;

use indexmap::IndexSet;
use serde_json::Value;

use super::metadata::{Checkpoint, Chunk, Entry, EntryKind, ItemForm, ItemLocation, Tensor};
use crate::error::{Context, Error, Result};
use crate::formats::checkpoint::safetensors;
use crate::model::Attributes;
use crate::storage::Location;

/// The key in a shard's metadata.
const SHARDING: &str = "DCP_SHARDING_INFO";

/// Whether a file is called as such a shard: `shard-00001-model-00001-of-00001.safetensors`.
pub(super) fn is_shard_name(name: &str) -> bool {
    let is_number = |n: &str| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit());
    let parts = |name: &str| -> Option<bool> {
        let rest = name.strip_prefix("shard-")?.strip_suffix(".safetensors")?;
        let (shard, rest) = rest.split_once("-model-")?;
        let (number, of) = rest.split_once("-of-")?;
        Some([shard, number, of].into_iter().all(is_number))
    };
    parts(name) == Some(true)
}

/// Reads the headers of all shards.
///
/// # Errors
/// Broken shards; one without its offsets; none at all.
pub(super) fn read(
    at: &Location,
    shards: &[&String],
    checkpoint: &mut Checkpoint,
    files: &mut IndexSet<String>,
    memory_bytes: u64,
) -> Result<()> {
    if shards.is_empty() {
        return Err(Error::missing(
            "the directory is not a distributed checkpoint: it has no .metadata",
        ));
    }
    // A rank without chunks writes none, and no shard says how many there are: what is missing
    // between others shows as a hole, what is missing behind them does not.
    checkpoint.notes.push(format!(
        "{} shards: tensors are as large as their chunks reach, no shard says how many there are",
        shards.len()
    ));
    let mut known: HashMap<String, usize> = HashMap::new();
    for name in shards {
        let at = at.join(name);
        let file = files.insert_full((*name).clone()).0;
        let mut read = || -> Result<()> {
            let shard = safetensors::places(&*at.blob()?, memory_bytes)?;
            let origins = origins(&shard.attributes)?;
            for (key, value) in shard.attributes {
                if !matches!(key.as_str(), SHARDING | "DCP_VERSION" | "format") {
                    checkpoint.attributes.entry(key).or_insert(value);
                }
            }
            for (meta, offset) in shard.tensors {
                let shape = meta.shape().unwrap_or_default();
                let (len, name) = (meta.bytes()?.unwrap_or(0), meta.name);
                let origin = origins.get(&name).and_then(|o| offsets(o, shape.len()));
                let origin = origin.ok_or_else(|| {
                    Error::corrupt("the shard does not say where its chunk of it begins")
                        .array(&name)
                })?;
                let end: Option<Vec<u64>> =
                    shape.iter().zip(&origin).map(|(n, o)| n.checked_add(*o)).collect();
                let end = end.ok_or_else(|| Error::corrupt("a chunk is too large").array(&name))?;
                let place = Ok(ItemLocation { file, offset, len, form: ItemForm::Raw });
                let chunk = Chunk { origin, shape, place };
                let refused = meta.details.error.as_deref().cloned();
                let dtype = refused.map_or(Ok(meta.dtype), Err);
                match known.get(&name) {
                    Some(&i) => join(&mut checkpoint.entries[i], dtype, &end, chunk)?,
                    None => {
                        known.insert(name.clone(), checkpoint.entries.len());
                        let tensor = Tensor { dtype, shape: end, chunks: vec![chunk] };
                        let kind = EntryKind::Tensor(tensor);
                        checkpoint.entries.push(Entry { name, kind, path: None });
                    }
                }
            }
            Ok(())
        };
        read().at_file(&at.display())?;
    }
    Ok(())
}

fn join(
    entry: &mut Entry,
    dtype: Result<crate::model::Dtype>,
    end: &[u64],
    chunk: Chunk,
) -> Result<()> {
    let EntryKind::Tensor(tensor) = &mut entry.kind else { return Ok(()) };
    let same = match (&tensor.dtype, &dtype) {
        (Ok(a), Ok(b)) => a == b,
        _ => true,
    };
    if !same || tensor.shape.len() != end.len() {
        return Err(
            Error::corrupt("its shards are of different types or dimensions").array(&entry.name)
        );
    }
    for (most, n) in tensor.shape.iter_mut().zip(end) {
        *most = (*most).max(*n);
    }
    tensor.chunks.push(chunk);
    Ok(())
}

/// Where the chunks of a shard begin, by the names of their tensors.
///
/// # Errors
/// Corrupt.
pub(super) fn origins(attributes: &Attributes) -> Result<Attributes> {
    let text = attributes
        .get(SHARDING)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::corrupt(format!("the shard's metadata have no {SHARDING}")))?;
    serde_json::from_str(text)
        .map_err(|e| Error::corrupt(format!("the shard's {SHARDING} is broken: {e}")))
}

/// Where one of them begins.
pub(super) fn offsets(of: &Value, rank: usize) -> Option<Vec<u64>> {
    let offsets = of.get("saved_offsets")?.as_array()?;
    let offsets: Vec<u64> = offsets.iter().map(Value::as_u64).collect::<Option<_>>()?;
    (offsets.len() == rank).then_some(offsets)
}
