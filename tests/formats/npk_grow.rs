//! Rows appended to stores, arrays merged into them, and what is left when that ends badly.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use npk::error::ErrorKind;
use npk::format::{Existing, ReadOptions, WriteOptions};
use npk::formats::by_name;
use npk::model::{
    ArrayMeta, Categories, CategoryKind, Chunk, Dtype, EncodedArray, Encoding, Logical, Plan,
};
use npk::storage::Location;

use sha2::Digest as _;

use super::store_support::*;
use crate::support::*;

fn append() -> WriteOptions {
    WriteOptions { existing: Existing::Append, ..WriteOptions::default() }
}

fn merge(replace: bool) -> WriteOptions {
    WriteOptions { existing: Existing::Merge { replace }, ..WriteOptions::default() }
}

/// Every golden store appended to itself: deleted rows stay deleted, segments stay segments.
#[test]
#[ignore = "asks the real libraries"]
fn goldens_grow() {
    let out = Scratch::new();
    let mut code = String::from("import store, numpy as np, numpack\n");
    let mut judged = 0;
    for (i, golden) in goldens("npk", "npk").iter().enumerate() {
        let name = format!("{i}.npk");
        copy_dir(golden, &out.join(&name));
        convert_with(golden, &out.join(&name), "npk", &append()).unwrap();
        let npz = golden.with_extension("npz");
        code += &format!("b = np.load({npz:?}); a = store.npkref.load({name:?})\n");
        code += "assert sorted(a) == sorted(b.files)\nfor k in a:\n  c = np.concatenate([b[k], b[k]])\n  assert a[k].dtype == c.dtype and a[k].shape == c.shape and a[k].tobytes() == c.tobytes(), k\n";
        if !golden.join("data_x.npkseg").exists() {
            judged += 1;
            code += &format!(
                "a = store.numpack_arrays({name:?})\nfor k in b.files:\n  c = np.concatenate([b[k], b[k]])\n  assert a[k].tobytes() == c.tobytes(), k\n"
            );
            // NumPack appends to what we appended.
            code += &format!(
                "with numpack.NumPack({name:?}) as s: s.append({{k: b[k][:1] for k in b.files if len(b[k])}})\n"
            );
            code += &format!(
                "a = store.npkref.load({name:?})\nfor k in b.files:\n  c = np.concatenate([b[k], b[k], b[k][:1]])\n  assert a[k].tobytes() == c.tobytes(), k\n"
            );
        }
        let names: Vec<String> = std::fs::read_dir(out.join(&name))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|n| !n.starts_with(".npk")), "{names:?}");
    }
    assert!(judged >= 12, "{judged}");
    python(out.path(), &code);
}

fn i32s(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}
fn i64s(v: &[i64]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Text as codes, text as offsets, and numbers with or without nulls.
fn people(
    codes: &[i32],
    cities: &[&str],
    notes: &[&str],
    age: &[u8],
    valid: Option<&[u8]>,
) -> (Plan, Vec<(ArrayMeta, Vec<u8>)>) {
    let rows = codes.len() as u64;
    let mut city = ArrayMeta::new("city", Dtype::U8, &[rows]);
    (city.logical, city.nulls) = (Logical::Text, codes.contains(&-1));
    let mut note = ArrayMeta::new("note", Dtype::U8, &[rows]);
    note.logical = Logical::Text;
    let mut age_meta = ArrayMeta::new("age", Dtype::U8, &[rows]);
    age_meta.nulls = valid.is_some();
    let mut offsets = vec![0i64];
    notes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n.len() as i64));
    let bytes = notes.concat().into_bytes();
    let mut arrays = vec![
        (ArrayMeta::new("city", Dtype::I32, &[rows]), i32s(codes)),
        (ArrayMeta::new("note.offsets", Dtype::I64, &[rows + 1]), i64s(&offsets)),
        (ArrayMeta::new("note.bytes", Dtype::U8, &[bytes.len() as u64]), bytes),
        (ArrayMeta::new("age", Dtype::U8, &[rows]), age.to_vec()),
    ];
    let items = cities.iter().map(|c| c.as_bytes().to_vec()).collect();
    let mut encoded = vec![
        EncodedArray {
            meta: city,
            encoding: Encoding::Codes(Categories::new(CategoryKind::Text, items)),
            values: "city".into(),
            offsets: None,
            valid: None,
        },
        EncodedArray {
            meta: note,
            encoding: Encoding::Offsets,
            values: "note.bytes".into(),
            offsets: Some("note.offsets".into()),
            valid: None,
        },
    ];
    if let Some(valid) = valid {
        arrays.push((ArrayMeta::new("age.valid", Dtype::Bool, &[rows]), valid.to_vec()));
        encoded.push(EncodedArray {
            meta: age_meta,
            encoding: Encoding::Plain,
            values: "age".into(),
            offsets: None,
            valid: Some("age.valid".into()),
        });
    }
    (Plan { encoded, ..plan_of(&arrays) }, arrays)
}

