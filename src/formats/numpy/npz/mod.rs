//! NumPy's `.npz`: a zip archive of `.npy` files.
//! <https://numpy.org/doc/stable/reference/generated/numpy.savez.html>
//!
//! | part | what |
//! |---|---|
//! | member `NAME.npy` | an npy file ([`crate::codec::npy_header`]), stored or deflated |
//! | central directory | sizes, CRCs, places ([`crate::codec::zip`]) |
//!
//! Read: stored and deflated members, zip64; names lose `.npy`; every CRC is compared. Stored
//! members are read at random, deflated ones as streams, several at a time. Members that are no
//! `.npy` and encrypted members are listed, and refused when they are read. Structured types become
//! arrays `NAME.field`, pickled objects what [`super::pickled`] says. Written: deflated in blocks on all cores (default,
//! `deflate:LEVEL`), or stored (`none`) with data aligned to 64 bytes, so that it can be mapped.
//! Names that would leave a folder when unpacked are refused.

use std::sync::Arc;

use crate::array::text_codes::coded;
use crate::codec::numpy_elements;
use crate::codec::zip::Archive;
use crate::error::{Error, Result};
use crate::format::foreign_file;
use crate::format::{
    Capabilities, CodedText, Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, Streams,
    WriteOptions, prepared,
};
use crate::formats::numpy::padded_text;
use crate::model::{Dtype, Logical, Plan};
use crate::storage::Location;

mod read;
mod write;

/// The format.
pub struct Npz;

fn holds_logical(logical: &Logical) -> bool {
    numpy_elements::spell(Dtype::I64, logical).is_some()
}

static SPEC: Spec = Spec {
    name: "npz",
    extensions: &["npz"],
    about: "NumPy archive of arrays, stored or deflated",
    streams: Streams { input: false, output: true },
    writes: Some(Capabilities {
        logical: holds_logical,
        max_rank: 64,
        coded_text: CodedText::Whole,
        rows_first: true,
        layout_flags: &["compression"],
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Npz {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let named = head.location.file_name().to_ascii_lowercase().ends_with(".npz");
        if head.bytes.starts_with(b"PK\x05\x06") {
            return Ok(if named { Sniff::Yes } else { Sniff::No });
        }
        if !head.bytes.starts_with(b"PK\x03\x04") {
            return Ok(Sniff::No);
        }
        let Some(blob) = head.blob else {
            let len = head
                .bytes
                .get(26..28)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u16::from_le_bytes);
            let first = head.bytes.get(30..30 + usize::from(len)).unwrap_or_default();
            return Ok(if first.ends_with(b".npy") { Sniff::Yes } else { Sniff::No });
        };
        // A damaged archive is recognised by its name, so that its damage can be told.
        let Ok(archive) = Archive::open(blob.clone()) else {
            return Ok(if named { Sniff::Yes } else { Sniff::No });
        };
        let has = |what: &dyn Fn(&str) -> bool| archive.entries.iter().any(|e| what(&e.name));
        let other = has(&|n| {
            let last = n.rsplit('/').next().unwrap_or(n);
            matches!(last, "data.pkl" | "zarr.json" | ".zarray" | ".zgroup" | ".zmetadata")
        });
        Ok(if !other && (named || has(&|n| n.ends_with(".npy"))) { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        if let Some(error) = foreign_file::named(&at.head(512)?) {
            return Err(error);
        }
        let archive = Arc::new(Archive::open(at.blob()?)?);
        let memory = options.resources.memory_bytes();
        Ok(coded(Box::new(read::NpzSource::open(archive, options)?), memory))
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        let refuse = |name: &str| {
            let leaves =
                name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..");
            let why = if name.contains('\0') {
                "a name in a zip archive holds no zero bytes"
            } else if leaves {
                "this name would leave the folder where the archive is unpacked"
            } else if name.len() > usize::from(u16::MAX) - 4 {
                "the name is longer than a zip archive holds"
            } else {
                return None;
            };
            Some(Error::refused(why).array(name).hint("rename it with --rename"))
        };
        let mut errors: Vec<Error> = plan.arrays.iter().filter_map(|a| refuse(&a.name)).collect();
        errors.extend(plan.arrays.iter().filter_map(|a| padded_text::check("npz", a).err()));
        let level = write::level(options).map_err(|e| errors.push(e)).unwrap_or_default();
        Error::all(errors)?;
        Ok(prepared(at, options, move |at, plan, options| write::create(at, plan, options, level)))
    }
}
