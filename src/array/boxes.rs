//! Arrays that are put together from boxes of elements, each a mapped array of its own: the shards
//! of a distributed checkpoint.
//!
//! | the boxes | how rows are read |
//! |---|---|
//! | as wide as the array | straight, box after box; the kernel can copy them |
//! | narrower | the rows of each box that lie in the wanted ones, copied to their places |
//! | runs of the elements in C order, cut anywhere ([`Boxes::flat`]) | as boxes of one dimension |
//!
//! Boxes are opened when they are first read: [`Parts`].

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::block_copy::{self, Block};
use super::more_memory;
use super::reader::MapReader;
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Order, ReadRows, Reader, Source, readable};
use crate::model::{Buf, Chunk, Plan, Values, checked_product};

/// Rows of a narrow box are read so many bytes at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Boxes that are smaller than this are read rather than copied by the kernel, where they are many.
const LEAST_COPIED_BYTES: u64 = 256 << 10;
const MANY_BOXES: usize = 64;
/// Comparisons of boxes that lie in no grid.
const MAX_COMPARED: u64 = 1 << 26;

/// One box: where it begins in the array, its shape, and its number for [`Parts::open`].
#[derive(Clone, Debug)]
pub struct Part {
    /// Its first element.
    pub origin: Vec<u64>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What [`Parts::open`] calls it.
    pub number: usize,
}

impl Part {
    fn rows(&self) -> Range<u64> {
        match (self.origin.first(), self.shape.first()) {
            (Some(&first), Some(&count)) => first..first + count,
            _ => 0..1,
        }
    }
    fn end(&self, d: usize) -> u64 {
        self.origin[d].saturating_add(self.shape[d])
    }
}

/// An array in boxes, which lie side by side without gaps.
#[derive(Clone, Debug)]
pub struct Boxes {
    /// The shape that the boxes are in: the array's, or one dimension of all its elements.
    grid: Vec<u64>,
    /// Elements of a row of the array, for boxes of one dimension.
    flat: Option<u64>,
    /// Bytes of an element.
    item: u64,
    /// In the order of their first row.
    parts: Vec<Part>,
    /// The furthest row that this box or one before it reaches.
    reach: Vec<u64>,
    /// Boxes are as wide as the array: one after the other they are its bytes.
    straight: bool,
}

impl Boxes {
    /// Boxes of an array of this shape.
    ///
    /// # Errors
    /// Corrupt: a box that reaches beyond the array, boxes that overlap, a part that none covers.
    pub fn new(shape: &[u64], item: u64, parts: Vec<Part>) -> Result<Boxes> {
        let inside = |part: &Part| {
            part.origin.len() == shape.len()
                && part.shape.len() == shape.len()
                && (0..shape.len()).all(|d| {
                    part.origin[d].checked_add(part.shape[d]).is_some_and(|end| end <= shape[d])
                })
        };
        if let Some(part) = parts.iter().find(|part| !inside(part)) {
            return Err(Error::corrupt(format!(
                "a chunk of shape {:?} at {:?} is not within its shape {shape:?}",
                part.shape, part.origin
            )));
        }
        let mut parts = parts;
        parts.retain(|part| !part.shape.contains(&0));
        if shape.contains(&0) {
            parts.clear();
        }
        parts.sort_by(|a, b| a.origin.cmp(&b.origin));
        check_tiling(shape, &parts)?;
        let straight = parts.iter().all(|part| part.shape.get(1..) == shape.get(1..));
        let reach = parts.iter().scan(0, |most, part| {
            *most = part.rows().end.max(*most);
            Some(*most)
        });
        let reach = reach.collect();
        Ok(Boxes { grid: shape.to_vec(), flat: None, item, parts, reach, straight })
    }

    /// One box that is the whole array, of any elements.
    pub fn whole(shape: &[u64], number: usize) -> Boxes {
        let part = Part { origin: vec![0; shape.len()], shape: shape.to_vec(), number };
        let reach = vec![part.rows().end];
        Boxes {
            grid: shape.to_vec(),
            flat: None,
            item: 0,
            parts: vec![part],
            reach,
            straight: true,
        }
    }

