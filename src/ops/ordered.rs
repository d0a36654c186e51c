//! Ops that look further than one chunk: columns side by side, text to codes, uneven rows end to
//! end. What they know of the chunks before is kept here, one state an output array.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::apply::apply;
use super::distinct_texts::DistinctTexts;
use super::matrix::Matrix;
use super::op::{Info, Needs, Op, Stack};
use super::recipe::{Portion, Recipes};
use crate::array::text_codes::Coder;
use crate::error::{Error, Result};
use crate::format::Emit;
use crate::model::{Buf, Chunk, CommonRows, Values};

impl Stack {
    /// A chunk of a column, in the matrix's dtype.
    pub(super) fn before(&self, chunk: Chunk, column: usize) -> Result<Chunk> {
        let column = &self.columns[column];
        let cast = Op::Cast { from: column.dtype, to: self.dtype, lossy: false };
        let info = Info::column(&column.name);
        let chunk = apply(chunk, column.recipe.ops.iter(), &info)?;
        apply(chunk, std::iter::once(&cast), &info)
            .map_err(|e| e.hint("--layout columns keeps each column in its own type"))
    }
}

/// Executes the rest of recipes, whose chunks come in order.
pub struct InOrder {
    recipes: Arc<Recipes>,
    states: HashMap<usize, State>,
}

enum State {
    Stack {
        columns: Vec<Pending>,
        common: CommonRows,
    },
    Encode(Coder),
    /// Elements so far; `None` before the leading 0 was given.
    Offsets(Option<u64>),
    Elements,
}

#[derive(Default)]
struct Pending {
    chunks: VecDeque<Chunk>,
}

impl State {
    fn of(op: &Op) -> State {
        match op {
            Op::Stack(stack) => State::Stack {
                columns: stack.columns.iter().map(|_| Pending::default()).collect(),
                common: CommonRows::new(stack.columns.len()),
            },
            Op::Encode(categories) => State::Encode(Coder::new(categories.clone())),
            Op::Offsets => State::Offsets(None),
            _ => State::Elements,
        }
    }
}

impl InOrder {
    /// Of all outputs, before the first chunk.
    pub fn new(recipes: &Arc<Recipes>) -> InOrder {
        InOrder { recipes: recipes.clone(), states: HashMap::new() }
    }

    /// Takes the next chunk of an output (or of a column of it).
    ///
    /// # Errors
    /// Values that cannot be taken, or what `emit` returned.
    pub fn push(&mut self, portion: Portion, emit: Emit<'_>) -> Result<()> {
        let Portion { output, column, chunk, ready, texts } = portion;
        if ready {
            return emit(chunk);
        }
        let recipe = self.recipes.of(output);
        // Of lists that have no elements nothing is left.
        if chunk.rows == 0 && recipe.needs() == Needs::Whole {
            return Ok(());
        }
        let Some(at) = recipe.ops.iter().position(|op| !op.takes_chunks()) else {
            return emit(chunk);
        };
        let (op, info) = (&recipe.ops[at], self.recipes.info(output));
        let state = self.states.entry(output).or_insert_with(|| State::of(op));
        let made = match (op, state) {
            (Op::Stack(stack), State::Stack { columns, common }) => {
                let rows = chunk.rows;
                columns[column].chunks.push_back(chunk);
                if !common.add(column, rows) {
                    return Ok(());
                }
                side_by_side(output, stack, columns, common)?
            }
            (Op::Encode(_), State::Encode(coder)) => encode(&chunk, texts, coder, info)?,
            (Op::Offsets, State::Offsets(end)) => offsets(&chunk, end),
            (Op::Elements { item }, State::Elements) => match elements(chunk, *item) {
                Some(chunk) => chunk,
                None => return Ok(()),
            },
            _ => return Err(Error::internal("an op in order has the state of another")),
        };
        emit(apply(made, recipe.ops[at + 1..].iter(), info)?)
    }

