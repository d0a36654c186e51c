//! `npk inspect`: what is in a file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Opened, checksum, chosen, input_location, look, open, read_options, settings};
use crate::adapt::names::nearest;
use crate::adapt::view::View;
use crate::cli::InspectArgs;
use crate::error::{Error, Kind, Result};
use crate::format::ReadOptions;
use crate::location::{self, Location};
use crate::model::{ArrayMeta, Plan};
use crate::report::{self, Voice, human_bytes, visible};

/// Inspects.
///
/// # Errors
/// A closed pipe; other errors are reported and make the exit code.
pub fn run(args: &InspectArgs, voice: Voice) -> Result<u8> {
    let options = read_options(&args.read)?;
    let (mut code, mut documents) = (0, Vec::new());
    for path in &args.paths {
        match one(path, args, &options, voice) {
            Ok((document, broken)) => {
                if broken && code == 0 {
                    code = 7;
                }
                documents.extend(document);
            }
            Err(e) if e.kind() == Kind::BrokenPipe => return Ok(0),
            Err(e) => {
                voice.error(&e);
                code = if code == 0 { report::exit_code(&e) } else { code };
            }
        }
    }
    if args.json {
        match documents.len() {
            1 if args.paths.len() == 1 => report::json(&documents[0], true)?,
            0 if args.paths.len() == 1 => {}
            _ => report::json(&Value::Array(documents), true)?,
        }
    }
    Ok(code)
}

fn one(path: &str, args: &InspectArgs, options: &ReadOptions, voice: Voice) -> Result<(Option<Value>, bool)> {
    let at = input_location(path, &args.read)?;
    let looks = args.stats || args.hist || part(args)?.is_some();
    if looks && at.is_stream() {
        at.blob()?; // spooled before anything is read, since it is read more than once
    }
    let opened = open(&at, args.read.from.as_deref(), options, voice)?;
    let Opened { format, mut source } = opened;
    for note in &source.plan().notes {
        voice.note(&format!("{}: {note}", at.display()));
    }
    if !source.plan().arrays.is_empty() {
        let indices = chosen(source.as_ref(), &args.choose).map_err(|e| e.file(at.display()))?;
        if indices.len() != source.plan().arrays.len() {
            source = Box::new(View::choose(source, &indices));
        }
    }
    let plan = source.plan().clone();
    if let Some(key) = args.show_metadata.as_deref().filter(|k| !k.is_empty())
        && !plan.attributes.contains_key(key)
    {
        let near = nearest(key, plan.attributes.keys().map(String::as_str)).join(", ");
        let error = Error::missing(format!("there is no metadata '{key}'")).file(at.display());
        return Err(error.hint(if near.is_empty() { "--show-metadata alone shows all".into() } else { format!("did you mean {near}?") }));
    }
    // Refused arrays are listed and marked; damage makes the exit code.
    let broken = plan.arrays.iter().any(|a| a.details.error.as_ref().is_some_and(|e| e.kind() == Kind::Corrupt));
    let sums = match args.checksum {
        true => checksum::checksums(source, &settings(&args.read)?).map_err(|e| e.file(at.display()))?,
        false => vec![None; plan.arrays.len()],
    };
    let bytes = size_of(&at);
    let mut seen = Seen { sums, ..Seen::default() };
    if looks {
        look(&mut seen, &at, &plan, args, options, voice)?;
    }
    if args.json {
        return Ok((Some(document(&at, format.name(), &plan, bytes, &seen, args)), broken));
    }
    text(&at, format.name(), &plan, bytes, &seen, args, voice)?;
    Ok((None, broken))
}

/// What was found out about the values.
#[derive(Default)]
struct Seen {
    sums: Vec<Option<String>>,
    stats: Vec<Option<look::Stats>>,
    bins: Vec<Option<[u64; 16]>>,
    rows: Vec<(String, Vec<Value>)>,
}

fn part(args: &InspectArgs) -> Result<Option<look::Part>> {
    Ok(match (args.head, args.tail, &args.slice) {
        (Some(n), None, None) => Some(look::Part::Head(n)),
        (None, Some(n), None) => Some(look::Part::Tail(n)),
        (None, None, Some(s)) => Some(look::Part::slice(s)?),
        (None, None, None) => None,
        _ => return Err(Error::usage("--head, --tail and --slice exclude each other")),
    })
}

