//! Reading Arrow files and streams: one logical array a column, random access by record batches.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};

use super::body::{Wanted, decode};
use super::index::{Batch, Cursor, Index, cursors, skip};
use crate::codec::arrow_model::{self, Dictionaries, Leaf, LeafType, Level};
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Order, ReadOptions, ReadRows, Source, readable};
use crate::location::{Blob, Location, MemoryBlob, temporary};
use crate::model::{ArrayMeta, Chunk, Column as TableColumn, Dtype, Logical, Plan, Table, Values};

/// Decoded bytes of a chunk that is handed on, where a batch can be cut.
const CHUNK_BYTES: u64 = 4 << 20;

/// An opened Arrow file or stream.
pub(super) struct ArrowSource {
    plan: Plan,
    shared: Arc<Shared>,
}

struct Shared {
    blob: Arc<dyn Blob>,
    index: Index,
    /// Where each batch begins, and the end.
    starts: Vec<u64>,
    /// Per batch: where each leaf of the schema begins in it.
    cursors: Vec<Vec<(Cursor, bool)>>,
    columns: Vec<Column>,
    metas: Vec<ArrayMeta>,
}

struct Column {
    leaf: LeafType,
    /// Its place among the leaves of the schema, and its field.
    place: usize,
    field: FieldRef,
    /// For a dictionary column: from which batch on which code means which category.
    codes: Vec<(usize, Vec<u64>)>,
}

impl ArrowSource {
    pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<ArrowSource> {
        let blob: Arc<dyn Blob> = if at.is_stream() { held_or_spooled(at, options.memory_bytes / 4)? } else { at.blob()? };
        let index = Index::read(blob.as_ref())?;
        let mut starts = vec![0u64];
        for batch in &index.batches {
            let end = starts[starts.len() - 1].checked_add(batch.rows).filter(|&e| e < 1 << 62);
            starts.push(end.ok_or_else(|| Error::corrupt("the batches have too many rows"))?);
        }
        let rows = starts[starts.len() - 1];
        let leaves = arrow_model::leaves(&index.schema);
        let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
        let names = arrow_model::column_names(&headers, options.on_duplicate)?;
        let cursors = index.batches.iter().map(|batch| cursors(&index.schema, batch)).collect();
        let mut dictionaries: HashMap<i64, Vec<usize>> = HashMap::new();
        for (d, batch) in index.dictionaries.iter().enumerate() {
            dictionaries.entry(batch.id).or_default().push(d);
        }
        let mut shared = Shared { blob, index, starts, cursors, columns: Vec::new(), metas: Vec::new() };
        let mut table = Table::default();
        for (place, (leaf, name)) in leaves.iter().zip(names).enumerate() {
            let Some(name) = name else { continue };
            table.columns.push(TableColumn::read(&name, &leaf.name));
            let mut meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            let dictionaries = (&dictionaries, !options.types_only);
            let column = crate::error::foreign("arrow", || shared.column(leaf, place, dictionaries, &mut meta));
            shared.columns.push(match column {
                Ok(column) => column,
                Err(e) => {
                    meta.details.stored_dtype = Some(arrow_model::type_name(leaf.field.data_type()));
                    meta.details.error = Some(Arc::new(e.of_data()?));
                    let none = LeafType { levels: Vec::new(), element: DataType::Null, dtype: Dtype::U8, logical: Logical::Plain };
                    Column { leaf: none, place, field: leaf.field.clone(), codes: Vec::new() }
                }
            });
            shared.metas.push(meta);
        }
        let (mut attributes, metadata) = arrow_model::schema_metadata(&shared.index.schema);
        let mut notes = std::mem::take(&mut shared.index.notes);
        for (key, value) in std::mem::take(&mut shared.index.metadata) {
            let value = serde_json::Value::String(value);
            if attributes.get(&key).is_some_and(|other| *other != value) {
                notes.push(format!("the metadata '{key}' of the footer is left out: the schema has another one of this name"));
            } else {
                attributes.insert(key, value);
            }
        }
        table.index = arrow_model::pandas_index(&metadata, &table.columns);
        table.metadata = metadata;
        let plan = Plan {
            format: "feather",
            format_version: Some(shared.index.form.into()),
            arrays: shared.metas.clone().into(),
            tables: vec![table],
            attributes,
            notes,
            ..Plan::default()
        };
        Ok(ArrowSource { plan, shared: Arc::new(shared) })
    }
}

