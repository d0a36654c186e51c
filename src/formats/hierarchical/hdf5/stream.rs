//! Chunks that are decoded as a stream, into a temporary file: they may be larger than the memory
//! that there is for them.

use std::io::{self, Read};
use std::sync::Arc;

use super::filters;
use super::spool::{Decoded, Spool};
use super::tree::Chunked;
use crate::codec::checksum::{Checksum, Fletcher32};
use crate::error::{Error, Result};
use crate::storage::Blob;

/// Bytes read, decoded and written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What a chunk's filters are, if a stream can go through them: one element's bytes come apart by a
/// shuffle at the most, and that is undone when rows are taken out.
pub(super) struct Streamed {
    checksum: bool,
    /// The compressions, the last one first.
    inner: Vec<u32>,
    shuffled: Option<usize>,
}

impl Streamed {
    /// `None` where one of the filters needs the whole chunk. A set bit of `mask` names a filter
    /// that was left out.
    pub(super) fn of(chunked: &Chunked, mask: u32, element_bytes: usize) -> Option<Streamed> {
        let mut streamed = Streamed { checksum: false, inner: Vec::new(), shuffled: None };
        let used =
            chunked.filters.iter().enumerate().filter(|&(i, _)| i >= 32 || mask >> i & 1 == 0);
        for (_, filter) in used.rev() {
            if streamed.shuffled.is_some() {
                return None;
            }
            match filter.id {
                filters::FLETCHER32 if streamed.inner.is_empty() && !streamed.checksum => {
                    streamed.checksum = true
                }
                filters::DEFLATE | filters::ZSTD | filters::BZIP2 => streamed.inner.push(filter.id),
                filters::SHUFFLE => match filter.params.first().map(|&size| size as usize) {
                    Some(size) if size > 1 && element_bytes.is_multiple_of(size) => {
                        streamed.shuffled = Some(size)
                    }
                    Some(0 | 1) | None => {}
                    Some(_) => return None,
                },
                _ => return None,
            }
        }
        Some(streamed)
    }

    /// Decodes the bytes of a file from `at` on into `whole` bytes on disk.
    ///
    /// # Errors
    /// Corrupt; disk full and the like.
    pub(super) fn decode(
        &self,
        blob: &Arc<dyn Blob>,
        (at, bytes): (u64, u64),
        whole: u64,
        spool: &Arc<Spool>,
    ) -> Result<Decoded> {
        let stored = Stored { blob: blob.clone(), at, left: bytes };
        let mut reader: Box<dyn Read> = match self.checksum {
            true => Box::new(Checked::new(stored, bytes)?),
            false => Box::new(stored),
        };
        for &id in &self.inner {
            reader = match id {
                filters::DEFLATE => {
                    Box::new(flate2::read::ZlibDecoder::new_with_buf(reader, vec![0; PIECE_BYTES]))
                }
                filters::ZSTD => Box::new(zstd::stream::read::Decoder::new(reader)?),
                _ => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
            };
        }
        let region = spool.region(whole)?;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut done = 0u64;
        loop {
            let n = reader.read(&mut buffer).map_err(|e| match e.downcast::<Error>() {
                Ok(ours) => ours,
                Err(e) => Error::corrupt("a chunk is damaged").because(e),
            })?;
            if n == 0 {
                break;
            }
            if n as u64 > whole - done {
                return Err(Error::corrupt(format!(
                    "a chunk holds more than the {whole} bytes of its shape"
                )));
            }
            region.write(done, &buffer[..n])?;
            done += n as u64;
        }
        if done < whole {
            return Err(Error::corrupt(format!(
                "a chunk at byte {at} holds {done} bytes, expected {whole}"
            )));
        }
        Ok(Decoded::Disk { region, shuffled: self.shuffled })
    }
}

/// Bytes of a file, in order.
struct Stored {
    blob: Arc<dyn Blob>,
    at: u64,
    left: u64,
}

impl Read for Stored {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = to.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if n > 0 {
            self.blob.read_at(self.at, &mut to[..n]).map_err(io::Error::other)?;
            self.at += n as u64;
            self.left -= n as u64;
        }
        Ok(n)
    }
}

/// Bytes whose checksum follows them.
struct Checked {
    inner: Stored,
    left: u64,
    sum: Fletcher32,
    block: Vec<u8>,
    given: usize,
}

impl Checked {
    fn new(inner: Stored, bytes: u64) -> Result<Checked> {
        let left = bytes
            .checked_sub(4)
            .ok_or_else(|| Error::corrupt("a fletcher32 chunk ends too early"))?;
        Ok(Checked { inner, left, sum: Fletcher32::default(), block: Vec::new(), given: 0 })
    }

    fn fill(&mut self) -> io::Result<()> {
        const BLOCKS: usize = 256 * Fletcher32::BLOCK_BYTES;
        let n = self.left.min(BLOCKS as u64);
        self.block.resize(n as usize, 0);
        self.given = 0;
        self.inner.read_exact(&mut self.block)?;
        self.left -= n;
        self.sum.update(&self.block);
        if self.left == 0 && n > 0 {
            let mut stored = [0; 4];
            self.inner.read_exact(&mut stored)?;
            let found = std::mem::take(&mut self.sum).finish();
            Checksum::Fletcher32
                .check(u32::from_le_bytes(stored), found)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Read for Checked {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.block.len() && self.left > 0 {
            self.fill()?;
        }
        let n = to.len().min(self.block.len() - self.given);
        to[..n].copy_from_slice(&self.block[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}
