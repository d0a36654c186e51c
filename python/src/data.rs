//! What Python gives to be written.

use npk::{Data, Dtype};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::array::Array;
use crate::interop::{self, Tensor};
use crate::work::raise;

/// An array of Python's, held while it is written. `npk/_arrays.py` says what becomes what.
pub enum Given {
    /// Elements in the memory of `_owner`.
    Strided {
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<isize>,
        address: usize,
        /// The logical type, where it is not a plain number: `datetime64[ns]`.
        meaning: Option<String>,
        _owner: Py<PyAny>,
    },
    Tensor(Tensor),
    Arrow(arrow_array::ArrayRef),
    Own(npk::Array),
}

impl Given {
    /// From what `npk._arrays.given` makes of an object: an [`Array`], or a tuple that begins with a
    /// word.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Given> {
        let py = object.py();
        if let Ok(array) = object.cast::<Array>() {
            return Ok(Given::Own(array.get().0.clone()));
        }
        let made = py.import("npk._arrays")?.getattr("given")?.call1((object,))?;
        if let Ok(array) = made.cast::<Array>() {
            return Ok(Given::Own(array.get().0.clone()));
        }
        let word: String = made.get_item(0)?.extract()?;
        Ok(match word.as_str() {
            "strided" => {
                let name: String = made.get_item(1)?.extract()?;
                let dtype = Dtype::parse(&name)
                    .ok_or_else(|| PyValueError::new_err(format!("there is no type '{name}'")))?;
                Given::Strided {
                    dtype,
                    shape: made.get_item(2)?.extract()?,
                    strides: made.get_item(3)?.extract()?,
                    address: made.get_item(4)?.extract()?,
                    meaning: made.get_item(5)?.extract()?,
                    _owner: made.get_item(6)?.unbind(),
                }
            }
            "dlpack" => Given::Tensor(Tensor::take(&made.get_item(1)?)?),
            "arrow" => Given::Arrow(interop::array_from(&made.get_item(1)?)?),
            "column" => Given::Arrow(interop::column_from(&made.get_item(1)?)?),
            "texts" => {
                let texts: Vec<Option<String>> = made.get_item(1)?.extract()?;
                Given::Arrow(std::sync::Arc::new(arrow_array::LargeStringArray::from(texts)))
            }
            "binary" => {
                let items: Vec<Option<Vec<u8>>> = made.get_item(1)?.extract()?;
                let items: Vec<Option<&[u8]>> = items.iter().map(Option::as_deref).collect();
                Given::Arrow(std::sync::Arc::new(arrow_array::LargeBinaryArray::from(items)))
            }
            other => return Err(PyValueError::new_err(format!("'{other}' cannot be written"))),
        })
    }

    /// As the library takes it.
    pub fn data(&self) -> npk::Result<Data<'_>> {
        match self {
            Given::Strided { dtype, shape, strides, address, meaning, .. } => {
                // SAFETY: numpy and torch say where the elements are; the owner is held by `self`, and
                // whoever writes to an array that is just being saved has a race of their own.
                let data = unsafe { Data::strided(*dtype, shape, strides, *address as *const u8)? };
                match meaning {
                    Some(name) => data.with_type(name),
                    None => Ok(data),
                }
            }
            Given::Tensor(tensor) => tensor.data(),
            Given::Arrow(array) => Ok(Data::from(array)),
            Given::Own(array) => Ok(Data::from(array)),
        }
    }
}

/// All of a dict's arrays.
pub fn all(
    py: Python<'_>,
    arrays: Vec<(String, Bound<'_, PyAny>)>,
) -> PyResult<Vec<(String, Given)>> {
    let one = |(name, object): (String, Bound<'_, PyAny>)| {
        let given = Given::new(&object)?;
        given.data().map_err(|e| raise(py, &e.array(&name)))?;
        Ok((name, given))
    };
    arrays.into_iter().map(one).collect()
}
