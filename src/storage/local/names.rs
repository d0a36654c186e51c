//! Names of temporary siblings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::storage::platform;

/// In the name of a temporary sibling.
pub(in crate::storage) const MARK: &str = ".npk-tmp-";
/// Where `renameat2` cannot exchange, the old directory steps aside under this mark.
pub(in crate::storage) const ASIDE: &str = ".npk-old-";

pub(in crate::storage) fn temp_name(name: &OsStr, mark: &str) -> OsString {
    let mut random = [0u8; 8];
    if platform::random(&mut random).is_err() {
        random = (std::process::id() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    }
    marked_name(name, &format!("{mark}{:016x}", u64::from_le_bytes(random)))
}

/// A hidden name for something that belongs to `name`.
pub(in crate::storage) fn marked_name(name: &OsStr, mark: &str) -> OsString {
    // A name may be as long as the file system allows: the mark takes up to 28 bytes of it.
    let keep = name.as_bytes();
    let mut cut = keep.len().min(220);
    while cut > 0 && cut < keep.len() && keep[cut] & 0xC0 == 0x80 {
        cut -= 1;
    }
    let mut marked = OsString::from(".");
    marked.push(OsStr::from_bytes(&keep[..cut]));
    marked.push(mark);
    marked
}
