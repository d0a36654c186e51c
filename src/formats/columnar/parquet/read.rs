//! Opening Parquet: the columns of the schema as logical arrays, with what only the data shows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, FieldRef, Schema};
use parquet::arrow::FieldLevels;
use parquet::basic::{Compression, ConvertedType, Type as Physical};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::ColumnDescPtr;

use super::footer::Footer;
use super::lists::EqualLists;
use super::measure::{ROW_BYTES, Rows};
use super::nested::NestedColumn;
use super::pages::{ColumnChunk, Recent};
use super::roots::Root;
use super::rows::Measures;
use super::{crate_error, look, nested, schema};
use crate::arrow_model::{self, Dictionaries, Held, Leaf, LeafType, MemoryLimit};
use crate::error::{Error, ErrorKind, Result, foreign};
use crate::format::{Choice, Order, ReadOptions, Reader, Source, readable};
use crate::formats::columnar::names::column_names;
use crate::model::nested::{children, walk};
use crate::model::{
    ArrayMeta, Attributes, Categories, Column as TableColumn, Dtype, Logical, Plan, Table,
};
use crate::storage::Blob;

/// An opened Parquet file.
pub(super) struct ParquetSource {
    plan: Plan,
    shared: Arc<Shared>,
}

/// What all readers of a file share.
pub(super) struct Shared {
    pub(super) blob: Arc<dyn Blob>,
    pub(super) metadata: Arc<ParquetMetaData>,
    /// Column chunks that are encrypted: row group, column.
    encrypted: HashSet<(usize, usize)>,
    /// Where each row group begins, and the end.
    pub(super) starts: Vec<u64>,
    pub(super) columns: Vec<Column>,
    pub(super) metas: Vec<ArrayMeta>,
    pub(super) limit: MemoryLimit,
    /// Columns whose statistics do not tell all of their nulls.
    uncounted: HashSet<usize>,
    pub(super) jobs: usize,
    /// Bytes of the limit for one of the pieces in flight.
    pub(super) share: u64,
    /// What all dictionaries hold.
    held: Arc<Held>,
    recent: Recent,
}

/// What is wanted of a nested column.
#[derive(Clone, Copy)]
struct NestedWish<'a> {
    /// Whether its pages may be looked at.
    look: bool,
    /// The arrays and parts of arrays that will be read, where that is known.
    choice: Option<&'a Choice>,
}

/// A column: one logical array.
pub(super) struct Column {
    pub(super) leaf: LeafType,
    /// Its Parquet column.
    pub(super) parquet: usize,
    /// What the crate is asked to decode.
    pub(super) levels: Option<FieldLevels>,
    /// How many structs it is nested in.
    pub(super) structs: usize,
    pub(super) dictionary: Option<Dictionaries>,
    /// Texts that the crate takes as they are: it looks only at those whose converted type says
    /// that they are UTF-8.
    pub(super) unchecked: bool,
    /// Lists of one length, without a null: read page by page.
    pub(super) lists: Option<EqualLists>,
    /// Its leaves, where it travels as Arrow arrays.
    pub(super) nested: Option<NestedColumn>,
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

impl Column {
    /// One that cannot be read.
    fn none(parquet: usize) -> Column {
        let leaf = LeafType {
            levels: Vec::new(),
            element: DataType::Null,
            dtype: Dtype::U8,
            logical: Logical::Plain,
        };
        Column {
            leaf,
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
            measures: Mutex::default(),
        }
    }
}

impl ParquetSource {
    pub(super) fn open(blob: Arc<dyn Blob>, options: &ReadOptions) -> Result<ParquetSource> {
        let Footer { metadata, encrypted, lost_keys } =
            Footer::read(blob.as_ref(), MemoryLimit(options.resources.memory_bytes()))?;
        let metadata = Arc::new(metadata);
        let file = metadata.file_metadata();
        let mut starts = vec![0u64];
        for (g, group) in metadata.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).map_err(|_| {
                Error::corrupt(format!("row group {g} has {} rows", group.num_rows()))
            })?;
            let end = starts[g].checked_add(rows).filter(|&e| e < 1 << 62);
            starts.push(end.ok_or_else(|| Error::corrupt("the row groups have too many rows"))?);
        }
        let rows = starts[starts.len() - 1];

