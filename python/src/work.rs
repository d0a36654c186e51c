//! Work without Python's lock, which Ctrl-C ends cleanly; and errors.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use npk::{Cancel, Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// How often Python is asked for signals.
const TICK: Duration = Duration::from_millis(40);

/// An error of the library as Python's.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let kind = match error.kind() {
        ErrorKind::Usage => "usage",
        ErrorKind::Missing => "missing",
        ErrorKind::Refused => "refused",
        ErrorKind::Exists => "exists",
        ErrorKind::Remote => "remote",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Internal => "internal",
        _ => "failed",
    };
    let made = || -> PyResult<PyErr> {
        let others: Vec<String> = error.others().iter().map(ToString::to_string).collect();
        let args = (
            kind,
            error.to_string(),
            error.reason(),
            error.file_name(),
            error.array_name(),
            error.hint_text(),
            others,
        );
        Ok(PyErr::from_value(py.import("npk._errors")?.getattr("make")?.call1(args)?))
    };
    made().unwrap_or_else(|e| e)
}

/// Runs `work` on a thread of its own, without Python's lock. While it runs, Python hears of signals
/// (`tick` is called each time, too); a KeyboardInterrupt ends the work by `cancel`, and is raised when
/// it has ended.
pub fn run<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
    work: impl FnOnce() -> npk::Result<T> + Send,
) -> PyResult<T> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let (result, raised) = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("npk".into());
        let started = worker.spawn_scoped(scope, move || {
            let _ = send.send(npk::error::guard(work));
        });
        if let Err(e) = started {
            return (Some(Err(npk::pipe::no_threads(e))), None);
        }
        let mut raised = None;
        loop {
            // `Receiver` is not `Sync`, and this thread alone has it.
            let channel = Alone(&receive);
            match py.detach(move || channel.wait()) {
                Ok(result) => return (Some(result), raised),
                Err(RecvTimeoutError::Disconnected) => return (None, raised),
                Err(RecvTimeoutError::Timeout) if raised.is_some() => {}
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = py.check_signals().and_then(|()| tick(py)) {
                        cancel.cancel();
                        raised = Some(e);
                    }
                }
            }
        }
    });
    if let Some(e) = raised {
        return Err(e);
    }
    match result {
        Some(result) => result.map_err(|e| raise(py, &e)),
        None => Err(raise(py, &Error::internal("a worker thread ended unexpectedly"))),
    }
}

struct Alone<'a, T>(&'a std::sync::mpsc::Receiver<T>);

// SAFETY: the thread that waits is the one that owns the receiver; it only has no lock of Python.
unsafe impl<T: Send> Send for Alone<'_, T> {}

impl<T> Alone<'_, T> {
    fn wait(self) -> Result<T, RecvTimeoutError> {
        self.0.recv_timeout(TICK)
    }
}

/// Options as Python has them: `(name, value)`, where no value stands for a switch.
pub type Given = Vec<(String, Option<String>)>;

/// A JSON value as Python's.
pub fn json<'py>(py: Python<'py>, value: &serde_json::Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.getattr("loads")?.call1((value.to_string(),))
}

/// A JSON object as a dict.
pub fn attributes<'py>(
    py: Python<'py>,
    map: &serde_json::Map<String, serde_json::Value>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in map {
        dict.set_item(key, json(py, value)?)?;
    }
    Ok(dict)
}
