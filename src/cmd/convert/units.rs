//! Which sources make which outputs: globs, directories, lists of names, a file per array.

use super::*;

/// Which sources make which outputs.
pub(super) fn units(job: &Job<'_>) -> Result<Vec<Unit>> {
    let args = job.args;
    let mut paths = args.paths.clone();
    let dst = match &args.output {
        Some(dst) => dst.clone(),
        None if args.files_from.is_some() && paths.len() == 1 || paths.len() >= 2 => paths.pop().unwrap_or_default(),
        None => {
            return Err(Error::usage(if paths.is_empty() { "there is nothing to convert" } else { "where should it go?" })
                .hint("npk convert SRC DST, or -o DST; `npk convert --help` shows examples"));
        }
    };
    if let Some(list) = &args.files_from {
        paths.extend(files_from(list, args.null)?);
    }
    let mut sources: Vec<Found> = Vec::new();
    for path in &paths {
        sources.extend(expand(path, args)?);
    }
    let from_stdin = sources.iter().filter(|f| f.path == "-").count() + usize::from(args.files_from.as_deref() == Some("-"));
    if from_stdin > 1 {
        return Err(Error::usage("stdin can be read once, here it stands twice"));
    }
    if sources.is_empty() {
        return Err(Error::missing("there is no source").hint("npk convert SRC DST"));
    }
    let into_dir = dst != "-" && (dst.ends_with('/') || is_plain_directory(&dst, args)?);
    if !into_dir {
        let (sources, below) = sources.into_iter().map(|f| (f.path, f.below)).unzip();
        return Ok(vec![Unit { sources, below, dst, array: None }]);
    }
    let Some(to) = &args.to else {
        return Err(Error::usage("an output directory needs --to FORMAT").file(dst));
    };
    let format = detect::named(to)?;
    if args.concat || args.prefix_by_file {
        return Err(Error::usage("--concat and --prefix-by-file make one output: name it").file(dst));
    }
    let ending = format.extensions().first().copied().unwrap_or(format.name());
    let base = dst.trim_end_matches('/');
    let mut units: Vec<Unit> = Vec::new();
    let mut seen: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for found in sources {
        let stem = place(&found.path, args)?.stem();
        let mut add = |dst: String, array: Option<String>| -> Result<()> {
            if let Some(other) = seen.insert(dst.clone(), found.path.clone()) {
                let error = Error::usage(format!("{} and {} would both become {dst}", shown(&other), shown(&found.path)));
                return Err(error.hint("convert them into different directories"));
            }
            units.push(Unit { sources: vec![found.path.clone()], below: Vec::new(), dst, array });
            Ok(())
        };
        match one_file_each(job, &found.path, format) {
            Some(names) => {
                for name in names {
                    // A name is one file name here: what separates folders is escaped as in stores.
                    let file = name.replace('%', "%25").replace('/', "%2F");
                    add(format!("{base}/{}{file}.{ending}", found.below), Some(name))?;
                }
            }
            None => add(format!("{base}/{}{stem}.{ending}", found.below), None)?,
        }
    }
    Ok(units)
}

/// The names of the arrays that become a file each: of a source of several, for a format that holds one, or a table that
/// they do not make. What cannot be opened is reported when its turn comes.
fn one_file_each(job: &Job<'_>, path: &str, format: &dyn Format) -> Option<Vec<String>> {
    let arrays = format.holds()?.arrays;
    if arrays == Arrays::Many || path == "-" {
        return None;
    }
    let at = input_location(path, &job.args.read).ok()?;
    let opened = open(&at, job.args.read.from.as_deref(), &job.read, Voice { quiet: true, ..job.voice }).ok()?;
    let plan = opened.source.plan();
    let table = !plan.tables.is_empty() || opened.format.holds().is_some_and(|h| h.arrays == Arrays::Table);
    let chosen = crate::cmd::chosen(opened.source.as_ref(), &job.args.choose).ok()?;
    if chosen.len() < 2 || table {
        return None;
    }
    Some(chosen.into_iter().map(|a| plan.arrays[a].name.clone()).collect())
}

/// A source, and the folders below the argument that found it (`a/b/`).
struct Found {
    path: String,
    below: String,
}

