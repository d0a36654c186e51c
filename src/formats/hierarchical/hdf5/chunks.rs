//! Rows of chunked datasets: which chunks they need, what of each, and where it goes.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use super::c::{self, Id};
use super::index::{ChunkLocation, Index};
use super::read::File;
use super::spool::Decoded;
use super::stream::Streamed;
use super::tree::{Chunked, Dataset};
use super::types::Leaf;
use super::{ffi, filters};
use crate::error::{Error, Result};

/// A dataset that is read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a File,
    /// The dataset's number, and the leaf's.
    pub(super) number: (usize, usize),
    pub(super) dataset: &'a Dataset,
    pub(super) leaf: &'a Leaf,
    pub(super) chunked: &'a Chunked,
    pub(super) index: &'a Index,
}

/// The part of a chunk that is wanted: ranges of its own coordinates.
struct Part<'a> {
    origin: &'a [u64],
    low: Vec<u64>,
    high: Vec<u64>,
}

/// Decoded chunks hold at most this share of the memory limit while several pieces need them, and
/// this many bytes.
const SHARE: u64 = 8;
const MAX_SHARE_BYTES: u64 = 48 << 20;

impl Reading<'_> {
    /// The shape of the chunks in the dimensions of the dataset (a view has fewer).
    fn shape(&self) -> &[u64] {
        &self.chunked.shape[..self.dataset.dims.len()]
    }

    /// Bytes of an element of a chunk, as it is decoded: the library gives the leaf alone.
    fn element_bytes(&self) -> usize {
        if self.chunked.by_library { self.leaf.packed_bytes() } else { self.dataset.element_bytes }
    }

    /// Bytes of a decoded chunk.
    fn whole(&self) -> Result<usize> {
        let elements = crate::model::checked_product(self.shape());
        let whole = elements
            .and_then(|n| usize::try_from(n).ok())
            .and_then(|n| n.checked_mul(self.element_bytes()));
        whole.ok_or_else(|| Error::failed("a chunk is larger than this machine's memory"))
    }

    /// Reads rows into `out`, which holds what those have that were never written.
    ///
    /// # Errors
    /// Corrupt; a chunk that needs more memory than there may be.
    pub(super) fn read(&self, rows: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let (dims, shape) = (&self.dataset.dims, self.shape());
        let counts: Vec<u64> = dims.iter().zip(shape).map(|(&d, &s)| d.div_ceil(s)).collect();
        let slab: u64 = counts[1..].iter().product();
        let (first, end) =
            (rows.start / shape[0] * slab, rows.end.div_ceil(shape[0]).saturating_mul(slab));
        let from = self.index.chunks.partition_point(|p| p.number < first);
        for chunk in self.index.chunks[from..].iter().take_while(|p| p.number < end) {
            let mut rest = chunk.number;
            let mut origin = vec![0u64; dims.len()];
            for d in (0..dims.len()).rev() {
                origin[d] = rest % counts[d] * shape[d];
                rest /= counts[d];
            }
            let mut low = vec![0; dims.len()];
            low[0] = rows.start.saturating_sub(origin[0]);
            let mut high: Vec<u64> =
                (0..dims.len()).map(|d| shape[d].min(dims[d] - origin[d])).collect();
            high[0] = high[0].min(rows.end - origin[0]);
            let part = Part { origin: &origin, low, high };
            let bytes = self.part(chunk, &part)?;
            // Rows that are the chunk's, element for element, are there already.
            let exact =
                origin[0] + part.low[0] == rows.start && origin[0] + part.high[0] == rows.end;
            if exact
                && shape[1..] == dims[1..]
                && self.leaf.is_whole(self.element_bytes())
                && bytes.len() >= out.len()
            {
                let all = out.len();
                *out = bytes;
                out.truncate(all);
                continue;
            }
            self.scatter(&bytes, &part, rows.start, out);
        }
        Ok(())
    }

    /// The elements of the wanted rows of a chunk, all of them in the other dimensions.
    fn part(&self, chunk: &ChunkLocation, part: &Part<'_>) -> Result<Vec<u8>> {
        let (dims, shape) = (&self.dataset.dims, self.shape());
        let whole = self.whole()?;
        let row_bytes = whole / shape[0] as usize;
        let (start, end) = (part.low[0] as usize * row_bytes, part.high[0] as usize * row_bytes);
        let edge = part.origin.iter().zip(dims).zip(shape).any(|((&o, &d), &s)| o + s > d);
        let plain = self.chunked.is_plain(chunk.mask) || edge && self.chunked.raw_edges;
        if plain && !self.chunked.by_library {
            if chunk.bytes < whole as u64 {
                return Err(Error::corrupt(format!(
                    "a chunk at byte {} holds {} bytes, expected {whole}",
                    chunk.at, chunk.bytes
                )));
            }
            return self.index.stored(
                chunk,
                part.origin,
                start as u64..end as u64,
                &self.file.blob,
            );
        }
        let rows = shape[0].min(dims[0] - part.origin[0]);
        let taken = part.high[0] - part.low[0];
        if taken == rows && self.needs(chunk, whole) <= self.file.memory_bytes {
            return self.decoded(chunk, part.origin, whole);
        }
        let leaf = if self.chunked.by_library { self.number.1 } else { usize::MAX };
        self.file.cache.part(
            (self.number.0, leaf, chunk.number),
            (taken, rows),
            || self.kept(chunk, part.origin, whole),
            |decoded| decoded.part(start, end),
        )
    }

    /// Bytes of memory that it takes to decode a chunk.
    fn needs(&self, chunk: &ChunkLocation, whole: usize) -> u64 {
        needs(self.chunked, chunk.bytes, whole as u64)
    }

    /// Decodes a chunk that several pieces need: to where it is kept.
    fn kept(&self, chunk: &ChunkLocation, origin: &[u64], whole: usize) -> Result<Decoded> {
        let (needs, limit) = (self.needs(chunk, whole), self.file.memory_bytes);
        let most = (limit / SHARE).min(MAX_SHARE_BYTES);
        if needs <= limit
            && let Some(share) = self.file.cache.share(whole as u64, most)
        {
            return Ok(Decoded::Memory {
                bytes: self.decoded(chunk, origin, whole)?,
                _share: share,
            });
        }
        let spool = &self.file.cache.spool;
        if !self.chunked.by_library
            && self.index.is_direct()
            && let Some(streamed) =
                Streamed::of(self.chunked, chunk.mask, self.dataset.element_bytes)
        {
            return streamed.decode(&self.file.blob, (chunk.at, chunk.bytes), whole as u64, spool);
        }
        if needs > limit {
            return Err(Error::refused(format!(
                "a chunk of {whole} bytes needs {needs} bytes of memory to be decoded, the limit is {limit}"
            ))
            .hint(format!("raise the limit: --memory-limit {}MiB", needs.div_ceil(1 << 20))));
        }
        let bytes = self.decoded(chunk, origin, whole)?;
        let region = spool.region(whole as u64)?;
        region.write(0, &bytes[..whole])?;
        Ok(Decoded::Disk { region, shuffled: None })
    }

    /// Decodes a chunk in memory.
    fn decoded(&self, chunk: &ChunkLocation, origin: &[u64], whole: usize) -> Result<Vec<u8>> {
        if self.chunked.by_library {
            return self.by_library(origin, whole);
        }
        let mut bytes = self.index.stored(chunk, origin, 0..chunk.bytes, &self.file.blob)?;
        for (i, filter) in self.chunked.filters.iter().enumerate().rev() {
            if i < 32 && chunk.mask >> i & 1 == 1 {
                continue;
            }
            bytes = filters::decode(filter.id, &filter.params, bytes, whole)?;
        }
        if bytes.len() < whole {
            return Err(Error::corrupt(format!(
                "a chunk at byte {} holds {} bytes, expected {whole}",
                chunk.at,
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// A chunk through the library: filters that only it has, and fields among text of any length.
    fn by_library(&self, origin: &[u64], whole: usize) -> Result<Vec<u8>> {
        let shape = self.shape();
        let mut out: Vec<u8> = Vec::new();
        out.try_reserve_exact(whole)
            .map_err(|_| Error::failed(format!("{whole} bytes of memory are not available")))?;
        out.resize(whole, 0);
        let count: Vec<u64> = origin
            .iter()
            .zip(&self.dataset.dims)
            .zip(shape)
            .map(|((&o, &d), &s)| s.min(d - o))
            .collect();
        let zero = vec![0u64; shape.len()];
        let _lock = c::lock();
        let data = self.file.open(self.dataset)?;
        let failed = "its rows cannot be chosen";
        // SAFETY: open handles and arrays of as many dimensions, under the lock; `out` has room for
        // a whole chunk.
        unsafe {
            let memory = Id::new(
                ffi::H5Screate_simple(shape.len() as c_int, shape.as_ptr(), std::ptr::null()),
                failed,
            )?;
            let code = ffi::H5Sselect_hyperslab(
                memory.raw(),
                0,
                zero.as_ptr(),
                std::ptr::null(),
                count.as_ptr(),
                std::ptr::null(),
            );
            c::check(code, failed)?;
            let out: *mut c_void = out.as_mut_ptr().cast();
            File::read_selected(
                &data,
                self.dataset,
                self.leaf,
                (origin, &count),
                Some(&memory),
                out,
            )?;
        }
        Ok(out)
    }

    /// Copies a part of a chunk to where it belongs in the rows from `first_row` on.
    fn scatter(&self, chunk: &[u8], part: &Part<'_>, first_row: u64, out: &mut [u8]) {
        let (dims, shape, element) = (&self.dataset.dims, self.shape(), self.element_bytes());
        let Part { origin, low, high } = part;
        // Dimensions that are whole on both sides are copied together with the one before them.
        let mut run_dim = dims.len() - 1;
        while run_dim > 0 && high[run_dim] == shape[run_dim] && shape[run_dim] == dims[run_dim] {
            run_dim -= 1;
        }
        let tail: u64 = shape[run_dim + 1..].iter().product();
        let run = ((high[run_dim] - low[run_dim]) * tail) as usize;
        let packed = self.leaf.packed_bytes();
        let whole = self.leaf.is_whole(element) || self.chunked.by_library;
        let mut at = low.clone();
        loop {
            let (mut from, mut to) = (0u64, 0u64);
            for d in 0..dims.len() {
                from = from * shape[d] + at[d] - if d == 0 { low[0] } else { 0 };
                to = to * dims[d] + (origin[d] + at[d] - if d == 0 { first_row } else { 0 });
            }
            let (from, to) = (from as usize * element, to as usize * packed);
            let source = &chunk[from..from + run * element];
            let target = &mut out[to..to + run * packed];
            if whole {
                target.copy_from_slice(source);
            } else {
                self.leaf.extract(source, element, target);
            }
            // The next run: count up the dimensions before it.
            let mut d = run_dim;
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                at[d] += 1;
                if at[d] < high[d] {
                    break;
                }
                at[d] = low[d];
            }
        }
    }
}

/// Bytes of memory that it takes to decode a chunk of `stored` bytes: those, for each filter what
/// comes out of it, beside what goes in, and a third of all that for the rows on their way.
pub(super) fn needs(chunked: &Chunked, stored: u64, whole: u64) -> u64 {
    let copies = match chunked.filters.len() {
        _ if chunked.by_library => 3,
        0 | 1 => 1,
        _ => 2,
    };
    let all = stored.saturating_add(whole).max(whole.saturating_mul(copies));
    all.saturating_add(all / 3)
}
