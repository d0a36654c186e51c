//! Damaged files through the built binary: what is wrong is told with the file's name, and takes
//! neither time nor memory.

use std::path::{Path, PathBuf};

use npk::formats::FORMATS;

use crate::convert::npy;
use crate::support::library::failing_mutants;
use crate::support::{Scratch, at, fixture, mutants, npk, npk_any, npk_fails, python};

/// A copy of some good fixtures of a format, and every file of each.
fn originals(
    s: &Scratch,
    format: &dyn npk::format::Format,
    most: usize,
) -> Vec<(PathBuf, Vec<PathBuf>)> {
    fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
        if from.is_dir() {
            std::fs::create_dir(to).unwrap();
            let mut names: Vec<_> =
                std::fs::read_dir(from).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names.iter().for_each(|name| copy(&from.join(name), &to.join(name), files));
        } else {
            std::fs::copy(from, to).unwrap();
            files.push(to.to_path_buf());
        }
    }
    let mut found = Vec::new();
    crate::corpus::cases(
        &crate::corpus::root().join("good").join(format.spec().name),
        format.spec().extensions,
        &mut found,
    );
    found.sort();
    assert!(!found.is_empty(), "no good fixture for {}", format.spec().name);
    let step = found.len().div_ceil(most);
    let copied = found.into_iter().step_by(step).enumerate().map(|(i, path)| {
        let folder = s.join(&format!("{}{i}", format.spec().name));
        std::fs::create_dir(&folder).unwrap();
        let (to, mut files) = (folder.join(path.file_name().unwrap()), Vec::new());
        copy(&path, &to, &mut files);
        files.retain(|file| file.metadata().unwrap().len() > 0);
        (to, files)
    });
    copied.collect()
}

/// Files with some bytes turned, set or cut off: errors or other values, in every format. No bug is
/// met. `NPK_TEST_MUTANTS=3000` makes more of them, `NPK_TEST_FORMATS=dcp,gguf` only of these.
#[test]
fn mutants_of_every_format_end_in_errors() {
    const MUTANTS: usize = 300;
    let asked = |key: &str| std::env::var(key).ok();
    let mutants = asked("NPK_TEST_MUTANTS").map_or(MUTANTS, |count| count.parse().unwrap());
    let only = asked("NPK_TEST_FORMATS");
    let only: Option<Vec<&str>> = only.as_deref().map(|names| names.split(',').collect());
    for format in FORMATS {
        if only.as_ref().is_some_and(|only| !only.contains(&format.spec().name)) {
            continue;
        }
        let s = Scratch::new();
        let cases = originals(&s, *format, 8);
        let each = mutants.div_ceil(cases.iter().map(|(_, files)| files.len()).sum());
        let all = cases.iter().flat_map(|(root, files)| files.iter().map(move |file| (root, file)));
        let failed: usize =
            all.map(|(root, file)| failing_mutants(format.spec().name, root, file, each)).sum();
        assert!(failed > 20, "{}: only {failed} failed", format.spec().name);
    }
}

/// The same through the commands: they end by themselves, with a code for damage or without any.
#[test]
fn mutants_of_every_format_end_in_codes() {
    for format in FORMATS {
        let s = Scratch::new();
        let mut number = 0;
        for (root, files) in originals(&s, *format, 3) {
            let (input, out) = (root.display().to_string(), at(&s, "o.npk"));
            for file in files.iter().take(2) {
                let original = std::fs::read(file).unwrap();
                mutants(&original, 6, |bytes| {
                    std::fs::write(file, bytes).unwrap();
                    number += 1;
                    let commands: [&[&str]; 4] = [
                        &["convert", "-q", "-f", "--skip-unsupported", &input, &out],
                        &["verify", &input],
                        &["inspect", "--stats", "--checksum", &input],
                        &["list", "-l", "--json", &input],
                    ];
                    let args = commands[number % 4];
                    let output = npk_any(args);
                    let (said, code) = (
                        String::from_utf8_lossy(&output.stderr).into_owned(),
                        output.status.code(),
                    );
                    // Past the end of the disk is 1.
                    assert!(
                        matches!(code, Some(0 | 1 | 3 | 4 | 7)),
                        "{args:?} of mutant {number}: {:?}: {said}",
                        output.status
                    );
                    assert!(
                        code == Some(0) || said.contains("error: "),
                        "{args:?} of mutant {number}: {code:?}: {said}"
                    );
                    assert!(!said.contains("panicked"), "{args:?} of mutant {number}: {said}");
                });
                std::fs::write(file, original).unwrap();
            }
        }
        assert!(number >= 12, "{}: {number}", format.spec().name);
    }
}

