//! How arrays are laid out in an output: in one piece, or in chunks of a shape, compressed.

use std::collections::HashSet;
use std::sync::Arc;

use super::ffi;
use crate::array::CodecPipeline;
use crate::array::pipeline::Codec;
use crate::codec::compress::Compressor;
use crate::codec::decompress::Wrapper;
use crate::error::{Error, Result};
use crate::format::WriteOptions;
use crate::formats::hierarchical::chunk_shape;
use crate::model::{ArrayMeta, Dtype, Logical, Plan, checked_product};

/// The target size of a chunk where none is given.
const CHUNK_BYTES: u64 = 1 << 20;
/// Rows of chunks that a hint of the source would make larger than this are cut otherwise.
const SLAB_BYTES: u64 = 32 << 20;

/// What an array becomes.
pub(super) struct DatasetLayout {
    /// The array's name.
    pub(super) name: String,
    /// The dimensions after the first.
    pub(super) inner: Vec<u64>,
    /// One value.
    pub(super) scalar: bool,
    pub(super) element_bytes: u32,
    pub(super) storage: StorageLayout,
    /// Text of several dimensions comes as codes.
    pub(super) coded: Option<ArrayMeta>,
}

/// The three storage layouts of datasets that are written.
pub(super) enum StorageLayout {
    /// Bytes in one piece.
    Contiguous,
    /// Chunks of this shape.
    Chunked { chunk: Vec<u64>, codecs: Arc<CodecPipeline> },
    /// Text, which the library writes; in chunks of so many rows, if in chunks.
    Text { chunk_rows: Option<u64> },
}

/// What was asked for, for elements of so many bytes; gzip:4 where nothing was.
///
/// # Errors
/// A name or a level that there is not.
pub(super) fn compressor(options: &WriteOptions, item_bytes: usize) -> Result<Option<Compressor>> {
    let known = [
        ("none", None),
        ("gzip", Some(4)),
        ("lzf", None),
        ("zstd", Some(3)),
        ("blosc", Some(5)),
        ("lz4", None),
    ];
    Ok(Some(match options.compression("hdf5", &known)?.unwrap_or(("gzip", 4)) {
        ("none", _) => return Ok(None),
        ("gzip", level) => Compressor::Deflate(Wrapper::Zlib, level),
        ("lzf", _) => Compressor::Lzf,
        ("zstd", level) => Compressor::Zstd(level),
        ("blosc", level) => Compressor::Blosc { item_bytes, level: level as u8 },
        _ => Compressor::Lz4Blocks,
    }))
}

/// Whether the bytes are shuffled by a filter before they are compressed (Blosc shuffles itself).
pub(super) fn is_shuffled(compressor: Option<Compressor>, element_bytes: u32) -> bool {
    element_bytes > 1 && !matches!(compressor, None | Some(Compressor::Blosc { .. }))
}

/// The codecs of chunks of numbers.
pub(super) fn codecs(compressor: Option<Compressor>, element_bytes: u32) -> Arc<CodecPipeline> {
    let shuffle =
        is_shuffled(compressor, element_bytes).then_some(Codec::Shuffle(element_bytes as usize));
    CodecPipeline::new(shuffle.into_iter().chain(compressor.map(Codec::Compressor)).collect())
}

/// Names that HDF5 cannot hold, and arrays that would have to be groups, too.
pub(super) fn validate(plan: &Plan, options: &WriteOptions) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Err(e) = compressor(options, 1) {
        errors.push(e);
    }
    let mut groups: HashSet<&str> = HashSet::new();
    for meta in &plan.arrays {
        let name = meta.name.as_str();
        groups.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
    }
    for meta in &plan.arrays {
        let name = meta.name.as_str();
        let why = if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            "this name is not an HDF5 path: it has empty parts, '.' or '..'"
        } else if name.contains('\0') {
            "this name has a zero byte, which HDF5 cannot hold"
        } else if groups.contains(name) {
            "this array has the name of a group that other arrays need"
        } else {
            if let Err(e) = chunk_of(meta, options) {
                errors.push(e.array(name));
            }
            continue;
        };
        errors.push(Error::refused(why).array(name).hint("rename it with --rename OLD=NEW"));
    }
    errors
}

