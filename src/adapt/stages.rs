//! Changes that need the chunks in order: text to codes, uneven rows to offsets, columns to a
//! matrix and back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cast;
use super::rows::compact;
use crate::array::text_codes::Coder;
use crate::error::{Error, Result};
use crate::format::Stage;
use crate::format::{Emit, Order};
use crate::model::{ArrayMeta, Buf, Categories, Chunk, CommonRows, Dtype, Plan, Values};

/// What happens to one incoming array.
pub enum Flat {
    /// Passes as the outgoing array of this index.
    Pass(usize),
    /// Text becomes int32 codes in order of first appearance, −1 at nulls.
    Codes {
        /// The outgoing array.
        to: usize,
        /// Where the categories are collected.
        categories: Arc<Categories>,
    },
    /// Uneven rows become offsets and values, end to end.
    Offsets {
        /// The outgoing int64 array of rows + 1 offsets.
        offsets: usize,
        /// The outgoing array of the values.
        values: usize,
    },
}

/// Text and lists as plain arrays.
pub struct FlatStage {
    plan: Plan,
    names: Vec<String>,
    items: Vec<u64>,
    flats: Vec<Flat>,
    state: Vec<State>,
}

#[derive(Default)]
struct State {
    coder: Option<Coder>,
    /// Elements so far; `None` before the leading 0 was written.
    end: Option<u64>,
}

impl State {
    fn of(flat: &Flat) -> State {
        let coder = match flat {
            Flat::Codes { categories, .. } => Some(Coder::new(categories.clone())),
            _ => None,
        };
        State { coder, end: None }
    }
}

impl FlatStage {
    /// `arrays`: the incoming arrays; `flats`: what happens to each; `plan`: the outgoing plan.
    pub fn new(arrays: &[ArrayMeta], flats: Vec<Flat>, plan: Plan) -> FlatStage {
        FlatStage {
            plan,
            names: arrays.iter().map(|a| a.name.clone()).collect(),
            items: arrays.iter().map(|a| a.dtype.item_bytes()).collect(),
            state: flats.iter().map(State::of).collect(),
            flats,
        }
    }
}

impl Stage for FlatStage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn order(&self, order: Order) -> Order {
        if self.flats.iter().any(|f| matches!(f, Flat::Offsets { .. })) {
            Order::Any
        } else {
            order
        }
    }
    fn push(&mut self, mut chunk: Chunk, emit: Emit<'_>) -> Result<()> {
        let (a, state) = (chunk.array, &mut self.state[chunk.array]);
        match &self.flats[a] {
            Flat::Pass(to) => {
                chunk.array = *to;
                emit(chunk)
            }
            Flat::Codes { to, .. } => {
                let Some(coder) = &mut state.coder else {
                    return Err(Error::internal("text without a coder"));
                };
                let code = |row: usize| {
                    if chunk.is_valid(row) { coder.code(chunk.text(row)) } else { Ok(-1) }
                };
                let codes: Result<Vec<i32>> = (0..chunk.rows as usize).map(code).collect();
                let codes = codes.map_err(|e| e.array(&self.names[a]).hint("--strings offsets"))?;
                emit(Chunk::fixed(*to, chunk.first_row, chunk.rows, Buf::from_vec(codes)))
            }
            Flat::Offsets { offsets: to_offsets, values: to_values } => {
                let (to_offsets, to_values) = (*to_offsets, *to_values);
                let rows = chunk.rows;
                let Values::Var { offsets, values } = compact(chunk, self.items[a]).values else {
                    return Ok(());
                };
                let base = state.end.unwrap_or(0);
                let mut out = Vec::with_capacity(offsets.len());
                if state.end.is_none() {
                    out.push(0);
                }
                out.extend(offsets[1..].iter().map(|o| (base + o) as i64));
                let elements = offsets[offsets.len() - 1];
                state.end = Some(base + elements);
                let count = out.len() as u64;
                debug_assert!(count >= rows);
                emit(Chunk::fixed(to_offsets, Chunk::NEXT, count, Buf::from_vec(out)))?;
                if elements > 0 {
                    emit(Chunk::fixed(to_values, Chunk::NEXT, elements, values))?;
                }
                Ok(())
            }
        }
    }
    fn flush(&mut self, emit: Emit<'_>) -> Result<()> {
        for (flat, state) in self.flats.iter().zip(&mut self.state) {
            if let (Flat::Offsets { offsets, .. }, None) = (flat, state.end) {
                state.end = Some(0);
                emit(Chunk::fixed(*offsets, Chunk::NEXT, 1, Buf::from_vec(vec![0i64])))?;
            }
        }
        Ok(())
    }
}

/// Columns side by side: some incoming arrays become one `[rows, columns]` matrix, the others
/// follow it unchanged.
pub struct StackStage {
    plan: Plan,
    dtype: Dtype,
    /// Per incoming array: its column, or the outgoing array it passes as.
    to: Vec<Column>,
    columns: Vec<Pending>,
    common: CommonRows,
    names: Vec<String>,
}

#[derive(Clone, Copy)]
enum Column {
    Stacked(usize),
    Pass(usize),
}

struct Pending {
    dtype: Dtype,
    chunks: VecDeque<Chunk>,
    rows: u64,
    done: u64,
}

