//! Settings of the library, which are the options of the command under their names there: what the
//! command can do, the library can, and both check it alike.

use clap::{Args, FromArgMatches};

use crate::cli::{ConvertArgs, ReadArgs};
use crate::error::{Error, Result};

/// Options of the command, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(Vec<String>);

impl Flags {
    /// `--name=value`; underscores may stand for the hyphens.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.push(format!("{}={value}", long(name)));
    }
    /// `--name`.
    pub(super) fn switch(&mut self, name: &str) {
        self.0.push(long(name));
    }
    /// Whether one of them says where the names of the sources are.
    pub(super) fn names_sources(&self) -> bool {
        self.0.iter().any(|flag| flag.starts_with("--files-from="))
    }
    /// As the reading commands take them.
    pub(super) fn read(&self) -> Result<ReadArgs> {
        self.parse(&[])
    }
    /// As `npk convert` takes them.
    pub(super) fn convert(&self, paths: &[String]) -> Result<ConvertArgs> {
        self.parse(paths)
    }

    /// Without the environment: what a program says is all that counts.
    fn parse<T: Args + FromArgMatches>(&self, paths: &[String]) -> Result<T> {
        let command = T::augment_args(clap::Command::new("npk").no_binary_name(true));
        let paths = paths.iter().map(String::as_str);
        let all = self.0.iter().map(String::as_str).chain(std::iter::once("--")).chain(paths);
        let wrong = |e: clap::Error| {
            let text = e.render().to_string();
            let said = text.lines().next().unwrap_or_default();
            Error::usage(said.strip_prefix("error: ").unwrap_or(said))
                .hint("options are called as those of the command: npk convert --help")
        };
        let matches = command.try_get_matches_from(all).map_err(wrong)?;
        T::from_arg_matches(&matches).map_err(wrong)
    }
}

fn long(name: &str) -> String {
    format!("--{}", name.trim_start_matches('-').replace('_', "-"))
}