#[test]
#[ignore = "asks the real libraries"]
fn text_and_nulls_grow() {
    let out = Scratch::new();
    let at = out.join("p.npk");
    let (plan, arrays) = people(&[0, 1], &["Oslo", "Rome"], &["a", "bb"], &[1, 2], None);
    write(&at, plan, &arrays, &WriteOptions::default()).unwrap();
    // Other categories, nulls for the first time; then none again; then only known ones.
    for (codes, cities, notes, age, valid) in [
        (
            &[0, -1, 1][..],
            &["Rome", "Bern"][..],
            &["", "ccc", "d"][..],
            &[3, 0, 5][..],
            Some(&[1u8, 0, 1][..]),
        ),
        (&[0], &["Oslo"], &["e"], &[6], None),
        (&[], &[], &[], &[], None),
    ] {
        let (plan, arrays) = people(codes, cities, notes, age, valid);
        write(&at, plan, &arrays, &append()).unwrap();
    }
    let back = read(&at).unwrap();
    assert!(back.plan.notes.is_empty(), "{:?}", back.plan.notes);
    let names: Vec<String> =
        back.plan.arrays.iter().map(|a| format!("{} {}", a.name, a.type_name())).collect();
    assert_eq!(names, ["city string?", "note string", "age uint8?"]);
    let text =
        |v: &[Option<&str>]| v.iter().map(|t| t.map(|t| t.as_bytes().to_vec())).collect::<Vec<_>>();
    assert_eq!(
        back.texts[0],
        text(&[Some("Oslo"), Some("Rome"), Some("Rome"), None, Some("Bern"), Some("Oslo")])
    );
    assert_eq!(back.texts[1], text(&["a", "bb", "", "ccc", "d", "e"].map(Some)));
    assert_eq!(back.bytes[2], [1, 2, 3, 0, 5, 6]);
    assert_eq!(back.masks[2], [1, 1, 1, 0, 1, 1]);
    python(
        out.path(),
        "import store\na = store.npkref.load('p.npk')\nassert a['note.offsets'].tolist() == [0, 1, 3, 3, 6, 7, 8] and a['age.valid'].tolist() == [1, 1, 1, 0, 1, 1], a\nassert a['city'].tolist() == [0, 1, 1, -1, 2, 0]\n",
    );
}

