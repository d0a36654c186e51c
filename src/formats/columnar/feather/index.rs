//! Where everything is: the schema, dictionary batches and record batches of a file or stream.

use std::collections::HashMap;
use std::ops::Range;

use arrow_ipc as ipc;
use arrow_schema::Schema;

use crate::arrow_model::Verified;
use crate::error::{Error, Result};
use crate::format::Sniff;

/// The largest metadata of a message or footer.
pub(super) const MAX_METADATA_BYTES: u64 = 1 << 30;
/// Bytes that are looked at together for what lies between messages.
pub(super) const SCAN_BYTES: u64 = 1 << 20;
/// More notes than this say no more.
const MAX_NOTES: usize = 100;
/// Where Arrow 0.17 told how a batch is compressed.
const OLD_COMPRESSION: &str = "ARROW:experimental_compression";
/// What files begin and end with.
pub(super) const MAGIC: &[u8; 6] = b"ARROW1";

/// The header of a record batch or of a dictionary's values.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) rows: u64,
    /// Length and null count of each array, depth first.
    pub(super) nodes: Vec<(u64, u64)>,
    /// Place in the file and length of each buffer.
    pub(super) buffers: Vec<(u64, u64)>,
    pub(super) compression: Option<ipc::CompressionType>,
    /// Data buffers of each view array.
    pub(super) variadic: Vec<u64>,
    /// Before V5, unions have a validity buffer.
    pub(super) before_v5: bool,
}

/// A dictionary batch.
#[derive(Clone, Debug)]
pub(super) struct DictionaryBatch {
    pub(super) id: i64,
    pub(super) is_delta: bool,
    pub(super) values: Batch,
    /// The record batches before it.
    pub(super) before: usize,
    /// Which of several streams, one after the other, it is in.
    pub(super) stream: usize,
}

/// All of a file or stream.
pub(super) struct Index {
    pub(super) form: &'static str,
    pub(super) is_big_endian: bool,
    pub(super) schema: Schema,
    /// Dictionary ids: path of fields → id.
    pub(super) ids: HashMap<Vec<usize>, i64>,
    pub(super) dictionaries: Vec<DictionaryBatch>,
    pub(super) batches: Vec<Batch>,
    /// The record batches before each further stream that follows the first.
    pub(super) further: Vec<usize>,
    /// Metadata of the footer.
    pub(super) metadata: Vec<(String, String)>,
    /// What is not kept.
    pub(super) notes: Vec<String>,
}

/// Does this look like a stream?
pub(super) fn sniff_stream(head: &[u8]) -> Sniff {
    let Some((start, len)) = metadata_place(head) else { return Sniff::No };
    let Some(metadata) = head.get(start..).map(|m| &m[..m.len().min(len)]) else {
        return Sniff::No;
    };
    if len == 0 || len % 8 != 0 && start == 8 || len as u64 > MAX_METADATA_BYTES {
        return Sniff::No;
    }
    if metadata.len() == len {
        let is_schema = ipc::root_as_message(metadata)
            .is_ok_and(|m| m.header_type() == ipc::MessageHeader::Schema);
        return if is_schema { Sniff::Yes } else { Sniff::No };
    }
    // The schema is longer than what was read: the mark and a plausible root decide.
    let root = metadata.first_chunk::<4>().map_or(u32::MAX, |b| u32::from_le_bytes(*b));
    if start == 8 && root < 64 { Sniff::Yes } else { Sniff::No }
}

/// Where the metadata of the message at the start of `head` is: after `FF FF FF FF` and its length,
/// or (before version 0.15) after its length.
pub(super) fn metadata_place(head: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| {
        head.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).map(|b| i32::from_le_bytes(*b))
    };
    match word(0)? {
        -1 => Some((8, usize::try_from(word(4)?).ok()?)),
        n => Some((4, usize::try_from(n).ok()?)),
    }
}

impl Index {
    pub(super) fn with_schema<T>(
        form: &'static str,
        stored: ipc::Schema<'_>,
        verified: &Verified<'_, T>,
    ) -> Result<Index> {
        let ids = ids_of(stored);
        let (schema, notes) = verified.schema(stored)?;
        Ok(Index {
            form,
            is_big_endian: stored.endianness() != ipc::Endianness::Little,
            schema,
            ids,
            dictionaries: Vec::new(),
            batches: Vec::new(),
            further: Vec::new(),
            metadata: Vec::new(),
            notes,
        })
    }

