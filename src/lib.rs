//! Converts array and table files between formats, exactly and fast. The README describes the `npk`
//! command; this page says where things are.
//!
//! Readers and writers meet at one small [`model`]: named n-dimensional arrays, delivered in chunks
//! of whole rows. So every format converts to every other. Data flows one way:
//!
//! [`storage`] → [`format::Source`] → [`resolve`] → [`pipe`] → [`format::Sink`] → [`storage`]
//!
//! | module | what it does |
//! |---|---|
//! | [`formats`] | the formats by family: one file or folder each, and one line in [`formats::FORMATS`] |
//! | [`mod@format`] | the traits that a format implements, and the order in which they are called |
//! | [`mod@array`] | the array engine: maps of located, encoded pieces, and the one reader of all of them |
//! | [`codec`] | bytes to bytes: compression, checksums, shuffles, zip, pickles |
//! | [`model`] | dtypes, arrays, tables, chunks |
//! | `arrow_model` | the model's types as Arrow's, and nested columns |
//! | [`sidecar`] | `npk.json`: what a NumPack store cannot hold itself (time units, nulls, categories) |
//! | [`storage`] | local paths, object storage, stdin and stdout; outputs that appear whole or not at all |
//! | [`detect`] | which format an input or output has |
//! | [`resolve`] | what becomes of the arrays: choosing, renaming, casts, tables, what the output lacks. Reads nothing |
//! | [`ops`] | what recipes are made of: one change of the chunks of an array each |
//! | [`pipe`] | executes recipes: threads, memory limit, order, joined sources, copies by the kernel |
//! | [`mod@compare`] | compares two sources, for `npk diff` and `--verify` |
//! | `batch` | many inputs as units of work: patterns, lists, outputs, what exists, shares |
//! | [`cli`], [`commands`], [`console`] | the arguments, the commands, and everything that is printed |
//! | [`error`] | the one error type; its kind decides the exit code |
//! | [`mod@store`] | the library's own view of a store: arrays mapped without a copy |
//!
//! A bug in one format is in its folder under `formats/`, or in what its family shares beside it. A
//! format knows neither the command line nor other formats nor threads; `resolve` and `pipe` know
//! no format by name.

pub mod array;
pub(crate) mod arrow_model;
mod batch;
// Its comments are clap's help texts, not rustdoc.
#[allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
pub mod cli;
pub mod codec;
pub mod commands;
pub mod compare;
pub mod console;
pub mod detect;
pub mod error;
pub mod format;
pub mod formats;
pub mod model;
pub mod ops;
pub mod pipe;
pub mod resolve;
pub(crate) mod sidecar;
pub mod storage;
pub mod store;

pub use store::Store;
