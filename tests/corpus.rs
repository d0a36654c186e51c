//! The fixtures: good ones are what their `.inspect.json` says, bad ones end in a clear sentence,
//! cut ones never panic.
//!
//! `NPK_BLESS=1` writes the expectations anew; read the difference before committing it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use npk::error::ErrorKind;
use npk::format::{Order, ReadOptions};
use npk::formats::FORMATS;
use npk::pipe::{self, Settings};
use npk::storage::Location;

use crate::support::{Scratch, npk_command};

/// Files and stores of a format below `directory`, by their endings; stores are not looked into.
pub fn cases(directory: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().to_lowercase();
        if extensions.iter().any(|e| name.ends_with(&format!(".{e}"))) {
            found.push(path);
        } else if path.is_dir() {
            cases(&path, extensions, found);
        }
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[test]
fn good_fixtures_are_what_their_descriptions_say() {
    let bless = std::env::var_os("NPK_BLESS").is_some();
    for format in FORMATS {
        let mut found = Vec::new();
        let folder = root().join("good").join(format.spec().name);
        cases(&folder, format.spec().extensions, &mut found);
        found.sort();
        assert!(!found.is_empty(), "no good fixture for {}", format.spec().name);
        for path in found {
            let expected_path = PathBuf::from(format!("{}.inspect.json", path.display()));
            let output = npk_command()
                .current_dir(path.parent().unwrap())
                .args([
                    "inspect".as_ref(),
                    "--json".as_ref(),
                    "--checksum".as_ref(),
                    path.file_name().unwrap(),
                ])
                .output()
                .unwrap();
            // A checkpoint with a class that cannot be read is refused (4); the description says
            // so.
            let got = match output.status.code() {
                Some(0) => String::from_utf8(output.stdout).unwrap(),
                Some(code @ (4 | 7)) => format!("{{\"exit\": {code}}}\n"),
                code => panic!(
                    "{}: exit {code:?}: {}",
                    path.display(),
                    String::from_utf8_lossy(&output.stderr)
                ),
            };
            if bless {
                std::fs::write(&expected_path, &got).unwrap();
            }
            let expected = std::fs::read_to_string(&expected_path)
                .unwrap_or_else(|_| panic!("{} is missing", expected_path.display()));
            assert_eq!(got, expected, "{}", path.display());
        }
    }
}

/// What a bad fixture must end with: its exit code and every line on stderr.
#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
struct Ending {
    exit: i32,
    says: Vec<String>,
}

/// Broken and hostile files of every format: each ends with the code and the words of
/// `expected.json` beside it.
#[test]
fn bad_fixtures_end_in_a_clear_sentence() {
    let bless = std::env::var_os("NPK_BLESS").is_some();
    for format in FORMATS {
        let folder = root().join("bad").join(format.spec().name);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("no bad fixtures of {}: {e}", format.spec().name))
            .map(|e| e.unwrap().path())
            .filter(|p| !["README.md", "expected.json"].iter().any(|name| p.ends_with(name)))
            .collect();
        paths.sort();
        assert!(paths.len() >= 3, "only {} bad fixtures of {}", paths.len(), format.spec().name);
        let mut got = BTreeMap::new();
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let scratch = Scratch::new();
            let out = scratch.join("out.npk");
            let args = [
                "convert".as_ref(),
                "--jobs".as_ref(),
                "1".as_ref(),
                name.as_ref(),
                out.as_os_str(),
            ];
            let output = npk_command().current_dir(&folder).args(args).output().unwrap();
            let said = String::from_utf8(output.stderr)
                .unwrap()
                .replace(&out.display().to_string(), "OUT");
            let exit = output
                .status
                .code()
                .unwrap_or_else(|| panic!("{name}: {:?}: {said}", output.status));
            assert!(matches!(exit, 3 | 4 | 7), "{}: exit {exit}: {said}", path.display());
            assert!(said.contains("error: "), "{}: {said}", path.display());
            assert!(scratch.names().is_empty(), "{}: {:?}", path.display(), scratch.names());
            got.insert(name, Ending { exit, says: said.lines().map(str::to_string).collect() });
        }
        let expected_path = folder.join("expected.json");
        if bless {
            std::fs::write(&expected_path, serde_json::to_string_pretty(&got).unwrap() + "\n")
                .unwrap();
        }
        let expected = std::fs::read(&expected_path)
            .unwrap_or_else(|_| panic!("{} is missing", expected_path.display()));
        let expected: BTreeMap<String, Ending> = serde_json::from_slice(&expected).unwrap();
        let names = |of: &BTreeMap<String, Ending>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&got),
            names(&expected),
            "{}: the fixtures (left) and what is expected of them",
            expected_path.display()
        );
        for (name, ending) in &got {
            assert_eq!(*ending, expected[name], "{}/{name}", folder.display());
        }
    }
}

/// Every good single file, cut at twelve places: an error or fewer rows of text, never a panic.
#[test]
fn cut_files_are_errors() {
    let settings = Settings::new(1, 16 << 20);
    let scratch = Scratch::new();
    let mut count = 0;
    for format in FORMATS {
        let mut found = Vec::new();
        cases(&root().join("good").join(format.spec().name), format.spec().extensions, &mut found);
        found.sort();
        for path in found.iter().filter(|p| p.is_file()).step_by(if format.spec().name == "pt" {
            9
        } else {
            1
        }) {
            let bytes = std::fs::read(path).unwrap();
            let text = matches!(format.spec().name, "csv" | "txt");
            for k in 0..12 {
                let cut =
                    scratch.join(&format!("cut.{}", path.file_name().unwrap().to_string_lossy()));
                std::fs::write(&cut, &bytes[..bytes.len() * k / 12]).unwrap();
                let at = Location::local(&cut);
                let result = npk::error::guard(|| {
                    let source = format.open(
                        &at,
                        &ReadOptions {
                            resources: npk::format::Resources::new(1, 16 << 20),
                            ..ReadOptions::default()
                        },
                    )?;
                    let good = (0..source.plan().arrays.len())
                        .filter(|&a| source.plan().arrays[a].details.error.is_none())
                        .collect::<Vec<_>>();
                    let whole = good.len() == source.plan().arrays.len() && !good.is_empty();
                    let flow = pipe::Flow::from(source).choose(&good);
                    pipe::drain(flow, Order::Any, &mut |_| Ok(()), &settings)?;
                    Ok(whole)
                });
                let what = format!("{} cut to {k}/12", path.display());
                match result {
                    Ok(whole) => assert!(text || !whole, "{what} was read as whole"),
                    Err(e) => assert!(e.kind() != ErrorKind::Internal, "{what}: {e}"),
                }
                std::fs::remove_file(&cut).unwrap();
                count += 1;
            }
        }
    }
    assert!(count >= 300, "only {count} cuts");
}
