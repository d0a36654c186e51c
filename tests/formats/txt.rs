//! TXT: what numpy.savetxt writes, and what numpy.loadtxt makes of ours.

use npk::error::ErrorKind;
use npk::format::{Auto, ReadOptions, WriteOptions};
use npk::formats::text::txt::Txt;
use npk::model::{Dtype, Values};

use super::csv::{in_order, is_refused, numbers, open_with, table_with, texts, write};
use crate::support::{Scratch, at, mutants, npk, npy_bytes, python};

#[track_caller]
fn table(text: &str) -> Vec<String> {
    table_with(&Txt, text, &ReadOptions::default()).unwrap()
}

fn options(change: impl FnOnce(&mut ReadOptions)) -> ReadOptions {
    let mut options = ReadOptions::default();
    change(&mut options);
    options
}

#[test]
fn rows_of_numbers() {
    assert_eq!(table("1   2\n 3\t4 \n"), ["col0 int64: 1 3", "col1 int64: 2 4"]);
    // One array, as numpy has it.
    assert_eq!(
        table("# a b\n1 2.5 # behind\n\n  # alone\n3 4#5\r\n"),
        ["col0 float64: 1.0 3.0", "col1 float64: 2.5 4.0"]
    );
    assert_eq!(
        table("1 2.5\n9007199254740993 4\n"),
        ["col0 int64: 1 9007199254740993", "col1 float64: 2.5 4.0"]
    );
    assert_eq!(table("007 nan\n+8 -inf\n"), ["col0 float64: 7.0 8.0", "col1 float64: NaN -inf"]);
    assert_eq!(
        table(" (1+2j) 3\n (1e-05+-2j) 4\n"),
        ["col0 complex128: [1.0, 2.0] [1e-5, -2.0]", "col1 complex128: [3.0, 0.0] [4.0, 0.0]"]
    );
    assert_eq!(table("18446744073709551615\n"), ["col0 uint64: 18446744073709551615"]);
    assert_eq!(table(""), ["col0 float64: "]);
    assert_eq!(table("# nothing\n"), ["col0 float64: "]);
    let semicolons = options(|o| o.text.delimiter = Some(b';'));
    assert_eq!(
        table_with(&Txt, "1; 2;\n3;;5\n", &semicolons).unwrap(),
        ["col0 int64: 1 3", "col1 int64?: 2 -", "col2 int64?: - 5"]
    );
    let skip = options(|o| o.text.skip_rows = 1);
    assert_eq!(table_with(&Txt, "x y\n1 2\n", &skip).unwrap(), ["col0 int64: 1", "col1 int64: 2"]);
    let header = options(|o| o.text.header = Auto::Yes);
    assert_eq!(table_with(&Txt, "x y\n1 2\n", &header).unwrap(), ["x int64: 1", "y int64: 2"]);
    let comment = options(|o| o.text.comment = Some(b'%'));
    assert_eq!(
        table_with(&Txt, "% x\n1 2\n", &comment).unwrap(),
        ["col0 int64: 1", "col1 int64: 2"]
    );
    let single = options(|o| o.text.dtypes = vec![(None, Dtype::F32)]);
    assert_eq!(
        table_with(&Txt, "0.1\n16777217.5\n", &single).unwrap(),
        ["col0 float32: 0.1 16777218.0"]
    );
}

