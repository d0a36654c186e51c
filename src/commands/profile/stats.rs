//! What `inspect --stats` tells of the values.

use arrow_buffer::i256;
use serde_json::{Value, json};

use super::reals::{BLOCK, Real};
use crate::commands::preview::line;
use crate::model::json_float::number;
use crate::model::{ArrayMeta, Decimals, Logical, TimeUnit, iso8601};

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
    moments: Moments,
    numeric: bool,
    /// The sum of integers, for the mean of times: a float64 does not tell nanoseconds apart.
    sum: i128,
    /// Times and decimals: their least and greatest are shown as such.
    exact_type: Option<Logical>,
    complex: bool,
}

/// Count, mean, and the sum of the squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    #[inline(always)]
    fn of<T: Copy + Into<f64>>(values: &[T]) -> Moments {
        let Some(&shift) = values.first() else { return Moments::default() };
        // About the first value: sums about 0 would cancel out where the mean is large. Sixteen
        // at once: each sum waits for the addition before.
        let shift: f64 = shift.into();
        let (mut sums, mut squares) = ([0f64; 16], [0f64; 16]);
        let (whole, rest) = values.as_chunks::<16>();
        for sixteen in whole {
            for k in 0..16 {
                let distance: f64 = sixteen[k].into() - shift;
                sums[k] += distance;
                squares[k] += distance * distance;
            }
        }
        for (k, &value) in rest.iter().enumerate() {
            let distance: f64 = value.into() - shift;
            sums[k] += distance;
            squares[k] += distance * distance;
        }
        let n = values.len() as f64;
        let (sum, squares): (f64, f64) = (sums.iter().sum(), squares.iter().sum());
        let squares = (squares - sum * sum / n).max(0.0);
        Moments { count: values.len() as u64, mean: shift + sum / n, squares }
    }
    fn merge(&mut self, other: Moments) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = other;
            }
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (m / (n + m));
        self.squares += other.squares + delta * delta * (n * (m / (n + m)));
        self.count += other.count;
    }
}

fn wider<T: Copy>(range: &mut Option<(T, T)>, other: Option<(T, T)>, less: fn(T, T) -> bool) {
    *range = match (*range, other) {
        (Some((a, b)), Some((c, d))) => {
            Some((if less(c, a) { c } else { a }, if less(b, d) { d } else { b }))
        }
        (one, other) => one.or(other),
    };
}

impl Stats {
    pub(super) fn of(meta: &ArrayMeta) -> Stats {
        let exact = meta.logical.is_time() || meta.logical.decimals().is_some();
        let exact_type = exact.then(|| meta.logical.clone());
        Stats { exact_type, complex: meta.dtype.is_complex(), ..Stats::default() }
    }
    /// Whether there were numbers, or times.
    pub fn is_numeric(&self) -> bool {
        self.numeric
    }
    /// Whether the figures are of magnitudes.
    pub fn is_magnitude(&self) -> bool {
        self.complex
    }
    /// Finite values.
    pub fn finite(&self) -> u64 {
        self.moments.count
    }
    /// Adds finite values, each of which comes so many times.
    pub(super) fn add_counted(&mut self, values: &[f32], counts: &[u64], range: (f64, f64)) {
        self.numeric = true;
        let count: u64 = counts.iter().sum();
        if count == 0 {
            return;
        }
        wider(&mut self.range, Some(range), |a, b| a < b);
        let sum = |of: &dyn Fn(f64) -> f64| -> f64 {
            values.iter().zip(counts).map(|(&v, &n)| of(v.into()) * n as f64).sum()
        };
        let mean = sum(&|v| v) / count as f64;
        let squares = sum(&|v| (v - mean) * (v - mean));
        self.moments.merge(Moments { count, mean, squares });
    }
    /// Adds elements whose counts are known: none of those that are not finite is among `values`.
    #[inline(always)]
    pub(super) fn add_reals<T: Real>(&mut self, values: &[T], range: (f64, f64)) {
        if !values.is_empty() {
            wider(&mut self.range, Some(range), |a, b| a < b);
            self.moments.merge(Moments::of(values));
        }
        self.numeric = true;
    }
    /// The same for whole numbers.
    pub(super) fn add_integers(&mut self, values: &[i64], range: (i64, i64)) {
        let mut reals = [0f64; BLOCK];
        for part in values.chunks(reals.len()) {
            reals.iter_mut().zip(part).for_each(|(real, &v)| *real = v as f64);
            self.moments.merge(Moments::of(&reals[..part.len()]));
        }
        self.sum = values.iter().fold(self.sum, |sum, &v| sum.saturating_add(i128::from(v)));
        let (low, high) = (i128::from(range.0), i128::from(range.1));
        wider(&mut self.exact, Some((low, high)), |a, b| a < b);
        wider(&mut self.range, Some((range.0 as f64, range.1 as f64)), |a, b| a < b);
        self.numeric = true;
    }
    /// One finite value, with what it is exactly.
    pub(super) fn add_one(&mut self, value: f64, exact: Option<i128>) {
        self.moments.merge(Moments { count: 1, mean: value, squares: 0.0 });
        wider(&mut self.range, Some((value, value)), |a, b| a < b);
        if let Some(exact) = exact {
            wider(&mut self.exact, Some((exact, exact)), |a, b| a < b);
            self.sum = self.sum.saturating_add(exact);
        }
        self.numeric = true;
    }
    /// The same over the values of both.
    pub(super) fn merge(&mut self, other: &Stats) {
        self.count += other.count;
        self.nulls += other.nulls;
        self.nan += other.nan;
        self.inf += other.inf;
        self.zeros += other.zeros;
        wider(&mut self.range, other.range, |a, b| a < b);
        wider(&mut self.exact, other.exact, |a, b| a < b);
        self.moments.merge(other.moments);
        self.sum = self.sum.saturating_add(other.sum);
        self.numeric |= other.numeric;
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
        if self.moments.count == 0 {
            return [Value::Null, Value::Null, Value::Null, Value::Null];
        }
        let std = (self.moments.squares / self.moments.count as f64).max(0.0).sqrt();
        match (&self.exact_type, self.exact, self.range) {
            (Some(time), Some((least, most)), _) if time.is_time() => {
                let mean = self.sum.div_euclid(i128::from(self.moments.count));
                let spread =
                    Logical::Duration(time.time_unit().unwrap_or_else(|| TimeUnit::new("s")));
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
                [text(least), text(most), number(self.moments.mean), number(std)]
            }
            (_, Some((a, b)), _) => {
                [integer(a), integer(b), number(self.moments.mean), number(std)]
            }
            (_, None, Some((a, b))) => {
                [number(a), number(b), number(self.moments.mean), number(std)]
            }
            _ => [Value::Null, Value::Null, number(self.moments.mean), number(std)],
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
        if self.moments.count > 0 && self.complex {
            parts.push("of the magnitudes".into());
        }
        if self.moments.count > 0 {
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
pub fn text(count: i128, time: &Logical) -> Value {
    match i64::try_from(count) {
        Ok(count) => json!(iso8601::text(count, time)),
        Err(_) => Value::Null,
    }
}

/// Whether this element is NaT.
pub(super) fn is_nat(meta: &ArrayMeta, value: i128) -> bool {
    matches!(meta.logical, Logical::Datetime(_) | Logical::Timedelta(_))
        && value == i128::from(i64::MIN)
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
