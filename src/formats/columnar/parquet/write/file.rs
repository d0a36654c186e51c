//! The Parquet file that is being written: column chunks as they come, the footer at the end.
//!
//! The `parquet` crate keeps what it knows of every column chunk of every row group until the file
//! ends, in a kilobyte and a half each: of thousands of columns that is more than their values. Here
//! each is kept as the bytes that the footer will have of it, beyond some of them on the disk.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{
    FileMetaData, KeyValue, ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

use super::super::thrift::{
    FooterParts, moved_chunk, moved_locations, put_chunk, put_group, put_size,
};
use super::crate_error;
use crate::error::{Error, Result};
use crate::storage::{Output, temporary};

/// Rows of a row group of a wide table, where each column comes alone: as many as the crate has in
/// a page.
pub(super) const WIDE_ROWS: u64 = 20_000;

const MAGIC: &[u8; 4] = b"PAR1";

/// A column of a row group: its chunks (several where it is nested), encoded.
pub(super) struct Encoded {
    data: Vec<u8>,
    chunks: Vec<Chunk>,
    rows: i64,
    unpacked: i64,
    packed: i64,
    /// Whether a chunk of it has more than one page.
    paged: bool,
}

/// What the footer has of a chunk, as if its column began the file.
struct Chunk {
    /// The fields of the chunk, as Thrift has them, without the end.
    fields: Box<[u8]>,
    column_index: Box<[u8]>,
    offset_index: Box<[u8]>,
}

/// The crate's writer of the chunks of one column.
type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

impl Encoded {
    /// What `write` gives to a row group of these columns, about so many bytes.
    ///
    /// # Errors
    /// Those of `write` and the crate.
    pub(super) fn of(
        descr: &SchemaDescPtr,
        properties: &WriterPropertiesPtr,
        bytes: usize,
        write: impl FnOnce(&mut Group<'_>) -> parquet::errors::Result<()>,
    ) -> Result<Encoded> {
        let mut out = TrackedWrite::new(Vec::with_capacity(bytes));
        let mut closed = None;
        let told = |_: &mut TrackedWrite<Vec<u8>>,
                    group: RowGroupMetaData,
                    _: Vec<Option<Sbbf>>,
                    columns: Vec<Option<ColumnIndexMetaData>>,
                    offsets: Vec<Option<OffsetIndexMetaData>>| {
            closed = Some((group, columns, offsets));
            Ok(())
        };
        let (descr_of, properties) = (descr.clone(), properties.clone());
        let mut group = Group::new(descr_of, properties, &mut out, 0, Some(Box::new(told)));
        write(&mut group).and_then(|()| group.close()).map_err(crate_error)?;
        let Some((group, columns, offsets)) = closed else {
            return Err(Error::internal("a row group without its metadata"));
        };
        let data = out.into_inner().map_err(crate_error)?;
        let (rows, unpacked, packed) =
            (group.num_rows(), group.total_byte_size(), group.compressed_size());
        let pages = |o: &OffsetIndexMetaData| o.page_locations().len();
        let paged = offsets.iter().flatten().any(|o| pages(o) > 1);
        let chunks = chunks(descr, group, columns, offsets)?;
        Ok(Encoded { data, chunks, rows, unpacked, packed, paged })
    }
}

/// Encodes what the footer has of these chunks.
fn chunks(
    descr: &SchemaDescPtr,
    group: RowGroupMetaData,
    columns: Vec<Option<ColumnIndexMetaData>>,
    offsets: Vec<Option<OffsetIndexMetaData>>,
) -> Result<Vec<Chunk>> {
    let with_column: Vec<bool> = columns.iter().map(Option::is_some).collect();
    let with_offset: Vec<bool> = offsets.iter().map(Option::is_some).collect();
    let mut index = PageIndexBuilder::new(1, columns.len());
    for (c, column) in columns.into_iter().enumerate() {
        column.into_iter().for_each(|column| index.put_column_index(column, 0, c));
    }
    for (c, offset) in offsets.into_iter().enumerate() {
        offset.into_iter().for_each(|offset| index.put_offset_index(offset, 0, c));
    }
    let file = FileMetaData::new(1, group.num_rows(), None, None, descr.clone(), None);
    let metadata = ParquetMetaDataBuilder::new(file)
        .add_row_group(group)
        .set_page_index(Some(Arc::new(index.build())))
        .build();
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().map_err(crate_error)?;
    let wrong = || Error::internal("the metadata of a column chunk is not as expected");
    let indexes = |with: &[bool]| with.iter().filter(|with| **with).count();
    let parts = FooterParts::of(&bytes, indexes(&with_column) + indexes(&with_offset));
    let parts = parts.filter(|p| p.chunks.len() == with_column.len()).ok_or_else(wrong)?;
    let mut written = parts.indexes.into_iter();
    let mut next = |with: &bool| match *with {
        true => written.next().map(|range| bytes[range].into()).unwrap_or_default(),
        false => Box::default(),
    };
    let columns: Vec<Box<[u8]>> = with_column.iter().map(&mut next).collect();
    let offsets: Vec<Box<[u8]>> = with_offset.iter().map(&mut next).collect();
    let all = parts.chunks.into_iter().zip(columns).zip(offsets);
    Ok(all
        .map(|((fields, column_index), offset_index)| Chunk {
            fields: bytes[fields].into(),
            column_index,
            offset_index,
        })
        .collect())
}

/// Bytes that are written now and read at the end: some in memory, more on the disk.
#[derive(Default)]
struct Kept {
    memory: Vec<u8>,
    file: Option<File>,
}

/// Bytes that are written together.
const WAITING: usize = 64 << 10;
/// Bytes that are kept in memory.
const IN_MEMORY: usize = 1 << 20;

impl Kept {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() < IN_MEMORY {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(temporary::file()?),
        };
        file.write_all(&self.memory).map_err(temporary::error)?;
        self.memory.clear();
        Ok(())
    }
    fn read(self) -> Result<Box<dyn Read>> {
        let memory = std::io::Cursor::new(self.memory);
        let Some(mut file) = self.file else { return Ok(Box::new(memory)) };
        file.rewind().map_err(temporary::error)?;
        Ok(Box::new(BufReader::new(file).chain(memory)))
    }
}

