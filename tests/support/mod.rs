//! What the tests share: running the built binary, running Python judges, scratch folders,
//! fixtures.
#![allow(dead_code)]

pub mod faults;
pub mod library;

pub mod mock;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

/// A folder that goes with the test.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::Builder::new().prefix("npk-test-").tempdir().unwrap())
    }
    pub fn path(&self) -> &Path {
        self.0.path()
    }
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    /// The names in the folder, hidden ones too: what a run left behind.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// A folder for all tests of this process, which goes with it: nobody drops what is static.
pub fn kept() -> &'static Path {
    static KEPT: Mutex<Option<Scratch>> = Mutex::new(None);
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        if let Ok(mut kept) = KEPT.lock() {
            drop(kept.take());
        }
    }
    PATH.get_or_init(|| {
        let s = Scratch::new();
        let path = s.path().to_path_buf();
        *KEPT.lock().unwrap() = Some(s);
        // SAFETY: it may be called at any time, and does not unwind.
        unsafe { libc::atexit(remove) };
        path
    })
}

/// The path of a file in a folder, as an argument.
pub fn at(scratch: &Scratch, name: &str) -> String {
    scratch.join(name).display().to_string()
}

/// The `npk` of this build, or what `NPK_TEST_BINARY` names, in a neutral environment.
pub fn npk_command() -> Command {
    let other = std::env::var_os("NPK_TEST_BINARY");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_npk").into()));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        let ours = ["NPK_", "AWS_", "HF_"].iter().any(|prefix| name.starts_with(prefix));
        if ours || name == "NO_COLOR" {
            command.env_remove(&key);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `npk` and returns what it said, whatever the exit code.
pub fn npk_any<S: AsRef<OsStr>>(args: &[S]) -> Output {
    npk_command().args(args).output().unwrap()
}

/// Runs `npk`, which must succeed; returns stdout.
#[track_caller]
pub fn npk<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    let output = npk_any(args);
    assert!(
        output.status.success(),
        "npk {args:?} failed with {:?}\n{}",
        output.status.code(),
        told(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `npk`, which must fail with this exit code; returns stderr.
#[track_caller]
pub fn npk_fails<S: AsRef<OsStr> + std::fmt::Debug>(code: i32, args: &[S]) -> String {
    let output = npk_any(args);
    assert_eq!(output.status.code(), Some(code), "npk {args:?}\n{}", told(&output));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("error"), "npk {args:?} failed without a word: {stderr}");
    assert!(!stderr.contains("panicked"), "npk {args:?} panicked: {stderr}");
    stderr
}

/// Runs `npk` and returns its exit code, what it said on stderr, and the most memory that it held.
#[track_caller]
pub fn npk_peak(args: &[&str]) -> (i32, String, u64) {
    // A process of its own between: what this one holds must not count.
    let code = "import resource, subprocess, sys\n\
                run = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n\
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n\
                print(run.returncode, peak, run.stderr.decode(), sep='\\n')";
    let npk = npk_command();
    let output = Command::new(python_path())
        .args(["-c", code])
        .arg(npk.get_program())
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut parts = text.splitn(3, '\n');
    let mut number = || parts.next().unwrap().parse::<i64>().unwrap();
    let (code, peak) = (number(), number());
    (code as i32, parts.next().unwrap_or_default().to_string(), peak as u64)
}

fn told(output: &Output) -> String {
    format!(
        "stdout: {}\nstderr: {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// `npk inspect --json --checksum` of one path.
#[track_caller]
pub fn inspect(path: &Path) -> serde_json::Value {
    let text = npk(&[
        OsStr::new("inspect"),
        OsStr::new("--json"),
        OsStr::new("--checksum"),
        path.as_os_str(),
    ]);
    serde_json::from_str(&text).unwrap()
}

/// The Python of the judges' environment (made by `make test`): the real numpy, numpack, pyarrow,
/// h5py …
pub fn python_path() -> PathBuf {
    let path = std::env::var_os("NPK_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is missing: run `make test`, which makes the environment of the real libraries",
        path.display()
    );
    path
}

/// Runs Python code with the real libraries in `directory`; it must succeed. Returns stdout.
#[track_caller]
pub fn python(directory: &Path, code: &str) -> String {
    let output = Command::new(python_path())
        .args(["-W", "ignore", "-c", code])
        .current_dir(directory)
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HDF5_USE_FILE_LOCKING", "FALSE")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "python failed in {}\n{code}\n{}",
        directory.display(),
        told(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A file or folder below `fixtures/`; it must be there.
#[track_caller]
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(path.exists(), "the fixture {name} is missing");
    path
}

/// The files below `fixtures/{folder}` with one of these endings, recursively; there must be some.
#[track_caller]
pub fn fixtures(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    fn walk(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| endings.iter().any(|x| e == OsStr::new(x))) {
                found.push(path);
            } else if path.is_dir() {
                walk(&path, endings, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&fixture(folder), endings, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {endings:?} below fixtures/{folder}");
    found
}

/// Cuts and flips bytes of a file in `count` reproducible ways and runs `check` on each mutant's
/// bytes.
pub fn mutants(original: &[u8], count: usize, mut check: impl FnMut(&[u8])) {
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ original.len() as u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for i in 0..count {
        let mut bytes = original.to_vec();
        match i % 3 {
            0 => bytes.truncate(random(original.len())),
            1 => {
                for _ in 0..1 + random(4) {
                    let at = random(bytes.len());
                    bytes[at] ^= 1 << random(8);
                }
            }
            _ => {
                let (at, with) = (random(bytes.len()), random(256) as u8);
                let end = (at + 1 + random(8)).min(bytes.len());
                bytes[at..end].fill(with);
            }
        }
        check(&bytes);
    }
}

/// Every file below a folder with its bytes, every folder with none.
pub fn entries_below(path: &Path) -> Files {
    fn walk(path: &Path, below: &str, all: &mut Files) {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                all.insert(format!("{name}/"), Vec::new());
                walk(&entry.path(), &format!("{name}/"), all);
            } else {
                all.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut all = Files::new();
    walk(path, "", &mut all);
    all
}

pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file below a folder with its bytes.
pub fn files_below(path: &Path) -> Files {
    let mut files = entries_below(path);
    files.retain(|name, _| !name.ends_with('/'));
    files
}

/// The bytes of an npy file of little-endian values, one by one.
pub fn npy_bytes(descr: &str, shape: &[u64], values: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|d| format!("{d},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}
