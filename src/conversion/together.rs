//! One output by many processes: a share of its rows, or, when all of them are there, its end.

use std::time::Instant;

use serde_json::Value;

use super::outcome::{Outcome, ShareResult};
use super::output::{Resolved, Task, told};
use super::verification;
use crate::batch::context::ConvertContext;
use crate::batch::existing::{existing_error, is_there, skip};
use crate::batch::shares::Shard;
use crate::batch::{Conversion, marks};
use crate::cli::IfExists;
use crate::console::{Counted, Progress};
use crate::error::{Error, Result};
use crate::format::{Existing, Together};
use crate::open::known_location;
use crate::pipe;
use crate::storage::parts;

/// Writes this run's share of an output, or completes it.
pub(super) fn convert(task: &Task<'_>) -> Result<Outcome> {
    let Task { job, unit, dst, format, .. } = *task;
    if is_there(dst)? {
        if let Some(why) = skip(job, unit, dst)? {
            parts::tidy(dst);
            return Ok(Outcome::Skipped(why));
        }
        if job.shard.is_some() && job.write.existing == Existing::Error {
            existing_error(dst, format)?;
        }
    }
    if let Some(share) = job.shard {
        check_flags(job, share)?;
    }
    if unit.sources.iter().any(|source| source == "-") {
        return Err(Error::usage("stdin is read by one process: it has no shares"));
    }
    let began = Instant::now();
    let resolved = task.resolved()?;
    if !job.args.dry_run {
        task.make_folder()?;
    }
    let plan = resolved.flow.plan().clone();
    let source = source(job, unit)?;
    let together =
        format.together(dst, &plan, &job.write, &source).map_err(|e| task.output_named(e))?;
    task.tell_notes(&plan, &resolved.notes);
    match job.shard {
        Some(share) => one_share(task, share, resolved, together),
        None => finish(task, resolved, together, began),
    }
}

fn check_flags(job: &ConvertContext<'_>, share: Shard) -> Result<()> {
    for (flag, given) in [("--certify", job.args.certify), ("--verify", job.args.verify)] {
        if given {
            let error = Error::usage(format!("{flag} reads a whole output, {share} is a share"));
            return Err(error.hint(format!("give {flag} with --finish, when all shares are done")));
        }
    }
    Ok(())
}

/// What the shares are made from: each must find the same.
fn source(job: &ConvertContext<'_>, unit: &Conversion) -> Result<String> {
    let mut all = Vec::new();
    for source in &unit.sources {
        all.push(Value::Object(marks::of_source(&known_location(source, &job.args.read)?)?));
    }
    Ok(Value::Array(all).to_string())
}

fn one_share(
    task: &Task<'_>,
    share: Shard,
    resolved: Resolved,
    together: Box<dyn Together>,
) -> Result<Outcome> {
    let Task { job, unit, dst, .. } = *task;
    let began = Instant::now();
    let Resolved { flow, layout, exported, .. } = resolved;
    let plan = flow.plan().clone();
    let part = |summary: &crate::format::Summary, before| {
        let (files, bytes) = (summary.files, summary.bytes);
        Outcome::Part(ShareResult { share, files, bytes, time: began.elapsed(), before })
    };
    let done = together.done(share)?.filter(|_| job.if_exists != IfExists::Overwrite);
    if job.args.dry_run {
        let text = task.plan_text(&plan, layout, exported)?;
        let state = if done.is_some() { "is done" } else { "is to be written" };
        return Ok(Outcome::Planned(format!("{text}  share {share} {state}\n")));
    }
    if let Some(summary) = done {
        return Ok(part(&summary, true));
    }
    let progress = Progress::new(
        plan.bytes() / share.count,
        &unit.dst,
        !job.args.no_progress && !job.console.quiet && !job.args.json,
    );
    pipe::start(&job.settings)?;
    let settings = job
        .settings
        .with_progress(told(progress.callback(), job.on_progress.clone()))
        .with_output(&dst.display());
    let begin: crate::format::Prepared = Box::new(move |_| together.begin(share));
    let run = pipe::run(flow, task.capabilities, begin, &settings);
    let (summary, _) = run.map_err(|e| task.sources_named(e))?;
    progress.end();
    Ok(part(&summary, false))
}

fn finish(
    task: &Task<'_>,
    resolved: Resolved,
    together: Box<dyn Together>,
    began: Instant,
) -> Result<Outcome> {
    let Task { job, dst, format, .. } = *task;
    let Resolved { flow, layout, exported, .. } = resolved;
    let plan = flow.plan().clone();
    drop(flow);
    if job.args.dry_run {
        let shares = together.check()?;
        let text = task.plan_text(&plan, layout, exported)?;
        return Ok(Outcome::Planned(format!("{text}  all {shares} shares are done\n")));
    }
    let summary = together.finish().map_err(|e| task.output_named(e))?;
    if let Some((backend, key)) = dst.as_remote() {
        backend.forget(key);
    }
    for note in &summary.notes {
        job.note(note);
    }
    if job.args.verify {
        verification::verify(task).map_err(|e| task.output_named(e))?;
    }
    if summary.files == 0 {
        return Ok(Outcome::Skipped("it is finished"));
    }
    Ok(Outcome::Done {
        counted: Counted::of(&plan, exported),
        bytes: summary.bytes,
        time: began.elapsed(),
        layout,
        format: format.spec().name,
    })
}
