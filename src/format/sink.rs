//! An output being written, and how it takes its rows.

use std::ops::Range;
use std::sync::Arc;

use super::reader::Extent;
use crate::error::Result;
use crate::model::{Chunk, Plan};

/// An output being written.
pub trait Sink: Send {
    /// How it takes its rows.
    fn writer(&self) -> Writer;
    /// Where the kernel may copy the array's bytes to: pieces in row order. The files are open for
    /// writing.
    fn slots(&self, _array: usize) -> Option<Vec<Extent>> {
        None
    }
    /// The rows of an array that it takes: of a share of an output only some. `can_cut`: whether
    /// they can be had without the others, else all or none must be taken.
    fn region(&self, _array: usize, _can_cut: bool) -> Range<u64> {
        0..u64::MAX
    }
    /// The commit: the output appears whole, or not at all. `end` has the final rows of every
    /// array, and their metas with categories complete.
    ///
    /// # Errors
    /// Disk full and the like; then nothing is left behind.
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary>;
}

/// How an output takes its rows.
pub enum Writer {
    /// Each to its place, on any thread.
    Positional(Arc<dyn WriteRows>),
    /// Block after block (see [`super::InOrder`]).
    InOrder(Arc<dyn Encode>),
}

/// Turns blocks into bytes, on any thread.
pub trait Encode: Send + Sync {
    /// Where a block that begins at `row` must end (a chunk, a row group); `u64::MAX` where any cut
    /// will do.
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    /// A block that holds this many bytes may end before its cut; `None` where cuts bind.
    fn max_block_bytes(&self, _array: usize) -> Option<u64> {
        None
    }
    /// Asked before the first block, where all arrays can be read at random: whether rows are cut
    /// into groups, of which the arrays come one after the other, a block each (instead of
    /// [`super::Order::RowBlocks`]). The other answers are about such groups from then on.
    fn takes_groups(&self) -> bool {
        false
    }
    /// Encodes one block.
    ///
    /// # Errors
    /// What the format cannot hold after all.
    fn encode(self: Arc<Self>, block: Block) -> Result<Append>;
}

/// Rows to encode together: of one array, or (sinks of [`super::Order::RowBlocks`]) the same rows of all
/// arrays.
pub struct Block {
    /// The first row.
    pub first_row: u64,
    /// How many; 0 only for arrays that have none at all.
    pub rows: u64,
    /// Per array its chunks in row order, together exactly these rows.
    pub columns: Vec<(usize, Vec<Chunk>)>,
}

/// What is left to do with an encoded block: to append it. Called in the order that
/// [`super::Capabilities::order`] promises.
pub type Append = Box<dyn FnOnce() -> Result<()> + Send>;

/// Writing by position.
pub trait WriteRows: Send + Sync {
    /// Where a piece that begins at `row` should end (a chunk of the output); `u64::MAX` where any
    /// cut will do.
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    /// Writes the chunk at its `first_row`. Chunks of one piece between two cuts may come in
    /// several calls, in order, from one thread.
    ///
    /// # Errors
    /// Disk full and the like.
    fn write(&self, chunk: &Chunk) -> Result<()>;
}

impl<W: WriteRows> WriteRows for Arc<W> {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        W::next_boundary(self, array, row)
    }
    fn write(&self, chunk: &Chunk) -> Result<()> {
        W::write(self, chunk)
    }
}

/// The result of writing an output.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Bytes of the output.
    pub bytes: u64,
    /// Files of the output, where it is more than one.
    pub files: u64,
    /// Notes for the user.
    pub notes: Vec<String>,
}
