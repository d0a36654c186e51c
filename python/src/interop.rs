//! Arrays as other libraries take them: capsules of DLPack and Arrow.

use std::ffi::CStr;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::{Array as _, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_schema::SchemaRef;
use dlpark::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlpark::{Managed, ManagedTensorBase};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::array::Array;
use crate::work::raise;

/// As a numpy array; see `npk/_arrays.py`.
pub fn numpy<'py>(array: &Bound<'py, Array>) -> PyResult<Bound<'py, PyAny>> {
    array.py().import("npk._arrays")?.getattr("numpy_of")?.call1((array,))
}

/// `__array__`.
pub fn array<'py>(
    array: &Bound<'py, Array>,
    dtype: Option<Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    array.py().import("npk._arrays")?.getattr("array_of")?.call1((array, dtype, copy))
}

/// A capsule around a pointer that it owns.
///
/// # Safety
/// `pointer` and `destructor` belong together.
unsafe fn capsule<'py>(
    py: Python<'py>,
    pointer: *mut std::ffi::c_void,
    name: &'static CStr,
    destructor: ffi::PyCapsule_Destructor,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as this function.
    unsafe {
        let made = ffi::PyCapsule_New(pointer, name.as_ptr(), Some(destructor));
        Bound::from_owned_ptr_or_err(py, made)
    }
}

const TENSOR: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const USED_VERSIONED: &CStr = c"used_dltensor_versioned";
const ARRAY: &CStr = c"arrow_array";
const SCHEMA: &CStr = c"arrow_schema";
const STREAM: &CStr = c"arrow_array_stream";

/// The pointer of a capsule that nobody has taken.
///
/// # Safety
/// `object` is a capsule.
unsafe fn untaken<T>(object: *mut ffi::PyObject, name: &CStr) -> Option<*mut T> {
    // SAFETY: as this function; the name is compared before the pointer is asked for.
    unsafe {
        if ffi::PyCapsule_IsValid(object, name.as_ptr()) == 0 {
            return None;
        }
        Some(ffi::PyCapsule_GetPointer(object, name.as_ptr()).cast())
            .filter(|p: &*mut T| !p.is_null())
    }
}

/// Frees a tensor that nobody has taken.
unsafe extern "C" fn drop_tensor(object: *mut ffi::PyObject) {
    // SAFETY: Python gives the capsule that this is the destructor of.
    unsafe {
        if let Some(tensor) = untaken::<DLManagedTensor>(object, TENSOR) {
            drop(Managed::from_raw(tensor));
        }
    }
}

unsafe extern "C" fn drop_versioned(object: *mut ffi::PyObject) {
    // SAFETY: as above.
    unsafe {
        if let Some(tensor) = untaken::<DLManagedTensorVersioned>(object, VERSIONED) {
            drop(Managed::from_raw(tensor));
        }
    }
}

/// Frees a structure of Arrow's, and what is still in it.
unsafe extern "C" fn drop_boxed<T>(object: *mut ffi::PyObject) {
    for name in [ARRAY, SCHEMA, STREAM] {
        // SAFETY: as above; the capsules of this module hold boxes.
        unsafe {
            if let Some(pointer) = untaken::<T>(object, name) {
                drop(Box::from_raw(pointer));
            }
        }
    }
}

/// A DLPack capsule that shares the array's memory, or has a copy of its own.
pub fn dlpack<'py>(
    py: Python<'py>,
    array: &npk::Array,
    versioned: bool,
    copy: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let refused = |e: npk::Error| PyBufferError::new_err(raise(py, &e).to_string());
    let own;
    let array = if copy {
        own = array.copied().map_err(refused)?;
        &own
    } else {
        array
    };
    if versioned {
        let tensor = array.to_dlpack().map_err(refused)?.into_raw();
        // SAFETY: the destructor frees what was just made.
        return unsafe { capsule(py, tensor.cast(), VERSIONED, drop_versioned) };
    }
    let tensor = array.to_dlpack_legacy().map_err(refused)?.into_raw();
    // SAFETY: as above.
    unsafe { capsule(py, tensor.cast(), TENSOR, drop_tensor) }
}

/// A tensor taken out of a capsule.
pub enum Tensor {
    Legacy(Managed<DLManagedTensor>),
    Versioned(Managed<DLManagedTensorVersioned>),
}

