//! Is a store whole? Bytes that belong to no row (of a dead append) are cut off.

use std::collections::HashSet;
use std::path::Path;

use super::journal;
use crate::codec::store::metadata;
use crate::codec::store::{METADATA, stored_arrays};
use crate::error::{Context, Error, Result};
use crate::location::Location;

/// What was mended, or looks odd.
pub(super) fn verify(at: &Location) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if let Some(path) = at.local_path()
        && journal::recover(path, false)?
    {
        notes.push("the remains of a killed append were removed".to_string());
    }
    let files = super::files(at)?;
    let blob = files.blob(METADATA)?;
    let bytes = blob.read_vec(0, blob.len())?;
    let entries = metadata::parse(&bytes)?;
    let sum = entries.iter().fold(0u64, |n, e| n.saturating_add(e.bytes));
    let told = bytes.get(8..16).map_or(0, |b| b.iter().rev().fold(0u64, |n, &b| n << 8 | b as u64));
    if told != sum {
        notes.push(format!("{METADATA} says {told} bytes in total, its arrays add up to {sum}"));
    }
    let stored = stored_arrays(files.as_ref(), false)?;
    let problem =
        |s: &crate::codec::store::Stored| s.problem.as_ref().map(|e| Error::new(e.kind(), e.message().to_string()).array(&s.name));
    Error::all(stored.iter().filter_map(problem).collect())?;
    let mut seen = HashSet::new();
    for s in &stored {
        for p in &s.pieces {
            if !seen.insert(p.path.as_str()) {
                return Err(Error::corrupt(format!("{} belongs to two arrays", p.path)).array(&s.name));
            }
            let (len, want) = (files.len(&p.path)?.unwrap_or(0), p.rows * s.row_bytes);
            if len > want {
                notes.push(match at.local_path().map(|store| cut(store, &p.path, want)) {
                    Some(Ok(())) => format!("{}: {} extra bytes after the last row of {} were cut off", p.path, len - want, s.name),
                    Some(Err(e)) => {
                        format!("{}: {} extra bytes after the last row of {} cannot be cut off: {e}", p.path, len - want, s.name)
                    }
                    None => format!("{}: {} extra bytes after the last row of {}", p.path, len - want, s.name),
                });
            }
        }
    }
    Ok(notes)
}

fn cut(store: &Path, file: &str, bytes: u64) -> Result<()> {
    let _lock = journal::lock(store)?;
    journal::cut(&store.join(file), bytes).map(|_| ()).at_file(file)
}
