//! Text of more than one dimension: codes of the same shape on the way, text of that shape again in
//! numpy, Zarr and HDF5.

use std::path::Path;

use npk::error::ErrorKind;
use npk::format::{Order, ReadOptions};
use npk::formats::by_name;
use npk::model::{Logical, Values, codes_of};
use npk::pipe::{self, Settings};
use npk::storage::Location;

use crate::support::library::{fifo, read_all};
use crate::support::{Scratch, at, inspect, npk, npk_fails, npy_bytes, python};

/// Arrays of text of all ranks, kinds and layouts; `want.json` has their elements in C order.
const MAKE: &str = r#"
import json, numpy as np, zarr, warnings
warnings.simplefilter('ignore')
r = np.random.default_rng(3)
words = np.array(['', 'a', 'b c', 'größe', '日本', 'x' * 30, '🦀', 'zero\0inside', 'end '])
def text(shape): return words[r.integers(0, len(words), shape)]
def byte(shape): return np.array([b'', b'a', b'\xff\x00\x01', b'abc', b' '])[r.integers(0, 5, shape)]
arrays = {
    'two': text((7, 5)), 'three': text((3, 4, 5)), 'fortran': np.asfortranarray(text((6, 9))), 'big': text((4, 3)).astype('>U30'),
    'bytes2': byte((5, 4)), 'bytes3f': np.asfortranarray(byte((2, 3, 4))), 'one_row': text((1, 50)), 'tall': text((3000, 2)),
    'none': text((0, 3)), 'narrow': np.zeros((4, 0), 'U3'), 'empty': np.zeros((3, 2), 'U0'), 'six': text((1, 2, 1, 3, 2, 1)),
    'flat': text((8,)), 'scalar': np.array('größe'), 'flatb': byte((6,)),
}
def listed(a): return [x.hex() if isinstance(x, bytes) else x.encode().hex() for x in a.reshape(-1).tolist()]
record = np.zeros((3, 2), [('n', 'i4'), ('t', 'U30', (2, 2)), ('b', 'S3')])
record['t'] = text((3, 2, 2, 2)); record['b'] = byte((3, 2))
point = np.zeros((), [('t', 'U30', (2, 3)), ('n', 'f4')]); point['t'] = text((2, 3))
want = {n: (list(a.shape), listed(a)) for n, a in arrays.items()}
want |= {'record.t': ([3, 2, 2, 2], listed(record['t'])), 'record.b': ([3, 2], listed(record['b'])), 'point.t': ([2, 3], listed(point['t']))}
json.dump(want, open('want.json', 'w'))
arrays |= {'record': record, 'point': point}
for n, a in arrays.items(): np.save(n + '.npy', a)
np.savez('stored.npz', **arrays); np.savez_compressed('deflated.npz', **arrays)
plain = {n: a for n, a in arrays.items() if a.dtype.names is None}
for v in (2, 3):
    g = zarr.open_group(f'padded{v}.zarr', mode='w', zarr_format=v)
    for n, a in plain.items():
        if a.dtype.itemsize and a.size: g.create_array(n, data=a.astype(a.dtype.newbyteorder('<')), chunks=tuple(max(1, (d + 1) // 2) for d in a.shape))
    if v == 2: g.create_array('record', data=record[['n', 'b']].astype([('n', 'i4'), ('b', 'S3')]), chunks=(2, 2))
    g = zarr.open_group(f'any{v}.zarr', mode='w', zarr_format=v)
    for n, a in plain.items():
        if a.dtype.kind == 'U' and a.size:
            for kind, chunks in [('narrow', tuple(max(1, (d + 1) // 2) for d in a.shape)), ('wide', tuple(2 if i == 0 else d for i, d in enumerate(a.shape)))]:
                z = g.create_array(f'{kind}/{n}', shape=a.shape, dtype='string' if v == 3 else str, chunks=chunks, fill_value='?')
                z[...] = np.array(a.tolist(), 'T' if v == 3 else object)
    if v == 3:
        a = plain['tall']
        z = g.create_array('sharded/tall', shape=a.shape, dtype='string', chunks=(100, 1), shards=(1000, 2)); z[...] = np.array(a.tolist(), 'T')
        z = g.create_array('missing/tall', shape=(5, 3), dtype='string', chunks=(2, 2), fill_value='?'); z[0, 0] = 'here'
"#;

type Elements = (Vec<u64>, Vec<String>);

/// Shapes and elements of all text in a file, as hexadecimal; of codes those of their categories.
fn elements(
    format: &str,
    location: &Location,
    memory_bytes: u64,
) -> std::collections::BTreeMap<String, Elements> {
    let options = ReadOptions {
        resources: npk::format::Resources::new(2, memory_bytes),
        ..ReadOptions::default()
    };
    let source = by_name(format).unwrap().open(location, &options).unwrap();
    let metas = source.plan().arrays.clone();
    let mut all: Vec<Vec<String>> = vec![Vec::new(); metas.len()];
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut take = |chunk: npk::model::Chunk| {
        let (meta, out) = (&metas[chunk.array], &mut all[chunk.array]);
        match (&chunk.values, &meta.logical) {
            (Values::Var { .. }, _) => {
                out.extend((0..chunk.rows as usize).map(|r| hex(chunk.text(r))))
            }
            (Values::Fixed(codes), Logical::Dictionary { categories, .. }) => {
                let items = categories.snapshot();
                out.extend(codes_of(codes, meta.dtype).iter().map(|&c| hex(&items[c as usize])));
            }
            _ => {}
        }
        Ok(())
    };
    pipe::drain(source, Order::ArrayByArray, &mut take, &Settings::new(2, memory_bytes)).unwrap();
    metas.into_iter().zip(all).map(|(m, e)| (m.name.clone(), (m.shape().unwrap(), e))).collect()
}

fn wanted(s: &Scratch) -> std::collections::BTreeMap<String, Elements> {
    serde_json::from_slice(&std::fs::read(s.join("want.json")).unwrap()).unwrap()
}

#[test]
#[ignore = "asks the real libraries"]
fn every_layout_is_read() {
    let s = Scratch::new();
    python(s.path(), MAKE);
    let want = wanted(&s);
    let check = |format: &str, location: &Location, what: &str| {
        for memory in [1 << 20, 64 << 20] {
            let got = elements(format, location, memory);
            let mut seen = 0;
            for (name, found) in &got {
                let key = name.split_once('/').map_or(name.as_str(), |(_, last)| last);
                if let Some(expected) = want
                    .get(name)
                    .or_else(|| want.get(key))
                    .filter(|_| !name.starts_with("missing"))
                {
                    assert!(
                        found == expected,
                        "{what}: {name}: {:?} …, expected {:?} …",
                        &found.0,
                        &expected.0
                    );
                    seen += 1;
                }
            }
            assert!(seen > 0, "{what}");
        }
    };
    for name in [
        "two", "three", "fortran", "big", "bytes2", "bytes3f", "one_row", "tall", "none", "narrow",
        "empty", "six", "record", "point",
    ] {
        let path = s.join(&format!("{name}.npy"));
        check("npy", &Location::local(&path), name);
        // From a pipe, codes are given as the rows come.
        let bytes = std::fs::read(&path).unwrap();
        let got = elements("npy", &fifo(&s.join(&format!("{name}.fifo")), bytes), 64 << 20);
        let of_file = elements("npy", &Location::local(&path), 64 << 20);
        assert!(got.values().eq(of_file.values()), "{name}");
    }
    for file in ["stored.npz", "deflated.npz"] {
        check("npz", &Location::local(s.join(file)), file);
        assert_eq!(
            elements("npz", &Location::local(s.join(file)), 64 << 20).len(),
            15 + 3 + 2,
            "{file}"
        );
    }
    for file in ["padded2.zarr", "padded3.zarr", "any2.zarr", "any3.zarr"] {
        check("zarr", &Location::local(s.join(file)), file);
    }
    let missing =
        &elements("zarr", &Location::local(s.join("any3.zarr")), 64 << 20)["missing/tall"];
    assert_eq!(
        (missing.1[0].as_str(), missing.1[1].as_str(), missing.1[14].as_str()),
        ("68657265", "3f", "3f")
    );
}

/// Categories are in order of appearance, whatever the order of chunks in the file.
#[test]
#[ignore = "asks the real libraries"]
fn categories_come_in_order_of_appearance() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, zarr
a = np.array([['d', 'a', 'c', 'b'], ['a', 'e', 'd', 'f']])
np.save('a.npy', a); np.save('f.npy', np.asfortranarray(a)); np.savez_compressed('a.npz', a=a)
zarr.create_array('a.zarr', data=a, chunks=(2, 1), zarr_format=2)
",
    );
    for (format, file) in [("npy", "a.npy"), ("npy", "f.npy"), ("npz", "a.npz"), ("zarr", "a.zarr")]
    {
        let plan = read_all(format, &s.join(file)).unwrap();
        let Logical::Dictionary { categories, ordered: false } = &plan.arrays[0].logical else {
            panic!("{:?}", plan.arrays[0])
        };
        let text: Vec<String> =
            categories.snapshot().into_iter().map(|c| String::from_utf8(c).unwrap()).collect();
        assert_eq!(text, ["d", "a", "c", "b", "e", "f"], "{file}");
        assert_eq!(plan.arrays[0].shape(), Some(vec![2, 4]));
    }
}

/// Over every format that holds it and home again: the same npy file, byte for byte.
#[test]
#[ignore = "asks the real libraries"]
fn there_and_back() {
    let s = Scratch::new();
    python(s.path(), MAKE);
    for name in [
        "two", "three", "bytes2", "tall", "one_row", "six", "none", "narrow", "flat", "flatb",
        "scalar",
    ] {
        let source = at(&s, &format!("{name}.npy"));
        // As numpy writes the array when it is as wide as its longest text, in C order.
        python(
            s.path(),
            &format!(
                "import numpy as np\na = np.load('{name}.npy'); w = max([len(x) for x in a.reshape(-1).tolist()] + [1])\n\
                 np.save('want.npy', np.ascontiguousarray(a.astype(a.dtype.kind + str(w))).reshape(a.shape))"
            ),
        );
        let want = std::fs::read(s.join("want.npy")).unwrap();
        for middle in [
            "m.npk",
            "m.npkg",
            "m.npz",
            "plain.npz",
            "m.npy",
            "m.zarr",
            "m2.zarr",
            "sharded.zarr",
            "m.zarr.zip",
        ] {
            let args: &[&str] = match middle {
                "m2.zarr" => &["--zarr-format", "2"],
                "plain.npz" => &["-c", "none"],
                "sharded.zarr" if name == "tall" => {
                    &["--chunk-shape", "100,1", "--shard-shape", "1000,2"]
                }
                _ => &[],
            };
            npk(&[&["convert", "-q", "-f", "--verify", &source, &at(&s, middle)][..], args]
                .concat());
            npk(&["convert", "-q", "-f", "--verify", &at(&s, middle), &at(&s, "back.npy")]);
            assert!(std::fs::read(s.join("back.npy")).unwrap() == want, "{name} over {middle}");
        }
        // To standard output the rows go in turn.
        let done = crate::support::npk_any(&["convert", "-q", &source, "-", "--to", "npy"]);
        assert!(
            done.status.success() && done.stdout == want,
            "{name}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    let checksum =
        |path: &Path| inspect(path)["arrays"][0]["checksum"].as_str().unwrap().to_string();
    let of = checksum(&s.join("two.npy"));
    for middle in ["two.npk", "two.npz", "two.zarr"] {
        npk(&["convert", "-q", &at(&s, "two.npy"), &at(&s, middle)]);
        assert_eq!(checksum(&s.join(middle)), of, "{middle}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn real_libraries_read_it() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np
a = np.array([['ab', 'c', ''], ['', 'déf', 'ab']]); b = np.array([[[b'x', b'yz']], [[b'', b'x']]])
np.savez('in.npz', a=a, b=b, c=np.arange(3)); np.savez('text.npz', a=a, **{'g/d': a[:, :2].reshape(1, 2, 2)})
",
    );
    for (out, args) in [("o.npz", &[][..]), ("o3.zarr", &[]), ("o2.zarr", &["--zarr-format", "2"])]
    {
        npk(&[&["convert", "-q", &at(&s, "in.npz"), &at(&s, out)][..], args].concat());
    }
    npk(&["convert", "-q", &at(&s, "text.npz"), &at(&s, "o.h5")]);
    npk(&["convert", "-q", &at(&s, "text.npz"), &at(&s, "none.h5"), "-c", "none"]);
    python(
        s.path(),
        "
import numpy as np, zarr, h5py, xarray as xr, warnings
warnings.simplefilter('ignore')
want = np.load('in.npz'); got = np.load('o.npz')
for n in want.files: assert got[n].dtype == want[n].dtype and (got[n] == want[n]).all() and got[n].shape == want[n].shape, n
for store in ('o2.zarr', 'o3.zarr'):
    g = zarr.open_group(store, mode='r')
    assert g['a'].shape == (2, 3) and np.asarray(g['a'][:]).astype('U3').tolist() == want['a'].tolist(), store
    assert [bytes(x) for x in np.asarray(g['b'][:]).reshape(-1)] == want['b'].reshape(-1).tolist(), store
    x = xr.open_zarr(store)
    assert x['a'].values.astype('U3').tolist() == want['a'].tolist()
for name in ('o.h5', 'none.h5'):
    f = h5py.File(name)
    assert f['a'].shape == (2, 3) and f['a'].asstr()[:].tolist() == want['a'].tolist()
    assert f['g/d'].asstr()[:].tolist() == want['a'][:, :2].reshape(1, 2, 2).tolist()
",
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn what_cannot_be_kept_is_refused() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, zarr
np.save('a.npy', np.array([['a', 'b']])); np.save('b.npy', np.array([[b'a', b'b']]))
g = zarr.open_group('z.zarr', mode='w'); z = g.create_array('t', shape=(1, 2), dtype='string', chunks=(1, 2)); z[0, 1] = 'x\\0'
open('bad.npy', 'wb').write(open('a.npy', 'rb').read()[:-4] + b'\\xff\\xff\\xff\\x7f')
",
    );
    for (source, out, word) in [
        ("a.npy", "o.safetensors", "text of 2 dimensions"),
        ("a.npy", "o.pt", "text of 2 dimensions"),
        ("b.npy", "o.h5", "bytes of 2 dimensions"),
        ("z.zarr", "o.npz", "ends with a zero"),
        ("z.zarr", "o.npy", "ends with a zero"),
    ] {
        let said = npk_fails(4, &["convert", &at(&s, source), &at(&s, out)]);
        assert!(
            said.contains(word) && said.contains("hint: ") && !s.join(out).exists(),
            "{source}: {said}"
        );
    }
    let error = read_all("npy", &s.join("bad.npy")).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Corrupt && error.message().contains("not a character"),
        "{error}"
    );
    let done = npk(&["convert", "-q", &at(&s, "z.zarr"), &at(&s, "o.npk")]);
    assert_eq!(done, "");
    npk(&["diff", &at(&s, "z.zarr"), &at(&s, "o.npk")]);
}

/// What differs is found by the texts, not by their codes.
#[test]
#[ignore = "asks the real libraries"]
fn differences_are_those_of_the_text() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, os
for d in 'xyz': os.mkdir(d)
np.save('x/a.npy', np.array([['a', 'b'], ['c', 'a']])); np.save('y/a.npy', np.array([['a', 'b'], ['d', 'a']]))
np.save('z/a.npy', np.asfortranarray(np.array([['a', 'b'], ['c', 'a']], 'U9')))
",
    );
    npk(&["diff", &at(&s, "x/a.npy"), &at(&s, "z/a.npy")]);
    let done = crate::support::npk_any(&["diff", &at(&s, "x/a.npy"), &at(&s, "y/a.npy")]);
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("'c'") && told.contains("'d'") && told.contains("[1, 0]"), "{told}");
    let stats = npk(&["inspect", "--json", "--stats", &at(&s, "x/a.npy")]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["arrays"][0]["stats"]["count"], 4);
}

/// Text of two dimensions beside an array that is made of several: each comes back as it was.
#[test]
fn beside_arrays_of_several_parts() {
    let s = Scratch::new();
    let text: Vec<u8> = "abcd".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    std::fs::write(s.join("u.npy"), npy_bytes("<U1", &[2, 2], &text)).unwrap();
    std::fs::write(s.join("t.npy"), npy_bytes("|S3", &[2], b"a\0\0xyz")).unwrap();
    for name in ["both.h5", "both.zarr", "both.npk"] {
        npk(&["convert", "-q", &at(&s, "u.npy"), &at(&s, "t.npy"), &at(&s, name)]);
        for array in ["u", "t"] {
            npk(&["convert", "-qf", &at(&s, name), "-a", array, &at(&s, "back.npy")]);
            let back = std::fs::read(s.join("back.npy")).unwrap();
            let wanted: &[u8] = if array == "u" { &text } else { b"a\0\0xyz" };
            assert_eq!(&back[128..], wanted, "{name} {array}");
        }
    }
}
