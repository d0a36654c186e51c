//! Compares the logical arrays of two sources, streaming: for `npk diff` and `convert --verify`.

use std::ops::Range;
use std::sync::Mutex;

use crate::error::{Context, Result, locked};
use crate::format::{ReadRows, Source as _};
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Plan, checked_product, iso8601};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::{Step, lists};

pub(crate) mod checksum;
mod difference;
mod distance;
mod number;
mod rows;
mod times;

pub use difference::Difference;
pub use distance::Distance;
pub use number::Rules;
pub(crate) use number::{Number, each_number};
use rows::{in_step, same_rows};
use times::Times;

/// The result for one array.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Equal.
    Equal,
    /// Only in the first.
    OnlyA,
    /// Only in the second.
    OnlyB,
    /// Types differ: those of the first and the second.
    OtherTypes(String, String),
    /// Shapes differ, or one cannot be read; the text says which.
    NotComparable(String),
    /// Values differ.
    Different(Difference),
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
            Some(&j) => not_comparable(meta, &b.arrays[j], rules).unwrap_or(Verdict::Equal),
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
    let (a, b) = in_one_form(a, b);
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
    pairs.retain(|&(i, j)| match not_comparable(&plan_a[i], &plan_b[j], rules) {
        Some(why) => {
            all[i].verdict = why;
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

/// Lists of both sides in one form: in one file their lengths are known to be equal, in the other
/// any length may come.
fn in_one_form(a: Flow, b: Flow) -> (Flow, Flow) {
    let like = |flow: Flow, other: &Flow| match lists::like(flow.plan(), other.plan()) {
        Some(step) => flow.then(step),
        None => flow,
    };
    let a = like(a, &b);
    let b = like(b, &a);
    (a, b)
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
fn not_comparable(a: &ArrayMeta, b: &ArrayMeta, rules: Rules) -> Option<Verdict> {
    for m in [a, b] {
        if let Some(e) = &m.details.error {
            return Some(Verdict::NotComparable(format!("cannot be read: {}", e.reason())));
        }
    }
    let (x, y) = (a.type_name(), b.type_name());
    let plain = |t: &str| t.trim_end_matches('?').to_string();
    if plain(&x) != plain(&y) && !alike_in(a, b, rules) {
        return Some(Verdict::OtherTypes(x, y));
    }
    let shape = |meta: &ArrayMeta| {
        let inner = meta.element_dims().to_vec();
        ArrayMeta { inner, ..meta.clone() }.shape()
    };
    match (shape(a), shape(b)) {
        (Some(s), Some(t)) if s == t => None,
        (Some(s), Some(t)) => Some(Verdict::NotComparable(format!("shapes {s:?} and {t:?}"))),
        // Rows are known once it was spooled; a difference shows as rows that do not come.
        _ => None,
    }
}

/// Whether values of two types can be compared by these rules.
fn alike_in(a: &ArrayMeta, b: &ArrayMeta, rules: Rules) -> bool {
    let (x, y) = (&a.logical, &b.logical);
    if x.is_time() && y.is_time() {
        return (rules.ignore_dtype || rules.other_form) && Times::of(x, y).is_some();
    }
    let has_text = x.is_time() || x.decimals().is_some();
    let numbers = !x.is_var() && !y.is_var();
    rules.other_form && has_text && matches!(y, Logical::Text) || rules.ignore_dtype && numbers
}

fn read(reader: &dyn ReadRows, array: usize, rows: Range<u64>) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    reader.read(array, rows, &mut |chunk| {
        chunks.push(chunk);
        Ok(())
    })?;
    Ok(chunks)
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
        Verdict::OtherTypes(a, b) => format!("types differ: {a} and {b}"),
        Verdict::NotComparable(why) => format!("not comparable: {why}"),
        Verdict::Different(d) => {
            let mut text = format!(
                "{} of {} values differ; first at {:?}: {} and {}",
                d.count, d.of, d.first, d.values.0, d.values.1
            );
            if let Some(unit) = d.unit.clone().filter(|_| d.largest_absolute > 0.0) {
                let span = iso8601::text(d.largest_absolute as i64, &Logical::Duration(unit));
                text += &format!("; largest difference {span}");
            } else if d.largest_absolute > 0.0 {
                text += &format!(
                    "; largest difference {:e}, relative {:e}",
                    d.largest_absolute, d.largest_relative
                );
            }
            text
        }
    }
}