#[test]
fn what_does_not_match_is_refused_together() {
    let out = Scratch::new();
    let at = out.join("s.npk");
    let x = |dtype, shape: &[u64], n: usize| (ArrayMeta::new("x", dtype, shape), vec![1; n]);
    let store = vec![x(Dtype::U8, &[2, 3], 6), (ArrayMeta::new("one", Dtype::U8, &[]), vec![1])];
    write(&at, plan(store.iter().map(|a| a.0.clone()).collect()), &store, &WriteOptions::default())
        .unwrap();
    let before = files_below(&at);
    let bad = vec![
        x(Dtype::I8, &[2, 3], 6),
        (ArrayMeta::new("y", Dtype::U8, &[1]), vec![1]),
        (ArrayMeta::new("one", Dtype::U8, &[]), vec![1]),
    ];
    let e =
        write(&at, plan(bad.iter().map(|a| a.0.clone()).collect()), &bad, &append()).unwrap_err();
    assert!(e.kind() == ErrorKind::Exists && e.others().len() == 2, "{e:?} {:?}", e.others());
    assert!(
        e.to_string().contains("int8 [rows, 3]") && e.to_string().contains("uint8 [rows, 3]"),
        "{e}"
    );
    for (bad, says) in [(x(Dtype::U8, &[2, 4], 8), "[rows, 4]"), (x(Dtype::U8, &[6], 6), "[rows]")]
    {
        let e = write(&at, plan(vec![bad.0.clone()]), &[bad], &append()).unwrap_err();
        assert!(e.kind() == ErrorKind::Exists && e.to_string().contains(says), "{e}");
    }
    assert_eq!(before, files_below(&at));
    // Where there is none, one is made.
    write(&out.join("none.npk"), plan(vec![]), &[], &append()).unwrap();
    std::os::unix::fs::symlink("s.npk", out.join("link.npk")).unwrap();
    let e = write(&out.join("link.npk"), plan(vec![store[0].0.clone()]), &store[..1], &append())
        .unwrap_err();
    assert!(e.kind() == ErrorKind::Exists && e.to_string().contains("symbolic link"), "{e}");
    // A data file that is a link is not written through either.
    std::fs::rename(at.join("data_x.npkd"), out.join("precious")).unwrap();
    std::os::unix::fs::symlink(out.join("precious"), at.join("data_x.npkd")).unwrap();
    write(&at, plan(vec![store[0].0.clone()]), &store[..1], &append()).unwrap_err();
    assert_eq!(std::fs::read(out.join("precious")).unwrap(), [1; 6]);
}

/// Before its commit a copy of the store (as a kill would leave it) reads as before; looks leave it
/// as it is, writers and `verify` mend it. The running append is not disturbed.
#[test]
#[ignore = "asks the real libraries"]
fn a_killed_append_is_undone_by_the_next_run() {
    let out = Scratch::new();
    let npk = by_name("npk").unwrap();
    for (golden, grows) in [
        ("good/npk/v0.7.0/segmented_deleted.npk", false),
        ("good/npk/v0.7.0/deleted.npk", true),
        ("good/npk/v0.4.5/dtypes.npk", true),
        ("good/npk/v0.4.5/names.npk", true),
    ] {
        let golden = fixture(golden);
        let at = out.join("s.npk");
        copy_dir(&golden, &at);
        let before = (files_below(&at), read(&at).unwrap().bytes);
        let all = read(&golden).unwrap();
        let sink = begin(&at, &all.plan, &append()).unwrap();
        let writer = rows_of(sink.as_ref());
        for (a, meta) in all.plan.arrays.iter().enumerate() {
            writer.write(&Chunk::fixed(a, 0, meta.rows.unwrap(), all.bytes[a].clone())).unwrap();
        }
        // Killed now: the copy has no lock on it.
        let killed = out.join("killed.npk");
        copy_dir(&at, &killed);
        let left = files_below(&killed);
        assert_eq!(left != before.0, grows);
        // Of the live one readers see the old rows, writers are kept out, and verify cuts nothing.
        assert_eq!(read(&at).unwrap().bytes, before.1);
        let busy = begin(&at, &all.plan, &append()).err().unwrap();
        assert!(busy.to_string().contains("another run"), "{busy}");
        let notes = npk.verify(&Location::local(&at), &ReadOptions::default()).unwrap();
        assert!(
            !grows || notes.iter().any(|n| n.contains("another run is changing this store")),
            "{notes:?}"
        );
        assert!(files_below(&at) == left);
        // Looks at the killed one change nothing.
        assert_eq!(read(&killed).unwrap().bytes, before.1);
        assert!(files_below(&killed) == left);
        python(
            out.path(),
            &format!(
                "import store\nassert store.npkref.metadata('killed.npk') == store.npkref.metadata({golden:?})\n"
            ),
        );
        let notes = npk.verify(&Location::local(&killed), &ReadOptions::default()).unwrap();
        assert!(
            !grows || notes.iter().any(|n| n.contains("extra bytes") && n.contains("cut off")),
            "{notes:?}"
        );
        assert!(files_below(&killed) == before.0);
        // A failed one cuts itself back.
        drop(writer);
        drop(sink);
        assert!(files_below(&at) == before.0 && out.names() == ["killed.npk", "s.npk"]);
        for name in ["s.npk", "killed.npk"] {
            std::fs::remove_dir_all(out.join(name)).unwrap();
        }
    }
}

