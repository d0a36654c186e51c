//! Conversions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use npk::{Cancel, Level, Options};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::work::{Given, raise, run};

/// Converts; returns a dict for each output. `on_progress(bytes)` is called on this thread with the
/// bytes so far, `on_message(level, text)` with notes and warnings.
#[pyfunction]
#[pyo3(signature = (sources, destination, options, on_progress=None, on_message=None))]
pub fn convert<'py>(
    py: Python<'py>,
    sources: Vec<String>,
    destination: String,
    options: Given,
    on_progress: Option<Bound<'py, PyAny>>,
    on_message: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let (cancel, moved) = (Cancel::new(), Arc::new(AtomicU64::new(0)));
    let heard: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
    let (counted, hears) = (moved.clone(), heard.clone());
    let mut how = Options::new()
        .cancel(&cancel)
        .on_progress(move |bytes, _| {
            counted.fetch_add(bytes, Ordering::Relaxed);
        })
        .on_message(move |level, text| {
            hears.lock().unwrap_or_else(|e| e.into_inner()).push((level, text.to_string()));
        });
    for (name, value) in &options {
        how = match value {
            Some(value) => how.option(name, value),
            None => how.switch(name),
        };
    }
    let mut told = 0;
    let mut tick = |_: Python<'_>| {
        let now = moved.load(Ordering::Relaxed);
        if let Some(on_progress) = &on_progress
            && std::mem::replace(&mut told, now) != now
        {
            on_progress.call1((now,))?;
        }
        let messages = std::mem::take(&mut *heard.lock().unwrap_or_else(|e| e.into_inner()));
        for (level, text) in messages {
            let level = match level {
                Level::Warning => "warning",
                Level::Detail => "detail",
                _ => "note",
            };
            if let Some(on_message) = &on_message {
                on_message.call1((level, text))?;
            }
        }
        Ok(())
    };
    let report = run(py, &cancel, &mut tick, || npk::convert(&sources, &destination, &how))?;
    tick(py)?;
    let list = PyList::empty(py);
    for told in &report.outputs {
        let dict = PyDict::new(py);
        dict.set_item("sources", &told.sources)?;
        dict.set_item("destination", &told.destination)?;
        dict.set_item("format", told.format)?;
        dict.set_item("arrays", told.arrays)?;
        dict.set_item("columns", told.columns)?;
        dict.set_item("bytes", told.bytes)?;
        dict.set_item("seconds", told.time.as_secs_f64())?;
        dict.set_item("layout", told.layout)?;
        dict.set_item("skipped", told.skipped)?;
        dict.set_item("planned", told.planned.as_deref())?;
        dict.set_item("error", told.error.as_ref().map(|e| raise(py, e).into_value(py)))?;
        list.append(dict)?;
    }
    Ok(list)
}
