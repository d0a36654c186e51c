//! npz against numpy itself.

use std::path::Path;

use npk::error::ErrorKind;
use npk::format::{Compression, OnDuplicate, Order, ReadOptions, WriteOptions};
use npk::formats::by_name;
use npk::pipe::{self, Settings};
use npk::storage::Location;

use crate::support::library::{convert, convert_files, drain, failing_mutants, read_all};
use crate::support::{Scratch, python};

const MAKE: &str = r#"
import numpy as np
rng = np.random.default_rng(5)
t = {}
for d in ['?','u1','u2','u4','u8','i1','i2','i4','i8','f2','f4','f8','c8','c16','M8[us]','m8[D]','>f4','>c16']:
    for i, s in enumerate([(), (0,), (3,), (50, 30), (0, 4), (4, 0), (7, 5, 3)]):
        raw = rng.integers(0, 4, int(np.prod(s, dtype=int)) * np.dtype(d).itemsize, dtype='u1')
        t[f'{d}/{i}'] = np.asarray((raw & 1 if d == '?' else raw).view(d).reshape(s), order='CF'[i % 2])
t['größe'] = np.arange(3)
t['big'] = np.repeat(np.arange(40000, dtype='f8'), 50).reshape(-1, 5)
t['bigf'] = np.asfortranarray(rng.random((3000, 70)))
np.savez('stored.npz', **t); np.savez_compressed('deflated.npz', **t)
"#;

const COMPARE: &str = r#"
import numpy as np, zipfile, sys
a = np.load('stored.npz')
for f in FILES:
    assert zipfile.ZipFile(f).testzip() is None
    b = np.load(f)
    assert a.files == b.files and len(a.files) > 120
    for k in a.files:
        x, y = a[k], b[k]
        n = x.dtype.newbyteorder('<'); assert n == y.dtype.newbyteorder('<') and x.shape == y.shape and x.astype(n).tobytes() == y.astype(n).tobytes(), k
"#;