fn files_from(list: &str, null: bool) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    let at = if list == "-" { Location::stdio() } else { Location::local(list) };
    std::io::Read::read_to_end(&mut at.stream()?, &mut bytes).map_err(|e| Error::reading(e).file(list))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::missing("the list of files is not UTF-8").file(list))?;
    let lines: Vec<&str> = if null { text.split('\0').collect() } else { text.lines().collect() };
    Ok(lines.into_iter().filter(|l| !l.is_empty()).map(str::to_string).collect())
}

/// Where a source is. A FIFO is not opened here: its writer would see it closed again.
fn place(path: &str, args: &ConvertArgs) -> Result<Location> {
    if path.contains("://") { input_location(path, &args.read) } else { Ok(Location::local(path)) }
}

/// Globs and, with `-R`, directories.
fn expand(path: &str, args: &ConvertArgs) -> Result<Vec<Found>> {
    let single = |p: &str| Found { path: p.to_string(), below: String::new() };
    let is_url = path.contains("://");
    if path == "-" || is_url && !args.recursive && !path.contains(['*', '?', '[']) || path.starts_with("http") && is_url {
        return Ok(vec![single(path)]);
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
    Ok(vec![single(path)])
}

/// Wildcards in keys.
#[cfg(feature = "remote")]
fn expand_url(pattern: &str, args: &ConvertArgs) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = location::remote::expand(pattern, &crate::cmd::remote_options(&args.read)?)?
        .into_iter()
        .map(|l| l.display())
        .map(|path| Found { below: below(pattern, &path), path })
        .collect();
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    Ok(found)
}

#[cfg(not(feature = "remote"))]
fn expand_url(pattern: &str, _args: &ConvertArgs) -> Result<Vec<Found>> {
    expand_glob(pattern)
}

fn expand_glob(pattern: &str) -> Result<Vec<Found>> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(pattern, options).map_err(|e| Error::usage(format!("'{pattern}' is no pattern")).because(e))?;
    let mut found = Vec::new();
    for m in matches {
        let path = m.map_err(|e| Error::missing("cannot read a directory").because(e))?.to_string_lossy().into_owned();
        found.push(Found { below: below(pattern, &path), path });
    }
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    if found.is_empty() { Err(Error::missing(format!("no file matches '{pattern}'"))) } else { Ok(found) }
}

/// The folders of a match from the first wildcard on: they may be partitions, and the output keeps them.
fn below(pattern: &str, path: &str) -> String {
    let fixed = pattern.find(['*', '?', '[']).and_then(|at| pattern[..at].rfind('/')).map_or(0, |slash| slash + 1);
    path.get(fixed..).and_then(|p| p.rfind('/').map(|slash| p[..=slash].to_string())).unwrap_or_default()
}

/// Files and stores below a directory that npk knows by name or content; hidden ones are left out.
fn walk(at: &Location, path: &str, below: &str, depth: u32, found: &mut Vec<Found>) -> Result<()> {
    if depth > 64 {
        return Err(Error::missing("the directories are nested too deeply (a cycle of links?)").file(path));
    }
    let mut entries = at.list()?;
    entries.sort_by(|a, b| names::natural(&a.name, &b.name));
    for entry in entries.into_iter().filter(|e| !e.name.starts_with('.')) {
        let (child, child_path) = (at.join(&entry.name), format!("{path}/{}", entry.name));
        if entry.is_dir {
            if detect::input(&child).is_ok() {
                found.push(Found { path: child_path, below: below.to_string() });
            } else {
                walk(&child, &child_path, &format!("{below}{}/", entry.name), depth + 1, found)?;
            }
        } else if detect::by_extension(&entry.name).is_some() {
            found.push(Found { path: child_path, below: below.to_string() });
        }
    }
    Ok(())
}

/// An existing directory that is no store.
fn is_plain_directory(dst: &str, args: &ConvertArgs) -> Result<bool> {
    let at = output_location(dst, &args.read)?;
    if at.is_remote() || at.kind()? != location::Kind::Dir {
        return Ok(false);
    }
    let known = detect::input(&at).is_ok();
    // A directory named like a store format (out.npk) is one, even an empty or broken one.
    Ok(!known && detect::by_extension(&at.file_name()).is_none_or(|f| !f.is_directory()))
}
