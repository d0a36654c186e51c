//! One pass over a text table on all threads: types from every cell, values kept in an unnamed
//! temporary file.
//!
//! The file is cut into blocks of whole rows by whoever needs the next one (which costs a look for
//! quotes and for the last line end); blocks are parsed side by side. Memory: a block and its
//! values per thread, a few words per block and per column. The temporary file holds, per block:
//!
//! | part | bytes |
//! |---|---|
//! | per column its values | 8 × rows (complex 16, bool 1); text: 4 × (rows + 1) offsets, then the text |
//! | behind them, where a row is null, a mask | rows, 1 where there is a value |
//! | the block's directory: per column kind, nulls, place, text length | 24 × columns |

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::resources::Resources;
use crate::storage::{Blob, temporary};

use super::dialect::Dialect;
use super::parse::{self, Column, Fault, Mode};
use super::type_inference::{self, Classes, Type};

/// Bytes of a column on a thread, without its values.
const COLUMN_BYTES: usize = 2 * size_of::<Column>();

/// Bytes of a column's entry in a block's directory.
const ENTRY: usize = 24;

/// How a column of a block is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpooledType {
    /// Not at all: all rows are null, or the column was not wanted.
    Nothing,
    /// int64.
    Signed,
    /// uint64.
    Unsigned,
    /// float64.
    Float,
    /// Two float64.
    Complex,
    /// One byte.
    Bool,
    /// Offsets and bytes.
    Text,
}

/// Where a column of a block is kept.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How.
    pub stored: SpooledType,
    /// Whether there is a mask.
    pub nulls: bool,
    /// Offset in the temporary file.
    pub offset: u64,
    /// Length of the text in bytes.
    pub text_bytes: u64,
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[0] = self.stored as u8;
        bytes[1] = u8::from(self.nulls);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes
    }
    fn from_bytes(bytes: &[u8]) -> Entry {
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let stored = match bytes[0] {
            1 => SpooledType::Signed,
            2 => SpooledType::Unsigned,
            3 => SpooledType::Float,
            4 => SpooledType::Complex,
            5 => SpooledType::Bool,
            6 => SpooledType::Text,
            _ => SpooledType::Nothing,
        };
        Entry { stored, nulls: bytes[1] != 0, offset: word(8), text_bytes: word(16) }
    }
    /// Bytes of the values of this many rows, without the mask.
    pub fn value_bytes(&self, rows: u64) -> u64 {
        match self.stored {
            SpooledType::Nothing => 0,
            SpooledType::Signed | SpooledType::Unsigned | SpooledType::Float => 8 * rows,
            SpooledType::Complex => 16 * rows,
            SpooledType::Bool => rows,
            SpooledType::Text => 4 * (rows + 1) + self.text_bytes,
        }
    }
}

/// A block of whole rows.
#[derive(Clone, Debug)]
pub struct BlockInfo {
    /// Its number.
    pub index: usize,
    /// The first row.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Offset in the text.
    pub offset: u64,
    /// Length in the text.
    pub len: u64,
    /// Offset of its directory in the temporary file.
    pub directory: u64,
}

/// The values that were parsed.
pub struct Store {
    file: File,
    end: AtomicU64,
}

impl Store {
    fn new() -> Result<Store> {
        Ok(Store { file: temporary::file()?, end: AtomicU64::new(0) })
    }
    fn write(&self, bytes: &[u8]) -> Result<u64> {
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.write_at(bytes, at)?;
        Ok(at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(temporary::error)
    }
    /// Reads a range that was written.
    ///
    /// # Errors
    /// Reading errors.
    pub fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buf, at)
            .map_err(|e| Error::failed("the temporary file cannot be read").because(e))
    }
    /// Where a column of a block is kept.
    ///
    /// # Errors
    /// Reading errors.
    pub fn entry(&self, block: &BlockInfo, column: usize) -> Result<Entry> {
        let mut bytes = [0; ENTRY];
        self.read(block.directory + (ENTRY * column) as u64, &mut bytes)?;
        Ok(Entry::from_bytes(&bytes))
    }
}

/// What is to be scanned.
pub struct Request<'a> {
    /// The text.
    pub blob: &'a dyn Blob,
    /// Where its rows begin.
    pub start: u64,
    /// How to read it.
    pub dialect: &'a Dialect,
    /// One for each column, as [`Column::new`] made it.
    pub columns: Vec<Column>,
    /// Rows to read at most.
    pub max_rows: Option<u64>,
    /// Threads and memory.
    pub resources: &'a Resources,
}

