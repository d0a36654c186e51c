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
mod reader;
mod spec;
mod stored;
pub mod together;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Attributes, Chunk, Dtype, Plan};
pub use crate::resources::Resources;
pub use crate::storage::Existing;
use crate::storage::{Blob, Location};
pub use in_order::{AppendBlocks, BlockRows, EncodeBlocks, InOrder};
pub use reader::{Emit, Extent, Job, Piece, ReadPieces, ReadRows, Reader, Source};
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
    fn prepare<'a>(
        &self,
        _at: &'a Location,
        _plan: &Plan,
        _options: &'a WriteOptions,
    ) -> Result<Prepared<'a>> {
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
pub type Prepared<'a> = Box<dyn FnOnce(&Plan) -> Result<Box<dyn Sink>> + Send + 'a>;

/// An output being written.
pub trait Sink: Send {
    /// How it takes its rows.
    fn writer(&self) -> Writer;
    /// Where the kernel may copy the array's bytes to: pieces in row order. The files are open for
    /// writing.
    fn slots(&self, _array: usize) -> Option<Vec<Extent>> {
        None
    }
    /// The rows of an array that it takes: of a share of an output only some. `can_cut`: whether
    /// they can be had without the others, else all or none must be taken.
    fn region(&self, _array: usize, _can_cut: bool) -> Range<u64> {
        0..u64::MAX
    }
    /// The commit: the output appears whole, or not at all. `end` has the final rows of every
    /// array, and their metas with categories complete.
    ///
    /// # Errors
    /// Disk full and the like; then nothing is left behind.
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary>;
}

/// How an output takes its rows.
pub enum Writer {
    /// Each to its place, on any thread.
    Positional(Arc<dyn WriteRows>),
    /// Block after block (see [`InOrder`]).
    InOrder(Arc<dyn Encode>),
}

/// Turns blocks into bytes, on any thread.
pub trait Encode: Send + Sync {
    /// Where a block that begins at `row` must end (a chunk, a row group); `u64::MAX` where any cut
    /// will do.
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    /// A block that holds this many bytes may end before its cut; `None` where cuts bind.
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        None
    }
    /// Encodes one block.
    ///
    /// # Errors
    /// What the format cannot hold after all.
    fn encode(self: Arc<Self>, block: Block) -> Result<Append>;
}

/// Rows to encode together: of one array, or (sinks of [`Order::RowBlocks`]) the same rows of all
/// arrays.
pub struct Block {
    /// The first row.
    pub first_row: u64,
    /// How many; 0 only for arrays that have none at all.
    pub rows: u64,
    /// Per array its chunks in row order, together exactly these rows.
    pub columns: Vec<(usize, Vec<Chunk>)>,
}

/// What is left to do with an encoded block: to append it. Called in the order that
/// [`Capabilities::order`] promises.
pub type Append = Box<dyn FnOnce() -> Result<()> + Send>;

/// Writing by position.
pub trait WriteRows: Send + Sync {
    /// Where a piece that begins at `row` should end (a chunk of the output); `u64::MAX` where any
    /// cut will do.
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    /// Writes the chunk at its `first_row`. Chunks of one piece between two cuts may come in
    /// several calls, in order, from one thread.
    ///
    /// # Errors
    /// Disk full and the like.
    fn write(&self, chunk: &Chunk) -> Result<()>;
}

impl<W: WriteRows> WriteRows for Arc<W> {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        W::next_boundary(self, array, row)
    }
    fn write(&self, chunk: &Chunk) -> Result<()> {
        W::write(self, chunk)
    }
}

