//! Stores whose nested columns do not fit together: offsets, masks, and what `npk.json` says.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Fields};
use npk::error::ErrorKind;
use npk::format::{Order, ReadOptions, Resources};
use npk::formats::by_name;
use npk::pipe::{self, Flow, Settings};
use npk::storage::Location;
use serde_json::{Value, json};

use crate::support::{Scratch, at, mutants, npk, npk_any, npk_fails};

/// A store of three rows: `lists` of lists of int64, `user` a struct of a text and a list of a
/// fixed size, with nulls in all of them.
fn store() -> Scratch {
    store_of(2)
}

/// With lists of another fixed size.
fn store_of(size: i32) -> Scratch {
    let scratch = Scratch::new();
    let item = |t: &DataType| Arc::new(Field::new("item", t.clone(), true));
    let nulls = |n: usize, null: usize| Some((0..n).map(|i| i != null).collect::<NullBuffer>());
    let list = |values: ArrayRef, ends: &[i32], nulls| -> ArrayRef {
        let ends = OffsetBuffer::new(ends.to_vec().into());
        Arc::new(ListArray::new(item(values.data_type()), ends, values, nulls))
    };
    let numbers = Int64Array::new(vec![1, 2, 3, 4, 5].into(), nulls(5, 3));
    let inner = list(Arc::new(numbers), &[0, 2, 2, 5], None);
    let lists = list(inner, &[0, 1, 1, 3], nulls(3, 1));
    let pair = arrow_array::FixedSizeListArray::new(
        item(&DataType::Int32),
        size,
        Arc::new(Int32Array::from_iter_values(1..=3 * size)),
        nulls(3, 2),
    );
    let fields = Fields::from(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("pair", pair.data_type().clone(), true),
    ]);
    let name = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let user = StructArray::new(fields, vec![name, Arc::new(pair)], nulls(3, 0));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("lists", lists, true),
        ("user", Arc::new(user) as ArrayRef, true),
        ("id", Arc::new(Int32Array::from(vec![7, 8, 9])), true),
    ])
    .unwrap();
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(scratch.join("a.feather"), writer.into_inner().unwrap()).unwrap();
    npk(&["convert", "-q", &at(&scratch, "a.feather"), &at(&scratch, "s.npk")]);
    scratch
}

fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Offsets that no list can have are corrupt, wherever they are, and nothing is written.
#[test]
fn offsets_that_do_not_fit_are_corrupt() {
    let cases: &[(&str, &[i64], &str)] = &[
        ("lists.offsets", &[0, 1, 1, 4], "lists.values.offsets"),
        ("lists.offsets", &[0, 1, 1, i64::MAX], "lists"),
        ("lists.offsets", &[0, 2, 1, 3], "offset 2 is 1"),
        ("lists.offsets", &[-1, 1, 1, 3], "lists.offsets"),
        ("lists.offsets", &[3, 1, 1, 0], "lists.offsets"),
        ("lists.offsets", &[0, i64::MIN, 1, 3], "lists.offsets"),
        ("lists.values.offsets", &[0, 2, 2, 6], "lists.values.values"),
        ("lists.values.offsets", &[0, 2, 2, 1 << 40], "lists.values.values"),
        ("lists.values.offsets", &[0, 9, 2, 5], "lists.values.offsets"),
        ("lists.values.offsets", &[0, 2, -2, 5], "lists.values.offsets"),
    ];
    for (array, offsets, words) in cases {
        let scratch = store();
        std::fs::write(scratch.join(&format!("s.npk/data_{array}.npkd")), longs(offsets)).unwrap();
        for out in ["o.feather", "o.parquet", "o.h5"] {
            let args = ["convert", &at(&scratch, "s.npk"), &at(&scratch, out)];
            let said = npk_fails(7, &args);
            assert!(said.contains(words), "{array} {offsets:?}: {said}");
            assert!(!scratch.join(out).exists(), "{out}");
        }
    }
}

/// Files that are shorter than their arrays.
#[test]
fn masks_and_leaves_that_end_early_are_corrupt() {
    for array in
        ["lists.valid", "user.valid", "user.pair.valid", "lists.values.values", "user.name"]
    {
        let scratch = store();
        let file = scratch.join(&format!("s.npk/data_{array}.npkd"));
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        let said = npk_fails(7, &["convert", &at(&scratch, "s.npk"), &at(&scratch, "o.feather")]);
        assert!(said.contains(&format!("data_{array}.npkd")), "{array}: {said}");
        assert!(!scratch.join("o.feather").exists());
    }
}

fn with_side(scratch: &Scratch, change: impl FnOnce(&mut Value)) {
    let path = scratch.join("s.npk/npk.json");
    let mut side: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut side);
    std::fs::write(path, serde_json::to_vec(&side).unwrap()).unwrap();
}

/// The entry of a nested array.
fn entry<'a>(side: &'a mut Value, name: &str) -> &'a mut Value {
    let arrays = side["arrays"].as_array_mut().unwrap();
    arrays.iter_mut().find(|e| e["name"] == name && e["form"] == "nested").unwrap()
}

