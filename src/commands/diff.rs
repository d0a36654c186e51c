//! `npk diff`: do two files of any formats hold the same?

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::{choosing, chosen, input_location, open, read_options, settings, shown};
use crate::cli::DiffArgs;
use crate::compare::{self, Rules, Verdict, all_equal, compare, sentence};
use crate::console::{self, Console, visible};
use crate::error::{Error, Result};
use crate::model::{Column, Plan};
use crate::pipe::Flow;
use crate::resolve::{names, table};
use crate::storage::Location;

/// Compares. 0: equal, 1: different.
///
/// # Errors
/// What cannot be read.
pub fn run(args: &DiffArgs, console: Console) -> Result<u8> {
    let options = choosing(&read_options(&args.read)?, &args.choose);
    let settings = settings(&args.read)?;
    if args.a == "-" && args.b == "-" {
        return Err(Error::usage("stdin can be read only once, it is given twice"));
    }
    let side = |path: &str| -> Result<Flow> {
        let at = input_location(path, &args.read)?;
        let mut flow = open(&at, args.read.from.as_deref(), &options, console)?.flow;
        if !args.choose.array.is_empty() || !args.choose.exclude.is_empty() {
            let indices = chosen(flow.plan(), &args.choose).map_err(|e| e.file(at.display()))?;
            flow = flow.choose(&indices);
        }
        compare::logical(flow, &settings).map_err(|e| e.file(at.display()))
    };
    let (mut a, mut b) = (side(&args.a)?, side(&args.b)?);
    if let Some((matrix, columns)) = stacked(b.plan(), a.plan()) {
        a = stack(a, &matrix, &columns).map_err(|e| e.file(shown(&args.a)))?;
    } else if let Some((matrix, columns)) = stacked(a.plan(), b.plan()) {
        b = stack(b, &matrix, &columns).map_err(|e| e.file(shown(&args.b)))?;
    }
    if let Some(plan) = same_name(args, a.plan(), b.plan()) {
        b = b.relabel(plan);
    }
    let (meta_a, meta_b) = (a.plan().clone(), b.plan().clone());
    let rules = Rules {
        rtol: args.rtol,
        atol: args.atol,
        equal_nan: args.equal_nan,
        ignore_dtype: args.ignore_dtype,
    };
    let verdicts = compare(a, b, (&shown(&args.a), &shown(&args.b)), rules, &settings)?;
    let mut metadata = Vec::new();
    if args.compare_metadata {
        let keys: std::collections::BTreeSet<&String> =
            meta_a.attributes.keys().chain(meta_b.attributes.keys()).collect();
        for key in keys {
            let (x, y) = (meta_a.attributes.get(key), meta_b.attributes.get(key));
            if x != y {
                metadata.push(json!({"key": key, "a": x, "b": y}));
            }
        }
        let theirs = meta_b.positions();
        for m in &meta_a.arrays {
            if let Some(n) = theirs.get(m.name.as_str()).map(|&i| &meta_b.arrays[i])
                && n.details.attributes != m.details.attributes
            {
                metadata.push(
                    json!({"array": m.name, "a": m.details.attributes, "b": n.details.attributes}),
                );
            }
        }
    }
    let equal = all_equal(&verdicts) && metadata.is_empty();
    if args.json {
        let arrays: Vec<_> = verdicts.iter().map(|(name, v)| verdict_json(name, v)).collect();
        let mut document = json!({"schema": 1, "a": shown(&args.a), "b": shown(&args.b), "equal": equal, "arrays": arrays});
        if args.compare_metadata {
            document["metadata"] = json!(metadata);
        }
        console::json(&document, true)?;
    } else if !args.messages.quiet {
        for (name, verdict) in verdicts.iter().filter(|(_, v)| *v != Verdict::Equal) {
            console::out(&format!("{}: {}\n", visible(name), visible(&sentence(verdict))))?;
        }
        for m in &metadata {
            console::out(&format!("metadata: {m}\n"))?;
        }
        if equal {
            console.summary(&format!(
                "equal: {} array{}",
                verdicts.len(),
                if verdicts.len() == 1 { "" } else { "s" }
            ));
        }
    }
    Ok(u8::from(!equal))
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
                input_location(url, &args.read).map(|at| at.stem()).unwrap_or_default()
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

fn verdict_json(name: &str, verdict: &Verdict) -> serde_json::Value {
    match verdict {
        Verdict::Equal => json!({"name": name, "status": "equal"}),
        Verdict::OnlyA => json!({"name": name, "status": "only_a"}),
        Verdict::OnlyB => json!({"name": name, "status": "only_b"}),
        Verdict::NotComparable(why) => {
            json!({"name": name, "status": "not_comparable", "reason": why})
        }
        Verdict::Different(d) => json!({
            "name": name, "status": "different", "count": d.count, "of": d.of, "first": d.first,
            "a": d.values.0, "b": d.values.1,
            "largest_absolute": number(d.largest_absolute), "largest_relative": number(d.largest_relative),
        }),
    }
}

/// NaN and infinities as text: JSON has none.
pub fn number(value: f64) -> serde_json::Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            json!(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        serde_json::Value::Number,
    )
}
