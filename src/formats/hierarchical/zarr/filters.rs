//! numcodecs' array filters, as numpy computes them when it decodes.

use half::f16;

use crate::codec::numpy_types;
use crate::error::{Error, Result};

/// A number type of a filter, with its byte order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    kind: char,
    /// Bytes of one.
    pub size: usize,
    big: bool,
}

impl Number {
    /// Parses numpy's `<i4` or `float64`.
    pub fn parse(text: &str) -> Option<Number> {
        let canonical = numpy_types::canonical(text)?;
        let (order, rest) = canonical.split_at(1);
        let (kind, size) = match rest.split_at_checked(1)? {
            ("M" | "m", _) => ('i', 8),
            (kind, size) => (kind.chars().next()?, size.parse().ok()?),
        };
        let known =
            matches!((kind, size), ('b', 1) | ('i' | 'u', 1 | 2 | 4 | 8) | ('f', 2 | 4 | 8));
        known.then_some(Number { kind, size, big: order == ">" })
    }

    fn get(self, item: &[u8]) -> Any {
        let mut bytes = [0u8; 8];
        bytes[..self.size].copy_from_slice(item);
        if self.big {
            bytes[..self.size].reverse();
        }
        let n = u64::from_le_bytes(bytes);
        match (self.kind, self.size) {
            ('f', 2) => Any::Float(f16::from_bits(n as u16).to_f64()),
            ('f', 4) => Any::Float(f64::from(f32::from_bits(n as u32))),
            ('f', _) => Any::Float(f64::from_bits(n)),
            ('i', size) => {
                let shift = 64 - 8 * size as u32;
                Any::Int((n << shift) as i64 >> shift)
            }
            _ => Any::Uint(n),
        }
    }

    fn put(self, value: Any, out: &mut Vec<u8>) {
        let n = match (self.kind, self.size) {
            ('f', 2) => u64::from(f16::from_f64(value.float()).to_bits()),
            ('f', 4) => u64::from((value.float() as f32).to_bits()),
            ('f', _) => value.float().to_bits(),
            ('b', _) => match value {
                Any::Float(f) => u64::from(f != 0.0),
                Any::Int(i) => u64::from(i != 0),
                Any::Uint(u) => u64::from(u != 0),
            },
            _ => match value {
                Any::Float(f) if f < 0.0 => f as i64 as u64,
                Any::Float(f) => f as u64,
                Any::Int(i) => i as u64,
                Any::Uint(u) => u,
            },
        };
        let mut bytes = n.to_le_bytes();
        if self.big {
            bytes[..self.size].reverse();
        }
        out.extend_from_slice(&bytes[..self.size]);
    }
}

#[derive(Clone, Copy)]
enum Any {
    Float(f64),
    Int(i64),
    Uint(u64),
}

impl Any {
    fn float(self) -> f64 {
        match self {
            Any::Float(f) => f,
            Any::Int(i) => i as f64,
            Any::Uint(u) => u as f64,
        }
    }
}

/// A filter over the flat elements of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Differences of neighbours.
    Delta {
        /// The decoded type.
        to: Number,
        /// The stored type.
        from: Number,
    },
    /// `stored / scale + offset`.
    ScaleOffset {
        /// The decoded type.
        to: Number,
        /// The stored type.
        from: Number,
        /// Divided by.
        scale: f64,
        /// Added.
        offset: f64,
    },
    /// A cast (astype, quantize).
    Cast {
        /// The decoded type.
        to: Number,
        /// The stored type.
        from: Number,
    },
    /// Eight booleans to a byte, the number of padding bits first.
    PackBits,
    /// HDF5's shuffle: first bytes first.
    Shuffle(usize),
}

impl Filter {
    /// Bytes of one stored element that a byte order applies to.
    pub fn stored_size(&self) -> usize {
        match self {
            Filter::Delta { from, .. }
            | Filter::ScaleOffset { from, .. }
            | Filter::Cast { from, .. } => from.size,
            Filter::PackBits | Filter::Shuffle(_) => 1,
        }
    }

