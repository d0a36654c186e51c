//! Feather version 1, which Wes McKinney and Hadley Wickham made before Arrow had files.
//! <https://github.com/apache/arrow/blob/main/cpp/src/arrow/ipc/feather.fbs>
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `FEA1` |
//! | 4.. | the arrays: bits of validity where there are nulls, offsets of texts, values |
//! | then | the metadata (FlatBuffers: `CTable`, its columns, the place of each array) |
//! | len−8..len−4 | the metadata's length, uint32 |
//! | len−4..len | `FEA1` |
//!
//! A table is told as an Arrow file of one batch: all else is shared with those. FlatBuffers are
//! read here, since the library reads without `unsafe` only what its compiler made code for.

use std::collections::HashMap;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::index::{Batch, DictionaryBatch, Index};
use crate::error::{Error, Result};
use crate::storage::Blob;

/// What files begin and end with.
pub(super) const MAGIC: &[u8; 4] = b"FEA1";

/// A table of FlatBuffers: where it begins.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn damaged() -> Error {
    Error::corrupt("the metadata of the file is not valid")
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or_else(damaged)
}

/// Where an offset leads to.
fn follow(bytes: &[u8], at: usize) -> Result<usize> {
    let offset = u32::from_le_bytes(read(bytes, at)?);
    at.checked_add(offset as usize).filter(|&to| to < bytes.len()).ok_or_else(damaged)
}

impl<'a> Table<'a> {
    /// Where its field of a number is; `None` where it has the default value.
    fn field(&self, number: usize) -> Result<Option<usize>> {
        let back = i64::from(i32::from_le_bytes(read(self.bytes, self.at)?));
        let fields = usize::try_from(self.at as i64 - back).map_err(|_| damaged())?;
        let length = usize::from(u16::from_le_bytes(read(self.bytes, fields)?));
        let place = 4 + 2 * number;
        if place + 2 > length {
            return Ok(None);
        }
        let offset = u16::from_le_bytes(read(self.bytes, fields + place)?);
        Ok((offset != 0).then_some(self.at + usize::from(offset)))
    }
    fn byte(&self, number: usize) -> Result<u8> {
        let at = self.field(number)?;
        at.map_or(Ok(0), |at| Ok(read::<1>(self.bytes, at)?[0]))
    }
    fn int(&self, number: usize) -> Result<i32> {
        let at = self.field(number)?;
        at.map_or(Ok(0), |at| Ok(i32::from_le_bytes(read(self.bytes, at)?)))
    }
    /// A count or a place: not negative.
    fn long(&self, number: usize) -> Result<u64> {
        let at = self.field(number)?;
        let long = at.map_or(Ok(0), |at| Ok::<_, Error>(i64::from_le_bytes(read(self.bytes, at)?)));
        u64::try_from(long?).map_err(|_| damaged())
    }
    fn table(&self, number: usize) -> Result<Option<Table<'a>>> {
        let bytes = self.bytes;
        let at = self.field(number)?.map(|at| follow(bytes, at)).transpose()?;
        Ok(at.map(|at| Table { bytes, at }))
    }
    fn text(&self, number: usize) -> Result<Option<String>> {
        let Some(at) = self.field(number)? else { return Ok(None) };
        let at = follow(self.bytes, at)?;
        let length = u32::from_le_bytes(read(self.bytes, at)?) as usize;
        let bytes = self.bytes[at + 4..].get(..length).ok_or_else(damaged)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::corrupt("a text of the metadata is not UTF-8"))?;
        Ok(Some(text.to_string()))
    }
    fn tables(&self, number: usize) -> Result<Vec<Table<'a>>> {
        let Some(at) = self.field(number)? else { return Ok(Vec::new()) };
        let (bytes, at) = (self.bytes, follow(self.bytes, at)?);
        let count = u32::from_le_bytes(read(bytes, at)?) as usize;
        if count > bytes.len() / 4 {
            return Err(damaged());
        }
        let one = |i: usize| Ok(Table { bytes, at: follow(bytes, at + 4 + 4 * i)? });
        (0..count).map(one).collect()
    }
}

/// The table of a file.
///
/// # Errors
/// Corrupt; refused types.
pub(super) fn index(blob: &dyn Blob) -> Result<Index> {
    let len = blob.len();
    let truncated = || {
        Error::corrupt("the file does not end like a Feather file: it is truncated")
            .hint("fetch the file again")
    };
    let tail = blob.read_vec(len.checked_sub(8).filter(|&at| at >= 4).ok_or_else(truncated)?, 8)?;
    if &tail[4..] != MAGIC {
        return Err(truncated());
    }
    let size = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if size > len - 12 {
        return Err(Error::corrupt(format!("{size} bytes of metadata in a file of {len} bytes")));
    }
    let bytes = blob.read_vec(len - 8 - size, size)?;
    let root = Table { bytes: &bytes, at: follow(&bytes, 0)? };
    let mut file = File { len, padded: root.int(3)? >= 2, index: Index::one_batch(root.long(1)?) };
    let mut fields = Vec::new();
    for (place, column) in root.tables(2)?.into_iter().enumerate() {
        fields.push(file.column(column, place)?);
    }
    let mut metadata = HashMap::new();
    for (key, number) in [("description", 0), ("metadata", 4)] {
        metadata.extend(root.text(number)?.map(|text| (key.to_string(), text)));
    }
    file.index.schema = Schema::new_with_metadata(fields, metadata);
    Ok(file.index)
}

struct File {
    len: u64,
    /// Whether buffers take a multiple of 8 bytes: since version 2 of the metadata.
    padded: bool,
    index: Index,
}