/// What is known of a row group beside its chunks.
struct RowGroup {
    at: i64,
    rows: i64,
    unpacked: i64,
    packed: i64,
}

/// A Parquet file being written.
pub(super) struct ParquetFile {
    output: Box<dyn Output>,
    /// What is not written yet: chunks of wide tables have some hundred bytes each.
    waiting: Vec<u8>,
    /// Bytes of the file so far.
    bytes: u64,
    schema: TypePtr,
    created_by: String,
    metadata: Vec<KeyValue>,
    columns: usize,
    groups: Vec<RowGroup>,
    /// One whose columns come one by one, and how many chunks it has so far.
    begun: Option<(RowGroup, usize)>,
    /// Per chunk the lengths of its fields and its two indexes, and its fields.
    chunks: Kept,
    column_indexes: Kept,
    offset_indexes: Kept,
    index_bytes: [u64; 2],
}

impl ParquetFile {
    /// Begins it.
    ///
    /// # Errors
    /// Those of the output.
    pub(super) fn begin(
        output: Box<dyn Output>,
        schema: TypePtr,
        (properties, metadata): (&WriterProperties, Vec<KeyValue>),
    ) -> Result<ParquetFile> {
        let columns = SchemaDescriptor::new(schema.clone()).num_columns();
        let mut file = ParquetFile {
            output,
            waiting: Vec::new(),
            bytes: 0,
            schema,
            created_by: properties.created_by().to_string(),
            metadata,
            columns,
            groups: Vec::new(),
            begun: None,
            chunks: Kept::default(),
            column_indexes: Kept::default(),
            offset_indexes: Kept::default(),
            index_bytes: [0; 2],
        };
        file.write(MAGIC)?;
        Ok(file)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if self.waiting.len() + bytes.len() > WAITING {
            self.output.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        match bytes.len() > WAITING {
            true => self.output.write_all(bytes)?,
            false => self.waiting.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Appends a row group of these columns, or the next columns of one.
    ///
    /// # Errors
    /// Those of the output.
    pub(super) fn append(&mut self, columns: Vec<Encoded>) -> Result<()> {
        let wrong = || Error::internal("a row group is not as expected");
        let rows = columns.first().map_or(0, |c| c.rows);
        let (at, begun) = (self.bytes as i64, self.begun.take());
        let new = || (RowGroup { at, rows, unpacked: 0, packed: 0 }, 0);
        let (mut group, before) = begun.unwrap_or_else(new);
        let chunks = before + columns.iter().map(|c| c.chunks.len()).sum::<usize>();
        if chunks > self.columns || columns.iter().any(|c| c.rows != group.rows) {
            return Err(wrong());
        }
        // An index of one page says no more than the footer. All chunks have one, or none; where
        // the first are written before the last are known, their rows tell.
        let paged = match before == 0 && chunks == self.columns {
            true => columns.iter().any(|c| c.paged),
            false => group.rows as u64 > WIDE_ROWS,
        };
        for column in columns {
            let at = self.bytes as i64;
            self.write(&column.data)?;
            group.unpacked += column.unpacked;
            group.packed += column.packed;
            for chunk in &column.chunks {
                let fields = moved_chunk(&chunk.fields, at).ok_or_else(wrong)?;
                let (mut columns, mut offsets) = (&chunk.column_index[..], Vec::new());
                match paged && !chunk.offset_index.is_empty() {
                    true => offsets = moved_locations(&chunk.offset_index, at).ok_or_else(wrong)?,
                    false => columns = &[],
                }
                let mut lengths = Vec::with_capacity(12);
                for length in [fields.len(), columns.len(), offsets.len()] {
                    put_size(&mut lengths, length).ok_or_else(wrong)?;
                }
                self.chunks.push(&lengths)?;
                self.chunks.push(&fields)?;
                self.column_indexes.push(columns)?;
                self.offset_indexes.push(&offsets)?;
                self.index_bytes[0] += columns.len() as u64;
                self.index_bytes[1] += offsets.len() as u64;
            }
        }
        match chunks == self.columns {
            true => self.groups.push(group),
            false => self.begun = Some((group, chunks)),
        }
        Ok(())
    }

    /// Writes indexes and footer; the bytes of the file.
    ///
    /// # Errors
    /// Those of the output; refused where the footer would be too long.
    pub(super) fn finish(mut self) -> Result<u64> {
        if self.begun.is_some() {
            return Err(Error::internal("a row group lacks columns"));
        }
        let at = self.bytes;
        for kept in
            [std::mem::take(&mut self.column_indexes), std::mem::take(&mut self.offset_indexes)]
        {
            self.copy(kept)?;
        }
        let start = self.bytes;
        self.footer([at, at + self.index_bytes[0]])?;
        let length = self.bytes - start;
        // Readers take lengths as they are in Java.
        let length = i32::try_from(length).map_err(|_| {
            Error::refused(format!("the footer would have {length} bytes, at most {} can be read", i32::MAX))
                .hint("choose a larger --row-group-size, or raise --memory-limit: the row groups are larger then")
        })?;
        self.write(&length.to_le_bytes())?;
        self.write(MAGIC)?;
        self.output.write_all(&self.waiting)?;
        self.output.commit()?;
        Ok(self.bytes)
    }

    fn copy(&mut self, kept: Kept) -> Result<()> {
        let mut from = kept.read()?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match from.read(&mut buffer).map_err(temporary::error)? {
                0 => return Ok(()),
                n => self.write(&buffer[..n])?,
            }
        }
    }

    /// `indexes`: where those of columns and those of offsets begin.
    fn footer(&mut self, indexes: [u64; 2]) -> Result<()> {
        let wrong = || Error::internal("the footer is not as expected");
        let descr = Arc::new(SchemaDescriptor::new(self.schema.clone()));
        let (created_by, metadata) = (self.created_by.clone(), std::mem::take(&mut self.metadata));
        let file = FileMetaData::new(1, 0, Some(created_by), Some(metadata), descr, None);
        let mut bytes = Vec::new();
        let empty = ParquetMetaDataBuilder::new(file).build();
        ParquetMetaDataWriter::new(&mut bytes, &empty).finish().map_err(crate_error)?;
        drop(empty);
        let parts = FooterParts::of(&bytes, 0).ok_or_else(wrong)?;
        let rows = self.groups.iter().map(|group| group.rows).sum();
        self.write(&bytes[..parts.rows.start])?;
        let mut head = Vec::new();
        put_group::file(&mut head, rows, self.groups.len()).ok_or_else(wrong)?;
        self.write(&head)?;
        let mut from = std::mem::take(&mut self.chunks).read()?;
        let mut at = indexes;
        let groups = std::mem::take(&mut self.groups);
        let ordinals = i16::try_from(groups.len()).is_ok();
        for (g, group) in groups.iter().enumerate() {
            let mut buffer = Vec::new();
            put_group::begin(&mut buffer, self.columns).ok_or_else(wrong)?;
            for _ in 0..self.columns {
                let mut lengths = [0u8; 12];
                from.read_exact(&mut lengths).map_err(temporary::error)?;
                let length = |i: usize| {
                    u32::from_le_bytes([0, 1, 2, 3].map(|b| lengths[4 * i + b])) as usize
                };
                let mut fields = vec![0; length(0)];
                from.read_exact(&mut fields).map_err(temporary::error)?;
                let lengths = [length(1), length(2)];
                put_chunk(&mut buffer, &fields, at, lengths);
                at = [at[0] + lengths[0] as u64, at[1] + lengths[1] as u64];
                if buffer.len() > 64 << 10 {
                    self.write(&buffer)?;
                    buffer.clear();
                }
            }
            let sizes = [group.unpacked, group.rows, group.at, group.packed];
            put_group::end(&mut buffer, sizes, ordinals.then_some(g as i64));
            self.write(&buffer)?;
        }
        self.write(&bytes[parts.groups.end..parts.end])
    }
}

/// The columns of a schema of this one alone.
///
/// # Errors
/// Those of the crate.
pub(super) fn alone(name: &str, column: TypePtr) -> parquet::errors::Result<TypePtr> {
    Ok(Arc::new(Type::group_type_builder(name).with_fields(vec![column]).build()?))
}
