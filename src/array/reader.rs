//! Rows of mapped arrays, on any thread: pieces are found, decoded and put into C order, within the
//! memory limit.
//!
//! | the array | how its rows are read |
//! |---|---|
//! | pieces stored as they are, as wide as the array | straight, in any cut |
//! | other pieces | decoded one by one, in cuts at their ends; a piece of which only a part was wanted is kept for the next |
//! | one strided piece | gathered in tiles |
//! | so wide that few rows fit into memory | copied once to temporary files in C order ([`super::rechunk`]): a row of pieces at a time |
//! | pieces that do not fit into memory | decoded once, as streams, to temporary files ([`Spooled`]) |
//! | items of any length | decoded one by one, put into order item by item |

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::block_copy::{self, Block, step};
use super::fetch::Fetch;
use super::items::{ITEM_BYTES, ItemReader};
use super::kept::{Held, Kept, Piece};
use super::rechunk::TILE_BYTES;
use super::spool::Spooled;
use super::strided::Strided;
use super::wide::{self, Wide};
use super::{ArrayMap, CodecPipeline, Grid};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, ReadRows};
use crate::model::{Buf, Chunk};
use crate::storage::Blob;

/// Records of which a field is taken are read so many bytes at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Many small pieces are read, not copied by the kernel: open files are not for free.
const MAX_EXTENTS: u64 = 256;

/// Reads rows of arrays.
pub struct MapReader {
    arrays: Vec<Option<Mapped>>,
    memory_bytes: u64,
    /// Decoded pieces that are probably wanted again.
    kept: Kept<Option<Buf>>,
    /// Reads items of any length.
    items: ItemReader,
}

struct Mapped {
    map: Arc<ArrayMap>,
    order: Order,
    /// Whether other arrays are fields of the same records.
    shared: bool,
}

/// How the elements lie.
enum Order {
    /// Pieces in C order.
    Pieces,
    /// One strided piece; near at hand once it was asked for.
    Strided(Strided, OnceLock<Arc<dyn Blob>>),
    /// Wider than the memory limit allows.
    Wide(Wide),
    /// Items of any length.
    Items,
}

impl Mapped {
    fn new(map: ArrayMap, memory_bytes: u64) -> Mapped {
        let order = match &map.grid {
            _ if map.is_items() => Order::Items,
            Grid::Strided(stride_bytes) => {
                let (item_bytes, shape) = (map.element.bytes as u64, map.shape.clone());
                let strided = Strided { item_bytes, shape, stride_bytes: stride_bytes.clone() };
                // A view that repeats its bytes is never copied: it may have no end.
                let repeats =
                    strided.row_bytes().and_then(|n| n.checked_mul(map.rows())) > strided.end();
                match strided.is_wide(memory_bytes) && !repeats {
                    _ if strided.is_c_order() => Order::Pieces,
                    true => Order::Wide(Wide::new(Some(strided))),
                    false => Order::Strided(strided, OnceLock::new()),
                }
            }
            // Of pieces that are stored as they are, some rows are read without the others.
            Grid::Chunks(chunk) if !map.is_wide() && !map.is_free() => {
                let slab = chunk[0].min(map.rows()).saturating_mul(map.packed_row_bytes());
                if slab > (memory_bytes / 4).max(1 << 20) && map.rows() > 0 {
                    Order::Wide(Wide::new(None))
                } else {
                    Order::Pieces
                }
            }
            _ => Order::Pieces,
        };
        Mapped { map: Arc::new(map), order, shared: false }
    }

    /// Whether any rows can be read without the others of their piece.
    fn is_free(&self) -> bool {
        self.map.is_free()
    }

    /// The pieces that hold the rows from this one on, for whom any cut is possible.
    fn is_small(&self, slab: &Range<u64>, memory_bytes: u64) -> bool {
        let bytes = (slab.end - slab.start).saturating_mul(self.map.row_bytes());
        matches!(self.map.grid, Grid::Chunks(_)) && bytes <= kept_bytes(memory_bytes)
    }
}

impl Piece for Option<Buf> {
    fn parts(&self) -> Option<[&[u8]; 2]> {
        self.as_ref().map(|bytes| [bytes.as_slice(), &[]])
    }
}

/// Decoded pieces that are kept take this much together.
fn kept_bytes(memory_bytes: u64) -> u64 {
    (memory_bytes / 8).clamp(1 << 20, 64 << 20)
}