/// Between the two renames of an append the new side file goes by another name; it belongs to the
/// new metadata alone.
#[test]
fn a_side_file_that_waits_belongs_to_its_metadata() {
    let out = Scratch::new();
    let (old, new) = (out.join("old.npk"), out.join("new.npk"));
    let (plan, arrays) = people(&[0, 1], &["Oslo", "Rome"], &["a", "bb"], &[1, 2], None);
    write(&old, plan, &arrays, &WriteOptions::default()).unwrap();
    copy_dir(&old, &new);
    let (plan, arrays) = people(&[0, -1], &["Bern"], &["c", ""], &[3, 4], None);
    write(&new, plan, &arrays, &append()).unwrap();
    let (before, after) = (read(&old).unwrap(), read(&new).unwrap());
    assert_ne!(before.texts, after.texts);
    let digest = sha2::Sha256::digest(std::fs::read(new.join("metadata.npkm")).unwrap());
    let waiting: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    let waiting = format!(".npk-append-side-{waiting}");
    for (metadata, whole) in [(&old, &before), (&new, &after)] {
        let at = out.join("at.npk");
        copy_dir(&new, &at);
        std::fs::copy(metadata.join("metadata.npkm"), at.join("metadata.npkm")).unwrap();
        std::fs::copy(old.join("npk.json"), at.join("npk.json")).unwrap();
        std::fs::copy(new.join("npk.json"), at.join(&waiting)).unwrap();
        std::fs::write(at.join(".npk-append-metadata"), "half").unwrap();
        let left = files_below(&at);
        let found = read(&at).unwrap();
        assert!(found.plan.notes.is_empty(), "{:?}", found.plan.notes);
        assert!(found.texts == whole.texts && found.bytes == whole.bytes);
        assert!(files_below(&at) == left, "a look changes nothing");
        // The next writer settles it.
        let one = (ArrayMeta::new("one", Dtype::U8, &[1]), vec![1]);
        let with_one =
            Plan { format: "test", arrays: vec![one.0.clone()].into(), ..Plan::default() };
        copy_dir(&at, &out.join("merged.npk"));
        write(&out.join("merged.npk"), with_one, &[one], &merge(false)).unwrap();
        assert!(
            read(&out.join("merged.npk")).unwrap().texts[..]
                == [&whole.texts[..], &[vec![]]].concat()[..]
        );
        assert!(files_below(&out.join("merged.npk")).keys().all(|name| !name.starts_with('.')));
        let notes =
            by_name("npk").unwrap().verify(&Location::local(&at), &ReadOptions::default()).unwrap();
        assert!(
            notes.iter().any(|n| n.contains(".npk-append-metadata") && n.contains("removed")),
            "{notes:?}"
        );
        assert!(files_below(&at) == files_below(metadata), "{notes:?}");
        for name in ["at.npk", "merged.npk"] {
            std::fs::remove_dir_all(out.join(name)).unwrap();
        }
    }
}

