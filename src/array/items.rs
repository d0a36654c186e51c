//! Items of any length: a piece is their number, then each with its length before it, all numbers
//! of 4 bytes, little-endian (numcodecs' vlen).

use std::ops::Range;
use std::sync::Arc;

use super::block_copy::{self, Block, step};
use super::element::{Convert, swap_bytes};
use super::fetch::Fetch;
use super::kept::{Held, Kept, OnDisk, Piece};
use super::{ArrayMap, CodecPipeline, Element, Grid};
use crate::codec::limit;
use crate::error::{Error, Result};
use crate::model::{Buf, Values, typed};
use crate::storage::BlobSlice;

/// What an item is taken for, before it is read.
pub(super) const ITEM_BYTES: u64 = 64;

/// Items, one behind the other.
pub struct Items {
    /// Where each begins, and where the last ends.
    offsets: Vec<u64>,
    /// Their bytes.
    values: Vec<u8>,
}

impl Default for Items {
    fn default() -> Items {
        Items { offsets: vec![0], values: Vec::new() }
    }
}

impl Items {
    /// So many times the same.
    pub(super) fn repeated(item: &[u8], count: u64) -> Items {
        let mut items = Items::default();
        (0..count).for_each(|_| items.push(item));
        items
    }

    /// The items of a decoded piece, which must be `count`.
    ///
    /// # Errors
    /// Corrupt.
    pub(super) fn parse(piece: &[u8], count: u64) -> Result<Items> {
        let short = || Error::corrupt("a chunk of text is truncated");
        let (found, mut rest) = piece.split_first_chunk::<4>().ok_or_else(short)?;
        let found = u64::from(u32::from_le_bytes(*found));
        if found != count {
            return Err(Error::corrupt(format!(
                "a chunk of text has {found} items, its shape needs {count}"
            )));
        }
        if count.saturating_mul(4) > rest.len() as u64 {
            return Err(short());
        }
        let mut items = Items {
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

    /// Bytes that they take.
    fn bytes(&self) -> u64 {
        (8 * self.offsets.len() + self.values.len()) as u64
    }

    fn len(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }

    fn push(&mut self, item: &[u8]) {
        self.values.extend_from_slice(item);
        self.offsets.push(self.values.len() as u64);
    }

    fn get(&self, i: usize) -> &[u8] {
        &self.values[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// Those before `count`.
    pub(super) fn into_values(mut self, count: u64) -> Values {
        self.offsets.truncate(count as usize + 1);
        Values::Var { offsets: self.offsets, values: Buf::from_vec(self.values) }
    }

    /// Some of them, copied.
    pub(super) fn slice(&self, from: u64, to: u64) -> Values {
        let (from, to) = (from as usize, to as usize);
        let base = self.offsets[from];
        let offsets: Vec<u64> = self.offsets[from..=to].iter().map(|o| o - base).collect();
        let values = self.values[base as usize..self.offsets[to] as usize].to_vec();
        Values::Var { offsets, values: Buf::from_vec(values) }
    }
}

/// Offsets and bytes.
impl Piece for Arc<Items> {
    fn parts(&self) -> Option<[&[u8]; 2]> {
        Some([bytemuck::cast_slice(&self.offsets), &self.values])
    }
}

/// As [`Items::slice`], of items on the disk.
fn sliced(all: &OnDisk, from: u64, to: u64) -> Result<Values> {
    let offsets = all.read(0, 8 * from, 8 * (to - from + 1))?;
    let offsets = typed::<u64>(&offsets);
    let (base, end) = (offsets[0], offsets[offsets.len() - 1]);
    let values = Buf::from_vec(all.read(1, base, end - base)?);
    Ok(Values::Var { offsets: offsets.iter().map(|o| o - base).collect(), values })
}

/// A piece of these items, filled up with empty ones to `count`.
///
/// # Errors
/// Refused where 4 bytes do not hold its length.
pub fn encode<'a>(items: impl Iterator<Item = &'a [u8]> + Clone, count: u64) -> Result<Vec<u8>> {
    let long = || Error::refused("a chunk of text has 4 GiB or more");
    let bytes = items.clone().map(|item| item.len() as u64).sum::<u64>();
    let total = count.saturating_add(1).saturating_mul(4).saturating_add(bytes);
    let total = u32::try_from(total).map_err(|_| long())? as usize;
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&(count as u32).to_le_bytes());
    for item in items {
        out.extend_from_slice(&(item.len() as u32).to_le_bytes());
        out.extend_from_slice(item);
    }
    out.resize(total, 0);
    Ok(out)
}

/// Items of a block of an array, put together from those of its pieces.
struct Gather<'a> {
    to: Block<'a>,
    parts: Vec<Items>,
    /// Items of all parts.
    count: u64,
    /// Per item of the block its number among those of all parts, counted from 1, as its bytes.
    numbers: Vec<u8>,
}

impl<'a> Gather<'a> {
    /// For this block.
    fn new(to: Block<'a>) -> Gather<'a> {
        let numbers = vec![0; 8 * to.shape.iter().product::<u64>() as usize];
        Gather { to, parts: Vec::new(), count: 0, numbers }
    }

    /// Adds the items of a piece, in the order in which they are stored.
    ///
    /// # Errors
    /// Corrupt.
    fn add(&mut self, part: Items, from: Block<'_>, codecs: &CodecPipeline) -> Result<()> {
        let numbers = self.count + 1..=self.count + part.len();
        let numbers = codecs.reorder(numbers.flat_map(u64::to_ne_bytes).collect())?;
        block_copy::copy(&numbers, from, &mut self.numbers, self.to, 8);
        self.count += part.len();
        self.parts.push(part);
        Ok(())
    }

    /// Adds a piece that is missing: all its items are the same.
    fn add_missing(&mut self, fill: &[u8], from: Block<'_>) {
        let numbers = vec![self.count + 1; from.shape.iter().product::<u64>() as usize];
        block_copy::copy(bytemuck::cast_slice(&numbers), from, &mut self.numbers, self.to, 8);
        self.count += 1;
        self.parts.push(Items::repeated(fill, 1));
    }

    /// The items in C order.
    fn items(self) -> Items {
        let mut first = Vec::with_capacity(self.parts.len());
        let mut sum = 0u64;
        for part in &self.parts {
            first.push(sum);
            sum += part.len();
        }
        let mut items = Items::default();
        for number in self.numbers.as_chunks::<8>().0 {
            let Some(number) = u64::from_ne_bytes(*number).checked_sub(1) else {
                items.push(b"");
                continue;
            };
            let p = first.partition_point(|&f| f <= number) - 1;
            items.push(self.parts[p].get((number - first[p]) as usize));
        }
        items
    }
}

/// Reads items of any length.
pub(super) struct ItemReader {
    memory_bytes: u64,
    /// Items of rows of pieces that are probably wanted again, by the array's pieces and the row's
    /// number.
    kept: Kept<Arc<Items>>,
}

impl ItemReader {
    /// With this memory limit; items are kept up to `kept_bytes`.
    pub(super) fn new(memory_bytes: u64, kept_bytes: u64) -> ItemReader {
        ItemReader { memory_bytes, kept: Kept::new(kept_bytes) }
    }

