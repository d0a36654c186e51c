//! How many bytes the chunks of arrays have come to.

use crate::commands::profile::heat::{Grid, HeatMap, Sums};
use crate::format::Source;
use crate::model::checked_product;
use crate::pipe::Flow;

/// Chunks that are looked for, at most.
const MAX_CHUNKS: u64 = 1 << 16;
/// The same where each may be a request.
const MAX_REMOTE: u64 = 1 << 8;

/// The stored bytes of the chunks of every array, where they can be told: in the plane of the grid
/// (its rows, and all chunks of a row side by side), in at most `side` blocks each way. A chunk that
/// is missing has no bytes.
pub(super) fn maps(flow: Flow, is_remote: bool, side: usize) -> Vec<Option<HeatMap>> {
    let most = if is_remote { MAX_REMOTE } else { MAX_CHUNKS };
    let source = flow.into_source();
    (0..source.plan().arrays.len()).map(|a| map(source.as_ref(), a, most, side)).collect()
}

fn map(source: &dyn Source, array: usize, most: u64, side: usize) -> Option<HeatMap> {
    source.plan().arrays[array].details.chunks.as_ref()?;
    let stored = source.stored(array).ok()?;
    let shapes = stored.shape.iter().zip(&stored.chunk_shape);
    let grid: Vec<u64> = shapes.map(|(&n, &chunk)| n.div_ceil(chunk.max(1))).collect();
    let plane = [*grid.first()?, checked_product(&grid[1..])?];
    let count = plane[0].checked_mul(plane[1]).filter(|count| (2..=most).contains(count))?;
    let (mut at, mut bytes) = (vec![0; grid.len()], Vec::with_capacity(count as usize));
    for _ in 0..count {
        bytes.push(stored.chunks.locate(&at).ok()?.map_or(0.0, |chunk| chunk.len as f64));
        // The last index runs fastest.
        for (index, &n) in at.iter_mut().zip(&grid).rev() {
            *index += 1;
            if *index < n {
                break;
            }
            *index = 0;
        }
    }
    let mut sums = Sums::new(Grid::new(plane, [side, side])?, 0);
    sums.add(0, &bytes, true, f64::from);
    Some(sums.finish())
}
