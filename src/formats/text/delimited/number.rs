//! Numbers from decimal text, correctly rounded, in one pass over the digits.
//!
//! The digits are gathered into a 64-bit significand and a power of ten; the double comes from one
//! multiplication (Clinger) or from a 128-bit product (Eisel and Lemire, "Number parsing at a
//! gigabyte per second", 2021). What these cannot decide goes to the general algorithm of the
//! standard library.

use std::sync::OnceLock;

/// What a number's spelling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// An integer from -2^63 to 2^64 - 1; `bits` is its two's complement.
    Integer,
    /// An integer past these bounds; `bits` is the nearest double.
    Long,
    /// A number with a fraction, an exponent, or the sign of `-0`; `bits` is the nearest double.
    Float,
    /// Digits that begin with needless zeros (`007`), otherwise as `Integer`.
    Zeros,
    /// A number too large for a double.
    Overflow,
}

/// A number found at the start of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Its spelling.
    pub kind: NumberKind,
    /// Its value, see [`NumberKind`].
    pub bits: u64,
    /// Whether it begins with `-`.
    pub negative: bool,
    /// Where it ends.
    pub end: usize,
}

/// The powers of five from 5^-342 to 5^308, each as the upper 128 bits of its significand: (upper,
/// lower).
struct Powers([(u64, u64); 651]);

const MIN_POWER: i64 = -342;
const MAX_POWER: i64 = 308;

impl Powers {
    /// Exact arithmetic, once for a process.
    fn compute() -> Box<Powers> {
        let mut table = Box::new(Powers([(0, 0); 651]));
        // 5^q grows limb by limb; the table keeps its top 128 bits, cut off.
        let mut power: Vec<u64> = vec![1];
        for q in 0..=MAX_POWER {
            table.0[(q - MIN_POWER) as usize] = top_bits(&power);
            let mut carry = 0u128;
            for limb in &mut power {
                let product = u128::from(*limb) * 5 + carry;
                *limb = product as u64;
                carry = product >> 64;
            }
            if carry > 0 {
                power.push(carry as u64);
            }
        }
        // 2^1792 / 5^k, floored step by step (which is the floor of the whole).
        let mut reciprocal: Vec<u64> = vec![0; 29];
        reciprocal[28] = 1;
        for k in 1..=-MIN_POWER {
            let mut rest = 0u128;
            for limb in reciprocal.iter_mut().rev() {
                let part = rest << 64 | u128::from(*limb);
                *limb = (part / 5) as u64;
                rest = part % 5;
            }
            // floor(2^b / 5^k) + 1, cut to 128 bits.
            let mut ceiling = reciprocal.clone();
            let shift = 1792 - bits_wanted(k);
            for limb in ceiling.iter_mut().take(shift / 64) {
                *limb = 0;
            }
            if !shift.is_multiple_of(64) {
                ceiling[shift / 64] &= u64::MAX << (shift % 64);
            }
            let mut at = shift / 64;
            let mut add = 1u64 << (shift % 64);
            while add > 0 && at < ceiling.len() {
                let (sum, over) = ceiling[at].overflowing_add(add);
                ceiling[at] = sum;
                add = u64::from(over);
                at += 1;
            }
            table.0[(-k - MIN_POWER) as usize] = top_bits(&ceiling);
        }
        table
    }
    fn get() -> &'static Powers {
        static TABLE: OnceLock<Box<Powers>> = OnceLock::new();
        TABLE.get_or_init(Powers::compute)
    }
}

/// The exponent b of the division 2^b / 5^k that gives at least 128 good bits.
fn bits_wanted(k: i64) -> usize {
    // z: the least with 2^z >= 5^k; log2(5) = 2.3219…
    let z = ((k * 152_170) >> 16) as usize + 1;
    if k <= 27 { z + 127 } else { 2 * z + 128 }
}

/// The 128 bits from the highest set one on.
fn top_bits(limbs: &[u64]) -> (u64, u64) {
    let Some(last) = limbs.iter().rposition(|&l| l != 0) else { return (0, 0) };
    let limb = |i: usize| if i <= last { limbs[last - i] } else { 0 };
    let shift = limb(0).leading_zeros();
    if shift == 0 {
        return (limb(0), limb(1));
    }
    let join = |a: u64, b: u64| a << shift | b >> (64 - shift);
    (join(limb(0), limb(1)), join(limb(1), limb(2)))
}

