//! Packed stores: NumPack's own in, ours out to NumPack's unpack, damage.

use npk::error::ErrorKind;
use npk::format::{Compression, Existing, ReadOptions, WriteOptions};
use npk::formats::by_name;
use npk::model::{ArrayMeta, Dtype, Logical, TimeUnit};
use npk::storage::Location;

use super::store_support::*;
use crate::support::*;

fn compressed(name: &str) -> WriteOptions {
    WriteOptions {
        compression: Some(Compression { name: name.into(), level: None }),
        ..WriteOptions::default()
    }
}

/// What NumPack packed, with every compression, is what it loads from the store.
#[test]
#[ignore = "asks the real libraries"]
fn goldens_unpack() {
    let packages = goldens("npkg", "npkg");
    assert_eq!(packages.len(), 3);
    let out = Scratch::new();
    let mut code = String::from("import store\n");
    for (i, package) in packages.iter().enumerate() {
        convert(package, &out.join(&format!("{i}.npk")), "npk").unwrap();
        by_name("npkg")
            .unwrap()
            .verify(&Location::local(package), &ReadOptions::default())
            .unwrap();
        code += &format!(
            "assert store.npkref.main(['compare', '{i}.npk', {:?}]) == 0\n",
            fixture("good/npkg/deleted.npz")
        );
    }
    python(out.path(), &code);
}

/// Every golden store packed by us: NumPack's unpack makes a store of it that holds the same,
/// segmented arrays too.
#[test]
#[ignore = "asks the real libraries"]
fn numpack_unpacks_what_we_pack() {
    let out = Scratch::new();
    let mut code = String::from("import store, package07\n");
    for (i, golden) in goldens("npk", "npk").iter().enumerate() {
        for method in ["zstd", "zlib", "none"] {
            let name = format!("{i}-{method}.npkg");
            convert_with(golden, &out.join(&name), "npkg", &compressed(method)).unwrap();
            if method == "zlib" {
                code += "package07.package_io._HAS_ZSTD = False\n";
            }
            code += &format!(
                "package07.unpack({name:?}, '{i}-{method}.npk')\npackage07.package_io._HAS_ZSTD = True\n"
            );
            code += &format!(
                "assert store.npkref.main(['compare', '{i}-{method}.npk', {:?}]) == 0\n",
                golden.with_extension("npz")
            );
            // And we read it ourselves.
            let (a, b) = (read(golden).unwrap(), read(&out.join(&name)).unwrap());
            assert_eq!((a.bytes, a.plan.arrays.len()), (b.bytes, b.plan.arrays.len()));
        }
    }
    python(out.path(), &code);
}

/// Names that `unpack` is afraid of, members past every limit, the side file; then back from what
/// NumPack packs.
#[test]
#[ignore = "asks the real libraries"]
fn sizes_names_and_the_side_file() {
    let out = Scratch::new();
    let mut when = ArrayMeta::new("when", Dtype::I64, &[2]);
    when.logical = Logical::Timestamp(TimeUnit::new("ns"), None);
    let noise: Vec<u8> =
        (0..3u64 << 20).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let arrays = vec![
        (when, vec![7; 16]),
        (ArrayMeta::new("a..b", Dtype::U8, &[3]), vec![1, 2, 3]),
        (ArrayMeta::new(".", Dtype::U8, &[1]), vec![9]),
        (ArrayMeta::new("../up/x", Dtype::U8, &[1]), vec![8]),
        (ArrayMeta::new("empty", Dtype::F32, &[0, 4]), vec![]),
        (ArrayMeta::new("one", Dtype::U8, &[]), vec![5]),
        (ArrayMeta::new("noise", Dtype::U8, &[3 << 20]), noise),
        (ArrayMeta::new("large", Dtype::U16, &[5 << 20]), sequence(10 << 20)),
    ];
    for method in ["zstd", "none", "zlib"] {
        let path = out.join(&format!("{method}.npkg"));
        write(&path, plan_of(&arrays), &arrays, &compressed(method)).unwrap();
        let back = read(&path).unwrap();
        for (i, (meta, bytes)) in arrays.iter().enumerate() {
            assert_eq!(back.plan.arrays[i].name, meta.name);
            assert_eq!(back.plan.arrays[i].type_name(), meta.type_name());
            assert_eq!(back.plan.arrays[i].shape(), meta.shape());
            assert!(back.bytes[i] == *bytes, "{method} {}", meta.name);
        }
    }
    assert!(std::fs::metadata(out.join("zstd.npkg")).unwrap().len() < 5 << 20);
    let code = "import package07, store\nfor m in ('zstd', 'none'):\n  package07.unpack(m + '.npkg')\n  b = store.npkref.load(m + '.npk')\n  assert len(b) == 8 and b['large'].shape == (5 << 20,) and bytes(b['a..b']) == bytes([1, 2, 3])\n  package07.pack(m + '.npk', m + '2.npkg', compression=m == 'zstd')\n";
    python(out.path(), code);
    for name in ["zstd2.npkg", "none2.npkg", "zstd.npk"] {
        let back = read(&out.join(name)).unwrap();
        assert_eq!(back.plan.arrays.len(), 8);
        // NumPack's pack leaves the side file out.
        assert_eq!(back.plan.arrays[0].logical.is_plain(), name.ends_with('g'));
        assert!(back.bytes[back.plan.position("large").unwrap()] == arrays[7].1);
    }
    assert_eq!(out.names().len(), 7, "{:?}", out.names());
}