/// What a scan found.
pub struct Scanned {
    /// The blocks, in order.
    pub blocks: Vec<BlockInfo>,
    /// All rows.
    pub rows: u64,
    /// Per column the classes of its cells.
    pub classes: Vec<Classes>,
    /// The values.
    pub store: Store,
}

/// Bytes of a block for this memory.
pub fn block_bytes(memory_bytes: u64, jobs: usize) -> usize {
    (memory_bytes / (16 * jobs.max(1) as u64)).clamp(32 << 10, 2 << 20) as usize
}

/// Bytes of a row at most.
pub fn row_bytes_max(memory_bytes: u64) -> usize {
    (memory_bytes / 8).clamp(1 << 20, 256 << 20) as usize
}

/// Cuts a text into blocks of whole rows.
pub struct Splitter<'a> {
    blob: &'a dyn Blob,
    dialect: &'a Dialect,
    /// The next byte to read.
    at: u64,
    /// Read already, but after the last cut.
    carry: Vec<u8>,
    index: usize,
    block_bytes: usize,
    most_bytes: usize,
}

impl<'a> Splitter<'a> {
    /// From `start` on.
    pub fn new(
        blob: &'a dyn Blob,
        dialect: &'a Dialect,
        start: u64,
        block_bytes: usize,
        most_bytes: usize,
    ) -> Splitter<'a> {
        Splitter { blob, dialect, at: start, carry: Vec::new(), index: 0, block_bytes, most_bytes }
    }

    /// The next block: its number and offset; `None` at the end.
    ///
    /// # Errors
    /// Reading errors; corrupt where a row is too long.
    pub fn next(&mut self, block: &mut Vec<u8>) -> Result<Option<(usize, u64)>> {
        self.next_of_any_size(block, &mut |_| ())
    }

    /// As [`Splitter::next`]; calls `enlarge` before the block takes more than twice the usual
    /// room: it may put another buffer in its place.
    fn next_of_any_size(
        &mut self,
        block: &mut Vec<u8>,
        enlarge: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<Option<(usize, u64)>> {
        block.clear();
        if self.carry.len() > 2 * self.block_bytes {
            enlarge(block);
        }
        block.append(&mut self.carry);
        let offset = self.at - block.len() as u64;
        let mut want = self.block_bytes;
        loop {
            let left = self.blob.len().saturating_sub(self.at);
            let more = (want.saturating_sub(block.len()) as u64).min(left) as usize;
            let have = block.len();
            block.resize(have + more, 0);
            self.blob.read_at(self.at, &mut block[have..])?;
            self.at += more as u64;
            if block.is_empty() {
                return Ok(None);
            }
            let cut = if self.at >= self.blob.len() {
                block.len()
            } else {
                self.dialect.last_row_end(block)
            };
            if cut > 0 {
                self.carry.extend_from_slice(&block[cut..]);
                block.truncate(cut);
                self.index += 1;
                return Ok(Some((self.index - 1, offset)));
            }
            if want >= self.most_bytes {
                let mib = self.most_bytes >> 20;
                let error = Error::refused(format!(
                    "the row that begins at byte {offset} has no end within {mib} MiB"
                ));
                return Err(error.hint("a quote may be missing; rows may take an eighth of --memory-limit, and 256 MiB at most"));
            }
            want = (want * 2).min(self.most_bytes);
            if want > 2 * self.block_bytes {
                enlarge(block);
            }
        }
    }
}

/// Shared by the threads of a scan.
struct Work<'a> {
    request: &'a Request<'a>,
    splitter: Mutex<Splitter<'a>>,
    known: Vec<AtomicU16>,
    blocks: Mutex<Vec<BlockInfo>>,
    store: Store,
    /// For blocks of unusual size, one at a time: a row can be as large as many blocks, and its
    /// values once more. Whoever holds it does not wait for the splitter.
    large: Mutex<Buffers>,
    stop: AtomicBool,
    fault: Mutex<Option<(u64, Error)>>,
}

/// What a block is parsed with.
struct Buffers {
    block: Vec<u8>,
    columns: Vec<Column>,
    /// The values as they are kept.
    out: Vec<u8>,
}