impl MapReader {
    /// For these arrays; `None` for those that cannot be read.
    pub fn new(maps: Vec<Option<ArrayMap>>, memory_bytes: u64) -> MapReader {
        let (mut maps, mut seen, mut spooled) = (maps, HashMap::new(), HashMap::new());
        for map in maps.iter_mut().flatten().filter(|map| map.is_spooled(memory_bytes)) {
            let of = Arc::as_ptr(&map.pieces).cast::<()>();
            let pieces: &Arc<Spooled> =
                spooled.entry(of).or_insert_with(|| Arc::new(Spooled::new(map.clone())));
            (map.pieces, map.codecs) = (pieces.clone(), CodecPipeline::none());
        }
        for map in maps.iter().flatten() {
            *seen.entry(Arc::as_ptr(&map.pieces).cast::<()>()).or_insert(0usize) += 1;
        }
        let mut arrays: Vec<Option<Mapped>> =
            maps.into_iter().map(|map| Some(Mapped::new(map?, memory_bytes))).collect();
        for array in arrays.iter_mut().flatten() {
            array.shared =
                seen.get(&Arc::as_ptr(&array.map.pieces).cast::<()>()).is_some_and(|&n| n > 1);
        }
        // All pieces side by side are kept: the next rows are in all of them.
        let slab = |mapped: &Mapped| match &mapped.order {
            Order::Pieces if !mapped.is_free() => {
                let columns = mapped.map.columns();
                let across = columns.iter().fold(1u64, |n, &c| n.saturating_mul(c));
                mapped.map.piece_bytes().unwrap_or(0).saturating_mul(across)
            }
            _ => 0,
        };
        let largest = arrays.iter().flatten().map(slab).max().unwrap_or(0);
        let room = kept_bytes(memory_bytes);
        let kept = Kept::new(largest.min(memory_bytes / 2).max(room));
        MapReader { arrays, memory_bytes, kept, items: ItemReader::new(memory_bytes, room) }
    }

