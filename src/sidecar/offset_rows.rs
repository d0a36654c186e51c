//! Rows of texts and lists that offsets cut out of one array of elements.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::{Buf, Chunk, Values, typed};

/// Where rows begin among `values` elements: stored int64 offsets from row `first` on, which never
/// decrease.
///
/// # Errors
/// Corrupt, naming the offset.
pub fn offsets(bytes: &[u8], first: u64, values: u64) -> Result<Vec<u64>> {
    let offsets: Vec<u64> = typed::<i64>(bytes).iter().map(|&o| o as u64).collect();
    let mut before = offsets.first().copied().unwrap_or(0);
    for (i, &o) in offsets.iter().enumerate() {
        if o < before || o > values {
            let row = first + i as u64;
            return Err(Error::corrupt(format!(
                "offset {row} is {}, expected between {before} and {values}",
                o as i64
            )));
        }
        before = o;
    }
    Ok(offsets)
}

/// Rows that are cut by offsets, handed on in chunks of about `chunk_bytes`: `offsets` are those of
/// the rows and the one behind, `values` reads elements of `item_bytes` each.
///
/// # Errors
/// Those of `values` and `emit`.
pub fn emit_rows(
    (array, first_row): (usize, u64),
    offsets: &[u64],
    mask: Option<&Buf>,
    (item_bytes, chunk_bytes): (u64, u64),
    values: &dyn Fn(Range<u64>) -> Result<Vec<u8>>,
    emit: &mut dyn FnMut(Chunk) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at + 1 < offsets.len() {
        let n = rows_within(&offsets[at..], item_bytes, chunk_bytes).0 as usize;
        let cuts = &offsets[at..=at + n];
        let bytes = Buf::from_vec(values(cuts[0]..cuts[n])?);
        let offsets = cuts.iter().map(|o| o - cuts[0]).collect();
        let valid = mask.map(|m| m.slice_with_length(at, n)).filter(|m| m.contains(&0));
        emit(Chunk {
            array,
            first_row: first_row + at as u64,
            rows: n as u64,
            values: Values::Var { offsets, values: bytes },
            valid,
        })?;
        at += n;
    }
    Ok(())
}

/// How many of the rows between these offsets, from the first on, take at most `bytes` (elements of
/// `item_bytes` each, and the offsets), but one at least; and how many bytes these take.
pub fn rows_within(offsets: &[u64], item_bytes: u64, bytes: u64) -> (u64, u64) {
    let rows = offsets.len().saturating_sub(1);
    let held = |n: usize| {
        (offsets[n] - offsets[0]).saturating_mul(item_bytes).saturating_add(8 * n as u64)
    };
    let (mut fit, mut over) = (1.min(rows), rows + 1);
    while over - fit > 1 {
        let middle = fit + (over - fit) / 2;
        *if held(middle) <= bytes { &mut fit } else { &mut over } = middle;
    }
    (fit as u64, if fit > 0 { held(fit) } else { 0 })
}
