//! Converts array and table files between formats, exactly and fast: what the `npk` command does, as a
//! library. README describes the command, `docs/library.md` shows more of this page.
//!
//! | for | call |
//! |---|---|
//! | reading a file of any format, array by array | [`open`] → [`Dataset`] → [`Array`] |
//! | writing and changing a NumPack store from memory | [`Store::create`], [`Store::open`], [`Data`] |
//! | converting files | [`convert`] with [`Options`] → [`Report`] |
//! | what went wrong, in which file and array, and what to do | [`Error`], [`ErrorKind`] |
//! | ending work before its time | [`Cancel`] |
//!
//! ```
//! # fn main() -> npk::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! use ndarray::{Array2, arr1};
//! use npk::{OpenOptions, Options, Store, StoreOptions};
//!
//! // Arrays in memory become a store: all of it at `commit`.
//! let weights = Array2::<f32>::from_elem((4, 3), 0.5);
//! let mut store = Store::create("model.npk", &StoreOptions::new())?;
//! store.write("weights", &weights)?;
//! store.write("bias", &arr1(&[0.25f32, 0.5, 1.0]))?;
//! store.commit()?;
//!
//! // A file of any format, array by array: here as views of the file, without a copy.
//! let file = npk::open("model.npk", &OpenOptions::new())?;
//! for name in file.names() {
//!     let array = file.array(name)?;
//!     println!("{name}: {} {:?}", array.info().type_name(), array.shape());
//! }
//! assert_eq!(file.array("weights")?.view::<f32>()?.sum(), 6.0);
//!
//! // npk convert model.npk model.safetensors -a weights
//! npk::convert(&["model.npk"], "model.safetensors", &Options::new().arrays(["weights"]))?;
//! # Ok(())
//! # }
//! ```
//!
//! An [`Array`] is a view of the file itself where its bytes lie there as in memory, and says whether it
//! is; it gives ndarray views, Arrow arrays, bytes and (feature `dlpack`) DLPack tensors of them. None of
//! these calls prints, ends the process, or reads the environment for options. What they take and give
//! keeps its meaning within a version `0.x`, and from 1.0 on; the modules below are the inside, and
//! change.
//!
//! # The inside
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
//! | `resources` | what a run may take: threads, one memory limit; how it is ended and watched |
//! | [`mod@compare`] | compares two sources, for `npk diff` and `--verify` |
//! | `batch` | many inputs as units of work: patterns, lists, outputs, what exists, shares |
//! | `conversion` | one conversion after the other: what comes in, what is written, what is told of it |
//! | [`cli`], [`commands`], [`console`] | the arguments, the commands, and everything that is printed |
//! | [`error`] | the one error type; its kind decides the exit code |
//! | `api` | the library's own calls, which stand above |
//!
//! A bug in one format is in its folder under `formats/`, or in what its family shares beside it. A
//! format knows neither the command line nor other formats nor threads; `resolve` and `pipe` know
//! no format by name.

// What only some formats use is no fault where these are left out.
#![cfg_attr(
    not(all(feature = "hdf5", feature = "parquet", feature = "remote")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("npk maps files of any size and counts in 64 bits: build it for a 64-bit platform");
#[cfg(not(target_endian = "little"))]
compile_error!(
    "npk keeps arrays as they are stored, little-endian: big-endian platforms do not work"
);

pub(crate) mod api;
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
mod conversion;
pub mod detect;
pub mod error;
pub mod format;
pub mod formats;
pub mod model;
mod open;
pub mod ops;
pub mod pipe;
pub mod resolve;
mod resources;
pub(crate) mod sidecar;
pub mod storage;

pub use api::{
    Array, Data, Dataset, Element, Info, OnMessage, OpenOptions, Options, Report, Scalar, Store,
    StoreOptions, convert, open,
};
pub use console::{Level, Told};
pub use error::{Error, ErrorKind, Result};
pub use model::Dtype;
pub use pipe::Cancel;
pub use resolve::table::Layout;
