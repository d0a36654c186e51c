//! What patterns, directories and lists find, seen through the built binary.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::convert::{npy, safetensors};
use crate::support::faults::{Fault, npk_hit};
use crate::support::{Scratch, at, npk, npk_command, python};

/// Runs in a folder: the exit code, stdout, stderr.
pub fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = npk_command().args(args).current_dir(folder).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn arrays(folder: &Path, paths: &[&str]) {
    for path in paths {
        std::fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        npy(&folder.join(path), "<i2", &[1], &[1, 0]);
    }
}

#[test]
fn a_name_that_is_not_utf8_costs_its_own_file_only() {
    let scratch = Scratch::new();
    let folder = scratch.join("in");
    arrays(&folder, &["a.npy", "c.npy", "sub/d.npy"]);
    let odd = folder.join(OsStr::from_bytes(b"b\xff.npy"));
    npy(&odd, "<i2", &[1], &[1, 0]);
    std::fs::create_dir(folder.join(OsStr::from_bytes(b"dir\xfe"))).unwrap();
    let mut list = b"a.npy\n".to_vec();
    list.extend_from_slice(b"b\xff.npy\r\nc.npy\n");
    std::fs::write(folder.join("list"), list).unwrap();
    for (args, failed) in
        [(&["*.npy"][..], 1), (&["-R", "."], 2), (&["-T", "list"], 1), (&["*.npy", "--json"], 1)]
    {
        let (code, out, said) =
            run(&folder, &[&["convert", "-o", "out/", "--to", "npk"], args].concat());
        assert_eq!(code, 1, "{args:?}: {said}");
        assert!(said.contains("b\u{fffd}.npy: its name is not UTF-8"), "{said}");
        assert!(!said.contains("decoded") && !said.contains("panic"), "{said}");
        assert!(said.contains(&format!("{failed} failed")), "{said}");
        assert!(
            names(&folder.join("out")).starts_with(&["a.npk".into(), "c.npk".into()]),
            "{args:?}"
        );
        assert!(!args.contains(&"--json") || out.contains("\"failed\""), "{out}");
        std::fs::remove_dir_all(folder.join("out")).unwrap();
    }
    // What goes into one output goes there as a whole.
    let (code, _, said) = run(&folder, &["convert", "*.npy", "one.npk"]);
    assert_eq!(code, 3, "{said}");
    assert!(!folder.join("one.npk").exists());
}

