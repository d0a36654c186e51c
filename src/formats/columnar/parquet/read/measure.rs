//! How much the rows of a column chunk take unpacked: known page by page before anything is handed
//! on.
//!
//! A few bytes may stand for a billion rows, and a code of two bits for a text of a megabyte. So
//! rows are read in parts whose size is known: from the headers of the pages, and where these leave
//! doubt, from the pages themselves.

use std::ops::Range;

use super::page::{DATA, DICTIONARY, is_coded, may_grow};
use super::pages::{ColumnChunk, FoundPage, Headers, Lookup, Start};
use super::parts::{Cut, PageRows};
use crate::arrow_model::MemoryLimit;
use crate::error::{Error, Result};

/// Pages are measured together up to this many bytes.
const SEGMENT_BYTES: u64 = 256 << 10;
/// What headers allow for is not looked at more closely below this.
const SMALL_BYTES: u64 = 1 << 20;
/// A larger page is cut by its rows, so that they are measured.
const LARGE_BYTES: u64 = 4 << 20;
/// Texts of a page are measured in parts of this many bytes at most.
const PART_BYTES: u64 = 1 << 20;
/// Pages of one segment at most: their headers are read again to get to the last of them.
const MAX_PAGES: u32 = 64;
/// Measured at once, so that a dictionary is unpacked a few times only.
const STRIDE_BYTES: u64 = 64 << 20;
/// Offsets and masks of a row, in the forms that it goes through.
pub(super) const ROW_BYTES: u64 = 18;

/// What is unpacked before a row can be decoded is unpacked again for every part of a chunk that
/// begins behind it: then the parts are this large, so that all of them together unpack it a few
/// times.
pub(super) fn worth(reach: u64, limit: MemoryLimit) -> u64 {
    (reach / 8).min(limit.0 / 8)
}

/// What rows are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rows {
    /// Values of one size: bytes of a row.
    Fixed(u64),
    /// Texts: bytes of a row beside its text.
    Texts(u64),
    /// Codes of a dictionary, or texts where a writer gave it up.
    Codes(u64),
    /// Lists of values of one size: bytes of a value.
    Lists(u64),
    /// Lists of texts: bytes of a value beside its text.
    TextLists(u64),
}

/// Some rows of a chunk: those of several pages, or a part of a large one.
#[derive(Clone, Copy, Debug)]
struct Segment {
    first_row: u64,
    rows: u64,
    /// What they take, and the one that takes most.
    bytes: u64,
    longest: u64,
    start: Start,
    /// What the largest page takes while it is read, and all of them from the start on.
    page_bytes: u64,
    reach: u64,
    pages: u32,
    /// Whether the values are codes of the dictionary.
    coded: bool,
}

impl Segment {
    fn end(&self) -> u64 {
        self.first_row + self.rows
    }
    /// Whether the rows of a page are measured together with these.
    fn takes(&self, other: &Segment, step: u64) -> bool {
        let uniform = |s: &Segment| s.bytes == s.rows.saturating_mul(s.longest);
        let small = self.bytes.saturating_add(other.bytes) <= SEGMENT_BYTES.min(step);
        let alike = self.longest == other.longest && uniform(self) && uniform(other);
        self.coded == other.coded && self.pages < MAX_PAGES && (small || alike)
    }
    fn add(&mut self, other: &Segment) {
        self.rows += other.rows;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.longest = self.longest.max(other.longest);
        self.page_bytes = self.page_bytes.max(other.page_bytes);
        self.reach = self.reach.saturating_add(other.page_bytes);
        self.pages += 1;
    }
}

/// Some rows that are decoded by one reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub(super) start: Start,
    /// The row behind its last one, and how many are decoded at once.
    pub(super) end: u64,
    pub(super) batch: u64,
    /// What these take, and what a page takes beside them.
    pub(super) bytes: u64,
    pub(super) page_bytes: u64,
    /// What is unpacked before the first of them can be decoded.
    pub(super) reach: u64,
    /// The row behind those that were measured together with the first one.
    pub(super) lead: u64,
}

/// The segments of a chunk, found as far as they were asked for.
pub(super) struct Measure {
    rows: Rows,
    /// Rows of the row group.
    total: u64,
    /// Rows that take more than this are measured apart from each other.
    step: u64,
    headers: Headers,
    dictionary: Option<FoundPage>,
    segments: Vec<Segment>,
    /// Values of the last row, of lists.
    tail: u64,
    done: bool,
    /// Why it ended early: pages behind that cannot be told apart from none.
    failed: Option<Error>,
}

impl Measure {
    /// `total`: rows of the row group; `step`: the least bytes of rows that are asked for.
    pub(super) fn new(chunk: &ColumnChunk, rows: Rows, total: u64, step: u64) -> Measure {
        let headers = chunk.pages();
        Measure {
            rows,
            total,
            step,
            headers,
            dictionary: None,
            segments: Vec::new(),
            tail: 0,
            done: false,
            failed: None,
        }
    }