/// Two arrays in one data file: what is appended to one would be written over the other.
#[test]
fn arrays_that_share_a_file_do_not_grow() {
    let out = Scratch::new();
    let at = out.join("s.npk");
    let one = |name: &str, n: u8| {
        (ArrayMeta::new(name, Dtype::U8, &[n.into()]), (0..n).collect::<Vec<u8>>())
    };
    let arrays = [one("aa", 9), one("bb", 4)];
    write_new(&at, &arrays);
    let metadata = std::fs::read(at.join("metadata.npkm")).unwrap();
    let place = metadata.windows(12).position(|w| w == b"data_bb.npkd").unwrap();
    let mut hostile = metadata.clone();
    hostile[place..place + 12].copy_from_slice(b"data_aa.npkd");
    std::fs::write(at.join("metadata.npkm"), hostile).unwrap();
    let before = files_below(&at);
    for options in [append(), merge(true)] {
        let more = one("bb", 2);
        let e = write(&at, plan(vec![more.0.clone()]), &[more], &options).unwrap_err();
        assert!(e.kind() == ErrorKind::Corrupt && e.to_string().contains("two arrays"), "{e}");
    }
    assert!(files_below(&at) == before);
}

/// Bytes of somebody else's dead append: read over, told and cut by verify, cut before our own
/// rows.
#[test]
fn bytes_behind_the_end_are_cut() {
    let out = Scratch::new();
    let golden = fixture("good/npk/v0.4.5/dtypes.npk");
    let longer = |name: &str| {
        let at = out.join(name);
        copy_dir(&golden, &at);
        let file = at.join("data_a_int16.npkd");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend([0xEE; 7]);
        std::fs::write(&file, bytes).unwrap();
        at
    };
    let at = longer("v.npk");
    assert_eq!(read(&at).unwrap().bytes, read(&golden).unwrap().bytes);
    let notes =
        by_name("npk").unwrap().verify(&Location::local(&at), &ReadOptions::default()).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("7 extra bytes"), "{notes:?}");
    assert_eq!(files_below(&at), files_below(&golden));
    let at = longer("a.npk");
    convert_with(&golden, &at, "npk", &append()).unwrap();
    let (all, once) = (read(&at).unwrap(), read(&golden).unwrap());
    for (twice, once) in all.bytes.iter().zip(&once.bytes) {
        assert_eq!(*twice, [once.clone(), once.clone()].concat());
    }
    // A bitmap cut short is not whole.
    let at = out.join("b.npk");
    copy_dir(&fixture("good/npk/v0.4.5/deleted.npk"), &at);
    let file = at.join("deleted_x.npkb");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 8]).unwrap();
    let e =
        by_name("npk").unwrap().verify(&Location::local(&at), &ReadOptions::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::Corrupt && e.array_name() == Some("x"), "{e}");
}

/// A child process that is just being started has copies of all open files: with a lock among them,
/// the next change of the store would find it locked by nobody.
#[test]
fn starting_other_programs_does_not_lock_a_store() {
    let out = Scratch::new();
    let at = out.join("s.npk");
    let one = (ArrayMeta::new("x", Dtype::U8, &[3]), vec![1, 2, 3]);
    let change = |options: &WriteOptions| {
        write(&at, plan(vec![one.0.clone()]), std::slice::from_ref(&one), options).unwrap()
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..50 {
                change(&WriteOptions { existing: Existing::Replace, ..WriteOptions::default() });
                change(&append());
                change(&append());
            }
        }));
        ended.store(true, Ordering::Relaxed);
        changes.unwrap();
    });
    assert_eq!(read(&at).unwrap().plan.arrays[0].rows, Some(9));
}

/// The folder of segments goes with the array, by a merge, by dropping it, by writing it anew.
#[test]
fn no_folder_is_left_of_segments() {
    let s = Scratch::new();
    let path = at(&s, "s.npk");
    let short = new_array(&s, "x.npy");
    for change in [
        &["convert", short.as_str(), &path, "--if-exists", "merge", "--force"][..],
        &["edit", &path, "--drop", "x"],
        &["edit", &path, "--compact"],
    ] {
        let _ = std::fs::remove_dir_all(&path);
        copy_dir(&fixture("good/npk/v0.7.0/segmented.npk"), Path::new(&path));
        std::fs::create_dir(s.join("s.npk/mine")).unwrap();
        std::fs::write(s.join("s.npk/notes.txt"), "mine, too").unwrap();
        npk(change);
        npk(&["verify", &path]);
        assert!(s.join("s.npk/mine").is_dir() && s.join("s.npk/notes.txt").is_file(), "{change:?}");
        let left = s.join("s.npk/data_x_segments").exists();
        assert_eq!(left, s.join("s.npk/data_x.npkseg").exists(), "{change:?}");
    }
}

