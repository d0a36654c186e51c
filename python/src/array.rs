//! One array: a buffer, a tensor, an Arrow array.

use std::ffi::{CStr, CString, c_int};

use npk::Dtype;
use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PySlice, PyTuple};

use crate::interop;
use crate::work::{attributes, raise};

/// An array of a file: mapped, or copied. It is read-only; numpy, torch and Arrow share its memory.
#[pyclass(frozen, subclass, module = "npk")]
pub struct Array(pub npk::Array);

/// What `struct` and numpy call the type; none where they do not know it.
pub fn format_of(dtype: Dtype) -> Option<&'static CStr> {
    Some(match dtype {
        Dtype::Bool => c"?",
        Dtype::U8 => c"B",
        Dtype::U16 => c"H",
        Dtype::U32 => c"I",
        Dtype::U64 => c"Q",
        Dtype::I8 => c"b",
        Dtype::I16 => c"h",
        Dtype::I32 => c"i",
        Dtype::I64 => c"q",
        Dtype::F16 => c"e",
        Dtype::F32 => c"f",
        Dtype::F64 => c"d",
        Dtype::C64 => c"Zf",
        Dtype::C128 => c"Zd",
        _ => return None,
    })
}

/// Shape and strides of a buffer that is given out.
struct Dims {
    shape: Vec<isize>,
    strides: Vec<isize>,
    format: CString,
}

#[pymethods]
impl Array {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }
    /// The type as `npk list` prints it.
    #[getter]
    fn type_name(&self) -> String {
        self.0.info().type_name()
    }
    /// The stored type of the elements.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.0.dtype().name()
    }
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape())
    }
    #[getter]
    fn ndim(&self) -> usize {
        self.0.shape().len()
    }
    #[getter]
    fn size(&self) -> usize {
        self.0.shape().iter().product()
    }
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.buffer().len()
    }
    /// Whether these are copied rows, not the file's own bytes.
    #[getter]
    fn is_copy(&self) -> bool {
        self.0.is_copy()
    }
    /// Whether its elements are plain numbers or bools.
    #[getter]
    fn is_plain(&self) -> bool {
        self.0.info().is_plain() && self.0.try_bytes().is_ok()
    }
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        attributes(py, self.0.info().attributes())
    }
    /// The address of the first element.
    #[getter]
    fn address(&self) -> usize {
        self.0.buffer().as_ptr() as usize
    }
    /// One byte a row, 0 where it is null; None where no row is.
    #[getter]
    fn validity<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.validity().map(|valid| PyBytes::new(py, valid))
    }
    /// The same memory as bytes, with one more dimension for elements of several bytes.
    fn raw(&self, py: Python<'_>) -> PyResult<Array> {
        self.0.raw().map(Array).map_err(|e| raise(py, &e))
    }
    /// The elements' bytes.
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.0.try_bytes().map_err(|e| raise(py, &e))?;
        Ok(PyBytes::new(py, bytes))
    }
    /// The rows of text (str) or binary (bytes); None where they are null.
    fn texts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let text = self.type_name().starts_with("string");
        let list = PyList::empty(py);
        for item in self.0.texts() {
            match item {
                None => list.append(py.None())?,
                Some(bytes) if text => list.append(String::from_utf8_lossy(bytes))?,
                Some(bytes) => list.append(PyBytes::new(py, bytes))?,
            }
        }
        Ok(list)
    }
    fn __len__(&self) -> PyResult<usize> {
        match self.0.shape().first() {
            Some(&rows) => Ok(rows),
            None => Err(PyTypeError::new_err("an array of rank 0 has no length")),
        }
    }
    /// Some rows, which are not copied where they follow each other; what numpy gives otherwise.
    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Ok(slice) = key.cast::<PySlice>() {
            let rows = this.__len__()?;
            let indices = slice.indices(rows as isize)?;
            if indices.step == 1 {
                let start = indices.start.max(0) as usize;
                let stop = (indices.stop.max(0) as usize).max(start);
                let part = this.0.slice(start..stop).map_err(|e| raise(py, &e))?;
                return Ok(Bound::new(py, Array(part))?.into_any());
            }
        }
        if let Ok(row) = key.extract::<isize>()
            && row.unsigned_abs() > this.__len__()?
        {
            return Err(PyIndexError::new_err(format!("row {row} of {}", this.__len__()?)));
        }
        interop::numpy(slf)?.get_item(key)
    }
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        interop::array(slf, dtype, copy)
    }
    /// The values as Python's own lists and numbers.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        interop::numpy(slf)?.call_method0("tolist")
    }
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some((kind, _)) = dl_device.filter(|device| device.0 != 1) {
            let text = format!("the array is in the memory of the CPU, not of device type {kind}");
            return Err(PyBufferError::new_err(text));
        }
        // There is no stream on the CPU.
        drop(stream);
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        interop::dlpack(py, &self.0, versioned, copy == Some(true))
    }
    /// `(kDLCPU, 0)`.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        // What is asked for is a wish, which a producer need not grant.
        drop(requested_schema);
        interop::arrow_array(py, &self.0)
    }
    fn __repr__(&self) -> String {
        let kept = if self.0.is_copy() { "copied" } else { "mapped" };
        let shape: Vec<String> = self.0.shape().iter().map(usize::to_string).collect();
        format!("<npk.Array '{}' {} [{}], {kept}>", self.name(), self.type_name(), shape.join(", "))
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let info = this.0.info();
        let format = format_of(this.0.dtype()).filter(|_| info.is_plain());
        let (Some(format), Ok(bytes)) = (format, this.0.try_bytes()) else {
            let text =
                format!("{} is no element of buffers: take it as an Arrow array", info.type_name());
            return Err(PyBufferError::new_err(text));
        };
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("the array is read-only"));
        }
        let item = this.0.dtype().item_bytes() as isize;
        let shape: Vec<isize> = this.0.shape().iter().map(|&d| d as isize).collect();
        let mut strides = vec![item; shape.len()];
        for k in (1..shape.len()).rev() {
            strides[k - 1] = strides[k] * shape[k].max(1);
        }
        let dims = Box::new(Dims { shape, strides, format: format.to_owned() });
        // SAFETY: Python gives a view to fill in; what it points to lives in `dims`, which is freed with
        // the view, and in the array, which the view holds.
        unsafe {
            (*view).buf = bytes.as_ptr().cast_mut().cast();
            (*view).len = bytes.len() as isize;
            (*view).readonly = 1;
            (*view).itemsize = item;
            (*view).ndim = dims.shape.len() as c_int;
            (*view).format = match flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                true => dims.format.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*view).shape = match flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
                true => dims.shape.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*view).strides = match flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                true => dims.strides.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = Box::into_raw(dims).cast();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: made by `__getbuffer__`.
        unsafe { drop(Box::from_raw((*view).internal.cast::<Dims>())) }
    }
}
