//! Flags and outputs: what exists and is not whole, flags that exclude each other or do nothing,
//! copies by the kernel.

use std::path::Path;

use crate::convert::{npy, safetensors};
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, python};

fn stderr(args: &[&str]) -> String {
    let output = npk_any(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_store_counts_as_done_only_if_its_data_files_are_there_in_full() {
    let s = Scratch::new();
    let (source, store) = (at(&s, "a.npy"), at(&s, "a.npk"));
    npy(Path::new(&source), "<i2", &[2], &[1, 0, 2, 0]);
    npk(&["convert", &source, &store]);
    for flag in ["--skip-existing", "-u"] {
        npk(&["convert", &source, &store, flag]);
    }
    let data = s.join("a.npk/data_a.npkd");
    std::fs::write(&data, [1]).unwrap();
    for broken in ["truncated", "missing"] {
        for flag in ["--skip-existing", "-u"] {
            let error = npk_fails(5, &["convert", &source, &store, flag]);
            assert!(
                error.contains("damaged or incomplete") && error.contains("data_a.npkd"),
                "{broken}: {error}"
            );
        }
        let _ = std::fs::remove_file(&data);
    }
    npk(&["convert", &source, &store, "--force"]);
    npk(&["convert", &source, &store, "--skip-existing"]);
}

/// `--group` is about the source: the output, read again, has none of that name.
#[test]
fn groups_are_of_the_source_alone() {
    let s = Scratch::new();
    let (source, store) = (at(&s, "m.safetensors"), at(&s, "m.npk"));
    safetensors(Path::new(&source), &[("g.x", "I16", &[2], vec![1, 0, 2, 0])]);
    npk(&["convert", &source, &store, "-g", "g", "--verify"]);
    npk(&["convert", &source, &store, "-g", "g", "--skip-existing"]);
}

#[test]
fn flags_that_exclude_each_other() {
    let s = Scratch::new();
    let (source, store) = (at(&s, "a.npy"), at(&s, "a.npk"));
    npy(Path::new(&source), "<i2", &[2], &[1, 0, 2, 0]);
    let excluded: [&[&str]; 6] = [
        &["--skip-existing", "--force"],
        &["--if-exists", "skip", "--force"],
        &["--append", "--force"],
        &["-j", "0"],
        &["-m", "10"],
        &["-o", "-", "--to", "npy", "--json"],
    ];
    for flags in excluded {
        let mut args = vec!["convert", source.as_str()];
        if !flags.contains(&"-o") {
            args.push(&store);
        }
        args.extend(flags);
        let output = npk_command().args(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    assert_eq!(s.names(), ["a.npy"]);
}

#[test]
fn flags_that_do_nothing_are_named_once() {
    let s = Scratch::new();
    let (a, b) = (at(&s, "a.npy"), at(&s, "b.npy"));
    npy(Path::new(&a), "<i2", &[2], &[1, 0, 2, 0]);
    npy(Path::new(&b), "<i2", &[2], &[1, 0, 2, 0]);
    let said = stderr(&[
        "convert",
        &a,
        &b,
        &format!("{}/", at(&s, "o")),
        "--to",
        "npk",
        "--header",
        "yes",
        "-d",
        ";",
        "-c",
        "zstd",
    ]);
    for flag in ["--header", "--delimiter", "--compression"] {
        assert_eq!(said.matches(&format!("warning: {flag} changes nothing")).count(), 1, "{said}");
    }
    let said = stderr(&["convert", &a, &at(&s, "a.csv"), "-d", ";"]);
    assert!(!said.contains("warning"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn a_note_is_said_once_a_run() {
    let s = Scratch::new();
    python(
        s.path(),
        "import h5py\nwith h5py.File('r.h5', 'w') as f:\n  f.attrs['title'] = 'run'\n  f['a'] = [1, 2]\n  f['b'] = [3]\n  f['c'] = [4]",
    );
    let said = stderr(&["convert", &at(&s, "r.h5"), &format!("{}/", at(&s, "o")), "--to", "npy"]);
    assert_eq!(said.matches("title").count(), 1, "{said}");
    assert!(said.contains("3 converted"), "{said}");
}

#[test]
fn prefixes_that_are_nowhere() {
    let s = Scratch::new();
    let m = at(&s, "m.safetensors");
    safetensors(
        Path::new(&m),
        &[("model.x", "I16", &[1], vec![1, 0]), ("head", "I16", &[1], vec![2, 0])],
    );
    let error = npk_fails(3, &["convert", &m, &at(&s, "m.npk"), "--strip-prefix", "modle."]);
    assert!(error.contains("'modle.'") && error.contains("did you mean model.?"), "{error}");
    npk(&["convert", &m, &at(&s, "m.npk"), "--strip-prefix", "model."]);
    assert_eq!(npk(&["list", &at(&s, "m.npk")]), "x\nhead\n");
    // A file for each array: the prefix of some of them.
    npk(&[
        "convert",
        "-q",
        &m,
        &format!("{}/", at(&s, "o")),
        "--to",
        "npy",
        "--strip-prefix",
        "model.",
    ]);
}

/// Bytes that lie ready are never touched: all of them go file to file in the kernel.
#[test]
#[cfg_attr(npk_portable, ignore = "a way of Linux")]
fn bytes_that_lie_ready_are_copied_by_the_kernel() {
    let s = Scratch::new();
    let bytes = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
    let model = at(&s, "m.safetensors");
    let tensors: [(&str, &str, &[u64], Vec<u8>); 3] = [
        ("a", "F32", &[640, 1024], bytes(2_621_440)),
        ("b", "F16", &[1 << 20], bytes(2 << 20)),
        ("c", "I64", &[1 << 18], bytes(8 << 18)),
    ];
    safetensors(Path::new(&model), &tensors);
    let lone = at(&s, "x.npy");
    npy(Path::new(&lone), "<f4", &[512, 1024], &bytes(2 << 20));
    let pairs = [
        ("m.safetensors", "m.npk", "6.50 MiB"),
        ("m.npk", "n.safetensors", "6.50 MiB"),
        ("m.safetensors", "m.pt", "6.50 MiB"),
        ("m.pt", "p.npk", "6.50 MiB"),
        ("m.pt", "p.safetensors", "6.50 MiB"),
        ("x.npy", "x.npk", "2.00 MiB"),
        ("x.npk", "y.npy", "2.00 MiB"),
    ];
    for (from, to, size) in pairs {
        let said = stderr(&["convert", "-v", &at(&s, from), &at(&s, to)]);
        assert!(
            said.contains(&format!("{size} of {size} were copied file to file by the kernel")),
            "{from} to {to}: {said}"
        );
    }
    // What is cast goes through a buffer.
    let said = stderr(&["convert", "-v", &lone, &at(&s, "z.npk"), "--dtype", "float64"]);
    assert!(!said.contains("by the kernel"), "{said}");
}

/// Each array takes the best way that it can have: beside text that is coded in order, numbers that
/// lie ready are copied by the kernel, and what is renamed or has nulls beside it hinders nobody.
#[test]
#[ignore = "asks the real libraries"]
fn numbers_beside_text_are_copied_by_the_kernel() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.feather as f
n = 1 << 17
columns = {f'c{i}': np.arange(n) * i for i in range(3)}
columns['text'] = [f'word {i % 1000}' for i in range(n)]
columns['holes'] = pa.array([None if i % 7 == 3 else i for i in range(n)], pa.int32())
f.write_feather(pa.table(columns), 't.arrow', compression='uncompressed')",
    );
    let from = at(&s, "t.arrow");
    let said = stderr(&["convert", "-v", "--rename", "c1=one", &from, &at(&s, "t.npk")]);
    assert!(said.contains("3.00 MiB of ") && said.contains("by the kernel"), "{said}");
    // The bytes of the text come by way of the disk where their number must be known first.
    let packed = ["--rename", "c1=one", "--strings", "offsets", "-c", "none"];
    npk(&[&["convert", from.as_str(), &at(&s, "t.npz")], &packed[..]].concat());
    python(
        s.path(),
        "import numpy as np
n = 1 << 17
z = np.load('t.npz')
assert (z['c2'] == np.arange(n) * 2).all() and (z['one'] == np.arange(n)).all()
o, b = z['text.offsets'], z['text.bytes'].tobytes()
assert all(b[o[i]:o[i + 1]].decode() == f'word {i % 1000}' for i in range(n)) and len(o) == n + 1
assert (z['holes.valid'] == (np.arange(n) % 7 != 3)).all()
assert (z['holes'] == np.where(z['holes.valid'], np.arange(n), 0)).all()",
    );
    let back = at(&s, "back.arrow");
    npk(&["convert", "--rename", "one=c1", &at(&s, "t.npk"), &back]);
    npk(&["diff", &at(&s, "t.arrow"), &back]);
}

/// What cannot fit on the disk is not begun: the file here has holes only.
#[test]
fn what_cannot_fit_is_not_begun() {
    let s = Scratch::new();
    let bytes = 12u64 << 40;
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({bytes},), }}");
    header += &" ".repeat(128 - 10 - header.len() - 1);
    header.push('\n');
    let mut start = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    start.extend(header.as_bytes());
    std::fs::write(s.join("holes.npy"), start).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(s.join("holes.npy"))
        .unwrap()
        .set_len(128 + bytes)
        .unwrap();
    for out in ["o.npk", "o.safetensors", "o.npy"] {
        let said = npk_fails(1, &["convert", &at(&s, "holes.npy"), &at(&s, out)]);
        assert!(said.contains("12.00 TiB are needed, ") && said.contains(" are free"), "{said}");
        assert!(!s.join(out).exists());
    }
}

#[test]
fn a_file_for_each_array_is_named_as_in_a_store() {
    let s = Scratch::new();
    let (input, long) = (s.join("m.safetensors"), "x".repeat(300));
    let names = ["a/b", "a%2Fb", "B", "b", "nl\nx", "100%", &long];
    let one = |name| (name, "U8", &[1u64][..], vec![7u8]);
    safetensors(&input, &names.map(one));
    npk(&["convert", &input.display().to_string(), &at(&s, "out/"), "--to", "npy"]);
    let mut files: Vec<String> = std::fs::read_dir(s.join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files[..6],
        ["%62.npy", "100%.npy", "B.npy", "a%252Fb.npy", "a%2Fb.npy", "nl%0Ax.npy"]
    );
    assert!(files.len() == 7 && files[6].len() == 255 && files[6].starts_with("xxx"), "{files:?}");
}

/// What was made a moment ago, and is not locked yet, looks dead to a sweep: then it is made again.
#[test]
fn directories_are_made_while_others_sweep() {
    use npk::storage::{Existing, Location};
    use rustix::fs::{FlockOperation, flock};
    let s = Scratch::new();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in std::fs::read_dir(s.path()).unwrap().flatten() {
                    let Ok(directory) = std::fs::File::open(entry.path()) else { continue };
                    if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                        let _ = std::fs::remove_dir(entry.path());
                    }
                }
            }
        });
        let made = (0..3000).try_for_each(|_| {
            let target = Location::local(s.join("a.npk"));
            target.create_dir(Existing::Replace, false, &[]).map(drop)
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        made.unwrap();
    });
    assert!(s.names().is_empty(), "{:?}", s.names());
}

/// A private output stays private when it is replaced; a new one is as the system makes it.
#[test]
fn what_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let s = Scratch::new();
    let source = at(&s, "a.npy");
    npy(Path::new(&source), "<i2", &[2], &[1, 0, 2, 0]);
    for (name, mode) in [("o.csv", 0o600), ("o.h5", 0o640), ("o.npk", 0o700), ("o.zarr", 0o750)] {
        let output = s.join(name);
        npk(&["convert", "-q", &source, &at(&s, name)]);
        std::fs::set_permissions(&output, std::fs::Permissions::from_mode(mode)).unwrap();
        npk(&["convert", "-qf", &source, &at(&s, name)]);
        let found = std::fs::metadata(&output).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}: {found:o}");
    }
}
