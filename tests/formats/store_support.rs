//! What the tests of stores share: arrays in memory as a source, whole reads through the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use npk::error::Result;
use npk::format::{
    Emit, Format, Order, ReadOptions, ReadRows, Sink, Source, WriteOptions, WriteRows, Writer,
};
use npk::formats::by_name;
use npk::model::{ArrayMeta, Chunk, Dtype, Plan, Values};
use npk::pipe::{self, Settings};
use npk::storage::Location;

use crate::support::fixture;

/// Arrays in memory.
pub struct Memory {
    plan: Plan,
    arrays: Arc<Vec<(ArrayMeta, Vec<u8>)>>,
}

struct Rows(Arc<Vec<(ArrayMeta, Vec<u8>)>>);

impl Source for Memory {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, _: &[usize], _: Order) -> Result<npk::format::Reader> {
        Ok(npk::format::Reader::Random(Arc::new(Rows(self.arrays.clone()))))
    }
}

impl ReadRows for Rows {
    fn read(&self, a: usize, rows: std::ops::Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (meta, bytes) = &self.0[a];
        let n = meta.row_bytes()?;
        let piece = bytes[(rows.start * n) as usize..(rows.end * n) as usize].to_vec();
        emit(Chunk::fixed(a, rows.start, rows.end - rows.start, piece))
    }
}

pub fn plan(arrays: Vec<ArrayMeta>) -> Plan {
    Plan { format: "test", arrays: arrays.into(), ..Plan::default() }
}

/// The plan of some arrays.
pub fn plan_of(arrays: &[(ArrayMeta, Vec<u8>)]) -> Plan {
    plan(arrays.iter().map(|a| a.0.clone()).collect())
}

/// A new store of them.
#[track_caller]
pub fn write_new(path: &Path, arrays: &[(ArrayMeta, Vec<u8>)]) {
    write(path, plan_of(arrays), arrays, &WriteOptions::default()).unwrap();
}

/// So many arrays of one number, and so many of a mebibyte.
pub fn many_arrays(small: u32, large: u8) -> Vec<(ArrayMeta, Vec<u8>)> {
    let number = |i: u32| ArrayMeta::new(format!("layers.{i}.weight"), Dtype::U32, &[1]);
    let bytes = |i: u8| ArrayMeta::new(format!("big{i}"), Dtype::U8, &[1 << 20]);
    let small = (0..small).map(|i| (number(i), i.to_le_bytes().to_vec()));
    small.chain((0..large).map(|i| (bytes(i), vec![i; 1 << 20]))).collect()
}

pub fn sequence(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Writes arrays from memory, in the format of the path's ending.
pub fn write(
    to: &Path,
    plan: Plan,
    arrays: &[(ArrayMeta, Vec<u8>)],
    options: &WriteOptions,
) -> Result<npk::format::Summary> {
    let format = by_name(to.extension().map_or("npk", |e| e.to_str().unwrap_or("npk")))
        .or(by_name("npk"))
        .unwrap();
    let source = Memory { plan, arrays: Arc::new(arrays.to_vec()) };
    let settings = Settings::new(2, 64 << 20);
    let at = Location::local(to);
    Ok(pipe::run(
        Box::new(source),
        format.spec().writes.as_ref().unwrap(),
        Box::new(|plan| format.prepare(&at, plan, options)?(plan)),
        &settings,
    )?
    .0)
}

pub fn format_of(path: &Path) -> &'static dyn Format {
    by_name(path.extension().unwrap().to_str().unwrap()).unwrap()
}

pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    format_of(path).open(&Location::local(path), &ReadOptions::default())
}

/// From any store to a fresh output of this format.
pub fn convert(from: &Path, to: &Path, format: &str) -> Result<npk::format::Summary> {
    convert_with(from, to, format, &WriteOptions::default())
}

pub fn convert_with(
    from: &Path,
    to: &Path,
    format: &str,
    options: &WriteOptions,
) -> Result<npk::format::Summary> {
    let format = by_name(format).unwrap();
    let at = Location::local(to);
    let settings = Settings::new(2, 64 << 20);
    Ok(pipe::run(
        open(from)?,
        format.spec().writes.as_ref().unwrap(),
        Box::new(|plan| format.prepare(&at, plan, options)?(plan)),
        &settings,
    )?
    .0)
}

/// All of a file.
pub struct All {
    pub plan: Plan,
    /// The bytes of fixed-size arrays.
    pub bytes: Vec<Vec<u8>>,
    pub masks: Vec<Vec<u8>>,
    /// The rows of text and lists; `None` at nulls.
    pub texts: Vec<Vec<Option<Vec<u8>>>>,
}

pub fn read(path: &Path) -> Result<All> {
    let source = open(path)?;
    let plan = source.plan().clone();
    let n = plan.arrays.len();
    let (mut bytes, mut masks, mut texts) =
        (vec![Vec::new(); n], vec![Vec::new(); n], vec![Vec::new(); n]);
    pipe::drain(
        source,
        Order::Any,
        &mut |chunk| {
            let a = chunk.array;
            if let Some(mask) = &chunk.valid {
                masks[a].extend_from_slice(mask);
            }
            match &chunk.values {
                Values::Fixed(b) => bytes[a].extend_from_slice(b),
                Values::Var { offsets, values } => {
                    let item = plan.arrays[a].dtype.item_bytes() as usize;
                    for row in 0..chunk.rows as usize {
                        let cut =
                            &values[offsets[row] as usize * item..offsets[row + 1] as usize * item];
                        texts[a].push(chunk.is_valid(row).then(|| cut.to_vec()));
                    }
                }
                Values::Nested(_) => unreachable!(),
            }
            Ok(())
        },
        &Settings::new(2, 64 << 20),
    )?;
    Ok(All { plan, bytes, masks, texts })
}

/// The golden files or stores of this ending, by version.
pub fn goldens(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(fixture(&format!("good/{folder}"))).unwrap() {
        let path = entry.unwrap().path();
        let inner: Vec<PathBuf> = if path.is_dir() {
            std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect()
        } else {
            vec![path]
        };
        found.extend(inner.into_iter().filter(|p| p.extension().is_some_and(|e| e == ending)));
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target)
        } else {
            std::fs::write(&target, std::fs::read(&path).unwrap()).unwrap()
        }
    }
}

/// Begins a store, or a change of one.
pub fn begin(at: &Path, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let at = Location::local(at);
    format_of(at.local_path().unwrap()).prepare(&at, plan, options)?(plan)
}

/// Where a local store's rows are written to.
pub fn rows_of(sink: &dyn Sink) -> Arc<dyn WriteRows> {
    match sink.writer() {
        Writer::Positional(writer) => writer,
        Writer::InOrder(_) => panic!("a local store is written by position"),
    }
}
