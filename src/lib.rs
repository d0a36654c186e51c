//! Converts array and table files between formats, exactly and fast. See the README for the `npk` command.
//!
//! The way of the data: [`location`] → [`format::Source`] → [`adapt`] → [`pipe`] → [`format::Sink`] → [`location`].

pub mod adapt;
// Its comments are clap's help texts, not rustdoc.
#[allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
pub mod cli;
pub mod cmd;
pub mod codec;
pub mod compare;
pub mod detect;
pub mod error;
pub mod format;
pub mod formats;
pub mod location;
pub mod model;
pub mod pipe;
pub mod report;
pub mod sidecar;
pub mod store;

pub use store::Store;
