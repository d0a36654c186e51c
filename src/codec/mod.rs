//! What two formats share. Knows no format.

mod blosc2;
mod blosc2_nd;
pub mod filters;
pub mod store;
