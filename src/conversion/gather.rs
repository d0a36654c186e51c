//! The sources of one output, opened, chosen, joined, cut, cast, laid out and renamed.

use std::sync::Arc;

use super::parts::{Opener, Sources, open_all};

use crate::batch::Conversion;
use crate::batch::context::ConvertContext;
use crate::cli::ConvertArgs;
use crate::error::{Error, Result};
use crate::format::{Arrays, Format};
use crate::pipe::join::{Concat, Union};
use crate::pipe::{self, Flow};
use crate::resolve::names::Renaming;
use crate::resolve::table::Layout;
use crate::resolve::{names, nested, table};
use crate::storage::Location;

/// What [`gather`] made of the sources.
pub(super) struct Gathered {
    /// The arrays as they are to be written, but for what the output cannot hold.
    pub(super) flow: Flow,
    /// Which layout was chosen for a table.
    pub(super) layout: Option<&'static str>,
    /// Whether one of them is text.
    pub(super) text: bool,
    /// How many arrays became the columns of a table, where the output is one.
    pub(super) exported: Option<usize>,
}

/// Opens, chooses, joins, cuts, casts, lays out and renames.
pub(super) fn gather(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    format: &dyn Format,
    into: Arrays,
) -> Result<Gathered> {
    let args = job.args;
    let (mut table_file, mut text) = (false, false);
    let mut stem = String::new();
    let opener = Arc::new(Opener::new(job, unit, into));
    let joins = opener.joins();
    let sources = open_all(&opener, job.console, |opened| {
        text |= opened.text;
        table_file |= opened.table;
        if stem.is_empty() {
            stem = match joins {
                true => joined_name(args, unit).unwrap_or_else(|| opened.at.stem()),
                false => opened.at.stem(),
            };
        }
    })?;
    let mut flow = match sources {
        Sources::One(flow) => *flow,
        Sources::Many(parts) if args.concat => Flow::from(Box::new(Concat::new(parts)?)),
        Sources::Many(_) if into == Arrays::One => {
            return Err(Error::usage(format!(
                "{} holds one array, but there are {} sources",
                format.spec().name,
                unit.sources.len()
            ))
            .hint("--concat joins their rows"));
        }
        Sources::Many(parts) => Flow::from(Box::new(Union::new(parts, job.read.on_duplicate)?)),
    };
    if let Some(slice) = job.slice
        && joins
    {
        if flow.plan().arrays.iter().any(|a| a.rows.is_none()) {
            let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
            flow = Box::new(pipe::with_random(flow, &all, &job.settings)?).into();
        }
        flow = pipe::slice(flow.into_source(), slice, &job.settings)?.into();
    }
    let single_name = job.renaming.name.is_some() && !args.concat;
    let name = job.renaming.name.clone().filter(|_| !args.concat);
    let renaming = Renaming { name, partial: unit.array.is_some(), ..job.renaming.clone() };
    let (mut layout, mut exported) = (None, None);
    if into == Arrays::Table {
        exported = Some(flow.plan().arrays.len());
        flow = rename(flow, &renaming, single_name, job)?;
        let columns = job.write.text.column_names.as_deref().filter(|_| !table_file);
        let max_rank = match format.spec().writes {
            Some(h) if job.policy.nested_json && nested::holds_json(&h) => usize::MAX,
            held => held.map_or(1, |h| h.max_rank),
        };
        let step = table::export(flow.plan(), job.layout, max_rank, columns)?;
        flow = flow.then(step);
    } else if table_file {
        (flow, layout) = import(flow, unit, &renaming, &stem, job)?;
    } else {
        flow = rename(flow, &renaming, single_name, job)?;
    }
    Ok(Gathered { flow, layout, text, exported })
}

