//! Sources and sinks in memory for the hard cases: unknown row counts, interleaved columns with
//! uneven cuts, nulls, text, a source behind one lock; sinks that take array after array, row
//! blocks, or must know the rows first.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use npk::error::Result;
use npk::format::*;
use npk::model::*;

/// How a mock source gives its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Any rows, any thread.
    Random,
    /// Any rows, but only one thread at a time gets through.
    Locked,
    /// One array after the other.
    ArrayByArray,
    /// Interleaved columns, each cut at its own odd places.
    UnevenRows,
    /// As `UnevenRows`, and nobody knows how many rows there are, nor which row a chunk begins at.
    Unknown,
}

pub const MODES: [Mode; 5] =
    [Mode::Random, Mode::Locked, Mode::ArrayByArray, Mode::UnevenRows, Mode::Unknown];

/// Whole arrays in memory, given in one of the [`Mode`]s.
pub struct Mock {
    plan: Plan,
    arrays: Arc<Vec<Chunk>>,
    mode: Mode,
    lock: Arc<Mutex<()>>,
}

/// Chunks in an order.
struct MockPieces {
    queue: VecDeque<Chunk>,
    order: Order,
}

impl Mock {
    /// Each array as one chunk of all its rows.
    pub fn new(mut plan: Plan, arrays: Vec<Chunk>, mode: Mode) -> Mock {
        if mode == Mode::Unknown {
            plan.arrays.iter_mut().filter(|a| !a.scalar).for_each(|a| a.rows = None);
        }
        Mock { plan, arrays: Arc::new(arrays), mode, lock: Arc::default() }
    }
}

impl Source for Mock {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, wanted: &[usize], _wish: Order) -> Result<Reader> {
        let mut queue = VecDeque::new();
        let cut = |a: usize| {
            let whole = &self.arrays[a];
            let (mut row, mut pieces, mut step) = (0, Vec::new(), 1 + a as u64 % 5);
            while row < whole.rows {
                let end = (row + step).min(whole.rows);
                pieces.push(Chunk { array: a, ..whole.slice(row, end) });
                row = end;
                step = step * 2 % 97 + 1;
            }
            pieces
        };
        match self.mode {
            Mode::Random | Mode::Locked => {
                let lock = (self.mode == Mode::Locked).then(|| self.lock.clone());
                return Ok(Reader::Random(Arc::new(MockRows {
                    arrays: self.arrays.clone(),
                    lock,
                })));
            }
            Mode::ArrayByArray => wanted.iter().for_each(|&a| queue.extend(cut(a))),
            Mode::UnevenRows | Mode::Unknown => {
                let mut columns: Vec<VecDeque<Chunk>> =
                    wanted.iter().map(|&a| cut(a).into()).collect();
                while columns.iter().any(|c| !c.is_empty()) {
                    columns.iter_mut().for_each(|c| queue.extend(c.pop_front()));
                }
                if self.mode == Mode::Unknown {
                    queue.iter_mut().for_each(|c| c.first_row = Chunk::NEXT);
                }
            }
        }
        let by_array = self.mode == Mode::ArrayByArray;
        let order = if by_array { Order::ArrayByArray } else { Order::RowBlocks };
        Ok(Reader::InOrder(Box::new(MockPieces { queue, order })))
    }
}

impl ReadPieces for MockPieces {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, _max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        Ok(self.queue.pop_front().map(|c| Box::new(Ready(c)) as Box<dyn Job>))
    }
}

struct Ready(Chunk);

impl Job for Ready {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        emit(self.0)
    }
}

struct MockRows {
    arrays: Arc<Vec<Chunk>>,
    lock: Option<Arc<Mutex<()>>>,
}

impl ReadRows for MockRows {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        if array.is_multiple_of(2) { u64::MAX } else { (row / 7 + 1) * 7 }
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let _held = self.lock.as_ref().map(|l| l.lock().unwrap());
        // In two chunks, where there is more than a row.
        let middle = rows.start + (rows.end - rows.start) / 2;
        for part in [rows.start..middle, middle..rows.end] {
            if !part.is_empty() {
                emit(Chunk { array, ..self.arrays[array].slice(part.start, part.end) })?;
            }
        }
        Ok(())
    }
}

/// What a mock sink got: every array's rows, put together.
pub type Got = Arc<Mutex<Vec<Vec<Chunk>>>>;

/// A sink in memory that checks the order it is fed in.
pub struct MockSink {
    order: Order,
    rows_known: bool,
    got: Got,
    finished: Arc<Mutex<bool>>,
    last: (usize, u64),
    arrays: usize,
}

impl MockSink {
    pub fn new(order: Order, rows_first: bool, plan: &Plan) -> (MockSink, Got, Arc<Mutex<bool>>) {
        let got: Got = Arc::new(Mutex::new(vec![Vec::new(); plan.arrays.len()]));
        let finished = Arc::new(Mutex::new(false));
        assert!(
            !rows_first || plan.arrays.iter().all(|a| a.rows.is_some()),
            "this sink was promised the rows first"
        );
        let sink = MockSink {
            order,
            rows_known: rows_first,
            got: got.clone(),
            finished: finished.clone(),
            last: (0, 0),
            arrays: plan.arrays.len(),
        };
        (sink, got, finished)
    }
}

/// Hands blocks of eleven rows on.
pub struct Through;

impl EncodeBlocks for Through {
    type Encoded = Block;
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        (row / 11 + 1) * 11
    }
    fn encode(&self, block: Block) -> Result<Block> {
        for (_, chunks) in &block.columns {
            assert_eq!(
                chunks.iter().map(|c| c.rows).sum::<u64>(),
                block.rows,
                "a block has all its rows of every column"
            );
        }
        assert!(block.rows <= 11, "a block ends at the cut");
        Ok(block)
    }
}

