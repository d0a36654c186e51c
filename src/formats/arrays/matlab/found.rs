//! The arrays that were found so far.

use std::sync::Arc;

use crate::array::ArrayMap;
use crate::error::{Error, Result};
use crate::model::ArrayMeta;

/// More arrays than these are refused.
const MAX_ARRAYS: usize = 100_000;

/// What was found so far, within the memory limit.
pub(super) struct FoundArrays {
    pub(super) arrays: Vec<(ArrayMeta, Option<ArrayMap>)>,
    /// Structs and cells without elements.
    empty: u64,
    first_empty: String,
    pub(super) memory_bytes: u64,
    /// About the bytes that all this takes.
    held: u64,
}

/// About what an array's name, type and place take.
const ARRAY_BYTES: u64 = 1024;

impl FoundArrays {
    pub(super) fn new(memory_bytes: u64) -> FoundArrays {
        FoundArrays {
            arrays: Vec::new(),
            empty: 0,
            first_empty: String::new(),
            memory_bytes,
            held: 0,
        }
    }

    /// Counts bytes that stay in memory.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        if self.held <= self.memory_bytes {
            return Ok(());
        }
        Err(Error::refused(format!(
            "its names and texts take more than {} bytes of memory, which is the limit",
            self.memory_bytes
        ))
        .hint("-m gives more memory"))
    }

    pub(super) fn push(&mut self, mut meta: ArrayMeta, map: ArrayMap) -> Result<()> {
        self.room(&meta.name)?;
        if let Err(error) = meta.bytes() {
            (meta.rows, meta.inner) = (Some(0), Vec::new());
            meta.details.error = Some(Arc::new(error));
            self.arrays.push((meta, None));
        } else {
            self.arrays.push((meta, Some(map)));
        }
        Ok(())
    }

    /// An array that is listed, and refused when it is read.
    pub(super) fn push_broken(&mut self, name: &str, stored: &str, error: Error) -> Result<()> {
        self.room(name)?;
        let mut meta = ArrayMeta::new(name, crate::model::Dtype::U8, &[0]);
        meta.details.stored_dtype = Some(stored.to_string());
        meta.details.error = Some(Arc::new(error.of_data()?.array(name)));
        self.arrays.push((meta, None));
        Ok(())
    }

    pub(super) fn push_empty(&mut self, name: &str) {
        if self.empty == 0 {
            self.first_empty = name.to_string();
        }
        self.empty += 1;
    }

    pub(super) fn room(&mut self, name: &str) -> Result<()> {
        self.hold(ARRAY_BYTES + 2 * name.len() as u64)?;
        if self.arrays.len() < MAX_ARRAYS {
            return Ok(());
        }
        Err(Error::refused(format!(
            "its structs and cells hold more than {MAX_ARRAYS} arrays, which is the limit"
        )))
    }

    pub(super) fn notes(&self) -> Vec<String> {
        match self.empty {
            0 => Vec::new(),
            1 => vec![format!(
                "{} is an empty struct or cell, which holds no array",
                self.first_empty
            )],
            n => vec![format!(
                "{n} empty structs and cells hold no array, the first is {}",
                self.first_empty
            )],
        }
    }
}
