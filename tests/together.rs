//! One Zarr hierarchy by many processes.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::convert::npy;
use crate::support::{Scratch, at, files_below, fixture, npk, npk_any, npk_command, npk_fails};

/// `x.npy`, int16 `[1000, 6]`.
fn input(s: &Scratch) -> String {
    let values: Vec<u8> = (0..6000i16).flat_map(i16::to_le_bytes).collect();
    npy(&s.join("x.npy"), "<i2", &[1000, 6], &values);
    at(s, "x.npy")
}

const CHUNKS: [&str; 2] = ["--chunk-shape", "30,4"];

/// `npk convert SRC DST … --shard I/N` for all shares, and `--finish`.
fn shares(source: &str, output: &str, n: u64, more: &[&str]) {
    for i in (0..n).rev() {
        let share = format!("{i}/{n}");
        npk(&[&["convert", source, output, "--shard", &share], more].concat());
        assert!(!Path::new(output).exists(), "it is there before it is finished");
    }
    npk(&[&["convert", source, output, "--finish"], more].concat());
}

/// By shares is as by one process, and nothing is left beside it.
fn same_by_shares(s: &Scratch, source: &str, counts: &[u64], more: &[&str]) {
    let one = at(s, "one.zarr");
    npk(&[&["convert", source, &one, "-f"], more].concat());
    let expected = files_below(Path::new(&one));
    let before = s.names();
    for &n in counts {
        let output = at(s, "out.zarr");
        shares(source, &output, n, more);
        let found = files_below(Path::new(&output));
        assert!(found == expected, "{source} in {n} shares, {more:?}");
        std::fs::remove_dir_all(&output).unwrap();
        assert_eq!(s.names(), before);
    }
}

#[test]
fn shares_of_one_output_are_as_one_process_makes_it() {
    let s = Scratch::new();
    let x = input(&s);
    same_by_shares(&s, &x, &[1, 2, 3, 7], &CHUNKS);
    same_by_shares(&s, &x, &[3], &["--zarr-format", "2", "--chunk-shape", "30,4"]);
    same_by_shares(&s, &x, &[2], &["--shard-shape", "120,6", "--chunk-shape", "30,3"]);
    // More shares than chunks; rows that were chosen.
    same_by_shares(&s, &x, &[3], &["--rows", "5:1000:7"]);
    for format in ["npk", "parquet", "h5", "zarr", "npz"] {
        let source = at(&s, &format!("y.{format}"));
        npk(&["convert", &x, &source]);
        same_by_shares(&s, &source, &[2], &CHUNKS);
    }
    let (a, b) = (at(&s, "y.npk"), at(&s, "y.h5"));
    let joined = at(&s, "joined.zarr");
    let args = ["convert", &a, &b, &joined, "--concat", "--name", "x", "--chunk-shape", "70,6"];
    npk(&args);
    let expected = files_below(Path::new(&joined));
    for share in ["0/2", "1/2"] {
        npk_fails(5, &[&args[..], &["--shard", share]].concat());
        npk(&[&args[..], &["--shard", share, "-f"]].concat());
    }
    npk(&[&args[..], &["--finish", "-f"]].concat());
    assert!(files_below(Path::new(&joined)) == expected);
}

