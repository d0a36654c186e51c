//! Pieces of rows: where they end, and that all of their rows come.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::{Emit, ReadRows};

/// Reads rows, and checks that exactly these were delivered.
pub(super) fn read_exactly(
    reader: &dyn ReadRows,
    array: usize,
    rows: Range<u64>,
    emit: Emit<'_>,
) -> Result<()> {
    let mut next = rows.start;
    reader.read(array, rows.clone(), &mut |chunk| {
        if chunk.first_row != next || chunk.array != array {
            return Err(Error::internal(format!(
                "row {} was delivered, row {next} was expected",
                chunk.first_row
            )));
        }
        next += chunk.rows;
        emit(chunk)
    })?;
    if next == rows.end {
        Ok(())
    } else {
        Err(Error::corrupt(format!(
            "rows {}..{} were expected, they end at {next}",
            rows.start, rows.end
        )))
    }
}

/// Where a piece of about `piece` bytes that begins at `row` ends: on the sink's cuts if it has
/// some, else on the source's, never in the middle of the first one.
pub(crate) fn piece_end(
    row: u64,
    total: u64,
    row_bytes: u64,
    piece: u64,
    sink: impl Fn(u64) -> u64,
    source: impl Fn(u64) -> u64,
) -> u64 {
    let wish = row.saturating_add((piece / row_bytes.max(1)).max(1)).min(total);
    let step = |cut: &dyn Fn(u64) -> u64| {
        let mut end = cut(row).max(row + 1);
        while end < wish {
            let next = cut(end);
            if next > wish || next <= end {
                break;
            }
            end = next;
        }
        end.min(total)
    };
    if sink(row) != u64::MAX {
        step(&sink)
    } else if source(row) != u64::MAX {
        step(&source)
    } else {
        wish
    }
}
