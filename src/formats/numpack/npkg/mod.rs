//! `.npkg`, a NumPack store packed into one file (NumPack 0.7's `pack` and `unpack`).
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `NPKG` |
//! | 4 | version, 2 (1 differs only in the checksum) |
//! | 1 | compression: 0 none, 1 zstd or zlib (told by their first bytes) |
//! | 4 | number of files, then each: |
//! | 4 + n | path, UTF-8 |
//! | 8 | bytes |
//! | 8 | compressed bytes, 0 where the file is stored as it is |
//! | | the file |
//! | 4 | CRC-32 over the CRC-32s of the uncompressed files (version 1: over their bytes) |
//!
//! Read: all of it; compressed members are unpacked to memory or, past 1 MiB, to temporary files.
//! Written: segmented arrays in one piece (NumPack's own `pack` leaves them out), `npk.json` along,
//! the metadata last; member names without `..`, which `unpack` refuses.

use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::format::{
    Capabilities, CodedText, Existing, Format, Head, Prepared, ReadOptions, Sniff, Source, Spec,
    Streams, WriteOptions, prepared,
};
use crate::formats::numpack::store::StoreSource;
use crate::model::Plan;
use crate::storage::Location;

mod read;
mod write;

/// The format.
pub struct Npkg;

static SPEC: Spec = Spec {
    name: "npkg",
    extensions: &["npkg"],
    about: "NumPack store packed into one file: zstd (default) or none; zlib is read, too",
    streams: Streams { input: true, output: false },
    writes: Some(Capabilities {
        logical: |l| !l.is_var(),
        sidecar: true,
        coded_text: CodedText::Yes,
        layout_flags: &["compression", "metadata"],
        keeps_attributes: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Npkg {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(if head.bytes.starts_with(read::MAGIC) { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let open = || {
            let package = read::Package::open(at.blob()?)?;
            let memory_bytes = options.resources.memory_bytes();
            StoreSource::open(Arc::new(package), "npkg", options.names_only, memory_bytes)
        };
        Ok(Box::new(open().at_file(&at.display())?))
    }
    fn prepare(&self, at: &Location, _plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        if matches!(options.existing, Existing::Merge { .. } | Existing::Append) {
            return Err(Error::usage("a packed store cannot be merged into or appended to")
                .hint("convert it to a .npk store, change that, then pack it again"));
        }
        let method = write::method(options)?;
        Ok(prepared(at, options, move |at, plan, options| write::create(at, plan, options, method)))
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        let check = || read::Package::open(at.blob()?)?.check();
        check().at_file(&at.display())?;
        Ok(Vec::new())
    }
}
