//! What an output will hold, and what is refused or told before it is begun.

use super::gather::{Gathered, gather};
use super::parts::is_text;
use super::quantized;
use crate::batch::context::ConvertContext;
use crate::batch::existing::{rereading, same_place};
use crate::batch::{Conversion, space};
use crate::cli::{self, ConvertArgs};
use crate::console::{self, Counted, human_bytes};
use crate::error::{Error, Result, locked};
use crate::format::{Capabilities, Existing, Format, WriteOptions};
use crate::formats;
use crate::model::{ArrayMeta, Logical, Plan};
use crate::open::{Opened, open, shown};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::policy::Policy;
use crate::resolve::{fit, lists};
use crate::storage::{self, Location};

/// A unit on its way: the run that it is part of, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) job: &'a ConvertContext<'a>,
    pub(super) unit: &'a Conversion,
    pub(super) dst: &'a Location,
    pub(super) format: &'static dyn Format,
    pub(super) capabilities: &'static Capabilities,
}

impl<'a> Task<'a> {
    /// Refuses outputs that cannot be written at all, before any source is opened.
    ///
    /// # Errors
    /// Usage, refused.
    pub(super) fn new(
        job: &'a ConvertContext<'a>,
        unit: &'a Conversion,
        dst: &'a Location,
        format: &'static dyn Format,
    ) -> Result<Task<'a>> {
        let Some(capabilities) = format.spec().writes.as_ref() else {
            return Err(Error::refused(format!("{} can be read, not written", format.spec().name))
                .file(dst.display()));
        };
        if dst.is_stream() && !format.spec().streams.output {
            return Err(Error::usage(format!(
                "{} cannot be written to stdout",
                format.spec().name
            ))
            .hint("give a file name"));
        }
        if dst.is_stream()
            && std::io::IsTerminal::is_terminal(&std::io::stdout())
            && !is_text(format)
        {
            return Err(Error::usage("binary data is not written to a terminal")
                .hint("redirect stdout, or give a file name"));
        }
        if matches!(job.write.existing, Existing::Merge { .. } | Existing::Append)
            && !capabilities.can_append
        {
            return Err(Error::usage("only .npk stores can be merged into or appended to")
                .file(dst.display()));
        }
        if matches!(job.write.existing, Existing::Merge { .. } | Existing::Append)
            && dst.is_remote()
        {
            let error = Error::usage("only local stores can be merged into or appended to")
                .file(dst.display());
            return Err(error.hint("change a local copy, then upload it with --force"));
        }
        if unit.dst != "-"
            && dst.local_path().is_some()
            && dst.kind()? == storage::EntryKind::Stream
        {
            let error = Error::usage("this is a device or a pipe, not a file").file(dst.display());
            return Err(error.hint(format!(
                "write to stdout: npk convert SRC - --to {} > {}",
                format.spec().name,
                unit.dst
            )));
        }
        Ok(Task { job, unit, dst, format, capabilities })
    }

    /// Opens the sources, and makes of their arrays what the output holds.
    pub(super) fn resolved(&self) -> Result<Resolved> {
        let Task { job, unit, format, capabilities, .. } = *self;
        let Gathered { flow, layout, text, exported } =
            gather(job, unit, format, capabilities.arrays).map_err(|e| self.sources_named(e))?;
        self.warn_of_idle_flags(text);
        let flow = match job.write.existing {
            Existing::Append => self.like_stored(flow),
            _ => flow,
        };
        let (flow, notes) = fitted(flow, capabilities, &self.policy(), &job.settings)
            .map_err(|e| self.sources_named(e))?;
        if job.write.existing == Existing::Error
            && unit.sources.iter().any(|s| same_place(s, &unit.dst))
        {
            return Err(Error::exists("source and destination are the same")
                .file(shown(&unit.dst))
                .hint("--force replaces it"));
        }
        Ok(Resolved { flow, notes, layout, exported })
    }

    /// What is done with what the format cannot hold.
    pub(super) fn policy(&self) -> Policy {
        let spec = self.format.spec();
        Policy { sink: spec.name, marks: spec.keeps_types, ..self.job.policy.clone() }
    }

    /// The source in an error about it; where there are several, the message itself says which.
    pub(super) fn sources_named(&self, error: Error) -> Error {
        match &self.unit.sources[..] {
            [one] => error.file(shown(one)),
            _ => error,
        }
    }

    /// The output in an error about it.
    pub(super) fn output_named(&self, error: Error) -> Error {
        error.file(self.dst.display())
    }

    /// Lists in the form that those of the same name have in the store that gets the rows. Why it cannot
    /// be opened, its format says later.
    fn like_stored(&self, flow: Flow) -> Flow {
        let store = self.open_output();
        match store.ok().and_then(|store| lists::like(flow.plan(), store.flow.plan())) {
            Some(step) => flow.then(step),
            None => flow,
        }
    }

    /// The output as an input.
    fn open_output(&self) -> Result<Opened> {
        let name = self.format.spec().name;
        open(self.dst, Some(name), &rereading(self.job), self.job.console)
    }

    /// What the user should hear of the arrays as they are written.
    pub(super) fn tell_notes(&self, plan: &Plan, notes: &[String]) {
        let Task { job, format, .. } = *self;
        for note in plan.notes.iter().chain(notes) {
            job.note(note);
        }
        if let Some(warning) = quantized::warning(plan) {
            job.warning(&warning);
        }
        for note in
            lost_attributes(plan, format, &job.write).into_iter().chain(untied(plan, format))
        {
            job.note(&note);
        }
    }

    /// Makes the output's folder where the destination asks for it, and remembers what was made.
    pub(super) fn make_folder(&self) -> Result<()> {
        let Task { job, dst, .. } = *self;
        if !dst.is_remote()
            && let Some(folder) =
                dst.local_path().and_then(|p| p.parent()).filter(|p| !p.as_os_str().is_empty())
            && makes_folder(job.args)
        {
            let missing = folder
                .ancestors()
                .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
                .map(std::path::Path::to_path_buf);
            locked(&job.made).extend(missing);
            storage::cleanup::make_folder(folder)
                .map_err(|e| Error::from(e).file(folder.display().to_string()))?;
        }
        Ok(())
    }

    /// The lines of `--dry-run`.
    pub(super) fn plan_text(
        &self,
        plan: &Plan,
        layout: Option<&'static str>,
        exported: Option<usize>,
    ) -> Result<String> {
        let Task { job, unit, dst, format, .. } = *self;
        let bytes = plan.bytes();
        let mut text = format!(
            "{} -> {} ({}): {}, {}",
            unit.shown().join(", "),
            unit.dst,
            format.spec().name,
            Counted::of(plan, exported),
            human_bytes(bytes)
        );
        if let Some(layout) = layout {
            text += &format!(", layout {layout}");
        }
        text.push('\n');
        for a in &plan.arrays {
            let shape = a.shape().map_or_else(|| "?".to_string(), |s| format!("{s:?}"));
            text += &format!("  {}  {} {shape}\n", console::visible(&a.name), a.type_name());
        }
        if !dst.is_stream()
            && let Some(parent) = dst.parent().local_path()
        {
            let parent = if makes_folder(job.args) { space::made_in(parent) } else { parent };
            let Some(free) = space::free(parent) else {
                return Err(Error::missing(format!(
                    "the directory {} does not exist",
                    parent.display()
                ))
                .hint(format!("mkdir -p {}", parent.display())));
            };
            space::check(parent, plan).map_err(|e| self.output_named(e))?;
            text += &format!("  {} free\n", human_bytes(free));
        }
        Ok(text)
    }

    /// Warns of layout flags that this format ignores, and of text flags where nothing is text; once a
    /// run.
    fn warn_of_idle_flags(&self, text_in: bool) {
        let Task { job, format, .. } = *self;
        let (args, read) = (job.args, &job.args.read);
        let given = [
            ("compression", args.compression.as_deref().is_some_and(|c| c != "none")),
            ("chunk-shape", args.chunk_shape.is_some()),
            ("shard-shape", args.shard_shape.is_some()),
            ("row-group-size", args.row_group_size.is_some()),
            ("zarr-format", args.zarr_format.is_some()),
            ("max-shard-size", args.max_shard_size.is_some()),
            ("single", args.single),
            ("float-format", args.float_format.is_some()),
            ("metadata", !args.metadata.is_empty()),
        ];
        let idle = |flag: &str| !format.spec().uses(flag);
        for (flag, _) in given.iter().filter(|(flag, given)| *given && idle(flag)) {
            job.warning(&format!("--{flag} changes nothing in {}", format.spec().name));
        }
        let of_text = [
            ("header", read.header != cli::Header::Auto),
            ("column-names", read.column_names.is_some()),
            ("delimiter", read.delimiter.is_some()),
            ("comment", read.comment.is_some()),
            ("quote", read.quote.is_some()),
            ("null-values", read.null_values.is_some()),
            ("decimal", read.decimal.is_some()),
        ];
        let idle = !text_in && !is_text(format);
        for (flag, _) in of_text.iter().filter(|(_, given)| *given && idle) {
            job.warning(&format!(
                "--{flag} changes nothing: neither the input nor the output is a text table"
            ));
        }
        let of_input = [
            ("skip-rows", read.skip_rows > 0, "; --rows N: leaves out rows of any input"),
            ("max-rows", read.max_rows.is_some(), "; --rows :N takes the first rows of any input"),
            ("trim", read.trim, ""),
        ];
        for (flag, _, instead) in of_input.iter().filter(|(_, given, _)| *given && !text_in) {
            job.warning(&format!("--{flag} changes nothing: the input is no text table{instead}"));
        }
    }
}