    /// Runs of the elements of an array in C order: boxes of one dimension.
    ///
    /// # Errors
    /// As [`Boxes::new`].
    pub fn flat(shape: &[u64], item: u64, parts: Vec<Part>) -> Result<Boxes> {
        let all = checked_product(shape)
            .ok_or_else(|| Error::corrupt(format!("the shape {shape:?} is too large")))?;
        let row = shape.iter().skip(1).product::<u64>();
        Ok(Boxes { flat: Some(row), ..Boxes::new(&[all], item, parts)? })
    }

    /// How many boxes hold elements.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The rows of the grid that are these rows of the array.
    fn span(&self, rows: &Range<u64>) -> Range<u64> {
        match self.flat {
            Some(row) => rows.start * row..rows.end * row,
            None => rows.clone(),
        }
    }

    /// Bytes of a row of the array.
    fn row_bytes(&self) -> u64 {
        let row = self.flat.unwrap_or_else(|| self.grid.iter().skip(1).product());
        row.saturating_mul(self.item)
    }

    fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    /// Whether whole rows come straight from the boxes.
    fn gives_rows(&self) -> bool {
        self.straight && self.flat.is_none()
    }

    /// The boxes that reach into these rows of the grid.
    fn within(&self, span: Range<u64>) -> impl Iterator<Item = &Part> {
        let first = self.reach.partition_point(|&end| end <= span.start);
        self.parts[first..]
            .iter()
            .take_while(move |part| part.rows().start < span.end)
            .filter(move |part| part.rows().end > span.start)
    }
}

/// Whether boxes, which are inside, cover every element exactly once.
fn check_tiling(shape: &[u64], parts: &[Part]) -> Result<()> {
    let whole = checked_product(shape)
        .ok_or_else(|| Error::corrupt(format!("the shape {shape:?} is too large")))?;
    let covered =
        parts.iter().try_fold(0u64, |n, part| n.checked_add(part.shape.iter().product::<u64>()));
    if !is_grid(shape, parts) {
        check_overlaps(parts)?;
    }
    match covered {
        Some(covered) if covered == whole => Ok(()),
        _ => Err(Error::corrupt(format!(
            "its {} chunks hold {} of its {whole} elements: {}",
            parts.len(),
            covered.unwrap_or(u64::MAX),
            hole(shape, parts).map_or_else(
                || "some are missing".to_string(),
                |at| format!("none holds the one at {at:?}")
            )
        ))),
    }
}

/// Whether they are different cells of a grid that their edges make: then none overlap.
fn is_grid(shape: &[u64], parts: &[Part]) -> bool {
    let mut cuts: Vec<Vec<u64>> = Vec::with_capacity(shape.len());
    for d in 0..shape.len() {
        let mut all: Vec<u64> = parts.iter().flat_map(|p| [p.origin[d], p.end(d)]).collect();
        all.sort_unstable();
        all.dedup();
        cuts.push(all);
    }
    let is_cell = |part: &Part| {
        (0..shape.len()).all(|d| {
            let at = cuts[d].partition_point(|&cut| cut < part.origin[d]);
            cuts[d].get(at + 1) == Some(&part.end(d))
        })
    };
    let mut seen = HashSet::with_capacity(parts.len());
    parts.iter().all(|part| is_cell(part) && seen.insert(&part.origin))
}

fn check_overlaps(parts: &[Part]) -> Result<()> {
    let (mut open, mut compared): (Vec<&Part>, u64) = (Vec::new(), 0);
    for part in parts {
        open.retain(|before| before.rows().end > part.rows().start);
        compared += open.len() as u64;
        if compared > MAX_COMPARED {
            return Err(Error::refused(format!(
                "its {} chunks lie too irregularly to be put together",
                parts.len()
            )));
        }
        let overlaps = |before: &&&Part| {
            (0..part.shape.len())
                .all(|d| before.origin[d] < part.end(d) && part.origin[d] < before.end(d))
        };
        if let Some(before) = open.iter().find(overlaps) {
            return Err(Error::corrupt(format!(
                "its chunks of shape {:?} at {:?} and {:?} at {:?} overlap",
                before.shape, before.origin, part.shape, part.origin
            )));
        }
        open.push(part);
    }
    Ok(())
}

