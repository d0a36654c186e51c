//! `npk convert`: what goes where, then file after file through the pipe.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{input_location, jobs, open, output_location, read_options, settings};
use crate::adapt::fit::{self, Nulls, Policy, Strings};
use crate::adapt::join::{Concat, Part, Union};
use crate::adapt::names::{self, Renaming};
use crate::adapt::partitions::Partitions;
use crate::adapt::restore;
use crate::adapt::rows::{self, Slice, Sliced};
use crate::adapt::table::{self, Layout, Staged};
use crate::adapt::view::{Made, View, ViewStage};
use crate::cli::{self, ConvertArgs, IfExists};
use crate::detect;
use crate::error::{Error, Kind, Result};
use crate::format::{Arrays, Compression, Existing, Format, ReadOptions, WriteOptions};
use crate::location::{self, Location};
use crate::model::{Dtype, Plan};
use crate::pipe::{self, Settings};
use crate::report::{self, Progress, Voice, human_bytes, human_time};

/// Everything that is the same for all files of a run.
struct Job<'a> {
    args: &'a ConvertArgs,
    voice: Voice,
    read: ReadOptions,
    write: WriteOptions,
    settings: Settings,
    renaming: Renaming,
    casts: Vec<(Option<String>, Dtype)>,
    slice: Option<Slice>,
    policy: Policy,
    layout: Layout,
    if_exists: IfExists,
    /// Whether a flag without effect was named already.
    warned: std::sync::atomic::AtomicBool,
}

/// Sources that make one output.
struct Unit {
    sources: Vec<String>,
    /// Per source: the folders below the argument that found it, for the columns of `key=value` folders.
    below: Vec<String>,
    dst: String,
    /// Only this array of the source: an output of one array, made from a source of several.
    array: Option<String>,
}

