//! The pages of one column in one row group: found header by header, unpacked and checked, handed
//! to the `parquet` crate.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::page::{self, Content, DATA, DATA_V2, DICTIONARY, Dictionary, Element};
use super::parts::Cut;
use super::thrift::{PageHeader, page_header};
use super::wrapped;
use crate::arrow_model::MemoryLimit;
use crate::error::{Error, Result, locked};
use crate::storage::Blob;

/// Bytes in which a page header is looked for (statistics may be long).
const HEADER_BYTES: [u64; 3] = [1 << 8, 1 << 13, 1 << 20];
/// Bytes read ahead of a local file.
const LOCAL_WINDOW_BYTES: u64 = 64 << 10;
/// Bytes read ahead of a remote object: fewer, larger requests.
const REMOTE_WINDOW_BYTES: u64 = 8 << 20;

/// One column in one row group.
#[derive(Clone)]
pub(super) struct ColumnChunk {
    blob: Arc<dyn Blob>,
    range: Range<u64>,
    codec: Compression,
    pub(super) element: Element,
    /// Values, nulls among them.
    pub(super) values: u64,
    pub(super) limit: MemoryLimit,
    recent: Recent,
}

/// A page that begins with a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) at: u64,
    /// Values and rows before it.
    pub(super) first_value: u64,
    pub(super) first_row: u64,
}

/// What was read of a remote file last: pages are measured before they are read.
pub(super) type Recent = Arc<Mutex<VecDeque<(u64, Bytes)>>>;
/// How many windows are kept for that.
const RECENT: usize = 3;

impl ColumnChunk {
    /// The chunk, placed as the footer tells.
    ///
    /// # Errors
    /// Corrupt where that cannot be.
    pub(super) fn of(
        blob: &Arc<dyn Blob>,
        metadata: &ParquetMetaData,
        (g, column): (usize, usize),
        limit: MemoryLimit,
        recent: &Recent,
    ) -> Result<ColumnChunk> {
        let chunk = metadata.row_groups()[g]
            .columns()
            .get(column)
            .ok_or_else(|| Error::corrupt("a row group lacks this column"))?;
        let range = range_of(chunk, g, blob.len())?;
        let descr = chunk.column_descr();
        let element = Element {
            physical: descr.physical_type(),
            length: u64::try_from(descr.type_length()).unwrap_or(0),
            max_def: descr.max_def_level(),
            max_rep: descr.max_rep_level(),
        };
        let values = u64::try_from(chunk.num_values());
        let values = values.map_err(|_| {
            Error::corrupt(format!("row group {g} tells of {} values", chunk.num_values()))
        })?;
        let (blob, recent) = (blob.clone(), recent.clone());
        Ok(ColumnChunk { blob, range, codec: chunk.compression(), element, values, limit, recent })
    }

    /// The pages from the first on.
    pub(super) fn pages(&self) -> Headers {
        Headers {
            chunk: self.clone(),
            window: Window::default(),
            at: self.range.start,
            first_value: 0,
        }
    }

    /// The pages from this one on.
    pub(super) fn pages_from(&self, at: u64, first_value: u64) -> Headers {
        Headers { at, first_value, ..self.pages() }
    }

    /// Where the first page begins.
    pub(super) fn start(&self) -> Start {
        Start { at: self.range.start, first_value: 0, first_row: 0 }
    }

    /// The bytes at the start of a page's body, and a window for the next ones.
    ///
    /// # Errors
    /// Reading errors.
    pub(super) fn head(
        &self,
        found: &FoundPage,
        window: &mut Window,
        from: u64,
        len: u64,
    ) -> Result<Bytes> {
        let len = len.min(found.size.saturating_sub(from));
        match self.is_local() {
            true => Ok(self.blob.read_vec(found.body + from, len)?.into()),
            false => Ok(window.bytes(self, found.body + from, len)?.slice(..len as usize)),
        }
    }

    pub(super) fn codec(&self) -> Compression {
        self.codec
    }

    pub(super) fn is_local(&self) -> bool {
        self.blob.file().is_some()
    }

    /// Unpacks the dictionary at this page.
    ///
    /// # Errors
    /// Corrupt; refused past the limit.
    pub(super) fn dictionary(&self, found: &FoundPage, window: &mut Window) -> Result<Dictionary> {
        page::check_sizes(&found.header, self.codec, self.limit, 0)?;
        let bytes = window.bytes(self, found.body, found.size)?.slice(..found.size as usize);
        let bytes = page::unpacked(&found.header, bytes, self.codec)?;
        Dictionary::of(&found.header, &self.element, bytes, self.limit)
    }

