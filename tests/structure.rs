//! The shape of the source: a room uses those above it in the map of `docs/ARCHITECTURE.md`, files do
//! not go in circles, and files and functions stay short.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 80;
/// Functions that are one long table, where parts would tell nothing: the opcodes of pickles.
const LONG_FUNCTIONS: &[&str] = &["codec::pickle::run::run"];
/// Families of formats that use another one: references to chunks are Parquet files.
const FAMILIES: &[(&str, &str)] = &[("hierarchical", "columnar")];

/// A word, `::`, or another sign of the source, and its line.
type Token<'a> = (&'a str, usize);

/// The source without comments, texts, and what only tests are built from.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let (len, is_token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if let Some(len) = text_len(rest) {
            (len, false)
        } else if word(bytes[at]) {
            (rest.bytes().position(|b| !word(b)).unwrap_or(rest.len()), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (1, !bytes[at].is_ascii_whitespace())
        };
        let token = &rest[..len];
        if is_token {
            found.push((token, line));
        }
        line += token.matches('\n').count();
        at += len;
    }
    let test = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let is_test = |w: &[Token]| w.iter().map(|t| t.0).eq(test);
    let end = found.windows(test.len()).position(is_test).unwrap_or(found.len());
    found.truncate(end);
    found
}

/// The length of the text or character literal at the start, if there is one.
fn text_len(rest: &str) -> Option<usize> {
    let quoted = |open: usize, quote: char| {
        let mut escaped = false;
        let end = rest[open..].find(|c| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        end.map(|end| open + end + 1)
    };
    let raw = rest.trim_start_matches('b');
    if rest.len() - raw.len() <= 1 && (raw.starts_with("r\"") || raw.starts_with("r#")) {
        let hashes = raw[1..].bytes().take_while(|&b| b == b'#').count();
        let from = rest.len() - raw.len() + 1 + hashes;
        if !rest[from..].starts_with('"') {
            return None;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(from + 1 + rest[from + 1..].find(&close)? + close.len());
    }
    match rest.as_bytes() {
        [b'b', b'"', ..] => quoted(2, '"'),
        [b'c', b'"', ..] => quoted(2, '"'),
        [b'"', ..] => quoted(1, '"'),
        [b'b', b'\'', ..] => quoted(2, '\''),
        // A lifetime has no quote behind it.
        [b'\'', b'\\', ..] => quoted(1, '\''),
        [b'\'', ..] => {
            let end = 1 + rest[1..].chars().next()?.len_utf8();
            rest[end..].starts_with('\'').then_some(end + 1)
        }
        _ => None,
    }
}

/// `["formats", "numpy"]`: of the folder, or the file, of this name.
type Module = Vec<String>;
/// Each file, and the files that it uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// A file of the source, as it names others.
#[derive(Default)]
struct File {
    lines: usize,
    /// Names that `use` brings in, and the paths that they stand for; whether they are handed on.
    names: HashMap<String, (Vec<String>, bool)>,
    /// Paths in the code: `a::b`.
    paths: BTreeSet<Vec<String>>,
    /// Single words in the code, outside of `use`.
    words: BTreeSet<String>,
    /// Functions: name, line, lines.
    functions: Vec<(String, usize, usize)>,
}

/// Reads one tree of a `use` from `at` on: the names that it brings in.
fn use_tree(
    tokens: &[Token],
    at: &mut usize,
    prefix: &[String],
    all: &mut Vec<(String, Vec<String>)>,
) {
    let mut path = prefix.to_vec();
    while let Some(&(token, _)) = tokens.get(*at) {
        *at += 1;
        match token {
            "::" => continue,
            "{" => {
                while tokens.get(*at).is_some_and(|t| t.0 != "}") {
                    use_tree(tokens, at, &path, all);
                    *at += usize::from(tokens.get(*at).is_some_and(|t| t.0 == ","));
                }
                *at += 1;
                return;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_string()),
        }
        match tokens.get(*at).map(|t| t.0) {
            Some("as") => {
                all.push((tokens[*at + 1].0.to_string(), path));
                *at += 2;
                return;
            }
            Some("::") => {}
            _ => {
                all.push((path.last().cloned().unwrap_or_default(), path));
                return;
            }
        }
    }
}

fn read_file(text: &str, module: &[String]) -> File {
    let tokens = tokens(text);
    let mut file = File { lines: text.lines().count(), ..File::default() };
    let (mut at, mut handed_on) = (0, false);
    let (mut module, mut depth, mut inner) = (module.to_vec(), 0usize, Vec::new());
    while at < tokens.len() {
        let (token, _) = tokens[at];
        at += 1;
        match token {
            "pub" => {
                handed_on = true;
                // `(crate)`, `(in super::super)`
                if tokens.get(at).is_some_and(|t| t.0 == "(") {
                    at += tokens[at..].iter().position(|t| t.0 == ")").unwrap_or(0) + 1;
                }
                continue;
            }
            "use" => {
                let mut all = Vec::new();
                use_tree(&tokens, &mut at, &[], &mut all);
                for (name, path) in all {
                    file.names.insert(name, (absolute(&path, &module), handed_on));
                }
            }
            "mod" if tokens.get(at + 1).is_some_and(|t| t.0 == ";") => at += 2,
            // What is above a module of the file itself is the file.
            "mod" if tokens[at..].iter().take(3).any(|t| t.0 == "{") => {
                inner.push(depth);
                module.push(tokens[at].0.to_string());
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inner.last() == Some(&depth) {
                    inner.pop();
                    module.pop();
                }
            }
            "fn" => {
                if let Some(lines) = function_lines(&tokens[at..]) {
                    file.functions.push((tokens[at].0.to_string(), tokens[at].1, lines));
                }
            }
            word if word.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let mut path = vec![word.to_string()];
                while tokens.get(at).is_some_and(|t| t.0 == "::")
                    && let Some(next) = tokens.get(at + 1)
                    && next.0.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                {
                    path.push(next.0.to_string());
                    at += 2;
                }
                file.words.insert(path[0].clone());
                if path.len() > 1 {
                    file.paths.insert(absolute(&path, &module));
                }
            }
            _ => {}
        }
        handed_on = false;
    }
    file
}

/// The lines of the function whose name is first, with its braces.
fn function_lines(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    for &(token, line) in tokens {
        match token {
            ";" if depth == 0 => return None,
            "{" => depth += 1,
            "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(line - tokens[0].1 + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A path from the crate's root; what does not begin there stays as it is.
fn absolute(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|p| *p == "super").count();
    match path[0].as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" if ups <= module.len() => [&module[..module.len() - ups], &path[ups..]].concat(),
        _ => path.to_vec(),
    }
}

struct Source {
    files: BTreeMap<Module, File>,
}

impl Source {
    fn read() -> Source {
        let mut files = BTreeMap::new();
        collect(Path::new("src"), &mut Vec::new(), &mut files);
        Source { files }
    }

    /// The file in which what `path` names is defined, through the names that others hand on.
    fn defined_in(&self, path: &[String], depth: usize) -> Option<Vec<String>> {
        let split = (1..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n]))?;
        let (module, rest) = path.split_at(split);
        if let Some(name) = rest.first()
            && depth < 8
            && let Some((target, _)) = self.files[module].names.get(name)
        {
            let target = self.local(target, module);
            let whole = [&target[..], &rest[1..]].concat();
            return self.defined_in(&whole, depth + 1);
        }
        // The module alone is a name, not a use of what is in it.
        (!rest.is_empty()).then(|| module.to_vec())
    }

    /// A path that begins with a child of `module`, from the root.
    fn local(&self, path: &[String], module: &[String]) -> Vec<String> {
        let below = [module, &path[..path.len().min(1)]].concat();
        if self.files.contains_key(&below) { [module, path].concat() } else { path.to_vec() }
    }

    /// file → the files that it uses.
    fn uses(&self) -> Uses {
        let mut all = BTreeMap::new();
        for (module, file) in &self.files {
            let mut used = BTreeSet::new();
            let mut add = |path: &[String]| {
                let found = self.defined_in(path, 0);
                used.extend(found.filter(|found| found != module));
            };
            for (name, (path, handed_on)) in &file.names {
                if !handed_on || file.words.contains(name) {
                    add(&self.local(path, module));
                }
            }
            for path in &file.paths {
                match file.names.get(&path[0]) {
                    Some((full, _)) => add(&[&self.local(full, module)[..], &path[1..]].concat()),
                    None => add(&self.local(path, module)),
                }
            }
            all.insert(module.clone(), used);
        }
        all
    }
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, File>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let whole = match name.as_str() {
                "mod" => module.clone(),
                "lib" if module.is_empty() => continue,
                _ => [&module[..], &[name]].concat(),
            };
            let file = read_file(&text, &whole);
            assert!(files.insert(whole, file).is_none(), "{path:?} is there twice");
        }
    }
}

