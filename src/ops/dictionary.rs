//! Dictionaries: codes to what they stand for, and codes of one part to those of the whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::model::{Buf, Categories, Chunk, Dtype, Values};

/// Codes as the values of their categories.
pub(super) fn decode(
    chunk: &mut Chunk,
    categories: &Categories,
    codes: Dtype,
    fixed: Option<usize>,
) -> Result<()> {
    let Values::Fixed(values) = &chunk.values else { return Ok(()) };
    let codes = crate::model::codes_of(values, codes);
    let mut offsets = vec![0u64];
    let mut out = Vec::new();
    let empty = vec![0u8; fixed.unwrap_or(0)];
    let valid = chunk.valid.clone();
    categories.with(|items| {
        for (row, code) in codes.into_iter().enumerate() {
            if valid.as_ref().is_some_and(|v| v.get(row) == Some(&0)) {
                out.extend_from_slice(&empty);
            } else {
                let item = usize::try_from(code).ok().and_then(|c| items.get(c));
                out.extend_from_slice(item.ok_or_else(|| {
                    Error::corrupt(format!(
                        "row {row}: code {code} is outside the {} categories",
                        items.len()
                    ))
                })?);
            }
            offsets.push(out.len() as u64);
        }
        Ok::<(), Error>(())
    })?;
    let values = Buf::from_vec(out);
    chunk.values =
        if fixed.is_some() { Values::Fixed(values) } else { Values::Var { offsets, values } };
    Ok(())
}

/// Codes of one part's categories → codes of the merged ones.
#[derive(Debug)]
pub struct Merge {
    /// The part's.
    pub from: Arc<Categories>,
    /// The whole's.
    pub into: Arc<Merged>,
    /// The codes' dtype.
    pub dtype: Dtype,
}

/// Categories under construction, with an index.
#[derive(Debug)]
pub struct Merged {
    /// The categories.
    pub categories: Arc<Categories>,
    index: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Merged {
    /// These categories, and whatever comes to them.
    pub fn onto(categories: Arc<Categories>) -> Merged {
        let items = categories.snapshot();
        let mut index = HashMap::with_capacity(items.len());
        for (item, code) in items.into_iter().zip(0..) {
            index.entry(item).or_insert(code);
        }
        Merged { categories, index: Mutex::new(index) }
    }
    /// The code of an item, which becomes a category where it is none yet.
    pub fn code(&self, item: &[u8]) -> u64 {
        let mut index = self.index.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&code) = index.get(item) {
            return code;
        }
        let code = self.categories.push(item.to_vec());
        index.insert(item.to_vec(), code);
        code
    }
}

impl Merge {
    /// Translates a chunk of codes.
    ///
    /// # Errors
    /// Corrupt codes; refused where the codes' width does not reach.
    pub fn apply(&self, chunk: &mut Chunk) -> Result<()> {
        let Values::Fixed(values) = &chunk.values else { return Ok(()) };
        let items = self.from.snapshot();
        let codes = crate::model::codes_of(values, self.dtype);
        let mut out = Vec::with_capacity(codes.len());
        for (row, code) in codes.into_iter().enumerate() {
            if chunk.valid.as_ref().is_some_and(|v| v.get(row) == Some(&0)) {
                out.push(0);
                continue;
            }
            let item = usize::try_from(code).ok().and_then(|c| items.get(c));
            out.push(self.into.code(item.ok_or_else(|| {
                Error::corrupt(format!("code {code} is outside the {} categories", items.len()))
            })?) as i64);
        }
        chunk.values = Values::Fixed(codes_to(&out, self.dtype)?);
        Ok(())
    }
}

/// int64 codes in another width.
///
/// # Errors
/// Refused where a code does not fit: the categories have outgrown the codes' width.
fn codes_to(codes: &[i64], dtype: Dtype) -> Result<Buf> {
    let wide = Buf::from_vec(codes.to_vec());
    super::cast::cast(&wide, Dtype::I64, dtype, false).map_err(|i| {
        Error::refused(format!("the joined categories need more than {dtype} codes ({})", codes[i]))
            .hint("give the codes a wider type with --dtype")
    })
}