/// Rows without elements cost nothing, however many a header claims.
#[test]
fn rows_without_elements() {
    let s = Scratch::new();
    npy(&s.join("a.npy"), "<f4", &[1 << 56, 0], &[]);
    let source = at(&s, "a.npy");
    for name in ["o.npk", "o.npz", "d.npz", "o.zarr", "o.h5", "o.pt", "o.safetensors", "o.npkg"] {
        let (out, again) = (at(&s, name), at(&s, &format!("{name}.npk")));
        let method: &[&str] = if name == "o.npz" { &["-c", "none"] } else { &[] };
        npk(&[&["convert", &source, &out][..], method].concat());
        npk(&["convert", &out, &again]);
        assert_eq!(
            npk(&["list", "-l", &again]).split('\t').nth(2),
            Some("72057594037927936x0"),
            "{name}"
        );
        npk(&["diff", &out, &source]);
        npk(&["inspect", "--stats", "--checksum", &out]);
        npk(&["convert", "-f", &out, &again, "--rows", "1::2"]);
    }
}

/// As lists of a table they are written one by one: a few are, many are refused at once.
#[test]
fn rows_without_elements_in_tables() {
    let s = Scratch::new();
    for name in ["o.parquet", "o.feather"] {
        let (source, out) = (at(&s, "a.npy"), at(&s, name));
        for shape in [&[5, 0][..], &[5, 3, 0], &[5, 0, 3], &[5, 0, 0]] {
            npy(&s.join("a.npy"), "<f4", shape, &[]);
            npk(&["convert", "-f", "--layout", "columns", &source, &out]);
            npk(&["convert", "-f", &out, &at(&s, "a.npk")]);
            npk(&["inspect", "--stats", "--checksum", &out]);
        }
        for shape in [&[1 << 40, 0][..], &[1 << 40, 3, 0], &[1 << 40, 0, 3]] {
            npy(&s.join("a.npy"), "<f4", shape, &[]);
            let said = npk_fails(4, &["convert", "-f", "--layout", "columns", &source, &out]);
            assert!(said.contains("1099511627776 rows without elements"), "{said}");
        }
    }
    let options = npk::OpenOptions::new();
    for options in [options.clone(), options.copies()] {
        let array = npk::open(s.join("a.npy"), &options).unwrap().array("a").unwrap();
        assert_eq!(array.shape(), [1 << 40, 0, 3]);
        assert_eq!(array.to_arrow().unwrap_err().kind(), npk::ErrorKind::Refused);
    }
}

/// An array whose mask or offsets are damaged is damaged.
#[test]
fn companions_are_part_of_an_array() {
    let s = Scratch::new();
    std::fs::write(s.join("a.csv"), "x,y\n1,a\n,b\n3,\n").unwrap();
    for (lost, bad) in [("data_x.valid.npkd", "x"), ("data_y.offsets.npkd", "y")] {
        let (store, out) = (at(&s, "a.npk"), at(&s, "o.npk"));
        npk(&["convert", "-f", &at(&s, "a.csv"), &store, "--strings", "offsets"]);
        std::fs::remove_file(s.join("a.npk").join(lost)).unwrap();
        for args in
            [&["convert", &store, &out][..], &["list", &store], &["inspect", "--stats", &store]]
        {
            assert_eq!(npk_any(args).status.code(), Some(7), "{lost}: {args:?}");
        }
        let said = npk_fails(7, &["convert", &store, &out]);
        assert!(said.starts_with(&format!("error: {store}: {bad}: ")), "{said}");
        assert!(!s.join("o.npk").exists());
    }
}

