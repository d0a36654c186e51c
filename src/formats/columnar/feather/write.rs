//! Writing Arrow files and streams: one block a record batch, encoded on any thread, appended in
//! turn.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::RecordBatchOptions;
use arrow_ipc as ipc;
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
    write_message,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use flatbuffers::FlatBufferBuilder;

use super::index::{self, MAGIC};
use crate::arrow_model;
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, Block, BlockRows, EncodeBlocks, InOrder, Sink, Summary, WriteOptions,
};
use crate::formats::columnar::export::{Export, OutColumn};
use crate::model::nested::{dictionaries, dictionary_paths};
use crate::model::{ArrayMeta, Categories, Logical, Plan, Shared};
use crate::storage::{Location, Output};

/// Decoded bytes of a record batch, unless `--row-group-size` says otherwise.
const BATCH_BYTES: u64 = 8 << 20;
/// Rows of a record batch at most.
const BATCH_ROWS: u64 = 1 << 20;
/// What everything is aligned to.
const ALIGN: usize = 64;

/// An Arrow file or stream being written.
struct IpcFile {
    output: Box<dyn Output>,
    bytes: u64,
    stream: bool,
    options: IpcWriteOptions,
    schema: SchemaRef,
    dictionaries: Vec<Dictionary>,
    dictionary_blocks: Vec<ipc::Block>,
    batch_blocks: Vec<ipc::Block>,
}

/// A dictionary column's categories, and how many of them are written.
struct Dictionary {
    id: i64,
    array: usize,
    /// Its place among the dictionaries of a nested column.
    place: usize,
    values: DataType,
    categories: Arc<Categories>,
    written: Option<usize>,
}

struct Encoder {
    /// With the codes in place of dictionaries: their buffers are the same.
    coded: Export,
    metas: Shared<Vec<ArrayMeta>>,
    options: IpcWriteOptions,
    batch_rows: u64,
    /// Bytes after which a batch ends even so: text is only guessed at.
    enough: Option<u64>,
}

fn failed(e: arrow_schema::ArrowError) -> Error {
    match e {
        arrow_schema::ArrowError::IoError(_, io) => io.into(),
        other => Error::failed("a record batch cannot be written").because(other),
    }
}

/// Compression and alignment.
pub(super) fn write_options(options: &WriteOptions) -> Result<IpcWriteOptions> {
    let known = [("none", None), ("uncompressed", None), ("lz4", None), ("zstd", Some(1))];
    let (name, level) = options.compression("feather", &known)?.unwrap_or(("zstd", 1));
    let kind = match name {
        "lz4" => Some(ipc::CompressionType::LZ4_FRAME),
        "zstd" => Some(ipc::CompressionType::ZSTD),
        _ => None,
    };
    let made = IpcWriteOptions::try_new(ALIGN, false, ipc::MetadataVersion::V5)
        .and_then(|o| o.try_with_compression(kind));
    let made = made.and_then(|o| {
        if kind == Some(ipc::CompressionType::ZSTD) {
            o.try_with_compression_level(Some(level))
        } else {
            Ok(o)
        }
    });
    made.map_err(|e| Error::usage(e.to_string()))
}

/// Begins a file or a stream.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let ipc_options = write_options(options)?;
    let export = Export::new(plan, options)?;
    let stream = at.is_stream() || at.file_name().ends_with(".arrows");
    let coded = export.with_codes();
    let mut row_bytes = 0u64;
    for meta in &plan.arrays {
        row_bytes = row_bytes.saturating_add(meta.row_bytes_about(32));
    }
    let batch_bytes = BATCH_BYTES.min(options.resources.memory_bytes() / 16).max(1 << 16);
    let (batch_rows, enough) = match options.row_group_rows {
        Some(0) => return Err(Error::usage("a record batch needs at least one row")),
        Some(rows) => (rows, None),
        None => (
            (batch_bytes / row_bytes.max(1)).clamp(1, BATCH_ROWS) / 8 * 8 + 8,
            Some(2 * batch_bytes),
        ),
    };
    // The numbers of the dictionaries are those that the schema message gives them.
    let mut tracker = DictionaryTracker::new(false);
    let schema = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        &export.schema,
        &mut tracker,
        &ipc_options,
    );
    let ids = index::ids_of_message(&schema.ipc_message)?;
    let mut dictionaries = Vec::new();
    for (i, column) in export.columns.iter().enumerate() {
        find_dictionaries(column, vec![i], &ids, plan, &mut dictionaries)?;
    }
    let output = at.create_file(options.existing, options.sync)?;
    let encoder = Encoder {
        coded,
        metas: plan.arrays.clone(),
        options: ipc_options.clone(),
        batch_rows,
        enough,
    };
    let mut sink = IpcFile {
        output,
        bytes: 0,
        stream,
        options: ipc_options,
        schema: export.schema,
        dictionaries,
        dictionary_blocks: Vec::new(),
        batch_blocks: Vec::new(),
    };
    if !stream {
        let mut head = MAGIC.to_vec();
        head.resize(ALIGN, 0);
        sink.put(&head)?;
    }
    sink.message(schema)?;
    Ok(InOrder::sink(encoder, sink))
}

