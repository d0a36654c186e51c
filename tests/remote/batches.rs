//! Batches over object storage: which requests they make.

use std::io::Write;

use super::commands::{fails, npy, run, works};
use super::server::{Asked, BUCKET, Fault, Server};
use crate::support::{Scratch, python};

fn is_listing(a: &Asked) -> bool {
    a.uri.contains("list-type") || a.uri.contains("prefix=")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn manifest(format: &str, schema: &str, file: &str) -> String {
    serde_json::json!({
        "sourceBucket": BUCKET,
        "destinationBucket": format!("arn:aws:s3:::{BUCKET}"),
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": format,
        "fileSchema": schema,
        "files": [{"key": file, "size": 1, "MD5checksum": "f11166069f1990abeb9c97ace9cdfabc"}],
    })
    .to_string()
}

/// Objects are asked for once, and nothing else is asked.
fn only_the_objects(server: &Server, objects: &[&str]) {
    let asked = server.asked();
    assert!(!asked.iter().any(|a| a.method == "HEAD" || is_listing(a)), "{asked:?}");
    for object in objects {
        let gets = asked.iter().filter(|a| a.uri.contains(object)).count();
        assert_eq!(gets, 1, "{object}: {asked:?}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn an_inventory_is_a_list() {
    let server = Server::new();
    let scratch = Scratch::new();
    for key in ["data/a b.npy", "data/p+q/c,d.npy", "data/gone.npy"] {
        server.put(key, &npy(10));
    }
    let size = npy(10).len();
    let schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag";
    let rows = [
        format!(r#""{BUCKET}","data/","","true","false","0","""#),
        format!(r#""{BUCKET}","data/a+b.npy","v1","true","false","{size}","""#),
        format!(r#""{BUCKET}","data/p%2Bq/c%2Cd.npy","","true","false","{size}","""#),
        format!(r#""{BUCKET}","data/gone.npy","","true","true","","""#),
        format!(r#""{BUCKET}","data/gone.npy","v0","false","false","{size}","""#),
    ];
    server.put("inventory/data/1.csv.gz", &gzip(&(rows.join("\n") + "\n")));
    let csv = manifest("CSV", schema, "inventory/data/1.csv.gz");
    server.put("inventory/day/manifest.json", csv.as_bytes());
    let out = format!("{}/", scratch.join("csv").display());
    let list = server.url("inventory/day/manifest.json");
    works(&server, &["convert", "-T", &list, "-R", "-o", &out, "--to", "npk"]);
    assert!(
        scratch.join("csv/data/a b.npk").exists() && scratch.join("csv/data/p+q/c,d.npk").exists()
    );
    assert!(!scratch.join("csv/data/gone.npk").exists());
    only_the_objects(&server, &["a%20b.npy", "d.npy", "1.csv.gz", "manifest.json"]);
    // The same as Parquet, of a copy of the inventory.
    python(
        scratch.path(),
        &format!(
            "import pyarrow as pa, pyarrow.parquet as pq, os\n\
             os.makedirs('copy/data'); os.makedirs('copy/day')\n\
             pq.write_table(pa.table({{'bucket': ['{BUCKET}'] * 3,\n\
             'key': ['data/a b.npy', 'data/p+q/c,d.npy', 'data/gone.npy'],\n\
             'is_latest': [True, True, True], 'is_delete_marker': [False, None, True],\n\
             'size': pa.array([{size}, None, None], pa.int64()), 'e_tag': [None, None, 'x'],\n\
             'storage_class': ['STANDARD', None, None]}}), 'copy/data/1.parquet')"
        ),
    );
    let parquet = manifest("Parquet", "message s3.inventory {}", "inventory/data/1.parquet");
    std::fs::write(scratch.join("copy/day/manifest.json"), parquet).unwrap();
    let out = format!("{}/", scratch.join("parquet").display());
    let list = scratch.join("copy/day/manifest.json").display().to_string();
    works(&server, &["convert", "-T", &list, "-R", "-o", &out, "--to", "npk"]);
    assert!(scratch.join("parquet/data/p+q/c,d.npk").exists());
    assert!(!scratch.join("parquet/data/gone.npk").exists());
    only_the_objects(&server, &["a%20b.npy", "d.npy"]);
    // Not an inventory.
    server.put("manifest.json", b"{}");
    let said = fails(
        &server,
        7,
        &["convert", "-T", &server.url("manifest.json"), "-o", &out, "--to", "npk"],
    );
    assert!(said.contains("S3 Inventory"), "{said}");
}

#[test]
fn what_was_replaced_since_it_was_listed_is_not_converted() {
    let server = Server::new();
    let scratch = Scratch::new();
    server.put("x.npy", &npy(10));
    server.put("y.npy", &npy(10));
    let (url, size) = (server.url("x.npy"), npy(10).len());
    let list = scratch.join("list");
    let out = format!("{}/", scratch.join("out").display());
    let convert = |listed: String| {
        std::fs::write(&list, listed).unwrap();
        run(&server, &["convert", "-T", list.to_str().unwrap(), "-o", &out, "--to", "npk", "-f"])
    };
    let told = |o: &std::process::Output| String::from_utf8_lossy(&o.stderr).into_owned();
    let other = convert(format!("{url}\t{}\n{}\t{size}\n", size + 1, server.url("y.npy")));
    assert_eq!(other.status.code(), Some(1), "{}", told(&other));
    assert!(told(&other).contains("not the object that was listed"), "{}", told(&other));
    assert!(!scratch.join("out/x.npk").exists() && scratch.join("out/y.npk").exists());
    let other = convert(format!("{url}\t{size}\t\"0123\"\n"));
    assert!(told(&other).contains("its ETag is"), "{}", told(&other));
    let same = convert(format!("{url}\t{size}\n"));
    assert!(same.status.success(), "{}", told(&same));
}

/// A list with ETags needs no HEAD, and an object of the same size that has come since is noticed:
/// before it is read, and while it is.
#[test]
fn listed_etags_are_held() {
    let server = Server::new();
    let scratch = Scratch::new();
    let (small, large) = (npy(10), npy(100_000));
    server.put("small.npy", &small);
    server.put("large.npy", &large);
    let list = scratch.join("list").display().to_string();
    let out = format!("{}/", scratch.join("out").display());
    let report = scratch.join("report").display().to_string();
    let (url, other) = (server.url("small.npy"), server.url("large.npy"));
    std::fs::write(&list, format!("{url}\n{other}\n")).unwrap();
    let args = ["convert", "-T", &list, "-o", &out, "--to", "npy", "--force"];
    works(&server, &[&args[..], &["--report", &report]].concat());
    let lines = std::fs::read_to_string(scratch.join("report/share-0-of-1.jsonl")).unwrap();
    let mut listed = String::new();
    for line in lines.lines().take(2) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let source = &line["sources"][0];
        let text = |key: &str| source[key].as_str().unwrap().to_string();
        // As listings write it, with quotes.
        listed += &format!("{}\t{}\t\"{}\"\n", text("path"), source["bytes"], text("etag"));
    }
    std::fs::write(&list, &listed).unwrap();
    server.asked();
    works(&server, &args);
    let counts = counted(&server);
    assert!(counts.len() == 1 && counts["GET"] >= 2, "{counts:?}");
    // Another object of this size.
    let mut changed = small.clone();
    *changed.last_mut().unwrap() ^= 1;
    server.put("small.npy", &changed);
    let before = std::fs::read(scratch.join("out/small.npy")).unwrap();
    let said = fails(&server, 1, &args);
    assert!(said.contains("small.npy") && said.contains("its ETag is"), "{said}");
    assert!(!said.contains("large.npy"), "{said}");
    assert_eq!(std::fs::read(scratch.join("out/small.npy")).unwrap(), before);
    // The large one changes when its head has been read.
    server.put("small.npy", &small);
    let (path, mut changed) = (server.path("large.npy"), large.clone());
    *changed.last_mut().unwrap() ^= 1;
    let replace = Fault::Before(Box::new(move || super::server::put(&path, &changed)));
    server.fault(1, 1, replace, |a| a.method == "GET" && a.uri.contains("large"));
    let said = fails(&server, 1, &args);
    assert!(said.contains("large.npy: this is not the object that was listed"), "{said}");
}

/// Requests by method and kind.
fn counted(server: &Server) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for asked in server.asked() {
        let kind = if is_listing(&asked) { "LIST".to_string() } else { asked.method.to_string() };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

fn batch(server: &Server, scratch: &Scratch, n: usize) -> String {
    let mut list = String::new();
    for i in 0..n {
        let key = format!("in/x{i}.npy");
        server.put(&key, &npy(10 + i));
        list += &format!("{}\t{}\n", server.url(&key), npy(10 + i).len());
    }
    std::fs::write(scratch.join("list"), list).unwrap();
    scratch.join("list").display().to_string()
}

fn count(counts: &std::collections::BTreeMap<String, usize>, kind: &str) -> usize {
    counts.get(kind).copied().unwrap_or(0)
}

#[test]
fn small_objects_take_few_requests() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 40);
    let local = format!("{}/", scratch.join("local").display());
    works(&server, &["convert", "-T", &list, "-o", &local, "--to", "npk"]);
    let counts = counted(&server);
    assert!(counts.len() == 1 && counts["GET"] == 40, "{counts:?}");
    // A file is looked for once more, when it is complete; a store has two objects, and is listed.
    for (ending, [heads, lists, puts], gets_again) in
        [("npz", [40, 1, 40], 40), ("npk", [0, 41, 80], 80)]
    {
        let out = server.url(&format!("out-{ending}/"));
        let args = ["convert", "-T", &list, "-o", &out, "--to", ending, "--skip-existing"];
        works(&server, &args);
        let counts = counted(&server);
        let found = ["HEAD", "LIST", "PUT"].map(|kind| count(&counts, kind));
        assert!(found == [heads, lists, puts] && counts["GET"] == 40, "{ending}: {counts:?}");
        // Each output that is there is looked into, to know that it is whole.
        works(&server, &args);
        let counts = counted(&server);
        assert!(counts["GET"] <= gets_again && count(&counts, "PUT") == 0, "{counts:?}");
        assert!(count(&counts, "HEAD") == 0 && counts["LIST"] <= lists, "{ending}: {counts:?}");
    }
}

/// Formats of several files look at what a folder holds; they ask once for all of them.
#[test]
fn a_folder_is_listed_a_few_times_however_many_formats_look_at_it() {
    let server = Server::new();
    let scratch = Scratch::new();
    for i in 0..5 {
        server.put(&format!("in/{i}.npy"), &npy(10));
    }
    let out = scratch.join("out").display().to_string() + "/";
    works(&server, &["convert", "-R", &server.url("in/"), "-o", &out, "--to", "npz"]);
    let asked = server.asked();
    // Whether there are such keys is asked with `max-keys`.
    let lists = asked.iter().filter(|a| a.uri.ends_with("prefix=in%2F")).count();
    assert_eq!(lists, 2, "{asked:#?}");
}

/// The lines of a report, as of a store that lists no ETags: this server is one.
fn without_listed_etags(text: &str) -> Vec<serde_json::Value> {
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(mark) = line.get_mut("mark").and_then(|m| m.as_object_mut()) {
            mark.remove("etag");
        }
        line
    };
    text.lines().map(line).collect()
}

#[test]
fn what_a_report_knows_is_not_asked_for() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 30);
    let report = server.url("report");
    for ending in ["npk", "npz"] {
        let out = server.url(&format!("out-{ending}/"));
        let report = format!("{report}-{ending}");
        let args = [
            "convert",
            "-T",
            &list,
            "-o",
            &out,
            "--to",
            ending,
            "--skip-existing",
            "--report",
            &report,
        ];
        works(&server, &args);
        let file = server.path(&format!("report-{ending}/share-0-of-1.jsonl"));
        let first = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&first);
        assert!(text.lines().take(30).all(|l| l.contains("\"etag\"") && l.contains("\"mark\"")));
        server.asked();
        works(&server, &args);
        let asked = server.asked();
        assert!(asked.len() <= 15, "{} requests for what is done: {asked:?}", asked.len());
        assert!(first == std::fs::read(&file).unwrap(), "the report is another one");
        // Without the report's marks, as after a worker that was killed: the same lines again.
        std::fs::remove_file(&file).unwrap();
        works(&server, &args);
        let again = std::fs::read_to_string(&file).unwrap();
        assert_eq!(without_listed_etags(&text), without_listed_etags(&again));
        // Another object in the place of an output, and one that has gone.
        let (changed, gone) = match ending {
            "npk" => ("out-npk/x3.npk/metadata.npkm", "out-npk/x4.npk/metadata.npkm"),
            _ => ("out-npz/x3.npz", "out-npz/x4.npz"),
        };
        server.put(changed, b"no store");
        std::fs::remove_file(server.path(gone)).unwrap();
        let said = fails(&server, 1, &args);
        assert!(said.contains("x3") && said.contains("damaged"), "{said}");
        assert!(server.path(gone).exists(), "{said}");
        works(&server, &[&args[..7], &["--force", "--report", &report]].concat());
        works(&server, &args);
    }
}

#[test]
fn files_in_flight_follow_the_network() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 80);
    // No object comes before 40 are asked for, on however many cores.
    let together = Fault::Together(tokio::sync::Barrier::new(40));
    server.fault(0, 80, together, |a| a.method == "GET" && a.uri.contains("/in/"));
    let out = format!("{}/", scratch.join("out").display());
    works(&server, &["convert", "-T", &list, "-o", &out, "--to", "npk", "-j", "2"]);
    assert_eq!(std::fs::read_dir(scratch.join("out")).unwrap().count(), 80);
    // Little memory, fewer of them.
    let together = Fault::Together(tokio::sync::Barrier::new(5));
    server.fault(0, 80, together, |a| a.method == "GET" && a.uri.contains("/in/"));
    let args = ["convert", "-T", &list, "-o", &out, "--to", "npk", "-j", "2", "-f", "-m", "20MiB"];
    works(&server, &args);
}