/// What became of a unit.
enum Outcome {
    Done { arrays: usize, bytes: u64, time: Duration, layout: Option<&'static str>, format: &'static str },
    Skipped(&'static str),
    Planned(String),
}

/// Converts.
///
/// # Errors
/// Wrong usage; for a single file its error. A batch reports its errors itself.
pub fn run(args: &ConvertArgs, voice: Voice) -> Result<u8> {
    let job = prepare(args, voice)?;
    let units = units(&job)?;
    let batch = units.len() > 1;
    let began = Instant::now();
    let mut tally = Tally::default();
    if !batch {
        let result = pipe::guarded(|| convert(&job, &units[0]));
        if args.json {
            report::json(&line(&units[0], &result), false)?;
        }
        tally.count(&job, &units[0], result, false)?;
    } else {
        each_unit(&job, &units, &mut tally)?;
    }
    let Tally { failed, skipped, done, bytes: total } = tally;
    if batch {
        if args.json {
            report::json(
                &json!({"schema": 1, "summary": true, "converted": done, "skipped": skipped, "failed": failed, "bytes": total, "seconds": began.elapsed().as_secs_f64()}),
                false,
            )?;
        }
        voice.summary(&format!(
            "{done} converted, {skipped} skipped, {failed} failed of {}: {} in {}",
            units.len(),
            human_bytes(total),
            human_time(began.elapsed())
        ));
    }
    Ok(if failed > 0 { 1 } else { 0 })
}

/// What a run has come to.
#[derive(Default)]
struct Tally {
    failed: u64,
    skipped: u64,
    done: u64,
    bytes: u64,
}

impl Tally {
    fn count(&mut self, job: &Job<'_>, unit: &Unit, result: Result<Outcome>, batch: bool) -> Result<()> {
        let talk = !batch || job.voice.verbose > 0;
        match result {
            Ok(Outcome::Done { arrays, bytes, time, layout, .. }) => {
                self.done += 1;
                self.bytes += bytes;
                if talk {
                    let rate = if time.as_secs_f64() > 0.0 { (bytes as f64 / time.as_secs_f64()) as u64 } else { bytes };
                    let layout = layout.map(|l| format!(", layout {l}")).unwrap_or_default();
                    let (size, took, rate) = (human_bytes(bytes), human_time(time), human_bytes(rate));
                    let plural = if arrays == 1 { "" } else { "s" };
                    job.voice.summary(&format!("{}: {arrays} array{plural}, {size} in {took}, {rate}/s{layout}", unit.dst));
                }
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped += 1;
                if talk {
                    job.voice.summary(&format!("{}: skipped, {why}", unit.dst));
                }
            }
            Ok(Outcome::Planned(text)) => {
                if !job.args.json {
                    report::out(&text)?;
                }
            }
            Err(e) if !batch || e.kind() == Kind::BrokenPipe => return Err(e),
            Err(e) => {
                job.voice.error(&e);
                self.failed += 1;
            }
        }
        Ok(())
    }
}

/// Several files at once, sharing threads and memory; told in the order in which they end.
fn each_unit(job: &Job<'_>, units: &[Unit], tally: &mut Tally) -> Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let workers = jobs(&job.args.read).min(units.len());
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel(2 * workers);
        for _ in 0..workers {
            let (send, next, stop) = (send.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(unit) = units.get(i) else { break };
                    let result = pipe::guarded(|| convert(job, unit));
                    if result.is_err() && job.args.fail_fast {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if send.send((i, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for (i, result) in receive {
            let told = match job.args.json {
                true => report::json(&line(&units[i], &result), false),
                false => Ok(()),
            };
            if let Err(e) = told.and_then(|()| tally.count(job, &units[i], result, true)) {
                stop.store(true, Ordering::Relaxed);
                return Err(e);
            }
        }
        Ok(())
    })
}

fn line(unit: &Unit, result: &Result<Outcome>) -> serde_json::Value {
    let mut v = json!({"schema": 1, "sources": unit.sources, "output": unit.dst});
    match result {
        Ok(Outcome::Done { arrays, bytes, time, layout, format }) => {
            v["status"] = json!("converted");
            v["format"] = json!(format);
            v["arrays"] = json!(arrays);
            v["bytes"] = json!(bytes);
            v["seconds"] = json!(time.as_secs_f64());
            if let Some(layout) = layout {
                v["layout"] = json!(layout);
            }
        }
        Ok(Outcome::Skipped(why)) => {
            v["status"] = json!("skipped");
            v["reason"] = json!(why);
        }
        Ok(Outcome::Planned(text)) => {
            v["status"] = json!("planned");
            v["plan"] = json!(text);
        }
        Err(e) => {
            v["status"] = json!("failed");
            v["error"] = json!(e.to_string());
            v["hint"] = json!(e.hint_text());
            v["exit_code"] = json!(report::exit_code(e));
        }
    }
    v
}

fn prepare(args: &ConvertArgs, voice: Voice) -> Result<Job<'_>> {
    let mut read = read_options(&args.read)?;
    read.skip_unsupported = args.skip_unsupported;
    read.ragged_offsets = args.ragged == cli::Ragged::Offsets;
    let casts = args.dtype.iter().map(|d| parse_cast(d)).collect::<Result<Vec<_>>>()?;
    read.text.dtypes = casts.clone();
    let mut write = WriteOptions {
        compression: args.compression.as_deref().map(parse_compression).transpose()?,
        chunk_shape: args.chunk_shape.as_deref().map(parse_shape).transpose()?,
        shard_shape: args.shard_shape.as_deref().map(parse_shape).transpose()?,
        row_group_rows: args.row_group_size,
        zarr_format: args.zarr_format,
        max_shard_bytes: args.max_shard_size.as_deref().map(report::parse_bytes).transpose()?,
        metadata: args.metadata.iter().map(|m| pair("metadata", m)).collect::<Result<_>>()?,
        no_metadata: args.no_metadata,
        single: args.single,
        text: read.text.clone(),
        memory_bytes: read.memory_bytes,
        jobs: jobs(&args.read),
        sync: args.sync,
        ..WriteOptions::default()
    };
    write.text.float_format.clone_from(&args.float_format);
    if args.row_group_size == Some(0) {
        return Err(Error::usage("--row-group-size must be at least 1"));
    }
    let if_exists = if_exists(args)?;
    write.existing = match if_exists {
        _ if args.append => Existing::Append,
        IfExists::Overwrite | IfExists::Update => Existing::Replace,
        IfExists::Merge => Existing::Merge { replace: args.force },
        IfExists::Error | IfExists::Skip => Existing::Error,
    };
    if args.concat && args.prefix_by_file {
        return Err(Error::usage("--concat and --prefix-by-file exclude each other: rows join under one name"));
    }
    let rename_re = args
        .rename_re
        .iter()
        .map(|r| {
            let (re, to) = pair("rename-re", r)?;
            let re = regex::Regex::new(&re).map_err(|e| Error::usage(format!("--rename-re '{re}' is no regular expression")).because(e))?;
            // `$1_` is the first group and a `_` here, not a group called `1_`.
            static NUMBERED: std::sync::LazyLock<Option<regex::Regex>> =
                std::sync::LazyLock::new(|| regex::Regex::new(r"(\$\$)|\$([0-9]+)").ok());
            let braced = |c: &regex::Captures<'_>| c.get(2).map_or_else(|| "$$".to_string(), |n| format!("${{{}}}", n.as_str()));
            let to = NUMBERED.as_ref().map_or_else(|| to.clone(), |n| n.replace_all(&to, braced).into_owned());
            Ok((re, to))
        })
        .collect::<Result<_>>()?;
    Ok(Job {
        settings: settings(&args.read)?,
        renaming: Renaming {
            name: args.name.clone(),
            strip_prefix: args.strip_prefix.clone(),
            rename: args.rename.iter().map(|r| pair("rename", r)).collect::<Result<_>>()?,
            rename_re,
            add_prefix: args.add_prefix.clone(),
        },
        slice: args.rows.as_deref().map(Slice::parse).transpose()?,
        policy: Policy {
            bf16_bits: args.bf16 == cli::Bf16::Bits,
            fp8_bits: args.fp8 == cli::Fp8::Bits,
            nulls: args.nulls.as_deref().map(Nulls::parse).transpose()?,
            strings: strings(args),
            ragged_offsets: read.ragged_offsets,
            skip_unsupported: args.skip_unsupported,
            sink: "",
        },
        layout: match args.layout {
            cli::Layout::Auto => Layout::Auto,
            cli::Layout::Columns => Layout::Columns,
            cli::Layout::Matrix => Layout::Matrix,
        },
        args,
        voice,
        read,
        write,
        casts,
        if_exists,
        warned: false.into(),
    })
}

/// `--strings codes` is the default, but for decimals it must have been asked for.
fn strings(args: &ConvertArgs) -> Option<Strings> {
    match args.strings {
        None => None,
        Some(cli::Strings::Codes) => Some(Strings::Codes),
        Some(cli::Strings::Offsets) => Some(Strings::Offsets),
        Some(cli::Strings::Skip) => Some(Strings::Skip),
        Some(cli::Strings::Error) => Some(Strings::Error),
    }
}

fn if_exists(args: &ConvertArgs) -> Result<IfExists> {
    let mut asked = Vec::new();
    asked.extend(args.if_exists.map(|i| ("--if-exists", i)));
    if args.skip_existing {
        asked.push(("--skip-existing", IfExists::Skip));
    }
    if args.update {
        asked.push(("--update", IfExists::Update));
    }
    if args.append && !asked.is_empty() {
        return Err(Error::usage(format!("--append and {} exclude each other", asked[0].0)));
    }
    if let Some(w) = asked.windows(2).find(|w| w[0].1 != w[1].1) {
        return Err(Error::usage(format!("{} and {} exclude each other", w[0].0, w[1].0)));
    }
    Ok(match asked.first() {
        Some((_, IfExists::Error)) if args.force => return Err(Error::usage("--force and --if-exists error exclude each other")),
        Some((_, what)) => *what,
        None if args.force => IfExists::Overwrite,
        None => IfExists::Error,
    })
}

fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((a, b)) if !a.is_empty() => Ok((a.to_string(), b.to_string())),
        _ => Err(Error::usage(format!("--{flag} takes A=B, not '{text}'"))),
    }
}

fn parse_cast(text: &str) -> Result<(Option<String>, Dtype)> {
    let (pattern, name) = match text.rsplit_once('=') {
        Some((pattern, name)) => (Some(pattern.to_string()), name),
        None => (None, text),
    };
    let dtype = Dtype::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Dtype::ALL.iter().map(|d| d.name()).collect();
        Error::usage(format!("there is no type '{name}'")).hint(format!("one of {}", names.join(", ")))
    })?;
    Ok((pattern, dtype))
}

