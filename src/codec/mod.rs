//! Bytes to bytes: compression, checksums, shuffles, zip archives, pickles. Nothing here knows a
//! format.

pub mod block;
pub mod blosc;
pub mod checksum;
pub mod compress;
pub mod compressed;
pub mod decompress;
pub mod filters;
pub mod limit;
pub mod lzf;
pub mod npy_header;
pub mod numpy_elements;
pub mod numpy_types;
pub mod pickle;
pub mod shuffle;
pub mod zip;
