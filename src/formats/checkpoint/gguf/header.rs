//! What stands before the values, read forwards.

use std::sync::Arc;

use super::cursor::Cursor;
use super::metadata::{self, ALIGNMENT, ALIGNMENT_KEY};
use super::tensor_types::TensorType;
use crate::error::{Error, Result};
use crate::model::{Attributes, checked_product};
use crate::storage::{Blob, Forward};

/// What a file begins with.
pub(super) const MAGIC: &[u8] = b"GGUF";
/// More dimensions than ggml has.
const MAX_RANK: u32 = 8;
/// About what a tensor, or a value of metadata, takes in memory.
const ENTRY_BYTES: u64 = 512;
/// Bytes that are read at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// What the header says.
pub(super) struct Header {
    pub version: u32,
    pub big: bool,
    pub attributes: Attributes,
    pub tensors: Vec<Tensor>,
    pub alignment: u64,
    /// Where the values begin.
    pub data_offset: u64,
}

/// A tensor.
pub(super) struct Tensor {
    pub name: String,
    /// In elements, in numpy's order.
    pub shape: Vec<u64>,
    pub number: u32,
    /// `None` for a type that is not known.
    pub kind: Option<&'static TensorType>,
    /// Behind the beginning of all values.
    pub offset: u64,
}

impl Tensor {
    /// Bytes of its values; `None` for a type that is not known.
    ///
    /// # Errors
    /// Corrupt: rows that are no whole blocks; sizes that overflow.
    pub fn bytes(&self) -> Result<Option<u64>> {
        let Some(kind) = self.kind else { return Ok(None) };
        let row = self.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block_elements) {
            return Err(Error::corrupt(format!(
                "rows of {row} elements are not whole blocks of {}, which have {}",
                kind.name, kind.block_elements
            ))
            .array(&self.name));
        }
        checked_product(&self.shape)
            .and_then(|n| (n / kind.block_elements).checked_mul(kind.block_bytes))
            .filter(|&n| n < 1 << 62)
            .map(Some)
            .ok_or_else(|| {
                Error::corrupt(format!("the shape {:?} is too large", self.shape)).array(&self.name)
            })
    }
}

impl Header {
    /// Reads it.
    ///
    /// # Errors
    /// Corrupt; refused where it needs more memory than there is.
    pub fn read(blob: &Arc<dyn Blob>, memory_bytes: u64) -> Result<Header> {
        let bytes = Forward::new(blob.clone(), WINDOW_BYTES, memory_bytes);
        let mut cursor = Cursor { bytes, big: false, short: false };
        if cursor.take(4)? != MAGIC {
            return Err(Error::corrupt("the GGUF signature is missing"));
        }
        let mut version = cursor.u32()?;
        if version & 0xffff == 0 {
            cursor.big = true;
            version = version.swap_bytes();
        }
        if !(1..=3).contains(&version) {
            return Err(Error::refused(format!("GGUF version {version} is not supported")));
        }
        cursor.short = version == 1;
        let tensor_count = cursor.size()?;
        let value_count = cursor.size()?;
        cursor.check_count(value_count, 8, "metadata")?;
        let attributes = metadata::read(&mut cursor, value_count)?;
        cursor.check_count(tensor_count, 16, "tensors")?;
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(tensor(&mut cursor)?);
        }
        let alignment = match attributes.get(ALIGNMENT_KEY) {
            None => ALIGNMENT,
            Some(value) => value
                .as_u64()
                .filter(|n| n.is_power_of_two() && *n <= 1 << 30)
                .ok_or_else(|| Error::corrupt(format!("{ALIGNMENT_KEY} is {value}")))?,
        };
        let data_offset = cursor.bytes.position().next_multiple_of(alignment);
        let big = cursor.big;
        Ok(Header { version, big, attributes, tensors, alignment, data_offset })
    }
}

/// The next tensor.
fn tensor(cursor: &mut Cursor) -> Result<Tensor> {
    cursor.hold(ENTRY_BYTES)?;
    let name = cursor.text()?;
    let name = String::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::corrupt("a tensor's name is empty, or not UTF-8"))?;
    let rank = cursor.u32()?;
    if rank > MAX_RANK {
        return Err(Error::corrupt(format!("it has {rank} dimensions")).array(name));
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        shape.push(cursor.size()?);
    }
    shape.reverse();
    let number = cursor.u32()?;
    let offset = u64::from_le_bytes(cursor.number()?);
    Ok(Tensor { name, shape, number, kind: TensorType::of(number), offset })
}
