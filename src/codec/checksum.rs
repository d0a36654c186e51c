//! Checksums.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// A checksum of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-32 of zip and gzip.
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// Adler-32 of zlib.
    Adler32,
    /// HDF5's Fletcher-32 over big-endian words of 16 bits.
    Fletcher32,
}

impl Checksum {
    /// Of these bytes.
    pub fn of(self, bytes: &[u8]) -> u32 {
        match self {
            Checksum::Crc32 => crc32fast::hash(bytes),
            Checksum::Crc32c => crc32c::crc32c(bytes),
            Checksum::Adler32 => libdeflater::adler32(bytes),
            Checksum::Fletcher32 => fletcher32(bytes),
        }
    }

    /// Compares the checksum that lies (little-endian) before or behind the bytes, and takes it
    /// away.
    ///
    /// # Errors
    /// Corrupt where they differ, or where there is none.
    pub fn strip(self, mut bytes: Vec<u8>, at_start: bool) -> Result<Vec<u8>> {
        let (data, stored) = match at_start {
            true => bytes.split_first_chunk::<4>().map(|(sum, data)| (data, sum)),
            false => bytes.split_last_chunk::<4>(),
        }
        .ok_or_else(|| {
            Error::corrupt(format!("{} bytes are too few for a checksum", bytes.len()))
        })?;
        let (stored, found) = (u32::from_le_bytes(*stored), self.of(data));
        self.check(stored, found)?;
        if at_start {
            bytes.drain(..4);
        } else {
            bytes.truncate(bytes.len() - 4);
        }
        Ok(bytes)
    }

    /// Compares the checksum that a chunk has with the one that its bytes have.
    ///
    /// # Errors
    /// Corrupt where they differ.
    pub fn check(self, stored: u32, found: u32) -> Result<()> {
        // Old HDF5 writers on big-endian machines swapped the bytes of both halves.
        let swapped = ((found & 0x00FF_00FF) << 8) | ((found & 0xFF00_FF00) >> 8);
        if stored != found && !(self == Checksum::Fletcher32 && stored == swapped) {
            return Err(Error::corrupt(format!(
                "the checksum is {found:08x}, expected {stored:08x}: the data is damaged"
            )));
        }
        Ok(())
    }
}

fn fletcher32(bytes: &[u8]) -> u32 {
    let mut sum = Fletcher32::default();
    sum.update(bytes);
    sum.finish()
}

/// [`Checksum::Fletcher32`], piece by piece.
#[derive(Default)]
pub struct Fletcher32 {
    a: u32,
    b: u32,
}

impl Fletcher32 {
    /// The bytes of a piece must be a multiple of this, but for the last.
    pub const BLOCK_BYTES: usize = 720;

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let Fletcher32 { mut a, mut b } = *self;
        let (words, tail) = bytes.as_chunks::<2>();
        for block in words.chunks(Fletcher32::BLOCK_BYTES / 2) {
            for word in block {
                a = a.wrapping_add(u32::from(u16::from_be_bytes(*word)));
                b = b.wrapping_add(a);
            }
            (a, b) = (fold(a), fold(b));
        }
        if let [last] = tail {
            a = a.wrapping_add(u32::from(*last) << 8);
            b = b.wrapping_add(a);
            (a, b) = (fold(a), fold(b));
        }
        *self = Fletcher32 { a, b };
    }

    /// The checksum of all bytes.
    pub fn finish(self) -> u32 {
        (fold(self.b) << 16) | fold(self.a)
    }
}

fn fold(sum: u32) -> u32 {
    (sum & 0xFFFF) + (sum >> 16)
}

/// A stream whose bytes are followed by their [`Checksum::Fletcher32`].
pub struct Checked<R> {
    inner: R,
    /// Bytes that are still to be read, without the checksum.
    left: u64,
    sum: Fletcher32,
    block: Vec<u8>,
    given: usize,
}

impl<R: Read> Checked<R> {
    /// A stream of so many bytes, the checksum among them.
    ///
    /// # Errors
    /// Corrupt where those are too few.
    pub fn new(inner: R, bytes: u64) -> Result<Checked<R>> {
        let left = bytes
            .checked_sub(4)
            .ok_or_else(|| Error::corrupt(format!("{bytes} bytes are too few for a checksum")))?;
        Ok(Checked { inner, left, sum: Fletcher32::default(), block: Vec::new(), given: 0 })
    }

    fn fill(&mut self) -> io::Result<()> {
        const MAX_BYTES: u64 = 256 * Fletcher32::BLOCK_BYTES as u64;
        let n = self.left.min(MAX_BYTES);
        self.block.resize(n as usize, 0);
        self.given = 0;
        self.inner.read_exact(&mut self.block)?;
        self.left -= n;
        self.sum.update(&self.block);
        if self.left == 0 {
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

impl<R: Read> Read for Checked<R> {
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