impl IpcFile {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn message(&mut self, encoded: EncodedData) -> Result<ipc::Block> {
        let offset = self.bytes;
        let (metadata, body) =
            write_message(&mut self.output, encoded, &self.options).map_err(failed)?;
        self.bytes += (metadata + body) as u64;
        let metadata = i32::try_from(metadata)
            .map_err(|_| Error::refused("too many columns for one message"))?;
        Ok(ipc::Block::new(offset as i64, metadata, body as i64))
    }

    /// Writes the categories that are new.
    fn categories(&mut self) -> Result<()> {
        for i in 0..self.dictionaries.len() {
            let d = &mut self.dictionaries[i];
            let first = d.written.unwrap_or(0);
            let is_delta = d.written.is_some();
            if is_delta && d.categories.len() == first {
                continue;
            }
            let values = arrow_model::categories_array(&d.categories, &d.values, first)?;
            d.written = Some(first + values.len());
            let encoded = dictionary_message(d.id, is_delta, values, &self.options)?;
            let block = self.message(encoded)?;
            self.dictionary_blocks.push(block);
        }
        Ok(())
    }
}

fn find_dictionaries(
    column: &OutColumn,
    path: Vec<usize>,
    ids: &HashMap<Vec<usize>, i64>,
    plan: &Plan,
    found: &mut Vec<Dictionary>,
) -> Result<()> {
    match column {
        OutColumn::Struct { children, .. } => {
            for (i, child) in children.iter().enumerate() {
                let mut path = path.clone();
                path.push(i);
                find_dictionaries(child, path, ids, plan, found)?;
            }
        }
        OutColumn::Leaf { array, field } => {
            if let (DataType::Dictionary(_, values), Logical::Dictionary { categories, .. }) =
                (field.data_type(), &plan.arrays[*array].logical)
            {
                let id =
                    *ids.get(&path).ok_or_else(|| Error::internal("a dictionary without an id"))?;
                let (values, categories) = (values.as_ref().clone(), categories.clone());
                found.push(Dictionary {
                    id,
                    array: *array,
                    place: 0,
                    values,
                    categories,
                    written: None,
                });
            }
            if let Logical::Nested(nested) = &plan.arrays[*array].logical {
                let types = dictionaries(field.data_type());
                let paths = dictionary_paths(field.data_type(), path);
                for (place, (path, (_, values))) in paths.iter().zip(types).enumerate() {
                    let id = ids.get(path);
                    found.push(Dictionary {
                        id: *id.ok_or_else(|| Error::internal("a dictionary without an id"))?,
                        array: *array,
                        place,
                        values: values.clone(),
                        categories: nested.dictionaries[place].clone(),
                        written: None,
                    });
                }
            }
        }
    }
    Ok(())
}

