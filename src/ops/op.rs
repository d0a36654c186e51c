//! What ops and recipes are: each names what it needs, and what it is made of.

use std::sync::Arc;

use super::dictionary::FillCategory;
use super::lists::Lists;
use super::nested::Part;
use super::time::Rescale;
use crate::model::{ArrayMeta, Categories, Decimals, Dtype, Nested};

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
    Rescale(Rescale),
    /// NaT becomes null.
    NatToNull,
    /// Drops the mask; the values at nulls stay as they are (0, NaN, empty).
    DropMask,
    /// This element (bytes) at every null, and no mask.
    Fill(Vec<u8>),
    /// This text at every null, and no mask.
    FillText(Vec<u8>),
    /// The code of this category at every null, and no mask.
    FillCategory(Arc<FillCategory>),
    /// Codes that no category has are corrupt.
    CheckCodes {
        /// What the codes point into.
        categories: Arc<Categories>,
        /// The codes' dtype.
        codes: Dtype,
    },
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
    /// Nulls of this array in every row, whatever the input.
    Nulls(Arc<ArrayMeta>),
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
    Dequantize(Arc<Dequantize>),
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
    pub(super) name: String,
    pub(super) row_elements: u64,
}

impl Info {
    /// Of an array as it is after the ops.
    pub fn of(meta: &ArrayMeta) -> Info {
        let row_elements = crate::model::checked_product(&meta.inner).unwrap_or(1);
        Info { name: meta.name.clone(), row_elements }
    }
    /// Of a column.
    pub(super) fn column(name: &str) -> Info {
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
    pub(super) fn takes_chunks(&self) -> bool {
        !matches!(
            self,
            Op::Stack(_) | Op::Dequantize(_) | Op::Encode(_) | Op::Offsets | Op::Elements { .. }
        )
    }
}

/// How an array of an output is made.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The array of the source; the first of several, which [`Op::Stack`] names.
    pub input: usize,
    /// What happens to its chunks, in order. [`Op::Stack`] is the first op or none.
    pub ops: Vec<Op>,
}

impl Recipe {
    /// The array as it is.
    pub fn of(input: usize) -> Recipe {
        Recipe { input, ops: Vec::new() }
    }
    /// Every array as it is.
    pub fn each(arrays: usize) -> Vec<Recipe> {
        (0..arrays).map(Recipe::of).collect()
    }
    /// The columns, where there are several inputs.
    pub fn stack(&self) -> Option<&Stack> {
        match self.ops.first() {
            Some(Op::Stack(stack)) => Some(stack),
            _ => None,
        }
    }
    /// The weights and their scales, where it is made of them.
    pub fn dequantize(&self) -> Option<&Dequantize> {
        match self.ops.first() {
            Some(Op::Dequantize(dequantize)) => Some(dequantize),
            _ => None,
        }
    }
    /// Whether it is made of several arrays at once.
    pub fn is_joined(&self) -> bool {
        self.stack().is_some() || self.dequantize().is_some()
    }
    /// All arrays of the source that it needs.
    pub fn inputs(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = self.stack().map_or(&[][..], |s| &s.columns);
        let parts = self.dequantize().map_or(&[][..], |d| &d.parts);
        let one = (columns.is_empty() && parts.is_empty()).then_some(self.input);
        let several = columns.iter().map(|c| &c.recipe).chain(parts.iter().map(|p| &p.recipe));
        one.into_iter().chain(several.map(|recipe| recipe.input))
    }
    /// The farthest that one of its ops must look.
    pub fn needs(&self) -> Needs {
        self.ops.iter().map(Op::needs).max().unwrap_or(Needs::Chunk)
    }
    /// This recipe, whose inputs are themselves made by `below`.
    pub fn over(&self, below: &[Recipe]) -> Recipe {
        if let Some(dequantize) = self.dequantize() {
            let first = Op::Dequantize(dequantize.over(below).into());
            let ops = std::iter::once(first).chain(self.ops[1..].iter().cloned()).collect();
            return Recipe { input: below[self.input].input, ops };
        }
        let Some(stack) = self.stack() else {
            let mut whole = below[self.input].clone();
            whole.ops.extend(self.ops.iter().cloned());
            return whole;
        };
        let stack = Op::Stack(stack.over(below).into());
        let ops = std::iter::once(stack).chain(self.ops[1..].iter().cloned()).collect();
        Recipe { input: below[self.input].input, ops }
    }
}

/// The arrays that become the columns of a matrix.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The matrix's dtype.
    pub dtype: Dtype,
    /// Its columns.
    pub columns: Vec<StackedColumn>,
}

/// See [`Stack::columns`].
#[derive(Clone, Debug)]
pub struct StackedColumn {
    /// The array, and what happens to it before.
    pub recipe: Recipe,
    /// Its name, for messages.
    pub name: String,
    /// Its dtype then.
    pub dtype: Dtype,
}

impl Stack {
    /// Bytes of a row of the matrix.
    pub fn row_bytes(&self) -> u64 {
        self.dtype.item_bytes().saturating_mul(self.columns.len() as u64)
    }
    pub(super) fn over(&self, below: &[Recipe]) -> Stack {
        let over = |c: &StackedColumn| StackedColumn { recipe: c.recipe.over(below), ..c.clone() };
        Stack { dtype: self.dtype, columns: self.columns.iter().map(over).collect() }
    }
}

/// What the bytes of the weights are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codes {
    /// A number each.
    Float8(Dtype),
    /// Two numbers of E2M1 each, the low half first.
    Fp4,
}

/// What is done with the one scale of all blocks' scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    /// They are multiplied with it.
    Times,
    /// They are divided by it.
    Over,
}

/// An array that goes into a dequantised one.
#[derive(Clone, Debug)]
pub struct DequantizeInput {
    /// How it comes from the source.
    pub recipe: Recipe,
    /// Its name, for messages.
    pub name: String,
    /// Its dtype then. `U8` scales are exponents (E8M0).
    pub dtype: Dtype,
    /// Its rows.
    pub rows: u64,
}

/// See [`Op::Dequantize`].
#[derive(Clone, Debug)]
pub struct Dequantize {
    /// The weights, the scales of blocks, and perhaps the one scale of all.
    pub parts: Vec<DequantizeInput>,
    /// What the weights' bytes are.
    pub codes: Codes,
    /// The numbers' shape, before the last two dimensions change places.
    pub shape: Vec<u64>,
    /// The shape of a block; as many dimensions.
    pub block: Vec<u64>,
    /// What the third part is.
    pub global: Option<Global>,
    /// Whether the last two dimensions change places.
    pub turned: bool,
    /// What the numbers become.
    pub to: Dtype,
}

impl Dequantize {
    pub(super) fn over(&self, below: &[Recipe]) -> Dequantize {
        let over =
            |p: &DequantizeInput| DequantizeInput { recipe: p.recipe.over(below), ..p.clone() };
        Dequantize { parts: self.parts.iter().map(over).collect(), ..self.clone() }
    }
}

impl From<Dequantize> for Op {
    fn from(it: Dequantize) -> Op {
        Op::Dequantize(it.into())
    }
}
