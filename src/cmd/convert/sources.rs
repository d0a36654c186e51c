//! Sources found by patterns, in directories and in lists of names.

use std::path::Path;

use super::*;

/// Directories deeper than this are a cycle of links.
const DEEPEST: usize = 64;

/// A source, and the folders below the argument that found it (`a/b/`).
pub(super) struct Found {
    pub(super) path: String,
    pub(super) below: String,
    /// Its name is not UTF-8: it cannot be opened by what `path` shows.
    pub(super) unnamed: bool,
}

impl Found {
    pub(super) fn new(path: impl Into<String>, below: &str) -> Found {
        Found { path: path.into(), below: below.to_string(), unnamed: false }
    }
    fn unnamed(path: impl Into<String>, below: &str) -> Found {
        Found { unnamed: true, ..Found::new(path, below) }
    }
    /// Whether it can be opened by its name.
    pub(super) fn check(&self) -> Result<()> {
        if self.unnamed { Err(not_utf8(&self.path)) } else { Ok(()) }
    }
}

/// The error of a file whose name is not UTF-8.
pub(super) fn not_utf8(path: &str) -> Error {
    Error::missing("its name is not UTF-8")
        .file(path)
        .hint("rename it, or give its content on stdin: npk convert - DST --from FORMAT < FILE")
}

/// The names in a list of files.
pub(super) fn listed(list: &str, null: bool, args: &ConvertArgs) -> Result<Vec<Found>> {
    let mut bytes = Vec::new();
    let at = if list == "-" { Location::stdio() } else { Location::input(list)? };
    std::io::Read::read_to_end(&mut at.stream()?, &mut bytes).map_err(|e| Error::reading(e).file(list))?;
    let mut found = Vec::new();
    for line in bytes.split(|&b| b == if null { 0 } else { b'\n' }) {
        let line = if null { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        match std::str::from_utf8(line) {
            Ok("") => {}
            Ok(path) => found.extend(expand(path, args)?),
            Err(_) => found.push(Found::unnamed(String::from_utf8_lossy(line), "")),
        }
    }
    Ok(found)
}

/// Where a source is. A FIFO is not opened here: its writer would see it closed again.
pub(super) fn place(path: &str, args: &ConvertArgs) -> Result<Location> {
    if path.contains("://") { input_location(path, &args.read) } else { Ok(Location::local(path)) }
}

/// Globs and, with `-R`, directories.
pub(super) fn expand(path: &str, args: &ConvertArgs) -> Result<Vec<Found>> {
    let is_url = path.contains("://");
    if path == "-" || is_url && !args.recursive && !path.contains(['*', '?', '[']) || path.starts_with("http") && is_url {
        return Ok(vec![Found::new(path, "")]);
    }
    let at = place(path, args)?;
    let kind = at.kind()?;
    if kind == location::Kind::Missing && path.contains(['*', '?', '[']) {
        return if is_url { expand_url(path, args) } else { expand_glob(path) };
    }
    if kind == location::Kind::Dir && args.recursive && detect::input(&at).is_err() {
        let mut found = Vec::new();
        walk(&at, path.trim_end_matches('/'), "", 0, &mut found)?;
        return Ok(found);
    }
    if kind == location::Kind::Dir && args.concat && detect::input(&at).is_err() {
        let mut found = Vec::new();
        walk(&at, path.trim_end_matches('/'), "", 0, &mut found)?;
        found.sort_by(|a, b| names::natural(&a.path, &b.path));
        return Ok(found);
    }
    Ok(vec![Found::new(path, "")])
}

/// Wildcards in keys.
#[cfg(feature = "remote")]
fn expand_url(pattern: &str, args: &ConvertArgs) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = location::remote::expand(pattern, &crate::cmd::remote_options(&args.read)?)?
        .into_iter()
        .map(|l| l.display())
        .map(|path| Found::new(path.as_str(), &below(pattern, &path)))
        .collect();
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    Ok(found)
}

#[cfg(not(feature = "remote"))]
fn expand_url(pattern: &str, _args: &ConvertArgs) -> Result<Vec<Found>> {
    expand_glob(pattern)
}

/// A part of a pattern, between two slashes.
enum Part {
    /// A name taken literally.
    Name(String),
    /// `**`: any folders, or none.
    Folders,
    /// With wildcards.
    Wild(glob::Pattern),
}

/// Wildcards do not match a leading dot; links are followed.
fn expand_glob(pattern: &str) -> Result<Vec<Found>> {
    let part = |text: &str| match text {
        "**" => Ok(Part::Folders),
        _ if !text.contains(['*', '?', '[']) => Ok(Part::Name(text.to_string())),
        _ => glob::Pattern::new(text).map(Part::Wild),
    };
    let parts = pattern.split('/').filter(|p| !p.is_empty()).map(part).collect::<std::result::Result<Vec<Part>, _>>();
    let parts = parts.map_err(|e| Error::usage(format!("'{pattern}' is not a pattern")).because(e))?;
    let mut found = Vec::new();
    matching(if pattern.starts_with('/') { "/" } else { "" }, &parts, 0, &mut found)?;
    if pattern.ends_with('/') {
        found.retain(|f| f.unnamed || Path::new(&f.path).is_dir());
    }
    for f in &mut found {
        f.below = below(pattern, &f.path);
    }
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    found.dedup_by(|a, b| a.path == b.path && !a.unnamed && !b.unnamed);
    if found.is_empty() { Err(Error::missing(format!("no file matches '{pattern}'"))) } else { Ok(found) }
}

