//! One array in memory: mapped or copied.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::FieldRef;
use std::ops::Range;

use super::element::Element;
use crate::error::{Context, Error, Result};
use crate::format::{Block, WriteOptions};
use crate::formats::columnar::export::Export;
use crate::model::{ArrayMeta, Attributes, Buf, Chunk, Dtype, Logical, Plan, Values};

/// What is known of an array before its values are read.
#[derive(Clone, Debug)]
pub struct Info(pub(super) ArrayMeta);

impl Info {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// The type of the elements. Text is `U8`; of dictionaries it is that of the codes.
    pub fn dtype(&self) -> Dtype {
        self.0.dtype
    }
    /// The type as `npk list` prints it: `float32`, `timestamp[us, UTC]`, `string?`.
    pub fn type_name(&self) -> String {
        self.0.type_name()
    }
    /// `[rows, d1, d2]`; `[]` for rank 0.
    pub fn shape(&self) -> Vec<u64> {
        self.0.shape().unwrap_or_default()
    }
    /// How many rows; 1 for rank 0.
    pub fn rows(&self) -> u64 {
        self.0.rows.unwrap_or(0)
    }
    /// Whether a row is null.
    pub fn has_nulls(&self) -> bool {
        self.0.nulls
    }
    /// Whether its elements are plain numbers or bools of [`Info::dtype`].
    pub fn is_plain(&self) -> bool {
        self.0.logical.is_plain()
    }
    /// Bytes of the values, where rows have a size.
    pub fn bytes(&self) -> Option<u64> {
        self.0.size_bytes()
    }
    /// Its attributes (HDF5, Zarr).
    pub fn attributes(&self) -> &Attributes {
        &self.0.details.attributes
    }
    /// Why it cannot be read, if so.
    pub fn error(&self) -> Option<&Error> {
        self.0.details.error.as_deref()
    }
}

/// One array: its values, mapped ([`Array::is_copy`] tells) or copied. Clones share them.
#[derive(Clone)]
pub struct Array {
    info: Info,
    shape: Vec<usize>,
    values: Values,
    valid: Option<Buf>,
    copied: bool,
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = if self.copied { "copied" } else { "mapped" };
        write!(f, "{}: {} {:?}, {kept}", self.name(), self.info.type_name(), self.shape)
    }
}

impl Array {
    pub(super) fn new(meta: ArrayMeta, chunk: Chunk, copied: bool) -> Result<Array> {
        let meta = ArrayMeta { rows: Some(chunk.rows), ..meta };
        let shape = meta.shape().unwrap_or_default();
        let shape = shape.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>();
        let shape = shape.map_err(|_| too_large())?;
        Ok(Array { info: Info(meta), shape, values: chunk.values, valid: chunk.valid, copied })
    }

