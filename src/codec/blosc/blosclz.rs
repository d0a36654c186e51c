//! BloscLZ, Blosc's own compressor.

use crate::error::{Error, Result};

/// An error of bytes in a chunk that no encoder writes.
pub(super) fn damaged(what: &str) -> Error {
    Error::corrupt(format!("a blosc chunk is damaged: {what}"))
}

/// Decompresses a stream that fills `out`.
///
/// # Errors
/// Corrupt.
pub(super) fn decompress(input: &[u8], out: &mut [u8]) -> Result<()> {
    let (mut input, mut at) = (input.iter(), 0usize);
    let cut = || damaged("a blosclz stream is cut");
    let too_long = || damaged("a blosclz stream is too long");
    let mut control = usize::from(*input.next().ok_or_else(cut)? & 31);
    loop {
        if control >= 32 {
            let mut len = (control >> 5) - 1;
            let high = (control & 31) << 8;
            if len == 6 {
                loop {
                    let code = *input.next().ok_or_else(cut)?;
                    len += usize::from(code);
                    if code != 255 {
                        break;
                    }
                }
            }
            let code = usize::from(*input.next().ok_or_else(cut)?);
            let mut back = high + code;
            if code == 255 && high == 31 << 8 {
                back = usize::from(*input.next().ok_or_else(cut)?) << 8;
                back += usize::from(*input.next().ok_or_else(cut)?) + 8191;
            }
            // A match at the very end is never copied: the reference decoder stops before it.
            let Some(&next) = input.next() else { break };
            let (start, end) = (
                at.checked_sub(back + 1).ok_or_else(|| damaged("a match before the start"))?,
                at + len + 3,
            );
            if end > out.len() {
                return Err(too_long());
            }
            // A match may reach into itself: what is there doubles each time.
            while at < end {
                let run = (end - at).min(at - start);
                out.copy_within(start..start + run, at);
                at += run;
            }
            control = usize::from(next);
        } else {
            let (run, after) = input.as_slice().split_at_checked(control + 1).ok_or_else(cut)?;
            out.get_mut(at..at + run.len()).ok_or_else(too_long)?.copy_from_slice(run);
            at += run.len();
            input = after.iter();
            let Some(&next) = input.next() else { break };
            control = usize::from(next);
        }
    }
    if at == out.len() {
        Ok(())
    } else {
        Err(damaged(&format!("a stream holds {at} bytes, expected {}", out.len())))
    }
}
