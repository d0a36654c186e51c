//! What is known of some rows, and how it grows chunk by chunk.

use super::codes::{Codes, is_short, is_worth, widen};
use super::heat::{self, Sums};
use super::histogram::Histogram;
use super::reals::{BLOCK, Real, extremes, strange_and_zeros};
use super::stats::{Stats, is_nat};
use super::text::Texts;
use crate::compare::{Number, each_number};
use crate::error::Result;
use crate::model::{ArrayMeta, Chunk, Dtype, Values, checked_product, codes_of, item_of, typed};

/// What is known of some rows.
pub(super) struct Part {
    pub(super) stats: Stats,
    pub(super) histogram: Option<Histogram>,
    pub(super) heat: Option<Sums>,
    pub(super) texts: Option<Texts>,
    /// What is counted by its bits, and not yet part of the others.
    pub(super) codes: Option<Codes>,
    /// The next row.
    pub(super) row: u64,
}

impl Part {
    pub(super) fn add(&mut self, meta: &ArrayMeta, chunk: &Chunk) -> Result<()> {
        let row = self.row;
        self.row += chunk.rows;
        let rows = chunk.rows as usize;
        if chunk.valid.is_some() {
            self.stats.nulls += (0..rows).filter(|&r| !chunk.is_valid(r)).count() as u64;
        }
        match &chunk.values {
            Values::Fixed(codes) if meta.coded_text().is_some() => self.coded(meta, codes),
            Values::Fixed(values) => {
                let per_row = checked_product(meta.element_dims()).unwrap_or(1);
                // Rows without elements may be more than can be counted.
                if values.is_empty() || per_row == 0 {
                    return Ok(());
                }
                let row_bytes = values.len() / rows;
                let mut start = 0;
                while start < rows {
                    let valid = chunk.is_valid(start);
                    let end = match &chunk.valid {
                        None => rows,
                        Some(_) => {
                            (start..rows).find(|&r| chunk.is_valid(r) != valid).unwrap_or(rows)
                        }
                    };
                    let at = (row + start as u64) * per_row;
                    if valid {
                        self.values(meta, at, &values[start * row_bytes..end * row_bytes]);
                    } else if let Some(heat) = &mut self.heat {
                        heat.null(at, (end - start) * per_row as usize);
                    }
                    start = end;
                }
                Ok(())
            }
            Values::Var { offsets, .. } => {
                let texts = !matches!(meta.logical, crate::model::Logical::List);
                for r in (0..rows).filter(|&r| chunk.is_valid(r)) {
                    self.stats.count += 1;
                    self.stats.zeros += u64::from(offsets[r] == offsets[r + 1]);
                    if let Some(found) = self.texts.as_mut().filter(|_| texts) {
                        found.add(chunk.text(r));
                    }
                }
                Ok(())
            }
            Values::Nested(_) => Ok(()),
        }
    }

    /// Text of several dimensions.
    fn coded(&mut self, meta: &ArrayMeta, codes: &[u8]) -> Result<()> {
        let Some(categories) = meta.coded_text() else { return Ok(()) };
        let codes = codes_of(codes, meta.dtype);
        self.stats.count += codes.len() as u64;
        categories.with(|items| {
            for code in codes {
                let text = item_of(items, code)?;
                self.stats.zeros += u64::from(text.is_empty());
                if let Some(texts) = &mut self.texts {
                    texts.add(text);
                }
            }
            Ok(())
        })
    }

