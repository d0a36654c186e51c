//! The stored bytes of pieces, fetched one by one or many at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::block_copy::step;
use super::{ArrayMap, PieceLocation};
use crate::error::Result;

/// Pieces that share a blob are fetched together up to this many bytes, and this many of them.
pub(super) const BATCH_BYTES: u64 = 4 << 20;
const BATCH_PIECES: usize = 4096;

/// The stored pieces of some rows; those that share a blob are fetched many at a time, in C order
/// of their coordinates.
pub(super) struct Fetch<'a> {
    map: &'a ArrayMap,
    /// The most bytes that a stored piece may have.
    most: u64,
    /// Behind the last row of pieces.
    end: u64,
    /// How many pieces may still be fetched.
    left: usize,
    ready: VecDeque<(Vec<u64>, Option<(Vec<u8>, u32)>)>,
}

impl<'a> Fetch<'a> {
    /// Those that hold these rows, each of at most `most` bytes.
    pub(super) fn new(map: &'a ArrayMap, rows: &Range<u64>, most: u64) -> Fetch<'a> {
        let end = map.slab(rows.end.saturating_sub(1).max(rows.start)).0 + 1;
        Fetch { map, most, end, left: usize::MAX, ready: VecDeque::new() }
    }

    /// No more than so many pieces, which are asked for in order.
    pub(super) fn limited(self, pieces: usize) -> Fetch<'a> {
        Fetch { left: pieces, ..self }
    }

    /// The stored bytes of a piece, and the codecs that were left out.
    ///
    /// # Errors
    /// Reading errors; corrupt where it has too many.
    pub(super) fn piece(&mut self, at: &[u64]) -> Result<Option<(Vec<u8>, u32)>> {
        let (map, pieces) = (self.map, &self.map.pieces);
        if !pieces.is_batched() {
            return pieces.read(at, self.most).map_err(|e| pieces.about(e, at));
        }
        // Pieces that were fetched and not asked for are decoded already.
        while let Some((place, ready)) = self.ready.pop_front() {
            if place == at {
                return Ok(ready);
            }
        }
        let columns = map.columns();
        let (mut bytes, mut wanted, mut at) = (0, Vec::new(), at.to_vec());
        while wanted.len() < BATCH_PIECES.min(self.left)
            && bytes < BATCH_BYTES
            && at.first().is_none_or(|&k| k < self.end)
        {
            let piece = pieces.locate(&at).and_then(|piece| {
                piece.as_ref().map_or(Ok(()), |p| p.check(self.most))?;
                Ok(piece)
            });
            let piece = piece.map_err(|e| pieces.about(e, &at))?;
            bytes += piece.as_ref().map_or(0, |p| p.slice.len);
            wanted.push((at.clone(), piece));
            let Some((first, rest)) = at.split_first_mut() else { break };
            if !step(rest, &columns) {
                *first += 1;
            }
        }
        self.left = self.left.saturating_sub(wanted.len());
        self.fetch(wanted)?;
        Ok(self.ready.pop_front().and_then(|(_, ready)| ready))
    }

    /// One request a blob.
    fn fetch(&mut self, wanted: Vec<(Vec<u64>, Option<PieceLocation>)>) -> Result<()> {
        let found: Vec<&PieceLocation> =
            wanted.iter().filter_map(|(_, piece)| piece.as_ref()).collect();
        let mut read = Vec::with_capacity(found.len());
        for same in found.chunk_by(|a, b| Arc::ptr_eq(&a.slice.blob, &b.slice.blob)) {
            let ranges: Vec<Range<u64>> =
                same.iter().map(|p| p.slice.start..p.slice.start + p.slice.len).collect();
            read.extend(
                same[0]
                    .slice
                    .blob
                    .read_ranges(&ranges)?
                    .into_iter()
                    .zip(same)
                    .map(|(bytes, p)| (bytes, p.skipped)),
            );
        }
        let mut read = read.into_iter();
        self.ready
            .extend(wanted.into_iter().map(|(at, piece)| (at, piece.and_then(|_| read.next()))));
        Ok(())
    }
}
