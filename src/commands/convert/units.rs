//! Runs the units of a batch, several at a time, and tells what became of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ConvertContext, convert, prepare};
use crate::batch::{Conversion, Conversions, conversions};
use crate::cli::ConvertArgs;
use crate::commands::{input_location, jobs, shown};
use crate::console::{self, Counted, Voice, human_bytes, human_time};
use crate::error::{Error, Kind, Result};
use crate::pipe;

/// What became of a unit.
pub(super) enum Outcome {
    Done {
        counted: Counted,
        bytes: u64,
        time: Duration,
        layout: Option<&'static str>,
        format: &'static str,
    },
    Skipped(&'static str),
    Planned(String),
}

/// Converts.
///
/// # Errors
/// Wrong usage; for a single file its error. A batch reports its errors itself.
pub fn run(args: &ConvertArgs, voice: Voice) -> Result<u8> {
    let job = prepare(args, voice)?;
    let units = conversions(&job)?;
    // A share is part of a batch, however few units it has.
    let mut batch = units.count != 1 || job.shard.is_some();
    let began = Instant::now();
    let mut tally = Tally::default();
    if !batch && let Some(unit) = units.next()? {
        batch = one(&job, &units, unit, &mut tally)?;
    } else {
        each_unit(&job, &units, &mut tally)?;
    }
    let Tally { code, failed, skipped, done, bytes: total } = tally;
    if batch {
        if args.json {
            console::json(
                &json!({"schema": 1, "summary": true, "converted": done, "skipped": skipped, "failed": failed, "bytes": total, "seconds": began.elapsed().as_secs_f64()}),
                false,
            )?;
        }
        voice.summary(&format!(
            "{done} converted, {skipped} skipped, {failed} failed of {}: {} in {}",
            done + skipped + failed,
            human_bytes(total),
            human_time(began.elapsed())
        ));
    }
    Ok(code)
}

/// The only unit of a run: its error is the command's. Returns whether it comes to several outputs.
fn one(
    job: &ConvertContext<'_>,
    units: &Conversions,
    unit: Conversion,
    tally: &mut Tally,
) -> Result<bool> {
    let stdout = matches!(unit.dst.as_str(), "-" | "/dev/stdout");
    if job.args.json && !job.args.dry_run && stdout {
        return Err(Error::usage("--json and the output cannot both go to stdout")
            .hint("name an output file, or leave --json out"));
    }
    let settled = units.settled(job, unit)?;
    let batch = settled.len() > 1;
    for unit in settled {
        let result = crate::error::guard(|| checked(job, &unit));
        if job.args.json {
            console::json(&line(&unit, &result), false)?;
        }
        tally.count(job, &unit, result, batch)?;
    }
    Ok(batch)
}

/// What a run has come to.
#[derive(Default)]
struct Tally {
    /// The exit code: 1 as soon as something failed, unless that is a bug.
    code: u8,
    failed: u64,
    skipped: u64,
    done: u64,
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
        let talk = !batch || job.voice.verbose > 0;
        match result {
            Ok(Outcome::Done { counted, bytes, time, layout, .. }) => {
                self.done += 1;
                self.bytes += bytes;
                if talk {
                    let rate = if time.as_secs_f64() > 0.0 {
                        (bytes as f64 / time.as_secs_f64()) as u64
                    } else {
                        bytes
                    };
                    let layout = layout.map(|l| format!(", layout {l}")).unwrap_or_default();
                    let (size, took, rate) =
                        (human_bytes(bytes), human_time(time), human_bytes(rate));
                    job.voice.summary(&format!(
                        "{}: {counted}, {size} in {took}, {rate}/s{layout}",
                        unit.dst
                    ));
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
                    console::out(&text)?;
                }
            }
            Err(e) if !batch || e.kind() == Kind::BrokenPipe => return Err(e),
            Err(e) => {
                job.voice.error(&e);
                self.failed += 1;
                self.code = if e.is_bug() { console::exit_code(&e) } else { self.code.max(1) };
            }
        }
        Ok(())
    }
}

/// Several files at once, sharing threads and memory; reported in the order in which they end.
fn each_unit(job: &ConvertContext<'_>, units: &Conversions, tally: &mut Tally) -> Result<()> {
    let stop = AtomicBool::new(false);
    let workers = jobs(&job.args.read).min(units.count as usize);
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel(2 * workers);
        for n in 0..workers {
            let (send, stop) = (send.clone(), &stop);
            let work = move || worker(job, units, stop, &send);
            match std::thread::Builder::new()
                .name(format!("npk-file-{n}"))
                .spawn_scoped(scope, work)
            {
                Ok(_) => {}
                Err(e) if n == 0 => return Err(pipe::no_threads(e)),
                Err(_) => break, // those that started do all of it
            }
        }
        drop(send);
        for ended in receive {
            let told = ended.and_then(|(unit, result)| {
                if job.args.json {
                    console::json(&line(&unit, &result), false)?;
                }
                tally.count(job, &unit, result, true)
            });
            if let Err(e) = told {
                stop.store(true, Ordering::Relaxed);
                return Err(e);
            }
        }
        Ok(())
    })
}

/// Converts a unit whose source is what the list says.
fn checked(job: &ConvertContext<'_>, unit: &Conversion) -> Result<Outcome> {
    if let (Some(listed), [source]) = (&unit.listed, &unit.sources[..]) {
        listed
            .check(&input_location(source, &job.args.read)?)
            .map_err(|e| e.file(shown(source)))?;
    }
    convert(job, unit)
}

/// A unit, and what became of it; or why no unit can be told.
type Ended = Result<(Conversion, Result<Outcome>)>;

/// Converts one unit after the other, until there are no more or nobody listens.
fn worker(
    job: &ConvertContext<'_>,
    units: &Conversions,
    stop: &AtomicBool,
    send: &SyncSender<Ended>,
) {
    while !stop.load(Ordering::Relaxed) {
        let unit = match units.next() {
            Ok(Some(unit)) => unit,
            Ok(None) => return,
            Err(e) => {
                let _ = send.send(Err(e));
                return;
            }
        };
        let settled = match crate::error::guard(|| units.settled(job, unit.clone())) {
            Ok(settled) => settled,
            Err(e) => {
                stop.fetch_or(job.args.fail_fast, Ordering::Relaxed);
                let file = shown(&unit.sources[0]);
                if send.send(Ok((unit, Err(e.file(file))))).is_err() {
                    return;
                }
                continue;
            }
        };
        for unit in settled {
            let result = crate::error::guard(|| checked(job, &unit));
            stop.fetch_or(result.is_err() && job.args.fail_fast, Ordering::Relaxed);
            if send.send(Ok((unit, result))).is_err() {
                return;
            }
        }
    }
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
