//! `npk verify`: is this file or store whole?

use serde_json::json;

use crate::cli::VerifyArgs;
use crate::console::{self, Console, Counted};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::Order;
use crate::model::{ArrayMeta, Plan};
use crate::open::{input_location, open, read_options_typed, shown};
use crate::pipe::{self, Settings};

/// Verifies each path; the exit code is the first failure's.
///
/// # Errors
/// A closed pipe.
pub fn run(args: &VerifyArgs, console: Console) -> Result<u8> {
    if let Some(certificate) = &args.certificate {
        return super::certificate::run(certificate, args, console);
    }
    let (mut code, mut documents) = (0, Vec::new());
    for given in &args.paths {
        let result = crate::error::guard(|| one(given, args, console));
        let path = &shown(given);
        match &result {
            Ok((counted, notes)) => {
                for note in notes {
                    console.note(&format!("{path}: {note}"));
                }
                if args.json {
                    documents.push(json!({"schema": 1, "path": path, "whole": true, "arrays": counted.arrays, "notes": notes}));
                } else if !args.messages.quiet {
                    console::out(&format!("{path}: whole, {counted}\n"))?;
                }
            }
            Err(e) => {
                console.error(e);
                code = console::worst(code, e);
                let mut document = json!({"schema": 1, "path": path, "whole": false});
                document
                    .as_object_mut()
                    .into_iter()
                    .for_each(|keys| keys.extend(console::fault(e)));
                documents.push(document);
            }
        }
    }
    if args.json {
        let all = serde_json::Value::Array(documents);
        console::json(if args.paths.len() == 1 { &all[0] } else { &all }, true)?;
    }
    Ok(code)
}

fn one(given: &str, args: &VerifyArgs, console: Console) -> Result<(Counted, Vec<String>)> {
    let options = read_options_typed(&args.read, &args.raw)?;
    let at = input_location(given, &args.read)?;
    let path = &shown(given);
    // What is inside of a compressed file is read more than once; of a stream, the arrays are all
    // that is checked.
    let at = if at.is_stream() {
        at
    } else {
        crate::detect::rereadable(at, args.read.from.as_deref()).at_file(path)?
    };
    let opened = open(&at, args.read.from.as_deref(), &options, console)?;
    let notes = if !at.is_rereadable() {
        Vec::new()
    } else {
        opened.format.verify(&at, &options).at_file(path)?
    };
    let flow = if notes.is_empty() {
        opened.flow
    } else {
        let quiet = Console { quiet: true, ..console };
        open(&at, args.read.from.as_deref(), &options, quiet)?.flow
    };
    let (arrays, counted) = (flow.plan().arrays.clone(), Counted::read(flow.plan()));
    Error::all(crate::open::damaged(arrays.iter(), &at))?;
    even_tables(flow.plan()).at_file(path)?;
    let good: Vec<usize> =
        (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
    // What is not read is not whole, whatever it is.
    let unread = |a: &ArrayMeta| {
        let error = a.details.error.as_deref()?.clone().with_kind(ErrorKind::Refused);
        Some(error.about("it cannot be checked").with_array(&a.name).file(path))
    };
    let unread: Vec<Error> = arrays.iter().filter_map(unread).collect();
    if !good.is_empty() {
        pipe::drain(
            flow.choose(&good),
            Order::Any,
            &mut |_| Ok(()),
            &Settings::of(&options.resources),
        )
        .map_err(|e| match e.kind() {
            // Not what the bytes say: the disk, the network, a file that may not be read.
            ErrorKind::Failed | ErrorKind::Remote | ErrorKind::Refused | ErrorKind::Missing => e,
            _ => e.with_kind(ErrorKind::Corrupt),
        })
        .at_file(path)?;
    }
    Error::all(unread)?;
    Ok((counted, notes))
}

/// The arrays of a table have a row each for every row of it.
fn even_tables(plan: &Plan) -> Result<()> {
    let positions = plan.positions();
    for table in &plan.tables {
        let rows_of = |name| Some((name, plan.arrays[*positions.get(name)?].rows?));
        let arrays: Vec<(&str, u64)> = table.arrays().into_iter().filter_map(rows_of).collect();
        let Some((first, rows)) = arrays.first() else { continue };
        if let Some((other, n)) = arrays.iter().find(|(_, n)| n != rows) {
            let error = Error::corrupt(format!(
                "the columns of its table differ in length: {first} has {rows} rows, {other} has {n}"
            ));
            return Err(error
                .hint("the arrays themselves can be read; choose those of equal length with -a"));
        }
    }
    Ok(())
}