impl Buffers {
    fn new(columns: &[Column]) -> Buffers {
        Buffers { block: Vec::new(), columns: columns.to_vec(), out: Vec::new() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Parses every cell.
///
/// # Errors
/// Reading and writing errors; rows or cells that cannot be taken, with their line.
pub fn scan(request: &Request<'_>) -> Result<Scanned> {
    let bytes = request.blob.len().saturating_sub(request.start);
    let resources = request.resources;
    let memory_bytes = resources.memory_bytes();
    let block = block_bytes(memory_bytes, resources.jobs());
    let splitter = Splitter::new(
        request.blob,
        request.dialect,
        request.start,
        block,
        row_bytes_max(memory_bytes),
    );
    let work = Work {
        request,
        splitter: Mutex::new(splitter),
        known: request.columns.iter().map(|_| AtomicU16::new(0)).collect(),
        blocks: Mutex::new(Vec::new()),
        store: Store::new()?,
        large: Mutex::new(Buffers::new(&request.columns)),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
    };
    // What the columns themselves take, on each thread, stays within a quarter of the memory.
    let column_bytes = (COLUMN_BYTES * request.columns.len().max(1)) as u64;
    let most = (bytes / block as u64 + 1).min(memory_bytes / 4 / column_bytes).max(1);
    let most = if request.max_rows.is_some() { 1 } else { most as usize };
    // A block, its cells and its values: tables that are scanned at the same time share the budget.
    let (threads, _held) = resources.room_for(most, 4 * block as u64 + column_bytes);
    on_threads(threads, &|| {
        if let Err((at, error)) = work.parse_blocks() {
            work.fail(at, error);
        }
    });
    work.failed()?;
    let mut blocks = std::mem::take(&mut *lock(&work.blocks));
    blocks.sort_by_key(|b| b.index);
    let mut rows = 0;
    for block in &mut blocks {
        block.first_row = rows;
        rows += block.rows;
    }
    let classes = work.classes();
    let refuted: Vec<bool> =
        classes.iter().map(|&c| type_inference::resolve(c) == Type::Text).collect();
    if refuted.contains(&true) {
        let next = AtomicUsize::new(0);
        on_threads(threads, &|| {
            if let Err((at, error)) = work.parse_again(&blocks, &next, &refuted) {
                work.fail(at, error);
            }
        });
        work.failed()?;
    }
    let classes = work.classes();
    Ok(Scanned { blocks, rows, classes, store: work.store })
}

fn on_threads(threads: usize, work: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread the work is done by those there are.
            let _ = std::thread::Builder::new().name("npk-text".into()).spawn_scoped(scope, work);
        }
        work();
    });
}

