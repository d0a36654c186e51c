//! What the walk through a pickle finds: tensors and arrays by name, and the storages that they are
//! in.

use std::ops::Range;

use indexmap::IndexMap;
use serde_json::Value;

use crate::codec::pickle::numpy::Raw;
use crate::error::Error;
use crate::model::{Attributes, Dtype, Logical};
use crate::storage::BlobSlice;

/// What is done to the values after the strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LazyOp {
    Plain,
    Conjugate,
    Negate,
    /// Conjugated, then negated.
    NegateConjugate,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Index into [`Walk::storages`].
    pub storage: usize,
    pub dtype: Dtype,
    pub logical: Logical,
    /// In elements, as the strides.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub lazy_op: LazyOp,
    /// Lies in an untyped storage. torch.load turns the bytes of a typed storage around where the
    /// archive's byte order is another one, those of an untyped one never; so it is done here.
    pub untyped: bool,
    pub requires_grad: bool,
    pub class: Option<String>,
}

/// A numpy array inside the pickle.
pub(super) struct Numpy {
    pub dtype: Dtype,
    pub logical: Logical,
    pub shape: Vec<u64>,
    /// In elements.
    pub strides: Vec<u64>,
    pub big_endian: bool,
    /// Shared by all arrays over the same bytes of the pickle.
    pub bytes: BlobSlice,
    pub requires_grad: bool,
    /// Where `bytes` are from.
    pub raw: Raw,
}

/// Something that the walk found.
pub(super) enum EntryKind {
    Tensor(Tensor),
    Numpy(Numpy),
    /// Cannot be read: what it is, and why.
    Refused(String, Error),
}

pub(super) struct Entry {
    pub name: String,
    pub kind: EntryKind,
}

/// A storage that tensors ask for.
#[derive(Clone, Debug)]
pub(super) struct StorageSpec {
    pub bytes: u64,
    pub item_bytes: u64,
}

/// A tensor of which parts are in the file.
#[derive(Clone, Debug, Default)]
pub(in crate::formats::checkpoint) struct Sharded {
    pub name: String,
    /// Of the whole.
    pub shape: Vec<u64>,
    /// The parts here among all that was found …
    pub found: Range<usize>,
    /// … and where in the whole each of them is: its first element, its shape.
    pub places: Vec<(Vec<u64>, Vec<u64>)>,
    /// The parts of all ranks, where they are listed.
    pub all: Vec<(Vec<u64>, Vec<u64>, Option<u64>)>,
    /// How many ranks there are, where that is said instead.
    pub ranks: u64,
}

/// All that a checkpoint holds.
#[derive(Default)]
pub(super) struct Walk {
    pub found: Vec<Entry>,
    /// Tensors in parts; the parts are among `found`.
    pub sharded: Vec<Sharded>,
    pub storages: IndexMap<String, StorageSpec>,
    /// Plain values, nested as in the checkpoint.
    pub attributes: Attributes,
    /// How the checkpoint was nested, where names alone do not tell.
    pub structure: Option<Value>,
    pub notes: Vec<String>,
    /// Whether anything like a tensor was there, readable or not.
    pub tensors: usize,
}
