//! What a run holds at ten times the memory limit: the whole of it is `make memory`.

use npk::format::Arrays;
use npk::formats::FORMATS;

use crate::convert::npy;
use crate::support::{Scratch, at, fixture, npk, npk_peak, python};

const LIMIT: u64 = 8 << 20;
/// Beside the limit. An unoptimised binary has three times the code of a released one.
const BESIDE: u64 = 80 << 20;

/// Zeros that take no room on the disk.
fn zeros(s: &Scratch, name: &str, shape: &[u64], fortran: bool) -> String {
    let path = s.join(name);
    npy(&path, "<f4", shape, &[]);
    if fortran {
        let mut header = std::fs::read(&path).unwrap();
        let place = header.windows(5).position(|w| w == b"False").unwrap();
        header[place..place + 5].copy_from_slice(b"True ");
        std::fs::write(&path, header).unwrap();
    }
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + 4 * shape.iter().product::<u64>()).unwrap();
    path.display().to_string()
}

/// It is done, or refused with what it needs; within the limit either way.
#[track_caller]
fn within(args: &[&str]) -> i32 {
    within_limit(args, LIMIT)
}

#[track_caller]
fn within_limit(args: &[&str], limit: u64) -> i32 {
    let mut all = args.to_vec();
    let bytes = limit.to_string();
    all.extend(["-q", "-m", &bytes]);
    let (code, told, peak) = npk_peak(&all);
    assert!(matches!(code, 0 | 4), "{args:?}: exit {code}: {told}");
    assert!(code == 0 || told.contains("bytes") || told.contains("columns"), "{args:?}: {told}");
    assert!(peak <= limit + BESIDE, "{args:?}: {} MiB, exit {code}: {told}", peak >> 20);
    code
}

/// Into every format that is written: arrays of short rows, which all take, and of rows that are
/// five times the limit each.
#[test]
#[ignore = "asks the real libraries"]
fn every_format_within_the_limit() {
    let s = Scratch::new();
    let short = zeros(&s, "short.npy", &[1 << 19, 40], false);
    let long = zeros(&s, "long.npy", &[2, 10 << 20], false);
    let fortran = zeros(&s, "fortran.npy", &[2, 10 << 20], true);
    for format in FORMATS {
        let Some(holds) = format.spec().writes.as_ref() else { continue };
        let out = at(&s, &format!("out.{}", format.spec().extensions[0]));
        let to = ["--to", format.spec().name, "--force"];
        let layout = if holds.arrays == Arrays::Table { "matrix" } else { "auto" };
        let run = |source: &str| {
            let code = within(&[&["convert", source, &out, "--layout", layout], &to[..]].concat());
            let _ = std::fs::remove_file(&out);
            let _ = std::fs::remove_dir_all(&out);
            code
        };
        // Text of this much takes too long where nothing is optimised.
        if holds.max_rank > 1 {
            assert_eq!(run(&short), 0, "{}", format.spec().name);
        }
        run(&long);
        run(&fortran);
    }
}

/// Chunks and row groups that are ten times the limit: read in parts, or refused; asked for, they
/// are refused with a hint.
#[test]
#[ignore = "asks the real libraries"]
fn chunks_within_the_limit() {
    let s = Scratch::new();
    let source = zeros(&s, "a.npy", &[20 << 10, 1 << 10], false);
    let asked: [(&str, &[&str]); 2] = [
        ("o.h5", &["-c", "gzip", "--chunk-shape", "20480,1024"]),
        ("o.parquet", &["--layout", "matrix", "--row-group-size", "20480"]),
    ];
    for (name, flags) in asked {
        let out = at(&s, name);
        let args = [&["convert", source.as_str(), &out], flags].concat();
        if within(&args) == 4 {
            let (_, told, _) = npk_peak(&[&args[..], &["-m", "8MiB"]].concat());
            assert!(told.contains("keeps together") && told.contains("--memory-limit"), "{told}");
        }
    }
    let out = at(&s, "o.h5");
    npk(&[&["convert", source.as_str(), &out, "-q", "--force", "-m", "1GiB"], asked[0].1].concat());
    for to in ["b.npk", "b.npz", "b.zarr"] {
        within(&["convert", &out, &at(&s, to)]);
    }
}