#[test]
fn text_is_an_error_with_its_line() {
    for (text, word) in [
        ("x y\n1 2\n", "line 1: 'x' is not a number"),
        ("1 2\n\n3 abc\n", "line 3: 'abc' is not a number"),
    ] {
        let error = table_with(&Txt, text, &ReadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.message().contains(word) && error.hint_text().unwrap().contains("--skip-header"),
            "{error}"
        );
    }
    let error = table_with(&Txt, "1e400\n", &ReadOptions::default()).unwrap_err();
    assert!(
        error
            .message()
            .contains("line 1: '1e400' is a number that no one type of the column holds exactly")
            && error.hint_text().unwrap().contains("--lossy")
    );
    let error = table_with(&Txt, "1 2\n3\n", &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("line 2: the row has 1 cell, the first row has 2"), "{error}");
    let no = options(|o| o.text.header = Auto::No);
    assert_eq!(
        table_with(&Txt, "x 1\ny 2\n", &no).unwrap(),
        ["col0 string: \"x\" \"y\"", "col1 int64: 1 2"]
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn numpy_reads_ours() {
    let scratch = Scratch::new();
    let f = vec![0.1, 1e300, -0.0, 5e-324, f64::NAN, f64::INFINITY];
    let columns = || {
        in_order(vec![
            numbers("f", Dtype::F64, f.clone()),
            numbers("i", Dtype::I64, vec![1i64, -2, 3, 4, 5, 1 << 53]),
        ])
    };
    write(&Txt, &scratch.join("f.txt"), columns(), &WriteOptions::default()).unwrap();
    write(&Txt, &scratch.join("f.txt.gz"), columns(), &WriteOptions::default()).unwrap();
    let complex = in_order(vec![
        numbers("z", Dtype::C128, vec![0.5f64, -2.0, f64::NAN, f64::INFINITY, 1e-7, -0.0]).clone(),
    ]);
    let complex = complex.into_iter().map(|(mut m, mut c)| {
        m.rows = Some(3);
        c[0].rows = 3;
        (m, c)
    });
    write(&Txt, &scratch.join("z.txt"), complex.collect(), &WriteOptions::default()).unwrap();
    let mut tabs = WriteOptions::default();
    tabs.text.delimiter = Some(b'\t');
    tabs.text.float_format = Some("%.3e".into());
    tabs.text.header = Auto::Yes;
    write(&Txt, &scratch.join("t.txt"), columns(), &tabs).unwrap();
    python(
        scratch.path(),
        r#"
import numpy as np
want = np.array([[.1, 1], [1e300, -2], [-0., 3], [5e-324, 4], [np.nan, 5], [np.inf, 2**53]])
for name in ["f.txt", "f.txt.gz"]:
    for got in [np.loadtxt(name), np.genfromtxt(name)]:
        assert np.array_equal(got, want, equal_nan=True) and np.signbit(got[2, 0]), got
z = np.loadtxt("z.txt", dtype=complex)
assert z[0] == .5-2j and np.isnan(z[1].real) and z[1].imag == np.inf and z[2] == 1e-7 and np.signbit(z[2].imag), z
assert open("t.txt").read().splitlines()[:2] == ["f\ti", "1.000e-01\t1"], open("t.txt").read()
"#,
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn reads_what_numpy_writes() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        r#"
import numpy as np
rng = np.random.default_rng(1)
f = rng.standard_normal((500, 3)) * 10.0 ** rng.integers(-250, 250, (500, 3))
z = f[:, 0] + 1j * f[:, 1]
i = rng.integers(-2**63, 2**63 - 1, (300, 2))
np.save("f.npy", np.ascontiguousarray(f.T)); np.save("z.npy", z); np.save("i.npy", np.ascontiguousarray(i.T))
np.savetxt("f.txt", f); np.savetxt("f.txt.gz", f); np.savetxt("fh.txt", f, header="a b c", footer="end"); np.savetxt("fr.txt", f, fmt="%r")
np.savetxt("z.txt", z); np.savetxt("i.txt", i, fmt="%d"); np.savetxt("z2.txt", z, fmt="%s")
np.savetxt("fs.txt", f, fmt="%s", delimiter="   ")
"#,
    );
    let npy = |name: &str| {
        let bytes = std::fs::read(scratch.join(name)).unwrap();
        bytes[10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize..].to_vec()
    };
    for (file, same) in [
        ("f.txt", "f"),
        ("f.txt.gz", "f"),
        ("fh.txt", "f"),
        ("fr.txt", "f"),
        ("fs.txt", "f"),
        ("z.txt", "z"),
        ("z2.txt", "z"),
        ("i.txt", "i"),
    ] {
        let path = scratch.join(file);
        if file == "fr.txt" {
            // numpy 2 writes np.float64(…) for %r.
            let text =
                std::fs::read_to_string(&path).unwrap().replace("np.float64(", "").replace(')', "");
            std::fs::write(&path, text).unwrap();
        }
        let source = open_with(&Txt, &path, &ReadOptions::default()).unwrap();
        let count = source.plan().arrays.len();
        let mut bytes = Vec::new();
        for a in 0..count {
            let rows = source.plan().arrays[a].rows.unwrap();
            crate::support::library::rows_of(source.as_ref(), a)
                .read(a, 0..rows, &mut |chunk| {
                    if let Values::Fixed(b) = &chunk.values {
                        bytes.extend_from_slice(b);
                    }
                    Ok(())
                })
                .unwrap();
        }
        assert!(bytes == npy(&format!("{same}.npy")), "{file}");
    }
}

#[test]
fn what_txt_cannot_hold() {
    let holds = npk::format::Format::spec(&Txt).writes.as_ref().unwrap();
    assert!(!holds.nulls && !(holds.logical)(&texts("t", &[]).0.logical));
    let scratch = Scratch::new();
    let mut header = WriteOptions::default();
    header.text.header = Auto::Yes;
    let named = in_order(vec![numbers("a b", Dtype::I64, vec![1i64])]);
    assert_eq!(
        write(&Txt, &scratch.join("t.txt"), named, &header).unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn damage_is_told_never_a_panic() {
    let scratch = Scratch::new();
    let path = scratch.join("m.txt");
    let text = b"# x\n1 2.5 (1+2j)\n-3e5 nan (0.5-1e-3j)\n 7 8 9\n";
    let mut bad = 0;
    mutants(text, 600, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        bad += usize::from(is_refused(&Txt, &path, &ReadOptions::default()));
    });
    assert!(bad > 100, "{bad}");
}

/// A time that is not known takes no place from another cell, and no line from its row.
#[test]
fn times_that_are_not_known() {
    let s = Scratch::new();
    let years: Vec<u8> = [50i64, i64::MIN, 52].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(s.join("y.npy"), npy_bytes("<M8[Y]", &[3], &years)).unwrap();
    let numbers: Vec<u8> = (1..=3i64).flat_map(i64::to_le_bytes).collect();
    std::fs::write(s.join("z.npy"), npy_bytes("<i8", &[3], &numbers)).unwrap();
    npk(&["convert", "-q", &at(&s, "y.npy"), &at(&s, "z.npy"), &at(&s, "both.npk")]);
    for (from, to, wanted) in [
        ("y.npy", "y.txt", "2020\nNaT\n2022\n"),
        ("both.npk", "both.txt", "2020 1\nNaT 2\n2022 3\n"),
        ("y.npy", "y.csv", "2020\n\n2022\n"),
        ("both.npk", "both.csv", "y,z\n2020,1\n,2\n2022,3\n"),
    ] {
        npk(&["convert", "-q", &at(&s, from), &at(&s, to)]);
        let text = std::fs::read_to_string(s.join(to)).unwrap();
        let text = text.strip_prefix("data\n").unwrap_or(&text);
        assert_eq!(text, wanted, "{to}");
    }
}

/// A column has the type that it has in the whole file, whichever columns are chosen.
#[test]
fn chosen_columns_keep_their_type() {
    let s = Scratch::new();
    for (text, wanted) in [("1 2\n3 4\n", "int64"), ("1.5 2\n3 4\n", "float64")] {
        std::fs::write(s.join("m.txt"), text).unwrap();
        for choice in [["-a", "col1"], ["-x", "col0"]] {
            let listed = npk(&["list", "-l", choice[0], choice[1], &at(&s, "m.txt")]);
            assert!(listed.contains(wanted), "{choice:?}: {listed}");
            npk(&["convert", "-qf", choice[0], choice[1], &at(&s, "m.txt"), &at(&s, "m.npy")]);
            let npy = std::fs::read(s.join("m.npy")).unwrap();
            let header = String::from_utf8_lossy(&npy[..128]).into_owned();
            assert!(header.contains(if wanted == "int64" { "<i8" } else { "<f8" }), "{header}");
        }
    }
}
