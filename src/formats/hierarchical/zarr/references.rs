//! Hierarchies whose chunks stay where they are: the metadata of Zarr v2, and for every chunk the
//! file, offset and length of its bytes.
//!
//! Two forms, both of which fsspec's `reference` filesystem opens, and through it zarr-python and
//! xarray:
//! - JSON, kerchunk's specification version 1: `{"version": 1, "refs": {key: text | [url, offset,
//!   length]}}`; bytes that are kept inside as `base64:…`.
//! - a directory of Parquet files, fsspec's `LazyReferenceMapper`: `.zmetadata` with `record_size`,
//!   and `NAME/refs.N.parq` with the columns `path`, `offset`, `size`, `raw`, a row a chunk in C
//!   order, `record_size` rows a file.
//!
//! bfloat16 and float8, which Zarr v2 has no names for, are uint16 and uint8 there.

use base64::Engine;
use serde_json::{Value, json};

use super::consolidate;
use super::layout::{Elsewhere, Layout, RECORD_CHUNKS, number_json};
use super::store::MARKERS;
use super::target::Target;
use super::write::layouts;
use crate::error::{Error, Result};
use crate::format::{StoredArray, StoredCodec, StoredItem, Summary, WriteOptions};
use crate::model::{ArrayMeta, Dtype, Plan, checked_product};
use crate::storage::Location;

mod chunk;
#[cfg(feature = "parquet")]
mod records;

use chunk::{Chunk, url};

/// Chunks that one array may have.
const MAX_CHUNKS: u64 = 50_000_000;

/// How references are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceForm {
    /// One JSON file.
    Json,
    /// A directory of Parquet files.
    Parquet,
}

/// Where the bytes of an array of the output are.
pub enum Bytes {
    /// In their files.
    Stored(StoredArray),
    /// In the output itself: C order, little-endian.
    Inline(Vec<u8>),
}

/// A set of references being written.
pub struct References {
    target: Target,
    form: ReferenceForm,
    layouts: Vec<Layout>,
    options: WriteOptions,
}

/// What keeps arrays of this plan from being nodes of such a hierarchy.
///
/// # Errors
/// Refused: all of them together.
pub fn check(plan: &Plan, options: &WriteOptions) -> Result<()> {
    let options = WriteOptions { zarr_format: Some(2), ..options.clone() };
    Error::all(layouts(plan, &options).1)
}

/// Begins a set of references for the arrays of `plan`.
///
/// # Errors
/// What cannot be created.
pub fn create(
    at: &Location,
    form: ReferenceForm,
    plan: &Plan,
    options: &WriteOptions,
) -> Result<References> {
    let options = WriteOptions { zarr_format: Some(2), ..options.clone() };
    let (layouts, errors) = layouts(plan, &options);
    Error::all(errors)?;
    let target = match form {
        ReferenceForm::Json => Target::json(at.create_file(options.existing, options.sync)?)?,
        #[cfg(not(feature = "parquet"))]
        ReferenceForm::Parquet => return Err(crate::formats::columnar::parquet::left_out()),
        #[cfg(feature = "parquet")]
        ReferenceForm::Parquet => {
            Target::parquet(at.create_dir(options.existing, options.sync, &MARKERS)?)
        }
    };
    Ok(References { target, form, layouts, options })
}

impl References {
    /// Writes the references to the chunks of an array.
    ///
    /// # Errors
    /// Chunks that lie in no file as they are; disk full and the like.
    pub fn add(&mut self, array: usize, meta: &ArrayMeta, bytes: Bytes) -> Result<()> {
        let layout = &mut self.layouts[array];
        let counts = match &bytes {
            Bytes::Stored(stored) => {
                stored.shape.iter().zip(&stored.chunk_shape).map(|(n, c)| n.div_ceil(*c)).collect()
            }
            Bytes::Inline(_) => vec![1; layout.shape.len()],
        };
        layout.elsewhere = Some(match &bytes {
            Bytes::Stored(stored) => elsewhere(stored, meta, layout)?,
            Bytes::Inline(_) => inline(layout, meta),
        });
        // An array without elements has no chunks.
        let total = if layout.shape.contains(&0) { Some(0) } else { checked_product(&counts) };
        let total = total.filter(|&n| n <= MAX_CHUNKS).ok_or_else(|| {
            Error::refused(format!("it has more than {MAX_CHUNKS} chunks to refer to"))
        })?;
        let (mut inline, stored) = match bytes {
            Bytes::Stored(stored) => (None, Some(stored)),
            Bytes::Inline(bytes) => (Some(bytes), None),
        };
        let mut record: Vec<Chunk> = Vec::new();
        let mut at = vec![0u64; counts.len()];
        for number in 0..total {
            let chunk = match (&stored, inline.take()) {
                (Some(stored), _) => match stored.chunks.locate(&at)? {
                    Some(origin) => Chunk::At(origin),
                    None => Chunk::Missing,
                },
                (None, Some(bytes)) => Chunk::Inside(bytes),
                (None, None) => Chunk::Missing,
            };
            match self.form {
                ReferenceForm::Json => self.refer(array, &at, chunk)?,
                ReferenceForm::Parquet => record.push(chunk),
            }
            if record.len() == RECORD_CHUNKS || (number + 1 == total && !record.is_empty()) {
                let path = &self.layouts[array].path;
                let path = format!("{path}/refs.{}.parq", number as usize / RECORD_CHUNKS);
                let file = records::parquet_file(&std::mem::take(&mut record))?;
                self.target.store_references(&path, &file)?;
            }
            for (place, count) in at.iter_mut().zip(&counts).rev() {
                *place += 1;
                if *place < *count {
                    break;
                }
                *place = 0;
            }
        }
        Ok(())
    }

