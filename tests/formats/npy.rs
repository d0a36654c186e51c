//! npy against numpy itself.

use npk::error::ErrorKind;
use npk::format::{Order, ReadOptions};
use npk::formats::by_name;
use npk::model::{Logical, Values};
use npk::storage::Location;

use crate::support::library::{convert, convert_files, drain, failing_mutants, fifo, read_all};
use crate::support::{Scratch, python};

/// numpy arrays of every dtype × shape × order × byte order, in numbered files beside a plain
/// C-order copy.
const MAKE: &str = r#"
import numpy as np, json
rng = np.random.default_rng(7)
dtypes = ['?','u1','u2','u4','u8','i1','i2','i4','i8','f2','f4','f8','c8','c16','M8[ns]','M8[D]','m8[us]','M8','m8[25s]']
shapes = [(), (0,), (1,), (5,), (3,4), (4,0,2), (2,3,4), (1,7,1), (130,70), (3,1,5,2)]
names = []
for d in dtypes:
    for s in shapes:
        for order in 'CF':
            for end in '<>':
                if end == '>' and np.dtype(d).itemsize == 1: continue
                n = int(np.prod(s, dtype=int))
                raw = rng.integers(0, 256, n * np.dtype(d).itemsize, dtype='u1').tobytes()
                if d == '?': raw = bytes(b & 1 for b in raw)
                a = np.frombuffer(raw, np.dtype(d)).reshape(s)
                name = f'a{len(names)}'
                b = np.asarray(a.astype(np.dtype(d).newbyteorder(end)), order=order)
                np.save(name + '.npy', b)
                np.save(name + '.want.npy', np.ascontiguousarray(a).reshape(s))
                names.append(name)
json.dump(names, open('names.json', 'w'))
"#;

#[test]
#[ignore = "asks the real libraries"]
fn every_dtype_shape_and_order() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let names: Vec<String> =
        serde_json::from_slice(&std::fs::read(dir.join("names.json")).unwrap()).unwrap();
    assert!(names.len() > 600);
    for name in &names {
        let (from, to) = (dir.join(&format!("{name}.npy")), dir.join(&format!("{name}.out.npy")));
        convert_files("npy", &from, "npy", &to).unwrap();
        // numpy's own writing of the same array in C order, header and all.
        let (want, got) = (
            std::fs::read(dir.join(&format!("{name}.want.npy"))).unwrap(),
            std::fs::read(&to).unwrap(),
        );
        assert!(want == got, "{name}: {:?}", String::from_utf8_lossy(&got[..128.min(got.len())]));
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn header_versions() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
a = np.arange(12, dtype='f4').reshape(3, 4)
for v in [(1,0),(2,0),(3,0)]:
    with open(f'v{v[0]}.npy', 'wb') as f: np.lib.format.write_array(f, a, version=v)
np.save('long.npy', np.zeros(2, dtype=[(f'field_{i:04}', 'f4') for i in range(6000)]))
np.save('uni.npy', np.array([(1, 2.5)], dtype=[('größe', 'i4'), ('日本', 'f8')]))
"#,
    );
    for v in ["1", "2", "3"] {
        let plan = read_all("npy", &dir.join(&format!("v{v}.npy"))).unwrap();
        assert_eq!(plan.format_version.as_deref(), Some(format!("{v}.0").as_str()));
        assert_eq!(plan.arrays[0].shape(), Some(vec![3, 4]));
    }
    assert_eq!(read_all("npy", &dir.join("long.npy")).unwrap().arrays.len(), 6000);
    let plan = read_all("npy", &dir.join("uni.npy")).unwrap();
    assert_eq!(plan.format_version.as_deref(), Some("3.0"));
    assert_eq!(plan.arrays[1].name, "uni.日本");
}

