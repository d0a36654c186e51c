//! Interrupts, kills and failing disks at every operation on files: the old output or the new one
//! is there, whole, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::faults::{Fault, npk_with};
use crate::support::{Scratch, npk_command, python};

/// Every file below a folder with its bytes, every folder with none.
fn bytes_below(path: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(path: &Path, below: &str, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                all.insert(format!("{name}/"), Vec::new());
                walk(&entry.path(), &format!("{name}/"), all);
            } else {
                all.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(path, "", &mut all);
    all
}

/// The same without what differs from run to run.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = bytes_below(path);
    for (name, bytes) in &mut all {
        if name.ends_with("metadata.npkm") {
            without_times(bytes);
        }
        let member = bytes
            .windows(13)
            .position(|w| w == b"metadata.npkm")
            .filter(|_| name.ends_with(".npkg"));
        if let Some(at) = member {
            // The checksum at the end is of the times, too.
            bytes.truncate(bytes.len() - 4);
            without_times(&mut bytes[at + 13 + 16..]);
        }
    }
    all
}

/// Metadata differ from run to run by the time of writing.
fn without_times(metadata: &mut [u8]) {
    let number = |b: &[u8]| b.iter().rev().fold(0usize, |n, &b| n << 8 | b as usize);
    let mut at = 20;
    while at < metadata.len() {
        at += 4 + number(&metadata[at..at + 4]);
        at += 4 + 8 * number(&metadata[at..at + 4]);
        at += 4 + number(&metadata[at..at + 4]);
        metadata[at..at + 8].fill(0);
        at += 8 + 8 + 1 + 1 + 4 + 8 + 8 + 1;
    }
}

/// Two tables with numbers, text, nulls and times, as Parquet files `old` and `new`.
fn sources(s: &Scratch) {
    python(
        s.path(),
        r#"
import pyarrow as pa, pyarrow.parquet as pq
def table(first, rows, words):
    ids = list(range(first, first + rows))
    return pa.table({
        'id': pa.array(ids, pa.int32()),
        'age': pa.array([None if i % 3 == 0 else i for i in ids], pa.int16()),
        'city': pa.array([words[i % len(words)] for i in ids]),
    })
pq.write_table(table(0, 5, ['Oslo', 'Rome']), 'old.parquet')
pq.write_table(table(100, 7, ['Bern', 'Rome', 'Lima']), 'new.parquet')
"#,
    );
}

/// One way of writing: what is there before, and what does it.
struct Case {
    /// The output, below the folder that is looked at.
    output: &'static str,
    /// What makes the output that is there before, if any.
    before: Option<&'static [&'static str]>,
    /// The run to which something happens.
    run: &'static [&'static str],
}

/// Fresh, replaced, merged, appended.
const CASES: &[Case] = &[
    Case {
        output: "o.npk",
        before: None,
        run: &["convert", "-q", "new.parquet", "out/o.npk", "--layout", "columns"],
    },
    Case {
        output: "o.npk",
        before: Some(&["convert", "-q", "old.parquet", "out/o.npk", "--layout", "columns"]),
        run: &["convert", "-q", "new.parquet", "out/o.npk", "--layout", "columns", "--force"],
    },
    Case {
        output: "o.npk",
        before: Some(&["convert", "-q", "old.parquet", "out/o.npk", "--layout", "columns"]),
        run: &["convert", "-q", "new.parquet", "out/o.npk", "--layout", "columns", "--append"],
    },
    Case {
        output: "o.npk",
        before: Some(&[
            "convert",
            "-q",
            "old.parquet",
            "out/o.npk",
            "--layout",
            "columns",
            "-a",
            "id",
            "-a",
            "city",
        ]),
        run: &[
            "convert",
            "-q",
            "new.parquet",
            "out/o.npk",
            "--layout",
            "columns",
            "-a",
            "id",
            "-a",
            "city",
            "--append",
        ],
    },
    Case {
        output: "o.npk",
        before: Some(&[
            "convert",
            "-q",
            "old.parquet",
            "out/o.npk",
            "--layout",
            "columns",
            "-a",
            "id",
            "-a",
            "age",
        ]),
        run: &[
            "convert",
            "-q",
            "new.parquet",
            "out/o.npk",
            "--layout",
            "columns",
            "-a",
            "age",
            "-a",
            "city",
            "--if-exists",
            "merge",
            "--force",
        ],
    },
    Case {
        output: "o.npkg",
        before: None,
        run: &["convert", "-q", "new.parquet", "out/o.npkg", "-c", "none", "--layout", "columns"],
    },
    Case {
        output: "o.npkg",
        before: Some(&[
            "convert",
            "-q",
            "old.parquet",
            "out/o.npkg",
            "-c",
            "none",
            "--layout",
            "columns",
        ]),
        run: &[
            "convert",
            "-q",
            "new.parquet",
            "out/o.npkg",
            "-c",
            "none",
            "--layout",
            "columns",
            "--force",
        ],
    },
    Case {
        output: "o.zarr",
        before: None,
        run: &["convert", "-q", "new.parquet", "out/o.zarr", "--layout", "columns"],
    },
    Case {
        output: "o.zarr",
        before: Some(&["convert", "-q", "old.parquet", "out/o.zarr", "--layout", "columns"]),
        run: &["convert", "-q", "new.parquet", "out/o.zarr", "--layout", "columns", "--force"],
    },
];

