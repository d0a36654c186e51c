//! Writing Parquet: one block a row group, encoded on any thread, appended in turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, Type as Physical, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath, SchemaDescPtr, SchemaDescriptor, TypePtr};

use super::errors::crate_error;
use super::logical_types;
use crate::arrow_model;
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, Block, BlockRows, EncodeBlocks, InOrder, Sink, Summary, WriteOptions,
};
use crate::formats::columnar::export::{Export, OutColumn};
use crate::model::nested::{children, with_children};
use crate::model::{ArrayMeta, CategoryKind, Chunk, Logical, Plan, Shared};
use crate::storage::Location;

mod dictionary;
mod file;

use file::{Encoded, ParquetFile, WIDE_ROWS};

/// Compressions that are written.
const CODECS: &[(&str, Option<i32>)] = &[
    ("none", None),
    ("uncompressed", None),
    ("snappy", None),
    ("gzip", Some(6)),
    ("brotli", Some(1)),
    ("lz4", None),
    ("lz4_raw", None),
    ("zstd", Some(1)),
];

/// Decoded bytes of a row group, unless `--row-group-size` or the memory budget says otherwise.
const GROUP_BYTES: u64 = 64 << 20;
/// Decoded bytes that a column chunk should have at least.
const CHUNK_BYTES: u64 = 4 << 10;
/// Rows of a row group at most.
const GROUP_ROWS: u64 = 1 << 20;
/// Bytes of such a column, by the memory limit.
const MIN_SHARE_BYTES: u64 = 256 << 10;
const MAX_SHARE_BYTES: u64 = 8 << 20;

struct Encoder {
    export: Export,
    /// The types that are stored: Parquet has no seconds.
    stored: Fields,
    metas: Shared<Vec<ArrayMeta>>,
    /// With dictionaries, and without.
    properties: [WriterPropertiesPtr; 2],
    group_rows: u64,
    /// Bytes after which a row group ends even so: text is only guessed at.
    enough: Option<u64>,
    /// Rows of a row group whose columns come one by one, where there are more then; and whether
    /// they do.
    group_rows_by_column: Option<u64>,
    by_column: AtomicBool,
    /// The file's codec.
    codec: Compression,
    schema: TypePtr,
    /// The same columns with codes in place of dictionaries.
    coded: Export,
}

/// The crate's view of a column: a schema of it alone.
struct Single {
    descr: SchemaDescPtr,
    properties: WriterPropertiesPtr,
}

/// Begins a file.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let compression = codec(options)?;
    let export = Export::new(plan, options)?;
    let (stored, descr) = stored_schema(&export)?;
    let mut metadata: Vec<KeyValue> = export
        .schema
        .metadata()
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    metadata.sort_by(|a, b| a.key.cmp(&b.key));
    metadata.push(KeyValue::new("ARROW:schema".into(), arrow_model::encode_schema(&export.schema)));
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(format!("npk version {}", env!("CARGO_PKG_VERSION")))
        .set_max_row_group_row_count(None)
        .build();
    let output = at.create_file(options.existing, options.sync)?;
    let root = logical_types::logical_schema(descr.root_schema(), &stored).map_err(crate_error)?;
    let file = ParquetFile::begin(output, root.clone(), (&properties, metadata))?;
    let plain = properties.clone().into_builder().set_dictionary_enabled(false).build();
    let group_bytes = group_bytes(descr.num_columns(), options.resources.memory_bytes());
    let group_rows = group_rows(plan, options, group_bytes)?;
    let is_wide = options.row_group_rows.is_none() && group_rows < WIDE_ROWS;
    let encoder = Encoder {
        group_rows_by_column: (is_wide && comes_by_column(&export))
            .then(|| group_rows_by_column(plan, options.resources.memory_bytes()))
            .filter(|rows| rows / 2 >= group_rows),
        by_column: AtomicBool::new(false),
        coded: export.with_codes(),
        export,
        stored,
        metas: plan.arrays.clone(),
        properties: [properties, plain].map(Arc::new),
        group_rows,
        enough: options.row_group_rows.is_none().then_some(2 * group_bytes),
        codec: compression,
        schema: root,
    };
    Ok(InOrder::sink(encoder, file))
}

