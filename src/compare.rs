//! Compares the logical arrays of two sources, streaming: for `npk diff` and `convert --verify`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

use arrow::array::{Array, ArrayRef};
use half::{bf16, f16};

use crate::arrow_model;
use crate::error::{Context, Result};
use crate::format::ReadRows;
use crate::model::{ArrayMeta, Buf, Chunk, Decimals, Dtype, Values, codes_of, item_of, typed};
use crate::ops::{cast, float8};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::Step;

/// What counts as equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Relative tolerance, times the magnitude of the second value.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// NaN equals NaN; bit-identical ones always do.
    pub equal_nan: bool,
    /// Compare values, whatever their types.
    pub ignore_dtype: bool,
}

/// The result for one array.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Equal.
    Equal,
    /// Only in the first.
    OnlyA,
    /// Only in the second.
    OnlyB,
    /// Types or shapes differ, or one cannot be read; the text says which.
    NotComparable(String),
    /// Values differ.
    Different(Difference),
}

/// How values differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// How many elements (rows of text) differ.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// The first that differs, as an index into the shape.
    pub first: Vec<u64>,
    /// Its two values.
    pub values: (String, String),
    /// The largest absolute difference of numbers.
    pub largest_absolute: f64,
    /// The largest relative difference of numbers.
    pub largest_relative: f64,
}

/// The verdict on each name: those of the first source in its order, then those that only the
/// second has.
///
/// # Errors
/// Reading errors.
pub fn compare(
    a: Flow,
    b: Flow,
    labels: (&str, &str),
    rules: Rules,
    settings: &Settings,
) -> Result<Vec<(String, Verdict)>> {
    let (plan_a, plan_b) = (a.plan().arrays.clone(), b.plan().arrays.clone());
    let index_b: HashMap<&str, usize> =
        plan_b.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let mut verdicts: Vec<(String, Verdict)> = Vec::new();
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (i, meta) in plan_a.iter().enumerate() {
        let verdict = match index_b.get(meta.name.as_str()) {
            None => Verdict::OnlyA,
            Some(&j) => match comparable(meta, &plan_b[j], rules) {
                Some(why) => Verdict::NotComparable(why),
                None => {
                    pairs.push((verdicts.len(), i, j));
                    Verdict::Equal
                }
            },
        };
        verdicts.push((meta.name.clone(), verdict));
    }
    let names_a: std::collections::HashSet<&str> = plan_a.iter().map(|m| m.name.as_str()).collect();
    verdicts.extend(
        plan_b
            .iter()
            .filter(|m| !names_a.contains(m.name.as_str()))
            .map(|m| (m.name.clone(), Verdict::OnlyB)),
    );
    if pairs.is_empty() {
        return Ok(verdicts);
    }
    let wanted_a: Vec<usize> = pairs.iter().map(|p| p.1).collect();
    let wanted_b: Vec<usize> = pairs.iter().map(|p| p.2).collect();
    let (source_a, reader_a) = pipe::with_random(a, &wanted_a, settings).at_file(labels.0)?;
    let (source_b, reader_b) = pipe::with_random(b, &wanted_b, settings).at_file(labels.1)?;
    let found: Vec<Mutex<Difference>> = pairs.iter().map(|_| Mutex::default()).collect();
    let tasks = pairs.iter().enumerate().flat_map(|(p, &(_, i, j))| {
        let meta = &plan_a[i];
        let rows = meta.rows.unwrap_or(0);
        let row_bytes = meta.row_bytes().unwrap_or(1);
        // Rows without elements are compared at once, however many.
        let nothing = row_bytes == 0 && !meta.logical.is_var() && !meta.nulls;
        let step =
            if nothing { rows.max(1) } else { (settings.piece_bytes() / row_bytes.max(16)).max(1) };
        let held = if nothing { 0 } else { row_bytes.max(16).saturating_mul(2) };
        (0..rows.div_ceil(step)).map(move |k| {
            let rows = k * step..((k + 1) * step).min(rows);
            ((rows.end - rows.start).saturating_mul(held), (p, i, j, rows))
        })
    });
    pipe::parallel(settings, tasks, &|(p, i, j, rows): (usize, usize, usize, Range<u64>)| {
        let meta = &plan_a[i];
        let one =
            read(reader_a.as_ref(), i, rows.clone()).at_file(labels.0).at_array(&meta.name)?;
        let other =
            read(reader_b.as_ref(), j, rows.clone()).at_file(labels.1).at_array(&meta.name)?;
        if let Some(d) = differences(meta, &plan_b[j], &one, &other, rows.start, rules) {
            let mut sum = found[p].lock().unwrap_or_else(|e| e.into_inner());
            sum.add(d);
        }
        Ok(())
    })?;
    for (&(v, i, _), sum) in pairs.iter().zip(found) {
        let mut sum = sum.into_inner().unwrap_or_else(|e| e.into_inner());
        if sum.count > 0 {
            let meta = &plan_a[i];
            sum.of = if meta.logical.is_var() {
                meta.rows.unwrap_or(0)
            } else {
                meta.shape().and_then(|s| crate::model::checked_product(&s)).unwrap_or(0)
            };
            if meta.scalar {
                sum.first.clear();
            }
            verdicts[v].1 = Verdict::Different(sum);
        }
    }
    drop((source_a, source_b));
    Ok(verdicts)
}

