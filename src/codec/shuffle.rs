//! Byte shuffle and bit shuffle: bytes (bits) of one significance side by side, which compressors
//! like.
//!
//! Shuffled are whole elements; a tail shorter than one stays as it is. Bit shuffle takes multiples
//! of 8 elements.

/// All first bytes of the elements, then all second bytes, and so on.
pub fn shuffle(input: &[u8], size: usize, out: &mut [u8]) {
    /// In small groups: planes at distances of powers of two fight for the same places of the
    /// cache.
    fn fixed<const N: usize>(input: &[u8], out: &mut [u8], n: usize) {
        let mut some = [[0; 64]; N];
        for (i, elements) in input.as_chunks::<N>().0.chunks(64).enumerate() {
            for (e, element) in elements.iter().enumerate() {
                for (j, byte) in element.iter().enumerate() {
                    some[j][e] = *byte;
                }
            }
            for (j, plane) in some.iter().enumerate() {
                out[j * n + i * 64..][..elements.len()].copy_from_slice(&plane[..elements.len()]);
            }
        }
    }
    let n = input.len().checked_div(size).unwrap_or(0);
    let whole = n * size;
    let (planes, tail) = out.split_at_mut(whole);
    match size {
        0 | 1 => planes.copy_from_slice(&input[..whole]),
        2 => fixed::<2>(&input[..whole], planes, n),
        4 => fixed::<4>(&input[..whole], planes, n),
        8 => fixed::<8>(&input[..whole], planes, n),
        16 => fixed::<16>(&input[..whole], planes, n),
        _ => {
            for (i, element) in input[..whole].chunks_exact(size).enumerate() {
                for (j, &byte) in element.iter().enumerate() {
                    planes[j * n + i] = byte;
                }
            }
        }
    }
    tail.copy_from_slice(&input[whole..]);
}

/// Puts the bytes of elements of `size` bytes together again.
pub fn unshuffle(input: &[u8], size: usize, out: &mut [u8]) {
    let n = input.len().checked_div(size).unwrap_or(0);
    let whole = n * size;
    let (elements, tail) = out.split_at_mut(whole);
    match size {
        0 | 1 => elements.copy_from_slice(&input[..whole]),
        2 => interleave(planes::<2>(input, n), elements.as_chunks_mut().0),
        4 => interleave(planes::<4>(input, n), elements.as_chunks_mut().0),
        // Compilers do two and four at a time well, and nothing else.
        8 | 16 => {
            const SOME: usize = 256;
            let mut quads = [[[0; 4]; SOME]; 4];
            for (i, elements) in elements.chunks_mut(SOME * size).enumerate() {
                let count = elements.len() / size;
                for (q, quad) in quads[..size / 4].iter_mut().enumerate() {
                    let some = planes::<4>(&input[4 * q * n..], n)
                        .map(|plane| &plane[i * SOME..][..count]);
                    interleave(some, &mut quad[..count]);
                }
                let quads: [&[[u8; 4]]; 4] = quads.each_ref().map(|quad| &quad[..count]);
                match size {
                    8 => join(
                        [quads[0], quads[1]],
                        elements.as_chunks_mut::<4>().0.as_chunks_mut().0,
                    ),
                    _ => join(quads, elements.as_chunks_mut::<4>().0.as_chunks_mut().0),
                }
            }
        }
        _ => {
            for (i, element) in elements.chunks_exact_mut(size).enumerate() {
                for (j, byte) in element.iter_mut().enumerate() {
                    *byte = input[j * n + i];
                }
            }
        }
    }
    tail.copy_from_slice(&input[whole..]);
}

fn planes<const N: usize>(input: &[u8], n: usize) -> [&[u8]; N] {
    std::array::from_fn(|j| &input[j * n..][..n])
}

fn interleave<const N: usize>(planes: [&[u8]; N], out: &mut [[u8; N]]) {
    for (i, element) in out.iter_mut().enumerate() {
        *element = std::array::from_fn(|j| planes[j][i]);
    }
}

