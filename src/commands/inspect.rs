//! `npk inspect`: what is in a file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Value, json};

use super::paths::{self, PathReport};
use super::profile::heat::HeatMap;
use super::profile::stats::{self, Stats};
use super::profile::{self, Profile, Wish, histograms, view};
use super::{heat, html};
use super::{preview, tree};
use crate::cli::InspectArgs;
use crate::compare::checksum;
use crate::console::{self, Console, Counted, human_bytes, visible};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::{ArrayMeta, Attributes, Plan};
use crate::open::{Opened, choosing, chosen, damaged, input_location, open, read_options_typed};
use crate::pipe::{Flow, Settings};
use crate::resolve::names::nearest;
use crate::storage::{self, Location};

/// Inspects.
///
/// # Errors
/// A closed pipe; other errors are reported and make the exit code.
pub fn run(args: &InspectArgs, console: Console) -> Result<u8> {
    let options =
        choosing(&read_options_typed(&args.look.read, &args.look.raw)?, &args.look.choose);
    if let Some(path) = &args.html {
        Error::all(html::report::write(args, path, &options, console)?)?;
        return Ok(0);
    }
    paths::each(&args.paths, args.look.json, console, |path| one(path, args, &options, console))
}

fn one(
    path: &str,
    args: &InspectArgs,
    options: &ReadOptions,
    console: Console,
) -> Result<PathReport> {
    let at = input_location(path, &args.look.read)?;
    let bytes = storage::walk::size_of(&at);
    let looks = args.stats || args.hist || args.heat || part(args)?.is_some();
    // Values are read after the names.
    let at =
        if looks { crate::detect::rereadable(at, args.look.read.from.as_deref())? } else { at };
    let types = ReadOptions { types_only: !args.checksum, ..options.clone() };
    let Opened { format, mut flow } = open(&at, args.look.read.from.as_deref(), &types, console)?;
    for note in &flow.plan().notes {
        console.note(&format!("{}: {note}", at.display()));
    }
    if !flow.plan().arrays.is_empty() {
        flow = chosen(flow, &args.look.choose).map_err(|e| e.file(at.display()))?;
    }
    if let Some(key) = args.show_metadata.as_deref().filter(|k| !k.is_empty())
        && !flow.plan().attributes.contains_key(key)
    {
        let near = nearest(key, flow.plan().attributes.keys().map(String::as_str)).join(", ");
        let error = Error::missing(format!("there is no metadata '{key}'")).file(at.display());
        return Err(error.hint(if near.is_empty() {
            "--show-metadata alone shows all".into()
        } else {
            format!("did you mean {near}?")
        }));
    }
    // Reading the values takes the source; else its plan, which may be large, is only looked at.
    let (plan, sums) = match args.checksum {
        true => {
            let plan = flow.plan().clone();
            (
                Cow::Owned(plan),
                checksum::checksums(flow, &Settings::of(&options.resources))
                    .map_err(|e| e.file(at.display()))?,
            )
        }
        false => (Cow::Borrowed(flow.plan()), vec![None; flow.plan().arrays.len()]),
    };
    // Refused arrays are listed and marked; damage makes the exit code.
    let broken = damaged(plan.arrays.iter(), &at);
    let mut seen = ValueReport { sums, ..ValueReport::default() };
    if looks {
        look(&mut seen, &at, &plan, args, options, console)?;
    }
    if args.look.json {
        return Ok((Some(document(&at, format.spec().name, &plan, bytes, &seen, args)?), broken));
    }
    text(&at, format.spec().name, &plan, bytes, &seen, args, console)?;
    Ok((None, broken))
}

/// What was found out about the values.
#[derive(Default)]
struct ValueReport {
    sums: Vec<Option<String>>,
    stats: Vec<Option<Stats>>,
    bins: Vec<Option<[u64; 16]>>,
    heat: Vec<Option<HeatMap>>,
    rows: Vec<preview::Shown>,
}