fn new_array(s: &Scratch, name: &str) -> String {
    crate::convert::npy(&s.join(name), "<f4", &[2], &[0; 8]);
    at(s, name)
}

#[test]
#[ignore = "asks the real libraries"]
fn merges_keep_what_stays() {
    use std::os::unix::fs::MetadataExt;
    let out = Scratch::new();
    let at = out.join("s.npk");
    copy_dir(&fixture("good/npk/v0.7.0/segmented_deleted.npk"), &at);
    std::fs::write(at.join("notes.txt"), "mine").unwrap();
    std::fs::create_dir(at.join("sub")).unwrap();
    std::fs::write(at.join("sub/more.txt"), "mine, too").unwrap();
    std::fs::write(at.join("deleted_new.npkb"), [0; 24]).unwrap(); // of an array that is long gone
    let inode = |name: &str| std::fs::metadata(at.join(name)).unwrap().ino();
    let (encoded, x) = (inode("data_x_segments/seg_000003.npkd"), read(&at).unwrap().bytes);
    // A new array beside it, with something for the side file.
    let (plan_, arrays) = people(&[0, -1], &["Oslo"], &["a", "b"], &[1, 0], Some(&[1, 0]));
    write(&at, plan_, &arrays, &merge(false)).unwrap();
    let new = (ArrayMeta::new("new", Dtype::U8, &[3]), vec![1, 2, 3]);
    write(&at, plan(vec![new.0.clone()]), std::slice::from_ref(&new), &merge(false)).unwrap();
    let back = read(&at).unwrap();
    let names: Vec<&str> = back.plan.arrays.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["x", "city", "note", "age", "new"]);
    assert!(
        back.bytes[0] == x[0]
            && back.bytes[4] == [1, 2, 3]
            && back.masks[3] == [1, 0]
            && back.plan.notes.is_empty()
    );
    assert_eq!(inode("data_x_segments/seg_000003.npkd"), encoded, "what stays is not rewritten");
    assert_eq!(std::fs::read(at.join("sub/more.txt")).unwrap(), b"mine, too");
    // A clash is refused, all of them together, and nothing changes.
    let before = files_below(&at);
    let clash = [
        new.clone(),
        (ArrayMeta::new("city", Dtype::U8, &[1]), vec![9]),
        (ArrayMeta::new("other", Dtype::U8, &[1]), vec![9]),
    ];
    let metas = || plan(clash.iter().map(|a| a.0.clone()).collect());
    let e = write(&at, metas(), &clash, &merge(false)).unwrap_err();
    assert!(
        e.kind() == ErrorKind::Exists
            && e.others().len() == 1
            && e.hint_text().unwrap().contains("--force"),
        "{e:?}"
    );
    assert_eq!(before, files_below(&at));
    // Replaced: with all its parts; the segmented array and its bitmap go, too.
    write(&at, metas(), &clash, &merge(true)).unwrap();
    let x = (ArrayMeta::new("x", Dtype::U8, &[400]), vec![7; 400]);
    write(&at, plan(vec![x.0.clone()]), std::slice::from_ref(&x), &merge(true)).unwrap();
    let back = read(&at).unwrap();
    let types: Vec<String> =
        back.plan.arrays.iter().map(|a| format!("{} {}", a.name, a.type_name())).collect();
    assert_eq!(
        types,
        ["note string", "age uint8?", "new uint8", "city uint8", "other uint8", "x uint8"]
    );
    assert_eq!(back.bytes[5], [7; 400]);
    let files = files_below(&at);
    assert!(
        !files.keys().any(|f| f.starts_with("deleted_") || f.contains("seg")),
        "{:?}",
        files.keys()
    );
    assert!(files.contains_key("notes.txt") && out.names() == ["s.npk"]);
    python(
        out.path(),
        "import store\na = store.numpack_arrays('s.npk'); b = store.npkref.load('s.npk')\nassert sorted(a) == sorted(b) == sorted(['age', 'age.valid', 'city', 'new', 'note.bytes', 'note.offsets', 'other', 'x']), sorted(a)\nassert all(a[k].tobytes() == b[k].tobytes() for k in a)\n",
    );
    // One that is given up leaves the store as it was.
    let before = files_below(&at);
    drop(begin(&at, &metas(), &merge(true)).unwrap());
    assert!(before == files_below(&at) && out.names() == ["s.npk"]);
    // Into nothing: a store is made. Into a folder that is no store: not.
    write(&out.join("fresh.npk"), metas(), &clash, &merge(false)).unwrap();
    std::fs::create_dir(out.join("folder")).unwrap();
    assert_eq!(
        write(&out.join("folder"), metas(), &clash, &merge(true)).unwrap_err().kind(),
        ErrorKind::Exists
    );
}

