//! The codecs of an array: from metadata to a pipeline of the array engine.
//!
//! Codecs that are not known are refused by name when the array is opened.

use std::sync::Arc;

use serde_json::Value;

use super::dtype::{DataType, dims};
use super::shard::ShardIndex;
use crate::array::element::Convert;
use crate::array::pipeline::{Codec, CodecPipeline};
use crate::array::reader::MapReader;
use crate::array::{ArrayMap, Element, Grid, Pieces, items};
use crate::codec::checksum::Checksum;
use crate::codec::decompress::{Compression, Lzma, LzmaFilter, Wrapper};
use crate::codec::filters::{Filter, NumberType};
use crate::error::{Error, Result, SKIP_ARRAY};
use crate::format::ReadRows;
use crate::model::{Values, checked_product};
use crate::storage::BlobSlice;

/// Shards inside shards, at most.
const MAX_DEPTH: usize = 4;

/// What codecs are parsed for.
#[derive(Clone)]
pub struct ChunkSpec {
    /// The shape of a chunk (of a shard, where chunks are sharded).
    pub shape: Vec<u64>,
    /// Bytes of an item; `None` for items of any length.
    pub item: Option<usize>,
    /// The bytes of a missing item.
    pub fill: Vec<u8>,
    /// The memory limit.
    pub memory_bytes: u64,
    /// How many shards it is in.
    pub depth: usize,
}

/// The codecs of a chunk.
pub struct ChunkCodecs {
    /// In the order of encoding; none where there is a shard.
    codecs: Vec<Codec>,
    /// A shard of which parts are read, and the dimension that is stored at each place.
    shard: Option<(Vec<usize>, Box<Shard>)>,
    /// As `inspect` shows it: `delta + zstd:3`.
    pub summary: Option<String>,
}

/// The `sharding_indexed` codec.
struct Shard {
    /// The shard's shape.
    outer: Vec<u64>,
    /// The inner chunks' shape.
    inner: Vec<u64>,
    /// The codecs of an inner chunk.
    codecs: ChunkCodecs,
    /// Where the inner chunks are.
    index: Arc<ShardIndex>,
}

impl ChunkCodecs {
    /// The map of an array of whole items in these objects: its pieces are the objects themselves,
    /// or the inner chunks of shards.
    pub fn map(&self, shape: &[u64], spec: &ChunkSpec, objects: Arc<dyn Pieces>) -> ArrayMap {
        let mut order: Vec<usize> = (0..spec.shape.len()).collect();
        let (mut all, mut pieces, mut chunk) = (self, objects, spec.shape.clone());
        while let Some((own, shard)) = &all.shard {
            order = own.iter().map(|&i| order[i]).collect();
            order.iter().zip(&shard.inner).for_each(|(&d, &n)| chunk[d] = n);
            pieces = Arc::new(shard.index.pieces(pieces, &order));
            all = &shard.codecs;
        }
        let mut codecs = all.codecs.clone();
        if !order.is_sorted() {
            let item = spec.item.unwrap_or(1);
            codecs.insert(0, Codec::Transpose { order, shape: chunk.clone(), item });
        }
        let element = match spec.item {
            Some(bytes) => Element { bytes, field: None, convert: Convert::Nothing },
            None => Element::items_of_any_length(),
        };
        ArrayMap {
            shape: shape.to_vec(),
            grid: Grid::Chunks(chunk),
            pieces,
            codecs: CodecPipeline::new(codecs),
            element,
            fill: spec.fill.clone(),
        }
    }

    /// All bytes of a chunk that is a shard.
    fn decode_shard(&self, bytes: Vec<u8>, spec: &ChunkSpec) -> Result<Vec<u8>> {
        let map = self.map(&spec.shape, spec, Arc::new(BlobSlice::memory(bytes)));
        let (rows, reader) = (map.rows(), MapReader::new(vec![Some(map)], spec.memory_bytes));
        let mut parts = Vec::new();
        reader.read(0, 0..rows, &mut |chunk| {
            parts.push(chunk.values);
            Ok(())
        })?;
        if spec.item.is_none() {
            return items::encode(parts.iter().flat_map(items_of), spec.shape.iter().product());
        }
        let parts: Vec<&[u8]> = parts
            .iter()
            .filter_map(|part| match part {
                Values::Fixed(bytes) => Some(&bytes[..]),
                _ => None,
            })
            .collect();
        Ok(parts.concat())
    }

