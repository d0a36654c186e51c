//! Is a store whole? What a killed append left is cleared away.

use super::directory::Directory;
use super::lock::{self, leftovers};
use crate::error::{Error, Result};
use crate::formats::numpack::store::{METADATA, Stored, read_metadata, stored_arrays};
use crate::storage::Location;

/// What was mended, or looks odd.
pub(super) fn verify(at: &Location) -> Result<Vec<String>> {
    super::open::check_place(at)?;
    let mut notes = Vec::new();
    let locked = if at.is_remote() { None } else { Some(lock::take(at)) };
    let (store, lock) = match locked {
        Some(Ok((store, lock))) => (store, Ok(lock)),
        Some(Err(e)) => (at.hold()?, Err(Some(e))),
        None => (at.clone(), Err(None)),
    };
    let files = Directory::open(&store)?;
    let metadata = read_metadata(files.as_ref())?;
    let (told, sum) = (
        metadata.total_bytes,
        metadata.entries.iter().fold(0u64, |n, e| n.saturating_add(e.bytes)),
    );
    if told != sum {
        notes.push(format!("{METADATA} says {told} bytes in total, its arrays add up to {sum}"));
    }
    let stored = stored_arrays(files.as_ref(), false)?;
    let problem = |s: &Stored| s.problem.as_deref().map(|e| e.clone().array(&s.name));
    Error::all(stored.iter().filter_map(problem).collect())?;
    for left in leftovers(&files, &stored)? {
        notes.push(match &lock {
            Ok(lock) => match left.settle(&store, lock) {
                Ok(()) => format!("{left} {}", left.settled()),
                Err(e) => format!("{left}; this cannot be mended: {e}"),
            },
            // Another run is adding to them.
            Err(Some(e)) => format!("{left} ({})", e.message()),
            Err(None) => left.to_string(),
        });
    }
    Ok(notes)
}
