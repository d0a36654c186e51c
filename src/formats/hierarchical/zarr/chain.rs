//! The codec chain of an array: from metadata to steps, and from a chunk's bytes to its elements.
//!
//! Every step has an upper limit for what it may produce, so that a chunk never takes more memory
//! than its shape says. Steps that are not known are refused by name when the array is opened.

use serde_json::Value;

use super::dtype::{self, Element};
use super::shard::Shard;
use super::transpose::transpose;
use crate::codec::checksum::Checksum;
use crate::codec::decompress::{self, Compression, Limit, Lzma, LzmaFilter, Wrapper};
use crate::codec::filters::{Filter, NumberType as Number};
use crate::error::{Error, Result};

/// What the codecs of an array do, last codec first: the order of decoding.
#[derive(Clone, Debug)]
pub struct Chain {
    steps: Vec<Step>,
    /// The most bytes that any step of a chunk of fixed-size items may give.
    most: u64,
    /// As `inspect` shows it: `delta + zstd:3`.
    pub summary: Option<String>,
}

#[derive(Clone, Debug)]
enum Step {
    Decompress(Compression),
    Checksum {
        sum: Checksum,
        at_start: bool,
    },
    Swap(usize),
    Filter(Filter),
    Shuffle(usize),
    /// To the C order of this shape; `order[i]` is the dimension that was stored at place `i`.
    Transpose {
        order: Vec<usize>,
        shape: Vec<u64>,
    },
    VarItems,
    Shard(Box<Shard>),
}

/// A decoded chunk.
pub enum Decoded {
    /// Items of a fixed size, C order.
    Fixed(Vec<u8>),
    /// Items of any length.
    Var(VarItems),
}

/// Items of any length.
#[derive(Default)]
pub struct VarItems {
    /// items + 1 offsets.
    pub offsets: Vec<u64>,
    /// Their bytes.
    pub values: Vec<u8>,
}

impl VarItems {
    /// None yet.
    pub fn new() -> VarItems {
        VarItems { offsets: vec![0], values: Vec::new() }
    }
    /// Appends one.
    pub fn push(&mut self, item: &[u8]) {
        self.values.extend_from_slice(item);
        self.offsets.push(self.values.len() as u64);
    }
}

/// What a chunk is made of.
pub struct Shape<'a> {
    /// Its dimensions.
    pub chunk: &'a [u64],
    /// Bytes of an item, `None` for items of any length.
    pub item: Option<usize>,
    /// The bytes of a missing item.
    pub fill: &'a [u8],
    /// Bytes that items of any length may take together.
    pub var_bytes: u64,
}

impl Shape<'_> {
    /// Items of a chunk; checked against the memory limit when the array was opened.
    pub fn items(&self) -> u64 {
        self.chunk.iter().product()
    }
    /// A chunk of missing items.
    pub fn filled(&self) -> Decoded {
        let items = self.items();
        match self.item {
            None => {
                let mut all = VarItems::new();
                (0..items).for_each(|_| all.push(self.fill));
                Decoded::Var(all)
            }
            Some(size) if self.fill.iter().all(|b| *b == 0) => {
                Decoded::Fixed(vec![0; items as usize * size])
            }
            Some(_) => Decoded::Fixed(self.fill.repeat(items as usize)),
        }
    }
}

/// What one array's chain is parsed for.
pub struct Target<'a> {
    /// The chunk's shape.
    pub chunk: Vec<u64>,
    /// The element type.
    pub element: &'a Element,
    /// Chains inside chains.
    pub depth: usize,
}

fn unsupported(what: &str, name: &str) -> Error {
    Error::refused(format!("the {what} '{name}' is not supported"))
}

fn text<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}

fn number(config: &Value, key: &str) -> Result<Number> {
    let text = text(config, key).or_else(|| text(config, "dtype")).unwrap_or("?");
    Number::parse(text)
        .ok_or_else(|| Error::refused(format!("a filter of data type '{text}' is not supported")))
}

/// The float of a JSON number.
fn real(config: &Value, key: &str) -> Option<f64> {
    config.get(key).and_then(Value::as_f64)
}

