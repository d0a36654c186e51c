//! Packed stores.
