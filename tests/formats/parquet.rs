//! Parquet: pyarrow, pandas, polars and DuckDB on both ends.

use std::path::Path;

use npk::error::Result;
use npk::format::{Existing, Format, ReadOptions, Source, WriteOptions};
use npk::formats::by_name;
use npk::location::Location;
use npk::model::{Chunk, Plan};
use npk::pipe;

use crate::support::{Scratch, python};

/// The format of a file, by its ending.
pub fn format_of(path: &Path) -> &'static dyn Format {
    let ending = path.extension().unwrap().to_str().unwrap();
    npk::formats::FORMATS.iter().copied().find(|f| f.extensions().contains(&ending)).unwrap_or_else(|| by_name("parquet").unwrap())
}

pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    format_of(path).open(&Location::local(path), &ReadOptions::default())
}

/// Moves a file to another one, through the library.
pub fn convert_with(from: &Path, to: &Path, options: &WriteOptions) -> Result<Plan> {
    let source = open(from)?;
    let format = format_of(to);
    let settings = pipe::Settings::new(2, options.memory_bytes);
    let create = &mut |plan: &Plan| format.create(&Location::local(to), plan, options);
    Ok(pipe::run(source, Vec::new(), format.holds().unwrap(), create, &settings)?.1)
}

pub fn convert(from: &Path, to: &Path) -> Result<Plan> {
    convert_with(from, to, &WriteOptions { existing: Existing::Replace, ..WriteOptions::default() })
}

/// All chunks of all arrays, in the order of the arrays.
pub fn read_all(source: Box<dyn Source>) -> Result<(Plan, Vec<Vec<Chunk>>)> {
    let mut chunks = vec![Vec::new(); source.plan().arrays.len()];
    let settings = pipe::Settings::new(2, 64 << 20);
    let each = &mut |chunk: Chunk| {
        chunks[chunk.array].push(chunk);
        Ok(())
    };
    let plan = pipe::drain(source, Vec::new(), npk::format::Order::ArrayByArray, each, &settings)?;
    Ok((plan, chunks))
}

/// Tables of every type, made by pyarrow: `tables.py` in the judges' folder.
pub fn make_tables(directory: &Path, code: &str) -> Vec<String> {
    let names = python(directory, &format!("import tables_judge as t\n{code}"));
    let names: Vec<String> = names.lines().map(str::to_string).collect();
    assert!(!names.is_empty());
    names
}

#[test]
fn every_type_goes_round() {
    let scratch = Scratch::new();
    for name in make_tables(scratch.path(), "t.write_parquet()") {
        let (from, to) = (scratch.join(&name), scratch.join(&format!("out-{name}")));
        if let Err(e) = convert(&from, &to) {
            panic!("{name}: {e}");
        }
    }
    python(scratch.path(), "import tables_judge as t\nt.compare_parquet()");
}
