//! Sources found by patterns, in directories and in lists of names.

use std::path::Path;

use super::context::ConvertContext;
use super::found::{FoundSource, Problem};
use crate::cli::ConvertArgs;
use crate::detect;
use crate::detect::folders::{TableLog, Tables, table_in};
use crate::error::{Error, ErrorKind, Result};
use crate::open::{known_location, shown};
use crate::resolve::names;
use crate::storage::walk::{Trail, Visited};
use crate::storage::{self, Location};

/// Directories deeper than this are a cycle of links.
const MAX_DEPTH: usize = 64;

/// Globs and, with `-R`, directories.
pub(crate) fn expand(path: &str, args: &ConvertArgs) -> Result<Vec<FoundSource>> {
    let is_url = path.contains("://");
    // Far away every question is a request: what has the name of a file is not asked whether it is
    // a directory.
    let is_file =
        || detect::by_extension(path).is_some() || detect::compressed_name(path).is_some();
    let may_be_folder = args.recursive || args.concat && !is_file();
    if path == "-"
        || is_url && !may_be_folder && !path.contains(['*', '?', '['])
        || path.starts_with("http") && is_url
    {
        return Ok(vec![FoundSource::new(path, "")]);
    }
    let at = known_location(path, &args.read)?;
    let kind = at.kind()?;
    if kind == storage::EntryKind::Missing && path.contains(['*', '?', '[']) {
        let found = if is_url { expand_url(path, args)? } else { expand_glob(path)? };
        return Ok(without_table_files(found, args));
    }
    if kind == storage::EntryKind::Dir && (args.recursive || args.concat) {
        let unknown = match detect::input(&at) {
            Ok(_) => return Ok(vec![FoundSource::new(path, "")]),
            Err(e) => e,
        };
        let mut walk = Walk {
            ignore_log: args.ignore_table_log,
            found: Vec::new(),
            visited: Visited::default(),
        };
        let path = path.trim_end_matches('/');
        match Tables::default().around(&at).filter(|_| !args.ignore_table_log) {
            Some((log, table)) => walk.found.push(FoundSource::table(path, "", log, table)),
            None => walk.folder(&at, path, "", &Trail::default())?,
        }
        if walk.found.is_empty() && unknown.kind() == ErrorKind::Refused {
            return Err(unknown);
        }
        if !args.recursive {
            walk.found.sort_by(|a, b| names::natural(&a.path, &b.path));
        }
        return Ok(walk.found);
    }
    Ok(vec![FoundSource::new(path, "")])
}

/// Whether this is the name of files that tables with a log are made of.
fn is_table_file(path: &str) -> bool {
    detect::by_extension(path).is_some_and(|f| f.spec().extensions.contains(&"parquet"))
}

/// Matches of a pattern inside of tables with a log: the first file of each stands for all, with
/// the table as its problem. If the log is to be ignored, only its own files are left out.
fn without_table_files(found: Vec<FoundSource>, args: &ConvertArgs) -> Vec<FoundSource> {
    let (mut tables, mut seen) = (Tables::default(), std::collections::HashSet::new());
    let mut around = |f: &FoundSource| match f.problem.is_none() && is_table_file(&f.path) {
        true => known_location(&f.path, &args.read).ok().and_then(|at| tables.around(&at.parent())),
        false => None,
    };
    found
        .into_iter()
        .filter_map(|f| match around(&f) {
            Some((log, _)) if args.ignore_table_log => {
                (!f.path.split('/').any(|folder| log.is_aside(folder))).then_some(f)
            }
            Some((log, table)) => {
                seen.insert(table.clone()).then(|| FoundSource::table(f.path, &f.below, log, table))
            }
            None => Some(f),
        })
        .collect()
}

/// Files of tables with a log that are given by their names: a note on each table; where several
/// files of one are joined, its refusal.
#[derive(Default)]
pub(crate) struct TableCheck {
    tables: Tables,
    /// Per table: its log, a file of it, and how many there are.
    found: indexmap::IndexMap<String, (TableLog, String, u64)>,
}

