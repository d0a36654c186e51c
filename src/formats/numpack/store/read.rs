//! The reader of stores: stored arrays and the side file in, logical arrays out.

use std::sync::{Arc, Mutex};

use super::data_files::{self, OpenFiles};
use super::files::{Files, read_side};
use super::rows::Reader;
use super::stored::{Stored, stored_arrays};
use crate::array::reader::MapReader;
use crate::array::recent::Recent;
use crate::error::{Error, Result};
use crate::format::{self, Order, Source, StoredArray};
use crate::model::{ArrayMeta, Encoding, Logical, Plan, typed};
use crate::sidecar::{self, LogicalArray, StoredParts};
use crate::storage::Blob;

/// An opened store.
pub struct StoreSource {
    plan: Plan,
    reader: Reader,
}

impl StoreSource {
    /// Reads metadata and side file.
    ///
    /// # Errors
    /// Where the metadata cannot be read at all.
    pub fn open(
        files: Arc<dyn Files>,
        format: &'static str,
        names_only: bool,
        memory_bytes: u64,
    ) -> Result<StoreSource> {
        let side = read_side(files.as_ref(), memory_bytes)?;
        // Folding compares shapes, which bitmaps change.
        let stored = stored_arrays(files.as_ref(), names_only && side.is_none())?;
        let metas: Vec<ArrayMeta> = stored.iter().map(Stored::meta).collect();
        let mut plan = Plan { format, format_version: Some("1".into()), ..Plan::default() };
        let arrays = sidecar::fold(side, metas, &mut plan);
        let (metas, arrays) = LogicalArray::split(arrays);
        plan.arrays = metas.clone();
        let open: OpenFiles = Arc::new(Mutex::new(Recent::new(files.keep_open())));
        let maps =
            MapReader::new(stored.iter().map(|s| data_files::map(&files, &open, s)).collect(), 0);
        let (stored, arrays, maps) = (Arc::new(stored), Arc::new(arrays), Arc::new(maps));
        let reader = Reader { files, stored, metas, arrays, maps, all: false };
        Ok(StoreSource { plan, reader })
    }

    /// The arrays as the store holds them.
    pub fn stored(&self) -> &[Stored] {
        &self.reader.stored
    }

    /// A file of the store, as it was when the store was opened.
    ///
    /// # Errors
    /// Missing, unreadable; the store was replaced since.
    pub fn blob(&self, path: &str) -> Result<Arc<dyn Blob>> {
        self.reader.files.blob(path)
    }

    /// The last of the int64 offsets that a stored array holds; 0 where it has no rows.
    ///
    /// # Errors
    /// Those of reading.
    pub fn last_offset(&self, stored: usize) -> Result<u64> {
        let rows = self.reader.stored[stored].rows_alive();
        let last = self.reader.rows(stored, rows.saturating_sub(1)..rows)?;
        Ok(typed::<i64>(&last).first().map_or(0, |&last| last as u64))
    }

    /// What the logical arrays are made of, in the plan's order.
    pub fn parts(&self) -> &[StoredParts] {
        &self.reader.arrays
    }

    /// The logical arrays, and what they are made of.
    pub fn logical_arrays(&self) -> impl Iterator<Item = (&ArrayMeta, &StoredParts)> {
        self.reader.metas.iter().zip(self.reader.arrays.iter())
    }
}

impl Source for StoreSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<format::Reader> {
        for &a in arrays {
            format::readable(&self.plan.arrays[a])?;
        }
        let all = arrays.len() == self.plan.arrays.len();
        Ok(format::Reader::Random(Arc::new(Reader { all, ..self.reader.clone() })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        let parts = &self.reader.arrays[array];
        let stored = &self.reader.stored[parts.values];
        let is_same = matches!(parts.encoding, Encoding::Plain | Encoding::Bits)
            && !matches!(self.plan.arrays[array].logical, Logical::Dictionary { .. })
            && parts.valid.is_none()
            && stored.alive.is_none()
            && stored.problem.is_none();
        match self.reader.maps.map(parts.values).filter(|_| is_same) {
            Some(map) => map.stored(self.plan.arrays[array].dtype),
            None => Err(Error::refused("its values are not the stored ones")),
        }
    }
}
