//! `.npkg`, the packed store.
