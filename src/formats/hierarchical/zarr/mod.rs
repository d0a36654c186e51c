//! Zarr: n-dimensional arrays cut into chunks, one object each, in a tree of groups. Versions 2 and
//! 3, directories (local or remote) and zip files.
//!
//! <https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html>,
//! <https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html>,
//! <https://github.com/zarr-developers/zarr-extensions>
//!
//! | key | v2 | v3 |
//! |---|---|---|
//! | a group | `g/.zgroup`, attributes in `g/.zattrs` | `g/zarr.json` |
//! | an array | `g/a/.zarray`, attributes in `g/a/.zattrs` | `g/a/zarr.json` |
//! | a chunk | `g/a/0.1` (or `g/a/0/1`) | `g/a/c/0/1` |
//! | all metadata in one object | `.zmetadata` | `consolidated_metadata` in the root's `zarr.json` |
//!
//! A node that has both kinds of metadata is read as v3, with a note. An array at the root takes
//! the store's name. Structured types come as one array a field, `NAME.field`. Dimension names
//! travel as the attribute `_ARRAY_DIMENSIONS`, as xarray spells them in v2.
//!
//! Chunks are decoded by own code over the compressors' libraries: each step knows the most that it
//! may produce, so that damaged or hostile chunks end in an error, never in a full memory. Read:
//! blosc, zstd, gzip, zlib, bz2, lz4, lzma; shuffle, delta, fixedscaleoffset, quantize, astype,
//! packbits, bitround; crc32, crc32c, adler32, fletcher32; transpose and F order; sharding (only
//! the inner chunks that are needed are read); vlen-utf8, vlen-bytes and vlen-array.
//!
//! Refused by name: pickled objects (never run), json2, msgpack2, categorize, zfpy,
//! pcodec, jenkins_lookup3, grids that are not regular, storage transformers, raw bytes (`|V8`,
//! `r64`).

mod codecs;
mod consolidate;
mod dtype;
mod json;
mod layout;
mod netcdf;
mod node;
mod objects;
mod read;
pub(crate) mod references;
mod shard;
mod store;
mod target;
mod together;
mod tree;
mod write;

use self::store::MARKERS;
use crate::array::text_codes::coded;
use crate::error::{Error, Result};
use crate::format::{
    Capabilities, CodedText, Format, Head, Order, Prepared, ReadOptions, Sniff, Source, Spec,
    Together, WriteOptions, prepared,
};
use crate::model::{Dtype, Logical, Plan};
use crate::storage::Location;

/// The format.
pub struct Zarr;

static SPEC: Spec = Spec {
    name: "zarr",
    extensions: &["zarr", "zarr.zip"],
    about: "Zarr v2 and v3, directories and .zarr.zip, sharded or not",
    is_directory: true,
    has_groups: true,
    keeps_types: true,
    writes: Some(Capabilities {
        // All but the last, complex32, which no implementation knows.
        dtypes: Dtype::ALL.split_at(20).0,
        logical: |l| {
            matches!(
                l,
                Logical::Plain
                    | Logical::Datetime(_)
                    | Logical::Timedelta(_)
                    | Logical::Text
                    | Logical::Binary
            )
        },
        max_rank: 32,
        coded_text: CodedText::Yes,
        order: Order::Any,
        rows_first: true,
        layout_flags: &["compression", "chunk-shape", "shard-shape", "zarr-format", "metadata"],
        keeps_attributes: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Zarr {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if let Some(blob) = head.blob {
            if !head.bytes.starts_with(b"PK\x03\x04") {
                return Ok(Sniff::No);
            }
            // The first member's name is mostly enough; else the directory at the end tells.
            let name = head.bytes.get(30..).unwrap_or_default();
            if MARKERS.iter().any(|m| name.starts_with(m.as_bytes())) {
                return Ok(Sniff::Yes);
            }
            return Ok(match store::ZipStore::open(blob.clone()) {
                Ok(zip) if zip.is_zarr() => Sniff::Yes,
                _ => Sniff::No,
            });
        }
        if !head.bytes.is_empty() || head.location.is_stream() {
            return Ok(Sniff::No);
        }
        // A remote prefix may hold very many objects, and some servers list nothing: ask for each
        // marker.
        let is_there = |marker: &&str| {
            matches!(head.location.join(marker).kind(), Ok(crate::storage::EntryKind::File { .. }))
        };
        Ok(if MARKERS.iter().any(is_there) { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        at.held(|at| {
            let memory = options.resources.memory_bytes();
            Ok(coded(Box::new(read::open(at, options)?), memory))
        })
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        at.held(|at| store::Store::open(at)?.verify())?;
        Ok(Vec::new())
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        // Rows that only reading tells are known by the time of writing.
        let mut known = plan.clone();
        known.arrays.iter_mut().for_each(|a| a.rows = a.rows.or(Some(1)));
        Error::all(write::layouts(&known, options).1)?;
        Ok(prepared(at, options, |at, plan, options| {
            Ok(Box::new(write::create(at, plan, options)?))
        }))
    }
    fn is_shared(&self, at: &Location) -> bool {
        !at.is_stream() && !write::is_zip(at)
    }
    fn together(
        &self,
        at: &Location,
        plan: &Plan,
        options: &WriteOptions,
        source: &str,
    ) -> Result<Box<dyn Together>> {
        Ok(Box::new(together::ZarrTogether::new(at, plan, options, source)?))
    }
}
