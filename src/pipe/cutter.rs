//! Sources with random access, cut into pieces in order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::flow::RecipeReader;
use super::piece::{piece_end, read_exactly};
use crate::error::Result;
use crate::format::{Emit, Extent, Job, Order, ReadPieces, ReadRows, Reader};
use crate::model::{Chunk, Plan, Values};
use crate::ops::{Recipe, Recipes, Stack};

/// Outputs that are made of the same rows at once: of one input, or one of several inputs.
pub(super) type Lane = Vec<usize>;

/// Rows of a lane.
pub(super) struct Cut {
    pub(super) lane: Lane,
    pub(super) rows: Range<u64>,
    /// Bytes that reading them will hold.
    pub(super) bytes: u64,
}

/// What is known of the rows of a source's arrays. Of text this is an average, from the reader's
/// cost of all rows and from what came.
pub(super) struct RowSizes {
    reading: Arc<RecipeReader>,
    told: HashMap<usize, u64>,
    came: HashMap<usize, u64>,
}

/// Bytes of the rows of all columns that are read together, at least: what is compressed is unpacked
/// anew for each part of it.
pub(super) const MIN_BLOCK_BYTES: u64 = 8 << 20;

/// A row of text may take this much, as long as none was seen.
const UNSEEN_ROW_BYTES: u64 = 4096;

/// The most rows whose columns wait for each other.
fn rows_side_by_side(row_bytes: u64, waiting: u64) -> u64 {
    (waiting.max(MIN_BLOCK_BYTES) / row_bytes.max(1)).max(1)
}

impl RowSizes {
    pub(super) fn new(reading: &Arc<RecipeReader>) -> RowSizes {
        RowSizes { reading: reading.clone(), told: HashMap::new(), came: HashMap::new() }
    }
    /// Rows of a lane.
    pub(super) fn rows(&self, lane: &Lane) -> u64 {
        self.reading.inputs.arrays[self.reading.recipes.of(lane[0]).input].rows.unwrap_or(0)
    }
    /// Whether its rows have no bytes to move, however many there are.
    pub(super) fn is_empty(&self, lane: &Lane, row_bytes: u64) -> bool {
        let arrays = &self.reading.inputs.arrays;
        let mut inputs = self.reading.recipes.of(lane[0]).inputs();
        row_bytes == 0 && inputs.all(|input| !arrays[input].logical.is_var())
    }
    /// Bytes of a row of all inputs of a lane, or of the matrix that they become.
    pub(super) fn row_bytes(&mut self, lane: &Lane) -> Result<u64> {
        let reading = self.reading.clone();
        let recipe = reading.recipes.of(lane[0]);
        let mut sum = 0u64;
        for input in recipe.inputs() {
            sum = sum.saturating_add(self.of_input(input)?);
        }
        Ok(sum.max(recipe.stack().map_or(0, Stack::row_bytes)))
    }
    /// The most rows of a piece of a lane: the columns of a matrix wait for each other, whatever
    /// the source's own cuts are.
    pub(super) fn most_rows(&self, lane: &Lane, row_bytes: u64, waiting: u64) -> u64 {
        match self.reading.recipes.of(lane[0]).stack() {
            Some(_) => rows_side_by_side(row_bytes, waiting),
            None => u64::MAX,
        }
    }
    fn of_input(&mut self, input: usize) -> Result<u64> {
        let meta = &self.reading.inputs.arrays[input];
        let Some(rows) = meta.rows.filter(|&rows| rows > 0 && meta.logical.is_var()) else {
            return meta.row_bytes();
        };
        let reader = &self.reading.reader;
        let cost = || reader.cost(input, 0..rows).unwrap_or(0).div_ceil(rows);
        let told = *self.told.entry(input).or_insert_with(cost);
        Ok(told.max(self.came.get(&input).copied().unwrap_or(UNSEEN_ROW_BYTES)))
    }
    /// Text that came tells how long the next may be.
    pub(super) fn saw(&mut self, chunk: &Chunk) {
        if let (Values::Var { .. } | Values::Nested(_), Some(bytes)) =
            (&chunk.values, chunk.bytes().checked_div(chunk.rows))
        {
            self.came.insert(self.reading.recipes.of(chunk.array).input, bytes);
        }
    }
    /// Bytes that reading these rows will hold.
    pub(super) fn cost(&mut self, lane: &Lane, rows: &Range<u64>) -> Result<u64> {
        let all = (rows.end - rows.start).saturating_mul(self.row_bytes(lane)?);
        Ok(all.max(self.reading.cost(lane[0], rows.clone()).unwrap_or(0)))
    }
}

