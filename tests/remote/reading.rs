//! Reading: few requests, buckets that cannot be listed, odd keys, errors behind decoders, other
//! services.

use std::time::{Duration, Instant, SystemTime};

use npk::storage::remote::{open, walk};

use super::commands::{fails, npy, run, safetensors, works};
use super::library::options;
use super::server::{Asked, BUCKET, Fault, Server};
use crate::support::{Scratch, fixture, npk, npk_command};

fn lists(a: &Asked) -> bool {
    a.method == "GET" && a.uri.contains("list-type=")
}

fn fetched(asked: &[Asked]) -> u64 {
    let bytes = |a: &Asked| -> Option<u64> {
        let (first, last) =
            a.headers.get("range")?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        Some(last.parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
    };
    asked.iter().map(|a| bytes(a).unwrap_or(0)).sum()
}

/// The library reads a temporary copy; others find the same bytes in the object.
#[test]
#[cfg(feature = "hdf5")]
fn references_into_remote_hdf5_name_the_object() {
    let (server, scratch) = (Server::new(), Scratch::new());
    let file = fixture("good/hdf5/h5py_new.h5");
    server.put("x.h5", &std::fs::read(&file).unwrap());
    let set = |source: &str, name: &str| {
        let out = scratch.join(name).to_str().unwrap().to_string();
        works(&server, &["convert", source, &out, "--to", "kerchunk", "-a", "z"]);
        std::fs::read_to_string(out).unwrap()
    };
    let local = set(file.to_str().unwrap(), "local.json");
    let remote = set(&server.url("x.h5"), "remote.json");
    assert!(remote.contains(&server.url("x.h5")), "{remote}");
    let here = format!("file://{}", file.canonicalize().unwrap().display());
    assert!(local.contains(&here), "{local}");
    assert_eq!(local.replace(&here, &server.url("x.h5")), remote);
    // From a server without ranges others cannot read parts, either.
    let web = Server::web();
    web.put("x.h5", &std::fs::read(&file).unwrap());
    web.fault(0, usize::MAX, Fault::NoRanges, |_| true);
    let url = format!("{}/{BUCKET}/x.h5", web.endpoint());
    let out = scratch.join("web.json");
    let said =
        fails(&web, 4, &["convert", &url, out.to_str().unwrap(), "--to", "kerchunk", "-a", "z"]);
    assert!(said.contains("its bytes lie in no file"), "{said}");
}

#[test]
fn checkpoints_of_many_ranks_are_read_from_a_bucket() {
    for folder in [
        "dcp/torch2.15.dcp",
        "dcp/safetensors_format.dcp",
        "deepspeed/stage3.deepspeed",
        "fsdp/dtensor.fsdp",
    ] {
        let server = Server::new();
        let scratch = Scratch::new();
        let local = fixture(&format!("good/{folder}"));
        let mut due = vec![local.clone()];
        while let Some(path) = due.pop() {
            if path.is_dir() {
                due.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let key = path.strip_prefix(&local).unwrap().display().to_string();
            server.put(&format!("c/{key}"), &std::fs::read(&path).unwrap());
        }
        let (url, out) = (server.url("c/"), scratch.join("o.pt").display().to_string());
        works(&server, &["convert", &url, &out]);
        npk(&["diff", &out, local.to_str().unwrap()]);
        works(&server, &["verify", &url]);
    }
}

#[test]
fn every_format_is_looked_at_by_few_requests() {
    let server = Server::new();
    let scratch = Scratch::new();
    let (many, one) = (scratch.join("m.safetensors"), scratch.join("x.npy"));
    std::fs::write(&many, safetensors(24, 200_000)).unwrap();
    std::fs::write(&one, npy(400_000)).unwrap();
    for (key, source, requests) in [
        ("m.npz", &many, 30),
        ("m.parquet", &many, 8),
        ("m.pt", &many, 30),
        ("m.feather", &many, 30),
        ("m.zarr", &many, 40),
        ("m.npk", &many, 40),
        ("m.safetensors", &many, 8),
        ("x.npy", &one, 8),
    ] {
        let url = server.url(key);
        works(&server, &["convert", source.to_str().unwrap(), &url]);
        for command in [&["inspect", "--json"][..], &["list"][..]] {
            server.asked();
            works(&server, &[command, &[&url]].concat());
            let asked = server.asked();
            let bytes = fetched(&asked);
            println!("{key} {command:?}: {} requests, {bytes} bytes", asked.len());
            assert!(
                asked.len() <= requests,
                "{key} {command:?}: {} requests {asked:#?}",
                asked.len()
            );
            assert!(bytes < 5 << 20, "{key} {command:?}: {bytes} bytes");
        }
    }
}

#[test]
fn columns_of_lists_are_not_fetched_to_be_named() {
    let server = Server::new();
    let scratch = Scratch::new();
    let (a, b) = (scratch.join("a.npy"), scratch.join("b.npy"));
    std::fs::write(&a, npy(100_000)).unwrap();
    std::fs::write(&b, npy(100_000)).unwrap();
    let url = server.url("x.parquet");
    works(&server, &["convert", a.to_str().unwrap(), b.to_str().unwrap(), &url, "-c", "none"]);
    assert_eq!(
        works(&server, &["list", "-l", &url]),
        "a\tfloat64\t100000x3\t2400000\nb\tfloat64\t100000x3\t2400000\n"
    );
    let out = scratch.join("b.npz");
    let choice = |flag| ["convert", "--force", &url, out.to_str().unwrap(), flag];
    let (with, without) =
        ([&choice("-a")[..], &["b"]].concat(), [&choice("-x")[..], &["a"]].concat());
    // The head and the tail of the file; and one of two columns of 2.4 MB.
    let small = 200_000;
    for (args, most) in [
        (&["list", &url][..], small),
        (&["inspect", "--json", &url], small),
        (&["inspect", "-a", "b", &url], small),
        (&with, 2_800_000),
        (&without, 2_800_000),
    ] {
        server.asked();
        works(&server, args);
        let bytes = fetched(&server.asked());
        assert!(bytes < most, "{args:?}: {bytes} bytes");
    }
    works(&server, &["diff", &url, out.to_str().unwrap(), "-a", "b"]);
    works(&server, &["convert", &url, scratch.join("all.npz").to_str().unwrap()]);
    works(&server, &["diff", &url, scratch.join("all.npz").to_str().unwrap()]);
}

#[test]
fn the_size_of_a_prefix_is_one_listing() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("x.npy");
    std::fs::write(&source, npy(200)).unwrap();
    works(
        &server,
        &["convert", source.to_str().unwrap(), &server.url("x.zarr"), "--chunk-shape", "2,1"],
    );
    server.asked();
    let text = works(&server, &["inspect", "--json", &server.url("x.zarr")]);
    let inspected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let asked = server.asked();
    // One to find that it is a directory, two of its top level by formats that lie in directories,
    // one of everything.
    let listings = asked.iter().filter(|a| lists(a)).count();
    assert!(listings <= 4, "{listings} listings");
    assert!(asked.len() <= 12, "{asked:#?}");
    let sizes =
        server.keys().iter().map(|k| std::fs::metadata(server.path(k)).unwrap().len()).sum::<u64>();
    assert_eq!(inspected["bytes"], sizes);
}

/// Nothing may be listed: what is not there is forbidden.
fn forbid_listing(server: &Server) {
    let denied = || Fault::Status(403, "AccessDenied", None);
    server.fault(0, usize::MAX, denied(), lists);
    let root = server.path("").parent().unwrap().to_path_buf();
    server.fault(0, usize::MAX, denied(), move |a| {
        let path = a.uri.split('?').next().unwrap_or_default().trim_start_matches('/');
        matches!(a.method.as_str(), "GET" | "HEAD") && !lists(a) && !root.join(path).is_file()
    });
}

#[test]
fn stores_are_read_without_listing() {
    let server = Server::new();
    let scratch = Scratch::new();
    let source = scratch.join("m.safetensors");
    std::fs::write(&source, safetensors(3, 100)).unwrap();
    let source = source.to_str().unwrap();
    for name in ["m.npk", "m.zarr"] {
        works(&server, &["convert", source, &server.url(name)]);
    }
    let names = works(&server, &["list", source]);
    forbid_listing(&server);
    for name in ["m.npk", "m.zarr"] {
        assert_eq!(works(&server, &["list", &server.url(name)]), names, "{name}");
        works(&server, &["diff", source, &server.url(name)]);
    }
    // Who may not list can still write what is new.
    works(&server, &["convert", source, &server.url("new.npz")]);
    works(&server, &["convert", source, &server.url("dry.npz"), "--dry-run"]);
    fails(&server, 5, &["convert", source, &server.url("new.npz")]);
    let said = fails(&server, 6, &["inspect", &server.url("none.npy")]);
    assert!(said.contains("access denied"), "{said}");
    // A web server has no listing at all.
    let web = Server::web();
    for name in ["m.npk", "m.zarr"] {
        works(&server, &["convert", source, scratch.join(name).to_str().unwrap()]);
        let output = std::process::Command::new("cp")
            .arg("-r")
            .arg(scratch.join(name))
            .arg(web.path(name))
            .status()
            .unwrap();
        assert!(output.success());
        let url = format!("{}/{BUCKET}/{name}?X-Amz-Signature=deadbeef", web.endpoint());
        assert_eq!(works(&web, &["list", &url]), names, "{name}");
        works(&web, &["diff", source, &url]);
    }
    fails(&web, 3, &["list", &format!("{}/{BUCKET}/none.npk", web.endpoint())]);
}

#[test]
fn odd_keys_do_not_hide_the_others() {
    let server = Server::anonymous();
    let entry = |key: &str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>3</Size></Contents>"
        )
    };
    let keys: String = [
        "d/a.npy",
        "d//b.npy",
        "/c.npy",
        "d/../e.npy",
        "d/tab&#x9;.npy",
        "d/nul&#1;l.npy",
        "d/a&#38;b.npy",
        "d/f.npy",
    ]
    .into_iter()
    .map(entry)
    .collect();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><Prefix></Prefix><KeyCount>8</KeyCount><MaxKeys>1000</MaxKeys>\
         <IsTruncated>false</IsTruncated>{keys}<CommonPrefixes><Prefix>d//</Prefix></CommonPrefixes></ListBucketResult>"
    );
    server.fault(
        0,
        usize::MAX,
        Fault::Answer(200, vec![("content-type", "application/xml")], body),
        lists,
    );
    let at = open(&server.url("d"), &options(&server)).unwrap();
    let names: Vec<String> = walk(&at).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a&b.npy", "a.npy", "f.npy"]);
}

