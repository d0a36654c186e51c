//! `npk verify --certificate`: do both sides of a batch still hold what was certified?

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use serde_json::{Value, json};

use crate::batch::flight::Flight;
use crate::batch::merged::{Lines, Shares};
use crate::batch::merkle::Tree;
use crate::cli::VerifyArgs;
use crate::console::{self, Console};
use crate::conversion::record::arrays;
use crate::detect;
use crate::error::{Context, Error, ErrorKind, Result, guard, locked};
use crate::format::ReadOptions;
use crate::open::{input_location, open, read_options_typed, shown};
use crate::pipe::{self, Settings};
use crate::storage::{EntryKind, Location, platform};

/// Shares without a report that are told by number.
const TOLD: usize = 1000;
/// Units that are checked at a time at most.
const MAX_CHECKS: usize = 64;

/// Checks the units of a certificate, or a sample of them. The exit code is the first failure's.
///
/// # Errors
/// Missing: no certificate. Corrupt: one that was changed. A closed pipe.
pub fn run(certificate: &str, args: &VerifyArgs, console: Console) -> Result<u8> {
    if args.paths.len() > 1 {
        return Err(Error::usage("the outputs of a certificate are below one PATH"));
    }
    let at = input_location(certificate, &args.read)?;
    let path = shown(certificate);
    let (files, missing, first, whole) = match at.kind()? {
        EntryKind::Dir => {
            let shares = Shares::open(&at)?;
            let whole = Some(at.join("report.jsonl"));
            (shares.files(), shares.missing(), shares.first_missing(TOLD), whole)
        }
        _ => (vec![at], 0, Vec::new(), None),
    };
    if files.is_empty() {
        return Err(Error::missing("there is no report of a share").file(path));
    }
    let mut units = Units { chosen: Vec::new(), count: 0, open: 0, random: random()? };
    let mut roots = Vec::new();
    for file in files {
        roots.push(units.look(&file, args.sample)?);
    }
    // Shares of one output certify nothing: what they make together has its line behind theirs.
    if units.count == 0
        && let Some(whole) = whole
        && whole.exists()?
    {
        roots = vec![units.look(&whole, args.sample)?];
    }
    if units.count == 0 {
        return Err(Error::missing("the report certifies nothing")
            .file(path)
            .hint("npk convert --report DIR --certify makes a certificate"));
    }
    let options = read_options_typed(&args.read, &args.raw)?;
    let read = (Settings::of(&options.resources), options);
    let check = |unit: &Unit| unit.check(args, &read, console);
    let (mut code, mut failures) = (0, Vec::new());
    let queue = Queue::new(args.sample.map(|_| units.chosen), &roots);
    let checked = check_all(queue, args, &read, &check, &mut |turn, unit, e| {
        console.error(&e);
        code = console::worst(code, &e);
        let mut failure = json!({"unit": unit.certified["unit"]});
        failure.as_object_mut().into_iter().for_each(|keys| keys.extend(console::fault(&e)));
        failures.push((turn, failure));
    })?;
    failures.sort_by_key(|(turn, _)| *turn);
    let failures: Vec<Value> = failures.into_iter().map(|(_, failure)| failure).collect();
    for gap in gaps(units.open, missing, &first) {
        let gap = gap.file(&path);
        console.error(&gap);
        code = console::worst(code, &gap);
    }
    let roots: Vec<&str> = roots.iter().filter_map(|(_, _, root)| root.as_deref()).collect();
    if args.json {
        let all = json!({
            "schema": 1, "certificate": path, "valid": code == 0, "units": units.count,
            "checked": checked, "uncertified": units.open, "missing_shares": first,
            "roots": roots, "failures": failures,
        });
        console::json(&all, true)?;
    } else if !args.messages.quiet {
        let failed = failures.len();
        console::out(&format!(
            "{path}: {checked} of {} units checked, {failed} differ; root {}\n",
            units.count,
            roots.join(", ")
        ))?;
    }
    Ok(code)
}

/// Units to check, one after the other.
struct Queue {
    chosen: std::vec::IntoIter<Unit>,
    /// Reports whose units are all checked, with the destination of each.
    files: std::vec::IntoIter<(Location, String)>,
    lines: Option<(Lines, String)>,
}

impl Queue {
    /// A sample, or all.
    fn new(sample: Option<Vec<Unit>>, all: &[(Location, String, Option<String>)]) -> Queue {
        let files = all.iter().map(|(file, destination, _)| (file.clone(), destination.clone()));
        let files = if sample.is_some() { Vec::new() } else { files.collect() };
        let chosen = sample.unwrap_or_default().into_iter();
        Queue { chosen, files: files.into_iter(), lines: None }
    }

    fn next(&mut self) -> Result<Option<Unit>> {
        if let Some(unit) = self.chosen.next() {
            return Ok(Some(unit));
        }
        loop {
            if let Some((lines, destination)) = &mut self.lines {
                while let Some((_, _, line)) = lines.next()? {
                    if line.get("certified").is_some() {
                        return Ok(Some(Unit::new(&line, destination)));
                    }
                }
            }
            let Some((file, destination)) = self.files.next() else { return Ok(None) };
            self.lines = Some((Lines::open(vec![file])?, destination));
        }
    }
}

