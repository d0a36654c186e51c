//! Conversions through the library alone, without the command line: thousands of them are cheap.

use std::io::Write;
use std::path::Path;

use npk::error::Result;
use npk::format::{Order, ReadOptions, Summary, WriteOptions};
use npk::formats::by_name;
use npk::location::Location;
use npk::model::{Chunk, Plan};
use npk::pipe::{self, Settings};

use super::mutants;

/// Opens a file and delivers every array.
pub fn drain(format: &str, path: &Path, each: &mut dyn FnMut(Chunk)) -> Result<Plan> {
    let at = Location::local(path);
    let source = by_name(format).unwrap().open(&at, &ReadOptions::default())?;
    let mut emit = |chunk| {
        each(chunk);
        Ok(())
    };
    pipe::drain(source, Vec::new(), Order::Any, &mut emit, &Settings::new(2, 64 << 20))
}

/// Opens and reads everything.
pub fn read_all(format: &str, path: &Path) -> Result<Plan> {
    drain(format, path, &mut |_| {})
}

/// How many of `count` mutants of a file cannot be read. None may meet a bug of ours.
pub fn failing_mutants(format: &str, original: &[u8], count: usize, mutant: &Path) -> usize {
    let mut failed = 0;
    mutants(original, count, |bytes| {
        std::fs::write(mutant, bytes).unwrap();
        if let Err(error) = read_all(format, mutant) {
            assert!(error.kind() != npk::error::Kind::Internal, "{}: {error}", mutant.display());
            failed += 1;
        }
    });
    failed
}

/// From one format to another, without adapters: the arrays must be such as the target holds.
pub fn convert(from: &str, input: &Location, to: &str, output: &Location, options: &WriteOptions) -> Result<Summary> {
    let source = by_name(from).unwrap().open(input, &ReadOptions::default())?;
    let target = by_name(to).unwrap();
    let mut create = |plan: &Plan| {
        if let Some(error) = target.refuse(output, plan, options).into_iter().next() {
            return Err(error);
        }
        target.create(output, plan, options)
    };
    pipe::run(source, Vec::new(), target.holds().unwrap(), &mut create, &Settings::new(2, 64 << 20)).map(|(summary, _)| summary)
}

/// As [`convert`], from path to path.
pub fn convert_files(from: &str, input: &Path, to: &str, output: &Path) -> Result<Summary> {
    convert(from, &Location::local(input), to, &Location::local(output), &WriteOptions::default())
}

/// The bytes through a FIFO, as on standard input.
pub fn fifo(path: &Path, bytes: Vec<u8>) -> Location {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0).unwrap();
    let writer = path.to_path_buf();
    std::thread::spawn(move || {
        let _ = std::fs::OpenOptions::new().write(true).open(writer).and_then(|mut f| f.write_all(&bytes));
    });
    Location::input(path).unwrap()
}
