//! HDF5 (`.h5`, `.hdf5`, netCDF4's `.nc`): trees of datasets with attributes.
//!
//! Specification: <https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html>. The C
//! library reads and writes all metadata, behind its one lock; it also says where the values are,
//! and then they are read and decoded here, on all threads: see `read`.
//!
//! | bytes of the file | |
//! |---|---|
//! | 0, 512, 1024, 2048 … | signature `\x89HDF\r\n\x1a\n`: the superblock begins at the first of these places (a user block before it) |
//! | then | superblock; object headers, B-trees, heaps: the library's |
//! | raw data | contiguous: elements in C order; chunked: each chunk filtered on its own |
//!
//! An array's name is its path without the leading slash; a field of a compound is `NAME.field`.
//! Text of more than one dimension comes as codes; netCDF's characters are joined to text;
//! variable-length sequences of numbers are lists. Not supported, and refused by name: references,
//! sequences of other things or of several dimensions, opaque values (but numpy's times), the type
//! class `H5T_TIME`, text of any length in virtual datasets of several files, szip and lossy
//! third-party filters.

use crate::error::{Error, Result};
#[cfg(feature = "hdf5")]
use crate::format::{Capabilities, CodedText, Order};
use crate::format::{
    Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, WriteOptions, prepared,
};
use crate::model::Plan;
use crate::storage::Location;

#[cfg(feature = "hdf5")]
mod access;
#[cfg(feature = "hdf5")]
mod arrays;
#[cfg(feature = "hdf5")]
mod attributes;
#[cfg(feature = "hdf5")]
mod calls;
#[cfg(feature = "hdf5")]
mod chunk_extents;
#[cfg(feature = "hdf5")]
mod create;
#[cfg(feature = "hdf5")]
mod dataset;
#[cfg(feature = "hdf5")]
mod dimensions;
#[cfg(feature = "hdf5")]
mod driver;
#[cfg(feature = "hdf5")]
mod element_type;
#[cfg(feature = "hdf5")]
mod encode;
#[cfg(feature = "hdf5")]
mod external;
#[cfg(feature = "hdf5")]
mod ffi;
#[cfg(feature = "hdf5")]
mod file;
#[cfg(feature = "hdf5")]
mod filters;
#[cfg(feature = "hdf5")]
mod headers;
#[cfg(feature = "hdf5")]
mod heap;
#[cfg(feature = "hdf5")]
mod layout;
#[cfg(feature = "hdf5")]
mod library;
#[cfg(feature = "hdf5")]
mod library_blob;
#[cfg(feature = "hdf5")]
mod open;
#[cfg(feature = "hdf5")]
mod pandas;
#[cfg(feature = "hdf5")]
mod pieces;
#[cfg(feature = "hdf5")]
mod rows;
#[cfg(feature = "hdf5")]
mod scales;
#[cfg(feature = "hdf5")]
mod source;
#[cfg(feature = "hdf5")]
mod tree;
#[cfg(feature = "hdf5")]
mod types;
#[cfg(feature = "hdf5")]
mod vds;
#[cfg(feature = "hdf5")]
mod write;
#[cfg(feature = "hdf5")]
mod write_attributes;

/// The HDF5 format.
pub struct Hdf5;

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

#[cfg(not(feature = "hdf5"))]
fn left_out() -> Error {
    Error::refused("this build of npk has no HDF5")
        .hint("build it with the cargo feature 'hdf5' (cargo install npk-cli --features hdf5)")
}

static SPEC: Spec = Spec {
    name: "hdf5",
    extensions: &["h5", "hdf5", "hdf", "he5", "nc", "nc4", "mat"],
    about: "HDF5 files, netCDF4 and pandas' to_hdf among them: groups, attributes, chunks and filters",
    has_groups: true,
    keeps_types: true,
    copies_remote: |_| true,
    #[cfg(feature = "hdf5")]
    writes: Some(Capabilities {
        dtypes: layout::DTYPES,
        logical: layout::logical,
        max_rank: 32,
        coded_text: CodedText::Yes,
        order: Order::Any,
        layout_flags: &["compression", "chunk-shape", "metadata"],
        keeps_attributes: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Hdf5 {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if head.bytes.starts_with(SIGNATURE) {
            return Ok(Sniff::Yes);
        }
        // Behind a user block of 512 bytes, 1024, 2048 and so on.
        let mut at = 512u64;
        while at < 1 << 30 {
            let found = match head.bytes.get(at as usize..at as usize + 8) {
                Some(bytes) => bytes == SIGNATURE,
                None => match head.blob {
                    Some(blob) if blob.len() >= at + 8 => blob.read_vec(at, 8)? == SIGNATURE,
                    _ => break,
                },
            };
            if found {
                return Ok(Sniff::Yes);
            }
            // A remote blob is not asked further than its first bytes.
            if at >= 2048 && head.blob.is_none_or(|b| b.file().is_none()) {
                break;
            }
            at *= 2;
        }
        Ok(Sniff::No)
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        #[cfg(feature = "hdf5")]
        {
            let memory = options.resources.memory_bytes();
            open::open(at, options).map(|s| crate::array::text_codes::coded(s, memory))
        }
        #[cfg(not(feature = "hdf5"))]
        {
            let _ = (at, options);
            Err(left_out())
        }
    }
    #[cfg(feature = "hdf5")]
    fn verify(&self, at: &Location, options: &ReadOptions) -> Result<Vec<String>> {
        open::verify(at, options).map(|()| Vec::new())
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        #[cfg(feature = "hdf5")]
        {
            Error::all(layout::validate(plan, options))?;
            Ok(prepared(at, options, write::create))
        }
        #[cfg(not(feature = "hdf5"))]
        {
            let _ = (at, plan, options);
            Err(left_out())
        }
    }
}
