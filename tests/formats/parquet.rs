//! Parquet: pyarrow, pandas, polars and DuckDB on both ends.

use std::path::Path;

use npk::error::Result;
use npk::format::{Existing, Format, ReadOptions, Source, WriteOptions};
use npk::formats::by_name;
use npk::model::{Chunk, Plan};
use npk::pipe;
use npk::storage::Location;

use crate::support::library::failing_mutants;
use crate::support::{Scratch, at, npk, npk_fails, python};

/// The format of a file, by its ending.
pub fn format_of(path: &Path) -> &'static dyn Format {
    let ending = path.extension().unwrap().to_str().unwrap();
    npk::formats::FORMATS
        .iter()
        .copied()
        .find(|f| f.spec().extensions.contains(&ending))
        .unwrap_or_else(|| by_name("parquet").unwrap())
}

pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    format_of(path).open(&Location::local(path), &ReadOptions::default())
}

/// Moves a file to another one, through the library.
pub fn convert_with(from: &Path, to: &Path, options: &WriteOptions) -> Result<Plan> {
    let source = open(from)?;
    let format = format_of(to);
    let settings = pipe::Settings::new(2, options.resources.memory_bytes());
    let at = Location::local(to);
    let create = Box::new(|plan: &Plan| format.prepare(&at, plan, options)?(plan));
    Ok(pipe::run(source, format.spec().writes.as_ref().unwrap(), create, &settings)?.1)
}

pub fn convert(from: &Path, to: &Path) -> Result<Plan> {
    convert_with(from, to, &WriteOptions { existing: Existing::Replace, ..WriteOptions::default() })
}

/// Tables of every type, made by pyarrow: `tables.py` in the judges' folder.
pub fn make_tables(directory: &Path, code: &str) -> Vec<String> {
    let names = python(directory, &format!("import tables_judge as t\n{code}"));
    let names: Vec<String> = names.lines().map(str::to_string).collect();
    assert!(!names.is_empty());
    names
}

