//! One pass over a text table on all threads: types from every cell, values kept in an unnamed
//! temporary file.
//!
//! The file is cut into blocks of whole rows by whoever needs the next one (which costs a look for
//! quotes and for the last line end); blocks are parsed side by side. Memory: a block and its
//! values per thread, a few words per block and per column.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, Result, locked};
use crate::resources::Resources;
use crate::storage::Blob;

use super::dialect::Dialect;
use super::lines;
use super::parse::{self, Column, Fault, Mode};
use super::spooled::{BlockInfo, ENTRY, Entry, SpooledType, Store, append};
use super::type_inference::{self, Classes, Type};

/// Bytes of a column on a thread, without its values.
const COLUMN_BYTES: usize = 2 * size_of::<Column>();

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
        known: request.columns.iter().map(|c| AtomicU16::new(known(c))).collect(),
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
    let mut blocks = std::mem::take(&mut *locked(&work.blocks));
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

/// The classes of a column before any cell was seen.
fn known(column: &Column) -> Classes {
    if column.text_only { type_inference::TEXT } else { 0 }
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
        let mut fault = locked(&self.fault);
        if fault.as_ref().is_none_or(|(first, _)| at < *first) {
            *fault = Some((at, error));
        }
    }

    fn failed(&self) -> Result<()> {
        match locked(&self.fault).take() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    fn place(&self, offset: u64, fault: Fault) -> (u64, Error) {
        let at = offset + fault.at as u64;
        (at, lines::at_line(self.request.blob, at, fault.error))
    }

    fn parse_blocks(&self) -> Result<(), (u64, Error)> {
        let mut own = Buffers::new(&self.request.columns);
        let mut left = self.request.max_rows.unwrap_or(u64::MAX);
        while !self.stop.load(Ordering::Relaxed) && left > 0 {
            self.request.resources.check().map_err(|e| (0, e))?;
            let mut large: Option<MutexGuard<'_, Buffers>> = None;
            let next = {
                let mut splitter = locked(&self.splitter);
                let at = splitter.at;
                let enlarge = &mut |block: &mut Vec<u8>| {
                    if large.is_none() {
                        let mut shared = locked(&self.large);
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
                locked(&self.blocks).push(BlockInfo {
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
        let base = self.store.reserve(out.len() as u64);
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
            let mut large = is_large.then(|| locked(&self.large));
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