/// The metadata of a package is damaged: the package is named.
#[test]
fn packages_are_named() {
    let s = Scratch::new();
    let header: Vec<String> = (0..40).map(|i| format!("column{i}")).collect();
    std::fs::write(s.join("a.csv"), format!("{}\n{}\n", header.join(","), vec!["a"; 40].join(",")))
        .unwrap();
    let package = at(&s, "a.npkg");
    npk(&["convert", &at(&s, "a.csv"), &package]);
    let mut bytes = std::fs::read(&package).unwrap();
    let end = bytes.len() - 4;
    bytes[end - 40..end].fill(0xff); // the metadata comes last
    std::fs::write(&package, bytes).unwrap();
    let said = npk_fails(7, &["convert", &package, &at(&s, "o.npk")]);
    assert!(
        said.starts_with(&format!("error: {package}: metadata.npkm cannot be unpacked")),
        "{said}"
    );
}

/// A shard whose name no file can have is missing.
#[test]
fn shards_with_impossible_names() {
    let s = Scratch::new();
    let index = at(&s, "model.safetensors.index.json");
    std::fs::write(
        &index,
        format!(r#"{{"weight_map": {{"a": "{}.safetensors"}}}}"#, "x".repeat(5000)),
    )
    .unwrap();
    assert!(npk_fails(3, &["list", &index]).contains("too long"));
}

/// Small tensors are compared with their checksums; what only looks at the file shows it all the
/// same.
#[test]
fn small_tensors_are_checked() {
    let s = Scratch::new();
    let source = fixture("bad/pt/crc_mismatch.pt").display().to_string();
    let said = npk_fails(7, &["convert", &source, &at(&s, "o.npk")]);
    assert!(
        said.starts_with(&format!("error: {source}: the record ")) && said.contains("checksum"),
        "{said}"
    );
    assert!(s.names().is_empty());
    npk(&["inspect", &source]);
    let names = npk(&["list", &source]);
    let good = names
        .lines()
        .filter(|name| {
            npk_any(&["convert", "-f", &source, &at(&s, "o.npk"), "-a", name]).status.success()
        })
        .count();
    assert!(good > 0 && good < names.lines().count(), "{good} of {names}");
}

/// The checksums of Parquet's pages, where a writer gave some, are compared.
#[test]
#[ignore = "asks the real libraries"]
fn parquet_pages_are_checked() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({'x': [1.5, 2.5, 3.5]}), 'a.parquet', compression='none', use_dictionary=False, write_page_checksum=True, write_statistics=False)
data = bytearray(open('a.parquet', 'rb').read())
data[data.index(b'\\x00\\x00\\x00\\x00\\x00\\x00\\x04\\x40')] = 1
open('b.parquet', 'wb').write(data)";
    python(s.path(), code);
    assert_eq!(npk(&["convert", &at(&s, "a.parquet"), "-", "-t", "csv"]), "x\n1.5\n2.5\n3.5\n");
    let said = npk_fails(7, &["convert", &at(&s, "b.parquet"), &at(&s, "o.npk")]);
    assert!(said.contains("b.parquet: x: ") && said.contains("CRC"), "{said}");
    assert_eq!(s.names(), ["a.parquet", "b.parquet"]);
}