    /// The dictionary batches of each id.
    pub(super) fn dictionaries_by_id(&self) -> HashMap<i64, Vec<usize>> {
        let mut by_id: HashMap<i64, Vec<usize>> = HashMap::new();
        for (d, batch) in self.dictionaries.iter().enumerate() {
            by_id.entry(batch.id).or_default().push(d);
        }
        by_id
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) && self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    /// Takes a message; `batch`: whether it must be a record batch (or a dictionary).
    pub(super) fn take(
        &mut self,
        message: &[u8],
        body: u64,
        len: u64,
        batch: Option<bool>,
    ) -> Result<()> {
        let Some((start, metadata_len)) = metadata_place(message) else {
            return Err(Error::corrupt("a message is empty"));
        };
        let metadata = start.checked_add(metadata_len).and_then(|end| message.get(start..end));
        let metadata = metadata.ok_or_else(|| Error::corrupt("a message is truncated"))?;
        let mut copy = Vec::new();
        let verified = Verified::message(metadata, &mut copy)?;
        let message = verified.root;
        check_version(message.version())?;
        let body_len = u64::try_from(message.bodyLength())
            .ok()
            .filter(|n| body.checked_add(*n).is_some_and(|e| e <= len));
        let body_len = body_len.ok_or_else(|| {
            Error::corrupt(format!("a body at byte {body} reaches past the end at {len}"))
        })?;
        let before_v5 = message.version() < ipc::MetadataVersion::V5;
        let mut compression = None;
        for entry in message.custom_metadata().iter().flatten() {
            if entry.key() != Some(OLD_COMPRESSION) {
                self.note("the metadata of single record batches is left out".into());
            } else if before_v5 {
                compression = Some(old_compression(entry.value().unwrap_or_default())?);
            }
        }
        let body = body..body + body_len;
        match message.header_type() {
            ipc::MessageHeader::RecordBatch if batch != Some(false) => {
                let header = message
                    .header_as_record_batch()
                    .ok_or_else(|| Error::corrupt("a record batch has no header"))?;
                self.batches.push(batch_of(header, body, compression, before_v5)?);
            }
            ipc::MessageHeader::DictionaryBatch if batch != Some(true) => {
                let header = message
                    .header_as_dictionary_batch()
                    .ok_or_else(|| Error::corrupt("a dictionary has no header"))?;
                let data =
                    header.data().ok_or_else(|| Error::corrupt("a dictionary has no values"))?;
                let values = batch_of(data, body, compression, before_v5)?;
                let (before, stream) = (self.batches.len(), self.further.len());
                self.dictionaries.push(DictionaryBatch {
                    id: header.id(),
                    is_delta: header.isDelta(),
                    values,
                    before,
                    stream,
                });
            }
            other => {
                let kind = other
                    .variant_name()
                    .map_or_else(|| format!("number {}", other.0), str::to_string);
                return Err(Error::corrupt(format!(
                    "a message of kind {kind} is in the wrong place"
                )));
            }
        }
        Ok(())
    }
}

/// What Arrow 0.17 wrote into the metadata of a message in place of the compression that batches
/// have now.
fn old_compression(name: &str) -> Result<ipc::CompressionType> {
    match name.to_ascii_lowercase().as_str() {
        "lz4" | "lz4_frame" => Ok(ipc::CompressionType::LZ4_FRAME),
        "zstd" => Ok(ipc::CompressionType::ZSTD),
        _ => {
            Err(Error::refused(format!("the compression '{name}' of Arrow 0.17 is not supported")))
        }
    }
}

/// Other versions have other layouts.
pub(super) fn check_version(version: ipc::MetadataVersion) -> Result<()> {
    let number = i32::from(version.0) + 1;
    match version {
        ipc::MetadataVersion::V4 | ipc::MetadataVersion::V5 => Ok(()),
        _ if version > ipc::MetadataVersion::V5 => Err(Error::refused(format!(
            "version {number} of Arrow's metadata is newer than version 5, the newest that is supported"
        ))),
        _ => Err(Error::refused(format!(
            "version {number} of Arrow's metadata (before Arrow 0.8) is not supported"
        ))
        .hint("rewrite it with the library that wrote it, or a release of pyarrow from that time")),
    }
}

/// `compression`: what the message itself says of it.
fn batch_of(
    header: ipc::RecordBatch<'_>,
    body: Range<u64>,
    compression: Option<ipc::CompressionType>,
    before_v5: bool,
) -> Result<Batch> {
    let body_len = body.end - body.start;
    let number = |n: i64, what: &str| {
        u64::try_from(n).map_err(|_| Error::corrupt(format!("a batch has {what} of {n}")))
    };
    let mut nodes = Vec::new();
    for node in header.nodes().iter().flatten() {
        nodes
            .push((number(node.length(), "a length")?, number(node.null_count(), "a null count")?));
    }
    let mut buffers = Vec::new();
    for buffer in header.buffers().iter().flatten() {
        let (offset, length) =
            (number(buffer.offset(), "an offset")?, number(buffer.length(), "a buffer length")?);
        if offset.checked_add(length).is_none_or(|end| end > body_len) {
            return Err(Error::corrupt(format!(
                "a buffer has {length} bytes at {offset} in a body of {body_len}"
            )));
        }
        buffers.push((body.start + offset, length));
    }
    let variadic: Result<Vec<u64>> = header
        .variadicBufferCounts()
        .iter()
        .flatten()
        .map(|n| number(n, "a buffer count"))
        .collect();
    Ok(Batch {
        rows: number(header.length(), "a length")?,
        nodes,
        buffers,
        compression: header.compression().map(|c| c.codec()).or(compression),
        variadic: variadic?,
        before_v5,
    })
}

/// The ids of the dictionaries below a field.
fn dictionary_ids(field: ipc::Field<'_>, path: Vec<usize>, ids: &mut HashMap<Vec<usize>, i64>) {
    if let Some(dictionary) = field.dictionary() {
        ids.insert(path.clone(), dictionary.id());
    }
    if path.len() > 32 {
        return;
    }
    for (i, child) in field.children().iter().flatten().enumerate() {
        let mut path = path.clone();
        path.push(i);
        dictionary_ids(child, path, ids);
    }
}

/// The dictionary ids of a schema message of our own.
pub(super) fn ids_of_message(message: &[u8]) -> Result<HashMap<Vec<usize>, i64>> {
    let mut copy = Vec::new();
    let message = Verified::message(message, &mut copy)?.root;
    let schema =
        message.header_as_schema().ok_or_else(|| Error::corrupt("the message is not a schema"))?;
    Ok(ids_of(schema))
}

fn ids_of(schema: ipc::Schema<'_>) -> HashMap<Vec<usize>, i64> {
    let mut ids = HashMap::new();
    for (i, field) in schema.fields().iter().flatten().enumerate() {
        dictionary_ids(field, vec![i], &mut ids);
    }
    ids
}
