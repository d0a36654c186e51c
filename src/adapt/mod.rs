//! Model to model: choosing, renaming, rows, casts, joining, tables, and fitting to what a sink can
//! hold. Names no format.
//!
//! Changes that look at each chunk alone wrap the source ([`view::View`], [`rows::slice`],
//! [`join`]); those that need the chunks in order are [`crate::format::Stage`]s.

pub mod cast;
pub mod fit;
pub mod float8;
pub mod fold;
pub mod join;
pub mod names;
pub mod parked;
pub mod partitions;
pub mod restore;
pub mod rows;
pub mod stages;
pub mod table;
pub mod time;
pub mod view;