/// Many files at once share the limit.
#[test]
#[ignore = "asks the real libraries"]
fn batches_within_the_limit() {
    let s = Scratch::new();
    let files: Vec<String> =
        (0..12).map(|i| zeros(&s, &format!("b{i}.npy"), &[1 << 15, 64], false)).collect();
    for to in ["npk", "npz", "zarr"] {
        let out = format!("{}/", at(&s, to));
        let mut args = vec!["convert"];
        args.extend(files.iter().map(String::as_str));
        args.extend([out.as_str(), "--to", to, "-j", "8"]);
        assert_eq!(within(&args), 0, "{to}");
    }
}

/// Thousands of columns of few values: what is known of each of them is most of what is held.
#[test]
#[ignore = "asks the real libraries"]
fn wide_tables_within_the_limit() {
    let s = Scratch::new();
    let matrix = zeros(&s, "wide.npy", &[9000, 2000], false);
    let table = at(&s, "wide.parquet");
    let to = |from: &str, out: &str| {
        let out = at(&s, out);
        let args = ["convert", from, &out, "--layout", "columns", "-j", "8", "--force"];
        assert_eq!(within(&args), 0, "{from} to {out}");
    };
    let small = at(&s, "small.parquet");
    assert_eq!(within(&["convert", &matrix, &small, "--layout", "matrix", "-j", "8"]), 0);
    // One row group: the footer of many is more than the limit itself.
    let one = ["-q", "--layout", "matrix", "--row-group-size", "9000", "-m", "1GiB"];
    npk(&[&["convert", matrix.as_str(), &table], &one[..]].concat());
    for out in ["o.parquet", "o.feather", "o.npz"] {
        to(&table, out);
    }
    to(&at(&s, "o.feather"), "p.parquet");
    npk(&["diff", &table, &at(&s, "p.parquet")]);
    // Row groups do not get smaller where there are more columns.
    python(
        s.path(),
        "import pyarrow.parquet as pq\n\
         for name in ['o.parquet', 'p.parquet']:\n    \
             meta = pq.ParquetFile(name).metadata\n    \
             assert meta.num_row_groups == 1 and meta.serialized_size < 1 << 20, meta",
    );
}

/// Columns of a row group that is many times the limit, as one matrix: whole rows of it are made of
/// parts of all columns.
#[test]
#[ignore = "asks the real libraries"]
fn columns_of_large_row_groups_as_a_matrix_within_the_limit() {
    let s = Scratch::new();
    for (rows, columns) in [(160u64 << 10, 64u64), (2000, 5000)] {
        let matrix = zeros(&s, "a.npy", &[rows, columns], false);
        let table = at(&s, "a.parquet");
        let one = ["-q", "--layout", "matrix", "--row-group-size", "262144", "-m", "1GiB", "-f"];
        npk(&[&["convert", matrix.as_str(), &table], &one[..]].concat());
        for out in ["o.npk", "o.npz", "o.h5"] {
            let out = at(&s, out);
            let args = ["convert", &table, &out, "--layout", "matrix", "-j", "8", "--force"];
            assert_eq!(within(&args), 0, "{columns} columns to {out}");
        }
        npk(&["diff", &matrix, &at(&s, "o.npz")]);
    }
}

