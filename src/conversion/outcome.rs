//! What became of a unit.

use crate::batch::shares::Shard;
use crate::console::{Counted, human_bytes};
use std::time::Duration;

/// What became of a unit.
pub(super) enum Outcome {
    Done {
        counted: Counted,
        bytes: u64,
        time: Duration,
        layout: Option<&'static str>,
        format: &'static str,
    },
    /// A share of an output that several processes write.
    Part(ShareResult),
    Skipped(&'static str),
    Planned(String),
}

/// What a share has come to.
pub(super) struct ShareResult {
    pub(super) share: Shard,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) time: Duration,
    /// Whether it was done before.
    pub(super) before: bool,
}

impl ShareResult {
    /// The share for people.
    pub(super) fn text(&self) -> String {
        let ShareResult { share, files, .. } = self;
        let chunks = if *files == 1 { "chunk" } else { "chunks" };
        format!("share {share}, {files} {chunks}, {}", human_bytes(self.bytes))
    }
}