/// Reads values: each look opens the input anew.
fn look(seen: &mut Seen, at: &Location, plan: &Plan, args: &InspectArgs, options: &ReadOptions, voice: Voice) -> Result<()> {
    let settings = settings(&args.read)?;
    let again = || -> Result<Box<dyn crate::format::Source>> {
        let source = open(at, args.read.from.as_deref(), options, voice)?.source;
        let indices: Vec<usize> = plan.arrays.iter().filter_map(|a| source.plan().position(&a.name)).collect();
        Ok(Box::new(View::choose(source, &indices)))
    };
    if args.stats || args.hist {
        seen.stats = look::stats(again()?, &settings).map_err(|e| e.file(at.display()))?;
    }
    if args.hist {
        seen.bins = look::histograms(again()?, &seen.stats, &settings).map_err(|e| e.file(at.display()))?;
    }
    if let Some(part) = part(args)? {
        seen.rows = look::preview(again()?, &part, &settings).map_err(|e| e.file(at.display()))?;
    }
    Ok(())
}

/// Bytes of a file, or of all files of a directory.
pub fn size_of(at: &Location) -> Option<u64> {
    match at.kind().ok()? {
        location::Kind::File { len, .. } => Some(len),
        location::Kind::Dir => {
            let mut total = 0u64;
            for entry in at.list().ok()? {
                total += if entry.is_dir { size_of(&at.join(&entry.name))? } else { entry.len };
            }
            Some(total)
        }
        _ => None,
    }
}

fn document(at: &Location, format: &str, plan: &Plan, bytes: Option<u64>, seen: &Seen, args: &InspectArgs) -> Value {
    let arrays: Vec<Value> = plan.arrays.iter().enumerate().map(|(i, m)| array_json(m, i, seen, args)).collect();
    let mut document = json!({
        "schema": 1,
        "path": at.display(),
        "format": format,
        "format_version": plan.format_version,
        "bytes": bytes,
        "arrays": arrays,
    });
    if !plan.tables.is_empty() {
        document["tables"] = plan
            .tables
            .iter()
            .map(|t| {
                json!({
                    "columns": t.columns.iter().map(|c| json!({"array": c.array, "header": c.header})).collect::<Vec<_>>(),
                    "index": t.index,
                    "matrix": t.matrix,
                })
            })
            .collect();
    }
    document["metadata"] = match args.show_metadata.as_deref() {
        Some(key) if !key.is_empty() => plan.attributes.get(key).cloned().unwrap_or(Value::Null),
        _ => Value::Object(plan.attributes.clone()),
    };
    if !plan.groups.is_empty() {
        document["groups"] =
            plan.groups.iter().map(|(k, v)| (k.clone(), Value::Object(v.clone()))).collect::<serde_json::Map<_, _>>().into();
    }
    document
}

