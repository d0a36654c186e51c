//! Rows of chunks that were decoded, and of which only a part was wanted so far: the rest is
//! probably wanted next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::chain::{Decoded, VarItems};
use crate::error::Result;
use crate::model::{Buf, Values};

/// The array, and the row of chunks.
type Key = (usize, u64);

/// The rows of a row of chunks.
pub enum Block {
    /// Of one size.
    Fixed(Buf),
    /// Items of any length.
    Var(VarItems),
}

impl Block {
    /// Of what was decoded.
    pub fn of(decoded: Decoded) -> Block {
        match decoded {
            Decoded::Fixed(bytes) => Block::Fixed(Buf::from_vec(bytes)),
            Decoded::Var(items) => Block::Var(items),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Block::Fixed(bytes) => bytes.len() as u64,
            Block::Var(items) => (8 * items.offsets.len() + items.values.len()) as u64,
        }
    }

    /// Some rows, copied: they do not hold the others. `each`: bytes of a row, or items.
    pub fn rows(&self, from: u64, to: u64, each: u64) -> Values {
        let (a, b) = ((from * each) as usize, (to * each) as usize);
        match self {
            Block::Fixed(bytes) => Values::Fixed(Buf::from_vec(bytes[a..b].to_vec())),
            Block::Var(items) => {
                let base = items.offsets[a];
                let offsets: Vec<u64> = items.offsets[a..=b].iter().map(|o| o - base).collect();
                let values = items.values[base as usize..items.offsets[b] as usize].to_vec();
                Values::Var { offsets, values: Buf::from_vec(values) }
            }
        }
    }
}

/// Blocks that are kept: small ones up to a number of bytes, and one that is larger.
#[derive(Default)]
pub struct Kept {
    small: Mutex<VecDeque<(Key, Arc<Block>)>>,
    large: Mutex<Option<(Key, Arc<Block>)>>,
    small_bytes: u64,
}

impl Kept {
    /// Small blocks take this much together.
    pub fn new(small_bytes: u64) -> Kept {
        Kept { small_bytes, ..Kept::default() }
    }

    /// A block: one that is kept, else as `decode` gives it; `bytes` is what it will take, about.
    /// Of large blocks one is decoded at a time, after the one before is gone.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn get(
        &self,
        key: Key,
        bytes: u64,
        decode: &mut dyn FnMut() -> Result<Decoded>,
    ) -> Result<Arc<Block>> {
        let small = || self.small.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, block)) = small().iter().find(|(k, _)| *k == key) {
            return Ok(block.clone());
        }
        if bytes > self.small_bytes {
            let mut large = self.large.lock().unwrap_or_else(|e| e.into_inner());
            if let Some((_, block)) = large.as_ref().filter(|(k, _)| *k == key) {
                return Ok(block.clone());
            }
            *large = None;
            let block = Arc::new(Block::of(decode()?));
            *large = Some((key, block.clone()));
            return Ok(block);
        }
        let block = Arc::new(Block::of(decode()?));
        let mut kept = small();
        let mut sum = kept.iter().map(|(_, b)| b.bytes()).sum::<u64>() + block.bytes();
        while sum > self.small_bytes {
            match kept.pop_front() {
                Some((_, old)) => sum -= old.bytes(),
                None => return Ok(block),
            }
        }
        kept.push_back((key, block.clone()));
        Ok(block)
    }
}
