//! What stays of a store that others are merged into.

use super::lock;
use crate::error::Result;
use crate::formats::numpack::store::metadata::Entry;
use crate::model::Plan;
use crate::sidecar;
use crate::storage::Location;

/// The arrays that stay, and the store that is theirs until the new one is in place.
pub(super) struct MergeBase {
    pub(super) entries: Vec<Entry>,
    /// The names of the logical arrays, in order.
    pub(super) order: Vec<String>,
    pub(super) side: Option<Vec<u8>>,
    pub(super) store: Location,
    pub(super) _lock: lock::Lock,
}

impl MergeBase {
    /// All entries of the metadata, and the side file, with the new ones.
    ///
    /// # Errors
    /// The store was replaced meanwhile; a side file that cannot be read.
    pub(super) fn with(
        &self,
        entries: Vec<Entry>,
        side: Option<Vec<u8>>,
        end: &Plan,
    ) -> Result<(Vec<Entry>, Option<Vec<u8>>)> {
        lock::check(&self.store)?;
        let names = sidecar::logical_names(end);
        let side = sidecar::merged(self.side.as_deref(), &self.order, side.as_deref(), &names)?;
        Ok((self.entries.iter().cloned().chain(entries).collect(), side))
    }
}
