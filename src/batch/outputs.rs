//! Which sources make which outputs: one, one each, a file per array.

use super::inputs::{Found, Problem, check_shards, check_tables, expand, listed, place};
use crate::cli::ConvertArgs;
use crate::commands::convert::ConvertContext;
use crate::commands::{chosen, input_location, open, output_location, shown};
use crate::console::Voice;
use crate::detect;
use crate::error::{Error, Result};
use crate::format::{Arrays, Format, ReadOptions};
use crate::formats::numpack::store::names::Names;
use crate::storage;

/// Sources that make one output.
pub(crate) struct Conversion {
    pub(crate) sources: Vec<String>,
    /// Per source: the folders below the argument that found it, for the columns of `key=value`
    /// folders.
    pub(crate) below: Vec<String>,
    pub(crate) dst: String,
    /// Only this array of the source: an output of one array, made from a source of several.
    pub(crate) array: Option<String>,
    /// Why the source cannot be one.
    pub(crate) problem: Option<Problem>,
}

impl Conversion {
    /// The sources' names, to show.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.sources.iter().map(|s| shown(s)).collect()
    }
}

/// Which sources make which outputs.
pub(crate) fn conversions(job: &ConvertContext<'_>) -> Result<Vec<Conversion>> {
    let args = job.args;
    let mut paths = args.paths.clone();
    let dst = match &args.output {
        Some(dst) => dst.clone(),
        None if args.files_from.is_some() && paths.len() == 1 || paths.len() >= 2 => {
            paths.pop().unwrap_or_default()
        }
        None => {
            return Err(Error::usage(if paths.is_empty() {
                "there is nothing to convert"
            } else {
                "there is no destination"
            })
            .hint("npk convert SRC DST, or -o DST; `npk convert --help` shows examples"));
        }
    };
    let mut sources: Vec<Found> = Vec::new();
    for path in &paths {
        sources.extend(expand(path, args)?);
    }
    if let Some(list) = &args.files_from {
        sources.extend(listed(list, args.null, args)?);
    }
    let from_stdin = sources.iter().filter(|f| f.path == "-").count()
        + usize::from(args.files_from.as_deref() == Some("-"));
    if from_stdin > 1 {
        return Err(Error::usage("stdin can be read only once, it is given twice"));
    }
    if sources.is_empty() {
        return Err(Error::missing("there is no source").hint("npk convert SRC DST"));
    }
    let into_dir = dst != "-" && (dst.ends_with('/') || is_plain_directory(&dst, args)?);
    if !into_dir {
        sources.iter().try_for_each(Found::check)?;
        check_shards(job, &sources)?;
        check_tables(job, &sources)?;
        let (sources, below) = sources.into_iter().map(|f| (f.path, f.below)).unzip();
        return Ok(vec![Conversion { sources, below, dst, array: None, problem: None }]);
    }
    let Some(to) = &args.to else {
        return Err(Error::usage("an output directory needs --to FORMAT").file(dst));
    };
    let format = detect::named(to)?;
    if args.concat || args.prefix_by_file {
        return Err(
            Error::usage("--concat and --prefix-by-file make one output: give its name").file(dst)
        );
    }
    let named =
        format.spec().extensions.iter().find(|extension| extension.eq_ignore_ascii_case(to));
    let ending = named.or(format.spec().extensions.first()).copied().unwrap_or(format.spec().name);
    check_tables(job, &sources)?;
    let base = dst.trim_end_matches('/');
    let mut units: Vec<Conversion> = Vec::new();
    let mut seen: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for found in sources {
        let stem = place(&found.path, args)?.stem();
        let mut add = |dst: String, array: Option<String>| -> Result<()> {
            // What cannot be a source takes no name from another.
            if found.problem.is_none()
                && let Some(other) = seen.insert(dst.clone(), found.path.clone())
            {
                let error = Error::usage(format!(
                    "{} and {} would both become {dst}",
                    shown(&other),
                    shown(&found.path)
                ));
                return Err(error.hint("convert them into different directories"));
            }
            units.push(Conversion {
                sources: vec![found.path.clone()],
                below: Vec::new(),
                dst,
                array,
                problem: found.problem.clone(),
            });
            Ok(())
        };
        if found.problem.is_some() {
            add(format!("{base}/{}{stem}.{ending}", found.below), None)?;
            continue;
        }
        match one_file_each(job, &found.path, format) {
            Some(names) => {
                // A name is one file name here, escaped as in stores.
                let mut files = Names::with_ending(ending);
                for name in names {
                    add(format!("{base}/{}{}", found.below, files.give(&name)), Some(name))?;
                }
            }
            None => add(format!("{base}/{}{stem}.{ending}", found.below), None)?,
        }
    }
    Ok(units)
}

/// The names of the arrays that become a file each: of a source of several, for a format that holds
/// one, or a table that they do not make. What cannot be opened is reported when its turn comes.
fn one_file_each(job: &ConvertContext<'_>, path: &str, format: &dyn Format) -> Option<Vec<String>> {
    let arrays = format.spec().writes?.arrays;
    if arrays == Arrays::Many || path == "-" {
        return None;
    }
    let at = input_location(path, &job.args.read).ok()?;
    let read = ReadOptions { names_only: true, ..job.read.clone() };
    let opened =
        open(&at, job.args.read.from.as_deref(), &read, Voice { quiet: true, ..job.voice }).ok()?;
    let plan = opened.source.plan();
    let table = !plan.tables.is_empty()
        || opened.format.spec().writes.is_some_and(|h| h.arrays == Arrays::Table);
    let indices = chosen(opened.source.as_ref(), &job.args.choose).ok()?;
    if indices.len() < 2 || table {
        return None;
    }
    Some(indices.into_iter().map(|a| plan.arrays[a].name.clone()).collect())
}

/// An existing directory that is not a store.
fn is_plain_directory(dst: &str, args: &ConvertArgs) -> Result<bool> {
    let at = output_location(dst, &args.read)?;
    if at.is_remote() || at.kind()? != storage::Kind::Dir {
        return Ok(false);
    }
    let known = detect::input(&at).is_ok();
    // A directory named like a store format (out.npk) is one, even an empty or broken one.
    Ok(!known && detect::by_extension(&at.file_name()).is_none_or(|f| !f.spec().is_directory))
}
