//! The reference to a chunk.

use crate::storage::Origin;

/// The reference to a chunk.
pub(super) enum Chunk {
    At(Origin),
    Inside(Vec<u8>),
    Missing,
}

/// A local path as fsspec finds it whatever else is referred to.
pub(super) fn url(address: &str) -> String {
    if address.starts_with('/') { format!("file://{address}") } else { address.to_string() }
}
