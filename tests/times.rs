//! Times as `diff` compares them and as `inspect` shows them; what an index leaves of an array.

use serde_json::{Value, json};

use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, npy_bytes};

fn counts(all: &[i64]) -> Vec<u8> {
    all.iter().flat_map(|c| c.to_le_bytes()).collect()
}

fn times(s: &Scratch, name: &str, descr: &str, all: &[i64]) -> String {
    let bytes = npy_bytes(descr, &[all.len() as u64], &counts(all));
    std::fs::write(s.join(name), bytes).unwrap();
    at(s, name)
}

fn told(args: &[&str]) -> (Option<i32>, String) {
    let done = npk_any(args);
    let text = [done.stdout, done.stderr].map(|t| String::from_utf8(t).unwrap()).concat();
    (done.status.code(), text)
}

#[test]
fn times_are_compared_by_their_instants() {
    let s = Scratch::new();
    let seconds = times(&s, "s.npy", "<M8[s]", &[86_400, i64::MIN]);
    let more = [86_400_000, i64::MIN];
    let milliseconds = times(&s, "ms.npy", "<M8[ms]", &more);
    let (code, text) = told(&["diff", &seconds, &milliseconds]);
    assert_eq!(code, Some(1));
    assert!(text.contains("types differ: datetime64[s] and datetime64[ms]"), "{text}");
    let json: Value =
        serde_json::from_str(&told(&["diff", &seconds, &milliseconds, "--json"]).1).unwrap();
    assert_eq!(json["arrays"][0]["status"], "not_comparable");
    assert_eq!(json["arrays"][0]["reason"], "datetime64[s] and datetime64[ms]");
    npk(&["diff", &seconds, &milliseconds, "--ignore-dtype"]);
    // NaT is what Arrow has as null.
    let parquet = at(&s, "s.parquet");
    npk(&["convert", "-q", &seconds, &parquet]);
    npk(&["diff", &seconds, &parquet, "--ignore-dtype"]);
    let days = times(&s, "d.npy", "<M8[D]", &[1, i64::MIN]);
    npk(&["diff", &seconds, &days, "--ignore-dtype"]);
    let spans = times(&s, "m.npy", "<m8[s]", &[86_400, i64::MIN]);
    let (code, text) = told(&["diff", &seconds, &spans, "--ignore-dtype"]);
    assert!(code == Some(1) && text.contains("types differ"), "{text}");
    let other = times(&s, "o.npy", "<M8[s]", &[86_401, 7]);
    let (code, text) = told(&["diff", &seconds, &other]);
    assert_eq!(code, Some(1));
    let first = "2 of 2 values differ; first at [0]: 1970-01-02T00:00:00 and 1970-01-02T00:00:01";
    assert!(text.contains(first), "{text}");
    let later = times(&s, "l.npy", "<M8[s]", &[86_401, i64::MIN]);
    let (_, text) = told(&["diff", &seconds, &later]);
    assert!(text.contains("largest difference P0DT0H0M1S\n"), "{text}");
    let (_, text) = told(&["diff", &milliseconds, &later, "--ignore-dtype"]);
    assert!(text.contains("1 of 2 values differ; first at [0]: 1970-01-02T00:00:00.000"), "{text}");
}

#[test]
fn times_are_shown_as_times() {
    let s = Scratch::new();
    let file = times(&s, "t.npy", "<M8[ms]", &[1_577_836_800_000, i64::MIN, -1]);
    let text = npk(&["inspect", &file, "--head", "3"]);
    let shown = "t:\n  2020-01-01T00:00:00.000\n  null\n  1969-12-31T23:59:59.999\n";
    assert!(text.ends_with(shown), "{text}");
    let values = |args: &[&str]| -> Value {
        let text = npk(&[&["inspect", &file, "--json"][..], args].concat());
        serde_json::from_str::<Value>(&text).unwrap()["arrays"][0]["values"].clone()
    };
    assert_eq!(values(&["--tail", "2"]), json!([null, "1969-12-31T23:59:59.999"]));
    assert_eq!(values(&["--slice", "0:1"]), json!(["2020-01-01T00:00:00.000"]));
    let table = at(&s, "d.parquet");
    npk(&["convert", "-q", &times(&s, "d.npy", "<m8[s]", &[90_061, 0]), &table]);
    let text = npk(&["inspect", &table, "--head", "1"]);
    assert!(text.ends_with("\n  P1DT1H1M1S\n"), "{text}");
}

