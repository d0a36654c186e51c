//! Compares what all shares of a batch have written into the report with what the batch is.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::batch::Conversions;
use crate::batch::context::ConvertContext;
use crate::batch::existing::is_there;
use crate::batch::merged::Shares;
use crate::batch::merkle::Tree;
use crate::batch::shares::{Shard, hash64};
use crate::batch::survey::each_output;
use crate::console::{self, human_bytes};
use crate::error::{Context, Error, Result};
use crate::open::output_location;
use crate::storage::{Existing, Location, temporary};

/// Names of each kind that are kept to be told.
const MAX_TOLD: usize = 1000;
/// And how many of them are printed as text.
const SHOWN: usize = 20;

/// How many there are of something, and the first of them.
#[derive(Default)]
struct Names {
    count: u64,
    first: Vec<Value>,
}

impl Names {
    fn add(&mut self, name: Value) {
        self.count += 1;
        if self.first.len() < MAX_TOLD {
            self.first.push(name);
        }
    }
}

/// The units of a batch. A million of them are 16 bytes each in memory, their keys are on disk.
struct Expected {
    keys: File,
    /// Hashes, in order, and where the keys are.
    index: Vec<(u64, u64)>,
}

impl Expected {
    fn read(units: &Conversions) -> Result<Expected> {
        let mut keys = BufWriter::new(temporary::file()?);
        let (mut index, mut end) = (Vec::new(), 0);
        while let Some(unit) = units.next()? {
            let len = unit.unit.len() as u64;
            keys.write_all(&len.to_le_bytes()).map_err(temporary::error)?;
            keys.write_all(unit.unit.as_bytes()).map_err(temporary::error)?;
            index.push((hash64(&unit.unit), end));
            end += 8 + len;
        }
        index.sort_unstable();
        let keys = keys.into_inner().map_err(|e| temporary::error(e.into_error()))?;
        Ok(Expected { keys, index })
    }

    fn key(&self, at: u64) -> Result<String> {
        let mut len = [0; 8];
        self.keys.read_exact_at(&mut len, at).map_err(temporary::error)?;
        let mut key = vec![0; u64::from_le_bytes(len) as usize];
        self.keys.read_exact_at(&mut key, at + 8).map_err(temporary::error)?;
        Ok(String::from_utf8_lossy(&key).into_owned())
    }
}

/// What is wrong with a batch.
#[derive(Default)]
struct Findings {
    /// Units that no share has done, or whose output is gone.
    missing: Names,
    failed: Names,
    /// Units in the report, and outputs, that are none of the batch's.
    extra: Names,
    done: u64,
    bytes: u64,
    changed: u64,
}

/// Tells what is missing, what failed and what is there besides, and writes all shares' lines as
/// one report, with `more` behind those of its unit. Returns the exit code: 0 where nothing is
/// missing and nothing failed, else 1.
///
/// # Errors
/// What cannot be read or written.
pub(super) fn reconcile(
    job: &ConvertContext<'_>,
    units: &Conversions,
    shares: &Shares,
    at: &Location,
    more: Option<Value>,
) -> Result<u8> {
    let expected = Expected::read(units)?;
    let (there, mut findings) = outputs(job, units, &expected)?;
    let file = at.join("report.jsonl");
    let name = file.display();
    let mut out = BufWriter::new(file.create_file(Existing::Replace, true)?);
    let (mut tree, mut lines) = (Tree::default(), shares.lines()?);
    let mut wanted = expected.index.iter().peekable();
    let mut next = lines.next()?;
    while let Some((hash, _, line)) = &next {
        let (hash, unit) = (*hash, line["unit"].as_str().unwrap_or_default().to_string());
        while let Some(&(_, key)) = wanted.next_if(|(h, _)| *h < hash) {
            findings.missing.add(json!(expected.key(key)?));
        }
        let is_wanted = wanted.next_if(|(h, _)| *h == hash).is_some();
        // A unit of several outputs has a line for each.
        let (mut done, mut outputs, mut of_share) = (0, 1, false);
        while let Some((_, text, line)) = &next
            && line["unit"] == unit.as_str()
        {
            out.write_all(text).map_err(Error::from).at_file(&name)?;
            tree.push(line);
            outputs = line["outputs"].as_u64().unwrap_or(1);
            of_share = line.get("share").is_some();
            done += u64::from(findings.see(line, is_wanted, &there));
            next = lines.next()?;
        }
        if let Some(line) = more.as_ref().filter(|line| line["unit"] == unit.as_str()) {
            writeln!(out, "{line}").map_err(Error::from).at_file(&name)?;
            tree.push(line);
        }
        // What all shares make together is one.
        findings.done += u64::from(of_share && is_wanted && done >= outputs);
        if is_wanted && done < outputs {
            findings.missing.add(json!(unit));
        }
        if !is_wanted {
            findings.extra.add(json!(unit));
        }
    }
    for &(_, key) in wanted {
        findings.missing.add(json!(expected.key(key)?));
    }
    let last = findings.last(expected.index.len() as u64, shares, tree.root());
    writeln!(out, "{last}").map_err(Error::from).at_file(&name)?;
    let out = out.into_inner().map_err(|e| Error::from(e.into_error()).file(&name))?;
    out.commit().at_file(&name)?;
    findings.tell(job, units, shares, &last)?;
    let complete = last["missing"] == 0 && last["failed"] == 0 && shares.missing() == 0;
    Ok(u8::from(!complete))
}

