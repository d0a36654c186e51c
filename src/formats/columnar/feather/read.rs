//! Reading Arrow files and streams: one logical array a column, random access by record batches.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::ArrayRef;
use arrow_schema::{DataType, FieldRef};

use super::big_endian::little_endian;
use super::body::{Part, UNIT_BYTES, Wanted};
use super::index::{Batch, Cursor, Index, cursors, null_structs, skip};
use crate::arrow_model::{self, Dictionaries, Held, Leaf, LeafType, Level, MemoryLimit};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{
    Choice, Emit, Extent, Order, Piece, ReadOptions, ReadRows, Reader, Source, readable,
};
use crate::formats::columnar::names::column_names;
use crate::model::nested::{dictionary_paths, walk};
use crate::model::{
    ArrayMeta, Categories, Chunk, Column as TableColumn, Dtype, Logical, Plan, Table, Values,
};
use crate::storage::{Blob, Location, MemoryBlob, temporary};

/// More batches than this are not looked at one by one to tell what some rows take.
const FEW_BATCHES: usize = 64;
/// What compressed bytes may unpack to, over a network: nobody waits to be told.
const USUAL_RATIO: u64 = 4;
/// A compressed batch is unpacked this often at most for the parts of a table that is read row by
/// row.
const MAX_PARTS: u64 = 16;

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
    cursors: Vec<Vec<Cursor>>,
    columns: Vec<Column>,
    metas: Vec<ArrayMeta>,
    limit: MemoryLimit,
    /// What all dictionaries hold.
    held: Arc<Held>,
    /// Whether all columns of some rows are wanted together.
    by_rows: AtomicBool,
    /// Per compressed batch: what all its columns take, unpacked.
    unpacked: Vec<OnceLock<u64>>,
}

struct Column {
    leaf: LeafType,
    /// Its place among the leaves of the schema, and its field.
    place: usize,
    field: FieldRef,
    /// Per dictionary (of a flat column there is at most one): from which batch on which code means
    /// which category.
    codes: Vec<Codes>,
    /// Its part of each batch, where only some of its fields are read.
    pruned: Option<Vec<Batch>>,
}

impl Column {
    fn new(leaf_type: LeafType, leaf: &Leaf, place: usize) -> Column {
        let field = leaf.field.clone();
        Column { leaf: leaf_type, place, field, codes: Vec::new(), pruned: None }
    }
}

type Codes = Vec<(usize, Vec<u64>)>;

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

