//! Batches over several machines: shares, lists, reports, certificates.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::Value;

use crate::convert::npy;
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, npk_peak};

/// The lines of `--json` or of a report.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Small npy files below `in/`.
fn inputs(s: &Scratch, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        let path = s.join(&format!("in/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        npy(&path, "<i2", &[2], &[i as u8, 0, 1, 0]);
    }
}

/// The outputs of a share, below the destination.
fn outputs(s: &Scratch, shard: Option<&str>) -> Vec<String> {
    let (input, out) = (at(s, "in"), format!("{}/", at(s, "out")));
    let mut args = vec!["convert", "-R", &input, "-o", &out, "--to", "npk", "-n", "--json"];
    args.extend(shard.iter().flat_map(|s| ["--shard", s]));
    let told = lines(&npk(&args));
    let units = told.iter().filter(|l| l["summary"] != true);
    units.map(|l| l["output"].as_str().unwrap().strip_prefix(&out).unwrap().to_string()).collect()
}

#[test]
fn shares_are_disjoint_and_together_the_whole() {
    let s = Scratch::new();
    let names: Vec<String> = (0..23).map(|i| format!("d{}/x{i}ü.npy", i % 4)).collect();
    inputs(&s, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let whole: BTreeSet<String> = outputs(&s, None).into_iter().collect();
    assert_eq!(whole.len(), names.len());
    for n in [1, 2, 3, 7, 64] {
        let shares: Vec<Vec<String>> =
            (0..n).map(|i| outputs(&s, Some(&format!("{i}/{n}")))).collect();
        let all: Vec<&String> = shares.iter().flatten().collect();
        assert_eq!(all.len(), whole.len(), "a unit is in two shares of {n}");
        assert_eq!(all.into_iter().cloned().collect::<BTreeSet<_>>(), whole);
        // Another file moves nobody.
        npy(&s.join("in/more.npy"), "<i2", &[1], &[1, 0]);
        let more = outputs(&s, Some(&format!("0/{n}")));
        assert!(shares[0].iter().all(|unit| more.contains(unit)));
        std::fs::remove_file(s.join("in/more.npy")).unwrap();
    }
}

/// As docs/many-machines.md has them.
#[test]
fn the_hash_of_shares_is_pinned() {
    let s = Scratch::new();
    inputs(&s, &["a.npy", "run-7/embeddings.npy", "grün.npy", "sub/model.npy"]);
    for (key, share) in
        [("a.npk", 15), ("run-7/embeddings.npk", 2), ("grün.npk", 14), ("sub/model.npk", 4)]
    {
        let units = outputs(&s, Some(&format!("{share}/16")));
        assert!(units.contains(&key.to_string()), "{key} is not in share {share}: {units:?}");
    }
}

#[test]
fn files_of_one_checkpoint_and_one_output_stay_whole() {
    let s = Scratch::new();
    let parts: Vec<String> = (1..=9).map(|i| format!("m-{i:05}-of-00009.npy")).collect();
    inputs(&s, &parts.iter().map(String::as_str).collect::<Vec<_>>());
    let shares: Vec<usize> =
        (0..4).map(|i| outputs(&s, Some(&format!("{i}/4"))).len()).filter(|&n| n > 0).collect();
    assert_eq!(shares, [9]);
    let (pattern, out) = (format!("{}/*.npy", at(&s, "in")), at(&s, "all.npk"));
    let made: Vec<bool> = (0..3)
        .map(|i| {
            npk(&[
                "convert",
                &pattern,
                &out,
                "--concat",
                "--name",
                "x",
                "--shard",
                &format!("{i}/3"),
            ]);
            std::fs::remove_dir_all(&out).is_ok()
        })
        .collect();
    assert_eq!(made.iter().filter(|m| **m).count(), 1, "{made:?}");
}

#[test]
fn what_is_no_share_is_refused_and_the_environment_names_none() {
    let s = Scratch::new();
    inputs(&s, &["a.npy"]);
    let (input, out) = (at(&s, "in/a.npy"), format!("{}/", at(&s, "out")));
    for shard in ["1/1", "3/2", "0/0", "1", "a/b", "+0/1", "0/2/2", "", "/", "0.0/1"] {
        npk_fails(2, &["convert", &input, &out, "--to", "npk", "--shard", shard]);
    }
    // An empty share is done; `a.npk` is in share 1 of 2.
    npk(&["convert", &input, &out, "--to", "npk", "--shard", "0/2"]);
    assert!(!s.join("out").exists());
    let run = npk_command()
        .args(["convert", &input, &out, "--to", "npk"])
        .env("NPK_SHARD", "0/2")
        .output()
        .unwrap();
    assert!(run.status.success() && s.join("out/a.npk").exists());
}

#[test]
fn a_list_knows_sizes_and_keeps_folders() {
    let s = Scratch::new();
    inputs(&s, &["a/x.npy", "b/x.npy", "b/y\t7.npy"]);
    let size = std::fs::metadata(s.join("in/a/x.npy")).unwrap().len();
    let run = |list: &str, more: &[&str]| {
        std::fs::write(s.join("list"), list).unwrap();
        let args = [&["convert", "-T", "../list", "-o", "../out/", "--to", "npk"], more].concat();
        let output = npk_command().args(args).current_dir(s.join("in")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    };
    let (code, said) = run("a/x.npy\nb/x.npy\n", &[]);
    assert!(code == 2 && said.contains("would both become") && said.contains("-R"), "{said}");
    assert!(!s.join("out").exists());
    let (code, said) = run(&format!("a/x.npy\t{size}\nb/x.npy\t{size}\t\"etag\"\n"), &["-R"]);
    assert!(
        code == 0 && s.join("out/a/x.npk").exists() && s.join("out/b/x.npk").exists(),
        "{said}"
    );
    // A tab in a name is no column.
    let (code, said) = run("b/y\t7.npy\n", &[]);
    assert!(code == 0 && s.join("out/y\t7.npk").exists(), "{said}");
    let (code, said) = run("../in/a/x.npy\n", &["-R", "-f"]);
    assert!(code == 2 && said.contains(".."), "{said}");
    // Something else is there than what was listed.
    let (code, said) = run(&format!("a/x.npy\t{}\n", size + 1), &["-f"]);
    assert!(code == 3 && said.contains(&size.to_string()), "{code} {said}");
}

#[test]
fn a_long_list_does_not_sit_in_memory() {
    let s = Scratch::new();
    let mut list = std::io::BufWriter::new(std::fs::File::create(s.join("list")).unwrap());
    let folder = "nowhere/a-folder-with-a-long-name/and-another-one-below-it/and-one-more";
    for i in 0..200_000 {
        writeln!(list, "{folder}/part-{i:09}.npy").unwrap();
    }
    list.into_inner().unwrap();
    let (list, out) = (at(&s, "list"), format!("{}/", at(&s, "out")));
    let args = ["convert", "-T", &list, "-o", &out, "--to", "npk", "-R", "--fail-fast", "-j", "2"];
    let (code, said, peak) = npk_peak(&args);
    assert_eq!(code, 1, "{said}");
    // Of a million names only 8 bytes each, in a table that is at least half full, are held.
    assert!(peak < 64 << 20, "{peak} bytes for 200,000 names");
}

#[test]
fn arrays_become_files_within_a_share_only() {
    let s = Scratch::new();
    inputs(&s, &["a.npy", "b.npy"]);
    let (a, b, m, n) = (at(&s, "in/a.npy"), at(&s, "in/b.npy"), at(&s, "m.npz"), at(&s, "n.npz"));
    npk(&["convert", &a, &b, &m]);
    std::fs::copy(&m, &n).unwrap();
    let out = format!("{}/", at(&s, "out"));
    // One source: its share makes all its files.
    for share in ["0/2", "1/2"] {
        npk(&["convert", &m, "-o", &out, "--to", "npy", "--shard", share]);
    }
    assert!(s.join("out/a.npy").exists() && s.join("out/b.npy").exists());
    // Several: the files of one could be those of another one, in another share.
    let run = npk_any(&["convert", &m, &n, "-o", &out, "--to", "npy", "--shard", "0/2", "-f"]);
    let other = npk_any(&["convert", &m, &n, "-o", &out, "--to", "npy", "--shard", "1/2", "-f"]);
    assert_eq!(BTreeSet::from([run.status.code(), other.status.code()]).last(), Some(&Some(1)));
    // A list is looked into file by file, and a clash is found all the same.
    std::fs::write(s.join("list"), format!("{m}\n{n}\n")).unwrap();
    let said = npk_fails(
        1,
        &["convert", "-T", &at(&s, "list"), "-o", &out, "--to", "npy", "-f", "-j", "1"],
    );
    assert!(said.contains("would both become"), "{said}");
}