        let recorded = file
            .key_value_metadata()
            .and_then(|kv| kv.iter().find(|e| e.key == "ARROW:schema")?.value.as_deref())
            .and_then(arrow_model::decode_schema);
        let (recorded, mut notes) =
            recorded.map_or((None, Vec::new()), |(schema, notes)| (Some(schema), notes));
        for key in &lost_keys {
            let note = format!("the metadata '{key}' is left out: it is not UTF-8 text");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let mut shared = Shared {
            blob,
            metadata: metadata.clone(),
            encrypted,
            starts,
            columns: Vec::new(),
            metas: Vec::new(),
            limit: MemoryLimit(options.resources.memory_bytes()),
            jobs: options.resources.jobs(),
            share: share(options),
            held: Arc::new(Held::new(MemoryLimit(options.resources.memory_bytes()))),
            recent: Recent::default(),
            uncounted: HashSet::new(),
        };
        let (micros, int96_errors) =
            if options.names_only { Default::default() } else { shared.int96_micros() };
        let roots = Root::all(&metadata, recorded.as_ref(), &micros);
        shared.uncounted = shared.uncounted_nulls(&roots);
        let full = Schema::new(roots.iter().map(|r| r.refined.clone()).collect::<Vec<FieldRef>>());
        let whole = shared.whole_columns(&roots, &full, options)?;
        let leaves = arrow_model::leaves(&full, &whole);
        let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
        let names = column_names(&headers, options.on_duplicate)?;

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
            let reaches = |choice: &Choice| choice.reaches(&name, &leaf.field);
            let wanted =
                wanted || !options.names_only && options.choice.as_ref().is_some_and(reaches);
            table.columns.push(TableColumn::read(&name, &leaf.name));
            let meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            let (mut flat, index) = (meta.clone(), shared.columns.len());
            let columns = parquet..first_column[root];
            let column = match columns.clone().find_map(|c| int96_errors.get(&c)) {
                Some(e) => Err(Error::clone(e)),
                None => shared.column(leaf, &roots[root], parquet, &mut flat),
            };
            let looked = column.and_then(|column| {
                shared.columns.push(column);
                let wish = look::Wish { wanted, values: !options.types_only };
                foreign("parquet", || shared.look(index, &mut flat, wish))
            });
            let looked = looked.map(|lists| shared.columns[index].lists = lists);
            shared.metas.push(match looked {
                Ok(()) => flat,
                Err(e) => {
                    shared.columns.truncate(index);
                    let wish = NestedWish {
                        look: wanted && !options.types_only,
                        choice: options.choice.as_ref(),
                    };
                    let (column, meta) =
                        shared.nested_or(e, leaf, &roots[root], (columns, wish), (meta, flat))?;
                    shared.columns.push(column);
                    meta
                }
            });
        }

        let mut attributes = Attributes::new();
        let mut metadata_of_table = Attributes::new();
        let lost: HashSet<&str> = lost_keys.iter().map(String::as_str).collect();
        for entry in file
            .key_value_metadata()
            .into_iter()
            .flatten()
            .filter(|entry| !lost.contains(entry.key.as_str()))
        {
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
            arrays: shared.metas.clone().into(),
            tables: vec![table],
            attributes,
            notes,
            ..Plan::default()
        };
        Ok(ParquetSource { plan: plan.with_rows(rows), shared: Arc::new(shared) })
    }
}