const SMALL_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// A reader of numbers with a given decimal sign.
#[derive(Clone, Copy)]
pub struct Reader {
    decimal: u8,
    powers: &'static Powers,
}

/// The value of eight digits as 0 to 9, the first in the lowest byte.
#[inline(always)]
fn eight_value(word: u64) -> u64 {
    let word = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (word & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let high = ((word >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    (low.wrapping_add(high)) >> 32
}

const WHOLE_POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Appends the digits at `i` to `value`; returns where they end. Eight bytes at a time: a byte is a
/// digit where it is at most 9 after the exclusive or; the first that is not has its high bit set
/// in `others`.
#[inline(always)]
fn digits(bytes: &[u8], mut i: usize, value: &mut u64) -> usize {
    while let Some(chunk) = bytes.get(i..).and_then(|b| b.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        if others == 0 {
            *value = value.wrapping_mul(100_000_000).wrapping_add(eight_value(word));
            i += 8;
            continue;
        }
        let count = (others.trailing_zeros() / 8) as usize;
        if count > 0 {
            *value = value
                .wrapping_mul(WHOLE_POWERS[count])
                .wrapping_add(eight_value(word << (64 - 8 * count)));
        }
        return i + count;
    }
    while let Some(&b) = bytes.get(i) {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        i += 1;
    }
    i
}

impl Reader {
    /// For this decimal sign.
    pub fn new(decimal: u8) -> Reader {
        Reader { decimal, powers: Powers::get() }
    }

    /// Its decimal sign.
    pub fn decimal(&self) -> u8 {
        self.decimal
    }

    /// The number that begins at `start`, if one does. It may end anywhere: the caller looks at
    /// what follows.
    pub fn read(&self, bytes: &[u8], start: usize) -> Option<Number> {
        self.read_here(bytes, start)
    }

    /// [`Reader::read`], for the innermost loop.
    #[inline(always)]
    pub fn read_here(&self, bytes: &[u8], start: usize) -> Option<Number> {
        let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
        let negative = at(start) == b'-';
        let first = start + usize::from(negative || at(start) == b'+');
        let mut significand = 0u64;
        let mut i = digits(bytes, first, &mut significand);
        let whole = i - first;
        let mut exponent = 0i64;
        let mut fraction = 0;
        let pointed = at(i) == self.decimal;
        if pointed {
            let from = i + 1;
            i = digits(bytes, from, &mut significand);
            fraction = i - from;
            exponent = -(fraction as i64);
        }
        if whole + fraction == 0 {
            return None;
        }
        let mut written = 0i64;
        let powered = at(i) | 0x20 == b'e';
        if powered {
            let down = at(i + 1) == b'-';
            let from = i + 1 + usize::from(down || at(i + 1) == b'+');
            let mut power = 0i64;
            i = from;
            while at(i).is_ascii_digit() {
                power = (power * 10 + i64::from(at(i) - b'0')).min(1 << 30);
                i += 1;
            }
            if i == from {
                return None;
            }
            written = if down { -power } else { power };
        }
        if !pointed && !powered {
            return Some(self.integer(bytes, start, first, i, negative, significand));
        }
        let number = |bits: u64| Number { kind: NumberKind::Float, bits, negative, end: i };
        if whole + fraction > 19 && !fits(&bytes[first..i], self.decimal) {
            return Some(self.general(bytes, start, i, negative));
        }
        exponent += written;
        match self.double(significand, exponent) {
            Some(value) => Some(number(value | u64::from(negative) << 63)),
            None => Some(self.general(bytes, start, i, negative)),
        }
    }

    #[inline(always)]
    fn integer(
        &self,
        bytes: &[u8],
        start: usize,
        first: usize,
        end: usize,
        negative: bool,
        significand: u64,
    ) -> Number {
        let count = end - first;
        let zeros = count > 1 && bytes[first] == b'0';
        let kind = if zeros { NumberKind::Zeros } else { NumberKind::Integer };
        if negative && significand == 0 && count < 19 {
            let kind = if zeros { NumberKind::Zeros } else { NumberKind::Float };
            return Number { kind, bits: if zeros { 0 } else { 1 << 63 }, negative, end };
        }
        let value = if count <= 19 {
            Some(significand)
        } else {
            bytes[first..end]
                .iter()
                .try_fold(0u64, |v, &b| v.checked_mul(10)?.checked_add(u64::from(b - b'0')))
        };
        match value {
            Some(v) if !negative => Number { kind, bits: v, negative, end },
            Some(v) if v <= 1 << 63 => Number { kind, bits: v.wrapping_neg(), negative, end },
            _ => {
                let general = self.general(bytes, start, end, negative);
                Number {
                    kind: if general.kind == NumberKind::Float {
                        NumberKind::Long
                    } else {
                        general.kind
                    },
                    ..general
                }
            }
        }
    }

    /// significand × 10^exponent, rounded to nearest, ties to even; `None` where this cannot tell.
    #[inline(always)]
    fn double(&self, significand: u64, exponent: i64) -> Option<u64> {
        if significand <= 1 << 53 && (-22..=22).contains(&exponent) {
            let value = significand as f64;
            let value = if exponent < 0 {
                value / SMALL_POWERS[-exponent as usize]
            } else {
                value * SMALL_POWERS[exponent as usize]
            };
            return Some(value.to_bits());
        }
        if significand == 0 {
            return Some(0);
        }
        if !(MIN_POWER..=MAX_POWER).contains(&exponent) {
            return None;
        }
        let zeros = significand.leading_zeros();
        let w = significand << zeros;
        let (upper, lower) = self.powers.0[(exponent - MIN_POWER) as usize];
        let first = u128::from(w) * u128::from(upper);
        let (mut low, mut high) = (first as u64, (first >> 64) as u64);
        const MASK: u64 = u64::MAX >> 55;
        if high & MASK == MASK {
            let second = ((u128::from(w) * u128::from(lower)) >> 64) as u64;
            let (sum, over) = low.overflowing_add(second);
            low = sum;
            high = high.wrapping_add(u64::from(over));
        }
        if low == u64::MAX && !(-27..=55).contains(&exponent) {
            return None;
        }
        let upper_bit = (high >> 63) as u32;
        let shift = upper_bit + 64 - 52 - 3;
        let mut mantissa = high >> shift;
        let mut power =
            ((exponent * 217_706) >> 16) + 63 + i64::from(upper_bit) - i64::from(zeros) + 1023;
        if power <= 0 {
            return None;
        }
        if low <= 1
            && (-4..=23).contains(&exponent)
            && mantissa & 3 == 1
            && mantissa << shift == high
        {
            mantissa &= !1;
        }
        mantissa += mantissa & 1;
        mantissa >>= 1;
        if mantissa >= 2 << 52 {
            mantissa = 1 << 52;
            power += 1;
        }
        if power >= 0x7FF {
            return None;
        }
        Some(mantissa & !(1 << 52) | (power as u64) << 52)
    }

    /// The slow and sure way.
    #[cold]
    fn general(&self, bytes: &[u8], start: usize, end: usize, negative: bool) -> Number {
        let mut text: Vec<u8> = bytes[start..end].to_vec();
        for b in &mut text {
            if *b == self.decimal {
                *b = b'.';
            }
        }
        let text = text.strip_prefix(b"+").unwrap_or(&text);
        let value = std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.parse::<f64>().ok())
            .unwrap_or(f64::INFINITY);
        let kind = if value.is_infinite() { NumberKind::Overflow } else { NumberKind::Float };
        Number { kind, bits: value.to_bits(), negative, end }
    }

    /// These bytes as a float32, rounded once. They are a number for [`Reader::read`].
    pub fn single(&self, bytes: &[u8]) -> f32 {
        let text: Vec<u8> =
            bytes.iter().map(|&b| if b == self.decimal { b'.' } else { b }).collect();
        let text = text.strip_prefix(b"+").unwrap_or(&text);
        std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(f32::NAN)
    }
}

/// Do the significant digits fit 64 bits: at most 19 after the leading zeros?
fn fits(bytes: &[u8], decimal: u8) -> bool {
    let digits = bytes.iter().take_while(|&&b| b | 0x20 != b'e').filter(|&&b| b != decimal);
    digits.skip_while(|&&b| b == b'0').count() <= 19
}

/// Can this integer be a double without losing a digit? Exactly, or as the double's shortest
/// digits.
pub fn safe_as_double(bits: u64, signed: bool) -> bool {
    let magnitude = if signed { (bits as i64).unsigned_abs() } else { bits };
    if magnitude <= 1 << 53 {
        return true;
    }
    let double = magnitude as f64;
    double as u128 == u128::from(magnitude)
        || shortest_digits(double) == trimmed(&magnitude.to_string())
}

/// Can this run of digits (an optional sign, then digits alone) be a double without losing a digit?
pub fn safe_digits(text: &[u8], double: f64) -> bool {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start_matches(['+', '-']);
    let exact = format!("{:.0}", double.abs());
    text == exact || shortest_digits(double.abs()) == trimmed(text)
}

fn trimmed(digits: &str) -> String {
    digits.trim_end_matches('0').to_string()
}

fn shortest_digits(value: f64) -> String {
    let text = format!("{value:e}");
    let significand = text.split('e').next().unwrap_or_default();
    trimmed(&significand.replace('.', ""))
}

/// `inf`, `nan` and their usual spellings, with a sign or without.
pub fn special(text: &[u8]) -> Option<f64> {
    let (negative, body) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let is = |word: &str| body.eq_ignore_ascii_case(word.as_bytes());
    match body.len() {
        3 if is("nan") => Some(f64::NAN),
        3 if is("inf") => Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        8 if is("infinity") => Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => None,
    }
}

/// `True`, `False` and their usual spellings.
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"True" | b"TRUE" | b"true" => Some(true),
        b"False" | b"FALSE" | b"false" => Some(false),
        _ => None,
    }
}

