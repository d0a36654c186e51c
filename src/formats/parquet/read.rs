//! Reading Parquet: one logical array a column, random access by row groups.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups, RowSelection, RowSelector};
use parquet::arrow::{FieldLevels, parquet_to_arrow_schema};
use parquet::basic::{Compression, Type as Physical};
use parquet::column::page::{PageIterator, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::TypePtr;

use super::blob::Window;
use super::footer::Footer;
use super::lists::EqualLists;
use super::{crate_error, schema};
use crate::codec::arrow_model::{self, Dictionaries, Leaf, LeafType, Level};
use crate::error::{Context, Error, Result, foreign};
use crate::format::{Emit, Order, ReadOptions, ReadRows, Source, readable};
use crate::location::Blob;
use crate::model::{ArrayMeta, Attributes, Chunk, Column as TableColumn, Dtype, Logical, Plan, Table};

/// A row group whose column is larger decoded than this is cut into parts.
const PART_BYTES: u64 = 16 << 20;
/// Decoded bytes of a chunk that is handed on.
const CHUNK_BYTES: u64 = 4 << 20;

/// An opened Parquet file.
pub(super) struct ParquetSource {
    plan: Plan,
    shared: Arc<Shared>,
}

/// What all readers of a file share.
struct Shared {
    blob: Arc<dyn Blob>,
    metadata: Arc<ParquetMetaData>,
    /// Column chunks that are encrypted: row group, column.
    encrypted: HashSet<(usize, usize)>,
    /// Where each row group begins, and the end.
    starts: Vec<u64>,
    columns: Vec<Column>,
    metas: Vec<ArrayMeta>,
}

/// A column: one logical array.
struct Column {
    leaf: LeafType,
    /// Its Parquet column.
    parquet: usize,
    /// What the crate is asked to decode.
    levels: Option<FieldLevels>,
    /// How many structs it is nested in.
    structs: usize,
    dictionary: Option<Dictionaries>,
    /// Lists of one length, without a null: read page by page.
    lists: Option<EqualLists>,
    /// Bytes of its pages, unpacked, as the footer tells.
    unpacked: u64,
}

impl ParquetSource {
    pub(super) fn open(blob: Arc<dyn Blob>, options: &ReadOptions) -> Result<ParquetSource> {
        let Footer { metadata, encrypted, lost_keys } = Footer::read(blob.as_ref())?;
        let metadata = Arc::new(metadata);
        let file = metadata.file_metadata();
        let mut starts = vec![0u64];
        for (g, group) in metadata.row_groups().iter().enumerate() {
            let rows =
                u64::try_from(group.num_rows()).map_err(|_| Error::corrupt(format!("row group {g} has {} rows", group.num_rows())))?;
            let end = starts[g].checked_add(rows).filter(|&e| e < 1 << 62);
            starts.push(end.ok_or_else(|| Error::corrupt("the row groups have too many rows"))?);
        }
        let rows = starts[starts.len() - 1];

        let recorded = file
            .key_value_metadata()
            .and_then(|kv| kv.iter().find(|e| e.key == "ARROW:schema")?.value.as_deref())
            .and_then(arrow_model::decode_schema);
        let (recorded, mut notes) = recorded.map_or((None, Vec::new()), |(schema, notes)| (Some(schema), notes));
        for key in &lost_keys {
            let note = format!("the metadata '{key}' is left out: it is not UTF-8 text");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let (micros, int96_errors) = if options.names_only { Default::default() } else { int96_micros(&blob, &metadata, &encrypted)? };
        let roots = Root::all(&metadata, recorded.as_ref(), &micros);
        let full = Schema::new(roots.iter().map(|r| r.refined.clone()).collect::<Vec<FieldRef>>());
        let leaves = arrow_model::leaves(&full);
        let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
        let names = arrow_model::column_names(&headers, options.on_duplicate)?;

        let mut shared = Shared { blob, metadata: metadata.clone(), encrypted, starts, columns: Vec::new(), metas: Vec::new() };
        let mut table = Table::default();
        let mut first_column: Vec<usize> = roots.iter().map(|r| r.first_column).collect();
        let known: Vec<&str> = names.iter().map(|n| n.as_deref().unwrap_or_default()).collect();
        let wanted = match &options.choice {
            _ if options.names_only => vec![false; known.len()],
            Some(choice) => choice.of(&known),
            None => vec![true; known.len()],
        };
        for ((leaf, name), wanted) in leaves.iter().zip(names).zip(wanted) {
            let root = leaf.path[0];
            let parquet = first_column[root];
            first_column[root] += schema::parquet_columns(leaf.field.data_type());
            let Some(name) = name else { continue };
            table.columns.push(TableColumn::read(&name, &leaf.name));
            let mut meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            let column = match int96_errors.get(&parquet) {
                Some(e) => Err(Error::clone(e)),
                None => shared.column(leaf, &roots[root], parquet, &mut meta),
            };
            let index = shared.columns.len();
            let looked = column.and_then(|column| {
                shared.columns.push(column);
                foreign("parquet", || shared.look(index, &mut meta, leaf.path.len() > 1, wanted))
            });
            let looked = looked.map(|lists| shared.columns[index].lists = lists);
            if let Err(e) = looked {
                shared.columns.truncate(index);
                let leaf = LeafType { levels: Vec::new(), element: DataType::Null, dtype: Dtype::U8, logical: Logical::Plain };
                shared.columns.push(Column { leaf, parquet, levels: None, structs: 0, dictionary: None, lists: None, unpacked: 0 });
                meta.details.error = Some(Arc::new(e.of_data()?));
            }
            shared.metas.push(meta);
        }

        let mut attributes = Attributes::new();
        let mut metadata_of_table = Attributes::new();
        let lost: HashSet<&str> = lost_keys.iter().map(String::as_str).collect();
        for entry in file.key_value_metadata().into_iter().flatten().filter(|entry| !lost.contains(entry.key.as_str())) {
            let value = serde_json::Value::String(entry.value.clone().unwrap_or_default());
            match entry.key.as_str() {
                "ARROW:schema" => {}
                "pandas" => {
                    metadata_of_table.insert("pandas".into(), value);
                }
                _ => {
                    attributes.insert(entry.key.clone(), value);
                }
            }
        }
        metadata_of_table.insert("ARROW:schema".into(), arrow_model::encode_schema(&full).into());
        table.index = arrow_model::pandas_index(&metadata_of_table, &table.columns);
        table.metadata = metadata_of_table;
        let plan = Plan {
            format: "parquet",
            format_version: Some(file.version().to_string()),
            arrays: shared.metas.clone(),
            tables: vec![table],
            attributes,
            notes,
            ..Plan::default()
        };
        Ok(ParquetSource { plan, shared: Arc::new(shared) })
    }
}

/// A column of the schema with all that is below it. Each is looked at alone: there may be thousands of others.
struct Root {
    /// As it is read.
    refined: FieldRef,
    error: Option<String>,
    first_column: usize,
    /// What Parquet says of it.
    parquet: TypePtr,
    /// The type that the crate is asked for.
    reading: FieldRef,
}

impl Root {
    fn all(metadata: &ParquetMetaData, recorded: Option<&Schema>, micros: &HashSet<usize>) -> Vec<Root> {
        let descr = metadata.file_metadata().schema_descr();
        let types = descr.root_schema().get_fields();
        let mut columns = vec![(0, 0); types.len()];
        for c in (0..descr.num_columns()).rev() {
            let (first, count) = &mut columns[descr.get_column_root_idx(c)];
            (*first, *count) = (c, *count + 1);
        }
        let mut by_name: HashMap<&str, &FieldRef> = HashMap::new();
        for field in recorded.iter().flat_map(|r| r.fields()) {
            by_name.entry(field.name()).or_insert(field);
        }
        let of = |(i, t): (usize, &TypePtr)| {
            // By position if the names agree there, else by name.
            let same = |f: &&FieldRef| f.name() == t.name();
            let beside = recorded.and_then(|r| r.fields().get(i).filter(same)).or_else(|| by_name.get(t.name()).copied());
            Root::of(t, columns[i], beside, micros)
        };
        types.iter().enumerate().map(of).collect()
    }

    /// `columns`: the first of its Parquet columns, and how many it has.
    fn of(t: &TypePtr, columns: (usize, usize), recorded: Option<&FieldRef>, micros: &HashSet<usize>) -> Root {
        let (first_column, count) = columns;
        let found = schema::alone(t.clone()).and_then(|alone| parquet_to_arrow_schema(&alone, None));
        let error = match found.as_ref().map(|schema| schema.fields()) {
            Ok(found) if found.len() == 1 => {
                let mut next = first_column;
                let base = schema::with_micros(&schema::with_uuid(&found[0], t), &mut next, micros);
                if next - first_column == count {
                    let refined = schema::refined(&base, recorded);
                    let reading = schema::reading_type(base.data_type(), refined.data_type());
                    let reading = Arc::new(base.as_ref().clone().with_data_type(reading));
                    return Root { refined, error: None, first_column, parquet: t.clone(), reading };
                }
                format!("a group of {count} columns")
            }
            Ok(_) => "an empty group".into(),
            Err(e) => e.to_string(),
        };
        let field: FieldRef = Arc::new(Field::new(t.name(), DataType::Null, true));
        Root { refined: field.clone(), error: Some(error), first_column, parquet: t.clone(), reading: field }
    }
}

impl Shared {
    /// The column of a leaf, with its types as the schema has them.
    fn column(&self, leaf: &Leaf, root: &Root, parquet: usize, meta: &mut ArrayMeta) -> Result<Column> {
        let descr = self.metadata.file_metadata().schema_descr();
        let (mut stored, mut unpacked) = (0u64, 0u64);
        for group in self.metadata.row_groups() {
            let chunk = group.columns().get(parquet).ok_or_else(|| Error::corrupt("a row group lacks this column"))?;
            stored = stored.saturating_add(u64::try_from(chunk.compressed_size()).unwrap_or(0));
            unpacked = unpacked.saturating_add(u64::try_from(chunk.uncompressed_size()).unwrap_or(0));
        }
        meta.details.stored_bytes = Some(stored);
        meta.details.compression = self.metadata.row_groups().last().map(|group| codec_name(group.column(parquet).compression()));
        meta.details.stored_dtype = Some(descr.column(parquet).physical_type().to_string().to_lowercase());
        if let Some(e) = &root.error {
            return Err(Error::refused(format!("its type is not supported ({e})")));
        }
        let holds = match &leaf.holds {
            Ok(holds) => holds.clone(),
            Err(e) => return Err(Error::clone(e)),
        };
        for (g, group) in self.metadata.row_groups().iter().enumerate() {
            let chunk = group.column(parquet);
            if self.encrypted.contains(&(g, parquet)) {
                return Err(Error::refused("its values are encrypted, which is not supported")
                    .hint("choose other columns with -a, or leave such columns out with --skip-unsupported"));
            }
            if chunk.file_path().is_some_and(|p| !p.is_empty()) {
                return Err(Error::refused("its values are in another file, which is not supported"));
            }
            let (start, bytes) = foreign("parquet", || Ok(chunk.byte_range()))?;
            if start.checked_add(bytes).is_none_or(|end| end > self.blob.len()) {
                return Err(Error::corrupt(format!(
                    "row group {g} places it at bytes {start} to {}, the file has {}",
                    start.saturating_add(bytes),
                    self.blob.len()
                )));
            }
        }
        meta.dtype = holds.dtype;
        meta.logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
        let levels = schema::levels(&root.parquet, &root.reading, &leaf.path[1..]).map_err(crate_error)?;
        let dictionary = match &meta.logical {
            Logical::Dictionary { categories, .. } => Some(Dictionaries::new(categories.clone())),
            _ => None,
        };
        let structs = leaf.path.len() - 1;
        Ok(Column { leaf: holds, parquet, levels: Some(levels), structs, dictionary, lists: None, unpacked })
    }

    /// What only the data shows: nulls, list lengths, categories. Of a column that is not wanted, what the footer tells.
    fn look(&self, index: usize, meta: &mut ArrayMeta, nullable_struct: bool, wanted: bool) -> Result<Option<EqualLists>> {
        let column = &self.columns[index];
        let descr = self.metadata.file_metadata().schema_descr().column(column.parquet);
        let groups = self.metadata.row_groups();
        let mut nulls = Some(0u64);
        if descr.max_def_level() > 0 {
            for group in groups {
                let known = group.column(column.parquet).statistics().and_then(|s| s.null_count_opt());
                nulls = nulls.zip(known).and_then(|(a, b)| a.checked_add(b));
            }
        }
        meta.nulls = nulls != Some(0);
        let any = column.leaf.levels.iter().filter(|l| **l == Level::Any).count();
        let flat = column.leaf.levels.is_empty();
        let settled = if flat { nulls.is_some() && !(nullable_struct && meta.nulls) } else { any == 0 && nulls == Some(0) };
        if settled {
            meta.inner = arrow_model::inner_dims(&column.leaf.levels, &[]);
        }
        // Over a network, what the footer leaves no doubt about is not looked at: that would fetch all pages.
        if !wanted || settled && column.dictionary.is_none() && self.blob.file().is_none() {
            return Ok(None);
        }
        if let [level] = &column.leaf.levels[..]
            && let Some(lists) = EqualLists::look(&self.blob, &self.metadata, column.parquet)?
        {
            meta.nulls = false;
            meta.inner = match level {
                Level::Any => vec![lists.length],
                Level::Fixed(dims) => dims.clone(),
            };
            if crate::model::checked_product(&meta.inner) != Some(lists.length) {
                return Err(Error::corrupt(format!("it has lists of {}, its schema says {:?}", lists.length, meta.inner)));
            }
            return Ok(Some(lists));
        }
        if settled && column.dictionary.is_none() {
            return Ok(None);
        }
        let mut lengths = vec![None; any];
        let mut equal = true;
        let mut found_null = false;
        for g in 0..groups.len() {
            self.read_group(column, g, 0..self.starts[g + 1] - self.starts[g], 1 << 16, &mut |array, first| {
                if let Some(row) = arrow_model::first_inner_null(&array) {
                    return Err(arrow_model::inner_null(self.starts[g] + first + row as u64));
                }
                found_null |= array.logical_nulls().is_some_and(|n| n.null_count() > 0);
                equal = equal && arrow_model::list_lengths(&array, &column.leaf.levels, &mut lengths)?;
                if let (Some(dictionary), Some(coded)) = (&column.dictionary, array.as_any_dictionary_opt())
                    && coded.keys().null_count() < coded.keys().len()
                {
                    dictionary.merge(coded.values().as_ref())?;
                }
                Ok(())
            })?;
        }
        meta.nulls = found_null;
        arrow_model::settle_lists(&column.leaf, equal, &lengths, meta)?;
        Ok(None)
    }

    /// Decodes some rows of a row group's column, batch by batch; `each` gets the leaf's array and its first row.
    fn read_group(
        &self,
        column: &Column,
        g: usize,
        rows: Range<u64>,
        batch_rows: u64,
        each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
    ) -> Result<()> {
        let levels = column.levels.as_ref().ok_or_else(|| Error::internal("a column that cannot be read"))?;
        let total = self.starts[g + 1] - self.starts[g];
        let want = rows.end - rows.start;
        if want == 0 {
            return Ok(());
        }
        let selection =
            (want < total).then(|| RowSelection::from(vec![RowSelector::skip(rows.start as usize), RowSelector::select(want as usize)]));
        let group = Group { shared: self, g, column: column.parquet, pages: Mutex::default(), window: Mutex::default(), rows: total };
        let reader = foreign("parquet", || {
            Ok(ParquetRecordBatchReader::try_new_with_row_groups(levels, &group, batch_rows.min(want).max(1) as usize, selection))
        })?;
        let mut reader = reader.map_err(|e| group.error(e))?;
        let path = vec![0; column.structs];
        let mut first = rows.start;
        while let Some(batch) = group.next_batch(&mut reader)? {
            let root = batch.columns().first().ok_or_else(|| Error::corrupt("a batch lacks its column"))?;
            let leaf = arrow_model::descend(root, &path)?;
            let n = leaf.len() as u64;
            if n > rows.end - first {
                return Err(Error::corrupt(format!("row group {g} has more than its {total} rows")));
            }
            each(leaf, first)?;
            first += n;
        }
        if first != rows.end {
            return Err(Error::corrupt(format!("row group {g} has {first} rows, expected {total}")));
        }
        Ok(())
    }

    /// Decodes some rows of a row group's lists of one length.
    fn read_lists(&self, array: usize, lists: &EqualLists, g: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let n = lists.length;
        let values = rows.start * n..rows.end * n;
        let (pages, window, total, skip) = lists.reader(&self.blob, &self.metadata, g, self.columns[array].parquet, values)?;
        let want = (rows.end - rows.start) * n;
        if skip + want > total {
            return Err(Error::corrupt(format!("row group {g} has too few values")));
        }
        let selection = (skip > 0 || want < total)
            .then(|| RowSelection::from(vec![RowSelector::skip(skip as usize), RowSelector::select(want as usize)]));
        let column = self.columns[array].parquet;
        let group = Group { shared: self, g, column, pages: Mutex::new(Some(pages)), window: Mutex::new(Some(window)), rows: total };
        let batch = (CHUNK_BYTES / self.row_bytes(array)).clamp(1, rows.end - rows.start) * n;
        let reader =
            foreign("parquet", || Ok(ParquetRecordBatchReader::try_new_with_row_groups(&lists.levels, &group, batch as usize, selection)))?;
        let mut reader = reader.map_err(|e| group.error(e))?;
        let mut first = rows.start;
        while let Some(batch) = group.next_batch(&mut reader)? {
            let values = batch.columns().first().ok_or_else(|| Error::corrupt("a batch lacks its column"))?;
            let count = values.len() as u64 / n;
            if count * n != values.len() as u64 || count > rows.end - first {
                return Err(Error::corrupt(format!("row group {g} has {} values, which do not make lists of {n}", values.len())));
            }
            emit(Chunk::fixed(array, self.starts[g] + first, count, arrow_model::fixed_buffer(values)?))?;
            first += count;
        }
        if first != rows.end {
            return Err(Error::corrupt(format!("row group {g} ends at row {first}, expected {}", rows.end)));
        }
        Ok(())
    }

    /// Decoded bytes of a row, about.
    fn row_bytes(&self, array: usize) -> u64 {
        let meta = &self.metas[array];
        let fixed = meta.row_bytes().unwrap_or(0);
        if !meta.logical.is_var() {
            return fixed.max(1);
        }
        let rows = self.starts[self.starts.len() - 1].max(1);
        (self.columns[array].unpacked / rows).saturating_add(8).max(1)
    }

    fn group_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    /// Rows of a part of a row group: all of it, unless it is large.
    fn part_rows(&self, array: usize, group_rows: u64) -> u64 {
        let row = self.row_bytes(array);
        let flat = self.columns[array].leaf.levels.is_empty() || self.columns[array].lists.is_some();
        if !flat || group_rows.saturating_mul(row) <= PART_BYTES { u64::MAX } else { (PART_BYTES / 2 / row).max(1) }
    }
}

impl ReadRows for Shared {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let g = self.group_of(row);
        let (Some(&start), Some(&end)) = (self.starts.get(g), self.starts.get(g + 1)) else { return u64::MAX };
        let part = self.part_rows(array, end - start);
        let next = ((row - start) / part).saturating_add(1).saturating_mul(part);
        start.saturating_add(next).min(end)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        // What is handed on, a page and its compressed form.
        Some((rows.end - rows.start).saturating_mul(self.row_bytes(array)).saturating_add(2 << 20))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let batch = (CHUNK_BYTES / self.row_bytes(array)).clamp(64, 1 << 20);
        let mut at = rows.start;
        while at < rows.end {
            let g = self.group_of(at);
            let (start, end) = (self.starts[g], self.starts[g + 1].min(rows.end));
            if let Some(lists) = &column.lists {
                self.read_lists(array, lists, g, at - start..end - start, emit).at_array(&meta.name)?;
                at = end;
                continue;
            }
            self.read_group(column, g, at - start..end - start, batch, &mut |leaf, first| {
                let chunk = arrow_model::chunk(&leaf, &column.leaf, meta, column.dictionary.as_ref(), array, start + first)?;
                if chunk.valid.is_some() && !meta.nulls {
                    return Err(Error::corrupt("it has nulls, but its statistics declare none"));
                }
                emit(chunk)
            })
            .at_array(&meta.name)?;
            at = end;
        }
        Ok(())
    }
}

impl Source for ParquetSource {
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
}

/// One row group, as the crate asks for it.
struct Group<'a> {
    shared: &'a Shared,
    g: usize,
    /// The column of the file: to the crate, which knows the schema of this column alone, it is the first.
    column: usize,
    /// Pages to read in place of the column's own.
    pages: Mutex<Option<Box<dyn PageReader>>>,
    /// Where the pages are read.
    window: Mutex<Option<Window>>,
    rows: u64,
}