impl Work<'_> {
    fn usual_block_bytes(&self) -> usize {
        let resources = self.request.resources;
        block_bytes(resources.memory_bytes(), resources.jobs())
    }

    fn classes(&self) -> Vec<Classes> {
        self.known.iter().map(|c| c.load(Ordering::Relaxed)).collect()
    }

    fn fail(&self, at: u64, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        let mut fault = lock(&self.fault);
        if fault.as_ref().is_none_or(|(first, _)| at < *first) {
            *fault = Some((at, error));
        }
    }

    fn failed(&self) -> Result<()> {
        match lock(&self.fault).take() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    fn place(&self, offset: u64, fault: Fault) -> (u64, Error) {
        let at = offset + fault.at as u64;
        (at, at_line(self.request.blob, at, fault.error))
    }

    fn parse_blocks(&self) -> Result<(), (u64, Error)> {
        let mut own = Buffers::new(&self.request.columns);
        let mut left = self.request.max_rows.unwrap_or(u64::MAX);
        while !self.stop.load(Ordering::Relaxed) && left > 0 {
            self.request.resources.check().map_err(|e| (0, e))?;
            let mut large: Option<MutexGuard<'_, Buffers>> = None;
            let next = {
                let mut splitter = lock(&self.splitter);
                let at = splitter.at;
                let enlarge = &mut |block: &mut Vec<u8>| {
                    if large.is_none() {
                        let mut shared = lock(&self.large);
                        shared.block.clear();
                        shared.block.extend_from_slice(block);
                        std::mem::swap(block, &mut shared.block);
                        large = Some(shared);
                    }
                };
                splitter.next_of_any_size(&mut own.block, enlarge).map_err(|e| (at, e))?
            };
            let Some((index, offset)) = next else { break };
            self.request.resources.looked(own.block.len() as u64);
            let Buffers { block, columns, out } = match &mut large {
                Some(shared) => {
                    std::mem::swap(&mut own.block, &mut shared.block);
                    &mut **shared
                }
                None => &mut own,
            };
            for (column, known) in columns.iter_mut().zip(&self.known) {
                column.begin(known.load(Ordering::Relaxed));
            }
            let rows = parse::parse(self.request.dialect, block, columns, left)
                .map_err(|f| self.place(offset, f))?;
            left -= rows;
            for (column, known) in columns.iter().zip(&self.known) {
                if known.load(Ordering::Relaxed) | column.classes != known.load(Ordering::Relaxed) {
                    known.fetch_or(column.classes, Ordering::Relaxed);
                }
            }
            if rows > 0 {
                let directory = self.keep(columns, rows, out, None).map_err(|e| (offset, e))?;
                lock(&self.blocks).push(BlockInfo {
                    index,
                    first_row: 0,
                    rows,
                    offset,
                    len: block.len() as u64,
                    directory,
                });
            }
        }
        Ok(())
    }

    /// Writes a block's columns; `old` is its directory so far, where only some are written anew.
    fn keep(
        &self,
        columns: &[Column],
        rows: u64,
        out: &mut Vec<u8>,
        old: Option<(&BlockInfo, &[u8])>,
    ) -> Result<u64> {
        out.clear();
        let mut entries: Vec<Entry> = Vec::with_capacity(columns.len());
        let mut starts = Vec::with_capacity(columns.len());
        let mut flushed: Vec<(usize, u64)> = Vec::new();
        for column in columns {
            if out.len() > 4 << 20 {
                flushed.push((entries.len(), self.store.write(out)?));
                out.clear();
            }
            let start = out.len() as u64;
            let stored = append(column, rows, out);
            let nulls = !column.nulls.is_empty() && stored != SpooledType::Nothing;
            if nulls {
                let mask = out.len();
                out.resize(mask + rows as usize, 1);
                for &row in &column.nulls {
                    out[mask + row as usize] = 0;
                }
            }
            starts.push(start);
            entries.push(Entry { stored, nulls, offset: 0, text_bytes: column.text.len() as u64 });
            while !out.len().is_multiple_of(8) {
                out.push(0);
            }
        }
        // The directory follows the last columns; their places are known once it is decided where
        // they go.
        let tail = out.len();
        let first = flushed.last().map_or(0, |&(n, _)| n);
        out.resize(tail + if old.is_none() { ENTRY * columns.len() } else { 0 }, 0);
        let base = self.store.end.fetch_add(out.len() as u64, Ordering::Relaxed);
        let mut from = 0;
        for &(until, at) in &flushed {
            for i in from..until {
                entries[i].offset = at + starts[i];
            }
            from = until;
        }
        for i in first..entries.len() {
            entries[i].offset = base + starts[i];
        }
        if let Some((block, directory)) = old {
            self.store.write_at(out, base)?;
            let mut directory = directory.to_vec();
            for (i, (entry, column)) in entries.iter().zip(columns).enumerate() {
                if column.mode == Mode::Text {
                    directory[ENTRY * i..ENTRY * (i + 1)].copy_from_slice(&entry.to_bytes());
                }
            }
            self.store.write_at(&directory, block.directory)?;
            return Ok(block.directory);
        }
        for (i, entry) in entries.iter().enumerate() {
            out[tail + ENTRY * i..tail + ENTRY * (i + 1)].copy_from_slice(&entry.to_bytes());
        }
        self.store.write_at(out, base)?;
        Ok(base + tail as u64)
    }

    /// Columns that proved to be text are parsed again in the blocks that took them for something
    /// else.
    fn parse_again(
        &self,
        blocks: &[BlockInfo],
        next: &AtomicUsize,
        refuted: &[bool],
    ) -> Result<(), (u64, Error)> {
        let mut own = Buffers::new(&self.request.columns);
        let mut directory = vec![0; ENTRY * self.request.columns.len()];
        while !self.stop.load(Ordering::Relaxed) {
            let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let here = |e: Error| (block.offset, e);
            self.store.read(block.directory, &mut directory).map_err(here)?;
            let is_large = block.len as usize > 2 * self.usual_block_bytes();
            let mut large = is_large.then(|| lock(&self.large));
            let Buffers { block: text, columns, out } = large.as_deref_mut().unwrap_or(&mut own);
            let mut again = false;
            for (i, column) in columns.iter_mut().enumerate() {
                let wanted = self.request.columns[i].mode != Mode::Skip;
                let entry = Entry::from_bytes(&directory[ENTRY * i..ENTRY * (i + 1)]);
                column.begin(0);
                column.mode = if wanted && refuted[i] && entry.stored != SpooledType::Text {
                    Mode::Text
                } else {
                    Mode::Skip
                };
                again |= column.mode == Mode::Text;
            }
            if !again {
                continue;
            }
            text.resize(block.len as usize, 0);
            self.request.blob.read_at(block.offset, text).map_err(here)?;
            let rows = parse::parse(self.request.dialect, text, columns, block.rows)
                .map_err(|f| self.place(block.offset, f))?;
            if rows != block.rows {
                return Err(here(Error::corrupt("the file changed while it was read")));
            }
            for (column, known) in columns.iter().zip(&self.known) {
                known.fetch_or(column.classes, Ordering::Relaxed);
            }
            self.keep(columns, rows, out, Some((block, &directory))).map_err(here)?;
        }
        Ok(())
    }
}

