//! Compares the logical arrays of two sources, streaming: for `npk diff` and `convert --verify`.

use std::ops::Range;
use std::sync::Mutex;

use arrow_array::{Array, ArrayRef};

use crate::arrow_model;
use crate::error::{Context, Result, locked};
use crate::format::{ReadRows, Source as _};
use crate::model::{ArrayMeta, Chunk, Dtype, Plan, Values, checked_product, codes_of, item_of};
use crate::ops::cast;
use crate::pipe::{self, Flow, Settings};
use crate::resolve::Step;

pub(crate) mod checksum;
mod distance;
mod number;

pub use distance::Distance;
pub use number::Rules;
pub(crate) use number::{Number, each_number};
use number::{item_bytes, numbers};

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

/// What is known of the arrays of one name.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The name.
    pub name: String,
    /// Equal or not.
    pub verdict: Verdict,
    /// How many elements (rows of text) were compared.
    pub of: u64,
    /// How far apart they are, where that was asked for and they are numbers.
    pub distance: Option<Distance>,
}

/// What the headers tell of each name: those of the first source in its order, then those that only
/// the second has. [`Verdict::Equal`] stands for "can be compared".
pub fn headers(a: &Plan, b: &Plan, rules: Rules) -> Vec<Compared> {
    let index_b = b.positions();
    let of = |name: &str, verdict| Compared { name: name.into(), verdict, of: 0, distance: None };
    let mut all: Vec<Compared> = Vec::with_capacity(a.arrays.len());
    for meta in a.arrays.iter() {
        let verdict = match index_b.get(meta.name.as_str()) {
            None => Verdict::OnlyA,
            Some(&j) => {
                comparable(meta, &b.arrays[j], rules).map_or(Verdict::Equal, Verdict::NotComparable)
            }
        };
        all.push(Compared { of: elements(meta), ..of(&meta.name, verdict) });
    }
    let names_a = a.positions();
    let others = b.arrays.iter().filter(|m| !names_a.contains_key(m.name.as_str()));
    all.extend(others.map(|m| of(&m.name, Verdict::OnlyB)));
    all
}

/// Elements, or rows of text.
fn elements(meta: &ArrayMeta) -> u64 {
    if meta.logical.is_var() {
        return meta.rows.unwrap_or(0);
    }
    let dims = checked_product(meta.element_dims());
    dims.and_then(|n| n.checked_mul(meta.rows.unwrap_or(0))).unwrap_or(0)
}

