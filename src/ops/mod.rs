//! What recipes are made of. An [`Op`] is one change of the chunks of an array; it says whether it
//! looks at one chunk alone, or needs the rows of several arrays or all chunks in order.
//!
//! Nothing here reads, writes or starts a thread: the pipe executes recipes. To add an op, add a
//! variant to [`Op`], its reach to [`Op::needs`] and what it does to [`Op::apply`] (in order:
//! [`ordered`]).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Buf, Categories, Chunk, Decimals, Dtype, Nested, Values};

pub mod cast;
mod decimal;
pub mod dequantize;
pub mod dictionary;
pub mod float8;
mod lists;
mod nested;
mod ordered;
mod recipe;
pub mod time;

pub use lists::Lists;
pub use nested::{Part, PartOf};
pub use ordered::{InOrder, Stack, StackedColumn, compact};
pub use recipe::{Portion, Recipe, Recipes};

/// One change of the chunks of an array.
#[derive(Clone, Debug)]
pub enum Op {
    /// Booleans and masks are 0 or 1 from here on, whatever bytes a file has for them: what is not
    /// 0 is true.
    NormalizeBools {
        /// Whether the values are booleans, too, not only the mask.
        values: bool,
    },
    /// Cast between dtypes.
    Cast {
        /// The incoming dtype.
        from: Dtype,
        /// The outgoing dtype.
        to: Dtype,
        /// Whether it may round.
        lossy: bool,
    },
    /// Times in another unit; NaT (the minimum) stays.
    Rescale(time::Rescale),
    /// NaT becomes null.
    NatToNull,
    /// Drops the mask; the values at nulls stay as they are (0, NaN, empty).
    DropMask,
    /// This element (bytes) at every null, and no mask.
    Fill(Vec<u8>),
    /// Only the mask, as bools.
    Mask,
    /// Null anywhere is an error.
    RefuseNulls,
    /// Dictionary codes to their categories: text, or elements of fixed size.
    Decode {
        /// What the codes point into.
        categories: Arc<Categories>,
        /// The codes' dtype.
        codes: Dtype,
        /// An element's bytes, where they have a fixed size.
        fixed: Option<usize>,
    },
    /// This value in every row, whatever the input.
    Constant {
        /// Its bytes.
        element: Vec<u8>,
        /// Whether they are text, not an element of fixed size.
        text: bool,
        /// Whether every row is null.
        null: bool,
    },
    /// Decimals to float64.
    DecimalToFloat {
        /// How they are stored.
        from: Decimals,
        /// Whether they may round.
        lossy: bool,
    },
    /// Decimals to their texts.
    DecimalToText(Decimals),
    /// One column of a matrix.
    Column {
        /// Which.
        index: usize,
        /// Of how many.
        width: usize,
        /// Bytes of an element.
        item: usize,
    },
    /// Columns side by side as a matrix: the first op of a recipe of several inputs.
    Stack(Arc<Stack>),
    /// Weights times their scales: the first op of a recipe of several inputs.
    Dequantize(Arc<dequantize::Dequantize>),
    /// A part of a nested column; the first op of its recipe.
    Part(Arc<Part>),
    /// Rows of lists in another form.
    Lists(Arc<Lists>),
    /// Rows of a nested column as JSON text.
    NestedToJson(Arc<Nested>),
    /// Text as int32 codes in order of first appearance, −1 at nulls.
    Encode(Arc<Categories>),
    /// The rows + 1 int64 offsets of uneven rows.
    Offsets,
    /// The elements of uneven rows, end to end.
    Elements {
        /// Bytes of an element.
        item: u64,
    },
}

/// What an op must see to give its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// One chunk alone, whatever came before it.
    Chunk,
    /// The same rows of all its inputs.
    Rows,
    /// All chunks of the array in order; rows stay rows.
    Order,
    /// As `Order`, and how many rows it gives is known at the end only.
    Whole,
}

/// What messages of ops name.
#[derive(Clone, Debug)]
pub struct Info {
    name: String,
    row_elements: u64,
}

impl Info {
    /// Of an array as it is after the ops.
    pub fn of(meta: &ArrayMeta) -> Info {
        let row_elements = crate::model::checked_product(&meta.inner).unwrap_or(1);
        Info { name: meta.name.clone(), row_elements }
    }
    /// Of a column.
    fn column(name: &str) -> Info {
        Info { name: name.into(), row_elements: 1 }
    }
}

impl Op {
    /// How far it must look.
    pub fn needs(&self) -> Needs {
        match self {
            Op::Stack(_) | Op::Dequantize(_) => Needs::Rows,
            Op::Encode(_) => Needs::Order,
            Op::Offsets | Op::Elements { .. } => Needs::Whole,
            Op::Part(part) if part.below_list => Needs::Whole,
            _ => Needs::Chunk,
        }
    }

    /// Whether a chunk tells all that it takes, even where it does not tell how many rows come of
    /// the chunks before.
    fn takes_chunks(&self) -> bool {
        !matches!(
            self,
            Op::Stack(_) | Op::Dequantize(_) | Op::Encode(_) | Op::Offsets | Op::Elements { .. }
        )
    }

