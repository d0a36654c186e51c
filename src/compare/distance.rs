//! How far apart two arrays of numbers are, for `npk diff --summary`.

use half::{bf16, f16};

use super::number::{Number, item_bytes, numbers};
use crate::model::{ArrayMeta, Chunk, Dtype, Values, checked_product, typed};

/// Elements that are turned into numbers at a time.
pub(super) const BLOCK: usize = 4096;

/// Sums over the elements that are finite and not null on both sides. Complex numbers count with
/// both parts, as two numbers each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// How many elements were compared, nulls and those that are not finite among them.
    pub elements: u64,
    /// How many of them the sums are of.
    pub finite: u64,
    /// The sum of the squared differences.
    pub squares: f64,
    /// The largest magnitude of a difference.
    pub largest: f64,
    /// The sum of the squares of the first.
    pub first: f64,
    /// The sum of the squares of the second.
    pub second: f64,
    /// The sum of the products.
    pub products: f64,
}

impl Distance {
    /// The same over the elements of both.
    pub fn add(&mut self, other: &Distance) {
        self.elements += other.elements;
        self.finite += other.finite;
        self.squares += other.squares;
        self.largest = self.largest.max(other.largest);
        self.first += other.first;
        self.second += other.second;
        self.products += other.products;
    }
    /// The Euclidean norm of the difference: `numpy.linalg.norm(b - a)`.
    pub fn l2(&self) -> f64 {
        self.squares.sqrt()
    }
    /// The norm of the difference over that of the first; `None` where that is 0.
    pub fn relative(&self) -> Option<f64> {
        (self.first > 0.0).then(|| self.l2() / self.first.sqrt())
    }
    /// The cosine of the angle between the two: `(a @ b) / (norm(a) * norm(b))`; `None` where one
    /// of them is 0.
    pub fn cosine(&self) -> Option<f64> {
        let norms = self.first.sqrt() * self.second.sqrt();
        (norms > 0.0).then(|| (self.products / norms).clamp(-1.0, 1.0))
    }
    #[inline(always)]
    fn pair(&mut self, x: f64, y: f64) {
        let finite = x.is_finite() && y.is_finite();
        let (x, y) = if finite { (x, y) } else { (0.0, 0.0) };
        let difference = y - x;
        self.finite += u64::from(finite);
        self.squares += difference * difference;
        self.largest = self.largest.max(difference.abs());
        self.first += x * x;
        self.second += y * y;
        self.products += x * y;
    }
    /// Pairs of one float type. Four sums at once: each waits for the addition before.
    fn reals<T: Copy>(&mut self, x: &[T], y: &[T], to: impl Fn(T) -> f64) {
        let mut sums = [Distance::default(); 4];
        let (x4, y4) = (x.chunks_exact(4), y.chunks_exact(4));
        let rest = x4.remainder().iter().zip(y4.remainder());
        for (x, y) in x4.zip(y4) {
            for (k, sum) in sums.iter_mut().enumerate() {
                sum.pair(to(x[k]), to(y[k]));
            }
        }
        rest.for_each(|(x, y)| self.pair(to(*x), to(*y)));
        sums.iter().for_each(|sum| self.add(sum));
        self.elements += x.len() as u64;
    }
}

/// Whether a distance means something: plain numbers and decimals have one, times and codes do not.
pub(super) fn is_measured(meta: &ArrayMeta) -> bool {
    let numbers = meta.logical.is_plain() || meta.logical.decimals().is_some();
    numbers && meta.details.error.is_none()
}

/// The distance of two chunks of the same rows.
pub(super) fn of_rows(a: &ArrayMeta, b: &ArrayMeta, one: &Chunk, other: &Chunk) -> Distance {
    let mut sum = Distance::default();
    let (Values::Fixed(x), Values::Fixed(y)) = (&one.values, &other.values) else { return sum };
    let nulls = one.valid.is_some() || other.valid.is_some();
    let simple = a.logical.is_plain() && b.logical.is_plain() && a.dtype == b.dtype && !nulls;
    match a.dtype {
        Dtype::F32 if simple => sum.reals(&typed::<f32>(x), &typed::<f32>(y), f64::from),
        Dtype::F64 if simple => sum.reals(&typed::<f64>(x), &typed::<f64>(y), |v| v),
        Dtype::F16 if simple => {
            sum.reals(&typed::<u16>(x), &typed::<u16>(y), |v| f16::from_bits(v).to_f64())
        }
        Dtype::Bf16 if simple => {
            sum.reals(&typed::<u16>(x), &typed::<u16>(y), |v| bf16::from_bits(v).to_f64())
        }
        _ => of_any(a, b, one, other, &mut sum),
    }
    sum
}

/// The same for all types, by their numbers.
fn of_any(a: &ArrayMeta, b: &ArrayMeta, one: &Chunk, other: &Chunk, sum: &mut Distance) {
    let (Values::Fixed(x), Values::Fixed(y)) = (&one.values, &other.values) else { return };
    let per_row = checked_product(a.element_dims()).unwrap_or(1).max(1) as usize;
    let (size_x, size_y) = (item_bytes(a), item_bytes(b));
    let blocks = x.chunks(BLOCK * size_x).zip(y.chunks(BLOCK * size_y));
    for (k, (x, y)) in blocks.enumerate() {
        for (i, (u, v)) in numbers(x, a).iter().zip(&numbers(y, b)).enumerate() {
            sum.elements += 1;
            let row = (k * BLOCK + i) / per_row;
            if !one.is_valid(row) || !other.is_valid(row) {
                continue;
            }
            if let (Number::Integer(p), Number::Integer(q)) = (u, v) {
                // Exact before it is rounded.
                let (x, y, difference) = (*p as f64, *q as f64, (*q - *p) as f64);
                sum.finite += 1;
                sum.squares += difference * difference;
                sum.largest = sum.largest.max(difference.abs());
                sum.first += x * x;
                sum.second += y * y;
                sum.products += x * y;
                continue;
            }
            let ((re_x, im_x), (re_y, im_y)) = (u.parts(), v.parts());
            if [re_x, im_x, re_y, im_y].iter().all(|part| part.is_finite()) {
                let mut both = Distance::default();
                both.pair(re_x, re_y);
                both.pair(im_x, im_y);
                both.largest = (re_y - re_x).hypot(im_y - im_x);
                both.finite = 1;
                sum.add(&both);
            }
        }
    }
}
