//! Copies bytes file to file in the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::format::Extent;

/// Cuts two descriptions of the same bytes into matching pieces of at most `piece` bytes.
///
/// # Errors
/// When the lengths differ (an internal fault, or a hostile header that got this far).
pub(super) fn pair(from: &[Extent], to: &[Extent], piece: u64) -> Result<Vec<(Extent, Extent)>> {
    let total = |e: &[Extent]| e.iter().map(|e| e.len).sum::<u64>();
    if total(from) != total(to) {
        return Err(Error::corrupt(format!("{} bytes are there, {} were announced", total(from), total(to))));
    }
    let (mut pairs, mut f, mut t) = (Vec::new(), from.iter().cloned(), to.iter().cloned());
    let (mut a, mut b) = (f.next(), t.next());
    while let (Some(x), Some(y)) = (&mut a, &mut b) {
        let n = x.len.min(y.len).min(piece);
        if n > 0 {
            pairs.push((Extent { len: n, ..x.clone() }, Extent { len: n, ..y.clone() }));
        }
        for e in [&mut *x, &mut *y] {
            e.offset += n;
            e.len -= n;
        }
        if x.len == 0 {
            a = f.next();
        }
        if b.as_ref().is_some_and(|y| y.len == 0) {
            b = t.next();
        }
    }
    Ok(pairs)
}

/// Copies one piece; `read` and `write` failures are told apart by the caller's context.
///
/// # Errors
/// Corrupt where the source ends early (it was truncated since it was opened); disk full and the like.
pub(super) fn copy(from: &Extent, to: &Extent) -> Result<()> {
    let (mut read, mut write, mut left) = (from.offset, to.offset, from.len);
    while left > 0 {
        let n = left.min(1 << 30) as usize;
        match rustix::fs::copy_file_range(&from.file, Some(&mut read), &to.file, Some(&mut write), n) {
            Ok(0) => return Err(ends_early(from)),
            Ok(done) => left -= done as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::IO | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG)) => {
                return Err(io::Error::from(e).into());
            }
            Err(_) => return plain(&from.file, read, &to.file, write, left, from),
        }
    }
    Ok(())
}

fn ends_early(from: &Extent) -> Error {
    Error::corrupt(format!("the file ended before byte {}; it was cut while it was read", from.offset + from.len))
}

/// Through a buffer: across file systems that the kernel does not bridge.
fn plain(from: &File, mut read: u64, to: &File, mut write: u64, mut left: u64, extent: &Extent) -> Result<()> {
    let mut buffer = vec![0; left.min(1 << 20) as usize];
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        let got = match from.read_at(&mut buffer[..n], read) {
            Ok(0) => return Err(ends_early(extent)),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::reading(e)),
        };
        to.write_all_at(&buffer[..got], write)?;
        read += got as u64;
        write += got as u64;
        left -= got as u64;
    }
    Ok(())
}