fn join<const N: usize>(parts: [&[[u8; 4]]; N], out: &mut [[[u8; 4]; N]]) {
    for (i, element) in out.iter_mut().enumerate() {
        *element = std::array::from_fn(|j| parts[j][i]);
    }
}

/// Undoes bit shuffle for a multiple of 8 elements: plane `8 j + k` holds bit `k` of byte `j` of
/// all elements. `scratch` is kept between calls.
pub fn bit_unshuffle(input: &[u8], size: usize, out: &mut [u8], scratch: &mut Vec<u8>) {
    let groups = input.len() / size / 8; // bytes of a plane
    scratch.resize(input.len(), 0);
    // Eight planes of bits become one plane of bytes; then the bytes are only shuffled.
    for (bits, bytes) in
        input.chunks_exact(8 * groups.max(1)).zip(scratch.chunks_exact_mut(8 * groups.max(1)))
    {
        let planes = planes::<8>(bits, groups);
        let words = planes.map(|plane| plane.as_chunks::<8>().0);
        let (blocks, rest) = bytes.as_chunks_mut::<64>();
        for (b, block) in blocks.iter_mut().enumerate() {
            let bytes = transpose_bytes(std::array::from_fn(|k| {
                words[k].get(b).map_or(0, |word| u64::from_le_bytes(*word))
            }));
            let elements = bytes.map(transpose_bits);
            for (to, word) in block.as_chunks_mut::<8>().0.iter_mut().zip(elements) {
                *to = word.to_le_bytes();
            }
        }
        for (to, g) in rest.as_chunks_mut::<8>().0.iter_mut().zip(8 * blocks.len()..) {
            *to = transpose_bits(u64::from_le_bytes(planes.map(|plane| plane[g]))).to_le_bytes();
        }
    }
    unshuffle(scratch, size, out);
}

/// Transposes an 8 × 8 matrix of bits: bit `c` of byte `r` becomes bit `r` of byte `c`.
#[inline(always)]
fn transpose_bits(x: u64) -> u64 {
    let t = (x ^ (x >> 7)) & 0x00AA_00AA_00AA_00AA;
    let x = x ^ t ^ (t << 7);
    let t = (x ^ (x >> 14)) & 0x0000_CCCC_0000_CCCC;
    let x = x ^ t ^ (t << 14);
    let t = (x ^ (x >> 28)) & 0x0000_0000_F0F0_F0F0;
    x ^ t ^ (t << 28)
}

/// Transposes an 8 × 8 matrix of bytes: byte `c` of word `r` becomes byte `r` of word `c`.
#[inline(always)]
fn transpose_bytes(w: [u64; 8]) -> [u64; 8] {
    #[inline(always)]
    fn swap<const SHIFT: u32>(a: u64, b: u64, mask: u64) -> (u64, u64) {
        let t = ((a >> SHIFT) ^ b) & mask;
        (a ^ (t << SHIFT), b ^ t)
    }
    let [a, b, c, d, e, f, g, h] = w;
    let ((a, e), (b, f)) = (swap::<32>(a, e, 0xFFFF_FFFF), swap::<32>(b, f, 0xFFFF_FFFF));
    let ((c, g), (d, h)) = (swap::<32>(c, g, 0xFFFF_FFFF), swap::<32>(d, h, 0xFFFF_FFFF));
    let ((a, c), (b, d)) =
        (swap::<16>(a, c, 0x0000_FFFF_0000_FFFF), swap::<16>(b, d, 0x0000_FFFF_0000_FFFF));
    let ((e, g), (f, h)) =
        (swap::<16>(e, g, 0x0000_FFFF_0000_FFFF), swap::<16>(f, h, 0x0000_FFFF_0000_FFFF));
    let ((a, b), (c, d)) =
        (swap::<8>(a, b, 0x00FF_00FF_00FF_00FF), swap::<8>(c, d, 0x00FF_00FF_00FF_00FF));
    let ((e, f), (g, h)) =
        (swap::<8>(e, f, 0x00FF_00FF_00FF_00FF), swap::<8>(g, h, 0x00FF_00FF_00FF_00FF));
    [a, b, c, d, e, f, g, h]
}