#[test]
fn shares_of_a_remote_batch_are_reconciled() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 12);
    let (out, report) = (server.url("out/"), server.url("r/report"));
    let args =
        ["convert", "-T", &list, "-o", &out, "--to", "npk", "--report", &report, "--certify"];
    for share in ["0/3", "1/3"] {
        works(&server, &[&args[..], &["--shard", share]].concat());
    }
    let said = fails(&server, 1, &args);
    assert!(said.contains("1 of 3 shares are not done: 2"), "{said}");
    works(&server, &[&args[..], &["--shard", "2/3"]].concat());
    works(&server, &args);
    let told = works(&server, &["report", &report, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["complete"] == true && told["done"] == 12 && told["root"].is_string(), "{told}");
    works(&server, &["verify", "--certificate", &server.url("r/report/report.jsonl")]);
    works(&server, &["verify", "--certificate", &report, &out, "--sample", "3"]);
    // One listing of the outputs tells what is there.
    server.asked();
    std::fs::remove_dir_all(server.path("out/x5.npk")).unwrap();
    let said = fails(&server, 1, &args);
    assert!(said.contains("x5.npk: it is missing"), "{said}");
    let asked = server.asked();
    assert!(asked.len() <= 12, "{asked:?}");
}

/// Objects that a worker has left which was killed before its store had a metadata file.
#[test]
fn a_remote_store_without_its_metadata_is_made_again() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 3);
    let out = server.url("out/");
    let args = ["convert", "-T", &list, "-o", &out, "--skip-existing", "--to"];
    works(&server, &[&args[..], &["npk"]].concat());
    std::fs::remove_file(server.path("out/x1.npk/metadata.npkm")).unwrap();
    server.put("out/x1.npk/data_old.npkd", b"of another run");
    works(&server, &[&args[..], &["npk"]].concat());
    works(&server, &["verify", &server.url("out/x1.npk")]);
    assert!(!server.path("out/x1.npk/data_old.npkd").exists());
    works(&server, &[&args[..], &["zarr"]].concat());
    std::fs::remove_file(server.path("out/x2.zarr/zarr.json")).unwrap();
    let inner = server.path("out/x2.zarr/x2/zarr.json");
    let _ = std::fs::remove_file(inner);
    works(&server, &[&args[..], &["zarr"]].concat());
    works(&server, &["verify", &server.url("out/x2.zarr")]);
    // Anything else stays what it is.
    std::fs::remove_file(server.path("out/x1.npk/metadata.npkm")).unwrap();
    server.put("out/x1.npk/README.md", b"mine");
    let said = fails(&server, 1, &[&args[..], &["npk"]].concat());
    assert!(said.contains("x1.npk"), "{said}");
    assert!(server.path("out/x1.npk/README.md").exists());
}

