//! Batches over object storage: which requests they make.

use std::io::Write;

use super::commands::{fails, npy, run, works};
use super::server::{Asked, BUCKET, Server};
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