    /// Elements that are not null, from the `at`th on.
    fn values(&mut self, meta: &ArrayMeta, at: u64, bytes: &[u8]) {
        if meta.logical.decimals().is_some() {
            return self.decimals(meta, at, bytes);
        }
        let item = meta.dtype.item_bytes() as usize;
        let elements = heat::plane(meta).map_or(0, |[rows, columns]| rows.saturating_mul(columns));
        if is_worth(meta.dtype, elements.max((bytes.len() / item) as u64)) {
            return self.counted(meta.dtype, at, bytes);
        }
        let step = BLOCK * item;
        let mut reals = [0f32; BLOCK];
        for (k, bytes) in bytes.chunks(step).enumerate() {
            let at = at + (k * BLOCK) as u64;
            let n = bytes.len() / item;
            match meta.dtype {
                Dtype::F32 => self.reals(at, &typed::<f32>(bytes)),
                Dtype::F64 => self.reals(at, &typed::<f64>(bytes)),
                dtype if is_short(dtype) => {
                    self.reals(at, widen(dtype, bytes, &mut reals));
                }
                dtype if dtype.is_complex() => {
                    let mut magnitudes = Vec::with_capacity(n);
                    each_number(bytes, dtype, |number| match number {
                        Number::Complex(re, im) => magnitudes.push(re.hypot(im)),
                        Number::Real(r) => magnitudes.push(r),
                        Number::Integer(i) => magnitudes.push(i as f64),
                    });
                    self.reals(at, &magnitudes);
                }
                Dtype::U64 => {
                    let wide = typed::<u64>(bytes);
                    match wide.iter().all(|&v| i64::try_from(v).is_ok()) {
                        true => self.integers(meta, at, &typed::<i64>(bytes)),
                        false => self.wide(at, wide.iter().map(|&v| (v as f64, i128::from(v)))),
                    }
                }
                dtype => self.integers(meta, at, &codes_of(bytes, integer(dtype))),
            }
        }
    }

    fn integers(&mut self, meta: &ArrayMeta, at: u64, values: &[i64]) {
        let whole;
        let mut values = values;
        if values.iter().any(|&v| is_nat(meta, i128::from(v))) {
            whole = values.iter().copied().filter(|&v| v != i64::MIN).collect::<Vec<i64>>();
            self.stats.nulls += (values.len() - whole.len()) as u64;
            values = &whole;
        }
        let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else { return };
        self.stats.count += values.len() as u64;
        self.stats.zeros += values.iter().filter(|&&v| v == 0).count() as u64;
        self.stats.add_integers(values, (low, high));
        if let Some(histogram) = &mut self.histogram {
            histogram.add_integers(values, i128::from(low), i128::from(high));
        }
        if let Some(heat) = &mut self.heat {
            let reals: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            heat.add(at, &reals, true, f64::from);
        }
    }

    /// Whole numbers past an int64.
    fn wide(&mut self, at: u64, values: impl Iterator<Item = (f64, i128)>) {
        let mut reals = Vec::new();
        for (value, exact) in values {
            self.stats.count += 1;
            self.stats.zeros += u64::from(exact == 0);
            self.stats.add_one(value, Some(exact));
            if let Some(histogram) = &mut self.histogram {
                histogram.add_wide(exact);
            }
            reals.push(value);
        }
        if let Some(heat) = &mut self.heat {
            heat.add(at, &reals, true, f64::from);
        }
    }

    fn decimals(&mut self, meta: &ArrayMeta, at: u64, bytes: &[u8]) {
        let Some(decimals) = meta.logical.decimals() else { return };
        for (k, bytes) in bytes.chunks(BLOCK * decimals.item_bytes()).enumerate() {
            let mut reals = Vec::with_capacity(BLOCK);
            for number in decimals.numbers(bytes) {
                let value = decimals.float(number).0;
                let exact = number.to_i128().filter(|_| decimals.words < 4);
                self.stats.count += 1;
                self.stats.zeros += u64::from(value == 0.0);
                self.stats.add_one(value, exact);
                if let Some(histogram) = &mut self.histogram {
                    histogram.add_reals(&[value], value, value);
                }
                reals.push(value);
            }
            if let Some(heat) = &mut self.heat {
                heat.add(at + (k * BLOCK) as u64, &reals, true, f64::from);
            }
        }
    }

    /// Adds the part of the next rows.
    pub(super) fn merge(&mut self, next: Part, meta: &ArrayMeta) {
        self.stats.merge(&next.stats);
        let whole =
            !meta.dtype.is_float() && !meta.dtype.is_complex() && meta.logical.decimals().is_none();
        if let (Some(histogram), Some(next)) = (&mut self.histogram, next.histogram) {
            histogram.merge(next, whole);
        }
        if let (Some(heat), Some(next)) = (&mut self.heat, next.heat) {
            heat.merge(next);
        }
        if let (Some(texts), Some(next)) = (&mut self.texts, next.texts) {
            texts.merge(next);
        }
    }