impl StackStage {
    /// `plan`'s array 0 is the matrix; `stacked` are the incoming arrays that make it, the others
    /// follow in order.
    pub fn new(arrays: &[ArrayMeta], stacked: &[usize], plan: Plan) -> StackStage {
        let mut to: Vec<Option<Column>> = vec![None; arrays.len()];
        for (column, &s) in stacked.iter().enumerate() {
            to[s].get_or_insert(Column::Stacked(column));
        }
        let mut passed = 0;
        let pass = |column: Option<Column>| {
            column.unwrap_or_else(|| {
                passed += 1;
                Column::Pass(passed)
            })
        };
        let to = to.into_iter().map(pass).collect();
        let pending = |&s: &usize| Pending {
            dtype: arrays[s].dtype,
            chunks: VecDeque::new(),
            rows: 0,
            done: 0,
        };
        let columns = stacked.iter().map(pending).collect();
        let names = stacked.iter().map(|&s| arrays[s].name.clone()).collect();
        let common = CommonRows::new(stacked.len());
        StackStage { dtype: plan.arrays[0].dtype, plan, to, columns, common, names }
    }
}

impl Stage for StackStage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn wants(&self) -> Order {
        Order::RowBlocks
    }
    fn push(&mut self, mut chunk: Chunk, emit: Emit<'_>) -> Result<()> {
        let column = match self.to[chunk.array] {
            Column::Pass(to) => {
                chunk.array = to;
                return emit(chunk);
            }
            Column::Stacked(column) => column,
        };
        let pending = &mut self.columns[column];
        if let Values::Fixed(values) = &mut chunk.values {
            let first = pending.done + pending.rows;
            *values =
                cast::checked(values, pending.dtype, self.dtype, false, &self.names[column], first)
                    .map_err(|e| e.hint("--layout columns keeps each column in its own type"))?;
        }
        let rows = chunk.rows;
        pending.rows += rows;
        pending.chunks.push_back(chunk);
        if self.common.add(column, rows) { self.give(self.common.all(), emit) } else { Ok(()) }
    }
}

impl StackStage {
    fn give(&mut self, rows: u64, emit: Emit<'_>) -> Result<()> {
        let (item, width) = (self.dtype.item_bytes() as usize, self.columns.len());
        let mut out = vec![0u8; rows as usize * item * width];
        for (c, pending) in self.columns.iter_mut().enumerate() {
            let mut row = 0usize;
            while row < rows as usize {
                let Some(chunk) = pending.chunks.pop_front() else {
                    return Err(Error::internal("rows that were counted are not there"));
                };
                let take = chunk.rows.min(rows - row as u64);
                if let Values::Fixed(values) = &chunk.values {
                    scatter(&mut out[row * item * width..], values, take as usize, item, width, c);
                }
                if take < chunk.rows {
                    pending.chunks.push_front(chunk.slice(take, chunk.rows));
                }
                row += take as usize;
            }
            pending.rows -= rows;
            pending.done += rows;
        }
        self.common.take(rows);
        emit(Chunk::fixed(0, Chunk::NEXT, rows, Buf::from_vec(out)))
    }
}

/// Writes a column's elements to their places in rows of `width`.
fn scatter(out: &mut [u8], values: &[u8], rows: usize, item: usize, width: usize, column: usize) {
    macro_rules! by {
        ($n:literal) => {
            for (row, v) in values.chunks_exact($n).take(rows).enumerate() {
                let at = (row * width + column) * $n;
                out[at..at + $n].copy_from_slice(v);
            }
        };
    }
    match item {
        1 => by!(1),
        2 => by!(2),
        4 => by!(4),
        8 => by!(8),
        _ => by!(16),
    }
}

/// Matrices cut into columns: `[rows, n]` becomes n arrays `[rows]`.
pub struct SplitStage {
    plan: Plan,
    /// Per incoming array: the first outgoing array, how many, and the bytes of one element (0:
    /// passes as it is).
    to: Vec<(usize, usize, usize)>,
}

impl SplitStage {
    /// `widths`: per incoming array the number of columns, `None` where it passes.
    pub fn new(arrays: &[ArrayMeta], widths: &[Option<u64>], plan: Plan) -> SplitStage {
        let mut next = 0;
        let to = arrays
            .iter()
            .zip(widths)
            .map(|(meta, width)| {
                let first = next;
                let count = width.map_or(1, |w| w as usize);
                next += count;
                (first, count, if width.is_some() { meta.dtype.item_bytes() as usize } else { 0 })
            })
            .collect();
        SplitStage { plan, to }
    }
}

impl Stage for SplitStage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn order(&self, order: Order) -> Order {
        // All columns of a matrix come at once, by blocks of its rows.
        let split = self.to.iter().any(|t| t.2 > 0);
        match order {
            _ if !split => order,
            Order::ArrayByArray if self.to.len() > 1 => Order::Any,
            _ => Order::RowBlocks,
        }
    }
    fn push(&mut self, mut chunk: Chunk, emit: Emit<'_>) -> Result<()> {
        let (first, count, item) = self.to[chunk.array];
        let Values::Fixed(values) = &chunk.values else {
            chunk.array = first;
            return emit(chunk);
        };
        if item == 0 {
            chunk.array = first;
            return emit(chunk);
        }
        for column in 0..count {
            let out = gather(values, chunk.rows as usize, item, count, column);
            let valid = chunk.valid.clone();
            emit(Chunk {
                array: first + column,
                first_row: chunk.first_row,
                rows: chunk.rows,
                values: Values::Fixed(Buf::from_vec(out)),
                valid,
            })?;
        }
        Ok(())
    }
}

fn gather(values: &[u8], rows: usize, item: usize, width: usize, column: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows * item);
    for row in values.chunks_exact(item * width).take(rows) {
        out.extend_from_slice(&row[column * item..(column + 1) * item]);
    }
    out
}
