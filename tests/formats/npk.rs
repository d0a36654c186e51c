//! Stores: NumPack's own in, ours out to NumPack, damage, side file.

use std::path::{Path, PathBuf};

use npk::error::ErrorKind;
use npk::format::{Existing, Order, WriteOptions};
use npk::model::{
    ArrayMeta, Categories, CategoryKind, Chunk, Column, Dtype, EncodedArray, Encoding, Logical,
    Table, TimeUnit,
};

use super::store_support::*;
use crate::support::*;

/// Every golden store, through the library into a fresh store: what npkref reads from it is what
/// NumPack loaded.
#[test]
#[ignore = "asks the real libraries"]
fn goldens_round_trip() {
    let stores: Vec<PathBuf> = goldens("npk", "npk");
    assert!(stores.len() >= 15, "{stores:?}");
    let out = Scratch::new();
    let mut code = String::from("import subprocess, sys, store, numpy as np\n");
    for golden in &stores {
        let version = golden.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let name = format!("{version}-{}", golden.file_name().unwrap().to_string_lossy());
        convert(golden, &out.join(&name), "npk").unwrap();
        let npz = golden.with_extension("npz");
        code +=
            &format!("assert store.npkref.main(['compare', {name:?}, {npz:?}]) == 0, {name:?}\n");
        code += &format!(
            "assert store.npkref.main(['compare', {golden:?}, {npz:?}]) == 0, {golden:?}\n"
        );
        code += &format!(
            "a = store.numpack_arrays({name:?}); b = np.load({npz:?})\nassert sorted(a) == sorted(b.files), {name:?}\nfor k in a: assert a[k].tobytes() == b[k].tobytes() and a[k].dtype == b[k].dtype, (k, {name:?})\n"
        );
    }
    python(out.path(), &code);
}

#[test]
#[ignore = "asks the real libraries"]
fn numpack_loads_every_shape_and_name() {
    let out = Scratch::new();
    let names =
        ["plain", "with space", "a.b", "名前", "a:b", ".hidden", "%41", "a%2Fb", "é", "x y.z-1"];
    let mut arrays = Vec::new();
    for (i, name) in names.iter().enumerate() {
        arrays.push((ArrayMeta::new(*name, Dtype::I16, &[i as u64, 3]), sequence(i * 6)));
    }
    for (i, dtype) in Dtype::NUMPY.iter().enumerate() {
        let item = dtype.item_bytes() as usize;
        let shape = [[2u64, 0, 3], [0, 4, 1], [3, 2, 1]][i % 3];
        let n = (shape[0] * shape[1] * shape[2]) as usize * item;
        let bytes = if *dtype == Dtype::Bool { vec![1; n] } else { sequence(n) };
        arrays.push((ArrayMeta::new(format!("d{i}"), *dtype, &shape), bytes));
    }
    arrays.push((ArrayMeta::new("scalar", Dtype::F64, &[]), 2.5f64.to_le_bytes().to_vec()));
    arrays.push((ArrayMeta::new("big", Dtype::U8, &[(3 << 20) + 5]), sequence((3 << 20) + 5)));
    write_new(&out.join("s.npk"), &arrays);
    assert!(out.join("s.npk/npk.json").exists(), "the scalar must be recorded");
    let back = read(&out.join("s.npk")).unwrap();
    assert_eq!(back.plan.arrays.len(), arrays.len());
    for (i, (meta, bytes)) in arrays.iter().enumerate() {
        assert_eq!(back.plan.arrays[i].name, meta.name);
        assert_eq!(back.plan.arrays[i].shape(), meta.shape());
        assert_eq!(&back.bytes[i], bytes, "{}", meta.name);
    }
    python(
        out.path(),
        "import store, numpy as np\na = store.numpack_arrays('s.npk'); b = store.npkref.load('s.npk')\nassert sorted(a) == sorted(b) and len(a) == 26, len(a)\nfor k in a: assert a[k].tobytes() == b[k].tobytes() and a[k].dtype == b[k].dtype and a[k].shape == b[k].shape, k\nassert a['scalar'].shape == (1,) and a['scalar'][0] == 2.5\nassert a['a%2Fb'].shape == (7, 3)\n",
    );
}

