//! The shape of chunks where nothing else is asked for.

/// A chunk of at most `bytes` (one element at least) for an array of this shape: the last dimensions
/// stay whole as long as they fit; the first that does not is cut, those before it are 1.
pub fn default(shape: &[u64], item_bytes: u64, bytes: u64) -> Vec<u64> {
    let mut left = (bytes / item_bytes.max(1)).max(1);
    let mut chunk: Vec<u64> = shape.iter().map(|d| (*d).max(1)).collect();
    for c in chunk.iter_mut().rev() {
        *c = (*c).min(left).max(1);
        left /= *c;
    }
    chunk
}