/// Prepares a source for a comparison: its logical arrays, narrowed where they were widened,
/// dictionaries as what they stand for.
///
/// # Errors
/// Reading errors.
pub fn logical(flow: impl Into<Flow>, settings: &Settings) -> Result<Flow> {
    let (flow, _) = pipe::restore(flow.into(), &Dtype::ALL, settings)?;
    let decoded = Step::decode(flow.plan());
    Ok(flow.then(decoded))
}

/// Why two arrays cannot be compared, if they cannot.
fn comparable(a: &ArrayMeta, b: &ArrayMeta, rules: Rules) -> Option<String> {
    for m in [a, b] {
        if let Some(e) = &m.details.error {
            return Some(format!("cannot be read: {}", e.reason()));
        }
    }
    let (x, y) = (a.type_name(), b.type_name());
    let plain = |t: &str| t.trim_end_matches('?').to_string();
    let numbers = !a.logical.is_var() && !b.logical.is_var();
    if plain(&x) != plain(&y) && !(rules.ignore_dtype && numbers) {
        return Some(format!("{x} and {y}"));
    }
    let shape = |meta: &ArrayMeta| {
        let inner = meta.element_dims().to_vec();
        ArrayMeta { inner, ..meta.clone() }.shape()
    };
    match (shape(a), shape(b)) {
        (Some(s), Some(t)) if s == t => None,
        (Some(s), Some(t)) => Some(format!("shapes {s:?} and {t:?}")),
        // Rows are known once it was spooled; a difference shows as rows that do not come.
        _ => None,
    }
}

fn read(reader: &dyn ReadRows, array: usize, rows: Range<u64>) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    reader.read(array, rows, &mut |chunk| {
        chunks.push(chunk);
        Ok(())
    })?;
    Ok(chunks)
}

impl Difference {
    fn add(&mut self, other: Difference) {
        if self.count == 0 || other.first < self.first {
            self.first = other.first;
            self.values = other.values;
        }
        self.count += other.count;
        self.largest_absolute = self.largest_absolute.max(other.largest_absolute);
        self.largest_relative = self.largest_relative.max(other.largest_relative);
    }
}

/// Chunks of both sides cover the same rows, cut differently: they are walked in step.
fn differences(
    a: &ArrayMeta,
    b: &ArrayMeta,
    one: &[Chunk],
    other: &[Chunk],
    first_row: u64,
    rules: Rules,
) -> Option<Difference> {
    let mut sum: Option<Difference> = None;
    let (mut x, mut y) = (one.iter().cloned(), other.iter().cloned());
    let (mut left, mut right) = (x.next(), y.next());
    let mut row = first_row;
    while let (Some(l), Some(r)) = (&left, &right) {
        let n = l.rows.min(r.rows);
        if let Some(d) = same_rows(a, b, &l.slice(0, n), &r.slice(0, n), row, rules) {
            match &mut sum {
                Some(s) => s.add(d),
                None => sum = Some(d),
            }
        }
        row += n;
        let rest = |c: &Chunk| if n < c.rows { Some(c.slice(n, c.rows)) } else { None };
        let (l_rest, r_rest) = (rest(l), rest(r));
        left = l_rest.or_else(|| x.next());
        right = r_rest.or_else(|| y.next());
    }
    sum
}