    /// Decodes; at most `most` bytes come out.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(&self, bytes: Vec<u8>, most: u64) -> Result<Vec<u8>> {
        match self {
            Filter::Delta { to, from } => {
                let mut out = room(&bytes, *from, *to, most)?;
                match to.kind {
                    // numpy adds in the decoded type: integers wrap, floats round at each step.
                    'f' => {
                        let mut sum = 0.0f64;
                        for (i, item) in bytes.chunks_exact(from.size).enumerate() {
                            let step = from.get(item).float();
                            sum = match (i, to.size) {
                                (0, _) => step,
                                (_, 2) => (f16::from_f64(sum) + f16::from_f64(step)).to_f64(),
                                (_, 4) => f64::from(sum as f32 + step as f32),
                                _ => sum + step,
                            };
                            to.put(Any::Float(sum), &mut out);
                        }
                    }
                    _ => {
                        let mut sum = 0u64;
                        for item in bytes.chunks_exact(from.size) {
                            sum = sum.wrapping_add(match from.get(item) {
                                Any::Float(f) if f < 0.0 => f as i64 as u64,
                                Any::Float(f) => f as u64,
                                Any::Int(i) => i as u64,
                                Any::Uint(u) => u,
                            });
                            to.put(Any::Uint(sum), &mut out);
                        }
                    }
                }
                Ok(out)
            }
            Filter::ScaleOffset { to, from, scale, offset } => {
                let mut out = room(&bytes, *from, *to, most)?;
                for item in bytes.chunks_exact(from.size) {
                    let n = from.get(item).float();
                    // A numpy array of small floats stays what it is beside a Python number.
                    let value = match (from.kind, from.size) {
                        ('f', 4) => f64::from(n as f32 / *scale as f32 + *offset as f32),
                        ('f', 2) => {
                            (f16::from_f64((f16::from_f64(n) / f16::from_f64(*scale)).to_f64())
                                + f16::from_f64(*offset))
                            .to_f64()
                        }
                        _ => n / scale + offset,
                    };
                    to.put(Any::Float(value), &mut out);
                }
                Ok(out)
            }
            Filter::Cast { to, from } => {
                if to == from {
                    return Ok(bytes);
                }
                let mut out = room(&bytes, *from, *to, most)?;
                for item in bytes.chunks_exact(from.size) {
                    to.put(from.get(item), &mut out);
                }
                Ok(out)
            }
            Filter::PackBits => {
                let Some((&padding, packed)) = bytes.split_first() else {
                    return Err(Error::corrupt("packed bits are truncated"));
                };
                let count = (packed.len() as u64 * 8)
                    .checked_sub(u64::from(padding))
                    .filter(|&n| padding < 8 && n <= most);
                let count = count.ok_or_else(|| {
                    Error::corrupt(format!(
                        "{} bytes of packed bits cannot have {padding} bits of padding",
                        packed.len()
                    ))
                })?;
                Ok((0..count as usize).map(|i| packed[i / 8] >> (7 - i % 8) & 1).collect())
            }
            Filter::Shuffle(size) => {
                let (size, count) = (*size, bytes.len() / (*size).max(1));
                if size < 2 || count * size != bytes.len() {
                    // numcodecs refuses uneven lengths when it encodes.
                    return if size < 2 {
                        Ok(bytes)
                    } else {
                        Err(Error::corrupt(format!(
                            "{} shuffled bytes do not make whole items",
                            bytes.len()
                        )))
                    };
                }
                let mut out = vec![0; bytes.len()];
                crate::codec::shuffle::unshuffle(&bytes, size, &mut out);
                Ok(out)
            }
        }
    }
}

fn room(bytes: &[u8], from: Number, to: Number, most: u64) -> Result<Vec<u8>> {
    let count = bytes.len() / from.size;
    if count * from.size != bytes.len() || (count as u64).saturating_mul(to.size as u64) > most {
        return Err(Error::corrupt(format!(
            "{} filtered bytes do not make the elements of a chunk",
            bytes.len()
        )));
    }
    Ok(Vec::with_capacity(count * to.size))
}
