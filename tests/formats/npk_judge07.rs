//! What NumPack 0.7.0 itself (its crate, built apart) makes of our stores, and we of its.

use std::path::{Path, PathBuf};

use npk::format::{Existing, WriteOptions};
use npk::model::{ArrayMeta, Dtype};
use sha2::{Digest, Sha256};

use super::store_support::*;
use crate::support::faults::{Fault, npk_with};
use crate::support::*;

/// `make test` leaves the judge out where the system lacks OpenBLAS, which it is built with, and
/// says so.
fn left_out() -> bool {
    std::env::var_os("NPK_TEST_NO_NUMPACK07").is_some()
}

/// The judge: `NPK_TEST_NUMPACK07`, or where `make test` puts it.
fn judge() -> PathBuf {
    if let Some(path) = std::env::var_os("NPK_TEST_NUMPACK07") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside =
        python_path().parent().and_then(Path::parent).map(|p| p.join("numpack07/numpack07"));
    let built = root.join("target/numpack07/debug/numpack07");
    let path = beside.filter(|p| p.exists()).unwrap_or(built);
    assert!(
        path.exists(),
        "{} is missing: run `make test`, which builds the judge from tests/judges/numpack07",
        path.display()
    );
    path
}

fn run(what: &str, paths: &[&Path]) -> String {
    let output = std::process::Command::new(judge()).arg(what).args(paths).output().unwrap();
    assert!(
        output.status.success(),
        "{what} {paths:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What the judge loads: name, dtype, shape, sha256, sorted by name.
fn judged(path: &Path) -> Vec<(String, String, Vec<u64>, String)> {
    let line = |line: &str| {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        let shape = v["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
        let text = |key: &str| v[key].as_str().unwrap().to_string();
        (text("name"), text("dtype"), shape, text("sha256"))
    };
    run("list", &[path]).lines().map(line).collect()
}

/// The same, as we read it.
fn ours(path: &Path) -> Vec<(String, String, Vec<u64>, String)> {
    let all = read(path).unwrap();
    let mut found: Vec<_> = all
        .plan
        .arrays
        .iter()
        .zip(&all.bytes)
        .map(|(a, bytes)| {
            let sha = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
            let shape = if a.scalar { vec![1] } else { a.shape().unwrap() };
            (a.name.clone(), a.dtype.name().to_string(), shape, sha)
        })
        .collect();
    found.sort();
    found
}

#[test]
#[ignore = "asks the real libraries"]
fn goldens_copies_appended_and_back() {
    if left_out() {
        return;
    }
    let out = Scratch::new();
    let append = WriteOptions { existing: Existing::Append, ..WriteOptions::default() };
    for (i, golden) in goldens("npk", "npk").iter().enumerate() {
        let (fresh, grown, saved) = (
            out.join(&format!("{i}.npk")),
            out.join(&format!("{i}g.npk")),
            out.join(&format!("{i}s.npk")),
        );
        let right = ours(golden);
        assert!(!right.is_empty());
        assert_eq!(judged(golden), right, "{golden:?}");
        convert(golden, &fresh, "npk").unwrap();
        assert_eq!(judged(&fresh), right, "{golden:?}");
        // Rows that we append, in place.
        copy_dir(golden, &grown);
        convert_with(golden, &grown, "npk", &append).unwrap();
        assert_eq!(judged(&grown), ours(&grown), "{golden:?}");
        // NumPack saves what it loads from us, and appends to what we wrote and appended.
        std::fs::create_dir(&saved).unwrap();
        run("save", &[&fresh, &saved]);
        assert_eq!(ours(&saved), right, "{golden:?}");
        if golden.file_name().unwrap() != "empty.npk" {
            for store in [&fresh, &grown] {
                let once = read(store).unwrap();
                run("append", &[store]);
                let twice = read(store).unwrap();
                for (meta, bytes) in once.plan.arrays.iter().zip(&once.bytes) {
                    let found = &twice.bytes[twice.plan.position(&meta.name).unwrap()];
                    assert!(
                        *found == [bytes.clone(), bytes.clone()].concat(),
                        "{store:?} {}",
                        meta.name
                    );
                }
            }
        }
    }
}

/// Names that only 0.7 can load, and what it must not abort on.
#[test]
#[ignore = "asks the real libraries"]
fn names_and_shapes() {
    if left_out() {
        return;
    }
    let out = Scratch::new();
    let long = "n".repeat(300);
    let names: Vec<&str> =
        vec!["a/b", "a%2Fb", "A/B", "w", "W", "a\nb", "..", "../../x", &long, "Ä", "ä", "plain"];
    let mut arrays: Vec<(ArrayMeta, Vec<u8>)> = names
        .iter()
        .enumerate()
        .map(|(i, n)| (ArrayMeta::new(*n, Dtype::U8, &[2]), vec![i as u8, 7]))
        .collect();
    arrays.push((ArrayMeta::new("scalar", Dtype::F64, &[]), vec![1; 8]));
    arrays.push((ArrayMeta::new("empty", Dtype::C128, &[0, 3]), vec![]));
    arrays.push((ArrayMeta::new("big", Dtype::U16, &[1 << 20]), sequence(2 << 20)));
    let at = out.join("s.npk");
    write_new(&at, &arrays);
    let found = judged(&at);
    assert_eq!(found.len(), arrays.len());
    assert_eq!(found, ours(&at));
}

/// Killed at any of its operations, an append leaves the old rows of all arrays or the new ones,
/// for us and for NumPack.
#[test]
#[ignore = "asks the real libraries"]
fn every_moment_of_an_append_can_be_read() {
    let out = Scratch::new();
    let all = [
        "v0.4.5/deleted",
        "v0.4.5/names",
        "v0.4.5/dtypes",
        "v0.7.0/segmented_deleted",
        "v0.7.0/segmented",
    ];
    let mut code = String::from(
        "import store\ndef found(at): return {k: v.tobytes() for k, v in store.numpack_arrays(at).items()}\n",
    );
    for (i, name) in all.iter().enumerate() {
        let golden = fixture(&format!("good/npk/{name}.npk"));
        let new = out.join(&format!("{i}-new.npk"));
        copy_dir(&golden, &new);
        convert_with(
            &golden,
            &new,
            "npk",
            &WriteOptions { existing: Existing::Append, ..WriteOptions::default() },
        )
        .unwrap();
        let (before, after) = (ours(&golden), ours(&new));
        assert_ne!(before, after);
        let is_old_form = !name.contains("segmented");
        if is_old_form {
            // NumPack writes into what it opens.
            let old = out.join(&format!("{i}-old.npk"));
            copy_dir(&golden, &old);
            code += &format!("old, new = found({old:?}), found({new:?})\nassert old != new\n");
        }
        for n in 1.. {
            let folder = format!("{i}-{n}");
            let at = format!("{folder}/s.npk");
            std::fs::create_dir(out.join(&folder)).unwrap();
            copy_dir(&golden, &out.join(&at));
            let from = golden.display().to_string();
            if npk_with(
                out.path(),
                &folder,
                Fault::Kill,
                n,
                &["convert", "-q", &from, &at, "--append"],
            )
            .is_none()
            {
                assert!(n > 10 && ours(&out.join(&at)) == after, "{name} {n}");
                break;
            }
            let found = ours(&out.join(&at));
            assert!(found == before || found == after, "{name} at {n}: {found:?}");
            if !left_out() {
                assert_eq!(judged(&out.join(&at)), found, "{name} at {n}");
            }
            if is_old_form {
                code += &format!("assert found({at:?}) in (old, new), {at:?}\n");
            }
        }
    }
    python(out.path(), &code);
}
