//! Names of files for arrays, in stores `data_<name>.npkd`, spelled plainly wherever a file may be
//! called so.
//!
//! Numpack 0.4.5 always opens the plain spelling, so it is kept for every name that is a plain file
//! name. Escaped as `%XX` are `/`, NUL and control characters; further bytes only where two arrays
//! would meet in one file, also on disks that do not tell case. A name that would pass 255 bytes is
//! cut and a hash of it added.

use std::collections::HashSet;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Bytes that a file name may have.
const MAX_BYTES: usize = 255;

/// Names given so far, in one directory.
pub struct Names {
    taken: HashSet<String>,
    /// What stands before the array's name.
    before: &'static str,
    /// What stands behind it.
    after: String,
    /// No `..` anywhere: NumPack's `unpack` refuses it even inside a name.
    packed: bool,
}

impl Default for Names {
    /// The data files of a store.
    fn default() -> Names {
        Names { taken: HashSet::new(), before: "data_", after: ".npkd".into(), packed: false }
    }
}

impl Names {
    /// For the members of a packed store.
    pub fn packed() -> Names {
        Names { packed: true, ..Names::default() }
    }

    /// For files of another format, an array each.
    pub fn with_ending(ending: &str) -> Names {
        Names { before: "", after: format!(".{ending}"), ..Names::default() }
    }

    /// A data file that is there already.
    pub fn take(&mut self, file: &str) {
        self.taken.insert(file.to_lowercase());
    }

    /// The file for an array of this name.
    pub fn give(&mut self, name: &str) -> String {
        let chars = name.chars().count();
        let most = MAX_BYTES.saturating_sub(self.before.len() + self.after.len());
        let mut tries = [(false, 0), (true, 0)].into_iter().chain((1..=chars).map(|n| (true, n)));
        loop {
            let file = match tries.next() {
                Some((percent, first)) => escape(name, percent, first, self.packed, most),
                // Only names made to collide get here.
                None => hashed("", &format!("{name}\0{}", self.taken.len()), most),
            };
            let file = format!("{}{file}{}", self.before, self.after);
            if self.taken.insert(file.to_lowercase()) {
                return file;
            }
        }
    }
}

/// `percent`: escape `%`, too. `first`: so many characters from the first on are escaped whatever
/// they are.
fn escape(name: &str, percent: bool, first: usize, packed: bool, most: usize) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().enumerate().peekable();
    while let Some((i, c)) = chars.next() {
        let dots = packed && c == '.' && chars.peek().is_none_or(|&(_, next)| next == '.');
        if i < first || c == '/' || c.is_control() || c == '%' && percent || dots {
            let mut utf8 = [0; 4];
            for b in c.encode_utf8(&mut utf8).bytes() {
                let _ = write!(out, "%{b:02X}");
            }
        } else {
            out.push(c);
        }
    }
    if out.len() > most { hashed(&out, name, most) } else { out }
}

fn hashed(escaped: &str, name: &str, most: usize) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let mut cut = escaped.len().min(most - 17);
    while !escaped.is_char_boundary(cut) {
        cut -= 1;
    }
    // An escape is not cut in its middle.
    if let Some(p) = escaped[..cut].rfind('%')
        && p + 3 > cut
    {
        cut = p;
    }
    let mut out = format!("{}~", &escaped[..cut]);
    for b in &digest[..8] {
        let _ = write!(out, "{b:02x}");
    }
    out
}

/// Where NumPack keeps the deletion bitmap of an array, if its name can be part of a file name.
pub fn bitmap(name: &str) -> Option<String> {
    (!name.contains(['/', '\0']) && name.len() <= 255 - 13).then(|| format!("deleted_{name}.npkb"))
}
