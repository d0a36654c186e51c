//! What `inspect` shows of the values: first and last rows, slices.

use serde_json::{Value, json};

use crate::arrow_model::nested_json;
use crate::console::visible;
use crate::error::{Error, Result};
use crate::format::Order;
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Values};
use crate::ops::cast;
use crate::pipe::{self, Flow, Settings};
use crate::resolve::Step;
use crate::resolve::rows::Slice;

/// Most elements of one array that a preview prints.
const MAX_SHOWN: usize = 10_000;

/// Which values to show.
#[derive(Clone, Debug)]
pub enum Part {
    /// `--head N`.
    Head(u64),
    /// `--tail N`.
    Tail(u64),
    /// `--slice "0:5,:"`: rows, then the inner dimensions.
    Slice {
        /// Which rows.
        rows: Slice,
        /// The inner dimensions, as far as they are given.
        inner: Vec<Inner>,
        /// The row that was asked for by its index alone, which leaves no dimension.
        one_row: Option<i64>,
    },
}

/// A slice or an index of an inner dimension.
#[derive(Clone, Copy, Debug)]
pub enum Inner {
    /// `a:b:c`.
    Slice(Slice),
    /// One index; below 0 from the end.
    Index(i64),
}

impl Part {
    /// Parses `--slice`.
    ///
    /// # Errors
    /// Usage.
    pub fn slice(text: &str) -> Result<Part> {
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (rows, one_row) = if first.contains(':') {
            (Slice::parse(first)?, None)
        } else {
            let i: i64 = first.parse().map_err(|_| {
                Error::usage(format!("'{text}' is not a slice")).hint("as numpy writes it: 0:5,:")
            })?;
            let stop = if i == -1 { None } else { i.checked_add(1) };
            (Slice { start: Some(i), stop, step: 1 }, Some(i))
        };
        let inner = parts
            .map(|p| match p.parse::<i64>() {
                Ok(i) => Ok(Inner::Index(i)),
                Err(_) => Slice::parse(p).map(Inner::Slice),
            })
            .collect::<Result<_>>()?;
        Ok(Part::Slice { rows, inner, one_row })
    }

    fn rows(&self) -> Slice {
        match self {
            Part::Head(n) => {
                Slice { start: None, stop: Some((*n).min(i64::MAX as u64) as i64), step: 1 }
            }
            Part::Tail(0) => Slice { start: None, stop: Some(0), step: 1 },
            Part::Tail(n) => {
                Slice { start: Some(-((*n).min(i64::MAX as u64) as i64)), stop: None, step: 1 }
            }
            Part::Slice { rows, .. } => *rows,
        }
    }
}

/// What is shown of an array.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The array's name.
    pub name: String,
    /// A value for each row: nested lists of its elements.
    pub rows: Vec<Value>,
    /// Whether it is one row that was asked for by its index.
    pub one_row: bool,
}

impl Shown {
    /// As numpy's `tolist` has it: an index takes a dimension away.
    pub fn json(&self) -> Value {
        match &self.rows[..] {
            [row] if self.one_row => row.clone(),
            rows => Value::Array(rows.to_vec()),
        }
    }
}