/// Names that are no file names, that meet in one file, that pass 255 bytes.
#[test]
#[ignore = "asks the real libraries"]
fn odd_names_keep_apart() {
    let out = Scratch::new();
    let long = "n".repeat(300);
    let long2 = format!("{}x", "n".repeat(299));
    let names: Vec<&str> = vec![
        "a/b", "a%2Fb", "A/B", "w", "W", "a\nb", "..", ".", "../../x", "nul\0", &long, &long2, "Ä",
        "ä", "AB", "ab", "Ab", "aB",
    ];
    let arrays: Vec<(ArrayMeta, Vec<u8>)> = names
        .iter()
        .enumerate()
        .map(|(i, n)| (ArrayMeta::new(*n, Dtype::U8, &[2]), vec![i as u8, 7]))
        .collect();
    write_new(&out.join("s.npk"), &arrays);
    let mut files: Vec<String> = std::fs::read_dir(out.join("s.npk"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.len(), names.len() + 1);
    for plain in ["data_w.npkd", "data_a%2Fb.npkd", "data_...npkd", "data_AB.npkd"] {
        assert!(files.iter().any(|f| f == plain), "{plain} {files:?}");
    }
    files.iter_mut().for_each(|f| *f = f.to_lowercase());
    files.sort();
    files.dedup();
    assert_eq!(files.len(), names.len() + 1, "some differ only in case");
    let back = read(&out.join("s.npk")).unwrap();
    for (i, name) in names.iter().enumerate() {
        assert_eq!(back.plan.arrays[i].name, *name);
        assert_eq!(back.bytes[i], [i as u8, 7]);
    }
    assert_eq!(out.names(), ["s.npk"]);
    python(out.path(), "import store\nb = store.npkref.load('s.npk')\nassert len(b) == 18\n");
}

/// Masks, codes, offsets, widened floats, times, dictionaries, scalars, tables: recorded and folded
/// back.
#[test]
#[ignore = "asks the real libraries"]
fn side_file_folds_back() {
    let out = Scratch::new();
    let texts: Vec<Vec<u8>> = vec![b"Oslo".to_vec(), vec![0xFF, 0], b"".to_vec()];
    let i32s = |v: &[i32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let i64s = |v: &[i64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut when = ArrayMeta::new("when", Dtype::I64, &[3]);
    when.logical = Logical::Timestamp(TimeUnit::new("us"), Some("UTC".into()));
    when.nulls = true;
    let mut text = ArrayMeta::new("city", Dtype::U8, &[3]);
    (text.logical, text.nulls) = (Logical::Binary, true);
    let mut words = ArrayMeta::new("words", Dtype::U8, &[3]);
    words.logical = Logical::Text;
    let mut list = ArrayMeta::new("list", Dtype::I32, &[2]);
    list.logical = Logical::List;
    let mut dict = ArrayMeta::new("dict", Dtype::I32, &[3]);
    let fixed = CategoryKind::Fixed(Dtype::I64, Some("timestamp[us]".into()));
    dict.logical = Logical::Dictionary {
        categories: Categories::new(fixed, vec![i64s(&[5]), i64s(&[-1])]),
        ordered: true,
    };
    let mut day = ArrayMeta::new("day", Dtype::I32, &[1]);
    day.logical = Logical::Date32;
    day.details.attributes.insert("units".into(), "days".into());
    let mut packed = ArrayMeta::new("packed", Dtype::U8, &[2]);
    packed.logical = Logical::Packed { dtype: "F4".into(), shape: vec![4] };
    let bits = ArrayMeta::new("bits", Dtype::Bf16, &[2]);
    let wide = ArrayMeta::new("wide", Dtype::Bf16, &[2]);
    let arrays = vec![
        (when.clone(), i64s(&[1, 0, 3])),
        (ArrayMeta::new("when.valid", Dtype::Bool, &[3]), vec![1, 0, 1]),
        (ArrayMeta::new("city", Dtype::I32, &[3]), i32s(&[1, -1, 0])),
        (ArrayMeta::new("words.offsets", Dtype::I64, &[4]), i64s(&[0, 2, 2, 5])),
        (ArrayMeta::new("words.bytes", Dtype::U8, &[5]), b"abcde".to_vec()),
        (ArrayMeta::new("list.offsets", Dtype::I64, &[3]), i64s(&[0, 1, 3])),
        (ArrayMeta::new("list.values", Dtype::I32, &[3]), i32s(&[7, 8, 9])),
        (dict, i32s(&[0, 1, 0])),
        (day, i32s(&[9])),
        (packed, vec![0x12, 0x34]),
        (ArrayMeta::new("bits", Dtype::U16, &[2]), vec![0x80, 0x3F, 0, 0]),
        (ArrayMeta::new("wide", Dtype::F32, &[2]), vec![0, 0, 0x80, 0x3F, 0, 0, 0, 0]),
        (ArrayMeta::new("one", Dtype::I32, &[]), i32s(&[42])),
    ];
    let mut plan = plan_of(&arrays);
    let encoded =
        |meta: &ArrayMeta, encoding, values: &str, offsets: Option<&str>, valid: Option<&str>| {
            EncodedArray {
                meta: meta.clone(),
                encoding,
                values: values.into(),
                offsets: offsets.map(Into::into),
                valid: valid.map(Into::into),
            }
        };
    plan.encoded = vec![
        encoded(&when, Encoding::Plain, "when", None, Some("when.valid")),
        encoded(
            &text,
            Encoding::Codes(Categories::new(CategoryKind::Binary, texts.clone())),
            "city",
            None,
            None,
        ),
        encoded(&words, Encoding::Offsets, "words.bytes", Some("words.offsets"), None),
        encoded(&list, Encoding::Offsets, "list.values", Some("list.offsets"), None),
        encoded(&bits, Encoding::Bits, "bits", None, None),
        encoded(&wide, Encoding::Widened, "wide", None, None),
    ];
    plan.tables.push(Table {
        columns: vec![
            Column { array: "when".into(), header: "".into() },
            Column { array: "city".into(), header: "City".into() },
        ],
        index: vec!["words".into()],
        matrix: None,
        metadata: serde_json::from_str(r#"{"pandas": "{}"}"#).unwrap(),
    });
    plan.attributes.insert("k".into(), "v".into());
    plan.groups.insert("/g".into(), serde_json::from_str(r#"{"n": 1.5}"#).unwrap());
    write(&out.join("s.npk"), plan, &arrays, &WriteOptions::default()).unwrap();
    let back = read(&out.join("s.npk")).unwrap();
    assert!(back.plan.notes.is_empty(), "{:?}", back.plan.notes);
    let types: Vec<(String, String)> =
        back.plan.arrays.iter().map(|a| (a.name.clone(), a.type_name())).collect();
    let expected = [
        ("when", "timestamp[us, UTC]?"),
        ("city", "binary?"),
        ("words", "string"),
        ("list", "list<int32>"),
        ("dict", "dictionary<int32, timestamp[us]>"),
        ("day", "date32"),
        ("packed", "F4"),
        ("bits", "bfloat16"),
        ("wide", "bfloat16"),
        ("one", "int32"),
    ];
    assert_eq!(types, expected.map(|(a, b)| (a.to_string(), b.to_string())));
    assert_eq!(back.texts[1], [Some(vec![0xFF, 0]), None, Some(b"Oslo".to_vec())]);
    assert_eq!(back.texts[2], [Some(b"ab".to_vec()), Some(vec![]), Some(b"cde".to_vec())]);
    assert_eq!(back.texts[3], [Some(i32s(&[7])), Some(i32s(&[8, 9]))]);
    assert_eq!(back.masks[0], [1, 0, 1]);
    assert_eq!(back.plan.arrays[8].original_dtype, Some(Dtype::Bf16));
    assert_eq!(back.plan.arrays[9].shape(), Some(vec![]));
    let Logical::Dictionary { categories, ordered } = &back.plan.arrays[4].logical else {
        panic!()
    };
    assert!(*ordered && categories.snapshot() == [i64s(&[5]), i64s(&[-1])]);
    assert_eq!(back.plan.arrays[5].details.attributes["units"], "days");
    assert_eq!(back.plan.tables[0].columns[0].header, "");
    assert_eq!(back.plan.tables[0].index, ["words"]);
    assert_eq!(back.plan.attributes["k"], "v");
    assert_eq!(back.plan.groups["/g"]["n"], 1.5);

    // NumPack changes one array: only its entry is dropped, and said so.
    python(
        out.path(),
        "import numpack, numpy as np\nwith numpack.NumPack('s.npk') as s: s.append({'when': np.array([4], 'i8')})\n",
    );
    let changed = read(&out.join("s.npk")).unwrap();
    assert_eq!(changed.plan.arrays.iter().filter(|a| a.name.starts_with("when")).count(), 2);
    assert!(changed.plan.notes.iter().any(|n| n.contains("when")), "{:?}", changed.plan.notes);
    assert_eq!(changed.texts[changed.plan.position("city").unwrap()], back.texts[1]);

    // Without the side file they are plain arrays.
    std::fs::remove_file(out.join("s.npk/npk.json")).unwrap();
    assert_eq!(read(&out.join("s.npk")).unwrap().plan.arrays.len(), 13);
}

/// Every cut and flip of the metadata, the side file, a bitmap and a manifest: an error or arrays,
/// never a panic.
#[test]
fn damage_is_told() {
    let out = Scratch::new();
    for (golden, file) in [
        ("good/npk/v0.7.0/dtypes.npk", "metadata.npkm"),
        ("good/npk/v0.7.0/segmented_deleted.npk", "metadata.npkm"),
        ("good/npk/v0.7.0/segmented_deleted.npk", "data_x.npkseg"),
        ("good/npk/v0.7.0/segmented_deleted.npk", "deleted_x.npkb"),
    ] {
        let store = out.join("s.npk");
        let _ = std::fs::remove_dir_all(&store);
        copy_dir(&fixture(golden), &store);
        let original = std::fs::read(store.join(file)).unwrap();
        let mut told = 0;
        mutants(&original, 400, |bytes| {
            std::fs::write(store.join(file), bytes).unwrap();
            match read(&store) {
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Refused), "{e}");
                    told += 1;
                }
                Ok(all) => assert!(all.bytes.iter().map(Vec::len).sum::<usize>() < 1 << 20),
            }
        });
        assert!(told > 100, "{file}: {told}");
    }
    // The side file never makes a store unreadable.
    let store = out.join("side.npk");
    let mut when = ArrayMeta::new("when", Dtype::I64, &[1]);
    when.logical = Logical::Timestamp(TimeUnit::new("us"), None);
    write(&store, plan(vec![when.clone()]), &[(when, vec![0; 8])], &WriteOptions::default())
        .unwrap();
    let original = std::fs::read(store.join("npk.json")).unwrap();
    mutants(&original, 400, |bytes| {
        std::fs::write(store.join("npk.json"), bytes).unwrap();
        assert_eq!(read(&store).unwrap().plan.arrays.len(), 1);
    });
}

#[test]
fn hostile_stores_are_refused_by_the_number() {
    let out = Scratch::new();
    let entry = |name: &str, shape: &[u64], file: &str, bytes: u64, code: u8, algorithm: u8| {
        let mut e = Vec::new();
        e.extend((name.len() as u32).to_le_bytes());
        e.extend(name.as_bytes());
        e.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|d| e.extend(d.to_le_bytes()));
        e.extend((file.len() as u32).to_le_bytes());
        e.extend(file.as_bytes());
        e.extend(0u64.to_le_bytes());
        e.extend(bytes.to_le_bytes());
        e.extend([code, algorithm]);
        e.extend([0; 21]);
        e
    };
    let good = entry("good", &[2], "data_good.npkd", 2, 1, 0);
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        ("parent", entry("x", &[1], "../x.npkd", 1, 1, 0), ErrorKind::Corrupt, "leaves the store"),
        (
            "absolute",
            entry("x", &[1], "/etc/passwd", 1, 1, 0),
            ErrorKind::Corrupt,
            "leaves the store",
        ),
        ("inner", entry("x", &[1], "a/../../x", 1, 1, 0), ErrorKind::Corrupt, "leaves the store"),
        (
            "dtype",
            entry("x", &[1], "data_good.npkd", 4, 14, 0),
            ErrorKind::Corrupt,
            "dtype code 14",
        ),
        (
            "overflow",
            entry("x", &[1 << 40, 1 << 40], "data_good.npkd", 0, 1, 0),
            ErrorKind::Corrupt,
            "too large",
        ),
        (
            "short",
            entry("x", &[3], "data_good.npkd", 3, 1, 0),
            ErrorKind::Corrupt,
            "has 2 bytes, expected 3",
        ),
        ("size", entry("x", &[2], "data_good.npkd", 3, 1, 0), ErrorKind::Corrupt, "3 bytes"),
        ("gone", entry("x", &[2], "data_x.npkd", 2, 1, 0), ErrorKind::Corrupt, "no data_x.npkd"),
        ("zstd", entry("x", &[2], "data_good.npkd", 2, 1, 1), ErrorKind::Refused, "compressed"),
    ];
    for (case, bad, kind, says) in cases {
        let store = out.join(&format!("{case}.npk"));
        std::fs::create_dir(&store).unwrap();
        std::fs::write(store.join("data_good.npkd"), [1, 2]).unwrap();
        let mut all = b"NPKB\0\0\0\0".to_vec();
        all[..4].copy_from_slice(&0x424B_504Eu32.to_le_bytes());
        all[4] = 1;
        all.extend(0u64.to_le_bytes());
        all.extend(2u32.to_le_bytes());
        all.extend(&good);
        all.extend(bad);
        std::fs::write(store.join("metadata.npkm"), all).unwrap();
        // The good one is read all the same.
        let source = open(&store).unwrap();
        assert_eq!(source.plan().arrays.len(), 2, "{case}");
        source.select(&[0], Order::Any).unwrap();
        let e = source.select(&[1], Order::Any).unwrap_err();
        assert!(
            e.kind() == kind && e.to_string().contains(says) && e.array_name() == Some("x"),
            "{case}: {e:?}"
        );
    }
}

#[test]
fn a_failed_or_dropped_output_leaves_nothing() {
    let out = Scratch::new();
    let meta = ArrayMeta::new("x", Dtype::U8, &[4 << 20]);
    {
        let sink = begin(&out.join("s.npk"), &plan(vec![meta.clone()]), &WriteOptions::default());
        let sink = sink.unwrap();
        let _slots = sink.slots(0).unwrap();
        rows_of(sink.as_ref()).write(&Chunk::fixed(0, 0, 3, vec![1u8, 2, 3])).unwrap();
        assert_eq!(out.names().len(), 1);
    }
    assert!(out.names().is_empty());
    // Exists; and a folder that is no store is never replaced.
    write(
        &out.join("s.npk"),
        plan(vec![meta.clone()]),
        &[(meta.clone(), vec![1; 4 << 20])],
        &WriteOptions::default(),
    )
    .unwrap();
    let e = write(&out.join("s.npk"), plan(vec![]), &[], &WriteOptions::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exists);
    let replace = WriteOptions { existing: Existing::Replace, ..WriteOptions::default() };
    write(&out.join("s.npk"), plan(vec![]), &[], &replace).unwrap();
    assert!(read(&out.join("s.npk")).unwrap().plan.arrays.is_empty());
    std::fs::create_dir(out.join("mine")).unwrap();
    std::fs::write(out.join("mine/letter.txt"), "x").unwrap();
    assert_eq!(
        write(&out.join("mine"), plan(vec![]), &[], &replace).unwrap_err().kind(),
        ErrorKind::Exists
    );
    assert!(out.join("mine/letter.txt").exists());
}

/// Thousands of arrays with a few descriptors, in and out.
#[test]
fn many_arrays_need_few_descriptors() {
    let out = Scratch::new();
    let arrays = many_arrays(2_000, 70);
    write_new(&out.join("a.npk"), &arrays);
    convert(&out.join("a.npk"), &out.join("b.npk"), "npk").unwrap();
    let source = open(&out.join("b.npk")).unwrap();
    assert_eq!(source.plan().arrays.len(), arrays.len());
    let back = read(&out.join("b.npk")).unwrap();
    for (i, (meta, bytes)) in arrays.iter().enumerate() {
        assert_eq!((&back.plan.arrays[i].name, &back.bytes[i]), (&meta.name, bytes));
    }
    let open_files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open_files < 500, "{open_files}");
}