/// A FIFO that a run waits on, and the killing of that run.
struct Waiting {
    child: std::process::Child,
    fifo: Option<std::fs::File>,
}

impl Waiting {
    /// Starts `npk convert` on a FIFO that gives the start of a safetensors file and then nothing
    /// more.
    fn start(folder: &Path, to: &str, flags: &[&str], head: &[u8]) -> Waiting {
        let fifo = folder.join("fifo.safetensors");
        if !fifo.exists() {
            assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        }
        let mut child = npk_command()
            .args(["convert", "--from", "safetensors", "fifo.safetensors", to])
            .args(flags)
            .current_dir(folder)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The run may look at the FIFO once before it reads it.
        for _ in 0..10 {
            let mut file = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
            if std::io::Write::write_all(&mut file, head).is_ok() {
                return Waiting { child, fifo: Some(file) };
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{flags:?}: the run does not read the FIFO");
    }
    /// Waits until `there` is true of the folder.
    fn until(&mut self, there: impl Fn() -> bool) {
        let started = std::time::Instant::now();
        while !there() {
            assert!(self.child.try_wait().unwrap().is_none(), "the run ended by itself");
            assert!(started.elapsed().as_secs() < 60, "nothing came");
            std::thread::yield_now();
        }
    }
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        drop(self.fifo.take());
    }
}

/// kill -9 during append, merge and overwrite: the old store is whole at once, and the leftovers go
/// with the next run.
#[test]
#[ignore = "asks the real libraries"]
fn kill_nine_leaves_the_old_store() {
    let out = Scratch::new();
    let header = br#"{"x":{"dtype":"I32","shape":[10000000,2],"data_offsets":[0,80000000]}}"#;
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header);
    head.extend(vec![7; 40_000_000]);
    let at = out.join("s.npk");
    for flags in [&["--append"][..], &["--if-exists", "merge", "--force"], &["--force"]] {
        let _ = std::fs::remove_dir_all(&at);
        copy_dir(&fixture("good/npk/v0.4.5/deleted_then_appended.npk"), &at);
        let before = files_below(&at);
        let mut run = Waiting::start(out.path(), "s.npk", flags, &head);
        // Something of it is on the disk by now.
        if flags == ["--append"] {
            run.until(|| std::fs::metadata(at.join("data_x.npkd")).unwrap().len() > 1056);
        } else {
            run.until(|| out.names().iter().any(|n| n.contains(".npk-tmp-")));
        }
        run.kill();
        python(
            out.path(),
            &format!(
                "import store\nassert store.numpack_arrays('s.npk')['x'].tobytes() == __import__('numpy').load({:?})['x'].tobytes()\n",
                fixture("good/npk/v0.4.5/deleted_then_appended.npz")
            ),
        );
        // A look leaves the store as it is, verify mends it; the next run that writes there sweeps
        // the folder.
        let left = files_below(&at);
        npk(&["list".as_ref(), at.as_os_str()]);
        assert!(files_below(&at) == left, "{flags:?}");
        npk(&["verify".as_ref(), at.as_os_str()]);
        assert!(files_below(&at) == before, "{flags:?}");
        npk(&[
            "convert",
            "-q",
            fixture("good/npk/v0.4.5/empty.npk").to_str().unwrap(),
            out.join("other.npk").to_str().unwrap(),
        ]);
        std::fs::remove_dir_all(out.join("other.npk")).unwrap();
        assert_eq!(out.names(), ["fifo.safetensors", "s.npk"], "{flags:?}");
    }
    // A run that is asked to stop cleans up itself.
    let mut run = Waiting::start(out.path(), "s.npk", &["--append"], &head);
    let before = files_below(&fixture("good/npk/v0.4.5/deleted_then_appended.npk"));
    run.until(|| std::fs::metadata(at.join("data_x.npkd")).unwrap().len() > 1056);
    assert!(
        std::process::Command::new("kill")
            .arg(run.child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(run.child.wait().unwrap().code(), Some(143));
    assert!(files_below(&at) == before);
}

/// Through the command: rows appended twice, with what a dtype must match; arrays merged.
#[test]
#[ignore = "asks the real libraries"]
fn the_command_appends_and_merges() {
    let out = Scratch::new();
    python(
        out.path(),
        "import numpy as np\nnp.save('a.npy', np.arange(6, dtype='f4').reshape(3, 2)); np.save('b.npy', np.ones((2, 2), 'f4')); np.save('c.npy', np.ones((2, 3), 'f4'))\n",
    );
    let run = |args: &[&str]| npk_command().args(args).current_dir(out.path()).output().unwrap();
    for args in [
        &["convert", "a.npy", "s.npk", "--name", "x"][..],
        &["convert", "b.npy", "s.npk", "--name", "x", "--append"],
        &["convert", "c.npy", "s.npk", "--if-exists", "merge"],
    ] {
        let output = run(args);
        assert!(output.status.success(), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    python(
        out.path(),
        "import store\na = store.numpack_arrays('s.npk')\nassert a['x'].tolist() == [[0, 1], [2, 3], [4, 5], [1, 1], [1, 1]] and a['c'].shape == (2, 3)\n",
    );
    let output = run(&["convert", "c.npy", "s.npk", "--name", "x", "--append"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&["convert", "a.npy", "s.npk", "--name", "c", "--if-exists", "merge"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A thousand and more arrays with a hundred descriptors.
#[test]
fn few_descriptors_suffice() {
    let out = Scratch::new();
    let arrays = many_arrays(1200, 120);
    write_new(&out.join("a.npk"), &arrays);
    for to in ["b.npk", "b.safetensors"] {
        let limited =
            format!("ulimit -n 100; exec '{}' convert -q a.npk {to}", env!("CARGO_BIN_EXE_npk"));
        let output = std::process::Command::new("sh")
            .args(["-c", &limited])
            .current_dir(out.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{to}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(read(&out.join("b.npk")).unwrap().bytes == read(&out.join("a.npk")).unwrap().bytes);
}

/// Arrays exchange their names in one call, as in a conversion.
#[test]
fn names_are_exchanged() {
    let s = Scratch::new();
    for (name, value) in [("a", 1u8), ("b", 2), ("c", 3)] {
        std::fs::write(s.join(&format!("{name}.npy")), npy_bytes("|u1", &[1], &[value])).unwrap();
    }
    let made = ["a.npy", "b.npy", "c.npy", "x.npk"].map(|name| at(&s, name));
    npk(&["convert", "-q", &made[0], &made[1], &made[2], &made[3]]);
    npk(&["edit", "-q", &made[3], "--rename", "a=b", "--rename", "b=a", "--rename", "c=d"]);
    for (name, value) in [("a", 2), ("b", 1), ("d", 3)] {
        npk(&["convert", "-qf", &made[3], "-a", name, &at(&s, "back.npy")]);
        assert_eq!(std::fs::read(s.join("back.npy")).unwrap().last(), Some(&value), "{name}");
    }
    npk(&["verify", "-q", &made[3]]);
}
