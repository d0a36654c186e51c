//! The header of a safetensors file: read with its order kept and repeated keys rejected, and
//! written.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::formats::checkpoint::unique_map::UniqueMap;
use crate::model::{ArrayMeta, Attributes, Dtype, Logical, checked_product};

/// Headers beyond this are refused by the reference library, too.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The key that holds no tensor.
pub const METADATA: &str = "__metadata__";

/// One entry.
#[derive(Debug, serde::Deserialize)]
pub struct Tensor {
    /// The type's name.
    pub dtype: String,
    /// The shape, in elements.
    pub shape: Vec<u64>,
    /// Begin and end, counted from the end of the header.
    pub data_offsets: (u64, u64),
}

/// A parsed header.
#[derive(Debug, Default)]
pub struct Header {
    /// Tensors in the order of the header.
    pub tensors: Vec<(String, Tensor)>,
    /// `__metadata__`.
    pub metadata: Attributes,
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format!("the key {name:?} appears twice")));
            }
            if name == METADATA {
                let strings = map.next_value::<Option<UniqueMap<String>>>()?.unwrap_or_default();
                header.metadata = strings.0.into_iter().map(|(k, v)| (k, v.into())).collect();
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}

/// Bytes of the header, from the first eight bytes of a file of `file_bytes` (if that is known).
///
/// # Errors
/// Not this format; truncated; too large.
pub fn header_bytes(head: &[u8], file_bytes: Option<u64>) -> Result<u64> {
    let Some(prefix) = head.get(..8).and_then(|b| b.try_into().ok()) else {
        return Err(Error::corrupt(format!(
            "a safetensors file begins with 8 bytes of header length, this file has {} bytes",
            head.len()
        )));
    };
    let len = u64::from_le_bytes(prefix);
    if len > MAX_HEADER_BYTES {
        return Err(Error::corrupt(format!(
            "the header declares {len} bytes, at most {MAX_HEADER_BYTES} are allowed"
        )));
    }
    if head.get(8).is_some_and(|&b| b != b'{') {
        return Err(Error::corrupt("the header does not begin with '{'"));
    }
    if let Some(all) = file_bytes
        && 8 + len > all
    {
        return Err(Error::corrupt(format!(
            "the file is truncated: the header should have {len} bytes, the file has {all}"
        )));
    }
    Ok(len)
}

