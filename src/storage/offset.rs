//! A place in a local file that reading and writing go on from, whatever else uses the file.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;

/// Reads and writes by position, from `offset` on. `F` is the file: `&File` or `Arc<File>`.
pub struct FileAt<F> {
    /// The file.
    pub file: F,
    /// Where the next bytes are.
    pub offset: u64,
}

impl<F: Deref<Target = File>> Write for FileAt<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let n = self.file.write_at(bytes, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<F: Deref<Target = File>> Read for FileAt<F> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let n = self.file.read_at(bytes, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}
