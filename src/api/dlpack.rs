//! Tensors of other libraries, in and out, without a copy.

use dlpark::ffi::{
    DLDataType, DLDataTypeCode, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLTensor,
};
use dlpark::metadata::Dynamic;
use dlpark::{DlpackFlags, Managed, ManagedTensorBase, legacy, versioned};

use super::array::Array;
use super::data::Data;
use crate::error::{Error, Result};
use crate::model::Dtype;

/// DLPack's code of the type.
fn code_of(dtype: Dtype) -> DLDataTypeCode {
    match dtype {
        Dtype::Bool => DLDataTypeCode::BOOL,
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => DLDataTypeCode::INT,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => DLDataTypeCode::UINT,
        Dtype::F16 | Dtype::F32 | Dtype::F64 => DLDataTypeCode::FLOAT,
        Dtype::Bf16 => DLDataTypeCode::BFLOAT,
        Dtype::C32 | Dtype::C64 | Dtype::C128 => DLDataTypeCode::COMPLEX,
        Dtype::F8E4m3 => DLDataTypeCode::FLOAT8_E4M3FN,
        Dtype::F8E4m3Fnuz => DLDataTypeCode::FLOAT8_E4M3FNUZ,
        Dtype::F8E5m2 => DLDataTypeCode::FLOAT8_E5M2,
        Dtype::F8E5m2Fnuz => DLDataTypeCode::FLOAT8_E5M2FNUZ,
        Dtype::F8E8m0 => DLDataTypeCode::FLOAT8_E8M0FNU,
    }
}

fn type_of(dtype: Dtype) -> DLDataType {
    DLDataType::scalar(code_of(dtype), 8 * dtype.item_bytes() as u8)
}

fn dtype_of(t: DLDataType) -> Result<Dtype> {
    Dtype::ALL.into_iter().find(|&dtype| type_of(dtype) == t).ok_or_else(|| {
        let (code, bits, lanes) = (t.code.0, t.bits, t.lanes);
        Error::refused(format!(
            "a tensor of DLPack's type {code} with {bits} bits and {lanes} lanes is not supported"
        ))
    })
}

impl Array {
    /// As a DLPack tensor, which shares the array's memory and keeps it. It is marked as read-only;
    /// of a map the pages are private, so that even who writes does not write to the file.
    ///
    /// # Errors
    /// Refused: text and lists; nulls, which a tensor cannot have.
    pub fn to_dlpack(&self) -> Result<versioned::Dlpack> {
        let mut made = self.managed::<DLManagedTensorVersioned>()?;
        made.set_flags(DlpackFlags::READ_ONLY).map_err(failed)?;
        // SAFETY: data, shape and strides describe memory that the context keeps.
        Ok(unsafe { made.finish() })
    }

    /// As a DLPack tensor for consumers that know no versions, which cannot be told that it is
    /// read-only: nothing may write to it, unless the array is a map, whose pages are private.
    ///
    /// # Errors
    /// As [`Array::to_dlpack`].
    pub fn to_dlpack_legacy(&self) -> Result<legacy::Dlpack> {
        // SAFETY: as above.
        Ok(unsafe { self.managed::<DLManagedTensor>()?.finish() })
    }

    fn managed<M: ManagedTensorBase>(&self) -> Result<dlpark::allocation::dynamic::Initialized<M>> {
        let bytes = self.fixed()?.clone();
        if self.validity().is_some() {
            return Err(Error::refused("a tensor cannot have nulls")
                .array(self.name())
                .hint("take it as an Arrow array, or its values by view()"));
        }
        let data = match bytes.is_empty() {
            true => std::ptr::null_mut(),
            false => bytes.as_ptr().cast_mut().cast(),
        };
        let strides = strides(self.shape());
        let metadata = Dynamic::new(self.shape(), &strides[..]);
        let mut made = metadata.prepare_as::<M>().map_err(failed)?.initialize(Box::new(bytes));
        made.set_data(data);
        made.set_dtype(type_of(self.dtype()));
        made.set_device(DLDevice::CPU);
        Ok(made)
    }
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::failed("a tensor cannot be made").because(e)
}

/// Of C order, in elements.
fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for k in (1..shape.len()).rev() {
        strides[k - 1] = strides[k].saturating_mul(shape[k].max(1) as isize);
    }
    strides
}

impl<'a> Data<'a> {
    /// A DLPack tensor, which is read where it is.
    ///
    /// # Errors
    /// Refused: memory of another device; element types that there are not here. Usage: a tensor that
    /// breaks DLPack's rules.
    pub fn dlpack<M: ManagedTensorBase>(tensor: &'a Managed<M>) -> Result<Data<'a>> {
        tensor
            .validate()
            .map_err(|e| Error::usage("this is not a valid DLPack tensor").because(e))?;
        // SAFETY: it was validated.
        let raw: &DLTensor = unsafe { tensor.tensor() };
        if raw.device.device_type != DLDevice::CPU.device_type {
            return Err(Error::refused("the tensor is in the memory of another device")
                .hint("copy it to the CPU first"));
        }
        let dtype = dtype_of(raw.dtype)?;
        let rank = usize::try_from(raw.ndim).unwrap_or(0);
        let parts = |at: *mut i64| match rank {
            0 => &[][..],
            // SAFETY: a valid tensor has as many dimensions there.
            _ => unsafe { std::slice::from_raw_parts(at, rank) },
        };
        let shape: Vec<usize> = parts(raw.shape).iter().map(|&d| d as usize).collect();
        let item = dtype.item_bytes() as isize;
        let elements = match raw.strides.is_null() {
            true => strides(&shape),
            false => parts(raw.strides).iter().map(|&s| s as isize).collect(),
        };
        // Where there is one element, nobody goes on to the next: its stride may be anything.
        let in_bytes =
            |(&n, &s): (&usize, &isize)| if n > 1 { s.checked_mul(item) } else { Some(0) };
        let strides: Option<Vec<isize>> = shape.iter().zip(&elements).map(in_bytes).collect();
        let too_large = || Error::usage(format!("strides of {elements:?} are too large"));
        let strides = strides.ok_or_else(too_large)?;
        let first = raw.data.cast::<u8>().cast_const().wrapping_add(raw.byte_offset as usize);
        // SAFETY: a valid tensor has its elements there, and is borrowed for 'a.
        unsafe { Data::strided(dtype, &shape, &strides, first) }
    }
}
