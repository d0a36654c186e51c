//! GGUF: the models of llama.cpp and its kin, their tensors and metadata.
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; the element types are those of
//! `ggml.h` and `ggml-common.h` there.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `GGUF`, the version (1, 2 or 3); all numbers little-endian, or big-endian where the version reads so |
//! | 8.. | count of tensors, count of metadata (8 bytes each; version 1: 4) |
//! | then | metadata: key, type, value; an array is a type, a count, values; text has its length before it |
//! | then | tensors: name, number of dimensions, dimensions (the one that runs fastest first), type, offset |
//! | then | the values, from a multiple of `general.alignment` (32) on, each tensor at such a multiple |
//!
//! | module | what it does |
//! |---|---|
//! | [`header`], [`metadata`] | reads and writes what stands before the values |
//! | [`tensor_types`] | the element types |
//! | [`blocks`], [`grids`] | blocks of quantised values as floats |
//! | [`write`] | writes version 3 |
//!
//! Read: all three versions in both byte orders; every type of today's ggml. Shapes come in numpy's
//! order, as gguf-py gives them. Quantised tensors are their blocks: bytes, of the shape (…, bytes
//! of a row), called by their type ([`Logical::Packed`]), so that they go into another GGUF as they
//! are; with `--dequantize` they are float32, bit for bit as gguf-py has them, or rounded once to
//! float16 or bfloat16. Q8_1 and Q1_0 stay blocks, and so does every block of a big-endian file. Files
//! `-00001-of-0000N.gguf` are one input, named by the first or by their directory. Metadata are
//! attributes of their JSON types; what JSON lacks is in `gguf.types`. Written: the plain types that
//! GGUF has, blocks that came from GGUF, metadata; no names of 64 bytes or more and no more than
//! four dimensions, as ggml has it. No tensor is renamed or quantised.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::array::element::Convert;
use crate::array::source::MapSource;
use crate::array::{ArrayMap, Element};
use crate::error::{Context, Error, Result};
use crate::format::foreign_file;
use crate::format::{
    Capabilities, Dequantize, Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, Streams,
    WriteOptions, prepared,
};
use crate::formats::checkpoint::shards;
use crate::model::{ArrayMeta, Dtype, Facts, Logical, Plan};
use crate::storage::{Blob, BlobSlice, EntryKind, Location};

mod blocks;
mod convert;
mod cursor;
mod grids;
mod header;
mod metadata;
mod tensor_types;
mod write;

use header::{Header, MAGIC, Tensor};
use tensor_types::{Stored, TensorType};

/// The format.
pub struct Gguf;

/// How the files of one model are called.
const SPLITS: shards::Naming = shards::Naming { extension: "gguf" };