    fn refer(&self, array: usize, at: &[u64], chunk: Chunk) -> Result<()> {
        let to = match chunk {
            Chunk::At(origin) => json!([url(&origin.address), origin.offset, origin.len]),
            Chunk::Inside(bytes) => {
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                Value::from(format!("base64:{text}"))
            }
            Chunk::Missing => return Ok(()),
        };
        self.target.refer(&self.layouts[array].key(at), &to)
    }

    /// Lets the output appear.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn finish(self, end: &Plan) -> Result<Summary> {
        consolidate::commit(self.target, &self.layouts, end, &self.options)
    }
}

#[cfg(not(feature = "parquet"))]
mod records {
    pub(super) fn parquet_file(_: &[super::Chunk]) -> super::Result<Vec<u8>> {
        Err(crate::formats::columnar::parquet::left_out())
    }
}

/// What bytes in C order, little-endian, are in the words of v2.
fn inline(layout: &Layout, meta: &ArrayMeta) -> Elsewhere {
    Elsewhere {
        chunks: layout.shape.iter().map(|n| (*n).max(1)).collect(),
        dtype: number_dtype(layout, meta.dtype, false),
        filters: Value::Null,
        order: "C",
        fill_value: Value::Null,
    }
}

/// How an array lies in its files, in the words of v2.
fn elsewhere(stored: &StoredArray, meta: &ArrayMeta, layout: &Layout) -> Result<Elsewhere> {
    let order = |big: bool| if big { '>' } else { '<' };
    let dtype = match stored.item {
        StoredItem::Number { big_endian } => number_dtype(layout, meta.dtype, big_endian),
        StoredItem::Utf32 { width, big_endian } => format!("{}U{width}", order(big_endian)),
        StoredItem::Bytes { width } => format!("|S{width}"),
    };
    let filters: Vec<Value> = stored.codecs.iter().map(numcodec).collect();
    let is_zero = stored.fill.iter().all(|b| *b == 0);
    let fill_value = match stored.item {
        _ if is_zero => Value::Null,
        StoredItem::Number { big_endian } => fill(&stored.fill, meta.dtype, big_endian)
            .ok_or_else(|| Error::refused("the value of its missing chunks has no form in JSON"))?,
        _ => return Err(Error::refused("the value of its missing chunks has no form in JSON")),
    };
    Ok(Elsewhere {
        chunks: stored.chunk_shape.clone(),
        dtype,
        filters: if filters.is_empty() { Value::Null } else { Value::Array(filters) },
        order: if stored.is_column_major { "F" } else { "C" },
        fill_value,
    })
}

/// The name of a type of numbers, as zarr-python knows them.
fn number_dtype(layout: &Layout, dtype: Dtype, big_endian: bool) -> String {
    let name = match dtype {
        Dtype::Bf16 => "<u2".into(),
        d if d.is_float8() => "|u1".into(),
        _ => layout.v2_dtype(),
    };
    if big_endian { name.replacen('<', ">", 1) } else { name }
}

/// The elements of missing chunks.
fn fill(bytes: &[u8], dtype: Dtype, big_endian: bool) -> Option<Value> {
    let mut bytes = bytes.to_vec();
    if big_endian {
        bytes.reverse();
    }
    number_json(&bytes, dtype)
}

/// A codec by its name in numcodecs; levels are those of their defaults, for they do not matter to
/// a reader.
fn numcodec(codec: &StoredCodec) -> Value {
    match codec {
        StoredCodec::Zlib => json!({"id": "zlib", "level": 1}),
        StoredCodec::Gzip => json!({"id": "gzip", "level": 1}),
        StoredCodec::Zstd => json!({"id": "zstd", "level": 0}),
        StoredCodec::Lz4 => json!({"id": "lz4", "acceleration": 1}),
        StoredCodec::Bzip2 => json!({"id": "bz2", "level": 1}),
        StoredCodec::Blosc => {
            json!({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0})
        }
        StoredCodec::Shuffle(size) => json!({"id": "shuffle", "elementsize": size}),
        StoredCodec::Fletcher32 => json!({"id": "fletcher32"}),
        StoredCodec::Crc32 => json!({"id": "crc32"}),
        StoredCodec::Adler32 => json!({"id": "adler32"}),
    }
}
