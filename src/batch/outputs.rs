//! Which sources make which outputs: one, one each, a file per array.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Seek, Write};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tempfile::SpooledTempFile;

use super::context::ConvertContext;
use super::found::{FoundSource, Listed, Problem};
use super::inputs::{TableCheck, check_shards, expand};
use super::lists::listed;
use super::shares::{Shard, hash64};
use super::survey::{self, Survey};
use crate::cli::{ConvertArgs, IfExists};
use crate::console::Console;
use crate::detect;
use crate::error::{Error, ErrorKind, Result, locked};
use crate::format::{Arrays, Format, ReadOptions};
use crate::formats::numpack::store::names::Names;
use crate::open::{chosen, input_location, known_location, open, output_location, shown};
use crate::resolve::table::Layout;
use crate::storage::{self, temporary};

/// Sources that make one output.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Conversion {
    pub(crate) sources: Vec<String>,
    /// Per source: the folders below the argument that found it, for the columns of `key=value`
    /// folders.
    pub(crate) below: Vec<String>,
    pub(crate) dst: String,
    /// The output's name below the destination.
    pub(crate) key: String,
    /// The same of the unit that it is a part of, which its share depends on.
    pub(crate) unit: String,
    /// Only this array of the source: an output of one array, made from a source of several.
    pub(crate) array: Option<String>,
    /// Why the source cannot be one.
    pub(crate) problem: Option<Problem>,
    /// What the list says about the source.
    pub(crate) listed: Option<Listed>,
    /// Whether each share makes a part of it.
    pub(crate) shared: bool,
    /// Whether it is known that the source makes this one output.
    settled: bool,
}

impl Conversion {
    /// The sources' names, to show.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.sources.iter().map(|s| shown(s)).collect()
    }
}

/// The units of a run. The names of a million are not held in memory: beyond a few they are in a
/// temporary file.
pub(crate) struct Conversions {
    /// How many of them belong to this share.
    pub(crate) count: u64,
    /// How many sources all shares have.
    sources: u64,
    /// What names the outputs, where each source makes one.
    pub(crate) kind: Option<survey::Kind>,
    /// Whether a source may make several outputs.
    pub(crate) several: bool,
    /// Whether a source or the destination is remote.
    pub(crate) remote: bool,
    /// Whether there is one output, of which each share makes a part.
    pub(crate) shared: bool,
    ending: String,
    /// What keys are below; empty for the working directory.
    pub(crate) base: String,
    units: Mutex<BufReader<SpooledTempFile>>,
    taken: Mutex<Taken>,
}

/// The keys that are taken. Two that differ have different hashes, or else are looked for in what
/// was written.
#[derive(Default)]
struct Taken {
    hashes: HashSet<u64>,
    /// The files per array of sources that were looked into while others were converted, each with
    /// its source.
    files: HashMap<String, String>,
}

/// Units up to here stay in memory.
const SPOOLED_BYTES: usize = 4 << 20;

/// Which sources make which outputs. Nothing of a list is asked for, neither a listing nor an
/// object.
///
/// # Errors
/// Usage: no source, no destination, outputs that clash; what cannot be listed.
pub(crate) fn conversions(job: &ConvertContext<'_>) -> Result<Conversions> {
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
    let into_directory = dst != "-" && (dst.ends_with('/') || is_plain_directory(&dst, args)?);
    if into_directory && args.finish {
        return Err(no_shares(&dst));
    }
    let mut planner =
        if into_directory { Planner::into_directory(job, &dst)? } else { Planner::one_output(job) };
    planner.from_stdin = usize::from(args.files_from.as_deref() == Some("-"));
    for path in &paths {
        expand(path, args)?.into_iter().try_for_each(|found| planner.add(found))?;
    }
    if let Some(list) = &args.files_from {
        listed(list, args, &mut |found| planner.add(found))?;
    }
    if planner.sources == 0 {
        return Err(Error::missing("there is no source").hint("npk convert SRC DST"));
    }
    if !into_directory {
        planner.one(dst)?;
    }
    planner.finish()
}