/// The fields as they are stored, and what Parquet makes of them.
///
/// # Errors
/// Refused: types that Parquet cannot hold, by the names of their columns.
pub(super) fn stored_schema(export: &Export) -> Result<(Fields, SchemaDescriptor)> {
    let stored: Fields = export.schema.fields().iter().map(stored_field).collect();
    // With the names of lists and maps that the specification asks for.
    let converter = || ArrowSchemaConverter::new().with_coerce_types(true);
    let convert = |fields: Fields| converter().convert(&Schema::new(fields));
    let lacking = stored.iter().filter_map(|field| {
        let t = arrow_model::type_name(lacking_type(field.data_type())?);
        let error = Error::refused(format!("Parquet cannot hold {t}")).array(field.name());
        Some(error.hint("leave the column out with -x, or write Feather, which has all types"))
    });
    Error::all(lacking.collect())?;
    let descr = convert(stored.clone()).map_err(crate_error)?;
    Ok((stored, descr))
}

/// What there is in a type that Parquet does not have.
fn lacking_type(t: &DataType) -> Option<&DataType> {
    match t {
        DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::Interval(_) => Some(t),
        DataType::Struct(fields) if fields.is_empty() => Some(t),
        DataType::FixedSizeBinary(0) => Some(t),
        // A scale is 0 at least, and no larger than the precision.
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if !(0..=i16::from(*precision)).contains(&i16::from(*scale)) =>
        {
            Some(t)
        }
        DataType::Dictionary(_, values) => lacking_type(values),
        _ => children(t).into_iter().find_map(|f| lacking_type(f.data_type())),
    }
}

/// Bytes of a row group, as far as this much memory allows: chunks of a few values each, of
/// thousands of columns, make files that are mostly footer.
fn group_bytes(columns: usize, memory_bytes: u64) -> u64 {
    let wide = (columns as u64).saturating_mul(CHUNK_BYTES).min(memory_bytes / 8);
    GROUP_BYTES.min((memory_bytes / 16).max(wide)).max(1 << 20)
}

/// Rows of a row group.
fn group_rows(plan: &Plan, options: &WriteOptions, group_bytes: u64) -> Result<u64> {
    if let Some(rows) = options.row_group_rows {
        if rows == 0 {
            return Err(Error::usage("--row-group-size must be at least 1"));
        }
        return Ok(rows);
    }
    let mut row_bytes = 0u64;
    for meta in &plan.arrays {
        row_bytes = row_bytes.saturating_add(meta.row_bytes_about(32));
    }
    Ok((group_bytes / row_bytes.max(1)).clamp(1, GROUP_ROWS))
}

/// Whether each column is an array, in their order.
fn comes_by_column(export: &Export) -> bool {
    let is_array = |(i, column): (usize, &OutColumn)| match column {
        OutColumn::Leaf { array, .. } => *array == i,
        OutColumn::Struct { .. } => false,
    };
    export.columns.iter().enumerate().all(is_array)
}

/// Rows of a row group of which one column is held at a time: of wide tables many more than where
/// all columns are. 0 where rows have no fixed size.
fn group_rows_by_column(plan: &Plan, memory_bytes: u64) -> u64 {
    let share = (memory_bytes / 32).clamp(MIN_SHARE_BYTES, MAX_SHARE_BYTES);
    if plan.arrays.iter().any(|meta| meta.logical.is_var() || meta.rows.is_none()) {
        return 0;
    }
    let row_bytes = |meta: &ArrayMeta| meta.row_bytes().unwrap_or(u64::MAX).max(1);
    let all = plan.arrays.iter().map(row_bytes).fold(0, u64::saturating_add);
    let widest = plan.arrays.iter().map(row_bytes).max().unwrap_or(1);
    (GROUP_BYTES / all.max(1)).max(WIDE_ROWS).min(share / widest)
}

/// The file's codec.
pub(super) fn codec(options: &WriteOptions) -> Result<Compression> {
    let bad = |e: parquet::errors::ParquetError| Error::usage(e.to_string());
    Ok(match options.compression("parquet", CODECS)?.unwrap_or(("snappy", 0)) {
        ("none" | "uncompressed", _) => Compression::UNCOMPRESSED,
        ("gzip", level) => Compression::GZIP(GzipLevel::try_new(level as u32).map_err(bad)?),
        ("brotli", level) => Compression::BROTLI(BrotliLevel::try_new(level as u32).map_err(bad)?),
        ("zstd", level) => Compression::ZSTD(ZstdLevel::try_new(level).map_err(bad)?),
        ("lz4" | "lz4_raw", _) => Compression::LZ4_RAW,
        _ => Compression::SNAPPY,
    })
}