    /// Unpacks and checks a data page; `cut`: with its parts.
    ///
    /// # Errors
    /// Corrupt; refused past the limit.
    pub(super) fn data(
        &self,
        found: &FoundPage,
        window: &mut Window,
        dictionary: Option<&Dictionary>,
        cut: Option<Cut>,
    ) -> Result<(Bytes, Content)> {
        let header = &found.header;
        let held = dictionary.map_or(0, Dictionary::memory);
        page::check_sizes(header, self.codec, self.limit, held)?;
        let bytes = window.bytes(self, found.body, found.size)?.slice(..found.size as usize);
        let bytes = page::unpacked(header, bytes, self.codec)?;
        let held = held + bytes.len() as u64;
        let room = |more: u64| self.limit.check("a page", held.saturating_add(more));
        let content = page::check_data(header, &self.element, &bytes, dictionary, cut, &room)?;
        Ok((bytes.slice(..content.end), content))
    }
}

/// Where a chunk is.
fn range_of(chunk: &ColumnChunkMetaData, g: usize, len: u64) -> Result<Range<u64>> {
    // Some writers leave the dictionary's place at 0.
    let start =
        chunk.dictionary_page_offset().filter(|&d| d > 0).unwrap_or(chunk.data_page_offset());
    let start = start.min(chunk.data_page_offset());
    let end = start.checked_add(chunk.compressed_size());
    let range = u64::try_from(start)
        .ok()
        .zip(end.and_then(|end| u64::try_from(end).ok()))
        .filter(|(start, end)| start <= end && *end <= len);
    range.map(|(start, end)| start..end).ok_or_else(|| {
        Error::corrupt(format!(
            "row group {g} places it at byte {start}, with {} bytes, in a file of {len}",
            chunk.compressed_size()
        ))
    })
}

/// A page that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundPage {
    /// Where its header begins, and its body.
    pub(super) at: u64,
    pub(super) body: u64,
    /// Bytes of its body.
    pub(super) size: u64,
    pub(super) header: PageHeader,
    /// Values of the chunk before it.
    pub(super) first_value: u64,
}

impl FoundPage {
    pub(super) fn values(&self) -> u64 {
        self.header.values as u64
    }
}

/// The pages of a chunk, as their headers tell.
pub(super) struct Headers {
    pub(super) chunk: ColumnChunk,
    pub(super) window: Window,
    at: u64,
    first_value: u64,
}

impl Headers {
    /// The next dictionary or data page that has values.
    ///
    /// # Errors
    /// Corrupt headers.
    pub(super) fn next(&mut self) -> Result<Option<FoundPage>> {
        while self.at < self.chunk.range.end && self.first_value < self.chunk.values {
            let (at, first_value) = (self.at, self.first_value);
            let wrong = |what: String| Error::corrupt(format!("the page at byte {at} {what}"));
            let header = self
                .window
                .header(&self.chunk, at)?
                .ok_or_else(|| wrong("has a header that cannot be read".into()))?;
            let body = at + header.header_bytes;
            let size = u64::try_from(header.compressed).ok();
            let end = size
                .and_then(|size| body.checked_add(size))
                .filter(|&end| end <= self.chunk.range.end);
            let (Some(size), Some(end)) = (size, end) else {
                return Err(wrong(format!(
                    "has {} bytes, its column ends at byte {}",
                    header.compressed, self.chunk.range.end
                )));
            };
            let values = u64::try_from(header.values)
                .map_err(|_| wrong(format!("has {} values", header.values)))?;
            self.at = end;
            if matches!(header.kind, DATA | DATA_V2) {
                self.first_value = first_value
                    .checked_add(values)
                    .filter(|&n| n <= self.chunk.values)
                    .ok_or_else(|| {
                        wrong(format!(
                            "has {values} values, {} of the column's {} were left",
                            self.chunk.values - first_value,
                            self.chunk.values
                        ))
                    })?;
            }
            // Index pages, and those of a kind to come, hold no values.
            if header.kind == DICTIONARY || matches!(header.kind, DATA | DATA_V2) && values > 0 {
                return Ok(Some(FoundPage { at, body, size, header, first_value }));
            }
        }
        Ok(None)
    }
}

/// Bytes of a chunk that are read ahead.
#[derive(Default)]
pub(super) struct Window {
    start: u64,
    held: Bytes,
}

