//! Which arrays of two files are compared: `-a`, `-x` and `--map`.

use std::collections::HashSet;

use crate::cli::DiffArgs;
use crate::error::{Error, Result};
use crate::format::{Choice, OnDuplicate};
use crate::model::Plan;
use crate::open::shown;
use crate::pipe::Flow;
use crate::resolve::{inside, names};

/// The chosen arrays of both, those of the first under the names that `--map` gives them. A pattern
/// need match in one of the two only. What it chooses in the first, by the old names or the new, it
/// chooses in the second, too.
///
/// # Errors
/// Missing: a pattern that matches in neither, nothing left. Usage: two arrays of one new name.
pub(super) fn chosen(a: Flow, b: Flow, args: &DiffArgs) -> Result<(Flow, Flow)> {
    let (include, exclude) = (&args.look.choose.array, &args.look.choose.exclude);
    if include.is_empty() && exclude.is_empty() {
        return Ok((mapped(a, args)?, b));
    }
    let in_a = |e: Error| e.file(shown(&args.a));
    let plan_a = a.plan().clone();
    let include_a = by_old_names(&plan_a, include, args).map_err(in_a)?;
    let exclude_a = by_old_names(&plan_a, exclude, args).map_err(in_a)?;
    let (step, unmatched) =
        inside::choose_matching(&plan_a, &include_a, &exclude_a).map_err(in_a)?;
    let left_out: HashSet<String> = match exclude.is_empty() {
        true => HashSet::new(),
        false => {
            let (gone, _) = inside::choose_matching(&plan_a, &exclude_a, &[]).map_err(in_a)?;
            new_names(&gone.plan, args)?.into_iter().collect()
        }
    };
    let a = mapped(a.then(step), args)?;
    let (mut include, mut exclude) = (include.clone(), exclude.clone());
    if !args.map.is_empty() {
        let (kept, there) = (names_of(&a), names_of(&b));
        if !include.is_empty() {
            include.extend(kept.intersection(&there).cloned());
        }
        exclude.extend(left_out.difference(&kept).filter(|n| there.contains(*n)).cloned());
    }
    let (step, mut nowhere) = inside::choose_matching(b.plan(), &include, &exclude)
        .map_err(|e| e.file(shown(&args.b)))?;
    nowhere.retain(|pattern| unmatched.contains(pattern));
    inside::unmatched_in(&[&plan_a, b.plan()], &nowhere)?;
    let b = b.then(step);
    if a.plan().arrays.is_empty() && b.plan().arrays.is_empty() {
        return Err(names::none_left());
    }
    Ok((a, b))
}

/// The patterns, and the old names of what those match by their new names that match no old name.
fn by_old_names(plan: &Plan, patterns: &[String], args: &DiffArgs) -> Result<Vec<String>> {
    let mut all = patterns.to_vec();
    if args.map.is_empty() || patterns.is_empty() {
        return Ok(all);
    }
    let (_, unmatched) = inside::choose_matching(plan, patterns, &[])?;
    let new = new_names(plan, args)?;
    let names: Vec<&str> = new.iter().map(String::as_str).collect();
    for pattern in unmatched {
        let choice = Choice { include: vec![pattern.clone()], exclude: Vec::new() };
        let matched = choice.of(&names).into_iter().zip(plan.arrays.iter());
        let old: Vec<String> = matched.filter(|(m, _)| *m).map(|(_, a)| a.name.clone()).collect();
        if !old.is_empty() {
            all.retain(|p| *p != pattern);
            all.extend(old);
        }
    }
    Ok(all)
}

fn names_of(flow: &Flow) -> HashSet<String> {
    flow.plan().arrays.iter().map(|a| a.name.clone()).collect()
}

/// What `--map` calls the arrays of the first file.
fn new_names(plan: &Plan, args: &DiffArgs) -> Result<Vec<String>> {
    let rename_re =
        args.map.iter().map(|m| names::substitution("map", m)).collect::<Result<_>>()?;
    names::Renaming { rename_re, ..names::Renaming::default() }.names(plan)
}

/// The arrays under those names.
fn mapped(flow: Flow, args: &DiffArgs) -> Result<Flow> {
    if args.map.is_empty() {
        return Ok(flow);
    }
    let mut new = new_names(flow.plan(), args)?;
    names::make_unique(&mut new, OnDuplicate::Error).map_err(|e| {
        e.file(shown(&args.a)).hint("--map gives two arrays of the first file one name")
    })?;
    let mut plan = flow.plan().clone();
    names::set_names(&mut plan, &new);
    Ok(flow.relabel(plan))
}
