//! Columns of categories, written with all categories in their order as the dictionary page of each
//! row group.
//!
//! The `parquet` crate makes dictionaries of the values that occur, in order of appearance. Readers
//! that take the dictionary page for the categories would then lose their order, and those that do
//! not occur.

use std::ops::Range;

use arrow_array::{Array, ArrayRef};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::crate_error;
use crate::error::{Error, Result};

/// Rows of a data page.
const PAGE_ROWS: usize = 1 << 16;
/// A larger dictionary is not repeated in every row group: the crate writes the values that occur.
pub(super) const MAX_DICTIONARY_BYTES: usize = 16 << 20;

/// A column chunk of `codes` (a primitive array) into `categories`.
pub(super) fn encode(
    descr: &ColumnDescPtr,
    codec: Compression,
    codes: &ArrayRef,
    categories: &[Vec<u8>],
) -> Result<(Bytes, ColumnCloseResult)> {
    let (values, used) = codes_of(codes, categories.len())?;
    let mut sink = TrackedWrite::new(Vec::new());
    let mut pages = SerializedPageWriter::new(&mut sink);
    let (page, size) = dictionary_page(codec, categories)?;
    let wrote = pages.write_page(CompressedPage::new(page, size)).map_err(crate_error)?;
    let mut unpacked = wrote.uncompressed_size;
    let dictionary_bytes = wrote.bytes_written;
    let bits = 64 - (categories.len().saturating_sub(1) as u64).leading_zeros();
    let mut start = 0;
    while start < codes.len() {
        let end = (start + PAGE_ROWS).min(codes.len());
        let body = data_page(codes, &values, start..end, descr.max_def_level(), bits)?;
        let size = body.len();
        let page = Page::DataPage {
            buf: packed(codec, body)?.into(),
            num_values: (end - start) as u32,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let wrote = pages.write_page(CompressedPage::new(page, size)).map_err(crate_error)?;
        unpacked += wrote.uncompressed_size;
        start = end;
    }
    let bytes = sink.into_inner().map_err(crate_error)?;
    let metadata = ColumnChunkMetaData::builder(descr.clone())
        .set_compression(codec)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_num_values(codes.len() as i64)
        .set_total_compressed_size(bytes.len() as i64)
        .set_total_uncompressed_size(unpacked as i64)
        .set_dictionary_page_offset(Some(0))
        .set_data_page_offset(dictionary_bytes as i64)
        .set_statistics(statistics(codes, categories, &used))
        .build()
        .map_err(crate_error)?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: codes.len() as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    Ok((bytes.into(), close))
}

/// The page of all categories, and its bytes before they are compressed.
fn dictionary_page(codec: Compression, categories: &[Vec<u8>]) -> Result<(Page, usize)> {
    let mut dictionary = Vec::with_capacity(categories.iter().map(|c| c.len() + 4).sum());
    for item in categories {
        dictionary.extend_from_slice(&(item.len() as u32).to_le_bytes());
        dictionary.extend_from_slice(item);
    }
    let size = dictionary.len();
    let page = Page::DictionaryPage {
        buf: packed(codec, dictionary)?.into(),
        num_values: categories.len() as u32,
        encoding: Encoding::PLAIN,
        is_sorted: false,
    };
    Ok((page, size))
}

/// The body of a data page: levels where the column may have nulls, then the codes in `bits` each.
fn data_page(
    codes: &ArrayRef,
    values: &[u64],
    rows: Range<usize>,
    max_def: i16,
    bits: u32,
) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if max_def > 0 {
        let level = |i| (max_def - i16::from(codes.is_null(i))) as u64;
        let levels: Vec<u64> = rows.clone().map(level).collect();
        let mut packed = Vec::new();
        hybrid(&levels, 16 - (max_def as u16).leading_zeros(), &mut packed);
        body.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        body.extend_from_slice(&packed);
    } else if rows.clone().any(|i| codes.is_null(i)) {
        return Err(Error::refused("a null appeared in a column declared without nulls"));
    }
    let present: Vec<u64> = rows.filter(|&i| codes.is_valid(i)).map(|i| values[i]).collect();
    body.push(bits as u8);
    hybrid(&present, bits, &mut body);
    Ok(body)
}

/// The least and the largest category that occur, and how many rows are null.
fn statistics(codes: &ArrayRef, categories: &[Vec<u8>], used: &[bool]) -> Statistics {
    let occurring = || categories.iter().zip(used).filter(|(_, used)| **used).map(|(item, _)| item);
    // Long values would be repeated in the footer.
    let short =
        |v: Option<&Vec<u8>>| v.filter(|v| v.len() <= 64).map(|v| ByteArray::from(v.clone()));
    let (least, most) = (short(occurring().min()), short(occurring().max()));
    let (least, most) =
        if least.is_some() && most.is_some() { (least, most) } else { (None, None) };
    Statistics::byte_array(least, most, None, Some(codes.null_count() as u64), false)
}

/// The codes as numbers (0 at nulls), and which categories occur.
fn codes_of(codes: &ArrayRef, categories: usize) -> Result<(Vec<u64>, Vec<bool>)> {
    let width = codes
        .data_type()
        .primitive_width()
        .ok_or_else(|| Error::internal("codes were expected"))?;
    let data = codes.to_data();
    let bytes =
        data.buffers().first().map(|b| &b.as_slice()[data.offset() * width..]).unwrap_or_default();
    let mut values = Vec::with_capacity(codes.len());
    let mut used = vec![false; categories];
    for i in 0..codes.len() {
        let mut raw = [0u8; 8];
        raw[..width].copy_from_slice(&bytes[i * width..(i + 1) * width]);
        let code = u64::from_le_bytes(raw);
        if codes.is_null(i) {
            values.push(0);
            continue;
        }
        match used.get_mut(usize::try_from(code).unwrap_or(usize::MAX)) {
            Some(used) => *used = true,
            None => {
                return Err(Error::corrupt(format!(
                    "code {code} is outside the {categories} categories"
                )));
            }
        }
        values.push(code);
    }
    Ok((values, used))
}

/// The RLE / bit-packed hybrid: one run where all are equal, bit-packed otherwise.
fn hybrid(values: &[u64], bits: u32, out: &mut Vec<u8>) {
    let varint = |mut n: u64, out: &mut Vec<u8>| {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    };
    let Some(&first) = values.first() else { return };
    if values.iter().all(|&v| v == first) {
        varint((values.len() as u64) << 1, out);
        out.extend_from_slice(&first.to_le_bytes()[..bits.div_ceil(8) as usize]);
        return;
    }
    let groups = values.len().div_ceil(8);
    varint(((groups as u64) << 1) | 1, out);
    let (mut held, mut filled) = (0u128, 0u32);
    for i in 0..groups * 8 {
        held |= u128::from(values.get(i).copied().unwrap_or(0)) << filled;
        filled += bits;
        while filled >= 8 {
            out.push(held as u8);
            held >>= 8;
            filled -= 8;
        }
    }
}

/// The page's bytes as the codec packs them.
fn packed(codec: Compression, bytes: Vec<u8>) -> Result<Vec<u8>> {
    use std::io::Write;
    Ok(match codec {
        Compression::SNAPPY => snap::raw::Encoder::new()
            .compress_vec(&bytes)
            .map_err(|e| Error::failed("a page cannot be packed").because(e))?,
        Compression::GZIP(_) => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&bytes)?;
            encoder.finish()?
        }
        Compression::ZSTD(level) => zstd::bulk::compress(&bytes, level.compression_level())?,
        Compression::LZ4_RAW => lz4_flex::block::compress(&bytes),
        _ => bytes,
    })
}