/// Appends a column's values as they are kept.
fn append(column: &Column, rows: u64, out: &mut Vec<u8>) -> SpooledType {
    match column.mode {
        Mode::Skip | Mode::Start | Mode::Retry => SpooledType::Nothing,
        Mode::Bool => {
            out.extend(column.values.iter().map(|&v| v as u8));
            SpooledType::Bool
        }
        Mode::Text => {
            out.reserve(4 * (rows as usize + 1) + column.text.len());
            out.extend([0; 4]);
            out.extend_from_slice(bytemuck::cast_slice(&column.ends));
            out.extend_from_slice(&column.text);
            SpooledType::Text
        }
        mode => {
            out.extend_from_slice(bytemuck::cast_slice(&column.values));
            match mode {
                Mode::Float => SpooledType::Float,
                Mode::Complex => SpooledType::Complex,
                _ if column.classes & type_inference::UNSIGNED != 0 => SpooledType::Unsigned,
                _ => SpooledType::Signed,
            }
        }
    }
}

/// Adds the line of a byte to an error.
pub fn at_line(blob: &dyn Blob, at: u64, error: Error) -> Error {
    let line = line_of(blob, at);
    let message = match line {
        Ok(line) => format!("line {line}: {}", error.message()),
        Err(_) => format!("byte {at}: {}", error.message()),
    };
    let new = Error::new(error.kind(), message);
    match error.hint_text() {
        Some(hint) => new.hint(hint),
        None => new,
    }
}

fn line_of(blob: &dyn Blob, at: u64) -> Result<u64> {
    let (mut lines, mut from) = (LineEnds::default(), 0);
    let mut buffer = vec![0; 1 << 18];
    while from < at {
        let n = (at - from).min(buffer.len() as u64) as usize;
        blob.read_at(from, &mut buffer[..n])?;
        lines.count(&buffer[..n], u64::MAX);
        from += n as u64;
    }
    Ok(1 + lines.ended)
}

/// Where the text goes on after `lines` lines from `start` on.
///
/// # Errors
/// Reading errors.
pub fn skip_lines(blob: &dyn Blob, start: u64, lines: u64) -> Result<u64> {
    let (mut ends, mut at) = (LineEnds::default(), start.min(blob.len()));
    let mut buffer = vec![0; 1 << 16];
    while ends.ended < lines && at < blob.len() {
        let n = (blob.len() - at).min(buffer.len() as u64) as usize;
        blob.read_at(at, &mut buffer[..n])?;
        at += ends.count(&buffer[..n], lines) as u64;
    }
    // The second half of the last line end.
    let mut next = [0];
    if ends.half && at < blob.len() {
        blob.read_at(at, &mut next)?;
    }
    Ok(at + u64::from(next == *b"\n"))
}

/// Counts line ends of all kinds: `\n`, `\r\n`, `\r`.
#[derive(Default)]
struct LineEnds {
    ended: u64,
    /// Whether the last byte was a `\r`: a `\n` after it is the same line end.
    half: bool,
}

impl LineEnds {
    /// Counts until there are `most`; returns the bytes that it took.
    fn count(&mut self, bytes: &[u8], most: u64) -> usize {
        let mut last = None;
        for at in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            if self.ended == most {
                break;
            }
            let joined =
                bytes[at] == b'\n' && if at == 0 { self.half } else { bytes[at - 1] == b'\r' };
            self.ended += u64::from(!joined);
            last = Some(at);
        }
        let used = if self.ended == most { last.map_or(0, |at| at + 1) } else { bytes.len() };
        if used > 0 {
            self.half = bytes[used - 1] == b'\r';
        }
        used
    }
}

/// The blocks that hold these rows, each with the rows wanted, counted from the block's first.
pub fn blocks_of(
    blocks: &[BlockInfo],
    rows: Range<u64>,
) -> impl Iterator<Item = (&BlockInfo, Range<u64>)> {
    let first = blocks.partition_point(|b| b.first_row + b.rows <= rows.start);
    blocks[first..].iter().take_while(move |b| b.first_row < rows.end).map(move |b| {
        let start = rows.start.max(b.first_row) - b.first_row;
        let stop = rows.end.min(b.first_row + b.rows) - b.first_row;
        (b, start..stop)
    })
}