impl TableCheck {
    pub(crate) fn see(&mut self, job: &ConvertContext<'_>, source: &FoundSource) -> Result<()> {
        let known = source.problem.is_some() || !is_table_file(&source.path);
        if known || job.args.ignore_table_log {
            return Ok(());
        }
        let at = known_location(&source.path, &job.args.read)?;
        // Of a remote file that is named, only the file is asked for.
        if at.is_remote() || at.is_stream() {
            return Ok(());
        }
        if let Some((log, table)) = self.tables.around(&at.parent()) {
            self.found.entry(table).or_insert((log, source.path.clone(), 0)).2 += 1;
        }
        Ok(())
    }

    /// # Errors
    /// Refused: files of a table that are joined.
    pub(crate) fn tell(&self, job: &ConvertContext<'_>) -> Result<()> {
        for (table, (log, file, files)) in &self.found {
            if job.args.concat && *files > 1 {
                return Err(log.error(table));
            }
            job.note(&format!("{file}: {}", log.note(table)));
        }
        Ok(())
    }
}

/// Wildcards in keys.
#[cfg(feature = "remote")]
fn expand_url(pattern: &str, args: &ConvertArgs) -> Result<Vec<FoundSource>> {
    let mut found: Vec<FoundSource> =
        storage::remote::expand(pattern, &crate::open::remote_options(&args.read)?)?
            .into_iter()
            .map(|l| l.display())
            .map(|path| FoundSource::new(path.as_str(), &below(pattern, &path)))
            .collect();
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    Ok(found)
}

#[cfg(not(feature = "remote"))]
fn expand_url(pattern: &str, _args: &ConvertArgs) -> Result<Vec<FoundSource>> {
    expand_glob(pattern)
}

/// A part of a pattern, between two slashes.
enum PatternPart {
    /// A name taken literally.
    Name(String),
    /// `**`: any folders, or none.
    Folders,
    /// With wildcards.
    Wild(glob::Pattern),
}

/// Wildcards do not match a leading dot; links are followed.
fn expand_glob(pattern: &str) -> Result<Vec<FoundSource>> {
    let part = |text: &str| match text {
        "**" => Ok(PatternPart::Folders),
        _ if !text.contains(['*', '?', '[']) => Ok(PatternPart::Name(text.to_string())),
        _ => glob::Pattern::new(text).map(PatternPart::Wild),
    };
    let parts = pattern
        .split('/')
        .filter(|p| !p.is_empty())
        .map(part)
        .collect::<std::result::Result<Vec<PatternPart>, _>>();
    let parts =
        parts.map_err(|e| Error::usage(format!("'{pattern}' is not a pattern")).because(e))?;
    let mut found = Vec::new();
    matching(if pattern.starts_with('/') { "/" } else { "" }, &parts, 0, &mut found)?;
    if pattern.ends_with('/') {
        found.retain(|f| f.problem.is_some() || Path::new(&f.path).is_dir());
    }
    for f in &mut found {
        f.below = below(pattern, &f.path);
    }
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    found.dedup_by(|a, b| a.path == b.path && a.problem.is_none() && b.problem.is_none());
    if found.is_empty() {
        Err(Error::missing(format!("no file matches '{pattern}'")))
    } else {
        Ok(found)
    }
}

/// The folders of a match from the first wildcard on: they may be partitions, and the output keeps
/// them.
fn below(pattern: &str, path: &str) -> String {
    let fixed = pattern
        .find(['*', '?', '['])
        .and_then(|at| pattern[..at].rfind('/'))
        .map_or(0, |slash| slash + 1);
    path.get(fixed..)
        .and_then(|p| p.rfind('/').map(|slash| p[..=slash].to_string()))
        .unwrap_or_default()
}

