//! What was found by fuzzing before (`fixtures/fuzz/TARGET/`) stays mended: each input through the
//! target that found it.

use crate::corpus::root;
use crate::fuzz::{self, reading};

#[test]
fn inputs_that_were_found_before() {
    let targets = fuzz::targets();
    let mut count = 0;
    for folder in std::fs::read_dir(root().join("fuzz")).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let target = folder.file_name().unwrap().to_str().unwrap();
        assert!(targets.iter().any(|name| name == target), "there is no target '{target}'");
        for input in std::fs::read_dir(&folder).unwrap() {
            let path = input.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let ran = std::panic::catch_unwind(|| fuzz::run(target, &bytes));
            assert!(ran.is_ok(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "no inputs");
}

/// What makes the libraries panic when they are asked alone (docs/upstream.md) does not reach them.
#[test]
fn libraries_do_not_panic() {
    for format in ["parquet", "feather"] {
        let folder = root().join("fuzz").join(format!("read_{format}"));
        for input in std::fs::read_dir(folder).unwrap() {
            let path = input.unwrap().path();
            if let Err(error) = reading::read_some(format, &path, 1) {
                let caught = error.reason().contains("library cannot decode");
                assert!(!caught, "{}: {error}", path.display());
            }
        }
    }
}

/// Every target takes nothing, and a little of anything.
#[test]
fn targets_run() {
    for target in fuzz::targets() {
        for bytes in [&b""[..], b"\x1dFILE a\nb", &[0; 64], &[0xFF; 64], b"(1, 2)\0a*b\0ab"] {
            fuzz::run(&target, bytes);
        }
    }
}
