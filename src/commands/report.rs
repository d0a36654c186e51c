//! `npk report`: what the shares of a batch have come to.

use serde_json::{Value, json};

use crate::batch::merged::Shares;
use crate::cli::{ReadArgs, ReportArgs};
use crate::console::{self, Console, human_bytes, visible};
use crate::error::{Error, Result};
use crate::open::output_location;

/// Failed units that the table shows.
const SHOWN: usize = 20;
/// And shares: a wrong number of them cannot fill the memory.
const ROWS: u64 = 1 << 14;

/// Prints the table of a report's directory. The exit code is 0 where all shares are done and
/// nothing failed, else 1.
///
/// # Errors
/// Missing: no report. What cannot be read.
pub fn run(args: &ReportArgs, console: Console) -> Result<u8> {
    let read = ReadArgs {
        remote: args.remote.clone(),
        memory_limit: "256MiB".into(),
        ..ReadArgs::default()
    };
    let at = output_location(&args.path, &read)?;
    let shares = Shares::open(&at)?;
    let Some(of) = shares.of else {
        return Err(Error::missing("there is no report")
            .file(at.display())
            .hint("npk convert --report DIR writes one"));
    };
    let complete = shares.complete();
    let (failures, root) = look(&shares)?;
    if args.json {
        let mut all = json!({
            "schema": 1, "path": at.display(), "of": of, "complete": complete,
            "units": shares.sum("units"), "done": shares.sum("done"),
            "failed": shares.sum("failed"), "bytes": shares.sum("bytes"),
        });
        all["shares"] = rows(&shares, of).into_iter().map(|(row, _)| row).collect();
        all["failures"] = Value::Array(failures);
        if let Some(root) = root {
            all["root"] = json!(root);
        }
        console::json(&all, true)?;
        return Ok(u8::from(!complete));
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    table.set_header(["share", "state", "units", "done", "failed", "bytes"]);
    for (row, state) in rows(&shares, of) {
        let number = |key: &str| row[key].as_u64().map_or(String::new(), |n| n.to_string());
        let bytes = row["bytes"].as_u64().map_or(String::new(), human_bytes);
        let [units, done, failed] = ["units", "done", "failed"].map(number);
        table.add_row([number("share"), state.to_string(), units, done, failed, bytes]);
    }
    console::out(&format!("{table}\n"))?;
    if of > ROWS {
        console::out(&format!("… and {} more shares\n", of - ROWS))?;
    }
    for failure in failures.iter().take(SHOWN) {
        let text = |key: &str| failure[key].as_str().unwrap_or_default();
        console::out(&format!("failed: {}: {}\n", visible(text("unit")), visible(text("error"))))?;
    }
    if failures.len() > SHOWN {
        console::out(&format!("… and {} more\n", failures.len() - SHOWN))?;
    }
    if let Some(root) = root {
        console::out(&format!("root: {root}\n"))?;
    }
    console.summary(&format!(
        "{}: {} of {of} shares are done, {} units, {} failed, {}",
        if complete { "complete" } else { "not complete" },
        shares.done.len(),
        shares.sum("units"),
        shares.sum("failed"),
        human_bytes(shares.sum("bytes")),
    ));
    Ok(u8::from(!complete))
}

/// Every share with its state.
fn rows(shares: &Shares, of: u64) -> Vec<(Value, &'static str)> {
    let mut rows = Vec::new();
    let mut done = shares.done.iter().peekable();
    for share in 0..of.min(ROWS) {
        if let Some((_, last)) = done.next_if(|(index, _)| *index == share) {
            let mut row = json!({"share": share, "state": "done"});
            for key in ["units", "done", "failed", "bytes", "changed", "root"] {
                if let Some(value) = last.get(key) {
                    row[key] = value.clone();
                }
            }
            rows.push((row, "done"));
        } else {
            let state = if shares.begun.contains(&share) { "not finished" } else { "missing" };
            rows.push((json!({"share": share, "state": state}), state));
        }
    }
    rows
}

/// What failed; and what certifies all of it, where every share is done.
fn look(shares: &Shares) -> Result<(Vec<Value>, Option<String>)> {
    let certified =
        shares.missing() == 0 && shares.done.iter().any(|(_, last)| last.get("root").is_some());
    let mut failures = Vec::new();
    if shares.sum("failed") == 0 && !certified {
        return Ok((failures, None));
    }
    let mut tree = crate::batch::merkle::Tree::default();
    let mut lines = shares.lines()?;
    while let Some((_, _, line)) = lines.next()? {
        if line["status"] == "failed" {
            let keys = ["unit", "output", "error", "hint", "exit_code"];
            failures.push(keys.into_iter().map(|k| (k.to_string(), line[k].clone())).collect());
        }
        tree.push(&line);
    }
    Ok((failures, tree.root().filter(|_| certified)))
}
