//! Where everything is: the schema, dictionary batches and record batches of a file or stream.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use arrow_ipc as ipc;
use arrow_schema::{DataType, Field, Schema, UnionMode};

use super::version1;
use crate::arrow_model::{self, Verified};
use crate::error::{Error, Result};
use crate::format::Sniff;
use crate::model::nested::children;
use crate::storage::Blob;

/// The largest metadata of a message or footer.
const MAX_METADATA_BYTES: u64 = 1 << 30;
/// Bytes that are looked at together for what lies between messages.
const SCAN_BYTES: u64 = 1 << 20;
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
fn metadata_place(head: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| {
        head.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).map(|b| i32::from_le_bytes(*b))
    };
    match word(0)? {
        -1 => Some((8, usize::try_from(word(4)?).ok()?)),
        n => Some((4, usize::try_from(n).ok()?)),
    }
}

impl Index {
    pub(super) fn read(blob: &dyn Blob) -> Result<Index> {
        let head = blob.read_vec(0, blob.len().min(8))?;
        if head.starts_with(version1::MAGIC) {
            return version1::index(blob);
        }
        if head.starts_with(b"ARROW1") { Index::of_file(blob) } else { Index::of_stream(blob) }
    }

    fn of_file(blob: &dyn Blob) -> Result<Index> {
        let len = blob.len();
        if len < 22 {
            return Err(Error::corrupt(format!("{len} bytes are too few for an Arrow file")));
        }
        let tail = blob.read_vec(len - 10, 10)?;
        if &tail[4..] != b"ARROW1" {
            let error = Error::corrupt(
                "the file does not end like an Arrow file: it is truncated or was never finished",
            );
            return Err(error.hint("fetch the file again"));
        }
        let footer_len = i32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let footer_len = u64::try_from(footer_len).ok().filter(|&n| n > 0 && n <= len - 18);
        let footer_len = footer_len.ok_or_else(|| {
            Error::corrupt(format!("the footer's length is impossible in a file of {len} bytes"))
        })?;
        let bytes = blob.read_vec(len - 10 - footer_len, footer_len)?;
        let mut copy = Vec::new();
        let verified = Verified::footer(&bytes, &mut copy)?;
        let footer = verified.root;
        check_version(footer.version())?;
        let schema = footer.schema().ok_or_else(|| Error::corrupt("the footer has no schema"))?;
        let mut index = Index::with_schema("file", schema, &verified)?;
        index.metadata = verified.texts(footer.custom_metadata().iter().flatten());
        for block in footer.dictionaries().iter().flatten() {
            let message = block_metadata(blob, block)?;
            index.take(&message, block_body(block)?, blob.len(), Some(false))?;
        }
        let blocks: Vec<&ipc::Block> = footer.recordBatches().iter().flatten().collect();
        // Many small reads together, a bounded number at a time.
        for blocks in blocks.chunks(256) {
            let mut ranges = Vec::new();
            for block in blocks {
                ranges.push(block_range(block, len)?);
            }
            for (message, block) in blob.read_ranges(&ranges)?.iter().zip(blocks) {
                index.take(message, block_body(block)?, len, Some(true))?;
            }
        }
        let all = blocks.into_iter().chain(footer.dictionaries().into_iter().flatten());
        let end = all
            .filter_map(|block| block_body(block).ok()?.checked_add_signed(block.bodyLength()))
            .max()
            .unwrap_or(0);
        refuse_joined(blob, end, len - 10 - footer_len)?;
        Ok(index)
    }

    fn of_stream(blob: &dyn Blob) -> Result<Index> {
        let len = blob.len();
        let mut at = 0u64;
        let mut index: Option<Index> = None;
        let mut window = (0u64, Vec::new());
        let ahead: u64 = if blob.file().is_some() { 4 << 10 } else { 256 << 10 };
        // Whether a stream has ended, so that nothing but another schema may come next.
        let mut ended = false;
        while at < len {
            let follows = |e: Error| {
                if ended && index.is_some() { something_follows(at).because(e) } else { e }
            };
            let head = windowed(blob, &mut window, at, 8.min(len - at), ahead)?;
            let place = metadata_place(&head)
                .ok_or_else(|| Error::corrupt(format!("there is no message at byte {at}")));
            let (start, metadata_len) = place.map_err(follows)?;
            if metadata_len == 0 && index.is_some() {
                // What follows the end is another stream, or padding.
                ended = true;
                at = behind_zeros(blob, at + start as u64)?;
                continue;
            }
            if metadata_len == 0 {
                break;
            }
            if metadata_len as u64 > MAX_METADATA_BYTES {
                return Err(follows(Error::corrupt(format!(
                    "the message at byte {at} has {metadata_len} bytes of metadata"
                ))));
            }
            let message =
                windowed(blob, &mut window, at, start as u64 + metadata_len as u64, ahead)
                    .map_err(follows)?;
            let body = at + start as u64 + metadata_len as u64;
            let mut copy = Vec::new();
            let verified = Verified::message(&message[start..], &mut copy).map_err(follows)?;
            check_version(verified.root.version())?;
            let body_len = u64::try_from(verified.root.bodyLength())
                .map_err(|_| Error::corrupt("a body has a negative length"))?;
            let schema = verified.root.header_type() == ipc::MessageHeader::Schema;
            match &mut index {
                None => {
                    index =
                        Some(Index::with_schema("stream", schema_of(verified.root)?, &verified)?)
                }
                Some(index) if ended || schema => index.further_stream(&verified, at)?,
                Some(index) => index.take(&message, body, len, None)?,
            }
            ended = false;
            at = body.checked_add(body_len).filter(|&e| e <= len).ok_or_else(|| {
                Error::corrupt(format!(
                    "the message at byte {at} ends at byte {}, the stream has {len}",
                    body.saturating_add(body_len)
                ))
            })?;
        }
        index.ok_or_else(|| Error::corrupt("the stream has no schema"))
    }

