//! The one place that prints: errors with hints, notes, tables, progress, JSON; and the exit codes.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cli::{Color, MessageArgs};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::Plan;

pub mod hints;
mod listener;
pub mod terminal;

pub use listener::{Level, Listener, Told};

/// The exit code of an error.
pub fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Failed => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Missing => 3,
        ErrorKind::Refused => 4,
        ErrorKind::Exists => 5,
        ErrorKind::Remote => 6,
        ErrorKind::Corrupt => 7,
        ErrorKind::BrokenPipe => 0,
        ErrorKind::Cancelled => 130,
        ErrorKind::Internal => 101,
    }
}

/// The exit code after one more failure of several inputs: the first failure's, and a bug's before
/// all others.
pub fn worst(code: u8, error: &Error) -> u8 {
    if code == 0 || error.is_bug() { exit_code(error) } else { code }
}

/// The hint of an error, as far as the command that runs can take it.
fn hint_of(error: &Error) -> Option<String> {
    error.hint_text().and_then(hints::taken)
}

/// An error as keys of a JSON document: `error`, `hint`, `exit_code`, and `more` for those found in
/// the same pass.
pub fn fault(error: &Error) -> serde_json::Map<String, serde_json::Value> {
    let mut keys = serde_json::Map::new();
    keys.insert("error".into(), error.to_string().into());
    keys.insert("hint".into(), hint_of(error).into());
    keys.insert("exit_code".into(), exit_code(error).into());
    if !error.others().is_empty() {
        let more = error
            .others()
            .iter()
            .map(|e| serde_json::json!({"error": e.to_string(), "hint": hint_of(e)}));
        keys.insert("more".into(), more.collect());
    }
    keys
}

/// Prints what the argument parser answers: help and the version on stdout, wrong usage on stderr.
/// Returns the exit code.
pub fn parsed(answer: &clap::Error) -> u8 {
    let printed = answer.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if answer.use_stderr() => 2,
        Ok(()) => 0,
        Err(e) => {
            let error = Error::from(e).file(STDOUT);
            Console::new(&MessageArgs::default()).error(&error);
            exit_code(&error)
        }
    }
}

/// How much is printed, and whether in colour.
#[derive(Clone, Copy)]
pub struct Console<'a> {
    /// Errors only.
    pub quiet: bool,
    /// 0, 1 or 2: more messages.
    pub verbose: u8,
    /// Colours on stderr.
    pub color_err: bool,
    /// Colours on stdout.
    pub color_out: bool,
    /// Hears all of it in place of the terminal.
    pub listener: Option<&'a dyn Listener>,
}

impl<'a> Console<'a> {
    /// Nobody hears it.
    pub const SILENT: Console<'static> =
        Console { quiet: true, verbose: 0, color_err: false, color_out: false, listener: None };

    /// All of it goes to a program, nothing to the terminal.
    pub fn to(listener: &'a dyn Listener) -> Console<'a> {
        Console { quiet: false, verbose: 1, listener: Some(listener), ..Console::SILENT }
    }

    /// From the flags, `NO_COLOR` and the terminal.
    pub fn new(messages: &MessageArgs) -> Console<'static> {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let on = |terminal: bool| match messages.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !no_color,
        };
        Console {
            quiet: messages.quiet,
            verbose: messages.verbose,
            color_err: on(std::io::stderr().is_terminal()),
            color_out: on(std::io::stdout().is_terminal()),
            listener: None,
        }
    }

    fn say(&self, color: &str, label: &str, text: &str) {
        if let Some(listener) = self.listener {
            return listener.hear(Level::of(label), text);
        }
        let mut err = std::io::stderr().lock();
        let text = visible(text);
        let _ = if self.color_err {
            writeln!(err, "\x1b[{color}m{label}:\x1b[0m {text}")
        } else {
            writeln!(err, "{label}: {text}")
        };
    }

    /// An error and those found with it, each with its hint; one that several in a row share comes
    /// after the last of them. A listener hears of errors with their outputs.
    pub fn error(&self, error: &Error) {
        if error.kind() == ErrorKind::BrokenPipe || self.listener.is_some() {
            return;
        }
        const SHOWN: usize = 21;
        let all: Vec<&Error> = std::iter::once(error).chain(error.others()).collect();
        let (shown, rest) = all.split_at(all.len().min(SHOWN));
        let mut hints: Vec<String> = Vec::new();
        for (i, e) in shown.iter().enumerate() {
            self.say("1;31", "error", &e.to_string());
            let next = all.get(i + 1).and_then(|e| hint_of(e));
            let last = |hint: &String| next.as_ref() != Some(hint) || i + 1 == SHOWN;
            if let Some(hint) = hint_of(e).filter(last) {
                self.say("1;36", "hint", &hint);
                hints.push(hint);
            }
        }
        if !rest.is_empty() {
            self.say("1;31", "error", &format!("… and {} more like these", rest.len()));
        }
        for hint in rest.iter().filter_map(|e| hint_of(e)) {
            if !hints.contains(&hint) {
                self.say("1;36", "hint", &hint);
                hints.push(hint);
            }
        }
    }
    /// Something the user should know.
    pub fn warning(&self, text: &str) {
        if !self.quiet {
            self.say("1;33", "warning", text);
        }
    }
    /// A note.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say("1;34", "note", text);
        }
    }
    /// Only with `-v`.
    pub fn detail(&self, text: &str) {
        if let Some(listener) = self.listener.filter(|_| !self.quiet) {
            listener.hear(Level::Detail, text);
        } else if self.verbose > 0 && !self.quiet {
            self.say("2", "note", text);
        }
    }
    /// A plain line on stderr: the summary.
    pub fn summary(&self, text: &str) {
        if !self.quiet && self.listener.is_none() {
            let _ = writeln!(std::io::stderr().lock(), "{}", visible(text));
        }
    }
}