/// Where the group of rows ends that begins at a row.
pub(super) type Cuts = Arc<dyn Fn(u64) -> u64 + Send + Sync>;

/// In which order pieces come.
pub(super) enum Sequence {
    Order(Order),
    /// The arrays of a group of rows one after the other, then those of the next.
    Groups(Cuts),
}

impl From<Order> for Sequence {
    fn from(order: Order) -> Sequence {
        Sequence::Order(order)
    }
}

/// Cuts a source with random access into pieces in order.
pub(super) struct Cutter {
    reading: Arc<RecipeReader>,
    sizes: RowSizes,
    lanes: Vec<Lane>,
    sequence: Sequence,
    /// The group of rows whose arrays come now.
    group: Range<u64>,
    at: usize,
    row: u64,
    queue: VecDeque<Cut>,
}

impl Cutter {
    pub(super) fn new(
        reading: &Arc<RecipeReader>,
        lanes: Vec<Lane>,
        sequence: impl Into<Sequence>,
    ) -> Cutter {
        Cutter {
            reading: reading.clone(),
            sizes: RowSizes::new(reading),
            lanes,
            sequence: sequence.into(),
            group: 0..0,
            at: 0,
            row: 0,
            queue: VecDeque::new(),
        }
    }

    /// The next piece of about so many bytes; `waiting`: of rows whose columns wait for each other.
    pub(super) fn next(&mut self, piece: u64, waiting: u64) -> Result<Option<Cut>> {
        loop {
            if let Some(cut) = self.queue.pop_front() {
                return Ok(Some(cut));
            }
            let more = match self.sequence {
                Sequence::Order(Order::RowBlocks) => self.cut_rows(piece, waiting)?,
                Sequence::Order(Order::Any | Order::ArrayByArray) => {
                    self.cut_array(piece, waiting)?
                }
                Sequence::Groups(_) => self.cut_group(piece, waiting)?,
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Tells of a piece that was decoded.
    pub(super) fn saw(&mut self, chunk: &Chunk) {
        self.sizes.saw(chunk);
    }

    /// Queues a piece; `held`: the bytes that it will hold, where they are known.
    fn push(&mut self, lane: Lane, rows: Range<u64>, held: Option<u64>) -> Result<()> {
        let bytes = match held {
            Some(bytes) => bytes,
            None => self.sizes.cost(&lane, &rows)?,
        };
        self.queue.push_back(Cut { lane, rows, bytes });
        Ok(())
    }

    fn cut_rows(&mut self, piece: u64, waiting: u64) -> Result<bool> {
        let most = self.lanes.iter().map(|lane| self.sizes.rows(lane)).max();
        let Some(total) = most.filter(|&total| self.row < total) else { return Ok(false) };
        let mut row_bytes = 0u64;
        for lane in &self.lanes {
            row_bytes = row_bytes.saturating_add(self.sizes.row_bytes(lane)?.max(1));
        }
        let lead = self.lanes[0][0];
        let mut end = piece_end(
            self.row,
            total,
            row_bytes,
            piece.saturating_mul(2),
            |_| u64::MAX,
            |r| self.reading.next_boundary(lead, r),
        );
        // All of them wait for the last one, whatever the source's own cuts are.
        end = end.min(self.row.saturating_add(rows_side_by_side(row_bytes, waiting)));
        // No column's piece is larger than its share.
        let mut held = Vec::new();
        for lane in &self.lanes {
            let piece = match self.row < self.sizes.rows(lane) {
                true => self.reading.piece(lane[0], self.row, piece),
                false => None,
            };
            end = end.min(piece.map_or(end, |p| p.end.max(self.row + 1)));
            held.push(piece.map(|p| p.bytes));
        }
        for (lane, held) in self.lanes.clone().into_iter().zip(held) {
            let last = self.sizes.rows(&lane);
            if self.row < last {
                self.push(lane, self.row..end.min(last), held)?;
            }
        }
        self.row = end;
        Ok(true)
    }

    fn cut_array(&mut self, piece: u64, waiting: u64) -> Result<bool> {
        let Some(lane) = self.lanes.get(self.at).cloned() else { return Ok(false) };
        let total = self.sizes.rows(&lane);
        if self.row >= total {
            self.at += 1;
            self.row = 0;
            return Ok(true);
        }
        self.cut_lane(lane, total, (piece, waiting))?;
        Ok(true)
    }

    fn cut_group(&mut self, piece: u64, waiting: u64) -> Result<bool> {
        let Some(lane) = self.lanes.get(self.at).cloned() else {
            let Sequence::Groups(cuts) = &self.sequence else { return Ok(false) };
            let total = self.lanes.iter().map(|lane| self.sizes.rows(lane)).max().unwrap_or(0);
            let start = self.group.end;
            if start >= total {
                return Ok(false);
            }
            self.group = start..cuts(start).clamp(start + 1, total);
            (self.at, self.row) = (0, start);
            return Ok(true);
        };
        if self.row >= self.group.end {
            (self.at, self.row) = (self.at + 1, self.group.start);
            return Ok(true);
        }
        self.cut_lane(lane, self.group.end, (piece, waiting))?;
        Ok(true)
    }

    /// Queues the next piece of a lane, which ends before `total`.
    fn cut_lane(&mut self, lane: Lane, total: u64, (piece, waiting): (u64, u64)) -> Result<()> {
        if let Some(piece) = self.reading.piece(lane[0], self.row, piece) {
            let end = piece.end.clamp(self.row + 1, total);
            self.push(lane, self.row..end, Some(piece.bytes))?;
            self.row = end;
            return Ok(());
        }
        let row_bytes = self.sizes.row_bytes(&lane)?;
        let end = if self.sizes.is_empty(&lane, row_bytes) {
            total
        } else {
            let cut = |r| self.reading.next_boundary(lane[0], r);
            let most = self.sizes.most_rows(&lane, row_bytes, waiting);
            piece_end(self.row, total, row_bytes, piece, |_| u64::MAX, cut)
                .min(self.row.saturating_add(most))
        };
        self.push(lane, self.row..end, None)?;
        self.row = end;
        Ok(())
    }
}

/// Random access that is read in order all the same: among parts that have none.
struct Sequenced {
    cutter: Cutter,
    order: Order,
}

/// These arrays of a source in order, however its reader can have them.
pub(super) fn in_order(
    reader: Reader,
    plan: &Plan,
    arrays: &[usize],
    wish: Order,
) -> Box<dyn ReadPieces> {
    let reader = match reader {
        Reader::InOrder(pieces) => return pieces,
        Reader::Random(reader) => reader,
    };
    let same = Recipe::each(plan.arrays.len());
    let recipes = Arc::new(Recipes::new(same, plan, plan.arrays.len()));
    let lanes = arrays.iter().map(|&a| vec![a]).collect();
    let reading = Arc::new(RecipeReader { reader, recipes, inputs: plan.clone() });
    let order = if wish == Order::Any { Order::ArrayByArray } else { wish };
    Box::new(Sequenced { cutter: Cutter::new(&reading, lanes, wish), order })
}

impl ReadPieces for Sequenced {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let reader = self.cutter.reading.reader.clone();
        let job = |cut| Box::new(ReadJob { reader, cut }) as Box<dyn Job>;
        Ok(self.cutter.next(max_bytes, max_bytes.saturating_mul(8))?.map(job))
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.cutter.reading.reader.extents(array)
    }
    fn close(&mut self) -> Result<()> {
        self.cutter.reading.reader.close()
    }
}

/// A piece of a source with random access.
struct ReadJob {
    reader: Arc<dyn ReadRows>,
    cut: Cut,
}

impl Job for ReadJob {
    fn bytes(&self) -> u64 {
        self.cut.bytes
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        read_exactly(self.reader.as_ref(), self.cut.lane[0], self.cut.rows, emit)
    }
}
