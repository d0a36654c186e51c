//! What pandas' `to_hdf` writes: frames and series in the fixed and table layouts of PyTables.

/// A column that is made from what the file holds.
pub(super) struct Column;
