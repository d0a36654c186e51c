//! IDX, the format of MNIST: every type, packed as it is distributed, damage.

use crate::support::{self, Scratch, at, fixture, npk, npk_fails};

#[test]
fn every_type_reads_with_its_values() {
    let s = Scratch::new();
    let check = |name: &str, dtype: &str, shape: &str, text: &str| {
        let file = fixture(&format!("good/idx/{name}")).display().to_string();
        let listed = npk(&["list", "-l", &file]);
        let columns: Vec<&str> = listed.trim_end().split('\t').collect();
        assert_eq!(columns[1..3], [dtype, shape], "{name}");
        if !text.is_empty() {
            npk(&["convert", "-q", "-f", &file, &at(&s, "o.csv"), "--header", "no"]);
            assert_eq!(std::fs::read_to_string(s.join("o.csv")).unwrap(), text, "{name}");
        }
        npk(&["verify", &file]);
    };
    check("train-labels.idx1-ubyte", "uint8", "3", "5\n0\n4\n");
    check("int8.idx", "int8", "2x3", "-128,127,0\n1,2,3\n");
    check("int16.idx", "int16", "2x2", "-32768,32767\n1,-2\n");
    check("int32.idx", "int32", "3", "-2147483648\n2147483647\n77\n");
    check("float32.idx", "float32", "1x3", "0.5,-1.25,inf\n");
    check("float64.idx", "float64", "2", "0.3333333333333333\n-2e+300\n");
    check("train-images.idx3-ubyte", "uint8", "3x4x5", "");
    check("empty.idx", "uint8", "0x28x28", "");
}

/// As it is downloaded: packed, and with a name that has no ending of ours.
#[test]
fn mnist_files_are_recognised_as_they_are_distributed() {
    let s = Scratch::new();
    let packed = fixture("good/idx/packed/t10k-images-idx3-ubyte.gz").display().to_string();
    assert_eq!(npk(&["list", &packed]), "t10k-images-idx3-ubyte\n");
    let plain = at(&s, "t10k-images-idx3-ubyte");
    let whole = std::fs::read(fixture("good/idx/train-images.idx3-ubyte")).unwrap();
    std::fs::write(&plain, &whole).unwrap();
    npk(&["diff", &packed, &plain]);
    // By its length alone.
    std::fs::copy(&plain, s.join("images")).unwrap();
    npk(&["diff", &packed, &at(&s, "images"), "--from", "auto"]);
    // Damaged, it is still known by its name.
    std::fs::write(&plain, &whole[..30]).unwrap();
    let said = npk_fails(7, &["list", &plain]);
    assert!(said.contains("declares 60 bytes of values, there are 14"), "{said}");
    // Bytes that merely begin so are nothing.
    std::fs::write(s.join("other"), [&whole[..], b"x"].concat()).unwrap();
    npk_fails(3, &["list", &at(&s, "other")]);
}

#[test]
#[ignore = "asks the real libraries"]
fn values_are_those_of_numpy() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import numpy as np, struct\n\
         rng = np.random.default_rng(3)\n\
         for code, t in {8: 'u1', 9: 'i1', 11: '>i2', 12: '>i4', 13: '>f4', 14: '>f8'}.items():\n\
         \ta = rng.integers(-2**40, 2**40, (50, 7, 9)).astype(t)\n\
         \topen(f'{t[-2:]}.idx', 'wb').write(struct.pack('>4B3I', 0, 0, code, 3, *a.shape) + a.tobytes())\n\
         \tnp.save(f'{t[-2:]}.npy', a)",
    );
    for t in ["u1", "i1", "i2", "i4", "f4", "f8"] {
        npk(&["diff", &at(&s, &format!("{t}.idx")), &at(&s, &format!("{t}.npy"))]);
    }
}