/// Whatever `write` of the judges makes comes back as `compare` expects.
pub fn comes_back(write: &str, compare: &str) {
    let scratch = Scratch::new();
    for name in make_tables(scratch.path(), &format!("t.{write}")) {
        let to = scratch.join(&format!("out-{name}"));
        convert(&scratch.join(&name), &to).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    python(scratch.path(), &format!("import tables_judge as t\nt.{compare}"));
}

#[test]
#[ignore = "asks the real libraries"]
fn every_type_goes_round() {
    comes_back("write_parquet()", "compare_parquet()");
}

#[test]
#[ignore = "asks the real libraries"]
fn pandas_frames_come_back() {
    comes_back("write_frames('parquet')", "compare_frames('parquet')");
}

#[test]
#[ignore = "asks the real libraries"]
fn polars_and_duckdb_read_their_own_again() {
    comes_back("write_others('parquet')", "compare_others('parquet')");
}

/// The bytes of some rows.
fn bytes_of(source: &dyn Source, array: usize, rows: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = rows.start;
    let each = &mut |chunk: Chunk| {
        assert_eq!(chunk.first_row, next);
        next += chunk.rows;
        match &chunk.values {
            npk::model::Values::Fixed(b) => bytes.extend_from_slice(b),
            npk::model::Values::Var { .. } => panic!("fixed values were expected"),
            npk::model::Values::Nested(_) => unreachable!(),
        }
        Ok(())
    };
    crate::support::library::rows_of(source, array).read(array, rows.clone(), each).unwrap();
    assert_eq!(next, rows.end);
    bytes
}

#[test]
#[ignore = "asks the real libraries"]
fn equal_lists_are_read_from_any_row() {
    let scratch = Scratch::new();
    for name in make_tables(scratch.path(), "t.write_lists()") {
        let stem = name.split('-').next().unwrap();
        let expected = std::fs::read(scratch.join(&format!("{stem}.bin"))).unwrap();
        let source = open(&scratch.join(&name)).unwrap();
        let meta = &source.plan().arrays[0];
        assert_eq!(
            (meta.rows, &meta.inner[..], meta.nulls),
            (Some(700), &[6][..], false),
            "{name}"
        );
        let row = expected.len() / 700;
        for (start, end) in
            [(0, 700), (0, 1), (299, 301), (37, 38), (123, 617), (699, 700), (301, 599)]
        {
            let got = bytes_of(source.as_ref(), 0, start..end);
            assert!(
                got == expected[start as usize * row..end as usize * row],
                "{name}: rows {start}..{end}"
            );
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn int96_is_exact_or_refused() {
    let scratch = Scratch::new();
    python(scratch.path(), "import tables_judge as t\nt.write_int96()");
    convert(&scratch.join("int96.parquet"), &scratch.join("out-int96.parquet")).unwrap();
    python(scratch.path(), "import tables_judge as t\nt.check_int96()");
}

/// Whoever skips rows looks at the headers of pages more than once.
#[test]
#[ignore = "asks the real libraries"]
fn small_pages_are_read_from_any_row() {
    let scratch = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.parquet as p\n\
        p.write_table(pa.table({'ID': pa.array([True, None]), 'c': pa.array([1, 2], pa.int8())}), 'd.parquet')";
    python(scratch.path(), code);
    npk(&["convert", &at(&scratch, "d.parquet"), &at(&scratch, "d.npk"), "--rows", "1:"]);
}

/// Parquet's only dates are days: readers would take the milliseconds of `date64` for plain
/// numbers.
#[test]
#[ignore = "asks the real libraries"]
fn dates_of_milliseconds_become_days() {
    let scratch = Scratch::new();
    let import = "import pyarrow as pa, pyarrow.feather as f, pyarrow.parquet as p\n\
        dates = lambda t, *counts: pa.table({'d': pa.array(counts, t)})\n";
    let write = "f.write_feather(pa.table({'d': pa.array([0, None, %], pa.int64()).view(pa.date64())}), '@')\n";
    let file = |name: &str, last: &str| write.replace('%', last).replace('@', name);
    python(
        scratch.path(),
        &[import, &file("d.feather", "-86400000"), &file("odd.feather", "1")].concat(),
    );
    let out = at(&scratch, "d.parquet");
    let said = npk_fails(4, &["convert", &at(&scratch, "odd.feather"), &out]);
    assert!(said.contains("odd.feather: d: row 2"), "{said}");
    npk(&["convert", &at(&scratch, "d.feather"), &out]);
    python(
        scratch.path(),
        &format!(
            "{import}assert p.read_table('d.parquet').equals(dates(pa.date32(), 0, None, -1))"
        ),
    );
}

/// Whether all columns of the table that `write_odd` makes can be read.
pub fn check_odd(path: &Path) {
    let source = open(path).unwrap();
    let plan = source.plan().clone();
    let at_fault: Vec<&str> =
        plan.arrays.iter().filter(|a| a.details.error.is_some()).map(|a| a.name.as_str()).collect();
    assert!(at_fault.is_empty(), "{at_fault:?}");
    let nested = plan.arrays.iter().filter(|a| a.logical.nested().is_some()).count();
    assert_eq!(nested, 6);
    let good = plan.position("also_good").unwrap();
    source.select(&[0, good], npk::format::Order::Any).unwrap();
    assert_eq!(bytes_of(source.as_ref(), 0, 0..3), [1i64, 2, 3].map(i64::to_le_bytes).concat());
    assert!(plan.arrays[good].nulls && !plan.arrays[0].nulls);
}

#[test]
#[ignore = "asks the real libraries"]
fn nested_columns_are_read_beside_flat_ones() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "import tables_judge as t\nt.write_odd(t.pq.write_table, 'odd.parquet')",
    );
    check_odd(&scratch.join("odd.parquet"));
}

#[test]
#[ignore = "asks the real libraries"]
fn repeated_and_empty_names() {
    use npk::format::OnDuplicate;
    let scratch = Scratch::new();
    let code = "pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array(['x'])], names=['a', 'a', '']), 'd.parquet')";
    python(scratch.path(), &format!("import pyarrow as pa, pyarrow.parquet as pq\n{code}"));
    let at = Location::local(scratch.join("d.parquet"));
    let parquet = by_name("parquet").unwrap();
    let names = |on_duplicate| {
        let options = ReadOptions { on_duplicate, ..ReadOptions::default() };
        parquet
            .open(&at, &options)
            .map(|s| s.plan().arrays.iter().map(|a| a.name.clone()).collect::<Vec<_>>())
    };
    let e = names(OnDuplicate::Error).unwrap_err();
    assert_eq!((e.kind(), e.array_name()), (npk::error::ErrorKind::Refused, Some("a")));
    assert_eq!(names(OnDuplicate::Rename).unwrap(), ["a", "a_1", "col2"]);
    assert_eq!(names(OnDuplicate::First).unwrap(), ["a", "col2"]);
    let options = ReadOptions { on_duplicate: OnDuplicate::Rename, ..ReadOptions::default() };
    let plan = parquet.open(&at, &options).unwrap().plan().clone();
    let headers: Vec<&str> = plan.tables[0].columns.iter().map(|c| c.header.as_str()).collect();
    assert_eq!(headers, ["a", "a_1", ""]);
}

#[test]
#[ignore = "asks the real libraries"]
fn damage_is_an_error() {
    let scratch = Scratch::new();
    let code = "import pyarrow.parquet as pq, pyarrow as pa\nall = t.tables(18)\nfor n in ('nulls', 'nested'):\n  for c in ('snappy', 'none', 'zstd', 'lz4'):\n    p = f'{n}-{c}.parquet'; pq.write_table(all[n], p, compression=c, row_group_size=11); print(p)";
    for name in make_tables(scratch.path(), code) {
        let path = scratch.join(&name);
        assert!(failing_mutants("parquet", &path, &path, 60) > 20, "{name}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn encrypted_columns_are_refused_and_the_others_read() {
    let scratch = Scratch::new();
    python(scratch.path(), "import tables_judge as t\nt.write_encrypted()");
    let (columns, out) = (at(&scratch, "columns.parquet"), at(&scratch, "out.csv"));
    let told = npk_fails(4, &["convert", &columns, &out]);
    for name in ["secret", "when"] {
        assert!(told.contains(&format!("{name}: its values are encrypted")), "{told}");
    }
    npk(&["convert", "-q", &columns, &out, "-a", "also,plain"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "also,plain\n1.5,1\n,2\n2.5,3\n");
    npk(&["convert", "-q", "-f", &columns, &out, "--skip-unsupported"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "plain,also\n1,1.5\n2,\n3,2.5\n");
    assert!(
        npk_fails(4, &["list", &at(&scratch, "footer.parquet")])
            .contains("its footer is encrypted")
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn types_and_nulls_come_back_through_npk() {
    use crate::support::npk;
    let scratch = Scratch::new();
    let code = "all = t.tables(60)\nfor n in ('flat', 'nulls', 'required', 'nested', 'flat_one', 'nested_empty'):\n  p = n + '.parquet'; t.pq.write_table(all[n], p); print(p)";
    for name in make_tables(scratch.path(), code) {
        let (from, store, back) =
            (scratch.join(&name), scratch.join("store.npk"), scratch.join(&format!("out-{name}")));
        let (from, store, back) =
            (from.to_str().unwrap(), store.to_str().unwrap(), back.to_str().unwrap());
        npk(&[
            "convert",
            "-q",
            "-f",
            "--layout",
            "columns",
            "--strings",
            "codes",
            "--ragged",
            "offsets",
            from,
            store,
        ]);
        npk(&["convert", "-q", store, back]);
    }
    python(scratch.path(), "import tables_judge as t\nt.compare_parquet()");
}
