//! The AWS CLI and s3fs read what npk wrote and write what npk reads; SeaweedFS is one more real
//! server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::commands::{npy, safetensors, works, written_formats};
use super::server::{KEY, SECRET, Server};
use crate::support::{Scratch, npk_command, python_path};

/// A program of the judges' environment.
fn tool(name: &str) -> Command {
    Command::new(python_path().with_file_name(name))
}

#[track_caller]
fn judge(server: &Server, directory: &Path, code: &str) -> String {
    let output = Command::new(python_path())
        .args(["-W", "ignore", "-c", code])
        .current_dir(directory)
        .envs(server.environment())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "asks the real libraries"]
fn the_aws_cli_agrees_on_keys_and_bytes() {
    let server = Server::new();
    let scratch = Scratch::new();
    std::fs::write(scratch.join("x.npy"), npy(100)).unwrap();
    let key = "a b/100% ü#1?x+y.safetensors";
    works(&server, &["convert", scratch.join("x.npy").to_str().unwrap(), &server.url(key)]);
    let aws = |args: &[&str]| {
        let output = tool("aws")
            .args(args)
            .current_dir(scratch.path())
            .envs(server.environment())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    aws(&["s3", "cp", "--quiet", &server.url(key), "got.safetensors"]);
    assert_eq!(
        std::fs::read(scratch.join("got.safetensors")).unwrap(),
        std::fs::read(server.path(key)).unwrap()
    );
    let other = "by aws/%41 ü#2?+.npy";
    aws(&["s3", "cp", "--quiet", "x.npy", &server.url(other)]);
    works(&server, &["convert", &server.url(other), scratch.join("back.npy").to_str().unwrap()]);
    works(
        &server,
        &[
            "convert",
            scratch.join("x.npy").to_str().unwrap(),
            scratch.join("same.npy").to_str().unwrap(),
        ],
    );
    assert_eq!(
        std::fs::read(scratch.join("back.npy")).unwrap(),
        std::fs::read(scratch.join("same.npy")).unwrap()
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn s3fs_agrees() {
    let server = Server::new();
    let scratch = Scratch::new();
    let code = format!(
        "import s3fs, numpy as np, io\n\
         fs = s3fs.S3FileSystem(endpoint_url='{}')\n\
         b = io.BytesIO(); np.save(b, np.arange(12.0).reshape(4, 3))\n\
         fs.pipe('bucket/by s3fs/ü %1.npy', b.getvalue())\n",
        server.endpoint()
    );
    judge(&server, scratch.path(), &code);
    works(&server, &["convert", &server.url("by s3fs/ü %1.npy"), &server.url("by npk/ü %2.npz")]);
    let code = format!(
        "import s3fs, numpy as np, io\n\
         fs = s3fs.S3FileSystem(endpoint_url='{}')\n\
         z = np.load(io.BytesIO(fs.cat('bucket/by npk/ü %2.npz')))\n\
         print(z.files, z[z.files[0]].tolist() == np.arange(12.0).reshape(4, 3).tolist())\n",
        server.endpoint()
    );
    assert!(judge(&server, scratch.path(), &code).contains("True"));
}

/// A SeaweedFS server on this machine alone.
struct Weed {
    child: Child,
    port: u16,
    endpoint: String,
    _scratch: Scratch,
}

/// Its parts, each on the next port.
const PARTS: [&str; 5] = ["master", "volume", "filer", "s3", "admin"];

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Not all of its sockets can be told to be elsewhere.
        for (i, part) in PARTS.iter().enumerate() {
            let port = self.port + i as u16;
            for name in [format!("{part}-{port}"), format!("{part}-grpc-{}", port + 10_000)] {
                let _ = std::fs::remove_file(format!("/tmp/seaweedfs-{name}.sock"));
            }
        }
    }
}

/// Five neighbouring ports that are free together with those 10,000 above, where it has its other
/// protocol.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + (std::process::id() % 1000) as u16 * 10;
    (0..1000)
        .map(|i| 20_000 + (start - 20_000 + i * 10) % 10_000)
        .find(|p| (0..5).all(|i| free(p + i) && free(p + i + 10_000)))
        .unwrap()
}

