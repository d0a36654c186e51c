//! Mapped views of a store.