/// Unknown row counts: written as they come, the metadata say how many there were.
#[test]
fn rows_may_be_unknown() {
    let out = Scratch::new();
    let mut meta = ArrayMeta::new("x", Dtype::U16, &[0, 2]);
    meta.rows = None;
    let mut started = plan(vec![meta]);
    let sink = begin(&out.join("s.npk"), &started, &WriteOptions::default()).unwrap();
    let writer = rows_of(sink.as_ref());
    for i in 0..5u64 {
        writer.write(&Chunk::fixed(0, i * 3, 3, vec![i as u8; 12])).unwrap();
    }
    started.arrays[0].rows = Some(15);
    sink.finish(&started).unwrap();
    let back = read(&out.join("s.npk")).unwrap();
    assert_eq!(back.plan.arrays[0].shape(), Some(vec![15, 2]));
    assert_eq!(back.bytes[0].len(), 60);
}

#[test]
fn links_and_foreign_files() {
    let out = Scratch::new();
    let golden = fixture("good/npk/v0.7.0/ranks.npk");
    copy_dir(&golden, &out.join("s.npk"));
    std::fs::write(out.join("s.npk/notes.txt"), "mine").unwrap();
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(out.join("s.npk").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "odd")
        .unwrap();
    std::os::unix::fs::symlink("s.npk", out.join("link.npk")).unwrap();
    let (a, b) = (read(&out.join("s.npk")).unwrap(), read(&out.join("link.npk")).unwrap());
    assert_eq!(a.bytes, b.bytes);
    assert_eq!(a.bytes, read(&golden).unwrap().bytes);
    // A FIFO in the place of a data file must not hang.
    std::fs::remove_file(out.join("s.npk/data_rank1.npkd")).unwrap();
    std::process::Command::new("mkfifo").arg(out.join("s.npk/data_rank1.npkd")).status().unwrap();
    let source = open(&out.join("s.npk")).unwrap();
    let i = source.plan().position("rank1").unwrap();
    assert_eq!(source.select(&[i], Order::Any).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// FIFOs and devices in the places of a store's files, or of what an append would leave: named,
/// never waited for.
#[test]
fn fifos_and_devices_are_not_read() {
    let out = Scratch::new();
    let golden = fixture("good/npk/v0.7.0/segmented_deleted.npk");
    let fifo = |at: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(at).status().unwrap().success())
    };
    let zero = |at: &Path| std::os::unix::fs::symlink("/dev/zero", at).unwrap();
    let at = out.join("s.npk");
    for make in [&fifo as &dyn Fn(&Path), &zero] {
        for (name, told) in [
            (".npk-append", None),
            (".npk-append-metadata", None),
            (".npk-append-side-0123456789abcdef", None),
            ("npk.json", Some(7)),
            ("metadata.npkm", Some(3)),
            ("data_x.npkseg", Some(7)),
            ("data_x_segments/seg_000001.npkd", Some(7)),
            ("deleted_x.npkb", Some(7)),
        ] {
            copy_dir(&golden, &at);
            let _ = std::fs::remove_file(at.join(name));
            make(&at.join(name));
            for args in
                [&["inspect", "s.npk"][..], &["convert", "s.npk", "o.npz"], &["verify", "s.npk"]]
            {
                let output = npk_command().args(args).current_dir(out.path()).output().unwrap();
                let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
                assert_eq!(output.status.code(), told.or(Some(0)), "{name} {args:?}: {said}");
                assert!(
                    told.is_none_or(
                        |code| code == 3 || said.contains(name) && said.contains("a FIFO")
                    ),
                    "{name} {args:?}: {said}"
                );
            }
            std::fs::remove_dir_all(&at).unwrap();
            let _ = std::fs::remove_file(out.join("o.npz"));
        }
    }
}

/// Small files that are made long with holes: refused with the numbers, before anything of that
/// size is held.
#[test]
fn small_files_have_a_greatest_size() {
    let out = Scratch::new();
    let golden = fixture("good/npk/v0.7.0/segmented_deleted.npk");
    let at = out.join("s.npk");
    for (name, most) in
        [("metadata.npkm", 512u64 << 20), ("npk.json", 1 << 30), ("data_x.npkseg", 256 << 20)]
    {
        copy_dir(&golden, &at);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(at.join(name))
            .unwrap();
        file.set_len(most + 1).unwrap();
        let said = match open(&at) {
            Err(e) => format!("{:?} {e}", e.kind()),
            Ok(source) => {
                let e = source.plan().arrays[0].details.error.clone().unwrap();
                format!("{:?} {e}", e.kind())
            }
        };
        assert!(
            said.starts_with("Refused") && said.contains(&format!("{name} has {} bytes", most + 1)),
            "{said}"
        );
        assert!(said.contains(&format!("no more than {most} are read")), "{said}");
        std::fs::remove_dir_all(&at).unwrap();
    }
}