impl Window {
    /// At least `len` bytes from `start`.
    fn bytes(&mut self, chunk: &ColumnChunk, start: u64, len: u64) -> Result<Bytes> {
        if let Some(from) = start.checked_sub(self.start)
            && from.checked_add(len).is_some_and(|end| end <= self.held.len() as u64)
        {
            return Ok(self.held.slice(from as usize..));
        }
        let left = chunk.range.end.saturating_sub(start);
        // Pages are of much the same size: no part of one that would be read again, but the header
        // behind them.
        let ahead = match chunk.is_local() {
            true => (LOCAL_WINDOW_BYTES / len.max(1)).max(1) * len + HEADER_BYTES[0],
            false => REMOTE_WINDOW_BYTES,
        };
        let wish = len.max(ahead.min(left));
        // Not two of them at once.
        self.held = Bytes::new();
        if chunk.is_local() {
            (self.start, self.held) = (start, chunk.blob.read_vec(start, wish)?.into());
            return Ok(self.held.clone());
        }
        let recent = || locked(&chunk.recent);
        let covers = |(from, held): &&(u64, Bytes)| {
            *from <= start && start + len <= *from + held.len() as u64
        };
        let kept = recent().iter().find(covers).cloned();
        let (from, held) = match kept {
            Some(window) => window,
            None => {
                let window = (start, Bytes::from(chunk.blob.read_vec(start, wish)?));
                let mut recent = recent();
                if wish <= REMOTE_WINDOW_BYTES {
                    recent.truncate(RECENT - 1);
                    recent.push_front(window.clone());
                }
                window
            }
        };
        (self.start, self.held) = (from, held.clone());
        Ok(held.slice((start - from) as usize..))
    }

    fn header(&mut self, chunk: &ColumnChunk, at: u64) -> Result<Option<PageHeader>> {
        let left = chunk.range.end - at;
        for n in HEADER_BYTES {
            // Locally, small reads at the heads of the pages that are skipped.
            let is_held = (self.start..self.start + self.held.len() as u64).contains(&at);
            let bytes = match chunk.is_local() && !is_held {
                true => chunk.blob.read_vec(at, n.min(left))?.into(),
                false => self.bytes(chunk, at, n.min(left))?,
            };
            if let Some(header) = page_header(&bytes) {
                return Ok(Some(header));
            }
            if n >= left {
                break;
            }
        }
        Ok(None)
    }
}

/// What went wrong below the crate, which keeps only the text.
pub(super) type Failure = Arc<Mutex<Option<Error>>>;

/// The pages of a chunk as the crate reads them.
pub(super) struct CheckedPages {
    headers: Headers,
    next: Option<FoundPage>,
    dictionary: Lookup,
    /// Whether levels are cut off, for lists of one length.
    stripped: bool,
    failure: Failure,
    /// Whether something went wrong already.
    failed: bool,
}

/// A dictionary: unpacked where its values are wanted, for rows that are skipped need none.
#[derive(Default)]
pub(super) struct Lookup {
    place: Option<FoundPage>,
    unpacked: Option<Dictionary>,
    /// Whether the crate has it.
    given: bool,
}

impl Lookup {
    /// A dictionary that was found before.
    pub(super) fn at(place: Option<FoundPage>) -> Lookup {
        Lookup { place, ..Lookup::default() }
    }
    pub(super) fn place(&self) -> Option<FoundPage> {
        self.place
    }
    /// Takes note of a dictionary.
    ///
    /// # Errors
    /// Corrupt where there is one already.
    pub(super) fn found(&mut self, found: FoundPage) -> Result<()> {
        match self.place.replace(found) {
            Some(first) if first.at != found.at => Err(Error::corrupt(format!(
                "a dictionary at byte {} is followed by another one at byte {}",
                first.at, found.at
            ))),
            _ => Ok(()),
        }
    }
    /// The dictionary, if there is one.
    ///
    /// # Errors
    /// Corrupt; refused past the limit.
    pub(super) fn unpack(&mut self, headers: &mut Headers) -> Result<Option<&Dictionary>> {
        if let (None, Some(place)) = (&self.unpacked, &self.place) {
            let Headers { chunk, window, .. } = headers;
            self.unpacked = Some(chunk.dictionary(place, window)?);
        }
        Ok(self.unpacked.as_ref())
    }
}

impl CheckedPages {
    /// `dictionary`: where it is, unless that is among the pages to come.
    pub(super) fn new(
        headers: Headers,
        dictionary: Option<FoundPage>,
        stripped: bool,
        failure: Failure,
    ) -> CheckedPages {
        CheckedPages {
            headers,
            next: None,
            dictionary: Lookup::at(dictionary),
            stripped,
            failure,
            failed: false,
        }
    }

    fn peek(&mut self) -> Result<Option<FoundPage>> {
        while self.next.is_none() {
            let Some(found) = self.headers.next()? else { break };
            if found.header.kind == DICTIONARY {
                self.dictionary.found(found)?;
            } else {
                self.next = Some(found);
            }
        }
        Ok(self.next)
    }

