//! The one integration-test binary: everything here runs the built `npk` or the library as a user
//! would.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod array;
mod codec;
mod commands;
mod compressed;
mod convert;
mod corpus;
mod crates;
mod damage;
mod dequantize;
mod detect;
#[cfg(all(feature = "hdf5", feature = "remote"))]
mod docs;
mod engines;
mod errors;
mod faults;
mod figures;
mod formats;
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
mod fuzzing;
mod generated;
mod library;
mod looks;
mod machines;
mod matrix;
mod memory;
mod outputs;
mod pages;
mod profiles;
mod property;
mod python;
mod regression;
#[cfg(feature = "remote")]
mod remote;
mod resolve;
mod slurm;
mod sources;
mod structure;
mod support;
mod tables;
mod terminal;
mod times;
mod together;
mod values;
mod verification;
