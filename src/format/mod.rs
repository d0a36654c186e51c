//! The traits between formats and the pipe.
//!
//! # Call order
//! A source: [`Format::open`] → [`Source::plan`] → [`Source::select`] → a [`Reader`], whose variant says
//! how the rows can be had: any rows on any thread, or piece after piece. A sink: [`Format::prepare`] → [`Prepared`] →
//! [`Sink::slots`] / [`Sink::writer`] → [`Sink::finish`]. Dropped without `finish`, a sink leaves
//! nothing behind.

pub(crate) mod duplicates;
pub(crate) mod foreign_file;
mod in_order;
mod options;
mod reader;
mod sink;
mod spec;
mod stored;
pub mod together;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Plan};
pub use crate::resources::Resources;
pub use crate::storage::Existing;
use crate::storage::{Blob, Location};
pub use in_order::{AppendBlocks, BlockRows, EncodeBlocks, InOrder};
pub use options::{
    Auto, Choice, Compression, Dequantize, OnDuplicate, Quote, RawOptions, ReadOptions,
    TextOptions, WriteOptions,
};
pub use reader::{Emit, Extent, Job, Piece, ReadPieces, ReadRows, Reader, Source, changed};
pub use sink::{Append, Block, Encode, Sink, Summary, WriteRows, Writer};
pub use spec::{Arrays, Capabilities, CodedText, Order, Spec, Streams};
pub use stored::{LocateChunk, StoredArray, StoredCodec, StoredItem};
pub use together::{Share, Together};

/// How well some bytes or a name fit a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sniff {
    /// Not this format.
    No,
    /// Could be (text formats, which have no signature).
    Maybe,
    /// The signature is there.
    Yes,
}

/// What detection may look at: the first 4 KiB, and ranged reads where the location is not a pipe.
pub struct Head<'a> {
    /// The location: its name, its directory entries.
    pub location: &'a Location,
    /// The first bytes, at most 4096; empty for a directory.
    pub bytes: &'a [u8],
    /// Whole-file access; `None` on a pipe or a directory.
    pub blob: Option<&'a Arc<dyn Blob>>,
}

/// A file format: one unit struct, one line in [`crate::formats::FORMATS`].
pub trait Format: Sync {
    /// What it is and can do.
    fn spec(&self) -> &'static Spec;
    /// Whether this looks like the format. Bytes of another format are never an error.
    ///
    /// # Errors
    /// Only where the location cannot be read.
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff>;
    /// The attributes of `plan` that its writer leaves behind. Keys with a dot are a format's own
    /// bookkeeping.
    fn lost_attributes<'a>(&self, plan: &'a Plan, _options: &WriteOptions) -> Vec<&'a str> {
        if self.spec().writes.is_some_and(|w| w.keeps_attributes) {
            return Vec::new();
        }
        plan.attributes.keys().map(String::as_str).filter(|key| !key.contains('.')).collect()
    }
    /// Opens for reading; reads headers only (CSV and TXT: the file).
    ///
    /// # Errors
    /// Missing, refused or corrupt input.
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>>;
    /// Checks all that can be told before the data: what [`Capabilities`] cannot express (names,
    /// limits) and options that do not fit. Nothing is written.
    ///
    /// # Errors
    /// All refusals together: one an array, one an option. Without a writer: that there is none.
    fn prepare(&self, _at: &Location, _plan: &Plan, _options: &WriteOptions) -> Result<Prepared> {
        Err(Error::refused(format!("{} can be read, not written", self.spec().name)))
    }
    /// Whether several processes can write an output here, each a share of its rows.
    fn is_shared(&self, _at: &Location) -> bool {
        false
    }
    /// An output that several processes write; `source` tells what they make it from, `plan` has
    /// the rows of all arrays. Nothing is written.
    ///
    /// # Errors
    /// As [`Format::prepare`]; refused where [`Format::is_shared`] is not true.
    fn together(
        &self,
        at: &Location,
        _plan: &Plan,
        _options: &WriteOptions,
        _source: &str,
    ) -> Result<Box<dyn Together>> {
        Err(Error::refused(format!("a {} output is made by one process", self.spec().name))
            .file(at.display()))
    }
    /// `npk verify` beyond opening the file and decoding every array: trailing bytes, checksums,
    /// dead appends.
    ///
    /// # Errors
    /// Corrupt where it is not whole.
    fn verify(&self, _at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// An output that was checked: begins it, for the plan of [`Format::prepare`] with what only
/// reading has told (rows, categories). Nothing is visible there before [`Sink::finish`].
pub type Prepared = Box<dyn FnOnce(&Plan) -> Result<Box<dyn Sink>> + Send>;

/// An output that was checked, which `create` begins.
pub fn prepared(
    at: &Location,
    options: &WriteOptions,
    create: impl FnOnce(&Location, &Plan, &WriteOptions) -> Result<Box<dyn Sink>> + Send + 'static,
) -> Prepared {
    let (at, options) = (at.clone(), options.clone());
    Box::new(move |plan| create(&at, plan, &options))
}

/// Checks an array's state before it is read: the refusal or damage that its header showed.
///
/// # Errors
/// The array's own [`crate::model::Facts::error`].
pub fn readable(meta: &ArrayMeta) -> Result<()> {
    match &meta.details.error {
        None => Ok(()),
        Some(e) => Err(Error::clone(e).with_array(&meta.name)),
    }
}
