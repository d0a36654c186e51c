//! `--rows START:STOP[:STEP]`: Python slicing of every chosen array.

use crate::error::{Error, Result};

/// A Python slice with a positive step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// As given; below 0 counts from the end.
    pub start: Option<i64>,
    /// As given; below 0 counts from the end.
    pub stop: Option<i64>,
    /// At least 1.
    pub step: u64,
}

impl Slice {
    /// Every row.
    pub const ALL: Slice = Slice { start: None, stop: None, step: 1 };

    /// Parses `START:STOP[:STEP]`, each part optional.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Slice> {
        let bad = || {
            Error::usage(format!("'{text}' is not a slice"))
                .hint("START:STOP or START:STOP:STEP, as in Python: 0:100, -10:, ::2")
        };
        let parts: Vec<&str> = text.split(':').collect();
        if !(2..=3).contains(&parts.len()) {
            return Err(bad());
        }
        let number = |p: &str| -> Result<Option<i64>> {
            let p = p.trim();
            if p.is_empty() { Ok(None) } else { p.parse().map(Some).map_err(|_| bad()) }
        };
        let step = match parts.get(2) {
            Some(p) => number(p)?.unwrap_or(1),
            None => 1,
        };
        if step < 1 {
            return Err(Error::usage(format!("the step of '{text}' must be at least 1")));
        }
        Ok(Slice { start: number(parts[0])?, stop: number(parts[1])?, step: step as u64 })
    }

    /// The rows it takes of `total`: first, end, and how many.
    pub fn of(&self, total: u64) -> (u64, u64, u64) {
        let place = |v: i64| {
            if v < 0 { total.saturating_sub(v.unsigned_abs()) } else { (v as u64).min(total) }
        };
        let start = self.start.map_or(0, place);
        let stop = self.stop.map_or(total, place).max(start);
        (start, stop, (stop - start).div_ceil(self.step))
    }

    /// Whether the number of rows must be known.
    pub fn counts_from_end(&self) -> bool {
        self.start.is_some_and(|v| v < 0) || self.stop.is_some_and(|v| v < 0)
    }
}
