//! `npk formats`: the registry, as a table, as JSON, or as the README's Markdown.

use serde_json::json;

use crate::cli::FormatsArgs;
use crate::console;
use crate::error::Result;
use crate::format::{Arrays, Spec};
use crate::formats::FORMATS;

/// Prints the formats.
///
/// # Errors
/// A closed pipe.
pub fn run(args: &FormatsArgs) -> Result<u8> {
    if args.json {
        let all: Vec<_> = FORMATS.iter().map(|f| describe(f.spec())).collect();
        console::json(&json!({ "schema": 1, "formats": all }), true)?;
    } else if args.markdown {
        console::out(&markdown())?;
    } else {
        let width = FORMATS.iter().map(|f| f.spec().name.len()).max().unwrap_or(0);
        for f in FORMATS.iter().map(|f| f.spec()) {
            console::out(&format!(
                "{:width$}  {:4}  {:40}  {}\n",
                f.name,
                mode(f),
                endings(f),
                f.about
            ))?;
        }
    }
    Ok(0)
}

fn describe(f: &Spec) -> serde_json::Value {
    let holds = f.writes;
    json!({
        "name": f.name,
        "extensions": f.extensions,
        "about": f.about,
        "reads": true,
        "writes": holds.is_some(),
        "stdin": f.streams.input,
        "stdout": f.streams.output,
        "arrays": holds.map(|h| match h.arrays { Arrays::One => "one", Arrays::Many => "many", Arrays::Table => "table" }),
        "dtypes": holds.map(|h| h.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>()),
    })
}

fn mode(f: &Spec) -> &'static str {
    if f.writes.is_some() { "r/w" } else { "r" }
}

fn endings(f: &Spec) -> String {
    f.extensions.iter().map(|e| format!(".{e}")).collect::<Vec<_>>().join(" ")
}

/// The README's format table.
pub fn markdown() -> String {
    let mut text = String::from(
        "| format | files | read | write | stdin / stdout | |\n|---|---|---|---|---|---|\n",
    );
    for f in FORMATS.iter().map(|f| f.spec()) {
        let pipes = match (f.streams.input, f.streams.output) {
            (true, true) => "both",
            (true, false) => "stdin (stdout: no)",
            (false, true) => "stdout (stdin: spooled)",
            (false, false) => "stdin spooled",
        };
        let files = f.extensions.iter().map(|e| format!("`.{e}`")).collect::<Vec<_>>().join(" ");
        let write = if f.writes.is_some() { "yes" } else { "no" };
        text += &format!("| `{}` | {files} | yes | {write} | {pipes} | {} |\n", f.name, f.about);
    }
    text
}
