//! Per format: real files in, our files out to the real libraries, refusals, damage.

mod archives;
mod arrow_messages;
mod bools;
mod csv;
mod feather;
mod hdf5;
mod kept;
mod npk;
mod npk_grow;
mod npk_judge07;
mod npkg;
mod npy;
mod npy_types;
mod npz;
mod parquet;
mod pt;
mod pt_hostile;
mod pt_pickles;
pub mod pt_support;
mod safetensors;
mod store;
mod store_support;
mod text;
mod txt;
mod zarr;
mod zarr_floats;
mod zarr_tree;