    /// The shape of the shards of which parts are read.
    pub fn shard_shape(&self) -> Option<&[u64]> {
        self.shard.as_ref().map(|(_, shard)| shard.outer.as_slice())
    }

    /// The most bytes that a stored object can sensibly have.
    pub fn most_stored(&self, spec: &ChunkSpec) -> u64 {
        let Some((_, shard)) = &self.shard else {
            let Some(item) = spec.item else { return spec.memory_bytes / 2 };
            let decoded = checked_product(&spec.shape).unwrap_or(u64::MAX);
            let decoded = decoded.saturating_mul(item as u64);
            return CodecPipeline::new(self.codecs.clone()).most_stored(decoded);
        };
        let inner = ChunkSpec { shape: shard.inner.clone(), ..spec.clone() };
        let index = shard.index.bytes();
        shard.codecs.most_stored(&inner).saturating_mul(index / 16).saturating_add(index)
    }
}

fn items_of(values: &Values) -> impl Iterator<Item = &[u8]> + Clone {
    let (offsets, values): (&[u64], &[u8]) = match values {
        Values::Var { offsets, values } => (offsets, values),
        _ => (&[], &[]),
    };
    offsets.windows(2).map(|w| &values[w[0] as usize..w[1] as usize])
}

fn unsupported(what: &str, name: &str) -> Error {
    Error::refused(format!("the {what} '{name}' is not supported")).hint(SKIP_ARRAY)
}

fn text<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}

fn number(config: &Value, key: &str) -> Result<NumberType> {
    let text = text(config, key).or_else(|| text(config, "dtype")).unwrap_or("?");
    NumberType::parse(text)
        .ok_or_else(|| Error::refused(format!("a filter of data type '{text}' is not supported")))
}

/// A filter over numbers; `None` for other names.
fn filter(name: &str, config: &Value) -> Result<Option<Filter>> {
    let real = |key: &str| config.get(key).and_then(Value::as_f64);
    Ok(Some(match name {
        "delta" => Filter::Delta { to: number(config, "dtype")?, from: number(config, "astype")? },
        "fixedscaleoffset" => {
            let (scale, offset) = real("scale").zip(real("offset")).ok_or_else(|| {
                Error::corrupt("the fixedscaleoffset filter lacks scale and offset")
            })?;
            let (to, from) = (number(config, "dtype")?, number(config, "astype")?);
            Filter::ScaleOffset { to, from, scale, offset }
        }
        "quantize" => {
            Filter::Cast { to: number(config, "dtype")?, from: number(config, "astype")? }
        }
        "astype" => Filter::Cast {
            to: number(config, "decode_dtype")?,
            from: number(config, "encode_dtype")?,
        },
        "packbits" => Filter::PackBits,
        _ => return Ok(None),
    }))
}

/// A codec from bytes to bytes; `None` for other names.
fn bytes_codec(name: &str, config: &Value) -> Result<Option<Codec>> {
    let checksum = |sum: Checksum, start: bool| {
        let at_start = text(config, "location").map_or(start, |l| l == "start");
        Codec::Checksum { sum, at_start }
    };
    Ok(Some(match name {
        "gzip" => Codec::Compression(Compression::Deflate(Wrapper::Gzip)),
        "zlib" => Codec::Compression(Compression::Deflate(Wrapper::Zlib)),
        "zstd" => Codec::Compression(Compression::Zstd),
        "bz2" => Codec::Compression(Compression::Bzip2),
        "lz4" => Codec::Compression(Compression::Lz4Sized),
        "blosc" => Codec::Compression(Compression::Blosc),
        "lzma" => Codec::Compression(Compression::Lzma(lzma(config)?)),
        "crc32" => checksum(Checksum::Crc32, true),
        "adler32" => checksum(Checksum::Adler32, true),
        "crc32c" => checksum(Checksum::Crc32c, false),
        "fletcher32" => Codec::Checksum { sum: Checksum::Fletcher32, at_start: false },
        "shuffle" => {
            let size =
                config.get("elementsize").map_or(Some(4), Value::as_u64).filter(|&n| n <= 1 << 16);
            Codec::Shuffle(
                size.ok_or_else(|| {
                    Error::corrupt("the shuffle filter's elementsize is not a size")
                })? as usize,
            )
        }
        _ => return Ok(None),
    }))
}