#[test]
fn shares_ask_hardly_more_than_one_process() {
    let server = Server::new();
    let scratch = Scratch::new();
    let list = batch(&server, &scratch, 80);
    let convert = |out: &str, shares: usize| {
        let out = server.url(out);
        server.asked();
        for i in 0..shares {
            let share = format!("{i}/{shares}");
            let args = ["convert", "-T", &list, "-o", &out, "--to", "npz", "--skip-existing"];
            works(&server, &[&args[..], &["--shard", &share]].concat());
        }
        server.asked().len()
    };
    let (one, eight) = (convert("one/", 1), convert("eight/", 8));
    assert!(eight * 10 <= one * 11, "{one} requests of one process, {eight} of eight shares");
    assert_eq!(std::fs::read_dir(server.path("eight")).unwrap().count(), 80);
}

#[test]
fn a_remote_report_is_sent_in_parts() {
    let server = Server::new();
    let scratch = Scratch::new();
    std::fs::write(scratch.join("x.npy"), npy(1)).unwrap();
    let mut list = String::new();
    for i in 0..1100 {
        let name = scratch.join(&format!("x{i}.npy"));
        std::fs::hard_link(scratch.join("x.npy"), &name).unwrap();
        list += &format!("{}\n", name.display());
    }
    std::fs::write(scratch.join("list"), list).unwrap();
    let (list, report) = (scratch.join("list").display().to_string(), server.url("report"));
    let out = format!("{}/", scratch.join("out").display());
    let args =
        ["convert", "-T", &list, "-o", &out, "--to", "npy", "--skip-existing", "--report", &report];
    // Killed when a part has come, which the next worker goes on from.
    let mut child = super::commands::started(&server, &args);
    server.wait_for(|a| a.method == "PUT" && a.uri.contains(".part"));
    child.kill().unwrap();
    child.wait().unwrap();
    works(&server, &args);
    let files: Vec<String> = server.keys().into_iter().filter(|k| k.contains("report")).collect();
    assert_eq!(files, ["report/share-0-of-1.jsonl"]);
    let text = std::fs::read_to_string(server.path("report/share-0-of-1.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1101);
    assert!(text.ends_with("}\n") && text.contains("\"units\":1100,\"done\":1100"));
}
