//! What a format is and can do, as one static value.

use super::options::ReadOptions;
use crate::model::{Dtype, Logical};

/// In which order chunks come (sources) or must come (sinks). Within an array rows are always in
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Chunks of different arrays in any mixture.
    Any,
    /// One array after the other, in the plan's order.
    ArrayByArray,
    /// All arrays side by side, by blocks of rows (tables). Cuts of the columns need not agree.
    RowBlocks,
}

/// How many arrays an output of a format can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrays {
    /// Exactly one (npy).
    One,
    /// Any number of any shapes.
    Many,
    /// Columns of one table: equal row counts.
    Table,
}

/// Whether an output holds text that comes as codes into categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodedText {
    /// No.
    No,
    /// Codes of any shape.
    Yes,
    /// Codes of any shape, also of one dimension, once their categories are whole (see
    /// [`crate::model::Categories::is_whole`]): text of a fixed width, as wide as the longest.
    Whole,
}

/// Which end of a pipe (stdin, stdout) a format can be on without a spool.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// Reads from [`crate::storage::Location::stream`] alone.
    pub input: bool,
    /// Writes without seeking.
    pub output: bool,
}

/// What a format is, and what its reader and writer can do.
#[derive(Debug)]
pub struct Spec {
    /// The name for `--from`, `--to`, help and docs.
    pub name: &'static str,
    /// File name endings without the dot, lower case, the usual first: `parquet`, `csv.gz`.
    pub extensions: &'static [&'static str],
    /// A line for the format table: what is read and written.
    pub about: &'static str,
    /// Whether it can be read from or written to a pipe.
    pub streams: Streams,
    /// Whether an output is a directory (a store, a Zarr tree).
    pub is_directory: bool,
    /// Whether `open` handles [`ReadOptions::group`] itself; for other formats a group is a prefix
    /// of names.
    pub has_groups: bool,
    /// Whether several names can share the same bytes in its files (tied tensors).
    pub keeps_aliases: bool,
    /// Whether its arrays carry [`crate::sidecar::Marks`], so that nulls and types that
    /// [`Capabilities`] lack come back.
    pub keeps_types: bool,
    /// Whether a remote input is copied to a temporary file before it is read.
    pub copies_remote: fn(&ReadOptions) -> bool,
    /// What its writer can hold; `None` for a format that is only read.
    pub writes: Option<Capabilities>,
}

/// What a format's writer can hold; `resolve::fit` changes the rest (or refuses it).
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Number of arrays.
    pub arrays: Arrays,
    /// Element types written as they are.
    pub dtypes: &'static [Dtype],
    /// Logical types written as they are: those of which this is true. `Plain` need not be asked.
    pub logical: fn(&Logical) -> bool,
    /// Nulls (a mask beside the values).
    pub nulls: bool,
    /// Rank-0 arrays.
    pub scalars: bool,
    /// Most dimensions of an array (text and CSV tables: 1).
    pub max_rank: usize,
    /// Keeps `Logical` and companions in a side file: time units, categories, masks come back.
    pub sidecar: bool,
    /// Text of more than one dimension, as codes (see [`crate::model::ArrayMeta::coded_text`]).
    pub coded_text: CodedText,
    /// The order in which `append` must be fed.
    pub order: Order,
    /// Whether all row counts must be known before the first byte is written.
    pub rows_first: bool,
    /// Whether every array takes the same bytes in an output as in memory, whatever it holds.
    pub is_raw: bool,
    /// Whether an existing output can be merged into and appended to.
    pub can_append: bool,
    /// The layout flags that the writer uses: `compression`, `chunk-shape` and so on.
    pub layout_flags: &'static [&'static str],
    /// Whether the attributes of the whole are kept.
    pub keeps_attributes: bool,
}

impl Spec {
    /// A format of files without groups and aliases that is only read, not from a pipe: what
    /// differs is said by each format.
    pub const DEFAULT: Spec = Spec {
        name: "",
        extensions: &[],
        about: "",
        streams: Streams { input: false, output: false },
        is_directory: false,
        has_groups: false,
        keeps_aliases: false,
        keeps_types: false,
        copies_remote: |_| false,
        writes: None,
    };

    /// Whether the writer uses this layout flag.
    pub fn uses(&self, flag: &str) -> bool {
        self.writes.is_some_and(|w| w.layout_flags.contains(&flag))
    }
}

impl Capabilities {
    /// Plain arrays of numpy's types, whole, one after the other.
    pub const DEFAULT: Capabilities = Capabilities {
        arrays: Arrays::Many,
        dtypes: Dtype::NUMPY,
        logical: |_| false,
        nulls: false,
        scalars: true,
        max_rank: usize::MAX,
        sidecar: false,
        coded_text: CodedText::No,
        order: Order::ArrayByArray,
        rows_first: false,
        is_raw: false,
        can_append: false,
        layout_flags: &[],
        keeps_attributes: false,
    };
}
