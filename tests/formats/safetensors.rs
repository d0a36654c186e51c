//! safetensors against the reference library.

use std::path::Path;

use npk::error::ErrorKind;
use npk::format::WriteOptions;
use npk::storage::Location;

use crate::support::library::{convert, convert_files, read_all};
use crate::support::{Scratch, at, mutants, npk, npk_any, python};

/// Every dtype that numpy (with ml_dtypes) can give to the library.
const MAKE: &str = r#"
import numpy as np, ml_dtypes
from safetensors.numpy import save_file
rng = np.random.default_rng(3)
t = {}
names = ['?','u1','u2','u4','u8','i1','i2','i4','i8','f2','f4','f8','c8']
for d in names:
    for i, s in enumerate([(), (0,), (3,), (2, 3), (0, 4), (2, 1, 3)]):
        raw = rng.integers(0, 256, int(np.prod(s, dtype=int)) * np.dtype(d).itemsize, dtype='u1')
        t[f'{d}.{i}'] = (raw & 1 if d == '?' else raw).view(d).reshape(s)
save_file(t, 'in.safetensors', metadata={'format': 'pt', 'note': 'ä"\n'})
"#;

const COMPARE: &str = r#"
import sys
from safetensors import safe_open
a, b = safe_open('in.safetensors', 'np'), safe_open('out.safetensors', 'np')
assert a.metadata() == b.metadata(), (a.metadata(), b.metadata())
assert sorted(a.keys()) == sorted(b.keys()) and len(list(a.keys())) > 70
for k in a.keys():
    x, y = a.get_tensor(k), b.get_tensor(k)
    assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes(), k
"#;

/// The file becomes `out.safetensors`.
fn written_again(dir: &Scratch, file: &str) {
    let (from, to) = (dir.join(file), dir.join("out.safetensors"));
    convert_files("safetensors", &from, "safetensors", &to).unwrap();
}

#[test]
#[ignore = "asks the real libraries"]
fn both_ways() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    written_again(&dir, "in.safetensors");
    python(dir.path(), COMPARE);
    let plan = read_all("safetensors", &dir.join("out.safetensors")).unwrap();
    assert_eq!(plan.attributes["format"], "pt");
    assert_eq!(plan.arrays.len(), 78);
}

