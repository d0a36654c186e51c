//! Repeated names.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::OnDuplicate;

/// Names that nothing has yet: of many things of one name each is found without another try of those given before.
pub struct FreeNames {
    taken: HashSet<String>,
    /// The last number given after a name.
    last: HashMap<String, u64>,
}

impl FreeNames {
    /// All but these are free.
    pub fn new(taken: HashSet<String>) -> FreeNames {
        FreeNames { taken, last: HashMap::new() }
    }
    /// The first free one of `name_1`, `name_2`, …, which is taken then.
    pub fn after(&mut self, name: &str) -> String {
        let last = self.last.entry(name.to_string()).or_default();
        loop {
            *last += 1;
            let candidate = format!("{name}_{last}");
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

/// Decides which of several things of the same name stay, and how they are called: `None` goes. `place` describes the
/// place of the i-th for the error.
///
/// # Errors
/// Refused, naming both places, where nothing else was asked for.
pub fn unique(names: &[String], on_duplicate: OnDuplicate, place: &dyn Fn(usize) -> String) -> Result<Vec<Option<String>>> {
    let mut free = FreeNames::new(names.iter().cloned().collect());
    let mut kept: Vec<Option<String>> = Vec::with_capacity(names.len());
    let mut first_of: HashMap<String, usize> = HashMap::new();
    for (i, name) in names.iter().enumerate() {
        let Some(&first) = first_of.get(name) else {
            first_of.insert(name.clone(), i);
            kept.push(Some(name.clone()));
            continue;
        };
        let stays = match on_duplicate {
            OnDuplicate::Error => {
                return Err(Error::refused(format!("the name appears twice: {} and {}", place(first), place(i)))
                    .array(name)
                    .hint("choose one with --on-duplicate rename|first|last"));
            }
            OnDuplicate::First => None,
            OnDuplicate::Last => {
                kept[first] = None;
                first_of.insert(name.clone(), i);
                Some(name.clone())
            }
            OnDuplicate::Rename => {
                let other = free.after(name);
                first_of.insert(other.clone(), i);
                Some(other)
            }
        };
        kept.push(stays);
    }
    Ok(kept)
}
