//! `npk._npk`: the library's calls for Python. What is Python's own way of things is in `npk/`.

use pyo3::prelude::*;

mod array;
mod convert;
mod data;
mod file;
mod interop;
mod store;
mod work;

/// Asks for a clean end of the running conversions of other threads, and reads files, without Python's lock.
#[pymodule]
fn _npk(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<array::Array>()?;
    module.add_class::<file::File>()?;
    module.add_class::<store::Store>()?;
    module.add_function(wrap_pyfunction!(convert::convert, module)?)?;
    Ok(())
}
