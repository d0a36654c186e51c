//! How an array is laid out on the way out: chunks, shards, codecs, and its metadata documents.

use std::sync::Arc;

use serde_json::{Value, json};

use super::netcdf::{self, FILL};
use super::objects::ChunkKeys;
use super::store::MARKERS;
use crate::array::CodecPipeline;
use crate::array::pipeline::Codec;
use crate::codec::compress::Compressor;
use crate::codec::decompress::Wrapper;
use crate::error::{Error, Result};
use crate::format::WriteOptions;
use crate::formats::hierarchical::attributes::DIMENSIONS;
use crate::formats::hierarchical::chunk_shape;
use crate::model::json_float;
use crate::model::{
    ArrayMeta, Attributes, Categories, CategoryKind, Dtype, Logical, TimeUnit, checked_product,
};
use crate::sidecar::Marks;

/// Decoded bytes of a chunk where nothing else is asked for.
const CHUNK_BYTES: u64 = 2 << 20;
/// Chunks whose references are in one Parquet file.
pub(super) const RECORD_CHUNKS: usize = 10_000;
/// Bytes that an item of text is taken for.
const TEXT_BYTES: u64 = 256;
/// A chunk shape that the source suggests is not followed into more objects than this.
const MAX_HINTED: u64 = 200_000;

/// The compressor that the options ask for; `item_bytes` are those of an element.
fn compressor(options: &WriteOptions, item_bytes: usize) -> Result<Option<Compressor>> {
    let known = [("zstd", Some(3)), ("blosc", Some(5)), ("gzip", Some(5)), ("none", None)];
    Ok(match options.compression("zarr", &known)?.unwrap_or(("zstd", 1)) {
        ("zstd", level) => Some(Compressor::Zstd(level)),
        ("gzip", level) => Some(Compressor::Deflate(Wrapper::Gzip, level)),
        ("blosc", level) => Some(Compressor::Blosc { item_bytes, level: level as u8 }),
        _ => None,
    })
}

/// A compressor in the metadata of v2 and v3: its name, and its settings.
fn settings(compressor: Compressor, version: u8) -> Option<(&'static str, Value)> {
    Some(match compressor {
        Compressor::Zstd(level) if version == 2 => ("zstd", json!({"level": level})),
        Compressor::Zstd(level) => ("zstd", json!({"level": level, "checksum": false})),
        Compressor::Deflate(_, level) => ("gzip", json!({"level": level})),
        Compressor::Blosc { item_bytes, level } if version == 2 => {
            let shuffle = u8::from(item_bytes > 1);
            ("blosc", json!({"cname": "lz4", "clevel": level, "shuffle": shuffle, "blocksize": 0}))
        }
        Compressor::Blosc { item_bytes, level } => {
            let shuffle = if item_bytes > 1 { "shuffle" } else { "noshuffle" };
            (
                "blosc",
                json!({"typesize": item_bytes, "cname": "lz4", "clevel": level, "shuffle": shuffle, "blocksize": 0}),
            )
        }
        Compressor::Lz4Blocks | Compressor::Lzf => return None,
    })
}

/// Where and how one array is written.
#[derive(Clone)]
pub struct Layout {
    /// Its name: the path below the root.
    pub path: String,
    /// `[rows, …]`, empty for rank 0.
    pub shape: Vec<u64>,
    /// What is encoded at once.
    pub chunk: Vec<u64>,
    /// What one object holds, where that is more.
    pub shard: Option<Vec<u64>>,
    /// Bytes of an item; of text those of a code.
    pub item: usize,
    /// Text of several dimensions: its items come as codes into these.
    pub coded: Option<Arc<Categories>>,
    /// The width of the codes that come.
    pub codes: Dtype,
    compressor: Option<Compressor>,
    /// What makes the bytes of a chunk smaller.
    pub codecs: Arc<CodecPipeline>,
    /// 2 or 3.
    pub version: u8,
    dtype: Dtype,
    logical: Logical,
    attributes: Attributes,
    /// The value of elements that were never written, where it is not the usual one.
    fill: Option<Value>,
    /// What xarray is not shown of them.
    pub hidden: Option<Value>,
    /// How the chunks are stored, where they are those of another file.
    pub elsewhere: Option<Elsewhere>,
}

