//! Globs and recursive listings of remote places.

use std::sync::Arc;

use super::connection::RemoteBackend;
use super::open::{backend, open};
use super::options::RemoteOptions;
use super::url;
use crate::error::{Context, Error, Result};
use crate::storage::{Backend, EntryKind, Location};

const MAGIC: [char; 3] = ['*', '?', '['];

/// The locations that a URL with wildcards (`*`, `?`, `[…]`, `**` for any depth) stands for, in the
/// order of their keys. An object whose key really has these characters is meant itself; so is a
/// URL without them, whether it is there or not.
///
/// # Errors
/// Remote errors; missing where nothing matches.
pub fn expand(url: &str, options: &RemoteOptions) -> Result<Vec<Location>> {
    let target = url::parse(url).at_file(&url::mask(url))?;
    if target.scheme == url::Scheme::Http || !target.key.contains(MAGIC) {
        return Ok(vec![open(url, options)?]);
    }
    let given = open(url, options)?;
    let backend = backend(&target, url, options)?;
    let mut found = Vec::new();
    let work = || -> Result<()> {
        if backend.kind(&target.key)? != EntryKind::Missing {
            found.push(target.key.clone());
            return Ok(());
        }
        let parts: Vec<&str> = target.key.trim_end_matches('/').split('/').collect();
        level(&backend, "", &parts, &mut found)
    };
    let mut work = work;
    work().at_file(&given.display())?;
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(Error::missing("nothing matches").file(given.display()));
    }
    Ok(found
        .into_iter()
        .map(|key| Location::remote(backend.clone() as Arc<dyn Backend>, key))
        .collect())
}

/// Matches `parts` below `base` (empty, or ending in `/`).
fn level(
    backend: &RemoteBackend,
    base: &str,
    parts: &[&str],
    found: &mut Vec<String>,
) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    if *part == "**" {
        for object in backend.walk(base)? {
            let below = object.key.get(base.len()..).unwrap_or_default();
            if rest.is_empty() || matches_any_depth(below, rest)? {
                found.push(object.key.clone());
            }
        }
        return Ok(());
    }
    if !part.contains(MAGIC) {
        let key = format!("{base}{part}");
        if rest.is_empty() {
            if backend.kind(&key)? != EntryKind::Missing {
                found.push(key);
            }
            return Ok(());
        }
        return level(backend, &format!("{key}/"), rest, found);
    }
    let pattern = pattern(part)?;
    let literal = part.split(MAGIC).next().unwrap_or_default();
    for entry in backend.level(&format!("{base}{literal}"))? {
        // As in a shell: a leading dot must be asked for.
        if entry.name.starts_with('.') && !part.starts_with('.') || !pattern.matches(&entry.name) {
            continue;
        }
        if rest.is_empty() {
            found.push(format!("{base}{}", entry.name));
        } else if entry.is_dir {
            level(backend, &format!("{base}{}/", entry.name), rest, found)?;
        }
    }
    Ok(())
}

fn pattern(text: &str) -> Result<glob::Pattern> {
    glob::Pattern::new(text).map_err(|e| Error::usage(format!("'{text}' is not a pattern: {e}")))
}

/// Whether the last parts of a key match.
fn matches_any_depth(key: &str, parts: &[&str]) -> Result<bool> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let whole = pattern(&parts.join("/"))?;
    let mut rest = Some(key);
    while let Some(key) = rest {
        if whole.matches_with(key, options) {
            return Ok(true);
        }
        rest = key.split_once('/').map(|(_, r)| r);
    }
    Ok(false)
}

/// All objects below a location, in the order of their keys, each with its path below it.
///
/// # Errors
/// Remote errors; refused for web servers.
pub fn walk(location: &Location) -> Result<Vec<(String, Location)>> {
    let Some((backend, key)) = location.as_remote() else { return Ok(Vec::new()) };
    let base = key.trim_end_matches('/');
    let mut found: Vec<(String, Location)> = backend
        .walk(key)
        .at_file(&location.display())?
        .into_iter()
        .map(|(relative, _)| {
            let key = if base.is_empty() { relative.clone() } else { format!("{base}/{relative}") };
            (relative, Location::remote(backend.clone(), key))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}
