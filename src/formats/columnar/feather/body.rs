//! The buffers of one array of a batch, unpacked, and its rows in units of a size.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_ipc::CompressionType;
use arrow_schema::{DataType, Field};

use super::cursor::{Cursor, own_buffers, skip};
use super::index::Batch;
use super::rows::BatchRows;
use crate::arrow_model::{MemoryLimit, type_name};
use crate::codec::block::zstd_block;
use crate::codec::decompress::Compression;
use crate::codec::limit::Limit;
use crate::error::{Error, Result};
use crate::model::nested::{children, walk, with_children};
use crate::storage::Blob;

/// The most that zstd makes of a byte.
const MAX_RATIO: u64 = 1 << 17;
/// Bytes that are decoded and handed on together.
pub(super) const UNIT_BYTES: u64 = 4 << 20;
/// Buffers that have no more than this in all are fetched together.
const SMALL_BYTES: u64 = 8 << 20;

/// Which buffers of an array are wanted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Offsets and validity of lists, not the elements: they come as nulls.
    Lists,
}

/// One array of a batch.
pub(super) struct BatchArray<'a> {
    blob: &'a dyn Blob,
    batch: &'a Batch,
    at: Cursor,
    /// Its type as it is read: codes in place of a dictionary, nulls in place of what is not
    /// wanted.
    data_type: DataType,
    ranges: Vec<Range<u64>>,
}

impl<'a> BatchArray<'a> {
    /// # Errors
    /// Refused where the type is not supported; corrupt where the batch lacks buffers.
    pub(super) fn of(
        blob: &'a dyn Blob,
        batch: &'a Batch,
        t: &DataType,
        at: Cursor,
        wanted: Wanted,
    ) -> Result<BatchArray<'a>> {
        let (mut ranges, mut cursor) = (Vec::new(), at);
        let data_type = places(t, batch, &mut cursor, wanted, &mut ranges)?;
        Ok(BatchArray { blob, batch, at, data_type, ranges })
    }

    /// Its rows as they lie there, where they are not compressed.
    pub(super) fn rows(&self) -> BatchRows<'_> {
        BatchRows { blob: self.blob, batch: self.batch, data_type: &self.data_type, at: self.at }
    }

    /// Bytes of its buffers in the file.
    pub(super) fn stored(&self) -> u64 {
        self.ranges.iter().fold(0, |sum, r| sum.saturating_add(r.end - r.start))
    }

    /// What unpacking it takes, where it is compressed: all buffers, and one of them in its
    /// compressed form.
    ///
    /// # Errors
    /// Corrupt lengths; reading errors.
    pub(super) fn unpacked(&self) -> Result<u64> {
        let heads: Vec<Range<u64>> =
            self.ranges.iter().map(|r| r.start..r.end.min(r.start + 8)).collect();
        self.sizes(&self.blob.read_ranges(&heads)?)
    }

    /// As [`BatchArray::unpacked`]; `heads`: at least the first 8 bytes of each buffer.
    fn sizes(&self, heads: &[Vec<u8>]) -> Result<u64> {
        let (mut all, mut largest) = (0u64, 0);
        for (head, range) in heads.iter().zip(&self.ranges) {
            let packed = range.end - range.start;
            all = all.saturating_add(unpacked_bytes(head, packed)?);
            largest = largest.max(packed);
        }
        Ok(all.saturating_add(largest))
    }

    /// Gives its rows in units of about `bytes`; `each` gets the array and its first row.
    ///
    /// # Errors
    /// Corrupt; refused where its buffers or a row take more memory than there may be; those of
    /// `each`.
    pub(super) fn each(
        &self,
        rows: Range<u64>,
        limit: MemoryLimit,
        bytes: u64,
        each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
    ) -> Result<()> {
        let at_once = self.stored() <= SMALL_BYTES;
        let all = rows == (0..self.batch.nodes.get(self.at.node).map_or(0, |node| node.0));
        let buffers = match self.batch.compression {
            // Over a network one wait is better than several.
            None if at_once && all && self.blob.is_remote() => {
                self.blob.read_ranges(&self.ranges)?
            }
            None => return units(&self.rows(), rows, limit, bytes, each),
            Some(codec) => {
                let fetched =
                    if at_once { Some(self.blob.read_ranges(&self.ranges)?) } else { None };
                let needed = fetched
                    .as_ref()
                    .map_or_else(|| self.unpacked(), |fetched| self.sizes(fetched))?;
                limit.check(&format!("a batch of {} rows", self.batch.rows), needed)?;
                let mut fetched = fetched.into_iter().flatten();
                let next = |r: &Range<u64>| {
                    fetched.next().map_or_else(|| self.blob.read_vec(r.start, r.end - r.start), Ok)
                };
                self.ranges
                    .iter()
                    .map(next)
                    .map(|packed| decompressed(packed?, codec))
                    .collect::<Result<_>>()?
            }
        };
        let (blob, places) = Buffers::of(buffers);
        let few = || Error::corrupt("a batch has too few arrays");
        let batch = Batch {
            rows: self.batch.rows,
            nodes: self
                .batch
                .nodes
                .get(self.at.node..)
                .ok_or_else(few)?
                .iter()
                .take(arrays(&self.data_type))
                .copied()
                .collect(),
            buffers: places,
            compression: None,
            variadic: self.batch.variadic.get(self.at.view..).unwrap_or_default().to_vec(),
            before_v5: self.batch.before_v5,
        };
        units(
            &BatchRows {
                blob: &blob,
                batch: &batch,
                data_type: &self.data_type,
                at: Cursor::default(),
            },
            rows,
            limit,
            bytes,
            each,
        )
    }
}

