//! Runs of `npk` to which something happens at one of their operations on files (see `faults.c`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The library that is preloaded, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("npk-faults-").tempdir().unwrap();
        let path = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .arg(source)
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (folder, path)
    });
    path
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A SIGINT; the operation goes on.
    Interrupt,
    /// A SIGKILL.
    Kill,
    /// The operation fails with this error.
    Fails(i32),
    /// The operation fails with this error, and so does all that needs room from then on.
    FailsFromNowOn(i32),
}

/// Runs `npk` in `folder`; `fault` happens at the `n`th operation below `folder/below`. `None`
/// where the run has fewer.
pub fn npk_with(
    folder: &Path,
    below: &str,
    fault: Fault,
    n: usize,
    args: &[&str],
) -> Option<Output> {
    let hit = folder.join(format!("hit-{n}"));
    let what = match fault {
        Fault::Interrupt => "int".to_string(),
        Fault::Kill => "kill".to_string(),
        Fault::Fails(error) => error.to_string(),
        Fault::FailsFromNowOn(error) => format!("{error}+"),
    };
    let output = super::npk_command()
        .args(args)
        .current_dir(folder)
        .env("LD_PRELOAD", library())
        .env("NPK_FAULT_BELOW", std::fs::canonicalize(folder).unwrap().join(below))
        .env("NPK_FAULT", what)
        .env("NPK_FAULT_AT", n.to_string())
        .env("NPK_FAULT_HIT", &hit)
        .output()
        .unwrap();
    std::fs::remove_file(hit).ok().map(|()| output)
}