    fn with_schema<T>(
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

    /// Takes the schema of a stream that follows another one.
    fn further_stream(&mut self, verified: &Verified<'_, ipc::Message<'_>>, at: u64) -> Result<()> {
        let Some(stored) = verified.root.header_as_schema() else {
            return Err(something_follows(at));
        };
        let other = Index::with_schema(self.form, stored, verified)?;
        if other.schema.fields() != self.schema.fields()
            || other.ids != self.ids
            || other.is_big_endian != self.is_big_endian
        {
            return Err(Error::refused(format!(
                "another stream begins at byte {at}, and its columns are not those of the first"
            ))
            .hint("cut the file there, and convert each part on its own"));
        }
        if other.schema.metadata() != self.schema.metadata() {
            self.note(format!("the metadata of the stream that begins at byte {at} is left out: it is not that of the first"));
        }
        self.further.push(self.batches.len());
        Ok(())
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) && self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    /// Takes a message; `batch`: whether it must be a record batch (or a dictionary).
    fn take(&mut self, message: &[u8], body: u64, len: u64, batch: Option<bool>) -> Result<()> {
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

/// The schema that a stream begins with.
fn schema_of(message: ipc::Message<'_>) -> Result<ipc::Schema<'_>> {
    match message.header_type() {
        ipc::MessageHeader::Tensor | ipc::MessageHeader::SparseTensor => {
            Err(Error::refused("it holds an Arrow tensor, not a table, which is not supported")
                .hint("pyarrow reads it: pyarrow.ipc.read_tensor(...).to_numpy(), then numpy.save"))
        }
        _ => message
            .header_as_schema()
            .ok_or_else(|| Error::corrupt("the stream does not begin with a schema")),
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
fn check_version(version: ipc::MetadataVersion) -> Result<()> {
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

fn something_follows(at: u64) -> Error {
    Error::refused(format!(
        "the stream ends at byte {at}, and something follows that is no other stream"
    ))
    .hint("cut the file there to read what comes before")
}

/// The first byte from `at` on that is not zero, rounded down to the word that it is in; the end
/// where there is none.
fn behind_zeros(blob: &dyn Blob, mut at: u64) -> Result<u64> {
    while at < blob.len() {
        let bytes = blob.read_vec(at, SCAN_BYTES.min(blob.len() - at))?;
        if let Some(i) = bytes.iter().position(|&b| b != 0) {
            return Ok(at + i as u64 / 4 * 4);
        }
        at += bytes.len() as u64;
    }
    Ok(at)
}

/// Files that were joined end to end have the footer of the last one, whose places are then those
/// of other batches.
fn refuse_joined(blob: &dyn Blob, end: u64, footer: u64) -> Result<()> {
    let seam = [&MAGIC[..], MAGIC, b"\0\0"].concat();
    let mut at = end.min(footer);
    while footer - at >= seam.len() as u64 {
        let bytes = blob.read_vec(at, SCAN_BYTES.min(footer - at))?;
        if let Some(i) = memchr::memmem::find(&bytes, &seam) {
            let start = at + (i + MAGIC.len()) as u64;
            return Err(Error::refused(format!(
                "several Arrow files follow one another; the last begins at byte {start} or later"
            ))
            .hint("cut the file there, and convert each part on its own"));
        }
        at += (bytes.len() - seam.len() + 1) as u64;
    }
    Ok(())
}

fn windowed(
    blob: &dyn Blob,
    window: &mut (u64, Vec<u8>),
    at: u64,
    want: u64,
    ahead: u64,
) -> Result<Vec<u8>> {
    let inside = at >= window.0 && at - window.0 + want <= window.1.len() as u64;
    if !inside {
        if at.checked_add(want).is_none_or(|end| end > blob.len()) {
            return Err(Error::corrupt(format!(
                "{want} bytes are expected at byte {at}, the stream has {}",
                blob.len()
            )));
        }
        let len = want.max(ahead.min(blob.len() - at));
        *window = (at, blob.read_vec(at, len)?);
    }
    let start = (at - window.0) as usize;
    Ok(window.1[start..start + want as usize].to_vec())
}

fn block_range(block: &ipc::Block, len: u64) -> Result<std::ops::Range<u64>> {
    let start = u64::try_from(block.offset()).ok();
    let size = u64::try_from(block.metaDataLength()).ok().filter(|&n| n <= MAX_METADATA_BYTES);
    let end = start.zip(size).and_then(|(s, n)| s.checked_add(n)).filter(|&e| e <= len);
    match (start, end) {
        (Some(start), Some(end)) => Ok(start..end),
        _ => Err(Error::corrupt(format!(
            "a batch begins at byte {}, the file has {len} bytes",
            block.offset()
        ))),
    }
}

fn block_metadata(blob: &dyn Blob, block: &ipc::Block) -> Result<Vec<u8>> {
    let range = block_range(block, blob.len())?;
    blob.read_vec(range.start, range.end - range.start)
}

fn block_body(block: &ipc::Block) -> Result<u64> {
    let body = block
        .offset()
        .checked_add(i64::from(block.metaDataLength()))
        .and_then(|b| u64::try_from(b).ok());
    body.ok_or_else(|| Error::corrupt("a batch is outside the file"))
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

/// Where the parts of an array are in a batch: counts of nodes, buffers and view arrays before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pub(super) node: usize,
    pub(super) buffer: usize,
    pub(super) view: usize,
}

/// Where the arrays of all leaves of a schema begin in a batch, in the order of
/// [`arrow_model::leaves`]: found in one walk, for a table may have thousands of columns. The
/// columns of `whole` are leaves themselves.
pub(super) fn cursors(schema: &Schema, whole: &HashSet<usize>, batch: &Batch) -> Vec<Cursor> {
    let (mut at, mut found) = (Cursor::default(), Vec::new());
    for (i, field) in schema.fields().iter().enumerate() {
        if whole.contains(&i) {
            found.push(at);
            skip(field.data_type(), batch, &mut at);
        } else {
            walk(field, 1, batch, &mut at, &mut found);
        }
    }
    found
}

/// The columns (their places) whose structs are null somewhere.
pub(super) fn null_structs(schema: &Schema, batches: &[Batch]) -> HashSet<usize> {
    fn has_null(field: &Field, depth: usize, batch: &Batch, at: &mut Cursor) -> bool {
        let Some(children) = arrow_model::fields_below(field, depth) else {
            skip(field.data_type(), batch, at);
            return false;
        };
        let nulls = batch.nodes.get(at.node).map_or(0, |node| node.1);
        at.node += 1;
        at.buffer += 1;
        let below = children.iter().filter(|child| has_null(child, depth + 1, batch, at)).count();
        nulls > 0 || below > 0
    }
    let mut found = HashSet::new();
    if schema.fields().iter().all(|f| arrow_model::fields_below(f, 1).is_none()) {
        return found;
    }
    for batch in batches {
        let mut at = Cursor::default();
        for (i, field) in schema.fields().iter().enumerate() {
            if has_null(field, 1, batch, &mut at) {
                found.insert(i);
            }
        }
    }
    found
}

fn walk(field: &Field, depth: usize, batch: &Batch, at: &mut Cursor, found: &mut Vec<Cursor>) {
    let Some(children) = arrow_model::fields_below(field, depth) else {
        found.push(*at);
        return skip(field.data_type(), batch, at);
    };
    at.node += 1;
    at.buffer += 1;
    children.iter().for_each(|child| walk(child, depth + 1, batch, at, found));
}

/// Moves the cursor past an array of this type.
pub(super) fn skip(t: &DataType, batch: &Batch, at: &mut Cursor) {
    at.node += 1;
    match t {
        DataType::Null => {}
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            at.buffer += 3
        }
        DataType::Utf8View | DataType::BinaryView => {
            at.buffer += 2 + batch
                .variadic
                .get(at.view)
                .map_or(0, |&n| usize::try_from(n).unwrap_or(usize::MAX / 4));
            at.view += 1;
        }
        _ => {
            at.buffer += own_buffers(t, batch);
            children(t).into_iter().for_each(|f| skip(f.data_type(), batch, at));
        }
    }
}

/// The buffers of an array of this type, without those below it and those of texts.
pub(super) fn own_buffers(t: &DataType, batch: &Batch) -> usize {
    match t {
        DataType::Null | DataType::RunEndEncoded(..) => 0,
        DataType::FixedSizeList(..) | DataType::Struct(_) => 1,
        DataType::ListView(_) | DataType::LargeListView(_) => 3,
        DataType::Union(_, mode) => {
            usize::from(batch.before_v5) + if *mode == UnionMode::Dense { 2 } else { 1 }
        }
        _ => 2,
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