/// The bytes of a pipe: in memory if there are few, in a temporary file without a name otherwise.
fn held_or_spooled(at: &Location, most: u64) -> Result<Arc<dyn Blob>> {
    let mut stream = at.stream()?;
    let mut head = Vec::new();
    stream.by_ref().take(most.saturating_add(1)).read_to_end(&mut head).map_err(Error::reading)?;
    if head.len() as u64 <= most {
        return Ok(Arc::new(MemoryBlob(head)));
    }
    let mut file = temporary::file()?;
    let len = crate::location::copy_to_temporary(&mut head.as_slice().chain(stream), &mut file)?;
    Ok(Arc::new(Spooled { file: Arc::new(file), len }))
}

struct Spooled {
    file: Arc<std::fs::File>,
    len: u64,
}

impl Blob for Spooled {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        self.file.read_exact_at(buf, offset).map_err(Error::reading)
    }
    fn file(&self) -> Option<&Arc<std::fs::File>> {
        Some(&self.file)
    }
}

impl Shared {
    /// `place`: the leaf's among all; `dictionaries`: the dictionary batches of each id, and whether categories are wanted.
    fn column(
        &self,
        leaf: &Leaf,
        place: usize,
        (dictionaries, categories): (&HashMap<i64, Vec<usize>>, bool),
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let holds = match &leaf.holds {
            Ok(holds) => holds.clone(),
            Err(e) => return Err(Error::clone(e)),
        };
        meta.dtype = holds.dtype;
        meta.logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
        let mut column = Column { leaf: holds, place, field: leaf.field.clone(), codes: Vec::new() };
        if let (Logical::Dictionary { categories: items, .. }, DataType::Dictionary(_, values)) = (&meta.logical, &column.leaf.element) {
            let merged = Dictionaries::new(items.clone());
            let id = self.index.ids.get(&leaf.path);
            let id = id.ok_or_else(|| Error::corrupt("a dictionary column has no dictionary id"))?;
            // A further stream has dictionaries of its own.
            let mut further = self.index.further.iter();
            let mut stream = 0;
            for &d in dictionaries.get(id).map(Vec::as_slice).unwrap_or_default() {
                let batch = &self.index.dictionaries[d];
                meta.nulls |= batch.values.nodes.first().is_some_and(|node| node.1 > 0);
                if !categories {
                    continue;
                }
                column.codes.extend(further.by_ref().take(batch.stream - stream).map(|first| (*first, Vec::new())));
                stream = batch.stream;
                let array = decode(self.blob.as_ref(), &batch.values, values, Cursor::default(), Wanted::All)?;
                let codes = merged.merge(array.as_ref())?;
                match column.codes.last_mut() {
                    Some((_, last)) if batch.is_delta => last.extend(codes),
                    _ => column.codes.push((batch.before, codes)),
                }
            }
            column.codes.extend(further.map(|first| (*first, Vec::new())));
        }
        let mut stored = 0u64;
        let mut inner_nulls = false;
        for (b, batch) in self.index.batches.iter().enumerate() {
            let at = self.locate(b, place)?;
            let mut end = at;
            skip(leaf.field.data_type(), batch, &mut end);
            let buffers = batch.buffers.get(at.buffer..end.buffer).ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
            stored = buffers.iter().fold(stored, |n, (_, len)| n.saturating_add(*len));
            let nodes = batch.nodes.get(at.node..end.node).ok_or_else(|| Error::corrupt("a batch has too few arrays"))?;
            let Some(&(len, nulls)) = nodes.first() else { return Err(Error::corrupt("a batch has too few arrays")) };
            if len != batch.rows {
                return Err(Error::corrupt(format!("a column has {len} rows in a batch of {}", batch.rows)));
            }
            meta.nulls |= nulls > 0 || column.leaf.element == DataType::Null && len > 0;
            inner_nulls |= nodes[1..].iter().any(|n| n.1 > 0);
        }
        let compression = self.index.batches.last().and_then(|batch| batch.compression);
        meta.details.compression = Some(compression.map_or("none".into(), |c| format!("{c:?}").to_lowercase().replace("lz4_frame", "lz4")));
        meta.details.stored_bytes = Some(stored);
        self.look(&column, leaf, meta)?;
        if inner_nulls {
            // Harmless only below lists that are null themselves: the values tell.
            for (b, batch) in self.index.batches.iter().enumerate() {
                let array = decode(self.blob.as_ref(), batch, leaf.field.data_type(), self.locate(b, place)?, Wanted::All)?;
                arrow_model::chunk(&array, &column.leaf, meta, None, 0, self.starts[b])?;
            }
        }
        Ok(column)
    }

