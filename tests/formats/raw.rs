//! Raw binary: what `--dtype`, `--shape`, `--offset` and `--order` say, numpy's own spelling and order.

use crate::support::{self, Scratch, at, fixture, npk, npk_fails};

/// The values of the one array of a file that npk wrote as text.
fn values(s: &Scratch, name: &str) -> String {
    npk(&["convert", "-q", "-f", &at(s, name), &at(s, "v.csv"), "--header", "no"]);
    std::fs::read_to_string(s.join("v.csv")).unwrap()
}

#[test]
fn a_file_is_what_the_flags_say() {
    let s = Scratch::new();
    let file = fixture("good/raw/tofile.raw").display().to_string();
    let to = at(&s, "o.npy");
    npk(&["convert", &file, &to, "--from", "raw", "--dtype", ">f4", "--shape", "3,-1"]);
    assert_eq!(npk(&["list", "-l", &to]), "o\tfloat32\t3x4\t48\n");
    assert_eq!(values(&s, "o.npy"), "0.0,1.0,2.0,3.0\n4.0,5.0,6.0,7.0\n8.0,9.0,10.0,11.0\n");
    // The first index runs fastest.
    let fortran = ["--dtype", ">f4", "--shape", "4,3", "--order", "F"];
    npk(&[&["convert", "-f", &file, &to, "--from", "raw"][..], &fortran].concat());
    assert_eq!(values(&s, "o.npy"), "0.0,4.0,8.0\n1.0,5.0,9.0\n2.0,6.0,10.0\n3.0,7.0,11.0\n");
    // Without a shape all in one, from an offset on; what was read is cast by a pattern.
    let rest = ["--dtype", ">f4", "--offset", "40", "--dtype", "*=int16"];
    npk(&[&["convert", "-f", &file, &to, "--from", "raw"][..], &rest].concat());
    assert_eq!(npk(&["list", "-l", &to]), "o\tint16\t2\t4\n");
    assert_eq!(values(&s, "o.npy"), "10\n11\n");
    // The other commands take the same description.
    let described = ["--from", "raw", "--dtype", ">f4", "--shape", "3,4"];
    let listed = npk(&[&["list", "-l", &file][..], &described].concat());
    assert_eq!(listed, "tofile\tfloat32\t3x4\t48\n");
    npk(&[&["verify", &file][..], &described].concat());
    npk(&[&["inspect", &file, "--stats"][..], &described].concat());
    npk(&[&["diff", &file, &file][..], &described].concat());
    // From a pipe, and packed.
    let packed = std::process::Command::new("gzip").args(["-c", &file]).output().unwrap().stdout;
    std::fs::write(s.join("a.f4.gz"), packed).unwrap();
    npk(&[&["convert", "-f", &at(&s, "a.f4.gz"), &to][..], &described].concat());
    assert_eq!(values(&s, "o.npy"), "0.0,1.0,2.0,3.0\n4.0,5.0,6.0,7.0\n8.0,9.0,10.0,11.0\n");
}

