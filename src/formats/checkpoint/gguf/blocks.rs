//! Blocks of quantised values as floats, bit for bit as gguf-py's `gguf.quants.dequantize` makes
//! them: the same products in the same order, each rounded to float32. The layouts are those of
//! `ggml-common.h`; `d` is a block's scale, `m` or `dmin` its offset, both float16.

use half::f16;

use super::grids::{IQ1, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};

/// Makes the elements of one block: its bytes, and room for as many as it has.
pub(super) type Decode = fn(&[u8], &mut [f32]);

/// The float16 at this place.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
/// Half a byte: the lower one for 0.
fn nibble(byte: u8, which: usize) -> u8 {
    byte >> (4 * which) & 15
}

/// Elements of 4 bits: the lower halves of all bytes, then the upper ones.
fn halves(qs: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(qs.len());
    for ((q, low), high) in qs.iter().zip(low).zip(high) {
        *low = value(q & 15);
        *high = value(q >> 4);
    }
}

/// `d`, 16 bytes of halves.
pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    halves(&block[2..18], out, |q| d * (f32::from(q) - 8.0));
}

/// `d`, `m`, 16 bytes of halves.
pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    halves(&block[4..20], out, |q| d * f32::from(q) + m);
}

/// The fifth bits, 32 of them, and the lower four.
fn five(bits: u32, qs: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        let high = (bits >> i & 1) as u8;
        *out = value(nibble(qs[i % 16], i / 16) | high << 4);
    }
}

/// `d`, fifth bits, 16 bytes of halves.
pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    five(u32_at(block, 2), &block[6..22], out, |q| d * (f32::from(q) - 16.0));
}

/// `d`, `m`, fifth bits, 16 bytes of halves.
pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    five(u32_at(block, 4), &block[8..24], out, |q| d * f32::from(q) + m);
}

fn signed(qs: &[u8], d: f32, out: &mut [f32]) {
    for (q, out) in qs.iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// `d`, 32 signed bytes.
pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    signed(&block[2..34], half(block, 0), out);
}

/// `d` (float32), 256 signed bytes, sums of 16.
pub(super) fn q8_k(block: &[u8], out: &mut [f32]) {
    signed(&block[4..260], f32::from_bits(u32_at(block, 0)), out);
}

/// 16 bytes of a scale and an offset each, 64 bytes of 2 bits, `d`, `dmin`.
pub(super) fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(block, 80), half(block, 82));
    for (k, out) in out.chunks_exact_mut(16).enumerate() {
        let (dl, ml) = (d * f32::from(scales[k] & 15), dmin * f32::from(scales[k] >> 4));
        // 32 bytes hold 4 runs of 32 elements.
        let (from, shift) = (k / 8 * 32 + k % 2 * 16, k % 8 / 2 * 2);
        for (q, out) in qs[from..from + 16].iter().zip(out) {
            *out = dl * f32::from(q >> shift & 3) - ml;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2 bits, 12 bytes of scales of 6 bits, `d`.
pub(super) fn q3_k(block: &[u8], out: &mut [f32]) {
    let (mask, qs, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    for (k, out) in out.chunks_exact_mut(16).enumerate() {
        let low = nibble(packed[k % 8], k / 8);
        let high = packed[8 + k % 4] >> (k / 4 * 2) & 3;
        let dl = d * (f32::from(low | high << 4) - 32.0);
        let (from, shift) = (k / 8 * 32 + k % 2 * 16, k % 8 / 2 * 2);
        for (i, out) in out.iter_mut().enumerate() {
            let low = (qs[from + i] >> shift & 3) as i8;
            // Where the bit is not set, 4 is taken off.
            let high = (mask[k % 2 * 16 + i] >> (k / 2) & 1 ^ 1) as i8;
            *out = dl * f32::from(low - (high << 2));
        }
    }
}

/// Eight scales and offsets of 6 bits each in 12 bytes.
fn scales(packed: &[u8], k: usize) -> (u8, u8) {
    if k < 4 {
        return (packed[k] & 63, packed[k + 4] & 63);
    }
    let (both, scale, offset) = (packed[k + 4], packed[k - 4], packed[k]);
    (both & 15 | scale >> 2 & 0x30, both >> 4 | offset >> 2 & 0x30)
}

/// `d`, `dmin`, 12 bytes of scales and offsets, 128 bytes of halves.
pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (packed, qs) = (&block[4..16], &block[16..144]);
    for (k, (out, qs)) in out.chunks_exact_mut(64).zip(qs.chunks_exact(32)).enumerate() {
        let (a, b) = (scales(packed, 2 * k), scales(packed, 2 * k + 1));
        let (d1, m1) = (d * f32::from(a.0), dmin * f32::from(a.1));
        let (d2, m2) = (d * f32::from(b.0), dmin * f32::from(b.1));
        let (low, high) = out.split_at_mut(32);
        for ((q, low), high) in qs.iter().zip(low).zip(high) {
            *low = d1 * f32::from(q & 15) - m1;
            *high = d2 * f32::from(q >> 4) - m2;
        }
    }
}

/// `d`, `dmin`, 12 bytes of scales and offsets, 32 bytes of fifth bits, 128 bytes of halves.
pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (packed, high, qs) = (&block[4..16], &block[16..48], &block[48..176]);
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = scales(packed, k);
        let (dl, ml) = (d * f32::from(scale), dmin * f32::from(offset));
        let qs = &qs[k / 2 * 32..][..32];
        for ((q, high), out) in qs.iter().zip(high).zip(out) {
            *out = dl * f32::from(nibble(*q, k % 2) | (high >> k & 1) << 4) - ml;
        }
    }
}

