//! Text as integer codes into its distinct values, in order of appearance. Text of more than one
//! dimension comes to the model so: [`coded`] makes it of what a format's reader gives.
//!
//! The values are found in a pass of its own where the source has random access; then they are
//! whole before the first row is delivered, and rows are coded on any thread. Of a source that is
//! read in order they grow while it is read.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::SLACK_BYTES;
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Job, Order, ReadPieces, ReadRows, Reader, Source, StoredArray};
use crate::model::{ArrayMeta, Buf, Categories, CategoryKind, Chunk, Dtype, Logical, Plan, Values};

/// The most distinct values of an array.
pub const MAX_CATEGORIES: usize = 1_000_000;
/// The most bytes of them.
pub const MAX_CATEGORY_BYTES: usize = 64 << 20;
/// Rows are read and coded so many bytes at a time.
const STEP_BYTES: u64 = 4 << 20;

/// Refuses distinct texts that are more than the memory limit.
///
/// # Errors
/// Refused, with both numbers and the hint.
pub fn check_distinct(bytes: u64, memory_bytes: u64, hint: &str) -> Result<()> {
    if bytes <= memory_bytes.saturating_add(SLACK_BYTES) {
        return Ok(());
    }
    let what = "its distinct texts and what is made of them take";
    Err(Error::refused(format!(
        "{what} {bytes} bytes of memory and more, the memory limit is {memory_bytes} bytes"
    ))
    .hint(hint))
}

/// Gives codes to text. The categories hold the text; beside them only hashes are kept.
pub struct Coder {
    categories: Arc<Categories>,
    /// Hash of a text → its code; the next hash where another text has taken it.
    codes: HashMap<u64, i32>,
    hasher: RandomState,
    bytes: usize,
}

impl Coder {
    /// A coder that adds to these categories, which are empty.
    pub fn new(categories: Arc<Categories>) -> Coder {
        Coder { categories, codes: HashMap::new(), hasher: RandomState::new(), bytes: 0 }
    }

    /// About what the categories hold, twice the texts (they are written at the end) and what is
    /// beside each.
    pub fn held_bytes(&self) -> u64 {
        2 * self.bytes as u64 + 96 * self.codes.len() as u64
    }