fn compression(name: &str, level: Option<i32>) -> WriteOptions {
    WriteOptions {
        compression: Some(Compression { name: name.into(), level }),
        ..WriteOptions::default()
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn both_ways() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let at = |name: &str| Location::local(dir.join(name));
    for from in ["stored", "deflated"] {
        let input = at(&format!("{from}.npz"));
        convert("npz", &input, "npz", &at(&format!("{from}.d.npz")), &WriteOptions::default())
            .unwrap();
        convert(
            "npz",
            &input,
            "npz",
            &at(&format!("{from}.0.npz")),
            &compression("deflate", Some(0)),
        )
        .unwrap();
        convert("npz", &input, "npz", &at(&format!("{from}.n.npz")), &compression("none", None))
            .unwrap();
    }
    let files =
        "['deflated.npz'] + [f'{a}.{b}.npz' for a in ('stored', 'deflated') for b in 'd0n']";
    python(dir.path(), &COMPARE.replace("FILES", files));
    // The same input gives the same bytes, and ours reads what ours wrote.
    assert_eq!(
        std::fs::read(dir.join("stored.d.npz")).unwrap(),
        std::fs::read(dir.join("deflated.d.npz")).unwrap()
    );
    convert_files("npz", &dir.join("stored.d.npz"), "npz", &dir.join("again.npz")).unwrap();
    python(dir.path(), &COMPARE.replace("FILES", "['again.npz']"));
    let size = |name: &str| std::fs::metadata(dir.join(name)).unwrap().len();
    assert!(
        size("stored.d.npz") < size("deflated.npz") * 11 / 10,
        "{} {}",
        size("stored.d.npz"),
        size("deflated.npz")
    );
    // Stored members can be mapped.
    python(
        dir.path(),
        r#"
import zipfile, struct
z = zipfile.ZipFile('stored.n.npz'); raw = open('stored.n.npz', 'rb').read()
for i in z.infolist():
    n, e = struct.unpack('<HH', raw[i.header_offset + 26:i.header_offset + 30])
    start = i.header_offset + 30 + n + e
    assert start % 64 == 0 and raw[start:start + 6] == b'\x93NUMPY', i
    assert i.compress_type == 0 and i.file_size == i.compress_size
"#,
    );
    assert!(compression("zstd", None).compression("npz", &[("deflate", Some(6))]).is_err());
    assert_eq!(
        convert("npz", &at("stored.npz"), "npz", &at("x.npz"), &compression("deflate", Some(12)))
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
}

/// Reads in an order, in tiny pieces, and returns the bytes of every array.
fn read_in(path: &Path, wish: Order, memory: u64) -> Vec<Vec<u8>> {
    let source =
        by_name("npz").unwrap().open(&Location::local(path), &ReadOptions::default()).unwrap();
    let mut got = vec![Vec::new(); source.plan().arrays.len()];
    let mut emit = |chunk: npk::model::Chunk| {
        let npk::model::Values::Fixed(b) = &chunk.values else { panic!() };
        got[chunk.array].extend_from_slice(b);
        Ok(())
    };
    pipe::drain(source, wish, &mut emit, &Settings::new(2, memory)).unwrap();
    got
}

#[test]
#[ignore = "asks the real libraries"]
fn every_order_gives_the_same() {
    let dir = Scratch::new();
    python(dir.path(), MAKE);
    let want = read_in(&dir.join("stored.npz"), Order::Any, 256 << 20);
    for file in ["stored.npz", "deflated.npz"] {
        for wish in [Order::Any, Order::ArrayByArray] {
            assert!(read_in(&dir.join(file), wish, 1 << 20) == want, "{file} {wish:?}");
        }
    }
    // Side by side: equal row counts.
    python(
        dir.path(),
        "import numpy as np; np.savez_compressed('t.npz', **{f'c{i}': np.arange(200000) * i for i in range(5)})",
    );
    let got = read_in(&dir.join("t.npz"), Order::RowBlocks, 1 << 20);
    let three: Vec<u8> = (0..200000i64).flat_map(|i| (3 * i).to_le_bytes()).collect();
    assert!(got[3] == three);
}

#[test]
#[ignore = "asks the real libraries"]
fn members_that_are_refused_leave_the_others() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np, zipfile
np.savez('x.npz', good=np.arange(3), obj=np.array([{}], dtype=object), rec=np.zeros(2, dtype=[('a', 'f4'), ('b', 'i2')]))
with zipfile.ZipFile('x.npz', 'a') as z:
    z.writestr('readme.txt', 'hello'); z.writestr('folder/', ''); z.writestr('../up.npy', b'no npy')
    z.writestr('lzma.npy', b'x' * 1000, zipfile.ZIP_LZMA)
np.savez_compressed('obj.npz', o=np.array([1, 'x'], dtype=object), s=np.array(['a', 'b']))
"#,
    );
    let format = by_name("npz").unwrap();
    for (file, names, bad) in [
        (
            "x.npz",
            vec!["good", "obj", "rec.a", "rec.b", "readme.txt", "../up", "lzma"],
            vec!["obj", "readme.txt", "../up", "lzma"],
        ),
        ("obj.npz", vec!["o", "s"], vec!["o"]),
    ] {
        let source =
            format.open(&Location::local(dir.join(file)), &ReadOptions::default()).unwrap();
        let metas = source.plan().arrays.clone();
        assert_eq!(metas.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), names);
        for (i, meta) in metas.iter().enumerate() {
            let wanted = source.select(&[i], Order::Any);
            assert_eq!(wanted.is_err(), bad.contains(&meta.name.as_str()), "{}", meta.name);
            if let Err(error) = wanted {
                assert!(
                    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Corrupt)
                        && error.array_name() == Some(&meta.name),
                    "{error}"
                );
            }
        }
        assert!(read_all("npz", &dir.join(file)).is_err());
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn repeated_names() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np, zipfile, io, warnings
warnings.simplefilter('ignore')
with zipfile.ZipFile('x.npz', 'w') as z:
    for i in range(3):
        b = io.BytesIO(); np.save(b, np.array([i], 'u1')); z.writestr('a.npy', b.getvalue())
