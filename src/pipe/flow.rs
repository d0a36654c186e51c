//! A source and the recipes that make an output's arrays of its own; as a source again, where it
//! is joined with others.

use std::ops::Range;
use std::sync::Arc;

use super::piece::read_exactly;
use crate::error::{Error, Result};
use crate::format::{
    Emit, Extent, Job, Order, Piece, ReadPieces, ReadRows, Reader, Source, StoredArray, changed,
    readable,
};
use crate::model::{Buf, Plan, Values};
use crate::ops::{Dequantize, Needs, Portion, Recipe, Recipes};
use crate::resolve::Step;

/// A source and what becomes of its arrays.
pub struct Flow {
    pub(super) source: Box<dyn Source>,
    pub(super) plan: Plan,
    pub(super) recipes: Vec<Recipe>,
}

impl From<Box<dyn Source>> for Flow {
    fn from(source: Box<dyn Source>) -> Flow {
        let plan = source.plan().clone();
        let recipes = Recipe::each(plan.arrays.len());
        Flow { source, plan, recipes }
    }
}

impl<S: Source + 'static> From<Box<S>> for Flow {
    fn from(source: Box<S>) -> Flow {
        Flow::from(source as Box<dyn Source>)
    }
}

impl Flow {
    /// Its arrays after all changes so far.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// With these changes after those so far. Their notes are the caller's.
    pub fn then(self, step: Step) -> Flow {
        let recipes = step.recipes.iter().map(|r| r.over(&self.recipes)).collect();
        Flow { source: self.source, plan: step.plan, recipes }
    }
    /// Only these arrays, in this order.
    pub fn choose(self, chosen: &[usize]) -> Flow {
        let step = Step::choose(&self.plan, chosen);
        self.then(step)
    }
    /// The same arrays under a changed plan (names, logical types of the same bytes).
    pub fn relabel(self, plan: Plan) -> Flow {
        Flow { plan, ..self }
    }
    /// As a source. Its recipes may need no more than a chunk alone, or the source random access:
    /// see [`super::with_random`] for others.
    pub fn into_source(self) -> Box<dyn Source> {
        let Flow { source, plan, recipes } = self;
        let recipes = Recipes::new(recipes, &plan, source.plan().arrays.len());
        Box::new(View { source, plan, recipes })
    }
    /// Whether only reading tells how many rows some of its arrays have.
    pub fn has_unsettled(&self) -> bool {
        self.recipes.iter().any(|recipe| recipe.needs() == Needs::Whole)
    }
    /// Reads its arrays at random, where the source can.
    ///
    /// # Errors
    /// Where an array cannot be read.
    pub(super) fn reader(&self, outputs: &[usize]) -> Result<Option<Arc<dyn ReadRows>>> {
        let inputs = self.source.plan();
        let recipes = Recipes::new(self.recipes.clone(), &self.plan, inputs.arrays.len());
        let recipes = Arc::new(recipes.only(outputs));
        let (reader, _) = select(self.source.as_ref(), &self.plan, &recipes, outputs, Order::Any)?;
        let all = outputs.iter().all(|&a| self.recipes[a].needs() <= Needs::Rows);
        Ok(reader.random().filter(|_| all).map(|reader| {
            let inputs = inputs.clone();
            Arc::new(RecipeReader { reader, recipes, inputs }) as Arc<dyn ReadRows>
        }))
    }
}

/// Reads those arrays of a source that the outputs need; and the order of the outputs' chunks.
pub(super) fn select(
    source: &dyn Source,
    plan: &Plan,
    recipes: &Recipes,
    outputs: &[usize],
    wish: Order,
) -> Result<(Reader, Order)> {
    let mut inputs: Vec<usize> = Vec::new();
    let mut seen = vec![false; source.plan().arrays.len()];
    let mut fanned = false;
    for &output in outputs {
        readable(&plan.arrays[output])?;
        for input in recipes.of(output).inputs() {
            match std::mem::replace(&mut seen[input], true) {
                true => fanned = true,
                false => inputs.push(input),
            }
        }
    }
    let reordered = !inputs.is_sorted();
    // In file order the source reads forward; the sink's order is asked for where it matters.
    if wish == Order::Any {
        inputs.sort_unstable();
    }
    let reader = source.select(&inputs, wish)?;
    let given = reader.order(wish);
    let mixed = given == Order::ArrayByArray && (fanned || reordered);
    Ok((reader, if mixed { Order::Any } else { given }))
}

/// Arrays of which all that is wanted was selected before.
pub struct Selected {
    pub(super) plan: Plan,
    pub(super) reader: Arc<dyn ReadRows>,
}

impl Selected {
    /// The reader alone.
    pub fn into_reader(self) -> Arc<dyn ReadRows> {
        self.reader
    }
}

impl Source for Selected {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, _arrays: &[usize], _wish: Order) -> Result<Reader> {
        Ok(Reader::Random(self.reader.clone()))
    }
}

/// A flow as a source.
struct View {
    source: Box<dyn Source>,
    plan: Plan,
    recipes: Recipes,
}

impl Source for View {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let recipes = Arc::new(self.recipes.only(arrays));
        let (reader, order) = select(self.source.as_ref(), &self.plan, &recipes, arrays, wish)?;
        Ok(match reader {
            Reader::Random(reader) => {
                let inputs = self.source.plan().clone();
                Reader::Random(Arc::new(RecipeReader { reader, recipes, inputs }))
            }
            Reader::InOrder(pieces) => {
                Reader::InOrder(Box::new(ViewPieces { pieces, recipes, order }))
            }
        })
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        let recipe = self.recipes.of(array);
        match recipe.ops.is_empty() {
            true => self.source.stored(recipe.input),
            false => Err(Error::refused("its values would have to be changed")),
        }
    }
}

