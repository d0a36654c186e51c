//! The mapped library views.

use npk::error::ErrorKind;
use npk::format::{Existing, Order, Source, WriteOptions};
use npk::model::{ArrayMeta, Dtype, Logical};

use super::store_support::*;
use crate::support::*;

#[test]
fn views_are_the_file_itself() {
    let out = Scratch::new();
    let f32s: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let mut text = ArrayMeta::new("day", Dtype::I32, &[1]);
    text.logical = Logical::Date32;
    let arrays = vec![
        (ArrayMeta::new("w", Dtype::F32, &[2, 3]), f32s),
        (ArrayMeta::new("scalar", Dtype::I64, &[]), 7i64.to_le_bytes().to_vec()),
        (ArrayMeta::new("empty", Dtype::F64, &[0, 4]), vec![]),
        (ArrayMeta::new("flag", Dtype::Bool, &[2]), vec![1, 0]),
        (
            ArrayMeta::new("z", Dtype::C64, &[1]),
            [1f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        (text, vec![1, 0, 0, 0]),
    ];
    let path = out.join("s.npk");
    write_new(&path, &arrays);
    let store = npk::Store::open(&path).unwrap();
    assert_eq!(store.plan().arrays.len(), 6);
    let w = store.array("w").unwrap();
    assert_eq!(w.view::<f32>().unwrap(), ndarray::arr2(&[[0f32, 1., 2.], [3., 4., 5.]]).into_dyn());
    // No copy: what is written to the file is seen in the view.
    let file = std::fs::OpenOptions::new().write(true).open(path.join("data_w.npkd")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &9f32.to_le_bytes(), 20).unwrap();
    assert!(!w.is_copy() && w.view::<f32>().unwrap()[[1, 2]] == 9.0);
    let buffer = w.buffer();
    drop((w, file));
    assert_eq!(buffer.typed_data::<f32>()[5], 9.0, "the buffer keeps the map");
    assert_eq!(store.array("w").unwrap().view::<f64>().unwrap_err().kind(), ErrorKind::Refused);
    let scalar = store.array("scalar").unwrap();
    assert!(scalar.shape().is_empty() && scalar.view::<i64>().unwrap()[[]] == 7);
    assert_eq!(store.array("empty").unwrap().view::<f64>().unwrap().shape(), [0, 4]);
    assert_eq!(store.array("flag").unwrap().bytes_view().unwrap().as_slice().unwrap(), [1, 0]);
    assert_eq!(store.array("z").unwrap().view::<[f32; 2]>().unwrap()[[0]], [1.0, -2.0]);
    assert_eq!(store.array("day").unwrap().view::<i32>().unwrap()[[0]], 1);
    assert_eq!(store.array("no").err().unwrap().kind(), ErrorKind::Missing);
    assert_eq!(npk::Store::open(out.join("no.npk")).err().unwrap().kind(), ErrorKind::Missing);
}

/// Alive rows only, and segments: copies, and said so.
#[test]
fn deleted_rows_and_segments_are_copied() {
    for (golden, copied) in [
        ("v0.4.5/deleted.npk", true),
        ("v0.4.5/deleted_then_appended.npk", true),
        ("v0.7.0/segmented.npk", true),
        ("v0.7.0/segmented_deleted.npk", true),
        ("v0.7.0/ranks.npk", false),
    ] {
        let path = fixture(&format!("good/npk/{golden}"));
        let (store, all) = (npk::Store::open(&path).unwrap(), read(&path).unwrap());
        for (meta, bytes) in all.plan.arrays.iter().zip(&all.bytes) {
            let array = store.array(&meta.name).unwrap();
            assert_eq!(
                array.shape().iter().map(|&d| d as u64).collect::<Vec<_>>(),
                meta.shape().unwrap()
            );
            assert_eq!(array.bytes_view().unwrap().as_slice().unwrap(), bytes);
            assert!(array.is_copy() == copied || meta.name == "small", "{golden} {}", meta.name);
            if meta.dtype == Dtype::F32 {
                assert_eq!(array.view::<f32>().unwrap().len() * 4, bytes.len());
            }
        }
    }
}

/// Arrays of bytes, all of them `value`.
fn filled(value: u8) -> Vec<(ArrayMeta, Vec<u8>)> {
    (0..12).map(|i| (ArrayMeta::new(format!("a{i}"), Dtype::U8, &[3]), vec![value; 3])).collect()
}

fn put(path: &std::path::Path, arrays: &[(ArrayMeta, Vec<u8>)]) {
    let options = WriteOptions { existing: Existing::Replace, ..WriteOptions::default() };
    write(path, plan_of(arrays), arrays, &options).unwrap();
}

/// What a reader that opened a directory gets after another one came in its place: its own arrays,
/// or the sentence.
#[test]
fn readers_hold_the_directory_that_they_opened() {
    let out = Scratch::new();
    for name in ["s.npk", "s.zarr"] {
        let at = out.join(name);
        let drained = |source: Box<dyn Source>| {
            let mut all = Vec::new();
            let each: &mut dyn FnMut(npk::model::Chunk) -> npk::error::Result<()> = &mut |chunk| {
                let npk::model::Values::Fixed(bytes) = &chunk.values else { panic!("text") };
                all.extend_from_slice(bytes);
                Ok(())
            };
            npk::pipe::drain(source, Order::Any, each, &npk::pipe::Settings::new(2, 64 << 20))
                .map(|_| all)
        };
        put(&at, &filled(1));
        put(&out.join("new").with_extension(at.extension().unwrap()), &filled(2));
        // The old one is still there, by another name.
        let source = open(&at).unwrap();
        std::fs::rename(&at, out.join("aside")).unwrap();
        std::fs::rename(out.join("new").with_extension(at.extension().unwrap()), &at).unwrap();
        assert_eq!(drained(source).unwrap(), [1; 36], "{name}");
        assert_eq!(drained(open(&at).unwrap()).unwrap(), [2; 36], "{name}");
        // It is gone: a chunk that is not there is no chunk of fill values.
        let source = open(&at).unwrap();
        put(&at, &filled(3));
        let e = drained(source).unwrap_err();
        assert!(
            e.kind() == ErrorKind::Failed
                && e.to_string().contains("was replaced while it was read"),
            "{name}: {e:?}"
        );
        assert_eq!(drained(open(&at).unwrap()).unwrap(), [3; 36], "{name}");
        std::fs::remove_dir_all(out.join("aside")).unwrap();
    }
    let at = out.join("s.npk");
    let store = npk::Store::open(&at).unwrap();
    let kept = store.array("a0").unwrap();
    put(&at, &filled(4));
    assert_eq!(kept.bytes_view().unwrap().as_slice().unwrap(), [3; 3]);
    let e = store.array("a1").err().unwrap();
    assert!(
        e.kind() == ErrorKind::Failed && e.to_string().contains("was replaced while it was read"),
        "{e:?}"
    );
}

/// Beside a run that replaces a store again and again, readers see one of the stores.
#[test]
fn readers_beside_a_writer_see_one_store() {
    let out = Scratch::new();
    for name in ["s.npk", "s.zarr"] {
        let at = out.join(name);
        put(&at, &filled(1));
        let ended = std::sync::atomic::AtomicBool::new(false);
        let whole = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                        match read(&at) {
                            Ok(all) => {
                                let found = all.bytes.concat();
                                assert!(
                                    found.len() == 36 && found.iter().all(|b| *b == found[0]),
                                    "{name}: {found:?}"
                                );
                                whole.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            }
                            Err(e) => assert!(
                                e.to_string().contains("was replaced while it was read"),
                                "{name}: {e:?}"
                            ),
                        }
                    }
                });
            }
            let writes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..60).for_each(|i| put(&at, &filled(i % 2)))
            }));
            // One of them reads the last one, at the latest.
            while whole.load(std::sync::atomic::Ordering::Relaxed) == 0 && writes.is_ok() {
                std::thread::yield_now();
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            writes.unwrap();
        });
    }
}

