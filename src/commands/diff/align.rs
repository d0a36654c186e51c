//! Which arrays of two files are compared with each other, where their names do not say it: a
//! matrix and the columns that it was made of, two files of one array each.

use std::collections::{HashMap, HashSet};

use crate::cli::DiffArgs;
use crate::error::Result;
use crate::model::{Column, Plan};
use crate::open::{input_location, shown};
use crate::pipe::Flow;
use crate::resolve::{names, table};
use crate::storage::Location;

/// Both sides, with equal names for what is compared.
///
/// # Errors
/// Columns that cannot stand side by side.
pub(super) fn aligned(mut a: Flow, mut b: Flow, args: &DiffArgs) -> Result<(Flow, Flow)> {
    if let Some((matrix, columns)) = stacked(b.plan(), a.plan()) {
        a = stack(a, &matrix, &columns).map_err(|e| e.file(shown(&args.a)))?;
    } else if let Some((matrix, columns)) = stacked(a.plan(), b.plan()) {
        b = stack(b, &matrix, &columns).map_err(|e| e.file(shown(&args.b)))?;
    }
    if let Some(plan) = same_name(args, a.plan(), b.plan()) {
        b = b.relabel(plan);
    }
    Ok((a, b))
}

/// Whether an array of `one` is the matrix of the columns of `other`'s table: its name, and the
/// columns in its order. By the headers, where `one` says them; where it is no table, by the number
/// of columns of its only array.
fn stacked(one: &Plan, other: &Plan) -> Option<(String, Vec<usize>)> {
    let columns = other.tables.first().filter(|t| t.matrix.is_none())?;
    let index: HashSet<&String> = columns.index.iter().collect();
    let data: Vec<&Column> = columns.columns.iter().filter(|c| !index.contains(&c.array)).collect();
    let recorded = one.tables.first();
    let name = match recorded {
        Some(table) => table.matrix.as_deref()?,
        None => one.arrays.first().filter(|_| one.arrays.len() == 1)?.name.as_str(),
    };
    let matrix = &one.arrays[one.position(name)?];
    if other.position(name).is_some_and(|_| recorded.is_some())
        || matrix.inner != [data.len() as u64]
        || data.is_empty()
    {
        return None;
    }
    let ordered: Vec<&Column> = match recorded {
        // Columns without names have their places.
        Some(table)
            if !table.columns.iter().map(|c| &c.header).eq(data.iter().map(|c| &c.header)) =>
        {
            let mut by_header = HashMap::new();
            data.iter().for_each(|d| _ = by_header.entry(d.header.as_str()).or_insert(*d));
            table
                .columns
                .iter()
                .map(|c| by_header.get(c.header.as_str()).copied())
                .collect::<Option<Vec<_>>>()?
        }
        _ => data,
    };
    let mut seen = HashSet::new();
    let positions = other.positions();
    let places = ordered.iter().filter_map(|c| positions.get(c.array.as_str()).copied());
    let indices: Vec<usize> = places.filter(|i| seen.insert(*i)).collect();
    let numbers = |&i: &usize| {
        let m = &other.arrays[i];
        m.logical.is_plain()
            && !m.nulls
            && m.inner.is_empty()
            && !m.scalar
            && m.details.error.is_none()
    };
    (indices.len() == ordered.len() && indices.iter().all(numbers))
        .then(|| (name.to_string(), indices))
}

/// Lays these columns side by side, as `convert` does.
fn stack(flow: Flow, name: &str, columns: &[usize]) -> Result<Flow> {
    let rest = (0..flow.plan().arrays.len()).filter(|i| !columns.contains(i));
    let order: Vec<usize> = columns.iter().copied().chain(rest).collect();
    let ordered = flow.choose(&order);
    let (step, _) = table::import(ordered.plan(), table::Layout::Matrix, name, None)?;
    Ok(match step {
        Some(step) => ordered.then(step),
        None => ordered,
    })
}

/// One array each, both called as their files: the names say nothing, the arrays are compared.
fn same_name(args: &DiffArgs, a: &Plan, b: &Plan) -> Option<Plan> {
    let unnamed = |path: &str, plan: &Plan| {
        let stem = match path {
            "-" => "data".to_string(),
            url if url.contains("://") => {
                input_location(url, &args.look.read).map(|at| at.stem()).unwrap_or_default()
            }
            path => Location::local(path).stem(),
        };
        // The one column of a table that was made from one array is called so.
        let column = plan.tables.first().is_some_and(|t| t.matrix.is_none())
            && plan.arrays.first().is_some_and(|a| a.name == "data");
        plan.arrays.len() == 1 && (plan.arrays[0].name == stem || column)
    };
    if !unnamed(&args.a, a) || !unnamed(&args.b, b) || a.arrays[0].name == b.arrays[0].name {
        return None;
    }
    let mut plan = b.clone();
    names::set_names(&mut plan, &[a.arrays[0].name.clone()]);
    Some(plan)
}
