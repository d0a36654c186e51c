//! One output by many processes: a share of its rows, or, when all of them are there, its end.

use std::time::Instant;

use serde_json::Value;

use super::outcome::{Outcome, ShareResult};
use super::output::{Resolved, make_folder, plan_text, resolved, tell_notes, told, verify_output};
use crate::batch::context::ConvertContext;
use crate::batch::existing::{existing_error, is_there, skip};
use crate::batch::shares::Shard;
use crate::batch::{Conversion, marks};
use crate::cli::IfExists;
use crate::console::{Counted, Progress};
use crate::error::{Error, Result};
use crate::format::{Capabilities, Existing, Format, Together};
use crate::open::{known_location, shown};
use crate::pipe;
use crate::storage::Location;

/// Writes this run's share of an output, or completes it.
pub(super) fn convert(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    dst: &Location,
    format: &'static dyn Format,
    capabilities: &'static Capabilities,
) -> Result<Outcome> {
    if is_there(dst)? {
        if let Some(why) = skip(job, unit, dst)? {
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
    let resolved = resolved(job, unit, dst, format, capabilities)?;
    if !job.args.dry_run {
        make_folder(job, dst)?;
    }
    let plan = resolved.flow.plan().clone();
    let source = source(job, unit)?;
    let together =
        format.together(dst, &plan, &job.write, &source).map_err(|e| e.file(dst.display()))?;
    tell_notes(job, &plan, &resolved.notes, format);
    match job.shard {
        Some(share) => one_share(job, unit, (dst, format, capabilities), share, resolved, together),
        None => finish(job, unit, (dst, format, capabilities), resolved, together, began),
    }
}

/// What is written: where, and what that can hold.
type Target<'a> = (&'a Location, &'static dyn Format, &'static Capabilities);

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
    job: &ConvertContext<'_>,
    unit: &Conversion,
    (dst, format, capabilities): Target<'_>,
    share: Shard,
    resolved: Resolved,
    together: Box<dyn Together>,
) -> Result<Outcome> {
    let began = Instant::now();
    let Resolved { flow, layout, exported, .. } = resolved;
    let plan = flow.plan().clone();
    let part = |summary: &crate::format::Summary, before| {
        let (files, bytes) = (summary.files, summary.bytes);
        Outcome::Part(ShareResult { share, files, bytes, time: began.elapsed(), before })
    };
    let done = together.done(share)?.filter(|_| job.if_exists != IfExists::Overwrite);
    if job.args.dry_run {
        let text = plan_text(job, unit, dst, format, &plan, layout, exported)?;
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
    let run = pipe::run(flow, capabilities, begin, &settings);
    let name = if let [one] = &unit.sources[..] { Some(shown(one)) } else { None };
    let (summary, _) = run.map_err(|e| match name {
        Some(name) => e.file(name),
        None => e,
    })?;
    progress.end();
    Ok(part(&summary, false))
}

fn finish(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    (dst, format, capabilities): Target<'_>,
    resolved: Resolved,
    together: Box<dyn Together>,
    began: Instant,
) -> Result<Outcome> {
    let Resolved { flow, layout, exported, .. } = resolved;
    let plan = flow.plan().clone();
    drop(flow);
    if job.args.dry_run {
        let shares = together.check()?;
        let text = plan_text(job, unit, dst, format, &plan, layout, exported)?;
        return Ok(Outcome::Planned(format!("{text}  all {shares} shares are done\n")));
    }
    let summary = together.finish().map_err(|e| e.file(dst.display()))?;
    if let Some((backend, key)) = dst.as_remote() {
        backend.forget(key);
    }
    for note in &summary.notes {
        job.note(note);
    }
    if job.args.verify {
        verify_output(job, unit, dst, format, capabilities.arrays)
            .map_err(|e| e.file(dst.display()))?;
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