/// Beside appends readers see the rows of one moment, with what the side file says of them.
#[test]
fn readers_beside_appends_see_one_moment() {
    let out = Scratch::new();
    let at = out.join("s.npk");
    let rows = |n: u64| -> Vec<(ArrayMeta, Vec<u8>)> {
        let mut day = ArrayMeta::new("day", Dtype::I32, &[n]);
        day.logical = Logical::Date32;
        vec![
            (day, vec![0; 4 * n as usize]),
            (ArrayMeta::new("x", Dtype::U8, &[n]), vec![7; n as usize]),
        ]
    };
    put(&at, &rows(1));
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let all = read(&at).unwrap();
                let found: Vec<String> = all
                    .plan
                    .arrays
                    .iter()
                    .map(|a| format!("{} {:?}", a.type_name(), a.rows))
                    .collect();
                assert!(all.plan.notes.is_empty(), "{:?}", all.plan.notes);
                let n = all.plan.arrays[0].rows.unwrap();
                assert_eq!(found, [format!("date32 Some({n})"), format!("uint8 Some({n})")]);
                assert_eq!(all.bytes[1], vec![7; n as usize]);
            }
        });
        let options = WriteOptions { existing: Existing::Append, ..WriteOptions::default() };
        let appends = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                let more = rows(2);
                write(&at, plan(more.iter().map(|a| a.0.clone()).collect()), &more, &options)
                    .unwrap();
            }
        }));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        appends.unwrap();
    });
    assert_eq!(read(&at).unwrap().plan.arrays[0].rows, Some(121));
}
