//! Booleans are 0 or 1 from here on, whatever bytes a file has for them: what is not 0 is true.
//! Masks alike.
//!
//! Files may hold any byte (numpy's `view(bool)` keeps it, and takes it for true). Behind this
//! border values are compared, hashed and written as bytes, so that two ways to say true would
//! differ.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::format::{Emit, Extent, Job, Order, Piece, ReadRows, Source};
use crate::model::{Buf, Chunk, Dtype, Plan, Values};

/// The source with its booleans as 0 and 1; itself where it has none.
pub(super) fn plain(source: Box<dyn Source>) -> Box<dyn Source> {
    let bools: Arc<Vec<bool>> =
        Arc::new(source.plan().arrays.iter().map(|a| a.dtype == Dtype::Bool).collect());
    let any = source.plan().arrays.iter().any(|a| a.dtype == Dtype::Bool || a.nulls);
    if any { Box::new(PlainBools { inner: source, bools }) } else { source }
}

struct PlainBools {
    inner: Box<dyn Source>,
    /// Which arrays are booleans.
    bools: Arc<Vec<bool>>,
}

impl Source for PlainBools {
    fn plan(&self) -> &Plan {
        self.inner.plan()
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        self.inner.want(arrays, wish)
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let job = self.inner.next(max_bytes)?;
        Ok(job.map(|job| Box::new(PlainJob { job, bools: self.bools.clone() }) as Box<dyn Job>))
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(Arc::new(PlainRows { reader: self.inner.random()?, bools: self.bools.clone() }))
    }
    /// The kernel would copy the bytes as they are.
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.bools[array] { None } else { self.inner.extents(array) }
    }
    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

struct PlainJob {
    job: Box<dyn Job>,
    bools: Arc<Vec<bool>>,
}

impl Job for PlainJob {
    fn bytes(&self) -> u64 {
        self.job.bytes()
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        let PlainJob { job, bools } = *self;
        job.run(&mut |chunk| emit(checked(chunk, &bools)))
    }
}

struct PlainRows {
    reader: Arc<dyn ReadRows>,
    bools: Arc<Vec<bool>>,
}

impl ReadRows for PlainRows {
    fn cut(&self, array: usize, row: u64) -> u64 {
        self.reader.cut(array, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        self.reader.cost(array, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.reader.piece(array, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.reader.read(array, rows, &mut |chunk| emit(checked(chunk, &self.bools)))
    }
}

fn checked(mut chunk: Chunk, bools: &[bool]) -> Chunk {
    if bools[chunk.array] {
        match &mut chunk.values {
            Values::Fixed(values) | Values::Var { values, .. } => as_bits(values),
            Values::Nested(_) => {}
        }
    }
    if let Some(valid) = &mut chunk.valid {
        as_bits(valid);
    }
    chunk
}

/// Bytes that are 0 and 1 already, as nearly all are, are not copied.
fn as_bits(bytes: &mut Buf) {
    if bytes.iter().fold(0, |all, b| all | b) > 1 {
        *bytes = Buf::from_vec(bytes.iter().map(|b| u8::from(*b != 0)).collect::<Vec<u8>>());
    }
}