type Change = fn(&mut Value);

/// What the side file says of other arrays than there are does not overrule them: they stay on
/// their own, with a note that says why.
#[test]
fn parts_that_are_not_there_leave_the_others_on_their_own() {
    let cases: &[(Change, &str)] = &[
        (|s| entry(s, "lists")["parts"]["offsets"] = json!("gone"), "not all of them are there"),
        (|s| entry(s, "lists")["parts"]["offsets"] = json!("id"), "id holds no offsets"),
        (|s| entry(s, "lists")["parts"]["offsets"] = Value::Null, "not all of them are there"),
        (
            |s| entry(s, "lists")["parts"]["valid"] = json!("lists.values.values"),
            "some of them are the same",
        ),
        (|s| entry(s, "lists")["parts"]["valid"] = json!("id"), "id is not a mask"),
        (|s| entry(s, "lists")["parts"]["parts"] = json!([]), "not all of them are there"),
        (
            |s| entry(s, "lists")["parts"]["parts"][0]["parts"][0]["name"] = json!("user.name"),
            "user.name",
        ),
        (
            |s| entry(s, "lists")["parts"]["parts"][0]["parts"][0]["name"] = json!("lists.offsets"),
            "some of them are the same",
        ),
        (
            |s| {
                // The parts of another type.
                let other = entry(s, "user")["arrow"].clone();
                entry(s, "lists")["arrow"] = other;
            },
            "not all of them are there",
        ),
    ];
    for (change, words) in cases {
        let scratch = store();
        with_side(&scratch, change);
        let listed = npk(&["list", &at(&scratch, "s.npk")]);
        assert!(listed.lines().any(|l| l == "lists.values.offsets"), "{words}: {listed}");
        let out = npk_any(&["convert", &at(&scratch, "s.npk"), &at(&scratch, "o.npz")]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(
            said.contains("the parts of lists stay on their own") && said.contains(words),
            "{words}: {said}"
        );
        assert_eq!(out.status.code(), Some(0), "{said}");
    }
}

/// A list of a fixed size has as many elements as its rows need.
#[test]
fn lists_of_another_size_are_no_lists() {
    let scratch = store();
    let typed = |size: i32| {
        let other = store_of(size);
        let side = std::fs::read(other.join("s.npk/npk.json")).unwrap();
        entry(&mut serde_json::from_slice(&side).unwrap(), "user")["arrow"].clone()
    };
    for size in [0, 1, 3, 4, 6, 7] {
        with_side(&scratch, |side| entry(side, "user")["arrow"] = typed(size));
        let out = npk_any(&["convert", "-f", &at(&scratch, "s.npk"), &at(&scratch, "o.npz")]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains("the parts of user stay on their own"), "{size}: {said}");
    }
    with_side(&scratch, |side| entry(side, "user")["arrow"] = typed(2));
    npk(&["convert", "-q", "-f", &at(&scratch, "s.npk"), &at(&scratch, "o.feather")]);
    npk(&["diff", &at(&scratch, "a.feather"), &at(&scratch, "o.feather")]);
}

/// Reads all arrays of a store, nested ones put together.
fn read_whole(path: &Path) -> npk::error::Result<()> {
    let options = ReadOptions { resources: Resources::new(2, 16 << 20), ..ReadOptions::default() };
    let source = by_name("npk").unwrap().open(&Location::local(path), &options)?;
    let flow = Flow::from(npk::pipe::nested::together(source, None));
    let arrays = flow.plan().arrays.clone();
    let good: Vec<usize> =
        (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
    pipe::drain(flow.choose(&good), Order::Any, &mut |_| Ok(()), &Settings::new(2, 16 << 20))?;
    Ok(())
}

/// Whatever is in the side file and the offsets: an answer, no panic.
#[test]
fn mutants_of_side_files_and_offsets_are_answered() {
    let scratch = store();
    for file in ["npk.json", "data_lists.offsets.npkd", "data_lists.values.offsets.npkd"] {
        let path = scratch.join(&format!("s.npk/{file}"));
        let whole = std::fs::read(&path).unwrap();
        mutants(&whole, 200, |bytes| {
            std::fs::write(&path, bytes).unwrap();
            let read = std::panic::catch_unwind(|| read_whole(&scratch.join("s.npk")));
            match read.map(Result::err) {
                Ok(None) => {}
                Ok(Some(e)) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Refused) => {}
                other => panic!("{file}: {other:?}: {}", String::from_utf8_lossy(bytes)),
            }
        });
        std::fs::write(&path, whole).unwrap();
    }
    // Deeper than any type.
    with_side(&scratch, |side| {
        let mut parts = json!({"name": "lists.values.values"});
        for _ in 0..100 {
            parts = json!({"name": "x", "offsets": "lists.offsets", "parts": [parts]});
        }
        entry(side, "lists")["parts"] = parts;
    });
    npk(&["list", &at(&scratch, "s.npk")]);
}
