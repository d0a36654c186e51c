//! The footer: found at the end of the file, looked through, then read by the `parquet` crate.

use std::collections::HashSet;

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::crate_error;
use super::thrift::{FooterFacts, MAX_SCHEMA_DEPTH};
use crate::arrow_model::MemoryLimit;
use crate::error::{Error, Result};
use crate::storage::Blob;

/// The largest footer that is read.
const MAX_FOOTER_BYTES: u64 = 1 << 30;
/// What is known of a column chunk takes about this much memory.
const CHUNK_BYTES: u64 = 512;
/// Bytes behind the end of a file among which the end is looked for, to name it.
const TAIL_BYTES: u64 = 64 << 10;
/// Bytes that are looked at together for the seam of joined files.
const SCAN_BYTES: u64 = 1 << 20;
const MAGIC: &[u8; 4] = b"PAR1";

/// What a footer says.
pub(super) struct Footer {
    pub(super) metadata: ParquetMetaData,
    /// Column chunks that are encrypted: row group, column.
    pub(super) encrypted: HashSet<(usize, usize)>,
    /// The keys of metadata that is not UTF-8, which cannot be kept.
    pub(super) lost_keys: Vec<String>,
}

impl Footer {
    /// Reads it.
    ///
    /// # Errors
    /// Corrupt; refused where it is encrypted, nested too deeply, not that of the whole file, or
    /// takes more memory than there may be.
    pub(super) fn read(blob: &dyn Blob, limit: MemoryLimit) -> Result<Footer> {
        let len = blob.len();
        if len < 12 {
            return Err(Error::corrupt(format!("{len} bytes are too few for a Parquet file")));
        }
        let ahead = if blob.file().is_some() { 8 } else { len.min(TAIL_BYTES) };
        let tail = blob.read_vec(len - ahead, ahead)?;
        let (body, end) = tail.split_at(tail.len() - 8);
        match &end[4..] {
            m if m == MAGIC => {}
            b"PARE" => {
                return Err(Error::refused("its footer is encrypted: without the key nothing of it can be read")
                    .hint("decrypt it with the library that wrote it, as pyarrow.parquet.encryption, and write it without encryption"));
            }
            _ => return Err(no_end(blob)?),
        }
        let footer = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
        if footer > len - 12 || footer > MAX_FOOTER_BYTES {
            return Err(Error::corrupt(format!(
                "a footer of {footer} bytes is impossible in a file of {len}"
            )));
        }
        limit.check("the footer", footer)?;
        let mut bytes = match body.len().checked_sub(footer as usize) {
            Some(start) => body[start..].to_vec(),
            None => blob.read_vec(len - 8 - footer, footer)?,
        };
        let facts =
            FooterFacts::of(&bytes).ok_or_else(|| Error::corrupt("the footer cannot be read"))?;
        if facts.too_deep {
            return Err(Error::refused(format!(
                "a schema nested more than {MAX_SCHEMA_DEPTH} deep is not supported"
            )));
        }
        let unpacked = footer.saturating_add(facts.chunks.saturating_mul(CHUNK_BYTES));
        limit.check("the footer", unpacked)?;
        for range in facts.not_utf8 {
            bytes[range].iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b'?');
        }
        let metadata = ParquetMetaDataReader::decode_metadata(&bytes);
        let metadata = metadata
            .map_err(|e| Error::corrupt("the footer cannot be read").because(crate_error(e)))?;
        check_rows(&metadata)?;
        refuse_joined(blob, &metadata, len - 8 - footer)?;
        Ok(Footer { metadata, encrypted: facts.encrypted, lost_keys: facts.lost_keys })
    }
}

/// The file and its row groups must agree on the number of rows.
fn check_rows(metadata: &ParquetMetaData) -> Result<()> {
    let told = metadata.file_metadata().num_rows();
    let counted =
        metadata.row_groups().iter().try_fold(0i64, |sum, group| sum.checked_add(group.num_rows()));
    if counted == Some(told) {
        return Ok(());
    }
    let counted = counted.map_or_else(|| "more than 2^63".into(), |n| n.to_string());
    Err(Error::corrupt(format!("the footer says {told} rows, its row groups have {counted}")))
}

/// The error for a file that does not end as it should.
fn no_end(blob: &dyn Blob) -> Result<Error> {
    let n = TAIL_BYTES.min(blob.len());
    let start = blob.len() - n;
    let tail = blob.read_vec(start, n)?;
    Ok(match memchr::memmem::rfind(&tail, MAGIC).filter(|&i| start + i as u64 > 0) {
        Some(i) => {
            let end = start + i as u64 + 4;
            Error::corrupt(format!(
                "{} bytes follow the end of the Parquet file at byte {end}",
                blob.len() - end
            ))
            .hint("cut the file there: npk does not guess what the bytes behind it are")
        }
        None => Error::corrupt(
            "the file does not end like a Parquet file: it is truncated or was never finished",
        )
        .hint("fetch the file again"),
    })
}

/// Files that were joined end to end have the footer of the last one, whose places are then those
/// of other pages.
fn refuse_joined(blob: &dyn Blob, metadata: &ParquetMetaData, footer: u64) -> Result<()> {
    let mut at = metadata.row_groups().iter().filter_map(end_of).max().unwrap_or(4).min(footer);
    while footer - at >= 8 {
        let bytes = blob.read_vec(at, SCAN_BYTES.min(footer - at))?;
        if let Some(i) = memchr::memmem::find(&bytes, b"PAR1PAR1") {
            let start = at + i as u64 + 4;
            return Err(Error::refused(format!(
                "several Parquet files follow one another; the last begins at byte {start} or later"
            ))
            .hint("cut the file there, and convert each part on its own"));
        }
        at += bytes.len() as u64 - 7;
    }
    Ok(())
}

/// Where the pages and indexes of a row group end, as far as the footer tells.
fn end_of(group: &RowGroupMetaData) -> Option<u64> {
    let end = |start: Option<i64>, len: Option<i64>| u64::try_from(start?.checked_add(len?)?).ok();
    let of_chunk = |c: &parquet::file::metadata::ColumnChunkMetaData| {
        let start = c.dictionary_page_offset().filter(|&d| d > 0).unwrap_or(c.data_page_offset());
        let parts = [
            end(Some(start), Some(c.compressed_size())),
            end(c.column_index_offset(), c.column_index_length().map(i64::from)),
            end(c.offset_index_offset(), c.offset_index_length().map(i64::from)),
            end(c.bloom_filter_offset(), c.bloom_filter_length().map(i64::from)),
        ];
        parts.into_iter().flatten().max()
    };
    group.columns().iter().filter_map(of_chunk).max()
}
