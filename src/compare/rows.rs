//! Rows of two arrays beside each other: which differ.

use arrow_array::{Array, ArrayRef};

use super::difference::Difference;
use super::distance;
use super::number::{Number, Rules, each_number, item_bytes, numbers};
use super::times::{self, Times};
use crate::arrow_model;
use crate::model::{
    ArrayMeta, Chunk, TimeUnit, Values, checked_product, codes_of, iso8601, item_of,
};
use crate::ops::cast;

/// Chunks of both sides cover the same rows, cut differently: they are walked in step.
pub(super) fn in_step(
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

pub(super) fn same_rows(
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
            fixed_differences(&Pair::of(a, b, rules), (l, r), (x, y), first_row)
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
        (Values::Fixed(x), Values::Var { offsets, values }) if rules.other_form => {
            texts_of_values(a, (l, r), (x, offsets, values), first_row)
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
    let times = a.logical.is_time() && b.logical.is_time();
    a.dtype == b.dtype
        && (!decimals || a.logical == b.logical)
        && (!times || times::same_unit(a, b))
}

/// Elements of a fixed size on both sides, and what makes them equal.
struct Pair<'a> {
    a: &'a ArrayMeta,
    b: &'a ArrayMeta,
    rules: Rules,
    /// The same bytes are the same values.
    alike: bool,
    /// Nothing else is.
    exactly: bool,
    /// How times that count something else are the same.
    times: Option<Times>,
    /// Whether numpy's NaT counts as a null.
    nat_is_null: bool,
}

impl<'a> Pair<'a> {
    fn of(a: &'a ArrayMeta, b: &'a ArrayMeta, rules: Rules) -> Pair<'a> {
        let alike = alike(a, b);
        let times = Times::of(&a.logical, &b.logical).filter(|_| !times::same_unit(a, b));
        // Floats do not tell all decimals apart, their digits do.
        let exactly = a.logical.decimals().is_some() && alike && rules.rtol + rules.atol == 0.0;
        let nat_is_null = rules.ignore_dtype || rules.other_form;
        Pair { a, b, rules, alike, exactly, times, nat_is_null }
    }
    fn is_null(&self, meta: &ArrayMeta, number: &Number) -> bool {
        self.nat_is_null
            && meta.logical.has_nat()
            && matches!(number, Number::Integer(i) if *i == i128::from(i64::MIN))
    }
    /// Elements that are not null.
    fn equal(&self, (x, u): (&[u8], &Number), (y, v): (&[u8], &Number)) -> bool {
        if let (Some(times), Number::Integer(p), Number::Integer(q)) = (&self.times, u, v) {
            return times.equal(*p, *q);
        }
        self.alike && x == y || !self.exactly && u.equals(v, self.rules)
    }
    /// What the largest difference counts, where both are times.
    fn unit(&self) -> Option<TimeUnit> {
        self.b.logical.time_unit().and(self.a.logical.time_unit())
    }
}

fn fixed_differences(
    pair: &Pair<'_>,
    (l, r): (&Chunk, &Chunk),
    (x, y): (&[u8], &[u8]),
    first_row: u64,
) -> Option<Difference> {
    let (a, b) = (pair.a, pair.b);
    let per_row = checked_product(a.element_dims()).unwrap_or(1).max(1) as usize;
    let no_nulls = l.valid.is_none() && r.valid.is_none();
    let (sx, sy) = (item_bytes(a), item_bytes(b));
    let mut d = Difference::default();
    // In blocks: numbers of any type take many times the room of their bytes.
    let blocks = x.chunks(distance::BLOCK * sx).zip(y.chunks(distance::BLOCK * sy));
    for (k, (x, y)) in blocks.enumerate() {
        if pair.alike && no_nulls && x == y {
            continue;
        }
        for (i, (u, v)) in numbers(x, a).iter().zip(&numbers(y, b)).enumerate() {
            let at = k * distance::BLOCK + i;
            let row = at / per_row;
            let valid_l = l.is_valid(row) && !pair.is_null(a, u);
            let valid_r = r.is_valid(row) && !pair.is_null(b, v);
            let (bytes_x, bytes_y) = (&x[i * sx..(i + 1) * sx], &y[i * sy..(i + 1) * sy]);
            let both = valid_l && valid_r;
            let equal = match both {
                true => pair.equal((bytes_x, u), (bytes_y, v)),
                false => valid_l == valid_r,
            };
            if equal {
                continue;
            }
            if d.count == 0 {
                d.first = index_of(first_row, row, at % per_row, a.element_dims());
                d.values = (shown(l.is_valid(row), bytes_x, a), shown(r.is_valid(row), bytes_y, b));
                d.unit = pair.unit();
            }
            if both && pair.times.is_none() {
                let (absolute, relative) = u.distance(v);
                d.largest_absolute = d.largest_absolute.max(absolute);
                d.largest_relative = d.largest_relative.max(relative);
            }
            d.count += 1;
        }
    }
    (d.count > 0).then_some(d)
}

fn shown(valid: bool, bytes: &[u8], meta: &ArrayMeta) -> String {
    if valid { cast::show_element(bytes, meta) } else { "null".into() }
}

/// Times or decimals beside their texts.
fn texts_of_values(
    a: &ArrayMeta,
    (l, r): (&Chunk, &Chunk),
    (x, offsets, texts): (&[u8], &[u64], &[u8]),
    first_row: u64,
) -> Option<Difference> {
    let size = item_bytes(a);
    let mut d = Difference::default();
    let mut expected = Vec::new();
    for (i, item) in x.chunks(size).enumerate() {
        expected.clear();
        match a.logical.decimals() {
            Some(decimals) => expected.extend(decimals.text(item).bytes()),
            None => {
                each_number(item, a.dtype, |n| {
                    if let Number::Integer(count) = n {
                        iso8601::write(count as i64, &a.logical, &mut expected);
                    }
                });
            }
        }
        let valid = l.is_valid(i) && !expected.is_empty();
        let text = &texts[offsets[i] as usize..offsets[i + 1] as usize];
        // Nothing, where a null must not be a blank line.
        let is_text = r.is_valid(i) && !text.is_empty() && text != b"NaT";
        if valid == is_text && (!valid || expected == text) {
            continue;
        }
        if d.count == 0 {
            let show = |valid: bool, text: &[u8]| match valid {
                true => format!("'{}'", String::from_utf8_lossy(text)),
                false => "null".into(),
            };
            d.first = vec![first_row + i as u64];
            d.values = (show(valid, &expected), show(r.is_valid(i), text));
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