impl Group<'_> {
    /// The next decoded batch; `None` at the end.
    fn next_batch(&self, reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>> {
        foreign("parquet", || reader.next().transpose().map_err(|e| self.error(e.into())))
    }
    /// What went wrong: where the pages were read, or else in the crate.
    fn error(&self, e: parquet::errors::ParquetError) -> Error {
        let window = self.window.lock().unwrap_or_else(|e| e.into_inner());
        window.as_ref().and_then(Window::failure).unwrap_or_else(|| crate_error(e))
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        self.rows as usize
    }
    fn column_chunks(&self, _first: usize) -> parquet::errors::Result<Box<dyn PageIterator>> {
        let given = self.pages.lock().unwrap_or_else(|e| e.into_inner()).take();
        let pages = match given {
            Some(pages) => pages,
            None => {
                let window = window(&self.shared.blob, &self.shared.metadata, self.g, self.column);
                *self.window.lock().unwrap_or_else(|e| e.into_inner()) = Some(window.clone());
                Box::new(pages(window, &self.shared.metadata, self.g, self.column)?)
            }
        };
        Ok(Box::new(Once(Some(pages))))
    }
    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.shared.metadata.row_group(self.g)))
    }
    fn metadata(&self) -> &ParquetMetaData {
        &self.shared.metadata
    }
}