/// Chunks that another program stored, in the words of Zarr v2.
#[derive(Clone)]
pub struct Elsewhere {
    /// Their shape.
    pub chunks: Vec<u64>,
    /// `dtype`.
    pub dtype: String,
    /// `filters`, with the compressor as the last of them.
    pub filters: Value,
    /// `order`: C or F.
    pub order: &'static str,
    /// `fill_value`.
    pub fill_value: Value,
}

/// What all layouts of an output go by.
pub struct Rules<'a> {
    /// 2 or 3.
    pub version: u8,
    /// What was asked for.
    pub options: &'a WriteOptions,
    /// Whether a shape that was asked for suits no array.
    pub is_asked: bool,
    /// What attributes tell of types.
    pub marks: Marks,
    /// Whether the arrays come from netCDF.
    pub netcdf: bool,
    /// Whether the values of elements that were never written are kept. To xarray those of v2 are
    /// missing ones, which they are not in other formats.
    pub keeps_fill: bool,
}

impl Layout {
    /// Decides.
    ///
    /// # Errors
    /// Usage, where shapes that were asked for do not fit; refused names.
    pub fn new(meta: &ArrayMeta, rules: &Rules<'_>) -> Result<Layout> {
        let Rules { version, options, .. } = *rules;
        check_path(&meta.name)?;
        let shape = meta.shape().ok_or_else(|| Error::internal("the row count is not known"))?;
        let coded = meta.coded_text().cloned();
        let is_text = coded.is_some() || meta.logical.is_var();
        let item_bytes = match (&coded, is_text) {
            (None, true) => meta.row_bytes_about(TEXT_BYTES),
            (Some(_), _) => TEXT_BYTES,
            _ => meta.dtype.item_bytes(),
        };
        let (chunk, shard) = chunk_shapes(meta, &shape, item_bytes, rules)?;
        let compressor =
            compressor(options, if is_text { 1 } else { meta.dtype.item_bytes() as usize })?;
        let mut attributes = rules.marks.attributes(meta, options.no_metadata);
        let mut hidden = netcdf::hide(&mut attributes, rules.netcdf);
        if version == 2 {
            netcdf::keep_nan(&mut attributes, &mut hidden, meta.dtype);
        }
        Ok(Layout {
            path: meta.name.clone(),
            shape,
            chunk,
            shard,
            item: if is_text { size_of::<i32>() } else { meta.dtype.item_bytes() as usize },
            codecs: CodecPipeline::new(compressor.into_iter().map(Codec::Compressor).collect()),
            compressor,
            version,
            codes: meta.dtype,
            dtype: if coded.is_some() { Dtype::U8 } else { meta.dtype },
            logical: match coded.as_ref().map(|c| c.kind()) {
                Some(CategoryKind::Binary) => Logical::Binary,
                Some(_) => Logical::Text,
                None => meta.logical.clone(),
            },
            coded,
            attributes,
            fill: meta
                .fill_value()
                .filter(|_| rules.keeps_fill)
                .and_then(|fill| fill_json(fill, meta.dtype, version)),
            hidden,
            elsewhere: None,
        })
    }

    /// Adds attributes that only the end tells.
    pub fn add_attributes(&mut self, more: &Attributes) {
        self.attributes.extend(more.clone());
    }

    /// What one object holds.
    pub fn object(&self) -> &[u64] {
        self.shard.as_deref().unwrap_or(&self.chunk)
    }

    /// The key of an object.
    pub fn key(&self, place: &[u64]) -> String {
        let keys = if self.version == 2 { ChunkKeys::V2('.') } else { ChunkKeys::Default('/') };
        format!("{}/{}", self.path, keys.key(place))
    }

    /// The metadata documents: names below the array's path, and contents.
    pub fn documents(&self) -> Vec<(&'static str, Value)> {
        if self.version == 2 {
            self.v2_documents()
        } else {
            vec![("zarr.json", self.v3_document())]
        }
    }

