//! Per format: real files in, our files out to the real libraries, refusals, damage.

mod csv;
mod npk;
mod npkg;
mod hdf5;
mod npy;
mod parquet;
mod pt;
mod safetensors;
mod store;
mod store_support;
mod zarr;
mod txt;
