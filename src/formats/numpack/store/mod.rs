//! What the store (`.npk`, a directory) and the packed store (`.npkg`, one file) share: NumPack's
//! metadata, the names of data files, segment manifests, deletion bitmaps, and the reader over all
//! of them.

pub mod bitmap;
pub mod cursor;
mod data_files;
mod files;
pub mod manifest;
pub mod metadata;
pub mod names;
mod read;
mod rows;
mod stored;

pub use files::{Files, METADATA, SIDE, check_path, check_side, read_side};
pub use read::StoreSource;
pub use stored::{Stored, read_metadata, stored_arrays};
