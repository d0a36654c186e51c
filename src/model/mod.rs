//! The one model in which all formats meet: named n-dimensional arrays, delivered in chunks of
//! whole rows.
//!
//! Values are C order, little-endian and unpadded. Shapes are written `[rows, d1, d2]`. A rank-0
//! array has one row and `scalar` set. Sizes are `u64` and checked; nothing is allocated from a
//! header before it was compared with the file.

mod array;
mod categories;
mod chunk;
mod common_rows;
mod decimal;
mod dtype;
pub mod iso8601;
pub mod json_float;
mod logical;
pub mod nested;
mod shared;
mod table;

pub use array::{ArrayMeta, Details, Facts, FillValue, checked_product};
pub use categories::{Categories, CategoryIndex, CategoryKind};
pub use chunk::{Chunk, Mask, Values, buf_from, codes_of, item_of, typed};
pub use common_rows::CommonRows;
pub use decimal::Decimals;
pub use dtype::Dtype;
pub use logical::{Logical, TimeUnit};
pub use nested::Nested;
pub use shared::Shared;
pub use table::{Column, EncodedArray, Encoding, Plan, Table};

/// Bytes of a chunk: reference counted, sliced without a copy, from a `Vec` of any plain type
/// without a copy.
pub use arrow_buffer::Buffer as Buf;

/// A JSON object whose keys keep their order: attributes and metadata.
pub type Attributes = serde_json::Map<String, serde_json::Value>;
