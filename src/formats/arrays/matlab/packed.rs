//! Packed elements: a zlib stream that is unpacked once it is read beyond its head.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use crate::array::recent::SharedRecent;
use crate::codec::decompress::{Wrapper, inflate};
use crate::codec::limit::Limit;
use crate::codec::zip::inflate_some;
use crate::error::{Error, ForeignReader, Result, locked};
use crate::storage::{Blob, BlobReader, BlobSlice, MemoryBlob, file_blob, temporary};

/// What is unpacked of an element to see what it is.
const HEAD_BYTES: u64 = 4096;
/// Bytes that are unpacked at a time into a temporary file.
const STEP_BYTES: usize = 256 << 10;

/// Unpacked elements that are kept in memory, by the place of the packed one.
pub(super) struct Unpacked {
    recent: SharedRecent<u64, Arc<dyn Blob>>,
    /// Larger ones go to temporary files.
    most: u64,
}

impl Unpacked {
    pub fn new(memory_bytes: u64) -> Arc<Unpacked> {
        Arc::new(Unpacked { recent: SharedRecent::new(memory_bytes / 4), most: memory_bytes / 8 })
    }
}

/// The bytes of a packed element, as if they were not packed.
pub(super) struct Packed {
    stored: BlobSlice,
    head: Vec<u8>,
    len: u64,
    kept: Arc<Unpacked>,
    file: Mutex<Option<Arc<dyn Blob>>>,
}

impl Packed {
    /// Unpacks the head, whose tag says how long the element is.
    ///
    /// # Errors
    /// Corrupt.
    pub fn new(stored: BlobSlice, big: bool, kept: Arc<Unpacked>) -> Result<Packed> {
        let packed = stored.read_vec_at_most(HEAD_BYTES)?;
        let zlib = matches!(packed[..], [first, second, ..]
            if first & 15 == 8 && (u16::from(first) << 8 | u16::from(second)) % 31 == 0);
        let head = if zlib { inflate_some(&packed[2..], HEAD_BYTES) } else { Vec::new() };
        let size = |b: &[u8; 4]| if big { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
        let Some((tag, _)) = head.split_first_chunk::<8>() else {
            return Err(Error::corrupt(format!(
                "the zlib data at byte {} is damaged",
                stored.start
            )));
        };
        let ([kind, len], []) = tag.as_chunks::<4>() else {
            return Err(Error::internal("a tag of other than 8 bytes"));
        };
        let len = if size(kind) >> 16 != 0 { 8 } else { 8 + u64::from(size(len)) };
        // Deflate never gets below 1:1032.
        if len > stored.len.saturating_mul(1032).saturating_add(64) {
            return Err(Error::corrupt(format!(
                "the element at byte {} claims {len} bytes, it is packed in {}",
                stored.start, stored.len
            )));
        }
        let mut packed = Packed { stored, head, len, kept, file: Mutex::new(None) };
        if len <= HEAD_BYTES {
            // Whole, and its checksum compared.
            let all = packed.stored.read_vec_at_most(2 * HEAD_BYTES)?;
            packed.head = inflate(&all, Wrapper::Zlib, Limit::exactly(len as usize))
                .map_err(|_| packed.damaged())?;
            if packed.head.len() as u64 != len {
                return Err(packed.short(packed.head.len() as u64));
            }
        }
        Ok(packed)
    }

    fn damaged(&self) -> Error {
        Error::corrupt(format!("the zlib data at byte {} is damaged", self.stored.start))
    }

    /// All bytes, unpacked.
    fn bytes(&self) -> Result<Arc<dyn Blob>> {
        if self.len <= self.kept.most {
            return self.kept.recent.get_or(self.stored.start, self.len, || {
                let packed = self.stored.read_all()?;
                let limit = Limit::exactly(self.len as usize);
                let bytes = inflate(&packed, Wrapper::Zlib, limit)?;
                if bytes.len() as u64 != self.len {
                    return Err(self.short(bytes.len() as u64));
                }
                Ok(Arc::new(MemoryBlob(bytes)) as Arc<dyn Blob>)
            });
        }
        let mut kept = locked(&self.file);
        if let Some(blob) = &*kept {
            return Ok(blob.clone());
        }
        let blob = file_blob(self.unpack(temporary::file()?)?)?;
        Ok(kept.insert(blob).clone())
    }

    fn unpack(&self, mut to: File) -> Result<File> {
        let from = std::io::BufReader::with_capacity(
            STEP_BYTES,
            BlobReader::new(Arc::new(self.stored.clone())),
        );
        let mut from = ForeignReader::new("flate2", flate2::bufread::ZlibDecoder::new(from));
        let (mut buffer, mut done) = (vec![0; STEP_BYTES], 0);
        loop {
            let n = from.read(&mut buffer).map_err(|e| self.damaged().because(e))?;
            if n == 0 {
                return if done == self.len { Ok(to) } else { Err(self.short(done)) };
            }
            done += n as u64;
            if done > self.len {
                return Err(self.short(done));
            }
            to.write_all(&buffer[..n]).map_err(temporary::error)?;
        }
    }

    fn short(&self, have: u64) -> Error {
        Error::corrupt(format!(
            "the element at byte {} claims {} bytes, its zlib data holds {have}",
            self.stored.start, self.len
        ))
    }
}

impl Blob for Packed {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let head = usize::try_from(offset)
            .ok()
            .and_then(|at| self.head.get(at..at.checked_add(buf.len())?));
        match head {
            Some(head) => buf.copy_from_slice(head),
            None => self.bytes()?.read_at(offset, buf)?,
        }
        Ok(())
    }
}

trait ReadAtMost {
    /// The first bytes, at most so many.
    fn read_vec_at_most(&self, most: u64) -> Result<Vec<u8>>;
}

impl ReadAtMost for BlobSlice {
    fn read_vec_at_most(&self, most: u64) -> Result<Vec<u8>> {
        self.blob.read_vec(self.start, self.len.min(most))
    }
}