"#,
    );
    let open = |on_duplicate| {
        by_name("npz").unwrap().open(
            &Location::local(dir.join("x.npz")),
            &ReadOptions { on_duplicate, ..Default::default() },
        )
    };
    let error = open(OnDuplicate::Error).err().unwrap();
    assert!(error.kind() == ErrorKind::Refused && error.array_name() == Some("a"), "{error}");
    for (how, want) in [
        (OnDuplicate::First, vec![("a", 0u8)]),
        (OnDuplicate::Last, vec![("a", 2)]),
        (OnDuplicate::Rename, vec![("a", 0), ("a_1", 1), ("a_2", 2)]),
    ] {
        let source = open(how).unwrap();
        let names: Vec<String> = source.plan().arrays.iter().map(|a| a.name.clone()).collect();
        let mut got = Vec::new();
        let mut emit = |c: npk::model::Chunk| {
            let npk::model::Values::Fixed(b) = &c.values else { panic!() };
            got.push((c.array, b[0]));
            Ok(())
        };
        pipe::drain(source, Order::ArrayByArray, &mut emit, &Settings::new(1, 1 << 20)).unwrap();
        let got: Vec<(&str, u8)> = got.iter().map(|&(a, v)| (names[a].as_str(), v)).collect();
        assert_eq!(got, want);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn damage_is_found() {
    let dir = Scratch::new();
    python(
        dir.path(),
        r#"
import numpy as np
a = np.arange(40000, dtype='f4').reshape(200, 200)
np.savez('s.npz', a=a, f=np.asfortranarray(a)); np.savez_compressed('d.npz', a=a, f=np.asfortranarray(a))
"#,
    );
    for file in ["s.npz", "d.npz"] {
        let good = std::fs::read(dir.join(file)).unwrap();
        read_all("npz", &dir.join(file)).unwrap();
        // One flipped bit anywhere in the members' bytes.
        let steps = 40;
        for i in 0..steps {
            let mut bytes = good.clone();
            let at = 300 + i * (good.len() - 900) / steps;
            bytes[at] ^= 16;
            std::fs::write(dir.join("bad.npz"), &bytes).unwrap();
            let error = read_all("npz", &dir.join("bad.npz")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{file} byte {at}: {error}");
            let out = dir.join("out.npz");
            assert!(
                convert_files("npz", &dir.join("bad.npz"), "npz", &out).is_err() && !out.exists()
            );
        }
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
t = dict(a=np.arange(60, dtype='f4').reshape(3, 20), f=np.asfortranarray(np.arange(60).reshape(3, 20)), u=np.array(['a', 'bc']), r=np.zeros(3, 'i4,f8'))
np.savez('s.npz', **t); np.savez_compressed('d.npz', **t)
"#,
    );
    for file in ["s.npz", "d.npz"] {
        let failed = failing_mutants("npz", &dir.join(file), &dir.join(file), 1000);
        assert!(failed > 700, "{file}: {failed}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn names_that_escape_are_not_written() {
    let dir = Scratch::new();
    python(
        dir.path(),
        "import numpy as np; from safetensors.numpy import save_file\nsave_file({'../x': np.zeros(1)}, 'x.safetensors'); save_file({'a/b.npy': np.zeros(1), 'ü': np.ones(2), 'bf..16': np.zeros(1)}, 'y.safetensors')",
    );
    let error = convert_files("safetensors", &dir.join("x.safetensors"), "npz", &dir.join("x.npz"))
        .unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && !dir.join("x.npz").exists());
    convert_files("safetensors", &dir.join("y.safetensors"), "npz", &dir.join("y.npz")).unwrap();
    python(
        dir.path(),
        "import numpy as np; z = np.load('y.npz'); assert sorted(z.files) == ['a/b.npy', 'bf..16', 'ü'], z.files; assert z['ü'].tolist() == [1, 1]",
    );
    let mut names = Vec::new();
    let plan = drain("npz", &dir.join("y.npz"), &mut |_| {}).unwrap();
    names.extend(plan.arrays.iter().map(|a| a.name.as_str()));
    names.sort();
    assert_eq!(names, ["a/b.npy", "bf..16", "ü"]);
}

#[test]
#[ignore = "asks the real libraries"]
fn zip64() {
    use npk::codec::zip::Archive;
    use npk::codec::zip::write::{Written, directory};
    use std::os::unix::fs::FileExt;
    // 70,000 members, the first of 5 GB, in a file of holes: only the headers are written.
    let dir = Scratch::new();
    let large = 5_000_000_000u64;
    let mut members = Vec::new();
    let mut offset = 0;
    for i in 0..70_000u64 {
        let bytes = if i == 0 { large } else { 10 };
        let member = Written {
            name: format!("a{i}.npy"),
            method: 0,
            offset,
            crc: 7,
            stored_bytes: bytes,
            bytes,
            descriptor: false,
        };
        offset += member.local(64).len() as u64 + bytes;
        members.push(member);
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("x.npz"))
        .unwrap();
    for i in [0, 1, 69_999] {
        file.write_all_at(&members[i].local(64), members[i].offset).unwrap();
    }
    file.write_all_at(&directory(&members, offset), offset).unwrap();
    let archive = Archive::open(npk::storage::file_blob(file).unwrap()).unwrap();
    assert_eq!((archive.entries.len(), archive.entries[0].bytes), (70_000, large));
    assert_eq!(archive.entries[69_999].name, "a69999.npy");
    let starts = archive.data_offsets(&[0, 1, 69_999]).unwrap();
    assert!(starts.iter().all(|s| s % 64 == 0) && starts[1] > large && starts[2] > starts[1]);
    python(
        dir.path(),
        "import zipfile\nz = zipfile.ZipFile('x.npz'); i = z.infolist(); assert len(i) == 70000 and i[0].file_size == 5000000000\nassert z.open('a69999.npy')._fileobj is not None and z.open('a0.npy').read(5) == bytes(5)",
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn many_members() {
    let dir = Scratch::new();
    python(
        dir.path(),
        "import numpy as np; from safetensors.numpy import save_file\nsave_file({f'a{i}': np.full(3, i, 'i4') for i in range(3000)}, 'in.safetensors')",
    );
    for (name, options) in [("d", WriteOptions::default()), ("n", compression("none", None))] {
        let out = dir.join(&format!("{name}.npz"));
        convert(
            "safetensors",
            &Location::local(dir.join("in.safetensors")),
            "npz",
            &Location::local(&out),
            &options,
        )
        .unwrap();
        assert_eq!(read_all("npz", &out).unwrap().arrays.len(), 3000);
    }
    python(
        dir.path(),
        "import numpy as np\nfor n in 'dn':\n z = np.load(n + '.npz'); assert len(z.files) == 3000 and all((z[f'a{i}'] == i).all() for i in range(3000))",
    );
}
