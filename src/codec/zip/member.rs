//! The bytes of a member: a run of the archive where it is stored, inflated to a temporary file
//! where it is deflated.

use std::io::{Read, Write};
use std::sync::Arc;

use super::Archive;
use crate::error::{Error, ForeignReader, Result, locked};
use crate::storage::temporary::{self, TemporaryBlob};
use crate::storage::{BlobSlice, FileAt};

/// Deflated members are inflated so many bytes at a time.
const STEP_BYTES: u64 = 256 << 10;

impl Archive {
    /// A member for ranged reads. A deflated one is inflated to a temporary file, once, whatever it
    /// holds; its checksum is compared then.
    ///
    /// # Errors
    /// Members that cannot be decoded; no room for temporary files.
    pub fn bytes(&self, member: usize) -> Result<BlobSlice> {
        if let Some(bytes) = self.located[member].get() {
            return Ok(bytes.clone());
        }
        let entry = &self.entries[member];
        let start = self.data_offset(member)?;
        entry.check()?;
        if entry.is_stored() {
            let bytes = BlobSlice { blob: self.blob.clone(), start, len: entry.bytes };
            return Ok(self.located[member].get_or_init(|| bytes).clone());
        }
        // Of several threads that want it one inflates.
        let _turn = locked(&self.inflating);
        if let Some(bytes) = self.located[member].get() {
            return Ok(bytes.clone());
        }
        let (file, at) = self.spool.room(entry.bytes)?;
        let mut to = FileAt { file: &*file, offset: at };
        self.each_step(member, start, &mut |step| to.write_all(step).map_err(temporary::error))?;
        let bytes = BlobSlice {
            blob: Arc::new(TemporaryBlob { file, len: at + entry.bytes }),
            start: at,
            len: entry.bytes,
        };
        Ok(self.located[member].get_or_init(|| bytes).clone())
    }

    /// Finds the bytes of many stored members with few reads: for locations where each read is a
    /// request. What is wrong with one shows when it is read.
    ///
    /// # Errors
    /// Reading errors.
    pub fn locate(&self, members: &[usize]) -> Result<()> {
        let is_open = |&&m: &&usize| {
            self.located[m].get().is_none()
                && self.entries[m].is_stored()
                && self.entries[m].check().is_ok()
        };
        let open: Vec<usize> = members.iter().filter(is_open).copied().collect();
        for (&m, head) in open.iter().zip(self.heads(&open, 0)?) {
            if let Ok((start, _)) = head {
                self.located[m].get_or_init(|| BlobSlice {
                    blob: self.blob.clone(),
                    start,
                    len: self.entries[m].bytes,
                });
            }
        }
        Ok(())
    }

    /// A whole member, its checksum compared.
    ///
    /// # Errors
    /// Refused where it has more than `most` bytes; members that cannot be decoded.
    pub fn read(&self, member: usize, most: u64) -> Result<Vec<u8>> {
        let entry = &self.entries[member];
        if entry.bytes > most {
            return Err(Error::refused(format!(
                "it has {} bytes; at most {most} are allowed",
                entry.bytes
            )));
        }
        let start = self.data_offset(member)?;
        entry.check()?;
        let mut stream = self.member(member, start)?;
        let bytes = stream.take(entry.bytes)?;
        stream.finish()?;
        Ok(bytes)
    }

    /// Compares the checksum of a member with its bytes; `false` where none is given.
    ///
    /// # Errors
    /// Corrupt; members that cannot be decoded.
    pub fn verify(&self, member: usize) -> Result<bool> {
        let start = self.data_offset(member)?;
        self.entries[member].check()?;
        self.each_step(member, start, &mut |_| Ok(()))?;
        Ok(self.crc_of(&self.entries[member]).is_some())
    }

    /// Hands on the decoded bytes step by step, and compares the checksum.
    fn each_step(
        &self,
        member: usize,
        start: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut stream = self.member(member, start)?;
        let mut left = self.entries[member].bytes;
        while left > 0 {
            let n = left.min(STEP_BYTES);
            each(&stream.take(n)?)?;
            left -= n;
        }
        stream.finish()
    }
}

/// The first bytes that come out of the beginning of a deflated member: at most `most`, fewer where
/// they end or break.
pub fn inflate_some(head: &[u8], most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What is wrong shows when the member itself is read.
    let _ = ForeignReader::new("flate2", flate2::bufread::DeflateDecoder::new(head))
        .take(most)
        .read_to_end(&mut bytes);
    bytes
}