fn same_rows(
    a: &ArrayMeta,
    b: &ArrayMeta,
    l: &Chunk,
    r: &Chunk,
    first_row: u64,
    rules: Rules,
) -> Option<Difference> {
    let nulls_same = l.valid.is_none() && r.valid.is_none()
        || (0..l.rows as usize).all(|i| l.is_valid(i) == r.is_valid(i));
    match (&l.values, &r.values) {
        (Values::Fixed(x), Values::Fixed(y)) => {
            if let (Some(_), Some(_)) = (a.coded_text(), b.coded_text()) {
                return coded_differences(a, b, x, y, first_row);
            }
            if alike(a, b) && nulls_same && x.as_slice() == y.as_slice() {
                return None;
            }
            fixed_differences(a, b, l, r, (x, y), first_row, rules)
        }
        (Values::Var { offsets: p, .. }, Values::Var { offsets: q, .. }) => {
            let item = a.dtype.item_bytes();
            let bytes = |c: &'_ Chunk, offsets: &[u64], i: usize| -> Vec<u8> {
                match &c.values {
                    Values::Var { values, .. } => values
                        [(offsets[i] * item) as usize..(offsets[i + 1] * item) as usize]
                        .to_vec(),
                    Values::Fixed(_) | Values::Nested(_) => Vec::new(),
                }
            };
            let mut d = Difference::default();
            for i in 0..l.rows as usize {
                let (v, w) = (l.is_valid(i), r.is_valid(i));
                if v == w && (!v || bytes(l, p, i) == bytes(r, q, i)) {
                    continue;
                }
                if d.count == 0 {
                    let show = |valid: bool, bytes: Vec<u8>| {
                        if valid {
                            format!("'{}'", String::from_utf8_lossy(&bytes))
                        } else {
                            "null".into()
                        }
                    };
                    d.first = vec![first_row + i as u64];
                    d.values = (show(v, bytes(l, p, i)), show(w, bytes(r, q, i)));
                }
                d.count += 1;
            }
            (d.count > 0).then_some(d)
        }
        (Values::Nested(x), Values::Nested(y)) => nested_differences(a, b, x, y, first_row),
        _ => Some(Difference { count: l.rows, first: vec![first_row], ..Difference::default() }),
    }
}

fn nested_differences(
    a: &ArrayMeta,
    b: &ArrayMeta,
    x: &ArrayRef,
    y: &ArrayRef,
    first_row: u64,
) -> Option<Difference> {
    let (Some(left), Some(right)) = (a.logical.nested(), b.logical.nested()) else { return None };
    let mut d = Difference::default();
    match (arrow_model::decoded(x, left), arrow_model::decoded(y, right)) {
        (Ok(x), Ok(y)) if x.as_ref() == y.as_ref() => {}
        (Ok(x), Ok(y)) => {
            for i in (0..x.len().min(y.len())).filter(|&i| x.slice(i, 1) != y.slice(i, 1)) {
                if d.count == 0 {
                    let show = |array: &ArrayRef| arrow_model::json(array, i).to_string();
                    d.first = vec![first_row + i as u64];
                    d.values = (show(&x), show(&y));
                }
                d.count += 1;
            }
        }
        _ => (d.first, d.count) = (vec![first_row], x.len() as u64),
    }
    (d.count > 0).then_some(d)
}

/// Whether the same bytes mean the same values.
fn alike(a: &ArrayMeta, b: &ArrayMeta) -> bool {
    let decimals = a.logical.decimals().is_some() || b.logical.decimals().is_some();
    a.dtype == b.dtype && (!decimals || a.logical == b.logical)
}