    /// Bytes that are held until the output is finished: the distinct texts, and what the side file
    /// says of them.
    pub fn held_bytes(&self) -> u64 {
        let of = |state: &State| match state {
            State::Encode(coder) => coder.held_bytes(),
            _ => 0,
        };
        self.states.values().map(of).sum()
    }

    /// After the last chunk of these outputs.
    ///
    /// # Errors
    /// As [`InOrder::push`].
    pub fn finish(&mut self, outputs: &[usize], emit: Emit<'_>) -> Result<()> {
        for &output in outputs {
            let offsets = self.recipes.of(output).ops.iter().any(|op| matches!(op, Op::Offsets));
            if offsets && !self.states.contains_key(&output) {
                emit(Chunk::fixed(output, Chunk::NEXT, 1, Buf::from_vec(vec![0i64])))?;
            }
        }
        Ok(())
    }
}

fn encode(
    chunk: &Chunk,
    texts: Option<DistinctTexts>,
    coder: &mut Coder,
    info: &Info,
) -> Result<Chunk> {
    let mut code =
        |row: usize| if chunk.is_valid(row) { coder.code(chunk.text(row)) } else { Ok(-1) };
    let codes: Result<Vec<i32>> = match texts {
        None => (0..chunk.rows as usize).map(code).collect(),
        Some(DistinctTexts { mut codes, rows }) => {
            let whole: Result<Vec<i32>> = rows.into_iter().map(&mut code).collect();
            whole.map(|whole| {
                codes.iter_mut().filter(|c| **c >= 0).for_each(|c| *c = whole[*c as usize]);
                codes
            })
        }
    };
    let codes = codes.map_err(|e| e.array(&info.name).hint("--strings offsets"))?;
    Ok(Chunk::fixed(chunk.array, chunk.first_row, chunk.rows, Buf::from_vec(codes)))
}

fn offsets(chunk: &Chunk, end: &mut Option<u64>) -> Chunk {
    let Values::Var { offsets, .. } = &chunk.values else { return chunk.clone() };
    let (first, base) = (offsets[0], end.unwrap_or(0));
    let mut out = Vec::with_capacity(offsets.len());
    if end.is_none() {
        out.push(0);
    }
    out.extend(offsets[1..].iter().map(|o| (base + o - first) as i64));
    *end = Some(base + offsets[offsets.len() - 1] - first);
    let count = out.len() as u64;
    Chunk::fixed(chunk.array, Chunk::NEXT, count, Buf::from_vec(out))
}

fn elements(chunk: Chunk, item: u64) -> Option<Chunk> {
    let array = chunk.array;
    let Values::Var { offsets, values } = compact(chunk, item).values else { return None };
    let count = offsets[offsets.len() - 1];
    (count > 0).then(|| Chunk::fixed(array, Chunk::NEXT, count, values))
}

/// The rows that all columns have, as rows of the matrix.
fn side_by_side(
    array: usize,
    stack: &Stack,
    columns: &mut [Pending],
    common: &mut CommonRows,
) -> Result<Chunk> {
    let rows = common.all();
    let mut matrix = Matrix::new(stack, rows);
    for (c, pending) in columns.iter_mut().enumerate() {
        let mut row = 0;
        while row < rows {
            let Some(chunk) = pending.chunks.pop_front() else {
                return Err(Error::internal("rows that were counted are not there"));
            };
            let take = chunk.rows.min(rows - row);
            matrix.put(c, row, &chunk);
            if take < chunk.rows {
                pending.chunks.push_front(chunk.slice(take, chunk.rows));
            }
            row += take;
        }
    }
    common.take(rows);
    Ok(matrix.into_chunk(array, Chunk::NEXT))
}

/// A var chunk whose values are exactly its rows, from offset 0.
pub fn compact(mut chunk: Chunk, item_bytes: u64) -> Chunk {
    if let Values::Var { offsets, values } = &mut chunk.values {
        let (base, end) = (offsets[0], offsets[offsets.len() - 1]);
        *values = values
            .slice_with_length((base * item_bytes) as usize, ((end - base) * item_bytes) as usize);
        offsets.iter_mut().for_each(|o| *o -= base);
    }
    chunk
}