/// The field with the types that Parquet has.
fn stored_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(stored_type(field.data_type())))
}

fn stored_type(t: &DataType) -> DataType {
    match t {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        DataType::Date64 => DataType::Date32,
        other => with_children(other, &mut stored_field),
    }
}

/// Values that are given to the crate together: it makes levels and an index of each of them.
const TOGETHER: usize = 64 << 10;

/// Rows of an array that are written together.
fn rows_together(rows: usize, elements: usize) -> usize {
    let step = (rows as u128 * TOGETHER as u128 / elements.max(rows).max(1) as u128) as usize;
    // The crate takes 1,024 rows at a time.
    if step >= 1024 { step / 1024 * 1024 } else { step.max(1) }
}

/// Elements of an array, in all lists.
fn elements(array: &dyn Array) -> usize {
    let between = |first: usize, last: usize, values: &ArrayRef| {
        elements(values.slice(first, last - first).as_ref())
    };
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            between(list.offsets()[0] as usize, list.offsets()[list.len()] as usize, list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            between(list.offsets()[0] as usize, list.offsets()[list.len()] as usize, list.values())
        }
        DataType::FixedSizeList(..) => elements(array.as_fixed_size_list().values().as_ref()),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            between(map.offsets()[0] as usize, map.offsets()[map.len()] as usize, &entries)
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|c| elements(c.as_ref())).max().unwrap_or(0)
        }
        _ => array.len(),
    }
}

impl EncodeBlocks for Encoder {
    type Encoded = Vec<Encoded>;
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        let rows = self.by_column().unwrap_or(self.group_rows);
        (row / rows + 1).saturating_mul(rows)
    }
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        self.enough.filter(|_| self.by_column().is_none())
    }
    fn takes_groups(&self) -> bool {
        let total = self.metas.iter().filter_map(|meta| meta.rows).max().unwrap_or(0);
        let takes = self.group_rows_by_column.is_some() && total > self.group_rows;
        self.by_column.store(takes, Ordering::Relaxed);
        takes
    }
    fn encode(&self, block: Block) -> Result<Vec<Encoded>> {
        if block.rows == 0 {
            return Ok(Vec::new());
        }
        // Each array is the column of its number then.
        let columns = match (self.by_column(), block.columns.first()) {
            (Some(_), Some((array, _))) => *array..*array + 1,
            _ => 0..self.stored.len(),
        };
        let chunks: HashMap<usize, &[Chunk]> =
            block.columns.iter().map(|(a, c)| (*a, c.as_slice())).collect();
        let rows = (block.first_row, block.rows as usize);
        let column = |i: usize| match self.is_coded(&self.export.columns[i]) {
            true => self.encode_coded(i, &chunks, rows.1),
            false => self.encode_column(i, &chunks, rows),
        };
        columns.map(column).collect()
    }
}

impl Encoder {
    /// Rows of a row group whose columns come one by one, if they do.
    fn by_column(&self) -> Option<u64> {
        self.group_rows_by_column.filter(|_| self.by_column.load(Ordering::Relaxed))
    }

    /// Encodes a column from its first row on.
    fn encode_column(
        &self,
        i: usize,
        chunks: &HashMap<usize, &[Chunk]>,
        (first_row, rows): (u64, usize),
    ) -> Result<Encoded> {
        let field = &self.stored[i];
        let array = self.export.columns[i].build(&self.metas, chunks, rows)?;
        let array: ArrayRef = if array.data_type() == field.data_type() {
            array
        } else {
            arrow_model::cast_exact(&array, field.data_type(), first_row)
                .map_err(|e| e.array(field.name()))?
        };
        let (single, mut writers) = self.writers(i).map_err(crate_error)?;
        let step = rows_together(array.len(), elements(array.as_ref()));
        for first in (0..array.len()).step_by(step) {
            let part = array.slice(first, step.min(array.len() - first));
            let leaves = compute_leaves(field, &part).map_err(crate_error)?;
            if leaves.len() != writers.len() {
                return Err(Error::internal("a column without a writer"));
            }
            for (writer, leaf) in writers.iter_mut().zip(leaves) {
                writer.write(&leaf).map_err(crate_error)?;
            }
        }
        drop(array);
        let closed: parquet::errors::Result<Vec<ArrowColumnChunk>> =
            writers.into_iter().map(ArrowColumnWriter::close).collect();
        let closed = closed.map_err(crate_error)?;
        let bytes: i64 = closed.iter().map(|c| c.close().metadata.compressed_size()).sum();
        Encoded::of(&single.descr, &single.properties, bytes as usize, |group| {
            closed.into_iter().try_for_each(|chunk| chunk.append_to_row_group(group))
        })
    }

