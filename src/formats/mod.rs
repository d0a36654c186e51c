//! The formats. A format is one file (or folder) here and one line in [`FORMATS`]; nothing else lists formats by hand.

use crate::format::Format;

pub mod arrow;
pub mod csv;
pub mod hdf5;
pub mod npk;
pub mod npkg;
pub mod npy;
pub mod npz;
pub mod parquet;
pub mod pt;
pub mod safetensors;
pub mod txt;
pub mod zarr;

/// Every format, in the order of the documentation and of detection.
#[rustfmt::skip]
pub static FORMATS: &[&dyn Format] = &[
    &npk::Npk,
    &npkg::Npkg,
    &npy::Npy,
    &npz::Npz,
    &safetensors::Safetensors,
    &pt::Pt,
    &parquet::Parquet,
    &arrow::Arrow,
    &hdf5::Hdf5,
    &zarr::Zarr,
    &csv::Csv,
    &txt::Txt,
];

/// The format of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|f| f.name() == name)
}
