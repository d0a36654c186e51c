//! `metadata.npkm`, NumPack's list of a store's arrays, byte for byte (all little-endian):
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `NPKB` (0x424B504E) |
//! | 4 | version, 1 |
//! | 8 | the sum of all arrays' bytes |
//! | 4 | number of arrays, then each: |
//! | 4 + n | name, UTF-8 |
//! | 4 + 8 × rank | dimensions |
//! | 4 + n | data file, a path relative to the store |
//! | 8 | last change, microseconds since 1970 |
//! | 8 | bytes of the array |
//! | 1 | dtype code |
//! | 1 + 4 + 8 + 8 | compression: algorithm, level, original and compressed size; all 0 |
//! | 1 | block flag; at 1 a block table follows |

use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, checked_product};

const MAGIC: u32 = 0x424B_504E;

/// One array's entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The array's name.
    pub name: String,
    /// Its dimensions, deleted rows counted.
    pub shape: Vec<u64>,
    /// Its data file, relative to the store.
    pub data_file: String,
    /// Last change, microseconds since 1970.
    pub modified_us: u64,
    /// Its bytes as the file says.
    pub bytes: u64,
    /// Its dtype code.
    pub code: u8,
    /// Whether the entry says that the data are compressed.
    pub compressed: bool,
}

impl Entry {
    /// The dtype.
    ///
    /// # Errors
    /// Corrupt for a code that NumPack does not have.
    pub fn dtype(&self) -> Result<Dtype> {
        Dtype::NUMPY
            .get(self.code as usize)
            .copied()
            .ok_or_else(|| Error::corrupt(format!("unknown dtype code {}; 0 to 13 are known", self.code)).array(&self.name))
    }

    /// Bytes of the elements, from shape and dtype.
    ///
    /// # Errors
    /// Corrupt where they pass 2^63.
    pub fn wanted_bytes(&self) -> Result<u64> {
        checked_product(&self.shape)
            .and_then(|n| n.checked_mul(self.dtype().ok()?.item_bytes()))
            .filter(|&n| n < 1 << 63)
            .ok_or_else(|| Error::corrupt(format!("the shape {:?} is too large", self.shape)).array(&self.name))
    }

    /// Is the entry in itself right?
    ///
    /// # Errors
    /// Corrupt; refused for compressed data.
    pub fn check(&self) -> Result<()> {
        let at = |e: Error| e.array(&self.name);
        self.dtype()?;
        if self.compressed {
            return Err(at(Error::refused("compressed arrays are not supported (NumPack itself never writes them)")));
        }
        super::check_path(&self.data_file).map_err(at)?;
        let wanted = self.wanted_bytes()?;
        if wanted != self.bytes {
            return Err(at(Error::corrupt(format!(
                "the metadata says {} bytes, {} {:?} needs {wanted}",
                self.bytes,
                self.dtype()?,
                self.shape
            ))));
        }
        Ok(())
    }
}

/// The dtype's code; `None` for types that NumPack lacks.
pub fn code(dtype: Dtype) -> Option<u8> {
    Dtype::NUMPY.iter().position(|&d| d == dtype).map(|i| i as u8)
}

/// Is this the start of a metadata file?
pub fn is_metadata(head: &[u8]) -> bool {
    head.starts_with(&MAGIC.to_le_bytes())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if n > rest.len() {
            return Err(Error::corrupt(format!(
                "the metadata ends at byte {}: {n} bytes are expected at byte {}",
                self.bytes.len(),
                self.at
            )));
        }
        self.at += n;
        Ok(&rest[..n])
    }
    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }
    fn u32(&mut self) -> Result<u32> {
        let mut b = [0; 4];
        b.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(b))
    }
    fn u64(&mut self) -> Result<u64> {
        let mut b = [0; 8];
        b.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(b))
    }
    fn text(&mut self, what: &str) -> Result<String> {
        let n = self.u32()? as usize;
        let at = self.at;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map(str::to_string).map_err(|_| Error::corrupt(format!("{what} at byte {at} is not UTF-8")))
    }
}

