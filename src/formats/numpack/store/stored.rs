//! The arrays as a store holds them, each checked against its files.

use std::sync::Arc;

use super::bitmap::Alive;
use super::files::{Files, MAX_MANIFEST_BYTES, MAX_METADATA_BYTES, METADATA, small};
use super::manifest::Manifest;
use super::metadata::{self, Entry, Metadata};
use super::names;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype};

/// The store's list of arrays.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub fn read_metadata(files: &dyn Files) -> Result<Metadata> {
    metadata::read(small(files, METADATA, MAX_METADATA_BYTES)?.as_ref())
}

/// An array as the store holds it.
#[derive(Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, deleted rows counted.
    pub shape: Vec<u64>,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Where its rows are, in order.
    pub pieces: Vec<DataFile>,
    /// Which rows are alive, where some were deleted.
    pub alive: Option<Arc<Alive>>,
    /// The deletion bitmap's file, where there is one, whatever it says.
    pub bitmap: Option<Arc<Alive>>,
    /// The data file or manifest, relative to the store.
    pub data_file: String,
    /// Bytes in the store's files.
    pub bytes: u64,
    /// Why it cannot be read, if so.
    pub problem: Option<Arc<Error>>,
}

/// Rows in one file.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The file, relative to the store.
    pub path: String,
    /// The first row.
    pub first_row: u64,
    /// How many.
    pub rows: u64,
}

impl Stored {
    /// Stored rows, deleted ones counted; 1 for rank 0.
    pub fn rows_stored(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }
    /// Rows that are alive.
    pub fn rows_alive(&self) -> u64 {
        self.alive.as_ref().map_or(self.rows_stored(), |a| a.count())
    }
    /// The plain array: what is seen without a side file.
    pub fn meta(&self) -> ArrayMeta {
        let mut meta = ArrayMeta::new(&self.name, self.dtype, &self.shape);
        meta.rows = Some(self.rows_alive());
        meta.details.stored_bytes = Some(self.bytes);
        meta.details.error = self.problem.clone();
        meta
    }
}

/// The arrays of a store, each checked against its files. What is wrong with one of them is
/// recorded in it.
///
/// # Errors
/// Where the metadata cannot be read at all.
pub fn stored_arrays(files: &dyn Files, names_only: bool) -> Result<Vec<Stored>> {
    let entries = read_metadata(files)?.entries;
    entries.into_iter().map(|entry| stored_array(files, entry, names_only)).collect()
}

fn stored_array(files: &dyn Files, entry: Entry, names_only: bool) -> Result<Stored> {
    let mut stored = Stored {
        dtype: entry.dtype().unwrap_or(Dtype::U8),
        row_bytes: 0,
        pieces: Vec::new(),
        alive: None,
        bitmap: None,
        data_file: String::new(),
        bytes: entry.bytes,
        problem: None,
        shape: Vec::new(),
        name: String::new(),
    };
    let filled = fill(files, &entry, &mut stored, names_only);
    let is_countable = entry.wanted_bytes().is_ok();
    (stored.name, stored.shape, stored.data_file) = (entry.name, entry.shape, entry.data_file);
    match filled {
        Ok(()) => Ok(stored),
        Err(e) => {
            let problem = Arc::new(e.of_data()?);
            if !is_countable {
                stored.shape = vec![0]; // a shape that nobody may multiply
            }
            stored.problem = Some(problem);
            Ok(stored)
        }
    }
}

fn fill(files: &dyn Files, entry: &Entry, stored: &mut Stored, names_only: bool) -> Result<()> {
    entry.check()?;
    let rows = entry.shape.first().copied().unwrap_or(1);
    stored.row_bytes = entry
        .shape
        .iter()
        .skip(1)
        .try_fold(stored.dtype.item_bytes(), |n, &d| n.checked_mul(d))
        .unwrap_or(0);
    let at = |e: Error| e.array(&entry.name);
    if names_only {
        // Sizes were listed anyway; manifests and bitmaps would have to be read.
        return if entry.data_file.ends_with(".npkseg") {
            Ok(())
        } else {
            check_len(files, &entry.data_file, entry.bytes).map_err(at)
        };
    }
    if entry.data_file.ends_with(".npkseg") {
        let blob = small(files, &entry.data_file, MAX_MANIFEST_BYTES).map_err(at)?;
        let manifest =
            Manifest::parse(&blob.read_vec(0, blob.len())?, rows, stored.row_bytes).map_err(at)?;
        let mut first_row = 0;
        for s in manifest.segments {
            check_len(files, &s.file, s.bytes).map_err(at)?;
            stored.pieces.push(DataFile { path: s.file, first_row, rows: s.rows });
            first_row += s.rows;
        }
    } else {
        check_len(files, &entry.data_file, entry.bytes).map_err(at)?;
        stored.pieces.push(DataFile { path: entry.data_file.clone(), first_row: 0, rows });
    }
    if let Some(path) = names::bitmap(&entry.name)
        && !entry.shape.is_empty()
        && files.len(&path)?.is_some()
    {
        let alive = Arc::new(
            files.blob(&path).and_then(|blob| Alive::read(blob.as_ref(), rows)).map_err(at)?,
        );
        if alive.count() < rows {
            stored.alive = Some(alive.clone());
        }
        stored.bitmap = Some(alive);
    }
    Ok(())
}

/// A data file may be longer than its array (a dead append), never shorter.
fn check_len(files: &dyn Files, path: &str, bytes: u64) -> Result<()> {
    match files.len(path)? {
        None => Err(Error::corrupt(format!("the store has no {path}"))),
        Some(len) if len < bytes => {
            Err(Error::corrupt(format!("{path} has {len} bytes, expected {bytes}")))
        }
        Some(_) => Ok(()),
    }
}
