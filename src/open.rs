//! The one way in: a name and the flags become a location and options, the location an opened input.

use crate::cli;
use crate::console::{Console, Progress};
use crate::detect::{self, Detected};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{Choice, Format, OnDuplicate, ReadOptions};
use crate::model::ArrayMeta;
use crate::pipe::{Flow, fold, nested};
use crate::resolve::{inside, names};
use crate::sidecar;
use crate::storage::Location;

mod locations;
mod options;

#[cfg(feature = "remote")]
pub use locations::remote_options;
pub use locations::{input_location, known_location, output_location, shown};
pub use options::{is_raw, read_options, read_options_typed, resources};

/// An opened input.
pub struct Opened {
    /// Its format.
    pub format: &'static dyn Format,
    /// Its arrays.
    pub flow: Flow,
}

/// Detects and opens an input.
///
/// # Errors
/// Missing, refused, corrupt; with the file's name.
pub fn open(
    at: &Location,
    from: Option<&str>,
    options: &ReadOptions,
    console: Console,
) -> Result<Opened> {
    let display = at.display();
    // The bytes are held until the format has opened them.
    let Detected { format, warning, at, coding, blob: _held } = match from {
        Some(name) => detect::input_named(name, at).at_file(&display)?,
        None => detect::input(at)?,
    };
    if let Some(warning) = warning {
        console.warning(&format!("{display}: {warning}"));
    }
    if at.is_stream() && !format.spec().streams.input && !at.is_rereadable() {
        console.detail(&match coding {
            Some(coding) => {
                let (coding, format) = (coding.name(), format.spec().name);
                format!("{display}: {coding} is unpacked into a temporary file, since {format} needs random access")
            }
            None => format!("{display}: {} needs random access: spooled to a temporary file", format.spec().name),
        });
    }
    if at.is_remote() && ((format.spec().copies_remote)(options) || at.is_copied()) {
        console.detail(&format!(
            "{display}: {} is copied to a temporary file first",
            format.spec().name
        ));
    }
    // A stream's first bytes can be looked at only before it is read.
    let head = if at.is_stream() { Some(at.head(4096)?) } else { None };
    // A look that takes long is shown, as long as nothing else is.
    let bar = Progress::new(0, &display, options.shows_looks);
    let resources = options.resources.with_progress(bar.look_callback());
    let watched = ReadOptions { resources, ..options.clone() };
    let opened = crate::error::guard(|| format.open(&at, &watched));
    bar.end();
    let mut source =
        opened.map_err(|e| detect::explained(e, format, &at, head)).at_file(&display)?;
    if format.spec().keeps_types {
        source = fold::fold(source);
    }
    source = nested::together(source, options.choice.as_ref());
    let mut flow = Flow::from(source);
    if format.spec().keeps_types {
        let mut plan = flow.plan().clone();
        sidecar::unmark_tables(&mut plan);
        flow = flow.relabel(plan);
    }
    let flow = match &options.group {
        Some(group) if !format.spec().has_groups => grouped(flow, group).at_file(&display)?,
        _ => flow,
    };
    Ok(Opened { format, flow })
}

/// The damage of arrays that can be listed all the same; refused ones are none.
pub fn damaged<'a>(arrays: impl Iterator<Item = &'a ArrayMeta>, at: &Location) -> Vec<Error> {
    let errors = arrays.filter_map(|a| Some((a, a.details.error.as_deref()?)));
    errors
        .filter(|(_, e)| e.kind() == ErrorKind::Corrupt)
        .map(|(a, e)| e.clone().with_array(&a.name).file(at.display()))
        .collect()
}

/// `--group` where the format knows no groups: the arrays called `GROUP/…` or `GROUP.…`, under the
/// rest of their names.
fn grouped(flow: Flow, group: &str) -> Result<Flow> {
    let path = group.trim_matches('/');
    if path.is_empty() {
        return Ok(flow);
    }
    let rest = |name: &str| -> Option<String> {
        let rest = name.trim_start_matches('/').strip_prefix(path)?;
        rest.strip_prefix('/')
            .or_else(|| rest.strip_prefix('.'))
            .filter(|r| !r.is_empty())
            .map(str::to_string)
    };
    let plan = flow.plan();
    let (indices, mut new): (Vec<usize>, Vec<String>) =
        plan.arrays.iter().enumerate().filter_map(|(i, a)| Some((i, rest(&a.name)?))).unzip();
    if indices.is_empty() {
        let error = Error::missing(format!(
            "there is no group '{group}': no array is called {path}/… or {path}.…"
        ));
        return Err(error.hint("npk inspect --tree shows the names"));
    }
    let flow = flow.choose(&indices);
    let mut plan = flow.plan().clone();
    names::make_unique(&mut new, OnDuplicate::Rename)?;
    names::set_names(&mut plan, &new);
    let below = format!("{path}/");
    if let Some(attributes) = plan.groups.get(path) {
        plan.attributes = attributes.clone().into();
    }
    plan.groups = plan
        .groups
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(&below)?.to_string(), v.clone())))
        .collect();
    Ok(flow.relabel(plan))
}

/// Tells the source which arrays will be chosen, so that it need not look at the others.
pub fn choosing(options: &ReadOptions, choose: &cli::ChooseArgs) -> ReadOptions {
    // Below a group the names are shorter than in the file.
    let named = options.group.is_none() && !(choose.array.is_empty() && choose.exclude.is_empty());
    let choice =
        named.then(|| Choice { include: choose.array.clone(), exclude: choose.exclude.clone() });
    ReadOptions { choice, ..options.clone() }
}

/// The chosen arrays, and parts of nested ones.
///
/// # Errors
/// As [`inside::choose`].
pub fn chosen(flow: Flow, choose: &cli::ChooseArgs) -> Result<Flow> {
    let step = inside::choose(flow.plan(), &choose.array, &choose.exclude)?;
    Ok(flow.then(step))
}
