//! Feather and Arrow IPC: pyarrow, pandas, polars and DuckDB on both ends.

use npk::format::{Compression, Existing, WriteOptions};

use super::parquet::{check_odd, comes_back, convert_with, make_tables, open};
use crate::support::library::failing_mutants;
use crate::support::{Scratch, python};

#[test]
#[ignore = "asks the real libraries"]
fn every_type_goes_round() {
    comes_back("write_arrow()", "compare_arrow()");
}

#[test]
#[ignore = "asks the real libraries"]
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
            convert_with(&from, &scratch.join(&format!("out-{stem}-zstd.feather")), &options)
                .unwrap();
        }
        python(scratch.path(), "import tables_judge as t\nt.compare_arrow()");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn pandas_frames_come_back() {
    comes_back("write_frames('feather')", "compare_frames('feather')");
}

#[test]
#[ignore = "asks the real libraries"]
fn polars_reads_its_own_again() {
    comes_back("write_others('arrow')", "compare_others('arrow')");
}

#[test]
#[ignore = "asks the real libraries"]
fn nested_columns_are_read_beside_flat_ones() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "import tables_judge as t\nt.write_odd(t.feather.write_feather, 'odd.feather')",
    );
    check_odd(&scratch.join("odd.feather"));
}

#[test]
#[ignore = "asks the real libraries"]
fn uncompressed_buffers_lie_ready() {
    let scratch = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.feather as f, numpy as np\nv = np.arange(1000.0)\nt = pa.table({'a': v, 'n': pa.array([None] + [1] * 999), 'l': pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(v, 3)), 3)})\nf.write_feather(t, 'x.feather', compression='uncompressed', chunksize=300)";
    python(scratch.path(), code);
    let path = scratch.join("x.feather");
    let source = open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let ready = |array: usize| -> Vec<u8> {
        let extents =
            crate::support::library::rows_of(source.as_ref(), array).extents(array).unwrap();
        extents
            .iter()
            .flat_map(|e| bytes[e.offset as usize..(e.offset + e.len) as usize].to_vec())
            .collect()
    };
    let expected: Vec<u8> = (0..1000).flat_map(|i| f64::from(i).to_le_bytes()).collect();
    assert!(ready(0) == expected);
    assert_eq!(ready(2).len(), 3 * expected.len());
    assert!(crate::support::library::rows_of(source.as_ref(), 1).extents(1).is_none());
}

#[test]
#[ignore = "asks the real libraries"]
fn damage_is_an_error() {
    let scratch = Scratch::new();
    let code = "all = t.tables(18)\nfor n in ('nulls', 'nested'):\n  for c in ('uncompressed', 'zstd', 'lz4'):\n    p = f'{n}-{c}.feather'; t.feather.write_feather(all[n], p, compression=c, chunksize=11); print(p)\n  p = n + '.arrows'\n  with t.pa.ipc.new_stream(p, all[n].schema) as w: w.write_table(all[n])\n  print(p)";
    for name in make_tables(scratch.path(), code) {
        let path = scratch.join(&name);
        assert!(failing_mutants("feather", &path, &path, 60) > 20, "{name}");
    }
}
