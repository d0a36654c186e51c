//! The location layer itself: ranges, listings, uploads.

use std::io::{Read, Write};

use npk::format::Existing;
use npk::storage::remote::{RemoteOptions, expand, open, walk};
use npk::storage::{EntryKind, Location};

use super::server::{Fault, Server};

/// Without keys: the process's environment belongs to all tests.
pub fn options(server: &Server) -> RemoteOptions {
    RemoteOptions {
        endpoint_url: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        no_sign_request: true,
        memory_bytes: 256 << 20,
        retries: None,
        ..RemoteOptions::default()
    }
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn at(server: &Server, key: &str) -> Location {
    open(&server.url(key), &options(server)).unwrap()
}

fn read_all(location: &Location) -> Vec<u8> {
    let mut all = Vec::new();
    location.stream().unwrap().read_to_end(&mut all).unwrap();
    all
}

#[test]
fn reads_ranges() {
    let server = Server::anonymous();
    let data = bytes(21 << 20);
    server.put("big.bin", &data);
    let location = at(&server, "big.bin");
    assert_eq!(location.file_name(), "big.bin");
    assert!(
        matches!(location.kind().unwrap(), EntryKind::File { len, modified: Some(_) } if len == data.len() as u64)
    );
    let blob = location.blob().unwrap();
    assert_eq!(blob.len(), data.len() as u64);
    for (offset, len) in [
        (0, 10),
        (60_000, 10_000),
        (5, 20 << 20),
        (data.len() - 8, 8),
        (data.len() - 70_000, 10),
        (12_345_678, 1),
    ] {
        assert!(
            blob.read_vec(offset as u64, len as u64).unwrap() == data[offset..offset + len],
            "{len} bytes at {offset}"
        );
    }
    let ranges = [
        5_000_000..5_000_100,
        10..20,
        5_010_000..5_020_000,
        0..0,
        9_000_000..19_000_000,
        9_000_010..9_000_020,
    ];
    let got = blob.read_ranges(&ranges).unwrap();
    for (range, bytes) in ranges.iter().zip(got) {
        assert!(bytes == data[range.start as usize..range.end as usize], "{range:?}");
    }
    assert!(blob.read_vec(data.len() as u64, 1).is_err());
    assert!(blob.read_vec(u64::MAX, 1).is_err());
    assert!(read_all(&location) == data);
}

#[test]
fn keys_are_bytes() {
    let server = Server::anonymous();
    let keys = [
        "plain",
        "with space.npy",
        "100%.npy",
        "a#b",
        "q?x=1",
        "a+b",
        "%2F",
        "grün/日本.npy",
        "a&b=c",
        "semi;colon",
        "quote'\"",
        "tilde~",
        "star*",
    ];
    for key in keys {
        let data = key.as_bytes();
        let location = at(&server, key);
        assert_eq!(location.kind().unwrap(), EntryKind::Missing, "{key}");
        let mut output = location.create_file(Existing::Error, false).unwrap();
        output.write_all(data).unwrap();
        output.commit().unwrap();
        assert_eq!(std::fs::read(server.path(key)).unwrap(), data, "{key}");
        assert_eq!(at(&server, key).blob().unwrap().read_vec(0, data.len() as u64).unwrap(), data);
        assert_eq!(location.display(), format!("s3://bucket/{key}"));
    }
    let mut listed: Vec<String> =
        walk(&at(&server, "")).unwrap().into_iter().map(|(name, _)| name).collect();
    listed.sort();
    let mut expected: Vec<String> = keys.iter().map(|k| k.to_string()).collect();
    expected.sort();
    assert_eq!(listed, expected);
    for bad in ["a//b", "/a", "a/../b", "./a", "a\tb"] {
        assert_eq!(
            open(&server.url(bad), &options(&server)).unwrap_err().kind(),
            npk::error::ErrorKind::Refused,
            "{bad}"
        );
    }
}

#[test]
fn directories_and_globs() {
    let server = Server::anonymous();
    for key in ["d/a.npy", "d/b.npy", "d/c.txt", "d/e/f.npy", "d/e/g/h.npy", "di", "dj/a.npy"] {
        server.put(key, key.as_bytes());
    }
    assert_eq!(at(&server, "d").kind().unwrap(), EntryKind::Dir);
    assert_eq!(at(&server, "d/").kind().unwrap(), EntryKind::Dir);
    assert_eq!(at(&server, "").kind().unwrap(), EntryKind::Dir);
    assert_eq!(at(&server, "x").kind().unwrap(), EntryKind::Missing);
    let names: Vec<(String, bool)> =
        at(&server, "d").list().unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
    assert_eq!(
        names,
        [
            ("a.npy".into(), false),
            ("b.npy".into(), false),
            ("c.txt".into(), false),
            ("e".to_string(), true)
        ]
    );
    let found = |pattern: &str| -> Vec<String> {
        expand(&server.url(pattern), &options(&server))
            .unwrap()
            .iter()
            .map(|l| l.display().replace("s3://bucket/", ""))
            .collect()
    };
    assert_eq!(found("d/*.npy"), ["d/a.npy", "d/b.npy"]);
    assert_eq!(found("d/[ac].*"), ["d/a.npy", "d/c.txt"]);
    assert_eq!(found("d?/*"), ["dj/a.npy"]);
    assert_eq!(found("d/**/*.npy"), ["d/a.npy", "d/b.npy", "d/e/f.npy", "d/e/g/h.npy"]);
    assert_eq!(found("d*/e"), ["d/e"]);
    assert_eq!(found("d/a.npy"), ["d/a.npy"]);
    let error = expand(&server.url("d/*.zarr"), &options(&server)).unwrap_err();
    assert_eq!(error.kind(), npk::error::ErrorKind::Missing);
    let all: Vec<String> =
        walk(&at(&server, "d")).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, ["a.npy", "b.npy", "c.txt", "e/f.npy", "e/g/h.npy"]);
}

