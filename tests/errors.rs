//! What errors are called: a bug of npk, bytes of a broken file, the output, the source; and that
//! they say so on stderr, in JSON and by the exit code.

use std::io::Read;
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use npk::error::{Error, ErrorKind, ForeignReader, Result, foreign, guard};
use npk::format::*;
use npk::model::{ArrayMeta, Buf, Chunk, Dtype, Plan};
use npk::pipe::{self, Settings};

use crate::formats::pt_support::{call, checkpoint, dict, int, storage, tensor, text, tuple};
use crate::support::mock::{MockSink, Through};
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, python};

/// A panic whose line is in another crate.
fn panic_of_a_library() -> usize {
    bytes::Bytes::from_static(b"three").slice(6..9).len()
}

/// Asserts that this is a bug, with a place in this file.
#[track_caller]
fn is_bug(error: &Error) {
    assert_eq!(
        (error.kind(), npk::console::exit_code(error)),
        (ErrorKind::Internal, 101),
        "{error}"
    );
    assert!(
        error.message().starts_with("this is a bug in npk: ")
            && error.message().contains("(tests/errors.rs:"),
        "{error}"
    );
    assert!(error.hint_text().is_some_and(|hint| hint.contains("report it")), "{error:?}");
}

/// What a [`Trap`] does at its row.
type Snap = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// A source of one array, which does something else in place of giving its `row`.
struct Trap {
    plan: Plan,
    rows: Arc<TrapRows>,
    random: bool,
}

/// Its rows in order.
struct TrapPieces {
    rows: Arc<TrapRows>,
    next: u64,
}

struct TrapRows {
    row: u64,
    snap: Snap,
}

const ROWS: u64 = 1000;

impl Trap {
    fn source(
        random: bool,
        row: u64,
        snap: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> Box<dyn Source> {
        let plan = Plan {
            format: "mock",
            arrays: vec![ArrayMeta::new("x", Dtype::I64, &[ROWS])].into(),
            ..Plan::default()
        };
        Box::new(Trap { plan, rows: Arc::new(TrapRows { row, snap: Arc::new(snap) }), random })
    }
}

impl Source for Trap {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, _arrays: &[usize], _wish: Order) -> Result<Reader> {
        let rows = self.rows.clone();
        Ok(match self.random {
            true => Reader::Random(rows),
            false => Reader::InOrder(Box::new(TrapPieces { rows, next: 0 })),
        })
    }
}

impl ReadPieces for TrapPieces {
    fn order(&self) -> Order {
        Order::RowBlocks
    }
    fn next(&mut self, _max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let first = self.next;
        self.next = (first + 100).min(ROWS);
        Ok((first < ROWS)
            .then(|| Box::new(TrapJob(self.rows.clone(), first..self.next)) as Box<dyn Job>))
    }
}

struct TrapJob(Arc<TrapRows>, Range<u64>);

impl Job for TrapJob {
    fn bytes(&self) -> u64 {
        8 * (self.1.end - self.1.start)
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        self.0.read(0, self.1, emit)
    }
}

impl ReadRows for TrapRows {
    fn next_boundary(&self, _array: usize, row: u64) -> u64 {
        (row / 100 + 1) * 100
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if rows.contains(&self.row) {
            (self.snap)()?;
        }
        let values: Vec<i64> = rows.clone().map(|row| row as i64).collect();
        emit(Chunk::fixed(array, rows.start, rows.end - rows.start, Buf::from_vec(values)))
    }
}

/// A sink that does something else in place of taking a block.
struct TrapSink {
    inner: MockSink,
    snap: Snap,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Create,
    Encode,
    Append,
    Write,
    Finish,
}

struct TrapEncode(Snap, bool);

impl EncodeBlocks for TrapEncode {
    type Encoded = Block;
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        Through.next_boundary(array, row)
    }
    fn encode(&self, block: Block) -> Result<Block> {
        if self.1 {
            (self.0)()?;
        }
        Through.encode(block)
    }
}