fn lzma(config: &Value) -> Result<Lzma> {
    if config.get("format").and_then(Value::as_u64) != Some(3) {
        return Ok(Lzma::Headed);
    }
    let filters =
        config.get("filters").and_then(Value::as_array).filter(|f| !f.is_empty() && f.len() <= 4);
    let filters = filters.ok_or_else(|| Error::corrupt("a raw lzma stream lacks its filters"))?;
    let one = |f: &Value| {
        let id = f.get("id").and_then(Value::as_u64)?;
        let small =
            |key: &str| f.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        matches!(id, 3 | 0x21 | 0x4000_0000_0000_0001).then(|| LzmaFilter {
            id,
            preset: small("preset").unwrap_or(6),
            dict_size: small("dict_size"),
            distance: small("dist").unwrap_or(1),
        })
    };
    let filters = filters
        .iter()
        .map(one)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| unsupported("filter of lzma", "raw"))?;
    Ok(Lzma::Raw(filters))
}

/// `zstd:3`: the name with its level.
fn described(name: &str, config: &Value) -> String {
    let level = config.get("level").or_else(|| config.get("clevel")).and_then(Value::as_i64);
    let name = match text(config, "cname") {
        Some(inner) => format!("{name}:{inner}"),
        None => name.to_string(),
    };
    match level {
        Some(level) => format!("{name}:{level}"),
        None => name,
    }
}

/// The codecs of a v2 array: its `filters`, `compressor` and `order`. Returns what objects are,
/// too.
///
/// # Errors
/// Refused by name, or corrupt.
pub fn v2(
    spec: &ChunkSpec,
    data_type: &DataType,
    meta: &Value,
) -> Result<(ChunkCodecs, Option<DataType>)> {
    let (mut codecs, mut names, mut objects) = (Vec::new(), Vec::new(), None);
    match text(meta, "order").unwrap_or("C") {
        "C" => {}
        "F" if spec.shape.len() < 2 => {}
        "F" => codecs.push(Codec::Transpose {
            order: (0..spec.shape.len()).rev().collect(),
            shape: spec.shape.clone(),
            item: spec.item.unwrap_or(1),
        }),
        order => {
            return Err(Error::corrupt(format!("the order '{order}' is neither C nor F")));
        }
    }
    let none = Vec::new();
    let filters = match meta.get("filters") {
        None | Some(Value::Null) => &none,
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(Error::corrupt(format!("the filters {other} are not a list")));
        }
    };
    let compressor = meta.get("compressor").filter(|c| !c.is_null());
    for (i, config) in filters.iter().chain(compressor).enumerate() {
        let what = if i < filters.len() { "filter" } else { "compressor" };
        let id = text(config, "id")
            .ok_or_else(|| Error::corrupt(format!("the {what} {config} has no id")))?;
        names.push(described(id, config));
        match id {
            "vlen-utf8" if i == 0 && *data_type == DataType::Object => {
                objects = Some(DataType::Text);
            }
            "vlen-bytes" if i == 0 && *data_type == DataType::Object => {
                objects = Some(DataType::Binary);
            }
            "vlen-array" if i == 0 && *data_type == DataType::Object => {
                if spec.shape.len() != 1 {
                    return Err(Error::refused(format!(
                        "lists of {} dimensions are not supported",
                        spec.shape.len()
                    ))
                    .hint(SKIP_ARRAY));
                }
                objects = Some(DataType::list_of(config.get("dtype").unwrap_or(&Value::Null))?);
            }
            "json2" | "msgpack2" | "categorize" => {
                let hint = format!("write it as numbers or text with zarr-python; or {SKIP_ARRAY}");
                return Err(Error::refused(format!(
                    "the elements are objects, stored with the filter '{id}', which is not supported"
                ))
                .hint(hint));
            }
            "pickle" | "dill" => {
                return Err(Error::refused(format!(
                    "the objects are stored with the filter '{id}', which would run code"
                ))
                .hint(SKIP_ARRAY));
            }
            // What it takes away is gone.
            "bitround" => {}
            _ => codecs.push(match filter(id, config)? {
                Some(filter) => Codec::Filter(filter),
                None => bytes_codec(id, config)?.ok_or_else(|| unsupported(what, id))?,
            }),
        }
    }
    if *data_type == DataType::Object && objects.is_none() {
        return Err(Error::refused("the elements are objects, and no filter says what they are"));
    }
    let summary = (!names.is_empty()).then(|| names.join(" + "));
    Ok((ChunkCodecs { codecs, shard: None, summary }, objects))
}

