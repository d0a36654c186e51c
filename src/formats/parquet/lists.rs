//! The fast way for columns of lists that all have one length, without a null: the usual form of embeddings.
//!
//! When the file is opened, only the levels at the start of each page are unpacked: they tell whether all lists have one
//! length. If so, the values of the pages lie end to end, row after row: any rows are read from the pages that hold them,
//! with the levels cut off, as if the column were flat.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Compression, Repetition};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};

use super::blob::Window;
use super::crate_error;
use super::page::HEADER_BYTES;
use super::thrift::{PageHeader, page_header};
use crate::error::{Error, ForeignReader, Result};
use crate::location::Blob;

/// Where the pages of one column chunk are.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    /// The dictionary page's place.
    dictionary: Option<(u64, u64)>,
    /// The data pages: place, length with the header, first value, values.
    data: Vec<(u64, u64, u64, u64)>,
}

/// A column of equal lists.
pub(super) struct EqualLists {
    /// Elements of a row.
    pub(super) length: u64,
    /// Per row group.
    pub(super) pages: Vec<Pages>,
    /// The types of the elements as a flat, required column.
    pub(super) levels: FieldLevels,
    /// Levels to cut off, of version 1 pages: repetition, definition.
    cut: (bool, bool),
}

impl EqualLists {
    /// Looks at the levels of all pages; `None` where the fast way does not serve this column.
    ///
    /// # Errors
    /// Reading errors.
    pub(super) fn look(blob: &Arc<dyn Blob>, metadata: &ParquetMetaData, column: usize) -> Result<Option<EqualLists>> {
        let descr = metadata.file_metadata().schema_descr().column(column);
        if descr.max_rep_level() != 1 || descr.max_def_level() > 15 {
            return Ok(None);
        }
        let mut lists = Lengths::default();
        let mut groups = Vec::new();
        for group in metadata.row_groups() {
            let chunk = group.column(column);
            let first_row = lists.rows;
            let Some(pages) = scan(blob, chunk, &descr, &mut lists)? else { return Ok(None) };
            if !lists.end_row() || lists.rows - first_row != u64::try_from(group.num_rows()).unwrap_or(u64::MAX) {
                return Ok(None);
            }
            groups.push(pages);
        }
        let Some(length) = lists.length.filter(|&n| n > 0) else { return Ok(None) };
        let Some(levels) = flat_levels(&descr) else { return Ok(None) };
        Ok(Some(EqualLists { length, pages: groups, levels, cut: (true, descr.max_def_level() > 0) }))
    }

    /// The pages that hold these values of a row group: a reader of them, its values, and how many come before.
    ///
    /// # Errors
    /// Corrupt pages.
    pub(super) fn reader(
        &self,
        blob: &Arc<dyn Blob>,
        metadata: &ParquetMetaData,
        g: usize,
        column: usize,
        values: Range<u64>,
    ) -> Result<(Box<dyn PageReader>, Window, u64, u64)> {
        let pages = &self.pages[g];
        let first = pages.data.partition_point(|p| p.2 + p.3 <= values.start);
        let last = pages.data.partition_point(|p| p.2 < values.end).max(first);
        let held = &pages.data[first..last];
        let Some(&(_, _, first_value, _)) = held.first() else { return Err(Error::corrupt("no page holds these rows")) };
        let end = held.last().map_or(0, |p| p.0 + p.1);
        let total = held.iter().map(|p| p.3).sum();
        let chunk = metadata.row_group(g).column(column);
        let dictionary = match pages.dictionary {
            None => None,
            Some((offset, len)) => {
                let window = Window::of_pages(blob.clone(), offset + len, chunk.compression());
                let mut reader = located(window, chunk, &[(offset, len, 0, 0)], 0)?;
                reader.get_next_page().map_err(crate_error)?
            }
        };
        let window = Window::of_pages(blob.clone(), end, chunk.compression());
        let inner = located(window.clone(), chunk, held, total)?;
        let places = held.iter().map(|p| p.3).collect::<Vec<u64>>();
        let stripped = Stripped { dictionary, inner, values: places.into_iter().collect(), cut: self.cut };
        Ok((Box::new(stripped), window, total, values.start - first_value))
    }
}

