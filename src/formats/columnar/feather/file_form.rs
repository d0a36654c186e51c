//! The file form: a footer says where the batches are.

use std::ops::Range;

use arrow_ipc as ipc;

use super::index::{Index, MAGIC, MAX_METADATA_BYTES, SCAN_BYTES, check_version};
use crate::array::check_text;
use crate::arrow_model::Verified;
use crate::error::{Error, Result};
use crate::storage::Blob;

/// What is in a file.
///
/// # Errors
/// Corrupt; refused versions and types, several files in one, and a footer that is more than the
/// memory limit.
pub(super) fn index(blob: &dyn Blob, memory_bytes: u64) -> Result<Index> {
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
    check_text("the footer", footer_len, memory_bytes)?;
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

fn block_range(block: &ipc::Block, len: u64) -> Result<Range<u64>> {
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
