//! Adds arrays to a store, or replaces some: a new directory of hard links to all that stays, the
//! new data files and the new metadata, is put in the old one's place at once. What stays is never
//! rewritten.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::directory::Directory;
use super::merge_base::MergeBase;
use super::write;
use super::{directory, lock};
use crate::error::{Error, Result};
use crate::format::{Existing, Sink, Source, WriteOptions};
use crate::formats::numpack::store::metadata::Entry;
use crate::formats::numpack::store::names::{self, Names};
use crate::formats::numpack::store::{METADATA, SIDE, StoreSource, read_metadata, read_side};
use crate::model::Plan;
use crate::storage::{Location, OutputDir, cleanup};

/// Begins a merge into the store at `path`, which [`local_store`] gave.
pub(super) fn create(
    at: &Location,
    path: &Path,
    plan: &Plan,
    options: &WriteOptions,
    replace: bool,
) -> Result<Box<dyn Sink>> {
    let (store, lock) = lock::take(at)?;
    let files = Directory::open(&store)?;
    let memory_bytes = options.resources.memory_bytes();
    let old = StoreSource::open(files.clone(), "npk", false, memory_bytes)?;
    lock::settle(&store, &lock, &files, old.stored())?;
    let entries = read_metadata(files.as_ref())?.entries;
    let gone = replaced(&old, plan, replace)?;
    let stay: Vec<Entry> = entries.into_iter().filter(|e| !gone.stored.contains(&e.name)).collect();
    let order: Vec<String> = old
        .logical_arrays()
        .map(|(meta, _)| meta.name.clone())
        .filter(|n| !gone.logical.contains(n))
        .collect();

    let mut names = Names::default();
    stay.iter().for_each(|e| names.take(&e.data_file));
    let given: Vec<String> = plan.arrays.iter().map(|a| names.give(&a.name)).collect();
    // Whatever lies there under a name that this run writes, or would take for a bitmap of a new
    // array, stays behind.
    let mut left: HashSet<String> =
        given.iter().cloned().chain([METADATA.into(), SIDE.into()]).collect();
    left.extend(plan.arrays.iter().filter_map(|a| names::bitmap(&a.name)));
    for stored in old.stored().iter().filter(|s| gone.stored.contains(&s.name)) {
        left.insert(stored.data_file.clone());
        left.extend(names::bitmap(&stored.name));
        left.extend(stored.pieces.iter().map(|p| p.path.clone()));
    }
    for e in &stay {
        left.remove(&e.data_file);
    }
    let dir = at.create_dir(Existing::Replace, options.sync, &[METADATA])?;
    link_store(path, dir.as_ref(), &left)?;
    let side = read_side(files.as_ref(), memory_bytes)?;
    write::into(
        dir,
        plan,
        given,
        options,
        Some(MergeBase { entries: stay, order, side, store, _lock: lock }),
    )
}

/// Links everything of a store into a new directory, but for the paths in `left`.
pub(super) fn link_store(store: &Path, dir: &dyn OutputDir, left: &HashSet<String>) -> Result<()> {
    let to = dir.path().ok_or_else(|| Error::internal("a local directory is needed"))?;
    link_all(store, to, "", left)?;
    if let Ok(m) = fs::metadata(store) {
        let _ = fs::set_permissions(to, m.permissions());
    }
    Ok(())
}

/// The local path of a store that may be changed in place.
pub(super) fn local_store<'a>(at: &'a Location, what: &str) -> Result<&'a Path> {
    let Some(path) = at.local_path() else {
        return Err(Error::refused(format!("a remote store cannot be {what}"))
            .hint("change a local copy, then upload it"));
    };
    let kind = fs::symlink_metadata(path).map_err(Error::reading)?;
    if kind.is_symlink() {
        let target = fs::canonicalize(path)
            .map_or_else(|_| "its target".to_string(), |p| p.display().to_string());
        return Err(Error::exists(
            "the output is a symbolic link, and nothing is written through one",
        )
        .hint(format!("name {target}")));
    }
    if !kind.is_dir() || !path.join(METADATA).is_file() {
        return Err(Error::exists(format!("the output is not a store: it has no {METADATA}")));
    }
    Ok(path)
}

#[derive(Default)]
struct Gone {
    logical: HashSet<String>,
    stored: HashSet<String>,
}

/// The arrays of the store that those of the plan replace, with all their parts.
fn replaced(old: &StoreSource, plan: &Plan, replace: bool) -> Result<Gone> {
    let new: HashSet<&str> = plan
        .arrays
        .iter()
        .map(|a| a.name.as_str())
        .chain(plan.encoded.iter().map(|k| k.meta.name.as_str()))
        .collect();
    let (mut gone, mut errors) = (Gone::default(), Vec::new());
    // A nested array goes with all its parts.
    let mut parts_of_nested: HashSet<&str> = HashSet::new();
    for nested in old.plan().nested.iter().filter(|n| new.contains(n.name.as_str())) {
        parts_of_nested.extend(nested.parts.arrays());
        if !replace {
            let error = Error::exists("the store has an array of this name").array(&nested.name);
            errors.push(error.hint("use --force to replace it, or --rename"));
        }
    }
    for (meta, parts) in old.logical_arrays() {
        let stored = parts.indices().map(|i| &old.stored()[i].name);
        let part = parts_of_nested.contains(meta.name.as_str());
        if part
            || new.contains(meta.name.as_str())
            || stored.clone().any(|p| new.contains(p.as_str()))
        {
            if !replace && !part {
                let error = Error::exists("the store has an array of this name").array(&meta.name);
                errors.push(error.hint("use --force to replace it, or --rename"));
            }
            gone.logical.insert(meta.name.clone());
            gone.stored.extend(stored.cloned());
        }
    }
    Error::all(errors)?;
    Ok(gone)
}

/// Links everything below `from` into `to`, but for the paths in `left`.
/// Whether anything of a folder stays, or nothing was in it.
fn link_all(from: &Path, to: &Path, below: &str, left: &HashSet<String>) -> Result<bool> {
    let (mut stays, mut goes) = (false, false);
    for entry in fs::read_dir(from).map_err(Error::reading)? {
        let entry = entry.map_err(Error::reading)?;
        let name = entry.file_name();
        // Names that are not UTF-8 are foreign files: they are in nobody's list.
        let relative = format!("{below}{}", name.to_string_lossy());
        if left.contains(&relative) || below.is_empty() && directory::is_own(&relative) {
            goes = true;
            continue;
        }
        let _adding = cleanup::enter();
        let target = to.join(&name);
        if entry.file_type().map_err(Error::reading)?.is_dir() {
            fs::create_dir(&target)?;
            if let Ok(m) = entry.metadata() {
                let _ = fs::set_permissions(&target, m.permissions());
            }
            if below.matches('/').count() < 32 {
                match link_all(&entry.path(), &target, &format!("{relative}/"), left)? {
                    true => stays = true,
                    false => {
                        goes = true;
                        fs::remove_dir(&target)?;
                    }
                }
            } else {
                return Err(Error::refused("the store holds folders more than 32 deep"));
            }
            continue;
        }
        fs::hard_link(entry.path(), &target).map_err(|e| link_error(e, &name))?;
        stays = true;
    }
    Ok(stays || !goes)
}

fn link_error(e: std::io::Error, name: &OsStr) -> Error {
    Error::failed(format!(
        "{} cannot be hard-linked, so arrays cannot be merged here without rewriting the store",
        name.to_string_lossy()
    ))
    .because(e)
    .hint("convert the store and the new arrays together into another one")
}
