//! Recipes: which arrays an output array is made of, and by which ops.

use super::apply::apply;
use super::distinct_texts::DistinctTexts;
use super::matrix::Matrix;
use super::op::{Info, Needs, Op, Recipe};
use crate::error::{Error, Result};
use crate::format::Emit;
use crate::model::{Buf, Chunk, Plan};

/// A chunk on its way into an output array.
pub struct Portion {
    /// The output array.
    pub output: usize,
    /// As which of the columns that are stacked into it; 0 where none are.
    pub column: usize,
    /// The chunk, after the ops that look at one chunk alone. Its `array` is the output array.
    pub chunk: Chunk,
    /// Whether these are all.
    pub ready: bool,
    /// What an [`Op::Encode`] that comes next need not look for itself.
    pub(super) texts: Option<DistinctTexts>,
}

impl Portion {
    /// A chunk after all ops.
    pub fn ready(chunk: Chunk) -> Portion {
        Portion { output: chunk.array, column: 0, chunk, ready: true, texts: None }
    }
}

/// The recipes of all arrays of an output, ready to be executed on any thread.
pub struct Recipes {
    recipes: Vec<Recipe>,
    infos: Vec<Info>,
    uses: Uses,
}

impl Recipes {
    /// Those that make `plan` of `inputs` arrays.
    pub fn new(recipes: Vec<Recipe>, plan: &Plan, inputs: usize) -> Recipes {
        debug_assert_eq!(plan.arrays.len(), recipes.len());
        let infos = plan.arrays.iter().map(Info::of).collect();
        let all: Vec<usize> = (0..recipes.len()).collect();
        let uses = Uses::new(&recipes, &all, inputs);
        Recipes { recipes, infos, uses }
    }
    /// The same, where only these outputs are made.
    pub fn only(&self, outputs: &[usize]) -> Recipes {
        let uses = Uses::new(&self.recipes, outputs, self.uses.inputs());
        Recipes { recipes: self.recipes.clone(), infos: self.infos.clone(), uses }
    }
    /// How an output is made.
    pub fn of(&self, output: usize) -> &Recipe {
        &self.recipes[output]
    }
    /// Rows of an output that is dequantised, from the bytes of its parts.
    ///
    /// # Errors
    /// Values that cannot be taken.
    pub fn dequantized(
        &self,
        output: usize,
        parts: &[Buf],
        rows: std::ops::Range<u64>,
    ) -> Result<Portion> {
        let (recipe, info) = (&self.recipes[output], &self.infos[output]);
        let Some(dequantize) = recipe.dequantize() else {
            return Err(Error::internal("an array without scales is dequantised"));
        };
        let values = dequantize.rows(parts, &rows, &info.name)?;
        let chunk = super::dequantize::chunk(output, &rows, values);
        Ok(Portion::ready(apply(chunk, recipe.ops[1..].iter(), info)?))
    }
    /// Rows of an output that is stacked of columns. `read` hands on these rows of a column's input, one
    /// column after the other: no more than one of them is held beside the matrix.
    ///
    /// # Errors
    /// Values that cannot be taken, or those of `read`.
    pub fn stacked(
        &self,
        output: usize,
        rows: std::ops::Range<u64>,
        read: &mut dyn FnMut(usize, Emit<'_>) -> Result<()>,
    ) -> Result<Portion> {
        let (recipe, info) = (&self.recipes[output], &self.infos[output]);
        let Some(stack) = recipe.stack() else {
            return Err(Error::internal("an array without columns is stacked"));
        };
        let mut matrix = Matrix::new(stack, rows.end - rows.start);
        for (c, column) in stack.columns.iter().enumerate() {
            let mut row = 0;
            read(column.recipe.input, &mut |chunk| {
                let chunk = stack.before(chunk, c)?;
                matrix.put(c, row, &chunk);
                row += chunk.rows;
                Ok(())
            })?;
        }
        let chunk = matrix.into_chunk(output, rows.start);
        Ok(Portion::ready(apply(chunk, recipe.ops[1..].iter(), info)?))
    }
    /// What messages call it.
    pub(super) fn info(&self, output: usize) -> &Info {
        &self.infos[output]
    }
    /// The outputs that an array of the source is in, each as often as it is.
    pub fn uses(&self, input: usize) -> &[(usize, usize)] {
        self.uses.of(input)
    }
    /// Sends a chunk of the source on its way into the outputs it is in.
    ///
    /// # Errors
    /// Values that cannot be taken, or what `emit` returned.
    pub fn start(&self, chunk: Chunk, emit: &mut dyn FnMut(Portion) -> Result<()>) -> Result<()> {
        let Some((&(last, column), others)) = self.uses.of(chunk.array).split_last() else {
            return Ok(());
        };
        for &(output, column) in others {
            emit(self.alone(chunk.clone(), output, column)?)?;
        }
        emit(self.alone(chunk, last, column)?)
    }
    /// A chunk of the source after the first ops of an output, as far as they look at one chunk
    /// alone.
    ///
    /// # Errors
    /// Values that cannot be taken.
    pub fn alone(&self, mut chunk: Chunk, output: usize, column: usize) -> Result<Portion> {
        chunk.array = output;
        let recipe = &self.recipes[output];
        let mut texts = None;
        let chunk = match recipe.stack() {
            Some(stack) => stack.before(chunk, column)?,
            None => {
                let far = recipe.ops.iter().position(|op| !op.takes_chunks());
                let alone = &recipe.ops[..far.unwrap_or(recipe.ops.len())];
                let chunk = apply(chunk, alone.iter(), &self.infos[output])?;
                if let Some(Op::Encode(_)) = far.map(|at| &recipe.ops[at]) {
                    texts = DistinctTexts::of(&chunk);
                }
                chunk
            }
        };
        Ok(Portion { output, column, chunk, ready: recipe.needs() == Needs::Chunk, texts })
    }
}

/// Per array of the source: the outputs it is in, and as which of their columns. Of very many
/// arrays each is in one: no room of its own for each.
#[derive(Default)]
struct Uses {
    all: Vec<(usize, usize)>,
    /// Where those of an array end in `all`; they begin where those before it end.
    ends: Vec<usize>,
}

impl Uses {
    fn new(recipes: &[Recipe], outputs: &[usize], inputs: usize) -> Uses {
        let each = || {
            let inputs =
                |&output: &usize| recipes[output].inputs().enumerate().map(move |i| (output, i));
            outputs.iter().flat_map(inputs)
        };
        // First how many there are of each, then where they begin, which grows to their ends.
        let mut ends = vec![0; inputs];
        each().for_each(|(_, (_, input))| ends[input] += 1);
        let mut before = 0;
        for end in &mut ends {
            before += std::mem::replace(end, before);
        }
        let mut all = vec![(0, 0); before];
        for (output, (column, input)) in each() {
            all[ends[input]] = (output, column);
            ends[input] += 1;
        }
        Uses { all, ends }
    }
    fn inputs(&self) -> usize {
        self.ends.len()
    }
    /// None of an array that is not there.
    fn of(&self, input: usize) -> &[(usize, usize)] {
        let Some(&end) = self.ends.get(input) else { return &[] };
        let start = if input == 0 { 0 } else { self.ends[input - 1] };
        &self.all[start..end]
    }
}