/// The folders of a match from the first wildcard on: they may be partitions, and the output keeps them.
fn below(pattern: &str, path: &str) -> String {
    let fixed = pattern.find(['*', '?', '[']).and_then(|at| pattern[..at].rfind('/')).map_or(0, |slash| slash + 1);
    path.get(fixed..).and_then(|p| p.rfind('/').map(|slash| p[..=slash].to_string())).unwrap_or_default()
}

/// What matches `parts` below `at`, which is empty or ends in a slash.
fn matching(at: &str, parts: &[Part], depth: usize, found: &mut Vec<Found>) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(Found::new(at.strip_suffix('/').unwrap_or(at), ""));
        return Ok(());
    };
    if depth > DEEPEST {
        return Err(Error::missing("the directories are nested too deeply (a loop of links?)").file(at));
    }
    let wild = match part {
        Part::Name(name) => {
            let path = format!("{at}{name}");
            if !Path::new(&path).exists() {
                return Ok(());
            }
            return matching(&format!("{path}/"), rest, depth, found);
        }
        Part::Folders => {
            if !(at.is_empty() && rest.is_empty()) {
                matching(at, rest, depth, found)?;
            }
            None
        }
        Part::Wild(wild) => Some(wild),
    };
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let folder = if at.is_empty() { Path::new(".") } else { Path::new(at) };
    if !folder.is_dir() {
        return Ok(());
    }
    let reading = |e: std::io::Error| Error::missing("cannot read a directory").because(e).file(at);
    for entry in std::fs::read_dir(folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        let takes = match wild {
            Some(wild) => wild.matches_with(&shown, options),
            None => !shown.starts_with('.') && entry.path().is_dir(),
        };
        if !takes {
            continue;
        }
        match name.to_str() {
            None => found.push(Found::unnamed(format!("{at}{shown}"), "")),
            Some(name) if wild.is_none() => matching(&format!("{at}{name}/"), parts, depth + 1, found)?,
            Some(name) if rest.is_empty() => found.push(Found::new(format!("{at}{name}"), "")),
            Some(name) => matching(&format!("{at}{name}/"), rest, depth, found)?,
        }
    }
    Ok(())
}

/// Files and stores below a directory that npk knows by name or content; hidden ones are left out.
fn walk(at: &Location, path: &str, below: &str, depth: usize, found: &mut Vec<Found>) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::missing("the directories are nested too deeply (a loop of links?)").file(path));
    }
    let (mut entries, unnamed) = at.list_all()?;
    let shown = unnamed.iter().filter(|n| !n.starts_with('.'));
    found.extend(shown.map(|name| Found::unnamed(format!("{path}/{name}"), below)));
    entries.sort_by(|a, b| names::natural(&a.name, &b.name));
    for entry in entries.into_iter().filter(|e| !e.name.starts_with('.')) {
        let (child, child_path) = (at.join(&entry.name), format!("{path}/{}", entry.name));
        if entry.is_dir {
            if detect::input(&child).is_ok() {
                found.push(Found::new(child_path, below));
            } else {
                walk(&child, &child_path, &format!("{below}{}/", entry.name), depth + 1, found)?;
            }
        } else if detect::by_extension(&entry.name).is_some() {
            found.push(Found::new(child_path, below));
        }
    }
    Ok(())
}

/// Shards (`-0000N-of-0000M`) that go into one output must be complete; a single one gets only a note.
pub(super) fn check_shards(job: &Job<'_>, sources: &[Found]) -> Result<()> {
    use crate::codec::shards::Naming;
    let mut sets: std::collections::BTreeMap<(&str, &str, u32, &str), Vec<u32>> = std::collections::BTreeMap::new();
    for found in sources {
        let (folder, name) = found.path.rsplit_once('/').unwrap_or(("", &found.path));
        for extension in ["safetensors", "bin", "pt", "pth", "ckpt"] {
            if let Some((stem, number, total)) = (Naming { extension }).shard(name) {
                sets.entry((folder, stem, total, extension)).or_default().push(number);
            }
        }
    }
    for ((folder, stem, total, extension), mut have) in sets {
        have.sort_unstable();
        have.dedup();
        if have.len() >= total as usize {
            continue;
        }
        let naming = Naming { extension };
        let name = |n: u32| naming.shard_name(stem, n as usize, total as usize);
        if let [only] = have[..] {
            job.note(&format!("{} is one of {total} shards: the others are not read", name(only)));
            continue;
        }
        let first = (1..=total).find(|n| !have.contains(n)).unwrap_or(total);
        let error = Error::missing(format!("{} of {total} shards are given; {} is missing", have.len(), name(first)));
        let error = if folder.is_empty() { error } else { error.file(shown(folder)) };
        return Err(error.hint("give all of them, or convert each on its own"));
    }
    Ok(())
}
