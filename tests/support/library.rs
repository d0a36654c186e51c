//! Conversions through the library alone, without the command line: thousands of them are cheap.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use npk::error::{ErrorKind, Result};
use npk::format::{Extent, Order, ReadOptions, ReadRows, Source, Summary, WriteOptions};
use npk::formats::by_name;
use npk::model::{Chunk, Plan};
use npk::pipe::{self, Settings};
use npk::storage::Location;

use super::mutants;
use crate::fuzz::reading::read_some;

/// Opens a file and delivers every array.
pub fn drain(format: &str, path: &Path, each: &mut dyn FnMut(Chunk)) -> Result<Plan> {
    let at = Location::local(path);
    let source = by_name(format).unwrap().open(&at, &ReadOptions::default())?;
    let mut emit = |chunk| {
        each(chunk);
        Ok(())
    };
    pipe::drain(source, Order::Any, &mut emit, &Settings::new(2, 64 << 20))
}

/// Opens and reads everything.
pub fn read_all(format: &str, path: &Path) -> Result<Plan> {
    drain(format, path, &mut |_| {})
}

/// The reader of the rows of this array.
pub fn rows_of(source: &dyn Source, array: usize) -> Arc<dyn ReadRows> {
    let reader = source.select(&[array], Order::ArrayByArray).unwrap();
    reader.random().expect("random access")
}

/// How many of `count` mutants of `file` make damage that is seen: in itself, or in the store
/// `root` that it belongs to. None may meet a bug of ours, or be taken for trouble of the system.
/// The file is as before afterwards.
pub fn failing_mutants(format: &str, root: &Path, file: &Path, count: usize) -> usize {
    let original = std::fs::read(file).unwrap();
    let (mut failed, mut number) = (0, 0);
    mutants(&original, count, |bytes| {
        std::fs::write(file, bytes).unwrap();
        if let Err(error) = read_some(format, root, 2) {
            let is_of_data = matches!(
                error.kind(),
                ErrorKind::Corrupt | ErrorKind::Refused | ErrorKind::Missing
            );
            assert!(is_of_data, "{format}: mutant {number} of {}: {error:?}", file.display());
            failed += 1;
        }
        number += 1;
    });
    std::fs::write(file, original).unwrap();
    failed
}

/// From one format to another, without changes: the arrays must be such as the target holds.
pub fn convert(
    from: &str,
    input: &Location,
    to: &str,
    output: &Location,
    options: &WriteOptions,
) -> Result<Summary> {
    let source = by_name(from).unwrap().open(input, &ReadOptions::default())?;
    let target = by_name(to).unwrap();
    let prepared = target.prepare(output, source.plan(), options)?;
    let holds = target.spec().writes.as_ref().unwrap();
    pipe::run(source, holds, prepared, &Settings::new(2, 64 << 20)).map(|(summary, _)| summary)
}

/// As [`convert`], from path to path.
pub fn convert_files(from: &str, input: &Path, to: &str, output: &Path) -> Result<Summary> {
    convert(from, &Location::local(input), to, &Location::local(output), &WriteOptions::default())
}

/// The bytes through a FIFO, as on standard input.
pub fn fifo(path: &Path, bytes: Vec<u8>) -> Location {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let writer = path.to_path_buf();
    std::thread::spawn(move || {
        let _ = std::fs::OpenOptions::new()
            .write(true)
            .open(writer)
            .and_then(|mut f| f.write_all(&bytes));
    });
    Location::input(path).unwrap()
}

/// The bytes of files that extents name, one behind the other.
pub fn bytes_of_extents(extents: Vec<Extent>) -> Vec<u8> {
    let mut ready = Vec::new();
    for e in extents {
        let mut piece = vec![0; e.len as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*e.file, &mut piece, e.offset).unwrap();
        ready.extend(piece);
    }
    ready
}
