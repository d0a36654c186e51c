//! Arrays in memory as a source of the pipe.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Emit, Order, ReadRows, Reader, Source};
use crate::model::{ArrayMeta, Buf, Chunk, Plan};

/// What the values of an array are.
pub(super) enum Memory {
    /// Chunks of rows, in order.
    Chunks(Vec<Chunk>),
    /// Elements at places of their own.
    Strided(Strided),
}

/// Elements in memory that are not in C order, or not without gaps.
pub(super) struct Strided {
    /// The element whose indices are all 0.
    first: NonNull<u8>,
    item: usize,
    shape: Vec<usize>,
    /// Bytes from one element to the next, a dimension each; negative ones count backwards.
    strides: Vec<isize>,
    /// Keeps the memory, or the loan of it.
    _owner: Arc<Loan>,
}

// SAFETY: the memory is only read, and whoever made the value has promised that it stays as it is
// for as long as the owner is there.
unsafe impl Send for Strided {}
// SAFETY: as above.
unsafe impl Sync for Strided {}

impl Strided {
    /// # Safety
    /// Every element is `item` readable bytes that nobody writes to while `owner` is held by others
    /// than its maker.
    pub(super) unsafe fn new(
        first: NonNull<u8>,
        item: usize,
        shape: &[usize],
        strides: &[isize],
        owner: Arc<Loan>,
    ) -> Strided {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Strided { first, item, shape, strides, _owner: owner }
    }

    /// Rows in C order.
    fn rows(&self, rows: Range<u64>) -> Result<Vec<u8>> {
        let (first, count) = match self.shape.first() {
            Some(_) => (rows.start as isize, (rows.end - rows.start) as usize),
            None => (0, 1),
        };
        let per_row: usize = self.shape.iter().skip(1).product();
        let mut out = Vec::new();
        let bytes = count.checked_mul(per_row).and_then(|n| n.checked_mul(self.item));
        let bytes = bytes.filter(|&n| out.try_reserve_exact(n).is_ok());
        let Some(bytes) = bytes else { return Err(Error::failed("the rows do not fit memory")) };
        if bytes == 0 {
            return Ok(out);
        }
        let mut dims: Vec<(usize, isize)> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).collect();
        let mut start = 0;
        if let Some(rows) = dims.first_mut() {
            start = first * rows.1;
            rows.0 = count;
        }
        match self.item {
            1 => self.gather::<1>(&dims, start, &mut out),
            2 => self.gather::<2>(&dims, start, &mut out),
            4 => self.gather::<4>(&dims, start, &mut out),
            8 => self.gather::<8>(&dims, start, &mut out),
            16 => self.gather::<16>(&dims, start, &mut out),
            n => return Err(Error::internal(format!("elements of {n} bytes"))),
        }
        Ok(out)
    }

    /// Appends the elements below `at` bytes behind the first.
    fn gather<const N: usize>(&self, dims: &[(usize, isize)], at: isize, out: &mut Vec<u8>) {
        match dims {
            [] => {
                // SAFETY: `new` was promised that every element can be read.
                let item = unsafe { self.first.offset(at).cast::<[u8; N]>().read_unaligned() };
                out.extend_from_slice(&item);
            }
            [(count, stride)] => {
                for i in 0..*count as isize {
                    // SAFETY: as above.
                    let item = unsafe {
                        self.first.offset(at + i * stride).cast::<[u8; N]>().read_unaligned()
                    };
                    out.extend_from_slice(&item);
                }
            }
            [(count, stride), below @ ..] => {
                (0..*count as isize).for_each(|i| self.gather::<N>(below, at + i * stride, out));
            }
        }
    }
}

/// Stands for memory that belongs to somebody else.
pub(super) struct Loan;

/// Lends borrowed memory to a run of the pipe, whose parts know no lifetimes, and waits at its end
/// until nothing holds any of it: a failed run may still have a piece on another thread.
pub(super) struct Lender<'a> {
    owner: Arc<Loan>,
    lent: PhantomData<&'a [u8]>,
}

impl<'a> Lender<'a> {
    pub(super) fn new() -> Lender<'a> {
        Lender { owner: Arc::new(Loan), lent: PhantomData }
    }
    /// The bytes as a buffer.
    pub(super) fn lend(&self, bytes: &'a [u8]) -> Buf {
        let Some(start) = NonNull::new(bytes.as_ptr().cast_mut()).filter(|_| !bytes.is_empty())
        else {
            return Buf::from_vec(Vec::<u8>::new());
        };
        // SAFETY: the bytes live for 'a, and `drop` does not return before the last buffer of them
        // is gone. Buffers are only read.
        unsafe { Buf::from_custom_allocation(start, bytes.len(), self.owner.clone()) }
    }
    /// What holds on to the loan.
    pub(super) fn owner(&self) -> Arc<Loan> {
        self.owner.clone()
    }
}

impl Drop for Lender<'_> {
    fn drop(&mut self) {
        while Arc::strong_count(&self.owner) > 1 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        // What the other threads did with the memory has happened before.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
    }
}

/// Arrays in memory, any rows of which can be read.
pub(super) struct MemorySource {
    plan: Plan,
    rows: Arc<MemoryRows>,
}

struct MemoryRows(Vec<Memory>);

impl MemorySource {
    pub(super) fn new(plan: Plan, arrays: Vec<Memory>) -> MemorySource {
        MemorySource { plan, rows: Arc::new(MemoryRows(arrays)) }
    }
    /// All arrays of several.
    pub(super) fn joined(sources: Vec<MemorySource>) -> MemorySource {
        let (mut arrays, mut values) = (Vec::new(), Vec::new());
        for source in sources {
            arrays.extend(source.plan.arrays);
            values.extend(Arc::into_inner(source.rows).map(|rows| rows.0).unwrap_or_default());
        }
        let plan = Plan { format: "memory", arrays: arrays.into(), ..Plan::default() };
        MemorySource::new(plan, values)
    }
    /// One array.
    pub(super) fn one(meta: ArrayMeta, values: Memory) -> MemorySource {
        let plan = Plan { format: "memory", arrays: vec![meta].into(), ..Plan::default() };
        MemorySource::new(plan, vec![values])
    }
}

impl Source for MemorySource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, _arrays: &[usize], _wish: Order) -> Result<Reader> {
        Ok(Reader::Random(self.rows.clone()))
    }
}

impl ReadRows for MemoryRows {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        match &self.0[array] {
            Memory::Strided(_) => u64::MAX,
            Memory::Chunks(chunks) if chunks.len() < 2 => u64::MAX,
            Memory::Chunks(chunks) => {
                let next = chunks.partition_point(|c| c.first_row <= row);
                chunks.get(next).map_or(u64::MAX, |c| c.first_row)
            }
        }
    }
    fn is_lent(&self, array: usize) -> bool {
        matches!(self.0[array], Memory::Chunks(_))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let count = rows.end - rows.start;
        match &self.0[array] {
            Memory::Strided(strided) if count > 0 => {
                emit(Chunk::fixed(array, rows.start, count, strided.rows(rows)?))
            }
            Memory::Strided(_) => Ok(()),
            Memory::Chunks(chunks) => {
                let from = chunks.partition_point(|c| c.first_row + c.rows <= rows.start);
                for chunk in chunks[from..].iter().take_while(|c| c.first_row < rows.end) {
                    let start = rows.start.max(chunk.first_row) - chunk.first_row;
                    let end = rows.end.min(chunk.first_row + chunk.rows) - chunk.first_row;
                    if start < end {
                        emit(Chunk { array, ..chunk.slice(start, end) })?;
                    }
                }
                Ok(())
            }
        }
    }
}
