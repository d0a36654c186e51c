//! The recipes of docs/many-machines.md for GNU parallel, Dask and Ray, where they are installed.
//! `NPK_TEST_ENGINES` names a Python that has the latter two (`pip install ray dask[distributed]`);
//! else it is that of the judges.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::convert::npy;
use crate::support::{Scratch, npk_command, python_path};

const UNITS: u16 = 100;

/// The block of the page that has this line.
fn block(line: &str) -> String {
    let page = std::fs::read_to_string("docs/many-machines.md").unwrap();
    let at = page.find(line).unwrap_or_else(|| panic!("no recipe has {line}"));
    page[at..].split("```").next().unwrap().to_string()
}

fn engines_python() -> PathBuf {
    std::env::var_os("NPK_TEST_ENGINES").map_or_else(python_path, PathBuf::from)
}

/// Runs a recipe on some files, with an `npk` that is killed the first time that it makes share 3:
/// the recipe tries again. All is done then, and certified as by one process.
fn run(program: &Path, args: &[&str], file: Option<(&str, &str)>) {
    use std::os::unix::fs::PermissionsExt;
    let s = Scratch::new();
    ["in", "bin"].iter().for_each(|folder| std::fs::create_dir(s.join(folder)).unwrap());
    for i in 0..UNITS {
        npy(&s.join(&format!("in/x{i}.npy")), "<i2", &[1], &i.to_le_bytes());
    }
    if let Some((name, text)) = file {
        std::fs::write(s.join(name), text).unwrap();
    }
    let killed = s.join("killed");
    let wrapper = format!(
        "#!/bin/sh\ncase \"$*\" in\n  *'--shard 3/8'*) mkdir {} 2>/dev/null && kill -KILL $$ ;;\nesac\n\
         exec {} \"$@\"\n",
        killed.display(),
        npk_command().get_program().display()
    );
    std::fs::write(s.join("bin/npk"), wrapper).unwrap();
    std::fs::set_permissions(s.join("bin/npk"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = [s.join("bin"), "/usr/local/bin".into(), "/usr/bin".into(), "/bin".into()];
    let output = Command::new(program)
        .args(args)
        .current_dir(s.path())
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", s.path())
        .env("TMPDIR", s.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(killed.exists(), "no share was killed");
    let in_folder = |args: &[&str]| {
        let output = npk_command().args(args).current_dir(s.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let report = |of: &str| -> Value {
        serde_json::from_slice(&in_folder(&["report", of, "--json"])).unwrap()
    };
    let whole = ["convert", "-R", "in", "whole/", "--to", "npk", "--report", "one", "--certify"];
    in_folder(&whole);
    let told = report("report");
    assert!(told["complete"] == true && told["done"] == UNITS && told["of"] == 8, "{told}");
    assert_eq!(told["root"], report("one")["root"]);
}

#[test]
#[ignore = "asks the real libraries"]
fn the_recipe_for_gnu_parallel_runs() {
    if !Path::new("/usr/bin/parallel").exists() {
        println!("note: GNU parallel is not installed: its recipe is not run");
        return;
    }
    run(Path::new("/bin/bash"), &["-c", &block("parallel -j 2 ")], None);
}

#[test]
#[ignore = "asks the real libraries"]
fn the_recipes_for_dask_and_ray_run() {
    for (module, script) in [("dask.distributed", "dask_npk.py"), ("ray", "ray_npk.py")] {
        let python = engines_python();
        let mut has = Command::new(&python);
        has.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
        if !has.status().unwrap().success() {
            println!("note: {module} is not installed: {script} is not run");
            continue;
        }
        let text = block(&format!("# {script}"));
        run(&python, &[script], Some((script, text.as_str())));
    }
}
