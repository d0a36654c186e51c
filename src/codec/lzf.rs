//! LibLZF, without a header.

use super::limit::{Limit, damaged, room, too_long};
use crate::error::{Error, Result};

/// Decompresses.
///
/// # Errors
/// Corrupt.
pub fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>> {
    let mut out = room(limit.expected.unwrap_or(limit.most).min(input.len().saturating_mul(264)))?;
    let mut rest = input;
    let mut next = |n: usize| -> Result<&[u8]> {
        let (bytes, after) = rest.split_at_checked(n).ok_or_else(|| damaged("lzf"))?;
        rest = after;
        Ok(bytes)
    };
    while let Ok(&[control]) = next(1) {
        let control = usize::from(control);
        if control < 32 {
            out.extend_from_slice(next(control + 1)?);
        } else {
            let mut n = control >> 5;
            if n == 7 {
                n += usize::from(next(1)?[0]);
            }
            let back = ((control & 0x1F) << 8 | usize::from(next(1)?[0])) + 1;
            let start = out
                .len()
                .checked_sub(back)
                .ok_or_else(|| Error::corrupt("the lzf data refers to bytes before its start"))?;
            copy_back(&mut out, start, n + 2);
        }
        if out.len() > limit.most {
            return Err(too_long("lzf", limit.most));
        }
    }
    Ok(out)
}

/// Appends `n` bytes from `start` on, which may be among those that are being appended.
pub(super) fn copy_back(out: &mut Vec<u8>, start: usize, mut n: usize) {
    while n > 0 {
        let run = n.min(out.len() - start);
        out.extend_from_within(start..start + run);
        n -= run;
    }
}

/// Compresses as LibLZF does; `None` where that would not be smaller.
pub fn compress(input: &[u8]) -> Option<Vec<u8>> {
    const HASH_BITS: u32 = 15;
    let most = input.len().saturating_sub(1);
    let mut table = vec![u32::MAX; 1 << HASH_BITS];
    let mut out = Vec::with_capacity(input.len() / 2);
    let mut literals = 0; // start of the literals not yet written
    let flush = |out: &mut Vec<u8>, from: usize, to: usize| {
        for run in input[from..to].chunks(32) {
            out.push(run.len() as u8 - 1);
            out.extend_from_slice(run);
        }
    };
    let mut i = 0;
    while i + 3 <= input.len() {
        let key =
            u32::from(input[i]) << 16 | u32::from(input[i + 1]) << 8 | u32::from(input[i + 2]);
        let slot = (key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize;
        let seen = table[slot];
        table[slot] = i as u32;
        let back = i.wrapping_sub(seen as usize);
        if seen != u32::MAX
            && back <= 8192
            && input[seen as usize..seen as usize + 3] == input[i..i + 3]
        {
            let seen = seen as usize;
            let longest = (input.len() - i).min(264);
            let n = 3 + input[i + 3..i + longest]
                .iter()
                .zip(&input[seen + 3..])
                .take_while(|(a, b)| a == b)
                .count();
            flush(&mut out, literals, i);
            let (len, far) = (n - 2, back - 1);
            if len < 7 {
                out.push((far >> 8) as u8 | (len as u8) << 5);
            } else {
                out.push((far >> 8) as u8 | 7 << 5);
                out.push((len - 7) as u8);
            }
            out.push(far as u8);
            i += n;
            literals = i;
        } else {
            i += 1;
        }
        if out.len() + (i - literals) > most {
            return None;
        }
    }
    flush(&mut out, literals, input.len());
    (out.len() <= most).then_some(out)
}
