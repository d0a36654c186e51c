//! What recipes are made of. An [`Op`] is one change of the chunks of an array; it says whether it
//! looks at one chunk alone, or needs the rows of several arrays or all chunks in order.
//!
//! Nothing here reads, writes or starts a thread: the pipe executes recipes. To add an op, add a
//! variant to [`Op`], its reach to [`Op::needs`] and what it does to `apply.rs` (in order:
//! `ordered.rs`).

mod apply;
pub mod cast;
mod decimal;
pub mod dequantize;
pub mod dictionary;
mod distinct_texts;
mod fill;
pub mod float8;
mod lists;
mod matrix;
mod nested;
mod op;
mod ordered;
mod recipe;
pub mod time;

pub use lists::Lists;
pub use nested::{Part, PartOf};
pub use op::{
    Codes, Dequantize, DequantizeInput, Global, Info, Needs, Op, Recipe, Stack, StackedColumn,
};
pub use ordered::{InOrder, compact};
pub use recipe::{Portion, Recipes};