fn parse_compression(text: &str) -> Result<Compression> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => {
            let level =
                level.parse().map_err(|_| Error::usage(format!("'{level}' is no compression level")).hint("NAME:LEVEL, as zstd:9"))?;
            (name, Some(level))
        }
        None => (text, None),
    };
    Ok(Compression { name: name.to_ascii_lowercase(), level })
}

fn parse_shape(text: &str) -> Result<Vec<u64>> {
    text.split([',', 'x'])
        .map(|p| p.trim().parse::<u64>().ok().filter(|&n| n > 0))
        .collect::<Option<Vec<u64>>>()
        .ok_or_else(|| Error::usage(format!("'{text}' is no shape")).hint("numbers above 0, separated by commas: 1000,128"))
}

/// Which sources make which outputs.
fn units(job: &Job<'_>) -> Result<Vec<Unit>> {
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
        let stem = Location::local(&found.path).stem();
        let mut add = |dst: String, array: Option<String>| -> Result<()> {
            if let Some(other) = seen.insert(dst.clone(), found.path.clone()) {
                let error = Error::usage(format!("{other} and {} would both become {dst}", found.path));
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
    let chosen = super::chosen(opened.source.as_ref(), &job.args.choose).ok()?;
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

/// Globs and, with `-R`, directories.
fn expand(path: &str, args: &ConvertArgs) -> Result<Vec<Found>> {
    let single = |p: &str| Found { path: p.to_string(), below: String::new() };
    let is_url = path.contains("://");
    if path == "-" || is_url && !args.recursive && !path.contains(['*', '?', '[']) || path.starts_with("http") && is_url {
        return Ok(vec![single(path)]);
    }
    // A FIFO is not opened here: its writer would see it closed again.
    let at = if is_url { input_location(path, &args.read)? } else { Location::local(path) };
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
    let mut found: Vec<Found> = location::remote::expand(pattern, &super::remote_options(&args.read)?)?
        .into_iter()
        .map(|l| Found { path: l.display(), below: String::new() })
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
    // The folders from the first wildcard on may be partitions.
    let fixed = pattern.find(['*', '?', '[']).and_then(|at| pattern[..at].rfind('/')).map_or(0, |slash| slash + 1);
    for m in matches {
        let path = m.map_err(|e| Error::missing("cannot read a directory").because(e))?.to_string_lossy().into_owned();
        let below = path.get(fixed..).and_then(|p| p.rfind('/').map(|slash| p[..=slash].to_string())).unwrap_or_default();
        found.push(Found { path, below });
    }
    found.sort_by(|a, b| names::natural(&a.path, &b.path));
    if found.is_empty() { Err(Error::missing(format!("no file matches '{pattern}'"))) } else { Ok(found) }
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

fn convert(job: &Job<'_>, unit: &Unit) -> Result<Outcome> {
    let args = job.args;
    let dst = output_location(&unit.dst, &args.read)?;
    let format = detect::output(&dst, args.to.as_deref())?;
    // Where there are several sources, the message itself says which of them.
    let sources_named = |e: Error| if unit.sources.len() == 1 { e.file(&unit.sources[0]) } else { e };
    let Some(holds) = format.holds() else {
        return Err(Error::refused(format!("{} is read, not written", format.name())).file(dst.display()));
    };
    if dst.is_stream() && !format.streams().output {
        return Err(Error::usage(format!("{} cannot be written to stdout", format.name())).hint("give a file name"));
    }
    if dst.is_stream() && std::io::IsTerminal::is_terminal(&std::io::stdout()) && !matches!(format.name(), "csv" | "txt") {
        return Err(Error::usage("binary data is not written to a terminal").hint("redirect stdout, or give a file name"));
    }
    if matches!(job.write.existing, Existing::Merge { .. } | Existing::Append) && !format.grows() {
        return Err(Error::usage("merge and append go into .npk stores only").file(dst.display()));
    }
    if matches!(job.write.existing, Existing::Merge { .. } | Existing::Append) && dst.is_remote() {
        let error = Error::usage("merge and append go into local stores only").file(dst.display());
        return Err(error.hint("change a local copy, then put it back with --force"));
    }
    if unit.dst != "-" && dst.local_path().is_some() && dst.kind()? == location::Kind::Stream {
        let error = Error::usage("this is a device or a pipe, not a file").file(dst.display());
        return Err(error.hint(format!("write to stdout: npk convert SRC - --to {} > {}", format.name(), unit.dst)));
    }
    warn_of_idle_flags(job, format);
    if let Some(why) = skip(job, unit, &dst)? {
        return Ok(Outcome::Skipped(why));
    }
    let began = Instant::now();
    let (mut staged, layout) = gather(job, unit, format, holds.arrays).map_err(sources_named)?;
    let mut notes = Vec::new();
    if staged.1.is_empty() {
        let (source, more) = restore::restore(staged.0, holds.dtypes, &job.settings).map_err(sources_named)?;
        staged.0 = source;
        notes.extend(more);
    }
    let (stages, fit_notes) = fit_staged(staged, holds, &Policy { sink: format.name(), ..job.policy.clone() }).map_err(sources_named)?;
    notes.extend(fit_notes);
    let (source, stages) = stages;
    let plan = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    let mut write = job.write.clone();
    if job.write.existing == Existing::Error && unit.sources.iter().any(|s| same_place(s, &unit.dst)) {
        return Err(Error::exists("source and destination are the same").file(dst.display()).hint("--force replaces it"));
    }
    Error::all(format.refuse(&plan, &write)).map_err(|e| e.file(dst.display()))?;
    for note in plan.notes.iter().chain(&notes) {
        job.voice.note(note);
    }
    if let Some(note) = lost_attributes(&plan, format, args) {
        job.voice.note(&note);
    }
    if args.dry_run {
        return planned(job, unit, &dst, format, &plan, layout);
    }
    if write.existing == Existing::Error {
        existing_error(&dst, format)?;
    }
    if let Existing::Merge { .. } | Existing::Append = write.existing
        && dst.kind()? == location::Kind::Missing
    {
        write.existing = Existing::Error;
    }
    if !dst.is_remote()
        && let Some(folder) = dst.local_path().and_then(|p| p.parent()).filter(|p| !p.as_os_str().is_empty())
        && makes_folder(args)
    {
        std::fs::create_dir_all(folder).map_err(|e| Error::from(e).file(folder.display().to_string()))?;
    }
    let progress = Progress::new(plan.bytes(), &unit.dst, !args.no_progress && !job.voice.quiet && !args.json);
    let settings = job.settings.with_progress(progress.callback());
    let mut create = |plan: &Plan| format.create(&dst, plan, &write);
    let (summary, end) = pipe::run(source, stages, holds, &mut create, &settings).map_err(|e| {
        let ours = matches!(e.kind(), Kind::Failed | Kind::Exists | Kind::Usage);
        if ours { e.file(dst.display()) } else { sources_named(e) }
    })?;
    progress.end();
    if args.verify {
        verify_output(job, unit, &dst, format, holds.arrays).map_err(|e| e.file(dst.display()))?;
    }
    for note in &summary.notes {
        job.voice.note(note);
    }
    let arrays =
        end.arrays.len() - end.kept.iter().map(|k| usize::from(k.valid.is_some()) + usize::from(k.offsets.is_some())).sum::<usize>();
    Ok(Outcome::Done {
        arrays,
        bytes: if summary.bytes > 0 { summary.bytes } else { end.bytes() },
        time: began.elapsed(),
        layout,
        format: format.name(),
    })
}

/// Reads the output again and compares it with the sources, after choosing, casts and layout.
fn verify_output(job: &Job<'_>, unit: &Unit, dst: &Location, format: &'static dyn Format, into: Arrays) -> Result<()> {
    if dst.is_stream() || unit.sources.iter().any(|s| s == "-") {
        return Err(Error::usage("--verify reads both ends again: it cannot follow a pipe"));
    }
    if matches!(job.write.existing, Existing::Append) {
        return Err(Error::usage("--verify cannot follow --append").hint("npk verify, npk diff"));
    }
    let ((source, stages), _) = gather(job, unit, format, into)?;
    let source: Box<dyn crate::format::Source> =
        if stages.is_empty() { source } else { Box::new(pipe::staged(source, stages, &job.settings)?) };
    let names: Vec<String> = source.plan().arrays.iter().map(|a| a.name.clone()).collect();
    let output = open(dst, Some(format.name()), &ReadOptions { text: job.write.text.clone(), ..job.read.clone() }, job.voice)?.source;
    // One array without a name of its own takes the file's.
    let output: Box<dyn crate::format::Source> = if into == Arrays::One && output.plan().arrays.len() == names.len() {
        let mut plan = output.plan().clone();
        names::set_names(&mut plan, &names);
        Box::new(View::relabel(output, plan))
    } else {
        output
    };
    let rules = crate::compare::Rules { equal_nan: true, ignore_dtype: into == Arrays::Table, ..Default::default() };
    let (a, b) = (crate::compare::logical(source, &job.settings)?, crate::compare::logical(output, &job.settings)?);
    let verdicts = crate::compare::compare(a, b, ("source", "output"), rules, &job.settings)?;
    let merged = matches!(job.write.existing, Existing::Merge { .. });
    let bad: Vec<Error> = verdicts
        .iter()
        .filter(|(_, v)| *v != crate::compare::Verdict::Equal && !(merged && *v == crate::compare::Verdict::OnlyB))
        .map(|(name, v)| Error::corrupt(format!("the output is not what was written: {}", crate::compare::sentence(v))).array(name))
        .collect();
    Error::all(bad)
}

/// Fits behind stages that are there already: the fit sees what comes out of them.
fn fit_staged(staged: Staged, holds: &crate::format::Holds, policy: &Policy) -> Result<(Staged, Vec<String>)> {
    let (source, mut stages) = staged;
    if stages.is_empty() {
        return fit::fit(source, holds, policy);
    }
    // A source that only shows the plan behind the stages: its view's changes are applied by a stage.
    let plan = stages.last().map(|s| s.plan().clone()).unwrap_or_default();
    let (fitted, notes) = fit::fit_stage(plan, holds, policy)?;
    stages.extend(fitted);
    Ok(((source, stages), notes))
}

/// Layout flags that say nothing to this format: a word, once a run.
fn warn_of_idle_flags(job: &Job<'_>, format: &dyn Format) {
    let args = job.args;
    let given = [
        ("compression", args.compression.as_deref().is_some_and(|c| c != "none")),
        ("chunk-shape", args.chunk_shape.is_some()),
        ("shard-shape", args.shard_shape.is_some()),
        ("row-group-size", args.row_group_size.is_some()),
        ("zarr-format", args.zarr_format.is_some()),
        ("max-shard-size", args.max_shard_size.is_some()),
        ("single", args.single),
        ("float-format", args.float_format.is_some()),
        ("metadata", !args.metadata.is_empty()),
    ];
    let idle = |flag: &str| !format.layout_flags().contains(&flag);
    for (flag, _) in given.iter().filter(|(flag, given)| *given && idle(flag)) {
        if !job.warned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            job.voice.warning(&format!("--{flag} changes nothing in {}", format.name()));
        }
    }
}

/// Whether the output's folder is made: a destination that ends in `/`, or a tree below it.
fn makes_folder(args: &ConvertArgs) -> bool {
    let dst = args.output.as_ref().or(args.paths.last());
    dst.is_some_and(|d| d.ends_with('/')) || args.recursive
}

/// What a format without attributes leaves behind. Keys with a dot are a format's own bookkeeping.
fn lost_attributes(plan: &Plan, format: &dyn Format, args: &ConvertArgs) -> Option<String> {
    if format.keeps_attributes() || args.no_metadata {
        return None;
    }
    let keys: Vec<&str> = plan.attributes.keys().map(String::as_str).filter(|k| !k.contains('.')).collect();
    let more = if keys.len() > 5 { ", …" } else { "" };
    let shown = keys.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    (!keys.is_empty()).then(|| format!("{} has no place for metadata, which is left out: {shown}{more}", format.name()))
}

fn same_place(a: &str, b: &str) -> bool {
    let real = |p: &str| std::fs::canonicalize(p).ok();
    a == b && a != "-" || real(a).is_some_and(|x| real(b) == Some(x))
}

fn existing_error(dst: &Location, format: &dyn Format) -> Result<()> {
    match dst.kind()? {
        location::Kind::Missing | location::Kind::Stream => Ok(()),
        _ => {
            let ways = if format.grows() { "skip|update|merge" } else { "skip|update" };
            let hint = format!("use --force to replace it, or --if-exists {ways}");
            Err(Error::exists("the output exists").file(dst.display()).hint(hint))
        }
    }
}

/// Should this output be left alone?
fn skip(job: &Job<'_>, unit: &Unit, dst: &Location) -> Result<Option<&'static str>> {
    if !matches!(job.if_exists, IfExists::Skip | IfExists::Update) || dst.kind()? == location::Kind::Missing {
        return Ok(None);
    }
    match job.if_exists {
        IfExists::Skip => {
            // An existing output counts only if it is whole: its headers open.
            match open(dst, job.args.to.as_deref(), &job.read, job.voice) {
                Ok(_) => Ok(Some("it exists")),
                Err(e) => {
                    Err(Error::exists("the output exists but is not whole").file(dst.display()).because(e).hint("--force replaces it"))
                }
            }
        }
        _ => {
            let made = modified(dst)?;
            for source in &unit.sources {
                let at = input_location(source, &job.args.read)?;
                match (modified(&at)?, made) {
                    (Some(source), Some(made)) if source <= made => {}
                    _ => return Ok(None),
                }
            }
            Ok(Some("it is not older than its source"))
        }
    }
}

fn modified(at: &Location) -> Result<Option<std::time::SystemTime>> {
    match at.kind()? {
        location::Kind::File { modified, .. } => Ok(modified),
        location::Kind::Dir => Ok(at.local_path().and_then(|p| std::fs::metadata(p).ok()).and_then(|m| m.modified().ok())),
        _ => Ok(None),
    }
}

/// Opens, chooses, joins, cuts, casts, lays out and renames.
fn gather(job: &Job<'_>, unit: &Unit, format: &dyn Format, into: Arrays) -> Result<(Staged, Option<&'static str>)> {
    let args = job.args;
    let mut parts = Vec::new();
    let mut table_file = false;
    let mut stem = String::new();
    let mut read = job.read.clone();
    let partitions = Partitions::new(if args.concat { &unit.below } else { &[] });
    if !args.choose.array.is_empty() && partitions.is_empty() && args.read.group.is_none() {
        read.text.columns = Some(args.choose.array.clone());
    }
    for (part, path) in unit.sources.iter().enumerate() {
        let at = input_location(path, &args.read)?;
        let opened = open(&at, args.read.from.as_deref(), &read, job.voice)?;
        table_file |= opened.format.holds().is_some_and(|h| h.arrays == Arrays::Table);
        if stem.is_empty() {
            stem = match args.concat && unit.sources.len() > 1 {
                true => joined_name(args, unit).unwrap_or_else(|| at.stem()),
                false => at.stem(),
            };
        }
        let mut source = opened.source;
        if table_file && !partitions.is_empty() {
            source = partitions.add(source, part).map_err(|e| e.file(at.display()))?;
        }
        let needs_choice = !args.choose.array.is_empty() || !args.choose.exclude.is_empty() || source.plan().arrays.is_empty();
        if needs_choice {
            let indices = super::chosen(source.as_ref(), &args.choose).map_err(|e| e.file(at.display()))?;
            source = Box::new(View::choose(source, &indices));
        }
        if let Some(i) = unit.array.as_ref().and_then(|name| source.plan().position(name)) {
            source = Box::new(View::choose(source, &[i]));
        }
        if args.skip_unsupported {
            let good: Vec<usize> = (0..source.plan().arrays.len()).filter(|&a| source.plan().arrays[a].details.error.is_none()).collect();
            if good.len() < source.plan().arrays.len() {
                for a in source.plan().arrays.iter().filter(|a| a.details.error.is_some()) {
                    let why = a.details.error.as_ref().map(|e| e.message().to_string()).unwrap_or_default();
                    job.voice.warning(&format!("{}: {}: left out: {why}", at.display(), a.name));
                }
                if good.is_empty() {
                    return Err(Error::refused("nothing in it is supported").file(at.display()));
                }
                source = Box::new(View::choose(source, &good));
            }
        }
        if args.concat && args.name.is_some() {
            let mut plan = source.plan().clone();
            names::check_single(&plan).map_err(|e| e.file(at.display()))?;
            names::set_names(&mut plan, &[args.name.clone().unwrap_or_default()]);
            source = Box::new(View::relabel(source, plan));
        } else if args.prefix_by_file {
            let mut plan = source.plan().clone();
            let new: Vec<String> = plan.arrays.iter().map(|a| format!("{}.{}", at.stem(), a.name)).collect();
            names::set_names(&mut plan, &new);
            source = Box::new(View::relabel(source, plan));
        }
        if !job.casts.is_empty() {
            source = table::cast_arrays(source, &job.casts, args.lossy).map_err(|e| e.file(at.display()))?;
        }
        parts.push(Part { source, label: at.display() });
    }
    let mut source: Box<dyn crate::format::Source> = if parts.len() == 1 {
        parts.remove(0).source
    } else if args.concat {
        Box::new(Concat::new(parts)?)
    } else {
        if into == Arrays::One {
            return Err(Error::usage(format!("{} holds one array, there are {} sources", format.name(), unit.sources.len()))
                .hint("--concat joins their rows"));
        }
        Box::new(Union::new(parts, job.read.on_duplicate)?)
    };
    let mut stages: Vec<Box<dyn pipe::Stage>> = Vec::new();
    if let Some(slice) = job.slice {
        match rows::slice(source, slice)? {
            Sliced::Source(view) => source = Box::new(view),
            Sliced::Stage(inner, stage) => {
                source = inner;
                stages.push(Box::new(stage));
            }
        }
    }
    let single_name = job.renaming.name.is_some() && !args.concat;
    let renaming = Renaming { name: if args.concat { None } else { job.renaming.name.clone() }, ..job.renaming.clone() };
    let mut layout = None;
    if into == Arrays::Table {
        source = rename(source, &renaming, single_name, job)?;
        let columns = job.write.text.column_names.as_deref().filter(|_| !table_file);
        let (exported, more) = table::export(source, job.layout, format.holds().map_or(1, |h| h.max_rank), columns)?;
        source = exported;
        stages.extend(more);
    } else if table_file {
        let nulls_allowed = matches!(job.policy.nulls, Some(Nulls::Nan | Nulls::Fill(_)));
        let wanted = if unit.sources.len() > 1 && !args.concat { Layout::Columns } else { job.layout };
        let ((imported, more), chosen) = table::import(source, wanted, args.name.as_deref().unwrap_or(&stem), nulls_allowed)?;
        layout = chosen;
        source = imported;
        if more.is_empty() {
            source = rename(source, &renaming, single_name, job)?;
        }
        stages.extend(more);
        if layout == Some("matrix")
            && let Some(stage) = stages.last()
        {
            if single_name {
                names::check_single(stage.plan())?;
            }
            if let Some(renamed) = rename_matrix(stage.plan().clone(), &renaming, job)? {
                stages.push(Box::new(renamed));
            }
        }
    } else {
        source = rename(source, &renaming, single_name, job)?;
    }
    Ok(((source, stages), layout))
}

/// What the matrix of a joined directory is called: as the directory.
fn joined_name(args: &ConvertArgs, unit: &Unit) -> Option<String> {
    let sources = args.paths.len() - usize::from(args.output.is_none());
    let at = Location::local(args.paths.first().filter(|_| sources == 1 && args.files_from.is_none())?.trim_end_matches('/'));
    let inside = at.local_path().is_some_and(|p| unit.sources.iter().all(|s| std::path::Path::new(s).starts_with(p)));
    Some(at.file_name()).filter(|name| inside && !name.is_empty())
}

fn rename(
    source: Box<dyn crate::format::Source>,
    renaming: &Renaming,
    single: bool,
    job: &Job<'_>,
) -> Result<Box<dyn crate::format::Source>> {
    if single {
        names::check_single(source.plan())?;
    }
    if renaming.is_empty() {
        return Ok(source);
    }
    let new = renaming.names(source.plan())?;
    let kept = names::kept_of_repeated(&new, job.read.on_duplicate);
    let (source, mut new) = if kept.len() < new.len() {
        let new = kept.iter().map(|&i| new[i].clone()).collect();
        (Box::new(View::choose(source, &kept)) as Box<dyn crate::format::Source>, new)
    } else {
        (source, new)
    };
    names::make_unique(&mut new, job.read.on_duplicate, |name| format!("two arrays are called '{name}' after renaming"))?;
    let mut plan = source.plan().clone();
    names::set_names(&mut plan, &new);
    Ok(Box::new(View::relabel(source, plan)))
}

/// Renames a matrix that was made of columns: `--rename` of a column changes its header, everything else the array.
fn rename_matrix(mut plan: Plan, renaming: &Renaming, job: &Job<'_>) -> Result<Option<ViewStage>> {
    if renaming.is_empty() {
        return Ok(None);
    }
    let mut rest = renaming.clone();
    rest.rename.retain(|(old, new)| {
        let columns = plan.tables.iter_mut().flat_map(|t| &mut t.columns);
        let Some(column) = columns.into_iter().find(|c| c.header == *old) else { return true };
        column.header.clone_from(new);
        plan.arrays.iter().any(|a| a.name == *old)
    });
    let mut new = rest.names(&plan)?;
    names::make_unique(&mut new, job.read.on_duplicate, |name| format!("two arrays are called '{name}' after renaming"))?;
    names::set_names(&mut plan, &new);
    let made = (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
    ViewStage::new(plan.arrays.len(), plan, made).map(Some)
}

fn planned(job: &Job<'_>, unit: &Unit, dst: &Location, format: &dyn Format, plan: &Plan, layout: Option<&'static str>) -> Result<Outcome> {
    if job.write.existing == Existing::Error {
        existing_error(dst, format)?;
    }
    let bytes = plan.bytes();
    let mut text = format!(
        "{} -> {} ({}): {} array{}, {}",
        unit.sources.join(", "),
        unit.dst,
        format.name(),
        plan.arrays.len(),
        if plan.arrays.len() == 1 { "" } else { "s" },
        human_bytes(bytes)
    );
    if let Some(layout) = layout {
        text += &format!(", layout {layout}");
    }
    text.push('\n');
    for a in &plan.arrays {
        let shape = a.shape().map_or_else(|| "?".to_string(), |s| format!("{s:?}"));
        text += &format!("  {}  {} {shape}\n", report::visible(&a.name), a.type_name());
    }
    if let Some(parent) = dst.parent().local_path() {
        // What the run itself would make is not missing.
        let parent = match makes_folder(job.args) {
            true => parent.ancestors().find(|p| p.exists()).unwrap_or_else(|| std::path::Path::new(".")),
            false => parent,
        };
        if let Ok(stat) = rustix::fs::statvfs(parent) {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            if free < bytes {
                return Err(Error::failed(format!("{} are needed, {} are free", human_bytes(bytes), human_bytes(free))).file(dst.display()));
            }
            text += &format!("  {} free\n", human_bytes(free));
        } else {
            return Err(
                Error::missing(format!("the directory {} does not exist", parent.display())).hint(format!("mkdir -p {}", parent.display()))
            );
        }
    }
    Ok(Outcome::Planned(text))
}