#[test]
fn errors_keep_their_words_behind_decoders() {
    let server = Server::new();
    let scratch = Scratch::new();
    let mut state = 1u64;
    let mut text = String::from("a,b\n");
    while text.len() < 4 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text += &format!("{},{}\n", state >> 20, state >> 40);
    }
    let utf16: Vec<u8> =
        std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
    server.put("x.csv.gz", &gz.finish().unwrap());
    server.put("x.csv.zst", &zstd::encode_all(text.as_bytes(), 1).unwrap());
    server.put("x.csv", &utf16);
    for key in ["x.csv.gz", "x.csv.zst", "x.csv"] {
        for (status, code, words) in
            [(403, "AccessDenied", "access denied"), (503, "SlowDown", "slow down")]
        {
            server.fault(1, usize::MAX, Fault::Status(status, code, None), move |a| {
                a.method == "GET" && a.uri.contains(key)
            });
            let out = scratch.join("out.npz");
            let said = fails(
                &server,
                6,
                &["convert", &server.url(key), out.to_str().unwrap(), "--retries", "1"],
            );
            assert!(said.contains(words) && !said.contains("damaged"), "{key}: {said}");
            server.calm();
        }
    }
}

#[test]
fn servers_say_how_long_to_wait() {
    let server = Server::anonymous();
    server.put("data.bin", b"data");
    let date = |at: SystemTime| -> String {
        let s = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut command = std::process::Command::new("date");
        command
            .args(["-u", "-d", &format!("@{s}"), "+%a, %d %b %Y %H:%M:%S GMT"])
            .env("LC_ALL", "C");
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_string()
    };
    let waits = |told: &str, least: Duration| {
        let told: &'static str = Box::leak(told.to_string().into_boxed_str());
        server.fault(0, 1, Fault::Status(503, "SlowDown", Some(told)), |a| {
            a.uri.contains("data.bin")
        });
        let began = Instant::now();
        open(&server.url("data.bin"), &options(&server)).unwrap().kind().unwrap();
        assert!(began.elapsed() >= least, "{told}: {:?}", began.elapsed());
        assert!(server.all_happened());
    };
    waits("1.5", Duration::from_millis(1500));
    let then = SystemTime::now() + Duration::from_secs(3);
    waits(&date(then), Duration::ZERO);
    // The date has whole seconds.
    assert!(SystemTime::now() + Duration::from_secs(1) >= then);
}