/// The rooms in the order of the map: each uses those before it.
fn rooms() -> Vec<String> {
    let page = std::fs::read_to_string("docs/ARCHITECTURE.md").unwrap();
    let map = page.split("\n## ").find(|part| part.starts_with("The map")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_string());
    let plain = |name: String| name.trim_end_matches('/').trim_end_matches(".rs").to_string();
    map.lines().filter_map(name).map(plain).collect()
}

/// The first circle of files that is found.
fn circle(uses: &Uses) -> Option<String> {
    fn visit<'a>(
        file: &'a Module,
        uses: &'a Uses,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> Option<String> {
        if let Some(at) = way.iter().position(|above| *above == file) {
            let names: Vec<String> = way[at..].iter().map(|m| m.join("::")).collect();
            return Some(format!("{} -> {}", names.join(" -> "), file.join("::")));
        }
        if !done.insert(file) {
            return None;
        }
        way.push(file);
        let found = uses[file].iter().find_map(|used| visit(used, uses, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|file| visit(file, uses, &mut Vec::new(), &mut done))
}

#[test]
fn rooms_use_those_above_them_in_the_map() {
    let (source, rooms) = (Source::read(), rooms());
    let place = |file: &Module| {
        let room = rooms.iter().position(|room| *room == file[0]);
        room.unwrap_or_else(|| panic!("docs/ARCHITECTURE.md has no room {}", file[0]))
    };
    let uses = source.uses();
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 3000, "most uses are not seen");
    for (file, used) in &uses {
        for used in used {
            let names = format!("{} uses {}", file.join("::"), used.join("::"));
            assert!(place(used) <= place(file), "{names}, of a room below it in the map");
            if let [formats, family, _, ..] = &file[..]
                && let [others, other, _, ..] = &used[..]
                && formats == "formats"
                && others == "formats"
            {
                let is_known = FAMILIES.contains(&(family.as_str(), other.as_str()));
                assert!(family == other || is_known, "{names}, of another family");
            }
        }
    }
}

