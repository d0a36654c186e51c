//! Inputs: what there is, and how its rows can be had.

use std::ops::Range;
use std::sync::Arc;

use super::spec::Order;
use super::stored::StoredArray;
use crate::error::{Error, Result};
use crate::model::{Chunk, Plan};

/// An opened input.
pub trait Source: Send {
    /// Its logical arrays, in order of appearance: all that `inspect` and `list` need.
    fn plan(&self) -> &Plan;
    /// The reader of these arrays (indices into the plan, each once), for someone who would have them
    /// in the order `wish`.
    ///
    /// It may be asked for again, with another choice: before a piece was taken of a pipe.
    ///
    /// # Errors
    /// Where a chosen array cannot be read.
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader>;
    /// The array as it lies in its files, where other readers find it there without any change.
    ///
    /// # Errors
    /// Refused: what keeps them from that.
    fn stored(&self, _array: usize) -> Result<StoredArray> {
        Err(Error::refused("its bytes lie in no file as they are"))
    }
}

/// How the rows of the selected arrays can be had.
pub enum Reader {
    /// Any rows, on any thread, and so in any order.
    Random(Arc<dyn ReadRows>),
    /// Piece after piece.
    InOrder(Box<dyn ReadPieces>),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reader::Random(_) => "Random",
            Reader::InOrder(_) => "InOrder",
        })
    }
}

impl Reader {
    /// The reader of any rows, where it is one.
    pub fn random(self) -> Option<Arc<dyn ReadRows>> {
        match self {
            Reader::Random(rows) => Some(rows),
            Reader::InOrder(_) => None,
        }
    }
    /// In which order the rows come to someone who wished for `wish`.
    pub fn order(&self, wish: Order) -> Order {
        match self {
            Reader::Random(_) => wish,
            Reader::InOrder(pieces) => pieces.order(),
        }
    }
}

/// What a [`Job`] or [`ReadRows`] hands its chunks to. `Chunk::array` is the index in the source's
/// own plan.
pub type Emit<'a> = &'a mut dyn FnMut(Chunk) -> Result<()>;

/// Reading piece after piece.
pub trait ReadPieces: Send {
    /// The order in which they come.
    fn order(&self) -> Order;
    /// The next undecoded piece, cheap and in order, about `max_bytes` decoded at most; `None` at
    /// the end.
    ///
    /// # Errors
    /// Reading errors.
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>>;
    /// As [`ReadRows::extents`].
    fn extents(&self, _array: usize) -> Option<Vec<Extent>> {
        None
    }
    /// As [`ReadRows::close`].
    ///
    /// # Errors
    /// Corrupt.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An undecoded piece of a source: decodes on any thread.
pub trait Job: Send {
    /// Bytes that it will hold while it runs, decoded and encoded.
    fn bytes(&self) -> u64;
    /// Decodes.
    ///
    /// # Errors
    /// Corrupt, refused, or what `emit` returned.
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()>;
}

/// A piece whose chunks are handed on as `change` gives them.
pub fn changed(
    job: Box<dyn Job>,
    change: impl FnMut(Chunk, Emit<'_>) -> Result<()> + Send + 'static,
) -> Box<dyn Job> {
    struct Changed<F>(Box<dyn Job>, F);
    impl<F: FnMut(Chunk, Emit<'_>) -> Result<()> + Send> Job for Changed<F> {
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
        fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
            let Changed(job, mut change) = *self;
            job.run(&mut |chunk| change(chunk, emit))
        }
    }
    Box::new(Changed(job, change))
}

/// Reading any rows.
pub trait ReadRows: Send + Sync {
    /// The first cheap boundary after `row` (a chunk, a row group, a segment); `u64::MAX` where any
    /// cut is as good.
    fn next_boundary(&self, _array: usize, _row: u64) -> u64 {
        u64::MAX
    }
    /// Bytes that reading these rows will hold, where that is more than the rows themselves (text,
    /// compressed pieces).
    fn cost(&self, _array: usize, _rows: Range<u64>) -> Option<u64> {
        None
    }
    /// The longest piece from `row` on that holds at most `bytes` (but one row at least), for
    /// arrays whose rows differ in size; `None` where they do not, or where nothing is known before
    /// it is read.
    fn piece(&self, _array: usize, _row: u64, _bytes: u64) -> Option<Piece> {
        None
    }
    /// Whether the rows are lent, from memory that is there anyway: reading any number of them holds
    /// nothing more.
    fn is_lent(&self, _array: usize) -> bool {
        false
    }
    /// Emits the rows in order, as one chunk or several.
    ///
    /// # Errors
    /// Corrupt, refused, or what `emit` returned.
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()>;
    /// Where the array's bytes (C order, little-endian, whole) are in a local file: pieces in row
    /// order that together are the array.
    fn extents(&self, _array: usize) -> Option<Vec<Extent>> {
        None
    }
    /// After the last rows were read: what could only be checked now (a trailing checksum).
    ///
    /// # Errors
    /// Corrupt.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// What [`ReadRows::piece`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The row behind its last one.
    pub end: u64,
    /// Bytes that reading it will hold.
    pub bytes: u64,
}

/// Bytes of a local file.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The open file.
    pub file: Arc<std::fs::File>,
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Extent {
    /// Of pieces that follow each other: `len` bytes, behind the first `skip`.
    pub fn cut(all: Vec<Extent>, mut skip: u64, mut len: u64) -> Vec<Extent> {
        let mut out = Vec::new();
        for e in all {
            let gone = skip.min(e.len);
            let taken = (e.len - gone).min(len);
            if taken > 0 {
                out.push(Extent { offset: e.offset + gone, len: taken, ..e });
            }
            skip -= gone;
            len -= taken;
        }
        out
    }
}