    fn v2_documents(&self) -> Vec<(&'static str, Value)> {
        let filters = match self.logical {
            Logical::Text => json!([{"id": "vlen-utf8"}]),
            Logical::Binary => json!([{"id": "vlen-bytes"}]),
            _ => Value::Null,
        };
        let compressor = self.compressor.and_then(|c| settings(c, 2)).map(|(id, settings)| {
            let mut all = json!({"id": id});
            if let (Value::Object(all), Value::Object(settings)) = (&mut all, settings) {
                all.extend(settings);
            }
            all
        });
        let mut attributes = self.attributes.clone();
        let plain = self.logical.is_plain();
        let marked =
            attributes.get(FILL).and_then(|v| netcdf::v2_fill(v, self.dtype)).filter(|_| plain);
        if marked.is_some() {
            attributes.shift_remove(FILL);
        }
        let mut meta = json!({
            "zarr_format": 2,
            "shape": self.shape,
            "chunks": self.chunk,
            "dtype": self.v2_dtype(),
            "compressor": compressor,
            "filters": filters,
            // Of text there is none: xarray would take an empty text for a missing one.
            "fill_value": marked.or_else(|| self.fill.clone()).unwrap_or(Value::Null),
            "order": "C",
            "dimension_separator": ".",
        });
        if let Some(elsewhere) = &self.elsewhere {
            meta["chunks"] = json!(elsewhere.chunks);
            meta["dtype"] = json!(elsewhere.dtype);
            meta["compressor"] = Value::Null;
            meta["filters"] = elsewhere.filters.clone();
            meta["order"] = json!(elsewhere.order);
            if meta["fill_value"].is_null() {
                meta["fill_value"] = elsewhere.fill_value.clone();
            }
        }
        if !attributes.contains_key(DIMENSIONS) {
            attributes.insert(DIMENSIONS.into(), Value::Array(self.dimensions()));
        }
        vec![(".zarray", meta), (".zattrs", Value::Object(attributes))]
    }

