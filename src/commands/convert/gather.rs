//! The sources of one output, opened, chosen, joined, cut, cast, laid out and renamed.

use std::sync::Arc;

use super::parts::{Opener, open_all};
use super::*;

/// What [`gather`] made of the sources.
pub(super) struct Gathered {
    pub(super) staged: Staged,
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
    let mut parts = open_all(&opener, job.voice, |opened| {
        text |= opened.text;
        table_file |= opened.table;
        if stem.is_empty() {
            stem = match joins {
                true => joined_name(args, unit).unwrap_or_else(|| opened.at.stem()),
                false => opened.at.stem(),
            };
        }
    })?;
    let mut source: Box<dyn crate::format::Source> = if parts.len() == 1 {
        parts.remove(0).source
    } else if args.concat {
        Box::new(Concat::new(parts)?)
    } else {
        if into == Arrays::One {
            return Err(Error::usage(format!(
                "{} holds one array, but there are {} sources",
                format.spec().name,
                unit.sources.len()
            ))
            .hint("--concat joins their rows"));
        }
        Box::new(Union::new(parts, job.read.on_duplicate)?)
    };
    if let Some(slice) = job.slice
        && joins
    {
        if source.plan().arrays.iter().any(|a| a.rows.is_none()) {
            let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
            source = pipe::with_random(source, &all, &job.settings)?.0;
        }
        source = rows::slice(source, slice, &job.settings)?;
    }
    let mut stages: Vec<Box<dyn crate::format::Stage>> = Vec::new();
    let single_name = job.renaming.name.is_some() && !args.concat;
    let name = job.renaming.name.clone().filter(|_| !args.concat);
    let renaming = Renaming { name, partial: unit.array.is_some(), ..job.renaming.clone() };
    let (mut layout, mut exported) = (None, None);
    if into == Arrays::Table {
        exported = Some(source.plan().arrays.len());
        source = rename(source, &renaming, single_name, job)?;
        let columns = job.write.text.column_names.as_deref().filter(|_| !table_file);
        let (exported, more) = table::export(
            source,
            job.layout,
            format.spec().writes.map_or(1, |h| h.max_rank),
            columns,
        )?;
        source = exported;
        stages.extend(more);
    } else if table_file {
        let nulls_allowed = matches!(job.policy.nulls, Some(Nulls::Nan | Nulls::Fill(_)));
        let wanted =
            if unit.sources.len() > 1 && !args.concat { Layout::Columns } else { job.layout };
        let ((imported, more), chosen) =
            table::import(source, wanted, args.name.as_deref().unwrap_or(&stem), nulls_allowed)?;
        layout = chosen;
        source = imported;
        if more.is_empty() {
            source = match &args.name {
                Some(table) if source.plan().arrays.len() > 1 => {
                    name_columns(source, table, &renaming, job)?
                }
                _ => rename(source, &renaming, single_name, job)?,
            };
        }
        stages.extend(more);
        if layout == Some("matrix")
            && let Some(stage) = stages.last()
        {
            if single_name {
                names::check_single(stage.plan())?;
            }
            if let Some(renamed) = rename_matrix(stage.plan().clone(), &renaming, job)? {
                stages.push(Box::new(renamed));
            }
        }
    } else {
        source = rename(source, &renaming, single_name, job)?;
    }
    Ok(Gathered { staged: (source, stages), layout, text, exported })
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
    source: Box<dyn crate::format::Source>,
    table: &str,
    renaming: &Renaming,
    job: &ConvertContext<'_>,
) -> Result<Box<dyn crate::format::Source>> {
    let own = Renaming { name: None, ..renaming.clone() };
    let source = rename(source, &own, false, job)?;
    let mut plan = source.plan().clone();
    let new: Vec<String> = plan.arrays.iter().map(|a| format!("{table}/{}", a.name)).collect();
    let headers: Vec<Vec<String>> =
        plan.tables.iter().map(|t| t.columns.iter().map(|c| c.header.clone()).collect()).collect();
    names::set_names(&mut plan, &new);
    for (table, headers) in plan.tables.iter_mut().zip(headers) {
        for (column, header) in table.columns.iter_mut().zip(headers) {
            column.header = header;
        }
    }
    let shown = new.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if new.len() > 3 { ", …" } else { "" };
    job.note(&format!("the table becomes one array for each column; --name puts its name before theirs: {shown}{more}"));
    Ok(Box::new(View::relabel(source, plan)))
}

fn rename(
    source: Box<dyn crate::format::Source>,
    renaming: &Renaming,
    single: bool,
    job: &ConvertContext<'_>,
) -> Result<Box<dyn crate::format::Source>> {
    if single {
        names::check_single(source.plan())?;
    }
    if renaming.is_empty() {
        return Ok(source);
    }
    let new = renaming.names(source.plan())?;
    let kept = names::kept_of_repeated(&new, job.read.on_duplicate);
    let (source, mut new) = if kept.len() < new.len() {
        let new = kept.iter().map(|&i| new[i].clone()).collect();
        (Box::new(View::choose(source, &kept)) as Box<dyn crate::format::Source>, new)
    } else {
        (source, new)
    };
    names::make_unique(&mut new, job.read.on_duplicate)?;
    let mut plan = source.plan().clone();
    names::set_names(&mut plan, &new);
    Ok(Box::new(View::relabel(source, plan)))
}

/// Renames a matrix that was made of columns: `--rename` of a column changes its header, everything
/// else the array.
fn rename_matrix(
    mut plan: Plan,
    renaming: &Renaming,
    job: &ConvertContext<'_>,
) -> Result<Option<ViewStage>> {
    if renaming.is_empty() {
        return Ok(None);
    }
    let mut rest = renaming.clone();
    rest.rename.retain(|(old, new)| {
        let columns = plan.tables.iter_mut().flat_map(|t| &mut t.columns);
        let Some(column) = columns.into_iter().find(|c| c.header == *old) else { return true };
        column.header.clone_from(new);
        plan.arrays.iter().any(|a| a.name == *old)
    });
    let mut new = rest.names(&plan)?;
    names::make_unique(&mut new, job.read.on_duplicate)?;
    names::set_names(&mut plan, &new);
    let made = (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
    Ok(Some(ViewStage::new(plan.arrays.len(), plan, made)))
}