/// The result of writing an output.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Bytes of the output.
    pub bytes: u64,
    /// Files of the output, where it is more than one.
    pub files: u64,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// How inputs are read. One value serves all formats; each reads what concerns it.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Only this group of the tree (HDF5, Zarr).
    pub group: Option<String>,
    /// Text tables.
    pub text: TextOptions,
    /// What a raw file holds.
    pub raw: RawOptions,
    /// Whether quantised values become floats.
    pub dequantize: Dequantize,
    /// What the run may take: the memory limit holds for a source's own buffers, too.
    pub resources: Resources,
    /// Whether a look that takes long (a text table's types) is shown.
    pub shows_looks: bool,
    /// Only names and headers are wanted (`list` without `-l`): CSV and TXT need not read the file.
    pub names_only: bool,
    /// Only types and shapes are wanted (`list -l`, `inspect`): categories need not be known.
    pub types_only: bool,
    /// Arrays that cannot be read are left out with a note, instead of failing the conversion.
    pub skip_unsupported: bool,
    /// Files that an HDF5 file names (virtual sources, external links, raw data) are read wherever
    /// they are, not only below its folder.
    pub follow_external: bool,
    /// What to do with repeated names.
    pub on_duplicate: OnDuplicate,
    /// Struct columns are one array each, not one a field, even where no struct is null: all parts
    /// of a whole must agree.
    pub whole_structs: bool,
    /// Which arrays will be read, where the caller knows: of others a source need tell no more than
    /// their names.
    pub choice: Option<Choice>,
}

/// Patterns of array names, as `-a` and `-x` give them.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// These; all where there is none.
    pub include: Vec<String>,
    /// But not these.
    pub exclude: Vec<String>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            group: None,
            text: TextOptions::default(),
            raw: RawOptions::default(),
            dequantize: Dequantize::No,
            resources: Resources::default(),
            shows_looks: false,
            names_only: false,
            types_only: false,
            skip_unsupported: false,
            follow_external: false,
            on_duplicate: OnDuplicate::Error,
            whole_structs: false,
            choice: None,
        }
    }
}

impl ReadOptions {
    /// The same, of a run that may take this.
    pub fn within(self, resources: &Resources) -> ReadOptions {
        ReadOptions { resources: resources.clone(), ..self }
    }
}

/// `--on-duplicate`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// Refuse them
    #[default]
    Error,
    /// Rename the later ones to NAME_1, NAME_2, …
    Rename,
    /// Keep the first
    First,
    /// Keep the last
    Last,
}

/// Yes, no, or decided by the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto {
    /// The data decides.
    #[default]
    Auto,
    /// Yes.
    Yes,
    /// No.
    No,
}

/// `--quote`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quote {
    /// What the format has: `"` in CSV, none in TXT.
    #[default]
    Usual,
    /// Quotes are plain characters.
    None,
    /// This character.
    Byte(u8),
}

/// How text tables (CSV, TXT) are read and written.
#[derive(Clone, Debug, Default)]
pub struct TextOptions {
    /// Is the first row a header? On output: is one written?
    pub header: Auto,
    /// Column names, in place of a header's.
    pub column_names: Option<Vec<String>>,
    /// The field separator; `None`: the format's own (`,`, tab for `.tsv`, blanks for TXT).
    pub delimiter: Option<u8>,
    /// Lines left out at the start.
    pub skip_rows: u64,
    /// Rows read at most.
    pub max_rows: Option<u64>,
    /// Lines that begin with it are left out.
    pub comment: Option<u8>,
    /// What is around cells that hold delimiters or line ends, on input.
    pub quote: Quote,
    /// Whether blanks around cells are left out, on input.
    pub trim: bool,
    /// Cells that mean null, in place of the format's own list.
    pub null_values: Option<Vec<String>>,
    /// The decimal sign, `.` unless given.
    pub decimal: Option<u8>,
    /// printf-like format of floats on output; `None`: the shortest text that reads back exactly.
    pub float_format: Option<String>,
    /// Types asked for: pattern (or all) → type; TXT and CSV read text straight into them.
    pub dtypes: Vec<(Option<String>, Dtype)>,
    /// Whether types asked for may round numbers.
    pub lossy: bool,
}

/// `--dequantize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dequantize {
    /// Not asked for.
    #[default]
    No,
    /// To what the format usually gives.
    Usual,
    /// To this type.
    To(Dtype),
}

impl Dequantize {
    /// The type to make, where any is asked for.
    pub fn to(self, usual: Dtype) -> Option<Dtype> {
        match self {
            Dequantize::No => None,
            Dequantize::Usual => Some(usual),
            Dequantize::To(dtype) => Some(dtype),
        }
    }
}

