//! One unit of a batch: from its sources through the pipe to its output.

use std::time::Instant;

use super::outcome::Outcome;
use super::output::{Resolved, Task, told};
use super::{refer, together, verification};
use crate::batch::context::ConvertContext;
use crate::batch::existing::{existing_error, skip};
use crate::batch::{Conversion, space};
use crate::console::{self, Counted, Progress, human_bytes};
use crate::detect;
use crate::error::Result;
use crate::format::Existing;
use crate::open::output_location;
use crate::pipe;

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
    let task = Task::new(job, unit, &dst, format)?;
    if unit.shared {
        return together::convert(&task);
    }
    if let Some(why) = skip(job, unit, &dst)? {
        return Ok(Outcome::Skipped(why));
    }
    let began = Instant::now();
    let Resolved { flow, notes, layout, exported } = task.resolved()?;
    let plan = flow.plan().clone();
    let prepared = format.prepare(&dst, &plan, &job.write).map_err(|e| task.output_named(e))?;
    task.tell_notes(&plan, &notes);
    if job.write.existing == Existing::Error {
        existing_error(&dst, format)?;
    }
    if args.dry_run {
        return Ok(Outcome::Planned(task.plan_text(&plan, layout, exported)?));
    }
    task.make_folder()?;
    // What cannot fit is not begun.
    if task.capabilities.is_raw
        && !dst.is_stream()
        && let Some(parent) = dst.parent().local_path()
        && !pipe::may_share(parent)
    {
        space::check(parent, &plan).map_err(|e| task.output_named(e))?;
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
    let (summary, end) = pipe::run(flow, task.capabilities, prepared, &settings)
        .map_err(|e| task.sources_named(e))?;
    progress.end();
    if args.verify {
        verification::verify(&task).map_err(|e| task.output_named(e))?;
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