#[test]
fn patterns_find_what_shells_find() {
    let scratch = Scratch::new();
    arrays(
        scratch.path(),
        &[
            "a.npy",
            "a2.npy",
            "a10.npy",
            ".h.npy",
            "p/b.npy",
            "p/q/c.npy",
            ".hidden/d.npy",
            "p/.r/e.npy",
            "x[1].npy",
        ],
    );
    std::os::unix::fs::symlink("p", scratch.join("link")).unwrap();
    let found = |pattern: &str| -> Vec<String> {
        let (code, out, said) =
            run(scratch.path(), &["convert", pattern, "out/", "--to", "npk", "--json", "-f", "-q"]);
        assert!(code == 0 || code == 3, "{pattern}: {said}");
        let source = |line: &str| -> Option<String> {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some(line["sources"][0].as_str()?.to_string())
        };
        let mut all: Vec<String> = out.lines().filter_map(source).collect();
        all.sort();
        all
    };
    assert_eq!(found("a*.npy"), ["a.npy", "a10.npy", "a2.npy"]);
    assert_eq!(found("a?.npy"), ["a2.npy"]);
    assert_eq!(found("./a?.npy"), ["./a2.npy"]);
    assert_eq!(found("a[!2]*.npy"), ["a10.npy"]);
    assert_eq!(found(".*.npy"), [".h.npy"]);
    assert_eq!(found("*/b.npy"), ["link/b.npy", "p/b.npy"]);
    assert_eq!(found("p/**/*.npy"), ["p/b.npy", "p/q/c.npy"]);
    assert_eq!(found("p/**/**/c.npy"), ["p/q/c.npy"]);
    assert_eq!(found("p/.*/e.npy"), ["p/.r/e.npy"]);
    assert_eq!(found("x[[]1].npy"), ["x[1].npy"]);
    assert_eq!(found("x[1].npy"), ["x[1].npy"]);
    assert_eq!(
        found(&format!("{}/p/*.npy", scratch.path().display())),
        [format!("{}/p/b.npy", scratch.path().display())]
    );
    assert_eq!(found("none*"), [""; 0]);
    let (code, _, said) = run(scratch.path(), &["convert", "p/a**b", "out/", "--to", "npk"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn shards_come_all_together() {
    let scratch = Scratch::new();
    let sub = scratch.join("sh");
    std::fs::create_dir(&sub).unwrap();
    for i in [1, 3] {
        let path = sub.join(format!("model-0000{i}-of-00003.safetensors"));
        safetensors(&path, &[(&format!("l{i}"), "F32", &[1], 1f32.to_le_bytes().to_vec())]);
    }
    let one = "sh/model-00001-of-00003.safetensors";
    for sources in [&["sh/*.safetensors"][..], &[one, "sh/model-00003-of-00003.safetensors"]] {
        let (code, _, said) = run(scratch.path(), &[&["convert", "-o", "o.npk"], sources].concat());
        assert_eq!(code, 3, "{said}");
        assert!(
            said.contains("2 of 3 shards are given; model-00002-of-00003.safetensors is missing"),
            "{said}"
        );
        assert!(!scratch.join("o.npk").exists());
    }
    let (code, _, said) = run(scratch.path(), &["convert", one, "o.npk"]);
    assert!(code == 0 && said.contains("is one of 3 shards: the others are not read"), "{said}");
    let (code, _, said) =
        run(scratch.path(), &["convert", "sh/*.safetensors", "each/", "--to", "npz"]);
    assert!(code == 0 && !said.contains("shards"), "{said}");
    safetensors(
        &sub.join("model-00002-of-00003.safetensors"),
        &[("l2", "F32", &[1], 1f32.to_le_bytes().to_vec())],
    );
    let (code, _, said) = run(scratch.path(), &["convert", "sh/*.safetensors", "o.npk", "-f"]);
    assert!(code == 0 && !said.contains("shards"), "{said}");
}

/// A folder that the run made, and put nothing into, goes again; one that was there stays.
#[test]
fn empty_folders_do_not_stay() {
    let scratch = Scratch::new();
    std::fs::write(scratch.join("bad.npz"), b"PK\x05\x06 not a zip").unwrap();
    arrays(scratch.path(), &["n.npy"]);
    let mut whole = std::fs::read(scratch.join("n.npy")).unwrap();
    whole.truncate(whole.len() - 1);
    std::fs::write(scratch.join("short.npy"), &whole).unwrap();
    std::fs::write(scratch.join("late.csv"), "a,b\n1,x\n").unwrap();
    std::fs::create_dir(scratch.join("mine")).unwrap();
    for to in ["a/b/", "mine/"] {
        for source in ["bad.npz", "short.npy"] {
            let (code, _, _) = run(scratch.path(), &["convert", source, to, "--to", "npk"]);
            assert_ne!(code, 0);
        }
        let (code, _, said) = run(
            scratch.path(),
            &[
                "convert",
                "late.csv",
                to,
                "--to",
                "npk",
                "--strings",
                "codes",
                "--dtype",
                "a=uint8",
                "--rows",
                "0:1",
                "--verify",
                "--nulls",
                "error",
            ],
        );
        assert_eq!(code, 0, "{said}");
        std::fs::remove_dir_all(scratch.join(to).join("late.npk")).unwrap();
    }
    // Strings past the limit show only while the values come, when the folder is there.
    let text: String = std::iter::once("s\n".to_string())
        .chain((0..1_000_050).map(|i| format!("v{i}\n")))
        .collect();
    std::fs::write(scratch.join("many.csv"), text).unwrap();
    std::fs::remove_dir_all(scratch.join("a")).unwrap();
    let (code, _, said) = run(scratch.path(), &["convert", "many.csv", "a/b/", "--to", "npk"]);
    assert!(code == 4 && said.contains("--strings offsets"), "{code} {said}");
    assert!(!scratch.join("a").exists() && scratch.join("mine").exists());
}

#[test]
fn what_is_refused_is_listed_as_it_is_stored() {
    let scratch = Scratch::new();
    npy(&scratch.join("o.npy"), "<f16", &[1], &[0; 16]);
    let (code, out, _) = run(scratch.path(), &["list", "-l", "o.npy"]);
    assert_eq!((code, out.split('\t').nth(1)), (0, Some("<f16")));
    let (_, out, _) = run(scratch.path(), &["list", "--json", "o.npy"]);
    assert!(out.contains("\"dtype\": \"<f16\""), "{out}");
}

/// An array called `data` in a zip of Zarr has a chunk `data/0`, as a checkpoint has a storage.
#[test]
#[ignore = "asks the real libraries"]
fn a_zip_of_zarr_is_no_checkpoint() {
    let s = Scratch::new();
    python(
        s.path(),
        "import json, zipfile\n\
         meta = dict(zarr_format=2, shape=[2], chunks=[2], dtype='|u1', compressor=None, fill_value=0, order='C', filters=None)\n\
         with zipfile.ZipFile('plain.zip', 'w') as z:\n\
         \x20 z.writestr('g/data/0', b'\\x01\\x02')\n\
         \x20 z.writestr('g/data/.zarray', json.dumps(meta))\n\
         \x20 for group in ('', 'g/'): z.writestr(group + '.zgroup', json.dumps(dict(zarr_format=2)))",
    );
    let said = npk(&["inspect", "--json", &s.join("plain.zip").display().to_string()]);
    assert!(said.contains("\"format\": \"zarr\"") && said.contains("\"g/data\""), "{said}");
}

/// More sources are joined than files may be open.
#[test]
#[ignore = "asks the real libraries"]
fn many_files_are_joined_within_a_small_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "import gzip, numpy as np, h5py, pyarrow as pa, pyarrow.parquet as pq\n\
         for i in range(300):\n\
         \x20 a = np.arange(i * 3, i * 3 + 3); n = f'{i:03}'\n\
         \x20 np.save(n + '.npy', a); np.savez(n + '.npz', x=a, y=a / 2)\n\
         \x20 open(n + '.npy.gz', 'wb').write(gzip.compress(open(n + '.npy', 'rb').read()))\n\
         \x20 d = pa.array([f'v{i % 7}', f'only{i}', 'w']).dictionary_encode()\n\
         \x20 pq.write_table(pa.table({'x': a, 'd': d}), n + '.parquet')\n\
         \x20 open(n + '.csv', 'w').write('x,d\\n' + ''.join(f'{v},t{i}\\n' for v in a))\n\
         \x20 with h5py.File(n + '.h5', 'w') as f: f['x'] = a; f['y'] = a / 2\n\
         import os; os.mkdir('wide')\n\
         for i in range(30): np.savez(f'wide/{i}.npz', **{f'a{k}': np.arange(30) + i for k in range(30)})",
    );
    npk(&["convert", &at(&s, "*.npz"), &format!("{}/", at(&s, "stores")), "--to", "npk", "-q"]);
    npk(&["convert", &at(&s, "*.npz"), &format!("{}/", at(&s, "trees")), "--to", "zarr", "-q"]);
    // A store is a file for each array.
    npk(&["convert", &at(&s, "wide/*.npz"), &format!("{}/", at(&s, "wide")), "--to", "npk", "-q"]);
    std::fs::create_dir(s.join("out")).unwrap();
    let cases = [
        ("*.npy", ("npz", "--name=x")),
        ("*.npy.gz", ("npz", "--name=x")),
        ("*.npz", ("npk", "-q")),
        ("*.h5", ("npk", "-q")),
        ("stores/*.npk", ("npk", "-q")),
        ("trees/*.zarr", ("npk", "-q")),
        ("wide/*.npk", ("npz", "-q")),
        ("*.parquet", ("parquet", "-q")),
        ("*.csv", ("parquet", "-q")),
    ];
    for (pattern, (to, more)) in cases {
        let (far, near) = (at(&s, &format!("out/far.{to}")), at(&s, &format!("out/near.{to}")));
        npk(&["convert", "--concat", &at(&s, pattern), &far, "-f", more]);
        let script = format!(
            "ulimit -n 64; exec {} convert --concat '{}' {near} -f {more}",
            env!("CARGO_BIN_EXE_npk"),
            at(&s, pattern)
        );
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{pattern}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(npk(&["list", "-l", &near]).contains("\t900\t"), "{pattern}");
        npk(&["diff", &far, &near]);
    }
    // Side by side, too, each under its own name.
    let script = format!(
        "ulimit -n 64; exec {} convert '{}' {} -q",
        env!("CARGO_BIN_EXE_npk"),
        at(&s, "*.npy"),
        at(&s, "out/all.npz")
    );
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(npk(&["list", &at(&s, "out/all.npz")]).lines().count(), 300);
}

/// A link that leads back to a directory above has no end: refused, naming it; so is a directory that
/// cannot be read. The other files are converted.
#[test]
fn links_in_circles_and_closed_directories() {
    let s = Scratch::new();
    std::fs::create_dir_all(s.join("in/a/b")).unwrap();
    std::fs::create_dir_all(s.join("in/closed")).unwrap();
    for name in ["in/a/x.npy", "in/closed/y.npy"] {
        npy(&s.join(name), "<i2", &[1], &[1, 0]);
    }
    let batch = ["convert", "in", "-R", "-o", "out/", "--to", "npk"];
    // The first time it is only looked at for what it is.
    let failed = npk_hit(s.path(), "in/closed", Fault::Fails(5), 2, &batch).unwrap().1;
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("in/closed: the directory cannot be read"), "{said}");
    assert_eq!(entries(&s.join("out")), ["a"]);
    std::fs::remove_dir_all(s.join("out")).unwrap();
    for link in ["in/a/two", "in/a/b/three"] {
        std::os::unix::fs::symlink(s.join("in"), s.join(link)).unwrap();
    }
    let (code, _, said) = run(s.path(), &batch);
    assert!(
        code == 1
            && said.contains("in/a/b/three")
            && said.contains("a link to a directory that it is in"),
        "{said}"
    );
    assert_eq!(entries(&s.join("out")), ["a", "closed"]);
}

fn entries(folder: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}
