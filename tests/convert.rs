//! `npk convert` as a user meets it: choosing, naming, casts, joins, existing outputs, batches,
//! pipes, interruptions.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, npy_bytes, python};

/// An npy file of little-endian values.
pub fn npy(path: &Path, descr: &str, shape: &[u64], values: &[u8]) {
    std::fs::write(path, npy_bytes(descr, shape, values)).unwrap();
}

fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A safetensors file: name, dtype, shape, bytes.
pub fn safetensors(path: &Path, tensors: &[(&str, &str, &[u64], Vec<u8>)]) {
    let (mut header, mut at, mut data) = (serde_json::Map::new(), 0, Vec::<u8>::new());
    for (name, dtype, shape, bytes) in tensors {
        header.insert(name.to_string(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes.len()]}));
        at += bytes.len();
        data.extend(bytes);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    while header.len() % 8 != 0 {
        header.push(b' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

fn three(scratch: &Scratch) -> String {
    let path = scratch.join("m.safetensors");
    safetensors(
        &path,
        &[
            ("model.layer.0.weight", "F64", &[2], f64s(&[1.0, 2.5])),
            ("model.layer.0.bias", "I64", &[3], (1i64..4).flat_map(i64::to_le_bytes).collect()),
            ("model.head", "F32", &[], 7f32.to_le_bytes().to_vec()),
        ],
    );
    path.display().to_string()
}

#[test]
fn arrays_are_chosen_by_name_and_pattern_in_the_order_asked_for() {
    let s = Scratch::new();
    let (m, out) = (three(&s), at(&s, "o.npk"));
    npk(&["convert", &m, &out, "-a", "model.head,*weight"]);
    assert_eq!(npk(&["list", &out]), "model.head\nmodel.layer.0.weight\n");
    npk(&["convert", &m, &out, "-f", "-x", "*.layer.*"]);
    assert_eq!(npk(&["list", &out]), "model.head\n");
    let said = npk_fails(3, &["convert", &m, &out, "-f", "-a", "model.layer.0.wieght"]);
    assert!(
        said.contains("no array matches 'model.layer.0.wieght'")
            && said.contains("model.layer.0.weight"),
        "{said}"
    );
    npk_fails(3, &["convert", &m, &at(&s, "p.npk"), "-x", "*"]);
    assert_eq!(s.names(), ["m.safetensors", "o.npk"]);
}

#[test]
fn names_change_in_the_order_that_the_manual_gives() {
    let s = Scratch::new();
    let (m, out) = (three(&s), at(&s, "o.npk"));
    npk(&[
        "convert",
        &m,
        &out,
        "--strip-prefix",
        "model.",
        "--rename",
        "head=out",
        "--rename-re",
        r"layer\.(\d+)=block.$1",
        "--add-prefix",
        "x.",
    ]);
    assert_eq!(npk(&["list", &out]), "x.block.0.weight\nx.block.0.bias\nx.out\n");
    let said = npk_fails(2, &["convert", &m, &out, "-f", "--name", "one"]);
    assert!(said.contains("--name takes one array, there are 3"), "{said}");
    let said = npk_fails(3, &["convert", &m, &out, "-f", "--rename", "haed=x"]);
    assert!(said.contains("haed"), "{said}");
    let said = npk_fails(2, &["convert", &m, &out, "-f", "--rename-re", ".*=same"]);
    assert!(said.contains("two arrays are called 'same'"), "{said}");
}

#[test]
fn rows_are_sliced_as_python_slices() {
    let s = Scratch::new();
    let input = at(&s, "x.npy");
    npy(Path::new(&input), "<f8", &[10], &f64s(&(0..10).map(f64::from).collect::<Vec<_>>()));
    for (slice, expected) in [
        ("1:8:3", "1 4 7"),
        ("-3:", "7 8 9"),
        (":2", "0 1"),
        ("8:99", "8 9"),
        ("5:5", ""),
        ("::4", "0 4 8"),
    ] {
        let out = at(&s, "o.csv");
        npk(&["convert", &input, &out, "-f", "--rows", slice, "--header", "no"]);
        let got: Vec<String> = std::fs::read_to_string(&out)
            .unwrap()
            .lines()
            .map(|l| l.trim_end_matches(".0").to_string())
            .collect();
        assert_eq!(got.join(" "), expected, "{slice}");
    }
    npk_fails(2, &["convert", &input, &at(&s, "p.npk"), "--rows", "1:2:0"]);
    let m = three(&s);
    let said = npk_fails(2, &["convert", &m, &at(&s, "p.npk"), "--rows", ":1"]);
    assert!(said.contains("rank 0") && said.contains("model.head"), "{said}");
}

/// What cannot be read at any row is cut as it streams by: before names, casts and layouts see it.
#[test]
fn rows_of_what_only_streams() {
    let s = Scratch::new();
    let [x, archive, stream, out] =
        ["x.npy", "x.npz", "x.arrows", "o.npk"].map(|name| at(&s, name));
    npy(Path::new(&x), "<f8", &[10], &f64s(&[0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.9]));
    npk(&["convert", &x, &archive, "-c", "deflate"]);
    npk(&["convert", &x, &stream, "--layout", "columns"]);
    let sliced = |input: &str, flags: &[&str], expected: &str| {
        npk(&[&["convert", input, "-o", &out, "-f", "--layout", "columns", "--name", "y"], flags]
            .concat());
        let shown: serde_json::Value =
            serde_json::from_str(&npk(&["inspect", "--json", "--head", "20", &out])).unwrap();
        let array = &shown["arrays"][0];
        assert_eq!(
            (&array["name"], array["values"].to_string()),
            (&"y".into(), expected.into()),
            "{input} {flags:?}"
        );
    };
    for input in [&x, &archive, &stream] {
        // The fractions outside the slice do not stop the cast.
        sliced(input, &["--rows", "1:9:3", "--dtype", "uint8"], "[1,4,7]");
        sliced(input, &["--rows", "-3:-1", "--dtype", "uint8"], "[7,8]");
        sliced(input, &["--rows", "5:5"], "[]");
        assert!(npk(&["inspect", input, "--tail", "2"]).ends_with("  8.0\n  0.9\n"), "{input}");
    }
    sliced(&stream, &[&stream, "--concat", "--rows", "8:13:2"], "[8.0,0.1,2.0]");
}

/// A single value is shown whole, and does not keep the other arrays from being cut.
#[test]
fn heads_of_a_file_with_a_scalar() {
    let s = Scratch::new();
    let shown: serde_json::Value =
        serde_json::from_str(&npk(&["inspect", "--json", "--head", "1", &three(&s)])).unwrap();
    for array in shown["arrays"].as_array().unwrap() {
        let rows = array["values"].as_array().unwrap().len();
        assert_eq!(rows, 1, "{array}");
    }
}

#[test]
fn casts_are_exact_or_refused_with_the_index() {
    let s = Scratch::new();
    let (input, out) = (at(&s, "x.npy"), at(&s, "o.npk"));
    npy(Path::new(&input), "<f8", &[2, 2], &f64s(&[1.0, 2.0, 0.1, f64::NAN]));
    let said = npk_fails(4, &["convert", &input, &out, "--dtype", "float32"]);
    assert!(
        said.contains("element 2 (0.1) is not exact as float32") && said.contains("--lossy"),
        "{said}"
    );
    assert_eq!(s.names(), ["x.npy"]);
    npk(&["convert", &input, &out, "--dtype", "float32", "--lossy"]);
    assert_eq!(npk(&["list", "-l", &out]), "x\tfloat32\t2x2\t16\n");
    npy(Path::new(&input), "<f8", &[2], &f64s(&[9007199254740992.0, 18446744073709551616.0]));
    let said = npk_fails(4, &["convert", &input, &out, "-f", "--dtype", "x=uint64"]);
    assert!(said.contains("element 1"), "{said}");
    let said = npk_fails(2, &["convert", &input, &out, "-f", "--dtype", "float31"]);
    assert!(said.contains("there is no type 'float31'"), "{said}");
}

/// Every bit pattern of bfloat16 and of each float8 kind, NaN payloads included, there and back.
#[test]
fn bfloat16_and_float8_come_back_bit_for_bit() {
    let s = Scratch::new();
    let (input, store, back) =
        (at(&s, "m.safetensors"), at(&s, "m.npk"), at(&s, "back.safetensors"));
    let all16: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let all8: Vec<u8> = (0..=u8::MAX).collect();
    safetensors(
        Path::new(&input),
        &[
            ("bf", "BF16", &[256, 256], all16),
            ("e4m3", "F8_E4M3", &[256], all8.clone()),
            ("e5m2", "F8_E5M2", &[16, 16], all8.clone()),
            ("e8m0", "F8_E8M0", &[256], all8),
        ],
    );
    for mode in [["--bf16", "float32", "--fp8", "float16"], ["--bf16", "bits", "--fp8", "bits"]] {
        let mut args = vec!["convert", &input, &store, "-f"];
        args.extend(mode);
        npk(&args);
        npk(&["convert", &store, &back, "-f"]);
        npk(&["diff", &input, &back]);
        npk(&["diff", &input, &store]);
        assert_eq!(std::fs::read(&input).unwrap(), std::fs::read(&back).unwrap(), "{mode:?}");
    }
}

/// NumPack may have changed a widened array since: values that no longer fit stay float32, with a
/// note.
#[test]
fn a_widened_array_that_was_changed_stays_wide() {
    let s = Scratch::new();
    let (input, store, back) =
        (at(&s, "m.safetensors"), at(&s, "m.npk"), at(&s, "back.safetensors"));
    safetensors(Path::new(&input), &[("x", "BF16", &[2], vec![0x80, 0x3f, 0x00, 0x40])]);
    npk(&["convert", &input, &store]);
    std::fs::write(s.join("m.npk/data_x.npkd"), [0.1f32, 2.0].map(f32::to_le_bytes).concat())
        .unwrap();
    let output = npk_any(&["convert", &store, &back]);
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("x: it is recorded as bfloat16"), "{told}");
    assert_eq!(npk(&["list", "-l", &back]), "x\tfloat32\t2\t8\n");
}

#[test]
fn an_existing_output_is_only_replaced_when_asked() {
    let s = Scratch::new();
    let (m, out) = (three(&s), at(&s, "o.npk"));
    npk(&["convert", &m, &out]);
    let said = npk_fails(5, &["convert", &m, &out]);
    assert!(said.contains("exists") && said.contains("--force"), "{said}");
    npk(&["convert", &m, &out, "--if-exists", "skip", "-a", "model.head"]);
    assert_eq!(npk(&["list", &out]).lines().count(), 3);
    npk(&["convert", &m, &out, "-f", "-a", "model.head"]);
    assert_eq!(npk(&["list", &out]).lines().count(), 1);
    npk(&["convert", &m, &out, "-u"]);
    assert_eq!(npk(&["list", &out]).lines().count(), 1, "the source is not newer");
    npk(&["convert", &m, &out, "--if-exists", "merge", "-a", "*bias"]);
    assert_eq!(npk(&["list", &out]).lines().count(), 2);
    npk_fails(5, &["convert", &m, &out, "--if-exists", "merge", "-a", "*bias"]);
    npk(&["convert", &m, &out, "--if-exists", "merge", "-a", "*bias", "-f"]);
    assert_eq!(s.names(), ["m.safetensors", "o.npk"]);
    // A folder of the user's own is never swept away.
    std::fs::create_dir(s.join("mine.npk")).unwrap();
    std::fs::write(s.join("mine.npk/thesis.txt"), "years of work").unwrap();
    npk_fails(5, &["convert", &m, &at(&s, "mine.npk"), "--force"]);
    assert!(s.join("mine.npk/thesis.txt").exists());
}

#[test]
fn wrong_inputs_are_named_for_what_they_are() {
    let s = Scratch::new();
    let out = at(&s, "o.npk");
    let cases: &[(&str, &[u8], i32, &str)] = &[
        (
            "lfs.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 123456\n",
            3,
            "Git LFS pointer to a file of 123456 bytes",
        ),
        (
            "lfs.csv",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 123456\n",
            3,
            "Git LFS pointer",
        ),
        ("page.txt", b"<html><body>404</body></html>", 3, "HTML page"),
        ("page.safetensors", b"<!DOCTYPE html><html><body>404</body></html>", 3, "HTML page"),
        ("what.xyz", b"\x00\x01\x02\x03 nothing known", 3, "not recognised"),
        ("cut.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr'", 7, "cut.npy"),
        ("empty.safetensors", b"", 7, "empty.safetensors"),
    ];
    for (name, bytes, code, words) in cases {
        std::fs::write(s.join(name), bytes).unwrap();
        let said = npk_fails(*code, &["convert", &at(&s, name), &out]);
        assert!(said.contains(words), "{name}: {said}");
    }
    let said = npk_fails(3, &["convert", &at(&s, "cut.npyy"), &out]);
    assert!(said.contains("no such file") && said.contains("cut.npy"), "{said}");
    let said = npk_fails(3, &["convert", &three(&s), &at(&s, "none/o.npk")]);
    assert!(said.contains("does not exist"), "{said}");
    let said = npk_fails(2, &["convert", &three(&s), &at(&s, "noending")]);
    assert!(said.contains("--to"), "{said}");
    let said = npk_fails(4, &["convert", &three(&s), &at(&s, "o.npy")]);
    assert!(said.contains("npy holds one array") && said.contains("model.head"), "{said}");
    assert!(!s.join("o.npk").exists() && !s.join("o.npy").exists());
}

#[test]
fn a_dry_run_changes_nothing_and_exits_as_the_run_would() {
    let s = Scratch::new();
    let m = three(&s);
    let said = npk(&["convert", "-n", &m, &at(&s, "o.npk")]);
    assert!(said.contains("3 arrays") && said.contains("model.head"), "{said}");
    npk_fails(4, &["convert", "-n", &m, &at(&s, "o.npy")]);
    npk_fails(3, &["convert", "-n", &m, &at(&s, "none/o.npk")]);
    for (out, compression) in [
        ("o.npz", "deflate:20"),
        ("o.npkg", "zstd:99"),
        ("o.parquet", "deflate"),
        ("o.feather", "lz4:3"),
        ("o.csv", "snappy"),
    ] {
        npk_fails(
            2,
            &["convert", "-n", &m, &at(&s, out), "-a", "model.layer.0.bias", "-c", compression],
        );
    }
    npk(&["convert", &m, &at(&s, "o.npk")]);
    npk_fails(5, &["convert", "-n", &m, &at(&s, "o.npk")]);
    assert_eq!(s.names(), ["m.safetensors", "o.npk"]);
}

#[test]
fn sources_are_merged_or_joined() {
    let s = Scratch::new();
    for (name, first) in [("a.npy", 0.0), ("b.npy", 2.0)] {
        npy(&s.join(name), "<f8", &[2], &f64s(&[first, first + 1.0]));
    }
    let (a, b, out) = (at(&s, "a.npy"), at(&s, "b.npy"), at(&s, "o.npk"));
    npk(&["convert", &a, &b, &out]);
    assert_eq!(npk(&["list", &out]), "a\nb\n");
    npk(&["convert", &a, &b, &out, "-f", "--concat", "--name", "x"]);
    assert_eq!(npk(&["list", "-l", &out]), "x\tfloat64\t4\t32\n");
    assert_eq!(
        npk(&["inspect", &out, "--slice", "0:4", "-a", "x"])
            .lines()
            .filter(|l| l.starts_with("  "))
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" "),
        "0.0 1.0 2.0 3.0"
    );
    let (m, n) = (three(&s), at(&s, "n.safetensors"));
    std::fs::copy(&m, &n).unwrap();
    let said = npk_fails(2, &["convert", &m, &n, &out, "-f"]);
    assert!(
        said.contains("m.safetensors")
            && said.contains("n.safetensors")
            && said.contains("--prefix-by-file"),
        "{said}"
    );
    npk(&["convert", &m, &n, &out, "-f", "--prefix-by-file"]);
    assert!(npk(&["list", &out]).contains("n.model.head"));
}

