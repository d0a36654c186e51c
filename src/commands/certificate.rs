//! `npk verify --certificate`: do both sides of a batch still hold what was certified?

use serde_json::{Value, json};

use crate::batch::merged::{Lines, Shares};
use crate::batch::merkle::Tree;
use crate::cli::VerifyArgs;
use crate::console::{self, Console};
use crate::conversion::record::arrays;
use crate::detect;
use crate::error::{Context, Error, Result, guard};
use crate::open::{input_location, open, read_options_typed, shown};
use crate::pipe::Settings;
use crate::storage::{EntryKind, Location};

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
    let files = match at.kind()? {
        EntryKind::Dir => Shares::open(&at)?.files(),
        _ => vec![at],
    };
    if files.is_empty() {
        return Err(Error::missing("there is no report of a share").file(path));
    }
    let mut units = Units { chosen: Vec::new(), count: 0, random: random()? };
    let mut roots = Vec::new();
    for file in files {
        roots.push(units.look(&file, args.sample)?);
    }
    if units.count == 0 {
        return Err(Error::missing("the report certifies nothing")
            .file(path)
            .hint("npk convert --report DIR --certify makes a certificate"));
    }
    let (mut code, mut failures, mut checked) = (0, Vec::new(), 0u64);
    let mut check = |unit: &Unit| -> Result<()> {
        checked += 1;
        if let Err(e) = guard(|| unit.check(args, console)) {
            console.error(&e);
            code = console::worst(code, &e);
            let mut failure = json!({"unit": unit.certified["unit"]});
            failure.as_object_mut().into_iter().for_each(|keys| keys.extend(console::fault(&e)));
            failures.push(failure);
        }
        Ok(())
    };
    match args.sample {
        Some(_) => units.chosen.iter().try_for_each(&mut check)?,
        None => roots.iter().try_for_each(|(file, destination, _)| {
            each(file, &mut |line| check(&Unit::new(&line, destination))).map(drop)
        })?,
    }
    let roots: Vec<&str> = roots.iter().filter_map(|(_, _, root)| root.as_deref()).collect();
    if args.json {
        let all = json!({
            "schema": 1, "certificate": path, "valid": code == 0, "units": units.count,
            "checked": checked, "roots": roots, "failures": failures,
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

/// The units of a certificate.
struct Units {
    /// The sample: any of all units is in it as likely as any other.
    chosen: Vec<Unit>,
    count: u64,
    random: u64,
}

/// What is certified of a unit, and where its output was put.
struct Unit {
    certified: Value,
    destination: String,
}

/// Hands on the certified lines of a report.
fn each(file: &Location, take: &mut dyn FnMut(Value) -> Result<()>) -> Result<Vec<Value>> {
    let mut lines = Lines::open(vec![file.clone()])?;
    while let Some((_, _, line)) = lines.next()? {
        if line.get("certified").is_some() {
            take(line)?;
        }
    }
    Ok(lines.finals)
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
        let finals = each(file, &mut |line| {
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
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::from(std::io::Error::from(e)))?;
    Ok(u64::from_le_bytes(bytes) | 1)
}

impl Unit {
    fn new(line: &Value, destination: &str) -> Unit {
        let certified = line["certified"].clone();
        Unit { certified, destination: destination.to_string() }
    }

    /// Compares the output, below the path that was given or where it was put, and in the latter
    /// case the sources, too.
    fn check(&self, args: &VerifyArgs, console: Console) -> Result<()> {
        let key = self.certified["output"].as_str().unwrap_or_default();
        let base = args.paths.first().map_or(self.destination.as_str(), String::as_str);
        let base = input_location(base, &args.read)?;
        let at = base.join(key);
        let at = if at.kind()? == EntryKind::Missing { other_format(&at)? } else { at };
        compare(&at, &self.certified["arrays"], true, args, console)?;
        if !args.paths.is_empty() {
            return Ok(());
        }
        for source in self.certified["sources"].as_array().into_iter().flatten() {
            let path = source["path"].as_str().unwrap_or_default();
            compare(&input_location(path, &args.read)?, &source["arrays"], false, args, console)?;
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
    args: &VerifyArgs,
    console: Console,
) -> Result<()> {
    let quiet = Console { quiet: true, ..console };
    let options = read_options_typed(&args.read, &args.raw)?;
    let opened = open(at, args.read.from.as_deref(), &options, quiet)?;
    let display = at.display();
    let found = arrays(opened.flow, &Settings::of(&options.resources)).at_file(&display)?;
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
            Some(sum) => errors.push(differs(
                &array["name"],
                format!("its SHA-256 is {sum}, {} is certified", array["sha256"]),
            )),
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