/// Reads the whole file. What is wrong with a single array is found by [`Entry::check`].
///
/// # Errors
/// Corrupt, with the byte offset.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut c = Cursor { bytes, at: 0 };
    let magic = c.u32()?;
    if magic != MAGIC {
        return Err(Error::corrupt(format!("the metadata begins with {magic:#010x}, expected {MAGIC:#010x} (NPKB)")));
    }
    let version = c.u32()?;
    if version != 1 {
        return Err(Error::refused(format!("the metadata has version {version}; only version 1 is supported")));
    }
    let _total = c.u64()?;
    let count = c.u32()?;
    let mut entries = Vec::new();
    let mut names = std::collections::HashSet::new();
    for i in 0..count {
        let name = c.text("the name of an array")?;
        if name.is_empty() {
            return Err(Error::corrupt(format!("array {i} has an empty name")));
        }
        let rank = c.u32()? as usize;
        let dims = c.take(rank.saturating_mul(8)).map_err(|e| e.array(&name))?;
        let shape = dims.chunks_exact(8).map(|b| b.iter().rev().fold(0, |n, &b| n << 8 | b as u64)).collect();
        let data_file = c.text("the name of a data file")?;
        let modified_us = c.u64()?;
        let bytes = c.u64()?;
        let code = c.u8()?;
        let algorithm = c.u8()?;
        c.take(4 + 8 + 8)?;
        let block = c.u8()?;
        let mut compressed = algorithm != 0;
        match block {
            0 => {}
            1 => {
                compressed |= c.u8()? != 0;
                c.take(16)?;
                let blocks = c.u32()? as usize;
                compressed |= blocks > 0;
                c.take(blocks.saturating_mul(24))?;
            }
            other => return Err(Error::corrupt(format!("the block flag is {other}, expected 0 or 1")).array(&name)),
        }
        if !names.insert(name.clone()) {
            return Err(Error::corrupt("the metadata lists this array twice").array(&name));
        }
        entries.push(Entry { name, shape, data_file, modified_us, bytes, code, compressed });
    }
    if c.at != bytes.len() {
        return Err(Error::corrupt(format!("{} extra bytes follow the last array of the metadata", bytes.len() - c.at)));
    }
    Ok(entries)
}

/// The whole file for these arrays.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + 96 * entries.len());
    out.extend(MAGIC.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(entries.iter().fold(0u64, |n, e| n.saturating_add(e.bytes)).to_le_bytes());
    out.extend((entries.len() as u32).to_le_bytes());
    for e in entries {
        out.extend((e.name.len() as u32).to_le_bytes());
        out.extend(e.name.as_bytes());
        out.extend((e.shape.len() as u32).to_le_bytes());
        for d in &e.shape {
            out.extend(d.to_le_bytes());
        }
        out.extend((e.data_file.len() as u32).to_le_bytes());
        out.extend(e.data_file.as_bytes());
        out.extend(e.modified_us.to_le_bytes());
        out.extend(e.bytes.to_le_bytes());
        out.push(e.code);
        // Algorithm, level, original and compressed size, block flag: NumPack writes zeros and reads nothing else.
        out.extend([0; 1 + 4 + 8 + 8 + 1]);
    }
    out
}

/// Now, as the metadata count time.
pub fn now_us() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// The entries of these arrays in these files.
///
/// # Errors
/// Where NumPack lacks the type, or the rows are not known.
pub fn entries<'a>(arrays: impl Iterator<Item = (&'a ArrayMeta, &'a str)>) -> Result<Vec<Entry>> {
    let modified_us = now_us();
    arrays
        .map(|(a, file)| {
            let lacks = || Error::internal(format!("NumPack has no {}", a.dtype)).array(&a.name);
            Ok(Entry {
                name: a.name.clone(),
                // NumPack's loader aborts on rank 0.
                shape: if a.scalar { vec![1] } else { a.shape().unwrap_or_default() },
                data_file: file.to_string(),
                modified_us,
                bytes: a.bytes()?.ok_or_else(|| Error::internal("the row count is not known").array(&a.name))?,
                code: code(a.dtype).ok_or_else(lacks)?,
                compressed: false,
            })
        })
        .collect()
}
