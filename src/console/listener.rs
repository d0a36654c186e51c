//! A program in the place of the terminal: what the commands say, as values.

use std::time::Duration;

use crate::error::Error;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// How something was done (`-v`).
    Detail,
    /// What is good to know: text became codes.
    Note,
    /// What is probably not as it was meant.
    Warning,
}

impl Level {
    /// The level of a label of the terminal.
    pub(super) fn of(label: &str) -> Level {
        if label == "warning" { Level::Warning } else { Level::Note }
    }
}

/// What became of one output.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Told {
    /// What it was made from.
    pub sources: Vec<String>,
    /// Where it is.
    pub destination: String,
    /// The format of the output; empty where nothing was written.
    pub format: &'static str,
    /// How many arrays were written.
    pub arrays: usize,
    /// How many columns, where the output is a table.
    pub columns: Option<usize>,
    /// Bytes written.
    pub bytes: u64,
    /// The time that it took.
    pub time: Duration,
    /// `matrix` or `columns`, where a table was read.
    pub layout: Option<&'static str>,
    /// Why nothing was to be done.
    pub skipped: Option<&'static str>,
    /// What would be done, of a dry run.
    pub planned: Option<String>,
    /// Why it failed.
    pub error: Option<Error>,
}

/// Hears what the commands have to say.
pub trait Listener: Sync {
    /// A message.
    fn hear(&self, level: Level, text: &str);
    /// An output has come to its end.
    fn output(&self, told: Told);
}
