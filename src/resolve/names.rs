//! Choosing arrays by pattern and renaming them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::duplicates::FreeNames;
use crate::format::{Choice, OnDuplicate};
use crate::model::Plan;

/// The names among `candidates` that are close to `wanted`, nearest first, at most three.
pub fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .map(|c| {
            let near =
                strsim::normalized_damerau_levenshtein(&wanted.to_lowercase(), &c.to_lowercase());
            let part =
                !wanted.is_empty() && (c.contains(wanted) || (c.len() > 2 && wanted.contains(c)));
            (if part { near.max(0.7) } else { near }, c)
        })
        .filter(|(score, _)| *score >= 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(3);
    scored.into_iter().map(|(_, c)| c).collect()
}

/// Natural order: `layer.2` before `layer.10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    loop {
        match (x.first(), y.first()) {
            (None, None) => return a.cmp(b),
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(p), Some(q)) if p.is_ascii_digit() && q.is_ascii_digit() => {
                let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
                let (m, n) = (digits(x), digits(y));
                let zeros = |s: &[u8]| s.iter().take_while(|c| **c == b'0').count();
                let (u, v) = (&x[zeros(&x[..m])..m], &y[zeros(&y[..n])..n]);
                match u.len().cmp(&v.len()).then_with(|| u.cmp(v)) {
                    Ordering::Equal => {}
                    other => return other,
                }
                x = &x[m..];
                y = &y[n..];
            }
            (Some(p), Some(q)) => match p.cmp(q) {
                Ordering::Equal => {
                    x = &x[1..];
                    y = &y[1..];
                }
                other => return other,
            },
        }
    }
}

/// A name or pattern: `*` matches any run of characters, `\` takes the next one as it is.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// The literal text between the stars.
    parts: Vec<Vec<u8>>,
}

impl Pattern {
    /// Parses a pattern; every string is one.
    pub fn new(text: &str) -> Pattern {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            match b {
                b'*' => parts.push(std::mem::take(&mut part)),
                b'\\' => part.push(bytes.next().unwrap_or(b'\\')),
                _ => part.push(b),
            }
        }
        parts.push(part);
        Pattern { text: text.to_string(), parts }
    }
    /// Is it this name, without a star?
    pub fn is_exactly(&self, name: &str) -> bool {
        self.text == name || self.parts.len() == 1 && self.parts[0] == name.as_bytes()
    }
    /// Does it match the whole name?
    pub fn matches(&self, name: &str) -> bool {
        if self.text == name {
            return true;
        }
        let name = name.as_bytes();
        let (first, last) = (&self.parts[0], &self.parts[self.parts.len() - 1]);
        if self.parts.len() == 1 {
            return name == first.as_slice();
        }
        if name.len() < first.len() + last.len()
            || !name.starts_with(first)
            || !name.ends_with(last)
        {
            return false;
        }
        let mut rest = &name[first.len()..name.len() - last.len()];
        for part in &self.parts[1..self.parts.len() - 1] {
            match memchr::memmem::find(rest, part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// The patterns in one option value: the value itself where an array has exactly this name, else
/// its parts between commas.
pub(super) fn split<'a>(value: &'a str, exists: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
    if exists(value) || !value.contains(',') {
        return vec![value];
    }
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in value.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&value[start..i]);
            start = i + 1;
        }
    }
    parts.push(&value[start..]);
    parts.into_iter().filter(|p| !p.is_empty()).collect()
}

/// The indices of the chosen arrays, in the order of the patterns (within a pattern: of the
/// source).
///
/// # Errors
/// Missing (exit 3) for a pattern that matches nothing, with near names; also where nothing is
/// left.
pub fn choose(plan: &Plan, include: &[String], exclude: &[String]) -> Result<Vec<usize>> {
    let names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
    let (chosen, unmatched) = matching(&names, include, exclude);
    Error::all(unmatched.iter().map(|text| no_match(text, &names)).collect())?;
    if chosen.is_empty() {
        return Err(match names.is_empty() {
            true => plan.no_arrays(),
            false => none_left(),
        });
    }
    Ok(chosen)
}

