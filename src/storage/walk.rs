//! Ends walks through directories in which links lead round in circles.

use std::collections::HashMap;
use std::sync::Arc;

use super::{EntryKind, Identity, Location};
use crate::error::{Error, Result};

/// How often a walk may come to directories where it has been already: links may give them other
/// names, but n directories with two links each to the next one have 2ⁿ paths.
const MAX_AGAIN: usize = 10_000;

/// The deepest directory.
const MAX_DEPTH: usize = 256;

/// The directories where a walk has been.
#[derive(Default)]
pub struct Visited {
    times: HashMap<Identity, usize>,
    again: usize,
}

/// The directories above a place of a walk.
#[derive(Clone, Default)]
pub struct Trail(Option<Arc<Step>>);

struct Step {
    /// `None` in remote storage.
    directory: Option<Identity>,
    above: Trail,
    depth: usize,
}

impl Trail {
    fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |step| step.depth)
    }

    fn has(&self, directory: Identity) -> bool {
        let mut at = self;
        while let Some(step) = &at.0 {
            if step.directory == Some(directory) {
                return true;
            }
            at = &step.above;
        }
        false
    }
}

impl Visited {
    /// Goes down into a directory. `None` where it is one of those above: a link leads back, and
    /// what is below it is found by shorter paths.
    ///
    /// # Errors
    /// Refused where links lead to the same directories again and again, or the directory is too
    /// deep.
    pub fn enter(&mut self, above: &Trail, directory: &Location) -> Result<Option<Trail>> {
        if above.depth() == MAX_DEPTH {
            let error =
                Error::refused(format!("directories are nested more than {MAX_DEPTH} deep"));
            return Err(error.file(directory.display()));
        }
        let down = |directory| {
            Ok(Some(Trail(Some(Arc::new(Step {
                directory,
                above: above.clone(),
                depth: above.depth() + 1,
            })))))
        };
        let Some(identity) = directory.identity() else { return down(None) };
        if above.has(identity) {
            return Ok(None);
        }
        let times = self.times.entry(identity).or_default();
        *times += 1;
        self.again += usize::from(*times > 1);
        if self.again > MAX_AGAIN {
            let error = Error::refused(format!(
                "links lead to the same directories more than {MAX_AGAIN} times"
            ));
            return Err(error.file(directory.display()));
        }
        down(Some(identity))
    }
}

/// Bytes of a file, or of all files of a directory.
pub fn size_of(at: &Location) -> Option<u64> {
    match at.kind().ok()? {
        EntryKind::File { len, .. } => Some(len),
        EntryKind::Dir => {
            if let Some((backend, key)) = at.as_remote() {
                // One flat listing, not one for each directory of chunks.
                return Some(backend.walk(key).ok()?.iter().map(|(_, len)| len).sum());
            }
            let mut total = 0u64;
            for entry in at.list().ok()? {
                total += if entry.is_dir { size_of(&at.join(&entry.name))? } else { entry.len };
            }
            Some(total)
        }
        _ => None,
    }
}