/// Where a column chunk is read.
fn window(blob: &Arc<dyn Blob>, metadata: &ParquetMetaData, g: usize, column: usize) -> Window {
    let chunk = metadata.row_group(g).column(column);
    let (start, len) = chunk.byte_range();
    Window::of_pages(blob.clone(), start.saturating_add(len), chunk.compression())
}

/// The pages of a column chunk.
fn pages(window: Window, metadata: &ParquetMetaData, g: usize, column: usize) -> parquet::errors::Result<SerializedPageReader<Window>> {
    let group = metadata.row_group(g);
    SerializedPageReader::new(Arc::new(window), group.column(column), group.num_rows() as usize, None)
}

struct Once(Option<Box<dyn PageReader>>);

impl Iterator for Once {
    type Item = parquet::errors::Result<Box<dyn PageReader>>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for Once {}

fn codec_name(c: Compression) -> String {
    match c {
        Compression::UNCOMPRESSED => "none",
        Compression::SNAPPY => "snappy",
        Compression::GZIP(_) => "gzip",
        Compression::LZO => "lzo",
        Compression::BROTLI(_) => "brotli",
        Compression::LZ4 => "lz4",
        Compression::ZSTD(_) => "zstd",
        Compression::LZ4_RAW => "lz4_raw",
    }
    .into()
}

/// INT96 columns that need microseconds. Per column: does every value fit nanoseconds, or else microseconds exactly?
fn int96_micros(
    blob: &Arc<dyn Blob>,
    metadata: &ParquetMetaData,
    encrypted: &HashSet<(usize, usize)>,
) -> Result<(HashSet<usize>, HashMap<usize, Error>)> {
    let encrypted: HashSet<usize> = encrypted.iter().map(|(_, column)| *column).collect();
    let descr = metadata.file_metadata().schema_descr();
    let (mut micros, mut errors) = (HashSet::new(), HashMap::new());
    for c in 0..descr.num_columns() {
        if descr.column(c).physical_type() != Physical::INT96 || encrypted.contains(&c) {
            continue;
        }
        let looked = foreign("parquet", || int96_range(blob, metadata, c));
        match looked {
            Ok((true, _)) => {}
            Ok((false, true)) => _ = micros.insert(c),
            Ok((false, false)) => {
                let error = Error::refused("its INT96 times neither fit nanoseconds nor are whole microseconds");
                errors.insert(c, error.hint("leave the column out with -x, or all such columns with --skip-unsupported"));
            }
            Err(e) => _ = errors.insert(c, e),
        }
    }
    Ok((micros, errors))
}

/// Do all values fit nanoseconds? Are all whole microseconds that fit?
fn int96_range(blob: &Arc<dyn Blob>, metadata: &ParquetMetaData, c: usize) -> Result<(bool, bool)> {
    const NANOS_A_DAY: i128 = 86_400_000_000_000;
    let descr = metadata.file_metadata().schema_descr().column(c);
    let (mut nanos, mut micros) = (true, true);
    for g in 0..metadata.num_row_groups() {
        let pages = pages(window(blob, metadata, g, c), metadata, g, c).map_err(crate_error)?;
        let mut reader = ColumnReaderImpl::<Int96Type>::new(descr.clone(), Box::new(pages));
        loop {
            let (mut def, mut rep, mut values) = (Vec::new(), Vec::new(), Vec::<Int96>::new());
            let (records, _, _) = reader.read_records(1 << 16, Some(&mut def), Some(&mut rep), &mut values).map_err(crate_error)?;
            for v in &values {
                let d = v.data();
                let day = i128::from(d[2]) - 2_440_588;
                let time = day * NANOS_A_DAY + ((i128::from(d[1]) << 32) | i128::from(d[0]));
                nanos &= i64::try_from(time).is_ok();
                micros &= time % 1000 == 0 && i64::try_from(time / 1000).is_ok();
            }
            if records == 0 {
                break;
            }
        }
    }
    Ok((nanos, micros))
}
