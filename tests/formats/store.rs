//! The mapped library views.

use npk::error::Kind;
use npk::format::WriteOptions;
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
        (ArrayMeta::new("z", Dtype::C64, &[1]), [1f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
        (text, vec![1, 0, 0, 0]),
    ];
    let path = out.join("s.npk");
    write(&path, plan(arrays.iter().map(|a| a.0.clone()).collect()), &arrays, &WriteOptions::default()).unwrap();
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
    assert_eq!(store.array("w").unwrap().view::<f64>().unwrap_err().kind(), Kind::Refused);
    let scalar = store.array("scalar").unwrap();
    assert!(scalar.shape().is_empty() && scalar.view::<i64>().unwrap()[[]] == 7);
    assert_eq!(store.array("empty").unwrap().view::<f64>().unwrap().shape(), [0, 4]);
    assert_eq!(store.array("flag").unwrap().bytes_view().unwrap().as_slice().unwrap(), [1, 0]);
    assert_eq!(store.array("z").unwrap().view::<[f32; 2]>().unwrap()[[0]], [1.0, -2.0]);
    assert_eq!(store.array("day").unwrap().view::<i32>().unwrap()[[0]], 1);
    assert_eq!(store.array("no").err().unwrap().kind(), Kind::Missing);
    assert_eq!(npk::Store::open(out.join("no.npk")).err().unwrap().kind(), Kind::Missing);
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
            assert_eq!(array.shape().iter().map(|&d| d as u64).collect::<Vec<_>>(), meta.shape().unwrap());
            assert_eq!(array.bytes_view().unwrap().as_slice().unwrap(), bytes);
            assert!(array.is_copy() == copied || meta.name == "small", "{golden} {}", meta.name);
            if meta.dtype == Dtype::F32 {
                assert_eq!(array.view::<f32>().unwrap().len() * 4, bytes.len());
            }
        }
    }
}