#[test]
#[ignore = "asks the real libraries"]
fn structured_types_become_arrays() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
rng = np.random.default_rng(1)
dt = np.dtype([('a', '>i4'), ('s', 'U5'), ('n', [('x', 'f8'), ('y', '<u2', (2, 3))]), ('t', 'M8[s]'), ('b', 'S4')], align=True)
for name, shape, order in [('one', (50,), 'C'), ('two', (6, 7), 'C'), ('for', (6, 7), 'F'), ('rank0', (), 'C')]:
    z = np.zeros(shape, dtype=dt, order=order)
    z['a'] = rng.integers(-9, 9, shape); z['n']['x'] = rng.random(shape); z['n']['y'] = rng.integers(0, 9, shape + (2, 3))
    z['t'] = rng.integers(0, 10**9, shape)
    if len(shape) == 1:
        z['s'] = ['ä\u4e00🦀'[: i % 4] for i in range(50)]; z['b'] = [bytes([i, 0, i]) for i in range(50)]
    np.save(name + '.npy', z)
    for key, v in [('a', z['a'].astype('<i4')), ('n.x', z['n']['x']), ('n.y', z['n']['y']), ('t', z['t'])]:
        np.ascontiguousarray(v).tofile(f'{name}.{key}.bin')
"#,
    );
    for (name, shape) in
        [("one", vec![50]), ("two", vec![6, 7]), ("for", vec![6, 7]), ("rank0", vec![])]
    {
        for wish in [Order::Any, Order::ArrayByArray] {
            let format = by_name("npy").unwrap();
            let source = format
                .open(&Location::local(dir.join(&format!("{name}.npy"))), &ReadOptions::default())
                .unwrap();
            let names: Vec<String> = source.plan().arrays.iter().map(|a| a.name.clone()).collect();
            assert_eq!(names, ["a", "s", "n.x", "n.y", "t", "b"].map(|f| format!("{name}.{f}")));
            let y = source.plan().arrays[3].shape().unwrap();
            assert_eq!(y, [shape.clone(), vec![2, 3]].concat());
            let fixed: Vec<usize> = vec![0, 2, 3, 4];
            let reader = source.select(&fixed, wish).unwrap();
            let mut got = vec![Vec::new(); 6];
            let mut emit = |chunk: npk::model::Chunk| {
                let Values::Fixed(b) = &chunk.values else { panic!() };
                got[chunk.array].extend_from_slice(b);
                Ok(())
            };
            match reader {
                npk::format::Reader::Random(reader) => {
                    for &a in &fixed {
                        let rows = source.plan().arrays[a].rows.unwrap();
                        let half = rows / 2;
                        reader.read(a, 0..half, &mut emit).unwrap();
                        reader.read(a, half..rows, &mut emit).unwrap();
                    }
                }
                npk::format::Reader::InOrder(mut pieces) => {
                    while let Some(job) = pieces.next(1000).unwrap() {
                        job.run(&mut emit).unwrap();
                    }
                }
            }
            for (a, key) in [(0, "a"), (2, "n.x"), (3, "n.y"), (4, "t")] {
                assert_eq!(
                    got[a],
                    std::fs::read(dir.join(&format!("{name}.{key}.bin"))).unwrap(),
                    "{name}.{key} {wish:?}"
                );
            }
        }
    }
    let mut texts = Vec::new();
    let mut binary = Vec::new();
    drain("npy", &dir.join("one.npy"), &mut |chunk| match chunk.array {
        1 => texts.extend(
            (0..chunk.rows as usize).map(|r| String::from_utf8(chunk.text(r).to_vec()).unwrap()),
        ),
        5 => binary.extend((0..chunk.rows as usize).map(|r| chunk.text(r).to_vec())),
        _ => {}
    })
    .unwrap();
    assert_eq!(texts[..4], ["", "ä", "ä一", "ä一🦀"]);
    assert_eq!(binary[..3], [vec![], vec![1, 0, 1], vec![2, 0, 2]]);
    assert_eq!((texts.len(), binary.len()), (50, 50));
}