    fn v3_document(&self) -> Value {
        let (data_type, usual) = self.v3_dtype();
        let fill = self.fill.clone().unwrap_or(usual);
        let to_bytes = match self.logical {
            Logical::Text => json!({"name": "vlen-utf8", "configuration": {}}),
            Logical::Binary => json!({"name": "vlen-bytes", "configuration": {}}),
            _ if self.item > 1 => json!({"name": "bytes", "configuration": {"endian": "little"}}),
            _ => json!({"name": "bytes"}),
        };
        let mut codecs = vec![to_bytes];
        if let Some((name, settings)) = self.compressor.and_then(|c| settings(c, 3)) {
            codecs.push(json!({"name": name, "configuration": settings}));
        }
        if self.shard.is_some() {
            codecs = vec![json!({"name": "sharding_indexed", "configuration": {
                "chunk_shape": self.chunk,
                "codecs": codecs,
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                "index_location": "end",
            }})];
        }
        let mut attributes = self.attributes.clone();
        if let Some(fill) = attributes.get_mut(FILL).filter(|_| self.logical.is_plain()) {
            *fill = netcdf::encode_fill(fill, self.dtype);
        }
        let names = self.dimensions();
        if attributes.get(DIMENSIONS).and_then(Value::as_array) == Some(&names) {
            attributes.shift_remove(DIMENSIONS);
        }
        json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.object()}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": codecs,
            "attributes": attributes,
            "dimension_names": names,
            "storage_transformers": [],
        })
    }

    /// The names of the dimensions: those that the source has, as xarray or netCDF keep them, else
    /// made-up ones, without which xarray does not open an array.
    fn dimensions(&self) -> Vec<Value> {
        let list = |key: &str| {
            let list = self
                .attributes
                .get(key)
                .and_then(Value::as_array)
                .filter(|l| l.len() == self.shape.len());
            list.filter(|l| l.iter().all(|n| n.is_string() || n.is_null()))
        };
        if let Some(names) = list(DIMENSIONS) {
            return names.clone();
        }
        let last = |n: &Value| {
            n.as_str().and_then(|n| n.rsplit('/').next()).map_or(Value::Null, Value::from)
        };
        match list("dimensions").filter(|l| l.iter().all(Value::is_string)) {
            Some(paths) => paths.iter().map(last).collect(),
            None => made_up(&self.path, self.shape.len()),
        }
    }

    /// The type in the words of v2, little-endian.
    pub fn v2_dtype(&self) -> String {
        let unit =
            |u: &TimeUnit| if u.base == "generic" { String::new() } else { format!("[{u}]") };
        match &self.logical {
            Logical::Text | Logical::Binary => return "|O".into(),
            Logical::Datetime(u) => return format!("<M8{}", unit(u)),
            Logical::Timedelta(u) => return format!("<m8{}", unit(u)),
            _ => {}
        }
        let size = self.dtype.item_bytes();
        let order = if size > 1 { '<' } else { '|' };
        match self.dtype {
            Dtype::Bool => "|b1".into(),
            Dtype::Bf16 => "bfloat16".into(),
            d if d.is_float8() => d.name().into(),
            d if d.is_complex() => format!("<c{size}"),
            d if d.is_float() => format!("<f{size}"),
            Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => format!("{order}u{size}"),
            _ => format!("{order}i{size}"),
        }
    }

    /// The type's name and the fill value.
    fn v3_dtype(&self) -> (Value, Value) {
        let time = |name: &str, u: &TimeUnit| {
            (
                json!({"name": name, "configuration": {"unit": u.base, "scale_factor": u.count}}),
                json!(i64::MIN),
            )
        };
        match &self.logical {
            Logical::Text => (json!("string"), json!("")),
            Logical::Binary => (json!("variable_length_bytes"), json!("")),
            Logical::Datetime(u) => time("numpy.datetime64", u),
            Logical::Timedelta(u) => time("numpy.timedelta64", u),
            _ => {
                let fill = match self.dtype {
                    Dtype::Bool => json!(false),
                    Dtype::F8E8m0 => json!(1.0),
                    d if d.is_complex() => json!([0.0, 0.0]),
                    d if d.is_float() => json!(0.0),
                    _ => json!(0),
                };
                (json!(self.dtype.name()), fill)
            }
        }
    }
}