    /// Where the dictionary is, as far as it was found.
    pub(super) fn dictionary(&self) -> Option<FoundPage> {
        self.dictionary
    }

    /// The rows from `row` on that take about `bytes` (one at least), none at or behind `most`.
    ///
    /// # Errors
    /// Corrupt pages; refused where a row takes more memory than there may be.
    pub(super) fn unit(&mut self, row: u64, most: u64, bytes: u64) -> Result<Unit> {
        self.measure(row, most, bytes)?;
        let first = self.segments.partition_point(|s| s.end() <= row);
        let lead = *self.segments.get(first).ok_or_else(|| self.few_rows())?;
        let limit = self.headers.chunk.limit;
        let bytes = bytes.max(self.step).max(worth(lead.reach, limit));
        let (mut end, mut sum, mut page_bytes) = (row, 0u64, 0);
        for segment in &self.segments[first..] {
            if segment.coded != lead.coded
                || segment.first_row >= most
                || sum > 0 && sum.saturating_add(segment.bytes) > bytes
            {
                break;
            }
            sum = sum.saturating_add(segment.bytes);
            page_bytes = page_bytes.max(segment.page_bytes);
            end = segment.end().min(most);
        }
        let mut batch = end - row;
        if sum > bytes {
            limit.check("a row", lead.longest.saturating_add(page_bytes))?;
            batch = (bytes / lead.longest.max(1)).clamp(1, batch);
            sum = batch.saturating_mul(lead.longest);
        }
        let (start, reach) = (lead.start, lead.reach);
        let lead = lead.end().min(end).min(row + batch);
        Ok(Unit { start, end, batch, bytes: sum, page_bytes, reach, lead })
    }

    /// What rows that were measured take at most.
    pub(super) fn bytes_of(&self, rows: &Range<u64>) -> u64 {
        let first = self.segments.partition_point(|s| s.end() <= rows.start);
        let within = self.segments[first..].iter().take_while(|s| s.first_row < rows.end);
        let most = |s: &Segment| {
            let n = s.end().min(rows.end) - s.first_row.max(rows.start);
            s.bytes.min(n.saturating_mul(s.longest))
        };
        within.fold(0, |sum, s| sum.saturating_add(most(s)))
    }

    fn few_rows(&self) -> Error {
        Error::corrupt(format!("a row group of {} rows has {}", self.total, self.end()))
    }

