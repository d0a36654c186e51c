//! Every command that the documentation and the help texts print is run, on small files that the
//! real libraries wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::remote::hub_server::Hub;
use crate::remote::server::Server;
use crate::support::{Scratch, kept, npk, npk_any, npk_fails, python_path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NPK: &str = env!("CARGO_BIN_EXE_npk");

/// The files that the commands read, made once.
fn inputs() -> &'static Path {
    static INPUTS: OnceLock<PathBuf> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let folder = kept().join("docs");
        std::fs::create_dir(&folder).unwrap();
        let output = Command::new(python_path())
            .args(["-W", "ignore"])
            .arg(Path::new(ROOT).join("tests/docs/inputs.py"))
            .current_dir(&folder)
            .env("NPK", NPK)
            .env("FIXTURES", Path::new(ROOT).join("fixtures"))
            .output()
            .unwrap();
        assert!(output.status.success(), "inputs.py: {}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder with the inputs.
fn fresh() -> Scratch {
    let s = Scratch::new();
    copy(inputs(), s.path());
    s
}

/// S3 and a hub, with the objects that the commands read.
struct Clouds {
    hub: Hub,
    signed: Server,
    anonymous: Server,
}

impl Clouds {
    fn new() -> Clouds {
        let clouds =
            Clouds { hub: Hub::new(), signed: Server::new(), anonymous: Server::anonymous() };
        let read = |name: &str| std::fs::read(inputs().join(name)).unwrap();
        let model = || ("model.safetensors".to_string(), read("model.safetensors"));
        let more = ("m.safetensors".to_string(), read("m.safetensors"));
        for revision in ["main", "v1"] {
            let files = [model(), more.clone()].into_iter().collect();
            clouds.hub.state.commit("models/owner/name", revision, files);
        }
        clouds.hub.put("models/owner/tuned", &[("model.safetensors", model().1)]);
        let rows = [("data/1.npy", read("d.npy")), ("data/2.npy", read("d.npy"))];
        clouds.hub.put("datasets/owner/rows", &rows);
        let npy = read("d.npy");
        clouds.anonymous.put("d.npy", &npy);
        clouds.anonymous.put("public.npy", &npy);
        clouds.signed.put("m.safetensors", &read("m.safetensors"));
        clouds
    }
    fn of(&self, command: &str) -> &Server {
        let public = command.contains("--anon") || command.contains("--no-sign-request");
        if public { &self.anonymous } else { &self.signed }
    }
}

/// bash with this `npk`, the judges' Python, and nothing of the caller's settings.
fn shell(directory: &Path, script: &str, clouds: Option<&Clouds>) -> Output {
    let mut path = vec![
        PathBuf::from(NPK).parent().unwrap().to_path_buf(),
        python_path().parent().unwrap().to_path_buf(),
    ];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    if !path.iter().any(|p| p.join("jq").exists()) {
        use std::os::unix::fs::PermissionsExt;
        let bin = directory.join(".bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("jq"), "#!/bin/sh\nexec python3 -m json.tool\n").unwrap();
        std::fs::set_permissions(bin.join("jq"), std::fs::Permissions::from_mode(0o755)).unwrap();
        path.push(bin);
    }
    let mut command = Command::new("bash");
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["NPK_", "AWS_", "HF_", "MAKE", "MFLAGS", "PYTHON"].iter().any(|p| name.starts_with(p)) {
            command.env_remove(&key);
        }
    }
    if let Some(clouds) = clouds {
        command.envs(clouds.hub.environment()).envs(clouds.of(script).environment());
    }
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(directory)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", directory)
        .env("PYTHONWARNINGS", "ignore")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn works(directory: &Path, what: &str, script: &str, clouds: Option<&Clouds>) -> Output {
    let output = shell(directory, script, clouds);
    // A difference that was found is an answer.
    let differs = script.starts_with("npk diff ") && output.status.code() == Some(1);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || differs && !told.contains("error: "),
        "{what} ended with {:?}:\n{script}\n--- stdout\n{}\n--- stderr\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A fenced block.
struct Block {
    section: usize,
    line: usize,
    language: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut section) = (Vec::new(), 0);
    let mut open: Option<Block> = None;
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    section,
                    line: i + 1,
                    language: language.into(),
                    text: String::new(),
                })
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => section += usize::from(line.starts_with("## ")),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

fn doc(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Runs the blocks of a page, each section in a folder of its own; returns how many commands ran.
fn run_page(name: &str) -> usize {
    let text = doc(name);
    let (mut commands, mut section, mut folder, mut clouds) = (0, usize::MAX, None, None);
    for block in blocks(&text) {
        if block.section != section {
            folder = Some(fresh());
            section = block.section;
        }
        let dir = folder.as_ref().unwrap().path();
        let what = format!("{name}:{}", block.line);
        match block.language.as_str() {
            // Building and testing is what is happening now.
            "sh" if block.text.starts_with("make install") => {}
            // What is released is tried by packaging/dist-test.
            "sh" if block.text.starts_with("pip install npk") => {}
            // Line by line: each line's server is its own; a line that ends in \ or is indented
            // goes on.
            "sh" => {
                for line in block.text.replace("\\\n", " ").lines().filter(|l| !l.trim().is_empty())
                {
                    let is_far = line.contains("s3://") || line.contains("hf://");
                    if is_far && clouds.is_none() {
                        clouds = Some(Clouds::new());
                    }
                    works(dir, &what, line, clouds.as_ref().filter(|_| is_far));
                    if line.contains(">> ~/.bashrc") {
                        works(dir, &what, "bash -ic 'complete -p npk'", None);
                    }
                    commands += 1;
                }
            }
            "make" => {
                std::fs::write(dir.join("Makefile"), &block.text).unwrap();
                works(
                    dir,
                    &what,
                    "make model.npk && npk verify model.npk && make model.npk | grep -q 'up to date'",
                    None,
                );
                commands += 1;
            }
            "yaml" => {
                for line in block.text.lines() {
                    if let Some(command) = line.trim_start().strip_prefix("- run: ") {
                        if command.contains("s3://") && clouds.is_none() {
                            clouds = Some(Clouds::new());
                        }
                        works(
                            dir,
                            &what,
                            command,
                            clouds.as_ref().filter(|_| command.contains("s3://")),
                        );
                        commands += 1;
                    }
                }
            }
            "python" => {
                let file = block
                    .text
                    .lines()
                    .next()
                    .and_then(|l| l.strip_prefix("# "))
                    .expect("a Python block names its file");
                std::fs::write(dir.join(file), &block.text).unwrap();
            }
            "text" | "json" => {}
            other => panic!("{what}: nothing is known of {other:?} blocks"),
        }
    }
    commands
}

#[test]
#[ignore = "asks the real libraries"]
fn the_readme_works() {
    let commands = run_page("README.md");
    assert!(commands >= 18, "only {commands} commands");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_recipes_work() {
    let commands = run_page("docs/recipes.md");
    assert!(commands >= 52, "only {commands} commands");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_other_pages_work() {
    assert!(run_page("docs/store.md") + run_page("docs/json.md") >= 4);
    assert!(run_page("docs/looking.md") >= 9);
    assert!(run_page("docs/many-machines.md") >= 6);
    assert_eq!(run_page("docs/from-numpack-io.md"), 0, "its table has a test of its own");
}

#[test]
#[ignore = "asks the real libraries"]
fn links_of_the_pages_lead_somewhere() {
    let mut links = 0;
    for page in [
        "README.md",
        "docs/recipes.md",
        "docs/store.md",
        "docs/json.md",
        "docs/looking.md",
        "docs/many-machines.md",
        "docs/from-numpack-io.md",
    ] {
        let text = doc(page);
        let folder = Path::new(ROOT).join(page).parent().unwrap().to_path_buf();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap().split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{page}: {target} does not exist");
                links += 1;
            }
        }
    }
    assert!(links >= 2, "only {links} links");
}

/// The help texts' examples: each in a folder of its own, without the output that another example
/// made.
#[test]
#[ignore = "asks the real libraries"]
fn the_examples_of_the_help_work() {
    let clouds = Clouds::new();
    let mut ran = 0;
    for command in ["", "convert", "inspect", "diff", "list", "verify"] {
        let help =
            npk(&[command, "--help"].into_iter().filter(|a| !a.is_empty()).collect::<Vec<_>>());
        for line in help.lines().map(str::trim) {
            let example = line.split("  ").next().unwrap();
            if !(example.starts_with("npk ") || example.contains("| npk "))
                || example.contains('<')
                || example.contains('[')
            {
                continue;
            }
            let s = fresh();
            npk(&["convert", "-q"]
                .map(Path::new)
                .into_iter()
                .chain([&*s.join("model.safetensors"), &*s.join("model.npk")])
                .collect::<Vec<_>>());
            std::fs::create_dir(s.join("stores")).unwrap();
            let makes_way = drop_output(s.path(), example);
            works(
                s.path(),
                &format!("npk {command} --help (without {makes_way:?})"),
                example,
                Some(&clouds),
            );
            ran += 1;
        }
    }
    assert!(ran >= 22, "only {ran} examples");
}

/// Removes what a command is to write, unless it says what is to become of it.
fn drop_output(directory: &Path, command: &str) -> Option<String> {
    let (_, rest) = command.split_once("npk convert ")?;
    let output = rest.split(' ').filter(|w| !w.is_empty()).nth(1)?;
    let path = directory.join(output);
    if command.contains("--force")
        || command.contains("--if-exists")
        || command.contains("--skip-existing")
        || !path.exists()
    {
        return None;
    }
    if path.is_dir() {
        std::fs::remove_dir_all(&path).unwrap();
    } else {
        std::fs::remove_file(&path).unwrap();
    }
    Some(output.into())
}

/// The commands of a page's tables: cells that are nothing but one command.
fn commands_of_tables(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|l| l.starts_with("| "));
    let cell = |row: &str| row.trim_end_matches(" |").rsplit(" | ").next().unwrap().to_string();
    let bare = |cell: String| Some(cell.strip_prefix('`')?.split('`').next()?.to_string());
    rows.map(cell)
        .filter_map(bare)
        .filter(|c| c.starts_with("npk ") && !c.contains(" - d.npk"))
        .collect()
}

/// Each line of the table runs, and has made what NumPack or the format's library finds right.
#[test]
#[ignore = "asks the real libraries"]
fn the_table_for_numpack_users_holds() {
    let clouds = Clouds::new();
    let mut commands = commands_of_tables(&doc("docs/from-numpack-io.md"));
    // One row names these four in brackets.
    commands.extend(
        ["brotli", "zstd", "lz4", "none"]
            .map(|c| format!("npk convert one.npk one.parquet -c {c}")),
    );
    assert!(commands.len() >= 40, "only {} commands", commands.len());
    let mut done = Vec::new();
    for command in &commands {
        let s = fresh();
        if command.contains("m.npkg") && !command.ends_with("m.npkg")
            || command.starts_with("npk inspect m.npkg")
        {
            works(s.path(), "setup", "npk convert -q m.npk m.npkg", None);
        }
        let output = works(s.path(), "docs/from-numpack-io.md", command, Some(&clouds));
        std::fs::write(s.join("stdout"), &output.stdout).unwrap();
        done.push((command, s));
    }
    let list: Vec<(&String, &Path)> = done.iter().map(|(c, s)| (*c, s.path())).collect();
    let own = Scratch::new();
    let jobs = own.join("jobs.json");
    std::fs::write(&jobs, serde_json::to_vec(&list).unwrap()).unwrap();
    let output = Command::new(python_path())
        .args(["-W", "ignore"])
        .arg(Path::new(ROOT).join("tests/docs/checks.py"))
        .env("OBJECTS", clouds.signed.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(std::fs::File::open(&jobs).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the page for NumPack users says is different.
#[test]
#[ignore = "asks the real libraries"]
fn the_differences_from_numpack_hold() {
    let s = fresh();
    let at = |name: &str| s.join(name).to_str().unwrap().to_string();
    // None of several: the names.
    let error = npk_fails(4, &["convert", &at("m.npk"), &at("out.npy")]);
    assert!(
        error.contains("layer1") && error.contains("layer3") && error.contains("-a"),
        "{error}"
    );
    // An output that exists.
    let error = npk_fails(5, &["convert", &at("d.npy"), &at("one.npk")]);
    assert!(error.contains("--force"), "{error}");
    // The array has its file's name, or NumPack's.
    npk(&["convert", "-q", &at("d.npy"), &at("named.npk")]);
    assert_eq!(npk(&["list", &at("named.npk")]), "d\n");
    npk(&["convert", "-q", &at("d.npy"), &at("data2.npk"), "--name", "data"]);
    assert_eq!(npk(&["list", &at("data2.npk")]), "data\n");
    // A table's layout, chosen and asked for.
    npk(&["convert", "-q", &at("d.parquet"), &at("matrix.npk")]);
    assert_eq!(npk(&["list", "-l", &at("matrix.npk")]), "d\tfloat64\t30x3\t720\n");
    npk(&["convert", "-q", &at("d.csv"), &at("columns.npk")]);
    assert_eq!(
        npk(&["list", "-l", &at("columns.npk")]),
        "x\tfloat64\t25\t200\ny\tfloat64\t25\t200\nz\tint64\t25\t200\n"
    );
    // A matrix as CSV: a header, the shortest text.
    npk(&["convert", "-q", &at("one.npk"), &at("one.csv")]);
    let text = std::fs::read_to_string(at("one.csv")).unwrap();
    assert!(text.starts_with("col0,col1,col2\n") && text.lines().all(|l| l.len() < 42), "{text}");
}

/// A documented key: its path, its types.
type Keys = indexmap::IndexMap<String, String>;

/// The rows `key | type | what` below a heading.
fn documented(text: &str, heading: &str) -> Keys {
    let start =
        text.find(&format!("{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"))
            + heading.len();
    let level = heading.split(' ').next().unwrap();
    let body = text[start..].split(&format!("\n{level} ")).next().unwrap();
    let rows = body.lines().filter(|l| l.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        (cells.nth(1).unwrap().trim_matches('`').to_string(), cells.next().unwrap().to_string())
    })
    .collect()
}

fn fits(value: &Value, kind: &str) -> bool {
    kind.split(" or ").any(|kind| match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" | "map" => value.is_object(),
        "any" => true,
        other => panic!("the type {other} is not known"),
    })
}

/// Every key of the value is documented, with this type; documented keys that occur are ticked off.
fn compare_keys(
    value: &Value,
    path: &str,
    keys: &Keys,
    seen: &mut std::collections::BTreeSet<String>,
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                seen.insert(path.clone());
                // Objects on the way to documented keys need no row.
                let inside = keys.keys().any(|k| {
                    k.starts_with(&format!("{path}.")) || k.starts_with(&format!("{path}[]."))
                });
                match keys.get(&path) {
                    Some(kind) => {
                        assert!(fits(value, kind), "{path} is documented as {kind}, it is {value}");
                        if kind.contains("map") || kind == "any" {
                            continue;
                        }
                    }
                    None => assert!(inside, "{path} is not documented: {value}"),
                }
                compare_keys(value, &path, keys, seen);
            }
        }
        Value::Array(items) if keys.keys().any(|k| k.starts_with(&format!("{path}[]"))) => {
            items.iter().for_each(|v| compare_keys(v, &format!("{path}[]"), keys, seen));
        }
        _ => {}
    }
}

