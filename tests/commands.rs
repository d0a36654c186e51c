//! Commands as data: `tests/cmd/NNNN-name.md` shows what a person types and what npk answers.
//!
//! Each file has a folder of its own with the fixtures that its line `Files:` names (below
//! `fixtures/`). A block of ```` ```console ```` holds commands (`$ …`, run by bash), what they print
//! on both outputs, and `? N` where the exit code is not 0. `[..]` stands for anything in a line.
//! `SNAPSHOTS=overwrite cargo test commands` writes down what is printed now: read the difference.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Scratch;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// What a command prints, and its exit code.
fn run(directory: &Path, command: &str) -> (String, i32) {
    let npk = Path::new(env!("CARGO_BIN_EXE_npk")).parent().unwrap();
    let path = format!("{}:{}", npk.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(directory)
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap_or(-1))
}

/// The file with the answers that its commands get now.
fn answered(text: &str) -> String {
    let scratch = Scratch::new();
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        if let Some(files) = line.strip_prefix("Files: ") {
            for file in files.split(' ') {
                let from = Path::new(ROOT).join("fixtures").join(file);
                copy(&from, &scratch.join(from.file_name().unwrap().to_str().unwrap()));
            }
        }
        if line != "```console" {
            continue;
        }
        while let Some(command) = lines.next_if(|line| *line != "```") {
            let Some(typed) = command.strip_prefix("$ ") else { continue };
            let (said, code) = run(scratch.path(), typed);
            out += &format!("{command}\n{said}");
            if !said.is_empty() && !said.ends_with('\n') {
                out.push('\n');
            }
            if code != 0 {
                out += &format!("? {code}\n");
            }
        }
    }
    out
}

#[test]
fn commands_answer_as_written_down() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new(ROOT).join("tests/cmd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let answers = answered(&text);
        assert!(answers.contains("\n$ "), "{} has no command", file.display());
        snapbox::assert_data_eq!(answers, snapbox::Data::read_from(&file, None));
    }
}