/// An element that no box holds: one where a box ends and none begins, or the first.
fn hole(shape: &[u64], parts: &[Part]) -> Option<Vec<u64>> {
    if parts.len() > 1000 {
        return None;
    }
    let is_held = |at: &[u64]| {
        parts.iter().any(|p| (0..at.len()).all(|d| p.origin[d] <= at[d] && at[d] < p.end(d)))
    };
    let first = std::iter::once(vec![0; shape.len()]);
    let behind = parts.iter().flat_map(|part| {
        (0..shape.len()).map(|d| {
            let mut at = part.origin.clone();
            at[d] = part.end(d);
            at
        })
    });
    first
        .chain(behind)
        .filter(|at| at.iter().zip(shape).all(|(a, n)| a < n))
        .find(|at| !is_held(at))
}

/// A box, opened.
#[derive(Clone)]
pub struct OpenedPart {
    /// A reader that has it,
    pub reader: Arc<MapReader>,
    /// as its array of this number,
    pub array: usize,
    /// from this row of it on.
    pub first: u64,
}

impl OpenedPart {
    /// Calls `each` with rows of the box, counted from its own first one.
    fn read(&self, rows: Range<u64>, each: Emit<'_>) -> Result<()> {
        let first = self.first;
        self.reader.read(self.array, first + rows.start..first + rows.end, &mut |mut chunk| {
            chunk.first_row -= first;
            each(chunk)
        })
    }
}

/// The boxes by their numbers.
pub trait Parts: Send + Sync {
    /// Opens a box. It is asked for again and again.
    ///
    /// # Errors
    /// Reading errors; corrupt where it is not of the shape and type that it should be.
    fn open(&self, number: usize) -> Result<OpenedPart>;
}

impl Parts for Vec<OpenedPart> {
    fn open(&self, number: usize) -> Result<OpenedPart> {
        let part = self.get(number).cloned();
        part.ok_or_else(|| Error::internal("a box without a number"))
    }
}

/// Called with the numbers of the boxes that will be read.
type Prepare = Box<dyn Fn(&[usize]) -> Result<()> + Send>;

/// A source over arrays in boxes.
pub struct BoxSource {
    plan: Plan,
    reader: Arc<BoxReader>,
    prepare: Option<Prepare>,
}

/// Reads their rows.
struct BoxReader {
    arrays: Vec<Option<Boxes>>,
    parts: Arc<dyn Parts>,
    memory_bytes: u64,
}

impl BoxSource {
    /// The arrays of `plan`, each with its boxes; `None` for those that cannot be read.
    pub fn new(
        plan: Plan,
        arrays: Vec<Option<Boxes>>,
        parts: Arc<dyn Parts>,
        memory_bytes: u64,
    ) -> BoxSource {
        let reader = Arc::new(BoxReader { arrays, parts, memory_bytes });
        BoxSource { plan, reader, prepare: None }
    }

    /// Calls `prepare` with the numbers of the wanted boxes before they are read.
    pub fn prepared_by(
        mut self,
        prepare: impl Fn(&[usize]) -> Result<()> + Send + 'static,
    ) -> BoxSource {
        self.prepare = Some(Box::new(prepare));
        self
    }
}

impl Source for BoxSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        for &a in arrays {
            let meta = &self.plan.arrays[a];
            readable(meta)?;
            let boxes = self.reader.array(a)?;
            let (row, limit) = (boxes.row_bytes(), self.reader.memory_bytes);
            if !boxes.gives_rows() && !boxes.is_empty() && row > limit {
                return Err(
                    more_memory(&format!("a row takes {row} bytes"), row, limit).array(&meta.name)
                );
            }
        }
        if let Some(prepare) = &self.prepare {
            let boxes = arrays.iter().filter_map(|&a| self.reader.arrays[a].as_ref());
            let numbers: Vec<usize> = boxes.flat_map(|b| &b.parts).map(|p| p.number).collect();
            prepare(&numbers)?;
        }
        Ok(Reader::Random(self.reader.clone()))
    }
}

impl BoxReader {
    fn array(&self, array: usize) -> Result<&Boxes> {
        self.arrays[array].as_ref().ok_or_else(|| Error::refused("this array cannot be read"))
    }