/// The documents that these commands print have the documented keys, and all of them.
fn json_section(heading: &str, commands: &[&str], codes: &[i32]) {
    let keys = documented(&doc("docs/json.md"), heading);
    assert!(keys.len() >= 7, "{heading}: only {} keys", keys.len());
    let s = fresh();
    for (source, target) in
        [("stations.parquet", "stations.npk"), ("model.safetensors", "model.npk")]
    {
        npk(&["convert", "-q", s.join(source).to_str().unwrap(), s.join(target).to_str().unwrap()]);
    }
    std::fs::create_dir(s.join("split")).unwrap();
    let bad = crate::support::fixtures("bad", &["safetensors"]);
    std::fs::copy(&bad[0], s.join("bad.safetensors")).unwrap();
    let fixtures = Path::new(ROOT).join("fixtures/good");
    let mut seen = std::collections::BTreeSet::new();
    for command in commands {
        let command = command.replace("FIXTURES", fixtures.to_str().unwrap());
        let output = shell(s.path(), &command, None);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code().is_some_and(|c| codes.contains(&c)),
            "{command}: {:?}\n{stderr}",
            output.status.code()
        );
        let stdout = String::from_utf8(output.stdout).unwrap();
        let documents: Vec<Value> = serde_json::Deserializer::from_str(&stdout)
            .into_iter()
            .map(|d| d.unwrap_or_else(|e| panic!("{command}: {e}\n{stdout}")))
            .collect();
        assert!(!documents.is_empty(), "{command} printed nothing\n{stderr}");
        for document in documents {
            let all = if let Value::Array(all) = document { all } else { vec![document] };
            for one in all {
                assert_eq!(one["schema"], 1, "{command}");
                compare_keys(&one, "", &keys, &mut seen);
            }
        }
    }
    let never: Vec<_> = keys.keys().filter(|k| !seen.contains(*k)).collect();
    assert!(never.is_empty(), "{heading}: documented, but not in any output: {never:?}");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_inspect_is_as_documented() {
    json_section(
        "### npk inspect --json",
        &[
            "npk inspect --json --checksum --stats --hist --head 2 model.safetensors stations.parquet stations.npk run.h5 points.csv",
            "npk inspect --json checkpoint.pt",
            "npk inspect --json --heat run.h5; printf 'x,y\\n1,2\\n,3\\n' > gap.csv; npk inspect --json --heat gap.csv",
            "npk inspect --json --stats FIXTURES/hdf5/h5py_new.h5 -a z",
            "npk inspect --json FIXTURES/pt/torch1.13/tied_weights.pt FIXTURES/pt/torch1.13/sparse_coo.pt",
            "mkdir -p split; npk convert -q big.safetensors split/model.safetensors --max-shard-size 20KB; npk inspect --json split/model.safetensors.index.json",
            "npk inspect --json run.h5 --show-metadata instrument",
            "cat d.npy | npk inspect --json -",
        ],
        &[0],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_list_is_as_documented() {
    json_section(
        "### npk list --json",
        &[
            "npk list --json model.safetensors",
            "npk list --json stations.npk d.csv",
            "npk convert -q d.npy cut.npk; : > cut.npk/data_d.npkd; npk list --json cut.npk",
            "npk list --json FIXTURES/pt/torch1.13/keys.pt",
        ],
        &[0, 7],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_diff_is_as_documented() {
    json_section(
        "### npk diff --json",
        &[
            "npk diff --json model.safetensors model.npk",
            "npk diff --json a.npk b.npk",
            "npk diff --json m.npk data.npk",
            "npk diff --json --summary base.safetensors tuned.safetensors",
            "npk diff --json --headers base.safetensors tuned.safetensors",
            "npk convert -q d.npy x.npk --name x; npk diff --json a.npk x.npk",
            "npk convert -q run.h5 bare.h5 --no-metadata; npk diff --json --compare-metadata run.h5 bare.h5",
        ],
        &[0, 1],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_verify_is_as_documented() {
    json_section(
        "### npk verify --json",
        &[
            "npk verify --json model.npk",
            "npk verify --json bad.safetensors model.npk",
            "printf 'a,a,b,b\n1,2,3,4\n' > twice.csv; npk verify --json twice.csv",
        ],
        &[0, 3, 4, 7],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_convert_is_as_documented() {
    json_section(
        "### npk convert --json",
        &[
            "npk convert --json d.csv one.npk --force",
            "npk convert --json d.npy table.csv",
            "npk convert --json -n d.npy planned.npk; npk convert --json -n d.npy model.npk plan/ --to npk",
            "npk convert --json -R checkpoints/ out/ --to npk; npk convert --json -R checkpoints/ out/ --to npk --skip-existing",
            "npk convert --json d.npy bad.safetensors out2/ --to npk",
            "npk convert --json d.npy shares.zarr --shard 0/2",
            "printf 'a,a,b,b\n1,2,3,4\n' > twice.csv; npk convert --json twice.csv twice.npk",
        ],
        &[0, 1, 4],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn reports_are_as_documented() {
    let batch = "npk convert -q --report r --certify --to npy";
    json_section(
        "### npk convert --report",
        &[
            &format!("{batch} d.npy bad.safetensors out/ || cat r/*"),
            &format!("rm -r r; {batch} data.npz many/; cat r/*"),
            &format!("rm -r r; {batch} model.npk one/ -a '*.weight' --rows 0:1; cat r/*"),
        ],
        &[0],
    );
    let batch = "npk convert -q --report r --certify --to npk";
    json_section(
        "### npk report --json",
        &[
            &format!("{batch} d.npy bad.safetensors out/ || npk report --json r"),
            &format!("rm -r r; {batch} d.npy more/ --shard 0/2; npk report --json r"),
        ],
        &[0, 1],
    );
    json_section(
        "### npk verify --certificate --json",
        &[
            &format!("{batch} d.npy out/; npk verify --json --certificate r"),
            "rm -r out; npk verify --json --certificate r",
        ],
        &[0, 3],
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_json_of_formats_is_as_documented() {
    json_section("### npk formats --json", &["npk formats --json"], &[0]);
}

#[test]
#[ignore = "asks the real libraries"]
fn npk_json_is_as_documented() {
    let keys = documented(&doc("docs/store.md"), "## npk.json");
    assert!(keys.len() >= 30, "only {} keys", keys.len());
    let s = fresh();
    let fixtures = Path::new(ROOT).join("fixtures/good");
    let mut seen = std::collections::BTreeSet::new();
    let sources = [
        ("model.safetensors", "--dtype=bfloat16 --lossy"),
        ("stations.parquet", "--strings=codes"),
        ("embeddings.parquet", "--strings=offsets"),
        ("ragged.parquet", "--ragged=offsets"),
        ("frame.parquet", ""),
        ("d.parquet", "--layout=matrix"),
        ("run.h5", ""),
        ("FIXTURES/pt/torch1.13/tied_weights.pt", ""),
        ("FIXTURES/pt/torch1.13/shapes.pt", ""),
        ("FIXTURES/pt/torch1.13/special_values.pt", "--bf16=bits"),
        ("FIXTURES/feather/pyarrow-types.feather", "--skip-unsupported"),
    ];
    for (i, (source, options)) in sources.iter().enumerate() {
        let source = source.replace("FIXTURES", fixtures.to_str().unwrap());
        let store = format!("side{i}.npk");
        let output = npk_any(
            &["convert", "-q", s.join(&source).to_str().unwrap(), s.join(&store).to_str().unwrap()]
                .into_iter()
                .chain(options.split_whitespace())
                .collect::<Vec<_>>(),
        );
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        if let Ok(bytes) = std::fs::read(s.join(&store).join("npk.json")) {
            compare_keys(&serde_json::from_slice(&bytes).unwrap(), "", &keys, &mut seen);
        }
    }
    // Rare kinds of types and categories have no source here.
    let rare = [
        "precision",
        "scale",
        "bits",
        "arrays[].arrow",
        "arrays[].parts",
        "element",
        "arrays[].type.shape",
        "categories.dtype",
        "categories.type",
        "ordered",
    ];
    let never: Vec<_> = keys
        .keys()
        .filter(|k| !seen.contains(*k) && !rare.iter().any(|r| k.ends_with(r)))
        .collect();
    assert!(never.is_empty(), "documented, but in no side file: {never:?}");
}