/// The verdict on each name, in the order of [`headers`].
///
/// # Errors
/// Reading errors.
pub fn compare(
    a: Flow,
    b: Flow,
    labels: (&str, &str),
    rules: Rules,
    settings: &Settings,
) -> Result<Vec<Compared>> {
    let mut all = headers(a.plan(), b.plan(), rules);
    let (plan_a, plan_b) = (a.plan().arrays.clone(), b.plan().arrays.clone());
    let index_b = b.plan().positions();
    let pairs: Vec<(usize, usize)> = (0..plan_a.len())
        .filter(|&i| all[i].verdict == Verdict::Equal)
        .filter_map(|i| Some((i, *index_b.get(plan_a[i].name.as_str())?)))
        .collect();
    if pairs.is_empty() {
        return Ok(all);
    }
    let (wanted_a, wanted_b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
    drop(index_b);
    let source_a = pipe::with_random(a, &wanted_a, settings).at_file(labels.0)?;
    let source_b = pipe::with_random(b, &wanted_b, settings).at_file(labels.1)?;
    // A pipe's rows are known by now.
    let late = pairs.iter().any(|&(i, j)| plan_a[i].rows.is_none() || plan_b[j].rows.is_none());
    let (plan_a, plan_b) = match late {
        true => (source_a.plan().arrays.clone(), source_b.plan().arrays.clone()),
        false => (plan_a, plan_b),
    };
    let (reader_a, reader_b) = (source_a.into_reader(), source_b.into_reader());
    let mut pairs = pairs;
    pairs.retain(|&(i, j)| match comparable(&plan_a[i], &plan_b[j], rules) {
        Some(why) => {
            all[i].verdict = Verdict::NotComparable(why);
            false
        }
        None => true,
    });
    let found: Vec<Mutex<PairFindings>> = pairs.iter().map(|_| Mutex::default()).collect();
    let tasks = pairs.iter().enumerate().flat_map(|(p, &(i, j))| {
        let pieces = pieces_of(&plan_a[i], settings.piece_bytes());
        pieces.map(move |(held, rows)| (held, (p, i, j, rows)))
    });
    pipe::parallel(settings, tasks, &|(p, i, j, rows): (usize, usize, usize, Range<u64>)| {
        let meta = &plan_a[i];
        let one =
            read(reader_a.as_ref(), i, rows.clone()).at_file(labels.0).at_array(&meta.name)?;
        let other =
            read(reader_b.as_ref(), j, rows.clone()).at_file(labels.1).at_array(&meta.name)?;
        let mut part = PairFindings::default();
        let measured =
            rules.measure && distance::is_measured(meta) && distance::is_measured(&plan_b[j]);
        let mut distance = Distance::default();
        in_step(&one, &other, rows.start, &mut |l, r, row| {
            if let Some(d) = same_rows(meta, &plan_b[j], l, r, row, rules) {
                part.difference.add(d);
            }
            if measured {
                distance.add(&distance::of_rows(meta, &plan_b[j], l, r));
            }
        });
        let mut sum = locked(&found[p]);
        sum.distances.extend(measured.then_some((rows.start, distance)));
        if part.difference.count > 0 {
            sum.difference.add(part.difference);
        }
        Ok(())
    })?;
    for (&(i, _), found) in pairs.iter().zip(found) {
        let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        found.tell(&mut all[i], &plan_a[i], rules);
    }
    Ok(all)
}

/// The rows of an array that are compared at once, and the bytes that they take on both sides.
fn pieces_of(meta: &ArrayMeta, bytes: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let rows = meta.rows.unwrap_or(0);
    let row_bytes = meta.row_bytes().unwrap_or(1);
    // Rows without elements are compared at once, however many.
    let nothing = row_bytes == 0 && !meta.logical.is_var() && !meta.nulls;
    let step = if nothing { rows.max(1) } else { (bytes / row_bytes.max(16)).max(1) };
    let held = if nothing { 0 } else { row_bytes.max(16).saturating_mul(2) };
    (0..rows.div_ceil(step)).map(move |k| {
        let rows = k * step..((k + 1) * step).min(rows);
        ((rows.end - rows.start).saturating_mul(held), rows)
    })
}

/// What was found in the pieces of a pair so far.
#[derive(Default)]
struct PairFindings {
    difference: Difference,
    distances: Vec<(u64, Distance)>,
}

impl PairFindings {
    /// All pieces of the pair were compared.
    fn tell(self, of: &mut Compared, meta: &ArrayMeta, rules: Rules) {
        let PairFindings { difference, mut distances } = self;
        // In the order of the rows: the same sums whatever thread was first.
        distances.sort_by_key(|(row, _)| *row);
        let measured = rules.measure && distance::is_measured(meta);
        of.distance = measured.then(|| {
            let mut sum = Distance::default();
            distances.iter().for_each(|(_, d)| sum.add(d));
            sum
        });
        of.of = elements(meta);
        if difference.count > 0 {
            let mut difference = Difference { of: of.of, ..difference };
            if meta.scalar {
                difference.first.clear();
            }
            of.verdict = Verdict::Different(difference);
        }
    }
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
fn in_step(
    one: &[Chunk],
    other: &[Chunk],
    first_row: u64,
    look: &mut dyn FnMut(&Chunk, &Chunk, u64),
) {
    let (mut x, mut y) = (one.iter().cloned(), other.iter().cloned());
    let (mut left, mut right) = (x.next(), y.next());
    let mut row = first_row;
    while let (Some(l), Some(r)) = (&left, &right) {
        let n = l.rows.min(r.rows);
        look(&l.slice(0, n), &r.slice(0, n), row);
        row += n;
        let rest = |c: &Chunk| if n < c.rows { Some(c.slice(n, c.rows)) } else { None };
        let (l_rest, r_rest) = (rest(l), rest(r));
        left = l_rest.or_else(|| x.next());
        right = r_rest.or_else(|| y.next());
    }
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
            fixed_differences(a, b, (l, r), (x, y), first_row, rules)
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
    (l, r): (&Chunk, &Chunk),
    (x, y): (&[u8], &[u8]),
    first_row: u64,
    rules: Rules,
) -> Option<Difference> {
    let per_row = checked_product(a.element_dims()).unwrap_or(1).max(1) as usize;
    let no_nulls = l.valid.is_none() && r.valid.is_none();
    // Floats do not tell all decimals apart, their digits do.
    let alike = alike(a, b);
    let exactly = a.logical.decimals().is_some() && alike && rules.rtol + rules.atol == 0.0;
    let (sx, sy) = (item_bytes(a), item_bytes(b));
    let mut d = Difference::default();
    // In blocks: numbers of any type take many times the room of their bytes.
    let blocks = x.chunks(distance::BLOCK * sx).zip(y.chunks(distance::BLOCK * sy));
    for (k, (x, y)) in blocks.enumerate() {
        if alike && no_nulls && x == y {
            continue;
        }
        for (i, (u, v)) in numbers(x, a).iter().zip(&numbers(y, b)).enumerate() {
            let at = k * distance::BLOCK + i;
            let row = at / per_row;
            let (valid_l, valid_r) = (l.is_valid(row), r.is_valid(row));
            let (bytes_x, bytes_y) = (&x[i * sx..(i + 1) * sx], &y[i * sy..(i + 1) * sy]);
            let equal = if !(valid_l && valid_r) {
                valid_l == valid_r
            } else {
                alike && bytes_x == bytes_y || !exactly && u.equals(v, rules)
            };
            if equal {
                continue;
            }
            if d.count == 0 {
                d.first = index_of(first_row, row, at % per_row, a.element_dims());
                let show =
                    |valid: bool, bytes: &[u8], meta: &ArrayMeta| match meta.logical.decimals() {
                        _ if !valid => "null".into(),
                        Some(decimals) => decimals.text(bytes),
                        None => cast::show(bytes, meta.dtype, 0),
                    };
                d.values = (show(valid_l, bytes_x, a), show(valid_r, bytes_y, b));
            }
            if valid_l && valid_r {
                let (absolute, relative) = u.distance(v);
                d.largest_absolute = d.largest_absolute.max(absolute);
                d.largest_relative = d.largest_relative.max(relative);
            }
            d.count += 1;
        }
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
    let per_row = checked_product(&a.inner).unwrap_or(1).max(1) as usize;
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

/// Whether every verdict is [`Verdict::Equal`].
pub fn all_equal(compared: &[Compared]) -> bool {
    compared.iter().all(|c| c.verdict == Verdict::Equal)
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