#[test]
fn a_batch_goes_on_after_an_error_and_can_be_resumed() {
    let s = Scratch::new();
    std::fs::create_dir_all(s.join("in/deep")).unwrap();
    for i in 0..5 {
        npy(&s.join(&format!("in/x{i}.npy")), "<f8", &[2], &f64s(&[f64::from(i), 1.0]));
    }
    npy(&s.join("in/deep/y.npy"), "<f8", &[1], &f64s(&[3.0]));
    std::fs::write(s.join("in/x2.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let (input, out) = (at(&s, "in"), format!("{}/", at(&s, "out")));
    let output = npk_any(&["convert", "-R", &input, "-o", &out, "--to", "npk", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines.iter().filter(|l| l["status"] == "converted").count(), 5);
    assert_eq!(lines.iter().filter(|l| l["status"] == "failed" && l["exit_code"] == 7).count(), 1);
    assert_eq!(lines[6]["converted"], 5);
    assert!(s.join("out/deep/y.npk/metadata.npkm").exists());
    npy(&s.join("in/x2.npy"), "<f8", &[1], &f64s(&[3.0]));
    let output = npk_any(&["convert", "-R", &input, "-o", &out, "--to", "npk", "--skip-existing"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 converted, 5 skipped, 0 failed of 6"), "{said}");
    // Names from find, in an order that -T keeps.
    std::fs::write(s.join("list"), format!("{}\0{}\0", at(&s, "in/x0.npy"), at(&s, "in/x1.npy")))
        .unwrap();
    npk(&[
        "convert",
        "-T",
        &at(&s, "list"),
        "-0",
        "-o",
        &format!("{}/", at(&s, "two")),
        "--to",
        "npy",
    ]);
    assert_eq!(
        std::fs::read(s.join("two/x1.npy")).unwrap(),
        std::fs::read(s.join("in/x1.npy")).unwrap()
    );
}

#[test]
fn many_arrays_go_into_a_directory_as_a_file_each() {
    let s = Scratch::new();
    let m = three(&s);
    npk(&["convert", &m, "-o", &format!("{}/", at(&s, "out")), "--to", "npy"]);
    let mut names: Vec<String> = std::fs::read_dir(s.join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["model.head.npy", "model.layer.0.bias.npy", "model.layer.0.weight.npy"]);
}

fn with_stdin(args: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = npk_command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[test]
fn pipes_work_at_both_ends() {
    let s = Scratch::new();
    let m = std::fs::read(three(&s)).unwrap();
    npy(&s.join("x.npy"), "<f8", &[3], &f64s(&[1.0, 2.0, 3.0]));
    let x = std::fs::read(s.join("x.npy")).unwrap();
    let output = with_stdin(&["convert", "-", &at(&s, "a.npk"), "--from", "safetensors"], &m);
    assert!(output.status.success(), "{output:?}");
    npk(&["diff", &at(&s, "a.npk"), &at(&s, "m.safetensors")]);
    let output = with_stdin(&["convert", "-", "-", "--from", "npy", "--to", "npy"], &x);
    assert_eq!(output.stdout, x);
    assert!(output.status.success());
    // What needs random access is spooled.
    let output = with_stdin(&["convert", "-", "-", "--to", "safetensors", "--from", "npy"], &x);
    std::fs::write(s.join("y.safetensors"), output.stdout).unwrap();
    assert_eq!(npk(&["list", "-l", &at(&s, "y.safetensors")]), "data\tfloat64\t3\t24\n");
    npk_fails(2, &["convert", &at(&s, "x.npy"), "-", "--to", "npk"]);
    npk_fails(2, &["convert", &at(&s, "x.npy"), "-"]);
    // A reader that goes away ends it quietly.
    let script =
        format!("'{}' list '{}' | head -n 1", env!("CARGO_BIN_EXE_npk"), at(&s, "m.safetensors"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// Starts a conversion of a FIFO that has delivered half of its bytes, and waits until the output
/// has begun.
fn half_done(s: &Scratch, force: bool) -> (Child, std::fs::File) {
    npy(&s.join("x.npy"), "<f8", &[1 << 17], &vec![1; 8 << 17]);
    let fifo = s.join("fifo");
    if !fifo.exists() {
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    }
    let mut command = npk_command();
    command.args([
        "convert".as_ref(),
        fifo.as_os_str(),
        s.join("o.npk").as_os_str(),
        OsStr::new("--from"),
        OsStr::new("npy"),
    ]);
    if force {
        command.arg("-f");
    }
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let bytes = std::fs::read(s.join("x.npy")).unwrap();
    writer.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let began = Instant::now();
    while !s.names().iter().any(|n| n.contains("npk-tmp")) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the output never began: {:?}",
            s.names()
        );
        std::thread::yield_now();
    }
    (child, writer)
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn interrupts_leave_the_old_output_or_none() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let s = Scratch::new();
        let (mut child, writer) = half_done(&s, false);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        drop(writer);
        assert_eq!(s.names(), ["fifo", "x.npy"], "{name}");
    }
}

#[test]
fn what_a_killed_run_leaves_is_cleaned_by_the_next() {
    let s = Scratch::new();
    let m = three(&s);
    npk(&["convert", &m, &at(&s, "o.npk")]);
    let (mut child, writer) = half_done(&s, true);
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    drop(writer);
    npk(&["diff", &m, &at(&s, "o.npk")]);
    assert!(s.names().iter().any(|n| n.contains("npk-tmp")), "{:?}", s.names());
    npk(&["convert", &m, &at(&s, "p.npk")]);
    assert_eq!(s.names(), ["fifo", "m.safetensors", "o.npk", "p.npk", "x.npy"]);
}

/// A live run's temporary output is not stale: the next run leaves it alone.
#[test]
fn a_running_conversion_is_not_swept_away() {
    let s = Scratch::new();
    let m = three(&s);
    let (mut child, mut writer) = half_done(&s, false);
    npk(&["convert", &m, &at(&s, "p.npk")]);
    let bytes = std::fs::read(s.join("x.npy")).unwrap();
    writer.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(writer);
    assert!(child.wait().unwrap().success());
    assert_eq!(
        npk(&["list", "-l", &at(&s, "o.npk")]),
        format!("data\tfloat64\t{}\t{}\n", 1 << 17, 8 << 17)
    );
}

/// A full disk, as a limit on the size of files: the old output stays, nothing else is left, the
/// message says why.
#[test]
fn a_full_disk_leaves_the_old_output() {
    let s = Scratch::new();
    npy(&s.join("big.npy"), "<f8", &[1 << 16], &vec![1; 8 << 16]);
    for (out, existing) in [
        ("o.npk", true),
        ("o.npk", false),
        ("o.safetensors", true),
        ("o.npz", false),
        ("o.csv", false),
        ("o.parquet", false),
    ] {
        let m = three(&s);
        let target = at(&s, out);
        if existing {
            npk(&["convert", &m, &target, "-f", "-a", "*weight"]);
        } else {
            let _ = std::fs::remove_dir_all(&target);
            let _ = std::fs::remove_file(&target);
        }
        let before = s.names();
        let script = format!(
            "ulimit -f 64; exec '{}' convert '{}' '{target}' -f -c none 2>&1 || exit $?",
            env!("CARGO_BIN_EXE_npk"),
            at(&s, "big.npy")
        );
        let script = if out.ends_with("npz") || out.ends_with("parquet") {
            script
        } else {
            script.replace(" -c none", "")
        };
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{out}: {said} {output:?}");
        assert!(said.contains("limit") || said.contains("space"), "{out}: {said}");
        assert_eq!(s.names(), before, "{out}");
        if existing {
            assert!(npk(&["list", &target]).contains("model.layer.0.weight"), "{out}");
        }
    }
}

#[test]
fn verify_and_diff_tell_the_truth() {
    let s = Scratch::new();
    let (m, out) = (three(&s), at(&s, "o.npk"));
    npk(&["convert", &m, &out, "--verify"]);
    npk(&["verify", &m, &out]);
    assert_eq!(npk_any(&["diff", &m, &out]).status.code(), Some(0));
    let file = s.join("o.npk/data_model.layer.0.weight.npkd");
    std::fs::write(&file, f64s(&[1.0, 2.500001])).unwrap();
    let output = npk_any(&["diff", &m, &out]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("model.layer.0.weight: 1 of 2 values differ; first at [1]: 2.5 and 2.500001"),
        "{said}"
    );
    assert_eq!(npk_any(&["diff", &m, &out, "--rtol", "1e-5"]).status.code(), Some(0));
    let json: serde_json::Value =
        serde_json::from_slice(&npk_any(&["diff", &m, &out, "--json"]).stdout).unwrap();
    assert_eq!(json["equal"], false);
    assert_eq!(json["arrays"][0]["first"], serde_json::json!([1]));
    std::fs::write(&file, f64s(&[1.0])).unwrap();
    let said = npk_fails(7, &["verify", &out]);
    assert!(said.contains("model.layer.0.weight"), "{said}");
    npk_fails(7, &["convert", &out, &at(&s, "p.safetensors")]);
    assert!(!s.join("p.safetensors").exists());
}

/// Ten times the memory limit goes through, with the process's address space of data held down.
#[test]
#[ignore = "asks the real libraries"]
fn memory_stays_within_the_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np; np.save('f.npy', np.asfortranarray(np.arange(12_000_000, dtype='f8').reshape(-1, 4)))\nnp.savez_compressed('z.npz', a=np.arange(8_000_000), b=np.zeros(4_000_000))",
    );
    for (input, out) in [
        ("f.npy", "f.npk"),
        ("z.npz", "z.npk"),
        ("f.npk", "f.npz"),
        ("f.npk", "f.parquet"),
        ("f.npk", "f.h5"),
        ("f.npk", "f.zarr"),
    ] {
        stays_within(72, &["convert", &at(&s, input), &at(&s, out), "-m", "8MiB", "-j", "2"]);
    }
}

/// A few rows that hold nearly all of the text do not come all at once: as codes, between offsets,
/// in a file of text.
#[test]
#[ignore = "asks the real libraries"]
fn memory_stays_within_the_limit_where_rows_differ_in_size() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pandas as pd\nwords = ['row %d' % i for i in range(20_000)]\nlong = 'x' * 1_000_000\nfor i in range(100): words[9_000 + i] = long\npd.DataFrame({'same': words, 'n': range(20_000)}).to_csv('same.csv', index=False)\nfor i in range(100): words[9_000 + i] = '%d ' % i + long\npd.DataFrame({'other': words}).to_csv('other.csv', index=False)",
    );
    npk(&["convert", &at(&s, "same.csv"), &at(&s, "same.npk")]);
    npk(&["convert", &at(&s, "other.csv"), &at(&s, "other.npk"), "--strings", "offsets"]);
    for (input, out) in [
        ("same.npk", "a.csv"),
        ("same.npk", "a.parquet"),
        ("other.npk", "b.csv"),
        ("other.npk", "b.feather"),
        ("other.npk", "b.h5"),
        ("other.csv", "c.parquet"),
    ] {
        stays_within(88, &["convert", &at(&s, input), &at(&s, out), "-m", "8MiB", "-j", "2"]);
    }
    assert_eq!(npk_any(&["diff", &at(&s, "other.csv"), &at(&s, "b.h5")]).status.code(), Some(0));
    assert_eq!(std::fs::read(s.join("same.csv")).unwrap(), std::fs::read(s.join("a.csv")).unwrap());
}

/// Runs `npk` with a limit of 8 MiB, and looks at what it takes: so many MiB more at most.
fn stays_within(more_mib: u64, args: &[&str]) {
    let mut child = npk_command().args(args).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{}/status", child.id()))
            && let Some(line) = text.lines().find(|l| l.starts_with("VmHWM"))
        {
            peak =
                line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(peak);
        }
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(status.success(), "{args:?}");
    assert!(peak > 0 && peak < (8 + more_mib) << 10, "{args:?}: {peak} KiB resident at the peak");
}