/// Of what was chosen all is excluded.
pub fn none_left() -> Error {
    Error::missing("no array is left").hint("check -a and -x against `npk list`")
}

impl Choice {
    /// Which of these names are chosen.
    pub fn of(&self, names: &[&str]) -> Vec<bool> {
        let mut wanted = vec![false; names.len()];
        for i in matching(names, &self.include, &self.exclude).0 {
            wanted[i] = true;
        }
        wanted
    }
}

/// The indices of the names that are included and not excluded, each once; and the patterns that
/// match nothing. A pattern that matches no name as it is may match some without the blanks around
/// them.
fn matching(names: &[&str], include: &[String], exclude: &[String]) -> (Vec<usize>, Vec<String>) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        places.entry(name).or_default().push(i);
    }
    let exists = |n: &str| places.contains_key(n);
    let mut unmatched = Vec::new();
    let mut find = |values: &[String]| {
        let mut found = Vec::new();
        for value in values {
            for text in split(value, &exists) {
                let before = found.len();
                match places.get(text) {
                    Some(exact) => found.extend(exact),
                    None => {
                        let pattern = Pattern::new(text);
                        found.extend((0..names.len()).filter(|&i| pattern.matches(names[i])));
                    }
                }
                // Headers of text tables often have blanks around their names, which nobody sees.
                if found.len() == before {
                    let pattern = Pattern::new(text.trim());
                    found.extend((0..names.len()).filter(|&i| pattern.matches(names[i].trim())));
                }
                if found.len() == before {
                    unmatched.push(text.to_string());
                }
            }
        }
        found
    };
    let mut chosen = if include.is_empty() { (0..names.len()).collect() } else { find(include) };
    let mut seen = vec![false; names.len()];
    for i in find(exclude) {
        seen[i] = true;
    }
    chosen.retain(|&i| !std::mem::replace(&mut seen[i], true));
    (chosen, unmatched)
}

pub(super) fn no_match(text: &str, names: &[&str]) -> Error {
    let error = Error::missing(format!("no array matches '{text}'"));
    // A group of arrays, or an entry of a checkpoint.
    for mark in ['.', '/'] {
        let below = names
            .iter()
            .filter(|n| n.strip_prefix(text).is_some_and(|rest| rest.starts_with(mark)))
            .count();
        if below > 0 {
            return error.hint(format!("-a '{text}{mark}*' takes the {below} below it"));
        }
    }
    let near = nearest(text, names.iter().copied());
    if !near.is_empty() {
        return error.hint(format!("did you mean {}?", near.join(", ")));
    }
    let some: Vec<&str> = names.iter().take(5).copied().collect();
    error.hint(match names.len() {
        0 => "there are no arrays".to_string(),
        n if n > some.len() => format!("there are {n} arrays: {}, …", some.join(", ")),
        _ => format!("there are: {}", some.join(", ")),
    })
}

fn no_prefix(prefix: &str, names: &[&str]) -> Error {
    let error =
        Error::missing(format!("no array's name begins with '{prefix}' and goes on after it"));
    let heads: Vec<&str> =
        names.iter().filter_map(|n| Some(&n[..=n.find(['.', '/', '_'])?])).collect();
    let mut near = nearest(prefix, heads.iter().copied());
    near.dedup();
    if !near.is_empty() {
        return error.hint(format!("did you mean {}?", near.join(", ")));
    }
    let some: Vec<&str> = names.iter().take(5).copied().collect();
    error.hint(format!(
        "there {} {}{}",
        if names.len() == 1 { "is" } else { "are" },
        some.join(", "),
        if names.len() > 5 { ", …" } else { "" }
    ))
}

