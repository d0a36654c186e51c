//! One unit of a batch: from its sources through the pipe to its output.

use super::outcome::Outcome;
use super::output::{
    Resolved, check_output, make_folder, plan_text, resolved, sources_named, tell_notes, told,
    verify_output,
};
use super::{refer, together};
use crate::batch::context::ConvertContext;
use crate::batch::existing::{existing_error, skip};
use crate::batch::{Conversion, space};
use crate::console::{self, Counted, Progress, human_bytes};
use crate::detect;
use crate::error::Result;
use crate::format::Existing;
use crate::open::output_location;
use crate::pipe;
use std::time::Instant;

pub(super) fn convert(job: &ConvertContext<'_>, unit: &Conversion) -> Result<Outcome> {
    let args = job.args;
    if let Some(problem) = &unit.problem {
        return Err(problem.error(&unit.sources[0]));
    }
    if let Some(form) = refer::form(args, &unit.dst)? {
        return refer::refer(job, unit, form);
    }
    let dst = output_location(&unit.dst, &args.read)?;
    let format = detect::output(&dst, args.to.as_deref())?;
    let capabilities = check_output(job, unit, &dst, format)?;
    if unit.shared {
        return together::convert(job, unit, &dst, format, capabilities);
    }
    if let Some(why) = skip(job, unit, &dst)? {
        return Ok(Outcome::Skipped(why));
    }
    let began = Instant::now();
    let Resolved { flow, notes, layout, exported } =
        resolved(job, unit, &dst, format, capabilities)?;
    let plan = flow.plan().clone();
    let prepared = format.prepare(&dst, &plan, &job.write).map_err(|e| e.file(dst.display()))?;
    tell_notes(job, &plan, &notes, format);
    if args.dry_run && job.write.existing == Existing::Error {
        existing_error(&dst, format)?;
    }
    if args.dry_run {
        let text = plan_text(job, unit, &dst, format, &plan, layout, exported)?;
        return Ok(Outcome::Planned(text));
    }
    if job.write.existing == Existing::Error {
        existing_error(&dst, format)?;
    }
    make_folder(job, &dst)?;
    // What cannot fit is not begun.
    if capabilities.is_raw
        && !dst.is_stream()
        && let Some(parent) = dst.parent().local_path()
        && !pipe::may_share(parent)
    {
        space::check(parent, &plan).map_err(|e| e.file(dst.display()))?;
    }
    let progress = Progress::new(
        plan.bytes(),
        &unit.dst,
        !args.no_progress && !job.console.quiet && !args.json,
    );
    pipe::start(&job.settings)?;
    let settings = job
        .settings
        .with_progress(told(progress.callback(), job.on_progress.clone()))
        .with_output(&if dst.is_stream() { console::STDOUT.to_string() } else { dst.display() });
    let (summary, end) =
        pipe::run(flow, capabilities, prepared, &settings).map_err(|e| sources_named(unit, e))?;
    progress.end();
    if args.verify {
        verify_output(job, unit, &dst, format, capabilities.arrays)
            .map_err(|e| e.file(dst.display()))?;
    }
    for note in &summary.notes {
        job.note(note);
    }
    let by_kernel = settings.copied();
    if by_kernel > 0 {
        let (part, all) = (human_bytes(by_kernel), human_bytes(end.bytes()));
        job.console.detail(&format!(
            "{}: {part} of {all} were copied file to file by the kernel",
            dst.display()
        ));
    }
    Ok(Outcome::Done {
        counted: Counted::of(&end, exported),
        bytes: if summary.bytes > 0 { summary.bytes } else { end.bytes() },
        time: began.elapsed(),
        layout,
        format: format.spec().name,
    })
}
