//! What `inspect` shows of the values: first and last rows, slices, statistics, histograms; and arrays as a tree.

use serde_json::{Value, json};

use super::diff::number;
use crate::adapt::cast;
use crate::adapt::rows::{self, Slice, Sliced};
use crate::adapt::view::View;
use crate::error::{Error, Result};
use crate::format::{Order, Source};
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Values, typed};
use crate::pipe::{self, Settings, Stage};
use crate::report::visible;

/// Most elements of one array that a preview prints.
const MOST_SHOWN: usize = 10_000;

/// Which values to show.
#[derive(Clone, Debug)]
pub enum Part {
    /// `--head N`.
    Head(u64),
    /// `--tail N`.
    Tail(u64),
    /// `--slice "0:5,:"`: rows, then the inner dimensions.
    Slice(Slice, Vec<Inner>),
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
        let rows = if first.contains(':') {
            Slice::parse(first)?
        } else {
            let i: i64 = first.parse().map_err(|_| Error::usage(format!("'{text}' is no slice")).hint("as numpy writes it: 0:5,:"))?;
            Slice { start: Some(i), stop: if i == -1 { None } else { Some(i + 1) }, step: 1 }
        };
        let inner = parts
            .map(|p| match p.parse::<i64>() {
                Ok(i) => Ok(Inner::Index(i)),
                Err(_) => Slice::parse(p).map(Inner::Slice),
            })
            .collect::<Result<_>>()?;
        Ok(Part::Slice(rows, inner))
    }

    fn rows(&self) -> Slice {
        match self {
            Part::Head(n) => Slice { start: None, stop: Some((*n).min(i64::MAX as u64) as i64), step: 1 },
            Part::Tail(0) => Slice { start: None, stop: Some(0), step: 1 },
            Part::Tail(n) => Slice { start: Some(-((*n).min(i64::MAX as u64) as i64)), stop: None, step: 1 },
            Part::Slice(rows, _) => *rows,
        }
    }
}

/// The chosen rows of every readable array, as text per row (nested as numpy prints lists), and as JSON.
///
/// # Errors
/// Reading errors; usage where a slice does not fit.
pub fn preview(source: Box<dyn Source>, part: &Part, settings: &Settings) -> Result<Vec<(String, Vec<Value>)>> {
    let plan = source.plan().clone();
    let good: Vec<usize> = (0..plan.arrays.len()).filter(|&a| plan.arrays[a].details.error.is_none()).collect();
    let scalars = good.iter().any(|&a| plan.arrays[a].scalar);
    let mut source: Box<dyn Source> = crate::adapt::view::decoded(Box::new(View::choose(source, &good)));
    let metas = source.plan().arrays.clone();
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    if !scalars {
        match rows::slice(source, part.rows())? {
            Sliced::Source(view) => source = Box::new(view),
            Sliced::Stage(inner, stage) => {
                source = inner;
                stages.push(Box::new(stage));
            }
        }
    }
    let mut shown: Vec<(String, Vec<Value>)> = metas.iter().map(|m| (m.name.clone(), Vec::new())).collect();
    let mut counts = vec![0usize; metas.len()];
    pipe::drain(
        source,
        stages,
        Order::Any,
        &mut |chunk| {
            let meta = &metas[chunk.array];
            for row in 0..chunk.rows as usize {
                if counts[chunk.array] < MOST_SHOWN {
                    let value = row_value(meta, &chunk, row, part)?;
                    counts[chunk.array] += leaves(&value).max(1);
                    shown[chunk.array].1.push(value);
                }
            }
            Ok(())
        },
        settings,
    )?;
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
        Values::Var { offsets, values } => {
            if meta.logical == Logical::List {
                let item = meta.dtype.item_bytes() as usize;
                let bytes = &values[offsets[row] as usize * item..offsets[row + 1] as usize * item];
                return Ok(Value::Array((0..bytes.len() / item).map(|i| element(bytes, meta.dtype, i)).collect()));
            }
            let bytes = chunk.text(row);
            Ok(match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!(format!("b'{}'", bytes.escape_ascii())),
            })
        }
        Values::Fixed(values) => {
            let n = meta.row_bytes()? as usize;
            let bytes = &values[row * n..(row + 1) * n];
            let inner: &[Inner] = match part {
                Part::Slice(_, inner) => inner,
                _ => &[],
            };
            if inner.len() > meta.inner.len() {
                return Err(Error::usage(format!("the slice has {} dimensions, the array has {}", inner.len() + 1, meta.inner.len() + 1))
                    .array(&meta.name));
            }
            nested(bytes, meta.dtype, &meta.inner, inner)
        }
    }
}