fn fixed_differences(
    a: &ArrayMeta,
    b: &ArrayMeta,
    l: &Chunk,
    r: &Chunk,
    (x, y): (&Buf, &Buf),
    first_row: u64,
    rules: Rules,
) -> Option<Difference> {
    let per_row = crate::model::checked_product(a.element_dims()).unwrap_or(1).max(1) as usize;
    let (p, q) = (numbers(x, a), numbers(y, b));
    // Floats do not tell all decimals apart, their digits do.
    let alike = alike(a, b);
    let exactly = a.logical.decimals().is_some() && alike && rules.rtol + rules.atol == 0.0;
    let item = |meta: &ArrayMeta| {
        let decimal = meta.logical.decimals().map(Decimals::item_bytes);
        decimal.unwrap_or(meta.dtype.item_bytes() as usize)
    };
    let (sx, sy) = (item(a), item(b));
    let mut d = Difference::default();
    for (i, (u, v)) in p.iter().zip(&q).enumerate() {
        let row = i / per_row;
        let (valid_l, valid_r) = (l.is_valid(row), r.is_valid(row));
        let equal = if !(valid_l && valid_r) {
            valid_l == valid_r
        } else {
            alike && x[i * sx..(i + 1) * sx] == y[i * sy..(i + 1) * sy]
                || !exactly && u.equals(v, rules)
        };
        if equal {
            continue;
        }
        if d.count == 0 {
            d.first = index_of(first_row, row, i % per_row, a.element_dims());
            let show = |valid: bool, buf: &Buf, meta: &ArrayMeta| match meta.logical.decimals() {
                _ if !valid => "null".into(),
                Some(decimals) => decimals.text(&buf[i * item(meta)..(i + 1) * item(meta)]),
                None => cast::show(buf, meta.dtype, i),
            };
            d.values = (show(valid_l, x, a), show(valid_r, y, b));
        }
        if valid_l && valid_r {
            let (absolute, relative) = u.distance(v);
            d.largest_absolute = d.largest_absolute.max(absolute);
            d.largest_relative = d.largest_relative.max(relative);
        }
        d.count += 1;
    }
    (d.count > 0).then_some(d)
}

/// Text of several dimensions: the codes of both sides point into categories of their own.
fn coded_differences(
    a: &ArrayMeta,
    b: &ArrayMeta,
    x: &[u8],
    y: &[u8],
    first_row: u64,
) -> Option<Difference> {
    let (Some(left), Some(right)) = (a.coded_text(), b.coded_text()) else { return None };
    let per_row = crate::model::checked_product(&a.inner).unwrap_or(1).max(1) as usize;
    let mut d = Difference::default();
    left.with(|left| {
        right.with(|right| {
            for (i, (p, q)) in
                codes_of(x, a.dtype).into_iter().zip(codes_of(y, b.dtype)).enumerate()
            {
                let (p, q) = (item_of(left, p).ok(), item_of(right, q).ok());
                if p == q && p.is_some() {
                    continue;
                }
                if d.count == 0 {
                    let show = |text: Option<&[u8]>| {
                        text.map_or("?".into(), |t| format!("'{}'", String::from_utf8_lossy(t)))
                    };
                    d.first = index_of(first_row, i / per_row, i % per_row, &a.inner);
                    d.values = (show(p), show(q));
                }
                d.count += 1;
            }
        });
    });
    (d.count > 0).then_some(d)
}

fn index_of(first_row: u64, row: usize, mut within: usize, inner: &[u64]) -> Vec<u64> {
    let mut index = vec![0; inner.len()];
    for (slot, dim) in index.iter_mut().zip(inner).rev() {
        *slot = within as u64 % dim.max(&1);
        within /= (*dim).max(1) as usize;
    }
    index.insert(0, first_row + row as u64);
    index
}

/// An element of any type of numbers.
#[derive(Clone, Copy)]
pub(crate) enum Number {
    Integer(i128),
    Real(f64),
    Complex(f64, f64),
}