    /// The code of a known text, else where its code belongs.
    fn find(&self, text: &[u8], items: &[Vec<u8>]) -> std::result::Result<i32, u64> {
        let mut hash = self.hasher.hash_one(text);
        while let Some(&code) = self.codes.get(&hash) {
            if items.get(code as usize).is_some_and(|item| item == text) {
                return Ok(code);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    /// The code of a text, which becomes a category where it is none yet.
    ///
    /// # Errors
    /// Refused where there are too many.
    pub fn code(&mut self, text: &[u8]) -> Result<i32> {
        let hash = match self.categories.with(|items| self.find(text, items)) {
            Ok(code) => return Ok(code),
            Err(hash) => hash,
        };
        self.bytes += text.len();
        if self.codes.len() >= MAX_CATEGORIES || self.bytes > MAX_CATEGORY_BYTES {
            return Err(Error::refused(format!(
                "it has more than {MAX_CATEGORIES} distinct texts, or more than {} MiB of them",
                MAX_CATEGORY_BYTES >> 20
            )));
        }
        let code = self.categories.push(text.to_vec()) as i32;
        self.codes.insert(hash, code);
        Ok(code)
    }

    /// The codes of known texts.
    fn known<'a>(&self, texts: impl Iterator<Item = &'a [u8]>) -> Result<Vec<i32>> {
        let changed = || {
            Error::corrupt(
                "a text was not there when the file was opened: the file changed while it was read",
            )
        };
        self.categories
            .with(|items| texts.map(|text| self.find(text, items).map_err(|_| changed())).collect())
    }
}

/// The items of a chunk of text, however many a row has.
fn items(chunk: &Chunk) -> Result<impl Iterator<Item = &[u8]>> {
    match &chunk.values {
        Values::Var { offsets, values } => {
            Ok(offsets.windows(2).map(|w| &values[w[0] as usize..w[1] as usize]))
        }
        Values::Fixed(_) | Values::Nested(_) => {
            Err(Error::internal("numbers where text was announced"))
        }
    }
}

/// A source whose text of more than one dimension (announced with inner dimensions, and `rows ×
/// inner` items a chunk) becomes codes of the same shape; distinct texts of more than the memory
/// limit are refused. Other arrays pass.
pub fn coded(source: Box<dyn Source>, memory_bytes: u64) -> Box<dyn Source> {
    let is_coded = |m: &ArrayMeta| {
        matches!(m.logical, Logical::Text | Logical::Binary)
            && !m.inner.is_empty()
            && m.details.error.is_none()
    };
    if !source.plan().arrays.iter().any(is_coded) {
        return source;
    }
    let mut plan = source.plan().clone();
    let mut arrays = Vec::with_capacity(plan.arrays.len());
    for meta in &mut plan.arrays {
        if !is_coded(meta) {
            arrays.push(None);
            continue;
        }
        let kind = if matches!(meta.logical, Logical::Text) {
            CategoryKind::Text
        } else {
            CategoryKind::Binary
        };
        let categories = Categories::new(kind, Vec::new());
        arrays.push(Some(Array {
            name: meta.name.clone(),
            coder: RwLock::new(Coder::new(categories.clone())),
        }));
        meta.logical = Logical::Dictionary { categories, ordered: false };
        meta.dtype = Dtype::I32;
        if let Err(error) = meta.bytes() {
            meta.details.error = Some(Arc::new(error));
        }
    }
    Box::new(Coded { inner: source, plan, arrays: Arc::new(Arrays { arrays, memory_bytes }) })
}

/// The coded arrays, by their numbers.
struct Arrays {
    arrays: Vec<Option<Array>>,
    memory_bytes: u64,
}

impl std::ops::Index<usize> for Arrays {
    type Output = Option<Array>;
    fn index(&self, array: usize) -> &Option<Array> {
        &self.arrays[array]
    }
}

impl Arrays {
    /// What the texts of all arrays but this one take.
    fn held_beside(&self, array: usize) -> u64 {
        let others = self.arrays.iter().enumerate().filter(|(i, _)| *i != array);
        others.filter_map(|(_, a)| a.as_ref()).map(|a| a.coder().held_bytes()).sum()
    }

    fn check(&self, bytes: u64) -> Result<()> {
        check_distinct(bytes, self.memory_bytes, "give a larger --memory-limit")
    }
}

struct Array {
    name: String,
    coder: RwLock<Coder>,
}

impl Array {
    fn coder(&self) -> RwLockReadGuard<'_, Coder> {
        self.coder.read().unwrap_or_else(|e| e.into_inner())
    }
    fn coder_mut(&self) -> RwLockWriteGuard<'_, Coder> {
        self.coder.write().unwrap_or_else(|e| e.into_inner())
    }
    fn chunk(&self, chunk: &Chunk, codes: Vec<i32>) -> Chunk {
        Chunk { values: Values::Fixed(Buf::from_vec(codes)), ..chunk.clone() }
    }
}

struct Coded {
    inner: Box<dyn Source>,
    plan: Plan,
    arrays: Arc<Arrays>,
}

/// Gives codes to text that comes in order.
struct CodedPieces {
    inner: Box<dyn ReadPieces>,
    arrays: Arc<Arrays>,
    /// The coded arrays among those that are read.
    wanted: Vec<usize>,
}