/// Takes the sources one after the other.
struct Planner<'a> {
    job: &'a ConvertContext<'a>,
    shard: Shard,
    /// The format that each source becomes, where each has an output of its own.
    format: Option<&'static dyn Format>,
    ending: String,
    base: String,
    /// How many sources came, of all shares.
    sources: u64,
    from_stdin: usize,
    /// Whether one of them is remote.
    remote: bool,
    /// Whether all shares make the one output.
    shared: bool,
    tables: TableCheck,
    /// The sources of one output.
    together: Vec<FoundSource>,
    spool: SpooledTempFile,
    count: u64,
    taken: Taken,
}

impl<'a> Planner<'a> {
    fn one_output(job: &'a ConvertContext<'a>) -> Planner<'a> {
        Planner {
            job,
            shard: job.shard.unwrap_or(Shard::WHOLE),
            format: None,
            ending: String::new(),
            base: String::new(),
            sources: 0,
            from_stdin: 0,
            remote: false,
            shared: false,
            tables: TableCheck::default(),
            together: Vec::new(),
            spool: SpooledTempFile::new(SPOOLED_BYTES),
            count: 0,
            taken: Taken::default(),
        }
    }

    fn into_directory(job: &'a ConvertContext<'a>, dst: &str) -> Result<Planner<'a>> {
        let args = job.args;
        let Some(to) = &args.to else {
            return Err(Error::usage("an output directory needs --to FORMAT").file(dst));
        };
        let format = detect::named(to)?;
        if args.concat || args.prefix_by_file {
            let error =
                Error::usage("--concat and --prefix-by-file make one output: give its name");
            return Err(error.file(dst));
        }
        let named = format.spec().extensions.iter().find(|e| e.eq_ignore_ascii_case(to));
        let ending =
            named.or(format.spec().extensions.first()).copied().unwrap_or(format.spec().name);
        Ok(Planner {
            format: Some(format),
            ending: ending.to_string(),
            base: dst.trim_end_matches('/').to_string(),
            ..Planner::one_output(job)
        })
    }

    fn add(&mut self, found: FoundSource) -> Result<()> {
        self.sources += 1;
        self.remote |= found.path.contains("://");
        self.from_stdin += usize::from(found.path == "-");
        if self.from_stdin > 1 {
            return Err(Error::usage("stdin can be read only once, it is given twice"));
        }
        let Some(format) = self.format else {
            self.together.push(found);
            return Ok(());
        };
        let stem = known_location(&found.path, &self.job.args.read)?.stem();
        let key = format!("{}{stem}.{}", found.below, self.ending);
        if found.problem.is_none() {
            self.tables.see(self.job, &found)?;
        }
        // A list may be long: what is in its files is looked at when their turn comes.
        let args = self.job.args;
        let later = args.files_from.is_some() || args.report.is_some() || self.job.shard.is_some();
        let names = if found.problem.is_some() || later {
            None
        } else {
            one_file_each(self.job, &found.path, format)
        };
        let unit = |key: String, array: Option<String>| Conversion {
            sources: vec![found.path.clone()],
            dst: format!("{}/{key}", self.base),
            unit: key.clone(),
            key,
            array,
            problem: found.problem.clone(),
            listed: found.listed.clone(),
            settled: !later || format_holds_many(format),
            ..Conversion::default()
        };
        let units: Vec<Conversion> = match names {
            None => vec![unit(key, None)],
            Some(names) => file_names(&found.below, &self.ending, names)
                .map(|(k, a)| unit(k, Some(a)))
                .collect(),
        };
        let shard = self.shard;
        units.into_iter().filter(|u| shard.holds(&u.key)).try_for_each(|u| self.write(&u))
    }

    /// All sources as one unit.
    fn one(&mut self, dst: String) -> Result<()> {
        let found = std::mem::take(&mut self.together);
        found.iter().try_for_each(FoundSource::check)?;
        check_shards(self.job, &found)?;
        found.iter().try_for_each(|f| self.tables.see(self.job, f))?;
        let at = output_location(&dst, &self.job.args.read)?;
        let key = at.file_name();
        let format = detect::output(&at, self.job.args.to.as_deref());
        // References are one small file.
        let can_share = !self.job.args.refer && format.is_ok_and(|format| format.is_shared(&at));
        self.shared = can_share && (self.job.shard.is_some() || self.job.args.finish);
        if self.job.args.finish && !can_share {
            return Err(no_shares(&dst));
        }
        if !self.shared && !self.shard.holds(&key) {
            return Ok(());
        }
        let listed = if let [one] = &found[..] { one.listed.clone() } else { None };
        let (sources, below) = found.into_iter().map(|f| (f.path, f.below)).unzip();
        self.base = dst.strip_suffix(&key).unwrap_or_default().trim_end_matches('/').to_string();
        let unit = key.clone();
        self.write(&Conversion {
            sources,
            below,
            dst,
            key,
            unit,
            listed,
            shared: self.shared,
            settled: true,
            ..Conversion::default()
        })
    }

    fn write(&mut self, unit: &Conversion) -> Result<()> {
        // What cannot be a source takes no name from another.
        if unit.problem.is_none() && !self.taken.hashes.insert(hash64(&unit.key)) {
            self.check_clash(unit)?;
        }
        let mut line = serde_json::to_vec(unit).map_err(unwritable)?;
        line.push(b'\n');
        self.spool.write_all(&line).map_err(temporary::error)?;
        self.count += 1;
        Ok(())
    }

    /// The unit that has the same key, if it is not only the hash that is the same.
    fn check_clash(&mut self, unit: &Conversion) -> Result<()> {
        let end = self.spool.stream_position().map_err(temporary::error)?;
        self.spool.rewind().map_err(temporary::error)?;
        let mut before = BufReader::new(&mut self.spool);
        while let Some(other) = next(&mut before)? {
            if other.problem.is_none() && other.key == unit.key {
                let error = clash(&shown(&other.sources[0]), &shown(&unit.sources[0]), &unit.dst);
                let flat = self.job.args.files_from.is_some() && !self.job.args.recursive;
                return Err(match flat {
                    true => error.hint("-R keeps the folders of the names in a list"),
                    false => error,
                });
            }
        }
        drop(before);
        self.spool.seek(std::io::SeekFrom::Start(end)).map_err(temporary::error)?;
        Ok(())
    }

    fn finish(mut self) -> Result<Conversions> {
        self.tables.tell(self.job)?;
        self.spool.rewind().map_err(temporary::error)?;
        Ok(Conversions {
            count: self.count,
            sources: self.sources,
            kind: self.format.map(|format| survey::Kind::new(&self.ending, format)),
            remote: self.remote || self.base.contains("://"),
            shared: self.shared,
            several: self.format.is_some_and(|format| !format_holds_many(format)),
            ending: self.ending,
            base: self.base,
            units: Mutex::new(BufReader::new(self.spool)),
            taken: Mutex::new(self.taken),
        })
    }
}

