//! The commands: arguments → settings → calls.

use crate::cli::{Cli, Command};
use crate::console::{self, Console};
use crate::conversion;
use crate::open;
use crate::resources::Resources;

pub mod certificate;
pub mod colors;
pub mod complete;
pub mod diff;
pub mod edit;
pub mod formats;
pub mod generate;
pub mod heat;
pub mod html;
pub mod inspect;
pub mod list;
mod paths;
pub mod preview;
pub mod profile;
pub mod report;
pub mod tree;
pub mod verify;

/// Runs a command; returns the exit code.
pub fn run(mut cli: Cli) -> u8 {
    crate::storage::raise_file_limit();
    without_auto(&mut cli.command);
    if !matches!(cli.command, Command::List(_) | Command::Inspect(_)) {
        crate::storage::platform::without_huge_pages();
    }
    let messages = match &cli.command {
        Command::Convert(a) => a.messages.clone(),
        Command::List(a) => a.look.messages.clone(),
        Command::Inspect(a) => a.look.messages.clone(),
        Command::Diff(a) => a.look.messages.clone(),
        Command::Verify(a) => a.messages.clone(),
        Command::Edit(a) => a.messages.clone(),
        Command::Report(a) => a.messages.clone(),
        _ => Default::default(),
    };
    let console = Console::new(&messages);
    console::hints::of_command(cli.command.name());
    let result = crate::error::guard(|| match cli.command {
        Command::Convert(args) => conversion::run(&args, console, conversion::Hooks::default()),
        Command::List(args) => list::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Diff(args) => diff::run(&args, console),
        Command::Verify(args) => verify::run(&args, console),
        Command::Edit(args) => edit::run(&args, console),
        Command::Report(args) => report::run(&args, console),
        Command::Formats(args) => formats::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Generate { dir } => generate::all(&dir),
    });
    match result {
        Ok(code) => code,
        Err(e) => {
            console.error(&e);
            console::exit_code(&e)
        }
    }
}

/// The threads and the memory limit of a command, where it has one that can be read.
pub fn resources(cli: &Cli) -> Option<Resources> {
    let read = match &cli.command {
        Command::Convert(a) => &a.read,
        Command::List(a) => &a.look.read,
        Command::Inspect(a) => &a.look.read,
        Command::Diff(a) => &a.look.read,
        Command::Verify(a) => &a.read,
        _ => return None,
    };
    open::resources(read).ok()
}

/// `auto` as a format is what is done where none is given.
fn without_auto(command: &mut Command) {
    let forget = |name: &mut Option<String>| {
        *name = name.take().filter(|name| !name.eq_ignore_ascii_case("auto"))
    };
    match command {
        Command::Convert(a) => {
            forget(&mut a.read.from);
            forget(&mut a.to);
        }
        Command::List(a) => forget(&mut a.look.read.from),
        Command::Inspect(a) => forget(&mut a.look.read.from),
        Command::Diff(a) => forget(&mut a.look.read.from),
        Command::Verify(a) => forget(&mut a.read.from),
        _ => {}
    }
}
