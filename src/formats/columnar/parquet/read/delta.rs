//! The delta encodings, walked through before the `parquet` crate decodes them: it makes room for
//! as many numbers as they announce, and adds up lengths without a look at their signs.

use super::levels::varint;
use super::parts::Texts;
use crate::error::{Error, Result};

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("delta-encoded numbers {what}"))
}

/// Goes through DELTA_BINARY_PACKED numbers of `bits` bits, of which there must not be more than
/// `most`: how many there are, and where their bytes end (behind the end of all where the last ones
/// are cut). `each` gets the numbers.
///
/// # Errors
/// Corrupt.
pub(super) fn numbers(
    bytes: &[u8],
    bits: u32,
    most: u64,
    each: Option<&mut dyn FnMut(i64)>,
) -> Result<(u64, usize)> {
    let mut at = 0;
    let mut next = || varint(bytes, &mut at).ok_or_else(|| damaged("end too early"));
    let (block, minis, count, first) = (next()?, next()?, next()?, next()?);
    if count > most {
        return Err(damaged(&format!("are {count}, at most {most} are due")));
    }
    let per_mini = block.checked_div(minis).unwrap_or(0);
    let sound = block % 128 == 0
        && per_mini % 32 == 0
        && per_mini.checked_mul(minis) == Some(block)
        && minis <= bytes.len() as u64;
    if !sound || per_mini == 0 && count > 1 {
        return Err(damaged(&format!(
            "are in blocks of {block} in {minis} parts, which cannot be"
        )));
    }
    let mut blocks =
        Blocks { bytes, at, bits, per_mini, minis: minis as usize, left: count.saturating_sub(1) };
    match each {
        Some(each) => blocks.decode(unzigzag(first), count, each)?,
        None => blocks.skip()?,
    }
    Ok((count, blocks.at))
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
    bits: u32,
    /// Numbers of a part of a block, and parts of a block.
    per_mini: u64,
    minis: usize,
    left: u64,
}

impl<'a> Blocks<'a> {
    /// The smallest delta of the next block, and the bits of each of its parts.
    fn head(&mut self) -> Result<(i64, &'a [u8])> {
        let least = varint(self.bytes, &mut self.at).ok_or_else(|| damaged("end too early"))?;
        let widths = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.get(..self.minis))
            .ok_or_else(|| damaged("end too early"))?;
        self.at += self.minis;
        Ok((unzigzag(least), widths))
    }
    /// The bytes of the next part of a block, `n` of whose numbers are wanted.
    fn part(&mut self, width: u8, n: u64) -> Result<&'a [u8]> {
        let width = u64::from(width);
        if width > u64::from(self.bits) {
            return Err(damaged(&format!("of {} bits have deltas of {width}", self.bits)));
        }
        // The last part may be cut behind its last number.
        let whole = (self.per_mini / 8)
            .checked_mul(width)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| damaged("end too early"))?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if (n * width).div_ceil(8) > rest.len() as u64 {
            return Err(damaged("end too early"));
        }
        self.at = self.at.saturating_add(whole);
        Ok(&rest[..whole.min(rest.len())])
    }
    fn skip(&mut self) -> Result<()> {
        while self.left > 0 {
            let (_, widths) = self.head()?;
            for &width in widths {
                let n = self.left.min(self.per_mini);
                if n > 0 {
                    self.part(width, n)?;
                }
                self.left -= n;
            }
        }
        Ok(())
    }
    fn decode(&mut self, first: i64, count: u64, each: &mut dyn FnMut(i64)) -> Result<()> {
        let wrapped = |v: i64| if self.bits == 32 { i64::from(v as i32) } else { v };
        let mut value = wrapped(first);
        if count > 0 {
            each(value);
        }
        while self.left > 0 {
            let (least, widths) = self.head()?;
            for &width in widths {
                let n = self.left.min(self.per_mini);
                if n == 0 {
                    continue;
                }
                let part = self.part(width, n)?;
                let mut bit = 0usize;
                for _ in 0..n {
                    let delta = take_bits(part, bit, u32::from(width));
                    bit += usize::from(width);
                    value = value.wrapping_add(least).wrapping_add(delta as i64);
                    value = if self.bits == 32 { i64::from(value as i32) } else { value };
                    each(value);
                }
                self.left -= n;
            }
        }
        Ok(())
    }
}

