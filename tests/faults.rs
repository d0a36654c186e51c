//! Interrupts, kills and failing disks at every operation on files: the old output or the new one
//! is there, whole, and nothing else.
//!
//! The suite takes every 23rd operation of each case, each case from another one on. `make faults`
//! takes them all and prints figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use crate::support::faults::{Fault, npk_hit};
use crate::support::{Files, Scratch, entries_below, npk_command};

mod cases;
mod full_disk;
mod stopped;

use cases::{Case, Kind};

/// The same without what differs from run to run.
fn contents(path: &Path) -> Files {
    let mut all = entries_below(path);
    for (name, bytes) in &mut all {
        if name.ends_with("metadata.npkm") {
            without_times(bytes);
        }
        let member = bytes
            .windows(13)
            .position(|w| w == b"metadata.npkm")
            .filter(|_| name.ends_with(".npkg"));
        if let Some(at) = member {
            // The checksum at the end is of the times, too.
            bytes.truncate(bytes.len() - 4);
            without_times(bytes.get_mut(at + 13 + 16..).unwrap_or_default());
        }
        if name.ends_with(".jsonl") {
            *bytes = without_seconds(bytes);
        }
    }
    all
}

/// Metadata differ from run to run by the time of writing. What was not written to its end, a
/// temporary file of a killed run, stays as it is from there on.
fn without_times(metadata: &mut [u8]) {
    let number = |metadata: &[u8], at: usize| {
        let bytes = metadata.get(at..at + 4)?;
        Some(bytes.iter().rev().fold(0usize, |n, &b| n << 8 | b as usize))
    };
    let mut next = |at: usize| {
        let mut at = at + 4 + number(metadata, at)?;
        at += 4 + 8 * number(metadata, at)?;
        at += 4 + number(metadata, at)?;
        metadata.get_mut(at..at + 8)?.fill(0);
        Some(at + 8 + 8 + 1 + 1 + 4 + 8 + 8 + 1)
    };
    let mut at = 20;
    while let Some(after) = next(at) {
        at = after;
    }
}

/// The lines of a report differ by the time that they took, and its last line by what was there.
fn without_seconds(lines: &[u8]) -> Vec<u8> {
    let mut all = String::new();
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        all += &format!("{} {}\n", line["output"], line["bytes"]);
    }
    all.into_bytes()
}

/// The names in the folder itself, each with what is below it.
fn outputs(files: &Files) -> BTreeMap<String, Files> {
    let mut all: BTreeMap<String, Files> = BTreeMap::new();
    for (name, bytes) in files {
        let output = name.split('/').next().unwrap_or_default().to_string();
        all.entry(output).or_default().insert(name.clone(), bytes.clone());
    }
    all
}

/// What the case's folder holds before, and after a run to which nothing happens.
struct Known {
    before: Files,
    after: Files,
    /// The bytes of the files before.
    files: Files,
}

/// Makes the folder of outputs as it was before.
fn prepare(s: &Scratch, files: &Files) {
    std::fs::remove_dir_all(s.join("out")).unwrap();
    std::fs::create_dir(s.join("out")).unwrap();
    for (name, bytes) in files {
        let path = s.join("out").join(name);
        if name.ends_with('/') {
            std::fs::create_dir(path).unwrap()
        } else {
            std::fs::write(path, bytes).unwrap()
        }
    }
}

