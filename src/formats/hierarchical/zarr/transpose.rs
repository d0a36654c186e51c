//! Stored axes into C order, in tiles that stay in the cache.

const TILE: usize = 32;

/// Brings `from`, stored in C order of the permuted shape (`order[i]` is the dimension stored at
/// place `i`), into C order of `shape`. `from` has exactly the bytes of `shape`.
pub fn transpose(from: &[u8], order: &[usize], shape: &[u64], item: usize) -> Vec<u8> {
    let rank = shape.len();
    let dims: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
    if from.is_empty() || rank < 2 || order.windows(2).all(|w| w[0] < w[1]) {
        return from.to_vec();
    }
    // Strides, in items, of the stored bytes and of the result, by dimension of the result.
    let (mut source, mut target) = (vec![0usize; rank], vec![0usize; rank]);
    let (mut s, mut t) = (1, 1);
    for i in (0..rank).rev() {
        source[order[i]] = s;
        s *= dims[order[i]];
        target[i] = t;
        t *= dims[i];
    }
    let (fast_in, fast_out) = (order[rank - 1], rank - 1);
    let mut out = vec![0u8; from.len()];
    let outer: Vec<usize> = (0..rank).filter(|&d| d != fast_in && d != fast_out).collect();
    let mut at = vec![0usize; outer.len()];
    let (rows, columns) =
        if fast_in == fast_out { (1, dims[fast_out]) } else { (dims[fast_in], dims[fast_out]) };
    let (row_in, row_out) = (source[fast_in], target[fast_in]);
    let (column_in, column_out) = (source[fast_out], target[fast_out]);
    loop {
        let base_in: usize = outer.iter().zip(&at).map(|(&d, &i)| source[d] * i).sum();
        let base_out: usize = outer.iter().zip(&at).map(|(&d, &i)| target[d] * i).sum();
        for r0 in (0..rows).step_by(TILE) {
            for c0 in (0..columns).step_by(TILE) {
                let (r1, c1) = ((r0 + TILE).min(rows), (c0 + TILE).min(columns));
                for r in r0..r1 {
                    for c in c0..c1 {
                        let i = (base_in + r * row_in + c * column_in) * item;
                        let o = (base_out + r * row_out + c * column_out) * item;
                        match item {
                            1 => out[o] = from[i],
                            2 => put::<2>(&mut out, o, from, i),
                            4 => put::<4>(&mut out, o, from, i),
                            8 => put::<8>(&mut out, o, from, i),
                            16 => put::<16>(&mut out, o, from, i),
                            n => out[o..o + n].copy_from_slice(&from[i..i + n]),
                        }
                    }
                }
            }
        }
        // The next place of the outer dimensions.
        let mut d = outer.len();
        loop {
            if d == 0 {
                return out;
            }
            d -= 1;
            at[d] += 1;
            if at[d] < dims[outer[d]] {
                break;
            }
            at[d] = 0;
        }
    }
}

fn put<const N: usize>(out: &mut [u8], o: usize, from: &[u8], i: usize) {
    out[o..o + N].copy_from_slice(&from[i..i + N]);
}