/// Text, nulls, several arrays of several lengths, an empty one, and chunks of fill values alone.
#[test]
fn arrays_of_every_kind_are_shared() {
    let s = Scratch::new();
    let rows = (0..300).map(|i| match i % 7 {
        0 => format!("{i},,\n"),
        _ => format!("{i},text {},{}\n", i % 11, i as f64 / 3.0),
    });
    let csv = format!("a,b,c\n{}", rows.collect::<String>());
    std::fs::write(s.join("t.csv"), csv).unwrap();
    let (csv, parquet) = (at(&s, "t.csv"), at(&s, "t.parquet"));
    npk(&["convert", &csv, &parquet, "--row-group-size", "70"]);
    let more = ["--layout", "columns", "--chunk-shape", "40"];
    same_by_shares(&s, &parquet, &[1, 2, 3, 7], &more);
    // What comes in order belongs to one share, array by array.
    same_by_shares(&s, &csv, &[3], &more);
    let feather = at(&s, "t.feather");
    npk(&["convert", &parquet, &feather]);
    same_by_shares(&s, &feather, &[3], &more);
    for (name, rows) in [("one", 1), ("few", 40), ("none", 0)] {
        npy(&s.join(&format!("{name}.npy")), "|u1", &[rows, 3], &vec![0; rows as usize * 3]);
    }
    npy(&s.join("scalar.npy"), "<f8", &[], &[0; 8]);
    let all = at(&s, "all.npz");
    let files = ["one", "few", "none", "scalar"].map(|name| at(&s, &format!("{name}.npy")));
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    npk(&[&["convert"], &files[..], &[&all]].concat());
    same_by_shares(&s, &all, &[1, 3, 7], &["--chunk-shape", "9,2"]);
}