fn nested(bytes: &[u8], dtype: Dtype, dims: &[u64], inner: &[Inner]) -> Result<Value> {
    let Some((&dim, rest)) = dims.split_first() else { return Ok(element(bytes, dtype, 0)) };
    let step = bytes.len() / (dim as usize).max(1);
    let at = |i: u64| &bytes[i as usize * step..(i as usize + 1) * step];
    let deeper = inner.get(1..).unwrap_or(&[]);
    match inner.first() {
        Some(Inner::Index(i)) => {
            let index = if *i < 0 { dim.checked_sub(i.unsigned_abs()) } else { Some(*i as u64) }.filter(|i| *i < dim);
            let index = index.ok_or_else(|| Error::usage(format!("the index {i} is outside a dimension of {dim}")))?;
            nested(at(index), dtype, rest, deeper)
        }
        first => {
            let slice = match first {
                Some(Inner::Slice(s)) => *s,
                _ => Slice { start: None, stop: None, step: 1 },
            };
            let (start, _, count) = slice.of(dim);
            (0..count.min(MOST_SHOWN as u64))
                .map(|k| nested(at(start + k * slice.step), dtype, rest, deeper))
                .collect::<Result<Vec<_>>>()
                .map(Value::Array)
        }
    }
}

fn element(bytes: &[u8], dtype: Dtype, index: usize) -> Value {
    let text = cast::show(bytes, dtype, index);
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

/// A row as a line: numbers as they are, text in quotes where it has to be told apart.
pub fn line(value: &Value) -> String {
    match value {
        Value::String(s) => visible(s),
        Value::Array(items) => format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", ")),
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

/// What `--stats` tells of an array; of complex numbers the magnitudes.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Elements (rows of text).
    pub count: u64,
    /// Null rows.
    pub nulls: u64,
    /// NaN elements.
    pub nan: u64,
    /// Infinite elements.
    pub inf: u64,
    /// Zeros (empty texts).
    pub zeros: u64,
    /// The least and the greatest finite value, exactly as stored.
    pub range: Option<(f64, f64)>,
    exact: Option<(i128, i128)>,
    finite: u64,
    mean: f64,
    squares: f64,
    numeric: bool,
}

impl Stats {
    fn add(&mut self, value: f64, exact: Option<i128>) {
        self.count += 1;
        self.numeric = true;
        if value.is_nan() {
            self.nan += 1;
            return;
        }
        if value.is_infinite() {
            self.inf += 1;
            return;
        }
        self.zeros += u64::from(value == 0.0);
        self.range = Some(self.range.map_or((value, value), |(a, b)| (a.min(value), b.max(value))));
        if let Some(i) = exact {
            self.exact = Some(self.exact.map_or((i, i), |(a, b)| (a.min(i), b.max(i))));
        }
        self.finite += 1;
        let delta = value - self.mean;
        self.mean += delta / self.finite as f64;
        self.squares += delta * (value - self.mean);
    }

    /// As JSON; NaN and infinities as text.
    pub fn json(&self) -> Value {
        let (min, max) = match (self.exact, self.range) {
            (Some((a, b)), _) => (integer(a), integer(b)),
            (None, Some((a, b))) => (number(a), number(b)),
            _ => (Value::Null, Value::Null),
        };
        let some = self.finite > 0;
        json!({
            "count": self.count, "nulls": self.nulls, "nan": self.nan, "inf": self.inf, "zeros": self.zeros,
            "min": min, "max": max,
            "mean": if some { number(self.mean) } else { Value::Null },
            "std": if some { number((self.squares / self.finite as f64).max(0.0).sqrt()) } else { Value::Null },
        })
    }

