//! The chunks of an array as objects of a store: the pieces that the array engine reads.

use std::sync::Arc;

use super::store::Store;
use crate::array::{PieceLocation, Pieces};
use crate::error::{Error, Result};

/// How an array's chunks are named.
#[derive(Clone, Debug)]
pub enum ChunkKeys {
    /// `c/0/1`, or with dots.
    Default(char),
    /// `0.1`, or with slashes.
    V2(char),
}

impl ChunkKeys {
    /// The key of a chunk below the array's own.
    pub fn key(&self, at: &[u64]) -> String {
        let (mut key, separator) = match self {
            ChunkKeys::V2(_) if at.is_empty() => return "0".into(),
            ChunkKeys::Default(separator) => ("c".to_string(), *separator),
            ChunkKeys::V2(separator) => (String::new(), *separator),
        };
        for n in at {
            if !key.is_empty() {
                key.push(separator);
            }
            key.push_str(&n.to_string());
        }
        key
    }
}

/// The objects of an array.
pub struct ObjectPieces {
    /// Where they are.
    pub store: Arc<Store>,
    /// The array's path below the root; empty for the root.
    pub path: String,
    /// How they are named.
    pub keys: ChunkKeys,
    /// The most bytes that one can have.
    pub most: u64,
    /// Whether parts of them are read.
    pub is_divisible: bool,
}

impl ObjectPieces {
    fn key(&self, at: &[u64]) -> String {
        let key = self.keys.key(at);
        if self.path.is_empty() { key } else { format!("{}/{key}", self.path) }
    }
}

impl Pieces for ObjectPieces {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        let slice = self.store.slice(&self.key(at), self.most)?;
        Ok(slice.map(|slice| PieceLocation { slice, skipped: 0 }))
    }

    fn read(&self, at: &[u64], most: u64) -> Result<Option<(Vec<u8>, u32)>> {
        Ok(self.store.get(&self.key(at), most)?.map(|bytes| (bytes, 0)))
    }

    fn is_divisible(&self) -> bool {
        self.is_divisible
    }

    fn about(&self, error: Error, at: &[u64]) -> Error {
        error.about(format_args!("the chunk {}", self.keys.key(at)))
    }
}
