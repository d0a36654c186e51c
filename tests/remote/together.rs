//! One Zarr hierarchy on object storage, by many processes.

use super::commands::{fails, npy, started, works};
use super::server::{Fault, Server};
use crate::support::Scratch;
use crate::support::files_below;

const CHUNKS: [&str; 2] = ["--chunk-shape", "20,2"];

fn args<'a>(source: &'a str, output: &'a str, last: &[&'a str]) -> Vec<&'a str> {
    [&["convert", source, output][..], &CHUNKS, last].concat()
}

#[test]
fn shares_of_one_output_are_as_one_process_makes_it() {
    let server = Server::new();
    server.put("in/x.npy", &npy(500));
    let (x, one) = (server.url("in/x.npy"), server.url("one.zarr"));
    works(&server, &args(&x, &one, &[]));
    let expected = files_below(&server.path("one.zarr"));
    for n in [1, 2, 3, 7] {
        let (name, output) = (format!("out{n}.zarr"), server.url(&format!("out{n}.zarr")));
        for i in (0..n).rev() {
            server.asked();
            works(&server, &args(&x, &output, &["--shard", &format!("{i}/{n}")]));
            assert!(!server.path(&name).join("zarr.json").exists());
            // A PUT for each chunk, and nothing else for it.
            let asked = server.asked();
            let chunks = files_below(&server.path(&name).join("x/c")).len() as u64;
            let puts = asked.iter().filter(|a| a.method == "PUT").count() as u64;
            assert!(puts <= 50u64.div_ceil(n) + 4 && chunks >= puts - 2, "{asked:?}");
            let others = asked.len() as u64 - puts;
            assert!(others < 25, "{others} requests besides: {asked:?}");
        }
        fails(&server, 3, &["inspect", &output]);
        works(&server, &args(&x, &output, &["--finish"]));
        assert!(files_below(&server.path(&name)) == expected, "{n} shares");
        works(&server, &["diff", &x, &output]);
    }
    // By another version of the format, from a local file.
    let s = Scratch::new();
    std::fs::write(s.join("x.npy"), npy(500)).unwrap();
    let local = s.join("x.npy").display().to_string();
    let (one, two) = (server.url("v2.zarr"), server.url("shared2.zarr"));
    let v2 = ["--zarr-format", "2"];
    works(&server, &args(&local, &one, &v2));
    for share in ["0/2", "1/2"] {
        works(&server, &[&args(&local, &two, &v2)[..], &["--shard", share]].concat());
    }
    works(&server, &[&args(&local, &two, &v2)[..], &["--finish"]].concat());
    assert!(files_below(&server.path("v2.zarr")) == files_below(&server.path("shared2.zarr")));
}

#[test]
fn an_output_that_is_there_or_begun_is_respected() {
    let server = Server::new();
    server.put("x.npy", &npy(100));
    server.put("y.npy", &npy(101));
    let (x, y, out) = (server.url("x.npy"), server.url("y.npy"), server.url("out.zarr"));
    let said = fails(&server, 3, &args(&x, &out, &["--finish"]));
    assert!(said.contains("no share of it is done"), "{said}");
    works(&server, &args(&x, &out, &["--shard", "0/2"]));
    let said = fails(&server, 3, &["list", &out]);
    assert!(said.contains("written in shares"), "{said}");
    let said = fails(&server, 1, &args(&x, &out, &["--finish"]));
    assert!(said.contains("1 of 2 shares are not done: 1"), "{said}");
    // Nobody writes over it by accident: neither shares of something else nor one process.
    let said = fails(&server, 5, &args(&y, &out, &["--shard", "0/2"]));
    assert!(said.contains("from another source"), "{said}");
    fails(&server, 5, &args(&y, &out, &[]));
    fails(&server, 5, &args(&y, &out, &["--force"]));
    // What another source has left goes when it is said.
    for share in ["0/3", "1/3", "2/3"] {
        works(&server, &args(&y, &out, &["--shard", share, "--force"]));
    }
    fails(&server, 5, &args(&x, &out, &["--finish"]));
    // It wrote chunks that the new one has not.
    server.put("out.zarr/x/c/9/9", b"stale");
    let said = fails(&server, 5, &args(&y, &out, &["--finish"]));
    assert!(said.contains("of something else are there"), "{said}");
    server.put("out.zarr/README.md", b"mine");
    let said = fails(&server, 5, &args(&y, &out, &["--finish", "--force"]));
    assert!(said.contains("README.md"), "{said}");
    std::fs::remove_file(server.path("out.zarr/README.md")).unwrap();
    works(&server, &args(&y, &out, &["--finish", "--force"]));
    works(&server, &["diff", &y, &out]);
    let whole = files_below(&server.path("out.zarr"));
    works(&server, &args(&y, &server.url("one.zarr"), &[]));
    assert!(whole == files_below(&server.path("one.zarr")));
    // A whole one is not replaced piece by piece.
    for more in [&["--shard", "0/2"][..], &["--shard", "0/2", "--force"], &["--finish"]] {
        fails(&server, 5, &args(&y, &out, more));
    }
    works(&server, &args(&y, &out, &["--shard", "0/2", "--skip-existing"]));
    works(&server, &args(&y, &out, &["--finish", "--skip-existing"]));
    assert!(whole == files_below(&server.path("out.zarr")));
}

#[test]
fn workers_that_are_killed_do_no_harm() {
    let server = Server::new();
    server.put("x.npy", &npy(400));
    let (x, out) = (server.url("x.npy"), server.url("out.zarr"));
    works(&server, &args(&x, &server.url("one.zarr"), &[]));
    let share = args(&x, &out, &["--shard", "0/2", "-j", "1"]);
    for chunk in ["plan.json", "x/c/0/1", "x/c/7/0", "share-0-of-2"] {
        server.asked();
        let mut child = started(&server, &share);
        server.wait_for(|a| a.method == "PUT" && a.uri.contains(chunk));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut twins = [started(&server, &share), started(&server, &share)];
    works(&server, &args(&x, &out, &["--shard", "1/2"]));
    for twin in &mut twins {
        assert!(twin.wait().unwrap().success());
    }
    // Killed between the last of the metadata and the end.
    server.fault(0, 1000, Fault::Status(503, "SlowDown", None), |a| a.method == "DELETE");
    let finish = args(&x, &out, &["--finish"]);
    let mut child = started(&server, &finish);
    server.wait_for(|a| a.method == "DELETE");
    child.kill().unwrap();
    child.wait().unwrap();
    server.calm();
    assert!(server.path("out.zarr/zarr.json").exists());
    works(&server, &finish);
    assert!(files_below(&server.path("one.zarr")) == files_below(&server.path("out.zarr")));
}
