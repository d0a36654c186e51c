//! Arrays whose bytes lie in a file as the model has them: writing by position and in turn, and
//! reading streams.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result, locked};
use crate::format::{Block, EncodeBlocks, Extent, WriteRows};
use crate::model::{ArrayMeta, Buf, Chunk, Values};

/// Where an array is in a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArraySpan {
    /// Its first byte.
    pub offset: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Bytes of all rows.
    pub bytes: u64,
}

impl ArraySpan {
    /// The place of `meta` at `offset`.
    ///
    /// # Errors
    /// Sizes that overflow; rows that are not known.
    pub fn of(meta: &ArrayMeta, offset: u64) -> Result<ArraySpan> {
        let bytes = meta
            .bytes()?
            .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
        Ok(ArraySpan { offset, row_bytes: meta.row_bytes()?, bytes })
    }

    /// As an extent of `file`.
    pub fn extent(&self, file: &Arc<File>) -> Vec<Extent> {
        vec![Extent { file: file.clone(), offset: self.offset, len: self.bytes }]
    }
}

/// Reads exactly `len` bytes of a stream. Memory grows with what really comes, not with what a
/// header says.
///
/// # Errors
/// Reading errors; corrupt where the stream ends early.
pub fn read_stream(stream: &mut dyn Read, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len.min(1 << 20) as usize);
    stream.take(len).read_to_end(&mut bytes).map_err(Error::reading)?;
    if (bytes.len() as u64) < len {
        return Err(Error::corrupt(format!(
            "the stream ends {} bytes too early",
            len - bytes.len() as u64
        )));
    }
    Ok(bytes)
}

/// Reads over `len` bytes of a stream.
///
/// # Errors
/// As [`read_stream`].
pub fn skip_stream(stream: &mut dyn Read, len: u64) -> Result<()> {
    let skipped =
        std::io::copy(&mut stream.take(len), &mut std::io::sink()).map_err(Error::reading)?;
    if skipped < len {
        return Err(Error::corrupt(format!("the stream ends {} bytes too early", len - skipped)));
    }
    Ok(())
}

/// Hands the values on as they are.
pub struct RawEncode;

impl EncodeBlocks for RawEncode {
    type Encoded = Vec<Buf>;
    fn encode(&self, block: Block) -> Result<Vec<Buf>> {
        block
            .columns
            .into_iter()
            .flat_map(|(_, chunks)| chunks)
            .map(|chunk| fixed_bytes(&chunk).cloned())
            .collect()
    }
}

/// The bytes of a chunk of fixed size without nulls; others never reach such a sink.
///
/// # Errors
/// [`crate::error::ErrorKind::Internal`]: text reached a writer of plain arrays.
pub fn fixed_bytes(chunk: &Chunk) -> Result<&Buf> {
    match &chunk.values {
        Values::Fixed(bytes) => Ok(bytes),
        _ => Err(Error::internal("text reached a writer of plain arrays")),
    }
}

/// Writes rows to their places.
pub struct RawWriter {
    /// Array by array: its file and its place in it.
    pub places: Vec<(Arc<File>, ArraySpan)>,
}

impl WriteRows for RawWriter {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let (file, place) = &self.places[chunk.array];
        let values = fixed_bytes(chunk)?;
        let at = chunk
            .first_row
            .checked_mul(place.row_bytes)
            .filter(|at| at + values.len() as u64 <= place.bytes);
        let at =
            at.ok_or_else(|| Error::internal(format!("row {} is past the end", chunk.first_row)))?;
        Ok(write_all_at(file, values, place.offset + at)?)
    }
}

/// What the writers of a file take turns by, chosen by its descriptor: the kernel lets one write at
/// a time, and those that wait there spin.
static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// Writes all bytes at a position, 512 KiB at a time: for larger writes the kernel looks for larger
/// runs of free pages, which are often the slowest to get (medians are alike, means are twice), and
/// smaller ones take a tenth more time. Of the threads that write to one file,
/// one does at a time; the others sleep.
///
/// # Errors
/// Disk full and the like.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    const STEP: u64 = 512 << 10;
    let _turn = locked(&TURNS[file.as_raw_fd() as usize % TURNS.len()]);
    let (mut at, mut left) = (offset, bytes);
    while !left.is_empty() {
        // Up to a multiple of the step: pages that are written in two goes cost twice.
        let n = ((STEP - at % STEP) as usize).min(left.len());
        file.write_all_at(&left[..n], at)?;
        at += n as u64;
        left = &left[n..];
    }
    Ok(())
}
