//! What a shell's completion asks for while a command is being typed: array names and formats.

use std::ffi::OsStr;
use std::path::Path;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

use crate::cli;
use crate::console::Console;
use crate::format::ReadOptions;
use crate::formats::FORMATS;
use crate::storage::Location;

/// More names than that are no help.
const MAX_NAMES: usize = 500;

/// The command line with its completers.
pub fn command() -> clap::Command {
    let mut command = cli::command();
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_string()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| {
            sub.mut_args(|arg| match arg.get_id().as_str() {
                "array" | "exclude" => arg.add(ArgValueCompleter::new(arrays)),
                "from" | "to" => arg.add(ArgValueCandidates::new(formats)),
                _ => arg,
            })
        });
    }
    command
}

fn formats() -> Vec<CompletionCandidate> {
    let more = [("numpy", "npy or npz"), ("auto", "as if no format was given")];
    let formats = FORMATS.iter().map(|f| (f.spec().name, f.spec().about)).chain(more);
    formats.map(|(name, about)| CompletionCandidate::new(name).help(Some(about.into()))).collect()
}

/// The arrays of the first word of the command line that is a file or directory; the part before a
/// comma stays.
fn arrays(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let words = std::env::args_os().skip_while(|a| a != "--").skip(3);
    let files = words.map(std::path::PathBuf::from).filter(|p| is_file_or_store(p));
    let names = files.map(|p| names_in(&p)).find(|names| !names.is_empty()).unwrap_or_default();
    let typed = current.rfind(',').map_or(0, |comma| comma + 1);
    let (before, typed) = current.split_at(typed);
    names
        .into_iter()
        .filter(|name| name.starts_with(typed))
        .take(MAX_NAMES)
        .map(|name| CompletionCandidate::new(format!("{before}{name}")))
        .collect()
}

/// A FIFO must not be opened: its writer would wait or be cut off.
fn is_file_or_store(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() || m.is_dir())
}

fn names_in(path: &Path) -> Vec<String> {
    let options = ReadOptions { names_only: true, ..ReadOptions::default() };
    let quiet = Console::SILENT;
    let opened =
        crate::error::guard(|| crate::open::open(&Location::local(path), None, &options, quiet));
    opened
        .map(|opened| opened.flow.plan().arrays.iter().map(|a| a.name.clone()).collect())
        .unwrap_or_default()
}
