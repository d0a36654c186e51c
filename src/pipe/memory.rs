//! The memory limit, for what cannot be held in parts.

use super::settings::Settings;
use crate::array::{SLACK_BYTES, more_memory};
use crate::error::Result;

/// The memory limit, for rows that must be in memory at once: what is more is refused, with the
/// bytes that are needed.
#[derive(Clone, Copy)]
pub(super) struct Memory(u64);

impl Memory {
    pub(super) fn of(settings: &Settings) -> Memory {
        Memory(settings.resources.budget().total())
    }
    /// A row of this many bytes is read, and given on.
    pub(super) fn check_row(self, bytes: u64) -> Result<()> {
        self.check(bytes, || format!("a row takes {bytes} bytes"))
    }
    /// A row of this many bytes, and what it is made into.
    pub(super) fn check_row_twice(self, bytes: u64) -> Result<()> {
        let twice = bytes.saturating_mul(2);
        self.check(twice, || {
            format!("a row takes {bytes} bytes, and what is made of it as many again")
        })
    }
    /// Whether there is no room for this many bytes and what is made of them.
    pub(super) fn is_short(self, bytes: u64) -> bool {
        bytes.saturating_mul(2) > self.0.saturating_add(SLACK_BYTES)
    }
    /// Rows that the output keeps together, and what is made of them.
    pub(super) fn check_rows(self, rows: u64, bytes: u64) -> Result<()> {
        let twice = bytes.saturating_mul(2);
        let error = self.check(twice, || {
            format!(
                "{rows} rows that the output keeps together take {bytes} bytes, and what is made of them as many again"
            )
        });
        error.map_err(|e| match rows {
            1 => e,
            _ => e.hint(format!(
                "raise the limit: --memory-limit {}MiB; or choose a smaller --chunk-shape or --row-group-size",
                twice.div_ceil(1 << 20)
            )),
        })
    }
    fn check(self, needed: u64, what: impl FnOnce() -> String) -> Result<()> {
        match needed <= self.0.saturating_add(SLACK_BYTES) {
            true => Ok(()),
            false => Err(more_memory(&what(), needed, self.0)),
        }
    }
}
