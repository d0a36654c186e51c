//! Writing: one file, or shards with an index.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::header;
use crate::array::raw::{ArraySpan, RawEncode, RawWriter};
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, Writer,
};
use crate::formats::checkpoint::shards::Naming;
use crate::model::{ArrayMeta, Buf, Plan};
use crate::storage::{self, Location, Output};

/// How this format's shards are called.
pub(super) const SHARDS: Naming = Naming { extension: "safetensors" };

/// Begins one file, or all shards and their index.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let attributes = options.attributes(plan);
    let arrays: Vec<&ArrayMeta> = plan.arrays.iter().collect();
    let name = at.file_name();
    let total: u64 = plan.bytes();
    let index_stem = SHARDS.index_stem(&name);
    let split = options.max_shard_bytes.is_some_and(|max| total > max) || index_stem.is_some();
    let mut sink = Shards { parts: Vec::new(), places: Vec::new(), index: None };
    if !split {
        sink.begin(at, &arrays, &attributes, options)?;
        return Ok(sink.sink());
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
    Ok(sink.sink())
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

struct Shards {
    parts: Vec<ShardFile>,
    /// Per array: its part and its place there.
    places: Vec<(usize, ArraySpan)>,
    index: Option<(Box<dyn Output>, String)>,
}

struct ShardFile {
    out: Box<dyn Output>,
    file: Option<Arc<File>>,
    bytes: u64,
    /// In turn: how far it is written.
    written: u64,
}

impl Shards {
    /// By position where all parts are local files.
    fn sink(self) -> Box<dyn Sink> {
        let place =
            |&(part, place): &(usize, ArraySpan)| Some((self.parts[part].file.clone()?, place));
        match self.places.iter().map(place).collect::<Option<_>>() {
            Some(places) => {
                Box::new(PlacedShards { shards: self, writer: Arc::new(RawWriter { places }) })
            }
            None => InOrder::sink(RawEncode, self),
        }
    }
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
            let place = ArraySpan::of(meta, start + begin)?;
            bytes = bytes.max(place.offset + place.bytes);
            self.places.push((part, place));
        }
        let mut out = at.create_file(options.existing, options.sync)?;
        let file = out.file();
        match &file {
            Some(file) => {
                file.write_all_at(&header, 0)?;
                storage::set_size(file, 0, bytes)?;
            }
            None => out.write_all(&header)?,
        }
        self.parts.push(ShardFile { out, file, bytes, written: start });
        Ok(())
    }
}

/// Shards in local files, written by position.
struct PlacedShards {
    shards: Shards,
    writer: Arc<RawWriter>,
}

impl Sink for PlacedShards {
    fn writer(&self) -> Writer {
        Writer::Positional(self.writer.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let (file, place) = &self.writer.places[array];
        Some(place.extent(file))
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        self.shards.finish(end)
    }
}

impl AppendBlocks for Shards {
    type Encoded = Vec<Buf>;
    fn append(&mut self, rows: BlockRows, encoded: Vec<Buf>) -> Result<()> {
        let (part, place) = self.places[rows.array];
        let part = &mut self.parts[part];
        if place.offset + rows.first_row * place.row_bytes != part.written && rows.rows > 0 {
            return Err(Error::internal("arrays came out of order"));
        }
        for buf in encoded {
            part.out.write_all(&buf)?;
            part.written += buf.len() as u64;
        }
        Ok(())
    }
    fn finish(self, _end: &Plan) -> Result<Summary> {
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
