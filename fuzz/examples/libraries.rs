//! What the arrow and parquet crates do with damaged files by themselves, without the checks that
//! npk puts before them (docs/upstream.md): mutants of the fixtures, and the crates' panics and wishes
//! for memory by place. `cargo run --release --manifest-path fuzz/Cargo.toml --example libraries`

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use arrow_ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Mutants of each format.
const MUTANTS: usize = 10_000;
/// More than any of the files could need.
const TOO_MUCH: usize = 1 << 30;

/// The system's allocator, which panics where a library asks for too much at once: it would end the
/// process.
struct Watching;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

fn watch(layout: Layout) {
    if layout.size() > TOO_MUCH && WATCHED.replace(false) {
        panic!("asks for {} bytes at once", layout.size());
    }
}

// SAFETY: what is allocated is the system's.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Panics by place: how many, and the words of the first.
static PANICS: Mutex<BTreeMap<String, (usize, String)>> = Mutex::new(BTreeMap::new());

fn note(info: &std::panic::PanicHookInfo<'_>) {
    let words = info.payload_as_str().unwrap_or_default().to_string();
    let mut place = info.location().map_or("?".into(), |l| format!("{}:{}", l.file(), l.line()));
    if words.starts_with("asks for") {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        let of_library = |line: &&str| line.contains("arrow_") || line.contains("parquet::");
        let line = trace.lines().find(of_library).unwrap_or("?").trim();
        place = line.split_once(": ").map_or(line, |(_, name)| name).to_string();
    } else if let Some((_, below)) = place.split_once("index.crates.io-") {
        place = below.split_once('/').map_or(below, |(_, path)| path).to_string();
    }
    let mut all = PANICS.lock().unwrap();
    all.entry(place).or_insert((0, words)).0 += 1;
}

fn parquet(bytes: Vec<u8>) {
    let Ok(builder) = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)) else {
        return;
    };
    if let Ok(reader) = builder.build() {
        let _ = reader.take_while(Result::is_ok).count();
    }
}

fn feather(bytes: Vec<u8>) {
    if let Ok(reader) = FileReader::try_new(std::io::Cursor::new(&bytes), None) {
        let _ = reader.take_while(Result::is_ok).count();
    }
    if let Ok(reader) = StreamReader::try_new(std::io::Cursor::new(&bytes), None) {
        let _ = reader.take_while(Result::is_ok).count();
    }
}

fn main() {
    std::panic::set_hook(Box::new(note));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/good");
    for (name, read) in [("parquet", parquet as fn(Vec<u8>)), ("feather", feather)] {
        let files = std::fs::read_dir(root.join(name)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|path| !path.extension().is_some_and(|e| e == "json" || e == "md"))
            .collect();
        files.sort();
        let originals: Vec<Vec<u8>> =
            files.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..MUTANTS {
            let mut bytes = originals[random(originals.len())].clone();
            for _ in 0..1 + random(2) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at] = bytes[at].wrapping_add([1, 255, 2, 16][random(4)]),
                    _ => {
                        let end = (at + 1 + random(4)).min(bytes.len());
                        bytes[at..end].fill([0, 255, 127, 128][random(4)]);
                    }
                }
            }
            WATCHED.set(true);
            let _ = std::panic::catch_unwind(|| read(bytes));
            WATCHED.set(false);
        }
        println!("{name}: {MUTANTS} mutants");
        for (place, (count, words)) in std::mem::take(&mut *PANICS.lock().unwrap()) {
            println!("{count:6} {place}: {}", words.lines().next().unwrap_or_default());
        }
    }
}