/// The columns of a table as arrays, or as one; the layout that was chosen.
fn import(
    mut flow: Flow,
    unit: &Conversion,
    renaming: &Renaming,
    stem: &str,
    job: &ConvertContext<'_>,
) -> Result<(Flow, Option<&'static str>)> {
    let single_name = renaming.name.is_some();
    let mut wanted =
        if unit.sources.len() > 1 && !job.args.concat { Layout::Columns } else { job.layout };
    if flow.has_unsettled() {
        // Parts of lists have rows of their own.
        match wanted {
            Layout::Matrix => flow = pipe::settled(flow, &job.settings)?.into(),
            _ => wanted = Layout::Columns,
        }
    }
    let name = job.args.name.as_deref().unwrap_or(stem);
    let (step, chosen) = table::import(flow.plan(), wanted, name, job.policy.nulls.as_ref())?;
    let flow = match (step, &job.args.name) {
        (Some(step), _) => {
            let flow = flow.then(step);
            if single_name {
                names::check_single(flow.plan())?;
            }
            rename_matrix(flow, renaming, job)?
        }
        (None, Some(table)) if flow.plan().arrays.len() > 1 => {
            name_columns(flow, table, renaming, job)?
        }
        _ => rename(flow, renaming, single_name, job)?,
    };
    Ok((flow, chosen))
}

/// What the matrix of a joined directory is called: as the directory.
pub(super) fn joined_name(args: &ConvertArgs, unit: &Conversion) -> Option<String> {
    let sources = args.paths.len() - usize::from(args.output.is_none());
    let at = Location::local(
        args.paths
            .first()
            .filter(|_| sources == 1 && args.files_from.is_none())?
            .trim_end_matches('/'),
    );
    let inside = at
        .local_path()
        .is_some_and(|p| unit.sources.iter().all(|s| std::path::Path::new(s).starts_with(p)));
    Some(at.file_name()).filter(|name| inside && !name.is_empty())
}

/// Names the columns of a table after it: `table/a`. Their headers stay.
fn name_columns(
    flow: Flow,
    table: &str,
    renaming: &Renaming,
    job: &ConvertContext<'_>,
) -> Result<Flow> {
    let own = Renaming { name: None, ..renaming.clone() };
    let flow = rename(flow, &own, false, job)?;
    let plan = names::below(flow.plan(), table);
    let new: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
    let shown = new.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = if new.len() > 3 { ", …" } else { "" };
    job.note(&format!("the table becomes one array for each column; --name puts its name before theirs: {shown}{more}"));
    Ok(flow.relabel(plan))
}

fn rename(
    mut flow: Flow,
    renaming: &Renaming,
    single: bool,
    job: &ConvertContext<'_>,
) -> Result<Flow> {
    if single {
        names::check_single(flow.plan())?;
    }
    if renaming.is_empty() {
        return Ok(flow);
    }
    let mut new = renaming.names(flow.plan())?;
    let kept = names::kept_of_repeated(&new, job.read.on_duplicate);
    if kept.len() < new.len() {
        new = kept.iter().map(|&i| new[i].clone()).collect();
        flow = flow.choose(&kept);
    }
    names::make_unique(&mut new, job.read.on_duplicate)?;
    let mut plan = flow.plan().clone();
    names::set_names(&mut plan, &new);
    Ok(flow.relabel(plan))
}

/// Renames a matrix that was made of columns: `--rename` of a column changes its header, everything
/// else the array.
fn rename_matrix(flow: Flow, renaming: &Renaming, job: &ConvertContext<'_>) -> Result<Flow> {
    if renaming.is_empty() {
        return Ok(flow);
    }
    let (mut plan, mut rest) = (flow.plan().clone(), renaming.clone());
    rest.rename.retain(|(old, new)| {
        let columns = plan.tables.iter_mut().flat_map(|t| &mut t.columns);
        let Some(column) = columns.into_iter().find(|c| c.header == *old) else { return true };
        column.header.clone_from(new);
        plan.arrays.iter().any(|a| a.name == *old)
    });
    let mut new = rest.names(&plan)?;
    names::make_unique(&mut new, job.read.on_duplicate)?;
    names::set_names(&mut plan, &new);
    Ok(flow.relabel(plan))
}