/// What the case's folder holds before, and after a run to which nothing happens.
struct Known {
    before: BTreeMap<String, Vec<u8>>,
    after: BTreeMap<String, Vec<u8>>,
    /// The bytes of the files before.
    files: BTreeMap<String, Vec<u8>>,
}

/// Makes the case's folder as it was before.
fn prepare(s: &Scratch, known: &Known) {
    std::fs::remove_dir_all(s.join("out")).unwrap();
    std::fs::create_dir(s.join("out")).unwrap();
    for (name, bytes) in &known.files {
        let path = s.join("out").join(name);
        if name.ends_with('/') {
            std::fs::create_dir(path).unwrap()
        } else {
            std::fs::write(path, bytes).unwrap()
        }
    }
}

fn run(s: &Scratch, args: &[&str]) {
    let output = npk_command().args(args).current_dir(s.path()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn known(s: &Scratch, case: &Case) -> Known {
    let _ = std::fs::remove_dir_all(s.join("out"));
    std::fs::create_dir(s.join("out")).unwrap();
    if let Some(before) = case.before {
        run(s, before);
    }
    let (files, before) = (bytes_below(&s.join("out")), contents(&s.join("out")));
    run(s, case.run);
    let after = contents(&s.join("out"));
    assert!(after.keys().any(|name| name.starts_with(case.output)) && before != after);
    Known { before, after, files }
}

/// Runs the case again and again with `fault` at its 1st, 2nd … operation.
fn sweep(
    s: &Scratch,
    case: &Case,
    known: &Known,
    fault: Fault,
    check: &mut dyn FnMut(usize, std::process::Output),
) {
    for n in 1.. {
        prepare(s, known);
        let Some(output) = npk_with(s.path(), "out", fault, n, case.run) else {
            assert!(n > 5, "{:?}: only {n} operations", case.run);
            return;
        };
        check(n, output);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn an_interrupt_at_any_operation_leaves_nothing() {
    let s = Scratch::new();
    sources(&s);
    for case in CASES {
        let known = known(&s, case);
        let (mut old, mut new) = (0, 0);
        sweep(&s, case, &known, Fault::Interrupt, &mut |n, output| {
            let found = contents(&s.join("out"));
            let code = output.status.code();
            let names: Vec<&String> = found.keys().collect();
            if found == known.after {
                // What comes after the commit does not take it back.
                assert!(matches!(code, Some(0 | 130)), "{:?} at {n}: {output:?}", case.run);
                new += 1;
            } else {
                assert!(found == known.before, "{:?} at {n}: {names:?} {output:?}", case.run);
                assert_eq!(code, Some(130), "{:?} at {n}: {output:?}", case.run);
                old += 1;
            }
        });
        assert!(old > 0, "{:?}: {old} old, {new} new", case.run);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn a_failure_at_any_operation_leaves_the_old_output_or_the_new_one() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let s = Scratch::new();
    sources(&s);
    for case in CASES {
        let known = known(&s, case);
        for fault in [Fault::Fails(EIO), Fault::FailsFromNowOn(ENOSPC)] {
            sweep(&s, case, &known, fault, &mut |n, output| {
                let found = contents(&s.join("out"));
                let names: Vec<&String> = found.keys().collect();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(
                    !told.contains("panicked") && output.status.code().is_some_and(|c| c != 101),
                    "{:?} at {n}: {told}",
                    case.run
                );
                // The side file of an append may wait for its name; readers find it.
                let mut shown = BTreeMap::new();
                for (name, bytes) in &found {
                    if name.starts_with("o.npk/.npk-append-side-")
                        && found["o.npk/metadata.npkm"] == known.after["o.npk/metadata.npkm"]
                    {
                        shown.insert("o.npk/npk.json".to_string(), bytes.clone());
                    } else if !name.contains(".npk-") {
                        shown.entry(name.clone()).or_insert_with(|| bytes.clone());
                    }
                }
                if shown != known.after {
                    assert!(
                        shown == known.before,
                        "{:?} {fault:?} at {n}: {names:?} {told}",
                        case.run
                    );
                    assert!(!output.status.success(), "{:?} {fault:?} at {n}", case.run);
                    assert!(told.contains("error"), "{:?} {fault:?} at {n}: {told}", case.run);
                    // The next run succeeds, whatever could not be removed.
                    run(&s, case.run);
                } else {
                    // The next runs sweep.
                    run(&s, &["convert", "-q", "old.parquet", "out/other.csv"]);
                    std::fs::remove_file(s.join("out/other.csv")).unwrap();
                    if case.output == "o.npk" {
                        run(&s, &["verify", "-q", "out/o.npk"]);
                    }
                }
                let found = contents(&s.join("out"));
                assert!(
                    found == known.after,
                    "{:?} {fault:?} at {n}: {:?} {told}",
                    case.run,
                    found.keys()
                );
            });
        }
    }
}
