//! Tables, and the plan of an input or output.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::error::Error;

use super::{ArrayMeta, Attributes, Categories, Shared, nested};

/// A table: some of a source's arrays are its columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// The arrays (by name) that are its index, as pandas has one.
    pub index: Vec<String>,
    /// The one 2-D array that holds all columns side by side, where the layout is `matrix`.
    pub matrix: Option<String>,
    /// Schema metadata as the format has it: `pandas`, and the Arrow schema (base64 IPC message)
    /// under `ARROW:schema`.
    pub metadata: Attributes,
}

impl Table {
    /// The arrays that must have a row each for every row of it: the matrix or the columns, and the
    /// index.
    pub fn arrays(&self) -> Vec<&str> {
        let data: Vec<&str> = match &self.matrix {
            Some(matrix) => vec![matrix],
            None => self.columns.iter().map(|c| c.array.as_str()).collect(),
        };
        let mut seen = std::collections::HashSet::new();
        data.into_iter()
            .chain(self.index.iter().map(String::as_str))
            .filter(|a| seen.insert(*a))
            .collect()
    }
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name of the array that holds it.
    pub array: String,
    /// The header as the file spells it: may be empty or repeated.
    pub header: String,
}

impl Column {
    /// The column that was read as this array. A blank header stays blank; a repeated one goes by
    /// the array's new name.
    pub fn read(array: &str, header: &str) -> Column {
        let header = if header.is_empty() { header } else { array };
        Column { array: array.to_string(), header: header.to_string() }
    }
}

/// What a source has, or a sink will get.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The name of the format that it came from.
    pub format: &'static str,
    /// The format's version, for `inspect`: `2.0`, `v3`.
    pub format_version: Option<String>,
    /// The arrays, in order of appearance.
    pub arrays: Shared<Vec<ArrayMeta>>,
    /// Tables among them.
    pub tables: Shared<Vec<Table>>,
    /// Attributes of the whole: safetensors `__metadata__`, root group attributes, plain values of
    /// a checkpoint.
    pub attributes: Shared<Attributes>,
    /// Attributes of groups by path (HDF5, Zarr).
    pub groups: IndexMap<String, Attributes>,
    /// Things the user should hear once, on stderr.
    pub notes: Vec<String>,
    /// Logical arrays that were changed into some of `arrays` because the sink cannot hold them as
    /// they are. Filled by `resolve::fit`; complete (categories, nulls that did occur) in the plan
    /// given to `Sink::finish`. Sinks with a side file record it there; a source never sets it: it
    /// folds what the side file says into logical arrays.
    pub encoded: Vec<EncodedArray>,
    /// Nested arrays whose parts are among `arrays`, as a side file tells. Whoever opens a source
    /// puts them together.
    pub nested: Vec<nested::TakenApart>,
    /// Rows of a table that has no columns.
    pub bare_rows: u64,
}

/// A logical array, and the plain arrays that hold it in a sink that lacks nulls, text, lists or
/// its dtype.
///
/// Only what the sink's [`crate::format::Capabilities`] lacks is listed. A sink with a side file writes
/// and records times, dictionaries, packed elements, rank 0 and [`ArrayMeta::original_dtype`] by itself, from
/// the array's own meta.
#[derive(Clone, Debug)]
pub struct EncodedArray {
    /// The logical array as the sink was to get it: name, dtype, logical type, nulls, `original_dtype`,
    /// attributes.
    pub meta: ArrayMeta,
    /// How `values` holds the values.
    pub encoding: Encoding,
    /// The array (by name) of the values, codes, bits or inner elements.
    pub values: String,
    /// The int64 array of rows + 1 offsets into `values`, for [`Encoding::Offsets`].
    pub offsets: Option<String>,
    /// The bool array of one element a row, false at nulls.
    pub valid: Option<String>,
}

/// How plain arrays hold the values of a logical one.
#[derive(Clone, Debug, Default)]
pub enum Encoding {
    /// As they are: numbers, times, a dictionary's codes; there may be a mask.
    #[default]
    Plain,
    /// Widened, exactly, to the stored array's float type (bfloat16 as float32, float8 as float16).
    Widened,
    /// Their raw bits as unsigned integers of the same width.
    Bits,
    /// Text, binary or decimals as integer codes into these categories. A code of -1 is null, too.
    Codes(Arc<Categories>),
    /// Rows end to end: bytes (text, binary, decimals) or elements (lists), cut by `offsets`.
    Offsets,
    /// In several logical arrays. `values` is the first of its offsets and masks, or else the first
    /// of all.
    Nested(nested::Parts),
}

impl EncodedArray {
    /// The arrays beside that of the values.
    pub fn companions(&self) -> Vec<&str> {
        match &self.encoding {
            Encoding::Nested(parts) => parts.companions(),
            _ => [self.valid.as_deref(), self.offsets.as_deref()].into_iter().flatten().collect(),
        }
    }
}

impl Plan {
    /// Of a table of so many rows: they are remembered where it has no columns, which would tell
    /// them.
    pub fn with_rows(mut self, rows: u64) -> Plan {
        if self.arrays.is_empty() && rows > 0 {
            self.bare_rows = rows;
            self.notes.push(format!("it has {rows} rows and no columns"));
        }
        self
    }
    /// Why nothing can be made of a plan without arrays: refused where a table has rows and no
    /// columns, missing otherwise.
    pub fn no_arrays(&self) -> Error {
        match self.bare_rows {
            0 => Error::missing("it has no arrays"),
            rows => {
                Error::refused(format!("it has {rows} rows and no columns: nothing holds that"))
                    .hint("give a file with at least one column; `npk inspect` tells the rows")
            }
        }
    }
    /// The index of each array by its name: for more than one question.
    pub fn positions(&self) -> HashMap<&str, usize> {
        let mut positions = HashMap::with_capacity(self.arrays.len());
        for (i, array) in self.arrays.iter().enumerate() {
            positions.entry(array.name.as_str()).or_insert(i);
        }
        positions
    }
    /// The index of the array of this name. Of many names, [`Plan::positions`] knows all in one
    /// pass.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.arrays.iter().position(|a| a.name == name)
    }
    /// Bytes of all arrays whose size is known; text counts nothing.
    pub fn bytes(&self) -> u64 {
        self.arrays.iter().filter_map(|a| a.bytes().ok().flatten()).fold(0, u64::saturating_add)
    }

    /// Tables keep only the columns whose arrays are still there, in the arrays' order.
    pub fn keep_columns(&mut self) {
        let position: HashMap<&str, usize> =
            self.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
        for table in &mut self.tables {
            table.columns.retain(|c| position.contains_key(c.array.as_str()));
            table.columns.sort_by_key(|c| position.get(c.array.as_str()).copied());
            table.index.retain(|i| position.contains_key(i.as_str()));
            if table.matrix.as_ref().is_some_and(|m| !position.contains_key(m.as_str())) {
                table.matrix = None;
            }
        }
        self.tables.retain(|t| !t.columns.is_empty() || t.matrix.is_some());
    }

    /// As [`Plan::keep_columns`], where columns may be logical arrays that are kept in pieces.
    pub fn keep_columns_of_encoded(&mut self) {
        let known: HashSet<&str> = self
            .arrays
            .iter()
            .chain(self.encoded.iter().map(|k| &k.meta))
            .map(|a| a.name.as_str())
            .collect();
        for table in &mut self.tables {
            table.columns.retain(|c| known.contains(c.array.as_str()));
            table.index.retain(|i| known.contains(i.as_str()));
        }
    }
}