    /// Refuses an array of which one row does not fit into memory, unless the kernel can copy it.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub fn check_row(&self, array: usize) -> Result<()> {
        let Some(mapped) = &self.arrays[array] else { return Ok(()) };
        let checked = mapped.map.check_row(self.memory_bytes);
        if checked.is_err() && self.extents(array).is_some() { Ok(()) } else { checked }
    }

    /// The stored pieces of some rows.
    fn fetch<'a>(&self, map: &'a ArrayMap, rows: &Range<u64>) -> Result<Fetch<'a>> {
        let most = match map.is_items() {
            true => self.memory_bytes / 2,
            false => map.codecs.most_stored(map.decoded_bytes(map.rows())? as u64),
        };
        Ok(Fetch::new(map, rows, most))
    }

    fn array(&self, array: usize) -> Result<&Mapped> {
        self.arrays[array].as_ref().ok_or_else(|| Error::refused("this array cannot be read"))
    }

    /// The map of an array that can be read.
    pub fn map(&self, array: usize) -> Option<&ArrayMap> {
        self.arrays[array].as_ref().map(|a| a.map.as_ref())
    }

    /// Where an array's bytes lie in local files as the model has them, pieces in the order of
    /// rows.
    pub fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let array = self.arrays[array].as_ref()?;
        let map = &array.map;
        if map.row_bytes() == 0 || map.rows() == 0 {
            return (!map.element.is_var()).then(Vec::new);
        }
        if !map.is_free()
            || !map.element.is_plain()
            || !map.is_wide()
            || !matches!(array.order, Order::Pieces)
        {
            return None;
        }
        let last = map.slab(map.rows() - 1).0;
        if last >= MAX_EXTENTS && matches!(map.grid, Grid::Chunks(_)) {
            return None;
        }
        let mut extents = Vec::with_capacity(last as usize + 1);
        let mut row = 0;
        while row < map.rows() {
            let (k, rows) = map.slab(row);
            let piece = map.pieces.locate(&map.coordinates(k, &[])).ok()??;
            if piece.slice.len != map.decoded_bytes(rows.end - rows.start).ok()? as u64 {
                return None;
            }
            let (file, offset) = piece.slice.blob.file_at(piece.slice.start)?;
            extents.push(Extent {
                file: file.clone(),
                offset,
                len: (rows.end - rows.start) * map.row_bytes(),
            });
            row = rows.end;
        }
        Some(extents)
    }

    /// Some rows, packed: what is taken of their elements, in C order, not yet converted.
    ///
    /// # Errors
    /// Reading errors; corrupt pieces.
    pub fn packed(&self, array: usize, rows: Range<u64>) -> Result<Buf> {
        let mapped = self.array(array)?;
        let mut fetch = self.fetch(&mapped.map, &rows)?;
        let first = self.next_packed(mapped, rows.clone(), &mut fetch)?;
        if first.0 == rows.end {
            return Ok(first.1);
        }
        let mut all = Vec::with_capacity(self.bytes_of(&mapped.map, &rows)?);
        all.extend_from_slice(&first.1);
        let mut row = first.0;
        while row < rows.end {
            let (end, part) = self.next_packed(mapped, row..rows.end, &mut fetch)?;
            all.extend_from_slice(&part);
            row = end;
        }
        Ok(Buf::from_vec(all))
    }

    /// Fills `out` with whole rows from `row` on, of an array whose rows are stored as they are.
    ///
    /// # Errors
    /// Reading errors.
    pub fn read_stored(&self, array: usize, mut row: u64, mut out: &mut [u8]) -> Result<()> {
        let map = &self.array(array)?.map;
        let row_bytes = map.row_bytes().max(1);
        while !out.is_empty() {
            let (k, rows) = map.slab(row);
            let end = rows.end.min(row + out.len() as u64 / row_bytes);
            if end <= row {
                return Err(Error::internal(format!("row {row} is past the end")));
            }
            let (part, rest) = out.split_at_mut(((end - row) * row_bytes) as usize);
            let piece = map.pieces.locate(&map.coordinates(k, &[]))?;
            let piece = piece
                .ok_or_else(|| Error::corrupt(format!("the bytes of row {row} are missing")))?;
            piece.slice.read_at((row - rows.start) * row_bytes, part)?;
            (row, out) = (end, rest);
        }
        Ok(())
    }

    /// Bytes of packed rows.
    fn bytes_of(&self, map: &ArrayMap, rows: &Range<u64>) -> Result<usize> {
        let count = rows.end.saturating_sub(rows.start);
        let bytes = count.checked_mul(map.packed_row_bytes()).and_then(|n| usize::try_from(n).ok());
        bytes.ok_or_else(|| {
            Error::refused(format!("{count} of its rows are more than this machine's memory holds"))
        })
    }

    /// Rows from `rows.start` on, up to where a piece or a tile ends: packed, and the row behind
    /// them.
    fn next_packed(
        &self,
        mapped: &Mapped,
        rows: Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<(u64, Buf)> {
        let map = &mapped.map;
        let bytes = self.bytes_of(map, &rows)?;
        if bytes == 0 {
            return Ok((rows.end, Buf::from_vec(Vec::<u8>::new())));
        }
        match &mapped.order {
            Order::Pieces => {
                let (k, slab) = map.slab(rows.start);
                let rows = rows.start..rows.end.min(slab.end);
                let rows = if mapped.is_free() && map.element.field.is_some() {
                    rows.start
                        ..rows.end.min(rows.start + (STEP_BYTES / map.row_bytes().max(1)).max(1))
                } else {
                    rows
                };
                Ok((rows.end, self.slab_rows(mapped, k, slab, rows, fetch)?))
            }
            Order::Strided(strided, near) => {
                let end = strided.next_boundary(rows.start, self.memory_bytes).min(rows.end);
                let rows = rows.start..end;
                let slice = wide::whole_piece(map)?;
                // A view may repeat its bytes without end.
                let bytes = (end - rows.start).saturating_mul(map.row_bytes());
                if bytes > slice.len.max(self.memory_bytes) {
                    let (count, limit) = (end - rows.start, self.memory_bytes >> 20);
                    let held = slice.len;
                    return Err(Error::refused(format!(
                        "{count} of its rows expand to more than {limit} MiB from a storage of {held} bytes"
                    ))
                    .hint("give a larger --memory-limit"));
                }
                let blob = match near.get() {
                    Some(blob) => blob,
                    None => wide::nearby(slice, strided).map(|blob| near.get_or_init(|| blob))?,
                };
                Ok((end, Buf::from_vec(map.element.pack(strided.gather(blob.as_ref(), rows)?))))
            }
            Order::Wide(wide) => {
                // A strided array is one piece.
                let (k, slab) = map.slab(rows.start);
                let copy = wide.copy(map, k, &slab, self.memory_bytes)?;
                let (blob, end) = (copy.finished()?, rows.end.min(slab.end));
                let row_bytes = map.packed_row_bytes();
                let (first, len) =
                    ((rows.start - slab.start) * row_bytes, (end - rows.start) * row_bytes);
                Ok((end, Buf::from_vec(blob.read_vec(first, len)?)))
            }
            Order::Items => Err(Error::internal("items of any length are not packed")),
        }
    }

    /// Rows of one row of pieces.
    fn slab_rows(
        &self,
        mapped: &Mapped,
        k: u64,
        slab: Range<u64>,
        rows: Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Buf> {
        let map = &mapped.map;
        if map.is_wide() {
            let at = map.coordinates(k, &[]);
            return self.piece_rows(mapped, &at, &slab, &rows, fetch);
        }
        let columns = map.columns();
        let packed = map.element.packed_bytes();
        let mut out = vec![0; self.bytes_of(map, &rows)?];
        let mut to_shape = map.shape.clone();
        to_shape[0] = rows.end - rows.start;
        let mut to_origin = vec![0; map.shape.len()];
        to_origin[0] = rows.start;
        let mut place = vec![0; columns.len()];
        loop {
            let at = map.coordinates(k, &place);
            let part = self.piece_rows(mapped, &at, &slab, &rows, fetch)?;
            let mut shape = map.piece_shape().to_vec();
            shape[0] = rows.end - rows.start;
            let origin: Vec<u64> = at.iter().zip(map.piece_shape()).map(|(p, c)| p * c).collect();
            let origin = [&[rows.start], &origin[1..]].concat();
            let (from, to) = (
                Block { origin: &origin, shape: &shape },
                Block { origin: &to_origin, shape: &to_shape },
            );
            block_copy::copy(&part, from, &mut out, to, packed);
            if !step(&mut place, &columns) {
                return Ok(Buf::from_vec(out));
            }
        }
    }

    /// Some rows of one piece, packed.
    fn piece_rows(
        &self,
        mapped: &Mapped,
        at: &[u64],
        slab: &Range<u64>,
        rows: &Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Buf> {
        let map = &mapped.map;
        let count = rows.end - rows.start;
        let row_elements = match &map.grid {
            Grid::Chunks(chunk) => chunk.iter().skip(1).product(),
            _ => map.row_elements(),
        };
        let full = match &map.grid {
            Grid::Chunks(chunk) => chunk.first().copied().unwrap_or(1),
            _ => slab.end - slab.start,
        };
        let is_part = count < full.min(slab.end - slab.start);
        let missing = || Buf::from_vec(map.missing((count * row_elements) as usize));
        if mapped.is_free() && is_part {
            let Some(piece) = map.pieces.locate(at).map_err(|e| map.pieces.about(e, at))? else {
                return Ok(missing());
            };
            let row_bytes = row_elements * map.element.bytes as u64;
            if piece.slice.len != full * row_bytes && !matches!(map.grid, Grid::Strided(_)) {
                let error = Error::corrupt(format!(
                    "it has {} bytes, its shape needs {}",
                    piece.slice.len,
                    full * row_bytes
                ));
                return Err(map.pieces.about(error, at));
            }
            let offset = (rows.start - slab.start) * row_bytes;
            let bytes = piece.slice.blob.read_vec(piece.slice.start + offset, count * row_bytes)?;
            return Ok(Buf::from_vec(map.element.pack(bytes)));
        }
        let decoded = map.decoded_bytes(full)?;
        let mut decode = || -> Result<Option<Buf>> {
            map.check_decode(None, decoded, self.memory_bytes)?;
            let Some((bytes, skipped)) = fetch.piece(at)? else { return Ok(None) };
            let bytes = map
                .decode(bytes, skipped, decoded, self.memory_bytes)
                .map_err(|e| map.pieces.about(e, at))?;
            Ok(Some(Buf::from_vec(bytes)))
        };
        let keep = !mapped.is_free() && (is_part || mapped.shared);
        let elements = if keep {
            let key = (Arc::as_ptr(&map.pieces).cast::<()>() as usize, map.number(at));
            let across = map.columns().iter().fold(1u64, |n, &c| n.saturating_mul(c));
            self.kept.get_or(key, (decoded as u64, across), decode)?
        } else {
            Held::Memory(decode()?)
        };
        let row = row_elements * map.element.bytes as u64;
        let (first, bytes) = ((rows.start - slab.start) * row, count * row);
        let part = match elements {
            Held::Memory(None) => return Ok(missing()),
            Held::Memory(Some(elements)) if count == full => elements,
            Held::Memory(Some(elements)) => {
                let part = elements.slice_with_length(first as usize, bytes as usize);
                // A small part would hold all of the piece for as long as it waits.
                match 2 * bytes > decoded as u64 {
                    true => part,
                    false => Buf::from_vec(part.to_vec()),
                }
            }
            Held::Disk(elements) => Buf::from_vec(elements.read(0, first, bytes)?),
        };
        Ok(match &map.element.field {
            None => part,
            Some(_) => Buf::from_vec(map.element.pack_slice(&part)),
        })
    }
}

impl ReadRows for MapReader {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        MapReader::extents(self, array)
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let Some(mapped) = &self.arrays[array] else { return u64::MAX };
        match &mapped.order {
            Order::Strided(strided, _) => strided.next_boundary(row, self.memory_bytes),
            Order::Pieces => {
                let slab = mapped.map.slab(row).1;
                match mapped.is_free() && !mapped.is_small(&slab, self.memory_bytes) {
                    true => u64::MAX,
                    false => slab.end.max(row + 1),
                }
            }
            Order::Items => {
                let (map, slab) = (&mapped.map, mapped.map.slab(row).1);
                let row_bytes = map.row_elements().saturating_mul(ITEM_BYTES).max(1);
                let bytes = (slab.end - slab.start).saturating_mul(row_bytes);
                let part = if map.is_wide() || bytes <= self.memory_bytes / 2 {
                    slab.end
                } else {
                    row + (kept_bytes(self.memory_bytes) / row_bytes).max(1)
                };
                part.clamp(row + 1, slab.end.max(row + 1))
            }
            Order::Wide(_) => u64::MAX,
        }
    }

    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let mapped = self.arrays[array].as_ref()?;
        let (map, count) = (&mapped.map, rows.end.saturating_sub(rows.start));
        let extra =
            count.saturating_mul(map.row_elements()).saturating_mul(map.element.extra_bytes());
        let held = match &mapped.order {
            Order::Pieces if mapped.is_free() && map.element.is_plain() => return None,
            Order::Pieces if mapped.is_free() => map.row_bytes().max(STEP_BYTES),
            // One piece decoded, and its stored bytes.
            Order::Pieces => {
                let piece = map.piece_bytes().unwrap_or(0);
                let is_whole = count.saturating_mul(map.packed_row_bytes()) >= piece;
                if map.is_wide() && map.element.is_plain() && is_whole {
                    piece / 2
                } else {
                    piece.saturating_mul(3) / 2
                }
            }
            Order::Strided(..) => STEP_BYTES,
            Order::Wide(_) => {
                (3 * TILE_BYTES).max(map.piece_bytes().unwrap_or(0).saturating_mul(2))
            }
            Order::Items => {
                // The items, and a piece while it is decoded.
                let piece = map.piece_shape().iter().fold(1u64, |n, &d| n.saturating_mul(d));
                let decoded = piece.saturating_mul(ITEM_BYTES).min(self.memory_bytes / 2);
                let items = count.saturating_mul(map.row_elements()).saturating_mul(ITEM_BYTES);
                return Some(items.saturating_add(decoded).max(1 << 18));
            }
        };
        Some(
            count.saturating_mul(map.packed_row_bytes()).saturating_add(extra).saturating_add(held),
        )
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let mapped = self.array(array)?;
        let map = &mapped.map;
        let element = &map.element;
        let mut fetch = self.fetch(map, &rows)?;
        let mut row = rows.start;
        if matches!(mapped.order, Order::Items) {
            while row < rows.end {
                let (end, values) = self.items.next(map, row..rows.end, &mut fetch)?;
                emit(Chunk { array, first_row: row, rows: end - row, values, valid: None })?;
                row = end;
            }
            return Ok(());
        }
        if map.shape.is_empty() {
            let packed = self.packed(array, 0..1)?;
            let all = element.scalar_rows();
            let values = element.values(packed, 1, 0)?;
            return emit(
                Chunk { array, first_row: 0, rows: all, values, valid: None }
                    .slice(rows.start, rows.end),
            );
        }
        loop {
            let (end, packed) = self.next_packed(mapped, row..rows.end, &mut fetch)?;
            let first = row.saturating_mul(map.row_elements()).saturating_mul(element.items());
            let values =
                element.values(packed, (end - row).saturating_mul(map.row_elements()), first)?;
            emit(Chunk { array, first_row: row, rows: end - row, values, valid: None })?;
            row = end;
            if row >= rows.end {
                return Ok(());
            }
        }
    }
}