/// The codecs of a v3 `codecs` list.
///
/// # Errors
/// Refused by name, or corrupt.
pub fn v3(spec: ChunkSpec, data_type: &DataType, codecs: &Value) -> Result<ChunkCodecs> {
    let list = codecs.as_array().filter(|l| !l.is_empty() && l.len() <= 32);
    let list = list.ok_or_else(|| Error::corrupt("the codecs are not a list of at most 32"))?;
    // Records are not turned around: their fields would be.
    let unit = match data_type {
        DataType::Fixed { fields, .. } if fields.len() == 1 => Some(fields[0].swap_unit()),
        _ => None,
    };
    let mut parsed = V3 {
        order: (0..spec.shape.len()).collect(),
        spec,
        data_type,
        unit,
        codecs: Vec::new(),
        names: Vec::new(),
        has_bytes: false,
        shard: None,
    };
    list.iter().try_for_each(|codec| parsed.add(codec))?;
    if !parsed.has_bytes {
        return Err(Error::corrupt("no codec turns the array into bytes"));
    }
    let V3 { spec, order, mut codecs, names, shard, .. } = parsed;
    let summary = (!names.is_empty()).then(|| names.join(" + "));
    let shard = match shard {
        // Only other orders of dimensions around it: parts can be read.
        Some((at, shard))
            if at == codecs.len()
                && codecs.iter().all(|c| matches!(c, Codec::Transpose { .. })) =>
        {
            codecs.clear();
            Some((order, Box::new(shard)))
        }
        // Else it is decoded as a whole.
        Some((at, shard)) => {
            let shard = Some(((0..spec.shape.len()).collect(), Box::new(shard)));
            let whole = ChunkCodecs { codecs: Vec::new(), shard, summary: None };
            let decode = move |bytes: Vec<u8>, _| whole.decode_shard(bytes, &spec);
            codecs.insert(at, Codec::With(Arc::new(decode)));
            None
        }
        None => None,
    };
    Ok(ChunkCodecs { codecs, shard, summary })
}

/// A `codecs` list, as far as it was read.
struct V3<'a> {
    /// What the next codec is given.
    spec: ChunkSpec,
    data_type: &'a DataType,
    /// The dimension of the array that is stored at each place.
    order: Vec<usize>,
    /// Bytes of an item that a byte order applies to.
    unit: Option<usize>,
    codecs: Vec<Codec>,
    names: Vec<String>,
    /// Whether the array is bytes by now.
    has_bytes: bool,
    /// The place of the shard among the codecs.
    shard: Option<(usize, Shard)>,
}

