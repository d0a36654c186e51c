//! Uploads: answers that stall or are lost, interrupts, what a replaced store leaves alone, buckets
//! of other regions.

use std::io::Write;
use std::time::{Duration, Instant};

use npk::format::Existing;
use npk::storage::remote::open;

use super::commands::{fails, interrupt, npy, run, safetensors, started, works};
use super::library::options;
use super::server::{Asked, Fault, Server};
use crate::support::{Scratch, npk_command};

fn begins(a: &Asked) -> bool {
    a.method == "POST" && a.uri.contains("uploads")
}

fn completes(a: &Asked) -> bool {
    a.method == "POST" && a.uri.contains("uploadId=")
}

/// A file that is uploaded in parts.
fn large(scratch: &Scratch) -> String {
    let source = scratch.join("m.safetensors");
    std::fs::write(&source, safetensors(10, 300_000)).unwrap();
    source.to_str().unwrap().to_string()
}

#[test]
fn answers_that_stall_end() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = large(&scratch);
    let puts = |a: &Asked| a.method == "PUT";
    for (i, matches) in [begins, completes, puts].into_iter().enumerate() {
        server.fault(0, 1, Fault::Stall(0), matches);
        let began = Instant::now();
        let output = npk_command()
            .args(["convert", &source, &server.url(&format!("{i}.safetensors"))])
            .envs(server.environment())
            .env("NPK_READ_TIMEOUT_MS", "700")
            .output()
            .unwrap();
        assert!(output.status.success(), "{i}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(began.elapsed() < Duration::from_secs(60));
        assert!(server.all_happened());
    }
}

#[test]
fn doubtful_completions() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = large(&scratch);
    let busy = || Fault::Status(503, "SlowDown", None);
    // What is said in the end counts, not what the object's absence would suggest.
    server.fault(0, 1, busy(), completes);
    server.fault(1, usize::MAX, Fault::Status(403, "AccessDenied", None), completes);
    let said = fails(&server, 6, &["convert", &source, &server.url("denied.safetensors")]);
    assert!(said.contains("access denied"), "{said}");
    server.calm();
    // A session that ends in between is renewed.
    server.fault(0, 1, busy(), completes);
    server.fault(1, 1, Fault::Status(400, "ExpiredToken", None), completes);
    works(&server, &["convert", &source, &server.url("renewed.safetensors")]);
    assert!(server.all_happened());
    // The answer is lost, and there is no other try.
    server.fault(0, 1, Fault::LoseAnswer, completes);
    works(&server, &["convert", &source, &server.url("lost.safetensors"), "--retries", "0"]);
    assert!(server.all_happened());
    // The same bytes again: the same ETag.
    server.calm();
    server.fault(0, 1, Fault::LoseAnswer, completes);
    server.fault(1, 1, Fault::Status(404, "NoSuchUpload", None), completes);
    works(&server, &["convert", &source, &server.url("lost.safetensors"), "--force"]);
    assert!(server.all_happened());
    assert_eq!(server.keys(), ["lost.safetensors", "renewed.safetensors"]);
}

#[test]
fn uploads_are_taken_back_together() {
    let server = Server::anonymous();
    let directory = open(&server.url("store"), &options(&server))
        .unwrap()
        .create_dir(Existing::Error, false, &["m"])
        .unwrap();
    let part = vec![7u8; (8 << 20) + 1];
    let files: Vec<_> = (0..10)
        .map(|i| {
            let mut file = directory.create(&format!("{i}")).unwrap();
            file.write_all(&part).unwrap();
            file
        })
        .collect();
    server.fault(0, usize::MAX, Fault::Delay(1500), |a| a.method == "DELETE");
    let began = Instant::now();
    drop(files);
    drop(directory);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "one after another: {took:?}");
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|a| a.method == "DELETE" && a.uri.contains("uploadId="))
            .count(),
        10
    );
    assert!(server.unfinished().is_empty(), "{:?}", server.unfinished());
}

