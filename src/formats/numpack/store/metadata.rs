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

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, checked_product};
use crate::storage::Blob;

const MAGIC: u32 = 0x424B_504E;
/// Bytes that are read at a time: mostly the whole file.
const WINDOW_BYTES: u64 = 4 << 20;

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
        Dtype::NUMPY.get(self.code as usize).copied().ok_or_else(|| {
            Error::corrupt(format!("unknown dtype code {}; 0 to 13 are known", self.code))
                .array(&self.name)
        })
    }

    /// Bytes of the elements, from shape and dtype.
    ///
    /// # Errors
    /// Corrupt where they pass 2^63.
    pub fn wanted_bytes(&self) -> Result<u64> {
        checked_product(&self.shape)
            .and_then(|n| n.checked_mul(self.dtype().ok()?.item_bytes()))
            .filter(|&n| n < 1 << 63)
            .ok_or_else(|| {
                Error::corrupt(format!("the shape {:?} is too large", self.shape)).array(&self.name)
            })
    }

    /// Is the entry in itself right?
    ///
    /// # Errors
    /// Corrupt; refused for compressed data.
    pub fn check(&self) -> Result<()> {
        let at = |e: Error| e.array(&self.name);
        self.dtype()?;
        if self.compressed {
            return Err(at(Error::refused(
                "compressed arrays are not supported (NumPack itself never writes them)",
            )));
        }
        super::files::check_path(&self.data_file).map_err(at)?;
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

/// The file as read.
pub struct Metadata {
    /// Its arrays, in its order.
    pub entries: Vec<Entry>,
    /// The sum of all arrays' bytes, as the file says.
    pub total_bytes: u64,
}

/// Reads the whole file. What is wrong with a single array is found by [`Entry::check`].
///
/// # Errors
/// Corrupt, with the byte offset.
pub fn read(blob: &dyn Blob) -> Result<Metadata> {
    let mut c = Cursor::new(blob, "the metadata", WINDOW_BYTES);
    let magic = c.number(4)? as u32;
    if magic != MAGIC {
        return Err(Error::corrupt(format!(
            "the metadata begins with {magic:#010x}, expected {MAGIC:#010x} (NPKB)"
        )));
    }
    let version = c.number(4)?;
    if version != 1 {
        return Err(Error::refused(format!(
            "the metadata has version {version}; only version 1 is supported"
        )));
    }
    let total_bytes = c.number(8)?;
    let count = c.number(4)?;
    let mut entries: Vec<Entry> = Vec::new();
    for i in 0..count {
        entries.push(entry(&mut c, i)?);
    }
    if c.at() != blob.len() {
        return Err(Error::corrupt(format!(
            "{} extra bytes follow the last array of the metadata",
            blob.len() - c.at()
        )));
    }
    let mut names = std::collections::HashSet::with_capacity(entries.len());
    if let Some(twice) = entries.iter().find(|e| !names.insert(e.name.as_str())) {
        return Err(Error::corrupt("the metadata lists this array twice").array(&twice.name));
    }
    Ok(Metadata { entries, total_bytes })
}

fn entry(c: &mut Cursor<'_>, index: u64) -> Result<Entry> {
    let n = c.number(4)?;
    let name = c.text(n, "the name of an array")?;
    if name.is_empty() {
        return Err(Error::corrupt(format!("array {index} has an empty name")));
    }
    let rank = c.number(4)?;
    let dims = c.take(rank.saturating_mul(8)).map_err(|e| e.array(&name))?;
    let shape =
        dims.chunks_exact(8).map(|b| b.iter().rev().fold(0, |n, &b| n << 8 | b as u64)).collect();
    let n = c.number(4)?;
    let data_file = c.text(n, "the name of a data file")?;
    let (modified_us, bytes, code) = (c.number(8)?, c.number(8)?, c.number(1)? as u8);
    let algorithm = c.number(1)?;
    c.take(4 + 8 + 8)?;
    let mut compressed = algorithm != 0;
    match c.number(1)? {
        0 => {}
        1 => {
            compressed |= c.number(1)? != 0;
            c.take(16)?;
            let blocks = c.number(4)?;
            compressed |= blocks > 0;
            c.take(blocks.saturating_mul(24))?;
        }
        other => {
            return Err(
                Error::corrupt(format!("the block flag is {other}, expected 0 or 1")).array(&name)
            );
        }
    }
    Ok(Entry { name, shape, data_file, modified_us, bytes, code, compressed })
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
        // Algorithm, level, original and compressed size, block flag: NumPack writes zeros and
        // reads nothing else.
        out.extend([0; 1 + 4 + 8 + 8 + 1]);
    }
    out
}

/// Now, as the metadata count time.
pub fn now_us() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}

/// The entries of these arrays in these files.
///
/// # Errors
/// Where NumPack lacks the type, or the rows are not known.
pub fn entries<'a>(arrays: impl Iterator<Item = (&'a ArrayMeta, &'a str)>) -> Result<Vec<Entry>> {
    let modified_us = now_us();
    // No more room than they need, which to collect results would take: there may be very many.
    let mut entries = Vec::with_capacity(arrays.size_hint().0);
    for (a, file) in arrays {
        let lacks = || Error::internal(format!("NumPack has no {}", a.dtype)).array(&a.name);
        let unknown = || Error::internal("the row count is not known").array(&a.name);
        entries.push(Entry {
            name: a.name.clone(),
            // NumPack's loader aborts on rank 0.
            shape: if a.scalar { vec![1] } else { a.shape().unwrap_or_default() },
            data_file: file.to_string(),
            modified_us,
            bytes: a.bytes()?.ok_or_else(unknown)?,
            code: code(a.dtype).ok_or_else(lacks)?,
            compressed: false,
        });
    }
    Ok(entries)
}
