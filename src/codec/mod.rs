//! What two or more formats share. Nothing here knows a format.

pub mod arrow_model;
pub mod blosc;
pub mod checksum;
pub mod compress;
pub mod compressed;
pub mod decompress;
pub mod foreign;
pub mod json_float;
pub mod lzf;
pub mod names;
pub mod npy_data;
pub mod npy_header;
pub mod numpy_types;
pub mod padded_text;
pub mod pickle;
pub mod raw;
pub mod shards;
pub mod shuffle;
pub mod store;
pub mod text;
pub mod text_codes;
pub mod unique_map;
pub mod zip;
pub mod zip_write;