/// A codec from bytes to bytes, or a filter over elements; `None` for other names.
fn simple(name: &str, config: &Value) -> Result<Option<Step>> {
    let checksum = |sum: Checksum, start: bool| {
        let at_start = text(config, "location").map_or(start, |l| l == "start");
        Step::Checksum { sum, at_start }
    };
    Ok(Some(match name {
        "gzip" => Step::Decompress(Compression::Deflate(Wrapper::Gzip)),
        "zlib" => Step::Decompress(Compression::Deflate(Wrapper::Zlib)),
        "zstd" => Step::Decompress(Compression::Zstd),
        "bz2" => Step::Decompress(Compression::Bzip2),
        "lz4" => Step::Decompress(Compression::Lz4Sized),
        "blosc" => Step::Decompress(Compression::Blosc),
        "lzma" => Step::Decompress(Compression::Lzma(lzma(config)?)),
        "crc32" => checksum(Checksum::Crc32, true),
        "adler32" => checksum(Checksum::Adler32, true),
        "crc32c" => checksum(Checksum::Crc32c, false),
        "fletcher32" => Step::Checksum { sum: Checksum::Fletcher32, at_start: false },
        "shuffle" => {
            let size =
                config.get("elementsize").map_or(Some(4), Value::as_u64).filter(|&n| n <= 1 << 16);
            Step::Shuffle(
                size.ok_or_else(|| {
                    Error::corrupt("the shuffle filter's elementsize is not a size")
                })? as usize,
            )
        }
        "delta" => Step::Filter(Filter::Delta {
            to: number(config, "dtype")?,
            from: number(config, "astype")?,
        }),
        "fixedscaleoffset" => {
            let (scale, offset) =
                real(config, "scale").zip(real(config, "offset")).ok_or_else(|| {
                    Error::corrupt("the fixedscaleoffset filter lacks scale and offset")
                })?;
            Step::Filter(Filter::ScaleOffset {
                to: number(config, "dtype")?,
                from: number(config, "astype")?,
                scale,
                offset,
            })
        }
        "quantize" => Step::Filter(Filter::Cast {
            to: number(config, "dtype")?,
            from: number(config, "astype")?,
        }),
        "astype" => Step::Filter(Filter::Cast {
            to: number(config, "decode_dtype")?,
            from: number(config, "encode_dtype")?,
        }),
        "packbits" => Step::Filter(Filter::PackBits),
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

impl Chain {
    fn new(target: &Target<'_>, mut encode_order: Vec<Step>, names: Vec<String>) -> Chain {
        encode_order.reverse();
        let wide = encode_order.iter().any(|s| matches!(s, Step::Filter(_) | Step::Shard(_)));
        let decoded = target
            .element
            .size()
            .map_or(0, |size| target.chunk.iter().product::<u64>().saturating_mul(size as u64));
        let most = if wide { decoded.saturating_mul(16) } else { decoded }.saturating_add(4096);
        Chain { steps: encode_order, most, summary: (!names.is_empty()).then(|| names.join(" + ")) }
    }

    /// The chain of a v2 array: its `filters`, `compressor` and `order`. Returns what objects are,
    /// too.
    ///
    /// # Errors
    /// Refused by name, or corrupt.
    pub fn v2(target: &mut Target<'_>, meta: &Value) -> Result<(Chain, Option<Element>)> {
        let (mut steps, mut names, mut objects) = (Vec::new(), Vec::new(), None);
        let order = meta.get("order").and_then(Value::as_str).unwrap_or("C");
        if order == "F" && target.chunk.len() > 1 {
            steps.push(Step::Transpose {
                order: (0..target.chunk.len()).rev().collect(),
                shape: target.chunk.clone(),
            });
        } else if !matches!(order, "C" | "F") {
            return Err(Error::corrupt(format!("the order '{order}' is neither C nor F")));
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
            if i == 0
                && *target.element == Element::Object
                && matches!(id, "vlen-utf8" | "vlen-bytes")
            {
                objects = Some(if id == "vlen-utf8" { Element::Text } else { Element::Binary });
                steps.push(Step::VarItems);
                continue;
            }
            if matches!(id, "pickle" | "dill") {
                return Err(Error::refused(format!(
                    "the objects are stored with the filter '{id}', which would run code"
                )));
            }
            match (simple(id, config)?, id) {
                (_, "bitround") => {}
                (Some(step), _) => steps.push(step),
                (None, _) => return Err(unsupported(what, id)),
            }
        }
        if *target.element == Element::Object && objects.is_none() {
            return Err(Error::refused(
                "the elements are objects, and no filter says what they are",
            ));
        }
        Ok((Chain::new(target, steps, names), objects))
    }

    /// The chain of a v3 `codecs` list.
    ///
    /// # Errors
    /// Refused by name, or corrupt.
    pub fn v3(target: &mut Target<'_>, codecs: &Value) -> Result<Chain> {
        let list = codecs.as_array().filter(|l| !l.is_empty() && l.len() <= 32);
        let list = list.ok_or_else(|| Error::corrupt("the codecs are not a list of at most 32"))?;
        let (mut steps, mut names) = (Vec::new(), Vec::new());
        // What the array's items are by now: filters change their size.
        let mut unit = match target.element {
            Element::Fixed { fields, .. } if fields.len() == 1 => Some(fields[0].swap_unit()),
            _ => None,
        };
        let mut bytes_yet = false;
        for codec in list {
            let full = codec
                .as_str()
                .or_else(|| text(codec, "name"))
                .ok_or_else(|| Error::corrupt(format!("the codec {codec} has no name")))?;
            let config = codec.get("configuration").unwrap_or(&Value::Null);
            let name = full.strip_prefix("numcodecs.").unwrap_or(full);
            if !matches!(
                name,
                "bytes" | "transpose" | "vlen-utf8" | "vlen-bytes" | "sharding_indexed" | "endian"
            ) {
                names.push(described(name, config));
            }
            let wrong = || Error::corrupt(format!("the codec {full} is in the wrong place"));
            match name {
                "bytes" | "endian" => {
                    if bytes_yet || target.element.size().is_none() {
                        return Err(wrong());
                    }
                    bytes_yet = true;
                    match text(config, "endian") {
                        Some("big") => match unit {
                            Some(unit) => steps.push(Step::Swap(unit)),
                            None => {
                                return Err(Error::refused(
                                    "a big-endian structured data type is not supported",
                                ));
                            }
                        },
                        Some("little") | None => {}
                        Some(other) => {
                            return Err(Error::corrupt(format!(
                                "the byte order '{other}' is not known"
                            )));
                        }
                    }
                }
                "vlen-utf8" | "vlen-bytes" => {
                    if bytes_yet || !matches!(target.element, Element::Text | Element::Binary) {
                        return Err(wrong());
                    }
                    bytes_yet = true;
                    steps.push(Step::VarItems);
                }
                "sharding_indexed" => {
                    if bytes_yet {
                        return Err(wrong());
                    }
                    bytes_yet = true;
                    let shard = Shard::parse(target, config)?;
                    if let Some(inner) = &shard.chain.summary {
                        names.push(inner.clone());
                    }
                    steps.push(Step::Shard(Box::new(shard)));
                }
                "transpose" => {
                    if bytes_yet {
                        return Err(wrong());
                    }
                    let rank = target.chunk.len();
                    let order: Vec<usize> = match config.get("order") {
                        Some(Value::String(s)) if s == "C" => (0..rank).collect(),
                        Some(Value::String(s)) if s == "F" => (0..rank).rev().collect(),
                        Some(Value::Array(list)) => {
                            list.iter().filter_map(Value::as_u64).map(|n| n as usize).collect()
                        }
                        _ => Vec::new(),
                    };
                    let mut seen = vec![false; rank];
                    order.iter().for_each(|&d| {
                        if d < rank {
                            seen[d] = true
                        }
                    });
                    if order.len() != rank || seen.contains(&false) {
                        return Err(Error::corrupt(format!(
                            "the transpose codec's order {order:?} is not an order of {rank} dimensions"
                        )));
                    }
                    steps.push(Step::Transpose {
                        order: order.clone(),
                        shape: target.chunk.clone(),
                    });
                    target.chunk = order.iter().map(|&d| target.chunk[d]).collect();
                }
                "bitround" if !bytes_yet => {}
                _ => match simple(name, config)? {
                    Some(Step::Filter(filter)) if !bytes_yet => {
                        unit = Some(filter.stored_size());
                        steps.push(Step::Filter(filter));
                    }
                    Some(Step::Filter(_)) => return Err(wrong()),
                    Some(step) if bytes_yet => steps.push(step),
                    Some(_) => return Err(wrong()),
                    None => return Err(unsupported("codec", full)),
                },
            }
        }
        if !bytes_yet {
            return Err(Error::corrupt("no codec turns the array into bytes"));
        }
        Ok(Chain::new(target, steps, names))
    }

    /// Whether a chunk's bytes are its elements as they are.
    pub fn is_raw(&self) -> bool {
        self.steps.is_empty()
    }

    /// The sharding codec that is the only one: parts of a chunk can be read.
    pub fn lone_shard(&self) -> Option<&Shard> {
        match self.steps.as_slice() {
            [Step::Shard(shard)] => Some(shard),
            _ => None,
        }
    }

    /// The most bytes that an encoded chunk can sensibly have.
    pub fn most_encoded(&self, shape: &Shape<'_>) -> u64 {
        if shape.item.is_none() { shape.var_bytes } else { self.most + self.most / 4 + (1 << 20) }
    }

    /// Bytes that decoding a chunk of so many encoded bytes holds at once.
    pub fn needs(&self, encoded: u64, shape: &Shape<'_>) -> u64 {
        let decoded = shape.items().saturating_mul(shape.item.unwrap_or(1) as u64);
        // From one buffer into another: between two steps both are decoded.
        let steps = |s: &&Step| !matches!(s, Step::Checksum { .. } | Step::Swap(_));
        match self.steps.iter().filter(steps).count() {
            0 => encoded,
            1 => encoded.saturating_add(decoded),
            _ => encoded.max(decoded).saturating_add(decoded),
        }
    }

    /// Decodes a chunk.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, encoded: Vec<u8>, shape: &Shape<'_>) -> Result<Decoded> {
        let most = if shape.item.is_none() { shape.var_bytes } else { self.most };
        let mut bytes = encoded;
        let mut items = None;
        for step in &self.steps {
            bytes = match step {
                Step::Decompress(compression) => {
                    let decoded = compression.decode(&bytes, Limit::most(most as usize));
                    if shape.item.is_none() {
                        decoded.map_err(|e| text_limit(e, most))?
                    } else {
                        decoded?
                    }
                }
                Step::Checksum { sum, at_start } => sum.strip(bytes, *at_start)?,
                Step::Swap(unit) => {
                    dtype::swap(&mut bytes, *unit);
                    bytes
                }
                Step::Filter(filter) => filter.decode(bytes, most as usize)?,
                Step::Shuffle(size) => {
                    let mut out = vec![0; bytes.len()];
                    crate::codec::shuffle::unshuffle(&bytes, *size, &mut out);
                    out
                }
                Step::Transpose { .. } if items.is_some() => bytes,
                Step::Transpose { order, shape: to } => {
                    let item = shape.item.unwrap_or(1);
                    let wanted = to.iter().product::<u64>() * item as u64;
                    if bytes.len() as u64 != wanted {
                        return Err(wrong_size(bytes.len(), wanted));
                    }
                    transpose(&bytes, order, to, item)
                }
                Step::VarItems => {
                    items = Some(var_items(&bytes, shape)?);
                    Vec::new()
                }
                Step::Shard(shard) => match shard.decode(&bytes, shape)? {
                    Decoded::Fixed(bytes) => bytes,
                    Decoded::Var(all) => {
                        items = Some(all);
                        Vec::new()
                    }
                },
            };
        }
        if let Some(items) = items {
            return Ok(Decoded::Var(items));
        }
        let wanted = shape.items() * shape.item.unwrap_or(1) as u64;
        if bytes.len() as u64 == wanted {
            Ok(Decoded::Fixed(bytes))
        } else {
            Err(wrong_size(bytes.len(), wanted))
        }
    }
}

/// Text has no size of its own: what is too much of it is no damage.
pub fn text_limit(e: Error, most: u64) -> Error {
    if !decompress::is_too_much(&e) && !super::store::is_too_long(&e) {
        return e;
    }
    let needed = most.saturating_mul(4).div_ceil(1 << 20);
    Error::refused(format!(
        "a chunk of text has more than the {most} bytes that fit into the memory limit"
    ))
    .hint(format!("raise the limit: --memory-limit {needed}MiB may be enough"))
}

fn wrong_size(found: usize, wanted: u64) -> Error {
    Error::corrupt(format!("the chunk has {found} bytes when decoded, its shape needs {wanted}"))
}

/// numcodecs' vlen: the number of items, then each with its length before it (4 bytes,
/// little-endian).
fn var_items(bytes: &[u8], shape: &Shape<'_>) -> Result<VarItems> {
    let short = || Error::corrupt("a chunk of text is truncated");
    let (count, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let count = u64::from(u32::from_le_bytes(*count));
    if count != shape.items() {
        return Err(Error::corrupt(format!(
            "a chunk of text has {count} items, its shape needs {}",
            shape.items()
        )));
    }
    if count.saturating_mul(4) > rest.len() as u64 {
        return Err(short());
    }
    let mut items = VarItems {
        offsets: Vec::with_capacity(count as usize + 1),
        values: Vec::with_capacity(rest.len() - 4 * count as usize),
    };
    items.offsets.push(0);
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (item, tail) = tail.split_at_checked(len).ok_or_else(short)?;
        items.push(item);
        rest = tail;
    }
    Ok(items)
}
