//! A stored member whose checksum is added up as it is read, so that it need not be read twice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use super::check_crc;
use crate::error::{Result, locked};
use crate::storage::{Blob, BlobSlice, Origin};

/// The bytes of a member. It has no file: what the kernel copies is never seen.
pub struct CheckedMember {
    bytes: BlobSlice,
    crc: u32,
    /// It is read here and there: its bytes are only counted, and added up at the end.
    scattered: bool,
    seen: Mutex<ReadRuns>,
}

#[derive(Default)]
struct ReadRuns {
    /// What was read: where it begins, how long it is, its CRC.
    runs: BTreeMap<u64, (u64, u32)>,
    read: u64,
}

impl CheckedMember {
    /// A member with this CRC; `head` was read already.
    pub fn new(bytes: BlobSlice, crc: u32, head: &[u8], scattered: bool) -> CheckedMember {
        let member = CheckedMember { bytes, crc, scattered, seen: Mutex::default() };
        member.add(0, head);
        member
    }

    fn add(&self, offset: u64, bytes: &[u8]) {
        let crc =
            if self.scattered || bytes.is_empty() { None } else { Some(crc32fast::hash(bytes)) };
        let mut seen = locked(&self.seen);
        seen.read += bytes.len() as u64;
        if let Some(crc) = crc {
            seen.runs.insert(offset, (bytes.len() as u64, crc));
        }
    }

    /// Compares the CRC, if all bytes were read; those that came out of order are read again.
    ///
    /// # Errors
    /// Corrupt where it differs; reading errors.
    pub fn check(&self) -> Result<()> {
        let seen = locked(&self.seen);
        if seen.read < self.bytes.len {
            return Ok(());
        }
        let (mut at, mut crc) = (0, crc32fast::Hasher::new());
        while let Some(&(len, run)) = seen.runs.get(&at) {
            crc.combine(&crc32fast::Hasher::new_with_initial_len(run, len));
            at += len;
        }
        if at < self.bytes.len {
            (at, crc) = (0, crc32fast::Hasher::new());
            while at < self.bytes.len {
                let len = (self.bytes.len - at).min(1 << 20);
                crc.update(&self.bytes.blob.read_vec(self.bytes.start + at, len)?);
                at += len;
            }
        }
        check_crc(crc.finalize(), self.crc)
    }
}

impl Blob for CheckedMember {
    fn len(&self) -> u64 {
        self.bytes.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.bytes.read_at(offset, buf)?;
        self.add(offset, buf);
        Ok(())
    }
    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        let all = self.bytes.read_ranges(ranges)?;
        ranges.iter().zip(&all).for_each(|(range, bytes)| self.add(range.start, bytes));
        Ok(all)
    }
    fn is_remote(&self) -> bool {
        self.bytes.is_remote()
    }
    fn origin(&self) -> Option<Origin> {
        self.bytes.origin()
    }
}
