//! Quantised weights and their scales become numbers again, bit for bit as the reference code has
//! them: a code's value, in float32, times the scale of its block, rounded once to the nearest (ties
//! to even).
//!
//! | weights | scales | reference |
//! |---|---|---|
//! | float8 | float32, bfloat16 or float16 of blocks, of rows or of all; powers of two (E8M0) | `weight_dequant` of DeepSeek-V3, compressed-tensors |
//! | MXFP4: two 4-bit codes (E2M1) a byte, the low one first | a byte (E8M0) for 32 | `convert_moe_packed_tensors` of transformers; there the last two dimensions change places |
//! | NVFP4: the same codes | float8 E4M3 for 16, and one float32 for all that they are multiplied with, or divided by | TensorRT Model Optimizer, compressed-tensors |
//!
//! `2^128` of the scale byte 255 is infinite, as in the reference.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::apply::apply;
use super::float8;
use super::op::{Codes, Dequantize, Global, Info};
use crate::error::{Error, Result};
use crate::model::{Buf, Chunk, Dtype, Values, typed};

/// The values of the 4-bit codes.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
/// Numbers that are made at a time: they stay in the cache until they are rounded.
const STEP: usize = 4096;

impl Dequantize {
    /// A chunk of a part after its own ops.
    ///
    /// # Errors
    /// Values that cannot be taken.
    pub fn before(&self, chunk: Chunk, part: usize) -> Result<Chunk> {
        let part = &self.parts[part];
        apply(chunk, part.recipe.ops.iter(), &Info::column(&part.name))
    }

    /// The rows of a part that these rows of weights need.
    pub fn rows_of(&self, part: usize, rows: &Range<u64>) -> Range<u64> {
        match part {
            _ if self.shape.contains(&0) => 0..0,
            0 => rows.clone(),
            1 if self.blocks()[0] > 1 => {
                let block = self.block[0].max(1);
                rows.start / block..rows.end.div_ceil(block).max(rows.start / block)
            }
            n => 0..self.parts[n].rows.min(1),
        }
    }

    /// Blocks in each dimension.
    fn blocks(&self) -> Vec<u64> {
        self.shape.iter().zip(&self.block).map(|(n, b)| n.div_ceil((*b).max(1))).collect()
    }

    /// Bytes that are held for so many rows, beside the parts themselves.
    pub fn extra_bytes(&self, rows: u64) -> u64 {
        let row = self.shape.iter().skip(1).fold(self.to.item_bytes(), |n, &d| n.saturating_mul(d));
        row.saturating_mul(rows).saturating_mul(1 + u64::from(self.turned))
    }

    /// Some rows: `parts` are the bytes of [`Dequantize::rows_of`] each.
    ///
    /// # Errors
    /// Refused where a number is past the range of float16.
    pub fn rows(&self, parts: &[Buf], rows: &Range<u64>, name: &str) -> Result<Buf> {
        if self.shape.contains(&0) {
            return Ok(Rounded::new(self.to, 0).finish());
        }
        let scales = self.scales(parts)?;
        let blocks = self.blocks();
        let columns = self.shape.last().copied().unwrap_or(1);
        let lines: u64 = self.shape.iter().skip(1).rev().skip(1).product();
        let lines = if self.shape.len() < 2 { 1 } else { lines };
        // Of one dimension a row is a number.
        let (columns, count) = match self.shape.len() {
            0 | 1 => (1, rows.end - rows.start),
            _ => (columns, (rows.end - rows.start) * lines),
        };
        let line_bytes = match self.codes {
            Codes::Float8(_) => columns,
            Codes::Fp4 => columns / 2,
        };
        let too_few = || Error::internal("a part of a dequantised array is too short").array(name);
        if parts[0].len() as u64 != count * line_bytes {
            return Err(too_few());
        }
        let width = self.block.last().copied().unwrap_or(1).clamp(1, columns.max(1)) as usize;
        let across = if self.shape.len() < 2 { 1 } else { *blocks.last().unwrap_or(&1) };
        let first_block = if blocks.first().is_some_and(|n| *n > 1) {
            rows.start / self.block[0].max(1)
        } else {
            0
        };
        let mut made = Lines {
            codes: self.codes,
            width,
            values: vec![0f32; STEP],
            out: Rounded::new(self.to, (count * columns) as usize),
        };
        for line in 0..count {
            let at = self.line_scales(line, lines, rows.start, first_block, &blocks) * across;
            let scales = scales.get(at as usize..(at + across) as usize).ok_or_else(too_few)?;
            let codes = &parts[0][(line * line_bytes) as usize..][..line_bytes as usize];
            made.push(codes, scales);
        }
        if let Some(at) = made.out.overflow {
            let index = rows.start * lines * columns + at as u64;
            return Err(Error::refused(format!(
                "the number at index {index} is past the range of float16"
            ))
            .array(name)
            .hint("--dequantize=bfloat16 and --dequantize=float32 hold it"));
        }
        let made = made.out.finish();
        Ok(if self.turned { self.turn(&made) } else { made })
    }

