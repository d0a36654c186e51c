//! One source of an output: opened, chosen, cut and cast, before it is joined with the others.

use std::collections::HashSet;
use std::sync::Arc;

use super::quantized;
use crate::batch::Conversion;
use crate::batch::context::ConvertContext;
use crate::cli::{self, ConvertArgs};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::format::{Arrays, Format, ReadOptions};
use crate::model::{Dtype, Logical};
use crate::open::{input_location, open};
use crate::pipe::join::JoinedSource;
use crate::pipe::parked::{Parked, Parking, files_of};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::partitions::{Partitions, folders};
use crate::resolve::rows::Slice;
use crate::resolve::{cast, names};
use crate::storage::{self, Location};

/// Opens the sources of a unit, and opens them again where they had to be closed. It owns what it
/// needs of the job.
#[derive(Clone)]
pub(super) struct Opener {
    args: ConvertArgs,
    read: ReadOptions,
    settings: Settings,
    casts: Vec<(Option<String>, Dtype)>,
    times: Vec<(String, Logical)>,
    slice: Option<Slice>,
    partitions: Partitions,
    sources: Vec<String>,
    /// Only this array.
    array: Option<String>,
    /// Whether the output is a table.
    into_table: bool,
}

/// A source as it goes into the join.
pub(super) struct Opened {
    pub(super) flow: Flow,
    pub(super) at: Location,
    /// Whether it is a file of text.
    pub(super) text: bool,
    /// Whether its format holds tables.
    pub(super) table: bool,
}

impl Opener {
    pub(super) fn new(job: &ConvertContext<'_>, unit: &Conversion, into: Arrays) -> Opener {
        let args = job.args;
        let folders: Vec<String> = match args.concat {
            true => unit.sources.iter().zip(&unit.below).map(|(s, b)| folders(s, b)).collect(),
            false => Vec::new(),
        };
        let partitions = Partitions::new(&folders);
        let choose = match &unit.array {
            Some(name) => cli::ChooseArgs { array: vec![name.clone()], exclude: Vec::new() },
            None => args.choose.clone(),
        };
        // A pattern may mean a column that only the folders' names make.
        let read = if partitions.is_empty() {
            crate::open::choosing(&job.read, &choose)
        } else {
            job.read.clone()
        };
        Opener {
            args: args.clone(),
            read,
            settings: job.settings.clone(),
            casts: job.casts.clone(),
            times: job.times.clone(),
            slice: job.slice,
            partitions,
            sources: unit.sources.clone(),
            array: unit.array.clone(),
            into_table: into == Arrays::Table,
        }
    }

    /// Whether rows are joined.
    pub(super) fn joins(&self) -> bool {
        self.args.concat && self.sources.len() > 1
    }

    /// Opens the source of this number.
    pub(super) fn open(&self, part: usize, console: Console) -> Result<Opened> {
        let args = &self.args;
        let at = input_location(&self.sources[part], &args.read)?;
        let opened = open(&at, args.read.from.as_deref(), &self.read, console)?;
        let text = is_text(opened.format);
        let table = opened.format.spec().writes.is_some_and(|h| h.arrays == Arrays::Table);
        let flow = self
            .chosen(opened.flow, part, table, &at, console)
            .and_then(|flow| self.changed(flow, table, &at.stem()))
            .map_err(|e| e.file(at.display()))?;
        Ok(Opened { flow, at, text, table })
    }