impl WriteRows for TrapEncode {
    fn write(&self, _chunk: &Chunk) -> Result<()> {
        (self.0)()
    }
}

impl AppendBlocks for TrapSink {
    type Encoded = Block;
    fn append(&mut self, rows: BlockRows, block: Block) -> Result<()> {
        if self.at == At::Append {
            (self.snap)()?;
        }
        self.inner.append(rows, block)
    }
    fn finish(self, end: &Plan) -> Result<Summary> {
        if self.at == At::Finish {
            (self.snap)()?;
        }
        self.inner.finish(end)
    }
}

/// A sink whose rows go to their places.
struct TrapRowsSink(Snap);

impl Sink for TrapRowsSink {
    fn writer(&self) -> Writer {
        Writer::Positional(Arc::new(TrapEncode(self.0.clone(), false)))
    }
    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        Ok(Summary::default())
    }
}

/// What becomes of a run whose sink does this at that point.
fn run_into(
    source: Box<dyn Source>,
    at: At,
    snap: impl Fn() -> Result<()> + Send + Sync + 'static,
) -> Error {
    let snap: Snap = Arc::new(snap);
    let create = Box::new(|plan: &Plan| -> Result<Box<dyn Sink>> {
        if at == At::Create {
            snap()?;
        }
        if at == At::Write {
            return Ok(Box::new(TrapRowsSink(snap.clone())));
        }
        let (inner, ..) = MockSink::new(Order::ArrayByArray, false, plan);
        let encoder = TrapEncode(snap.clone(), at == At::Encode);
        Ok(InOrder::sink(encoder, TrapSink { inner, snap: snap.clone(), at }))
    });
    let holds = Capabilities {
        order: Order::ArrayByArray,
        rows_first: false,
        ..*npk::formats::by_name("npz").unwrap().spec().writes.as_ref().unwrap()
    };
    let settings = Settings::new(2, 16 << 20).with_output("OUT");
    guard(|| pipe::run(source, &holds, create, &settings)).expect_err("the run should have failed")
}

const SINK: [At; 5] = [At::Create, At::Encode, At::Append, At::Write, At::Finish];

/// A bug on any thread, in a source or a sink, is told as one: never as corrupt input, never as a
/// panic.
#[test]
fn panics_are_bugs_with_their_place() {
    let settings = Settings::new(2, 16 << 20);
    for random in [true, false] {
        for row in [0, 555, ROWS - 1] {
            let source = Trap::source(random, row, || panic!("the trap at {}", "row"));
            let error = pipe::drain(source, Order::Any, &mut |_| Ok(()), &settings).unwrap_err();
            is_bug(&error);
            assert!(error.message().contains("the trap at row"), "{error}");
        }
        for at in SINK {
            is_bug(&run_into(Trap::source(random, ROWS, || Ok(())), at, || panic!("in the sink")));
            is_bug(&run_into(Trap::source(random, ROWS, || Ok(())), at, || {
                Err(Error::internal("an invariant"))
            }));
        }
    }
}

/// A panic inside of a library is blamed on the bytes, where such a panic is expected; one of our
/// own is not, even there.
#[test]
fn panics_of_libraries_are_corrupt_input() {
    let error = foreign("bytes", || Ok(panic_of_a_library())).unwrap_err();
    assert_eq!((error.kind(), npk::console::exit_code(&error)), (ErrorKind::Corrupt, 7));
    assert!(
        error.message().starts_with("the bytes library cannot decode these bytes (range"),
        "{error}"
    );
    is_bug(&foreign("bytes", || -> Result<()> { panic!("ours") }).unwrap_err());
    is_bug(&foreign("bytes", || Ok([1, 2, 3][panic_free(7)])).unwrap_err());
    let error = guard(|| Ok(panic_of_a_library())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "outside of foreign() nothing excuses a panic");
    assert!(error.message().contains("/bytes-1"), "{error}");
    assert_eq!(
        foreign("bytes", || Err::<(), _>(Error::refused("no"))).unwrap_err().kind(),
        ErrorKind::Refused
    );
}

fn panic_free(i: usize) -> usize {
    std::hint::black_box(i)
}

