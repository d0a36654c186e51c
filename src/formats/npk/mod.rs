//! `.npk`, the NumPack store: a directory with one raw data file an array. Written by NumPack 0.4.5 to 0.7.0 and by this
//! crate.
//!
//! | file | what |
//! |---|---|
//! | `metadata.npkm` | names, shapes, dtypes, sizes (see [`crate::codec::store::metadata`]) |
//! | `data_<name>.npkd` | the elements: C order, little-endian, nothing before or behind them |
//! | `data_<name>.npkseg`, `data_<name>_segments/` | in place of it for a large array: a JSON manifest and its segments |
//! | `deleted_<name>.npkb` | optional: which rows are deleted (they are not shown) |
//! | `npk.json` | optional: what NumPack cannot hold (see [`crate::sidecar`]) |
//!
//! Read: all of it. Written: plain data files (every version loads them at any size), metadata last. Not supported:
//! compressed arrays, which the metadata could describe but NumPack never writes.

use std::collections::HashMap;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use crate::codec::store::{Files, METADATA, StoreSource, metadata};
use crate::error::{Context, Error, Result};
use crate::format::{Arrays, Existing, Format, Head, Holds, Order, ReadOptions, Sink, Sniff, Source, WriteOptions};
use crate::location::{Blob, Kind, Location};
use crate::model::{Dtype, Plan};

mod append;
mod journal;
mod merge;
mod verify;
mod write;

/// The format.
pub struct Npk;

static HOLDS: Holds = Holds {
    arrays: Arrays::Many,
    dtypes: Dtype::NUMPY,
    // Fixed-size values are stored as they are; the side file says what they mean.
    logical: |l| !l.is_var(),
    nulls: false,
    scalars: true,
    max_rank: usize::MAX,
    sidecar: true,
    order: Order::Any,
    rows_first: false,
};

impl Format for Npk {
    fn name(&self) -> &'static str {
        "npk"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["npk"]
    }
    fn about(&self) -> &'static str {
        "NumPack store (a directory): all of 0.4 to 0.7"
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if !head.bytes.is_empty() || head.blob.is_some() || head.location.is_stream() {
            return Ok(Sniff::No);
        }
        let there = matches!(head.location.join(METADATA).kind(), Ok(Kind::File { .. }));
        Ok(if there { Sniff::Yes } else { Sniff::No })
    }
    fn is_directory(&self) -> bool {
        true
    }
    fn grows(&self) -> bool {
        true
    }
    fn keeps_attributes(&self) -> bool {
        true
    }
    fn layout_flags(&self) -> &'static [&'static str] {
        &["metadata"]
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        Ok(Box::new(open_store(at, options.names_only).at_file(&at.display())?))
    }
    fn is_raw(&self) -> bool {
        true
    }
    fn holds(&self) -> Option<&'static Holds> {
        Some(&HOLDS)
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        verify::verify(at).at_file(&at.display())
    }
    fn create(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
        match options.existing {
            Existing::Error | Existing::Replace => write::create(at, plan, options),
            Existing::Merge { replace } => merge::create(at, plan, options, replace),
            Existing::Append => append::create(at, plan, options),
        }
    }
}

/// Opens a store; `names_only` leaves out what only its files tell.
///
/// # Errors
/// Missing, or no store.
pub fn open_store(at: &Location, names_only: bool) -> Result<StoreSource> {
    StoreSource::open(files(at)?, "npk", names_only)
}

/// The files of a store at a location.
fn files(at: &Location) -> Result<Arc<dyn Files>> {
    if at.is_stream() {
        return Err(Error::usage("a store is a directory and cannot come through a pipe").hint("use --from npkg"));
    }
    match at.kind()? {
        Kind::Dir => {}
        Kind::Missing => return Err(Error::missing("no such file or directory").file(at.display())),
        _ => {
            let head = at.head(4)?;
            let error = Error::missing("a store is a directory, this is a file").file(at.display());
            return Err(if metadata::is_metadata(&head) { error.hint("name the directory that holds it") } else { error });
        }
    }
    let listed = match at.local_path() {
        Some(path) => {
            journal::recover(path, false)?;
            local_listing(path).at_file(&at.display())?
        }
        None => match at.list() {
            Ok(entries) => entries.into_iter().filter(|e| !e.is_dir).map(|e| (e.name, e.len)).collect(),
            // Web servers list nothing, and storage may forbid it: each file is asked for by its name.
            Err(_) => return Ok(Arc::new(Directory { at: at.clone(), listed: None })),
        },
    };
    Ok(Arc::new(Directory { at: at.clone(), listed: Some(listed) }))
}

/// Names and lengths. Foreign files whatever their names are no trouble; pipes and devices are no data files.
fn local_listing(path: &std::path::Path) -> Result<HashMap<String, u64>> {
    let mut listed = HashMap::new();
    for entry in std::fs::read_dir(path).map_err(Error::reading)? {
        let entry = entry.map_err(Error::reading)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(mut found) = entry.metadata() else { continue };
        if found.file_type().is_symlink() {
            let Ok(target) = std::fs::metadata(entry.path()) else { continue };
            found = target;
        }
        if found.is_file() && !found.file_type().is_fifo() {
            listed.insert(name, found.len());
        }
    }
    Ok(listed)
}

/// A store's directory, listed once where it can be.
struct Directory {
    at: Location,
    listed: Option<HashMap<String, u64>>,
}

impl Files for Directory {
    fn len(&self, path: &str) -> Result<Option<u64>> {
        if let Some(listed) = &self.listed
            && !path.contains('/')
        {
            return Ok(listed.get(path).copied());
        }
        match self.at.join(path).kind()? {
            Kind::File { len, .. } => Ok(Some(len)),
            _ => Ok(None),
        }
    }
    fn blob(&self, path: &str) -> Result<Arc<dyn Blob>> {
        if !path.contains('/') && self.listed.as_ref().is_some_and(|listed| !listed.contains_key(path)) {
            return Err(Error::missing("no such file or directory").file(self.at.join(path).display()));
        }
        self.at.join(path).blob()
    }
}