/// The chosen rows of every readable array.
///
/// # Errors
/// Reading errors; usage where a slice does not fit.
pub fn preview(flow: Flow, part: &Part, settings: &Settings) -> Result<Vec<Shown>> {
    let plan = flow.plan().clone();
    let good: Vec<usize> =
        (0..plan.arrays.len()).filter(|&a| plan.arrays[a].details.error.is_none()).collect();
    let flow = flow.choose(&good);
    let decoded = Step::decode(flow.plan());
    let flow = flow.then(decoded);
    let metas = flow.plan().arrays.clone();
    let source = pipe::slice_ranked(pipe::settled(flow, settings)?, part.rows(), settings)?;
    let index = if let Part::Slice { one_row, .. } = part { *one_row } else { None };
    let empty = |m: &ArrayMeta| Shown {
        name: m.name.clone(),
        rows: Vec::new(),
        one_row: index.is_some() && !m.scalar,
    };
    let mut shown: Vec<Shown> = metas.iter().map(empty).collect();
    let mut counts = vec![0usize; metas.len()];
    pipe::drain(
        source,
        Order::Any,
        &mut |chunk| {
            let meta = &metas[chunk.array];
            for row in 0..chunk.rows as usize {
                if counts[chunk.array] < MAX_SHOWN {
                    let value = row_value(meta, &chunk, row, part)?;
                    counts[chunk.array] += leaves(&value).max(1);
                    shown[chunk.array].rows.push(value);
                }
            }
            Ok(())
        },
        settings,
    )?;
    for (shown, meta) in shown.iter().zip(metas.iter()) {
        if let (true, true, Some(index)) = (shown.one_row, shown.rows.is_empty(), index) {
            let rows = meta.rows.map_or_else(String::new, |rows| format!(" of {rows}"));
            let error = Error::usage(format!("the index {index} is outside a dimension{rows}"));
            return Err(error.array(&meta.name));
        }
    }
    Ok(shown)
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

fn row_value(meta: &ArrayMeta, chunk: &Chunk, row: usize, part: &Part) -> Result<Value> {
    if !chunk.is_valid(row) {
        return Ok(Value::Null);
    }
    match &chunk.values {
        Values::Nested(array) => Ok(match meta.logical.nested() {
            Some(nested) => nested_json(nested, array, row),
            None => Value::Null,
        }),
        Values::Var { offsets, values } => {
            if meta.logical == Logical::List {
                let item = meta.dtype.item_bytes() as usize;
                let bytes = &values[offsets[row] as usize * item..offsets[row + 1] as usize * item];
                return Ok(Value::Array(
                    bytes.chunks_exact(item.max(1)).map(|one| number(one, meta.dtype)).collect(),
                ));
            }
            Ok(shown(chunk.text(row)))
        }
        Values::Fixed(values) => {
            let n = meta.row_bytes()? as usize;
            let bytes = &values[row * n..(row + 1) * n];
            let inner: &[Inner] = match part {
                Part::Slice { inner, .. } => inner,
                _ => &[],
            };
            if inner.len() > meta.element_dims().len() {
                return Err(Error::usage(format!(
                    "the slice has {} dimensions, the array has {}",
                    inner.len() + 1,
                    meta.element_dims().len() + 1
                ))
                .array(&meta.name));
            }
            nested(bytes, meta, meta.element_dims(), inner)
        }
    }
}

/// Text, or bytes as Python shows them.
fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(format!("b'{}'", bytes.escape_ascii())),
    }
}

fn nested(bytes: &[u8], meta: &ArrayMeta, dims: &[u64], inner: &[Inner]) -> Result<Value> {
    let Some((&dim, rest)) = dims.split_first() else {
        return match meta.coded_text() {
            Some(_) => meta.coded_items(bytes).map(|(_, text)| shown(&text)),
            None => Ok(element(bytes, meta)),
        };
    };
    let step = bytes.len() / (dim as usize).max(1);
    let at = |i: u64| &bytes[i as usize * step..(i as usize + 1) * step];
    let deeper = inner.get(1..).unwrap_or(&[]);
    match inner.first() {
        Some(Inner::Index(i)) => {
            let index = if *i < 0 { dim.checked_sub(i.unsigned_abs()) } else { Some(*i as u64) }
                .filter(|i| *i < dim);
            let index = index.ok_or_else(|| {
                Error::usage(format!("the index {i} is outside a dimension of {dim}"))
            })?;
            nested(at(index), meta, rest, deeper)
        }
        first => {
            let slice = match first {
                Some(Inner::Slice(s)) => *s,
                _ => Slice::ALL,
            };
            let (start, _, count) = slice.of(dim);
            (0..count.min(MAX_SHOWN as u64))
                .map(|k| nested(at(start + k * slice.step), meta, rest, deeper))
                .collect::<Result<Vec<_>>>()
                .map(Value::Array)
        }
    }
}

/// Times and decimals as their text; NaT is null.
fn element(bytes: &[u8], meta: &ArrayMeta) -> Value {
    if !meta.logical.is_time() && meta.logical.decimals().is_none() {
        return number(bytes, meta.dtype);
    }
    match cast::show_element(bytes, meta) {
        nat if nat == "NaT" => Value::Null,
        text => json!(text),
    }
}

fn number(bytes: &[u8], dtype: Dtype) -> Value {
    let text = cast::show(bytes, dtype, 0);
    match dtype {
        Dtype::Bool => json!(text == "True"),
        d if d.is_complex() => json!(text),
        _ => match text.as_str() {
            "nan" => json!("NaN"),
            "inf" => json!("Infinity"),
            "-inf" => json!("-Infinity"),
            number => serde_json::from_str(number).unwrap_or_else(|_| json!(number)),
        },
    }
}

/// A row as a line: numbers as they are, text in quotes where it would be ambiguous.
pub fn line(value: &Value) -> String {
    match value {
        Value::String(s) => visible(s),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}
