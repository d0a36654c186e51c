//! `--verify`: the output is read again, and compared with what was to be written.

use std::collections::HashSet;
use std::sync::Arc;

use super::gather::gather;
use super::output::{Task, fitted};
use crate::batch::existing::rereading;
use crate::compare::{self, Compared, Rules, Verdict, compare};
use crate::error::{Error, Result};
use crate::format::{Arrays, Existing};
use crate::model::{ArrayMeta, Encoding, Plan};
use crate::open::open;
use crate::pipe::Flow;
use crate::resolve::nulls::{Nulls, null_ops};
use crate::resolve::{Step, names};

/// Reads the output again and compares it with the sources, after choosing, casts and layout: in the
/// form that the output has for them.
pub(super) fn verify(task: &Task<'_>) -> Result<()> {
    let Task { job, unit, dst, capabilities, .. } = *task;
    if dst.is_stream() || unit.sources.iter().any(|s| s == "-") {
        return Err(Error::usage("--verify reads both ends again: it cannot follow a pipe"));
    }
    if matches!(job.write.existing, Existing::Append) {
        return Err(Error::usage("--verify cannot follow --append").hint("npk verify, npk diff"));
    }
    let rules = Rules {
        equal_nan: true,
        ignore_dtype: capabilities.arrays == Arrays::Table,
        other_form: true,
        ..Rules::default()
    };
    let merged = matches!(job.write.existing, Existing::Merge { .. });
    let wrong =
        |c: &&Compared| c.verdict != Verdict::Equal && !(merged && c.verdict == Verdict::OnlyB);
    let (source, output) = match task.as_source(rules)? {
        Some(pair) => pair,
        None => task.as_written()?,
    };
    let verdicts = compare(source, output, ("source", "output"), rules, &job.settings)?;
    let differs = |c: &Compared| {
        let how = compare::sentence(&c.verdict);
        Error::corrupt(format!("the output differs from what was written: {how}")).array(&c.name)
    };
    Error::all(verdicts.iter().filter(wrong).map(differs).collect())
}

impl Task<'_> {
    /// The source's own arrays and the output's, where the output tells of those what it cannot hold
    /// itself: types, nulls, texts. `None` where it does not.
    fn as_source(&self, rules: Rules) -> Result<Option<(Flow, Flow)>> {
        let Task { job, format, capabilities, .. } = *self;
        if !format.spec().keeps_types && !capabilities.sidecar {
            return Ok(None);
        }
        let source = compare::logical(self.gathered()?, &job.settings)?;
        let source = filled(source, self.job.policy.nulls.as_ref());
        let output = self.reread(None)?;
        let output = compare::logical(output, &job.settings)?;
        let headers = compare::headers(source.plan(), output.plan(), rules);
        let other = |v: &Verdict| matches!(v, Verdict::OtherTypes(..) | Verdict::NotComparable(_));
        if headers.iter().any(|c| other(&c.verdict)) {
            return Ok(None);
        }
        let lacking = headers.iter().any(|c| c.verdict == Verdict::OnlyA);
        if !lacking {
            return Ok(Some((source, output)));
        }
        // Arrays may be left out, as the plan of the output says.
        let there: HashSet<&str> = output.plan().arrays.iter().map(|a| a.name.as_str()).collect();
        if !is_told(self.fitted_again()?.plan(), &there) {
            return Ok(None);
        }
        let arrays = source.plan().arrays.iter().enumerate();
        let left: Vec<usize> =
            arrays.filter(|(_, a)| there.contains(a.name.as_str())).map(|(i, _)| i).collect();
        Ok(Some((source.choose(&left), output)))
    }

    /// The arrays as they were handed to the output, and as they are read from it.
    fn as_written(&self) -> Result<(Flow, Flow)> {
        let plain = |flow: Flow| {
            let mut plan = flow.plan().clone();
            // As which types values came does not matter here.
            plan.arrays.iter_mut().for_each(|a| a.original_dtype = None);
            let flow = flow.relabel(plan);
            let decoded = Step::decode(flow.plan());
            flow.then(decoded)
        };
        let source = plain(self.fitted_again()?);
        let output = plain(self.reread(Some(source.plan()))?);
        Ok((source, output))
    }

    fn gathered(&self) -> Result<Flow> {
        let Task { job, unit, format, capabilities, .. } = *self;
        Ok(gather(job, unit, format, capabilities.arrays)?.flow)
    }

    fn fitted_again(&self) -> Result<Flow> {
        let Task { job, capabilities, .. } = *self;
        let (flow, _) = fitted(self.gathered()?, capabilities, &self.policy(), &job.settings)?;
        Ok(flow)
    }

    /// The output as an input; `held` are the arrays that were handed to it.
    fn reread(&self, held: Option<&Plan>) -> Result<Flow> {
        let Task { job, dst, format, capabilities, .. } = *self;
        let mut options = rereading(job);
        options.text.held = held.cloned().map(Arc::new);
        let output = open(dst, Some(format.spec().name), &options, job.console)?.flow;
        let Some(held) = held.filter(|h| h.arrays.len() == output.plan().arrays.len()) else {
            return Ok(output);
        };
        // Where the form keeps no names, places are what is left.
        let nameless = capabilities.arrays == Arrays::One
            || job.write.single
            || capabilities.max_rank == 1
                && has_names_of(output.plan(), held, job.write.text.column_names.as_deref());
        if !nameless {
            return Ok(output);
        }
        let names: Vec<String> = held.arrays.iter().map(|a| a.name.clone()).collect();
        let mut plan = output.plan().clone();
        names::set_names(&mut plan, &names);
        Ok(output.relabel(plan))
    }
}

/// Whether all that was handed to an output can be found in what is `there`: itself, or as a part of
/// another array.
fn is_told(plan: &Plan, there: &HashSet<&str>) -> bool {
    let mut told: HashSet<&str> = there.clone();
    for encoded in plan.encoded.iter().filter(|e| there.contains(e.meta.name.as_str())) {
        told.insert(&encoded.values);
        told.extend(encoded.companions());
        if let Encoding::Nested(parts) = &encoded.encoding {
            told.extend(parts.arrays());
        }
    }
    plan.arrays.iter().all(|a| told.contains(a.name.as_str()))
}

/// With the values that are to be in the place of nulls.
fn filled(flow: Flow, nulls: Option<&Nulls>) -> Flow {
    let Some(nulls) = nulls else { return flow };
    let mut step = Step::same(flow.plan());
    for (meta, recipe) in step.plan.arrays.iter_mut().zip(&mut step.recipes) {
        if meta.nulls && meta.logical.nested().is_none() {
            // What cannot be filled was refused, or keeps its nulls in another form.
            recipe.ops.extend(null_ops(meta, nulls).ok().flatten().unwrap_or_default());
        }
    }
    flow.then(step)
}

/// Whether columns are called as they were written: by names that were given, by their arrays, their
/// headers, or, without a header, by their places.
fn has_names_of(output: &Plan, held: &Plan, given: Option<&[String]>) -> bool {
    let headers = |a: &ArrayMeta| -> Vec<&str> {
        let columns = held.tables.iter().flat_map(|t| &t.columns);
        columns.filter(|c| c.array == a.name).map(|c| c.header.as_str()).collect()
    };
    held.arrays.iter().zip(output.arrays.iter()).enumerate().all(|(i, (a, b))| {
        b.name == a.name
            || b.name == format!("col{i}")
            || given.and_then(|names| names.get(i)) == Some(&b.name)
            || headers(a).contains(&b.name.as_str())
    })
}
