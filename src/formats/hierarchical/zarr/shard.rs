//! Sharding: many small chunks in one object, found by an index of offsets and lengths at its end
//! or start.
//!
//! | bytes | what |
//! |---|---|
//! | … | the inner chunks, in any order, each through its own codecs |
//! | 16 × n (+ 4) | per inner chunk (C order) offset and length, u64; both all ones: missing. Usually with a crc32c |

use std::sync::Arc;

use serde_json::Value;

use crate::array::recent::SharedRecent;
use crate::array::{PieceLocation, Pieces};
use crate::codec::checksum::Checksum;
use crate::error::{Error, Result};
use crate::model::checked_product;
use crate::storage::{Blob, BlobSlice};

/// The most inner chunks of a shard: 64 MiB of index.
const MAX_INNER: u64 = 4 << 20;
/// Indices of shards that are kept: 16 shards, fewer of large ones.
const KEPT_BYTES: u64 = 16 << 20;
const KEPT_SHARDS: u64 = 16;

/// The index of a shard.
pub struct ShardIndex {
    /// Inner chunks per dimension, as they are stored.
    counts: Vec<u64>,
    at_start: bool,
    checksum: bool,
    big: bool,
}

impl ShardIndex {
    /// Parses what the sharding codec's configuration says of the index; `outer` is the shape of a
    /// shard, `inner` that of an inner chunk.
    ///
    /// # Errors
    /// Refused or corrupt.
    pub fn parse(outer: &[u64], inner: &[u64], config: &Value) -> Result<ShardIndex> {
        let broken = |why: &str| {
            Error::corrupt(format!("the sharding codec's configuration is broken: {why}"))
        };
        if inner.len() != outer.len() || inner.iter().zip(outer).any(|(i, o)| *i == 0 || o % i != 0)
        {
            return Err(Error::corrupt(format!(
                "the inner chunks {inner:?} do not divide the shards {outer:?}"
            )));
        }
        let counts: Vec<u64> = inner.iter().zip(outer).map(|(i, o)| o / i).collect();
        if checked_product(&counts).is_none_or(|n| n > MAX_INNER) {
            return Err(Error::refused(format!(
                "a shard of more than {MAX_INNER} inner chunks ({counts:?}) is not supported"
            )));
        }
        let (mut checksum, mut big) = (false, false);
        let codecs = config.get("index_codecs").and_then(Value::as_array);
        for codec in codecs.ok_or_else(|| broken("index_codecs"))? {
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
        Ok(ShardIndex { counts, at_start, checksum, big })
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        16 * self.counts.iter().product::<u64>() + if self.checksum { 4 } else { 0 }
    }

    /// The inner chunks of these shards; `order` is the dimension that is stored at each place.
    pub fn pieces(self: &Arc<Self>, shards: Arc<dyn Pieces>, order: &[usize]) -> ShardPieces {
        ShardPieces {
            shards,
            index: self.clone(),
            order: order.to_vec(),
            opened: SharedRecent::new(KEPT_BYTES),
        }
    }

    /// Where the inner chunks of one shard are; `None` for missing ones.
    fn read(&self, shard: &BlobSlice) -> Result<Vec<Option<(u64, u64)>>> {
        let bytes = self.bytes();
        if shard.len < bytes {
            return Err(Error::corrupt(format!(
                "the shard has {} bytes, its index alone takes {bytes}",
                shard.len
            )));
        }
        let mut index = shard.read_vec(if self.at_start { 0 } else { shard.len - bytes }, bytes)?;
        if self.checksum {
            index = Checksum::Crc32c
                .strip(index, false)
                .map_err(|e| Error::corrupt(format!("the index of a shard: {e}")))?;
        }
        let word =
            |w: &[u8; 8]| if self.big { u64::from_be_bytes(*w) } else { u64::from_le_bytes(*w) };
        let (pairs, _) = index.as_chunks::<8>().0.as_chunks::<2>();
        pairs
            .iter()
            .map(|[offset, len]| match (word(offset), word(len)) {
                (u64::MAX, u64::MAX) => Ok(None),
                (offset, len) if offset.checked_add(len).is_some_and(|end| end <= shard.len) => {
                    Ok(Some((offset, len)))
                }
                (offset, len) => Err(Error::corrupt(format!(
                    "the index places {len} bytes at byte {offset} of a shard of {} bytes",
                    shard.len
                ))),
            })
            .collect()
    }
}

/// A shard whose index was read.
struct OpenShard {
    bytes: BlobSlice,
    places: Vec<Option<(u64, u64)>>,
}

/// The inner chunks of shards.
pub struct ShardPieces {
    shards: Arc<dyn Pieces>,
    index: Arc<ShardIndex>,
    order: Vec<usize>,
    /// By the coordinates of shards; `None` where one is missing.
    opened: SharedRecent<Vec<u64>, Option<Arc<OpenShard>>>,
}

impl ShardPieces {
    /// The coordinates of the shard of an inner chunk, and its number in there.
    fn shard_of(&self, at: &[u64]) -> (Vec<u64>, usize) {
        let (mut shard, mut number) = (vec![0; at.len()], 0);
        for (&d, &count) in self.order.iter().zip(&self.index.counts) {
            shard[d] = at[d] / count;
            number = number * count + at[d] % count;
        }
        (shard, number as usize)
    }
}

impl Pieces for ShardPieces {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        let (shard, number) = self.shard_of(at);
        let size = self.index.bytes().max(KEPT_BYTES / KEPT_SHARDS);
        let opened = self.opened.get_or(shard.clone(), size, || {
            let Some(piece) = self.shards.locate(&shard)? else { return Ok(None) };
            let places = self.index.read(&piece.slice)?;
            Ok(Some(Arc::new(OpenShard { bytes: piece.slice, places })))
        })?;
        let place = |shard: Arc<OpenShard>| {
            let (offset, len) = shard.places.get(number).copied().flatten()?;
            let BlobSlice { blob, start, .. } = &shard.bytes;
            let slice = BlobSlice { blob: blob.clone(), start: start + offset, len };
            Some(PieceLocation { slice, skipped: 0 })
        };
        Ok(opened.and_then(place))
    }

    fn is_batched(&self) -> bool {
        true
    }

    fn about(&self, error: Error, at: &[u64]) -> Error {
        self.shards.about(error, &self.shard_of(at).0)
    }
}