    vectorized! {
        /// Floats from the `at`th on.
        fn reals<T: Real>(at: u64, values: &[T]) = reals_avx512 or reals_avx2 or reals_plain
    }
    #[inline(always)]
    fn reals_plain<T: Real>(&mut self, at: u64, values: &[T]) {
        let (strange, zeros) = strange_and_zeros(values);
        self.stats.count += values.len() as u64;
        self.stats.zeros += zeros;
        if let Some(heat) = &mut self.heat {
            heat.add(at, values, strange == 0, Into::into);
        }
        if strange == 0 {
            return self.finite(values);
        }
        let nan = values.iter().filter(|&&v| v.partial_cmp(&v).is_none()).count() as u64;
        self.stats.nan += nan;
        self.stats.inf += strange - nan;
        let finite: Vec<T> = values.iter().copied().filter(|v| v.finite()).collect();
        self.finite(&finite);
    }

    #[inline(always)]
    fn finite<T: Real>(&mut self, values: &[T]) {
        let (low, high) = extremes(values);
        let (low, high) = (low.into(), high.into());
        self.stats.add_reals(values, (low, high));
        if let Some(histogram) = self.histogram.as_mut().filter(|_| !values.is_empty()) {
            histogram.add_reals(values, low, high);
        }
    }
}

/// Floats of one or two bytes: see [`Codes`].
impl Part {
    /// Counts elements of a type that [`is_worth`] it, from the `at`th on.
    fn counted(&mut self, dtype: Dtype, at: u64, bytes: &[u8]) {
        let item = dtype.item_bytes() as usize;
        let mut at = at;
        for bytes in bytes.chunks(BLOCK * item * 64) {
            let more = bytes.len() / item;
            if self.codes.as_ref().is_some_and(|codes| !codes.has_room(more)) {
                self.add_codes();
            }
            self.codes.get_or_insert_with(|| Codes::new(dtype));
            self.count(dtype, at, bytes);
            at += more as u64;
        }
    }

    vectorized! {
        /// The same, where there is a counter.
        fn count(dtype: Dtype, at: u64, bytes: &[u8]) = count_avx512 or count_avx2 or count_plain
    }
    #[inline(always)]
    fn count_plain(&mut self, dtype: Dtype, at: u64, bytes: &[u8]) {
        let item = dtype.item_bytes() as usize;
        let Some(codes) = &mut self.codes else { return };
        let mut reals = [0f32; BLOCK];
        for (k, bytes) in bytes.chunks(BLOCK * item).enumerate() {
            match item {
                1 => codes.add(bytes),
                _ => codes.add(&typed::<u16>(bytes)),
            }
            let Some(heat) = &mut self.heat else { continue };
            let at = at + (k * BLOCK) as u64;
            if dtype == Dtype::Bf16 {
                // Widened in passing: no more than a shift.
                let halves = typed::<u16>(bytes);
                let most = halves.iter().fold(0, |most, bits| most.max(bits & 0x7fff));
                heat.add(at, &halves, most < 0x7f80, |bits| {
                    f64::from(f32::from_bits(u32::from(bits) << 16))
                });
            } else {
                let reals = widen(dtype, bytes, &mut reals);
                let bits = |real: &f32| real.to_bits() as i32 & i32::MAX;
                let most = reals.iter().fold(0, |most, real| bits(real).max(most));
                let is_finite = most < f32::INFINITY.to_bits() as i32;
                heat.add(at, reals, is_finite, f64::from);
            }
        }
    }

    /// Adds what was counted to statistics and the histogram.
    fn add_codes(&mut self) {
        if let Some(codes) = self.codes.take() {
            codes.finish(&mut self.stats, self.histogram.as_mut());
        }
    }

    /// Makes statistics, the histogram and the heat map whole.
    pub(super) fn settle(&mut self) {
        self.add_codes();
        if let Some(histogram) = &mut self.histogram {
            histogram.settle();
        }
        if let Some(heat) = &mut self.heat {
            heat.settle();
        }
    }
}

/// Booleans are bytes.
fn integer(dtype: Dtype) -> Dtype {
    if dtype == Dtype::Bool { Dtype::U8 } else { dtype }
}
