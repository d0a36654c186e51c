//! Decimal numbers: whole numbers of 10^-scale, stored as int64 or as little-endian two's
//! complement words.

use arrow_buffer::i256;

use super::{Buf, Dtype, typed};
use crate::error::{Error, Result};

/// Digits that an int64 always holds.
const MAX_INT64_DIGITS: u8 = 18;
/// Digits that two words always hold.
const MAX_TWO_WORDS_DIGITS: u8 = 38;

/// How decimals of one precision are stored: `int64` each, or two or four `uint64` words.
///
/// ```
/// use npk::model::{Decimals, Dtype};
/// assert_eq!(Decimals::of(10, 2).dtype(), Dtype::I64);
/// assert_eq!(Decimals::of(38, 0).words, 2);
/// assert_eq!(Decimals::of(10, 2).text(&(-1205i64).to_le_bytes()), "-12.05");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimals {
    /// Digits in all.
    pub precision: u8,
    /// Digits after the decimal point; below 0, zeros before it.
    pub scale: i8,
    /// 1, 2 or 4 words of 64 bits.
    pub words: usize,
}

impl Decimals {
    /// Decimals of this type.
    pub fn of(precision: u8, scale: i8) -> Decimals {
        let words = match precision {
            p if p <= MAX_INT64_DIGITS => 1,
            p if p <= MAX_TWO_WORDS_DIGITS => 2,
            _ => 4,
        };
        Decimals { precision, scale, words }
    }
    /// The dtype of the words.
    pub fn dtype(self) -> Dtype {
        if self.words == 1 { Dtype::I64 } else { Dtype::U64 }
    }
    /// The dimension that the words add to the shape; none where there is one word.
    pub fn dims(self) -> Vec<u64> {
        if self.words == 1 { Vec::new() } else { vec![self.words as u64] }
    }
    /// Bytes of a decimal.
    pub fn item_bytes(self) -> usize {
        8 * self.words
    }
    /// The digits of stored decimals, as whole numbers.
    pub fn numbers(self, values: &[u8]) -> impl Iterator<Item = i256> + '_ {
        values.chunks_exact(self.item_bytes()).map(whole)
    }
    /// The number as text: digits, with a point where there is a scale.
    pub fn text(self, item: &[u8]) -> String {
        let mut out = Vec::new();
        self.write(whole(item), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
    /// Appends the text of the number in these words.
    pub fn write_words(self, words: &[u64], out: &mut Vec<u8>) {
        self.write(whole(bytemuck::cast_slice(words)), out);
    }
    /// Appends the text of a whole number of 10^-scale.
    pub fn write(self, number: i256, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let start = out.len();
        // A vector takes all bytes.
        _ = match number.to_i128() {
            Some(n) => match i64::try_from(n) {
                Ok(n) => write!(out, "{n}"),
                Err(_) => write!(out, "{n}"),
            },
            None => write!(out, "{number}"),
        };
        let first = start + usize::from(out.get(start) == Some(&b'-'));
        let Ok(scale) = usize::try_from(self.scale) else {
            if number != i256::ZERO {
                out.resize(out.len() + usize::from(self.scale.unsigned_abs()), b'0');
            }
            return;
        };
        if scale == 0 {
            return;
        }
        let lacking = (scale + 1).saturating_sub(out.len() - first);
        out.splice(first..first, std::iter::repeat_n(b'0', lacking));
        out.insert(out.len() - scale, b'.');
    }
    /// The stored bytes of a text such as `-12.3`; `None` where it is not exactly such a decimal.
    pub fn parse(self, text: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mut digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > 512 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let shift = i64::from(self.scale) - fraction.len() as i64;
        if shift >= 0 {
            digits.extend(std::iter::repeat_n('0', shift as usize));
        } else {
            let keep = digits.len().saturating_sub(shift.unsigned_abs() as usize);
            if digits[keep..].bytes().any(|b| b != b'0') {
                return None;
            }
            digits.truncate(keep);
        }
        let digits = digits.trim_start_matches('0');
        if digits.len() > usize::from(self.precision) {
            return None;
        }
        let number = i256::from_string(if digits.is_empty() { "0" } else { digits })?;
        let number = if negative { number.wrapping_neg() } else { number };
        Some(number.to_le_bytes()[..self.item_bytes()].to_vec())
    }
    /// The nearest float64, and whether it is exactly the decimal.
    pub fn float(self, number: i256) -> (f64, bool) {
        let mut text = Vec::new();
        self.write(number, &mut text);
        let text = String::from_utf8(text).unwrap_or_default();
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        (value, is_exactly(value, &text))
    }
    /// The values (8, 16 or 32 bytes each, of at most this precision) in the stored width.
    ///
    /// # Errors
    /// Corrupt, with the row, where a value that is not null does not fit.
    pub fn stored(
        self,
        values: &Buf,
        width: usize,
        is_valid: impl Fn(usize) -> bool,
    ) -> Result<Buf> {
        if width == self.item_bytes() {
            return Ok(values.clone());
        }
        let wrong = |i: usize| {
            Error::corrupt(format!(
                "value {i} has more digits than a decimal({}, {}) has",
                self.precision, self.scale
            ))
        };
        if let (4, 1) = (width, self.words) {
            return Ok(Buf::from_vec(
                typed::<i32>(values).iter().map(|&v| i64::from(v)).collect::<Vec<_>>(),
            ));
        }
        if let (16, 1) = (width, self.words) {
            let narrow = |(i, v): (usize, &i128)| match i64::try_from(*v) {
                Ok(v) => Ok(v),
                Err(_) if !is_valid(i) => Ok(0),
                Err(_) => Err(wrong(i)),
            };
            let narrowed: Result<Vec<i64>> =
                typed::<i128>(values).iter().enumerate().map(narrow).collect();
            return narrowed.map(Buf::from_vec);
        }
        let n = self.item_bytes();
        let mut out = Vec::with_capacity(values.len() / width * n);
        for (i, item) in values.chunks_exact(width).enumerate() {
            let bytes = whole(item).to_le_bytes();
            if whole(&bytes[..n]) == whole(item) {
                out.extend_from_slice(&bytes[..n]);
            } else if is_valid(i) {
                return Err(wrong(i));
            } else {
                out.resize(out.len() + n, 0);
            }
        }
        Ok(Buf::from_vec(out))
    }
}

/// A little-endian two's complement number of 4 to 32 bytes.
pub(super) fn whole(bytes: &[u8]) -> i256 {
    if let Some(bytes) = bytes.first_chunk::<8>().filter(|_| bytes.len() == 8) {
        return i256::from_i128(i128::from(i64::from_le_bytes(*bytes)));
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 32];
    let n = bytes.len().min(32);
    all[..n].copy_from_slice(&bytes[..n]);
    i256::from_le_bytes(all)
}

/// Whether the float is exactly the decimal: its exact expansion has the same digits.
fn is_exactly(value: f64, text: &str) -> bool {
    let digits = |t: &str| {
        let (sign, t) = t.strip_prefix('-').map_or(("", t), |t| ("-", t));
        let (whole, part) = t.split_once('.').unwrap_or((t, ""));
        let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
        let sign = if whole.is_empty() && part.is_empty() { "" } else { sign };
        format!("{sign}{whole}.{part}")
    };
    // The digits that a decimal can have after its point.
    digits(&format!("{value:.130}")) == digits(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_the_same() {
        for (precision, scale, text) in [
            (5, 2, "-12.05"),
            (5, 2, "0.00"),
            (5, 5, "-0.00001"),
            (18, 0, "-999999999999999999"),
            (20, 3, "12345678901234567.890"),
            (38, 0, "-99999999999999999999999999999999999999"),
            (
                76,
                70,
                "-123456.0000000000000000000000000000000000000000000000000000000000000000000001",
            ),
            (5, -3, "12345000"),
            (5, -3, "0"),
        ] {
            let decimals = Decimals::of(precision, scale);
            let item = decimals.parse(text.as_bytes()).expect(text);
            assert_eq!(item.len(), decimals.item_bytes());
            assert_eq!(decimals.text(&item), text);
        }
        assert_eq!(Decimals::of(5, 2).parse(b"1234.56"), None, "six digits");
        assert_eq!(Decimals::of(5, 2).parse(b"1.234"), None, "three decimals");
        assert_eq!(Decimals::of(5, -3).parse(b"1234"), None);
        assert_eq!(Decimals::of(5, 2).parse(b"1e3"), None);
    }

    #[test]
    fn floats_are_exact_or_not() {
        let decimals = Decimals::of(5, 2);
        assert_eq!(decimals.float(i256::from_i128(-125)), (-1.25, true));
        assert_eq!(decimals.float(i256::from_i128(10)), (0.1, false));
    }

    #[test]
    fn values_are_narrowed_where_they_fit() {
        let wide = Buf::from_vec(vec![5i128, -7, i128::from(i64::MAX) + 1]);
        let decimals = Decimals::of(10, 2);
        let narrow = decimals.stored(&wide, 16, |i| i < 2).unwrap();
        assert_eq!(*typed::<i64>(&narrow), [5, -7, 0]);
        let error = decimals.stored(&wide, 16, |_| true).unwrap_err();
        assert!(error.to_string().contains("value 2"), "{error}");
        let words = Decimals::of(40, 0).stored(&wide, 16, |_| true).unwrap();
        assert_eq!(words.len(), 96);
        assert_eq!(Decimals::of(40, 0).numbers(&words).nth(1), Some(i256::from_i128(-7)));
    }
}
