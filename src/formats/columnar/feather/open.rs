//! Opening Arrow files and streams: one logical array a column.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::big_endian::little_endian;
use super::columns::ColumnRequest;
use super::cursor::{cursors, null_structs};
use super::index::{Batch, Index};
use super::shared::Shared;
use super::spooled::held_or_spooled;
use super::{file_form, index, stream_form, version1};
use crate::arrow_model::{self, Held, MemoryLimit};
use crate::error::{Error, Result};
use crate::format::{Order, ReadOptions, Reader, Source, readable};
use crate::formats::columnar::names::column_names;
use crate::model::{ArrayMeta, Attributes, Column as TableColumn, Dtype, Logical, Plan, Table};
use crate::storage::{Blob, Location};

/// An opened Arrow file or stream.
pub(super) struct ArrowSource {
    plan: Plan,
    shared: Arc<Shared>,
}

impl ArrowSource {
    pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<ArrowSource> {
        let blob: Arc<dyn Blob> = if at.is_stream() {
            held_or_spooled(at, options.resources.memory_bytes() / 4)?
        } else {
            at.blob()?
        };
        let mut index = read_index(blob.as_ref(), options.resources.memory_bytes())?;
        let limit = MemoryLimit(options.resources.memory_bytes());
        let blob = match index.is_big_endian {
            true => little_endian(blob.as_ref(), &mut index, limit)?,
            false => blob,
        };
        let starts = batch_starts(&index.batches)?;
        let rows = starts[starts.len() - 1];
        check_rows(rows, blob.len())?;
        let whole = match options.whole_structs {
            true => (0..index.schema.fields().len()).collect(),
            false => null_structs(&index.schema, &index.batches),
        };
        let leaves = arrow_model::leaves(&index.schema, &whole);
        let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
        let names = column_names(&headers, options.on_duplicate)?;
        let cursors =
            index.batches.iter().map(|batch| cursors(&index.schema, &whole, batch)).collect();
        let request = ColumnRequest {
            dictionaries: index.dictionaries_by_id(),
            categories: !options.types_only,
            choice: options.choice.as_ref(),
        };
        let mut shared = Shared {
            blob,
            unpacked: vec![OnceLock::new(); index.batches.len()],
            index,
            starts,
            cursors,
            columns: Vec::new(),
            metas: Vec::new(),
            limit,
            held: Arc::new(Held::new(limit)),
            by_rows: AtomicBool::new(false),
        };
        let mut table = Table::default();
        for (place, (leaf, name)) in leaves.iter().zip(names).enumerate() {
            let Some(name) = name else { continue };
            table.columns.push(TableColumn::read(&name, &leaf.name));
            let meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            let (column, meta) = shared.column(leaf, place, &request, meta)?;
            shared.columns.push(column);
            shared.metas.push(meta);
        }
        let (mut attributes, metadata) = arrow_model::schema_metadata(&shared.index.schema);
        add_footer_metadata(&mut shared.index, &mut attributes);
        table.index = arrow_model::pandas_index(&metadata, &table.columns);
        table.metadata = metadata;
        let plan = Plan {
            format: "feather",
            format_version: Some(shared.index.form.into()),
            arrays: shared.metas.clone().into(),
            tables: vec![table].into(),
            attributes: attributes.into(),
            notes: std::mem::take(&mut shared.index.notes),
            ..Plan::default()
        };
        Ok(ArrowSource { plan: plan.with_rows(rows), shared: Arc::new(shared) })
    }
}

fn read_index(blob: &dyn Blob, memory_bytes: u64) -> Result<Index> {
    let head = blob.read_vec(0, blob.len().min(8))?;
    if head.starts_with(version1::MAGIC) {
        return version1::index(blob);
    }
    match head.starts_with(index::MAGIC) {
        true => file_form::index(blob, memory_bytes),
        false => stream_form::index(blob, memory_bytes),
    }
}

/// Where each batch begins, and the end.
fn batch_starts(batches: &[Batch]) -> Result<Vec<u64>> {
    let mut starts = vec![0u64];
    for batch in batches {
        let end = starts[starts.len() - 1].checked_add(batch.rows).filter(|&e| e < 1 << 62);
        starts.push(end.ok_or_else(|| Error::corrupt("the batches have too many rows"))?);
    }
    Ok(starts)
}

/// Columns of nulls, of empty structs and of lists of no elements have no bytes: any number of rows of
/// them is claimed in a few bytes, and all of them would be gone through.
///
/// # Errors
/// Refused: more rows than any bytes could hold, and more than a few millions.
fn check_rows(rows: u64, bytes: u64) -> Result<()> {
    const FEW: u64 = 1 << 24;
    // A bit each, packed by zstd as well as it can: 128 KiB in a block of 4 bytes.
    const MAX_IN_BYTE: u64 = 8 << 15;
    match rows <= bytes.saturating_mul(MAX_IN_BYTE).saturating_add(FEW) {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "{rows} rows are claimed in a file of {bytes} bytes, which can hold none of their values"
        ))),
    }
}

/// Adds the metadata of a file's footer to that of its schema, which is kept where both differ.
fn add_footer_metadata(index: &mut Index, attributes: &mut Attributes) {
    for (key, value) in std::mem::take(&mut index.metadata) {
        let value = serde_json::Value::String(value);
        if attributes.get(&key).is_some_and(|other| *other != value) {
            index.notes.push(format!("the metadata '{key}' of the footer is left out: the schema has another one of this name"));
        } else {
            attributes.insert(key, value);
        }
    }
}

impl Source for ArrowSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        self.shared.by_rows.store(wish == Order::RowBlocks, Ordering::Relaxed);
        arrays.iter().try_for_each(|&a| readable(&self.plan.arrays[a]))?;
        Ok(Reader::Random(self.shared.clone()))
    }
}