impl Conversions {
    /// The next unit; each comes once, to whichever thread asks.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn next(&self) -> Result<Option<Conversion>> {
        next(&mut *locked(&self.units))
    }

    /// What is there of the outputs, where the destination is remote and may have some: one listing
    /// in place of questions for each of them.
    ///
    /// # Errors
    /// What cannot be listed.
    pub(crate) fn survey(&self, job: &ConvertContext<'_>) -> Result<Option<Survey>> {
        let at = output_location(&self.base, &job.args.read)?;
        let (Some(kind), false) = (&self.kind, self.several) else { return Ok(None) };
        let asks = matches!(job.if_exists, IfExists::Skip | IfExists::Error);
        if !asks || !at.is_remote() || self.count < 2 {
            return Ok(None);
        }
        match Survey::of(&at, kind, self.count, &|hash| locked(&self.taken).hashes.contains(&hash))
        {
            // Who may write need not be allowed to list.
            Err(e) if e.kind() == ErrorKind::Remote => Ok(None),
            survey => survey,
        }
    }

    /// What a unit comes to: itself, or an output for each array of its source.
    ///
    /// # Errors
    /// Usage: outputs that clash with those of another source, or might with those of another
    /// share.
    pub(crate) fn settled(
        &self,
        job: &ConvertContext<'_>,
        unit: Conversion,
    ) -> Result<Vec<Conversion>> {
        let (false, None) = (unit.settled, &unit.problem) else { return Ok(vec![unit]) };
        let format = detect::named(job.args.to.as_deref().unwrap_or_default())?;
        let Some(names) = one_file_each(job, &unit.sources[0], format) else {
            return Ok(vec![unit]);
        };
        if job.shard.is_some_and(|s| s.count > 1) && self.sources > 1 {
            return Err(Error::usage(format!(
                "it holds {} arrays: a file for each of them could meet those of another share",
                names.len()
            ))
            .hint("choose one with -a, or a format that holds several, as npz"));
        }
        let below =
            unit.key.rsplit_once('/').map_or("", |(folders, _)| &unit.key[..=folders.len()]);
        let mut taken = locked(&self.taken);
        let mut units = Vec::new();
        for (key, array) in file_names(below, &self.ending, names) {
            let (dst, source) = (format!("{}/{key}", self.base), shown(&unit.sources[0]));
            if let Some(other) = taken.files.insert(key.clone(), source.clone()) {
                return Err(clash(&other, &source, &dst));
            }
            if key != unit.key && taken.hashes.contains(&hash64(&key)) {
                return Err(clash("another source", &source, &dst));
            }
            units.push(Conversion { key, dst, array: Some(array), ..unit.clone() });
        }
        Ok(units)
    }
}

