//! What `inspect --stats` and `--hist` tell of the values.

use arrow::datatypes::i256;
use serde_json::{Value, json};

use super::diff::number;
use super::look::line;
use crate::compare::{Number, each_number};
use crate::error::Result;
use crate::format::Order;
use crate::formats::text::delimited::print;
use crate::model::{ArrayMeta, Chunk, Decimals, Logical, TimeUnit, Values};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::Step;

/// The figures of `--stats` for an array: of complex numbers their magnitudes, of times the times.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Elements (rows of text).
    pub count: u64,
    /// Null rows, and elements that are NaT.
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
    /// The sum of integers, for the mean of times: a float64 does not tell nanoseconds apart.
    sum: i128,
    /// Times and decimals: their least and greatest are shown as such.
    exact_type: Option<Logical>,
    complex: bool,
}

impl Stats {
    fn of(meta: &ArrayMeta) -> Stats {
        let exact = meta.logical.is_time() || meta.logical.decimals().is_some();
        let exact_type = exact.then(|| meta.logical.clone());
        Stats { exact_type, complex: meta.dtype.is_complex(), ..Stats::default() }
    }

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
            self.sum = self.sum.saturating_add(i);
        }
        self.finite += 1;
        let delta = value - self.mean;
        self.mean += delta / self.finite as f64;
        self.squares += delta * (value - self.mean);
    }

    /// As JSON; NaN, infinities and times as text.
    pub fn json(&self) -> Value {
        let [min, max, mean, std] = self.of_values();
        let mut v = json!({
            "count": self.count, "nulls": self.nulls, "nan": self.nan, "inf": self.inf, "zeros": self.zeros,
            "min": min, "max": max, "mean": mean, "std": std,
        });
        if self.complex {
            v["of"] = json!("magnitude");
        }
        v
    }

    /// Least, greatest, mean and standard deviation.
    fn of_values(&self) -> [Value; 4] {
        if self.finite == 0 {
            return [Value::Null, Value::Null, Value::Null, Value::Null];
        }
        let std = (self.squares / self.finite as f64).max(0.0).sqrt();
        match (&self.exact_type, self.exact, self.range) {
            (Some(time), Some((least, most)), _) if time.is_time() => {
                let mean = self.sum.div_euclid(i128::from(self.finite));
                let spread = Logical::Duration(unit(time));
                [
                    text(least, time),
                    text(most, time),
                    text(mean, time),
                    text(std.round() as i128, &spread),
                ]
            }
            (Some(Logical::Decimal { precision, scale, .. }), Some((least, most)), _) => {
                let text = |n: i128| {
                    let mut out = Vec::new();
                    Decimals::of(*precision, *scale).write(i256::from_i128(n), &mut out);
                    json!(String::from_utf8_lossy(&out))
                };
                [text(least), text(most), number(self.mean), number(std)]
            }
            (_, Some((a, b)), _) => [integer(a), integer(b), number(self.mean), number(std)],
            (_, None, Some((a, b))) => [number(a), number(b), number(self.mean), number(std)],
            _ => [Value::Null, Value::Null, number(self.mean), number(std)],
        }
    }

    /// As a line.
    pub fn line(&self) -> String {
        let v = self.json();
        let mut parts =
            vec![format!("{} value{}", self.count, if self.count == 1 { "" } else { "s" })];
        for (n, what) in
            [(self.nulls, "null"), (self.nan, "NaN"), (self.inf, "infinite"), (self.zeros, "zero")]
        {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        if self.finite > 0 && self.complex {
            parts.push("of the magnitudes".into());
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
    i64::try_from(i)
        .map(|i| json!(i))
        .or_else(|_| u64::try_from(i).map(|i| json!(i)))
        .unwrap_or(Value::Null)
}

/// A count of this time as text.
fn text(count: i128, time: &Logical) -> Value {
    let mut out = Vec::new();
    match i64::try_from(count) {
        Ok(count) => print::time(count, time, &mut out),
        Err(_) => return Value::Null,
    }
    json!(String::from_utf8_lossy(&out))
}

/// What a time counts.
fn unit(time: &Logical) -> TimeUnit {
    match time {
        Logical::Datetime(u)
        | Logical::Timedelta(u)
        | Logical::Timestamp(u, _)
        | Logical::Duration(u) => u.clone(),
        Logical::Time32(u) | Logical::Time64(u) => u.clone(),
        Logical::Date32 => TimeUnit::new("D"),
        _ => TimeUnit::new("ms"),
    }
}

/// Whether this element is NaT.
fn is_nat(meta: &ArrayMeta, value: i128) -> bool {
    matches!(meta.logical, Logical::Datetime(_) | Logical::Timedelta(_))
        && value == i128::from(i64::MIN)
}

fn each_valid(meta: &ArrayMeta, chunk: &Chunk, mut take: impl FnMut(f64, Option<i128>)) {
    let Values::Fixed(values) = &chunk.values else { return };
    let per_row = crate::model::checked_product(meta.element_dims()).unwrap_or(1).max(1) as usize;
    if let Some(decimals) = meta.logical.decimals() {
        for (i, number) in decimals.numbers(values).enumerate() {
            if chunk.is_valid(i / per_row) {
                let exact = number.to_i128().filter(|_| decimals.words < 4);
                take(decimals.float(number).0, exact);
            }
        }
        return;
    }
    let mut i = 0;
    each_number(values, meta.dtype, |n| {
        if chunk.is_valid(i / per_row) {
            match n {
                Number::Integer(v) => take(v as f64, Some(v)),
                Number::Real(v) => take(v, None),
                Number::Complex(real, imaginary) => take(real.hypot(imaginary), None),
            }
        }
        i += 1;
    });
}

/// Statistics of every readable array, streamed; `None` for the others.
///
/// # Errors
/// Reading errors.
pub fn stats(flow: Flow, settings: &Settings) -> Result<Vec<Option<Stats>>> {
    let all = flow.plan().arrays.len();
    let good: Vec<usize> =
        (0..all).filter(|&a| flow.plan().arrays[a].details.error.is_none()).collect();
    let flow = flow.choose(&good);
    let decoded = Step::decode(flow.plan());
    let flow = flow.then(decoded);
    let metas = flow.plan().arrays.clone();
    let mut found: Vec<Stats> = metas.iter().map(Stats::of).collect();
    pipe::drain(
        flow,
        Order::Any,
        &mut |chunk| {
            let (meta, stats) = (&metas[chunk.array], &mut found[chunk.array]);
            if chunk.valid.is_some() {
                stats.nulls +=
                    (0..chunk.rows as usize).filter(|&r| !chunk.is_valid(r)).count() as u64;
            }
            if let (Some(categories), Values::Fixed(codes)) = (meta.coded_text(), &chunk.values) {
                let codes = crate::model::codes_of(codes, meta.dtype);
                stats.count += codes.len() as u64;
                stats.zeros += categories.with(|items| {
                    let is_empty = |code: &&i64| {
                        usize::try_from(**code)
                            .ok()
                            .and_then(|c| items.get(c))
                            .is_some_and(Vec::is_empty)
                    };
                    codes.iter().filter(is_empty).count() as u64
                });
            } else if let Values::Var { offsets, .. } = &chunk.values {
                for row in (0..chunk.rows as usize).filter(|&r| chunk.is_valid(r)) {
                    stats.count += 1;
                    stats.zeros += u64::from(offsets[row] == offsets[row + 1]);
                }
            } else {
                each_valid(meta, &chunk, |v, i| match i {
                    Some(i) if is_nat(meta, i) => stats.nulls += 1,
                    _ => stats.add(v, i),
                });
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
pub fn histograms(
    flow: Flow,
    stats: &[Option<Stats>],
    settings: &Settings,
) -> Result<Vec<Option<[u64; 16]>>> {
    let all = flow.plan().arrays.len();
    let good: Vec<usize> = (0..all)
        .filter(|&a| stats[a].as_ref().is_some_and(|s| s.numeric && s.range.is_some()))
        .collect();
    let mut out = vec![None; all];
    if good.is_empty() {
        return Ok(out);
    }
    let flow = flow.choose(&good);
    let decoded = Step::decode(flow.plan());
    let flow = flow.then(decoded);
    let metas = flow.plan().arrays.clone();
    let ranges: Vec<(f64, f64)> = good
        .iter()
        .map(|&a| stats[a].as_ref().and_then(|s| s.range).unwrap_or((0.0, 0.0)))
        .collect();
    let mut bins = vec![[0u64; 16]; good.len()];
    pipe::drain(
        flow,
        Order::Any,
        &mut |chunk| {
            let ((low, high), bins) = (ranges[chunk.array], &mut bins[chunk.array]);
            let width = (high / 2.0 - low / 2.0) / 8.0;
            let meta = &metas[chunk.array];
            each_valid(meta, &chunk, |v, i| {
                if v.is_finite() && !i.is_some_and(|i| is_nat(meta, i)) {
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
    bins.iter()
        .map(
            |&n| {
                if n == 0 { ' ' } else { BLOCKS[((n * 8).div_ceil(most) as usize).clamp(1, 8) - 1] }
            },
        )
        .collect()
}
