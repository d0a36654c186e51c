//! Feather (version 2) and Arrow IPC files and streams.
//! <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>
//!
//! | bytes | what (file form) |
//! |---|---|
//! | 0..8 | `ARROW1`, two zero bytes |
//! | 8.. | messages: schema, dictionary batches, record batches |
//! | then | an end mark, the footer (FlatBuffers: schema, places of all batches) |
//! | len−10..len−6 | the footer's length, int32 |
//! | len−6..len | `ARROW1` |
//!
//! A message is `FF FF FF FF`, the length of its metadata (int32), the metadata (FlatBuffers,
//! padded to 8), its body. The stream form is messages alone, ended by a length of 0 or the end of
//! the bytes. Each buffer of a body is raw, or (lz4 frame, zstd) its uncompressed length as int64
//! (−1: raw after all) and the compressed bytes.
//!
//! Read: both forms, told by their first bytes; all types of
//! [`crate::arrow_model`]; dictionaries with deltas and replacements, mapped to
//! one list of categories. Buffers of plain columns that lie uncompressed in a file are handed on
//! in place. Nulls and list lengths are known from the headers and offsets of all batches; a stream
//! that is longer than what is held in memory is spooled for that. Rows of uncompressed buffers are
//! read on their own; a compressed buffer must be unpacked as a whole, and is refused where it
//! takes more memory than there may be.
//!
//! The values of big-endian files are unpacked and turned in a temporary copy. Feather version 1 is
//! read as a file of one batch.
//!
//! Not supported: the types that the model lacks.

use crate::error::{Error, Result};
use crate::format::{
    Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, Streams, WriteOptions, prepared,
};
use crate::formats::columnar::export::{ARROW_TABLES, Export};
use crate::model::Plan;
use crate::storage::Location;

mod big_endian;
mod body;
mod columns;
mod cursor;
mod decode;
mod file_form;
mod index;
mod open;
mod read;
mod rows;
mod shared;
mod spooled;
mod stream_form;
mod version1;
mod write;

/// The format.
pub struct Feather;

static SPEC: Spec = Spec {
    name: "feather",
    extensions: &["feather", "fea", "arrow", "ipc", "arrows"],
    about: "Feather v2 and Arrow IPC, files and streams; zstd unless -c says lz4 or none",
    streams: Streams { input: true, output: true },
    writes: Some(ARROW_TABLES),
    ..Spec::DEFAULT
};

impl Format for Feather {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if head.bytes.starts_with(b"ARROW1\0\0") || head.bytes.starts_with(b"FEA1") {
            return Ok(Sniff::Yes);
        }
        Ok(index::sniff_stream(head.bytes))
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let opened = crate::error::foreign("arrow", || open::ArrowSource::open(at, options));
        Ok(Box::new(opened.map_err(|e| e.file(at.display()))?))
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        let export = Export::new(plan, options).err();
        Error::all(export.into_iter().chain(write::write_options(options).err()).collect())?;
        Ok(prepared(at, options, write::create))
    }
}