    /// As a line.
    pub fn line(&self) -> String {
        let v = self.json();
        let mut parts = vec![format!("{} value{}", self.count, if self.count == 1 { "" } else { "s" })];
        for (n, what) in [(self.nulls, "null"), (self.nan, "NaN"), (self.inf, "infinite"), (self.zeros, "zero")] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        if self.finite > 0 {
            for key in ["min", "max", "mean", "std"] {
                parts.push(format!("{key} {}", line(&v[key])));
            }
        }
        parts.join(", ")
    }
}

fn integer(i: i128) -> Value {
    i64::try_from(i).map(|i| json!(i)).or_else(|_| u64::try_from(i).map(|i| json!(i))).unwrap_or(Value::Null)
}

fn each_number(meta: &ArrayMeta, chunk: &Chunk, mut take: impl FnMut(f64, Option<i128>)) {
    let Values::Fixed(values) = &chunk.values else { return };
    let per_row = crate::model::checked_product(&meta.inner).unwrap_or(1).max(1) as usize;
    let valid = |i: usize| chunk.is_valid(i / per_row);
    macro_rules! integers {
        ($t:ty) => {
            typed::<$t>(values).iter().enumerate().filter(|(i, _)| valid(*i)).for_each(|(_, v)| take(*v as f64, Some(*v as i128)))
        };
    }
    match meta.dtype {
        Dtype::Bool | Dtype::U8 => integers!(u8),
        Dtype::U16 => integers!(u16),
        Dtype::U32 => integers!(u32),
        Dtype::U64 => integers!(u64),
        Dtype::I8 => integers!(i8),
        Dtype::I16 => integers!(i16),
        Dtype::I32 => integers!(i32),
        Dtype::I64 => integers!(i64),
        d if d.is_complex() => {
            if let Ok(wide) = cast::cast(values, d, Dtype::C128, true) {
                typed::<[f64; 2]>(&wide).iter().enumerate().filter(|(i, _)| valid(*i)).for_each(|(_, c)| take(c[0].hypot(c[1]), None));
            }
        }
        d => {
            if let Ok(wide) = cast::cast(values, d, Dtype::F64, true) {
                typed::<f64>(&wide).iter().enumerate().filter(|(i, _)| valid(*i)).for_each(|(_, v)| take(*v, None));
            }
        }
    }
}

/// Statistics of every readable array, streamed; `None` for the others.
///
/// # Errors
/// Reading errors.
pub fn stats(source: Box<dyn Source>, settings: &Settings) -> Result<Vec<Option<Stats>>> {
    let all = source.plan().arrays.len();
    let good: Vec<usize> = (0..all).filter(|&a| source.plan().arrays[a].details.error.is_none()).collect();
    let source = crate::adapt::view::decoded(Box::new(View::choose(source, &good)));
    let metas = source.plan().arrays.clone();
    let mut found = vec![Stats::default(); metas.len()];
    pipe::drain(
        source,
        Vec::new(),
        Order::Any,
        &mut |chunk| {
            let (meta, stats) = (&metas[chunk.array], &mut found[chunk.array]);
            stats.nulls += (0..chunk.rows as usize).filter(|&r| !chunk.is_valid(r)).count() as u64;
            if let Values::Var { offsets, .. } = &chunk.values {
                for row in (0..chunk.rows as usize).filter(|&r| chunk.is_valid(r)) {
                    stats.count += 1;
                    stats.zeros += u64::from(offsets[row] == offsets[row + 1]);
                }
            } else {
                each_number(meta, &chunk, |v, i| stats.add(v, i));
            }
            Ok(())
        },
        settings,
    )?;
    let mut out = vec![None; all];
    for (&a, s) in good.iter().zip(found) {
        out[a] = Some(s);
    }
    Ok(out)
}