#[test]
fn large_uploads_come_in_parts() {
    let server = Server::anonymous();
    let data = bytes(37 << 20);
    let location = at(&server, "big.bin");
    let mut output = location.create_file(Existing::Error, false).unwrap();
    for piece in data.chunks(3_000_001) {
        output.write_all(piece).unwrap();
    }
    assert!(server.keys().is_empty(), "it appears before its time");
    output.commit().unwrap();
    assert_eq!(server.keys(), ["big.bin"]);
    assert!(std::fs::read(server.path("big.bin")).unwrap() == data);
    assert_eq!(server.asked().iter().filter(|a| a.uri.contains("partNumber=")).count(), 5);
    // Existing ones are not replaced without being asked.
    assert_eq!(
        location.create_file(Existing::Error, false).err().unwrap().kind(),
        npk::error::ErrorKind::Exists
    );
    let mut output = location.create_file(Existing::Replace, false).unwrap();
    output.write_all(b"small").unwrap();
    output.commit().unwrap();
    assert_eq!(std::fs::read(server.path("big.bin")).unwrap(), b"small");
    assert_eq!(location.blob().unwrap().len(), 5);
}

#[test]
fn dropped_uploads_leave_nothing() {
    let server = Server::anonymous();
    let mut output = at(&server, "gone.bin").create_file(Existing::Error, false).unwrap();
    output.write_all(&bytes(20 << 20)).unwrap();
    drop(output);
    assert!(server.keys().is_empty());
    assert!(
        server.asked().iter().any(|a| a.method == "DELETE" && a.uri.contains("uploadId=")),
        "it was not aborted"
    );
    assert!(server.unfinished().is_empty(), "{:?}", server.unfinished());
    let directory = at(&server, "store").create_dir(Existing::Error, false, &["m"]).unwrap();
    let mut file = directory.create("a").unwrap();
    file.write_all(b"1").unwrap();
    file.commit().unwrap();
    let mut file = directory.create("b").unwrap();
    file.write_all(&bytes(9 << 20)).unwrap();
    assert_eq!(server.keys(), ["store/a"]);
    drop(file);
    drop(directory);
    assert!(server.keys().is_empty());
}