/// Twenty thousand columns of one row group, for sinks that take whole rows: no column is unpacked
/// for every few of them, nor held until all others have come.
#[test]
#[ignore = "asks the real libraries"]
fn very_wide_tables_within_the_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.parquet as pq\n\
         n = 1000\n\
         def column(i):\n    \
             if i % 100 == 1: return pa.array(np.arange(n) * i).cast('string')\n    \
             return pa.array(np.arange(n) / (i + 1), mask=np.arange(n) % 7 == 0 if i % 50 == 0 else None)\n\
         pq.write_table(pa.table({f'c{i}': column(i) for i in range(20_000)}), 'wide.parquet')",
    );
    let source = at(&s, "wide.parquet");
    for out in ["o.feather", "o.csv"] {
        let args = ["convert", &source, &at(&s, out), "--layout", "columns", "-j", "2"];
        assert_eq!(within_limit(&args, 64 << 20), 0, "{out}");
    }
    npk(&["diff", &source, &at(&s, "o.feather")]);
}

/// A header of tens of thousands of names, and one row: no facts are made of each that are none.
#[test]
#[ignore = "asks the real libraries"]
fn wide_text_within_the_limit() {
    let s = Scratch::new();
    let header: Vec<String> = (0..80_000).map(|i| format!("c{i}")).collect();
    let row = vec!["1.5"; header.len()].join(",");
    std::fs::write(s.join("t.csv"), format!("{}\n{row}\n", header.join(","))).unwrap();
    let (table, out) = (at(&s, "t.csv"), at(&s, "t.safetensors"));
    assert_eq!(within(&["convert", &table, &out, "--layout", "columns", "-j", "8"]), 0);
}

/// Columns whose chunks side by side are many times the limit: structs in lists, texts among them,
/// and columns of numbers. No chunk is decoded for every few rows, nor held by a few of them.
#[test]
#[ignore = "asks the real libraries"]
fn chunks_side_by_side_within_the_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq\n\
         n = 600_000\n\
         text = lambda m, width: pc.utf8_lpad(pa.array(np.arange(n) * m % 999_983).cast('string'), width, '0')\n\
         struct = pa.StructArray.from_arrays([text(7, 40), pa.array(np.arange(n)), text(5, 30)], ['a', 'b', 'c'])\n\
         lists = pa.ListArray.from_arrays(pa.array(np.arange(0, n + 1, 5), pa.int32()), struct)\n\
         pq.write_table(pa.table({'lists': lists}), 'nested.parquet')\n\
         flat = {f'c{i}': np.arange(300_000) * 0.5 + i for i in range(30)}\n\
         pq.write_table(pa.table(flat), 'flat.parquet')",
    );
    for name in ["nested", "flat"] {
        let source = at(&s, &format!("{name}.parquet"));
        for ending in ["zarr", "h5"] {
            let chunked = at(&s, &format!("{name}.{ending}"));
            npk(&["convert", &source, &chunked, "-q", "-m", "1GiB", "--layout", "columns"]);
            for out in ["o.parquet", "o.feather"] {
                let out = at(&s, out);
                assert_eq!(within(&["convert", &chunked, &out, "-j", "8", "--force"]), 0, "{name}");
            }
            npk(&["diff", &source, &at(&s, "o.parquet")]);
        }
    }
}

