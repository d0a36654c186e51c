//! Which hints a command can take: those that name no option of another command.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::cli;

static COMMAND: OnceLock<&'static str> = OnceLock::new();
static OPTIONS: OnceLock<Options> = OnceLock::new();

struct Options {
    /// Of all commands.
    all: HashSet<String>,
    /// Of this one.
    own: HashSet<String>,
}

impl Options {
    fn of(name: &str) -> Options {
        let command = cli::command();
        let (mut all, mut own) = (HashSet::new(), HashSet::new());
        for sub in command.get_subcommands() {
            let long = sub.get_arguments().filter_map(|a| a.get_long_and_visible_aliases());
            let names: Vec<String> = long.flatten().map(|long| format!("--{long}")).collect();
            // Short ones of other programs would be meant by others.
            let short = sub.get_arguments().filter_map(|a| a.get_short());
            let short = short.filter(|c| matches!(c, 'a' | 'x')).map(|c| format!("-{c}"));
            let names: Vec<String> = names.into_iter().chain(short).collect();
            if sub.get_name() == name {
                own.extend(names.iter().cloned());
            }
            all.extend(names);
        }
        Options { all, own }
    }

    /// Whether a part of a hint names an option that another command has, and this one has not.
    fn lacks(&self, part: &str) -> bool {
        if part.contains("npk ") {
            return false; // a command of its own
        }
        let words = part.split(|c: char| c.is_whitespace() || "|='()".contains(c));
        let mut words = words.map(|word| word.trim_end_matches([',', ';', ':', '.']));
        words.any(|word| self.all.contains(word) && !self.own.contains(word))
    }
}

/// Remembers which command runs; without one every hint is taken.
pub fn of_command(name: &'static str) {
    let _ = COMMAND.set(name);
}

/// The parts of a hint that the command can take: nothing, where it can take none.
pub fn taken(hint: &str) -> Option<String> {
    let Some(name) = COMMAND.get() else { return Some(hint.to_string()) };
    parts_taken(hint, OPTIONS.get_or_init(|| Options::of(name)))
}

fn parts_taken(hint: &str, options: &Options) -> Option<String> {
    if !options.lacks(hint) {
        return Some(hint.to_string());
    }
    let mut left = String::new();
    for part in hint.split_inclusive([',', ';']).filter(|part| !options.lacks(part)) {
        left += part;
    }
    let left = left.trim().trim_end_matches([',', ';']);
    let left = left.strip_prefix("or ").unwrap_or(left);
    (!left.is_empty()).then(|| left.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Options, parts_taken};

    #[test]
    fn hints_name_options_of_the_command() {
        let taken = |command, hint| parts_taken(hint, &Options::of(command));
        let skip = "leave it out with -x, or all such arrays with --skip-unsupported";
        assert_eq!(taken("convert", skip).as_deref(), Some(skip));
        assert_eq!(taken("inspect", skip).as_deref(), Some("leave it out with -x"));
        assert_eq!(taken("verify", skip), None);
        let exists = "use --force to replace it, or --if-exists skip|update";
        assert_eq!(taken("inspect", exists).as_deref(), Some("use --force to replace it"));
        let other = "write a local file: npk convert a b --if-exists skip";
        assert_eq!(taken("verify", other).as_deref(), Some(other));
        let text = "--dtype casts it, -x leaves it out";
        assert_eq!(taken("edit", text), None);
        assert_eq!(taken("verify", text).as_deref(), Some("--dtype casts it"));
        let iconv = "convert the file first, for example: iconv -f latin1 -t utf-8";
        assert_eq!(taken("verify", iconv).as_deref(), Some(iconv));
    }
}