fn run(s: &Scratch, args: &[String]) -> Output {
    let mut command = npk_command();
    command.args(args).current_dir(s.path()).env("TMPDIR", s.join("tmp")).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Known {
    /// `None` where the format cannot hold what the case has.
    fn of(s: &Scratch, case: &Case) -> Option<Known> {
        prepare(s, &Files::new());
        for args in case.before.iter().chain([&case.run]) {
            let last = args == &case.run;
            let (files, before) = (entries_below(&s.join("out")), contents(&s.join("out")));
            let output = run(s, args);
            if output.status.code() == Some(4) {
                return None;
            }
            assert!(output.status.success(), "{args:?}: {}", told(&output));
            if last {
                let after = contents(&s.join("out"));
                assert!(before != after, "{args:?} changes nothing");
                return Some(Known { before, after, files });
            }
        }
        None
    }
}

/// What was tried, and what went wrong.
#[derive(Default)]
struct Figures {
    tried: usize,
    old: usize,
    new: usize,
    partly: usize,
    operations: BTreeMap<String, usize>,
    failures: Vec<String>,
}

/// What is there after a fault, output by output: old, new, or what is wrong with it.
fn states(known: &Known, found: &Files, kind: Kind, killed: bool) -> Result<[usize; 2], String> {
    let (before, after, found) = (outputs(&known.before), outputs(&known.after), outputs(found));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut counts = [0, 0];
    for name in names {
        let is = found.get(name);
        if is == after.get(name) && is != before.get(name) {
            counts[1] += 1;
        } else if is == before.get(name) {
            counts[0] += usize::from(before.get(name) != after.get(name));
        } else if kind == Kind::Report && name == "report" {
            // Lines of a run that was stopped stay for the next one.
            counts[0] += 1;
        } else if kind == Kind::Shares && name.contains(".npk-parts-") {
            // So does what a share has written, and what is left beside the whole.
            let whole = |found: &Files| found.contains_key("o.zarr/zarr.json");
            counts[0] += usize::from(!found.values().any(whole));
        } else if let (Kind::Append, Some(is)) = (kind, is) {
            let new = grown(&before[name], &after[name], is, killed)?;
            counts[usize::from(new)] += 1;
        } else {
            return Err(format!("{name} is neither old nor new: {:?}", is.map(|f| f.keys())));
        }
    }
    Ok(counts)
}

/// Whether a store has the new rows; those of the old one may be followed by bytes that nobody
/// sees.
fn grown(before: &Files, after: &Files, found: &Files, killed: bool) -> Result<bool, String> {
    let own = |name: &&String| name.contains("/.npk-");
    let metadata = found.keys().find(|n| n.ends_with("metadata.npkm")).ok_or("no metadata")?;
    let (new, whole) = match found[metadata] == after[metadata] {
        true => (true, after),
        false if found[metadata] == before[metadata] => (false, before),
        false => return Err("metadata of neither".into()),
    };
    for (name, bytes) in whole {
        let waits = || found.iter().find(|(n, _)| n.contains("/.npk-append-side-"));
        let good = match found.get(name) {
            Some(is) if is == bytes => true,
            Some(is) if name.ends_with(".npkd") => !new && killed && is.starts_with(bytes),
            _ if name.ends_with("npk.json") => waits().is_some_and(|(_, side)| side == bytes),
            _ => false,
        };
        if !good {
            return Err(format!("{name} is not that of {}", if new { "after" } else { "before" }));
        }
    }
    let unknown = |name: &&String| !whole.contains_key(*name) && !own(name);
    match found.keys().find(unknown) {
        // A file that the killed append began.
        Some(name) if !(killed && after.contains_key(name)) => Err(format!("{name} is left")),
        _ => Ok(new),
    }
}

impl Figures {
    /// One run with a fault, and what must hold after it. `None` where it has fewer operations.
    fn judge(&mut self, s: &Scratch, case: &Case, known: &Known, fault: Fault, n: usize) -> bool {
        prepare(s, &known.files);
        let args: Vec<&str> = case.run.iter().map(String::as_str).collect();
        let Some((operation, output)) = npk_hit(s.path(), "", fault, n, &args) else {
            return false;
        };
        let verb = operation.split(' ').next().unwrap_or_default().to_string();
        *self.operations.entry(verb.clone()).or_default() += 1;
        self.tried += 1;
        if let Err(wrong) = self.held(s, case, known, fault, (&verb, &output)) {
            self.failures.push(format!(
                "{} {fault:?} at {n}, {operation}: {wrong}; exit {:?}: {}",
                case.name,
                output.status.code(),
                told(&output).trim()
            ));
        }
        true
    }

    fn held(
        &mut self,
        s: &Scratch,
        case: &Case,
        known: &Known,
        fault: Fault,
        (verb, output): (&str, &Output),
    ) -> Result<(), String> {
        let (killed, code) = (fault == Fault::Kill, output.status.code());
        let signal = matches!(fault, Fault::Signal(_));
        let found = contents(&s.join("out"));
        let is_own = |name: &&String| name.contains(".npk-tmp-") || name.contains("/.npk-");
        // What cannot be removed, or not be looked for, is left to the next run.
        let cannot_clean = matches!(verb, "unlink" | "rmdir" | "open" | "rename") && !signal;
        if let Some(left) = found.keys().find(is_own)
            && !killed
            && !cannot_clean
        {
            return Err(format!("{left} is left"));
        }
        let shown: Files = found.into_iter().filter(|(n, _)| !n.contains(".npk-tmp-")).collect();
        let unknown = |n: &&String| {
            let top = n.split('/').next().unwrap_or_default();
            !known.before.keys().chain(known.after.keys()).any(|k| k.split('/').next() == Some(top))
        };
        if let Some(name) = shown.keys().find(unknown) {
            return Err(format!("{name} is left"));
        }
        let [old, new] = states(known, &shown, case.kind, killed || cannot_clean)?;
        match (old, new) {
            (0, _) => self.new += 1,
            (_, 0) => self.old += 1,
            _ => self.partly += 1,
        }
        let fine = match (killed, signal, old) {
            (true, ..) => code.is_none(),
            (_, true, 0) => matches!(code, Some(0 | 129 | 130 | 143)),
            (_, true, _) => code == Some(fault.exit_code()),
            (_, _, 0) => code.is_some_and(|c| c <= 7),
            // Lines that cannot be removed do no harm beside the whole report.
            _ if case.kind == Kind::Report && verb == "unlink" => code == Some(0),
            _ => code.is_some_and(|c| (1..=7).contains(&c)) && told(output).contains("error"),
        };
        if !fine || told(output).contains("panicked") {
            return Err(format!("not a fair exit with {old} old and {new} new"));
        }
        let temporaries = std::fs::read_dir(s.join("tmp")).unwrap().count();
        if temporaries > 0 {
            let _ = std::fs::remove_dir_all(s.join("tmp"));
            std::fs::create_dir(s.join("tmp")).unwrap();
            if !killed && !cannot_clean {
                return Err("temporary files are left".into());
            }
        }
        self.next(s, case, known, old > 0)
    }

    /// The next run ends what this one began, and leaves nothing.
    fn next(&self, s: &Scratch, case: &Case, known: &Known, again: bool) -> Result<(), String> {
        let next = match again || case.kind == Kind::Shares {
            true => case.again.as_ref().unwrap_or(&case.run).clone(),
            false => cases::words("convert -q old.csv out/other.csv"),
        };
        let output = run(s, &next);
        if !output.status.success() {
            return Err(format!("the next run fails: {}", told(&output).trim()));
        }
        let _ = std::fs::remove_file(s.join("out/other.csv"));
        if case.kind == Kind::Append && !again {
            let output = run(s, &cases::words("edit -q out/o.npk --compact"));
            let output = if output.status.success() {
                run(s, &cases::words("verify -q out/o.npk"))
            } else {
                output
            };
            if !output.status.success() {
                return Err(format!("not whole: {}", told(&output).trim()));
            }
        }
        let found = contents(&s.join("out"));
        let is_own = |name: &&String| name.contains(".npk-tmp-") || name.contains("/.npk-");
        if let Some(left) = found.keys().find(is_own) {
            return Err(format!("{left} is left after the next run"));
        }
        if found == known.after || case.kind == Kind::Append && !again {
            return Ok(());
        }
        let differ = |n: &&String| found.get(*n) != known.after.get(*n);
        let names: BTreeSet<&String> = found.keys().chain(known.after.keys()).collect();
        Err(format!("after the next run differ {:?}", names.into_iter().find(differ)))
    }
}

impl Fault {
    fn exit_code(self) -> i32 {
        match self {
            Fault::Signal("hup") => 129,
            Fault::Signal("term") => 143,
            _ => 130,
        }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const FAULTS: [Fault; 7] = [
    Fault::Fails(EIO),
    Fault::FailsFromNowOn(ENOSPC),
    Fault::Kill,
    Fault::ReadFails(EIO),
    Fault::Signal("int"),
    Fault::Signal("term"),
    Fault::Signal("hup"),
];

/// Takes every `step`th operation of every case.
fn sweep(step: usize, wanted: &str) -> Figures {
    let s = Scratch::new();
    cases::sources(&s);
    std::fs::create_dir(s.join("out")).unwrap();
    std::fs::create_dir(s.join("tmp")).unwrap();
    let mut all = Figures::default();
    let mut held = BTreeMap::new();
    for (i, case) in cases::all().iter().enumerate() {
        if !case.name.contains(wanted) {
            continue;
        }
        let known = Known::of(&s, case);
        *held.entry(case.format).or_insert(0) += usize::from(known.is_some());
        let Some(known) = known else { continue };
        let mut of_case = Figures::default();
        for (k, fault) in FAULTS.into_iter().enumerate() {
            // Three signals are one way through the code.
            let rare = matches!(fault, Fault::Signal("term" | "hup"));
            let step = if rare { step.max(7) } else { step };
            let mut n = 1 + (i * 5 + k * 3) % step;
            while of_case.judge(&s, case, &known, fault, n) {
                n += step;
            }
            let none = step == 1 && n == 1 && !matches!(fault, Fault::ReadFails(_));
            assert!(!none, "{}: the fault {k} happens nowhere", case.name);
        }
        if step == 1 {
            println!("{}: {}", case.name, of_case.line());
        }
        all.add(of_case);
    }
    for (format, cases) in held {
        assert!(cases > 0, "no case of {format}");
    }
    all
}

impl Figures {
    fn line(&self) -> String {
        format!(
            "{} points tried ({} old, {} new, {} partly), {} failures",
            self.tried,
            self.old,
            self.new,
            self.partly,
            self.failures.len()
        )
    }
    fn add(&mut self, other: Figures) {
        for failure in &other.failures {
            println!("FAILURE {failure}");
        }
        self.tried += other.tried;
        self.old += other.old;
        self.new += other.new;
        self.partly += other.partly;
        for (name, count) in other.operations {
            *self.operations.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

#[test]
fn the_old_output_or_the_new_one_at_some_operations() {
    let figures = sweep(23, "");
    assert!(figures.failures.is_empty(), "{}\n{:#?}", figures.line(), figures.failures);
    assert!(figures.tried > 300 && figures.old > 100 && figures.new > 20, "{}", figures.line());
}

/// `NPK_FAULTS=zarr` takes the cases with this in their name alone.
#[test]
#[ignore = "every operation of every case: make faults"]
fn the_old_output_or_the_new_one_at_every_operation() {
    let figures = sweep(1, &std::env::var("NPK_FAULTS").unwrap_or_default());
    println!("{}\n{:?}", figures.line(), figures.operations);
    assert!(figures.failures.is_empty(), "{:#?}", figures.failures);
}