impl Weed {
    /// Starts one; anew where somebody else took one of its ports in between.
    fn start() -> Weed {
        (0..5).find_map(|_| Weed::try_start()).expect("SeaweedFS does not start")
    }
    fn try_start() -> Option<Weed> {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.join("data")).unwrap();
        let config = format!(
            "{{\"identities\": [{{\"name\": \"admin\", \"credentials\": [{{\"accessKey\": \"{KEY}\", \"secretKey\": \"{SECRET}\"}}], \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\"]}}]}}"
        );
        std::fs::write(scratch.join("s3.json"), config).unwrap();
        let port = free_ports();
        let log = std::fs::File::create(scratch.join("log")).unwrap();
        let mut command = tool("weed");
        command.args([
            "-logtostderr",
            "mini",
            "-ip",
            "127.0.0.1",
            "-ip.bind",
            "127.0.0.1",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
        ]);
        command.args([
            "-s3.port.iceberg",
            "0",
            "-s3.port.lance",
            "0",
            "-dir",
            "data",
            "-s3.config",
            "s3.json",
        ]);
        for (i, name) in PARTS.iter().enumerate() {
            command.args([format!("-{name}.port"), (port + i as u16).to_string()]);
        }
        let child = command
            .current_dir(scratch.path())
            .env("TMPDIR", scratch.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let endpoint = format!("http://127.0.0.1:{}", port + 3);
        let mut weed = Weed { child, port, endpoint, _scratch: scratch };
        // It is there when it refuses who is not known, as it should.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < end, "SeaweedFS does not start");
            let ready = TcpStream::connect(("127.0.0.1", port + 3)).ok().and_then(|mut s| {
                s.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
                s.write_all(b"GET /bucket?list-type=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
                let mut answer = [0; 12];
                s.read_exact(&mut answer).ok()?;
                Some(answer.starts_with(b"HTTP/1.1 40"))
            });
            if ready == Some(true) {
                return Some(weed);
            }
            if weed.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn seaweedfs() {
    let weed = Weed::start();
    let scratch = Scratch::new();
    let none = scratch.join("none");
    let npk = |args: &[&str]| {
        let output = npk_command()
            .args(args)
            .envs([
                ("AWS_ACCESS_KEY_ID", KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET),
                ("AWS_ENDPOINT_URL", &weed.endpoint),
            ])
            .envs([("AWS_CONFIG_FILE", &none), ("AWS_SHARED_CREDENTIALS_FILE", &none)])
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let works = |args: &[&str]| {
        let (code, stderr) = npk(args);
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
    };
    let local = |name: &str| scratch.join(name).to_str().unwrap().to_string();
    std::fs::write(local("big.safetensors"), safetensors(5, 1_500_000)).unwrap();
    std::fs::write(local("x.npy"), npy(1000)).unwrap();
    works(&["convert", &local("x.npy"), &local("reference.npy")]);
    let keys = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT_URL", &weed.endpoint),
        ("AWS_REGION", "us-east-1"),
    ];
    let made = tool("aws")
        .args(["s3", "mb", "s3://made"])
        .envs(keys)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    works(&["convert", &local("big.safetensors"), "s3://made/ü %1/big.safetensors"]);
    works(&["convert", "s3://made/ü %1/big.safetensors", &local("back.safetensors")]);
    let (a, b) = (
        std::fs::read(local("big.safetensors")).unwrap(),
        std::fs::read(local("back.safetensors")).unwrap(),
    );
    assert!(a[a.len() - 30_000_000..] == b[b.len() - 30_000_000..]);
    for (name, ending) in written_formats() {
        let url = format!("s3://made/all/x.{ending}");
        works(&["convert", &local("x.npy"), &url, "--to", &name]);
        works(&["convert", &url, &local("back.npy"), "--force"]);
        assert!(
            std::fs::read(local("back.npy")).unwrap()
                == std::fs::read(local("reference.npy")).unwrap(),
            "{name}"
        );
        works(&["convert", &local("x.npy"), &url, "--to", &name, "--force"]);
    }
    assert_eq!(npk(&["list", "s3://made/none.npy"]).0, Some(3));
    assert_eq!(npk(&["list", "s3://not-made/none.npy"]).0, Some(6));
    let (code, stderr) = npk(&["list", "s3://made/all/x.npy", "--no-sign-request"]);
    assert_eq!(code, Some(6), "{stderr}");
    assert!(stderr.contains("access denied"), "{stderr}");
}
