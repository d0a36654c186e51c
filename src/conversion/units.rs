//! Runs the units of a batch, several at a time, and tells what became of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use serde_json::json;

use super::outcome::Outcome;
use super::reconcile::reconcile;
use super::record::{self, Ended, ended, failed};
use super::settings::{Hooks, prepare};
use crate::batch::context::ConvertContext;
use crate::batch::flight::Flight;
use crate::batch::merged::Shares;
use crate::batch::report::{Known, Report};
use crate::batch::shares::Shard;
use crate::batch::{Conversion, Conversions, conversions};
use crate::cli::ConvertArgs;
use crate::console::{self, Console, Told, human_bytes, human_time};
use crate::error::{Error, ErrorKind, Result};
use crate::open::{output_location, shown};
use crate::pipe;
use crate::storage::Location;

/// Converts.
///
/// # Errors
/// Wrong usage; for a single file its error. A batch reports its errors itself.
pub fn run(args: &ConvertArgs, console: Console<'_>, hooks: Hooks) -> Result<u8> {
    let job = prepare(args, console, hooks)?;
    let units = conversions(&job)?;
    if let Some((at, shares)) = shares_to_reconcile(&job)? {
        return match args.finish {
            true => finish(&job, &units, &shares, &at),
            false => reconcile(&job, &units, &shares, &at, None),
        };
    }
    if let Some(survey) = units.survey(&job)? {
        let _ = job.survey.set(survey);
    }
    let (mut ledger, known) = Ledger::begin(&job)?.unzip();
    let known = known.as_ref();
    // A share is part of a batch, however few units it has, unless all have a part of the same.
    let mut batch = units.count != 1 || job.shard.is_some() && !units.shared;
    let began = Instant::now();
    let mut tally = Tally::default();
    if !batch && let Some(unit) = units.next()? {
        batch = one(&job, &units, known, unit, &mut tally, &mut ledger)?;
    } else {
        each_unit(&job, &units, known, &mut tally, &mut ledger)?;
    }
    // Where --fail-fast left units out, the report has no end.
    if let Some(ledger) = ledger.filter(|_| !(args.fail_fast && tally.failed > 0)) {
        ledger.finish(&job, &units)?;
    }
    let Tally { code, failed, skipped, done, planned, bytes: total } = tally;
    if batch {
        if args.json {
            let mut summary = json!({"schema": 1, "summary": true, "converted": done, "skipped": skipped, "failed": failed, "bytes": total, "seconds": began.elapsed().as_secs_f64()});
            if args.dry_run {
                summary["planned"] = json!(planned);
            }
            console::json(&summary, false)?;
        }
        console.summary(&format!(
            "{}, {skipped} skipped, {failed} failed of {}: {} in {}",
            if args.dry_run { format!("{planned} planned") } else { format!("{done} converted") },
            done + planned + skipped + failed,
            human_bytes(total),
            human_time(began.elapsed())
        ));
    }
    Ok(code)
}

/// The report that the shares of this batch have written, where the command is for all of them.
fn shares_to_reconcile(job: &ConvertContext<'_>) -> Result<Option<(Location, Shares)>> {
    let (Some(place), None) = (&job.args.report, job.shard) else { return Ok(None) };
    let at = output_location(place, &job.args.read)?;
    let shares = Shares::open(&at)?;
    Ok(shares.of.is_some_and(|of| of > 1).then_some((at, shares)))
}

/// Completes an output whose shares have a report, which then has all of them.
fn finish(
    job: &ConvertContext<'_>,
    units: &Conversions,
    shares: &Shares,
    at: &Location,
) -> Result<u8> {
    let mut tally = Tally::default();
    let Some(unit) = units.next()? else { return Ok(0) };
    one(job, units, None, unit.clone(), &mut tally, &mut None)?;
    if job.args.dry_run {
        return Ok(0);
    }
    let line = if job.args.certify { Some(record::done(job, &unit, None, 1)?) } else { None };
    reconcile(job, &conversions(job)?, shares, at, line)
}

