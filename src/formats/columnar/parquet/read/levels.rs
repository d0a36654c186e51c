//! The RLE / bit-packed hybrid, in which levels and the codes of dictionaries are stored.

/// Goes through the runs of `count` values of `bits` bits, at most 32. Runs inside of packed values
/// are found, too. `None` where the bytes do not suffice, false once `each` says so.
pub(super) fn runs(
    bytes: &[u8],
    bits: u32,
    count: u64,
    each: &mut impl FnMut(u32, u64) -> bool,
) -> Option<bool> {
    hybrid(bytes, bits, count, &mut |part| match part {
        Part::Run(value, n) => each(value, n),
        Part::Packed(packed, values) => packed_runs(packed, bits, values, &mut *each),
    })
}

/// A part of the hybrid.
enum Part<'a> {
    /// A value, so many times.
    Run(u32, u64),
    /// So many packed values, and at least their bytes.
    Packed(&'a [u8], u64),
}

/// Goes through the parts of `count` values of `bits` bits. `None` where the bytes do not suffice,
/// false once `each` says so.
fn hybrid(
    bytes: &[u8],
    bits: u32,
    count: u64,
    each: &mut impl FnMut(Part<'_>) -> bool,
) -> Option<bool> {
    let (mut at, mut left) = (0usize, count);
    while left > 0 {
        let header = varint(bytes, &mut at)?;
        let n = header >> 1;
        if n == 0 {
            return None;
        }
        if header & 1 == 0 {
            let width = bits.div_ceil(8) as usize;
            let value = little(bytes.get(at..at + width)?);
            at += width;
            let n = n.min(left);
            if !each(Part::Run(value as u32, n)) {
                return Some(false);
            }
            left -= n;
            continue;
        }
        let values = n.saturating_mul(8).min(left);
        // The last group may be cut behind its last value.
        let packed = bytes.get(at..)?;
        if values.checked_mul(u64::from(bits))?.div_ceil(8) > packed.len() as u64 {
            return None;
        }
        if !each(Part::Packed(packed, values)) {
            return Some(false);
        }
        left -= values;
        let used = usize::try_from(n).ok().and_then(|n| n.checked_mul(bits as usize));
        at = used.and_then(|n| at.checked_add(n)).unwrap_or(bytes.len()).min(bytes.len());
    }
    Some(true)
}

/// The largest of `count` values of `bits` bits, at most 32; 0 of none. `None` where the bytes do not
/// suffice.
pub(super) fn largest(bytes: &[u8], bits: u32, count: u64) -> Option<u32> {
    let mut largest = 0;
    let mut run = |value: u32, _| {
        largest = largest.max(value);
        true
    };
    hybrid(bytes, bits, count, &mut |part| match part {
        Part::Run(value, n) => run(value, n),
        Part::Packed(packed, values) => run(largest_packed(packed, bits, values), values),
    })?;
    Some(largest)
}

/// The largest of packed values; there must be bytes for all of them.
fn largest_packed(packed: &[u8], bits: u32, values: u64) -> u32 {
    if bits == 0 {
        return 0;
    }
    // Eight values take `bits` bytes, and each begins at the same bit of them.
    let (bytes, mask) = (bits as usize, u64::MAX >> (64 - bits));
    let places: [(usize, u32); 8] =
        std::array::from_fn(|i| (i * bytes / 8, (i * bytes % 8) as u32));
    let (mut at, mut left, mut largest) = (0, values, 0u64);
    while left >= 8
        && let Some(eight) = packed.get(at..at + bytes + 8)
    {
        for (byte, shift) in places {
            let word = eight[byte..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            largest = largest.max(word >> shift & mask);
        }
        (at, left) = (at + bytes, left - 8);
    }
    let mut largest = largest as u32;
    each_packed(&packed[at.min(packed.len())..], bits, left, &mut |value| {
        largest = largest.max(value);
        true
    });
    largest
}

/// The runs of packed values; there must be bytes for all of them.
fn packed_runs(
    packed: &[u8],
    bits: u32,
    values: u64,
    mut each: impl FnMut(u32, u64) -> bool,
) -> bool {
    let (mut run, mut current) = (0u64, 0u32);
    let mut add = |value: u32, n: u64| {
        if run > 0 && value != current {
            if !each(current, run) {
                return false;
            }
            run = 0;
        }
        current = value;
        run += n;
        true
    };
    let whole = match bits {
        1 => bit_runs(packed, values, &mut add),
        _ => each_packed(packed, bits, values, &mut |value| add(value, 1)),
    };
    whole && (run == 0 || each(current, run))
}

/// The runs of bits; those of two words may continue each other.
fn bit_runs(packed: &[u8], mut left: u64, add: &mut impl FnMut(u32, u64) -> bool) -> bool {
    for bytes in packed.chunks(8) {
        let (mut word, mut held) = (little(bytes), left.min(64));
        left -= held;
        while held > 0 {
            let bit = (word & 1) as u32;
            let n = if bit == 1 { word.trailing_ones() } else { word.trailing_zeros() };
            let n = u64::from(n).min(held);
            if !add(bit, n) {
                return false;
            }
            word = word.checked_shr(n as u32).unwrap_or(0);
            held -= n;
        }
        if left == 0 {
            break;
        }
    }
    true
}

fn each_packed(packed: &[u8], bits: u32, values: u64, each: &mut impl FnMut(u32) -> bool) -> bool {
    let mask = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
    let mut bit = 0u64;
    for _ in 0..values {
        let bytes = &packed[((bit / 8) as usize).min(packed.len())..];
        let word = match bytes.first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => little(bytes),
        };
        if !each(((word >> (bit % 8)) & mask) as u32) {
            return false;
        }
        bit += u64::from(bits);
    }
    true
}

/// The levels of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels<'a> {
    pub(super) bytes: &'a [u8],
    /// The old packing, from the highest bit down, in place of the hybrid.
    pub(super) packed: bool,
    /// The largest that there may be.
    pub(super) most: i16,
}