/// The arrays of an output as it can hold them.
pub(super) struct Resolved {
    pub(super) flow: Flow,
    pub(super) notes: Vec<String>,
    pub(super) layout: Option<&'static str>,
    pub(super) exported: Option<usize>,
}

/// Whether the output's folder is made: a destination that ends in `/`, or a tree below it.
fn makes_folder(args: &ConvertArgs) -> bool {
    let dst = args.output.as_ref().or(args.paths.last());
    dst.is_some_and(|d| d.ends_with('/')) || args.recursive
}

/// The flow with the changes that the sink needs, and what the user should hear of them.
///
/// # Errors
/// Refused: what the sink cannot hold, all of it named.
pub(crate) fn fitted(
    flow: Flow,
    capabilities: &Capabilities,
    policy: &Policy,
    settings: &Settings,
) -> Result<(Flow, Vec<String>)> {
    let (flow, mut notes) = pipe::restore(flow, capabilities.dtypes, settings)?;
    let mut step = match fit::fit(flow.plan(), capabilities, policy) {
        Ok(step) => step,
        Err(error) if policy.ragged_offsets || (capabilities.logical)(&Logical::List) => {
            return Err(error);
        }
        // Of uneven lists the first row that differs is named: worth a look at the values.
        Err(mut error) => {
            let uneven = Error::unless_bug(pipe::uneven_rows(flow, settings))?;
            for (name, [first, row, length]) in uneven.unwrap_or_default() {
                let more = format!(": the first has {first} elements, row {row} has {length}");
                error = error.say_more(&name, &more);
            }
            return Err(error);
        }
    };
    notes.append(&mut step.notes);
    Ok((flow.then(step), notes))
}

