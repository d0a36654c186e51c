//! Tables as text: what CSV and TXT share.
//!
//! * [`number`]: numbers from text, correctly rounded; [`type_inference`]: what a column's cells have in
//!   common.
//! * [`dialect`]: what separates cells and rows; [`input`]: bytes as UTF-8, decompressed, with
//!   ranged reads.
//! * [`parse`] turns a block of whole rows into columns, [`scan`] does that for a file on all
//!   threads and keeps the values in an unnamed temporary file, [`source`] reads them back.
//! * [`mod@print`]: numbers and times as text; [`sink`]: outputs of them.
//!
//! # One optimistic pass
//! A column's type must hold for every cell of the file, so every cell is parsed when the file is
//! opened. The values are kept (in a temporary file, column by column within each block of rows),
//! so that they need no second parse. A block guesses the types from the blocks before it; only
//! where the whole file refutes a guess is a column of that block parsed once more.

mod delimiter_check;
pub mod dialect;
mod encoder;
mod inexact_numbers;
pub(crate) mod input;
mod lines;
pub mod number;
pub mod parse;
pub mod print;
mod rows;
pub mod scan;
pub(crate) mod sink;
pub(crate) mod source;
pub mod spooled;
pub mod type_inference;