#[test]
fn an_unfinished_output_is_not_there_and_says_why() {
    let s = Scratch::new();
    let (x, out) = (input(&s), at(&s, "out.zarr"));
    let args = |last: &[&str]| -> Vec<String> {
        let all = [&["convert", &x, &out][..], &CHUNKS, last].concat();
        all.iter().map(|a| a.to_string()).collect()
    };
    let said = npk_fails(3, &args(&["--finish"]));
    assert!(said.contains("no share of it is done"), "{said}");
    npk(&args(&["--shard", "1/3"]));
    let said = npk_fails(3, &["inspect", &out]);
    assert!(said.contains("written in shares") && said.contains("--finish"), "{said}");
    let said = npk_fails(1, &args(&["--finish"]));
    assert!(said.contains("2 of 3 shares are not done: 0, 2"), "{said}");
    npk_fails(1, &args(&["--finish", "-n"]));
    // Done is done, unless it is to be done again.
    let told = npk(&args(&["--shard", "1/3", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["status"], "skipped", "{told}");
    let told: Value = serde_json::from_str(&npk(&args(&["--shard", "0/3", "--json"]))).unwrap();
    assert!(told["status"] == "converted" && told["share"] == 0 && told["of"] == 3, "{told}");
    assert_eq!(told["files"], 11 * 2, "{told}");
    let planned = npk(&args(&["--shard", "2/3", "-n"]));
    assert!(planned.contains("share 2/3 is to be written"), "{planned}");
    npk(&args(&["--shard", "2/3"]));
    // A chunk that went, and one that was cut off.
    let parts = s.names().into_iter().find(|n| n.contains("npk-parts")).unwrap();
    let chunk = s.join(&parts).join("tree/x/c/5/1");
    let bytes = std::fs::read(&chunk).unwrap();
    std::fs::remove_file(&chunk).unwrap();
    let said = npk_fails(1, &args(&["--finish"]));
    assert!(said.contains("share 0/3 is not whole: 21 of its 22 chunks are there"), "{said}");
    std::fs::write(&chunk, &bytes[1..]).unwrap();
    let said = npk_fails(1, &args(&["--finish"]));
    assert!(said.contains("share 0/3 is not whole: its chunks have"), "{said}");
    npk(&args(&["--shard", "0/3", "--force"]));
    let planned = npk(&args(&["--finish", "-n"]));
    assert!(planned.contains("all 3 shares are done") && !Path::new(&out).exists(), "{planned}");
    npk(&args(&["--finish", "--verify"]));
    npk(&["verify", &out]);
    assert_eq!(s.names(), ["out.zarr", "x.npy"]);
    // Once it is whole, it is an output like any other.
    npk_fails(5, &args(&["--shard", "0/3"]));
    npk_fails(5, &args(&["--finish"]));
    npk(&args(&["--finish", "--skip-existing"]));
    npk(&args(&["--shard", "0/3", "--skip-existing"]));
    assert_eq!(s.names(), ["out.zarr", "x.npy"]);
}

#[test]
fn shares_of_another_source_do_not_meet() {
    let s = Scratch::new();
    let (x, out) = (input(&s), at(&s, "out.zarr"));
    npk(&["convert", &x, &out, "--shard", "0/2", "--chunk-shape", "30,4"]);
    // Other options; later the source itself.
    npk(&["convert", &x, &out, "--shard", "1/2", "--chunk-shape", "40,4"]);
    let said = npk_fails(1, &["convert", &x, &out, "--finish", "--chunk-shape", "30,4"]);
    assert!(said.contains("1 of 2 shares are not done: 1"), "{said}");
    let said = npk_fails(5, &["convert", &x, &out, "--finish", "--chunk-shape", "50,4"]);
    assert!(said.contains("from another source, with other options"), "{said}");
    npk(&["convert", &x, &out, "--shard", "1/2", "--chunk-shape", "30,4"]);
    std::fs::remove_file(&x).unwrap();
    npy(Path::new(&x), "<i2", &[1000, 6], &[7; 12000]);
    npk_fails(5, &["convert", &x, &out, "--finish", "--chunk-shape", "30,4"]);
    assert!(!Path::new(&out).exists());
    for share in ["0/2", "1/2"] {
        npk(&["convert", &x, &out, "--shard", share, "--chunk-shape", "30,4"]);
    }
    npk(&["convert", &x, &out, "--finish", "--chunk-shape", "30,4"]);
    npk(&["diff", &x, &out]);
}

#[test]
fn what_has_no_shares_is_told() {
    let s = Scratch::new();
    let (x, out) = (input(&s), at(&s, "out.zarr"));
    npk_fails(2, &["convert", &x, &at(&s, "out.npk"), "--finish"]);
    npk_fails(2, &["convert", &x, &at(&s, "out.zarr.zip"), "--finish"]);
    npk_fails(2, &["convert", &x, &format!("{}/", at(&s, "d")), "--to", "zarr", "--finish"]);
    npk_fails(2, &["convert", &x, &out, "--finish", "--shard", "0/2"]);
    npk_fails(2, &["convert", "-", &out, "--from", "npy", "--shard", "0/2"]);
    npk_fails(2, &["convert", &x, &out, "--shard", "0/2", "--verify"]);
    let report = at(&s, "report");
    let args = ["convert", &x, &out, "--shard", "0/2", "--report", &report, "--certify"];
    npk_fails(2, &args);
    // How many values lists have together, only reading tells.
    let lists = fixture("good/parquet/pyarrow-nested.parquet").display().to_string();
    let lists = ["convert", &lists, &out, "-a", "list_ragged", "--shard", "0/2"];
    let said = npk_fails(4, &lists);
    assert!(said.contains("only known when all of it is read"), "{said}");
    assert!(!s.names().iter().any(|n| n.contains("out.zarr")));
}

fn worker(args: &[String]) -> Child {
    npk_command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Files below the parts of an output.
fn written(s: &Scratch) -> usize {
    let parts = s.names().into_iter().find(|n| n.contains("npk-parts"));
    parts.map_or(0, |parts| tree_len(&s.join(&parts).join("tree")))
}

fn tree_len(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|e| if e.path().is_dir() { tree_len(&e.path()) } else { 1 }).sum()
}

#[test]
fn workers_that_are_killed_or_doubled_do_no_harm() {
    let s = Scratch::new();
    let (x, out, one) = (input(&s), at(&s, "out.zarr"), at(&s, "one.zarr"));
    let convert = |output: &str, last: &[&str]| -> Vec<String> {
        // A chunk a row, in one thread.
        let all = ["convert", &x, output, "--chunk-shape", "1,6", "-j", "1"];
        all.iter().chain(last).map(|a| a.to_string()).collect()
    };
    npk(&convert(&one, &[]));
    for chunks in [0, 1, 50, 300] {
        let mut child = worker(&convert(&out, &["--shard", "0/2"]));
        while written(&s) < chunks && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    npk(&convert(&out, &["--shard", "1/2"]));
    let twins: Vec<Child> = (0..3).map(|_| worker(&convert(&out, &["--shard", "0/2"]))).collect();
    for mut twin in twins {
        assert!(twin.wait().unwrap().success());
    }
    let finishers: Vec<Child> = (0..3).map(|_| worker(&convert(&out, &["--finish"]))).collect();
    let done = finishers.into_iter().map(|mut child| child.wait().unwrap().code());
    // Who comes too late finds it finished, or being finished.
    let codes: Vec<_> = done.collect();
    assert!(codes.contains(&Some(0)) && codes.iter().all(|c| [0, 5].contains(&c.unwrap())));
    assert!(files_below(Path::new(&one)) == files_below(Path::new(&out)), "{codes:?}");
    // A worker that comes after the end.
    npk_fails(5, &convert(&out, &["--shard", "0/2"]));
    assert!(files_below(Path::new(&one)) == files_below(Path::new(&out)));
}

/// The old store stays until the new one is whole.
#[test]
fn force_replaces_a_store_in_one_go() {
    let s = Scratch::new();
    let (x, out) = (input(&s), at(&s, "out.zarr"));
    let old = at(&s, "old.npy");
    npy(Path::new(&old), "<i2", &[3], &[9; 6]);
    npk(&["convert", &old, &out]);
    let before = files_below(Path::new(&out));
    for share in ["0/2", "1/2"] {
        npk_fails(5, &["convert", &x, &out, "--shard", share]);
        npk(&["convert", &x, &out, "--shard", share, "-f"]);
        assert!(files_below(Path::new(&out)) == before);
    }
    npk_fails(5, &["convert", &x, &out, "--finish"]);
    assert!(files_below(Path::new(&out)) == before);
    npk(&["convert", &x, &out, "--finish", "-f"]);
    npk(&["diff", &x, &out]);
    assert_eq!(s.names(), ["old.npy", "out.zarr", "x.npy"]);
}

#[test]
fn shares_of_one_output_have_a_report_and_a_certificate() {
    let s = Scratch::new();
    let (x, out, report) = (input(&s), at(&s, "out.zarr"), at(&s, "report"));
    let convert = |last: &[&str]| {
        let all = [&["convert", &x, &out, "--report", &report][..], &CHUNKS, last].concat();
        npk_any(&all)
    };
    let share = |i: u64| convert(&["--shard", &format!("{i}/3")]);
    assert!(share(0).status.success() && share(2).status.success());
    assert_eq!(npk_any(&["report", &report]).status.code(), Some(1));
    assert_eq!(convert(&["--finish"]).status.code(), Some(1));
    assert!(share(1).status.success());
    let lines = std::fs::read_to_string(s.join("report/share-1-of-3.jsonl")).unwrap();
    assert!(lines.contains("\"share\":1") && lines.contains("\"files\":22"), "{lines}");
    // All shares are done, but not the whole.
    assert_eq!(convert(&["--json"]).status.code(), Some(1));
    let done = convert(&["--finish", "--certify"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let table: Value = serde_json::from_str(&npk(&["report", &report, "--json"])).unwrap();
    assert!(table["complete"] == true, "{table}");
    for certificate in [&report, &at(&s, "report/report.jsonl")] {
        npk(&["verify", "--certificate", certificate]);
        npk(&["verify", "--certificate", certificate, "--sample", "1"]);
    }
    let told = String::from_utf8(convert(&["--json"]).stdout).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["done"] == 1 && told["units"] == 1 && told["missing"] == 0, "{told}");
    std::fs::remove_dir_all(&out).unwrap();
    let told = String::from_utf8(convert(&["--json"]).stdout).unwrap();
    assert!(told.contains("\"missing\":1"), "{told}");
}
