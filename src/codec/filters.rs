//! Filters over numbers: delta, scale and offset, casts, packed bits. Values are computed as
//! numpy computes them when numcodecs decodes.

use half::f16;

use super::numpy_types;
use crate::error::{Error, Result};

/// The type of the numbers on one side of a filter, with its byte order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberType {
    kind: char,
    /// Bytes of one.
    pub size: usize,
    big: bool,
}

impl NumberType {
    /// Parses numpy's `<i4` or `float64`.
    pub fn parse(text: &str) -> Option<NumberType> {
        let canonical = numpy_types::canonical(text)?;
        let (order, rest) = canonical.split_at(1);
        let (kind, size) = match rest.split_at_checked(1)? {
            ("M" | "m", _) => ('i', 8),
            (kind, size) => (kind.chars().next()?, size.parse().ok()?),
        };
        let known =
            matches!((kind, size), ('b', 1) | ('i' | 'u', 1 | 2 | 4 | 8) | ('f', 2 | 4 | 8));
        known.then_some(NumberType { kind, size, big: order == ">" })
    }

    fn get(self, item: &[u8]) -> Number {
        let mut bytes = [0u8; 8];
        bytes[..self.size].copy_from_slice(item);
        if self.big {
            bytes[..self.size].reverse();
        }
        let n = u64::from_le_bytes(bytes);
        match (self.kind, self.size) {
            ('f', 2) => Number::Float(f16::from_bits(n as u16).to_f64()),
            ('f', 4) => Number::Float(f64::from(f32::from_bits(n as u32))),
            ('f', _) => Number::Float(f64::from_bits(n)),
            ('i', size) => {
                let shift = 64 - 8 * size as u32;
                Number::Int((n << shift) as i64 >> shift)
            }
            _ => Number::Uint(n),
        }
    }

    fn put(self, value: Number, out: &mut Vec<u8>) {
        let n = match (self.kind, self.size) {
            ('f', 2) => u64::from(f16::from_f64(value.float()).to_bits()),
            ('f', 4) => u64::from((value.float() as f32).to_bits()),
            ('f', _) => value.float().to_bits(),
            ('b', _) => match value {
                Number::Float(f) => u64::from(f != 0.0),
                Number::Int(i) => u64::from(i != 0),
                Number::Uint(u) => u64::from(u != 0),
            },
            _ => value.wrapped(),
        };
        let mut bytes = n.to_le_bytes();
        if self.big {
            bytes[..self.size].reverse();
        }
        out.extend_from_slice(&bytes[..self.size]);
    }
}

#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Int(i64),
    Uint(u64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Float(f) => f,
            Number::Int(i) => i as f64,
            Number::Uint(u) => u as f64,
        }
    }
    /// As an integer of 64 bits; what does not fit wraps.
    fn wrapped(self) -> u64 {
        match self {
            Number::Float(f) if f < 0.0 => f as i64 as u64,
            Number::Float(f) => f as u64,
            Number::Int(i) => i as u64,
            Number::Uint(u) => u,
        }
    }
}

/// A filter over the flat elements of a piece.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Differences of neighbours.
    Delta {
        /// The decoded type.
        to: NumberType,
        /// The stored type.
        from: NumberType,
    },
    /// `stored / scale + offset`.
    ScaleOffset {
        /// The decoded type.
        to: NumberType,
        /// The stored type.
        from: NumberType,
        /// Divided by.
        scale: f64,
        /// Added.
        offset: f64,
    },
    /// A cast (astype, quantize).
    Cast {
        /// The decoded type.
        to: NumberType,
        /// The stored type.
        from: NumberType,
    },
    /// Eight booleans to a byte, the number of padding bits first.
    PackBits,
}

impl Filter {
    /// Bytes of one stored element that a byte order applies to.
    pub fn stored_size(&self) -> usize {
        self.types().map_or(1, |(from, _)| from.size)
    }

    /// The stored and the decoded type.
    fn types(&self) -> Option<(NumberType, NumberType)> {
        match self {
            Filter::Delta { to, from }
            | Filter::ScaleOffset { to, from, .. }
            | Filter::Cast { to, from } => Some((*from, *to)),
            Filter::PackBits => None,
        }
    }

    /// Stored bytes of so many decoded ones.
    pub fn stored_bytes(&self, decoded: usize) -> Option<usize> {
        match self.types() {
            Some((from, to)) => (decoded / to.size).checked_mul(from.size),
            None => Some(1 + decoded.div_ceil(8)),
        }
    }

    /// Decodes; at most `most` bytes come out.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, bytes: Vec<u8>, most: usize) -> Result<Vec<u8>> {
        let Some((from, to)) = self.types() else { return unpack_bits(&bytes, most) };
        if from == to && matches!(self, Filter::Cast { .. }) {
            return Ok(bytes);
        }
        let count = bytes.len() / from.size;
        if count * from.size != bytes.len() || count.saturating_mul(to.size) > most {
            return Err(Error::corrupt(format!(
                "{} filtered bytes do not make the elements of a chunk",
                bytes.len()
            )));
        }
        let mut out = Vec::with_capacity(count * to.size);
        let stored = bytes.chunks_exact(from.size).map(|item| from.get(item));
        match self {
            Filter::Delta { .. } => sum_up(stored, to, &mut out),
            Filter::ScaleOffset { scale, offset, .. } => stored.for_each(|n| {
                to.put(Number::Float(rescaled(n.float(), from, *scale, *offset)), &mut out)
            }),
            _ => stored.for_each(|n| to.put(n, &mut out)),
        }
        Ok(out)
    }
}

/// The sums of differences. numpy adds in the decoded type: integers wrap, floats round at each
/// step.
fn sum_up(steps: impl Iterator<Item = Number>, to: NumberType, out: &mut Vec<u8>) {
    if to.kind != 'f' {
        let mut sum = 0u64;
        for step in steps {
            sum = sum.wrapping_add(step.wrapped());
            to.put(Number::Uint(sum), out);
        }
        return;
    }
    let mut sum = 0.0f64;
    for (i, step) in steps.map(Number::float).enumerate() {
        sum = match (i, to.size) {
            (0, _) => step,
            (_, 2) => (f16::from_f64(sum) + f16::from_f64(step)).to_f64(),
            (_, 4) => f64::from(sum as f32 + step as f32),
            _ => sum + step,
        };
        to.put(Number::Float(sum), out);
    }
}

/// A numpy array of small floats stays what it is beside a Python number.
fn rescaled(n: f64, from: NumberType, scale: f64, offset: f64) -> f64 {
    match (from.kind, from.size) {
        ('f', 4) => f64::from(n as f32 / scale as f32 + offset as f32),
        ('f', 2) => (f16::from_f64((f16::from_f64(n) / f16::from_f64(scale)).to_f64())
            + f16::from_f64(offset))
        .to_f64(),
        _ => n / scale + offset,
    }
}

fn unpack_bits(bytes: &[u8], most: usize) -> Result<Vec<u8>> {
    let Some((&padding, packed)) = bytes.split_first() else {
        return Err(Error::corrupt("packed bits are truncated"));
    };
    let count =
        (8 * packed.len()).checked_sub(usize::from(padding)).filter(|&n| padding < 8 && n <= most);
    let count = count.ok_or_else(|| {
        Error::corrupt(format!(
            "{} bytes of packed bits cannot have {padding} bits of padding",
            packed.len()
        ))
    })?;
    Ok((0..count).map(|i| packed[i / 8] >> (7 - i % 8) & 1).collect())
}
