//! Writing: one file, or shards with an index.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{SHARDS, header};
use crate::array::raw::{At, Place, RawEncode, RawWriter, write_encoded};
use crate::error::{Error, Result};
use crate::format::{Encode, Encoded, Extent, Sink, Summary, WriteOptions, WriteRows};
use crate::model::{ArrayMeta, Plan};
use crate::storage::{Location, Output};

/// Begins one file, or all shards and their index.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let attributes = options.attributes(plan);
    let arrays: Vec<&ArrayMeta> = plan.arrays.iter().collect();
    let name = at.file_name();
    let total: u64 = plan.bytes();
    let index_stem = SHARDS.index_stem(&name);
    let split = options.max_shard_bytes.is_some_and(|max| total > max) || index_stem.is_some();
    let mut sink = TensorSink { parts: Vec::new(), places: Vec::new(), index: None };
    if !split {
        sink.begin(at, &arrays, &attributes, options)?;
        return Ok(Box::new(sink));
    }
    if at.is_stream() {
        return Err(Error::usage("shards cannot be written to stdout"));
    }
    let stem = index_stem.unwrap_or_else(|| name.strip_suffix(".safetensors").unwrap_or(&name));
    let shards = cut(&arrays, options.max_shard_bytes.unwrap_or(u64::MAX))?;
    let index_at = at.parent().join(&SHARDS.index_name(stem));
    let index = index_at.create_file(options.existing, options.sync)?;
    let mut weight_map = serde_json::Map::new();
    for (i, range) in shards.iter().enumerate() {
        let file = SHARDS.shard_name(stem, i + 1, shards.len());
        for meta in &arrays[range.clone()] {
            weight_map.insert(meta.name.clone(), file.clone().into());
        }
        sink.begin(&at.parent().join(&file), &arrays[range.clone()], &attributes, options)?;
    }
    let document =
        serde_json::json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::failed("the index cannot be written").because(e))?;
    sink.index = Some((index, text + "\n"));
    Ok(Box::new(sink))
}

/// Cuts the arrays, in order, into shards of at most `max` bytes; a larger array is alone in its
/// shard.
fn cut(arrays: &[&ArrayMeta], max: u64) -> Result<Vec<std::ops::Range<usize>>> {
    let mut shards = Vec::new();
    let (mut first, mut bytes) = (0, 0u64);
    for (i, meta) in arrays.iter().enumerate() {
        let own = meta.bytes()?.unwrap_or(0);
        if i > first && bytes.saturating_add(own) > max {
            shards.push(first..i);
            (first, bytes) = (i, 0);
        }
        bytes = bytes.saturating_add(own);
    }
    shards.push(first..arrays.len());
    Ok(shards)
}

struct TensorSink {
    parts: Vec<Part>,
    /// Per array: its part and its place there.
    places: Vec<(usize, Place)>,
    index: Option<(Box<dyn Output>, String)>,
}

struct Part {
    out: Box<dyn Output>,
    file: Option<Arc<File>>,
    bytes: u64,
    /// In turn: how far it is written.
    written: u64,
}

impl TensorSink {
    fn begin(
        &mut self,
        at: &Location,
        arrays: &[&ArrayMeta],
        attributes: &crate::model::Attributes,
        options: &WriteOptions,
    ) -> Result<()> {
        let (header, begins) = header::write(arrays, attributes)?;
        let start = header.len() as u64;
        let mut bytes = start;
        let part = self.parts.len();
        for (meta, begin) in arrays.iter().zip(begins) {
            let place = Place::of(meta, start + begin)?;
            bytes = bytes.max(place.offset + place.bytes);
            self.places.push((part, place));
        }
        let mut out = at.create_file(options.existing, options.sync)?;
        let file = out.file();
        match &file {
            Some(file) => {
                file.write_all_at(&header, 0)?;
                file.set_len(bytes)?;
            }
            None => out.write_all(&header)?,
        }
        self.parts.push(Part { out, file, bytes, written: start });
        Ok(())
    }
}

impl Sink for TensorSink {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(RawEncode)
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        let (part, place) = self.places[encoded.array];
        let part = &mut self.parts[part];
        let due = place.offset + encoded.first_row * place.row_bytes;
        match &part.file {
            Some(file) => {
                write_encoded(&mut At { file, offset: due }, encoded)?;
            }
            None if due != part.written && encoded.rows > 0 => {
                return Err(Error::internal("arrays came out of order"));
            }
            None => part.written += write_encoded(&mut part.out, encoded)?,
        }
        Ok(())
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        let place = |&(part, place): &(usize, Place)| Some((self.parts[part].file.clone()?, place));
        Some(Arc::new(RawWriter { places: self.places.iter().map(place).collect::<Option<_>>()? }))
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let (part, place) = self.places[array];
        Some(place.extent(self.parts[part].file.as_ref()?))
    }
    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let mut summary = Summary { files: self.parts.len() as u64, ..Summary::default() };
        for part in &self.parts {
            if part.file.is_none() && part.written != part.bytes {
                return Err(Error::internal(format!(
                    "{} bytes were written, {} were expected",
                    part.written, part.bytes
                )));
            }
            summary.bytes += part.bytes;
        }
        for part in self.parts {
            part.out.commit()?;
        }
        // The index makes the shards a checkpoint: it comes last.
        if let Some((mut index, text)) = self.index {
            index.write_all(text.as_bytes())?;
            index.commit()?;
            summary.bytes += text.len() as u64;
            summary.files += 1;
        }
        Ok(summary)
    }
}
