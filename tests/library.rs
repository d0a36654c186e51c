//! The library's own calls, as a program uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array as _, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields, Schema};
use ndarray::{Array2, Array3, arr1, arr2, s};
use npk::{
    Cancel, Data, Dtype, ErrorKind, Layout, Level, OpenOptions, Options, Store, StoreOptions,
};

use crate::support::{Scratch, at, fixture, fixtures, npk as command};

fn new(s: &Scratch, name: &str) -> Store {
    Store::create(s.join(name), &StoreOptions::new()).unwrap()
}

/// Any order and strides: what is written is the view in C order.
#[test]
fn views_of_any_strides_are_written_in_c_order() {
    let s = Scratch::new();
    let cube = Array3::from_shape_fn((4, 5, 6), |(i, j, k)| (100 * i + 10 * j + k) as i32);
    let views = [
        cube.view().into_dyn(),
        cube.view().reversed_axes().into_dyn(),
        cube.slice(s![..;-1, 1..;2, ..]).into_dyn(),
        cube.slice(s![1, .., ..;-2]).into_dyn(),
        cube.slice(s![.., 2..2, ..]).into_dyn(),
        cube.slice(s![3, 4, 5]).into_dyn(),
        cube.broadcast((2, 4, 5, 6)).unwrap().into_dyn(),
    ];
    let mut store = new(&s, "v.npk");
    let (some, others) = views.split_at(3);
    for (i, view) in some.iter().enumerate() {
        store.write(&i.to_string(), view).unwrap();
    }
    let many = others.iter().enumerate();
    store.write_all(many.map(|(i, view)| ((i + 3).to_string(), Data::from(view)))).unwrap();
    assert!(store.array("0").is_err() && !s.join("v.npk").exists(), "nothing before the commit");
    store.commit().unwrap();
    for (i, view) in views.iter().enumerate() {
        let array = store.array(&i.to_string()).unwrap();
        assert_eq!(array.view::<i32>().unwrap(), view, "view {i}");
        assert!(!array.is_copy());
    }
    // Large enough to go by pieces, from several threads.
    let large = Array2::<f64>::from_shape_fn((3000, 1000), |(i, j)| (i * 1000 + j) as f64);
    let mut store = Store::open(s.join("v.npk")).unwrap();
    store.write("large", &large.t()).unwrap();
    store.write("flags", &arr1(&[true, false])).unwrap();
    store.commit().unwrap();
    assert_eq!(store.array("large").unwrap().view::<f64>().unwrap(), large.t().into_dyn());
    assert_eq!(store.array("flags").unwrap().try_bytes().unwrap(), [1, 0]);
    command(&["verify", &at(&s, "v.npk")]);
}

/// What is lent holds no memory: a single row may be longer than any limit.
#[test]
fn a_row_longer_than_the_memory_limit_is_written_from_memory() {
    let s = Scratch::new();
    let mut row = vec![0u8; 280 << 20];
    row[(280 << 20) - 3] = 7;
    let mut store = new(&s, "row.npk");
    let shape = [1, row.len()];
    store.write("row", Data::bytes(Dtype::U8, &shape, &row).unwrap()).unwrap();
    store.commit().unwrap();
    let back = store.array("row").unwrap();
    assert!(back.try_bytes().unwrap() == row);
}