/// The key of each array's file. A name is one file name here, escaped as in stores.
fn file_names(
    below: &str,
    ending: &str,
    names: Vec<String>,
) -> impl Iterator<Item = (String, String)> {
    let mut files = Names::with_ending(ending);
    names.into_iter().map(move |name| (format!("{below}{}", files.give(&name)), name))
}

fn no_shares(dst: &str) -> Error {
    let error = Error::usage("--finish is for one Zarr directory that shares have written");
    error.file(shown(dst)).hint("the outputs of other batches are complete as they are")
}

fn clash(one: &str, other: &str, dst: &str) -> Error {
    Error::usage(format!("{one} and {other} would both become {dst}"))
        .hint("convert them into different directories")
}

fn next(units: &mut impl BufRead) -> Result<Option<Conversion>> {
    let mut line = Vec::new();
    units.read_until(b'\n', &mut line).map_err(temporary::error)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(unwritable)
}

#[track_caller]
fn unwritable(error: serde_json::Error) -> Error {
    Error::internal(format!("a unit of the batch: {error}"))
}

fn format_holds_many(format: &dyn Format) -> bool {
    format.spec().writes.is_none_or(|w| w.arrays == Arrays::Many)
}

/// The names of the arrays that become a file each: of a source of several, for a format that holds
/// one, or a table that they do not make; where one array is held, with `--layout columns` also of
/// the columns of a table.
/// What cannot be opened is reported when its turn comes.
fn one_file_each(job: &ConvertContext<'_>, path: &str, format: &dyn Format) -> Option<Vec<String>> {
    if format_holds_many(format) || path == "-" {
        return None;
    }
    let at = input_location(path, &job.args.read).ok()?;
    let read = ReadOptions { names_only: true, ..job.read.clone() };
    let opened =
        open(&at, job.args.read.from.as_deref(), &read, Console { quiet: true, ..job.console })
            .ok()?;
    let plan = opened.flow.plan();
    let table = !plan.tables.is_empty()
        || opened.format.spec().writes.is_some_and(|w| w.arrays == Arrays::Table);
    let chosen = chosen(opened.flow, &job.args.choose).ok()?;
    let arrays = &chosen.plan().arrays;
    // The columns of a table may be one array, unless it was said that they are not.
    let holds_one = format.spec().writes.is_some_and(|w| w.arrays == Arrays::One);
    let cut = holds_one && job.layout == Layout::Columns;
    if arrays.len() < 2 || table && !cut {
        return None;
    }
    Some(arrays.iter().map(|a| a.name.clone()).collect())
}

/// An existing directory that is not a store.
fn is_plain_directory(dst: &str, args: &ConvertArgs) -> Result<bool> {
    let at = output_location(dst, &args.read)?;
    if at.is_remote() || at.kind()? != storage::EntryKind::Dir {
        return Ok(false);
    }
    let known = detect::input(&at).is_ok();
    // A directory named like a store format (out.npk) is one, even an empty or broken one.
    Ok(!known && detect::by_extension(&at.file_name()).is_none_or(|f| !f.spec().is_directory))
}