impl AppendBlocks for MockSink {
    type Encoded = Block;
    fn append(&mut self, encoded: BlockRows, block: Block) -> Result<()> {
        match self.order {
            Order::ArrayByArray => {
                assert!(encoded.array >= self.last.0, "array after array");
                if encoded.array > self.last.0 {
                    self.last = (encoded.array, 0);
                }
                assert_eq!(encoded.first_row, self.last.1);
                self.last.1 += encoded.rows;
            }
            Order::RowBlocks => {
                assert_eq!(block.columns.len(), self.arrays, "a row block has every column");
                assert_eq!(encoded.first_row, self.last.1);
                self.last.1 += encoded.rows;
            }
            Order::Any => {}
        }
        let _ = self.rows_known;
        let mut got = self.got.lock().unwrap();
        for (array, chunks) in block.columns {
            for c in chunks {
                let due: u64 = got[array].iter().map(|c| c.rows).sum();
                assert_eq!(c.first_row, due, "rows of an array come in order");
                got[array].push(c);
            }
        }
        Ok(())
    }
    fn finish(self, end: &Plan) -> Result<Summary> {
        assert!(end.arrays.iter().all(|a| a.rows.is_some()), "all rows are known at the end");
        *self.finished.lock().unwrap() = true;
        Ok(Summary::default())
    }
}

/// A chunk's rows as plain values, for comparison: bytes, or `None` at a null.
pub fn rows_of(meta: &ArrayMeta, chunks: &[Chunk]) -> Vec<Option<Vec<u8>>> {
    let mut rows = Vec::new();
    for c in chunks {
        for row in 0..c.rows as usize {
            let bytes = match &c.values {
                Values::Fixed(b) => {
                    let n = meta.row_bytes().unwrap() as usize;
                    b[row * n..(row + 1) * n].to_vec()
                }
                Values::Var { offsets, values } => {
                    let item = meta.dtype.item_bytes();
                    values[(offsets[row] * item) as usize..(offsets[row + 1] * item) as usize]
                        .to_vec()
                }
                Values::Nested(_) => unreachable!(),
            };
            rows.push(c.is_valid(row).then_some(bytes));
        }
    }
    rows
}

/// A reproducible array of this dtype and shape: every value is one that the dtype has.
pub fn array(name: &str, dtype: Dtype, shape: &[u64], seed: u64) -> (ArrayMeta, Chunk) {
    let meta = ArrayMeta::new(name, dtype, shape);
    let bytes = meta.bytes().unwrap().unwrap() as usize;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if dtype == Dtype::Bool { (state >> 40) as u8 & 1 } else { (state >> 32) as u8 }
        })
        .collect();
    let rows = meta.rows.unwrap();
    (meta, Chunk::fixed(0, 0, rows, Buf::from_vec(values)))
}

/// A text column with empty, repeated and non-ASCII rows; every fifth is null where asked for.
pub fn text(name: &str, rows: u64, nulls: bool) -> (ArrayMeta, Chunk) {
    let words = ["", "a", "naïve", "名前", "a", "long enough to be cut somewhere in the middle"];
    let (mut offsets, mut values, mut valid) = (vec![0u64], Vec::new(), Vec::new());
    for row in 0..rows {
        let null = nulls && row % 5 == 3;
        if !null {
            values.extend_from_slice(words[row as usize % words.len()].as_bytes());
        }
        valid.push(u8::from(!null));
        offsets.push(values.len() as u64);
    }
    let mut meta = ArrayMeta::column(name, Dtype::U8, Logical::Text, Some(rows));
    meta.nulls = nulls && valid.contains(&0);
    let valid = meta.nulls.then(|| Buf::from_vec(valid));
    (
        meta,
        Chunk {
            array: 0,
            first_row: 0,
            rows,
            values: Values::Var { offsets, values: Buf::from_vec(values) },
            valid,
        },
    )
}

/// A column of numbers with nulls in every third row (NaN or 0 stands there).
pub fn nullable(name: &str, dtype: Dtype, rows: u64) -> (ArrayMeta, Chunk) {
    let (mut meta, chunk) = array(name, dtype, &[rows], 77);
    let Values::Fixed(values) = &chunk.values else { unreachable!() };
    let mut values = values.to_vec();
    let item = dtype.item_bytes() as usize;
    let valid: Vec<u8> = (0..rows).map(|r| u8::from(r % 3 != 1)).collect();
    for (row, _) in valid.iter().enumerate().filter(|(_, v)| **v == 0) {
        let null: Vec<u8> = match dtype {
            Dtype::F64 => f64::NAN.to_le_bytes().to_vec(),
            Dtype::F32 => f32::NAN.to_le_bytes().to_vec(),
            _ => vec![0; item],
        };
        values[row * item..(row + 1) * item].copy_from_slice(&null);
    }
    meta.nulls = valid.contains(&0);
    let valid = meta.nulls.then(|| Buf::from_vec(valid));
    (meta, Chunk { values: Values::Fixed(Buf::from_vec(values)), valid, ..chunk })
}

/// A plan and its arrays; indices are filled in.
pub fn plan(arrays: Vec<(ArrayMeta, Chunk)>) -> (Plan, Vec<Chunk>) {
    let mut plan = Plan { format: "mock", ..Plan::default() };
    let mut chunks = Vec::new();
    for (i, (meta, mut chunk)) in arrays.into_iter().enumerate() {
        chunk.array = i;
        plan.arrays.push(meta);
        chunks.push(chunk);
    }
    (plan, chunks)
}
