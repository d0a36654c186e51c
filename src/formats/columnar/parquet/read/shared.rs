//! What all readers of a Parquet file share: its row groups and columns.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, FieldRef};
use parquet::arrow::FieldLevels;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::TypePtr;

use super::lists::EqualLists;
use super::measure::{Measure, Rows};
use super::pages::{ColumnChunk, Recent};
use crate::arrow_model::{Dictionaries, Held, LeafType, MemoryLimit};
use crate::error::Result;
use crate::model::{self, ArrayMeta, Nested};
use crate::storage::Blob;

/// Bytes that are decoded and handed on together.
pub(super) const UNIT_BYTES: u64 = 4 << 20;
/// Rows are measured in parts of this many bytes at most.
pub(super) const STEP_BYTES: u64 = 4 << 20;

/// What all readers of a file share.
pub(super) struct Shared {
    pub(super) blob: Arc<dyn Blob>,
    pub(super) metadata: Arc<ParquetMetaData>,
    /// Column chunks that are encrypted: row group, column.
    pub(super) encrypted: HashSet<(usize, usize)>,
    /// Where each row group begins, and the end.
    pub(super) starts: Vec<u64>,
    pub(super) columns: Vec<Column>,
    pub(super) metas: model::Shared<Vec<ArrayMeta>>,
    pub(super) limit: MemoryLimit,
    /// Columns whose statistics do not tell all of their nulls.
    pub(super) uncounted: HashSet<usize>,
    pub(super) jobs: usize,
    /// Bytes of the limit for one of the pieces in flight.
    pub(super) share: u64,
    /// What was measured of columns last.
    pub(super) measured: Mutex<VecDeque<Measures>>,
    /// What all dictionaries hold.
    pub(super) held: Arc<Held>,
    pub(super) recent: Recent,
}

/// What the crate is asked to decode.
pub(super) enum Levels {
    Made(Box<FieldLevels>),
    /// Made for each reader: of thousands of columns they take more than their rows.
    Of {
        column: TypePtr,
        reading: FieldRef,
        path: Box<[usize]>,
    },
}

/// A column: one logical array. There may be thousands: what few of them have is not held by the
/// others.
pub(super) struct Column {
    pub(super) leaf: LeafType,
    /// Its Parquet column.
    pub(super) parquet: usize,
    /// What the crate is asked to decode.
    pub(super) levels: Option<Levels>,
    /// How many structs it is nested in.
    pub(super) structs: usize,
    pub(super) dictionary: Option<Box<Dictionaries>>,
    /// Texts that the crate takes as they are: it looks only at those whose converted type says
    /// that they are UTF-8.
    pub(super) unchecked: bool,
    /// Lists of one length, without a null: read page by page.
    pub(super) lists: Option<Box<EqualLists>>,
    /// Its leaves, where it travels as Arrow arrays.
    pub(super) nested: Option<Box<NestedColumn>>,
    /// Whether it is null where a struct above it is.
    pub(super) merges: bool,
    /// Bytes of its pages, unpacked, as the footer tells.
    pub(super) unpacked: u64,
    /// What its rows are made of, and how much they take where that was looked at.
    pub(super) rows: Rows,
    /// Rows are measured so that parts of this many bytes can be read.
    pub(super) step: u64,
    pub(super) measures: Measures,
}

/// A nested column of a file.
pub(super) struct NestedColumn {
    pub(super) nested: Arc<Nested>,
    pub(super) dictionaries: Vec<Dictionaries>,
    /// Its leaves, in order.
    pub(super) leaves: Vec<Column>,
}

/// What was measured of a column: the row group, and its rows.
pub(super) type Measures = Arc<Mutex<VecDeque<(usize, Arc<Mutex<Measure>>)>>>;

impl Column {
    /// One that cannot be read.
    pub(super) fn none(parquet: usize) -> Column {
        Column {
            leaf: LeafType::unread(DataType::Null),
            parquet,
            levels: None,
            structs: 0,
            dictionary: None,
            unchecked: false,
            lists: None,
            nested: None,
            merges: false,
            unpacked: 0,
            rows: Rows::Fixed(1),
            step: STEP_BYTES,
            measures: Measures::default(),
        }
    }
}

impl Shared {
    /// The nulls of a column in a row group, where its statistics tell.
    pub(super) fn null_count(&self, group: &RowGroupMetaData, column: usize) -> Option<u64> {
        let told = group.column(column).statistics().and_then(|s| s.null_count_opt());
        told.filter(|_| !self.uncounted.contains(&column))
    }

    /// A column in a row group.
    ///
    /// # Errors
    /// Corrupt where it is not in the file.
    pub(super) fn chunk(&self, g: usize, column: usize) -> Result<ColumnChunk> {
        ColumnChunk::of(&self.blob, &self.metadata, (g, column), self.limit, &self.recent)
    }

    pub(super) fn group_rows(&self, g: usize) -> u64 {
        self.starts[g + 1] - self.starts[g]
    }
}
