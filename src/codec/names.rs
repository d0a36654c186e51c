//! Repeated names.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::OnDuplicate;

/// Decides which of several things of the same name stay, and how they are called: `None` goes. `place` describes the
/// place of the i-th for the error.
///
/// # Errors
/// Refused, naming both places, where nothing else was asked for.
pub fn unique(names: &[String], on_duplicate: OnDuplicate, place: &dyn Fn(usize) -> String) -> Result<Vec<Option<String>>> {
    let all: HashSet<&String> = names.iter().collect();
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
                let mut n = 1;
                let mut other = format!("{name}_{n}");
                while all.contains(&other) || first_of.contains_key(&other) {
                    n += 1;
                    other = format!("{name}_{n}");
                }
                first_of.insert(other.clone(), i);
                Some(other)
            }
        };
        kept.push(stays);
    }
    Ok(kept)
}
