//! Writing version 3, little-endian: one file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::MAGIC;
use super::metadata;
use super::tensor_types::TensorType;
use crate::array::raw::{ArraySpan, RawEncode, RawWriter};
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, Writer,
};
use crate::model::{ArrayMeta, Buf, Logical, Plan};
use crate::storage::{self, Location, Output};

/// ggml's names have room for so many bytes.
const MAX_NAME_BYTES: usize = 63;

/// Checks what headers can show.
///
/// # Errors
/// Refused: names that are too long; blocks that are no longer whole.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let of = |meta: &ArrayMeta| {
        if meta.name.len() > MAX_NAME_BYTES {
            let error = Error::refused(format!(
                "its name has {} bytes, GGUF has room for {MAX_NAME_BYTES}",
                meta.name.len()
            ));
            return Some(error.array(&meta.name).hint("--rename or --rename-re shortens it"));
        }
        // Rows that are not known yet are no blocks.
        meta.shape().and_then(|_| spell(meta).err())
    };
    Error::all(plan.arrays.iter().filter_map(of).collect())
}

/// The type and the shape, in elements, that a tensor is written with.
fn spell(meta: &ArrayMeta) -> Result<(&'static TensorType, Vec<u64>)> {
    let mut shape = meta
        .shape()
        .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
    let kind = match &meta.logical {
        Logical::Plain => TensorType::plain(meta.dtype),
        Logical::Packed { dtype, .. } => TensorType::named(dtype),
        _ => None,
    };
    let kind = kind.ok_or_else(|| {
        Error::refused(format!("gguf cannot hold {}", meta.type_name())).array(&meta.name)
    })?;
    if let (Logical::Packed { .. }, Some(last)) = (&meta.logical, shape.last_mut()) {
        if !last.is_multiple_of(kind.block_bytes) {
            return Err(Error::refused(format!(
                "its rows of {last} bytes are not whole blocks of {}, which have {}",
                kind.name, kind.block_bytes
            ))
            .array(&meta.name));
        }
        *last = *last / kind.block_bytes * kind.block_elements;
    }
    Ok((kind, shape))
}

/// The header, and where each tensor begins behind it.
fn header(plan: &Plan, options: &WriteOptions) -> Result<(Vec<u8>, Vec<u64>, u64)> {
    let attributes = options.attributes(plan);
    let alignment = metadata::alignment(&attributes)?;
    let (mut values, mut infos) = (Vec::new(), Vec::new());
    let count = metadata::write(&attributes, &mut values)?;
    let (mut offsets, mut at) = (Vec::with_capacity(plan.arrays.len()), 0u64);
    let large = || Error::refused("the arrays are too large in sum");
    for meta in &plan.arrays {
        let (kind, shape) = spell(meta)?;
        infos.extend((meta.name.len() as u64).to_le_bytes());
        infos.extend(meta.name.as_bytes());
        infos.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|d| infos.extend(d.to_le_bytes()));
        infos.extend(kind.number.to_le_bytes());
        infos.extend(at.to_le_bytes());
        offsets.push(at);
        let bytes = meta.bytes()?.unwrap_or(0);
        at = at
            .checked_add(bytes)
            .and_then(|n| n.checked_next_multiple_of(alignment))
            .ok_or_else(large)?;
    }
    let mut out = MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((plan.arrays.len() as u64).to_le_bytes());
    out.extend(count.to_le_bytes());
    out.append(&mut values);
    out.append(&mut infos);
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    let total = at.checked_add(out.len() as u64).ok_or_else(large)?;
    Ok((out, offsets, total))
}

/// Begins a file.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let (header, offsets, total) = header(plan, options)?;
    let start = header.len() as u64;
    let places = plan
        .arrays
        .iter()
        .zip(offsets)
        .map(|(meta, offset)| ArraySpan::of(meta, start + offset))
        .collect::<Result<Vec<_>>>()?;
    let mut out = at.create_file(options.existing, options.sync)?;
    let Some(file) = out.file() else {
        out.write_all(&header)?;
        return Ok(InOrder::sink(RawEncode, Stream { out, places, written: start, total }));
    };
    file.write_all_at(&header, 0)?;
    // What fills up tensors are holes, which read as zeros.
    storage::set_size(&file, 0, total)?;
    let writer = RawWriter { places: places.into_iter().map(|p| (file.clone(), p)).collect() };
    Ok(Box::new(Placed { out, file, writer: Arc::new(writer), total }))
}

/// A local file, written by position.
struct Placed {
    out: Box<dyn Output>,
    file: Arc<File>,
    writer: Arc<RawWriter>,
    total: u64,
}

impl Sink for Placed {
    fn writer(&self) -> Writer {
        Writer::Positional(self.writer.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        Some(self.writer.places[array].1.extent(&self.file))
    }
    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        self.out.commit()?;
        Ok(Summary { bytes: self.total, files: 1, notes: Vec::new() })
    }
}

/// What has no positions.
struct Stream {
    out: Box<dyn Output>,
    places: Vec<ArraySpan>,
    written: u64,
    total: u64,
}

impl Stream {
    /// Fills up to where the next tensor begins.
    fn fill(&mut self, to: u64) -> Result<()> {
        let missing = to.checked_sub(self.written);
        let missing = missing.ok_or_else(|| Error::internal("arrays came out of order"))?;
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), missing), &mut self.out)?;
        self.written = to;
        Ok(())
    }
}

impl AppendBlocks for Stream {
    type Encoded = Vec<Buf>;
    fn append(&mut self, rows: BlockRows, encoded: Vec<Buf>) -> Result<()> {
        let place = self.places[rows.array];
        if rows.rows > 0 && place.bytes > 0 {
            self.fill(place.offset + rows.first_row * place.row_bytes)?;
        }
        for buf in encoded {
            self.out.write_all(&buf)?;
            self.written += buf.len() as u64;
        }
        Ok(())
    }
    fn finish(mut self, _end: &Plan) -> Result<Summary> {
        self.fill(self.total)?;
        self.out.commit()?;
        Ok(Summary { bytes: self.total, files: 1, notes: Vec::new() })
    }
}
