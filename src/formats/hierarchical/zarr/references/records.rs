//! The references of some chunks as a Parquet file.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::chunk::{Chunk, url};
use crate::error::{Error, Result};

/// Fewer are written as they are: a store of many small arrays has a file for each, and a compressor
/// takes longer to begin than all the rest.
const FEW_CHUNKS: usize = 32;

/// The references of some chunks as a Parquet file.
pub(super) fn parquet_file(chunks: &[Chunk]) -> Result<Vec<u8>> {
    let at = |chunk: &Chunk| match chunk {
        Chunk::At(origin) => Some(origin.clone()),
        _ => None,
    };
    let number = |n: u64| {
        i64::try_from(n).map_err(|_| Error::refused(format!("byte {n} is too far to refer to")))
    };
    let (mut paths, mut offsets, mut sizes, mut raw) = (vec![], vec![], vec![], vec![]);
    for chunk in chunks {
        let origin = at(chunk);
        offsets.push(number(origin.as_ref().map_or(0, |o| o.offset))?);
        sizes.push(number(origin.as_ref().map_or(0, |o| o.len))?);
        paths.push(origin.map(|o| url(&o.address)));
        raw.push(match chunk {
            Chunk::Inside(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
    }
    // A reader tells by the columns whether there is anything but files, or but bytes.
    let mut columns: Vec<(&str, ArrayRef, bool)> = Vec::new();
    let (any_file, any_bytes) =
        (paths.iter().any(Option::is_some), raw.iter().any(Option::is_some));
    if any_file || !any_bytes {
        columns.push(("path", Arc::new(StringArray::from(paths)), true));
        columns.push(("offset", Arc::new(Int64Array::from(offsets)), false));
        columns.push(("size", Arc::new(Int64Array::from(sizes)), false));
    }
    if any_bytes {
        columns.push(("raw", Arc::new(BinaryArray::from(raw)), true));
    }
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::failed("the references cannot be written").because(e)
    };
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns).map_err(|e| failed(Box::new(e)))?;
    // As plain as it can be: fastparquet, which fsspec takes first, trips over statistics of pages,
    // and takes columns without any for floats.
    let mut plain = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    plain = match chunks.len() < FEW_CHUNKS {
        // Of text and bytes without a dictionary, fsspec takes nulls for floats.
        true => ["offset", "size"]
            .into_iter()
            .fold(plain, |plain, name| plain.set_column_dictionary_enabled(name.into(), false)),
        false => plain.set_compression(Compression::ZSTD(Default::default())),
    };
    let plain = plain.build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(plain))
        .map_err(|e| failed(Box::new(e)))?;
    writer.write(&batch).map_err(|e| failed(Box::new(e)))?;
    writer.into_inner().map_err(|e| failed(Box::new(e)))
}
