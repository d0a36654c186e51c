//! The built binary against the server: every format both ways, batches, faults, errors.

use std::ffi::OsStr;
use std::process::{Child, Output, Stdio};

use super::server::{Asked, BUCKET, Fault, SECRET, Server, put};
use crate::support::{Scratch, npk, npk_command, npy_bytes};

/// `npk` with this server's environment.
pub fn run<S: AsRef<OsStr>>(server: &Server, args: &[S]) -> Output {
    npk_command().args(args).envs(server.environment()).output().unwrap()
}

/// The same under way, its stderr kept.
pub fn started<S: AsRef<OsStr>>(server: &Server, args: &[S]) -> Child {
    npk_command().args(args).envs(server.environment()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ctrl-C.
pub fn interrupt(child: &Child) {
    rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::INT,
    )
    .unwrap();
}

#[track_caller]
pub fn works<S: AsRef<OsStr> + std::fmt::Debug>(server: &Server, args: &[S]) -> String {
    let output = run(server, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "npk {args:?} failed with {:?}\n{stderr}",
        output.status.code()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with this code; returns stderr, which keeps secrets to itself.
#[track_caller]
pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(server: &Server, code: i32, args: &[S]) -> String {
    said(code, run(server, args))
}

#[track_caller]
pub fn said(code: i32, output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("error") && !stderr.contains("panicked"), "{stderr}");
    assert!(!stderr.contains(SECRET), "{stderr}");
    stderr
}

/// An npy file of float64, `[rows, 3]`.
pub fn npy(rows: usize) -> Vec<u8> {
    let values = (0..rows * 3).flat_map(|i| (i as f64 * 0.37 - 5.0).to_le_bytes());
    npy_bytes("<f8", &[rows as u64, 3], &values.collect::<Vec<u8>>())
}

/// A safetensors file of `arrays` arrays of `[rows]` float32.
pub fn safetensors(arrays: usize, rows: usize) -> Vec<u8> {
    let mut header = String::from("{");
    for i in 0..arrays {
        let comma = if i > 0 { "," } else { "" };
        header += &format!(
            "{comma}\"layer.{i}.weight\":{{\"dtype\":\"F32\",\"shape\":[{rows}],\"data_offsets\":[{},{}]}}",
            i * rows * 4,
            (i + 1) * rows * 4
        );
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    for i in 0..arrays * rows {
        bytes.extend((i as f32).to_le_bytes());
    }
    bytes
}

/// Formats that can be written, with their usual ending.
pub fn written_formats() -> Vec<(String, String)> {
    let formats: serde_json::Value = serde_json::from_str(&npk(&["formats", "--json"])).unwrap();
    let all: Vec<_> = formats["formats"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["writes"] == true)
        .map(|f| {
            (
                f["name"].as_str().unwrap().to_string(),
                f["extensions"][0].as_str().unwrap().to_string(),
            )
        })
        .collect();
    assert!(all.len() >= 3, "{formats}");
    all
}

fn is_get(a: &Asked, key: &str) -> bool {
    a.method == "GET" && a.uri.contains(key)
}

#[test]
fn every_format_both_ways() {
    let server = Server::new();
    let scratch = Scratch::new();
    let (source, reference) = (scratch.join("x.npy"), scratch.join("reference.npy"));
    std::fs::write(&source, npy(2000)).unwrap();
    npk(&[OsStr::new("convert"), source.as_os_str(), reference.as_os_str()]);
    let reference = std::fs::read(reference).unwrap();
    for (name, ending) in written_formats() {
        let url = server.url(&format!("a b/grün 100% #1 {name}/x.{ending}"));
        works(&server, &["convert", source.to_str().unwrap(), &url, "--to", &name]);
        let back = scratch.join(&format!("{name}.npy"));
        works(&server, &["convert", &url, back.to_str().unwrap()]);
        assert!(std::fs::read(&back).unwrap() == reference, "{name} came back different");
        // An output that exists stays.
        fails(&server, 5, &["convert", source.to_str().unwrap(), &url, "--to", &name]);
        works(&server, &["convert", source.to_str().unwrap(), &url, "--to", &name, "--force"]);
        // From one place of the storage to another.
        let copy = server.url(&format!("copy.{name}.npy"));
        works(&server, &["convert", &url, &copy]);
        assert!(
            std::fs::read(server.path(&format!("copy.{name}.npy"))).unwrap() == reference,
            "{name}"
        );
        let listed: serde_json::Value =
            serde_json::from_str(&works(&server, &["inspect", "--json", &url])).unwrap();
        assert_eq!(listed["format"], name.as_str(), "{listed}");
        assert_eq!(listed["path"], url.as_str());
    }
    assert!(server.unfinished().is_empty(), "{:?}", server.unfinished());
}

#[test]
fn headers_are_read_by_few_requests() {
    let server = Server::new();
    server.put("model.safetensors", &safetensors(400, 50_000));
    for command in [&["inspect", "--json"][..], &["list"][..]] {
        server.asked();
        let url = server.url("model.safetensors");
        works(&server, &[command, &[&url]].concat());
        let asked = server.asked();
        assert!(asked.len() <= 3, "{asked:#?}");
    }
    // One array out of many: its bytes alone.
    let scratch = Scratch::new();
    works(
        &server,
        &[
            "convert",
            &server.url("model.safetensors"),
            scratch.join("one.npy").to_str().unwrap(),
            "-a",
            "layer.7.weight",
        ],
    );
    let fetched: u64 = server.asked().iter().filter_map(range_bytes).sum();
    assert!(fetched < 700_000, "{fetched} bytes were fetched");
    assert_eq!(std::fs::metadata(scratch.join("one.npy")).unwrap().len(), 200_128);
}

fn range_bytes(a: &Asked) -> Option<u64> {
    let (first, last) =
        a.headers.get("range")?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some(last.parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
}

#[test]
fn conversions_survive_faults() {
    let server = Server::new();
    let scratch = Scratch::new();
    let data = safetensors(10, 500_000);
    server.put("m.safetensors", &data);
    let get = |a: &Asked| is_get(a, "m.safetensors");
    server.fault(1, 1, Fault::Cut(300_000), get);
    server.fault(2, 1, Fault::Stall(100_000), get);
    server.fault(3, 1, Fault::Status(503, "SlowDown", Some("0.05")), get);
    server.fault(4, 1, Fault::Refuse, get);
    let out = scratch.join("m.safetensors");
    let output = npk_command()
        .args(["convert", &server.url("m.safetensors"), out.to_str().unwrap()])
        .envs(server.environment())
        .env("NPK_READ_TIMEOUT_MS", "1000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(server.all_happened());
    let diff = npk_command()
        .args(["inspect", "--json", "--checksum", out.to_str().unwrap()])
        .output()
        .unwrap();
    let there = works(&server, &["inspect", "--json", "--checksum", &server.url("m.safetensors")]);
    let sums = |text: &str| -> Vec<serde_json::Value> {
        let v: serde_json::Value = serde_json::from_str(text).unwrap();
        v["arrays"].as_array().unwrap().iter().map(|a| a["checksum"].clone()).collect()
    };
    assert_eq!(sums(&String::from_utf8(diff.stdout).unwrap()), sums(&there));
}

#[test]
fn replaced_while_read() {
    let server = Server::new();
    let scratch = Scratch::new();
    server.put("m.safetensors", &safetensors(10, 500_000));
    let (path, other) = (server.path("m.safetensors"), safetensors(10, 500_001));
    server.fault(2, 1, Fault::Before(Box::new(move || put(&path, &other))), |a| {
        is_get(a, "m.safetensors")
    });
    let said = fails(
        &server,
        6,
        &["convert", &server.url("m.safetensors"), scratch.join("out.npz").to_str().unwrap()],
    );
    assert!(said.contains("replaced"), "{said}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());

    // Some servers look at the range before they look at the condition.
    server.calm();
    server.fault(2, usize::MAX, Fault::Status(416, "InvalidRange", None), |a| {
        is_get(a, "m.safetensors")
    });
    let said = fails(
        &server,
        6,
        &["convert", &server.url("m.safetensors"), scratch.join("out.npz").to_str().unwrap()],
    );
    assert!(said.contains("replaced by a shorter one"), "{said}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn failed_uploads_leave_nothing() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("m.safetensors");
    std::fs::write(&source, safetensors(10, 1_000_000)).unwrap();
    server.fault(2, usize::MAX, Fault::Status(500, "InternalError", None), |a| {
        a.uri.contains("partNumber=")
    });
    let said = fails(
        &server,
        6,
        &["convert", source.to_str().unwrap(), &server.url("out.safetensors"), "--retries", "1"],
    );
    assert!(said.contains("the server failed"), "{said}");
    assert!(server.keys().is_empty(), "{:?}", server.keys());
    assert!(server.unfinished().is_empty(), "{:?}", server.unfinished());
}

#[test]
fn interrupted_uploads_leave_nothing() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("m.safetensors");
    std::fs::write(&source, safetensors(10, 1_000_000)).unwrap();
    for ending in ["safetensors", "npk"] {
        server.calm();
        server.asked();
        server.fault(0, usize::MAX, Fault::Hang, |a| {
            a.method == "PUT" && (a.uri.contains("partNumber=2") || a.uri.contains("layer.3"))
        });
        let child = started(
            &server,
            &["convert", source.to_str().unwrap(), &server.url(&format!("out.{ending}"))],
        );
        server.wait_for(|a| {
            a.method == "PUT" && (a.uri.contains("partNumber=2") || a.uri.contains("layer.3"))
        });
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(130),
            "{ending}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let asked: Vec<String> =
            server.asked().iter().map(|a| format!("{} {}", a.method, a.uri)).collect();
        assert!(server.keys().is_empty(), "{ending}: {:?} {asked:#?}", server.keys());
        assert!(server.unfinished().is_empty(), "{ending}: {:?} {asked:#?}", server.unfinished());
    }
}

#[test]
fn existing_outputs() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("x.npy");
    std::fs::write(&source, npy(10)).unwrap();
    let (from, to) = (source.to_str().unwrap(), server.url("x.safetensors"));
    works(&server, &["convert", from, &to]);
    let before = std::fs::read(server.path("x.safetensors")).unwrap();
    std::fs::write(&source, npy(20)).unwrap();
    fails(&server, 5, &["convert", from, &to]);
    works(&server, &["convert", from, &to, "--if-exists", "skip"]);
    assert_eq!(std::fs::read(server.path("x.safetensors")).unwrap(), before);
    let old = std::fs::File::options().write(true).open(&source).unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(86_400))
        .unwrap();
    works(&server, &["convert", from, &to, "--update"]);
    assert_eq!(
        std::fs::read(server.path("x.safetensors")).unwrap(),
        before,
        "an older source replaced it"
    );
    old.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(86_400))
        .unwrap();
    works(&server, &["convert", from, &to, "--update"]);
    assert_ne!(std::fs::read(server.path("x.safetensors")).unwrap(), before);
}

#[test]
fn globs_and_prefixes() {
    let server = Server::new();
    let scratch = Scratch::new();
    for key in ["in/a.npy", "in/b.npy", "in/deep/c.npy", "in/notes.md"] {
        server.put(key, &npy(5));
    }
    let out = |name: &str| format!("{}/", scratch.join(name).display());
    works(&server, &["convert", &server.url("in/*.npy"), &out("glob"), "--to", "safetensors"]);
    let names = |name: &str| {
        let mut all: Vec<String> = std::fs::read_dir(scratch.join(name))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    };
    assert_eq!(names("glob"), ["a.safetensors", "b.safetensors"]);
    std::fs::remove_file(server.path("in/notes.md")).unwrap();
    works(&server, &["convert", "-R", &server.url("in/"), &out("all"), "--to", "safetensors"]);
    assert_eq!(names("all"), ["a.safetensors", "b.safetensors", "deep"]);
    assert_eq!(names("all/deep"), ["c.safetensors"]);
    works(
        &server,
        &["convert", "-R", &server.url("in/"), &server.url("out/"), "--to", "safetensors"],
    );
    let written: Vec<String> =
        server.keys().into_iter().filter(|k| k.starts_with("out/")).collect();
    assert_eq!(written, ["out/a.safetensors", "out/b.safetensors", "out/deep/c.safetensors"]);
    fails(&server, 3, &["convert", &server.url("in/*.zarr"), &out("none"), "--to", "npy"]);
    // The folders of a match stay: names do not clash, and key=value folders become columns.
    for key in ["by/k=1/x.npy", "by/k=2/x.npy"] {
        server.put(key, &npy(5));
    }
    works(&server, &["convert", &server.url("by/*/x.npy"), &out("by"), "--to", "safetensors"]);
    assert_eq!(names("by/k=1"), ["x.safetensors"]);
    assert_eq!(names("by/k=2"), ["x.safetensors"]);
    server.put("tables/k=7/x.csv", b"a,b\n1,2\n");
    server.put("tables/k=8/x.csv", b"a,b\n3,4\n");
    let joined = scratch.join("joined.npk");
    works(
        &server,
        &[
            "convert",
            "--concat",
            "--layout",
            "columns",
            &server.url("tables/*/x.csv"),
            joined.to_str().unwrap(),
        ],
    );
    let listed = works(&server, &["list", joined.to_str().unwrap()]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["a", "b", "k"]);
}

#[test]
fn errors_say_what_to_do() {
    let server = Server::new();
    server.put("x.npy", &npy(5));
    let said = fails(&server, 3, &["inspect", &server.url("none.npy")]);
    assert!(said.contains(&server.url("none.npy")), "{said}");
    let said = fails(&server, 6, &["inspect", "s3://nobucket/x.npy"]);
    assert!(said.contains("no such bucket: nobucket"), "{said}");
    let said =
        fails(&server, 2, &["inspect", &server.url("x.npy"), "--endpoint-url", "localhost:9000"]);
    assert!(said.contains("http://"), "{said}");
    let said = fails(
        &server,
        6,
        &["inspect", &server.url("x.npy"), "--endpoint-url", "http://127.0.0.1:1"],
    );
    assert!(said.contains("no connection"), "{said}");
    let said = fails(
        &server,
        6,
        &[
            "inspect",
            &server.url("x.npy"),
            "--endpoint-url",
            &server.endpoint().replace("http", "https"),
        ],
    );
    assert!(said.contains("no secure connection"), "{said}");
    let head = |a: &Asked| a.uri.contains("x.npy");
    for (status, code, words) in [
        (403, "AccessDenied", "access denied"),
        (400, "ExpiredToken", "expired"),
        (403, "SignatureDoesNotMatch", "does not accept the credentials"),
        (503, "SlowDown", "slow down"),
        (403, "RequestTimeTooSkewed", "clock"),
        (301, "PermanentRedirect", "another region"),
    ] {
        server.fault(0, usize::MAX, Fault::Status(status, code, None), head);
        let said = fails(&server, 6, &["inspect", &server.url("x.npy"), "--retries", "1"]);
        assert!(said.contains(words), "{code}: {said}");
        assert_eq!(said.lines().filter(|l| l.starts_with("error")).count(), 1, "{said}");
        server.calm();
    }
    for endpoint in [
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://1.2.3.4.5",
        "http://[::1",
        "http://a b",
    ] {
        let said =
            fails(&server, 2, &["inspect", &server.url("x.npy"), "--endpoint-url", endpoint]);
        assert!(said.contains("the endpoint"), "{said}");
        fails(&server, 2, &["inspect", &format!("{endpoint}/x.npy")]);
    }
    fails(&server, 2, &["inspect", &server.url("x.npy"), "--region", "us east/1"]);
    fails(&server, 2, &["inspect", "s3://buck%et/x.npy", "--addressing", "virtual"]);
    for sign in ['/', '?', '#'] {
        let endpoint = format!("http://user:pass{sign}hunter2@127.0.0.1:1");
        for args in [
            &["inspect", "s3://bucket/x.npy", "--endpoint-url", &endpoint][..],
            &["inspect", &format!("{endpoint}/x.npy")],
        ] {
            let said = fails(&server, 2, args);
            assert!(!said.contains("hunter2") && !said.contains("pass"), "{said}");
        }
    }
    // Which server, and what to do.
    let said = fails(
        &server,
        6,
        &["inspect", &server.url("x.npy"), "--endpoint-url", "http://nowhere.test.invalid"],
    );
    assert!(said.contains("nowhere.test.invalid: ") && said.contains("--endpoint-url"), "{said}");
    let said = fails(&server, 6, &["inspect", "http://127.0.0.1:1/x.npy"]);
    assert!(said.contains("127.0.0.1:1: ") && !said.contains("--endpoint-url"), "{said}");
    let scratch = Scratch::new();
    let none = scratch.join("none.pem");
    std::fs::write(&none, "no certificate").unwrap();
    let said = fails(
        &server,
        6,
        &["inspect", &server.url("x.npy"), "--ca-bundle", none.to_str().unwrap()],
    );
    assert!(said.contains("holds no certificate"), "{said}");
    // Signed URLs: the secret parts are not shown.
    let web = Server::web();
    let url = format!(
        "{}/{BUCKET}/none.npy?X-Amz-Signature=deadbeef&X-Amz-Credential=AKIA",
        web.endpoint()
    );
    let said = fails(&server, 3, &["inspect", &url]);
    assert!(!said.contains("deadbeef") && !said.contains("AKIA"), "{said}");
}

#[test]
fn secrets_of_urls_are_masked() {
    let web = Server::web();
    let scratch = Scratch::new();
    web.put("x.npy", &npy(10));
    web.put("deep/x.npy", &npy(10));
    let base = web.endpoint().replace("http://", "http://user:hunter2@");
    let url = format!("{base}/{BUCKET}/x.npy?X-Amz-Signature=deadbeef.cafe&X-Amz-Date=now");
    let other = format!("{base}/{BUCKET}/deep/x.npy?X-Amz-Signature=deadbeef.cafe");
    let out = |name: &str| scratch.join(name).display().to_string();
    let all = |code: i32, args: &[&str]| {
        let output = run(&web, args);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        for secret in ["hunter2", "user:", "deadbeef", "cafe"] {
            assert!(!text.contains(secret), "{args:?}: {text}");
        }
        text
    };
    let text = all(0, &["convert", &url, &out("o.npz"), "--json"]);
    assert!(text.contains("***@") && text.contains("X-Amz-Signature=***&X-Amz-Date=now"), "{text}");
    all(0, &["convert", &url, &out("p.npz"), "--dry-run"]);
    all(0, &["convert", &url, &out("p.npz"), "--dry-run", "--json"]);
    all(0, &["convert", &url, &out("into/"), "--to", "npz", "-v"]);
    assert!(scratch.join("into/x.npz").exists(), "{:?}", scratch.names());
    let text = all(2, &["convert", &url, &other, &out("both/"), "--to", "npz"]);
    assert!(text.contains("would both become"), "{text}");
    all(4, &["convert", &url, &out("q.npz"), "--dtype", "int8", "--json"]);
    all(0, &["verify", &url, "--json"]);
    all(0, &["verify", &url]);
    all(0, &["diff", &url, &other, "--json"]);
    all(2, &["convert", &out("o.npz"), &url]);
    all(2, &["inspect", &url.replace("http://", "ftp://")]);
}

#[test]
fn over_http() {
    let web = Server::web();
    let scratch = Scratch::new();
    web.put("x.npy", &npy(1000));
    let url = format!("{}/{BUCKET}/x.npy?X-Amz-Signature=deadbeef", web.endpoint());
    let out = scratch.join("x.safetensors");
    works(&web, &["convert", &url, out.to_str().unwrap()]);
    assert!(
        web.asked()
            .iter()
            .filter(|a| a.uri.contains("x.npy"))
            .all(|a| a.uri.ends_with("?X-Amz-Signature=deadbeef"))
    );
    web.fault(0, usize::MAX, Fault::NoRanges, |_| true);
    works(&web, &["convert", &url, scratch.join("y.safetensors").to_str().unwrap()]);
    assert!(std::fs::read(out).unwrap() == std::fs::read(scratch.join("y.safetensors")).unwrap());
}
