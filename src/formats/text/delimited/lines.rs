//! Lines of a text, for messages and for those that are left out at its start.

use crate::error::{Error, Result};
use crate::storage::Blob;

/// Adds the line of a byte to an error.
pub fn at_line(blob: &dyn Blob, at: u64, error: Error) -> Error {
    let line = line_of(blob, at);
    let message = match line {
        Ok(line) => format!("line {line}: {}", error.message()),
        Err(_) => format!("byte {at}: {}", error.message()),
    };
    let new = Error::new(error.kind(), message);
    match error.hint_text() {
        Some(hint) => new.hint(hint),
        None => new,
    }
}

fn line_of(blob: &dyn Blob, at: u64) -> Result<u64> {
    let (mut lines, mut from) = (LineEnds::default(), 0);
    let mut buffer = vec![0; 1 << 18];
    while from < at {
        let n = (at - from).min(buffer.len() as u64) as usize;
        blob.read_at(from, &mut buffer[..n])?;
        lines.count(&buffer[..n], u64::MAX);
        from += n as u64;
    }
    Ok(1 + lines.ended)
}

/// Where the text goes on after `lines` lines from `start` on.
///
/// # Errors
/// Reading errors.
pub fn skip_lines(blob: &dyn Blob, start: u64, lines: u64) -> Result<u64> {
    let (mut ends, mut at) = (LineEnds::default(), start.min(blob.len()));
    let mut buffer = vec![0; 1 << 16];
    while ends.ended < lines && at < blob.len() {
        let n = (blob.len() - at).min(buffer.len() as u64) as usize;
        blob.read_at(at, &mut buffer[..n])?;
        at += ends.count(&buffer[..n], lines) as u64;
    }
    // The second half of the last line end.
    let mut next = [0];
    if ends.half && at < blob.len() {
        blob.read_at(at, &mut next)?;
    }
    Ok(at + u64::from(next == *b"\n"))
}

/// Counts line ends of all kinds: `\n`, `\r\n`, `\r`.
#[derive(Default)]
struct LineEnds {
    ended: u64,
    /// Whether the last byte was a `\r`: a `\n` after it is the same line end.
    half: bool,
}

impl LineEnds {
    /// Counts until there are `most`; returns the bytes that it took.
    fn count(&mut self, bytes: &[u8], most: u64) -> usize {
        let mut last = None;
        for at in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            if self.ended == most {
                break;
            }
            let joined =
                bytes[at] == b'\n' && if at == 0 { self.half } else { bytes[at - 1] == b'\r' };
            self.ended += u64::from(!joined);
            last = Some(at);
        }
        let used = if self.ended == most { last.map_or(0, |at| at + 1) } else { bytes.len() };
        if used > 0 {
            self.half = bytes[used - 1] == b'\r';
        }
        used
    }
}