impl Source for Coded {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let wanted: Vec<usize> =
            arrays.iter().copied().filter(|&a| self.arrays[a].is_some()).collect();
        let reader = match self.inner.select(arrays, wish)? {
            Reader::Random(reader) => reader,
            Reader::InOrder(inner) => {
                let arrays = self.arrays.clone();
                return Ok(Reader::InOrder(Box::new(CodedPieces { inner, arrays, wanted })));
            }
        };
        for a in wanted {
            let Some(array) = &self.arrays[a] else { continue };
            let beside = self.arrays.held_beside(a);
            let mut coder = array.coder_mut();
            if coder.categories.is_whole() {
                continue;
            }
            // Rows without elements take no time, however many there are.
            let meta = &self.plan.arrays[a];
            let rows = if meta.row_bytes()? == 0 { 0 } else { meta.rows.unwrap_or(0) };
            each_step(reader.as_ref(), a, 0..rows, &mut |chunk| {
                items(&chunk)?.try_for_each(|text| coder.code(text).map(|_| ()))?;
                self.arrays.check(beside.saturating_add(coder.held_bytes()))
            })
            .map_err(|e| e.array(&array.name))?;
            coder.categories.finish();
        }
        let row_bytes =
            self.plan.arrays.iter().map(|m| m.row_bytes().unwrap_or(u64::MAX)).collect();
        Ok(Reader::Random(Arc::new(CodedRows { reader, arrays: self.arrays.clone(), row_bytes })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        self.inner.stored(array)
    }
}

impl ReadPieces for CodedPieces {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let Some(job) = self.inner.next(max_bytes)? else {
            for &a in &self.wanted {
                if let Some(array) = &self.arrays[a] {
                    array.coder().categories.finish();
                }
            }
            return Ok(None);
        };
        if self.wanted.is_empty() {
            return Ok(Some(job));
        }
        // Codes are given in order: here, not on the threads.
        let (bytes, mut chunks) = (job.bytes(), Vec::new());
        job.run(&mut |chunk| {
            chunks.push(match &self.arrays[chunk.array] {
                None => chunk,
                Some(array) => {
                    let beside = self.arrays.held_beside(chunk.array);
                    let mut coder = array.coder_mut();
                    let codes = items(&chunk)?
                        .map(|text| coder.code(text))
                        .collect::<Result<Vec<i32>>>()
                        .at_array(&array.name)?;
                    let held = beside.saturating_add(coder.held_bytes());
                    self.arrays.check(held).at_array(&array.name)?;
                    array.chunk(&chunk, codes)
                }
            });
            Ok(())
        })?;
        Ok(Some(Box::new(Decoded { bytes, chunks })))
    }

    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.arrays[array].is_some() { None } else { self.inner.extents(array) }
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

/// A piece that was decoded already.
struct Decoded {
    bytes: u64,
    chunks: Vec<Chunk>,
}

impl Job for Decoded {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        self.chunks.into_iter().try_for_each(emit)
    }
}

struct CodedRows {
    reader: Arc<dyn ReadRows>,
    arrays: Arc<Arrays>,
    row_bytes: Vec<u64>,
}

impl ReadRows for CodedRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.arrays[array].is_some() { None } else { self.reader.extents(array) }
    }
    fn close(&self) -> Result<()> {
        self.reader.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.reader.next_boundary(array, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let whole = self.reader.cost(array, rows.clone());
        if self.arrays[array].is_none() {
            return whole;
        }
        // The codes, and what one step reads.
        let codes = (rows.end - rows.start).saturating_mul(self.row_bytes[array]);
        let step = step_end(self.reader.as_ref(), array, &rows);
        Some(codes.saturating_add(self.reader.cost(array, rows.start..step).unwrap_or(STEP_BYTES)))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<crate::format::Piece> {
        if self.arrays[array].is_some() { None } else { self.reader.piece(array, row, bytes) }
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let Some(of) = &self.arrays[array] else { return self.reader.read(array, rows, emit) };
        if self.row_bytes[array] == 0 {
            return emit(Chunk::fixed(array, rows.start, rows.end - rows.start, Vec::<u8>::new()));
        }
        each_step(self.reader.as_ref(), array, rows, &mut |chunk| {
            let codes = of.coder().known(items(&chunk)?)?;
            emit(of.chunk(&chunk, codes))
        })
    }
}

/// Reads rows step by step: the text of all of them may be much more than their codes.
fn each_step(reader: &dyn ReadRows, array: usize, rows: Range<u64>, each: Emit<'_>) -> Result<()> {
    let mut first = rows.start;
    while first < rows.end {
        let end = step_end(reader, array, &(first..rows.end));
        reader.read(array, first..end, each)?;
        first = end;
    }
    Ok(())
}

/// Where a step that begins with these rows ends: at the reader's cuts, as long as it is not too
/// large.
fn step_end(reader: &dyn ReadRows, array: usize, rows: &Range<u64>) -> u64 {
    let cost = |end: u64| reader.cost(array, rows.start..end).unwrap_or(0);
    let cut = reader.next_boundary(array, rows.start);
    if cut == u64::MAX {
        let count = rows.end - rows.start;
        let row = cost(rows.end).div_ceil(count.max(1)).max(1);
        return rows.start.saturating_add((STEP_BYTES / row).max(1)).min(rows.end);
    }
    let mut end = cut.clamp(rows.start + 1, rows.end);
    while end < rows.end {
        let next = reader.next_boundary(array, end).clamp(end + 1, rows.end);
        if cost(next) > STEP_BYTES {
            break;
        }
        end = next;
    }
    end
}