    /// List lengths.
    fn look(&self, column: &Column, leaf: &Leaf, meta: &mut ArrayMeta) -> Result<()> {
        let any = column.leaf.levels.iter().filter(|l| **l == Level::Any).count();
        let mut lengths = vec![None; any];
        let mut equal = true;
        if any > 0 {
            for (b, batch) in self.index.batches.iter().enumerate() {
                let at = self.locate(b, column.place)?;
                let array = decode(self.blob.as_ref(), batch, leaf.field.data_type(), at, Wanted::Lists)?;
                equal = equal && arrow_model::list_lengths(&array, &column.leaf.levels, &mut lengths)?;
            }
        }
        arrow_model::settle_lists(&column.leaf, equal, &lengths, meta)
    }

    /// Where the array of a leaf begins in a batch.
    fn locate(&self, batch: usize, place: usize) -> Result<Cursor> {
        match self.cursors[batch].get(place) {
            Some((at, false)) => Ok(*at),
            Some((_, true)) => Err(arrow_model::null_struct()),
            None => Err(Error::internal("a column without a place")),
        }
    }

    fn batch_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    /// Rows that can be read on their own: uncompressed values of fixed size, not bits.
    fn sliced(&self, array: usize, batch: &Batch) -> bool {
        let meta = &self.metas[array];
        let flat = self.columns[array].leaf.levels.is_empty();
        batch.compression.is_none()
            && flat
            && !meta.logical.is_var()
            && meta.dtype != Dtype::Bool
            && self.columns[array].codes.is_empty()
            && !matches!(meta.logical, Logical::Dictionary { .. })
    }

    /// The array of some rows of a batch.
    fn rows_of(&self, array: usize, b: usize, rows: Range<u64>) -> Result<ArrayRef> {
        let (column, batch) = (&self.columns[array], &self.index.batches[b]);
        let at = self.locate(b, column.place)?;
        let field = &column.field;
        if self.sliced(array, batch) && rows.end - rows.start < batch.rows {
            // Only these rows' bytes: whole bytes of validity, then the values.
            let part = part_of(batch, at, &rows, self.metas[array].dtype.item_bytes())?;
            let skip_bits = (rows.start % 8) as usize;
            let decoded = decode(self.blob.as_ref(), &part, field.data_type(), Cursor::default(), Wanted::All)?;
            return Ok(decoded.slice(skip_bits, (rows.end - rows.start) as usize));
        }
        let whole = decode(self.blob.as_ref(), batch, field.data_type(), at, Wanted::All)?;
        Ok(whole.slice(rows.start as usize, (rows.end - rows.start) as usize))
    }
}

/// A batch of only these rows of one flat column, from the byte of validity on that holds the first.
fn part_of(batch: &Batch, at: Cursor, rows: &Range<u64>, item: u64) -> Result<Batch> {
    let start = rows.start / 8 * 8;
    let few = || Error::corrupt("a batch has too few buffers");
    let (validity, values) = (batch.buffers.get(at.buffer).ok_or_else(few)?, batch.buffers.get(at.buffer + 1).ok_or_else(few)?);
    let nulls = batch.nodes.get(at.node).ok_or_else(few)?.1;
    let short = || Error::corrupt(format!("a buffer of {} bytes does not reach row {}", values.1, rows.end));
    let values_end = rows.end.checked_mul(item).filter(|&e| e <= values.1).ok_or_else(short)?;
    let validity = if nulls > 0 {
        let end = rows.end.div_ceil(8);
        if end > validity.1 {
            return Err(short());
        }
        (validity.0 + start / 8, end - start / 8)
    } else {
        (validity.0, 0)
    };
    Ok(Batch {
        rows: rows.end - start,
        nodes: vec![(rows.end - start, nulls)],
        buffers: vec![validity, (values.0 + start * item, values_end - start * item)],
        compression: None,
        variadic: Vec::new(),
        before_v5: batch.before_v5,
    })
}