    fn end(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end)
    }

    /// Finds segments until they reach beyond `row` by some bytes, or to `most`. An error stays:
    /// whoever asks again hears of it, too.
    fn measure(&mut self, row: u64, most: u64, bytes: u64) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.find(row, most, bytes).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn find(&mut self, row: u64, most: u64, bytes: u64) -> Result<()> {
        let mut ahead = self.bytes_from(row, bytes);
        let known = |m: &Measure, ahead: u64| m.end() > row && (m.end() >= most || ahead > bytes);
        if self.done || known(self, ahead) {
            return Ok(());
        }
        let mut lookup = Lookup::at(self.dictionary);
        let mut stride = 0u64;
        while !known(self, ahead) || stride < STRIDE_BYTES {
            let Some(found) = self.headers.next()? else {
                self.done = true;
                if self.end() != self.total {
                    return Err(self.few_rows());
                }
                break;
            };
            if found.header.kind == DICTIONARY {
                lookup.found(found)?;
                self.dictionary = lookup.place();
                continue;
            }
            let more = self.page(&found, &mut lookup)?;
            stride = stride.saturating_add(more);
            ahead = if self.end() > row { ahead.saturating_add(more) } else { 0 };
        }
        self.headers.window = Default::default();
        Ok(())
    }

    /// What was measured from `row` on takes; some of it, where that is more than `most`.
    fn bytes_from(&self, row: u64, most: u64) -> u64 {
        let first = self.segments.partition_point(|s| s.end() <= row);
        let mut sum = 0u64;
        for segment in &self.segments[first..] {
            sum = sum.saturating_add(segment.bytes);
            if sum > most {
                break;
            }
        }
        sum
    }

    /// Measures a page and adds it; what its rows take.
    fn page(&mut self, found: &FoundPage, lookup: &mut Lookup) -> Result<u64> {
        let header = &found.header;
        let (values, unpacked) = (found.values(), u64::try_from(header.uncompressed).unwrap_or(0));
        let coded = is_coded(header.encoding);
        let (mut memory, mut across) = (unpacked.saturating_add(found.size), None);
        if coded && matches!(self.rows, Rows::Codes(_)) {
            let dictionary = self.dictionary.map_or(0, |d| d.header.uncompressed);
            memory = memory.saturating_add(u64::try_from(dictionary).unwrap_or(0));
        }
        let one =
            |bytes: u64, longest: u64| vec![PageRows { rows: values, amount: bytes, longest }];
        let parts = match self.rows {
            Rows::Fixed(row) => one(values.saturating_mul(row), row),
            Rows::Codes(row) if coded => one(values.saturating_mul(row), row),
            Rows::Lists(item) | Rows::TextLists(item) => {
                let dictionary = if coded { lookup.unpack(&mut self.headers)? } else { None };
                // What a text takes on the average, or at most.
                let text = match (self.rows, dictionary) {
                    (Rows::TextLists(_), Some(d)) => d.longest(),
                    (Rows::TextLists(_), None) => unpacked / values.max(1) + 1,
                    _ => 0,
                };
                let item = item.saturating_add(text);
                let Headers { chunk, window, .. } = &mut self.headers;
                let cut = Cut { step: self.step / 2, item, beside: ROW_BYTES };
                let (_, content) = chunk.data(found, window, dictionary, Some(cut))?;
                let longest = self.tail.saturating_add(content.lead);
                self.tail = if content.rows > 0 { content.tail } else { longest };
                let whole = longest.saturating_mul(item).saturating_add(ROW_BYTES);
                across =
                    (!content.begins_row).then_some((content.lead.saturating_mul(item), whole));
                let bytes = |amount: u64, rows: u64| {
                    amount.saturating_mul(item).saturating_add(rows.saturating_mul(ROW_BYTES))
                };
                content
                    .parts
                    .iter()
                    .map(|p| PageRows {
                        amount: bytes(p.amount, p.rows),
                        longest: bytes(p.longest, 1),
                        ..*p
                    })
                    .collect()
            }
            Rows::Texts(_) | Rows::Codes(_) => {
                let beside = if let Rows::Texts(beside) = self.rows { beside } else { ROW_BYTES };
                let dictionary = if coded { lookup.unpack(&mut self.headers)? } else { None };
                memory = memory.saturating_add(dictionary.map_or(0, |d| d.memory()));
                let bound = dictionary.map_or(unpacked, |d| values.saturating_mul(d.longest()));
                let all = bound.saturating_add(values.saturating_mul(beside));
                let closely = match may_grow(header.encoding) {
                    true if coded => all > SMALL_BYTES.min(self.step),
                    true => true,
                    false => all > LARGE_BYTES.min(self.step),
                };
                let parts = if closely {
                    let Headers { chunk, window, .. } = &mut self.headers;
                    let cut = Cut { step: (self.step / 2).min(PART_BYTES), item: 1, beside };
                    chunk.data(found, window, dictionary, Some(cut))?.1.parts
                } else {
                    one(bound, bound)
                };
                let bytes =
                    |amount: u64, rows: u64| amount.saturating_add(rows.saturating_mul(beside));
                parts
                    .into_iter()
                    .map(|p| PageRows {
                        amount: bytes(p.amount, p.rows),
                        longest: bytes(p.longest, 1),
                        ..p
                    })
                    .collect()
            }
        };
        let coded = coded && matches!(self.rows, Rows::Codes(_));
        self.add(found, &parts, memory, coded, across)
    }

    /// Adds the parts of a page. `across`: what it has of a row that began before, and what that
    /// row takes in all.
    fn add(
        &mut self,
        found: &FoundPage,
        parts: &[PageRows],
        memory: u64,
        coded: bool,
        across: Option<(u64, u64)>,
    ) -> Result<u64> {
        let (mut first_row, mut sum) = (self.end(), 0u64);
        let mut start = Start { at: found.at, first_value: found.first_value, first_row };
        let mut reach = memory;
        if let Some((more, whole)) = across {
            let Some(last) = self.segments.last_mut() else {
                return Err(Error::corrupt("its first value is not the beginning of a row"));
            };
            last.longest = last.longest.max(whole);
            last.bytes = last.bytes.saturating_add(more);
            (last.page_bytes, last.reach) =
                (last.page_bytes.max(memory), last.reach.saturating_add(memory));
            sum = more;
            // A reader that begins with this page takes the rest of that row for a row, and skips
            // it. Pages of version 2 tell how many rows they have, which may be another number.
            match found.header.kind {
                DATA => start.first_row = first_row - 1,
                _ => (start, reach) = (last.start, last.reach),
            }
        }
        for part in parts {
            let segment = Segment {
                first_row,
                rows: part.rows,
                bytes: part.amount,
                longest: part.longest,
                start,
                page_bytes: memory,
                reach,
                pages: 1,
                coded,
            };
            first_row = first_row
                .checked_add(part.rows)
                .filter(|&end| end <= self.total)
                .ok_or_else(|| {
                    Error::corrupt(format!("a row group of {} rows has more than that", self.total))
                })?;
            sum = sum.saturating_add(part.amount);
            match self.segments.last_mut() {
                Some(last) if last.takes(&segment, self.step) => last.add(&segment),
                _ => self.segments.push(segment),
            }
        }
        Ok(sum)
    }
}