impl Shared {
    /// The Parquet columns of dictionaries in structs: Arrow's own writer counts nulls of the
    /// dictionary alone there, and leaves out those of the structs.
    fn uncounted_nulls(&self, roots: &[Root]) -> HashSet<usize> {
        let descr = self.metadata.file_metadata().schema_descr();
        let mut found = HashSet::new();
        for root in roots {
            let all = walk(root.refined.data_type()).into_iter();
            let leaves = all.filter(|t| children(t).is_empty()).enumerate();
            for (i, _) in leaves.filter(|(_, t)| matches!(t, DataType::Dictionary(..))) {
                let column = root.first_column + i;
                let inside = !children(root.refined.data_type()).is_empty();
                if inside && column < descr.num_columns() {
                    found.insert(column);
                }
            }
        }
        found
    }

    /// The nulls of a column in a row group, where its statistics tell.
    pub(super) fn null_count(&self, group: &RowGroupMetaData, column: usize) -> Option<u64> {
        let told = group.column(column).statistics().and_then(|s| s.null_count_opt());
        told.filter(|_| !self.uncounted.contains(&column))
    }

    /// The column of a leaf, with its types as the schema has them.
    fn column(
        &self,
        leaf: &Leaf,
        root: &Root,
        parquet: usize,
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let descr = self.metadata.file_metadata().schema_descr();
        let unpacked = self.footer_facts(parquet, meta)?;
        meta.details.stored_dtype =
            Some(descr.column(parquet).physical_type().to_string().to_lowercase());
        if let Some(e) = &root.error {
            return Err(Error::refused(format!("its type is not supported ({e})")));
        }
        let holds = match &leaf.holds {
            Ok(holds) => holds.clone(),
            Err(e) => return Err(Error::clone(e)),
        };
        self.check_chunks(parquet)?;
        meta.dtype = holds.dtype;
        if holds.levels.is_empty() {
            meta.inner = arrow_model::inner_dims(&holds, &[]);
        }
        meta.logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
        let levels =
            schema::levels(&root.parquet, &root.reading, &leaf.path[1..]).map_err(crate_error)?;
        let dictionary = match &meta.logical {
            Logical::Dictionary { categories, .. } => {
                Some(Dictionaries::new(categories.clone(), self.held.clone()))
            }
            _ => None,
        };
        let text = match &holds.element {
            DataType::Dictionary(_, values) => values.as_ref(),
            element => element,
        };
        Ok(Column {
            levels: Some(levels),
            structs: leaf.path.len() - 1,
            merges: leaf.path.len() > 1,
            dictionary,
            unchecked: is_unchecked(text, &descr.column(parquet)),
            unpacked,
            rows: rows_of(&holds, descr.column(parquet).physical_type()),
            step: self.share.min(STEP_BYTES),
            leaf: holds,
            ..Column::none(parquet)
        })
    }

    /// What the footer tells of a column, added to what `meta` has; its bytes unpacked.
    fn footer_facts(&self, parquet: usize, meta: &mut ArrayMeta) -> Result<u64> {
        let (mut stored, mut unpacked) = (0u64, 0u64);
        for group in self.metadata.row_groups() {
            let chunk = group
                .columns()
                .get(parquet)
                .ok_or_else(|| Error::corrupt("a row group lacks this column"))?;
            stored = stored.saturating_add(u64::try_from(chunk.compressed_size()).unwrap_or(0));
            unpacked =
                unpacked.saturating_add(u64::try_from(chunk.uncompressed_size()).unwrap_or(0));
        }
        let before = meta.details.stored_bytes.unwrap_or(0);
        meta.details.stored_bytes = Some(before.saturating_add(stored));
        meta.details.compression = self
            .metadata
            .row_groups()
            .last()
            .map(|group| codec_name(group.column(parquet).compression()));
        Ok(unpacked)
    }

    /// Checks that the chunks of a column can be read and have its rows.
    fn check_chunks(&self, parquet: usize) -> Result<()> {
        for (g, group) in self.metadata.row_groups().iter().enumerate() {
            let chunk = group.column(parquet);
            if self.encrypted.contains(&(g, parquet)) {
                return Err(Error::refused("its values are encrypted, which is not supported")
                    .hint("choose other columns with -a, or leave such columns out with --skip-unsupported"));
            }
            if chunk.file_path().is_some_and(|p| !p.is_empty()) {
                return Err(Error::refused(
                    "its values are in another file, which is not supported",
                ));
            }
            let found = self.chunk(g, parquet)?;
            let rows = self.starts[g + 1] - self.starts[g];
            if found.element.max_rep == 0 && found.values != rows {
                return Err(Error::corrupt(format!(
                    "row group {g} has {rows} rows, and {} values of it",
                    found.values
                )));
            }
        }
        Ok(())
    }

