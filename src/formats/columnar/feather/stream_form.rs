//! The stream form: messages one after the other; several streams may follow one another.

use arrow_ipc as ipc;

use super::index::{Index, MAX_METADATA_BYTES, SCAN_BYTES, check_version, metadata_place};
use crate::array::check_text;
use crate::arrow_model::Verified;
use crate::error::{Error, Result};
use crate::storage::Blob;

/// What is in a stream.
///
/// # Errors
/// Corrupt; refused versions and types, what follows a stream and is no other, and metadata that
/// are more than the memory limit.
pub(super) fn index(blob: &dyn Blob, memory_bytes: u64) -> Result<Index> {
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
        let what = format!("the message at byte {at}");
        check_text(&what, metadata_len as u64, memory_bytes)?;
        let message = windowed(blob, &mut window, at, start as u64 + metadata_len as u64, ahead)
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
                index = Some(Index::with_schema("stream", schema_of(verified.root)?, &verified)?)
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

impl Index {
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

fn something_follows(at: u64) -> Error {
    Error::refused(format!(
        "the stream ends at byte {at}, and something follows that is not another stream"
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