#[test]
#[ignore = "asks the real libraries"]
fn strings() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
np.save('u.npy', np.array(['', 'a', 'größe', 'x\0y'])); np.save('ub.npy', np.array(['ab', 'ç']).astype('>U2'))
np.save('s.npy', np.array([b'\xff\x01', b'', b'abc'])); np.save('two.npy', np.array([['a', 'b']])); np.save('empty.npy', np.array([], 'U0'))
np.save('rank0.npy', np.array('hello'))
"#,
    );
    let read = |name: &str| {
        let mut all = Vec::new();
        let plan = drain("npy", &dir.join(name), &mut |c| {
            all.extend((0..c.rows as usize).map(|r| c.text(r).to_vec()))
        })
        .unwrap();
        (plan.arrays[0].logical.clone(), all)
    };
    assert_eq!(
        read("u.npy"),
        (Logical::Text, ["", "a", "größe", "x\0y"].map(|s| s.as_bytes().to_vec()).to_vec())
    );
    assert_eq!(
        read("ub.npy"),
        (Logical::Text, ["ab", "ç"].map(|s| s.as_bytes().to_vec()).to_vec())
    );
    assert_eq!(
        read("s.npy"),
        (Logical::Binary, vec![b"\xff\x01".to_vec(), vec![], b"abc".to_vec()])
    );
    assert_eq!(read("empty.npy").1.len(), 0);
    assert_eq!(read("rank0.npy").1, vec![b"hello".to_vec()]);
    // Of more than one dimension it comes as codes.
    let plan = read_all("npy", &dir.join("two.npy")).unwrap();
    assert_eq!(
        (plan.arrays[0].type_name(), plan.arrays[0].shape()),
        ("dictionary<int32, string>".into(), Some(vec![1, 2]))
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn refusals() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
np.save('object.npy', np.array([{'a': 1}, None], dtype=object), allow_pickle=True)
np.save('long.npy', np.zeros(3, dtype=np.longdouble)); np.save('clong.npy', np.zeros(3, dtype=np.clongdouble))
np.save('void.npy', np.zeros(3, dtype='V7'))
np.save('mixed.npy', np.zeros(3, dtype=[('ok', 'f4'), ('o', 'O')]), allow_pickle=True)
with open('twice.npy', 'wb') as f:
    np.save(f, np.arange(3)); np.save(f, np.arange(4))
"#,
    );
    for (file, word) in [
        ("object", "object array of other objects"),
        ("long", "long double"),
        ("clong", "long double"),
        ("void", "void"),
        ("mixed", "pickled"),
        ("twice", "the array ends at byte 152, and 160 extra bytes follow it"),
    ] {
        let error = read_all("npy", &dir.join(&format!("{file}.npy"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{file}: {error}");
        assert!(error.to_string().contains(word), "{file}: {error}");
    }
    for (name, bytes) in [
        ("lfs", &b"version https://git-lfs.github.com/spec/v1\noid x"[..]),
        ("html", b"\n<!DOCTYPE html><html>"),
    ] {
        std::fs::write(dir.join(name), bytes).unwrap();
        assert_eq!(read_all("npy", &dir.join(name)).unwrap_err().kind(), ErrorKind::Missing);
    }
}

#[test]
fn hostile_headers() {
    let dir = Scratch::new();
    let path = dir.join("x.npy");
    let file = |text: &str, data: usize| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        std::fs::write(&path, bytes).unwrap();
        read_all("npy", &path)
    };
    assert!(file("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 2L), }  \n", 16).is_ok());
    assert!(file("{\"shape\":(4,),'descr':u'<f4',\"fortran_order\":True}", 16).is_ok());
    let deep = format!(
        "{{'descr': {}'<f4'{}, 'fortran_order': False, 'shape': ()}}",
        "(".repeat(9000),
        ")".repeat(9000)
    );
    for text in [
        "",
        "{}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} + 1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [4]}",
        "{'descr': '<f5', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 18446744073709551615)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (4611686018427387904, 0)}",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (4611686018427387904,)}",
        "{'descr': '<U4611686018427387904', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': [('a', '<f4', (4611686018427387904, 8))], 'fortran_order': False, 'shape': (4,)}",
        "{'descr': [], 'fortran_order': False, 'shape': (4,)}",
        "{'descr': [('', '<f4')], 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,",
        "{'descr': '<f4",
        "{'descr': '\\xZZ'}",
        &deep,
    ] {
        let error = file(text, 16).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Refused),
            "{text}: {error:?}"
        );
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn mutants_never_panic() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
np.save('f.npy', np.asfortranarray(np.arange(60, dtype='f4').reshape(3, 4, 5)))
np.save('r.npy', np.zeros((4, 3), dtype=[('a', '>i4'), ('n', [('x', 'f8', (2,)), ('s', 'V3')])]))
np.save('u.npy', np.array(['abc', 'd', 'efgh']))
"#,
    );
    for name in ["f.npy", "r.npy", "u.npy"] {
        let failed = failing_mutants("npy", &dir.join(name), &dir.join(name), 700);
        assert!(failed > 200, "{name}: {failed}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn from_a_pipe() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
a = np.arange(60000, dtype='>u4').reshape(300, 200)
np.save('c.npy', a); np.save('f.npy', np.asfortranarray(a)); np.save('want.npy', a.astype('<u4'))
np.save('le.npy', a.astype('<u4'))
"#,
    );
    let want = std::fs::read(dir.join("want.npy")).unwrap();
    for name in ["c", "f", "le"] {
        let bytes = std::fs::read(dir.join(&format!("{name}.npy"))).unwrap();
        let out = dir.join(&format!("{name}.out.npy"));
        let at = fifo(&dir.join(&format!("{name}.fifo")), bytes.clone());
        convert("npy", &at, "npy", &Location::local(&out), &Default::default()).unwrap();
        assert!(std::fs::read(&out).unwrap() == want, "{name}");
        for (i, broken) in [bytes[..bytes.len() - 5].to_vec(), [bytes.clone(), vec![1]].concat()]
            .into_iter()
            .enumerate()
        {
            let at = fifo(&dir.join(&format!("{name}{i}.fifo")), broken);
            let out = dir.join(&format!("{name}{i}.npy"));
            assert!(
                convert("npy", &at, "npy", &Location::local(&out), &Default::default()).is_err()
            );
            assert!(!out.exists());
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn wide_rows_in_fortran_order() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
rng = np.random.default_rng(2)
for i, (shape, d) in enumerate([((40, 100, 100), '<i2'), ((7, 300, 400), '>f8'), ((300, 3000), '<c16'), ((500, 3, 5, 700), 'u1'), ((50, 4001), 'i4,f4,u1')]):
    a = np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(d).itemsize), d).reshape(shape)
    np.save(f'f{i}.npy', np.asfortranarray(a)); np.save(f'c{i}.npy', a)
"#,
    );
    for i in 0..5 {
        let read = |name: String| {
            let options = ReadOptions {
                resources: npk::format::Resources::new(2, 1 << 20),
                ..ReadOptions::default()
            };
            let source =
                by_name("npy").unwrap().open(&Location::local(dir.join(&name)), &options).unwrap();
            let mut got = vec![Vec::new(); source.plan().arrays.len()];
            let mut emit = |chunk: npk::model::Chunk| {
                let Values::Fixed(b) = &chunk.values else { panic!() };
                got[chunk.array].extend_from_slice(b);
                Ok(())
            };
            npk::pipe::drain(
                source,
                Order::ArrayByArray,
                &mut emit,
                &npk::pipe::Settings::new(3, 4 << 20),
            )
            .unwrap();
            got
        };
        assert!(read(format!("f{i}.npy")) == read(format!("c{i}.npy")), "{i}");
    }
}
