//! Completions and man pages, made from the command line's own description.

use std::path::Path;

use clap_complete::Shell;

use crate::cli;
use crate::console;
use crate::error::{Context, Error, Result};

/// Prints a completion script.
///
/// # Errors
/// A closed pipe.
pub fn completions(shell: Shell) -> Result<u8> {
    console::out_bytes(&completion(shell))?;
    Ok(0)
}

fn completion(shell: Shell) -> Vec<u8> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "npk", &mut bytes);
    bytes
}

/// Writes the man pages into `dir`, or prints the main one.
///
/// # Errors
/// What cannot be written.
pub fn man(dir: Option<&Path>) -> Result<u8> {
    match dir {
        Some(dir) => write_man(dir)?,
        None => console::out_bytes(&page(cli::command())?)?,
    }
    Ok(0)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The version line names features, which differ from build to build.
    clap_mangen::Man::new(command.version(env!("CARGO_PKG_VERSION")))
        .date("")
        .render(&mut bytes)?;
    Ok(bytes)
}

fn write_man(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::from).at_file(&dir.display().to_string())?;
    let mut command = cli::command();
    command.build();
    let mut pages = vec![("npk.1".to_string(), page(command.clone())?)];
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("npk-{}", sub.get_name());
        let named = sub.clone().name(name.clone()).bin_name(name.replacen('-', " ", 1));
        pages.push((format!("{name}.1"), page(named)?));
    }
    for (name, bytes) in pages {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(Error::from).at_file(&path.display().to_string())?;
    }
    Ok(())
}

/// Writes `completions/`, `man/` and the README's format table below `dir`.
///
/// # Errors
/// What cannot be written.
pub fn all(dir: &Path) -> Result<u8> {
    let folder = dir.join("completions");
    std::fs::create_dir_all(&folder)?;
    for (shell, name) in
        [(Shell::Bash, "npk.bash"), (Shell::Zsh, "_npk"), (Shell::Fish, "npk.fish")]
    {
        std::fs::write(folder.join(name), completion(shell))?;
    }
    write_man(&dir.join("man"))?;
    readme(&dir.join("README.md"))?;
    Ok(0)
}

/// Puts the format table between its marks in the README.
fn readme(path: &Path) -> Result<()> {
    let (begin, end) = ("<!-- formats: made by `make generated` -->\n", "<!-- end of formats -->");
    let text = std::fs::read_to_string(path)
        .map_err(Error::reading)
        .at_file(&path.display().to_string())?;
    let (Some(from), Some(to)) = (text.find(begin), text.find(end)) else {
        return Err(Error::failed("the markers of the format table are missing")
            .file(path.display().to_string()));
    };
    let new =
        format!("{}{}{}", &text[..from + begin.len()], super::formats::markdown(), &text[to..]);
    std::fs::write(path, new)?;
    Ok(())
}