/// Sixteen bins between the least and the greatest finite value of each array.
///
/// # Errors
/// Reading errors.
pub fn histograms(source: Box<dyn Source>, stats: &[Option<Stats>], settings: &Settings) -> Result<Vec<Option<[u64; 16]>>> {
    let all = source.plan().arrays.len();
    let good: Vec<usize> = (0..all).filter(|&a| stats[a].as_ref().is_some_and(|s| s.numeric && s.range.is_some())).collect();
    let mut out = vec![None; all];
    if good.is_empty() {
        return Ok(out);
    }
    let source = crate::adapt::view::decoded(Box::new(View::choose(source, &good)));
    let metas = source.plan().arrays.clone();
    let ranges: Vec<(f64, f64)> = good.iter().map(|&a| stats[a].as_ref().and_then(|s| s.range).unwrap_or((0.0, 0.0))).collect();
    let mut bins = vec![[0u64; 16]; good.len()];
    pipe::drain(
        source,
        Vec::new(),
        Order::Any,
        &mut |chunk| {
            let ((low, high), bins) = (ranges[chunk.array], &mut bins[chunk.array]);
            let width = (high / 2.0 - low / 2.0) / 8.0;
            each_number(&metas[chunk.array], &chunk, |v, _| {
                if v.is_finite() {
                    let bin = if width > 0.0 { ((v - low) / width) as usize } else { 0 };
                    bins[bin.min(15)] += 1;
                }
            });
            Ok(())
        },
        settings,
    )?;
    for (&a, b) in good.iter().zip(bins) {
        out[a] = Some(b);
    }
    Ok(out)
}

/// Bins as a line of blocks.
pub fn sparkline(bins: &[u64; 16]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    bins.iter().map(|&n| if n == 0 { ' ' } else { BLOCKS[((n * 8).div_ceil(most) as usize).clamp(1, 8) - 1] }).collect()
}

/// Arrays as a tree by the parts of their names, with runs of alike numbered children folded: `layers.[0..31]`.
pub fn tree(arrays: &[ArrayMeta]) -> String {
    let mut root = Node::default();
    for meta in arrays {
        let mut node = &mut root;
        for part in meta.name.split_inclusive(['.', '/']) {
            node = node.children.entry(part.to_string()).or_default();
        }
        let shape = meta.shape().map_or_else(|| "?".into(), |s| format!("{s:?}"));
        node.leaf = Some(format!("{} {shape}", meta.type_name()));
    }
    let mut out = String::new();
    root.print("", &mut out);
    out
}

#[derive(Default, PartialEq)]
struct Node {
    children: indexmap::IndexMap<String, Node>,
    leaf: Option<String>,
}

impl Node {
    fn print(&self, indent: &str, out: &mut String) {
        let names: Vec<&String> = self.children.keys().collect();
        let mut groups: Vec<(String, &Node)> = Vec::new();
        let mut i = 0;
        while i < names.len() {
            let (first, node) = (names[i], &self.children[i]);
            let end =
                names[i + 1..].iter().zip(i + 1..).take_while(|(n, k)| follows(names[k - 1], n) && self.children[*k] == *node).count() + i;
            let label = match (end > i, split_number(first), split_number(names[end])) {
                (true, Some((a, tail)), Some((b, _))) => format!("[{a}..{b}]{tail}"),
                _ => first.clone(),
            };
            groups.push((label, node));
            i = end + 1;
        }
        let count = groups.len();
        for (k, (label, node)) in groups.into_iter().enumerate() {
            // A chain of only children stays on one line.
            let (mut label, mut node) = (visible(&label), node);
            while node.leaf.is_none()
                && let Some((name, child)) = node.children.first().filter(|_| node.children.len() == 1)
            {
                label += &visible(name);
                node = child;
            }
            let last = k + 1 == count;
            let leaf = node.leaf.as_ref().map(|l| format!("  {l}")).unwrap_or_default();
            out.push_str(&format!("{indent}{}{label}{leaf}\n", if last { "└─ " } else { "├─ " }));
            node.print(&format!("{indent}{}", if last { "   " } else { "│  " }), out);
        }
    }
}

fn split_number(part: &str) -> Option<(u64, &str)> {
    let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (digits > 0).then_some(())?;
    Some((part[..digits].parse().ok()?, &part[digits..]))
}

fn follows(a: &str, b: &str) -> bool {
    matches!((split_number(a), split_number(b)), (Some((x, s)), Some((y, t))) if y == x + 1 && s == t)
}
