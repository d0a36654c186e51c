//! Conversions through the library alone, without the command line: thousands of them are cheap.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use npk::error::{Error, ErrorKind, Result, guard};
use npk::format::{Order, ReadOptions, ReadRows, Reader, Source, Summary, WriteOptions};
use npk::formats::by_name;
use npk::model::{Chunk, Plan};
use npk::pipe::{self, Settings};
use npk::storage::Location;

use super::mutants;

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

/// Opens and reads what can be read, as every command does it: arrays that cannot are left out, of
/// vast ones the first rows are read. The first error ends it, or the state of the first array that
/// has one.
pub fn read_some(format: &str, path: &Path) -> Result<()> {
    /// Damaged shapes may be huge and all fill value.
    const SOME_BYTES: u64 = 1 << 20;
    let options = ReadOptions {
        resources: npk::format::Resources::new(2, 16 << 20),
        ..ReadOptions::default()
    };
    guard(|| {
        let source = by_name(format).unwrap().open(&Location::local(path), &options)?;
        let arrays = source.plan().arrays.clone();
        let good: Vec<usize> =
            (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
        let mut errors: Vec<Error> =
            arrays.iter().filter_map(|a| a.details.error.as_deref().cloned()).collect();
        let Reader::Random(reader) = source.select(&good, Order::Any)? else {
            let drained = pipe::drain(
                pipe::Flow::from(source).choose(&good),
                Order::Any,
                &mut |_| Ok(()),
                &Settings::new(2, 16 << 20),
            );
            errors.extend(drained.err());
            return Error::all(errors);
        };
        for &a in &good {
            let Some(total) = arrays[a].rows else { continue };
            let rows = total.min((SOME_BYTES / arrays[a].row_bytes()?.max(1)).clamp(1, 1 << 12));
            let mut row = 0;
            while row < rows {
                let end = reader.next_boundary(a, row).min(rows);
                assert!(end > row, "{}: a cut at row {row} is at {end}", arrays[a].name);
                let (_, _) = (reader.cost(a, row..end), reader.piece(a, row, SOME_BYTES));
                if let Err(e) = guard(|| reader.read(a, row..end, &mut |_| Ok(()))) {
                    errors.push(e);
                    break;
                }
                row = end;
            }
            let _ = reader.extents(a);
        }
        reader.close()?;
        Error::all(errors)
    })
}

/// How many of `count` mutants of `file` make damage that is seen: in itself, or in the store
/// `root` that it belongs to. None may meet a bug of ours, or be taken for trouble of the system.
/// The file is as before afterwards.
pub fn failing_mutants(format: &str, root: &Path, file: &Path, count: usize) -> usize {
    let original = std::fs::read(file).unwrap();
    let (mut failed, mut number) = (0, 0);
    mutants(&original, count, |bytes| {
        std::fs::write(file, bytes).unwrap();
        if let Err(error) = read_some(format, root) {
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