/// A reader of just these pages.
fn located(window: Window, chunk: &ColumnChunkMetaData, pages: &[(u64, u64, u64, u64)], rows: u64) -> Result<SerializedPageReader<Window>> {
    let first = pages.first().map_or(0, |p| p.0);
    let bare = chunk.clone().into_builder().set_dictionary_page_offset(None).set_data_page_offset(first as i64).build();
    let locations = pages.iter().map(|&(offset, len, first_value, _)| PageLocation {
        offset: offset as i64,
        compressed_page_size: len as i32,
        first_row_index: first_value as i64,
    });
    let bare = bare.map_err(crate_error)?;
    SerializedPageReader::new(Arc::new(window), &bare, rows as usize, Some(locations.collect())).map_err(crate_error)
}

/// Pages without their levels.
struct Stripped {
    dictionary: Option<Page>,
    inner: SerializedPageReader<Window>,
    values: std::collections::VecDeque<u64>,
    cut: (bool, bool),
}

impl Stripped {
    fn strip(&self, page: Page) -> parquet::errors::Result<Page> {
        let short = || parquet::errors::ParquetError::EOF("the levels of a page pass its end".into());
        Ok(match page {
            Page::DataPage { mut buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
                for wanted in [self.cut.0, self.cut.1] {
                    if wanted {
                        let len = buf.first_chunk::<4>().map(|b| u32::from_le_bytes(*b) as usize).ok_or_else(short)?;
                        let end = len.checked_add(4).filter(|&e| e <= buf.len()).ok_or_else(short)?;
                        buf = buf.slice(end..);
                    }
                }
                Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
            }
            Page::DataPageV2 { buf, num_values, encoding, rep_levels_byte_len, def_levels_byte_len, statistics, .. } => {
                let end = (rep_levels_byte_len as usize).checked_add(def_levels_byte_len as usize);
                let end = end.filter(|&e| e <= buf.len()).ok_or_else(short)?;
                let rle = parquet::basic::Encoding::RLE;
                let buf = buf.slice(end..);
                Page::DataPage { buf, num_values, encoding, def_level_encoding: rle, rep_level_encoding: rle, statistics }
            }
            other => other,
        })
    }
}

impl Iterator for Stripped {
    type Item = parquet::errors::Result<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Stripped {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        if let Some(page) = self.dictionary.take() {
            return Ok(Some(page));
        }
        self.values.pop_front();
        match self.inner.get_next_page()? {
            Some(page) => Ok(Some(self.strip(page)?)),
            None => Ok(None),
        }
    }
    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        if self.dictionary.is_some() {
            return Ok(Some(PageMetadata { num_rows: None, num_levels: None, is_dict: true }));
        }
        Ok(self.values.front().map(|&n| PageMetadata { num_rows: Some(n as usize), num_levels: Some(n as usize), is_dict: false }))
    }
    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        if self.dictionary.take().is_none() {
            self.values.pop_front();
            self.inner.skip_next_page()?;
        }
        Ok(())
    }
    fn at_record_boundary(&mut self) -> parquet::errors::Result<bool> {
        Ok(true)
    }
}

/// The elements as a flat, required column.
fn flat_levels(descr: &ColumnDescriptor) -> Option<FieldLevels> {
    let element = Type::primitive_type_builder("values", descr.physical_type())
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(descr.logical_type_ref().cloned())
        .with_converted_type(descr.converted_type())
        .with_length(descr.type_length())
        .with_precision(descr.type_precision())
        .with_scale(descr.type_scale())
        .build()
        .ok()?;
    let schema = Type::group_type_builder("schema").with_fields(vec![Arc::new(element)]).build().ok()?;
    let schema = SchemaDescriptor::new(Arc::new(schema));
    parquet_to_arrow_field_levels(&schema, ProjectionMask::all(), None).ok()
}

/// The lengths of the lists met so far.
#[derive(Default)]
struct Lengths {
    rows: u64,
    /// The length of all lists that have ended.
    length: Option<u64>,
    /// Elements of the list that has not ended.
    open: u64,
}

impl Lengths {
    /// Ends a list; false where its length differs.
    fn end_row(&mut self) -> bool {
        if self.open == 0 {
            return true;
        }
        let same = *self.length.get_or_insert(self.open) == self.open;
        self.open = 0;
        same
    }
    /// Takes a run of one repetition level.
    fn run(&mut self, level: u8, count: u64) -> bool {
        if level != 0 {
            let first = self.open == 0 && count > 0;
            self.open += count;
            return !first;
        }
        if !self.end_row() || count > 1 && *self.length.get_or_insert(1) != 1 {
            return false;
        }
        self.rows += count;
        self.open = 1;
        true
    }
}