impl Reader {
    /// Whether all of `text` is a number: of any size, special spellings and complex ones included.
    pub fn is_number(&self, text: &[u8]) -> bool {
        special(text).is_some()
            || self.read(text, 0).is_some_and(|n| n.end == text.len())
            || self.complex(text, true).is_some()
    }

    /// A part of a complex number, special spellings included. Integers that lose digits as doubles
    /// are none, unless `lossy`.
    fn part(&self, text: &[u8], lossy: bool) -> Option<f64> {
        if let Some(value) = special(text) {
            return Some(value);
        }
        let number = self.read(text, 0)?;
        if number.end != text.len() {
            return None;
        }
        let (value, exact) = match number.kind {
            NumberKind::Float => (f64::from_bits(number.bits), true),
            NumberKind::Long => {
                (f64::from_bits(number.bits), safe_digits(text, f64::from_bits(number.bits)))
            }
            NumberKind::Overflow => (f64::from_bits(number.bits), false),
            NumberKind::Integer | NumberKind::Zeros => {
                let value =
                    if number.negative { number.bits as i64 as f64 } else { number.bits as f64 };
                (value, safe_as_double(number.bits, number.negative))
            }
        };
        (exact || lossy).then_some(value)
    }

    /// A complex number as numpy and Python write it: `(1+2j)`, `1.5e-05-2j`, `2j`, `(nan+infj)`;
    /// also `1+-2j`, as older versions of `numpy.savetxt` have it. Without its `j` it is none:
    /// `(50)` is text.
    pub fn complex(&self, text: &[u8], lossy: bool) -> Option<(f64, f64)> {
        let inner = match text.first()? {
            b'(' => text.strip_prefix(b"(")?.strip_suffix(b")")?.trim_ascii(),
            _ => text,
        };
        let body = inner.strip_suffix(b"j")?;
        // The last sign that is not an exponent's parts the two halves.
        let mut cut = None;
        for (i, &b) in body.iter().enumerate().skip(1) {
            let before = body[i - 1];
            let exponent = before | 0x20 == b'e'
                && i >= 2
                && (body[i - 2].is_ascii_digit() || body[i - 2] == self.decimal);
            if matches!(b, b'+' | b'-') && !exponent && !matches!(before, b'+' | b'-') {
                cut = Some(i);
            }
        }
        match cut {
            None => Some((0.0, self.part(body, lossy)?)),
            Some(i) => {
                let imaginary = match &body[i..] {
                    [b'+', b'-', ..] => &body[i + 1..],
                    other => other,
                };
                Some((self.part(&body[..i], lossy)?, self.part(imaginary, lossy)?))
            }
        }
    }
}
