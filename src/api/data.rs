//! What can be written: views, Arrow arrays, bytes, tensors.

use std::ptr::NonNull;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};

use super::array::Array;
use super::element::Scalar;
use super::memory::{Lender, Memory, MemorySource, Strided};
use crate::error::{Error, Result};
use crate::formats::columnar::batches::arrays_of;
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Plan, checked_product};

/// An array to write. It is made from what [`crate::Store::write`] is given: a reference to an ndarray
/// (any order, any strides: what is written is C order), to an Arrow array, to an [`Array`] of another
/// file; from bytes by [`Data::bytes`], from a DLPack tensor by `Data::dlpack`.
pub struct Data<'a> {
    kind: Kind<'a>,
    /// What plain elements mean, where they are more than numbers.
    meaning: Option<Logical>,
}

enum Kind<'a> {
    /// Elements where they are.
    Strided {
        dtype: Dtype,
        shape: Vec<usize>,
        /// In bytes.
        strides: Vec<isize>,
        first: NonNull<u8>,
        lent: std::marker::PhantomData<&'a [u8]>,
    },
    /// In C order, without gaps.
    Bytes {
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: &'a [u8],
    },
    Arrow(ArrayRef),
    Own(Array),
}

// SAFETY: the pointer stands for a shared borrow of plain bytes.
unsafe impl Send for Data<'_> {}
// SAFETY: as above.
unsafe impl Sync for Data<'_> {}

impl<'a> Data<'a> {
    /// Elements as bytes: in C order, little-endian, without gaps.
    ///
    /// # Errors
    /// Usage, where bytes, dtype and shape do not fit together.
    pub fn bytes(dtype: Dtype, shape: &[usize], bytes: &'a [u8]) -> Result<Data<'a>> {
        let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        let due = checked_product(&dims).and_then(|n| n.checked_mul(dtype.item_bytes()));
        if due != Some(bytes.len() as u64) {
            return Err(Error::usage(format!(
                "{dtype} {shape:?} does not take {} bytes",
                bytes.len()
            )));
        }
        Ok(Data::of(Kind::Bytes { dtype, shape: shape.to_vec(), bytes }))
    }

    /// Elements at `first + Σ index[k] · strides[k]` (in bytes; strides may be negative).
    ///
    /// # Errors
    /// Usage, where shape and strides differ in length.
    ///
    /// # Safety
    /// For `'a`, every element can be read, and nobody writes to it.
    pub unsafe fn strided(
        dtype: Dtype,
        shape: &[usize],
        strides: &[isize],
        first: *const u8,
    ) -> Result<Data<'a>> {
        if shape.len() != strides.len() {
            return Err(Error::usage(format!("{} strides for {shape:?}", strides.len())));
        }
        let item = dtype.item_bytes() as usize;
        let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        let bytes = checked_product(&dims).and_then(|n| n.checked_mul(item as u64));
        let bytes =
            bytes.and_then(|n| usize::try_from(n).ok()).filter(|&n| n < isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| Error::usage(format!("{shape:?} is too large")))?;
        if bytes == 0 {
            return Data::bytes(dtype, shape, &[]);
        }
        let first = NonNull::new(first.cast_mut())
            .ok_or_else(|| Error::usage("elements without an address"))?;
        if is_c_order(shape, strides, item) {
            // SAFETY: these are all the elements, and nothing between them.
            let bytes = unsafe { std::slice::from_raw_parts(first.as_ptr(), bytes) };
            return Data::bytes(dtype, shape, bytes);
        }
        Ok(Data::of(Kind::Strided {
            dtype,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            first,
            lent: std::marker::PhantomData,
        }))
    }