/// Finds the pages of a chunk and takes their levels. `None`: something that the fast way does not serve.
fn scan(blob: &Arc<dyn Blob>, chunk: &ColumnChunkMetaData, descr: &ColumnDescriptor, lists: &mut Lengths) -> Result<Option<Pages>> {
    let (start, len) = chunk.byte_range();
    let end = start.saturating_add(len).min(blob.len());
    // Locally, small reads at the heads of the pages; remotely, large ones of everything.
    let window = if blob.file().is_some() { None } else { Some(Window::new(blob.clone(), end)) };
    let read = |at: u64, n: u64| -> Result<Bytes> {
        let n = n.min(end.saturating_sub(at));
        match &window {
            Some(window) => window.get_bytes(at, n as usize).map_err(crate_error),
            None => Ok(blob.read_vec(at, n)?.into()),
        }
    };
    let mut pages = Pages::default();
    let (mut at, mut first_value) = (start, 0u64);
    let total = u64::try_from(chunk.num_values()).unwrap_or(0);
    while at < end && first_value < total {
        let mut header = None;
        for n in HEADER_BYTES {
            header = page_header(&read(at, n)?);
            if header.is_some() {
                break;
            }
        }
        let Some(header) = header else { return Ok(None) };
        let (Ok(size), Ok(values)) = (u64::try_from(header.compressed), u64::try_from(header.values)) else { return Ok(None) };
        let body = at + header.header_bytes;
        let Some(next) = body.checked_add(size).filter(|&e| e <= end) else { return Ok(None) };
        if i32::try_from(next - at).is_err() {
            return Ok(None);
        }
        match header.kind {
            2 if pages.dictionary.is_none() && pages.data.is_empty() => pages.dictionary = Some((at, next - at)),
            0 | 3 => {
                if !take_levels(&header, &|from, n| read(body + from, n), size, chunk.compression(), descr, lists)? {
                    return Ok(None);
                }
                pages.data.push((at, next - at, first_value, values));
                first_value += values;
            }
            1 => {}
            _ => return Ok(None),
        }
        at = next;
    }
    Ok((first_value == total).then_some(pages))
}

/// Takes the levels of a page; false where they say more than lists of one length without a null.
fn take_levels(
    header: &PageHeader,
    read: &dyn Fn(u64, u64) -> Result<Bytes>,
    size: u64,
    codec: Compression,
    descr: &ColumnDescriptor,
    lists: &mut Lengths,
) -> Result<bool> {
    let values = header.values as u64;
    let def_bits = 16 - (descr.max_def_level() as u16).leading_zeros();
    let full = descr.max_def_level() as u8;
    let mut take = |rep: &[u8], def: &[u8]| -> bool {
        runs(rep, 1, values, &mut |level, n| lists.run(level, n))
            && (def_bits == 0 || runs(def, def_bits, values, &mut |level, _| level == full))
    };
    if header.kind == 3 {
        let (Ok(def), Ok(rep)) = (u64::try_from(header.level_bytes.0), u64::try_from(header.level_bytes.1)) else { return Ok(false) };
        if def.checked_add(rep).is_none_or(|n| n > size) {
            return Ok(false);
        }
        let bytes = read(0, def + rep)?;
        if (bytes.len() as u64) < def + rep {
            return Ok(false);
        }
        return Ok(take(&bytes[..rep as usize], &bytes[rep as usize..]));
    }
    if header.level_encodings != (3, 3) {
        return Ok(false);
    }
    // Version 1: [length, repetition levels, length, definition levels, values], compressed together.
    let head = if matches!(codec, Compression::ZSTD(_)) { 160 << 10 } else { 16 << 10 };
    for part in [head, u64::MAX] {
        let packed = read(0, size.min(part))?;
        let Some(bytes) = unpacked_head(codec, &packed, header.uncompressed) else { return Ok(false) };
        let word = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_le_bytes(*b) as usize);
        let rep = word(0).and_then(|n| Some((bytes.get(4..4usize.checked_add(n)?)?, n)));
        let levels = rep.and_then(|(rep, n)| {
            if def_bits == 0 {
                return Some((rep, &bytes[..0]));
            }
            let at = 4 + n;
            Some((rep, bytes.get(at + 4..(at + 4).checked_add(word(at)?)?)?))
        });
        if let Some((rep, def)) = levels {
            return Ok(take(rep, def));
        }
        if part >= size {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The uncompressed bytes at the start of a page, as many as come easily; `None` for other codecs.
fn unpacked_head(codec: Compression, packed: &[u8], uncompressed: i64) -> Option<Vec<u8>> {
    /// Levels of a page rarely take more.
    const HEAD: usize = 128 << 10;
    let most = usize::try_from(uncompressed).ok()?;
    let mut out = Vec::new();
    match codec {
        Compression::UNCOMPRESSED => return Some(packed.to_vec()),
        Compression::SNAPPY => snappy_head(packed, most.min(4 << 20), &mut out)?,
        Compression::ZSTD(_) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
            // Cut input ends in an error: what came before it counts.
            let _ = decoder.take(most.min(HEAD) as u64).read_to_end(&mut out);
        }
        Compression::GZIP(_) => {
            let decoder = ForeignReader::new("flate2", flate2::read::MultiGzDecoder::new(packed));
            let _ = decoder.take(most.min(HEAD) as u64).read_to_end(&mut out);
        }
        _ => return None,
    }
    Some(out)
}

/// Unpacks raw snappy until `most` bytes are there or the input ends.
fn snappy_head(packed: &[u8], most: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    let mut total = 0u64;
    for shift in (0..35).step_by(7) {
        let b = *packed.get(at)?;
        at += 1;
        total |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            break;
        }
    }
    let most = most.min(usize::try_from(total).ok()?);
    while out.len() < most {
        let Some(&tag) = packed.get(at) else { return Some(()) };
        let little = |from: usize, n: usize| -> Option<usize> {
            let bytes = packed.get(from..from + n)?;
            Some(bytes.iter().rev().fold(0usize, |v, &b| (v << 8) | usize::from(b)))
        };
        let (offset, len, extra) = match tag & 3 {
            0 => {
                let short = usize::from(tag >> 2);
                let extra = short.saturating_sub(59);
                let Some(len) = (if extra == 0 { Some(short) } else { little(at + 1, extra) }) else { return Some(()) };
                let from = at + 1 + extra;
                let end = from.saturating_add(len + 1);
                let literal = &packed[from.min(packed.len())..end.min(packed.len())];
                out.extend_from_slice(literal);
                if end > packed.len() {
                    return Some(());
                }
                at = end;
                continue;
            }
            1 => (little(at + 1, 1).map(|b| (usize::from(tag >> 5) << 8) | b), usize::from((tag >> 2) & 7) + 4, 1),
            2 => (little(at + 1, 2), usize::from(tag >> 2) + 1, 2),
            _ => (little(at + 1, 4), usize::from(tag >> 2) + 1, 4),
        };
        let Some(offset) = offset else { return Some(()) };
        let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
        for i in 0..len {
            out.push(out[from + i]);
        }
        at += 1 + extra;
    }
    Some(())
}