/// What changes is seen at the commit, all of it; dropped before, nothing is.
#[test]
fn changes_appear_together_or_not_at_all() {
    let s = Scratch::new();
    let mut store = new(&s, "c.npk");
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("x")]));
    store.write("a", &arr1(&[1i64, 2, 3])).unwrap();
    store.write("b", &arr1(&[0.5f32])).unwrap();
    store.write("t", &names).unwrap();
    let clash = store.write("t", &arr1(&[1u8])).unwrap_err();
    assert_eq!((clash.kind(), clash.array_name()), (ErrorKind::Exists, Some("t")));
    store.commit().unwrap();

    let before = store.array("a").unwrap();
    let mut change = Store::open(s.join("c.npk")).unwrap();
    change.replace("a", &arr2(&[[9u16, 8]])).unwrap();
    change.remove("b").unwrap();
    change.rename("t", "texts").unwrap();
    assert_eq!(change.rename("a", "texts").unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(change.remove("zzz").unwrap_err().kind(), ErrorKind::Missing);
    drop(change);
    assert_eq!(Store::open(s.join("c.npk")).unwrap().names().collect::<Vec<_>>(), ["a", "b", "t"]);

    let mut change = Store::open(s.join("c.npk")).unwrap();
    change.replace("a", &arr2(&[[9u16, 8]])).unwrap();
    change.remove("b").unwrap();
    change.rename("t", "texts").unwrap();
    change.commit().unwrap();
    assert_eq!(change.names().collect::<Vec<_>>(), ["texts", "a"]);
    assert_eq!(&change.array("texts").unwrap().to_arrow().unwrap(), &names);
    assert_eq!(change.array("a").unwrap().view::<u16>().unwrap(), arr2(&[[9, 8]]).into_dyn());
    assert_eq!(before.view::<i64>().unwrap(), arr1(&[1, 2, 3]).into_dyn(), "maps stay");
    command(&["verify", &at(&s, "c.npk")]);
    assert_eq!(s.names(), ["c.npk"]);

    let exists = Store::create(s.join("c.npk"), &StoreOptions::new()).err().unwrap();
    assert_eq!((exists.kind(), exists.hint_text().is_some()), (ErrorKind::Exists, true));
}

#[test]
fn rows_are_appended_to_all_arrays_or_to_none() {
    let s = Scratch::new();
    let mut store = new(&s, "g.npk");
    store.write("x", &arr2(&[[1f32, 2.]])).unwrap();
    store.write("y", &arr1(&[true])).unwrap();
    store.commit().unwrap();
    let (x, y) = (arr2(&[[3f32, 4.], [5., 6.]]), arr1(&[false, true]));
    store.append([("x", Data::from(&x)), ("y", Data::from(&y))]).unwrap();
    assert_eq!(store.array("x").unwrap().shape(), [3, 2]);
    assert_eq!(store.array("y").unwrap().try_bytes().unwrap(), [1, 0, 1]);
    let wrong = store.append([("x", Data::from(&arr2(&[[1f32, 2., 3.]])))]).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Exists, "{wrong}");
    assert_eq!(store.array("x").unwrap().shape(), [3, 2]);
    store.remove("y").unwrap();
    assert_eq!(store.append([("x", Data::from(&x))]).unwrap_err().kind(), ErrorKind::Usage);
}

fn batch() -> RecordBatch {
    let when: ArrayRef = Arc::new(
        TimestampMicrosecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("UTC"),
    );
    let city: DictionaryArray<Int8Type> =
        vec![Some("Oslo"), Some("Bern"), None].into_iter().collect();
    let lists = vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3)])];
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let fields = Fields::from(vec![Field::new("p", inner.data_type().clone(), true)]);
    let nulls = arrow_buffer::NullBuffer::from(vec![true, false, true]);
    let place: ArrayRef = Arc::new(StructArray::new(fields, vec![inner], Some(nulls)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int32Array::from(vec![Some(7), None, Some(9)]))),
        ("when", when),
        ("city", Arc::new(city)),
        ("text", Arc::new(StringArray::from(vec!["a", "", "c"]))),
        ("list", list),
        ("place", place),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, c)| c).collect()).unwrap()
}

