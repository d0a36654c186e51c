//! Feather and Arrow IPC: pyarrow, pandas, polars and DuckDB on both ends.

use npk::format::{Compression, Existing, WriteOptions};

use super::parquet::{convert, convert_with, make_tables};
use crate::support::{Scratch, python};

#[test]
fn every_type_goes_round() {
    let scratch = Scratch::new();
    for name in make_tables(scratch.path(), "t.write_arrow()") {
        let (from, to) = (scratch.join(&name), scratch.join(&format!("out-{name}")));
        if let Err(e) = convert(&from, &to) {
            panic!("{name}: {e}");
        }
    }
    python(scratch.path(), "import tables_judge as t\nt.compare_arrow()");
}

#[test]
fn every_compression_is_written() {
    let scratch = Scratch::new();
    make_tables(scratch.path(), "t.write_arrow()");
    for (name, level) in [("none", None), ("lz4", None), ("zstd", None), ("zstd", Some(9))] {
        let options = WriteOptions {
            existing: Existing::Replace,
            compression: Some(Compression { name: name.into(), level }),
            row_group_rows: Some(123),
            ..WriteOptions::default()
        };
        for stem in ["nulls", "nested"] {
            let from = scratch.join(&format!("{stem}-zstd.feather"));
            convert_with(&from, &scratch.join(&format!("out-{stem}-zstd.feather")), &options).unwrap();
        }
        python(scratch.path(), "import tables_judge as t\nt.compare_arrow()");
    }
}