/// How arrays are renamed, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Renaming {
    /// The one resulting array's name.
    pub name: Option<String>,
    /// Prefixes to remove, each where a name begins with it.
    pub strip_prefix: Vec<String>,
    /// Old → new, by exact name.
    pub rename: Vec<(String, String)>,
    /// Regular expression → replacement.
    pub rename_re: Vec<(regex::Regex, String)>,
    /// Put before every name.
    pub add_prefix: Option<String>,
    /// Whether these arrays are a part of a source: what names none of them may name one of the
    /// others.
    pub partial: bool,
}

impl Renaming {
    /// Whether nothing is renamed.
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.strip_prefix.is_empty()
            && self.rename.is_empty()
            && self.rename_re.is_empty()
            && self.add_prefix.is_none()
    }

    /// The new names of the plan's arrays, repeated ones among them: [`kept_of_repeated`],
    /// [`make_unique`], [`set_names`]. `--name` is not checked against their number here:
    /// [`check_single`].
    ///
    /// # Errors
    /// Usage: an empty name. Missing: `--rename` of what is not there, `--strip-prefix` of what no
    /// name begins with.
    pub fn names(&self, plan: &Plan) -> Result<Vec<String>> {
        let mut new: Vec<String> = plan.arrays.iter().map(|a| a.name.clone()).collect();
        let (mut used, mut stripped) =
            (vec![false; self.rename.len()], vec![false; self.strip_prefix.len()]);
        // What `--rename` chooses from.
        let mut offered = Vec::new();
        for name in &mut new {
            if let Some(n) = &self.name {
                name.clone_from(n);
            }
            for (i, prefix) in self.strip_prefix.iter().enumerate() {
                if let Some(rest) = name.strip_prefix(prefix.as_str()).filter(|r| !r.is_empty()) {
                    *name = rest.to_string();
                    stripped[i] = true;
                }
            }
            offered.push(name.clone());
            for (i, (old, to)) in self.rename.iter().enumerate() {
                if name == old {
                    name.clone_from(to);
                    used[i] = true;
                    break;
                }
            }
            for (re, to) in &self.rename_re {
                *name = re.replace(name, to.as_str()).into_owned();
            }
            if let Some(prefix) = &self.add_prefix {
                name.insert_str(0, prefix);
            }
            if name.is_empty() {
                return Err(Error::usage("renaming leaves an array without a name"));
            }
        }
        let names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
        if let Some(i) = stripped.iter().position(|s| !s && !self.partial) {
            return Err(no_prefix(&self.strip_prefix[i], &names));
        }
        if let Some(i) = used.iter().position(|u| !u && !self.partial) {
            let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
            return Err(no_match(&self.rename[i].0, &offered));
        }
        Ok(new)
    }
}

/// `A=B` of a flag.
///
/// # Errors
/// Usage.
pub fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((a, b)) if !a.is_empty() => Ok((a.to_string(), b.to_string())),
        _ => Err(Error::usage(format!("--{flag} takes A=B, not '{text}'"))),
    }
}

/// `RE=NEW` of a flag: `$1` is the first group.
///
/// # Errors
/// Usage: no `=`, no regular expression.
pub fn substitution(flag: &str, text: &str) -> Result<(regex::Regex, String)> {
    let (re, to) = pair(flag, text)?;
    let re = regex::Regex::new(&re).map_err(|e| {
        Error::usage(format!("--{flag} '{re}' is not a regular expression")).because(e)
    })?;
    // `$1_` is the first group and a `_` here, not a group called `1_`.
    static NUMBERED: std::sync::LazyLock<Option<regex::Regex>> =
        std::sync::LazyLock::new(|| regex::Regex::new(r"(\$\$)|\$([0-9]+)").ok());
    let braced = |c: &regex::Captures<'_>| {
        c.get(2).map_or_else(|| "$$".to_string(), |n| format!("${{{}}}", n.as_str()))
    };
    let to =
        NUMBERED.as_ref().map_or_else(|| to.clone(), |n| n.replace_all(&to, braced).into_owned());
    Ok((re, to))
}