/// Columns, nulls, texts, times, lists and structs come back as they were.
#[test]
fn record_batches_come_back() {
    let s = Scratch::new();
    let batch = batch();
    let mut store = new(&s, "t.npk");
    // In two batches, of which the second has an offset.
    let halves = [batch.slice(0, 1), batch.slice(1, 2)];
    store.write_table("people", &halves, Layout::Auto).unwrap();
    store.commit().unwrap();
    assert_eq!(store.names().next(), Some("people/n"));
    let back = store.dataset().unwrap().table(&[]).unwrap();
    assert_eq!(back.schema().fields(), batch.schema().fields());
    for (a, b) in back.columns().iter().zip(batch.columns()) {
        match (a.as_any().downcast_ref::<DictionaryArray<Int8Type>>(), a) {
            (Some(a), _) => {
                let values = |d: &DictionaryArray<Int8Type>| {
                    arrow_cast::cast(d, &arrow_schema::DataType::Utf8).unwrap()
                };
                let b = b.as_any().downcast_ref::<DictionaryArray<Int8Type>>().unwrap();
                assert_eq!(&values(a), &values(b));
            }
            (None, a) => assert_eq!(a, b),
        }
    }
    // Of one type: a matrix.
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let of = |n: &str| Field::new(n, numbers.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![of("a"), of("b")]));
    let two = RecordBatch::try_new(schema, vec![numbers.clone(), numbers.clone()]).unwrap();
    store.write_table("m", std::slice::from_ref(&two), Layout::Auto).unwrap();
    store.commit().unwrap();
    let m = store.array("m").unwrap();
    assert_eq!(m.view::<i64>().unwrap(), arr2(&[[1, 1], [2, 2]]).into_dyn());
    assert_eq!(store.dataset().unwrap().table(&["m"]).unwrap().columns(), two.columns());
}

/// Every format that is shipped: what the library gives is what the command says, mapped where the
/// file holds it so.
#[test]
fn every_format_is_opened_array_by_array() {
    let mut formats = std::collections::HashSet::new();
    let endings = ["npy", "npz", "safetensors", "pt", "parquet", "feather", "h5", "csv", "nc"];
    for path in fixtures("good", &endings) {
        let Ok(file) = npk::open(&path, &OpenOptions::new()) else { continue };
        for array in file.iter() {
            let Ok(array) = array else { continue };
            let info = file.info(array.name()).unwrap();
            let shape: Vec<u64> = array.shape().iter().map(|&d| d as u64).collect();
            assert_eq!(shape, info.shape(), "{} {}", path.display(), array.name());
            if let Ok(bytes) = array.try_bytes() {
                let elements: usize = array.shape().iter().product();
                if info.is_plain() {
                    assert_eq!(bytes.len(), elements * array.dtype().item_bytes() as usize);
                }
                let rows = info.rows();
                if rows > 1 && !array.shape().is_empty() {
                    let half = file.rows(array.name(), rows / 2..rows).unwrap();
                    let row = bytes.len() / rows as usize;
                    assert_eq!(half.try_bytes().unwrap(), &bytes[(rows / 2) as usize * row..]);
                }
            }
            formats.insert(file.format());
        }
    }
    let all: Vec<&str> =
        ["npy", "npz", "safetensors", "pt", "parquet", "feather", "csv"].into_iter().collect();
    assert!(all.iter().all(|f| formats.contains(f)), "{formats:?}");
}