/// Parses the header's text.
///
/// # Errors
/// Corrupt: no JSON, repeated keys, missing parts.
pub fn parse(text: &[u8]) -> Result<Header> {
    if text.first() != Some(&b'{') {
        return Err(Error::corrupt("the header does not begin with '{'"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let header = json.deserialize_map(HeaderVisitor).and_then(|h| json.end().map(|()| h));
    header.map_err(|e| Error::corrupt(format!("the header is broken: {e}")))
}

/// What the type's name means: the model's dtype and, below a byte, the bits of an element.
fn dtype_of(name: &str) -> Option<(Dtype, Option<u64>)> {
    Some(match name {
        "F4" => (Dtype::U8, Some(4)),
        "F6_E2M3" | "F6_E3M2" => (Dtype::U8, Some(6)),
        _ => (Dtype::of_safetensors(name)?, None),
    })
}

/// The array of an entry. Elements below a byte come as the bytes that hold them, row by row where
/// rows are whole bytes.
///
/// # Errors
/// Corrupt: sizes that overflow, or differ from the offsets.
pub fn meta(name: &str, tensor: &Tensor) -> Result<ArrayMeta> {
    let (begin, end) = tensor.data_offsets;
    let large = || Error::corrupt(format!("the shape {:?} is too large", tensor.shape));
    let Some((dtype, bits)) = dtype_of(&tensor.dtype) else {
        let mut meta = ArrayMeta::new(name, Dtype::U8, &[end.saturating_sub(begin)]);
        meta.details.stored_dtype = Some(tensor.dtype.clone());
        meta.details.error = Some(std::sync::Arc::new(
            Error::refused(format!("the type '{}' is not known", tensor.dtype)).array(name),
        ));
        return Ok(meta);
    };
    let count = checked_product(&tensor.shape).ok_or_else(large)?;
    let item_bits = bits.unwrap_or(8 * dtype.item_bytes());
    let total_bits = count.checked_mul(item_bits).ok_or_else(large)?;
    if total_bits % 8 != 0 {
        return Err(Error::corrupt(format!(
            "{count} elements of {item_bits} bits do not make whole bytes"
        )));
    }
    if end.checked_sub(begin) != Some(total_bits / 8) {
        return Err(Error::corrupt(format!(
            "{} of shape {:?} needs {} bytes, its offsets are {begin}..{end}",
            tensor.dtype,
            tensor.shape,
            total_bits / 8
        )));
    }
    let mut meta = match bits {
        None => ArrayMeta::new(name, dtype, &tensor.shape),
        Some(bits) => {
            let mut shape = tensor.shape.clone();
            match shape.last_mut() {
                Some(last) if *last * bits % 8 == 0 => *last = *last * bits / 8,
                _ => shape = vec![total_bits / 8],
            }
            let mut meta = ArrayMeta::new(name, Dtype::U8, &shape);
            meta.logical =
                Logical::Packed { dtype: tensor.dtype.clone(), shape: tensor.shape.clone() };
            meta
        }
    };
    meta.bytes()?;
    meta.details.stored_dtype = Some(tensor.dtype.clone());
    meta.details.stored_bytes = Some(total_bits / 8);
    Ok(meta)
}

/// The type's name and the shape that an array is written with.
///
/// # Errors
/// Refused: what safetensors cannot hold.
pub fn spell(meta: &ArrayMeta) -> Result<(String, Vec<u64>)> {
    let refused = || {
        Error::refused(format!("safetensors cannot hold {}", meta.type_name())).array(&meta.name)
    };
    let shape = meta
        .shape()
        .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
    match &meta.logical {
        Logical::Plain => Ok((meta.dtype.safetensors().ok_or_else(refused)?.to_string(), shape)),
        Logical::Packed { dtype, shape: elements } => {
            let (_, Some(bits)) = dtype_of(dtype).ok_or_else(refused)? else {
                return Err(refused());
            };
            let mut elements = elements.clone();
            // Rows may have been left out since the header was read.
            if elements.len() > 1 && elements.len() == shape.len() {
                elements[0] = shape[0];
            } else if let ([only], [bytes]) = (elements.as_mut_slice(), shape.as_slice()) {
                *only = bytes * 8 / bits;
            }
            let same = checked_product(&elements).and_then(|n| n.checked_mul(bits))
                == meta.bytes()?.and_then(|b| b.checked_mul(8));
            if !same {
                return Err(Error::refused(format!(
                    "{dtype} of shape {elements:?} no longer fits its bytes"
                ))
                .array(&meta.name));
            }
            Ok((dtype.clone(), elements))
        }
        _ => Err(refused()),
    }
}

/// Writes a header for these arrays in this order, padded so that the data begins at a multiple of
/// 8. Returns it with its length in front, and where each array begins after it.
///
/// # Errors
/// Refused: arrays that cannot be held; a header that is too large.
pub fn write(arrays: &[&ArrayMeta], attributes: &Attributes) -> Result<(Vec<u8>, Vec<u64>)> {
    let mut text: Vec<u8> = vec![b'{'];
    let mut begins = Vec::with_capacity(arrays.len());
    if !attributes.is_empty() {
        let strings: Attributes = attributes
            .iter()
            .map(|(key, value)| match value {
                serde_json::Value::String(_) => (key.clone(), value.clone()),
                other => (key.clone(), serde_json::Value::String(other.to_string())),
            })
            .collect();
        text.extend(format!("\"{METADATA}\":").bytes());
        json(&mut text, &strings)?;
    }
    let mut at = 0u64;
    for meta in arrays {
        let (dtype, shape) = spell(meta)?;
        let bytes = meta
            .bytes()?
            .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
        let end = at
            .checked_add(bytes)
            .ok_or_else(|| Error::refused("the arrays are too large in sum"))?;
        if text.len() > 1 {
            text.push(b',');
        }
        json(&mut text, &meta.name)?;
        text.extend(format!(":{{\"dtype\":\"{dtype}\",\"shape\":").bytes());
        json(&mut text, &shape)?;
        text.extend(format!(",\"data_offsets\":[{at},{end}]}}").bytes());
        begins.push(at);
        at = end;
    }
    text.push(b'}');
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() as u64 > MAX_HEADER_BYTES {
        return Err(Error::refused(format!(
            "the header would need {} bytes, at most {MAX_HEADER_BYTES} are allowed",
            text.len()
        ))
        .hint("write shards with --max-shard-size"));
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    Ok((header, begins))
}

fn json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    serde_json::to_writer(out, value)
        .map_err(|e| Error::failed("the header cannot be written").because(e))
}