    /// Items of any length from `rows.start` on, up to where a row of pieces ends, and the row
    /// behind them.
    ///
    /// # Errors
    /// Reading errors; corrupt pieces.
    pub(super) fn next(
        &self,
        map: &ArrayMap,
        rows: Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<(u64, Values)> {
        let (k, slab) = map.slab(rows.start);
        let rows = rows.start..rows.end.min(slab.end);
        let each = map.row_elements();
        if each == 0 {
            return Ok((rows.end, Items::default().into_values(0)));
        }
        let count = (slab.end - slab.start).saturating_mul(each);
        let size = count.saturating_mul(ITEM_BYTES);
        let is_part = rows.end - rows.start < slab.end - slab.start;
        let values = if is_part && (map.is_wide() || size <= self.memory_bytes / 2) {
            let key = (Arc::as_ptr(&map.pieces).cast::<()>() as usize, k);
            let all = || self.slab_items(map, k, &slab, fetch).map(Arc::new);
            let (from, to) = ((rows.start - slab.start) * each, (rows.end - slab.start) * each);
            match self.kept.get_or(key, (size, 1), all)? {
                Held::Memory(all) => {
                    self.kept.resize(&key, all.bytes());
                    all.slice(from, to)
                }
                Held::Disk(all) => sliced(&all, from, to)?,
            }
        } else {
            let count = (rows.end - rows.start) * each;
            self.slab_items(map, k, &rows, fetch)?.into_values(count)
        };
        Ok((rows.end, of_values(values, &map.element)?))
    }

    /// Items of some rows of a row of pieces; more may follow them.
    fn slab_items(
        &self,
        map: &ArrayMap,
        k: u64,
        rows: &Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Items> {
        let piece = map.piece_shape();
        let count = piece.iter().product();
        let most = self.memory_bytes / 2;
        let mut one = |at: &[u64]| -> Result<Option<Items>> {
            let Some((bytes, skipped)) = fetch.piece(at).map_err(|e| too_many_items(e, most))?
            else {
                return Ok(None);
            };
            let items = (map.codecs.decode_items(bytes, skipped, most as usize))
                .map_err(|e| too_many_items(e, most))
                .and_then(|bytes| Items::parse(&bytes, count))
                .map_err(|e| map.pieces.about(e, at))?;
            Ok(Some(items))
        };
        // Missing items may be many, and their text long.
        let check_missing = |count: u64| match count.saturating_mul(map.fill.len() as u64) {
            bytes if bytes > most => Err(too_large(most)),
            _ => Ok(()),
        };
        if map.is_wide() && rows.start == map.slab(rows.start).1.start && !map.codecs.reorders() {
            let Some(items) = one(&map.coordinates(k, &[]))? else {
                check_missing(count)?;
                return Ok(Items::repeated(&map.fill, count));
            };
            return Ok(items);
        }
        let (mut shape, mut origin) = (map.shape.clone(), vec![0; map.shape.len()]);
        if let (Some(rows_here), Some(first)) = (shape.first_mut(), origin.first_mut()) {
            (*rows_here, *first) = (rows.end - rows.start, rows.start);
        }
        let mut gather = Gather::new(Block { origin: &origin, shape: &shape });
        let columns = map.columns();
        let mut place = vec![0; columns.len()];
        loop {
            let at = map.coordinates(k, &place);
            let origin: Vec<u64> = at.iter().zip(piece).map(|(p, c)| p * c).collect();
            let from = Block { origin: &origin, shape: piece };
            match one(&at)? {
                Some(items) => {
                    gather.add(items, from, &map.codecs).map_err(|e| map.pieces.about(e, &at))?
                }
                None => {
                    check_missing(shape.iter().product())?;
                    gather.add_missing(&map.fill, from);
                }
            }
            if !step(&mut place, &columns) {
                return Ok(gather.items());
            }
        }
    }
}

/// Items as lists of the values that they are made of.
///
/// # Errors
/// Corrupt where an item has no whole number of them.
fn of_values(items: Values, element: &Element) -> Result<Values> {
    let (Convert::Items { value, unit }, Values::Var { mut offsets, values }) =
        (&element.convert, items)
    else {
        return Err(Error::internal("items of any length were expected"));
    };
    if *value == 1 {
        return Ok(Values::Var { offsets, values });
    }
    for end in &mut offsets {
        if !end.is_multiple_of(*value as u64) {
            return Err(Error::corrupt(format!("a list has no whole values of {value} bytes")));
        }
        *end /= *value as u64;
    }
    let mut values = values.to_vec();
    swap_bytes(&mut values, *unit);
    Ok(Values::Var { offsets, values: Buf::from_vec(values) })
}

/// A piece of text has no size of its own: what is too much of it is no damage.
fn too_many_items(e: Error, most: u64) -> Error {
    if limit::is_too_much(&e) { too_large(most) } else { e }
}

fn too_large(most: u64) -> Error {
    let needed = most.saturating_mul(4).div_ceil(1 << 20);
    Error::refused(format!(
        "a chunk of text has more than the {most} bytes that fit into the memory limit"
    ))
    .hint(format!("raise the limit: --memory-limit {needed}MiB may be enough"))
}

impl ArrayMap {
    /// Items of any length at hand, in C order of `shape`.
    ///
    /// # Errors
    /// Refused where 4 GiB do not hold them.
    pub fn of_items<'a>(
        shape: &[u64],
        items: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> Result<ArrayMap> {
        let count = items.len() as u64;
        Ok(ArrayMap {
            shape: shape.to_vec(),
            grid: Grid::Whole,
            pieces: Arc::new(BlobSlice::memory(encode(items, count)?)),
            codecs: CodecPipeline::none(),
            element: Element::items_of_any_length(),
            fill: Vec::new(),
        })
    }
}
