//! `.npk`, the NumPack store: a directory with one raw data file an array. Written by NumPack 0.4.5
//! to 0.7.0 and by this crate.
//!
//! | file | what |
//! |---|---|
//! | `metadata.npkm` | names, shapes, dtypes, sizes (see [`crate::formats::numpack::store::metadata`]) |
//! | `data_<name>.npkd` | the elements: C order, little-endian, nothing before or behind them |
//! | `data_<name>.npkseg`, `data_<name>_segments/` | in place of it for a large array: a JSON manifest and its segments |
//! | `deleted_<name>.npkb` | optional: which rows are deleted (they are not shown) |
//! | `npk.json` | optional: what NumPack cannot hold (see [`crate::sidecar`]) |
//!
//! Read: all of it. Written: plain data files (every version loads them at any size), metadata
//! last. Not supported: compressed arrays, which the metadata could describe but NumPack never
//! writes.

use crate::error::{Context, Result};
use crate::format::{
    Capabilities, CodedText, Existing, Format, Head, Order, Prepared, ReadOptions, Sniff, Source,
    Spec, WriteOptions, prepared,
};
use crate::formats::numpack::store::{METADATA, StoreSource};
use crate::model::Plan;
use crate::storage::{EntryKind, Location};

mod append;
mod directory;
mod lock;
mod merge;
mod merge_base;
mod open;
pub mod stage;
mod verify;
mod write;

use directory::Directory;
pub use open::open_store;

/// The format.
pub struct Npk;

const CAPABILITIES: Capabilities = Capabilities {
    // Fixed-size values are stored as they are; the side file says what they mean.
    logical: |l| !l.is_var(),
    sidecar: true,
    coded_text: CodedText::Yes,
    order: Order::Any,
    is_raw: true,
    can_append: true,
    layout_flags: &["metadata"],
    keeps_attributes: true,
    ..Capabilities::DEFAULT
};

static SPEC: Spec = Spec {
    name: "npk",
    extensions: &["npk"],
    about: "NumPack store (a directory): all of 0.4 to 0.7",
    is_directory: true,
    writes: Some(CAPABILITIES),
    ..Spec::DEFAULT
};

impl Format for Npk {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if !head.bytes.is_empty() || head.blob.is_some() || head.location.is_stream() {
            return Ok(Sniff::No);
        }
        let there = matches!(head.location.join(METADATA).kind(), Ok(EntryKind::File { .. }));
        Ok(if there { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let memory_bytes = options.resources.memory_bytes();
        Ok(Box::new(open_store(at, options.names_only, memory_bytes).at_file(&at.display())?))
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        verify::verify(at).at_file(&at.display())
    }
    fn prepare(&self, at: &Location, _plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        // A store that is not there is made.
        if !matches!(options.existing, Existing::Replace) && at.kind()? == EntryKind::Missing {
            let options = WriteOptions { existing: Existing::Error, ..options.clone() };
            return Ok(prepared(at, &options, write::create));
        }
        match options.existing {
            Existing::Error | Existing::Replace => Ok(prepared(at, options, write::create)),
            Existing::Merge { replace } => {
                let path = merge::local_store(at, "merged into")?.to_path_buf();
                Ok(prepared(at, options, move |at, plan, options| {
                    merge::create(at, &path, plan, options, replace)
                }))
            }
            Existing::Append => {
                let path = merge::local_store(at, "appended to")?.to_path_buf();
                Ok(prepared(at, options, move |at, plan, options| {
                    append::create(at, &path, plan, options)
                }))
            }
        }
    }
}

/// What a store can hold.
pub fn capabilities() -> &'static Capabilities {
    static NPK: Capabilities = CAPABILITIES;
    &NPK
}

/// Whether a store has rows that were deleted, or arrays in several pieces.
///
/// # Errors
/// Where it cannot be read.
pub fn is_fragmented(at: &Location, memory_bytes: u64) -> Result<bool> {
    let source = StoreSource::open(Directory::open(at)?, "npk", false, memory_bytes)?;
    Ok(source.stored().iter().any(|s| s.bitmap.is_some() || s.pieces.len() > 1))
}
