//! The file that deflated members are inflated to.

use std::fs::File;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result, locked};
use crate::storage::temporary;

/// Where deflated members are inflated to, one behind the other: the file, and its end. One file
/// for the archive: a file each would soon be more than may be open.
#[derive(Default)]
pub(super) struct Spool(Mutex<Option<(Arc<File>, u64)>>);

impl Spool {
    /// Room for `len` bytes.
    pub(super) fn room(&self, len: u64) -> Result<(Arc<File>, u64)> {
        let mut spool = locked(&self.0);
        let (file, end) = match spool.take() {
            Some(open) => open,
            None => (Arc::new(temporary::file()?), 0),
        };
        let next = end.checked_add(len);
        *spool = Some((file.clone(), next.unwrap_or(end)));
        match next {
            Some(_) => Ok((file, end)),
            None => Err(Error::corrupt("the deflated members are too large")),
        }
    }
}
