//! Arrays that come one after the other from a pipe, stored as they are.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Element;
use super::source::{Fields, FieldsJob, Records};
use crate::array::raw::{read_stream, skip_stream};
use crate::error::{Context, Error, Result, locked};
use crate::format::{Job, Order, ReadPieces, Reader, Source, readable};
use crate::model::{Buf, Plan};

/// Bytes behind the last array that are counted.
const MAX_TRAILING: u64 = 1 << 30;

/// An array of a stream, in C order.
pub struct StreamArray {
    /// Where it begins. Fields of the same records begin at the same place.
    pub offset: u64,
    /// `[rows, d1, …]`; empty for rank 0.
    pub shape: Vec<u64>,
    /// What the elements are.
    pub element: Element,
}

/// A source over a stream.
pub struct StreamSource {
    plan: Plan,
    state: Arc<Mutex<State>>,
}

/// A stream, as far as it was read.
struct State {
    stream: Box<dyn Read + Send>,
    runs: VecDeque<Run>,
    /// What is wrong with so many bytes behind the last array.
    trailing: Box<dyn Fn(u64) -> Error + Send>,
}

/// Reads the arrays that were selected last.
struct StreamReader {
    plan: Plan,
    state: Arc<Mutex<State>>,
    order: Order,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    locked(state)
}

/// Rows that are stored one after the other, and the arrays that they belong to.
struct Run {
    offset: u64,
    rows: u64,
    row_bytes: u64,
    /// The next row.
    row: u64,
    fields: Fields,
    /// The fields that are wanted.
    wanted: Arc<Fields>,
}

impl StreamSource {
    /// The arrays of `plan`; the stream has been read up to the first of them, and there are no
    /// gaps between them.
    pub fn new(
        plan: Plan,
        arrays: Vec<StreamArray>,
        stream: Box<dyn Read + Send>,
        trailing: Box<dyn Fn(u64) -> Error + Send>,
    ) -> StreamSource {
        let rows = |a: &StreamArray| a.shape.first().copied().unwrap_or(1);
        let row_elements = |a: &StreamArray| {
            if a.shape.contains(&0) { 0 } else { a.shape.iter().skip(1).product::<u64>() }
        };
        let row_bytes = |a: &StreamArray| row_elements(a).saturating_mul(a.element.bytes as u64);
        let mut order: Vec<usize> = (0..arrays.len()).collect();
        order.sort_by_key(|&i| {
            (arrays[i].offset, rows(&arrays[i]).saturating_mul(row_bytes(&arrays[i])))
        });
        let mut runs: VecDeque<Run> = VecDeque::new();
        for i in order {
            let array = &arrays[i];
            let field = (i, array.element.clone());
            match runs.back_mut() {
                Some(run) if run.offset == array.offset && run.rows * run.row_bytes > 0 => {
                    run.fields.fields.push(field)
                }
                _ => runs.push_back(Run {
                    offset: array.offset,
                    rows: rows(array),
                    row_bytes: row_bytes(array),
                    row: 0,
                    fields: Fields {
                        fields: vec![field],
                        scalar: array.shape.is_empty(),
                        row_elements: row_elements(array),
                    },
                    wanted: Arc::default(),
                }),
            }
        }
        StreamSource { plan, state: Arc::new(Mutex::new(State { stream, runs, trailing })) }
    }
}

impl Source for StreamSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        let mut wanted = vec![false; self.plan.arrays.len()];
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            wanted[a] = true;
        }
        let (mut order, mut state) = (Vec::new(), lock(&self.state));
        for run in &mut state.runs {
            let fields: Vec<(usize, Element)> =
                run.fields.fields.iter().filter(|(a, _)| wanted[*a]).cloned().collect();
            order.extend(fields.iter().map(|f| f.0));
            run.wanted = Arc::new(Fields {
                fields,
                scalar: run.fields.scalar,
                row_elements: run.fields.row_elements,
            });
        }
        let order = match state.runs.len() {
            1 => Order::RowBlocks,
            _ if order.is_sorted() && state.runs.iter().all(|run| run.wanted.fields.len() <= 1) => {
                Order::ArrayByArray
            }
            _ => Order::Any,
        };
        let (plan, state) = (self.plan.clone(), self.state.clone());
        Ok(Reader::InOrder(Box::new(StreamReader { plan, state, order })))
    }
}

impl ReadPieces for StreamReader {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let State { stream, runs, .. } = &mut *lock(&self.state);
        while let Some(run) = runs.front_mut() {
            let (left, first) = (run.rows - run.row, run.row);
            let Some((name, element)) =
                run.wanted.fields.first().map(|(a, e)| (&self.plan.arrays[*a].name, e))
            else {
                let name =
                    run.fields.fields.first().map_or("", |(a, _)| &self.plan.arrays[*a].name);
                skip_stream(stream, left * run.row_bytes).at_array(name)?;
                runs.pop_front();
                continue;
            };
            if left == 0 {
                runs.pop_front();
                continue;
            }
            let held =
                if element.is_plain() { run.row_bytes } else { run.row_bytes.saturating_mul(2) };
            let rows = if run.row_bytes == 0 && !element.is_var() {
                left
            } else {
                (max_bytes / held.max(16)).clamp(1, left)
            };
            let bytes = read_stream(stream, rows * run.row_bytes).at_array(name)?;
            run.row += rows;
            let (records, fields) = (Records::Are(Buf::from_vec(bytes)), run.wanted.clone());
            return Ok(Some(Box::new(FieldsJob {
                records,
                rows: first..first + rows,
                bytes: rows * run.row_bytes,
                fields,
            })));
        }
        Ok(None)
    }
    fn close(&mut self) -> Result<()> {
        let State { stream, runs, trailing } = &mut *lock(&self.state);
        if !runs.is_empty() {
            return Ok(());
        }
        // To its end: a damaged compression may show only there.
        let more = std::io::copy(&mut stream.take(MAX_TRAILING), &mut std::io::sink())
            .map_err(Error::reading)?;
        if more == 0 { Ok(()) } else { Err(trailing(more)) }
    }
}
