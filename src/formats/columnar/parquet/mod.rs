//! Apache Parquet: columnar tables. <https://parquet.apache.org/docs/file-format/>
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `PAR1` |
//! | 4.. | row groups: for each column its chunk of pages (dictionary page, data pages), compressed |
//! | then | page indexes, bloom filters |
//! | len−8−n..len−8 | the footer: `FileMetaData` in Thrift's compact protocol |
//! | len−8..len−4 | n, uint32 |
//! | len−4..len | `PAR1` (`PARE`: the footer is encrypted) |
//!
//! Read: every codec but LZO, every encoding that the `parquet` crate decodes, both page versions.
//! Types follow
//! [`crate::arrow_model`]: those of the Parquet schema, refined by the Arrow schema that most writers keep in the
//! footer (zones, durations, dictionaries, fixed-size lists). INT96 is read as nanoseconds where
//! all values fit, else as microseconds where that is exact. What only the data shows (nulls
//! without statistics, list lengths, INT96 ranges) is found in a pass over the columns concerned
//! when the file is opened.
//!
//! Columns that rows of numbers and texts cannot express travel as Arrow arrays: their leaves are
//! decoded one by one and put together.
//!
//! Not supported: encrypted columns and footers, columns in other files; written: unions, runs and
//! intervals, which Parquet lacks. Writers disagree on seconds, which Parquet
//! lacks: like pyarrow, seconds are written as milliseconds.

use crate::error::{Error, Result};
use crate::format::{
    Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, WriteOptions, prepared,
};
#[cfg(feature = "parquet")]
use crate::formats::columnar::export::{ARROW_TABLES, Export};
use crate::model::Plan;
use crate::storage::Location;

#[cfg(feature = "parquet")]
mod errors;
#[cfg(feature = "parquet")]
mod logical_types;
#[cfg(feature = "parquet")]
mod read;
#[cfg(feature = "parquet")]
mod schema;
#[cfg(feature = "parquet")]
mod thrift;
#[cfg(feature = "parquet")]
mod write;

/// The format.
pub struct Parquet;

static SPEC: Spec = Spec {
    name: "parquet",
    extensions: &["parquet", "pq"],
    about: "Apache Parquet tables, all codecs; snappy unless -c says otherwise",
    #[cfg(feature = "parquet")]
    writes: Some(ARROW_TABLES),
    ..Spec::DEFAULT
};

impl Format for Parquet {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(if head.bytes.starts_with(b"PAR1") || head.bytes.starts_with(b"PARE") {
            Sniff::Yes
        } else {
            Sniff::No
        })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        #[cfg(feature = "parquet")]
        {
            read::open(at.blob()?, options).map_err(|e| e.file(at.display()))
        }
        #[cfg(not(feature = "parquet"))]
        {
            let _ = (at, options);
            Err(left_out())
        }
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        #[cfg(feature = "parquet")]
        {
            let export = Export::new(plan, options);
            let schema = export.and_then(|export| write::stored_schema(&export)).err();
            Error::all(schema.into_iter().chain(write::codec(options).err()).collect())?;
            Ok(prepared(at, options, write::create))
        }
        #[cfg(not(feature = "parquet"))]
        {
            let _ = (at, plan, options);
            Err(left_out())
        }
    }
}

/// What this build lacks.
#[cfg(not(feature = "parquet"))]
pub fn left_out() -> Error {
    Error::refused("this build of npk has no Parquet").hint(
        "build it with the cargo feature 'parquet' (cargo install npk-cli --features parquet)",
    )
}