impl Levels<'_> {
    /// Goes through `count` of them; `None` where bytes lack or a level is too large.
    pub(super) fn runs(self, count: u64, each: &mut impl FnMut(u32, u64)) -> Option<()> {
        let (bits, most) = (bits_of(self.most), self.most.max(0) as u32);
        let mut take = |level, n| {
            each(level, n);
            level <= most
        };
        if !self.packed {
            return runs(self.bytes, bits, count, &mut take)?.then_some(());
        }
        for i in 0..count {
            let mut level = 0;
            for bit in i * u64::from(bits)..(i + 1) * u64::from(bits) {
                let byte = *self.bytes.get((bit / 8) as usize)?;
                level = level << 1 | u32::from(byte >> (7 - bit % 8) & 1);
            }
            take(level, 1).then_some(())?;
        }
        Some(())
    }
}

/// Bits that a level of at most this takes.
pub(super) fn bits_of(most: i16) -> u32 {
    16 - (most.max(0) as u16).leading_zeros()
}

/// The next unsigned number of seven bits a byte.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let b = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The first of up to eight bytes.
fn little(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let n = bytes.len().min(8);
    whole[..n].copy_from_slice(&bytes[..n]);
    u64::from_le_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the bytes: the largest value is that of the runs, and both find that bytes lack.
    #[test]
    fn the_largest_is_that_of_the_runs() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        let (mut whole, mut short) = (0, 0);
        for round in 0..6000 {
            let bits = round % 33;
            let mut bytes = Vec::new();
            for _ in 0..1 + next() % 4 {
                let (n, packed) = (1 + next() % 9, next() % 2);
                bytes.push((n << 1 | packed) as u8);
                let size = if packed == 1 { n * u64::from(bits) } else { 4.min(bits.into()) };
                bytes.extend((0..size).map(|_| next() as u8));
            }
            let count = next() % 60;
            let mut expected = 0;
            let found = runs(&bytes, bits, count, &mut |value, _| {
                expected = expected.max(value);
                true
            });
            assert_eq!(largest(&bytes, bits, count), found.map(|_| expected), "{bits} {bytes:?}");
            (whole, short) = match found {
                Some(_) => (whole + 1, short),
                None => (whole, short + 1),
            };
        }
        assert!(whole > 1000 && short > 100, "{whole} {short}");
    }
}