static SPEC: Spec = Spec {
    name: "gguf",
    extensions: &["gguf"],
    about: "Models of llama.cpp: versions 1 to 3, all types, quantised ones as blocks or floats; writes version 3",
    streams: Streams { input: false, output: true },
    writes: Some(Capabilities {
        dtypes: tensor_types::WRITTEN,
        logical: |logical| matches!(logical, Logical::Packed { dtype, .. } if TensorType::named(dtype).is_some()),
        max_rank: 4,
        rows_first: true,
        layout_flags: &["metadata"],
        keeps_attributes: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Gguf {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let known = match head.bytes {
            [] => shards::is_sharded(head.location, &SPLITS)?,
            // A table of text may begin so; a version of 65536 or more it has then.
            [b'G', b'G', b'U', b'F', a, b, c, d, ..] => {
                matches!((a, b, c, d), (_, _, 0, 0) | (0, 0, _, _))
            }
            bytes => bytes == MAGIC,
        };
        Ok(if known { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let Some(found) = splits(at, options.resources.memory_bytes())? else {
            return Ok(Box::new(open_one(at, options)?));
        };
        open_splits(found, options)
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        write::check(plan)?;
        Ok(prepared(at, options, write::create))
    }
}

/// The files of the model whose first one, or directory, this is; `None` for a file alone.
fn splits(at: &Location, memory_bytes: u64) -> Result<Option<shards::CheckpointFiles>> {
    if at.is_stream() {
        return Ok(None);
    }
    let name = at.file_name();
    let Some((stem, 1, total)) = SPLITS.shard(&name).filter(|(.., total)| *total > 1) else {
        return shards::find(at, &SPLITS, memory_bytes);
    };
    if matches!(at.kind()?, EntryKind::Dir | EntryKind::Missing) {
        return shards::find(at, &SPLITS, memory_bytes);
    }
    // The name may claim any number: the first that is missing is told, before a list is made.
    let mut files = Vec::new();
    for number in 1..=total {
        let file = SPLITS.shard_name(stem, number as usize, total as usize);
        if at.parent().join(&file).kind()? == EntryKind::Missing {
            return Err(Error::missing(format!(
                "it is one of {total} files of a model, and {file} is missing"
            ))
            .hint("fetch the missing files"));
        }
        files.push(file);
    }
    let metadata = crate::model::Attributes::new();
    Ok(Some(shards::CheckpointFiles { directory: at.parent(), files, weight_map: None, metadata }))
}

/// Opens all files of a model; what each says of itself and of all must agree.
fn open_splits(found: shards::CheckpointFiles, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let files = found.files.len() as u64;
    let (number, tensors) = (Cell::new(0), Cell::new(None));
    let source = shards::open(found, SPEC.name, options.on_duplicate, &|part| {
        let mut source = open_one(part, options)?;
        let attributes = &mut source.plan_mut().attributes;
        let mut take = |key: &str| attributes.remove(key).and_then(|v| v.as_u64());
        let (own, count) = (take("split.no"), take("split.count"));
        let all = take("split.tensors.count");
        metadata::forget_types(attributes, "split.");
        let wrong = |what: &str, said: u64, due: u64| {
            Err(Error::corrupt(format!("its {what} is {said}, {due} is expected")))
        };
        match (own, count) {
            (Some(own), _) if files > 1 && own != number.get() => {
                wrong("split.no", own, number.get())
            }
            (_, Some(count)) if count.max(1) != files => wrong("split.count", count, files),
            _ => Ok(()),
        }?;
        number.set(number.get() + 1);
        tensors.set(tensors.get().or(all));
        Ok(Box::new(source))
    })?;
    let have = source.plan().arrays.len() as u64;
    match tensors.get() {
        // With names that repeat, other numbers are left.
        Some(due) if due != have && options.on_duplicate == crate::format::OnDuplicate::Error => {
            Err(Error::corrupt(format!(
                "the files hold {have} tensors together, split.tensors.count is {due}"
            )))
        }
        _ => Ok(source),
    }
}

fn open_one(at: &Location, options: &ReadOptions) -> Result<MapSource> {
    if let Some(error) = foreign_file::named(&at.head(512)?) {
        return Err(error);
    }
    let blob = at.blob()?;
    let header = Header::read(&blob, options.resources.memory_bytes())?;
    check_places(&header, blob.len())?;
    let mut plan = Plan {
        format: SPEC.name,
        format_version: Some(match header.big {
            true => format!("{}, big-endian", header.version),
            false => header.version.to_string(),
        }),
        attributes: header.attributes.into(),
        ..Plan::default()
    };
    let mut maps = Vec::with_capacity(header.tensors.len());
    let mut left: Vec<(&str, u64)> = Vec::new();
    for tensor in header.tensors {
        let (meta, map) = array(&tensor, header.big, &blob, header.data_offset, options)
            .at_array(&tensor.name)?;
        if let (Logical::Packed { .. }, Some(kind)) = (&meta.logical, tensor.kind) {
            match left.iter_mut().find(|(name, _)| *name == kind.name) {
                Some((_, count)) => *count += 1,
                None => left.push((kind.name, 1)),
            }
        }
        plan.arrays.push(meta);
        maps.push(map);
    }
    if !left.is_empty() && !options.types_only && !options.names_only {
        plan.notes.push(quantised(&left, options.dequantize != Dequantize::No));
    }
    Ok(MapSource::new(plan, maps, options.resources.memory_bytes()))
}

/// The note on tensors that stay blocks.
fn quantised(left: &[(&str, u64)], asked: bool) -> String {
    let count: u64 = left.iter().map(|(_, n)| n).sum();
    let kinds: Vec<String> = left.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let what = format!("{count} tensors are quantised ({}) and read as blocks", kinds.join(", "));
    match asked {
        true => what,
        false => format!("{what}; --dequantize makes them floats"),
    }
}

/// Every tensor must lie in the file, at a place of its own.
fn check_places(header: &Header, file_bytes: u64) -> Result<()> {
    let mut names = HashSet::new();
    let mut spans = Vec::with_capacity(header.tensors.len());
    for tensor in &header.tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(Error::corrupt("two tensors have this name").array(&tensor.name));
        }
        if !tensor.offset.is_multiple_of(header.alignment) {
            return Err(Error::corrupt(format!(
                "its offset {} is not a multiple of the alignment {}",
                tensor.offset, header.alignment
            ))
            .array(&tensor.name));
        }
        let Some(bytes) = tensor.bytes()? else { continue };
        let start = header.data_offset.checked_add(tensor.offset);
        let end = start.and_then(|start| start.checked_add(bytes));
        let Some((start, end)) = start.zip(end).filter(|(_, end)| *end <= file_bytes || bytes == 0)
        else {
            return Err(Error::corrupt(format!(
                "the file is truncated: its values end at byte {}, the file has {file_bytes}",
                end.map_or_else(|| "2^64 or more".to_string(), |end| end.to_string())
            ))
            .array(&tensor.name)
            .hint("fetch the file again"));
        };
        spans.push((start, end, tensor.name.as_str()));
    }
    spans.sort_unstable();
    let mut before = (0, "");
    for (start, end, name) in spans.into_iter().filter(|(start, end, _)| start < end) {
        if start < before.0 {
            return Err(
                Error::corrupt(format!("it overlaps with the tensor '{}'", before.1)).array(name)
            );
        }
        before = (end, name);
    }
    Ok(())
}

/// A tensor as an array.
fn array(
    tensor: &Tensor,
    big: bool,
    blob: &Arc<dyn Blob>,
    data_offset: u64,
    options: &ReadOptions,
) -> Result<(ArrayMeta, Option<ArrayMap>)> {
    let (Some(kind), Some(bytes)) = (tensor.kind, tensor.bytes()?) else {
        let mut meta = ArrayMeta::new(&tensor.name, Dtype::U8, &[0]);
        meta.details.stored_dtype = Some(format!("type {}", tensor.number));
        let error = Error::refused(format!("ggml's type {} is not known", tensor.number));
        meta.details.error = Some(Arc::new(error.array(&tensor.name)));
        return Ok((meta, None));
    };
    let slice = BlobSlice { blob: blob.clone(), start: data_offset + tensor.offset, len: bytes };
    let facts = Facts {
        stored_dtype: Some(kind.name.to_string()),
        stored_bytes: Some(bytes),
        ..Facts::default()
    };
    let block_bytes = kind.block_bytes as usize;
    let (mut meta, map) = match kind.stored {
        Stored::Plain(dtype) => {
            let size = dtype.item_bytes() as usize;
            let convert = if big && size > 1 { Convert::Swap(size) } else { Convert::Nothing };
            let element = Element { bytes: size, field: None, convert };
            let meta = ArrayMeta::new(&tensor.name, dtype, &tensor.shape);
            (meta, ArrayMap::raw(&tensor.shape, element, slice))
        }
        Stored::Blocks(decode) => {
            // Rows of blocks.
            let mut rows = tensor.shape.clone();
            if let Some(last) = rows.last_mut() {
                *last /= kind.block_elements;
            }
            match (options.dequantize.to(Dtype::F32), decode) {
                (Some(to), Some(decode)) if !big => {
                    let convert = convert::converter(kind, decode, to);
                    let element = Element { bytes: block_bytes, field: None, convert };
                    let meta = ArrayMeta::new(&tensor.name, to, &tensor.shape);
                    (meta, ArrayMap::raw(&rows, element, slice))
                }
                _ => {
                    if let Some(last) = rows.last_mut() {
                        *last *= kind.block_bytes;
                    }
                    let mut meta = ArrayMeta::new(&tensor.name, Dtype::U8, &rows);
                    meta.logical =
                        Logical::Packed { dtype: kind.name.into(), shape: tensor.shape.clone() };
                    (meta, ArrayMap::raw(&rows, Element::plain(Dtype::U8), slice))
                }
            }
        }
    };
    meta.details = facts.into();
    meta.bytes()?;
    Ok((meta, Some(map)))
}