/// Checks units, several at a time: remote ones wait for the network. `failed` is told the turn of
/// a unit, itself and its error. Returns how many there were.
///
/// # Errors
/// A certificate that cannot be read any more.
fn check_all(
    queue: Queue,
    args: &VerifyArgs,
    (_, options): &Reading,
    check: &(dyn Fn(&Unit) -> Result<()> + Sync),
    failed: &mut dyn FnMut(u64, &Unit, Error),
) -> Result<u64> {
    let places = queue.files.as_slice().iter().map(|(_, destination)| destination);
    let remote = args.paths.iter().chain(places).any(|place| place.contains("://"))
        || queue.chosen.as_slice().iter().any(|unit| unit.destination.contains("://"));
    let (jobs, memory) = (options.resources.jobs(), options.resources.memory_bytes());
    let most = Flight::new(jobs, remote, memory, u64::MAX).most.min(MAX_CHECKS);
    let queue = Mutex::new((0, queue));
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(MAX_CHECKS);
        for thread in 0..most {
            let (send, queue) = (send.clone(), &queue);
            let next = move || -> Result<Option<(u64, Unit)>> {
                let mut queue = locked(queue);
                let unit = queue.1.next()?;
                queue.0 += u64::from(unit.is_some());
                Ok(unit.map(|unit| (queue.0, unit)))
            };
            let work = move || {
                while let Some(unit) = next().transpose() {
                    let checked = unit.map(|(turn, unit)| (turn, guard(|| check(&unit)), unit));
                    let ends = checked.is_err();
                    if send.send(checked).is_err() || ends {
                        return;
                    }
                }
            };
            let name = format!("npk-check-{thread}");
            match std::thread::Builder::new().name(name).spawn_scoped(scope, work) {
                Err(e) if thread == 0 => return Err(pipe::no_threads(e)),
                Err(_) => break, // those that started do all of it
                Ok(_) => {}
            }
        }
        drop(send);
        let mut count = 0;
        for checked in receive {
            let (turn, result, unit): (u64, Result<()>, Unit) = checked?;
            count += 1;
            if let Err(e) = result {
                failed(turn, &unit, e);
            }
        }
        Ok(count)
    })
}

/// What of the batch is not certified: lines without a certificate, and shares without a report.
/// What is certified may be whole all the same, but it is not the whole.
fn gaps(open: u64, missing: u64, first: &[u64]) -> Vec<Error> {
    let mut gaps = Vec::new();
    if open > 0 {
        let units = if open == 1 { "1 unit is" } else { &format!("{open} units are") };
        let error = Error::failed(format!(
            "{units} not certified: failed, missing, or converted without --certify"
        ));
        gaps.push(error.hint("npk report shows which failed"));
    }
    if let Some(first) = first.first() {
        let error = Error::failed(match missing {
            1 => format!("share {first} is not certified"),
            _ => format!("{missing} shares are not certified, the first is {first}"),
        });
        gaps.push(error.hint("npk report shows which shares are done"));
    }
    gaps
}

/// The units of a certificate.
struct Units {
    /// The sample: any of all units is in it as likely as any other.
    chosen: Vec<Unit>,
    count: u64,
    /// Those that are in the report and not certified.
    open: u64,
    random: u64,
}

/// How all units are read.
type Reading = (Settings, ReadOptions);

/// What is certified of a unit, and where its output was put.
struct Unit {
    certified: Value,
    destination: String,
}

/// Hands on the certified lines of a report. Returns how many others there are, and the final
/// lines. That of a share of one output is none of them: the output has a line of its own.
fn each(file: &Location, take: &mut dyn FnMut(Value) -> Result<()>) -> Result<(u64, Vec<Value>)> {
    let (mut lines, mut others) = (Lines::open(vec![file.clone()])?, 0);
    while let Some((_, _, line)) = lines.next()? {
        match line.get("certified") {
            Some(_) => take(line)?,
            None => others += u64::from(line.get("share").is_none()),
        }
    }
    Ok((others, lines.finals))
}