/// A Parquet file of one column `x` of int64 in one page, which says of itself what it likes.
fn parquet(page: &[u8], codec: u64, announced: u64, rows: u64, children: u64) -> Vec<u8> {
    fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n > 127 {
            out.push(n as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }
    let int = |n: u64| varint(n << 1);
    // Thrift's compact protocol; kinds 5 and 6: integers, 8: binary, 9: list, 12: struct.
    fn structure(fields: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
        let (mut out, mut last) = (Vec::new(), 0);
        for (id, kind, value) in fields {
            out.push((id - last) << 4 | kind);
            out.extend(value);
            last = *id;
        }
        out.push(0);
        out
    }
    let list = |kind: u8, items: &[Vec<u8>]| {
        [vec![(items.len() as u8) << 4 | kind], items.concat()].concat()
    };
    let text = |t: &str| [varint(t.len() as u64), t.as_bytes().to_vec()].concat();
    let values = structure(&[(1, 5, int(rows)), (2, 5, int(0)), (3, 5, int(3)), (4, 5, int(3))]);
    let head = structure(&[
        (1, 5, int(0)),
        (2, 5, int(announced)),
        (3, 5, int(page.len() as u64)),
        (5, 12, values),
    ]);
    let len = (head.len() + page.len()) as u64;
    let column = structure(&[
        (1, 5, int(2)),
        (2, 9, list(5, &[int(0)])),
        (3, 9, list(8, &[text("x")])),
        (4, 5, int(codec)),
        (5, 6, int(rows)),
        (6, 6, int(len)),
        (7, 6, int(len)),
        (9, 6, int(4)),
    ]);
    let group = structure(&[
        (1, 9, list(12, &[structure(&[(2, 6, int(4)), (3, 12, column)])])),
        (2, 6, int(len)),
        (3, 6, int(rows)),
    ]);
    let root = structure(&[(4, 8, text("root")), (5, 5, int(children))]);
    let leaf = structure(&[(1, 5, int(2)), (3, 5, int(0)), (4, 8, text("x"))]);
    let footer = structure(&[
        (1, 5, int(1)),
        (2, 9, list(12, &[root, leaf])),
        (3, 6, int(rows)),
        (4, 9, list(12, &[group])),
    ]);
    let len = (footer.len() as u32).to_le_bytes();
    [b"PAR1".to_vec(), head, page.to_vec(), footer, len.to_vec(), b"PAR1".to_vec()].concat()
}

/// Pages and schemas that announce more than there is are refused before room is made for them.
#[test]
#[ignore = "asks the real libraries"]
fn parquet_sizes_are_checked() {
    let s = Scratch::new();
    let (path, out) = (at(&s, "p.parquet"), at(&s, "o.npk"));
    let page: Vec<u8> = (1i64..4).flat_map(i64::to_le_bytes).collect();
    std::fs::write(&path, parquet(&page, 0, 24, 3, 1)).unwrap();
    assert_eq!(npk(&["convert", &path, "-", "-t", "csv"]), "x\n1\n2\n3\n");
    let fails = |bytes: &[u8], code: i32, why: &str| {
        std::fs::write(&path, bytes).unwrap();
        let said = npk_fails(code, &["convert", &path, &out]);
        assert!(said.starts_with(&format!("error: {path}: ")) && said.contains(why), "{said}");
    };
    for codec in [1, 2, 5, 7] {
        fails(
            &parquet(&page, codec, (1 << 31) - 1, 3, 1),
            7,
            "a page of 24 bytes cannot unpack to the 2147483647",
        );
    }
    fails(&parquet(&page, 6, (1 << 31) - 1, 3, 1), 4, "a page of 2147483647 bytes");
    fails(&parquet(&page, 0, 24, 3, (1 << 31) - 1), 7, "the footer cannot be read");
    // A mebibyte of zeros in 15 bytes of brotli, in a gzip member, in an LZ4 frame.
    python(
        s.path(),
        "import gzip, pyarrow as pa\nfor name, data in (('b', pa.compress(bytes(1 << 20), 'brotli', asbytes=True)), ('g', gzip.compress(bytes(1 << 20))), ('l', pa.compress(bytes(1 << 20), 'lz4', asbytes=True))): open(name, 'wb').write(data)",
    );
    for (name, codec) in [("b", 4), ("g", 2), ("l", 5)] {
        let page = std::fs::read(s.join(name)).unwrap();
        fails(&parquet(&page, codec, 24, 3, 1), 7, "more than the 24 bytes");
        std::fs::write(&path, parquet(&page, codec, 1 << 20, 1 << 17, 1)).unwrap();
        assert_eq!(npk(&["convert", &path, "-", "-t", "csv"]).lines().count(), (1 << 17) + 1);
    }
    // Nor does it help that the member, or one behind it, claims the size of the page.
    let large = std::fs::read(s.join("g")).unwrap();
    let claims = [&large[..large.len() - 4], &24u32.to_le_bytes()].concat();
    for page in [claims.clone(), [large, claims].concat()] {
        fails(&parquet(&page, 2, 24, 3, 1), 7, "more than the 24 bytes");
    }
}