    fn single(&self, i: usize) -> parquet::errors::Result<Single> {
        let column = self.schema.get_fields()[i].clone();
        let alone = file::alone(self.schema.name(), column)?;
        let descr = Arc::new(SchemaDescriptor::new(alone));
        // Dictionaries of floats never pay, and cost a hash a value.
        let is_float =
            |c: &ColumnDescPtr| matches!(c.physical_type(), Physical::FLOAT | Physical::DOUBLE);
        let floats: Vec<ColumnPath> =
            descr.columns().iter().filter(|c| is_float(c)).map(|c| c.path().clone()).collect();
        let [with, without] = &self.properties;
        let properties = if floats.is_empty() {
            with.clone()
        } else if floats.len() == descr.num_columns() {
            without.clone()
        } else {
            let with = with.as_ref().clone().into_builder();
            let mixed = floats
                .into_iter()
                .fold(with, |all, path| all.set_column_dictionary_enabled(path, false));
            Arc::new(mixed.build())
        };
        Ok(Single { descr, properties })
    }

    /// The crate's writers of one column: those of thousands of columns at once would take
    /// gigabytes.
    fn writers(&self, i: usize) -> parquet::errors::Result<(Single, Vec<ArrowColumnWriter>)> {
        let single = self.single(i)?;
        let schema = single.descr.root_schema_ptr();
        let of_one = SerializedFileWriter::new(std::io::sink(), schema, single.properties.clone())?;
        let field = Schema::new(vec![self.stored[i].clone()]);
        let factory = ArrowRowGroupWriterFactory::new(&of_one, Arc::new(field));
        Ok((single, factory.create_column_writers(0)?))
    }

    /// A column of categories whose dictionary is written as it is.
    fn is_coded(&self, column: &OutColumn) -> bool {
        let brotli = matches!(self.codec, Compression::BROTLI(_));
        match column {
            OutColumn::Leaf { array, field } => {
                match (field.data_type(), &self.metas[*array].logical) {
                    (DataType::Dictionary(..), Logical::Dictionary { categories, .. }) => {
                        let text =
                            matches!(categories.kind(), CategoryKind::Text | CategoryKind::Binary);
                        let bytes: usize = if text {
                            categories.snapshot().iter().map(|c| c.len() + 4).sum()
                        } else {
                            0
                        };
                        text && !brotli && bytes <= dictionary::MAX_DICTIONARY_BYTES
                    }
                    _ => false,
                }
            }
            OutColumn::Struct { .. } => false,
        }
    }

    fn encode_coded(
        &self,
        i: usize,
        chunks: &HashMap<usize, &[Chunk]>,
        rows: usize,
    ) -> Result<Encoded> {
        let codes = self.coded.columns[i].build(&self.metas, chunks, rows)?;
        let OutColumn::Leaf { array, .. } = &self.export.columns[i] else {
            return Err(Error::internal("a column of codes was expected"));
        };
        let Logical::Dictionary { categories, .. } = &self.metas[*array].logical else {
            return Err(Error::internal("categories were expected"));
        };
        let items = categories.snapshot();
        if matches!(categories.kind(), CategoryKind::Text)
            && items.iter().any(|i| std::str::from_utf8(i).is_err())
        {
            return Err(
                Error::corrupt("a category is not UTF-8 text").array(&self.metas[*array].name)
            );
        }
        let single = self.single(i).map_err(crate_error)?;
        let (bytes, close) =
            dictionary::encode(&single.descr.column(0), self.codec, &codes, &items)
                .map_err(|e| e.array(&self.metas[*array].name))?;
        Encoded::of(&single.descr, &single.properties, bytes.len(), |group| {
            group.append_column(&bytes, close)
        })
    }
}

impl AppendBlocks for ParquetFile {
    type Encoded = Vec<Encoded>;
    fn append(&mut self, _rows: BlockRows, columns: Vec<Encoded>) -> Result<()> {
        if columns.is_empty() { Ok(()) } else { self.append(columns) }
    }
    fn finish(self, _end: &Plan) -> Result<Summary> {
        Ok(Summary { bytes: self.finish()?, files: 1, notes: Vec::new() })
    }
}