/// Which names stay with `--on-duplicate first` or `last`; with the other choices all.
pub fn kept_of_repeated(names: &[String], on_duplicate: OnDuplicate) -> Vec<usize> {
    let mut kept: Vec<usize> = match on_duplicate {
        OnDuplicate::Error | OnDuplicate::Rename => return (0..names.len()).collect(),
        OnDuplicate::First => {
            let mut seen = HashSet::new();
            (0..names.len()).filter(|&i| seen.insert(&names[i])).collect()
        }
        OnDuplicate::Last => {
            let mut seen = HashSet::new();
            (0..names.len()).rev().filter(|&i| seen.insert(&names[i])).collect()
        }
    };
    kept.sort_unstable();
    kept
}

/// Checks that there is just one array for `--name`.
///
/// # Errors
/// Usage, with the names.
pub fn check_single(plan: &Plan) -> Result<()> {
    if plan.arrays.len() == 1 {
        return Ok(());
    }
    let names: Vec<&str> = plan.arrays.iter().take(5).map(|a| a.name.as_str()).collect();
    Err(Error::usage(format!(
        "--name takes one array, there are {}: {}",
        plan.arrays.len(),
        names.join(", ")
    ))
    .hint("choose one with -a, or use --rename OLD=NEW"))
}

/// Gives the arrays these names, in tables and aliases too.
pub fn set_names(plan: &mut Plan, new: &[String]) {
    let map: HashMap<String, String> =
        plan.arrays.iter().map(|a| a.name.clone()).zip(new.iter().cloned()).collect();
    let to = |name: &mut String| {
        if let Some(n) = map.get(name.as_str()) {
            name.clone_from(n);
        }
    };
    for table in &mut plan.tables {
        for column in &mut table.columns {
            // A blank header gives way to a name that was asked for.
            let named = column.header.is_empty()
                && map.get(&column.array).is_some_and(|new| *new != column.array);
            let follows = (column.header == column.array || named)
                && table.matrix.as_ref() != Some(&column.array);
            to(&mut column.array);
            if follows {
                column.header.clone_from(&column.array);
            }
        }
        table.index.iter_mut().for_each(to);
        table.matrix.iter_mut().for_each(to);
    }
    for (array, name) in plan.arrays.iter_mut().zip(new) {
        array.details.alias_of.iter_mut().for_each(to);
        array.name.clone_from(name);
    }
}

/// The plan with its arrays below a table's name, `table/a`. Their headers stay.
pub fn below(plan: &Plan, table: &str) -> Plan {
    let mut below = plan.clone();
    let new: Vec<String> = plan.arrays.iter().map(|a| format!("{table}/{}", a.name)).collect();
    set_names(&mut below, &new);
    for (table, old) in below.tables.iter_mut().zip(&plan.tables) {
        for (column, old) in table.columns.iter_mut().zip(&old.columns) {
            column.header.clone_from(&old.header);
        }
    }
    below
}

/// Refuses names that renaming made equal, or makes the later ones unique with `rename`.
///
/// # Errors
/// Usage.
pub fn make_unique(names: &mut [String], on_duplicate: OnDuplicate) -> Result<()> {
    let mut seen: HashSet<String> = HashSet::new();
    let all = if on_duplicate == OnDuplicate::Rename {
        names.iter().cloned().collect()
    } else {
        HashSet::new()
    };
    let mut free = FreeNames::new(all);
    for name in names.iter_mut() {
        if !seen.contains(name.as_str()) {
            seen.insert(name.clone());
        } else if on_duplicate == OnDuplicate::Rename {
            *name = free.after(name);
            seen.insert(name.clone());
        } else {
            return Err(crate::format::duplicates::after_renaming(name));
        }
    }
    Ok(())
}

/// `name_1`, `name_2`, … whichever is free.
pub fn unique_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut n = 1u64;
    loop {
        let candidate = format!("{name}_{n}");
        if !taken(&candidate) {
            return candidate;
        }
        n += 1;
    }
}
