//! The data files of stored arrays, as pieces for the array engine.

use std::sync::{Arc, Mutex};

use super::files::Files;
use super::stored::{DataFile, Stored};
use crate::array::recent::Recent;
use crate::array::{ArrayMap, Element, Grid, PieceLocation, Pieces};
use crate::error::{Result, locked};
use crate::storage::BlobSlice;

/// Files that are open, the last ones used.
pub(super) type OpenFiles = Arc<Mutex<Recent<String, BlobSlice>>>;

/// Rows in one file or several.
struct DataFiles {
    files: Arc<dyn Files>,
    open: OpenFiles,
    pieces: Vec<DataFile>,
    row_bytes: u64,
}

impl Pieces for DataFiles {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        let Some(piece) = at.first().map_or(self.pieces.first(), |&k| self.pieces.get(k as usize))
        else {
            return Ok(None);
        };
        let lock = || locked(&self.open);
        let known = lock().get(&piece.path);
        let mut slice = match known {
            Some(slice) => slice,
            None => {
                let slice = self.files.slice(&piece.path)?;
                lock().insert(piece.path.clone(), slice.clone(), 1);
                slice
            }
        };
        // A data file may be longer than its array.
        slice.len = slice.len.min(piece.rows.saturating_mul(self.row_bytes));
        Ok(Some(PieceLocation { slice, skipped: 0 }))
    }
}

/// The map of a stored array, all rows counted.
pub(super) fn map(files: &Arc<dyn Files>, open: &OpenFiles, stored: &Stored) -> Option<ArrayMap> {
    if stored.problem.is_some() {
        return None;
    }
    let (files, open, pieces) = (files.clone(), open.clone(), stored.pieces.clone());
    let ends: Vec<u64> = pieces.iter().map(|p| p.first_row + p.rows).collect();
    let pieces = Arc::new(DataFiles { files, open, pieces, row_bytes: stored.row_bytes });
    let map =
        ArrayMap::raw(&stored.shape, Element::plain(stored.dtype), BlobSlice::memory(Vec::new()));
    let grid = if ends.len() > 1 { Grid::Rows(ends) } else { Grid::Whole };
    Some(ArrayMap { grid, pieces, ..map })
}