impl ArrowSource {
    pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<ArrowSource> {
        let blob: Arc<dyn Blob> = if at.is_stream() {
            held_or_spooled(at, options.resources.memory_bytes() / 4)?
        } else {
            at.blob()?
        };
        let mut index = Index::read(blob.as_ref())?;
        let limit = MemoryLimit(options.resources.memory_bytes());
        let blob = match index.is_big_endian {
            true => little_endian(blob.as_ref(), &mut index, limit)?,
            false => blob,
        };
        let mut starts = vec![0u64];
        for batch in &index.batches {
            let end = starts[starts.len() - 1].checked_add(batch.rows).filter(|&e| e < 1 << 62);
            starts.push(end.ok_or_else(|| Error::corrupt("the batches have too many rows"))?);
        }
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
        let mut dictionaries: HashMap<i64, Vec<usize>> = HashMap::new();
        for (d, batch) in index.dictionaries.iter().enumerate() {
            dictionaries.entry(batch.id).or_default().push(d);
        }
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
            let mut meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            let dictionaries = (&dictionaries, !options.types_only);
            let mut flat = meta.clone();
            let column = crate::error::foreign("arrow", || {
                match shared.column(leaf, place, dictionaries, &mut flat) {
                    Ok(column) => {
                        meta = flat;
                        Ok(column)
                    }
                    // What does not fit rows of numbers and texts.
                    Err(e) if e.kind() == ErrorKind::Refused => {
                        let choice = options.choice.as_ref();
                        shared.nested_column(leaf, place, dictionaries, choice, &mut meta)
                    }
                    Err(e) => Err(e),
                }
            });
            shared.columns.push(match column {
                Ok(column) => column,
                Err(e) => {
                    meta.details.stored_dtype =
                        Some(arrow_model::type_name(leaf.field.data_type()));
                    meta.details.error = Some(Arc::new(e.of_data()?));
                    let none = LeafType {
                        levels: Vec::new(),
                        element: DataType::Null,
                        dtype: Dtype::U8,
                        logical: Logical::Plain,
                    };
                    Column::new(none, leaf, place)
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
        Ok(ArrowSource { plan: plan.with_rows(rows), shared: Arc::new(shared) })
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
    let len = crate::storage::copy_to_temporary(&mut head.as_slice().chain(stream), &mut file)?;
    Ok(Arc::new(Spooled { file: Arc::new(file), len }))
}

pub(super) struct Spooled {
    pub(super) file: Arc<std::fs::File>,
    pub(super) len: u64,
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
    /// `place`: the leaf's among all; `dictionaries`: the dictionary batches of each id, and
    /// whether categories are wanted.
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
        let mut column = Column::new(holds, leaf, place);
        if let (Logical::Dictionary { categories: items, .. }, DataType::Dictionary(_, values)) =
            (&meta.logical, &column.leaf.element)
        {
            let (codes, nulls) = self.codes(&leaf.path, values, items, dictionaries, categories)?;
            column.codes.push(codes);
            meta.nulls |= nulls;
        }
        let inner_nulls = self.stored(leaf, place, &column, meta)?;
        self.look(&column, meta)?;
        if inner_nulls {
            // Harmless only below lists that are null themselves: the values tell.
            for (b, batch) in self.index.batches.iter().enumerate() {
                self.part(&column, b, Wanted::All)?.each(
                    0..batch.rows,
                    self.limit,
                    UNIT_BYTES,
                    &mut |array, first| {
                        arrow_model::chunk(
                            &array,
                            &column.leaf,
                            meta,
                            None,
                            0,
                            self.starts[b] + first,
                        )
                        .map(drop)
                    },
                )?;
            }
        }
        Ok(column)
    }

    /// As [`Shared::column`], of a column that travels as Arrow arrays.
    fn nested_column(
        &self,
        leaf: &Leaf,
        place: usize,
        (dictionaries, categories): (&HashMap<i64, Vec<usize>>, bool),
        choice: Option<&Choice>,
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let pruned = choice.and_then(|choice| choice.inside(&meta.name, &leaf.field));
        let field = pruned.as_ref().map_or(&leaf.field, |pruned| &pruned.field);
        let kept = |number: usize| pruned.as_ref().is_none_or(|p| p.kept[number]);
        let mut nested = arrow_model::nested(field)?;
        let mut nulls = self.nulls(leaf, place)?;
        let none = LeafType {
            levels: Vec::new(),
            element: field.data_type().clone(),
            dtype: Dtype::U8,
            logical: Logical::Plain,
        };
        let mut column = Column { field: field.clone(), ..Column::new(none, leaf, place) };
        let paths = dictionary_paths(leaf.field.data_type(), leaf.path.clone());
        let coded = walk(leaf.field.data_type()).into_iter().enumerate();
        let coded = coded.filter(|(_, t)| matches!(t, DataType::Dictionary(..)));
        let mut items = nested.dictionaries.iter();
        for (path, (number, t)) in paths.iter().zip(coded).filter(|(_, (n, _))| kept(*n)) {
            let (DataType::Dictionary(_, values), Some(items)) = (t, items.next()) else {
                return Err(Error::internal("a dictionary without categories"));
            };
            let (codes, null) = self.codes(path, values, items, dictionaries, categories)?;
            column.codes.push(codes);
            nulls[number] |= null;
        }
        meta.nulls = false;
        self.stored(leaf, place, &column, meta)?;
        if let Some(pruned) = &pruned {
            let mut batches = Vec::new();
            for (b, batch) in self.index.batches.iter().enumerate() {
                let at = self.locate(b, place)?;
                batches.push(batch.pruned(leaf.field.data_type(), at, &pruned.kept)?);
            }
            column.pruned = Some(batches);
        }
        let mut number = 0..;
        nulls.retain(|_| number.next().is_none_or(kept));
        nested.nulls = Some(nulls);
        meta.logical = Logical::Nested(Arc::new(nested));
        meta.nulls = false;
        Ok(column)
    }

    /// Whether nulls are in each field of a walk through a leaf's type.
    fn nulls(&self, leaf: &Leaf, place: usize) -> Result<Vec<bool>> {
        let mut found = vec![false; walk(leaf.field.data_type()).len()];
        for (b, batch) in self.index.batches.iter().enumerate() {
            let nodes = batch.nodes.get(self.locate(b, place)?.node..).unwrap_or_default();
            if nodes.len() < found.len() {
                return Err(Error::corrupt("a batch has too few arrays"));
            }
            for (found, (_, nulls)) in found.iter_mut().zip(nodes) {
                *found |= *nulls > 0;
            }
        }
        Ok(found)
    }

    /// What the keys of a dictionary mean, and whether one of them is null. The categories are
    /// collected where they are wanted.
    fn codes(
        &self,
        path: &[usize],
        values: &DataType,
        items: &Arc<Categories>,
        dictionaries: &HashMap<i64, Vec<usize>>,
        wanted: bool,
    ) -> Result<(Codes, bool)> {
        let (mut all, mut nulls) = (Codes::new(), false);
        let merged = Dictionaries::new(items.clone(), self.held.clone());
        let id = self.index.ids.get(path);
        let id = id.ok_or_else(|| Error::corrupt("a dictionary column has no dictionary id"))?;
        // A further stream has dictionaries of its own.
        let mut further = self.index.further.iter();
        let mut stream = 0;
        for &d in dictionaries.get(id).map(Vec::as_slice).unwrap_or_default() {
            let batch = &self.index.dictionaries[d];
            nulls |= batch.values.nodes.first().is_some_and(|node| node.1 > 0);
            if !wanted {
                continue;
            }
            all.extend(
                further.by_ref().take(batch.stream - stream).map(|first| (*first, Vec::new())),
            );
            stream = batch.stream;
            let part = Part::of(
                self.blob.as_ref(),
                &batch.values,
                values,
                Cursor::default(),
                Wanted::All,
            )?;
            let count = batch.values.nodes.first().map_or(0, |node| node.0);
            let mut codes = Vec::new();
            part.each(0..count, self.limit, UNIT_BYTES, &mut |array, _| {
                self.held.take(8 * array.len() as u64)?;
                codes.extend(merged.merge(array.as_ref())?);
                Ok(())
            })?;
            match all.last_mut() {
                Some((_, last)) if batch.is_delta => last.extend(codes),
                _ => all.push((batch.before, codes)),
            }
        }
        all.extend(further.map(|first| (*first, Vec::new())));
        Ok((all, nulls))
    }

    /// Fills in what the headers tell of an array; whether something is null inside of its rows.
    fn stored(
        &self,
        leaf: &Leaf,
        place: usize,
        column: &Column,
        meta: &mut ArrayMeta,
    ) -> Result<bool> {
        let mut stored = 0u64;
        let mut inner_nulls = false;
        for (b, batch) in self.index.batches.iter().enumerate() {
            let at = self.locate(b, place)?;
            let mut end = at;
            skip(leaf.field.data_type(), batch, &mut end);
            let buffers = batch
                .buffers
                .get(at.buffer..end.buffer)
                .ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
            stored = buffers.iter().fold(stored, |n, (_, len)| n.saturating_add(*len));
            let nodes = batch
                .nodes
                .get(at.node..end.node)
                .ok_or_else(|| Error::corrupt("a batch has too few arrays"))?;
            let Some(&(len, nulls)) = nodes.first() else {
                return Err(Error::corrupt("a batch has too few arrays"));
            };
            if len != batch.rows {
                return Err(Error::corrupt(format!(
                    "a column has {len} rows in a batch of {}",
                    batch.rows
                )));
            }
            meta.nulls |= nulls > 0 || column.leaf.element == DataType::Null && len > 0;
            inner_nulls |= nodes[1..].iter().any(|n| n.1 > 0);
        }
        let compression = self.index.batches.last().and_then(|batch| batch.compression);
        meta.details.compression = Some(compression.map_or("none".into(), |c| {
            format!("{c:?}").to_lowercase().replace("lz4_frame", "lz4")
        }));
        meta.details.stored_bytes = Some(stored);
        Ok(inner_nulls)
    }

    /// List lengths.
    fn look(&self, column: &Column, meta: &mut ArrayMeta) -> Result<()> {
        let any = column.leaf.levels.iter().filter(|l| **l == Level::Any).count();
        let mut lengths = vec![None; any];
        let mut equal = true;
        if any > 0 {
            for (b, batch) in self.index.batches.iter().enumerate() {
                if !equal {
                    break;
                }
                self.part(column, b, Wanted::Lists)?.each(
                    0..batch.rows,
                    self.limit,
                    UNIT_BYTES,
                    &mut |array, _| {
                        equal = equal
                            && arrow_model::list_lengths(
                                &array,
                                &column.leaf.levels,
                                &mut lengths,
                            )?;
                        Ok(())
                    },
                )?;
            }
        }
        arrow_model::settle_lists(&column.leaf, equal, &lengths, meta)
    }

    /// Where the array of a leaf begins in a batch.
    fn locate(&self, batch: usize, place: usize) -> Result<Cursor> {
        let at = self.cursors[batch].get(place).copied();
        at.ok_or_else(|| Error::internal("a column without a place"))
    }

    fn batch_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    fn part<'a>(&'a self, column: &'a Column, b: usize, wanted: Wanted) -> Result<Part<'a>> {
        let (blob, t) = (self.blob.as_ref(), column.field.data_type());
        if let Some(batch) = column.pruned.as_ref().and_then(|batches| batches.get(b)) {
            return Part::of(blob, batch, t, Cursor::default(), wanted);
        }
        Part::of(blob, &self.index.batches[b], t, self.locate(b, column.place)?, wanted)
    }

    /// What some rows of a batch take while they are read; where it is compressed, with all that
    /// must be unpacked for them.
    fn held(&self, array: usize, b: usize, rows: &Range<u64>) -> Result<u64> {
        let (batch, part) =
            (&self.index.batches[b], self.part(&self.columns[array], b, Wanted::All)?);
        if batch.compression.is_none() {
            return match part.rows().whole() {
                Some(all) if *rows == (0..batch.rows) => Ok(all),
                _ => part.rows().measure(rows),
            };
        }
        let unpacked = if self.blob.is_remote() {
            part.stored().saturating_mul(USUAL_RATIO)
        } else {
            part.unpacked()?
        };
        let share = u128::from(unpacked) * u128::from(rows.end - rows.start)
            / u128::from(batch.rows.max(1));
        // What is made of nested columns, or put together of their parts, is as much again.
        let times = if self.metas[array].logical.nested().is_some() { 2 } else { 1 };
        let held = unpacked.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        Ok(held.saturating_mul(times))
    }

    /// The rows of a compressed batch that are read together: all, unless all columns are wanted
    /// and take much.
    fn together(&self, b: usize) -> u64 {
        let batch = &self.index.batches[b];
        if !self.by_rows.load(Ordering::Relaxed) || batch.rows == 0 {
            return batch.rows.max(1);
        }
        let all = *self.unpacked[b].get_or_init(|| {
            let columns =
                (0..self.columns.len()).filter(|&a| self.metas[a].details.error.is_none());
            columns.fold(0, |sum, a| {
                sum.saturating_add(self.held(a, b, &(0..batch.rows)).unwrap_or(0) / 2)
            })
        });
        let parts =
            if all > self.limit.0 / 2 { all.div_ceil(self.limit.0 / 4).min(MAX_PARTS) } else { 1 };
        batch.rows.div_ceil(parts)
    }

    /// The piece from `row` on that holds about `bytes`, of rows that differ in size.
    fn piece_of(&self, array: usize, row: u64, bytes: u64) -> Result<Piece> {
        let total = self.starts[self.starts.len() - 1];
        let (mut at, mut held) = (row, 0u64);
        while at < total && held < bytes {
            let b = self.batch_of(at);
            let (start, end) = (self.starts[b], self.starts[b + 1]);
            let (to, more) = if self.index.batches[b].compression.is_some() {
                let to = self.next_boundary(array, at) - start;
                (to, self.held(array, b, &(at - start..to))?)
            } else {
                let part = self.part(&self.columns[array], b, Wanted::All)?;
                part.rows().fit(at - start, end - start, bytes - held)?
            };
            if held > 0 && held.saturating_add(more) > bytes {
                break;
            }
            (held, at) = (held.saturating_add(more), start + to);
            if at < end {
                break;
            }
        }
        Ok(Piece { end: at, bytes: held })
    }

    /// The chunk of an array of rows that begin at `at`.
    fn chunk(&self, array: usize, b: usize, part: &ArrayRef, at: u64) -> Result<Chunk> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let codes = |of: &Codes| -> usize { of.partition_point(|(from, _)| *from <= b) };
        let codes: Vec<&[u64]> = column
            .codes
            .iter()
            .map(|of| codes(of).checked_sub(1).map_or(&[][..], |last| of[last].1.as_slice()))
            .collect();
        let rows = part.len() as u64;
        let chunk = if let Logical::Nested(nested) = &meta.logical {
            let values = Values::Nested(arrow_model::recoded(part, nested, &codes, at)?);
            Chunk { array, first_row: at, rows, values, valid: None }
        } else if let Logical::Dictionary { .. } = meta.logical {
            let codes = codes.first().copied().unwrap_or_default();
            let (values, valid) = arrow_model::coded(part.as_ref(), codes, meta.dtype, at)?;
            Chunk { array, first_row: at, rows, values, valid }
        } else {
            arrow_model::chunk(part, &column.leaf, meta, None, array, at)?
        };
        if chunk.valid.is_some() && !meta.nulls {
            return Err(Error::corrupt("it has nulls, but its batches declare none"));
        }
        Ok(chunk)
    }
}

impl ReadRows for Shared {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let meta = &self.metas[array];
        let file = self.blob.file()?;
        let column = self.columns.get(array)?;
        let fixed_lists = column.leaf.levels.iter().all(|l| matches!(l, Level::Fixed(_)));
        let plain = !meta.logical.is_var()
            && !matches!(meta.logical, Logical::Dictionary { .. })
            && meta.dtype != Dtype::Bool
            && meta.logical.decimals().is_none_or(|decimals| {
                column.leaf.element.primitive_width() == Some(decimals.item_bytes())
            });
        if meta.nulls || meta.details.error.is_some() || !fixed_lists || !plain {
            return None;
        }
        let row = meta.row_bytes().ok()?;
        let mut extents = Vec::new();
        for (b, batch) in self.index.batches.iter().enumerate() {
            if batch.compression.is_some() {
                return None;
            }
            let mut at = self.locate(b, column.place).ok()?;
            at.buffer += column.leaf.levels.len();
            let &(offset, held) = batch.buffers.get(at.buffer + 1)?;
            let len = batch.rows.checked_mul(row).filter(|&n| n <= held)?;
            extents.push(Extent { file: file.clone(), offset, len });
        }
        Some(extents)
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let b = self.batch_of(row);
        let Some(batch) = self.index.batches.get(b) else { return u64::MAX };
        if self.columns[array].leaf.element == DataType::Null {
            return u64::MAX;
        }
        let (start, end) = (self.starts[b], self.starts[b + 1]);
        let rows = match batch.compression {
            Some(_) => self.together(b),
            None => {
                (UNIT_BYTES * 2 / self.metas[array].row_bytes().unwrap_or(1).max(1) / 8 * 8).max(1)
            }
        };
        start.saturating_add(((row - start) / rows + 1).saturating_mul(rows)).min(end)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let count = rows.end.saturating_sub(rows.start);
        if column.leaf.element == DataType::Null {
            return Some(count.saturating_mul(9));
        }
        let (mut at, mut held, mut few) = (rows.start, 0u64, FEW_BATCHES);
        while at < rows.end && few > 0 {
            let b = self.batch_of(at);
            let start = self.starts[b];
            let end = self.starts.get(b + 1).copied().unwrap_or(0).min(rows.end).max(at + 1);
            held = held.saturating_add(self.held(array, b, &(at - start..end - start)).ok()?);
            (at, few) = (end, few - 1);
        }
        // The rest is like what was looked at.
        let all = u128::from(held) * u128::from(count) / u128::from((at - rows.start).max(1));
        let decoded = if meta.logical.is_var() {
            0
        } else {
            count.saturating_mul(meta.row_bytes().unwrap_or(1))
        };
        Some(u64::try_from(all).unwrap_or(u64::MAX).saturating_add(decoded))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        if !self.metas[array].logical.is_var() || self.columns[array].leaf.element == DataType::Null
        {
            return None;
        }
        self.piece_of(array, row, bytes).ok()
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
            let part = self.part(column, b, Wanted::All).at_array(&meta.name)?;
            let mut reading = true;
            let done =
                part.each(at - start..end - start, self.limit, UNIT_BYTES, &mut |part, first| {
                    let chunk = self.chunk(array, b, &part, start + first)?;
                    reading = false;
                    emit(chunk)?;
                    reading = true;
                    Ok(())
                });
            done.map_err(|e| if reading { e.array(&meta.name) } else { e })?;
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
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        self.shared.by_rows.store(wish == Order::RowBlocks, Ordering::Relaxed);
        arrays.iter().try_for_each(|&a| readable(&self.plan.arrays[a]))?;
        Ok(Reader::Random(self.shared.clone()))
    }
}