    fn page(&mut self) -> Result<Option<Page>> {
        let Some(found) = self.peek()? else { return Ok(None) };
        let coded = page::is_coded(found.header.encoding);
        if coded && let Some(page) = self.unread_dictionary()? {
            return Ok(Some(page));
        }
        let Headers { chunk, window, .. } = &mut self.headers;
        let (bytes, content) =
            chunk.data(&found, window, self.dictionary.unpacked.as_ref(), None)?;
        self.next = None;
        let header = &found.header;
        let element = &self.headers.chunk.element;
        let (bytes, encoding) = match coded && self.dictionary.unpacked.is_none() {
            // Then all its values are null, and the crate panics for want of a dictionary.
            true => {
                let levels =
                    page::values_of(header, element, &bytes).map_or(0, |values| values.start);
                (bytes.slice(..levels), Encoding::PLAIN)
            }
            false => (bytes, encoding(header.encoding)?),
        };
        let count =
            |n: i64| u32::try_from(n).map_err(|_| Error::corrupt(format!("a page has {n} values")));
        let (num_values, rle) = (count(header.values)?, Encoding::RLE);
        if self.stripped {
            let buf = page::values_of(header, element, &bytes)
                .ok_or_else(|| Error::corrupt("the levels of a page pass its end"))?;
            let buf = bytes.slice(buf);
            return Ok(Some(Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: rle,
                rep_level_encoding: rle,
                statistics: None,
            }));
        }
        Ok(Some(match header.kind {
            DATA => Page::DataPage {
                buf: bytes,
                num_values,
                encoding,
                def_level_encoding: levels_encoding(header.level_encodings.0),
                rep_level_encoding: levels_encoding(header.level_encodings.1),
                statistics: None,
            },
            _ => Page::DataPageV2 {
                buf: bytes,
                num_values,
                encoding,
                num_nulls: count(header.nulls)?,
                num_rows: u32::try_from(content.rows).unwrap_or(num_values),
                def_levels_byte_len: header.level_bytes.0 as u32,
                rep_levels_byte_len: header.level_bytes.1 as u32,
                is_compressed: !header.plain,
                statistics: None,
            },
        }))
    }

    /// The dictionary, if there is one that the crate has not got yet.
    fn unread_dictionary(&mut self) -> Result<Option<Page>> {
        if std::mem::replace(&mut self.dictionary.given, true) {
            return Ok(None);
        }
        let Some(dictionary) = self.dictionary.unpack(&mut self.headers)? else { return Ok(None) };
        let num_values = u32::try_from(dictionary.values)
            .map_err(|_| Error::corrupt("a dictionary has too many values"))?;
        Ok(Some(Page::DictionaryPage {
            buf: dictionary.bytes.clone(),
            num_values,
            encoding: encoding(dictionary.encoding)?,
            is_sorted: dictionary.sorted,
        }))
    }

    /// Does something for the crate and keeps what fails. The crate may ask again afterwards: it
    /// fails again.
    fn told<T>(&mut self, work: impl FnOnce(&mut CheckedPages) -> Result<T>) -> ParquetResult<T> {
        if self.failed {
            return Err(ParquetError::General("a page could not be read".into()));
        }
        work(self).map_err(|e| {
            self.failed = true;
            *locked(&self.failure) = Some(e.clone());
            wrapped(e)
        })
    }
}

fn levels_encoding(number: i64) -> Encoding {
    #[expect(deprecated)]
    if number == 4 { Encoding::BIT_PACKED } else { Encoding::RLE }
}

/// The crate's name of an encoding.
fn encoding(number: i64) -> Result<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        10 => Encoding::ALP,
        _ => {
            return Err(Error::refused(format!(
                "the encoding of number {number} is not supported"
            )));
        }
    })
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        self.told(CheckedPages::page)
    }
    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        let Some(found) = self.told(CheckedPages::peek)? else { return Ok(None) };
        let flat = self.stripped || self.headers.chunk.element.max_rep == 0;
        let rows = if flat { Some(found.header.values) } else { found.header.rows };
        let number = |n: i64| {
            usize::try_from(n).map_err(|_| ParquetError::General(format!("a page has {n} values")))
        };
        Ok(Some(PageMetadata {
            num_rows: rows.map(number).transpose()?,
            num_levels: Some(number(found.header.values)?),
            is_dict: false,
        }))
    }
    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.next = None;
        Ok(())
    }
    fn supports_deferred_dictionary(&self) -> bool {
        true
    }
    fn take_deferred_dictionary(&mut self) -> ParquetResult<Option<Page>> {
        self.told(CheckedPages::unread_dictionary)
    }
    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        Ok(self.stripped || self.peek_next_page()?.is_none_or(|page| page.num_rows.is_some()))
    }
}
