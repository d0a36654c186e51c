//! Arrays whose rows, or rows of pieces, do not fit into memory: copied to temporary files in C
//! order, each piece decoded once.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::ArrayMap;
use super::block_copy::{self, Block, step};
use super::fetch::{BATCH_BYTES, Fetch};
use super::recent::SharedRecent;
use super::rechunk::Rechunk;
use super::strided::Strided;
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice, file_blob, temporary};

/// Copies in C order: of a strided array one, else one of each row of pieces.
pub(super) struct Wide {
    strided: Option<Strided>,
    copies: SharedRecent<u64, Arc<Rechunk>>,
}

/// Rows of pieces whose copies are kept: threads may be at the end of one and at the beginning of
/// the next.
const KEPT_COPIES: u64 = 2;

/// Pieces of a task, at most.
const MAX_TASK: u64 = 64;

impl Wide {
    /// Of an array with these strides, or of one in pieces.
    pub(super) fn new(strided: Option<Strided>) -> Wide {
        Wide { strided, copies: SharedRecent::new(KEPT_COPIES) }
    }

    /// The copy of a row of pieces; one thread begins it.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub(super) fn copy(
        &self,
        map: &Arc<ArrayMap>,
        k: u64,
        slab: &Range<u64>,
        memory_bytes: u64,
    ) -> Result<Arc<Rechunk>> {
        self.copies.get_or(k, 1, || self.begin(map, k, slab, memory_bytes).map(Arc::new))
    }

    fn begin(
        &self,
        map: &Arc<ArrayMap>,
        k: u64,
        slab: &Range<u64>,
        memory_bytes: u64,
    ) -> Result<Rechunk> {
        if let Some(strided) = &self.strided {
            let from = nearby(whole_piece(map)?, strided)?;
            return Rechunk::strided(from, strided.clone(), map.element.clone());
        }
        let (map, slab) = (map.clone(), slab.clone());
        let bytes = (slab.end - slab.start).saturating_mul(map.packed_row_bytes());
        let pieces: u64 = map.columns().iter().product();
        // What is fetched together is one task.
        let task = if map.pieces.is_batched() {
            (BATCH_BYTES / map.piece_bytes().unwrap_or(BATCH_BYTES).max(1)).clamp(1, MAX_TASK)
        } else {
            1
        };
        let write = move |i: u64, to: &File| {
            let columns = i * task..((i + 1) * task).min(pieces);
            write_pieces(&map, k, &slab, columns, memory_bytes, to)
        };
        Rechunk::new(bytes, pieces.div_ceil(task), Box::new(write))
    }
}

/// The bytes of the one piece of an array.
///
/// # Errors
/// Corrupt where they are missing.
pub(super) fn whole_piece(map: &ArrayMap) -> Result<BlobSlice> {
    let piece = map.pieces.locate(&vec![0; map.shape.len()])?;
    Ok(piece.ok_or_else(|| Error::corrupt("its bytes are missing"))?.slice)
}

/// Puts some pieces of a row of pieces into their places of a file that holds its rows in C order.
fn write_pieces(
    map: &ArrayMap,
    k: u64,
    slab: &Range<u64>,
    numbers: Range<u64>,
    memory_bytes: u64,
    to: &File,
) -> Result<()> {
    let columns = map.columns();
    let mut place = vec![0; columns.len()];
    let mut rest = numbers.start;
    for d in (0..columns.len()).rev() {
        place[d] = rest % columns[d];
        rest /= columns[d];
    }
    let decoded = map.decoded_bytes(0)?;
    let most = map.codecs.most_stored(decoded as u64);
    let count = (numbers.end - numbers.start) as usize;
    let mut fetch = Fetch::new(map, slab, most).limited(count);
    let (mut shape, mut first) = (map.shape.clone(), vec![0; map.shape.len()]);
    (shape[0], first[0]) = (slab.end - slab.start, slab.start);
    for _ in 0..count {
        let at = map.coordinates(k, &place);
        map.check_decode(None, decoded, memory_bytes).map_err(|e| map.pieces.about(e, &at))?;
        let packed = match fetch.piece(&at)? {
            Some((bytes, skipped)) => map
                .decode(bytes, skipped, decoded, memory_bytes)
                .map(|bytes| map.element.pack(bytes))
                .map_err(|e| map.pieces.about(e, &at))?,
            None => map.missing(decoded / map.element.bytes.max(1)),
        };
        let origin: Vec<u64> = at.iter().zip(map.piece_shape()).map(|(p, c)| p * c).collect();
        let (from, all) = (
            Block { origin: &origin, shape: map.piece_shape() },
            Block { origin: &first, shape: &shape },
        );
        block_copy::runs(from, all, map.element.packed_bytes(), |a, b, n| {
            to.write_all_at(&packed[a..a + n], b as u64).map_err(temporary::error)
        })?;
        step(&mut place, &columns);
    }
    Ok(())
}

/// A blob that is cheap to read in small pieces: the slice itself if it is in a local file or in
/// memory, else a temporary copy of what the elements reach.
///
/// # Errors
/// Reading errors; corrupt where it is too short.
pub(super) fn nearby(slice: BlobSlice, strided: &Strided) -> Result<Arc<dyn Blob>> {
    let end = strided.end().filter(|&end| end <= slice.len);
    let end = end.ok_or_else(|| {
        Error::corrupt(format!("{} bytes are stored, the array needs more", slice.len))
    })?;
    if !slice.blob.is_remote() {
        return Ok(Arc::new(slice));
    }
    let copy = temporary::file()?;
    let mut at = 0;
    while at < end {
        let len = (end - at).min(8 << 20);
        copy.write_all_at(&slice.blob.read_vec(slice.start + at, len)?, at)
            .map_err(temporary::error)?;
        at += len;
    }
    file_blob(copy)
}