/// Control characters as `\n`, `\t`, `\x1b`: a name from a file must not steer the terminal.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Writes to stdout as it is.
///
/// # Errors
/// A closed pipe, which ends the command quietly; disk full.
pub fn out(text: &str) -> Result<()> {
    out_bytes(text.as_bytes())
}

/// Writes bytes to stdout.
///
/// # Errors
/// As [`out`].
pub fn out_bytes(bytes: &[u8]) -> Result<()> {
    crate::storage::check_stdout().at_file(STDOUT)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).at_file(STDOUT)
}

/// What standard output is called in errors.
pub const STDOUT: &str = "stdout";

/// One JSON document (or line) on stdout.
///
/// # Errors
/// As [`out`].
pub fn json(value: &serde_json::Value, pretty: bool) -> Result<()> {
    let text = if pretty {
        json_text(value)?
    } else {
        serde_json::to_string(value).map_err(unwritable)?
    };
    out(&(text + "\n"))
}

/// A document on several lines.
///
/// # Errors
/// Failed.
pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(unwritable)
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed("cannot write JSON").because(e)
}

/// How many arrays there are, and in a table how many columns: a matrix is one array of several
/// columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Logical arrays.
    pub arrays: usize,
    /// Columns, of a table.
    pub columns: Option<usize>,
}

impl Counted {
    /// Of what is written. `exported`: how many arrays became the columns of a table, where it is
    /// one.
    pub fn of(plan: &Plan, exported: Option<usize>) -> Counted {
        let beside = plan
            .encoded
            .iter()
            .map(|k| usize::from(k.valid.is_some()) + usize::from(k.offsets.is_some()))
            .sum::<usize>();
        let written = plan.arrays.len().saturating_sub(beside);
        Counted { arrays: exported.unwrap_or(written), columns: exported.map(|_| written) }
    }
    /// Of what is read.
    pub fn read(plan: &Plan) -> Counted {
        let arrays = plan.arrays.len();
        let columns = plan
            .tables
            .first()
            .filter(|t| t.matrix.is_none() && t.arrays().len() == arrays)
            .map(|_| arrays);
        Counted { arrays, columns }
    }
}

/// `3 arrays`, `3 columns`, `1 array, 128 columns`.
impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let arrays = self.arrays;
        match self.columns {
            None => write!(f, "{arrays} array{}", plural(arrays)),
            Some(columns) if columns == arrays => write!(f, "{columns} column{}", plural(columns)),
            Some(columns) => {
                write!(f, "{arrays} array{}, {columns} column{}", plural(arrays), plural(columns))
            }
        }
    }
}

/// `12.4 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `0.12 s`, `3 min 12 s`.
pub fn human_time(time: Duration) -> String {
    let s = time.as_secs_f64();
    if s < 100.0 {
        format!("{s:.2} s")
    } else {
        format!("{} min {} s", s as u64 / 60, s as u64 % 60)
    }
}

/// `256MiB`, `4GB`, `1000000` as bytes.
///
/// # Errors
/// Usage.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let bad = || {
        Error::usage(format!("'{text}' is not a size")).hint("write it as 256MiB, 4GB or 1000000")
    };
    let text_trimmed = text.trim();
    let digits = text_trimmed.len()
        - text_trimmed.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let number: f64 = text_trimmed[..digits].parse().map_err(|_| bad())?;
    let scale = match text_trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    let bytes = number * scale as f64;
    if bytes.is_finite() && bytes < 9e18 { Ok(bytes as u64) } else { Err(bad()) }
}

/// A progress bar on a terminal's stderr, shown once half a second has passed.
pub struct Progress {
    bar: Option<indicatif::ProgressBar>,
    moved: Arc<AtomicU64>,
}

impl Progress {
    /// `total`: bytes, 0 where not known. `wanted`: neither `-q` nor `--no-progress`.
    pub fn new(total: u64, what: &str, wanted: bool) -> Progress {
        let moved = Arc::new(AtomicU64::new(0));
        if !wanted || !std::io::stderr().is_terminal() {
            return Progress { bar: None, moved };
        }
        let bar = indicatif::ProgressBar::with_draw_target(
            Some(total),
            indicatif::ProgressDrawTarget::hidden(),
        );
        let template = if total > 0 {
            "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}\n{wide_msg}"
        } else {
            "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec}\n{wide_msg}"
        };
        if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(visible(what));
        let (shown, began) = (bar.clone(), Instant::now());
        let weak = shown.downgrade();
        let show = move || {
            std::thread::sleep(Duration::from_millis(500).saturating_sub(began.elapsed()));
            if let Some(bar) = weak.upgrade().filter(|b| !b.is_finished()) {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(10));
                bar.enable_steady_tick(Duration::from_millis(100));
            }
        };
        // Where no thread can be started (the bar starts one more, and panics where it cannot),
        // there is no bar.
        let _ = std::thread::Builder::new().spawn(move || {
            crate::error::guard(|| {
                show();
                Ok(())
            })
        });
        drop(shown);
        Progress { bar: Some(bar), moved }
    }
    /// What the pipe calls.
    pub fn callback(&self) -> crate::pipe::Progress {
        let (bar, moved) = (self.bar.clone(), self.moved.clone());
        Arc::new(move |bytes, array| {
            moved.fetch_add(bytes, Ordering::Relaxed);
            if let Some(bar) = &bar {
                bar.inc(bytes);
                bar.set_message(visible(array));
            }
        })
    }
    /// What opening an input calls.
    pub fn look_callback(&self) -> crate::resources::LookProgress {
        let tell = self.callback();
        Arc::new(move |bytes| tell(bytes, ""))
    }
    /// Bytes so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