fn part(args: &InspectArgs) -> Result<Option<preview::Part>> {
    Ok(match (args.head, args.tail, &args.slice) {
        (Some(n), None, None) => Some(preview::Part::Head(n)),
        (None, Some(n), None) => Some(preview::Part::Tail(n)),
        (None, None, Some(s)) => Some(preview::Part::slice(s)?),
        (None, None, None) => None,
        _ => return Err(Error::usage("--head, --tail and --slice exclude each other")),
    })
}

/// Reads values: each look opens the input anew.
fn look(
    seen: &mut ValueReport,
    at: &Location,
    plan: &Plan,
    args: &InspectArgs,
    options: &ReadOptions,
    console: Console,
) -> Result<()> {
    let settings = Settings::of(&options.resources);
    let again = || -> Result<Flow> {
        let mut flow = open(at, args.look.read.from.as_deref(), options, console)?.flow;
        if !flow.plan().arrays.is_empty() {
            flow = chosen(flow, &args.look.choose)?;
        }
        let positions = flow.plan().positions();
        let indices: Vec<usize> =
            plan.arrays.iter().filter_map(|a| positions.get(a.name.as_str()).copied()).collect();
        Ok(flow.choose(&indices))
    };
    let at_file = |e: Error| e.file(at.display());
    let slice = args.slice.as_deref().filter(|_| args.heat).map(view::Chosen::parse).transpose()?;
    if args.stats || args.hist || args.heat && slice.is_none() {
        let wish = |meta: &ArrayMeta| wish(meta, args.heat && slice.is_none(), plan, args, console);
        let found = profile::profiles(again()?, &wish, &settings).map_err(at_file)?;
        let (stats, heat) = found.into_iter().map(|p| p.map(|p| (p.stats, p.heat)).unzip()).unzip();
        seen.stats = stats;
        seen.heat = Vec::into_iter(heat).map(Option::flatten).collect();
    }
    if slice.is_some() {
        let wish = |meta: &ArrayMeta| wish(meta, true, plan, args, console);
        let found = profile::parts(again()?, slice.as_ref(), &wish, &settings).map_err(at_file)?;
        seen.heat = found.into_iter().map(|p: Option<Profile>| p.and_then(|p| p.heat)).collect();
    }
    if args.hist {
        seen.bins =
            histograms(again()?, &seen.stats, &settings).map_err(|e| e.file(at.display()))?;
    }
    if let Some(part) = part(args)?.filter(|_| slice.is_none()) {
        seen.rows =
            preview::preview(again()?, &part, &settings).map_err(|e| e.file(at.display()))?;
    }
    Ok(())
}

/// What is to be found out in the one pass over the values.
fn wish(meta: &ArrayMeta, heat: bool, plan: &Plan, args: &InspectArgs, console: Console) -> Wish {
    let heat = heat.then(|| {
        heat::Screen::of(console, args.look.json).most(meta, plan.arrays.len(), args.look.json)
    });
    Wish { heat, ..Wish::default() }
}

/// The document of a file. Borrowed and serialised in place: checkpoints have tens of thousands of
/// tensors.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    path: String,
    format: &'a str,
    format_version: Option<&'a str>,
    bytes: Option<u64>,
    arrays: Vec<ArrayDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Value>,
    metadata: Value,
    #[serde(skip_serializing_if = "indexmap::IndexMap::is_empty")]
    groups: &'a indexmap::IndexMap<String, Attributes>,
}

#[derive(Serialize)]
struct ArrayDocument<'a> {
    name: &'a str,
    dtype: String,
    stored_dtype: &'a str,
    shape: Option<Vec<u64>>,
    bytes: Option<u64>,
    compression: Option<&'a str>,
    chunks: Option<&'a [u64]>,
    attributes: &'a Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    histogram: Option<[u64; 16]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heat: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

