//! A batch of many small objects over several shares, whose workers are killed at random.
//!
//! In full, with its figures, and with the optimised binary:
//! `NPK_LOAD_OBJECTS=100000 NPK_TEST_BINARY=target/release/npk cargo test --test main
//! many_small_objects -- --nocapture`.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::commands::{npy, works};
use super::server::{Fault, Server};
use crate::support::{Scratch, npk_command};

/// The memory of a worker, in MiB, and the files that it has in flight at most: one for 4 of them.
const MEMORY: usize = 64;
const IN_FLIGHT: usize = MEMORY / 4;

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

struct Batch<'a> {
    server: &'a Server,
    list: String,
    objects: usize,
}

/// What a run has come to.
#[derive(Default)]
struct Run {
    kills: usize,
    requests: usize,
    /// How often each output was written.
    puts: HashMap<String, usize>,
}

impl Run {
    /// Counts the requests that have come; the server keeps them no longer.
    fn count(&mut self, server: &Server) {
        let asked = server.asked();
        self.requests += asked.len();
        for a in asked.into_iter().filter(|a| a.method == "PUT" && a.uri.contains(".npz")) {
            *self.puts.entry(a.uri).or_default() += 1;
        }
    }
}

impl Batch<'_> {
    fn args(&self, shares: usize) -> Vec<String> {
        let (out, report) = (
            self.server.url(&format!("out-{shares}/")),
            self.server.url(&format!("report-{shares}")),
        );
        let args = ["convert", "-q", "-T", &self.list, "-o", &out, "--to", "npz"];
        let memory = format!("{MEMORY}MiB");
        let more = ["--skip-existing", "--certify", "--report", &report];
        let least = ["-j", "2", "--memory-limit", &memory];
        args.iter().chain(&more).chain(&least).map(|a| a.to_string()).collect()
    }

    fn worker(&self, shares: usize, index: usize) -> Child {
        npk_command()
            .args(self.args(shares))
            .args(["--shard", &format!("{index}/{shares}")])
            .envs(self.server.environment())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// Runs all shares at the same time, and kills workers.
    fn run(&self, shares: usize, random: &mut Random) -> Run {
        let mut workers: Vec<Child> = (0..shares).map(|i| self.worker(shares, i)).collect();
        let (mut run, wanted) = (Run::default(), 3 * shares);
        let mut next = 1 + random.below(4 * self.objects / wanted);
        while workers.iter_mut().any(|w| w.try_wait().unwrap().is_none()) {
            // A worker is killed after so many more requests, wherever that is.
            let left = if run.kills < wanted { next.saturating_sub(run.requests) } else { 1000 };
            self.server.has_asked(left.min(1000));
            run.count(self.server);
            if run.kills == wanted || run.requests < next {
                continue;
            }
            next = run.requests + 1 + random.below(4 * self.objects / wanted);
            let victim = random.below(shares);
            if workers[victim].try_wait().unwrap().is_none() {
                workers[victim].kill().unwrap();
                workers[victim].wait().unwrap();
                workers[victim] = self.worker(shares, victim);
                run.kills += 1;
            }
        }
        assert!(workers.into_iter().all(|mut worker| worker.wait().unwrap().success()));
        run.count(self.server);
        run
    }
}

/// Nothing is lost, nothing is done twice but what was under way, and the root is always the same.
#[test]
fn many_small_objects_over_shares_with_kills() {
    let objects = std::env::var("NPK_LOAD_OBJECTS").map_or(400, |n| n.parse().unwrap());
    let (server, scratch) = (Server::new(), Scratch::new());
    server.lists_quickly();
    let mut list = String::new();
    for i in 0..objects {
        let (key, bytes) = (format!("in/{}/x{i}.npy", i % 100), npy(1 + i % 50));
        server.put(&key, &bytes);
        list += &format!("{}\t{}\n", server.url(&key), bytes.len());
    }
    std::fs::write(scratch.join("list"), list).unwrap();
    let list = scratch.join("list").display().to_string();
    let batch = Batch { server: &server, list, objects };
    let (mut roots, mut random) = (Vec::new(), Random(0x9E37_79B9_7F4A_7C15));
    for shares in [1, 2, 4, 8] {
        server.asked();
        let began = Instant::now();
        let Run { kills, requests, puts } = batch.run(shares, &mut random);
        let took = began.elapsed();
        let again: usize = puts.values().map(|n| n - 1).sum();
        assert_eq!(puts.len(), objects);
        assert!(again <= kills * IN_FLIGHT, "{again} outputs were written again, {kills} kills");
        let args = batch.args(shares);
        let told = works(&server, &[&args[..], &["--json".to_string()]].concat());
        let report = server.url(&format!("report-{shares}"));
        let table = works(&server, &["report", &report, "--json"]);
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        assert!(table["complete"] == true && table["units"] == objects, "{told} {table}");
        roots.push(table["root"].as_str().unwrap().to_string());
        println!(
            "{objects} objects, {shares} shares: {kills} kills, {again} written again, {requests} requests, {:.1} s",
            took.as_secs_f64()
        );
        server.forget(&format!("out-{shares}"));
    }
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

/// The server for `benches/many_objects.py`: it answers after so many milliseconds.
#[test]
#[ignore = "a server for benches/many_objects.py"]
fn serve() {
    let Ok(folder) = std::env::var("NPK_SERVE") else { return };
    let server = Server::new();
    server.lists_quickly();
    let number = |name: &str| std::env::var(name).map_or(0, |n| n.parse::<usize>().unwrap());
    let (objects, bytes) = (number("NPK_SERVE_OBJECTS"), number("NPK_SERVE_BYTES"));
    let mut list = String::new();
    for i in 0..objects {
        let key = format!("in/x{i:06}.npy");
        server.put(&key, &npy(bytes / 24));
        list += &format!("{}\n", server.url(&key));
    }
    let folder = std::path::Path::new(&folder);
    std::fs::write(folder.join("list"), list).unwrap();
    let latency = number("NPK_SERVE_LATENCY_MS") as u64;
    server.fault(0, usize::MAX, Fault::Delay(latency), |_| true);
    std::fs::write(folder.join("server.json"), serde_json::json!(server.environment()).to_string())
        .unwrap();
    // A line asks how many requests there were since the last one; the end of stdin ends it.
    for line in std::io::stdin().lines() {
        let counted = server.asked().len().to_string();
        std::fs::write(folder.join(line.unwrap()), counted).unwrap();
    }
}