    /// Changes a chunk; only for ops that need no more than that.
    ///
    /// # Errors
    /// Values that cannot be taken.
    fn apply(&self, chunk: &mut Chunk, info: &Info) -> Result<()> {
        let first_element = match chunk.first_row {
            Chunk::NEXT => 0,
            row => row.saturating_mul(info.row_elements),
        };
        match self {
            Op::NormalizeBools { values } => normalize(chunk, *values),
            Op::Cast { from, to, lossy } => {
                cast_chunk(chunk, *from, *to, *lossy, info, first_element)?;
            }
            Op::Rescale(rescale) => {
                if let Values::Fixed(values) = &mut chunk.values {
                    *values = rescale.apply(values, &info.name, first_element)?;
                }
            }
            Op::NatToNull => {
                if let Values::Fixed(values) = &chunk.values {
                    time::nat_to_null(values, &mut chunk.valid, chunk.rows);
                }
            }
            Op::DropMask => chunk.valid = None,
            Op::Fill(element) => {
                if let (Some(valid), Values::Fixed(values)) =
                    (chunk.valid.take(), &mut chunk.values)
                {
                    *values = filled(values, &valid, element);
                }
            }
            Op::Mask => {
                let all = || Buf::from_vec(vec![1u8; chunk.rows as usize]);
                chunk.values = Values::Fixed(chunk.valid.take().unwrap_or_else(all));
            }
            Op::RefuseNulls => refuse_nulls(chunk, info)?,
            Op::Decode { categories, codes, fixed } => {
                dictionary::decode(chunk, categories, *codes, *fixed)?;
            }
            Op::Constant { element, text, null } => {
                let rows = chunk.rows as usize;
                let values = Buf::from_vec(element.repeat(rows));
                let offsets = || (0..=rows as u64).map(|row| row * element.len() as u64).collect();
                chunk.values = if *text {
                    Values::Var { offsets: offsets(), values }
                } else {
                    Values::Fixed(values)
                };
                chunk.valid = null.then(|| Buf::from_vec(vec![0u8; rows]));
            }
            Op::DecimalToFloat { from, lossy } => {
                decimal::to_floats(chunk, *from, *lossy, info, first_element)?;
            }
            Op::DecimalToText(from) => decimal::to_texts(chunk, *from),
            Op::Part(part) => *chunk = part.take(chunk)?,
            Op::Lists(lists) => lists.apply(chunk)?,
            Op::NestedToJson(nested) => nested::to_json(chunk, nested)?,
            Op::Column { index, width, item } => {
                if let Values::Fixed(values) = &mut chunk.values {
                    *values = column(values, chunk.rows as usize, *item, *width, *index);
                }
            }
            Op::Stack(_)
            | Op::Dequantize(_)
            | Op::Encode(_)
            | Op::Offsets
            | Op::Elements { .. } => {
                return Err(Error::internal("a change that needs an order has none"));
            }
        }
        Ok(())
    }
}

/// Bytes that are 0 and 1 already, as nearly all are, are not copied.
fn normalize(chunk: &mut Chunk, values: bool) {
    let as_bits = |bytes: &mut Buf| {
        if bytes.iter().fold(0, |all, b| all | b) > 1 {
            *bytes = Buf::from_vec(bytes.iter().map(|b| u8::from(*b != 0)).collect::<Vec<u8>>());
        }
    };
    if values {
        match &mut chunk.values {
            Values::Fixed(values) | Values::Var { values, .. } => as_bits(values),
            Values::Nested(_) => {}
        }
    }
    chunk.valid.as_mut().into_iter().for_each(as_bits);
}

/// What stands at a null is no value: it may not refuse a cast, nor name an index.
fn cast_chunk(
    chunk: &mut Chunk,
    from: Dtype,
    to: Dtype,
    lossy: bool,
    info: &Info,
    first_element: u64,
) -> Result<()> {
    let (Values::Fixed(values) | Values::Var { values, .. }) = &mut chunk.values else {
        return Err(Error::internal("a nested column cannot be cast"));
    };
    let at_null = |index: usize| {
        let row = index as u64 / info.row_elements.max(1);
        chunk.valid.as_ref().is_some_and(|v| v.get(row as usize) == Some(&0))
    };
    *values = match cast::cast(values, from, to, lossy) {
        Ok(cast) => cast,
        Err(index) if at_null(index) => {
            let cast = cast::unchecked(values, from, to);
            let item = from.item_bytes() as usize;
            for i in (index..values.len() / item).filter(|&i| !at_null(i)) {
                let one = values.slice_with_length(i * item, item);
                cast::checked(&one, from, to, lossy, &info.name, first_element + i as u64)?;
            }
            cast
        }
        Err(_) => cast::checked(values, from, to, lossy, &info.name, first_element)?,
    };
    Ok(())
}

fn refuse_nulls(chunk: &mut Chunk, info: &Info) -> Result<()> {
    let Some(row) = chunk.valid.take().and_then(|v| v.iter().position(|&b| b == 0)) else {
        return Ok(());
    };
    let first = if chunk.first_row == Chunk::NEXT { 0 } else { chunk.first_row };
    Err(Error::refused(format!("row {} is null", first + row as u64))
        .array(&info.name)
        .hint("--nulls mask, nan or fill=VALUE"))
}

/// Every `width`th element.
fn column(values: &[u8], rows: usize, item: usize, width: usize, index: usize) -> Buf {
    let mut out = Vec::with_capacity(rows * item);
    for row in values.chunks_exact(item * width).take(rows) {
        out.extend_from_slice(&row[index * item..(index + 1) * item]);
    }
    Buf::from_vec(out)
}

fn filled(values: &Buf, valid: &[u8], element: &[u8]) -> Buf {
    let row = values.len() / valid.len().max(1);
    let mut out = values.to_vec();
    for (i, _) in valid.iter().enumerate().filter(|(_, v)| **v == 0) {
        for part in out[i * row..(i + 1) * row].chunks_exact_mut(element.len().max(1)) {
            part.copy_from_slice(element);
        }
    }
    Buf::from_vec(out)
}