    /// What the kernel can copy.
    fn copied(&self, array: usize) -> Option<Vec<Extent>> {
        let boxes = self.arrays[array].as_ref()?;
        let bytes: u64 = boxes.grid.iter().product::<u64>().saturating_mul(boxes.item);
        let count = boxes.parts.len();
        if !boxes.straight || count > MANY_BOXES && bytes / (count as u64) < LEAST_COPIED_BYTES {
            return None;
        }
        let mut all = Vec::with_capacity(count);
        for part in &boxes.parts {
            let opened = self.parts.open(part.number).ok()?;
            let whole = opened.reader.extents(opened.array)?;
            // An array of any elements is one box.
            if boxes.item == 0 {
                return Some(whole);
            }
            let row = part.shape.iter().skip(1).product::<u64>().saturating_mul(boxes.item);
            let (skip, len) = (opened.first * row, (part.rows().end - part.rows().start) * row);
            all.extend(Extent::cut(whole, skip, len));
        }
        Some(all)
    }

    /// The elements of these rows of the grid, put together.
    fn gather(&self, boxes: &Boxes, span: &Range<u64>) -> Result<Vec<u8>> {
        let item = boxes.item as usize;
        let mut to_shape = boxes.grid.clone();
        let mut to_origin = vec![0; to_shape.len()];
        (to_shape[0], to_origin[0]) = (span.end - span.start, span.start);
        let bytes = to_shape.iter().product::<u64>().saturating_mul(boxes.item);
        let room = usize::try_from(bytes)
            .ok()
            .filter(|_| bytes < 1 << 47)
            .ok_or_else(|| Error::refused(format!("{bytes} bytes are more than memory holds")))?;
        let mut out = vec![0; room];
        for part in boxes.within(span.clone()) {
            let opened = self.parts.open(part.number)?;
            let has = part.rows();
            let (mut row, end) = (has.start.max(span.start), has.end.min(span.end));
            let row_bytes = part.shape.iter().skip(1).product::<u64>().saturating_mul(boxes.item);
            let step = (STEP_BYTES / row_bytes.max(1)).max(1);
            while row < end {
                let stop = row.saturating_add(step).min(end);
                let rows = row - has.start..stop - has.start;
                opened.read(rows, &mut |chunk| {
                    let Values::Fixed(values) = &chunk.values else {
                        return Err(Error::internal("a box of text"));
                    };
                    let (mut origin, mut shape) = (part.origin.clone(), part.shape.clone());
                    (origin[0], shape[0]) = (has.start + chunk.first_row, chunk.rows);
                    let from = Block { origin: &origin, shape: &shape };
                    let to = Block { origin: &to_origin, shape: &to_shape };
                    block_copy::copy(values, from, &mut out, to, item);
                    Ok(())
                })?;
                row = stop;
            }
        }
        Ok(out)
    }
}

impl ReadRows for BoxReader {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.copied(array)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let boxes = self.arrays[array].as_ref()?;
        if boxes.gives_rows() {
            return None;
        }
        let bytes = rows.end.saturating_sub(rows.start).saturating_mul(boxes.row_bytes());
        Some(bytes.saturating_add(2 * STEP_BYTES))
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let boxes = self.array(array)?;
        if boxes.parts.is_empty() || rows.is_empty() {
            let values = Values::Fixed(Buf::from_vec(Vec::<u8>::new()));
            let count = rows.end.saturating_sub(rows.start);
            return emit(Chunk { array, first_row: rows.start, rows: count, values, valid: None });
        }
        if !boxes.gives_rows() {
            let values = Buf::from_vec(self.gather(boxes, &boxes.span(&rows))?);
            let (first_row, rows) = (rows.start, rows.end - rows.start);
            let values = Values::Fixed(values);
            return emit(Chunk { array, first_row, rows, values, valid: None });
        }
        for part in boxes.within(rows.clone()) {
            let has = part.rows();
            let first = has.start;
            let wanted = rows.start.max(first) - first..rows.end.min(has.end) - first;
            let opened = self.parts.open(part.number)?;
            opened.read(wanted, &mut |mut chunk| {
                chunk.array = array;
                chunk.first_row += first;
                emit(chunk)
            })?;
        }
        Ok(())
    }
}