    /// For writing it under this name.
    pub(super) fn into_parts(self, name: &str) -> (ArrayMeta, Chunk) {
        let mut meta = self.info.0;
        meta.name = name.to_string();
        meta.details.alias_of = None;
        let rows = meta.rows.unwrap_or(0);
        let chunk = Chunk { array: 0, first_row: 0, rows, values: self.values, valid: self.valid };
        (meta, chunk)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.info.name()
    }
    /// What was known of it before.
    pub fn info(&self) -> &Info {
        &self.info
    }
    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.info.dtype()
    }
    /// `[rows, d1, d2]`; empty for rank 0.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Whether these are copied rows, not the file's own bytes.
    pub fn is_copy(&self) -> bool {
        self.copied
    }
    /// One byte a row, 0 where it is null; none where no row is. (The values of a null are NaN or 0.)
    pub fn validity(&self) -> Option<&[u8]> {
        self.valid.as_deref()
    }
    /// The bytes of the elements in C order, little-endian. Empty for text and lists, whose rows have no
    /// size ([`Array::try_bytes`] says so).
    pub fn buffer(&self) -> Buf {
        self.fixed().cloned().unwrap_or_else(|_| Buf::from_vec(Vec::<u8>::new()))
    }
    /// The bytes of the elements.
    ///
    /// # Errors
    /// Refused: text and lists.
    pub fn try_bytes(&self) -> Result<&[u8]> {
        self.fixed().map(|bytes| bytes.as_slice())
    }
    pub(super) fn fixed(&self) -> Result<&Buf> {
        match &self.values {
            Values::Fixed(bytes) => Ok(bytes),
            Values::Var { .. } | Values::Nested(_) => Err(Error::refused(format!(
                "{} has no elements of one size",
                self.info.type_name()
            ))
            .array(self.name())
            .hint("take it as an Arrow array, or row by row as texts")),
        }
    }
    /// The rows of text or binary: none where they are null, or where the array holds something else.
    pub fn texts(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let (offsets, values): (&[u64], &[u8]) = match (&self.values, &self.info.0.logical) {
            (Values::Var { offsets, values }, Logical::Text | Logical::Binary) => (offsets, values),
            _ => (&[], &[]),
        };
        offsets.windows(2).enumerate().map(move |(row, w)| {
            let here = self.valid.as_ref().is_none_or(|valid| valid[row] != 0);
            here.then(|| values.get(w[0] as usize..w[1] as usize).unwrap_or_default())
        })
    }
    /// A view of the elements: of codes where it is a dictionary, of counts where it is a time. Bools
    /// are bytes: view them as `u8` with [`Array::bytes_view`]. In a map they are the file's own bytes,
    /// of which any but 0 is true.
    ///
    /// # Errors
    /// Refused, where `T` is not the array's type.
    pub fn view<T: Element>(&self) -> Result<ndarray::ArrayViewD<'_, T>> {
        if T::DTYPE != self.dtype() {
            let (is, not) = (self.dtype(), T::DTYPE);
            return Err(Error::refused(format!("the array is {is}, not {not}")).array(self.name()));
        }
        let values: &[T] = bytemuck::try_cast_slice(self.fixed()?)
            .map_err(|e| Error::failed("the bytes are not aligned").because(e.to_string()))?;
        ndarray::ArrayViewD::from_shape(self.shape.as_slice(), values)
            .map_err(|e| Error::corrupt("the shape does not fit the bytes").because(e))
    }
    /// A view of the bytes, with one more dimension at the end for elements of several bytes.
    ///
    /// # Errors
    /// Refused: text and lists.
    pub fn bytes_view(&self) -> Result<ndarray::ArrayViewD<'_, u8>> {
        let mut shape = self.shape.clone();
        if self.dtype().item_bytes() > 1 {
            shape.push(self.dtype().item_bytes() as usize);
        }
        ndarray::ArrayViewD::from_shape(shape, self.fixed()?)
            .map_err(|e| Error::corrupt("the shape does not fit the bytes").because(e))
    }
    /// Some of its rows, which are not copied.
    ///
    /// # Errors
    /// Usage: rows that it does not have.
    pub fn slice(&self, rows: Range<usize>) -> Result<Array> {
        let all = self.info.rows();
        if self.info.0.scalar || rows.start > rows.end || rows.end as u64 > all {
            return Err(Error::usage(format!("it has {all} rows, not {rows:?}")).array(self.name()));
        }
        let (meta, chunk) = self.clone().into_parts(self.name());
        Array::new(meta, chunk.slice(rows.start as u64, rows.end as u64), self.copied)
    }
    /// The same in memory of its own.
    ///
    /// # Errors
    /// Failed, where there is no memory for it.
    pub fn copied(&self) -> Result<Array> {
        let (meta, mut chunk) = self.clone().into_parts(self.name());
        if let Values::Fixed(bytes) = &mut chunk.values {
            *bytes = super::room::copied(bytes)?;
        }
        Array::new(meta, chunk, true)
    }
    /// The same memory as an array of bytes, with one more dimension at the end for elements of several
    /// bytes.
    ///
    /// # Errors
    /// Refused: text and lists.
    pub fn raw(&self) -> Result<Array> {
        let bytes = self.fixed()?.clone();
        let mut shape: Vec<u64> = self.shape.iter().map(|&d| d as u64).collect();
        if self.dtype().item_bytes() > 1 {
            shape.push(self.dtype().item_bytes());
        }
        let meta = ArrayMeta::new(self.name(), Dtype::U8, &shape);
        let rows = meta.rows.unwrap_or(0);
        Array::new(meta, Chunk::fixed(0, 0, rows, bytes), self.copied)
    }
    /// As an Arrow array of its usual type: numbers, times and codes without a copy of the values;
    /// several dimensions as fixed-size lists.
    ///
    /// # Errors
    /// Refused: what Arrow lacks (complex numbers).
    pub fn to_arrow(&self) -> Result<ArrayRef> {
        Ok(self.column()?.1)
    }
    /// As an Arrow array and its field.
    ///
    /// # Errors
    /// As [`Array::to_arrow`].
    pub fn column(&self) -> Result<(FieldRef, ArrayRef)> {
        let batch = batch_of(&one_table(self.info.0.clone()), vec![self.clone()])?;
        Ok((batch.schema().fields()[0].clone(), batch.column(0).clone()))
    }
}