/// A note on the attributes that a format cannot hold.
fn lost_attributes(plan: &Plan, format: &dyn Format, options: &WriteOptions) -> Option<String> {
    if options.no_metadata {
        return None;
    }
    let keys = format.lost_attributes(plan, options);
    let more = if keys.len() > 5 { ", …" } else { "" };
    let shown = keys.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    (!keys.is_empty())
        .then(|| format!("{} cannot hold metadata; left out: {shown}{more}", format.spec().name))
}

/// What it takes to write tied arrays once for each name.
fn untied(plan: &Plan, format: &dyn Format) -> Option<String> {
    if format.spec().keeps_aliases
        || !formats::by_name(plan.format).is_some_and(|source| source.spec().keeps_aliases)
    {
        return None;
    }
    let sizes: Vec<u64> = plan
        .arrays
        .iter()
        .filter(|a| a.details.alias_of.is_some())
        .filter_map(ArrayMeta::size_bytes)
        .collect();
    let arrays = if sizes.len() == 1 { "array shares" } else { "arrays share" };
    let text = || {
        format!(
            "{} {arrays} the bytes of another; written under each name they take {} more",
            sizes.len(),
            human_bytes(sizes.iter().sum())
        )
    };
    (!sizes.is_empty()).then(text)
}

/// Both callbacks as one.
pub(super) fn told(bar: pipe::Progress, program: Option<pipe::Progress>) -> pipe::Progress {
    match program {
        None => bar,
        Some(program) => std::sync::Arc::new(move |bytes, array| {
            bar(bytes, array);
            program(bytes, array);
        }),
    }
}