impl V3<'_> {
    fn add(&mut self, codec: &Value) -> Result<()> {
        let full = codec
            .as_str()
            .or_else(|| text(codec, "name"))
            .ok_or_else(|| Error::corrupt(format!("the codec {codec} has no name")))?;
        let config = codec.get("configuration").unwrap_or(&Value::Null);
        let name = full.strip_prefix("numcodecs.").unwrap_or(full);
        let (mut numbers, mut bytes) = (filter(name, config)?, None);
        let is_structure = matches!(
            name,
            "bytes" | "endian" | "transpose" | "vlen-utf8" | "vlen-bytes" | "sharding_indexed"
        );
        if !is_structure {
            self.names.push(described(name, config));
            if numbers.is_none() && name != "bitround" {
                let known = bytes_codec(name, config)?;
                bytes = Some(known.ok_or_else(|| unsupported("codec", full))?);
            }
        }
        // Bytes are compressed once the array is bytes, the others come before.
        let is_var = self.spec.item.is_none();
        let fits = match name {
            "bytes" | "endian" => !is_var,
            "vlen-utf8" | "vlen-bytes" => is_var,
            _ => true,
        };
        if bytes.is_some() != self.has_bytes || !fits {
            return Err(Error::corrupt(format!("the codec {full} is in the wrong place")));
        }
        match name {
            "bytes" | "endian" => self.byte_order(text(config, "endian"))?,
            "sharding_indexed" => self.sharding(config)?,
            "transpose" => self.transpose(config)?,
            _ => {
                if let Some(filter) = numbers.take() {
                    self.unit = Some(filter.stored_size());
                    self.spec.item = Some(filter.stored_size());
                    self.codecs.push(Codec::Filter(filter));
                }
                self.codecs.extend(bytes);
            }
        }
        self.has_bytes |= is_structure && name != "transpose";
        Ok(())
    }

    fn byte_order(&mut self, endian: Option<&str>) -> Result<()> {
        match (endian, self.unit) {
            (Some("big"), Some(unit)) => self.codecs.push(Codec::Swap(unit)),
            (Some("big"), None) => {
                return Err(Error::refused("a big-endian structured data type is not supported"));
            }
            (Some("little") | None, _) => {}
            (Some(other), _) => {
                return Err(Error::corrupt(format!("the byte order '{other}' is not known")));
            }
        }
        Ok(())
    }

    fn transpose(&mut self, config: &Value) -> Result<()> {
        let rank = self.spec.shape.len();
        let order: Vec<usize> = match config.get("order") {
            Some(Value::String(s)) if s == "C" => (0..rank).collect(),
            Some(Value::String(s)) if s == "F" => (0..rank).rev().collect(),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_u64).map(|n| n as usize).collect()
            }
            _ => Vec::new(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Err(Error::corrupt(format!(
                "the transpose codec's order {order:?} is not an order of {rank} dimensions"
            )));
        }
        let shape = std::mem::take(&mut self.spec.shape);
        self.spec.shape = order.iter().map(|&d| shape[d]).collect();
        self.order = order.iter().map(|&i| self.order[i]).collect();
        let item = self.spec.item.unwrap_or(1);
        self.codecs.push(Codec::Transpose { order, shape, item });
        Ok(())
    }

    fn sharding(&mut self, config: &Value) -> Result<()> {
        let broken = |why: &str| {
            Error::corrupt(format!("the sharding codec's configuration is broken: {why}"))
        };
        if self.spec.depth >= MAX_DEPTH {
            return Err(Error::refused(
                "shards inside shards more than four deep are not supported",
            ));
        }
        let inner = dims(config.get("chunk_shape")).ok_or_else(|| broken("chunk_shape"))?;
        let index = Arc::new(ShardIndex::parse(&self.spec.shape, &inner, config)?);
        let spec =
            ChunkSpec { shape: inner.clone(), depth: self.spec.depth + 1, ..self.spec.clone() };
        let codecs = v3(spec, self.data_type, config.get("codecs").unwrap_or(&Value::Null))?;
        self.names.extend(codecs.summary.clone());
        let outer = self.spec.shape.clone();
        self.shard = Some((self.codecs.len(), Shard { outer, inner, codecs, index }));
        Ok(())
    }
}