fn document(
    at: &Location,
    format: &str,
    plan: &Plan,
    bytes: Option<u64>,
    seen: &ValueReport,
    args: &InspectArgs,
) -> Result<String> {
    let rows: HashMap<&str, &preview::Shown> =
        seen.rows.iter().map(|shown| (shown.name.as_str(), shown)).collect();
    let tables = plan.tables.iter().map(|t| {
        let columns: Vec<Value> =
            t.columns.iter().map(|c| json!({"array": c.array, "header": c.header})).collect();
        json!({"columns": columns, "index": t.index, "matrix": t.matrix})
    });
    let document = Document {
        schema: 1,
        path: at.display(),
        format,
        format_version: plan.format_version.as_deref(),
        bytes,
        arrays: plan
            .arrays
            .iter()
            .enumerate()
            .map(|(i, m)| array_document(m, i, seen, args, &rows))
            .collect(),
        tables: if plan.tables.is_empty() { None } else { Some(tables.collect()) },
        metadata: match args.show_metadata.as_deref() {
            Some(key) if !key.is_empty() => {
                plan.attributes.get(key).cloned().unwrap_or(Value::Null)
            }
            _ => Value::Object(Attributes::clone(&plan.attributes)),
        },
        groups: &plan.groups,
    };
    console::json_text(&document)
}

fn array_document<'a>(
    m: &'a ArrayMeta,
    i: usize,
    seen: &'a ValueReport,
    args: &InspectArgs,
    rows: &HashMap<&str, &preview::Shown>,
) -> ArrayDocument<'a> {
    let details = &m.details;
    ArrayDocument {
        name: &m.name,
        dtype: m.type_name(),
        stored_dtype: details.stored_dtype.as_deref().unwrap_or(m.dtype.name()),
        shape: m.shape(),
        bytes: details.stored_bytes.or_else(|| m.size_bytes()),
        compression: details.compression.as_deref(),
        chunks: details.chunks.as_deref(),
        attributes: &details.attributes,
        part: details.part.as_deref(),
        alias_of: details.alias_of.as_deref(),
        checksum: seen.sums.get(i).and_then(Option::as_deref),
        stats: seen.stats.get(i).and_then(Option::as_ref).filter(|_| args.stats).map(Stats::json),
        histogram: seen.bins.get(i).copied().flatten(),
        heat: seen.heat.get(i).and_then(Option::as_ref).map(heat::json),
        values: rows.get(m.name.as_str()).map(|shown| shown.json()),
        error: details.error.as_ref().map(|e| e.reason()),
        hint: details.error.as_ref().and_then(|e| e.hint_text()),
    }
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn shape_text(m: &ArrayMeta) -> String {
    match m.shape() {
        Some(s) if s.is_empty() => "scalar".into(),
        Some(s) => s.iter().map(u64::to_string).collect::<Vec<_>>().join(" × "),
        None => "?".into(),
    }
}

fn text(
    at: &Location,
    format: &str,
    plan: &Plan,
    bytes: Option<u64>,
    seen: &ValueReport,
    args: &InspectArgs,
    console: Console,
) -> Result<()> {
    let mut out = headline(at, format, plan, bytes);
    out += &match (args.tree, plan.arrays.is_empty()) {
        (true, _) => tree::tree(&plan.arrays),
        (false, true) => String::new(),
        (false, false) => array_table(plan, seen, args, console),
    };
    out += &values_text(plan, seen, args, console);
    out += &metadata_text(plan, args.show_metadata.as_deref());
    console::out(&out)
}