/// A dictionary batch: the values as a record batch of one column, in another envelope.
fn dictionary_message(
    id: i64,
    is_delta: bool,
    values: arrow_array::ArrayRef,
    options: &IpcWriteOptions,
) -> Result<EncodedData> {
    let schema = Arc::new(Schema::new(vec![Field::new("", values.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![values]).map_err(failed)?;
    let mut tracker = DictionaryTracker::new(false);
    let (_, encoded) = IpcDataGenerator::default()
        .encode(&batch, &mut tracker, options, &mut IpcWriteContext::default())
        .map_err(failed)?;
    let unexpected = || Error::internal("a record batch was expected");
    let message = ipc::root_as_message(&encoded.ipc_message).map_err(|_| unexpected())?;
    let header = message.header_as_record_batch().ok_or_else(unexpected)?;
    let mut fbb = FlatBufferBuilder::new();
    let nodes: Vec<ipc::FieldNode> = header.nodes().iter().flatten().copied().collect();
    let buffers: Vec<ipc::Buffer> = header.buffers().iter().flatten().copied().collect();
    let nodes = Some(fbb.create_vector(&nodes));
    let buffers = Some(fbb.create_vector(&buffers));
    let compression = header.compression().map(|c| {
        ipc::BodyCompression::create(
            &mut fbb,
            &ipc::BodyCompressionArgs { codec: c.codec(), method: c.method() },
        )
    });
    let variadic: Vec<i64> = header.variadicBufferCounts().iter().flatten().collect();
    let variadic = (!variadic.is_empty()).then(|| fbb.create_vector(&variadic));
    let args = ipc::RecordBatchArgs {
        length: header.length(),
        nodes,
        buffers,
        compression,
        variadicBufferCounts: variadic,
    };
    let data = Some(ipc::RecordBatch::create(&mut fbb, &args));
    let dictionary = ipc::DictionaryBatch::create(
        &mut fbb,
        &ipc::DictionaryBatchArgs { id, data, isDelta: is_delta },
    );
    let args = ipc::MessageArgs {
        version: ipc::MetadataVersion::V5,
        header_type: ipc::MessageHeader::DictionaryBatch,
        header: Some(dictionary.as_union_value()),
        bodyLength: message.bodyLength(),
        custom_metadata: None,
    };
    let root = ipc::Message::create(&mut fbb, &args);
    fbb.finish(root, None);
    Ok(EncodedData { ipc_message: fbb.finished_data().to_vec(), arrow_data: encoded.arrow_data })
}

impl EncodeBlocks for Encoder {
    type Encoded = EncodedData;
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        (row / self.batch_rows + 1).saturating_mul(self.batch_rows)
    }
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        self.enough
    }
    fn encode(&self, block: Block) -> Result<EncodedData> {
        let arrays = self.coded.arrays(&self.metas, &block)?;
        let rows = RecordBatchOptions::new().with_row_count(Some(block.rows as usize));
        let batch = RecordBatch::try_new_with_options(self.coded.schema.clone(), arrays, &rows)
            .map_err(failed)?;
        let mut tracker = DictionaryTracker::new(false);
        let (_, encoded) = IpcDataGenerator::default()
            .encode(&batch, &mut tracker, &self.options, &mut IpcWriteContext::default())
            .map_err(failed)?;
        Ok(encoded)
    }
}

impl AppendBlocks for IpcFile {
    type Encoded = EncodedData;
    fn append(&mut self, rows: BlockRows, encoded: EncodedData) -> Result<()> {
        // Codes of this block mean categories that are known by now.
        self.categories()?;
        if rows.rows == 0 {
            return Ok(());
        }
        let block = self.message(encoded)?;
        self.batch_blocks.push(block);
        Ok(())
    }
    fn finish(mut self, end: &Plan) -> Result<Summary> {
        for dictionary in &mut self.dictionaries {
            match end.arrays.get(dictionary.array).map(|a| &a.logical) {
                Some(Logical::Dictionary { categories, .. }) => {
                    dictionary.categories = categories.clone();
                }
                Some(Logical::Nested(nested)) => {
                    dictionary.categories.clone_from(&nested.dictionaries[dictionary.place]);
                }
                _ => {}
            }
        }
        self.categories()?;
        self.put(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
        if !self.stream {
            let mut fbb = FlatBufferBuilder::new();
            let dictionaries = Some(fbb.create_vector(&self.dictionary_blocks));
            let batches = Some(fbb.create_vector(&self.batch_blocks));
            let mut tracker = DictionaryTracker::new(false);
            let schema = ipc::convert::IpcSchemaEncoder::new()
                .with_dictionary_tracker(&mut tracker)
                .schema_to_fb_offset(&mut fbb, &self.schema);
            let args = ipc::FooterArgs {
                version: ipc::MetadataVersion::V5,
                schema: Some(schema),
                dictionaries,
                recordBatches: batches,
                custom_metadata: None,
            };
            let root = ipc::Footer::create(&mut fbb, &args);
            fbb.finish(root, None);
            let footer = fbb.finished_data().to_vec();
            let len = i32::try_from(footer.len())
                .map_err(|_| Error::refused("too many batches for one file"))?;
            self.put(&footer)?;
            self.put(&len.to_le_bytes())?;
            self.put(MAGIC)?;
        }
        self.output.commit()?;
        Ok(Summary { bytes: self.bytes, files: 1, notes: Vec::new() })
    }
}