/// A decoder as a reader: what it does, and what its errors become in the hands of those who know
/// only that reading failed.
struct Decoder(fn() -> std::io::Result<usize>);

impl Read for Decoder {
    fn read(&mut self, _buf: &mut [u8]) -> std::io::Result<usize> {
        (self.0)()
    }
}

#[test]
fn readers_of_libraries_tell_bugs_from_damage() {
    let told = |decoder: fn() -> std::io::Result<usize>| {
        let e = ForeignReader::new("bytes", Decoder(decoder)).read(&mut [0]).unwrap_err();
        Error::corrupt("the stream is damaged").because(e)
    };
    let error = told(|| Ok(panic_of_a_library()));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .starts_with("the stream is damaged: the bytes library cannot decode these bytes ("),
        "{error}"
    );
    is_bug(&told(|| panic!("ours")));
    is_bug(&told(|| Err(std::io::Error::other(Error::internal("below")))));
    let damaged = told(|| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "bad block")));
    assert_eq!(
        (damaged.kind(), damaged.to_string().as_str()),
        (ErrorKind::Corrupt, "the stream is damaged: bad block")
    );
    // What lies below the decoder is not its bytes' fault.
    let network =
        told(|| Err(std::io::Error::other(Error::new(ErrorKind::Remote, "the connection broke"))));
    assert_eq!(
        (network.kind(), network.to_string().as_str()),
        (ErrorKind::Remote, "the connection broke")
    );
    let disk = told(|| Err(std::io::Error::from_raw_os_error(5)));
    assert_eq!(disk.kind(), ErrorKind::Failed);
    assert!(disk.to_string().starts_with("cannot read: "), "{disk}");
}

/// Nothing on the way makes another kind of a bug.
#[test]
fn bugs_stay_bugs() {
    let bug = || Error::internal("an invariant");
    is_bug(&bug().with_kind(ErrorKind::Corrupt));
    is_bug(&Error::exists("the output exists but is damaged").file("a").because(bug()));
    is_bug(&Error::from(std::io::Error::other(bug())));
    is_bug(&Error::reading(std::io::Error::other(bug())));
    is_bug(&Error::all(vec![Error::corrupt("a"), bug()]).unwrap_err());
    is_bug(&bug().of_data().unwrap_err());
    is_bug(&Error::unless_bug::<()>(Err(bug())).unwrap_err());
    assert!(Error::unless_bug::<()>(Err(Error::corrupt("a"))).unwrap().is_none());
    assert_eq!(npk::console::worst(7, &bug()), 101);
    assert_eq!(npk::console::worst(7, &Error::refused("a")), 7);
    assert_eq!(npk::console::worst(0, &Error::refused("a")), 4);
    let copy = bug().file("f").array("a");
    let text = copy.clone().to_string();
    assert_eq!(copy.clone().with_array("b").array_name(), Some("b"));
    assert_eq!(copy.to_string(), text, "a copy changes on its own");
}

/// An error of the sink names the output; one of the source does not, whatever its kind: the caller
/// names the source.
#[test]
fn errors_name_the_side_where_they_arose() {
    for random in [true, false] {
        for kind in [
            ErrorKind::Failed,
            ErrorKind::Exists,
            ErrorKind::Usage,
            ErrorKind::Remote,
            ErrorKind::Corrupt,
            ErrorKind::Refused,
        ] {
            let fails = move || Err(Error::new(kind, "here"));
            for at in SINK {
                let error = run_into(Trap::source(random, ROWS, || Ok(())), at, fails);
                // What cannot be held, or is broken, is told of the data: with the source's name.
                let named =
                    (!matches!(kind, ErrorKind::Corrupt | ErrorKind::Refused)).then_some("OUT");
                assert_eq!((error.kind(), error.file_name()), (kind, named), "{at:?}");
            }
            for at in SINK {
                let error = run_into(Trap::source(random, 555, fails), at, || Ok(()));
                assert_eq!((error.kind(), error.file_name()), (kind, None), "{at:?}");
            }
        }
    }
}