#[test]
fn directories_are_replaced() {
    let server = Server::anonymous();
    let write = |existing, names: &[&str]| {
        let directory = at(&server, "out.npk").create_dir(existing, false, &["metadata.npkm"])?;
        for name in names {
            let mut file = directory.create(name)?;
            file.write_all(name.as_bytes())?;
            file.commit()?;
        }
        directory.commit(&[("npk.json", b"{}"), ("metadata.npkm", b"meta")])
    };
    write(Existing::Error, &["a.npkd", "b.npkd"]).unwrap();
    assert_eq!(
        server.keys(),
        ["out.npk/a.npkd", "out.npk/b.npkd", "out.npk/metadata.npkm", "out.npk/npk.json"]
    );
    let asked = server.asked();
    let puts: Vec<&str> =
        asked.iter().filter(|a| a.method == "PUT").map(|a| a.uri.as_str()).collect();
    assert!(puts.last().unwrap().contains("metadata.npkm"), "{puts:?}");
    assert_eq!(
        write(Existing::Error, &["c.npkd"]).unwrap_err().kind(),
        npk::error::ErrorKind::Exists
    );
    server.put("out.npk/README.md", b"mine");
    server.put("out.npk/notes/other.txt", b"mine");
    write(Existing::Replace, &["b.npkd", "c.npkd"]).unwrap();
    let expected = [
        "out.npk/README.md",
        "out.npk/b.npkd",
        "out.npk/c.npkd",
        "out.npk/metadata.npkm",
        "out.npk/notes/other.txt",
        "out.npk/npk.json",
    ];
    assert_eq!(server.keys(), expected);
    // Somebody's folder is not a store.
    server.put("photos/a.jpg", b"x");
    let error = at(&server, "photos")
        .create_dir(Existing::Replace, false, &["metadata.npkm"])
        .err()
        .unwrap();
    assert_eq!(error.kind(), npk::error::ErrorKind::Exists);
}

#[test]
fn empty_objects() {
    let server = Server::anonymous();
    server.put("empty.txt", b"");
    let location = at(&server, "empty.txt");
    assert!(matches!(location.kind().unwrap(), EntryKind::File { len: 0, .. }));
    assert_eq!(location.head(4096).unwrap(), b"");
    assert_eq!(read_all(&location), b"");
    let output = at(&server, "made.txt").create_file(Existing::Error, false).unwrap();
    output.commit().unwrap();
    assert_eq!(std::fs::read(server.path("made.txt")).unwrap(), b"");
}

#[test]
fn reading_survives_faults() {
    let server = Server::anonymous();
    let data = bytes(12 << 20);
    server.put("data.bin", &data);
    let get = |a: &super::server::Asked| a.method == "GET" && a.uri.contains("data.bin");
    server.fault(1, 2, Fault::Status(503, "SlowDown", Some("0.05")), get);
    server.fault(3, 1, Fault::Status(500, "InternalError", None), get);
    server.fault(4, 1, Fault::Refuse, get);
    server.fault(5, 3, Fault::Cut(100_000), get);
    server.fault(0, 1, Fault::Cut(10), get);
    let location = at(&server, "data.bin");
    assert!(location.blob().unwrap().read_vec(0, data.len() as u64).unwrap() == data);
    assert!(server.all_happened());
    server.fault(0, 3, Fault::Cut(1_000_000), get);
    assert!(read_all(&location) == data);
    assert!(server.all_happened());
    // What does not end, ends in an error.
    server.fault(0, usize::MAX, Fault::Status(503, "SlowDown", None), get);
    let once = RemoteOptions { retries: Some(1), ..options(&server) };
    let error = open(&server.url("data.bin"), &once).unwrap().kind().unwrap_err();
    assert_eq!(error.kind(), npk::error::ErrorKind::Remote);
    assert!(error.to_string().contains("slow down"), "{error}");
}

#[test]
fn a_replaced_object_is_noticed() {
    let server = Server::anonymous();
    let data = bytes(12 << 20);
    server.put("data.bin", &data);
    let location = at(&server, "data.bin");
    let blob = location.blob().unwrap();
    let mut other = data.clone();
    other[11 << 20] ^= 1;
    server.put("data.bin", &other);
    let error = blob.read_vec(0, data.len() as u64).unwrap_err();
    assert_eq!(error.kind(), npk::error::ErrorKind::Remote);
    assert!(error.to_string().contains("replaced"), "{error}");
}