fn array_json(m: &ArrayMeta, i: usize, seen: &Seen, args: &InspectArgs) -> Value {
    let stored = m.details.stored_dtype.clone().unwrap_or_else(|| m.dtype.name().to_string());
    let mut v = json!({
        "name": m.name,
        "dtype": m.type_name(),
        "stored_dtype": stored,
        "shape": m.shape(),
        "bytes": m.details.stored_bytes.or_else(|| m.bytes().ok().flatten()),
        "compression": m.details.compression,
        "chunks": m.details.chunks,
        "attributes": m.details.attributes,
    });
    if let Some(part) = &m.details.part {
        v["part"] = json!(part);
    }
    if let Some(alias) = &m.details.alias_of {
        v["alias_of"] = json!(alias);
    }
    if let Some(Some(sum)) = seen.sums.get(i) {
        v["checksum"] = json!(sum);
    }
    if let Some(Some(stats)) = seen.stats.get(i).filter(|_| args.stats) {
        v["stats"] = stats.json();
    }
    if let Some(Some(bins)) = seen.bins.get(i) {
        v["histogram"] = json!(bins);
    }
    if let Some((_, rows)) = seen.rows.iter().find(|(name, _)| *name == m.name) {
        v["values"] = json!(rows);
    }
    if let Some(error) = &m.details.error {
        v["error"] = json!(error.message());
    }
    v
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

fn text(at: &Location, format: &str, plan: &Plan, bytes: Option<u64>, seen: &Seen, args: &InspectArgs, voice: Voice) -> Result<()> {
    let mut out = String::new();
    let version = plan.format_version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
    let size = bytes.map_or_else(String::new, |b| format!(", {}", human_bytes(b)));
    let elements: u64 =
        plan.arrays.iter().filter_map(|m| m.shape()).filter_map(|s| crate::model::checked_product(&s)).fold(0, u64::saturating_add);
    let n = plan.arrays.len();
    out += &format!(
        "{}: {format}{version}{size}, {n} array{}, {elements} element{}\n",
        visible(&at.display()),
        plural(n as u64),
        plural(elements)
    );
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for m in &plan.arrays {
        let t = totals.entry(m.type_name()).or_default();
        t.0 += 1;
        t.1 = t.1.saturating_add(m.bytes().ok().flatten().unwrap_or(0));
    }
    if totals.len() > 1 {
        let parts: Vec<String> = totals.iter().map(|(k, (n, b))| format!("{k}: {n} ({})", human_bytes(*b))).collect();
        out += &format!("  {}\n", parts.join(", "));
    }
    if args.tree {
        out += &look::tree(&plan.arrays);
        out += &values_text(plan, seen, args);
        out += &metadata_text(plan, args.show_metadata.as_deref());
        return report::out(&out);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    if !voice.color_out {
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
        let stored: Vec<String> =
            [m.details.stored_dtype.clone(), m.details.compression.clone(), m.details.chunks.as_ref().map(|c| format!("chunks {c:?}"))]
                .into_iter()
                .flatten()
                .collect();
        let stored = match &m.details.error {
            Some(e) => format!("not readable: {}", visible(e.message())),
            None => stored.join(", "),
        };
        let size = m.details.stored_bytes.or_else(|| m.bytes().ok().flatten()).map_or_else(|| "?".into(), human_bytes);
        let mut row = vec![visible(&m.name), m.type_name(), shape_text(m), size, stored];
        if args.checksum {
            row.push(seen.sums.get(i).cloned().flatten().unwrap_or_default());
        }
        if args.hist {
            row.push(seen.bins.get(i).and_then(|b| b.as_ref()).map(look::sparkline).unwrap_or_default());
        }
        table.add_row(row);
    }
    if n > 0 {
        out += &table.trim_fmt();
        out.push('\n');
    }
    out += &values_text(plan, seen, args);
    out += &metadata_text(plan, args.show_metadata.as_deref());
    report::out(&out)
}

fn values_text(plan: &Plan, seen: &Seen, args: &InspectArgs) -> String {
    let mut out = String::new();
    for (m, stats) in plan.arrays.iter().zip(&seen.stats).filter(|_| args.stats) {
        if let Some(stats) = stats {
            out += &format!("{}: {}\n", visible(&m.name), stats.line());
        }
    }
    for (name, rows) in &seen.rows {
        out += &format!("{}:\n", visible(name));
        rows.iter().for_each(|row| out += &format!("  {}\n", look::line(row)));
    }
    out
}

fn metadata_text(plan: &Plan, show: Option<&str>) -> String {
    let mut out = String::new();
    match show {
        Some(key) if !key.is_empty() => {
            if let Some(v) = plan.attributes.get(key) {
                let text = v.as_str().map_or_else(|| serde_json::to_string_pretty(v).unwrap_or_default(), str::to_string);
                out += &format!("{text}\n");
            }
        }
        show => {
            if !plan.attributes.is_empty() {
                out += "metadata:\n";
            }
            for (key, value) in &plan.attributes {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                let shown = if show.is_none() && text.chars().count() > 100 {
                    format!("{}… ({} bytes)", text.chars().take(100).collect::<String>(), text.len())
                } else {
                    text
                };
                out += &format!("  {}: {}\n", visible(key), visible(&shown));
            }
        }
    }
    out
}