impl File {
    /// Takes a column; its field.
    fn column(&mut self, column: Table<'_>, place: usize) -> Result<Field> {
        let name = column.text(0)?.unwrap_or_default();
        let values = column.table(1)?.ok_or_else(damaged)?;
        let stored = stored_type(values)?;
        let told = column.table(3)?;
        let mut ordered = false;
        let data_type = match (column.byte(2)?, told) {
            (1, Some(category)) => {
                let levels = category.table(0)?.ok_or_else(damaged)?;
                ordered = category.byte(1)? != 0;
                let texts = stored_type(levels)?;
                let mut batch = batch(levels.long(3)?);
                self.array(levels, &texts, &mut batch)?;
                self.index.ids.insert(vec![place], place as i64);
                self.index.dictionaries.push(DictionaryBatch {
                    id: place as i64,
                    is_delta: false,
                    values: batch,
                    before: 0,
                    stream: 0,
                });
                DataType::Dictionary(Box::new(stored.clone()), Box::new(texts))
            }
            (2, Some(times)) => {
                let zone = times.text(1)?.filter(|zone| !zone.is_empty());
                DataType::Timestamp(unit(times)?, zone.map(Into::into))
            }
            (3, _) => DataType::Date32,
            (4, Some(times)) => match unit(times)? {
                unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
                unit => DataType::Time64(unit),
            },
            (0, _) => stored.clone(),
            (kind, _) => return Err(Error::corrupt(format!("'{name}' is of the kind {kind}"))),
        };
        if stored.primitive_width() != data_type.primitive_width()
            && !matches!(data_type, DataType::Dictionary(..))
        {
            return Err(Error::corrupt(format!("'{name}': {stored} cannot hold {data_type}")));
        }
        if matches!(&data_type, DataType::Dictionary(keys, _) if !keys.is_integer()) {
            return Err(Error::corrupt(format!("'{name}' has codes of {stored}")));
        }
        let mut whole = self.index.batches.pop().ok_or_else(damaged)?;
        self.array(values, &stored, &mut whole)?;
        self.index.batches.push(whole);
        let more = column.text(4)?.map(|text| ("user_metadata".to_string(), text));
        Ok(Field::new(name, data_type, true)
            .with_dict_is_ordered(ordered)
            .with_metadata(more.into_iter().collect::<HashMap<_, _>>()))
    }

    /// Adds an array to a batch.
    fn array(&self, array: Table<'_>, t: &DataType, batch: &mut Batch) -> Result<()> {
        if array.byte(1)? != 0 {
            return Err(Error::refused("arrays with an encoding of their own are not supported"));
        }
        let [offset, length, nulls, total] = [2, 3, 4, 5].map(|number| array.long(number));
        let (offset, length, nulls, total) = (offset?, length?, nulls?, total?);
        let end = offset.checked_add(total).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| {
            Error::corrupt(format!(
                "an array has {total} bytes from byte {offset} on, the file has {}",
                self.len
            ))
        })?;
        let mut at = offset;
        let mut buffer = |bytes: Option<u64>| -> Result<()> {
            let bytes = bytes.map_or(Some(end - at), |bytes| {
                if self.padded { bytes.checked_next_multiple_of(8) } else { Some(bytes) }
            });
            let bytes = bytes.filter(|&bytes| bytes <= end - at).ok_or_else(|| {
                Error::corrupt(format!("{total} bytes are too few for {length} values"))
            })?;
            batch.buffers.push((at, bytes));
            at += bytes;
            Ok(())
        };
        if nulls > 0 {
            buffer(Some(length.div_ceil(8)))?
        } else {
            buffer(Some(0))?
        }
        match t {
            DataType::Utf8 | DataType::Binary => {
                buffer(Some(length.saturating_add(1).saturating_mul(4)))?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                buffer(Some(length.saturating_add(1).saturating_mul(8)))?;
            }
            _ => {}
        }
        buffer(None)?;
        batch.nodes.push((length, nulls));
        Ok(())
    }
}

/// A batch without arrays.
fn batch(rows: u64) -> Batch {
    Batch {
        rows,
        nodes: Vec::new(),
        buffers: Vec::new(),
        compression: None,
        variadic: Vec::new(),
        before_v5: true,
    }
}

impl Index {
    /// Of version 1: one batch, which gets its arrays column by column.
    fn one_batch(rows: u64) -> Index {
        Index {
            form: "version 1",
            is_big_endian: false,
            schema: Schema::empty(),
            ids: HashMap::new(),
            dictionaries: Vec::new(),
            batches: vec![batch(rows)],
            further: Vec::new(),
            metadata: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What an array is stored as.
fn stored_type(array: Table<'_>) -> Result<DataType> {
    Ok(match array.byte(0)? {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int16,
        3 => DataType::Int32,
        4 => DataType::Int64,
        5 => DataType::UInt8,
        6 => DataType::UInt16,
        7 => DataType::UInt32,
        8 => DataType::UInt64,
        9 => DataType::Float32,
        10 => DataType::Float64,
        11 => DataType::Utf8,
        12 => DataType::Binary,
        17 => DataType::LargeUtf8,
        18 => DataType::LargeBinary,
        other => return Err(Error::refused(format!("arrays of the type {other} are not known"))),
    })
}

fn unit(times: Table<'_>) -> Result<TimeUnit> {
    Ok(match times.byte(0)? {
        0 => TimeUnit::Second,
        1 => TimeUnit::Millisecond,
        2 => TimeUnit::Microsecond,
        3 => TimeUnit::Nanosecond,
        other => return Err(Error::corrupt(format!("times of the unit {other}"))),
    })
}