/// Goes through the runs of an RLE / bit-packed hybrid of `count` levels of `bits` bits; false once `each` says so or the
/// bytes do not suffice.
fn runs(bytes: &[u8], bits: u32, count: u64, each: &mut dyn FnMut(u8, u64) -> bool) -> bool {
    let (mut at, mut left) = (0usize, count);
    while left > 0 {
        let mut header = 0u64;
        let mut shift = 0;
        loop {
            let Some(&b) = bytes.get(at) else { return false };
            at += 1;
            header |= u64::from(b & 0x7f) << shift;
            shift += 7;
            if b & 0x80 == 0 {
                break;
            }
            if shift > 56 {
                return false;
            }
        }
        if header & 1 == 0 {
            let Some(&level) = bytes.get(at) else { return false };
            at += 1;
            let n = (header >> 1).min(left);
            if n == 0 || !each(level, n) {
                return false;
            }
            left -= n;
            continue;
        }
        let groups = header >> 1;
        if groups == 0 {
            return false;
        }
        // Runs inside the packed values.
        let (mut run, mut level) = (0u64, 0u8);
        for i in 0..groups.saturating_mul(8).min(left) {
            let bit = i * u64::from(bits);
            let (byte, within) = (at + (bit / 8) as usize, (bit % 8) as u32);
            let Some(&low) = bytes.get(byte) else { return false };
            let high = bytes.get(byte + 1).copied().unwrap_or(0);
            let value = ((u16::from_le_bytes([low, high]) >> within) & ((1 << bits) - 1)) as u8;
            if run > 0 && value != level {
                if !each(level, run) {
                    return false;
                }
                run = 0;
            }
            level = value;
            run += 1;
        }
        if run > 0 && !each(level, run) {
            return false;
        }
        let taken = groups.saturating_mul(8).min(left);
        left -= taken;
        let Some(next) = usize::try_from(groups).ok().and_then(|g| g.checked_mul(bits as usize)).and_then(|n| at.checked_add(n)) else {
            return false;
        };
        at = next;
    }
    true
}