/// What matches `parts` below `at`, which is empty or ends in a slash.
fn matching(
    at: &str,
    parts: &[PatternPart],
    depth: usize,
    found: &mut Vec<FoundSource>,
) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(FoundSource::new(at.strip_suffix('/').unwrap_or(at), ""));
        return Ok(());
    };
    if depth > MAX_DEPTH {
        return Err(
            Error::missing("the directories are nested too deeply (a loop of links?)").file(at)
        );
    }
    let wild = match part {
        PatternPart::Name(name) => {
            let path = format!("{at}{name}");
            if !Path::new(&path).exists() {
                return Ok(());
            }
            return matching(&format!("{path}/"), rest, depth, found);
        }
        PatternPart::Folders => {
            if !(at.is_empty() && rest.is_empty()) {
                matching(at, rest, depth, found)?;
            }
            None
        }
        PatternPart::Wild(wild) => Some(wild),
    };
    let options =
        glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
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
            None => found.push(FoundSource::unnamed(format!("{at}{shown}"), "")),
            Some(name) if wild.is_none() => {
                matching(&format!("{at}{name}/"), parts, depth + 1, found)?
            }
            Some(name) if rest.is_empty() => {
                found.push(FoundSource::new(format!("{at}{name}"), ""))
            }
            Some(name) => matching(&format!("{at}{name}/"), rest, depth, found)?,
        }
    }
    Ok(())
}

/// What a walk through a directory finds.
struct Walk {
    /// `--ignore-table-log`.
    ignore_log: bool,
    found: Vec<FoundSource>,
    visited: Visited,
}

impl Walk {
    /// Files and stores below a directory that npk knows by name or content; hidden ones are left
    /// out.
    fn folder(&mut self, at: &Location, path: &str, below: &str, above: &Trail) -> Result<()> {
        // One directory that cannot be read does not keep the others from being converted.
        let Some(trail) = self.visited.enter(above, at)? else {
            self.found.push(FoundSource::folder(path, below, Problem::Circle));
            return Ok(());
        };
        let (mut entries, unnamed) = match at.list_all() {
            Err(e) if !below.is_empty() && e.kind() != ErrorKind::Remote => {
                let why = e.reason();
                self.found.push(FoundSource::folder(path, below, Problem::Unreadable(why)));
                return Ok(());
            }
            listed => listed?,
        };
        let log = table_in(at, &entries);
        if let Some(log) = log.filter(|_| !self.ignore_log) {
            self.found.push(FoundSource::table(path, below, log, path.to_string()));
            return Ok(());
        }
        let shown = unnamed.iter().filter(|n| !n.starts_with('.'));
        self.found.extend(shown.map(|name| FoundSource::unnamed(format!("{path}/{name}"), below)));
        entries.sort_by(|a, b| names::natural(&a.name, &b.name));
        let files: std::collections::HashSet<&str> =
            entries.iter().filter(|e| !e.is_dir).map(|e| e.name.as_str()).collect();
        for entry in entries.iter().filter(|e| !e.name.starts_with('.')) {
            let (child, child_path) = (at.join(&entry.name), format!("{path}/{}", entry.name));
            if entry.is_dir {
                if log.is_some_and(|log| log.is_aside(&entry.name)) {
                    continue;
                }
                if detect::input(&child).is_ok() {
                    self.found.push(FoundSource::new(child_path, below));
                } else {
                    self.folder(&child, &child_path, &format!("{below}{}/", entry.name), &trail)?;
                }
            } else if is_known_file(&child, &entry.name, &files) {
                self.found.push(FoundSource::new(child_path, below));
            }
        }
        Ok(())
    }
}

/// Whether a file has the name of a format. Of `x.npy` and `x.npy.gz` side by side the second is a
/// copy; and the name alone does not make a format of what is compressed, as `x.bin.gz`.
fn is_known_file(at: &Location, name: &str, beside: &std::collections::HashSet<&str>) -> bool {
    let compressed =
        || detect::compressed_name(name).is_some_and(|(inner, _, _)| !beside.contains(inner));
    detect::by_extension(name).is_some() || compressed() && detect::is_compressed_file(at)
}

/// Shards (`-0000N-of-0000M`) that go into one output must be complete; a single one gets only a
/// note.
pub(crate) fn check_shards(job: &ConvertContext<'_>, sources: &[FoundSource]) -> Result<()> {
    use crate::formats::checkpoint::shards::Naming;
    let mut sets: std::collections::BTreeMap<(&str, &str, u32, &str), Vec<u32>> =
        std::collections::BTreeMap::new();
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
        let error = Error::missing(format!(
            "{} of {total} shards are given; {} is missing",
            have.len(),
            name(first)
        ));
        let error = if folder.is_empty() { error } else { error.file(shown(folder)) };
        return Err(error.hint("give all of them, or convert each on its own"));
    }
    Ok(())
}