/// What a raw file holds: `--dtype`, `--shape`, `--offset`, `--order` with `--from raw`.
#[derive(Clone, Debug, Default)]
pub struct RawOptions {
    /// The type of its elements, as numpy spells it.
    pub dtype: Option<String>,
    /// Its shape; at most one dimension, `None`, is what the file's length makes it.
    pub shape: Option<Vec<Option<u64>>>,
    /// Bytes before the first element.
    pub offset: u64,
    /// The first index runs fastest.
    pub fortran: bool,
}

/// A compression as `-c NAME[:LEVEL]` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// `none gzip zstd lz4 snappy brotli lzf blosc deflate …`.
    pub name: String,
    /// The level, where one was given.
    pub level: Option<i32>,
}

/// The compressions with levels, and those that there are.
const LEVELS: &[(&str, std::ops::RangeInclusive<i32>)] = &[
    ("blosc", 0..=9),
    ("brotli", 0..=11),
    ("deflate", 0..=9),
    ("gzip", 0..=9),
    ("zlib", 0..=9),
    ("zstd", 1..=22),
];

/// How outputs are written. One value serves all formats; each reads what concerns it.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// An output that exists.
    pub existing: Existing,
    /// `-c`; `None`: the format's default.
    pub compression: Option<Compression>,
    /// `--chunk-shape`.
    pub chunk_shape: Option<Vec<u64>>,
    /// `--shard-shape`.
    pub shard_shape: Option<Vec<u64>>,
    /// `--row-group-size`, in rows.
    pub row_group_rows: Option<u64>,
    /// `--zarr-format`.
    pub zarr_format: Option<u8>,
    /// `--max-shard-size`, in bytes.
    pub max_shard_bytes: Option<u64>,
    /// `--metadata KEY=VALUE`.
    pub metadata: Vec<(String, String)>,
    /// `--no-metadata`: nothing but the arrays.
    pub no_metadata: bool,
    /// `--single` (pt): the bare tensor.
    pub single: bool,
    /// Text tables.
    pub text: TextOptions,
    /// What the run may take.
    pub resources: Resources,
    /// `--sync`: fresh outputs are synced, too.
    pub sync: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            existing: Existing::Error,
            compression: None,
            chunk_shape: None,
            shard_shape: None,
            row_group_rows: None,
            zarr_format: None,
            max_shard_bytes: None,
            metadata: Vec::new(),
            no_metadata: false,
            single: false,
            text: TextOptions::default(),
            resources: Resources::default(),
            sync: false,
        }
    }
}

impl WriteOptions {
    /// The attributes to write: the plan's with `--metadata` on top, or only the latter with
    /// `--no-metadata`.
    pub fn attributes(&self, plan: &Plan) -> Attributes {
        let mut all =
            if self.no_metadata { Attributes::new() } else { Attributes::clone(&plan.attributes) };
        for (key, value) in &self.metadata {
            all.insert(key.clone(), serde_json::Value::String(value.clone()));
        }
        all
    }

    /// What `-c` asks for, if it was given, and its level. `known` are the format's compressions,
    /// each with the level that it has where none is given; `None` where the format sets no level.
    ///
    /// # Errors
    /// Usage, naming what there is.
    pub fn compression(
        &self,
        format: &str,
        known: &[(&'static str, Option<i32>)],
    ) -> Result<Option<(&'static str, i32)>> {
        let Some(asked) = &self.compression else { return Ok(None) };
        let Some(&(name, usual)) = known.iter().find(|(name, _)| *name == asked.name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(Error::usage(format!("{format} has no compression '{}'", asked.name))
                .hint(format!("use one of {}", names.join(", "))));
        };
        let range = LEVELS.iter().find(|(codec, _)| *codec == name).map(|(_, range)| range);
        match (asked.level, usual, range) {
            (None, ..) => Ok(Some((name, usual.unwrap_or_default()))),
            (Some(level), Some(_), Some(range)) if range.contains(&level) => {
                Ok(Some((name, level)))
            }
            (Some(level), Some(_), Some(range)) => Err(Error::usage(format!(
                "{name} has no level {level}"
            ))
            .hint(format!("use a level from {} to {}", range.start(), range.end()))),
            _ => Err(Error::usage(format!("{format} takes no level for {name}"))
                .hint(format!("use -c {name}"))),
        }
    }
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