impl Batch {
    /// The batch with nothing but the array of this type that begins at `at`, and of that only the
    /// fields that are kept in a walk through the type.
    ///
    /// # Errors
    /// Corrupt where the batch has too few arrays or buffers.
    pub(super) fn pruned(&self, t: &DataType, mut at: Cursor, kept: &[bool]) -> Result<Batch> {
        let few = || Error::corrupt("a batch has too few arrays");
        let (mut nodes, mut buffers, mut variadic) = (Vec::new(), Vec::new(), Vec::new());
        for (t, kept) in walk(t).into_iter().zip(kept) {
            let start = at;
            if children(t).is_empty() {
                skip(t, self, &mut at);
            } else {
                at.node += 1;
                at.buffer += own_buffers(t, self);
            }
            if *kept {
                nodes.push(*self.nodes.get(start.node).ok_or_else(few)?);
                buffers.extend(self.buffers.get(start.buffer..at.buffer).ok_or_else(few)?);
                variadic.extend(self.variadic.get(start.view..at.view).ok_or_else(few)?);
            }
        }
        let (rows, compression, before_v5) = (self.rows, self.compression, self.before_v5);
        Ok(Batch { rows, nodes, buffers, compression, variadic, before_v5 })
    }
}

/// An array of this type, and all below it.
fn arrays(t: &DataType) -> usize {
    1 + children(t).into_iter().map(|f| arrays(f.data_type())).sum::<usize>()
}

fn units(
    from: &BatchRows<'_>,
    rows: Range<u64>,
    limit: MemoryLimit,
    bytes: u64,
    each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
) -> Result<()> {
    let mut at = rows.start;
    while at < rows.end {
        let (end, size) = from.fit(at, rows.end, bytes)?;
        if size > bytes {
            limit.check("a row", size)?;
        }
        each(from.read(&(at..end))?, at)?;
        at = end;
    }
    Ok(())
}

/// Buffers in memory, as if they were a file.
struct Buffers {
    starts: Vec<u64>,
    bytes: Vec<Vec<u8>>,
}

impl Buffers {
    /// With the place and length of each.
    fn of(bytes: Vec<Vec<u8>>) -> (Buffers, Vec<(u64, u64)>) {
        let (mut starts, mut end) = (Vec::new(), 0u64);
        for buffer in &bytes {
            starts.push(end);
            end += buffer.len() as u64;
        }
        let places = starts
            .iter()
            .zip(&bytes)
            .map(|(&start, buffer)| (start, buffer.len() as u64))
            .collect();
        (Buffers { starts, bytes }, places)
    }
}

impl Blob for Buffers {
    fn len(&self) -> u64 {
        self.bytes.iter().map(|b| b.len() as u64).sum()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let i = self.starts.partition_point(|&start| start <= offset).saturating_sub(1);
        let found = self
            .bytes
            .get(i)
            .zip(self.starts.get(i))
            .and_then(|(b, start)| b.get((offset - start) as usize..)?.get(..buf.len()));
        buf.copy_from_slice(found.ok_or_else(|| Error::internal("a read beyond a buffer"))?);
        Ok(())
    }
}