/// What the file is, and the totals of each type where there are several.
fn headline(at: &Location, format: &str, plan: &Plan, bytes: Option<u64>) -> String {
    let version = plan.format_version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
    let size = bytes.map_or_else(String::new, |b| format!(", {}", human_bytes(b)));
    let shapes = plan.arrays.iter().filter_map(|m| m.shape());
    let elements =
        shapes.filter_map(|s| crate::model::checked_product(&s)).fold(0, u64::saturating_add);
    let mut out = format!(
        "{}: {format}{version}{size}, {}, {elements} element{}\n",
        visible(&at.display()),
        Counted::read(plan),
        plural(elements)
    );
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for m in &plan.arrays {
        let total = totals.entry(m.type_name()).or_default();
        total.0 += 1;
        total.1 = total.1.saturating_add(m.size_bytes().unwrap_or(0));
    }
    if totals.len() > 1 {
        let parts: Vec<String> =
            totals.iter().map(|(k, (n, b))| format!("{k}: {n} ({})", human_bytes(*b))).collect();
        out += &format!("  {}\n", parts.join(", "));
    }
    out
}

/// A line an array.
fn array_table(plan: &Plan, seen: &ValueReport, args: &InspectArgs, console: Console) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    if !console.color_out {
        table.force_no_tty();
    }
    let mut header = vec!["name", "type", "shape", "bytes", "stored as"];
    if args.checksum {
        header.push("sha256");
    }
    if args.hist {
        header.push("histogram");
    }
    table.set_header(header);
    for (i, m) in plan.arrays.iter().enumerate() {
        let size = m.details.stored_bytes.or_else(|| m.size_bytes());
        let size = size.map_or_else(|| "?".into(), human_bytes);
        let mut row = vec![visible(&m.name), m.type_name(), shape_text(m), size, stored_as(m)];
        if args.checksum {
            row.push(seen.sums.get(i).cloned().flatten().unwrap_or_default());
        }
        if args.hist {
            let bins = seen.bins.get(i).and_then(|b| b.as_ref());
            row.push(bins.map(stats::sparkline).unwrap_or_default());
        }
        table.add_row(row);
    }
    table.trim_fmt() + "\n"
}

/// How an array lies in the file, or why it cannot be read.
fn stored_as(m: &ArrayMeta) -> String {
    if let Some(e) = &m.details.error {
        return format!("not readable: {}", visible(&e.reason()));
    }
    let chunks = m.details.chunks.as_ref().map(|c| format!("chunks {c:?}"));
    let parts = [m.details.stored_dtype.clone(), m.details.compression.clone(), chunks];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn values_text(plan: &Plan, seen: &ValueReport, args: &InspectArgs, console: Console) -> String {
    let mut out = String::new();
    for (m, stats) in plan.arrays.iter().zip(&seen.stats).filter(|_| args.stats) {
        if let Some(stats) = stats {
            out += &format!("{}: {}\n", visible(&m.name), stats.line());
        }
    }
    for (m, map) in plan.arrays.iter().zip(&seen.heat) {
        if let Some(map) = map {
            out +=
                &format!("{}:\n{}", visible(&m.name), heat::Screen::of(console, false).draw(map));
        }
    }
    for shown in &seen.rows {
        out += &format!("{}:\n", visible(&shown.name));
        shown.rows.iter().for_each(|row| out += &format!("  {}\n", preview::line(row)));
    }
    out
}

fn metadata_text(plan: &Plan, show: Option<&str>) -> String {
    let mut out = String::new();
    match show {
        Some(key) if !key.is_empty() => {
            if let Some(v) = plan.attributes.get(key) {
                let text = v.as_str().map_or_else(
                    || serde_json::to_string_pretty(v).unwrap_or_default(),
                    str::to_string,
                );
                out += &format!("{text}\n");
            }
        }
        show => {
            if !plan.attributes.is_empty() {
                out += "metadata:\n";
            }
            for (key, value) in plan.attributes.iter() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                let shown = if show.is_none() && text.chars().count() > 100 {
                    format!(
                        "{}… ({} bytes)",
                        text.chars().take(100).collect::<String>(),
                        text.len()
                    )
                } else {
                    text
                };
                out += &format!("  {}: {}\n", visible(key), visible(&shown));
            }
        }
    }
    out
}
