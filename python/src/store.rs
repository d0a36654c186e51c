//! Stores being written.

use std::sync::Mutex;

use npk::{Cancel, Layout, StoreOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::data::{self, Given};
use crate::interop;
use crate::work::{raise, run};

/// A store, and changes that all appear at `commit()`.
#[pyclass(frozen, module = "npk")]
pub struct Store {
    store: Mutex<npk::Store>,
    cancel: Cancel,
}

impl Store {
    /// Changes it, without Python's lock.
    fn change<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut npk::Store) -> npk::Result<T> + Send,
    ) -> PyResult<T> {
        run(
            py,
            &self.cancel,
            |_| Ok(()),
            || work(&mut self.store.lock().unwrap_or_else(|e| e.into_inner())),
        )
    }
}

#[pymethods]
impl Store {
    /// Begins a store (`mode` "create" or "replace"), or opens one ("edit").
    #[new]
    #[pyo3(signature = (path, mode="create", metadata=Vec::new()))]
    fn new(
        py: Python<'_>,
        path: String,
        mode: &str,
        metadata: Vec<(String, String)>,
    ) -> PyResult<Store> {
        let cancel = Cancel::new();
        let mut options = StoreOptions::new().cancel(&cancel);
        for (key, value) in &metadata {
            options = options.metadata(key, value);
        }
        let store = match mode {
            "edit" => npk::Store::open_with(&path, &options),
            "replace" => npk::Store::create(&path, &options.replace()),
            "create" => npk::Store::create(&path, &options),
            other => return Err(PyValueError::new_err(format!("there is no mode '{other}'"))),
        };
        let store = Mutex::new(store.map_err(|e| raise(py, &e))?);
        Ok(Store { store, cancel })
    }
    /// The names of the arrays on disk.
    fn names(&self) -> Vec<String> {
        let store = self.store.lock().unwrap_or_else(|e| e.into_inner());
        store.names().map(str::to_string).collect()
    }
    /// Writes an array; with `replace` in the place of one of its name.
    #[pyo3(signature = (name, data, replace=false))]
    fn write(
        &self,
        py: Python<'_>,
        name: &str,
        data: &Bound<'_, PyAny>,
        replace: bool,
    ) -> PyResult<()> {
        let given = Given::new(data)?;
        self.change(py, |store| {
            let data = given.data().map_err(|e| e.array(name))?;
            match replace {
                true => store.replace(name, data),
                false => store.write(name, data),
            }
        })
    }
    /// Writes several arrays, together.
    fn write_all(&self, py: Python<'_>, arrays: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<()> {
        let given = data::all(py, arrays)?;
        self.change(py, |store| {
            let arrays = given.iter().map(|(name, given)| Ok((name, given.data()?)));
            store.write_all(arrays.collect::<npk::Result<Vec<_>>>()?)
        })
    }
    /// Writes a table: an object with `__arrow_c_stream__`.
    #[pyo3(signature = (name, table, layout="auto"))]
    fn write_table(
        &self,
        py: Python<'_>,
        name: &str,
        table: &Bound<'_, PyAny>,
        layout: &str,
    ) -> PyResult<()> {
        let layout = match layout {
            "auto" => Layout::Auto,
            "columns" => Layout::Columns,
            "matrix" => Layout::Matrix,
            other => return Err(PyValueError::new_err(format!("there is no layout '{other}'"))),
        };
        let (schema, mut batches) = interop::batches(table)?;
        if batches.is_empty() {
            batches.push(arrow_array::RecordBatch::new_empty(schema));
        }
        self.change(py, |store| store.write_table(name, &batches, layout))
    }
    /// Adds rows to arrays that are there, at once.
    fn append(&self, py: Python<'_>, arrays: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<()> {
        let given = data::all(py, arrays)?;
        self.change(py, |store| {
            let rows = given.iter().map(|(name, given)| Ok((name, given.data()?)));
            store.append(rows.collect::<npk::Result<Vec<_>>>()?)
        })
    }
    fn remove(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.change(py, |store| store.remove(name))
    }
    fn rename(&self, py: Python<'_>, old: &str, new: &str) -> PyResult<()> {
        self.change(py, |store| store.rename(old, new))
    }
    /// All changes appear.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, npk::Store::commit)
    }
    /// Forgets the changes so far.
    fn discard(&self) {
        self.store.lock().unwrap_or_else(|e| e.into_inner()).discard();
    }
    /// Notes on what was written.
    fn messages(&self) -> Vec<String> {
        let store = self.store.lock().unwrap_or_else(|e| e.into_inner());
        store.messages().iter().map(|(_, text)| text.clone()).collect()
    }
}
