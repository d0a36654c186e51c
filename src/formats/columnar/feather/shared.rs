//! What all readers of an Arrow file or stream share: where its batches and columns are.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arrow_schema::FieldRef;

use super::body::{BatchArray, Wanted};
use super::cursor::Cursor;
use super::index::{Batch, Index};
use crate::arrow_model::{Held, Leaf, LeafType, MemoryLimit};
use crate::error::{Error, Result};
use crate::model::ArrayMeta;
use crate::storage::Blob;

/// An opened file or stream.
pub(super) struct Shared {
    pub(super) blob: Arc<dyn Blob>,
    pub(super) index: Index,
    /// Where each batch begins, and the end.
    pub(super) starts: Vec<u64>,
    /// Per batch: where each leaf of the schema begins in it.
    pub(super) cursors: Vec<Vec<Cursor>>,
    pub(super) columns: Vec<Column>,
    pub(super) metas: Vec<ArrayMeta>,
    pub(super) limit: MemoryLimit,
    /// What all dictionaries hold.
    pub(super) held: Arc<Held>,
    /// Whether all columns of some rows are wanted together.
    pub(super) by_rows: AtomicBool,
    /// Per compressed batch: what all its columns take, unpacked.
    pub(super) unpacked: Vec<OnceLock<u64>>,
}

pub(super) struct Column {
    pub(super) leaf: LeafType,
    /// Its place among the leaves of the schema.
    pub(super) place: usize,
    pub(super) field: FieldRef,
    /// Per dictionary (of a flat column there is at most one): from which batch on which code means
    /// which category.
    pub(super) codes: Vec<Codes>,
    /// Its part of each batch, where only some of its fields are read.
    pub(super) pruned: Option<Vec<Batch>>,
}

impl Column {
    pub(super) fn new(leaf_type: LeafType, leaf: &Leaf, place: usize) -> Column {
        let field = leaf.field.clone();
        Column { leaf: leaf_type, place, field, codes: Vec::new(), pruned: None }
    }
}

/// From which batch on which code means which category.
pub(super) type Codes = Vec<(usize, Vec<u64>)>;

impl Shared {
    /// Where the array of a leaf begins in a batch.
    pub(super) fn locate(&self, batch: usize, place: usize) -> Result<Cursor> {
        let at = self.cursors[batch].get(place).copied();
        at.ok_or_else(|| Error::internal("a column without a place"))
    }

    pub(super) fn batch_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    pub(super) fn part<'a>(
        &'a self,
        column: &'a Column,
        b: usize,
        wanted: Wanted,
    ) -> Result<BatchArray<'a>> {
        let (blob, t) = (self.blob.as_ref(), column.field.data_type());
        if let Some(batch) = column.pruned.as_ref().and_then(|batches| batches.get(b)) {
            return BatchArray::of(blob, batch, t, Cursor::default(), wanted);
        }
        BatchArray::of(blob, &self.index.batches[b], t, self.locate(b, column.place)?, wanted)
    }
}