impl Units {
    /// Counts the units of a report, takes a sample and compares the root with that of the final
    /// line. Gives the destination and the root.
    fn look(
        &mut self,
        file: &Location,
        sample: Option<u64>,
    ) -> Result<(Location, String, Option<String>)> {
        let mut tree = Tree::default();
        let (others, finals) = each(file, &mut |line| {
            tree.push(&line);
            self.count += 1;
            let Some(sample) = sample else { return Ok(()) };
            let unit = Unit::new(&line, "");
            if (self.chosen.len() as u64) < sample {
                self.chosen.push(unit);
            } else if let Some(slot) = usize::try_from(self.next() % self.count)
                .ok()
                .and_then(|at| self.chosen.get_mut(at))
            {
                *slot = unit;
            }
            Ok(())
        })?;
        let last = finals.last().cloned().unwrap_or_default();
        self.open += others + last["missing"].as_u64().unwrap_or(0);
        let root = tree.root();
        let recorded = last.get("root").and_then(Value::as_str).map(str::to_string);
        if root != recorded {
            let text = |root: Option<String>| root.unwrap_or_else(|| "none".into());
            return Err(Error::corrupt(format!(
                "the certificate was changed: the root of its lines is {}, it says {}",
                text(root),
                text(recorded)
            ))
            .file(file.display()));
        }
        let destination = last["destination"].as_str().unwrap_or_default().to_string();
        for unit in self.chosen.iter_mut().filter(|unit| unit.destination.is_empty()) {
            unit.destination.clone_from(&destination);
        }
        Ok((file.clone(), destination, root))
    }

    /// xorshift64.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    platform::random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes) | 1)
}

impl Unit {
    fn new(line: &Value, destination: &str) -> Unit {
        let certified = line["certified"].clone();
        Unit { certified, destination: destination.to_string() }
    }

    /// Compares the output, below the path that was given or where it was put, and in the latter
    /// case the sources, too.
    fn check(&self, args: &VerifyArgs, read: &Reading, console: Console) -> Result<()> {
        let key = self.certified["output"].as_str().unwrap_or_default();
        let base = args.paths.first().map_or(self.destination.as_str(), String::as_str);
        let base = input_location(base, &args.read)?;
        let at = base.join(key);
        let at = if at.kind()? == EntryKind::Missing { other_format(&at)? } else { at };
        compare(&at, &self.certified["arrays"], true, (args, read), console)?;
        if !args.paths.is_empty() {
            return Ok(());
        }
        for source in self.certified["sources"].as_array().into_iter().flatten() {
            let at = input_location(source["path"].as_str().unwrap_or_default(), &args.read)?;
            compare(&at, &source["arrays"], false, (args, read), console).map_err(|e| {
                let relative = at.local_path().is_some_and(|path| path.is_relative());
                match relative && e.kind() == ErrorKind::Missing {
                    true => {
                        e.hint("run this where npk convert ran: the source is named from there")
                    }
                    false => e,
                }
            })?;
        }
        Ok(())
    }
}

/// What has the same name with the ending of another format.
fn other_format(at: &Location) -> Result<Location> {
    let stem = |name: &str| {
        let format = detect::by_extension(name)?;
        let lower = name.to_ascii_lowercase();
        let ending = format.spec().extensions.iter().filter(|e| lower.ends_with(*e));
        let longest = ending.map(|e| e.len()).max()?;
        Some(name[..name.len() - longest].to_string())
    };
    let wanted = stem(&at.file_name());
    let folder = at.parent();
    let entries = match folder.kind()? {
        EntryKind::Dir => folder.list()?,
        _ => Vec::new(),
    };
    let found: Vec<_> = entries
        .iter()
        .filter(|e| !e.name.starts_with('.') && wanted.is_some() && stem(&e.name) == wanted)
        .collect();
    match found[..] {
        [one] => Ok(folder.join(&one.name)),
        _ => Err(Error::missing("the output is not there").file(at.display())),
    }
}

/// Compares the arrays of a file with those that are certified; `all`: it must hold no others.
fn compare(
    at: &Location,
    certified: &Value,
    all: bool,
    (args, (settings, read)): (&VerifyArgs, &Reading),
    console: Console,
) -> Result<()> {
    let quiet = Console { quiet: true, ..console };
    let opened = open(at, args.read.from.as_deref(), read, quiet)?;
    let display = at.display();
    // Threads and memory are those of all units together.
    let found = arrays(opened.flow, &settings.with_cancel(None)).at_file(&display)?;
    let certified = certified.as_array().map(Vec::as_slice).unwrap_or_default();
    // An array that has no name in its format is called as its file.
    let alone = found.len() == 1 && certified.len() == 1;
    let differs = |name: &Value, what: String| {
        let name = name.as_str().unwrap_or_default();
        Error::corrupt(what).with_array(name).file(&display)
    };
    let mut errors = Vec::new();
    for array in certified {
        let same = found.iter().find(|f| alone || f["name"] == array["name"]);
        match same.map(|f| &f["sha256"]) {
            Some(sum) if *sum == array["sha256"] => {}
            Some(sum) => {
                let text = |sum: &Value| sum.as_str().unwrap_or("none").to_string();
                let (found, certified) = (text(sum), text(&array["sha256"]));
                let what = format!("its SHA-256 is {found}, {certified} is certified");
                errors.push(differs(&array["name"], what));
            }
            None => {
                errors.push(differs(&array["name"], "it is certified, and not there".into()));
            }
        }
    }
    if all && !alone {
        let known = |name: &Value| certified.iter().any(|c| c["name"] == *name);
        let more = found.iter().map(|f| &f["name"]).filter(|name| !known(name));
        errors.extend(more.map(|name| differs(name, "it is there, and not certified".into())));
    }
    Error::all(errors)
}