struct ViewPieces {
    pieces: Box<dyn ReadPieces>,
    recipes: Arc<Recipes>,
    order: Order,
}

impl ReadPieces for ViewPieces {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let Some(job) = self.pieces.next(max_bytes)? else { return Ok(None) };
        let recipes = self.recipes.clone();
        Ok(Some(changed(job, move |chunk, emit| {
            recipes.start(chunk, &mut |portion| emit(ready(portion)?))
        })))
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let recipe = self.recipes.of(array);
        if recipe.ops.is_empty() { self.pieces.extents(recipe.input) } else { None }
    }
    fn close(&mut self) -> Result<()> {
        self.pieces.close()
    }
}

fn ready(portion: Portion) -> Result<crate::model::Chunk> {
    match portion.ready {
        true => Ok(portion.chunk),
        false => Err(Error::internal("a change that needs an order has none")),
    }
}

/// Reads a source with random access through recipes.
pub(super) struct RecipeReader {
    pub(super) reader: Arc<dyn ReadRows>,
    pub(super) recipes: Arc<Recipes>,
    /// The source's own arrays.
    pub(super) inputs: Plan,
}

impl RecipeReader {
    /// Rows of outputs that are made of the same input, or of one that is made of several. Each is
    /// read once.
    pub(super) fn read_together(
        &self,
        outputs: &[usize],
        rows: Range<u64>,
        emit: &mut dyn FnMut(Portion) -> Result<()>,
    ) -> Result<()> {
        let (reader, recipe) = (self.reader.as_ref(), self.recipes.of(outputs[0]));
        if let Some(dequantize) = recipe.dequantize() {
            return self.read_dequantized(outputs[0], dequantize, rows, emit);
        }
        if recipe.stack().is_none() {
            let (&last, others) = outputs.split_last().unwrap_or((&0, &[]));
            return read_exactly(reader, recipe.input, rows, &mut |chunk| {
                for &output in others {
                    emit(self.recipes.alone(chunk.clone(), output, 0)?)?;
                }
                emit(self.recipes.alone(chunk, last, 0)?)
            });
        }
        emit(self.recipes.stacked(outputs[0], rows.clone(), &mut |input, emit| {
            read_exactly(reader, input, rows.clone(), emit)
        })?)
    }
}

impl RecipeReader {
    /// Rows of weights, and the scales that belong to them.
    fn read_dequantized(
        &self,
        output: usize,
        dequantize: &Dequantize,
        rows: Range<u64>,
        emit: &mut dyn FnMut(Portion) -> Result<()>,
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(dequantize.parts.len());
        for (n, part) in dequantize.parts.iter().enumerate() {
            let mut chunks: Vec<Buf> = Vec::new();
            let rows = dequantize.rows_of(n, &rows);
            read_exactly(self.reader.as_ref(), part.recipe.input, rows, &mut |chunk| {
                match dequantize.before(chunk, n)?.values {
                    Values::Fixed(bytes) => chunks.push(bytes),
                    _ => return Err(Error::internal("weights of different lengths")),
                }
                Ok(())
            })?;
            parts.push(match chunks.len() {
                1 => chunks.remove(0),
                _ => Buf::from_vec(
                    chunks.iter().flat_map(|c| c.iter().copied()).collect::<Vec<u8>>(),
                ),
            });
        }
        emit(self.recipes.dequantized(output, &parts, rows)?)
    }
}

impl ReadRows for RecipeReader {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let recipe = self.recipes.of(array);
        if recipe.ops.is_empty() { self.reader.extents(recipe.input) } else { None }
    }
    fn close(&self) -> Result<()> {
        self.reader.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.reader.next_boundary(self.recipes.of(array).input, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        if let Some(dequantize) = self.recipes.of(array).dequantize() {
            let count = rows.end.saturating_sub(rows.start);
            let parts = dequantize.parts.iter().enumerate().map(|(n, part)| {
                let (input, rows) = (part.recipe.input, dequantize.rows_of(n, &rows));
                let row = self.inputs.arrays[input].row_bytes().unwrap_or(0);
                let all = (rows.end - rows.start).saturating_mul(row);
                all.max(self.reader.cost(input, rows).unwrap_or(0))
            });
            return Some(parts.sum::<u64>().saturating_add(dequantize.extra_bytes(count)));
        }
        match self.recipes.of(array).stack() {
            None => self.reader.cost(self.recipes.of(array).input, rows),
            // The matrix, and one column after the other.
            Some(stack) => {
                let count = rows.end.saturating_sub(rows.start);
                let first = stack.columns.first()?.recipe.input;
                let decoded = self.inputs.arrays[first].row_bytes().unwrap_or(0);
                let column = self.reader.cost(first, rows);
                let column = column.unwrap_or(count.saturating_mul(decoded));
                Some(count.saturating_mul(stack.row_bytes()).saturating_add(column))
            }
        }
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        match self.recipes.of(array).is_joined() {
            false => self.reader.piece(self.recipes.of(array).input, row, bytes),
            true => None,
        }
    }
    fn is_lent(&self, array: usize) -> bool {
        let recipe = self.recipes.of(array);
        recipe.ops.is_empty() && !recipe.is_joined() && self.reader.is_lent(recipe.input)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.read_together(&[array], rows, &mut |portion| emit(ready(portion)?))
    }
}