#[test]
fn another_version_is_read_anew() {
    let server = Server::anonymous();
    let data: Vec<u8> = (0..500_000u32).map(|i| (i * 7) as u8).collect();
    server.put("data.bin", &data);
    let location = open(&server.url("data.bin"), &options(&server)).unwrap();
    let old = location.blob().unwrap();
    old.read_vec(200_000, 10).unwrap();
    let new: Vec<u8> = data.iter().map(|b| !b).collect();
    server.put("data.bin", &new);
    // Another look at the same key, while the first one is still in use.
    let blob = open(&server.url("data.bin"), &options(&server)).unwrap().blob().unwrap();
    assert_eq!(blob.read_vec(0, 10).unwrap(), new[..10]);
    assert_eq!(blob.read_vec(200_000, 10).unwrap(), new[200_000..200_010]);
    match old.read_vec(0, 10) {
        Ok(bytes) => assert_eq!(bytes, data[..10]),
        Err(e) => assert!(e.to_string().contains("replaced"), "{e}"),
    }
}

#[test]
fn temporary_copies_are_noted() {
    let server = Server::new();
    let web = Server::web();
    let scratch = Scratch::new();
    let source = scratch.join("x.npy");
    std::fs::write(&source, npy(50)).unwrap();
    web.put("x.npy", &npy(50));
    web.fault(0, usize::MAX, Fault::NoRanges, |_| true);
    let note = |server: &Server, args: &[&str]| {
        String::from_utf8(run(server, args).stderr).unwrap().contains("temporary")
    };
    for (key, noted) in [("x.h5", true), ("x.csv", true), ("x.npz", false)] {
        works(&server, &["convert", source.to_str().unwrap(), &server.url(key)]);
        assert_eq!(note(&server, &["inspect", "-v", &server.url(key)]), noted, "{key}");
        assert!(!note(&server, &["inspect", &server.url(key)]), "{key}");
    }
    assert!(note(&web, &["inspect", "-v", &format!("{}/{BUCKET}/x.npy", web.endpoint())]));
}