#[test]
fn what_lies_in_a_file_as_in_memory_is_mapped() {
    let s = Scratch::new();
    let mut store = new(&s, "w.npk");
    let w = Array2::<f32>::from_shape_fn((100, 30), |(i, j)| (i * 30 + j) as f32);
    store.write("w", &w).unwrap();
    store.commit().unwrap();
    for (name, mapped) in [
        ("w.safetensors", true),
        ("w.npy", true),
        ("w.pt", true),
        ("w.npz", false),
        ("w.csv", false),
    ] {
        npk::convert(&[s.join("w.npk")], s.join(name), &Options::new()).unwrap();
        let file = npk::open(s.join(name), &OpenOptions::new()).unwrap();
        if name != "w.csv" {
            let array = file.array("w").unwrap();
            assert_eq!(array.view::<f32>().unwrap(), w.view().into_dyn(), "{name}");
            assert_eq!(array.is_copy(), !mapped, "{name}");
            let copies = npk::open(s.join(name), &OpenOptions::new().copies()).unwrap();
            assert!(copies.array("w").unwrap().is_copy());
        } else {
            assert_eq!(file.len(), 30);
            assert_eq!(file.array("col3").unwrap().view::<f64>().unwrap()[[2]], 63.0);
        }
    }
    let missing = npk::open(s.join("w.npk"), &OpenOptions::new()).unwrap().array("x").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Missing);
    assert!(missing.file_name().unwrap().ends_with("w.npk") && missing.array_name() == Some("x"));
    assert!(missing.hint_text().unwrap().contains('w'));
    let wrong =
        npk::open(s.join("w.npk"), &OpenOptions::new().option("no-such", "1")).err().unwrap();
    assert_eq!(wrong.kind(), ErrorKind::Usage);
}

#[test]
fn conversions_tell_and_can_be_ended() {
    let s = Scratch::new();
    let mut store = new(&s, "b.npk");
    let rows = Array2::<f64>::zeros((20_000, 16));
    for i in 0..8 {
        store.write(&format!("a{i}"), &rows).unwrap();
    }
    let table = batch();
    store.write_table("t", std::slice::from_ref(&table), Layout::Columns).unwrap();
    store.commit().unwrap();

    let moved = Arc::new(AtomicU64::new(0));
    let counted = moved.clone();
    let options = Options::new().arrays(["a*"]).on_progress(move |bytes, _| {
        counted.fetch_add(bytes, Ordering::Relaxed);
    });
    let report = npk::convert(&[s.join("b.npk")], s.join("b.safetensors"), &options).unwrap();
    assert_eq!((report.outputs[0].arrays, report.outputs[0].format), (8, "safetensors"));
    assert_eq!(moved.load(Ordering::Relaxed), 8 * 20_000 * 16 * 8);

    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = heard.clone();
    let options = Options::new().on_message(move |level, text| {
        hears.lock().unwrap().push((level, text.to_string()));
    });
    let parquet = s.join("t.parquet");
    let columns = Options::new().arrays(["t/text", "t/n"]);
    npk::convert(&[s.join("b.npk")], &parquet, &columns).unwrap();
    npk::convert(&[&parquet], s.join("t.npk"), &options.option("name", "x")).unwrap();
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert!(heard.iter().any(|(l, t)| *l == Level::Note && t.contains("x/text")), "{heard:?}");

    // Ended from the outside: nothing is left.
    let cancel = Cancel::new();
    let ends = cancel.clone();
    let options = Options::new().cancel(&cancel).on_progress(move |_, _| ends.cancel());
    let options = options.compression("zstd").arrays(["a*"]);
    let ended = npk::convert(&[s.join("b.npk")], s.join("b.zarr"), &options).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Cancelled, "{ended}");
    let mut left = s.names();
    left.retain(|name| !["b.npk", "b.safetensors", "t.parquet", "t.npk"].contains(&name.as_str()));
    assert_eq!(left, [""; 0]);

    // A batch: one fails, the others go on.
    std::fs::write(s.join("no.npy"), b"no").unwrap();
    std::fs::create_dir(s.join("out")).unwrap();
    let sources = [fixture("good/safetensors/mixed.safetensors"), s.join("no.npy")];
    let options = Options::new().to("npk");
    let report = npk::convert(&sources, s.join("out"), &options).unwrap();
    assert_eq!(report.outputs.len(), 2);
    assert_eq!(report.errors().count(), 1);
    let e = npk::convert(&["-"], s.join("x.npk"), &Options::new().from("npy")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Usage);
}

