//! Files of any format.

use npk::{Cancel, Dataset, Level, OpenOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::Array;
use crate::interop;
use crate::work::{Given, attributes, raise, run};

/// An opened file: its arrays by their names.
#[pyclass(frozen, subclass, module = "npk")]
pub struct File {
    file: Dataset,
    cancel: Cancel,
}

#[pymethods]
impl File {
    /// Opens a file of any format.
    #[new]
    #[pyo3(signature = (path, copies, options))]
    fn new(py: Python<'_>, path: String, copies: bool, options: Given) -> PyResult<File> {
        let cancel = Cancel::new();
        let mut open = OpenOptions::new().cancel(&cancel);
        if copies {
            open = open.copies();
        }
        for (name, value) in &options {
            open = match value {
                Some(value) => open.option(name, value),
                None => open.switch(name),
            };
        }
        let file = run(py, &cancel, |_| Ok(()), || npk::open(&path, &open))?;
        Ok(File { file, cancel })
    }
    fn names(&self) -> Vec<&str> {
        self.file.names().collect()
    }
    fn __len__(&self) -> usize {
        self.file.len()
    }
    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.file.info(&name).is_some())
    }
    /// An array by its name.
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Array> {
        match self.file.map(name).map_err(|e| raise(py, &e))? {
            Some(array) => Ok(Array(array)),
            None => run(py, &self.cancel, |_| Ok(()), || self.file.array(name)).map(Array),
        }
    }
    /// Several arrays, together: small ones are copied.
    fn arrays(&self, py: Python<'_>, names: Vec<String>) -> PyResult<Vec<Array>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let arrays = run(py, &self.cancel, |_| Ok(()), || self.file.arrays(&names))?;
        Ok(arrays.into_iter().map(Array).collect())
    }
    /// Some rows of an array; only these are read.
    fn rows(&self, py: Python<'_>, name: &str, start: u64, stop: u64) -> PyResult<Array> {
        run(py, &self.cancel, |_| Ok(()), || self.file.rows(name, start..stop)).map(Array)
    }
    #[getter]
    fn format(&self) -> &'static str {
        self.file.format()
    }
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        attributes(py, self.file.metadata())
    }
    /// What is known of an array before it is read.
    fn info<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let Some(info) = self.file.info(name) else {
            return Err(raise(py, &missing(name)));
        };
        let dict = PyDict::new(py);
        dict.set_item("name", info.name())?;
        dict.set_item("dtype", info.dtype().name())?;
        dict.set_item("type", info.type_name())?;
        dict.set_item("shape", pyo3::types::PyTuple::new(py, info.shape())?)?;
        dict.set_item("nbytes", info.bytes())?;
        dict.set_item("nulls", info.has_nulls())?;
        dict.set_item("attributes", attributes(py, info.attributes())?)?;
        dict.set_item("error", info.error().map(ToString::to_string))?;
        Ok(dict)
    }
    /// The notes and warnings that the command would print.
    fn messages(&self) -> Vec<(bool, String)> {
        let all = self.file.messages().iter();
        all.map(|(level, text)| (*level == Level::Warning, text.clone())).collect()
    }
    /// The header of each column of the recorded tables, by the name of its array, and the matrix of
    /// each.
    fn tables(&self) -> Vec<(Option<String>, Vec<(String, String)>)> {
        let tables = self.file.plan().tables.iter();
        tables
            .map(|table| {
                let columns = table.columns.iter();
                let columns = columns.map(|c| (c.array.clone(), c.header.clone())).collect();
                (table.matrix.clone(), columns)
            })
            .collect()
    }
    /// Arrays (all, where none are named) as one table: an Arrow stream.
    fn stream<'py>(&self, py: Python<'py>, names: Vec<String>) -> PyResult<Bound<'py, PyAny>> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let batch = run(py, &self.cancel, |_| Ok(()), || self.file.table(&names))?;
        interop::stream(py, batch)
    }
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        drop(requested_schema);
        self.stream(py, Vec::new())
    }
    fn __repr__(&self) -> String {
        format!("<npk.File {}, {} arrays>", self.file.format(), self.file.len())
    }
}

fn missing(name: &str) -> npk::Error {
    npk::Error::missing("there is no array of this name").array(name)
}
