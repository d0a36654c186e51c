//! Rows of lists in another form: as a row of numbers where all are of one length, as uneven rows
//! of numbers, or as Arrow arrays. Which form a file has, its values decide; rows of several files
//! need one.

use std::sync::Arc;

use arrow_schema::DataType;

use crate::arrow_model;
use crate::error::{Error, Result};
use crate::model::nested::walk;
use crate::model::{ArrayMeta, Buf, Chunk, Dtype, Logical, Nested, Values};

/// Rows of lists made like those of another array.
#[derive(Clone, Debug)]
pub struct Lists {
    from: Box<ArrayMeta>,
    to: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// [`Values::Var`] of plain elements.
    Uneven,
    /// Arrays of this type.
    Nested(DataType),
}

impl Lists {
    /// The array that rows of `from` become in the form of `to`, and how; `None` where they have it,
    /// or cannot have it.
    pub fn between(from: &ArrayMeta, to: &ArrayMeta) -> Option<(ArrayMeta, Lists)> {
        let listed = match &from.logical {
            Logical::List => 1,
            l if l.is_var() || matches!(l, Logical::Dictionary { .. }) => return None,
            _ => from.element_dims().len(),
        };
        if from.scalar || listed == 0 || from.details.error.is_some() {
            return None;
        }
        let mut made = ArrayMeta { inner: Vec::new(), ..from.clone() };
        let form = match &to.logical {
            Logical::List
                if from.logical.is_plain() && from.inner.len() == 1 && from.dtype == to.dtype =>
            {
                made.logical = Logical::List;
                Form::Uneven
            }
            Logical::Nested(nested) => {
                let t = nested.field.data_type();
                let dims: Vec<Option<u64>> = match &from.logical {
                    Logical::List => vec![None],
                    _ => from.element_dims().iter().map(|&n| Some(n)).collect(),
                };
                let element = if from.logical == Logical::List {
                    Logical::Plain
                } else {
                    from.logical.clone()
                };
                let found = arrow_model::element_type(elements(t, &dims)?).ok()?;
                if found != (from.dtype, element) {
                    return None;
                }
                let mut nulls = vec![false; walk(t).len()];
                nulls[0] = from.nulls;
                let dictionaries = Vec::new();
                let nested =
                    Nested { field: nested.field.clone(), dictionaries, nulls: Some(nulls) };
                (made.dtype, made.nulls) = (Dtype::U8, false);
                made.logical = Logical::Nested(Arc::new(nested));
                Form::Nested(t.clone())
            }
            _ => return None,
        };
        Some((made, Lists { from: Box::new(from.clone()), to: form }))
    }

    /// Changes a chunk.
    ///
    /// # Errors
    /// Rows that the type cannot hold.
    pub fn apply(&self, chunk: &mut Chunk) -> Result<()> {
        match &self.to {
            Form::Nested(t) => {
                let array = arrow_model::array(&self.from, t, std::slice::from_ref(chunk))?;
                (chunk.values, chunk.valid) = (Values::Nested(array), None);
            }
            Form::Uneven => {
                let Values::Fixed(values) = &chunk.values else {
                    return Err(Error::internal("rows of one length were expected"));
                };
                let length = self.from.inner.first().copied().unwrap_or(0);
                let row = length * self.from.dtype.item_bytes();
                let is_null = |i: u64| {
                    chunk.valid.as_ref().is_some_and(|valid| valid.get(i as usize) == Some(&0))
                };
                // A null has no elements.
                let (mut offsets, mut kept) = (vec![0], Vec::with_capacity(values.len()));
                for i in 0..chunk.rows {
                    let last = offsets[i as usize];
                    if is_null(i) {
                        offsets.push(last);
                        continue;
                    }
                    kept.extend_from_slice(&values[(i * row) as usize..((i + 1) * row) as usize]);
                    offsets.push(last + length);
                }
                chunk.values = Values::Var { offsets, values: Buf::from_vec(kept) };
            }
        }
        Ok(())
    }
}

/// What is below lists of these lengths (`None`: of any).
fn elements<'a>(t: &'a DataType, lengths: &[Option<u64>]) -> Option<&'a DataType> {
    let [length, below @ ..] = lengths else { return Some(t) };
    match t {
        DataType::List(f) | DataType::LargeList(f) => elements(f.data_type(), below),
        DataType::FixedSizeList(f, n) if *length == u64::try_from(*n).ok() => {
            elements(f.data_type(), below)
        }
        _ => None,
    }
}
