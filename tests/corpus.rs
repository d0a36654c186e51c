//! The fixtures: good ones are what their `.inspect.json` says, bad ones end in a clear sentence, cut ones never panic.
//!
//! `NPK_BLESS=1` writes the expectations anew; read the difference before committing it.

use std::path::{Path, PathBuf};

use npk::error::Kind;
use npk::format::{Order, ReadOptions};
use npk::formats::FORMATS;
use npk::location::Location;
use npk::pipe::{self, Settings};

use crate::support::{Scratch, npk_any, npk_command};

/// Files and stores of a format below `directory`, by their endings; stores are not looked into.
fn cases(directory: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[test]
fn good_fixtures_are_what_their_descriptions_say() {
    let bless = std::env::var_os("NPK_BLESS").is_some();
    for format in FORMATS {
        let mut found = Vec::new();
        let folder = root().join("good").join(format.name());
        cases(&folder, format.extensions(), &mut found);
        found.sort();
        assert!(!found.is_empty(), "no good fixture for {}", format.name());
        for path in found {
            let expected_path = PathBuf::from(format!("{}.inspect.json", path.display()));
            let output = npk_command()
                .current_dir(path.parent().unwrap())
                .args(["inspect".as_ref(), "--json".as_ref(), "--checksum".as_ref(), path.file_name().unwrap()])
                .output()
                .unwrap();
            // A checkpoint with a class that cannot be read is refused (4); the description says so.
            let got = match output.status.code() {
                Some(0) => String::from_utf8(output.stdout).unwrap(),
                Some(code @ (4 | 7)) => format!("{{\"exit\": {code}}}\n"),
                code => panic!("{}: exit {code:?}: {}", path.display(), String::from_utf8_lossy(&output.stderr)),
            };
            if bless {
                std::fs::write(&expected_path, &got).unwrap();
            }
            let expected = std::fs::read_to_string(&expected_path).unwrap_or_else(|_| panic!("{} is missing", expected_path.display()));
            assert_eq!(got, expected, "{}", path.display());
        }
    }
}

#[test]
fn bad_fixtures_end_in_a_clear_sentence() {
    let mut count = 0;
    for format in FORMATS {
        let folder = root().join("bad").join(format.name());
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> =
            entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e != "md" && e != "json")).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} is empty", folder.display());
        for path in paths {
            let scratch = Scratch::new();
            let output = npk_any(&["convert".as_ref(), path.as_os_str(), scratch.join("o.npk").as_os_str()]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => {}
                Some(3 | 4 | 7) => {
                    assert!(said.starts_with("error: ") || said.contains("\nerror: "), "{}: {said}", path.display());
                    assert!(scratch.names().is_empty(), "{}: {:?}", path.display(), scratch.names());
                }
                code => panic!("{}: exit {code:?}: {said}", path.display()),
            }
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} bad fixtures");
}

/// Every good single file, cut at twelve places: an error or fewer rows of text, never a panic.
#[test]
fn cut_files_are_errors() {
    let settings = Settings::new(1, 16 << 20);
    let scratch = Scratch::new();
    let mut count = 0;
    for format in FORMATS {
        let mut found = Vec::new();
        cases(&root().join("good").join(format.name()), format.extensions(), &mut found);
        found.sort();
        for path in found.iter().filter(|p| p.is_file()).step_by(if format.name() == "pt" { 9 } else { 1 }) {
            let bytes = std::fs::read(path).unwrap();
            let text = matches!(format.name(), "csv" | "txt");
            for k in 0..12 {
                let cut = scratch.join(&format!("cut.{}", path.file_name().unwrap().to_string_lossy()));
                std::fs::write(&cut, &bytes[..bytes.len() * k / 12]).unwrap();
                let at = Location::local(&cut);
                let result = npk::error::guard(|| {
                    let source = format.open(&at, &ReadOptions { memory_bytes: 16 << 20, jobs: 1, ..ReadOptions::default() })?;
                    let good =
                        (0..source.plan().arrays.len()).filter(|&a| source.plan().arrays[a].details.error.is_none()).collect::<Vec<_>>();
                    let whole = good.len() == source.plan().arrays.len() && !good.is_empty();
                    let view = npk::adapt::view::View::choose(source, &good);
                    pipe::drain(Box::new(view), Vec::new(), Order::Any, &mut |_| Ok(()), &settings)?;
                    Ok(whole)
                });
                let what = format!("{} cut to {k}/12", path.display());
                match result {
                    Ok(whole) => assert!(text || !whole, "{what} was read as whole"),
                    Err(e) => assert!(e.kind() != Kind::Internal, "{what}: {e}"),
                }
                std::fs::remove_file(&cut).unwrap();
                count += 1;
            }
        }
    }
    assert!(count >= 300, "only {count} cuts");
}