#[test]
fn bytes_and_other_files_arrays_are_written() {
    let s = Scratch::new();
    let mut store = new(&s, "r.npk");
    let bits = [0u8, 0x3f, 0x80, 0x3f];
    store.write("half", Data::bytes(Dtype::Bf16, &[2, 1], &bits).unwrap()).unwrap();
    assert_eq!(Data::bytes(Dtype::F32, &[2], &bits).err().unwrap().kind(), ErrorKind::Usage);
    let file =
        npk::open(fixture("good/safetensors/mixed.safetensors"), &OpenOptions::new()).unwrap();
    for array in file.iter() {
        let array = array.unwrap();
        store.write(&format!("of.{}", array.name()), &array).unwrap();
    }
    store.commit().unwrap();
    let half = store.array("half").unwrap();
    assert_eq!(half.view::<f32>().unwrap(), arr2(&[[0.5], [1.0]]).into_dyn());
    for array in file.iter().map(Result::unwrap) {
        let back = store.array(&format!("of.{}", array.name())).unwrap();
        assert_eq!(back.shape(), array.shape(), "{}", array.name());
    }
    // The types come back where the output has them.
    npk::convert(&[s.join("r.npk")], s.join("r.safetensors"), &Options::new()).unwrap();
    let back = npk::open(s.join("r.safetensors"), &OpenOptions::new()).unwrap();
    assert_eq!(back.array("half").unwrap().try_bytes().unwrap(), bits);
}

/// The page's example is the first of the crate's documentation, which is run.
#[test]
fn the_page_has_the_example_that_is_run() {
    let crate_page = include_str!("../src/lib.rs");
    let (_, after) = crate_page.split_once("//! ```\n").unwrap();
    let (example, _) = after.split_once("//! ```\n").unwrap();
    let lines = example.lines().map(|line| line.strip_prefix("//!").unwrap());
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let seen: Vec<&str> = lines.filter(|line| !line.starts_with("# ")).collect();
    let page = include_str!("../docs/library.md");
    assert!(page.contains(&format!("```rust\n{}\n```\n", seen.join("\n"))));
}

/// Many arrays at once are those that are given one by one; small ones are copied.
#[test]
fn many_arrays_are_read_together() {
    let s = Scratch::new();
    let mut store = new(&s, "m.npk");
    let names: Vec<String> = (0..150).map(|i| format!("t{i}")).collect();
    let small: Vec<_> = (0..150).map(|i| arr1(&[i as f32, 0.5])).collect();
    store.write_all(names.iter().zip(small.iter().map(Data::from))).unwrap();
    let large = Array2::<f64>::ones((100, 50));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    store.write("large", &large).unwrap();
    store.write("texts", &texts).unwrap();
    store.write("scalar", &ndarray::arr0(7i16)).unwrap();
    store.write("empty", &Array2::<u8>::zeros((0, 3))).unwrap();
    store.commit().unwrap();
    let file = store.dataset().unwrap();
    let all = file.arrays(&[]).unwrap();
    assert_eq!(all.len(), 154);
    for (array, name) in all.iter().zip(file.names()) {
        let one = file.array(name).unwrap();
        assert_eq!((array.name(), array.shape()), (name, one.shape()));
        assert_eq!(array.to_arrow().unwrap().as_ref(), one.to_arrow().unwrap().as_ref());
    }
    let some = file.arrays(&["large", "t3", "t3"]).unwrap();
    assert_eq!(some.iter().map(|a| a.is_copy()).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(some[2].view::<f32>().unwrap(), small[3].view().into_dyn());
    assert_eq!(file.arrays(&["t1", "no"]).unwrap_err().array_name(), Some("no"));
    // What is read in order only.
    npk::convert(&[s.join("m.npk")], s.join("m.csv"), &Options::new().arrays(["t1", "t2"]))
        .unwrap();
    let text = npk::open(s.join("m.csv"), &OpenOptions::new()).unwrap();
    assert_eq!(text.arrays(&["t2"]).unwrap()[0].view::<f64>().unwrap()[[0]], 2.0);
}