/// A file with this header and as many bytes of data.
fn write(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|i| (i * 7) as u8));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rare_types_keep_their_bits_and_their_order() {
    let dir = Scratch::new();
    let mut entries = Vec::new();
    let mut at = 0;
    let types = [
        ("z", "BF16", "[2,4]", 16),
        ("a", "F8_E4M3", "[8]", 8),
        ("m", "F8_E5M2", "[8]", 8),
        ("b", "F8_E8M0", "[8]", 8),
        ("y", "F8_E4M3FNUZ", "[2,4]", 8),
        ("c", "F8_E5M2FNUZ", "[]", 1),
        ("p", "F4", "[3,4]", 6),
        ("q", "F4", "[2,3]", 3),
        ("r", "F6_E2M3", "[4,4]", 12),
        ("s", "F6_E3M2", "[3,4]", 9),
        ("t", "F4", "[]", 0),
        ("C", "C64", "[1]", 8),
    ];
    for (name, dtype, shape, bytes) in types.iter().filter(|t| t.0 != "t") {
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{at},{}]}}"#,
            at + bytes
        ));
        at += bytes;
    }
    write(&dir.join("in.safetensors"), &format!("{{{}}}", entries.join(",")), at);
    written_again(&dir, "in.safetensors");
    let (old, new) = (
        std::fs::read(dir.join("in.safetensors")).unwrap(),
        std::fs::read(dir.join("out.safetensors")).unwrap(),
    );
    assert_eq!(old[old.len() - at..], new[new.len() - at..]);
    let text =
        |b: &[u8]| String::from_utf8(b[8..b.len() - at].to_vec()).unwrap().trim_end().to_string();
    assert_eq!(text(&old), text(&new));
    assert_eq!((new.len() - at) % 8, 0);
    // The reference library takes all of them.
    let all = safetensors::SafeTensors::deserialize(&new).unwrap();
    assert_eq!(all.len(), types.len() - 1);
    assert_eq!(all.tensor("r").unwrap().dtype(), safetensors::Dtype::F6_E2M3);
    // In header order even where the data lies otherwise.
    let swapped = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
    write(&dir.join("swapped.safetensors"), swapped, 5);
    let plan = read_all("safetensors", &dir.join("swapped.safetensors")).unwrap();
    assert_eq!(plan.arrays.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn broken_files_are_named() {
    let dir = Scratch::new();
    let path = dir.join("x.safetensors");
    let one = |s: &str| format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},{s}}}"#);
    let cases: Vec<(String, usize, &str)> = vec![
        (one(r#""a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#), 8, "twice"),
        (one(r#""b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}"#), 9, "gap"),
        (one(r#""b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}"#), 6, "overlaps"),
        (one(r#""b":{"dtype":"U8","shape":[4],"data_offsets":[8,4]}"#), 8, ""),
        (one(r#""b":{"dtype":"F32","shape":[4],"data_offsets":[4,8]}"#), 8, "needs 16 bytes"),
        (one(r#""b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#), 7, "truncated"),
        (one(r#""b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#), 9, "follow"),
        (one(r#""b":{"dtype":"U8","shape":[4]}"#), 4, "data_offsets"),
        (one(r#""b":{"dtype":"U8","shape":[-4],"data_offsets":[4,8]}"#), 8, "broken"),
        (
            one(r#""b":{"dtype":"F4","shape":[3],"data_offsets":[4,5]}"#),
            5,
            "do not make whole bytes",
        ),
        (
            one(r#""b":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[4,8]}"#),
            8,
            "too large",
        ),
        (
            one(
                r#""b":{"dtype":"F64","shape":[18446744073709551615],"data_offsets":[4,18446744073709551615]}"#,
            ),
            8,
            "",
        ),
        (one(r#""__metadata__":{"x":"1","x":"2"}"#), 4, "twice"),
        (one(r#""__metadata__":{"x":1}"#), 4, "broken"),
        ("[]".into(), 0, "'{'"),
        ("{} x".into(), 0, "broken"),
        ("{".into(), 0, "broken"),
    ];
    for (header, data, word) in cases {
        write(&path, &header, data);
        let error = read_all("safetensors", &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{header}: {error}");
        assert!(error.to_string().contains(word), "{header}: {error}");
    }
    write(&path, &one(r#""b":{"dtype":"NEW","shape":[4],"data_offsets":[4,8]}"#), 8);
    assert_eq!(read_all("safetensors", &path).unwrap_err().kind(), ErrorKind::Refused);
    for (bytes, kind) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"[..], ErrorKind::Missing),
        (b"  <!doctype HTML>", ErrorKind::Missing),
        (b"", ErrorKind::Corrupt),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", ErrorKind::Corrupt),
        (b"\x00\x01\x00\x00\x00\x00\x00\x00{}", ErrorKind::Corrupt),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_all("safetensors", &path).unwrap_err().kind(), kind);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn mutants_never_panic() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let original = std::fs::read(dir.join("in.safetensors")).unwrap();
    let head = original[..1500].to_vec();
    let path = dir.join("mutant.safetensors");
    let mut failed = 0;
    mutants(&head, 1500, |bytes| {
        let whole = [bytes, &original[1500..]].concat();
        std::fs::write(&path, if bytes.len() < head.len() { bytes } else { &whole }).unwrap();
        if let Err(error) = read_all("safetensors", &path) {
            assert!(error.kind() != npk::error::ErrorKind::Internal, "{error}");
            failed += 1;
        }
    });
    assert!(failed > 800, "{failed}");
}

#[test]
#[ignore = "asks the real libraries"]
fn ten_thousand_tensors_come_through() {
    let dir = Scratch::new();
    python(
        dir.path(),
        "import numpy as np; from safetensors.numpy import save_file\nsave_file({f'layers.{i}.weight': np.full(16, i, 'f4') for i in range(10000)}, 'in.safetensors')",
    );
    written_again(&dir, "in.safetensors");
    python(
        dir.path(),
        "from safetensors.numpy import load_file\na = load_file('out.safetensors'); assert len(a) == 10000 and all((a[f'layers.{i}.weight'] == i).all() for i in range(10000))",
    );
}

/// Two shards and their index, as transformers writes them.
const SHARDS: &str = r#"
import numpy as np, json
from safetensors.numpy import save_file
a = {'x.w': np.arange(6, dtype='f4'), 'x.b': np.ones(2, 'f4')}; b = {'y.w': np.arange(5, dtype='i8')}
save_file(a, 'model-00001-of-00002.safetensors', metadata={'format': 'pt'}); save_file(b, 'model-00002-of-00002.safetensors', metadata={'format': 'pt'})
json.dump({'metadata': {'total_size': 72}, 'weight_map': {**{k: 'model-00001-of-00002.safetensors' for k in a}, **{k: 'model-00002-of-00002.safetensors' for k in b}}},
          open('model.safetensors.index.json', 'w'))
save_file({'stray': np.zeros(1)}, 'other.safetensors')
"#;

#[test]
#[ignore = "asks the real libraries"]
fn shards_are_one_input() {
    let dir = Scratch::new();
    python(dir.path(), SHARDS);
    let index = dir.join("model.safetensors.index.json");
    for input in [index.as_path(), dir.path()] {
        let plan = read_all("safetensors", input).unwrap();
        let mut names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
        names.sort();
        assert_eq!(names, ["x.b", "x.w", "y.w"]);
        assert!(
            plan.arrays.iter().all(|a| a
                .details
                .part
                .as_deref()
                .is_some_and(|p| p.starts_with("model-0000")))
        );
        assert_eq!(plan.attributes.len(), 1);
    }
    let out = Scratch::new();
    convert_files("safetensors", &index, "safetensors", &out.join("one.safetensors")).unwrap();
    python(
        out.path(),
        "from safetensors.numpy import load_file\nt = load_file('one.safetensors'); assert t['x.w'].tolist() == [0,1,2,3,4,5] and t['y.w'].tolist() == [0,1,2,3,4]",
    );
    // A name that two shards hold; a name that its shard lacks; a missing shard; without an index;
    // an escape.
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::copy(
        dir.join("model-00001-of-00002.safetensors"),
        dir.join("model-00002-of-00002.safetensors"),
    )
    .unwrap();
    let error = read_all("safetensors", &index).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    std::fs::write(&index, text.replace("model-00001-of-00002", "../etc/x")).unwrap();
    assert_eq!(read_all("safetensors", &index).unwrap_err().kind(), ErrorKind::Refused);
    std::fs::write(&index, text.replace("x.w", "gone")).unwrap();
    python(
        dir.path(),
        "import numpy as np; from safetensors.numpy import save_file; save_file({'y.w': np.arange(5)}, 'model-00002-of-00002.safetensors')",
    );
    assert_eq!(read_all("safetensors", &index).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(&index, &text).unwrap();
    assert!(read_all("safetensors", &index).is_ok());
    std::fs::remove_file(dir.join("model-00002-of-00002.safetensors")).unwrap();
    let error = read_all("safetensors", &index).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Missing && error.to_string().contains("model-00002-of-00002"),
        "{error}"
    );
    std::fs::remove_file(&index).unwrap();
    let error = read_all("safetensors", dir.path()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Missing && error.to_string().contains("model-00002-of-00002"),
        "{error}"
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn shards_are_written_with_an_index() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let options = WriteOptions { max_shard_bytes: Some(300), ..WriteOptions::default() };
    let (from, to) =
        (Location::local(dir.join("in.safetensors")), Location::local(dir.join("big.safetensors")));
    let summary = convert("safetensors", &from, "safetensors", &to, &options).unwrap();
    assert!(summary.files > 2);
    python(
        dir.path(),
        r#"
import json
from safetensors.numpy import load_file
index = json.load(open('big.safetensors.index.json')); want = load_file('in.safetensors')
assert set(index['weight_map']) == set(want) and index['metadata']['total_size'] == sum(v.nbytes for v in want.values())
for f in set(index['weight_map'].values()):
    part = load_file(f)
    assert sorted(part) == sorted(k for k, v in index['weight_map'].items() if v == f)
    for k, v in part.items(): assert v.tobytes() == want[k].tobytes() and v.dtype == want[k].dtype
"#,
    );
    written_again(&dir, "big.safetensors.index.json");
    python(dir.path(), COMPARE);
    // What is there already stays.
    assert_eq!(
        convert("safetensors", &from, "safetensors", &to, &options).unwrap_err().kind(),
        ErrorKind::Exists
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn from_a_pipe() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let whole = std::fs::read(dir.join("in.safetensors")).unwrap();
    let swapped = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
    write(&dir.join("swapped"), swapped, 5);
    for (name, bytes, good) in [
        ("whole", whole.clone(), true),
        ("swapped", std::fs::read(dir.join("swapped")).unwrap(), true),
        ("cut", whole[..whole.len() - 1].to_vec(), false),
        ("long", [whole.clone(), vec![0]].concat(), false),
        ("empty", Vec::new(), false),
    ] {
        let out = dir.join(&format!("{name}.out"));
        let input = crate::support::library::fifo(&dir.join(&format!("{name}.fifo")), bytes);
        let done = convert(
            "safetensors",
            &input,
            "safetensors",
            &Location::local(&out),
            &WriteOptions::default(),
        );
        assert_eq!(done.is_ok(), good, "{name}: {done:?}");
        assert_eq!(out.exists(), good);
        if name == "whole" {
            std::fs::rename(&out, dir.join("out.safetensors")).unwrap();
            python(dir.path(), COMPARE);
        }
    }
}

/// The reference library writes and reads a tensor whose name is empty: it gets one.
#[test]
fn a_tensor_without_a_name() {
    let s = Scratch::new();
    for (other, wanted) in [("a", "unnamed"), ("unnamed", "unnamed_1")] {
        let file = s.join("x.safetensors");
        let _ = std::fs::remove_file(&file);
        let tensors: [(&str, &str, &[u64], Vec<u8>); 2] =
            [("", "U8", &[2], vec![1, 2]), (other, "U8", &[1], vec![3])];
        crate::convert::safetensors(&file, &tensors);
        let out = npk_any(&["convert", "-f", &at(&s, "x.safetensors"), &at(&s, "x.npk")]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains(&format!("the tensor without a name is called {wanted}")), "{said}");
        npk(&["convert", "-qf", &at(&s, "x.npk"), "-a", wanted, &at(&s, "x.npy")]);
        assert!(std::fs::read(s.join("x.npy")).unwrap().ends_with(&[1, 2]));
    }
}
