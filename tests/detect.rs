//! What an input is: formats that are known and not read, compressed files, tables with a log, text
//! without a name.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use npk::detect::signatures::{At, SIGNATURES, Signature};

use crate::convert::npy;
use crate::sources::run;
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, python};

/// Runs with these bytes on stdin.
pub fn piped(folder: &Path, args: &[&str], input: &[u8]) -> (i32, String) {
    let mut command = npk_command();
    command
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&bytes);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The smallest file that has a row's bytes, with zeros between them.
fn smallest(row: &Signature) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    for (place, part) in row.bytes {
        let start = match place {
            At::Start(offset) => *offset,
            At::End(before) => 512 - *before as usize,
        };
        bytes[start..start + part.len()].copy_from_slice(part);
    }
    bytes
}

#[test]
fn every_signature_is_refused_by_its_name() {
    let s = Scratch::new();
    for (i, row) in SIGNATURES.iter().enumerate() {
        // Neither the ending of a format nor a format that is given hides what it is.
        for (name, from) in [("x.bin", None), ("x.npy", None), ("x.csv", None), ("x", Some("npz"))]
        {
            std::fs::write(s.join(name), smallest(row)).unwrap();
            let path = at(&s, name);
            let mut args = vec!["inspect", &path];
            args.extend(from.iter().flat_map(|from| ["--from", from]));
            let said = npk_fails(4, &args);
            assert!(
                said.contains(&format!("this is {}, which npk does not read", row.what)),
                "row {i}, {name}: {said}"
            );
            assert!(said.contains("hint: "), "row {i}: {said}");
        }
    }
}

/// Letters of a signature in a text are letters; but a FITS file begins with a page of text.
#[test]
fn a_table_of_text_is_no_other_format() {
    let s = Scratch::new();
    for text in [
        "GGUF,b\n1,2\n",
        "GIF8,GIF9\n1,2\n",
        "a,b,c,d\nDUCK,x,y,z\n",
        "abcdTFL3,b\n1,2\n",
        "ORC,b\n1,2\nx,ORC\n",
        "%PDF-,x\n1,2\n",
    ] {
        std::fs::write(s.join("t.csv"), text).unwrap();
        assert_eq!(
            npk(&["list", &at(&s, "t.csv")]).lines().count(),
            text.lines().next().unwrap().split(',').count(),
            "{text}"
        );
    }
    let fits = format!(
        "{:<80}{:<80}{:<2720}",
        "SIMPLE  =                    T / standard", "BITPIX  =  8", "END"
    );
    std::fs::write(s.join("t.txt"), fits).unwrap();
    assert!(npk_fails(4, &["list", &at(&s, "t.txt")]).contains("a FITS file"));
}

/// Files that their own libraries have written.
const REAL: &str = r#"
import bz2, lzma, pickle, zipfile, tarfile, sqlite3, io, zlib, wave, struct
import numpy as np, pyarrow as pa, pyarrow.orc as orc, duckdb, blosc2
a = np.arange(6.0)
raw = io.BytesIO(); np.save(raw, a); raw = raw.getvalue()
put = lambda name, data: open(name, 'wb').write(data)
put('a.bz2', bz2.compress(raw)); put('empty.bz2', bz2.compress(b'')); put('a.xz', lzma.compress(raw))
put('joblib.bin', zlib.compress(pickle.dumps(a)))
orc.write_table(pa.table({'a': [1, 2]}), 'a.orc')
db = sqlite3.connect('a.db'); db.execute('create table t(a)'); db.commit(); db.close()
duckdb.connect('a.duckdb').execute('create table t as select 1 a').close()
blosc2.asarray(a, urlpath='a.b2nd', mode='w')
with tarfile.open('a.tar', 'w') as t: t.addfile(tarfile.TarInfo('a.npy'), io.BytesIO())
with wave.open('a.wav', 'wb') as w: w.setparams((1, 2, 8000, 0, 'NONE', '')); w.writeframes(b'\0\0')
def archive(name, members):
    with zipfile.ZipFile(name, 'w') as z:
        for m in members: z.writestr(m, 'x')
