//! The formats, by family. A format is one file (or folder), its line here and one line in
//! [`FORMATS`]; nothing else lists formats by hand. What only one family needs is beside its
//! formats.

use crate::format::Format;

/// NumPy's own files.
pub mod numpy {
    pub mod npy;
    pub mod npz;
    pub mod pickled;
    pub mod raw;

    mod npy_data;
    mod padded_text;
}
/// NumPack's stores and packages.
pub mod numpack {
    pub mod npk;
    pub mod npkg;

    pub(crate) mod store;
}
/// Files of tensors by name.
pub mod checkpoint {
    pub mod dcp;
    pub mod deepspeed;
    pub mod fsdp;
    pub mod gguf;
    pub mod pytorch;
    pub mod safetensors;

    mod ranks;
    pub(crate) mod shards;
    mod unique_map;
}
/// Arrays of other programs, a file each.
pub mod arrays {
    pub mod idx;
    pub mod matlab;
}
/// Tables by columns, of Arrow's types.
pub mod columnar {
    pub mod feather;
    pub mod parquet;

    pub(crate) mod batches;
    pub(crate) mod export;
    mod names;
}
/// Arrays in groups, in chunks.
pub mod hierarchical {
    pub mod hdf5;
    pub mod netcdf3;
    pub mod zarr;

    mod attributes;
    mod chunk_shape;
}
/// Tables as text.
pub mod text {
    pub mod csv;
    pub mod txt;

    pub mod delimited;
}

/// Every format, in the order of the documentation and of detection.
#[rustfmt::skip]
pub static FORMATS: &[&dyn Format] = &[
    &numpack::npk::Npk,
    &numpack::npkg::Npkg,
    &numpy::npy::Npy,
    &numpy::npz::Npz,
    // Before safetensors, in which some of its files are.
    &checkpoint::dcp::Dcp,
    &checkpoint::safetensors::Safetensors,
    &checkpoint::deepspeed::DeepSpeed,
    // Before pt, in which each of its files is.
    &checkpoint::fsdp::Fsdp,
    &checkpoint::pytorch::Pytorch,
    &checkpoint::gguf::Gguf,
    &columnar::parquet::Parquet,
    &columnar::feather::Feather,
    &arrays::matlab::Matlab,
    &hierarchical::hdf5::Hdf5,
    &hierarchical::netcdf3::Netcdf3,
    &hierarchical::zarr::Zarr,
    &text::csv::Csv,
    &text::txt::Txt,
    &arrays::idx::Idx,
    &numpy::pickled::Pickled,
    &numpy::raw::Raw,
];

/// The format of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|f| f.spec().name == name)
}
