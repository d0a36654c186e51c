//! `npk list`: array names, one per line.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::paths::{self, PathReport};
use crate::cli::{ListArgs, Sort};
use crate::console::{self, Console, visible};
use crate::error::Result;
use crate::format::ReadOptions;
use crate::model::ArrayMeta;
use crate::open::{Opened, choosing, chosen, damaged, input_location, open, read_options_typed};
use crate::resolve::names::natural;

/// The type; of an array that cannot be read, what is stored.
fn shown_type(meta: &ArrayMeta) -> String {
    match (&meta.details.error, &meta.details.stored_dtype) {
        (Some(_), Some(stored)) => stored.clone(),
        _ => meta.type_name(),
    }
}

/// Lists.
///
/// # Errors
/// A closed pipe; other errors are reported, and the exit code is the worst one's.
pub fn run(args: &ListArgs, console: Console) -> Result<u8> {
    let mut options =
        choosing(&read_options_typed(&args.look.read, &args.look.raw)?, &args.look.choose);
    options.names_only = !args.long && !args.look.json && args.sort != Sort::Size;
    options.types_only = true;
    paths::each(&args.paths, args.look.json, console, |path| one(path, args, &options, console))
}

fn one(path: &str, args: &ListArgs, options: &ReadOptions, console: Console) -> Result<PathReport> {
    let at = input_location(path, &args.look.read)?;
    let Opened { format, mut flow } = open(&at, args.look.read.from.as_deref(), options, console)?;
    if !flow.plan().arrays.is_empty() {
        flow = chosen(flow, &args.look.choose).map_err(|e| e.file(at.display()))?;
    }
    let mut arrays: Vec<&ArrayMeta> = flow.plan().arrays.iter().collect();
    match args.sort {
        Sort::File => {}
        Sort::Name => arrays.sort_by(|a, b| natural(&a.name, &b.name)),
        Sort::Size => arrays.sort_by_key(|m| Reverse(m.size_bytes().unwrap_or(0))),
    }
    // As for inspect: refused arrays are names like others, damage makes the exit code.
    let broken = damaged(arrays.iter().copied(), &at);
    if args.look.json {
        let arrays: Vec<_> = arrays.into_iter().map(document).collect();
        let document = json!({"schema": 1, "path": at.display(), "format": format.spec().name, "arrays": arrays});
        return Ok((Some(console::json_text(&document)?), broken));
    }
    let before = if args.paths.len() > 1 { format!("{}:", at.display()) } else { String::new() };
    let text: String = arrays.into_iter().map(|meta| before.clone() + &line(meta, args)).collect();
    console::out(&text)?;
    Ok((None, broken))
}

/// An array in JSON.
fn document(meta: &ArrayMeta) -> Value {
    let mut document = json!({"name": meta.name, "dtype": shown_type(meta), "shape": meta.shape(), "bytes": meta.size_bytes()});
    if let Some(error) = &meta.details.error {
        document["error"] = json!(error.reason());
        if let Some(hint) = error.hint_text() {
            document["hint"] = json!(hint);
        }
    }
    document
}

/// An array as a line.
fn line(meta: &ArrayMeta, args: &ListArgs) -> String {
    let mut line = if args.null { meta.name.clone() } else { visible(&meta.name) };
    if args.long {
        let shape = match meta.shape() {
            Some(s) if s.is_empty() => "scalar".into(),
            Some(s) => s.iter().map(u64::to_string).collect::<Vec<_>>().join("x"),
            None => "?".into(),
        };
        let bytes = meta.size_bytes().map_or_else(|| "?".into(), |b| b.to_string());
        line += &format!("\t{}\t{shape}\t{bytes}", shown_type(meta));
        if let Some(error) = &meta.details.error {
            line += &format!("\tnot readable: {}", visible(&error.reason()));
        }
    }
    line.push(if args.null { '\0' } else { '\n' });
    line
}
