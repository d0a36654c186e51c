//! Outputs that take their blocks one after the other: a format encodes blocks on any thread
//! ([`EncodeBlocks`]) and appends what it made of them in turn ([`AppendBlocks`]); [`InOrder`] makes
//! one [`Sink`] of the two.

use std::sync::{Arc, Mutex, MutexGuard};

use super::reader::Extent;
use super::sink::{Append, Block, Encode, Sink, Summary, Writer};
use crate::error::{Error, Result, locked};
use crate::model::Plan;

/// Which rows a block holds.
#[derive(Clone, Copy, Debug)]
pub struct BlockRows {
    /// The array (the first, in a table).
    pub array: usize,
    /// The first row.
    pub first_row: u64,
    /// How many.
    pub rows: u64,
}

/// Encodes blocks, on any thread. The first three are those of [`Encode`].
#[allow(missing_docs)]
pub trait EncodeBlocks: Send + Sync + 'static {
    /// What it makes of a block.
    type Encoded: Send + 'static;
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        None
    }
    fn takes_groups(&self) -> bool {
        false
    }
    /// Encodes one block.
    ///
    /// # Errors
    /// What the format cannot hold after all.
    fn encode(&self, block: Block) -> Result<Self::Encoded>;
}

impl<E: EncodeBlocks> EncodeBlocks for Arc<E> {
    type Encoded = E::Encoded;
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        E::next_boundary(self, array, row)
    }
    fn max_block_bytes(&self, array: usize) -> Option<u64> {
        E::max_block_bytes(self, array)
    }
    fn takes_groups(&self) -> bool {
        E::takes_groups(self)
    }
    fn encode(&self, block: Block) -> Result<E::Encoded> {
        E::encode(self, block)
    }
}

/// Takes encoded blocks in the order that [`super::Capabilities::order`] promises.
pub trait AppendBlocks: Send + 'static {
    /// What [`EncodeBlocks::encode`] gives.
    type Encoded: Send + 'static;
    /// Appends one block.
    ///
    /// # Errors
    /// Disk full and the like.
    fn append(&mut self, rows: BlockRows, encoded: Self::Encoded) -> Result<()>;
    /// As [`Sink::slots`].
    fn slots(&self, _array: usize) -> Option<Vec<Extent>> {
        None
    }
    /// As [`Sink::finish`].
    ///
    /// # Errors
    /// Disk full and the like; then nothing is left behind.
    fn finish(self, end: &Plan) -> Result<Summary>;
}

/// An output in order.
pub struct InOrder<E, A>(Arc<Parts<E, A>>);

struct Parts<E, A> {
    encoder: E,
    /// Nothing once it is finished.
    output: Mutex<Option<A>>,
}

impl<E: EncodeBlocks, A: AppendBlocks<Encoded = E::Encoded>> InOrder<E, A> {
    /// What `encoder` gives is appended to `output`.
    pub fn sink(encoder: E, output: A) -> Box<dyn Sink> {
        Box::new(InOrder(Arc::new(Parts { encoder, output: Mutex::new(Some(output)) })))
    }
}

impl<E, A> Drop for InOrder<E, A> {
    /// What is left of the output goes with it, not with the last block still being encoded.
    fn drop(&mut self) {
        drop(self.0.output().take());
    }
}

impl<E, A> Parts<E, A> {
    fn output(&self) -> MutexGuard<'_, Option<A>> {
        locked(&self.output)
    }
}

impl<E: EncodeBlocks, A: AppendBlocks<Encoded = E::Encoded>> Sink for InOrder<E, A> {
    fn writer(&self) -> Writer {
        Writer::InOrder(self.0.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.0.output().as_ref()?.slots(array)
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        let output = self.0.output().take();
        output.ok_or_else(|| Error::internal("the output was finished before"))?.finish(end)
    }
}

impl<E: EncodeBlocks, A: AppendBlocks<Encoded = E::Encoded>> Encode for Parts<E, A> {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.encoder.next_boundary(array, row)
    }
    fn max_block_bytes(&self, array: usize) -> Option<u64> {
        self.encoder.max_block_bytes(array)
    }
    fn takes_groups(&self) -> bool {
        self.encoder.takes_groups()
    }
    fn encode(self: Arc<Self>, block: Block) -> Result<Append> {
        let array = block.columns.first().map_or(0, |(array, _)| *array);
        let rows = BlockRows { array, first_row: block.first_row, rows: block.rows };
        let encoded = self.encoder.encode(block)?;
        Ok(Box::new(move || {
            let mut output = self.output();
            let output = output.as_mut().ok_or_else(|| Error::internal("a block after the end"))?;
            output.append(rows, encoded)
        }))
    }
}