/// Collects the places of the buffers; returns the type with what is left out.
fn places(
    t: &DataType,
    batch: &Batch,
    at: &mut Cursor,
    wanted: Wanted,
    out: &mut Vec<Range<u64>>,
) -> Result<DataType> {
    let mut take = |at: &mut Cursor, n: usize| take_buffers(batch, at, n, out);
    at.node += 1;
    Ok(match t {
        DataType::Null => DataType::Null,
        DataType::Dictionary(keys, _) => {
            take(at, 2)?;
            keys.as_ref().clone()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            take(at, 3)?;
            t.clone()
        }
        DataType::Utf8View | DataType::BinaryView => {
            let n = batch.variadic.get(at.view).copied();
            let n = n.ok_or_else(|| Error::corrupt("a batch has too few buffer counts"))?;
            let n = usize::try_from(n).ok().and_then(|n| n.checked_add(2));
            at.view += 1;
            take(at, n.ok_or_else(|| Error::corrupt("too many buffers"))?)?;
            t.clone()
        }
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
            take(at, if matches!(t, DataType::FixedSizeList(..)) { 1 } else { 2 })?;
            let nested = matches!(
                f.data_type(),
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
            );
            let item = if wanted == Wanted::Lists && !nested {
                DataType::Null
            } else {
                places(f.data_type(), batch, at, wanted, out)?
            };
            let nullable = f.is_nullable() || wanted == Wanted::Lists;
            let item = f.as_ref().clone().with_data_type(item).with_nullable(nullable);
            let item = Arc::new(item);
            with_children(t, &mut |_| item.clone())
        }
        DataType::Struct(_)
        | DataType::Map(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..) => {
            take(at, own_buffers(t, batch))?;
            let mut below = Vec::new();
            for f in children(t) {
                below.push(places(f.data_type(), batch, at, wanted, out)?);
            }
            let mut types = below.into_iter();
            if let DataType::RunEndEncoded(ends, values) = t {
                types.next();
                let values =
                    values.as_ref().clone().with_data_type(types.next().unwrap_or(DataType::Null));
                return Ok(DataType::RunEndEncoded(ends.clone(), Arc::new(values)));
            }
            with_children(t, &mut |f: &Arc<Field>| {
                let t = types.next().unwrap_or(DataType::Null);
                Arc::new(f.as_ref().clone().with_data_type(t))
            })
        }
        other
            if other.primitive_width().is_some()
                || matches!(other, DataType::Boolean | DataType::FixedSizeBinary(_)) =>
        {
            take(at, 2)?;
            other.clone()
        }
        other => return Err(Error::refused(format!("{} is not supported", type_name(other)))),
    })
}

/// Adds the places of the next `n` buffers.
fn take_buffers(batch: &Batch, at: &mut Cursor, n: usize, out: &mut Vec<Range<u64>>) -> Result<()> {
    let end = at.buffer.checked_add(n).filter(|&e| e <= batch.buffers.len());
    let end = end.ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
    out.extend(batch.buffers[at.buffer..end].iter().map(|&(start, len)| start..start + len));
    at.buffer = end;
    Ok(())
}

/// What a compressed buffer unpacks to; `head`: its first bytes.
///
/// # Errors
/// Corrupt where that cannot be.
pub(super) fn unpacked_bytes(head: &[u8], packed: u64) -> Result<u64> {
    if packed == 0 {
        return Ok(0);
    }
    let Some(bytes) = head.first_chunk::<8>() else {
        return Err(Error::corrupt("a compressed buffer is truncated"));
    };
    let (len, packed) = (i64::from_le_bytes(*bytes), packed - 8);
    if len == -1 {
        return Ok(packed);
    }
    let wrong =
        || Error::corrupt(format!("{packed} compressed bytes cannot unpack to {len} bytes"));
    u64::try_from(len).ok().filter(|&n| n / MAX_RATIO <= packed + 1).ok_or_else(wrong)
}

/// Unpacks a buffer whose size was checked.
///
/// # Errors
/// Corrupt.
pub(super) fn decompressed(mut bytes: Vec<u8>, codec: CompressionType) -> Result<Vec<u8>> {
    let len = usize::try_from(unpacked_bytes(&bytes, bytes.len() as u64)?)
        .map_err(|_| Error::corrupt("a buffer is too long"))?;
    let Some((head, packed)) = bytes.split_first_chunk::<8>() else { return Ok(bytes) };
    if *head == [0xff; 8] {
        bytes.drain(..8);
        return Ok(bytes);
    }
    match codec {
        CompressionType::LZ4_FRAME => {
            let out = Compression::Lz4Frame.decode(packed, Limit::exactly(len))?;
            if out.len() != len {
                return Err(Error::corrupt(format!(
                    "a compressed buffer holds {} bytes, expected {len}",
                    out.len()
                )));
            }
            Ok(out)
        }
        CompressionType::ZSTD => {
            let mut out = vec![0; len];
            zstd_block(packed, &mut out)?;
            Ok(out)
        }
        other => Err(Error::refused(format!("the compression {other:?} is not supported"))),
    }
}