impl ReadRows for Shared {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let b = self.batch_of(row);
        let Some(batch) = self.index.batches.get(b) else { return u64::MAX };
        if self.columns[array].leaf.element == DataType::Null {
            return u64::MAX;
        }
        if self.sliced(array, batch) {
            let rows = (CHUNK_BYTES * 2 / self.metas[array].dtype.item_bytes()) / 8 * 8;
            let start = self.starts[b];
            return (start + ((row - start) / rows + 1) * rows).min(self.starts[b + 1]);
        }
        self.starts[b + 1]
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let meta = &self.metas[array];
        if self.columns[array].leaf.element == DataType::Null {
            return Some((rows.end - rows.start).saturating_mul(9));
        }
        let row = if meta.logical.is_var() {
            let total = self.starts[self.starts.len() - 1].max(1);
            let packed = if meta.details.compression.as_deref() == Some("none") { 1 } else { 4 };
            meta.details.stored_bytes.unwrap_or(0).saturating_mul(packed) / total + 9
        } else {
            meta.row_bytes().unwrap_or(1).max(1)
        };
        Some((rows.end - rows.start).saturating_mul(row).saturating_mul(2))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let mut at = rows.start;
        while at < rows.end {
            let b = self.batch_of(at);
            let start = self.starts[b];
            let mut end = self.starts[b + 1].min(rows.end);
            if column.leaf.element == DataType::Null {
                end = end.min(at + (1 << 18));
                emit(nulls(array, at, end - at))?;
                at = end;
                continue;
            }
            if self.sliced(array, &self.index.batches[b]) {
                end = end.min(at + CHUNK_BYTES / meta.dtype.item_bytes());
            }
            let part = self.rows_of(array, b, at - start..end - start).at_array(&meta.name)?;
            let chunk = if let Logical::Dictionary { .. } = meta.logical {
                let last = column.codes.partition_point(|(from, _)| *from <= b).checked_sub(1);
                let codes = last.map(|last| column.codes[last].1.as_slice()).unwrap_or_default();
                let (values, valid) = arrow_model::coded(part.as_ref(), codes, meta.dtype, at).at_array(&meta.name)?;
                Chunk { array, first_row: at, rows: end - at, values, valid }
            } else {
                arrow_model::chunk(&part, &column.leaf, meta, None, array, at).at_array(&meta.name)?
            };
            if chunk.valid.is_some() && !meta.nulls {
                return Err(Error::corrupt("it has nulls, but its batches declare none").array(&meta.name));
            }
            emit(chunk)?;
            at = end;
        }
        Ok(())
    }
}

/// Rows that are all null.
fn nulls(array: usize, first_row: u64, rows: u64) -> Chunk {
    let n = rows as usize;
    let values = Values::Var { offsets: vec![0; n + 1], values: Vec::<u8>::new().into() };
    Chunk { array, first_row, rows, values, valid: Some(vec![0u8; n].into()) }
}

impl Source for ArrowSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        arrays.iter().try_for_each(|&a| readable(&self.plan.arrays[a]))?;
        Ok(wish)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(self.shared.clone())
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let (shared, meta) = (&self.shared, &self.plan.arrays[array]);
        let file = shared.blob.file()?;
        let column = shared.columns.get(array)?;
        let fixed_lists = column.leaf.levels.iter().all(|l| matches!(l, Level::Fixed(_)));
        let plain = !meta.logical.is_var() && !matches!(meta.logical, Logical::Dictionary { .. }) && meta.dtype != Dtype::Bool;
        if meta.nulls || meta.details.error.is_some() || !fixed_lists || !plain {
            return None;
        }
        let row = meta.row_bytes().ok()?;
        let mut extents = Vec::new();
        for (b, batch) in shared.index.batches.iter().enumerate() {
            if batch.compression.is_some() {
                return None;
            }
            let mut at = shared.locate(b, column.place).ok()?;
            at.buffer += column.leaf.levels.len();
            let &(offset, held) = batch.buffers.get(at.buffer + 1)?;
            let len = batch.rows.checked_mul(row).filter(|&n| n <= held)?;
            extents.push(Extent { file: file.clone(), offset, len });
        }
        Some(extents)
    }
}
