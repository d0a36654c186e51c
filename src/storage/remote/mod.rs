//! Object storage, HTTP and hubs: `s3://`, `gs://`, `az://`, `http(s)://`, `hf://`.
//!
//! A [`RemoteBackend`] is one bucket (or one web server), seen by its keys. The first look at an
//! object is a ranged GET of its head, which tells length and version and is kept: what a format
//! is, its header and its metadata usually come out of that one request. Everything read later is
//! pinned to that version. All waiting happens in one small runtime; callers block.

mod backend;
mod blob;
mod client;
mod connection;
mod credentials;
mod date;
mod directory;
mod environment;
mod errors;
mod expand;
mod hub;
mod listing;
mod look;
mod memory;
mod object;
mod object_record;
mod odd_keys;
mod open;
mod options;
mod profiles;
mod retry;
mod runtime;
mod upload;
mod url;
mod whole;
mod windows;
mod wire;

pub use connection::RemoteBackend;
pub use expand::{expand, walk};
pub use open::{display, is_url, locate, open};
pub use options::RemoteOptions;