#[test]
fn files_do_not_go_in_circles() {
    assert_eq!(circle(&Source::read().uses()), None);
}

#[test]
fn a_circle_is_found() {
    let texts = [
        ("a", "mod b; mod c; pub use b::{self, B as Bee}; struct A;"),
        (
            "a/b",
            "use super::c::{C, *}; /* text */ struct B; fn f() -> &'static str { \"super::A\" }",
        ),
        ("a/c", "struct C; #[cfg(test)] mod tests { use crate::a::A; }"),
        ("d", "use crate::a; fn g() { a::Bee::f(); }"),
    ];
    let source = |last: &str| Source {
        files: texts
            .iter()
            .chain([&("a/c", last)])
            .map(|(name, text)| {
                let module: Module = name.split('/').map(str::to_string).collect();
                let file = read_file(text, &module);
                (module, file)
            })
            .collect(),
    };
    let uses = source("struct C;").uses();
    assert_eq!(circle(&uses), None, "{uses:?}");
    assert!(uses[&vec!["d".to_string()]].contains(&["a", "b"].map(str::to_string)[..]));
    assert_eq!(
        circle(&source("struct C; fn h() { super::Bee::f() }").uses()).as_deref(),
        Some("a::b -> a::c -> a::b")
    );
}

#[test]
fn files_and_functions_are_short() {
    let source = Source::read();
    let mut functions = 0;
    for (module, file) in &source.files {
        let module = module.join("::");
        assert!(file.lines <= MAX_FILE_LINES, "{module} has {} lines", file.lines);
        for (name, line, lines) in &file.functions {
            let is_long = *lines > MAX_FUNCTION_LINES;
            let name = format!("{module}::{name}");
            assert_eq!(
                is_long,
                LONG_FUNCTIONS.contains(&name.as_str()),
                "{name}, line {line}: {lines} lines"
            );
            functions += 1;
        }
    }
    assert!(functions > 4000, "only {functions} functions are seen");
}