/// Lists of distinct texts are held as a whole: within the limit, or refused before they are.
#[test]
#[ignore = "asks the real libraries"]
fn distinct_texts_within_the_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.feather as pf, pyarrow.parquet as pq\n\
         n = 600_000\n\
         texts = pc.utf8_lpad(pa.array(np.arange(n)).cast('string'), 40, '0')\n\
         pq.write_table(pa.table({'a': texts, 'b': texts}), 'texts.parquet')\n\
         coded = pa.table({'a': pa.DictionaryArray.from_arrays(pa.array(np.arange(n), pa.int32()), texts)})\n\
         pq.write_table(coded, 'coded.parquet', dictionary_pagesize_limit=1 << 30)\n\
         pf.write_feather(coded, 'coded.feather')\n\
         np.save('square.npy', np.arange(n).astype('U20').reshape(-1, 2))",
    );
    for out in ["s.zarr", "s.npk", "s.h5"] {
        assert_eq!(within(&["convert", &at(&s, "square.npy"), &at(&s, out)]), 4, "{out}");
    }
    let (texts, out) = (at(&s, "texts.parquet"), at(&s, "o.npk"));
    assert_eq!(within(&["convert", &texts, &out]), 4);
    assert_eq!(within(&["convert", &texts, &out, "--strings", "offsets"]), 0);
    // Where there is just room for them, few pieces are decoded beside them.
    for out in ["d.npk", "d.csv"] {
        let args = ["convert", &at(&s, "coded.parquet"), &at(&s, out), "-j", "8"];
        assert_eq!(within_limit(&args, 112 << 20), 0, "{out}");
    }
    npk(&["diff", &at(&s, "coded.parquet"), &at(&s, "d.npk")]);
    for source in ["coded.parquet", "coded.feather"] {
        for out in ["c.npk", "c.csv", "c.parquet", "c.feather"] {
            assert_eq!(within(&["convert", &at(&s, source), &at(&s, out)]), 4, "{source}");
        }
    }
}

/// Long texts among what describes the arrays: read with little beside them, or refused with what
/// they need.
#[test]
#[ignore = "asks the real libraries"]
fn long_headers_within_the_limit() {
    let s = Scratch::new();
    let long = "x".repeat(80 << 20);
    let tensor = r#""x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let write = |name: &str, text: &str| {
        let path = s.join(name);
        let header = format!(r#"{{"__metadata__":{{"a":"{text}"}},{tensor}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (header, short) = (write("a.safetensors", &long), write("b.safetensors", &long[..8 << 20]));
    let index = at(&s, "b.safetensors.index.json");
    let map = r#""weight_map":{"x":"b.safetensors"}"#;
    std::fs::write(&index, format!(r#"{{"metadata":{{"a":"{long}"}},{map}}}"#)).unwrap();
    let store = at(&s, "a.npk");
    npk(&["convert", &short, &store, "-q"]);
    let side = format!(r#"{{"npk":1,"attributes":{{"a":"{long}"}}}}"#);
    std::fs::write(s.join("a.npk/npk.json"), side).unwrap();
    let write = "import pyarrow as pa, pyarrow.feather as f
t = pa.table({'x': [1.0]}).replace_schema_metadata({'k': 'x' * (80 << 20)})
f.write_feather(t, 'a.feather', compression='uncompressed')
with pa.ipc.new_stream('a.arrows', t.schema) as w: w.write_table(t)";
    crate::support::python(s.path(), write);
    let (feather, stream) = (at(&s, "a.feather"), at(&s, "a.arrows"));
    for source in [&header, &index, &store, &feather, &stream] {
        assert_eq!(within(&["convert", source, &at(&s, "o.npz"), "--force"]), 4, "{source}");
    }
    for out in ["o.npk", "o.npz", "o.safetensors"] {
        assert_eq!(within(&["convert", &short, &at(&s, out), "--force"]), 0, "{out}");
    }
}

/// A pickle is held as a whole, with what is made of it: long bytes, lists that repeat themselves.
#[test]
#[ignore = "asks the real libraries"]
fn pickles_within_the_limit() {
    let s = Scratch::new();
    // Protocol 3: bytes of 96 MiB, popped, then an empty list.
    let mut pickle = vec![0x80, 3, b'B'];
    pickle.extend((96u32 << 20).to_le_bytes());
    pickle.resize(pickle.len() + (96 << 20), 0);
    pickle.extend(*b"0].");
    std::fs::write(s.join("long.pkl"), pickle).unwrap();
    let nested = fixture("fuzz/read_pkl/nested_lists.pkl").display().to_string();
    for source in [at(&s, "long.pkl"), nested] {
        assert_eq!(within(&["convert", &source, &at(&s, "o.npk")]), 4, "{source}");
    }
}