#[test]
fn an_index_takes_a_dimension_away() {
    let s = Scratch::new();
    let values = counts(&[0, 1, 2, 3, 4, 5]);
    std::fs::write(s.join("a.npy"), npy_bytes("<i8", &[3, 2], &values)).unwrap();
    std::fs::write(s.join("v.npy"), npy_bytes("<i8", &[6], &values)).unwrap();
    let values = |file: &str, slice: &str| -> Value {
        let text = npk(&["inspect", &at(&s, file), "--json", "--slice", slice]);
        serde_json::from_str::<Value>(&text).unwrap()["arrays"][0]["values"].clone()
    };
    // As numpy's tolist gives them.
    assert_eq!(values("a.npy", "1"), json!([2, 3]));
    assert_eq!(values("a.npy", "-1"), json!([4, 5]));
    assert_eq!(values("a.npy", "1,0"), json!(2));
    assert_eq!(values("a.npy", "1:2"), json!([[2, 3]]));
    assert_eq!(values("a.npy", ":,1"), json!([1, 3, 5]));
    assert_eq!(values("v.npy", "4"), json!(4));
    for index in ["3", "-4"] {
        let error = npk_fails(2, &["inspect", &at(&s, "a.npy"), "--slice", index]);
        assert!(error.contains("is outside a dimension of 3"), "{error}");
    }
}

/// A pattern need match in one of two files only; renamed arrays go by both names.
#[test]
fn patterns_choose_in_both_files() {
    let s = Scratch::new();
    let folder = |name: &str, arrays: &[(&str, i64)]| {
        let store = at(&s, name);
        for (array, value) in arrays {
            let file = times(&s, "one.npy", "<i8", &[*value]);
            npk(&["convert", "-q", &file, &store, "--name", array, "--if-exists", "merge"]);
        }
        store
    };
    let ckpt = folder("ckpt.npk", &[("model.w", 1), ("model.v", 2), ("optim.w", 3)]);
    let model = folder("model.npk", &[("w", 1), ("v", 2), ("extra", 4)]);
    let map = ["--map", "model\\.(.*)=$1"];
    let equal = |args: &[&str]| {
        let (code, text) = told(&[&["diff", &ckpt, &model][..], &map, args].concat());
        assert_eq!(code, Some(0), "{args:?}: {text}");
    };
    equal(&["-a", "model.*"]);
    equal(&["-a", "w"]);
    equal(&["-a", "model.w", "-a", "v"]);
    equal(&["-x", "optim*", "-x", "extra"]);
    equal(&["-a", "model.*", "-x", "model.w"]);
    let (code, text) = told(&[&["diff", &ckpt, &model, "-x", "optim.w"][..], &map].concat());
    assert!(code == Some(1) && text.contains("extra: only in the second"), "{text}");
    let (code, text) = told(&["diff", &ckpt, &model, "-a", "extra"]);
    assert!(code == Some(1) && text == "extra: only in the second\n", "{text}");
    let error = npk_fails(3, &["diff", &ckpt, &model, "-a", "nothing"]);
    assert!(error.contains("no array matches 'nothing'"), "{error}");
}

/// Rust opens `/dev/null` in the place of a closed descriptor: nobody would miss the output.
#[test]
#[cfg(unix)]
fn a_closed_stdout_is_an_error() {
    use std::os::unix::process::CommandExt;
    let s = Scratch::new();
    let file = times(&s, "a.npy", "<i8", &[1]);
    for (args, code) in [
        (&["convert", &file, "-", "--to", "npz"][..], 1),
        (&["list", &file], 1),
        (&["list", "--json", &file], 1),
        (&["verify", "-q", &file], 0),
    ] {
        let mut command = npk_command();
        command.args(args);
        // SAFETY: closing a descriptor is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::close(libc::STDOUT_FILENO);
                Ok(())
            });
        }
        let done = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let done = done.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{args:?}: {error}");
        assert_eq!(error.contains("standard output is closed"), code == 1, "{error}");
    }
    // What goes nowhere by somebody's wish is fine.
    let null = std::fs::File::create("/dev/null").unwrap();
    let status = npk_command().args(["convert", &file, "-", "--to", "npz"]).stdout(null).status();
    assert!(status.unwrap().success());
}