impl Tensor {
    /// Takes it: the capsule is used up.
    pub fn take(capsule: &Bound<'_, PyAny>) -> PyResult<Tensor> {
        fn took<M: ManagedTensorBase>(
            object: *mut ffi::PyObject,
            name: &CStr,
            used: &'static CStr,
        ) -> PyResult<Option<Managed<M>>> {
            // SAFETY: an untaken capsule of this name holds such a tensor; with its new name nobody
            // takes it again.
            unsafe {
                let Some(tensor) = untaken::<M>(object, name) else { return Ok(None) };
                ffi::PyCapsule_SetName(object, used.as_ptr());
                let taken = Managed::from_raw(tensor);
                taken.map(Some).map_err(|e| PyBufferError::new_err(e.to_string()))
            }
        }
        let object = capsule.as_ptr();
        // SAFETY: any object may be asked.
        if unsafe { ffi::PyCapsule_CheckExact(object) } == 0 {
            return Err(PyValueError::new_err("this is no DLPack capsule"));
        }
        if let Some(tensor) = took(object, VERSIONED, USED_VERSIONED)? {
            return Ok(Tensor::Versioned(tensor));
        }
        match took(object, TENSOR, USED)? {
            Some(tensor) => Ok(Tensor::Legacy(tensor)),
            None => Err(PyValueError::new_err("this capsule is no DLPack tensor, or was used")),
        }
    }
    /// What to write.
    pub fn data(&self) -> npk::Result<npk::Data<'_>> {
        match self {
            Tensor::Legacy(tensor) => npk::Data::dlpack(tensor),
            Tensor::Versioned(tensor) => npk::Data::dlpack(tensor),
        }
    }
}

fn arrow_error(e: arrow_schema::ArrowError) -> PyErr {
    PyValueError::new_err(e.to_string())
}

/// `__arrow_c_array__`: schema and array.
pub fn arrow_array<'py>(
    py: Python<'py>,
    array: &npk::Array,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (field, values) = array.column().map_err(|e| raise(py, &e))?;
    let schema = Box::new(FFI_ArrowSchema::try_from(field.as_ref()).map_err(arrow_error)?);
    let values = Box::new(FFI_ArrowArray::new(&values.to_data()));
    // SAFETY: the destructors free the boxes.
    unsafe {
        let schema = Box::into_raw(schema).cast();
        let schema = capsule(py, schema, SCHEMA, drop_boxed::<FFI_ArrowSchema>)?;
        let values = Box::into_raw(values).cast();
        Ok((schema, capsule(py, values, ARRAY, drop_boxed::<FFI_ArrowArray>)?))
    }
}

/// `__arrow_c_stream__` of a table.
pub fn stream(py: Python<'_>, batch: RecordBatch) -> PyResult<Bound<'_, PyAny>> {
    let schema = batch.schema();
    let reader: Box<dyn RecordBatchReader + Send> =
        Box::new(RecordBatchIterator::new([Ok(batch)], schema));
    let stream = Box::into_raw(Box::new(FFI_ArrowArrayStream::new(reader)));
    // SAFETY: the destructor frees the box.
    unsafe { capsule(py, stream.cast(), STREAM, drop_boxed::<FFI_ArrowArrayStream>) }
}

/// The batches of an object with `__arrow_c_stream__`. One of arrays, not of rows of a struct, gives a
/// table of one column.
pub fn batches(object: &Bound<'_, PyAny>) -> PyResult<(SchemaRef, Vec<RecordBatch>)> {
    let capsule = object.call_method0("__arrow_c_stream__")?;
    // SAFETY: an untaken capsule of this name holds a stream, which is moved out of it.
    let mut reader = unsafe {
        let pointer = untaken::<FFI_ArrowArrayStream>(capsule.as_ptr(), STREAM);
        let pointer = pointer.ok_or_else(|| PyValueError::new_err("this is no Arrow stream"))?;
        RecordBatchStreamReader::from_raw(pointer).map_err(arrow_error)?
    };
    let schema = reader.schema();
    let batches = reader.by_ref().collect::<Result<Vec<_>, _>>().map_err(arrow_error)?;
    Ok((schema, batches))
}

/// The one column of a table, as one array.
pub fn column_from(object: &Bound<'_, PyAny>) -> PyResult<arrow_array::ArrayRef> {
    let (schema, batches) = batches(object)?;
    if schema.fields().len() != 1 {
        let text = format!("a table of {} columns is no array: write_table", schema.fields().len());
        return Err(PyValueError::new_err(text));
    }
    let parts: Vec<&dyn arrow_array::Array> =
        batches.iter().map(|batch| batch.column(0).as_ref()).collect();
    match parts[..] {
        [] => Ok(arrow_array::new_empty_array(schema.field(0).data_type())),
        _ => arrow_select::concat::concat(&parts).map_err(arrow_error),
    }
}

/// The array of an object with `__arrow_c_array__`.
pub fn array_from(object: &Bound<'_, PyAny>) -> PyResult<arrow_array::ArrayRef> {
    let pair = object.call_method0("__arrow_c_array__")?;
    let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
    // SAFETY: untaken capsules of these names hold these structures; the array is moved out of its own.
    unsafe {
        let schema = untaken::<FFI_ArrowSchema>(schema.as_ptr(), SCHEMA);
        let array = untaken::<FFI_ArrowArray>(array.as_ptr(), ARRAY);
        let (Some(schema), Some(array)) = (schema, array) else {
            return Err(PyValueError::new_err("this is no Arrow array"));
        };
        let array = std::ptr::replace(array, FFI_ArrowArray::empty());
        let mut data = from_ffi(array, &*schema).map_err(arrow_error)?;
        data.align_buffers();
        Ok(arrow_array::make_array(data))
    }
}
