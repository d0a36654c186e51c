//! One number for all that is certified: the root of a Merkle tree as RFC 6962 has it.
//!
//! A leaf is the SHA-256 of the byte 0 and the JSON text of a line's `certified`, a node that of
//! the byte 1 and its two children. Leaves are in the order of the report's lines, whatever shares
//! they come from.

use serde_json::Value;
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// A tree whose leaves come one after the other.
#[derive(Default)]
pub(crate) struct Tree {
    /// The roots of the full trees so far, each with its height; the highest first.
    full: Vec<(u32, Hash)>,
}

impl Tree {
    /// Adds the line of a report, if it certifies something.
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<Value>(line) {
            self.push(&value);
        }
    }

    /// The same of a line that is parsed.
    pub(crate) fn push(&mut self, line: &Value) {
        let Some(certified) = line.get("certified") else { return };
        let mut hash = hash(0, &[certified.to_string().as_bytes()]);
        let mut height = 0;
        while let Some(&(_, left)) = self.full.last().filter(|(h, _)| *h == height) {
            hash = self::hash(1, &[&left, &hash]);
            height += 1;
            self.full.pop();
        }
        self.full.push((height, hash));
    }

    /// The root, in hexadecimal digits; none of no leaves.
    pub(crate) fn root(&self) -> Option<String> {
        let mut from_right = self.full.iter().rev().map(|(_, hash)| *hash);
        let last = from_right.next()?;
        let root = from_right.fold(last, |right, left| hash(1, &[&left, &right]));
        Some(root.iter().map(|b| format!("{b:02x}")).collect())
    }
}

fn hash(kind: u8, parts: &[&[u8]]) -> Hash {
    let mut sha = Sha256::new();
    sha.update([kind]);
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}
