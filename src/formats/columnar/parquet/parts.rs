//! A page in parts of about a mebibyte: where its rows may be cut so that memory is bounded.

use super::levels::Levels;

/// What a part takes, about.
const STEP: u64 = 1 << 20;
/// More parts than this are joined two by two.
const MAX_PARTS: usize = 4096;
/// Nulls in a row that are a part of their own.
const MANY_NULLS: u64 = 1 << 16;

/// Some rows of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) rows: u64,
    /// Bytes of their texts, or values of their lists; and those of the row that has most.
    pub(super) amount: u64,
    pub(super) longest: u64,
}

/// Parts under construction.
#[derive(Debug)]
pub(super) struct Cutter {
    step: u64,
    done: Vec<Part>,
    open: Part,
}

impl Cutter {
    pub(super) fn new() -> Cutter {
        Cutter { step: STEP, done: Vec::new(), open: Part::default() }
    }
    /// Takes rows that have this much each.
    pub(super) fn add(&mut self, amount: u64, mut rows: u64) {
        while rows > 0 {
            let room = self.step.saturating_sub(self.open.amount);
            let fit = room.checked_div(amount).unwrap_or(rows);
            let n = if self.open.rows == 0 { fit.clamp(1, rows) } else { fit.min(rows) };
            self.open.rows += n;
            self.open.amount = self.open.amount.saturating_add(amount.saturating_mul(n));
            self.open.longest =
                if n > 0 { self.open.longest.max(amount) } else { self.open.longest };
            rows -= n;
            if rows > 0 {
                self.close();
            }
        }
    }
    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
        if self.done.len() >= MAX_PARTS {
            let join = |pair: &[Part]| Part {
                rows: pair.iter().map(|p| p.rows).sum(),
                amount: pair.iter().fold(0, |sum, p| sum.saturating_add(p.amount)),
                longest: pair.iter().map(|p| p.longest).max().unwrap_or(0),
            };
            self.done = self.done.chunks(2).map(join).collect();
            self.step = self.step.saturating_mul(2);
        }
    }
    /// All parts.
    pub(super) fn parts(mut self) -> Vec<Part> {
        if self.open.rows > 0 {
            self.done.push(self.open);
        }
        self.done
    }
}

/// The lengths of the texts of a page.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: u64,
    /// Where parts are wanted: their rows are texts, without the nulls between them.
    cutter: Option<Cutter>,
}

impl Texts {
    /// `cut`: whether parts are wanted.
    pub(super) fn new(cut: bool) -> Texts {
        Texts { bytes: 0, cutter: cut.then(Cutter::new) }
    }
    pub(super) fn add(&mut self, length: u64, times: u64) {
        self.bytes = self.bytes.saturating_add(length.saturating_mul(times));
        if let Some(cutter) = &mut self.cutter {
            cutter.add(length, times);
        }
    }
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// The parts with the nulls between the texts; `None` where none were wanted. `all`: texts and
    /// nulls.
    pub(super) fn parts(self, def: Levels<'_>, all: u64) -> Option<Vec<Part>> {
        let texts = self.cutter?.parts();
        if def.most == 0 {
            return Some(texts);
        }
        let (mut texts, mut done, mut open) = (texts.into_iter(), Vec::new(), Part::default());
        let mut left = texts.next().unwrap_or_default();
        def.runs(all, &mut |level, mut n| {
            if level != def.most as u32 {
                if n >= MANY_NULLS {
                    // What is left of the texts counts on both sides.
                    done.extend([
                        Part { amount: left.amount, longest: left.longest, ..open },
                        Part { rows: n, ..Part::default() },
                    ]);
                    open = Part::default();
                } else {
                    open.rows += n;
                }
                return;
            }
            while n > 0 {
                let take = n.min(left.rows);
                (open.rows, left.rows, n) = (open.rows + take, left.rows - take, n - take);
                if left.rows == 0 {
                    done.push(Part { amount: left.amount, longest: left.longest, ..open });
                    open = Part::default();
                    match texts.next() {
                        Some(next) => left = next,
                        None => {
                            // Not reached: there are texts for all levels.
                            open.rows += n;
                            left = Part::default();
                            n = 0;
                        }
                    }
                }
            }
        });
        done.push(Part { amount: left.amount, longest: left.longest, ..open });
        done.retain(|part| part.rows > 0);
        Some(done)
    }
}