/// The only unit of a run: its error is the command's. Returns whether it comes to several outputs.
fn one(
    job: &ConvertContext<'_>,
    units: &Conversions,
    known: Option<&Known>,
    unit: Conversion,
    tally: &mut Tally,
    ledger: &mut Option<Ledger>,
) -> Result<bool> {
    let stdout = matches!(unit.dst.as_str(), "-" | "/dev/stdout");
    if job.args.json && !job.args.dry_run && stdout {
        return Err(Error::usage("--json and the output cannot both go to stdout")
            .hint("name an output file, or leave --json out"));
    }
    if stdout && ledger.is_some() {
        return Err(Error::usage("what goes to stdout cannot be reported on"));
    }
    let settled = units.settled(job, unit)?;
    let outputs = settled.len();
    for unit in settled {
        let ended = ended(job, known, unit, outputs);
        published(job, &ended, ledger)?;
        let Ended { unit, result, .. } = ended;
        // The report of a single unit that failed is one, too.
        if outputs == 1
            && result.is_err()
            && let Some(ledger) = ledger.take()
        {
            ledger.finish(job, units)?;
        }
        tally.count(job, &unit, result, outputs > 1)?;
    }
    Ok(outputs > 1)
}

/// The report of a run, and what it has come to.
struct Ledger {
    report: Report,
    units: u64,
    done: u64,
    failed: u64,
    bytes: u64,
    changed: u64,
}

impl Ledger {
    /// Where `--report` asks for one.
    fn begin(job: &ConvertContext<'_>) -> Result<Option<(Ledger, Known)>> {
        let Some(place) = job.args.report.as_ref().filter(|_| !job.args.dry_run) else {
            return Ok(None);
        };
        let at = output_location(place, &job.args.read)?;
        let (report, known) = Report::begin(at, job.shard.unwrap_or(Shard::WHOLE))?;
        let ledger = Ledger { report, units: 0, done: 0, failed: 0, bytes: 0, changed: 0 };
        Ok(Some((ledger, known)))
    }

    fn add(&mut self, unit: &Conversion, line: &serde_json::Value) -> Result<()> {
        self.units += 1;
        let done = line["status"] == "done";
        self.done += u64::from(done);
        self.failed += u64::from(!done);
        self.bytes += line["mark"]["bytes"].as_u64().unwrap_or(0);
        self.changed += u64::from(line["certified"]["identical"] == false);
        self.report.add(&unit.unit, &line.to_string())
    }

    fn finish(self, job: &ConvertContext<'_>, units: &Conversions) -> Result<()> {
        let shard = job.shard.unwrap_or(Shard::WHOLE);
        let local = !units.base.contains("://");
        let absolute = std::path::absolute(if units.base.is_empty() { "." } else { &units.base });
        let base = match absolute.ok().filter(|_| local) {
            Some(path) => path.display().to_string(),
            None => shown(&units.base),
        };
        let mut last = json!({
            "schema": 1, "final": true, "share": shard.index, "of": shard.count, "destination": base,
            "units": self.units, "done": self.done, "failed": self.failed, "bytes": self.bytes,
        });
        if job.args.certify {
            last["changed"] = json!(self.changed);
        }
        last["npk"] = json!(env!("CARGO_PKG_VERSION"));
        self.report.finish(last)
    }
}

/// What a run has come to.
#[derive(Default)]
struct Tally {
    /// The exit code: 1 as soon as something failed, unless that is a bug.
    code: u8,
    failed: u64,
    skipped: u64,
    done: u64,
    planned: u64,
    bytes: u64,
}