fn too_large() -> Error {
    Error::failed("the array exceeds this machine's address space")
}

/// A plan of one array, which is no column of a table.
fn one_table(meta: ArrayMeta) -> Plan {
    Plan { format: "memory", arrays: vec![meta].into(), ..Plan::default() }
}

/// Arrays of a plan, in its order, as a record batch.
pub(super) fn batch_of(plan: &Plan, arrays: Vec<Array>) -> Result<RecordBatch> {
    // Rank 0 is one row.
    let mut plan = plan.clone();
    plan.arrays.iter_mut().for_each(|meta| meta.scalar = false);
    let export = Export::new(&plan, &WriteOptions::default())?;
    let rows = plan.arrays.first().and_then(|meta| meta.rows).unwrap_or(0);
    let columns = arrays.into_iter().enumerate().map(|(i, array)| {
        let name = array.name().to_string();
        (i, vec![Chunk { array: i, ..array.into_parts(&name).1 }])
    });
    let block = Block { first_row: 0, rows, columns: columns.collect() };
    let columns = export.arrays(&plan.arrays, &block)?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows as usize));
    RecordBatch::try_new_with_options(export.schema, columns, &options)
        .map_err(|e| Error::internal(format!("a record batch cannot be put together: {e}")))
}

/// Chunks of an array, in order, as one.
pub(super) fn joined(meta: &ArrayMeta, mut chunks: Vec<Chunk>) -> Result<Chunk> {
    if chunks.len() == 1 {
        return Ok(chunks.remove(0));
    }
    let rows: u64 = chunks.iter().map(|c| c.rows).sum();
    let valid = chunks.iter().any(|c| c.valid.is_some()).then(|| {
        let mut all = Vec::with_capacity(rows as usize);
        for chunk in &chunks {
            match &chunk.valid {
                Some(valid) => all.extend_from_slice(&valid[..chunk.rows as usize]),
                None => all.resize(all.len() + chunk.rows as usize, 1),
            }
        }
        Buf::from_vec(all)
    });
    let values = match &meta.logical {
        Logical::Nested(nested) => {
            Values::Nested(crate::arrow_model::joined_nested(&chunks, nested).at_array(&meta.name)?)
        }
        logical if logical.is_var() => var(meta, &chunks)?,
        _ => {
            let mut all = arrow_buffer::MutableBuffer::new(0);
            for chunk in &chunks {
                if let Values::Fixed(bytes) = &chunk.values {
                    all.extend_from_slice(bytes);
                }
            }
            Values::Fixed(all.into())
        }
    };
    Ok(Chunk { array: 0, first_row: 0, rows, values, valid })
}

/// Rows that differ in size, from the first on.
fn var(meta: &ArrayMeta, chunks: &[Chunk]) -> Result<Values> {
    let item = meta.dtype.item_bytes();
    let (mut offsets, mut all) = (vec![0u64], arrow_buffer::MutableBuffer::new(0));
    for chunk in chunks {
        let Values::Var { offsets: from, values } = &chunk.values else {
            return Err(Error::internal("rows of uneven length were expected"));
        };
        let from = &from[..=chunk.rows as usize];
        let (first, last) = (from[0], from[from.len() - 1]);
        let end = offsets[offsets.len() - 1];
        offsets.extend(from[1..].iter().map(|o| end + (o - first)));
        all.extend_from_slice(&values[(first * item) as usize..(last * item) as usize]);
    }
    Ok(Values::Var { offsets, values: all.into() })
}
