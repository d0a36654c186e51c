//! `npk diff`: do two files of any formats hold the same?

use serde_json::{Value, json};

use super::html;
use crate::cli::DiffArgs;
use crate::compare::{self, Compared, Rules, Verdict, all_equal, compare, sentence};
use crate::console::{self, Console, visible};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::Plan;
use crate::model::json_float::number;
use crate::open::{choosing, input_location, open, read_options_typed, shown};
use crate::pipe::{Flow, Settings};
use crate::resolve::Step;

mod align;
mod choose;
pub mod summary;

use summary::Summary;
pub use summary::short;

/// Compares. 0: equal, 1: different.
///
/// # Errors
/// What cannot be read.
pub fn run(args: &DiffArgs, console: Console) -> Result<u8> {
    let options = read_options_typed(&args.look.read, &args.look.raw)?;
    let settings = Settings::of(&options.resources);
    if args.a == "-" && args.b == "-" {
        return Err(Error::usage("stdin can be read only once, it is given twice"));
    }
    let page = match &args.html {
        Some(path) => Some(html::Page::begin(path, args.force, &args.look.read)?),
        None => None,
    };
    // Renamed arrays are chosen by names that the sources do not know of.
    let looked = match args.map.is_empty() {
        true => choosing(&options, &args.look.choose),
        false => options.clone(),
    };
    let a = side(&args.a, args, &looked, console)?;
    let b = side(&args.b, args, &looked, console)?;
    let (a, b) = choose::chosen(a, b, args)?;
    let a = prepared(a, &args.a, args, &settings)?;
    let b = prepared(b, &args.b, args, &settings)?;
    let (a, b) = align::aligned(a, b, args)?;
    let rules = Rules {
        rtol: args.rtol,
        atol: args.atol,
        equal_nan: args.equal_nan,
        ignore_dtype: args.ignore_dtype,
        measure: args.summary,
        ..Rules::default()
    };
    let metadata = match args.compare_metadata {
        true => metadata_differences(a.plan(), b.plan()),
        false => Vec::new(),
    };
    let compared = match args.headers {
        true => compare::headers(a.plan(), b.plan(), rules),
        false => {
            let labels = (shown(&args.a), shown(&args.b));
            compare(a, b, (&labels.0, &labels.1), rules, &settings)?
        }
    };
    let equal = all_equal(&compared) && metadata.is_empty();
    let summary = args.summary.then(|| Summary::of(&compared));
    if let Some(page) = page {
        let (a, b) = (shown(&args.a), shown(&args.b));
        let (compared, metadata, summary) = (&compared[..], &metadata[..], summary.as_ref());
        let page_of = html::diff::Difference { a: &a, b: &b, compared, summary, equal, metadata };
        html::diff::write(page, &page_of, console)?;
    } else if !args.look.json && !args.look.messages.quiet {
        text(args, &compared, equal, &metadata, summary.as_ref(), console)?;
    }
    if args.look.json {
        console::json(&document(args, &compared, equal, &metadata, summary.as_ref()), true)?;
    }
    Ok(u8::from(!equal))
}

/// One of the two files.
fn side(path: &str, args: &DiffArgs, options: &ReadOptions, console: Console) -> Result<Flow> {
    let at = input_location(path, &args.look.read)?;
    Ok(open(&at, args.look.read.from.as_deref(), options, console)?.flow)
}

/// As its values are compared.
fn prepared(flow: Flow, path: &str, args: &DiffArgs, settings: &Settings) -> Result<Flow> {
    if args.headers {
        let decoded = Step::decode(flow.plan());
        return Ok(flow.then(decoded));
    }
    compare::logical(flow, settings).map_err(|e| e.file(shown(path)))
}

/// What differs between the attributes of the files and of the arrays that both have.
fn metadata_differences(a: &Plan, b: &Plan) -> Vec<Value> {
    let mut metadata = Vec::new();
    let keys: std::collections::BTreeSet<&String> =
        a.attributes.keys().chain(b.attributes.keys()).collect();
    for key in keys {
        let (x, y) = (a.attributes.get(key), b.attributes.get(key));
        if x != y {
            metadata.push(json!({"key": key, "a": x, "b": y}));
        }
    }
    let theirs = b.positions();
    for m in a.arrays.iter() {
        if let Some(n) = theirs.get(m.name.as_str()).map(|&i| &b.arrays[i])
            && n.details.attributes != m.details.attributes
        {
            metadata.push(
                json!({"array": m.name, "a": m.details.attributes, "b": n.details.attributes}),
            );
        }
    }
    metadata
}

fn document(
    args: &DiffArgs,
    compared: &[Compared],
    equal: bool,
    metadata: &[Value],
    summary: Option<&Summary>,
) -> Value {
    let arrays: Vec<_> = compared
        .iter()
        .map(|c| {
            let mut value = verdict_json(&c.name, &c.verdict);
            if let Some(figures) = summary.and_then(|s| s.of_array(&c.name)) {
                value["summary"] = figures.json();
            }
            value
        })
        .collect();
    let mut document = json!({"schema": 1, "a": shown(&args.a), "b": shown(&args.b), "equal": equal, "arrays": arrays});
    if args.headers {
        document["headers"] = json!(true);
    }
    if let Some(summary) = summary {
        document["layers"] = summary.layers_json();
        document["total"] = summary.total.json();
    }
    if args.compare_metadata {
        document["metadata"] = json!(metadata);
    }
    document
}

fn text(
    args: &DiffArgs,
    compared: &[Compared],
    equal: bool,
    metadata: &[Value],
    summary: Option<&Summary>,
    console: Console,
) -> Result<()> {
    let mut out = String::new();
    let told = |c: &&Compared| match c.verdict {
        Verdict::Equal => false,
        // They are in the table.
        Verdict::Different(_) => summary.is_none(),
        _ => true,
    };
    for c in compared.iter().filter(told) {
        out += &format!("{}: {}\n", visible(&c.name), visible(&sentence(&c.verdict)));
    }
    if let Some(summary) = summary {
        out += &summary.text(console);
    }
    for m in metadata {
        out += &format!("metadata: {m}\n");
    }
    console::out(&out)?;
    if equal {
        let plural = if compared.len() == 1 { "" } else { "s" };
        let what = if args.headers { "the headers are equal" } else { "equal" };
        console.summary(&format!("{what}: {} array{plural}", compared.len()));
    }
    Ok(())
}

fn verdict_json(name: &str, verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Equal => json!({"name": name, "status": "equal"}),
        Verdict::OnlyA => json!({"name": name, "status": "only_a"}),
        Verdict::OnlyB => json!({"name": name, "status": "only_b"}),
        Verdict::OtherTypes(x, y) => {
            json!({"name": name, "status": "not_comparable", "reason": format!("{x} and {y}")})
        }
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