    /// Which line of scales belongs to a line of numbers.
    fn line_scales(&self, line: u64, lines: u64, first: u64, block: u64, blocks: &[u64]) -> u64 {
        let rank = self.shape.len();
        let row = first + line / lines;
        let mut at = if blocks.first().is_some_and(|n| *n > 1) {
            row / self.block[0].max(1) - block
        } else {
            0
        };
        // The dimensions between the first and the last.
        let (mut rest, mut size) = (line % lines, lines);
        let inner = self.shape.iter().zip(&self.block).zip(blocks);
        for ((&n, &block), &count) in inner.skip(1).take(rank.saturating_sub(2)) {
            size /= n.max(1);
            let index = rest / size.max(1);
            rest %= size.max(1);
            at = at * count + index / block.max(1);
        }
        at
    }

    /// The scales as float32, with the one of all.
    fn scales(&self, parts: &[Buf]) -> Result<Vec<f32>> {
        let mut scales = floats(&parts[1], self.parts[1].dtype)?;
        if let (Some(global), Some(part)) = (self.global, parts.get(2)) {
            let all = floats(part, self.parts[2].dtype)?;
            let all = *all.first().ok_or_else(|| Error::corrupt("its global scale is empty"))?;
            for scale in &mut scales {
                match global {
                    Global::Times => *scale *= all,
                    Global::Over => *scale /= all,
                }
            }
        }
        Ok(scales)
    }

    /// The last two dimensions of every matrix change places.
    fn turn(&self, made: &Buf) -> Buf {
        let rank = self.shape.len();
        let (height, width) = (self.shape[rank - 2] as usize, self.shape[rank - 1] as usize);
        match self.to.item_bytes() {
            2 => Buf::from_vec(turned(&typed::<u16>(made), height, width)),
            _ => Buf::from_vec(turned(&typed::<u32>(made), height, width)),
        }
    }
}

/// The numbers of lines, made one after the other.
struct Lines {
    codes: Codes,
    /// Numbers that have one scale.
    width: usize,
    /// Numbers that are not rounded yet.
    values: Vec<f32>,
    out: Rounded,
}

impl Lines {
    /// One line of numbers; each block of them has its scale.
    fn push(&mut self, codes: &[u8], scales: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has these instructions.
            return unsafe { self.push_avx2(codes, scales) };
        }
        self.push_any(codes, scales);
    }

    /// The same code for registers of twice the size: the numbers are the same, bit for bit.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn push_avx2(&mut self, codes: &[u8], scales: &[f32]) {
        self.push_any(codes, scales);
    }

    // Inlined, so that it is compiled for the processor that its caller is for.
    #[inline(always)]
    fn push_any(&mut self, codes: &[u8], scales: &[f32]) {
        let Lines { width, values, out, .. } = self;
        match self.codes {
            Codes::Float8(dtype) => {
                for (block, &scale) in codes.chunks(*width).zip(scales) {
                    for part in block.chunks(values.len()) {
                        let values = &mut values[..part.len()];
                        float8_values(dtype, part, scale, values);
                        out.push(values);
                    }
                }
            }
            Codes::Fp4 => {
                for (block, &scale) in codes.chunks((*width / 2).max(1)).zip(scales) {
                    let scaled = E2M1.map(|value| value * scale);
                    for part in block.chunks(values.len() / 2) {
                        let values = &mut values[..2 * part.len()];
                        for (code, pair) in part.iter().zip(values.as_chunks_mut::<2>().0) {
                            *pair = [scaled[(code & 15) as usize], scaled[(code >> 4) as usize]];
                        }
                        out.push(values);
                    }
                }
            }
        }
    }
}

