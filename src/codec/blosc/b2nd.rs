//! The `b2nd` layer of a Blosc2 frame: an array of one chunk, cut into blocks.
//!
//! The layer is MessagePack: `[version, ndim, [shape], [chunk shape], [block shape], dtype format,
//! dtype]`. The chunk is padded to whole blocks, and the blocks follow each other in C order, each
//! in C order.

use crate::error::{Error, Result};

/// How the bytes of a chunk are laid out.
pub(super) struct Layout {
    shape: Vec<usize>,
    chunk: Vec<usize>,
    block: Vec<usize>,
    /// Bytes of an element.
    size: usize,
}

impl Layout {
    /// Looks for the layer in a frame's header; `None` for plain frames, and for those whose order
    /// is plain.
    ///
    /// # Errors
    /// A layer that cannot be understood.
    pub(super) fn find(header: &[u8]) -> Result<Option<Layout>> {
        // fixstr(4) "b2nd", then int32 offset; the layer itself follows the map: bin32 of its
        // bytes.
        let Some(name) = header.windows(5).position(|w| w == b"\xa4b2nd") else { return Ok(None) };
        let damaged = || Error::corrupt("the b2nd layer of a blosc2 chunk is damaged");
        let offset = header.get(name + 6..name + 10).ok_or_else(damaged)?;
        let offset = u32::from_be_bytes([offset[0], offset[1], offset[2], offset[3]]) as usize;
        let layer = header.get(offset.checked_add(5).ok_or_else(damaged)?..).ok_or_else(damaged)?;
        let mut at = 0;
        let mut byte = || {
            let b = layer.get(at).copied();
            at += 1;
            b.map(usize::from).ok_or_else(damaged)
        };
        let (_array, _version, ndim) = (byte()?, byte()?, byte()?);
        if ndim == 0 || ndim > 8 {
            return Err(damaged());
        }
        let mut list = |wide: bool| -> Result<Vec<usize>> {
            if byte()? != 0x90 + ndim {
                return Err(damaged());
            }
            (0..ndim)
                .map(|_| {
                    byte()?; // int64 or int32
                    let mut value = 0u64;
                    for _ in 0..if wide { 8 } else { 4 } {
                        value = value << 8 | byte()? as u64;
                    }
                    usize::try_from(value).map_err(|_| damaged())
                })
                .collect()
        };
        let (shape, chunk, block) = (list(true)?, list(false)?, list(false)?);
        let size = header.get(48..52).ok_or_else(damaged)?;
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if chunk.iter().zip(&block).zip(&shape).any(|((&c, &b), &s)| b == 0 || c == 0 || s > c)
            || size == 0
        {
            return Err(Error::refused(
                "blosc2 arrays of several chunks in one HDF5 chunk are not supported",
            ));
        }
        Ok(Some(Layout { shape, chunk, block, size }))
    }

    /// The elements of `shape` in C order.
    ///
    /// # Errors
    /// Corrupt where the bytes do not fit the layout.
    pub(super) fn straighten(&self, input: Vec<u8>) -> Result<Vec<u8>> {
        let rank = self.shape.len();
        let product = |dims: Vec<usize>| dims.into_iter().try_fold(self.size, usize::checked_mul);
        let blocks: Vec<usize> =
            self.chunk.iter().zip(&self.block).map(|(&c, &b)| c.div_ceil(b)).collect();
        let padded =
            product(blocks.iter().zip(&self.block).map(|(&n, &b)| n.saturating_mul(b)).collect());
        let whole = product(self.shape.clone());
        let (Some(padded), Some(whole)) = (padded, whole) else {
            return Err(Error::corrupt("a b2nd chunk is too large"));
        };
        if padded != input.len() || whole > input.len() {
            return Err(Error::corrupt(format!(
                "a b2nd chunk has {} bytes, expected {padded}",
                input.len()
            )));
        }
        let mut out = vec![0; whole];
        let last = rank - 1;
        let run = self.block[last];
        let mut at = vec![0usize; rank]; // the element where the run begins, padding counted
        for (index, bytes) in input.chunks_exact(run * self.size).enumerate() {
            // index counts runs: blocks in C order, runs of a block in C order.
            let mut rest = index;
            let mut inside = vec![0usize; rank];
            for d in (0..last).rev() {
                inside[d] = rest % self.block[d];
                rest /= self.block[d];
            }
            for d in (0..rank).rev() {
                at[d] = rest % blocks[d] * self.block[d] + inside[d];
                rest /= blocks[d];
            }
            if at.iter().zip(&self.shape).any(|(&a, &s)| a >= s) {
                continue;
            }
            let n = run.min(self.shape[last] - at[last]) * self.size;
            let to = at.iter().zip(&self.shape).fold(0, |o, (&a, &s)| o * s + a) * self.size;
            out[to..to + n].copy_from_slice(&bytes[..n]);
        }
        Ok(out)
    }
}