/// A number of `width` bits from bit `at` on.
fn take_bits(bytes: &[u8], at: usize, width: u32) -> u64 {
    let (start, shift) = (at / 8, at % 8);
    let mut word = 0u128;
    for (i, &b) in bytes.iter().skip(start).take((width as usize + shift).div_ceil(8)).enumerate() {
        word |= u128::from(b) << (8 * i);
    }
    (word >> shift) as u64 & if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// How many values a page has: those that are not null, and all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) present: u64,
    pub(super) all: u64,
}

impl Due {
    /// Refuses a number of values that cannot be.
    ///
    /// # Errors
    /// Corrupt.
    pub(super) fn check(self, count: u64) -> Result<()> {
        // Writers differ on whether nulls count.
        match (self.present..=self.all).contains(&count) {
            true => Ok(()),
            false => Err(damaged(&format!("are {count}, {} are due", self.present))),
        }
    }
}

/// Checks DELTA_LENGTH_BYTE_ARRAY: lengths, and their bytes. `texts` gets the lengths; `room` is
/// asked for the memory that the crate takes for them.
///
/// # Errors
/// Corrupt.
pub(super) fn lengths(
    bytes: &[u8],
    due: Due,
    texts: &mut Texts,
    room: &dyn Fn(u64) -> Result<()>,
) -> Result<()> {
    let mut negative = None;
    let take = &mut |length: i64| match u64::try_from(length) {
        Ok(length) => texts.add(length, 1),
        Err(_) => negative = Some(length),
    };
    let (count, end) = numbers(bytes, 32, due.all, Some(take))?;
    if let Some(length) = negative {
        return Err(Error::corrupt(format!("a text has a length of {length}")));
    }
    due.check(count)?;
    room(count.saturating_mul(4))?;
    fill(texts.bytes(), bytes, end)
}

/// Checks DELTA_BYTE_ARRAY: texts that begin as the one before. `texts` and `room` as for
/// [`lengths`].
///
/// # Errors
/// Corrupt; those of `room`.
pub(super) fn prefixed(
    bytes: &[u8],
    due: Due,
    texts: &mut Texts,
    room: &dyn Fn(u64) -> Result<()>,
) -> Result<()> {
    let (count, end) = numbers(bytes, 32, due.all, None)?;
    due.check(count)?;
    let rest = bytes.get(end..).ok_or_else(|| damaged("end too early"))?;
    room(count.saturating_mul(8))?;
    let mut prefixes = Vec::with_capacity(count as usize);
    numbers(bytes, 32, due.all, Some(&mut |prefix| prefixes.push(prefix as i32)))?;
    let (mut suffixes, mut before, mut wrong) = (0u64, 0u64, None);
    let mut prefixes = prefixes.into_iter();
    let take = &mut |suffix: i64| {
        let prefix = prefixes.next().unwrap_or(0);
        match (u64::try_from(prefix), u64::try_from(suffix)) {
            (Ok(prefix), Ok(suffix)) if prefix <= before => {
                before = prefix + suffix;
                texts.add(before, 1);
                suffixes += suffix;
            }
            _ => wrong = wrong.or(Some((prefix, suffix, before))),
        }
    };
    let (suffix_count, suffix_end) = numbers(rest, 32, due.all, Some(take))?;
    if let Some((prefix, suffix, before)) = wrong {
        return Err(Error::corrupt(format!(
            "a text has {prefix} bytes of the one before, which has {before}, and {suffix} of its own"
        )));
    }
    if suffix_count != count {
        return Err(damaged(&format!("are {suffix_count}, {count} are due")));
    }
    fill(suffixes, rest, suffix_end)
}

/// There must be bytes for the texts.
fn fill(announced: u64, bytes: &[u8], end: usize) -> Result<()> {
    let behind = bytes.len().checked_sub(end).ok_or_else(|| damaged("end too early"))? as u64;
    match announced <= behind {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "texts of {announced} bytes are announced, {behind} bytes are there"
        ))),
    }
}