impl Tally {
    fn count(
        &mut self,
        job: &ConvertContext<'_>,
        unit: &Conversion,
        result: Result<Outcome>,
        batch: bool,
    ) -> Result<()> {
        let is_told = !batch || job.console.verbose > 0;
        match result {
            Ok(Outcome::Done { counted, bytes, time, layout, .. }) => {
                self.done += 1;
                self.bytes += bytes;
                if is_told {
                    let rate = if time.as_secs_f64() > 0.0 {
                        (bytes as f64 / time.as_secs_f64()) as u64
                    } else {
                        bytes
                    };
                    let layout = layout.map(|l| format!(", layout {l}")).unwrap_or_default();
                    let (size, took, rate) =
                        (human_bytes(bytes), human_time(time), human_bytes(rate));
                    job.console.summary(&format!(
                        "{}: {counted}, {size} in {took}, {rate}/s{layout}",
                        unit.dst
                    ));
                }
            }
            Ok(Outcome::Part(part)) => {
                self.done += u64::from(!part.before);
                self.skipped += u64::from(part.before);
                let took = if part.before { "done before" } else { &human_time(part.time) };
                job.console.summary(&format!("{}: {}: {took}", unit.dst, part.text()));
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped += 1;
                if is_told {
                    job.console.summary(&format!("{}: skipped, {why}", unit.dst));
                }
            }
            Ok(Outcome::Planned(text)) => {
                self.planned += 1;
                if !job.args.json && job.console.listener.is_none() {
                    console::out(&text)?;
                }
            }
            Err(e) if !batch || e.kind() == ErrorKind::BrokenPipe => return Err(e),
            Err(e) => {
                job.console.error(&e);
                self.failed += 1;
                self.code = if e.is_bug() { console::exit_code(&e) } else { self.code.max(1) };
            }
        }
        Ok(())
    }
}

/// Several files at once, sharing threads and memory; reported in the order in which they end.
fn each_unit(
    job: &ConvertContext<'_>,
    units: &Conversions,
    known: Option<&Known>,
    tally: &mut Tally,
    ledger: &mut Option<Ledger>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    let memory = job.read.resources.memory_bytes();
    let mut flight = Flight::new(job.read.resources.jobs(), units.remote, memory, units.count);
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel(64);
        let (mut active, mut wanted) = (0, flight.first());
        loop {
            for _ in 0..wanted {
                let (send, stop) = (send.clone(), &stop);
                let work = move || {
                    worker(job, units, known, stop, &send);
                    let _ = send.send(Message::Gone);
                };
                let worker = std::thread::Builder::new().name(format!("npk-file-{active}"));
                match worker.spawn_scoped(scope, work) {
                    Ok(_) => active += 1,
                    Err(e) if active == 0 => return Err(pipe::no_threads(e)),
                    Err(_) => break, // those that started do all of it
                }
            }
            if active == 0 {
                return Ok(());
            }
            let told = match receive.recv_timeout(flight.check_after(active)) {
                Ok(Message::Gone) => {
                    // There is nothing left to begin.
                    (active, flight.most) = (active - 1, 0);
                    Ok(())
                }
                Ok(Message::Ended(ended)) => tell(job, *ended, tally, ledger),
                Ok(Message::Failed(e)) => Err(e),
                Err(_) => Ok(()),
            };
            if let Err(e) = told {
                stop.store(true, Ordering::Relaxed);
                return Err(e);
            }
            wanted = flight.more(active);
        }
    })
}

/// Tells of a unit that has ended: the report, a line of JSON, who listens.
fn published(job: &ConvertContext<'_>, ended: &Ended, ledger: &mut Option<Ledger>) -> Result<()> {
    let Ended { unit, result, line: report } = ended;
    if let (Some(ledger), Some(report)) = (ledger.as_mut(), report) {
        ledger.add(unit, report)?;
    }
    if job.args.json {
        console::json(&line(unit, result), false)?;
    }
    hear(job, unit, result);
    Ok(())
}