    /// The same elements as times: `datetime64[ns]`, `timedelta64[us]`, of int64 as numpy has them.
    ///
    /// # Errors
    /// Usage: a type that there is not, or for elements that are not int64.
    pub fn with_type(self, name: &str) -> Result<Data<'a>> {
        let dtype = match &self.kind {
            Kind::Strided { dtype, .. } | Kind::Bytes { dtype, .. } => *dtype,
            Kind::Arrow(_) | Kind::Own(_) => return Err(Error::usage("it has a type already")),
        };
        let meaning = Logical::parse(name);
        let meaning = meaning.filter(|t| dtype == Dtype::I64 && t.is_time());
        let wrong = || Error::usage(format!("{dtype} cannot be '{name}'"));
        Ok(Data { meaning: Some(meaning.ok_or_else(wrong)?), ..self })
    }

    fn of(kind: Kind<'a>) -> Data<'a> {
        Data { kind, meaning: None }
    }

    /// As a source of one array (of several, where it is a struct of Arrow's).
    pub(super) fn source(self, name: &str, lender: &Lender<'a>) -> Result<MemorySource> {
        let meta = |dtype: Dtype, shape: &[usize]| {
            let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
            let logical = self.meaning.clone().unwrap_or(Logical::Plain);
            ArrayMeta { logical, ..ArrayMeta::new(name, dtype, &dims) }
        };
        Ok(match self.kind {
            Kind::Bytes { dtype, shape, bytes } => {
                let rows = shape.first().map_or(1, |&rows| rows as u64);
                let chunk = Chunk::fixed(0, 0, rows, lender.lend(bytes));
                MemorySource::one(meta(dtype, &shape), Memory::Chunks(vec![chunk]))
            }
            Kind::Strided { dtype, shape, strides, first, .. } => {
                let item = dtype.item_bytes() as usize;
                // SAFETY: that the elements can be read for 'a is the promise of whoever made this;
                // the lender does not end before the loan is given back.
                let strided =
                    unsafe { Strided::new(first, item, &shape, &strides, lender.owner()) };
                MemorySource::one(meta(dtype, &shape), Memory::Strided(strided))
            }
            Kind::Arrow(array) => {
                let field = Field::new(name, array.data_type().clone(), true);
                let schema = Arc::new(Schema::new(vec![field]));
                let batch = RecordBatch::try_new(schema.clone(), vec![array])
                    .map_err(|e| Error::usage("this is not a column").because(e))?;
                let (plan, chunks) = arrays_of(&schema, &[batch])?;
                let plan = Plan { tables: Vec::new().into(), ..plan };
                MemorySource::new(plan, chunks.into_iter().map(Memory::Chunks).collect())
            }
            Kind::Own(array) => {
                let (meta, chunk) = array.into_parts(name);
                MemorySource::one(meta, Memory::Chunks(vec![chunk]))
            }
        })
    }
}

/// Whether elements lie one behind the other.
pub(super) fn is_c_order(shape: &[usize], strides: &[isize], item: usize) -> bool {
    let mut due = item;
    for (&n, &stride) in shape.iter().zip(strides).rev() {
        if n != 1 && stride != due as isize {
            return false;
        }
        due = due.saturating_mul(n);
    }
    true
}

impl<'a, T, S, D> From<&'a ndarray::ArrayBase<S, D>> for Data<'a>
where
    T: Scalar,
    S: ndarray::Data<Elem = T>,
    D: ndarray::Dimension,
{
    fn from(array: &'a ndarray::ArrayBase<S, D>) -> Data<'a> {
        let item = size_of::<T>() as isize;
        let strides: Vec<isize> = array.strides().iter().map(|s| s * item).collect();
        // SAFETY: the elements are borrowed for 'a, and have no padding.
        let data = unsafe {
            Data::strided(T::DTYPE, array.shape(), &strides, array.as_ptr().cast::<u8>())
        };
        // An array in memory is neither too large nor without strides.
        data.unwrap_or(Data::of(Kind::Bytes { dtype: T::DTYPE, shape: vec![0], bytes: &[] }))
    }
}

impl From<&ArrayRef> for Data<'_> {
    fn from(array: &ArrayRef) -> Self {
        Data::of(Kind::Arrow(array.clone()))
    }
}

impl From<ArrayRef> for Data<'_> {
    fn from(array: ArrayRef) -> Self {
        Data::of(Kind::Arrow(array))
    }
}

impl From<&dyn arrow_array::Array> for Data<'_> {
    fn from(array: &dyn arrow_array::Array) -> Self {
        Data::of(Kind::Arrow(arrow_array::make_array(array.to_data())))
    }
}

impl From<&Array> for Data<'_> {
    fn from(array: &Array) -> Self {
        Data::of(Kind::Own(array.clone()))
    }
}

impl From<Array> for Data<'_> {
    fn from(array: Array) -> Self {
        Data::of(Kind::Own(array))
    }
}
