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
    let said = npk_fails(2, &["convert", &input, &out, "--to", "npk", "--shard", "2/2"]);
    assert!(said.contains("the last of 2 is 1/2"), "{said}");
    // A report is a directory.
    let report = ["--shard", "0/2", "--report", &input];
    npk_fails(2, &[&["convert", &input, "-o", &out, "--to", "npk"][..], &report].concat());
    npk_fails(2, &["report", &input]);
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
#[ignore = "asks the real libraries"]
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

/// `npk convert -R in out/ --to npk` with a report.
fn convert_args(s: &Scratch, more: &[&str]) -> Vec<String> {
    let (input, out, report) = (at(s, "in"), format!("{}/", at(s, "out")), at(s, "report"));
    let args = ["convert", "-R", &input, "-o", &out, "--to", "npk", "--report", &report];
    args.iter().chain(more).map(|a| a.to_string()).collect()
}

/// The lines of a report, and its final one.
fn report(s: &Scratch, name: &str) -> (Vec<Value>, Value) {
    let mut all = lines(&std::fs::read_to_string(s.join("report").join(name)).unwrap());
    let last = all.pop().unwrap();
    assert_eq!(last["final"], true, "{last}");
    (all, last)
}

fn names_in(s: &Scratch, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(s.join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_has_a_line_for_each_unit_and_a_final_one() {
    let s = Scratch::new();
    inputs(&s, &["a.npy", "b.npy", "sub/c.npy"]);
    std::fs::write(s.join("in/bad.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let output = npk_any(&convert_args(&s, &[]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(names_in(&s, "report"), ["share-0-of-1.jsonl"]);
    let (units, last) = report(&s, "share-0-of-1.jsonl");
    assert_eq!(units.len(), 4);
    let bad = units.iter().find(|l| l["unit"] == "bad.npk").unwrap();
    assert!(bad["status"] == "failed" && bad["exit_code"] == 7, "{bad}");
    let good = units.iter().find(|l| l["unit"] == "sub/c.npk").unwrap();
    assert_eq!(good["status"], "done", "{good}");
    assert!(good["sources"][0]["path"].as_str().unwrap().ends_with("sub/c.npy"), "{good}");
    let size = std::fs::metadata(s.join("in/sub/c.npy")).unwrap().len();
    assert_eq!(good["sources"][0]["bytes"], size);
    assert!(good["sources"][0]["modified_ns"].as_u64() > Some(0) && good["mark"]["bytes"].is_u64());
    assert!(last["units"] == 4 && last["done"] == 3 && last["failed"] == 1, "{last}");
    assert_eq!(last["destination"], at(&s, "out"));
    let table = npk_any(&["report", &at(&s, "report")]);
    assert_eq!(table.status.code(), Some(1));
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("done") && text.contains("failed: bad.npk: "), "{text}");
    let json = npk_any(&["report", &at(&s, "report"), "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["complete"] == false && json["failures"][0]["unit"] == "bad.npk", "{json}");
    // The same command again mends what it can.
    inputs(&s, &["bad.npy"]);
    npk(&convert_args(&s, &["--skip-existing"]));
    npk(&["report", &at(&s, "report")]);
    npk_fails(3, &["report", &at(&s, "in")]);
    npk_fails(2, &convert_args(&s, &["--shard", "0/2"]));
    npk_fails(2, &["convert", "x.npy", "y.npk", "--certify"]);
}

#[test]
fn shares_are_reconciled() {
    let s = Scratch::new();
    let names: Vec<String> = (0..12).map(|i| format!("x{i}.npy")).collect();
    inputs(&s, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let shares = ["0/3", "1/3", "2/3"].map(|share| outputs(&s, Some(share)));
    for share in ["0/3", "2/3"] {
        npk(&convert_args(&s, &["--shard", share]));
    }
    let reconcile = || {
        let output = npk_any(&convert_args(&s, &["--json"]));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told)
    };
    let (code, told) = reconcile();
    assert_eq!(code, 1);
    assert_eq!(told["missing_shares"], serde_json::json!([1]));
    assert_eq!(told["missing"], shares[1].len(), "{told}");
    assert!(told["missing_units"].as_array().unwrap().contains(&shares[1][0].as_str().into()));
    assert_eq!(npk_any(&["report", &at(&s, "report")]).status.code(), Some(1));
    let said = npk_fails(1, &convert_args(&s, &[]));
    let missing = format!("{}: it is missing: share 1/3 makes it", shares[1][0]);
    assert!(said.contains(&missing) && said.contains("run --shard 1/3 and so on"), "{said}");
    npk(&convert_args(&s, &["--shard", "1/3"]));
    let (code, told) = reconcile();
    assert!(code == 0 && told["done"] == 12 && told["missing"] == 0, "{told}");
    assert_eq!(report(&s, "report.jsonl").0.len(), 12);
    npk(&["report", &at(&s, "report")]);
    // An output that has gone, a source that has gone, and an output of nobody.
    std::fs::remove_dir_all(s.join("out").join(&shares[0][0])).unwrap();
    let gone = &shares[2][0];
    std::fs::remove_file(s.join("in").join(gone.replace(".npk", ".npy"))).unwrap();
    std::fs::create_dir(s.join("out/alien.npk")).unwrap();
    let (code, told) = reconcile();
    assert_eq!(code, 1);
    assert_eq!(told["missing_units"], serde_json::json!([shares[0][0]]));
    let extra: BTreeSet<&str> =
        told["extra_units"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(extra, BTreeSet::from(["alien.npk", gone]));
}

/// A worker is stopped at its n-th write into the report, or while it converts; another one goes
/// on.
#[test]
fn a_worker_that_was_killed_ends_with_the_same_report() {
    let names: Vec<String> = (0..30).map(|i| format!("x{i}.npy")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let whole = Scratch::new();
    inputs(&whole, &names);
    npk(&convert_args(&whole, &["--certify"]));
    let (expected, last) = report(&whole, "share-0-of-1.jsonl");
    let strip = |lines: &[Value]| -> Vec<Value> {
        // Another folder, other times of the sources.
        let mut lines = lines.to_vec();
        for line in &mut lines {
            for sources in ["/sources", "/certified/sources"] {
                let source = line.pointer_mut(sources).unwrap()[0].as_object_mut().unwrap();
                source.remove("modified_ns");
                source.remove("path");
            }
        }
        lines
    };
    for lines_before in [0, 1, 7, 29] {
        let s = Scratch::new();
        inputs(&s, &names);
        let mut child = npk_command()
            .args(convert_args(&s, &["--certify", "--skip-existing", "-j", "1"]))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let written = || {
            let part = std::fs::read_dir(s.join("report")).ok()?.find_map(|e| {
                let path = e.ok()?.path();
                path.extension().is_some_and(|e| e == "part").then_some(path)
            })?;
            Some(std::fs::read_to_string(part).ok()?.lines().count())
        };
        while written().is_none_or(|n| n < lines_before) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        npk(&convert_args(&s, &["--certify", "--skip-existing"]));
        assert_eq!(names_in(&s, "report"), ["share-0-of-1.jsonl"], "after {lines_before}");
        let (again, last_again) = report(&s, "share-0-of-1.jsonl");
        assert_eq!(strip(&again), strip(&expected), "after {lines_before}");
        for key in ["units", "done", "failed", "bytes", "changed"] {
            assert_eq!(last[key], last_again[key]);
        }
        // Of what is done, every further run says the same, to the byte.
        let before = std::fs::read(s.join("report/share-0-of-1.jsonl")).unwrap();
        npk(&convert_args(&s, &["--certify", "--skip-existing"]));
        assert!(before == std::fs::read(s.join("report/share-0-of-1.jsonl")).unwrap());
    }
}

#[test]
fn two_workers_of_one_share_do_no_harm() {
    let s = Scratch::new();
    let names: Vec<String> = (0..40).map(|i| format!("x{i}.npy")).collect();
    inputs(&s, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let start = || {
        npk_command()
            .args(convert_args(&s, &["--skip-existing", "--shard", "0/1"]))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    for worker in [start(), start(), start()] {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (units, last) = report(&s, "share-0-of-1.jsonl");
    assert!(units.len() == 40 && last["failed"] == 0, "{last}");
    assert_eq!(names_in(&s, "report"), ["share-0-of-1.jsonl"]);
    assert_eq!(names_in(&s, "out").len(), 40);
}

#[test]
fn a_certificate_holds_for_every_division_and_in_every_format() {
    let s = Scratch::new();
    let names: Vec<String> = (0..9).map(|i| format!("d{}/x{i}.npy", i % 2)).collect();
    inputs(&s, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut roots = BTreeSet::new();
    for n in [1, 2, 5] {
        for i in 0..n {
            npk(&convert_args(&s, &["--certify", "--shard", &format!("{i}/{n}")]));
        }
        let told: Value =
            serde_json::from_str(&npk(&["report", "--json", &at(&s, "report")])).unwrap();
        roots.insert(told["root"].as_str().unwrap().to_string());
        if n == 5 {
            npk(&convert_args(&s, &[]));
            let (units, last) = report(&s, "report.jsonl");
            assert_eq!(last["root"], told["root"]);
            assert_eq!(last["changed"], 0);
            let line = &units[0]["certified"];
            let out = crate::support::inspect(
                &s.join(&format!("out/{}", line["output"].as_str().unwrap())),
            );
            assert_eq!(line["arrays"][0]["sha256"], out["arrays"][0]["checksum"]);
            assert_eq!(line["sources"][0]["arrays"][0]["sha256"], out["arrays"][0]["checksum"]);
            break;
        }
        std::fs::remove_dir_all(s.join("out")).unwrap();
        std::fs::remove_dir_all(s.join("report")).unwrap();
    }
    assert_eq!(roots.len(), 1, "{roots:?}");
    let (report, file) = (at(&s, "report"), at(&s, "report/report.jsonl"));
    for certificate in [&report, &file] {
        npk(&["verify", "--certificate", certificate]);
        npk(&["verify", "--certificate", certificate, "--sample", "2"]);
    }
    // Elsewhere, as another format.
    let (out, other) = (at(&s, "out"), format!("{}/", at(&s, "other")));
    npk(&["convert", "-R", &out, "-o", &other, "--to", "safetensors"]);
    let told: Value =
        serde_json::from_str(&npk(&["verify", "--certificate", &file, &other, "--json"])).unwrap();
    assert!(told["valid"] == true && told["checked"] == 9, "{told}");
    // What is changed, on either side, shows.
    npy(&s.join("y.npy"), "<i2", &[2], &[9, 9, 9, 9]);
    npk(&["convert", &at(&s, "y.npy"), "-f", &at(&s, "other/d0/x0.safetensors"), "--name", "x0"]);
    let said = npk_fails(7, &["verify", "--certificate", &file, &other]);
    assert!(said.contains("x0.safetensors: x0: its SHA-256 is"), "{said}");
    assert!(!said.contains('"'), "{said}");
    std::fs::copy(s.join("y.npy"), s.join("in/d1/x1.npy")).unwrap();
    let said = npk_fails(7, &["verify", "--certificate", &report]);
    assert!(said.contains("in/d1/x1.npy"), "{said}");
    // And so does a certificate that was changed.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"identical\":true", "\"identical\":false", 1)).unwrap();
    let said = npk_fails(7, &["verify", "--certificate", &file]);
    assert!(said.contains("the certificate was changed"), "{said}");
    npk_fails(3, &["verify", "--certificate", &at(&s, "in")]);
}

/// What is certified may be whole, and still not be all of the batch.
#[test]
fn a_certificate_tells_what_it_lacks() {
    let s = Scratch::new();
    inputs(&s, &["x0.npy", "x1.npy", "x2.npy", "x3.npy", "x4.npy", "x5.npy"]);
    std::fs::write(s.join("in/bad.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let verify = |more: &[&str]| {
        let output = npk_any(&[&["verify", "--json", "--certificate"], more].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told)
    };
    let convert = |share: &str, more: &[&str]| {
        let args = [&["--shard", share, "--skip-existing"], more].concat();
        npk_any(&convert_args(&s, &args)).status.code().unwrap()
    };
    let codes = ["0/2", "1/2"].map(|share| convert(share, &["--certify"]));
    assert!(codes == [0, 1] || codes == [1, 0], "{codes:?}");
    let report = at(&s, "report");
    let (code, told) = verify(&[&report]);
    assert!(code == 1 && told["uncertified"] == 1 && told["valid"] == false, "{told}");
    assert!(told["missing_shares"].as_array().unwrap().is_empty() && told["units"] == 6, "{told}");
    std::fs::remove_file(s.join("in/bad.npy")).unwrap();
    assert_eq!((convert("0/2", &["--certify"]), convert("1/2", &["--certify"])), (0, 0));
    assert_eq!(verify(&[&report]).0, 0);
    // A share whose report is not there: alone the other one is whole, all of the batch is not.
    std::fs::remove_file(s.join("report/share-1-of-2.jsonl")).unwrap();
    let (code, told) = verify(&[&report]);
    assert!(code == 1 && told["missing_shares"] == serde_json::json!([1]), "{told}");
    // However many shares there are to be, they need not fit into the memory.
    let many = at(&s, "many");
    std::fs::create_dir(&many).unwrap();
    let name = format!("many/share-0-of-{}.jsonl", u64::MAX);
    std::fs::copy(s.join("report/share-0-of-2.jsonl"), s.join(&name)).unwrap();
    let (code, told) = verify(&[&many]);
    assert!(code == 1 && told["missing_shares"][999] == 1000, "{told}");
    assert_eq!(npk_any(&["report", &many]).status.code(), Some(1));
    assert_eq!(verify(&[&at(&s, "report/share-0-of-2.jsonl")]).0, 0);
    assert_eq!(convert("1/2", &[]), 0);
    let (code, told) = verify(&[&report]);
    let [rest, certified] = ["uncertified", "units"].map(|key| told[key].as_u64().unwrap());
    assert!(code == 1 && rest > 0 && rest + certified == 6, "{told}");
    // From elsewhere a source that is named from where the run was is not found.
    let relative = npk_command()
        .args(["convert", "-R", "in", "out2/", "--to", "npk", "--report", "r", "--certify"])
        .current_dir(s.path())
        .output()
        .unwrap();
    assert!(relative.status.success(), "{relative:?}");
    let said = npk_fails(3, &["verify", "--certificate", &at(&s, "r")]);
    assert!(said.contains("where npk convert ran"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_manifests_are_what_their_schedulers_take() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(crate::support::python_path())
        .args(["tests/docs/manifests.py", "docs/many-machines.md", "tests/docs/kubernetes.json"])
        .current_dir(root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("npk convert").count(), 2);
    said.lines().for_each(manifest_runs);
}

/// The command of a container, for all of its indices, though fewer of them than the page has.
#[cfg(feature = "remote")]
fn manifest_runs(command: &str) {
    let server = crate::remote::server::Server::new();
    let mut list = String::new();
    for i in 0..20u8 {
        let key = format!("in/x{i}.npy");
        server.put(&format!("../data/{key}"), &crate::remote::commands::npy(usize::from(i) + 1));
        list += &format!("s3://data/{key}\n");
    }
    server.put("../data/list", list.as_bytes());
    std::fs::create_dir(server.path("../out")).unwrap();
    let npk = npk_command();
    let folder = std::path::Path::new(npk.get_program()).parent().unwrap();
    let path = std::env::join_paths([folder, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    for index in 0..4 {
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &command.replace("/64", "/4")])
            .envs(server.environment())
            .env("PATH", &path)
            .env("JOB_COMPLETION_INDEX", index.to_string())
            .env("AWS_BATCH_JOB_ARRAY_INDEX", index.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    let told = crate::remote::commands::works(&server, &["report", "s3://out/report", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["complete"] == true && told["done"] == 20 && told["of"] == 4, "{told}");
}

#[cfg(not(feature = "remote"))]
fn manifest_runs(_command: &str) {}
