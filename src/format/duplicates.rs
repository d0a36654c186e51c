//! Repeated names: which of them stay, and what kind of error they are otherwise.
//!
//! | two things of one name | error |
//! |---|---|
//! | in one file, in one checkpoint of several files, or beside the mask or the offsets of another | refused (4): its data cannot be held as it is |
//! | in sources given together, or made by renaming | usage (2) |
//! | where the format itself says that names are unique (keys of safetensors and npy headers, members of a package) | corrupt (7) |

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::OnDuplicate;
use crate::model::ArrayMeta;

/// Names that nothing has yet: of many things of one name each is found without another try of
/// those given before.
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

/// The error of two things of one name in one file; `first` and `second` say where they are.
pub fn in_file(name: &str, first: &str, second: &str) -> Error {
    Error::refused(format!("the name appears twice: {first} and {second}")).array(name).hint(HINT)
}

/// The error of one name in two sources that are given together.
pub fn between_sources(name: &str, first: &str, second: &str) -> Error {
    Error::usage(format!("the array '{name}' is in {first} and in {second}")).hint(
        "use --prefix-by-file, --concat to join the rows, or --on-duplicate rename|first|last",
    )
}

/// The error of two arrays that get one name by renaming.
pub fn after_renaming(name: &str) -> Error {
    Error::usage(format!("two arrays are called '{name}' after renaming")).hint(HINT)
}

/// The error of an array that has the name which another one needs for its mask or its offsets in
/// the output.
pub fn with_companion(name: &str, owner: &str) -> Error {
    Error::refused(format!("an array has the name '{name}', which the output needs for the nulls or the rows of '{owner}'"))
        .hint("--rename gives one of them another name")
}

/// What can be done about it.
pub const HINT: &str =
    "--on-duplicate rename calls the second one NAME_1; first or last keeps one of them";

/// Decides which of several things of the same name stay, and how they are called: `None` goes.
/// `place` describes the place of the i-th for the error.
///
/// # Errors
/// [`in_file`] for each repeated name, where nothing else was asked for.
pub fn unique(
    names: &[String],
    on_duplicate: OnDuplicate,
    place: &dyn Fn(usize) -> String,
) -> Result<Vec<Option<String>>> {
    // There may be very many names, and mostly none of them twice.
    let mut free = None;
    let mut kept: Vec<Option<String>> = Vec::with_capacity(names.len());
    let mut first_of: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(names.len());
    let mut errors = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let Some(&first) = first_of.get(name.as_str()) else {
            first_of.insert(Cow::Borrowed(name), i);
            kept.push(Some(name.clone()));
            continue;
        };
        let stays = match on_duplicate {
            OnDuplicate::Error => {
                errors.push(in_file(name, &place(first), &place(i)));
                None
            }
            OnDuplicate::First => None,
            OnDuplicate::Last => {
                kept[first] = None;
                first_of.insert(Cow::Borrowed(name), i);
                Some(name.clone())
            }
            OnDuplicate::Rename => {
                let free =
                    free.get_or_insert_with(|| FreeNames::new(names.iter().cloned().collect()));
                let other = free.after(name);
                first_of.insert(Cow::Owned(other.clone()), i);
                Some(other)
            }
        };
        kept.push(stays);
    }
    Error::all(errors)?;
    Ok(kept)
}

/// The arrays that stay, under names of their own, each with what belongs to it: see [`unique`].
///
/// # Errors
/// As there.
pub fn unique_arrays<T>(
    arrays: Vec<(ArrayMeta, T)>,
    on_duplicate: OnDuplicate,
    place: &dyn Fn(usize) -> String,
) -> Result<Vec<(ArrayMeta, T)>> {
    let names: Vec<String> = arrays.iter().map(|(meta, _)| meta.name.clone()).collect();
    let kept = arrays.into_iter().zip(unique(&names, on_duplicate, place)?);
    Ok(kept
        .filter_map(|((meta, of), name)| Some((ArrayMeta { name: name?, ..meta }, of)))
        .collect())
}