#[test]
fn google_and_azure() {
    let scratch = Scratch::new();
    let source = scratch.join("m.safetensors");
    std::fs::write(&source, safetensors(3, 1000)).unwrap();
    let source = source.to_str().unwrap();
    for (scheme, variable, flags) in [
        ("gs", ("GOOGLE_BEARER_TOKEN", "token"), &[][..]),
        ("az", ("AZURE_STORAGE_ACCOUNT", "dev"), &["--no-sign-request"][..]),
    ] {
        let server = Server::web();
        let nothing = "<?xml version=\"1.0\"?><EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>";
        server.fault(0, usize::MAX, Fault::Answer(200, vec![], nothing.into()), |a| {
            a.uri.contains("comp=list")
        });
        let nothing = "<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";
        server.fault(0, usize::MAX, Fault::Answer(200, vec![], nothing.into()), lists);
        server.put("in.safetensors", &std::fs::read(source).unwrap());
        let npk = |args: &[&str]| {
            let output = npk_command()
                .args(args)
                .args(["--endpoint-url", &server.endpoint()])
                .args(flags)
                .env("NO_PROXY", "127.0.0.1")
                .env(variable.0, variable.1)
                .output()
                .unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let url = |key: &str| format!("{scheme}://{BUCKET}/{key}");
        let back = scratch.join(&format!("{scheme}.safetensors"));
        let (code, said) = npk(&["convert", &url("in.safetensors"), back.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{scheme}: {said}");
        let (code, said) = npk(&["diff", source, &url("in.safetensors")]);
        assert_eq!(code, Some(0), "{scheme}: {said}");
        let (code, said) = npk(&["convert", source, &url("out.npz")]);
        assert_eq!(code, Some(0), "{scheme}: {said}");
        assert!(server.keys().contains(&"out.npz".to_string()), "{:?}", server.keys());
        let (code, said) = npk(&["convert", source, &url("out.npz")]);
        assert_eq!(code, Some(5), "{scheme}: {said}");
        server.fault(0, usize::MAX, Fault::Status(403, "AuthenticationFailed", None), |_| true);
        let (code, said) = npk(&["list", &url("in.safetensors")]);
        assert!(
            code == Some(6) && said.contains("does not accept the credentials"),
            "{scheme}: {said}"
        );
    }
}

/// Tables with a log are seen in prefixes and patterns; files that are compressed are read from
/// where they are.
#[test]
#[ignore = "asks the real libraries"]
fn tables_and_compressed_files() {
    let server = Server::new();
    let scratch = Scratch::new();
    crate::support::python(
        scratch.path(),
        "import gzip, numpy as np, pyarrow as pa, pyarrow.parquet as pq\n\
         pq.write_table(pa.table({'v': [1, 2]}), 'p.parquet')\n\
         np.save('x.npy', np.arange(5)); open('x.npy.gz', 'wb').write(gzip.compress(open('x.npy', 'rb').read()))\n\
         open('p.parquet.gz', 'wb').write(gzip.compress(open('p.parquet', 'rb').read()))",
    );
    let part = std::fs::read(scratch.join("p.parquet")).unwrap();
    for key in ["tbl/y=1/p0.parquet", "tbl/y=2/p1.parquet", "other/p2.parquet"] {
        server.put(key, &part);
    }
    server.put("tbl/_delta_log/0.json", b"{}");
    let out = scratch.join("o.npk");
    let out = out.to_str().unwrap();
    for (source, more) in [
        ("tbl", "--concat"),
        ("tbl", "-R"),
        ("tbl/y=1", "--concat"),
        ("tbl/*/*.parquet", "--concat"),
        ("tbl", "-v"),
    ] {
        let said = fails(&server, 4, &["convert", &server.url(source), out, more]);
        assert!(
            said.contains("Delta table") && said.contains("_delta_log"),
            "{source} {more}: {said}"
        );
    }
    for source in ["tbl", "tbl/*/*.parquet", "tbl/**/*.parquet"] {
        works(
            &server,
            &[
                "convert",
                "--concat",
                "--ignore-table-log",
                &server.url(source),
                out,
                "-f",
                "--layout",
                "columns",
            ],
        );
        assert!(npk(&["list", "-l", out]).contains("v\tint64\t4\t"), "{source}");
    }
    works(&server, &["convert", "--concat", &server.url("other/*.parquet"), out, "-f"]);
    for name in ["x.npy.gz", "p.parquet.gz"] {
        server.put(name, &std::fs::read(scratch.join(name)).unwrap());
        works(&server, &["convert", &server.url(name), out, "-f", "--verify"]);
        assert_eq!(npk(&["inspect", "--json", out]).matches("\"name\"").count(), 1);
    }
}
