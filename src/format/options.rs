//! How inputs are read and outputs are written: one value of each serves all formats.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{Attributes, Dtype, Plan};
use crate::resources::Resources;
use crate::storage::Existing;

/// How inputs are read. One value serves all formats; each reads what concerns it.
#[derive(Clone, Debug, Default)]
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
    /// Columns whose cells are asked for as text: patterns.
    pub as_text: Vec<String>,
    /// Whether types asked for may round numbers.
    pub lossy: bool,
    /// The table that the file is known to hold, since it was just written: neither header nor types
    /// are guessed.
    pub held: Option<Arc<Plan>>,
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
#[derive(Clone, Debug, Default)]
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
