//! Copies boxes of elements between blocks in C order.

/// A box of elements of an array, in C order.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// Where it begins in the array.
    pub origin: &'a [u64],
    /// Its shape.
    pub shape: &'a [u64],
}

/// Counts `at` up in C order below `counts`; false at the end, where it begins again.
pub fn step(at: &mut [u64], counts: &[u64]) -> bool {
    for d in (0..at.len()).rev() {
        at[d] += 1;
        if at[d] < counts[d] {
            return true;
        }
        at[d] = 0;
    }
    false
}

/// The runs of bytes that lie side by side in both blocks: where each begins in `from`, where in
/// `to`, and its length. `item` is the bytes of an element.
///
/// # Errors
/// Those of `each`.
pub fn runs<E>(
    from: Block<'_>,
    to: Block<'_>,
    item: usize,
    mut each: impl FnMut(usize, usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let rank = from.shape.len();
    let low: Vec<u64> = (0..rank).map(|d| from.origin[d].max(to.origin[d])).collect();
    let high: Vec<u64> = (0..rank)
        .map(|d| {
            (from.origin[d].saturating_add(from.shape[d]))
                .min(to.origin[d].saturating_add(to.shape[d]))
        })
        .collect();
    if (0..rank).any(|d| low[d] >= high[d]) || item == 0 {
        return Ok(());
    }
    // Dimensions behind `outer` are whole in both: one run takes them together.
    let (mut outer, mut run) = (rank, item);
    while outer > 0 {
        outer -= 1;
        run *= (high[outer] - low[outer]) as usize;
        if high[outer] - low[outer] != from.shape[outer] || from.shape[outer] != to.shape[outer] {
            break;
        }
    }
    let strides = |shape: &[u64]| {
        let mut strides = vec![item; rank];
        for d in (0..rank.saturating_sub(1)).rev() {
            strides[d] = strides[d + 1] * shape[d + 1] as usize;
        }
        strides
    };
    let (from_strides, to_strides) = (strides(from.shape), strides(to.shape));
    let counts: Vec<u64> = (0..outer).map(|d| high[d] - low[d]).collect();
    let mut at = vec![0u64; outer];
    let base = |origin: &[u64], strides: &[usize]| {
        (0..rank).map(|d| (low[d] - origin[d]) as usize * strides[d]).sum::<usize>()
    };
    let (from_base, to_base) = (base(from.origin, &from_strides), base(to.origin, &to_strides));
    loop {
        let offset =
            |strides: &[usize]| (0..outer).map(|d| at[d] as usize * strides[d]).sum::<usize>();
        each(from_base + offset(&from_strides), to_base + offset(&to_strides), run)?;
        if !step(&mut at, &counts) {
            return Ok(());
        }
    }
}

/// Copies the elements that lie in both blocks.
pub fn copy(from: &[u8], from_block: Block<'_>, to: &mut [u8], to_block: Block<'_>, item: usize) {
    let copied = runs(from_block, to_block, item, |a, b, run| {
        to[b..b + run].copy_from_slice(&from[a..a + run]);
        Ok::<(), std::convert::Infallible>(())
    });
    match copied {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// Cuts a block into pieces of this shape, in C order: hands on the coordinates of each piece, and
/// its elements. What a piece has beyond the block is filled with `padding`.
///
/// # Errors
/// Those of `each`.
pub fn split<E>(
    block: &[u8],
    shape: &[u64],
    piece: &[u64],
    item: usize,
    padding: u8,
    mut each: impl FnMut(&[u64], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let counts: Vec<u64> = shape.iter().zip(piece).map(|(n, p)| n.div_ceil(*p)).collect();
    if counts.contains(&0) {
        return Ok(());
    }
    let bytes = piece.iter().product::<u64>() as usize * item;
    let is_wide = shape.get(1..) == piece.get(1..);
    let zero = vec![0; shape.len()];
    let (mut at, mut buffer) = (zero.clone(), Vec::new());
    loop {
        let origin: Vec<u64> = at.iter().zip(piece).map(|(a, p)| a * p).collect();
        let is_inside = origin.iter().zip(piece).zip(shape).all(|((o, p), n)| o + p <= *n);
        if is_wide && is_inside {
            // It is there as it is.
            let start = at.first().map_or(0, |&k| k as usize * bytes);
            each(&at, &block[start..start + bytes])?;
        } else {
            buffer.resize(bytes, padding);
            if !is_inside {
                buffer.fill(padding);
            }
            let from = Block { origin: &zero, shape };
            copy(block, from, &mut buffer, Block { origin: &origin, shape: piece }, item);
            each(&at, &buffer)?;
        }
        if !step(&mut at, &counts) {
            return Ok(());
        }
    }
}