    /// A column that does not fit rows of numbers and texts, as Arrow arrays; the error and the
    /// flat meta where there is another reason. `columns`: its Parquet columns.
    fn nested_or(
        &self,
        error: Error,
        leaf: &Leaf,
        root: &Root,
        (columns, wish): (Range<usize>, NestedWish<'_>),
        (mut meta, mut flat): (ArrayMeta, ArrayMeta),
    ) -> Result<(Column, ArrayMeta)> {
        let first = columns.start;
        let mut error = error.of_data()?;
        let shape = root.error.is_none() && !children(leaf.field.data_type()).is_empty();
        if error.kind() == ErrorKind::Refused && shape {
            match foreign("parquet", || self.nested_column(leaf, root, (columns, wish), &mut meta))
            {
                Ok(column) => return Ok((column, meta)),
                Err(e) => error = e.of_data()?,
            }
        }
        flat.details.error = Some(Arc::new(error));
        Ok((Column::none(first), flat))
    }

    fn nested_column(
        &self,
        leaf: &Leaf,
        root: &Root,
        (columns, wish): (Range<usize>, NestedWish<'_>),
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let pruned = wish.choice.and_then(|choice| choice.inside(&meta.name, &leaf.field));
        let field = pruned.as_ref().map_or(&leaf.field, |pruned| &pruned.field);
        let is_kept = |number: usize| pruned.as_ref().is_none_or(|p| p.kept[number]);
        let mut nested = arrow_model::nested(field)?;
        let descr = self.metadata.file_metadata().schema_descr();
        // The leaves, and their numbers in a walk through the type.
        let all = walk(leaf.field.data_type()).into_iter().enumerate();
        let types: Vec<_> = all.filter(|(_, t)| children(t).is_empty()).collect();
        if types.len() != columns.len() {
            return Err(Error::refused("a column of this shape is not supported"));
        }
        let (mut leaves, mut unpacked) = (Vec::new(), 0u64);
        // Leaves are not cut at the same rows: of two parts of each a whole one is wanted.
        let step = if types.len() > 1 { self.share / (2 * types.len() as u64) } else { self.share };
        for (i, (parquet, (number, t))) in columns.clone().zip(types).enumerate() {
            if !is_kept(number) {
                continue;
            }
            let bytes = self.footer_facts(parquet, meta)?;
            unpacked = unpacked.saturating_add(bytes);
            self.check_chunks(parquet)?;
            let levels = nested::leaf_levels(&root.parquet, &root.reading, &leaf.path[1..], i)
                .map_err(nested::shape_error)?;
            let physical = descr.column(parquet).physical_type();
            let item = t.primitive_width().unwrap_or(4) as u64 * 2 + 8 * leaf.path.len() as u64;
            let texts = physical == Physical::BYTE_ARRAY;
            let rows = match descr.column(parquet).max_rep_level() > 0 {
                true if texts => Rows::TextLists(item + ROW_BYTES),
                true => Rows::Lists(item + ROW_BYTES),
                false if texts => Rows::Texts(item + ROW_BYTES),
                false => Rows::Fixed(item + ROW_BYTES),
            };
            let text = if let DataType::Dictionary(_, values) = t { values } else { t };
            leaves.push(Column {
                levels: Some(levels),
                structs: leaf.path.len() - 1,
                unchecked: is_unchecked(text, &descr.column(parquet)),
                unpacked: bytes,
                rows,
                step: step.clamp(LEAST_STEP_BYTES, STEP_BYTES),
                ..Column::none(parquet)
            });
        }
        let path = &leaf.path[1..];
        let places = nested::NullPlaces::of(&root.parquet, &leaf.field, path);
        if let Some(mut places) = places.filter(|_| wish.look) {
            let mut number = 0..;
            places.found.retain(|_| number.next().is_none_or(is_kept));
            nested.nulls = self.nested_nulls(columns.start, &places.found)?;
        }
        let nested = Arc::new(nested);
        let merged = |c: &Arc<Categories>| Dictionaries::new(c.clone(), self.held.clone());
        let dictionaries = nested.dictionaries.iter().map(merged).collect();
        meta.logical = Logical::Nested(nested.clone());
        let first = columns.start;
        let nested = Some(NestedColumn { nested, dictionaries, leaves });
        Ok(Column { nested, unpacked, rows: Rows::Texts(ROW_BYTES), ..Column::none(first) })
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

    /// INT96 columns that need microseconds. Per column: does every value fit nanoseconds, or else
    /// microseconds exactly?
    fn int96_micros(&self) -> (HashSet<usize>, HashMap<usize, Error>) {
        let encrypted: HashSet<usize> = self.encrypted.iter().map(|(_, column)| *column).collect();
        let descr = self.metadata.file_metadata().schema_descr();
        let (mut micros, mut errors) = (HashSet::new(), HashMap::new());
        for c in 0..descr.num_columns() {
            if descr.column(c).physical_type() != Physical::INT96 || encrypted.contains(&c) {
                continue;
            }
            match foreign("parquet", || self.int96_range(c)) {
                Ok((true, _)) => {}
                Ok((false, true)) => _ = micros.insert(c),
                Ok((false, false)) => {
                    let error = Error::refused(
                        "its INT96 times neither fit nanoseconds nor are whole microseconds",
                    );
                    errors.insert(c, error.hint("leave the column out with -x, or all such columns with --skip-unsupported"));
                }
                Err(e) => _ = errors.insert(c, e),
            }
        }
        (micros, errors)
    }
}

/// Rows are measured in parts of this many bytes at most, and of one leaf among many at least.
const STEP_BYTES: u64 = 4 << 20;
const LEAST_STEP_BYTES: u64 = 16 << 10;

/// What one of the pieces in flight may take.
fn share(options: &ReadOptions) -> u64 {
    (options.resources.memory_bytes() / (4 * options.resources.jobs() as u64 + 4))
        .clamp(64 << 10, 16 << 20)
}

/// Texts that the crate takes as they are.
fn is_unchecked(text: &DataType, descr: &ColumnDescPtr) -> bool {
    matches!(text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        && descr.converted_type() != ConvertedType::UTF8
}

/// What the rows of a column take while they are decoded and handed on.
fn rows_of(leaf: &LeafType, physical: Physical) -> Rows {
    /// A decimal in Arrow and as it is stored.
    const DECIMAL_BYTES: u64 = 64;
    let item = if leaf.logical.decimals().is_some() { 32 } else { leaf.dtype.item_bytes() };
    match (&leaf.element, &leaf.logical) {
        // Levels of two kinds, and the value in two forms.
        _ if !leaf.levels.is_empty() => Rows::Lists(2 * item + 4),
        (_, Logical::Dictionary { .. }) => Rows::Codes(item + ROW_BYTES),
        (_, Logical::Decimal { .. }) if physical == Physical::BYTE_ARRAY => {
            Rows::Texts(DECIMAL_BYTES)
        }
        (_, Logical::Decimal { .. }) => Rows::Fixed(DECIMAL_BYTES),
        (DataType::FixedSizeBinary(n), _) => {
            Rows::Fixed(2 * u64::try_from(*n).unwrap_or(0) + ROW_BYTES)
        }
        (_, l) if l.is_var() => Rows::Texts(ROW_BYTES),
        _ => Rows::Fixed(2 * item + 6),
    }
}

impl Source for ParquetSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        arrays.iter().try_for_each(|&a| readable(&self.plan.arrays[a]))?;
        Ok(Reader::Random(self.shared.clone()))
    }
}

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
