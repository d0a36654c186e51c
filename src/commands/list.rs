//! `npk list`: array names, one per line.

use serde_json::json;

use crate::cli::{ListArgs, Sort};
use crate::console::{self, Console, visible};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ArrayMeta;
use crate::open::{choosing, chosen, input_location, open, read_options_typed};
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
/// A closed pipe; other errors are reported, and the exit code is the first one's.
pub fn run(args: &ListArgs, console: Console) -> Result<u8> {
    let mut options = choosing(&read_options_typed(&args.read, &args.raw)?, &args.choose);
    options.names_only = !args.long && !args.json && args.sort != Sort::Size;
    options.types_only = true;
    let (mut code, mut documents) = (0, Vec::new());
    for path in &args.paths {
        let mut broken = Vec::new();
        let mut one = || -> Result<Option<serde_json::Value>> {
            let at = input_location(path, &args.read)?;
            let opened = open(&at, args.read.from.as_deref(), &options, console)?;
            let mut flow = opened.flow;
            if !flow.plan().arrays.is_empty() {
                flow = chosen(flow, &args.choose).map_err(|e| e.file(at.display()))?;
            }
            let plan = flow.plan();
            let mut indices: Vec<usize> = (0..plan.arrays.len()).collect();
            match args.sort {
                Sort::File => {}
                Sort::Name => {
                    indices.sort_by(|&a, &b| natural(&plan.arrays[a].name, &plan.arrays[b].name))
                }
                Sort::Size => indices
                    .sort_by_key(|&a| std::cmp::Reverse(plan.arrays[a].size_bytes().unwrap_or(0))),
            }
            // As for inspect: refused arrays are names like others, damage makes the exit code.
            broken = crate::open::damaged(indices.iter().map(|&a| &plan.arrays[a]), &at);
            if args.json {
                let arrays: Vec<_> = indices
                    .iter()
                    .map(|&a| {
                        let m = &plan.arrays[a];
                        let mut v = json!({"name": m.name, "dtype": shown_type(m), "shape": m.shape(), "bytes": m.size_bytes()});
                        if let Some(error) = &m.details.error {
                            v["error"] = json!(error.reason());
                            if let Some(hint) = error.hint_text() {
                                v["hint"] = json!(hint);
                            }
                        }
                        v
                    })
                    .collect();
                return Ok(Some(
                    json!({"schema": 1, "path": at.display(), "format": opened.format.spec().name, "arrays": arrays}),
                ));
            }
            let mut text = String::new();
            for &a in &indices {
                let m = &plan.arrays[a];
                if args.paths.len() > 1 {
                    text += &format!("{}:", at.display());
                }
                text += &if args.null { m.name.clone() } else { visible(&m.name) };
                if args.long {
                    let shape = match m.shape() {
                        Some(s) if s.is_empty() => "scalar".into(),
                        Some(s) => s.iter().map(u64::to_string).collect::<Vec<_>>().join("x"),
                        None => "?".into(),
                    };
                    let bytes = m.size_bytes().map_or_else(|| "?".into(), |b| b.to_string());
                    text += &format!("\t{}\t{shape}\t{bytes}", shown_type(m));
                }
                text.push(if args.null { '\0' } else { '\n' });
            }
            console::out(&text)?;
            Ok(None)
        };
        let listed = crate::error::guard(&mut one).and_then(|document| {
            documents.extend(document);
            Error::all(broken)
        });
        match listed {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(0),
            Err(e) => {
                console.error(&e);
                code = console::worst(code, &e);
            }
        }
    }
    if args.json {
        match documents.len() {
            1 if args.paths.len() == 1 => console::json(&documents[0], true)?,
            0 if args.paths.len() == 1 => {}
            _ => console::json(&serde_json::Value::Array(documents), true)?,
        }
    }
    Ok(code)
}
