//! The texts of a chunk, each once.

use std::collections::HashMap;

use crate::model::Chunk;

/// The texts of one chunk by codes of its own, in order of appearance: most of the work of coding,
/// done on any thread.
pub(super) struct DistinctTexts {
    /// A code a row; −1 at nulls.
    pub(super) codes: Vec<i32>,
    /// Per code the first row that has it.
    pub(super) rows: Vec<usize>,
}

impl DistinctTexts {
    /// `None` where most texts are distinct: then this would be done twice.
    pub(super) fn of(chunk: &Chunk) -> Option<DistinctTexts> {
        const TRIED_ROWS: usize = 1 << 15;
        let mut known: HashMap<&[u8], i32> = HashMap::new();
        let mut texts = DistinctTexts { codes: Vec::new(), rows: Vec::new() };
        texts.codes.reserve(chunk.rows as usize);
        for row in 0..chunk.rows as usize {
            if !chunk.is_valid(row) {
                texts.codes.push(-1);
                continue;
            }
            if row == TRIED_ROWS && texts.rows.len() > TRIED_ROWS / 2 {
                return None;
            }
            let code = *known.entry(chunk.text(row)).or_insert_with(|| {
                texts.rows.push(row);
                texts.rows.len() as i32 - 1
            });
            texts.codes.push(code);
        }
        Some(texts)
    }
}
