//! Outputs that several processes write together, a share of the rows each.
//!
//! [`crate::format::Format::together`] → [`Together::begin`] → a [`Sink`] that takes the rows of one
//! share ([`Sink::region`]), in each of them; at last [`Together::finish`] in one.

use std::ops::Range;

use super::sink::{Sink, Summary};
use crate::error::Result;

/// One of `count` shares, `--shard I/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// From 0.
    pub index: u64,
    /// At least 1.
    pub count: u64,
}

impl Share {
    /// Which of the pieces of an array belong to the share. All shares together have each once;
    /// arrays of fewer pieces than there are shares go to one after the other.
    pub fn pieces(self, array: usize, pieces: u64) -> Range<u64> {
        let (index, count) = (u128::from(self.index), u128::from(self.count));
        let turn = if pieces < self.count { array as u128 } else { 0 };
        let place = (index + turn) % count;
        // At most `pieces`, since the place is below the count.
        let edge = |place: u128| (u128::from(pieces) * place / count) as u64;
        edge(place)..edge(place + 1)
    }
}

/// An output that several processes write. Each of them has made the same plan of it.
pub trait Together: Send {
    /// What a share has come to, if it is done.
    ///
    /// # Errors
    /// What cannot be read.
    fn done(&self, share: Share) -> Result<Option<Summary>>;
    /// Begins a share.
    ///
    /// # Errors
    /// Exists: a whole output, or shares that were made from something else.
    fn begin(self: Box<Self>, share: Share) -> Result<Box<dyn Sink>>;
    /// Whether all shares are done, and all that they wrote is there. Returns how many there are.
    ///
    /// # Errors
    /// Failed: which are not. Exists: what is none of theirs.
    fn check(&self) -> Result<u64>;
    /// After [`Together::check`], the commit: the output appears whole.
    ///
    /// # Errors
    /// As [`Together::check`]; disk full and the like.
    fn finish(self: Box<Self>) -> Result<Summary>;
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares_are_disjoint_and_together_the_whole() {
        for count in [1, 2, 3, 7, 64, u64::MAX] {
            for pieces in [0, 1, 2, 5, 6, 7, 8, 1000, u64::MAX] {
                for array in [0, 1, 6, 1000] {
                    // Of very many shares, those at both ends of the turn.
                    let turn = if pieces < count { array as u64 % count } else { 0 };
                    let first = (count - turn) % count;
                    let mut end = 0;
                    for place in 0..count.min(100) {
                        let index = (u128::from(first) + u128::from(place)) % u128::from(count);
                        let share = Share { index: index as u64, count };
                        let range = share.pieces(array, pieces);
                        assert_eq!(range.start, end, "{share:?} of {pieces}");
                        assert!(range.end >= range.start && range.end <= pieces);
                        end = range.end;
                    }
                    assert!(count > 100 || end == pieces);
                }
            }
        }
    }
}
