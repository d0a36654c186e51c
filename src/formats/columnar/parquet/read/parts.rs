//! A page in parts of about one size: where its rows may be cut so that memory is bounded.

use super::levels::Levels;

/// More parts than this are joined two by two.
const MAX_PARTS: usize = 4096;
/// Nulls in a row that are a part of their own, at most.
const MANY_NULLS: u64 = 1 << 16;

/// How a page is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Bytes of a part, about.
    pub(super) step: u64,
    /// Bytes of a byte of text, or of a value of a list.
    pub(super) item: u64,
    /// Bytes of a row beside those.
    pub(super) beside: u64,
}

impl Cut {
    fn bytes(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.item).saturating_add(self.beside)
    }
    fn many_nulls(&self) -> u64 {
        (self.step / self.beside.max(1)).clamp(1, MANY_NULLS)
    }
}

/// Some rows of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageRows {
    pub(super) rows: u64,
    /// Bytes of their texts, or values of their lists; and those of the row that has most.
    pub(super) amount: u64,
    pub(super) longest: u64,
}

/// Parts under construction.
#[derive(Debug)]
pub(super) struct Cutter {
    cut: Cut,
    done: Vec<PageRows>,
    open: PageRows,
    /// Bytes of the open one.
    held: u64,
}

impl Cutter {
    pub(super) fn new(cut: Cut) -> Cutter {
        Cutter { cut, done: Vec::new(), open: PageRows::default(), held: 0 }
    }
    /// Takes rows that have this much each.
    pub(super) fn add(&mut self, amount: u64, mut rows: u64) {
        let bytes = self.cut.bytes(amount);
        while rows > 0 {
            let room = self.cut.step.saturating_sub(self.held);
            let fit = room.checked_div(bytes).unwrap_or(rows);
            let n = if self.open.rows == 0 { fit.clamp(1, rows) } else { fit.min(rows) };
            self.open.rows += n;
            self.open.amount = self.open.amount.saturating_add(amount.saturating_mul(n));
            self.held = self.held.saturating_add(bytes.saturating_mul(n));
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
        self.held = 0;
        if self.done.len() >= MAX_PARTS {
            let join = |pair: &[PageRows]| PageRows {
                rows: pair.iter().map(|p| p.rows).sum(),
                amount: pair.iter().fold(0, |sum, p| sum.saturating_add(p.amount)),
                longest: pair.iter().map(|p| p.longest).max().unwrap_or(0),
            };
            self.done = self.done.chunks(2).map(join).collect();
            self.cut.step = self.cut.step.saturating_mul(2);
        }
    }
    /// All parts.
    pub(super) fn parts(mut self) -> Vec<PageRows> {
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
    /// `cut`: where parts are wanted.
    pub(super) fn new(cut: Option<Cut>) -> Texts {
        Texts { bytes: 0, cutter: cut.map(Cutter::new) }
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
    pub(super) fn parts(self, def: Levels<'_>, all: u64) -> Option<Vec<PageRows>> {
        let cutter = self.cutter?;
        let many = cutter.cut.many_nulls();
        let texts = cutter.parts();
        if def.most == 0 {
            return Some(texts);
        }
        let (mut texts, mut done) = (texts.into_iter(), Vec::new());
        let (mut open, mut nulls) = (PageRows::default(), 0);
        let mut left = texts.next().unwrap_or_default();
        def.runs(all, &mut |level, mut n| {
            if level != def.most as u32 {
                nulls += n;
                if nulls >= many {
                    // What is left of the texts counts on both sides.
                    done.extend([
                        PageRows { amount: left.amount, longest: left.longest, ..open },
                        PageRows { rows: n, ..PageRows::default() },
                    ]);
                    (open, nulls) = (PageRows::default(), 0);
                } else {
                    open.rows += n;
                }
                return;
            }
            while n > 0 {
                let take = n.min(left.rows);
                (open.rows, left.rows, n) = (open.rows + take, left.rows - take, n - take);
                if left.rows == 0 {
                    done.push(PageRows { amount: left.amount, longest: left.longest, ..open });
                    (open, nulls) = (PageRows::default(), 0);
                    match texts.next() {
                        Some(next) => left = next,
                        None => {
                            // Not reached: there are texts for all levels.
                            open.rows += n;
                            left = PageRows::default();
                            n = 0;
                        }
                    }
                }
            }
        });
        done.push(PageRows { amount: left.amount, longest: left.longest, ..open });
        done.retain(|part| part.rows > 0);
        Some(done)
    }
}