/// 128 bytes of lower halves, 64 bytes of the upper 2 bits, 16 signed scales, `d`.
pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (ql, qh, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(block, 208);
    for (k, out) in out.chunks_exact_mut(16).enumerate() {
        let dl = d * f32::from(scales[k] as i8);
        // Of each half of the block, 64 bytes hold 2 runs of 64, and 32 bytes 4 runs of 32.
        let low = &ql[k / 8 * 64 + k % 4 * 16..][..16];
        let high = &qh[k / 8 * 32 + k % 2 * 16..][..16];
        for ((low, high), out) in low.iter().zip(high).zip(out) {
            let q = nibble(*low, k % 8 / 4) | (high >> (k % 8 / 2 * 2) & 3) << 4;
            *out = dl * (f32::from(q) - 32.0);
        }
    }
}

/// 48 bytes of 5 digits to base 3, 4 bytes of 4 digits, `d`.
pub(super) fn tq1_0(block: &[u8], out: &mut [f32]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let d = half(block, 52);
    let put = |qs: &[u8], digits: usize, out: &mut [f32]| {
        for (out, power) in out.chunks_exact_mut(qs.len()).zip(&POWERS[..digits]) {
            for (q, out) in qs.iter().zip(out) {
                let digit = (u16::from(q.wrapping_mul(*power)) * 3) >> 8;
                *out = d * (f32::from(digit) - 1.0);
            }
        }
    };
    put(&block[..32], 5, &mut out[..160]);
    put(&block[32..48], 5, &mut out[160..240]);
    put(&block[48..52], 4, &mut out[240..]);
}

/// 64 bytes of 2 bits, `d`.
pub(super) fn tq2_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 64);
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        for (q, out) in block[k / 4 * 32..][..32].iter().zip(out) {
            *out = d * (f32::from(q >> (k % 4 * 2) & 3) - 1.0);
        }
    }
}

/// E2M1, doubled.
const FP4: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// A power of two (E8M0), 16 bytes of halves.
pub(super) fn mxfp4(block: &[u8], out: &mut [f32]) {
    let e = u32::from(block[0]);
    // Half of it, since the values are doubled.
    let d = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
    halves(&block[1..17], out, |q| d * FP4[usize::from(q)]);
}

/// Four scales (E4M3 without a sign), for each of them 8 bytes of halves.
pub(super) fn nvfp4(block: &[u8], out: &mut [f32]) {
    for (k, out) in out.chunks_exact_mut(16).enumerate() {
        let x = block[k];
        let (exponent, mantissa) = (i32::from(x >> 3 & 15), f32::from(x & 7));
        let scale = match exponent {
            _ if x == 0 || x == 0x7f => 0.0,
            0 => mantissa / 512.0 * 0.5,
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) * 0.5,
        };
        halves(&block[4 + 8 * k..][..8], out, |q| scale * FP4[usize::from(q)]);
    }
}

/// A step of the codes of IQ4.
const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// `d`, 16 bytes of halves.
pub(super) fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    halves(&block[2..18], out, |q| d * IQ4[usize::from(q)]);
}

/// `d`, the upper 2 bits of eight scales, the lower 4 of them, 128 bytes of halves.
pub(super) fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let (d, high) = (half(block, 0), u16_at(block, 2));
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let low = nibble(block[4 + k / 2], k % 2);
        let scale = low | ((high >> (2 * k) & 3) as u8) << 4;
        let dl = d * (f32::from(scale) - 32.0);
        halves(&block[8 + 16 * k..][..16], out, |q| dl * IQ4[usize::from(q)]);
    }
}

/// Eight signs of which seven bits are stored: their number is even.
fn even_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | ((seven.count_ones() as u8) & 1) << 7
}

/// A point of a grid times a scale, each element with its sign.
fn place<const N: usize>(db: f32, point: &[f32; N], signs: u8, out: &mut [f32]) {
    for (i, (value, out)) in point.iter().zip(out).enumerate() {
        *out = db * value * if signs >> i & 1 == 0 { 1.0 } else { -1.0 };
    }
}