#[test]
fn records_text_and_types_that_numpy_lacks() {
    let s = Scratch::new();
    let file = at(&s, "x.bin");
    let convert = |dtype: &str, to: &str| {
        npk(&["convert", "-q", "-f", &file, &at(&s, to), "--from", "raw", "--dtype", dtype])
    };
    std::fs::write(&file, b"ab\0\0c\0xyz\0\x01\x02").unwrap();
    convert("S4", "t.parquet");
    npk(&["convert", &at(&s, "t.parquet"), &at(&s, "t.npy")]);
    let text = std::fs::read(s.join("t.npy")).unwrap();
    assert!(text.ends_with(b"ab\0\0c\0xyz\0\x01\x02"));
    convert("i2, >u2", "r.npk");
    assert_eq!(npk(&["list", "-l", &at(&s, "r.npk")]), "x.f0\tint16\t3\t6\nx.f1\tuint16\t3\t6\n");
    convert("bfloat16", "b.safetensors");
    assert_eq!(npk(&["list", "-l", &at(&s, "b.safetensors")]), "x\tbfloat16\t6\t12\n");
    let bytes = std::fs::read(s.join("b.safetensors")).unwrap();
    assert!(bytes.ends_with(b"ab\0\0c\0xyz\0\x01\x02"));
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let file = fixture("good/raw/tofile.raw").display().to_string();
    let s = Scratch::new();
    let fails = |code: i32, args: &[&str], says: &str| {
        let out = at(&s, "o.npy");
        let all = [&["convert", &file, &out][..], args].concat();
        let said = npk_fails(code, &all);
        assert!(said.contains(says), "{args:?}: {said}");
        assert!(s.names().is_empty());
    };
    let raw = |more: &[&'static str]| [&["--from", "raw"][..], more].concat();
    fails(4, &raw(&[]), "a raw file does not say what it holds");
    fails(4, &[], "a raw file does not say what it holds");
    let shape = raw(&["--dtype", "f4", "--shape", "5,3"]);
    fails(4, &shape, "the shape 5,3 of 4 bytes each needs 60 bytes, the file has 48");
    let rest = raw(&["--dtype", "f8", "--shape", "-1,5", "--offset", "4"]);
    fails(4, &rest, "the shape -1,5 of 8 bytes each needs a multiple of 40 bytes, the file has 44");
    fails(4, &raw(&["--dtype", "f4", "--offset", "49"]), "--offset 49 is past the end");
    fails(4, &raw(&["--dtype", "f4", "--shape", "-1,0"]), "a multiple of 0 bytes");
    let huge = "4294967296,4294967296,4294967296";
    fails(4, &raw(&["--dtype", "f4", "--shape", huge]), "needs more than 2^62 bytes");
    fails(2, &raw(&["--dtype", "float33"]), "there is no type 'float33'");
    fails(2, &raw(&["--dtype", "f4", "--dtype", "f8"]), "says twice what the raw file holds");
    fails(2, &raw(&["--dtype", "f4", "--shape", "-1,-1"]), "'-1,-1' is not a shape");
    fails(2, &["--shape", "3,4"], "--shape says what a raw file holds");
    fails(4, &raw(&["--dtype", "S"]), "have no size of their own");
    fails(4, &raw(&["--dtype", "O"]), "o");
    let said = npk_fails(2, &["list", &file, "--dtype", "f4"]);
    assert!(said.contains("add --from raw"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn files_of_tofile_read_as_numpy_reads_them() {
    let s = Scratch::new();
    let types = support::python(
        s.path(),
        "import numpy as np\n\
         rng = np.random.default_rng(3)\n\
         for i, t in enumerate(['?', '<i2', '>i4', '>u8', '<f2', '>f8', '>c16', 'M8[ns]', '>m8[D]', 'S3', '>U2']):\n\
         \ta = rng.integers(0, 100, (6, 5, 7))\n\
         \ta = np.char.mod('%d', a).astype(t) if 'S' in t or 'U' in t else a.astype(t)\n\
         \twith open(f'{i}.bin', 'wb') as f: f.write(b'head'); a.tofile(f)\n\
         \tnp.save(f'{i}.npy', a)\n\
         \twith open(f'{i}.fortran', 'wb') as f: f.write(b'head'); a.T.tofile(f)\n\
         \tprint(t)",
    );
    for (i, t) in types.lines().enumerate() {
        for (file, order) in [("bin", "C"), ("fortran", "F")] {
            let (input, out) = (at(&s, &format!("{i}.{file}")), at(&s, "o.npk"));
            let raw = ["--from", "raw", "--dtype", t, "--shape", "6,-1,7", "--offset", "4"];
            let flags = [&raw[..], &["--order", order, "-f"]].concat();
            npk(&[&["convert", &input, &out][..], &flags].concat());
            npk(&["diff", &out, &at(&s, &format!("{i}.npy"))]);
        }
    }
}