/// Reports a unit that has ended, as a part of a batch.
fn tell(
    job: &ConvertContext<'_>,
    ended: Ended,
    tally: &mut Tally,
    ledger: &mut Option<Ledger>,
) -> Result<()> {
    published(job, &ended, ledger)?;
    let Ended { unit, result, .. } = ended;
    tally.count(job, &unit, result, true)
}

/// What a worker says.
enum Message {
    Ended(Box<Ended>),
    /// No unit can be told any more.
    Failed(Error),
    /// It has nothing more to do.
    Gone,
}

/// Converts one unit after the other, until there are no more or nobody listens.
fn worker(
    job: &ConvertContext<'_>,
    units: &Conversions,
    known: Option<&Known>,
    stop: &AtomicBool,
    send: &SyncSender<Message>,
) {
    while !stop.load(Ordering::Relaxed) && job.settings.check().is_ok() {
        let unit = match units.next() {
            Ok(Some(unit)) => unit,
            Ok(None) => return,
            Err(e) => {
                let _ = send.send(Message::Failed(e));
                return;
            }
        };
        let shown = shown(&unit.sources[0]);
        let settled = match crate::error::guard(|| units.settled(job, unit.clone())) {
            Ok(settled) => settled,
            Err(e) => {
                stop.fetch_or(job.args.fail_fast, Ordering::Relaxed);
                if send.send(Message::Ended(Box::new(failed(unit, e.file(shown), 1)))).is_err() {
                    return;
                }
                continue;
            }
        };
        let outputs = settled.len();
        for unit in settled {
            let ended = ended(job, known, unit, outputs);
            stop.fetch_or(ended.result.is_err() && job.args.fail_fast, Ordering::Relaxed);
            if send.send(Message::Ended(Box::new(ended))).is_err() {
                return;
            }
        }
    }
}

/// Tells a program what became of a unit.
fn hear(job: &ConvertContext<'_>, unit: &Conversion, result: &Result<Outcome>) {
    let Some(listener) = job.console.listener else { return };
    let (sources, destination) = (unit.shown(), unit.dst.clone());
    let mut told = Told { sources, destination, ..Told::default() };
    match result {
        Ok(Outcome::Done { counted, bytes, time, layout, format }) => {
            (told.arrays, told.columns) = (counted.arrays, counted.columns);
            (told.bytes, told.time, told.layout, told.format) = (*bytes, *time, *layout, format);
        }
        Ok(Outcome::Part(part)) if part.before => told.skipped = Some("the share is done"),
        Ok(Outcome::Part(part)) => (told.bytes, told.time) = (part.bytes, part.time),
        Ok(Outcome::Skipped(why)) => told.skipped = Some(why),
        Ok(Outcome::Planned(text)) => told.planned = Some(text.clone()),
        Err(e) => told.error = Some(e.clone()),
    }
    listener.output(told);
}

fn line(unit: &Conversion, result: &Result<Outcome>) -> serde_json::Value {
    let mut v = json!({"schema": 1, "sources": unit.shown(), "output": unit.dst});
    match result {
        Ok(Outcome::Done { counted, bytes, time, layout, format }) => {
            v["status"] = json!("converted");
            v["format"] = json!(format);
            v["arrays"] = json!(counted.arrays);
            if let Some(columns) = counted.columns {
                v["columns"] = json!(columns);
            }
            v["bytes"] = json!(bytes);
            v["seconds"] = json!(time.as_secs_f64());
            if let Some(layout) = layout {
                v["layout"] = json!(layout);
            }
        }
        Ok(Outcome::Part(part)) => {
            v["status"] = json!(if part.before { "skipped" } else { "converted" });
            if part.before {
                v["reason"] = json!("the share is done");
            }
            v["share"] = json!(part.share.index);
            v["of"] = json!(part.share.count);
            v["files"] = json!(part.files);
            v["bytes"] = json!(part.bytes);
            v["seconds"] = json!(part.time.as_secs_f64());
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
            v.as_object_mut().into_iter().for_each(|keys| keys.extend(console::fault(e)));
        }
    }
    v
}