/// A little-endian number or boolean as JSON.
pub(super) fn number_json(bytes: &[u8], dtype: Dtype) -> Option<Value> {
    if dtype == Dtype::Bool {
        return Some(bytes.first().is_some_and(|b| *b != 0).into());
    }
    let Some(range) = dtype.integer_range() else { return json_float::to_json(dtype, bytes) };
    let is_negative = *range.start() < 0 && bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = [if is_negative { 0xff } else { 0 }; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(match is_negative {
        true => i64::from_le_bytes(wide).into(),
        false => u64::from_le_bytes(wide).into(),
    })
}

/// The value of elements that were never written, as metadata have it; `None` where they have no
/// form for it.
fn fill_json(bytes: &[u8], dtype: Dtype, version: u8) -> Option<Value> {
    let fill = match dtype {
        Dtype::C64 | Dtype::C128 if version == 3 => {
            let part = if dtype == Dtype::C64 { Dtype::F32 } else { Dtype::F64 };
            let (re, im) = bytes.split_at_checked(part.item_bytes() as usize)?;
            json!([number_json(re, part)?, number_json(im, part)?])
        }
        _ => number_json(bytes, dtype)?,
    };
    // In v2 the bits of a NaN have no form.
    let is_hex = fill.as_str().is_some_and(|text| text.starts_with("0x"));
    (version == 3 || !is_hex).then_some(fill)
}

/// Dimension names that mean nothing, and clash with no other array's. They are left out when they
/// are read again.
pub fn made_up(path: &str, rank: usize) -> Vec<Value> {
    let stem = path.replace('/', "_");
    (0..rank).map(|i| Value::from(format!("{stem}_dim_{i}"))).collect()
}

/// The shapes of the chunks and of the shards: those that were asked for, those of the source, or
/// the usual ones.
fn chunk_shapes(
    meta: &ArrayMeta,
    shape: &[u64],
    item_bytes: u64,
    rules: &Rules<'_>,
) -> Result<(Vec<u64>, Option<Vec<u64>>)> {
    let options = rules.options;
    let most = options.resources.memory_bytes() / 4;
    let bytes_of = |chunk: &[u64]| {
        checked_product(chunk).and_then(|n| n.checked_mul(item_bytes)).unwrap_or(u64::MAX)
    };
    let asked = |wanted: &Option<Vec<u64>>, flag: &str| -> Result<Option<Vec<u64>>> {
        match wanted {
            Some(w) if w.len() == shape.len() && !w.is_empty() => {
                if w.contains(&0) {
                    return Err(Error::usage(format!("{flag} {w:?} has a 0 in it")));
                }
                if bytes_of(w) > most {
                    return Err(Error::usage(format!(
                        "{flag} {w:?} takes {} bytes, at most {most} fit into the memory limit",
                        bytes_of(w)
                    ))
                    .hint("raise --memory-limit, or choose a smaller shape"));
                }
                Ok(Some(w.clone()))
            }
            Some(w) if rules.is_asked => Err(Error::usage(format!(
                "{flag} {w:?} has {} dimensions, no array has that many",
                w.len()
            ))),
            _ => Ok(None),
        }
    };
    let shard = asked(&options.shard_shape, "--shard-shape")?;
    if shard.is_some() && rules.version == 2 {
        return Err(Error::usage("Zarr v2 has no shards")
            .hint("leave out --zarr-format 2 or --shard-shape"));
    }
    if let Some(chunk) = asked(&options.chunk_shape, "--chunk-shape")? {
        return match &shard {
            Some(shard) if shard.iter().zip(&chunk).any(|(s, c)| s % c != 0) => Err(Error::usage(
                format!("--shard-shape {shard:?} is not a multiple of the chunk shape {chunk:?}"),
            )
            .hint("give a --chunk-shape that divides it")),
            _ => Ok((chunk, shard)),
        };
    }
    let hinted = meta.details.chunks.as_ref().filter(|h| h.len() == shape.len() && !h.contains(&0));
    let hinted = hinted
        .map(|h| h.iter().zip(shape).map(|(c, d)| (*c).min((*d).max(1))).collect::<Vec<_>>())
        .filter(|h| {
            let counts =
                h.iter().zip(shape).try_fold(1u64, |n, (c, d)| n.checked_mul(d.div_ceil(*c)));
            bytes_of(h) <= most.min(64 << 20) && counts.is_some_and(|n| n <= MAX_HINTED)
        });
    let mut chunk = hinted.unwrap_or_else(|| chunk_shape::default(shape, item_bytes, CHUNK_BYTES));
    for (c, s) in chunk.iter_mut().zip(shard.iter().flatten()) {
        *c = (1..=(*c).min(*s)).rev().find(|n| s % n == 0).unwrap_or(1);
    }
    Ok((chunk, shard))
}

/// A name must be a path of node names.
///
/// # Errors
/// Refused, with the part that cannot be one.
pub fn check_path(name: &str) -> Result<()> {
    for part in name.split('/') {
        let why = if part.is_empty() {
            "an empty part"
        } else if part.chars().all(|c| c == '.') {
            "a part of dots alone"
        } else if part.starts_with("__") {
            "a part that begins with __, which Zarr keeps for itself"
        } else if part.contains('\0') {
            "a zero byte"
        } else if part.len() > 255 {
            "a part of more than 255 bytes"
        } else if MARKERS.contains(&part) || part == ".zattrs" {
            "a part that is the name of a metadata file"
        } else {
            continue;
        };
        return Err(Error::refused(format!("a Zarr node cannot have this name: it has {why}"))
            .array(name)
            .hint("rename it with --rename OLD=NEW"));
    }
    Ok(())
}
