//! `data_<name>.npkseg`, the JSON list of a large array's segments: whole rows each, in order.
//!
//! `{"version": 1, "segments": [{"file": "data_x_segments/seg_000000.npkd", "rows": 35, "bytes":
//! 980}, …]}`

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub version: u32,
    /// The segments in row order.
    pub segments: Vec<Segment>,
}

/// One segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Its data file, relative to the store.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Manifest {
    /// Reads it, and checks it against the array: rows of `row_bytes`, `rows` in all.
    ///
    /// # Errors
    /// Corrupt.
    pub fn parse(bytes: &[u8], rows: u64, row_bytes: u64) -> Result<Manifest> {
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt("the segment manifest cannot be read").because(e))?;
        if manifest.version != 1 {
            return Err(Error::refused(format!(
                "the segment manifest has version {}; only version 1 is supported",
                manifest.version
            )));
        }
        let mut sum = 0u64;
        for s in &manifest.segments {
            super::files::check_path(&s.file)?;
            if s.rows.checked_mul(row_bytes) != Some(s.bytes) {
                return Err(Error::corrupt(format!(
                    "segment {}: {} rows of {row_bytes} bytes do not make {} bytes",
                    s.file, s.rows, s.bytes
                )));
            }
            sum = sum.saturating_add(s.rows);
        }
        if sum != rows {
            return Err(Error::corrupt(format!(
                "the segments hold {sum} rows, the metadata says {rows}"
            )));
        }
        Ok(manifest)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}