archive('a.xlsx', ['[Content_Types].xml', '_rels/.rels', 'xl/workbook.xml'])
archive('workbook.pt', ['[Content_Types].xml', '_rels/.rels', 'xl/workbook.xml'])
archive('workbook.npz', ['[Content_Types].xml', 'xl/workbook.xml'])
archive('a.docx', ['[Content_Types].xml', 'word/document.xml'])
archive('a.ods', ['mimetype', 'content.xml', 'META-INF/manifest.xml'])
archive('old.pt2', ['serialized_exported_program.json', 'serialized_state_dict.pt', 'version'])
archive('new.pt2', ['m/archive_format', 'm/byteorder', 'm/models/model.json', 'm/data/weights/weight_0'])
archive('a.keras', ['metadata.json', 'config.json', 'model.weights.h5'])
archive('plain.zip', ['a.txt', 'b.csv', 'c', 'd'])
archive('none.zip', [])
"#;

#[test]
#[ignore = "asks the real libraries"]
fn files_of_other_libraries_are_named() {
    let s = Scratch::new();
    python(s.path(), REAL);
    let cases = [
        ("a.bz2", "bzip2"),
        ("empty.bz2", "bzip2"),
        ("a.xz", "xz"),
        ("joblib.bin", "joblib"),
        ("a.orc", "ORC"),
        ("a.db", "SQLite"),
        ("a.duckdb", "DuckDB"),
        ("a.b2nd", "Blosc2"),
        ("a.tar", "tar archive"),
        ("a.wav", "WAV"),
        ("a.xlsx", "Excel workbook (.xlsx)"),
        ("workbook.pt", "Excel workbook (.xlsx)"),
        ("workbook.npz", "Excel workbook (.xlsx)"),
        ("a.docx", "Word"),
        ("a.ods", "OpenDocument"),
        ("old.pt2", "exported program"),
        ("new.pt2", "exported program"),
        ("a.keras", "Keras"),
        ("plain.zip", "a zip archive with 4 files (a.txt, b.csv, c, …), but no arrays"),
        ("none.zip", "an empty zip archive"),
    ];
    for (name, words) in cases {
        let said = npk_fails(4, &["convert", &at(&s, name), &at(&s, "o.npk")]);
        assert!(said.contains(words) && said.contains("hint: "), "{name}: {said}");
        // The same through a pipe, but for what only the end of a file shows.
        if !matches!(name, "a.orc" | "none.zip") {
            let (code, said) =
                piped(s.path(), &["inspect", "-"], &std::fs::read(s.join(name)).unwrap());
            assert!(code == 4 && said.contains(words), "{name} on stdin: {code} {said}");
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_no_pickle() {
    let s = Scratch::new();
    // The magic number of the legacy form, and nothing after it.
    std::fs::write(s.join("cut.pt"), b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")
        .unwrap();
    let said = npk_fails(7, &["inspect", &at(&s, "cut.pt")]);
    assert!(!said.contains("Python pickle"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn folders_of_other_programs_are_named() {
    let s = Scratch::new();
    let make = |files: &[&str]| {
        for file in files {
            std::fs::create_dir_all(s.join(file).parent().unwrap()).unwrap();
            std::fs::write(s.join(file), "x").unwrap();
        }
    };
    make(&["dcp/__0_0.distcp", "saved/saved_model.pb", "saved/variables/variables.index"]);
    make(&["tf/checkpoint", "tf/m.ckpt.index", "tf/m.ckpt.data-00000-of-00001"]);
    let cases = [
        ("dcp/__0_0.distcp", "one file of a distributed checkpoint"),
        ("saved", "TensorFlow SavedModel"),
        ("tf", "TensorFlow checkpoints"),
        ("tf/m.ckpt.index", "TensorFlow checkpoint"),
        ("tf/m.ckpt.data-00000-of-00001", "TensorFlow checkpoint"),
    ];
    for (name, words) in cases {
        for args in [&["inspect"][..], &["convert", "-R", "-o", &at(&s, "o.npk")]] {
            let said = npk_fails(4, &[args, &[at(&s, name).as_str()]].concat());
            assert!(said.contains(words) && said.contains("hint: "), "{name}: {said}");
        }
    }
    let said = npk_fails(3, &["inspect", &at(&s, "dcp")]);
    assert!(said.contains("without its .metadata"), "{said}");
    // A checkpoint's file is a zip as torch writes it, or several of them.
    python(
        s.path(),
        "import zipfile\nwith zipfile.ZipFile('x.distcp', 'w') as z: z.writestr('a/data.pkl', b'\\x80\\x02N.')",
    );
    npk_fails(4, &["inspect", &at(&s, "x.distcp")]);
}

#[test]
fn text_without_a_name_is_told_how_it_is_read() {
    let s = Scratch::new();
    let cases: &[(&str, &str, i32, &str)] = &[
        ("two.dat", "1.0 2 3\n4 5e3 -.6\n", 3, "read it with --from txt"),
        ("column", "1\n2\n3\n", 3, "read it with --from txt"),
        ("nan.asc", "# x y\nnan 1\n-inf 2\n", 3, "read it with --from txt"),
        ("header.foo", "x y\n1 2\n3 4\n", 3, "read it with --from txt --header yes"),
        ("matlab.dat", "% c\n 1 2\n 3 4\n", 3, "read it with --from txt --comment '%'"),
        ("comma.dat", "1,5 2,5\n3,5 4\n", 3, "read it with --from txt --decimal ,"),
        ("semicolon.dat", "a;b\n1;x\n", 3, "read it with --from csv -d ';'"),
        ("german.dat", "a;b\n1,5;2\n3;x\n", 3, "read it with --from csv -d ';' --decimal ,"),
        ("tabs.dat", "a\tb\nfoo\tbar baz\n", 3, "read it with --from csv -d tab"),
        ("pipes.dat", "a|b\nfoo|bar\n", 3, "read it with --from csv -d '|'"),
        ("cells.dat", "a,b\n\"x, y\",z\n", 3, "read it with --from csv"),
        ("words.dat", "a b\nfoo bar\nbaz qux\n", 3, "read it with --from csv -d space"),
        ("prose.md", "# Title\n\nWell, this is prose.\nAnd more\n", 3, "--from csv or --from txt"),
        ("lines.json", "{\"a\": 1}\n{\"a\": 2}\n", 4, "pandas.read_json"),
        ("list.json", "[1, 2]", 4, "pandas.read_json"),
        ("é.dat", "1 2\r\n3 4\r\n", 3, "read it with --from txt"),
    ];
    for (name, text, code, words) in cases {
        std::fs::write(s.join(name), text).unwrap();
        let path = at(&s, name);
        let said = npk_fails(*code, &["convert", &path, &at(&s, "o.npk")]);
        let hint = said.lines().find_map(|l| l.strip_prefix("hint: ")).unwrap();
        assert!(
            hint.contains(words) && (!words.starts_with("read") || hint == *words),
            "{name}: {said}"
        );
        let (code_piped, piped_said) = piped(s.path(), &["inspect", "-"], text.as_bytes());
        assert!(code_piped == *code && piped_said.contains(words), "{name}: {piped_said}");
        // What the hint says works.
        if let Some(flags) = words.strip_prefix("read it with ") {
            let flags: Vec<&str> = flags.split(' ').map(|f| f.trim_matches('\'')).collect();
            npk(&[&["convert", &path, &at(&s, "o.npk"), "-f"], &flags[..]].concat());
        }
    }
    // A character that the end of the head cuts through is text all the same; other bytes are not.
    std::fs::write(s.join("long"), format!("a{}", "é".repeat(5000))).unwrap();
    assert!(npk_fails(3, &["inspect", &at(&s, "long")]).contains("this is text"));
    for bytes in [&b"1 2\n\x013 4\n"[..], b"1 2\n\xff 4\n", b"1 2\n\xc3"] {
        std::fs::write(s.join("binary"), bytes).unwrap();
        assert!(npk_fails(3, &["inspect", &at(&s, "binary")]).contains("not recognised"));
    }
}

/// Tables of all kinds: a folder, the file of its log, the folder of its data.
const TABLES: [(&str, &str, &str, &str); 3] = [
    ("delta", "_delta_log/00000000000000000000.json", "y=1", "a Delta table"),
    ("iceberg", "metadata/00001-5b0f.metadata.json", "data/y=1", "an Iceberg table"),
    ("hudi", ".hoodie/hoodie.properties", "2024/01/02", "a Hudi table"),
];

fn tables(s: &Scratch) {
    python(
        s.path(),
        "import pyarrow as pa, pyarrow.parquet as pq\npq.write_table(pa.table({'v': [1, 2]}), 'plain.parquet')",
    );
    for (table, log, data, _) in TABLES {
        for folder in
            [s.join(table).join(log).parent().unwrap().to_path_buf(), s.join(table).join(data)]
        {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(s.join(table).join(log), "{}").unwrap();
        for part in ["p0.parquet", "p1.parquet"] {
            std::fs::copy(s.join("plain.parquet"), s.join(table).join(data).join(part)).unwrap();
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn tables_with_a_log_are_refused_unless_it_is_ignored() {
    let s = Scratch::new();
    tables(&s);
    for (table, log, data, words) in TABLES {
        let log = log.split('/').next().unwrap();
        let refused = |args: &[&str]| {
            let (code, _, said) = run(s.path(), args);
            assert_eq!(code, 4, "{args:?}: {said}");
            assert!(
                said.contains(words) && said.contains(log) && said.contains("--ignore-table-log"),
                "{args:?}: {said}"
            );
            assert!(!s.join("o.npk").exists());
        };
        let (folder, glob, deep) = (
            format!("{table}/{data}"),
            format!("{table}/{data}/*.parquet"),
            format!("{table}/**/*.parquet"),
        );
        refused(&["inspect", table]);
        refused(&["convert", table, "o.npk"]);
        refused(&["convert", "-R", table, "o.npk"]);
        refused(&["convert", "--concat", table, "o.npk"]);
        refused(&["convert", "--concat", &folder, "o.npk"]);
        for pattern in [&glob, &deep] {
            refused(&["convert", "--concat", pattern, "o.npk"]);
            refused(&["convert", pattern, "o/", "--to", "npk"]);
        }
        // A shell takes patterns apart before npk sees them.
        let files = [format!("{folder}/p0.parquet"), format!("{folder}/p1.parquet")];
        refused(&["convert", "--concat", &files[0], &files[1], "o.npk"]);
        for source in [table, &folder, &glob, &deep] {
            let (code, _, said) = run(
                s.path(),
                &["convert", "--concat", "--ignore-table-log", source, "o.npk", "-f"],
            );
            assert_eq!(code, 0, "{source}: {said}");
            assert!(npk(&["list", "-l", &at(&s, "o.npk")]).contains("int64\t4"), "{source}");
        }
        std::fs::remove_dir_all(s.join("o.npk")).unwrap();
        // One file that is named is read, with a note; so is it from within its folder.
        let (code, _, said) = run(s.path(), &["convert", &files[0], "one.npk", "-f"]);
        assert!(code == 0 && said.contains("note: ") && said.contains(log), "{said}");
        let (code, _, said) = run(&s.join(&folder), &["convert", "p0.parquet", "one.npk", "-f"]);
        assert!(code == 0 && said.contains("note: ") && said.contains(log), "{said}");
        let (code, _, said) =
            run(s.path(), &["convert", &files[0], "one.npk", "-f", "--ignore-table-log"]);
        assert!(code == 0 && !said.contains("note: "), "{said}");
    }
    let (code, _, said) = run(s.path(), &["convert", "plain.parquet", "one.npk", "-f"]);
    assert!(code == 0 && !said.contains("note: "), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn the_files_of_a_log_are_no_rows() {
    let s = Scratch::new();
    tables(&s);
    for aside in ["_delta_log/00010.checkpoint.parquet", "_change_data/c.parquet"] {
        std::fs::create_dir_all(s.join("delta").join(aside).parent().unwrap()).unwrap();
        std::fs::copy(s.join("plain.parquet"), s.join("delta").join(aside)).unwrap();
    }
    for source in ["delta", "delta/**/*.parquet"] {
        let (code, _, said) =
            run(s.path(), &["convert", "--concat", "--ignore-table-log", source, "o.npk", "-f"]);
        assert_eq!(code, 0, "{said}");
        assert!(npk(&["list", "-l", &at(&s, "o.npk")]).contains("int64\t4"), "{source}");
    }
}

/// In a batch a table is one failure among others; folders that are merely called like a log are
/// none.
#[test]
#[ignore = "asks the real libraries"]
fn a_table_in_a_batch_costs_itself_only() {
    let s = Scratch::new();
    tables(&s);
    std::fs::create_dir_all(s.join("metadata")).unwrap();
    std::fs::write(s.join("metadata/x.metadata.json"), "{}").unwrap();
    std::fs::copy(s.join("plain.parquet"), s.join("delta.parquet")).unwrap();
    let (code, _, said) = run(s.path(), &["convert", "-R", ".", "-o", "out/", "--to", "npk"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("2 converted, 0 skipped, 3 failed of 5"), "{said}");
    assert!(s.join("out/plain.npk").exists());
}

#[test]
fn numpy_and_auto_are_formats() {
    let s = Scratch::new();
    npy(&s.join("a.npy"), "<i2", &[2], &[1, 0, 2, 0]);
    let a = at(&s, "a.npy");
    npk(&["convert", &a, &at(&s, "b.npy"), "--to", "numpy", "--from", "numpy"]);
    assert!(std::fs::read(s.join("b.npy")).unwrap().starts_with(b"\x93NUMPY"));
    npk(&["convert", &a, &at(&s, "b.bin"), "--to", "numpy"]);
    assert!(std::fs::read(s.join("b.bin")).unwrap().starts_with(b"PK"));
    assert_eq!(npk(&["list", "--from", "numpy", &at(&s, "b.bin")]), "a\n");
    assert_eq!(npk(&["list", "--from", "NumPy", &a]), "a\n");
    npk(&["convert", &a, &format!("{}/", at(&s, "dir")), "--to", "numpy"]);
    assert!(s.join("dir/a.npz").exists());
    npk(&["convert", "--from", "auto", "--to", "auto", &a, &at(&s, "c.npk")]);
    let said = npk_fails(2, &["convert", "--to", "auto", &a, &at(&s, "c")]);
    assert!(said.contains("does not show its format"), "{said}");
    npk_fails(3, &["list", "--from", "numpy", &at(&s, "none.npy")]);
}

#[test]
fn the_name_of_a_table_goes_before_those_of_its_columns() {
    let s = Scratch::new();
    std::fs::write(s.join("t.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let (t, o) = (at(&s, "t.csv"), at(&s, "o.npk"));
    let names = |args: &[&str]| {
        let output =
            npk_any(&[&["convert", "-o", &o, "-f", "--name", "my_table", &t], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        (npk(&["list", &o]), said)
    };
    let (listed, said) = names(&[]);
    assert_eq!(listed, "my_table/a\nmy_table/b\n");
    assert!(said.contains("note: ") && said.contains("my_table/a, my_table/b"), "{said}");
    // The headers stay: the table comes back as it was.
    assert_eq!(npk(&["convert", &o, "-", "--to", "csv", "-q"]), "a,b\n1,x\n2,y\n");
    assert_eq!(names(&["--rename", "a=z"]).0, "my_table/z\nmy_table/b\n");
    assert_eq!(names(&["--concat", &t]).0, "my_table/a\nmy_table/b\n");
    // One column, or a matrix, takes the name itself.
    assert_eq!(names(&["-a", "a", "--layout", "columns"]).0, "my_table\n");
    assert_eq!(names(&["-a", "a"]).0, "my_table\n");
    npk_fails(2, &["convert", &t, &at(&s, "o.parquet"), "--name", "my_table"]);
}