#[test]
fn interrupted_objects_do_not_arrive_afterwards() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("x.npy");
    std::fs::write(&source, npy(100)).unwrap();
    let put = |a: &Asked| a.method == "PUT";
    server.fault(0, usize::MAX, Fault::Late(200), put);
    for ending in ["npz", "npk", "zarr"] {
        server.asked();
        let child = started(
            &server,
            &["convert", source.to_str().unwrap(), &server.url(&format!("out.{ending}"))],
        );
        server.wait_for(put);
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(130),
            "{ending}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        server.wait_for_the_late();
        assert!(server.keys().is_empty(), "{ending}: {:?}", server.keys());
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = large(&scratch);
    let part = |a: &Asked| a.uri.contains("partNumber=");
    let abort = |a: &Asked| a.method == "DELETE";
    server.fault(0, usize::MAX, Fault::Hang, part);
    server.fault(0, usize::MAX, Fault::Hang, abort);
    let child = started(&server, &["convert", &source, &server.url("out.safetensors")]);
    server.wait_for(part);
    interrupt(&child);
    server.wait_for(abort);
    let began = Instant::now();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn stores_below_a_replaced_one_stay() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.join("one.npy"), scratch.join("two.npy"));
    std::fs::write(&one, npy(10)).unwrap();
    std::fs::write(&two, npy(20)).unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let foreign = [
        "README.md",
        "other/backup.npkd",
        "nested.npk/metadata.npkm",
        "nested.npk/data_x.npkd",
        "nested.npk/README.md",
    ];
    for (at, key) in [("s3://bucket/data", "data/"), ("s3://bucket", "")] {
        let server = Server::new();
        works(&server, &["convert", one, at, "--to", "npk"]);
        let before = server.keys();
        for name in foreign {
            server.put(&format!("{key}{name}"), b"mine");
        }
        works(&server, &["convert", two, at, "--to", "npk", "--force"]);
        let keys = server.keys();
        for name in foreign {
            assert!(keys.contains(&format!("{key}{name}")), "{key}{name} is gone: {keys:?}");
        }
        for old in before.iter().filter(|k| k.ends_with("one.npkd") && k.starts_with(key)) {
            assert!(!keys.contains(old), "{old} is still there");
        }
        // A failing --force changes nothing.
        server.fault(0, usize::MAX, Fault::Status(403, "AccessDenied", None), |a| {
            a.method == "PUT" && a.uri.contains("npkd")
        });
        fails(&server, 6, &["convert", one, at, "--to", "npk", "--force"]);
        server.calm();
        assert_eq!(server.keys(), keys);
        works(&server, &["verify", at]);
    }
    let server = Server::new();
    // What a Zarr hierarchy does not reach is not part of it.
    works(&server, &["convert", "--name", "old", one, "s3://bucket/z", "--to", "zarr"]);
    server.put("z/notes/a.txt", b"mine");
    server.put("z/README.md", b"mine");
    works(&server, &["convert", "--name", "new", two, "s3://bucket/z", "--to", "zarr", "--force"]);
    let keys = server.keys();
    assert!(
        keys.contains(&"z/notes/a.txt".into()) && keys.contains(&"z/README.md".into()),
        "{keys:?}"
    );
    assert!(!keys.iter().any(|k| k.starts_with("z/old/")), "{keys:?}");
}

/// Requests for the wrong region are told the right one.
fn lives_elsewhere(server: &Server) {
    let wrong = |a: &Asked| {
        a.headers.get("authorization").is_none_or(|v| !v.to_str().unwrap().contains("/eu-west-1/"))
    };
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message><Region>eu-west-1</Region></Error>";
    server.fault(
        0,
        usize::MAX,
        Fault::Answer(400, vec![("x-amz-bucket-region", "eu-west-1")], body.into()),
        wrong,
    );
}

#[test]
fn buckets_are_followed_to_their_region() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = large(&scratch);
    lives_elsewhere(&server);
    works(&server, &["convert", &source, &server.url("m.safetensors")]);
    works(&server, &["convert", &source, &server.url("m.npk")]);
    works(&server, &["convert", &source, &server.url("m.npk"), "--force"]);
    works(&server, &["convert", &source, &server.url("m.safetensors"), "--force"]);
    for i in 0..8 {
        server.put(&format!("in/{i}.npy"), &npy(1000));
    }
    let out = format!("{}/", scratch.join("out").display());
    works(&server, &["convert", "-j4", &server.url("in/*.npy"), &out, "--to", "npz"]);
    // Requests that were under way when the first one led the others there.
    let parallel: Vec<String> = (0..8).map(|i| server.url(&format!("in/{i}.npy"))).collect();
    let mut args = vec!["convert", "-j8", "--to", "npz", "-o", &out, "--force"];
    args.extend(parallel.iter().map(String::as_str));
    server.fault(0, usize::MAX, Fault::Delay(50), |_| true);
    works(&server, &args);
    server.calm();
    lives_elsewhere(&server);
    let said = run(&server, &["inspect", &server.url("in/0.npy"), "--region", "eu-west-1"]);
    assert!(said.status.success());
}

/// The most anonymous memory that a run of npk held, in bytes.
fn peak(server: &Server, args: &[&str]) -> u64 {
    let mut child = started(server, args);
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id()))
            && let Some(line) = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))
        {
            most = most.max(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    most << 10
}

#[test]
fn memory_stays_within_its_limit() {
    let server = Server::new();
    let data = safetensors(4, 1_000_000);
    for i in 0..6 {
        server.put(&format!("in/{i}.safetensors"), &data);
    }
    for (limit, to) in [(16u64, "npk"), (16, "safetensors")] {
        let (memory, out) = (format!("{limit}MiB"), server.url(&format!("out{limit}/")));
        let most = peak(
            &server,
            &["convert", &server.url("in/*"), &out, "--to", to, "-j6", "-m", &memory],
        );
        assert!(most < (limit + 64) << 20, "-m {memory} to {to}: {} MiB", most >> 20);
    }
}
