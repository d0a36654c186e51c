//! Reading a column piece by piece takes work that grows with its bytes, not with the number of
//! pieces: pages are not unpacked again for every few rows.

use std::path::Path;
use std::sync::Arc;

use npk::format::ReadOptions;
use npk::formats::by_name;
use npk::storage::Location;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use crate::support::{Scratch, at, npk, python};

type Group<'a> = SerializedRowGroupWriter<'a, std::fs::File>;

/// A file of two row groups of uncompressed pages: its bytes are what is read of them.
fn write(path: &Path, schema: &str, dictionary: bool, columns: &dyn Fn(&mut Group<'_>)) -> u64 {
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(dictionary)
        .set_data_page_size_limit(1 << 20)
        .set_write_batch_size(64)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    for _ in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        columns(&mut group);
        group.close().unwrap();
    }
    writer.close().unwrap();
    std::fs::metadata(path).unwrap().len()
}

fn texts(group: &mut Group<'_>, def: Option<&[i16]>, all: impl Iterator<Item = String>) {
    let all: Vec<ByteArray> = all.map(|t| ByteArray::from(t.into_bytes())).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&all, def, None).unwrap();
    column.close().unwrap();
}

/// Bytes that this thread has read from files.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines().find_map(|l| l.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Reads all arrays in pieces as a conversion with this limit and so many threads does: the pieces,
/// the bytes that were read, and the bytes of the file and of the rows beside their texts.
fn read_in_pieces(path: &Path, memory_bytes: u64, jobs: usize) -> (u64, u64, u64) {
    let options = ReadOptions {
        resources: npk::format::Resources::new(jobs, memory_bytes),
        ..ReadOptions::default()
    };
    let piece_bytes = memory_bytes / (4 * jobs as u64 + 4);
    let before = bytes_read();
    let source = by_name("parquet").unwrap().open(&Location::local(path), &options).unwrap();
    let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
    let reader = source.select(&all, npk::format::Order::Any).unwrap().random().unwrap();
    let (mut pieces, mut all) = (0, std::fs::metadata(path).unwrap().len());
    for (a, meta) in source.plan().arrays.iter().enumerate() {
        assert!(meta.details.error.is_none(), "{:?}", meta.details.error);
        let (mut row, rows) = (0, meta.rows.unwrap());
        all += 18 * rows;
        while row < rows {
            let end = match reader.piece(a, row, piece_bytes) {
                Some(piece) => piece.end,
                None => reader.next_boundary(a, row),
            };
            let mut came = row;
            let mut emit = |chunk: npk::model::Chunk| {
                came += chunk.rows;
                Ok(())
            };
            reader.read(a, row..end, &mut emit).unwrap();
            assert_eq!(came, end);
            (row, pieces) = (end, pieces + 1);
        }
    }
    (pieces, bytes_read() - before, all)
}

/// With little memory, and with much of it.
fn check(path: &Path, what: &str) {
    for (memory, jobs) in [(8 << 20, 8), (24 << 20, 8), (256 << 20, 2)] {
        let (pieces, read, all) = read_in_pieces(path, memory, jobs);
        let most = 4 + 8 * all / (memory / (4 * jobs as u64 + 4));
        let times = if memory < 256 << 20 { 12 } else { 4 };
        assert!(pieces <= most, "{what} {memory}: {pieces} pieces of {most}");
        assert!(read <= times * all, "{what} {memory}: {read} bytes of {all}");
    }
}

#[test]
fn texts_are_read_in_linear_work() {
    let s = Scratch::new();
    let path = s.join("x.parquet");
    let required = "message m { required binary t (UTF8); }";
    let even = |i: usize| format!("{i:0>190}");
    write(&path, required, false, &|g| texts(g, None, (0..20_000).map(even)));
    check(&path, "even");
    write(&path, required, true, &|g| texts(g, None, (0..20_000).map(even)));
    check(&path, "dictionary given up");
    // A long text among many short ones.
    let skewed = |i: usize| if i % 1000 == 7 { "x".repeat(60_000) } else { i.to_string() };
    write(&path, required, false, &|g| texts(g, None, (0..50_000).map(skewed)));
    check(&path, "skewed");
    write(&path, "message m { required binary t; }", false, &|g| {
        texts(g, None, (0..50_000).map(skewed));
    });
    check(&path, "binary");
    let def: Vec<i16> = (0..100_000).map(|i| i16::from(i % 40 == 3)).collect();
    let present = def.iter().filter(|d| **d == 1).count();
    write(&path, "message m { optional binary t (UTF8); }", false, &|g| {
        texts(g, Some(&def), (0..present).map(skewed));
    });
    check(&path, "nulls");
    write(&path, required, true, &|g| {
        texts(g, None, (0..40_000).map(|i| even(i % 4000)));
    });
    let (pieces, read, all) = read_in_pieces(&path, 8 << 20, 8);
    let texts = 80_000 * 190;
    assert!(pieces < 400 && read < 10 * texts, "coded: {pieces} pieces, {read} bytes of {all}");
}

#[test]
fn structs_are_read_in_linear_work() {
    let s = Scratch::new();
    let path = s.join("x.parquet");
    let schema = "message m { optional group s {
        required binary a (UTF8); required int64 b; required binary c (UTF8); required binary d; } }";
    let rows = 30_000;
    // One of them is null as a whole, so that they stay together.
    let def: Vec<i16> = (0..rows).map(|i| i16::from(i != 5)).collect();
    let present = 0..rows - 1;
    write(&path, schema, false, &|g| {
        texts(g, Some(&def), present.clone().map(|i| format!("{i:0>100}")));
        let mut column = g.next_column().unwrap().unwrap();
        let numbers: Vec<i64> = present.clone().map(|i| i as i64).collect();
        column.typed::<Int64Type>().write_batch(&numbers, Some(&def), None).unwrap();
        column.close().unwrap();
        let skewed = |i: usize| if i % 900 == 7 { "x".repeat(30_000) } else { i.to_string() };
        texts(g, Some(&def), present.clone().map(skewed));
        texts(g, Some(&def), present.clone().map(|i| "y".repeat(i % 70)));
    });
    check(&path, "structs");
}

/// Pages of lists that begin in the middle of a row: most, where rows are long.
#[test]
#[ignore = "asks the real libraries"]
fn long_lists_are_read_in_linear_work() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(3)
offsets = np.concatenate([[0], np.cumsum(rng.integers(900, 1100, 1000))]).astype(np.int32)
lists = pa.ListArray.from_arrays(offsets, pa.array(rng.random(offsets[-1]).astype(np.float32)))
for name, column in [('numbers', lists), ('texts', lists.cast(pa.list_(pa.string())))]:
    pq.write_table(pa.table({'x': column}), name + '.parquet', compression='none',
        use_dictionary=False, data_page_size=1 << 16, row_group_size=1000)
",
    );
    for name in ["numbers", "texts"] {
        let path = s.join(&format!("{name}.parquet"));
        check(&path, name);
        let (a, b) = (at(&s, &format!("{name}.npk")), at(&s, &format!("{name}.feather")));
        let args = ["--strings", "offsets", "-m", "8MiB", "-j", "8"];
        npk(&[&["convert"], &args[..], &[path.to_str().unwrap(), &a]].concat());
        npk(&["convert", &a, &b]);
    }
    python(
        s.path(),
        "
import pyarrow.parquet as pq, pyarrow.feather as feather
for name in ['numbers', 'texts']:
    assert feather.read_table(name + '.feather').equals(pq.read_table(name + '.parquet')), name
",
    );
}
