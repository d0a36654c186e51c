//! How ZeRO cuts: which elements of which flat partitions a parameter is.
//!
//! | stage | a group of parameters |
//! |---|---|
//! | 1, 2 | is one run of elements, cut into a partition for each rank, one after the other; zeros fill up the end |
//! | 3 | each parameter is cut into as many equal parts as there are ranks, the last filled up; a rank's parts lie one after the other in its groups |
//!
//! As <https://github.com/deepspeedai/DeepSpeed/blob/master/deepspeed/utils/zero_to_fp32.py> joins them.

use crate::error::{Error, Result};
use crate::model::checked_product;

/// A parameter: its name and shape.
pub type Shape = (String, Vec<u64>);

/// Elements of a parameter: `len` from `at` on are those of a rank's group from `first` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The rank,
    pub rank: usize,
    /// its group of parameters,
    pub group: usize,
    /// and the first of the elements there.
    pub first: u64,
    /// How many they are.
    pub len: u64,
    /// The element of the parameter that the first of them is.
    pub at: u64,
}

/// Partitions that follow each other as one run.
struct PartitionRun {
    /// Rank, group, and the first element.
    starts: Vec<(usize, usize, u64)>,
    end: u64,
}

impl PartitionRun {
    fn new(partitions: impl Iterator<Item = (usize, usize, u64)>) -> Result<PartitionRun> {
        let (mut starts, mut end) = (Vec::new(), 0u64);
        for (rank, group, len) in partitions {
            starts.push((rank, group, end));
            end = end
                .checked_add(len)
                .ok_or_else(|| Error::corrupt("its partitions are too large"))?;
        }
        Ok(PartitionRun { starts, end })
    }

    /// The elements from `first` on are those of a parameter from `at` on.
    fn cut(&self, first: u64, len: u64, at: u64, out: &mut Vec<Cut>) {
        let mut i = self.starts.partition_point(|start| start.2 <= first).saturating_sub(1);
        let mut done = 0;
        while done < len && i < self.starts.len() {
            let (rank, group, start) = self.starts[i];
            let end = self.starts.get(i + 1).map_or(self.end, |next| next.2);
            let from = first + done;
            let take = end.saturating_sub(from).min(len - done);
            if take > 0 {
                out.push(Cut { rank, group, first: from - start, len: take, at: at + done });
            }
            done += take;
            i += 1;
        }
    }
}

fn elements(shape: &Shape) -> Result<u64> {
    checked_product(&shape.1).ok_or_else(|| {
        Error::corrupt(format!("the shape {:?} is too large", shape.1)).array(&shape.0)
    })
}

fn differs(what: &str, have: u64, need: u64) -> Error {
    Error::corrupt(format!(
        "the partitions of {what} hold {have} elements, its parameters take {need}"
    ))
    .hint("the files are of different runs, or one was cut short: fetch them again")
}

/// The cuts of all parameters of stages 1 and 2, group by group. `sizes`: of each rank the elements
/// of each group.
///
/// # Errors
/// Corrupt where partitions and parameters do not agree.
pub fn stage2(groups: &[Vec<Shape>], sizes: &[Vec<u64>]) -> Result<Vec<Vec<Cut>>> {
    let mut all = Vec::new();
    for (group, shapes) in groups.iter().enumerate() {
        let of = sizes.iter().enumerate().filter_map(|(r, s)| Some((r, group, *s.get(group)?)));
        let flat = PartitionRun::new(of)?;
        let mut at = 0u64;
        for shape in shapes {
            let len = elements(shape)?;
            let mut cuts = Vec::new();
            flat.cut(at, len, 0, &mut cuts);
            all.push(cuts);
            at = at.checked_add(len).ok_or_else(|| differs("a group", flat.end, u64::MAX))?;
        }
        // How much fills up the end depends on what is not stored.
        let unit = 2 * sizes.len().max(1) as u64;
        if at > flat.end || flat.end.div_ceil(unit) != at.div_ceil(unit) {
            return Err(differs(&format!("group {group}"), flat.end, at));
        }
    }
    Ok(all)
}

/// Elements that a rank has of a parameter of stage 3, with those that fill it up.
pub fn part_of(elements: u64, ranks: usize) -> u64 {
    elements.div_ceil(ranks.max(1) as u64)
}

/// The cuts of all parameters of stage 3, which lie in the order of all groups.
///
/// # Errors
/// As [`stage2`].
pub fn stage3(shapes: &[Shape], sizes: &[Vec<u64>]) -> Result<Vec<Vec<Cut>>> {
    let ranks = sizes.len();
    let mut all: Vec<Vec<Cut>> = vec![Vec::new(); shapes.len()];
    for (rank, sizes) in sizes.iter().enumerate() {
        let flat =
            PartitionRun::new(sizes.iter().enumerate().map(|(group, &len)| (rank, group, len)))?;
        let mut first = 0u64;
        for (shape, cuts) in shapes.iter().zip(&mut all) {
            let elements = elements(shape)?;
            let part = part_of(elements, ranks);
            let at = part.saturating_mul(rank as u64).min(elements);
            flat.cut(first, part.min(elements - at), at, cuts);
            first = first.checked_add(part).ok_or_else(|| differs("a rank", flat.end, u64::MAX))?;
        }
        if first != flat.end {
            return Err(differs(&format!("rank {rank}"), flat.end, first));
        }
    }
    Ok(all)
}