fn turned<T: Copy + Default>(from: &[T], height: usize, width: usize) -> Vec<T> {
    // A block of one cache line each way.
    const SIDE: usize = 32;
    let mut out = vec![T::default(); from.len()];
    let size = (height * width).max(1);
    for (from, out) in from.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        for y in (0..height).step_by(SIDE) {
            for x in (0..width).step_by(SIDE) {
                for column in x..(x + SIDE).min(width) {
                    for row in y..(y + SIDE).min(height) {
                        out[column * height + row] = from[row * width + column];
                    }
                }
            }
        }
    }
    out
}

/// Numbers of any float type as float32; bytes are exponents.
fn floats(bytes: &Buf, dtype: Dtype) -> Result<Vec<f32>> {
    let table = |dtype| {
        let table = float8::table(dtype);
        bytes.iter().map(|b| table[*b as usize]).collect()
    };
    Ok(match dtype {
        Dtype::F32 => typed::<f32>(bytes).to_vec(),
        Dtype::Bf16 => {
            typed::<u16>(bytes).iter().map(|b| f32::from_bits(u32::from(*b) << 16)).collect()
        }
        Dtype::F16 => typed::<u16>(bytes).iter().map(|b| f16::from_bits(*b).to_f32()).collect(),
        Dtype::U8 => bytes.iter().map(|b| f64::exp2(f64::from(*b) - 127.0) as f32).collect(),
        float8 if float8.is_float8() => table(float8),
        other => return Err(Error::internal(format!("scales of {other}"))),
    })
}

/// Values of codes times a scale.
#[inline(always)]
fn float8_values(dtype: Dtype, codes: &[u8], scale: f32, out: &mut [f32]) {
    if dtype != Dtype::F8E4m3 {
        let table = float8::table(dtype);
        codes.iter().zip(out).for_each(|(b, value)| *value = table[*b as usize] * scale);
        return;
    }
    // By arithmetic, which the compiler does for many at once. Codes of exponent 0 take the one of
    // 2^-6 and lose it again.
    for (&code, value) in codes.iter().zip(out) {
        let magnitude = u32::from(code & 0x7f);
        let normal = f32::from_bits((magnitude << 20) + (120 << 23));
        let small = f32::from_bits((magnitude << 20) + (121 << 23)) - 0.015_625;
        let number = if magnitude < 8 { small } else { normal };
        let number = if magnitude == 0x7f { f32::NAN } else { number };
        *value = f32::from_bits(number.to_bits() | u32::from(code & 0x80) << 24) * scale;
    }
}

/// Numbers of the wanted type, so far.
struct Rounded {
    to: Dtype,
    short: Vec<u16>,
    long: Vec<f32>,
    /// How many there are.
    done: usize,
    /// A finite number that became infinite.
    overflow: Option<usize>,
}

impl Rounded {
    fn new(to: Dtype, count: usize) -> Rounded {
        let (short, long) = match to {
            Dtype::F32 => (Vec::new(), vec![0.0; count]),
            _ => (vec![0; count], Vec::new()),
        };
        Rounded { to, short, long, done: 0, overflow: None }
    }

    #[inline(always)]
    fn push(&mut self, values: &[f32]) {
        let (first, end) = (self.done, self.done + values.len());
        self.done = end;
        match self.to {
            Dtype::F32 => self.long[first..end].copy_from_slice(values),
            Dtype::Bf16 => {
                let new = self.short[first..end].iter_mut();
                new.zip(values).for_each(|(to, value)| *to = bfloat16(*value));
            }
            _ => {
                let new = &mut self.short[first..end];
                half::slice::HalfBitsSliceExt::reinterpret_cast_mut::<f16>(new)
                    .convert_from_f32_slice(values);
                // 65520 is the first that rounds to infinity.
                let lost = |v: &f32| v.is_finite() && v.abs() >= 65520.0;
                if self.overflow.is_none() {
                    self.overflow = values.iter().position(lost).map(|at| first + at);
                }
            }
        }
    }

    fn finish(self) -> Buf {
        if self.to == Dtype::F32 { Buf::from_vec(self.long) } else { Buf::from_vec(self.short) }
    }
}

/// To the nearest, ties to even.
#[inline(always)]
fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fc0 | (bits >> 16 & 0x8000) as u16
    } else {
        rounded as u16
    }
}

/// The chunk that these rows become.
pub(crate) fn chunk(array: usize, rows: &Range<u64>, values: Buf) -> Chunk {
    Chunk {
        array,
        first_row: rows.start,
        rows: rows.end - rows.start,
        values: Values::Fixed(values),
        valid: None,
    }
}