/// A source that ends in the middle is named, not the output; so is one of several.
#[test]
#[ignore = "asks the real libraries"]
fn cut_sources_are_named() {
    let s = Scratch::new();
    python(
        s.path(),
        "import gzip, numpy, zlib
text = ''.join(f'{i},{i * 7 % 1000},{i * 31 % 77}\\n' for i in range(100000)).encode()
data = gzip.compress(b'x,y,z\\n' + text)
open('cut.csv.gz', 'wb').write(data[:len(data) // 2])
open('good.csv', 'wb').write(b'u,v\\n1,2\\n')
numpy.savez_compressed('cut.npz', w=numpy.arange(300000) % 1013)
data = bytearray(open('cut.npz', 'rb').read())
data[len(data) // 2] ^= 255
open('cut.npz', 'wb').write(data)",
    );
    let (cut, good, npz) = (at(&s, "cut.csv.gz"), at(&s, "good.csv"), at(&s, "cut.npz"));
    let before = s.names();
    for out in ["o.npk", "o.parquet", "o.npz", "o.zarr", "o.h5", "o.csv"] {
        let out = at(&s, out);
        let said = npk_fails(7, &["convert", &cut, &out]);
        assert!(said.starts_with(&format!("error: {cut}: the gzip data ends too early")), "{said}");
        let said = npk_fails(7, &["convert", &good, &cut, &out, "--layout", "columns"]);
        assert!(said.starts_with(&format!("error: {cut}: ")), "{said}");
        if !out.ends_with("parquet") && !out.ends_with("csv") {
            let said = npk_fails(7, &["convert", &npz, &out]);
            assert!(said.starts_with(&format!("error: {npz}: w: ")), "{said}");
        }
        assert_eq!(s.names(), before, "{out}");
    }
}

/// A limit on the size of files, met while several sources are joined: the output is named, not one
/// of them.
#[test]
fn full_outputs_are_named() {
    let s = Scratch::new();
    for name in ["a.npy", "b.npy"] {
        crate::convert::npy(&s.join(name), "<f8", &[1 << 15], &vec![1; 8 << 15]);
    }
    for (out, more) in [
        ("o.npk", ""),
        ("o.npk", "--concat --name x"),
        ("o.npz", "-c none"),
        ("o.zarr", "-c none"),
        ("o.safetensors", ""),
    ] {
        let target = at(&s, out);
        let script = format!(
            "ulimit -f 16; exec '{}' convert a.npy b.npy '{target}' {more}",
            env!("CARGO_BIN_EXE_npk")
        );
        let output =
            Command::new("bash").args(["-c", &script]).current_dir(s.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{out} {more}: {said}");
        assert!(
            said.starts_with(&format!("error: {target}: ")) && said.contains("size limit"),
            "{out} {more}: {said}"
        );
        assert_eq!(s.names(), ["a.npy", "b.npy"], "{out} {more}");
    }
}

/// No room for temporary files: their directory is named, and the variable that chooses another.
#[test]
#[ignore = "asks the real libraries"]
fn temporary_files_are_named() {
    let s = Scratch::new();
    python(s.path(), "import gzip\nopen('t.csv.gz', 'wb').write(gzip.compress(b'x,y\\n1,2\\n'))");
    let output = npk_command()
        .args(["convert", &at(&s, "t.csv.gz"), &at(&s, "o.npk")])
        .env("TMPDIR", s.join("missing"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (missing, told) = (s.join("missing"), "the directory for temporary files does not exist");
    assert_eq!(
        said,
        format!(
            "error: {}: {told}\nhint: set TMPDIR to a directory that exists\n",
            missing.display()
        )
    );
    assert_eq!(s.names(), ["t.csv.gz"]);
}

/// Output that nobody can write is an error, whatever prints it; a reader that goes away is none.
#[test]
fn printing_fails_with_a_sentence() {
    let s = Scratch::new();
    crate::convert::npy(&s.join("a.npy"), "<f8", &[4], &[0; 32]);
    std::fs::write(s.join("b.csv"), "x,y\n1,2\n").unwrap();
    let npy = at(&s, "a.npy");
    let commands: [&[&str]; 17] = [
        &["--help"],
        &["--version"],
        &["convert", "--help"],
        &["list", &npy],
        &["list", "--json", &npy],
        &["inspect", &npy],
        &["inspect", "--json", &npy],
        &["verify", &npy],
        &["verify", "--json", &npy],
        &["diff", &npy, &at(&s, "b.csv")],
        &["diff", "--json", &npy, &npy],
        &["formats"],
        &["formats", "--json"],
        &["completions", "bash"],
        &["man"],
        &["convert", "--dry-run", &npy, &at(&s, "o.npk")],
        &["convert", "-q", &npy, "-", "--to", "npy"],
    ];
    for args in commands {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = npk_command().args(args).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("error: stdout: ")
                && said.contains("no space left on the device\nhint: "),
            "{args:?}: {said}"
        );
        // A pipe whose reader is gone.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = npk_command().args(args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// Where the system allows no thread, a command that needs none does its work, and others say why
/// they cannot.
#[test]
fn without_threads() {
    let s = Scratch::new();
    crate::convert::npy(&s.join("a.npy"), "<f8", &[1 << 18], &vec![0; 8 << 18]);
    crate::convert::npy(&s.join("b.npy"), "<f8", &[1 << 18], &vec![0; 8 << 18]);
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(s.path(), everybody).unwrap();
    let run = |threads: u32, args: &[&str]| {
        // A user of its own has no other processes. root has no such limit: there the tests run as
        // root, it is given up.
        let mut command = Command::new("bash");
        let script = format!("ulimit -u {threads} && exec '{}' \"$@\"", env!("CARGO_BIN_EXE_npk"));
        command
            .args(["-c", &script, "npk"])
            .args(args)
            .current_dir(s.path())
            .env("TMPDIR", s.path());
        if rustix::process::getuid().is_root() {
            command.uid(60_000 + std::process::id() % 5000).gid(65_534);
        }
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(run(1, &["list", "a.npy"]), (Some(0), "a\n".into(), String::new()));
    for args in [
        &["convert", "a.npy", "o.npk"][..],
        &["convert", "a.npy", "b.npy", "o/", "--to", "npk"],
        &["verify", "a.npy"],
    ] {
        let (code, _, said) = run(1, args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(
            said.contains("error: ") && said.contains("the system allows no further thread: "),
            "{args:?}: {said}"
        );
        assert!(
            said.contains("\nhint: `ulimit -u`") && !said.contains("panicked"),
            "{args:?}: {said}"
        );
        assert_eq!(s.names(), ["a.npy", "b.npy"], "{args:?}");
    }
    // One thread for signals and one for the work are enough, whatever --jobs says.
    let (code, _, said) = run(3, &["convert", "a.npy", "o.npk", "--jobs", "8"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(npk(&["diff", &at(&s, "a.npy"), &at(&s, "o.npk")]), "");
}

/// Hints come with every error that has one, and in JSON.
#[test]
fn hints_are_not_lost() {
    let s = Scratch::new();
    std::fs::write(s.join("t.csv"), "a,a,b,b\n1,2,3,4\n").unwrap();
    let path = at(&s, "t.csv");
    let hint = "--on-duplicate rename calls the second one NAME_1; first or last keeps one of them";
    let told = format!(
        "error: {path}: a: the name appears twice: column 1 and column 2\nerror: {path}: b: the name appears twice: column 3 and column 4\nhint: {hint}\n"
    );
    for args in [
        &["convert", &path, &at(&s, "o.npk")][..],
        &["list", &path],
        &["verify", &path],
        &["inspect", &path],
    ] {
        assert_eq!(npk_fails(4, args), told, "{args:?}");
    }
    for args in [&["convert", "--json", &path, &at(&s, "o.npk")][..], &["verify", "--json", &path]]
    {
        let output = npk_any(args);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["hint"], hint, "{document}");
        assert_eq!(document["exit_code"], 4);
        assert_eq!(document["more"][0]["hint"], hint);
        assert_eq!(
            document["more"][0]["error"],
            format!("{path}: b: the name appears twice: column 3 and column 4")
        );
    }
    // An array whose state is damage: the file opens, the array is listed.
    npk(&[
        "convert",
        &path,
        &at(&s, "d.npk"),
        "--on-duplicate",
        "rename",
        "--layout",
        "columns",
        "-q",
    ]);
    std::fs::remove_file(s.join("d.npk/data_b.npkd")).unwrap();
    let store = at(&s, "d.npk");
    let told = format!("error: {store}: b: the store has no data_b.npkd\n");
    for args in [
        &["list", &store][..],
        &["inspect", &store],
        &["verify", &store],
        &["list", "--json", &store],
    ] {
        assert!(npk_fails(7, args).ends_with(&told), "{args:?}");
    }
    // One whose state is a refusal: it is listed with its hint.
    let pickled = crate::support::fixture("good/pt/torch1.13/keys.pt").display().to_string();
    for command in ["list", "inspect"] {
        let document: serde_json::Value =
            serde_json::from_str(&npk(&[command, "--json", &pickled])).unwrap();
        let refused =
            document["arrays"].as_array().unwrap().iter().find(|a| a["error"].is_string()).unwrap();
        assert_eq!(refused["hint"], hint, "{command}");
    }
    assert!(
        npk_fails(4, &["convert", &pickled, &at(&s, "k.npk")])
            .ends_with(&format!("hint: {hint}\n"))
    );
}

/// A size that no disk has is told with the array that asks for it.
#[test]
#[ignore = "asks the real libraries"]
fn impossible_sizes_name_their_array() {
    let s = Scratch::new();
    let code = "import zarr, numpy
g = zarr.open_group('h.zarr', mode='w', zarr_format=3)
g.create_array('small', data=numpy.arange(4))
g.create_array('vast', shape=(1 << 40, 1 << 8), chunks=(64, 256), dtype='f4', fill_value=0)";
    python(s.path(), code);
    // torch.zeros(1).expand(1 << 50): one element, repeated by a stride of 0.
    let args = [
        &storage("0", "FloatStorage", 2)[..],
        &int(0),
        &tuple(&[&int(1 << 50)]),
        &tuple(&[&int(0)]),
        b"\x89",
    ];
    let expanded = call(
        "torch._utils",
        "_rebuild_tensor_v2",
        &[&args.concat(), &call("collections", "OrderedDict", &[])],
    );
    let pt = checkpoint(&s, "e.pt", &dict(&[(&text("w"), &expanded), (&text("b"), &tensor())]))
        .display()
        .to_string();
    for (source, array, shape) in [
        (at(&s, "h.zarr"), "vast", "float32 [1099511627776, 256]"),
        (pt, "w", "float32 [1125899906842624]"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let out = at(&s, "o.npk");
            let said = npk_fails(1, &[&["convert", &source, &out][..], more].concat());
            assert!(
                said.starts_with(&format!("error: {out}: ")) && said.contains(" are needed, "),
                "{said}"
            );
            assert!(
                said.contains(&format!(
                    "of it for the largest array, '{array}', which is {shape})\nhint: "
                )),
                "{said}"
            );
            assert!(!s.join("o.npk").exists());
        }
    }
}

/// Two arrays of one name: which kind of error depends on where they meet, not on the format.
#[test]
#[ignore = "asks the real libraries"]
fn one_fault_has_one_code() {
    let s = Scratch::new();
    let code = "import warnings; warnings.simplefilter('ignore')
import json, struct, zipfile, numpy, pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as pf, h5py, zarr
two = numpy.arange(2)
open('t.csv', 'w').write('x,x\\n1,2\\n')
open('t.txt', 'w').write('x x\\n1 2\\n')
table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=['x', 'x'])
pq.write_table(table, 't.parquet')
with pa.ipc.new_file('t.arrow', table.schema) as f: f.write(table)
numpy.save('x.npy', two)
with zipfile.ZipFile('t.npz', 'w') as z:
    z.write('x.npy'); z.write('x.npy')
def tensors(path, *keys):
    body = ','.join('\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}' % (k, i, i + 1) for i, k in enumerate(keys))
    head = ('{' + body + '}').encode()
    open(path, 'wb').write(struct.pack('<Q', len(head)) + head + bytes(len(keys)))
tensors('t.safetensors', 'x', 'x')
import os
os.mkdir('shards')
for i in (1, 2): tensors(f'shards/model-0000{i}-of-00002.safetensors', 'x')
with h5py.File('t.h5', 'w') as f:
    f['x.a'] = two
    f.create_dataset('x', data=numpy.zeros(2, [('a', 'i4'), ('b', 'i4')]))
g = zarr.open_group('t.zarr', mode='w', zarr_format=2)
g.create_array('x.a', data=two)
g.create_array('x', data=numpy.zeros(2, [('a', 'i4'), ('b', 'i4')]))
os.mkdir('other')
numpy.save('other/x.npy', two)
numpy.savez('ab.npz', a=two, b=two)
numpy.savez('dotted.npz', **{'p.a': two, 'a': two})";
    python(s.path(), code);
    let out = at(&s, "o.npk");
    let hint = "hint: --on-duplicate rename calls the second one NAME_1; first or last keeps one of them\n";
    // In one file, or one checkpoint.
    for (file, more) in [
        ("t.csv", &[][..]),
        ("t.txt", &["--header", "yes"]),
        ("t.parquet", &[]),
        ("t.arrow", &[]),
        ("t.npz", &[]),
        ("shards", &[]),
        ("t.h5", &[]),
        ("t.zarr", &[]),
    ] {
        let path = at(&s, file);
        let args = [&["convert", &path, &out, "--layout", "columns"][..], more].concat();
        let said = npk_fails(4, &args);
        assert!(
            said.contains("the name appears twice: ") && said.ends_with(hint),
            "{file}: {said}"
        );
        assert!(
            said.starts_with("error: ")
                && said.contains("t.") | said.contains("shards")
                && said.contains(": x"),
            "{file}: {said}"
        );
        for choice in ["rename", "first", "last"] {
            npk(&[&args[..], &["-q", "-f", "--on-duplicate", choice]].concat());
            let names = npk(&["list", &out]);
            assert_eq!(
                names.lines().any(|n| n.ends_with("_1")),
                choice == "rename",
                "{file} {choice}: {names}"
            );
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
    std::fs::write(s.join("mask.csv"), "x,x.valid\n1,2\n,3\n").unwrap();
    let said = npk_fails(4, &["convert", &at(&s, "mask.csv"), &out, "--layout", "columns"]);
    assert!(
        said.contains(
            "the name 'x.valid', which the output needs for the nulls or the rows of 'x'\nhint: "
        ),
        "{said}"
    );
    // Between sources that are given together, and by names that are asked for.
    let (x, other, ab, dotted) =
        (at(&s, "x.npy"), at(&s, "other/x.npy"), at(&s, "ab.npz"), at(&s, "dotted.npz"));
    for args in [
        &["convert", &x, &other, &out][..],
        &["convert", &x, &other, &out, "--prefix-by-file"],
        &["convert", &ab, &out, "--rename", "a=b"],
        &["convert", &ab, &out, "--rename-re", "[ab]=c"],
        &["convert", &dotted, &out, "--strip-prefix", "p."],
        &["convert", &at(&s, "t.csv"), &out, "--column-names", "y,y"],
        &["convert", &x, &other, &format!("{}/", s.join("many").display()), "--to", "npk"],
    ] {
        let said = npk_fails(2, args);
        assert!(said.contains("\nhint: "), "{args:?}: {said}");
    }
    // Where the format says that names are unique.
    let said = npk_fails(7, &["convert", &at(&s, "t.safetensors"), &out]);
    assert!(said.contains("the key \"x\" appears twice"), "{said}");
    assert!(!s.join("o.npk").exists() && !s.join("many").exists());
}
