//! Blocks of an array put together from chunks.

use super::chain::VarItems;

/// Counts `place` up in C order below `counts`; false at the end.
pub fn step(place: &mut [u64], counts: &[u64]) -> bool {
    for d in (0..place.len()).rev() {
        place[d] += 1;
        if place[d] < counts[d] {
            return true;
        }
        place[d] = 0;
    }
    false
}

/// Copies the part of a block (`part`, of shape `shape`, at `at`) that lies in another (`out`, of
/// `out_shape`, at `out_at`). Both in C order with items of `item` bytes.
pub fn scatter(
    part: &[u8],
    shape: &[u64],
    at: &[u64],
    out: &mut [u8],
    out_shape: &[u64],
    out_at: &[u64],
    item: usize,
) {
    let rank = shape.len();
    let low: Vec<u64> = (0..rank).map(|d| at[d].max(out_at[d])).collect();
    let high: Vec<u64> =
        (0..rank).map(|d| (at[d] + shape[d]).min(out_at[d] + out_shape[d])).collect();
    if (0..rank).any(|d| low[d] >= high[d]) || item == 0 {
        return;
    }
    // Dimensions behind `runs` are whole in both: one copy takes them together.
    let mut runs = rank;
    let mut run = item;
    while runs > 0 {
        runs -= 1;
        run *= (high[runs] - low[runs]) as usize;
        if high[runs] - low[runs] != shape[runs] || shape[runs] != out_shape[runs] {
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
    let (from_strides, to_strides) = (strides(shape), strides(out_shape));
    let counts: Vec<u64> = (0..runs).map(|d| high[d] - low[d]).collect();
    let mut place = vec![0u64; runs];
    let from_base: usize = (0..rank).map(|d| (low[d] - at[d]) as usize * from_strides[d]).sum();
    let to_base: usize = (0..rank).map(|d| (low[d] - out_at[d]) as usize * to_strides[d]).sum();
    loop {
        let from =
            from_base + (0..runs).map(|d| place[d] as usize * from_strides[d]).sum::<usize>();
        let to = to_base + (0..runs).map(|d| place[d] as usize * to_strides[d]).sum::<usize>();
        out[to..to + run].copy_from_slice(&part[from..from + run]);
        if !step(&mut place, &counts) {
            return;
        }
    }
}

/// Items of a block of an array, chunk by chunk.
pub struct VarBlock {
    shape: Vec<u64>,
    /// Where the block begins in the array.
    at: Vec<u64>,
    parts: Vec<VarItems>,
    /// Items of the parts before.
    before: u64,
    /// Per item of the block its number among those of all parts, counted from 1, as its bytes.
    numbers: Vec<u8>,
}

impl VarBlock {
    /// A block of this shape, at this place of the array.
    pub fn new(shape: &[u64], at: &[u64]) -> VarBlock {
        let items = shape.iter().product::<u64>() as usize;
        VarBlock {
            shape: shape.to_vec(),
            at: at.to_vec(),
            parts: Vec::new(),
            before: 0,
            numbers: vec![0; 8 * items],
        }
    }

    /// Adds a chunk of this shape, which begins at `at` of the array.
    pub fn add(&mut self, part: VarItems, shape: &[u64], at: &[u64]) {
        let count = part.offsets.len() as u64 - 1;
        let numbers: Vec<u64> = (self.before + 1..=self.before + count).collect();
        scatter(
            bytemuck::cast_slice(&numbers),
            shape,
            at,
            &mut self.numbers,
            &self.shape,
            &self.at,
            8,
        );
        self.before += count;
        self.parts.push(part);
    }

    /// The items in C order; what no chunk gave is empty.
    pub fn items(self) -> VarItems {
        let mut first = Vec::with_capacity(self.parts.len());
        let mut sum = 0u64;
        for part in &self.parts {
            first.push(sum);
            sum += part.offsets.len() as u64 - 1;
        }
        let mut items = VarItems::new();
        for number in self.numbers.as_chunks::<8>().0 {
            let Some(number) = u64::from_ne_bytes(*number).checked_sub(1) else {
                items.push(b"");
                continue;
            };
            let p = first.partition_point(|&f| f <= number) - 1;
            let (part, i) = (&self.parts[p], (number - first[p]) as usize);
            items.push(&part.values[part.offsets[i] as usize..part.offsets[i + 1] as usize]);
        }
        items
    }
}