/// `d`; for 32 elements 4 bytes of points, then 28 bits of signs and 4 of a scale.
pub(super) fn iq2_xxs(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let (points, signs) = (&block[2 + 8 * k..][..4], u32_at(block, 6 + 8 * k));
        let db = d * (0.5 + (signs >> 28) as f32) * 0.25;
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            let point = &IQ2_XXS[usize::from(points[i])];
            place(db, point, even_signs((signs >> (7 * i)) as u8), out);
        }
    }
}

/// `d`; for 8 elements 9 bits of a point and 7 of signs; for 16 elements a scale of 4 bits.
pub(super) fn iq2_xs(block: &[u8], out: &mut [f32]) {
    let (d, scales) = (half(block, 0), &block[66..74]);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let (q, scale) = (u16_at(block, 2 + 2 * k), nibble(scales[k / 4], k / 2 % 2));
        let db = d * (0.5 + f32::from(scale)) * 0.25;
        place(db, &IQ2_XS[usize::from(q & 511)], even_signs((q >> 9) as u8), out);
    }
}

/// `d`; for 8 elements a byte of a point and one of signs, and 2 more bits of the point; scales.
pub(super) fn iq2_s(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    let (qs, signs) = (&block[2..34], &block[34..66]);
    let (high, scales) = (&block[66..74], &block[74..82]);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let point = usize::from(qs[k]) | usize::from(high[k / 4] >> (k % 4 * 2) & 3) << 8;
        let db = d * (0.5 + f32::from(nibble(scales[k / 4], k / 2 % 2))) * 0.25;
        place(db, &IQ2_S[point], signs[k], out);
    }
}

/// `d`; for 4 elements a byte of a point; for 32 elements 28 bits of signs and 4 of a scale.
pub(super) fn iq3_xxs(block: &[u8], out: &mut [f32]) {
    let (d, qs) = (half(block, 0), &block[2..66]);
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let signs = u32_at(block, 66 + 4 * k);
        let db = d * (0.5 + (signs >> 28) as f32) * 0.5;
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            let own = even_signs((signs >> (7 * i)) as u8);
            let (first, second) = out.split_at_mut(4);
            let at = 8 * k + 2 * i;
            place(db, &IQ3_XXS[usize::from(qs[at])], own, first);
            place(db, &IQ3_XXS[usize::from(qs[at + 1])], own >> 4, second);
        }
    }
}

/// `d`; for 4 elements a byte and a bit of a point; for 8 a byte of signs; for 32 a scale.
pub(super) fn iq3_s(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    let (qs, high) = (&block[2..66], &block[66..74]);
    let (signs, scales) = (&block[74..106], &block[106..110]);
    for (k, out) in out.chunks_exact_mut(4).enumerate() {
        let point = usize::from(qs[k]) | usize::from(high[k / 8] >> (k % 8) & 1) << 8;
        let scale = nibble(scales[k / 16], k / 8 % 2);
        let db = d * f32::from(1 + 2 * scale);
        place(db, &IQ3_S[point], signs[k / 2] >> (k % 2 * 4), out);
    }
}

/// What the points of IQ1 are moved by.
fn delta(negative: bool) -> f32 {
    if negative { -0.125 } else { 0.125 }
}

/// `d`; for 8 elements a byte of a point; for 32 two bytes: 3 bits of each point, a scale, a sign.
pub(super) fn iq1_s(block: &[u8], out: &mut [f32]) {
    let (d, qs) = (half(block, 0), &block[2..34]);
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let high = u16_at(block, 34 + k / 4 * 2);
        let dl = d * f32::from(2 * (high >> 12 & 7) + 1);
        let point = usize::from(qs[k]) | usize::from(high >> (k % 4 * 3) & 7) << 8;
        let delta = delta(high & 0x8000 != 0);
        for (value, out) in IQ1[point].iter().zip(out) {
            *out = dl * (value + delta);
        }
    }
}

/// For 8 elements a byte of a point, then half a byte: 3 more bits of it and a sign; scales of 3
/// bits, four in two bytes, whose upper 4 bits are `d` together.
pub(super) fn iq1_m(block: &[u8], out: &mut [f32]) {
    let (qs, high, scales) = (&block[..32], &block[32..48], &block[48..56]);
    let parts = [0, 2, 4, 6].map(|at| u16_at(scales, at) >> 12);
    let d = f16::from_bits(parts[0] | parts[1] << 4 | parts[2] << 8 | parts[3] << 12).to_f32();
    for (k, out) in out.chunks_exact_mut(8).enumerate() {
        let scale = u16_at(scales, k / 8 * 2) >> (k / 2 % 4 * 3) & 7;
        let dl = d * f32::from(2 * scale + 1);
        let more = nibble(high[k / 2], k % 2);
        let point = usize::from(qs[k]) | usize::from(more & 7) << 8;
        let delta = delta(more & 8 != 0);
        for (value, out) in IQ1[point].iter().zip(out) {
            *out = dl * (value + delta);
        }
    }
}