#[test]
fn damage_is_told() {
    let out = Scratch::new();
    let path = out.join("m.npkg");
    for (i, package) in goldens("npkg", "npkg").iter().enumerate() {
        let original = std::fs::read(package).unwrap();
        let (mut told, right) = (0, read(package).unwrap());
        mutants(&original, 300, |bytes| {
            std::fs::write(&path, bytes).unwrap();
            match read(&path) {
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Refused), "{e}");
                    told += 1;
                }
                // The checksum is over everything but names: a bitmap may be lost with its name.
                Ok(all) => assert!(
                    all.bytes.iter().map(Vec::len).sum::<usize>()
                        <= 2 * right.bytes.iter().map(Vec::len).sum::<usize>()
                ),
            }
        });
        assert!(told > 150, "{i}: {told}");
    }
    for (path, says) in [
        ("../x", "leaves the store"),
        ("/x", "leaves the store"),
        ("a/../../x", "leaves the store"),
    ] {
        let mut bytes = b"NPKG\x02\0\0\0\0\x01\0\0\0".to_vec();
        bytes.extend((path.len() as u32).to_le_bytes());
        bytes.extend(path.as_bytes());
        bytes.extend([0; 20]);
        std::fs::write(out.join("x.npkg"), bytes).unwrap();
        let e = read(&out.join("x.npkg")).err().unwrap();
        assert!(e.kind() == ErrorKind::Corrupt && e.to_string().contains(says), "{e}");
    }
    // A member that says it unpacks to 2^60 bytes is no reason to allocate them.
    let mut bytes = std::fs::read(fixture("good/npkg/deleted_zstd.npkg")).unwrap();
    let at = bytes.windows(5).position(|w| w == b".npkd").unwrap() + 5;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    std::fs::write(out.join("x.npkg"), bytes).unwrap();
    assert_eq!(read(&out.join("x.npkg")).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn packages_are_not_added_to() {
    let out = Scratch::new();
    write(&out.join("x.npkg"), plan(vec![]), &[], &WriteOptions::default()).unwrap();
    assert!(read(&out.join("x.npkg")).unwrap().plan.arrays.is_empty());
    for existing in [Existing::Append, Existing::Merge { replace: true }] {
        let options = WriteOptions { existing, ..WriteOptions::default() };
        assert_eq!(
            write(&out.join("x.npkg"), plan(vec![]), &[], &options).err().unwrap().kind(),
            ErrorKind::Usage
        );
    }
    assert_eq!(
        write(&out.join("x.npkg"), plan(vec![]), &[], &WriteOptions::default())
            .err()
            .unwrap()
            .kind(),
        ErrorKind::Exists
    );
    let e = write(&out.join("y.npkg"), plan(vec![]), &[], &compressed("lz4")).err().unwrap();
    assert!(e.kind() == ErrorKind::Usage && out.names() == ["x.npkg"], "{e}");
}
