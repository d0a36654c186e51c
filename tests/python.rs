//! The Python module: built once, and asked by Python itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::{Scratch, python_path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of this build.
fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_npk")).parent().unwrap().parent().unwrap()
}

/// Calls cargo for the module's crate, in that folder.
fn cargo(command: &str, args: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args([command, "--quiet", "--locked", "--manifest-path"])
        .arg(Path::new(ROOT).join("python/Cargo.toml"))
        .arg("--target-dir")
        .arg(target())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let more = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo {command}: {said}\n{more}");
}

/// A folder with the module `npk`, for PYTHONPATH. What was built before is used again.
fn site() -> &'static Path {
    static SITE: OnceLock<PathBuf> = OnceLock::new();
    SITE.get_or_init(|| {
        let target = target();
        cargo("build", &[]);
        let site = target.join("python-module");
        std::fs::create_dir_all(site.join("npk")).unwrap();
        for entry in std::fs::read_dir(Path::new(ROOT).join("python/npk")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), site.join("npk").join(entry.file_name())).unwrap();
            }
        }
        let library = target.join("debug/lib_npk.so");
        std::fs::copy(library, site.join("npk/_npk.abi3.so")).unwrap();
        site
    })
}

/// Runs a script of `python/tests` in a folder of its own.
fn script(python: &Path, name: &str, more: &[&Path]) -> String {
    script_with(python, name, more, &HashMap::new())
}

/// The same, with more in its environment.
fn script_with(
    python: &Path,
    name: &str,
    more: &[&Path],
    environment: &HashMap<String, String>,
) -> String {
    let s = Scratch::new();
    let mut path = site().as_os_str().to_owned();
    // (NumPack's tests have pandas where they have pyarrow.)
    let both = name != "numpack_suite.py" && torch().is_some_and(|torch| torch == python);
    if both && arrow17().is_dir() {
        path.push(":");
        path.push(arrow17());
    }
    let output = Command::new(python)
        .args(["-W", "ignore"])
        .arg(Path::new(ROOT).join("python/tests").join(name))
        .arg(s.path())
        .args(more)
        .envs(environment)
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}\n{errors}");
    said
}

/// The Python that has torch; none where the tests are to do without.
fn torch() -> Option<PathBuf> {
    let asked = std::env::var_os("NPK_TEST_NO_TORCH").is_none_or(|v| v != "1");
    asked.then(|| {
        std::env::var_os("NPK_TEST_TORCH_PYTHON").unwrap_or("/usr/bin/python3".into()).into()
    })
}

/// The pyarrow that goes with the numpy of that Python, where `make test` has put it there.
fn arrow17() -> PathBuf {
    Path::new(ROOT).join(".venv/arrow17")
}

#[test]
fn the_module_has_the_version_of_the_command() {
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("python/Cargo.toml")).unwrap();
    assert!(manifest.contains(concat!("\nversion = \"", env!("CARGO_PKG_VERSION"), "\"\n")));
}

#[test]
#[ignore = "asks the real libraries"]
fn the_guide_runs_with_only_the_import_changed() {
    let said = script(&python_path(), "guide.py", &[]);
    assert!(said.contains("\n15 blocks ran"), "{said}");
    if let Some(python) = torch() {
        let said = script(&python, "guide.py", &[]);
        assert!(
            said.contains("[0, 1, ") && said.contains(" 13, ") && said.contains(", 24]"),
            "{said}"
        );
        // The block of both torch and pyarrow.
        match arrow17().is_dir() {
            true => assert!(said.contains(" 19, 20, 21, "), "{said}"),
            false => println!("note: no {}: ZeroCopyArray is left out", arrow17().display()),
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn arrays_go_to_other_libraries_and_come_from_them() {
    let said = script(&python_path(), "exchange.py", &[]);
    assert!(said.contains("ok: frames_both_ways"), "{said}");
    if let Some(python) = torch() {
        assert!(script(&python, "exchange.py", &[]).contains("ok: torch_both_ways"));
    }
}

/// The library with its feature `dlpack`, which its own build is without: `python/tests/dlpack.rs`.
#[test]
#[ignore = "asks the real libraries"]
fn tensors_go_in_and_out_of_the_library() {
    cargo("test", &["--test", "dlpack"]);
}

#[cfg(feature = "remote")]
#[test]
#[ignore = "asks the real libraries"]
fn object_storage_is_read_and_written() {
    use crate::remote::server::{PUBLIC, Server};

    let server = Server::new();
    server.bucket("my-bucket");
    let csv = server.bucket(PUBLIC).join("data.csv");
    std::fs::write(csv, "1.5,2\n3,4.25\n").unwrap();
    let said = script_with(&python_path(), "remote.py", &[], &server.environment());
    assert!(said.contains("ok: the_guide"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_stubs_fit_the_module() {
    let own = |name: &str| Path::new(ROOT).join("python/tests").join(name);
    let s = Scratch::new();
    let output = Command::new(python_path())
        .args(["-m", "mypy.stubtest", "npk", "--concise", "--ignore-unused-allowlist"])
        .args(["--allowlist".into(), own("stubtest.txt")])
        .args(["--mypy-config-file".into(), own("stubtest.ini")])
        .current_dir(s.path())
        .env("PYTHONPATH", site())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "asks the real libraries"]
fn numpacks_own_tests_pass() {
    let numpack = Path::new(ROOT).join(".venv/numpack07/numpack/tests");
    let files = ["test_io_conversion.py", "test_return_npk_obj.py", "test_zero_copy.py"];
    let mut files: Vec<PathBuf> = files.iter().map(|f| numpack.join(f)).collect();
    files.push(
        Path::new(ROOT)
            .join(".venv/lib/python3.11/site-packages/numpack/tests/test_io_conversion.py"),
    );
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    script(&python_path(), "numpack_suite.py", &files);
    if let Some(python) = torch() {
        script(&python, "numpack_suite.py", &files);
    }
}