impl Number {
    fn parts(self) -> (f64, f64) {
        match self {
            Number::Integer(i) => (i as f64, 0.0),
            Number::Real(r) => (r, 0.0),
            Number::Complex(r, i) => (r, i),
        }
    }
    fn equals(&self, other: &Number, rules: Rules) -> bool {
        if let (Number::Integer(x), Number::Integer(y)) = (self, other)
            && rules.rtol == 0.0
            && rules.atol == 0.0
        {
            return x == y;
        }
        // An integer beside a float: equal only if the float is that integer.
        if let (Number::Integer(i), Number::Real(r)) | (Number::Real(r), Number::Integer(i)) =
            (self, other)
            && rules.rtol == 0.0
            && rules.atol == 0.0
        {
            return r.trunc() == *r && r.abs() < 1e30 && *r as i128 == *i;
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        let near = |x: f64, y: f64| {
            x == y
                || rules.equal_nan && x.is_nan() && y.is_nan()
                || x.is_finite()
                    && y.is_finite()
                    && (x - y).abs() <= rules.atol + rules.rtol * y.abs()
        };
        near(a, c) && near(b, d)
    }
    fn distance(&self, other: &Number) -> (f64, f64) {
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        let absolute = (a - c).hypot(b - d);
        if absolute.is_nan() {
            (0.0, 0.0)
        } else {
            (absolute, if c == 0.0 && d == 0.0 { 0.0 } else { absolute / c.hypot(d) })
        }
    }
}

fn numbers(values: &Buf, meta: &ArrayMeta) -> Vec<Number> {
    let mut all = Vec::with_capacity(values.len() / meta.dtype.item_bytes().max(1) as usize);
    match meta.logical.decimals() {
        Some(decimals) => {
            all.extend(decimals.numbers(values).map(|n| Number::Real(decimals.float(n).0)))
        }
        None => each_number(values, meta.dtype, |n| all.push(n)),
    }
    all
}

/// Hands on every element, exactly.
pub(crate) fn each_number(values: &Buf, dtype: Dtype, mut take: impl FnMut(Number)) {
    macro_rules! integers {
        ($t:ty) => {
            typed::<$t>(values).iter().for_each(|v| take(Number::Integer(*v as i128)))
        };
    }
    let half = |b: u16| f16::from_bits(b).to_f64();
    match dtype {
        Dtype::Bool | Dtype::U8 => integers!(u8),
        Dtype::U16 => integers!(u16),
        Dtype::U32 => integers!(u32),
        Dtype::U64 => integers!(u64),
        Dtype::I8 => integers!(i8),
        Dtype::I16 => integers!(i16),
        Dtype::I32 => integers!(i32),
        Dtype::I64 => integers!(i64),
        Dtype::F16 => typed::<u16>(values).iter().for_each(|b| take(Number::Real(half(*b)))),
        Dtype::Bf16 => typed::<u16>(values)
            .iter()
            .for_each(|b| take(Number::Real(bf16::from_bits(*b).to_f64()))),
        Dtype::F32 => typed::<f32>(values).iter().for_each(|v| take(Number::Real(*v as f64))),
        Dtype::F64 => typed::<f64>(values).iter().for_each(|v| take(Number::Real(*v))),
        Dtype::C32 => typed::<[u16; 2]>(values)
            .iter()
            .for_each(|c| take(Number::Complex(half(c[0]), half(c[1])))),
        Dtype::C64 => typed::<[f32; 2]>(values)
            .iter()
            .for_each(|c| take(Number::Complex(c[0] as f64, c[1] as f64))),
        Dtype::C128 => {
            typed::<[f64; 2]>(values).iter().for_each(|c| take(Number::Complex(c[0], c[1])))
        }
        _ => {
            values.iter().for_each(|b| take(Number::Real(float8::table(dtype)[*b as usize] as f64)))
        }
    }
}

/// Whether every verdict is [`Verdict::Equal`].
pub fn all_equal(verdicts: &[(String, Verdict)]) -> bool {
    verdicts.iter().all(|(_, v)| *v == Verdict::Equal)
}

/// One sentence about a verdict.
pub fn sentence(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Equal => "equal".into(),
        Verdict::OnlyA => "only in the first".into(),
        Verdict::OnlyB => "only in the second".into(),
        Verdict::NotComparable(why) => format!("not comparable: {why}"),
        Verdict::Different(d) => {
            let mut text = format!(
                "{} of {} values differ; first at {:?}: {} and {}",
                d.count, d.of, d.first, d.values.0, d.values.1
            );
            if d.largest_absolute > 0.0 {
                text += &format!(
                    "; largest difference {:e}, relative {:e}",
                    d.largest_absolute, d.largest_relative
                );
            }
            text
        }
    }
}
