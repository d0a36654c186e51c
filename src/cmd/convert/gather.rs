//! The sources of one output, opened, chosen, joined, cut, cast, laid out and renamed.

use super::*;

/// What [`gather`] made of the sources.
pub(super) struct Gathered {
    pub(super) staged: Staged,
    /// Which layout was chosen for a table.
    pub(super) layout: Option<&'static str>,
    /// Whether one of them is text.
    pub(super) text: bool,
}

/// Opens, chooses, joins, cuts, casts, lays out and renames.
pub(super) fn gather(job: &Job<'_>, unit: &Unit, format: &dyn Format, into: Arrays) -> Result<Gathered> {
    let args = job.args;
    let mut parts = Vec::new();
    let (mut table_file, mut text) = (false, false);
    let mut stem = String::new();
    let partitions = Partitions::new(if args.concat { &unit.below } else { &[] });
    let choose = match &unit.array {
        Some(name) => cli::ChooseArgs { array: vec![name.clone()], exclude: Vec::new() },
        None => args.choose.clone(),
    };
    // A pattern may mean a column that only the folders' names make.
    let read = if partitions.is_empty() { crate::cmd::choosing(&job.read, &choose) } else { job.read.clone() };
    let joins = args.concat && unit.sources.len() > 1;
    for (part, path) in unit.sources.iter().enumerate() {
        let at = input_location(path, &args.read)?;
        let opened = open(&at, args.read.from.as_deref(), &read, job.voice)?;
        text |= is_text(opened.format);
        table_file |= opened.format.holds().is_some_and(|h| h.arrays == Arrays::Table);
        if stem.is_empty() {
            stem = match joins {
                true => joined_name(args, unit).unwrap_or_else(|| at.stem()),
                false => at.stem(),
            };
        }
        let mut source = opened.source;
        if table_file && !partitions.is_empty() {
            source = partitions.add(source, part).map_err(|e| e.file(at.display()))?;
        }
        let needs_choice = !args.choose.array.is_empty() || !args.choose.exclude.is_empty() || source.plan().arrays.is_empty();
        if needs_choice {
            let indices = crate::cmd::chosen(source.as_ref(), &args.choose).map_err(|e| e.file(at.display()))?;
            source = Box::new(View::choose(source, &indices));
        }
        if let Some(i) = unit.array.as_ref().and_then(|name| source.plan().position(name)) {
            source = Box::new(View::choose(source, &[i]));
        }
        if args.skip_unsupported {
            let good: Vec<usize> = (0..source.plan().arrays.len()).filter(|&a| source.plan().arrays[a].details.error.is_none()).collect();
            if good.len() < source.plan().arrays.len() {
                for a in source.plan().arrays.iter().filter(|a| a.details.error.is_some()) {
                    let why = a.details.error.as_ref().map(|e| e.message().to_string()).unwrap_or_default();
                    job.voice.warning(&format!("{}: {}: left out: {why}", at.display(), a.name));
                }
                if good.is_empty() {
                    return Err(Error::refused("nothing in it can be read").file(at.display()));
                }
                source = Box::new(View::choose(source, &good));
            }
        }
        if args.concat && args.name.is_some() {
            let mut plan = source.plan().clone();
            names::check_single(&plan).map_err(|e| e.file(at.display()))?;
            names::set_names(&mut plan, &[args.name.clone().unwrap_or_default()]);
            source = Box::new(View::relabel(source, plan));
        } else if args.prefix_by_file {
            let mut plan = source.plan().clone();
            let new: Vec<String> = plan.arrays.iter().map(|a| format!("{}.{}", at.stem(), a.name)).collect();
            names::set_names(&mut plan, &new);
            source = Box::new(View::relabel(source, plan));
        }
        // Rows of joined arrays can only be told after the join; all others are cut before the casts look at them.
        if let Some(slice) = job.slice
            && !joins
        {
            source = rows::slice(source, slice, &job.settings).map_err(|e| e.file(at.display()))?;
        }
        if !job.casts.is_empty() || !job.times.is_empty() {
            source = table::cast_arrays(source, &job.casts, &job.times, args.lossy).map_err(|e| e.file(at.display()))?;
        }
        parts.push(Part { source, label: at.display() });
    }
    let mut source: Box<dyn crate::format::Source> = if parts.len() == 1 {
        parts.remove(0).source
    } else if args.concat {
        Box::new(Concat::new(parts)?)
    } else {
        if into == Arrays::One {
            return Err(Error::usage(format!("{} holds one array, but there are {} sources", format.name(), unit.sources.len()))
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
    let mut layout = None;
    if into == Arrays::Table {
        source = rename(source, &renaming, single_name, job)?;
        let columns = job.write.text.column_names.as_deref().filter(|_| !table_file);
        let (exported, more) = table::export(source, job.layout, format.holds().map_or(1, |h| h.max_rank), columns)?;
        source = exported;
        stages.extend(more);
    } else if table_file {
        let nulls_allowed = matches!(job.policy.nulls, Some(Nulls::Nan | Nulls::Fill(_)));
        let wanted = if unit.sources.len() > 1 && !args.concat { Layout::Columns } else { job.layout };
        let ((imported, more), chosen) = table::import(source, wanted, args.name.as_deref().unwrap_or(&stem), nulls_allowed)?;
        layout = chosen;
        source = imported;
        if more.is_empty() {
            source = rename(source, &renaming, single_name, job)?;
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
    Ok(Gathered { staged: (source, stages), layout, text })
}

/// What the matrix of a joined directory is called: as the directory.
pub(super) fn joined_name(args: &ConvertArgs, unit: &Unit) -> Option<String> {
    let sources = args.paths.len() - usize::from(args.output.is_none());
    let at = Location::local(args.paths.first().filter(|_| sources == 1 && args.files_from.is_none())?.trim_end_matches('/'));
    let inside = at.local_path().is_some_and(|p| unit.sources.iter().all(|s| std::path::Path::new(s).starts_with(p)));
    Some(at.file_name()).filter(|name| inside && !name.is_empty())
}

fn rename(
    source: Box<dyn crate::format::Source>,
    renaming: &Renaming,
    single: bool,
    job: &Job<'_>,
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
    names::make_unique(&mut new, job.read.on_duplicate, |name| format!("two arrays are called '{name}' after renaming"))?;
    let mut plan = source.plan().clone();
    names::set_names(&mut plan, &new);
    Ok(Box::new(View::relabel(source, plan)))
}

/// Renames a matrix that was made of columns: `--rename` of a column changes its header, everything else the array.
fn rename_matrix(mut plan: Plan, renaming: &Renaming, job: &Job<'_>) -> Result<Option<ViewStage>> {
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
    names::make_unique(&mut new, job.read.on_duplicate, |name| format!("two arrays are called '{name}' after renaming"))?;
    names::set_names(&mut plan, &new);
    let made = (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
    Ok(Some(ViewStage::new(plan.arrays.len(), plan, made)))
}