/// The outputs that are there, by their hashes; those that no unit makes are findings.
fn outputs(
    job: &ConvertContext<'_>,
    units: &Conversions,
    expected: &Expected,
) -> Result<(HashSet<u64>, Findings)> {
    let (mut there, mut findings) = (HashSet::new(), Findings::default());
    let at = output_location(&units.base, &job.args.read)?;
    let Some(kind) = &units.kind else {
        for &(hash, key) in &expected.index {
            if is_there(&at.join(&expected.key(key)?))? {
                there.insert(hash);
            }
        }
        return Ok((there, findings));
    };
    each_output(&at, kind, &mut |key, _| {
        let hash = hash64(key);
        there.insert(hash);
        let index = &expected.index;
        if index.binary_search_by_key(&hash, |(h, _)| *h).is_err() && !units.several {
            findings.extra.add(json!(key));
        }
        Ok(())
    })?;
    Ok((there, findings))
}

impl Findings {
    /// Counts a line; says whether its output is there.
    fn see(&mut self, line: &Value, wanted: bool, there: &HashSet<u64>) -> bool {
        if line["status"] != "done" {
            let keys = ["unit", "output", "error", "hint", "exit_code"];
            self.failed.add(keys.into_iter().map(|k| (k.to_string(), line[k].clone())).collect());
            return true;
        }
        self.done += u64::from(wanted && line.get("share").is_none());
        self.bytes += line["mark"]["bytes"].as_u64().unwrap_or(0);
        self.changed += u64::from(line["certified"]["identical"] == false);
        there.contains(&hash64(line["output"].as_str().unwrap_or_default()))
    }

    /// The final line.
    fn last(&self, units: u64, shares: &Shares, root: Option<String>) -> Value {
        let destination =
            shares.done.first().map_or(Value::Null, |(_, l)| l["destination"].clone());
        let mut last = json!({
            "schema": 1, "final": true, "of": shares.of, "destination": destination,
            "units": units, "done": self.done, "failed": self.failed.count,
            "missing": self.missing.count, "extra": self.extra.count, "bytes": self.bytes,
        });
        if let Some(root) = root {
            last["changed"] = json!(self.changed);
            last["root"] = json!(root);
        }
        last["npk"] = json!(env!("CARGO_PKG_VERSION"));
        last
    }

    fn tell(
        &self,
        job: &ConvertContext<'_>,
        units: &Conversions,
        shares: &Shares,
        last: &Value,
    ) -> Result<()> {
        if job.args.json {
            let mut all = last.clone();
            let lists = [
                ("missing_units", &self.missing),
                ("failures", &self.failed),
                ("extra_units", &self.extra),
            ];
            for (key, names) in lists {
                all[key] = Value::Array(names.first.clone());
            }
            all["missing_shares"] = json!(shares.first_missing(MAX_TOLD));
            return console::json(&all, false);
        }
        let text = |name: &Value| name.as_str().map(str::to_string);
        for name in self.missing.first.iter().take(SHOWN).filter_map(text) {
            // What all shares make together is in none of them.
            let share = shares.of.filter(|_| units.kind.is_some()).map(|of| Shard::of(&name, of));
            let maker = share.map_or(String::new(), |share| format!(": share {share} makes it"));
            job.console.error(&Error::failed(format!("it is missing{maker}")).file(name));
        }
        for failure in self.failed.first.iter().take(SHOWN) {
            let (unit, error) = (text(&failure["unit"]), text(&failure["error"]));
            let error = Error::failed(format!("failed: {}", error.unwrap_or_default()));
            job.console.error(&error.file(unit.unwrap_or_default()));
        }
        for name in self.extra.first.iter().take(SHOWN).filter_map(text) {
            job.console.warning(&format!("{name}: no source of this batch makes it"));
        }
        let (missing, of) = (shares.missing(), shares.of.unwrap_or(0));
        if missing > 0 {
            let first = shares.first_missing(SHOWN).iter().map(u64::to_string).collect::<Vec<_>>();
            let more = if missing > SHOWN as u64 { ", …" } else { "" };
            let told = format!("{missing} of {of} shares are not done: {}{more}", first.join(", "));
            let again = format!("run --shard {}/{of} and so on, with --skip-existing", first[0]);
            job.console.error(&Error::failed(told).hint(again));
        }
        job.console.summary(&format!(
            "{} of {} done, {} missing, {} failed, {} extra: {}",
            self.done,
            last["units"],
            self.missing.count,
            self.failed.count,
            self.extra.count,
            human_bytes(self.bytes)
        ));
        Ok(())
    }
}