    /// With the columns of its folders' names, and only the arrays that were asked for.
    fn chosen(
        &self,
        mut flow: Flow,
        part: usize,
        table: bool,
        at: &Location,
        console: Console,
    ) -> Result<Flow> {
        let args = &self.args;
        if table && !self.partitions.is_empty() {
            let step = self.partitions.add(flow.plan(), part)?;
            flow = flow.then(step);
        }
        flow = quantized::look(flow, at, &self.read, &self.settings)?;
        let needs_choice = !args.choose.array.is_empty()
            || !args.choose.exclude.is_empty()
            || flow.plan().arrays.is_empty();
        if needs_choice {
            flow = crate::open::chosen(flow, &args.choose)?;
        }
        if let Some(i) = self.array.as_ref().and_then(|name| flow.plan().position(name)) {
            flow = flow.choose(&[i]);
        }
        if args.skip_unsupported {
            let arrays = &flow.plan().arrays;
            let good: Vec<usize> =
                (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
            for (a, error) in arrays.iter().filter_map(|a| Some((a, a.details.error.as_ref()?))) {
                console.warning(&format!(
                    "{}: {}: left out: {}",
                    at.display(),
                    a.name,
                    error.reason()
                ));
            }
            if good.is_empty() {
                return Err(Error::refused("nothing in it can be read"));
            }
            if good.len() < arrays.len() {
                flow = flow.choose(&good);
            }
        }
        Ok(flow)
    }

    /// Under the names that the join needs, cut and cast.
    fn changed(&self, mut flow: Flow, table: bool, stem: &str) -> Result<Flow> {
        let args = &self.args;
        // A table of several columns takes the name once it is known how it is laid out.
        let columns = table && !self.into_table && flow.plan().arrays.len() > 1;
        if let Some(name) = args.name.as_ref().filter(|_| args.concat && !columns) {
            let mut plan = flow.plan().clone();
            names::check_single(&plan)?;
            names::set_names(&mut plan, std::slice::from_ref(name));
            flow = flow.relabel(plan);
        } else if args.prefix_by_file {
            let mut plan = flow.plan().clone();
            let new: Vec<String> =
                plan.arrays.iter().map(|a| format!("{stem}.{}", a.name)).collect();
            names::set_names(&mut plan, &new);
            flow = flow.relabel(plan);
        }
        // Rows of joined arrays can only be told after the join; all others are cut before the
        // casts look at them.
        if let Some(slice) = self.slice
            && !self.joins()
        {
            let source = pipe::settled(flow, &self.settings)?;
            flow = pipe::slice(source, slice, &self.settings)?.into();
        }
        if !self.casts.is_empty() || !self.times.is_empty() {
            let step = cast::cast_arrays(flow.plan(), &self.casts, &self.times, args.lossy)?;
            flow = flow.then(step);
        }
        Ok(flow)
    }
}

/// The sources of a unit.
pub(super) enum Sources {
    /// One, with what becomes of its arrays.
    One(Box<Flow>),
    /// Those that are joined.
    Many(Vec<JoinedSource>),
}

/// All sources of a unit, opened. Where too many files would be open at a time, sources are closed
/// until they are read.
pub(super) fn open_all(
    opener: &Arc<Opener>,
    console: Console,
    mut each: impl FnMut(&Opened),
) -> Result<Sources> {
    if opener.sources.len() == 1 {
        let opened = opener.open(0, console)?;
        each(&opened);
        return Ok(Sources::One(Box::new(opened.flow)));
    }
    let parts = open_parts(opener, console, &mut each)?;
    if !opener.args.concat || opener.read.whole_structs || !structs_differ(&parts) {
        return Ok(Sources::Many(parts));
    }
    drop(parts);
    let read = ReadOptions { whole_structs: true, ..opener.read.clone() };
    let opener = Arc::new(Opener { read, ..opener.as_ref().clone() });
    Ok(Sources::Many(open_parts(&opener, Console::SILENT, &mut each)?))
}

/// Whether a struct column is one array in some parts, since it is null somewhere, and one a field
/// in others.
fn structs_differ(parts: &[JoinedSource]) -> bool {
    let of = |part: &JoinedSource| -> HashSet<String> {
        let arrays = part.source.plan().arrays.iter();
        arrays.filter(|a| a.logical.nested().is_some()).map(|a| a.name.clone()).collect()
    };
    let all: HashSet<String> = parts.iter().flat_map(of).collect();
    let differs = |part: &JoinedSource| {
        let arrays = &part.source.plan().arrays;
        arrays.iter().any(|a| {
            let above = |(at, _): (usize, &str)| all.contains(&a.name[..at]);
            a.name.match_indices('.').any(above)
        })
    };
    !all.is_empty() && parts.iter().any(differs)
}

fn open_parts(
    opener: &Arc<Opener>,
    console: Console,
    each: &mut dyn FnMut(&Opened),
) -> Result<Vec<JoinedSource>> {
    let limit = storage::file_limit();
    let most_files = limit / 2;
    let parking = Parking::new(limit / 8);
    let mut files = 0;
    let mut parts = Vec::new();
    for part in 0..opener.sources.len() {
        let opened = opener.open(part, console)?;
        each(&opened);
        let label = opened.at.display();
        let mut source = pipe::settled(opened.flow, &opener.settings)?;
        // Some open their files only when they are read.
        files += files_of(source.plan());
        let crowded = opener.sources.len() > 1
            && (files > most_files || storage::open_files().is_none_or(|n| n > most_files));
        if crowded && !opened.at.is_stream() {
            let again = opener.clone();
            let quiet = Console::SILENT;
            let reopen =
                Arc::new(move || pipe::settled(again.open(part, quiet)?.flow, &again.settings));
            source = Box::new(Parked::new(source, reopen, parking.clone()));
        }
        parts.push(JoinedSource { source, label });
    }
    Ok(parts)
}

/// CSV and TXT.
pub(super) fn is_text(format: &dyn Format) -> bool {
    format.spec().uses("float-format")
}
