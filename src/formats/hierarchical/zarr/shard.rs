//! Sharding: many small chunks in one object, found by an index of offsets and lengths at its end
//! or start.
//!
//! | bytes | what |
//! |---|---|
//! | … | the inner chunks, in any order, each through its own codecs |
//! | 16 × n (+ 4) | per inner chunk (C order) offset and length, u64; both all ones: missing. Usually with a crc32c |

use serde_json::Value;

use super::block::{VarBlock, scatter, step};
use super::chain::{Chain, Decoded, Shape, Target};
use crate::codec::checksum::Checksum;
use crate::error::{Error, Result};
use crate::storage::{Blob, MemoryBlob};

/// The most inner chunks of a shard: 64 MiB of index.
const MOST_INNER: u64 = 4 << 20;

/// The `sharding_indexed` codec of an array.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The shard's shape.
    pub outer: Vec<u64>,
    /// The inner chunks' shape.
    pub inner: Vec<u64>,
    /// Inner chunks per dimension.
    pub counts: Vec<u64>,
    /// The codecs of an inner chunk.
    pub chain: Chain,
    at_start: bool,
    checksum: bool,
    big: bool,
}

/// Where the inner chunks of one shard are; `None` for missing ones.
pub type Index = Vec<Option<(u64, u64)>>;

impl Shard {
    /// Parses the codec's configuration.
    ///
    /// # Errors
    /// Refused or corrupt.
    pub fn parse(target: &Target<'_>, config: &Value) -> Result<Shard> {
        let broken = |why: &str| {
            Error::corrupt(format!("the sharding codec's configuration is broken: {why}"))
        };
        if target.depth >= 4 {
            return Err(Error::refused(
                "shards inside shards more than four deep are not supported",
            ));
        }
        let inner =
            super::node::dims(config.get("chunk_shape")).ok_or_else(|| broken("chunk_shape"))?;
        let outer = target.chunk.clone();
        if inner.len() != outer.len()
            || inner.iter().zip(&outer).any(|(i, o)| *i == 0 || o % i != 0)
        {
            return Err(Error::corrupt(format!(
                "the inner chunks {inner:?} do not divide the shards {outer:?}"
            )));
        }
        let counts: Vec<u64> = inner.iter().zip(&outer).map(|(i, o)| o / i).collect();
        let all = crate::model::checked_product(&counts).filter(|&n| n <= MOST_INNER);
        if all.is_none() {
            return Err(Error::refused(format!(
                "a shard of more than {MOST_INNER} inner chunks ({counts:?}) is not supported"
            )));
        }
        let mut inside =
            Target { chunk: inner.clone(), element: target.element, depth: target.depth + 1 };
        let chain = Chain::v3(&mut inside, config.get("codecs").unwrap_or(&Value::Null))?;
        let (mut checksum, mut big) = (false, false);
        for codec in config
            .get("index_codecs")
            .and_then(Value::as_array)
            .ok_or_else(|| broken("index_codecs"))?
        {
            match codec.as_str().or_else(|| codec.get("name").and_then(Value::as_str)) {
                Some("bytes") => {
                    big = codec.pointer("/configuration/endian").and_then(Value::as_str)
                        == Some("big")
                }
                Some("crc32c") if !checksum => checksum = true,
                other => {
                    return Err(Error::refused(format!(
                        "the codec '{}' of a shard's index is not supported",
                        other.unwrap_or("?")
                    )));
                }
            }
        }
        let at_start = match config.get("index_location").and_then(Value::as_str) {
            None | Some("end") => false,
            Some("start") => true,
            Some(_) => return Err(broken("index_location")),
        };
        Ok(Shard { outer, inner, counts, chain, at_start, checksum, big })
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> u64 {
        16 * self.counts.iter().product::<u64>() + if self.checksum { 4 } else { 0 }
    }

    /// Reads the index of one shard.
    ///
    /// # Errors
    /// Corrupt.
    pub fn index(&self, blob: &dyn Blob) -> Result<Index> {
        let bytes = self.index_bytes();
        if blob.len() < bytes {
            return Err(Error::corrupt(format!(
                "the shard has {} bytes, its index alone takes {bytes}",
                blob.len()
            )));
        }
        let mut index = blob.read_vec(if self.at_start { 0 } else { blob.len() - bytes }, bytes)?;
        if self.checksum {
            index = Checksum::Crc32c
                .strip(index, false)
                .map_err(|e| Error::corrupt(format!("the index of a shard: {e}")))?;
        }
        let word =
            |w: &[u8; 8]| if self.big { u64::from_be_bytes(*w) } else { u64::from_le_bytes(*w) };
        index
            .as_chunks::<8>()
            .0
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[offset, len]| match (word(offset), word(len)) {
                (u64::MAX, u64::MAX) => Ok(None),
                (offset, len) if offset.checked_add(len).is_some_and(|end| end <= blob.len()) => {
                    Ok(Some((offset, len)))
                }
                (offset, len) => Err(Error::corrupt(format!(
                    "the index places {len} bytes at byte {offset} of a shard of {} bytes",
                    blob.len()
                ))),
            })
            .collect()
    }

    /// What one inner chunk is made of.
    pub fn inner_shape<'a>(&'a self, shape: &Shape<'a>) -> Shape<'a> {
        Shape { chunk: &self.inner, ..*shape }
    }

    /// Decodes a whole shard in memory: for shards with other codecs around them.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, bytes: &[u8], shape: &Shape<'_>) -> Result<Decoded> {
        let blob = MemoryBlob(bytes);
        let index = self.index(&blob)?;
        let inner = self.inner_shape(shape);
        let one = |at: usize| -> Result<Decoded> {
            match index.get(at).copied().flatten() {
                None => Ok(inner.filled()),
                Some((offset, len)) => self
                    .chain
                    .decode(bytes[offset as usize..(offset + len) as usize].to_vec(), &inner),
            }
        };
        let Some(item) = shape.item else {
            let origin = vec![0; self.outer.len()];
            let (mut all, mut place) = (VarBlock::new(&self.outer, &origin), origin.clone());
            for i in 0..index.len() {
                if let Decoded::Var(part) = one(i)? {
                    let at: Vec<u64> = place.iter().zip(&self.inner).map(|(p, d)| p * d).collect();
                    all.add(part, &self.inner, &at);
                }
                step(&mut place, &self.counts);
            }
            return Ok(Decoded::Var(all.items()));
        };
        let mut out = vec![0u8; self.outer.iter().product::<u64>() as usize * item];
        let mut place = vec![0u64; self.counts.len()];
        for i in 0..index.len() {
            if let Decoded::Fixed(part) = one(i)? {
                let at: Vec<u64> = place.iter().zip(&self.inner).map(|(p, d)| p * d).collect();
                scatter(&part, &self.inner, &at, &mut out, &self.outer, &vec![0; at.len()], item);
            }
            step(&mut place, &self.counts);
        }
        Ok(Decoded::Fixed(out))
    }
}