#[test]
fn writing_survives_faults() {
    let server = Server::anonymous();
    let data = bytes(20 << 20);
    let part = |a: &super::server::Asked| a.uri.contains("partNumber=");
    let complete = |a: &super::server::Asked| a.method == "POST" && a.uri.contains("uploadId=");
    server.fault(0, 1, Fault::Status(503, "SlowDown", Some("0.05")), |a| {
        a.method == "POST" && a.uri.contains("uploads")
    });
    server.fault(0, 1, Fault::LoseAnswer, part);
    server.fault(1, 1, Fault::Status(500, "InternalError", None), part);
    server.fault(2, 1, Fault::Refuse, part);
    server.fault(0, 1, Fault::LoseAnswer, complete);
    let mut output = at(&server, "data.bin").create_file(Existing::Error, false).unwrap();
    output.write_all(&data).unwrap();
    output.commit().unwrap();
    assert!(server.all_happened());
    assert!(std::fs::read(server.path("data.bin")).unwrap() == data);
    // A small one: lost and done again.
    server.fault(0, 2, Fault::LoseAnswer, |a| a.method == "PUT");
    let mut output = at(&server, "small.bin").create_file(Existing::Error, false).unwrap();
    output.write_all(b"small").unwrap();
    output.commit().unwrap();
    assert_eq!(std::fs::read(server.path("small.bin")).unwrap(), b"small");
    // What fails for good leaves nothing.
    server.calm();
    server.fault(1, usize::MAX, Fault::Status(500, "InternalError", None), part);
    let once = RemoteOptions { retries: Some(1), ..options(&server) };
    let mut output =
        open(&server.url("bad.bin"), &once).unwrap().create_file(Existing::Error, false).unwrap();
    let result =
        output.write_all(&data).map_err(npk::error::Error::from).and_then(|()| output.commit());
    assert_eq!(result.unwrap_err().kind(), npk::error::ErrorKind::Remote);
    assert_eq!(server.keys(), ["data.bin", "small.bin"]);
    assert!(server.unfinished().is_empty());
}

#[test]
fn servers_without_ranges() {
    let server = Server::web();
    let data = bytes(300_000);
    server.put("data.bin", &data);
    server.fault(0, usize::MAX, Fault::NoRanges, |_| true);
    let url = format!("{}/bucket/data.bin?X-Amz-Signature=abc&x=y", server.endpoint());
    let location = open(&url, &options(&server)).unwrap();
    assert_eq!(location.file_name(), "data.bin");
    assert_eq!(
        location.display(),
        format!("{}/bucket/data.bin?X-Amz-Signature=***&x=y", server.endpoint())
    );
    let blob = location.blob().unwrap();
    assert!(blob.read_vec(100_000, 200_000).unwrap() == data[100_000..]);
    assert!(read_all(&location) == data);
}

#[test]
fn web_servers_with_ranges() {
    let server = Server::web();
    let data = bytes(3_000_000);
    server.put("my data.bin", &data);
    let url = format!(
        "{}/bucket/my%20data.bin",
        server.endpoint().replace("http://", "http://user:secret@")
    );
    let location = open(&url, &options(&server)).unwrap();
    assert_eq!(location.file_name(), "my data.bin");
    assert!(
        !location.display().contains("secret") && !location.display().contains("user"),
        "{}",
        location.display()
    );
    assert!(location.blob().unwrap().read_vec(0, data.len() as u64).unwrap() == data);
    assert!(read_all(&location) == data);
    assert_eq!(
        open(&format!("{}/bucket/none", server.endpoint()), &options(&server))
            .unwrap()
            .kind()
            .unwrap(),
        EntryKind::Missing
    );
    assert_eq!(
        location.create_file(Existing::Replace, false).err().unwrap().kind(),
        npk::error::ErrorKind::Refused
    );
}
