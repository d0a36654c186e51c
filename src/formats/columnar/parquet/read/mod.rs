//! Reading: the columns of a file as logical arrays, rows at random.

use std::sync::Arc;

use super::errors::{crate_error, wrapped};
use super::{logical_types, schema, thrift};
use crate::error::{Result, foreign};
use crate::format::{ReadOptions, Source};
use crate::storage::Blob;

mod columns;
mod delta;
mod footer;
mod levels;
mod lists;
mod look;
mod measure;
mod nested;
mod open;
mod page;
mod pages;
mod parts;
mod roots;
mod rows;
mod shared;
mod whole;

/// Opens a file.
///
/// # Errors
/// Corrupt; refused: what is encrypted as a whole, and more than the memory limit allows.
pub(super) fn open(blob: Arc<dyn Blob>, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let source = foreign("parquet", || open::ParquetSource::open(blob, options))?;
    Ok(Box::new(source))
}