/// Text, or codes of text.
pub(super) fn is_text(meta: &ArrayMeta) -> bool {
    meta.logical.is_var() || meta.coded_text().is_some()
}

/// Bytes of an element in chunks.
pub(super) fn element_bytes(meta: &ArrayMeta) -> u32 {
    if is_text(meta) { 16 } else { meta.dtype.item_bytes() as u32 }
}

/// The most that each dimension may have, where the source's array can grow.
pub(super) fn most(meta: &ArrayMeta, dims: &[u64]) -> Option<Vec<u64>> {
    let told = meta.details.max_shape.as_ref().filter(|told| told.len() == dims.len())?;
    let most: Vec<u64> = told.iter().map(|n| n.unwrap_or(ffi::UNLIMITED)).collect();
    let can_grow = most.iter().ne(dims) && most.iter().zip(dims).all(|(most, n)| most >= n);
    (can_grow && !meta.scalar).then_some(most)
}

/// The shape of the chunks: as asked for, else as the source had them, else whole rows of about 1
/// MiB.
pub(super) fn chunk_of(meta: &ArrayMeta, options: &WriteOptions) -> Result<Vec<u64>> {
    let mut dims = vec![meta.rows.unwrap_or(u64::MAX)];
    dims.extend(&meta.inner);
    let most = most(meta, &dims).unwrap_or_else(|| dims.clone());
    let clip = |shape: &[u64]| -> Vec<u64> {
        shape.iter().zip(&most).map(|(&c, &d)| c.min(d).max(1)).collect()
    };
    let item = u64::from(element_bytes(meta));
    let bytes = |shape: &[u64]| {
        checked_product(shape).and_then(|n| n.checked_mul(item)).unwrap_or(u64::MAX)
    };
    if let Some(asked) = &options.chunk_shape {
        if meta.scalar {
            return Ok(Vec::new());
        }
        if asked.len() != dims.len() || asked.contains(&0) {
            return Err(Error::usage(format!(
                "--chunk-shape has {} dimensions, this array has {}",
                asked.len(),
                dims.len()
            ))
            .hint("give one number above 0 for each dimension"));
        }
        let shape = clip(asked);
        if bytes(&shape) >= 1 << 32 {
            return Err(Error::usage(format!(
                "chunks of {} bytes are more than the 4 GiB that HDF5 allows",
                bytes(&shape)
            )));
        }
        return Ok(shape);
    }
    if let Some(hint) = &meta.details.chunks
        && hint.len() == dims.len()
        && !meta.scalar
    {
        let shape = clip(hint);
        let slab: Vec<u64> = std::iter::once(shape[0]).chain(meta.inner.iter().copied()).collect();
        let all = bytes(&dims);
        if bytes(&slab) <= SLAB_BYTES && (bytes(&shape) >= 4096 || bytes(&shape) >= all) {
            return Ok(shape);
        }
    }
    Ok(chunk_shape::default(&dims, item, CHUNK_BYTES))
}

/// The element types and meanings that are written as they are.
pub(super) const DTYPES: &[Dtype] = &[
    Dtype::Bool,
    Dtype::U8,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
    Dtype::I8,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
    Dtype::C64,
    Dtype::C128,
    Dtype::Bf16,
    Dtype::F8E4m3,
    Dtype::F8E5m2,
    Dtype::C32,
];

/// Text, and numpy's times as h5py keeps them.
pub(super) fn logical(logical: &Logical) -> bool {
    matches!(logical, Logical::Text | Logical::Datetime(_) | Logical::Timedelta(_))
}
